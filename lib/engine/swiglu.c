/* The gated unit silu(gate) up on rows of [gate up]. */
#include "engine/ops.h"

static void gate(struct qrb__engine *engine, const struct qrb__op *op,
                 const struct qrb__block *block)
{
    const size_t hidden = engine->graph.values[op->out].columns;
    const real *x = value_rows(engine, op->in, block);
    real *y = value_rows(engine, op->out, block);

    for (size_t r = 0; r < block->rows; r++, x += 2 * hidden, y += hidden)
        REAL_KERNELS(engine->ctx)->swiglu(x, x + hidden, hidden, y);
}

static void gate_grad(struct qrb__engine *engine, const struct qrb__op *op,
                      const struct qrb__block *block)
{
    const size_t hidden = engine->graph.values[op->out].columns;
    const real *x = value_rows(engine, op->in, block);
    const real *dy = gradient_rows(engine, op->out, block);
    real *dx = gradient_rows(engine, op->in, block);

    for (size_t r = 0; r < block->rows;
         r++, x += 2 * hidden, dx += 2 * hidden, dy += hidden)
        REAL_KERNELS(engine->ctx)->swiglu_grad(x, x + hidden, dy, hidden, dx,
                                               dx + hidden);
}

const struct REAL(qrb__family) REAL(qrb__swiglu) = {
    .forward_rows = gate,
    .backward_rows = gate_grad,
};
