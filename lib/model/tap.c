/* Taps: what a tensor must look like at each point, and who hears it.  Without
 * listeners a tap is one branch; with listeners it is O(listeners) calls, and
 * nothing is allocated. */
#include "model/pass.h"

bool qrb__tap_point_known(uint32_t point)
{
    const uint32_t base = point & ~(uint32_t)QRB_TAP_GRAD;

    return base >= QRB_TAP_LAYER_INPUT && base <= QRB_TAP_ATTN_PROBS;
}

/* Whether a listener is to be called at a tap. */
static bool hears(const qrb_pass *pass, size_t i, uint32_t point, size_t index)
{
    const struct qrb__listener *listener = &pass->listeners[i].listener;

    if (listener->perturbs && pass->step.mode == QRB_MODE_EVAL)
        return false;
    return listener->wants(listener->self, point, index);
}

int32_t qrb_tap_wanted(const qrb_pass *pass, uint32_t point, size_t index)
{
    if (pass == NULL || !qrb__tap_point_known(point))
        return 0;
    for (size_t i = 0; i < pass->count; i++)
        if (hears(pass, i, point, index))
            return 1;
    return 0;
}

/* A linear or convolution in front of or behind which a tap stands. */
static qrb_status check_linear(const qrb_pass *pass, bool output, size_t index,
                               const struct qrb__view *view)
{
    const struct qrb__parameter *parameter;
    char found[QRB__SHAPE_TEXT];
    char expected[QRB__SHAPE_TEXT];
    size_t channels;
    bool fits;

    if (index >= pass->model->count)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "tap at weight %zu of %zu", index, pass->model->count);
    parameter = pass->model->parameters[index];
    if (parameter->weight.rank != 2 && parameter->weight.rank != 4)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "tap at %s, which is %s: neither linear nor "
                         "convolution",
                         parameter->name,
                         qrb__view_shape_text(&parameter->weight, expected,
                                              sizeof expected));
    channels = parameter->weight.shape[1];
    if (output != ((parameter->flags & QRB_PARAM_TRANSPOSED) != 0))
        channels = parameter->weight.shape[0];
    if (view->rank == 2 && parameter->weight.rank == 2)
        fits = view->shape[1] == channels;
    else if (view->rank == 4 && parameter->weight.rank == 4)
        /* A convolution's weight has in / groups. */
        fits = output ? view->shape[1] == channels
                      : view->shape[1] % channels == 0;
    else
        fits = false;
    if (!fits)
        return qrb__fail(pass->ctx, QRB_E_SHAPE,
                         "%s of %s: found %s, which does not fit the weight "
                         "%s",
                         output ? "output" : "input", parameter->name,
                         qrb__view_shape_text(view, found, sizeof found),
                         qrb__view_shape_text(&parameter->weight, expected,
                                              sizeof expected));
    return QRB_OK;
}

static qrb_status check_attention(const qrb_pass *pass, size_t index,
                                  const struct qrb__view *view)
{
    const qrb_attention *attention = &pass->attention;
    char found[QRB__SHAPE_TEXT];

    if (view->rank != 4)
        return qrb__fail(pass->ctx, QRB_E_SHAPE,
                         "attention of block %zu: found %s, expected [batch, "
                         "heads, query, key]",
                         index,
                         qrb__view_shape_text(view, found, sizeof found));
    if (attention->batch != 0 && attention->batch != view->shape[0])
        return qrb__fail(pass->ctx, QRB_E_SHAPE,
                         "attention of block %zu: found %s, expected [%zu, "
                         "...] as of qrb_pass_set_attention()",
                         index, qrb__view_shape_text(view, found, sizeof found),
                         attention->batch);
    if (attention->mask == QRB_MASK_KEYS)
        for (size_t b = 0; b < attention->batch; b++)
            if (attention->key_length[b] > view->shape[3])
                return qrb__fail(
                    pass->ctx, QRB_E_SHAPE,
                    "attention of block %zu: found %s, but "
                    "key_length[%zu] is %u",
                    index, qrb__view_shape_text(view, found, sizeof found), b,
                    attention->key_length[b]);
    return QRB_OK;
}

static qrb_status check_tap(const qrb_pass *pass, uint32_t point, size_t index,
                            const qrb_tensor *tensor)
{
    const uint32_t base = point & ~(uint32_t)QRB_TAP_GRAD;
    char found[QRB__SHAPE_TEXT];

    if (!qrb__tap_point_known(point))
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "tap at 0x%x, which is no point", point);
    if (tensor == NULL)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "tap at 0x%x, index %zu: no tensor", point, index);
    if (tensor->view.dtype < QRB_F64 || tensor->view.dtype > QRB_BF16)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "tap at 0x%x, index %zu: %s; activations are F64, "
                         "F32, F16 or BF16",
                         point, index, qrb_dtype_name(tensor->view.dtype));
    if (!pass->in_step)
        return qrb__fail(pass->ctx, QRB_E_STATE,
                         "tap at 0x%x, index %zu outside a step: call "
                         "qrb_step_begin() first",
                         point, index);
    if (base == QRB_TAP_LINEAR_INPUT || base == QRB_TAP_LINEAR_OUTPUT)
        return check_linear(pass, base == QRB_TAP_LINEAR_OUTPUT, index,
                            &tensor->view);
    if (base == QRB_TAP_ATTN_LOGITS || base == QRB_TAP_ATTN_PROBS)
        return check_attention(pass, index, &tensor->view);
    if (tensor->view.rank != 2)
        return qrb__fail(
            pass->ctx, QRB_E_SHAPE,
            "input of block %zu: found %s, expected [tokens, "
            "dim]",
            index, qrb__view_shape_text(&tensor->view, found, sizeof found));
    return QRB_OK;
}

qrb_status qrb_tap(qrb_pass *pass, uint32_t point, size_t index,
                   qrb_tensor *tensor)
{
    bool concurrent;
    qrb_status status;

    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    if (pass->count == 0)
        return QRB_OK;
    status = check_tap(pass, point, index, tensor);
    if (status != QRB_OK)
        return status;
    concurrent = (pass->flags & QRB_PASS_CONCURRENT) != 0;
    if (!concurrent && atomic_flag_test_and_set(&pass->tapped))
        return qrb__fail(pass->ctx, QRB_E_STATE,
                         "two taps at a time: the pass was not made with "
                         "QRB_PASS_CONCURRENT");
    for (size_t i = 0; i < pass->count && status == QRB_OK; i++)
        if (hears(pass, i, point, index)) {
            const struct qrb__listener *listener = &pass->listeners[i].listener;

            status = listener->tap(listener->self, &pass->step, point, index,
                                   tensor);
        }
    if (!concurrent)
        atomic_flag_clear(&pass->tapped);
    return status;
}
