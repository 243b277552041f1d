/* Writer of tokenizer.json.  The bytes are a function of the tokenizer alone:
 * tokens in order of ids, merges in order of rank.  O(size) time and memory,
 * since the file is replaced whole. */
#include <string.h>

#include "io/text.h"
#include "io/tokenizer.h"
#include "io/writer.h"

static const char *bool_text(bool value)
{
    return value ? "true" : "false";
}

static void print_token(struct qrb__text *text, const qrb_tokenizer *t,
                        int32_t id)
{
    size_t length;
    const char *bytes = qrb__vocab_bytes(&t->vocab, id, &length);

    qrb__text_json_string(text, bytes, length);
}

static void print_added(struct qrb__text *text, const qrb_tokenizer *t)
{
    const char *between = "\n";

    qrb__text_print(text, "  \"added_tokens\": [");
    for (size_t id = 0; id < t->vocab.ids; id++) {
        const uint32_t flags = t->vocab.tokens[id].flags;

        if (!(flags & QRB__TOKEN_ADDED))
            continue;
        qrb__text_print(text, "%s    {\"id\": %zu, \"content\": ", between, id);
        print_token(text, t, (int32_t)id);
        qrb__text_print(text,
                        ", \"single_word\": %s, \"lstrip\": %s, "
                        "\"rstrip\": %s, \"normalized\": %s, \"special\": "
                        "%s}",
                        bool_text(flags & QRB__TOKEN_SINGLE_WORD),
                        bool_text(flags & QRB__TOKEN_LSTRIP),
                        bool_text(flags & QRB__TOKEN_RSTRIP),
                        bool_text(flags & QRB__TOKEN_NORMALIZED),
                        bool_text(flags & QRB__TOKEN_SPECIAL));
        between = ",\n";
    }
    qrb__text_print(text, "\n  ],\n");
}

static void print_parts(struct qrb__text *text, const qrb_tokenizer *t)
{
    for (size_t i = 0; i < QRB__PARTS; i++) {
        const char *part = t->parts[i] == NULL ? "null" : t->parts[i];

        qrb__text_print(text, "  \"%s\": ", qrb__tokenizer_part_names[i]);
        qrb__text_append(text, part, strlen(part));
        qrb__text_print(text, ",\n");
    }
}

static void print_vocab(struct qrb__text *text, const qrb_tokenizer *t)
{
    const char *between = "\n";

    qrb__text_print(text, "    \"vocab\": {");
    for (size_t id = 0; id < t->vocab.ids; id++) {
        if (!(t->vocab.tokens[id].flags & QRB__TOKEN_MODEL))
            continue;
        qrb__text_print(text, "%s      ", between);
        print_token(text, t, (int32_t)id);
        qrb__text_print(text, ": %zu", id);
        between = ",\n";
    }
    qrb__text_print(text, "\n    },\n");
}

static void print_merges(struct qrb__text *text, const qrb_tokenizer *t)
{
    const char *between = "\n";

    qrb__text_print(text, "    \"merges\": [");
    for (size_t i = 0; i < t->merges.count; i++) {
        qrb__text_print(text, "%s      [", between);
        print_token(text, t, t->merges.list[i].left);
        qrb__text_print(text, ", ");
        print_token(text, t, t->merges.list[i].right);
        qrb__text_print(text, "]");
        between = ",\n";
    }
    qrb__text_print(text, "\n    ]\n");
}

static void print_model(struct qrb__text *text, const qrb_tokenizer *t)
{
    qrb__text_print(text, "  \"model\": {\n    \"type\": \"BPE\",\n"
                          "    \"dropout\": null,\n    \"unk_token\": ");
    if (t->unk >= 0)
        print_token(text, t, t->unk);
    else
        qrb__text_print(text, "null");
    qrb__text_print(text, ",\n    \"continuing_subword_prefix\": null,\n"
                          "    \"end_of_word_suffix\": null,\n");
    qrb__text_print(text,
                    "    \"fuse_unk\": %s,\n    \"byte_fallback\": %s,\n"
                    "    \"ignore_merges\": %s,\n",
                    bool_text(t->fuse_unk), bool_text(t->byte_fallback),
                    bool_text(t->ignore_merges));
    print_vocab(text, t);
    print_merges(text, t);
    qrb__text_print(text, "  }\n}\n");
}

/* Merges in a list cannot say that the leftmost of two goes first. */
static qrb_status check_ranks(const qrb_tokenizer *t)
{
    for (size_t i = 1; i < t->merges.count; i++)
        if (t->merges.list[i].rank == t->merges.list[i - 1].rank)
            return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                             "tokens %d and %d have the same score: a "
                             "tokenizer.json cannot say that the leftmost "
                             "goes first",
                             (int)t->merges.list[i - 1].result,
                             (int)t->merges.list[i].result);
    return QRB_OK;
}

qrb_status qrb_tokenizer_save(const qrb_tokenizer *tokenizer, const char *path)
{
    struct qrb__text text = { 0 };
    qrb_status status;

    if (tokenizer == NULL)
        return QRB_E_INVALID_ARG;
    text.ctx = tokenizer->ctx;
    status = qrb__not_in_callback(tokenizer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL)
        return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG, "path is NULL");
    status = check_ranks(tokenizer);
    if (status != QRB_OK)
        return status;
    qrb__text_print(&text, "{\n  \"version\": \"1.0\",\n"
                           "  \"truncation\": null,\n"
                           "  \"padding\": null,\n");
    print_added(&text, tokenizer);
    print_parts(&text, tokenizer);
    print_model(&text, tokenizer);
    status = qrb__text_status(&text, "tokenizer.json");
    if (status == QRB_OK)
        status = qrb__write_file(tokenizer->ctx, path, text.bytes, text.size);
    qrb__text_release(&text);
    return status;
}
