/* Round to nearest on the grid of GPTQ: what is kept where the sweep does not
 * help, and what it is measured against.
 *
 * tr(D H D^T) is |D M|^2 less what the damping adds, so that half of a product
 * with H does.  Rows are compared chunk by chunk, and no further than until
 * round to nearest has lost: at most rows * cols^2 operations; a chunk of rows
 * of memory, twice. */
#include "quant/gptq_work.h"

#include "core/rounding.h"
#include "tensor/gemm.h"

enum {
    CHUNK = 512,   /* rows */
    COLUMNS = 1024 /* of a product */
};

struct rounding {
    struct qrb__gptq_work *work;
    size_t first;    /* row of the chunk */
    size_t rows;     /* of the chunk */
    double *values;  /* [workers, cols] */
    int32_t *codes;  /* [workers, cols] */
    double *change;  /* [CHUNK, cols] D in the order of the sweep */
    double *product; /* [CHUNK, COLUMNS] columns of D M */
    double *sums;    /* [CHUNK] of a chunk's rows, less the damping */
};

static void round_row(size_t row, size_t worker, void *arg)
{
    struct qrb__gptq_work *work = arg;
    const size_t cols = work->problem->cols;
    const double *w = work->problem->w + row * cols;

    (void)worker;
    for (size_t j = 0; j < cols; j += work->group) {
        const size_t n = qrb__gptq_group_length(work, j);
        const size_t at = row * work->groups + j / work->group;
        const struct qrb__grid_scale scale =
            qrb__grid_fit_f64(&work->options->grid, w + j, n);

        work->out->scales[at] = scale.scale;
        work->out->zero_points[at] = scale.zero_point;
        qrb__grid_encode_f64(&work->options->grid, &scale, w + j, n,
                             work->out->codes + row * cols + j);
    }
}

void qrb__gptq_round(struct qrb__gptq_work *work)
{
    for (size_t j = 0; j < work->problem->cols; j++)
        work->out->group_index[j] = (uint32_t)(j / work->group);
    qrb__parallel_for(work->ctx, work->problem->rows, round_row, work);
}

/* D of one row; dead columns do not count. */
static void change_row(size_t task, size_t worker, void *arg)
{
    const struct rounding *rounding = arg;
    const struct qrb__gptq_work *work = rounding->work;
    const size_t cols = work->problem->cols;
    const double *w = work->problem->w + (rounding->first + task) * cols;
    double *values = rounding->values + worker * cols;
    int32_t *codes = rounding->codes + worker * cols;
    double *change = rounding->change + task * cols;
    double sum = 0;

    for (size_t j = 0; j < cols; j += work->group) {
        const size_t n = qrb__gptq_group_length(work, j);
        const struct qrb__grid_scale scale =
            qrb__grid_fit_f64(&work->options->grid, w + j, n);

        qrb__grid_encode_f64(&work->options->grid, &scale, w + j, n, codes);
        qrb__grid_decode_f64(&scale, codes, n, values + j);
    }
    for (size_t j = 0; j < cols; j++) {
        const size_t column = work->order[j];

        change[j] = work->dead[column] ? 0 : w[column] - values[column];
        sum += change[j] * change[j];
    }
    rounding->sums[task] = -work->added * sum;
}

struct squares {
    const struct rounding *rounding;
    size_t columns;
};

static void add_squares(size_t task, size_t worker, void *arg)
{
    const struct squares *squares = arg;
    const double *row = squares->rounding->product + task * squares->columns;
    double sum = 0;

    (void)worker;
    for (size_t j = 0; j < squares->columns; j++)
        sum += row[j] * row[j];
    squares->rounding->sums[task] += sum;
}

/* tr(D H D^T) over the rows of a chunk. */
static double chunk_error(struct rounding *rounding)
{
    const struct qrb__gptq_work *work = rounding->work;
    const size_t cols = work->problem->cols;
    double error = 0;
    fenv_t host;

    qrb__rounding_begin(&host);
    qrb__parallel_for(work->ctx, rounding->rows, change_row, rounding);
    for (size_t j = 0; j < cols; j += COLUMNS) {
        const size_t n = cols - j < COLUMNS ? cols - j : COLUMNS;
        const struct qrb__gemm product = { .m = rounding->rows,
                                           .n = n,
                                           .k = j + n,
                                           .lda = cols,
                                           .ldb = cols,
                                           .ldc = n,
                                           .alpha = 1 };
        struct squares squares = { rounding, n };

        qrb__gemm_f64(work->ctx, &product, rounding->change, work->factor + j,
                      rounding->product);
        qrb__parallel_for(work->ctx, rounding->rows, add_squares, &squares);
    }
    for (size_t i = 0; i < rounding->rows; i++)
        error += rounding->sums[i];
    qrb__rounding_end(&host);
    return error > 0 ? error : 0;
}

qrb_status qrb__gptq_round_is_better(struct qrb__gptq_work *work, double error,
                                     double noise, bool *better_out)
{
    qrb_context *ctx = work->ctx;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    const size_t workers = qrb_context_threads(ctx);
    const size_t chunk = rows < CHUNK ? rows : CHUNK;
    struct rounding rounding = { .work = work };
    double sum = 0;
    qrb_status status = QRB_OK;

    rounding.values =
        qrb__alloc_array(ctx, workers, cols * sizeof *rounding.values);
    rounding.codes =
        qrb__alloc_array(ctx, workers, cols * sizeof *rounding.codes);
    rounding.change =
        qrb__alloc_array(ctx, chunk, cols * sizeof *rounding.change);
    rounding.product = qrb__alloc_array(ctx, chunk,
                                        (cols < COLUMNS ? cols : COLUMNS) *
                                            sizeof *rounding.product);
    rounding.sums = qrb__alloc_array(ctx, chunk, sizeof *rounding.sums);
    if (rounding.values == NULL || rounding.codes == NULL ||
        rounding.change == NULL || rounding.product == NULL ||
        rounding.sums == NULL) {
        status =
            qrb__fail(ctx, QRB_E_NO_MEMORY,
                      "rounding of [%zu, %zu] to compare with", chunk, cols);
        goto out;
    }
    for (rounding.first = 0;
         rounding.first < rows && sum + noise < error && status == QRB_OK;
         rounding.first += chunk) {
        const size_t left = rows - rounding.first;

        rounding.rows = chunk < left ? chunk : left;
        sum += chunk_error(&rounding);
        status = qrb__cancelled(ctx);
    }
    *better_out = sum + noise < error;
out:
    qrb__free(ctx, rounding.values);
    qrb__free(ctx, rounding.codes);
    qrb__free(ctx, rounding.change);
    qrb__free(ctx, rounding.product);
    qrb__free(ctx, rounding.sums);
    return status;
}
