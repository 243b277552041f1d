/* Softmax, its gradient and the negative log-likelihood in vectors; the plain
 * twins (real_softmax.c) say what they compute.  A maximum skips NaN here and
 * there, but the sum of exponentials does not. */
#include <math.h>

#include "kernel/simd.h"

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

static void softmax(float *z, size_t n, size_t cols)
{
    const double sum = exponentials(z, n, maximum(z, n), z);

    scale((float)(1.0 / sum), n, z);
    clear(z + n, cols - n);
}

static void softmax_grad(const float *p, float *dp, size_t n, size_t cols)
{
    struct sum sum = sum_zero();
    vec mean;
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        sum_add_product(&sum, vec_load(p + i), vec_load(dp + i));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        sum_add_product(&sum, vec_load_masked(p + i, rest),
                        vec_load_masked(dp + i, rest));
    }
    mean = vec_set((float)sum_total(sum));
    for (i = 0; i + LANES <= n; i += LANES)
        vec_store(dp + i,
                  vec_mul(vec_load(p + i), vec_sub(vec_load(dp + i), mean)));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        vec_store_masked(dp + i, rest,
                         vec_mul(vec_load_masked(p + i, rest),
                                 vec_sub(vec_load_masked(dp + i, rest),
                                         mean)));
    }
    clear(dp + n, cols - n);
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
