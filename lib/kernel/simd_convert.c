/* 16-bit floats in vectors; NaN as in the twins (ref.c).  Tails go through a
 * vector on the stack. */
#include <string.h>

#include "kernel/simd.h"

/* LANES values of 16 bits. */
#if LANES == 16
typedef __m256i halves;

static inline halves load_halves(const uint16_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

static inline void store_halves(uint16_t *x, halves v)
{
    _mm256_storeu_si256((__m256i *)(void *)x, v);
}

static inline vec from_f16(halves x)
{
    return _mm512_cvtph_ps(x);
}

static inline halves to_f16(vec x)
{
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline veci widen(halves x)
{
    return _mm512_cvtepu16_epi32(x);
}

static inline halves narrow(veci x)
{
    return _mm512_cvtepi32_epi16(x);
}

static inline vec_mask is_nan(vec x)
{
    return _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
}
#else
typedef __m128i halves;

static inline halves load_halves(const uint16_t *x)
{
    return _mm_loadu_si128((const __m128i *)(const void *)x);
}

static inline void store_halves(uint16_t *x, halves v)
{
    _mm_storeu_si128((__m128i *)(void *)x, v);
}

static inline vec from_f16(halves x)
{
    return _mm256_cvtph_ps(x);
}

static inline halves to_f16(vec x)
{
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline veci widen(halves x)
{
    return _mm256_cvtepu16_epi32(x);
}

/* The upper half of each lane is 0, so that saturation does not act. */
static inline halves narrow(veci x)
{
    return _mm_packus_epi32(_mm256_castsi256_si128(x),
                            _mm256_extracti128_si256(x, 1));
}

static inline vec_mask is_nan(vec x)
{
    return _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
}
#endif

static inline vec from_bf16(halves x)
{
    return vec_of_bits(veci_left(widen(x), 16));
}

/* To nearest even by adding just under half a unit, and one more where the
 * result would be odd; the carry does the rest, up to infinity. */
static inline halves to_bf16(vec x)
{
    const veci bits = vec_bits(x);
    const veci odd = veci_and(veci_right(bits, 16), veci_set(1));
    const veci nearest =
        veci_right(veci_add(bits, veci_add(odd, veci_set(0x7fffu))), 16);
    const veci quiet = veci_right(veci_or(bits, veci_set(0x400000u)), 16);

    return narrow(vec_bits(vec_select(is_nan(x), vec_of_bits(quiet),
                                      vec_of_bits(nearest))));
}

#define WIDEN(name, convert)                                                  \
    static void name(const uint16_t *x, size_t n, float *y)                   \
    {                                                                         \
        uint16_t tail[LANES] = { 0 };                                         \
        size_t i = 0;                                                         \
                                                                              \
        for (; i + LANES <= n; i += LANES)                                    \
            vec_store(y + i, convert(load_halves(x + i)));                    \
        if (i < n) {                                                          \
            memcpy(tail, x + i, (n - i) * sizeof *tail);                      \
            vec_store_masked(y + i, vec_first(n - i),                         \
                             convert(load_halves(tail)));                     \
        }                                                                     \
    }
#define NARROW(name, convert)                                                 \
    static void name(const float *x, size_t n, uint16_t *y)                   \
    {                                                                         \
        uint16_t tail[LANES];                                                 \
        size_t i = 0;                                                         \
                                                                              \
        for (; i + LANES <= n; i += LANES)                                    \
            store_halves(y + i, convert(vec_load(x + i)));                    \
        if (i < n) {                                                          \
            store_halves(tail,                                                \
                         convert(vec_load_masked(x + i, vec_first(n - i))));  \
            memcpy(y + i, tail, (n - i) * sizeof *tail);                      \
        }                                                                     \
    }

WIDEN(f16_to_f32, from_f16)
WIDEN(bf16_to_f32, from_bf16)
NARROW(f32_to_f16, to_f16)
NARROW(f32_to_bf16, to_bf16)

void SIMD(qrb__convert)(struct qrb__kernels *kernels)
{
    kernels->f16_to_f32 = f16_to_f32;
    kernels->f32_to_f16 = f32_to_f16;
    kernels->bf16_to_f32 = bf16_to_f32;
    kernels->f32_to_bf16 = f32_to_bf16;
}
