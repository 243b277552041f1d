/* Vectors of bytes, beside those of simd.h: what products of codes are made
 * of.  With QRB_VNNI sums of four products of bytes are one instruction. */
#ifndef QRB_KERNEL_SIMD_CODES_H
#define QRB_KERNEL_SIMD_CODES_H

#include <string.h>

#include "kernel/simd.h"

#if defined(QRB_VNNI)
#define CODES(name) name##_vnni
#elif LANES == 16
#define CODES(name) name##_avx512
#else
#define CODES(name) name##_avx2
#endif

#if LANES == 16
static inline veci bytes_load(const void *x)
{
    return _mm512_load_si512(x);
}

static inline void bytes_store(void *x, veci v)
{
    _mm512_store_si512(x, v);
}

/* Bits of a where the mask has them, else those of b. */
static inline veci veci_blend(uint32_t mask, veci a, veci b)
{
    return _mm512_ternarylogic_epi32(veci_set(mask), a, b, 0xca);
}

static inline veci words_add(veci a, veci b)
{
    return _mm512_add_epi16(a, b);
}

/* Sums of two products each of bytes of codes and signed bytes; they fit. */
static inline veci words_of_products(veci codes, veci x)
{
    return _mm512_maddubs_epi16(codes, x);
}

/* a + factor times the sums of pairs of words. */
static inline veci veci_add_pairs(veci a, veci words, int factor)
{
    return _mm512_add_epi32(
        a, _mm512_madd_epi16(words, _mm512_set1_epi16((short)factor)));
}

/* Four bytes for every lane. */
static inline veci bytes_repeat(const int8_t *x)
{
    int32_t word;

    memcpy(&word, x, sizeof word);
    return _mm512_set1_epi32(word);
}

#if defined(QRB_VNNI)
static inline veci veci_add_products(veci a, veci codes, veci x)
{
    return _mm512_dpbusd_epi32(a, codes, x);
}
#endif

/* Words 0..3 at x of rows a, a + 4, a + 8 and a + 12. */
static inline vec rows_load(const uint8_t *x, size_t apart)
{
    __m512 rows =
        _mm512_castps128_ps512(_mm_loadu_ps((const float *)(const void *)x));

    rows = _mm512_mask_broadcast_f32x4(
        rows, 0x00f0,
        _mm_loadu_ps((const float *)(const void *)(x + 4 * apart)));
    rows = _mm512_mask_broadcast_f32x4(
        rows, 0x0f00,
        _mm_loadu_ps((const float *)(const void *)(x + 8 * apart)));
    return _mm512_mask_broadcast_f32x4(
        rows, 0xf000,
        _mm_loadu_ps((const float *)(const void *)(x + 12 * apart)));
}

static inline vec vec_of_halves(const uint16_t *x)
{
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)x));
}

static inline vec vec_of_bytes(const uint8_t *x)
{
    return veci_to_vec(_mm512_cvtepu8_epi32(
        _mm_loadu_si128((const __m128i *)(const void *)x)));
}
#else
static inline veci bytes_load(const void *x)
{
    return _mm256_load_si256(x);
}

static inline void bytes_store(void *x, veci v)
{
    _mm256_store_si256(x, v);
}

static inline veci veci_blend(uint32_t mask, veci a, veci b)
{
    return veci_or(veci_and(veci_set(mask), a),
                   _mm256_andnot_si256(veci_set(mask), b));
}

static inline veci words_add(veci a, veci b)
{
    return _mm256_add_epi16(a, b);
}

static inline veci words_of_products(veci codes, veci x)
{
    return _mm256_maddubs_epi16(codes, x);
}

static inline veci veci_add_pairs(veci a, veci words, int factor)
{
    return _mm256_add_epi32(
        a, _mm256_madd_epi16(words, _mm256_set1_epi16((short)factor)));
}

static inline veci bytes_repeat(const int8_t *x)
{
    int32_t word;

    memcpy(&word, x, sizeof word);
    return _mm256_set1_epi32(word);
}

static inline vec rows_load(const uint8_t *x, size_t apart)
{
    return _mm256_insertf128_ps(
        _mm256_castps128_ps256(_mm_loadu_ps((const float *)(const void *)x)),
        _mm_loadu_ps((const float *)(const void *)(x + 4 * apart)), 1);
}

static inline vec vec_of_halves(const uint16_t *x)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)x));
}

static inline vec vec_of_bytes(const uint8_t *x)
{
    return veci_to_vec(_mm256_cvtepu8_epi32(
        _mm_loadl_epi64((const __m128i *)(const void *)x)));
}
#endif

#endif
