/* One step of AdamW (Loshchilov and Hutter, "Decoupled Weight Decay
 * Regularization", arXiv:1711.05101, algorithm 2) and of SGD with momentum and
 * coupled decay, in the order of operations of PyTorch.  Element-wise, so
 * every instruction set that rounds each operation gives the same bits. */
#include "kernel/ref.h"

static void adamw(const struct qrb__adamw *o, const real *gradient, size_t n,
                  real *w, real *m, real *v)
{
    const real scale = (real)o->gradient_scale;
    const real beta1 = (real)o->beta1;
    const real beta2 = (real)o->beta2;
    const real gain1 = (real)(1.0 - o->beta1);
    const real gain2 = (real)(1.0 - o->beta2);
    const real keep = (real)(1.0 - o->lr * o->weight_decay);
    const real step = (real)(o->lr / o->correction1);
    const real root = (real)(1.0 / sqrt(o->correction2));
    const real epsilon = (real)o->epsilon;

    for (size_t i = 0; i < n; i++) {
        const real g = scale * gradient[i];

        m[i] = beta1 * m[i] + gain1 * g;
        v[i] = beta2 * v[i] + gain2 * (g * g);
        w[i] = keep * w[i] - step * m[i] / (REAL_SQRT(v[i]) * root + epsilon);
    }
}

static void sgd(double lr, double momentum, double weight_decay,
                double gradient_scale, const real *gradient, size_t n, real *w,
                real *velocity)
{
    const real scale = (real)gradient_scale;
    const real decay = (real)weight_decay;
    const real keep = (real)momentum;
    const real step = (real)lr;

    for (size_t i = 0; i < n; i++) {
        velocity[i] = keep * velocity[i] +
                      (scale * gradient[i] + decay * w[i]);
        w[i] -= step * velocity[i];
    }
}

void TWIN(qrb__optimizer)(real_kernels *kernels)
{
    kernels->adamw = adamw;
    kernels->sgd = sgd;
}
