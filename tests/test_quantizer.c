/* Quantizers of whole matrices: what they show, halves, and refusals. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

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

    ck_assert_mem_eq(codes_of(packed), codes, sizeof codes);
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

    for (uint32_t grid = 1; grid <= QRB_GRID_S_ACT; grid++) {
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
        codes = codes_of(packed);
        scales = qrb_packed_scales(packed);
        zeros = qrb_packed_zero_points(packed);
        ck_assert_int_eq(zeros == NULL, grid == QRB_GRID_S_ABS ||
                                            grid == QRB_GRID_S_SMOOTH ||
                                            grid == QRB_GRID_S_ACT);
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
    int32_t code;
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
    ck_assert_int_eq(qrb_packed_read_codes(NULL, &code), QRB_E_INVALID_ARG);
    ck_assert_uint_eq(qrb_packed_memory(NULL), 0);
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
    o.grid = 13;
    assert_refused(ctx, &o, "grid 13");
    o = defaults;
    o.kind = 66;
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
    TCase *numbers = tcase_create("numbers");
    TCase *refusals = tcase_create("refusals");

    tcase_add_test(numbers,
                   a_packed_matrix_shows_codes_scales_and_zero_points);
    tcase_add_test(numbers, each_grid_decodes_with_its_own_zero_point);
    tcase_add_test(numbers, halves_round_to_nearest_even);
    tcase_add_test(numbers, values_beyond_the_type_become_its_largest);
    tcase_add_test(refusals, halves_refuse_what_they_cannot_hold_and_codes);
    tcase_add_test(refusals,
                   weights_that_are_not_finite_are_named_and_left_alone);
    tcase_add_test(refusals, shapes_and_types_that_do_not_fit_are_refused);
    tcase_add_test(refusals, names_make_what_they_say_and_nothing_else_is_one);
    tcase_add_test(refusals, options_without_meaning_are_refused);
    tcase_add_test(refusals, every_quantizer_survives_each_failed_allocation);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, refusals);
    return run_suite(suite);
}
