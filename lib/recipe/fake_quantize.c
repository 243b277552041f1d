/* Fake quantization of a whole model: every selected matrix becomes its
 * quantized value, or none does.  The weights before are kept until the last
 * one is done: one copy of the selected weights. */
#include <qrobust/recipe.h>

#include "core/context.h"
#include "model/model.h"
#include "recipe/weights.h"

static qrb_status quantize_parameter(qrb_model *model,
                                     const qrb_quantizer *quantizer,
                                     const struct qrb__parameter *parameter)
{
    qrb_tensor matrix = { .ctx = model->ctx };
    qrb_status status;

    if (!qrb__parameter_matrix(parameter, &matrix.view)) {
        char shape[QRB__SHAPE_TEXT];

        return qrb__fail(
            model->ctx, QRB_E_SHAPE,
            "%s: found %s, expected a matrix, or dense filters "
            "that can be seen as one",
            parameter->name,
            qrb__view_shape_text(&parameter->weight, shape, sizeof shape));
    }
    status = qrb_quantizer_fake(quantizer, &matrix);
    if (status != QRB_OK && status != QRB_E_CANCELLED)
        return qrb__fail(model->ctx, status, "%s: %s", parameter->name,
                         qrb_context_message(model->ctx));
    return status;
}

/* Weights change in place; the host hears of them once all have changed. */
static qrb_status quantize_selected(qrb_model *model,
                                    const qrb_quantizer *quantizer,
                                    const qrb_filter *filter)
{
    for (size_t i = 0; i < model->count; i++) {
        qrb_status status = QRB_OK;

        if (qrb__filter_selects(filter, model->parameters[i]))
            status = quantize_parameter(model, quantizer, model->parameters[i]);
        if (status == QRB_OK)
            status = qrb__progress(model->ctx, "quantize", i + 1, model->count);
        if (status != QRB_OK)
            return status;
    }
    return qrb__written_selected(model, filter);
}

qrb_status qrb_fake_quantize(qrb_model *model, const qrb_quantizer *quantizer,
                             const qrb_filter *filter)
{
    qrb_snapshot *before = NULL;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (quantizer == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "quantizer is NULL");
    status = qrb__refuse_selected(model, filter, 0);
    if (status == QRB_OK)
        status = qrb_snapshot_create(model, filter, &before);
    if (status != QRB_OK)
        return status;
    status = quantize_selected(model, quantizer, filter);
    if (status != QRB_OK)
        status = qrb__undo(model->ctx, before, status);
    qrb_snapshot_destroy(before);
    return status;
}
