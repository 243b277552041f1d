/* The plain twins: one file a family, each of which writes its kernels into
 * the table of its precision.  Compiled with QRB_REAL_BITS (real.h), and some
 * once more for each vector set (simd_table.c). */
#ifndef QRB_KERNEL_REF_H
#define QRB_KERNEL_REF_H

#include "kernel/kernels.h"
#include "kernel/real.h"

#if QRB_REAL_BITS == 32
typedef struct qrb__kernels_f32 real_kernels;
#else
typedef struct qrb__kernels_f64 real_kernels;
#endif

#if defined(QRB_SIMD) && QRB_SIMD == 512
#define TWIN(name) REAL(name##_avx512)
#elif defined(QRB_SIMD) && QRB_SIMD == 256
#define TWIN(name) REAL(name##_avx2)
#else
#define TWIN(name) REAL(name##_ref)
#endif

void TWIN(qrb__norm)(real_kernels *kernels);
void TWIN(qrb__optimizer)(real_kernels *kernels);
void TWIN(qrb__product)(real_kernels *kernels);
void TWIN(qrb__rotary)(real_kernels *kernels);
void TWIN(qrb__softmax)(real_kernels *kernels);
void TWIN(qrb__swiglu)(real_kernels *kernels);
void TWIN(qrb__vector)(real_kernels *kernels);

#endif
