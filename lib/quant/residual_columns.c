/* A residual (quantizers 11): the errors E = W - Q of the columns that matter
 * most, quantized in turn and added to what the codes stand for.
 *
 * Importance of column j: ACT sum_r E_rj^2 sum_t x_tj^2, GRAD the root of
 * sum_t (df / dx_tj)^2, or both.  The sums over tokens are diagonals of Gram
 * matrices.  Errors are taken in the coordinates of the codes, where the
 * residual is added.  Two passes over the matrix by blocks of rows, added in
 * order; memory is a block of rows and the columns that are chosen. */
#include "quant/residual_columns.h"

#include <math.h>

#include "calib/observer.h"
#include "core/sort.h"
#include "quant/quantizer.h"

enum { BLOCK = 128, COLUMNS = 64 };

#define MOST 1e290 /* of an importance, so that there is a sum */

struct choosing {
    const struct qrb__matrix_work *work;
    const struct qrb__view *w;
    const qrb_observer *gradients;
    const struct qrb__residual *residual;
    size_t first;       /* row of the block */
    size_t rows;        /* of it */
    double *errors;     /* [BLOCK, cols] */
    double *given;      /* [BLOCK, cols]: weights */
    double *squares;    /* [cols] of the errors */
    double *activation; /* [cols] */
    double *gradient;   /* [cols] */
    double *importance; /* [cols] */
    uint32_t *order;    /* [cols] */
    uint32_t *columns;  /* [count] */
    size_t count;
    double *chosen;     /* [rows, count] of the whole matrix */
};

static void load_row(size_t row, size_t worker, void *arg)
{
    const struct choosing *job = arg;
    const qrb_packed *packed = job->work->packed;
    const size_t cols = packed->cols;
    double *error = job->errors + row * cols;

    (void)worker;
    qrb__packed_error(packed, job->w, job->first + row,
                      job->given + row * cols, error);
    if (packed->input_scale != NULL)
        for (size_t j = 0; j < cols; j++)
            error[j] *= packed->input_scale[j];
}

static void add_columns(size_t task, size_t worker, void *arg)
{
    const struct choosing *job = arg;
    const size_t cols = job->work->cols;
    const size_t left = task * COLUMNS;
    const size_t right = cols - left < COLUMNS ? cols : left + COLUMNS;

    (void)worker;
    for (size_t r = 0; r < job->rows; r++)
        for (size_t j = left; j < right; j++)
            job->squares[j] += job->errors[r * cols + j] *
                               job->errors[r * cols + j];
}

static void keep_row(size_t row, size_t worker, void *arg)
{
    const struct choosing *job = arg;

    (void)worker;
    for (size_t i = 0; i < job->count; i++)
        job->chosen[(job->first + row) * job->count + i] =
            job->errors[row * job->work->cols + job->columns[i]];
}

/* The errors of each block of rows, then fn of `tasks` on them. */
static void for_each_block(struct choosing *job, size_t columns_of_task,
                           qrb_task_fn fn)
{
    const struct qrb__matrix_work *work = job->work;

    for (job->first = 0; job->first < work->rows; job->first += job->rows) {
        job->rows =
            work->rows - job->first < BLOCK ? work->rows - job->first : BLOCK;
        qrb__parallel_for(work->ctx, job->rows, load_row, job);
        qrb__parallel_for(work->ctx,
                          columns_of_task == 0
                              ? job->rows
                              : work->cols / columns_of_task +
                                    (work->cols % columns_of_task != 0),
                          fn, job);
    }
}

/* Larger first, then the lower column. */
static int compare(const void *a, const void *b, const void *arg)
{
    const double *importance = arg;
    const uint32_t i = *(const uint32_t *)a;
    const uint32_t j = *(const uint32_t *)b;

    if (importance[i] != importance[j])
        return importance[i] > importance[j] ? -1 : 1;
    return (i > j) - (i < j);
}

static int compare_columns(const void *a, const void *b)
{
    const uint32_t i = *(const uint32_t *)a;
    const uint32_t j = *(const uint32_t *)b;

    return (i > j) - (i < j);
}

static void sort_by(struct choosing *job, const double *importance)
{
    const size_t cols = job->work->cols;

    for (size_t j = 0; j < cols; j++)
        job->order[j] = (uint32_t)j;
    qrb__sort_with(job->order, cols, sizeof *job->order, compare, importance);
}

/* The most important column has rank cols. */
static void add_ranks(struct choosing *job, const double *importance)
{
    const size_t cols = job->work->cols;

    sort_by(job, importance);
    for (size_t i = 0; i < cols; i++)
        job->importance[job->order[i]] += (double)(cols - i);
}

static void add_share(struct choosing *job, const double *importance,
                      double weight)
{
    const size_t cols = job->work->cols;
    double sum = 0;

    for (size_t j = 0; j < cols; j++)
        sum += importance[j];
    for (size_t j = 0; j < cols && sum > 0; j++)
        job->importance[j] += weight * importance[j] / sum;
}

/* A loop of one task, for its floating-point environment. */
static void choose(size_t task, size_t worker, void *arg)
{
    struct choosing *job = arg;
    const struct qrb__residual *residual = job->residual;
    const size_t cols = job->work->cols;

    (void)task;
    (void)worker;
    for (size_t j = 0; j < cols; j++) {
        const double s = job->work->packed->input_scale == NULL
                             ? 1
                             : job->work->packed->input_scale[j];

        if (job->work->inputs != NULL && job->work->inputs->gram != NULL)
            job->activation[j] = fmin(
                job->squares[j] *
                    (qrb__observer_gram_at(job->work->inputs, j, j) / (s * s)),
                MOST);
        if (job->gradients != NULL && job->gradients->gram != NULL)
            job->gradient[j] =
                sqrt(qrb__observer_gram_at(job->gradients, j, j));
    }
    switch (residual->options.importance) {
    case QRB_IMPORTANCE_ACT:
        add_share(job, job->activation, 1);
        break;
    case QRB_IMPORTANCE_GRAD:
        add_share(job, job->gradient, 1);
        break;
    case QRB_IMPORTANCE_RANKS:
        add_ranks(job, job->activation);
        add_ranks(job, job->gradient);
        break;
    default: /* QRB_IMPORTANCE_SHARES */
        add_share(job, job->activation, 1 - residual->options.balance);
        add_share(job, job->gradient, residual->options.balance);
        break;
    }
    sort_by(job, job->importance);
    for (size_t i = 0; i < job->count; i++)
        job->columns[i] = job->order[i];
    qrb__sort(job->columns, job->count, sizeof *job->columns, compare_columns);
}

static qrb_status make_room(struct choosing *job)
{
    const struct qrb__matrix_work *work = job->work;
    qrb_context *ctx = work->ctx;
    const size_t cols = work->cols;

    job->errors = qrb__alloc_array(ctx, cols, BLOCK * sizeof(double));
    job->given = qrb__alloc_array(ctx, cols, BLOCK * sizeof(double));
    job->squares = qrb__alloc_array(ctx, cols, sizeof(double));
    job->activation = qrb__alloc_array(ctx, cols, sizeof(double));
    job->gradient = qrb__alloc_array(ctx, cols, sizeof(double));
    job->importance = qrb__alloc_array(ctx, cols, sizeof(double));
    job->order = qrb__alloc_array(ctx, cols, sizeof *job->order);
    job->columns = qrb__alloc_array(ctx, job->count, sizeof *job->columns);
    job->chosen =
        qrb__alloc_array(ctx, work->rows, job->count * sizeof *job->chosen);
    if (job->errors == NULL || job->given == NULL || job->squares == NULL ||
        job->activation == NULL || job->gradient == NULL ||
        job->importance == NULL || job->order == NULL ||
        job->columns == NULL || job->chosen == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "residual of %zu columns",
                         job->count);
    return QRB_OK;
}

static void free_room(struct choosing *job)
{
    qrb_context *ctx = job->work->ctx;

    qrb__free(ctx, job->errors);
    qrb__free(ctx, job->given);
    qrb__free(ctx, job->squares);
    qrb__free(ctx, job->activation);
    qrb__free(ctx, job->gradient);
    qrb__free(ctx, job->importance);
    qrb__free(ctx, job->order);
    qrb__free(ctx, job->columns);
    qrb__free(ctx, job->chosen);
}

qrb_status qrb__residual_add(const struct qrb__residual *residual,
                             const struct qrb__matrix_work *work,
                             const struct qrb__view *w,
                             const qrb_observer *gradients)
{
    struct choosing job = { .work = work,
                            .w = w,
                            .gradients = gradients,
                            .residual = residual };
    qrb_packed *beside = NULL;
    qrb_status status;

    /* ceil(share cols), at least one and at most all. */
    job.count = (size_t)ceil(residual->options.share * (double)work->cols);
    if (job.count > work->cols)
        job.count = work->cols;
    status = make_room(&job);
    if (status != QRB_OK)
        goto out;
    for_each_block(&job, COLUMNS, add_columns);
    qrb__parallel_for(work->ctx, 1, choose, &job);
    for_each_block(&job, 0, keep_row);
    {
        const size_t shape[2] = { work->rows, job.count };
        const struct qrb__view errors =
            qrb__view_make(QRB_F64, 2, shape, job.chosen);

        status = qrb__packed_lay_out(residual->quantizer, &errors, &beside);
        if (status == QRB_OK)
            status = qrb__quantize_units(beside, &errors);
    }
    if (status != QRB_OK)
        goto out;
    work->packed->residual = beside;
    work->packed->residual_columns = job.columns;
    beside = NULL; /* the packed matrix's from here on */
    job.columns = NULL;
out:
    qrb_packed_destroy(beside);
    free_room(&job);
    return status;
}
