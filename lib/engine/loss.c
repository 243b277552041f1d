/* The head: logits of the selected rows, and either those logits or their
 * negative log-likelihoods, and in training the gradient as well.  Only a
 * chunk of rows has its logits in memory; when they are trained, forward and
 * backward of a chunk are done at once, in the backward pass. */
#include "engine/ops.h"

struct head {
    struct qrb__engine *engine;
    const struct qrb__op *op;
    bool training;
    size_t weight;
    size_t dim;
    size_t vocab;
    size_t first; /* the chunk */
    size_t rows;
    real *logits; /* [chunk, vocab] */
};

static struct head head_of(struct qrb__engine *engine,
                           const struct qrb__op *op, bool training)
{
    return (struct head){ .engine = engine,
                          .op = op,
                          .training = training,
                          .weight = op->weight[0],
                          .dim = engine->graph.values[op->in].columns,
                          .vocab = engine->config.vocab,
                          .logits = buffer_rows(engine, op->own[0], NULL) };
}

static size_t block_rows(const struct head *head, size_t task)
{
    const size_t left = head->rows - task * QRB__ROW_BLOCK;

    return left < QRB__ROW_BLOCK ? left : QRB__ROW_BLOCK;
}

static void make_logits(size_t task, size_t worker, void *arg)
{
    const struct head *head = arg;
    const struct qrb__engine *engine = head->engine;
    const size_t at = task * QRB__ROW_BLOCK;
    const struct qrb__gemm shape = { .m = block_rows(head, task),
                                     .n = head->vocab,
                                     .k = head->dim,
                                     .lda = head->dim,
                                     .ldb = head->dim,
                                     .ldc = head->vocab,
                                     .alpha = 1,
                                     .transpose_b = true };

    (void)worker;
    REAL(qrb__gemm)(engine->ctx, &shape,
                    value_rows(engine, head->op->in, NULL) +
                        (head->first + at) * head->dim,
                    weight_of(engine, head->weight),
                    head->logits + at * head->vocab);
}

/* Negative log-likelihoods; logits become their gradient in training. */
static void score(size_t task, size_t worker, void *arg)
{
    const struct head *head = arg;
    const struct qrb__engine *engine = head->engine;
    const size_t at = task * QRB__ROW_BLOCK;
    const size_t count = block_rows(head, task);
    const struct qrb__scored *scored = engine->scored + head->first + at;
    double *nll =
        (double *)(void *)buffer_rows(engine, head->op->own[1], NULL) +
        head->first + at;

    (void)worker;
    for (size_t r = 0; r < count; r++) {
        real *row = head->logits + (at + r) * head->vocab;
        const size_t target = (size_t)scored[r].target;

        nll[r] = head->training
                     ? REAL_KERNELS(engine->ctx)
                           ->nll_grad(row, head->vocab, target,
                                      engine->batch.scale)
                     : REAL_KERNELS(engine->ctx)->nll(row, head->vocab, target);
    }
}

/* Over the whole chunk: a product with so many terms is cut into tiles better
 * than it is in blocks of rows, whose logits have left the cache anyway. */
static void input_grad(const struct head *head)
{
    const struct qrb__engine *engine = head->engine;
    const struct qrb__gemm shape = { .m = head->rows,
                                     .n = head->dim,
                                     .k = head->vocab,
                                     .lda = head->vocab,
                                     .ldb = head->dim,
                                     .ldc = head->dim,
                                     .alpha = 1 };

    REAL(qrb__gemm)(engine->ctx, &shape, head->logits,
                    weight_of(engine, head->weight),
                    gradient_rows(engine, head->op->in, NULL) +
                        head->first * head->dim);
}

static void copy_logits(size_t task, size_t worker, void *arg)
{
    const struct head *head = arg;
    const struct qrb__engine_batch *batch = &head->engine->batch;
    const size_t at = task * QRB__ROW_BLOCK * head->vocab;
    const size_t count = block_rows(head, task) * head->vocab;
    const size_t first = head->first * head->vocab + at;

    (void)worker;
    if (batch->sink == QRB__SINK_LOGITS_F32)
        for (size_t i = 0; i < count; i++)
            ((float *)batch->logits)[first + i] = (float)head->logits[at + i];
    else
        for (size_t i = 0; i < count; i++)
            ((real *)batch->logits)[first + i] = head->logits[at + i];
}

static void block_of_loss(size_t task, size_t worker, void *arg)
{
    make_logits(task, worker, arg);
    score(task, worker, arg);
}

static void block_of_logits(size_t task, size_t worker, void *arg)
{
    make_logits(task, worker, arg);
    copy_logits(task, worker, arg);
}

static void sum_weights(const struct head *head)
{
    const struct qrb__engine *engine = head->engine;
    const struct qrb__gemm shape = { .m = head->vocab,
                                     .n = head->dim,
                                     .k = head->rows,
                                     .lda = head->vocab,
                                     .ldb = head->dim,
                                     .ldc = head->dim,
                                     .alpha = 1,
                                     .beta = 1,
                                     .transpose_a = true };

    REAL(qrb__gemm)(engine->ctx, &shape, head->logits,
                    value_rows(engine, head->op->in, NULL) +
                        head->first * head->dim,
                    gradient_of(engine, head->weight));
}

static qrb_status tap_logits(const struct head *head, uint32_t point)
{
    const size_t shape[2] = { head->rows, head->vocab };

    return qrb__engine_tap(head->engine, point, head->weight, 2, shape,
                           head->logits);
}

static qrb_status tap_rows(const struct head *head, uint32_t point, real *rows)
{
    const size_t shape[2] = { head->engine->batch.scored, head->dim };

    return qrb__engine_tap(head->engine, point, head->weight, 2, shape, rows);
}

/* One chunk, with all its logits in memory at the moments of the taps. */
static qrb_status chunk_tapped(struct head *head, size_t tasks)
{
    qrb_context *ctx = head->engine->ctx;
    qrb_status status;

    qrb__parallel_for(ctx, tasks, make_logits, head);
    status = tap_logits(head, QRB_TAP_LINEAR_OUTPUT);
    if (status != QRB_OK)
        return status;
    if (head->engine->batch.sink != QRB__SINK_NLL) {
        qrb__parallel_for(ctx, tasks, copy_logits, head);
        return QRB_OK;
    }
    qrb__parallel_for(ctx, tasks, score, head);
    if (!head->training)
        return QRB_OK;
    status = tap_logits(head, QRB_TAP_LINEAR_OUTPUT | QRB_TAP_GRAD);
    if (status == QRB_OK)
        input_grad(head);
    return status;
}

static void chunk(struct head *head, size_t tasks)
{
    qrb_context *ctx = head->engine->ctx;

    qrb__parallel_for(ctx, tasks,
                      head->engine->batch.sink == QRB__SINK_NLL
                          ? block_of_loss
                          : block_of_logits,
                      head);
    if (head->training)
        input_grad(head);
}

static qrb_status all_chunks(struct head *head)
{
    struct qrb__engine *engine = head->engine;
    const struct qrb__plan *plan = &engine->plan;
    const size_t scored = engine->batch.scored;
    const size_t most =
        qrb__plan_chunk(plan->flags, plan->capacity.scored, head->vocab);
    qrb_status status = tap_rows(head, QRB_TAP_LINEAR_INPUT,
                                 value_rows(engine, head->op->in, NULL));

    for (; status == QRB_OK && head->first < scored; head->first += most) {
        const size_t left = scored - head->first;
        size_t tasks;

        head->rows = left < most ? left : most;
        tasks = (head->rows + QRB__ROW_BLOCK - 1) / QRB__ROW_BLOCK;
        if (plan->flags & QRB__PLAN_LOGITS)
            status = chunk_tapped(head, tasks);
        else
            chunk(head, tasks);
        if (head->training && status == QRB_OK)
            sum_weights(head);
    }
    if (head->training && status == QRB_OK)
        status = tap_rows(head, QRB_TAP_LINEAR_INPUT | QRB_TAP_GRAD,
                          gradient_rows(engine, head->op->in, NULL));
    return status;
}

static qrb_status finish(struct qrb__engine *engine, const struct qrb__op *op)
{
    struct head head = head_of(engine, op, false);

    if (engine->plan.flags & QRB__PLAN_TRAIN)
        return QRB_OK; /* begin_back() does it all */
    return all_chunks(&head);
}

static qrb_status begin_back(struct qrb__engine *engine,
                             const struct qrb__op *op)
{
    struct head head = head_of(engine, op, true);

    return all_chunks(&head);
}

const struct REAL(qrb__family) REAL(qrb__head) = {
    .forward = finish,
    .backward = begin_back,
};
