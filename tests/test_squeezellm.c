/* SqueezeLLM: the example of the specification, what is kept beside the codes,
 * and what holds for any weights and squared gradients. */
#include <float.h>
#include <math.h>

#include "core/random.h"
#include "quantizer_fixture.h"

#include "quant/outliers.h"
#include "quant/packed.h"

enum { TALL = 19, WIDE = 70, SIZE = TALL * WIDE };

/* A matrix with its squared gradients. */
struct task {
    uint32_t dtype;
    size_t rows;
    size_t cols;
    void *w; /* [rows, cols] of dtype */
    double *fisher;
};

static qrb_quantizer_options options_of(uint32_t bits,
                                        const qrb_squeezellm_options *own)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;

    options.kind = QRB_QUANTIZER_SQUEEZELLM;
    options.bits = bits;
    options.squeezellm = own;
    return options;
}

static qrb_status try_task(qrb_context *ctx, const struct task *task,
                           uint32_t bits, const qrb_squeezellm_options *own,
                           qrb_quantize_report *report, qrb_packed **out)
{
    const qrb_quantizer_options options = options_of(bits, own);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_tensor *w = matrix(ctx, task->dtype, task->rows, task->cols, task->w);
    qrb_tensor *fisher =
        matrix(ctx, QRB_F64, task->rows, task->cols, task->fisher);
    qrb_quantizer *quantizer = made(ctx, &options);
    qrb_status status;

    calibration.fisher = fisher;
    status =
        qrb_quantizer_quantize_with(quantizer, w, &calibration, report, out);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(fisher);
    qrb_tensor_destroy(w);
    return status;
}

static qrb_packed *quantize(qrb_context *ctx, const struct task *task,
                            uint32_t bits, const qrb_squeezellm_options *own,
                            qrb_quantize_report *report)
{
    qrb_packed *packed;

    ASSERT_OK(ctx, try_task(ctx, task, bits, own, report, &packed));
    return packed;
}

static void dequantize(qrb_context *ctx, const qrb_packed *packed, size_t rows,
                       size_t cols, double *values)
{
    qrb_tensor *out = matrix(ctx, QRB_F64, rows, cols, values);

    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    qrb_tensor_destroy(out);
}

/* Weights with a tail and some zeros; squares of several sizes. */
static void fill_task(uint64_t seed, double *w, double *fisher)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    for (size_t i = 0; i < SIZE; i++) {
        const double x = qrb__random_normal(&random, 2 * i);
        const double g = qrb__random_normal(&random, 2 * i + 1);

        w[i] = i % 23 == 7 ? 0 : x + 0.1 * x * x * x;
        fisher[i] = 1e-8 * g * g * g * g;
    }
}

static size_t count_of(const qrb_packed *packed)
{
    const size_t *row_start;
    const uint32_t *columns;
    const float *values;

    ck_assert_int_eq(qrb_packed_outliers(packed, &row_start, &columns, &values),
                     QRB_OK);
    return row_start == NULL ? 0 : row_start[TALL];
}

/* One byte for each element: whether it is kept beside the codes. */
static void mark_outliers(const qrb_packed *packed, unsigned char *marks)
{
    const size_t *row_start;
    const uint32_t *columns;
    const float *values;

    memset(marks, 0, SIZE);
    ck_assert_int_eq(qrb_packed_outliers(packed, &row_start, &columns, &values),
                     QRB_OK);
    ck_assert_ptr_nonnull(row_start);
    ck_assert_uint_eq(row_start[0], 0);
    for (size_t r = 0; r < TALL; r++)
        for (size_t i = row_start[r]; i < row_start[r + 1]; i++) {
            ck_assert_uint_lt(columns[i], WIDE);
            ck_assert(i == row_start[r] || columns[i - 1] < columns[i]);
            marks[r * WIDE + columns[i]] = 1;
        }
}

static const double example_w[] = { -0.9, -0.85, -0.3, -0.1, 0,
                                    0.05, 0.4,   0.45, 0.5,  1.2 };
static const double example_fisher[] = { 1, 4, 2, 1, 10, 1, 1, 8, 1, 0.5 };

static struct task example(double *w, double *fisher)
{
    memcpy(w, example_w, sizeof example_w);
    memcpy(fisher, example_fisher, sizeof example_fisher);
    return (struct task){ QRB_F64, 1, 10, w, fisher };
}

START_TEST(a_row_of_ten_is_that_of_the_specification)
{
    const double table[] = { -0.86, -0.1625, 0.45, 1.2 };
    const int32_t expected[] = { 0, 0, 1, 1, 1, 1, 2, 2, 2, 3 };
    double w[10];
    double fisher[10];
    const struct task task = example(w, fisher);
    qrb_context *ctx = context_of(1);
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_packed *packed = quantize(ctx, &task, 2, NULL, &report);

    /* Half a last bit of float32 in each error. */
    ck_assert_double_eq_tol(report.loss, 0.093875, 1e-6);
    for (size_t k = 0; k < 4; k++)
        ck_assert(qrb_packed_table(packed)[k] == (float)table[k]);
    ck_assert_mem_eq(codes_of(packed), expected, sizeof expected);
    ck_assert_double_eq(qrb_packed_scales(packed)[0], 1);
    ck_assert_ptr_null(qrb_packed_zero_points(packed));
    /* Four values of 16 bits for ten weights. */
    ck_assert_double_eq_tol(report.bits_per_weight, 2 + 6.4, 1e-12);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_row_without_gradients_counts_all_weights_alike)
{
    const float table[] = { -0.875f, -0.0875f, 0.45f, 1.2f };
    double w[10];
    double fisher[10];
    const struct task task = example(w, fisher);
    qrb_context *ctx = context_of(1);
    qrb_packed *packed;

    memset(fisher, 0, sizeof fisher);
    packed = quantize(ctx, &task, 2, NULL, NULL);
    ck_assert_mem_eq(qrb_packed_table(packed), table, sizeof table);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* Quartiles -0.25 and 0.4375. */
START_TEST(a_quartile_range_of_one_keeps_what_the_specification_keeps)
{
    double w[10];
    double fisher[10];
    const struct task task = example(w, fisher);
    qrb_context *ctx = context_of(1);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_packed packed = { 0 };
    const size_t shape[] = { 1, 10 };
    const struct qrb__view view = qrb__view_make(QRB_F64, 2, shape, fisher);
    const struct qrb__matrix_work work = { .ctx = ctx,
                                           .rows = 1,
                                           .cols = 10,
                                           .precision = QRB_F64,
                                           .w = w,
                                           .fisher = &view,
                                           .packed = &packed };
    struct qrb__outliers outliers = { 0, 0, 1 };
    struct qrb__outlier_limits limits;
    qrb_packed *result;
    const size_t *row_start;
    const uint32_t *columns;
    const float *values;

    ASSERT_OK(ctx, qrb__outliers_find(&work, &outliers, &limits));
    ck_assert_double_eq_tol(limits.magnitude, 1.125, 1e-15);
    ck_assert_double_eq(limits.sensitivity, INFINITY);
    outliers.range = 2;
    ASSERT_OK(ctx, qrb__outliers_find(&work, &outliers, &limits));
    ck_assert_double_eq_tol(limits.magnitude, 1.8125, 1e-15);

    own.range = 1;
    result = quantize(ctx, &task, 2, &own, NULL);
    ck_assert_int_eq(qrb_packed_outliers(result, &row_start, &columns, &values),
                     QRB_OK);
    ck_assert_uint_eq(row_start[1], 1);
    ck_assert_uint_eq(columns[0], 9);
    qrb_packed_destroy(result);

    for (size_t i = 0; i < 10; i++)
        w[i] = -w[i];
    outliers.range = 1;
    ASSERT_OK(ctx, qrb__outliers_find(&work, &outliers, &limits));
    ck_assert_double_eq_tol(limits.magnitude, 1.125, 1e-15);
    for (size_t i = 0; i < 10; i++)
        w[i] = i < 9 ? 0.5 : 3; /* no range, no outliers */
    ASSERT_OK(ctx, qrb__outliers_find(&work, &outliers, &limits));
    ck_assert_double_eq(limits.magnitude, INFINITY);
    qrb_context_destroy(ctx);
}
END_TEST

/* 5 % of 1330 are 66, and 2 % are 26, of which the last stays. */
START_TEST(percentages_count_what_is_kept)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static double values[SIZE];
    unsigned char marks[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(2);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_packed *packed;

    fill_task(1, w, fisher);
    for (size_t i = 0; i < SIZE; i += 97) { /* outliers for both reasons */
        w[i] = 10 + (double)i;
        fisher[i] = 1;
    }
    for (size_t round = 0; round < 3; round++) {
        size_t kept = 0;
        size_t sensitive = 0;

        own.outliers = round == 1 ? 0 : 5;
        own.sensitive = round == 0 ? 0 : 2;
        packed = quantize(ctx, &task, 3, &own, NULL);
        ck_assert_uint_eq(count_of(packed), round == 1 ? 25 : 66);
        mark_outliers(packed, marks);
        dequantize(ctx, packed, TALL, WIDE, values);
        for (size_t i = 0; i < SIZE; i++) {
            size_t above = 0;
            size_t larger = 0;

            for (size_t j = 0; j < SIZE; j++) {
                above += fisher[j] > fisher[i];
                larger += fabs(w[j]) > fabs(w[i]);
            }
            kept += marks[i];
            sensitive += marks[i] && above < 25;
            if (round == 0)
                ck_assert_int_eq(marks[i], larger < 66);
            if (round > 0 && above < 25)
                ck_assert_int_eq(marks[i], 1);
            if (round == 2 && larger < 66 - 25)
                ck_assert_int_eq(marks[i], 1);
            /* In float32 the code's value and the rest of it. */
            if (marks[i])
                ck_assert_double_eq_tol(values[i], w[i],
                                        FLT_EPSILON * (fabs(w[i]) + 1));
        }
        ck_assert_uint_eq(kept, round == 1 ? 25 : 66);
        if (round > 0)
            ck_assert_uint_eq(sensitive, 25);
        qrb_packed_destroy(packed);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Ties are kept out rather than one too many let in. */
START_TEST(equal_magnitudes_are_kept_together_or_not_at_all)
{
    static double w[SIZE];
    static double fisher[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(1);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_packed *packed;

    for (size_t i = 0; i < SIZE; i++) {
        w[i] = i % 10 == 0 ? (i % 20 == 0 ? 2 : -2) : 1.0 / (double)(i + 1);
        fisher[i] = 1;
    }
    own.outliers = 9.9; /* 131 of 133 that are equal */
    packed = quantize(ctx, &task, 2, &own, NULL);
    ck_assert_uint_eq(count_of(packed), 0);
    qrb_packed_destroy(packed);
    own.outliers = 10;
    packed = quantize(ctx, &task, 2, &own, NULL);
    ck_assert_uint_eq(count_of(packed), 133);
    qrb_packed_destroy(packed);
    own.outliers = 0;
    own.sensitive = 50; /* none is above the one of that rank */
    packed = quantize(ctx, &task, 2, &own, NULL);
    ck_assert_uint_eq(count_of(packed), 0);
    qrb_packed_destroy(packed);
    own.sensitive = 0;
    own.outliers = 100;
    packed = quantize(ctx, &task, 2, &own, NULL);
    ck_assert_uint_eq(count_of(packed), SIZE);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* Zeros pull no value, so they do not count for either. */
static double loss_of(const double *w, const double *fisher,
                      const double *values)
{
    double loss = 0;

    for (size_t i = 0; i < SIZE; i++)
        if (w[i] != 0)
            loss += fisher[i] * (w[i] - values[i]) * (w[i] - values[i]);
    return loss;
}

START_TEST(no_uniform_grid_of_as_many_levels_has_less_loss)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static double values[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    const uint32_t bits = (uint32_t)_i;
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, TALL, WIDE, w);
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_packed *packed;
    double lloyd;

    fill_task(2, w, fisher);
    own.solver = QRB_SQUEEZELLM_LLOYD;
    packed = quantize(ctx, &task, bits, &own, &report);
    lloyd = report.loss;
    qrb_packed_destroy(packed);
    packed = quantize(ctx, &task, bits, NULL, &report);
    dequantize(ctx, packed, TALL, WIDE, values);
    qrb_packed_destroy(packed);
    ck_assert_double_le(report.loss, lloyd * (1 + 1e-6));
    ck_assert_double_eq_tol(report.loss, loss_of(w, fisher, values),
                            1e-9 * report.loss);
    for (uint32_t mode = QRB_GRID_A_PAPER; mode <= QRB_GRID_S_SMOOTH; mode++) {
        qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
        qrb_quantizer *quantizer;

        options.bits = bits;
        options.grid = mode;
        quantizer = made(ctx, &options);
        ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, tensor, &packed));
        dequantize(ctx, packed, TALL, WIDE, values);
        ck_assert_double_le(report.loss,
                            loss_of(w, fisher, values) * (1 + 1e-6));
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
    }
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(outliers_do_not_add_to_the_loss)
{
    static double w[SIZE];
    static double fisher[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(1);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    double before = INFINITY;

    fill_task(3, w, fisher);
    for (own.outliers = 0; own.outliers < 20; own.outliers += 5) {
        qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;

        qrb_packed_destroy(quantize(ctx, &task, 3, &own, &report));
        ck_assert_double_lt(report.loss, before);
        before = report.loss;
    }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_scale_of_the_gradients_changes_nothing)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static int32_t expected[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(1);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_packed *packed;

    own.outliers = 2;
    own.sensitive = 1;
    fill_task(4, w, fisher);
    packed = quantize(ctx, &task, 3, &own, NULL);
    ck_assert_int_eq(qrb_packed_read_codes(packed, expected), QRB_OK);
    for (int power = -300; power <= 300; power += 150) {
        qrb_packed *other;

        for (size_t i = 0; i < SIZE; i++)
            fisher[i] = ldexp(fisher[i], power);
        other = quantize(ctx, &task, 3, &own, NULL);
        ck_assert_mem_eq(codes_of(other), expected, sizeof expected);
        ck_assert_mem_eq(qrb_packed_table(other), qrb_packed_table(packed),
                         TALL * 8 * sizeof(float));
        qrb_packed_destroy(other);
        for (size_t i = 0; i < SIZE; i++)
            fisher[i] = ldexp(fisher[i], -power);
    }
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(few_values_come_back_as_they_were)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static double values[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(1);
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_packed *packed;

    fill_task(5, w, fisher);
    for (size_t i = 0; i < SIZE; i++) {
        w[i] = (double)(0.1f * (float)(1 + i * i % 7) + (float)(i / WIDE));
        fisher[i] = fmax(fisher[i], 1e-30);
    }
    packed = quantize(ctx, &task, 3, NULL, &report);
    dequantize(ctx, packed, TALL, WIDE, values);
    ck_assert_mem_eq(values, w, sizeof w);
    ck_assert_double_eq(report.loss, 0);
    ck_assert_double_eq(report.relative_weight_error, 0);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_observer *observe(qrb_context *ctx, float *x)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 1, WIDE, x);
    qrb_observer *observer;

    options.columns = WIDE;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observer));
    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    qrb_tensor_destroy(tensor);
    return observer;
}

/* Values of a chain are those of the weights as they were, and so must the
 * loss be: squared gradients go with the scales of the columns. */
START_TEST(scaled_inputs_do_not_change_what_the_loss_is)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static double values[SIZE];
    static float x[WIDE];
    qrb_context *ctx = context_of(1);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, TALL, WIDE, w);
    qrb_tensor *squares = matrix(ctx, QRB_F64, TALL, WIDE, fisher);
    qrb_quantizer *chain = named(ctx, "smoothquant+squeezellm3");
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_observer *inputs;
    qrb_packed *packed;

    fill_task(6, w, fisher);
    for (size_t j = 0; j < WIDE; j++)
        x[j] = (float)(1 + j % 5);
    inputs = observe(ctx, x);
    calibration.inputs = inputs;
    calibration.fisher = squares;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(chain, tensor, &calibration,
                                               &report, &packed));
    ck_assert_ptr_nonnull(qrb_packed_input_scale(packed));
    dequantize(ctx, packed, TALL, WIDE, values);
    ck_assert_double_eq_tol(report.loss, loss_of(w, fisher, values),
                            1e-9 * report.loss);
    qrb_packed_destroy(packed);
    qrb_observer_destroy(inputs);
    qrb_quantizer_destroy(chain);
    qrb_tensor_destroy(squares);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Fake and unpacked values, with any number of threads. */
START_TEST(faking_gives_the_bits_of_unpacking_with_any_threads)
{
    static const uint32_t dtypes[] = { QRB_F32, QRB_F64, QRB_F16, QRB_BF16 };
    static double w[SIZE];
    static double fisher[SIZE];
    static double expected[SIZE];
    static double values[SIZE];
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    const qrb_quantizer_options options = options_of(3, &own);
    const uint32_t dtype = dtypes[_i];

    own.outliers = 3;
    own.sensitive = 1;
    fill_task(7, w, fisher);
    for (size_t threads = 1; threads < 6; threads += 3) {
        qrb_context *ctx = context_of(threads);
        qrb_calibration calibration = QRB_CALIBRATION_INIT;
        qrb_quantizer *quantizer = made(ctx, &options);
        qrb_tensor *source = matrix(ctx, QRB_F64, TALL, WIDE, w);
        qrb_tensor *squares = matrix(ctx, QRB_F64, TALL, WIDE, fisher);
        qrb_tensor *tensor = matrix(ctx, dtype, TALL, WIDE, NULL);
        qrb_tensor *out = matrix(ctx, dtype, TALL, WIDE, values);
        const size_t size = SIZE * qrb_dtype_size(dtype);
        qrb_packed *packed;

        ASSERT_OK(ctx, qrb_tensor_copy(source, tensor));
        calibration.fisher = squares;
        ASSERT_OK(ctx, qrb_quantizer_quantize_with(
                           quantizer, tensor, &calibration, NULL, &packed));
        ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
        ASSERT_OK(ctx, qrb_quantizer_fake_with(quantizer, tensor, &calibration,
                                               NULL));
        ck_assert_mem_eq(qrb_tensor_memory(tensor), values, size);
        if (threads == 1)
            memcpy(expected, values, size);
        ck_assert_mem_eq(expected, values, size);
        qrb_packed_destroy(packed);
        qrb_tensor_destroy(out);
        qrb_tensor_destroy(tensor);
        qrb_tensor_destroy(squares);
        qrb_tensor_destroy(source);
        qrb_quantizer_destroy(quantizer);
        qrb_context_destroy(ctx);
    }
}
END_TEST

START_TEST(products_are_those_of_the_values)
{
    static double w[SIZE];
    static double fisher[SIZE];
    static double values[SIZE];
    float x[WIDE];
    float y[TALL];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(1);
    qrb_squeezellm_options own = QRB_SQUEEZELLM_OPTIONS_INIT;
    qrb_tensor *inputs = matrix(ctx, QRB_F32, 1, WIDE, x);
    qrb_tensor *outputs = matrix(ctx, QRB_F32, 1, TALL, y);

    fill(3, WIDE, x);
    fill_task(8, w, fisher);
    for (uint32_t bits = 2; bits < 6; bits++) {
        qrb_packed *packed;

        own.outliers = bits; /* with and without: 2.0 to 5.0 % */
        packed = quantize(ctx, &task, bits, bits == 3 ? NULL : &own, NULL);
        dequantize(ctx, packed, TALL, WIDE, values);
        ASSERT_OK(ctx,
                  qrb_packed_multiply(packed, inputs, NULL, NULL, outputs));
        for (size_t r = 0; r < TALL; r++) {
            double sum = 0;
            double magnitude = 0;

            for (size_t j = 0; j < WIDE; j++) {
                sum += (double)x[j] * values[r * WIDE + j];
                magnitude += fabs((double)x[j] * values[r * WIDE + j]);
            }
            ck_assert_double_eq_tol((double)y[r], sum,
                                    WIDE * FLT_EPSILON * magnitude);
        }
        qrb_packed_destroy(packed);
    }
    qrb_tensor_destroy(outputs);
    qrb_tensor_destroy(inputs);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(options_and_gradients_that_make_no_sense_are_refused)
{
    static const qrb_squeezellm_options wrong[] = {
        { sizeof wrong[0], -1, 0, 0, 0, 0 },
        { sizeof wrong[0], 0, 101, 0, 0, 0 },
        { sizeof wrong[0], NAN, 0, 0, 0, 0 },
        { sizeof wrong[0], 0, 0, -1, 0, 0 },
        { sizeof wrong[0], 0, 0, INFINITY, 0, 0 },
        { sizeof wrong[0], 1, 0, 1.5, 0, 0 },
        { sizeof wrong[0], 0, 0, 0, 2, 0 },
        { sizeof wrong[0], 0, 0, 0, 0, 1 },
        { 0, 0, 0, 0, 0, 0 },
    };
    static double w[SIZE];
    static double fisher[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, TALL, WIDE, w);
    qrb_quantizer_options options = options_of(4, NULL);
    qrb_quantizer *quantizer = made(ctx, &options);
    qrb_quantizer *none;
    qrb_packed *packed;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        options.squeezellm = &wrong[i];
        ck_assert_int_eq(qrb_quantizer_create(ctx, &options, &none),
                         QRB_E_INVALID_ARG);
        ck_assert_ptr_null(none);
    }
    options.squeezellm = NULL;
    options.bits = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &none),
                 QRB_E_INVALID_ARG, "squeezellm has 1 bits");
    options.bits = 4;
    options.group_size = 32;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &none),
                 QRB_E_INVALID_ARG, "squeezellm has no options");
    ASSERT_FAILS(ctx, qrb_quantizer_quantize(quantizer, tensor, &packed),
                 QRB_E_INVALID_ARG, "squeezellm needs the squared gradients");
    ck_assert_ptr_null(packed);

    fill_task(9, w, fisher);
    fisher[3 * WIDE + 5] = -1;
    fisher[7 * WIDE + 1] = NAN;
    ASSERT_FAILS(ctx, try_task(ctx, &task, 4, NULL, NULL, &packed),
                 QRB_E_INVALID_ARG, "fisher[3, 5] is below 0");
    fisher[3 * WIDE + 5] = 1;
    ASSERT_FAILS(ctx, try_task(ctx, &task, 4, NULL, NULL, &packed),
                 QRB_E_NOT_FINITE, "fisher[7, 1] is not finite");
    ck_assert_ptr_null(qrb_packed_table(NULL));
    ck_assert_int_eq(qrb_packed_outliers(NULL, NULL, NULL, NULL),
                     QRB_E_INVALID_ARG);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status quantize_once(qrb_context *ctx, void *arg)
{
    const struct task *task = arg;
    const qrb_squeezellm_options own = { sizeof own, 5, 1, 0, 0, 0 };
    const qrb_quantizer_options options = options_of(3, &own);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    qrb_quantizer *quantizer = NULL;
    qrb_tensor *w = NULL;
    qrb_tensor *fisher = NULL;
    qrb_packed *packed = NULL;
    qrb_status status;

    view.dtype = QRB_F64;
    view.rank = 2;
    view.shape[0] = task->rows;
    view.shape[1] = task->cols;
    view.memory = task->w;
    status = qrb_tensor_create(ctx, &view, &w);
    view.memory = task->fisher;
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &view, &fisher);
    if (status == QRB_OK)
        status = qrb_quantizer_create(ctx, &options, &quantizer);
    calibration.fisher = fisher;
    if (status == QRB_OK)
        status = qrb_quantizer_quantize_with(quantizer, w, &calibration, NULL,
                                             &packed);
    ck_assert((status == QRB_OK) == (packed != NULL));
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(fisher);
    qrb_tensor_destroy(w);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    static double w[SIZE];
    static double fisher[SIZE];
    struct task task = { QRB_F64, TALL, WIDE, w, fisher };

    fill_task(10, w, fisher);
    fail_each_allocation(quantize_once, &task);
}
END_TEST

static int stop(void *user)
{
    ++*(int *)user;
    return 1;
}

START_TEST(the_host_can_cancel_it)
{
    static double w[SIZE];
    static double fisher[SIZE];
    const struct task task = { QRB_F64, TALL, WIDE, w, fisher };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_packed *packed;
    int asked = 0;

    fill_task(11, w, fisher);
    options.cancel = stop;
    options.cancel_user = &asked;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    ASSERT_FAILS(ctx, try_task(ctx, &task, 3, NULL, NULL, &packed),
                 QRB_E_CANCELLED, "cancelled");
    ck_assert_int_eq(asked, 1);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("squeezellm");
    TCase *numbers = tcase_create("numbers");
    TCase *contracts = tcase_create("contracts");

    tcase_add_test(numbers, a_row_of_ten_is_that_of_the_specification);
    tcase_add_test(numbers, a_row_without_gradients_counts_all_weights_alike);
    tcase_add_test(numbers,
                   a_quartile_range_of_one_keeps_what_the_specification_keeps);
    tcase_set_timeout(contracts, 60);
    tcase_add_test(contracts, percentages_count_what_is_kept);
    tcase_add_test(contracts, equal_magnitudes_are_kept_together_or_not_at_all);
    tcase_add_loop_test(contracts,
                        no_uniform_grid_of_as_many_levels_has_less_loss, 2, 6);
    tcase_add_test(contracts, outliers_do_not_add_to_the_loss);
    tcase_add_test(contracts, the_scale_of_the_gradients_changes_nothing);
    tcase_add_test(contracts, few_values_come_back_as_they_were);
    tcase_add_test(contracts, scaled_inputs_do_not_change_what_the_loss_is);
    tcase_add_loop_test(
        contracts, faking_gives_the_bits_of_unpacking_with_any_threads, 0, 4);
    tcase_add_test(contracts, products_are_those_of_the_values);
    tcase_add_test(contracts,
                   options_and_gradients_that_make_no_sense_are_refused);
    tcase_add_test(contracts, every_allocation_may_fail);
    tcase_add_test(contracts, the_host_can_cancel_it);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, contracts);
    return run_suite(suite);
}
