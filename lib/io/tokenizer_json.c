/* Reader of tokenizer.json, the format of the tokenizers library, for models
 * of type BPE.  O(size) time; nothing in the file is trusted: every id, name
 * and type is checked before it is used. */
#include <string.h>

#include "io/text.h"
#include "io/tokenizer.h"
#include "io/tokenizer_field.h"

/* A merge is written as a list of two strings, in 8 bytes or more. */
static const struct qrb__json_limits limits = { 100 * 1000 * 1000, 8, 8 };

enum { SPARE_IDS = 1024 }; /* that no token has, beyond one for each token */

static const char *name_of(const json_t *token)
{
    const char *content = json_string_value(json_object_get(token, "content"));

    return content == NULL ? "?" : content;
}

/* Ids may have gaps, but no absurd ones. */
static qrb_status check_id(qrb_context *ctx, const json_t *value, size_t tokens,
                           const char *where, const char *name, size_t *out)
{
    const size_t most = 2 * tokens + SPARE_IDS;
    uint64_t id;

    if (!qrb__json_get_integer(value, 0, most, &id))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: the id of \"%.80s\" is not an integer from 0 "
                         "to %zu (for %zu tokens)",
                         where, name, most, tokens);
    *out = (size_t)id;
    return QRB_OK;
}

static qrb_status read_vocab(qrb_tokenizer *t, const json_t *vocab,
                             size_t tokens)
{
    qrb_status status = QRB_OK;
    json_t *object = (json_t *)(uintptr_t)vocab; /* iterators want it so */
    const char *name;
    json_t *value;

    json_object_foreach (object, name, value) {
        size_t id = 0;

        status = check_id(t->ctx, value, tokens, "model.vocab", name, &id);
        if (status == QRB_OK)
            status = qrb__vocab_add(t->ctx, &t->vocab, id, name, strlen(name),
                                    QRB__TOKEN_MODEL);
        if (status != QRB_OK)
            break;
    }
    return status;
}

/* Whether an id is that of a string already; an added token may stand in the
 * vocabulary as well, but then under the same id. */
static qrb_status add_added(qrb_tokenizer *t, size_t id, const char *content,
                            uint32_t flags)
{
    const size_t length = strlen(content);
    const int32_t model = qrb__vocab_find(&t->vocab, content, length);

    if (model < 0)
        return qrb__vocab_add(t->ctx, &t->vocab, id, content, length, flags);
    if ((size_t)model != id ||
        qrb__vocab_has(&t->vocab, model, QRB__TOKEN_ADDED))
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "added_tokens: \"%.80s\" has id %zu, and id %d "
                         "already",
                         content, id, (int)model);
    t->vocab.tokens[model].flags |= flags;
    return QRB_OK;
}

static qrb_status read_added_token(qrb_tokenizer *t, const json_t *token,
                                   size_t tokens)
{
    static const struct {
        const char *name;
        uint32_t flag;
    } settings[] = { { "special", QRB__TOKEN_SPECIAL },
                     { "single_word", QRB__TOKEN_SINGLE_WORD },
                     { "lstrip", QRB__TOKEN_LSTRIP },
                     { "rstrip", QRB__TOKEN_RSTRIP },
                     { "normalized", QRB__TOKEN_NORMALIZED } };
    uint32_t flags = QRB__TOKEN_ADDED;
    const char *content = NULL;
    qrb_status status;
    size_t id = 0;

    status =
        qrb__field_string(t->ctx, token, "added_tokens", "content", &content);
    if (status == QRB_OK && content == NULL)
        status = qrb__fail(t->ctx, QRB_E_FORMAT,
                           "added_tokens: a token without content");
    if (status == QRB_OK)
        status = check_id(t->ctx, json_object_get(token, "id"), tokens,
                          "added_tokens", name_of(token), &id);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        /* Not said, special tokens are matched in the raw text. */
        bool set = settings[i].flag == QRB__TOKEN_NORMALIZED &&
                   !(flags & QRB__TOKEN_SPECIAL);

        if (status == QRB_OK)
            status = qrb__field_bool(t->ctx, token, "added_tokens",
                                     settings[i].name, &set);
        if (set)
            flags |= settings[i].flag;
    }
    return status == QRB_OK ? add_added(t, id, content, flags) : status;
}

static qrb_status read_added(qrb_tokenizer *t, const json_t *list,
                             size_t tokens)
{
    qrb_status status = QRB_OK;

    if (list != NULL && !json_is_null(list) && !json_is_array(list))
        return qrb__fail(t->ctx, QRB_E_FORMAT, "added_tokens: expected a list");
    for (size_t i = 0; status == QRB_OK && i < json_array_size(list); i++)
        status = read_added_token(t, json_array_get(list, i), tokens);
    return status;
}

/* The two halves of a merge: "a b", or ["a", "b"]. */
static bool split_merge(const json_t *merge, const char *halves[2],
                        size_t lengths[2])
{
    const char *text = json_string_value(merge);

    if (text != NULL) {
        const char *space = strchr(text, ' ');

        if (space == NULL || strchr(space + 1, ' ') != NULL)
            return false;
        halves[0] = text;
        lengths[0] = (size_t)(space - text);
        halves[1] = space + 1;
        lengths[1] = strlen(space + 1);
        return true;
    }
    for (size_t i = 0; i < 2; i++) {
        halves[i] = json_string_value(json_array_get(merge, i));
        if (halves[i] == NULL)
            return false;
        lengths[i] = strlen(halves[i]);
    }
    return json_array_size(merge) == 2;
}

qrb_status qrb__tokenizer_add_merge(qrb_tokenizer *t, const char *where,
                                    size_t index, const char *const halves[2],
                                    const size_t lengths[2],
                                    struct qrb__bytes *joined)
{
    struct qrb__merge merge = { .rank = (uint32_t)index };
    size_t unknown = 2;
    qrb_status status;

    merge.left = qrb__vocab_find(&t->vocab, halves[0], lengths[0]);
    merge.right = qrb__vocab_find(&t->vocab, halves[1], lengths[1]);
    joined->used = 0;
    status = qrb__bytes_append(t->ctx, joined, halves[0], lengths[0]);
    if (status == QRB_OK)
        status = qrb__bytes_append(t->ctx, joined, halves[1], lengths[1]);
    if (status != QRB_OK)
        return status;
    merge.result = qrb__vocab_find(&t->vocab, joined->bytes, joined->used);
    if (merge.left >= 0 && merge.right >= 0 && merge.result >= 0)
        return qrb__merges_add(t->ctx, &t->merges, &merge);
    if (merge.left < 0)
        unknown = 0;
    else if (merge.right < 0)
        unknown = 1;
    return qrb__fail(t->ctx, QRB_E_FORMAT,
                     "%s[%zu]: \"%.*s\" is not in the vocabulary", where,
                     index, (int)(unknown == 2 || lengths[unknown] > 40
                                      ? 40
                                      : lengths[unknown]),
                     unknown == 2 ? "their sum" : halves[unknown]);
}

static qrb_status read_merge(qrb_tokenizer *t, const json_t *value,
                             size_t index, struct qrb__bytes *joined)
{
    const char *halves[2];
    size_t lengths[2];

    if (!split_merge(value, halves, lengths))
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "model.merges[%zu]: expected two strings in a list, "
                         "or in one string with one space",
                         index);
    return qrb__tokenizer_add_merge(t, "model.merges", index, halves, lengths,
                                    joined);
}

static qrb_status read_merges(qrb_tokenizer *t, const json_t *list)
{
    struct qrb__bytes joined = { 0 };
    qrb_status status = QRB_OK;

    if (!json_is_array(list))
        return qrb__fail(t->ctx, QRB_E_FORMAT, "model.merges: expected a list");
    for (size_t i = 0; status == QRB_OK && i < json_array_size(list); i++)
        status = read_merge(t, json_array_get(list, i), i, &joined);
    qrb__bytes_free(t->ctx, &joined);
    return status;
}

static qrb_status read_settings(qrb_tokenizer *t, const json_t *model)
{
    static const char *const affixes[] = { "continuing_subword_prefix",
                                           "end_of_word_suffix" };
    const json_t *dropout = json_object_get(model, "dropout");
    const char *unk = NULL;
    qrb_status status = QRB_OK;

    if (dropout != NULL && !json_is_null(dropout) &&
        json_number_value(dropout) != 0.0)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "model.dropout: only null and 0 are supported");
    for (size_t i = 0; status == QRB_OK && i < 2; i++) {
        const char *affix = "";

        status = qrb__field_string(t->ctx, model, "model", affixes[i], &affix);
        if (status == QRB_OK && *affix != '\0')
            status = qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                               "model.%s: only null is supported", affixes[i]);
    }
    if (status == QRB_OK)
        status =
            qrb__field_bool(t->ctx, model, "model", "fuse_unk", &t->fuse_unk);
    if (status == QRB_OK)
        status = qrb__field_bool(t->ctx, model, "model", "byte_fallback",
                                 &t->byte_fallback);
    if (status == QRB_OK)
        status = qrb__field_bool(t->ctx, model, "model", "ignore_merges",
                                 &t->ignore_merges);
    if (status == QRB_OK)
        status = qrb__field_string(t->ctx, model, "model", "unk_token", &unk);
    if (status != QRB_OK || unk == NULL)
        return status;
    t->unk = qrb__vocab_find(&t->vocab, unk, strlen(unk));
    if (t->unk < 0)
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "model.unk_token: \"%.80s\" is not in the "
                         "vocabulary",
                         unk);
    return QRB_OK;
}

static int append_text(const char *bytes, size_t size, void *text)
{
    qrb__text_append(text, bytes, size);
    return 0;
}

static qrb_status read_parts(qrb_tokenizer *t, const json_t *root)
{
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < QRB__PARTS; i++) {
        const json_t *part =
            json_object_get(root, qrb__tokenizer_part_names[i]);
        struct qrb__text text = { .ctx = t->ctx };

        if (part == NULL || json_is_null(part))
            continue;
        if (json_dump_callback(part, append_text, &text,
                               JSON_COMPACT | JSON_ENCODE_ANY) != 0)
            status = qrb__fail(t->ctx, QRB_E_NO_MEMORY, "%s",
                               qrb__tokenizer_part_names[i]);
        if (status == QRB_OK)
            status = qrb__text_status(&text, qrb__tokenizer_part_names[i]);
        if (status == QRB_OK)
            status = qrb__tokenizer_set_part(t, i, text.bytes);
        qrb__text_release(&text);
    }
    return status;
}

static qrb_status read_root(qrb_tokenizer *t, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *vocab = json_object_get(model, "vocab");
    const json_t *added = json_object_get(root, "added_tokens");
    const json_t *type = json_object_get(model, "type");
    const size_t tokens = json_object_size(vocab) + json_array_size(added);
    qrb_status status;

    if (!json_is_object(model))
        return qrb__fail(t->ctx, QRB_E_FORMAT, "model: expected an object");
    /* Old files do not say it. */
    if (type != NULL && strcmp(qrb__field_type(model), "BPE") != 0)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "model.type is \"%.40s\", only \"BPE\" is "
                         "supported",
                         qrb__field_type(model));
    if (!json_is_object(vocab))
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "model.vocab: expected an object");
    status = read_vocab(t, vocab, tokens);
    if (status == QRB_OK)
        status = read_added(t, added, tokens);
    if (status == QRB_OK)
        status = read_merges(t, json_object_get(model, "merges"));
    if (status == QRB_OK)
        status = read_settings(t, model);
    if (status == QRB_OK)
        status = read_parts(t, root);
    return status;
}

qrb_status qrb__tokenizer_read_json(qrb_tokenizer *t, const char *text,
                                    size_t size, const char *name)
{
    json_t *root = NULL;
    qrb_status status;

    status = qrb__json_parse(t->ctx, text, size, &limits, name, &root);
    if (status != QRB_OK)
        return status;
    status = read_root(t, root);
    json_decref(root);
    return status;
}
