/* The training loop, its checkpoints, and how it ends: on a small host with a
 * backward pass written by hand. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/wait.h>

#include "harness.h"
#include "mock_host.h"
#include "model/pass.h"

enum { TEXT = 600, MAX_WEIGHTS = 1024, STEPS = 9 };

/* How a run is set up; zero is the plainest one. */
struct setup {
    enum mock_kind kind;
    uint32_t seed;     /* of the weights */
    uint64_t run_seed; /* of the context */
    uint32_t text_seed;
    size_t threads;
    const char *checkpoint;
    uint64_t every;
    uint64_t steps;
    size_t accumulation;
    bool anchored;
    uint32_t anchor_seed; /* of the weights that pull */
    uint32_t schedule;
    double lr;
    void (*adjust)(qrb_host_callbacks *callbacks);
    uint64_t stop_after; /* the progress callback stops at this step; 0: no */
};

struct run {
    struct setup setup;
    qrb_context *ctx;
    struct mock_host *host;
    struct mock_host *anchor;
    qrb_noise *noise;
    qrb_dataset *dataset;
    qrb_trainer *trainer;
    char what[160];                      /* last progress text */
    uint64_t done;                       /* last progress */
    float steps[STEPS + 1][MAX_WEIGHTS]; /* weights after each step */
};

static int progress(const char *what, uint64_t done, uint64_t total, void *user)
{
    struct run *run = user;

    ck_assert_uint_le(done, total);
    snprintf(run->what, sizeof run->what, "%s", what);
    run->done = done;
    if (done <= STEPS && run->host != NULL)
        mock_copy_weights(run->host, run->steps[done]);
    return done == run->setup.stop_after && done > 0;
}

static void close_run(struct run *run)
{
    qrb_trainer_destroy(run->trainer);
    qrb_dataset_destroy(run->dataset);
    qrb_noise_destroy(run->noise);
    mock_host_destroy(run->anchor);
    mock_host_destroy(run->host);
    qrb_context_destroy(run->ctx);
    free(run);
}

static qrb_trainer_options trainer_options(const struct setup *setup)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;

    options.steps = setup->steps == 0 ? STEPS : setup->steps;
    options.warmup = 3;
    options.lr = setup->lr == 0.0 ? 0.02 : setup->lr;
    options.accumulation = setup->accumulation == 0 ? 1 : setup->accumulation;
    options.checkpoint = setup->checkpoint;
    options.checkpoint_every = setup->every == 0 ? 1 : setup->every;
    options.schedule = setup->schedule;
    return options;
}

/* Everything but the trainer. */
static qrb_status open_parts(struct run *run)
{
    const struct setup *setup = &run->setup;
    qrb_dataset_options shape = QRB_DATASET_OPTIONS_INIT;
    int32_t text[TEXT];
    qrb_status status;

    status = mock_host_create(run->ctx, setup->kind, 1 + setup->seed,
                              setup->adjust, &run->host);
    if (status == QRB_OK && setup->anchored) {
        status = mock_host_create(run->ctx, setup->kind, 7 + setup->anchor_seed,
                                  NULL, &run->anchor);
        if (status == QRB_OK)
            status = qrb_noise_create_anchor(run->ctx, NULL, &run->noise);
        if (status == QRB_OK)
            status = qrb_noise_bind(run->noise, run->host->model, NULL);
        if (status == QRB_OK)
            status = qrb_anchor_set_from(run->noise, run->anchor->model);
    }
    if (status != QRB_OK || setup->kind == MOCK_OWN_BATCHES)
        return status;
    shape.batch = 2;
    shape.context = 8;
    mock_text(text, TEXT, setup->text_seed);
    return qrb_dataset_create(run->ctx, text, TEXT, &shape, &run->dataset);
}

static qrb_status open_trainer(struct run *run)
{
    const qrb_trainer_options options = trainer_options(&run->setup);
    qrb_status status;

    status = qrb_trainer_create(run->host->model, run->dataset, &options,
                                &run->trainer);
    if (status == QRB_OK && run->noise != NULL)
        status = qrb_trainer_add_noise(run->trainer, run->noise);
    return status;
}

static struct run *open_run(const struct setup *setup)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct run *run = calloc(1, sizeof *run);

    ck_assert_ptr_nonnull(run);
    run->setup = *setup;
    options.threads = setup->threads == 0 ? 1 : setup->threads;
    options.seed = setup->run_seed;
    options.progress = progress;
    options.progress_user = run;
    ck_assert_int_eq(qrb_context_create(&options, &run->ctx), QRB_OK);
    ASSERT_OK(run->ctx, open_parts(run));
    ck_assert_uint_le(mock_weight_count(run->host), MAX_WEIGHTS);
    mock_copy_weights(run->host, run->steps[0]);
    ASSERT_OK(run->ctx, open_trainer(run));
    return run;
}

/* Run to the end and keep the weights. */
static void train(const struct setup *setup, float *weights,
                  qrb_train_result *result)
{
    struct run *run = open_run(setup);

    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, result));
    mock_copy_weights(run->host, weights);
    close_run(run);
}

static const struct setup rich = {
    .accumulation = 2,
    .anchored = true,
    .schedule = QRB_SCHEDULE_COSINE,
};

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

static int boundless_loss(const void *batch, double weight, double *mean_loss,
                          size_t *scored, void *user)
{
    struct mock_host *host = user;

    (void)batch;
    (void)weight;
    *mean_loss = 1.0;
    *scored = 1;
    if (++host->counts[MOCK_LOSS_AND_GRAD] == 3)
        host->gradients[MOCK_FC2][4] = INFINITY;
    return 0;
}

static void give_boundless_loss(qrb_host_callbacks *callbacks)
{
    callbacks->loss_and_grad = boundless_loss;
}

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

/* A directory for a checkpoint; its path is made in `path` of 256 bytes. */
static void make_path(char *directory, char *path)
{
    make_directory(directory);
    in_directory(directory, "run.ckpt", path);
}

static struct setup with_checkpoint(struct setup setup, const char *path)
{
    setup.checkpoint = path;
    return setup;
}

START_TEST(cancelled_run_keeps_its_step_and_its_figures)
{
    struct setup setup = rich;
    qrb_train_result result = { .struct_size = sizeof result };
    char directory[64];
    char path[256];
    struct run *run;

    make_path(directory, path);
    setup.checkpoint = path;
    setup.every = 100;
    setup.stop_after = 3;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, &result),
                 QRB_E_CANCELLED, "3 of 9");
    ck_assert_uint_eq(result.steps, 3);
    ck_assert_uint_eq(result.tokens, 3 * 2 * 2 * 8);
    ck_assert(isfinite(result.loss));
    ck_assert_int_eq(access(path, R_OK), 0);
    ck_assert(mock_weights_equal(run->host, run->steps[3]));
    /* Asked again, it goes on from there. */
    run->setup.stop_after = 0;
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
    ck_assert_uint_eq(result.steps, STEPS);
    ck_assert_uint_eq(result.tokens, 6 * 2 * 2 * 8);
    close_run(run);
    remove_directory(directory);
}
END_TEST

/* The loss of the result is over the last 50 steps, so it shows that losses
 * from before the stop came along; so does the mean ratio. */
START_TEST(resumed_run_has_the_bits_of_one_that_was_not_stopped)
{
    struct setup setup = rich;
    qrb_train_result expected = { .struct_size = sizeof expected };
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];

    make_path(directory, path);
    setup.kind = (_i & 1) != 0 ? MOCK_OWN_BATCHES : MOCK_TOKEN_BATCHES;
    setup.accumulation = (_i & 1) != 0 ? 7 : 2; /* 40 batches end in step 5 */
    train(&setup, weights, &expected);
    setup.checkpoint = path;
    setup.every = 100;
    for (uint64_t stop = 1; stop <= STEPS; stop++) {
        qrb_train_result result = { .struct_size = sizeof result };
        uint64_t resumed = 99;
        struct run *run;

        unlink(path);
        setup.stop_after = stop;
        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, 0);
        ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
        close_run(run);

        setup.stop_after = 0;
        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, stop);
        ck_assert_uint_ge(run->host->counts[MOCK_WEIGHTS_WRITTEN],
                          MOCK_PARAMETERS);
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
        ck_assert(mock_weights_equal(run->host, weights));
        ck_assert_uint_eq(result.steps, STEPS);
        ck_assert_double_eq(result.loss, expected.loss);
        ck_assert_double_eq(result.anchor_gradient_ratio,
                            expected.anchor_gradient_ratio);
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* A child trains, one checkpoint a step, and is killed at some moment; then
 * another goes on.  Only a child that comes to the end writes its weights. */
static void train_in_child(const struct setup *setup, const char *weights_path)
{
    struct run *run = open_run(setup);
    float weights[MAX_WEIGHTS] = { 0 };

    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    mock_copy_weights(run->host, weights);
    put_file(weights_path, weights, sizeof weights);
    _exit(0);
}

START_TEST(killed_run_ends_with_the_bits_of_one_that_was_not)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];
    char result[256];
    char *found;
    size_t size;
    size_t kills = 0;
    int code = -1;

    setup.steps = 60;
    train(&setup, weights, NULL);
    make_path(directory, path);
    in_directory(directory, "weights", result);
    setup.checkpoint = path;
    for (size_t child = 0; code != 0; child++) {
        const pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            train_in_child(&setup, result);
        /* Longer each time, so that it comes to an end on any machine. */
        usleep((useconds_t)((child * 7919) % 23 + child * child / 4) * 1000);
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &code, 0), pid);
        ck_assert(WIFSIGNALED(code) || code == 0);
        kills += WIFSIGNALED(code);
        ck_assert_uint_lt(child, 400);
    }
    ck_assert_uint_gt(kills, 0);
    found = get_file(result, &size);
    ck_assert_uint_eq(size, sizeof weights);
    ck_assert_mem_eq(found, weights, sizeof weights);
    free(found);
    remove_directory(directory);
}
END_TEST

/* Write the checkpoint of a run that was stopped after 2 steps. */
static void make_checkpoint(const char *path)
{
    struct setup setup = with_checkpoint(rich, path);
    struct run *run;

    setup.stop_after = 2;
    run = open_run(&setup);
    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
    close_run(run);
}

static void refuse_damaged(const struct run *run, size_t at)
{
    const qrb_status status = qrb_trainer_resume(run->trainer, NULL);

    ck_assert_msg(status == QRB_E_FORMAT || status == QRB_E_UNSUPPORTED,
                  "byte %zu: %s: %s", at, qrb_status_name(status),
                  qrb_context_message(run->ctx));
    ck_assert_ptr_nonnull(strstr(qrb_context_message(run->ctx), "run.ckpt"));
}

START_TEST(damaged_checkpoint_is_refused_whatever_byte_it_is)
{
    char directory[64];
    char path[256];
    char *bytes;
    size_t size;
    struct setup setup;
    struct run *run;
    int file;

    make_path(directory, path);
    make_checkpoint(path);
    bytes = get_file(path, &size);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    file = open(path, O_RDWR);
    ck_assert_int_ge(file, 0);
    for (size_t i = 0; i < size; i++) {
        const char flipped = (char)(bytes[i] ^ 0x10);

        ck_assert_int_eq(pwrite(file, &flipped, 1, (off_t)i), 1);
        refuse_damaged(run, i);
        ck_assert_int_eq(pwrite(file, &bytes[i], 1, (off_t)i), 1);
    }
    for (size_t left = size; left-- > 0;)
        if (left % 7 == 0 || size - left < 64) { /* cut off, not at each */
            ck_assert_int_eq(ftruncate(file, (off_t)left), 0);
            refuse_damaged(run, left);
        }
    close(file);
    ck_assert(mock_weights_equal(run->host, run->steps[0]));
    /* What was refused did no harm: the whole file goes on. */
    put_file(path, bytes, size);
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    free(bytes);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_another_run_is_refused_by_what_differs)
{
    const struct {
        struct setup setup;
        const char *words;
    } cases[] = {
        { { .accumulation = 2,
            .anchored = true,
            .run_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another seed" },
        { { .accumulation = 2,
            .anchored = true,
            .text_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another text" },
        { { .accumulation = 3,
            .anchored = true,
            .schedule = QRB_SCHEDULE_COSINE },
          "another options" },
        { { .accumulation = 2,
            .anchored = true,
            .lr = 0.03,
            .schedule = QRB_SCHEDULE_COSINE },
          "another options" },
        { { .accumulation = 2, .anchored = true }, "another options" },
        { { .accumulation = 2, .schedule = QRB_SCHEDULE_COSINE },
          "another noise" },
        { { .accumulation = 2,
            .anchored = true,
            .anchor_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another noise" },
    };
    char directory[64];
    char path[256];

    make_path(directory, path);
    make_checkpoint(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct setup setup = with_checkpoint(cases[i].setup, path);
        struct run *run = open_run(&setup);

        ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                     QRB_E_FORMAT, cases[i].words);
        ck_assert(mock_weights_equal(run->host, run->steps[0]));
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_a_run_that_began_with_other_weights_is_refused)
{
    struct setup setup = rich;
    char directory[64];
    char path[256];
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup.checkpoint = path;
    setup.seed = 3;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_FORMAT,
                 "began with other weights; remove it");
    ck_assert(mock_weights_equal(run->host, run->steps[0]));
    close_run(run);
    remove_directory(directory);
}
END_TEST

/* A host that stopped a run and resumes it without a new process: its weights
 * are those of the checkpoint.  What the run began with is kept through it. */
START_TEST(stopped_run_is_resumed_by_the_model_that_was_stopped)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    uint64_t resumed = 0;
    char directory[64];
    char path[256];
    struct run *run;

    train(&setup, weights, NULL);
    make_path(directory, path);
    setup.checkpoint = path;
    setup.stop_after = 3;
    run = open_run(&setup);
    for (uint64_t stop = 3; stop <= 6; stop += 3) {
        run->setup.stop_after = stop;
        ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
        qrb_trainer_destroy(run->trainer);
        ASSERT_OK(run->ctx, open_trainer(run));
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, stop);
    }
    close_run(run);
    run =
        open_run(&setup); /* the checkpoint of step 6, and weights of step 0 */
    run->setup.stop_after = 0;
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, 6);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ck_assert(mock_weights_equal(run->host, weights));
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_another_model_is_refused)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *tensor = NULL;
    char directory[64];
    char path[256];
    struct setup setup;
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    shape.rank = 1;
    shape.shape[0] = 3;
    ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &shape, &tensor));
    parameter.name = "one.more";
    parameter.weight = tensor;
    ASSERT_OK(run->ctx,
              qrb_model_add_parameter(run->host->model, &parameter, NULL));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_FORMAT,
                 "another model");
    qrb_trainer_destroy(run->trainer);
    run->trainer = NULL;
    qrb_noise_destroy(run->noise);
    run->noise = NULL;
    mock_host_destroy(run->host);
    run->host = NULL;
    qrb_tensor_destroy(tensor);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(resume_is_refused_where_it_makes_no_sense)
{
    struct setup setup = rich;
    uint64_t resumed = 99;
    char directory[64];
    char path[256];
    struct run *run = open_run(&setup);

    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_STATE,
                 "no checkpoint");
    close_run(run);
    make_path(directory, path);
    setup = with_checkpoint(setup, path);
    run = open_run(&setup);
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, 0);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, &resumed),
                 QRB_E_STATE, "has begun");
    close_run(run);
    run = open_run(&setup); /* a complete run: nothing is left to do */
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, STEPS);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(perturbed_weights_are_not_resumed_over)
{
    const qrb_attack_options attack = { sizeof attack, 0.1, 0, 0, 0 };
    char directory[64];
    char path[256];
    struct setup setup;
    qrb_noise *noise = NULL;
    struct run *run;

    make_path(directory, path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    ASSERT_OK(run->ctx, qrb_noise_create_attack(run->ctx, &attack, &noise));
    ASSERT_OK(run->ctx, qrb_noise_bind(noise, run->host->model, NULL));
    ASSERT_OK(run->ctx, qrb_perturb_begin(noise));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_STATE,
                 "perturbed");
    qrb_noise_destroy(noise);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(host_that_stops_at_a_resume_hears_of_every_weight)
{
    char directory[64];
    char path[256];
    struct setup setup;
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    run->host->calls = 0;
    run->host->fail_at = 1;
    run->host->fail_code = -9;
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                 QRB_E_CALLBACK, "weights_written");
    ck_assert_int_eq(qrb_context_callback_code(run->ctx), -9);
    ck_assert_uint_eq(run->host->counts[MOCK_WEIGHTS_WRITTEN], MOCK_PARAMETERS);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_that_cannot_be_written_stops_the_run)
{
    struct setup setup = with_checkpoint(rich, "/nowhere/at/all/run.ckpt");
    struct run *run;

    setup.every = 2;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL), QRB_E_IO,
                 "/nowhere/at/all");
    ck_assert(mock_weights_equal(run->host, run->steps[2]));
    close_run(run);
}
END_TEST

/* Every call of the host fails once, with checkpoints far apart: the file has
 * the last complete step, and resumed it ends as a run that never failed. */
START_TEST(failed_run_leaves_a_checkpoint_of_its_last_complete_step)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];
    bool ended = false;

    setup.steps = 3;
    train(&setup, weights, NULL);
    make_path(directory, path);
    setup.checkpoint = path;
    setup.every = 100;
    for (size_t call = 1; !ended; call++) {
        struct run *run = open_run(&setup);
        uint64_t resumed = 99;
        qrb_status status;

        unlink(path);
        run->host->fail_at = call;
        run->host->fail_code = -7;
        status = qrb_trainer_run(run->trainer, NULL);
        ended = run->host->calls < call;
        ck_assert_int_eq(status, ended ? QRB_OK : QRB_E_CALLBACK);
        if (!ended)
            ck_assert_int_eq(qrb_context_callback_code(run->ctx), -7);
        /* What weights_written answers comes after its step. */
        ck_assert_int_eq(access(path, R_OK) == 0,
                         !mock_weights_equal(run->host, run->steps[0]));
        close_run(run);

        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_le(resumed, 3);
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
        ck_assert(mock_weights_equal(run->host, weights));
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* The directory of the checkpoint went away: what stopped the run is told,
 * unless it was a cancellation, which promises the checkpoint. */
START_TEST(first_failure_is_told_if_the_last_checkpoint_fails_too)
{
    struct setup setup = rich;
    char directory[64];
    char path[256];

    setup.every = 100;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct run *run;

        make_path(directory, path);
        setup.checkpoint = path;
        setup.stop_after = cancelled ? 1 : 0;
        run = open_run(&setup);
        remove_directory(directory);
        /* Calls: set_mode; step 0, which is zero_grad, two loss_and_grad, one
         * weights_written for each parameter, and the anchor's two; and the
         * zero_grad of step 1. */
        run->host->fail_at = cancelled ? 0 : 1 + 3 + MOCK_PARAMETERS + 2 + 1;
        run->host->fail_code = -7;
        ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL),
                     cancelled ? QRB_E_IO : QRB_E_CALLBACK,
                     cancelled ? "qrobust-test-" : "zero_grad");
        if (!cancelled)
            ck_assert_int_eq(qrb_context_callback_code(run->ctx), -7);
        ck_assert(mock_weights_equal(run->host, run->steps[1]));
        close_run(run);
    }
}
END_TEST

/* The weight of fc1 lies column by column. */
START_TEST(strided_weights_come_back_from_a_checkpoint)
{
    float memory[2][MOCK_HIDDEN * MOCK_DIM];
    float expected[MOCK_HIDDEN * MOCK_DIM];
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    char directory[64];
    char path[256];
    struct setup setup;

    make_path(directory, path);
    setup = with_checkpoint((struct setup){ 0 }, path);
    setup.adjust = give_boundless_loss; /* does not look at the weights */
    for (int i = 0; i < (int)(MOCK_HIDDEN * MOCK_DIM); i++)
        memory[1][i] = 0.01f * (float)i;
    for (int part = 0; part < 2; part++) {
        struct run *run = open_run(&setup);
        qrb_tensor *weight = NULL;
        qrb_tensor *gradient = NULL;

        for (int i = 0; i < (int)(MOCK_HIDDEN * MOCK_DIM); i++)
            memory[0][i] = cosf((float)i);
        view.rank = 2;
        view.shape[0] = MOCK_HIDDEN;
        view.shape[1] = MOCK_DIM;
        view.strides[0] = sizeof(float);
        view.strides[1] = MOCK_HIDDEN * sizeof(float);
        view.memory = memory[0];
        ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &view, &weight));
        view.memory = memory[1];
        ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &view, &gradient));
        ASSERT_OK(run->ctx, qrb_model_weights_changed(
                                run->host->model, MOCK_FC1, weight, gradient));
        if (part == 0) {
            run->setup.stop_after = 2;
            ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL),
                             QRB_E_CANCELLED);
            memcpy(expected, memory[0], sizeof expected);
        } else {
            ck_assert_mem_ne(memory[0], expected, sizeof expected);
            memory[0][1] += 1.0f;
            ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                         QRB_E_FORMAT, "other weights");
            memory[0][1] = cosf(1.0f);
            ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
            ck_assert_mem_eq(memory[0], expected, sizeof expected);
        }
        qrb_tensor_destroy(weight);
        qrb_tensor_destroy(gradient);
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* Create, resume, train with a checkpoint at each step; arg is its path. */
static qrb_status whole_run(qrb_context *ctx, void *arg)
{
    struct run *run = calloc(1, sizeof *run);
    qrb_status status;

    ck_assert_ptr_nonnull(run);
    run->setup = with_checkpoint(rich, arg);
    run->setup.steps = 2;
    run->ctx = ctx;
    status = open_parts(run);
    if (status == QRB_OK)
        status = open_trainer(run);
    if (status == QRB_OK)
        status = qrb_trainer_resume(run->trainer, NULL);
    if (status == QRB_OK)
        status = qrb_trainer_run(run->trainer, NULL);
    run->ctx = NULL; /* the loop's own */
    close_run(run);
    return status;
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    char directory[64];
    char path[256];

    make_path(directory, path);
    fail_each_allocation(whole_run, path); /* the file is made on the way */
    fail_each_allocation(whole_run, path); /* and resumed */
    remove_directory(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trainer");
    TCase *loop = tcase_create("loop");
    TCase *end = tcase_create("end");
    TCase *checkpoint = tcase_create("checkpoint");

    tcase_set_timeout(loop, 60);
    tcase_set_timeout(end, 60);
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
    tcase_set_timeout(checkpoint, 60);
    tcase_add_test(checkpoint, cancelled_run_keeps_its_step_and_its_figures);
    tcase_add_loop_test(
        checkpoint, resumed_run_has_the_bits_of_one_that_was_not_stopped, 0, 2);
    tcase_add_test(checkpoint,
                   killed_run_ends_with_the_bits_of_one_that_was_not);
    tcase_add_test(checkpoint,
                   damaged_checkpoint_is_refused_whatever_byte_it_is);
    tcase_add_test(checkpoint,
                   checkpoint_of_another_run_is_refused_by_what_differs);
    tcase_add_test(checkpoint, checkpoint_of_another_model_is_refused);
    tcase_add_test(
        checkpoint,
        checkpoint_of_a_run_that_began_with_other_weights_is_refused);
    tcase_add_test(checkpoint,
                   stopped_run_is_resumed_by_the_model_that_was_stopped);
    tcase_add_test(checkpoint, resume_is_refused_where_it_makes_no_sense);
    tcase_add_test(checkpoint, perturbed_weights_are_not_resumed_over);
    tcase_add_test(checkpoint,
                   host_that_stops_at_a_resume_hears_of_every_weight);
    tcase_add_test(checkpoint, checkpoint_that_cannot_be_written_stops_the_run);
    tcase_add_test(checkpoint,
                   failed_run_leaves_a_checkpoint_of_its_last_complete_step);
    tcase_add_test(checkpoint,
                   first_failure_is_told_if_the_last_checkpoint_fails_too);
    tcase_add_test(checkpoint, strided_weights_come_back_from_a_checkpoint);
    tcase_add_test(checkpoint,
                   every_failed_allocation_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, checkpoint);
    return run_suite(suite);
}
