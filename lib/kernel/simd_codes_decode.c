/* Values of codes in vectors, in the order of the columns.
 *
 * A vector of codes comes from at most 16 bytes: each lane takes the two
 * bytes that hold its code, shifts them and masks them.  Units of up to four
 * bits look their values up in a register, which holds what the twin computes
 * for each code; others compute them in double. */
#include "kernel/simd_codes_table.h"

#include "kernel/codes_decode.h"

enum { WINDOW = 16 };

#define TAKE(bits, lane)                                                      \
    (lane) * (bits) / 8, (lane) * (bits) / 8 + 1, 0x80, 0x80
#define TAKE_4(bits, lane)                                                    \
    TAKE(bits, lane), TAKE(bits, (lane) + 1), TAKE(bits, (lane) + 2),         \
        TAKE(bits, (lane) + 3)
#define TAKE_16(bits)                                                         \
    { TAKE_4(bits, 0), TAKE_4(bits, 4), TAKE_4(bits, 8), TAKE_4(bits, 12) }
#define SHIFT_4(bits, lane)                                                   \
    (lane) * (bits) % 8, ((lane) + 1) * (bits) % 8,                           \
        ((lane) + 2) * (bits) % 8, ((lane) + 3) * (bits) % 8
#define SHIFT_16(bits)                                                        \
    { SHIFT_4(bits, 0), SHIFT_4(bits, 4), SHIFT_4(bits, 8),                   \
      SHIFT_4(bits, 12) }

/* By bits less 2: the bytes that each of 16 lanes takes, and its shift.  A
 * last byte behind the window, of eight bits, is masked away. */
static const uint8_t bytes_taken[7][64] = {
    TAKE_16(2), TAKE_16(3), TAKE_16(4), TAKE_16(5),
    TAKE_16(6), TAKE_16(7), TAKE_16(8),
};
static const uint32_t shifts[7][16] = {
    SHIFT_16(2), SHIFT_16(3), SHIFT_16(4), SHIFT_16(5),
    SHIFT_16(6), SHIFT_16(7), SHIFT_16(8),
};

/* What codes of some bits need. */
struct reader {
    const uint8_t *codes;
    size_t bytes;
    unsigned bits;
    veci take;
    veci shift;
    veci mask;
};

#if LANES == 16
static inline veci spread_bytes(__m128i bytes, const struct reader *reader)
{
    const veci words =
        _mm512_shuffle_epi8(_mm512_broadcast_i32x4(bytes), reader->take);

    return veci_and(_mm512_srlv_epi32(words, reader->shift), reader->mask);
}

static inline vecd vecd_set(double x)
{
    return _mm512_set1_pd(x);
}

static inline vecd vecd_low_of(veci a)
{
    return _mm512_cvtepi32_pd(_mm512_castsi512_si256(a));
}

static inline vecd vecd_high_of(veci a)
{
    return _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(a, 1));
}

static inline vecd vecd_mul(vecd a, vecd b)
{
    return _mm512_mul_pd(a, b);
}

static inline vecd vecd_saturate(vecd a)
{
    return _mm512_max_pd(_mm512_min_pd(a, _mm512_set1_pd((double)FLT_MAX)),
                         _mm512_set1_pd(-(double)FLT_MAX));
}

static inline vec vec_of_halves_of(vecd low, vecd high)
{
    return _mm512_insertf32x8(_mm512_castps256_ps512(_mm512_cvtpd_ps(low)),
                              _mm512_cvtpd_ps(high), 1);
}
#else
static inline veci spread_bytes(__m128i bytes, const struct reader *reader)
{
    const veci words =
        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), reader->take);

    return veci_and(_mm256_srlv_epi32(words, reader->shift), reader->mask);
}

static inline vecd vecd_set(double x)
{
    return _mm256_set1_pd(x);
}

static inline vecd vecd_low_of(veci a)
{
    return _mm256_cvtepi32_pd(_mm256_castsi256_si128(a));
}

static inline vecd vecd_high_of(veci a)
{
    return _mm256_cvtepi32_pd(_mm256_extracti128_si256(a, 1));
}

static inline vecd vecd_mul(vecd a, vecd b)
{
    return _mm256_mul_pd(a, b);
}

static inline vecd vecd_saturate(vecd a)
{
    return _mm256_max_pd(_mm256_min_pd(a, _mm256_set1_pd((double)FLT_MAX)),
                         _mm256_set1_pd(-(double)FLT_MAX));
}

static inline vec vec_of_halves_of(vecd low, vecd high)
{
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm256_cvtpd_ps(low)),
                                _mm256_cvtpd_ps(high), 1);
}
#endif

static struct reader reader_of(const struct qrb__code_row *row)
{
    struct reader reader = { .codes = row->codes,
                             .bytes = row->bytes,
                             .bits = row->bits };

    memcpy(&reader.take, bytes_taken[row->bits - 2], sizeof reader.take);
    memcpy(&reader.shift, shifts[row->bits - 2], sizeof reader.shift);
    reader.mask = veci_set((1u << row->bits) - 1);
    return reader;
}

/* Codes i .. i + LANES, where code i begins a byte; anything behind the row. */
static inline veci codes_from(const struct reader *reader, size_t i)
{
    const size_t at = i / 8 * reader->bits + i % 8 * reader->bits / 8;
    uint8_t window[WINDOW] = { 0 };

    if (reader->bytes - at >= WINDOW)
        return spread_bytes(
            _mm_loadu_si128((const void *)(reader->codes + at)), reader);
    memcpy(window, reader->codes + at, reader->bytes - at);
    return spread_bytes(_mm_loadu_si128((const void *)window), reader);
}

/* Whether every unit begins with a byte. */
static int units_are_bytes(const struct qrb__code_row *row)
{
    const size_t rest = row->unit - row->offset % row->unit;

    return row->unit >= row->count + row->offset ||
           (row->unit * row->bits % 8 == 0 && rest * row->bits % 8 == 0);
}

/* out [n] = table at codes i .. i + n; scaled: times scale. */
static inline void look_up(const struct reader *reader,
                           const struct table *table, size_t i, size_t n,
                           int scaled, vec scale, float *out)
{
    for (size_t k = 0; k < n; k += LANES) {
        vec value = table_at(table, codes_from(reader, i + k));

        if (scaled)
            value = vec_mul(value, scale);
        if (n - k >= LANES)
            vec_store(out + k, value);
        else
            vec_store_masked(out + k, vec_first(n - k), value);
    }
}

static inline vec grid_values(veci codes, vecd scale, vecd zero)
{
    const vecd low =
        vecd_mul(scale, vecd_sub(vecd_low_of(codes), zero));
    const vecd high =
        vecd_mul(scale, vecd_sub(vecd_high_of(codes), zero));

    return vec_of_halves_of(vecd_saturate(low), vecd_saturate(high));
}

static void decode_grid(const struct qrb__code_row *row, float *out)
{
    static const uint32_t counting[TABLE] = { 0, 1, 2,  3,  4,  5,  6,  7,
                                              8, 9, 10, 11, 12, 13, 14, 15 };
    const struct reader reader = reader_of(row);
    size_t n;

    if (!units_are_bytes(row)) {
        decode_grid_plainly(row, out);
        return;
    }
    for (size_t i = 0; i < row->count; i += n) {
        const size_t unit = (row->offset + i) / row->unit;
        const vecd scale = vecd_set(row->scales[unit]);
        const vecd zero = vecd_set(zero_of_unit(row, unit));

        n = left_of_unit(row, i);
        if (row->bits <= MOST_TABLE_BITS) {
            float values[TABLE];
            struct table table;

            for (size_t k = 0; k < TABLE; k += LANES)
                vec_store(values + k,
                          grid_values(veci_load(counting + k), scale, zero));
            table = table_load(values);
            look_up(&reader, &table, i, n, 0, vec_set(0), out + i);
            continue;
        }
        for (size_t k = 0; k < n; k += LANES) {
            const vec value =
                grid_values(codes_from(&reader, i + k), scale, zero);

            if (n - k >= LANES)
                vec_store(out + i + k, value);
            else
                vec_store_masked(out + i + k, vec_first(n - k), value);
        }
    }
}

static void decode_table(const struct qrb__code_row *row, const float *table,
                         float *out)
{
    const struct reader reader = reader_of(row);
    const int scaled = row->scales != NULL;
    float values[TABLE] = { 0 };
    struct table entries;
    size_t n;

    if (row->bits > MOST_TABLE_BITS || (scaled && !units_are_bytes(row))) {
        decode_table_plainly(row, table, out);
        return;
    }
    memcpy(values, table, ((size_t)1 << row->bits) * sizeof *values);
    entries = table_load(values);
    for (size_t i = 0; i < row->count; i += n) {
        const size_t unit = scaled ? (row->offset + i) / row->unit : 0;

        n = scaled ? left_of_unit(row, i) : row->count;
        look_up(&reader, &entries, i, n, scaled,
                vec_set(scaled ? (float)row->scales[unit] : 0), out + i);
    }
}

void SIMD(qrb__code_decode)(struct qrb__code_kernels *kernels)
{
    kernels->decode_grid = decode_grid;
    kernels->decode_table = decode_table;
}
