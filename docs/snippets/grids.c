/* One row on every uniform grid, three bits. */
#include "snippet.h"

int main(void)
{
    static const char *const names[] = { "",       "A_PAPER", "A_GPTQ",
                                         "A_AWQ",  "A_OMNI",  "A_MAX",
                                         "A_SPQR", "A_GRP",   "S_ABS",
                                         "S_GPTQ", "S_OMNI",  "S_SMOOTH" };
    float w[6] = { -1.0f, -0.35f, 0.0f, 0.2f, 0.55f, 1.4f };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_tensor *matrix;

    must(NULL, qrb_context_create(NULL, &ctx));
    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = 1;
    shape.shape[1] = 6;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    /* [begin grids] */
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;

    options.bits = 3;
    for (uint32_t grid = QRB_GRID_A_PAPER; grid <= QRB_GRID_S_SMOOTH; grid++) {
        qrb_quantizer *quantizer;
        qrb_packed *packed;
        int32_t codes[6];
        const double *z;

        options.grid = grid;
        must(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
        must(ctx, qrb_quantizer_quantize(quantizer, matrix, &packed));
        must(ctx, qrb_packed_read_codes(packed, codes));
        z = qrb_packed_zero_points(packed);
        printf("%-8s scale %.4f, zero point %4.2f, codes", names[grid],
               qrb_packed_scales(packed)[0], z == NULL ? 0.0 : z[0]);
        for (int i = 0; i < 6; i++)
            printf(" %2d", (int)codes[i]);
        printf("\n");
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
    }
    /* [end grids] */
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return 0;
}
