/* The arithmetic of an anchor, block by block: how far the weights are from
 * it, and its two ways to pull.  Sums run in double over fixed blocks, so that
 * their bits do not depend on threads.  O(elements), no memory. */
#include "noise/anchor.h"

#include <math.h>

/* L_anchor is the sum over parameters p of scale_p |w_p - a_p|^2. */
static double scale_of(const struct qrb__anchor *anchor, size_t p)
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
static double factor_of(const struct qrb__anchor *anchor, size_t p)
{
    if (anchor->options.application != QRB_ANCHOR_GRADIENT)
        return anchor->options.strength;
    return anchor->options.strength * 2.0 * scale_of(anchor, p);
}

static const void *anchor_at(const struct qrb__anchor *anchor, size_t p,
                             size_t first)
{
    const struct qrb__view *view = &anchor->weights[p];

    return view->memory + first * qrb_dtype_size(view->dtype);
}

/* |w - a|^2 and |g|^2 of one block. */
static void measure_block(size_t task, size_t worker, void *arg)
{
    const struct qrb__anchor *anchor = arg;
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
        const size_t n = qrb__chunk_at(&block, done);
        const void *a = anchor_at(anchor, block.parameter, first);
        union qrb__chunk w_buffer;
        union qrb__chunk g_buffer;
        const void *w = qrb__chunk_load(noise->ctx, &parameter->weight, first,
                                        n, &w_buffer);
        const void *g;

        distance += f32 ? kernels->f32.squared_distance(w, a, n)
                        : kernels->f64.squared_distance(w, a, n);
        if (parameter->gradient.memory == NULL)
            continue;
        g = qrb__chunk_load(noise->ctx, &parameter->gradient, first, n,
                            &g_buffer);
        gradient += f32 ? kernels->f32.dot(g, g, n) : kernels->f64.dot(g, g, n);
    }
    noise->blocks.sums[task][0] = distance;
    noise->blocks.sums[task][1] = gradient;
}

struct qrb__anchor_measure qrb__anchor_measure(const struct qrb__anchor *anchor)
{
    const qrb_noise *noise = &anchor->noise;
    struct qrb__anchor_measure all = { 0.0, 0.0, NAN };
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
    all.distance = sqrt(all.distance);
    if (gradients)
        all.ratio = sqrt(pull) / sqrt(gradient);
    return all;
}

/* g += factor (w - a), in double: the paper's factor of 1e-13 is far below
 * what a float sum of two large terms would keep. */
static void add_block(size_t task, size_t worker, void *arg)
{
    const struct qrb__anchor *anchor = arg;
    const qrb_noise *noise = &anchor->noise;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__parameter *parameter =
        noise->binding.parameters[block.parameter];
    const double factor = factor_of(anchor, block.parameter);

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t first = block.first + done;
        const size_t n = qrb__chunk_at(&block, done);
        const void *a = anchor_at(anchor, block.parameter, first);
        union qrb__chunk w_buffer;
        union qrb__chunk g_buffer;
        const void *w = qrb__chunk_load(noise->ctx, &parameter->weight, first,
                                        n, &w_buffer);
        void *g = qrb__chunk_load(noise->ctx, &parameter->gradient, first, n,
                                  &g_buffer);

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
        qrb__chunk_store(noise->ctx, &parameter->gradient, first, n, g);
    }
}

void qrb__anchor_add_gradient(const struct qrb__anchor *anchor)
{
    qrb__parallel_for(anchor->noise.ctx,
                      qrb__blocks_total(&anchor->noise.blocks), add_block,
                      (void *)(uintptr_t)anchor);
}

struct pull {
    const struct qrb__anchor *anchor;
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
        const size_t n = qrb__chunk_at(&block, done);
        const void *a = anchor_at(pull->anchor, block.parameter, first);
        union qrb__chunk buffer;
        void *w =
            qrb__chunk_load(noise->ctx, &parameter->weight, first, n, &buffer);

        if (parameter->weight.dtype == QRB_F32)
            kernels->f32.lerp(pull->rate, a, n, w);
        else
            kernels->f64.lerp(pull->rate, a, n, w);
        qrb__chunk_store(noise->ctx, &parameter->weight, first, n, w);
    }
}

void qrb__anchor_pull(const struct qrb__anchor *anchor, double rate)
{
    struct pull pull = { anchor, rate };

    qrb__parallel_for(anchor->noise.ctx,
                      qrb__blocks_total(&anchor->noise.blocks), pull_block,
                      &pull);
}
