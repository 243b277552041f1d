/* The plain twins that exist in one precision only: 16-bit floats and normal
 * numbers. */
#include "kernel/kernels.h"

#include <math.h>
#include <string.h>

#include <Random123/philox.h>

#include "kernel/small_float.h"

static void f16_to_f32(const uint16_t *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = (float)qrb__small_float_decode(&qrb__float16, x[i]);
}

static void f32_to_f16(const float *x, size_t n, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = qrb__small_float_encode(&qrb__float16, (double)x[i]);
}

/* The upper half of a float: signalling NaNs stay what they are. */
static void bf16_to_f32(const uint16_t *x, size_t n, float *y)
{
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)x[i] << 16;

        memcpy(&y[i], &bits, sizeof bits);
    }
}

static void f32_to_bf16(const float *x, size_t n, uint16_t *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = qrb__small_float_encode(&qrb__bfloat16, (double)x[i]);
}

static void add_normals(const uint32_t key[2], uint32_t stream, uint32_t step,
                        uint64_t first, double sigma, size_t n, float *y)
{
    const double two_pi = 6.283185307179586476925287;
    const philox4x32_key_t k = { { key[0], key[1] } };

    for (size_t i = 0; i < n; i += 4) {
        const uint64_t block = (first + i) / 4;
        const philox4x32_ctr_t counter = { { (uint32_t)block,
                                             (uint32_t)(block >> 32), stream,
                                             step } };
        const philox4x32_ctr_t x = philox4x32(counter, k);
        double normals[4];

        for (unsigned pair = 0; pair < 4; pair += 2) {
            const double radius =
                sqrt(-2.0 * log(((x.v[pair] >> 8) + 0.5) * 0x1p-24));
            const double angle =
                two_pi * (((x.v[pair + 1] >> 8) + 0.5) * 0x1p-24);

            normals[pair] = radius * cos(angle);
            normals[pair + 1] = radius * sin(angle);
        }
        for (size_t j = 0; j < 4 && i + j < n; j++)
            y[i + j] += (float)(sigma * normals[j]);
    }
}

void qrb__kernels_ref(struct qrb__kernels *kernels)
{
    kernels->name = "ref";
    qrb__kernels_ref_f32(&kernels->f32);
    qrb__kernels_ref_f64(&kernels->f64);
    qrb__codes_ref(&kernels->codes);
    kernels->f16_to_f32 = f16_to_f32;
    kernels->f32_to_f16 = f32_to_f16;
    kernels->bf16_to_f32 = bf16_to_f32;
    kernels->f32_to_bf16 = f32_to_bf16;
    kernels->add_normals = add_normals;
}
