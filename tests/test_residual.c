/* Signs, and residuals of the columns that matter. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

#include "quant/packed.h"

enum { TALL = 23, WIDE = 40, SIZE = TALL * WIDE, TOKENS = 30 };

/* Quantizers 11, the example. */
static double example_w[8] = { .9, -.4, .3, .1, -.7, .2, .65, -.25 };
static double example_x[12] = { 1,   .1, -.5, 4,  -2, .2,
                                .25, 6,  .5,  -.3, 1, -5 };
static double example_g[8] = { .1, 2, .2, .05, .2, -1, .1, .1 };

static qrb_observer *observe(qrb_context *ctx, uint32_t dtype, size_t tokens,
                             size_t cols, void *x)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, dtype, tokens, cols, x);
    qrb_observer *observer;

    options.columns = cols;
    options.what = QRB_OBSERVE_GRAM;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observer));
    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    qrb_tensor_destroy(tensor);
    return observer;
}

static qrb_quantizer_options signs(const qrb_residual_options *residual)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;

    options.kind = QRB_QUANTIZER_SIGN;
    options.residual = residual;
    return options;
}

/* |X (W - Q)^T|^2 of the example. */
static double output_square(const double *values)
{
    double sum = 0;

    for (size_t t = 0; t < 3; t++)
        for (size_t r = 0; r < 2; r++) {
            double y = 0;

            for (size_t j = 0; j < 4; j++)
                y += example_x[4 * t + j] *
                     (example_w[4 * r + j] - values[4 * r + j]);
            sum += y * y;
        }
    return sum;
}

static double example_error(qrb_context *ctx,
                            const qrb_residual_options *residual,
                            qrb_packed **packed)
{
    const qrb_quantizer_options options = signs(residual);
    qrb_quantizer *quantizer = made(ctx, &options);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *inputs = observe(ctx, QRB_F64, 3, 4, example_x);
    qrb_observer *gradients = observe(ctx, QRB_F64, 2, 4, example_g);
    qrb_tensor *w = matrix(ctx, QRB_F64, 2, 4, example_w);
    double values[8];
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 4, values);

    calibration.inputs = inputs;
    calibration.gradients = gradients;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, w, &calibration,
                                               NULL, packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(*packed, out));
    qrb_quantizer_destroy(quantizer);
    qrb_observer_destroy(inputs);
    qrb_observer_destroy(gradients);
    qrb_tensor_destroy(w);
    qrb_tensor_destroy(out);
    return output_square(values);
}

START_TEST(signs_and_residuals_are_those_of_the_specification)
{
    static const double expected[8] = { .425, -.425, .425, .425,
                                        -.45, .45,   .45,  -.45 };
    static const struct {
        uint32_t importance;
        double balance;
        uint32_t column;
        double error;
    } cases[] = {
        { QRB_IMPORTANCE_ACT, .5, 3, 1.6688140625 },
        { QRB_IMPORTANCE_GRAD, .5, 1, 16.3131640625 },
        /* ACT ranks 3, 0, 2, 1 first to last, GRAD 1, 0, 2, 3: column 0 is
         * second in both, 6 of 8; 1 and 3 have 5. */
        { QRB_IMPORTANCE_RANKS, .5, 0, 0 },
        { QRB_IMPORTANCE_SHARES, 0, 3, 1.6688140625 },
        { QRB_IMPORTANCE_SHARES, 1, 1, 16.3131640625 },
    };
    qrb_context *ctx = context_of(2);
    qrb_packed *packed;
    double values[8];
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 4, values);

    ck_assert_double_eq_tol(example_error(ctx, NULL, &packed), 15.9265640625,
                            5e-10);
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    for (size_t i = 0; i < 8; i++)
        ck_assert_double_eq_tol(values[i], expected[i], 1e-15);
    /* A bit, and a scale of 16 for each row of four. */
    ck_assert_double_eq(qrb_packed_bits_per_weight(packed), 1 + 16 / 4.0);
    qrb_packed_destroy(packed);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qrb_residual_options residual = QRB_RESIDUAL_OPTIONS_INIT;
        double error;

        residual.importance = cases[i].importance;
        residual.balance = cases[i].balance;
        error = example_error(ctx, &residual, &packed);
        ck_assert_uint_eq(packed->residual->cols, 1);
        ck_assert_uint_eq(packed->residual_columns[0], cases[i].column);
        if (cases[i].error > 0)
            ck_assert_double_eq_tol(error, cases[i].error, 5e-10);
        /* The residual: a bit and 16 a row of one, 32 for the column. */
        ck_assert_double_eq(qrb_packed_bits_per_weight(packed) * 8,
                            40 + 2 * 17 + 32);
        qrb_packed_destroy(packed);
    }
    qrb_tensor_destroy(out);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(an_exact_residual_of_all_columns_gives_the_weights)
{
    double w[8] = { 1, -1, .5, 0, .25, 1, -.5, -1 };
    double values[8];
    qrb_context *ctx = context_of(1);
    qrb_residual_options residual = QRB_RESIDUAL_OPTIONS_INIT;
    qrb_quantizer_options options = signs(&residual);
    qrb_quantizer_options fine = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    double x[4] = { 1, 2, 3, 4 };
    qrb_observer *inputs = observe(ctx, QRB_F64, 1, 4, x);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 2, 4, w);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 4, values);
    qrb_quantizer *columns;
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    /* Groups of one column: A_GPTQ holds a constant exactly. */
    fine.group_size = 1;
    columns = made(ctx, &fine);
    residual.quantizer = columns;
    residual.share = 1;
    calibration.inputs = inputs;
    quantizer = made(ctx, &options);
    qrb_quantizer_destroy(columns); /* it was copied */
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, &calibration,
                                               NULL, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    for (size_t i = 0; i < 8; i++)
        ck_assert_double_eq_tol(values[i], w[i], 4 * DBL_EPSILON);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(out);
    qrb_context_destroy(ctx);
}
END_TEST

static double square_of(qrb_context *ctx, const qrb_packed *packed,
                        const float *w, float *values)
{
    qrb_tensor *out = matrix(ctx, QRB_F32, TALL, WIDE, values);
    double sum = 0;

    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    for (size_t i = 0; i < SIZE; i++)
        sum += ((double)w[i] - (double)values[i]) *
               ((double)w[i] - (double)values[i]);
    qrb_tensor_destroy(out);
    return sum;
}

/* The best multiple of the errors' signs cannot make them larger, more columns
 * cannot either; and which columns does not depend on the order of rows. */
START_TEST(residuals_of_signs_make_errors_smaller_whatever_the_order_of_rows)
{
    static const char *const names_of[] = { "rtn2", "rtn3g8", "awq3", "nf4",
                                            "smoothquant+rtn3" };
    static float w[SIZE];
    static float turned[SIZE];
    static float values[SIZE];
    static float x[TOKENS * WIDE];
    qrb_context *ctx = context_of(3);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_tensor *other = matrix(ctx, QRB_F32, TALL, WIDE, turned);
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor *tokens = matrix(ctx, QRB_F32, TOKENS, WIDE, x);
    const qrb_quantizer_options plain_signs = signs(NULL);
    qrb_quantizer *sign = made(ctx, &plain_signs);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *inputs;

    fill(5, SIZE, w);
    fill(6, TOKENS * WIDE, x);
    for (size_t t = 0; t < TOKENS; t++)
        x[t * WIDE + 7] *= 30;
    for (size_t r = 0; r < TALL; r++)
        memcpy(turned + r * WIDE, w + (TALL - 1 - r) * WIDE,
               WIDE * sizeof *w);
    observed.columns = WIDE;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &inputs));
    ASSERT_OK(ctx, qrb_observer_add(inputs, tokens));
    calibration.inputs = inputs;
    for (size_t i = 0; i < 5; i++) {
        static const double shares[] = { .01, .2, 1 };
        qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
        qrb_residual_options residual = QRB_RESIDUAL_OPTIONS_INIT;
        qrb_quantizer *base = named(ctx, i == 4 ? "smoothquant3" : names_of[i]);
        qrb_packed *packed;
        double before;

        ASSERT_OK(ctx, qrb_quantizer_quantize_with(base, tensor, &calibration,
                                                   NULL, &packed));
        before = square_of(ctx, packed, w, values);
        qrb_packed_destroy(packed);
        options.kind = i < 2    ? QRB_QUANTIZER_RTN
                       : i == 2 ? QRB_QUANTIZER_AWQ
                       : i == 3 ? QRB_QUANTIZER_NF4
                                : QRB_QUANTIZER_SMOOTHQUANT;
        options.bits = i == 0 ? 2 : 3;
        options.group_size = i == 1 ? 8 : 0;
        options.residual = &residual;
        residual.quantizer = sign;
        for (size_t k = 0; k < 3; k++) {
            qrb_quantizer *quantizer;
            qrb_packed *again;
            double after;

            residual.share = shares[k];
            quantizer = made(ctx, &options);
            ASSERT_OK(ctx, qrb_quantizer_quantize_with(
                               quantizer, tensor, &calibration, NULL,
                               &packed));
            ASSERT_OK(ctx, qrb_quantizer_quantize_with(
                               quantizer, other, &calibration, NULL, &again));
            ck_assert_uint_eq(packed->residual->cols,
                              (size_t)ceil(shares[k] * WIDE));
            /* Scaled inputs: the errors that shrink are the scaled ones, and
             * column 7 is one among others. */
            after = square_of(ctx, packed, w, values);
            if (i != 4 && i != 2)
                ck_assert_double_le(after, before);
            if (i != 4 && i != 2 && k == 0)
                ck_assert_uint_eq(packed->residual_columns[0], 7);
            /* Blocks of NF4 go across rows. */
            if (i != 3)
                ck_assert_mem_eq(packed->residual_columns,
                                 again->residual_columns,
                                 packed->residual->cols * sizeof(uint32_t));
            ck_assert_uint_gt(qrb_packed_memory(packed),
                              qrb_packed_memory(packed->residual));
            qrb_packed_destroy(again);
            qrb_packed_destroy(packed);
            qrb_quantizer_destroy(quantizer);
        }
        qrb_quantizer_destroy(base);
    }
    qrb_quantizer_destroy(sign);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(other);
    qrb_tensor_destroy(tokens);
    qrb_context_destroy(ctx);
}
END_TEST

/* A chain's last link may have one; codes of one bit multiply, too. */
START_TEST(chains_and_products_know_residuals)
{
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    static float values[SIZE];
    static double y[TOKENS * TALL];
    qrb_context *ctx = context_of(2);
    qrb_residual_options residual = QRB_RESIDUAL_OPTIONS_INIT;
    const qrb_quantizer_options options = signs(&residual);
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *links[2] = { named(ctx, "smoothquant8"),
                                made(ctx, &options) };
    const qrb_quantizer *refused[2] = { links[1], links[0] };
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_tensor *tokens = matrix(ctx, QRB_F32, TOKENS, WIDE, x);
    qrb_tensor *out = matrix(ctx, QRB_F64, TOKENS, TALL, y);
    qrb_tensor *dense = matrix(ctx, QRB_F32, TALL, WIDE, values);
    qrb_observer *inputs;
    qrb_quantizer *chain;
    qrb_packed *packed;

    fill(8, SIZE, w);
    fill(9, TOKENS * WIDE, x);
    observed.columns = WIDE;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &inputs));
    ASSERT_OK(ctx, qrb_observer_add(inputs, tokens));
    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_create_chain(
                       ctx, (const qrb_quantizer *const *)links, 2, &chain));
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(chain, tensor, &calibration,
                                               NULL, &packed));
    ck_assert_ptr_nonnull(packed->residual);
    ck_assert_ptr_nonnull(packed->input_scale);
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, dense));
    ASSERT_OK(ctx, qrb_packed_multiply(packed, tokens, NULL, NULL, out));
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < TALL; r++) {
            double sum = 0;
            double size = 0;

            for (size_t j = 0; j < WIDE; j++) {
                const double term = (double)x[t * WIDE + j] *
                                    (double)values[r * WIDE + j];

                sum += term;
                size += fabs(term);
            }
            ck_assert_double_eq_tol(y[t * TALL + r], sum,
                                    WIDE * FLT_EPSILON * size);
        }
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(chain);
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, refused, 2, &chain),
                 QRB_E_INVALID_ARG, "sign");
    qrb_quantizer_destroy(links[0]);
    qrb_quantizer_destroy(links[1]);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(tokens);
    qrb_tensor_destroy(out);
    qrb_tensor_destroy(dense);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_no_residual_can_be_is_refused)
{
    float w[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    float x[4] = { 1, 2, 3, 4 };
    qrb_context *ctx = context_of(1);
    const qrb_residual_options defaults = QRB_RESIDUAL_OPTIONS_INIT;
    qrb_residual_options residual = defaults;
    qrb_quantizer_options options = signs(&residual);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 4, w);
    qrb_observer *inputs = observe(ctx, QRB_F32, 1, 4, x);
    qrb_observer *narrow = observe(ctx, QRB_F32, 2, 2, x);
    qrb_quantizer *half = named(ctx, "fp16");
    qrb_quantizer *chain = named(ctx, "smoothquant+rtn4");
    qrb_quantizer *smooth = named(ctx, "smoothquant8");
    qrb_quantizer *out;
    qrb_packed *packed;

    residual.share = 0;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "share is 0");
    residual.share = NAN;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "share");
    residual = defaults;
    residual.balance = 2;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "balance 2");
    residual = defaults;
    residual.importance = 4;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "importance 4");
    residual = defaults;
    residual.quantizer = half;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "fp16 cannot");
    residual.quantizer = chain;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "chain");
    residual.quantizer = smooth;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "smoothquant cannot");
    residual.quantizer = NULL;
    options.kind = QRB_QUANTIZER_BF16;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "bf16 has no residual");
    options.kind = QRB_QUANTIZER_SIGN;
    options.mse_clip = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "sign has groups");
    options.mse_clip = 0;

    out = made(ctx, &options);
    ASSERT_FAILS(ctx, qrb_quantizer_quantize(out, tensor, &packed),
                 QRB_E_INVALID_ARG, "Gram matrix of the inputs");
    calibration.inputs = narrow;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_quantize_with(out, tensor, &calibration, NULL,
                                             &packed),
                 QRB_E_SHAPE, "the inputs have 2");
    qrb_quantizer_destroy(out);
    residual.importance = QRB_IMPORTANCE_RANKS;
    out = made(ctx, &options);
    calibration.inputs = inputs;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_quantize_with(out, tensor, &calibration, NULL,
                                             &packed),
                 QRB_E_INVALID_ARG, "Gram matrix of the gradients");
    qrb_quantizer_destroy(out);
    qrb_quantizer_destroy(half);
    qrb_quantizer_destroy(chain);
    qrb_quantizer_destroy(smooth);
    qrb_observer_destroy(inputs);
    qrb_observer_destroy(narrow);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status use_residual(qrb_context *ctx, void *arg)
{
    struct small_case small;
    qrb_residual_options residual = QRB_RESIDUAL_OPTIONS_INIT;
    const qrb_quantizer_options options = signs(&residual);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = NULL;
    qrb_quantizer *chain = NULL;
    qrb_status status;

    (void)arg;
    residual.importance = QRB_IMPORTANCE_SHARES;
    status = open_small_case(ctx, &small);
    if (status == QRB_OK)
        status = qrb_quantizer_create(ctx, &options, &quantizer);
    if (status == QRB_OK)
        status = qrb_quantizer_create_chain(
            ctx, (const qrb_quantizer *const *)&quantizer, 1, &chain);
    calibration.inputs = small.inputs;
    calibration.gradients = small.inputs;
    if (status == QRB_OK)
        status =
            qrb_quantizer_fake_with(chain, small.tensor, &calibration, NULL);
    qrb_quantizer_destroy(chain);
    qrb_quantizer_destroy(quantizer);
    close_small_case(&small);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    fail_each_allocation(use_residual, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("residual");
    TCase *tests = tcase_create("residual");

    tcase_add_test(tests, signs_and_residuals_are_those_of_the_specification);
    tcase_add_test(tests,
                   an_exact_residual_of_all_columns_gives_the_weights);
    tcase_add_test(
        tests,
        residuals_of_signs_make_errors_smaller_whatever_the_order_of_rows);
    tcase_add_test(tests, chains_and_products_know_residuals);
    tcase_add_test(tests, what_no_residual_can_be_is_refused);
    tcase_add_test(tests, every_allocation_may_fail);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
