/* Packed matrices: life, units, and what they show. */
#include "quant/packed.h"

#include <float.h>

#include "quant/quantizer.h"
#include "quant/tiles.h"

size_t qrb__packed_run(const qrb_packed *packed)
{
    /* Runs hold whole units: of rows with a short last group, whole rows. */
    const size_t whole = packed->groups != 0 && packed->cols % packed->unit != 0
                             ? packed->cols
                             : packed->unit;

    if (packed->cut)
        return packed->elements < QRB__RUN ? packed->elements : QRB__RUN;
    return whole >= QRB__RUN ? whole : QRB__RUN / whole * whole;
}

/* Columns of the same group from `column` on. */
static size_t group_length(const qrb_packed *packed, size_t column)
{
    size_t end = column + 1;

    if (packed->group_index == NULL) {
        const size_t unit = packed->unit - column % packed->unit;

        return packed->cols - column < unit ? packed->cols - column : unit;
    }
    while (end < packed->cols &&
           packed->group_index[end] == packed->group_index[column])
        end++;
    return end - column;
}

size_t qrb__packed_unit(const qrb_packed *packed, size_t at,
                        size_t *length_out)
{
    const size_t column = at % packed->cols;

    if (packed->groups == 0) {
        const size_t unit = packed->unit - at % packed->unit;
        const size_t left = packed->elements - at;

        *length_out = left < unit ? left : unit;
        return at / packed->unit;
    }
    *length_out = group_length(packed, column);
    return at / packed->cols * packed->groups +
           (packed->group_index == NULL ? column / packed->unit
                                        : packed->group_index[column]);
}

size_t qrb__packed_runs(const qrb_packed *packed)
{
    const size_t run = qrb__packed_run(packed);

    return packed->elements / run + (packed->elements % run != 0);
}

size_t qrb__packed_run_length(const qrb_packed *packed, size_t i)
{
    const size_t run = qrb__packed_run(packed);
    const size_t left = packed->elements - i * run;

    return left < run ? left : run;
}

void *qrb__packed_scratch(const qrb_packed *packed, size_t size)
{
    const size_t runs = qrb__packed_runs(packed);
    size_t workers = qrb_context_threads(packed->ctx);
    size_t count;

    if (workers > runs)
        workers = runs;
    if (!qrb__mul_size(workers, qrb__packed_run(packed), &count))
        return NULL;
    return qrb__alloc_array(packed->ctx, count, size);
}

void qrb__packed_saturate(uint32_t precision, void *run, size_t n,
                          uint32_t dtype)
{
    const double limit = dtype == QRB_F16    ? 65504.0
                         : dtype == QRB_BF16 ? 0x1.fep127
                                             : (double)FLT_MAX;

    if (dtype == QRB_F64)
        return;
    if (precision == QRB_F64) {
        double *x = run;

        for (size_t i = 0; i < n; i++) {
            x[i] = x[i] > limit ? limit : x[i];
            x[i] = x[i] < -limit ? -limit : x[i];
        }
    } else if (dtype != QRB_F32) {
        const float float_limit = (float)limit;
        float *x = run;

        for (size_t i = 0; i < n; i++) {
            x[i] = x[i] > float_limit ? float_limit : x[i];
            x[i] = x[i] < -float_limit ? -float_limit : x[i];
        }
    }
}

bool qrb__packed_has_extras(const qrb_packed *packed)
{
    return packed->group_index != NULL || packed->input_scale != NULL ||
           packed->table != NULL || packed->sparse.row_start != NULL ||
           packed->residual != NULL;
}

struct qrb__grid_scale qrb__packed_scale(const qrb_packed *packed, size_t unit)
{
    return (struct qrb__grid_scale){ packed->scales[unit],
                                     packed->zeros ? packed->zero_points[unit]
                                                   : 0 };
}

void qrb__packed_set_scale(qrb_packed *packed, size_t unit,
                           struct qrb__grid_scale scale)
{
    packed->scales[unit] = scale.scale;
    if (packed->zeros)
        packed->zero_points[unit] = scale.zero_point;
}

qrb_status qrb__packed_check_matrix(qrb_context *ctx, const struct qrb__view *w,
                                    const char *name)
{
    char shape[128];

    if (w->rank != 2 || w->shape[0] == 0 || w->shape[1] == 0)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "%s is %s; a matrix [rows, cols] that is not empty "
                         "is expected",
                         name, qrb__view_shape_text(w, shape, sizeof shape));
    if (w->dtype != QRB_F64 && w->dtype != QRB_F32 && w->dtype != QRB_F16 &&
        w->dtype != QRB_BF16)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s is %s; F64, F32, F16 or BF16 is expected", name,
                         qrb_dtype_name(w->dtype));
    return QRB_OK;
}

void qrb_packed_destroy(qrb_packed *packed)
{
    if (packed == NULL)
        return;
    qrb__tiles_destroy(packed->ctx, packed->tiles);
    qrb__free(packed->ctx, packed->codes);
    qrb__free(packed->ctx, packed->scales);
    qrb__free(packed->ctx, packed->zero_points);
    qrb__free(packed->ctx, packed->nested_scales.codes);
    qrb__free(packed->ctx, packed->nested_scales.absmax);
    qrb__free(packed->ctx, packed->group_index);
    qrb__free(packed->ctx, packed->input_scale);
    qrb__free(packed->ctx, packed->table);
    qrb__free(packed->ctx, packed->sparse.row_start);
    qrb__free(packed->ctx, packed->sparse.columns);
    qrb__free(packed->ctx, packed->sparse.values);
    qrb_packed_destroy(packed->residual);
    qrb__free(packed->ctx, packed->residual_columns);
    qrb__free(packed->ctx, packed);
}

const double *qrb_packed_scales(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->scales;
}

const double *qrb_packed_zero_points(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->zero_points;
}

const float *qrb_packed_table(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->table;
}

qrb_status qrb_packed_outliers(const qrb_packed *packed,
                               const size_t **row_start,
                               const uint32_t **columns, const float **values)
{
    if (packed == NULL || row_start == NULL || columns == NULL ||
        values == NULL)
        return QRB_E_INVALID_ARG;
    *row_start = packed->sparse.row_start;
    *columns = packed->sparse.columns;
    *values = packed->sparse.values;
    return QRB_OK;
}

size_t qrb_packed_groups(const qrb_packed *packed)
{
    if (packed == NULL)
        return 0;
    return packed->groups != 0 ? packed->groups : packed->units;
}

const uint32_t *qrb_packed_group_index(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->group_index;
}

const double *qrb_packed_input_scale(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->input_scale;
}

/* Of the whole matrix, as formats store it. */
static double bits_of(const qrb_packed *packed)
{
    const double rows = (double)packed->rows;
    const double cols = (double)packed->cols;
    double bits = packed->bits * (double)packed->elements;

    bits += packed->kind->overhead(packed);
    if (packed->group_index != NULL)
        bits += 32 * cols;
    if (packed->input_scale != NULL)
        bits += 16 * cols;
    if (packed->table != NULL)
        bits += 16 * rows * (double)(1u << packed->bits);
    if (packed->sparse.row_start != NULL)
        bits += 64 * (double)packed->sparse.row_start[packed->rows] + 32 * rows;
    if (packed->residual != NULL)
        bits += bits_of(packed->residual) +
                32 * (double)packed->residual->cols;
    return bits;
}

double qrb_packed_bits_per_weight(const qrb_packed *packed)
{
    return packed == NULL ? 0 : bits_of(packed) / (double)packed->elements;
}

uint64_t qrb_packed_memory(const qrb_packed *packed)
{
    uint64_t bytes;

    if (packed == NULL)
        return 0;
    bytes = sizeof *packed + (uint64_t)packed->rows * packed->row_bytes +
            packed->units * sizeof *packed->scales;
    if (packed->zeros)
        bytes += packed->units * sizeof *packed->zero_points;
    if (packed->nested)
        bytes += packed->units * sizeof *packed->nested_scales.codes +
                 (packed->units / QRB__NESTED_BLOCK +
                  (packed->units % QRB__NESTED_BLOCK != 0)) *
                     sizeof *packed->nested_scales.absmax;
    if (packed->group_index != NULL)
        bytes += packed->cols * sizeof *packed->group_index;
    if (packed->input_scale != NULL)
        bytes += packed->cols * sizeof *packed->input_scale;
    if (packed->table != NULL)
        bytes += (uint64_t)packed->rows * ((size_t)1 << packed->bits) *
                 sizeof *packed->table;
    if (packed->sparse.row_start != NULL)
        bytes += (packed->rows + 1) * sizeof *packed->sparse.row_start +
                 packed->sparse.row_start[packed->rows] *
                     (sizeof *packed->sparse.columns +
                      sizeof *packed->sparse.values);
    if (packed->residual != NULL)
        bytes += packed->residual->cols * sizeof *packed->residual_columns;
    return bytes + qrb_packed_memory(packed->residual) +
           qrb__tiles_memory(packed);
}
