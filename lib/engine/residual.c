/* The residual stream: the sum of it and of what a block adds; and the point
 * where it enters a block.  One buffer holds the stream's gradient for all
 * blocks; where it may (llama.c) it is the gradient of the other summand too.
 */
#include <string.h>

#include "engine/ops.h"

static void sum(struct qrb__engine *engine, const struct qrb__op *op,
                const struct qrb__block *block)
{
    const size_t count = block->rows * engine->graph.values[op->out].columns;
    real *out = value_rows(engine, op->out, block);

    memcpy(out, value_rows(engine, op->in, block), count * sizeof *out);
    REAL_KERNELS(engine->ctx)->add(value_rows(engine, op->second, block),
                                   count, out);
}

static void sum_grad(struct qrb__engine *engine, const struct qrb__op *op,
                     const struct qrb__block *block)
{
    const size_t count = block->rows * engine->graph.values[op->out].columns;
    const real *dy = gradient_rows(engine, op->out, block);
    real *dx = gradient_rows(engine, op->second, block);

    if (dx != dy)
        memcpy(dx, dy, count * sizeof *dx);
}

const struct REAL(qrb__family) REAL(qrb__residual) = {
    .forward_rows = sum,
    .backward_rows = sum_grad,
};

static qrb_status tap_layer(struct qrb__engine *engine,
                            const struct qrb__op *op)
{
    const size_t shape[2] = { engine->batch.rows,
                              engine->graph.values[op->in].columns };

    return qrb__engine_tap(engine, QRB_TAP_LAYER_INPUT, (size_t)op->layer, 2,
                           shape, value_rows(engine, op->in, NULL));
}

static qrb_status tap_layer_grad(struct qrb__engine *engine,
                                 const struct qrb__op *op)
{
    const size_t shape[2] = { engine->batch.rows,
                              engine->graph.values[op->in].columns };

    return qrb__engine_tap(engine, QRB_TAP_LAYER_INPUT | QRB_TAP_GRAD,
                           (size_t)op->layer, 2, shape,
                           gradient_rows(engine, op->in, NULL));
}

const struct REAL(qrb__family) REAL(qrb__layer_tap) = {
    .forward_tapped = tap_layer,
    .backward_tapped = tap_layer_grad,
};
