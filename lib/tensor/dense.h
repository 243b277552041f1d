/* Dense, aligned arrays of any element type, and their values as doubles. */
#ifndef QRB_TENSOR_DENSE_H
#define QRB_TENSOR_DENSE_H

#include <stdbool.h>

#include "tensor/view.h"

enum { QRB__DENSE_BLOCK = 256 /* doubles that are held at a time */ };

/* Whether a type holds fractions: what conversions can have as their target. */
bool qrb__dense_is_float(uint32_t dtype);

/* source [n].  `exact`: integers beyond 53 bits become the nearest double;
 * otherwise they are rounded to odd, for one more rounding to follow. */
void qrb__dense_load(uint32_t dtype, const void *source, size_t n, bool exact,
                     double *out);

/* [n], to the same type or to a float type. */
void qrb__dense_convert(const struct qrb__kernels *kernels,
                        uint32_t source_dtype, const void *source,
                        uint32_t target_dtype, void *target, size_t n);

#endif
