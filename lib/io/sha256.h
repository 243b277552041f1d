/* SHA-256 (FIPS 180-4): the checksum of containers and the name of a text in
 * metadata. */
#ifndef QRB_IO_SHA256_H
#define QRB_IO_SHA256_H

#include <stddef.h>
#include <stdint.h>

enum { QRB__SHA256_SIZE = 32, QRB__SHA256_TEXT = 65 };

struct qrb__sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[64];
};

void qrb__sha256_begin(struct qrb__sha256 *hash);
void qrb__sha256_add(struct qrb__sha256 *hash, const void *bytes, size_t size);
void qrb__sha256_end(struct qrb__sha256 *hash,
                     unsigned char out[QRB__SHA256_SIZE]);

/* 64 hexadecimal digits and a NUL. */
void qrb__sha256_text(const void *bytes, size_t size,
                      char out[QRB__SHA256_TEXT]);

#endif
