/* Fixed blocks over the bound parameters: O(1) memory a block, and a binary
 * search over the parameters to find one. */
#include "noise/blocks.h"

#include <string.h>

#include "tensor/run.h"

size_t qrb__blocks_of(size_t elements)
{
    return elements / QRB__BLOCK + (elements % QRB__BLOCK != 0);
}

uint64_t qrb__blocks_bytes(size_t parameters, uint64_t blocks)
{
    const struct qrb__blocks *of = NULL;

    return (parameters + 1) * sizeof *of->first + blocks * sizeof *of->sums;
}

qrb_status qrb__blocks_make(qrb_context *ctx,
                            struct qrb__parameter *const *parameters,
                            size_t count, struct qrb__blocks *out)
{
    struct qrb__blocks blocks = { .parameters = count };

    blocks.first = qrb__alloc_array(ctx, count + 1, sizeof *blocks.first);
    if (blocks.first == NULL)
        goto no_memory;
    for (size_t i = 0; i < count; i++) {
        const size_t n = qrb__view_elements(&parameters[i]->weight);

        blocks.first[i + 1] = blocks.first[i] + qrb__blocks_of(n);
    }
    blocks.sums =
        qrb__alloc_array(ctx, blocks.first[count], sizeof *blocks.sums);
    if (blocks.sums == NULL)
        goto no_memory;
    *out = blocks;
    return QRB_OK;
no_memory:
    qrb__blocks_free(ctx, &blocks);
    return qrb__fail(ctx, QRB_E_NO_MEMORY, "blocks of %zu parameters", count);
}

void qrb__blocks_free(qrb_context *ctx, struct qrb__blocks *blocks)
{
    qrb__free(ctx, blocks->first);
    qrb__free(ctx, blocks->sums);
    memset(blocks, 0, sizeof *blocks);
}

size_t qrb__blocks_total(const struct qrb__blocks *blocks)
{
    return blocks->first[blocks->parameters];
}

struct qrb__block qrb__block_at(const struct qrb__blocks *blocks,
                                struct qrb__parameter *const *parameters,
                                size_t block)
{
    struct qrb__block found = { 0 };
    size_t low = 0;
    size_t high = blocks->parameters; /* first[low] <= block < first[high] */
    size_t left;

    while (high - low > 1) {
        const size_t middle = low + (high - low) / 2;

        if (blocks->first[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    found.parameter = low;
    found.first = (block - blocks->first[low]) * QRB__BLOCK;
    left = qrb__view_elements(&parameters[low]->weight) - found.first;
    found.count = left < QRB__BLOCK ? left : QRB__BLOCK;
    return found;
}

double qrb__blocks_sum(const struct qrb__blocks *blocks, size_t parameter,
                       int column)
{
    double sum = 0.0;

    for (size_t b = blocks->first[parameter]; b < blocks->first[parameter + 1];
         b++)
        sum += blocks->sums[b][column];
    return sum;
}

size_t qrb__chunk_at(const struct qrb__block *block, size_t done)
{
    const size_t left = block->count - done;

    return left < QRB__CHUNK ? left : QRB__CHUNK;
}

void *qrb__chunk_load(qrb_context *ctx, const struct qrb__view *view,
                      size_t first, size_t count, union qrb__chunk *buffer)
{
    if (qrb__view_is_dense(view))
        return view->memory + first * qrb_dtype_size(view->dtype);
    qrb__run_load(ctx, view, first, count, view->dtype, buffer);
    return buffer;
}

void qrb__chunk_store(qrb_context *ctx, const struct qrb__view *view,
                      size_t first, size_t count, const void *loaded)
{
    if (!qrb__view_is_dense(view))
        qrb__run_store(ctx, view->dtype, loaded, first, count, view);
}
