/* Taking a batch: tokens are checked, the graph is laid out if the batch or
 * its listeners are unlike the last, and memory is allocated if it is the
 * largest so far.  Afterwards nothing can run out of memory. */
#include <math.h>

#include "engine/engine.h"
#include "io/safetensors.h"

static qrb_status check_tokens(const struct qrb__engine *engine,
                               const int32_t *tokens, size_t sequences,
                               size_t length)
{
    const size_t vocab = engine->config.vocab;

    for (size_t s = 0; s < sequences; s++)
        for (size_t t = 0; t < length; t++) {
            const int32_t token = tokens[s * length + t];

            if (token < 0 || (size_t)token >= vocab)
                return qrb__fail(engine->ctx, QRB_E_INVALID_ARG,
                                 "token %zu of sequence %zu is %d; ids are "
                                 "in 0..%zu",
                                 t, s, token, vocab - 1);
        }
    return QRB_OK;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The capacity for one more shape of batch. */
static qrb_status extend(const struct qrb__engine *engine, size_t sequences,
                         size_t length, bool squares,
                         struct qrb__capacity *capacity)
{
    size_t tokens;
    size_t entries = 0;

    if (length > engine->config.context)
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "%zu tokens in a sequence; the model's context is "
                         "%zu",
                         length, engine->config.context);
    if (!qrb__mul_size(sequences, length, &tokens) || tokens > INT32_MAX ||
        (squares && (!qrb__mul_size(tokens, length, &entries) ||
                     !qrb__mul_size(entries, engine->config.heads, &entries))))
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "a batch of %zu sequences of %zu tokens is too "
                         "large",
                         sequences, length);
    capacity->tokens = larger(capacity->tokens, tokens);
    capacity->scored = capacity->tokens;
    capacity->length = larger(capacity->length, length);
    capacity->squares = larger(capacity->squares, entries);
    capacity->workers = qrb_context_threads(engine->ctx);
    return QRB_OK;
}

static bool same_capacity(const struct qrb__capacity *a,
                          const struct qrb__capacity *b)
{
    return a->tokens == b->tokens && a->scored == b->scored &&
           a->length == b->length &&
           a->squares == b->squares && a->workers == b->workers;
}

/* cos and sin of position * theta^(-2 i / head_dim). */
static void fill_rotary(struct qrb__engine *engine)
{
    const size_t half = engine->config.head_dim / 2;

    for (size_t i = 0; i < half; i++) {
        const double frequency =
            pow(engine->config.rope_theta, -(double)i / (double)half);

        for (size_t t = 0; t < engine->rotary_length; t++) {
            const double angle = (double)t * frequency;

            if (engine->dtype == QRB_F32) {
                ((float *)engine->cosine)[t * half + i] = (float)cos(angle);
                ((float *)engine->sine)[t * half + i] = (float)sin(angle);
            } else {
                ((double *)engine->cosine)[t * half + i] = cos(angle);
                ((double *)engine->sine)[t * half + i] = sin(angle);
            }
        }
    }
}

qrb_status qrb__engine_grow_rotary(struct qrb__engine *engine, size_t length)
{
    const size_t count = length * (engine->config.head_dim / 2);

    if (length <= engine->rotary_length)
        return QRB_OK;
    engine->rotary_length = 0;
    qrb__free(engine->ctx, engine->cosine);
    qrb__free(engine->ctx, engine->sine);
    engine->cosine =
        qrb__alloc_array(engine->ctx, count, qrb__engine_real(engine));
    engine->sine =
        qrb__alloc_array(engine->ctx, count, qrb__engine_real(engine));
    if (engine->cosine == NULL || engine->sine == NULL)
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY,
                         "rotary table of %zu positions", length);
    engine->rotary_length = length;
    fill_rotary(engine);
    return QRB_OK;
}

/* The old memory goes first: its contents are of no use any more, and both
 * at once would be the most that the engine ever holds. */
static qrb_status grow_arena(struct qrb__engine *engine)
{
    const struct qrb__plan *plan = &engine->plan;
    qrb_context *ctx = engine->ctx;

    if (plan->elements > engine->arena_elements) {
        qrb__free(ctx, engine->arena);
        engine->arena_elements = 0;
        engine->arena = qrb__alloc_array(ctx, plan->elements,
                                         qrb__engine_real(engine));
        if (engine->arena == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY,
                             "activations of %zu tokens, %zu elements",
                             plan->capacity.tokens, plan->elements);
        engine->arena_elements = plan->elements;
    }
    if (plan->capacity.tokens > engine->scored_capacity) {
        qrb__free(ctx, engine->scored);
        engine->scored_capacity = 0;
        engine->scored = qrb__alloc_array(ctx, plan->capacity.tokens,
                                          sizeof *engine->scored);
        if (engine->scored == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu scored rows",
                             plan->capacity.tokens);
        engine->scored_capacity = plan->capacity.tokens;
    }
    return qrb__engine_grow_rotary(engine, plan->capacity.length);
}

static qrb_status lay_out(struct qrb__engine *engine, size_t sequences,
                          size_t length, bool training)
{
    const uint32_t flags = (training ? QRB__PLAN_TRAIN : 0) |
                           qrb__engine_tap_flags(engine, training);
    struct qrb__capacity capacity = engine->capacity[training];
    qrb_status status = extend(engine, sequences, length,
                               flags & QRB__PLAN_SQUARES, &capacity);

    if (status != QRB_OK)
        return status;
    if (engine->plan.flags != flags ||
        !same_capacity(&engine->plan.capacity, &capacity)) {
        status = qrb__plan_lay_out(&engine->graph, &capacity, flags,
                                   &engine->plan);
        if (status != QRB_OK) {
            engine->plan.capacity.tokens = 0; /* fits no batch */
            return status;
        }
    }
    status = grow_arena(engine);
    if (status == QRB_OK)
        engine->capacity[training] = capacity;
    return status;
}

/* Row t - 1 predicts token t. */
static size_t list_scored(struct qrb__engine *engine, const int32_t *tokens,
                          size_t sequences, size_t length,
                          const size_t *first_scored)
{
    const size_t computed = engine->batch.length;
    size_t count = 0;

    for (size_t s = 0; s < sequences; s++)
        for (size_t t = first_scored == NULL ? 1 : first_scored[s];
             t < length + (first_scored == NULL); t++)
            engine->scored[count++] = (struct qrb__scored){
                (uint32_t)(s * computed + t - 1),
                t < length ? tokens[s * length + t] : -1
            };
    return count;
}

/* A file that shrank takes the pages behind its end along. */
qrb_status qrb__engine_check_file(const struct qrb__engine *engine)
{
    qrb_status status = QRB_OK;

    if (engine->file == NULL)
        return QRB_OK;
    for (size_t i = 0; status == QRB_OK && i < engine->file->shard_count; i++)
        status = qrb__source_check(engine->file->shards[i].source);
    return status;
}

/* The registry says where weights and gradients are. */
void qrb__engine_find_parameters(struct qrb__engine *engine)
{
    for (size_t i = 0; i < engine->parameter_count; i++) {
        const struct qrb__parameter *known = engine->model->parameters[i];

        engine->parameters[i].weight = known->weight.memory;
        engine->parameters[i].gradient = known->gradient.memory;
    }
}

qrb_status qrb__engine_prepare(struct qrb__engine *engine,
                               const int32_t *tokens, size_t sequences,
                               size_t length, const size_t *first_scored,
                               bool training)
{
    /* The last token predicts nothing that is scored. */
    const size_t computed = first_scored == NULL ? length : length - 1;
    qrb_attention attention = QRB_ATTENTION_INIT;
    qrb_status status = check_tokens(engine, tokens, sequences, length);

    if (status != QRB_OK)
        return status;
    engine->batch = (struct qrb__engine_batch){ .tokens = tokens,
                                                .stride = length,
                                                .sequences = sequences,
                                                .length = computed,
                                                .rows = sequences * computed };
    engine->batch.pass = qrb_model_pass(engine->model);
    status = qrb__engine_check_file(engine);
    if (status == QRB_OK)
        status = lay_out(engine, sequences, computed, training);
    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < engine->graph.op_count; i++)
        engine->tapped[i] = 0;
    engine->batch.scored =
        list_scored(engine, tokens, sequences, length, first_scored);
    qrb__engine_find_parameters(engine);
    if (engine->batch.pass == NULL)
        return QRB_OK;
    attention.batch = sequences;
    return qrb_pass_set_attention(engine->batch.pass, &attention);
}

/* What an engine holds before its first batch. */
static uint64_t fixed_bytes(const struct qrb__engine *engine)
{
    const struct qrb__graph *graph = &engine->graph;
    uint64_t elements = 0;
    uint64_t copies = 0;

    for (size_t i = 0; i < engine->parameter_count; i++)
        elements += qrb__engine_elements(&engine->parameters[i]);
    copies += engine->weights != NULL;
    copies += engine->gradients != NULL;
    return copies * elements * qrb__engine_real(engine) + sizeof *engine +
           engine->parameter_count * sizeof *engine->parameters +
           graph->buffer_capacity * sizeof *graph->buffers +
           graph->value_capacity * sizeof *graph->values +
           graph->op_capacity * sizeof *graph->ops + graph->op_count +
           qrb__plan_bytes(graph);
}

qrb_status qrb__engine_bytes(const struct qrb__engine *engine,
                             size_t sequences, size_t length, bool training,
                             uint64_t *out)
{
    const uint64_t real = qrb__engine_real(engine);
    struct qrb__capacity capacity = { 0 };
    struct qrb__plan plan = { 0 };
    qrb_status status = extend(engine, sequences, length, false, &capacity);

    if (status != QRB_OK)
        return status;
    status = qrb__plan_create(&engine->graph, &plan);
    if (status == QRB_OK)
        status = qrb__plan_lay_out(&engine->graph, &capacity,
                                   training ? QRB__PLAN_TRAIN : 0, &plan);
    if (status == QRB_OK)
        *out = fixed_bytes(engine) + plan.elements * real +
               length * engine->config.head_dim * real +
               capacity.tokens * sizeof *engine->scored;
    qrb__plan_release(engine->ctx, &plan);
    return status;
}
