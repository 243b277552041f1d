/* O(1) expected for each lookup.  Keys of a file can be chosen so that they
 * collide; readers look at `longest` and refuse such a file. */
#include "io/tokenizer_index.h"

#include <string.h>

uint32_t qrb__hash_bytes(const char *bytes, size_t size)
{
    uint64_t hash = 0x9e3779b97f4a7c15u ^ size;

    while (size >= 8) {
        uint64_t word;

        memcpy(&word, bytes, 8);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
        bytes += 8;
        size -= 8;
    }
    if (size > 0) {
        uint64_t word = 0;

        memcpy(&word, bytes, size);
        hash = (hash ^ word) * 0xff51afd7ed558ccdu;
        hash ^= hash >> 32;
    }
    hash *= 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(hash >> 32);
}

uint32_t qrb__hash_pair(int32_t left, int32_t right)
{
    uint64_t hash = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;

    hash *= 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
    hash *= 0xc4ceb9fe1a85ec53u;
    return (uint32_t)(hash >> 32);
}

static void insert(struct qrb__index_slot *slots, size_t mask, uint32_t hash,
                   uint32_t entry, size_t *longest)
{
    size_t probes = 0;

    while (slots[(hash + probes) & mask].entry != QRB__INDEX_END)
        probes++;
    slots[(hash + probes) & mask].hash = hash;
    slots[(hash + probes) & mask].entry = entry;
    if (probes > *longest)
        *longest = probes;
}

qrb_status qrb__index_reserve(qrb_context *ctx, struct qrb__index *index,
                              size_t entries)
{
    struct qrb__index_slot *slots;
    size_t count = 16;
    size_t longest = 0;

    if (index->slots != NULL && entries <= (index->mask + 1) / 2)
        return QRB_OK;
    while (count / 2 < entries && count < SIZE_MAX / 4)
        count *= 2;
    slots = qrb__alloc_array(ctx, count, sizeof *slots);
    if (slots == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "index of %zu entries", entries);
    for (size_t i = 0; i < count; i++)
        slots[i].entry = QRB__INDEX_END;
    for (size_t i = 0; index->slots != NULL && i <= index->mask; i++)
        if (index->slots[i].entry != QRB__INDEX_END)
            insert(slots, count - 1, index->slots[i].hash,
                   index->slots[i].entry, &longest);
    qrb__free(ctx, index->slots);
    index->slots = slots;
    index->mask = count - 1;
    index->longest = longest;
    return QRB_OK;
}

uint32_t qrb__index_next(const struct qrb__index *index, uint32_t hash,
                         size_t *probe)
{
    if (index->slots == NULL)
        return QRB__INDEX_END;
    for (;;) {
        const struct qrb__index_slot slot =
            index->slots[(hash + (*probe)++) & index->mask];

        if (slot.entry == QRB__INDEX_END || slot.hash == hash)
            return slot.entry;
    }
}

void qrb__index_add(struct qrb__index *index, uint32_t hash, uint32_t entry)
{
    insert(index->slots, index->mask, hash, entry, &index->longest);
    index->count++;
}

void qrb__index_free(qrb_context *ctx, struct qrb__index *index)
{
    qrb__free(ctx, index->slots);
    memset(index, 0, sizeof *index);
}
