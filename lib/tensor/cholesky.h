/* Factors of symmetric positive definite matrices, in double.  Row-major;
 * same bits with any number of threads. */
#ifndef QRB_TENSOR_CHOLESKY_H
#define QRB_TENSOR_CHOLESKY_H

#include "core/context.h"

enum { QRB__CHOLESKY_BLOCK = 128 };

/* Elements of scratch that the factor of [n, n] needs; false: too many. */
bool qrb__cholesky_scratch(size_t n, size_t *out);

/* a [n, n] = L L^T: L takes the place of the lower triangle, which is all that
 * is read; above the diagonal nothing is touched.  Returns n, or the index of
 * the first pivot that is not finite or not above what rounding alone leaves
 * of it, after which the lower triangle is spoilt. */
size_t qrb__cholesky(qrb_context *ctx, size_t n, double *a, double *scratch);

/* inverse [n, n] of a lower triangle [n, n] with ld elements between rows and
 * no zero on its diagonal; zeros above the diagonal.  The two do not
 * overlap. */
void qrb__triangular_inverse(qrb_context *ctx, size_t n, const double *lower,
                             size_t ld, double *inverse);

#endif
