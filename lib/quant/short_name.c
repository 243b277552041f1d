/* Quantizers by their short names: a kind, of kinds on a grid its bits and
 * perhaps "g" and a group size, and chains of such by "+". */
#include "quant/quantizer.h"

#include <stdio.h>
#include <string.h>

enum { MAX_LINKS = 8 };

/* A decimal number without sign, space or leading zero; the position after it,
 * or NULL.  No strtoul: it skips spaces and takes signs. */
static const char *read_number(const char *text, size_t *out)
{
    size_t number = 0;

    if (*text < '1' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++)
        if (!qrb__mul_size(number, 10, &number) ||
            !qrb__add_size(number, (size_t)(*text - '0'), &number))
            return NULL;
    *out = number;
    return text;
}

/* "<bits>" or "<bits>g<group_size>" up to `end` */
static bool read_bits(const char *text, const char *end,
                      qrb_quantizer_options *options)
{
    size_t bits;

    text = read_number(text, &bits);
    if (text == NULL || bits < QRB__GRID_MIN_BITS || bits > QRB__GRID_MAX_BITS)
        return false;
    options->bits = (uint32_t)bits;
    if (*text == 'g')
        text = read_number(text + 1, &options->group_size);
    return text == end;
}

/* One link, [name, end); *open is set where its bits are left to the last. */
static bool read_link(const char *name, const char *end,
                      qrb_quantizer_options *options, bool *open)
{
    const size_t length = (size_t)(end - name);

    for (size_t i = 0; i < qrb__quantizer_kind_count; i++) {
        const struct qrb__quantizer_kind *kind = qrb__quantizer_kinds[i];
        const size_t prefix = strlen(kind->name);

        if (length < prefix || strncmp(name, kind->name, prefix) != 0)
            continue;
        options->kind = kind->kind;
        *open = length == prefix && kind->has_bits;
        if (length == prefix ||
            (kind->has_bits && read_bits(name + prefix, end, options)))
            return true;
    }
    return false;
}

/* Links of a name; 0: it is none. */
static size_t read_links(const char *name, qrb_quantizer_options *links)
{
    const qrb_quantizer_options defaults = QRB_QUANTIZER_OPTIONS_INIT;
    bool open[MAX_LINKS];
    size_t count = 0;
    const char *end;

    do {
        end = name + strcspn(name, "+");
        if (count == MAX_LINKS)
            return 0;
        links[count] = defaults;
        if (!read_link(name, end, &links[count], &open[count]))
            return 0;
        count++;
        name = end + 1;
    } while (*end == '+');
    if (open[count - 1])
        return 0;
    for (size_t i = 0; i + 1 < count; i++)
        if (open[i]) {
            links[i].bits = links[count - 1].bits;
            links[i].group_size = links[count - 1].group_size;
        }
    return count;
}

/* Names of the kinds, with what follows them. */
static qrb_status fail_name(qrb_context *ctx, const char *name)
{
    char list[256] = "";
    size_t length = 0;

    for (size_t i = 0; i < qrb__quantizer_kind_count; i++) {
        const struct qrb__quantizer_kind *kind = qrb__quantizer_kinds[i];
        const int more = snprintf(list + length, sizeof list - length, "%s%s%s",
                                  i == 0 ? "" : ", ", kind->name,
                                  kind->has_bits ? "<bits>" : "");

        length += (size_t)more;
        if (length >= sizeof list)
            break;
    }
    return qrb__fail(ctx, QRB_E_INVALID_ARG,
                     "no quantizer is called \"%.40s\"; %s are, with 2 to 8 "
                     "bits and perhaps a group size, such as rtn4g32, and "
                     "chains by +",
                     name, list);
}

qrb_status qrb_quantizer_create_named(qrb_context *ctx, const char *name,
                                      qrb_quantizer **out)
{
    qrb_quantizer_options options[MAX_LINKS];
    qrb_quantizer *links[MAX_LINKS] = { NULL };
    size_t count;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (name == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "name is NULL");
    count = read_links(name, options);
    if (count == 0)
        return fail_name(ctx, name);
    if (count == 1)
        return qrb_quantizer_create(ctx, &options[0], out);
    for (size_t i = 0; status == QRB_OK && i < count; i++)
        status = qrb_quantizer_create(ctx, &options[i], &links[i]);
    if (status == QRB_OK)
        status = qrb_quantizer_create_chain(
            ctx, (const qrb_quantizer *const *)links, count, out);
    for (size_t i = 0; i < count; i++)
        qrb_quantizer_destroy(links[i]);
    return status;
}
