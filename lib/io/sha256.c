/* SHA-256 as FIPS 180-4 writes it: some 200 MB/s, which no file that is
 * written by this library feels beside its sync. */
#include "io/sha256.h"

#include <string.h>

#include <qrobust/source.h>

/* First 32 bits of the fractional parts of the cube roots of the first 64
 * primes (4.2.2). */
static const uint32_t constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned bits)
{
    return x >> bits | x << (32 - bits);
}

/* One block of 64 bytes (6.2.2). */
static void compress(uint32_t state[8], const unsigned char *block)
{
    uint32_t w[64];
    uint32_t v[8]; /* a to h */

    for (int t = 0; t < 16; t++)
        w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
               (uint32_t)block[4 * t + 2] << 8 | (uint32_t)block[4 * t + 3];
    for (int t = 16; t < 64; t++) {
        const uint32_t s0 =
            rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
        const uint32_t s1 =
            rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;

        w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    memcpy(v, state, sizeof v);
    for (int t = 0; t < 64; t++) {
        const uint32_t s1 =
            rotate(v[4], 6) ^ rotate(v[4], 11) ^ rotate(v[4], 25);
        const uint32_t choice = (v[4] & v[5]) ^ (~v[4] & v[6]);
        const uint32_t t1 = v[7] + s1 + choice + constants[t] + w[t];
        const uint32_t s0 =
            rotate(v[0], 2) ^ rotate(v[0], 13) ^ rotate(v[0], 22);
        const uint32_t majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);

        memmove(v + 1, v, 7 * sizeof *v);
        v[4] += t1;
        v[0] = t1 + s0 + majority;
    }
    for (int i = 0; i < 8; i++)
        state[i] += v[i];
}

void qrb__sha256_begin(struct qrb__sha256 *hash)
{
    static const uint32_t initial[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372,
                                         0xa54ff53a, 0x510e527f, 0x9b05688c,
                                         0x1f83d9ab, 0x5be0cd19 };

    memcpy(hash->state, initial, sizeof initial);
    hash->size = 0;
}

void qrb__sha256_add(struct qrb__sha256 *hash, const void *bytes, size_t size)
{
    const unsigned char *next = bytes;
    size_t held = (size_t)(hash->size % sizeof hash->block);

    hash->size += size;
    while (size > 0) {
        size_t taken = sizeof hash->block - held;

        if (held == 0 && size >= sizeof hash->block) {
            compress(hash->state, next);
            next += sizeof hash->block;
            size -= sizeof hash->block;
            continue;
        }
        if (taken > size)
            taken = size;
        memcpy(hash->block + held, next, taken);
        next += taken;
        size -= taken;
        held += taken;
        if (held == sizeof hash->block) {
            compress(hash->state, hash->block);
            held = 0;
        }
    }
}

void qrb__sha256_end(struct qrb__sha256 *hash,
                     unsigned char out[QRB__SHA256_SIZE])
{
    static const unsigned char padding[64] = { 0x80 };
    const uint64_t bits = hash->size * 8;
    const size_t held = (size_t)(hash->size % 64);
    unsigned char length[8];

    for (int i = 0; i < 8; i++)
        length[i] = (unsigned char)(bits >> (56 - 8 * i));
    qrb__sha256_add(hash, padding, held < 56 ? 56 - held : 120 - held);
    qrb__sha256_add(hash, length, sizeof length);
    for (int i = 0; i < 32; i++)
        out[i] = (unsigned char)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void qrb__sha256_text(const void *bytes, size_t size,
                      char out[QRB__SHA256_TEXT])
{
    static const char digits[] = "0123456789abcdef";
    unsigned char digest[QRB__SHA256_SIZE];
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, size);
    qrb__sha256_end(&hash, digest);
    for (int i = 0; i < QRB__SHA256_SIZE; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * QRB__SHA256_SIZE] = '\0';
}

qrb_status qrb_sha256_hex(const void *bytes, size_t size, char *out)
{
    if (out == NULL || (bytes == NULL && size > 0))
        return QRB_E_INVALID_ARG;
    qrb__sha256_text(bytes, size, out);
    return QRB_OK;
}
