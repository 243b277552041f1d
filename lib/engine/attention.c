/* Causal attention with grouped queries on rows of [q k v], a block of queries
 * of one head at a time: softmax(q k^T / sqrt(d)) v over the keys up to the
 * block's last query.  Backward makes the probabilities again instead of
 * keeping them: a seventh more products, and memory that grows with the
 * length instead of its square.  A task of backward owns the keys and values
 * of one head, so its sums have one order. */
#include "engine/attention.h"

struct REAL(qrb__heads) REAL(qrb__heads_of)(const struct qrb__engine *engine,
                                            const struct qrb__op *op)
{
    const qrb_engine_config *config = &engine->config;
    struct REAL(qrb__heads) heads = {
        .length = engine->batch.length,
        .dim = config->head_dim,
        .group = config->heads / config->kv_heads,
        .in = engine->graph.values[op->in].columns,
        .out = engine->graph.values[op->out].columns,
        .scale = 1 / sqrt((double)config->head_dim),
        .q = value_rows(engine, op->in, NULL),
        .y = value_rows(engine, op->out, NULL),
    };

    heads.blocks =
        (heads.length + QRB__QUERY_BLOCK - 1) / QRB__QUERY_BLOCK;
    heads.k = heads.q + config->heads * heads.dim;
    heads.v = heads.k + config->kv_heads * heads.dim;
    if (engine->plan.flags & QRB__PLAN_TRAIN) {
        heads.dq = gradient_rows(engine, op->in, NULL);
        heads.dk = heads.dq + config->heads * heads.dim;
        heads.dv = heads.dk + config->kv_heads * heads.dim;
        heads.dy = gradient_rows(engine, op->out, NULL);
    }
    return heads;
}

/* Products of a block of queries with the first `keys` keys or values. */
static struct qrb__gemm block_times_keys(const struct REAL(qrb__heads) *heads,
                                         const struct REAL(qrb__queries) *at,
                                         size_t stride_a, size_t stride_c)
{
    return (struct qrb__gemm){ .m = at->rows,
                               .n = at->keys,
                               .k = heads->dim,
                               .lda = stride_a,
                               .ldb = heads->in,
                               .ldc = stride_c,
                               .alpha = 1,
                               .transpose_b = true };
}

static struct qrb__gemm tile_times_keys(const struct REAL(qrb__heads) *heads,
                                        const struct REAL(qrb__queries) *at,
                                        size_t stride_a, size_t stride_c)
{
    return (struct qrb__gemm){ .m = at->rows,
                               .n = heads->dim,
                               .k = at->keys,
                               .lda = stride_a,
                               .ldb = heads->in,
                               .ldc = stride_c,
                               .alpha = 1 };
}

static struct qrb__gemm tile_times_block(const struct REAL(qrb__heads) *heads,
                                         const struct REAL(qrb__queries) *at,
                                         size_t stride_a, size_t stride_b)
{
    return (struct qrb__gemm){ .m = at->keys,
                               .n = heads->dim,
                               .k = at->rows,
                               .lda = stride_a,
                               .ldb = stride_b,
                               .ldc = heads->in,
                               .alpha = 1,
                               .beta = at->first_of_sum ? 0 : 1,
                               .transpose_a = true };
}

void REAL(qrb__attention_logits)(qrb_context *ctx,
                                 const struct REAL(qrb__heads) *heads,
                                 const struct REAL(qrb__queries) *at,
                                 real *tile, size_t stride)
{
    struct qrb__gemm shape = block_times_keys(heads, at, heads->in, stride);

    shape.alpha = heads->scale;
    REAL(qrb__gemm)(ctx, &shape,
                    heads->q + at->row * heads->in + at->head * heads->dim,
                    heads->k + at->first_row * heads->in +
                        at->key_head * heads->dim,
                    tile);
}

void REAL(qrb__attention_mix)(qrb_context *ctx,
                              const struct REAL(qrb__heads) *heads,
                              const struct REAL(qrb__queries) *at,
                              const real *tile, size_t stride)
{
    const struct qrb__gemm shape =
        tile_times_keys(heads, at, stride, heads->out);

    REAL(qrb__gemm)(ctx, &shape, tile,
                    heads->v + at->first_row * heads->in +
                        at->key_head * heads->dim,
                    heads->y + at->row * heads->out + at->head * heads->dim);
}

void REAL(qrb__attention_softmax)(qrb_context *ctx,
                                  const struct REAL(qrb__queries) *at,
                                  real *tile, size_t stride)
{
    REAL_KERNELS(ctx)->softmax(tile, stride, at->rows, at->query + 1,
                               at->keys);
}

void REAL(qrb__attention_softmax_grad)(qrb_context *ctx,
                                       const struct REAL(qrb__queries) *at,
                                       const real *tile, real *gradient,
                                       size_t stride)
{
    REAL_KERNELS(ctx)->softmax_grad(tile, gradient, stride, at->rows,
                                    at->query + 1, at->keys);
}

void REAL(qrb__attention_probs_grad)(qrb_context *ctx,
                                     const struct REAL(qrb__heads) *heads,
                                     const struct REAL(qrb__queries) *at,
                                     real *gradient, size_t stride)
{
    const struct qrb__gemm shape =
        block_times_keys(heads, at, heads->out, stride);

    REAL(qrb__gemm)(ctx, &shape,
                    heads->dy + at->row * heads->out + at->head * heads->dim,
                    heads->v + at->first_row * heads->in +
                        at->key_head * heads->dim,
                    gradient);
}

void REAL(qrb__attention_values_grad)(qrb_context *ctx,
                                      const struct REAL(qrb__heads) *heads,
                                      const struct REAL(qrb__queries) *at,
                                      const real *tile, size_t stride)
{
    const struct qrb__gemm shape =
        tile_times_block(heads, at, stride, heads->out);

    REAL(qrb__gemm)(ctx, &shape, tile,
                    heads->dy + at->row * heads->out + at->head * heads->dim,
                    heads->dv + at->first_row * heads->in +
                        at->key_head * heads->dim);
}

void REAL(qrb__attention_keys_grad)(qrb_context *ctx,
                                    const struct REAL(qrb__heads) *heads,
                                    const struct REAL(qrb__queries) *at,
                                    const real *gradient, size_t stride)
{
    struct qrb__gemm queries =
        tile_times_keys(heads, at, stride, heads->in);
    struct qrb__gemm keys =
        tile_times_block(heads, at, stride, heads->in);
    const size_t q = at->row * heads->in + at->head * heads->dim;
    const size_t k =
        at->first_row * heads->in + at->key_head * heads->dim;

    queries.alpha = heads->scale;
    keys.alpha = heads->scale;
    REAL(qrb__gemm)(ctx, &queries, gradient, heads->k + k, heads->dq + q);
    REAL(qrb__gemm)(ctx, &keys, gradient, heads->q + q, heads->dk + k);
}

struct REAL(qrb__queries) REAL(qrb__queries_at)(
    const struct REAL(qrb__heads) *heads, size_t sequence, size_t head,
    size_t block)
{
    const size_t query = block * QRB__QUERY_BLOCK;
    const size_t left = heads->length - query;
    const size_t rows = left < QRB__QUERY_BLOCK ? left : QRB__QUERY_BLOCK;

    return (struct REAL(qrb__queries)){
        .head = head,
        .key_head = head / heads->group,
        .first_row = sequence * heads->length,
        .row = sequence * heads->length + query,
        .query = query,
        .rows = rows,
        .keys = query + rows,
        .first_of_sum =
            head % heads->group == 0 && block + 1 == heads->blocks,
    };
}

struct attention {
    struct qrb__engine *engine;
    const struct qrb__op *op;
    struct REAL(qrb__heads) heads;
};

static real *tile_of(const struct attention *work, size_t which,
                     size_t worker)
{
    const struct qrb__block block = { .worker = worker };

    return buffer_rows(work->engine, work->op->own[which], &block);
}

static void attend_block(size_t task, size_t worker, void *arg)
{
    const struct attention *work = arg;
    const struct REAL(qrb__heads) *heads = &work->heads;
    qrb_context *ctx = work->engine->ctx;
    const size_t all = work->engine->config.heads;
    const size_t block = task % heads->blocks;
    const size_t head = task / heads->blocks % all;
    const struct REAL(qrb__queries) at = REAL(qrb__queries_at)(
        heads, task / heads->blocks / all, head, block);
    real *tile = tile_of(work, 0, worker);

    REAL(qrb__attention_logits)(ctx, heads, &at, tile, at.keys);
    REAL(qrb__attention_softmax)(ctx, &at, tile, at.keys);
    REAL(qrb__attention_mix)(ctx, heads, &at, tile, at.keys);
}

static qrb_status attend(struct qrb__engine *engine, const struct qrb__op *op)
{
    struct attention work = { engine, op, REAL(qrb__heads_of)(engine, op) };

    if (engine->cache != NULL)
        return REAL(qrb__attention_cached)(engine, op);
    if (engine->plan.flags & QRB__PLAN_SQUARES)
        return REAL(qrb__attention_tapped)(engine, op);
    qrb__parallel_for(engine->ctx,
                      engine->batch.sequences * engine->config.heads *
                          work.heads.blocks,
                      attend_block, &work);
    return QRB_OK;
}

/* All queries of the heads that share one key head, from the last block of
 * each, which touches every key, to the first. */
static void attend_grad(size_t task, size_t worker, void *arg)
{
    const struct attention *work = arg;
    const struct REAL(qrb__heads) *heads = &work->heads;
    qrb_context *ctx = work->engine->ctx;
    const size_t key_heads = work->engine->config.kv_heads;
    real *tile = tile_of(work, 0, worker);
    real *gradient = tile_of(work, 1, worker);

    for (size_t h = 0; h < heads->group; h++)
        for (size_t block = heads->blocks; block-- > 0;) {
            const struct REAL(qrb__queries) at = REAL(qrb__queries_at)(
                heads, task / key_heads,
                task % key_heads * heads->group + h, block);

            REAL(qrb__attention_logits)(ctx, heads, &at, tile, at.keys);
            REAL(qrb__attention_softmax)(ctx, &at, tile, at.keys);
            REAL(qrb__attention_values_grad)(ctx, heads, &at, tile, at.keys);
            REAL(qrb__attention_probs_grad)(ctx, heads, &at, gradient,
                                            at.keys);
            REAL(qrb__attention_softmax_grad)(ctx, &at, tile, gradient,
                                              at.keys);
            REAL(qrb__attention_keys_grad)(ctx, heads, &at, gradient,
                                           at.keys);
        }
}

static qrb_status attend_back(struct qrb__engine *engine,
                              const struct qrb__op *op)
{
    struct attention work = { engine, op, REAL(qrb__heads_of)(engine, op) };

    if (engine->plan.flags & QRB__PLAN_SQUARES)
        return REAL(qrb__attention_tapped_grad)(engine, op);
    qrb__parallel_for(engine->ctx,
                      engine->batch.sequences * engine->config.kv_heads,
                      attend_grad, &work);
    return QRB_OK;
}

const struct REAL(qrb__family) REAL(qrb__attention) = {
    .forward = attend,
    .backward = attend_back,
};
