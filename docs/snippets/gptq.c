/* GPTQ: four tokens tell which errors of two rows can make up for each other. */
#include "snippet.h"

static qrb_tensor *matrix(qrb_context *ctx, float *memory, size_t rows)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    shape.memory = memory;
    shape.rank = 2;
    shape.shape[0] = rows;
    shape.shape[1] = 4;
    must(ctx, qrb_tensor_create(ctx, &shape, &tensor));
    return tensor;
}

int main(void)
{
    float weights[8] = { 0.9f, -0.4f, 0.3f, 0.1f, -0.7f, 0.2f, 0.65f, -0.25f };
    float tokens[16] = { 1,  .5f, -.5f, .25f, .5f,  1,    .25f, 0,
                         -1, .5f, 1,    .5f,  .25f, -.5f, .75f, 1 };
    qrb_context *ctx;
    qrb_tensor *w;
    qrb_tensor *x;

    must(NULL, qrb_context_create(NULL, &ctx));
    w = matrix(ctx, weights, 2);
    x = matrix(ctx, tokens, 4);
    /* [begin gptq] */
    qrb_observer_options inputs = QRB_OBSERVER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *observer;
    const char *const names[] = { "rtn2", "gptq2" };

    inputs.columns = 4;
    must(ctx, qrb_observer_create(ctx, &inputs, &observer));
    must(ctx, qrb_observer_add(observer, x)); /* one call a sequence */
    calibration.inputs = observer;
    for (int i = 0; i < 2; i++) {
        qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
        qrb_quantizer *quantizer;
        qrb_packed *packed;
        int32_t codes[8];

        must(ctx, qrb_quantizer_create_named(ctx, names[i], &quantizer));
        must(ctx, qrb_quantizer_quantize_with(quantizer, w, &calibration,
                                              &report, &packed));
        must(ctx, qrb_packed_read_codes(packed, codes));
        printf("%s:", names[i]);
        for (int j = 0; j < 8; j++)
            printf(" %d", (int)codes[j]);
        printf("; outputs off by %.4f\n", report.relative_output_error);
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
    }
    /* [end gptq] */
    qrb_observer_destroy(observer);
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(w);
    qrb_context_destroy(ctx);
    return 0;
}
