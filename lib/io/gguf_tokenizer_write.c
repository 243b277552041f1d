/* A tokenizer as the keys of a GGUF file. */
#include "io/gguf_tokenizer.h"

#include <stdio.h>
#include <string.h>

static const char space_mark[] = "\xe2\x96\x81"; /* U+2581 */

static qrb_status unsupported(const qrb_tokenizer *t, const char *what)
{
    return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                     "a GGUF file cannot say this tokenizer: %s", what);
}

static bool bytes_are(const struct qrb__bytes *bytes, const char *text)
{
    return bytes->used == strlen(text) &&
           memcmp(bytes->bytes, text, bytes->used) == 0;
}

/* The normalizer of SentencePiece: spaces become marks, and one may go in
 * front.  A tokenizer whose tokens have spaces has only the latter. */
static bool is_sentencepiece(const qrb_tokenizer *t, bool *prefix)
{
    const struct qrb__normalizer *n = &t->normalizer;
    const bool marks = strcmp(t->space, space_mark) == 0;
    size_t at = 0;

    if (t->pretokenizer.count > 0 || !t->byte_fallback || t->ignore_merges ||
        t->space_length == 0)
        return false;
    *prefix = n->count > 0 && n->steps[0].kind == QRB__NORMALIZE_PREPEND &&
              bytes_are(&n->steps[0].to, t->space);
    at += *prefix;
    if (!marks)
        return at == n->count;
    return at + 1 == n->count && n->steps[at].kind == QRB__NORMALIZE_REPLACE &&
           bytes_are(&n->steps[at].from, " ") &&
           bytes_are(&n->steps[at].to, space_mark);
}

static uint32_t type_of(const qrb_tokenizer *t, size_t id)
{
    const uint32_t flags = id < t->vocab.ids ? t->vocab.tokens[id].flags : 0;
    const char *token;
    size_t length;

    if (!(flags & QRB__TOKEN_THERE))
        return QRB__GGUF_UNUSED;
    if ((int32_t)id == t->unk)
        return QRB__GGUF_UNKNOWN;
    if (flags & QRB__TOKEN_SPECIAL)
        return QRB__GGUF_CONTROL;
    if (flags & QRB__TOKEN_ADDED)
        return QRB__GGUF_USER_DEFINED;
    token = qrb__vocab_bytes(&t->vocab, (int32_t)id, &length);
    return t->byte_fallback && qrb__byte_token(token, length) >= 0
               ? QRB__GGUF_BYTE
               : QRB__GGUF_NORMAL;
}

/* A token with marks for spaces, appended to `out`. */
static qrb_status mark_spaces(const qrb_tokenizer *t, const char *token,
                              size_t length, struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;

    if (memmem(token, length, space_mark, strlen(space_mark)) != NULL)
        return unsupported(t, "a token has U+2581 where others have spaces");
    for (size_t i = 0; status == QRB_OK && i < length; i++)
        status = token[i] == ' '
                     ? qrb__bytes_append(t->ctx, out, space_mark,
                                         strlen(space_mark))
                     : qrb__bytes_append(t->ctx, out, token + i, 1);
    return status;
}

static qrb_status put_tokens(struct qrb__gguf_writer *w, const qrb_tokenizer *t,
                             size_t vocab, bool mark)
{
    struct qrb__bytes marked = { 0 };
    qrb_status status = QRB_OK;

    qrb__gguf_put_array(w, "tokenizer.ggml.tokens", QRB__GGUF_STRING, vocab);
    for (size_t id = 0; status == QRB_OK && id < vocab; id++) {
        char unused[32];
        const char *token = unused;
        size_t length;

        if (type_of(t, id) == QRB__GGUF_UNUSED) {
            length =
                (size_t)snprintf(unused, sizeof unused, "[PAD%zu]", id);
        } else {
            token = qrb__vocab_bytes(&t->vocab, (int32_t)id, &length);
            marked.used = 0;
            if (mark) {
                status = mark_spaces(t, token, length, &marked);
                token = marked.bytes;
                length = marked.used;
            }
        }
        if (status == QRB_OK)
            qrb__gguf_add_string(w, token, length);
    }
    qrb__gguf_put_array(w, "tokenizer.ggml.token_type", QRB__GGUF_I32, vocab);
    for (size_t id = 0; id < vocab; id++)
        qrb__gguf_add_i32(w, (int32_t)type_of(t, id));
    qrb__bytes_free(t->ctx, &marked);
    return status;
}

static qrb_status put_merges(struct qrb__gguf_writer *w, const qrb_tokenizer *t)
{
    struct qrb__bytes text = { 0 };
    qrb_status status = QRB_OK;

    qrb__gguf_put_array(w, "tokenizer.ggml.merges", QRB__GGUF_STRING,
                        t->merges.count);
    for (size_t i = 0; status == QRB_OK && i < t->merges.count; i++) {
        const int32_t ids[2] = { t->merges.list[i].left,
                                 t->merges.list[i].right };

        text.used = 0;
        for (size_t k = 0; status == QRB_OK && k < 2; k++) {
            size_t length;
            const char *token = qrb__vocab_bytes(&t->vocab, ids[k], &length);

            if (memchr(token, ' ', length) != NULL)
                status = unsupported(t, "a merge of a token with a space");
            if (status == QRB_OK && k == 1)
                status = qrb__bytes_append(t->ctx, &text, " ", 1);
            if (status == QRB_OK)
                status = qrb__bytes_append(t->ctx, &text, token, length);
        }
        if (status == QRB_OK)
            qrb__gguf_add_string(w, text.bytes, text.used);
    }
    qrb__bytes_free(t->ctx, &text);
    return status;
}

static qrb_status put_byte_level(struct qrb__gguf_writer *w,
                                 const qrb_tokenizer *t, size_t vocab)
{
    const struct qrb__gguf_pre *pre;
    qrb_status status = qrb__gguf_pre_of(t, &pre);

    if (status != QRB_OK)
        return status;
    if (pre == NULL)
        return unsupported(t, "its pre-tokenizer has no name there; those of "
                              "GPT-2, Llama 3 and Qwen2 have");
    qrb__gguf_put_text(w, "tokenizer.ggml.model", "gpt2");
    qrb__gguf_put_text(w, "tokenizer.ggml.pre", pre->name);
    status = put_tokens(w, t, vocab, false);
    return status == QRB_OK ? put_merges(w, t) : status;
}

static qrb_status put_sentencepiece(struct qrb__gguf_writer *w,
                                    const qrb_tokenizer *t, size_t vocab,
                                    bool prefix)
{
    const bool mark = strcmp(t->space, space_mark) != 0;
    float *scores = qrb__alloc_array(t->ctx, t->vocab.ids, sizeof *scores);
    qrb_status status;

    if (scores == NULL)
        return qrb__fail(t->ctx, QRB_E_NO_MEMORY, "scores");
    status = qrb__scores_from_merges(t, scores);
    if (status == QRB_OK) {
        qrb__gguf_put_text(w, "tokenizer.ggml.model", "llama");
        qrb__gguf_put_text(w, "tokenizer.ggml.pre", "default");
        status = put_tokens(w, t, vocab, mark);
    }
    if (status == QRB_OK) {
        qrb__gguf_put_array(w, "tokenizer.ggml.scores", QRB__GGUF_FLOAT,
                            vocab);
        for (size_t id = 0; id < vocab; id++)
            qrb__gguf_add_float(w, id < t->vocab.ids ? scores[id] : 0);
        qrb__gguf_put_flag(w, "tokenizer.ggml.add_space_prefix", prefix);
    }
    qrb__free(t->ctx, scores);
    return status;
}

/* Settings of added tokens that GGUF has no words for. */
static qrb_status check_added(const qrb_tokenizer *t)
{
    for (size_t id = 0; id < t->vocab.ids; id++)
        if (t->vocab.tokens[id].flags &
            (QRB__TOKEN_SINGLE_WORD | QRB__TOKEN_LSTRIP | QRB__TOKEN_RSTRIP)) {
            char what[80];

            snprintf(what, sizeof what,
                     "token %zu is a single word or strips spaces", id);
            return unsupported(t, what);
        }
    return QRB_OK;
}

static void put_ends(struct qrb__gguf_writer *w, const qrb_tokenizer *t)
{
    if (t->bos >= 0)
        qrb__gguf_put_u32(w, "tokenizer.ggml.bos_token_id", (uint32_t)t->bos);
    if (t->eos >= 0)
        qrb__gguf_put_u32(w, "tokenizer.ggml.eos_token_id", (uint32_t)t->eos);
    if (t->unk >= 0)
        qrb__gguf_put_u32(w, "tokenizer.ggml.unknown_token_id",
                          (uint32_t)t->unk);
    qrb__gguf_put_flag(w, "tokenizer.ggml.add_bos_token", t->puts_bos);
    qrb__gguf_put_flag(w, "tokenizer.ggml.add_eos_token", false);
}

qrb_status qrb__gguf_put_tokenizer(struct qrb__gguf_writer *w,
                                   const qrb_tokenizer *t, size_t vocab)
{
    bool prefix = false;
    qrb_status status = check_added(t);

    if (status != QRB_OK)
        return status;
    if (t->vocab.ids > vocab)
        return qrb__fail(t->ctx, QRB_E_SHAPE,
                         "the tokenizer has %zu tokens, the model %zu",
                         t->vocab.ids, vocab);
    if (t->pretokenizer.byte_level)
        status = put_byte_level(w, t, vocab);
    else if (is_sentencepiece(t, &prefix))
        status = put_sentencepiece(w, t, vocab, prefix);
    else
        status = unsupported(t, "it is neither byte-level nor SentencePiece's "
                                "with byte fallback");
    if (status == QRB_OK)
        put_ends(w, t);
    return status;
}
