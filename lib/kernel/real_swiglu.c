/* The gated unit silu(gate) * up (Shazeer, "GLU Variants Improve Transformer",
 * arXiv:2002.05202, eq. 6) and its gradient; silu(x) = x / (1 + exp(-x)).
 * O(n); each output may be one of the inputs. */
#include "kernel/ref.h"

static real sigmoid(real x)
{
    return 1 / (1 + REAL_EXP(-x));
}

static void swiglu(const real *gate, const real *up, size_t n, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

/* silu'(x) = s (1 + x (1 - s)) with s = sigmoid(x). */
static void swiglu_grad(const real *gate, const real *up, const real *dy,
                        size_t n, real *dgate, real *dup)
{
    for (size_t i = 0; i < n; i++) {
        const real g = gate[i];
        const real u = up[i];
        const real d = dy[i];
        const real s = sigmoid(g);

        dup[i] = d * (g * s);
        dgate[i] = d * u * (s * (1 + g * (1 - s)));
    }
}

void TWIN(qrb__swiglu)(real_kernels *kernels)
{
    kernels->swiglu = swiglu;
    kernels->swiglu_grad = swiglu_grad;
}
