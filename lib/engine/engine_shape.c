/* Which shapes of models make sense. */
#include <math.h>

#include "engine/engine.h"

/* No dimension of a model comes near this; products of two fit 64 bits. */
enum { LARGEST = 1 << 28 };

static qrb_status check_size(qrb_context *ctx, const char *name, size_t value)
{
    if (value >= 1 && value <= LARGEST)
        return QRB_OK;
    return qrb__fail(ctx, QRB_E_SHAPE,
                     "model config: %s is %zu; it is in 1..%d", name, value,
                     LARGEST);
}

static qrb_status check_sizes(qrb_context *ctx, const qrb_engine_config *c)
{
    const struct {
        const char *name;
        size_t value;
    } sizes[] = {
        { "vocab", c->vocab },       { "dim", c->dim },
        { "layers", c->layers },     { "heads", c->heads },
        { "kv_heads", c->kv_heads }, { "hidden", c->hidden },
        { "context", c->context },
    };
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < sizeof sizes / sizeof *sizes;
         i++)
        status = check_size(ctx, sizes[i].name, sizes[i].value);
    return status;
}

static qrb_status check_heads(qrb_context *ctx, qrb_engine_config *c)
{
    if (c->heads % c->kv_heads != 0)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "model config: heads is %zu, not a multiple of "
                         "kv_heads %zu",
                         c->heads, c->kv_heads);
    if (c->head_dim == 0) {
        if (c->dim % c->heads != 0)
            return qrb__fail(ctx, QRB_E_SHAPE,
                             "model config: dim is %zu, not a multiple of "
                             "heads %zu",
                             c->dim, c->heads);
        c->head_dim = c->dim / c->heads;
    }
    if (c->head_dim % 2 != 0 || c->head_dim > LARGEST / c->heads)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "model config: head_dim is %zu; it is even, and "
                         "with %zu heads at most %d in all",
                         c->head_dim, c->heads, LARGEST);
    return QRB_OK;
}

static qrb_status check_kinds(qrb_context *ctx, const qrb_engine_config *c)
{
    if (c->architecture != QRB_ARCH_LLAMA && c->architecture != QRB_ARCH_QWEN2)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "model config: architecture is %u; it is %d or %d",
                         c->architecture, QRB_ARCH_LLAMA, QRB_ARCH_QWEN2);
    if (c->rotary > QRB_ROTARY_INTERLEAVED || c->tied_head > 1 ||
        c->qkv_bias > 1)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "model config: rotary %u, tied_head %u, qkv_bias "
                         "%u; each is 0 or 1",
                         c->rotary, c->tied_head, c->qkv_bias);
    if (!(c->rms_epsilon >= 0 && isfinite(c->rms_epsilon)) ||
        !(c->rope_theta > 0 && isfinite(c->rope_theta)))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "model config: rms_epsilon is %g, at least 0; "
                         "rope_theta is %g, above 0; both finite",
                         c->rms_epsilon, c->rope_theta);
    return QRB_OK;
}

qrb_status qrb__engine_config_check(qrb_context *ctx,
                                    qrb_engine_config *config)
{
    qrb_status status = check_sizes(ctx, config);

    if (status == QRB_OK)
        status = check_heads(ctx, config);
    if (status == QRB_OK)
        status = check_kinds(ctx, config);
    return status;
}
