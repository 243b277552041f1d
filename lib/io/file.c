/* Files of the host's own making, replaced whole or not at all. */
#include <qrobust/source.h>

#include "io/writer.h"

qrb_status qrb_file_write(qrb_context *ctx, const char *path,
                          const void *bytes, size_t size)
{
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (path == NULL || (bytes == NULL && size > 0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "path or bytes are NULL");
    return qrb__write_file(ctx, path, bytes, size);
}
