/* Residuals: what is added to a packed matrix after its codes are made. */
#ifndef QRB_QUANT_RESIDUAL_COLUMNS_H
#define QRB_QUANT_RESIDUAL_COLUMNS_H

#include "quant/work.h"

struct qrb__residual {
    qrb_residual_options options; /* checked */
    qrb_quantizer *quantizer;     /* of the errors, owned */
};

/* The residual that options ask for, of the owner's own kind where they name
 * no quantizer. */
qrb_status qrb__residual_make(const qrb_quantizer *owner,
                              const qrb_residual_options *given,
                              struct qrb__residual **out);
qrb_status qrb__residual_copy(qrb_context *ctx,
                              const struct qrb__residual *residual,
                              struct qrb__residual **out);
/* NULL is fine. */
void qrb__residual_free(qrb_context *ctx, struct qrb__residual *residual);

/* What a residual needs of a calibration. */
qrb_status qrb__residual_check(const struct qrb__residual *residual,
                               qrb_context *ctx,
                               const qrb_calibration *calibration, size_t cols);

/* Quantize the errors of some columns of w, the weights as they were given,
 * and hang them into work->packed. */
qrb_status qrb__residual_add(const struct qrb__residual *residual,
                             const struct qrb__matrix_work *work,
                             const struct qrb__view *w,
                             const qrb_observer *gradients);

#endif
