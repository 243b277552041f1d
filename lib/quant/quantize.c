/* From weights to codes, unit by unit.
 *
 * Two passes over runs of the matrix: the first reads, refuses what is not
 * finite and fits the scales; the second codes.  O(elements) time; a run of
 * scratch a worker. */
#include "quant/quantizer.h"

#include <stdatomic.h>

#include "tensor/run.h"

struct weights {
    qrb_packed *packed;
    const struct qrb__view *view;
    qrb__run_fn fn;
    void *arg;
    unsigned char *runs; /* [workers, run] of the precision */
    atomic_bool broken;  /* a run was not finite */
};

/* No early exit, so that compilers can vectorise it. */
static bool floats_are_finite(const float *x, size_t n)
{
    int broken = 0;

    for (size_t i = 0; i < n; i++)
        broken |= x[i] - x[i] != 0;
    return !broken;
}

static bool doubles_are_finite(const double *x, size_t n)
{
    int broken = 0;

    for (size_t i = 0; i < n; i++)
        broken |= x[i] - x[i] != 0;
    return !broken;
}

static void load_run(size_t i, size_t worker, void *arg)
{
    struct weights *weights = arg;
    qrb_packed *packed = weights->packed;
    const size_t run = qrb__packed_run(packed);
    const size_t n = qrb__packed_run_length(packed, i);
    void *w = weights->runs + worker * run * qrb_dtype_size(packed->precision);

    qrb__run_load(packed->ctx, weights->view, i * run, n, packed->precision, w);
    if (packed->precision == QRB_F32 ? floats_are_finite(w, n)
                                     : doubles_are_finite(w, n))
        weights->fn(i, worker, w, n, weights->arg);
    else
        atomic_store(&weights->broken, true);
}

qrb_status qrb__fail_not_finite(qrb_context *ctx, const struct qrb__view *w)
{
    const size_t at = qrb__view_first_not_finite(ctx, w);

    if (at == SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE,
                         "w holds values beyond float32, in which this "
                         "quantizer computes");
    return qrb__fail(ctx, QRB_E_NOT_FINITE, "w[%zu, %zu] is not finite",
                     at / w->shape[1], at % w->shape[1]);
}

qrb_status qrb__weights_for_each_run(qrb_packed *packed,
                                     const struct qrb__view *w, qrb__run_fn fn,
                                     void *arg)
{
    struct weights weights = {
        .packed = packed, .view = w, .fn = fn, .arg = arg
    };

    atomic_init(&weights.broken, false);
    weights.runs =
        qrb__packed_scratch(packed, qrb_dtype_size(packed->precision));
    if (weights.runs == NULL)
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY,
                         "weights of [%zu, %zu] in work", packed->rows,
                         packed->cols);
    qrb__parallel_for(packed->ctx, qrb__packed_runs(packed), load_run,
                      &weights);
    qrb__free(packed->ctx, weights.runs);
    if (atomic_load(&weights.broken))
        return qrb__fail_not_finite(packed->ctx, w);
    return QRB_OK;
}

static void fit_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    qrb_packed *packed = arg;
    const size_t size = qrb_dtype_size(packed->precision);
    const size_t first = i * qrb__packed_run(packed);
    size_t length;

    (void)worker;
    for (size_t at = 0; at < n; at += length) {
        const size_t unit = qrb__packed_unit(packed, first + at, &length);

        packed->kind->fit(packed, unit, (unsigned char *)run + at * size,
                          length);
    }
}

struct coding {
    qrb_packed *packed;
    int32_t *codes; /* [workers, run] */
};

static void encode_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    const struct coding *coding = arg;
    qrb_packed *packed = coding->packed;
    const size_t size = qrb_dtype_size(packed->precision);
    const size_t first = i * qrb__packed_run(packed);
    int32_t *codes = coding->codes + worker * qrb__packed_run(packed);
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t unit = qrb__packed_unit(packed, first + at, &length);

        if (length > n - at)
            length = n - at; /* a piece of the one unit */
        packed->kind->encode(packed, unit,
                             (const unsigned char *)run + at * size, length,
                             codes + at);
    }
    qrb__packed_write_codes(packed, first, n, codes);
}

qrb_status qrb__quantize_units(qrb_packed *packed, const struct qrb__view *w)
{
    const struct qrb__quantizer_kind *kind = packed->kind;
    struct coding coding = { packed, NULL };
    qrb_status status;

    status = packed->cut
                 ? kind->fit_matrix(packed, w)
                 : qrb__weights_for_each_run(packed, w, fit_run, packed);
    if (status == QRB_OK && kind->finish != NULL)
        status = kind->finish(packed);
    if (status != QRB_OK)
        return status;
    coding.codes = qrb__packed_scratch(packed, sizeof *coding.codes);
    if (coding.codes == NULL)
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY,
                         "codes of [%zu, %zu] in work", packed->rows,
                         packed->cols);
    status = qrb__weights_for_each_run(packed, w, encode_run, &coding);
    qrb__free(packed->ctx, coding.codes);
    return status;
}
