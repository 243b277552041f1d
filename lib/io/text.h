/* Text that grows while it is written, with the rules of JSON. */
#ifndef QRB_IO_TEXT_H
#define QRB_IO_TEXT_H

#include "core/context.h"

/* Begin with { .ctx = ctx }.  A failed allocation is remembered, so that a
 * writer asks once, at the end. */
struct qrb__text {
    qrb_context *ctx;
    char *bytes; /* [size], NUL-terminated; NULL before the first byte */
    size_t size;
    size_t capacity;
    bool failed;
};

void qrb__text_append(struct qrb__text *text, const char *bytes, size_t size);

/* Formatted pieces of at most 255 bytes. */
void qrb__text_print(struct qrb__text *text, const char *format, ...)
    QRB_PRINTF(2, 3);

/* A string in quotes, escaped; `bytes` are UTF-8. */
void qrb__text_json_string(struct qrb__text *text, const char *bytes,
                           size_t size);

/* The shortest decimal that reads back as the same double, with a point or an
 * exponent, whatever the host's locale; the value is finite. */
void qrb__text_json_number(struct qrb__text *text, double value);

/* QRB_OK, or QRB_E_NO_MEMORY if anything did not fit. */
qrb_status qrb__text_status(const struct qrb__text *text, const char *what);

void qrb__text_release(struct qrb__text *text);

#endif
