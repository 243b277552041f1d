/* One update of AdamW or of SGD with momentum, after clipping by the norm of
 * the whole gradient.
 *
 * Two passes over the gradients: the first sums their squares and refuses what
 * is not finite before anything changes.  Work is cut into blocks of fixed
 * size and sums are added in their order, so the bits do not depend on the
 * number of threads.  O(parameters) time; nothing is allocated. */
#include "train/optimizer.h"

#include <math.h>

/* Eight sums side by side: compilers make vectors of them. */
static double sum_squares_f32(const float *g, size_t n)
{
    double sums[8] = { 0 };
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        for (size_t lane = 0; lane < 8; lane++)
            sums[lane] += (double)g[i + lane] * (double)g[i + lane];
    for (; i < n; i++)
        sums[0] += (double)g[i] * (double)g[i];
    for (size_t lane = 1; lane < 8; lane++)
        sums[0] += sums[lane];
    return sums[0];
}

static void square_block(size_t task, size_t worker, void *arg)
{
    qrb_optimizer *optimizer = arg;
    const struct qrb__kernels *kernels = &optimizer->ctx->kernels;
    const struct qrb__block block =
        qrb__block_at(&optimizer->blocks, optimizer->parameters, task);
    const struct qrb__view *gradient =
        &optimizer->parameters[block.parameter]->gradient;
    double sum = 0.0;

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t n = qrb__chunk_at(&block, done);
        union qrb__chunk buffer;
        const void *g = qrb__chunk_load(optimizer->ctx, gradient,
                                        block.first + done, n, &buffer);

        sum += gradient->dtype == QRB_F32 ? sum_squares_f32(g, n)
                                          : kernels->f64.dot(g, g, n);
    }
    optimizer->blocks.sums[task][0] = sum;
}

static qrb_status gradient_norm(qrb_optimizer *optimizer, double *out)
{
    qrb_context *ctx = optimizer->ctx;
    double sum = 0.0;

    qrb__parallel_for(ctx, qrb__blocks_total(&optimizer->blocks), square_block,
                      optimizer);
    for (size_t i = 0; i < optimizer->count; i++) {
        const double squares = qrb__blocks_sum(&optimizer->blocks, i, 0);

        if (!isfinite(squares))
            return qrb__fail(ctx, QRB_E_NOT_FINITE,
                             "%s: its gradient is not finite or its square "
                             "overflows; no weight was changed",
                             optimizer->parameters[i]->name);
        sum += squares;
    }
    if (!isfinite(sum))
        return qrb__fail(ctx, QRB_E_NOT_FINITE,
                         "the square of the gradient's norm overflows; no "
                         "weight was changed");
    *out = sqrt(sum);
    return QRB_OK;
}

struct update {
    const qrb_optimizer *optimizer;
    struct qrb__adamw adamw; /* of what decays */
};

static void update_chunk(const struct update *update, size_t p, size_t first,
                         size_t n)
{
    const qrb_optimizer *optimizer = update->optimizer;
    const struct qrb__kernels *kernels = &optimizer->ctx->kernels;
    const struct qrb__parameter *parameter = optimizer->parameters[p];
    const struct qrb__moments *moments = &optimizer->moments[p];
    const double momentum = optimizer->options.momentum;
    const size_t offset = first * qrb_dtype_size(parameter->weight.dtype);
    const bool f32 = parameter->weight.dtype == QRB_F32;
    struct qrb__adamw adamw = update->adamw;
    union qrb__chunk w_buffer;
    union qrb__chunk g_buffer;
    void *w = qrb__chunk_load(optimizer->ctx, &parameter->weight, first, n,
                              &w_buffer);
    const void *g = qrb__chunk_load(optimizer->ctx, &parameter->gradient, first,
                                    n, &g_buffer);
    void *m = (unsigned char *)moments->first + offset;

    if (!moments->decays)
        adamw.weight_decay = 0.0;
    if (optimizer->options.kind == QRB_ADAMW) {
        void *v = (unsigned char *)moments->second + offset;

        if (f32)
            kernels->f32.adamw(&adamw, g, n, w, m, v);
        else
            kernels->f64.adamw(&adamw, g, n, w, m, v);
    } else if (f32) {
        kernels->f32.sgd(adamw.lr, momentum, adamw.weight_decay,
                         adamw.gradient_scale, g, n, w, m);
    } else {
        kernels->f64.sgd(adamw.lr, momentum, adamw.weight_decay,
                         adamw.gradient_scale, g, n, w, m);
    }
    qrb__chunk_store(optimizer->ctx, &parameter->weight, first, n, w);
}

static void update_block(size_t task, size_t worker, void *arg)
{
    const struct update *update = arg;
    const struct qrb__block block = qrb__block_at(
        &update->optimizer->blocks, update->optimizer->parameters, task);

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK)
        update_chunk(update, block.parameter, block.first + done,
                     qrb__chunk_at(&block, done));
}

qrb_status qrb__optimizer_update(qrb_optimizer *optimizer, double lr,
                                 double *norm_out)
{
    const qrb_optimizer_options *options = &optimizer->options;
    struct update update = { .optimizer = optimizer };
    struct qrb__adamw *adamw = &update.adamw;
    double norm = 0.0;
    double t;
    qrb_status status;

    if (!(lr >= 0.0) || !isfinite(lr))
        return qrb__fail(optimizer->ctx, QRB_E_INVALID_ARG,
                         "learning rate is %g; it is at least 0 and finite",
                         lr);
    for (size_t i = 0; i < optimizer->count; i++)
        if (optimizer->parameters[i]->perturbed)
            return qrb__fail(optimizer->ctx, QRB_E_STATE,
                             "%s: is perturbed at the moment; an update would "
                             "be lost",
                             optimizer->parameters[i]->name);
    status = gradient_norm(optimizer, &norm);
    if (status != QRB_OK)
        return status;

    t = (double)(optimizer->updates + 1);
    adamw->lr = lr;
    adamw->beta1 = options->beta1;
    adamw->beta2 = options->beta2;
    adamw->epsilon = options->epsilon;
    adamw->weight_decay = options->weight_decay;
    adamw->correction1 = 1.0 - pow(options->beta1, t);
    adamw->correction2 = 1.0 - pow(options->beta2, t);
    adamw->gradient_scale =
        options->clip_norm > 0.0 && norm > options->clip_norm
            ? options->clip_norm / norm
            : 1.0;
    qrb__parallel_for(optimizer->ctx, qrb__blocks_total(&optimizer->blocks),
                      update_block, &update);
    optimizer->updates++;
    if (norm_out != NULL)
        *norm_out = norm;
    return QRB_OK;
}
