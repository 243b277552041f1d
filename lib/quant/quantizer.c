/* Making quantizers, by options and by name. */
#include "quant/quantizer.h"

#include <string.h>

static const struct qrb__quantizer_kind *const kinds[] = {
    &qrb__quantizer_rtn,  &qrb__quantizer_int8, &qrb__quantizer_nf4,
    &qrb__quantizer_fp16, &qrb__quantizer_bf16,
};

static const struct qrb__quantizer_kind *kind_of(uint32_t kind)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i]->kind == kind)
            return kinds[i];
    return NULL;
}

qrb_status qrb__quantizer_takes_no_options(qrb_context *ctx,
                                           qrb_quantizer_options *options)
{
    if (options->group_size != 0 || options->granularity != QRB_PER_GROUP ||
        options->mse_clip || options->compat || options->double_quant)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s has no options: group_size, granularity, "
                         "mse_clip, compat and double_quant are 0",
                         kind_of(options->kind)->name);
    return QRB_OK;
}

qrb_status qrb_quantizer_create(qrb_context *ctx,
                                const qrb_quantizer_options *options,
                                qrb_quantizer **out)
{
    const qrb_quantizer_options defaults = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer_options checked = defaults;
    const struct qrb__quantizer_kind *kind;
    qrb_quantizer *quantizer;
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
    kind = kind_of(checked.kind);
    if (kind == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "quantizer kind %u is not known", checked.kind);
    if (checked.granularity > QRB_PER_TENSOR || checked.mse_clip > 1 ||
        checked.compat > 1 || checked.double_quant > 1 || checked.reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "granularity %u, mse_clip %u, compat %u, "
                         "double_quant %u, reserved %u; each is 0 or 1, and "
                         "the last is 0",
                         checked.granularity, checked.mse_clip, checked.compat,
                         checked.double_quant, checked.reserved);
    status = kind->check(ctx, &checked);
    if (status != QRB_OK)
        return status;

    quantizer = qrb__alloc_array(ctx, 1, sizeof *quantizer);
    if (quantizer == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "quantizer");
    quantizer->ctx = ctx;
    quantizer->options = checked;
    quantizer->kind = kind;
    *out = quantizer;
    return QRB_OK;
}

/* A decimal number without sign, space or leading zero; the position after it,
 * or NULL.  No strtoul: it skips spaces and takes signs. */
static const char *read_number(const char *text, size_t *out)
{
    size_t number = 0;

    if (*text < '1' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (!qrb__mul_size(number, 10, &number) ||
            !qrb__add_size(number, (size_t)(*text - '0'), &number))
            return NULL;
    *out = number;
    return text;
}

/* "rtn<bits>" or "rtn<bits>g<group_size>" */
static bool read_rtn(const char *name, qrb_quantizer_options *options)
{
    const size_t prefix = strlen(qrb__quantizer_rtn.name);
    size_t bits;

    if (strncmp(name, qrb__quantizer_rtn.name, prefix) != 0)
        return false;
    name = read_number(name + prefix, &bits);
    if (name == NULL || bits < QRB__GRID_MIN_BITS || bits > QRB__GRID_MAX_BITS)
        return false;
    options->bits = (uint32_t)bits;
    if (*name == 'g')
        name = read_number(name + 1, &options->group_size);
    return name != NULL && *name == '\0';
}

qrb_status qrb_quantizer_create_named(qrb_context *ctx, const char *name,
                                      qrb_quantizer **out)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    bool known;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    if (name == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "name is NULL");
    known = read_rtn(name, &options);
    for (size_t i = 0; !known && i < sizeof kinds / sizeof *kinds; i++)
        if (kinds[i] != &qrb__quantizer_rtn &&
            strcmp(name, kinds[i]->name) == 0) {
            options.kind = kinds[i]->kind;
            known = true;
        }
    if (!known)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "no quantizer is called \"%.40s\"; fp16, bf16, int8, "
                         "nf4, rtn<bits> and rtn<bits>g<group_size> are, with "
                         "2 to 8 bits, such as rtn4g32",
                         name);
    return qrb_quantizer_create(ctx, &options, out);
}

void qrb_quantizer_destroy(qrb_quantizer *quantizer)
{
    if (quantizer != NULL)
        qrb__free(quantizer->ctx, quantizer);
}
