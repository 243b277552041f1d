/* A pull towards frozen weights (methods 4.4): the loss L_anchor in three
 * normalisations, added to the gradient or applied behind the optimizer, and
 * the ratio that shows whether the pull is felt at all.  Sums run in double
 * over fixed blocks.  O(elements) time; memory is one copy of the weights. */
#include <math.h>

#include "io/sha256.h"
#include "noise/noise.h"

struct anchor {
    qrb_noise noise;
    qrb_anchor_options options;
    struct qrb__view *weights; /* [parameters], dense; NULL: not set yet */
    double elements;           /* of all parameters */
    double ratio;              /* of the last step; NaN before the first */
};

static struct anchor *anchor_of(qrb_noise *noise)
{
    return (struct anchor *)noise; /* its first member */
}

static qrb_status bound(qrb_noise *noise)
{
    struct anchor *anchor = anchor_of(noise);

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
    struct anchor *anchor = anchor_of(noise);

    free_weights(noise->ctx, anchor->weights, noise->binding.count);
    anchor->weights = NULL;
}

/* L_anchor is the sum over parameters p of scale_p |w_p - a_p|^2. */
static double scale_of(const struct anchor *anchor, size_t p)
{
    const struct qrb__binding *binding = &anchor->noise.binding;

    switch (anchor->options.normalisation) {
    case QRB_ANCHOR_SUM:
        return 0.5;
    case QRB_ANCHOR_MEAN_GLOBAL:
        return 1.0 / anchor->elements;
    default:
        return 1.0 /
               ((double)binding->count *
                (double)qrb__view_elements(&binding->parameters[p]->weight));
    }
}

/* The pull is factor_p (w_p - a_p): d (strength L_anchor) / d w_p, or of the
 * decoupled forms what a unit of learning rate takes off w_p. */
static double factor_of(const struct anchor *anchor, size_t p)
{
    if (anchor->options.application != QRB_ANCHOR_GRADIENT)
        return anchor->options.strength;
    return anchor->options.strength * 2.0 * scale_of(anchor, p);
}

/* Part of a block: elements [first, first + count) of a parameter. */
static size_t chunk_of(const struct qrb__block *block, size_t done)
{
    const size_t left = block->count - done;

    return left < QRB__CHUNK ? left : QRB__CHUNK;
}

static const void *anchor_at(const struct anchor *anchor, size_t p,
                             size_t first)
{
    const struct qrb__view *view = &anchor->weights[p];

    return view->memory + first * qrb_dtype_size(view->dtype);
}

/* |w - a|^2 and |g|^2 of one block. */
static void measure_block(size_t task, size_t worker, void *arg)
{
    const struct anchor *anchor = arg;
    const qrb_noise *noise = &anchor->noise;
    const struct qrb__kernels *kernels = &noise->ctx->kernels;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__parameter *parameter =
        noise->binding.parameters[block.parameter];
    const bool f32 = parameter->weight.dtype == QRB_F32;
    double distance = 0.0;
    double gradient = 0.0;

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t first = block.first + done;
        const size_t n = chunk_of(&block, done);
        const void *a = anchor_at(anchor, block.parameter, first);
        union qrb__chunk w_buffer;
        union qrb__chunk g_buffer;
        const void *w =
            qrb__chunk_load(&parameter->weight, first, n, &w_buffer);
        const void *g;

        distance += f32 ? kernels->f32.squared_distance(w, a, n)
                        : kernels->f64.squared_distance(w, a, n);
        if (parameter->gradient.memory == NULL)
            continue;
        g = qrb__chunk_load(&parameter->gradient, first, n, &g_buffer);
        gradient += f32 ? kernels->f32.dot(g, g, n) : kernels->f64.dot(g, g, n);
    }
    noise->blocks.sums[task][0] = distance;
    noise->blocks.sums[task][1] = gradient;
}

/* What is known of the weights as they are. */
struct measure {
    double distance; /* |w - a|^2 */
    double loss;     /* strength L_anchor */
    double ratio;    /* |pull| / |gradient|, NaN without gradients */
};

static struct measure measure(const struct anchor *anchor)
{
    const qrb_noise *noise = &anchor->noise;
    struct measure all = { 0.0, 0.0, NAN };
    double pull = 0.0;
    double gradient = 0.0;
    bool gradients = false;

    qrb__parallel_for(noise->ctx, qrb__blocks_total(&noise->blocks),
                      measure_block, (void *)(uintptr_t)anchor);
    for (size_t p = 0; p < noise->binding.count; p++) {
        const double distance = qrb__blocks_sum(&noise->blocks, p, 0);
        const double factor = factor_of(anchor, p);

        all.distance += distance;
        all.loss += anchor->options.strength * scale_of(anchor, p) * distance;
        if (noise->binding.parameters[p]->gradient.memory == NULL)
            continue;
        gradients = true;
        pull += factor * factor * distance;
        gradient += qrb__blocks_sum(&noise->blocks, p, 1);
    }
    if (gradients)
        all.ratio = sqrt(pull) / sqrt(gradient);
    return all;
}

/* g += factor (w - a), in double: the paper's factor of 1e-13 is far below
 * what a float sum of two large terms would keep. */
static void add_block(size_t task, size_t worker, void *arg)
{
    const struct anchor *anchor = arg;
    const qrb_noise *noise = &anchor->noise;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__parameter *parameter =
        noise->binding.parameters[block.parameter];
    const double factor = factor_of(anchor, block.parameter);

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t first = block.first + done;
        const size_t n = chunk_of(&block, done);
        const void *a = anchor_at(anchor, block.parameter, first);
        union qrb__chunk w_buffer;
        union qrb__chunk g_buffer;
        const void *w =
            qrb__chunk_load(&parameter->weight, first, n, &w_buffer);
        void *g = qrb__chunk_load(&parameter->gradient, first, n, &g_buffer);

        if (parameter->weight.dtype == QRB_F32)
            for (size_t i = 0; i < n; i++)
                ((float *)g)[i] =
                    (float)(((float *)g)[i] +
                            factor * ((double)((const float *)w)[i] -
                                      ((const float *)a)[i]));
        else
            for (size_t i = 0; i < n; i++)
                ((double *)g)[i] +=
                    factor * (((const double *)w)[i] - ((const double *)a)[i]);
        qrb__chunk_store(&parameter->gradient, first, n, g);
    }
}

static qrb_status check_set(const struct anchor *anchor)
{
    if (anchor->weights != NULL)
        return QRB_OK;
    return qrb__fail(anchor->noise.ctx, QRB_E_STATE,
                     "the anchor has no weights: call qrb_anchor_snapshot() "
                     "or qrb_anchor_set_from() first");
}

static qrb_status add_grad(qrb_noise *noise, double *loss_out)
{
    struct anchor *anchor = anchor_of(noise);
    struct measure now;
    qrb_status status;

    status = check_set(anchor);
    if (status != QRB_OK)
        return status;
    now = measure(anchor);
    anchor->ratio = now.ratio;
    qrb__log(noise->ctx, QRB_LOG_DEBUG,
             "anchor: distance %g, pull over gradient %g", sqrt(now.distance),
             now.ratio);
    if (anchor->options.application != QRB_ANCHOR_GRADIENT ||
        anchor->options.strength == 0.0)
        return QRB_OK;
    qrb__parallel_for(noise->ctx, qrb__blocks_total(&noise->blocks), add_block,
                      anchor);
    *loss_out = now.loss;
    return QRB_OK;
}

/* A decoupled pull: w -= rate (w - a). */
struct pull {
    const struct anchor *anchor;
    double rate;
};

static void pull_block(size_t task, size_t worker, void *arg)
{
    const struct pull *pull = arg;
    const qrb_noise *noise = &pull->anchor->noise;
    const struct qrb__kernels *kernels = &noise->ctx->kernels;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__parameter *parameter =
        noise->binding.parameters[block.parameter];

    (void)worker;
    if ((parameter->flags & QRB_PARAM_FROZEN) != 0)
        return;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t first = block.first + done;
        const size_t n = chunk_of(&block, done);
        const void *a = anchor_at(pull->anchor, block.parameter, first);
        union qrb__chunk buffer;
        void *w = qrb__chunk_load(&parameter->weight, first, n, &buffer);

        if (parameter->weight.dtype == QRB_F32)
            kernels->f32.lerp(pull->rate, a, n, w);
        else
            kernels->f64.lerp(pull->rate, a, n, w);
        qrb__chunk_store(&parameter->weight, first, n, w);
    }
}

static qrb_status post_step(qrb_noise *noise, double lr)
{
    const struct anchor *anchor = anchor_of(noise);
    const double c = lr * anchor->options.strength;
    struct pull pull = { anchor, c };
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
    if (anchor->options.application == QRB_ANCHOR_PROXIMAL)
        pull.rate = c / (1.0 + c);
    qrb__parallel_for(noise->ctx, qrb__blocks_total(&noise->blocks), pull_block,
                      &pull);
    return qrb__noise_written(noise);
}

static void digest(const qrb_noise *noise, struct qrb__sha256 *hash)
{
    const struct anchor *anchor = (const struct anchor *)noise;

    qrb__sha256_add(hash, &anchor->options, sizeof anchor->options);
    if (anchor->weights == NULL)
        return;
    for (size_t p = 0; p < noise->binding.count; p++) {
        const struct qrb__view *view = &anchor->weights[p];

        qrb__sha256_add(hash, view->memory,
                        qrb__view_elements(view) *
                            qrb_dtype_size(view->dtype));
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
    struct anchor *anchor;
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
    struct anchor *anchor = anchor_of(noise);
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
static qrb_status measure_now(const qrb_noise *noise, const double *out,
                              struct measure *now)
{
    const struct anchor *anchor = (const struct anchor *)noise;
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG, "out is NULL");
    status = qrb__anchor_check(noise);
    if (status == QRB_OK)
        status = check_set(anchor);
    if (status == QRB_OK)
        *now = measure(anchor);
    return status;
}

qrb_status qrb_anchor_distance(const qrb_noise *noise, double *out)
{
    struct measure now;
    const qrb_status status = measure_now(noise, out, &now);

    if (status == QRB_OK)
        *out = sqrt(now.distance);
    return status;
}

qrb_status qrb_anchor_loss(const qrb_noise *noise, double *out)
{
    struct measure now;
    const qrb_status status = measure_now(noise, out, &now);

    if (status == QRB_OK)
        *out = now.loss;
    return status;
}

double qrb_anchor_gradient_ratio(const qrb_noise *noise)
{
    if (noise == NULL || noise->kind != &kind)
        return NAN;
    return ((const struct anchor *)noise)->ratio;
}
