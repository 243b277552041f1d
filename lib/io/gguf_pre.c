/* The names that llama.cpp has for the ways in which byte-level tokenizers cut
 * text into words, and what a tokenizer.json calls the same. */
#include <string.h>

#include "io/gguf_tokenizer.h"
#include "io/json.h"

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define LETTERS "[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+"
#define OTHERS                                                                 \
    " ?[^\\\\s\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+"             \
    "|\\\\s+(?!\\\\S)|\\\\s+"

/* A regular expression that cuts, then bytes. */
#define SPLIT(numbers)                                                         \
    "{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\","           \
    "\"pattern\":{\"Regex\":\"" CONTRACTIONS "|" LETTERS "|" numbers           \
    "|" OTHERS "\"},\"behavior\":\"Isolated\",\"invert\":false},"              \
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"                      \
    "\"trim_offsets\":true,\"use_regex\":false}]}"

static const struct qrb__gguf_pre known[] = {
    { "gpt-2", NULL,
      "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
      "\"trim_offsets\":true,\"use_regex\":true}",
      false },
    { "llama-bpe", NULL, SPLIT("\\\\p{N}{1,3}"), true },
    { "qwen2", "{\"type\":\"NFC\"}", SPLIT("\\\\p{N}"), false },
};
enum { KNOWN = sizeof known / sizeof *known };

static const struct qrb__json_limits limits = { 1 << 20, 8, 8 };

const struct qrb__gguf_pre *qrb__gguf_pre_named(const char *name)
{
    for (size_t i = 0; i < KNOWN; i++)
        if (strcmp(name, known[i].name) == 0)
            return &known[i];
    return NULL;
}

static bool set_default(json_t *object, const char *key)
{
    return json_object_get(object, key) != NULL ||
           json_object_set_new(object, key, json_true()) == 0;
}

/* What changes no token goes, and what is understood is said. */
static bool normalize(json_t *part)
{
    json_t *steps = json_object_get(part, "pretokenizers");
    const char *type = json_string_value(json_object_get(part, "type"));
    bool fits = true;

    for (size_t i = 0; fits && i < json_array_size(steps); i++) {
        json_t *step = json_array_get(steps, i);

        type = json_string_value(json_object_get(step, "type"));
        if (type != NULL && strcmp(type, "ByteLevel") == 0) {
            json_object_del(step, "trim_offsets");
            fits = set_default(step, "add_prefix_space") &&
                   set_default(step, "use_regex");
        }
    }
    if (steps == NULL && type != NULL && strcmp(type, "ByteLevel") == 0) {
        json_object_del(part, "trim_offsets");
        fits = set_default(part, "add_prefix_space") &&
               set_default(part, "use_regex");
    }
    return fits;
}

/* Whether two parts, NULL for none, mean the same. */
static qrb_status compare(qrb_context *ctx, const char *a, const char *b,
                          bool *out)
{
    json_t *parts[2] = { NULL, NULL };
    const char *texts[2] = { a, b };
    qrb_status status = QRB_OK;

    *out = a == b; /* none, and none */
    if (a == NULL || b == NULL)
        return QRB_OK;
    for (size_t i = 0; status == QRB_OK && i < 2; i++) {
        status = qrb__json_parse(ctx, texts[i], strlen(texts[i]), &limits,
                                 "pre_tokenizer", &parts[i]);
        if (status == QRB_OK && !normalize(parts[i]))
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "pre_tokenizer");
    }
    *out = status == QRB_OK && json_equal(parts[0], parts[1]);
    json_decref(parts[0]);
    json_decref(parts[1]);
    return status;
}

qrb_status qrb__gguf_pre_of(const qrb_tokenizer *t,
                            const struct qrb__gguf_pre **out)
{
    qrb_status status = QRB_OK;

    *out = NULL;
    for (size_t i = 0; status == QRB_OK && *out == NULL && i < KNOWN; i++) {
        bool same[2] = { false, false };

        status = compare(t->ctx, t->parts[QRB__PART_PRE_TOKENIZER],
                         known[i].pre_tokenizer, &same[0]);
        if (status == QRB_OK)
            status = compare(t->ctx, t->parts[QRB__PART_NORMALIZER],
                             known[i].normalizer, &same[1]);
        if (status == QRB_OK && same[0] && same[1] &&
            t->ignore_merges == known[i].ignore_merges)
            *out = &known[i];
    }
    return status;
}
