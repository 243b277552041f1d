/* Names out of files and into them: of tensors, of keys, of sections. */
#ifndef QRB_IO_NAME_H
#define QRB_IO_NAME_H

#include "core/context.h"

enum { QRB__NAME_MAX = 1024, QRB__NAME_SHOWN = 128 };

/* A name is not empty, at most QRB__NAME_MAX bytes long and UTF-8. */
qrb_status qrb__name_check(qrb_context *ctx, const char *name,
                           const char *what);

/* For messages: cut to fit, between characters. */
const char *qrb__name_text(const char *name, char out[QRB__NAME_SHOWN]);

#endif
