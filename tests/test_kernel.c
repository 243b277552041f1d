/* Every kernel of every instruction set that this machine has against its
 * plain twin, on lengths around the widths of vectors, at any alignment, with
 * a guard page behind the last element.  Where a kernel differs from its twin
 * the bound is counted in roundings: eps is the unit of float, and exp() of
 * either side is good to 2 of them. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/random.h"
#include "guarded.h"
#include "harness.h"
#include "kernel/kernels.h"

enum { MOST = 71, ARRAYS = 6 };

static const char *const sets[] = { "avx2", "avx512" };
enum { SETS = sizeof sets / sizeof *sets };

static struct qrb__kernels ref;
static struct qrb__kernels fast;
static struct guarded pages[ARRAYS];

static void make_pages(void)
{
    ck_assert_int_eq(qrb__kernels_select(&ref, "ref"), 0);
    for (size_t i = 0; i < ARRAYS; i++)
        pages[i] = guarded_create(MOST * MOST * sizeof(float));
}

static void unmap_pages(void)
{
    for (size_t i = 0; i < ARRAYS; i++)
        guarded_destroy(&pages[i]);
}

static bool select_set(int i)
{
    ck_assert_int_eq(qrb__kernels_select(&fast, sets[i]), 0);
    if (strcmp(fast.name, sets[i]) == 0)
        return true;
    printf("SKIP: this processor has no %s\n", sets[i]);
    return false;
}

/* The last n floats before guard page i. */
static float *tail(size_t i, size_t n)
{
    return (float *)guarded_memory(&pages[i]) + MOST * MOST - n;
}

/* Numbers in (-scale, scale), another sequence for each seed. */
static void fill(float *x, size_t n, uint64_t seed, double scale)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * (2 * qrb__random_uniform(&random, i) - 1));
}

static float *filled(size_t i, size_t n, double scale)
{
    float *x = tail(i, n);

    fill(x, n, i + 1000 * n, scale);
    return x;
}

static void assert_close(double found, double expected, double bound)
{
    /* Check writes a message for each of its assertions: millions of them
     * would take longer than the kernels. */
    if (!(fabs(found - expected) <= bound))
        ck_abort_msg("%s: found %.9g, expected %.9g within %.3g", fast.name,
                     found, expected, bound);
}

START_TEST(softmax_is_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++)
        for (size_t cols = n; cols <= n + 2; cols++) {
            float expected[MOST + 2];
            float *z = filled(0, cols, 30);

            memcpy(expected, z, cols * sizeof *z);
            ref.f32.softmax(expected, cols, 1, n, cols);
            fast.f32.softmax(z, cols, 1, n, cols);
            for (size_t i = 0; i < cols; i++)
                assert_close((double)z[i], (double)expected[i],
                             6 * FLT_EPSILON * (double)expected[i] +
                                 (double)FLT_MIN);
        }
}
END_TEST

START_TEST(softmax_takes_what_floats_can_hold)
{
    const float far[4] = { 3e38f, -3e38f, 0, 3e38f };
    const float expected[4] = { 0.5f, 0, 0, 0.5f };
    float *z = tail(0, 4);

    if (!select_set(_i))
        return;
    memcpy(z, far, sizeof far);
    fast.f32.softmax(z, 4, 1, 4, 4);
    ck_assert_mem_eq(z, expected, sizeof expected);
    for (size_t bad = 0; bad < MOST; bad++) {
        z = filled(0, MOST, 1);
        z[bad] = NAN;
        fast.f32.softmax(z, MOST, 1, MOST, MOST);
        for (size_t i = 0; i < MOST; i++)
            ck_assert(isnan(z[i]));
    }
    for (size_t i = 0; i < MOST; i++)
        z[i] = i == 3 ? 0.0f : -INFINITY;
    fast.f32.softmax(z, MOST, 1, MOST, MOST);
    for (size_t i = 0; i < MOST; i++)
        ck_assert_float_eq(z[i], i == 3 ? 1.0f : 0.0f);
}
END_TEST

/* Through softmax(0, x) = e / (1 + e), e = exp(x): one ulp of e, and half a
 * one each of the factor 1 / (1 + e) and of the product. */
START_TEST(exponentials_are_good_to_one_ulp)
{
    enum { N = 20000 };

    for (size_t k = 0; select_set(_i) && k <= N; k++) {
        float z[2] = { 0, (float)(-104.0 * (double)k / N) };
        const double e = exp((double)z[1]);
        const double p = e / (1 + e);

        fast.f32.softmax(z, 2, 1, 2, 2);
        assert_close((double)z[1], p,
                     2 * FLT_EPSILON * p + (double)FLT_TRUE_MIN);
    }
}
END_TEST

START_TEST(softmax_grad_is_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        float expected[MOST + 2];
        float *p = filled(0, n, 3);
        float *dp = filled(1, n + 2, 1);
        double mean = 0;

        ref.f32.softmax(p, n, 1, n, n);
        memcpy(expected, dp, (n + 2) * sizeof *dp);
        for (size_t i = 0; i < n; i++)
            mean += fabs((double)p[i] * (double)dp[i]);
        ref.f32.softmax_grad(p, expected, n + 2, 1, n, n + 2);
        fast.f32.softmax_grad(p, dp, n + 2, 1, n, n + 2);
        for (size_t i = 0; i < n + 2; i++)
            assert_close((double)dp[i], (double)expected[i],
                         i < n ? (double)p[i] * 2 * FLT_EPSILON *
                                     (mean + fabs((double)dp[i]))
                               : 0);
    }
}
END_TEST

/* Each row has the bits that it has alone, and what lies between rows stays. */
static void compare_rows(const struct qrb__kernels_f32 *kernels, size_t rows,
                         size_t n)
{
    enum { GAP = 3, MOST_CELLS = 40 * (80 + GAP) };
    const size_t cols = n + rows;
    const size_t stride = cols + GAP;
    float p[MOST_CELLS];
    float dp[MOST_CELLS];
    float alone[2][MOST_CELLS];

    ck_assert_uint_le(rows * stride, MOST_CELLS);
    fill(p, rows * stride, n, 10);
    fill(dp, rows * stride, n + 1, 1);
    memcpy(alone[0], p, rows * stride * sizeof *p);
    memcpy(alone[1], dp, rows * stride * sizeof *dp);
    kernels->softmax(p, stride, rows, n, cols);
    kernels->softmax_grad(p, dp, stride, rows, n, cols);
    for (size_t r = 0; r < rows; r++) {
        kernels->softmax(alone[0] + r * stride, 1, 1, n + r, cols);
        kernels->softmax_grad(alone[0] + r * stride, alone[1] + r * stride, 1,
                              1, n + r, cols);
    }
    if (memcmp(p, alone[0], rows * stride * sizeof *p) != 0 ||
        memcmp(dp, alone[1], rows * stride * sizeof *dp) != 0)
        ck_abort_msg("%zu rows from %zu", rows, n);
}

START_TEST(rows_of_a_softmax_do_not_know_each_other)
{
    if (!select_set(_i))
        return;
    for (size_t rows = 1; rows <= 40; rows += rows < 10 ? 1 : 10)
        for (size_t n = 1; n <= 40; n += 3) {
            compare_rows(&ref.f32, rows, n);
            compare_rows(&fast.f32, rows, n);
        }
}
END_TEST

START_TEST(nll_and_its_gradient_are_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        const size_t target = n / 2;
        float expected[MOST];
        float *z = filled(0, n, 20);
        const double scale = 0.37;
        double loss;

        memcpy(expected, z, n * sizeof *z);
        loss = ref.f32.nll(z, n, target);
        assert_close(fast.f32.nll(z, n, target), loss, 4 * FLT_EPSILON);
        assert_close(ref.f32.nll_grad(expected, n, target, scale), loss,
                     4 * FLT_EPSILON);
        assert_close(fast.f32.nll_grad(z, n, target, scale), loss,
                     4 * FLT_EPSILON);
        for (size_t i = 0; i < n; i++)
            assert_close((double)z[i], (double)expected[i],
                         scale * 6 * FLT_EPSILON *
                             (i == target
                                  ? 1
                                  : (double)expected[i] / scale) +
                             (double)FLT_MIN);
    }
}
END_TEST

START_TEST(rms_norm_is_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t cols = 1; cols <= MOST; cols++) {
        enum { ROWS = 3 };
        float expected[ROWS * MOST];
        float inverse[ROWS];
        float *x = filled(0, ROWS * cols, 2);
        float *w = filled(1, cols, 1);
        float *y = tail(2, ROWS * cols);
        float *inv = tail(3, ROWS);

        ref.f32.rms_norm(x, w, 1e-5, ROWS, cols, expected, inverse);
        fast.f32.rms_norm(x, w, 1e-5, ROWS, cols, y, inv);
        for (size_t r = 0; r < ROWS; r++)
            assert_close((double)inv[r], (double)inverse[r],
                         FLT_EPSILON * (double)inverse[r]);
        for (size_t i = 0; i < ROWS * cols; i++)
            assert_close((double)y[i], (double)expected[i],
                         3 * FLT_EPSILON * fabs((double)expected[i]));
    }
}
END_TEST

START_TEST(rms_norm_grad_is_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t cols = 1; cols <= MOST; cols++) {
        enum { ROWS = 3 };
        float expected_dx[ROWS * MOST];
        float expected_dw[MOST];
        float inv[ROWS];
        float *x = filled(0, ROWS * cols, 2);
        float *w = filled(1, cols, 1);
        float *dy = filled(2, ROWS * cols, 1);
        float *dx = filled(3, ROWS * cols, 1);
        float *dw = filled(4, cols, 1);
        /* |x inv| is below sqrt(cols), |w| and |dy| below 1 and so is every
         * term of the mean: a few roundings of numbers below that. */
        const double size = 2 + (double)cols;

        ref.f32.rms_norm(x, w, 1e-5, ROWS, cols, expected_dx, inv);
        memcpy(expected_dx, dx, ROWS * cols * sizeof *dx);
        memcpy(expected_dw, dw, cols * sizeof *dw);
        ref.f32.rms_norm_grad(x, w, inv, dy, ROWS, cols, expected_dx,
                              expected_dw);
        fast.f32.rms_norm_grad(x, w, inv, dy, ROWS, cols, dx, dw);
        for (size_t i = 0; i < ROWS * cols; i++)
            assert_close((double)dx[i], (double)expected_dx[i],
                         4 * FLT_EPSILON * (1 + (double)inv[i / cols]) * size);
        for (size_t i = 0; i < cols; i++)
            assert_close((double)dw[i], (double)expected_dw[i],
                         4 * ROWS * FLT_EPSILON * size);
    }
}
END_TEST

START_TEST(swiglu_and_its_gradient_are_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        float y[MOST];
        float expected_gate[MOST];
        float expected_up[MOST];
        float *gate = filled(0, n, 120);
        float *up = filled(1, n, 2);
        float *dy = filled(2, n, 2);
        float *out = tail(3, n);
        float *dgate = tail(4, n);
        float *dup = tail(5, n);

        ref.f32.swiglu(gate, up, n, y);
        fast.f32.swiglu(gate, up, n, out);
        ref.f32.swiglu_grad(gate, up, dy, n, expected_gate, expected_up);
        fast.f32.swiglu_grad(gate, up, dy, n, dgate, dup);
        for (size_t i = 0; i < n; i++) {
            const double g = fabs((double)gate[i]);
            /* of the slope s (1 + g (1 - s)), whose sum may cancel */
            const double s = 1 / (1 + exp(-(double)gate[i]));
            const double slope = s * (1 + g * (1 - s));

            assert_close((double)out[i], (double)y[i],
                         8 * FLT_EPSILON * fabs((double)y[i]) +
                             300 * (double)FLT_MIN);
            assert_close((double)dup[i], (double)expected_up[i],
                         8 * FLT_EPSILON * fabs((double)expected_up[i]) +
                             300 * (double)FLT_MIN);
            assert_close((double)dgate[i], (double)expected_gate[i],
                         16 * FLT_EPSILON * slope *
                                 fabs((double)(dy[i] * up[i])) +
                             300 * (double)FLT_MIN);
        }
    }
}
END_TEST

START_TEST(swiglu_may_overwrite_its_inputs)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        float y[MOST];
        float dgate[MOST];
        float dup[MOST];
        float *gate = filled(0, n, 4);
        float *up = filled(1, n, 2);
        float *dy = filled(2, n, 2);

        fast.f32.swiglu(gate, up, n, y);
        fast.f32.swiglu_grad(gate, up, dy, n, dgate, dup);
        fast.f32.swiglu_grad(gate, up, dy, n, gate, up);
        ck_assert_mem_eq(gate, dgate, n * sizeof *gate);
        ck_assert_mem_eq(up, dup, n * sizeof *up);
        gate = filled(0, n, 4);
        up = filled(1, n, 2);
        fast.f32.swiglu(gate, up, n, gate);
        ck_assert_mem_eq(gate, y, n * sizeof *gate);
    }
}
END_TEST

START_TEST(rotary_is_the_twin_s_and_its_inverse_turns_back)
{
    if (!select_set(_i))
        return;
    for (size_t half = 1; half <= 20; half++)
        for (int flags = 0; flags < 4; flags++) {
            enum { ROWS = 2, HEADS = 3 };
            const int interleaved = flags & 1;
            const int inverse = flags >> 1;
            const size_t stride = HEADS * 2 * half + 3;
            const size_t size = stride + HEADS * 2 * half;
            float before[2 * (HEADS * 2 * 20 + 3)];
            float expected[2 * (HEADS * 2 * 20 + 3)];
            float *x = filled(0, size, 1);
            float *cosine = filled(1, ROWS * half, 3);
            float *sine = tail(2, ROWS * half);

            for (size_t i = 0; i < ROWS * half; i++) {
                sine[i] = sinf(cosine[i]);
                cosine[i] = cosf(cosine[i]);
            }
            memcpy(before, x, size * sizeof *x);
            memcpy(expected, x, size * sizeof *x);
            ref.f32.rotary(expected, stride, cosine, sine, ROWS, HEADS,
                           2 * half, interleaved, inverse);
            fast.f32.rotary(x, stride, cosine, sine, ROWS, HEADS, 2 * half,
                            interleaved, inverse);
            for (size_t i = 0; i < size; i++)
                assert_close((double)x[i], (double)expected[i],
                             2 * FLT_EPSILON);
            for (size_t i = HEADS * 2 * half; i < stride; i++)
                ck_assert_float_eq(x[i], before[i]);
            fast.f32.rotary(x, stride, cosine, sine, ROWS, HEADS, 2 * half,
                            interleaved, !inverse);
            for (size_t i = 0; i < size; i++)
                assert_close((double)x[i], (double)before[i],
                             8 * FLT_EPSILON);
        }
}
END_TEST

START_TEST(element_wise_kernels_give_the_bits_of_the_twins)
{
    const struct qrb__adamw options = { 1e-3, 0.9,  0.95, 1e-8,
                                        0.1,  0.19, 0.05, 0.7 };

    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        float w[MOST];
        float m[MOST];
        float v[MOST];
        float *x = filled(0, n, 2);
        float *fast_w = filled(1, n, 1);
        float *fast_m = filled(2, n, 1);
        float *fast_v = filled(3, n, 1);

        for (size_t i = 0; i < n; i++)
            fast_v[i] = fabsf(fast_v[i]);
        memcpy(w, fast_w, n * sizeof *w);
        memcpy(m, fast_m, n * sizeof *m);
        memcpy(v, fast_v, n * sizeof *v);
        ref.f32.add(x, n, w);
        fast.f32.add(x, n, fast_w);
        ref.f32.axpy(0.3, x, n, w);
        fast.f32.axpy(0.3, x, n, fast_w);
        ref.f32.lerp(0.01, x, n, w);
        fast.f32.lerp(0.01, x, n, fast_w);
        ref.f32.adamw(&options, x, n, w, m, v);
        fast.f32.adamw(&options, x, n, fast_w, fast_m, fast_v);
        ref.f32.sgd(0.1, 0.9, 0.01, 0.5, x, n, w, m);
        fast.f32.sgd(0.1, 0.9, 0.01, 0.5, x, n, fast_w, fast_m);
        ck_assert_mem_eq(w, fast_w, n * sizeof *w);
        ck_assert_mem_eq(m, fast_m, n * sizeof *m);
        ck_assert_mem_eq(v, fast_v, n * sizeof *v);
    }
}
END_TEST

START_TEST(sums_are_those_of_doubles)
{
    if (!select_set(_i))
        return;
    for (size_t n = 0; n <= MOST; n++) {
        float *x = filled(0, n, 2);
        float *y = filled(1, n, 2);

        /* At most n terms below 16, each rounded once or twice. */
        assert_close(fast.f32.dot(x, y, n), ref.f32.dot(x, y, n),
                     (double)(2 * n * n) * 16 * DBL_EPSILON);
        assert_close(fast.f32.squared_distance(x, y, n),
                     ref.f32.squared_distance(x, y, n),
                     (double)(2 * n * n) * 16 * DBL_EPSILON);
    }
}
END_TEST

/* Decoded by the definition of IEEE 754 binary16. */
static float f16_value(uint16_t bits)
{
    const double sign = bits >> 15 ? -1 : 1;
    const int exponent = bits >> 10 & 31;
    const int fraction = bits & 1023;

    if (exponent == 31)
        return fraction != 0 ? NAN : (float)(sign * INFINITY);
    if (exponent == 0)
        return (float)(sign * ldexp(fraction, -24));
    return (float)(sign * ldexp(1024 + fraction, exponent - 25));
}

static float bf16_value(uint16_t bits)
{
    const uint32_t wide = (uint32_t)bits << 16;
    float value;

    memcpy(&value, &wide, sizeof value);
    return value;
}

static uint32_t bits_of(float x)
{
    uint32_t bits;

    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* One table, "ref" included, over all values of 16 bits. */
static void check_16_bits(const struct qrb__kernels *kernels)
{
    enum { ALL = 65536 };
    uint16_t *all = malloc(ALL * sizeof *all);
    uint16_t *back = malloc(ALL * sizeof *back);
    float *wide = malloc(ALL * sizeof *wide);

    ck_assert(all != NULL && back != NULL && wide != NULL);
    for (uint32_t i = 0; i < ALL; i++)
        all[i] = (uint16_t)i;
    kernels->f16_to_f32(all, ALL, wide);
    kernels->f32_to_f16(wide, ALL, back);
    for (uint32_t i = 0; i < ALL; i++) {
        if ((i & 0x7fff) > 0x7c00) {
            /* NaN keeps sign and payload, and turns quiet. */
            ck_assert_uint_eq(bits_of(wide[i]), (i & 0x8000) << 16 |
                                                    0x7fc00000 |
                                                    (i & 0x3ff) << 13);
            ck_assert_uint_eq(back[i], i | 0x200);
        } else {
            ck_assert_uint_eq(bits_of(wide[i]),
                              bits_of(f16_value((uint16_t)i)));
            ck_assert_uint_eq(back[i], i);
        }
    }
    kernels->bf16_to_f32(all, ALL, wide);
    kernels->f32_to_bf16(wide, ALL, back);
    for (uint32_t i = 0; i < ALL; i++) {
        ck_assert_uint_eq(bits_of(wide[i]), i << 16);
        ck_assert_uint_eq(back[i], (i & 0x7fff) > 0x7f80 ? i | 0x40 : i);
    }
    free(all);
    free(back);
    free(wide);
}

/* Between each two neighbours of a format: the middle goes to the even one,
 * the floats beside it to the nearer one.  infinity is the first magnitude
 * that is not finite. */
static void check_rounding(void (*narrow)(const float *x, size_t n,
                                          uint16_t *y),
                           float (*value)(uint16_t), uint16_t infinity)
{
    for (uint16_t low = 0; low < infinity; low++) {
        const uint16_t high = (uint16_t)(low + 1);
        /* As if the exponent went on: the middle to what would follow. */
        const float step =
            low == infinity - 1
                ? value(low) - value((uint16_t)(low - 1))
                : value(high) - value(low);
        const float middle = value(low) + step / 2;
        const float x[6] = { nextafterf(middle, 0),
                             middle,
                             nextafterf(middle, INFINITY),
                             -nextafterf(middle, 0),
                             -middle,
                             -nextafterf(middle, INFINITY) };
        const uint16_t even = low % 2 == 0 ? low : high;
        const uint16_t expected[3] = { low, even, high };
        uint16_t y[6];

        narrow(x, 6, y);
        for (int i = 0; i < 6; i++)
            if (y[i] != (expected[i % 3] | (i < 3 ? 0 : 0x8000)))
                ck_abort_msg("%a became %04x, not %04x", (double)x[i], y[i],
                             expected[i % 3]);
    }
}

START_TEST(small_floats_of_the_twins_are_exact)
{
    const float large[4] = { FLT_MAX, -FLT_MAX, INFINITY, -INFINITY };
    const uint16_t f16[4] = { 0x7c00, 0xfc00, 0x7c00, 0xfc00 };
    const uint16_t bf16[4] = { 0x7f80, 0xff80, 0x7f80, 0xff80 };
    const float nan = float_of(0xff812345u); /* signalling */
    uint16_t y[4];

    check_16_bits(&ref);
    check_rounding(ref.f32_to_f16, f16_value, 0x7c00);
    check_rounding(ref.f32_to_bf16, bf16_value, 0x7f80);
    ref.f32_to_f16(large, 4, y);
    ck_assert_mem_eq(y, f16, sizeof f16);
    ref.f32_to_bf16(large, 4, y);
    ck_assert_mem_eq(y, bf16, sizeof bf16);
    ref.f32_to_f16(&nan, 1, y);
    ck_assert_uint_eq(y[0], 0xfe09);
    ref.f32_to_bf16(&nan, 1, y);
    ck_assert_uint_eq(y[0], 0xffc1);
}
END_TEST

START_TEST(small_floats_have_the_bits_of_the_twins)
{
    enum { LOTS = 4096 };
    float x[LOTS];
    uint16_t y[LOTS];
    uint16_t expected[LOTS];

    if (!select_set(_i))
        return;
    check_16_bits(&fast);
    check_rounding(fast.f32_to_f16, f16_value, 0x7c00);
    check_rounding(fast.f32_to_bf16, bf16_value, 0x7f80);
    /* A walk through all exponents, NaN among them. */
    for (uint32_t start = 0; start < 1u << 20; start += LOTS) {
        for (uint32_t i = 0; i < LOTS; i++)
            x[i] = float_of((start + i) * 4093u);
        ref.f32_to_f16(x, LOTS, expected);
        fast.f32_to_f16(x, LOTS, y);
        ck_assert_mem_eq(y, expected, sizeof y);
        ref.f32_to_bf16(x, LOTS, expected);
        fast.f32_to_bf16(x, LOTS, y);
        ck_assert_mem_eq(y, expected, sizeof y);
    }
}
END_TEST

START_TEST(small_floats_stay_within_their_arrays)
{
    if (!select_set(_i))
        return;
    for (size_t n = 1; n <= MOST; n++) {
        uint16_t expected[MOST];
        float wide[MOST];
        float *x = filled(0, n, 1e5);
        uint16_t *y = (uint16_t *)(void *)((char *)tail(1, n) +
                                           n * sizeof *x) -
                      n;
        float *back = tail(2, n);

        ref.f32_to_f16(x, n, expected);
        fast.f32_to_f16(x, n, y);
        ck_assert_mem_eq(y, expected, n * sizeof *y);
        ref.f16_to_f32(y, n, wide);
        fast.f16_to_f32(y, n, back);
        ck_assert_mem_eq(back, wide, n * sizeof *back);
        ref.f32_to_bf16(x, n, expected);
        fast.f32_to_bf16(x, n, y);
        ck_assert_mem_eq(y, expected, n * sizeof *y);
        ref.bf16_to_f32(y, n, wide);
        fast.bf16_to_f32(y, n, back);
        ck_assert_mem_eq(back, wide, n * sizeof *back);
    }
}
END_TEST

START_TEST(normals_of_the_twin_are_those_of_the_context_s_generator)
{
    const struct qrb__random random =
        qrb__random_at(0x123456789abcdefu, 5, 77);

    for (size_t n = 1; n <= MOST; n++) {
        float *y = tail(0, n);

        memset(y, 0, n * sizeof *y);
        ref.add_normals(random.key, random.stream, random.step, 40, 0.7, n, y);
        for (size_t i = 0; i < n; i++)
            ck_assert_float_eq(
                y[i], (float)(0.7 * qrb__random_normal(&random, 40 + i)));
    }
}
END_TEST

/* Radius and angle take part with about four roundings each. */
START_TEST(normals_are_the_generator_s_within_eight_roundings)
{
    const struct qrb__random random =
        qrb__random_at(0x123456789abcdefu, 5, 77);
    /* The third crosses into the upper word of the block number. */
    const uint64_t firsts[] = { 0, 40, (UINT64_C(1) << 34) - 80 };
    enum { LOTS = 40000 };
    float *y = malloc(LOTS * sizeof *y);

    ck_assert_ptr_nonnull(y);
    for (size_t k = 0; select_set(_i) && k < 3; k++) {
        memset(y, 0, LOTS * sizeof *y);
        fast.add_normals(random.key, random.stream, random.step, firsts[k], 1,
                         LOTS, y);
        for (size_t i = 0; i < LOTS; i++) {
            const double z = qrb__random_normal(&random, firsts[k] + i);

            assert_close((double)y[i], z, 8 * FLT_EPSILON * fabs(z));
        }
    }
    free(y);
}
END_TEST

START_TEST(normals_do_not_depend_on_where_a_call_begins)
{
    const uint32_t key[2] = { 1, 2 };
    float whole[MOST];

    if (!select_set(_i))
        return;
    memset(whole, 0, sizeof whole);
    fast.add_normals(key, 3, 4, 0, 0.1, MOST, whole);
    for (size_t first = 0; first < MOST; first += 4)
        for (size_t n = 1; first + n <= MOST; n++) {
            float *y = tail(0, n);

            memset(y, 0, n * sizeof *y);
            fast.add_normals(key, 3, 4, first, 0.1, n, y);
            ck_assert_mem_eq(y, whole + first, n * sizeof *y);
        }
}
END_TEST

START_TEST(normals_are_added_to_what_is_there)
{
    const uint32_t key[2] = { 1, 2 };
    float noise[MOST] = { 0 };
    float *y = filled(0, MOST, 1);
    float before[MOST];

    if (!select_set(_i))
        return;
    memcpy(before, y, sizeof before);
    fast.add_normals(key, 3, 4, 0, 0.5, MOST, noise);
    fast.add_normals(key, 3, 4, 0, 0.5, MOST, y);
    for (size_t i = 0; i < MOST; i++)
        assert_close((double)y[i], (double)before[i] + (double)noise[i],
                     2 * FLT_EPSILON * (1 + fabs((double)noise[i])));
}
END_TEST

START_TEST(products_are_the_twin_s_for_every_edge)
{
    static const size_t depths[] = { 0, 1, 3, 17, 40 };

    if (!select_set(_i))
        return;
    for (size_t m = 1; m <= 31; m++)
        for (size_t n = 1; n <= 49; n += m < 16 ? 1 : 7)
            for (size_t d = 0; d < sizeof depths / sizeof *depths; d++)
                for (int flags = 0; flags < 8; flags++) {
                    const size_t k = depths[d];
                    const bool dense_a = (flags & 1) == 0;
                    const bool dense_b = (flags & 2) == 0;
                    const double beta = flags & 4 ? 0.5 : 0;
                    const size_t row_a = dense_a ? k + 1 : 1;
                    const size_t col_a = dense_a ? 1 : m + 2;
                    const size_t row_b = dense_b ? n + 1 : 1;
                    const size_t col_b = dense_b ? 1 : k + 3;
                    const struct qrb__product shape = {
                        m, n, k, row_a, col_a, row_b, col_b, n + 1, 1.5, beta
                    };
                    const size_t size_a =
                        k == 0 ? 0 : (m - 1) * row_a + (k - 1) * col_a + 1;
                    const size_t size_b =
                        k == 0 ? 0 : (k - 1) * row_b + (n - 1) * col_b + 1;
                    const size_t size_c = (m - 1) * (n + 1) + n;
                    float expected[31 * 50];
                    float *a = filled(0, size_a, 1);
                    float *b = filled(1, size_b, 1);
                    float *c = filled(2, size_c, 1);

                    if (beta == 0)
                        for (size_t i = 0; i < size_c; i++)
                            if (i % (n + 1) < n)
                                c[i] = NAN;
                    memcpy(expected, c, size_c * sizeof *c);
                    ref.f32.product(&shape, a, b, expected);
                    fast.f32.product(&shape, a, b, c);
                    for (size_t i = 0; i < size_c; i++)
                        assert_close((double)c[i], (double)expected[i],
                                     i % (n + 1) < n
                                         ? FLT_EPSILON *
                                               (1.5 * (double)(k * k) + 2)
                                         : 0);
                }
}
END_TEST

START_TEST(an_unknown_set_is_refused)
{
    struct qrb__kernels kernels;

    ck_assert_int_eq(qrb__kernels_select(&kernels, "mmx"), -1);
    ck_assert_int_eq(qrb__kernels_select(&kernels, ""), -1);
    ck_assert_int_eq(qrb__kernels_select(&kernels, "ref"), 0);
    ck_assert_str_eq(kernels.name, "ref");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kernel");
    TCase *plain = tcase_create("plain");
    TCase *vectors = tcase_create("vectors");

    tcase_add_checked_fixture(plain, make_pages, unmap_pages);
    tcase_add_test(plain, an_unknown_set_is_refused);
    tcase_add_test(plain, small_floats_of_the_twins_are_exact);
    tcase_add_test(
        plain, normals_of_the_twin_are_those_of_the_context_s_generator);
    suite_add_tcase(suite, plain);

    tcase_add_checked_fixture(vectors, make_pages, unmap_pages);
    tcase_set_timeout(vectors, 60);
    tcase_add_loop_test(vectors, softmax_is_the_twin_s, 0, SETS);
    tcase_add_loop_test(vectors, softmax_takes_what_floats_can_hold, 0, SETS);
    tcase_add_loop_test(vectors, exponentials_are_good_to_one_ulp, 0, SETS);
    tcase_add_loop_test(vectors, softmax_grad_is_the_twin_s, 0, SETS);
    tcase_add_loop_test(vectors, rows_of_a_softmax_do_not_know_each_other, 0,
                        SETS);
    tcase_add_loop_test(vectors, nll_and_its_gradient_are_the_twin_s, 0, SETS);
    tcase_add_loop_test(vectors, rms_norm_is_the_twin_s, 0, SETS);
    tcase_add_loop_test(vectors, rms_norm_grad_is_the_twin_s, 0, SETS);
    tcase_add_loop_test(vectors, swiglu_and_its_gradient_are_the_twin_s, 0,
                        SETS);
    tcase_add_loop_test(vectors, swiglu_may_overwrite_its_inputs, 0, SETS);
    tcase_add_loop_test(
        vectors, rotary_is_the_twin_s_and_its_inverse_turns_back, 0, SETS);
    tcase_add_loop_test(
        vectors, element_wise_kernels_give_the_bits_of_the_twins, 0, SETS);
    tcase_add_loop_test(vectors, sums_are_those_of_doubles, 0, SETS);
    tcase_add_loop_test(vectors, small_floats_have_the_bits_of_the_twins, 0,
                        SETS);
    tcase_add_loop_test(vectors, small_floats_stay_within_their_arrays, 0,
                        SETS);
    tcase_add_loop_test(
        vectors, normals_are_the_generator_s_within_eight_roundings, 0, SETS);
    tcase_add_loop_test(vectors, normals_do_not_depend_on_where_a_call_begins,
                        0, SETS);
    tcase_add_loop_test(vectors, normals_are_added_to_what_is_there, 0, SETS);
    tcase_add_loop_test(vectors, products_are_the_twin_s_for_every_edge, 0,
                        SETS);
    suite_add_tcase(suite, vectors);
    return run_suite(suite);
}
