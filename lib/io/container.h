/* Containers: named blocks of bytes in one file, for state that is saved and
 * comes back (trainers, observers, snapshots).
 *
 *   0  8 bytes  "QRBSTATE"
 *   8  u32      version of this layout, 1
 *  12  u32      kind of content, enum qrb__container_kind
 *  16  u32      version of the content, its owner's
 *  20  u32      sections
 *  24  u64      bytes of the table
 *  32  u64      bytes of the file
 *  40  table    for each section: u32 length of its name, the name, u64
 *               offset, u64 size, SHA-256 of its bytes
 *      32 bytes SHA-256 of everything above
 *      sections, each on a multiple of 64, zeros between them
 *
 * All integers are little-endian.  Every byte of the file is covered by a
 * digest or known to be zero, so no damage goes unseen.  The bytes are a
 * function of kind, version and sections alone.
 *
 * To write: list what is to be kept and call qrb__container_write().
 * To read: open (which checks all of it), compare counts and sizes with what
 * is expected, then copy out section by section. */
#ifndef QRB_IO_CONTAINER_H
#define QRB_IO_CONTAINER_H

#include <qrobust/source.h>

#include "core/context.h"

/* Pinned, for files that are kept. */
enum qrb__container_kind {
    QRB__CONTAINER_TRAINER = 1,
    QRB__CONTAINER_SNAPSHOT = 2,
    QRB__CONTAINER_OBSERVER = 3
};

enum { QRB__CONTAINER_MAX_SECTIONS = 1 << 20 };

struct qrb__section {
    const char *name;  /* unique, as of qrb__name_check() */
    const void *bytes; /* [size] */
    size_t size;       /* 0 is fine */
};

/* Write a container with the atomic writer: the old file stays until the new
 * one is complete and on the disk.
 *
 * Returns QRB_OK; QRB_E_INVALID_ARG (a name, or one twice); QRB_E_IO;
 * QRB_E_NO_MEMORY. */
qrb_status qrb__container_write(qrb_context *ctx, const char *path,
                                uint32_t kind, uint32_t version,
                                const struct qrb__section *sections,
                                size_t count);

struct qrb__container;

/* Open a container and check every byte of it.
 *
 * max_version: the newest content that the caller can read.
 * Returns QRB_OK; QRB_E_IO; QRB_E_FORMAT (no container, of another kind,
 * damaged; the message names the section); QRB_E_UNSUPPORTED (a newer layout
 * or content); QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__container_open(qrb_context *ctx, const qrb_source *source,
                               uint32_t kind, uint32_t max_version,
                               struct qrb__container **out);
qrb_status qrb__container_open_path(qrb_context *ctx, const char *path,
                                    uint32_t kind, uint32_t max_version,
                                    struct qrb__container **out);

/* NULL is fine. */
void qrb__container_close(struct qrb__container *container);

uint32_t qrb__container_version(const struct qrb__container *container);
size_t qrb__container_count(const struct qrb__container *container);

/* Name of a section in the order of writing, or NULL. */
const char *qrb__container_name(const struct qrb__container *container,
                                size_t index);

/* Whether there is such a section, and its bytes. */
bool qrb__container_find(const struct qrb__container *container,
                         const char *name, uint64_t *size_out);

/* Copy a section of exactly this size.
 *
 * Returns QRB_OK; QRB_E_FORMAT (there is none, or it has another size);
 * QRB_E_IO; QRB_E_CALLBACK. */
qrb_status qrb__container_read(const struct qrb__container *container,
                               const char *name, void *out, size_t size);

#endif
