/* The AVX-512 kernels: one file a family, each of which writes its kernels
 * into the table.  Compiled with the flags of the set. */
#ifndef QRB_KERNEL_AVX512_H
#define QRB_KERNEL_AVX512_H

#include "kernel/kernels.h"

void qrb__avx512_product(struct qrb__kernels *kernels);

#endif
