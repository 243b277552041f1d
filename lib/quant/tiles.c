/* The run-time form of packed matrices (tiles.h): O(elements) once. */
#include "quant/tiles.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/quantizer.h"

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static bool is_table(const qrb_packed *packed)
{
    return packed->kind->kind == QRB_QUANTIZER_NF4 || packed->table != NULL;
}

/* Sixteen values: what the codes stand for at a scale of 1. */
static void read_table(const qrb_packed *packed, struct qrb__tiles *tiles)
{
    double one = 1;
    qrb_packed unit = *packed;
    int32_t codes[16];

    unit.scales = &one;
    for (int32_t i = 0; i < 16; i++)
        codes[i] = i;
    packed->kind->decode(&unit, 0, codes, 16, tiles->table_values);
    tiles->table = tiles->table_values;
}

/* Groups end with blocks, or with the row. */
static bool groups_fit(const qrb_packed *packed)
{
    return packed->cut ||
           (packed->groups != 0 && (packed->unit >= packed->cols ||
                                    packed->unit % QRB__CODE_BLOCK == 0));
}

/* Tables of three or four bits, alone or with scales whose units are runs of
 * whole vectors of a row. */
static bool rows_look_up(const qrb_packed *packed)
{
    if (packed->table != NULL)
        return packed->bits == 3 || packed->bits == 4;
    return is_table(packed) && packed->unit % QRB__LOOKUP_UNIT == 0 &&
           packed->cols % packed->unit == 0;
}

static bool scales_fit(const qrb_packed *packed)
{
    for (size_t i = 0; i < packed->units; i++) {
        const double scale = fabs(packed->scales[i]);
        const double zero = packed->zeros ? fabs(packed->zero_points[i]) : 0;

        if ((scale != 0 && scale < (double)FLT_MIN) ||
            !(scale * (zero + 256) <= (double)FLT_MAX))
            return false;
    }
    return true;
}

/* The longest segment that divides a group; of groups that 256 columns do not
 * divide, at least a block. */
static void cut_segments(const qrb_packed *packed, struct qrb__tiles *tiles)
{
    const bool rows = packed->cut || packed->unit >= packed->cols;
    const size_t unit = rows ? packed->cols : packed->unit;

    tiles->segment = QRB__CODE_BLOCK;
    for (size_t n = 2 * QRB__CODE_BLOCK; n <= 128; n *= 2)
        if (rows || unit % n == 0)
            tiles->segment = n;
    if (!rows && unit < QRB__CODE_SEGMENT)
        tiles->segment = unit;
    tiles->segments = divide_up(packed->cols, tiles->segment);
    tiles->group_segments = rows ? tiles->segments : unit / tiles->segment;
    tiles->groups = rows ? 1 : packed->groups;
}

static size_t unit_of(const qrb_packed *packed, size_t row, size_t group)
{
    return packed->cut ? 0 : row * packed->groups + group;
}

/* Scales or zero points by tiles; behind the last row they are 0. */
static void lay_out(const qrb_packed *packed, size_t groups,
                    const double *units, float *out)
{
    for (size_t row = 0; row < packed->rows; row++)
        for (size_t g = 0; g < groups; g++)
            out[(row / QRB__CODE_ROWS * groups + g) * QRB__CODE_ROWS +
                row % QRB__CODE_ROWS] = (float)units[unit_of(packed, row, g)];
}

/* Replace floats by halves where each of them is one. */
static qrb_status halve_scales(qrb_context *ctx, struct qrb__tiles *tiles,
                               size_t count)
{
    uint16_t *halves = qrb__alloc_array(ctx, count, sizeof *halves);
    bool exact = true;

    if (halves == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu scales", count);
    ctx->kernels.f32_to_f16(tiles->scales, count, halves);
    for (size_t i = 0; i < count && exact; i++) {
        float back;

        ctx->kernels.f16_to_f32(&halves[i], 1, &back);
        exact = memcmp(&back, &tiles->scales[i], sizeof back) == 0;
    }
    if (exact) {
        qrb__free(ctx, tiles->scales);
        tiles->scales = NULL;
        tiles->half_scales = halves;
    } else {
        qrb__free(ctx, halves);
    }
    return QRB_OK;
}

static qrb_status narrow_zeros(qrb_context *ctx, struct qrb__tiles *tiles,
                               size_t count)
{
    bool exact = true;

    for (size_t i = 0; i < count && exact; i++)
        exact = tiles->zeros[i] >= 0 && tiles->zeros[i] <= 255 &&
                tiles->zeros[i] == floorf(tiles->zeros[i]);
    if (!exact)
        return QRB_OK;
    tiles->byte_zeros = qrb__alloc_array(ctx, count, 1);
    if (tiles->byte_zeros == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu zero points", count);
    for (size_t i = 0; i < count; i++)
        tiles->byte_zeros[i] = (uint8_t)tiles->zeros[i];
    qrb__free(ctx, tiles->zeros);
    tiles->zeros = NULL;
    return QRB_OK;
}

static qrb_status make_grid(const qrb_packed *packed, struct qrb__tiles *tiles)
{
    const size_t tile_count = divide_up(packed->rows, QRB__CODE_ROWS);
    size_t count;
    qrb_status status;

    cut_segments(packed, tiles);
    if (!qrb__mul_size(tile_count * QRB__CODE_ROWS, tiles->groups, &count))
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY, "scales of %zu rows",
                         packed->rows);
    tiles->scales = qrb__alloc_array(packed->ctx, count, sizeof(float));
    if (packed->zeros)
        tiles->zeros = qrb__alloc_array(packed->ctx, count, sizeof(float));
    if (tiles->scales == NULL || (packed->zeros && tiles->zeros == NULL))
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY, "%zu scales", count);
    lay_out(packed, tiles->groups, packed->scales, tiles->scales);
    status = halve_scales(packed->ctx, tiles, count);
    if (status == QRB_OK && packed->zeros) {
        lay_out(packed, tiles->groups, packed->zero_points, tiles->zeros);
        status = narrow_zeros(packed->ctx, tiles, count);
    }
    return status;
}

qrb_status qrb__tiles_make(const qrb_packed *packed, struct qrb__tiles **out)
{
    qrb_context *ctx = packed->ctx;
    struct qrb__tiles *tiles = qrb__alloc_array(ctx, 1, sizeof *tiles);
    qrb_status status = QRB_OK;

    *out = NULL;
    if (tiles == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "packed matrix");
    tiles->code_zero = packed->code_zero;
    tiles->zero = (float)tiles->code_zero;
    if (is_table(packed) && packed->table == NULL)
        read_table(packed, tiles);
    tiles->mixed = packed->group_index != NULL ||
                   packed->residual != NULL || packed->bits < 2;
    tiles->whole = !is_table(packed) && !tiles->mixed && groups_fit(packed) &&
                   scales_fit(packed);
    tiles->looks_up = !tiles->mixed && rows_look_up(packed);
    if (tiles->whole)
        status = make_grid(packed, tiles);
    if (status != QRB_OK)
        goto out;
    *out = tiles;
    tiles = NULL;
out:
    qrb__tiles_destroy(ctx, tiles);
    return status;
}

void qrb__tiles_destroy(qrb_context *ctx, struct qrb__tiles *tiles)
{
    if (tiles == NULL)
        return;
    qrb__free(ctx, tiles->scales);
    qrb__free(ctx, tiles->half_scales);
    qrb__free(ctx, tiles->zeros);
    qrb__free(ctx, tiles->byte_zeros);
    qrb__free(ctx, tiles);
}

uint64_t qrb__tiles_memory(const qrb_packed *packed)
{
    const struct qrb__tiles *tiles = packed->tiles;
    uint64_t scales;

    if (tiles == NULL)
        return 0;
    scales = (uint64_t)divide_up(packed->rows, QRB__CODE_ROWS) *
             QRB__CODE_ROWS * tiles->groups;
    return sizeof *tiles +
           scales * ((tiles->scales != NULL) * sizeof *tiles->scales +
                     (tiles->half_scales != NULL) * sizeof *tiles->half_scales +
                     (tiles->zeros != NULL) * sizeof *tiles->zeros +
                     (tiles->byte_zeros != NULL) * sizeof *tiles->byte_zeros);
}

struct qrb__code_grid qrb__tiles_grid(const struct qrb__tiles *tiles,
                                      size_t tile)
{
    const size_t at = tile * tiles->groups * QRB__CODE_ROWS;

    return (struct qrb__code_grid){
        tiles->scales != NULL ? tiles->scales + at : NULL,
        tiles->half_scales != NULL ? tiles->half_scales + at : NULL,
        tiles->zeros != NULL ? tiles->zeros + at : NULL,
        tiles->byte_zeros != NULL ? tiles->byte_zeros + at : NULL,
        tiles->zero
    };
}

void qrb__tiles_decode(const qrb_packed *packed,
                       const struct qrb__tiles *tiles, size_t row, float *out)
{
    const struct qrb__code_kernels *kernels = &packed->ctx->kernels.codes;
    const size_t first = row * packed->cols;
    struct qrb__code_row codes = {
        .codes = packed->codes + row * packed->row_bytes,
        .bytes = packed->row_bytes,
        .count = packed->cols,
        .bits = packed->bits,
        .unit = packed->unit,
        .zero = tiles->code_zero,
    };
    size_t unit;

    if (tiles->mixed) {
        qrb__packed_decode_f32(packed, first, packed->cols, out);
        return;
    }
    if (packed->table != NULL) {
        kernels->decode_table(&codes, packed->table + (row << packed->bits),
                              out);
        return;
    }
    unit = first / packed->unit;
    codes.offset = first % packed->unit;
    if (packed->groups != 0) {
        unit = row * packed->groups;
        codes.offset = 0;
    }
    codes.scales = packed->scales + unit;
    codes.zeros = packed->zeros ? packed->zero_points + unit : NULL;
    if (tiles->table != NULL)
        kernels->decode_table(&codes, tiles->table, out);
    else
        kernels->decode_grid(&codes, out);
}
