/* AWQ's searches: candidates of scales, each judged by the loss
 *
 *     |X D^T|^2 / (tokens rows) = sum_r d_r G d_r^T / (tokens rows)
 *
 * of the errors D = W - Q(W s) / s, and limits of weights, judged by their
 * groups.  Blocks of rows are of fixed size and added in order. */
#include "quant/awq_work.h"

#include <math.h>

#include "calib/observer.h"
#include "calib/quadratic.h"

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

qrb_status qrb__awq_scratch_make(qrb_context *ctx, size_t cols,
                                 struct qrb__awq_scratch *out)
{
    out->values = qrb__alloc_array(ctx, cols, sizeof *out->values);
    out->floats = qrb__alloc_array(ctx, cols, sizeof *out->floats);
    out->codes = qrb__alloc_array(ctx, cols, sizeof *out->codes);
    if (out->values == NULL || out->floats == NULL || out->codes == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "a group of %zu columns", cols);
    return QRB_OK;
}

void qrb__awq_scratch_free(qrb_context *ctx, struct qrb__awq_scratch *scratch)
{
    qrb__free(ctx, scratch->values);
    qrb__free(ctx, scratch->floats);
    qrb__free(ctx, scratch->codes);
}

qrb_status qrb__awq_begin(struct qrb__awq_work *awq)
{
    const struct qrb__matrix_work *work = awq->work;
    qrb_context *ctx = work->ctx;
    const size_t size = qrb_dtype_size(work->precision);
    const size_t cols = work->cols;
    qrb_status status = QRB_OK;
    size_t block;

    awq->groups = divide_up(cols, awq->grid.group);
    awq->workers = qrb_context_threads(ctx);
    awq->scratch =
        qrb__alloc_array(ctx, awq->workers, sizeof *awq->scratch);
    if (awq->scratch == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "scratch of awq");
    for (size_t i = 0; i < awq->workers && status == QRB_OK; i++)
        status = qrb__awq_scratch_make(ctx, awq->grid.group, &awq->scratch[i]);
    if (status != QRB_OK)
        return status;
    if (!qrb__mul_size(smaller(work->rows, QRB__AWQ_ROWS), cols, &block))
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "blocks of %zu columns", cols);
    awq->gram = qrb__alloc_array(ctx, cols * cols, size);
    awq->errors = qrb__alloc_array(ctx, block, size);
    awq->products = qrb__alloc_array(ctx, block, size);
    awq->squares = qrb__alloc_array(ctx, QRB__AWQ_ROWS, sizeof(double));
    awq->scale = qrb__alloc_array(ctx, cols, sizeof(double));
    awq->trial = qrb__alloc_array(ctx, cols, sizeof(double));
    awq->means = qrb__alloc_array(ctx, cols, sizeof(double));
    awq->weights = qrb__alloc_array(ctx, cols, sizeof(double));
    if (awq->gram == NULL || awq->errors == NULL || awq->products == NULL ||
        awq->squares == NULL || awq->scale == NULL || awq->trial == NULL ||
        awq->means == NULL || awq->weights == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY,
                         "Gram matrix and errors of %zu columns", cols);
    qrb__work_gram(work, awq->gram);
    return QRB_OK;
}

void qrb__awq_end(struct qrb__awq_work *awq)
{
    qrb_context *ctx;

    if (awq->work == NULL)
        return;
    ctx = awq->work->ctx;
    for (size_t i = 0; awq->scratch != NULL && i < awq->workers; i++)
        qrb__awq_scratch_free(ctx, &awq->scratch[i]);
    qrb__free(ctx, awq->scratch);
    qrb__free(ctx, awq->gram);
    qrb__free(ctx, awq->errors);
    qrb__free(ctx, awq->products);
    qrb__free(ctx, awq->squares);
    qrb__free(ctx, awq->scale);
    qrb__free(ctx, awq->trial);
    qrb__free(ctx, awq->means);
    qrb__free(ctx, awq->weights);
    qrb__free(ctx, awq->limits);
    qrb__free(ctx, awq->best);
    qrb__free(ctx, awq->clip);
}

/* One evaluation of the loss. */
struct evaluation {
    const struct qrb__awq_work *awq;
    const double *scale;  /* NULL: 1 */
    const double *limits; /* [rows, groups]; NULL: none */
    size_t first;         /* row of the block */
    size_t rows;
    double sum;
};

static void find_errors(size_t row, size_t worker, void *arg)
{
    const struct evaluation *job = arg;
    const struct qrb__awq_work *awq = job->awq;
    const size_t cols = awq->work->cols;
    const size_t at = (job->first + row) * cols;
    const double *limits =
        job->limits == NULL ? NULL
                            : job->limits + (job->first + row) * awq->groups;

    if (awq->work->precision == QRB_F32)
        qrb__awq_errors_f32(&awq->grid, (const float *)awq->work->w + at,
                            job->scale, limits, 0, cols,
                            &awq->scratch[worker],
                            (float *)awq->errors + row * cols);
    else
        qrb__awq_errors_f64(&awq->grid, (const double *)awq->work->w + at,
                            job->scale, limits, 0, cols,
                            &awq->scratch[worker],
                            (double *)awq->errors + row * cols);
}

/* Loops of one task, for their floating-point environment. */
static void add_squares(size_t task, size_t worker, void *arg)
{
    struct evaluation *job = arg;

    (void)task;
    (void)worker;
    for (size_t r = 0; r < job->rows; r++)
        job->sum += job->awq->squares[r];
}

static void take_mean(size_t task, size_t worker, void *arg)
{
    struct evaluation *job = arg;
    const struct qrb__matrix_work *work = job->awq->work;

    (void)task;
    (void)worker;
    if (work->inputs->tokens != 0)
        job->sum /= (double)work->inputs->tokens * (double)work->rows;
}

static double evaluate(const struct qrb__awq_work *awq, const double *scale,
                       const double *limits)
{
    const struct qrb__matrix_work *work = awq->work;
    struct evaluation job = { .awq = awq, .scale = scale, .limits = limits };

    for (; job.first < work->rows; job.first += job.rows) {
        struct qrb__quadratic form = { 0, work->cols, awq->squares };

        job.rows = smaller(work->rows - job.first, QRB__AWQ_ROWS);
        form.rows = job.rows;
        qrb__parallel_for(work->ctx, job.rows, find_errors, &job);
        if (work->precision == QRB_F32)
            qrb__quadratic_f32(work->ctx, &form, (const float *)awq->gram,
                               (const float *)awq->errors,
                               (float *)awq->products);
        else
            qrb__quadratic_f64(work->ctx, &form, (const double *)awq->gram,
                               (const double *)awq->errors,
                               (double *)awq->products);
        qrb__parallel_for(work->ctx, 1, add_squares, &job);
    }
    qrb__parallel_for(work->ctx, 1, take_mean, &job);
    return job.sum;
}

/* Means of |x|, and of |w| relative to the largest of its group. */
static void look_at_columns(size_t task, size_t worker, void *arg)
{
    struct qrb__awq_work *awq = arg;
    const struct qrb__matrix_work *work = awq->work;
    const size_t group = awq->grid.group;
    const size_t first = task * group;
    const size_t n = smaller(work->cols - first, group);

    (void)worker;
    for (size_t j = first; j < first + n; j++)
        awq->means[j] = qrb__work_mean_magnitude(work, j);
    for (size_t r = 0; r < work->rows; r++) {
        double largest = 0;

        for (size_t j = first; j < first + n; j++)
            largest = fmax(largest, fabs(qrb__work_at(work, r, j)));
        for (size_t j = first; j < first + n; j++)
            awq->weights[j] += fabs(qrb__work_at(work, r, j)) /
                               (largest + 1e-6) / (double)work->rows;
    }
}

struct trying {
    const struct qrb__awq_work *awq;
    double ratio;
    bool duo_scaling;
};

/* s of a ratio, normalised so that largest times smallest is 1. */
static void make_scale(size_t task, size_t worker, void *arg)
{
    const struct trying *job = arg;
    const struct qrb__awq_work *awq = job->awq;
    const size_t cols = awq->work->cols;
    double *s = awq->trial;
    double smallest = INFINITY;
    double largest = 0;
    double root;

    (void)task;
    (void)worker;
    for (size_t j = 0; j < cols; j++) {
        const double x = pow(awq->means[j], job->ratio);
        const double w =
            job->duo_scaling ? pow(awq->weights[j], 1 - job->ratio) + 1e-4 : 1;

        s[j] = fmax(x / w, 1e-4);
        smallest = fmin(smallest, s[j]);
        largest = fmax(largest, s[j]);
    }
    root = sqrt(largest) * sqrt(smallest);
    for (size_t j = 0; j < cols; j++) {
        s[j] /= root;
        if (!isfinite(s[j]) || s[j] == 0)
            s[j] = 1;
    }
}

qrb_status qrb__awq_search(struct qrb__awq_work *awq, uint32_t ratios,
                           bool duo_scaling, double *loss_out)
{
    const struct qrb__matrix_work *work = awq->work;
    double best = INFINITY;

    for (size_t j = 0; j < work->cols; j++)
        awq->weights[j] = 0;
    qrb__parallel_for(work->ctx, awq->groups, look_at_columns, awq);
    for (uint32_t k = 0; k < ratios; k++) {
        struct trying job = { awq, (double)k / (double)ratios, duo_scaling };
        qrb_status status = qrb__cancelled(work->ctx);

        if (status != QRB_OK)
            return status;
        qrb__parallel_for(work->ctx, 1, make_scale, &job);
        awq->losses[k] = evaluate(awq, awq->trial, NULL);
        /* The first of equals, and something where no loss is a number. */
        if (k == 0 || awq->losses[k] < best) {
            double *trial = awq->trial;

            best = awq->losses[k];
            awq->trial = awq->scale;
            awq->scale = trial;
        }
    }
    *loss_out = best;
    return QRB_OK;
}

static void clip_group(size_t task, size_t worker, void *arg)
{
    struct qrb__awq_work *awq = arg;
    const struct qrb__matrix_work *work = awq->work;
    const size_t size = qrb_dtype_size(work->precision);
    const size_t first_row = task / awq->groups * QRB__AWQ_CLIP_ROWS;
    const size_t group = task % awq->groups;
    const size_t first = group * awq->grid.group;
    const struct qrb__awq_clip job = {
        .kernels = &work->ctx->kernels,
        .grid = &awq->grid,
        .scratch = &awq->scratch[worker],
        .rows = smaller(work->rows - first_row, QRB__AWQ_CLIP_ROWS),
        .first = first,
        .n = smaller(work->cols - first, awq->grid.group),
        .apart = awq->groups,
        .limits = awq->limits + first_row * awq->groups + group,
        .best = awq->best + first_row * awq->groups + group,
    };
    void *memory =
        awq->clip + worker * 2 * QRB__AWQ_CLIP_ROWS * awq->grid.group * size;
    const size_t at = first_row * work->cols;

    if (work->precision == QRB_F32)
        qrb__awq_clip_group_f32(&job, (const float *)work->w + at,
                                (const float *)awq->gram, (float *)memory);
    else
        qrb__awq_clip_group_f64(&job, (const double *)work->w + at,
                                (const double *)awq->gram, (double *)memory);
}

/* Weights of one row to their limits, which are numbers of the copy's type. */
static void limit_row(size_t row, size_t worker, void *arg)
{
    const struct qrb__awq_work *awq = arg;
    const struct qrb__matrix_work *work = awq->work;

    (void)worker;
    for (size_t j = 0; j < work->cols; j++) {
        const double limit =
            awq->limits[row * awq->groups + j / awq->grid.group];
        const double w = qrb__work_at(work, row, j);
        const double limited = w > limit ? limit : w < -limit ? -limit : w;

        if (work->precision == QRB_F32)
            ((float *)work->w)[row * work->cols + j] = (float)limited;
        else
            ((double *)work->w)[row * work->cols + j] = limited;
    }
}

qrb_status qrb__awq_clip(struct qrb__awq_work *awq, double *loss)
{
    const struct qrb__matrix_work *work = awq->work;
    qrb_context *ctx = work->ctx;
    const size_t size = qrb_dtype_size(work->precision);
    const size_t blocks = divide_up(work->rows, QRB__AWQ_CLIP_ROWS);
    double limited;
    size_t memory;

    if (!qrb__mul_size(awq->workers * 2 * QRB__AWQ_CLIP_ROWS, awq->grid.group,
                       &memory))
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "groups of %zu columns",
                         awq->grid.group);
    awq->clip = qrb__alloc_array(ctx, memory, size);
    awq->limits =
        qrb__alloc_array(ctx, work->rows * awq->groups, sizeof *awq->limits);
    awq->best =
        qrb__alloc_array(ctx, work->rows * awq->groups, sizeof *awq->best);
    if (awq->clip == NULL || awq->limits == NULL || awq->best == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "limits of [%zu, %zu]",
                         work->rows, awq->groups);
    qrb__parallel_for(ctx, blocks * awq->groups, clip_group, awq);
    if (isnan(*loss))
        *loss = evaluate(awq, NULL, NULL);
    limited = evaluate(awq, NULL, awq->limits);
    if (limited > *loss)
        return QRB_OK; /* groups that were better alone */
    *loss = limited;
    qrb__parallel_for(ctx, work->rows, limit_row, awq);
    return QRB_OK;
}
