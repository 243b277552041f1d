/* Attacks that reach a perplexity ratio. */
#include <math.h>

#include "noise/sigma_fit.h"
#include "recipe_host.h"

/* Methods G4.1. */
START_TEST(fit_of_sigma_gives_the_golden_numbers)
{
    const double sigma[4] = { 0.002, 0.004, 0.006, 0.008 };
    const double log_ratio[4] = { log(1.02), log(1.07), log(1.17), log(1.33) };
    const double target[3] = { log(1.10), log(1.15), log(1.20) };
    const double expected[2][3] = {
        { 0.0046534674, 0.0056261426, 0.0064207938 },
        { 0.0046408176, 0.0056197801, 0.0064186525 },
    };
    const struct qrb__sigma_fit fit = qrb__sigma_fit(sigma, log_ratio, 4);
    const struct qrb__sigma_fit origin =
        qrb__sigma_fit_origin(sigma, log_ratio, 4);

    ck_assert_double_eq_tol(fit.slope, 4445.7447385990, 0.5e-6);
    ck_assert_double_eq_tol(fit.intercept, -0.0009613505, 0.5e-10);
    ck_assert(!fit.through_origin);
    ck_assert_double_eq_tol(origin.slope, 4425.3771442211, 0.5e-6);
    for (int i = 0; i < 3; i++) {
        ck_assert_double_eq_tol(qrb__sigma_fit_solve(&fit, target[i]),
                                expected[0][i], 0.5e-10);
        ck_assert_double_eq_tol(qrb__sigma_fit_solve(&origin, target[i]),
                                expected[1][i], 0.5e-10);
    }
}
END_TEST

START_TEST(fit_that_is_no_line_goes_through_the_origin)
{
    const double sigma[3] = { 1.0, 2.0, 3.0 };
    const double shifted[3] = { 1.1, 4.1, 9.1 };   /* b = 0.1 */
    const double falling[3] = { 0.3, 0.2, 0.1 };   /* a < 0 */
    const double curved[3] = { -0.01, 0.0, 0.16 }; /* R^2 = 0.92 */

    ck_assert(qrb__sigma_fit(sigma, shifted, 3).through_origin);
    ck_assert(qrb__sigma_fit(sigma, falling, 3).through_origin);
    ck_assert(qrb__sigma_fit(sigma, curved, 3).through_origin);
    {
        const double opposite[3] = { -1.0, -4.0, -9.0 };
        const struct qrb__sigma_fit fit = qrb__sigma_fit(sigma, opposite, 3);

        ck_assert_double_eq_tol(fit.slope, -1.0, 1e-12);
        ck_assert(isnan(qrb__sigma_fit_solve(&fit, 1.0)));
    }
}
END_TEST

START_TEST(calibrated_attack_writes_weights_of_the_achieved_ratio)
{
    const double ratios[4] = { 1.05, 1.2, 1.5, 3.0 };
    double clean;

    learn(host);
    mock_copy_weights(host, before);
    clean = perplexity_of(host->model);
    for (uint64_t seed = 0; seed < 2; seed++)
        for (int i = 0; i < 4; i++) {
            qrb_noise *attack =
                bound_attack(host->model, seed == 0 ? QRB_SIGMA_ABSOLUTE
                                                    : QRB_SIGMA_RELATIVE);
            qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
            qrb_calibrate_result result = { .struct_size = sizeof result };
            qrb_snapshot *snapshot = NULL;

            options.ratio = ratios[i];
            options.seed = seed;
            ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                                &options, &result));
            ck_assert(mock_weights_equal(host, before));
            ck_assert_double_eq_tol(result.achieved_ratio / ratios[i], 1.0,
                                    0.01);
            ck_assert_double_gt(result.sigma, 0.0);
            ck_assert_double_gt(result.slope, 0.0);
            ck_assert_uint_ge(result.evaluations, 1 + 1 + 4 * 3 + 3 + 1);
            /* It is left set to what was found. */
            ASSERT_OK(ctx, qrb_snapshot_create(host->model, NULL, &snapshot));
            ASSERT_OK(ctx, qrb_attack_apply(attack));
            ck_assert_double_eq_tol(perplexity_of(host->model) / clean,
                                    result.achieved_ratio, 1e-12);
            ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
            qrb_snapshot_destroy(snapshot);
            qrb_noise_destroy(attack);
        }
}
END_TEST

#define CALIBRATION_REFUSES(expected, words)                                   \
    do {                                                                       \
        ASSERT_FAILS(ctx,                                                      \
                     qrb_attack_calibrate(host->model, attack, text, TEXT,     \
                                          &options, &result),                  \
                     expected, words);                                         \
        options = (qrb_calibrate_options)QRB_CALIBRATE_OPTIONS_INIT;           \
    } while (0)

START_TEST(calibrations_that_make_no_sense_are_refused)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
    struct mock_host *other = adjusted(NULL);
    qrb_noise *anchor = NULL;

    options.ratio = 1.0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "ratio");
    options.ratio = NAN;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "ratio");
    options.tolerance = 0.0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "tolerance");
    options.search_seeds = 0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "search_seeds");
    evaluate.context = 0;
    options.evaluate = &evaluate;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "context");
    result.struct_size = 0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "struct_size");
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(other->model, attack, text, TEXT, NULL, NULL),
        QRB_E_INVALID_ARG, "bound to the model");
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, NULL, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, host->model, NULL));
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(host->model, anchor, text, TEXT, NULL, NULL),
        QRB_E_INVALID_ARG, "no attack");
    ck_assert_int_eq(qrb_attack_calibrate(NULL, attack, text, TEXT, NULL, NULL),
                     QRB_E_INVALID_ARG);
    qrb_noise_destroy(anchor);
    qrb_noise_destroy(attack);
    mock_host_destroy(other);
}
END_TEST

/* Perplexity of the attack as it stands, through a bracket. */
static double perturbed_perplexity(qrb_noise *attack)
{
    double perplexity;

    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    perplexity = perplexity_of(host->model);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    return perplexity;
}

START_TEST(calibration_that_fails_leaves_attack_and_weights_as_they_were)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result,
                                    .sigma = -1.0 };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
    double as_set;

    learn(host);
    mock_copy_weights(host, before);
    as_set = perturbed_perplexity(attack);
    options.tolerance = 1e-14;
    ASSERT_FAILS(ctx,
                 qrb_attack_calibrate(host->model, attack, text, TEXT, &options,
                                      &result),
                 QRB_E_STATE, "not within 1e-12 %");
    ck_assert_double_eq(result.sigma, -1.0);
    ck_assert(mock_weights_equal(host, before));
    ck_assert_double_eq(perturbed_perplexity(attack), as_set);
    qrb_noise_destroy(attack);
}
END_TEST

static double deviation_limit; /* Euclidean, of all weights from `before` */
static size_t lost_calls;

/* Likelihoods of weights that are too far away are not finite. */
static void lose_far_weights(struct mock_host *of, enum mock_callback callback)
{
    float now[MAX_WEIGHTS];
    double squares = 0.0;

    (void)callback;
    mock_copy_weights(of, now);
    for (size_t i = 0; i < mock_weight_count(of); i++)
        squares += pow((double)now[i] - (double)before[i], 2.0);
    of->nan_at = sqrt(squares) > deviation_limit ? of->calls + 1 : 0;
    lost_calls += of->nan_at != 0;
}

/* 66 windows, each of which fails where the noise is a little larger than what
 * is looked for: more in a row than an evaluation puts up with. */
START_TEST(draws_that_cannot_be_scored_are_too_large)
{
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result free_of = { .struct_size = sizeof free_of };
    qrb_calibrate_result found = { .struct_size = sizeof found };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    learn(host);
    mock_copy_weights(host, before);
    evaluate.context = 12;
    evaluate.stride = 6;
    evaluate.batch = 1;
    options.evaluate = &evaluate;
    options.search_seeds = 1;
    ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                        &options, &free_of));
    lost_calls = 0;
    host->inside = lose_far_weights;
    /* fc1 and fc2 are perturbed.  One of the sigmas that double lies above the
     * limit and is the first with a ratio above 1.2, for some of these. */
    for (double factor = 1.05; factor < 1.9; factor += 0.02) {
        options.search_seeds = options.search_seeds == 1 ? 5 : 1;
        deviation_limit =
            factor * free_of.sigma * sqrt(2.0 * MOCK_HIDDEN * MOCK_DIM);
        ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                            &options, &found));
        ck_assert_double_eq_tol(found.achieved_ratio, 1.2, 0.012);
    }
    ck_assert_uint_gt(lost_calls, 0);
    host->inside = NULL;
    ck_assert(mock_weights_equal(host, before));
    qrb_noise_destroy(attack);
}
END_TEST

/* A model that does not look at the attacked weights. */
START_TEST(attack_without_effect_is_reported)
{
    float memory[4] = { 1.0f, 2.0f, 3.0f, 4.0f };
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_model *model = make_bigrams(ctx, true, false);
    qrb_tensor *tensor = matrix(memory, 2, 2);
    qrb_noise *attack;

    parameter.name = "idle";
    parameter.weight = tensor;
    parameter.role = QRB_ROLE_Q;
    ASSERT_OK(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    attack = bound_attack(model, QRB_SIGMA_ABSOLUTE);
    ASSERT_FAILS(ctx,
                 qrb_attack_calibrate(model, attack, eleven, 11, NULL, NULL),
                 QRB_E_STATE, "no sigma up to");
    ck_assert_float_eq(memory[3], 4.0f);
    qrb_noise_destroy(attack);
    qrb_tensor_destroy(tensor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(model_that_cannot_score_its_text_is_not_attacked)
{
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    host->nan_at = host->calls + 2; /* set_mode, then the first batch */
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(host->model, attack, text, TEXT, NULL, NULL),
        QRB_E_NOT_FINITE, "");
    qrb_noise_destroy(attack);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("calibrate");
    TCase *attack = tcase_create("attack");

    tcase_set_timeout(attack, 60);
    tcase_add_checked_fixture(attack, set_up, tear_down);
    tcase_add_test(attack, fit_of_sigma_gives_the_golden_numbers);
    tcase_add_test(attack, fit_that_is_no_line_goes_through_the_origin);
    tcase_add_test(attack,
                   calibrated_attack_writes_weights_of_the_achieved_ratio);
    tcase_add_test(attack, calibrations_that_make_no_sense_are_refused);
    tcase_add_test(
        attack, calibration_that_fails_leaves_attack_and_weights_as_they_were);
    tcase_add_test(attack, draws_that_cannot_be_scored_are_too_large);
    tcase_add_test(attack, attack_without_effect_is_reported);
    tcase_add_test(attack, model_that_cannot_score_its_text_is_not_attacked);
    suite_add_tcase(suite, attack);
    return run_suite(suite);
}
