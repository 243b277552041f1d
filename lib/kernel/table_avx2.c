/* What AVX2, FMA and F16C do better than plain C. */
#include "kernel/avx2.h"

void qrb__kernels_avx2(struct qrb__kernels *kernels)
{
    kernels->name = "avx2";
    qrb__avx2_product(kernels);
}
