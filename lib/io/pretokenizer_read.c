/* Pre-tokenizers of a tokenizer.json, all as one kind of step: where to cut,
 * which pieces to drop, how to mark spaces. */
#include <string.h>

#include "io/pretokenizer.h"
#include "io/tokenizer_field.h"

/* What ByteLevel cuts with (GPT-2). */
static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+"
    "|\\s+(?!\\S)|\\s+";

static void *pattern_alloc(PCRE2_SIZE size, void *ctx)
{
    return qrb__alloc_array(ctx, 1, size);
}

static void pattern_free(void *memory, void *ctx)
{
    qrb__free(ctx, memory);
}

static qrb_status compile(qrb_context *ctx,
                          const struct qrb__pretokenizer *pretokenizer,
                          const char *pattern, size_t size, uint32_t options,
                          pcre2_code **out)
{
    pcre2_compile_context *settings;
    PCRE2_SIZE at;
    int error;

    settings = pcre2_compile_context_create(pretokenizer->general);
    if (settings == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "regular expression");
    pcre2_set_newline(settings, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)pattern, size, PCRE2_UTF | options, &error,
                         &at, settings);
    pcre2_compile_context_free(settings);
    if (*out != NULL)
        return QRB_OK;
    if (error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "regular expression");
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "pre_tokenizer: PCRE2 refuses the regular expression "
                     "\"%.*s\" at byte %zu (error %d)",
                     (int)(size < 100 ? size : 100), pattern, at, error);
}

static qrb_status compile_pattern(qrb_context *ctx,
                                  struct qrb__pretokenizer *pretokenizer,
                                  const char *pattern,
                                  struct qrb__pretokenizer_step *step)
{
    struct qrb__bytes translated = { 0 };
    qrb_status status;

    status = qrb__pattern_translate(ctx, pattern, strlen(pattern), &translated);
    if (status == QRB_OK)
        status = compile(ctx, pretokenizer, translated.bytes, translated.used,
                         PCRE2_UCP, &step->code);
    qrb__bytes_free(ctx, &translated);
    return status;
}

static qrb_status read_byte_level(qrb_context *ctx, const json_t *part,
                                  struct qrb__pretokenizer *pretokenizer,
                                  struct qrb__pretokenizer_step *step)
{
    bool use_regex = true;
    qrb_status status;

    step->prefix = true;
    status = qrb__field_bool(ctx, part, "pre_tokenizer", "add_prefix_space",
                             &step->prefix);
    if (status == QRB_OK)
        status = qrb__field_bool(ctx, part, "pre_tokenizer", "use_regex",
                                 &use_regex);
    if (status == QRB_OK && use_regex)
        status = compile_pattern(ctx, pretokenizer, gpt2_pattern, step);
    pretokenizer->byte_level = true;
    return status;
}

static qrb_status read_split(qrb_context *ctx, const json_t *part,
                             struct qrb__pretokenizer *pretokenizer,
                             struct qrb__pretokenizer_step *step)
{
    const json_t *pattern = json_object_get(part, "pattern");
    const char *expression = NULL;
    const char *literal = NULL;
    const char *behavior = NULL;
    bool invert = false;
    bool removed;
    qrb_status status;

    status = qrb__field_string(ctx, pattern, "pre_tokenizer.pattern", "Regex",
                               &expression);
    if (status == QRB_OK)
        status = qrb__field_string(ctx, pattern, "pre_tokenizer.pattern",
                                   "String", &literal);
    if (status == QRB_OK)
        status = qrb__field_string(ctx, part, "pre_tokenizer", "behavior",
                                   &behavior);
    if (status == QRB_OK)
        status = qrb__field_bool(ctx, part, "pre_tokenizer", "invert", &invert);
    if (status != QRB_OK)
        return status;
    removed = behavior != NULL && strcmp(behavior, "Removed") == 0;
    if ((expression == NULL) == (literal == NULL) || behavior == NULL ||
        (!removed && strcmp(behavior, "Isolated") != 0))
        return qrb__field_unsupported(ctx, part, "pre_tokenizer");
    step->drop_matches = removed && !invert;
    step->drop_gaps = removed && invert;
    if (expression != NULL)
        return compile_pattern(ctx, pretokenizer, expression, step);
    return compile(ctx, pretokenizer, literal, strlen(literal), PCRE2_LITERAL,
                   &step->code);
}

static qrb_status read_digits(qrb_context *ctx, const json_t *part,
                              struct qrb__pretokenizer *pretokenizer,
                              struct qrb__pretokenizer_step *step)
{
    bool individual = false;
    qrb_status status;

    status = qrb__field_bool(ctx, part, "pre_tokenizer", "individual_digits",
                             &individual);
    if (status == QRB_OK)
        status = compile_pattern(ctx, pretokenizer,
                                 individual ? "\\p{N}" : "\\p{N}+", step);
    return status;
}

static qrb_status read_metaspace(qrb_context *ctx, const json_t *part,
                                 struct qrb__pretokenizer *pretokenizer,
                                 struct qrb__pretokenizer_step *step)
{
    const char *replacement = NULL;
    const char *scheme = NULL;
    bool split = true;
    qrb_status status;

    step->replace_spaces = true;
    step->prefix = true;
    status = qrb__field_string(ctx, part, "pre_tokenizer", "replacement",
                               &replacement);
    if (status == QRB_OK)
        status = qrb__field_bool(ctx, part, "pre_tokenizer", "add_prefix_space",
                                 &step->prefix);
    if (status == QRB_OK)
        status = qrb__field_string(ctx, part, "pre_tokenizer", "prepend_scheme",
                                   &scheme);
    if (status == QRB_OK)
        status = qrb__field_bool(ctx, part, "pre_tokenizer", "split", &split);
    if (status != QRB_OK)
        return status;
    if (scheme != NULL && strcmp(scheme, "never") == 0)
        step->prefix = false;
    else if (scheme != NULL && strcmp(scheme, "first") == 0)
        step->prefix_first = true;
    else if (scheme != NULL && strcmp(scheme, "always") != 0)
        return qrb__field_unsupported(ctx, part, "pre_tokenizer");
    if (replacement == NULL || strcmp(replacement, "\xe2\x96\x81") != 0)
        return qrb__field_unsupported(ctx, part, "pre_tokenizer");
    return split ? compile_pattern(ctx, pretokenizer,
                                   "\xe2\x96\x81[^\xe2\x96\x81]*", step)
                 : QRB_OK;
}

static qrb_status read_step(qrb_context *ctx, const json_t *part,
                            struct qrb__pretokenizer *pretokenizer,
                            struct qrb__pretokenizer_step *step)
{
    static const struct {
        const char *type;
        qrb_status (*read)(qrb_context *ctx, const json_t *part,
                           struct qrb__pretokenizer *pretokenizer,
                           struct qrb__pretokenizer_step *step);
    } kinds[] = { { "ByteLevel", read_byte_level },
                  { "Split", read_split },
                  { "Digits", read_digits },
                  { "Metaspace", read_metaspace } };

    /* From here on words are spelled in another alphabet. */
    if (pretokenizer->byte_level)
        return qrb__field_unsupported(ctx, part,
                                      "pre_tokenizer (a part "
                                      "behind ByteLevel)");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(qrb__field_type(part), kinds[i].type) == 0)
            return kinds[i].read(ctx, part, pretokenizer, step);
    return qrb__field_unsupported(ctx, part, "pre_tokenizer");
}

qrb_status qrb__pretokenizer_read(qrb_context *ctx, const json_t *part,
                                  struct qrb__pretokenizer *out)
{
    qrb_status status;
    size_t count;

    status = qrb__field_sequence(ctx, part, "pre_tokenizer", "pretokenizers",
                                 QRB__PRETOKENIZER_STEPS_MAX, &count);
    if (status != QRB_OK || count == 0)
        return status;
    out->general =
        pcre2_general_context_create(pattern_alloc, pattern_free, ctx);
    if (out->general == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "regular expressions");
    for (size_t i = 0; status == QRB_OK && i < count; i++) {
        out->count = i + 1;
        status =
            read_step(ctx, qrb__field_sequence_part(part, "pretokenizers", i),
                      out, &out->steps[i]);
    }
    return status;
}

void qrb__pretokenizer_free(struct qrb__pretokenizer *pretokenizer)
{
    for (size_t i = 0; i < pretokenizer->count; i++)
        pcre2_code_free(pretokenizer->steps[i].code);
    pcre2_general_context_free(pretokenizer->general);
    memset(pretokenizer, 0, sizeof *pretokenizer);
}
