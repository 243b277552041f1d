/* The training loop over a model's pull callbacks.  step.c has one of its steps and
 * checkpoint.c the file that a run can go on from. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "core/context.h"
#include "model/model.h"

static qrb_status check_options(qrb_context *ctx,
                                const qrb_trainer_options *options)
{
    if (options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: reserved is %u; it is 0", options->reserved);
    if (options->steps == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: steps is 0; it is at least 1");
    if (!(options->lr >= 0.0) || !isfinite(options->lr))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: lr is %g; it is at least 0 and finite",
                         options->lr);
    if (!(options->lr_end >= 0.0 && options->lr_end <= 1.0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: lr_end is %g; it is a fraction in [0, 1]",
                         options->lr_end);
    if (options->schedule > QRB_SCHEDULE_COSINE)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: schedule is %u; constant is 0, cosine 1",
                         options->schedule);
    if (options->accumulation == 0 || options->accumulation > UINT32_MAX)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: accumulation is %zu; it is at least 1 and "
                         "below 2^32",
                         options->accumulation);
    if (options->checkpoint != NULL && options->checkpoint[0] == '\0')
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: the checkpoint's path is empty; NULL means "
                         "none");
    if (options->checkpoint != NULL && options->checkpoint_every == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "trainer: checkpoint_every is 0; it is at least 1");
    return QRB_OK;
}

static qrb_status check_host(const qrb_model *model, const qrb_dataset *dataset)
{
    const qrb_host_callbacks *callbacks = &model->callbacks;

    if (callbacks->loss_and_grad == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "trainer: the model has no loss_and_grad callback");
    if (dataset == NULL && callbacks->batch == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "trainer: no dataset, and the model has no batch "
                         "callback");
    if (dataset != NULL && (callbacks->flags & QRB_HOST_TOKEN_BATCHES) == 0)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "trainer: a dataset, but the model does not take "
                         "token batches (QRB_HOST_TOKEN_BATCHES)");
    return QRB_OK;
}

static qrb_status copy_options(qrb_trainer *trainer,
                               const qrb_trainer_options *options)
{
    const qrb_trainer_options defaults = QRB_TRAINER_OPTIONS_INIT;
    qrb_trainer_options *own = &trainer->options;
    qrb_status status;

    *own = defaults;
    status = qrb__options_copy(trainer->ctx, options, sizeof defaults,
                               "trainer options", own);
    if (status != QRB_OK)
        return status;
    status = check_options(trainer->ctx, own);
    if (status != QRB_OK)
        return status;
    if (own->checkpoint != NULL) {
        trainer->checkpoint = qrb__strdup(trainer->ctx, own->checkpoint);
        if (trainer->checkpoint == NULL)
            return qrb__fail(trainer->ctx, QRB_E_NO_MEMORY, "trainer");
    }
    trainer->what =
        qrb__strdup(trainer->ctx, own->what != NULL ? own->what : "train");
    if (trainer->what == NULL)
        return qrb__fail(trainer->ctx, QRB_E_NO_MEMORY, "trainer");
    own->checkpoint = trainer->checkpoint;
    own->what = trainer->what;
    return QRB_OK;
}

qrb_status qrb_trainer_create(qrb_model *model, qrb_dataset *dataset,
                              const qrb_trainer_options *options,
                              qrb_trainer **out)
{
    qrb_trainer *trainer = NULL;
    qrb_context *ctx;
    qrb_status status;

    if (out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = check_host(model, dataset);
    if (status != QRB_OK)
        return status;

    trainer = qrb__alloc_array(ctx, 1, sizeof *trainer);
    if (trainer == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "trainer");
        goto out;
    }
    trainer->ctx = ctx;
    trainer->model = model;
    trainer->dataset = dataset;
    status = copy_options(trainer, options);
    if (status != QRB_OK)
        goto out;
    trainer->drawn = qrb__alloc_array(ctx, trainer->options.accumulation,
                                        sizeof *trainer->drawn);
    if (trainer->drawn == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "trainer of %zu microbatches",
                           trainer->options.accumulation);
        goto out;
    }
    status = qrb_optimizer_create(model, trainer->options.optimizer,
                                  &trainer->optimizer);
    trainer->options.optimizer = NULL; /* the caller's; the copy is there */
    if (status != QRB_OK)
        goto out;
    status = qrb_pass_create(model, NULL, &trainer->pass);
    if (status != QRB_OK)
        goto out;
    *out = trainer;
    trainer = NULL; /* the caller's from here on */
out:
    qrb_trainer_destroy(trainer);
    return status;
}

void qrb_trainer_destroy(qrb_trainer *trainer)
{
    if (trainer == NULL)
        return;
    qrb_pass_destroy(trainer->pass);
    qrb_optimizer_destroy(trainer->optimizer);
    qrb__free(trainer->ctx, trainer->drawn);
    qrb__free(trainer->ctx, trainer->what);
    qrb__free(trainer->ctx, trainer->checkpoint);
    qrb__free(trainer->ctx, trainer);
}

qrb_status qrb_trainer_add_noise(qrb_trainer *trainer, qrb_noise *noise)
{
    qrb_status status;

    if (trainer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(trainer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (noise == NULL)
        return qrb__fail(trainer->ctx, QRB_E_INVALID_ARG, "noise is NULL");
    if (trainer->state.step > 0 || trainer->digested)
        return qrb__fail(trainer->ctx, QRB_E_STATE,
                         "%s: noises join before the first step",
                         trainer->what);
    if (trainer->noise_count == QRB__MAX_NOISES)
        return qrb__fail(trainer->ctx, QRB_E_STATE,
                         "trainer: it has %d noises, the most it takes",
                         QRB__MAX_NOISES);
    trainer->noises[trainer->noise_count++] = noise;
    return QRB_OK;
}

static double seconds_since(const struct timespec *start)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - start->tv_sec) +
           1e-9 * (double)(now.tv_nsec - start->tv_nsec);
}

static double recent_loss(const struct qrb__progress_state *state)
{
    const uint64_t count =
        state->step < QRB__RECENT_LOSSES ? state->step : QRB__RECENT_LOSSES;
    double sum = 0.0;

    for (uint64_t i = 0; i < count; i++)
        sum += state->losses[i];
    return count > 0 ? sum / (double)count : NAN;
}

static qrb_status report(const qrb_trainer *trainer, uint64_t scored,
                         double seconds)
{
    const struct qrb__progress_state *state = &trainer->state;
    const double loss = state->losses[(state->step - 1) % QRB__RECENT_LOSSES];
    char text[160];

    snprintf(text, sizeof text, "%.80s: loss %.4f, %.0f tokens/s",
             trainer->what, loss,
             seconds > 0.0 ? (double)scored / seconds : 0.0);
    return qrb__progress(trainer->ctx, text, state->step,
                         trainer->options.steps);
}

/* Write the checkpoint unless the file holds this very step already. */
static qrb_status save(qrb_trainer *trainer)
{
    qrb_status status = QRB_OK;

    if (trainer->checkpoint != NULL && trainer->saved != trainer->state.step)
        status = qrb__checkpoint_save(trainer);
    if (status == QRB_OK)
        trainer->saved = trainer->state.step;
    return status;
}

/* The same at the end of a run that failed, whose status and message stay if
 * this fails as well; one that was cancelled would be told to be kept, though,
 * so that then the file's failure is what counts. */
static qrb_status save_after(qrb_trainer *trainer, qrb_status status)
{
    struct qrb__failure failure;
    qrb_status saved;

    qrb__failure_keep(trainer->ctx, &failure);
    saved = save(trainer);
    if (saved != QRB_OK && status == QRB_E_CANCELLED)
        return saved;
    qrb__failure_put_back(trainer->ctx, &failure);
    return status;
}

/* Steps until the last one, an error or a cancellation. */
static qrb_status run_steps(qrb_trainer *trainer, qrb_pass *pass,
                            const struct timespec *start, uint64_t *scored)
{
    const qrb_trainer_options *options = &trainer->options;

    while (trainer->state.step < options->steps) {
        qrb_status status = qrb__train_step(trainer, pass, scored);
        const uint64_t step = trainer->state.step;

        if (status == QRB_OK)
            status = report(trainer, *scored, seconds_since(start));
        if (status != QRB_OK)
            return save_after(trainer, status);
        if (options->checkpoint == NULL)
            continue;
        if (step == options->steps || step % options->checkpoint_every == 0)
            status = save(trainer);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

qrb_status qrb_trainer_run(qrb_trainer *trainer, qrb_train_result *out)
{
    qrb_train_result result = { 0 };
    struct timespec start;
    qrb_pass *pass;
    qrb_status status;

    if (trainer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(trainer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__result_check(trainer->ctx, "train result", out);
    if (status != QRB_OK)
        return status;
    status = qrb__model_set_mode(trainer->model, QRB_MODE_TRAIN);
    if (status != QRB_OK)
        return status;

    if (trainer->checkpoint != NULL && trainer->state.step == 0) {
        status = qrb__trainer_digest_weights(trainer, trainer->start);
        if (status != QRB_OK)
            return status;
    }

    trainer->model->skips = 0; /* of earlier calls */
    clock_gettime(CLOCK_MONOTONIC, &start);
    pass = qrb_model_pass(trainer->model);
    if (pass == NULL) {
        status = qrb_model_set_pass(trainer->model, trainer->pass);
        if (status != QRB_OK)
            return status;
    }
    status = run_steps(trainer, pass != NULL ? pass : trainer->pass, &start,
                       &result.tokens);
    if (pass == NULL)
        qrb_model_set_pass(trainer->model, NULL);
    if (out == NULL || (status != QRB_OK && status != QRB_E_CANCELLED))
        return status;
    result.steps = trainer->state.step;
    result.loss = recent_loss(&trainer->state);
    result.seconds = seconds_since(&start);
    result.anchor_gradient_ratio =
        trainer->state.ratios > 0
            ? trainer->state.ratio_sum / (double)trainer->state.ratios
            : NAN;
    qrb__result_copy(&result, sizeof result, out);
    return status;
}
