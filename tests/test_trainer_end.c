/* How a run of the trainer ends before its last step, and what is refused. */
#include <math.h>

#include "trainer_run.h"

START_TEST(too_many_unusable_batches_stop_the_run)
{
    for (size_t accumulation = 1; accumulation <= 2; accumulation++) {
        const struct setup setup = { .accumulation = accumulation,
                                     .anchored = true };
        struct run *run = open_run(&setup);

        /* Past set_mode, zero_grad and, where there are two, the first loss:
         * that one stays usable, so the model's own count of skips in a row
         * starts anew each time. */
        run->host->fail_at = 2 + accumulation;
        run->host->fail_many = 1000;
        run->host->fail_code = 1;
        if (accumulation == 1)
            ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL),
                             QRB_E_CALLBACK);
        else
            ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL),
                         QRB_E_CALLBACK, "");
        ck_assert(mock_weights_equal(run->host, run->steps[0]));
        close_run(run);
    }
}
END_TEST

static int spoiled_loss(const void *batch, double weight, double *mean_loss,
                        size_t *scored, void *user)
{
    const qrb_token_batch *tokens = batch;
    struct mock_host *host = user;

    (void)weight;
    host->counts[MOCK_LOSS_AND_GRAD]++;
    *scored = 1;
    *mean_loss = tokens->tokens[0] == 1 ? 2.0 : NAN;
    return 0;
}

/* Batch 0 begins with token 1 and is usable, all others are not. */
static int one_good_batch(uint32_t stream, uint64_t index, void **out,
                          size_t *rows, void *user)
{
    static const size_t first_scored = 1;
    static int32_t tokens[2];
    static qrb_token_batch batch;

    (void)stream;
    (void)user;
    tokens[0] = index == 0;
    batch = (qrb_token_batch)QRB_TOKEN_BATCH_INIT;
    batch.tokens = tokens;
    batch.first_scored = &first_scored;
    batch.sequences = 1;
    batch.length = 2;
    *out = &batch;
    *rows = 1;
    return 0;
}

static void spoil_losses(qrb_host_callbacks *callbacks)
{
    callbacks->loss_and_grad = spoiled_loss;
    callbacks->batch = one_good_batch;
    callbacks->batch_release = NULL;
}

/* The good batch is computed again before each new try, which resets the
 * model's count of skips in a row; the run must end all the same. */
START_TEST(good_batch_among_unusable_ones_does_not_hide_them)
{
    const struct setup setup = { .accumulation = 2, .adjust = spoil_losses };
    struct run *run = open_run(&setup);

    qrb_trainer_destroy(run->trainer);
    qrb_dataset_destroy(run->dataset);
    run->dataset = NULL;
    run->trainer = NULL;
    ASSERT_OK(run->ctx, open_trainer(run));
    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL), QRB_E_CALLBACK,
                 "more than 16 batches in a row");
    ck_assert_uint_eq(run->host->counts[MOCK_LOSS_AND_GRAD], 2 * 17);
    close_run(run);
}
END_TEST

static int no_batch(uint32_t stream, uint64_t index, void **out, size_t *rows,
                    void *user)
{
    (void)stream;
    (void)index;
    (void)rows;
    (void)user;
    *out = NULL;
    return 0;
}

static void give_no_batches(qrb_host_callbacks *callbacks)
{
    callbacks->batch = no_batch;
}

START_TEST(empty_stream_is_refused)
{
    const struct setup setup = { .kind = MOCK_OWN_BATCHES,
                                 .adjust = give_no_batches };
    struct run *run = open_run(&setup);

    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL), QRB_E_STATE,
                 "empty");
    close_run(run);
}
END_TEST

/* Each callback at each index; what is left are the weights after one of the
 * steps of a run in which nothing failed. */
START_TEST(failing_callback_leaves_the_weights_of_a_complete_step)
{
    struct setup setup = rich;
    struct run *clean;
    size_t ends[STEPS + 1] = { 0 };
    bool ended = false;

    setup.kind = MOCK_OWN_BATCHES;
    setup.steps = 4;
    clean = open_run(&setup);
    ASSERT_OK(clean->ctx, qrb_trainer_run(clean->trainer, NULL));
    for (size_t call = 1; !ended; call++) {
        struct run *run = open_run(&setup);
        size_t step = 0;
        qrb_status status;

        run->host->calls = 0;
        run->host->fail_at = call;
        run->host->fail_code = -5;
        status = qrb_trainer_run(run->trainer, NULL);
        ended = run->host->calls < call;
        if (ended) {
            ck_assert_int_eq(status, QRB_OK);
        } else {
            ck_assert_int_eq(status, QRB_E_CALLBACK);
            ck_assert_int_eq(qrb_context_callback_code(run->ctx), -5);
        }
        while (step <= 4 && !mock_weights_equal(run->host, clean->steps[step]))
            step++;
        ck_assert_uint_le(step, 4);
        ends[step]++;
        ck_assert_uint_eq(run->host->batches, 0);
        ck_assert_ptr_null(qrb_model_pass(run->host->model));
        close_run(run);
        ck_assert_uint_lt(call, 1000);
    }
    for (size_t step = 0; step <= 4; step++)
        ck_assert_uint_gt(ends[step], 0);
    close_run(clean);
}
END_TEST

START_TEST(gradient_that_is_not_finite_stops_with_the_last_weights)
{
    const struct setup setup = { .adjust = give_boundless_loss };
    struct run *run = open_run(&setup);

    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL),
                 QRB_E_NOT_FINITE, "fc2");
    ck_assert_uint_eq(run->done, 2);
    ck_assert(mock_weights_equal(run->host, run->steps[2]));
    close_run(run);
}
END_TEST

#define REFUSES(field, value, words)                                           \
    do {                                                                       \
        qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;                \
        options.field = (value);                                               \
        ASSERT_FAILS(run->ctx,                                                 \
                     qrb_trainer_create(run->host->model, run->dataset,        \
                                        &options, &trainer),                   \
                     QRB_E_INVALID_ARG, words);                                \
        ck_assert_ptr_null(trainer);                                           \
    } while (0)

START_TEST(options_that_make_no_sense_are_refused)
{
    const struct setup setup = { 0 };
    struct run *run = open_run(&setup);
    qrb_trainer *trainer = NULL;

    REFUSES(steps, 0, "steps");
    REFUSES(lr, -1e-3, "lr");
    REFUSES(lr, NAN, "lr");
    REFUSES(lr, INFINITY, "lr");
    REFUSES(lr_end, -0.1, "lr_end");
    REFUSES(lr_end, 1.5, "lr_end");
    REFUSES(lr_end, NAN, "lr_end");
    REFUSES(reserved, 1, "reserved");
    REFUSES(schedule, 2, "schedule");
    REFUSES(accumulation, 0, "accumulation");
    REFUSES(checkpoint, "", "checkpoint");
    {
        qrb_optimizer_options optimizer = QRB_OPTIMIZER_OPTIONS_INIT;

        optimizer.kind = 9;
        REFUSES(optimizer, &optimizer, "kind");
        optimizer.kind = QRB_SGD;
        optimizer.clip_norm = NAN;
        REFUSES(optimizer, &optimizer, "clip_norm");
    }
    REFUSES(struct_size, 2, "struct_size");
    {
        qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;

        options.checkpoint = "x";
        options.checkpoint_every = 0;
        ASSERT_FAILS(run->ctx,
                     qrb_trainer_create(run->host->model, run->dataset,
                                        &options, &trainer),
                     QRB_E_INVALID_ARG, "checkpoint_every");
    }
    ck_assert_int_eq(qrb_trainer_create(NULL, NULL, NULL, &trainer),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(
        qrb_trainer_create(run->host->model, run->dataset, NULL, NULL),
        QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_trainer_run(NULL, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_trainer_resume(NULL, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_trainer_add_noise(NULL, NULL), QRB_E_INVALID_ARG);
    {
        qrb_train_result result = { .struct_size = 1 };

        ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, &result),
                     QRB_E_INVALID_ARG, "struct_size");
    }
    qrb_trainer_destroy(NULL);
    close_run(run);
}
END_TEST

static void take_loss_away(qrb_host_callbacks *callbacks)
{
    callbacks->loss_and_grad = NULL;
}

static void take_tokens_away(qrb_host_callbacks *callbacks)
{
    callbacks->flags = 0;
}

static void take_batches_away(qrb_host_callbacks *callbacks)
{
    callbacks->batch = NULL;
}

START_TEST(hosts_that_cannot_train_are_refused)
{
    const struct {
        void (*adjust)(qrb_host_callbacks *callbacks);
        bool with_dataset;
        const char *words;
    } cases[] = {
        { take_loss_away, true, "loss_and_grad" },
        { take_tokens_away, true, "QRB_HOST_TOKEN_BATCHES" },
        { take_batches_away, false, "batch callback" },
    };
    const struct setup setup = { 0 };
    struct run *run = open_run(&setup);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mock_host *host = NULL;
        qrb_trainer *trainer = NULL;

        ASSERT_OK(run->ctx, mock_host_create(run->ctx, MOCK_TOKEN_BATCHES, 1,
                                             cases[i].adjust, &host));
        ASSERT_FAILS(
            run->ctx,
            qrb_trainer_create(host->model,
                               cases[i].with_dataset ? run->dataset : NULL,
                               NULL, &trainer),
            QRB_E_INVALID_ARG, cases[i].words);
        ck_assert_ptr_null(trainer);
        mock_host_destroy(host);
    }
    close_run(run);
}
END_TEST

START_TEST(noises_join_before_the_first_step_and_are_at_most_eight)
{
    const struct setup setup = { .anchored = true, .stop_after = 1 };
    struct run *run = open_run(&setup);

    for (int i = 1; i < 8; i++)
        ASSERT_OK(run->ctx, qrb_trainer_add_noise(run->trainer, run->noise));
    ASSERT_FAILS(run->ctx, qrb_trainer_add_noise(run->trainer, run->noise),
                 QRB_E_STATE, "the most");
    ASSERT_FAILS(run->ctx, qrb_trainer_add_noise(run->trainer, NULL),
                 QRB_E_INVALID_ARG, "NULL");
    close_run(run);
    run = open_run(&setup);
    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
    ASSERT_FAILS(run->ctx, qrb_trainer_add_noise(run->trainer, run->noise),
                 QRB_E_STATE, "before the first step");
    close_run(run);
}
END_TEST

static void call_trainer(struct mock_host *host, enum mock_callback callback)
{
    struct run *run = host->inside_user;
    qrb_trainer *trainer = NULL;

    if (callback != MOCK_LOSS_AND_GRAD)
        return;
    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_trainer_resume(run->trainer, NULL), QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_trainer_add_noise(run->trainer, run->noise),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_trainer_create(host->model, run->dataset, NULL, &trainer),
        QRB_E_REENTRANT);
    ck_assert_ptr_null(trainer);
}

START_TEST(calls_from_inside_a_callback_are_refused)
{
    const struct setup setup = { .stop_after = 1 };
    struct run *run = open_run(&setup);

    run->host->inside = call_trainer;
    run->host->inside_user = run;
    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
    run->host->inside = NULL;
    close_run(run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer_end");
    TCase *end = tcase_create("end");

    tcase_set_timeout(end, 60);
    tcase_add_test(end, too_many_unusable_batches_stop_the_run);
    tcase_add_test(end, good_batch_among_unusable_ones_does_not_hide_them);
    tcase_add_test(end, empty_stream_is_refused);
    tcase_add_test(end, failing_callback_leaves_the_weights_of_a_complete_step);
    tcase_add_test(end,
                   gradient_that_is_not_finite_stops_with_the_last_weights);
    tcase_add_test(end, options_that_make_no_sense_are_refused);
    tcase_add_test(end, hosts_that_cannot_train_are_refused);
    tcase_add_test(end,
                   noises_join_before_the_first_step_and_are_at_most_eight);
    tcase_add_test(end, calls_from_inside_a_callback_are_refused);
    suite_add_tcase(suite, end);
    return run_suite(suite);
}
