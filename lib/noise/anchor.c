/* A pull towards frozen weights (methods 4.4): the loss L_anchor in three
 * normalisations, added to the gradient or applied behind the optimizer, and
 * the ratio that shows whether the pull is felt at all.  Memory is one copy of
 * the bound weights; nothing is allocated in a step. */
#include "noise/anchor.h"

#include <math.h>

#include "io/sha256.h"

static struct qrb__anchor *anchor_of(qrb_noise *noise)
{
    return (struct qrb__anchor *)noise; /* its first member */
}

static qrb_status bound(qrb_noise *noise)
{
    struct qrb__anchor *anchor = anchor_of(noise);

    anchor->elements = 0.0;
    for (size_t p = 0; p < noise->binding.count; p++) {
        const struct qrb__parameter *parameter = noise->binding.parameters[p];

        if (anchor->options.application == QRB_ANCHOR_GRADIENT &&
            parameter->gradient.memory == NULL)
            return qrb__fail(noise->ctx, QRB_E_INVALID_ARG,
                             "%s: has no gradient for an anchor to add to",
                             parameter->name);
        anchor->elements += (double)qrb__view_elements(&parameter->weight);
    }
    return QRB_OK;
}

static void free_weights(qrb_context *ctx, struct qrb__view *weights,
                         size_t count)
{
    if (weights != NULL)
        for (size_t p = 0; p < count; p++)
            qrb__free(ctx, weights[p].memory);
    qrb__free(ctx, weights);
}

static void unbound(qrb_noise *noise)
{
    struct qrb__anchor *anchor = anchor_of(noise);

    free_weights(noise->ctx, anchor->weights, noise->binding.count);
    anchor->weights = NULL;
}

static qrb_status check_set(const struct qrb__anchor *anchor)
{
    if (anchor->weights != NULL)
        return QRB_OK;
    return qrb__fail(anchor->noise.ctx, QRB_E_STATE,
                     "the anchor has no weights: call qrb_anchor_snapshot() "
                     "or qrb_anchor_set_from() first");
}

static qrb_status add_grad(qrb_noise *noise, double *loss_out)
{
    struct qrb__anchor *anchor = anchor_of(noise);
    struct qrb__anchor_measure now;
    qrb_status status;

    status = check_set(anchor);
    if (status != QRB_OK)
        return status;
    now = qrb__anchor_measure(anchor);
    anchor->ratio = now.ratio;
    qrb__log(noise->ctx, QRB_LOG_DEBUG,
             "anchor: distance %g, pull over gradient %g", now.distance,
             now.ratio);
    if (anchor->options.application != QRB_ANCHOR_GRADIENT ||
        anchor->options.strength == 0.0)
        return QRB_OK;
    qrb__anchor_add_gradient(anchor);
    *loss_out = now.loss;
    return QRB_OK;
}

static qrb_status post_step(qrb_noise *noise, double lr)
{
    const struct qrb__anchor *anchor = anchor_of(noise);
    const double c = lr * anchor->options.strength;
    qrb_status status;

    status = check_set(anchor);
    if (status != QRB_OK)
        return status;
    if (anchor->options.application == QRB_ANCHOR_GRADIENT || c == 0.0)
        return QRB_OK;
    if (!isfinite(c))
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG,
                         "anchor: lr %g times strength %g is too large", lr,
                         anchor->options.strength);
    /* (w + c a) / (1 + c) = w - c / (1 + c) (w - a), which leaves w = a
     * untouched to the last bit. */
    qrb__anchor_pull(anchor, anchor->options.application == QRB_ANCHOR_PROXIMAL
                                 ? c / (1.0 + c)
                                 : c);
    return qrb__noise_written(noise);
}

static void digest(const qrb_noise *noise, struct qrb__sha256 *hash)
{
    const struct qrb__anchor *anchor = (const struct qrb__anchor *)noise;

    qrb__sha256_add(hash, &anchor->options, sizeof anchor->options);
    if (anchor->weights == NULL)
        return;
    for (size_t p = 0; p < noise->binding.count; p++) {
        const struct qrb__view *view = &anchor->weights[p];

        qrb__sha256_add(hash, view->memory,
                        qrb__view_elements(view) * qrb_dtype_size(view->dtype));
    }
}

static const struct qrb__noise_kind kind = {
    .name = "an anchor",
    .bound = bound,
    .add_grad = add_grad,
    .post_step = post_step,
    .unbound = unbound,
    .digest = digest,
};

qrb_status qrb_noise_create_anchor(qrb_context *ctx,
                                   const qrb_anchor_options *options,
                                   qrb_noise **out)
{
    qrb_anchor_options known = QRB_ANCHOR_OPTIONS_INIT;
    struct qrb__anchor *anchor;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status =
        qrb__options_copy(ctx, options, sizeof known, "anchor options", &known);
    if (status != QRB_OK)
        return status;
    if (!(known.strength >= 0.0 && isfinite(known.strength)))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "anchor: strength is %g; it is at least 0 and finite",
                         known.strength);
    if (known.normalisation > QRB_ANCHOR_MEAN_GLOBAL ||
        known.application > QRB_ANCHOR_PROXIMAL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "anchor: normalisation is %u (0..%d), application "
                         "%u (0..%d)",
                         known.normalisation, QRB_ANCHOR_MEAN_GLOBAL,
                         known.application, QRB_ANCHOR_PROXIMAL);
    anchor = qrb__alloc_array(ctx, 1, sizeof *anchor);
    if (anchor == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "anchor");
    anchor->noise.ctx = ctx;
    anchor->noise.kind = &kind;
    anchor->options = known;
    anchor->ratio = NAN;
    *out = &anchor->noise;
    return QRB_OK;
}

static qrb_status check_kind(const qrb_noise *noise)
{
    if (noise->kind == &kind)
        return QRB_OK;
    return qrb__fail(noise->ctx, QRB_E_INVALID_ARG, "%s is no anchor",
                     noise->kind->name);
}

qrb_status qrb__anchor_check(const qrb_noise *noise)
{
    const qrb_status status = check_kind(noise);

    if (status != QRB_OK || noise->binding.count != 0)
        return status;
    return qrb__fail(noise->ctx, QRB_E_STATE,
                     "the anchor is not bound: call qrb_noise_bind() first");
}

qrb_status qrb__anchor_set(qrb_noise *noise, const struct qrb__view *views)
{
    const struct qrb__binding *binding = &noise->binding;
    struct qrb__anchor *anchor = anchor_of(noise);
    struct qrb__view *weights = NULL;
    qrb_status status = QRB_OK;

    weights = qrb__alloc_array(noise->ctx, binding->count, sizeof *weights);
    if (weights == NULL)
        return qrb__fail(noise->ctx, QRB_E_NO_MEMORY,
                         "anchor of %zu parameters", binding->count);
    for (size_t p = 0; p < binding->count && status == QRB_OK; p++) {
        const struct qrb__view *weight = &binding->parameters[p]->weight;
        void *memory = qrb__alloc_array(noise->ctx, qrb__view_elements(weight),
                                        qrb_dtype_size(weight->dtype));

        weights[p] =
            qrb__view_make(weight->dtype, weight->rank, weight->shape, memory);
        status = memory == NULL
                     ? qrb__fail(noise->ctx, QRB_E_NO_MEMORY, "anchor of %s",
                                 binding->parameters[p]->name)
                     : qrb__view_copy(noise->ctx, &views[p], &weights[p]);
    }
    if (status == QRB_OK) {
        struct qrb__view *old = anchor->weights;

        anchor->weights = weights;
        anchor->ratio = NAN;
        weights = old;
    }
    free_weights(noise->ctx, weights, binding->count);
    return status;
}

qrb_status qrb_anchor_snapshot(qrb_noise *noise)
{
    struct qrb__view *views;
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(noise->ctx, __func__);
    if (status == QRB_OK)
        status = qrb__anchor_check(noise);
    if (status != QRB_OK)
        return status;
    views = qrb__alloc_array(noise->ctx, noise->binding.count, sizeof *views);
    if (views == NULL)
        return qrb__fail(noise->ctx, QRB_E_NO_MEMORY,
                         "anchor of %zu parameters", noise->binding.count);
    for (size_t p = 0; p < noise->binding.count; p++)
        views[p] = noise->binding.parameters[p]->weight;
    status = qrb__anchor_set(noise, views);
    qrb__free(noise->ctx, views);
    return status;
}

/* What the getters share. */
/* On behalf of a public function. */
static qrb_status measure_now(const qrb_noise *noise, const char *function,
                              const double *out,
                              struct qrb__anchor_measure *now)
{
    const struct qrb__anchor *anchor = (const struct qrb__anchor *)noise;
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(noise->ctx, function);
    if (status != QRB_OK)
        return status;
    if (out == NULL)
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG, "out is NULL");
    status = qrb__anchor_check(noise);
    if (status == QRB_OK)
        status = check_set(anchor);
    if (status == QRB_OK)
        *now = qrb__anchor_measure(anchor);
    return status;
}

qrb_status qrb_anchor_distance(const qrb_noise *noise, double *out)
{
    struct qrb__anchor_measure now;
    const qrb_status status = measure_now(noise, __func__, out, &now);

    if (status == QRB_OK)
        *out = now.distance;
    return status;
}

qrb_status qrb_anchor_loss(const qrb_noise *noise, double *out)
{
    struct qrb__anchor_measure now;
    const qrb_status status = measure_now(noise, __func__, out, &now);

    if (status == QRB_OK)
        *out = now.loss;
    return status;
}

double qrb_anchor_gradient_ratio(const qrb_noise *noise)
{
    if (noise == NULL || noise->kind != &kind)
        return NAN;
    return ((const struct qrb__anchor *)noise)->ratio;
}
