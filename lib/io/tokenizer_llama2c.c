/* Reader of llama2.c tokenizers: the length of the longest token, then for
 * each token its score (float32), its length (int32) and its bytes, to the
 * end of the file.
 *
 * Its rules: a space goes in front of the text; characters are looked up, and
 * those without a token are bytes, ids 3 to 258; of all neighbours whose bytes
 * together are a token, the one with the best score is merged, and of equal
 * scores the leftmost.  Token 1 begins and token 2 ends a text.
 *
 * Merges follow from that.  A token can be split in several ways, but only one
 * of them ever occurs: while a token is made nothing merges across its ends,
 * so that inside of it everything happens as if it stood alone.  Merging each
 * token alone finds the last step of its making, which is its one merge.  So
 * the merges are as many as the tokens, and a tokenizer.json can say them.
 * O(b l) time for b bytes of tokens that are at most l long. */
#include <math.h>
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/text.h"
#include "io/tokenizer.h"
#include "io/utf8.h"

enum {
    LENGTH_MAX = 256, /* bytes of a token */
    BOS = 1,
    EOS = 2,
    FIRST_BYTE = 3,
    TOKENS_MIN = FIRST_BYTE + 256
};

/* Tokens have spaces, not U+2581, so that a U+2581 in the text stays one. */
static const char normalizer[] = "{\"type\":\"Prepend\",\"prepend\":\" \"}";
static const char decoder[] =
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},"
    "{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";

/* What is spelled with the names of tokens 1 and 2 in between. */
static const char *const template[] = {
    "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":",
    ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],"
    "\"pair\":[{\"SpecialToken\":{\"id\":",
    ",\"type_id\":0}},{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},"
    "{\"SpecialToken\":{\"id\":",
    ",\"type_id\":0}},{\"Sequence\":{\"id\":\"B\",\"type_id\":1}}],"
    "\"special_tokens\":{",
    ":{\"id\":",
    ",\"ids\":[1],\"tokens\":[",
    "]},",
    ":{\"id\":",
    ",\"ids\":[2],\"tokens\":[",
    "]}}}"
};
static const int32_t template_tokens[] = { BOS, BOS, EOS, BOS, BOS,
                                           BOS, EOS, EOS, EOS };

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

static float load_score(const unsigned char *bytes)
{
    const uint32_t bits = qrb__load_u32(bytes);
    float score;

    memcpy(&score, &bits, sizeof score);
    return score;
}

static qrb_status check_token(qrb_context *ctx, const char *name, size_t id,
                              const char *token, size_t length, float score)
{
    if (!isfinite(score))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: the score of token %zu is not finite", name, id);
    if (qrb__utf8_valid(token, length) < length ||
        memchr(token, '\0', length) != NULL)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: token %zu is not UTF-8, or has a NUL", name, id);
    if (id >= FIRST_BYTE && id < TOKENS_MIN &&
        qrb__byte_token(token, length) != (int)(id - FIRST_BYTE))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: token %zu is \"%.*s\", expected <0x%02X>", name,
                         id, (int)length, token, (unsigned)(id - FIRST_BYTE));
    return QRB_OK;
}

/* Tokens, and their scores into `scores`, which has room for all. */
static qrb_status read_tokens(qrb_tokenizer *t, const char *bytes, size_t size,
                              const char *name, float *scores)
{
    const unsigned char *b = (const unsigned char *)bytes;
    const uint32_t longest = size < 4 ? 0 : qrb__load_u32(b);
    qrb_status status = QRB_OK;
    size_t at = 4;

    if (size < 4 || longest == 0 || longest > LENGTH_MAX)
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "%s: the longest token has %u bytes, 1 to %d are "
                         "allowed",
                         name, longest, LENGTH_MAX);
    while (status == QRB_OK && at < size) {
        const size_t id = t->vocab.ids;
        uint32_t length;

        if (size - at < 8)
            return qrb__fail(t->ctx, QRB_E_FORMAT,
                             "%s: the file ends in token %zu", name, id);
        scores[id] = load_score(b + at);
        length = qrb__load_u32(b + at + 4);
        at += 8;
        if (length == 0 || length > longest || length > size - at)
            return qrb__fail(t->ctx, QRB_E_FORMAT,
                             "%s: token %zu has %u bytes, 1 to %u are "
                             "allowed and %zu are left",
                             name, id, length, longest, size - at);
        status = check_token(t->ctx, name, id, bytes + at, length, scores[id]);
        if (status == QRB_OK)
            status = qrb__vocab_add(t->ctx, &t->vocab, id, bytes + at, length,
                                    QRB__TOKEN_MODEL);
        at += length;
    }
    if (status == QRB_OK && t->vocab.ids < TOKENS_MIN)
        status = qrb__fail(t->ctx, QRB_E_FORMAT,
                           "%s: %zu tokens, at least %d are needed", name,
                           t->vocab.ids, TOKENS_MIN);
    return status;
}

static qrb_status add_split(qrb_tokenizer *t, struct splits *splits,
                            int32_t left, int32_t right, int32_t result,
                            float score)
{
    struct split *grown;

    /* To llama2.c such a byte is its name here, and a byte elsewhere. */
    if ((left >= FIRST_BYTE && left < TOKENS_MIN) ||
        (right >= FIRST_BYTE && right < TOKENS_MIN))
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

static qrb_status find_splits(qrb_tokenizer *t, const float *scores,
                              struct splits *splits)
{
    qrb_status status = QRB_OK;

    for (size_t id = 0; id < t->vocab.ids; id++) {
        size_t length;
        const char *token = qrb__vocab_bytes(&t->vocab, (int32_t)id, &length);

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
static qrb_status last_merge(qrb_tokenizer *t, const struct qrb__merges *all,
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
static qrb_status keep_last_merges(qrb_tokenizer *t, struct splits *splits)
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

static qrb_status set_parts(qrb_tokenizer *t)
{
    struct qrb__text text = { .ctx = t->ctx };
    qrb_status status;

    for (size_t i = 0; i < sizeof template / sizeof *template; i++) {
        size_t length;
        const char *token;

        qrb__text_append(&text, template[i], strlen(template[i]));
        if (i == sizeof template_tokens / sizeof *template_tokens)
            break;
        token = qrb__vocab_bytes(&t->vocab, template_tokens[i], &length);
        qrb__text_json_string(&text, token, length);
    }
    status = qrb__text_status(&text, "post_processor");
    if (status == QRB_OK)
        status =
            qrb__tokenizer_set_part(t, QRB__PART_POST_PROCESSOR, text.bytes);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_NORMALIZER, normalizer);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_DECODER, decoder);
    qrb__text_release(&text);
    return status;
}

qrb_status qrb__tokenizer_read_llama2c(qrb_tokenizer *t, const char *bytes,
                                       size_t size, const char *name)
{
    struct splits splits = { 0 };
    float *scores;
    qrb_status status;

    t->byte_fallback = true;
    /* A token takes 9 bytes at least. */
    scores = qrb__alloc_array(t->ctx, size / 9 + 1, sizeof *scores);
    if (scores == NULL)
        return qrb__fail(t->ctx, QRB_E_NO_MEMORY, "%s", name);
    status = read_tokens(t, bytes, size, name, scores);
    if (status == QRB_OK)
        status = find_splits(t, scores, &splits);
    if (status == QRB_OK && splits.count > 0) {
        qrb__sort(splits.list, splits.count, sizeof *splits.list,
                  compare_splits);
        status = keep_last_merges(t, &splits);
    }
    if (status == QRB_OK)
        status = add_merges(t->ctx, &splits, &t->merges);
    if (status == QRB_OK)
        status = set_parts(t);
    qrb__free(t->ctx, splits.list);
    qrb__free(t->ctx, scores);
    return status;
}
