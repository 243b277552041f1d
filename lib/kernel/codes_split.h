/* Activations as bytes for products with codes (codes.h), for every
 * instruction set the same lines: each operation is exact or rounds once. */
#ifndef QRB_KERNEL_CODES_SPLIT_H
#define QRB_KERNEL_CODES_SPLIT_H

#include <math.h>
#include <string.h>

#include "kernel/codes.h"

/* Added to |x| <= 2^22 it leaves the nearest integer, even at ties, in the
 * low bits. */
#define TO_INTEGER 0x1.8p23f

/* x [n] as integers in units of 1 / inverse, n <= CODE_BLOCK; zeros follow. */
static inline void to_integers(const float *x, size_t n, float inverse,
                               int32_t *integers)
{
    float sums[QRB__CODE_BLOCK];

    for (size_t i = 0; i < n; i++)
        sums[i] = x[i] * inverse + TO_INTEGER;
    for (size_t i = n; i < QRB__CODE_BLOCK; i++)
        sums[i] = TO_INTEGER;
    memcpy(integers, sums, sizeof sums);
    for (size_t i = 0; i < QRB__CODE_BLOCK; i++)
        integers[i] -= 0x4b400000;
}

/* Bytes of a block in the order of its words; stride is a constant where this
 * is called. */
static inline __attribute__((always_inline)) void
permute_by(const int8_t *bytes, size_t stride, int8_t *out)
{
    for (size_t at = 0; at < QRB__CODE_BLOCK; at += 4 * stride)
        for (size_t k = 0; k < stride; k++)
            for (size_t m = 0; m < 4; m++)
                *out++ = bytes[at + k + stride * m];
}

static inline void permute(uint32_t bits, const int8_t *bytes, int8_t *out)
{
    switch (qrb__code_column(bits, 0, 1)) {
    case 4:
        permute_by(bytes, 4, out);
        break;
    case 2:
        permute_by(bytes, 2, out);
        break;
    default:
        permute_by(bytes, 1, out);
        break;
    }
}

/* Exponent e with all |x| < 2^e; not below -100, where steps would get lost. */
static inline int exponent_of(const float *x, size_t n)
{
    uint32_t largest = 0;
    int exponent;

    for (size_t i = 0; i < n; i++) {
        uint32_t word;

        memcpy(&word, &x[i], sizeof word);
        word &= 0x7fffffff;
        largest = word > largest ? word : largest;
    }
    exponent = (int)(largest >> 23) - 126;
    return exponent < -100 ? -100 : exponent;
}

/* 2^exponent, a normal float. */
static inline float power_of_two(int exponent)
{
    const uint32_t word = (uint32_t)(exponent + 127) << 23;
    float power;

    memcpy(&power, &word, sizeof power);
    return power;
}

static void split(const float *x, size_t cols, size_t segment, uint32_t bits,
                  size_t apart, int8_t *out, size_t steps_apart, float *steps,
                  float *sums)
{
    int32_t integers[QRB__CODE_BLOCK];
    int8_t digits[QRB__CODE_PLANES][QRB__CODE_BLOCK];

    for (size_t first = 0, s = 0; first < cols; first += segment, s++) {
        const size_t left = cols - first;
        const size_t n = left < segment ? left : segment;
        const int exponent = exponent_of(x + first, n);
        const float inverse = power_of_two(22 - exponent);
        int32_t sum = 0;

        for (size_t at = 0; at < n; at += QRB__CODE_BLOCK) {
            const size_t block = n - at < QRB__CODE_BLOCK
                                     ? n - at
                                     : (size_t)QRB__CODE_BLOCK;

            to_integers(x + first + at, block, inverse, integers);
            for (size_t i = 0; i < QRB__CODE_BLOCK; i++) {
                const int32_t q = integers[i];
                /* Digits of -128..127: a carry each of 128. */
                const int32_t middle = (q + 128) >> 8;

                sum += q;
                digits[0][i] = (int8_t)(q - middle * 256);
                digits[2][i] = (int8_t)((middle + 128) >> 8);
                digits[1][i] =
                    (int8_t)(middle - ((middle + 128) >> 8) * 256);
            }
            for (size_t p = 0; p < QRB__CODE_PLANES; p++)
                permute(bits, digits[p], out + p * QRB__CODE_BLOCK);
            out += apart;
        }
        steps[s * steps_apart] = power_of_two(exponent - 22);
        sums[s * steps_apart] = (float)sum;
    }
}

static void round_to_bytes(const float *x, float step, size_t cols,
                           size_t segment, uint32_t bits, size_t apart,
                           int8_t *out, size_t steps_apart, float *steps,
                           float *sums)
{
    int32_t integers[QRB__CODE_BLOCK];
    float quotients[QRB__CODE_BLOCK];
    int8_t bytes[QRB__CODE_BLOCK];

    for (size_t first = 0, s = 0; first < cols; first += segment, s++) {
        const size_t left = cols - first;
        const size_t n = left < segment ? left : segment;
        int32_t sum = 0;

        for (size_t at = 0; at < n; at += QRB__CODE_BLOCK) {
            const size_t block = n - at < QRB__CODE_BLOCK
                                     ? n - at
                                     : (size_t)QRB__CODE_BLOCK;

            for (size_t i = 0; i < block; i++)
                quotients[i] = x[first + at + i] / step;
            to_integers(quotients, block, 1, integers);
            for (size_t i = 0; i < QRB__CODE_BLOCK; i++) {
                sum += integers[i];
                bytes[i] = (int8_t)integers[i];
            }
            permute(bits, bytes, out);
            out += apart;
        }
        steps[s * steps_apart] = step;
        sums[s * steps_apart] = (float)sum;
    }
}

#endif
