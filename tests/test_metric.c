/* Metrics on arrays: the numeric cases of the specification, counts of
 * windows, and what must not change a bit. */
#include <fenv.h>
#include <math.h>

#include "harness.h"

#include <qrobust/metric.h>

enum { ROWS = 40, VOCAB = 37 };

static void fill(uint32_t seed, size_t n, double scale, float *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = (float)(scale * (seed / 4294967296.0 - 0.5));
    }
}

static qrb_metric_result result_of(qrb_context *ctx, const qrb_metric *metric)
{
    qrb_metric_result result = { .struct_size = sizeof result };

    ASSERT_OK(ctx, qrb_metric_get(metric, &result));
    return result;
}

/* Methods G6.3. */
static const float golden_base[8] = { 2, 1, 0, -1, .5f, .4f, .3f, .2f };
static const float golden_logits[8] = { 1.5f, 1.2f, .1f, -1.3f,
                                        .2f,  .6f,  .3f, .1f };
static const int32_t golden_targets[2] = { 0, 2 };

/* float32 logits: the golden numbers are those of their decimal values, which
 * are up to 3e-8 away. */
#define GOLDEN_TOLERANCE 6e-8

START_TEST(two_rows_come_to_the_golden_numbers)
{
    qrb_context *ctx = make_context(NULL);
    qrb_metric *metric;
    qrb_metric_result r;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         golden_targets, 2, 4));
    r = result_of(ctx, metric);
    ck_assert_uint_eq(r.scored, 2);
    ck_assert_uint_eq(r.pairs, 2);
    ck_assert_double_eq_tol(r.kl_max, .0522677020, GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.kl_min, .0176918504, GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.kl_mean, .0349797762, GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.kl_median, .0349797762, GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(exp(r.base_nll), 2.5634720625,
                            4 * GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.nll, (.7169736851 + 1.4044846547) / 2,
                            GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.perplexity, 2.8884764116, 4 * GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.log_ratio, log(2.8884764116 / 2.5634720625),
                            GOLDEN_TOLERANCE);
    ck_assert_double_eq(r.top1_agreement, .5);
    ck_assert_double_eq_tol(r.delta_p_mean, (-.1556867071 + .0091657555) / 2,
                            GOLDEN_TOLERANCE);
    ck_assert_double_eq_tol(r.delta_p_rms, .1102777445, GOLDEN_TOLERANCE);
    ck_assert_double_eq(r.kl_stderr, 0); /* too few to say */
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(likelihoods_and_logits_add_up_to_the_same)
{
    qrb_context *ctx = make_context(NULL);
    const float nll[2] = { .7169736851f, 1.4044846547f };
    qrb_metric *metric;
    qrb_metric_result r;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx, qrb_metric_add_nll(metric, nll, 2));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, NULL, golden_logits,
                                         golden_targets, 2, 4));
    r = result_of(ctx, metric);
    ck_assert_uint_eq(r.scored, 4);
    ck_assert_uint_eq(r.pairs, 0);
    ck_assert_double_eq_tol(r.perplexity, 2.8884764116, 1e-6);
    ck_assert_double_nan(r.kl_mean);
    ck_assert_double_nan(r.top1_agreement);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_was_not_measured_is_not_a_number)
{
    qrb_context *ctx = make_context(NULL);
    const int32_t none[2] = { -1, -1 };
    qrb_metric *metric;
    qrb_metric_result r;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    r = result_of(ctx, metric);
    ck_assert_uint_eq(r.scored, 0);
    ck_assert_double_nan(r.nll);
    ck_assert_double_nan(r.perplexity);
    ck_assert_double_nan(r.kl_mean);
    ck_assert_double_nan(r.kl_stderr);
    ck_assert_double_nan(r.kl_median);
    ck_assert_double_nan(r.kl_p99);
    ck_assert_double_nan(r.kl_p1);
    ck_assert_double_nan(r.delta_p_rms);
    ck_assert_double_nan(r.log_ratio_stderr);
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         none, 2, 4));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         NULL, 2, 4));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, NULL, golden_logits, NULL, 2,
                                         4));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         NULL, 0, 4));
    r = result_of(ctx, metric);
    ck_assert_uint_eq(r.scored, 0);
    ck_assert_uint_eq(r.pairs, 4);
    ck_assert_double_nan(r.nll);
    ck_assert_double_nan(r.delta_p_mean);
    ck_assert_double_eq_tol(r.kl_mean, .0349797762, GOLDEN_TOLERANCE);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(equal_logits_diverge_by_exactly_nothing)
{
    qrb_context *ctx = make_context(NULL);
    float base[VOCAB];
    float shifted[VOCAB];
    qrb_metric *metric;
    qrb_metric_result r;

    fill(1, VOCAB, 20, base);
    for (size_t i = 0; i < VOCAB; i++) {
        base[i] = roundf(base[i] * 16) / 16; /* so that the shift is exact */
        shifted[i] = base[i] + 64;
    }
    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx,
              qrb_metric_add_logits(metric, base, base, NULL, 1, VOCAB));
    ASSERT_OK(ctx,
              qrb_metric_add_logits(metric, base, shifted, NULL, 1, VOCAB));
    r = result_of(ctx, metric);
    ck_assert_double_eq(r.kl_max, 0);
    ck_assert_double_eq(r.top1_agreement, 1);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

/* KL of a small step is its second order: sum p d^2 / 2 - (sum p d)^2 / 2. */
START_TEST(small_divergences_keep_their_digits)
{
    qrb_context *ctx = make_context(NULL);
    float base[VOCAB];
    float logits[VOCAB];
    double sum = 0;
    double first = 0;
    double second = 0;
    qrb_metric *metric;
    qrb_metric_result r;

    fill(2, VOCAB, 4, base);
    for (size_t i = 0; i < VOCAB; i++) {
        const float step = (float)i * 0x1p-22f;
        double e;

        base[i] = roundf(base[i] * 16) / 16;
        logits[i] = base[i] + step; /* exact: 16 + 22 bits below 4 */
        e = exp(base[i]);
        sum += e;
        first += e * ((double)logits[i] - base[i]);
        second += e * ((double)logits[i] - base[i]) *
                  ((double)logits[i] - base[i]);
    }
    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx,
              qrb_metric_add_logits(metric, base, logits, NULL, 1, VOCAB));
    r = result_of(ctx, metric);
    first /= sum;
    second /= sum;
    ck_assert_double_gt(r.kl_mean, 0);
    ck_assert_double_lt(r.kl_mean, 1e-10);
    /* third order: d^3, d up to 1e-5 */
    ck_assert_double_eq_tol(r.kl_mean / ((second - first * first) / 2), 1,
                            3e-5);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_divergence_is_never_negative_and_extremes_stay_finite)
{
    qrb_context *ctx = make_context(NULL);
    float base[ROWS * 8];
    float logits[ROWS * 8];
    qrb_metric *metric;
    qrb_metric_result r;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    for (uint32_t seed = 1; seed < 50; seed++) {
        fill(seed, ROWS * 8, exp2(seed % 12), base);
        fill(seed + 100, ROWS * 8, exp2(seed % 9), logits);
        ASSERT_OK(ctx, qrb_metric_add_logits(metric, base, logits, NULL, ROWS,
                                             8));
    }
    memset(base, 0, sizeof base);
    base[0] = 3e38f;
    base[1] = -3e38f;
    logits[0] = -3e38f;
    logits[1] = 3e38f;
    ASSERT_OK(ctx,
              qrb_metric_add_logits(metric, base, logits, NULL, 1, 2));
    r = result_of(ctx, metric);
    ck_assert_double_ge(r.kl_min, 0);
    ck_assert(isfinite(r.kl_max));
    ck_assert_double_gt(r.kl_max, 1e38);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_first_of_equal_logits_is_the_top)
{
    qrb_context *ctx = make_context(NULL);
    const float base[3] = { 1, 1, 0 };
    const float later[3] = { 0, 1, 1 };
    const float first[3] = { 1, 0, 1 };
    qrb_metric *metric;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, base, later, NULL, 1, 3));
    ck_assert_double_eq(result_of(ctx, metric).top1_agreement, 0);
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, base, first, NULL, 1, 3));
    ck_assert_double_eq(result_of(ctx, metric).top1_agreement, .5);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

/* Rows [k, 0] against [0, 0]: the divergence grows with k, so that the order
 * is known; the errors are those of the definition. */
START_TEST(percentiles_and_errors_are_those_of_the_definition)
{
    qrb_context *ctx = make_context(NULL);
    const float base[2] = { 0, 0 };
    double kl[101];
    double mean = 0;
    double square = 0;
    qrb_metric *metric;
    qrb_metric_result r;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    for (size_t i = 0; i <= 100; i++) {
        const size_t k = i * 37 % 101; /* each once, out of order */
        const float logits[2] = { (float)k / 8, 0 };
        const int32_t target = 1;

        ASSERT_OK(ctx, qrb_metric_add_logits(metric, base, logits, &target, 1,
                                             2));
        kl[k] = log((1 + exp(k / 8.0)) / 2) - k / 16.0;
        mean += kl[k] / 101;
        square += kl[k] * kl[k] / 101;
    }
    r = result_of(ctx, metric);
    ck_assert_double_eq_tol(r.kl_min, 0, 1e-15);
    ck_assert_double_eq_tol(r.kl_max, kl[100], 1e-13);
    ck_assert_double_eq_tol(r.kl_median, kl[50], 1e-13);
    ck_assert_double_eq_tol(r.kl_p99, kl[99], 1e-13);
    ck_assert_double_eq_tol(r.kl_p999, .1 * kl[99] + .9 * kl[100], 1e-13);
    ck_assert_double_eq_tol(r.kl_p10, kl[10], 1e-13);
    ck_assert_double_eq_tol(r.kl_p5, kl[5], 1e-13);
    ck_assert_double_eq_tol(r.kl_p1, kl[1], 1e-13);
    ck_assert_double_eq_tol(r.kl_mean, mean, 1e-13);
    ck_assert_double_eq_tol(r.kl_stderr, sqrt((square - mean * mean) / 100),
                            1e-12);
    ck_assert_double_eq(r.top1_agreement, 1); /* 0 wins each tie */
    ck_assert_double_eq(r.top1_stderr, 0);
    /* ln(1 + e^(k/8)) - ln 2 has a spread, and the base has none. */
    ck_assert_double_gt(r.log_ratio_stderr, 0);
    ck_assert_double_eq_tol(r.base_nll, log(2), 1e-13);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_metric_result measure(size_t threads, size_t batch, int rounding)
{
    static float base[ROWS * VOCAB];
    static float logits[ROWS * VOCAB];
    int32_t targets[ROWS];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_metric *metric;
    qrb_metric_result r;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    fill(5, ROWS * VOCAB, 8, base);
    fill(6, ROWS * VOCAB, 8, logits);
    for (int32_t i = 0; i < ROWS; i++)
        targets[i] = i % 7 == 0 ? -1 : i % VOCAB;
    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    fesetround(rounding);
    for (size_t r0 = 0; r0 < ROWS; r0 += batch) {
        const size_t n = ROWS - r0 < batch ? ROWS - r0 : batch;

        ASSERT_OK(ctx, qrb_metric_add_logits(metric, base + r0 * VOCAB,
                                             logits + r0 * VOCAB,
                                             targets + r0, n, VOCAB));
    }
    r = result_of(ctx, metric);
    ck_assert_int_eq(fegetround(), rounding);
    fesetround(FE_TONEAREST);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
    return r;
}

START_TEST(threads_batches_and_rounding_modes_change_no_bit)
{
    const qrb_metric_result expected = measure(1, ROWS, FE_TONEAREST);
    const qrb_metric_result threads = measure(3, ROWS, FE_TONEAREST);
    const qrb_metric_result batches = measure(2, 7, FE_TONEAREST);
    const qrb_metric_result upward = measure(2, 9, FE_UPWARD);

    ck_assert_mem_eq(&threads, &expected, sizeof expected);
    ck_assert_mem_eq(&batches, &expected, sizeof expected);
    ck_assert_mem_eq(&upward, &expected, sizeof expected);
}
END_TEST

START_TEST(broken_rows_are_refused_and_leave_the_measurement_alone)
{
    qrb_context *ctx = make_context(NULL);
    float bad[8];
    const float bad_nll[3] = { 1, 2, INFINITY };
    const int32_t outside[2] = { 0, 4 };
    const int32_t below[2] = { -2, 0 };
    qrb_metric_result before;
    qrb_metric_result after;
    qrb_metric *metric;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         golden_targets, 2, 4));
    before = result_of(ctx, metric);
    memcpy(bad, golden_base, sizeof bad);
    bad[6] = NAN;
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, golden_base, bad,
                                       golden_targets, 2, 4),
                 QRB_E_NOT_FINITE, "logits[1, 2]");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, bad, golden_logits,
                                       golden_targets, 2, 4),
                 QRB_E_NOT_FINITE, "base[1, 2]");
    bad[6] = -INFINITY;
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, bad, golden_logits, NULL, 2, 4),
                 QRB_E_NOT_FINITE, "base[1, 2]");
    ASSERT_FAILS(ctx, qrb_metric_add_nll(metric, bad_nll, 3),
                 QRB_E_NOT_FINITE, "nll[2]");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, golden_base, golden_logits,
                                       outside, 2, 4),
                 QRB_E_INVALID_ARG, "targets[1] is 4");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, golden_base, golden_logits,
                                       below, 2, 4),
                 QRB_E_INVALID_ARG, "targets[0] is -2");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, NULL, NULL, below, 2, 4),
                 QRB_E_INVALID_ARG, "logits is NULL");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, NULL, golden_logits, NULL, 2,
                                       0),
                 QRB_E_SHAPE, "[2, 0]");
    ASSERT_FAILS(ctx,
                 qrb_metric_add_logits(metric, NULL, golden_logits, NULL,
                                       SIZE_MAX, 4),
                 QRB_E_SHAPE, "logits are");
    ASSERT_FAILS(ctx, qrb_metric_add_nll(metric, NULL, 3), QRB_E_INVALID_ARG,
                 "nll is NULL");
    after = result_of(ctx, metric);
    ck_assert_mem_eq(&after, &before, sizeof before);
    after.struct_size = 3;
    ASSERT_FAILS(ctx, qrb_metric_get(metric, &after), QRB_E_INVALID_ARG,
                 "metric result");
    ck_assert_int_eq(qrb_metric_get(metric, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_metric_get(NULL, &after), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_metric_add_nll(NULL, bad_nll, 1), QRB_E_INVALID_ARG);
    ck_assert_int_eq(
        qrb_metric_add_logits(NULL, NULL, golden_logits, NULL, 2, 4),
        QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_metric_create(ctx, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_metric_create(NULL, &metric), QRB_E_INVALID_ARG);
    qrb_metric_destroy(metric);
    qrb_metric_destroy(NULL);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(an_older_caller_gets_the_fields_that_it_knows)
{
    qrb_context *ctx = make_context(NULL);
    struct {
        size_t struct_size;
        uint64_t scored;
        uint64_t pairs;
        double nll;
        double guard;
    } old = { .struct_size = 4 * sizeof(size_t), .guard = 42 };
    qrb_metric *metric;

    ASSERT_OK(ctx, qrb_metric_create(ctx, &metric));
    ASSERT_OK(ctx, qrb_metric_add_logits(metric, golden_base, golden_logits,
                                         golden_targets, 2, 4));
    ASSERT_OK(ctx,
              qrb_metric_get(metric, (qrb_metric_result *)(void *)&old));
    ck_assert_uint_eq(old.pairs, 2);
    ck_assert_double_eq_tol(old.nll, 1.0607291699, GOLDEN_TOLERANCE);
    ck_assert_double_eq(old.guard, 42);
    qrb_metric_destroy(metric);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status measure_all(qrb_context *ctx, void *arg)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_metric *metric = NULL;
    qrb_status status = qrb_metric_create(ctx, &metric);

    (void)arg;
    for (int i = 0; status == QRB_OK && i < 3; i++)
        status = qrb_metric_add_logits(metric, golden_base, golden_logits,
                                       golden_targets, 2, 4);
    if (status == QRB_OK)
        status = qrb_metric_get(metric, &result);
    qrb_metric_destroy(metric);
    return status;
}

START_TEST(a_measurement_survives_each_failed_allocation)
{
    fail_each_allocation(measure_all, NULL);
}
END_TEST

/* Methods 4.6. */
START_TEST(recovery_is_the_way_back_in_percent)
{
    ck_assert_double_eq_tol(qrb_recovery(10.80, 16.41, 12.81), 64.17, 5e-3);
    ck_assert_double_eq_tol(qrb_recovery(11.82, 18.94, 13.60), 75.0, 5e-2);
    ck_assert_double_eq_tol(qrb_recovery(13.00, 17.14, 13.88), 78.74, 5e-3);
    ck_assert_double_eq(qrb_recovery(1, 3, 4), -50);
    ck_assert_double_nan(qrb_recovery(10, 10, 9));
    ck_assert_double_nan(qrb_recovery(10, 9, 9));
    ck_assert_double_nan(qrb_recovery(NAN, 9, 9));
    ck_assert_double_nan(qrb_recovery(8, NAN, 9));
    ck_assert_double_nan(qrb_recovery(8, 9, NAN));
}
END_TEST

/* Methods G4.5. */
START_TEST(prompt_statistics_are_the_golden_ones)
{
    const double clean[5] = { 10, 12, NAN, 9, 20 };
    const double defended[5] = { 10.5, 12.5, NAN, 9.2, 22 };
    const double attacked[5] = { 12, 12.2, NAN, 11, 30 };
    qrb_prompt_result r = { .struct_size = sizeof r };
    double logs[2] = { 0, 0 };

    ck_assert_int_eq(qrb_prompt_statistics(clean, defended, attacked, 5, &r),
                     QRB_OK);
    ck_assert_uint_eq(r.prompts, 4);
    ck_assert_double_eq(r.strict_ordering, .75);
    ck_assert_double_eq(r.defended_below, .75);
    ck_assert_double_eq_tol(r.defended_variance, 33.5766667, 5e-8);
    ck_assert_double_eq_tol(r.attacked_variance, 83.6933333, 5e-8);
    ck_assert_double_eq_tol(r.variance_reduction, 59.8813127, 5e-8);
    for (int which = 0; which < 2; which++) {
        const double *x = which == 0 ? defended : attacked;
        double mean = 0;

        for (size_t i = 0; i < 5; i++)
            mean += i == 2 ? 0 : log(x[i]) / 4;
        for (size_t i = 0; i < 5; i++)
            logs[which] +=
                i == 2 ? 0 : (log(x[i]) - mean) * (log(x[i]) - mean) / 3;
    }
    ck_assert_double_eq_tol(r.log_variance_reduction,
                            100 * (1 - logs[0] / logs[1]), 1e-9);
}
END_TEST

START_TEST(orderings_are_strict)
{
    const double clean[4] = { 1, 2, 3, 4 };
    const double defended[4] = { 1, 3, 5, 5 };
    const double attacked[4] = { 2, 3, 4, 6 };
    qrb_prompt_result r = { .struct_size = sizeof r };

    /* as clean, as attacked, above attacked, between */
    ck_assert_int_eq(qrb_prompt_statistics(clean, defended, attacked, 4, &r),
                     QRB_OK);
    ck_assert_double_eq(r.strict_ordering, .25);
    ck_assert_double_eq(r.defended_below, .5);
}
END_TEST

START_TEST(prompts_that_make_no_sense_are_refused)
{
    const double fine[2] = { 2, 3 };
    const double zero[2] = { 2, 0 };
    const double infinite[2] = { 2, INFINITY };
    const double missing[2] = { 2, NAN };
    qrb_prompt_result r = { .struct_size = sizeof r, .prompts = 42 };

    ck_assert_int_eq(qrb_prompt_statistics(fine, zero, fine, 2, &r),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_prompt_statistics(fine, infinite, fine, 2, &r),
                     QRB_E_NOT_FINITE);
    ck_assert_int_eq(qrb_prompt_statistics(fine, missing, fine, 2, &r),
                     QRB_E_NOT_FINITE);
    ck_assert_int_eq(qrb_prompt_statistics(NULL, fine, fine, 2, &r),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_prompt_statistics(fine, NULL, fine, 2, &r),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_prompt_statistics(fine, fine, NULL, 2, &r),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_prompt_statistics(fine, fine, fine, 2, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_uint_eq(r.prompts, 42);
    r.struct_size = 0;
    ck_assert_int_eq(qrb_prompt_statistics(fine, fine, fine, 2, &r),
                     QRB_E_INVALID_ARG);
}
END_TEST

START_TEST(too_few_prompts_have_no_variance)
{
    const double one[1] = { 2 };
    const double same[2] = { 3, 3 };
    qrb_prompt_result r = { .struct_size = sizeof r };

    ck_assert_int_eq(qrb_prompt_statistics(one, one, one, 0, &r), QRB_OK);
    ck_assert_uint_eq(r.prompts, 0);
    ck_assert_double_nan(r.strict_ordering);
    ck_assert_double_nan(r.defended_below);
    ck_assert_double_nan(r.variance_reduction);
    ck_assert_int_eq(qrb_prompt_statistics(one, one, one, 1, &r), QRB_OK);
    ck_assert_double_eq(r.defended_below, 0);
    ck_assert_double_nan(r.variance_reduction);
    ck_assert_int_eq(qrb_prompt_statistics(same, same, same, 2, &r), QRB_OK);
    ck_assert_double_eq(r.attacked_variance, 0);
    ck_assert_double_nan(r.variance_reduction);
}
END_TEST

static void assert_windows(uint32_t mode, size_t count, size_t context,
                           size_t stride, const qrb_window *expected,
                           size_t windows)
{
    qrb_window window = { 7, 7, 7 };

    for (size_t i = 0; i < windows; i++) {
        ck_assert_int_eq(
            qrb_window_at(mode, count, context, stride, i, &window), QRB_OK);
        ck_assert_uint_eq(window.begin, expected[i].begin);
        ck_assert_uint_eq(window.end, expected[i].end);
        ck_assert_uint_eq(window.first_scored, expected[i].first_scored);
    }
    window.begin = 7;
    ck_assert_int_eq(
        qrb_window_at(mode, count, context, stride, windows, &window),
        QRB_E_STATE);
    ck_assert_uint_eq(window.begin, 7);
}

/* Methods G4.4: new targets are end - first_scored. */
START_TEST(sliding_windows_are_the_golden_ones)
{
    const qrb_window ten[] = {
        { 0, 4, 1 }, { 2, 6, 4 }, { 4, 8, 6 }, { 6, 10, 8 }
    };
    const qrb_window eleven[] = { { 0, 4, 1 },
                                  { 2, 6, 4 },
                                  { 4, 8, 6 },
                                  { 6, 10, 8 },
                                  { 8, 11, 10 } };
    const qrb_window large[] = { { 0, 2048, 1 },
                                 { 512, 2560, 2048 },
                                 { 1024, 3000, 2560 } };
    const qrb_window over[] = { { 0, 2048, 1 }, { 512, 2049, 2048 } };
    const qrb_window one[] = { { 0, 1, 1 } };
    const qrb_window exact[] = { { 0, 4, 1 } };

    assert_windows(QRB_WINDOW_SLIDING, 10, 4, 2, ten, 4);
    assert_windows(QRB_WINDOW_SLIDING, 11, 4, 2, eleven, 5);
    assert_windows(QRB_WINDOW_SLIDING, 3000, 2048, 512, large, 3);
    assert_windows(QRB_WINDOW_SLIDING, 2049, 2048, 512, over, 2);
    assert_windows(QRB_WINDOW_SLIDING, 1, 4, 2, one, 1);
    assert_windows(QRB_WINDOW_SLIDING, 4, 4, 3, exact, 1);
    assert_windows(QRB_WINDOW_SLIDING, 0, 4, 3, NULL, 0);
}
END_TEST

START_TEST(blocks_score_the_short_tail_but_its_first_token)
{
    const qrb_window ten[] = { { 0, 4, 1 }, { 4, 8, 5 }, { 8, 10, 9 } };
    const qrb_window nine[] = { { 0, 4, 1 }, { 4, 8, 5 }, { 8, 9, 9 } };
    const qrb_window eight[] = { { 0, 4, 1 }, { 4, 8, 5 } };

    assert_windows(QRB_WINDOW_BLOCKS, 10, 4, 4, ten, 3);
    assert_windows(QRB_WINDOW_BLOCKS, 9, 4, 0, nine, 3);
    assert_windows(QRB_WINDOW_BLOCKS, 8, 4, 4, eight, 2);
    assert_windows(QRB_WINDOW_BLOCKS, 0, 4, 4, NULL, 0);
}
END_TEST

START_TEST(llama_windows_score_the_second_half_and_drop_the_tail)
{
    const qrb_window eight[] = { { 0, 8, 5 }, { 8, 16, 13 } };
    const qrb_window seven[] = { { 0, 7, 4 }, { 7, 14, 11 } };
    const qrb_window two[] = { { 0, 2, 2 } };

    assert_windows(QRB_WINDOW_LLAMACPP, 23, 8, 8, eight, 2);
    assert_windows(QRB_WINDOW_LLAMACPP, 14, 7, 0, seven, 2);
    assert_windows(QRB_WINDOW_LLAMACPP, 2, 2, 2, two, 1);
    assert_windows(QRB_WINDOW_LLAMACPP, 7, 8, 8, NULL, 0);
}
END_TEST

/* Counts of methods 4.6 and 6.3, over every small text. */
START_TEST(windows_score_exactly_the_tokens_that_they_should)
{
    for (size_t count = 1; count < 40; count++)
        for (size_t context = 2; context < 12; context++) {
            qrb_window window;
            size_t blocks = 0;
            size_t scored = 0;

            for (size_t stride = 1; stride < context; stride++) {
                unsigned char seen[40] = { 0 };

                for (size_t i = 0;
                     qrb_window_at(QRB_WINDOW_SLIDING, count, context, stride,
                                   i, &window) == QRB_OK;
                     i++) {
                    ck_assert_uint_gt(window.first_scored, window.begin);
                    ck_assert_uint_le(window.first_scored, window.end);
                    ck_assert_uint_le(window.end - window.begin, context);
                    for (size_t t = window.first_scored; t < window.end; t++)
                        seen[t]++;
                }
                ck_assert_uint_eq(seen[0], 0);
                for (size_t t = 1; t < count; t++)
                    ck_assert_uint_eq(seen[t], 1);
            }
            while (qrb_window_at(QRB_WINDOW_BLOCKS, count, context, 0, blocks,
                                 &window) == QRB_OK) {
                scored += window.end - window.first_scored;
                blocks++;
            }
            ck_assert_uint_eq(scored, count - blocks);
            ck_assert_uint_eq(blocks, (count + context - 1) / context);
            for (size_t i = 0;
                 qrb_window_at(QRB_WINDOW_LLAMACPP, count, context, context, i,
                               &window) == QRB_OK;
                 i++) {
                ck_assert_uint_eq(window.end, (i + 1) * context);
                ck_assert_uint_eq(window.end - window.first_scored,
                                  context - 1 - context / 2);
            }
        }
}
END_TEST

START_TEST(windows_that_make_no_sense_are_refused)
{
    qrb_window window;

    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, 9, 4, 4, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, 9, 4, 0, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, 9, 1, 1, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_BLOCKS, 9, 4, 2, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_LLAMACPP, 9, 4, 2, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(3, 9, 4, 2, 0, &window),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, 9, 4, 2, 0, NULL),
                     QRB_E_INVALID_ARG);
    /* Indices and lengths at the ends of size_t do not wrap around. */
    ck_assert_int_eq(
        qrb_window_at(QRB_WINDOW_SLIDING, 9, 4, 2, SIZE_MAX, &window),
        QRB_E_STATE);
    ck_assert_int_eq(
        qrb_window_at(QRB_WINDOW_BLOCKS, 9, 4, 4, SIZE_MAX, &window),
        QRB_E_STATE);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, 9, SIZE_MAX, 2, 0,
                                   &window),
                     QRB_OK);
    ck_assert_uint_eq(window.end, 9);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, SIZE_MAX, 2, 1,
                                   SIZE_MAX - 2, &window),
                     QRB_OK);
    ck_assert_uint_eq(window.end, SIZE_MAX);
    ck_assert_int_eq(qrb_window_at(QRB_WINDOW_SLIDING, SIZE_MAX, 2, 1,
                                   SIZE_MAX - 1, &window),
                     QRB_E_STATE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("metric");
    TCase *lm = tcase_create("lm");
    TCase *recovery = tcase_create("recovery");
    TCase *window = tcase_create("window");

    tcase_add_test(lm, two_rows_come_to_the_golden_numbers);
    tcase_add_test(lm, likelihoods_and_logits_add_up_to_the_same);
    tcase_add_test(lm, what_was_not_measured_is_not_a_number);
    tcase_add_test(lm, equal_logits_diverge_by_exactly_nothing);
    tcase_add_test(lm, small_divergences_keep_their_digits);
    tcase_add_test(lm,
                   a_divergence_is_never_negative_and_extremes_stay_finite);
    tcase_add_test(lm, the_first_of_equal_logits_is_the_top);
    tcase_add_test(lm, percentiles_and_errors_are_those_of_the_definition);
    tcase_add_test(lm, threads_batches_and_rounding_modes_change_no_bit);
    tcase_add_test(lm,
                   broken_rows_are_refused_and_leave_the_measurement_alone);
    tcase_add_test(lm, an_older_caller_gets_the_fields_that_it_knows);
    tcase_add_test(lm, a_measurement_survives_each_failed_allocation);
    tcase_add_test(recovery, recovery_is_the_way_back_in_percent);
    tcase_add_test(recovery, prompt_statistics_are_the_golden_ones);
    tcase_add_test(recovery, orderings_are_strict);
    tcase_add_test(recovery, prompts_that_make_no_sense_are_refused);
    tcase_add_test(recovery, too_few_prompts_have_no_variance);
    tcase_add_test(window, sliding_windows_are_the_golden_ones);
    tcase_add_test(window, blocks_score_the_short_tail_but_its_first_token);
    tcase_add_test(window,
                   llama_windows_score_the_second_half_and_drop_the_tail);
    tcase_add_test(window,
                   windows_score_exactly_the_tokens_that_they_should);
    tcase_add_test(window, windows_that_make_no_sense_are_refused);
    suite_add_tcase(suite, lm);
    suite_add_tcase(suite, recovery);
    suite_add_tcase(suite, window);
    return run_suite(suite);
}
