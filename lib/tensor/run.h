/* Runs of a view: elements [first, first + count) in row-major order, as a
 * dense array of a float type.  Methods work on runs of fixed length, so that
 * strides and types of the host's tensors end here. */
#ifndef QRB_TENSOR_RUN_H
#define QRB_TENSOR_RUN_H

#include "tensor/view.h"

/* Both take views of float types whose elements hold the run; `dtype` is the
 * type of the array `run` [count], QRB_F32 or QRB_F64.  Stores round to
 * nearest even. */
void qrb__run_load(qrb_context *ctx, const struct qrb__view *view, size_t first,
                   size_t count, uint32_t dtype, void *run);
void qrb__run_store(qrb_context *ctx, uint32_t dtype, const void *run,
                    size_t first, size_t count, const struct qrb__view *view);

#endif
