/* LLM.int8(): weights as rows of bytes, and a product with an outlier. */
#include "snippet.h"

static qrb_tensor *view(qrb_context *ctx, float *memory, size_t rows,
                        size_t cols)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    shape.memory = memory;
    shape.rank = 2;
    shape.shape[0] = rows;
    shape.shape[1] = cols;
    must(ctx, qrb_tensor_create(ctx, &shape, &tensor));
    return tensor;
}

int main(void)
{
    qrb_context *ctx;
    qrb_quantizer *int8;
    qrb_packed *packed;

    must(NULL, qrb_context_create(NULL, &ctx));
    /* [begin multiply] */
    float w[3][4] = { { 0.5f, -1, 0.25f, 2 },
                      { 1, 0.1f, -0.3f, 0 },
                      { -0.2f, 0.4f, 0.8f, -0.6f } };
    float x[2][4] = { { 1, -2, 7, 0.5f }, { 0.25f, 3, -1, -4 } };
    float y[2][3];
    qrb_tensor *weights = view(ctx, w[0], 3, 4); /* [out, in] */
    qrb_tensor *input = view(ctx, x[0], 2, 4);   /* [tokens, in] */
    qrb_tensor *output = view(ctx, y[0], 2, 3);  /* [tokens, out] */

    must(ctx, qrb_quantizer_create_named(ctx, "int8", &int8));
    must(ctx, qrb_quantizer_quantize(int8, weights, &packed));
    must(ctx, qrb_packed_int8_multiply(packed, input, 6.0, NULL, output));
    for (int t = 0; t < 2; t++)
        printf("%8.4f %8.4f %8.4f\n", (double)y[t][0], (double)y[t][1],
               (double)y[t][2]);
    /* [end multiply] */
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(int8);
    qrb_tensor_destroy(output);
    qrb_tensor_destroy(input);
    qrb_tensor_destroy(weights);
    qrb_context_destroy(ctx);
    return 0;
}
