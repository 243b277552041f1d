/* A training run on the small host, with all that a test may vary in it. */
#ifndef TESTS_TRAINER_RUN_H
#define TESTS_TRAINER_RUN_H

#include <stdbool.h>

#include "harness.h"
#include "mock_host.h"

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

static inline int progress(const char *what, uint64_t done, uint64_t total,
                           void *user)
{
    struct run *run = user;

    ck_assert_uint_le(done, total);
    snprintf(run->what, sizeof run->what, "%s", what);
    run->done = done;
    if (done <= STEPS && run->host != NULL)
        mock_copy_weights(run->host, run->steps[done]);
    return done == run->setup.stop_after && done > 0;
}

static inline void close_run(struct run *run)
{
    qrb_trainer_destroy(run->trainer);
    qrb_dataset_destroy(run->dataset);
    qrb_noise_destroy(run->noise);
    mock_host_destroy(run->anchor);
    mock_host_destroy(run->host);
    qrb_context_destroy(run->ctx);
    free(run);
}

static inline qrb_trainer_options trainer_options(const struct setup *setup)
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
static inline qrb_status open_parts(struct run *run)
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

static inline qrb_status open_trainer(struct run *run)
{
    const qrb_trainer_options options = trainer_options(&run->setup);
    qrb_status status;

    status = qrb_trainer_create(run->host->model, run->dataset, &options,
                                &run->trainer);
    if (status == QRB_OK && run->noise != NULL)
        status = qrb_trainer_add_noise(run->trainer, run->noise);
    return status;
}

static inline struct run *open_run(const struct setup *setup)
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
static inline void train(const struct setup *setup, float *weights,
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

static inline int boundless_loss(const void *batch, double weight,
                                 double *mean_loss, size_t *scored, void *user)
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

static inline void give_boundless_loss(qrb_host_callbacks *callbacks)
{
    callbacks->loss_and_grad = boundless_loss;
}

/* A directory for a checkpoint; its path is made in `path` of 256 bytes. */
static inline void make_path(char *directory, char *path)
{
    make_directory(directory);
    in_directory(directory, "run.ckpt", path);
}

static inline struct setup with_checkpoint(struct setup setup, const char *path)
{
    setup.checkpoint = path;
    return setup;
}

#endif
