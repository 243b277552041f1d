/* k-means of numbers: what both solvers share, and Lloyd's.
 *
 * An optimal cluster is a run of the sorted values, so a solution is where the
 * runs begin.  With the spans of the points an iteration of Lloyd's asks for k
 * means and k boundaries: O(k log n). */
#include "quant/kmeans.h"

#include <math.h>

#include "core/context.h"
#include "quant/kmeans_exact.h"
#include "quant/spans.h"

bool qrb__kmeans_scratch(const struct qrb__kmeans *options, size_t n,
                         size_t *doubles_out)
{
    size_t spans;
    size_t exact = 0;
    size_t starts;

    return qrb__spans_scratch(n, &spans) &&
           (options->lloyd ||
            qrb__kmeans_exact_scratch(options->clusters, n, &exact)) &&
           qrb__mul_size(options->clusters + 1, 1, &starts) &&
           qrb__add_size(spans, exact, doubles_out) &&
           qrb__add_size(*doubles_out, starts, doubles_out);
}

/* Whether x is of the lower one of two centroids. */
static bool is_lower(double x, double below, double above)
{
    return fabs(x - below) <= fabs(x - above);
}

void qrb__kmeans_label(const double *centroids, size_t clusters,
                       const double *values, size_t n, int32_t *labels)
{
    for (size_t i = 0; i < n; i++) {
        size_t low = 0;
        size_t high = clusters - 1;

        while (low < high) {
            const size_t middle = (low + high) / 2;

            if (is_lower(values[i], centroids[middle], centroids[middle + 1]))
                high = middle;
            else
                low = middle + 1;
        }
        labels[i] = (int32_t)low;
    }
}

/* Clusters of a solution in work. */
struct solution {
    const struct qrb__spans *spans;
    size_t clusters;  /* that have points */
    uint32_t *starts; /* [clusters + 1] */
};

static struct qrb__span cluster(const struct solution *solution, size_t t)
{
    return qrb__spans_of(solution->spans, solution->starts[t],
                         solution->starts[t + 1] - 1);
}

static double sum_of(const struct solution *solution)
{
    double sum = 0;

    for (size_t t = 0; t < solution->clusters; t++)
        sum += cluster(solution, t).spread;
    return sum;
}

/* Share of the clusters that the points [first, end) should have.  Where many
 * clusters are best, their density is as the cube root of the weight's (Panter
 * and Dite, Proc. IRE 1951).  From quantiles of the weight itself, iterations
 * end at sums that are 10 to 40 % larger, of 16 clusters of normal values. */
static double share_of(const struct qrb__spans *spans, size_t first, size_t end)
{
    const double weight = qrb__spans_of(spans, first, end - 1).weight;
    const double from = spans->mean[first > 0 ? first - 1 : 0];
    const double to = spans->mean[end < spans->count ? end : end - 1];

    return cbrt(weight * (to - from) * (to - from));
}

/* Points that are counted at once: an eighth of a cluster. */
static size_t next_of(const struct qrb__spans *spans, size_t clusters, size_t i)
{
    const size_t block = spans->count / (8 * clusters);
    const size_t next = i + (block > 0 ? block : 1);

    return next < spans->count ? next : spans->count;
}

/* Clusters of equal share, each of at least a point. */
static void start(struct solution *solution, size_t clusters)
{
    const struct qrb__spans *spans = solution->spans;
    uint32_t *starts = solution->starts;
    double total = 0;
    double below = 0;
    size_t i = 0;

    for (size_t at = 0, end; at < spans->count; at = end) {
        end = next_of(spans, clusters, at);
        total += share_of(spans, at, end);
    }
    solution->clusters = clusters;
    starts[0] = 0;
    starts[clusters] = (uint32_t)spans->count;
    for (size_t t = 1; t < clusters; t++) {
        const size_t most = spans->count - (clusters - t);
        size_t first;

        while (i < most && below < total * (double)t / (double)clusters) {
            const size_t end = next_of(spans, clusters, i);

            below += share_of(spans, i, end);
            i = end;
        }
        first = i > starts[t - 1] ? i : starts[t - 1] + 1;
        starts[t] = (uint32_t)(first < most ? first : most);
    }
}

/* The first point that is nearer to the upper of two means. */
static size_t boundary(const struct qrb__spans *spans, double below,
                       double above)
{
    size_t low = 0;
    size_t high = spans->count;

    while (low < high) {
        const size_t middle = (low + high) / 2;

        if (is_lower(spans->mean[middle], below, above))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Move the boundaries to the middles between means; clusters that lose all
 * points are given up.  Whether anything moved. */
static bool improve(struct solution *solution)
{
    const size_t clusters = solution->clusters;
    double below = cluster(solution, 0).mean;
    uint32_t begin = 0;
    size_t kept = 0;
    bool moved = false;

    for (size_t t = 0; t < clusters; t++) {
        const uint32_t old = solution->starts[t + 1];
        uint32_t end = old;

        if (t + 1 < clusters) {
            const double above = cluster(solution, t + 1).mean;

            end = (uint32_t)boundary(solution->spans, below, above);
            below = above;
        }
        moved |= end != old;
        if (end == begin)
            continue;
        solution->starts[kept++] = begin;
        begin = end;
    }
    solution->starts[kept] = begin;
    solution->clusters = kept;
    return moved;
}

double qrb__kmeans_fit(const struct qrb__kmeans *options, const double *values,
                       const double *weights, size_t n, double *scratch,
                       double *centroids)
{
    struct qrb__spans spans;
    struct solution solution = { &spans, 0, (uint32_t *)(void *)scratch };
    double *rest = scratch + options->clusters + 1;
    size_t spans_scratch;
    double sum;

    qrb__spans_scratch(n, &spans_scratch);
    qrb__spans_build(values, weights, n, rest, &spans);
    start(&solution,
          spans.count < options->clusters ? spans.count : options->clusters);
    if (spans.count > options->clusters) {
        for (size_t i = 0; i < QRB__KMEANS_LLOYD && improve(&solution); i++)
            ;
        if (!options->lloyd) {
            sum = sum_of(&solution);
            solution.clusters = options->clusters;
            qrb__kmeans_exact(&spans, options->clusters, sum,
                              rest + spans_scratch, solution.starts);
        }
    }
    sum = sum_of(&solution);
    for (size_t t = 0; t < options->clusters; t++)
        centroids[t] = t < solution.clusters ? ldexp(cluster(&solution, t).mean,
                                                     spans.value_exponent)
                                             : centroids[t - 1];
    return ldexp(sum, 2 * spans.value_exponent + spans.weight_exponent);
}
