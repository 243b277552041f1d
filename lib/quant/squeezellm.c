/* SqueezeLLM (Kim et al., ICML 2024, arXiv:2306.07629; quantizers 4): a table
 * of 2^bits values for each row, which are the centroids of its weights as the
 * squared gradients weigh them, and a sparse matrix of outliers.
 *
 * Weights that are zero, and what is kept beside the codes, pull no centroid.
 * The dense matrix still has a code where it was taken from, that of 0, so the
 * sparse matrix holds the difference.  Codes are chosen by the table as it is
 * stored, in float32.  Rows are independent: O(2^bits cols log cols) each, and
 * 3 cols log2 cols + 2^bits cols / 2 doubles a worker. */
#include "quant/quantizer.h"

#include <float.h>
#include <math.h>
#include <stdatomic.h>

#include "core/rounding.h"
#include "quant/kmeans.h"
#include "quant/outliers.h"
#include "tensor/run.h"

enum { BLOCK = 256 }; /* rows between questions whether to go on */

static const qrb_squeezellm_options defaults = QRB_SQUEEZELLM_OPTIONS_INIT;

static bool is_percentage(double x)
{
    return x >= 0 && x <= 100; /* not NaN */
}

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    const qrb_squeezellm_options *own = method;

    if (options->bits < QRB__GRID_MIN_BITS ||
        options->bits > QRB__GRID_MAX_BITS)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "squeezellm has %u bits; 2 to 8 are allowed",
                         options->bits);
    if (!is_percentage(own->outliers) || !is_percentage(own->sensitive))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "outliers is %g and sensitive %g; percentages, 0 to "
                         "100, are allowed",
                         own->outliers, own->sensitive);
    if (!(own->range >= 0 && own->range <= DBL_MAX) ||
        (own->range > 0 && own->outliers > 0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "range is %g with outliers %g; one of them is 0, and "
                         "range is finite and not negative",
                         own->range, own->outliers);
    if (own->solver > QRB_SQUEEZELLM_LLOYD || own->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "solver %u is not known, or reserved is %u and not 0",
                         own->solver, own->reserved);
    return qrb__quantizer_takes_no_options(ctx, options, method);
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    packed->unit = packed->cols;
    packed->groups = 1;
    packed->bits = options->bits;
    packed->precision = dtype == QRB_F64 ? QRB_F64 : QRB_F32;
}

struct solving {
    struct qrb__matrix_work *work;
    struct qrb__kmeans kmeans;
    struct qrb__outlier_limits limits;
    atomic_size_t first_bad; /* element of fisher; SIZE_MAX: none */
    size_t first;            /* row of the block */
    size_t room;             /* doubles of a worker */
    double *doubles;         /* [workers, room] */
    int32_t *labels;         /* [workers, cols] */
    size_t *row_start;       /* [rows + 1] of the outliers */
    double *losses;          /* [rows] */
};

/* A worker's part of the doubles. */
struct bench {
    double *w;       /* [cols] */
    double *fisher;  /* [cols] */
    double *dense;   /* [cols] w with 0 for outliers */
    double *weights; /* [cols] of the points of k-means */
    double *values;  /* [2^bits] of the row's table */
    double *scratch; /* of k-means */
};

static struct bench bench_of(const struct solving *job, size_t worker)
{
    const size_t cols = job->work->cols;
    double *w = job->doubles + worker * job->room;

    return (struct bench){ w,
                           w + cols,
                           w + 2 * cols,
                           w + 3 * cols,
                           w + 4 * cols,
                           w + 4 * cols + job->kmeans.clusters };
}

/* Squared gradients are finite and not negative. */
static void check_row(size_t row, size_t worker, void *arg)
{
    struct solving *job = arg;
    const size_t cols = job->work->cols;
    double *fisher = bench_of(job, worker).fisher;

    qrb__run_load(job->work->ctx, job->work->fisher, row * cols, cols, QRB_F64,
                  fisher);
    for (size_t j = 0; j < cols; j++) {
        size_t bad = atomic_load(&job->first_bad);

        if (fisher[j] >= 0 && fisher[j] <= DBL_MAX)
            continue;
        while (row * cols + j < bad &&
               !atomic_compare_exchange_weak(&job->first_bad, &bad,
                                             row * cols + j))
            ;
        return;
    }
}

static void count_row(size_t row, size_t worker, void *arg)
{
    const struct solving *job = arg;
    const struct bench bench = bench_of(job, worker);
    size_t count = 0;

    qrb__outliers_load_row(job->work, row, bench.w, bench.fisher);
    for (size_t j = 0; j < job->work->cols; j++)
        count += qrb__is_outlier(&job->limits, bench.w[j], bench.fisher[j]);
    job->row_start[row + 1] = count;
}

static float to_float(double x)
{
    const double most = (double)FLT_MAX;

    return (float)(x > most ? most : x < -most ? -most : x);
}

/* What the codes leave of the row's outliers. */
static void keep_outliers(const struct solving *job, const struct bench *bench,
                          size_t row, const int32_t *labels)
{
    const struct qrb__sparse *sparse = &job->work->packed->sparse;
    size_t at = job->row_start[row];

    for (size_t j = 0; j < job->work->cols; j++) {
        if (!qrb__is_outlier(&job->limits, bench->w[j], bench->fisher[j]))
            continue;
        sparse->columns[at] = (uint32_t)j;
        sparse->values[at] = to_float(bench->w[j] - bench->values[labels[j]]);
        at++;
    }
}

/* Sum of squared errors as k-means weighs them, for the values as stored. */
static double loss_of(const struct solving *job, const struct bench *bench,
                      const int32_t *labels)
{
    double loss = 0;

    for (size_t j = 0; j < job->work->cols; j++) {
        const double error = bench->dense[j] - bench->values[labels[j]];

        loss += bench->weights[j] * error * error;
    }
    return loss;
}

static void solve_row(size_t task, size_t worker, void *arg)
{
    const struct solving *job = arg;
    qrb_packed *packed = job->work->packed;
    const size_t row = job->first + task;
    const size_t cols = job->work->cols;
    const size_t clusters = job->kmeans.clusters;
    const struct bench bench = bench_of(job, worker);
    float *table = packed->table + row * clusters;
    int32_t *labels = job->labels + worker * cols;

    qrb__outliers_load_row(job->work, row, bench.w, bench.fisher);
    for (size_t j = 0; j < cols; j++) {
        const bool apart =
            qrb__is_outlier(&job->limits, bench.w[j], bench.fisher[j]);

        bench.dense[j] = apart ? 0 : bench.w[j];
        bench.weights[j] = bench.dense[j] != 0 ? bench.fisher[j] : 0;
    }
    qrb__kmeans_fit(&job->kmeans, bench.dense, bench.weights, cols,
                    bench.scratch, bench.values);
    for (size_t k = 0; k < clusters; k++) {
        table[k] = to_float(bench.values[k]);
        bench.values[k] = (double)table[k];
    }
    qrb__kmeans_label(bench.values, clusters, bench.dense, cols, labels);
    qrb__packed_write_codes(packed, row * cols, cols, labels);
    packed->scales[row] = 1;
    job->losses[row] = loss_of(job, &bench, labels);
    if (packed->sparse.row_start != NULL)
        keep_outliers(job, &bench, row, labels);
}

static qrb_status make_room(struct solving *job)
{
    const struct qrb__matrix_work *work = job->work;
    qrb_context *ctx = work->ctx;
    size_t workers = qrb_context_threads(ctx);
    size_t arrays;
    size_t doubles;
    size_t labels;

    if (workers > work->rows)
        workers = work->rows;
    if (!qrb__kmeans_scratch(&job->kmeans, work->cols, &job->room) ||
        !qrb__mul_size(4, work->cols, &arrays) ||
        !qrb__add_size(job->room, arrays, &job->room) ||
        !qrb__add_size(job->room, job->kmeans.clusters, &job->room) ||
        !qrb__mul_size(workers, job->room, &doubles) ||
        !qrb__mul_size(workers, work->cols, &labels))
        doubles = labels = 0; /* which is refused as well */
    job->doubles = qrb__alloc_array(ctx, doubles, sizeof *job->doubles);
    job->labels = qrb__alloc_array(ctx, labels, sizeof *job->labels);
    job->losses = qrb__alloc_array(ctx, work->rows, sizeof *job->losses);
    job->row_start =
        qrb__alloc_array(ctx, work->rows + 1, sizeof *job->row_start);
    work->packed->table = qrb__alloc_array(
        ctx, work->rows, job->kmeans.clusters * sizeof *work->packed->table);
    if (job->doubles == NULL || job->labels == NULL || job->losses == NULL ||
        job->row_start == NULL || work->packed->table == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "clusters of [%zu, %zu]",
                         work->rows, work->cols);
    return QRB_OK;
}

static qrb_status check_fisher(struct solving *job)
{
    const struct qrb__matrix_work *work = job->work;
    size_t bad;

    atomic_init(&job->first_bad, SIZE_MAX);
    qrb__parallel_for(work->ctx, work->rows, check_row, job);
    bad = atomic_load(&job->first_bad);
    if (bad == SIZE_MAX)
        return QRB_OK;
    if (qrb__view_first_not_finite(work->ctx, work->fisher) == bad)
        return qrb__fail(work->ctx, QRB_E_NOT_FINITE,
                         "fisher[%zu, %zu] is not finite", bad / work->cols,
                         bad % work->cols);
    return qrb__fail(work->ctx, QRB_E_INVALID_ARG,
                     "fisher[%zu, %zu] is below 0; sums of squares are "
                     "expected",
                     bad / work->cols, bad % work->cols);
}

/* Where each row's outliers begin, and room for them; none: no room. */
static qrb_status lay_out_outliers(struct solving *job)
{
    const struct qrb__matrix_work *work = job->work;
    struct qrb__sparse *sparse = &work->packed->sparse;
    size_t count;

    qrb__parallel_for(work->ctx, work->rows, count_row, job);
    for (size_t row = 0; row < work->rows; row++)
        job->row_start[row + 1] += job->row_start[row];
    count = job->row_start[work->rows];
    if (count == 0)
        return QRB_OK;
    sparse->columns =
        qrb__alloc_array(work->ctx, count, sizeof *sparse->columns);
    sparse->values = qrb__alloc_array(work->ctx, count, sizeof *sparse->values);
    if (sparse->columns == NULL || sparse->values == NULL)
        return qrb__fail(work->ctx, QRB_E_NO_MEMORY, "%zu outliers", count);
    sparse->row_start = job->row_start;
    return QRB_OK;
}

static qrb_status solve_rows(struct solving *job)
{
    struct qrb__matrix_work *work = job->work;
    double loss = 0;
    fenv_t host;

    for (job->first = 0; job->first < work->rows; job->first += BLOCK) {
        const size_t left = work->rows - job->first;
        const qrb_status status = qrb__cancelled(work->ctx);

        if (status != QRB_OK)
            return status;
        qrb__parallel_for(work->ctx, left < BLOCK ? left : BLOCK, solve_row,
                          job);
    }
    qrb__rounding_begin(&host);
    for (size_t row = 0; row < work->rows; row++)
        loss += job->losses[row];
    qrb__rounding_end(&host);
    work->loss = loss;
    return QRB_OK;
}

static qrb_status solve(const qrb_quantizer *quantizer,
                        struct qrb__matrix_work *work)
{
    const qrb_squeezellm_options *own = quantizer->method;
    const struct qrb__outliers outliers = { own->outliers, own->sensitive,
                                            own->range };
    struct solving job = {
        .work = work,
        .kmeans = { (size_t)1 << quantizer->options.bits,
                    own->solver == QRB_SQUEEZELLM_LLOYD },
    };
    qrb_status status = make_room(&job);

    if (status == QRB_OK)
        status = check_fisher(&job);
    if (status == QRB_OK)
        status = qrb__outliers_find(work, &outliers, &job.limits);
    if (status == QRB_OK)
        status = lay_out_outliers(&job);
    if (status == QRB_OK)
        status = solve_rows(&job);
    qrb__free(work->ctx, job.doubles);
    qrb__free(work->ctx, job.labels);
    qrb__free(work->ctx, job.losses);
    if (work->packed->sparse.row_start == NULL)
        qrb__free(work->ctx, job.row_start);
    return status;
}

static void decode(const qrb_packed *packed, size_t unit, const int32_t *codes,
                   size_t n, void *run)
{
    const float *table = packed->table + (unit << packed->bits);

    if (packed->precision == QRB_F64)
        for (size_t i = 0; i < n; i++)
            ((double *)run)[i] = (double)table[codes[i]];
    else
        for (size_t i = 0; i < n; i++)
            ((float *)run)[i] = table[codes[i]];
}

/* The table, which is all there is, is counted by the packed matrix. */
static double overhead(const qrb_packed *packed)
{
    (void)packed;
    return 0;
}

const struct qrb__quantizer_kind qrb__quantizer_squeezellm = {
    .kind = QRB_QUANTIZER_SQUEEZELLM,
    .name = "squeezellm",
    .has_bits = true,
    .needs = QRB__NEEDS_FISHER,
    .method_at = offsetof(qrb_quantizer_options, squeezellm),
    .method_defaults = &defaults,
    .check = check_options,
    .solve = solve,
    .layout = layout,
    .decode = decode,
    .overhead = overhead,
};
