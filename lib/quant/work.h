/* One matrix on its way to codes: a working copy that scalings and solvers
 * may change, what is known of its inputs in the same coordinates, and the
 * packed matrix to fill. */
#ifndef QRB_QUANT_WORK_H
#define QRB_QUANT_WORK_H

#include <qrobust/quantizer.h>

#include "core/context.h"
#include "tensor/view.h"

struct qrb__matrix_work {
    qrb_context *ctx;
    size_t rows;
    size_t cols;
    uint32_t precision; /* of the copy: QRB_F64 of F64 weights, else QRB_F32 */
    void *w;            /* [rows, cols] dense and finite, columns multiplied by
                           packed->input_scale; the method's to change */
    const qrb_observer *inputs;     /* as given, unscaled; NULL: none */
    const struct qrb__view *fisher; /* [rows, cols]; NULL: none */
    qrb_packed *packed;             /* laid out and zero */
    double loss;                    /* for the report; NaN: none */
    double damping;                 /* likewise */
    uint32_t outcome;               /* enum qrb_quantize_outcome */
};

/* The working copy as a view. */
struct qrb__view qrb__work_view(const struct qrb__matrix_work *work);

/* Multiply the columns of the copy by scale [cols], > 0 and finite, from here
 * on inputs are divided by it. */
qrb_status qrb__work_scale_inputs(struct qrb__matrix_work *work,
                                  const double *scale);

/* What is known of the inputs in the coordinates of the copy: the Gram matrix
 * into `out` [cols, cols] of the copy's precision, and of a column the mean of
 * |x| (0 without tokens) and the largest |x|. */
void qrb__work_gram(const struct qrb__matrix_work *work, void *out);
/* The Gram matrix in double whatever the copy is. */
void qrb__work_gram_f64(const struct qrb__matrix_work *work, double *out);
double qrb__work_mean_magnitude(const struct qrb__matrix_work *work,
                                size_t column);
double qrb__work_largest_magnitude(const struct qrb__matrix_work *work,
                                   size_t column);

/* Element of the copy. */
double qrb__work_at(const struct qrb__matrix_work *work, size_t row,
                    size_t column);

#endif
