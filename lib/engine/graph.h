/* The static graph of a model: values, ops that make them, and the plan of
 * the memory that they use.  A graph is built once a model and knows no batch;
 * a plan lays its buffers out in one arena for the largest batch so far.
 *
 * Ops whose rows do not depend on each other are run together, one block of
 * rows at a time (a segment), so that what passes between them stays in the
 * cache.  A buffer that lives inside one segment is local: a block of rows for
 * each worker instead of one row for each token. */
#ifndef QRB_ENGINE_GRAPH_H
#define QRB_ENGINE_GRAPH_H

#include "core/context.h"

#define QRB__NONE SIZE_MAX

enum {
    QRB__ROW_BLOCK = 128,  /* rows of a task; results depend on it */
    QRB__QUERY_BLOCK = 64, /* queries of a task of attention */
    QRB__WIDE = 512,       /* both sides of a linear that runs as a whole */
    QRB__MAX_FUSED = 3,    /* linears that share an input: q, k, v */
    QRB__MAX_OWN = 5       /* buffers of an op beside its values */
};

enum qrb__op_kind {
    QRB__OP_EMBEDDING, /* rows of a table */
    QRB__OP_TAP,       /* the named point LAYER_INPUT */
    QRB__OP_NORM,      /* root mean square norm */
    QRB__OP_LINEAR,    /* up to three weights side by side on one input */
    QRB__OP_ROTARY,    /* turns q and k of a fused [q k v] in place */
    QRB__OP_ATTENTION, /* causal, grouped queries, on a fused [q k v] */
    QRB__OP_SWIGLU,    /* silu(gate) up, on a fused [gate up] */
    QRB__OP_RESIDUAL,  /* sum of two values */
    QRB__OP_SELECT,    /* the rows that predict a scored token */
    QRB__OP_HEAD,      /* logits, and the loss and its gradient */
    QRB__OP_KINDS
};

/* What the rows of a buffer are. */
enum qrb__extent {
    QRB__EXTENT_TOKENS,  /* tokens of the batch */
    QRB__EXTENT_SCORED,  /* rows that predict */
    QRB__EXTENT_BLOCKS,  /* blocks of rows: partial sums */
    QRB__EXTENT_TILE,    /* queries of a task times length, each worker's */
    QRB__EXTENT_SQUARES, /* batch, heads, query, key */
    QRB__EXTENT_CHUNK    /* scored rows whose logits exist at one time */
};

struct qrb__buffer {
    size_t columns; /* elements a row */
    uint32_t extent;
    size_t alias; /* the buffer that it is while nobody taps, or NONE */
};

/* A matrix between ops. */
struct qrb__value {
    size_t columns;
    size_t buffer;
    size_t gradient; /* buffer */
    uint32_t extent; /* TOKENS or SCORED */
};

struct qrb__op {
    uint32_t kind;
    int32_t layer;
    size_t in; /* values; in == out for ops that work in place */
    size_t second;
    size_t out;
    size_t weights;                 /* how many of the two below */
    size_t weight[QRB__MAX_FUSED];  /* parameters */
    size_t bias[QRB__MAX_FUSED];    /* parameters or NONE */
    size_t own[QRB__MAX_OWN];       /* buffers or NONE */
    bool sets_gradient;             /* of its input; else adds to it */
};

struct qrb__graph {
    qrb_context *ctx;
    struct qrb__buffer *buffers;
    struct qrb__value *values;
    struct qrb__op *ops;
    size_t buffer_count;
    size_t value_count;
    size_t op_count;
    size_t buffer_capacity;
    size_t value_capacity;
    size_t op_capacity;
    bool failed; /* an allocation did; sticks until the end of building */
};

/* Builders; after a failed allocation they do nothing and return NONE. */
size_t qrb__graph_buffer(struct qrb__graph *graph, uint32_t extent,
                         size_t columns);
size_t qrb__graph_value(struct qrb__graph *graph, uint32_t extent,
                        size_t columns);
/* An op without weights and own buffers; NULL after a failure. */
struct qrb__op *qrb__graph_op(struct qrb__graph *graph, uint32_t kind,
                              int32_t layer, size_t in, size_t out);
void qrb__graph_release(struct qrb__graph *graph);

/* Whether rows of an op are made block by block, forward or backward. */
bool qrb__op_by_rows(const struct qrb__graph *graph, const struct qrb__op *op,
                     bool backward);

#endif
