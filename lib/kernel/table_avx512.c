/* What AVX-512 does better than the sets below it. */
#include "kernel/avx512.h"

void qrb__kernels_avx512(struct qrb__kernels *kernels)
{
    kernels->name = "avx512";
    qrb__avx512_product(kernels);
}
