/* Residuals of quantizers: their options checked, copied and let go. */
#include "quant/quantizer.h"
#include "quant/residual_columns.h"

static qrb_status check_options(qrb_context *ctx,
                                const qrb_residual_options *options)
{
    if (!(options->share > 0 && options->share <= 1) ||
        !(options->balance >= 0 && options->balance <= 1))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "share is %g and balance %g; above 0 and up to 1, and "
                         "0 to 1, are allowed",
                         options->share, options->balance);
    if (options->importance > QRB_IMPORTANCE_SHARES || options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "importance %u is not known, or reserved is %u and "
                         "not 0",
                         options->importance, options->reserved);
    return QRB_OK;
}

/* The errors of a few columns, on their own. */
static qrb_status check_quantizer(qrb_context *ctx,
                                  const qrb_quantizer *quantizer)
{
    const struct qrb__quantizer_kind *kind = quantizer->kind;

    if (quantizer->ctx != ctx || quantizer->scaling_count > 0 ||
        quantizer->residual != NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "the quantizer of a residual is of another context, a "
                         "chain, or has a residual itself");
    if (kind->round != NULL || kind->solve != NULL ||
        kind->scale_inputs != NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s cannot quantize a residual: name a kind that "
                         "needs nothing but weights and has codes",
                         kind->name);
    return QRB_OK;
}

qrb_status qrb__residual_make(const qrb_quantizer *owner,
                              const qrb_residual_options *given,
                              struct qrb__residual **out)
{
    qrb_context *ctx = owner->ctx;
    qrb_residual_options options = QRB_RESIDUAL_OPTIONS_INIT;
    struct qrb__residual *residual = NULL;
    const qrb_quantizer *quantizer;
    qrb_status status = qrb__options_copy(ctx, given, sizeof options,
                                          "residual options", &options);

    if (status == QRB_OK)
        status = check_options(ctx, &options);
    if (status != QRB_OK)
        return status;
    quantizer = options.quantizer != NULL ? options.quantizer : owner;
    status = check_quantizer(ctx, quantizer);
    if (status != QRB_OK)
        return status;
    residual = qrb__alloc_array(ctx, 1, sizeof *residual);
    if (residual == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "residual");
    residual->options = options;
    residual->options.quantizer = NULL; /* the caller's may go */
    status = qrb__quantizer_copy(quantizer, &residual->quantizer);
    if (status != QRB_OK) {
        qrb__free(ctx, residual);
        return status;
    }
    *out = residual;
    return QRB_OK;
}

qrb_status qrb__residual_copy(qrb_context *ctx,
                              const struct qrb__residual *residual,
                              struct qrb__residual **out)
{
    struct qrb__residual *copy = qrb__alloc_array(ctx, 1, sizeof *copy);
    qrb_status status;

    if (copy == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "residual");
    copy->options = residual->options;
    status = qrb__quantizer_copy(residual->quantizer, &copy->quantizer);
    if (status != QRB_OK) {
        qrb__free(ctx, copy);
        return status;
    }
    *out = copy;
    return QRB_OK;
}

void qrb__residual_free(qrb_context *ctx, struct qrb__residual *residual)
{
    if (residual == NULL)
        return;
    qrb_quantizer_destroy(residual->quantizer);
    qrb__free(ctx, residual);
}

static qrb_status check_observer(qrb_context *ctx, const qrb_observer *observer,
                                 size_t cols, const char *name)
{
    if (!(qrb_observer_what(observer) & QRB_OBSERVE_GRAM))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "the residual needs a Gram matrix of the %s: a "
                         "calibration with %s that keep it",
                         name, name);
    if (qrb_observer_columns(observer) != cols)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "w has %zu columns, and the %s have %zu", cols, name,
                         qrb_observer_columns(observer));
    return QRB_OK;
}

qrb_status qrb__residual_check(const struct qrb__residual *residual,
                               qrb_context *ctx,
                               const qrb_calibration *calibration, size_t cols)
{
    const uint32_t importance = residual->options.importance;
    qrb_status status = QRB_OK;

    if (importance != QRB_IMPORTANCE_GRAD)
        status = check_observer(ctx, calibration->inputs, cols, "inputs");
    if (status == QRB_OK && importance != QRB_IMPORTANCE_ACT)
        status = check_observer(ctx, calibration->gradients, cols, "gradients");
    return status;
}
