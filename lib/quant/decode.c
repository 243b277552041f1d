/* The way from codes to values, which is the only one: fake quantization,
 * dequantization and measures end here.
 *
 *     value = (code's value in its unit + residual + sparse) / input scale
 *
 * in the packed matrix's precision, saturated for the type that it goes to.
 * O(elements); scratch is on the stack and a run of values a worker. */
#include "quant/quantizer.h"

#include "tensor/run.h"

/* First index of ascending columns [n] that is not below `column`. */
static size_t lower_bound(const uint32_t *columns, size_t n, size_t column)
{
    size_t lo = 0;

    while (lo < n) {
        const size_t middle = (lo + n) / 2;

        if (columns[middle] < column)
            lo = middle + 1;
        else
            n = middle;
    }
    return lo;
}

static void add(uint32_t precision, void *values, size_t i, double term)
{
    if (precision == QRB_F64)
        ((double *)values)[i] += term;
    else
        ((float *)values)[i] += (float)term;
}

/* Columns [first, last) of one row at `values`. */
static void add_sparse(const qrb_packed *packed, size_t row, size_t first,
                       size_t last, void *values)
{
    const struct qrb__sparse *sparse = &packed->sparse;
    const size_t begin = sparse->row_start[row];
    const size_t n = sparse->row_start[row + 1] - begin;

    for (size_t i = lower_bound(sparse->columns + begin, n, first);
         i < n && sparse->columns[begin + i] < last; i++)
        add(packed->precision, values, sparse->columns[begin + i] - first,
            (double)sparse->values[begin + i]);
}

static void add_residual(const qrb_packed *packed, size_t row, size_t first,
                         size_t last, void *values)
{
    const qrb_packed *residual = packed->residual;
    const uint32_t *columns = packed->residual_columns;
    const size_t n = residual->cols;

    for (size_t i = lower_bound(columns, n, first); i < n && columns[i] < last;
         i++) {
        double value;

        qrb__packed_decode_f64(residual, row * n + i, 1, &value);
        add(packed->precision, values, columns[i] - first, value);
    }
}

static void divide(const qrb_packed *packed, size_t first, size_t n,
                   void *values)
{
    const double *scale = packed->input_scale + first;

    if (packed->precision == QRB_F64)
        for (size_t i = 0; i < n; i++)
            ((double *)values)[i] /= scale[i];
    else
        for (size_t i = 0; i < n; i++)
            ((float *)values)[i] =
                (float)((double)((float *)values)[i] / scale[i]);
}

static void decode_units(const qrb_packed *packed, size_t first, size_t n,
                         unsigned char *values)
{
    const size_t size = qrb_dtype_size(packed->precision);
    int32_t codes[QRB__RUN];
    size_t length;

    qrb__packed_read_codes(packed, first, n, codes);
    for (size_t at = 0; at < n; at += length) {
        const size_t unit = qrb__packed_unit(packed, first + at, &length);

        if (length > n - at)
            length = n - at;
        packed->kind->decode(packed, unit, codes + at, length,
                             values + at * size);
    }
}

void qrb__packed_decode(const qrb_packed *packed, size_t first, size_t n,
                        uint32_t dtype, void *values)
{
    const size_t size = qrb_dtype_size(packed->precision);
    size_t length;

    decode_units(packed, first, n, values);
    for (size_t at = 0; at < n; at += length) {
        const size_t row = (first + at) / packed->cols;
        const size_t column = (first + at) % packed->cols;
        unsigned char *piece = (unsigned char *)values + at * size;

        length = packed->cols - column < n - at ? packed->cols - column
                                                : n - at;
        if (packed->residual != NULL)
            add_residual(packed, row, column, column + length, piece);
        if (packed->sparse.row_start != NULL)
            add_sparse(packed, row, column, column + length, piece);
        if (packed->input_scale != NULL)
            divide(packed, column, length, piece);
    }
    qrb__packed_saturate(packed->precision, values, n, dtype);
}

void qrb__packed_decode_f64(const qrb_packed *packed, size_t first, size_t n,
                            double *values)
{
    float floats[QRB__RUN];

    for (size_t at = 0; at < n; at += QRB__RUN) {
        const size_t length = n - at < QRB__RUN ? n - at : QRB__RUN;

        if (packed->precision == QRB_F64) {
            qrb__packed_decode(packed, first + at, length, QRB_F64,
                               values + at);
            continue;
        }
        qrb__packed_decode(packed, first + at, length, QRB_F64, floats);
        for (size_t i = 0; i < length; i++)
            values[at + i] = (double)floats[i];
    }
}

void qrb__packed_decode_f32(const qrb_packed *packed, size_t first, size_t n,
                            float *values)
{
    double doubles[QRB__RUN];

    for (size_t at = 0; at < n; at += QRB__RUN) {
        const size_t length = n - at < QRB__RUN ? n - at : QRB__RUN;

        if (packed->precision == QRB_F32) {
            qrb__packed_decode(packed, first + at, length, QRB_F32,
                               values + at);
            continue;
        }
        qrb__packed_decode(packed, first + at, length, QRB_F32, doubles);
        for (size_t i = 0; i < length; i++)
            values[at + i] = (float)doubles[i];
    }
}

struct dequantize {
    const qrb_packed *packed;
    const struct qrb__view *target;
    unsigned char *runs; /* [workers, RUN] of the precision */
};

static void dequantize_run(size_t i, size_t worker, void *arg)
{
    const struct dequantize *job = arg;
    const qrb_packed *packed = job->packed;
    const size_t first = i * QRB__RUN;
    const size_t left = packed->elements - first;
    const size_t n = left < QRB__RUN ? left : QRB__RUN;
    unsigned char *values =
        job->runs + worker * QRB__RUN * qrb_dtype_size(packed->precision);

    qrb__packed_decode(packed, first, n, job->target->dtype, values);
    qrb__run_store(packed->ctx, packed->precision, values, first, n,
                   job->target);
}

qrb_status qrb__packed_dequantize(const qrb_packed *packed,
                                  const struct qrb__view *out)
{
    struct dequantize job = { .packed = packed, .target = out };
    const size_t tasks = packed->elements / QRB__RUN +
                         (packed->elements % QRB__RUN != 0);
    size_t workers = qrb_context_threads(packed->ctx);

    if (workers > tasks)
        workers = tasks;
    job.runs = qrb__alloc_array(packed->ctx, workers * QRB__RUN,
                                qrb_dtype_size(packed->precision));
    if (job.runs == NULL)
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY, "values of [%zu, %zu]",
                         packed->rows, packed->cols);
    qrb__parallel_for(packed->ctx, tasks, dequantize_run, &job);
    qrb__free(packed->ctx, job.runs);
    return QRB_OK;
}

qrb_status qrb_packed_dequantize(const qrb_packed *packed, qrb_tensor *out)
{
    qrb_context *ctx;
    qrb_status status;

    if (packed == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    ctx = packed->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__packed_check_matrix(ctx, &out->view, "out");
    if (status != QRB_OK)
        return status;
    if (out->view.shape[0] != packed->rows ||
        out->view.shape[1] != packed->cols)
        return qrb__fail(
            ctx, QRB_E_SHAPE, "out is [%zu, %zu], the packed matrix [%zu, %zu]",
            out->view.shape[0], out->view.shape[1], packed->rows, packed->cols);
    return qrb__packed_dequantize(packed, &out->view);
}
