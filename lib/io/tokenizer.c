/* The life of a tokenizer: opened, filled by a reader or by training, made
 * ready, looked at, released. */
#include "io/tokenizer.h"

#include <stdio.h>
#include <string.h>

#include "io/model_directory.h"
#include "io/gguf_tokenizer.h"
#include "io/path.h"
#include "io/source.h"
#include "io/utf8.h"

enum {
    JSON_MAX = 100 * 1000 * 1000, /* bytes of a tokenizer.json */
    LLAMA2C_MAX = 16 * 1000 * 1000
};

const char *const qrb__tokenizer_part_names[QRB__PARTS] = {
    "normalizer", "pre_tokenizer", "post_processor", "decoder"
};

static const struct qrb__json_limits part_limits = { 1 << 20, 8, 8 };

qrb_status qrb__tokenizer_create(qrb_context *ctx, qrb_tokenizer **out)
{
    qrb_tokenizer *tokenizer = qrb__alloc_array(ctx, 1, sizeof *tokenizer);

    *out = tokenizer;
    if (tokenizer == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "tokenizer");
    tokenizer->ctx = ctx;
    tokenizer->unk = -1;
    tokenizer->bos = -1;
    tokenizer->eos = -1;
    return QRB_OK;
}

void qrb_tokenizer_destroy(qrb_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    qrb__vocab_free(tokenizer->ctx, &tokenizer->vocab);
    qrb__merges_free(tokenizer->ctx, &tokenizer->merges);
    qrb__normalizer_free(tokenizer->ctx, &tokenizer->normalizer);
    qrb__pretokenizer_free(&tokenizer->pretokenizer);
    qrb__decoder_free(tokenizer->ctx, &tokenizer->decoder);
    qrb__added_free(tokenizer->ctx, &tokenizer->added);
    qrb__added_free(tokenizer->ctx, &tokenizer->added_normalized);
    for (size_t i = 0; i < QRB__PARTS; i++)
        qrb__free(tokenizer->ctx, tokenizer->parts[i]);
    qrb__free(tokenizer->ctx, tokenizer);
}

qrb_status qrb__tokenizer_set_part(qrb_tokenizer *tokenizer,
                                   enum qrb__tokenizer_part which,
                                   const char *json)
{
    qrb_context *ctx = tokenizer->ctx;
    json_t *part = NULL;
    qrb_status status;

    status = qrb__json_parse(ctx, json, strlen(json), &part_limits,
                             qrb__tokenizer_part_names[which], &part);
    if (status != QRB_OK)
        return status;
    switch (which) {
    case QRB__PART_NORMALIZER:
        status = qrb__normalizer_read(ctx, part, &tokenizer->normalizer);
        break;
    case QRB__PART_PRE_TOKENIZER:
        status = qrb__pretokenizer_read(ctx, part, &tokenizer->pretokenizer);
        break;
    case QRB__PART_POST_PROCESSOR:
        status = qrb__ends_check(ctx, part);
        break;
    default:
        status = qrb__decoder_read(ctx, part, &tokenizer->decoder);
    }
    json_decref(part);
    if (status != QRB_OK)
        return status;
    tokenizer->parts[which] = qrb__strdup(ctx, json);
    if (tokenizer->parts[which] == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%s",
                         qrb__tokenizer_part_names[which]);
    return QRB_OK;
}

/* Tokens of single bytes. */
static qrb_status find_bytes(qrb_tokenizer *t)
{
    char token[8];

    for (unsigned byte = 0; byte < 256; byte++) {
        size_t length = 0;

        t->byte_ids[byte] = -1;
        if (t->pretokenizer.byte_level)
            length = qrb__utf8_encode(
                qrb__byte_to_character((unsigned char)byte), token);
        else if (t->byte_fallback)
            length = (size_t)snprintf(token, sizeof token, "<0x%02X>", byte);
        if (length > 0)
            t->byte_ids[byte] = qrb__vocab_find(&t->vocab, token, length);
        if (t->byte_fallback && !t->pretokenizer.byte_level &&
            t->byte_ids[byte] < 0)
            return qrb__fail(t->ctx, QRB_E_FORMAT,
                             "byte_fallback is true, and the vocabulary has "
                             "no %s",
                             token);
    }
    return QRB_OK;
}

/* Whether words can be cut in front of spaces: SentencePiece keeps them at
 * the beginning of tokens. */
static void find_spaces(qrb_tokenizer *t)
{
    static const char *const spaces[] = { "\xe2\x96\x81", " " };

    for (size_t i = 0; i < 2 && t->space_length == 0; i++)
        if (qrb__vocab_find(&t->vocab, spaces[i], strlen(spaces[i])) >= 0) {
            t->space_length = strlen(spaces[i]);
            memcpy(t->space, spaces[i], t->space_length);
        }
    t->space_begins_word =
        t->space_length > 0 && !t->ignore_merges && !t->pretokenizer.byte_level;
    for (size_t i = 0; t->space_begins_word && i < t->merges.count; i++) {
        const struct qrb__merge *merge = &t->merges.list[i];
        size_t left_length;
        size_t right_length;
        const char *left =
            qrb__vocab_bytes(&t->vocab, merge->left, &left_length);
        const char *right =
            qrb__vocab_bytes(&t->vocab, merge->right, &right_length);

        if (right_length >= t->space_length &&
            memcmp(right, t->space, t->space_length) == 0 &&
            (left_length < t->space_length ||
             memcmp(left + left_length - t->space_length, t->space,
                    t->space_length) != 0))
            t->space_begins_word = false;
    }
}

qrb_status qrb__tokenizer_finish(qrb_tokenizer *t)
{
    qrb_status status;

    status = find_bytes(t);
    if (status == QRB_OK)
        status = qrb__added_build(t->ctx, &t->vocab, &t->normalizer, false,
                                  &t->added);
    if (status == QRB_OK)
        status = qrb__added_build(t->ctx, &t->vocab, &t->normalizer, true,
                                  &t->added_normalized);
    if (status == QRB_OK)
        status = qrb__ends_find(t);
    if (status == QRB_OK)
        find_spaces(t);
    return status;
}

static qrb_status read_text(qrb_tokenizer *t, struct qrb__source *source,
                            uint32_t format)
{
    const bool json = format == QRB_TOKENIZER_JSON;
    char *bytes = NULL;
    size_t size;
    qrb_status status;

    status =
        qrb__source_load(source, json ? JSON_MAX : LLAMA2C_MAX, &bytes, &size);
    if (status == QRB_OK)
        status =
            (json ? qrb__tokenizer_read_json : qrb__tokenizer_read_llama2c)(
                t, bytes, size, qrb__source_name(source));
    qrb__free(t->ctx, bytes);
    return status;
}

/* Takes the source over. */
static qrb_status read_gguf(qrb_tokenizer *t, struct qrb__source *source)
{
    struct qrb__gguf *file;
    qrb_status status = qrb__gguf_open(t->ctx, source, &file);

    if (status == QRB_OK)
        status = qrb__tokenizer_read_gguf(t, file);
    qrb__gguf_close(file);
    return status;
}

/* Takes the source over. */
static qrb_status open_source(qrb_context *ctx, struct qrb__source *source,
                              uint32_t format, qrb_tokenizer **out)
{
    qrb_tokenizer *tokenizer = NULL;
    qrb_status status = qrb__tokenizer_create(ctx, &tokenizer);

    if (status == QRB_OK && format == QRB_TOKENIZER_GGUF) {
        status = read_gguf(tokenizer, source);
        source = NULL;
    } else if (status == QRB_OK) {
        status = read_text(tokenizer, source, format);
    }
    if (status == QRB_OK)
        status = qrb__tokenizer_finish(tokenizer);
    if (status == QRB_OK) {
        *out = tokenizer;
        tokenizer = NULL;
    }
    qrb_tokenizer_destroy(tokenizer);
    qrb__source_close(source);
    return status;
}

qrb_status qrb_tokenizer_open(qrb_context *ctx, const qrb_source *source,
                              uint32_t format, qrb_tokenizer **out)
{
    struct qrb__source *opened = NULL;
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "out is NULL");
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (source == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "source is NULL");
    if (format < QRB_TOKENIZER_JSON || format > QRB_TOKENIZER_GGUF)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "format is %u, QRB_TOKENIZER_JSON (1), "
                         "QRB_TOKENIZER_LLAMA2C (2) and QRB_TOKENIZER_GGUF (3) "
                         "are known",
                         format);
    status = qrb__source_open(ctx, source, &opened);
    return status == QRB_OK ? open_source(ctx, opened, format, out) : status;
}

/* A llama2.c file begins with a 32-bit length below 2^24, so that it has a
 * NUL among its first four bytes, which JSON never has. */
static qrb_status guess_format(const struct qrb__source *source,
                               uint32_t *format_out)
{
    char head[4];
    bool gguf = false;
    qrb_status status = qrb__gguf_detect(source, &gguf);

    *format_out = gguf ? QRB_TOKENIZER_GGUF : QRB_TOKENIZER_JSON;
    if (status != QRB_OK || gguf || qrb__source_size(source) < sizeof head)
        return status;
    status = qrb__source_read(source, 0, head, sizeof head);
    if (status == QRB_OK && memchr(head, '\0', sizeof head) != NULL)
        *format_out = QRB_TOKENIZER_LLAMA2C;
    return status;
}

qrb_status qrb_tokenizer_open_path(qrb_context *ctx, const char *path,
                                   qrb_tokenizer **out)
{
    struct qrb__source *source = NULL;
    uint32_t format = QRB_TOKENIZER_JSON;
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "out is NULL");
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "path is NULL");
    if (qrb__path_is_directory(path)) {
        status = qrb__source_open_in(ctx, path, QRB__TOKENIZER_FILE, &source);
    } else {
        status = qrb__source_open_path(ctx, path, &source);
        if (status == QRB_OK)
            status = guess_format(source, &format);
    }
    if (status == QRB_OK)
        return open_source(ctx, source, format, out);
    qrb__source_close(source);
    return status;
}

size_t qrb_tokenizer_vocab(const qrb_tokenizer *tokenizer)
{
    return tokenizer == NULL ? 0 : tokenizer->vocab.ids;
}

int32_t qrb_tokenizer_bos(const qrb_tokenizer *tokenizer)
{
    return tokenizer == NULL ? -1 : tokenizer->bos;
}

int32_t qrb_tokenizer_eos(const qrb_tokenizer *tokenizer)
{
    return tokenizer == NULL ? -1 : tokenizer->eos;
}
