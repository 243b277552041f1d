/* Writing the file that a training run can go on from: a container with the
 * weights of all parameters, the moments, the state of the loop, and digests
 * of all that the rest of the run depends on.
 *
 * Randomness is addressed by (seed, step), so no generator has a state to be
 * saved; what a noise holds (an anchor's weights) is given again by whoever
 * resumes and compared by its digest.  Dense arrays are written from where
 * they lie; strided weights are copied for the time of writing. */
#include "train/checkpoint.h"

#include <stdio.h>
#include <string.h>

#include "io/bytes.h"
#include "io/container.h"
#include "model/model.h"

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static void pack_state(const qrb_trainer *trainer, unsigned char *out)
{
    const struct qrb__progress_state *state = &trainer->state;
    const uint64_t words[6] = { state->step,   state->epoch,
                                state->cursor, trainer->optimizer->updates,
                                state->ratios, bits_of(state->ratio_sum) };

    for (size_t i = 0; i < 6; i++)
        qrb__store_u64(out + 8 * i, words[i]);
    for (size_t i = 0; i < QRB__RECENT_LOSSES; i++)
        qrb__store_u64(out + 8 * (6 + i), bits_of(state->losses[i]));
}

static void add_array(struct qrb__arrays *arrays, const char *kind,
                      size_t index, const struct qrb__view *view, void *memory)
{
    struct qrb__array *array = &arrays->list[arrays->count++];

    snprintf(array->name, sizeof array->name, "%s.%zu", kind, index);
    array->size = qrb__view_elements(view) * qrb_dtype_size(view->dtype);
    array->memory = memory;
    if (memory == NULL && qrb__view_is_dense(view))
        array->memory = view->memory;
    else if (memory == NULL)
        array->view = view;
}

/* Weights of all parameters and the moments of those that are trained. */
qrb_status qrb__arrays_list(qrb_trainer *trainer, struct qrb__arrays *arrays)
{
    const qrb_model *model = trainer->model;
    const qrb_optimizer *optimizer = trainer->optimizer;

    arrays->ctx = trainer->ctx;
    arrays->list =
        qrb__alloc_array(trainer->ctx, model->count + 2 * optimizer->count,
                         sizeof *arrays->list);
    if (arrays->list == NULL)
        return qrb__fail(trainer->ctx, QRB_E_NO_MEMORY,
                         "checkpoint of %zu parameters", model->count);
    for (size_t i = 0; i < model->count; i++)
        add_array(arrays, "weight", i, &model->parameters[i]->weight, NULL);
    for (size_t i = 0; i < optimizer->count; i++) {
        const struct qrb__view *weight = &optimizer->parameters[i]->weight;

        add_array(arrays, "first", i, weight, optimizer->moments[i].first);
        if (optimizer->moments[i].second != NULL)
            add_array(arrays, "second", i, weight,
                      optimizer->moments[i].second);
    }
    return QRB_OK;
}

void qrb__arrays_free(struct qrb__arrays *arrays)
{
    if (arrays->list != NULL)
        for (size_t i = 0; i < arrays->count; i++)
            qrb__free(arrays->ctx, arrays->list[i].copy);
    qrb__free(arrays->ctx, arrays->list);
}

qrb_status qrb__array_make_copy(struct qrb__arrays *arrays,
                                struct qrb__array *array)
{
    array->copy = qrb__alloc_array(arrays->ctx, array->size, 1);
    return array->copy != NULL
               ? QRB_OK
               : qrb__fail(arrays->ctx, QRB_E_NO_MEMORY,
                           "checkpoint: copy of %s", array->name);
}

/* Between strided weights and their dense copy. */
qrb_status qrb__array_copy_view(struct qrb__arrays *arrays,
                                const struct qrb__array *array, bool back)
{
    const struct qrb__view copy = qrb__view_make(
        array->view->dtype, array->view->rank, array->view->shape, array->copy);

    return back ? qrb__view_copy(arrays->ctx, &copy, array->view)
                : qrb__view_copy(arrays->ctx, array->view, &copy);
}

qrb_status qrb__arrays_gather(struct qrb__arrays *arrays)
{
    for (size_t i = 0; i < arrays->count; i++) {
        struct qrb__array *array = &arrays->list[i];
        qrb_status status;

        if (array->view == NULL)
            continue;
        status = qrb__array_make_copy(arrays, array);
        if (status == QRB_OK)
            status = qrb__array_copy_view(arrays, array, false);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

qrb_status qrb__checkpoint_save(qrb_trainer *trainer)
{
    struct qrb__arrays arrays = { .ctx = trainer->ctx };
    unsigned char state[QRB__STATE_SIZE];
    struct qrb__section *sections = NULL;
    size_t count = 0;
    qrb_status status;

    qrb__trainer_digest(trainer);
    pack_state(trainer, state);
    status = qrb__arrays_list(trainer, &arrays);
    if (status == QRB_OK)
        status = qrb__arrays_gather(&arrays);
    if (status != QRB_OK)
        goto out;
    sections =
        qrb__alloc_array(trainer->ctx, arrays.count + 3, sizeof *sections);
    if (sections == NULL) {
        status = qrb__fail(trainer->ctx, QRB_E_NO_MEMORY,
                           "checkpoint of %zu arrays", arrays.count);
        goto out;
    }
    sections[count++] = (struct qrb__section){ "run", trainer->digests,
                                               sizeof trainer->digests };
    sections[count++] = (struct qrb__section){ "start", trainer->start,
                                               sizeof trainer->start };
    sections[count++] = (struct qrb__section){ "state", state, sizeof state };
    for (size_t i = 0; i < arrays.count; i++) {
        const struct qrb__array *array = &arrays.list[i];

        sections[count++] = (struct qrb__section){
            array->name, array->view != NULL ? array->copy : array->memory,
            array->size
        };
    }
    status = qrb__container_write(trainer->ctx, trainer->checkpoint,
                                  QRB__CONTAINER_TRAINER,
                                  QRB__CHECKPOINT_VERSION, sections, count);
out:
    qrb__free(trainer->ctx, sections);
    qrb__arrays_free(&arrays);
    return status;
}
