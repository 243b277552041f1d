/* One step of training.
 *
 * A step is: gradients of `accumulation` microbatches, each with the weight
 * 1 / accumulation; the noises' gradients; one update of the optimizer; the
 * noises' pulls.  The optimizer refuses a bad gradient before it changes a
 * weight, and a host that stops later is heard when the step is complete, so
 * that weights are always those of the last complete step.  A batch that the host calls unusable is
 * replaced by the next one, and because it may have left half a gradient
 * behind, the step's other microbatches are then computed again. */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "model/model.h"
#include "train/schedule.h"
#include "train/trainer.h"

/* What one step has added up. */
struct step {
    struct qrb__progress_state state; /* as it is when the step completes */
    qrb_pass *pass;
    size_t fixed; /* drawn batches that are known to be usable */
    size_t skips; /* since one was fixed */
    double loss;
    uint64_t scored;
};

static qrb_status next_batch(qrb_trainer *trainer, struct step *step,
                             size_t microbatch, qrb_token_batch *tokens,
                             struct qrb__batch *out, bool *skipped)
{
    struct qrb__drawn *drawn = &trainer->drawn[microbatch];
    qrb_status status;

    *skipped = false;
    if (microbatch == step->fixed) {
        drawn->index = step->state.cursor++;
        drawn->epoch = step->state.epoch;
    }
    if (trainer->dataset != NULL) {
        tokens->struct_size = sizeof *tokens;
        status = qrb_dataset_batch(trainer->dataset, drawn->index, tokens);
        out->handle = tokens;
        return status;
    }
    status = qrb__model_batch(trainer->model, QRB_STREAM_TRAIN, drawn->index,
                              out, skipped);
    if (status != QRB_OK || *skipped || out->handle != NULL)
        return status;
    /* The stream begins again, in a new epoch. */
    if (drawn->index == 0)
        return qrb__fail(trainer->ctx, QRB_E_STATE,
                         "%s: the stream of batches is empty", trainer->what);
    drawn->epoch = ++step->state.epoch;
    drawn->index = 0;
    step->state.cursor = 1;
    status =
        qrb__model_batch(trainer->model, QRB_STREAM_TRAIN, 0, out, skipped);
    if (status == QRB_OK && !*skipped && out->handle == NULL)
        status = qrb__fail(trainer->ctx, QRB_E_STATE,
                           "%s: the stream of batches is empty", trainer->what);
    return status;
}

/* Forward and backward of one microbatch. */
static qrb_status add_microbatch(qrb_trainer *trainer, struct step *step,
                                 size_t microbatch, bool *skipped)
{
    struct qrb__batch batch = { 0 };
    qrb_token_batch tokens = { 0 };
    double loss = 0.0;
    size_t scored = 0;
    qrb_status status;

    status = next_batch(trainer, step, microbatch, &tokens, &batch, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    status =
        qrb_step_begin(step->pass, step->state.step,
                       trainer->drawn[microbatch].epoch, (uint32_t)microbatch);
    if (status == QRB_OK)
        status = qrb__model_loss_and_grad(
            trainer->model, batch.handle,
            1.0 / (double)trainer->options.accumulation, &loss, &scored,
            skipped);
    qrb__model_batch_release(trainer->model, &batch);
    step->loss += loss / (double)trainer->options.accumulation;
    step->scored += scored;
    return status;
}

/* Gradients of all microbatches.  Skips in a row are counted here as well:
 * computing the good microbatches again resets the model's own count. */
static qrb_status accumulate(qrb_trainer *trainer, struct step *step)
{
    size_t microbatch = 0;

    while (microbatch < trainer->options.accumulation) {
        bool skipped = false;
        qrb_status status;

        if (microbatch == 0) {
            step->loss = 0.0;
            step->scored = 0;
            status = qrb__model_zero_grad(trainer->model);
            if (status != QRB_OK)
                return status;
        }
        status = add_microbatch(trainer, step, microbatch, &skipped);
        if (status != QRB_OK)
            return status;
        if (!skipped) {
            if (microbatch == step->fixed) {
                step->fixed++;
                step->skips = 0;
            }
            microbatch++;
            continue;
        }
        if (++step->skips > QRB__MAX_SKIPS)
            return qrb__fail(trainer->ctx, QRB_E_CALLBACK,
                             "%s: more than %d batches in a row were unusable",
                             trainer->what, QRB__MAX_SKIPS);
        if (microbatch < step->fixed) { /* it was usable a moment ago */
            step->fixed--;
            memmove(&trainer->drawn[microbatch],
                    &trainer->drawn[microbatch + 1],
                    (step->fixed - microbatch) * sizeof *trainer->drawn);
        }
        microbatch = 0;
    }
    return QRB_OK;
}

/* Note the ratio of the first noise that has one. */
static void note_ratio(const qrb_trainer *trainer,
                       struct qrb__progress_state *state)
{
    for (size_t i = 0; i < trainer->noise_count; i++) {
        const double ratio = qrb_anchor_gradient_ratio(trainer->noises[i]);

        if (!isfinite(ratio))
            continue;
        state->ratio_sum += ratio;
        state->ratios++;
        return;
    }
}

qrb_status qrb__train_step(qrb_trainer *trainer, qrb_pass *pass,
                           uint64_t *scored)
{
    struct step step = { .state = trainer->state, .pass = pass };
    const double lr = qrb__schedule_lr(&trainer->options, step.state.step);
    qrb_status status;

    status = accumulate(trainer, &step);
    for (size_t i = 0; i < trainer->noise_count && status == QRB_OK; i++)
        status = qrb_noise_add_grad(trainer->noises[i], NULL);
    if (status == QRB_OK)
        status = qrb__optimizer_update(trainer->optimizer, lr, NULL);
    if (status != QRB_OK)
        return status;
    /* The step is made from here on; what goes wrong is told at its end. */
    for (size_t i = 0; i < trainer->noise_count; i++) {
        const qrb_status pulled = qrb_noise_post_step(trainer->noises[i], lr);

        if (status == QRB_OK)
            status = pulled;
    }
    note_ratio(trainer, &step.state);
    step.state.losses[step.state.step % QRB__RECENT_LOSSES] = step.loss;
    step.state.step++;
    trainer->state = step.state;
    *scored += step.scored;
    qrb_step_end(pass, step.loss);
    if (status != QRB_OK)
        return status;
    return qrb__optimizer_notify(trainer->optimizer);
}
