/* Activations as bytes: the lines of the twin, compiled for the set. */
#include "kernel/codes_split.h"
#include "kernel/simd.h"

void SIMD(qrb__code_split)(struct qrb__code_kernels *kernels)
{
    kernels->split = split;
    kernels->round = round_to_bytes;
}
