/* Names: what is allowed in one, and how a message shows one that a hostile
 * file made up. */
#include "io/name.h"

#include <string.h>

#include "io/utf8.h"

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
    if (qrb__utf8_valid(name, length) < length)
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: the name %s is not UTF-8",
                         what, qrb__name_text(name, shown));
    return QRB_OK;
}

const char *qrb__name_text(const char *name, char out[QRB__NAME_SHOWN])
{
    size_t length = strlen(name);

    if (length >= QRB__NAME_SHOWN) {
        length = QRB__NAME_SHOWN - 1;
        /* Do not cut a character in two. */
        while (length > 0 && ((unsigned char)name[length] & 0xc0) == 0x80)
            length--;
    }
    memcpy(out, name, length);
    out[length] = '\0';
    return out;
}
