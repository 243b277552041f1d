/* The gate in front of jansson.
 *
 * jansson is strict (RFC 8259, UTF-8 checked, duplicate keys found by its hash
 * table) but descends recursively and allocates as it goes.  One pass over the
 * text, O(size) time and no memory, bounds both before it starts: brackets
 * outside of strings are the only way down. */
#include "io/json.h"

#include <locale.h>

#include <math.h>

const struct qrb__json_limits qrb__json_header_limits = { 100000000, 8, 16 };

enum { FREE_CONTAINERS = 16 };

static qrb_status check_nesting(qrb_context *ctx, const char *text, size_t size,
                                const struct qrb__json_limits *limits,
                                const char *name)
{
    const size_t allowed = FREE_CONTAINERS + size / limits->bytes_per_container;
    size_t containers = 0;
    size_t depth = 0;
    bool in_string = false;

    for (size_t i = 0; i < size; i++) {
        const char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '[' || c == '{') {
            if (++depth > limits->depth)
                return qrb__fail(ctx, QRB_E_FORMAT,
                                 "%s: nested deeper than %zu at byte %zu", name,
                                 limits->depth, i);
            if (++containers > allowed)
                return qrb__fail(ctx, QRB_E_FORMAT,
                                 "%s: more than %zu objects and arrays in "
                                 "%zu bytes",
                                 name, allowed, size);
        } else if ((c == ']' || c == '}') && depth > 0) {
            depth--;
        }
    }
    return QRB_OK;
}

/* jansson reads numbers in the locale of the thread, and aborts where that has
 * a decimal point of several bytes: it gets the locale "C" for the time. */
static json_t *load(const char *text, size_t size, json_error_t *error)
{
    const locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t host;
    json_t *loaded;

    error->text[0] = '\0';
    if (plain == (locale_t)0)
        return NULL; /* no memory */
    host = uselocale(plain);
    loaded = json_loadb(text, size, JSON_REJECT_DUPLICATES, error);
    uselocale(host);
    freelocale(plain);
    return loaded;
}

qrb_status qrb__json_parse(qrb_context *ctx, const char *text, size_t size,
                           const struct qrb__json_limits *limits,
                           const char *name, json_t **out)
{
    json_error_t error;
    qrb_status status;

    *out = NULL;
    if (size > limits->size)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: %zu bytes of JSON; at most %zu are allowed", name,
                         size, limits->size);
    status = check_nesting(ctx, text, size, limits, name);
    if (status != QRB_OK)
        return status;
    *out = load(text, size, &error);
    if (*out != NULL)
        return QRB_OK;
    /* Where it runs out of memory jansson mostly says nothing at all. */
    if (error.text[0] == '\0' ||
        json_error_code(&error) == json_error_out_of_memory)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%s: JSON of %zu bytes", name,
                         size);
    return qrb__fail(ctx, QRB_E_FORMAT, "%s: line %d, column %d: %s", name,
                     error.line, error.column, error.text);
}

bool qrb__json_get_integer(const json_t *value, uint64_t min, uint64_t max,
                           uint64_t *out)
{
    json_int_t integer;

    if (!json_is_integer(value))
        return false;
    integer = json_integer_value(value);
    if (integer < 0 || (uint64_t)integer < min || (uint64_t)integer > max)
        return false;
    *out = (uint64_t)integer;
    return true;
}

bool qrb__json_get_number(const json_t *value, double *out)
{
    const double number = json_number_value(value);

    if (!json_is_number(value) || !isfinite(number))
        return false;
    *out = number;
    return true;
}
