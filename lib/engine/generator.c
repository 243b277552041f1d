/* A generator's memory and its steps.  A feed goes through the graph of the
 * engine in blocks of tokens; the head is computed for the last one alone.
 * Everything is allocated at creation, by the sizes that are announced. */
#include "engine/generator.h"

#include <string.h>

enum { BLOCK = QRB__ROW_BLOCK };

/* What a generator holds, in elements. */
struct sizes {
    size_t block;   /* tokens that go through the graph at one time */
    size_t rows;    /* of the cache */
    size_t tiles;
    size_t decoded; /* 0: rows are used in place */
    size_t codes; /* 0: there are none */
    size_t units;
};

static bool is_coded(const struct qrb__cache *cache)
{
    return cache->kv_bits == 8 || cache->kv_bits == 4;
}

static qrb_status take_options(const struct qrb__engine *engine,
                               const qrb_generator_options *options,
                               qrb_generator_options *known)
{
    const size_t most = engine->config.context;
    qrb_status status = qrb__options_copy(engine->ctx, options, sizeof *known,
                                          "generator options", known);

    if (status != QRB_OK)
        return status;
    if (known->kv_bits != 0 && known->kv_bits != 16 && known->kv_bits != 8 &&
        known->kv_bits != 4)
        return qrb__fail(engine->ctx, QRB_E_INVALID_ARG,
                         "generator options: kv_bits is %u; it is 0, 16, 8 or "
                         "4",
                         known->kv_bits);
    if (known->kv_grid == 0)
        known->kv_grid = QRB_GRID_A_GPTQ;
    if (known->kv_grid != QRB_GRID_A_GPTQ && known->kv_grid != QRB_GRID_A_OMNI)
        return qrb__fail(engine->ctx, QRB_E_INVALID_ARG,
                         "generator options: kv_grid is %u; it is A_GPTQ (%d) "
                         "or A_OMNI (%d)",
                         known->kv_grid, QRB_GRID_A_GPTQ, QRB_GRID_A_OMNI);
    if (known->context > most)
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "generator options: context is %zu; the model's is "
                         "%zu",
                         known->context, most);
    if (known->context == 0)
        known->context = most;
    return QRB_OK;
}

/* Everything but the pointers. */
static struct qrb__cache cache_of(const struct qrb__engine *engine,
                                  const qrb_generator_options *options)
{
    struct qrb__cache cache = {
        .kv_bits = options->kv_bits,
        .grid = { .mode = options->kv_grid, .bits = options->kv_bits },
        .heads = engine->config.kv_heads,
        .dim = engine->config.head_dim,
        .context = options->context,
        .workers = qrb_context_threads(engine->ctx),
    };

    if (cache.kv_bits == 0)
        cache.row = cache.dim * qrb__engine_real(engine);
    else /* the dimension is even */
        cache.row = cache.dim / 2 * cache.kv_bits / 4;
    return cache;
}

static bool size_up(const struct qrb__engine *engine,
                    const struct qrb__cache *cache, struct sizes *out)
{
    size_t bytes;

    out->block = cache->context < BLOCK ? cache->context : BLOCK;
    out->decoded = 0;
    out->codes = 0;
    out->units = 0;
    if (!qrb__mul_size(engine->config.layers, 2 * cache->heads, &out->rows) ||
        !qrb__mul_size(out->rows, cache->context, &out->rows) ||
        !qrb__mul_size(out->rows, cache->row, &bytes) ||
        !qrb__mul_size(out->rows, 2 * sizeof(double), &bytes) ||
        !qrb__mul_size(cache->workers * QRB__CACHE_TILE_ROWS, cache->context,
                       &out->tiles) ||
        !qrb__mul_size(out->tiles, sizeof(double), &bytes))
        return false;
    if (cache->kv_bits != 0 &&
        !qrb__mul_size(cache->workers * QRB__CACHE_KEYS, cache->dim,
                       &out->decoded))
        return false;
    if (is_coded(cache)) {
        out->codes = cache->workers * cache->dim;
        out->units = cache->workers * 2 * QRB__CACHE_KEYS;
    }
    return true;
}

/* The plan for blocks that one token predicts from.  Chains of ops run as one
 * task, whose worker is the first; attention has tiles of its own. */
static qrb_status lay_out(const struct qrb__graph *graph, size_t block,
                          struct qrb__plan *plan)
{
    const struct qrb__capacity capacity = {
        .tokens = block, .scored = 1, .length = 1, .workers = 1
    };
    qrb_status status = qrb__plan_create(graph, plan);

    if (status == QRB_OK)
        status = qrb__plan_lay_out(graph, &capacity, 0, plan);
    return status;
}

static qrb_status allocate(struct qrb_generator *generator,
                           const struct sizes *sizes)
{
    struct qrb__engine *view = &generator->view;
    struct qrb__cache *cache = &generator->cache;
    qrb_context *ctx = generator->ctx;
    const size_t real = qrb__engine_real(view);
    const size_t vocab = view->config.vocab;
    qrb_status status = lay_out(&view->graph, sizes->block, &view->plan);

    if (status == QRB_OK)
        status = qrb__engine_grow_rotary(view, cache->context);
    generator->cosine = view->cosine;
    generator->sine = view->sine;
    if (status != QRB_OK)
        return status;
    view->arena = qrb__alloc_array(ctx, view->plan.elements, real);
    view->scored = qrb__alloc_array(ctx, 1, sizeof *view->scored);
    cache->rows = qrb__alloc_array(ctx, sizes->rows, cache->row);
    cache->tiles = qrb__alloc_array(ctx, sizes->tiles, real);
    if (sizes->decoded > 0)
        cache->decoded = qrb__alloc_array(ctx, sizes->decoded, real);
    if (sizes->codes > 0) {
        cache->scales = qrb__alloc_array(ctx, sizes->rows, 2 * real);
        cache->codes =
            qrb__alloc_array(ctx, sizes->codes, sizeof *cache->codes);
        cache->units =
            qrb__alloc_array(ctx, sizes->units, sizeof *cache->units);
    }
    generator->logits = qrb__alloc_array(ctx, vocab, real);
    generator->order =
        qrb__alloc_array(ctx, vocab, sizeof *generator->order);
    generator->weights =
        qrb__alloc_array(ctx, vocab, sizeof *generator->weights);
    if (view->arena == NULL || view->scored == NULL || cache->rows == NULL ||
        cache->tiles == NULL || (sizes->decoded > 0 && cache->decoded == NULL) ||
        (sizes->codes > 0 && (cache->scales == NULL || cache->codes == NULL ||
                              cache->units == NULL)) ||
        generator->logits == NULL || generator->order == NULL ||
        generator->weights == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY,
                         "generator for %zu tokens of context",
                         cache->context);
    return QRB_OK;
}

/* The engine without what a batch of whole sequences lives in. */
static struct qrb__engine view_of(const struct qrb__engine *engine)
{
    struct qrb__engine view = *engine;

    view.plan = (struct qrb__plan){ 0 };
    view.arena = NULL;
    view.scored = NULL;
    view.cosine = NULL;
    view.sine = NULL;
    view.rotary_length = 0;
    view.watch.fn = NULL;
    return view;
}

/* The beginning that creating and announcing share. */
static qrb_status begin(const qrb_model *model,
                        const qrb_generator_options *options,
                        const char *function, struct qrb__engine **engine,
                        struct qrb__cache *cache, struct sizes *sizes)
{
    qrb_generator_options known = QRB_GENERATOR_OPTIONS_INIT;
    qrb_status status = qrb__not_in_callback(model->ctx, function);

    if (status == QRB_OK)
        status = qrb__engine_find(model, engine);
    if (status == QRB_OK)
        status = take_options(*engine, options, &known);
    if (status != QRB_OK)
        return status;
    *cache = cache_of(*engine, &known);
    if (!size_up(*engine, cache, sizes))
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "a context of %zu tokens is too large",
                         cache->context);
    return QRB_OK;
}

qrb_status qrb_generator_create(qrb_model *model,
                                const qrb_generator_options *options,
                                qrb_generator **out)
{
    qrb_generator *generator = NULL;
    struct qrb__engine *engine;
    struct qrb__cache cache;
    struct sizes sizes;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "out is NULL");
    *out = NULL;
    status = begin(model, options, __func__, &engine, &cache, &sizes);
    if (status != QRB_OK)
        return status;
    generator = qrb__alloc_array(model->ctx, 1, sizeof *generator);
    if (generator == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "generator");
    generator->ctx = model->ctx;
    generator->model = model;
    generator->view = view_of(engine);
    generator->cache = cache;
    generator->view.cache = &generator->cache;
    status = allocate(generator, &sizes);
    if (status == QRB_OK) {
        *out = generator;
        generator = NULL;
    }
    qrb_generator_destroy(generator);
    return status;
}

void qrb_generator_destroy(qrb_generator *generator)
{
    qrb_context *ctx;

    if (generator == NULL)
        return;
    ctx = generator->ctx;
    qrb__plan_release(ctx, &generator->view.plan);
    qrb__free(ctx, generator->view.arena);
    qrb__free(ctx, generator->view.scored);
    qrb__free(ctx, generator->cosine);
    qrb__free(ctx, generator->sine);
    qrb__free(ctx, generator->cache.rows);
    qrb__free(ctx, generator->cache.scales);
    qrb__free(ctx, generator->cache.tiles);
    qrb__free(ctx, generator->cache.decoded);
    qrb__free(ctx, generator->cache.codes);
    qrb__free(ctx, generator->cache.units);
    qrb__free(ctx, generator->logits);
    qrb__free(ctx, generator->order);
    qrb__free(ctx, generator->weights);
    qrb__free(ctx, generator);
}

qrb_status qrb_generator_memory(const qrb_model *model,
                                const qrb_generator_options *options,
                                uint64_t *bytes_out)
{
    struct qrb__engine *engine;
    struct qrb__plan plan = { 0 };
    struct qrb__cache cache;
    struct sizes sizes;
    uint64_t reals;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    if (bytes_out == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "bytes_out is NULL");
    status = begin(model, options, __func__, &engine, &cache, &sizes);
    if (status != QRB_OK)
        return status;
    status = lay_out(&engine->graph, sizes.block, &plan);
    if (status == QRB_OK) {
        reals = plan.elements + cache.context * cache.dim + sizes.tiles +
                sizes.decoded + (is_coded(&cache) ? 2 * sizes.rows : 0) +
                engine->config.vocab;
        *bytes_out = sizeof(qrb_generator) + qrb__plan_bytes(&engine->graph) +
                     reals * qrb__engine_real(engine) +
                     sizeof(struct qrb__scored) + sizes.rows * cache.row +
                     sizes.codes * sizeof *cache.codes +
                     sizes.units * sizeof *cache.units +
                     engine->config.vocab *
                         (sizeof(uint32_t) + sizeof(double));
    }
    qrb__plan_release(engine->ctx, &plan);
    return status;
}

/* Tokens [first, first + count) of a feed through the graph; the last block of
 * it makes logits. */
static qrb_status step(struct qrb_generator *generator, const int32_t *tokens,
                       size_t first, size_t count, bool last)
{
    struct qrb__engine *view = &generator->view;
    const size_t past = generator->length + first;
    const size_t angles =
        past * (view->config.head_dim / 2) * qrb__engine_real(view);

    view->batch = (struct qrb__engine_batch){ .tokens = tokens + first,
                                              .stride = count,
                                              .sequences = 1,
                                              .length = count,
                                              .rows = count,
                                              .scored = last,
                                              .sink = QRB__SINK_LOGITS,
                                              .logits = generator->logits };
    view->scored[0] = (struct qrb__scored){ (uint32_t)(count - 1), -1 };
    view->cosine = (unsigned char *)generator->cosine + angles;
    view->sine = (unsigned char *)generator->sine + angles;
    generator->cache.past = past;
    return view->dtype == QRB_F32 ? qrb__engine_forward_f32(view)
                                  : qrb__engine_forward_f64(view);
}

static qrb_status check_feed(const struct qrb_generator *generator,
                             const int32_t *tokens, size_t count)
{
    const size_t room = generator->cache.context - generator->length;
    const size_t vocab = generator->view.config.vocab;

    if (tokens == NULL || count == 0)
        return qrb__fail(generator->ctx, QRB_E_INVALID_ARG, "%s",
                         tokens == NULL ? "tokens is NULL"
                                        : "there is no token to feed");
    if (count > room)
        return qrb__fail(generator->ctx, QRB_E_SHAPE,
                         "%zu tokens after %zu; the context holds %zu", count,
                         generator->length, generator->cache.context);
    for (size_t t = 0; t < count; t++)
        if (tokens[t] < 0 || (size_t)tokens[t] >= vocab)
            return qrb__fail(generator->ctx, QRB_E_INVALID_ARG,
                             "token %zu is %d; ids are in 0..%zu", t,
                             (int)tokens[t], vocab - 1);
    if (qrb_model_pass(generator->model) != NULL)
        return qrb__fail(generator->ctx, QRB_E_STATE,
                         "a pass is in force, and generators do not tap");
    return qrb__engine_check_file(&generator->view);
}

qrb_status qrb_generator_feed(qrb_generator *generator, const int32_t *tokens,
                              size_t count)
{
    qrb_status status;

    if (generator == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(generator->ctx, __func__);
    if (status == QRB_OK)
        status = check_feed(generator, tokens, count);
    if (status != QRB_OK)
        return status;
    qrb__engine_find_parameters(&generator->view);
    for (size_t first = 0; status == QRB_OK && first < count; first += BLOCK) {
        const size_t left = count - first;

        status = qrb__cancelled(generator->ctx);
        if (status == QRB_OK)
            status = step(generator, tokens, first,
                          left < BLOCK ? left : BLOCK, left <= BLOCK);
    }
    if (status == QRB_OK)
        generator->length += count;
    return status;
}

size_t qrb_generator_length(const qrb_generator *generator)
{
    return generator == NULL ? 0 : generator->length;
}

qrb_status qrb_generator_reset(qrb_generator *generator)
{
    qrb_status status;

    if (generator == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(generator->ctx, __func__);
    if (status == QRB_OK)
        generator->length = 0;
    return status;
}

qrb_status qrb_generator_logits(const qrb_generator *generator,
                                qrb_tensor *out)
{
    char found[QRB__SHAPE_TEXT];
    const struct qrb__engine *view;
    qrb_status status;

    if (generator == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(generator->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (out == NULL)
        return qrb__fail(generator->ctx, QRB_E_INVALID_ARG, "out is NULL");
    view = &generator->view;
    if (generator->length == 0)
        return qrb__fail(generator->ctx, QRB_E_STATE,
                         "nothing was fed, and no token follows");
    if (out->view.dtype != view->dtype || out->view.rank != 1 ||
        out->view.shape[0] != view->config.vocab ||
        !qrb__view_is_dense(&out->view))
        return qrb__fail(generator->ctx, QRB_E_SHAPE,
                         "logits: found %s %s, expected %s [%zu], dense",
                         qrb_dtype_name(out->view.dtype),
                         qrb__view_shape_text(&out->view, found, sizeof found),
                         qrb_dtype_name(view->dtype), view->config.vocab);
    memcpy(out->view.memory, generator->logits,
           view->config.vocab * qrb__engine_real(view));
    return QRB_OK;
}
