/* The products of attention on one block of queries, for the two ways that
 * they are arranged: tile by tile, or everything at once for listeners. */
#ifndef QRB_ENGINE_ATTENTION_H
#define QRB_ENGINE_ATTENTION_H

#include "engine/ops.h"

/* Where the heads of a batch lie: rows of [q k v] are `in` apart, rows of the
 * output `out`; each pointer is to the first head of the first row. */
struct REAL(qrb__heads) {
    size_t length;
    size_t blocks; /* of queries in a sequence */
    size_t dim;
    size_t group; /* query heads that share a key head */
    size_t in;
    size_t out;
    double scale;
    const real *q;
    const real *k;
    const real *v;
    real *y;
    real *dq; /* NULL in forward plans, as the next ones */
    real *dk;
    real *dv;
    const real *dy;
};

/* A block of queries of one head. */
struct REAL(qrb__queries) {
    size_t head;
    size_t key_head;
    size_t first_row; /* of the sequence */
    size_t row;       /* of the block */
    size_t query;     /* position of its first query */
    size_t rows;
    size_t keys;       /* that its last query sees */
    bool first_of_sum; /* gradients of keys and values are set, not added */
};

struct REAL(qrb__heads) REAL(qrb__heads_of)(const struct qrb__engine *engine,
                                            const struct qrb__op *op);
struct REAL(qrb__queries) REAL(qrb__queries_at)(
    const struct REAL(qrb__heads) *heads, size_t sequence, size_t head,
    size_t block);

/* tile [rows, keys] = q k^T / sqrt(dim); rows of a tile are `stride` apart */
void REAL(qrb__attention_logits)(qrb_context *ctx,
                                 const struct REAL(qrb__heads) *heads,
                                 const struct REAL(qrb__queries) *at,
                                 real *tile, size_t stride);
/* In place over the keys that each query sees, 0 up to `keys`. */
void REAL(qrb__attention_softmax)(qrb_context *ctx,
                                  const struct REAL(qrb__queries) *at,
                                  real *tile, size_t stride);
/* y = tile v */
void REAL(qrb__attention_mix)(qrb_context *ctx,
                              const struct REAL(qrb__heads) *heads,
                              const struct REAL(qrb__queries) *at,
                              const real *tile, size_t stride);
/* gradient [rows, keys] = dy v^T */
void REAL(qrb__attention_probs_grad)(qrb_context *ctx,
                                     const struct REAL(qrb__heads) *heads,
                                     const struct REAL(qrb__queries) *at,
                                     real *gradient, size_t stride);
/* From the gradient of probabilities to that of logits, in place. */
void REAL(qrb__attention_softmax_grad)(qrb_context *ctx,
                                       const struct REAL(qrb__queries) *at,
                                       const real *tile, real *gradient,
                                       size_t stride);
/* dv += tile^T dy */
void REAL(qrb__attention_values_grad)(qrb_context *ctx,
                                      const struct REAL(qrb__heads) *heads,
                                      const struct REAL(qrb__queries) *at,
                                      const real *tile, size_t stride);
/* dq = gradient k / sqrt(dim), dk += gradient^T q / sqrt(dim) */
void REAL(qrb__attention_keys_grad)(qrb_context *ctx,
                                    const struct REAL(qrb__heads) *heads,
                                    const struct REAL(qrb__queries) *at,
                                    const real *gradient, size_t stride);

#endif
