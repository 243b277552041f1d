/* Checkpoints of llama2.c, "version 0": seven int32, then float32 weights.
 *
 * dim, hidden, layers, heads, kv_heads, vocab (negative: a head of its own),
 * context; then, each for all layers at once: the embedding, attention norms,
 * q, k, v, o, feed-forward norms, w1 (gate), w2 (down), w3 (up), the last
 * norm, two rotary tables that nobody needs, and the head if it is not the
 * embedding.  Rows of q and k are in interleaved rotary order. */
#ifndef QRB_IO_LLAMA2C_H
#define QRB_IO_LLAMA2C_H

#include <qrobust/engine.h>

#include "io/source.h"
#include "tensor/view.h"

enum qrb__llama2c_weight {
    QRB__LLAMA2C_EMBEDDING,      /* [vocab, dim] */
    QRB__LLAMA2C_ATTENTION_NORM, /* layers of [dim] */
    QRB__LLAMA2C_Q,              /* layers of [dim, dim] */
    QRB__LLAMA2C_K,              /* layers of [kv_heads * head_dim, dim] */
    QRB__LLAMA2C_V,              /* layers of [kv_heads * head_dim, dim] */
    QRB__LLAMA2C_O,              /* layers of [dim, dim] */
    QRB__LLAMA2C_FFN_NORM,       /* layers of [dim] */
    QRB__LLAMA2C_GATE,           /* layers of [hidden, dim] */
    QRB__LLAMA2C_DOWN,           /* layers of [dim, hidden] */
    QRB__LLAMA2C_UP,             /* layers of [hidden, dim] */
    QRB__LLAMA2C_FINAL_NORM,     /* [dim] */
    QRB__LLAMA2C_HEAD,           /* [vocab, dim]; the embedding if tied */
    QRB__LLAMA2C_WEIGHTS
};

struct qrb__llama2c {
    struct qrb__source *source;
    qrb_engine_config config; /* interleaved rotary, epsilon 1e-5 */
    struct {
        uint64_t offset; /* of layer 0 */
        size_t layers;   /* 1: not of a layer */
        size_t rows;
        size_t cols;
        uint32_t rank; /* 1: a norm, [cols]; 2: [rows, cols] */
    } weights[QRB__LLAMA2C_WEIGHTS];
};

/* Open a checkpoint and check that header and length of the file agree to the
 * byte.  `out` is zeroed on failure; close it in any case.
 *
 * Returns QRB_OK; QRB_E_IO; QRB_E_FORMAT (names the field);
 * QRB_E_UNSUPPORTED (a later version of the format); QRB_E_CALLBACK;
 * QRB_E_NO_MEMORY. */
qrb_status qrb__llama2c_open(qrb_context *ctx, const qrb_source *source,
                             struct qrb__llama2c *out);
void qrb__llama2c_close(struct qrb__llama2c *checkpoint);

/* Read one weight of one layer (0 where it is not of a layer) into a view of
 * its shape, with conversion.
 *
 * Returns QRB_OK; QRB_E_SHAPE (names the weight); QRB_E_IO; ... as
 * qrb__source_elements(). */
qrb_status qrb__llama2c_read(const struct qrb__llama2c *checkpoint,
                             enum qrb__llama2c_weight weight, size_t layer,
                             const struct qrb__view *target);

#endif
