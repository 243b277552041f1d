/* Ids back into bytes, as the "decoder" of a tokenizer.json says.  O(n) for n
 * bytes of tokens. */
#include <string.h>

#include "io/tokenizer.h"
#include "io/tokenizer_field.h"
#include "io/utf8.h"

static qrb_status read_replace(qrb_context *ctx, const json_t *part,
                               struct qrb__decoder *out)
{
    const char *from = NULL;
    const char *to = NULL;
    qrb_status status;

    status = qrb__field_string(ctx, json_object_get(part, "pattern"),
                               "decoder.pattern", "String", &from);
    if (status == QRB_OK)
        status = qrb__field_string(ctx, part, "decoder", "content", &to);
    if (status != QRB_OK)
        return status;
    if (from == NULL || *from == '\0' || to == NULL || out->from.used > 0)
        return qrb__field_unsupported(ctx, part, "decoder");
    status = qrb__bytes_append(ctx, &out->from, from, strlen(from));
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, &out->to, to, strlen(to));
    return status;
}

/* Of the text as a whole: a decoder that strips comes behind one that
 * fuses. */
static qrb_status read_strip(qrb_context *ctx, const json_t *part,
                             struct qrb__decoder *out)
{
    const char *content = NULL;
    uint64_t start;
    uint64_t stop;
    qrb_status status;

    status = qrb__field_string(ctx, part, "decoder", "content", &content);
    if (status != QRB_OK)
        return status;
    if (content == NULL || *content == '\0' || out->strip.used > 0 ||
        qrb__utf8_length(content, strlen(content)) != strlen(content) ||
        !qrb__json_get_integer(json_object_get(part, "start"), 0, 1u << 20,
                               &start) ||
        !qrb__json_get_integer(json_object_get(part, "stop"), 0, 0, &stop))
        return qrb__field_unsupported(ctx, part, "decoder");
    out->strip_start = (size_t)start;
    return qrb__bytes_append(ctx, &out->strip, content, strlen(content));
}

static qrb_status read_metaspace(qrb_context *ctx, const json_t *part,
                                 struct qrb__decoder *out)
{
    const char *replacement = NULL;
    const char *scheme = NULL;
    bool prefix = true;
    qrb_status status;

    status =
        qrb__field_string(ctx, part, "decoder", "replacement", &replacement);
    if (status == QRB_OK)
        status =
            qrb__field_string(ctx, part, "decoder", "prepend_scheme", &scheme);
    if (status == QRB_OK)
        status =
            qrb__field_bool(ctx, part, "decoder", "add_prefix_space", &prefix);
    if (status != QRB_OK)
        return status;
    if (replacement == NULL || *replacement == '\0' || out->from.used > 0 ||
        out->strip.used > 0)
        return qrb__field_unsupported(ctx, part, "decoder");
    status =
        qrb__bytes_append(ctx, &out->from, replacement, strlen(replacement));
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, &out->to, " ", 1);
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, &out->strip, " ", 1);
    if (scheme != NULL)
        prefix = strcmp(scheme, "never") != 0;
    out->strip_start = prefix ? 1 : 0;
    return status;
}

qrb_status qrb__decoder_read(qrb_context *ctx, const json_t *part,
                             struct qrb__decoder *out)
{
    qrb_status status;
    size_t count;
    bool fused = false;

    status = qrb__field_sequence(ctx, part, "decoder", "decoders", 8, &count);
    for (size_t i = 0; status == QRB_OK && i < count; i++) {
        const json_t *step = qrb__field_sequence_part(part, "decoders", i);
        const char *type = qrb__field_type(step);

        if (strcmp(type, "ByteLevel") == 0 && count == 1) {
            out->kind = QRB__DECODE_BYTE_LEVEL;
            return QRB_OK;
        }
        out->kind = QRB__DECODE_STEPS;
        if (strcmp(type, "Fuse") == 0)
            fused = true;
        else if (strcmp(type, "Strip") == 0 && fused)
            status = read_strip(ctx, step, out);
        else if (fused)
            status = qrb__field_unsupported(ctx, step, "decoder");
        else if (strcmp(type, "ByteFallback") == 0)
            out->byte_fallback = true;
        else if (strcmp(type, "Replace") == 0)
            status = read_replace(ctx, step, out);
        else if (strcmp(type, "Metaspace") == 0)
            status = read_metaspace(ctx, step, out);
        else
            status = qrb__field_unsupported(ctx, step, "decoder");
    }
    return status;
}

void qrb__decoder_free(qrb_context *ctx, struct qrb__decoder *decoder)
{
    qrb__bytes_free(ctx, &decoder->from);
    qrb__bytes_free(ctx, &decoder->to);
    qrb__bytes_free(ctx, &decoder->strip);
    memset(decoder, 0, sizeof *decoder);
}

static int hex_digit(char c)
{
    static const char digits[] = "0123456789ABCDEF";
    const char *at = c == '\0' ? NULL : strchr(digits, c);

    return at == NULL ? -1 : (int)(at - digits);
}

int qrb__byte_token(const char *token, size_t length)
{
    if (length != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>' ||
        hex_digit(token[3]) < 0 || hex_digit(token[4]) < 0)
        return -1;
    return hex_digit(token[3]) << 4 | hex_digit(token[4]);
}

/* A token with anything outside of the alphabet is meant as it stands. */
static qrb_status append_byte_level(qrb_context *ctx, const char *token,
                                    size_t length, struct qrb__bytes *out)
{
    const size_t begin = out->used;
    qrb_status status;

    status = qrb__bytes_reserve(ctx, out, length);
    for (size_t at = 0; status == QRB_OK && at < length;) {
        const size_t size = qrb__utf8_length(token + at, length - at);
        const int byte =
            qrb__character_to_byte(qrb__utf8_decode(token + at, size));

        if (byte < 0) {
            out->used = begin;
            return qrb__bytes_append(ctx, out, token, length);
        }
        out->bytes[out->used++] = (char)byte;
        at += size;
    }
    return status;
}

static qrb_status append_steps(qrb_context *ctx,
                               const struct qrb__decoder *decoder,
                               const char *token, size_t length,
                               struct qrb__bytes *out)
{
    const int byte =
        decoder->byte_fallback ? qrb__byte_token(token, length) : -1;
    qrb_status status = QRB_OK;

    if (byte >= 0) {
        const char raw = (char)byte;

        return qrb__bytes_append(ctx, out, &raw, 1);
    }
    while (status == QRB_OK && length > 0) {
        const char *found = decoder->from.used == 0
                                ? NULL
                                : memmem(token, length, decoder->from.bytes,
                                         decoder->from.used);
        const size_t kept = found == NULL ? length : (size_t)(found - token);

        status = qrb__bytes_append(ctx, out, token, kept);
        token += kept;
        length -= kept;
        if (status == QRB_OK && found != NULL) {
            status = qrb__bytes_append(ctx, out, decoder->to.bytes,
                                       decoder->to.used);
            token += decoder->from.used;
            length -= decoder->from.used;
        }
    }
    return status;
}

static qrb_status append_decoded(const qrb_tokenizer *t, int32_t id,
                                 struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;
    size_t length;
    const char *token = qrb__vocab_bytes(&t->vocab, id, &length);

    if (qrb__vocab_has(&t->vocab, id, QRB__TOKEN_ADDED) &&
        t->decoder.kind == QRB__DECODE_BYTE_LEVEL)
        return qrb__bytes_append(t->ctx, out, token, length);
    switch (t->decoder.kind) {
    case QRB__DECODE_BYTE_LEVEL:
        return append_byte_level(t->ctx, token, length, out);
    case QRB__DECODE_STEPS:
        return append_steps(t->ctx, &t->decoder, token, length, out);
    case QRB__DECODE_JOIN:
        break;
    }
    if (out->used > 0)
        status = qrb__bytes_append(t->ctx, out, " ", 1);
    if (status == QRB_OK)
        status = qrb__bytes_append(t->ctx, out, token, length);
    return status;
}

/* How many bytes come off the beginning. */
static size_t stripped(const struct qrb__decoder *decoder,
                       const struct qrb__bytes *text)
{
    size_t at = 0;

    for (size_t i = 0; i < decoder->strip_start; i++) {
        if (text->used - at < decoder->strip.used ||
            memcmp(text->bytes + at, decoder->strip.bytes,
                   decoder->strip.used) != 0)
            break;
        at += decoder->strip.used;
    }
    return at;
}

static qrb_status decode(const qrb_tokenizer *tokenizer, const int32_t *tokens,
                         size_t count, struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;
    size_t strip;

    for (size_t i = 0; status == QRB_OK && i < count; i++) {
        if (!qrb__vocab_has(&tokenizer->vocab, tokens[i], QRB__TOKEN_THERE))
            return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG,
                             "token %zu is %d, which the tokenizer does not "
                             "have (%zu ids)",
                             i, (int)tokens[i], tokenizer->vocab.ids);
        if (!qrb__vocab_has(&tokenizer->vocab, tokens[i], QRB__TOKEN_SPECIAL))
            status = append_decoded(tokenizer, tokens[i], out);
    }
    if (status == QRB_OK)
        status = qrb__bytes_append(tokenizer->ctx, out, "", 1);
    if (status != QRB_OK)
        return status;
    out->used--;
    strip = stripped(&tokenizer->decoder, out);
    memmove(out->bytes, out->bytes + strip, out->used - strip + 1);
    out->used -= strip;
    return QRB_OK;
}

qrb_status qrb_tokenizer_decode(const qrb_tokenizer *tokenizer,
                                const int32_t *tokens, size_t count,
                                char **text_out, size_t *size_out)
{
    struct qrb__bytes text = { 0 };
    qrb_status status;

    if (tokenizer == NULL)
        return QRB_E_INVALID_ARG;
    if (text_out == NULL || size_out == NULL)
        return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG,
                         "text_out or size_out is NULL");
    *text_out = NULL;
    status = qrb__not_in_callback(tokenizer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (tokens == NULL && count > 0)
        return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG, "tokens is NULL");
    status = decode(tokenizer, tokens, count, &text);
    if (status == QRB_OK) {
        *text_out = text.bytes;
        *size_out = text.used;
        text.bytes = NULL;
    }
    qrb__bytes_free(tokenizer->ctx, &text);
    return status;
}
