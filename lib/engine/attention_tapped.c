/* Attention whose points are tapped: logits and probabilities of a layer are
 * in memory at once, [batch, heads, query, key], and the probabilities that
 * the listeners made stay for the backward pass.  Entries behind the mask are
 * logits like any other before softmax, 0 after it, and their gradients 0. */
#include <string.h>

#include "engine/attention.h"

struct squares {
    struct qrb__engine *engine;
    struct REAL(qrb__heads) heads;
    real *probs;    /* [batch, heads, query, key] */
    real *gradient; /* the same; NULL on the way forward */
};

static struct squares squares_of(struct qrb__engine *engine,
                                 const struct qrb__op *op, bool backward)
{
    return (struct squares){
        .engine = engine,
        .heads = REAL(qrb__heads_of)(engine, op),
        .probs = buffer_rows(engine, op->own[2], NULL),
        .gradient =
            backward ? buffer_rows(engine, op->own[3], NULL) : NULL,
    };
}

/* Task number `task` and where its rows begin in a square. */
static struct REAL(qrb__queries) block_of(const struct squares *work,
                                          size_t task, size_t *offset)
{
    const struct REAL(qrb__heads) *heads = &work->heads;
    const size_t all = work->engine->config.heads;
    const size_t square = task / heads->blocks;
    struct REAL(qrb__queries) at = REAL(qrb__queries_at)(
        heads, square / all, square % all, task % heads->blocks);

    *offset = (square * heads->length + at.query) * heads->length;
    return at;
}

static void make_logits(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    size_t offset;
    struct REAL(qrb__queries) at = block_of(work, task, &offset);

    (void)worker;
    at.keys = work->heads.length;
    REAL(qrb__attention_logits)(work->engine->ctx, &work->heads, &at,
                                work->probs + offset, work->heads.length);
}

static void make_probs(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    size_t offset;
    struct REAL(qrb__queries) at = block_of(work, task, &offset);

    (void)worker;
    at.keys = work->heads.length;
    REAL(qrb__attention_softmax)(work->engine->ctx, &at, work->probs + offset,
                                 work->heads.length);
}

static void mix(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    size_t offset;
    const struct REAL(qrb__queries) at = block_of(work, task, &offset);

    (void)worker;
    REAL(qrb__attention_mix)(work->engine->ctx, &work->heads, &at,
                             work->probs + offset, work->heads.length);
}

static qrb_status tap_square(const struct squares *work,
                             const struct qrb__op *op, uint32_t point,
                             real *square)
{
    const size_t length = work->heads.length;
    const size_t shape[4] = { work->engine->batch.sequences,
                              work->engine->config.heads, length, length };

    return qrb__engine_tap(work->engine, point, (size_t)op->layer, 4, shape,
                           square);
}

qrb_status REAL(qrb__attention_tapped)(struct qrb__engine *engine,
                                       const struct qrb__op *op)
{
    struct squares work = squares_of(engine, op, false);
    const size_t tasks = engine->batch.sequences * engine->config.heads *
                         work.heads.blocks;
    qrb_status status;

    qrb__parallel_for(engine->ctx, tasks, make_logits, &work);
    status = tap_square(&work, op, QRB_TAP_ATTN_LOGITS, work.probs);
    if (status != QRB_OK)
        return status;
    qrb__parallel_for(engine->ctx, tasks, make_probs, &work);
    status = tap_square(&work, op, QRB_TAP_ATTN_PROBS, work.probs);
    if (status != QRB_OK)
        return status;
    qrb__parallel_for(engine->ctx, tasks, mix, &work);
    return QRB_OK;
}

static void probs_grad(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    const size_t length = work->heads.length;
    size_t offset;
    const struct REAL(qrb__queries) at = block_of(work, task, &offset);
    real *rows = work->gradient + offset;

    (void)worker;
    REAL(qrb__attention_probs_grad)(work->engine->ctx, &work->heads, &at,
                                    rows, length);
    for (size_t r = 0; r < at.rows; r++) {
        const size_t seen = at.query + r + 1;

        memset(rows + r * length + seen, 0, (length - seen) * sizeof *rows);
    }
}

static void logits_grad(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    size_t offset;
    struct REAL(qrb__queries) at = block_of(work, task, &offset);

    (void)worker;
    at.keys = work->heads.length;
    REAL(qrb__attention_softmax_grad)(work->engine->ctx, &at,
                                      work->probs + offset,
                                      work->gradient + offset,
                                      work->heads.length);
}

static void qkv_grad(size_t task, size_t worker, void *arg)
{
    const struct squares *work = arg;
    const struct REAL(qrb__heads) *heads = &work->heads;
    qrb_context *ctx = work->engine->ctx;

    (void)worker;
    for (size_t h = 0; h < heads->group; h++)
        for (size_t block = heads->blocks; block-- > 0;) {
            const size_t head = task * heads->group + h;
            size_t offset;
            const struct REAL(qrb__queries) at =
                block_of(work, head * heads->blocks + block, &offset);

            REAL(qrb__attention_values_grad)(ctx, heads, &at,
                                             work->probs + offset,
                                             heads->length);
            REAL(qrb__attention_keys_grad)(ctx, heads, &at,
                                           work->gradient + offset,
                                           heads->length);
        }
}

qrb_status REAL(qrb__attention_tapped_grad)(struct qrb__engine *engine,
                                            const struct qrb__op *op)
{
    struct squares work = squares_of(engine, op, true);
    const size_t key_tasks =
        engine->batch.sequences * engine->config.kv_heads;
    const size_t tasks = engine->batch.sequences * engine->config.heads *
                         work.heads.blocks;
    qrb_status status;

    qrb__parallel_for(engine->ctx, tasks, probs_grad, &work);
    status = tap_square(&work, op, QRB_TAP_ATTN_PROBS | QRB_TAP_GRAD,
                        work.gradient);
    if (status != QRB_OK)
        return status;
    qrb__parallel_for(engine->ctx, tasks, logits_grad, &work);
    status = tap_square(&work, op, QRB_TAP_ATTN_LOGITS | QRB_TAP_GRAD,
                        work.gradient);
    if (status != QRB_OK)
        return status;
    qrb__parallel_for(engine->ctx, key_tasks, qkv_grad, &work);
    return QRB_OK;
}
