/* Cutting text into words by regular expressions.
 *
 * The steps of a sequence are stages of one walk: each stage holds the piece
 * that it cuts, and the deepest one with something left gives the next word,
 * so that a text of megabytes needs no list of its pieces.  A stage sees its
 * piece alone, as if there were nothing around it.
 *
 * An expression is tried at each place in turn, anchored, with a limit on the
 * calls that matching makes; the limits that were used up are charged to a
 * budget for all that is encoded by one call, so that no expression makes n
 * bytes of text cost more than O(n) calls. */
#include "io/pretokenizer.h"

#include <string.h>

#include "io/utf8.h"

static const char metaspace[] = "\xe2\x96\x81";

enum {
    LIMIT_FIRST = 256, /* calls of one try */
    LIMIT_STEP = 16,   /* the next try has so many times more */
    BUDGET_LEAST = 1000 * 1000,
    BUDGET_PER_BYTE = 64,
    HEAP_KIBIBYTES = 64 * 1024
};

qrb_status qrb__pretokens_create(qrb_context *ctx,
                                 const struct qrb__pretokenizer *pretokenizer,
                                 struct qrb__pretokens *out)
{
    out->pretokenizer = pretokenizer;
    out->budget = BUDGET_LEAST;
    if (pretokenizer->general == NULL)
        return QRB_OK;
    out->match = pcre2_match_data_create(1, pretokenizer->general);
    out->limits = pcre2_match_context_create(pretokenizer->general);
    if (out->match == NULL || out->limits == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "matching of expressions");
    pcre2_set_heap_limit(out->limits, HEAP_KIBIBYTES);
    pcre2_set_match_limit(out->limits, LIMIT_FIRST);
    return QRB_OK;
}

void qrb__pretokens_begin(struct qrb__pretokens *walk, const char *text,
                          size_t size, bool first)
{
    walk->stages[0].text = text;
    walk->stages[0].size = size;
    walk->stages[0].first = first;
    walk->depth = 0;
    walk->started = false;
    walk->budget += (uint64_t)size * BUDGET_PER_BYTE;
}

void qrb__pretokens_free(qrb_context *ctx, struct qrb__pretokens *walk)
{
    pcre2_match_data_free(walk->match);
    pcre2_match_context_free(walk->limits);
    for (size_t i = 0; i < QRB__PRETOKENIZER_STEPS_MAX; i++)
        qrb__bytes_free(ctx, &walk->stages[i].copy);
    memset(walk, 0, sizeof *walk);
}

static bool begins_with(const char *text, size_t size, const char *what)
{
    return size >= strlen(what) && memcmp(text, what, strlen(what)) == 0;
}

/* Put the space marks of a step into a copy of the stage's text. */
static qrb_status mark_spaces(qrb_context *ctx,
                              const struct qrb__pretokenizer_step *step,
                              struct qrb__pretoken_stage *stage)
{
    const char *mark = step->replace_spaces ? metaspace : " ";
    const bool marked = begins_with(stage->text, stage->size, mark) ||
                        begins_with(stage->text, stage->size, " ");
    const bool prefix =
        step->prefix && !marked && (stage->first || !step->prefix_first);
    const char *text = stage->text;
    const char *end = stage->text + stage->size;
    qrb_status status = QRB_OK;

    if (!prefix && !step->replace_spaces)
        return QRB_OK;
    stage->copy.used = 0;
    if (prefix)
        status = qrb__bytes_append(ctx, &stage->copy, mark, strlen(mark));
    while (status == QRB_OK && text < end) {
        const char *space = step->replace_spaces
                                ? memchr(text, ' ', (size_t)(end - text))
                                : NULL;
        const char *stop = space == NULL ? end : space;

        status =
            qrb__bytes_append(ctx, &stage->copy, text, (size_t)(stop - text));
        if (status == QRB_OK && space != NULL)
            status = qrb__bytes_append(ctx, &stage->copy, mark, strlen(mark));
        text = space == NULL ? end : space + 1;
    }
    stage->text = stage->copy.bytes;
    stage->size = stage->copy.used;
    return status;
}

/* Try a match at exactly this place: *end_out is SIZE_MAX for none. */
static qrb_status match_at(qrb_context *ctx, struct qrb__pretokens *walk,
                           const pcre2_code *code,
                           const struct qrb__pretoken_stage *stage, size_t at,
                           size_t *end_out)
{
    uint32_t limit = LIMIT_FIRST;
    int code_out;

    for (;;) {
        code_out = pcre2_match(code, (PCRE2_SPTR)stage->text, stage->size, at,
                               PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK, walk->match,
                               walk->limits);
        if (code_out != PCRE2_ERROR_MATCHLIMIT)
            break;
        if (walk->budget <= limit)
            break;
        walk->budget -= limit;
        limit *= LIMIT_STEP;
        if (limit > walk->budget)
            limit = (uint32_t)walk->budget;
        pcre2_set_match_limit(walk->limits, limit);
    }
    if (limit != LIMIT_FIRST)
        pcre2_set_match_limit(walk->limits, LIMIT_FIRST);
    *end_out = SIZE_MAX;
    if (code_out >= 0)
        *end_out = pcre2_get_ovector_pointer(walk->match)[1];
    if (code_out >= 0 || code_out == PCRE2_ERROR_NOMATCH)
        return QRB_OK;
    if (code_out == PCRE2_ERROR_NOMEMORY)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "matching of an expression");
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "the pre-tokenizer's regular expression gives up at "
                     "byte %zu of this text (PCRE2 error %d)",
                     at, code_out);
}

/* Hand out [at, end) and go on behind it. */
static bool take(struct qrb__pretoken_stage *stage, size_t end, bool drop,
                 const char **piece_out, size_t *size_out)
{
    *piece_out = stage->text + stage->at;
    *size_out = end - stage->at;
    stage->at = end;
    return *size_out > 0 && !drop;
}

/* The next piece of a stage; *size_out is 0 when it has no more. */
static qrb_status cut(qrb_context *ctx, struct qrb__pretokens *walk,
                      const struct qrb__pretokenizer_step *step,
                      struct qrb__pretoken_stage *stage, const char **piece_out,
                      size_t *size_out)
{
    qrb_status status;
    size_t end;

    *size_out = 0;
    while (stage->at < stage->size) {
        if (step->code == NULL) {
            take(stage, stage->size, false, piece_out, size_out);
            return QRB_OK;
        }
        if (stage->match_end > stage->at) {
            stage->scan = stage->match_end;
            if (take(stage, stage->match_end, step->drop_matches, piece_out,
                     size_out))
                return QRB_OK;
            continue;
        }
        if (stage->scan == stage->size) {
            if (take(stage, stage->size, step->drop_gaps, piece_out, size_out))
                return QRB_OK;
            continue;
        }
        status = match_at(ctx, walk, step->code, stage, stage->scan, &end);
        if (status != QRB_OK)
            return status;
        if (end == SIZE_MAX || end <= stage->scan) {
            const size_t gap = stage->scan;

            stage->scan +=
                qrb__utf8_length(stage->text + gap, stage->size - gap);
            /* A match of nothing is a border all the same. */
            if (end != SIZE_MAX && gap > stage->at &&
                take(stage, gap, step->drop_gaps, piece_out, size_out))
                return QRB_OK;
            continue;
        }
        stage->match_end = end;
        if (stage->scan > stage->at) {
            if (take(stage, stage->scan, step->drop_gaps, piece_out, size_out))
                return QRB_OK;
        }
    }
    *size_out = 0;
    return QRB_OK;
}

static qrb_status start_stage(qrb_context *ctx, struct qrb__pretokens *walk,
                              const char *text, size_t size, bool first)
{
    struct qrb__pretoken_stage *stage = &walk->stages[walk->depth];

    stage->text = text;
    stage->size = size;
    stage->first = first;
    stage->at = 0;
    stage->scan = 0;
    stage->match_end = 0;
    return mark_spaces(ctx, &walk->pretokenizer->steps[walk->depth], stage);
}

qrb_status qrb__pretokens_next(qrb_context *ctx, struct qrb__pretokens *walk,
                               const char **word_out, size_t *size_out)
{
    const struct qrb__pretokenizer *pretokenizer = walk->pretokenizer;
    struct qrb__pretoken_stage *stage = &walk->stages[0];
    qrb_status status = QRB_OK;

    *word_out = stage->text;
    *size_out = 0;
    if (!walk->started) {
        walk->started = true;
        if (pretokenizer->count == 0)
            *size_out = stage->size;
        else
            status =
                start_stage(ctx, walk, stage->text, stage->size, stage->first);
    }
    while (status == QRB_OK && pretokenizer->count > 0) {
        stage = &walk->stages[walk->depth];
        status = cut(ctx, walk, &pretokenizer->steps[walk->depth], stage,
                     word_out, size_out);
        if (status != QRB_OK)
            break;
        if (*size_out == 0) {
            if (walk->depth == 0)
                break;
            walk->depth--;
        } else if (walk->depth + 1 == pretokenizer->count) {
            break;
        } else {
            walk->depth++;
            status = start_stage(ctx, walk, *word_out, *size_out,
                                 stage->first && *word_out == stage->text);
        }
    }
    return status;
}
