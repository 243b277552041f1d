/* Uniform grids: the numeric cases of the specification, degenerate ranges,
 * and what holds for any weights. */
#include <fenv.h>
#include <float.h>
#include <math.h>

#include "harness.h"

#include "quant/grid.h"
#include "quant/round_even.h"

enum { MODES = QRB_GRID_S_ACT, MANY = 96 };

/* Weights of the specification: a linear congruential generator. */
static void fill(uint32_t seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = seed / 4294967296.0 - 0.5;
    }
}

static struct qrb__grid grid_of(uint32_t mode, uint32_t bits)
{
    return (struct qrb__grid){ mode, bits, false, false, false };
}

static void assert_case(const struct qrb__grid *grid, const double *w,
                        size_t n, double h, double z, const int32_t *codes,
                        const double *values)
{
    const struct qrb__grid_scale scale = qrb__grid_fit_f64(grid, w, n);
    int32_t found[16];
    double decoded[16];

    ck_assert_double_eq_tol(scale.scale, h, 5e-10);
    ck_assert_double_eq(scale.zero_point, z);
    qrb__grid_encode_f64(grid, &scale, w, n, found);
    qrb__grid_decode_f64(&scale, found, n, decoded);
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(found[i] == codes[i], "code %zu is %d, not %d", i,
                      found[i], codes[i]);
        ck_assert_double_eq_tol(decoded[i], values[i], 5e-10);
    }
}

static const double six[6] = { -1, -0.35, 0, 0.2, 0.55, 1.4 };
static const double positive[4] = { 0.5, 0.75, 1, 1.25 };

/* Quantizers 1.5. */
START_TEST(three_bits_of_six_weights_are_those_of_the_specification)
{
    static const struct {
        uint32_t mode;
        double h;
        double z;
        int32_t codes[6];
        double values[6];
    } cases[] = {
        { QRB_GRID_A_PAPER, 0.342857143, 3, { 0, 2, 3, 4, 5, 7 },
          { -1.028571429, -0.342857143, 0, 0.342857143, 0.685714286,
            1.371428571 } },
        { QRB_GRID_A_GPTQ, 0.342857143, 3, { 0, 2, 3, 4, 5, 7 },
          { -1.028571429, -0.342857143, 0, 0.342857143, 0.685714286,
            1.371428571 } },
        { QRB_GRID_A_MAX, 0.342857143, 3, { 0, 2, 3, 4, 5, 7 },
          { -1.028571429, -0.342857143, 0, 0.342857143, 0.685714286,
            1.371428571 } },
        { QRB_GRID_S_GPTQ, 0.4, 4, { 2, 3, 4, 5, 5, 7 },
          { -0.8, -0.4, 0, 0.4, 0.4, 1.2 } },
        { QRB_GRID_S_ABS, 0.466666667, 0, { -2, -1, 0, 0, 1, 3 },
          { -0.933333333, -0.466666667, 0, 0, 0.466666667, 1.4 } },
        { QRB_GRID_S_OMNI, 0.466666667, 3, { 1, 2, 3, 3, 4, 6 },
          { -0.933333333, -0.466666667, 0, 0, 0.466666667, 1.4 } },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct qrb__grid grid = grid_of(cases[i].mode, 3);

        assert_case(&grid, six, 6, cases[i].h, cases[i].z, cases[i].codes,
                    cases[i].values);
    }
}
END_TEST

/* Quantizers 1.5: in float32 the quotient of 0.2 and 0.4 is a tie. */
START_TEST(float32_takes_the_tie_that_double_misses)
{
    const struct qrb__grid grid = { QRB_GRID_S_GPTQ, 3, true, false, false };
    const int32_t expected[6] = { 2, 3, 4, 4, 5, 7 };
    struct qrb__grid_scale scale;
    float w[6];
    int32_t codes[6];

    for (size_t i = 0; i < 6; i++)
        w[i] = (float)six[i];
    scale = qrb__grid_fit_f32(&grid, w, 6);
    ck_assert_double_eq(scale.scale, 0.4f);
    qrb__grid_encode_f32(&grid, &scale, w, 6, codes);
    for (size_t i = 0; i < 6; i++)
        ck_assert_int_eq(codes[i], expected[i]);
}
END_TEST

/* Quantizers 1.1: A_PAPER and A_MAX are one grid in exact arithmetic. */
START_TEST(a_paper_and_a_max_part_at_ties_of_float32)
{
    const struct qrb__grid paper = { QRB_GRID_A_PAPER, 2, true, false, false };
    const struct qrb__grid max = { QRB_GRID_A_MAX, 2, true, false, false };
    const struct qrb__grid paper3 = { QRB_GRID_A_PAPER, 3, true, false, false };
    const struct qrb__grid max3 = { QRB_GRID_A_MAX, 3, true, false, false };
    struct qrb__grid_scale scale = qrb__grid_of_range_f32(&paper, -1.5f, 0.3f);

    ck_assert_double_eq(scale.scale, 0.59999996f);
    ck_assert_double_eq(scale.zero_point, 3);
    scale = qrb__grid_of_range_f32(&max, -1.5f, 0.3f);
    ck_assert_double_eq(scale.zero_point, 2);
    scale = qrb__grid_of_range_f64(&paper, -1.5, 0.3);
    ck_assert_double_eq(scale.zero_point, 2);
    scale = qrb__grid_of_range_f32(&paper3, -1.94f, 1.94f);
    ck_assert_double_eq(scale.zero_point, 4);
    scale = qrb__grid_of_range_f32(&max3, -1.94f, 1.94f);
    ck_assert_double_eq(scale.zero_point, 3);
}
END_TEST

/* Quantizers 1.2. */
START_TEST(official_quirks_are_kept_where_they_are_the_mode)
{
    struct qrb__grid grid = { QRB_GRID_S_GPTQ, 4, true, false, false };
    const double h = 1.25 / 15;
    const int32_t saturated[4] = { 14, 15, 15, 15 };
    const double saturated_values[4] = { 6 * h, 7 * h, 7 * h, 7 * h };
    const int32_t awq[4] = { 10, 15, 15, 15 };
    const double awq_values[4] = { 0.5, 0.75, 0.75, 0.75 };
    const double rule_h = 2.5 / 15;
    const int32_t rule[4] = { 11, 12, 14, 15 };
    const double rule_values[4] = { 3 * rule_h, 4 * rule_h, 6 * rule_h,
                                    7 * rule_h };
    const double constant[3] = { 0.3, 0.3, 0.3 };
    const double negative[3] = { -0.3, -0.3, -0.3 };
    const int32_t top[3] = { 15, 15, 15 };
    const int32_t bottom[3] = { 0, 0, 0 };
    const double plus[3] = { 1e-5, 1e-5, 1e-5 };
    const double minus[3] = { -1e-5, -1e-5, -1e-5 };
    struct qrb__grid_scale scale;

    assert_case(&grid, positive, 4, h, 8, saturated, saturated_values);
    grid.compat = false;
    assert_case(&grid, positive, 4, rule_h, 8, rule, rule_values);
    grid.mode = QRB_GRID_A_AWQ;
    assert_case(&grid, positive, 4, 0.05, 0, awq, awq_values);
    assert_case(&grid, constant, 3, 1e-5 / 15, 0, top, plus);
    assert_case(&grid, negative, 3, 1e-5 / 15, 15, bottom, minus);
    grid.mode = QRB_GRID_A_PAPER;
    scale = qrb__grid_fit_f64(&grid, positive, 4);
    ck_assert_double_eq(scale.zero_point, -10);
    grid.mode = QRB_GRID_A_OMNI;
    scale = qrb__grid_fit_f64(&grid, positive, 4);
    ck_assert_double_eq(scale.zero_point, -10);
}
END_TEST

/* Quantizers 1.2, degenerate rows. */
START_TEST(degenerate_rows_come_out_as_ruled)
{
    static const uint32_t as_gptq[3] = { QRB_GRID_A_GPTQ, QRB_GRID_A_PAPER,
                                         QRB_GRID_A_MAX };
    const double zero[3] = { 0, -0.0, 0 };
    const double plus[3] = { 0.3, 0.3, 0.3 };
    const double minus[3] = { -0.3, -0.3, -0.3 };
    const int32_t zero_code[3] = { 0, 0, 0 };

    for (size_t i = 0; i < 3; i++) {
        const struct qrb__grid four = grid_of(as_gptq[i], 4);
        const struct qrb__grid two = grid_of(as_gptq[i], 2);
        const int32_t eight[3] = { 8, 8, 8 };
        const int32_t second[3] = { 2, 2, 2 };
        const int32_t top[3] = { 15, 15, 15 };

        assert_case(&four, zero, 3, 2.0 / 15, 8, eight, zero);
        assert_case(&two, zero, 3, 2.0 / 3, 2, second, zero);
        assert_case(&four, plus, 3, 0.02, 0, top, plus);
        assert_case(&four, minus, 3, 0.02, 15, zero_code, minus);
    }
    {
        const struct qrb__grid awq = grid_of(QRB_GRID_A_AWQ, 4);
        const struct qrb__grid abs = grid_of(QRB_GRID_S_ABS, 4);
        const int32_t seven[3] = { 7, 7, 7 };
        const int32_t minus_seven[3] = { -7, -7, -7 };

        assert_case(&awq, zero, 3, 1e-5 / 15, 0, zero_code, zero);
        assert_case(&abs, zero, 3, 1e-5 / 7, 0, zero_code, zero);
        assert_case(&abs, plus, 3, 0.3 / 7, 0, seven, plus);
        assert_case(&abs, minus, 3, 0.3 / 7, 0, minus_seven, minus);
    }
}
END_TEST

/* Quantizers 1.1: SpQR's program turns a single point into [-1, 1]. */
START_TEST(a_constant_unit_of_a_spqr_takes_the_unit_range)
{
    const struct qrb__grid grid = grid_of(QRB_GRID_A_SPQR, 3);
    const struct qrb__grid_scale scale = qrb__grid_of_range_f64(&grid, 5, 5);

    ck_assert_double_eq(scale.scale, 2.0 / 7);
    ck_assert_double_eq(scale.zero_point, 3.5);
}
END_TEST

/* Quantizers 1.1: the floors and ceilings of OmniQuant's program. */
START_TEST(omniquant_keeps_scales_and_zero_points_within_its_limits)
{
    const struct qrb__grid a = grid_of(QRB_GRID_A_OMNI, 4);
    const struct qrb__grid s = grid_of(QRB_GRID_S_OMNI, 4);
    struct qrb__grid_scale scale = qrb__grid_of_range_f64(&a, 0, 0);

    ck_assert_double_eq(scale.scale, 1e-5);
    ck_assert_double_eq(scale.zero_point, 0);
    scale = qrb__grid_of_range_f64(&a, -1e6, 2e6);
    ck_assert_double_eq(scale.scale, 1e4);
    ck_assert_double_eq(scale.zero_point, 100);
    scale = qrb__grid_of_range_f64(&a, 1, 1 + 1e-6);
    ck_assert_double_eq(scale.scale, 1e-5);
    ck_assert_double_eq(scale.zero_point, -1e4);
    scale = qrb__grid_of_range_f64(&a, -1 - 1e-6, -1);
    ck_assert_double_eq(scale.zero_point, 1e4);
    scale = qrb__grid_of_range_f64(&s, -1e-6, 1e-7);
    ck_assert_double_eq(scale.scale, 1e-5);
    ck_assert_double_eq(scale.zero_point, 7);
    scale = qrb__grid_of_range_f64(&s, -1e6, 1);
    ck_assert_double_eq(scale.scale, 1e4);
}
END_TEST

/* Quantizers 1.3: the range of a token, times its clip ratio. */
START_TEST(a_clipped_token_is_that_of_the_specification)
{
    const struct qrb__grid grid = grid_of(QRB_GRID_A_GPTQ, 4);
    const double x[4] = { 0.2, -1.1, 3.0, 0.4 };
    const int32_t expected[4] = { 5, 0, 15, 6 };
    const double values[4] = { 0.259666667, -1.038666667, 2.856333333,
                               0.519333333 };
    const struct qrb__grid_scale scale =
        qrb__grid_of_range_f64(&grid, 0.95 * -1.1, 0.95 * 3.0);
    int32_t codes[4];
    double decoded[4];

    ck_assert_double_eq_tol(scale.scale, 0.259666667, 5e-10);
    ck_assert_double_eq(scale.zero_point, 4);
    qrb__grid_encode_f64(&grid, &scale, x, 4, codes);
    qrb__grid_decode_f64(&scale, codes, 4, decoded);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(codes[i], expected[i]);
        ck_assert_double_eq_tol(decoded[i], values[i], 5e-10);
    }
}
END_TEST

/* Quantizers 1.4. */
START_TEST(the_clip_search_finds_the_published_ranges)
{
    const struct qrb__grid three = { QRB_GRID_A_GPTQ, 3, false, true, false };
    const struct qrb__grid two = { QRB_GRID_A_GPTQ, 2, false, true, false };
    const double eight[8] = { 0.1, -0.2, 0.3, -0.4, 0.5, -0.6, 0.7, 2.0 };
    struct qrb__grid_scale scale = qrb__grid_fit_f64(&three, six, 6);
    double errors[QRB__GRID_CLIPS] = { 0 };

    ck_assert_double_eq_tol(scale.scale, 0.329142857, 5e-10);
    ck_assert_double_eq(scale.zero_point, 3);
    qrb__grid_clip_errors_f64(&three, six, 6, -1, 1.4, errors);
    ck_assert_uint_eq(qrb__grid_best_clip(errors), 4);
    ck_assert_double_eq(qrb__grid_clip(4), 0.96);
    ck_assert_double_eq_tol(errors[4], 0.0148711289, 5e-11);

    scale = qrb__grid_fit_f64(&two, eight, 8);
    ck_assert_double_eq_tol(scale.scale, 0.8406666667, 5e-11);
    ck_assert_double_eq(scale.zero_point, 1);
    memset(errors, 0, sizeof errors);
    qrb__grid_clip_errors_f64(&two, eight, 8, -0.6, 2, errors);
    ck_assert_uint_eq(qrb__grid_best_clip(errors), 3);
    /* Printed as 0.3788874346; Python's own floats give this. */
    ck_assert_double_eq_tol(errors[0], 0.3788873404, 5e-11);
    ck_assert_double_eq_tol(errors[3], 0.3730001609, 5e-11);
}
END_TEST

START_TEST(the_first_of_equal_errors_is_the_best)
{
    double errors[QRB__GRID_CLIPS] = { 0 };

    ck_assert_uint_eq(qrb__grid_best_clip(errors), 0);
    errors[0] = errors[1] = 1;
    ck_assert_uint_eq(qrb__grid_best_clip(errors), 2);
    errors[79] = -1;
    ck_assert_uint_eq(qrb__grid_best_clip(errors), 79);
}
END_TEST

START_TEST(the_clip_search_never_raises_its_error)
{
    double w[MANY];
    float single[MANY];

    fill(7, MANY, w);
    w[5] = 4; /* something to clip */
    for (size_t i = 0; i < MANY; i++)
        single[i] = (float)w[i];
    for (uint32_t mode = 1; mode < QRB_GRID_S_SMOOTH; mode++) {
        const struct qrb__grid grid = { mode, 3, false, true, false };
        double errors[QRB__GRID_CLIPS] = { 0 };
        double singles[QRB__GRID_CLIPS] = { 0 };
        double lo;
        double hi;

        qrb__grid_range_f64(w, MANY, &lo, &hi);
        qrb__grid_clip_errors_f64(&grid, w, MANY, lo, hi, errors);
        ck_assert_double_le(errors[qrb__grid_best_clip(errors)], errors[0]);
        qrb__grid_clip_errors_f32(&grid, single, MANY, (float)lo, (float)hi,
                                  singles);
        for (size_t k = 0; k < QRB__GRID_CLIPS; k++)
            ck_assert_double_eq_tol(singles[k], errors[k],
                                    0.05 * (1 + errors[k]));
    }
}
END_TEST

START_TEST(the_range_is_that_of_every_length)
{
    double w[MANY];
    float single[MANY];

    fill(3, MANY, w);
    for (size_t i = 0; i < MANY; i++)
        single[i] = (float)w[i];
    for (size_t n = 1; n <= MANY; n++) {
        double lo = INFINITY;
        double hi = -INFINITY;
        double low;
        double high;
        float single_low;
        float single_high;

        for (size_t i = 0; i < n; i++) {
            lo = fmin(lo, w[i]);
            hi = fmax(hi, w[i]);
        }
        qrb__grid_range_f64(w, n, &low, &high);
        ck_assert(low == lo && high == hi);
        qrb__grid_range_f32(single, n, &single_low, &single_high);
        ck_assert(single_low == (float)lo && single_high == (float)hi);
    }
}
END_TEST

/* Quantizers 1.5: |w - w^| <= h / 2 within the range of a grid that holds it;
 * codes in range; values idempotent; zero exact where the range holds it. */
static void assert_invariants(const struct qrb__grid *grid, const double *w,
                              size_t n)
{
    const struct qrb__grid_scale scale = qrb__grid_fit_f64(grid, w, n);
    const int32_t half = 1 << (grid->bits - 1);
    const bool full = grid->mode == QRB_GRID_A_PAPER ||
                      grid->mode == QRB_GRID_A_GPTQ ||
                      grid->mode == QRB_GRID_A_MAX;
    const bool is_signed = grid->mode == QRB_GRID_S_ABS ||
                           grid->mode == QRB_GRID_S_SMOOTH ||
                           grid->mode == QRB_GRID_S_ACT;
    const double zero = 0;
    int32_t codes[MANY];
    int32_t again[MANY];
    double values[MANY];
    double zero_value;

    qrb__grid_encode_f64(grid, &scale, w, n, codes);
    qrb__grid_decode_f64(&scale, codes, n, values);
    qrb__grid_encode_f64(grid, &scale, values, n, again);
    for (size_t i = 0; i < n; i++) {
        ck_assert_int_ge(codes[i], is_signed ? -half : 0);
        ck_assert_int_lt(codes[i], is_signed ? half : 2 * half);
        ck_assert_int_eq(codes[i], again[i]);
        if (full)
            ck_assert_double_le(fabs(w[i] - values[i]),
                                scale.scale / 2 * (1 + 1e-6));
    }
    qrb__grid_encode_f64(grid, &scale, &zero, 1, again);
    qrb__grid_decode_f64(&scale, again, 1, &zero_value);
    if (grid->mode != QRB_GRID_A_SPQR)
        ck_assert_double_eq(zero_value, 0);
}

START_TEST(codes_and_values_keep_their_promises_in_every_mode)
{
    double w[MANY];

    for (uint32_t seed = 1; seed <= 20; seed++) {
        const size_t n = 5 + 4 * seed;

        fill(seed, MANY, w);
        w[0] = -0.4; /* the range holds zero */
        w[1] = 0.3;
        for (uint32_t mode = 1; mode <= MODES; mode++)
            for (uint32_t bits = 2; bits <= 8; bits++) {
                const struct qrb__grid grid = grid_of(mode, bits);

                assert_invariants(&grid, w, n);
            }
    }
}
END_TEST

START_TEST(scaling_by_a_power_of_two_keeps_codes_and_zero_points)
{
    double w[MANY];
    double scaled[MANY];

    fill(11, MANY, w);
    for (size_t i = 0; i < MANY; i++)
        scaled[i] = 8 * w[i];
    for (uint32_t mode = 1; mode <= MODES; mode++) {
        const struct qrb__grid grid = grid_of(mode, 4);
        const struct qrb__grid_scale a = qrb__grid_fit_f64(&grid, w, MANY);
        const struct qrb__grid_scale b =
            qrb__grid_fit_f64(&grid, scaled, MANY);
        int32_t codes[MANY];
        int32_t scaled_codes[MANY];

        ck_assert_double_eq(b.scale, 8 * a.scale);
        ck_assert_double_eq(b.zero_point, a.zero_point);
        qrb__grid_encode_f64(&grid, &a, w, MANY, codes);
        qrb__grid_encode_f64(&grid, &b, scaled, MANY, scaled_codes);
        ck_assert_mem_eq(codes, scaled_codes, sizeof codes);
    }
}
END_TEST

START_TEST(the_order_of_a_unit_does_not_matter)
{
    double w[MANY];
    double reversed[MANY];

    fill(13, MANY, w);
    for (size_t i = 0; i < MANY; i++)
        reversed[i] = w[MANY - 1 - i];
    for (uint32_t mode = 1; mode <= MODES; mode++) {
        const struct qrb__grid grid = grid_of(mode, 3);
        const struct qrb__grid_scale a = qrb__grid_fit_f64(&grid, w, MANY);
        const struct qrb__grid_scale b =
            qrb__grid_fit_f64(&grid, reversed, MANY);

        ck_assert_double_eq(a.scale, b.scale);
        ck_assert_double_eq(a.zero_point, b.zero_point);
    }
}
END_TEST

/* Units of widths down to nothing, one weight of each. */
START_TEST(a_column_of_units_codes_as_each_of_them)
{
    double units[MANY];
    double scales[MANY];
    double zero_points[MANY];
    double w[MANY];
    double values[MANY];
    float scales_f32[MANY];
    float zero_points_f32[MANY];
    float w_f32[MANY];
    int32_t codes[MANY];
    int32_t codes_f32[MANY];

    fill(9, MANY, w);
    for (uint32_t mode = 1; mode <= MODES; mode++) {
        const struct qrb__grid grid = grid_of(mode, 2 + mode % 5);

        for (size_t i = 0; i < MANY; i++) {
            struct qrb__grid_scale scale;

            fill((uint32_t)i, 5, units);
            for (size_t k = 0; k < 5; k++)
                units[k] *= pow(10, -(double)(i % 12));
            scale = qrb__grid_fit_f64(&grid, units, 5);
            scales_f32[i] = (float)scale.scale;
            zero_points_f32[i] = (float)scale.zero_point;
            w_f32[i] = (float)w[i];
            scales[i] = scale.scale;
            zero_points[i] = scale.zero_point;
        }
        memcpy(values, w, sizeof values); /* in place */
        qrb__grid_code_each_f64(&grid, scales, zero_points, values, MANY,
                                codes, values);
        qrb__grid_code_each_f32(&grid, scales_f32, zero_points_f32, w_f32,
                                MANY, codes_f32, w_f32);
        for (size_t i = 0; i < MANY; i++) {
            const struct qrb__grid_scale scale = { scales[i], zero_points[i] };
            const struct qrb__grid_scale scale_f32 = { scales_f32[i],
                                                       zero_points_f32[i] };
            const float single = (float)w[i];
            int32_t code;
            double value;
            float value_f32;

            qrb__grid_encode_f64(&grid, &scale, &w[i], 1, &code);
            qrb__grid_decode_f64(&scale, &code, 1, &value);
            ck_assert_int_eq(codes[i], code);
            ck_assert_double_eq(values[i], value);
            qrb__grid_encode_f32(&grid, &scale_f32, &single, 1, &code);
            qrb__grid_decode_f32(&scale_f32, &code, 1, &value_f32);
            ck_assert_int_eq(codes_f32[i], code);
            ck_assert_float_eq(w_f32[i], value_f32);
        }
    }
}
END_TEST

/* Extremes of both types: nothing but finite scales and values comes out, the
 * scale is positive, and codes stay in the range of an int32. */
START_TEST(finite_weights_never_make_anything_else)
{
    static const double extremes[][3] = {
        { 0, 0, 0 },
        { 5, 5, 5 },
        { -5, -5, -5 },
        { 3e38, 3e38, 3e38 },
        { -3e38, -3e38, -3e38 },
        { -3.4e38, 3.4e38, 1 },
        { -3.4e38, 1.7e38, -1e38 },
        { DBL_MAX, DBL_MAX, DBL_MAX },
        { -DBL_MAX, DBL_MAX, 0 },
        { DBL_MAX, 1, -1 },
        { -DBL_MAX, DBL_MAX / 2, 1 },
        { 5e-324, 0, 0 },
        { -5e-324, 5e-324, 0 },
        { 1.5e-323, -5e-324, 5e-324 },
        { 1e-45, 0, -1e-45 },
        { 1, 1 + DBL_EPSILON, 1 },
        { 1, 1 + FLT_EPSILON, 1 },
        { 1e30, 1.0000001e30, 1e30 },
        { -1e-30, 1e30, 1 },
    };

    for (size_t i = 0; i < sizeof extremes / sizeof *extremes; i++)
        for (uint32_t mode = 1; mode <= MODES; mode++)
            for (uint32_t bits = 2; bits <= 8; bits += 3)
                for (int variant = 0; variant < 4; variant++) {
                    const bool search =
                        (variant & 1) != 0 && mode != QRB_GRID_S_SMOOTH;
                    const struct qrb__grid grid = { mode, bits,
                                                    (variant & 2) != 0,
                                                    search, false };
                    const double *w = extremes[i];
                    struct qrb__grid_scale scale =
                        qrb__grid_fit_f64(&grid, w, 3);
                    int32_t codes[3];
                    double values[3];
                    float single[3];
                    float single_values[3];

                    ck_assert(scale.scale > 0 && isfinite(scale.scale));
                    ck_assert(isfinite(scale.zero_point));
                    qrb__grid_encode_f64(&grid, &scale, w, 3, codes);
                    qrb__grid_decode_f64(&scale, codes, 3, values);
                    for (size_t k = 0; k < 3; k++)
                        ck_assert(isfinite(values[k]));
                    for (size_t k = 0; k < 3; k++)
                        single[k] =
                            (float)fmax(fmin(w[k], FLT_MAX), -FLT_MAX);
                    scale = qrb__grid_fit_f32(&grid, single, 3);
                    ck_assert(scale.scale > 0 && isfinite(scale.scale));
                    ck_assert(isfinite(scale.zero_point));
                    qrb__grid_encode_f32(&grid, &scale, single, 3, codes);
                    qrb__grid_decode_f32(&scale, codes, 3, single_values);
                    for (size_t k = 0; k < 3; k++)
                        ck_assert(isfinite(single_values[k]));
                }
}
END_TEST

START_TEST(rounding_is_half_to_even)
{
    const struct qrb__grid grid = grid_of(QRB_GRID_S_SMOOTH, 8);
    const struct qrb__grid_scale one = { 1, 0 };
    const double w[] = { 0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.49999999999999994,
                         126.5, -127.5, 1048575.5 };
    const int32_t expected[] = { 0, 2, 2, 0, -2, -2, 0, 126, -128, 1048576 };
    int32_t codes[10];
    float single[10];

    qrb__grid_encode_f64(&grid, &one, w, 10, codes);
    ck_assert_mem_eq(codes, expected, sizeof codes);
    for (size_t i = 0; i < 10; i++)
        single[i] = i == 6 ? 0.49999997f : (float)w[i];
    qrb__grid_encode_f32(&grid, &one, single, 10, codes);
    ck_assert_mem_eq(codes, expected, sizeof codes);
    /* From here on a number is an integer, and stays what it is. */
    ck_assert_double_eq(qrb__round_even_f64(0x1p52 + 1), 0x1p52 + 1);
    ck_assert_double_eq(qrb__round_even_f64(-0x1p53 - 2), -0x1p53 - 2);
    ck_assert_double_eq(qrb__round_even_f64(-INFINITY), -INFINITY);
    ck_assert_float_eq(qrb__round_even_f32(0x1p23f + 1), 0x1p23f + 1);
    ck_assert_float_eq(qrb__round_even_f32(-0x1p24f - 2), -0x1p24f - 2);
    ck_assert_float_eq(qrb__round_even_f32(INFINITY), INFINITY);
}
END_TEST

START_TEST(bits_of_a_zero_point_follow_the_mode)
{
    static const uint32_t expected[MODES] = { 16, 4, 4, 16, 16, 16,
                                              16, 0, 0, 0,  0,  0 };

    for (uint32_t mode = 1; mode <= MODES; mode++) {
        const struct qrb__grid grid = grid_of(mode, 4);

        ck_assert_uint_eq(qrb__grid_zero_point_bits(&grid),
                          expected[mode - 1]);
        ck_assert(qrb__grid_mode_is_known(mode));
    }
    ck_assert(!qrb__grid_mode_is_known(0));
    ck_assert(!qrb__grid_mode_is_known(MODES + 1));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("grid");
    TCase *numbers = tcase_create("numbers");
    TCase *contracts = tcase_create("contracts");

    tcase_add_test(numbers,
                   three_bits_of_six_weights_are_those_of_the_specification);
    tcase_add_test(numbers, float32_takes_the_tie_that_double_misses);
    tcase_add_test(numbers, a_paper_and_a_max_part_at_ties_of_float32);
    tcase_add_test(numbers, official_quirks_are_kept_where_they_are_the_mode);
    tcase_add_test(numbers, degenerate_rows_come_out_as_ruled);
    tcase_add_test(numbers, a_constant_unit_of_a_spqr_takes_the_unit_range);
    tcase_add_test(
        numbers, omniquant_keeps_scales_and_zero_points_within_its_limits);
    tcase_add_test(numbers, a_clipped_token_is_that_of_the_specification);
    tcase_add_test(numbers, the_clip_search_finds_the_published_ranges);
    tcase_add_test(contracts, the_first_of_equal_errors_is_the_best);
    tcase_add_test(contracts, the_clip_search_never_raises_its_error);
    tcase_add_test(contracts, the_range_is_that_of_every_length);
    tcase_add_test(contracts,
                   codes_and_values_keep_their_promises_in_every_mode);
    tcase_add_test(contracts,
                   scaling_by_a_power_of_two_keeps_codes_and_zero_points);
    tcase_add_test(contracts, the_order_of_a_unit_does_not_matter);
    tcase_add_test(contracts, a_column_of_units_codes_as_each_of_them);
    tcase_add_test(contracts, finite_weights_never_make_anything_else);
    tcase_add_test(contracts, rounding_is_half_to_even);
    tcase_add_test(contracts, bits_of_a_zero_point_follow_the_mode);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, contracts);
    return run_suite(suite);
}
