/* llama.cpp's own rounding to nearest (ggml-quants.c), block by block, bit for
 * bit: reciprocals and products in float, ties of Q8_0 away from zero, the
 * others by adding a half and cutting off. */
#include <math.h>
#include <string.h>

#include "io/bytes.h"
#include "io/gguf_blocks.h"
#include "kernel/small_float.h"

enum { BLOCK = QRB__GGUF_BLOCK };

/* 1 / step, or 0 where a half rounds the step to 0 anyway. */
static float inverse(float step)
{
    const float value = step == 0 ? 0 : 1.0f / step;

    return isfinite(value) ? value : 0;
}

/* Q8_0: around zero. */
static bool round_magnitude(const struct qrb__gguf_layout *layout,
                            const float *x, unsigned char *out)
{
    int32_t codes[BLOCK];
    float largest = 0;
    float by;

    for (size_t j = 0; j < BLOCK; j++)
        largest = fmaxf(largest, fabsf(x[j]));
    by = inverse(largest / 127);
    for (size_t j = 0; j < BLOCK; j++)
        codes[j] = (int32_t)roundf(x[j] * by);
    return qrb__gguf_encode(layout, codes, largest / 127, 0, out);
}

/* Q4_0, Q5_0: the largest magnitude, the first of equal ones, is code 0. */
static bool round_signed(const struct qrb__gguf_layout *layout, const float *x,
                         unsigned char *out)
{
    const int32_t middle = (layout->highest + 1) / 2;
    int32_t codes[BLOCK];
    float extreme = 0;
    float by;

    for (size_t j = 0; j < BLOCK; j++)
        if (fabsf(x[j]) > fabsf(extreme))
            extreme = x[j];
    extreme /= (float)-middle;
    by = inverse(extreme);
    for (size_t j = 0; j < BLOCK; j++) {
        codes[j] = (int32_t)(x[j] * by + ((float)middle + 0.5f));
        if (codes[j] > layout->highest)
            codes[j] = layout->highest;
    }
    return qrb__gguf_encode(layout, codes, extreme, 0, out);
}

/* Q4_1, Q5_1: from the least to the largest. */
static bool round_range(const struct qrb__gguf_layout *layout, const float *x,
                        unsigned char *out)
{
    int32_t codes[BLOCK];
    float least = x[0];
    float largest = x[0];
    float step;
    float by;

    for (size_t j = 1; j < BLOCK; j++) {
        least = fminf(least, x[j]);
        largest = fmaxf(largest, x[j]);
    }
    step = (largest - least) / (float)layout->highest;
    by = inverse(step);
    for (size_t j = 0; j < BLOCK; j++) {
        codes[j] = (int32_t)((x[j] - least) * by + 0.5f);
        if (codes[j] > layout->highest)
            codes[j] = layout->highest;
    }
    return qrb__gguf_encode(layout, codes, step, least, out);
}

static bool round_small(const struct qrb__small_float *format, float x,
                        unsigned char *out)
{
    const uint16_t bits = qrb__small_float_encode(format, x);

    out[0] = (unsigned char)bits;
    out[1] = (unsigned char)(bits >> 8);
    return isfinite(qrb__small_float_decode(format, bits));
}

static bool all_finite(const float *x, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return false;
    return true;
}

static bool round_block(const struct qrb__gguf_layout *layout, const float *x,
                        unsigned char *out)
{
    uint32_t bits;

    if (!all_finite(x, layout->block))
        return false;
    switch (layout->type) {
    case QRB__GGUF_F32:
        memcpy(&bits, x, sizeof bits);
        qrb__store_u32(out, bits);
        return true;
    case QRB__GGUF_F16:
        return round_small(&qrb__float16, *x, out);
    case QRB__GGUF_BF16:
        return round_small(&qrb__bfloat16, *x, out);
    case QRB__GGUF_Q8_0:
        return round_magnitude(layout, x, out);
    case QRB__GGUF_Q4_0:
    case QRB__GGUF_Q5_0:
        return round_signed(layout, x, out);
    case QRB__GGUF_Q4_1:
    case QRB__GGUF_Q5_1:
        return round_range(layout, x, out);
    default:
        return false; /* read only */
    }
}

bool qrb__gguf_quantize(const struct qrb__gguf_layout *layout,
                        const float *values, size_t blocks, unsigned char *out)
{
    for (size_t i = 0; i < blocks; i++)
        if (!round_block(layout, values + i * layout->block,
                         out + i * layout->bytes))
            return false;
    return true;
}
