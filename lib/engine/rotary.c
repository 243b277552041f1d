/* Rotary positions (Su et al., "RoFormer", arXiv:2104.09864, eq. 34) on the
 * heads of q and k in rows of [q k v], in place; the gradient turns back. */
#include "engine/ops.h"

static void turn_rows(struct qrb__engine *engine, real *rows,
                      const struct qrb__block *block, size_t columns,
                      int inverse)
{
    const qrb_engine_config *config = &engine->config;
    const size_t length = engine->batch.length;
    const size_t half = config->head_dim / 2;
    const real *cosine = engine->cosine;
    const real *sine = engine->sine;

    for (size_t done = 0; done < block->rows;) {
        const size_t position = (block->first + done) % length;
        const size_t left = block->rows - done;
        const size_t count =
            length - position < left ? length - position : left;

        REAL_KERNELS(engine->ctx)->rotary(
            rows + done * columns, columns, cosine + position * half,
            sine + position * half, count, config->heads + config->kv_heads,
            config->head_dim, config->rotary == QRB_ROTARY_INTERLEAVED,
            inverse);
        done += count;
    }
}

static void turn(struct qrb__engine *engine, const struct qrb__op *op,
                 const struct qrb__block *block)
{
    turn_rows(engine, value_rows(engine, op->in, block), block,
              engine->graph.values[op->in].columns, 0);
}

static void turn_back(struct qrb__engine *engine, const struct qrb__op *op,
                      const struct qrb__block *block)
{
    turn_rows(engine, gradient_rows(engine, op->in, block), block,
              engine->graph.values[op->in].columns, 1);
}

const struct REAL(qrb__family) REAL(qrb__rotary) = {
    .forward_rows = turn,
    .backward_rows = turn_back,
};
