/* Merging the most frequent pair, again and again, with counts that are kept
 * up to date: each pair knows the words that may have it, so that a merge
 * touches those alone.  The count of a pair grows only while the later one of
 * its symbols is made and falls from then on, so a heap with stale entries
 * finds the greatest.  O(m log m) time for all merges together and O(m)
 * memory, where m is the number of symbols in distinct words. */
#include "io/bpe_learn.h"

#include <string.h>

#include "io/growing.h"

/* Room for one more element of an array. */
static qrb_status room(struct qrb__learning *t, void *array, size_t *size,
                       size_t count, size_t element, void *array_out)
{
    void *grown;

    if (count >= QRB__INDEX_END)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "the text has more than 2^32 pairs");
    grown = qrb__grow(t->ctx, array, size, count, count + 1, element);
    if (grown == NULL)
        return qrb__fail(t->ctx, QRB_E_NO_MEMORY, "learning from %zu words",
                         t->words_count);
    memcpy(array_out, &grown, sizeof grown);
    return QRB_OK;
}

static qrb_status find_pair(struct qrb__learning *t, int32_t left,
                            int32_t right, uint32_t *out)
{
    const uint32_t hash = qrb__hash_pair(left, right);
    size_t probe = 0;
    qrb_status status;

    while ((*out = qrb__index_next(&t->pairs_index, hash, &probe)) !=
           QRB__INDEX_END)
        if (t->pairs[*out].left == left && t->pairs[*out].right == right)
            return QRB_OK;
    status = room(t, t->pairs, &t->pairs_size, t->pairs_count, sizeof *t->pairs,
                  &t->pairs);
    if (status == QRB_OK)
        status =
            qrb__index_reserve(t->ctx, &t->pairs_index, t->pairs_count + 1);
    if (status != QRB_OK)
        return status;
    *out = (uint32_t)t->pairs_count;
    t->pairs[t->pairs_count++] =
        (struct qrb__counted_pair){ left, right, 0, QRB__INDEX_END };
    qrb__index_add(&t->pairs_index, hash, *out);
    return QRB_OK;
}

static qrb_status add_pair(struct qrb__learning *t, int32_t left, int32_t right,
                           uint32_t word)
{
    struct qrb__counted_pair *pair;
    uint32_t found;
    qrb_status status;

    status = find_pair(t, left, right, &found);
    if (status != QRB_OK)
        return status;
    pair = &t->pairs[found];
    pair->count += t->words[word].count;
    if (pair->words != QRB__INDEX_END &&
        t->occurrences[pair->words].word == word)
        return QRB_OK;
    status = room(t, t->occurrences, &t->occurrences_size, t->occurrences_count,
                  sizeof *t->occurrences, &t->occurrences);
    if (status != QRB_OK)
        return status;
    t->occurrences[t->occurrences_count] =
        (struct qrb__occurrence){ word, pair->words };
    pair->words = (uint32_t)t->occurrences_count++;
    return QRB_OK;
}

static qrb_status remove_pair(struct qrb__learning *t, int32_t left,
                              int32_t right, uint32_t word)
{
    uint32_t found;
    const qrb_status status = find_pair(t, left, right, &found);

    if (status == QRB_OK)
        t->pairs[found].count -= t->words[word].count;
    return status;
}

static bool goes_first(const struct qrb__learning *t, struct qrb__candidate a,
                       struct qrb__candidate b)
{
    const struct qrb__counted_pair *x = &t->pairs[a.pair];
    const struct qrb__counted_pair *y = &t->pairs[b.pair];

    if (a.count != b.count)
        return a.count > b.count;
    return x->left != y->left ? x->left < y->left : x->right < y->right;
}

static qrb_status push(struct qrb__learning *t, uint32_t pair)
{
    const struct qrb__candidate new = { t->pairs[pair].count, pair };
    size_t at = t->heap_count;
    qrb_status status;

    status = room(t, t->heap, &t->heap_size, t->heap_count, sizeof *t->heap,
                  &t->heap);
    if (status != QRB_OK)
        return status;
    t->heap_count++;
    while (at > 0 && goes_first(t, new, t->heap[(at - 1) / 2])) {
        t->heap[at] = t->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    t->heap[at] = new;
    return QRB_OK;
}

static struct qrb__candidate pop(struct qrb__learning *t)
{
    const struct qrb__candidate top = t->heap[0];
    const struct qrb__candidate last = t->heap[--t->heap_count];
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= t->heap_count)
            break;
        if (child + 1 < t->heap_count &&
            goes_first(t, t->heap[child + 1], t->heap[child]))
            child++;
        if (!goes_first(t, t->heap[child], last))
            break;
        t->heap[at] = t->heap[child];
        at = child;
    }
    t->heap[at] = last;
    return top;
}

/* Queue the pairs that are new. */
static qrb_status queue_fresh(struct qrb__learning *t)
{
    qrb_status status = QRB_OK;

    for (; status == QRB_OK && t->fresh < t->pairs_count; t->fresh++)
        if (t->pairs[t->fresh].count > 0)
            status = push(t, (uint32_t)t->fresh);
    return status;
}

/* The pair that is most frequent now, or QRB__INDEX_END. */
static qrb_status most_frequent(struct qrb__learning *t, uint32_t *out)
{
    qrb_status status = QRB_OK;

    *out = QRB__INDEX_END;
    while (status == QRB_OK && t->heap_count > 0) {
        const struct qrb__candidate top = pop(t);

        if (t->pairs[top.pair].count == top.count) {
            *out = top.pair;
            break;
        }
        if (t->pairs[top.pair].count > 0)
            status = push(t, top.pair);
    }
    return status;
}

/* Replace a pair in one word, and count what changes around it. */
static qrb_status merge_word(struct qrb__learning *t, uint32_t index,
                             int32_t left, int32_t right, int32_t result)
{
    struct qrb__counted_word *word = &t->words[index];
    int32_t *symbols = t->symbols + word->begin;
    qrb_status status = QRB_OK;
    uint32_t used = 0;

    for (uint32_t i = 0; status == QRB_OK && i < word->length; i++) {
        if (symbols[i] != left || i + 1 == word->length ||
            symbols[i + 1] != right) {
            symbols[used++] = symbols[i];
            continue;
        }
        status = remove_pair(t, left, right, index);
        if (status == QRB_OK && used > 0)
            status = remove_pair(t, symbols[used - 1], left, index);
        if (status == QRB_OK && used > 0)
            status = add_pair(t, symbols[used - 1], result, index);
        i++;
        if (status == QRB_OK && i + 1 < word->length)
            status = remove_pair(t, right, symbols[i + 1], index);
        if (status == QRB_OK && i + 1 < word->length)
            status = add_pair(t, result, symbols[i + 1], index);
        symbols[used++] = result;
    }
    word->length = used;
    return status;
}

static qrb_status merge_pair(struct qrb__learning *t, uint32_t pair,
                             int32_t result)
{
    const int32_t left = t->pairs[pair].left;
    const int32_t right = t->pairs[pair].right;
    qrb_status status = QRB_OK;
    uint32_t at = t->pairs[pair].words;

    while (status == QRB_OK && at != QRB__INDEX_END) {
        status = merge_word(t, t->occurrences[at].word, left, right, result);
        at = t->occurrences[at].next;
    }
    return status;
}

qrb_status qrb__learning_begin(qrb_context *ctx,
                               struct qrb__counted_word *words, size_t count,
                               int32_t *symbols, struct qrb__learning *learning)
{
    qrb_status status = QRB_OK;

    learning->ctx = ctx;
    learning->words = words;
    learning->words_count = count;
    learning->symbols = symbols;
    for (size_t w = 0; status == QRB_OK && w < count; w++) {
        const int32_t *word = symbols + words[w].begin;

        for (uint32_t i = 1; status == QRB_OK && i < words[w].length; i++)
            status = add_pair(learning, word[i - 1], word[i], (uint32_t)w);
    }
    return status;
}

qrb_status qrb__learning_next(struct qrb__learning *learning, int32_t result,
                              int32_t *left_out, int32_t *right_out)
{
    uint32_t pair = QRB__INDEX_END;
    qrb_status status;

    *left_out = -1;
    *right_out = -1;
    status = queue_fresh(learning);
    if (status == QRB_OK)
        status = most_frequent(learning, &pair);
    if (status != QRB_OK || pair == QRB__INDEX_END)
        return status;
    *left_out = learning->pairs[pair].left;
    *right_out = learning->pairs[pair].right;
    return merge_pair(learning, pair, result);
}

void qrb__learning_free(struct qrb__learning *learning)
{
    qrb_context *ctx = learning->ctx;

    if (ctx == NULL)
        return;
    qrb__free(ctx, learning->pairs);
    qrb__free(ctx, learning->occurrences);
    qrb__free(ctx, learning->heap);
    qrb__index_free(ctx, &learning->pairs_index);
}
