/* A cursor over a source: small pieces out of a window, so that a source that
 * is not mapped is not asked for every number. */
#include "io/gguf_cursor.h"

#include <string.h>

#include "io/bytes.h"
#include "io/name.h"

uint64_t qrb__gguf_left(const struct qrb__gguf_cursor *c)
{
    return qrb__source_size(c->source) - c->at;
}

qrb_status qrb__gguf_fail(const struct qrb__gguf_cursor *c, const char *what,
                          const char *reason)
{
    char shown[QRB__NAME_SHOWN];

    return qrb__fail(c->ctx, QRB_E_FORMAT, "%s: %s %s",
                     qrb__source_name(c->source), qrb__name_text(what, shown),
                     reason);
}

qrb_status qrb__gguf_fail_end(const struct qrb__gguf_cursor *c,
                              const char *what)
{
    return qrb__gguf_fail(c, what, "reaches beyond the end of the file");
}

qrb_status qrb__gguf_take(struct qrb__gguf_cursor *c, const char *what,
                          void *out, size_t size)
{
    qrb_status status;

    if (size > qrb__gguf_left(c))
        return qrb__gguf_fail_end(c, what);
    if (c->at < c->window_at || c->at - c->window_at > c->window_size ||
        size > c->window_size - (size_t)(c->at - c->window_at)) {
        c->window_at = c->at;
        c->window_size = qrb__gguf_left(c) < QRB__GGUF_WINDOW
                             ? (size_t)qrb__gguf_left(c)
                             : QRB__GGUF_WINDOW;
        status = qrb__source_read(c->source, c->at, c->window, c->window_size);
        if (status != QRB_OK) {
            c->window_size = 0;
            return status;
        }
    }
    memcpy(out, c->window + (c->at - c->window_at), size);
    c->at += size;
    return QRB_OK;
}

qrb_status qrb__gguf_take_u32(struct qrb__gguf_cursor *c, const char *what,
                              uint32_t *out)
{
    unsigned char bytes[4] = { 0 };
    const qrb_status status = qrb__gguf_take(c, what, bytes, sizeof bytes);

    if (status == QRB_OK)
        *out = qrb__load_u32(bytes);
    return status;
}

qrb_status qrb__gguf_take_u64(struct qrb__gguf_cursor *c, const char *what,
                              uint64_t *out)
{
    unsigned char bytes[8] = { 0 };
    const qrb_status status = qrb__gguf_take(c, what, bytes, sizeof bytes);

    if (status == QRB_OK)
        *out = qrb__load_u64(bytes);
    return status;
}

qrb_status qrb__gguf_take_count(struct qrb__gguf_cursor *c, const char *what,
                                size_t least, uint64_t *out)
{
    const qrb_status status = qrb__gguf_take_u64(c, what, out);

    if (status == QRB_OK && *out > qrb__gguf_left(c) / least)
        return qrb__fail(
            c->ctx, QRB_E_FORMAT, "%s: %.100s is %llu, and %llu bytes are left",
            qrb__source_name(c->source), what, (unsigned long long)*out,
            (unsigned long long)qrb__gguf_left(c));
    return status;
}
