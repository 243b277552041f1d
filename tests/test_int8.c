/* LLM.int8(): weights, and the product at run time. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

/* Methods G4.3. */
START_TEST(int8_weights_are_the_golden_ones)
{
    const int32_t codes[8] = { 30, -127, 8, 79, -18, 0, 56, -104 };
    const double expected[8] = { .1181102362, -.5,          .0314960630,
                                 .3110236220, -.0708661417, 0,
                                 .2204724409, -.4094488189 };
    double w[8] = { .12, -.5, .03, .31, -.07, 0, .22, -.41 };
    double values[8];
    qrb_context *ctx = context_of(1);
    qrb_quantizer *quantizer = named(ctx, "int8");
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 1, 8, w);
    qrb_packed *packed = quantize_both_ways(ctx, quantizer, tensor, values);

    ck_assert_mem_eq(codes_of(packed), codes, sizeof codes);
    for (size_t i = 0; i < 8; i++)
        ck_assert_double_eq_tol(values[i], expected[i], 5e-11);
    ck_assert_double_eq(qrb_packed_bits_per_weight(packed), 8 + 32 / 8.0);
    ck_assert_ptr_null(qrb_packed_zero_points(packed));
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(int8_rows_of_zeros_and_of_extremes_stay_finite)
{
    double w[12] = { 0,       -0.0,    0, DBL_MAX, -DBL_MAX, DBL_MAX / 2,
                     5e-324,  -5e-324, 0, 1e-310,  1e-320,   -1e-310 };
    double values[12];
    qrb_context *ctx = context_of(1);
    qrb_quantizer *quantizer = named(ctx, "int8");
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 4, 3, w);
    qrb_packed *packed = quantize_both_ways(ctx, quantizer, tensor, values);
    const int32_t *codes = codes_of(packed);

    for (size_t i = 0; i < 3; i++) {
        ck_assert_int_eq(codes[i], 0);
        ck_assert_double_eq(values[i], 0);
    }
    ck_assert_int_eq(codes[3], 127);
    ck_assert_int_eq(codes[4], -127);
    ck_assert_int_eq(codes[5], 64); /* the tie 63.5 */
    ck_assert_int_eq(codes[6], 127);
    ck_assert_int_eq(codes[9], 127);
    ck_assert_int_eq(codes[11], -127);
    for (size_t i = 0; i < 12; i++)
        ck_assert(isfinite(values[i]));
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
}
END_TEST

/* Quantizers 7.1, the example; weights and activations are halves. */
static const float int8_x[8] = { 1, -2, 7, .5f, .25f, 3, -1, -4 };
static const float int8_w[12] = { .5f, -1,   .25f, 2,    1,   .1f,
                                  -.3f, 0,   -.2f, .4f, .8f, -.6f };

static qrb_packed *int8_weights(qrb_context *ctx)
{
    float w[12];
    qrb_quantizer *quantizer = named(ctx, "int8");
    qrb_tensor *source = matrix(ctx, QRB_F32, 3, 4, w);
    qrb_tensor *half = matrix(ctx, QRB_F16, 3, 4, NULL);
    qrb_packed *packed;

    memcpy(w, int8_w, sizeof w);
    ASSERT_OK(ctx, qrb_tensor_copy(source, half));
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, half, &packed));
    qrb_tensor_destroy(source);
    qrb_tensor_destroy(half);
    qrb_quantizer_destroy(quantizer);
    return packed;
}

START_TEST(the_run_time_product_of_int8_is_that_of_the_specification)
{
    const int32_t codes[12] = { 32,  -64, 16,  127, 127, 13,
                                -38, 0,   -32, 64,  127, -95 };
    const double expected[6] = { 5.29530659,   -1.29133858, 4.28792307,
                                 -11.14067828, .85746171,   2.74851351 };
    float x[8];
    double y[6];
    float bias[3] = { 1, -2, .5f };
    const size_t three = 3;
    qrb_context *ctx = context_of(2);
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_packed *packed = int8_weights(ctx);
    qrb_tensor *in = matrix(ctx, QRB_F32, 2, 4, x);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 3, y);
    qrb_tensor *added;

    memcpy(x, int8_x, sizeof x);
    ck_assert_mem_eq(codes_of(packed), codes, sizeof codes);
    ck_assert_double_eq_tol(qrb_packed_scales(packed)[2] * 127, .7998047,
                            5e-8);
    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, out));
    for (size_t i = 0; i < 6; i++)
        ck_assert_double_eq_tol(y[i], expected[i], 5e-9);
    options.rank = 1;
    options.shape[0] = three;
    options.memory = bias;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &added));
    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 6, added, out));
    for (size_t i = 0; i < 6; i++)
        ck_assert_double_eq_tol(y[i], expected[i] + (double)bias[i % 3],
                                5e-9);
    qrb_tensor_destroy(added);
    qrb_tensor_destroy(in);
    qrb_tensor_destroy(out);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* Without outliers the product is that of the codes alone. */
START_TEST(threshold_zero_keeps_every_column_in_integers)
{
    float x[8];
    double y[6];
    qrb_context *ctx = context_of(1);
    qrb_packed *packed = int8_weights(ctx);
    qrb_tensor *in = matrix(ctx, QRB_F32, 2, 4, x);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 3, y);
    const int32_t *w = codes_of(packed);
    const double *scales = qrb_packed_scales(packed);

    memcpy(x, int8_x, sizeof x);
    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 0, NULL, out));
    for (size_t t = 0; t < 2; t++)
        for (size_t r = 0; r < 3; r++) {
            const double s = t == 0 ? 7 : 4;
            double sum = 0;

            for (size_t c = 0; c < 4; c++)
                sum += rint(127 * (double)x[4 * t + c] / s) * w[4 * r + c];
            ck_assert_double_eq_tol(y[3 * t + r], sum * s / 127 * scales[r],
                                    1e-13);
        }
    qrb_tensor_destroy(in);
    qrb_tensor_destroy(out);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* Column 0 is an outlier through the first token, whose 6 is as large as the
 * threshold.  The second token's 3 there is none: it is still the largest of
 * its token, so that 1 has the code 42, but it is multiplied as it is. */
START_TEST(only_outlying_entries_stay_out_of_a_token_s_magnitude)
{
    float w[2] = { 1, 1 };
    float x[4] = { 6, 1, 3, 1 };
    double y[2];
    qrb_context *ctx = context_of(1);
    qrb_quantizer *quantizer = named(ctx, "int8");
    qrb_tensor *weights = matrix(ctx, QRB_F32, 1, 2, w);
    qrb_tensor *in = matrix(ctx, QRB_F32, 2, 2, x);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 1, y);
    qrb_packed *packed;

    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, weights, &packed));
    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, out));
    ck_assert_double_eq_tol(y[0], 6 + 1, 1e-13);
    ck_assert_double_eq_tol(y[1], 3 + 42 * 3 / 127.0, 1e-13);
    x[0] = -6;
    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, out));
    ck_assert_double_eq_tol(y[1], 3 + 42 * 3 / 127.0, 1e-13);
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(weights);
    qrb_tensor_destroy(in);
    qrb_tensor_destroy(out);
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
}
END_TEST

/* The rule where the official code divides by zero. */
START_TEST(tokens_of_zeros_or_outliers_alone_have_codes_zero)
{
    float x[8] = { 0, 0, 0, 0, 8, -9, 7, 100 };
    double y[6];
    qrb_context *ctx = context_of(1);
    qrb_packed *packed = int8_weights(ctx);
    qrb_tensor *in = matrix(ctx, QRB_F32, 2, 4, x);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 3, y);
    const int32_t *w = codes_of(packed);
    const double *scales = qrb_packed_scales(packed);

    ASSERT_OK(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, out));
    for (size_t r = 0; r < 3; r++) {
        double sum = 0;

        for (size_t c = 0; c < 4; c++)
            sum += (double)x[4 + c] * w[4 * r + c] * scales[r];
        ck_assert_double_eq(y[r], 0);
        ck_assert_double_eq_tol(y[3 + r], sum, 1e-12);
    }
    qrb_tensor_destroy(in);
    qrb_tensor_destroy(out);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_run_time_product_refuses_what_does_not_fit)
{
    float x[8];
    float y[6];
    float five[5] = { 0 };
    qrb_context *ctx = context_of(1);
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_packed *packed = int8_weights(ctx);
    qrb_quantizer *quantizer = named(ctx, "nf4");
    qrb_tensor *in = matrix(ctx, QRB_F32, 2, 4, x);
    qrb_tensor *out = matrix(ctx, QRB_F32, 2, 3, y);
    qrb_tensor *narrow = matrix(ctx, QRB_F32, 2, 2, five);
    qrb_tensor *integers = matrix(ctx, QRB_I32, 2, 4, x);
    qrb_tensor *bias;
    qrb_packed *other;

    memcpy(x, int8_x, sizeof x);
    options.rank = 1;
    options.shape[0] = 3;
    options.memory = five;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &bias));
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, in, &other));
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(other, in, 6, NULL, out),
                 QRB_E_INVALID_ARG, "nf4; int8 is expected");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, -1, NULL, out),
                 QRB_E_INVALID_ARG, "threshold is -1");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, NAN, NULL, out),
                 QRB_E_INVALID_ARG, "threshold");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, narrow, 6, NULL, out),
                 QRB_E_SHAPE, "want [tokens, 4] and [tokens, 3]");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, narrow),
                 QRB_E_SHAPE, "y [2, 2]");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, integers, 6, NULL, out),
                 QRB_E_UNSUPPORTED, "x is I32");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, 6, in, out),
                 QRB_E_SHAPE, "vector of 3");
    five[2] = INFINITY;
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, 6, bias, out),
                 QRB_E_NOT_FINITE, "bias[2]");
    x[6] = NAN;
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, in, 6, NULL, out),
                 QRB_E_NOT_FINITE, "x[1, 2]");
    ASSERT_FAILS(ctx, qrb_packed_int8_multiply(packed, NULL, 6, NULL, out),
                 QRB_E_INVALID_ARG, "NULL");
    ck_assert_int_eq(qrb_packed_int8_multiply(NULL, in, 6, NULL, out),
                     QRB_E_INVALID_ARG);
    qrb_packed_destroy(other);
    qrb_tensor_destroy(bias);
    qrb_tensor_destroy(integers);
    qrb_tensor_destroy(narrow);
    qrb_tensor_destroy(in);
    qrb_tensor_destroy(out);
    qrb_quantizer_destroy(quantizer);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("int8");
    TCase *numbers = tcase_create("numbers");
    TCase *refusals = tcase_create("refusals");

    tcase_add_test(numbers, int8_weights_are_the_golden_ones);
    tcase_add_test(numbers, int8_rows_of_zeros_and_of_extremes_stay_finite);
    tcase_add_test(numbers,
                   the_run_time_product_of_int8_is_that_of_the_specification);
    tcase_add_test(numbers, threshold_zero_keeps_every_column_in_integers);
    tcase_add_test(numbers,
                   only_outlying_entries_stay_out_of_a_token_s_magnitude);
    tcase_add_test(numbers,
                   tokens_of_zeros_or_outliers_alone_have_codes_zero);
    tcase_add_test(refusals, the_run_time_product_refuses_what_does_not_fit);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, refusals);
    return run_suite(suite);
}
