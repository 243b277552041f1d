/* Regular expressions as the tokenizers library reads them, for PCRE2.
 *
 * Both engines agree on what tokenizers use: literals, classes of properties,
 * groups, alternatives, greedy, lazy and possessive repeats, look-around.  The
 * translation is a list of what passes: anything else has another meaning in
 * one of the two, and is refused rather than read differently.  Only white
 * space is rewritten, since PCRE2 counts U+180E as a space and Unicode does
 * not.  O(n) for n bytes. */
#include <string.h>

#include "io/pretokenizer.h"

static const char *const groups[] = { "(?:",  "(?i:", "(?=", "(?!",
                                      "(?<=", "(?<!", "(?>" };

static qrb_status refuse(qrb_context *ctx, const char *what, size_t at)
{
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "pre_tokenizer: %s at byte %zu of the regular "
                     "expression is not supported",
                     what, at);
}

/* What follows a backslash. */
static qrb_status translate_escape(qrb_context *ctx, const char *pattern,
                                   size_t size, size_t *at,
                                   struct qrb__bytes *out)
{
    const char c = *at + 1 < size ? pattern[*at + 1] : '\0';
    const char *as = NULL;
    const char *end = NULL;
    size_t length;

    if (c == 's')
        as = "\\p{White_Space}";
    else if (c == 'S')
        as = "\\P{White_Space}";
    if (as != NULL) {
        *at += 2;
        return qrb__bytes_append(ctx, out, as, strlen(as));
    }
    if (c == '\0' || (unsigned char)c >= 0x80)
        return refuse(ctx, "a backslash before this", *at);
    if (((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z')) &&
        strchr("dDpPrntfx", c) == NULL)
        return refuse(ctx, "an escape of this letter or digit", *at);
    /* Without braces it is a byte to one and a character to the other. */
    if (c == 'x' && (*at + 2 >= size || pattern[*at + 2] != '{'))
        return refuse(ctx, "\\x without braces", *at);
    if (strchr("pPx", c) != NULL && *at + 2 < size && pattern[*at + 2] == '{')
        end = memchr(pattern + *at, '}', size - *at);
    length = end == NULL ? 2 : (size_t)(end - (pattern + *at)) + 1;
    *at += length;
    return qrb__bytes_append(ctx, out, pattern + *at - length, length);
}

static qrb_status check_group(qrb_context *ctx, const char *pattern,
                              size_t size, size_t at, size_t *length_out)
{
    *length_out = 1;
    if (at + 1 < size && pattern[at + 1] == '*')
        return refuse(ctx, "a verb", at);
    if (at + 1 >= size || pattern[at + 1] != '?')
        return QRB_OK;
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        *length_out = strlen(groups[i]);
        if (*length_out <= size - at &&
            memcmp(pattern + at, groups[i], *length_out) == 0)
            return QRB_OK;
    }
    return refuse(ctx, "this kind of group", at);
}

static qrb_status translate_class(qrb_context *ctx, const char *pattern,
                                  size_t size, size_t *at,
                                  struct qrb__bytes *out)
{
    const size_t begin = *at;
    qrb_status status;

    *at += *at + 1 < size && pattern[*at + 1] == '^' ? 2 : 1;
    status = qrb__bytes_append(ctx, out, pattern + begin, *at - begin);
    if (status == QRB_OK && *at < size && pattern[*at] == ']')
        return refuse(ctx, "a class that begins with ]", begin);
    while (status == QRB_OK && *at < size && pattern[*at] != ']') {
        if (pattern[*at] == '\\') {
            status = translate_escape(ctx, pattern, size, at, out);
            continue;
        }
        if (pattern[*at] == '[')
            return refuse(ctx, "a class in a class", *at);
        if (pattern[*at] == '&' && *at + 1 < size && pattern[*at + 1] == '&')
            return refuse(ctx, "an intersection of classes", *at);
        status = qrb__bytes_append(ctx, out, pattern + (*at)++, 1);
    }
    if (status == QRB_OK && *at == size)
        return refuse(ctx, "a class without end", begin);
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, out, pattern + (*at)++, 1);
    return status;
}

qrb_status qrb__pattern_translate(qrb_context *ctx, const char *pattern,
                                  size_t size, struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;
    size_t length;

    for (size_t at = 0; status == QRB_OK && at < size;) {
        switch (pattern[at]) {
        case '\\':
            status = translate_escape(ctx, pattern, size, &at, out);
            continue;
        case '[':
            status = translate_class(ctx, pattern, size, &at, out);
            continue;
        case '^':
        case '$':
            return refuse(ctx, "an anchor of lines", at);
        case '{':
            /* From zero to one, a literal to the other. */
            if (at + 1 < size && pattern[at + 1] == ',')
                return refuse(ctx, "a repeat without its least count", at);
            length = 1;
            break;
        case '}':
            /* Possessive to one, repeated once more to the other. */
            if (at + 1 < size && pattern[at + 1] == '+')
                return refuse(ctx, "+ behind a counted repeat", at);
            length = 1;
            break;
        case '(':
            status = check_group(ctx, pattern, size, at, &length);
            break;
        default:
            length = 1;
        }
        if (status == QRB_OK)
            status = qrb__bytes_append(ctx, out, pattern + at, length);
        at += length;
    }
    return status;
}
