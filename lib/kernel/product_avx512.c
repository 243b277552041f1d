/* Tiles of matrix products with AVX-512: 14 rows of two vectors of C, the two
 * of B and one of A fill 31 of the 32 registers. */
#include <immintrin.h>

#include "kernel/avx512.h"

enum { LANES = 16 };
#define ROWS 14

typedef __m512 vector;
typedef __mmask16 vector_mask;

static inline vector vector_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vector vector_load(const float *x)
{
    return _mm512_loadu_ps(x);
}

static inline void vector_store(float *x, vector value)
{
    _mm512_storeu_ps(x, value);
}

static inline vector vector_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline vector vector_fma(vector a, vector b, vector c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vector vector_mul(vector a, vector b)
{
    return _mm512_mul_ps(a, b);
}

static inline vector_mask vector_first(size_t n)
{
    return (vector_mask)((1u << n) - 1);
}

static inline vector vector_load_first(const float *x, vector_mask mask)
{
    return _mm512_maskz_loadu_ps(mask, x);
}

static inline void vector_store_first(float *x, vector_mask mask, vector value)
{
    _mm512_mask_storeu_ps(x, mask, value);
}

/* Sixteen vectors, as rows of a matrix, become its columns. */
static inline void transpose(vector r[16])
{
    vector t[16];

#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
    }
    /* Each 128-bit lane holds a transposed block of 4 x 4. */
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4) {
        const __m512d a = _mm512_castps_pd(t[i]);
        const __m512d b = _mm512_castps_pd(t[i + 1]);
        const __m512d c = _mm512_castps_pd(t[i + 2]);
        const __m512d d = _mm512_castps_pd(t[i + 3]);

        r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
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

#include "kernel/product_simd.h"

void qrb__avx512_product(struct qrb__kernels *kernels)
{
    kernels->f32.product = product;
}
