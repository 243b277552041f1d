/* Text on its way to the merges: added tokens are cut out of the raw text,
 * what lies between is made well-formed and normalized, added tokens that ask
 * for it are cut out of that, and the pre-tokenizer cuts the rest into words.
 * O(n) for n bytes beyond what the expressions cost. */
#include <string.h>

#include "io/tokenizer.h"
#include "io/utf8.h"

static const char separator_line[] = "<|endoftext|>";

/* A broken byte b is U+10FF00 + b.  Genuine characters from there on are, in
 * text that has broken bytes, taken as broken too: their bytes come out as
 * they were, and nothing else has this spelling. */
static const char broken_lead[] = "\xf4\x8f\xbc";

int qrb__broken_byte(const char *text, size_t size)
{
    const unsigned char *b = (const unsigned char *)text;

    if (size < QRB__BROKEN_LENGTH || memcmp(text, broken_lead, 2) != 0 ||
        b[2] < 0xbc)
        return -1;
    return (b[2] & 0x03) << 6 | (b[3] & 0x3f);
}

static qrb_status append_broken(qrb_context *ctx, struct qrb__bytes *out,
                                const char *bytes, size_t count)
{
    qrb_status status;

    status = qrb__bytes_reserve(ctx, out, QRB__BROKEN_LENGTH * count);
    for (size_t i = 0; status == QRB_OK && i < count; i++)
        out->used += qrb__utf8_encode(0x10ff00u + (unsigned char)bytes[i],
                                      out->bytes + out->used);
    return status;
}

/* Spell the broken bytes of a text as characters. */
static qrb_status mend(qrb_context *ctx, const char *text, size_t size,
                       struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;
    size_t copied = 0;
    size_t at = 0;

    out->used = 0;
    while (status == QRB_OK && at < size) {
        const size_t length = qrb__utf8_length(text + at, size - at);

        if (length > 0 && qrb__broken_byte(text + at, length) < 0) {
            at += length;
            continue;
        }
        status = qrb__bytes_append(ctx, out, text + copied, at - copied);
        if (status == QRB_OK)
            status =
                append_broken(ctx, out, text + at, length == 0 ? 1 : length);
        at += length == 0 ? 1 : length;
        copied = at;
    }
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, out, text + copied, size - copied);
    return status;
}

/* Hand a word over, cut before spaces where no merge could go across: the
 * result is the same, and short words are remembered. */
static qrb_status hand_over(const qrb_tokenizer *tokenizer, const char *word,
                            size_t size, bool broken,
                            const struct qrb__pieces_sink *sink)
{
    qrb_status status = QRB_OK;
    const char *space = tokenizer->space;
    const size_t length = tokenizer->space_length;

    while (status == QRB_OK && tokenizer->space_begins_word) {
        size_t at = 0;
        const char *found;

        /* The spaces that the word begins with belong to it. */
        while (size - at >= length && memcmp(word + at, space, length) == 0)
            at += length;
        found = memmem(word + at, size - at, space, length);
        if (found == NULL)
            break;
        status = sink->word(sink->user, word, (size_t)(found - word), broken);
        size -= (size_t)(found - word);
        word = found;
    }
    if (status == QRB_OK)
        status = sink->word(sink->user, word, size, broken);
    return status;
}

/* Text without added tokens. */
static qrb_status walk_words(struct qrb__pieces *pieces, const char *text,
                             size_t size, bool first, bool broken,
                             const struct qrb__pieces_sink *sink)
{
    const qrb_tokenizer *tokenizer = pieces->tokenizer;
    qrb_status status = QRB_OK;
    const char *word;
    size_t length;

    if (size == 0)
        return QRB_OK;
    qrb__pretokens_begin(&pieces->words, text, size, first);
    do {
        status =
            qrb__pretokens_next(tokenizer->ctx, &pieces->words, &word, &length);
        if (status == QRB_OK && length > 0)
            status = hand_over(tokenizer, word, length, broken, sink);
    } while (status == QRB_OK && length > 0);
    return status;
}

/* Text without added tokens that are found before the normalizer. */
static qrb_status walk_raw(struct qrb__pieces *pieces, const char *text,
                           size_t size, bool first,
                           const struct qrb__pieces_sink *sink)
{
    const qrb_tokenizer *tokenizer = pieces->tokenizer;
    const bool broken = qrb__utf8_valid(text, size) < size;
    qrb_status status = QRB_OK;
    size_t taken = 0;
    size_t begin;
    size_t end;
    int32_t id;

    if (broken) {
        status = mend(tokenizer->ctx, text, size, &pieces->well_formed);
        text = pieces->well_formed.bytes;
        size = pieces->well_formed.used;
    }
    if (status == QRB_OK)
        status = qrb__normalizer_apply(tokenizer->ctx, &tokenizer->normalizer,
                                       &pieces->normalized, text, size, &text,
                                       &size);
    while (status == QRB_OK &&
           qrb__added_find(&tokenizer->added_normalized, &tokenizer->vocab,
                           text, size, taken, &begin, &end, &id)) {
        status = walk_words(pieces, text + taken, begin - taken,
                            first && taken == 0, broken, sink);
        if (status == QRB_OK)
            status = sink->token(sink->user, id);
        taken = end;
    }
    if (status == QRB_OK)
        status = walk_words(pieces, text + taken, size - taken,
                            first && taken == 0, broken, sink);
    return status;
}

qrb_status qrb__pieces_walk(struct qrb__pieces *pieces, const char *text,
                            size_t size, const struct qrb__pieces_sink *sink)
{
    const qrb_tokenizer *tokenizer = pieces->tokenizer;
    qrb_status status = QRB_OK;
    size_t taken = 0;
    size_t begin;
    size_t end;
    int32_t id;

    while (status == QRB_OK &&
           qrb__added_find(&tokenizer->added, &tokenizer->vocab, text, size,
                           taken, &begin, &end, &id)) {
        if (begin > taken)
            status =
                walk_raw(pieces, text + taken, begin - taken, taken == 0, sink);
        if (status == QRB_OK)
            status = sink->token(sink->user, id);
        taken = end;
    }
    if (status == QRB_OK && taken < size)
        status = walk_raw(pieces, text + taken, size - taken, taken == 0, sink);
    return status;
}

/* The next line that holds only the separator: where it begins, and with
 * *end_out where the line after it begins; size for none. */
static size_t find_separator(const char *text, size_t size, size_t from,
                             size_t *end_out)
{
    const size_t length = sizeof separator_line - 1;

    for (size_t at = from; at < size;) {
        const char *found =
            memmem(text + at, size - at, separator_line, length);
        size_t end;

        if (found == NULL)
            break;
        at = (size_t)(found - text);
        end = at + length;
        if (end + 1 < size && text[end] == '\r' && text[end + 1] == '\n')
            end++;
        if ((at == 0 || text[at - 1] == '\n') &&
            (end == size || text[end] == '\n')) {
            *end_out = end == size ? end : end + 1;
            return at;
        }
        at += length;
    }
    *end_out = size;
    return size;
}

qrb_status qrb__pieces_walk_document(struct qrb__pieces *pieces,
                                     const char *text, size_t size,
                                     int32_t separator,
                                     const struct qrb__pieces_sink *sink)
{
    qrb_status status = QRB_OK;
    size_t at = 0;

    if (separator < 0)
        return qrb__pieces_walk(pieces, text, size, sink);
    while (status == QRB_OK && at < size) {
        size_t end;
        const size_t begin = find_separator(text, size, at, &end);

        status = qrb__pieces_walk(pieces, text + at, begin - at, sink);
        if (status == QRB_OK && begin < size)
            status = sink->token(sink->user, separator);
        at = end;
    }
    return status;
}

qrb_status qrb__pieces_create(const qrb_tokenizer *tokenizer,
                              struct qrb__pieces *out)
{
    out->tokenizer = tokenizer;
    return qrb__pretokens_create(tokenizer->ctx, &tokenizer->pretokenizer,
                                 &out->words);
}

void qrb__pieces_free(struct qrb__pieces *pieces)
{
    qrb_context *ctx = pieces->tokenizer->ctx;

    qrb__pretokens_free(ctx, &pieces->words);
    qrb__normalized_free(ctx, &pieces->normalized);
    qrb__bytes_free(ctx, &pieces->well_formed);
}
