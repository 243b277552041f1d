/* Names: what is allowed in one, and how a message shows one that a hostile
 * file made up. */
#include "io/name.h"

#include <string.h>

/* Length of the sequence at `bytes`, of which `left` are there; 0 if it is not
 * UTF-8 (table 3-7 of the Unicode standard). */
static size_t sequence_length(const unsigned char *bytes, size_t left)
{
    const unsigned char lead = bytes[0];
    unsigned char low = 0x80; /* bounds of the second byte */
    unsigned char high = 0xbf;
    size_t length;

    if (lead < 0x80)
        return 1;
    if (lead < 0xc2 || lead > 0xf4)
        return 0;
    length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    if (length > left)
        return 0;
    if (lead == 0xe0)
        low = 0xa0;
    else if (lead == 0xed)
        high = 0x9f;
    else if (lead == 0xf0)
        low = 0x90;
    else if (lead == 0xf4)
        high = 0x8f;
    if (bytes[1] < low || bytes[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((bytes[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

bool qrb__utf8_is_valid(const char *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        const size_t length =
            sequence_length((const unsigned char *)bytes + i, size - i);

        if (length == 0)
            return false;
        i += length;
    }
    return true;
}

qrb_status qrb__name_check(qrb_context *ctx, const char *name, const char *what)
{
    const size_t length = strlen(name);
    char shown[QRB__NAME_SHOWN];

    if (length == 0)
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: a name is empty", what);
    if (length > QRB__NAME_MAX)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: the name %s... has %zu bytes; at most %d are "
                         "allowed",
                         what, qrb__name_text(name, shown), length,
                         QRB__NAME_MAX);
    if (!qrb__utf8_is_valid(name, length))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: the name %s is not UTF-8",
                         what, qrb__name_text(name, shown));
    return QRB_OK;
}

const char *qrb__name_text(const char *name, char out[QRB__NAME_SHOWN])
{
    size_t length = 0;

    while (name[length] != '\0' && length < QRB__NAME_SHOWN - 1) {
        const unsigned char c = (unsigned char)name[length];

        out[length] = c < 0x20 || c == 0x7f ? '?' : (char)c;
        length++;
    }
    /* Do not cut a character in two. */
    if (name[length] != '\0')
        while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
            length--;
    out[length] = '\0';
    return out;
}
