/* Reader of llama2.c tokenizers: the length of the longest token, then for
 * each token its score (float32), its length (int32) and its bytes, to the
 * end of the file.
 *
 * Its rules: a space goes in front of the text; characters are looked up, and
 * those without a token are bytes, ids 3 to 258; of all neighbours whose bytes
 * together are a token, the one with the best score is merged, and of equal
 * scores the leftmost.  Token 1 begins and token 2 ends a text.
 */
#include <math.h>
#include <string.h>

#include "io/bytes.h"
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

static qrb_status set_parts(qrb_tokenizer *t)
{
    qrb_status status = qrb__ends_set(t, BOS, EOS);

    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_NORMALIZER, normalizer);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_DECODER, decoder);
    return status;
}

qrb_status qrb__tokenizer_read_llama2c(qrb_tokenizer *t, const char *bytes,
                                       size_t size, const char *name)
{
    float *scores;
    qrb_status status;

    t->byte_fallback = true;
    /* A token takes 9 bytes at least. */
    scores = qrb__alloc_array(t->ctx, size / 9 + 1, sizeof *scores);
    if (scores == NULL)
        return qrb__fail(t->ctx, QRB_E_NO_MEMORY, "%s", name);
    status = read_tokens(t, bytes, size, name, scores);
    if (status == QRB_OK)
        status = qrb__merges_from_scores(t, scores);
    if (status == QRB_OK)
        status = set_parts(t);
    qrb__free(t->ctx, scores);
    return status;
}
