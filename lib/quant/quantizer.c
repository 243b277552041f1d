/* Making quantizers, from options and of several. */
#include "quant/quantizer.h"

#include <string.h>

#include "quant/residual_columns.h"

const struct qrb__quantizer_kind *const qrb__quantizer_kinds[] = {
    &qrb__quantizer_rtn,  &qrb__quantizer_sign,  &qrb__quantizer_int8, &qrb__quantizer_nf4,
    &qrb__quantizer_fp16, &qrb__quantizer_bf16, &qrb__quantizer_smoothquant,
    &qrb__quantizer_squeezellm,
    &qrb__quantizer_awq,
    &qrb__quantizer_gptq,
};
const size_t qrb__quantizer_kind_count =
    sizeof qrb__quantizer_kinds / sizeof *qrb__quantizer_kinds;

const struct qrb__quantizer_kind *qrb__quantizer_kind_of(uint32_t kind)
{
    for (size_t i = 0; i < qrb__quantizer_kind_count; i++)
        if (qrb__quantizer_kinds[i]->kind == kind)
            return qrb__quantizer_kinds[i];
    return NULL;
}

qrb_status qrb__quantizer_takes_no_options(qrb_context *ctx,
                                           qrb_quantizer_options *options,
                                           void *method)
{
    (void)method;
    if (options->group_size != 0 || options->granularity != QRB_PER_GROUP ||
        options->mse_clip || options->compat || options->double_quant)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s has no options: group_size, granularity, "
                         "mse_clip, compat and double_quant are 0",
                         qrb__quantizer_kind_of(options->kind)->name);
    return QRB_OK;
}

/* The pointer to a kind's own options, which may have any object type. */
static const void *method_of(const qrb_quantizer_options *options,
                             const struct qrb__quantizer_kind *kind)
{
    const void *method;

    memcpy(&method, (const unsigned char *)options + kind->method_at,
           sizeof method);
    return method;
}

static size_t size_of_defaults(const struct qrb__quantizer_kind *kind)
{
    size_t size = 0;

    if (kind->method_defaults != NULL)
        memcpy(&size, kind->method_defaults, sizeof size);
    return size;
}

/* Refuse options of other methods; copy those of this one over its defaults
 * and let go of the caller's pointer. */
static qrb_status take_method(qrb_quantizer *quantizer)
{
    qrb_context *ctx = quantizer->ctx;
    const struct qrb__quantizer_kind *own = quantizer->kind;
    const size_t size = size_of_defaults(own);
    const void *none = NULL;
    const void *given;

    for (size_t i = 0; i < qrb__quantizer_kind_count; i++) {
        const struct qrb__quantizer_kind *kind = qrb__quantizer_kinds[i];

        if (kind != own && kind->method_defaults != NULL &&
            (own->method_defaults == NULL ||
             kind->method_at != own->method_at) &&
            method_of(&quantizer->options, kind) != NULL)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "options of %s do not go with %s", kind->name,
                             own->name);
    }
    if (size == 0)
        return QRB_OK;
    given = method_of(&quantizer->options, own);
    memcpy((unsigned char *)&quantizer->options + own->method_at, &none,
           sizeof none);
    quantizer->method = qrb__alloc_array(ctx, 1, size);
    if (quantizer->method == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "options of %s", own->name);
    memcpy(quantizer->method, own->method_defaults, size);
    return qrb__options_copy(ctx, given, size, own->name, quantizer->method);
}

qrb_status qrb_quantizer_create(qrb_context *ctx,
                                const qrb_quantizer_options *options,
                                qrb_quantizer **out)
{
    qrb_quantizer_options checked = QRB_QUANTIZER_OPTIONS_INIT;
    const struct qrb__quantizer_kind *kind;
    qrb_quantizer *quantizer = NULL;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__options_copy(ctx, options, sizeof checked,
                               "quantizer options", &checked);
    if (status != QRB_OK)
        return status;
    kind = qrb__quantizer_kind_of(checked.kind);
    if (kind == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "quantizer kind %u is not known", checked.kind);
    if (checked.residual != NULL && kind->round != NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "%s has no residual",
                         kind->name);
    if (checked.granularity > QRB_PER_TENSOR || checked.mse_clip > 1 ||
        checked.compat > 1 || checked.double_quant > 1 || checked.reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "granularity %u, mse_clip %u, compat %u, "
                         "double_quant %u, reserved %u; each is 0 or 1, and "
                         "the last is 0",
                         checked.granularity, checked.mse_clip, checked.compat,
                         checked.double_quant, checked.reserved);

    quantizer = qrb__alloc_array(ctx, 1, sizeof *quantizer);
    if (quantizer == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "quantizer");
        goto out;
    }
    quantizer->ctx = ctx;
    quantizer->options = checked;
    quantizer->kind = kind;
    status = take_method(quantizer);
    if (status == QRB_OK)
        status = kind->check(ctx, &quantizer->options, quantizer->method);
    quantizer->options.residual = NULL; /* the caller's may go */
    if (status == QRB_OK && checked.residual != NULL)
        status = qrb__residual_make(quantizer, checked.residual,
                                    &quantizer->residual);
    if (status != QRB_OK)
        goto out;
    *out = quantizer;
    quantizer = NULL; /* the caller's from here on */
out:
    qrb_quantizer_destroy(quantizer);
    return status;
}

void qrb_quantizer_destroy(qrb_quantizer *quantizer)
{
    if (quantizer == NULL)
        return;
    for (size_t i = 0; i < quantizer->scaling_count; i++)
        qrb_quantizer_destroy(quantizer->scalings[i]);
    qrb__free(quantizer->ctx, quantizer->scalings);
    qrb__free(quantizer->ctx, quantizer->method);
    qrb__residual_free(quantizer->ctx, quantizer->residual);
    qrb__free(quantizer->ctx, quantizer);
}

qrb_status qrb__quantizer_copy(const qrb_quantizer *quantizer,
                               qrb_quantizer **out)
{
    qrb_context *ctx = quantizer->ctx;
    const size_t size = size_of_defaults(quantizer->kind);
    qrb_quantizer *copy = qrb__alloc_array(ctx, 1, sizeof *copy);
    qrb_status status = QRB_OK;

    if (copy == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "copy of %s",
                         quantizer->kind->name);
    copy->ctx = ctx;
    copy->options = quantizer->options;
    copy->kind = quantizer->kind;
    if (size != 0) {
        copy->method = qrb__alloc_array(ctx, 1, size);
        if (copy->method == NULL) {
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "options of %s",
                               quantizer->kind->name);
            goto out;
        }
        memcpy(copy->method, quantizer->method, size);
    }
    if (quantizer->residual != NULL)
        status =
            qrb__residual_copy(ctx, quantizer->residual, &copy->residual);
    if (status != QRB_OK)
        goto out;
    *out = copy;
    copy = NULL; /* the caller's from here on */
out:
    qrb_quantizer_destroy(copy);
    return status;
}

static qrb_status check_link(qrb_context *ctx, const qrb_quantizer *link,
                             bool last)
{
    if (link == NULL || link->ctx != ctx)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "a link is %s",
                         link == NULL ? "NULL" : "of another context");
    if (link->scaling_count > 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "a link is a chain itself");
    if (!last && link->kind->scale_inputs == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s scales no inputs; it can be the last link of a "
                         "chain alone",
                         link->kind->name);
    if (!last && link->residual != NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s has a residual; of a chain the last link may",
                         link->kind->name);
    if (last && link->kind->round != NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s has no codes; it is no link of a chain",
                         link->kind->name);
    return QRB_OK;
}

qrb_status qrb_quantizer_create_chain(qrb_context *ctx,
                                      const qrb_quantizer *const *links,
                                      size_t count, qrb_quantizer **out)
{
    qrb_quantizer *chain = NULL;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (links == NULL || count == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "a chain has no links");
    for (size_t i = 0; i < count; i++) {
        status = check_link(ctx, links[i], i + 1 == count);
        if (status != QRB_OK)
            return status;
    }
    status = qrb__quantizer_copy(links[count - 1], &chain);
    if (status != QRB_OK)
        return status;
    if (count > 1) {
        chain->scalings =
            qrb__alloc_array(ctx, count - 1, sizeof *chain->scalings);
        if (chain->scalings == NULL) {
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu links", count);
            goto out;
        }
    }
    for (; chain->scaling_count + 1 < count; chain->scaling_count++) {
        const size_t i = chain->scaling_count;

        status = qrb__quantizer_copy(links[i], &chain->scalings[i]);
        if (status != QRB_OK)
            goto out;
    }
    *out = chain;
    chain = NULL; /* the caller's from here on */
out:
    qrb_quantizer_destroy(chain);
    return status;
}
