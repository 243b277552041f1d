/* An observer from inside.  The Gram matrix is kept in bands of rows: band b
 * holds rows [b BAND, b BAND + height), of them columns from b BAND on, dense,
 * so that products fill whole bands and half of the matrix is not stored. */
#ifndef QRB_CALIB_OBSERVER_H
#define QRB_CALIB_OBSERVER_H

#include <qrobust/observer.h>

#include "core/context.h"

enum { QRB__OBSERVER_BAND = 512 };

struct qrb_observer {
    qrb_context *ctx;
    qrb_observer_options options; /* checked */
    uint64_t sequences;
    uint64_t tokens;
    double *gram;     /* bands; NULL: not kept */
    size_t gram_size; /* elements of all bands */
    double *abs_sums; /* [columns]; NULL: not kept; so minima and maxima */
    double *minima;
    double *maxima;
};

struct qrb__observer_band {
    double *rows; /* [height, width] */
    size_t first; /* row of the matrix, and its first column */
    size_t height;
    size_t width;
};

size_t qrb__observer_bands(const qrb_observer *observer);
struct qrb__observer_band qrb__observer_band(const qrb_observer *observer,
                                             size_t band);

/* G[row, column] of a kept Gram matrix. */
double qrb__observer_gram_at(const qrb_observer *observer, size_t row,
                             size_t column);
/* All of it into `out` [columns, columns], in the given type. */
void qrb__observer_gram_f32(const qrb_observer *observer, float *out);
void qrb__observer_gram_f64(const qrb_observer *observer, double *out);

/* out[r] = d_r G d_r^T of the rows of d [rows, columns]; scratch is as large
 * as d. */
void qrb__observer_quadratic(const qrb_observer *observer, const double *d,
                             size_t rows, double *scratch, double *out);

#endif
