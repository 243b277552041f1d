/* Softmax, its gradient and the negative log-likelihood in vectors; the plain
 * twins (real_softmax.c) say what they compute.  A maximum skips NaN here and
 * there, but the sum of exponentials does not.
 *
 * A short row is a chain of latencies: maximum, exponentials, sum, quotient.
 * TOGETHER rows take each step one after the other, so that the processor
 * overlaps them, and stay in the first level of the cache meanwhile. */
#include <math.h>

#include "kernel/simd.h"

enum { TOGETHER = 8 };

/* z [n], n >= 1. */
static float maximum(const float *z, size_t n)
{
    vec top = vec_set(-INFINITY);
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        top = vec_max(vec_load(z + i), top);
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        top = vec_max(vec_select(rest, vec_load_masked(z + i, rest), top),
                      top);
    }
    return vec_max_lane(top);
}

/* The sum of e = exp(z - top); e goes to out unless that is NULL. */
static inline double exponentials(const float *z, size_t n, float top,
                                  float *out)
{
    const vec shift = vec_set(top);
    struct sum sum = sum_zero();
    size_t i = 0;

    /* Four at a time go into the double sum together: they are positive, so
     * that costs half an ulp or two of a float, and saves conversions. */
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        vec e[4];

#pragma GCC unroll 4
        for (size_t j = 0; j < 4; j++) {
            e[j] = vec_exp(vec_sub(vec_load(z + i + j * LANES), shift));
            if (out != NULL)
                vec_store(out + i + j * LANES, e[j]);
        }
        sum_add(&sum, vec_add(vec_add(e[0], e[1]), vec_add(e[2], e[3])));
    }
    for (; i + LANES <= n; i += LANES) {
        const vec e = vec_exp(vec_sub(vec_load(z + i), shift));

        sum_add(&sum, e);
        if (out != NULL)
            vec_store(out + i, e);
    }
    if (i < n) {
        const vec_mask rest = vec_first(n - i);
        const vec e = vec_select(
            rest, vec_exp(vec_sub(vec_load_masked(z + i, rest), shift)),
            vec_set(0));

        sum_add(&sum, e);
        if (out != NULL)
            vec_store_masked(out + i, rest, e);
    }
    return sum_total(sum);
}

static void scale(float factor, size_t n, float *z)
{
    const vec f = vec_set(factor);
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        vec_store(z + i, vec_mul(vec_load(z + i), f));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        vec_store_masked(z + i, rest,
                         vec_mul(vec_load_masked(z + i, rest), f));
    }
}

static void clear(float *z, size_t n)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        vec_store(z + i, vec_set(0));
    if (i < n)
        vec_store_masked(z + i, vec_first(n - i), vec_set(0));
}

static void softmax(float *z, size_t stride, size_t rows, size_t n,
                    size_t cols)
{
    float top[TOGETHER];
    float factor[TOGETHER];

    while (rows > 0) {
        const size_t count = rows < TOGETHER ? rows : (size_t)TOGETHER;

        for (size_t r = 0; r < count; r++)
            top[r] = maximum(z + r * stride, n + r);
        for (size_t r = 0; r < count; r++)
            factor[r] = (float)(1.0 / exponentials(z + r * stride, n + r,
                                                   top[r], z + r * stride));
        for (size_t r = 0; r < count; r++) {
            scale(factor[r], n + r, z + r * stride);
            clear(z + r * stride + n + r, cols - n - r);
        }
        z += count * stride;
        n += count;
        rows -= count;
    }
}

/* sum p dp over [0, n) */
static double sum_of_products(const float *p, const float *dp, size_t n)
{
    struct sum sum = sum_zero();
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        sum_add_product(&sum, vec_load(p + i), vec_load(dp + i));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        sum_add_product(&sum, vec_load_masked(p + i, rest),
                        vec_load_masked(dp + i, rest));
    }
    return sum_total(sum);
}

/* dp <- p (dp - mean) over [0, n) */
static void spread(const float *p, float mean, size_t n, float *dp)
{
    const vec shift = vec_set(mean);
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        vec_store(dp + i,
                  vec_mul(vec_load(p + i), vec_sub(vec_load(dp + i), shift)));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        vec_store_masked(dp + i, rest,
                         vec_mul(vec_load_masked(p + i, rest),
                                 vec_sub(vec_load_masked(dp + i, rest),
                                         shift)));
    }
}

static void softmax_grad(const float *p, float *dp, size_t stride, size_t rows,
                         size_t n, size_t cols)
{
    float mean[TOGETHER];

    while (rows > 0) {
        const size_t count = rows < TOGETHER ? rows : (size_t)TOGETHER;

        for (size_t r = 0; r < count; r++)
            mean[r] = (float)sum_of_products(p + r * stride, dp + r * stride,
                                             n + r);
        for (size_t r = 0; r < count; r++) {
            spread(p + r * stride, mean[r], n + r, dp + r * stride);
            clear(dp + r * stride + n + r, cols - n - r);
        }
        p += count * stride;
        dp += count * stride;
        n += count;
        rows -= count;
    }
}

static double nll(const float *logits, size_t cols, size_t target)
{
    const float top = maximum(logits, cols);

    return log(exponentials(logits, cols, top, NULL)) -
           ((double)logits[target] - (double)top);
}

static double nll_grad(float *logits, size_t cols, size_t target, double factor)
{
    const float top = maximum(logits, cols);
    const double below = (double)logits[target] - (double)top;
    const double sum = exponentials(logits, cols, top, logits);

    scale((float)(factor / sum), cols, logits);
    logits[target] = (float)(factor * (exp(below) / sum - 1.0));
    return log(sum) - below;
}

void SIMD(qrb__softmax)(struct qrb__kernels *kernels)
{
    kernels->f32.softmax = softmax;
    kernels->f32.softmax_grad = softmax_grad;
    kernels->f32.nll = nll;
    kernels->f32.nll_grad = nll_grad;
}
