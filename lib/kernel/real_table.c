/* The table of plain twins of one precision. */
#include "kernel/ref.h"

void REAL(qrb__kernels_ref)(real_kernels *kernels)
{
    TWIN(qrb__norm)(kernels);
    TWIN(qrb__optimizer)(kernels);
    TWIN(qrb__product)(kernels);
    TWIN(qrb__rotary)(kernels);
    TWIN(qrb__softmax)(kernels);
    TWIN(qrb__swiglu)(kernels);
    TWIN(qrb__vector)(kernels);
}
