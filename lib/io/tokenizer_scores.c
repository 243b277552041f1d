/* Merges of tokenizers that have scores instead: of all neighbours whose bytes
 * together are a token, the one with the best score is merged, and of equal
 * scores the leftmost.
 *
 * A token can be split in several ways, but only one of them ever occurs:
 * while a token is made nothing merges across its ends, so that inside of it
 * everything happens as if it stood alone.  Merging each token alone finds the
 * last step of its making, which is its one merge.  So the merges are as many
 * as the tokens, and a list of merges can say them.  O(b l) time for b bytes
 * of tokens that are at most l long. */
#include <stdio.h>
#include <string.h>

#include "core/sort.h"
#include "io/tokenizer.h"
#include "io/utf8.h"

enum { LENGTH_MAX = 256 }; /* bytes of a token */

/* A way to split a token in two. */
struct split {
    struct qrb__merge merge;
    float score;
};

struct splits {
    struct split *list; /* [count] */
    size_t count;
    size_t size;
};

/* To such a tokenizer a byte is its name, "<0x41>", here and a byte elsewhere,
 * so no token may be made of it. */
static bool is_byte(const qrb_tokenizer *t, int32_t id)
{
    size_t length;
    const char *token = qrb__vocab_bytes(&t->vocab, id, &length);

    return qrb__byte_token(token, length) >= 0;
}

static qrb_status add_split(const qrb_tokenizer *t, struct splits *splits,
                            int32_t left, int32_t right, int32_t result,
                            float score)
{
    struct split *grown;

    if (is_byte(t, left) || is_byte(t, right))
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "token %d is made of tokens %d and %d, and one of "
                         "them is a byte",
                         (int)result, (int)left, (int)right);
    grown = qrb__grow(t->ctx, splits->list, &splits->size, splits->count,
                      splits->count + 1, sizeof *grown);
    if (grown == NULL)
        return qrb__fail(t->ctx, QRB_E_NO_MEMORY, "%zu merges",
                         splits->count + 1);
    splits->list = grown;
    splits->list[splits->count++] =
        (struct split){ { left, right, result, 0 }, score };
    return QRB_OK;
}

static qrb_status find_splits(const qrb_tokenizer *t, const float *scores,
                              struct splits *splits)
{
    qrb_status status = QRB_OK;

    for (size_t id = 0; status == QRB_OK && id < t->vocab.ids; id++) {
        const char *token;
        size_t length;

        if (!qrb__vocab_has(&t->vocab, (int32_t)id, QRB__TOKEN_MODEL))
            continue;
        token = qrb__vocab_bytes(&t->vocab, (int32_t)id, &length);
        if (length > LENGTH_MAX)
            return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                             "token %zu has %zu bytes; at most %d are "
                             "supported where merges go by scores",
                             id, length, LENGTH_MAX);
        for (size_t k = 1; status == QRB_OK && k < length; k++) {
            const int32_t left = qrb__vocab_find(&t->vocab, token, k);
            const int32_t right =
                left < 0 ? -1
                         : qrb__vocab_find(&t->vocab, token + k, length - k);

            if (right >= 0)
                status =
                    add_split(t, splits, left, right, (int32_t)id, scores[id]);
        }
    }
    return status;
}

static int compare_splits(const void *a, const void *b)
{
    const struct split *x = a;
    const struct split *y = b;

    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->merge.result != y->merge.result)
        return x->merge.result < y->merge.result ? -1 : 1;
    return x->merge.left < y->merge.left ? -1 : 1;
}

/* Merges of splits that are in order of their scores. */
static qrb_status add_merges(qrb_context *ctx, struct splits *splits,
                             struct qrb__merges *merges)
{
    qrb_status status = QRB_OK;
    uint32_t rank = 0;

    for (size_t i = 0; status == QRB_OK && i < splits->count; i++) {
        struct split *split = &splits->list[i];

        if (i > 0 && split->score != splits->list[i - 1].score)
            rank++;
        split->merge.rank = rank;
        status = qrb__merges_add(ctx, merges, &split->merge);
    }
    return status;
}

/* Merge one token alone: its last merge, or QRB__INDEX_END where that does
 * not make the token. */
static qrb_status last_merge(const qrb_tokenizer *t,
                             const struct qrb__merges *all,
                             struct qrb__bpe *bpe, int32_t id, uint32_t *out)
{
    qrb_status status;
    size_t count = 0;
    size_t length;
    const char *token = qrb__vocab_bytes(&t->vocab, id, &length);

    *out = QRB__INDEX_END;
    status = qrb__bpe_reserve(t->ctx, bpe, 0, length);
    if (status != QRB_OK)
        return status;
    for (size_t at = 0; at < length;) {
        const size_t size = qrb__utf8_length(token + at, length - at);

        bpe->symbols[count++] = qrb__vocab_find(&t->vocab, token + at, size);
        at += size;
    }
    if (qrb__bpe_merge(bpe, all, count) == 1 && count > 1 &&
        bpe->symbols[0] == id)
        *out = bpe->last;
    return QRB_OK;
}

/* Keep the splits that are some token's last merge, in their order. */
static qrb_status keep_last_merges(const qrb_tokenizer *t,
                                   struct splits *splits)
{
    struct qrb__merges all = { 0 };
    struct qrb__bpe bpe = { 0 };
    qrb_status status;
    size_t kept = 0;
    size_t at = 0;

    status = add_merges(t->ctx, splits, &all);
    while (status == QRB_OK && at < splits->count) {
        const int32_t id = splits->list[at].merge.result;
        uint32_t last;

        status = last_merge(t, &all, &bpe, id, &last);
        while (at < splits->count && splits->list[at].merge.result == id)
            at++;
        if (status == QRB_OK && last != QRB__INDEX_END)
            splits->list[kept++] = splits->list[last];
    }
    splits->count = kept;
    qrb__bpe_free(t->ctx, &bpe);
    qrb__merges_free(t->ctx, &all);
    return status;
}

/* Splits in order of scores. */
static qrb_status sorted_splits(const qrb_tokenizer *t, const float *scores,
                                struct splits *out)
{
    const qrb_status status = find_splits(t, scores, out);

    if (status == QRB_OK && out->count > 0)
        qrb__sort(out->list, out->count, sizeof *out->list, compare_splits);
    return status;
}

qrb_status qrb__merges_from_scores(qrb_tokenizer *t, const float *scores)
{
    struct splits splits = { 0 };
    qrb_status status = sorted_splits(t, scores, &splits);

    if (status == QRB_OK && splits.count > 0)
        status = keep_last_merges(t, &splits);
    if (status == QRB_OK)
        status = add_merges(t->ctx, &splits, &t->merges);
    qrb__free(t->ctx, splits.list);
    return status;
}

/* A score for each token that a merge makes: merges of one token must follow
 * each other, or no single score can stand for all of them. */
static bool find_scores(const qrb_tokenizer *t, float *scores)
{
    uint32_t rank = 0;

    for (size_t id = 0; id < t->vocab.ids; id++)
        scores[id] = -(float)t->merges.count - 1;
    for (size_t i = 0; i < t->merges.count; i++) {
        const struct qrb__merge *merge = &t->merges.list[i];
        const bool again =
            i > 0 && merge->result == t->merges.list[i - 1].result;

        if (i > 0 && !again && merge->rank != t->merges.list[i - 1].rank)
            rank++;
        if (!again && scores[merge->result] > -(float)t->merges.count - 1)
            return false;
        scores[merge->result] = -(float)rank;
    }
    return t->merges.count < 1 << 24; /* exact as floats */
}

/* Whether each token comes about by the same last step under scores. */
static qrb_status compare_merges(const qrb_tokenizer *t, struct splits *splits,
                                 bool *out)
{
    struct qrb__merges all = { 0 };
    struct qrb__bpe bpe = { 0 };
    qrb_status status = add_merges(t->ctx, splits, &all);

    *out = true;
    for (size_t id = 0; status == QRB_OK && *out && id < t->vocab.ids; id++) {
        uint32_t ours;
        uint32_t theirs;

        if (!qrb__vocab_has(&t->vocab, (int32_t)id, QRB__TOKEN_MODEL))
            continue;
        status = last_merge(t, &t->merges, &bpe, (int32_t)id, &ours);
        if (status == QRB_OK)
            status = last_merge(t, &all, &bpe, (int32_t)id, &theirs);
        if (status != QRB_OK)
            break;
        *out = (ours == QRB__INDEX_END) == (theirs == QRB__INDEX_END) &&
               (ours == QRB__INDEX_END ||
                (t->merges.list[ours].left == all.list[theirs].left &&
                 t->merges.list[ours].right == all.list[theirs].right));
    }
    qrb__bpe_free(t->ctx, &bpe);
    qrb__merges_free(t->ctx, &all);
    return status;
}

qrb_status qrb__scores_from_merges(const qrb_tokenizer *t, float *scores)
{
    struct splits splits = { 0 };
    bool same = find_scores(t, scores);
    qrb_status status = QRB_OK;

    if (same)
        status = sorted_splits(t, scores, &splits);
    if (same && status == QRB_OK)
        status = compare_merges(t, &splits, &same);
    qrb__free(t->ctx, splits.list);
    if (status == QRB_OK && !same)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "the merges of this tokenizer are not those that "
                         "scores of its tokens would give");
    return status;
}
