/* The rows that predict a scored token, one after another, so that the last
 * norm and the head compute nothing else.  The gradient of a row that was left
 * out is zero. */
#include <string.h>

#include "engine/ops.h"

static void gather(struct qrb__engine *engine, const struct qrb__op *op,
                   const struct qrb__block *block)
{
    const size_t dim = engine->graph.values[op->in].columns;
    const struct qrb__scored *scored = engine->scored + block->first;
    const real *x = value_rows(engine, op->in, NULL);
    real *out = value_rows(engine, op->out, block);

    for (size_t i = 0; i < block->rows; i++)
        memcpy(out + i * dim, x + scored[i].row * dim, dim * sizeof *out);
}

static void clear_rows(struct qrb__engine *engine, const struct qrb__op *op,
                       const struct qrb__block *block)
{
    const size_t dim = engine->graph.values[op->in].columns;

    memset(gradient_rows(engine, op->in, block), 0,
           block->rows * dim * sizeof(real));
}

static void scatter_rows(struct qrb__engine *engine, const struct qrb__op *op,
                         const struct qrb__block *block)
{
    const size_t dim = engine->graph.values[op->in].columns;
    const struct qrb__scored *scored = engine->scored + block->first;
    const real *dy = gradient_rows(engine, op->out, block);
    real *dx = gradient_rows(engine, op->in, NULL);

    for (size_t i = 0; i < block->rows; i++)
        memcpy(dx + scored[i].row * dim, dy + i * dim, dim * sizeof *dx);
}

static qrb_status scatter(struct qrb__engine *engine, const struct qrb__op *op)
{
    REAL(qrb__each_block)(engine, op, engine->batch.rows, clear_rows);
    REAL(qrb__each_block)(engine, op, engine->batch.scored, scatter_rows);
    return QRB_OK;
}

const struct REAL(qrb__family) REAL(qrb__select) = {
    .forward_rows = gather,
    .backward = scatter,
};
