/* The plan of a graph's memory for batches up to a capacity: which ops run
 * together, and where each buffer lies in the arena. */
#ifndef QRB_ENGINE_PLAN_H
#define QRB_ENGINE_PLAN_H

#include "engine/graph.h"

/* What a plan provides for. */
enum qrb__plan_flag {
    QRB__PLAN_TRAIN = 1,   /* a backward pass */
    QRB__PLAN_TAPS = 2,    /* op by op: layer or linear points are tapped */
    QRB__PLAN_SQUARES = 4, /* attention points are tapped */
    QRB__PLAN_LOGITS = 8   /* the head's output is tapped */
};

/* The largest batch. */
struct qrb__capacity {
    size_t tokens;
    size_t scored; /* rows that predict */
    size_t length;
    size_t squares; /* batch * heads * length * length */
    size_t workers;
};

/* Ops [first, first + count) in order of the forward pass. */
struct qrb__segment {
    size_t first;
    size_t count;
    uint32_t extent; /* TOKENS or SCORED */
    bool by_rows;
};

struct qrb__place {
    size_t offset;   /* in elements, of the arena or of a worker's part */
    size_t elements; /* 0: not in this plan */
    size_t first_step;
    size_t last_step;
    size_t first_time; /* finer than steps: the op within the segment */
    size_t last_time;
    bool used;
    bool local;
};

struct qrb__plan {
    uint32_t flags;
    struct qrb__capacity capacity;
    struct qrb__place *places;     /* [buffers] */
    size_t *order;                 /* [buffers], scratch of the packing */
    size_t *placed;                /* [buffers], likewise */
    struct qrb__segment *segments; /* [2 * ops]: forward, then backward */
    size_t forward;
    size_t backward;
    size_t workers_offset; /* where the workers' parts begin */
    size_t worker_stride;
    size_t elements; /* of the arena */
};

/* Allocate an empty plan for a graph; released after a failure too. */
qrb_status qrb__plan_create(const struct qrb__graph *graph,
                            struct qrb__plan *plan);
void qrb__plan_release(qrb_context *ctx, struct qrb__plan *plan);

/* Lay a graph out; allocates nothing.  QRB_E_SHAPE when sizes overflow. */
qrb_status qrb__plan_lay_out(const struct qrb__graph *graph,
                             const struct qrb__capacity *capacity,
                             uint32_t flags, struct qrb__plan *plan);

/* Rows of logits that exist at one time when `rows` are scored. */
size_t qrb__plan_chunk(uint32_t flags, size_t rows, size_t vocab);

/* Bytes of a plan's own arrays. */
size_t qrb__plan_bytes(const struct qrb__graph *graph);

/* The buffer that stands for `buffer` in this plan. */
size_t qrb__plan_resolve(const struct qrb__graph *graph, uint32_t flags,
                         size_t buffer);

#endif
