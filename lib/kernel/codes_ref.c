/* The plain twins of products and values of codes (codes.h). */
#include "kernel/codes.h"

#include "kernel/codes_decode.h"
#include "kernel/codes_split.h"
#include "kernel/small_float.h"

static float scale_of(const struct qrb__code_grid *grid, size_t at)
{
    return grid->scales != NULL
               ? grid->scales[at]
               : (float)qrb__small_float_decode(&qrb__float16,
                                                grid->half_scales[at]);
}

static float zero_of(const struct qrb__code_grid *grid, size_t at)
{
    if (grid->zeros != NULL)
        return grid->zeros[at];
    return grid->byte_zeros != NULL ? (float)grid->byte_zeros[at] : grid->zero;
}

/* Sum over columns [first, end) of codes of a row times one plane. */
static int32_t sum_plane(const struct qrb__code_product *shape, size_t row,
                         size_t token, size_t plane, size_t first, size_t end)
{
    const uint8_t *codes = shape->codes + row * shape->row_bytes;
    const size_t apart = shape->tokens * shape->planes * QRB__CODE_BLOCK;
    int32_t sum = 0;

    for (size_t block = first; block < end; block += QRB__CODE_BLOCK) {
        const int8_t *x = shape->x + block / QRB__CODE_BLOCK * apart +
                          (token * shape->planes + plane) * QRB__CODE_BLOCK;

        for (size_t i = 0; i < QRB__CODE_BLOCK; i++) {
            const size_t at =
                block + qrb__code_column(shape->bits, i / 4, i % 4);

            if (at < end)
                sum += (int32_t)qrb__code_at(codes, shape->bits, at) * x[i];
        }
    }
    return sum;
}

static void product(const struct qrb__code_product *shape, float *y)
{
    for (size_t row = 0; row < shape->rows; row++)
        for (size_t token = 0; token < shape->tokens; token++)
            for (size_t first = 0, s = 0; first < shape->cols;
                 first += shape->segment, s++) {
                const size_t left = shape->cols - first;
                const size_t end =
                    first + (left < shape->segment ? left : shape->segment);
                const size_t unit =
                    s / shape->segments_per_group * QRB__CODE_ROWS + row;
                float sum = 0;

                for (size_t p = shape->planes; p-- > 0;)
                    sum = sum * 256 +
                          (float)sum_plane(shape, row, token, p, first, end);
                sum -= zero_of(&shape->grid, unit) *
                       shape->sums[s * shape->tokens + token];
                y[token * QRB__CODE_ROWS + row] +=
                    sum * shape->steps[s * shape->tokens + token] *
                    scale_of(&shape->grid, unit);
            }
}

static void lookup(const struct qrb__code_lookup *shape, float *y)
{
    for (size_t row = 0; row < shape->rows; row++) {
        const uint8_t *codes = shape->codes + row * shape->row_bytes;
        const float *table = shape->tables + row * shape->tables_apart;
        double sum = 0;

        for (size_t c = 0; c < shape->cols; c++) {
            const double product =
                (double)table[qrb__code_at(codes, shape->bits, c)] *
                (double)shape->x[qrb__lookup_at(c)];

            sum += shape->scales == NULL
                       ? product
                       : product * shape->scales[(row * shape->cols + c) /
                                                 shape->unit];
        }
        y[row] = (float)sum;
    }
}

void qrb__codes_ref(struct qrb__code_kernels *kernels)
{
    kernels->name = "ref";
    kernels->product = product;
    kernels->split = split;
    kernels->round = round_to_bytes;
    kernels->decode_grid = decode_grid_plainly;
    kernels->decode_table = decode_table_plainly;
    kernels->lookup = lookup;
}
