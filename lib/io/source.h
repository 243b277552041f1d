/* Bytes to read from: a path, a descriptor, a buffer or a callback, all
 * behind one checked read. */
#ifndef QRB_IO_SOURCE_H
#define QRB_IO_SOURCE_H

#include <qrobust/source.h>

#include "core/context.h"

struct qrb__source;

/* Open what a host gives; files are mapped read-only where the system can.
 *
 * Returns QRB_OK; QRB_E_INVALID_ARG (none or several of path, fd, buffer and
 * read_at); QRB_E_IO (cannot be opened, or is not a regular file);
 * QRB_E_NO_MEMORY. */
qrb_status qrb__source_open(qrb_context *ctx, const qrb_source *options,
                            struct qrb__source **out);

/* The same for a path. */
qrb_status qrb__source_open_path(qrb_context *ctx, const char *path,
                                 struct qrb__source **out);

/* The same for an entry of a directory, through qrb__path_open_in(); also
 * QRB_E_FORMAT. */
qrb_status qrb__source_open_in(qrb_context *ctx, const char *directory,
                               const char *name, struct qrb__source **out);

/* NULL is fine. */
void qrb__source_close(struct qrb__source *source);

qrb_context *qrb__source_context(const struct qrb__source *source);

/* What messages call it: its path, "the buffer", "descriptor 3". */
const char *qrb__source_name(const struct qrb__source *source);

/* Bytes when it was opened. */
uint64_t qrb__source_size(const struct qrb__source *source);

/* Copy bytes out.  Never faults: a file that shrank since it was opened is
 * QRB_E_IO.  Also QRB_E_FORMAT (outside of the source); QRB_E_CALLBACK. */
qrb_status qrb__source_read(const struct qrb__source *source, uint64_t offset,
                            void *out, size_t size);

/* Look at bytes in place.  *out is NULL with QRB_OK where the source is
 * neither mapped nor a buffer: read then.  The file's size is checked again
 * on every call, so keep no pointer for later use.  Alignment is arbitrary. */
qrb_status qrb__source_view(const struct qrb__source *source, uint64_t offset,
                            size_t size, const unsigned char **out);

/* Bytes of a file to keep until the source is closed, and to write to: the
 * file does not change, written pages are copied first.  *out is NULL with
 * QRB_OK where the source is no file or cannot be mapped: read then.  Whoever
 * keeps them asks qrb__source_check() before each use. */
qrb_status qrb__source_map(struct qrb__source *source, uint64_t offset,
                           size_t size, unsigned char **out);

/* QRB_E_IO if the file has become shorter since it was opened. */
qrb_status qrb__source_check(const struct qrb__source *source);

/* Copy all of it into memory of the context, with a NUL after the last byte
 * that size_out does not count.  More than `limit` bytes are QRB_E_FORMAT. */
qrb_status qrb__source_load(const struct qrb__source *source, size_t limit,
                            char **bytes_out, size_t *size_out);

#endif
