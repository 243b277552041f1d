/* Merging in order of rank with a heap over a linked list: O(n log n) time
 * for a word of n symbols, however long, and 48 bytes for each of them.
 *
 * An entry of the heap is (rank, position).  It is alive while the symbol at
 * this position still has a merge of this rank with its neighbour; each merge
 * makes at most two new entries, so that 3 n are room enough. */
#include "io/bpe.h"

#include <string.h>

#define NONE UINT32_MAX

qrb_status qrb__bpe_reserve(qrb_context *ctx, struct qrb__bpe *bpe, size_t used,
                            size_t count)
{
    struct qrb__bpe grown = { 0 };
    size_t size = bpe->size == 0 ? 64 : bpe->size;

    if (count <= bpe->size)
        return QRB_OK;
    if (count > INT32_MAX)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "a word of %zu symbols, at most %d are allowed", count,
                         INT32_MAX);
    while (size < count)
        size *= 2;
    grown.symbols = qrb__alloc_array(ctx, size, sizeof *grown.symbols);
    grown.next = qrb__alloc_array(ctx, size, sizeof *grown.next);
    grown.prev = qrb__alloc_array(ctx, size, sizeof *grown.prev);
    grown.merge = qrb__alloc_array(ctx, size, sizeof *grown.merge);
    grown.heap = qrb__alloc_array(ctx, size, 3 * sizeof *grown.heap);
    grown.size = size;
    if (grown.symbols == NULL || grown.next == NULL || grown.prev == NULL ||
        grown.merge == NULL || grown.heap == NULL) {
        qrb__bpe_free(ctx, &grown);
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "a word of %zu symbols", count);
    }
    if (used > 0)
        memcpy(grown.symbols, bpe->symbols, used * sizeof *grown.symbols);
    qrb__bpe_free(ctx, bpe);
    *bpe = grown;
    return QRB_OK;
}

static void push(uint64_t *heap, size_t *count, uint64_t entry)
{
    size_t at = (*count)++;

    while (at > 0 && heap[(at - 1) / 2] > entry) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = entry;
}

static uint64_t pop(uint64_t *heap, size_t *count)
{
    const uint64_t top = heap[0];
    const uint64_t last = heap[--*count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= *count)
            break;
        if (child + 1 < *count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= last)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return top;
}

/* Look up the merge of a position and its neighbour, and queue it. */
static void queue(struct qrb__bpe *bpe, const struct qrb__merges *merges,
                  size_t *queued, uint32_t at)
{
    const uint32_t next = bpe->next[at];

    bpe->merge[at] = NONE;
    if (next == NONE || bpe->symbols[at] < 0 || bpe->symbols[next] < 0)
        return;
    bpe->merge[at] =
        qrb__merges_find(merges, bpe->symbols[at], bpe->symbols[next]);
    if (bpe->merge[at] != NONE)
        push(bpe->heap, queued,
             (uint64_t)merges->list[bpe->merge[at]].rank << 32 | at);
}

size_t qrb__bpe_merge(struct qrb__bpe *bpe, const struct qrb__merges *merges,
                      size_t count)
{
    size_t queued = 0;
    size_t left = 0;

    _Static_assert(NONE == QRB__INDEX_END, "no merge is no entry");
    bpe->last = NONE;
    if (count < 2)
        return count;
    for (uint32_t i = 0; i < count; i++) {
        bpe->prev[i] = i == 0 ? NONE : i - 1;
        bpe->next[i] = i + 1 == count ? NONE : i + 1;
        queue(bpe, merges, &queued, i);
    }
    while (queued > 0) {
        const uint64_t entry = pop(bpe->heap, &queued);
        const uint32_t at = (uint32_t)entry;
        const struct qrb__merge *merge;
        uint32_t gone;

        if (bpe->merge[at] == NONE)
            continue;
        merge = &merges->list[bpe->merge[at]];
        if (merge->rank != entry >> 32)
            continue;
        bpe->last = bpe->merge[at];
        gone = bpe->next[at];
        bpe->symbols[at] = merge->result;
        bpe->next[at] = bpe->next[gone];
        if (bpe->next[gone] != NONE)
            bpe->prev[bpe->next[gone]] = at;
        bpe->merge[gone] = NONE;
        queue(bpe, merges, &queued, at);
        if (bpe->prev[at] != NONE)
            queue(bpe, merges, &queued, bpe->prev[at]);
    }
    for (uint32_t at = 0; at != NONE; at = bpe->next[at])
        bpe->symbols[left++] = bpe->symbols[at];
    return left;
}

void qrb__bpe_free(qrb_context *ctx, struct qrb__bpe *bpe)
{
    qrb__free(ctx, bpe->symbols);
    qrb__free(ctx, bpe->next);
    qrb__free(ctx, bpe->prev);
    qrb__free(ctx, bpe->merge);
    qrb__free(ctx, bpe->heap);
    memset(bpe, 0, sizeof *bpe);
}
