/* Arrays that grow as they fill. */
#ifndef QRB_IO_GROWING_H
#define QRB_IO_GROWING_H

#include "core/context.h"

/* Make room for `count` elements in an array that has room for *size and
 * holds `used`, by doubling: the array, moved or not, or NULL when there is
 * no memory (the old one stays valid then). */
void *qrb__grow(qrb_context *ctx, void *array, size_t *size, size_t used,
                size_t count, size_t element);

/* Bytes; zeroed is empty. */
struct qrb__bytes {
    char *bytes;
    size_t used;
    size_t size;
};

/* Room for `more` bytes after the used ones: QRB_OK or QRB_E_NO_MEMORY. */
qrb_status qrb__bytes_reserve(qrb_context *ctx, struct qrb__bytes *bytes,
                              size_t more);
qrb_status qrb__bytes_append(qrb_context *ctx, struct qrb__bytes *bytes,
                             const void *source, size_t count);
void qrb__bytes_free(qrb_context *ctx, struct qrb__bytes *bytes);

#endif
