/* Rounding half to even.  Inline, for the loops of this room; as all
 * arithmetic here it runs with the processor rounding to nearest. */
#ifndef QRB_QUANT_ROUND_EVEN_H
#define QRB_QUANT_ROUND_EVEN_H

#include <math.h>

/* Adding 2^52 (2^23) leaves no bits behind the point, and from there on every
 * number is an integer.  Bits and selects instead of branches, so that loops
 * vectorise on processors without a rounding instruction. */
static inline double qrb__round_even_f64(double x)
{
    const double integers = 4503599627370496.0;
    const double magnitude = fabs(x);
    const double shift = magnitude < integers ? integers : 0;

    return copysign((magnitude + shift) - shift, x);
}

static inline float qrb__round_even_f32(float x)
{
    const float integers = 8388608.0f;
    const float magnitude = fabsf(x);
    const float shift = magnitude < integers ? integers : 0;

    return copysignf((magnitude + shift) - shift, x);
}

#endif
