/* Doubling: O(1) amortized for each element appended. */
#include "io/growing.h"

#include <string.h>

void *qrb__grow(qrb_context *ctx, void *array, size_t *size, size_t used,
                size_t count, size_t element)
{
    size_t larger;
    void *grown;

    if (count <= *size)
        return array;
    if (!qrb__mul_size(count, 2, &larger))
        return NULL;
    if (larger < 16)
        larger = 16;
    grown = qrb__grow_array(ctx, array, used, larger, element);
    if (grown != NULL)
        *size = larger;
    return grown;
}

qrb_status qrb__bytes_reserve(qrb_context *ctx, struct qrb__bytes *bytes,
                              size_t more)
{
    size_t count;
    char *grown;

    grown =
        qrb__add_size(bytes->used, more, &count)
            ? qrb__grow(ctx, bytes->bytes, &bytes->size, bytes->used, count, 1)
            : NULL;
    if (grown == NULL && count > 0)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu bytes more than %zu", more,
                         bytes->used);
    bytes->bytes = grown;
    return QRB_OK;
}

qrb_status qrb__bytes_append(qrb_context *ctx, struct qrb__bytes *bytes,
                             const void *source, size_t count)
{
    const qrb_status status = qrb__bytes_reserve(ctx, bytes, count);

    if (status == QRB_OK && count > 0) {
        memcpy(bytes->bytes + bytes->used, source, count);
        bytes->used += count;
    }
    return status;
}

void qrb__bytes_free(qrb_context *ctx, struct qrb__bytes *bytes)
{
    qrb__free(ctx, bytes->bytes);
    memset(bytes, 0, sizeof *bytes);
}
