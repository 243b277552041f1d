/* Products of packed matrices: y = x W^T + bias from the codes, of which no
 * float copy is kept.
 *
 * Where groups of a uniform grid end with blocks of 32 columns, codes are
 * multiplied as integers (kernel/codes.h) with activations that are rounded to
 * bytes, or split into three bytes each, which keeps them as well as a sum in
 * float32 would.  All other matrices, and without fast integers prompts, are
 * decoded to floats, a tile of rows at a time, and multiplied by the product
 * kernel.
 *
 * Tasks are tiles of rows times blocks of tokens, of fixed extents.  O(tokens
 * rows cols); scratch is O(cols) bytes a token and tile of rows a worker. */
#include "quant/multiply.h"

#include <string.h>

#include "quant/packed_product.h"
#include "tensor/run.h"

enum {
    PASS = 512,        /* tokens that are worked on at a time */
    ROWS = 64,         /* of a task */
    DECODED_ROWS = 32, /* of a task that decodes */
    PROMPT = 48,       /* tokens that repay decoding, without fast integers */
    LOOKUPS = 3        /* tokens that are looked up one by one */
};

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* One tile of rows with the tokens of one block. */
static void multiply_tile(const struct qrb__packed_product *job, size_t tile,
                          size_t token)
{
    const struct qrb__tiles *tiles = job->tiles;
    const size_t first = tile * QRB__CODE_ROWS;
    const struct qrb__code_product shape = {
        .codes = job->packed->codes + first * job->packed->row_bytes,
        .row_bytes = job->packed->row_bytes,
        .rows = smaller(job->packed->rows - first, QRB__CODE_ROWS),
        .cols = job->packed->cols,
        .bits = job->packed->bits,
        .grid = qrb__tiles_grid(tiles, tile),
        .segment = tiles->segment,
        .segments_per_group = tiles->group_segments,
        .tokens = qrb__packed_tokens_beside(job, token),
        .planes = job->planes,
        .x = job->bytes +
             token * job->blocks * job->planes * QRB__CODE_BLOCK,
        .steps = job->steps + token * tiles->segments,
        .sums = job->sums + token * tiles->segments,
    };
    float y[QRB__PRODUCT_TOKENS * QRB__CODE_ROWS] = { 0 };

    job->packed->ctx->kernels.codes.product(&shape, y);
    for (size_t t = 0; t < shape.tokens; t++)
        for (size_t row = 0; row < shape.rows; row++)
            job->outputs[(token + t) * job->packed->rows + first + row] =
                y[t * QRB__CODE_ROWS + row];
}

/* The sparse weights of rows [first, first + rows), after the others. */
static void add_sparse(const struct qrb__packed_product *job, size_t first,
                       size_t rows, size_t token, size_t tokens)
{
    const struct qrb__sparse *sparse = &job->packed->sparse;

    if (!qrb__packed_adds_sparse(job))
        return;
    for (size_t t = token; t < token + tokens; t++) {
        const float *x = job->inputs + t * job->packed->cols;

        for (size_t row = first; row < first + rows; row++) {
            float sum = 0;

            for (size_t i = sparse->row_start[row];
                 i < sparse->row_start[row + 1]; i++)
                sum += sparse->values[i] * x[sparse->columns[i]];
            job->outputs[t * job->packed->rows + row] += sum;
        }
    }
}

static void multiply_task(size_t task, size_t worker, void *arg)
{
    const struct qrb__packed_product *job = arg;
    const size_t tiles = divide_up(job->packed->rows, QRB__CODE_ROWS);
    const size_t chunks = divide_up(job->packed->rows, ROWS);
    const size_t first = task % chunks * (ROWS / QRB__CODE_ROWS);

    const size_t token = task / chunks * QRB__PRODUCT_TOKENS;
    const size_t row = task % chunks * ROWS;

    (void)worker;
    for (size_t i = 0; i < ROWS / QRB__CODE_ROWS && first + i < tiles; i++)
        multiply_tile(job, first + i, token);
    add_sparse(job, row, smaller(job->packed->rows - row, ROWS), token,
               qrb__packed_tokens_beside(job, token));
}

/* Rows by table, with one token after the other. */
static void multiply_by_table(size_t task, size_t worker, void *arg)
{
    const struct qrb__packed_product *job = arg;
    const qrb_packed *packed = job->packed;
    const size_t first = task * ROWS;
    const size_t rows = smaller(packed->rows - first, ROWS);
    struct qrb__code_lookup shape = {
        .codes = packed->codes + first * packed->row_bytes,
        .row_bytes = packed->row_bytes,
        .rows = rows,
        .cols = packed->cols,
        .bits = packed->bits,
        .tables = job->tiles->table_values,
    };

    (void)worker;
    if (packed->table != NULL) {
        shape.tables_apart = (size_t)1 << packed->bits;
        shape.tables = packed->table + first * shape.tables_apart;
    } else {
        shape.unit = packed->unit;
        shape.scales = packed->scales + first * (packed->cols / packed->unit);
    }
    for (size_t t = 0; t < job->tokens; t++) {
        shape.x = job->lookups + t * qrb__packed_lookup_cols(packed);
        packed->ctx->kernels.codes.lookup(&shape, job->outputs +
                                                      t * packed->rows + first);
    }
    add_sparse(job, first, rows, 0, job->tokens);
}

static void multiply_decoded(size_t task, size_t worker, void *arg)
{
    const struct qrb__packed_product *job = arg;
    const qrb_packed *packed = job->packed;
    const size_t first = task * DECODED_ROWS;
    const size_t rows = smaller(packed->rows - first, DECODED_ROWS);
    float *w = job->decoded + worker * DECODED_ROWS * packed->cols;
    const struct qrb__product shape = {
        .m = job->tokens,
        .n = rows,
        .k = packed->cols,
        .row_a = packed->cols,
        .col_a = 1,
        .row_b = 1,
        .col_b = packed->cols,
        .row_c = packed->rows,
        .alpha = 1,
    };

    for (size_t row = 0; row < rows; row++)
        qrb__tiles_decode(packed, job->tiles, first + row,
                          w + row * packed->cols);
    packed->ctx->kernels.f32.product(&shape, job->inputs, w,
                                     job->outputs + first);
    add_sparse(job, first, rows, 0, job->tokens);
}

static void store_token(size_t t, size_t worker, void *arg)
{
    const struct qrb__packed_product *job = arg;
    const size_t rows = job->packed->rows;
    float *y = job->outputs + t * rows;

    (void)worker;
    for (size_t row = 0; job->bias != NULL && row < rows; row++)
        y[row] += job->bias[row];
    qrb__packed_clamp(y, rows);
    qrb__packed_saturate(QRB_F32, y, rows, job->y->dtype);
    qrb__run_store(job->packed->ctx, QRB_F32, y, (job->first + t) * rows, rows,
                   job->y);
}

static void multiply_pass(struct qrb__packed_product *job)
{
    qrb_context *ctx = job->packed->ctx;
    const size_t rows = job->packed->rows;

    qrb__parallel_for(ctx, job->tokens, qrb__packed_load_token, job);
    if (job->planes != 0)
        qrb__parallel_for(
            ctx,
            divide_up(job->tokens, QRB__PRODUCT_TOKENS) *
                divide_up(rows, ROWS),
            multiply_task, job);
    else if (job->lookups != NULL)
        qrb__parallel_for(ctx, divide_up(rows, ROWS), multiply_by_table, job);
    else
        qrb__parallel_for(ctx, divide_up(rows, DECODED_ROWS), multiply_decoded,
                          job);
    qrb__parallel_for(ctx, job->tokens, store_token, job);
}

/* [rows, cols] elements of size bytes, or NULL. */
static void *alloc_matrix(qrb_context *ctx, size_t rows, size_t cols,
                          size_t size)
{
    size_t count;

    return qrb__mul_size(rows, cols, &count)
               ? qrb__alloc_array(ctx, count, size)
               : NULL;
}

static qrb_status alloc_pass(struct qrb__packed_product *job, size_t all)
{
    const size_t tokens = smaller(all, PASS);
    qrb_context *ctx = job->packed->ctx;
    const size_t cols = job->packed->cols;
    const size_t rows = job->packed->rows;
    const size_t workers =
        smaller(qrb_context_threads(ctx), divide_up(rows, DECODED_ROWS));
    bool complete;

    job->inputs = alloc_matrix(ctx, tokens, cols, sizeof(float));
    job->outputs = alloc_matrix(ctx, tokens, rows, sizeof(float));
    complete = job->inputs != NULL && job->outputs != NULL;
    if (job->tiles->looks_up && job->planes == 0 && all <= LOOKUPS) {
        job->lookups =
            alloc_matrix(ctx, tokens, qrb__packed_lookup_cols(job->packed),
                         sizeof(float));
        complete = complete && job->lookups != NULL;
    } else if (job->planes == 0) {
        job->decoded = alloc_matrix(ctx, workers * DECODED_ROWS, cols,
                                    sizeof(float));
        complete = complete && job->decoded != NULL;
    } else {
        job->bytes = alloc_matrix(ctx, tokens * job->planes, job->blocks,
                                  QRB__CODE_BLOCK);
        job->steps =
            alloc_matrix(ctx, tokens, job->tiles->segments, sizeof(float));
        job->sums =
            alloc_matrix(ctx, tokens, job->tiles->segments, sizeof(float));
        complete = complete && job->bytes != NULL && job->steps != NULL &&
                   job->sums != NULL;
    }
    return complete ? QRB_OK
                    : qrb__fail(ctx, QRB_E_NO_MEMORY,
                                "product of %zu tokens with [%zu, %zu]",
                                tokens, rows, cols);
}

/* How many bytes each activation becomes; 0: rows are decoded. */
static size_t planes_of(const struct qrb__packed_product *job, size_t tokens)
{
    const struct qrb__code_kernels *kernels = &job->packed->ctx->kernels.codes;

    if (!job->tiles->whole)
        return 0;
    if (job->act_bits != 0)
        return 1;
    return tokens >= PROMPT && strcmp(kernels->name, "vnni") != 0
               ? 0
               : QRB__CODE_PLANES;
}

static qrb_status load_bias(struct qrb__packed_product *job,
                            const struct qrb__view *bias)
{
    qrb_context *ctx = job->packed->ctx;

    if (bias == NULL)
        return QRB_OK;
    job->bias = qrb__alloc_array(ctx, job->packed->rows, sizeof *job->bias);
    if (job->bias == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "bias of %zu",
                         job->packed->rows);
    qrb__run_load(ctx, bias, 0, job->packed->rows, QRB_F32, job->bias);
    return QRB_OK;
}

qrb_status qrb__packed_multiply(const qrb_packed *packed,
                                const struct qrb__view *x,
                                const struct qrb__view *bias,
                                uint32_t act_bits, const struct qrb__view *y)
{
    struct qrb__packed_product job = { .packed = packed,
                            .x = x,
                            .y = y,
                            .act_bits = act_bits,
                            .blocks =
                                divide_up(packed->cols, QRB__CODE_BLOCK) };
    qrb_context *ctx = packed->ctx;
    const size_t tokens = x->shape[0];
    qrb_status status = QRB_OK;

    /* Contexts serve one thread at a time, and packed matrices with them. */
    if (packed->tiles == NULL)
        status = qrb__tiles_make(packed, &((qrb_packed *)packed)->tiles);
    if (status != QRB_OK)
        return status;
    job.tiles = packed->tiles;
    job.planes = planes_of(&job, tokens);
    status = load_bias(&job, bias);
    if (status == QRB_OK)
        status = alloc_pass(&job, tokens);
    for (; status == QRB_OK && job.first < tokens; job.first += PASS) {
        job.tokens = smaller(tokens - job.first, PASS);
        multiply_pass(&job);
    }
    qrb__free(ctx, job.inputs);
    qrb__free(ctx, job.outputs);
    qrb__free(ctx, job.bias);
    qrb__free(ctx, job.bytes);
    qrb__free(ctx, job.steps);
    qrb__free(ctx, job.sums);
    qrb__free(ctx, job.decoded);
    qrb__free(ctx, job.lookups);
    return status;
}
