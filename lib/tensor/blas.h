/* One tile of a matrix product on one thread of the linear algebra library
 * that we are built with; its contract is that of the kernels' product(). */
#ifndef QRB_TENSOR_BLAS_H
#define QRB_TENSOR_BLAS_H

#include "tensor/gemm.h"

/* Whether the library runs kernels as good as those of the context's table,
 * takes extents like these, and may be called here: OpenBLAS knows one number
 * of threads for the whole process, which tasks of a loop cannot set. */
bool qrb__blas_fits(const qrb_context *ctx, const struct qrb__gemm *shape);

/* Around a loop of products: none of them starts threads of its own. */
int qrb__blas_begin(void);
void qrb__blas_end(int begun);

void qrb__blas_product_f32(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const float *a,
                           const float *b, float *c);
void qrb__blas_product_f64(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const double *a,
                           const double *b, double *c);

#endif
