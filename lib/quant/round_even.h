/* Rounding half to even.  Inline, for the loops of this room; as all
 * arithmetic here it runs with the processor rounding to nearest. */
#ifndef QRB_QUANT_ROUND_EVEN_H
#define QRB_QUANT_ROUND_EVEN_H

/* Adding 2^52 (2^23) leaves no bits behind the point, and from there on every
 * number is an integer.  Selects, not branches, so that loops vectorise on
 * processors without a rounding instruction. */
static inline double qrb__round_even_f64(double x)
{
    const double integers = 4503599627370496.0;
    const double magnitude = x < 0 ? -x : x;
    const double rounded = (magnitude + integers) - integers;
    const double signed_again = x < 0 ? -rounded : rounded;

    return magnitude < integers ? signed_again : x;
}

static inline float qrb__round_even_f32(float x)
{
    const float integers = 8388608.0f;
    const float magnitude = x < 0 ? -x : x;
    const float rounded = (magnitude + integers) - integers;
    const float signed_again = x < 0 ? -rounded : rounded;

    return magnitude < integers ? signed_again : x;
}

#endif
