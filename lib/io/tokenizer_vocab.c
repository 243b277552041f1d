/* The bytes of all tokens stand in one buffer; both tables grow by doubling
 * and are found by hashing: O(1) expected for each token and merge. */
#include "io/tokenizer_vocab.h"

#include <string.h>

/* Twice what the worst entry of a million honest ones needs, many times. */
enum { PROBES_MAX = 4096 };

static qrb_status reserve_token(qrb_context *ctx, struct qrb__vocab *vocab,
                                size_t id, size_t length)
{
    struct qrb__token *tokens;
    qrb_status status;

    tokens = qrb__grow(ctx, vocab->tokens, &vocab->ids_size, vocab->ids, id + 1,
                       sizeof *tokens);
    if (tokens == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu tokens", id + 1);
    vocab->tokens = tokens;
    status = qrb__bytes_reserve(ctx, &vocab->bytes, length);
    if (status != QRB_OK)
        return status;
    return qrb__index_reserve(ctx, &vocab->index, vocab->index.count + 1);
}

qrb_status qrb__vocab_add(qrb_context *ctx, struct qrb__vocab *vocab, size_t id,
                          const char *bytes, size_t length, uint32_t flags)
{
    struct qrb__token *token;
    qrb_status status;

    if (id >= QRB__VOCAB_MAX)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "token id %zu, at most %d is allowed", id,
                         QRB__VOCAB_MAX - 1);
    if (length == 0 || length > QRB__TOKEN_LENGTH_MAX)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "token %zu has %zu bytes, 1 to %d are allowed", id,
                         length, QRB__TOKEN_LENGTH_MAX);
    if (qrb__vocab_has(vocab, (int32_t)id, QRB__TOKEN_THERE))
        return qrb__fail(ctx, QRB_E_FORMAT, "token id %zu is there twice", id);
    if ((flags & QRB__TOKEN_MODEL) &&
        qrb__vocab_find(vocab, bytes, length) >= 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "token %zu (\"%.*s\") is there "
                         "twice",
                         id, (int)(length < 40 ? length : 40), bytes);
    status = reserve_token(ctx, vocab, id, length);
    if (status != QRB_OK)
        return status;
    token = &vocab->tokens[id];
    token->offset = vocab->bytes.used;
    token->length = (uint32_t)length;
    token->flags = flags | QRB__TOKEN_THERE;
    memcpy(vocab->bytes.bytes + token->offset, bytes, length);
    vocab->bytes.used += length;
    if (id >= vocab->ids)
        vocab->ids = id + 1;
    if (flags & QRB__TOKEN_MODEL)
        qrb__index_add(&vocab->index, qrb__hash_bytes(bytes, length),
                       (uint32_t)id);
    if (vocab->index.longest > PROBES_MAX)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "thousands of tokens have the same hash");
    return QRB_OK;
}

int32_t qrb__vocab_find(const struct qrb__vocab *vocab, const char *bytes,
                        size_t length)
{
    const uint32_t hash = qrb__hash_bytes(bytes, length);
    size_t probe = 0;
    uint32_t id;

    while ((id = qrb__index_next(&vocab->index, hash, &probe)) !=
           QRB__INDEX_END) {
        const struct qrb__token *token = &vocab->tokens[id];

        if (token->length == length &&
            memcmp(vocab->bytes.bytes + token->offset, bytes, length) == 0)
            return (int32_t)id;
    }
    return -1;
}

const char *qrb__vocab_bytes(const struct qrb__vocab *vocab, int32_t id,
                             size_t *length_out)
{
    *length_out = vocab->tokens[id].length;
    return vocab->bytes.bytes + vocab->tokens[id].offset;
}

bool qrb__vocab_has(const struct qrb__vocab *vocab, int32_t id, uint32_t flags)
{
    return id >= 0 && (size_t)id < vocab->ids &&
           (vocab->tokens[id].flags & flags) != 0;
}

void qrb__vocab_free(qrb_context *ctx, struct qrb__vocab *vocab)
{
    qrb__free(ctx, vocab->tokens);
    qrb__bytes_free(ctx, &vocab->bytes);
    qrb__index_free(ctx, &vocab->index);
    memset(vocab, 0, sizeof *vocab);
}

qrb_status qrb__merges_add(qrb_context *ctx, struct qrb__merges *merges,
                           const struct qrb__merge *merge)
{
    struct qrb__merge *list;
    qrb_status status;

    if (qrb__merges_find(merges, merge->left, merge->right) != QRB__INDEX_END)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "merge %zu is that of tokens %d and %d once more",
                         merges->count, (int)merge->left, (int)merge->right);
    list = qrb__grow(ctx, merges->list, &merges->size, merges->count,
                     merges->count + 1, sizeof *list);
    if (list == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu merges", merges->count + 1);
    merges->list = list;
    status = qrb__index_reserve(ctx, &merges->index, merges->count + 1);
    if (status != QRB_OK)
        return status;
    qrb__index_add(&merges->index, qrb__hash_pair(merge->left, merge->right),
                   (uint32_t)merges->count);
    merges->list[merges->count++] = *merge;
    if (merges->index.longest > PROBES_MAX)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "thousands of merges have the same hash");
    return QRB_OK;
}

uint32_t qrb__merges_find(const struct qrb__merges *merges, int32_t left,
                          int32_t right)
{
    const uint32_t hash = qrb__hash_pair(left, right);
    size_t probe = 0;
    uint32_t entry;

    while ((entry = qrb__index_next(&merges->index, hash, &probe)) !=
           QRB__INDEX_END)
        if (merges->list[entry].left == left &&
            merges->list[entry].right == right)
            break;
    return entry;
}

void qrb__merges_free(qrb_context *ctx, struct qrb__merges *merges)
{
    qrb__free(ctx, merges->list);
    qrb__index_free(ctx, &merges->index);
    memset(merges, 0, sizeof *merges);
}
