/* Rows of the cache: one pass over a row to store it, one to load it.  Codes
 * of 4 bits lie two to a byte, the first in the lower half; rows are of an
 * even number of elements. */
#include "engine/cache.h"

#include <string.h>

#include "kernel/real.h"
#include "kernel/small_float.h"

enum { HALF_BITS = 16, BYTE_BITS = 8 };
#define HALF_MAX 65504

static unsigned char *bytes_of(const struct qrb__cache *cache, size_t row)
{
    return cache->rows + row * cache->row;
}

static void store_half(const real *x, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++) {
        const double clipped = x[i] > HALF_MAX    ? HALF_MAX
                               : x[i] < -HALF_MAX ? -HALF_MAX
                                                  : (double)x[i];

        out[i] = qrb__small_float_encode(&qrb__float16, clipped);
    }
}

static void store_codes(const struct qrb__cache *cache, size_t row,
                        const real *x, int32_t *codes)
{
    const struct qrb__grid_scale scale =
        REAL(qrb__grid_fit)(&cache->grid, x, cache->dim);
    real *kept = (real *)cache->scales + 2 * row;
    unsigned char *bytes = bytes_of(cache, row);

    REAL(qrb__grid_encode)(&cache->grid, &scale, x, cache->dim, codes);
    kept[0] = (real)scale.scale;
    kept[1] = (real)scale.zero_point;
    if (cache->kv_bits == BYTE_BITS)
        for (size_t i = 0; i < cache->dim; i++)
            bytes[i] = (unsigned char)codes[i];
    else
        for (size_t i = 0; i < cache->dim; i += 2)
            bytes[i / 2] = (unsigned char)(codes[i] | codes[i + 1] << 4);
}

void REAL(qrb__cache_store)(const struct qrb__cache *cache,
                            const struct qrb__cache_rows *rows, const real *x,
                            size_t stride, size_t worker)
{
    const size_t at = qrb__cache_at(cache, rows);

    for (size_t r = 0; r < rows->count; r++, x += stride)
        if (cache->kv_bits == 0)
            memcpy(bytes_of(cache, at + r), x, cache->row);
        else if (cache->kv_bits == HALF_BITS)
            store_half(x, cache->dim,
                       (uint16_t *)(void *)bytes_of(cache, at + r));
        else
            store_codes(cache, at + r, x, cache->codes + worker * cache->dim);
}

static void load_half(const struct qrb__kernels *kernels, const uint16_t *x,
                      size_t n, real *out)
{
#if QRB_REAL_BITS == 32
    kernels->f16_to_f32(x, n, out);
#else
    (void)kernels;
    for (size_t i = 0; i < n; i++)
        out[i] = qrb__small_float_decode(&qrb__float16, x[i]);
#endif
}

/* For the kernel, rows of a head are one row of codes whose units are heads of
 * a token.  Its values are those of the grid: code - z is exact in both, and
 * the product is rounded once. */
static void load_codes(const struct qrb__cache *cache,
                       const struct qrb__kernels *kernels, size_t first,
                       size_t count, size_t worker, real *out)
{
    const real *kept = (const real *)cache->scales + 2 * first;
#if QRB_REAL_BITS == 32
    double *scales = cache->units + worker * 2 * QRB__CACHE_KEYS;
    double *zeros = scales + QRB__CACHE_KEYS;
    const struct qrb__code_row row = { .codes = bytes_of(cache, first),
                                       .bytes = count * cache->row,
                                       .count = count * cache->dim,
                                       .bits = cache->kv_bits,
                                       .unit = cache->dim,
                                       .scales = scales,
                                       .zeros = zeros };

    for (size_t i = 0; i < count; i++) {
        scales[i] = kept[2 * i];
        zeros[i] = kept[2 * i + 1];
    }
    kernels->codes.decode_grid(&row, out);
#else
    int32_t *codes = cache->codes + worker * cache->dim;

    (void)kernels;
    for (size_t r = 0; r < count; r++, out += cache->dim) {
        const struct qrb__grid_scale scale = { kept[2 * r], kept[2 * r + 1] };

        for (size_t i = 0; i < cache->dim; i++)
            codes[i] = (int32_t)qrb__code_at(bytes_of(cache, first + r),
                                             cache->kv_bits, i);
        REAL(qrb__grid_decode)(&scale, codes, cache->dim, out);
    }
#endif
}

const real *REAL(qrb__cache_load)(const struct qrb__cache *cache,
                                  const struct qrb__kernels *kernels,
                                  const struct qrb__cache_rows *rows,
                                  size_t worker)
{
    const size_t at = qrb__cache_at(cache, rows);
    real *out;

    if (cache->kv_bits == 0)
        return (const real *)(const void *)bytes_of(cache, at);
    out = (real *)cache->decoded + worker * QRB__CACHE_KEYS * cache->dim;
    if (cache->kv_bits == HALF_BITS)
        load_half(kernels, (const uint16_t *)(const void *)bytes_of(cache, at),
                  rows->count * cache->dim, out);
    else
        load_codes(cache, kernels, at, rows->count, worker, out);
    return out;
}
