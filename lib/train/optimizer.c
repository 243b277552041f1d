/* The optimizer: which parameters of a model are trained, their
 * moments, and whether weight decay acts on them.
 *
 * Decoupled weight decay (Loshchilov and Hutter, "Decoupled Weight Decay
 * Regularization", ICLR 2019) acts on matrices that are neither norms nor
 * biases.  Moments are one (SGD) or two (AdamW) copies of the trained weights.
 * update.c has the arithmetic. */
#include "train/optimizer.h"

#include <math.h>

#include "model/model.h"

static qrb_status check_options(qrb_context *ctx,
                                const qrb_optimizer_options *options)
{
    if (options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: reserved is %u; it is 0", options->reserved);
    if (options->kind != QRB_ADAMW && options->kind != QRB_SGD)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: kind is %u; QRB_ADAMW is 1, QRB_SGD 2",
                         options->kind);
    if (!(options->beta1 >= 0.0 && options->beta1 < 1.0) ||
        !(options->beta2 >= 0.0 && options->beta2 < 1.0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: beta1 is %g and beta2 is %g; both lie in "
                         "[0, 1)",
                         options->beta1, options->beta2);
    if (!(options->epsilon > 0.0) || !isfinite(options->epsilon))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: epsilon is %g; it is above 0 and finite",
                         options->epsilon);
    if (!(options->momentum >= 0.0 && options->momentum < 1.0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: momentum is %g; it lies in [0, 1)",
                         options->momentum);
    if (!(options->weight_decay >= 0.0) || !isfinite(options->weight_decay))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: weight_decay is %g; it is at least 0 and "
                         "finite",
                         options->weight_decay);
    if (!(options->clip_norm >= 0.0) || !isfinite(options->clip_norm))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "optimizer: clip_norm is %g; it is at least 0 (none) "
                         "and finite",
                         options->clip_norm);
    return QRB_OK;
}

static bool is_trained(const struct qrb__parameter *parameter)
{
    return parameter->gradient.memory != NULL &&
           (parameter->flags & QRB_PARAM_FROZEN) == 0;
}

static qrb_status alloc_moments(qrb_optimizer *optimizer, size_t i)
{
    const struct qrb__parameter *parameter = optimizer->parameters[i];
    const size_t elements = qrb__view_elements(&parameter->weight);
    const size_t size = qrb_dtype_size(parameter->weight.dtype);
    struct qrb__moments *moments = &optimizer->moments[i];

    moments->decays = parameter->weight.rank == 2 &&
                      parameter->role != QRB_ROLE_NORM &&
                      parameter->role != QRB_ROLE_BIAS;
    moments->first = qrb__alloc_array(optimizer->ctx, elements, size);
    if (moments->first == NULL)
        goto no_memory;
    if (optimizer->options.kind != QRB_ADAMW)
        return QRB_OK;
    moments->second = qrb__alloc_array(optimizer->ctx, elements, size);
    if (moments->second == NULL)
        goto no_memory;
    return QRB_OK;
no_memory:
    return qrb__fail(optimizer->ctx, QRB_E_NO_MEMORY, "moments of %s",
                     parameter->name);
}

static qrb_status count_trained(const qrb_model *model, size_t *out)
{
    *out = 0;
    for (size_t i = 0; i < model->count; i++)
        *out += is_trained(model->parameters[i]);
    if (*out == 0)
        return qrb__fail(model->ctx, QRB_E_STATE,
                         "optimizer: none of the %zu parameters has a "
                         "gradient and is not frozen",
                         model->count);
    return QRB_OK;
}

static qrb_status collect_parameters(qrb_optimizer *optimizer)
{
    qrb_context *ctx = optimizer->ctx;
    const qrb_model *model = optimizer->model;
    size_t trained;
    const qrb_status counted = count_trained(model, &trained);

    if (counted != QRB_OK)
        return counted;
    optimizer->parameters =
        qrb__alloc_array(ctx, trained, sizeof *optimizer->parameters);
    optimizer->moments =
        qrb__alloc_array(ctx, trained, sizeof *optimizer->moments);
    if (optimizer->parameters == NULL || optimizer->moments == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "optimizer of %zu parameters",
                         trained);
    for (size_t i = 0; i < model->count; i++) {
        qrb_status status;

        if (!is_trained(model->parameters[i]))
            continue;
        optimizer->parameters[optimizer->count] = model->parameters[i];
        status = alloc_moments(optimizer, optimizer->count++);
        if (status != QRB_OK)
            return status;
    }
    return qrb__blocks_make(ctx, optimizer->parameters, optimizer->count,
                            &optimizer->blocks);
}

static qrb_status take_options(qrb_context *ctx,
                               const qrb_optimizer_options *options,
                               qrb_optimizer_options *known)
{
    const qrb_optimizer_options defaults = QRB_OPTIMIZER_OPTIONS_INIT;
    qrb_status status;

    *known = defaults;
    status = qrb__options_copy(ctx, options, sizeof defaults,
                               "optimizer options", known);
    return status == QRB_OK ? check_options(ctx, known) : status;
}

qrb_status qrb_optimizer_memory(const qrb_model *model,
                                const qrb_optimizer_options *options,
                                uint64_t *bytes_out)
{
    qrb_optimizer_options known;
    uint64_t blocks = 0;
    uint64_t moments = 0;
    size_t trained;
    qrb_status status;

    if (model == NULL || bytes_out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status == QRB_OK)
        status = take_options(model->ctx, options, &known);
    if (status == QRB_OK)
        status = count_trained(model, &trained);
    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < model->count; i++) {
        const struct qrb__view *weight = &model->parameters[i]->weight;

        if (!is_trained(model->parameters[i]))
            continue;
        blocks += qrb__blocks_of(qrb__view_elements(weight));
        moments += qrb__view_elements(weight) * qrb_dtype_size(weight->dtype);
    }
    *bytes_out = sizeof(qrb_optimizer) +
                 trained * (sizeof(struct qrb__parameter *) +
                            sizeof(struct qrb__moments)) +
                 qrb__blocks_bytes(trained, blocks) +
                 (known.kind == QRB_ADAMW ? 2 : 1) * moments;
    return QRB_OK;
}

qrb_status qrb_optimizer_create(qrb_model *model,
                                const qrb_optimizer_options *options,
                                qrb_optimizer **out)
{
    qrb_optimizer *optimizer = NULL;
    qrb_context *ctx;
    qrb_status status;

    if (out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;

    optimizer = qrb__alloc_array(ctx, 1, sizeof *optimizer);
    if (optimizer == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "optimizer");
        goto out;
    }
    optimizer->ctx = ctx;
    optimizer->model = model;
    status = take_options(ctx, options, &optimizer->options);
    if (status != QRB_OK)
        goto out;
    status = collect_parameters(optimizer);
    if (status != QRB_OK)
        goto out;
    *out = optimizer;
    optimizer = NULL; /* the caller's from here on */
out:
    qrb_optimizer_destroy(optimizer);
    return status;
}

void qrb_optimizer_destroy(qrb_optimizer *optimizer)
{
    if (optimizer == NULL)
        return;
    for (size_t i = 0; i < optimizer->count; i++) {
        qrb__free(optimizer->ctx, optimizer->moments[i].first);
        qrb__free(optimizer->ctx, optimizer->moments[i].second);
    }
    qrb__free(optimizer->ctx, optimizer->moments);
    qrb__free(optimizer->ctx, optimizer->parameters);
    qrb__blocks_free(optimizer->ctx, &optimizer->blocks);
    qrb__free(optimizer->ctx, optimizer);
}

/* A host that stops still hears of the others, whose caches are stale too. */
qrb_status qrb__optimizer_notify(qrb_optimizer *optimizer)
{
    qrb_status first = QRB_OK;

    for (size_t i = 0; i < optimizer->count; i++) {
        const qrb_status status = qrb__model_weights_written(
            optimizer->model, optimizer->parameters[i]->index);

        if (first == QRB_OK)
            first = status;
    }
    return first;
}

qrb_status qrb_optimizer_step(qrb_optimizer *optimizer, double lr,
                              double *norm_out)
{
    qrb_status status;

    if (optimizer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(optimizer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__optimizer_update(optimizer, lr, norm_out);
    if (status != QRB_OK)
        return status;
    return qrb__optimizer_notify(optimizer);
}
