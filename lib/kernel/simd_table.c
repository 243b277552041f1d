/* What an instruction set does better than those below it.  Element-wise
 * families are the lines of the plain twins, compiled for the set: as each
 * operation rounds, the bits are the same. */
#include "kernel/ref.h"
#include "kernel/simd.h"

void SIMD(qrb__kernels)(struct qrb__kernels *kernels)
{
    kernels->name = QRB_SIMD == 512 ? "avx512" : "avx2";
    TWIN(qrb__optimizer)(&kernels->f32);
    TWIN(qrb__vector)(&kernels->f32);
    kernels->codes.name = kernels->name;
    SIMD(qrb__code_decode)(&kernels->codes);
    SIMD(qrb__code_lookup)(&kernels->codes);
    SIMD(qrb__code_product)(&kernels->codes);
    SIMD(qrb__code_split)(&kernels->codes);
    SIMD(qrb__convert)(kernels);
    SIMD(qrb__norm)(kernels);
    SIMD(qrb__normals)(kernels);
    SIMD(qrb__product)(kernels);
    SIMD(qrb__softmax)(kernels);
    SIMD(qrb__sums)(kernels);
    SIMD(qrb__swiglu)(kernels);
#if QRB_SIMD == 256
    SIMD(qrb__rotary)(kernels);
#endif
}
