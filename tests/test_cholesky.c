/* Factors of positive definite matrices, and inverses of triangles, against
 * the products they stand for. */
#include <float.h>
#include <math.h>

#include "core/random.h"
#include "harness.h"
#include "tensor/cholesky.h"

static double random_at(uint64_t seed, size_t i)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    return 2 * qrb__random_uniform(&random, i) - 1;
}

static qrb_context *context_of(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

static double *matrix(size_t n)
{
    double *a = calloc(n * n, sizeof *a);

    ck_assert_ptr_nonnull(a);
    return a;
}

/* B B^T + I / 10 of a random B [n, n]; the upper triangle is NaN, which shows
 * if it is read. */
static double *positive_definite(size_t n, uint64_t seed)
{
    double *b = matrix(n);
    double *a = matrix(n);

    for (size_t i = 0; i < n * n; i++)
        b[i] = random_at(seed, i);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = i == j ? 0.1 : 0;

            for (size_t k = 0; k < n; k++)
                sum += b[i * n + k] * b[j * n + k];
            a[i * n + j] = j > i ? NAN : sum;
        }
    free(b);
    return a;
}

static double *copy_of(const double *a, size_t n)
{
    double *copy = matrix(n);

    memcpy(copy, a, n * n * sizeof *copy);
    return copy;
}

static size_t factor(qrb_context *ctx, size_t n, double *a)
{
    size_t size;
    double *scratch;
    size_t pivot;

    ck_assert(qrb__cholesky_scratch(n, &size));
    scratch = malloc(size * sizeof *scratch);
    ck_assert_ptr_nonnull(scratch);
    pivot = qrb__cholesky(ctx, n, a, scratch);
    free(scratch);
    return pivot;
}

static const size_t extents[] = { 1, 2, 3, 17, 64, 127, 128, 129, 200, 300 };
enum { EXTENTS = sizeof extents / sizeof *extents };

/* |A - L L^T| <= (n + 1) eps |L| |L^T| elementwise (Higham, theorem 10.3); the
 * rows of |L| have the square root of the diagonal as their length. */
START_TEST(the_factor_times_its_transpose_is_the_matrix)
{
    const size_t n = extents[_i];
    qrb_context *ctx = context_of(1);
    double *a = positive_definite(n, (uint64_t)n);
    double *l = copy_of(a, n);

    ck_assert_uint_eq(factor(ctx, n, l), n);
    for (size_t i = 0; i < n; i++) {
        ck_assert(l[i * n + i] > 0);
        for (size_t j = 0; j <= i; j++) {
            const double bound =
                8 * (double)(n + 1) * DBL_EPSILON *
                sqrt(a[i * n + i] * a[j * n + j]);
            double sum = 0;

            for (size_t k = 0; k <= j; k++)
                sum += l[i * n + k] * l[j * n + k];
            ck_assert_double_le(fabs(sum - a[i * n + j]), bound);
        }
        for (size_t j = i + 1; j < n; j++)
            ck_assert(isnan(l[i * n + j]));
    }
    free(a);
    free(l);
    qrb_context_destroy(ctx);
}
END_TEST

/* Beside the textbook's loops. */
START_TEST(the_factor_is_that_of_the_plain_loops)
{
    enum { N = 150 };
    qrb_context *ctx = context_of(2);
    double *a = positive_definite(N, 7);
    double *l = copy_of(a, N);

    ck_assert_uint_eq(factor(ctx, N, l), N);
    for (size_t j = 0; j < N; j++)
        for (size_t i = j; i < N; i++) {
            double sum = a[i * N + j];

            for (size_t k = 0; k < j; k++)
                sum -= a[i * N + k] * a[j * N + k];
            a[i * N + j] = i == j ? sqrt(sum) : sum / a[j * N + j];
            ck_assert_double_eq_tol(l[i * N + j], a[i * N + j], 1e-10);
        }
    free(a);
    free(l);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(threads_do_not_change_the_factor)
{
    enum { N = 1100 };
    double *one = matrix(N);
    double *four;
    qrb_context *ctx = context_of(1);

    /* Diagonally dominant. */
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            one[i * N + j] = i == j ? N : random_at(3, i * N + j);
    four = copy_of(one, N);
    ck_assert_uint_eq(factor(ctx, N, one), N);
    qrb_context_destroy(ctx);
    ctx = context_of(4);
    ck_assert_uint_eq(factor(ctx, N, four), N);
    ck_assert_mem_eq(one, four, N * N * sizeof *one);
    qrb_context_destroy(ctx);
    free(one);
    free(four);
}
END_TEST

static const size_t pivots[] = { 0, 5, 127, 128, 131, 199 };

START_TEST(a_matrix_that_is_not_positive_fails_at_its_pivot)
{
    enum { N = 200 };
    qrb_context *ctx = context_of(2);
    double *a = positive_definite(N, 9);

    a[pivots[_i] * (N + 1)] = -1;
    ck_assert_uint_eq(factor(ctx, N, a), pivots[_i]);
    free(a);
    a = positive_definite(N, 9);
    a[pivots[_i] * (N + 1)] = _i % 2 == 0 ? NAN : (double)INFINITY;
    ck_assert_uint_eq(factor(ctx, N, a), pivots[_i]);
    free(a);
    qrb_context_destroy(ctx);
}
END_TEST

/* Element of a matrix whose first columns are far from alike. */
static double integer_at(uint64_t seed, size_t i, size_t k)
{
    return round(9 * random_at(seed, 3 * i + k)) + 20 * (i == k);
}

/* A A^T of integers A [N, 3] is exactly of rank three: after three pivots there
 * is nothing but rounding errors, which are no pivots even where they are
 * positive. */
START_TEST(what_rounding_leaves_is_no_pivot)
{
    enum { N = 10, RANK = 3 };
    qrb_context *ctx = context_of(1);
    double *a = matrix(N);

    for (uint64_t seed = 0; seed < 50; seed++) {
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N; j++) {
                double sum = 0;

                for (size_t k = 0; k < RANK; k++)
                    sum += integer_at(seed, i, k) * integer_at(seed, j, k);
                a[i * N + j] = sum;
            }
        ck_assert_uint_eq(factor(ctx, N, a), RANK);
    }
    free(a);
    qrb_context_destroy(ctx);
}
END_TEST

/* |L X - I| <= n eps |L| |X|, rows of a dominant diagonal.  L has a gap after
 * its rows, which is NaN like what is above its diagonal. */
START_TEST(the_inverse_of_a_triangle_times_it_is_one)
{
    const size_t n = extents[_i];
    const size_t ld = n + 3;
    qrb_context *ctx = context_of(2);
    double *l = malloc(n * ld * sizeof *l);
    double *x = malloc(n * n * sizeof *x);

    ck_assert(l != NULL && x != NULL);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < ld; j++)
            l[i * ld + j] = j > i    ? NAN
                            : j == i ? 2 + random_at(1, i)
                                     : random_at(2, i * n + j) / (double)n;
    for (size_t i = 0; i < n * n; i++)
        x[i] = NAN;
    qrb__triangular_inverse(ctx, n, l, ld, x);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++) {
            double sum = 0;

            for (size_t k = 0; k <= i; k++)
                sum += l[i * ld + k] * x[k * n + j];
            ck_assert_double_eq_tol(sum, i == j, 1e-13);
            if (j > i)
                ck_assert_double_eq(x[i * n + j], 0);
        }
    free(l);
    free(x);
    qrb_context_destroy(ctx);
}
END_TEST

/* Quantizers 2.6, E1, damped: reading H from its end, the inverse of its
 * factor, read from its end again, is the upper factor of the inverse. */
START_TEST(the_factor_of_an_inverse_needs_no_inverse)
{
    static const double h[4][4] = { { 2.3125, .375, -1.1875, 0 },
                                    { .375, 1.75, .125, -.125 },
                                    { -1.1875, .125, 1.875, 1.125 },
                                    { 0, -.125, 1.125, 1.3125 } };
    static const double u[4][4] = {
        { 1.321269574, -0.517513604, 1.792394508, -1.564026695 },
        { 0, 0.766989913, -0.187830889, 0.230856544 },
        { 0, 0, 1.030339834, -0.871118694 },
        { 0, 0, 0, 0.866906303 },
    };
    qrb_context *ctx = context_of(1);
    double reversed[16];
    double inverse[16];

    for (size_t i = 0; i < 4; i++)
        for (size_t j = 0; j < 4; j++)
            reversed[(3 - i) * 4 + 3 - j] = h[i][j] + 0.018125 * (i == j);
    ck_assert_uint_eq(factor(ctx, 4, reversed), 4);
    qrb__triangular_inverse(ctx, 4, reversed, 4, inverse);
    for (size_t i = 0; i < 16; i++)
        ck_assert_double_eq_tol(inverse[15 - i], u[i / 4][i % 4], 5e-10);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(scratch_that_does_not_fit_is_refused)
{
    size_t size;

    ck_assert(qrb__cholesky_scratch(1, &size));
    ck_assert(!qrb__cholesky_scratch(SIZE_MAX, &size));
    ck_assert(!qrb__cholesky_scratch(SIZE_MAX / 2, &size));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cholesky");
    TCase *factors = tcase_create("factors");

    tcase_add_loop_test(factors, the_factor_times_its_transpose_is_the_matrix,
                        0, EXTENTS);
    tcase_add_test(factors, the_factor_is_that_of_the_plain_loops);
    tcase_add_test(factors, threads_do_not_change_the_factor);
    tcase_add_loop_test(factors,
                        a_matrix_that_is_not_positive_fails_at_its_pivot, 0,
                        sizeof pivots / sizeof *pivots);
    tcase_add_test(factors, what_rounding_leaves_is_no_pivot);
    tcase_add_loop_test(factors, the_inverse_of_a_triangle_times_it_is_one, 0,
                        EXTENTS);
    tcase_add_test(factors, the_factor_of_an_inverse_needs_no_inverse);
    tcase_add_test(factors, scratch_that_does_not_fit_is_refused);
    suite_add_tcase(suite, factors);
    return run_suite(suite);
}
