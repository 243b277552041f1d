/* Copies of weights for an exact undo: as many bytes as the selected weights
 * have; taking and restoring are one copy each. */
#include "model/model.h"

struct saved {
    const struct qrb__parameter *parameter;
    struct qrb__view copy; /* dense, of the weight's type */
};

struct qrb_snapshot {
    qrb_model *model;
    struct saved *saved; /* [count] */
    size_t count;
};

static qrb_status save(qrb_snapshot *snapshot,
                       const struct qrb__parameter *parameter)
{
    struct saved *saved = &snapshot->saved[snapshot->count];
    qrb_context *ctx = snapshot->model->ctx;
    void *memory;

    memory = qrb__alloc_array(ctx, qrb__view_elements(&parameter->weight),
                              qrb_dtype_size(parameter->weight.dtype));
    if (memory == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "copy of %s", parameter->name);
    saved->parameter = parameter;
    saved->copy =
        qrb__view_make(parameter->weight.dtype, parameter->weight.rank,
                       parameter->weight.shape, memory);
    snapshot->count++;
    return qrb__view_copy(ctx, &parameter->weight, &saved->copy);
}

qrb_status qrb_snapshot_create(qrb_model *model, const qrb_filter *filter,
                               qrb_snapshot **out)
{
    qrb_snapshot *snapshot = NULL;
    size_t selected;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (model == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__filter_count(model, filter, &selected);
    if (status != QRB_OK)
        return status;

    snapshot = qrb__alloc_array(model->ctx, 1, sizeof *snapshot);
    if (snapshot == NULL) {
        status = qrb__fail(model->ctx, QRB_E_NO_MEMORY, "snapshot");
        goto out;
    }
    snapshot->model = model;
    snapshot->saved =
        qrb__alloc_array(model->ctx, selected, sizeof *snapshot->saved);
    if (snapshot->saved == NULL) {
        status = qrb__fail(model->ctx, QRB_E_NO_MEMORY,
                           "snapshot of %zu parameters", selected);
        goto out;
    }
    for (size_t i = 0; i < model->count; i++) {
        if (!qrb__filter_selects(filter, model->parameters[i]))
            continue;
        status = save(snapshot, model->parameters[i]);
        if (status != QRB_OK)
            goto out;
    }
    *out = snapshot;
    snapshot = NULL; /* the caller's from here on */
out:
    qrb_snapshot_destroy(snapshot);
    return status;
}

qrb_status qrb_snapshot_restore(qrb_snapshot *snapshot)
{
    struct qrb__failure failure;
    qrb_status first = QRB_OK;
    qrb_context *ctx;
    qrb_status status;

    if (snapshot == NULL)
        return QRB_E_INVALID_ARG;
    ctx = snapshot->model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < snapshot->count; i++)
        if (snapshot->saved[i].parameter->perturbed)
            return qrb__fail(ctx, QRB_E_STATE, "%s: is perturbed at the moment",
                             snapshot->saved[i].parameter->name);
    for (size_t i = 0; i < snapshot->count; i++) {
        status = qrb__view_copy(ctx, &snapshot->saved[i].copy,
                                &snapshot->saved[i].parameter->weight);
        if (status != QRB_OK)
            return status;
    }
    /* All weights are back before the host hears of any; one that stops
     * still hears of the others, whose caches are stale as well. */
    for (size_t i = 0; i < snapshot->count; i++) {
        status = qrb__model_weights_written(
            snapshot->model, snapshot->saved[i].parameter->index);
        if (first == QRB_OK && status != QRB_OK) {
            first = status;
            qrb__failure_keep(ctx, &failure);
        }
    }
    if (first != QRB_OK)
        qrb__failure_put_back(ctx, &failure);
    return first;
}

void qrb_snapshot_destroy(qrb_snapshot *snapshot)
{
    qrb_context *ctx;

    if (snapshot == NULL)
        return;
    ctx = snapshot->model->ctx;
    for (size_t i = 0; i < snapshot->count; i++)
        qrb__free(ctx, snapshot->saved[i].copy.memory);
    qrb__free(ctx, snapshot->saved);
    qrb__free(ctx, snapshot);
}
