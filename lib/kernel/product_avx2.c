/* Tiles of matrix products with AVX2: 6 rows of two vectors of C, the two of B
 * and one of A fill 15 of the 16 registers. */
#include <immintrin.h>

#include "kernel/avx2.h"

enum { LANES = 8 };
#define ROWS 6

typedef __m256 vector;
typedef __m256i vector_mask;

static inline vector vector_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vector vector_load(const float *x)
{
    return _mm256_loadu_ps(x);
}

static inline void vector_store(float *x, vector value)
{
    _mm256_storeu_ps(x, value);
}

static inline vector vector_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline vector vector_fma(vector a, vector b, vector c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vector vector_mul(vector a, vector b)
{
    return _mm256_mul_ps(a, b);
}

static inline vector_mask vector_first(size_t n)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);

    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), lane);
}

static inline vector vector_load_first(const float *x, vector_mask mask)
{
    return _mm256_maskload_ps(x, mask);
}

static inline void vector_store_first(float *x, vector_mask mask, vector value)
{
    _mm256_maskstore_ps(x, mask, value);
}

/* Eight vectors, as rows of a matrix, become its columns. */
static inline void transpose(vector r[8])
{
    vector t[8];

#pragma GCC unroll 4
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    /* Each 128-bit lane holds a transposed block of 4 x 4. */
#pragma GCC unroll 2
    for (int i = 0; i < 8; i += 4) {
        r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
        t[i + 4] = _mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
    }
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++)
        r[i] = t[i];
}

#include "kernel/product_simd.h"

void qrb__avx2_product(struct qrb__kernels *kernels)
{
    kernels->f32.product = product;
}
