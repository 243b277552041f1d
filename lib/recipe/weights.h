/* The weights that a filter selects, as drivers change them: seen as matrices,
 * with notice to the host, and with a way back after a failure. */
#ifndef QRB_RECIPE_WEIGHTS_H
#define QRB_RECIPE_WEIGHTS_H

#include "model/model.h"

/* A parameter as [out, in]: as it lies, transposed where it is stored [in,
 * out], and with the axes of filters behind the first as one.  False where
 * that is not possible: a vector, or filters with gaps. */
bool qrb__parameter_matrix(const struct qrb__parameter *parameter,
                           struct qrb__view *out);

/* QRB_E_STATE where a selected parameter is perturbed or has one of these
 * flags (enum qrb_parameter_flag). */
qrb_status qrb__refuse_selected(qrb_model *model, const qrb_filter *filter,
                                uint32_t flags);

/* Tell the host of every selected weight; goes on after a failure, whose
 * status it returns. */
qrb_status qrb__written_selected(qrb_model *model, const qrb_filter *filter);

/* Restore a snapshot after a failure, whose status and message stay. */
qrb_status qrb__undo(qrb_context *ctx, qrb_snapshot *snapshot,
                     qrb_status status);

#endif
