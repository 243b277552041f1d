/* A tile of a matrix product in plain C.  A block of B lies dense on the
 * stack, so that the inner loop runs along rows whatever way B is stored.
 * O(m n k); BLOCK_K * BLOCK_N elements of stack. */
#include "kernel/ref.h"

enum { BLOCK_K = 128, BLOCK_N = 64 };

/* b [k, n] becomes the upper left of block; the rest of its rows is 0. */
static void pack(const struct qrb__product *shape, const real *b, size_t k,
                 size_t n, real (*block)[BLOCK_N])
{
    for (size_t p = 0; p < k; p++) {
        for (size_t j = 0; j < n; j++)
            block[p][j] = b[p * shape->row_b + j * shape->col_b];
        for (size_t j = n; j < BLOCK_N; j++)
            block[p][j] = 0;
    }
}

static void multiply_row(const real *a, size_t col_a, size_t k,
                         real (*block)[BLOCK_N], real *sums)
{
    for (size_t j = 0; j < BLOCK_N; j++)
        sums[j] = 0;
    for (size_t p = 0; p < k; p++) {
        const real factor = a[p * col_a];

        for (size_t j = 0; j < BLOCK_N; j++)
            sums[j] += factor * block[p][j];
    }
}

static void store_row(const real *sums, size_t n, real alpha, real beta,
                      real *c)
{
    if (beta == 0)
        for (size_t j = 0; j < n; j++)
            c[j] = alpha * sums[j];
    else
        for (size_t j = 0; j < n; j++)
            c[j] = alpha * sums[j] + beta * c[j];
}

static void product(const struct qrb__product *shape, const real *a,
                    const real *b, real *c)
{
    real block[BLOCK_K][BLOCK_N];
    real sums[BLOCK_N];

    for (size_t j = 0; j < shape->n; j += BLOCK_N) {
        const size_t left = shape->n - j;
        const size_t n = left < BLOCK_N ? left : BLOCK_N;
        size_t p = 0;

        /* Once at least: an empty sum is beta C. */
        do {
            const size_t k =
                shape->k - p < BLOCK_K ? shape->k - p : (size_t)BLOCK_K;
            const double beta = p == 0 ? shape->beta : 1.0;

            pack(shape, b + p * shape->row_b + j * shape->col_b, k, n, block);
            for (size_t i = 0; i < shape->m; i++) {
                multiply_row(a + i * shape->row_a + p * shape->col_a,
                             shape->col_a, k, block, sums);
                store_row(sums, n, (real)shape->alpha, (real)beta,
                          c + i * shape->row_c + j);
            }
            p += k;
        } while (p < shape->k);
    }
}

void TWIN(qrb__product)(real_kernels *kernels)
{
    kernels->product = product;
}
