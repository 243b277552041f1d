/* Repairs towards an anchor, and moves straight to it. */
#include <math.h>

#include "recipe_host.h"

/* A learnt host as the anchor, and a copy of it under attack. */
static struct mock_host *attacked_copy(double *clean, double *attacked)
{
    struct mock_host *copy = adjusted(NULL);
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_noise *attack;

    learn(host);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        memcpy(copy->weights[p], host->weights[p],
               host->elements[p] * sizeof(float));
    attack = bound_attack(copy->model, QRB_SIGMA_ABSOLUTE);
    options.ratio = 1.5;
    ASSERT_OK(ctx, qrb_attack_calibrate(copy->model, attack, text, TEXT,
                                        &options, NULL));
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    qrb_noise_destroy(attack);
    *clean = perplexity_of(host->model);
    *attacked = perplexity_of(copy->model);
    ck_assert_double_eq_tol(*attacked / *clean, 1.5, 0.015);
    mock_copy_weights(host, before);
    return copy;
}

START_TEST(repair_recovers_and_goes_towards_the_anchor)
{
    const struct recipe recipe = short_repair();
    qrb_repair_result result = { .struct_size = sizeof result };
    double clean;
    double attacked;
    struct mock_host *copy = attacked_copy(&clean, &attacked);
    double repaired;

    ASSERT_OK(ctx, repair_by(&recipe, copy->model, host->model, &result));
    repaired = perplexity_of(copy->model);
    ck_assert_double_gt(qrb_recovery(clean, attacked, repaired), 50.0);
    ck_assert_uint_eq(result.steps, 60);
    ck_assert_double_gt(result.anchor_gradient_ratio, 0.0);
    ck_assert_double_lt(result.distance_after, 0.5 * result.distance_before);
    /* The triangle of before, after and the anchor. */
    ck_assert_double_ge(result.distance_moved,
                        result.distance_before - result.distance_after);
    ck_assert_double_le(result.distance_moved,
                        result.distance_before + result.distance_after);
    ck_assert(mock_weights_equal(host, before)); /* the anchor's stay */
    mock_host_destroy(copy);
}
END_TEST

START_TEST(repair_without_anchor_pulls_to_the_received_weights)
{
    struct recipe recipe = short_repair();
    qrb_repair_result result = { .struct_size = sizeof result };
    double clean;
    double attacked;
    struct mock_host *copy = attacked_copy(&clean, &attacked);
    double moved[2];

    for (int i = 0; i < 2; i++) {
        struct mock_host *again = adjusted(NULL);

        for (int p = 0; p < MOCK_PARAMETERS; p++)
            memcpy(again->weights[p], copy->weights[p],
                   copy->elements[p] * sizeof(float));
        recipe.anchor.strength = i == 0 ? 0.0 : 50.0;
        ASSERT_OK(ctx, repair_by(&recipe, again->model, NULL, &result));
        ck_assert_double_eq(result.distance_before, 0.0);
        ck_assert_double_eq(result.distance_after, result.distance_moved);
        moved[i] = result.distance_moved;
        mock_host_destroy(again);
    }
    ck_assert_double_gt(moved[0], 0.0);
    ck_assert_double_lt(moved[1], 0.7 * moved[0]);
    mock_host_destroy(copy);
}
END_TEST

START_TEST(presets_are_what_is_measured_and_what_is_printed)
{
    const qrb_trainer_options trainer = QRB_REPAIR_TRAINER_OPTIONS_PAPER;
    const qrb_anchor_options anchor = QRB_ANCHOR_OPTIONS_PAPER;
    const qrb_dataset_options dataset = QRB_REPAIR_DATASET_OPTIONS_PAPER;
    const qrb_repair_options paper = QRB_REPAIR_OPTIONS_PAPER;

    ck_assert_double_eq(trainer.lr, 2e-5);
    ck_assert_uint_eq(trainer.steps, 250);
    ck_assert_uint_eq(trainer.warmup, 10);
    ck_assert_uint_eq(trainer.accumulation, 2);
    ck_assert_double_eq(anchor.strength, 1e-5);
    ck_assert_uint_eq(anchor.application, QRB_ANCHOR_GRADIENT);
    ck_assert_uint_eq(dataset.batch, 1);
    ck_assert_uint_eq(dataset.context, 2048);
    ck_assert_uint_eq(recommended.anchor.application, QRB_ANCHOR_DECOUPLED);
    ck_assert_str_eq(recommended.trainer.what, "repair");
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &paper, NULL),
                 QRB_E_SHAPE, "400 tokens, fewer than the 2049");
}
END_TEST

/* The weights and the figures of a repair by these options. */
static qrb_repair_result repaired_by(const qrb_repair_options *options,
                                     float *weights)
{
    struct mock_host *subject = adjusted(NULL);
    struct mock_host *anchor = NULL;
    qrb_repair_result result = { .struct_size = sizeof result };

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 9, NULL, &anchor));
    ASSERT_OK(ctx, qrb_repair(subject->model, anchor->model, text, TEXT,
                              options, &result));
    mock_copy_weights(subject, weights);
    mock_host_destroy(subject);
    mock_host_destroy(anchor);
    return result;
}

/* Parts that are given change nothing in the others; nothing of the caller's
 * is needed after the call. */
START_TEST(options_that_are_not_given_are_those_of_the_recipe)
{
    const qrb_repair_options inits[2] = { QRB_REPAIR_OPTIONS_INIT,
                                          QRB_REPAIR_OPTIONS_PAPER };
    const qrb_anchor_options anchors[2] = { QRB_ANCHOR_OPTIONS_INIT,
                                            QRB_ANCHOR_OPTIONS_PAPER };
    qrb_trainer_options trainers[2] = { QRB_REPAIR_TRAINER_OPTIONS_INIT,
                                        QRB_REPAIR_TRAINER_OPTIONS_PAPER };
    qrb_dataset_options datasets[2] = { QRB_REPAIR_DATASET_OPTIONS_INIT,
                                        QRB_REPAIR_DATASET_OPTIONS_PAPER };

    for (int recipe = 0; recipe < 2; recipe++) {
        float weights[2][MAX_WEIGHTS] = { { 0 } };
        qrb_repair_result results[2];

        trainers[recipe].steps = 2;
        datasets[recipe].context = 32;
        for (int given = 0; given < 2; given++) {
            qrb_repair_options options = inits[recipe];

            options.trainer = &trainers[recipe];
            options.dataset = &datasets[recipe];
            if (given)
                options.anchor = &anchors[recipe];
            results[given] = repaired_by(&options, weights[given]);
        }
        ck_assert_mem_eq(weights[0], weights[1], sizeof *weights);
        ck_assert_double_eq(results[0].loss, results[1].loss);
        ck_assert_uint_eq(results[0].tokens, /* sequences, steps, targets */
                          (recipe == 0 ? 4 : 2) * 2 * 32);
        ck_assert_uint_eq(results[0].steps, 2);
    }
}
END_TEST

/* A caller of a later release whose parts have grown: each has its own size,
 * so that none moves what follows it. */
START_TEST(parts_of_the_options_may_grow)
{
    struct {
        qrb_trainer_options known;
        uint64_t appended;
    } trainer = { QRB_REPAIR_TRAINER_OPTIONS_INIT, 0 };
    struct {
        qrb_optimizer_options known;
        uint64_t appended;
    } optimizer = { QRB_OPTIMIZER_OPTIONS_INIT, 0 };
    struct {
        qrb_evaluate_options known;
        uint64_t appended;
    } evaluate = { QRB_EVALUATE_OPTIONS_INIT, 0 };
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_calibrate_options calibrate = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    trainer.known.struct_size = sizeof trainer;
    trainer.known.optimizer = &optimizer.known;
    trainer.known.steps = 1;
    optimizer.known.struct_size = sizeof optimizer;
    evaluate.known.struct_size = sizeof evaluate;
    options.trainer = &trainer.known;
    calibrate.evaluate = &evaluate.known;
    ASSERT_OK(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL));
    optimizer.appended = 1;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "optimizer options");
    trainer.appended = 1;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "trainer options");
    learn(host);
    ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                        &calibrate, NULL));
    evaluate.appended = 1;
    ASSERT_FAILS(
        ctx,
        qrb_attack_calibrate(host->model, attack, text, TEXT, &calibrate, NULL),
        QRB_E_INVALID_ARG, "evaluate options");
    qrb_noise_destroy(attack);
}
END_TEST

#define REPAIR_REFUSES(anchor, expected, words)                                \
    do {                                                                       \
        ASSERT_FAILS(ctx, repair_by(&recipe, host->model, anchor, &result),    \
                     expected, words);                                         \
        recipe = short_repair();                                               \
    } while (0)

START_TEST(repairs_that_make_no_sense_are_refused)
{
    struct recipe recipe = short_repair();
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_repair_result result = { .struct_size = sizeof result };
    qrb_model *other = make_bigrams(ctx, true, false);

    recipe.resume = 2;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "resume");
    recipe.resume = 1;
    REPAIR_REFUSES(NULL, QRB_E_STATE, "no checkpoint");
    recipe.anchor.strength = -1.0;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "strength");
    recipe.trainer.lr = NAN;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "lr");
    recipe.dataset.batch = 0;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "batch");
    recipe.anchor.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "anchor options: struct_size");
    recipe.dataset.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "dataset options: struct_size");
    REPAIR_REFUSES(other, QRB_E_INVALID_ARG, "no such parameter");
    result.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "struct_size");
    options.recipe = 2;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "recipe is 2");
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, NULL, TEXT, NULL, NULL),
                 QRB_E_INVALID_ARG, "tokens");
    ck_assert_int_eq(qrb_repair(NULL, NULL, text, TEXT, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert(mock_weights_equal(host, before));
    qrb_model_destroy(other);
}
END_TEST

static uint64_t stop_after; /* steps of a repair */

static int stop(const char *what, uint64_t done, uint64_t total, void *user)
{
    (void)total;
    (void)user;
    return strncmp(what, "repair", 6) == 0 && done == stop_after;
}

/* A context of its own, whose progress callback stops. */
static double repair_in_parts(uint64_t stop_at, const char *checkpoint,
                              float *weights, qrb_repair_result *result)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct recipe recipe = short_repair();
    struct mock_host *attacked = NULL;
    struct mock_host *anchor = NULL;
    qrb_context *own = NULL;
    qrb_status status;
    double loss;

    options.threads = 1;
    options.progress = stop;
    ck_assert_int_eq(qrb_context_create(&options, &own), QRB_OK);
    ASSERT_OK(own,
              mock_host_create(own, MOCK_TOKEN_BATCHES, 2, NULL, &attacked));
    ASSERT_OK(own, mock_host_create(own, MOCK_TOKEN_BATCHES, 3, NULL, &anchor));
    recipe.trainer.steps = 12;
    recipe.trainer.checkpoint = checkpoint;
    recipe.resume = checkpoint != NULL;
    stop_after = stop_at;
    status = repair_by(&recipe, attacked->model, anchor->model, result);
    ck_assert_int_eq(status, stop_at > 0 ? QRB_E_CANCELLED : QRB_OK);
    loss = result->loss;
    mock_copy_weights(attacked, weights);
    mock_host_destroy(attacked);
    mock_host_destroy(anchor);
    qrb_context_destroy(own);
    return loss;
}

START_TEST(cancelled_repair_is_resumed_with_the_same_bits)
{
    qrb_repair_result whole = { .struct_size = sizeof whole };
    qrb_repair_result part = { .struct_size = sizeof part };
    float expected[MAX_WEIGHTS] = { 0 };
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];

    make_directory(directory);
    in_directory(directory, "repair.ckpt", path);
    repair_in_parts(0, NULL, expected, &whole);
    repair_in_parts(5, path, weights, &part);
    ck_assert_uint_eq(part.steps, 5);
    ck_assert_double_gt(part.distance_moved, 0.0);
    ck_assert_mem_ne(weights, expected, sizeof expected);
    repair_in_parts(0, path, weights, &part);
    ck_assert_mem_eq(weights, expected, sizeof expected);
    ck_assert_uint_eq(part.steps, 12);
    ck_assert_double_eq(part.loss, whole.loss);
    ck_assert_double_eq(part.distance_before, whole.distance_before);
    ck_assert_double_eq(part.distance_after, whole.distance_after);
    ck_assert_double_eq(part.distance_moved, whole.distance_moved);
    remove_directory(directory);
}
END_TEST

static double distance_between(struct mock_host *from, struct mock_host *to)
{
    double sum = 0.0;

    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < from->elements[p]; i++) {
            const double d =
                (double)from->weights[p][i] - (double)to->weights[p][i];

            sum += p == MOCK_FC1 || p == MOCK_FC2 ? d * d : 0.0;
        }
    return sqrt(sum);
}

START_TEST(move_goes_straight_to_the_anchor_by_the_distance)
{
    struct mock_host *anchor = NULL;
    double fraction = -1.0;
    double whole;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 2, NULL, &anchor));
    whole = distance_between(host, anchor);
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL,
                                    0.25 * whole, &fraction));
    ck_assert_double_eq_tol(fraction, 0.25, 1e-6);
    ck_assert_double_eq_tol(distance_between(host, anchor), 0.75 * whole,
                            1e-5 * whole);
    ck_assert_mem_eq(host->weights[MOCK_EMBED], before,
                     host->elements[MOCK_EMBED] * sizeof(float));
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL, 0.0,
                                    &fraction));
    ck_assert_double_eq(fraction, 0.0);
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL, 1e9,
                                    &fraction));
    ck_assert_double_eq(fraction, 1.0);
    ck_assert_double_lt(distance_between(host, anchor), 1e-5 * whole);
    mock_host_destroy(anchor);
}
END_TEST

START_TEST(moves_that_make_no_sense_are_refused)
{
    qrb_model *other = make_bigrams(ctx, true, false);
    const qrb_filter nothing = { sizeof nothing, 0, "no.such.*" };
    float memory[4] = { 0 };
    const size_t shape[2] = { 2, 2 };
    qrb_model *frozen = one_parameter(memory, 2, shape, QRB_PARAM_FROZEN);

    ASSERT_FAILS(ctx, qrb_move_towards(host->model, NULL, NULL, 1.0, NULL),
                 QRB_E_INVALID_ARG, "anchor is NULL");
    ASSERT_FAILS(ctx,
                 qrb_move_towards(host->model, host->model, NULL, -1.0, NULL),
                 QRB_E_INVALID_ARG, "distance");
    ASSERT_FAILS(ctx,
                 qrb_move_towards(host->model, host->model, NULL, NAN, NULL),
                 QRB_E_INVALID_ARG, "distance");
    ASSERT_FAILS(ctx, qrb_move_towards(host->model, other, NULL, 1.0, NULL),
                 QRB_E_INVALID_ARG, "no such parameter");
    ASSERT_FAILS(
        ctx, qrb_move_towards(host->model, host->model, &nothing, 1.0, NULL),
        QRB_E_INVALID_ARG, "");
    ASSERT_FAILS(ctx, qrb_move_towards(frozen, frozen, NULL, 1.0, NULL),
                 QRB_E_STATE, "only: is frozen");
    ck_assert_int_eq(qrb_move_towards(NULL, host->model, NULL, 1.0, NULL),
                     QRB_E_INVALID_ARG);
    qrb_model_destroy(frozen);
    qrb_model_destroy(other);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("repair");
    TCase *repair = tcase_create("repair");

    tcase_set_timeout(repair, 60);
    tcase_add_checked_fixture(repair, set_up, tear_down);
    tcase_add_test(repair, repair_recovers_and_goes_towards_the_anchor);
    tcase_add_test(repair, repair_without_anchor_pulls_to_the_received_weights);
    tcase_add_test(repair, options_that_are_not_given_are_those_of_the_recipe);
    tcase_add_test(repair, parts_of_the_options_may_grow);
    tcase_add_test(repair, presets_are_what_is_measured_and_what_is_printed);
    tcase_add_test(repair, repairs_that_make_no_sense_are_refused);
    tcase_add_test(repair, cancelled_repair_is_resumed_with_the_same_bits);
    tcase_add_test(repair, move_goes_straight_to_the_anchor_by_the_distance);
    tcase_add_test(repair, moves_that_make_no_sense_are_refused);
    suite_add_tcase(suite, repair);
    return run_suite(suite);
}
