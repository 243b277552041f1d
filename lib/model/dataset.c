/* Training batches cut from one long text at uniformly random starts.  Batch i
 * is a function of the context's seed and i alone (methods 0.3), so that a run
 * can be resumed without any state of its own.  One copy of the tokens and one
 * batch of memory; a batch costs O(batch * context). */
#include <string.h>

#include "core/random.h"
#include "io/sha256.h"
#include "model/model.h"

struct qrb_dataset {
    qrb_context *ctx;
    int32_t *tokens; /* [count] */
    size_t count;
    size_t sequences;
    size_t length;        /* context + 1 */
    int32_t *batch;       /* [sequences, length] */
    size_t *first_scored; /* [sequences] */
};

static qrb_status check_options(qrb_context *ctx, size_t count,
                                const int32_t *tokens,
                                const qrb_dataset_options *options)
{
    if (options->batch == 0 || options->context == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "dataset: batch is %zu and context %zu; both are at "
                         "least 1",
                         options->batch, options->context);
    if (tokens == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "dataset: tokens is NULL");
    if (count <= options->context)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "dataset: %zu tokens; a sequence has %zu + 1", count,
                         options->context);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "dataset: token %zu is %d; none is negative", i,
                             tokens[i]);
    return QRB_OK;
}

qrb_status qrb_dataset_create(qrb_context *ctx, const int32_t *tokens,
                              size_t count, const qrb_dataset_options *options,
                              qrb_dataset **out)
{
    qrb_dataset_options known = QRB_DATASET_OPTIONS_INIT;
    qrb_dataset *dataset = NULL;
    size_t elements;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__options_copy(ctx, options, sizeof known, "dataset options",
                               &known);
    if (status != QRB_OK)
        return status;
    status = check_options(ctx, count, tokens, &known);
    if (status != QRB_OK)
        return status;

    if (!qrb__mul_size(known.batch, known.context + 1, &elements))
        return qrb__fail(ctx, QRB_E_SHAPE, "dataset: batches of [%zu, %zu]",
                         known.batch, known.context + 1);
    dataset = qrb__alloc_array(ctx, 1, sizeof *dataset);
    if (dataset == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "dataset");
        goto out;
    }
    dataset->ctx = ctx;
    dataset->count = count;
    dataset->sequences = known.batch;
    dataset->length = known.context + 1;
    dataset->tokens = qrb__alloc_array(ctx, count, sizeof *dataset->tokens);
    dataset->batch = qrb__alloc_array(ctx, elements, sizeof *dataset->batch);
    dataset->first_scored =
        qrb__alloc_array(ctx, known.batch, sizeof *dataset->first_scored);
    if (dataset->tokens == NULL || dataset->batch == NULL ||
        dataset->first_scored == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY,
                           "dataset of %zu tokens, batches of [%zu, %zu]",
                           count, known.batch, dataset->length);
        goto out;
    }
    memcpy(dataset->tokens, tokens, count * sizeof *tokens);
    for (size_t s = 0; s < known.batch; s++)
        dataset->first_scored[s] = 1;
    *out = dataset;
    dataset = NULL; /* the caller's from here on */
out:
    qrb_dataset_destroy(dataset);
    return status;
}

void qrb_dataset_destroy(qrb_dataset *dataset)
{
    if (dataset == NULL)
        return;
    qrb__free(dataset->ctx, dataset->tokens);
    qrb__free(dataset->ctx, dataset->batch);
    qrb__free(dataset->ctx, dataset->first_scored);
    qrb__free(dataset->ctx, dataset);
}

qrb_status qrb_dataset_batch(qrb_dataset *dataset, uint64_t index,
                             qrb_token_batch *out)
{
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    struct qrb__random random;
    qrb_status status;

    if (dataset == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(dataset->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (out == NULL)
        return qrb__fail(dataset->ctx, QRB_E_INVALID_ARG, "out is NULL");
    status = qrb__result_check(dataset->ctx, "token batch", out);
    if (status != QRB_OK)
        return status;
    random = qrb__random_at(
        dataset->ctx->options.seed, (uint32_t)index,
        qrb__random_stream(QRB__RANDOM_DATASET, (uint32_t)(index >> 32), 0, 0));
    for (size_t s = 0; s < dataset->sequences; s++) {
        const uint64_t begin =
            qrb__random_below(&random, s, dataset->count - dataset->length + 1);

        memcpy(dataset->batch + s * dataset->length, dataset->tokens + begin,
               dataset->length * sizeof *dataset->batch);
    }
    batch.tokens = dataset->batch;
    batch.first_scored = dataset->first_scored;
    batch.sequences = dataset->sequences;
    batch.length = dataset->length;
    qrb__result_copy(&batch, sizeof batch, out);
    return QRB_OK;
}

/* Tokens lie in memory as they would in a file (io/bytes.h). */
void qrb__dataset_digest(const qrb_dataset *dataset, struct qrb__sha256 *hash)
{
    const uint64_t shape[3] = { dataset->count, dataset->sequences,
                                dataset->length };

    qrb__sha256_add(hash, shape, sizeof shape);
    qrb__sha256_add(hash, dataset->tokens,
                    dataset->count * sizeof *dataset->tokens);
}
