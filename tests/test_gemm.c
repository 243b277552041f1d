/* Matrix products against a plain triple loop in double: every transposition,
 * odd extents, rows with gaps, batches, any number of threads. */
#include <float.h>
#include <math.h>

#include "core/random.h"
#include "guarded.h"
#include "harness.h"
#include "tensor/gemm.h"

/* One operand: rows of `columns` elements, `apart` elements apart, the last
 * of them right before a guard page. */
struct matrix {
    struct guarded pages;
    size_t rows;
    size_t columns;
    size_t apart;
};

static struct matrix matrix_create(size_t rows, size_t columns, size_t gap,
                                   size_t element)
{
    struct matrix m = { .rows = rows,
                        .columns = columns,
                        .apart = columns + gap };

    m.pages = guarded_create(((rows - 1) * m.apart + columns) * element);
    return m;
}

static void *matrix_memory(const struct matrix *m)
{
    return guarded_memory(&m->pages);
}

static double random_at(uint64_t seed, size_t i)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    return 2 * qrb__random_uniform(&random, i) - 1;
}

/* Gaps hold NaN, so that a kernel that reads them shows. */
static void fill_f32(const struct matrix *m, uint64_t seed)
{
    float *x = matrix_memory(m);

    for (size_t i = 0; i < m->rows; i++)
        for (size_t j = 0; j < m->apart; j++)
            if (j < m->columns)
                x[i * m->apart + j] = (float)random_at(seed, i * 4096 + j);
            else if (i + 1 < m->rows)
                x[i * m->apart + j] = NAN;
}

static void fill_f64(const struct matrix *m, uint64_t seed)
{
    double *x = matrix_memory(m);

    for (size_t i = 0; i < m->rows; i++)
        for (size_t j = 0; j < m->columns; j++)
            x[i * m->apart + j] = random_at(seed, i * 4096 + j);
}

struct example {
    size_t m;
    size_t n;
    size_t k;
    int flags;   /* 1: A transposed, 2: B transposed, 4: beta is not 0 */
    size_t step; /* elements of C from one that is checked to the next */
};

static struct qrb__gemm shape_of(const struct example *e, size_t lda,
                                 size_t ldb, size_t ldc)
{
    return (struct qrb__gemm){ .m = e->m,
                               .n = e->n,
                               .k = e->k,
                               .lda = lda,
                               .ldb = ldb,
                               .ldc = ldc,
                               .alpha = 1.25,
                               .beta = e->flags & 4 ? -0.5 : 0,
                               .transpose_a = (e->flags & 1) != 0,
                               .transpose_b = (e->flags & 2) != 0 };
}

/* |found - exact| is at most (k + 4) u (|alpha| sum |a b| + |beta c|), u half
 * of eps, for any order of the sum. */
static void check_f32(qrb_context *ctx, const struct example *e)
{
    struct matrix a = e->flags & 1 ? matrix_create(e->k, e->m, 3, sizeof(float))
                                   : matrix_create(e->m, e->k, 1, sizeof(float));
    struct matrix b = e->flags & 2 ? matrix_create(e->n, e->k, 2, sizeof(float))
                                   : matrix_create(e->k, e->n, 5, sizeof(float));
    struct matrix c = matrix_create(e->m, e->n, 4, sizeof(float));
    struct matrix before = matrix_create(e->m, e->n, 4, sizeof(float));
    const struct qrb__gemm shape = shape_of(e, a.apart, b.apart, c.apart);
    const float *x = matrix_memory(&a);
    const float *y = matrix_memory(&b);
    float *z = matrix_memory(&c);
    float *old = matrix_memory(&before);

    fill_f32(&a, 1);
    fill_f32(&b, 2);
    fill_f32(&c, 3);
    if (shape.beta == 0)
        for (size_t i = 0; i < e->m; i++)
            for (size_t j = 0; j < e->n; j++)
                z[i * c.apart + j] = NAN;
    memcpy(old, z, c.pages.bytes);
    qrb__gemm_f32(ctx, &shape, x, y, z);
    for (size_t i = 0; i < e->m; i++)
        for (size_t j = i % e->step; j < e->n; j += e->step) {
            const double was =
                shape.beta == 0 ? 0 : (double)old[i * c.apart + j];
            double exact = shape.beta * was;
            double size = fabs(exact);

            for (size_t p = 0; p < e->k; p++) {
                const double term =
                    shape.alpha *
                    (double)(e->flags & 1 ? x[p * a.apart + i]
                                          : x[i * a.apart + p]) *
                    (double)(e->flags & 2 ? y[j * b.apart + p]
                                          : y[p * b.apart + j]);

                exact += term;
                size += fabs(term);
            }
            if (!(fabs((double)z[i * c.apart + j] - exact) <=
                  ((double)e->k + 4) * 0.5 * FLT_EPSILON * size))
                ck_abort_msg("[%zu, %zu, %zu] flags %d at (%zu, %zu): found "
                             "%.9g, expected %.9g",
                             e->m, e->n, e->k, e->flags, i, j,
                             (double)z[i * c.apart + j], exact);
        }
    for (size_t i = 0; i + 1 < e->m; i++)
        ck_assert_mem_eq(z + i * c.apart + e->n, old + i * c.apart + e->n,
                         4 * sizeof *z);
    guarded_destroy(&a.pages);
    guarded_destroy(&b.pages);
    guarded_destroy(&c.pages);
    guarded_destroy(&before.pages);
}

static void check_f64(qrb_context *ctx, const struct example *e)
{
    struct matrix a = e->flags & 1
                          ? matrix_create(e->k, e->m, 3, sizeof(double))
                          : matrix_create(e->m, e->k, 1, sizeof(double));
    struct matrix b = e->flags & 2
                          ? matrix_create(e->n, e->k, 2, sizeof(double))
                          : matrix_create(e->k, e->n, 5, sizeof(double));
    struct matrix c = matrix_create(e->m, e->n, 4, sizeof(double));
    struct matrix before = matrix_create(e->m, e->n, 4, sizeof(double));
    const struct qrb__gemm shape = shape_of(e, a.apart, b.apart, c.apart);
    const double *x = matrix_memory(&a);
    const double *y = matrix_memory(&b);
    double *z = matrix_memory(&c);
    double *old = matrix_memory(&before);

    fill_f64(&a, 1);
    fill_f64(&b, 2);
    fill_f64(&c, 3);
    memcpy(old, z, c.pages.bytes);
    qrb__gemm_f64(ctx, &shape, x, y, z);
    for (size_t i = 0; i < e->m; i++)
        for (size_t j = i % e->step; j < e->n; j += e->step) {
            double exact = shape.beta * old[i * c.apart + j];
            double size = fabs(exact);

            for (size_t p = 0; p < e->k; p++) {
                const double term =
                    shape.alpha *
                    (e->flags & 1 ? x[p * a.apart + i] : x[i * a.apart + p]) *
                    (e->flags & 2 ? y[j * b.apart + p] : y[p * b.apart + j]);

                exact += term;
                size += fabs(term);
            }
            /* Twice, as the loop above rounds as well. */
            ck_assert_double_le(fabs(z[i * c.apart + j] - exact),
                                ((double)e->k + 4) * DBL_EPSILON * size);
        }
    guarded_destroy(&a.pages);
    guarded_destroy(&b.pages);
    guarded_destroy(&c.pages);
    guarded_destroy(&before.pages);
}

static const size_t extents[][3] = {
    { 1, 1, 1 },    { 1, 7, 300 },   { 5, 1, 33 },    { 17, 31, 257 },
    { 64, 64, 64 }, { 129, 16, 70 }, { 33, 344, 128 }, { 130, 515, 19 },
    { 344, 40, 129 },
};
enum { SHAPES = sizeof extents / sizeof *extents };

START_TEST(products_are_those_of_a_triple_loop)
{
    qrb_context *ctx = make_context(NULL);

    for (int flags = 0; flags < 8; flags++) {
        const struct example e = { extents[_i][0], extents[_i][1],
                                   extents[_i][2], flags, 1 };

        check_f32(ctx, &e);
        check_f64(ctx, &e);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Large enough for the linear algebra library and several of its tiles; a
 * slanted sample of the elements, some in every row and every column. */
START_TEST(large_products_are_those_of_a_triple_loop)
{
    qrb_context *ctx = make_context(NULL);
    const struct example e = { 515, 523, 517, _i, 37 };

    check_f32(ctx, &e);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_sum_over_nothing_is_beta_c)
{
    qrb_context *ctx = make_context(NULL);
    struct qrb__gemm shape = { 2, 3, 0, 1, 3, 3, 1, 0.5, false, false };
    float c[6] = { 2, 4, 6, 8, 10, 12 };
    const float one = 1;

    qrb__gemm_f32(ctx, &shape, &one, &one, c);
    for (int i = 0; i < 6; i++)
        ck_assert_float_eq(c[i], (float)(i + 1));
    shape.beta = 0;
    c[0] = NAN;
    qrb__gemm_f32(ctx, &shape, &one, &one, c);
    for (int i = 0; i < 6; i++)
        ck_assert_float_eq(c[i], 0);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(an_empty_product_touches_nothing)
{
    qrb_context *ctx = make_context(NULL);
    const struct qrb__gemm rows = { 0, 3, 4, 4, 3, 3, 1, 0, false, false };
    const struct qrb__gemm columns = { 3, 0, 4, 4, 1, 1, 1, 0, false, false };
    float c = 5;

    qrb__gemm_f32(ctx, &rows, NULL, NULL, &c);
    qrb__gemm_f32(ctx, &columns, NULL, NULL, &c);
    qrb__gemm_batch_f32(ctx, &rows, 0, NULL, NULL, NULL);
    ck_assert_float_eq(c, 5);
    qrb_context_destroy(ctx);
}
END_TEST

/* Heads of one matrix: products of a batch lie inside each other's rows. */
START_TEST(a_batch_is_its_products_one_by_one)
{
    enum { HEADS = 5, T = 37, DIM = 16, ALL = HEADS * DIM };
    qrb_context *ctx = make_context(NULL);
    const struct qrb__gemm shape = { T,    T, DIM,   ALL, ALL,
                                     T,    0.25, 0, false, true };
    float *x = calloc(T * ALL, sizeof *x);
    float *together = calloc(HEADS * T * T, sizeof *together);
    float *alone = calloc(HEADS * T * T, sizeof *alone);
    const float *a[HEADS];
    const float *b[HEADS];
    float *c[HEADS];

    ck_assert(x != NULL && together != NULL && alone != NULL);
    for (size_t i = 0; i < T * ALL; i++)
        x[i] = (float)random_at(9, i);
    for (size_t h = 0; h < HEADS; h++) {
        a[h] = x + h * DIM;
        b[h] = x + (HEADS - 1 - h) * DIM;
        c[h] = together + h * T * T;
        qrb__gemm_f32(ctx, &shape, a[h], b[h], alone + h * T * T);
    }
    qrb__gemm_batch_f32(ctx, &shape, HEADS, a, b, c);
    ck_assert_mem_eq(together, alone, HEADS * T * T * sizeof *alone);
    free(x);
    free(together);
    free(alone);
    qrb_context_destroy(ctx);
}
END_TEST

/* A host's runner that deals tasks out backwards, to workers in turn. */
static void run_backwards(size_t tasks, size_t workers, qrb_task_fn run,
                          void *arg, void *user)
{
    ++*(size_t *)user;
    for (size_t task = tasks; task-- > 0;)
        run(task, task % workers, arg);
}

static void multiply_with(size_t threads, qrb_runner_fn runner, size_t *runs,
                          const struct qrb__gemm *shape, const float *a,
                          const float *b, float *c)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = threads;
    options.runner = runner;
    options.runner_user = runs;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    qrb__gemm_f32(ctx, shape, a, b, c);
    qrb_context_destroy(ctx);
}

START_TEST(bits_do_not_depend_on_threads_or_runner)
{
    static const size_t shapes[][3] = { { 700, 128, 128 },
                                        { 128, 96, 2048 },
                                        { 520, 530, 540 } };
    const size_t m = shapes[_i / 4][0];
    const size_t n = shapes[_i / 4][1];
    const size_t k = shapes[_i / 4][2];
    const bool transpose_a = (_i & 1) != 0;
    const bool transpose_b = (_i & 2) != 0;
    const struct qrb__gemm shape = {
        m, n, k, transpose_a ? m : k, transpose_b ? k : n, n, 1, 0,
        transpose_a, transpose_b
    };
    float *a = malloc(m * k * sizeof *a);
    float *b = malloc(k * n * sizeof *b);
    float *one = malloc(m * n * sizeof *one);
    float *many = malloc(m * n * sizeof *many);
    size_t runs = 0;

    ck_assert(a != NULL && b != NULL && one != NULL && many != NULL);
    for (size_t i = 0; i < m * k; i++)
        a[i] = (float)random_at(1, i);
    for (size_t i = 0; i < k * n; i++)
        b[i] = (float)random_at(2, i);
    multiply_with(1, NULL, NULL, &shape, a, b, one);
    for (size_t threads = 2; threads <= 3; threads++) {
        memset(many, 0xff, m * n * sizeof *many);
        multiply_with(threads, NULL, NULL, &shape, a, b, many);
        ck_assert(memcmp(one, many, m * n * sizeof *many) == 0);
        memset(many, 0xff, m * n * sizeof *many);
        multiply_with(threads, run_backwards, &runs, &shape, a, b, many);
        ck_assert(memcmp(one, many, m * n * sizeof *many) == 0);
    }
    ck_assert_uint_eq(runs, 2); /* there was something to deal out */
    free(a);
    free(b);
    free(one);
    free(many);
}
END_TEST

START_TEST(products_allocate_nothing_of_ours)
{
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *ctx = make_context(&allocator);
    const size_t before = allocator.calls;
    const struct example e = { 515, 523, 517, 0, 37 };

    check_f32(ctx, &e);
    ck_assert_uint_eq(allocator.calls, before);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_context_says_what_multiplies)
{
    qrb_context *ctx = make_context(NULL);
    const char *blas = qrb_context_blas(ctx);

    ck_assert_str_eq(qrb_context_blas(NULL), "");
    ck_assert_ptr_nonnull(strstr(blas, " kernels"));
    /* Whatever BLIS believes about the processor. */
    if (strcmp(qrb_context_kernels(ctx), "avx512") == 0)
        ck_assert_msg(strstr(blas, "skx") != NULL ||
                          strstr(blas, "own avx512") != NULL ||
                          strstr(blas, "openblas") != NULL,
                      "%s", blas);
    if (strcmp(qrb_context_kernels(ctx), "avx2") == 0)
        ck_assert_msg(strstr(blas, "haswell") != NULL ||
                          strstr(blas, "own avx2") != NULL ||
                          strstr(blas, "openblas") != NULL,
                      "%s", blas);
    ck_assert_ptr_eq(qrb_context_blas(ctx), blas);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gemm");
    TCase *gemm = tcase_create("gemm");

    tcase_set_timeout(gemm, 100);
    tcase_add_loop_test(gemm, products_are_those_of_a_triple_loop, 0, SHAPES);
    tcase_add_loop_test(gemm, large_products_are_those_of_a_triple_loop, 0, 8);
    tcase_add_test(gemm, a_sum_over_nothing_is_beta_c);
    tcase_add_test(gemm, an_empty_product_touches_nothing);
    tcase_add_test(gemm, a_batch_is_its_products_one_by_one);
    tcase_add_loop_test(gemm, bits_do_not_depend_on_threads_or_runner, 0, 12);
    tcase_add_test(gemm, products_allocate_nothing_of_ours);
    tcase_add_test(gemm, the_context_says_what_multiplies);
    suite_add_tcase(suite, gemm);
    return run_suite(suite);
}
