/* Kernels over rows of codes: integers of 2 to 8 bits that stand for weights,
 * least significant bits first, each row padded to a multiple of 4 bytes.
 *
 * A product of codes with activations is made of integers.  Activations become
 * bytes in segments of columns: one plane of them, rounded by the caller, or
 * the three digits in base 256 of a 22-bit integer, which keep what a float
 * keeps of the largest element of a segment.  Sums of bytes times codes are
 * exact, and floats come in once a segment,
 *     y += scale * ((sum - zero * x_sum) * step),
 * in the order of segments with each operation rounded: all instruction sets
 * give the same bits. */
#ifndef QRB_KERNEL_CODES_H
#define QRB_KERNEL_CODES_H

#include <stddef.h>
#include <stdint.h>

enum {
    QRB__CODE_ROWS = 16,    /* rows of a tile; scales lie in tiles */
    QRB__CODE_BLOCK = 32,   /* columns; segments are multiples */
    QRB__CODE_SEGMENT = 256, /* columns of a segment, at most */
    QRB__CODE_PLANES = 3    /* digits of an activation */
};

/* Scales and zero points of a tile, [groups, CODE_ROWS]: one kind of scales,
 * and at most one of zero points. */
struct qrb__code_grid {
    const float *scales;
    const uint16_t *half_scales; /* float16; where scales is NULL */
    const float *zeros;
    const uint8_t *byte_zeros;
    float zero; /* of all, where both are NULL */
};

struct qrb__code_product {
    const uint8_t *codes; /* [rows, row_bytes] */
    size_t row_bytes;
    size_t rows; /* 1..CODE_ROWS */
    size_t cols;
    uint32_t bits;
    struct qrb__code_grid grid;
    size_t segment;            /* columns; the last of a row may be shorter */
    size_t segments_per_group; /* segments that share a scale */
    size_t tokens;
    size_t planes;   /* 1 or CODE_PLANES */
    const int8_t *x; /* [blocks, tokens, planes, CODE_BLOCK], permuted; the
                        plane of the lowest digit first */
    const float *steps; /* [segments, tokens] */
    const float *sums;  /* [segments, tokens]: of x in steps */
};

/* Codes of one row, and the scales of its units: element i belongs to unit
 * (offset + i) / unit. */
struct qrb__code_row {
    const uint8_t *codes; /* [bytes] */
    size_t bytes;
    size_t count; /* codes */
    uint32_t bits;
    size_t unit;
    size_t offset; /* < unit */
    const double *scales;
    const double *zeros; /* NULL: all are `zero` */
    double zero;
};

/* y [rows] = rows of values by table times one token.  Columns come in blocks
 * of 128: x [blocks, 8, 16] holds column 128 b + 8 l + k at [b, k, l], and
 * zeros behind the last. */
struct qrb__code_lookup {
    const uint8_t *codes; /* [rows, row_bytes] */
    size_t row_bytes;
    size_t rows;
    size_t cols;
    uint32_t bits;        /* 3 or 4 */
    const float *tables;  /* [rows, 2^bits], or with tables_apart 0 [2^bits] */
    size_t tables_apart;
    const double *scales; /* [rows, cols / unit] of values; NULL: 1 */
    size_t unit;          /* a multiple of 64 that divides cols */
    const float *x;
};

enum { QRB__LOOKUP_BLOCK = 128, QRB__LOOKUP_UNIT = 64 };

/* Where column `col` of x lies. */
static inline size_t qrb__lookup_at(size_t col)
{
    return col / 128 * 128 + col % 8 * 16 + col % 128 / 8;
}

struct qrb__code_kernels {
    const char *name; /* "ref", "avx2", "avx512", "vnni" */
    /* y [tokens, CODE_ROWS] += x W^T; lanes behind the rows take anything. */
    void (*product)(const struct qrb__code_product *shape, float *y);
    /* The bytes of x [cols] for codes of `bits`, three planes: they go to
     * out + block * apart, [planes, CODE_BLOCK]; steps and sums of a segment
     * to steps[segment * steps_apart]. */
    void (*split)(const float *x, size_t cols, size_t segment, uint32_t bits,
                  size_t apart, int8_t *out, size_t steps_apart, float *steps,
                  float *sums);
    /* The same for x / step rounded to nearest, even at ties, in one plane;
     * |x| <= 127 step. */
    void (*round)(const float *x, float step, size_t cols, size_t segment,
                  uint32_t bits, size_t apart, int8_t *out,
                  size_t steps_apart, float *steps, float *sums);
    /* out = scale * (code - zero), in double, rounded once; saturated. */
    void (*decode_grid)(const struct qrb__code_row *row, float *out);
    /* out = table[code] * scale, in float, or without scales table[code]. */
    void (*decode_table)(const struct qrb__code_row *row, const float *table,
                         float *out);
    void (*lookup)(const struct qrb__code_lookup *shape, float *y);
};

/* Column of byte m, 0..3, in word j, 0..7, of a permuted block. */
static inline size_t qrb__code_column(uint32_t bits, size_t j, size_t m)
{
    const size_t s = bits == 2 ? 4 : bits < 5 ? 2 : 1;

    return 4 * s * (j / s) + j % s + s * m;
}

static inline uint32_t qrb__code_at(const uint8_t *row, uint32_t bits,
                                    size_t i)
{
    const size_t at = i * bits;
    const size_t shift = at % 8;
    uint32_t word = row[at / 8];

    if (shift + bits > 8)
        word |= (uint32_t)row[at / 8 + 1] << 8;
    return word >> shift & ((1u << bits) - 1);
}

void qrb__codes_ref(struct qrb__code_kernels *kernels);
/* The product, of AVX-512 with VNNI. */
void qrb__code_product_vnni(struct qrb__code_kernels *kernels);

#endif
