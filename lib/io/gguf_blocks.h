/* Element types of GGUF files (ggml-common.h of llama.cpp), block by block.
 *
 * A row of a tensor is cut into blocks of equal length, each with scales of
 * its own; everything is little-endian and lies without gaps. */
#ifndef QRB_IO_GGUF_BLOCKS_H
#define QRB_IO_GGUF_BLOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The numbers of the format. */
enum qrb__gguf_type {
    QRB__GGUF_F32 = 0,
    QRB__GGUF_F16 = 1,
    QRB__GGUF_Q4_0 = 2, /* (q - 8) d, q of 4 bits */
    QRB__GGUF_Q4_1 = 3, /* q d + m */
    QRB__GGUF_Q5_0 = 6, /* (q - 16) d, q of 5 bits */
    QRB__GGUF_Q5_1 = 7, /* q d + m */
    QRB__GGUF_Q8_0 = 8, /* q d, q of 8 bits with a sign */
    QRB__GGUF_Q4_K = 12,
    QRB__GGUF_Q6_K = 14,
    QRB__GGUF_F64 = 28,
    QRB__GGUF_BF16 = 30
};

enum {
    QRB__GGUF_BLOCK = 32,        /* elements of one that is written */
    QRB__GGUF_BLOCK_MAX = 256,   /* elements of any */
    QRB__GGUF_BLOCK_BYTES = 34   /* of one that is written, at most */
};

struct qrb__gguf_layout {
    uint32_t type;
    uint32_t block; /* elements */
    uint32_t bytes; /* of a block */
    bool minimum;   /* blocks have a minimum m beside the scale d */
    int32_t lowest; /* codes of a block of codes, one scale for all; both 0 */
    int32_t highest; /* where it is none */
    const char *name;
};

/* NULL where the type is not known. */
const struct qrb__gguf_layout *qrb__gguf_layout(uint32_t type);

/* Write the block of a type that has codes: its scale and, where it has one,
 * its minimum are rounded to half precision.  False, and nothing written, when
 * a code is out of range or a half would not be finite.  A grid with a step h
 * and a zero point z is the scale h with the minimum -h z. */
bool qrb__gguf_encode(const struct qrb__gguf_layout *layout,
                      const int32_t *codes, double scale, double minimum,
                      unsigned char *out);

/* Its codes [QRB__GGUF_BLOCK] again, and the halves. */
void qrb__gguf_codes(const struct qrb__gguf_layout *layout,
                     const unsigned char *block, int32_t *codes, float *scale,
                     float *minimum);

/* Values of `blocks` blocks of any type, [blocks * layout->block], in the
 * arithmetic of llama.cpp: float, no fused operations. */
void qrb__gguf_decode(const struct qrb__gguf_layout *layout,
                      const unsigned char *bytes, size_t blocks, float *out);

/* llama.cpp's own rounding to nearest, for F32, F16, BF16 and the types with
 * codes: `blocks` blocks of values [blocks * layout->block].
 *
 * Q4_0 and Q5_0 take the element of the largest magnitude with its sign as
 * the lowest code, so d may be negative; Q8_0 the magnitude alone; Q4_1 and
 * Q5_1 go from the least to the largest.  Codes come from the scale before it
 * is rounded to a half.  False when a value, a scale or a minimum is not
 * finite in the type; what was written is void then. */
bool qrb__gguf_quantize(const struct qrb__gguf_layout *layout,
                        const float *values, size_t blocks,
                        unsigned char *out);

#endif
