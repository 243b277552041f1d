/* NF4: codes, absmax, values, and the bytes in which they are stored. */
#include "snippet.h"

int main(void)
{
    float w[8] = { 0.02f, -0.5f, 0.31f, -0.07f, 0.25f, 0.8f, -0.8f, 0.1f };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_tensor *matrix;

    must(NULL, qrb_context_create(NULL, &ctx));
    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = 1;
    shape.shape[1] = 8;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    /* [begin nf4] */
    qrb_quantizer *nf4;
    qrb_packed *packed;
    int32_t codes[8];
    uint8_t bytes[4];

    must(ctx, qrb_quantizer_create_named(ctx, "nf4", &nf4));
    must(ctx, qrb_quantizer_quantize(nf4, matrix, &packed));
    must(ctx, qrb_packed_read_codes(packed, codes));
    must(ctx, qrb_nf4_pack(codes, 8, bytes));
    must(ctx, qrb_packed_dequantize(packed, matrix));
    printf("absmax %.2f, %.2f bits a weight with its block\n",
           qrb_packed_scales(packed)[0], qrb_packed_bits_per_weight(packed));
    for (int i = 0; i < 8; i++)
        printf("%d as %.4f\n", (int)codes[i], (double)w[i]);
    printf("bytes %02x %02x %02x %02x\n", (unsigned)bytes[0],
           (unsigned)bytes[1], (unsigned)bytes[2], (unsigned)bytes[3]);
    /* [end nf4] */
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(nf4);
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return 0;
}
