/* Values of the codes of one row: the plain twins, which vectors use as well
 * where units do not begin with a byte. */
#ifndef QRB_KERNEL_CODES_DECODE_H
#define QRB_KERNEL_CODES_DECODE_H

#include <float.h>

#include "kernel/codes.h"

static inline float code_value(double scale, double zero, uint32_t code)
{
    const double value = scale * ((double)code - zero);

    if (value > (double)FLT_MAX)
        return FLT_MAX;
    return value < -(double)FLT_MAX ? -FLT_MAX : (float)value;
}

/* Codes left of the unit that holds code i. */
static inline size_t left_of_unit(const struct qrb__code_row *row, size_t i)
{
    const size_t left = row->unit - (row->offset + i) % row->unit;

    return left < row->count - i ? left : row->count - i;
}

static inline double zero_of_unit(const struct qrb__code_row *row, size_t unit)
{
    return row->zeros != NULL ? row->zeros[unit] : row->zero;
}

static void decode_grid_plainly(const struct qrb__code_row *row, float *out)
{
    for (size_t i = 0; i < row->count; i++) {
        const size_t unit = (row->offset + i) / row->unit;

        out[i] = code_value(row->scales[unit], zero_of_unit(row, unit),
                            qrb__code_at(row->codes, row->bits, i));
    }
}

static void decode_table_plainly(const struct qrb__code_row *row,
                                 const float *table, float *out)
{
    for (size_t i = 0; i < row->count; i++) {
        const float value = table[qrb__code_at(row->codes, row->bits, i)];

        out[i] = row->scales == NULL
                     ? value
                     : value * (float)row->scales[(row->offset + i) /
                                                  row->unit];
    }
}

#endif
