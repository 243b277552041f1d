/* Which tokens begin and end a text.
 *
 * A tokenizer.json does not name them.  Its post-processor does where it puts
 * them around texts; else they are the special tokens that have one of the
 * usual names. */
#include <string.h>

#include "io/text.h"
#include "io/tokenizer.h"
#include "io/tokenizer_field.h"

enum { PROCESSORS_MAX = 8, FRAME_MAX = 16 };

static const char *const bos_names[] = { "<s>", "<|begin_of_text|>",
                                         "<|startoftext|>", "<bos>",
                                         "<|endoftext|>" };
static const char *const eos_names[] = { "</s>",          "<|end_of_text|>",
                                         "<|endoftext|>", "<eos>",
                                         "<|eot_id|>",    "<|im_end|>" };

qrb_status qrb__ends_check(qrb_context *ctx, const json_t *part)
{
    static const char *const known[] = { "ByteLevel", "TemplateProcessing",
                                         "RobertaProcessing",
                                         "BertProcessing" };
    qrb_status status;
    size_t count;

    status = qrb__field_sequence(ctx, part, "post_processor", "processors",
                                 PROCESSORS_MAX, &count);
    for (size_t i = 0; status == QRB_OK && i < count; i++) {
        const json_t *step = qrb__field_sequence_part(part, "processors", i);
        size_t k = 0;

        while (k < sizeof known / sizeof *known &&
               strcmp(qrb__field_type(step), known[k]) != 0)
            k++;
        if (k == sizeof known / sizeof *known)
            status = qrb__field_unsupported(ctx, step, "post_processor");
    }
    return status;
}

/* A token that the post-processor names by its id, or -1. */
static qrb_status named_id(const qrb_tokenizer *t, const json_t *value,
                           int32_t *out)
{
    uint64_t id;

    if (!qrb__json_get_integer(value, 0, QRB__VOCAB_MAX - 1, &id) ||
        !qrb__vocab_has(&t->vocab, (int32_t)id, QRB__TOKEN_THERE))
        return qrb__fail(t->ctx, QRB_E_FORMAT,
                         "post_processor: a special token's id is none of "
                         "the vocabulary's");
    *out = (int32_t)id;
    return QRB_OK;
}

/* Where the template has its sequences, and its special tokens: those before
 * the first sequence begin a text; those behind it, up to the next sequence,
 * end it unless they begin the next. */
static qrb_status read_frame(qrb_tokenizer *t, const json_t *template,
                             const char *name)
{
    const json_t *frame = json_object_get(template, name);
    const json_t *special = json_object_get(template, "special_tokens");
    size_t sequences = 0;
    qrb_status status = QRB_OK;

    if (json_array_size(frame) > FRAME_MAX)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "post_processor.%s has %zu parts, at most %d are "
                         "supported",
                         name, json_array_size(frame), FRAME_MAX);
    for (size_t i = 0; status == QRB_OK && i < json_array_size(frame); i++) {
        const json_t *piece = json_array_get(frame, i);
        const char *token = json_string_value(
            json_object_get(json_object_get(piece, "SpecialToken"), "id"));
        const json_t *ids;
        int32_t id = -1;

        if (json_object_get(piece, "Sequence") != NULL) {
            sequences++;
            continue;
        }
        ids = token == NULL
                  ? NULL
                  : json_object_get(json_object_get(special, token), "ids");
        if (json_array_size(ids) != 1)
            return qrb__fail(t->ctx, QRB_E_FORMAT,
                             "post_processor.%s[%zu] is neither a sequence "
                             "nor a special token with one id",
                             name, i);
        status = named_id(t, json_array_get(ids, 0), &id);
        if (sequences == 0)
            t->puts_bos = true;
        if (sequences == 0 && t->bos < 0)
            t->bos = id;
        else if (sequences == 1 && t->eos < 0 && id != t->bos)
            t->eos = id;
    }
    return status;
}

static qrb_status read_ends(qrb_tokenizer *t, const json_t *part)
{
    const char *type = qrb__field_type(part);
    const json_t *cls = json_object_get(part, "cls");
    const json_t *sep = json_object_get(part, "sep");
    qrb_status status = QRB_OK;

    if (strcmp(type, "TemplateProcessing") == 0) {
        status = read_frame(t, part, "single");
        if (status == QRB_OK)
            status = read_frame(t, part, "pair");
    } else if (strcmp(type, "ByteLevel") != 0) {
        t->puts_bos = true;
        status = named_id(t, json_array_get(cls, 1), &t->bos);
        if (status == QRB_OK)
            status = named_id(t, json_array_get(sep, 1), &t->eos);
    }
    return status;
}

static int32_t find_special(const qrb_tokenizer *t, const char *const *names,
                            size_t count)
{
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < t->added.count; i++) {
            const int32_t id = t->added.tokens[i].id;
            size_t length;
            const char *bytes = qrb__vocab_bytes(&t->vocab, id, &length);

            if (length == strlen(names[k]) &&
                memcmp(bytes, names[k], length) == 0 &&
                qrb__vocab_has(&t->vocab, id, QRB__TOKEN_SPECIAL))
                return id;
        }
    return -1;
}

qrb_status qrb__ends_find(qrb_tokenizer *t)
{
    static const struct qrb__json_limits limits = { 1 << 20, 8, 8 };
    const char *json = t->parts[QRB__PART_POST_PROCESSOR];
    json_t *part = NULL;
    qrb_status status = QRB_OK;
    size_t count = 0;

    if (json != NULL)
        status = qrb__json_parse(t->ctx, json, strlen(json), &limits,
                                 "post_processor", &part);
    if (status == QRB_OK)
        status = qrb__field_sequence(t->ctx, part, "post_processor",
                                     "processors", PROCESSORS_MAX, &count);
    for (size_t i = 0; status == QRB_OK && i < count; i++)
        status = read_ends(t, qrb__field_sequence_part(part, "processors", i));
    json_decref(part);
    if (status != QRB_OK)
        return status;
    if (t->bos < 0)
        t->bos =
            find_special(t, bos_names, sizeof bos_names / sizeof *bos_names);
    if (t->eos < 0)
        t->eos =
            find_special(t, eos_names, sizeof eos_names / sizeof *eos_names);
    if (t->bos >= 0)
        t->vocab.tokens[t->bos].flags |= QRB__TOKEN_SPECIAL;
    if (t->eos >= 0)
        t->vocab.tokens[t->eos].flags |= QRB__TOKEN_SPECIAL;
    return QRB_OK;
}

static void print_name(struct qrb__text *text, const qrb_tokenizer *t,
                       int32_t id)
{
    size_t length;
    const char *token = qrb__vocab_bytes(&t->vocab, id, &length);

    qrb__text_json_string(text, token, length);
}

/* A token in front of a sequence; -1: the sequence alone. */
static void print_sequence(struct qrb__text *text, const qrb_tokenizer *t,
                           int32_t id, const char *sequence, int type)
{
    if (id >= 0) {
        qrb__text_print(text, "{\"SpecialToken\":{\"id\":");
        print_name(text, t, id);
        qrb__text_print(text, ",\"type_id\":%d}},", type);
    }
    qrb__text_print(text, "{\"Sequence\":{\"id\":\"%s\",\"type_id\":%d}}",
                    sequence, type);
}

static void print_special(struct qrb__text *text, const qrb_tokenizer *t,
                          int32_t id)
{
    print_name(text, t, id);
    qrb__text_print(text, ":{\"id\":");
    print_name(text, t, id);
    qrb__text_print(text, ",\"ids\":[%d],\"tokens\":[", (int)id);
    print_name(text, t, id);
    qrb__text_print(text, "]}");
}

qrb_status qrb__ends_set(qrb_tokenizer *t, int32_t bos, int32_t eos)
{
    struct qrb__text text = { .ctx = t->ctx };
    qrb_status status;

    if (eos == bos)
        eos = -1; /* said once; it is found by its name */
    qrb__text_print(&text, "{\"type\":\"TemplateProcessing\",\"single\":[");
    print_sequence(&text, t, bos, "A", 0);
    qrb__text_print(&text, "],\"pair\":[");
    print_sequence(&text, t, bos, "A", 0);
    qrb__text_print(&text, ",");
    if (eos >= 0) {
        qrb__text_print(&text, "{\"SpecialToken\":{\"id\":");
        print_name(&text, t, eos);
        qrb__text_print(&text, ",\"type_id\":0}},");
    }
    print_sequence(&text, t, bos, "B", 1);
    qrb__text_print(&text, "],\"special_tokens\":{");
    print_special(&text, t, bos);
    if (eos >= 0) {
        qrb__text_print(&text, ",");
        print_special(&text, t, eos);
    }
    qrb__text_print(&text, "}}");
    status = qrb__text_status(&text, "post_processor");
    if (status == QRB_OK)
        status =
            qrb__tokenizer_set_part(t, QRB__PART_POST_PROCESSOR, text.bytes);
    qrb__text_release(&text);
    return status;
}
