/* k-means of numbers: the example of the specification, a plain solver of
 * O(k n^2), and what holds for any values and weights. */
#include <float.h>
#include <math.h>

#include "core/random.h"
#include "harness.h"
#include "quant/kmeans.h"

enum { MOST = 700, CLUSTERS = 256 };

struct points {
    size_t n;
    double values[MOST];
    double weights[MOST];
};

struct answer {
    double cost;
    double centroids[CLUSTERS];
    int32_t labels[MOST];
};

static double random_at(uint64_t seed, size_t i)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    return qrb__random_normal(&random, i);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

/* Scratch is full of what is no number and ends where it was asked for. */
static struct answer fit(const struct qrb__kmeans *options,
                         const struct points *points)
{
    struct answer answer = { 0 };
    double *scratch;
    size_t n;

    ck_assert(qrb__kmeans_scratch(options, points->n, &n));
    scratch = allocate(n, sizeof *scratch);
    for (size_t i = 0; i < n; i++)
        scratch[i] = NAN;
    answer.cost = qrb__kmeans_fit(options, points->values, points->weights,
                                  points->n, scratch, answer.centroids);
    free(scratch);
    qrb__kmeans_label(answer.centroids, options->clusters, points->values,
                      points->n, answer.labels);
    return answer;
}

static struct answer fit_exact(const struct points *points, size_t clusters)
{
    const struct qrb__kmeans options = { clusters, false };

    return fit(&options, points);
}

/* The sum with each point at its label. */
static double cost_of(const struct points *points, const double *centroids,
                      const int32_t *labels)
{
    double cost = 0;

    for (size_t i = 0; i < points->n; i++) {
        const double error = points->values[i] - centroids[labels[i]];

        cost += points->weights[i] * error * error;
    }
    return cost;
}

/* The sum of the plain sorted solver, runs grown point by point. */
static double plain_cost(const struct points *points, size_t clusters)
{
    const size_t n = points->n;
    double *x = allocate(n, sizeof *x);
    double *w = allocate(n, sizeof *w);
    double *least = allocate((clusters + 1) * (n + 1), sizeof *least);
    double cost;

    for (size_t i = 0; i < n; i++) {
        size_t at = i;

        for (; at > 0 && x[at - 1] > points->values[i]; at--) {
            x[at] = x[at - 1];
            w[at] = w[at - 1];
        }
        x[at] = points->values[i];
        w[at] = points->weights[i];
    }
    for (size_t t = 0; t <= clusters; t++)
        for (size_t end = 0; end <= n; end++) {
            double *best = &least[t * (n + 1) + end];
            double weight = 0;
            double mean = 0;
            double spread = 0;

            *best = t == 0 && end > 0 ? INFINITY : 0;
            if (t == 0 || end == 0)
                continue;
            *best = INFINITY;
            for (size_t first = end; first-- > 0;) {
                const double before = least[(t - 1) * (n + 1) + first];
                const double distance = x[first] - mean;
                const double others = weight;

                weight += w[first];
                if (w[first] > 0) {
                    const double step = distance * w[first] / weight;

                    spread += others * distance * step;
                    mean += step;
                }
                if (before + spread < *best)
                    *best = before + spread;
            }
        }
    cost = least[clusters * (n + 1) + n];
    free(x);
    free(w);
    free(least);
    return cost;
}

static void assert_near(double a, double b)
{
    ck_assert_msg(fabs(a - b) <= 1e-9 * fmax(fabs(a), fabs(b)),
                  "%.17g is not %.17g", a, b);
}

/* Of unlike shapes; some weights are 0, and some values occur often. */
static struct points random_points(size_t n, int shape, uint64_t seed)
{
    struct points points = { .n = n };

    for (size_t i = 0; i < n; i++) {
        const double x = random_at(seed, i);
        const double w = random_at(seed + 1, i);

        points.values[i] = x;
        points.weights[i] = w * w;
        if (shape == 1) { /* a long tail, sparse weights */
            points.values[i] = x * x * x;
            points.weights[i] = w > 0 ? exp(5 * w) : 0;
        } else if (shape == 2) { /* few values, often */
            points.values[i] = rint(8 * x) / 8;
        } else if (shape == 3) { /* far from 0, one outlier, equal weights */
            points.values[i] = i == n / 2 ? -1e4 : 1000 + 1e-3 * x;
            points.weights[i] = 1;
        } else if (shape == 4) { /* weights over thirty powers of ten */
            points.weights[i] = pow(10, 10 * w);
        }
    }
    return points;
}

enum { SHAPES = 5 };

static struct points example(void)
{
    return (struct points){
        10,
        { -0.9, -0.85, -0.3, -0.1, 0, 0.05, 0.4, 0.45, 0.5, 1.2 },
        { 1, 4, 2, 1, 10, 1, 1, 8, 1, 0.5 },
    };
}

static void assert_answer(const struct answer *answer, const double *centroids,
                          double cost)
{
    const int32_t labels[] = { 0, 0, 1, 1, 1, 1, 2, 2, 2, 3 };

    ck_assert_double_eq_tol(answer->cost, cost, 1e-10);
    for (size_t t = 0; t < 4; t++)
        ck_assert_double_eq_tol(answer->centroids[t], centroids[t], 1e-9);
    ck_assert_mem_eq(answer->labels, labels, sizeof labels);
}

START_TEST(ten_points_are_those_of_the_specification)
{
    const double centroids[] = { -0.86, -0.046428571428, 0.45, 1.2 };
    const struct points points = example();
    const struct answer answer = fit_exact(&points, 4);

    assert_answer(&answer, centroids, 0.1693214286);
}
END_TEST

START_TEST(ten_points_with_zeros_masked_are_those_of_the_specification)
{
    const double centroids[] = { -0.86, -0.1625, 0.45, 1.2 };
    struct points points = example();
    struct answer answer;

    points.weights[4] = 0;
    answer = fit_exact(&points, 4);
    assert_answer(&answer, centroids, 0.093875);
}
END_TEST

START_TEST(ten_points_without_weights_are_those_of_the_specification)
{
    const double centroids[] = { -0.875, -0.0875, 0.45, 1.2 };
    struct points points = example();
    struct answer answer;

    for (size_t i = 0; i < points.n; i++)
        points.weights[i] = 0;
    answer = fit_exact(&points, 4);
    assert_answer(&answer, centroids, 0.078125);
}
END_TEST

/* Sizes around powers of two, where the table of spans has its seams. */
START_TEST(the_sum_is_that_of_the_plain_solver)
{
    const size_t sizes[] = { 1, 2, 3, 5, 16, 17, 31, 64, 65, 100, 127, 200 };
    const size_t counts[] = { 1, 2, 3, 4, 8, 16 };
    const int shape = _i;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        const struct points points =
            random_points(sizes[i], shape, 40 * i + (size_t)shape);

        for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
            const struct answer answer = fit_exact(&points, counts[k]);

            assert_near(answer.cost, plain_cost(&points, counts[k]));
        }
    }
}
END_TEST

START_TEST(the_sum_is_that_of_the_labels)
{
    for (int shape = 0; shape < SHAPES; shape++)
        for (int lloyd = 0; lloyd < 2; lloyd++) {
            const struct points points = random_points(300, shape, 7);
            const struct qrb__kmeans options = { 8, lloyd != 0 };
            const struct answer answer = fit(&options, &points);
            const double cost =
                cost_of(&points, answer.centroids, answer.labels);

            /* Lloyd's may stop before the labels are those of the means. */
            if (lloyd)
                ck_assert_double_le(cost, answer.cost * (1 + 1e-9));
            else
                assert_near(answer.cost, cost);
        }
}
END_TEST

/* Lloyd's algorithm on labels, from centroids that are points. */
static double lloyd_cost(const struct points *points, size_t clusters,
                         uint64_t seed)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 1);
    double centroids[CLUSTERS];
    int32_t labels[MOST];

    for (size_t t = 0; t < clusters; t++)
        centroids[t] = points->values[qrb__random_below(&random, t, points->n)];
    for (size_t step = 0; step < 100; step++)
        for (size_t t = 0; t < clusters; t++) {
            double weight = 0;
            double sum = 0;

            for (size_t i = 0; t == 0 && i < points->n; i++) {
                labels[i] = 0;
                for (size_t c = 1; c < clusters; c++)
                    if (fabs(points->values[i] - centroids[c]) <
                        fabs(points->values[i] - centroids[labels[i]]))
                        labels[i] = (int32_t)c;
            }
            for (size_t i = 0; i < points->n; i++)
                if (labels[i] == (int32_t)t) {
                    weight += points->weights[i];
                    sum += points->weights[i] * points->values[i];
                }
            if (weight > 0)
                centroids[t] = sum / weight;
        }
    return cost_of(points, centroids, labels);
}

START_TEST(no_start_of_lloyds_gets_below_the_exact_sum)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        const struct points points = random_points(200, shape, 11);
        const struct qrb__kmeans own = { 8, true };
        const double exact = fit_exact(&points, 8).cost;

        ck_assert_double_le(exact, fit(&own, &points).cost * (1 + 1e-12));
        for (uint64_t seed = 0; seed < 20; seed++)
            ck_assert_double_le(exact,
                                lloyd_cost(&points, 8, seed) * (1 + 1e-12));
    }
}
END_TEST

/* Of equal weights: clusters of a normal sample that begin well. */
START_TEST(lloyds_from_quantiles_ends_near_the_exact_sum)
{
    struct points points = random_points(600, 0, 13);
    const struct qrb__kmeans own = { 8, true };

    for (size_t i = 0; i < points.n; i++)
        points.weights[i] = 1;
    ck_assert_double_le(fit(&own, &points).cost,
                        1.2 * fit_exact(&points, 8).cost);
}
END_TEST

START_TEST(labels_do_not_fall_with_the_values)
{
    for (int shape = 0; shape < SHAPES; shape++) {
        const struct points points = random_points(200, shape, 17);
        const struct answer answer = fit_exact(&points, 16);

        for (size_t t = 1; t < 16; t++)
            ck_assert_double_le(answer.centroids[t - 1], answer.centroids[t]);
        for (size_t i = 0; i < points.n; i++)
            for (size_t j = 0; j < points.n; j++)
                ck_assert(points.values[i] > points.values[j] ||
                          answer.labels[i] <= answer.labels[j]);
    }
}
END_TEST

START_TEST(labels_are_the_nearest_and_of_two_the_lower)
{
    const double centroids[] = { -1, 0, 0.5, 2, 2, 2 };
    const double values[] = { -9, -0.5, -0.49, 0, 0.25, 1.25, 1.26, 2, 7 };
    const int32_t expected[] = { 0, 0, 1, 1, 1, 2, 3, 3, 3 };
    int32_t labels[9];

    qrb__kmeans_label(centroids, 6, values, 9, labels);
    ck_assert_mem_eq(labels, expected, sizeof labels);
}
END_TEST

START_TEST(few_values_are_met_and_the_last_centroid_is_repeated)
{
    const struct points points = { 7,
                                   { 3, -1, 0.1, 3, -1, 0.1, 5 },
                                   { 1, 2, 1e-30, 1e30, 1, 1, 0 } };

    for (int lloyd = 0; lloyd < 2; lloyd++) {
        const struct qrb__kmeans options = { 8, lloyd != 0 };
        const struct answer answer = fit(&options, &points);

        ck_assert_double_eq(answer.cost, 0);
        ck_assert_double_eq(answer.centroids[0], -1);
        ck_assert_double_eq(answer.centroids[1], 0.1);
        for (size_t t = 2; t < 8; t++)
            ck_assert_double_eq(answer.centroids[t], 3);
        ck_assert_int_eq(answer.labels[6], 2); /* by its distance */
    }
}
END_TEST

/* Powers of two change no digit; others no more than the last ones. */
START_TEST(scales_of_weights_and_values_change_nothing_else)
{
    const double scales[] = { 0x1p-500, 0x1p-40, 3, 0x1p80, 0x1p500 };

    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++)
        for (int lloyd = 0; lloyd < 2; lloyd++) {
            const struct qrb__kmeans options = { 8, lloyd != 0 };
            struct points points = random_points(300, 0, 19);
            const struct answer plain = fit(&options, &points);
            struct answer scaled;

            for (size_t i = 0; i < points.n; i++)
                points.weights[i] *= scales[s];
            scaled = fit(&options, &points);
            ck_assert_mem_eq(plain.labels, scaled.labels, sizeof plain.labels);
            for (size_t t = 0; t < 8; t++)
                ck_assert_double_eq_tol(plain.centroids[t], scaled.centroids[t],
                                        1e-12);
            for (size_t i = 0; i < points.n; i++)
                points.values[i] *= scales[s];
            scaled = fit(&options, &points);
            ck_assert_mem_eq(plain.labels, scaled.labels, sizeof plain.labels);
            for (size_t t = 0; t < 8; t++)
                ck_assert_double_eq_tol(plain.centroids[t] * scales[s],
                                        scaled.centroids[t], 1e-12 * scales[s]);
        }
}
END_TEST

/* Two heaps of ten points, each 1e-9 wide, whose distance is a billion times
 * that: differences of running sums of squares would have no digit left. */
START_TEST(narrow_clusters_far_apart_are_cut_where_they_should_be)
{
    struct points points = { .n = 20 };
    struct answer answer;

    for (size_t i = 0; i < 20; i++) {
        const double within = (double)(i % 10 < 5 ? i % 5 : 20 + i % 5);

        points.values[i] = (i < 10 ? -1 : 1) + 0x1p-35 * within;
        points.weights[i] = 1;
    }
    answer = fit_exact(&points, 4);
    for (size_t i = 0; i < 20; i++)
        ck_assert_int_eq(answer.labels[i], (int32_t)(i / 5));
    /* Five points one apart: 10 squares a cluster. */
    assert_near(answer.cost, 4 * 10 * 0x1p-70);
}
END_TEST

START_TEST(the_ends_of_the_doubles_give_finite_numbers)
{
    struct points points = random_points(100, 0, 23);
    const double scales[][2] = { { 1e307, 1e307 },
                                 { 1e-310, 1e-310 },
                                 { 1e307, 1e-310 } };

    for (size_t s = 0; s < 3; s++) {
        struct points scaled = points;
        struct answer answer;

        for (size_t i = 0; i < points.n; i++) {
            scaled.values[i] = scales[s][0] * points.values[i];
            scaled.weights[i] = scales[s][1] * points.weights[i];
        }
        answer = fit_exact(&scaled, 8);
        for (size_t t = 0; t < 8; t++)
            ck_assert(isfinite(answer.centroids[t]));
        for (size_t i = 0; i < points.n; i++)
            ck_assert_double_le(
                fabs(answer.centroids[answer.labels[i]] - scaled.values[i]),
                fabs(3 * scales[s][0]));
    }
}
END_TEST

START_TEST(order_of_the_points_does_not_matter)
{
    const struct points points = random_points(MOST, 1, 29);
    const struct answer answer = fit_exact(&points, 16);
    struct points turned = { .n = MOST };
    struct answer other;

    for (size_t i = 0; i < MOST; i++) {
        turned.values[i] = points.values[MOST - 1 - i];
        turned.weights[i] = points.weights[MOST - 1 - i];
    }
    other = fit_exact(&turned, 16);
    ck_assert_double_eq(answer.cost, other.cost);
    ck_assert_mem_eq(answer.centroids, other.centroids,
                     sizeof answer.centroids);
}
END_TEST

START_TEST(scratch_that_cannot_be_is_refused)
{
    const struct qrb__kmeans options = { 16, false };
    const struct qrb__kmeans lloyd = { 16, true };
    size_t n;

    ck_assert(!qrb__kmeans_scratch(&options, SIZE_MAX, &n));
    ck_assert(!qrb__kmeans_scratch(&options, (size_t)UINT32_MAX + 1, &n));
    ck_assert(!qrb__kmeans_scratch(&lloyd, SIZE_MAX / 8, &n));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kmeans");
    TCase *numbers = tcase_create("numbers");
    TCase *contracts = tcase_create("contracts");

    tcase_add_test(numbers, ten_points_are_those_of_the_specification);
    tcase_add_test(numbers,
                   ten_points_with_zeros_masked_are_those_of_the_specification);
    tcase_add_test(numbers,
                   ten_points_without_weights_are_those_of_the_specification);
    tcase_set_timeout(contracts, 60);
    tcase_add_loop_test(contracts, the_sum_is_that_of_the_plain_solver, 0,
                        SHAPES);
    tcase_add_test(contracts, the_sum_is_that_of_the_labels);
    tcase_add_test(contracts, no_start_of_lloyds_gets_below_the_exact_sum);
    tcase_add_test(contracts, lloyds_from_quantiles_ends_near_the_exact_sum);
    tcase_add_test(contracts, labels_do_not_fall_with_the_values);
    tcase_add_test(contracts, labels_are_the_nearest_and_of_two_the_lower);
    tcase_add_test(contracts,
                   few_values_are_met_and_the_last_centroid_is_repeated);
    tcase_add_test(contracts, scales_of_weights_and_values_change_nothing_else);
    tcase_add_test(contracts,
                   narrow_clusters_far_apart_are_cut_where_they_should_be);
    tcase_add_test(contracts, the_ends_of_the_doubles_give_finite_numbers);
    tcase_add_test(contracts, order_of_the_points_does_not_matter);
    tcase_add_test(contracts, scratch_that_cannot_be_is_refused);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, contracts);
    return run_suite(suite);
}
