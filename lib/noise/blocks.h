/* Bound parameters cut into blocks of fixed size, which are the tasks of
 * parallel loops and the terms of sums: neither the split nor the order of
 * addition depends on the number of threads. */
#ifndef QRB_NOISE_BLOCKS_H
#define QRB_NOISE_BLOCKS_H

#include "tensor/parameter.h"

enum {
    QRB__BLOCK = 65536, /* elements of a block at most */
    QRB__CHUNK = 2048   /* elements that are worked on at a time; of 4 */
};

struct qrb__blocks {
    size_t *first; /* [parameters + 1]: number of a parameter's first block */
    size_t parameters;
    double (*sums)[2]; /* [blocks]: scratch of reductions */
};

/* Elements [first, first + count) of a parameter. */
struct qrb__block {
    size_t parameter;
    size_t first;
    size_t count;
};

/* Memory for QRB__CHUNK elements of either type. */
union qrb__chunk {
    float f32[QRB__CHUNK];
    double f64[QRB__CHUNK];
};

qrb_status qrb__blocks_make(qrb_context *ctx,
                            struct qrb__parameter *const *parameters,
                            size_t count, struct qrb__blocks *out);
/* How many a parameter of so many elements is cut into, and the bytes that
 * blocks of so many parameters hold. */
size_t qrb__blocks_of(size_t elements);
uint64_t qrb__blocks_bytes(size_t parameters, uint64_t blocks);
void qrb__blocks_free(qrb_context *ctx, struct qrb__blocks *blocks);

size_t qrb__blocks_total(const struct qrb__blocks *blocks);
struct qrb__block qrb__block_at(const struct qrb__blocks *blocks,
                                struct qrb__parameter *const *parameters,
                                size_t block);

/* Column of the sums, added over a parameter's blocks in their order. */
double qrb__blocks_sum(const struct qrb__blocks *blocks, size_t parameter,
                       int column);

/* Elements of a block from `done` on that are worked on next. */
size_t qrb__chunk_at(const struct qrb__block *block, size_t done);

/* Elements [first, first + count) in row-major order: where they lie, if the
 * view is dense, else gathered into the buffer. */
void *qrb__chunk_load(qrb_context *ctx, const struct qrb__view *view,
                      size_t first, size_t count, union qrb__chunk *buffer);
/* Scatter what was loaded and changed; nothing if it was changed in place. */
void qrb__chunk_store(qrb_context *ctx, const struct qrb__view *view,
                      size_t first, size_t count, const void *loaded);

#endif
