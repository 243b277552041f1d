/* GPTQ's sweep of a tile of rows over a panel.
 *
 * The tile is turned on its side, so that a column lies dense: a column is
 * rounded, its error goes to the next few columns at once, and to the rest of
 * the panel in one product for these few.  rows * width * (STRIP + width)
 * operations, of which all but STRIP's are in products. */
#include "quant/gptq_work.h"

#include <string.h>

#include "tensor/gemm.h"

size_t qrb__gptq_group_length(const struct qrb__gptq_work *work, size_t place)
{
    const size_t left = work->problem->cols - place;

    return work->group < left ? work->group : left;
}

bool qrb__gptq_fits_in_sweep(const struct qrb__gptq_work *work)
{
    return work->options->group_size != 0 && !work->options->static_groups;
}

void qrb__gptq_fit(struct qrb__gptq_work *work, size_t row, size_t group,
                   const double *w, size_t n)
{
    const struct qrb__grid_scale scale =
        qrb__grid_fit_f64(&work->options->grid, w, n);
    const size_t at = row * work->groups + group;

    work->out->scales[at] = scale.scale;
    work->out->zero_points[at] = scale.zero_point;
}

/* A tile of rows in work. */
struct tile {
    const struct qrb__gptq_panel *panel;
    size_t row; /* the first */
    size_t rows;
    const struct qrb__gptq_scratch *scratch;
    size_t scaled; /* group whose scales these are */
    double scales[QRB__GPTQ_TILE];
    double zero_points[QRB__GPTQ_TILE];
};

/* Groups that begin in the block, as its beginning sees them. */
static void fit_groups_early(const struct tile *tile)
{
    const struct qrb__gptq_panel *panel = tile->panel;
    struct qrb__gptq_work *work = panel->work;
    const size_t end = panel->first + panel->block;
    size_t place = (panel->first + work->group - 1) / work->group * work->group;

    for (; place < end; place += work->group)
        for (size_t r = tile->row; r < tile->row + tile->rows; r++)
            qrb__gptq_fit(work, r, place / work->group,
                          panel->values + r * panel->width + place -
                              panel->first,
                          qrb__gptq_group_length(work, place));
}

/* The group that begins at column `c` of the panel, as it is by now. */
static void fit_group_late(const struct tile *tile, size_t c)
{
    struct qrb__gptq_work *work = tile->panel->work;
    const size_t place = tile->panel->first + c;
    const size_t n = qrb__gptq_group_length(work, place);

    for (size_t r = 0; r < tile->rows; r++) {
        for (size_t j = 0; j < n; j++)
            tile->scratch->group[j] =
                tile->scratch->side[(c + j) * QRB__GPTQ_TILE + r];
        qrb__gptq_fit(work, tile->row + r, place / work->group,
                      tile->scratch->group, n);
    }
}

static void take_scales(struct tile *tile, size_t c)
{
    const struct qrb__gptq_work *work = tile->panel->work;
    const size_t column = work->order[tile->panel->first + c];
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
    const struct qrb__gptq_panel *panel = tile->panel;
    struct qrb__gptq_work *work = panel->work;
    const double *u = panel->inverse + c * panel->width;
    const bool dead = work->dead[work->order[panel->first + c]];
    double *column = tile->scratch->side + c * QRB__GPTQ_TILE;

    memcpy(error, column, tile->rows * sizeof *error);
    qrb__grid_code_each_f64(&work->options->grid, tile->scales,
                            tile->zero_points, column, tile->rows,
                            tile->scratch->codes + c * QRB__GPTQ_TILE, column);
    for (size_t r = 0; r < tile->rows; r++) {
        struct qrb__gptq_row *sums = work->sums + tile->row + r;

        error[r] = (error[r] - column[r]) / u[c];
        sums->loss += error[r] * error[r];
        if (!dead)
            sums->live_loss += error[r] * error[r];
    }
    for (size_t k = c + 1; k < end; k++) {
        double *later = tile->scratch->side + k * QRB__GPTQ_TILE;

        for (size_t r = 0; r < tile->rows; r++)
            later[r] -= error[r] * u[k];
    }
}

/* Take the errors of the strip [begin, end) from columns up to `last`. */
static void close_strip(const struct tile *tile, size_t begin, size_t end,
                        size_t last)
{
    const struct qrb__gptq_panel *panel = tile->panel;
    const struct qrb__gemm rest = { .m = last - end,
                                    .n = tile->rows,
                                    .k = end - begin,
                                    .lda = panel->width,
                                    .ldb = QRB__GPTQ_TILE,
                                    .ldc = QRB__GPTQ_TILE,
                                    .alpha = -1,
                                    .beta = 1,
                                    .transpose_a = true };

    qrb__gemm_f64(
        panel->work->ctx, &rest, panel->inverse + begin * panel->width + end,
        tile->scratch->errors, tile->scratch->side + end * QRB__GPTQ_TILE);
}

/* Where the strip that begins at column `c` ends: groups that are fitted late
 * begin one. */
static size_t strip_end(const struct qrb__gptq_panel *panel, size_t c,
                        bool late)
{
    const size_t group = panel->work->group;
    size_t end =
        panel->block - c < QRB__GPTQ_STRIP ? panel->block : c + QRB__GPTQ_STRIP;

    if (late) {
        const size_t next = (panel->first + c) / group * group + group;

        if (next - panel->first < end)
            end = next - panel->first;
    }
    return end;
}

static void sweep_columns(struct tile *tile)
{
    const struct qrb__gptq_panel *panel = tile->panel;
    const bool swept = qrb__gptq_fits_in_sweep(panel->work);
    const bool late = swept && panel->work->options->fresh;
    const size_t last = late ? panel->width : panel->block;
    size_t end;

    if (swept && !late)
        fit_groups_early(tile);
    for (size_t begin = 0; begin < panel->block; begin = end) {
        end = strip_end(panel, begin, late);
        if (late && (panel->first + begin) % panel->work->group == 0)
            fit_group_late(tile, begin);
        for (size_t c = begin; c < end; c++) {
            take_scales(tile, c);
            round_column(tile, c, end,
                         tile->scratch->errors + (c - begin) * QRB__GPTQ_TILE);
        }
        close_strip(tile, begin, end, last);
    }
}

/* W becomes D where the sweep has been, and codes go where they belong. */
static void put_down(const struct tile *tile)
{
    const struct qrb__gptq_panel *panel = tile->panel;
    struct qrb__gptq_work *work = panel->work;
    const size_t cols = work->problem->cols;

    for (size_t r = 0; r < tile->rows; r++) {
        double *change = work->change + (tile->row + r) * cols + panel->first;
        int32_t *codes = work->out->codes + (tile->row + r) * cols;
        struct qrb__gptq_row *sums = work->sums + tile->row + r;

        for (size_t c = 0; c < panel->block; c++) {
            const size_t column = work->order[panel->first + c];

            change[c] -= tile->scratch->side[c * QRB__GPTQ_TILE + r];
            codes[column] = tile->scratch->codes[c * QRB__GPTQ_TILE + r];
            if (!work->dead[column])
                sums->live_change += change[c] * change[c];
        }
    }
}

void qrb__gptq_sweep_tile(const struct qrb__gptq_panel *panel, size_t tile,
                          const struct qrb__gptq_scratch *scratch)
{
    const size_t first = tile * QRB__GPTQ_TILE;
    const size_t left = panel->work->problem->rows - first;
    struct tile work = {
        .panel = panel,
        .row = first,
        .rows = left < QRB__GPTQ_TILE ? left : QRB__GPTQ_TILE,
        .scratch = scratch,
        .scaled = SIZE_MAX,
    };

    for (size_t r = 0; r < work.rows; r++) {
        const double *row = panel->values + (first + r) * panel->width;

        for (size_t c = 0; c < panel->width; c++)
            scratch->side[c * QRB__GPTQ_TILE + r] = row[c];
    }
    sweep_columns(&work);
    put_down(&work);
}
