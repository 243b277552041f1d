/* For oracle_quant.py: quantize a matrix by name and write what came out.
 *
 * usage: oracle_quant NAME ROWS COLS <float32 matrix >codes, scales, values
 *
 * Codes are int32 [rows, cols], scales double [count], values float32
 * [rows, cols], native byte order; then zero points as scales, of uniform
 * grids. */
#include <stdio.h>
#include <stdlib.h>

#include <qrobust/quantizer.h>

static int fail(qrb_context *ctx)
{
    fprintf(stderr, "oracle_quant: %s\n", qrb_context_message(ctx));
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx = NULL;
    qrb_quantizer *quantizer = NULL;
    qrb_tensor *w = NULL;
    qrb_packed *packed = NULL;
    int32_t *codes;
    size_t elements;
    size_t scales;

    if (argc != 4 || qrb_context_create(NULL, &ctx) != QRB_OK) {
        fprintf(stderr, "usage: oracle_quant NAME ROWS COLS\n");
        return EXIT_FAILURE;
    }
    options.rank = 2;
    options.shape[0] = (size_t)atol(argv[2]);
    options.shape[1] = (size_t)atol(argv[3]);
    elements = options.shape[0] * options.shape[1];
    if (qrb_tensor_create(ctx, &options, &w) != QRB_OK ||
        qrb_quantizer_create_named(ctx, argv[1], &quantizer) != QRB_OK)
        return fail(ctx);
    if (fread(qrb_tensor_memory(w), sizeof(float), elements, stdin) !=
        elements) {
        fprintf(stderr, "oracle_quant: %zu floats are expected\n", elements);
        return EXIT_FAILURE;
    }
    if (qrb_quantizer_quantize(quantizer, w, &packed) != QRB_OK ||
        qrb_quantizer_fake(quantizer, w) != QRB_OK)
        return fail(ctx);
    /* Groups of rows, or all scales of NF4. */
    scales = qrb_packed_groups(packed);
    if (qrb_packed_zero_points(packed) != NULL || argv[1][0] == 'i')
        scales *= options.shape[0];
    codes = malloc(elements * sizeof *codes);
    if (codes == NULL || qrb_packed_read_codes(packed, codes) != QRB_OK)
        return fail(ctx);
    fwrite(codes, sizeof *codes, elements, stdout);
    free(codes);
    fwrite(qrb_packed_scales(packed), sizeof(double), scales, stdout);
    fwrite(qrb_tensor_memory(w), sizeof(float), elements, stdout);
    if (qrb_packed_zero_points(packed) != NULL)
        fwrite(qrb_packed_zero_points(packed), sizeof(double), scales,
               stdout);
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(w);
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
