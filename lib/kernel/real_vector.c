/* Sums and products of arrays.  O(n), no scratch; both sums run in double. */
#include "kernel/ref.h"

static void add(const real *x, size_t n, real *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += x[i];
}

static void axpy(double a, const real *x, size_t n, real *y)
{
    const real factor = (real)a;

    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

static void lerp(double c, const real *a, size_t n, real *w)
{
    const real factor = (real)c;

    for (size_t i = 0; i < n; i++)
        w[i] -= factor * (w[i] - a[i]);
}

static double dot(const real *x, const real *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

static double squared_distance(const real *x, const real *y, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++) {
        const double d = (double)x[i] - (double)y[i];

        sum += d * d;
    }
    return sum;
}

void TWIN(qrb__vector)(real_kernels *kernels)
{
    kernels->add = add;
    kernels->axpy = axpy;
    kernels->lerp = lerp;
    kernels->dot = dot;
    kernels->squared_distance = squared_distance;
}
