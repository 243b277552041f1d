/* GPTQ as a quantizer: options and names, the numeric cases through tensors
 * and observers, and what its report says. */
#include <fenv.h>
#include <math.h>

#include "harness.h"

#include <qrobust/quantizer.h>

enum { ROWS = 8, COLS = 32, ELEMENTS = ROWS * COLS, TOKENS = 64 };

/* Weights of the specification: a linear congruential generator. */
static void fill(uint32_t seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = seed / 4294967296.0 - 0.5;
    }
}

static qrb_tensor *matrix(qrb_context *ctx, uint32_t dtype, size_t rows,
                          size_t cols, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    options.dtype = dtype;
    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    options.memory = memory;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

/* Quantizers 2.6, E3: 8 rows of 32, and 64 tokens. */
struct example {
    qrb_context *ctx;
    double w[ELEMENTS];
    double x[TOKENS * COLS];
    qrb_tensor *weights;
    qrb_observer *observer;
    qrb_calibration calibration;
};

/* Tokens in sequences of equal length. */
static void observe(struct example *example, size_t sequences)
{
    const size_t length = TOKENS / sequences;
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;

    options.columns = COLS;
    ASSERT_OK(example->ctx, qrb_observer_create(example->ctx, &options,
                                                &example->observer));
    for (size_t i = 0; i < sequences; i++) {
        qrb_tensor *x = matrix(example->ctx, QRB_F64, length, COLS,
                               example->x + i * length * COLS);

        ASSERT_OK(example->ctx, qrb_observer_add(example->observer, x));
        qrb_tensor_destroy(x);
    }
    example->calibration = (qrb_calibration)QRB_CALIBRATION_INIT;
    example->calibration.inputs = example->observer;
}

static struct example *make_example(size_t sequences)
{
    struct example *example = calloc(1, sizeof *example);

    ck_assert_ptr_nonnull(example);
    example->ctx = make_context(NULL);
    fill(1, ELEMENTS, example->w);
    fill(2, TOKENS * COLS, example->x);
    example->weights =
        matrix(example->ctx, QRB_F64, ROWS, COLS, example->w);
    observe(example, sequences);
    return example;
}

static void free_example(struct example *example)
{
    qrb_tensor_destroy(example->weights);
    qrb_observer_destroy(example->observer);
    qrb_context_destroy(example->ctx);
    free(example);
}

static qrb_quantizer *named(qrb_context *ctx, const char *name)
{
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

static qrb_quantizer *with_options(qrb_context *ctx, uint32_t bits,
                                   size_t group_size,
                                   const qrb_gptq_options *own)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer;

    options.kind = QRB_QUANTIZER_GPTQ;
    options.bits = bits;
    options.group_size = group_size;
    options.gptq = own;
    ASSERT_OK(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
    return quantizer;
}

static void assert_same_codes(const qrb_packed *a, const qrb_packed *b)
{
    int32_t codes[2][ELEMENTS];

    ck_assert_int_eq(qrb_packed_read_codes(a, codes[0]), QRB_OK);
    ck_assert_int_eq(qrb_packed_read_codes(b, codes[1]), QRB_OK);
    ck_assert_mem_eq(codes[0], codes[1], sizeof codes[0]);
}

static qrb_packed *quantize(struct example *example, qrb_quantizer *quantizer,
                            qrb_quantize_report *report)
{
    qrb_packed *packed;

    *report = (qrb_quantize_report)QRB_QUANTIZE_REPORT_INIT;
    ASSERT_OK(example->ctx, qrb_quantizer_quantize_with(
                                quantizer, example->weights,
                                &example->calibration, report, &packed));
    return packed;
}

/* D = W - Q of what dequantize gives; |X D^T|^2 and tr D D^T. */
static double output_error(struct example *example, const qrb_packed *packed,
                           double *square_out)
{
    double q[ELEMENTS];
    qrb_tensor *values = matrix(example->ctx, QRB_F64, ROWS, COLS, q);
    double sum = 0;

    ASSERT_OK(example->ctx, qrb_packed_dequantize(packed, values));
    qrb_tensor_destroy(values);
    *square_out = 0;
    for (size_t i = 0; i < ELEMENTS; i++) {
        q[i] = example->w[i] - q[i];
        *square_out += q[i] * q[i];
    }
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double y = 0;

            for (size_t j = 0; j < COLS; j++)
                y += example->x[t * COLS + j] * q[r * COLS + j];
            sum += y * y;
        }
    return sum;
}

static double whole_output(const struct example *example)
{
    double sum = 0;

    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double y = 0;

            for (size_t j = 0; j < COLS; j++)
                y += example->x[t * COLS + j] * example->w[r * COLS + j];
            sum += y * y;
        }
    return sum;
}

static double mean_moment(const struct example *example)
{
    double sum = 0;

    for (size_t i = 0; i < TOKENS * COLS; i++)
        sum += example->x[i] * example->x[i];
    return sum / COLS;
}

static const struct {
    const char *name;
    size_t sequences;
    double loss;
    double bits;
    const char *row;
} cases[] = {
    { "gptq3", 1, 2.092686791, 3 + (16 + 3) / 32.0,
      "23451364052356277364211315442672" },
    { "gptq3", 4, 0.523171698, 3 + (16 + 3) / 32.0,
      "23451364052356277364211315442672" },
    { "gptq3g8", 1, 1.146480435, 3 + (16 + 3) / 8.0,
      "13460375052356277365110305421560" },
};

/* Quantizers 2.6; the loss is tr(D Hd D^T) / 2 of the values that come out,
 * and the output error that of the inputs. */
START_TEST(the_examples_come_out_of_tensors_and_observers)
{
    struct example *example = make_example(cases[_i].sequences);
    const double sequences = (double)cases[_i].sequences;
    qrb_quantizer *quantizer = named(example->ctx, cases[_i].name);
    qrb_quantize_report report;
    qrb_packed *packed = quantize(example, quantizer, &report);
    double square;
    const double error = output_error(example, packed, &square);
    int32_t codes[ELEMENTS];

    ck_assert_int_eq(qrb_packed_read_codes(packed, codes), QRB_OK);
    for (size_t j = 0; j < COLS; j++)
        ck_assert_int_eq(codes[j], cases[_i].row[j] - '0');
    ck_assert_double_eq_tol(report.loss, cases[_i].loss, 5e-9);
    ck_assert_double_eq_tol(
        report.loss,
        (error + 0.01 * mean_moment(example) * square) / sequences, 1e-9);
    ck_assert_double_eq_tol(report.relative_output_error,
                            error / whole_output(example), 1e-9);
    ck_assert_double_eq(report.damping, 0.01);
    ck_assert_double_eq_tol(report.bits_per_weight, cases[_i].bits, 1e-12);
    ck_assert_uint_eq(report.outcome, QRB_QUANTIZE_DONE);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    free_example(example);
}
END_TEST

/* With act_order alone a group's columns lie anywhere; the values are those of
 * the loss all the same, and fake quantization has the same bits. */
START_TEST(groups_in_the_order_of_activations_decode_as_they_were_coded)
{
    struct example *example = make_example(1);
    qrb_gptq_options own = QRB_GPTQ_OPTIONS_INIT;

    own.act_order = 1;
    for (uint32_t fixed = 0; fixed < 2; fixed++) {
        double w[ELEMENTS];
        double q[ELEMENTS];
        qrb_tensor *faked = matrix(example->ctx, QRB_F64, ROWS, COLS, w);
        qrb_tensor *values = matrix(example->ctx, QRB_F64, ROWS, COLS, q);
        qrb_quantize_report report;
        qrb_quantizer *quantizer;
        qrb_packed *packed;
        double error;
        double square;

        own.static_groups = fixed;
        quantizer = with_options(example->ctx, 3, 8, &own);
        packed = quantize(example, quantizer, &report);
        error = output_error(example, packed, &square);
        ck_assert_double_eq_tol(
            report.loss, error + 0.01 * mean_moment(example) * square, 1e-9);
        if (fixed)
            ck_assert_double_eq_tol(report.loss, 1.194635197, 5e-9);
        ck_assert_double_eq_tol(report.bits_per_weight,
                                3 + (16 + 3) / 8.0 +
                                    (fixed ? 0 : 32.0 * COLS / ELEMENTS),
                                1e-12);
        memcpy(w, example->w, sizeof w);
        ASSERT_OK(example->ctx,
                  qrb_quantizer_fake_with(quantizer, faked,
                                          &example->calibration, NULL));
        ASSERT_OK(example->ctx, qrb_packed_dequantize(packed, values));
        ck_assert_mem_eq(w, q, sizeof w);
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
        qrb_tensor_destroy(faked);
        qrb_tensor_destroy(values);
    }
    free_example(example);
}
END_TEST

/* Float32 weights are the doubles they are; grids without zero points too. */
START_TEST(weights_of_float32_code_as_their_doubles)
{
    struct example *example = make_example(1);
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer;
    qrb_quantize_report report;
    qrb_packed *doubles;
    qrb_packed *floats;
    float w[ELEMENTS];

    for (size_t i = 0; i < ELEMENTS; i++) {
        w[i] = (float)example->w[i];
        example->w[i] = (double)w[i];
    }
    options.kind = QRB_QUANTIZER_GPTQ;
    options.grid = _i == 0 ? QRB_GRID_S_ABS : QRB_GRID_S_GPTQ;
    options.compat = (uint32_t)(_i == 2);
    options.mse_clip = (uint32_t)(_i == 1);
    ASSERT_OK(example->ctx,
              qrb_quantizer_create(example->ctx, &options, &quantizer));
    doubles = quantize(example, quantizer, &report);
    qrb_tensor_destroy(example->weights);
    example->weights = matrix(example->ctx, QRB_F32, ROWS, COLS, w);
    floats = quantize(example, quantizer, &report);
    assert_same_codes(doubles, floats);
    ck_assert((qrb_packed_zero_points(floats) == NULL) == (_i == 0));
    ck_assert(isfinite(report.loss));
    qrb_packed_destroy(doubles);
    qrb_packed_destroy(floats);
    qrb_quantizer_destroy(quantizer);
    free_example(example);
}
END_TEST

/* In the coordinates of the scaled inputs it solves the same problem. */
START_TEST(a_chain_solves_in_scaled_coordinates)
{
    struct example *example = make_example(1);
    qrb_quantizer *chain;
    qrb_quantizer *smooth;
    qrb_quantize_report solved;
    qrb_quantize_report rounded;
    double square;
    qrb_packed *packed;

    for (size_t t = 0; t < TOKENS; t++)
        example->x[t * COLS + 3] *= 20;
    qrb_observer_destroy(example->observer);
    observe(example, 1);
    chain = named(example->ctx, "smoothquant+gptq4");
    smooth = named(example->ctx, "smoothquant+rtn4");
    packed = quantize(example, smooth, &rounded);
    qrb_packed_destroy(packed);
    packed = quantize(example, chain, &solved);
    ck_assert_ptr_nonnull(qrb_packed_input_scale(packed));
    ck_assert_double_eq_tol(solved.relative_output_error,
                            output_error(example, packed, &square) /
                                whole_output(example),
                            1e-9);
    ck_assert_double_lt(solved.relative_output_error,
                        0.9 * rounded.relative_output_error);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(chain);
    qrb_quantizer_destroy(smooth);
    free_example(example);
}
END_TEST

START_TEST(inputs_that_say_nothing_keep_round_to_nearest)
{
    struct example *example = make_example(1);
    qrb_quantizer *quantizer = named(example->ctx, "gptq4g8");
    qrb_quantizer *nearest = named(example->ctx, "rtn4g8");
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_quantize_report report;
    qrb_packed *packed;
    qrb_packed *rounded;

    qrb_observer_destroy(example->observer);
    options.columns = COLS;
    ASSERT_OK(example->ctx, qrb_observer_create(example->ctx, &options,
                                                &example->observer));
    example->calibration.inputs = example->observer;
    packed = quantize(example, quantizer, &report);
    ck_assert_uint_eq(report.outcome, QRB_QUANTIZE_NO_INPUTS);
    ck_assert(isnan(report.loss));
    rounded = quantize(example, nearest, &report);
    ck_assert_uint_eq(report.outcome, QRB_QUANTIZE_DONE);
    assert_same_codes(packed, rounded);
    qrb_packed_destroy(packed);
    qrb_packed_destroy(rounded);
    qrb_quantizer_destroy(quantizer);
    qrb_quantizer_destroy(nearest);
    free_example(example);
}
END_TEST

/* Two bits of one row, with inputs that hardly relate: rounding may win. */
START_TEST(a_report_says_where_round_to_nearest_was_nearer)
{
    size_t kept = 0;

    for (uint32_t seed = 0; seed < 40; seed++) {
        struct example *example = make_example(1);
        qrb_quantizer *quantizer = named(example->ctx, "gptq2");
        qrb_quantizer *nearest = named(example->ctx, "rtn2");
        qrb_quantize_report report;
        qrb_quantize_report rounded;

        fill(1000 + seed, COLS, example->w);
        memset(example->w + COLS, 0, (ELEMENTS - COLS) * sizeof(double));
        qrb_packed_destroy(quantize(example, quantizer, &report));
        qrb_packed_destroy(quantize(example, nearest, &rounded));
        ck_assert_double_le(report.relative_output_error,
                            rounded.relative_output_error * (1 + 1e-9));
        if (report.outcome == QRB_QUANTIZE_NO_BETTER) {
            kept++;
            ck_assert_double_eq(report.relative_output_error,
                                rounded.relative_output_error);
            ck_assert(isnan(report.loss));
        } else {
            ck_assert_uint_eq(report.outcome, QRB_QUANTIZE_DONE);
        }
        qrb_quantizer_destroy(quantizer);
        qrb_quantizer_destroy(nearest);
        free_example(example);
    }
    ck_assert_uint_ge(kept, 1);
    ck_assert_uint_le(kept, 39);
}
END_TEST

START_TEST(the_rounding_mode_of_the_host_moves_nothing)
{
    struct example *example = make_example(1);
    qrb_quantizer *quantizer = named(example->ctx, "gptq3g8");
    qrb_quantize_report report;
    qrb_quantize_report upward;
    qrb_packed *packed = quantize(example, quantizer, &report);
    qrb_packed *again;

    fesetround(FE_UPWARD);
    again = quantize(example, quantizer, &upward);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    assert_same_codes(packed, again);
    ck_assert_mem_eq(qrb_packed_scales(packed), qrb_packed_scales(again),
                     4 * ROWS * sizeof(double));
    ck_assert_mem_eq(&report, &upward, sizeof report);
    qrb_packed_destroy(packed);
    qrb_packed_destroy(again);
    qrb_quantizer_destroy(quantizer);
    free_example(example);
}
END_TEST

START_TEST(what_it_cannot_do_is_refused)
{
    static const struct {
        qrb_quantizer_options options;
        qrb_gptq_options own;
        const char *words;
    } refusals[] = {
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ }, { .damping = 0.01 },
          "block_size is 0" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .damping = -1 }, "damping is -1" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .damping = (double)NAN }, "damping is" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .damping = (double)INFINITY },
          "damping is inf" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .group_stats = 2 }, "group_stats 2" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .act_order = 2 }, "act_order 2" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .static_groups = 2 }, "static_groups 2" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ },
          { .block_size = 1, .reserved = 2 }, "reserved 2" },
        { { .bits = 4, .grid = QRB_GRID_A_GPTQ,
            .granularity = QRB_PER_TENSOR }, { .block_size = 1 },
          "granularity" },
        { { .bits = 4, .grid = QRB_GRID_S_SMOOTH }, { .block_size = 1 },
          "S_SMOOTH" },
        { { .bits = 9, .grid = QRB_GRID_A_GPTQ }, { .block_size = 1 },
          "9 bits" },
        { { .bits = 4, .grid = 99 }, { .block_size = 1 }, "grid 99" },
    };
    struct example *example = make_example(1);
    qrb_context *ctx = example->ctx;
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        qrb_quantizer_options options = refusals[i].options;
        qrb_gptq_options own = refusals[i].own;

        options.struct_size = sizeof options;
        options.kind = QRB_QUANTIZER_GPTQ;
        own.struct_size = sizeof own;
        options.gptq = &own;
        ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &quantizer),
                     QRB_E_INVALID_ARG, refusals[i].words);
        ck_assert_ptr_null(quantizer);
    }
    quantizer = named(ctx, "gptq4");
    ASSERT_FAILS(ctx,
                 qrb_quantizer_quantize(quantizer, example->weights, &packed),
                 QRB_E_INVALID_ARG, "Gram matrix");
    qrb_quantizer_destroy(quantizer);
    free_example(example);
}
END_TEST

/* All calls with one context. */
static qrb_status whole_job(qrb_context *ctx, void *arg)
{
    qrb_observer_options observer_options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_gptq_options own = QRB_GPTQ_OPTIONS_INIT;
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_observer *observer = NULL;
    qrb_quantizer *quantizer = NULL;
    qrb_tensor *tensor = NULL;
    qrb_packed *packed = NULL;
    qrb_status status;

    view.rank = 2;
    view.shape[0] = 4;
    view.shape[1] = COLS;
    view.memory = arg;
    observer_options.columns = COLS;
    options.kind = QRB_QUANTIZER_GPTQ;
    options.group_size = 8;
    options.grid = QRB_GRID_S_ABS;
    own.act_order = 1;
    options.gptq = &own;
    status = qrb_tensor_create(ctx, &view, &tensor);
    if (status == QRB_OK)
        status = qrb_observer_create(ctx, &observer_options, &observer);
    if (status == QRB_OK)
        status = qrb_observer_add(observer, tensor);
    calibration.inputs = observer;
    if (status == QRB_OK)
        status = qrb_quantizer_create(ctx, &options, &quantizer);
    if (status == QRB_OK)
        status = qrb_quantizer_quantize_with(quantizer, tensor, &calibration,
                                             &report, &packed);
    ck_assert((packed != NULL) == (status == QRB_OK));
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_observer_destroy(observer);
    qrb_tensor_destroy(tensor);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    double doubles[4 * COLS];
    float w[4 * COLS];

    fill(5, 4 * COLS, doubles);
    for (size_t i = 0; i < 4 * COLS; i++)
        w[i] = (float)doubles[i];
    fail_each_allocation(whole_job, w);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gptq quantizer");
    TCase *calls = tcase_create("calls");

    tcase_add_loop_test(calls, the_examples_come_out_of_tensors_and_observers,
                        0, sizeof cases / sizeof *cases);
    tcase_add_test(
        calls, groups_in_the_order_of_activations_decode_as_they_were_coded);
    tcase_add_loop_test(calls, weights_of_float32_code_as_their_doubles, 0, 3);
    tcase_add_test(calls, a_chain_solves_in_scaled_coordinates);
    tcase_add_test(calls, inputs_that_say_nothing_keep_round_to_nearest);
    tcase_add_test(calls, a_report_says_where_round_to_nearest_was_nearer);
    tcase_add_test(calls, the_rounding_mode_of_the_host_moves_nothing);
    tcase_add_test(calls, what_it_cannot_do_is_refused);
    tcase_add_test(calls, every_allocation_may_fail);
    suite_add_tcase(suite, calls);
    return run_suite(suite);
}
