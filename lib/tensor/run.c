/* A run is cut at the ends of the view's last axis, unless the view is dense,
 * and each piece is copied as a view of rank 1.  O(count), no allocation. */
#include "tensor/run.h"

/* Piece of a view from element `first` on: as long as it is regular. */
static struct qrb__view piece_at(const struct qrb__view *view, size_t first,
                                 size_t count)
{
    struct qrb__view piece =
        qrb__view_make(view->dtype, 1, &count, view->memory);
    const uint32_t last = view->rank - 1;

    if (qrb__view_is_dense(view)) {
        piece.memory += first * qrb_dtype_size(view->dtype);
        return piece;
    }
    if (count > view->shape[last] - first % view->shape[last])
        piece.shape[0] = view->shape[last] - first % view->shape[last];
    piece.strides[0] = view->strides[last];
    for (uint32_t axis = view->rank; axis-- > 0;) {
        piece.memory +=
            (int64_t)(first % view->shape[axis]) * view->strides[axis];
        first /= view->shape[axis];
    }
    return piece;
}

/* The types are the callers' promise, so that no copy here can fail. */
void qrb__run_load(qrb_context *ctx, const struct qrb__view *view, size_t first,
                   size_t count, uint32_t dtype, void *run)
{
    unsigned char *at = run;

    while (count > 0) {
        const struct qrb__view piece = piece_at(view, first, count);
        const size_t n = piece.shape[0];
        const struct qrb__view target = qrb__view_make(dtype, 1, &n, at);

        qrb__view_copy(ctx, &piece, &target);
        at += n * qrb_dtype_size(dtype);
        first += n;
        count -= n;
    }
}

void qrb__run_store(qrb_context *ctx, uint32_t dtype, const void *run,
                    size_t first, size_t count, const struct qrb__view *view)
{
    /* Views hold memory that is written elsewhere; a source is only read. */
    unsigned char *at = (unsigned char *)(uintptr_t)run;

    while (count > 0) {
        const struct qrb__view piece = piece_at(view, first, count);
        const size_t n = piece.shape[0];
        const struct qrb__view source = qrb__view_make(dtype, 1, &n, at);

        qrb__view_copy(ctx, &source, &piece);
        at += n * qrb_dtype_size(dtype);
        first += n;
        count -= n;
    }
}
