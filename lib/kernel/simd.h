/* Vectors of floats, in the words of the instruction set that a file is
 * compiled for: QRB_SIMD is 256 (AVX2, FMA, F16C) or 512 (AVX-512 F, BW, DQ,
 * VL), and the build compiles each simd_*.c once for either.  SIMD(name) is
 * the name with its set. */
#ifndef QRB_KERNEL_SIMD_H
#define QRB_KERNEL_SIMD_H

#include "kernel/kernels.h"

#if !defined(QRB_SIMD)
#error "QRB_SIMD is 256 or 512: the build compiles this file for each set"
#elif QRB_SIMD == 512
#include "kernel/simd_avx512.h"
#elif QRB_SIMD == 256
#include "kernel/simd_avx2.h"
#endif

/* The families of this set. */
void SIMD(qrb__code_decode)(struct qrb__code_kernels *kernels);
void SIMD(qrb__code_lookup)(struct qrb__code_kernels *kernels);
void SIMD(qrb__code_product)(struct qrb__code_kernels *kernels);
void SIMD(qrb__code_split)(struct qrb__code_kernels *kernels);
void SIMD(qrb__convert)(struct qrb__kernels *kernels);
void SIMD(qrb__norm)(struct qrb__kernels *kernels);
void SIMD(qrb__normals)(struct qrb__kernels *kernels);
void SIMD(qrb__product)(struct qrb__kernels *kernels);
void SIMD(qrb__rotary)(struct qrb__kernels *kernels);
void SIMD(qrb__softmax)(struct qrb__kernels *kernels);
void SIMD(qrb__sums)(struct qrb__kernels *kernels);
void SIMD(qrb__swiglu)(struct qrb__kernels *kernels);

/* A sum of floats in double, two vectors wide. */
struct sum {
    vecd low;
    vecd high;
};

static inline struct sum sum_zero(void)
{
    return (struct sum){ vecd_zero(), vecd_zero() };
}

static inline void sum_add(struct sum *sum, vec a)
{
    sum->low = vecd_add(sum->low, vecd_low(a));
    sum->high = vecd_add(sum->high, vecd_high(a));
}

/* sum += a b; the products of floats are exact. */
static inline void sum_add_product(struct sum *sum, vec a, vec b)
{
    sum->low = vecd_fma(vecd_low(a), vecd_low(b), sum->low);
    sum->high = vecd_fma(vecd_high(a), vecd_high(b), sum->high);
}

static inline double sum_total(struct sum sum)
{
    return vecd_sum(vecd_add(sum.low, sum.high));
}

/* exp(x) within 1 ulp or so: x = n ln 2 + r with |r| <= ln 2 / 2, the series
 * of exp(r) to the seventh power, times 2^n.  Overflows to infinity, goes to
 * subnormals and zero, and keeps NaN. */
static inline vec vec_exp(vec x)
{
    const vec log2_e = vec_set(0x1.715476p+0f);
    const vec ln2_high = vec_set(0x1.62e400p-1f); /* 15 bits: n of them fit */
    const vec ln2_low = vec_set(0x1.7f7d1cp-20f);
    vec n;
    vec r;
    vec y;

    /* Beyond these the result is 0 or infinite; NaN is the second operand. */
    x = vec_max(vec_set(-105.0f), vec_min(vec_set(90.0f), x));
    n = vec_round(vec_mul(x, log2_e));
    r = vec_fnma(n, ln2_low, vec_fnma(n, ln2_high, x));
    y = vec_set(1.0f / 5040);
    y = vec_fma(y, r, vec_set(1.0f / 720));
    y = vec_fma(y, r, vec_set(1.0f / 120));
    y = vec_fma(y, r, vec_set(1.0f / 24));
    y = vec_fma(y, r, vec_set(1.0f / 6));
    y = vec_fma(y, r, vec_set(0.5f));
    y = vec_fma(y, vec_mul(r, r), r);
    return vec_scale(vec_add(vec_set(1.0f), y), n);
}

#endif
