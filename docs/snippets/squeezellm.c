/* SqueezeLLM: a row's table, its codes, and what is kept beside them. */
#include "snippet.h"

int main(void)
{
    float w[10] = { -0.9f, -0.85f, -0.3f, -0.1f, 0.0f,
                    0.05f, 0.4f,   0.45f, 0.5f,  1.2f };
    float squares[10] = { 1, 4, 2, 1, 10, 1, 1, 8, 1, 0.5f };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_tensor *matrix;
    qrb_tensor *fisher;

    must(NULL, qrb_context_create(NULL, &ctx));
    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = 1;
    shape.shape[1] = 10;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    shape.memory = squares;
    must(ctx, qrb_tensor_create(ctx, &shape, &fisher));
    /* [begin squeezellm] */
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_quantizer *squeezellm;
    qrb_packed *packed;
    const size_t *row_start;
    const uint32_t *columns;
    const float *values;

    own.outliers = 10; /* percent: one weight of these ten */
    options.kind = QRB_QUANTIZER_SQUEEZELLM;
    options.bits = 2;
    options.squeezellm = &own;
    calibration.fisher = fisher;
    must(ctx, qrb_quantizer_create(ctx, &options, &squeezellm));
    must(ctx, qrb_quantizer_quantize_with(squeezellm, matrix, &calibration,
                                          &report, &packed));
    must(ctx, qrb_packed_dequantize(packed, matrix));
    printf("loss %.4f, table", report.loss);
    for (int k = 0; k < 4; k++)
        printf(" %.4f", (double)qrb_packed_table(packed)[k]);
    printf("\nvalues");
    for (int j = 0; j < 10; j++)
        printf(" %.2f", (double)w[j]);
    must(ctx, qrb_packed_outliers(packed, &row_start, &columns, &values));
    printf("\nbeside column %u: %.4f\n", (unsigned)columns[row_start[0]],
           (double)values[row_start[0]]);
    /* [end squeezellm] */
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(squeezellm);
    qrb_tensor_destroy(fisher);
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return 0;
}
