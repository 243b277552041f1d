/* Rows of a table by token, and the gradient: each task owns some columns of
 * the table and adds the tokens' rows in order, so that repeated tokens are
 * summed in one order whatever the number of threads.  O(rows * dim). */
#include <string.h>

#include "engine/ops.h"

enum { COLUMNS = 32 }; /* of a task */

static size_t token_at(const struct qrb__engine_batch *batch, size_t row)
{
    return (size_t)batch->tokens[row / batch->length * batch->stride +
                                 row % batch->length];
}

static void embed(struct qrb__engine *engine, const struct qrb__op *op,
                  const struct qrb__block *block)
{
    const size_t dim = engine->graph.values[op->out].columns;
    const real *table = weight_of(engine, op->weight[0]);
    real *out = value_rows(engine, op->out, block);

    for (size_t i = 0; i < block->rows; i++)
        memcpy(out + i * dim,
               table + token_at(&engine->batch, block->first + i) * dim,
               dim * sizeof *out);
}

struct scatter {
    struct qrb__engine *engine;
    const struct qrb__op *op;
    size_t dim;
};

static void scatter_columns(size_t task, size_t worker, void *arg)
{
    const struct scatter *work = arg;
    struct qrb__engine *engine = work->engine;
    const size_t first = task * COLUMNS;
    const size_t count =
        work->dim - first < COLUMNS ? work->dim - first : COLUMNS;
    const real *dy = gradient_rows(engine, work->op->out, NULL);
    real *table = gradient_of(engine, work->op->weight[0]);

    (void)worker;
    for (size_t r = 0; r < engine->batch.rows; r++)
        REAL_KERNELS(engine->ctx)->add(
            dy + r * work->dim + first, count,
            table + token_at(&engine->batch, r) * work->dim + first);
}

static qrb_status scatter(struct qrb__engine *engine, const struct qrb__op *op)
{
    struct scatter work = { engine, op,
                            engine->graph.values[op->out].columns };

    qrb__parallel_for(engine->ctx, (work.dim + COLUMNS - 1) / COLUMNS,
                      scatter_columns, &work);
    return QRB_OK;
}

const struct REAL(qrb__family) REAL(qrb__embedding) = {
    .forward_rows = embed,
    .backward = scatter,
};
