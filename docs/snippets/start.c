#include <qrobust/qrobust.h>
#include <stdio.h>

int main(void)
{
    float w[512]; /* a matrix [8, 64], rounded in place to four bits */
    qrb_tensor_options shape = { sizeof shape, w, { 8, 64 }, { 0 }, QRB_F32, 2 };
    qrb_context *ctx = NULL;
    qrb_tensor *matrix = NULL;
    qrb_quantizer *nf4 = NULL;

    for (int i = 0; i < 512; i++)
        w[i] = (float)(i * 37 % 101 - 50) / 50;
    int failed = qrb_context_create(NULL, &ctx) ||
                 qrb_tensor_create(ctx, &shape, &matrix) ||
                 qrb_quantizer_create_named(ctx, "nf4", &nf4) ||
                 qrb_quantizer_fake(nf4, matrix);
    printf("-0.26 as nf4: %.4f %s\n", w[1], qrb_context_message(ctx));
    qrb_quantizer_destroy(nf4);
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return failed;
}
