/* The engine's jobs.  Attention is run alone on the op of a model of one
 * block, where its queries, keys and values lie as they do in training. */
#define QRB_REAL_BITS 32
#include "subject.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "engine/ops.h"
#include "model/model.h"

/* Of the thread that calls: profiles are of one thread. */
static double processor_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

const char *const job_names[JOBS] = { "train", "forward", "logits",
                                      "attention", "attention_grad" };

static void check(qrb_context *ctx, qrb_status status)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "%s\n", qrb_context_message(ctx));
    exit(EXIT_FAILURE);
}

static void train(void *arg)
{
    struct subject *s = arg;
    const double begin = processor_now();
    double middle;
    double loss;
    size_t scored;
    bool skipped;

    check(s->ctx, qrb__model_zero_grad(s->model));
    s->clearing_seconds += processor_now() - begin;
    check(s->ctx, qrb__model_loss_and_grad(s->model, &s->batch, 1.0, &loss,
                                           &scored, &skipped));
    middle = processor_now();
    check(s->ctx, qrb_optimizer_step(s->optimizer, 1e-4, NULL));
    s->optimizer_seconds += processor_now() - middle;
}

static void forward(void *arg)
{
    struct subject *s = arg;
    double loss;
    size_t scored;
    bool skipped;

    check(s->ctx,
          qrb__model_loss(s->model, &s->batch, &loss, &scored, &skipped));
}

static void logits(void *arg)
{
    struct subject *s = arg;

    check(s->ctx, qrb_engine_logits(s->model, s->tokens, s->shape.sequences,
                                    s->shape.length, s->logits));
}

static void attention(void *arg)
{
    struct subject *s = arg;

    check(s->ctx, qrb__attention_f32.forward(s->engine, s->attention));
}

static void attention_grad(void *arg)
{
    struct subject *s = arg;

    check(s->ctx, qrb__attention_f32.forward(s->engine, s->attention));
    check(s->ctx, qrb__attention_f32.backward(s->engine, s->attention));
}

void (*subject_job(enum job job))(void *subject)
{
    static void (*const jobs[JOBS])(void *) = { train, forward, logits,
                                                attention, attention_grad };

    return jobs[job];
}

static void fill_batch(struct subject *s)
{
    const qrb_token_batch none = QRB_TOKEN_BATCH_INIT;
    const size_t count = s->shape.sequences * (s->shape.length + 1);

    s->tokens = malloc(count * sizeof *s->tokens);
    s->first = malloc(s->shape.sequences * sizeof *s->first);
    if (s->tokens == NULL || s->first == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < count; i++)
        s->tokens[i] = (int32_t)(i * 2654435761u % s->shape.vocab);
    for (size_t i = 0; i < s->shape.sequences; i++)
        s->first[i] = 1;
    s->batch = none;
    s->batch.tokens = s->tokens;
    s->batch.first_scored = s->first;
    s->batch.sequences = s->shape.sequences;
    s->batch.length = s->shape.length + 1;
}

/* Numbers of a usual size in [q k v] and in the gradient of the output. */
static void fill_attention(struct subject *s)
{
    const struct qrb__engine *engine = s->engine;
    const struct qrb__op *op = NULL;
    const size_t rows = s->shape.sequences * s->shape.length;
    float *memory[2];
    size_t columns[2];

    for (size_t i = 0; op == NULL; i++)
        if (engine->graph.ops[i].kind == QRB__OP_ATTENTION)
            op = &engine->graph.ops[i];
    s->attention = op;
    memory[0] = value_rows(engine, op->in, NULL);
    columns[0] = engine->graph.values[op->in].columns;
    memory[1] = gradient_rows(engine, op->out, NULL);
    columns[1] = engine->graph.values[op->out].columns;
    for (size_t m = 0; m < 2; m++)
        for (size_t i = 0; i < rows * columns[m]; i++)
            memory[m][i] = (float)(i * 2654435761u % 2001) * 1e-3f - 1;
}

void subject_make(struct subject *s, qrb_context *ctx,
                  const struct shape *shape, enum job job)
{
    const bool backward = job != JOB_FORWARD && job != JOB_LOGITS;
    qrb_tensor_options rows = QRB_TENSOR_OPTIONS_INIT;
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;

    *s = (struct subject){ .ctx = ctx, .shape = *shape };
    fill_batch(s);
    config.vocab = shape->vocab;
    config.dim = shape->dim;
    config.layers = shape->layers;
    config.heads = shape->heads;
    config.kv_heads = shape->kv_heads;
    config.hidden = shape->hidden;
    config.context = shape->length;
    options.trainable = backward;
    check(ctx, qrb_engine_create(ctx, &config, &options, &s->model));
    check(ctx, qrb__engine_find(s->model, &s->engine));
    rows.rank = 2;
    rows.shape[0] = shape->sequences * shape->length;
    rows.shape[1] = shape->vocab;
    if (job == JOB_LOGITS)
        check(ctx, qrb_tensor_create(ctx, &rows, &s->logits));
    if (backward)
        check(ctx, qrb_optimizer_create(s->model, NULL, &s->optimizer));
    if (job == JOB_ATTENTION || job == JOB_ATTENTION_GRAD) {
        train(s); /* plans */
        fill_attention(s);
    }
}

void subject_release(struct subject *s)
{
    qrb_optimizer_destroy(s->optimizer);
    qrb_tensor_destroy(s->logits);
    qrb_model_destroy(s->model);
    free(s->tokens);
    free(s->first);
}

static bool is_attention(enum job job)
{
    return job == JOB_ATTENTION || job == JOB_ATTENTION_GRAD;
}

void subject_words(const struct shape *s, enum job job, char *out, size_t size)
{
    if (is_attention(job))
        snprintf(out, size, "%s %zu %zu %zu %zu", job_names[job], s->sequences,
                 s->heads, s->length, s->dim / s->heads);
    else
        snprintf(out, size, "%s %zu %zu %zu %zu %zu %zu %zu %zu",
                 job_names[job], s->dim, s->layers, s->heads, s->kv_heads,
                 s->hidden, s->vocab, s->sequences, s->length);
}

double subject_operations(const struct shape *s, enum job job)
{
    const double tokens = (double)(s->sequences * s->length);
    const double dim = (double)s->dim;
    const double keys = dim / (double)s->heads * (double)s->kv_heads;
    const double squares = 2.0 * (double)s->length * dim; /* a layer, token */
    const double matrices =
        (double)s->layers *
            (2 * dim * dim + 2 * dim * keys + 3 * dim * (double)s->hidden) +
        (double)s->vocab * dim;
    const double forward = tokens * (2 * matrices + (double)s->layers * squares);

    if (job == JOB_ATTENTION)
        return tokens * squares;
    if (job == JOB_ATTENTION_GRAD)
        return 3 * tokens * squares;
    return job == JOB_TRAIN ? 3 * forward : forward;
}
