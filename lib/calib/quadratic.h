/* The form d G d^T of rows with a symmetric matrix, from half of it: of a band
 * of rows of G only columns from the band's first on are read, and each pair
 * beyond the band counts twice.  About rows * columns^2 / 2 multiplications. */
#ifndef QRB_CALIB_QUADRATIC_H
#define QRB_CALIB_QUADRATIC_H

#include "core/context.h"

enum { QRB__QUADRATIC_BAND = 512 };

/* Rows of d, and where the results go. */
struct qrb__quadratic {
    size_t rows;
    size_t columns;
    double *out; /* [rows] */
};

/* out[r] += the part of rows [first, first + height) of G, whose columns from
 * `first` on lie at `band`, rows `apart` elements from each other; d is
 * [rows, columns], and scratch as large. */
void qrb__quadratic_band_f32(qrb_context *ctx,
                             const struct qrb__quadratic *form, size_t first,
                             size_t height, const float *band, size_t apart,
                             const float *d, float *scratch);
void qrb__quadratic_band_f64(qrb_context *ctx,
                             const struct qrb__quadratic *form, size_t first,
                             size_t height, const double *band, size_t apart,
                             const double *d, double *scratch);

/* out[r] = d_r G d_r^T of a dense G [columns, columns]. */
void qrb__quadratic_f32(qrb_context *ctx, const struct qrb__quadratic *form,
                        const float *g, const float *d, float *scratch);
void qrb__quadratic_f64(qrb_context *ctx, const struct qrb__quadratic *form,
                        const double *g, const double *d, double *scratch);

#endif
