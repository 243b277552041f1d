/* The vectors of simd.h in AVX-512. */
#ifndef QRB_KERNEL_SIMD_AVX512_H
#define QRB_KERNEL_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define SIMD(name) name##_avx512
#define LANES 16

typedef __m512 vec;
typedef __m512i veci;
typedef __m512d vecd; /* half as many lanes */
typedef __mmask16 vec_mask;

static inline vec vec_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_load(const float *x)
{
    return _mm512_loadu_ps(x);
}

static inline void vec_store(float *x, vec v)
{
    _mm512_storeu_ps(x, v);
}

/* The first n lanes, n <= LANES. */
static inline vec_mask vec_first(size_t n)
{
    return (vec_mask)((1u << n) - 1);
}

/* Zero in the other lanes, whose memory is not touched. */
static inline vec vec_load_masked(const float *x, vec_mask mask)
{
    return _mm512_maskz_loadu_ps(mask, x);
}

static inline void vec_store_masked(float *x, vec_mask mask, vec v)
{
    _mm512_mask_storeu_ps(x, mask, v);
}

/* a in the lanes of the mask, b in the others. */
static inline vec vec_select(vec_mask mask, vec a, vec b)
{
    return _mm512_mask_blend_ps(mask, b, a);
}

static inline vec_mask vec_less(vec a, vec b)
{
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm512_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm512_div_ps(a, b);
}

static inline vec vec_sqrt(vec a)
{
    return _mm512_sqrt_ps(a);
}

/* b where either is NaN. */
static inline vec vec_max(vec a, vec b)
{
    return _mm512_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm512_min_ps(a, b);
}

/* a b + c with one rounding. */
static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* c - a b with one rounding. */
static inline vec vec_fnma(vec a, vec b, vec c)
{
    return _mm512_fnmadd_ps(a, b, c);
}

/* a b -+ c: minus in even lanes, plus in odd ones; and the other way round. */
static inline vec vec_fma_minus_plus(vec a, vec b, vec c)
{
    return _mm512_fmaddsub_ps(a, b, c);
}

static inline vec vec_fma_plus_minus(vec a, vec b, vec c)
{
    return _mm512_fmsubadd_ps(a, b, c);
}

static inline vec vec_swap_pairs(vec a)
{
    return _mm512_permute_ps(a, 0xb1);
}

/* x[0], x[0], x[1], x[1], ... of the first LANES / 2. */
static inline vec vec_load_twice(const float *x)
{
    const veci twice = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6,
                                         6, 7, 7);

    return _mm512_permutexvar_ps(twice,
                                 _mm512_castps256_ps512(_mm256_loadu_ps(x)));
}

static inline float vec_max_lane(vec a)
{
    return _mm512_reduce_max_ps(a);
}

static inline float vec_sum_lanes(vec a)
{
    return _mm512_reduce_add_ps(a);
}

/* To the nearest integer, ties to even. */
static inline vec vec_round(vec a)
{
    return _mm512_roundscale_ps(a, 0x08);
}

/* a 2^n for integral n, rounded once where the result is subnormal. */
static inline vec vec_scale(vec a, vec n)
{
    return _mm512_scalef_ps(a, n);
}

static inline vecd vecd_zero(void)
{
    return _mm512_setzero_pd();
}

static inline vecd vecd_low(vec a)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}

static inline vecd vecd_high(vec a)
{
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
}

static inline vecd vecd_add(vecd a, vecd b)
{
    return _mm512_add_pd(a, b);
}

static inline vecd vecd_sub(vecd a, vecd b)
{
    return _mm512_sub_pd(a, b);
}

static inline vecd vecd_fma(vecd a, vecd b, vecd c)
{
    return _mm512_fmadd_pd(a, b, c);
}

static inline double vecd_sum(vecd a)
{
    return _mm512_reduce_add_pd(a);
}

static inline veci veci_set(uint32_t x)
{
    return _mm512_set1_epi32((int)x);
}

static inline veci veci_load(const uint32_t *x)
{
    return _mm512_loadu_si512(x);
}

static inline veci veci_add(veci a, veci b)
{
    return _mm512_add_epi32(a, b);
}

static inline veci veci_sub(veci a, veci b)
{
    return _mm512_sub_epi32(a, b);
}

static inline veci veci_and(veci a, veci b)
{
    return _mm512_and_si512(a, b);
}

static inline veci veci_or(veci a, veci b)
{
    return _mm512_or_si512(a, b);
}

static inline veci veci_xor(veci a, veci b)
{
    return _mm512_xor_si512(a, b);
}

static inline veci veci_left(veci a, unsigned bits)
{
    return _mm512_slli_epi32(a, bits);
}

static inline veci veci_right(veci a, unsigned bits)
{
    return _mm512_srli_epi32(a, bits);
}

/* Both halves of the 64-bit products of all lanes. */
static inline veci veci_multiply(veci a, veci b, veci *high)
{
    const veci even = _mm512_mul_epu32(a, b);
    const veci odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32),
                                      _mm512_srli_epi64(b, 32));

    *high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return _mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
}

/* Lanes whose bit of a is set. */
static inline vec_mask veci_test(veci a, uint32_t bit)
{
    return _mm512_test_epi32_mask(a, veci_set(bit));
}

static inline vec veci_to_vec(veci a)
{
    return _mm512_cvtepi32_ps(a);
}

static inline veci vec_bits(vec a)
{
    return _mm512_castps_si512(a);
}

static inline vec vec_of_bits(veci a)
{
    return _mm512_castsi512_ps(a);
}

/* Each group of four lanes of the four vectors, as a matrix, transposed. */
static inline void vec_transpose_groups(vec r[4])
{
    const vec a = _mm512_unpacklo_ps(r[0], r[1]);
    const vec b = _mm512_unpackhi_ps(r[0], r[1]);
    const vec c = _mm512_unpacklo_ps(r[2], r[3]);
    const vec d = _mm512_unpackhi_ps(r[2], r[3]);

    r[0] = _mm512_shuffle_ps(a, c, 0x44);
    r[1] = _mm512_shuffle_ps(a, c, 0xee);
    r[2] = _mm512_shuffle_ps(b, d, 0x44);
    r[3] = _mm512_shuffle_ps(b, d, 0xee);
}

/* LANES vectors, as rows of a matrix, become its columns. */
static inline void vec_transpose(vec r[LANES])
{
    vec t[16];

#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
        vec_transpose_groups(r + i);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

#endif
