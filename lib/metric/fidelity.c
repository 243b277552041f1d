/* Fidelity of tensors (methods 6.2): partial sums over runs of fixed length,
 * added in order, so that the bits do not depend on threads.  O(elements); two
 * runs of scratch a worker. */
#include <qrobust/metric.h>

#include <math.h>

#include "core/context.h"
#include "tensor/run.h"

enum { RUN = 4096 };

struct sums {
    double xx;
    double yy;
    double xy;
    double dd; /* |x - y|^2 */
    double most;
};

struct comparison {
    qrb_context *ctx;
    const struct qrb__view *x;
    const struct qrb__view *y;
    size_t elements;
    double *scratch;   /* [workers, 2, RUN] */
    struct sums *sums; /* [runs] */
    size_t runs;
};

static void compare_run(size_t i, size_t worker, void *arg)
{
    const struct comparison *job = arg;
    const size_t left = job->elements - i * RUN;
    const size_t n = left < RUN ? left : RUN;
    double *x = job->scratch + worker * 2 * RUN;
    double *y = x + RUN;
    struct sums sums = { 0 };

    qrb__run_load(job->ctx, job->x, i * RUN, n, QRB_F64, x);
    qrb__run_load(job->ctx, job->y, i * RUN, n, QRB_F64, y);
    for (size_t k = 0; k < n; k++) {
        const double d = x[k] - y[k];

        sums.xx += x[k] * x[k];
        sums.yy += y[k] * y[k];
        sums.xy += x[k] * y[k];
        sums.dd += d * d;
        sums.most = fabs(d) > sums.most ? fabs(d) : sums.most;
    }
    job->sums[i] = sums;
}

/* A loop of one task, for its floating-point environment. */
static void add_sums(size_t task, size_t worker, void *arg)
{
    const struct comparison *job = arg;
    struct sums *total = job->sums;

    (void)task;
    (void)worker;
    for (size_t i = 1; i < job->runs; i++) {
        total->xx += job->sums[i].xx;
        total->yy += job->sums[i].yy;
        total->xy += job->sums[i].xy;
        total->dd += job->sums[i].dd;
        total->most = fmax(total->most, job->sums[i].most);
    }
}

static double cosine_of(const struct sums *sums)
{
    if (sums->xx == 0 || sums->yy == 0)
        return sums->xx == sums->yy ? 1 : 0;
    return sums->xy / (sqrt(sums->xx) * sqrt(sums->yy));
}

static qrb_status check_tensor(qrb_context *ctx, const struct qrb__view *view,
                               const char *name)
{
    size_t at;

    if (view->dtype != QRB_F64 && view->dtype != QRB_F32 &&
        view->dtype != QRB_F16 && view->dtype != QRB_BF16)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "the %s is %s; F64, F32, F16 or BF16 is expected",
                         name, qrb_dtype_name(view->dtype));
    at = qrb__view_first_not_finite(ctx, view);
    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE,
                         "element %zu of the %s is not finite", at, name);
    return QRB_OK;
}

static qrb_status check(qrb_context *ctx, const struct qrb__view *x,
                        const struct qrb__view *y,
                        const qrb_fidelity_result *out)
{
    qrb_status status = qrb__result_check(ctx, "fidelity result", out);

    if (status == QRB_OK &&
        (!qrb__view_same_shape(x, y) || qrb__view_elements(x) == 0)) {
        char a[128];
        char b[128];

        status = qrb__fail(ctx, QRB_E_SHAPE,
                           "the reference is %s, the approximation %s; equal "
                           "shapes that are not empty are expected",
                           qrb__view_shape_text(x, a, sizeof a),
                           qrb__view_shape_text(y, b, sizeof b));
    }
    if (status == QRB_OK)
        status = check_tensor(ctx, x, "reference");
    if (status == QRB_OK)
        status = check_tensor(ctx, y, "approximation");
    return status;
}

qrb_status qrb_fidelity(const qrb_tensor *reference,
                        const qrb_tensor *approximation,
                        qrb_fidelity_result *out)
{
    qrb_fidelity_result result = { .struct_size = sizeof result };
    struct comparison job = { 0 };
    const struct sums *sums;
    qrb_context *ctx;
    qrb_status status;
    size_t workers;

    if (reference == NULL || approximation == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    ctx = reference->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = check(ctx, &reference->view, &approximation->view, out);
    if (status != QRB_OK)
        return status;
    job.ctx = ctx;
    job.x = &reference->view;
    job.y = &approximation->view;
    job.elements = qrb__view_elements(job.x);
    job.runs = job.elements / RUN + (job.elements % RUN != 0);
    workers = qrb_context_threads(ctx);
    if (workers > job.runs)
        workers = job.runs;
    job.scratch = qrb__alloc_array(ctx, workers, 2 * RUN * sizeof *job.scratch);
    job.sums = qrb__alloc_array(ctx, job.runs, sizeof *job.sums);
    if (job.scratch == NULL || job.sums == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "sums of %zu runs", job.runs);
        goto out;
    }
    qrb__parallel_for(ctx, job.runs, compare_run, &job);
    qrb__parallel_for(ctx, 1, add_sums, &job);
    sums = job.sums;
    if (!isfinite(sums->xx) || !isfinite(sums->yy) || !isfinite(sums->dd)) {
        status = qrb__fail(ctx, QRB_E_NOT_FINITE,
                           "a sum of squares is beyond the doubles");
        goto out;
    }
    result.cosine = cosine_of(sums);
    result.relative_l2 = sums->xx > 0 ? sqrt(sums->dd / sums->xx) : NAN;
    result.max_abs = sums->most;
    result.sqnr_db = sums->xx == 0   ? NAN
                     : sums->dd == 0 ? INFINITY
                                     : 10 * log10(sums->xx / sums->dd);
    qrb__result_copy(&result, sizeof result, out);
out:
    qrb__free(ctx, job.scratch);
    qrb__free(ctx, job.sums);
    return status;
}
