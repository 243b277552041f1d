/* The plain twins: one file a family, each of which writes its kernels into
 * the table of its precision.  Compiled with QRB_REAL_BITS (real.h). */
#ifndef QRB_KERNEL_REF_H
#define QRB_KERNEL_REF_H

#include "kernel/kernels.h"
#include "kernel/real.h"

#if QRB_REAL_BITS == 32
typedef struct qrb__kernels_f32 real_kernels;
#else
typedef struct qrb__kernels_f64 real_kernels;
#endif

void REAL(qrb__ref_norm)(real_kernels *kernels);
void REAL(qrb__ref_optimizer)(real_kernels *kernels);
void REAL(qrb__ref_product)(real_kernels *kernels);
void REAL(qrb__ref_rotary)(real_kernels *kernels);
void REAL(qrb__ref_softmax)(real_kernels *kernels);
void REAL(qrb__ref_swiglu)(real_kernels *kernels);
void REAL(qrb__ref_vector)(real_kernels *kernels);

#endif
