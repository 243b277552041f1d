/* A sorted list in place of a trie: each byte of the text narrows the range
 * of tokens that begin like it.  O(length * log count) for each place where
 * some token's first byte stands, O(1) elsewhere; lengths are bounded. */
#include "io/tokenizer_added.h"

#include <string.h>

#include <utf8proc.h>

#include "core/sort.h"
#include "io/utf8.h"

static int compare_texts(const struct qrb__added_token *x,
                         const struct qrb__added_token *y, const char *bytes)
{
    const size_t shared = x->length < y->length ? x->length : y->length;
    const int order = memcmp(bytes + x->offset, bytes + y->offset, shared);

    if (order != 0)
        return order;
    return (x->length > y->length) - (x->length < y->length);
}

/* Of equal texts the lower id comes first, so that a message names them in one
 * order. */
static int compare(const void *a, const void *b, const void *bytes)
{
    const struct qrb__added_token *x = a;
    const struct qrb__added_token *y = b;
    const int order = compare_texts(x, y, bytes);

    return order != 0 ? order : (x->id > y->id) - (x->id < y->id);
}

static qrb_status add(qrb_context *ctx, const struct qrb__vocab *vocab,
                      const struct qrb__normalizer *normalizer,
                      struct qrb__normalized *work, int32_t id,
                      struct qrb__added *added)
{
    struct qrb__added_token *token = &added->tokens[added->count];
    const char *text;
    size_t size;
    qrb_status status = QRB_OK;

    text = qrb__vocab_bytes(vocab, id, &size);
    if (normalizer != NULL)
        status = qrb__normalizer_apply(ctx, normalizer, work, text, size, &text,
                                       &size);
    if (status == QRB_OK && (size == 0 || size > QRB__ADDED_LENGTH_MAX))
        status = qrb__fail(ctx, QRB_E_FORMAT,
                           "added token %d has %zu bytes, 1 to %d are "
                           "allowed",
                           (int)id, size, QRB__ADDED_LENGTH_MAX);
    if (status != QRB_OK)
        return status;
    token->offset = added->bytes.used;
    token->length = size;
    token->id = id;
    added->count++;
    return qrb__bytes_append(ctx, &added->bytes, text, size);
}

static qrb_status sort(qrb_context *ctx, struct qrb__added *added)
{
    if (added->count == 0)
        return QRB_OK;
    qrb__sort_with(added->tokens, added->count, sizeof *added->tokens, compare,
                   added->bytes.bytes);
    for (size_t i = 1; i < added->count; i++)
        if (compare_texts(&added->tokens[i - 1], &added->tokens[i],
                          added->bytes.bytes) == 0)
            return qrb__fail(ctx, QRB_E_FORMAT,
                             "added tokens %d and %d look for the same text",
                             (int)added->tokens[i - 1].id,
                             (int)added->tokens[i].id);
    for (size_t i = 0; i < added->count; i++) {
        const size_t offset = added->tokens[i].offset;

        added->first[(unsigned char)added->bytes.bytes[offset] + 1]++;
    }
    for (size_t b = 1; b < 257; b++)
        added->first[b] += added->first[b - 1];
    return QRB_OK;
}

qrb_status qrb__added_build(qrb_context *ctx, const struct qrb__vocab *vocab,
                            const struct qrb__normalizer *normalizer,
                            bool normalized, struct qrb__added *out)
{
    struct qrb__normalized work = { 0 };
    qrb_status status = QRB_OK;
    size_t count = 0;

    for (size_t id = 0; id < vocab->ids; id++)
        count += (vocab->tokens[id].flags & QRB__TOKEN_ADDED) != 0;
    if (count == 0)
        return QRB_OK;
    out->tokens = qrb__alloc_array(ctx, count, sizeof *out->tokens);
    if (out->tokens == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu added tokens", count);
    for (size_t id = 0; status == QRB_OK && id < vocab->ids; id++) {
        const uint32_t flags = vocab->tokens[id].flags;

        if ((flags & QRB__TOKEN_ADDED) &&
            normalized == ((flags & QRB__TOKEN_NORMALIZED) != 0))
            status = add(ctx, vocab, normalized ? normalizer : NULL, &work,
                         (int32_t)id, out);
    }
    if (status == QRB_OK)
        status = sort(ctx, out);
    qrb__normalized_free(ctx, &work);
    return status;
}

void qrb__added_free(qrb_context *ctx, struct qrb__added *added)
{
    qrb__free(ctx, added->tokens);
    qrb__bytes_free(ctx, &added->bytes);
    memset(added, 0, sizeof *added);
}

/* The byte `depth` of a token, or -1 behind its end. */
static int byte_at(const struct qrb__added *added, size_t token, size_t depth)
{
    const struct qrb__added_token *t = &added->tokens[token];

    return depth < t->length
               ? (unsigned char)added->bytes.bytes[t->offset + depth]
               : -1;
}

/* First of the tokens [low, high), which are in order, whose byte `depth` is
 * at least `byte`. */
static size_t lower_bound(const struct qrb__added *added, size_t low,
                          size_t high, size_t depth, int byte)
{
    while (low < high) {
        const size_t middle = low + (high - low) / 2;

        if (byte_at(added, middle, depth) < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest token that the text begins with, or SIZE_MAX. */
static size_t longest(const struct qrb__added *added, const char *text,
                      size_t size)
{
    const unsigned char first = (unsigned char)text[0];
    size_t low = added->first[first];
    size_t high = added->first[first + 1];
    size_t found = SIZE_MAX;

    for (size_t depth = 1; low < high; depth++) {
        if (added->tokens[low].length == depth)
            found = low;
        if (depth == size)
            break;
        low = lower_bound(added, low, high, depth, (unsigned char)text[depth]);
        high = lower_bound(added, low, high, depth,
                           (unsigned char)text[depth] + 1);
    }
    return found;
}

/* White_Space of the Unicode character database. */
static bool is_space(uint32_t code)
{
    const utf8proc_category_t category = utf8proc_category((int32_t)code);

    return (code >= 9 && code <= 13) || code == 0x85 ||
           category == UTF8PROC_CATEGORY_ZS ||
           category == UTF8PROC_CATEGORY_ZL || category == UTF8PROC_CATEGORY_ZP;
}

/* What \w matches (UTS #18): alphabetic characters, marks, decimal digits,
 * connectors and joiners. */
static bool is_word(uint32_t code)
{
    switch (utf8proc_category((int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
        return true;
    default:
        return code == 0x200c || code == 0x200d ||
               (code >= 0x24b6 && code <= 0x24e9);
    }
}

/* The character in front of `at`, and its length; 0 for none or a broken
 * one. */
static size_t before(const char *text, size_t at, uint32_t *code_out)
{
    size_t length = 1;

    *code_out = 0;
    if (at == 0)
        return 0;
    while (length < 4 && length < at &&
           ((unsigned char)text[at - length] & 0xc0) == 0x80)
        length++;
    if (qrb__utf8_length(text + at - length, length) != length)
        return 0;
    *code_out = qrb__utf8_decode(text + at - length, length);
    return length;
}

static size_t after(const char *text, size_t size, size_t at,
                    uint32_t *code_out)
{
    const size_t length = qrb__utf8_length(text + at, size - at);

    *code_out = length == 0 ? 0 : qrb__utf8_decode(text + at, length);
    return length;
}

static bool stands_alone(const char *text, size_t size, size_t begin,
                         size_t end)
{
    uint32_t left;
    uint32_t right;

    return !(before(text, begin, &left) > 0 && is_word(left)) &&
           !(after(text, size, end, &right) > 0 && is_word(right));
}

bool qrb__added_find(const struct qrb__added *added,
                     const struct qrb__vocab *vocab, const char *text,
                     size_t size, size_t taken, size_t *begin_out,
                     size_t *end_out, int32_t *id_out)
{
    size_t at = taken;

    while (added->count > 0 && at < size) {
        const unsigned char byte = (unsigned char)text[at];
        size_t found;
        size_t begin = at;
        size_t end;
        size_t length;
        uint32_t flags;
        uint32_t code;

        if (added->first[byte] == added->first[byte + 1] ||
            (found = longest(added, text + at, size - at)) == SIZE_MAX) {
            at++;
            continue;
        }
        end = at + added->tokens[found].length;
        flags = vocab->tokens[added->tokens[found].id].flags;
        if ((flags & QRB__TOKEN_SINGLE_WORD) &&
            !stands_alone(text, size, begin, end)) {
            at = end;
            continue;
        }
        while ((flags & QRB__TOKEN_LSTRIP) && begin > taken &&
               (length = before(text, begin, &code)) > 0 &&
               length <= begin - taken && is_space(code))
            begin -= length;
        while ((flags & QRB__TOKEN_RSTRIP) &&
               (length = after(text, size, end, &code)) > 0 && is_space(code))
            end += length;
        *begin_out = begin;
        *end_out = end;
        *id_out = added->tokens[found].id;
        return true;
    }
    return false;
}
