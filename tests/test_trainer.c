/* The training loop on a small host with a backward pass written by hand: what a
 * step adds up, and which batches it takes. */
#include <math.h>

#include "model/pass.h"
#include "trainer_run.h"

START_TEST(training_lowers_the_loss_and_reports_it)
{
    const struct setup setup = { .steps = 150 };
    qrb_train_result result = { .struct_size = sizeof result };
    struct run *run = open_run(&setup);

    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
    /* log 16 is chance; the text keeps its rule in 7 of 8 places. */
    ck_assert_double_lt(result.loss, 0.75 * log(16.0));
    ck_assert_uint_eq(result.steps, 150);
    ck_assert_uint_eq(result.tokens, 150 * 2 * 8);
    ck_assert_double_gt(result.seconds, 0.0);
    ck_assert(isnan(result.anchor_gradient_ratio));
    ck_assert_uint_eq(run->done, 150);
    ck_assert_int_eq(strncmp(run->what, "train: loss ", 12), 0);
    ck_assert_ptr_nonnull(strstr(run->what, " tokens/s"));
    ck_assert_uint_eq(run->host->mode, QRB_MODE_TRAIN);
    /* A finished run has nothing left to do. */
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
    ck_assert_uint_eq(result.steps, 150);
    ck_assert_uint_eq(result.tokens, 0);
    close_run(run);
}
END_TEST

/* Batches of the host, cut from a text: batch i is the windows [i * wide,
 * (i + 1) * wide), of which each has one sequence of 9 tokens. */
static size_t wide;
static uint64_t omitted; /* this batch is left out; UINT64_MAX: none */

static int cut_batch(uint32_t stream, uint64_t index, void **out, size_t *rows,
                     void *user)
{
    static const size_t first_scored[2] = { 1, 1 };
    static int32_t tokens[18];
    static qrb_token_batch batch;
    int32_t text[9 * 64];

    (void)stream;
    (void)user;
    if (index >= omitted)
        index++;
    mock_text(text, 9 * 64, 5);
    memcpy(tokens, text + 9 * wide * index, 9 * wide * sizeof *tokens);
    batch = (qrb_token_batch)QRB_TOKEN_BATCH_INIT;
    batch.tokens = tokens;
    batch.first_scored = first_scored;
    batch.sequences = wide;
    batch.length = 9;
    *out = &batch;
    *rows = 8 * wide;
    return 0;
}

static void give_cut_batches(qrb_host_callbacks *callbacks)
{
    callbacks->batch = cut_batch;
    callbacks->batch_release = NULL;
}

/* A run over cut batches, without a dataset. */
static struct run *open_cut_run(size_t width, size_t accumulation)
{
    const struct setup setup = { .accumulation = accumulation,
                                 .adjust = give_cut_batches };
    struct run *run = open_run(&setup);

    wide = width;
    omitted = UINT64_MAX;
    qrb_trainer_destroy(run->trainer);
    qrb_dataset_destroy(run->dataset);
    run->dataset = NULL;
    run->trainer = NULL;
    ASSERT_OK(run->ctx, open_trainer(run));
    return run;
}

/* Gradients differ by the rounding of sums, eps |g|; Adam divides by |g|, so
 * weights differ by some lr * eps a step. */
START_TEST(accumulation_is_one_large_batch)
{
    qrb_train_result result[2];
    float weights[2][MAX_WEIGHTS];

    for (size_t parts = 1; parts <= 2; parts++) {
        struct run *run = open_cut_run(3 - parts, parts);

        result[parts - 1].struct_size = sizeof *result;
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result[parts - 1]));
        mock_copy_weights(run->host, weights[parts - 1]);
        for (size_t i = 0; i < mock_weight_count(run->host); i++)
            ck_assert_float_eq_tol(weights[0][i], weights[parts - 1][i], 2e-5f);
        close_run(run);
    }
    ck_assert_uint_eq(result[0].tokens, result[1].tokens);
    ck_assert_double_eq_tol(result[0].loss, result[1].loss, 1e-5);
}
END_TEST

/* With two microbatches a step, batch 3 is the second of step 1: the first one
 * is computed again, and what is trained is the stream without batch 3. */
START_TEST(unusable_batch_leaves_no_trace_in_the_gradients)
{
    struct run *without = open_cut_run(1, 2);
    struct run *with = open_cut_run(1, 2);

    omitted = 3;
    ASSERT_OK(without->ctx, qrb_trainer_run(without->trainer, NULL));
    omitted = UINT64_MAX;
    /* Calls: set_mode; then a step is zero_grad, two loss_and_grad (batches
     * come from this file), and one weights_written for each parameter. */
    with->host->nan_at = 1 + (1 + 2 + MOCK_PARAMETERS) + 3;
    ASSERT_OK(with->ctx, qrb_trainer_run(with->trainer, NULL));
    ck_assert_uint_eq(with->host->counts[MOCK_LOSS_AND_GRAD],
                      2 * STEPS + 2); /* the broken call and a repetition */
    ck_assert(mock_weights_equal(with->host, without->steps[STEPS]));
    close_run(without);
    close_run(with);
}
END_TEST

START_TEST(skipped_batches_are_replaced_by_the_next)
{
    const struct setup setup = { .kind = MOCK_OWN_BATCHES };
    qrb_train_result result = { .struct_size = sizeof result };

    /* Each of the first calls, among them those that serve no batch. */
    for (size_t call = 1; call <= 24; call++) {
        struct run *run = open_run(&setup);
        qrb_status status;

        run->host->fail_at = call;
        run->host->fail_code = 1;
        status = qrb_trainer_run(run->trainer, &result);
        if (run->host->counts[MOCK_LOSS_AND_GRAD] +
                run->host->counts[MOCK_BATCH] >
            2 * STEPS) {
            ck_assert_int_eq(status, QRB_OK); /* it was a batch's */
            ck_assert_uint_eq(result.steps, STEPS);
            ck_assert(isfinite(result.loss));
        } else {
            ck_assert_int_eq(status, QRB_E_CALLBACK);
        }
        ck_assert_uint_eq(run->host->batches, 0);
        close_run(run);
    }
}
END_TEST

/* 40 batches of the host last for less than 9 steps of 5. */
START_TEST(stream_begins_again_at_its_end)
{
    const struct setup setup = { .kind = MOCK_OWN_BATCHES, .accumulation = 5 };
    struct run *run = open_run(&setup);

    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ck_assert_uint_eq(run->host->counts[MOCK_LOSS_AND_GRAD], 45);
    ck_assert_uint_eq(run->host->counts[MOCK_BATCH], 46);
    ck_assert_uint_eq(run->host->counts[MOCK_BATCH_RELEASE], 45);
    close_run(run);
}
END_TEST

/* Epochs that the microbatches of step 5 were computed in; 0x1 stands for the
 * first, 0x2 for the second, 0x3 for both. */
static unsigned epochs[7];

static bool want_inputs(void *self, uint32_t point, size_t index)
{
    (void)self;
    return point == QRB_TAP_LINEAR_INPUT && index == MOCK_FC1;
}

static qrb_status note_epoch(void *self, const struct qrb__step *step,
                             uint32_t point, size_t index, qrb_tensor *tensor)
{
    (void)self;
    (void)point;
    (void)index;
    (void)tensor;
    if (step->step == 5)
        epochs[step->microbatch] |= 1U << step->epoch;
    return QRB_OK;
}

/* 40 batches in steps of 7: step 5 has batches 35 to 39 of the first epoch and
 * 0 and 1 of the second.  When the last one is unusable, the others are
 * computed again, each in the epoch that it was drawn in. */
START_TEST(microbatches_that_are_computed_again_keep_their_epoch)
{
    const struct setup setup = { .kind = MOCK_OWN_BATCHES, .accumulation = 7 };
    const struct qrb__listener listener = { NULL, false, want_inputs,
                                            note_epoch };
    struct run *run = open_run(&setup);
    qrb_pass *pass = NULL;

    memset(epochs, 0, sizeof epochs);
    ASSERT_OK(run->ctx, qrb_pass_create(run->host->model, NULL, &pass));
    ASSERT_OK(run->ctx, qrb__pass_listen(pass, &listener));
    ASSERT_OK(run->ctx, qrb_model_set_pass(run->host->model, pass));
    /* Calls: set_mode; a step is zero_grad, for each microbatch a batch and
     * loss_and_grad, and one weights_written for each parameter; in step 5 one
     * more for the batch behind the last. */
    run->host->nan_at = 1 + 5 * (1 + 2 * 7 + MOCK_PARAMETERS) + 1 + 2 * 7 + 1;
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ck_assert_uint_eq(run->host->counts[MOCK_LOSS_AND_GRAD], 7 * STEPS + 7);
    for (int i = 0; i < 7; i++)
        ck_assert_uint_eq(epochs[i], i < 5 ? 1 : 2);
    qrb_pass_destroy(pass);
    close_run(run);
}
END_TEST

START_TEST(bits_do_not_depend_on_the_number_of_threads)
{
    float weights[3][MAX_WEIGHTS] = { { 0 } };

    for (size_t threads = 1; threads <= 3; threads++) {
        struct setup setup = rich;

        setup.threads = threads;
        train(&setup, weights[threads - 1], NULL);
        ck_assert_mem_eq(weights[0], weights[threads - 1], sizeof *weights);
    }
}
END_TEST

START_TEST(anchor_takes_part_in_every_step)
{
    qrb_train_result result = { .struct_size = sizeof result };
    struct setup setup = rich;
    float weights[2][MAX_WEIGHTS];
    double distance[2];

    for (int anchored = 0; anchored < 2; anchored++) {
        struct run *run;

        setup.anchored = true;
        run = open_run(&setup);
        if (!anchored) { /* it only measures */
            qrb_trainer_destroy(run->trainer);
            run->trainer = NULL;
            qrb_trainer_options options = trainer_options(&setup);
            ASSERT_OK(run->ctx,
                      qrb_trainer_create(run->host->model, run->dataset,
                                         &options, &run->trainer));
        }
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
        ck_assert_int_eq(isfinite(result.anchor_gradient_ratio) != 0, anchored);
        ASSERT_OK(run->ctx,
                  qrb_anchor_distance(run->noise, &distance[anchored]));
        mock_copy_weights(run->host, weights[anchored]);
        close_run(run);
    }
    ck_assert_double_gt(result.anchor_gradient_ratio, 0.0);
    ck_assert_double_lt(distance[1], 0.9 * distance[0]);
}
END_TEST

static int count_tap(uint32_t point, size_t index, qrb_tensor *tensor,
                     void *user)
{
    (void)point;
    (void)index;
    (void)tensor;
    ++*(size_t *)user;
    return 0;
}

START_TEST(pass_in_force_is_the_one_that_is_used)
{
    const struct setup setup = { 0 };
    struct run *run = open_run(&setup);
    qrb_pass *pass = NULL;
    size_t taps = 0;

    ASSERT_OK(run->ctx, qrb_pass_create(run->host->model, NULL, &pass));
    ASSERT_OK(run->ctx,
              qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, count_tap, &taps));
    ASSERT_OK(run->ctx, qrb_model_set_pass(run->host->model, pass));
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ck_assert_uint_eq(taps, STEPS * 2 * 8);
    ck_assert_ptr_eq(qrb_model_pass(run->host->model), pass);
    ASSERT_OK(run->ctx, qrb_model_set_pass(run->host->model, NULL));
    qrb_pass_destroy(pass);
    close_run(run);
}
END_TEST

START_TEST(own_pass_is_in_force_only_while_it_runs)
{
    const struct setup setup = { .stop_after = 2 };
    struct run *run = open_run(&setup);

    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
    ck_assert_ptr_null(qrb_model_pass(run->host->model));
    close_run(run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *loop = tcase_create("loop");

    tcase_set_timeout(loop, 60);
    tcase_add_test(loop, training_lowers_the_loss_and_reports_it);
    tcase_add_test(loop, accumulation_is_one_large_batch);
    tcase_add_test(loop, unusable_batch_leaves_no_trace_in_the_gradients);
    tcase_add_test(loop, skipped_batches_are_replaced_by_the_next);
    tcase_add_test(loop, stream_begins_again_at_its_end);
    tcase_add_test(loop, microbatches_that_are_computed_again_keep_their_epoch);
    tcase_add_test(loop, bits_do_not_depend_on_the_number_of_threads);
    tcase_add_test(loop, anchor_takes_part_in_every_step);
    tcase_add_test(loop, pass_in_force_is_the_one_that_is_used);
    tcase_add_test(loop, own_pass_is_in_force_only_while_it_runs);
    suite_add_tcase(suite, loop);
    return run_suite(suite);
}
