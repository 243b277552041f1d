/* Llama (Touvron et al., arXiv:2302.13971) and Qwen2 (arXiv:2407.10671), which
 * differ in the biases of q, k and v: parameters under their Hugging Face
 * names, and the graph. */
#include <stdio.h>

#include "engine/engine.h"

/* Parameters of one block by number from its first. */
enum slot {
    ATTENTION_NORM,
    Q,
    K,
    V,
    O,
    MLP_NORM,
    GATE,
    UP,
    DOWN,
    BIASES, /* of q, k, v, if there are any */
    SLOTS = BIASES + 3
};

struct builder {
    struct qrb__engine *engine;
    size_t embedding;
    size_t final_norm;
    size_t head;
    size_t block; /* parameters of a block */
};

static void list(struct qrb__engine *engine, int32_t layer, const char *name,
                 uint32_t role, size_t rows, size_t columns)
{
    struct qrb__engine_parameter *parameter =
        &engine->parameters[engine->parameter_count++];

    parameter->role = role;
    parameter->layer = layer;
    parameter->rows = rows;
    parameter->columns = columns;
    if (layer < 0)
        snprintf(parameter->name, sizeof parameter->name, "%s", name);
    else
        snprintf(parameter->name, sizeof parameter->name,
                 "model.layers.%d.%s", (int)layer, name);
}

static void list_block(struct qrb__engine *engine, int32_t layer)
{
    const qrb_engine_config *c = &engine->config;
    const size_t queries = c->heads * c->head_dim;
    const size_t keys = c->kv_heads * c->head_dim;

    list(engine, layer, "input_layernorm.weight", QRB_ROLE_NORM, c->dim, 0);
    list(engine, layer, "self_attn.q_proj.weight", QRB_ROLE_Q, queries,
         c->dim);
    list(engine, layer, "self_attn.k_proj.weight", QRB_ROLE_K, keys, c->dim);
    list(engine, layer, "self_attn.v_proj.weight", QRB_ROLE_V, keys, c->dim);
    list(engine, layer, "self_attn.o_proj.weight", QRB_ROLE_O, c->dim,
         queries);
    list(engine, layer, "post_attention_layernorm.weight", QRB_ROLE_NORM,
         c->dim, 0);
    list(engine, layer, "mlp.gate_proj.weight", QRB_ROLE_GATE, c->hidden,
         c->dim);
    list(engine, layer, "mlp.up_proj.weight", QRB_ROLE_UP, c->hidden, c->dim);
    list(engine, layer, "mlp.down_proj.weight", QRB_ROLE_DOWN, c->dim,
         c->hidden);
    if (!c->qkv_bias)
        return;
    list(engine, layer, "self_attn.q_proj.bias", QRB_ROLE_BIAS, queries, 0);
    list(engine, layer, "self_attn.k_proj.bias", QRB_ROLE_BIAS, keys, 0);
    list(engine, layer, "self_attn.v_proj.bias", QRB_ROLE_BIAS, keys, 0);
}

static qrb_status list_parameters(struct builder *build)
{
    struct qrb__engine *engine = build->engine;
    const qrb_engine_config *c = &engine->config;
    size_t count;

    build->block = c->qkv_bias ? SLOTS : BIASES;
    if (!qrb__mul_size(c->layers, build->block, &count) ||
        !qrb__add_size(count, 3, &count))
        return qrb__fail(engine->ctx, QRB_E_SHAPE, "%zu layers", c->layers);
    engine->parameters =
        qrb__alloc_array(engine->ctx, count, sizeof *engine->parameters);
    if (engine->parameters == NULL)
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY, "%zu parameters",
                         count);
    build->embedding = engine->parameter_count;
    list(engine, -1, "model.embed_tokens.weight", QRB_ROLE_EMBED, c->vocab,
         c->dim);
    for (size_t i = 0; i < c->layers; i++)
        list_block(engine, (int32_t)i);
    build->final_norm = engine->parameter_count;
    list(engine, -1, "model.norm.weight", QRB_ROLE_NORM, c->dim, 0);
    build->head = build->embedding;
    if (!c->tied_head) {
        build->head = engine->parameter_count;
        list(engine, -1, "lm_head.weight", QRB_ROLE_HEAD, c->vocab, c->dim);
    }
    return QRB_OK;
}

static size_t add_norm(struct builder *build, int32_t layer, size_t in,
                       size_t weight, bool sets_gradient)
{
    struct qrb__graph *graph = &build->engine->graph;
    const size_t dim = build->engine->config.dim;
    const uint32_t extent =
        graph->failed ? 0 : graph->values[in].extent;
    const size_t out = qrb__graph_value(graph, extent, dim);
    const size_t inverse = qrb__graph_buffer(graph, extent, 1);
    const size_t partials = qrb__graph_buffer(graph, QRB__EXTENT_BLOCKS, dim);
    struct qrb__op *op = qrb__graph_op(graph, QRB__OP_NORM, layer, in, out);

    if (op != NULL) {
        op->weights = 1;
        op->weight[0] = weight;
        op->own[0] = inverse;
        op->own[1] = partials;
        op->sets_gradient = sets_gradient;
    }
    return out;
}

/* `count` weights from number `weight`, biases from number `bias` or none. */
static size_t add_linear(struct builder *build, int32_t layer, size_t in,
                         size_t weight, size_t count, size_t bias)
{
    struct qrb__engine *engine = build->engine;
    struct qrb__graph *graph = &engine->graph;
    size_t own[QRB__MAX_FUSED + 1] = { QRB__NONE, QRB__NONE, QRB__NONE,
                                       QRB__NONE };
    const size_t width = engine->parameters[weight].columns;
    size_t columns = 0;
    size_t widest = width;
    size_t out;
    struct qrb__op *op;

    for (size_t i = 0; i < count; i++) {
        const size_t rows = engine->parameters[weight + i].rows;

        columns += rows;
        widest = rows > widest ? rows : widest;
        if (count > 1)
            own[i] = qrb__graph_buffer(graph, QRB__EXTENT_TOKENS, width);
    }
    if (count > 1)
        own[QRB__MAX_FUSED] =
            qrb__graph_buffer(graph, QRB__EXTENT_TOKENS, widest);
    out = qrb__graph_value(graph, QRB__EXTENT_TOKENS, columns);
    op = qrb__graph_op(graph, QRB__OP_LINEAR, layer, in, out);
    if (op == NULL)
        return out;
    op->weights = count;
    for (size_t i = 0; i < count; i++) {
        op->weight[i] = weight + i;
        op->bias[i] = bias == QRB__NONE ? QRB__NONE : bias + i;
    }
    for (size_t i = 0; i <= QRB__MAX_FUSED; i++)
        op->own[i] = own[i];
    return out;
}

static size_t add_attention(struct builder *build, int32_t layer, size_t qkv)
{
    const qrb_engine_config *c = &build->engine->config;
    struct qrb__graph *graph = &build->engine->graph;
    const size_t out = qrb__graph_value(graph, QRB__EXTENT_TOKENS,
                                        c->heads * c->head_dim);
    size_t own[4];
    struct qrb__op *op;

    own[0] = qrb__graph_buffer(graph, QRB__EXTENT_TILE, 1);
    own[1] = qrb__graph_buffer(graph, QRB__EXTENT_TILE, 1);
    own[2] = qrb__graph_buffer(graph, QRB__EXTENT_SQUARES, 1);
    own[3] = qrb__graph_buffer(graph, QRB__EXTENT_SQUARES, 1);
    qrb__graph_op(graph, QRB__OP_ROTARY, layer, qkv, qkv);
    op = qrb__graph_op(graph, QRB__OP_ATTENTION, layer, qkv, out);
    for (size_t i = 0; op != NULL && i < 4; i++)
        op->own[i] = own[i];
    return out;
}

/* stream + branch, whose gradients are equal.  The branch may share the
 * stream's if what the stream gains next, on the way back, comes in another
 * segment: the weights of the branch are summed at the end of this one. */
static size_t add_residual(struct builder *build, int32_t layer,
                           size_t stream, size_t branch, bool shared)
{
    struct qrb__graph *graph = &build->engine->graph;
    const size_t out = qrb__graph_value(graph, QRB__EXTENT_TOKENS,
                                        build->engine->config.dim);
    struct qrb__op *op =
        qrb__graph_op(graph, QRB__OP_RESIDUAL, layer, stream, out);

    if (op != NULL) {
        op->second = branch;
        graph->values[out].gradient = graph->values[stream].gradient;
        if (shared)
            graph->buffers[graph->values[branch].gradient].alias =
                graph->values[stream].gradient;
    }
    return out;
}

static size_t add_block(struct builder *build, int32_t layer, size_t stream)
{
    struct qrb__graph *graph = &build->engine->graph;
    const size_t first = build->embedding + 1 + (size_t)layer * build->block;
    const size_t hidden = build->engine->config.hidden;
    const size_t bias =
        build->engine->config.qkv_bias ? first + BIASES : QRB__NONE;
    size_t x;
    size_t gated;

    qrb__graph_op(graph, QRB__OP_TAP, layer, stream, stream);
    x = add_norm(build, layer, stream, first + ATTENTION_NORM, false);
    x = add_linear(build, layer, x, first + Q, 3, bias);
    x = add_attention(build, layer, x);
    x = add_linear(build, layer, x, first + O, 1, QRB__NONE);
    stream = add_residual(build, layer, stream, x, true);
    x = add_norm(build, layer, stream, first + MLP_NORM, false);
    x = add_linear(build, layer, x, first + GATE, 2, QRB__NONE);
    gated = qrb__graph_value(graph, QRB__EXTENT_TOKENS, hidden);
    qrb__graph_op(graph, QRB__OP_SWIGLU, layer, x, gated);
    x = add_linear(build, layer, gated, first + DOWN, 1, QRB__NONE);
    return add_residual(build, layer, stream, x, false);
}

static void add_head(struct builder *build, size_t in)
{
    const qrb_engine_config *c = &build->engine->config;
    struct qrb__graph *graph = &build->engine->graph;
    const size_t rows =
        qrb__graph_value(graph, QRB__EXTENT_SCORED, c->dim);
    const size_t logits =
        qrb__graph_buffer(graph, QRB__EXTENT_CHUNK, c->vocab);
    const size_t nll =
        qrb__graph_buffer(graph, QRB__EXTENT_SCORED,
                          sizeof(double) / qrb__engine_real(build->engine));
    struct qrb__op *op;
    size_t x;

    qrb__graph_op(graph, QRB__OP_SELECT, -1, in, rows);
    x = add_norm(build, -1, rows, build->final_norm, true);
    op = qrb__graph_op(graph, QRB__OP_HEAD, -1, x, QRB__NONE);
    if (op != NULL) {
        op->weights = 1;
        op->weight[0] = build->head;
        op->own[0] = logits;
        op->own[1] = nll;
    }
}

qrb_status qrb__llama_build(struct qrb__engine *engine)
{
    struct builder build = { .engine = engine };
    struct qrb__op *op;
    qrb_status status = list_parameters(&build);
    size_t stream;

    if (status != QRB_OK)
        return status;
    stream = qrb__graph_value(&engine->graph, QRB__EXTENT_TOKENS,
                              engine->config.dim);
    op = qrb__graph_op(&engine->graph, QRB__OP_EMBEDDING, -1, QRB__NONE,
                       stream);
    if (op != NULL) {
        op->weights = 1;
        op->weight[0] = build.embedding;
    }
    for (size_t i = 0; i < engine->config.layers; i++)
        stream = add_block(&build, (int32_t)i, stream);
    add_head(&build, stream);
    if (engine->graph.failed)
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY, "graph of %zu layers",
                         engine->config.layers);
    return QRB_OK;
}
