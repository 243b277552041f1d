/* Tables of up to sixteen floats in registers, looked up by codes. */
#ifndef QRB_KERNEL_SIMD_CODES_TABLE_H
#define QRB_KERNEL_SIMD_CODES_TABLE_H

#include "kernel/simd_codes.h"

enum { TABLE = 16, MOST_TABLE_BITS = 4 };

struct table {
    vec low;
#if LANES == 8
    vec high;
#endif
};

/* By the four lowest bits of each lane. */
#if LANES == 16
static inline struct table table_load(const float *values)
{
    return (struct table){ vec_load(values) };
}

static inline vec table_at(const struct table *table, veci codes)
{
    return _mm512_permutexvar_ps(codes, table->low);
}
#else
static inline struct table table_load(const float *values)
{
    return (struct table){ vec_load(values), vec_load(values + LANES) };
}

static inline vec table_at(const struct table *table, veci codes)
{
    const vec high = _mm256_castsi256_ps(veci_left(codes, 28));

    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table->low, codes),
                            _mm256_permutevar8x32_ps(table->high, codes),
                            high);
}
#endif

#endif
