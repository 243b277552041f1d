/* Limits of outliers: order statistics of a matrix.
 *
 * A number of rank k is found 16 bits at a time from the top of its key, by
 * counting the keys that share the bits known so far: four passes over the
 * matrix, 512 KiB a worker and no copy. */
#include "quant/outliers.h"

#include <string.h>

#include "core/rounding.h"
#include "quant/ordered_bits.h"
#include "quant/packed.h"
#include "tensor/run.h"

enum { BITS = 16, COUNTS = 1 << BITS };

enum what { WEIGHTS, MAGNITUDES, SENSITIVITIES };

struct ranking {
    const struct qrb__matrix_work *work;
    const struct qrb__outlier_limits *limits; /* found so far */
    enum what what;
    unsigned shift;  /* of the bits that are counted */
    uint64_t prefix; /* the bits above them */
    size_t workers;
    double *rows;     /* [workers, 2, cols] */
    uint64_t *counts; /* [workers, COUNTS] */
};

void qrb__outliers_load_row(const struct qrb__matrix_work *work, size_t row,
                            double *w, double *fisher)
{
    const struct qrb__view copy = qrb__work_view(work);
    const double *scale = work->packed->input_scale;
    const size_t first = row * work->cols;

    qrb__run_load(work->ctx, &copy, first, work->cols, QRB_F64, w);
    qrb__run_load(work->ctx, work->fisher, first, work->cols, QRB_F64, fisher);
    if (scale != NULL)
        for (size_t j = 0; j < work->cols; j++)
            fisher[j] = fisher[j] / scale[j] / scale[j];
}

static void count_row(size_t row, size_t worker, void *arg)
{
    const struct ranking *ranking = arg;
    const size_t cols = ranking->work->cols;
    double *w = ranking->rows + 2 * worker * cols;
    double *fisher = w + cols;
    uint64_t *counts = ranking->counts + worker * COUNTS;

    qrb__outliers_load_row(ranking->work, row, w, fisher);
    for (size_t j = 0; j < cols; j++) {
        const double x = ranking->what == SENSITIVITIES ? fisher[j]
                         : ranking->what == WEIGHTS     ? w[j]
                                                        : fabs(w[j]);
        const uint64_t key = qrb__ordered_bits(x);

        if (ranking->what == MAGNITUDES &&
            fisher[j] > ranking->limits->sensitivity)
            continue; /* kept already */
        /* In two steps: all 64 bits are too many for one. */
        if (key >> ranking->shift >> BITS == ranking->prefix)
            counts[key >> ranking->shift & (COUNTS - 1)]++;
    }
}

/* The number of this rank, of which 1 is the largest, and how many are above
 * it. */
static void find_rank(struct ranking *ranking, enum what what, uint64_t rank,
                      double *out, uint64_t *above_out)
{
    const size_t workers = ranking->workers;
    uint64_t above = 0;

    ranking->what = what;
    ranking->prefix = 0;
    for (ranking->shift = 64; ranking->shift > 0;) {
        size_t bin = COUNTS;

        ranking->shift -= BITS;
        memset(ranking->counts, 0, workers * COUNTS * sizeof *ranking->counts);
        qrb__parallel_for(ranking->work->ctx, ranking->work->rows, count_row,
                          ranking);
        for (uint64_t sum = 0; above + sum < rank;) {
            above += sum;
            sum = 0;
            bin--;
            for (size_t i = 0; i < workers; i++)
                sum += ranking->counts[i * COUNTS + bin];
        }
        ranking->prefix = ranking->prefix << BITS | bin;
    }
    *out = qrb__ordered_number(ranking->prefix);
    *above_out = above;
}

/* Quantile by linear interpolation between ranks. */
static double quantile(struct ranking *ranking, double p)
{
    const size_t n = ranking->work->rows * ranking->work->cols;
    uint64_t above;
    double low;
    double high;
    double place;
    size_t at;
    fenv_t host;

    qrb__rounding_begin(&host);
    place = p * (double)(n - 1);
    at = (size_t)place;
    qrb__rounding_end(&host);
    find_rank(ranking, WEIGHTS, n - at, &low, &above);
    high = low;
    if (at + 1 < n)
        find_rank(ranking, WEIGHTS, n - at - 1, &high, &above);
    qrb__rounding_begin(&host);
    low += (high - low) * (place - (double)at);
    qrb__rounding_end(&host);
    return low;
}

static double by_range(struct ranking *ranking, double range)
{
    const double q1 = quantile(ranking, 0.25);
    const double q3 = quantile(ranking, 0.75);
    double limit = INFINITY;
    fenv_t host;

    qrb__rounding_begin(&host);
    if (q3 > q1)
        limit =
            fmax(fabs(q1 - range * (q3 - q1)), fabs(q3 + range * (q3 - q1)));
    qrb__rounding_end(&host);
    return limit;
}

static size_t share_of(size_t elements, double percent)
{
    size_t share;
    fenv_t host;

    qrb__rounding_begin(&host);
    share = (size_t)((double)elements * percent / 100);
    qrb__rounding_end(&host);
    return share < elements ? share : elements;
}

static void find(struct ranking *ranking, const struct qrb__outliers *options,
                 struct qrb__outlier_limits *limits)
{
    const size_t elements = ranking->work->rows * ranking->work->cols;
    const size_t sensitive = share_of(elements, options->sensitive);
    const size_t all = share_of(elements, options->percent);
    uint64_t kept = 0;
    uint64_t above;
    double magnitude;

    if (sensitive > 0)
        find_rank(ranking, SENSITIVITIES, sensitive, &limits->sensitivity,
                  &kept);
    if (options->range > 0) {
        limits->magnitude = by_range(ranking, options->range);
    } else if (all == elements) {
        limits->magnitude = 0;
    } else if (all > kept) {
        find_rank(ranking, MAGNITUDES, all - kept + 1, &magnitude, &above);
        limits->magnitude = nextafter(magnitude, INFINITY);
    }
}

qrb_status qrb__outliers_find(const struct qrb__matrix_work *work,
                              const struct qrb__outliers *options,
                              struct qrb__outlier_limits *out)
{
    qrb_context *ctx = work->ctx;
    struct qrb__outlier_limits limits = { INFINITY, INFINITY };
    struct ranking ranking = { .work = work, .limits = &limits };
    qrb_status status = QRB_OK;
    size_t room;

    if (options->percent > 0 || options->sensitive > 0 || options->range > 0) {
        ranking.workers = qrb_context_threads(ctx);
        if (ranking.workers > work->rows)
            ranking.workers = work->rows;
        if (!qrb__mul_size(2 * ranking.workers, work->cols, &room))
            room = 0; /* which is refused as well */
        ranking.rows = qrb__alloc_array(ctx, room, sizeof *ranking.rows);
        ranking.counts = qrb__alloc_array(ctx, ranking.workers * COUNTS,
                                          sizeof *ranking.counts);
        if (ranking.rows == NULL || ranking.counts == NULL) {
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "ranks of [%zu, %zu]",
                               work->rows, work->cols);
            goto out;
        }
        find(&ranking, options, &limits);
    }
    *out = limits;
out:
    qrb__free(ctx, ranking.rows);
    qrb__free(ctx, ranking.counts);
    return status;
}
