/* Selected weights as matrices, and the undo of drivers that change them. */
#include "recipe/weights.h"

#include <string.h>

#include "core/context.h"

bool qrb__parameter_matrix(const struct qrb__parameter *parameter,
                           struct qrb__view *out)
{
    const struct qrb__view *weight = &parameter->weight;
    size_t shape[2];

    if (weight->rank == 2) {
        *out = *weight;
        if ((parameter->flags & QRB_PARAM_TRANSPOSED) != 0) {
            out->shape[0] = weight->shape[1];
            out->shape[1] = weight->shape[0];
            out->strides[0] = weight->strides[1];
            out->strides[1] = weight->strides[0];
        }
        return true;
    }
    if (weight->rank < 2 || !qrb__view_is_dense(weight) ||
        (parameter->flags & QRB_PARAM_TRANSPOSED) != 0)
        return false;
    shape[0] = weight->shape[0];
    shape[1] = qrb__view_elements(weight) / shape[0];
    *out = qrb__view_make(weight->dtype, 2, shape, weight->memory);
    return true;
}

qrb_status qrb__refuse_selected(qrb_model *model, const qrb_filter *filter,
                                uint32_t flags)
{
    size_t selected;
    const qrb_status status = qrb__filter_count(model, filter, &selected);

    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < model->count; i++) {
        const struct qrb__parameter *parameter = model->parameters[i];

        if (!qrb__filter_selects(filter, parameter) ||
            (!parameter->perturbed && (parameter->flags & flags) == 0))
            continue;
        return qrb__fail(model->ctx, QRB_E_STATE, "%s: is %s at the moment",
                         parameter->name,
                         parameter->perturbed ? "perturbed" : "frozen");
    }
    return QRB_OK;
}

qrb_status qrb__written_selected(qrb_model *model, const qrb_filter *filter)
{
    qrb_status first = QRB_OK;

    for (size_t i = 0; i < model->count; i++) {
        qrb_status status;

        if (!qrb__filter_selects(filter, model->parameters[i]))
            continue;
        status = qrb__model_weights_written(model, i);
        if (first == QRB_OK)
            first = status;
    }
    return first;
}

qrb_status qrb__undo(qrb_context *ctx, qrb_snapshot *snapshot,
                     qrb_status status)
{
    const int32_t code = ctx->callback_code;
    char message[sizeof ctx->message];

    memcpy(message, ctx->message, sizeof message);
    qrb_snapshot_restore(snapshot);
    memcpy(ctx->message, message, sizeof message);
    ctx->callback_code = code;
    return status;
}
