/* Where noises, which know arrays, meet the registry, which knows names. */
#include "model/model.h"
#include "noise/noise.h"

static qrb_status written(void *model, size_t parameter)
{
    return qrb__model_weights_written(model, parameter);
}

static void unbound(void *self, qrb_noise *noise)
{
    qrb_model *model = self;

    for (qrb_noise **at = &model->noises; *at != NULL; at = &(*at)->next)
        if (*at == noise) {
            *at = noise->next;
            return;
        }
}

qrb_status qrb_noise_bind(qrb_noise *noise, qrb_model *model,
                          const qrb_filter *filter)
{
    struct qrb__binding binding = { 0 };
    size_t selected;
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(noise->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (model == NULL || model->ctx != noise->ctx)
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG, "%s: the model is %s",
                         noise->kind->name,
                         model == NULL ? "NULL" : "of another context");
    status = qrb__filter_count(model, filter, &selected);
    if (status != QRB_OK)
        return status;
    binding.parameters =
        qrb__alloc_array(noise->ctx, selected, sizeof *binding.parameters);
    if (binding.parameters == NULL)
        return qrb__fail(noise->ctx, QRB_E_NO_MEMORY,
                         "%s: binding of %zu parameters", noise->kind->name,
                         selected);
    for (size_t i = 0; i < model->count; i++)
        if (qrb__filter_selects(filter, model->parameters[i]))
            binding.parameters[binding.count++] = model->parameters[i];
    binding.written = written;
    binding.unbound = unbound;
    binding.model = model;
    status = qrb__noise_bind(noise, &binding);
    if (status != QRB_OK) {
        qrb__free(noise->ctx, binding.parameters);
        return status;
    }
    noise->next = model->noises;
    model->noises = noise;
    return QRB_OK;
}

void qrb__model_unbind_all(qrb_model *model)
{
    while (model->noises != NULL)
        qrb__noise_unbind(model->noises); /* takes itself off the list */
}

qrb_status qrb_anchor_set_from(qrb_noise *anchor, const qrb_model *source)
{
    const struct qrb__binding *binding;
    struct qrb__view *views = NULL;
    qrb_context *ctx;
    qrb_status status;

    if (anchor == NULL)
        return QRB_E_INVALID_ARG;
    ctx = anchor->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = qrb__anchor_check(anchor);
    if (status != QRB_OK)
        return status;
    if (source == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "source is NULL");
    binding = &anchor->binding;
    views = qrb__alloc_array(ctx, binding->count, sizeof *views);
    if (views == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "anchor of %zu parameters",
                         binding->count);
    for (size_t i = 0; i < binding->count; i++) {
        const struct qrb__parameter *own = binding->parameters[i];
        const size_t index = qrb_model_find(source, own->name);
        const struct qrb__view *theirs;
        char found[QRB__SHAPE_TEXT];
        char expected[QRB__SHAPE_TEXT];

        if (index == SIZE_MAX) {
            status = qrb__fail(ctx, QRB_E_INVALID_ARG,
                               "%s: the anchor's model has no such parameter",
                               own->name);
            goto out;
        }
        theirs = &source->parameters[index]->weight;
        if (!qrb__view_same_shape(theirs, &own->weight)) {
            status = qrb__fail(
                ctx, QRB_E_SHAPE, "%s: found %s, expected %s", own->name,
                qrb__view_shape_text(theirs, found, sizeof found),
                qrb__view_shape_text(&own->weight, expected, sizeof expected));
            goto out;
        }
        views[i] = *theirs;
    }
    status = qrb__anchor_set(anchor, views);
out:
    qrb__free(ctx, views);
    return status;
}
