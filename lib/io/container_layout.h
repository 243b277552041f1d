/* Where things stand in a container; shared by its reader and its writer
 * alone. */
#ifndef QRB_IO_CONTAINER_LAYOUT_H
#define QRB_IO_CONTAINER_LAYOUT_H

#include <stdint.h>

#define QRB__CONTAINER_MAGIC "QRBSTATE"

enum { QRB__CONTAINER_LAYOUT = 1, QRB__CONTAINER_ALIGNMENT = 64 };

/* Offsets in the fixed part. */
enum {
    QRB__AT_LAYOUT = 8,
    QRB__AT_KIND = 12,
    QRB__AT_VERSION = 16,
    QRB__AT_COUNT = 20,
    QRB__AT_TABLE = 24,
    QRB__AT_SIZE = 32,
    QRB__HEAD_SIZE = 40
};

/* An entry without its name: length, offset, size, digest. */
enum { QRB__ENTRY_SIZE = 4 + 8 + 8 + 32, QRB__MAX_TABLE = 1 << 28 };

static inline uint64_t qrb__container_aligned(uint64_t offset)
{
    return offset + (-offset & (QRB__CONTAINER_ALIGNMENT - 1));
}

#endif
