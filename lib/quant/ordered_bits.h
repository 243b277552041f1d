/* Numbers as unsigned integers in the same order, for sorting and ranking by
 * parts of their bits. */
#ifndef QRB_QUANT_ORDERED_BITS_H
#define QRB_QUANT_ORDERED_BITS_H

#include <stdint.h>
#include <string.h>

/* x is no NaN; -0 is 0. */
static inline uint64_t qrb__ordered_bits(double x)
{
    uint64_t bits;

    x += 0.0;
    memcpy(&bits, &x, sizeof bits);
    return bits >> 63 != 0 ? ~bits : bits | UINT64_C(1) << 63;
}

static inline double qrb__ordered_number(uint64_t ordered)
{
    const uint64_t bits =
        ordered >> 63 != 0 ? ordered & ~(UINT64_C(1) << 63) : ~ordered;
    double x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

#endif
