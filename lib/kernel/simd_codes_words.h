/* From rows of packed codes to vectors of words: a lane is a row, a word four
 * of its codes in bytes.  32 columns are `bits` words of 32 bits before, and
 * eight after, whose columns qrb__code_column() names. */
#ifndef QRB_KERNEL_SIMD_CODES_WORDS_H
#define QRB_KERNEL_SIMD_CODES_WORDS_H

#include "kernel/codes.h"
#include "kernel/simd_codes.h"

enum { BLOCK_WORDS = QRB__CODE_BLOCK / 4, MOST_BITS = 8 };

static inline size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* Four 32-bit words of LANES rows, as four vectors. */
static inline void load_columns(const uint8_t *rows, size_t apart,
                                veci columns[4])
{
    vec r[4];

#pragma GCC unroll 4
    for (size_t a = 0; a < 4; a++)
        r[a] = rows_load(rows + a * apart, apart);
    vec_transpose_groups(r);
#pragma GCC unroll 4
    for (size_t a = 0; a < 4; a++)
        columns[a] = vec_bits(r[a]);
}

/* `words` of them, a multiple of 4. */
static void transpose(const uint8_t *rows, size_t apart, size_t words,
                      int32_t *columns)
{
    for (size_t i = 0; i < words; i += 4) {
        veci four[4];

        load_columns(rows + 4 * i, apart, four);
#pragma GCC unroll 4
        for (size_t a = 0; a < 4; a++)
            bytes_store(columns + (i + a) * LANES, four[a]);
    }
}

/* Bits [at, at + 32) or fewer of the words of a block; at is a constant. */
static inline veci field_at(const veci *columns, unsigned bits, unsigned at)
{
    const unsigned word = at / 32;
    const unsigned shift = at % 32;
    veci field = columns[word];

    if (shift != 0)
        field = veci_right(field, shift);
    if (shift + bits > 32)
        field = veci_or(field, veci_left(columns[word + 1], 32 - shift));
    return field;
}

/* Four fields of `bits` bits to the low ends of four bytes; what is above
 * them is left over. */
static inline veci to_bytes(veci fields, unsigned bits)
{
    const veci halves =
        veci_blend(0x0000ffff, fields, veci_left(fields, 16 - 2 * bits));

    return veci_blend(0x00ff00ff, halves, veci_left(halves, 8 - bits));
}

/* Word j of a block: bits is a constant where this is called. */
static inline __attribute__((always_inline)) veci
word_of(const veci *columns, unsigned bits, unsigned j)
{
    const veci mask = veci_set(0x01010101u * ((1u << bits) - 1));
    veci word;

    switch (bits) {
    case 2:
        word = field_at(columns, 32, j / 4 * 32);
        word = veci_right(word, 2 * (j % 4));
        break;
    case 3:
        word = to_bytes(field_at(columns, 24, j / 2 * 24), 6);
        word = veci_right(word, 3 * (j % 2));
        break;
    case 4:
        word = field_at(columns, 32, j / 2 * 32);
        word = veci_right(word, 4 * (j % 2));
        break;
    case 8:
        return field_at(columns, 32, j * 32);
    default:
        word = to_bytes(field_at(columns, 4 * bits, 4 * j * bits), bits);
        break;
    }
    return veci_and(word, mask);
}

static inline __attribute__((always_inline)) void
read_columns(const int32_t *columns, unsigned bits, veci out[MOST_BITS])
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < bits; i++)
        out[i] = bytes_load(columns + i * LANES);
}

static inline __attribute__((always_inline)) void
spread_block(const int32_t *columns, unsigned bits, int32_t *words)
{
    veci block[MOST_BITS];

    read_columns(columns, bits, block);
#pragma GCC unroll 8
    for (unsigned j = 0; j < BLOCK_WORDS; j++)
        bytes_store(words + j * LANES, word_of(block, bits, j));
}

#define SPREAD(bits)                                                          \
    for (size_t i = 0; i < blocks; i++)                                       \
    spread_block(columns + i * (bits) * LANES, bits,                          \
                 words + i * BLOCK_WORDS * LANES)

static void spread(const int32_t *columns, uint32_t bits, size_t blocks,
                   int32_t *words)
{
    switch (bits) {
    case 2:
        SPREAD(2);
        break;
    case 3:
        SPREAD(3);
        break;
    case 4:
        SPREAD(4);
        break;
    case 5:
        SPREAD(5);
        break;
    case 6:
        SPREAD(6);
        break;
    case 7:
        SPREAD(7);
        break;
    default:
        SPREAD(8);
        break;
    }
}

#endif
