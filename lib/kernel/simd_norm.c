/* Root mean square normalisation in vectors (real_norm.c). */
#include <math.h>

#include "kernel/simd.h"

static void rms_norm(const float *x, const float *w, double eps, size_t rows,
                     size_t cols, float *y, float *inv)
{
    const size_t whole = cols - cols % LANES;
    const vec_mask rest = vec_first(cols - whole);

    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        struct sum sum = sum_zero();
        vec scale;

        for (size_t c = 0; c < whole; c += LANES) {
            const vec v = vec_load(x + c);

            sum_add_product(&sum, v, v);
        }
        if (whole < cols) {
            const vec v = vec_load_masked(x + whole, rest);

            sum_add_product(&sum, v, v);
        }
        inv[r] = (float)(1.0 / sqrt(sum_total(sum) / (double)cols + eps));
        scale = vec_set(inv[r]);
        for (size_t c = 0; c < whole; c += LANES)
            vec_store(y + c, vec_mul(vec_mul(vec_load(x + c), scale),
                                     vec_load(w + c)));
        if (whole < cols)
            vec_store_masked(
                y + whole, rest,
                vec_mul(vec_mul(vec_load_masked(x + whole, rest), scale),
                        vec_load_masked(w + whole, rest)));
    }
}

/* w dy x summed in double: the product of three is rounded once. */
static inline void sum_add_triple(struct sum *sum, vec w, vec dy, vec x)
{
    sum_add_product(sum, vec_mul(w, dy), x);
}

static void rms_norm_grad(const float *x, const float *w, const float *inv,
                          const float *dy, size_t rows, size_t cols, float *dx,
                          float *dw)
{
    const size_t whole = cols - cols % LANES;
    const vec_mask rest = vec_first(cols - whole);

    for (size_t r = 0; r < rows; r++, x += cols, dy += cols, dx += cols) {
        const vec s = vec_set(inv[r]);
        struct sum sum = sum_zero();
        vec pull;

        for (size_t c = 0; c < whole; c += LANES)
            sum_add_triple(&sum, vec_load(w + c), vec_load(dy + c),
                           vec_load(x + c));
        if (whole < cols)
            sum_add_triple(&sum, vec_load_masked(w + whole, rest),
                           vec_load_masked(dy + whole, rest),
                           vec_load_masked(x + whole, rest));
        pull = vec_set((float)(sum_total(sum) / (double)cols * (double)inv[r] *
                               (double)inv[r]));
        for (size_t c = 0; c < whole; c += LANES) {
            const vec d = vec_load(dy + c);
            const vec v = vec_load(x + c);
            const vec pulled = vec_fnma(v, pull, vec_mul(vec_load(w + c), d));

            vec_store(dw + c, vec_fma(d, vec_mul(v, s), vec_load(dw + c)));
            vec_store(dx + c, vec_fma(s, pulled, vec_load(dx + c)));
        }
        if (whole < cols) {
            const vec d = vec_load_masked(dy + whole, rest);
            const vec v = vec_load_masked(x + whole, rest);
            const vec pulled = vec_fnma(
                v, pull, vec_mul(vec_load_masked(w + whole, rest), d));

            vec_store_masked(dw + whole, rest,
                             vec_fma(d, vec_mul(v, s),
                                     vec_load_masked(dw + whole, rest)));
            vec_store_masked(dx + whole, rest,
                             vec_fma(s, pulled,
                                     vec_load_masked(dx + whole, rest)));
        }
    }
}

void SIMD(qrb__norm)(struct qrb__kernels *kernels)
{
    kernels->f32.rms_norm = rms_norm;
    kernels->f32.rms_norm_grad = rms_norm_grad;
}
