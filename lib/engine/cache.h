/* The cache of keys and values of one sequence, [layers, 2, heads, context]
 * rows of a head's elements each: of the engine's type, halves, or codes, and
 * for codes a scale and a zero point of each row.  Rows of a head lie one
 * behind the other, so that what is kept as it is computed is a matrix of the
 * product kernels as it stands. */
#ifndef QRB_ENGINE_CACHE_H
#define QRB_ENGINE_CACHE_H

#include "core/context.h"
#include "quant/grid.h"

enum {
    QRB__CACHE_TILE_ROWS = 64, /* queries times heads of a task of attention */
    QRB__CACHE_KEYS = 256      /* rows that a task decodes at one time */
};

struct qrb__cache {
    uint32_t kv_bits; /* 0: of the engine's type; 16, 8 or 4 */
    struct qrb__grid grid;
    size_t heads; /* of keys */
    size_t dim;   /* elements of a row */
    size_t context;
    size_t workers;
    size_t past;         /* rows that are there before the block at hand */
    size_t row;          /* bytes of a row */
    unsigned char *rows; /* [layers, 2, heads, context, row] */
    void *scales;        /* [layers, 2, heads, context, 2]; NULL: no codes */
    /* Each worker's. */
    void *tiles;    /* [workers, TILE_ROWS, context] attention */
    void *decoded;  /* [workers, KEYS, dim]; NULL: rows are used in place */
    int32_t *codes; /* [workers, dim]; NULL: no codes */
    double *units;  /* [workers, 2, KEYS] scales and zero points, likewise */
};

/* Rows [first, first + count) of a head's keys (which 0) or values (1). */
struct qrb__cache_rows {
    size_t layer;
    size_t which;
    size_t head;
    size_t first;
    size_t count;
};

/* The number of a row among all. */
static inline size_t qrb__cache_at(const struct qrb__cache *cache,
                                   const struct qrb__cache_rows *rows)
{
    return ((rows->layer * 2 + rows->which) * cache->heads + rows->head) *
               cache->context +
           rows->first;
}

/* Keep rows of x, which are `stride` apart. */
void qrb__cache_store_f32(const struct qrb__cache *cache,
                          const struct qrb__cache_rows *rows, const float *x,
                          size_t stride, size_t worker);
void qrb__cache_store_f64(const struct qrb__cache *cache,
                          const struct qrb__cache_rows *rows, const double *x,
                          size_t stride, size_t worker);

/* Rows as a dense matrix, in place or in the worker's memory, where there is
 * room for QRB__CACHE_KEYS of them. */
const float *qrb__cache_load_f32(const struct qrb__cache *cache,
                                 const struct qrb__kernels *kernels,
                                 const struct qrb__cache_rows *rows,
                                 size_t worker);
const double *qrb__cache_load_f64(const struct qrb__cache *cache,
                                  const struct qrb__kernels *kernels,
                                  const struct qrb__cache_rows *rows,
                                  size_t worker);

#endif
