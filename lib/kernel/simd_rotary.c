/* Rotary position embedding in vectors (real_rotary.c). */
#include "kernel/simd.h"

/* One head whose pairs are neighbours: x [2 * half]. */
static inline void turn_neighbours(float *x, const float *cosine,
                                   const float *sine, size_t half, int inverse)
{
    size_t i = 0;

    for (; i + LANES / 2 <= half; i += LANES / 2) {
        const vec v = vec_load(x + 2 * i);
        const vec c = vec_load_twice(cosine + i);
        const vec turn = vec_mul(vec_swap_pairs(v), vec_load_twice(sine + i));

        vec_store(x + 2 * i, inverse ? vec_fma_plus_minus(v, c, turn)
                                     : vec_fma_minus_plus(v, c, turn));
    }
    for (; i < half; i++) {
        const float a = x[2 * i];
        const float b = x[2 * i + 1];
        const float turn = inverse ? -sine[i] : sine[i];

        x[2 * i] = a * cosine[i] - b * turn;
        x[2 * i + 1] = a * turn + b * cosine[i];
    }
}

/* One head whose pairs lie half of it apart. */
static inline void turn_halves(float *x, const float *cosine,
                               const float *sine, size_t half, int inverse)
{
    for (size_t i = 0; i < half; i += LANES) {
        const vec_mask mask = vec_first(half - i < LANES ? half - i : LANES);
        const vec a = vec_load_masked(x + i, mask);
        const vec b = vec_load_masked(x + half + i, mask);
        const vec c = vec_load_masked(cosine + i, mask);
        const vec s = vec_load_masked(sine + i, mask);
        const vec turn = inverse ? vec_sub(vec_set(0), s) : s;

        vec_store_masked(x + i, mask, vec_fnma(b, turn, vec_mul(a, c)));
        vec_store_masked(x + half + i, mask,
                         vec_fma(a, turn, vec_mul(b, c)));
    }
}

static void rotary(float *x, size_t row_stride, const float *cosine,
                   const float *sine, size_t rows, size_t heads,
                   size_t head_dim, int interleaved, int inverse)
{
    const size_t half = head_dim / 2;

    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < heads; h++) {
            float *head = x + r * row_stride + h * head_dim;

            if (interleaved)
                turn_neighbours(head, cosine + r * half, sine + r * half, half,
                                inverse);
            else
                turn_halves(head, cosine + r * half, sine + r * half, half,
                            inverse);
        }
}

void SIMD(qrb__rotary)(struct qrb__kernels *kernels)
{
    kernels->f32.rotary = rotary;
}
