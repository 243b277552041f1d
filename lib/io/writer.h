/* Files that are replaced whole or not at all. */
#ifndef QRB_IO_WRITER_H
#define QRB_IO_WRITER_H

#include "core/context.h"

struct qrb__writer;

/* Begin a temporary file beside `path`.  The target is touched by
 * qrb__writer_commit() alone, and never truncated: who has the old file mapped
 * keeps it.  A link is followed, and the file at its end is replaced.
 *
 * Returns QRB_OK; QRB_E_IO (no such directory, not allowed, the target is no
 * regular file, or another writer is at it); QRB_E_NO_MEMORY. */
qrb_status qrb__writer_open(qrb_context *ctx, const char *path,
                            struct qrb__writer **out);

/* Append bytes.  QRB_OK; QRB_E_IO (such as a full disk). */
qrb_status qrb__writer_write(struct qrb__writer *writer, const void *bytes,
                             size_t size);

/* Append zeros up to the next multiple of `alignment`. */
qrb_status qrb__writer_align(struct qrb__writer *writer, size_t alignment);

/* Bytes written so far. */
uint64_t qrb__writer_offset(const struct qrb__writer *writer);

/* Sync the temporary file, rename it to the target and sync the directory.
 * With QRB_E_IO from the last of these the target is replaced already. */
qrb_status qrb__writer_commit(struct qrb__writer *writer);

/* Release a writer; without a commit the temporary file is removed.  NULL is
 * fine. */
void qrb__writer_close(struct qrb__writer *writer);

/* All of it at once. */
qrb_status qrb__write_file(qrb_context *ctx, const char *path,
                           const void *bytes, size_t size);

#endif
