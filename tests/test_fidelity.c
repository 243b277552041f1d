/* Fidelity of tensors: numbers, degenerate tensors, strides, refusals. */
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "matrix.h"

#include <qrobust/metric.h>

/* 100 rows of 150 elements, or 3 of 5000: shorter and longer than a run. */
enum { ROWS = 100, ELEMENTS = 15000 };

static qrb_fidelity_result compare(qrb_context *ctx, double *x, double *y,
                                   size_t n)
{
    qrb_fidelity_result r = { .struct_size = sizeof r };
    qrb_tensor *a = matrix(ctx, QRB_F64, 1, n, x);
    qrb_tensor *b = matrix(ctx, QRB_F64, 1, n, y);

    ASSERT_OK(ctx, qrb_fidelity(a, b, &r));
    qrb_tensor_destroy(a);
    qrb_tensor_destroy(b);
    return r;
}

/* Methods G6.2. */
START_TEST(three_elements_come_to_the_golden_numbers)
{
    double x[3] = { 1, -2, .5 };
    double y[3] = { .9, -2.1, .5 };
    qrb_context *ctx = make_context(NULL);
    const qrb_fidelity_result r = compare(ctx, x, y, 3);

    ck_assert_double_eq_tol(r.sqnr_db, 24.1912930774, 5e-11);
    ck_assert_double_eq_tol(r.cosine, .9983445861, 5e-11);
    ck_assert_double_eq_tol(r.max_abs, .1, 1e-15);
    ck_assert_double_eq_tol(r.relative_l2, sqrt(.02 / 5.25), 1e-15);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(tensors_of_zeros_and_equal_ones_are_as_documented)
{
    double zero[2] = { 0, -0.0 };
    double x[2] = { 3, -4 };
    qrb_context *ctx = make_context(NULL);
    qrb_fidelity_result r = compare(ctx, x, x, 2);

    ck_assert_double_infinite(r.sqnr_db);
    ck_assert_double_eq(r.relative_l2, 0);
    ck_assert_double_eq(r.cosine, 1);
    ck_assert_double_eq(r.max_abs, 0);
    r = compare(ctx, x, zero, 2);
    ck_assert_double_eq(r.cosine, 0);
    ck_assert_double_eq(r.relative_l2, 1);
    ck_assert_double_eq(r.sqnr_db, 0);
    r = compare(ctx, zero, x, 2);
    ck_assert_double_eq(r.cosine, 0);
    ck_assert_double_nan(r.relative_l2);
    ck_assert_double_nan(r.sqnr_db);
    ck_assert_double_eq(r.max_abs, 4);
    r = compare(ctx, zero, zero, 2);
    ck_assert_double_eq(r.cosine, 1);
    ck_assert_double_nan(r.sqnr_db);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_fidelity_result compare_matrices(size_t threads, size_t rows,
                                            bool transposed)
{
    static float x[ELEMENTS];
    static float y[ELEMENTS];
    static float stored[ELEMENTS];
    const size_t cols = ELEMENTS / rows;
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_tensor_options tensor = QRB_TENSOR_OPTIONS_INIT;
    qrb_fidelity_result r = { .struct_size = sizeof r };
    qrb_context *ctx;
    qrb_tensor *a;
    qrb_tensor *b;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    fill(1, ELEMENTS, x);
    fill(2, ELEMENTS, y);
    tensor.rank = 2;
    tensor.shape[0] = rows;
    tensor.shape[1] = cols;
    tensor.memory = x;
    if (transposed) {
        for (size_t i = 0; i < ELEMENTS; i++)
            stored[i % cols * rows + i / cols] = x[i];
        tensor.strides[0] = sizeof *x;
        tensor.strides[1] = (int64_t)(rows * sizeof *x);
        tensor.memory = stored;
    }
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &tensor, &a));
    b = matrix(ctx, QRB_F32, rows, cols, y);
    ASSERT_OK(ctx, qrb_fidelity(a, b, &r));
    qrb_tensor_destroy(a);
    qrb_tensor_destroy(b);
    qrb_context_destroy(ctx);
    return r;
}

START_TEST(threads_and_strides_change_no_bit)
{
    static const size_t rows[] = { ROWS, 3 };

    for (size_t i = 0; i < 2; i++) {
        const qrb_fidelity_result expected =
            compare_matrices(1, rows[i], false);
        const qrb_fidelity_result threads =
            compare_matrices(4, rows[i], false);
        const qrb_fidelity_result strides = compare_matrices(2, rows[i], true);

        ck_assert_mem_eq(&threads, &expected, sizeof expected);
        ck_assert_mem_eq(&strides, &expected, sizeof expected);
        ck_assert_double_lt(fabs(expected.cosine), .1);
    }
}
END_TEST

START_TEST(tensors_that_cannot_be_compared_are_refused)
{
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    float broken[6] = { 1, 2, 3, 4, NAN, 6 };
    double huge[6] = { 1e200, 0, 0, 0, 0, 0 };
    int32_t integers[6] = { 0 };
    qrb_context *ctx = make_context(NULL);
    qrb_fidelity_result r = { .struct_size = sizeof r, .cosine = 42 };
    qrb_tensor *a = matrix(ctx, QRB_F32, 2, 3, x);
    qrb_tensor *turned = matrix(ctx, QRB_F32, 3, 2, x);
    qrb_tensor *bad = matrix(ctx, QRB_F32, 2, 3, broken);
    qrb_tensor *large = matrix(ctx, QRB_F64, 2, 3, huge);
    qrb_tensor *whole = matrix(ctx, QRB_I32, 2, 3, integers);

    ASSERT_FAILS(ctx, qrb_fidelity(a, turned, &r), QRB_E_SHAPE,
                 "the reference is [2, 3], the approximation [3, 2]");
    ASSERT_FAILS(ctx, qrb_fidelity(a, bad, &r), QRB_E_NOT_FINITE,
                 "element 4 of the approximation");
    ASSERT_FAILS(ctx, qrb_fidelity(bad, a, &r), QRB_E_NOT_FINITE,
                 "element 4 of the reference");
    ASSERT_FAILS(ctx, qrb_fidelity(whole, a, &r), QRB_E_UNSUPPORTED,
                 "the reference is I32");
    ASSERT_FAILS(ctx, qrb_fidelity(large, a, &r), QRB_E_NOT_FINITE,
                 "sum of squares");
    ck_assert_int_eq(qrb_fidelity(NULL, a, &r), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_fidelity(a, NULL, &r), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_fidelity(a, a, NULL), QRB_E_INVALID_ARG);
    ck_assert_double_eq(r.cosine, 42);
    r.struct_size = 1;
    ASSERT_FAILS(ctx, qrb_fidelity(a, a, &r), QRB_E_INVALID_ARG,
                 "fidelity result");
    qrb_tensor_destroy(a);
    qrb_tensor_destroy(turned);
    qrb_tensor_destroy(bad);
    qrb_tensor_destroy(large);
    qrb_tensor_destroy(whole);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status compare_once(qrb_context *ctx, void *arg)
{
    qrb_fidelity_result r = { .struct_size = sizeof r };
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;
    qrb_status status;

    options.rank = 1;
    options.shape[0] = 10000;
    options.memory = arg;
    status = qrb_tensor_create(ctx, &options, &tensor);
    if (status == QRB_OK)
        status = qrb_fidelity(tensor, tensor, &r);
    qrb_tensor_destroy(tensor);
    return status;
}

START_TEST(a_comparison_survives_each_failed_allocation)
{
    static float x[10000];

    fill(3, 10000, x);
    fail_each_allocation(compare_once, x);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fidelity");
    TCase *tcase = tcase_create("fidelity");

    tcase_add_test(tcase, three_elements_come_to_the_golden_numbers);
    tcase_add_test(tcase, tensors_of_zeros_and_equal_ones_are_as_documented);
    tcase_add_test(tcase, threads_and_strides_change_no_bit);
    tcase_add_test(tcase, tensors_that_cannot_be_compared_are_refused);
    tcase_add_test(tcase, a_comparison_survives_each_failed_allocation);
    suite_add_tcase(suite, tcase);
    return run_suite(suite);
}
