/* How much the loss feels each weight: sums of squared gradients over the
 * calibration sequences. */
#ifndef QRB_RECIPE_SQUARED_GRADIENTS_H
#define QRB_RECIPE_SQUARED_GRADIENTS_H

#include "recipe/linear_inputs.h"
#include "recipe/quantize_plan.h"

struct qrb__squared_gradients {
    qrb_model *model;
    float **sums; /* [parameters], each dense in the shape of its gradient;
                     NULL: not collected */
};

/* Run all samples forward and backward, and add up the squares at the
 * matrices of a plan from `first` on.  Zeroed first; close it in any case. */
qrb_status qrb__squared_gradients_collect(
    struct qrb__squared_gradients *squares, struct qrb__linear_inputs *inputs,
    const struct qrb__quantize_plan *plan, size_t first);
/* The sums of a parameter as [out, in]. */
bool qrb__squared_gradients_of(const struct qrb__squared_gradients *squares,
                               size_t parameter, struct qrb__view *out);
void qrb__squared_gradients_drop(struct qrb__squared_gradients *squares,
                                 size_t parameter);
void qrb__squared_gradients_close(struct qrb__squared_gradients *squares);

#endif
