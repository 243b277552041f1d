/* Views: what a qrb_tensor is inside, and the shape checks around them. */
#ifndef QRB_TENSOR_VIEW_H
#define QRB_TENSOR_VIEW_H

#include <stdbool.h>

#include <qrobust/tensor.h>

#include "core/context.h"

struct qrb__view {
    unsigned char *memory;
    size_t shape[QRB_MAX_RANK];
    int64_t strides[QRB_MAX_RANK]; /* bytes */
    uint32_t dtype;
    uint32_t rank;
};

struct qrb_tensor {
    qrb_context *ctx;
    struct qrb__view view;
    void *owned; /* released with the tensor; NULL for views */
};

/* Product of the extents; views are made with products that fit. */
size_t qrb__view_elements(const struct qrb__view *view);
/* Row-major without gaps. */
bool qrb__view_is_dense(const struct qrb__view *view);
bool qrb__view_same_shape(const struct qrb__view *a,
                          const struct qrb__view *b);
/* Write "[2, 3]" into out, for messages; QRB__SHAPE_TEXT bytes are enough. */
enum { QRB__SHAPE_TEXT = QRB_MAX_RANK * 22 + 4 };
const char *qrb__view_shape_text(const struct qrb__view *view, char *out,
                                 size_t size);
/* A dense view; the product is checked by the caller. */
struct qrb__view qrb__view_make(uint32_t dtype, uint32_t rank,
                                const size_t *shape, void *memory);
/* Element-wise conversion as of qrb_tensor_copy(). */
qrb_status qrb__view_copy(qrb_context *ctx, const struct qrb__view *source,
                          const struct qrb__view *target);
/* First element in row-major order that is not finite, or SIZE_MAX. */
size_t qrb__view_first_not_finite(qrb_context *ctx,
                                  const struct qrb__view *view);

#endif
