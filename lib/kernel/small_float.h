/* Floating-point formats of 16 and 8 bits, by their fields. */
#ifndef QRB_KERNEL_SMALL_FLOAT_H
#define QRB_KERNEL_SMALL_FLOAT_H

#include <stdint.h>

struct qrb__small_float {
    unsigned exponent_bits;
    unsigned mantissa_bits;
    int finite; /* no infinity, all ones is NaN: F8_E4M3 */
};

extern const struct qrb__small_float qrb__float16;
extern const struct qrb__small_float qrb__bfloat16;
extern const struct qrb__small_float qrb__float8_e4m3;
extern const struct qrb__small_float qrb__float8_e5m2;

/* Rounded to nearest even from any double, with one rounding; what is too
 * large becomes infinite, or NaN where the format has no infinity.  A NaN
 * keeps its sign and the upper bits of its payload, and is quiet. */
uint16_t qrb__small_float_encode(const struct qrb__small_float *format,
                                 double value);
/* Exact. */
double qrb__small_float_decode(const struct qrb__small_float *format,
                               uint16_t bits);

#endif
