/* Root mean square normalisation of rows and its gradient (Zhang and Sennrich,
 * "Root Mean Square Layer Normalization", NeurIPS 2019, eq. 4).
 * O(rows * cols), no scratch; each row is read twice. */
#include "kernel/ref.h"

static void rms_norm(const real *x, const real *w, double eps, size_t rows,
                     size_t cols, real *y, real *inv)
{
    for (size_t r = 0; r < rows; r++, x += cols, y += cols) {
        double sum = 0;
        real scale;

        for (size_t c = 0; c < cols; c++)
            sum += (double)x[c] * (double)x[c];
        scale = (real)(1.0 / sqrt(sum / (double)cols + eps));
        for (size_t c = 0; c < cols; c++)
            y[c] = x[c] * scale * w[c];
        inv[r] = scale;
    }
}

/* With s = inv[r]: dx = s (w dy - x s^2 mean(w dy x)). */
static void rms_norm_grad(const real *x, const real *w, const real *inv,
                          const real *dy, size_t rows, size_t cols, real *dx,
                          real *dw)
{
    for (size_t r = 0; r < rows; r++, x += cols, dy += cols, dx += cols) {
        const real s = inv[r];
        double sum = 0;
        real pull;

        for (size_t c = 0; c < cols; c++)
            sum += (double)w[c] * (double)dy[c] * (double)x[c];
        pull = (real)(sum / (double)cols * (double)s * (double)s);
        for (size_t c = 0; c < cols; c++) {
            dw[c] += dy[c] * (x[c] * s);
            dx[c] += s * (w[c] * dy[c] - x[c] * pull);
        }
    }
}

void TWIN(qrb__norm)(real_kernels *kernels)
{
    kernels->rms_norm = rms_norm;
    kernels->rms_norm_grad = rms_norm_grad;
}
