/* Activations on dynamic grids. */
#include <float.h>
#include <math.h>
#include <stdbool.h>

#include "quantizer_fixture.h"

/* Quantizers 1.3, the example: h = 0.259666667, z = 4, codes 5, 0, 15, 6. */
START_TEST(a_token_is_that_of_the_specification)
{
    static const double expected[4] = { 0.259666667, -1.038666667, 2.856333333,
                                        0.519333333 };
    double x[4] = { .2, -1.1, 3, .4 };
    qrb_context *ctx = context_of(1);
    qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 1, 4, x);

    options.bits = 4;
    options.clip_ratio = .95;
    ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, tensor));
    for (size_t i = 0; i < 4; i++)
        ck_assert_double_eq_tol(x[i], expected[i], 5e-10);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* s = 3 / 7 of a token of any size, and 1 where all is zero; rounded by hand:
 * [.2, -1.1, 3, .4] / s = .467, -2.567, 7, .933. */
START_TEST(symmetric_tokens_have_no_floor)
{
    static const double quotients[4] = { 0, -3, 7, 1 };
    double x[12] = { .2,    -1.1, 3, .4,   .2e-9, -1.1e-9,
                     3e-9, .4e-9, 0, 0, -0.0,  0 };
    qrb_context *ctx = context_of(2);
    qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 3, 4, x);

    options.bits = 4;
    options.grid = QRB_GRID_S_ACT;
    ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, tensor));
    for (size_t i = 0; i < 4; i++) {
        ck_assert_double_eq_tol(x[i], quotients[i] * 3 / 7, 1e-15);
        ck_assert_double_eq_tol(x[4 + i], quotients[i] * 3e-9 / 7, 1e-24);
        ck_assert_double_eq(x[8 + i], 0);
    }
    /* A clip ratio of a half: s = 1.5 / 7, and 3 / s = 14 becomes 7. */
    x[0] = 3;
    x[1] = -3;
    x[2] = .3;
    x[3] = 0;
    options.clip_ratio = .5;
    ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, tensor));
    ck_assert_double_eq_tol(x[0], 1.5, 1e-15);
    ck_assert_double_eq_tol(x[1], -8 * 1.5 / 7, 1e-15);
    ck_assert_double_eq_tol(x[2], 1.5 / 7, 1e-15);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* The zero is forced into the range of A_GPTQ, not into that of A_GRP. */
START_TEST(groups_of_a_token_have_their_own_grids)
{
    double x[5] = { 1, 1.5, 2, 2.5, 7 };
    double forced[5] = { 1, 1.5, 2, 2.5, 7 };
    qrb_context *ctx = context_of(1);
    qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 1, 5, x);
    qrb_tensor *other = matrix(ctx, QRB_F64, 1, 5, forced);

    options.bits = 2;
    options.group_size = 4;
    options.grid = QRB_GRID_A_GRP;
    ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, tensor));
    for (size_t i = 0; i < 4; i++)
        ck_assert_double_eq(x[i], 1 + .5 * (double)i);
    options.grid = QRB_GRID_A_GPTQ;
    ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, other));
    /* h = 2.5 / 3 */
    ck_assert_double_eq_tol(forced[0], 2.5 / 3, 1e-15);
    ck_assert_double_eq_tol(forced[3], 2.5, 1e-15);
    ck_assert_double_eq_tol(forced[4], 7, 1e-15);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(other);
    qrb_context_destroy(ctx);
}
END_TEST

/* A token is a row to RTN, whose compat mode computes in float32, too. */
START_TEST(activations_round_as_weights_do)
{
    static const uint32_t dtypes[] = { QRB_F32, QRB_F64, QRB_F16, QRB_BF16 };
    static const size_t groups[] = { 0, 64, 50 };
    static float given[ELEMENTS];
    qrb_context *ctx = context_of(3);
    qrb_tensor *source = matrix(ctx, QRB_F32, ROWS, COLS, given);

    fill(11, ELEMENTS, given);
    for (uint32_t grid = QRB_GRID_A_PAPER; grid <= QRB_GRID_S_ACT; grid++)
        for (size_t k = 0; k < 12; k++) {
            qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;
            qrb_quantizer_options weights = QRB_QUANTIZER_OPTIONS_INIT;
            const uint32_t dtype = dtypes[k % 4];
            qrb_tensor *x = matrix(ctx, dtype, ROWS, COLS, NULL);
            qrb_tensor *w = matrix(ctx, dtype, ROWS, COLS, NULL);
            qrb_quantizer *quantizer;

            options.grid = weights.grid = grid;
            options.bits = weights.bits = 5;
            options.group_size = weights.group_size = groups[k / 4];
            options.granularity = weights.granularity =
                k / 4 == 0 && grid % 2 ? QRB_PER_TENSOR : QRB_PER_GROUP;
            weights.compat = dtype != QRB_F64;
            quantizer = made(ctx, &weights);
            ASSERT_OK(ctx, qrb_tensor_copy(source, x));
            ASSERT_OK(ctx, qrb_tensor_copy(source, w));
            ASSERT_OK(ctx, qrb_activation_fake(ctx, &options, x));
            ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, w));
            ck_assert_mem_eq(qrb_tensor_memory(x), qrb_tensor_memory(w),
                             ELEMENTS * qrb_dtype_size(dtype));
            qrb_quantizer_destroy(quantizer);
            qrb_tensor_destroy(x);
            qrb_tensor_destroy(w);
        }
    qrb_tensor_destroy(source);
    qrb_context_destroy(ctx);
}
END_TEST

enum { TOKENS = 3, FEATURES = 9001, MANY = TOKENS * FEATURES };

/* Round as of the options with so many threads; by columns or as it is. */
static void round_given(const qrb_activation_options *options, size_t threads,
                        bool by_columns, float *out)
{
    static float memory[MANY];
    static float given[MANY];
    qrb_context *ctx = context_of(threads);
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *source = matrix(ctx, QRB_F32, TOKENS, FEATURES, given);
    qrb_tensor *target = matrix(ctx, QRB_F32, TOKENS, FEATURES, out);
    qrb_tensor *x;

    fill(12, MANY, given);
    shape.rank = 2;
    shape.shape[0] = TOKENS;
    shape.shape[1] = FEATURES;
    shape.memory = memory;
    if (by_columns) {
        shape.strides[0] = sizeof(float);
        shape.strides[1] = TOKENS * sizeof(float);
    }
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &shape, &x));
    ASSERT_OK(ctx, qrb_tensor_copy(source, x));
    ASSERT_OK(ctx, qrb_activation_fake(ctx, options, x));
    ASSERT_OK(ctx, qrb_tensor_copy(x, target));
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(target);
    qrb_tensor_destroy(source);
    qrb_context_destroy(ctx);
}

/* Tokens are longer than a piece. */
START_TEST(strides_and_threads_change_no_bit)
{
    static const size_t groups[] = { 0, 5000, 7 };
    static float expected[MANY];
    static float found[MANY];

    for (size_t i = 0; i < 4; i++) {
        qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;

        options.group_size = groups[i % 3];
        options.granularity = i == 3 ? QRB_PER_TENSOR : QRB_PER_GROUP;
        round_given(&options, 1, false, expected);
        round_given(&options, 5, true, found);
        ck_assert_mem_eq(found, expected, sizeof found);
    }
}
END_TEST

START_TEST(what_cannot_be_rounded_is_refused_and_left_alone)
{
    float x[6] = { 1, 2, 3, 4, 5, NAN };
    qrb_context *ctx = context_of(1);
    const qrb_activation_options defaults = QRB_ACTIVATION_OPTIONS_INIT;
    qrb_activation_options options = defaults;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 3, x);
    qrb_tensor *codes = matrix(ctx, QRB_I32, 2, 3, NULL);

    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, NULL, tensor), QRB_E_NOT_FINITE,
                 "x[1, 2] is not finite");
    ck_assert_float_eq(x[1], 2);
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, NULL, codes), QRB_E_UNSUPPORTED,
                 "x is I32");
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, NULL, NULL), QRB_E_INVALID_ARG,
                 "x is NULL");
    ck_assert_int_eq(qrb_activation_fake(NULL, NULL, tensor),
                     QRB_E_INVALID_ARG);
    x[5] = 6;
    options.bits = 1;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "1 bits");
    options = defaults;
    options.grid = 99;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "grid 99");
    options = defaults;
    options.clip_ratio = 1.5;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "clip_ratio is 1.5");
    options.clip_ratio = NAN;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "clip_ratio");
    options = defaults;
    options.granularity = 2;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "granularity 2");
    options.granularity = QRB_PER_TENSOR;
    options.group_size = 3;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "group_size is 3");
    options = defaults;
    options.group_size = 4;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor), QRB_E_SHAPE,
                 "shorter than the group size 4");
    options.struct_size = 1;
    ASSERT_FAILS(ctx, qrb_activation_fake(ctx, &options, tensor),
                 QRB_E_INVALID_ARG, "struct_size");
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(codes);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status round_all(qrb_context *ctx, void *arg)
{
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;
    qrb_status status;

    shape.rank = 2;
    shape.shape[0] = 2;
    shape.shape[1] = 3;
    shape.memory = x;
    status = qrb_tensor_create(ctx, &shape, &tensor);
    if (status != QRB_OK)
        return status;
    status = qrb_activation_fake(ctx, arg, tensor);
    if (status != QRB_OK)
        ck_assert_float_eq(x[0], 1);
    qrb_tensor_destroy(tensor);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    qrb_activation_options options = QRB_ACTIVATION_OPTIONS_INIT;

    options.granularity = QRB_PER_TENSOR;
    fail_each_allocation(round_all, &options);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("activation");
    TCase *tests = tcase_create("activation");

    tcase_add_test(tests, a_token_is_that_of_the_specification);
    tcase_add_test(tests, symmetric_tokens_have_no_floor);
    tcase_add_test(tests, groups_of_a_token_have_their_own_grids);
    tcase_add_test(tests, activations_round_as_weights_do);
    tcase_add_test(tests, strides_and_threads_change_no_bit);
    tcase_add_test(tests, what_cannot_be_rounded_is_refused_and_left_alone);
    tcase_add_test(tests, every_allocation_may_fail);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
