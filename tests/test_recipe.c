/* What all drivers over whole models promise: nothing is left behind when
 * something fails, whatever the number of threads. */
#include "recipe_host.h"

START_TEST(recipes_have_the_same_bits_with_any_number_of_threads)
{
    double sigma[3];
    double repaired[3];
    float weights[3][MAX_WEIGHTS] = { { 0 } };

    for (size_t threads = 1; threads <= 3; threads++) {
        qrb_calibrate_result found = { .struct_size = sizeof found };
        struct recipe recipe = recommended;
        qrb_noise *attack;

        open_host(threads);
        learn_for(host, 20);
        attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
        ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                            NULL, &found));
        sigma[threads - 1] = found.sigma;
        ASSERT_OK(ctx, qrb_attack_apply(attack));
        recipe.trainer.steps = 5;
        recipe.dataset.context = 32;
        ASSERT_OK(ctx, repair_by(&recipe, host->model, NULL, NULL));
        repaired[threads - 1] = perplexity_of(host->model);
        mock_copy_weights(host, weights[threads - 1]);
        ck_assert_double_eq(sigma[0], sigma[threads - 1]);
        ck_assert_double_eq(repaired[0], repaired[threads - 1]);
        ck_assert_mem_eq(weights[0], weights[threads - 1], sizeof *weights);
        qrb_noise_destroy(attack);
        tear_down();
    }
    open_host(1);
}
END_TEST

/* Jobs that leave weights alone or change them whole; `done` of the callback
 * tests and of the allocation loops. */
struct job {
    const char *name;
    enum mock_kind kind;
    qrb_status (*run)(struct mock_host *subject, struct mock_host *other);
    bool trains; /* and may end behind a complete step */
};

static qrb_status job_evaluate(struct mock_host *subject,
                               struct mock_host *other)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result, .scored = 1 };
    qrb_status status;

    options.context = 100;
    options.stride = 50;
    options.batch = 2;
    status =
        qrb_evaluate_text(subject->model, NULL, text, TEXT, &options, &result);
    if (status == QRB_OK)
        status = qrb_evaluate_text(subject->model, other->model, text, TEXT,
                                   &options, &result);
    else
        ck_assert_uint_eq(result.scored, 1);
    if (status == QRB_OK)
        status = qrb_evaluate_text(subject->model, subject->model, text, TEXT,
                                   &options, &result);
    return status;
}

static qrb_status job_batches(struct mock_host *subject,
                              struct mock_host *other)
{
    qrb_metric_result result = { .struct_size = sizeof result, .scored = 1 };
    const qrb_status status = qrb_evaluate_batches(subject->model, &result);

    (void)other;
    ck_assert_uint_eq(result.scored, status == QRB_OK ? 3 * 338 + 20 : 1);
    return status;
}

static qrb_status job_prompts(struct mock_host *subject,
                              struct mock_host *other)
{
    const size_t lengths[3] = { 20, 1, 30 };
    double perplexity[3] = { -1.0, -1.0, -1.0 };
    const qrb_status status =
        qrb_evaluate_prompts(subject->model, text, lengths, 3, perplexity);

    (void)other;
    if (status != QRB_OK)
        ck_assert_double_eq(perplexity[0], -1.0);
    return status;
}

static qrb_status job_quantize(struct mock_host *subject,
                               struct mock_host *other)
{
    qrb_quantizer *quantizer = NULL;
    qrb_status status;

    (void)other;
    status = qrb_quantizer_create_named(subject->ctx, "rtn4g4", &quantizer);
    if (status == QRB_OK)
        status = qrb_fake_quantize(subject->model, quantizer, NULL);
    qrb_quantizer_destroy(quantizer);
    return status;
}

static qrb_status job_calibrate(struct mock_host *subject,
                                struct mock_host *other)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_noise *attack = NULL;
    qrb_status status;

    (void)other;
    options.search_seeds = 1;
    options.tolerance = 0.2;
    evaluate.context = 100;
    evaluate.stride = 99;
    options.evaluate = &evaluate;
    status = qrb_noise_create_attack(subject->ctx, NULL, &attack);
    if (status == QRB_OK)
        status = qrb_noise_bind(attack, subject->model, NULL);
    if (status == QRB_OK)
        status = qrb_attack_calibrate(subject->model, attack, text, 60,
                                      &options, NULL);
    qrb_noise_destroy(attack);
    return status;
}

static qrb_status job_move(struct mock_host *subject, struct mock_host *other)
{
    return qrb_move_towards(subject->model, other->model, NULL, 0.5, NULL);
}

static qrb_status job_repair(struct mock_host *subject, struct mock_host *other)
{
    struct recipe recipe = short_repair();

    recipe.trainer.steps = 2;
    return repair_by(&recipe, subject->model, other->model, NULL);
}

static const struct job jobs[] = {
    { "evaluate", MOCK_TOKEN_BATCHES, job_evaluate, false },
    { "batches", MOCK_OWN_BATCHES, job_batches, false },
    { "prompts", MOCK_TOKEN_BATCHES, job_prompts, false },
    { "quantize", MOCK_TOKEN_BATCHES, job_quantize, false },
    { "calibrate", MOCK_TOKEN_BATCHES, job_calibrate, false },
    { "move", MOCK_TOKEN_BATCHES, job_move, false },
    { "repair", MOCK_TOKEN_BATCHES, job_repair, true },
};

enum { JOBS = sizeof jobs / sizeof *jobs };

START_TEST(failing_callback_leaves_weights_bitwise_as_they_were)
{
    const struct job *job = &jobs[_i];
    bool ended = false;

    for (size_t call = 1; !ended; call++) {
        struct mock_host *subject = NULL;
        struct mock_host *other = NULL;
        qrb_status status;

        ASSERT_OK(ctx, mock_host_create(ctx, job->kind, 1, NULL, &subject));
        ASSERT_OK(ctx, mock_host_create(ctx, job->kind, 2, NULL, &other));
        mock_copy_weights(subject, before);
        subject->fail_at = call;
        subject->fail_code = -4;
        status = job->run(subject, other);
        ended = subject->calls < call;
        if (ended) {
            ck_assert_msg(status == QRB_OK, "%s: %s", job->name,
                          qrb_context_message(ctx));
        } else {
            ck_assert_int_eq(status, QRB_E_CALLBACK);
            ck_assert_int_eq(qrb_context_callback_code(ctx), -4);
            if (!job->trains)
                ck_assert_msg(mock_weights_equal(subject, before),
                              "%s: call %zu", job->name, call);
        }
        ck_assert_uint_eq(subject->batches, 0);
        mock_host_destroy(subject);
        mock_host_destroy(other);
        ck_assert_uint_lt(call, 2000);
    }
}
END_TEST

static qrb_status run_job(qrb_context *own, void *arg)
{
    const struct job *job = arg;
    struct mock_host *subject = NULL;
    struct mock_host *other = NULL;
    qrb_status status;

    status = mock_host_create(own, job->kind, 1, NULL, &subject);
    if (status == QRB_OK)
        status = mock_host_create(own, job->kind, 2, NULL, &other);
    if (status == QRB_OK) {
        mock_copy_weights(subject, before);
        status = job->run(subject, other);
        if (status != QRB_OK && !job->trains)
            ck_assert_msg(mock_weights_equal(subject, before), "%s", job->name);
    }
    mock_host_destroy(subject);
    mock_host_destroy(other);
    return status;
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    fail_each_allocation(run_job, (void *)(uintptr_t)&jobs[_i]);
}
END_TEST

static size_t refused;

static void call_recipes(struct mock_host *subject, enum mock_callback callback)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    const size_t length = 4;
    double perplexity;

    if (callback != MOCK_TOKEN_NLL)
        return;
    ck_assert_int_eq(
        qrb_evaluate_text(subject->model, NULL, text, 9, NULL, &result),
        QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_evaluate_batches(subject->model, &result),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_evaluate_prompts(subject->model, text, &length, 1, &perplexity),
        QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_fake_quantize(subject->model, subject->inside_user, NULL),
        QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_attack_calibrate(subject->model, NULL, text, 9, NULL, NULL),
        QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_repair(subject->model, NULL, text, TEXT, NULL, NULL),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_move_towards(subject->model, subject->model, NULL, 1.0, NULL),
        QRB_E_REENTRANT);
    refused++;
}

START_TEST(calls_from_inside_a_callback_are_refused)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_quantizer *quantizer = named("int8");

    host->inside = call_recipes;
    host->inside_user = quantizer;
    refused = 0;
    ASSERT_OK(ctx,
              qrb_evaluate_text(host->model, NULL, text, TEXT, NULL, &result));
    ck_assert_uint_gt(refused, 0);
    ck_assert(mock_weights_equal(host, before));
    qrb_quantizer_destroy(quantizer);
}
END_TEST

static int cancel_at_third(void *user)
{
    return ++*(size_t *)user == 3;
}

START_TEST(cancelled_jobs_leave_weights_as_they_were)
{
    for (int i = 0; i < JOBS; i++) {
        qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
        struct mock_host *subject = NULL;
        struct mock_host *other = NULL;
        qrb_context *own = NULL;
        size_t asked = 0;

        options.threads = 1;
        options.cancel = cancel_at_third;
        options.cancel_user = &asked;
        ck_assert_int_eq(qrb_context_create(&options, &own), QRB_OK);
        ASSERT_OK(own, mock_host_create(own, jobs[i].kind, 1, NULL, &subject));
        ASSERT_OK(own, mock_host_create(own, jobs[i].kind, 2, NULL, &other));
        mock_copy_weights(subject, before);
        if (!jobs[i].trains && strcmp(jobs[i].name, "move") != 0) {
            ck_assert_int_eq(jobs[i].run(subject, other), QRB_E_CANCELLED);
            ck_assert(mock_weights_equal(subject, before));
        }
        mock_host_destroy(subject);
        mock_host_destroy(other);
        qrb_context_destroy(own);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recipe");
    TCase *rules = tcase_create("rules");
    TCase *threads = tcase_create("threads");

    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_loop_test(
        rules, failing_callback_leaves_weights_bitwise_as_they_were, 0, JOBS);
    tcase_add_loop_test(
        rules, every_failed_allocation_is_reported_and_leaks_nothing, 0, JOBS);
    tcase_add_test(rules, calls_from_inside_a_callback_are_refused);
    tcase_add_test(rules, cancelled_jobs_leave_weights_as_they_were);
    suite_add_tcase(suite, rules);
    tcase_set_timeout(threads, 60);
    tcase_add_test(threads,
                   recipes_have_the_same_bits_with_any_number_of_threads);
    suite_add_tcase(suite, threads);
    return run_suite(suite);
}
