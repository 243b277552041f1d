/* Rotary position embedding (Su et al., "RoFormer", arXiv:2104.09864, eq. 34):
 * each pair of a head is turned by an angle of its row.  Pairs are neighbours
 * (llama2.c, GGUF) or lie half a head apart (Hugging Face).
 * O(rows * heads * head_dim), in place. */
#include "kernel/ref.h"

static void rotary(real *x, size_t row_stride, const real *cosine,
                   const real *sine, size_t rows, size_t heads,
                   size_t head_dim, int interleaved, int inverse)
{
    const size_t half = head_dim / 2;
    const size_t step = interleaved ? 2 : 1;
    const size_t other = interleaved ? 1 : half;

    for (size_t r = 0; r < rows; r++) {
        const real *c = cosine + r * half;
        const real *s = sine + r * half;

        for (size_t h = 0; h < heads; h++) {
            real *pair = x + r * row_stride + h * head_dim;

            for (size_t i = 0; i < half; i++, pair += step) {
                const real turn = inverse ? -s[i] : s[i];
                const real a = pair[0];
                const real b = pair[other];

                pair[0] = a * c[i] - b * turn;
                pair[other] = a * turn + b * c[i];
            }
        }
    }
}

void TWIN(qrb__rotary)(real_kernels *kernels)
{
    kernels->rotary = rotary;
}
