/* Going on from a checkpoint.  The file is read and checked whole before a
 * weight is written: one more copy of weights and moments while it lasts. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/bytes.h"
#include "io/container.h"
#include "model/model.h"
#include "train/checkpoint.h"

/* What a run is made of; a difference is told by these words. */
static const char *const aspects[QRB__DIGESTS] = {
    [QRB__DIGEST_MODEL] = "model", [QRB__DIGEST_OPTIONS] = "options",
    [QRB__DIGEST_SEED] = "seed",   [QRB__DIGEST_TEXT] = "text",
    [QRB__DIGEST_NOISE] = "noise",
};

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static void unpack_state(const unsigned char *bytes,
                         struct qrb__progress_state *state, uint64_t *updates)
{
    state->step = qrb__load_u64(bytes);
    state->epoch = qrb__load_u64(bytes + 8);
    state->cursor = qrb__load_u64(bytes + 16);
    *updates = qrb__load_u64(bytes + 24);
    state->ratios = qrb__load_u64(bytes + 32);
    state->ratio_sum = double_of(qrb__load_u64(bytes + 40));
    for (size_t i = 0; i < QRB__RECENT_LOSSES; i++)
        state->losses[i] = double_of(qrb__load_u64(bytes + 8 * (6 + i)));
}

/* What differs between the run of the file and this one. */
static qrb_status check_run(const qrb_trainer *trainer,
                            const struct qrb__container *file)
{
    unsigned char digests[QRB__DIGESTS][QRB__SHA256_SIZE];
    const qrb_status status =
        qrb__container_read(file, "run", digests, sizeof digests);

    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < QRB__DIGESTS; i++)
        if (memcmp(digests[i], trainer->digests[i], sizeof digests[i]) != 0)
            return qrb__fail(trainer->ctx, QRB_E_FORMAT,
                             "%s: checkpoint of a run with another %s; remove "
                             "it to begin anew",
                             trainer->checkpoint, aspects[i]);
    return QRB_OK;
}

static qrb_status read_state(const qrb_trainer *trainer,
                             const struct qrb__container *file,
                             struct qrb__progress_state *state,
                             uint64_t *updates)
{
    unsigned char bytes[QRB__STATE_SIZE];
    const qrb_status status =
        qrb__container_read(file, "state", bytes, sizeof bytes);

    if (status != QRB_OK)
        return status;
    unpack_state(bytes, state, updates);
    if (state->step > trainer->options.steps || *updates != state->step ||
        state->ratios > state->step)
        return qrb__fail(trainer->ctx, QRB_E_FORMAT,
                         "%s: step %llu of %llu after %llu updates",
                         trainer->checkpoint, (unsigned long long)state->step,
                         (unsigned long long)trainer->options.steps,
                         (unsigned long long)*updates);
    return QRB_OK;
}

/* Everything is in memory: put it where it belongs. */
static qrb_status take_over(struct qrb__arrays *arrays)
{
    for (size_t i = 0; i < arrays->count; i++) {
        const struct qrb__array *array = &arrays->list[i];
        qrb_status status = QRB_OK;

        if (array->view == NULL)
            memcpy(array->memory, array->copy, array->size);
        else
            status = qrb__array_copy_view(arrays, array, true);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

/* The weights at hand are those that the run began with, as in a new process,
 * or those of the file, as in the one that was stopped: others belong to
 * another run, and taking the file's would pass its model off as theirs.
 * *start becomes the digest of the weights that the run began with. */
static qrb_status check_start(qrb_trainer *trainer,
                              const struct qrb__container *file,
                              const struct qrb__arrays *arrays,
                              unsigned char *start)
{
    unsigned char stored[QRB__SHA256_SIZE];
    unsigned char found[QRB__SHA256_SIZE];
    qrb_status status =
        qrb__container_read(file, "start", start, QRB__SHA256_SIZE);

    if (status == QRB_OK)
        status = qrb__trainer_digest_weights(trainer, found);
    if (status != QRB_OK)
        return status;
    qrb__arrays_digest(arrays, trainer->model->count, stored);
    if (memcmp(found, start, sizeof found) != 0 &&
        memcmp(found, stored, sizeof found) != 0)
        return qrb__fail(trainer->ctx, QRB_E_FORMAT,
                         "%s: checkpoint of a run that began with other "
                         "weights; remove it to begin anew",
                         trainer->checkpoint);
    return QRB_OK;
}

static qrb_status load(qrb_trainer *trainer, const struct qrb__container *file)
{
    struct qrb__arrays arrays = { .ctx = trainer->ctx };
    unsigned char start[QRB__SHA256_SIZE];
    struct qrb__progress_state state;
    uint64_t updates;
    qrb_status status;

    status = check_run(trainer, file);
    if (status == QRB_OK)
        status = read_state(trainer, file, &state, &updates);
    if (status == QRB_OK)
        status = qrb__arrays_list(trainer, &arrays);
    for (size_t i = 0; i < arrays.count && status == QRB_OK; i++) {
        struct qrb__array *array = &arrays.list[i];

        status = qrb__array_make_copy(&arrays, array);
        if (status == QRB_OK)
            status = qrb__container_read(file, array->name, array->copy,
                                         array->size);
    }
    if (status == QRB_OK)
        status = check_start(trainer, file, &arrays, start);
    if (status == QRB_OK)
        status = take_over(&arrays);
    if (status == QRB_OK) {
        memcpy(trainer->start, start, sizeof start);
        trainer->state = state;
        trainer->saved = state.step;
        trainer->optimizer->updates = updates;
    }
    qrb__arrays_free(&arrays);
    return status;
}

/* A parameter that a noise has changed would be restored over ours. */
static qrb_status check_ready(const qrb_trainer *trainer)
{
    const qrb_model *model = trainer->model;

    if (trainer->checkpoint == NULL)
        return qrb__fail(trainer->ctx, QRB_E_STATE,
                         "%s: the options name no checkpoint to resume from",
                         trainer->what);
    if (trainer->state.step > 0)
        return qrb__fail(trainer->ctx, QRB_E_STATE,
                         "%s: a run that has begun cannot be resumed",
                         trainer->what);
    for (size_t i = 0; i < model->count; i++)
        if (model->parameters[i]->perturbed)
            return qrb__fail(trainer->ctx, QRB_E_STATE,
                             "%s: is perturbed at the moment",
                             model->parameters[i]->name);
    return QRB_OK;
}

/* The host hears of all weights, also after it stopped. */
static qrb_status notify(qrb_model *model)
{
    qrb_status first = QRB_OK;

    for (size_t i = 0; i < model->count; i++) {
        const qrb_status status = qrb__model_weights_written(model, i);

        if (first == QRB_OK)
            first = status;
    }
    return first;
}

qrb_status qrb_trainer_resume(qrb_trainer *trainer, uint64_t *resumed_out)
{
    struct qrb__container *file = NULL;
    qrb_status status;

    if (trainer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(trainer->ctx, __func__);
    if (status == QRB_OK)
        status = check_ready(trainer);
    if (status != QRB_OK)
        return status;
    if (access(trainer->checkpoint, F_OK) != 0 && errno == ENOENT) {
        if (resumed_out != NULL)
            *resumed_out = 0;
        return QRB_OK;
    }
    qrb__trainer_digest(trainer);
    status = qrb__container_open_path(trainer->ctx, trainer->checkpoint,
                                      QRB__CONTAINER_TRAINER,
                                      QRB__CHECKPOINT_VERSION, &file);
    if (status == QRB_OK)
        status = load(trainer, file);
    qrb__container_close(file);
    if (status != QRB_OK)
        return status;
    if (resumed_out != NULL)
        *resumed_out = trainer->state.step;
    return notify(trainer->model);
}
