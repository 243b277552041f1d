/* Conversion between double and the floats of 16 and 8 bits, field by field.
 * Every value of the small formats, subnormals too, is a normal double. */
#include "kernel/small_float.h"

#include <string.h>

const struct qrb__small_float qrb__float16 = { 5, 10, 0 };
const struct qrb__small_float qrb__bfloat16 = { 8, 7, 0 };
const struct qrb__small_float qrb__float8_e4m3 = { 4, 3, 1 };
const struct qrb__small_float qrb__float8_e5m2 = { 5, 2, 0 };

enum { DOUBLE_BIAS = 1023, DOUBLE_MANTISSA = 52 };

static uint64_t bits_of(double value)
{
    uint64_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static double double_of(uint64_t bits)
{
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* x / 2^shift to nearest, ties to even; shift >= 1. */
static uint64_t round_shift(uint64_t x, unsigned shift)
{
    uint64_t quotient;
    uint64_t rest;
    uint64_t half;

    if (shift > 63)
        return 0; /* x has 53 bits: less than half a unit */
    quotient = x >> shift;
    rest = x & ((UINT64_C(1) << shift) - 1);
    half = UINT64_C(1) << (shift - 1);
    if (rest > half || (rest == half && (quotient & 1) != 0))
        quotient++;
    return quotient;
}

uint16_t qrb__small_float_encode(const struct qrb__small_float *format,
                                 double value)
{
    const unsigned m = format->mantissa_bits;
    const int bias = (1 << (format->exponent_bits - 1)) - 1;
    const uint64_t bits = bits_of(value);
    const uint64_t sign = bits >> 63 << (m + format->exponent_bits);
    const uint64_t fraction = bits & ((UINT64_C(1) << DOUBLE_MANTISSA) - 1);
    const int exponent = (int)(bits >> DOUBLE_MANTISSA & 0x7ff);
    const uint64_t ones = (UINT64_C(1) << format->exponent_bits) - 1;
    const uint64_t all = (UINT64_C(1) << (m + format->exponent_bits)) - 1;
    const uint64_t overflow = format->finite ? all : ones << m;
    uint64_t magnitude;
    int target;

    if (exponent == 0x7ff && fraction != 0)
        return (uint16_t)(format->finite
                              ? sign | all
                              : sign | ones << m | UINT64_C(1) << (m - 1) |
                                    fraction >> (DOUBLE_MANTISSA - m));
    if (exponent == 0x7ff)
        return (uint16_t)(sign | overflow);
    if (exponent == 0)
        return (uint16_t)sign; /* far below the smallest of any format */
    target = exponent - DOUBLE_BIAS + bias;
    if (target >= 1)
        /* A mantissa that rounds up to 2 carries into the exponent. */
        magnitude = ((uint64_t)target << m) +
                    round_shift(fraction, DOUBLE_MANTISSA - m);
    else
        magnitude = round_shift(fraction | UINT64_C(1) << DOUBLE_MANTISSA,
                                DOUBLE_MANTISSA - m + 1 + (unsigned)-target);
    if (magnitude >= overflow)
        magnitude = overflow;
    return (uint16_t)(sign | magnitude);
}

double qrb__small_float_decode(const struct qrb__small_float *format,
                               uint16_t bits)
{
    const unsigned m = format->mantissa_bits;
    const int bias = (1 << (format->exponent_bits - 1)) - 1;
    const uint64_t ones = (UINT64_C(1) << format->exponent_bits) - 1;
    const uint64_t exponent = (uint64_t)bits >> m & ones;
    const uint64_t fraction = bits & ((UINT64_C(1) << m) - 1);
    const uint64_t sign = (uint64_t)bits >> (m + format->exponent_bits) & 1;
    const uint64_t quiet = UINT64_C(1) << (DOUBLE_MANTISSA - 1);
    const uint64_t wide = fraction << (DOUBLE_MANTISSA - m);
    double magnitude;

    if (format->finite) {
        if (exponent == ones && fraction == (UINT64_C(1) << m) - 1)
            return double_of(sign << 63 | UINT64_C(0x7ff) << DOUBLE_MANTISSA |
                             quiet);
    } else if (exponent == ones) {
        return double_of(sign << 63 | UINT64_C(0x7ff) << DOUBLE_MANTISSA |
                         wide | (fraction != 0 ? quiet : 0));
    }
    if (exponent != 0)
        return double_of(sign << 63 |
                         (exponent - (uint64_t)bias + DOUBLE_BIAS)
                             << DOUBLE_MANTISSA |
                         wide);
    /* fraction * 2^(1 - bias - m), a power of two that double holds */
    magnitude = (double)fraction *
                double_of((uint64_t)(DOUBLE_BIAS + 1 - bias - (int)m)
                          << DOUBLE_MANTISSA);
    return sign ? -magnitude : magnitude;
}
