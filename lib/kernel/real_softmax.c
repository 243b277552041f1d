/* Softmax of rows, its gradient, and the negative log-likelihood of one entry
 * with its gradient.  The maximum is taken off first, so that no exponential
 * overflows; sums run in double.  O(cols) each, no scratch. */
#include "kernel/ref.h"

static real maximum(const real *z, size_t n)
{
    real top = z[0];

    for (size_t i = 1; i < n; i++)
        if (z[i] > top)
            top = z[i];
    return top;
}

/* z becomes exp(z - top); returns the sum. */
static double exponentials(real *z, size_t n, real top)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        z[i] = REAL_EXP(z[i] - top);
        sum += (double)z[i];
    }
    return sum;
}

static void softmax(real *z, size_t stride, size_t rows, size_t n, size_t cols)
{
    for (size_t r = 0; r < rows; r++, n++, z += stride) {
        const real scale = (real)(1.0 / exponentials(z, n, maximum(z, n)));

        for (size_t i = 0; i < n; i++)
            z[i] *= scale;
        for (size_t i = n; i < cols; i++)
            z[i] = 0;
    }
}

static void softmax_grad(const real *p, real *dp, size_t stride, size_t rows,
                         size_t n, size_t cols)
{
    for (size_t r = 0; r < rows; r++, n++, p += stride, dp += stride) {
        double sum = 0;
        real mean;

        for (size_t i = 0; i < n; i++)
            sum += (double)p[i] * (double)dp[i];
        mean = (real)sum;
        for (size_t i = 0; i < n; i++)
            dp[i] = p[i] * (dp[i] - mean);
        for (size_t i = n; i < cols; i++)
            dp[i] = 0;
    }
}

static double nll(const real *logits, size_t cols, size_t target)
{
    const real top = maximum(logits, cols);
    double sum = 0;

    for (size_t i = 0; i < cols; i++)
        sum += (double)REAL_EXP(logits[i] - top);
    return log(sum) - ((double)logits[target] - (double)top);
}

static double nll_grad(real *logits, size_t cols, size_t target, double scale)
{
    const real top = maximum(logits, cols);
    const double below = (double)logits[target] - (double)top;
    const double sum = exponentials(logits, cols, top);
    const real factor = (real)(scale / sum);
    const real hit = (real)(scale * (exp(below) / sum - 1.0));

    for (size_t i = 0; i < cols; i++)
        logits[i] *= factor;
    logits[target] = hit;
    return log(sum) - below;
}

void TWIN(qrb__softmax)(real_kernels *kernels)
{
    kernels->softmax = softmax;
    kernels->softmax_grad = softmax_grad;
    kernels->nll = nll;
    kernels->nll_grad = nll_grad;
}
