/* Packed matrices: life, accessors, and the way from codes to values, which
 * is the only one: fake quantization and dequantization both end here. */
#include "quant/packed.h"

#include <float.h>

#include "quant/quantizer.h"
#include "quant/tiles.h"
#include "tensor/run.h"

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

size_t qrb__packed_unit(const qrb_packed *packed, size_t at,
                        size_t *length_out)
{
    size_t left = packed->elements - at;
    size_t unit = at / packed->unit;

    if (packed->groups != 0) {
        left = packed->cols - at % packed->cols;
        unit = at / packed->cols * packed->groups +
               at % packed->cols / packed->unit;
    }
    *length_out = left < packed->unit ? left : packed->unit;
    return unit;
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

void qrb__packed_decode(const qrb_packed *packed, size_t i,
                        const int32_t *codes, uint32_t dtype, void *run)
{
    const size_t size = qrb_dtype_size(packed->precision);
    const size_t n = qrb__packed_run_length(packed, i);
    const size_t first = i * qrb__packed_run(packed);
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t unit = qrb__packed_unit(packed, first + at, &length);

        if (length > n - at)
            length = n - at; /* a piece of the one unit */
        packed->kind->decode(packed, unit, codes + at, length,
                             (unsigned char *)run + at * size);
    }
    qrb__packed_saturate(packed->precision, run, n, dtype);
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
    qrb__free(packed->ctx, packed);
}

struct dequantize {
    const qrb_packed *packed;
    const struct qrb__view *target;
    unsigned char *runs; /* [workers, run] of the precision */
};

static void dequantize_run(size_t i, size_t worker, void *arg)
{
    const struct dequantize *job = arg;
    const qrb_packed *packed = job->packed;
    const size_t run = qrb__packed_run(packed);
    unsigned char *values =
        job->runs + worker * run * qrb_dtype_size(packed->precision);

    qrb__packed_decode(packed, i, packed->codes + i * run, job->target->dtype,
                       values);
    qrb__run_store(packed->ctx, packed->precision, values, i * run,
                   qrb__packed_run_length(packed, i), job->target);
}

qrb_status qrb_packed_dequantize(const qrb_packed *packed, qrb_tensor *out)
{
    struct dequantize job = { .packed = packed };
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
    job.target = &out->view;
    job.runs = qrb__packed_scratch(packed, qrb_dtype_size(packed->precision));
    if (job.runs == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "values of [%zu, %zu]",
                         packed->rows, packed->cols);
    qrb__parallel_for(ctx, qrb__packed_runs(packed), dequantize_run, &job);
    qrb__free(ctx, job.runs);
    return QRB_OK;
}

const int32_t *qrb_packed_codes(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->codes;
}

const double *qrb_packed_scales(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->scales;
}

const double *qrb_packed_zero_points(const qrb_packed *packed)
{
    return packed == NULL ? NULL : packed->zero_points;
}

size_t qrb_packed_groups(const qrb_packed *packed)
{
    if (packed == NULL)
        return 0;
    return packed->groups != 0 ? packed->groups : packed->units;
}

double qrb_packed_bits_per_weight(const qrb_packed *packed)
{
    if (packed == NULL)
        return 0;
    return packed->bits +
           packed->kind->overhead(packed) / (double)packed->elements;
}
