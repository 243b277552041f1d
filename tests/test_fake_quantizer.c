/* Fake quantization: the bits of unpacked weights, whatever threads, rounding,
 * locale and strides the host has. */
#include <fenv.h>
#include <float.h>

#include "foreign_locale.h"
#include "quantizer_fixture.h"

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
    static float expected[ELEMENTS];
    static float found[ELEMENTS];
    qrb_context *ctx = context_of(1);
    char directory[64];

    make_directory(directory);
    fake(ctx, "rtn4g32", 5, expected);
    enter_foreign_locale(foreign_locales[_i], directory);
    fake(ctx, "rtn4g32", 5, found);
    setlocale(LC_ALL, "C");
    ck_assert_mem_eq(found, expected, sizeof found);
    remove_directory(directory);
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

int main(void)
{
    Suite *suite = suite_create("fake_quantizer");
    TCase *bits = tcase_create("bits");

    tcase_add_test(bits, fake_weights_are_the_bits_of_unpacked_ones);
    tcase_add_test(bits, threads_change_no_bit);
    tcase_add_loop_test(
        bits, the_rounding_mode_of_the_host_changes_no_bit_and_stays, 0, 2);
    tcase_add_test(bits, the_threads_of_a_host_change_no_bit);
    tcase_add_loop_test(bits, the_locale_of_the_host_changes_no_bit, 0,
                        FOREIGN_LOCALES);
    tcase_add_test(bits, faking_twice_changes_nothing);
    tcase_add_test(bits, strides_do_not_matter);
    tcase_add_test(bits, units_of_any_size_give_what_each_row_gives_alone);
    tcase_add_test(bits, a_short_last_group_is_one_filled_up_with_zeros);
    tcase_add_test(bits, a_scale_for_the_matrix_is_that_of_one_long_row);
    suite_add_tcase(suite, bits);
    return run_suite(suite);
}
