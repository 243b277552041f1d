/* Matrix products, row-major: C [m, n] = alpha op(A) op(B) + beta C, where
 * op(A) is [m, k] and op(B) is [k, n].  The work is cut into tiles that do not
 * depend on the number of threads, so the bits do not either. */
#ifndef QRB_TENSOR_GEMM_H
#define QRB_TENSOR_GEMM_H

#include "core/context.h"

struct qrb__gemm {
    size_t m;
    size_t n;
    size_t k;
    size_t lda; /* elements between rows as stored */
    size_t ldb;
    size_t ldc;
    double alpha;
    double beta; /* 0: C is not read */
    bool transpose_a;
    bool transpose_b;
};

void qrb__gemm_f32(qrb_context *ctx, const struct qrb__gemm *shape,
                   const float *a, const float *b, float *c);
void qrb__gemm_f64(qrb_context *ctx, const struct qrb__gemm *shape,
                   const double *a, const double *b, double *c);

/* `count` products of one shape, over arrays of pointers. */
void qrb__gemm_batch_f32(qrb_context *ctx, const struct qrb__gemm *shape,
                         size_t count, const float *const *a,
                         const float *const *b, float *const *c);
void qrb__gemm_batch_f64(qrb_context *ctx, const struct qrb__gemm *shape,
                         size_t count, const double *const *a,
                         const double *const *b, double *const *c);

#endif
