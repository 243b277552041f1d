/* The families of ops, compiled for float and for double.  A family offers
 * what the executor (pass.c) calls: on a block of rows, for ops whose rows are
 * independent, or on everything. */
#ifndef QRB_ENGINE_OPS_H
#define QRB_ENGINE_OPS_H

#include "engine/engine.h"
#include "kernel/real.h"
#include "tensor/gemm.h"

#if QRB_REAL_BITS == 32
#define REAL_KERNELS(ctx) (&(ctx)->kernels.f32)
#else
#define REAL_KERNELS(ctx) (&(ctx)->kernels.f64)
#endif

/* Rows [first, first + rows) as task number `index` of a loop. */
struct qrb__block {
    size_t first;
    size_t rows;
    size_t index;
    size_t worker;
};

typedef void (*REAL(qrb__rows_fn))(struct qrb__engine *engine,
                                   const struct qrb__op *op,
                                   const struct qrb__block *block);
typedef qrb_status (*REAL(qrb__whole_fn))(struct qrb__engine *engine,
                                          const struct qrb__op *op);

/* NULL: nothing to do. */
struct REAL(qrb__family) {
    REAL(qrb__rows_fn) forward_rows;
    REAL(qrb__rows_fn) backward_rows;
    /* Sums over rows, after the blocks of a segment. */
    void (*weights)(struct qrb__engine *engine, const struct qrb__op *op);
    /* Instead of rows, and of weights: where rows do not do (graph.h), or when
     * the plan is for taps. */
    REAL(qrb__whole_fn) forward;
    REAL(qrb__whole_fn) backward;
    REAL(qrb__whole_fn) forward_tapped;
    REAL(qrb__whole_fn) backward_tapped;
};

extern const struct REAL(qrb__family) REAL(qrb__embedding);
extern const struct REAL(qrb__family) REAL(qrb__layer_tap);
extern const struct REAL(qrb__family) REAL(qrb__norm);
extern const struct REAL(qrb__family) REAL(qrb__linear);
extern const struct REAL(qrb__family) REAL(qrb__rotary);
extern const struct REAL(qrb__family) REAL(qrb__attention);
extern const struct REAL(qrb__family) REAL(qrb__swiglu);
extern const struct REAL(qrb__family) REAL(qrb__residual);
extern const struct REAL(qrb__family) REAL(qrb__select);
extern const struct REAL(qrb__family) REAL(qrb__head);

/* First element of the rows of a block in a buffer; block NULL: of all. */
static inline real *buffer_rows(const struct qrb__engine *engine,
                                size_t buffer, const struct qrb__block *block)
{
    const struct qrb__plan *plan = &engine->plan;
    const size_t index =
        qrb__plan_resolve(&engine->graph, plan->flags, buffer);
    const struct qrb__place *place = &plan->places[index];
    real *arena = engine->arena;

    if (place->local)
        return arena + plan->workers_offset +
               block->worker * plan->worker_stride + place->offset;
    return arena + place->offset +
           (block == NULL ? 0
                          : block->first *
                                engine->graph.buffers[index].columns);
}

static inline real *value_rows(const struct qrb__engine *engine, size_t value,
                               const struct qrb__block *block)
{
    return buffer_rows(engine, engine->graph.values[value].buffer, block);
}

static inline real *gradient_rows(const struct qrb__engine *engine,
                                  size_t value, const struct qrb__block *block)
{
    return buffer_rows(engine, engine->graph.values[value].gradient, block);
}

static inline real *weight_of(const struct qrb__engine *engine, size_t index)
{
    return engine->parameters[index].weight;
}

static inline real *gradient_of(const struct qrb__engine *engine, size_t index)
{
    return engine->parameters[index].gradient;
}

/* Run a family's function over blocks of rows in parallel. */
void REAL(qrb__each_block)(struct qrb__engine *engine,
                           const struct qrb__op *op, size_t rows,
                           REAL(qrb__rows_fn) fn);
/* Rows of this extent in the batch at hand. */
size_t REAL(qrb__batch_rows)(const struct qrb__engine *engine,
                             uint32_t extent);

/* Attention points are tapped: everything is in memory at once. */
qrb_status REAL(qrb__attention_tapped)(struct qrb__engine *engine,
                                       const struct qrb__op *op);
qrb_status REAL(qrb__attention_tapped_grad)(struct qrb__engine *engine,
                                            const struct qrb__op *op);

/* The batch is a block of tokens of one sequence whose keys and values are in
 * engine->cache. */
qrb_status REAL(qrb__attention_cached)(struct qrb__engine *engine,
                                       const struct qrb__op *op);

/* Weights from number `first` of a linear that lie one behind the other, or
 * their gradients, are multiplied as one; *columns receives their outputs. */
size_t REAL(qrb__linear_run)(const struct qrb__engine *engine,
                             const struct qrb__op *op, size_t first,
                             bool gradients, size_t *columns);
/* Sums over rows for the bias of weight number `index`, whose gradient begins
 * at dy in rows `stride` apart. */
void REAL(qrb__linear_bias_grad)(struct qrb__engine *engine,
                                 const struct qrb__op *op, size_t index,
                                 size_t rows, const real *dy, size_t stride);

/* Linear points are tapped: weight by weight, each with an input of its own. */
qrb_status REAL(qrb__linear_tapped)(struct qrb__engine *engine,
                                    const struct qrb__op *op);
qrb_status REAL(qrb__linear_tapped_grad)(struct qrb__engine *engine,
                                         const struct qrb__op *op);

#endif
