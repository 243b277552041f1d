/* Little-endian integers in files, read and written byte by byte: no casts of
 * structs, no unaligned loads. */
#ifndef QRB_IO_BYTES_H
#define QRB_IO_BYTES_H

#include <stdint.h>

/* Elements of tensors are copied as they lie in the file. */
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "tensors in files are little-endian, and this machine is not"
#endif

static inline uint32_t qrb__load_u32(const unsigned char *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 |
           (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static inline uint64_t qrb__load_u64(const unsigned char *bytes)
{
    return (uint64_t)qrb__load_u32(bytes) | (uint64_t)qrb__load_u32(bytes + 4)
                                                << 32;
}

static inline void qrb__store_u32(unsigned char *bytes, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
}

static inline void qrb__store_u64(unsigned char *bytes, uint64_t value)
{
    qrb__store_u32(bytes, (uint32_t)value);
    qrb__store_u32(bytes + 4, (uint32_t)(value >> 32));
}

#endif
