/* Reading a tokenizer out of the keys of a GGUF file.  Lists are walked once,
 * in order of ids; O(tokens + merges), by scores O(bytes of tokens). */
#include "io/gguf_tokenizer.h"

#include <math.h>
#include <string.h>

#include "io/bytes.h"
#include "io/utf8.h"

static const char spaced[] =
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},"
    "\"content\":\"\xe2\x96\x81\"}";
static const char prefixed[] =
    "{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\","
    "\"prepend\":\"\xe2\x96\x81\"},{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\" \"},\"content\":\"\xe2\x96\x81\"}]}";
#define DECODERS                                                               \
    "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","              \
    "\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":\" \"},"            \
    "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}"
static const char decoder[] = DECODERS "]}";
static const char stripping[] =
    DECODERS ",{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}";
static const char byte_level[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true}";

/* The lists of a file. */
struct lists {
    struct qrb__gguf_elements tokens;
    struct qrb__gguf_elements types;
    struct qrb__gguf_elements scores;
    struct qrb__gguf_elements merges;
};

static qrb_status fail(const struct qrb__gguf *file, const char *key,
                       const char *reason)
{
    return qrb__fail(file->ctx, QRB_E_FORMAT, "%s: tokenizer.ggml.%s: %s",
                     qrb__source_name(file->source), key, reason);
}

/* Lists beside that of tokens are as long, or not there. */
static qrb_status load(const struct qrb__gguf *file, struct lists *out)
{
    qrb_status status = qrb__gguf_load(file, "tokenizer.ggml.tokens",
                                       QRB__GGUF_STRING, &out->tokens);

    if (status == QRB_OK)
        status = qrb__gguf_load(file, "tokenizer.ggml.token_type",
                                QRB__GGUF_I32, &out->types);
    if (status == QRB_OK)
        status = qrb__gguf_load(file, "tokenizer.ggml.scores",
                                QRB__GGUF_FLOAT, &out->scores);
    if (status == QRB_OK)
        status = qrb__gguf_load(file, "tokenizer.ggml.merges",
                                QRB__GGUF_STRING, &out->merges);
    if (status != QRB_OK)
        return status;
    if (out->tokens.count == 0 || out->tokens.count > QRB__VOCAB_MAX)
        return fail(file, "tokens", "expected 1 to 2^24 of them");
    if (out->types.bytes != NULL && out->types.count != out->tokens.count)
        return fail(file, "token_type", "expected one for each token");
    if (out->scores.bytes != NULL && out->scores.count != out->tokens.count)
        return fail(file, "scores", "expected one for each token");
    return QRB_OK;
}

static void free_lists(qrb_context *ctx, struct lists *lists)
{
    qrb__gguf_elements_free(ctx, &lists->tokens);
    qrb__gguf_elements_free(ctx, &lists->types);
    qrb__gguf_elements_free(ctx, &lists->scores);
    qrb__gguf_elements_free(ctx, &lists->merges);
}

static qrb_status add_token(qrb_tokenizer *t, const struct qrb__gguf *file,
                            size_t id, const char *token, size_t length,
                            uint32_t type)
{
    uint32_t flags = QRB__TOKEN_MODEL;

    switch (type) {
    case QRB__GGUF_NORMAL:
    case QRB__GGUF_BYTE:
        break;
    case QRB__GGUF_UNKNOWN:
        t->unk = (int32_t)id;
        break;
    case QRB__GGUF_CONTROL:
        flags |= QRB__TOKEN_ADDED | QRB__TOKEN_SPECIAL;
        break;
    case QRB__GGUF_USER_DEFINED:
        flags |= QRB__TOKEN_ADDED;
        break;
    case QRB__GGUF_UNUSED:
        return QRB_OK;
    default:
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: tokenizer.ggml.token_type: %d of token %zu is "
                         "not known",
                         qrb__source_name(file->source), (int)type, id);
    }
    if (qrb__utf8_valid(token, length) < length ||
        (length > 0 && memchr(token, '\0', length) != NULL))
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: tokenizer.ggml.tokens: token %zu is not UTF-8, "
                         "or has a NUL",
                         qrb__source_name(file->source), id);
    return qrb__vocab_add(file->ctx, &t->vocab, id, token, length, flags);
}

static qrb_status add_tokens(qrb_tokenizer *t, const struct qrb__gguf *file,
                             struct lists *lists)
{
    qrb_status status = QRB_OK;

    for (size_t id = 0; status == QRB_OK && id < lists->tokens.count; id++) {
        uint32_t type = QRB__GGUF_NORMAL;
        const char *token;
        size_t length;

        if (!qrb__gguf_next_string(&lists->tokens, &token, &length))
            return fail(file, "tokens", "the file has changed");
        if (lists->types.bytes != NULL)
            type = qrb__load_u32(lists->types.bytes + 4 * id);
        status = add_token(t, file, id, token, length, type);
    }
    return status;
}

/* "left right", as the first space divides them. */
static qrb_status add_merges(qrb_tokenizer *t, const struct qrb__gguf *file,
                             struct lists *lists)
{
    struct qrb__bytes joined = { 0 };
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < lists->merges.count; i++) {
        const char *halves[2];
        const char *space = NULL;
        size_t lengths[2];
        size_t length;

        if (qrb__gguf_next_string(&lists->merges, &halves[0], &length))
            space = length == 0 ? NULL : memchr(halves[0], ' ', length);
        if (space == NULL) {
            status = fail(file, "merges", "expected two tokens with a space");
            break;
        }
        halves[1] = space + 1;
        lengths[0] = (size_t)(space - halves[0]);
        lengths[1] = length - lengths[0] - 1;
        status = qrb__tokenizer_add_merge(t, "tokenizer.ggml.merges", i,
                                          halves, lengths, &joined);
    }
    qrb__bytes_free(t->ctx, &joined);
    return status;
}

static qrb_status read_byte_level(qrb_tokenizer *t,
                                  const struct qrb__gguf *file,
                                  struct lists *lists)
{
    const struct qrb__gguf_pre *pre;
    char name[64] = "default";
    qrb_status status = qrb__gguf_get_text(file, "tokenizer.ggml.pre",
                                           sizeof name, name);

    if (status != QRB_OK)
        return status;
    pre = qrb__gguf_pre_named(name);
    if (pre == NULL)
        return qrb__fail(file->ctx, QRB_E_UNSUPPORTED,
                         "%s: tokenizer.ggml.pre is \"%s\"; gpt-2, llama-bpe "
                         "and qwen2 are supported",
                         qrb__source_name(file->source), name);
    t->ignore_merges = pre->ignore_merges;
    status = add_merges(t, file, lists);
    if (status == QRB_OK && pre->normalizer != NULL)
        status = qrb__tokenizer_set_part(t, QRB__PART_NORMALIZER,
                                         pre->normalizer);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_PRE_TOKENIZER,
                                         pre->pre_tokenizer);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_DECODER, byte_level);
    return status;
}

static qrb_status load_scores(const struct qrb__gguf *file,
                              const struct lists *lists, float **out)
{
    const size_t count = (size_t)lists->tokens.count;

    if (lists->scores.bytes == NULL)
        return fail(file, "scores", "there are none");
    *out = qrb__alloc_array(file->ctx, count, sizeof **out);
    if (*out == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu scores", count);
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = qrb__load_u32(lists->scores.bytes + 4 * i);

        memcpy(&(*out)[i], &bits, sizeof bits);
        if (!isfinite((*out)[i]))
            return fail(file, "scores", "one is not finite");
    }
    return QRB_OK;
}

static qrb_status read_sentencepiece(qrb_tokenizer *t,
                                     const struct qrb__gguf *file,
                                     struct lists *lists)
{
    bool prefix = true;
    float *scores = NULL;
    qrb_status status = qrb__gguf_get_flag(
        file, "tokenizer.ggml.add_space_prefix", &prefix);

    t->byte_fallback = true;
    t->fuse_unk = t->unk >= 0;
    if (status == QRB_OK)
        status = load_scores(file, lists, &scores);
    if (status == QRB_OK)
        status = qrb__merges_from_scores(t, scores);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_NORMALIZER,
                                         prefix ? prefixed : spaced);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(t, QRB__PART_DECODER,
                                         prefix ? stripping : decoder);
    qrb__free(file->ctx, scores);
    return status;
}

/* A token that is named by its id, -1 where the key is not there. */
static qrb_status read_id(const qrb_tokenizer *t, const struct qrb__gguf *file,
                          const char *key, int32_t *out)
{
    uint64_t id = UINT64_MAX;
    const qrb_status status =
        qrb__gguf_get_count(file, key, QRB__VOCAB_MAX, &id);

    *out = -1;
    if (status != QRB_OK || id == UINT64_MAX)
        return status;
    if (id >= t->vocab.ids ||
        !qrb__vocab_has(&t->vocab, (int32_t)id, QRB__TOKEN_THERE))
        return qrb__fail(file->ctx, QRB_E_FORMAT, "%s: %s: token %llu is not "
                         "there",
                         qrb__source_name(file->source), key,
                         (unsigned long long)id);
    *out = (int32_t)id;
    return QRB_OK;
}

static qrb_status read_ends(qrb_tokenizer *t, const struct qrb__gguf *file,
                            bool in_front)
{
    qrb_status status =
        read_id(t, file, "tokenizer.ggml.bos_token_id", &t->bos);

    if (status == QRB_OK)
        status = read_id(t, file, "tokenizer.ggml.eos_token_id", &t->eos);
    if (status == QRB_OK)
        status = qrb__gguf_get_flag(file, "tokenizer.ggml.add_bos_token",
                                    &in_front);
    if (status == QRB_OK && in_front && t->bos >= 0)
        status = qrb__ends_set(t, t->bos, t->eos);
    return status;
}

qrb_status qrb__tokenizer_read_gguf(qrb_tokenizer *t,
                                    const struct qrb__gguf *file)
{
    struct lists lists = { .tokens = { .bytes = NULL } };
    char model[32] = "none";
    bool bytes;
    qrb_status status = qrb__gguf_get_text(file, "tokenizer.ggml.model",
                                           sizeof model, model);

    if (status != QRB_OK)
        return status;
    bytes = strcmp(model, "gpt2") == 0;
    if (!bytes && strcmp(model, "llama") != 0)
        return qrb__fail(file->ctx, QRB_E_UNSUPPORTED,
                         "%s: tokenizer.ggml.model is \"%s\"; gpt2 and llama "
                         "are supported",
                         qrb__source_name(file->source), model);
    status = load(file, &lists);
    if (status == QRB_OK)
        status = add_tokens(t, file, &lists);
    if (status == QRB_OK)
        status = (bytes ? read_byte_level : read_sentencepiece)(t, file,
                                                                &lists);
    if (status == QRB_OK)
        status = read_ends(t, file, !bytes);
    free_lists(file->ctx, &lists);
    return status;
}
