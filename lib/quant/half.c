/* Rounding of weights through IEEE half or bfloat16 and back: what a model
 * stored in that type computes with.  O(elements); a run of scratch a worker.
 * Values that the type turns into infinity are refused before anything is
 * written. */
#include "quant/quantizer.h"

#include <stdatomic.h>

#include "tensor/run.h"

struct rounding {
    qrb_context *ctx;
    const struct qrb__view *w;
    uint32_t dtype; /* QRB_F16 or QRB_BF16 */
    size_t elements;
    uint16_t *scratch; /* [workers, RUN] */
    atomic_bool broken;
};

static size_t run_length(const struct rounding *job, size_t i)
{
    const size_t left = job->elements - i * QRB__RUN;

    return left < QRB__RUN ? left : QRB__RUN;
}

/* Infinities and NaN have all bits of the exponent. */
static bool is_finite(uint32_t dtype, uint16_t bits)
{
    const uint16_t exponent = dtype == QRB_F16 ? 0x7c00 : 0x7f80;

    return (bits & exponent) != exponent;
}

static void check_run(size_t i, size_t worker, void *arg)
{
    struct rounding *job = arg;
    const size_t n = run_length(job, i);
    uint16_t *half = job->scratch + worker * QRB__RUN;
    int broken = 0;

    qrb__run_load(job->ctx, job->w, i * QRB__RUN, n, job->dtype, half);
    for (size_t k = 0; k < n; k++)
        broken |= !is_finite(job->dtype, half[k]);
    if (broken)
        atomic_store(&job->broken, true);
}

static void round_run(size_t i, size_t worker, void *arg)
{
    const struct rounding *job = arg;
    const size_t n = run_length(job, i);
    uint16_t *half = job->scratch + worker * QRB__RUN;

    qrb__run_load(job->ctx, job->w, i * QRB__RUN, n, job->dtype, half);
    qrb__run_store(job->ctx, job->dtype, half, i * QRB__RUN, n, job->w);
}

static qrb_status fail_broken(const struct rounding *job)
{
    size_t at = 0;
    double value = 0;
    uint16_t half = 0;

    for (; at < job->elements; at++) {
        qrb__run_load(job->ctx, job->w, at, 1, job->dtype, &half);
        if (!is_finite(job->dtype, half))
            break;
    }
    qrb__run_load(job->ctx, job->w, at, 1, QRB_F64, &value);
    return qrb__fail(job->ctx, QRB_E_NOT_FINITE,
                     "w[%zu, %zu] is %g; finite values up to %s are allowed",
                     at / job->w->shape[1], at % job->w->shape[1], value,
                     job->dtype == QRB_F16 ? "65504" : "3.39e38");
}

static qrb_status round_through(qrb_context *ctx, const struct qrb__view *w,
                                uint32_t dtype)
{
    struct rounding job = { .ctx = ctx, .w = w, .dtype = dtype };
    qrb_status status = QRB_OK;
    size_t runs;
    size_t workers = qrb_context_threads(ctx);

    atomic_init(&job.broken, false);
    job.elements = qrb__view_elements(w);
    runs = job.elements / QRB__RUN + (job.elements % QRB__RUN != 0);
    if (workers > runs)
        workers = runs;
    job.scratch =
        qrb__alloc_array(ctx, workers, QRB__RUN * sizeof *job.scratch);
    if (job.scratch == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "runs of %zu workers", workers);
    qrb__parallel_for(ctx, runs, check_run, &job);
    if (atomic_load(&job.broken))
        status = fail_broken(&job);
    else
        qrb__parallel_for(ctx, runs, round_run, &job);
    qrb__free(ctx, job.scratch);
    return status;
}

static qrb_status round_fp16(qrb_context *ctx, const struct qrb__view *w)
{
    return round_through(ctx, w, QRB_F16);
}

static qrb_status round_bf16(qrb_context *ctx, const struct qrb__view *w)
{
    return round_through(ctx, w, QRB_BF16);
}

const struct qrb__quantizer_kind qrb__quantizer_fp16 = {
    .kind = QRB_QUANTIZER_FP16,
    .name = "fp16",
    .check = qrb__quantizer_takes_no_options,
    .round = round_fp16,
};

const struct qrb__quantizer_kind qrb__quantizer_bf16 = {
    .kind = QRB_QUANTIZER_BF16,
    .name = "bf16",
    .check = qrb__quantizer_takes_no_options,
    .round = round_bf16,
};
