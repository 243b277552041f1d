/* Causal attention of a block of tokens that follow others: their keys and
 * values go into the cache first, and everything that is attended to, the
 * block's own tokens as well, is read from there, so that what a token sees
 * does not depend on the block it came in.  A task is a block of queries of
 * heads that share their keys, which are decoded once for all of them; how the
 * work is cut is a function of the shape alone.
 * O(rows * keys * heads * dim) time. */
#include "engine/attention.h"
#include "engine/cache.h"

enum { STORED_ROWS = 16 }; /* of a task */

struct cached {
    struct qrb__engine *engine;
    struct qrb__cache *cache;
    struct REAL(qrb__heads) heads;
    size_t layer;
    size_t slice;   /* heads of a task */
    size_t slices;  /* that a key head's heads are cut into */
    size_t queries; /* of a task */
    size_t blocks;  /* of queries */
};

/* Of one task: rows of the products are heads where there is one query, else
 * queries, head by head. */
struct part {
    size_t key_head;
    size_t head; /* the first */
    size_t heads;
    size_t query; /* the first */
    size_t queries;
    size_t keys; /* that the last query sees */
    size_t worker;
    real *tile; /* [heads, queries, keys] */
};

static struct cached cached_of(struct qrb__engine *engine,
                               const struct qrb__op *op)
{
    struct cached work = { .engine = engine,
                           .cache = engine->cache,
                           .heads = REAL(qrb__heads_of)(engine, op),
                           .layer = (size_t)op->layer };

    work.slice = work.heads.group < QRB__CACHE_TILE_ROWS
                     ? work.heads.group
                     : QRB__CACHE_TILE_ROWS;
    work.slices = (work.heads.group + work.slice - 1) / work.slice;
    work.queries = QRB__CACHE_TILE_ROWS / work.slice;
    work.blocks = (work.heads.length + work.queries - 1) / work.queries;
    return work;
}

static void store(size_t task, size_t worker, void *arg)
{
    const struct cached *work = arg;
    const struct REAL(qrb__heads) *heads = &work->heads;
    const size_t first = task * STORED_ROWS;
    const size_t left = heads->length - first;

    for (size_t which = 0; which < 2; which++)
        for (size_t head = 0; head < work->cache->heads; head++) {
            const struct qrb__cache_rows rows = {
                work->layer, which, head, work->cache->past + first,
                left < STORED_ROWS ? left : STORED_ROWS
            };

            REAL(qrb__cache_store)(work->cache, &rows,
                                   (which == 0 ? heads->k : heads->v) +
                                       first * heads->in + head * heads->dim,
                                   heads->in, worker);
        }
}

static struct part part_at(const struct cached *work, size_t task,
                           size_t worker)
{
    const size_t group = work->heads.group;
    const size_t first = task / work->blocks % work->slices * work->slice;
    const size_t query = task % work->blocks * work->queries;
    const size_t left = work->heads.length - query;
    struct part part = { .key_head = task / work->blocks / work->slices,
                         .heads = group - first < work->slice ? group - first
                                                              : work->slice,
                         .query = query,
                         .queries = left < work->queries ? left
                                                         : work->queries,
                         .worker = worker };

    part.head = part.key_head * group + first;
    part.keys = work->cache->past + query + part.queries;
    part.tile = (real *)work->cache->tiles +
                worker * QRB__CACHE_TILE_ROWS * work->cache->context;
    return part;
}

/* Keys or values of a part, from number `first` on: all that are left, or as
 * many as are decoded at one time. */
static const real *load(const struct cached *work, const struct part *part,
                        size_t which, size_t first, size_t *count)
{
    struct qrb__cache_rows rows = { work->layer, which, part->key_head, first,
                                    part->keys - first };

    if (work->cache->kv_bits != 0 && rows.count > QRB__CACHE_KEYS)
        rows.count = QRB__CACHE_KEYS;
    *count = rows.count;
    return REAL(qrb__cache_load)(work->cache, &work->engine->ctx->kernels,
                                 &rows, part->worker);
}

/* tile [rows, count] = q k^T / sqrt(dim) */
static void multiply_keys(const struct cached *work, const struct part *part,
                          size_t first, size_t count, const real *k)
{
    const struct REAL(qrb__heads) *heads = &work->heads;
    const bool single = part->queries == 1;
    const struct qrb__gemm shape = { .m = single ? part->heads : part->queries,
                                     .n = count,
                                     .k = heads->dim,
                                     .lda = single ? heads->dim : heads->in,
                                     .ldb = heads->dim,
                                     .ldc = part->keys,
                                     .alpha = heads->scale,
                                     .transpose_b = true };

    for (size_t h = 0; h < (single ? 1 : part->heads); h++)
        REAL(qrb__gemm)(work->engine->ctx, &shape,
                        heads->q + part->query * heads->in +
                            (part->head + h) * heads->dim,
                        k,
                        part->tile + h * part->queries * part->keys + first);
}

/* y += tile [rows, count] v */
static void multiply_values(const struct cached *work, const struct part *part,
                            size_t first, size_t count, const real *v)
{
    const struct REAL(qrb__heads) *heads = &work->heads;
    const bool single = part->queries == 1;
    const struct qrb__gemm shape = { .m = single ? part->heads : part->queries,
                                     .n = heads->dim,
                                     .k = count,
                                     .lda = part->keys,
                                     .ldb = heads->dim,
                                     .ldc = single ? heads->dim : heads->out,
                                     .alpha = 1,
                                     .beta = first == 0 ? 0 : 1 };

    for (size_t h = 0; h < (single ? 1 : part->heads); h++)
        REAL(qrb__gemm)(work->engine->ctx, &shape,
                        part->tile + h * part->queries * part->keys + first, v,
                        heads->y + part->query * heads->out +
                            (part->head + h) * heads->dim);
}

static void attend_part(size_t task, size_t worker, void *arg)
{
    const struct cached *work = arg;
    const struct part part = part_at(work, task, worker);
    size_t count;

    for (size_t first = 0; first < part.keys; first += count) {
        const real *k = load(work, &part, 0, first, &count);

        multiply_keys(work, &part, first, count, k);
    }
    for (size_t h = 0; h < part.heads; h++)
        REAL_KERNELS(work->engine->ctx)
            ->softmax(part.tile + h * part.queries * part.keys, part.keys,
                      part.queries, work->cache->past + part.query + 1,
                      part.keys);
    for (size_t first = 0; first < part.keys; first += count) {
        const real *v = load(work, &part, 1, first, &count);

        multiply_values(work, &part, first, count, v);
    }
}

qrb_status REAL(qrb__attention_cached)(struct qrb__engine *engine,
                                       const struct qrb__op *op)
{
    struct cached work = cached_of(engine, op);

    qrb__parallel_for(engine->ctx,
                      (work.heads.length + STORED_ROWS - 1) / STORED_ROWS,
                      store, &work);
    qrb__parallel_for(engine->ctx,
                      work.cache->heads * work.slices * work.blocks,
                      attend_part, &work);
    return QRB_OK;
}
