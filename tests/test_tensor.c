/* Tensors: what may be made and what is refused, strides, and conversion
 * between all types against values that are known. */
#include <float.h>
#include <math.h>

#include <qrobust/tensor.h>

#include "guarded.h"
#include "harness.h"
#include "tensor/view.h"

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

static qrb_tensor *view_of(uint32_t dtype, size_t n, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = dtype;
    options.rank = 1;
    options.shape[0] = n;
    options.memory = memory;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

START_TEST(an_owned_tensor_is_zero_and_dense)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;
    const float *x;

    options.rank = 3;
    options.shape[0] = 2;
    options.shape[1] = 3;
    options.shape[2] = 5;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    ck_assert_uint_eq(qrb_tensor_dtype(tensor), QRB_F32);
    ck_assert_uint_eq(qrb_tensor_rank(tensor), 3);
    ck_assert_uint_eq(qrb_tensor_extent(tensor, 1), 3);
    ck_assert_uint_eq(qrb_tensor_extent(tensor, 3), 0);
    ck_assert_int_eq(qrb_tensor_stride(tensor, 0), 60);
    ck_assert_int_eq(qrb_tensor_stride(tensor, 1), 20);
    ck_assert_int_eq(qrb_tensor_stride(tensor, 2), 4);
    ck_assert_int_eq(qrb_tensor_stride(tensor, 3), 0);
    x = qrb_tensor_memory(tensor);
    for (int i = 0; i < 30; i++)
        ck_assert_float_eq(x[i], 0);
    ck_assert(qrb__view_is_dense(&tensor->view));
    qrb_tensor_destroy(tensor);
}
END_TEST

START_TEST(null_is_answered)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = (qrb_tensor *)&options;
    float x;
    qrb_tensor *view = view_of(QRB_F32, 1, &x);
    const size_t one = 1;

    ck_assert_int_eq(qrb_tensor_create(NULL, &options, &tensor),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tensor_create(ctx, &options, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_tensor_create(ctx, NULL, &tensor),
                 QRB_E_INVALID_ARG, "NULL");
    ck_assert_ptr_null(tensor);
    qrb_tensor_destroy(NULL);
    ck_assert_int_eq(qrb_tensor_point(NULL, &one, &x), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_tensor_point(view, NULL, &x), QRB_E_INVALID_ARG,
                 "shape");
    ASSERT_FAILS(ctx, qrb_tensor_point(view, &one, NULL), QRB_E_INVALID_ARG,
                 "memory");
    ck_assert_ptr_null(qrb_tensor_memory(NULL));
    ck_assert_uint_eq(qrb_tensor_dtype(NULL), 0);
    ck_assert_uint_eq(qrb_tensor_rank(NULL), 0);
    ck_assert_uint_eq(qrb_tensor_extent(NULL, 0), 0);
    ck_assert_int_eq(qrb_tensor_stride(NULL, 0), 0);
    ck_assert_int_eq(qrb_tensor_copy(NULL, view), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tensor_copy(view, NULL), QRB_E_INVALID_ARG);
    qrb_tensor_destroy(view);
}
END_TEST

static void refuse(const qrb_tensor_options *options, qrb_status expected,
                   const char *words)
{
    qrb_tensor *tensor = (qrb_tensor *)options;

    ASSERT_FAILS(ctx, qrb_tensor_create(ctx, options, &tensor), expected,
                 words);
    ck_assert_ptr_null(tensor);
}

START_TEST(what_cannot_be_is_refused)
{
    const qrb_tensor_options good = { .struct_size = sizeof good,
                                      .shape = { 4, 4 },
                                      .dtype = QRB_F32,
                                      .rank = 2 };
    qrb_tensor_options bad = good;
    _Alignas(8) char memory[64];

    bad.dtype = 0;
    refuse(&bad, QRB_E_INVALID_ARG, "dtype 0");
    bad.dtype = 16;
    refuse(&bad, QRB_E_INVALID_ARG, "dtype 16");
    bad = good;
    bad.rank = 0;
    refuse(&bad, QRB_E_SHAPE, "rank is 0");
    bad.rank = 9;
    refuse(&bad, QRB_E_SHAPE, "rank is 9");
    bad = good;
    bad.shape[1] = 0;
    refuse(&bad, QRB_E_SHAPE, "[4, 0] is empty");
    bad.shape[0] = SIZE_MAX / 2;
    bad.shape[1] = 2;
    refuse(&bad, QRB_E_SHAPE, "larger than memory");
    bad.shape[0] = (size_t)PTRDIFF_MAX / 4 + 1;
    bad.shape[1] = 1;
    refuse(&bad, QRB_E_SHAPE, "larger than memory");
    bad = good;
    bad.strides[0] = 16;
    bad.strides[1] = 4;
    refuse(&bad, QRB_E_INVALID_ARG, "without memory");
    bad.memory = memory;
    bad.strides[0] = 18;
    refuse(&bad, QRB_E_SHAPE, "stride 18 of axis 0");
    bad.strides[0] = INT64_MIN;
    refuse(&bad, QRB_E_SHAPE, "larger than memory");
    bad.strides[0] = INT64_MAX / 2;
    refuse(&bad, QRB_E_SHAPE, "larger than memory");
    bad = good;
    bad.memory = memory + 2;
    refuse(&bad, QRB_E_INVALID_ARG, "not aligned to 4");
    bad = good;
    bad.struct_size = 4;
    refuse(&bad, QRB_E_INVALID_ARG, "struct_size");
}
END_TEST

START_TEST(a_view_points_elsewhere_and_an_owner_does_not)
{
    float a[6];
    float b[8];
    const size_t four[1] = { 4 };
    const size_t none[1] = { 0 };
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *view;
    qrb_tensor *owner;

    options.rank = 1;
    options.shape[0] = 3;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &owner));
    options.memory = a;
    options.strides[0] = 8;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &view));
    ck_assert(!qrb__view_is_dense(&view->view));
    ASSERT_FAILS(ctx, qrb_tensor_point(view, none, b), QRB_E_SHAPE, "empty");
    ASSERT_FAILS(ctx, qrb_tensor_point(view, four, (char *)b + 1),
                 QRB_E_INVALID_ARG, "aligned");
    ck_assert_ptr_eq(qrb_tensor_memory(view), a);
    ck_assert_uint_eq(qrb_tensor_extent(view, 0), 3);
    ASSERT_OK(ctx, qrb_tensor_point(view, four, b));
    ck_assert_ptr_eq(qrb_tensor_memory(view), b);
    ck_assert_uint_eq(qrb_tensor_extent(view, 0), 4);
    ck_assert_int_eq(qrb_tensor_stride(view, 0), 4);
    ASSERT_FAILS(ctx, qrb_tensor_point(owner, four, b), QRB_E_STATE, "owns");
    qrb_tensor_destroy(view);
    qrb_tensor_destroy(owner);
}
END_TEST

static qrb_status create_owner(qrb_context *context, void *arg)
{
    qrb_tensor *tensor = NULL;
    const qrb_status status = qrb_tensor_create(context, arg, &tensor);

    ck_assert((tensor == NULL) == (status != QRB_OK));
    qrb_tensor_destroy(tensor);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;

    options.rank = 2;
    options.shape[0] = 3;
    options.shape[1] = 7;
    fail_each_allocation(create_owner, &options);
}
END_TEST

START_TEST(types_have_sizes_and_names)
{
    static const struct {
        uint32_t dtype;
        size_t size;
        const char *name;
    } known[] = {
        { 1, 8, "F64" },      { 2, 4, "F32" },      { 3, 2, "F16" },
        { 4, 2, "BF16" },     { 5, 1, "I8" },       { 6, 4, "I32" },
        { 7, 1, "U8" },       { 8, 2, "I16" },      { 9, 2, "U16" },
        { 10, 4, "U32" },     { 11, 8, "I64" },     { 12, 8, "U64" },
        { 13, 1, "BOOL" },    { 14, 1, "F8_E4M3" }, { 15, 1, "F8_E5M2" },
        { 0, 0, "?" },        { 16, 0, "?" },       { UINT32_MAX, 0, "?" },
    };

    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        ck_assert_uint_eq(qrb_dtype_size(known[i].dtype), known[i].size);
        ck_assert_str_eq(qrb_dtype_name(known[i].dtype), known[i].name);
    }
}
END_TEST

/* n values of one type to another through tensors. */
static void convert(uint32_t from, const void *x, uint32_t to, void *y,
                    size_t n)
{
    qrb_tensor *source = view_of(from, n, (void *)x);
    qrb_tensor *target = view_of(to, n, y);

    ASSERT_OK(ctx, qrb_tensor_copy(source, target));
    qrb_tensor_destroy(source);
    qrb_tensor_destroy(target);
}

/* By the definition in "FP8 Formats for Deep Learning", arXiv:2209.05433. */
static double f8_value(uint8_t bits, int exponent_bits)
{
    const int mantissa_bits = 7 - exponent_bits;
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int ones = (1 << exponent_bits) - 1;
    const int exponent = bits >> mantissa_bits & ones;
    const int fraction = bits & ((1 << mantissa_bits) - 1);
    const double sign = bits >> 7 ? -1 : 1;

    if (exponent_bits == 4 && (bits & 0x7f) == 0x7f)
        return NAN;
    if (exponent_bits == 5 && exponent == ones)
        return fraction != 0 ? NAN : sign * INFINITY;
    if (exponent == 0)
        return sign * ldexp(fraction, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + fraction,
                        exponent - bias - mantissa_bits);
}

START_TEST(eight_bit_floats_are_exact_and_round_to_nearest_even)
{
    const uint32_t dtype = _i == 4 ? QRB_F8_E4M3 : QRB_F8_E5M2;
    /* What follows the largest value: NaN in E4M3, infinity in E5M2. */
    const uint8_t beyond = _i == 4 ? 0x7f : 0x7c;
    uint8_t all[256];
    uint8_t back[256];
    double wide[256];
    float narrow[256];

    for (int i = 0; i < 256; i++)
        all[i] = (uint8_t)i;
    convert(dtype, all, QRB_F64, wide, 256);
    convert(dtype, all, QRB_F32, narrow, 256);
    convert(QRB_F64, wide, dtype, back, 256);
    for (int i = 0; i < 256; i++) {
        const double expected = f8_value((uint8_t)i, _i);

        if (isnan(expected)) {
            ck_assert(isnan(wide[i]) && isnan(narrow[i]));
            ck_assert(isnan(f8_value(back[i], _i)));
        } else {
            ck_assert_double_eq(wide[i], expected);
            ck_assert_double_eq((double)narrow[i], expected);
            ck_assert_uint_eq(back[i], i);
        }
    }
    for (uint8_t low = 0; low < beyond; low++) {
        const double step = low + 1 < beyond
                                ? f8_value((uint8_t)(low + 1), _i) -
                                      f8_value(low, _i)
                                : f8_value(low, _i) -
                                      f8_value((uint8_t)(low - 1), _i);
        const double middle = f8_value(low, _i) + step / 2;
        const double x[3] = { nextafter(middle, 0), middle,
                              nextafter(middle, INFINITY) };
        const uint8_t expected[3] = { low,
                                      (uint8_t)(low + (low & 1)),
                                      (uint8_t)(low + 1) };
        uint8_t y[3];

        convert(QRB_F64, x, dtype, y, 3);
        ck_assert_mem_eq(y, expected, 3);
    }
}
END_TEST

/* Just above the middle between 1 and its successor in 16 bits, by less than
 * float can hold: through float this would round down. */
START_TEST(doubles_are_rounded_once)
{
    const double x[2] = { 1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-8 + 0x1p-40 };
    uint16_t f16;
    uint16_t bf16;

    convert(QRB_F64, &x[0], QRB_F16, &f16, 1);
    convert(QRB_F64, &x[1], QRB_BF16, &bf16, 1);
    ck_assert_uint_eq(f16, 0x3c01);
    ck_assert_uint_eq(bf16, 0x3f81);
}
END_TEST

START_TEST(integers_become_the_nearest_float)
{
    const int8_t i8[3] = { -128, 0, 127 };
    const int16_t i16[2] = { -32768, 32767 };
    const int32_t i32[2] = { INT32_MIN, 16777217 };
    const int64_t i64[3] = { INT64_MIN, INT64_MAX, -1 };
    const uint8_t u8[2] = { 0, 255 };
    const uint16_t u16[2] = { 1, 65535 };
    const uint32_t u32[2] = { UINT32_MAX, 1 };
    /* The second is just above the middle of two floats, and of two doubles
     * it would be rounded to that middle. */
    const uint64_t u64[2] = { UINT64_MAX, (UINT64_C(1) << 63) +
                                              (UINT64_C(1) << 39) + 1 };
    const uint8_t boolean[2] = { 0, 7 };
    float f[3];
    double d[3];
    uint16_t h[2];

    convert(QRB_I8, i8, QRB_F32, f, 3);
    ck_assert(f[0] == -128 && f[1] == 0 && f[2] == 127);
    convert(QRB_I16, i16, QRB_F32, f, 2);
    ck_assert(f[0] == -32768 && f[1] == 32767);
    convert(QRB_I32, i32, QRB_F64, d, 2);
    ck_assert(d[0] == -0x1p31 && d[1] == 16777217);
    convert(QRB_I32, i32, QRB_F32, f, 2);
    ck_assert(f[1] == 16777216);
    convert(QRB_I64, i64, QRB_F64, d, 3);
    ck_assert(d[0] == -0x1p63 && d[1] == 0x1p63 && d[2] == -1);
    convert(QRB_U8, u8, QRB_F32, f, 2);
    ck_assert(f[0] == 0 && f[1] == 255);
    convert(QRB_U16, u16, QRB_F16, h, 2);
    ck_assert(h[0] == 0x3c00 && h[1] == 0x7c00);
    convert(QRB_U32, u32, QRB_F64, d, 2);
    ck_assert(d[0] == 0x1p32 - 1 && d[1] == 1);
    convert(QRB_U64, u64, QRB_F32, f, 2);
    ck_assert(f[0] == 0x1p64f && f[1] == 0x1p63f + 0x1p40f);
    convert(QRB_U64, u64, QRB_F64, d, 2);
    ck_assert(d[0] == 0x1p64 && d[1] == 0x1p63 + 0x1p39);
    convert(QRB_BOOL, boolean, QRB_F32, f, 2);
    ck_assert(f[0] == 0 && f[1] == 1);
}
END_TEST

START_TEST(floats_go_to_double_and_back)
{
    const float x[5] = { 1.5f, -0.0f, INFINITY, FLT_TRUE_MIN, -FLT_MAX };
    double wide[5];
    float back[5];
    const double large[2] = { 1e300, -1e300 };

    convert(QRB_F32, x, QRB_F64, wide, 5);
    convert(QRB_F64, wide, QRB_F32, back, 5);
    ck_assert_mem_eq(back, x, sizeof x);
    convert(QRB_F64, large, QRB_F32, back, 2);
    ck_assert(back[0] == INFINITY && back[1] == -INFINITY);
}
END_TEST

START_TEST(every_type_is_copied_bit_for_bit_into_itself)
{
    unsigned char x[64];
    unsigned char y[64];

    for (int i = 0; i < 64; i++)
        x[i] = (unsigned char)(i * 37 + 129);
    for (uint32_t dtype = QRB_F64; dtype <= QRB_F8_E5M2; dtype++) {
        _Alignas(8) unsigned char from[64];
        _Alignas(8) unsigned char to[64] = { 0 };

        memcpy(from, x, sizeof from);
        convert(dtype, from, dtype, to, 64 / qrb_dtype_size(dtype));
        memcpy(y, to, sizeof y);
        ck_assert_mem_eq(y, x, sizeof x);
    }
}
END_TEST

START_TEST(floats_are_not_made_integers)
{
    float x[2] = { 1, 2 };
    int32_t y[2] = { 5, 6 };
    qrb_tensor *source = view_of(QRB_F32, 2, x);
    qrb_tensor *target = view_of(QRB_I32, 2, y);
    qrb_tensor *longer = view_of(QRB_F32, 1, x);

    ASSERT_FAILS(ctx, qrb_tensor_copy(source, target), QRB_E_UNSUPPORTED,
                 "from F32 to I32");
    ASSERT_FAILS(ctx, qrb_tensor_copy(source, longer), QRB_E_SHAPE,
                 "[2] to [1]");
    ck_assert_int_eq(y[0], 5);
    qrb_tensor_destroy(source);
    qrb_tensor_destroy(target);
    qrb_tensor_destroy(longer);
}
END_TEST

static qrb_tensor *strided(uint32_t dtype, uint32_t rank, const size_t *shape,
                           const int64_t *strides, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = dtype;
    options.rank = rank;
    options.memory = memory;
    for (uint32_t i = 0; i < rank; i++) {
        options.shape[i] = shape[i];
        options.strides[i] = strides[i];
    }
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

/* Transposed, reversed, with gaps, and broadcast, across the blocks in which
 * elements are gathered. */
START_TEST(copies_follow_strides)
{
    enum { R = 3, C = 700 };
    const size_t shape[2] = { R, C };
    const int64_t transposed[2] = { sizeof(float), R * sizeof(float) };
    const int64_t reversed[2] = { -(int64_t)(C * sizeof(float)),
                                  sizeof(float) };
    const int64_t gaps[2] = { 2 * C * sizeof(float), 2 * sizeof(float) };
    const int64_t broadcast[2] = { 0, sizeof(float) };
    static float x[2 * R * C];
    static double y[R * C];
    const size_t dense_shape[1] = { R * C };
    const int64_t dense[1] = { sizeof(double) };
    const size_t y_shape[2] = { R, C };
    const int64_t y_strides[2] = { C * sizeof(double), sizeof(double) };
    qrb_tensor *target = strided(QRB_F64, 2, y_shape, y_strides, y);
    qrb_tensor *line = strided(QRB_F64, 1, dense_shape, dense, y);
    struct {
        const int64_t *strides;
        float *first;
    } cases[] = { { transposed, x },
                  { reversed, x + (R - 1) * C },
                  { gaps, x },
                  { broadcast, x } };

    for (size_t i = 0; i < 2 * R * C; i++)
        x[i] = (float)i;
    for (size_t k = 0; k < 4; k++) {
        qrb_tensor *source =
            strided(QRB_F32, 2, shape, cases[k].strides, cases[k].first);

        memset(y, 0, sizeof y);
        ASSERT_OK(ctx, qrb_tensor_copy(source, target));
        for (int64_t r = 0; r < R; r++)
            for (int64_t c = 0; c < C; c++)
                ck_assert_double_eq(
                    y[r * C + c],
                    (double)*(cases[k].first +
                              (r * cases[k].strides[0] +
                               c * cases[k].strides[1]) /
                                  (int64_t)sizeof(float)));
        if (k != 3) {
            /* And back: what was read is written to the same places. */
            static float kept[2 * R * C];

            memcpy(kept, x, sizeof kept);
            ASSERT_OK(ctx, qrb_tensor_copy(target, source));
            ck_assert_mem_eq(x, kept, sizeof kept);
        }
        qrb_tensor_destroy(source);
    }
    ASSERT_FAILS(ctx, qrb_tensor_copy(line, target), QRB_E_SHAPE, "[2100]");
    qrb_tensor_destroy(line);
    qrb_tensor_destroy(target);
}
END_TEST

/* More than one task, and an end that fills none. */
START_TEST(long_copies_are_cut_into_tasks_and_stay_inside)
{
    const size_t n = 3 * 64 * 1024 + 7;
    struct guarded from = guarded_create(n * sizeof(float));
    struct guarded to = guarded_create(n * sizeof(uint16_t));
    float *x = guarded_memory(&from);
    uint16_t *y = guarded_memory(&to);

    struct qrb__view source = qrb__view_make(QRB_F32, 1, &n, x);
    struct qrb__view target = qrb__view_make(QRB_F16, 1, &n, y);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(i % 2048);
    ASSERT_OK(ctx, qrb__view_copy(ctx, &source, &target));
    memset(x, 0, n * sizeof *x);
    ASSERT_OK(ctx, qrb__view_copy(ctx, &target, &source));
    for (size_t i = 0; i < n; i++)
        if (x[i] != (float)(i % 2048))
            ck_abort_msg("element %zu is %g", i, (double)x[i]);
    guarded_destroy(&from);
    guarded_destroy(&to);
}
END_TEST

/* Files need not align what they hold. */
START_TEST(views_inside_the_library_need_no_alignment)
{
    unsigned char bytes[4 * 9 + 1];
    float x[9];
    float y[9];
    const size_t shape = 9;
    struct qrb__view source = qrb__view_make(QRB_F32, 1, &shape, bytes + 1);
    struct qrb__view target = qrb__view_make(QRB_F32, 1, &shape, y);

    for (int i = 0; i < 9; i++)
        x[i] = (float)i + 0.5f;
    memcpy(bytes + 1, x, sizeof x);
    ASSERT_OK(ctx, qrb__view_copy(ctx, &source, &target));
    ck_assert_mem_eq(y, x, sizeof x);
    bytes[4 * 4 + 1 + 3] = 0x7f; /* element 4 becomes NaN */
    bytes[4 * 4 + 1 + 2] = 0xff;
    ck_assert_uint_eq(qrb__view_first_not_finite(ctx, &source), 4);
    ASSERT_OK(ctx, qrb__view_copy(ctx, &target, &source));
    ck_assert_mem_eq(bytes + 1, x, sizeof x);
}
END_TEST

START_TEST(a_scalar_and_nothing_are_copied)
{
    float x = 3;
    double y = 0;
    const size_t none = 0;
    struct qrb__view from = qrb__view_make(QRB_F32, 0, NULL, &x);
    struct qrb__view to = qrb__view_make(QRB_F64, 0, NULL, &y);

    ASSERT_OK(ctx, qrb__view_copy(ctx, &from, &to));
    ck_assert_double_eq(y, 3);
    from = qrb__view_make(QRB_F32, 1, &none, &x);
    to = qrb__view_make(QRB_F64, 1, &none, &y);
    x = NAN;
    ASSERT_OK(ctx, qrb__view_copy(ctx, &from, &to));
    ck_assert_double_eq(y, 3);
    ck_assert_uint_eq(qrb__view_first_not_finite(ctx, &from), SIZE_MAX);
}
END_TEST

START_TEST(the_first_number_that_is_not_finite_is_found)
{
    enum { N = 1000 };
    static const uint32_t floats[] = { QRB_F64,  QRB_F32,     QRB_F16,
                                       QRB_BF16, QRB_F8_E5M2, QRB_F8_E4M3 };
    static const size_t places[] = { 0, 1, 255, 256, 511, 998, 999 };
    static double wide[N];
    _Alignas(8) static unsigned char x[8 * N];
    const size_t shape[2] = { 10, 100 };

    for (size_t t = 0; t < sizeof floats / sizeof *floats; t++) {
        const struct qrb__view view = qrb__view_make(floats[t], 2, shape, x);

        for (size_t p = 0; p < sizeof places / sizeof *places; p++) {
            for (size_t i = 0; i < N; i++)
                wide[i] = i % 7;
            convert(QRB_F64, wide, floats[t], x, N);
            ck_assert_uint_eq(qrb__view_first_not_finite(ctx, &view),
                              SIZE_MAX);
            wide[places[p]] = p % 2 ? NAN : -INFINITY;
            wide[N - 1] = NAN;
            convert(QRB_F64, wide, floats[t], x, N);
            ck_assert_uint_eq(qrb__view_first_not_finite(ctx, &view),
                              places[p]);
        }
    }
    memset(x, 0xff, sizeof x);
    {
        const struct qrb__view view = qrb__view_make(QRB_I32, 2, shape, x);

        ck_assert_uint_eq(qrb__view_first_not_finite(ctx, &view), SIZE_MAX);
    }
}
END_TEST

START_TEST(shapes_are_written_out)
{
    const size_t shape[3] = { 2, 3, 4096 };
    struct qrb__view view = qrb__view_make(QRB_F32, 3, shape, NULL);
    char text[32];
    char tight[7];

    ck_assert_str_eq(qrb__view_shape_text(&view, text, sizeof text),
                     "[2, 3, 4096]");
    ck_assert_str_eq(qrb__view_shape_text(&view, tight, sizeof tight),
                     "[2, 3,");
    view.rank = 0;
    ck_assert_str_eq(qrb__view_shape_text(&view, text, sizeof text), "[]");
}
END_TEST

START_TEST(an_axis_of_one_element_has_no_stride)
{
    const size_t shape[3] = { 2, 1, 4 };
    struct qrb__view view = qrb__view_make(QRB_F32, 3, shape, NULL);

    ck_assert_uint_eq(qrb__view_elements(&view), 8);
    ck_assert(qrb__view_is_dense(&view));
    view.strides[1] = 12345;
    ck_assert(qrb__view_is_dense(&view));
    view.strides[0] = 20;
    ck_assert(!qrb__view_is_dense(&view));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tensor");
    TCase *tensor = tcase_create("tensor");

    tcase_add_checked_fixture(tensor, set_up, tear_down);
    tcase_add_test(tensor, an_owned_tensor_is_zero_and_dense);
    tcase_add_test(tensor, null_is_answered);
    tcase_add_test(tensor, what_cannot_be_is_refused);
    tcase_add_test(tensor, a_view_points_elsewhere_and_an_owner_does_not);
    tcase_add_test(tensor, every_allocation_may_fail);
    tcase_add_test(tensor, types_have_sizes_and_names);
    tcase_add_loop_test(
        tensor, eight_bit_floats_are_exact_and_round_to_nearest_even, 4, 6);
    tcase_add_test(tensor, doubles_are_rounded_once);
    tcase_add_test(tensor, integers_become_the_nearest_float);
    tcase_add_test(tensor, floats_go_to_double_and_back);
    tcase_add_test(tensor, every_type_is_copied_bit_for_bit_into_itself);
    tcase_add_test(tensor, floats_are_not_made_integers);
    tcase_add_test(tensor, copies_follow_strides);
    tcase_add_test(tensor, long_copies_are_cut_into_tasks_and_stay_inside);
    tcase_add_test(tensor, views_inside_the_library_need_no_alignment);
    tcase_add_test(tensor, a_scalar_and_nothing_are_copied);
    tcase_add_test(tensor, the_first_number_that_is_not_finite_is_found);
    tcase_add_test(tensor, shapes_are_written_out);
    tcase_add_test(tensor, an_axis_of_one_element_has_no_stride);
    suite_add_tcase(suite, tensor);
    return run_suite(suite);
}
