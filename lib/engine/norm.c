/* Root mean square norm of rows.  The gradient of its weight is a sum over
 * blocks of rows, added in order. */
#include <string.h>

#include "engine/ops.h"

static void normalize(struct qrb__engine *engine, const struct qrb__op *op,
                      const struct qrb__block *block)
{
    REAL_KERNELS(engine->ctx)->rms_norm(
        value_rows(engine, op->in, block), weight_of(engine, op->weight[0]),
        engine->config.rms_epsilon, block->rows,
        engine->graph.values[op->in].columns,
        value_rows(engine, op->out, block),
        buffer_rows(engine, op->own[0], block));
}

static void normalize_grad(struct qrb__engine *engine,
                           const struct qrb__op *op,
                           const struct qrb__block *block)
{
    const size_t dim = engine->graph.values[op->in].columns;
    real *dx = gradient_rows(engine, op->in, block);
    real *partial = buffer_rows(engine, op->own[1], NULL) + block->index * dim;

    memset(partial, 0, dim * sizeof *partial);
    if (op->sets_gradient)
        memset(dx, 0, block->rows * dim * sizeof *dx);
    REAL_KERNELS(engine->ctx)->rms_norm_grad(
        value_rows(engine, op->in, block), weight_of(engine, op->weight[0]),
        buffer_rows(engine, op->own[0], block),
        gradient_rows(engine, op->out, block), block->rows, dim, dx, partial);
}

static void add_partials(struct qrb__engine *engine, const struct qrb__op *op)
{
    const struct qrb__value *value = &engine->graph.values[op->in];
    const size_t rows = REAL(qrb__batch_rows)(engine, value->extent);
    const real *partials = buffer_rows(engine, op->own[1], NULL);

    for (size_t r = 0; r < rows; r += QRB__ROW_BLOCK)
        REAL_KERNELS(engine->ctx)->add(
            partials + r / QRB__ROW_BLOCK * value->columns, value->columns,
            gradient_of(engine, op->weight[0]));
}

const struct REAL(qrb__family) REAL(qrb__norm) = {
    .forward_rows = normalize,
    .backward_rows = normalize_grad,
    .weights = add_partials,
};
