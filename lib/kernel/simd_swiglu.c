/* The gated unit in vectors (real_swiglu.c).  Tails run through the same
 * lines on masked vectors. */
#include "kernel/simd.h"

static inline vec sigmoid(vec x)
{
    const vec one = vec_set(1);

    return vec_div(one, vec_add(one, vec_exp(vec_sub(vec_set(0), x))));
}

static inline vec forward(vec gate, vec up)
{
    return vec_mul(vec_mul(gate, sigmoid(gate)), up);
}

static void swiglu(const float *gate, const float *up, size_t n, float *y)
{
    size_t i = 0;

    for (; i + LANES <= n; i += LANES)
        vec_store(y + i, forward(vec_load(gate + i), vec_load(up + i)));
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        vec_store_masked(y + i, rest,
                         forward(vec_load_masked(gate + i, rest),
                                 vec_load_masked(up + i, rest)));
    }
}

static inline void backward(vec g, vec u, vec d, vec *dgate, vec *dup)
{
    const vec one = vec_set(1);
    const vec s = sigmoid(g);
    const vec slope = vec_mul(s, vec_fma(g, vec_sub(one, s), one));

    *dup = vec_mul(d, vec_mul(g, s));
    *dgate = vec_mul(vec_mul(d, u), slope);
}

static void swiglu_grad(const float *gate, const float *up, const float *dy,
                        size_t n, float *dgate, float *dup)
{
    size_t i = 0;
    vec g;
    vec u;

    for (; i + LANES <= n; i += LANES) {
        backward(vec_load(gate + i), vec_load(up + i), vec_load(dy + i), &g,
                 &u);
        vec_store(dgate + i, g);
        vec_store(dup + i, u);
    }
    if (i < n) {
        const vec_mask rest = vec_first(n - i);

        backward(vec_load_masked(gate + i, rest),
                 vec_load_masked(up + i, rest), vec_load_masked(dy + i, rest),
                 &g, &u);
        vec_store_masked(dgate + i, rest, g);
        vec_store_masked(dup + i, rest, u);
    }
}

void SIMD(qrb__swiglu)(struct qrb__kernels *kernels)
{
    kernels->f32.swiglu = swiglu;
    kernels->f32.swiglu_grad = swiglu_grad;
}
