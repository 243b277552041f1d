/* Quantizers that know their inputs: the contract that all methods share, and
 * the smallest of them, SmoothQuant. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

#include "quant/packed.h"

enum { TALL = 19, WIDE = 70, SIZE = TALL * WIDE, TOKENS = 33 };

static qrb_observer *observe(qrb_context *ctx, uint32_t dtype, size_t tokens,
                             size_t cols, void *x)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, dtype, tokens, cols, x);
    qrb_observer *observer;

    options.columns = cols;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observer));
    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    qrb_tensor_destroy(tensor);
    return observer;
}

/* Columns of very different sizes, as inputs of a language model have. */
static void fill_inputs(float *x)
{
    fill(77, TOKENS * WIDE, x);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t j = 0; j < WIDE; j++)
            x[t * WIDE + j] *= j % 7 == 3 ? 40.0f : 1.0f;
}

static const char *const chains[] = { "rtn4",
                                     "rtn3g32",
                                     "int8",
                                     "nf4",
                                     "smoothquant8",
                                     "smoothquant4g32",
                                     "smoothquant+rtn4g32",
                                     "smoothquant+int8",
                                     "smoothquant+nf4",
                                     "smoothquant+smoothquant+rtn2" };
enum { CHAINS = sizeof chains / sizeof *chains };

/* |x d^T|^2 over all tokens and rows. */
static double output_square(const float *x, const double *d)
{
    double sum = 0;

    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < TALL; r++) {
            double y = 0;

            for (size_t j = 0; j < WIDE; j++)
                y += (double)x[t * WIDE + j] * d[r * WIDE + j];
            sum += y * y;
        }
    return sum;
}

/* Float32 products in the Gram matrix: TOKENS eps relative, of sums that
 * cancel by less than a hundred here. */
START_TEST(reports_measure_what_was_done)
{
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    static double values[SIZE];
    static double errors[SIZE];
    static double given[SIZE];
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_tensor *out = matrix(ctx, QRB_F64, TALL, WIDE, values);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *inputs;

    fill(5, SIZE, w);
    fill_inputs(x);
    inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
    calibration.inputs = inputs;
    for (size_t i = 0; i < CHAINS; i++) {
        qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
        qrb_quantizer *quantizer = named(ctx, chains[i]);
        qrb_packed *packed;
        double square = 0;
        double whole = 0;

        ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor,
                                                   &calibration, &report,
                                                   &packed));
        ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
        for (size_t k = 0; k < SIZE; k++) {
            given[k] = (double)w[k];
            errors[k] = given[k] - values[k];
            square += errors[k] * errors[k];
            whole += given[k] * given[k];
        }
        ck_assert_double_eq_tol(report.relative_weight_error, square / whole,
                                1e-12);
        ck_assert_double_eq_tol(
            report.relative_output_error,
            output_square(x, errors) / output_square(x, given),
            1e-4 * report.relative_output_error);
        ck_assert_double_eq(report.bits_per_weight,
                            qrb_packed_bits_per_weight(packed));
        ck_assert(isnan(report.damping));
        qrb_packed_destroy(packed);

        if (strstr(chains[i], "smooth") == NULL) {
            ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, NULL,
                                                       &report, &packed));
            ck_assert_double_eq_tol(report.relative_weight_error,
                                    square / whole, 1e-12);
            ck_assert(isnan(report.relative_output_error));
            ck_assert(isnan(report.loss));
            qrb_packed_destroy(packed);
        }
        qrb_quantizer_destroy(quantizer);
    }
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(out);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(faking_gives_the_bits_of_unpacking_with_any_threads)
{
    static const uint32_t dtypes[] = { QRB_F32, QRB_F64, QRB_F16, QRB_BF16 };
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    static double expected[CHAINS][4][SIZE];
    static double values[SIZE];

    fill(6, SIZE, w);
    fill_inputs(x);
    for (size_t threads = 1; threads < 6; threads += 4)
        for (size_t i = 0; i < CHAINS; i++)
            for (size_t k = 0; k < 4; k++) {
                qrb_context *ctx = context_of(threads);
                const size_t size = qrb_dtype_size(dtypes[k]);
                qrb_tensor *source = matrix(ctx, QRB_F32, TALL, WIDE, w);
                qrb_tensor *tensor = matrix(ctx, dtypes[k], TALL, WIDE, NULL);
                qrb_tensor *out = matrix(ctx, dtypes[k], TALL, WIDE, values);
                qrb_calibration calibration = QRB_CALIBRATION_INIT;
                qrb_quantizer *quantizer = named(ctx, chains[i]);
                qrb_observer *inputs =
                    observe(ctx, QRB_F32, TOKENS, WIDE, x);
                qrb_packed *packed;

                calibration.inputs = inputs;
                ASSERT_OK(ctx, qrb_tensor_copy(source, tensor));
                ASSERT_OK(ctx, qrb_quantizer_quantize_with(
                                   quantizer, tensor, &calibration, NULL,
                                   &packed));
                ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
                ASSERT_OK(ctx, qrb_quantizer_fake_with(quantizer, tensor,
                                                       &calibration, NULL));
                ck_assert_mem_eq(qrb_tensor_memory(tensor), values,
                                 SIZE * size);
                if (threads == 1)
                    memcpy(expected[i][k], values, SIZE * size);
                else
                    ck_assert_mem_eq(expected[i][k], values, SIZE * size);
                qrb_packed_destroy(packed);
                qrb_observer_destroy(inputs);
                qrb_quantizer_destroy(quantizer);
                qrb_tensor_destroy(out);
                qrb_tensor_destroy(tensor);
                qrb_tensor_destroy(source);
                qrb_context_destroy(ctx);
            }
}
END_TEST

/* Quantizers 8, the example. */
START_TEST(the_scales_of_smoothquant_are_those_of_the_specification)
{
    static const double expected[2][3] = { { 4, 0.70710678, 2 },
                                           { 6.49801917, 0.55478474, 2 } };
    double w[6] = { .5, -1, .25, -.125, .5, .5 };
    double x[6] = { 8, .25, -2, -3, -.5, 1 };
    qrb_context *ctx = context_of(1);
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_smoothquant_options own = QRB_SMOOTHQUANT_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *inputs = observe(ctx, QRB_F64, 2, 3, x);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 2, 3, w);

    calibration.inputs = inputs;
    options.kind = QRB_QUANTIZER_SMOOTHQUANT;
    options.bits = 8;
    for (size_t i = 0; i < 2; i++) {
        qrb_quantizer *quantizer;
        qrb_packed *packed;
        const double *s;

        own.alpha = i == 0 ? .5 : .85;
        /* Half is the default, too. */
        options.smoothquant = i == 0 ? NULL : &own;
        ASSERT_OK(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
        ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor,
                                                   &calibration, NULL,
                                                   &packed));
        s = qrb_packed_input_scale(packed);
        for (size_t j = 0; j < 3; j++)
            ck_assert_double_eq_tol(s[j], expected[i][j], 5e-9);
        /* Row 0 of W s is [2, -.70710678, .5] at a half; its scale 2 / 127. */
        if (i == 0)
            ck_assert_double_eq_tol(qrb_packed_scales(packed)[0], 2.0 / 127,
                                    1e-9);
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
    }
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Quantizers 8: at a half max |x| / s is the column's maximum of W s; columns
 * without inputs are left, and values are close to the weights. */
START_TEST(smoothquant_balances_inputs_and_weights)
{
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    static float values[SIZE];
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_tensor *out = matrix(ctx, QRB_F32, TALL, WIDE, values);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = named(ctx, "smoothquant8");
    qrb_observer *inputs;
    qrb_packed *packed;
    const double *s;

    fill(9, SIZE, w);
    fill_inputs(x);
    for (size_t t = 0; t < TOKENS; t++)
        x[t * WIDE + 11] = 0;
    inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, &calibration,
                                               NULL, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    s = qrb_packed_input_scale(packed);
    for (size_t j = 0; j < WIDE; j++) {
        double act = 0;
        double largest = 0;

        for (size_t t = 0; t < TOKENS; t++)
            act = fmax(act, fabs((double)x[t * WIDE + j]));
        for (size_t r = 0; r < TALL; r++)
            largest = fmax(largest, fabs((double)w[r * WIDE + j]));
        if (j == 11)
            ck_assert_double_eq(s[j], 1);
        else
            ck_assert_double_eq_tol(act / s[j], largest * s[j], 1e-12 * act);
        for (size_t r = 0; r < TALL; r++) {
            const double h = qrb_packed_scales(packed)[r] / s[j];

            /* Half a step, and roundings to float32 of both ends. */
            ck_assert_double_le(
                fabs((double)(values[r * WIDE + j] - w[r * WIDE + j])),
                .5 * h * (1 + 1e-6) + FLT_EPSILON * largest);
        }
    }
    /* 8, a scale of 16 a row, and one of 16 a column. */
    ck_assert_double_eq_tol(qrb_packed_bits_per_weight(packed),
                            8 + 16.0 / WIDE + 16.0 / TALL, 1e-12);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(out);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Scaling by hand and rounding, against the chain.  F64, as the chain's copy
 * is then in double. */
START_TEST(a_chain_rounds_scaled_weights_and_divides_again)
{
    static float floats[SIZE];
    static float x[TOKENS * WIDE];
    static double w[SIZE];
    static double chained[SIZE];
    static double scaled[SIZE];
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, TALL, WIDE, w);
    qrb_tensor *first = matrix(ctx, QRB_F64, TALL, WIDE, chained);
    qrb_tensor *second = matrix(ctx, QRB_F64, TALL, WIDE, scaled);
    qrb_quantizer *chain = named(ctx, "smoothquant+rtn3g32");
    qrb_quantizer *rtn = named(ctx, "rtn3g32");
    qrb_quantizer *smooth = named(ctx, "smoothquant8");
    const qrb_quantizer *links[2];
    qrb_quantizer *linked;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer *inputs;
    qrb_packed *packed;
    const double *s;

    fill(10, SIZE, floats);
    for (size_t i = 0; i < SIZE; i++)
        w[i] = (double)floats[i];
    fill_inputs(x);
    inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(chain, tensor, &calibration,
                                               NULL, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, first));
    s = qrb_packed_input_scale(packed);
    for (size_t i = 0; i < SIZE; i++)
        scaled[i] = w[i] * s[i % WIDE];
    ASSERT_OK(ctx, qrb_quantizer_fake(rtn, second));
    for (size_t i = 0; i < SIZE; i++)
        ck_assert_double_eq(scaled[i] / s[i % WIDE], chained[i]);
    qrb_packed_destroy(packed);

    /* The same from links, which may go. */
    links[0] = smooth;
    links[1] = rtn;
    ASSERT_OK(ctx, qrb_quantizer_create_chain(ctx, links, 2, &linked));
    qrb_quantizer_destroy(smooth);
    qrb_quantizer_destroy(rtn);
    memcpy(scaled, w, sizeof w);
    ASSERT_OK(ctx,
              qrb_quantizer_fake_with(linked, second, &calibration, NULL));
    ck_assert_mem_eq(scaled, chained, sizeof chained);
    qrb_quantizer_destroy(linked);
    qrb_quantizer_destroy(chain);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(first);
    qrb_tensor_destroy(second);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Each part of a packed matrix that methods fill, by hand. */
START_TEST(values_are_made_of_all_parts)
{
    const uint32_t index[6] = { 1, 0, 0, 1, 0, 1 };
    const double input_scale[6] = { 1, 2, 4, 1, .5, 8 };
    const size_t starts[3] = { 0, 0, 2 };
    const uint32_t sparse_columns[2] = { 1, 5 };
    const float sparse_values[2] = { 3, -1 };
    const uint32_t residual_columns[2] = { 0, 4 };
    double w[12] = { 0, 1, 2, 3, -4, -4, 0, 6, -6, 1, 1, 2 };
    double extra[4] = { .25, -.25, .5, 0 };
    double values[12];
    double residual[4];
    qrb_context *ctx = context_of(1);
    qrb_quantizer *quantizer = named(ctx, "rtn4g3");
    qrb_quantizer *rows = named(ctx, "rtn4");
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 2, 6, w);
    qrb_tensor *out = matrix(ctx, QRB_F64, 2, 6, values);
    qrb_tensor *beside = matrix(ctx, QRB_F64, 2, 2, extra);
    qrb_tensor *beside_out = matrix(ctx, QRB_F64, 2, 2, residual);
    qrb_packed *packed;
    const double *scales;
    const double *zeros;
    double bits;

    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, tensor, &packed));
    bits = qrb_packed_bits_per_weight(packed) * 12;
    packed->group_index = qrb__alloc_array(ctx, 6, sizeof(uint32_t));
    packed->input_scale = qrb__alloc_array(ctx, 6, sizeof(double));
    packed->sparse.row_start = qrb__alloc_array(ctx, 3, sizeof(size_t));
    packed->sparse.columns = qrb__alloc_array(ctx, 2, sizeof(uint32_t));
    packed->sparse.values = qrb__alloc_array(ctx, 2, sizeof(float));
    packed->residual_columns = qrb__alloc_array(ctx, 2, sizeof(uint32_t));
    memcpy(packed->group_index, index, sizeof index);
    memcpy(packed->input_scale, input_scale, sizeof input_scale);
    memcpy(packed->sparse.row_start, starts, sizeof starts);
    memcpy(packed->sparse.columns, sparse_columns, sizeof sparse_columns);
    memcpy(packed->sparse.values, sparse_values, sizeof sparse_values);
    memcpy(packed->residual_columns, residual_columns,
           sizeof residual_columns);
    ASSERT_OK(ctx, qrb_quantizer_quantize(rows, beside, &packed->residual));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed->residual, beside_out));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    scales = qrb_packed_scales(packed);
    zeros = qrb_packed_zero_points(packed);
    for (size_t r = 0; r < 2; r++)
        for (size_t j = 0; j < 6; j++) {
            const size_t unit = r * 2 + index[j];
            int32_t code;
            double value;

            qrb__packed_read_codes(packed, r * 6 + j, 1, &code);
            value = scales[unit] * (code - zeros[unit]);
            value += j == 0 ? residual[2 * r] : 0;
            value += j == 4 ? residual[2 * r + 1] : 0;
            value += r == 1 && j == 1 ? 3 : 0;
            value += r == 1 && j == 5 ? -1 : 0;
            ck_assert_double_eq(values[r * 6 + j], value / input_scale[j]);
        }
    /* 32 a grouped column, 16 a scaled one, 64 a sparse weight and 32 a row
     * of them, the residual and 32 for each of its columns. */
    ck_assert_double_eq_tol(
        qrb_packed_bits_per_weight(packed) * 12,
        bits + 6 * 32 + 6 * 16 + 2 * 64 + 2 * 32 +
            qrb_packed_bits_per_weight(packed->residual) * 4 + 2 * 32,
        1e-9);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_quantizer_destroy(rows);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(out);
    qrb_tensor_destroy(beside);
    qrb_tensor_destroy(beside_out);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_is_missing_or_does_not_fit_is_named)
{
    float w[6] = { 1, 2, 3, 4, 5, 6 };
    float x[3] = { 1, 2, 3 };
    qrb_context *ctx = context_of(1);
    qrb_context *foreign = context_of(1);
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_smoothquant_options own = QRB_SMOOTHQUANT_OPTIONS_INIT;
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = { .struct_size = 1 };
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 3, w);
    qrb_tensor *narrow = matrix(ctx, QRB_F32, 2, 2, NULL);
    qrb_tensor *codes = matrix(ctx, QRB_I32, 2, 3, NULL);
    qrb_quantizer *smooth = named(ctx, "smoothquant8");
    qrb_quantizer *chain = named(ctx, "smoothquant+rtn4");
    qrb_quantizer *rtn = named(ctx, "rtn4");
    qrb_quantizer *half = named(ctx, "fp16");
    qrb_quantizer *strange = named(foreign, "rtn4");
    qrb_observer *inputs = observe(ctx, QRB_F32, 1, 3, x);
    qrb_observer *grams;
    qrb_observer *narrow_inputs = observe(ctx, QRB_F32, 1, 2, x);
    const qrb_quantizer *links[2];
    qrb_quantizer *out;
    qrb_packed *packed;

    observed.columns = 3;
    observed.what = QRB_OBSERVE_GRAM;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &grams));
    ASSERT_FAILS(ctx, qrb_quantizer_quantize(smooth, tensor, &packed),
                 QRB_E_INVALID_ARG, "smoothquant needs the ranges");
    ck_assert_ptr_null(packed);
    ASSERT_FAILS(ctx, qrb_quantizer_fake(chain, tensor), QRB_E_INVALID_ARG,
                 "smoothquant needs the ranges");
    calibration.inputs = grams;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_quantize_with(smooth, tensor, &calibration, NULL,
                                             &packed),
                 QRB_E_INVALID_ARG, "smoothquant needs the ranges");
    calibration.inputs = narrow_inputs;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(smooth, tensor, &calibration, NULL),
                 QRB_E_SHAPE, "inputs have 2 columns");
    calibration.inputs = inputs;
    calibration.fisher = narrow;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(smooth, tensor, &calibration, NULL),
                 QRB_E_SHAPE, "fisher is [2, 2]");
    calibration.fisher = codes;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(smooth, tensor, &calibration, NULL),
                 QRB_E_UNSUPPORTED, "fisher is I32");
    calibration.fisher = NULL;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(smooth, tensor, &calibration, &report),
                 QRB_E_INVALID_ARG, "struct_size");
    report.struct_size = sizeof report;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(half, tensor, &calibration, &report),
                 QRB_E_UNSUPPORTED, "fp16 has no report");
    calibration.struct_size = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_fake_with(rtn, tensor, &calibration, NULL),
                 QRB_E_INVALID_ARG, "calibration");
    w[4] = NAN;
    calibration.struct_size = sizeof calibration;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(smooth, tensor, &calibration, NULL),
                 QRB_E_NOT_FINITE, "w[1, 1]");
    ck_assert_int_eq(qrb_quantizer_fake_with(NULL, tensor, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(
        qrb_quantizer_quantize_with(rtn, tensor, NULL, NULL, NULL),
        QRB_E_INVALID_ARG);
    ck_assert_ptr_null(qrb_packed_input_scale(NULL));

    options.smoothquant = &own;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "options of smoothquant do not go with rtn");
    options.kind = QRB_QUANTIZER_SMOOTHQUANT;
    own.alpha = -.1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "alpha is -0.1");
    own.alpha = NAN;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "alpha");
    own.alpha = 1;
    own.struct_size = 0;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "struct_size");
    own.struct_size = sizeof own;
    options.bits = 9;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "smoothquant has 9 bits");
    options.bits = 8;
    options.mse_clip = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "mse_clip");

    links[0] = rtn;
    links[1] = rtn;
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 2, &out),
                 QRB_E_INVALID_ARG, "rtn scales no inputs");
    ck_assert_ptr_null(out);
    links[0] = chain;
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 2, &out),
                 QRB_E_INVALID_ARG, "a chain itself");
    links[0] = NULL;
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 2, &out),
                 QRB_E_INVALID_ARG, "a link is NULL");
    links[0] = strange;
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 2, &out),
                 QRB_E_INVALID_ARG, "another context");
    links[0] = smooth;
    links[1] = half;
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 2, &out),
                 QRB_E_INVALID_ARG, "fp16 has no codes");
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, links, 0, &out),
                 QRB_E_INVALID_ARG, "no links");
    ASSERT_FAILS(ctx, qrb_quantizer_create_chain(ctx, NULL, 1, &out),
                 QRB_E_INVALID_ARG, "no links");
    ck_assert_int_eq(qrb_quantizer_create_chain(NULL, links, 1, &out),
                     QRB_E_INVALID_ARG);

    qrb_quantizer_destroy(smooth);
    qrb_quantizer_destroy(chain);
    qrb_quantizer_destroy(rtn);
    qrb_quantizer_destroy(half);
    qrb_quantizer_destroy(strange);
    qrb_observer_destroy(inputs);
    qrb_observer_destroy(grams);
    qrb_observer_destroy(narrow_inputs);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(narrow);
    qrb_tensor_destroy(codes);
    qrb_context_destroy(foreign);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(names_that_are_none_are_refused)
{
    static const char *const wrong[] = {
        "",          "+",            "rtn",         "rtn4+",
        "+rtn4",     "smoothquant",  "smoothquant+rtn", "rtn4+rtn4",
        "int8+rtn4", "smoothquant1+rtn4", "smoothquant+fp16",
        ("smoothquant+smoothquant+smoothquant+smoothquant+smoothquant+"
         "smoothquant+smoothquant+smoothquant+rtn4"),
        "smoothquant+rtn4g", "smoothquant8 +rtn4", "int84", "nf4g32"
    };
    qrb_context *ctx = context_of(1);

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        qrb_quantizer *out;

        ck_assert_int_eq(qrb_quantizer_create_named(ctx, wrong[i], &out),
                         QRB_E_INVALID_ARG);
        ck_assert_ptr_null(out);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Runs that end inside of bytes, in any order, and again. */
START_TEST(codes_are_stored_in_their_bits)
{
    enum { FEW = 7, MANY = 45, ALL = FEW * MANY };
    static const char *const kinds[] = { "rtn2", "rtn3", "rtn4", "rtn5",
                                         "rtn6", "rtn7", "rtn8", "int8",
                                         "smoothquant5" };
    float w[ALL];
    float x[MANY];
    int32_t expected[ALL];
    int32_t found[ALL];
    qrb_context *ctx = context_of(1);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, FEW, MANY, w);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = named(ctx, kinds[_i]);
    qrb_observer *inputs;
    qrb_packed *packed;
    uint32_t random = 1;
    size_t scales;

    fill(2, ALL, w);
    fill(3, MANY, x);
    inputs = observe(ctx, QRB_F32, 1, MANY, x);
    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, &calibration,
                                               NULL, &packed));
    ck_assert_int_eq(qrb_packed_read_codes(packed, expected), QRB_OK);
    for (size_t round = 0; round < 300; round++) {
        size_t first;
        size_t n;

        random = 1664525u * random + 1013904223u;
        first = (random >> 8) % ALL;
        n = 1 + (random >> 20) % (ALL - first);
        for (size_t i = first; i < first + n; i++)
            expected[i] =
                (int32_t)((i * 7 + round) % (1u << packed->bits)) -
                packed->code_zero;
        qrb__packed_write_codes(packed, first, n, expected + first);
        qrb__packed_read_codes(packed, 0, ALL, found);
        ck_assert_mem_eq(found, expected, sizeof found);
        qrb__packed_read_codes(packed, first, n, found);
        ck_assert_mem_eq(found, expected + first, n * sizeof *found);
    }
    /* A row in whole words, and one or two doubles a row beside it. */
    scales = qrb_packed_zero_points(packed) != NULL ? 2 : 1;
    ck_assert_uint_eq(qrb_packed_memory(packed),
                      sizeof *packed +
                          FEW * ((MANY * packed->bits + 31) / 32 * 4) +
                          scales * FEW * sizeof(double) +
                          (packed->input_scale != NULL ? MANY : 0) *
                              sizeof(double));
    qrb_packed_destroy(packed);
    qrb_observer_destroy(inputs);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status use_chain(qrb_context *ctx, void *arg)
{
    struct small_case small;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_quantizer *quantizer = NULL;
    float before[12];
    qrb_status status;

    status = open_small_case(ctx, &small);
    memcpy(before, small.w, sizeof before);
    if (status == QRB_OK)
        status = qrb_quantizer_create_named(ctx, arg, &quantizer);
    calibration.inputs = small.inputs;
    if (status == QRB_OK) {
        status = qrb_quantizer_fake_with(quantizer, small.tensor, &calibration,
                                         &report);
        if (status != QRB_OK)
            ck_assert_mem_eq(small.w, before, sizeof before);
    }
    qrb_quantizer_destroy(quantizer);
    close_small_case(&small);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    char name[64];

    strcpy(name, chains[_i]);
    if (strchr(name, 'g') == NULL)
        fail_each_allocation(use_chain, name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calibrated");
    TCase *contract = tcase_create("contract");
    TCase *smooth = tcase_create("smoothquant");

    tcase_add_test(contract, reports_measure_what_was_done);
    tcase_add_test(contract,
                   faking_gives_the_bits_of_unpacking_with_any_threads);
    tcase_add_test(contract, a_chain_rounds_scaled_weights_and_divides_again);
    tcase_add_test(contract, values_are_made_of_all_parts);
    tcase_add_loop_test(contract, codes_are_stored_in_their_bits, 0, 9);
    tcase_add_test(contract, what_is_missing_or_does_not_fit_is_named);
    tcase_add_test(contract, names_that_are_none_are_refused);
    tcase_add_loop_test(contract, every_allocation_may_fail, 0, CHAINS);
    tcase_add_test(smooth,
                   the_scales_of_smoothquant_are_those_of_the_specification);
    tcase_add_test(smooth, smoothquant_balances_inputs_and_weights);
    suite_add_tcase(suite, contract);
    suite_add_tcase(suite, smooth);
    return run_suite(suite);
}
