/* Quantizers of whole matrices: round to nearest, LLM.int8() and halves. */
#include <fenv.h>
#include <float.h>
#include <locale.h>
#include <math.h>

#include "harness.h"

#include <qrobust/quantizer.h>

/* Odd sizes, so that runs end in the middle of rows. */
enum { ROWS = 67, COLS = 192, ELEMENTS = ROWS * COLS };

static void fill(uint32_t seed, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = (float)(seed / 4294967296.0 - 0.5);
    }
}

static qrb_context *context_of(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

/* A view of the caller's memory, or its own where that is NULL. */
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

static qrb_quantizer *named(qrb_context *ctx, const char *name)
{
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

static qrb_quantizer *made(qrb_context *ctx,
                           const qrb_quantizer_options *options)
{
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create(ctx, options, &quantizer));
    return quantizer;
}

/* Quantize and dequantize into a tensor of w's type at `values`, and fake w in
 * place: both must be the same bytes.  Returns the packed matrix. */
static qrb_packed *quantize_both_ways(qrb_context *ctx,
                                      const qrb_quantizer *quantizer,
                                      qrb_tensor *w, void *values)
{
    const size_t rows = qrb_tensor_extent(w, 0);
    const size_t cols = qrb_tensor_extent(w, 1);
    const uint32_t dtype = qrb_tensor_dtype(w);
    qrb_tensor *out = matrix(ctx, dtype, rows, cols, values);
    qrb_packed *packed;

    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, w, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, w));
    ck_assert_mem_eq(qrb_tensor_memory(w), values,
                     rows * cols * qrb_dtype_size(dtype));
    qrb_tensor_destroy(out);
    return packed;
}

static const char *const names[] = { "int8",    "nf4",     "rtn2",
                                     "rtn3",    "rtn4",    "rtn8",
                                     "rtn4g32", "rtn3g64", "rtn2g192" };
enum { NAMES = sizeof names / sizeof *names };

START_TEST(fake_weights_are_the_bits_of_unpacked_ones)
{
    static const uint32_t dtypes[] = { QRB_F32, QRB_F64, QRB_F16, QRB_BF16 };
    static float w[ELEMENTS];
    static double values[ELEMENTS];
    qrb_context *ctx = context_of(2);

    for (size_t i = 0; i < NAMES; i++)
        for (size_t k = 0; k < 4; k++)
            for (uint32_t compat = 0; compat < 2; compat++) {
                qrb_tensor *source = matrix(ctx, QRB_F32, ROWS, COLS, w);
                qrb_tensor *tensor = matrix(ctx, dtypes[k], ROWS, COLS, NULL);
                qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
                qrb_quantizer *quantizer = named(ctx, names[i]);
                qrb_packed *packed;

                if (compat && strncmp(names[i], "rtn", 3) == 0) {
                    qrb_quantizer_destroy(quantizer);
                    options.bits = (uint32_t)(names[i][3] - '0');
                    options.compat = 1;
                    quantizer = made(ctx, &options);
                }
                fill((uint32_t)i, ELEMENTS, w);
                ASSERT_OK(ctx, qrb_tensor_copy(source, tensor));
                packed = quantize_both_ways(ctx, quantizer, tensor, values);
                qrb_packed_destroy(packed);
                qrb_quantizer_destroy(quantizer);
                qrb_tensor_destroy(source);
                qrb_tensor_destroy(tensor);
            }
    qrb_context_destroy(ctx);
}
END_TEST

/* Fake-quantize the matrix of `seed` with a name. */
static void fake(qrb_context *ctx, const char *name, uint32_t seed, float *w)
{
    qrb_quantizer *quantizer = named(ctx, name);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);

    fill(seed, ELEMENTS, w);
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
}

START_TEST(threads_change_no_bit)
{
    static float one[ELEMENTS];
    static float many[ELEMENTS];
    qrb_context *serial = context_of(1);
    qrb_context *parallel = context_of(5);

    for (size_t i = 0; i < NAMES; i++) {
        fake(serial, names[i], 3, one);
        fake(parallel, names[i], 3, many);
        ck_assert_mem_eq(one, many, sizeof one);
    }
    qrb_context_destroy(serial);
    qrb_context_destroy(parallel);
}
END_TEST

/* The workers of a pool may have been made under any mode, too. */
START_TEST(the_rounding_mode_of_the_host_changes_no_bit_and_stays)
{
    static const int modes[] = { FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO };
    static float expected[ELEMENTS];
    static float found[ELEMENTS];
    qrb_context *ctx = context_of(_i == 0 ? 1 : 3);

    for (size_t i = 0; i < NAMES; i++) {
        fake(ctx, names[i], 4, expected);
        for (size_t k = 0; k < 3; k++) {
            qrb_quantizer *quantizer = named(ctx, names[i]);
            qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, found);

            fill(4, ELEMENTS, found);
            feclearexcept(FE_ALL_EXCEPT);
            fesetround(modes[k]);
            ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
            ck_assert_int_eq(fegetround(), modes[k]);
            fesetround(FE_TONEAREST);
            ck_assert_int_eq(fetestexcept(FE_ALL_EXCEPT), 0);
            ck_assert_mem_eq(found, expected, sizeof found);
            qrb_tensor_destroy(tensor);
            qrb_quantizer_destroy(quantizer);
        }
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* A host's threads, whose settings are not ours either. */
static void run_upward(size_t tasks, size_t workers, qrb_task_fn run,
                       void *arg, void *user)
{
    size_t *calls = user;

    fesetround(FE_UPWARD);
    for (size_t task = tasks; task-- > 0;)
        run(task, task % workers, arg);
    ck_assert_int_eq(fegetround(), FE_UPWARD);
    fesetround(FE_TONEAREST);
    ++*calls;
}

START_TEST(the_threads_of_a_host_change_no_bit)
{
    static float expected[ELEMENTS];
    static float found[ELEMENTS];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    size_t calls = 0;
    qrb_context *ctx = context_of(1);
    qrb_context *lent;

    options.threads = 3;
    options.runner = run_upward;
    options.runner_user = &calls;
    ck_assert_int_eq(qrb_context_create(&options, &lent), QRB_OK);
    for (size_t i = 0; i < NAMES; i++) {
        fake(ctx, names[i], 12, expected);
        fake(lent, names[i], 12, found);
        ck_assert_mem_eq(found, expected, sizeof found);
    }
    ck_assert_uint_gt(calls, 0);
    qrb_context_destroy(ctx);
    qrb_context_destroy(lent);
}
END_TEST

START_TEST(the_locale_of_the_host_changes_no_bit)
{
    static const char *const locales[] = { "de_DE.UTF-8", "fr_FR.UTF-8",
                                           "tr_TR.UTF-8", "C.UTF-8" };
    static float expected[ELEMENTS];
    static float found[ELEMENTS];
    qrb_context *ctx = context_of(1);
    const char *set = NULL;

    fake(ctx, "rtn4g32", 5, expected);
    for (size_t i = 0; set == NULL && i < 4; i++)
        set = setlocale(LC_ALL, locales[i]);
    if (set == NULL)
        printf("SKIP: no locale but C is installed\n");
    fake(ctx, "rtn4g32", 5, found);
    setlocale(LC_ALL, "C");
    ck_assert_mem_eq(found, expected, sizeof found);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(faking_twice_changes_nothing)
{
    static float w[ELEMENTS];
    static float once[ELEMENTS];
    qrb_context *ctx = context_of(2);

    for (size_t i = 0; i < NAMES; i++) {
        qrb_quantizer *quantizer = named(ctx, names[i]);
        qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);

        fill(6, ELEMENTS, w);
        ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
        memcpy(once, w, sizeof once);
        ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
        /* The range of rounded weights may be a rounding error narrower. */
        for (size_t k = 0; k < ELEMENTS; k++)
            ck_assert_float_eq_tol(w[k], once[k], 2 * FLT_EPSILON);
        qrb_tensor_destroy(tensor);
        qrb_quantizer_destroy(quantizer);
    }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(strides_do_not_matter)
{
    static float dense[ELEMENTS];
    static float wide[ROWS * COLS * 3];
    qrb_context *ctx = context_of(2);

    for (size_t i = 0; i < NAMES; i++) {
        qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
        qrb_quantizer *quantizer = named(ctx, names[i]);
        qrb_tensor *transposed;

        fake(ctx, names[i], 8, dense);
        /* Stored by columns, with two foreign elements after each. */
        options.rank = 2;
        options.shape[0] = ROWS;
        options.shape[1] = COLS;
        options.strides[0] = 3 * sizeof *wide;
        options.strides[1] = 3 * ROWS * sizeof *wide;
        options.memory = wide;
        ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &transposed));
        {
            static float w[ELEMENTS];

            fill(8, ELEMENTS, w);
            for (size_t k = 0; k < ROWS * COLS * 3; k++)
                wide[k] = 1000;
            for (size_t r = 0; r < ROWS; r++)
                for (size_t c = 0; c < COLS; c++)
                    wide[3 * (c * ROWS + r)] = w[r * COLS + c];
        }
        ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, transposed));
        for (size_t r = 0; r < ROWS; r++)
            for (size_t c = 0; c < COLS; c++)
                ck_assert_float_eq(wide[3 * (c * ROWS + r)],
                                   dense[r * COLS + c]);
        for (size_t k = 0; k < ELEMENTS; k++)
            ck_assert(wide[3 * k + 1] == 1000 && wide[3 * k + 2] == 1000);
        qrb_tensor_destroy(transposed);
        qrb_quantizer_destroy(quantizer);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Rows and groups wider than a task's run, and many rows in one. */
START_TEST(units_of_any_size_give_what_each_row_gives_alone)
{
    enum { MOST = 12000 };
    static const size_t shapes[][2] = { { 2, 5001 },
                                        { 2, 4096 },
                                        { 1, 9000 },
                                        { 900, 13 },
                                        { 4097, 1 } };
    static const char *const by_rows[] = { "rtn4", "int8" };
    static float given[MOST];
    static float w[MOST];
    static float row[MOST];
    qrb_context *ctx = context_of(2);

    fill(9, MOST, given);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t k = 0; k < 2; k++) {
            const size_t rows = shapes[i][0];
            const size_t cols = shapes[i][1];
            qrb_quantizer *quantizer = named(ctx, by_rows[k]);
            qrb_tensor *tensor = matrix(ctx, QRB_F32, rows, cols, w);
            qrb_tensor *single = matrix(ctx, QRB_F32, 1, cols, row);

            memcpy(w, given, rows * cols * sizeof *w);
            ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
            for (size_t r = 0; r < rows; r += rows / 3 + 1) {
                memcpy(row, given + r * cols, cols * sizeof *row);
                ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, single));
                ck_assert_mem_eq(row, w + r * cols, cols * sizeof *row);
            }
            qrb_tensor_destroy(tensor);
            qrb_tensor_destroy(single);
            qrb_quantizer_destroy(quantizer);
        }
    qrb_context_destroy(ctx);
}
END_TEST

/* Two runs of a task: a whole one and a shorter. */
enum { FEW_ROWS = 23, FEW = FEW_ROWS * COLS };

static void assert_one_scale(qrb_context *ctx,
                             const qrb_quantizer_options *options)
{
    static float w[FEW];
    static float flat[FEW];
    qrb_quantizer_options whole_options = *options;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, FEW_ROWS, COLS, w);
    qrb_tensor *line = matrix(ctx, QRB_F32, 1, FEW, flat);
    qrb_quantizer *row = made(ctx, options);
    qrb_quantizer *whole;
    qrb_packed *packed;

    whole_options.granularity = QRB_PER_TENSOR;
    whole = made(ctx, &whole_options);
    fill(10, FEW, w);
    w[77] = 1; /* something to clip */
    memcpy(flat, w, sizeof flat);
    ASSERT_OK(ctx, qrb_quantizer_quantize(whole, tensor, &packed));
    ck_assert_uint_eq(qrb_packed_groups(packed), 1);
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, tensor));
    ASSERT_OK(ctx, qrb_quantizer_fake(row, line));
    ck_assert_mem_eq(w, flat, sizeof w);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(whole);
    qrb_quantizer_destroy(row);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(line);
}

/* One scale for the matrix is one scale for its elements in one row. */
/* The range of A_GPTQ holds zero anyway, so zeros behind a row that fill its
 * last group change nothing. */
START_TEST(a_short_last_group_is_one_filled_up_with_zeros)
{
    enum { TALL = 150, SHORT = 50, FULL = 64 };
    static float w[TALL * SHORT];
    static float filled[TALL * FULL];
    qrb_context *ctx = context_of(2);
    qrb_tensor *a = matrix(ctx, QRB_F32, TALL, SHORT, w);
    qrb_tensor *b = matrix(ctx, QRB_F32, TALL, FULL, filled);
    qrb_packed *packed = NULL;
    qrb_quantizer *quantizer = named(ctx, "rtn3g32");

    fill(5, TALL * SHORT, w);
    for (size_t r = 0; r < TALL; r++)
        memcpy(filled + r * FULL, w + r * SHORT, SHORT * sizeof *w);
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, a, &packed));
    ck_assert_uint_eq(qrb_packed_groups(packed), 2);
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, b));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, a));
    for (size_t r = 0; r < TALL; r++)
        ck_assert_mem_eq(w + r * SHORT, filled + r * FULL, SHORT * sizeof *w);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(a);
    qrb_tensor_destroy(b);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_scale_for_the_matrix_is_that_of_one_long_row)
{
    static const uint32_t grids[] = { QRB_GRID_A_GPTQ, QRB_GRID_S_ABS };
    qrb_context *ctx = context_of(2);

    for (uint32_t compat = 0; compat < 2; compat++)
        for (uint32_t clip = 0; clip < 2; clip++)
            for (size_t i = 0; i < 2; i++) {
                qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;

                options.grid = grids[i];
                options.bits = 3;
                options.compat = compat;
                options.mse_clip = clip;
                assert_one_scale(ctx, &options);
            }
    qrb_context_destroy(ctx);
}
END_TEST

/* Quantizers 1.5 through the public functions, with what describes it. */
START_TEST(a_packed_matrix_shows_codes_scales_and_zero_points)
{
    /* The second row has h = 0.2 and a zero point at the tie 3.5. */
    const int32_t codes[12] = { 0, 2, 3, 4, 5, 7, 4, 7, 4, 0, 0, 4 };
    double w[12] = { -1, -.35, 0, .2, .55, 1.4, 0, .7, 0, -.7, -.7, 0 };
    double values[12];
    qrb_context *ctx = context_of(1);
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer = named(ctx, "rtn3");
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 2, 6, w);
    qrb_packed *packed =
        quantize_both_ways(ctx, quantizer, tensor, values);

    ck_assert_mem_eq(qrb_packed_codes(packed), codes, sizeof codes);
    ck_assert_uint_eq(qrb_packed_groups(packed), 1);
    ck_assert_double_eq_tol(qrb_packed_scales(packed)[0], 2.4 / 7, 1e-15);
    ck_assert_double_eq_tol(qrb_packed_scales(packed)[1], 1.4 / 7, 1e-15);
    ck_assert_double_eq(qrb_packed_zero_points(packed)[0], 3);
    ck_assert_double_eq_tol(values[0], -1.028571429, 5e-10);
    ck_assert_double_eq_tol(qrb_packed_bits_per_weight(packed),
                            3 + (16 + 3) / 6.0, 1e-15);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);

    options.group_size = 2;
    options.grid = QRB_GRID_S_ABS;
    quantizer = made(ctx, &options);
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, tensor, &packed));
    ck_assert_uint_eq(qrb_packed_groups(packed), 3);
    ck_assert_ptr_null(qrb_packed_zero_points(packed));
    ck_assert_double_eq(qrb_packed_bits_per_weight(packed), 4 + 16 / 2.0);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Quantizers 1.1 has a zero point in these modes, though it is fixed. */
START_TEST(each_grid_decodes_with_its_own_zero_point)
{
    static float w[ELEMENTS];
    static float values[ELEMENTS];
    qrb_context *ctx = context_of(2);

    for (uint32_t grid = 1; grid <= QRB_GRID_S_SMOOTH; grid++) {
        qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
        qrb_quantizer *quantizer;
        qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);
        qrb_packed *packed;
        const int32_t *codes;
        const double *scales;
        const double *zeros;

        options.grid = grid;
        options.group_size = 64;
        quantizer = made(ctx, &options);
        fill(grid, ELEMENTS, w);
        packed = quantize_both_ways(ctx, quantizer, tensor, values);
        codes = qrb_packed_codes(packed);
        scales = qrb_packed_scales(packed);
        zeros = qrb_packed_zero_points(packed);
        ck_assert_int_eq(zeros == NULL, grid == QRB_GRID_S_ABS ||
                                            grid == QRB_GRID_S_SMOOTH);
        for (size_t i = 0; i < ELEMENTS; i++) {
            const double z = zeros != NULL ? zeros[i / 64] : 0;

            ck_assert_float_eq(values[i],
                               (float)(scales[i / 64] * (codes[i] - z)));
        }
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
        qrb_tensor_destroy(tensor);
    }
    qrb_context_destroy(ctx);
}
END_TEST

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

    ck_assert_mem_eq(qrb_packed_codes(packed), codes, sizeof codes);
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
    const int32_t *codes = qrb_packed_codes(packed);

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
    ck_assert_mem_eq(qrb_packed_codes(packed), codes, sizeof codes);
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
    const int32_t *w = qrb_packed_codes(packed);
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
    const int32_t *w = qrb_packed_codes(packed);
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

START_TEST(halves_round_to_nearest_even)
{
    /* 1 + 2^-11 is a tie of fp16, 1 + 2^-8 one of bf16 */
    const float given[4] = { 1 + 0x1p-11f, 1 + 3 * 0x1p-11f, 1 + 0x1p-8f,
                             1 + 3 * 0x1p-8f };
    const float fp16[4] = { 1, 1 + 0x1p-9f, 1 + 0x1p-8f, 1 + 3 * 0x1p-8f };
    const float bf16[4] = { 1, 1, 1, 1 + 0x1p-6f };
    float w[4];
    qrb_context *ctx = context_of(1);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 2, w);
    qrb_quantizer *half = named(ctx, "fp16");
    qrb_quantizer *brain = named(ctx, "bf16");

    memcpy(w, given, sizeof w);
    ASSERT_OK(ctx, qrb_quantizer_fake(half, tensor));
    ck_assert_mem_eq(w, fp16, sizeof w);
    memcpy(w, given, sizeof w);
    ASSERT_OK(ctx, qrb_quantizer_fake(brain, tensor));
    ck_assert_mem_eq(w, bf16, sizeof w);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(half);
    qrb_quantizer_destroy(brain);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(halves_refuse_what_they_cannot_hold_and_codes)
{
    static float w[ELEMENTS];
    static float before[ELEMENTS];
    qrb_context *ctx = context_of(2);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);
    qrb_quantizer *half = named(ctx, "fp16");
    qrb_quantizer *brain = named(ctx, "bf16");
    qrb_packed *packed;

    fill(1, ELEMENTS, w);
    w[66 * COLS + 5] = 65520; /* rounds up to infinity */
    memcpy(before, w, sizeof w);
    ASSERT_FAILS(ctx, qrb_quantizer_fake(half, tensor), QRB_E_NOT_FINITE,
                 "w[66, 5] is 65520; finite values up to 65504");
    ck_assert_mem_eq(w, before, sizeof w);
    ASSERT_OK(ctx, qrb_quantizer_fake(brain, tensor));
    w[3] = FLT_MAX;
    ASSERT_FAILS(ctx, qrb_quantizer_fake(brain, tensor), QRB_E_NOT_FINITE,
                 "w[0, 3] is 3.40282e+38");
    w[3] = NAN;
    ASSERT_FAILS(ctx, qrb_quantizer_fake(half, tensor), QRB_E_NOT_FINITE,
                 "w[0, 3] is nan");
    ASSERT_FAILS(ctx, qrb_quantizer_quantize(half, tensor, &packed),
                 QRB_E_UNSUPPORTED, "fp16 has no codes");
    ck_assert_ptr_null(packed);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(half);
    qrb_quantizer_destroy(brain);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(weights_that_are_not_finite_are_named_and_left_alone)
{
    static const size_t places[] = { 0, COLS - 1, 40 * COLS + 7,
                                     ELEMENTS - 1 };
    static const float broken[] = { NAN, INFINITY, -INFINITY };
    static float w[ELEMENTS];
    static float before[ELEMENTS];
    qrb_context *ctx = context_of(2);
    qrb_quantizer_options whole_options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);

    whole_options.granularity = QRB_PER_TENSOR;
    for (size_t i = 0; i <= NAMES; i++)
        for (size_t k = 0; k < 4; k++) {
            qrb_quantizer *quantizer = i < NAMES ? named(ctx, names[i])
                                                 : made(ctx, &whole_options);
            qrb_packed *packed;
            char name[64];

            fill(2, ELEMENTS, w);
            w[places[k]] = broken[(i + k) % 3];
            snprintf(name, sizeof name, "w[%zu, %zu] is not finite",
                     places[k] / COLS, places[k] % COLS);
            memcpy(before, w, sizeof w);
            ASSERT_FAILS(ctx, qrb_quantizer_fake(quantizer, tensor),
                         QRB_E_NOT_FINITE, name);
            ck_assert_mem_eq(w, before, sizeof w);
            ASSERT_FAILS(ctx,
                         qrb_quantizer_quantize(quantizer, tensor, &packed),
                         QRB_E_NOT_FINITE, name);
            ck_assert_ptr_null(packed);
            qrb_quantizer_destroy(quantizer);
        }
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

/* Two bits of [-m, 0.19 m], m the largest of the type: h = 0.397 m and the
 * zero point 2.52 becomes 3, so that the lowest value would be -1.19 m; of
 * [-m, 0.21 m] it is 2 and the lowest value -0.807 m. */
START_TEST(values_beyond_the_type_become_its_largest)
{
    static const struct {
        uint32_t dtype;
        double largest;
    } types[] = { { QRB_F16, 65504 },
                  { QRB_BF16, 0x1.fep127 },
                  { QRB_F32, FLT_MAX },
                  { QRB_F64, DBL_MAX } };
    qrb_context *ctx = context_of(1);

    for (size_t i = 0; i < 4; i++)
        for (uint32_t compat = 0; compat < 2; compat++) {
            const double m = types[i].largest;
            qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
            double values[4] = { -m, .19 * m, -m, .21 * m };
            qrb_tensor *source = matrix(ctx, QRB_F64, 2, 2, values);
            qrb_tensor *w = matrix(ctx, types[i].dtype, 2, 2, NULL);
            qrb_quantizer *quantizer;

            options.bits = 2;
            options.compat = compat;
            quantizer = made(ctx, &options);
            ASSERT_OK(ctx, qrb_tensor_copy(source, w));
            ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, w));
            ASSERT_OK(ctx, qrb_tensor_copy(w, source));
            ck_assert_double_eq(values[0], -m);
            ck_assert_double_eq_tol(values[2] / m, -.80667, 4e-3); /* bf16 */
            qrb_quantizer_destroy(quantizer);
            qrb_tensor_destroy(source);
            qrb_tensor_destroy(w);
        }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(shapes_and_types_that_do_not_fit_are_refused)
{
    float w[24] = { 0 };
    int32_t i32[6] = { 0 };
    qrb_context *ctx = context_of(1);
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_quantizer *grouped = named(ctx, "rtn4g32");
    qrb_quantizer *eights = named(ctx, "rtn4g8");
    qrb_quantizer *plain = named(ctx, "rtn4");
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 4, 6, w);
    qrb_tensor *other = matrix(ctx, QRB_F32, 3, 8, w);
    qrb_tensor *integers = matrix(ctx, QRB_I32, 2, 3, i32);
    qrb_tensor *cube;
    qrb_packed *packed;

    ASSERT_FAILS(ctx, qrb_quantizer_quantize(grouped, tensor, &packed),
                 QRB_E_SHAPE, "shorter than the group size 32");
    ck_assert_ptr_null(packed);
    ASSERT_FAILS(ctx, qrb_quantizer_fake(eights, tensor), QRB_E_SHAPE,
                 "w is [4, 6]");
    ASSERT_FAILS(ctx, qrb_quantizer_fake(plain, integers), QRB_E_UNSUPPORTED,
                 "w is I32");
    options.rank = 3;
    options.shape[0] = options.shape[1] = options.shape[2] = 2;
    options.memory = w;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &cube));
    ASSERT_FAILS(ctx, qrb_quantizer_fake(plain, cube), QRB_E_SHAPE,
                 "w is [2, 2, 2]; a matrix");
    qrb_tensor_destroy(cube);
    ASSERT_FAILS(ctx, qrb_quantizer_fake(plain, NULL), QRB_E_INVALID_ARG,
                 "w is NULL");
    ASSERT_FAILS(ctx, qrb_quantizer_quantize(plain, NULL, &packed),
                 QRB_E_INVALID_ARG, "w is NULL");
    ck_assert_int_eq(qrb_quantizer_quantize(plain, tensor, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_quantizer_quantize(NULL, tensor, &packed),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_quantizer_fake(NULL, tensor), QRB_E_INVALID_ARG);
    ASSERT_OK(ctx, qrb_quantizer_quantize(plain, tensor, &packed));
    ASSERT_FAILS(ctx, qrb_packed_dequantize(packed, other), QRB_E_SHAPE,
                 "out is [3, 8], the packed matrix [4, 6]");
    ASSERT_FAILS(ctx, qrb_packed_dequantize(packed, integers),
                 QRB_E_UNSUPPORTED, "out is I32");
    ck_assert_int_eq(qrb_packed_dequantize(packed, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_packed_dequantize(NULL, tensor), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(qrb_packed_codes(NULL));
    ck_assert_ptr_null(qrb_packed_scales(NULL));
    ck_assert_ptr_null(qrb_packed_zero_points(NULL));
    ck_assert_uint_eq(qrb_packed_groups(NULL), 0);
    ck_assert_double_eq(qrb_packed_bits_per_weight(NULL), 0);
    qrb_packed_destroy(packed);
    qrb_packed_destroy(NULL);
    qrb_quantizer_destroy(NULL);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(other);
    qrb_tensor_destroy(integers);
    qrb_quantizer_destroy(grouped);
    qrb_quantizer_destroy(eights);
    qrb_quantizer_destroy(plain);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(names_make_what_they_say_and_nothing_else_is_one)
{
    static const char *const wrong[] = {
        "",       "rtn",     "rtn1",     "rtn9",        "rtn04", "rtn4g",
        "rtn4g0", "rtn4g-8", "rtn4g32x", " rtn4",       "RTN4",  "rtn 4",
        "rtn+4",  "fp32",    "int8 ",    "rtn4g 32",    "nf",    "rtn4 g32",
        "rtn4g99999999999999999999999999", "rtn10",
    };
    qrb_context *ctx = context_of(1);
    qrb_quantizer *quantizer;

    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        ASSERT_FAILS(ctx, qrb_quantizer_create_named(ctx, wrong[i],
                                                     &quantizer),
                     QRB_E_INVALID_ARG, "such as rtn4g32");
        ck_assert_ptr_null(quantizer);
    }
    ASSERT_FAILS(ctx, qrb_quantizer_create_named(ctx, NULL, &quantizer),
                 QRB_E_INVALID_ARG, "name is NULL");
    ck_assert_int_eq(qrb_quantizer_create_named(ctx, "nf4", NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_quantizer_create_named(NULL, "nf4", &quantizer),
                     QRB_E_INVALID_ARG);
    for (size_t i = 0; i < NAMES; i++)
        qrb_quantizer_destroy(named(ctx, names[i]));
    qrb_context_destroy(ctx);
}
END_TEST

static void assert_refused(qrb_context *ctx,
                           const qrb_quantizer_options *options,
                           const char *words)
{
    qrb_quantizer *quantizer;

    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, options, &quantizer),
                 QRB_E_INVALID_ARG, words);
    ck_assert_ptr_null(quantizer);
}

START_TEST(options_without_meaning_are_refused)
{
    const qrb_quantizer_options defaults = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_context *ctx = context_of(1);
    qrb_quantizer_options o = defaults;
    qrb_quantizer *quantizer;

    o.bits = 1;
    assert_refused(ctx, &o, "rtn has 1 bits");
    o.bits = 9;
    assert_refused(ctx, &o, "rtn has 9 bits");
    o = defaults;
    o.grid = 12;
    assert_refused(ctx, &o, "grid 12");
    o = defaults;
    o.kind = 6;
    assert_refused(ctx, &o, "kind 6");
    o = defaults;
    o.granularity = QRB_PER_TENSOR;
    o.group_size = 32;
    assert_refused(ctx, &o, "group_size is 32");
    o = defaults;
    o.grid = QRB_GRID_S_SMOOTH;
    o.mse_clip = 1;
    assert_refused(ctx, &o, "S_SMOOTH");
    o = defaults;
    o.double_quant = 1;
    assert_refused(ctx, &o, "double_quant is for nf4");
    o = defaults;
    o.compat = 2;
    assert_refused(ctx, &o, "compat 2");
    o = defaults;
    o.reserved = 1;
    assert_refused(ctx, &o, "reserved 1");
    o = defaults;
    o.kind = QRB_QUANTIZER_INT8;
    o.group_size = 32;
    assert_refused(ctx, &o, "int8 has no options");
    o = defaults;
    o.kind = QRB_QUANTIZER_BF16;
    o.compat = 1;
    assert_refused(ctx, &o, "bf16 has no options");
    o = defaults;
    o.kind = QRB_QUANTIZER_NF4;
    o.mse_clip = 1;
    assert_refused(ctx, &o, "nf4 has blocks");
    o = defaults;
    o.struct_size = 4;
    assert_refused(ctx, &o, "quantizer options");
    ck_assert_int_eq(qrb_quantizer_create(NULL, &defaults, &quantizer),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_quantizer_create(ctx, &defaults, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_OK(ctx, qrb_quantizer_create(ctx, NULL, &quantizer));
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
}
END_TEST

struct job {
    const char *name; /* NULL: options */
    qrb_quantizer_options options;
};

static qrb_status use_quantizer(qrb_context *ctx, void *arg)
{
    const struct job *job = arg;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    float w[64];
    float before[64];
    float output[64];
    qrb_quantizer *quantizer = NULL;
    qrb_packed *packed = NULL;
    qrb_tensor *tensor = NULL;
    qrb_tensor *bias = NULL;
    qrb_tensor *y = NULL;
    qrb_status status;

    fill(1, 64, w);
    options.rank = 2;
    options.shape[0] = 8;
    options.shape[1] = 8;
    options.memory = w;
    status = qrb_tensor_create(ctx, &options, &tensor);
    options.memory = output;
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &options, &y);
    options.rank = 1;
    options.memory = before;
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &options, &bias);
    if (status == QRB_OK)
        status = job->name != NULL
                     ? qrb_quantizer_create_named(ctx, job->name, &quantizer)
                     : qrb_quantizer_create(ctx, &job->options, &quantizer);
    if (status == QRB_OK && (job->name == NULL || job->name[1] != 'p')) {
        status = qrb_quantizer_quantize(quantizer, tensor, &packed);
        ck_assert_int_eq(status == QRB_OK, packed != NULL);
        if (status == QRB_OK)
            status = qrb_packed_dequantize(packed, y);
        memcpy(before, w, sizeof before);
        if (status == QRB_OK && job->name != NULL &&
            strcmp(job->name, "int8") == 0)
            status = qrb_packed_int8_multiply(packed, tensor, 6, bias, y);
    }
    memcpy(before, w, sizeof before);
    if (status == QRB_OK) {
        status = qrb_quantizer_fake(quantizer, tensor);
        if (status != QRB_OK)
            ck_assert_mem_eq(w, before, sizeof w);
    }
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(bias);
    qrb_tensor_destroy(y);
    return status;
}

START_TEST(every_quantizer_survives_each_failed_allocation)
{
    struct job job = { .options = QRB_QUANTIZER_OPTIONS_INIT };
    static const char *const all[] = { "fp16", "int8", "nf4", "rtn4",
                                       "rtn4g4" };

    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        job.name = all[i];
        fail_each_allocation(use_quantizer, &job);
    }
    job.name = NULL;
    job.options.granularity = QRB_PER_TENSOR;
    job.options.mse_clip = 1;
    fail_each_allocation(use_quantizer, &job);
    job.options.granularity = QRB_PER_GROUP;
    job.options.mse_clip = 0;
    job.options.kind = QRB_QUANTIZER_NF4;
    job.options.double_quant = 1;
    fail_each_allocation(use_quantizer, &job);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantizer");
    TCase *bits = tcase_create("bits");
    TCase *numbers = tcase_create("numbers");
    TCase *refusals = tcase_create("refusals");

    tcase_add_test(bits, fake_weights_are_the_bits_of_unpacked_ones);
    tcase_add_test(bits, threads_change_no_bit);
    tcase_add_loop_test(
        bits, the_rounding_mode_of_the_host_changes_no_bit_and_stays, 0, 2);
    tcase_add_test(bits, the_threads_of_a_host_change_no_bit);
    tcase_add_test(bits, the_locale_of_the_host_changes_no_bit);
    tcase_add_test(bits, faking_twice_changes_nothing);
    tcase_add_test(bits, strides_do_not_matter);
    tcase_add_test(bits, units_of_any_size_give_what_each_row_gives_alone);
    tcase_add_test(bits, a_short_last_group_is_one_filled_up_with_zeros);
    tcase_add_test(bits, a_scale_for_the_matrix_is_that_of_one_long_row);
    tcase_add_test(numbers,
                   a_packed_matrix_shows_codes_scales_and_zero_points);
    tcase_add_test(numbers, each_grid_decodes_with_its_own_zero_point);
    tcase_add_test(numbers, int8_weights_are_the_golden_ones);
    tcase_add_test(numbers, int8_rows_of_zeros_and_of_extremes_stay_finite);
    tcase_add_test(numbers,
                   the_run_time_product_of_int8_is_that_of_the_specification);
    tcase_add_test(numbers, threshold_zero_keeps_every_column_in_integers);
    tcase_add_test(numbers,
                   only_outlying_entries_stay_out_of_a_token_s_magnitude);
    tcase_add_test(numbers,
                   tokens_of_zeros_or_outliers_alone_have_codes_zero);
    tcase_add_test(numbers, halves_round_to_nearest_even);
    tcase_add_test(numbers, values_beyond_the_type_become_its_largest);
    tcase_add_test(refusals, the_run_time_product_refuses_what_does_not_fit);
    tcase_add_test(refusals, halves_refuse_what_they_cannot_hold_and_codes);
    tcase_add_test(refusals,
                   weights_that_are_not_finite_are_named_and_left_alone);
    tcase_add_test(refusals, shapes_and_types_that_do_not_fit_are_refused);
    tcase_add_test(refusals, names_make_what_they_say_and_nothing_else_is_one);
    tcase_add_test(refusals, options_without_meaning_are_refused);
    tcase_add_test(refusals, every_quantizer_survives_each_failed_allocation);
    suite_add_tcase(suite, bits);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, refusals);
    return run_suite(suite);
}
