/* From weights to codes, and from weights to the values of their codes.
 *
 * Two passes over runs of the matrix: the first reads, refuses what is not
 * finite and fits the scales; the second codes.  Fake quantization codes into
 * scratch and decodes at once, with the same functions, so that its values are
 * those of qrb_packed_dequantize() bit for bit, and it writes nothing before
 * all that can fail is done.  O(elements) time; a run of scratch a worker. */
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

static qrb_status fail_not_finite(qrb_context *ctx,
                                  const struct qrb__view *view)
{
    const size_t at = qrb__view_first_not_finite(ctx, view);

    if (at == SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE,
                         "w holds values beyond float32, in which this "
                         "quantizer computes");
    return qrb__fail(ctx, QRB_E_NOT_FINITE, "w[%zu, %zu] is not finite",
                     at / view->shape[1], at % view->shape[1]);
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
        return fail_not_finite(packed->ctx, w);
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

/* A packed matrix with its scales and, so far, without codes. */
static qrb_status fit(const qrb_quantizer *quantizer, const struct qrb__view *w,
                      qrb_packed **out)
{
    qrb_context *ctx = quantizer->ctx;
    const struct qrb__quantizer_kind *kind = quantizer->kind;
    qrb_packed *packed = qrb__alloc_array(ctx, 1, sizeof *packed);
    qrb_status status;

    if (packed == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "packed matrix");
        goto out;
    }
    packed->ctx = ctx;
    packed->kind = kind;
    packed->rows = w->shape[0];
    packed->cols = w->shape[1];
    packed->elements = packed->rows * packed->cols;
    kind->layout(packed, &quantizer->options, w->dtype);
    if (packed->groups != 0 && packed->unit > packed->cols) {
        status = qrb__fail(ctx, QRB_E_SHAPE,
                           "w is [%zu, %zu]; its rows are shorter than the "
                           "group size %zu",
                           packed->rows, packed->cols, packed->unit);
        goto out;
    }
    packed->units = packed->groups != 0
                        ? packed->rows * packed->groups
                        : packed->elements / packed->unit +
                              (packed->elements % packed->unit != 0);
    packed->scales =
        qrb__alloc_array(ctx, packed->units, sizeof *packed->scales);
    if (packed->zeros)
        packed->zero_points =
            qrb__alloc_array(ctx, packed->units, sizeof *packed->zero_points);
    if (packed->scales == NULL ||
        (packed->zeros && packed->zero_points == NULL)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu scales", packed->units);
        goto out;
    }
    status = packed->cut
                 ? kind->fit_matrix(packed, w)
                 : qrb__weights_for_each_run(packed, w, fit_run, packed);
    if (status == QRB_OK && kind->finish != NULL)
        status = kind->finish(packed);
    if (status != QRB_OK)
        goto out;
    *out = packed;
    packed = NULL; /* the caller's from here on */
out:
    qrb_packed_destroy(packed);
    return status;
}

struct coding {
    const qrb_packed *packed;
    const struct qrb__view *target; /* of fake quantization */
    int32_t *codes; /* [elements], or of fake quantization [workers, run] */
};

static void encode(const qrb_packed *packed, size_t i, const void *run,
                   size_t n, int32_t *codes)
{
    const size_t size = qrb_dtype_size(packed->precision);
    const size_t first = i * qrb__packed_run(packed);
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t unit = qrb__packed_unit(packed, first + at, &length);

        if (length > n - at)
            length = n - at; /* a piece of the one unit */
        packed->kind->encode(packed, unit,
                             (const unsigned char *)run + at * size, length,
                             codes + at);
    }
}

static void encode_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    const struct coding *coding = arg;

    (void)worker;
    encode(coding->packed, i, run, n,
           coding->codes + i * qrb__packed_run(coding->packed));
}

static void fake_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    const struct coding *coding = arg;
    const qrb_packed *packed = coding->packed;
    const size_t length = qrb__packed_run(packed);
    int32_t *codes = coding->codes + worker * length;

    encode(packed, i, run, n, codes);
    qrb__packed_decode(packed, i, codes, coding->target->dtype, run);
    qrb__run_store(packed->ctx, packed->precision, run, i * length, n,
                   coding->target);
}

/* What both public functions refuse. */
static qrb_status check(const qrb_quantizer *quantizer, const qrb_tensor *w,
                        const char *function)
{
    qrb_status status = qrb__not_in_callback(quantizer->ctx, function);

    if (status != QRB_OK)
        return status;
    if (w == NULL)
        return qrb__fail(quantizer->ctx, QRB_E_INVALID_ARG, "w is NULL");
    return qrb__packed_check_matrix(quantizer->ctx, &w->view, "w");
}

qrb_status qrb_quantizer_quantize(const qrb_quantizer *quantizer,
                                  const qrb_tensor *w, qrb_packed **out)
{
    qrb_packed *packed = NULL;
    struct coding coding = { 0 };
    qrb_status status;

    if (quantizer == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = check(quantizer, w, __func__);
    if (status != QRB_OK)
        return status;
    if (quantizer->kind->round != NULL)
        return qrb__fail(quantizer->ctx, QRB_E_UNSUPPORTED,
                         "%s has no codes; use qrb_quantizer_fake()",
                         quantizer->kind->name);
    status = fit(quantizer, &w->view, &packed);
    if (status != QRB_OK)
        goto out;
    packed->codes =
        qrb__alloc_array(packed->ctx, packed->elements, sizeof *packed->codes);
    if (packed->codes == NULL) {
        status = qrb__fail(quantizer->ctx, QRB_E_NO_MEMORY,
                           "codes of [%zu, %zu]", packed->rows, packed->cols);
        goto out;
    }
    coding.packed = packed;
    coding.codes = packed->codes;
    status = qrb__weights_for_each_run(packed, &w->view, encode_run, &coding);
    if (status != QRB_OK)
        goto out;
    *out = packed;
    packed = NULL; /* the caller's from here on */
out:
    qrb_packed_destroy(packed);
    return status;
}

qrb_status qrb_quantizer_fake(const qrb_quantizer *quantizer, qrb_tensor *w)
{
    qrb_packed *packed = NULL;
    struct coding coding = { 0 };
    qrb_status status;

    if (quantizer == NULL)
        return QRB_E_INVALID_ARG;
    status = check(quantizer, w, __func__);
    if (status != QRB_OK)
        return status;
    if (quantizer->kind->round != NULL)
        return quantizer->kind->round(quantizer->ctx, &w->view);
    status = fit(quantizer, &w->view, &packed);
    if (status != QRB_OK)
        goto out;
    coding.packed = packed;
    coding.target = &w->view;
    coding.codes = qrb__packed_scratch(packed, sizeof *coding.codes);
    if (coding.codes == NULL) {
        status = qrb__fail(quantizer->ctx, QRB_E_NO_MEMORY,
                           "codes of [%zu, %zu] in work", packed->rows,
                           packed->cols);
        goto out;
    }
    status = qrb__weights_for_each_run(packed, &w->view, fake_run, &coding);
out:
    if (packed != NULL)
        qrb__free(packed->ctx, coding.codes);
    qrb_packed_destroy(packed);
    return status;
}
