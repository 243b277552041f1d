/* The table of plain twins of one precision. */
#include "kernel/ref.h"

void REAL(qrb__kernels_ref)(real_kernels *kernels)
{
    REAL(qrb__ref_norm)(kernels);
    REAL(qrb__ref_optimizer)(kernels);
    REAL(qrb__ref_product)(kernels);
    REAL(qrb__ref_rotary)(kernels);
    REAL(qrb__ref_softmax)(kernels);
    REAL(qrb__ref_swiglu)(kernels);
    REAL(qrb__ref_vector)(kernels);
}
