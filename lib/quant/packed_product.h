/* A product of a packed matrix while it is computed: what its inputs become
 * (packed_inputs.c), and what is done with them (packed_product.c). */
#ifndef QRB_QUANT_PACKED_PRODUCT_H
#define QRB_QUANT_PACKED_PRODUCT_H

#include <float.h>

#include "quant/tiles.h"

enum { QRB__PRODUCT_TOKENS = 32 }; /* of a task */

struct qrb__packed_product {
    const qrb_packed *packed;
    const struct qrb__tiles *tiles;
    const struct qrb__view *x;
    const struct qrb__view *y;
    uint32_t act_bits;
    size_t first;   /* token of the pass */
    size_t tokens;  /* of the pass */
    size_t planes;  /* bytes of an activation; 0: rows are decoded */
    size_t blocks;  /* of columns */
    float *inputs;  /* [tokens, cols] */
    float *outputs; /* [tokens, rows] */
    float *bias;    /* [rows], or NULL */
    int8_t *bytes;  /* [tokens / 32, blocks, 32, planes, 32] */
    float *steps;   /* [tokens / 32, segments, 32] */
    float *sums;
    float *decoded; /* [workers, DECODED_ROWS, cols] */
    float *lookups; /* [tokens, cols to a multiple of LOOKUP_BLOCK]; NULL:
                       values are not looked up */
};

/* A task: inputs of token t of the pass, as floats, bytes and for lookups. */
void qrb__packed_load_token(size_t t, size_t worker, void *arg);

/* Tokens in the block of token t. */
size_t qrb__packed_tokens_beside(const struct qrb__packed_product *job,
                                 size_t t);

/* Whether sparse weights are left to the product. */
static inline bool
qrb__packed_adds_sparse(const struct qrb__packed_product *job)
{
    return job->packed->sparse.row_start != NULL && !job->tiles->mixed;
}

/* Columns of lookups. */
static inline size_t qrb__packed_lookup_cols(const qrb_packed *packed)
{
    return (packed->cols / QRB__LOOKUP_BLOCK +
            (packed->cols % QRB__LOOKUP_BLOCK != 0)) *
           QRB__LOOKUP_BLOCK;
}

/* Infinite results of finite factors. */
static inline void qrb__packed_clamp(float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] > FLT_MAX ? FLT_MAX : x[i];
        x[i] = x[i] < -FLT_MAX ? -FLT_MAX : x[i];
    }
}

#endif
