/* Blocks of GGUF: codes and scales into bytes and back, and values.  A block
 * of codes is its scale, its minimum where it has one, the fifth bits where
 * codes have five, then nibbles or bytes: byte j holds element j low and
 * element j + 16 high.  O(1) a block. */
#include "io/gguf_blocks.h"

#include <math.h>
#include <string.h>

#include "io/bytes.h"
#include "kernel/small_float.h"

enum {
    BLOCK = QRB__GGUF_BLOCK,
    HALF = 2,    /* bytes */
    FIFTHS = 4,  /* bytes of the fifth bits */
    SUPER = 256, /* elements of a block of sub-blocks */
    Q4_K_SCALES = 2 * HALF,
    Q4_K_CODES = Q4_K_SCALES + 12,
    Q6_K_HIGH = 128,
    Q6_K_SCALES = Q6_K_HIGH + 64,
    Q6_K_SCALE = Q6_K_SCALES + 16
};

static const struct qrb__gguf_layout layouts[] = {
    { QRB__GGUF_F32, 1, 4, false, 0, 0, "F32" },
    { QRB__GGUF_F16, 1, 2, false, 0, 0, "F16" },
    { QRB__GGUF_Q4_0, BLOCK, 18, false, 0, 15, "Q4_0" },
    { QRB__GGUF_Q4_1, BLOCK, 20, true, 0, 15, "Q4_1" },
    { QRB__GGUF_Q5_0, BLOCK, 22, false, 0, 31, "Q5_0" },
    { QRB__GGUF_Q5_1, BLOCK, 24, true, 0, 31, "Q5_1" },
    { QRB__GGUF_Q8_0, BLOCK, 34, false, -128, 127, "Q8_0" },
    { QRB__GGUF_Q4_K, SUPER, 144, true, 0, 0, "Q4_K" },
    { QRB__GGUF_Q6_K, SUPER, 210, false, 0, 0, "Q6_K" },
    { QRB__GGUF_F64, 1, 8, false, 0, 0, "F64" },
    { QRB__GGUF_BF16, 1, 2, false, 0, 0, "BF16" },
};

const struct qrb__gguf_layout *qrb__gguf_layout(uint32_t type)
{
    for (size_t i = 0; i < sizeof layouts / sizeof *layouts; i++)
        if (layouts[i].type == type)
            return &layouts[i];
    return NULL;
}

static float load_half(const unsigned char *bytes)
{
    return (float)qrb__small_float_decode(
        &qrb__float16, (uint16_t)(bytes[0] | bytes[1] << 8));
}

static void store_half(unsigned char *bytes, uint16_t bits)
{
    bytes[0] = (unsigned char)bits;
    bytes[1] = (unsigned char)(bits >> 8);
}

static bool to_half(double value, uint16_t *out)
{
    *out = qrb__small_float_encode(&qrb__float16, value);
    return (*out & 0x7c00) != 0x7c00;
}

/* Where the nibbles begin. */
static size_t codes_at(const struct qrb__gguf_layout *layout)
{
    return HALF + (layout->minimum ? HALF : 0) +
           (layout->highest == 31 ? FIFTHS : 0);
}

bool qrb__gguf_encode(const struct qrb__gguf_layout *layout,
                      const int32_t *codes, double scale, double minimum,
                      unsigned char *out)
{
    const size_t at = codes_at(layout);
    uint16_t d;
    uint16_t m = 0;
    uint32_t fifths = 0;

    if (!to_half(scale, &d) || (layout->minimum && !to_half(minimum, &m)))
        return false;
    for (size_t j = 0; j < BLOCK; j++)
        if (codes[j] < layout->lowest || codes[j] > layout->highest)
            return false;
    store_half(out, d);
    if (layout->minimum)
        store_half(out + HALF, m);
    if (layout->type == QRB__GGUF_Q8_0) {
        for (size_t j = 0; j < BLOCK; j++)
            out[at + j] = (unsigned char)codes[j];
        return true;
    }
    for (size_t j = 0; j < BLOCK; j++)
        fifths |= (uint32_t)(codes[j] >> 4) << j;
    for (size_t j = 0; j < BLOCK / 2; j++)
        out[at + j] = (unsigned char)((codes[j] & 15) |
                                      (codes[j + BLOCK / 2] & 15) << 4);
    if (layout->highest == 31)
        qrb__store_u32(out + at - FIFTHS, fifths);
    return true;
}

void qrb__gguf_codes(const struct qrb__gguf_layout *layout,
                     const unsigned char *block, int32_t *codes, float *scale,
                     float *minimum)
{
    const unsigned char *b = block + codes_at(layout);
    const uint32_t fifths =
        layout->highest == 31 ? qrb__load_u32(b - FIFTHS) : 0;

    *scale = load_half(block);
    *minimum = layout->minimum ? load_half(block + HALF) : 0;
    if (layout->type == QRB__GGUF_Q8_0) {
        for (size_t j = 0; j < BLOCK; j++)
            codes[j] = b[j] < 128 ? b[j] : b[j] - 256;
        return;
    }
    for (size_t j = 0; j < BLOCK / 2; j++) {
        codes[j] = b[j] & 15;
        codes[j + BLOCK / 2] = b[j] >> 4;
    }
    for (size_t j = 0; j < BLOCK; j++)
        codes[j] |= (int32_t)(fifths >> j & 1) << 4;
}

static void decode_codes(const struct qrb__gguf_layout *layout,
                         const unsigned char *block, float *out)
{
    /* Codes of the types without a minimum lie around the middle one. */
    const int32_t middle =
        layout->minimum ? 0 : (layout->lowest + layout->highest + 1) / 2;
    int32_t codes[BLOCK];
    float scale;
    float minimum;

    qrb__gguf_codes(layout, block, codes, &scale, &minimum);
    for (size_t j = 0; j < BLOCK; j++) {
        out[j] = (float)(codes[j] - middle) * scale;
        if (layout->minimum)
            out[j] += minimum;
    }
}

/* Scale and minimum of sub-block j out of twelve bytes of six bits each: the
 * upper two bits of the last four lie in the first eight bytes. */
static void unpack_scales(const unsigned char *b, size_t j, float *scale,
                          float *minimum)
{
    unsigned s = b[j] & 63;
    unsigned m = b[j + 4] & 63;

    if (j >= 4) {
        s = (b[j + 4] & 15u) | (b[j - 4] >> 6 << 4);
        m = (unsigned)b[j + 4] >> 4 | (b[j] >> 6 << 4);
    }
    *scale = (float)s;
    *minimum = (float)m;
}

/* Eight sub-blocks of 32: chunk c of 32 bytes holds sub-block 2c low and
 * 2c + 1 high. */
static void decode_q4_k(const unsigned char *block, float *out)
{
    const float d = load_half(block);
    const float dmin = load_half(block + HALF);
    const unsigned char *b = block + Q4_K_CODES;

    for (size_t j = 0; j < SUPER / BLOCK; j++) {
        const unsigned char *chunk = b + j / 2 * BLOCK;
        const unsigned shift = j % 2 == 0 ? 0 : 4;
        float scale;
        float minimum;

        unpack_scales(block + Q4_K_SCALES, j, &scale, &minimum);
        scale *= d;
        minimum *= dmin;
        for (size_t i = 0; i < BLOCK; i++)
            out[j * BLOCK + i] =
                scale * (float)(chunk[i] >> shift & 15) - minimum;
    }
}

/* Two halves of 128 elements, each of four runs of 32: the low four bits of
 * runs 0 and 2, and of 1 and 3, share 32 bytes; the high two bits of all four
 * share 32 more; each 16 elements have a scale with a sign. */
static void decode_q6_k(const unsigned char *block, float *out)
{
    const float d = load_half(block + Q6_K_SCALE);

    for (size_t i = 0; i < SUPER; i++) {
        const size_t half = i / 128;
        const size_t run = i % 128 / 32;
        const size_t at = i % 32;
        const unsigned low =
            block[64 * half + 32 * (run % 2) + at] >> (run / 2 * 4) & 15;
        const unsigned high =
            block[Q6_K_HIGH + 32 * half + at] >> (2 * run) & 3;
        const unsigned scale = block[Q6_K_SCALES + i / 16];

        out[i] = d * (float)(scale < 128 ? (int)scale : (int)scale - 256) *
                 (float)((int)(low | high << 4) - 32);
    }
}

static float load_float(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static double load_double(const unsigned char *bytes)
{
    const uint64_t bits = qrb__load_u64(bytes);
    double value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static void decode_block(const struct qrb__gguf_layout *layout,
                         const unsigned char *b, float *out)
{
    switch (layout->type) {
    case QRB__GGUF_F32:
        *out = load_float(qrb__load_u32(b));
        break;
    case QRB__GGUF_F16:
        *out = load_half(b);
        break;
    case QRB__GGUF_BF16:
        *out = load_float((uint32_t)b[0] << 16 | (uint32_t)b[1] << 24);
        break;
    case QRB__GGUF_F64:
        *out = (float)load_double(b);
        break;
    case QRB__GGUF_Q4_K:
        decode_q4_k(b, out);
        break;
    case QRB__GGUF_Q6_K:
        decode_q6_k(b, out);
        break;
    default:
        decode_codes(layout, b, out);
    }
}

void qrb__gguf_decode(const struct qrb__gguf_layout *layout,
                      const unsigned char *bytes, size_t blocks, float *out)
{
    for (size_t i = 0; i < blocks; i++)
        decode_block(layout, bytes + i * layout->bytes,
                     out + i * layout->block);
}
