/* Sums over arrays in vectors of doubles (real_vector.c). */
#include "kernel/simd.h"

static double dot(const float *x, const float *y, size_t n)
{
    struct sum even = sum_zero();
    struct sum odd = sum_zero(); /* a second chain hides the latency */
    size_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        sum_add_product(&even, vec_load(x + i), vec_load(y + i));
        sum_add_product(&odd, vec_load(x + i + LANES),
                        vec_load(y + i + LANES));
    }
    for (; i < n; i += LANES) {
        const vec_mask rest = vec_first(n - i < LANES ? n - i : LANES);

        sum_add_product(&even, vec_load_masked(x + i, rest),
                        vec_load_masked(y + i, rest));
    }
    return sum_total(even) + sum_total(odd);
}

/* The difference is taken in double, as in the twin. */
static inline void sum_add_difference(struct sum *sum, vec x, vec y)
{
    const vecd low = vecd_sub(vecd_low(x), vecd_low(y));
    const vecd high = vecd_sub(vecd_high(x), vecd_high(y));

    sum->low = vecd_fma(low, low, sum->low);
    sum->high = vecd_fma(high, high, sum->high);
}

static double squared_distance(const float *x, const float *y, size_t n)
{
    struct sum even = sum_zero();
    struct sum odd = sum_zero();
    size_t i = 0;

    for (; i + 2 * LANES <= n; i += 2 * LANES) {
        sum_add_difference(&even, vec_load(x + i), vec_load(y + i));
        sum_add_difference(&odd, vec_load(x + i + LANES),
                           vec_load(y + i + LANES));
    }
    for (; i < n; i += LANES) {
        const vec_mask rest = vec_first(n - i < LANES ? n - i : LANES);

        sum_add_difference(&even, vec_load_masked(x + i, rest),
                           vec_load_masked(y + i, rest));
    }
    return sum_total(even) + sum_total(odd);
}

void SIMD(qrb__sums)(struct qrb__kernels *kernels)
{
    kernels->f32.dot = dot;
    kernels->f32.squared_distance = squared_distance;
}
