/* Running measurements of language-model output (methods 6.3).
 *
 * Rows of logits are compared in parallel, each on its own, and then folded
 * into the sums one after another in order: the bits depend neither on threads
 * nor on how rows are dealt out to calls.  Two rows of doubles a worker, and a
 * double for each pair of rows. */
#include <qrobust/metric.h>

#include <math.h>

#include "core/context.h"
#include "core/rounding.h"
#include "core/sort.h"
#include "metric/row.h"

/* A sum and what its standard error needs. */
struct series {
    uint64_t count;
    double sum;
    double squares;
};

struct qrb_metric {
    qrb_context *ctx;
    struct series nll;
    struct series base_nll;  /* rows with a base and a target */
    struct series log_ratio; /* nll - base nll, the same rows */
    struct series delta_p;
    struct series top1;
    double *kls; /* [kl_capacity], the first kl_count are measured */
    size_t kl_count;
    size_t kl_capacity;
};

struct rows {
    const float *base;
    const float *logits;
    const int32_t *targets;
    size_t vocab;
    double *exponentials; /* [workers, 2, vocab] */
    struct qrb__row *out; /* [rows] */
};

static void add(struct series *series, double x)
{
    series->count++;
    series->sum += x;
    series->squares += x * x;
}

static double mean_of(const struct series *series)
{
    return series->count > 0 ? series->sum / (double)series->count : NAN;
}

/* sqrt((E x^2 - (E x)^2) / (n - 1)); too few say nothing. */
static double stderr_of(const struct series *series)
{
    const double n = (double)series->count;
    const double mean = mean_of(series);

    if (series->count == 0)
        return NAN;
    if (series->count <= 10)
        return 0;
    return sqrt(fmax(series->squares / n - mean * mean, 0) / (n - 1));
}

static void measure_row(size_t r, size_t worker, void *arg)
{
    const struct rows *rows = arg;
    const size_t vocab = rows->vocab;

    qrb__row_measure(rows->base != NULL ? rows->base + r * vocab : NULL,
                     rows->logits + r * vocab,
                     rows->targets != NULL ? rows->targets[r] : -1, vocab,
                     rows->exponentials + worker * 2 * vocab, &rows->out[r]);
}

qrb_status qrb_metric_create(qrb_context *ctx, qrb_metric **out)
{
    qrb_metric *metric;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    metric = qrb__alloc_array(ctx, 1, sizeof *metric);
    if (metric == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "metric");
    metric->ctx = ctx;
    *out = metric;
    return QRB_OK;
}

void qrb_metric_destroy(qrb_metric *metric)
{
    if (metric == NULL)
        return;
    qrb__free(metric->ctx, metric->kls);
    qrb__free(metric->ctx, metric);
}

qrb_status qrb_metric_add_nll(qrb_metric *metric, const float *nll,
                              size_t count)
{
    fenv_t host;
    qrb_status status;

    if (metric == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(metric->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (nll == NULL)
        return qrb__fail(metric->ctx, QRB_E_INVALID_ARG, "nll is NULL");
    for (size_t i = 0; i < count; i++)
        if (!isfinite(nll[i]))
            return qrb__fail(metric->ctx, QRB_E_NOT_FINITE,
                             "nll[%zu] is not finite", i);
    qrb__rounding_begin(&host);
    for (size_t i = 0; i < count; i++)
        add(&metric->nll, nll[i]);
    qrb__rounding_end(&host);
    return QRB_OK;
}

/* Room for `more` divergences, doubling so that many small calls stay cheap. */
static qrb_status reserve(qrb_metric *metric, size_t more)
{
    size_t capacity;
    double *grown;

    if (more <= metric->kl_capacity - metric->kl_count)
        return QRB_OK;
    if (!qrb__add_size(metric->kl_count, more, &capacity) ||
        !qrb__mul_size(capacity, 2, &capacity))
        return qrb__fail(metric->ctx, QRB_E_NO_MEMORY, "%zu more rows", more);
    grown = qrb__grow_array(metric->ctx, metric->kls, metric->kl_count,
                            capacity, sizeof *grown);
    if (grown == NULL)
        return qrb__fail(metric->ctx, QRB_E_NO_MEMORY, "%zu divergences",
                         capacity);
    metric->kls = grown;
    metric->kl_capacity = capacity;
    return QRB_OK;
}

static qrb_status check_rows(const qrb_metric *metric, const float *logits,
                             const int32_t *targets, size_t rows, size_t vocab)
{
    size_t elements;

    if (logits == NULL)
        return qrb__fail(metric->ctx, QRB_E_INVALID_ARG, "logits is NULL");
    if (vocab == 0 || !qrb__mul_size(rows, vocab, &elements))
        return qrb__fail(metric->ctx, QRB_E_SHAPE, "logits are [%zu, %zu]",
                         rows, vocab);
    for (size_t r = 0; targets != NULL && r < rows; r++)
        if (targets[r] < -1 || (targets[r] >= 0 && (size_t)targets[r] >= vocab))
            return qrb__fail(metric->ctx, QRB_E_INVALID_ARG,
                             "targets[%zu] is %d; -1 to %zu are allowed", r,
                             targets[r], vocab - 1);
    return QRB_OK;
}

static qrb_status fail_broken(const qrb_metric *metric, const struct rows *rows,
                              size_t r)
{
    const float *z = rows->logits + r * rows->vocab;
    const char *name = "logits";
    size_t i = 0;

    while (i < rows->vocab && isfinite(z[i]))
        i++;
    if (i == rows->vocab) {
        name = "base";
        z = rows->base + r * rows->vocab;
        for (i = 0; isfinite(z[i]); i++)
            continue;
    }
    return qrb__fail(metric->ctx, QRB_E_NOT_FINITE,
                     "%s[%zu, %zu] is not finite", name, r, i);
}

static void fold(qrb_metric *metric, const struct rows *rows, size_t count)
{
    for (size_t r = 0; r < count; r++) {
        const struct qrb__row *row = &rows->out[r];
        const bool scored = rows->targets != NULL && rows->targets[r] >= 0;

        if (scored)
            add(&metric->nll, row->nll);
        if (rows->base == NULL)
            continue;
        metric->kls[metric->kl_count++] = row->kl;
        add(&metric->top1, row->agrees);
        if (scored) {
            add(&metric->base_nll, row->base_nll);
            add(&metric->log_ratio, row->nll - row->base_nll);
            add(&metric->delta_p, row->delta_p);
        }
    }
}

qrb_status qrb_metric_add_logits(qrb_metric *metric, const float *base,
                                 const float *logits, const int32_t *targets,
                                 size_t rows, size_t vocab)
{
    struct rows job = {
        .base = base, .logits = logits, .targets = targets, .vocab = vocab
    };
    size_t workers;
    size_t scratch;
    qrb_context *ctx;
    qrb_status status;
    fenv_t host;

    if (metric == NULL)
        return QRB_E_INVALID_ARG;
    ctx = metric->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = check_rows(metric, logits, targets, rows, vocab);
    if (status != QRB_OK || rows == 0)
        return status;
    workers = qrb_context_threads(ctx);
    if (workers > rows)
        workers = rows;
    if (!qrb__mul_size(2 * workers, vocab, &scratch)) {
        status =
            qrb__fail(ctx, QRB_E_NO_MEMORY, "rows of %zu workers", workers);
        goto out;
    }
    job.exponentials = qrb__alloc_array(ctx, scratch, sizeof *job.exponentials);
    job.out = qrb__alloc_array(ctx, rows, sizeof *job.out);
    if (job.exponentials == NULL || job.out == NULL) {
        status =
            qrb__fail(ctx, QRB_E_NO_MEMORY, "rows of %zu workers", workers);
        goto out;
    }
    if (base != NULL)
        status = reserve(metric, rows);
    if (status != QRB_OK)
        goto out;
    qrb__parallel_for(ctx, rows, measure_row, &job);
    for (size_t r = 0; r < rows; r++)
        if (job.out[r].broken) {
            status = fail_broken(metric, &job, r);
            goto out;
        }
    qrb__rounding_begin(&host);
    fold(metric, &job, rows);
    qrb__rounding_end(&host);
out:
    qrb__free(ctx, job.exponentials);
    qrb__free(ctx, job.out);
    return status;
}

static int compare_doubles(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;

    return (*x > *y) - (*x < *y);
}

/* Linear interpolation between neighbours of sorted x [n], n >= 1. */
static double quantile(const double *x, size_t n, double fraction)
{
    const double position = fraction * (double)(n - 1);
    const size_t below = (size_t)position;
    const size_t above = below + 1 < n ? below + 1 : below;
    const double part = position - (double)below;

    return (1 - part) * x[below] + part * x[above];
}

/* Figures of the divergences; sorted is room for a copy, or NULL if there are
 * none. */
static void summarise(const qrb_metric *metric, double *sorted,
                      qrb_metric_result *result)
{
    const size_t n = metric->kl_count;
    struct series kl = { 0 };

    for (size_t i = 0; i < n; i++) {
        sorted[i] = metric->kls[i];
        add(&kl, metric->kls[i]);
    }
    result->kl_mean = mean_of(&kl);
    result->kl_stderr = stderr_of(&kl);
    result->kl_median = result->kl_max = result->kl_min = NAN;
    result->kl_p999 = result->kl_p99 = NAN;
    result->kl_p10 = result->kl_p5 = result->kl_p1 = NAN;
    if (n == 0)
        return;
    qrb__sort(sorted, n, sizeof *sorted, compare_doubles);
    result->kl_min = sorted[0];
    result->kl_max = sorted[n - 1];
    result->kl_median = quantile(sorted, n, 0.5);
    result->kl_p999 = quantile(sorted, n, 0.999);
    result->kl_p99 = quantile(sorted, n, 0.99);
    result->kl_p10 = quantile(sorted, n, 0.1);
    result->kl_p5 = quantile(sorted, n, 0.05);
    result->kl_p1 = quantile(sorted, n, 0.01);
}

static void fill(const qrb_metric *metric, double *sorted,
                 qrb_metric_result *result)
{
    result->scored = metric->nll.count;
    result->pairs = metric->kl_count;
    result->nll = mean_of(&metric->nll);
    result->perplexity = exp(result->nll);
    summarise(metric, sorted, result);
    result->top1_agreement = mean_of(&metric->top1);
    result->top1_stderr = stderr_of(&metric->top1);
    result->delta_p_mean = mean_of(&metric->delta_p);
    result->delta_p_rms =
        sqrt(metric->delta_p.squares / (double)metric->delta_p.count);
    result->base_nll = mean_of(&metric->base_nll);
    /* The variance of a difference holds the covariance of its parts. */
    result->log_ratio = mean_of(&metric->log_ratio);
    result->log_ratio_stderr = stderr_of(&metric->log_ratio);
}

qrb_status qrb_metric_get(const qrb_metric *metric, qrb_metric_result *out)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    double *sorted = NULL;
    qrb_status status;
    fenv_t host;

    if (metric == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(metric->ctx, __func__);
    if (status == QRB_OK)
        status = qrb__result_check(metric->ctx, "metric result", out);
    if (status != QRB_OK)
        return status;
    if (metric->kl_count > 0) {
        sorted =
            qrb__alloc_array(metric->ctx, metric->kl_count, sizeof *sorted);
        if (sorted == NULL)
            return qrb__fail(metric->ctx, QRB_E_NO_MEMORY,
                             "sorted copy of %zu divergences",
                             metric->kl_count);
    }
    qrb__rounding_begin(&host);
    fill(metric, sorted, &result);
    qrb__rounding_end(&host);
    qrb__free(metric->ctx, sorted);
    qrb__result_copy(&result, sizeof result, out);
    return QRB_OK;
}
