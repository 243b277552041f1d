/* Cholesky's factor and the inverse of a triangle, on the products of this
 * room.
 *
 * The factor looks left: a block column gets what the columns before it take
 * off in one long product, its diagonal block is factored in plain loops, and
 * what is below becomes a product with that block's inverse.  n^3 / 3
 * multiply-adds, of which all but O(n BLOCK^2) are in products.  The inverse
 * halves the triangle until plain loops do; 2 n^3 / 3 operations.
 *
 * A pivot j whose value is no larger than (j + 1) eps a_jj, the bound of the
 * rounding errors that went into it (Higham, "Accuracy and Stability of
 * Numerical Algorithms", theorem 10.3), counts as not positive: it has no
 * correct digit. */
#include "tensor/cholesky.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "tensor/gemm.h"

enum { BLOCK = QRB__CHOLESKY_BLOCK, PLAIN_INVERSE = 32 };

bool qrb__cholesky_scratch(size_t n, size_t *out)
{
    return qrb__add_size(n, BLOCK + 1, out) && qrb__mul_size(*out, BLOCK, out);
}

/* The factor of a [n, n], n <= BLOCK, whose pivots are those from `first` on
 * of a matrix with this diagonal.  Returns n or the pivot that failed. */
static size_t factor_block(size_t n, double *a, size_t ld, size_t first,
                           const double *diagonal)
{
    double column[BLOCK];

    for (size_t j = 0; j < n; j++) {
        const double pivot = a[j * ld + j];
        const double noise =
            (double)(first + j + 1) * DBL_EPSILON * diagonal[j];

        if (!isfinite(pivot) || !(pivot > 0) || !(pivot > noise))
            return j;
        a[j * ld + j] = sqrt(pivot);
        for (size_t i = j + 1; i < n; i++) {
            a[i * ld + j] /= a[j * ld + j];
            column[i] = a[i * ld + j];
        }
        for (size_t i = j + 1; i < n; i++)
            for (size_t k = j + 1; k <= i; k++)
                a[i * ld + k] -= column[i] * column[k];
    }
    return n;
}

struct factor {
    qrb_context *ctx;
    size_t n;
    double *a;
    double *scratch;
    size_t pivot;
};

/* Block column [n - first, width] from `first` on. */
static size_t factor_column(const struct factor *work, size_t first,
                            size_t width)
{
    const size_t n = work->n;
    const size_t rows = n - first;
    double *a = work->a + first * n;
    double *diagonal = work->scratch;
    double *inverse = diagonal + BLOCK;       /* [width, width] */
    double *column = inverse + BLOCK * BLOCK; /* [rows, width] */
    const struct qrb__gemm before = { .m = rows,
                                      .n = width,
                                      .k = first,
                                      .lda = n,
                                      .ldb = n,
                                      .ldc = width,
                                      .alpha = -1,
                                      .beta = 1,
                                      .transpose_b = true };
    const struct qrb__gemm below = { .m = rows - width,
                                     .n = width,
                                     .k = width,
                                     .lda = width,
                                     .ldb = width,
                                     .ldc = n,
                                     .alpha = 1,
                                     .transpose_b = true };
    size_t pivot;

    for (size_t i = 0; i < width; i++)
        diagonal[i] = a[i * n + first + i];
    for (size_t i = 0; i < rows; i++)
        memcpy(column + i * width, a + i * n + first, width * sizeof *column);
    qrb__gemm_f64(work->ctx, &before, a, a, column);
    pivot = factor_block(width, column, width, first, diagonal);
    if (pivot < width)
        return first + pivot;
    for (size_t i = 0; i < width; i++)
        memcpy(a + i * n + first, column + i * width, (i + 1) * sizeof *column);
    qrb__triangular_inverse(work->ctx, width, column, width, inverse);
    qrb__gemm_f64(work->ctx, &below, column + width * width, inverse,
                  a + width * n + first);
    return n;
}

static void factor_matrix(size_t task, size_t worker, void *arg)
{
    struct factor *work = arg;
    size_t first = 0;

    (void)task;
    (void)worker;
    work->pivot = work->n;
    while (first < work->n && work->pivot == work->n) {
        const size_t left = work->n - first;
        const size_t width = left < BLOCK ? left : BLOCK;

        work->pivot = factor_column(work, first, width);
        first += width;
    }
}

/* A loop of one task, for its floating-point environment; the products inside
 * run in parallel. */
size_t qrb__cholesky(qrb_context *ctx, size_t n, double *a, double *scratch)
{
    struct factor work = { ctx, n, a, scratch, 0 };

    qrb__parallel_for(ctx, 1, factor_matrix, &work);
    return work.pivot;
}

struct inverse {
    qrb_context *ctx;
    size_t n; /* of the whole, and so between rows of x */
    const double *lower;
    size_t ld;
    double *x;
};

/* Row i is (e_i - sum_{j < i} l_ij row_j) / l_ii. */
static void invert_plainly(const struct inverse *work, size_t first, size_t n)
{
    const double *lower = work->lower + first * work->ld + first;
    double *x = work->x + first * work->n + first;

    for (size_t i = 0; i < n; i++) {
        const double *l = lower + i * work->ld;
        double *row = x + i * work->n;

        memset(row, 0, n * sizeof *row);
        row[i] = 1;
        for (size_t j = 0; j < i; j++)
            for (size_t k = 0; k <= j; k++)
                row[k] -= l[j] * x[j * work->n + k];
        for (size_t k = 0; k <= i; k++)
            row[k] /= l[i];
    }
}

/* [A 0; B C]^-1 = [A^-1 0; -C^-1 B A^-1 C^-1].  The transpose of B A^-1 fits
 * where the zeros come. */
static void invert_part(const struct inverse *work, size_t first, size_t n)
{
    const size_t top = n / 2;
    const size_t bottom = n - top;
    const size_t ldx = work->n;
    const double *b = work->lower + (first + top) * work->ld + first;
    double *a_inverse = work->x + first * ldx + first;
    double *corner = a_inverse + top;
    double *below = a_inverse + top * ldx;
    double *c_inverse = below + top;
    const struct qrb__gemm right = { .m = top,
                                     .n = bottom,
                                     .k = top,
                                     .lda = ldx,
                                     .ldb = work->ld,
                                     .ldc = ldx,
                                     .alpha = 1,
                                     .transpose_a = true,
                                     .transpose_b = true };
    const struct qrb__gemm left = { .m = bottom,
                                    .n = top,
                                    .k = bottom,
                                    .lda = ldx,
                                    .ldb = ldx,
                                    .ldc = ldx,
                                    .alpha = -1,
                                    .transpose_b = true };

    if (n <= PLAIN_INVERSE) {
        invert_plainly(work, first, n);
        return;
    }
    invert_part(work, first, top);
    invert_part(work, first + top, bottom);
    qrb__gemm_f64(work->ctx, &right, a_inverse, b, corner);
    qrb__gemm_f64(work->ctx, &left, c_inverse, corner, below);
    for (size_t i = 0; i < top; i++)
        memset(corner + i * ldx, 0, bottom * sizeof *corner);
}

static void invert_matrix(size_t task, size_t worker, void *arg)
{
    const struct inverse *work = arg;

    (void)task;
    (void)worker;
    invert_part(work, 0, work->n);
}

void qrb__triangular_inverse(qrb_context *ctx, size_t n, const double *lower,
                             size_t ld, double *inverse)
{
    struct inverse work = { ctx, n, lower, ld, inverse };

    qrb__parallel_for(ctx, 1, invert_matrix, &work);
}
