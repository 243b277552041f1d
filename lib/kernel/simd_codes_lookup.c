/* Products of values by table with one token.  A lane holds the codes of
 * eight columns, which are looked up one after the other in registers; inputs
 * lie in that order.  A few rows go together, for their sums do not wait for
 * each other. */
#include "kernel/codes.h"
#include "kernel/simd_codes_table.h"

enum { ROWS = LANES == 16 ? 4 : 2, STEPS = 8, COLUMNS = STEPS * LANES };

/* The codes of COLUMNS columns, of which `words` 32-bit words are there. */
#if LANES == 16
static inline veci load_codes(const uint8_t *codes, unsigned bits,
                              size_t words)
{
    const veci spread =
        _mm512_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 10, 11, 11);
    const veci take = _mm512_broadcast_i32x4(
        _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    const veci v = _mm512_maskz_loadu_epi32(
        (__mmask16)((1u << (words < 4 * bits ? words : 4 * bits)) - 1),
        codes);

    return bits == 4 ? v
                     : _mm512_shuffle_epi8(
                           _mm512_permutexvar_epi32(spread, v), take);
}
#else
static inline veci load_codes(const uint8_t *codes, unsigned bits,
                              size_t words)
{
    const veci spread = _mm256_setr_epi32(0, 1, 2, 2, 3, 4, 5, 5);
    const veci take = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    const veci v = vec_bits(vec_load_masked(
        (const float *)(const void *)codes,
        vec_first(words < 2 * bits ? words : 2 * bits)));

    return bits == 4 ? v
                     : _mm256_shuffle_epi8(
                           _mm256_permutevar8x32_epi32(v, spread), take);
}
#endif

/* Three bits fill a table of four bits twice, so that the next code's lowest
 * bit does not matter. */
static inline struct table read_table(const float *values, unsigned bits)
{
    float entries[TABLE];

    for (size_t i = 0; i < TABLE; i++)
        entries[i] = values[i % ((size_t)1 << bits)];
    return table_load(entries);
}

/* Scales of the units that the lanes of columns `at` on are in. */
static inline vec scales_at(const struct qrb__code_lookup *shape, size_t row,
                            size_t at)
{
    const size_t last = shape->cols - QRB__LOOKUP_UNIT;
    const double *scales =
        shape->scales + row * (shape->cols / shape->unit);
    const vec low = vec_set((float)scales[at / shape->unit]);

#if LANES == 16
    const size_t next = at + QRB__LOOKUP_UNIT < last ? at + QRB__LOOKUP_UNIT
                                                     : last;

    return vec_select(0x00ff, low,
                      vec_set((float)scales[next / shape->unit]));
#else
    (void)last;
    return low;
#endif
}

/* rows, bits and scaled are constants where this is called. */
static inline __attribute__((always_inline)) void
look_up_rows(const struct qrb__code_lookup *shape, size_t first, int rows,
             unsigned bits, int scaled, float *y)
{
    const uint8_t *codes = shape->codes + first * shape->row_bytes;
    struct table tables[ROWS];
    vec sums[ROWS];

#pragma GCC unroll 4
    for (int i = 0; i < rows; i++) {
        tables[i] = read_table(shape->tables +
                                   (first + (size_t)i) * shape->tables_apart,
                               bits);
        sums[i] = vec_set(0);
    }
    for (size_t at = 0; at < shape->cols; at += COLUMNS) {
        const size_t byte = at / 8 * bits;
        const size_t words = (shape->row_bytes - byte) / 4;
        const float *x = shape->x + at / QRB__LOOKUP_BLOCK * QRB__LOOKUP_BLOCK +
                         at % QRB__LOOKUP_BLOCK / STEPS;
        veci v[ROWS];
        vec part[ROWS];

#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const uint8_t *row = codes + (size_t)i * shape->row_bytes + byte;

            v[i] = load_codes(row, bits, words);
            part[i] = scaled ? vec_set(0) : sums[i];
            _mm_prefetch((const char *)(row + (size_t)rows * shape->row_bytes),
                         _MM_HINT_T0);
        }
#pragma GCC unroll 8
        for (unsigned k = 0; k < STEPS; k++) {
            const vec inputs = vec_load(x + 16 * k);

#pragma GCC unroll 4
            for (int i = 0; i < rows; i++) {
                const vec w = table_at(&tables[i], veci_right(v[i], bits * k));

                part[i] = vec_fma(w, inputs, part[i]);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++)
            sums[i] = scaled ? vec_fma(scales_at(shape, first + (size_t)i, at),
                                       part[i], sums[i])
                             : part[i];
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
        y[first + (size_t)i] = vec_sum_lanes(sums[i]);
}

static inline __attribute__((always_inline)) void
look_up(const struct qrb__code_lookup *shape, unsigned bits, int scaled,
        float *y)
{
    size_t row = 0;

    for (; row + ROWS <= shape->rows; row += ROWS)
        look_up_rows(shape, row, ROWS, bits, scaled, y);
    for (; row < shape->rows; row++)
        look_up_rows(shape, row, 1, bits, scaled, y);
}

static void lookup(const struct qrb__code_lookup *shape, float *y)
{
    if (shape->bits == 3 && shape->scales != NULL)
        look_up(shape, 3, 1, y);
    else if (shape->bits == 3)
        look_up(shape, 3, 0, y);
    else if (shape->scales != NULL)
        look_up(shape, 4, 1, y);
    else
        look_up(shape, 4, 0, y);
}

void SIMD(qrb__code_lookup)(struct qrb__code_kernels *kernels)
{
    kernels->lookup = lookup;
}
