/* The layout of a llama2.c checkpoint follows from its seven integers alone;
 * so do all offsets and the length of the file, which has to be exact. */
#include "io/llama2c.h"

#include <string.h>

#include "io/bytes.h"
#include "io/config.h"
#include "io/elements.h"

enum { FIELDS = 7, HEADER_SIZE = 4 * FIELDS, FLOAT = 4 };

/* First int32 of later versions, "ak42". */
enum { LATER_MAGIC = 0x616b3432 };

static const char *const names[QRB__LLAMA2C_WEIGHTS] = {
    "token_embedding", "rms_att", "wq", "wk", "wv",        "wo",
    "rms_ffn",         "w1",      "w2", "w3", "rms_final", "wcls",
};

/* Put matrices of [layers, rows, cols] at *end and move it behind them. */
static bool place(struct qrb__llama2c *checkpoint,
                  enum qrb__llama2c_weight weight, size_t layers, size_t rows,
                  size_t cols, uint64_t *end)
{
    uint64_t size = FLOAT;

    checkpoint->weights[weight].offset = *end;
    checkpoint->weights[weight].layers = layers;
    checkpoint->weights[weight].rows = rows;
    checkpoint->weights[weight].cols = cols;
    checkpoint->weights[weight].rank = 2; /* also one of a single row */
    return !__builtin_mul_overflow(size, layers, &size) &&
           !__builtin_mul_overflow(size, rows, &size) &&
           !__builtin_mul_overflow(size, cols, &size) &&
           !__builtin_add_overflow(*end, size, end);
}

/* Vectors of [layers, dim], one a layer. */
static bool place_norm(struct qrb__llama2c *checkpoint,
                       enum qrb__llama2c_weight weight, size_t layers,
                       uint64_t *end)
{
    const bool fits =
        place(checkpoint, weight, layers, 1, checkpoint->config.dim, end);

    checkpoint->weights[weight].rank = 1;
    return fits;
}

static bool place_all(struct qrb__llama2c *checkpoint, uint64_t *end)
{
    const qrb_engine_config *c = &checkpoint->config;
    const size_t kv_dim = c->kv_heads * c->head_dim;
    uint64_t rotary;

    *end = HEADER_SIZE;
    if (!place(checkpoint, QRB__LLAMA2C_EMBEDDING, 1, c->vocab, c->dim, end) ||
        !place_norm(checkpoint, QRB__LLAMA2C_ATTENTION_NORM, c->layers, end) ||
        !place(checkpoint, QRB__LLAMA2C_Q, c->layers, c->dim, c->dim, end) ||
        !place(checkpoint, QRB__LLAMA2C_K, c->layers, kv_dim, c->dim, end) ||
        !place(checkpoint, QRB__LLAMA2C_V, c->layers, kv_dim, c->dim, end) ||
        !place(checkpoint, QRB__LLAMA2C_O, c->layers, c->dim, c->dim, end) ||
        !place_norm(checkpoint, QRB__LLAMA2C_FFN_NORM, c->layers, end) ||
        !place(checkpoint, QRB__LLAMA2C_GATE, c->layers, c->hidden, c->dim,
               end) ||
        !place(checkpoint, QRB__LLAMA2C_DOWN, c->layers, c->dim, c->hidden,
               end) ||
        !place(checkpoint, QRB__LLAMA2C_UP, c->layers, c->hidden, c->dim,
               end) ||
        !place_norm(checkpoint, QRB__LLAMA2C_FINAL_NORM, 1, end))
        return false;
    /* Cosines and sines, each [context, head_dim / 2]. */
    if (__builtin_mul_overflow((uint64_t)c->context,
                               (uint64_t)c->head_dim * FLOAT, &rotary) ||
        __builtin_add_overflow(*end, rotary, end))
        return false;
    if (c->tied_head) {
        checkpoint->weights[QRB__LLAMA2C_HEAD] =
            checkpoint->weights[QRB__LLAMA2C_EMBEDDING];
        return true;
    }
    return place(checkpoint, QRB__LLAMA2C_HEAD, 1, c->vocab, c->dim, end);
}

static qrb_status read_config(qrb_context *ctx,
                              const struct qrb__source *source,
                              qrb_engine_config *out)
{
    const qrb_engine_config initial = QRB_ENGINE_CONFIG_INIT;
    const char *name = qrb__source_name(source);
    unsigned char bytes[HEADER_SIZE];
    int64_t fields[FIELDS];
    qrb_status status;

    if (qrb__source_size(source) < HEADER_SIZE)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s has %llu bytes; a llama2.c checkpoint begins "
                         "with %d",
                         name, (unsigned long long)qrb__source_size(source),
                         HEADER_SIZE);
    status = qrb__source_read(source, 0, bytes, sizeof bytes);
    if (status != QRB_OK)
        return status;
    for (int i = 0; i < FIELDS; i++)
        fields[i] = (int32_t)qrb__load_u32(bytes + 4 * i);
    if (fields[0] == LATER_MAGIC)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s is a llama2.c checkpoint of a later version; "
                         "only version 0 (float32) is supported",
                         name);
    *out = initial;
    out->rotary = QRB_ROTARY_INTERLEAVED;
    out->tied_head = fields[5] > 0;
    if (fields[5] < 0)
        fields[5] = -fields[5];
    for (int i = 0; i < FIELDS; i++)
        if (fields[i] < 0)
            fields[i] = 0; /* out of range like 0, and named there */
    out->dim = (size_t)fields[0];
    out->hidden = (size_t)fields[1];
    out->layers = (size_t)fields[2];
    out->heads = (size_t)fields[3];
    out->kv_heads = (size_t)fields[4];
    out->vocab = (size_t)fields[5];
    out->context = (size_t)fields[6];
    return qrb__config_complete(ctx, out, name);
}

qrb_status qrb__llama2c_open(qrb_context *ctx, const qrb_source *source,
                             struct qrb__llama2c *out)
{
    uint64_t expected = 0;
    qrb_status status;

    memset(out, 0, sizeof *out);
    status = qrb__source_open(ctx, source, &out->source);
    if (status == QRB_OK)
        status = read_config(ctx, out->source, &out->config);
    if (status != QRB_OK)
        goto fail;
    if (!place_all(out, &expected) ||
        expected != qrb__source_size(out->source)) {
        status = qrb__fail(ctx, QRB_E_FORMAT,
                           "%s has %llu bytes; its llama2.c header announces "
                           "%llu",
                           qrb__source_name(out->source),
                           (unsigned long long)qrb__source_size(out->source),
                           (unsigned long long)expected);
        goto fail;
    }
    return QRB_OK;
fail:
    qrb__llama2c_close(out);
    return status;
}

void qrb__llama2c_close(struct qrb__llama2c *checkpoint)
{
    qrb__source_close(checkpoint->source);
    memset(checkpoint, 0, sizeof *checkpoint);
}

qrb_status qrb__llama2c_read(const struct qrb__llama2c *checkpoint,
                             enum qrb__llama2c_weight weight, size_t layer,
                             const struct qrb__view *target)
{
    qrb_context *ctx = qrb__source_context(checkpoint->source);
    const size_t rows = checkpoint->weights[weight].rows;
    const size_t cols = checkpoint->weights[weight].cols;
    const uint32_t rank = checkpoint->weights[weight].rank;
    const size_t shape[2] = { rank == 1 ? cols : rows, cols };
    const struct qrb__view found = qrb__view_make(QRB_F32, rank, shape, NULL);
    char here[128];
    char there[128];
    qrb_status status;

    if (layer >= checkpoint->weights[weight].layers)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "%s: layer %zu of %zu",
                         names[weight], layer,
                         checkpoint->weights[weight].layers);
    if (!qrb__view_same_shape(&found, target))
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "%s of layer %zu: found %s, expected %s",
                         names[weight], layer,
                         qrb__view_shape_text(&found, here, sizeof here),
                         qrb__view_shape_text(target, there, sizeof there));
    status = qrb__source_elements(checkpoint->source,
                                  checkpoint->weights[weight].offset +
                                      (uint64_t)layer * rows * cols * FLOAT,
                                  QRB_F32, target);
    if (status != QRB_OK)
        return qrb__fail(ctx, status, "%s of layer %zu: %s", names[weight],
                         layer, qrb_context_message(ctx));
    return QRB_OK;
}
