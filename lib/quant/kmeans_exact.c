/* Exact k-means of sorted points by dynamic programming (Wu, "Optimal
 * quantization by matrix searching", J. Algorithms 1991; Wang and Song,
 * "Ckmeans.1d.dp", The R Journal 2011).
 *
 * With the least sum of t runs that end with point j
 *
 *     D_t[j] = min_i D_t-1[i - 1] + spread of the points i to j,
 *
 * the first point i of the last run, leftmost where sums are equal, does not
 * fall with j, nor with t.  So a layer is solved from its middle, whose i
 * bounds those on either side: O(k n log n) sums at worst.  Three bounds leave
 * few of them: i of the layer before; a run that begins where D_t-1 alone is
 * more than the best sum so far; and a j whose sum is beyond what another
 * solution needs for all points. */
#include "quant/kmeans_exact.h"

#include <math.h>

#include "core/context.h"

/* Sums are uncertain by their rounding, which must cut nothing off. */
#define SLACK (1 + 1e-9)

struct layer {
    const struct qrb__spans *spans;
    double limit;
    const double *before;        /* D_t-1 */
    const uint32_t *before_from; /* its i */
    size_t before_last;          /* its last j within the limit */
    double *sum;                 /* D_t */
    uint32_t *from;
    size_t last;
};

bool qrb__kmeans_exact_scratch(size_t clusters, size_t n, size_t *doubles_out)
{
    size_t from;

    /* Two layers of sums, and the i of all layers. */
    return n <= UINT32_MAX && qrb__mul_size(clusters, n, &from) &&
           qrb__mul_size(n, 2, doubles_out) &&
           qrb__add_size(*doubles_out, from / 2 + 1, doubles_out);
}

/* D_t[j] by a last run that begins in [low, high], high <= j. */
static double best_run(const struct layer *layer, size_t j, size_t low,
                       size_t high, size_t *from_out)
{
    const struct qrb__spans *spans = layer->spans;
    double best = INFINITY;
    size_t from = low;
    size_t i = low;

    while (i <= high && i < j) {
        const size_t level = qrb__spans_level(i, j);
        const size_t row = level * spans->count;
        /* The points below the middle of the block that holds i and j. */
        const size_t end = j >> level << level;
        const size_t stop = high < end ? high + 1 : end;
        const double *weight = spans->weight + row;
        const double *mean = spans->mean + row;
        const double *spread = spans->spread + row;
        const double weight_j = weight[j];
        const double mean_j = mean[j];
        const double spread_j = spread[j];

        for (; i < stop; i++) {
            const double before = layer->before[i - 1];
            const double distance = mean_j - mean[i];
            double sum;

            if (before >= best)
                goto out;
            sum =
                before + (spread[i] + spread_j +
                          distance * distance *
                              (weight[i] * weight_j / (weight[i] + weight_j)));
            if (sum < best) {
                best = sum;
                from = i;
            }
        }
    }
    if (i == j && i <= high && layer->before[j - 1] < best) {
        best = layer->before[j - 1];
        from = j;
    }
out:
    *from_out = from;
    return best;
}

/* D_t of j in [first, last], whose last runs begin in [low, high]. */
static void solve(struct layer *layer, size_t first, size_t last, size_t low,
                  size_t high)
{
    while (first <= last) {
        const size_t j = first + (last - first) / 2;
        const size_t known = j < layer->before_last ? j : layer->before_last;
        const size_t least = layer->before_from[known];
        size_t most = high < j ? high : j;
        size_t from;

        if (most > layer->before_last + 1)
            most = layer->before_last + 1;
        layer->sum[j] =
            best_run(layer, j, low > least ? low : least, most, &from);
        layer->from[j] = (uint32_t)from;
        if (layer->sum[j] > layer->limit) {
            layer->last = j - 1; /* and so is every later one */
            last = j - 1;
            continue;
        }
        if (j > first)
            solve(layer, first, j - 1, low, from);
        if (layer->last < j)
            return;
        first = j + 1;
        low = from;
    }
}

/* D_1, and the last j that is within the limit. */
static size_t solve_first(const struct qrb__spans *spans, double limit,
                          double *sum, uint32_t *from)
{
    size_t last = 0;

    for (size_t j = 0; j < spans->count; j++) {
        sum[j] = qrb__spans_of(spans, 0, j).spread;
        from[j] = 0;
        if (sum[j] > limit)
            break;
        last = j;
    }
    return last;
}

void qrb__kmeans_exact(const struct qrb__spans *spans, size_t clusters,
                       double limit, double *scratch, uint32_t *starts)
{
    const size_t n = spans->count;
    double *sums[2] = { scratch, scratch + n };
    uint32_t *from = (uint32_t *)(void *)(scratch + 2 * n); /* [clusters, n] */
    struct layer layer = { .spans = spans, .limit = limit * SLACK };
    size_t end = n;

    layer.last = solve_first(spans, layer.limit, sums[0], from);
    for (size_t t = 2; t <= clusters; t++) {
        /* As many points as runs must come after; of all runs, none. */
        const size_t last = n - 1 - (clusters - t);

        layer.before = sums[t % 2];
        layer.before_from = from + (t - 2) * n;
        layer.before_last = layer.last;
        layer.sum = sums[1 - t % 2];
        layer.from = from + (t - 1) * n;
        layer.last = last;
        solve(&layer, t < clusters ? t - 1 : last, last, t - 1, n - 1);
    }
    starts[clusters] = (uint32_t)n;
    for (size_t t = clusters; t-- > 0; end = starts[t])
        starts[t] = from[t * n + end - 1];
}
