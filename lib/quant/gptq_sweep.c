/* The sweep of GPTQ over the columns.
 *
 * Rows are independent once M is known.  A block of columns, wide enough for
 * the groups that begin in it (a panel), first gets what was made up for so
 * far, in one product over all rows; then each tile of rows is turned on its
 * side, so that a column lies dense, and swept on its own: a column is
 * rounded, its error goes to the next few columns at once, and to the rest of
 * the panel in one product for these few.  rows * cols^2 operations in
 * products, and rows * cols * (STRIP + a panel) more. */
#include "quant/gptq_work.h"

#include <string.h>

#include "tensor/cholesky.h"
#include "tensor/gemm.h"

enum {
    TILE = 64, /* rows */
    STRIP = 32 /* columns between products inside of a panel */
};

struct sweep {
    struct qrb__gptq_work *work;
    size_t first;    /* column of the panel, in the order of the sweep */
    size_t block;    /* columns that are swept */
    size_t width;    /* columns of the panel, >= block */
    double *panel;   /* [rows, width] W' of its columns */
    double *taken;   /* [rows, width] D_P M_PB */
    double *inverse; /* U_BB [width, width] */
    double *lower;   /* [width, width] M_BB read from its end */
    double *sides;   /* [workers, most, TILE] tiles on their side */
    double *errors;  /* [workers, STRIP, TILE] */
    double *group;   /* [workers, cols]: a row, or of it a group */
    int32_t *codes;  /* [workers, most_block, TILE] */
    size_t most;     /* columns of the widest panel */
    size_t most_block;
};

static const struct qrb__gptq *options_of(const struct sweep *sweep)
{
    return sweep->work->options;
}

/* Columns [place, end of its group) of a sweep that fits groups as it goes. */
static size_t group_length(const struct qrb__gptq_work *work, size_t place)
{
    const size_t left = work->problem->cols - place;

    return work->group < left ? work->group : left;
}

static bool fits_in_sweep(const struct qrb__gptq_work *work)
{
    return work->options->group_size != 0 && !work->options->static_groups;
}

static void fit(struct qrb__gptq_work *work, size_t row, size_t group,
                const double *w, size_t n)
{
    const struct qrb__grid_scale scale =
        qrb__grid_fit_f64(&work->options->grid, w, n);
    const size_t at = row * work->groups + group;

    work->out->scales[at] = scale.scale;
    work->out->zero_points[at] = scale.zero_point;
}

/* Scales that do not wait for the sweep, dead columns zeroed, and the columns
 * put in order.  Scales of whole rows still see the dead columns, as in the
 * published program; static groups do not. */
static void prepare_row(size_t row, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    struct qrb__gptq_work *work = sweep->work;
    const size_t cols = work->problem->cols;
    const double *w = work->problem->w + row * cols;
    double *zeroed = sweep->group + worker * cols;
    double *change = work->change + row * cols;

    if (work->options->group_size == 0)
        fit(work, row, 0, w, cols);
    for (size_t j = 0; j < cols; j++)
        zeroed[j] = work->dead[j] ? 0 : w[j];
    if (work->options->group_size != 0 && work->options->static_groups)
        for (size_t j = 0; j < cols; j += work->group)
            fit(work, row, j / work->group, zeroed + j, group_length(work, j));
    for (size_t j = 0; j < cols; j++)
        change[j] = zeroed[work->order[j]];
}

static void index_groups(const struct qrb__gptq_work *work)
{
    const bool swept = fits_in_sweep(work);

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

    if (!fits_in_sweep(work))
        return end;
    group = (end - 1) / work->group * work->group; /* the last that begins */
    if (group < first || group + group_length(work, group) <= end)
        return end;
    return group + group_length(work, group);
}

/* U of the panel: reading a triangle from its end turns an upper one into a
 * lower one. */
static void invert_panel(size_t task, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    const struct qrb__gptq_work *work = sweep->work;
    const size_t cols = work->problem->cols;
    const size_t n = sweep->width;
    const double *m = work->factor + sweep->first * (cols + 1);

    (void)task;
    (void)worker;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            sweep->lower[(n - 1 - i) * n + n - 1 - j] = m[i * cols + j];
    qrb__triangular_inverse(work->ctx, n, sweep->lower, n, sweep->inverse);
    for (size_t i = 0; i < n * n / 2; i++) {
        const double element = sweep->inverse[i];

        sweep->inverse[i] = sweep->inverse[n * n - 1 - i];
        sweep->inverse[n * n - 1 - i] = element;
    }
}

static void open_panel(const struct sweep *sweep)
{
    struct qrb__gptq_work *work = sweep->work;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    const size_t n = sweep->width;
    const struct qrb__gemm before = { .m = rows,
                                      .n = n,
                                      .k = sweep->first,
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

    qrb__parallel_for(work->ctx, 1, invert_panel, (void *)sweep);
    for (size_t i = 0; i < rows; i++)
        memcpy(sweep->panel + i * n, work->change + i * cols + sweep->first,
               n * sizeof *sweep->panel);
    if (sweep->first == 0)
        return;
    qrb__gemm_f64(work->ctx, &before, work->change, work->factor + sweep->first,
                  sweep->taken);
    qrb__gemm_f64(work->ctx, &made_up, sweep->taken, sweep->inverse,
                  sweep->panel);
}

/* A tile of rows in work. */
struct tile {
    const struct sweep *sweep;
    size_t row; /* the first */
    size_t rows;
    double *side;   /* [width, TILE] */
    double *errors; /* [STRIP, TILE] of the strip in work */
    double *group;  /* [group] */
    int32_t *codes; /* [block, TILE] */
    size_t scaled;  /* group whose scales these are */
    double scales[TILE];
    double zero_points[TILE];
};

/* Groups that begin in the block, as its beginning sees them. */
static void fit_groups_early(const struct tile *tile)
{
    const struct sweep *sweep = tile->sweep;
    struct qrb__gptq_work *work = sweep->work;
    const size_t end = sweep->first + sweep->block;
    size_t place = (sweep->first + work->group - 1) / work->group * work->group;

    for (; place < end; place += work->group)
        for (size_t r = tile->row; r < tile->row + tile->rows; r++)
            fit(work, r, place / work->group,
                sweep->panel + r * sweep->width + place - sweep->first,
                group_length(work, place));
}

/* The group that begins at column `c` of the panel, as it is by now. */
static void fit_group_late(const struct tile *tile, size_t c)
{
    struct qrb__gptq_work *work = tile->sweep->work;
    const size_t place = tile->sweep->first + c;
    const size_t n = group_length(work, place);

    for (size_t r = 0; r < tile->rows; r++) {
        for (size_t j = 0; j < n; j++)
            tile->group[j] = tile->side[(c + j) * TILE + r];
        fit(work, tile->row + r, place / work->group, tile->group, n);
    }
}

static void take_scales(struct tile *tile, size_t c)
{
    const struct qrb__gptq_work *work = tile->sweep->work;
    const size_t column = work->order[tile->sweep->first + c];
    const size_t group = work->out->group_index[column];

    if (group == tile->scaled)
        return;
    tile->scaled = group;
    for (size_t r = 0; r < tile->rows; r++) {
        const size_t at = (tile->row + r) * work->groups + group;

        tile->scales[r] = work->out->scales[at];
        tile->zero_points[r] = work->out->zero_points[at];
    }
}

/* Round column `c` of the panel, whose place takes the values; its error goes
 * to the columns before `end`. */
static void round_column(const struct tile *tile, size_t c, size_t end,
                         double *error)
{
    const struct sweep *sweep = tile->sweep;
    struct qrb__gptq_work *work = sweep->work;
    const double *u = sweep->inverse + c * sweep->width;
    const bool dead = work->dead[work->order[sweep->first + c]];
    double *column = tile->side + c * TILE;

    memcpy(error, column, tile->rows * sizeof *error);
    qrb__grid_code_each_f64(&work->options->grid, tile->scales,
                            tile->zero_points, column, tile->rows,
                            tile->codes + c * TILE, column);
    for (size_t r = 0; r < tile->rows; r++) {
        struct qrb__gptq_row *sums = work->sums + tile->row + r;

        error[r] = (error[r] - column[r]) / u[c];
        sums->loss += error[r] * error[r];
        if (!dead)
            sums->live_loss += error[r] * error[r];
    }
    for (size_t k = c + 1; k < end; k++) {
        double *later = tile->side + k * TILE;

        for (size_t r = 0; r < tile->rows; r++)
            later[r] -= error[r] * u[k];
    }
}

/* Take the errors of the strip [begin, end) from columns up to `last`. */
static void close_strip(const struct tile *tile, size_t begin, size_t end,
                        size_t last)
{
    const struct sweep *sweep = tile->sweep;
    const struct qrb__gemm rest = { .m = last - end,
                                    .n = tile->rows,
                                    .k = end - begin,
                                    .lda = sweep->width,
                                    .ldb = TILE,
                                    .ldc = TILE,
                                    .alpha = -1,
                                    .beta = 1,
                                    .transpose_a = true };

    qrb__gemm_f64(sweep->work->ctx, &rest,
                  sweep->inverse + begin * sweep->width + end, tile->errors,
                  tile->side + end * TILE);
}

/* Where the strip that begins at column `c` ends: groups that are fitted late
 * begin one. */
static size_t strip_end(const struct sweep *sweep, size_t c, bool late)
{
    const size_t group = sweep->work->group;
    size_t end = sweep->block - c < STRIP ? sweep->block : c + STRIP;

    if (late) {
        const size_t next = (sweep->first + c) / group * group + group;

        if (next - sweep->first < end)
            end = next - sweep->first;
    }
    return end;
}

static void sweep_columns(struct tile *tile)
{
    const struct sweep *sweep = tile->sweep;
    const bool swept = fits_in_sweep(sweep->work);
    const bool late = swept && options_of(sweep)->fresh;
    const size_t last = late ? sweep->width : sweep->block;
    size_t end;

    if (swept && !late)
        fit_groups_early(tile);
    for (size_t begin = 0; begin < sweep->block; begin = end) {
        end = strip_end(sweep, begin, late);
        if (late && (sweep->first + begin) % sweep->work->group == 0)
            fit_group_late(tile, begin);
        for (size_t c = begin; c < end; c++) {
            take_scales(tile, c);
            round_column(tile, c, end, tile->errors + (c - begin) * TILE);
        }
        close_strip(tile, begin, end, last);
    }
}

/* W becomes D where the sweep has been, and codes go where they belong. */
static void put_down(const struct tile *tile)
{
    const struct sweep *sweep = tile->sweep;
    struct qrb__gptq_work *work = sweep->work;
    const size_t cols = work->problem->cols;

    for (size_t r = 0; r < tile->rows; r++) {
        double *change = work->change + (tile->row + r) * cols + sweep->first;
        int32_t *codes = work->out->codes + (tile->row + r) * cols;
        struct qrb__gptq_row *sums = work->sums + tile->row + r;

        for (size_t c = 0; c < sweep->block; c++) {
            const size_t column = work->order[sweep->first + c];

            change[c] -= tile->side[c * TILE + r];
            codes[column] = tile->codes[c * TILE + r];
            if (!work->dead[column])
                sums->live_change += change[c] * change[c];
        }
    }
}

static void sweep_tile(size_t task, size_t worker, void *arg)
{
    const struct sweep *sweep = arg;
    const size_t rows = sweep->work->problem->rows;
    const size_t left = rows - task * TILE;
    struct tile tile = {
        .sweep = sweep,
        .row = task * TILE,
        .rows = left < TILE ? left : TILE,
        .side = sweep->sides + worker * sweep->most * TILE,
        .errors = sweep->errors + worker * STRIP * TILE,
        .group = sweep->group + worker * sweep->work->problem->cols,
        .codes = sweep->codes + worker * sweep->most_block * TILE,
        .scaled = SIZE_MAX,
    };

    for (size_t r = 0; r < tile.rows; r++) {
        const double *row = sweep->panel + (tile.row + r) * sweep->width;

        for (size_t c = 0; c < sweep->width; c++)
            tile.side[c * TILE + r] = row[c];
    }
    sweep_columns(&tile);
    put_down(&tile);
}

static qrb_status make_room(struct sweep *sweep)
{
    const struct qrb__gptq_work *work = sweep->work;
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
    if (!qrb__mul_size(sweep->most, TILE * sizeof *sweep->sides, &side) ||
        !qrb__mul_size(sweep->most_block, TILE * sizeof *sweep->codes, &codes))
        side = codes = 0; /* which is refused as well */
    sweep->panel =
        qrb__alloc_array(ctx, rows, sweep->most * sizeof *sweep->panel);
    sweep->taken =
        qrb__alloc_array(ctx, rows, sweep->most * sizeof *sweep->taken);
    sweep->inverse = qrb__alloc_array(ctx, sweep->most,
                                      sweep->most * sizeof *sweep->inverse);
    sweep->lower =
        qrb__alloc_array(ctx, sweep->most, sweep->most * sizeof *sweep->lower);
    sweep->sides = qrb__alloc_array(ctx, workers, side);
    sweep->errors =
        qrb__alloc_array(ctx, workers, STRIP * TILE * sizeof *sweep->errors);
    sweep->group = qrb__alloc_array(ctx, workers, cols * sizeof *sweep->group);
    sweep->codes = qrb__alloc_array(ctx, workers, codes);
    if (sweep->panel == NULL || sweep->taken == NULL ||
        sweep->inverse == NULL || sweep->lower == NULL ||
        sweep->sides == NULL || sweep->errors == NULL || sweep->group == NULL ||
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
    struct sweep sweep = { .work = work };
    qrb_status status = make_room(&sweep);

    if (status != QRB_OK)
        goto out;
    index_groups(work);
    qrb__parallel_for(ctx, rows, prepare_row, &sweep);
    for (sweep.first = 0; sweep.first < cols && status == QRB_OK;
         sweep.first += sweep.block) {
        const size_t left = cols - sweep.first;

        sweep.block = sweep.most_block < left ? sweep.most_block : left;
        sweep.width = panel_end(work, sweep.first) - sweep.first;
        open_panel(&sweep);
        qrb__parallel_for(ctx, rows / TILE + (rows % TILE != 0), sweep_tile,
                          &sweep);
        status = qrb__cancelled(ctx);
    }
out:
    qrb__free(ctx, sweep.panel);
    qrb__free(ctx, sweep.taken);
    qrb__free(ctx, sweep.inverse);
    qrb__free(ctx, sweep.lower);
    qrb__free(ctx, sweep.sides);
    qrb__free(ctx, sweep.errors);
    qrb__free(ctx, sweep.group);
    qrb__free(ctx, sweep.codes);
    return status;
}
