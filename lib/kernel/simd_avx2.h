/* The vectors of simd.h in AVX2; simd_avx512.h says what each does. */
#ifndef QRB_KERNEL_SIMD_AVX2_H
#define QRB_KERNEL_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define SIMD(name) name##_avx2
#define LANES 8

typedef __m256 vec;
typedef __m256i veci;
typedef __m256d vecd;
typedef __m256 vec_mask; /* the sign bit of each lane */

static inline vec vec_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec vec_load(const float *x)
{
    return _mm256_loadu_ps(x);
}

static inline void vec_store(float *x, vec v)
{
    _mm256_storeu_ps(x, v);
}

static inline vec_mask vec_first(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_castsi256_ps(
        _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane));
}

static inline vec vec_load_masked(const float *x, vec_mask mask)
{
    return _mm256_maskload_ps(x, _mm256_castps_si256(mask));
}

static inline void vec_store_masked(float *x, vec_mask mask, vec v)
{
    _mm256_maskstore_ps(x, _mm256_castps_si256(mask), v);
}

static inline vec vec_select(vec_mask mask, vec a, vec b)
{
    return _mm256_blendv_ps(b, a, mask);
}

static inline vec_mask vec_less(vec a, vec b)
{
    return _mm256_cmp_ps(a, b, _CMP_LT_OQ);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

static inline vec vec_sub(vec a, vec b)
{
    return _mm256_sub_ps(a, b);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

static inline vec vec_div(vec a, vec b)
{
    return _mm256_div_ps(a, b);
}

static inline vec vec_sqrt(vec a)
{
    return _mm256_sqrt_ps(a);
}

static inline vec vec_max(vec a, vec b)
{
    return _mm256_max_ps(a, b);
}

static inline vec vec_min(vec a, vec b)
{
    return _mm256_min_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_fnma(vec a, vec b, vec c)
{
    return _mm256_fnmadd_ps(a, b, c);
}

static inline vec vec_fma_minus_plus(vec a, vec b, vec c)
{
    return _mm256_fmaddsub_ps(a, b, c);
}

static inline vec vec_fma_plus_minus(vec a, vec b, vec c)
{
    return _mm256_fmsubadd_ps(a, b, c);
}

static inline vec vec_swap_pairs(vec a)
{
    return _mm256_permute_ps(a, 0xb1);
}

static inline vec vec_load_twice(const float *x)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);

    return _mm256_permutevar8x32_ps(_mm256_castps128_ps256(_mm_loadu_ps(x)),
                                    twice);
}

static inline float vec_max_lane(vec a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a),
                          _mm256_extractf128_ps(a, 1));

    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

static inline float vec_sum_lanes(vec a)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(a),
                          _mm256_extractf128_ps(a, 1));

    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

static inline vec vec_round(vec a)
{
    return _mm256_round_ps(a, 0x08);
}

/* In two factors, since 2^n itself may be no normal float. */
static inline vec vec_scale(vec a, vec n)
{
    const __m256i whole = _mm256_cvtps_epi32(n);
    const __m256i half = _mm256_srai_epi32(whole, 1);
    const __m256i rest = _mm256_sub_epi32(whole, half);
    const __m256i bias = _mm256_set1_epi32(127);
    const vec x = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
    const vec y = _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));

    return _mm256_mul_ps(_mm256_mul_ps(a, x), y);
}

static inline vecd vecd_zero(void)
{
    return _mm256_setzero_pd();
}

static inline vecd vecd_low(vec a)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(a));
}

static inline vecd vecd_high(vec a)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(a, 1));
}

static inline vecd vecd_add(vecd a, vecd b)
{
    return _mm256_add_pd(a, b);
}

static inline vecd vecd_sub(vecd a, vecd b)
{
    return _mm256_sub_pd(a, b);
}

static inline vecd vecd_fma(vecd a, vecd b, vecd c)
{
    return _mm256_fmadd_pd(a, b, c);
}

static inline double vecd_sum(vecd a)
{
    const __m128d s = _mm_add_pd(_mm256_castpd256_pd128(a),
                                 _mm256_extractf128_pd(a, 1));

    return _mm_cvtsd_f64(_mm_add_sd(s, _mm_unpackhi_pd(s, s)));
}

static inline veci veci_set(uint32_t x)
{
    return _mm256_set1_epi32((int)x);
}

static inline veci veci_load(const uint32_t *x)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)x);
}

static inline veci veci_add(veci a, veci b)
{
    return _mm256_add_epi32(a, b);
}

static inline veci veci_sub(veci a, veci b)
{
    return _mm256_sub_epi32(a, b);
}

static inline veci veci_and(veci a, veci b)
{
    return _mm256_and_si256(a, b);
}

static inline veci veci_or(veci a, veci b)
{
    return _mm256_or_si256(a, b);
}

static inline veci veci_xor(veci a, veci b)
{
    return _mm256_xor_si256(a, b);
}

static inline veci veci_left(veci a, unsigned bits)
{
    return _mm256_slli_epi32(a, (int)bits);
}

static inline veci veci_right(veci a, unsigned bits)
{
    return _mm256_srli_epi32(a, (int)bits);
}

static inline veci veci_multiply(veci a, veci b, veci *high)
{
    const veci even = _mm256_mul_epu32(a, b);
    const veci odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32),
                                      _mm256_srli_epi64(b, 32));

    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static inline vec_mask veci_test(veci a, uint32_t bit)
{
    const veci mask = veci_set(bit);

    return _mm256_castsi256_ps(
        _mm256_cmpeq_epi32(_mm256_and_si256(a, mask), mask));
}

static inline vec veci_to_vec(veci a)
{
    return _mm256_cvtepi32_ps(a);
}

static inline veci vec_bits(vec a)
{
    return _mm256_castps_si256(a);
}

static inline vec vec_of_bits(veci a)
{
    return _mm256_castsi256_ps(a);
}

static inline void vec_transpose_groups(vec r[4])
{
    const vec a = _mm256_unpacklo_ps(r[0], r[1]);
    const vec b = _mm256_unpackhi_ps(r[0], r[1]);
    const vec c = _mm256_unpacklo_ps(r[2], r[3]);
    const vec d = _mm256_unpackhi_ps(r[2], r[3]);

    r[0] = _mm256_shuffle_ps(a, c, 0x44);
    r[1] = _mm256_shuffle_ps(a, c, 0xee);
    r[2] = _mm256_shuffle_ps(b, d, 0x44);
    r[3] = _mm256_shuffle_ps(b, d, 0xee);
}

static inline void vec_transpose(vec r[LANES])
{
    vec t[8];

    vec_transpose_groups(r);
    vec_transpose_groups(r + 4);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

#endif
