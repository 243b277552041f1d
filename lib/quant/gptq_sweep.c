/* The sweep of GPTQ over the columns.
 *
 * Rows are independent once M is known.  A block of columns, wide enough for
 * the groups that begin in it (a panel), first gets what was made up for so
 * far, in one product over all rows; then each tile of rows is swept on its
 * own (gptq_tile.c).  rows * cols^2 operations in products, and
 * rows * cols * panel more; two panels of memory. */
#include "quant/gptq_work.h"

#include <string.h>

#include "tensor/cholesky.h"
#include "tensor/gemm.h"

struct sweep {
    struct qrb__gptq_panel panel;
    double *taken;  /* [rows, width] D_P M_PB */
    double *lower;  /* [width, width] M_BB read from its end */
    double *sides;  /* [workers, most, TILE] */
    double *errors; /* [workers, QRB__GPTQ_STRIP, TILE] */
    double *rows;   /* [workers, cols]: a row, or of it a group */
    int32_t *codes; /* [workers, most_block, TILE] */
    size_t most;    /* columns of the widest panel */
    size_t most_block;
};

/* Scales that do not wait for the sweep, dead columns zeroed, and the columns
 * put in order.  Scales of whole rows still see the dead columns, as in the
 * published program; static groups do not. */
static void prepare_row(size_t row, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    struct qrb__gptq_work *work = sweep->panel.work;
    const size_t cols = work->problem->cols;
    const double *w = work->problem->w + row * cols;
    double *zeroed = sweep->rows + worker * cols;
    double *change = work->change + row * cols;

    if (work->options->group_size == 0)
        qrb__gptq_fit(work, row, 0, w, cols);
    for (size_t j = 0; j < cols; j++)
        zeroed[j] = work->dead[j] ? 0 : w[j];
    if (work->options->group_size != 0 && work->options->static_groups)
        for (size_t j = 0; j < cols; j += work->group)
            qrb__gptq_fit(work, row, j / work->group, zeroed + j,
                          qrb__gptq_group_length(work, j));
    for (size_t j = 0; j < cols; j++)
        change[j] = zeroed[work->order[j]];
}

static void index_groups(const struct qrb__gptq_work *work)
{
    const bool swept = qrb__gptq_fits_in_sweep(work);

    for (size_t j = 0; j < work->problem->cols; j++) {
        const size_t column = work->order[j];

        work->out->group_index[column] =
            (uint32_t)((swept ? j : column) / work->group);
    }
}

/* Where the panel of the block that begins at `first` ends. */
static size_t panel_end(const struct qrb__gptq_work *work, size_t first)
{
    const size_t cols = work->problem->cols;
    const size_t left = cols - first;
    const size_t block = work->options->block_size;
    const size_t end = block < left ? first + block : cols;
    size_t group;

    if (!qrb__gptq_fits_in_sweep(work))
        return end;
    group = (end - 1) / work->group * work->group; /* the last that begins */
    if (group < first || group + qrb__gptq_group_length(work, group) <= end)
        return end;
    return group + qrb__gptq_group_length(work, group);
}

/* U of the panel: reading a triangle from its end turns an upper one into a
 * lower one. */
static void invert_panel(size_t task, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    const struct qrb__gptq_work *work = sweep->panel.work;
    const size_t cols = work->problem->cols;
    const size_t n = sweep->panel.width;
    const double *m = work->factor + sweep->panel.first * (cols + 1);

    (void)task;
    (void)worker;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            sweep->lower[(n - 1 - i) * n + n - 1 - j] = m[i * cols + j];
    qrb__triangular_inverse(work->ctx, n, sweep->lower, n,
                            sweep->panel.inverse);
    for (size_t i = 0; i < n * n / 2; i++) {
        const double element = sweep->panel.inverse[i];

        sweep->panel.inverse[i] = sweep->panel.inverse[n * n - 1 - i];
        sweep->panel.inverse[n * n - 1 - i] = element;
    }
}

static void open_panel(struct sweep *sweep)
{
    struct qrb__gptq_work *work = sweep->panel.work;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    const size_t n = sweep->panel.width;
    const struct qrb__gemm before = { .m = rows,
                                      .n = n,
                                      .k = sweep->panel.first,
                                      .lda = cols,
                                      .ldb = cols,
                                      .ldc = n,
                                      .alpha = 1 };
    const struct qrb__gemm made_up = { .m = rows,
                                       .n = n,
                                       .k = n,
                                       .lda = n,
                                       .ldb = n,
                                       .ldc = n,
                                       .alpha = 1,
                                       .beta = 1 };

    qrb__parallel_for(work->ctx, 1, invert_panel, sweep);
    for (size_t i = 0; i < rows; i++)
        memcpy(sweep->panel.values + i * n,
               work->change + i * cols + sweep->panel.first,
               n * sizeof *sweep->panel.values);
    if (sweep->panel.first == 0)
        return;
    qrb__gemm_f64(work->ctx, &before, work->change,
                  work->factor + sweep->panel.first, sweep->taken);
    qrb__gemm_f64(work->ctx, &made_up, sweep->taken, sweep->panel.inverse,
                  sweep->panel.values);
}

static void sweep_tile(size_t task, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    const struct qrb__gptq_scratch scratch = {
        sweep->sides + worker * sweep->most * QRB__GPTQ_TILE,
        sweep->errors + worker * QRB__GPTQ_STRIP * QRB__GPTQ_TILE,
        sweep->rows + worker * sweep->panel.work->problem->cols,
        sweep->codes + worker * sweep->most_block * QRB__GPTQ_TILE,
    };

    qrb__gptq_sweep_tile(&sweep->panel, task, &scratch);
}

static qrb_status make_room(struct sweep *sweep)
{
    const struct qrb__gptq_work *work = sweep->panel.work;
    qrb_context *ctx = work->ctx;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    const size_t workers = qrb_context_threads(ctx);
    const size_t block = work->options->block_size;
    size_t side;
    size_t codes;

    sweep->most_block = block < cols ? block : cols;
    for (size_t first = 0; first < cols; first += sweep->most_block) {
        const size_t width = panel_end(work, first) - first;

        sweep->most = width > sweep->most ? width : sweep->most;
    }
    if (!qrb__mul_size(sweep->most, QRB__GPTQ_TILE * sizeof *sweep->sides,
                       &side) ||
        !qrb__mul_size(sweep->most_block, QRB__GPTQ_TILE * sizeof *sweep->codes,
                       &codes))
        side = codes = 0; /* which is refused as well */
    sweep->panel.values =
        qrb__alloc_array(ctx, rows, sweep->most * sizeof *sweep->panel.values);
    sweep->taken =
        qrb__alloc_array(ctx, rows, sweep->most * sizeof *sweep->taken);
    sweep->panel.inverse = qrb__alloc_array(
        ctx, sweep->most, sweep->most * sizeof *sweep->panel.inverse);
    sweep->lower =
        qrb__alloc_array(ctx, sweep->most, sweep->most * sizeof *sweep->lower);
    sweep->sides = qrb__alloc_array(ctx, workers, side);
    sweep->errors = qrb__alloc_array(
        ctx, workers, QRB__GPTQ_STRIP * QRB__GPTQ_TILE * sizeof *sweep->errors);
    sweep->rows = qrb__alloc_array(ctx, workers, cols * sizeof *sweep->rows);
    sweep->codes = qrb__alloc_array(ctx, workers, codes);
    if (sweep->panel.values == NULL || sweep->taken == NULL ||
        sweep->panel.inverse == NULL || sweep->lower == NULL ||
        sweep->sides == NULL || sweep->errors == NULL || sweep->rows == NULL ||
        sweep->codes == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY,
                         "a panel of %zu columns of [%zu, %zu]", sweep->most,
                         rows, cols);
    return QRB_OK;
}

qrb_status qrb__gptq_sweep(struct qrb__gptq_work *work)
{
    qrb_context *ctx = work->ctx;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    struct sweep sweep = { .panel.work = work };
    qrb_status status = make_room(&sweep);

    if (status != QRB_OK)
        goto out;
    index_groups(work);
    qrb__parallel_for(ctx, rows, prepare_row, &sweep);
    for (sweep.panel.first = 0; sweep.panel.first < cols && status == QRB_OK;
         sweep.panel.first += sweep.panel.block) {
        const size_t left = cols - sweep.panel.first;

        sweep.panel.block = sweep.most_block < left ? sweep.most_block : left;
        sweep.panel.width =
            panel_end(work, sweep.panel.first) - sweep.panel.first;
        open_panel(&sweep);
        qrb__parallel_for(ctx,
                          rows / QRB__GPTQ_TILE + (rows % QRB__GPTQ_TILE != 0),
                          sweep_tile, &sweep);
        status = qrb__cancelled(ctx);
    }
out:
    qrb__free(ctx, sweep.panel.values);
    qrb__free(ctx, sweep.taken);
    qrb__free(ctx, sweep.panel.inverse);
    qrb__free(ctx, sweep.lower);
    qrb__free(ctx, sweep.sides);
    qrb__free(ctx, sweep.errors);
    qrb__free(ctx, sweep.rows);
    qrb__free(ctx, sweep.codes);
    return status;
}
