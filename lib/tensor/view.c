/* Shapes and strides of views, and what follows from them alone. */
#include "tensor/view.h"

#include <stdio.h>

size_t qrb__view_elements(const struct qrb__view *view)
{
    size_t elements = 1;

    for (uint32_t i = 0; i < view->rank; i++)
        elements *= view->shape[i];
    return elements;
}

bool qrb__view_is_dense(const struct qrb__view *view)
{
    int64_t stride = (int64_t)qrb_dtype_size(view->dtype);

    for (uint32_t i = view->rank; i-- > 0;) {
        /* The stride along a single element is never used. */
        if (view->shape[i] != 1 && view->strides[i] != stride)
            return false;
        stride *= (int64_t)view->shape[i];
    }
    return true;
}

bool qrb__view_same_shape(const struct qrb__view *a, const struct qrb__view *b)
{
    if (a->rank != b->rank)
        return false;
    for (uint32_t i = 0; i < a->rank; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return true;
}

const char *qrb__view_shape_text(const struct qrb__view *view, char *out,
                                 size_t size)
{
    size_t used = 0;

    for (uint32_t i = 0; i < view->rank && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%zu",
                                 i == 0 ? "[" : ", ", view->shape[i]);
    if (used < size)
        snprintf(out + used, size - used, view->rank == 0 ? "[]" : "]");
    return out;
}

struct qrb__view qrb__view_make(uint32_t dtype, uint32_t rank,
                                const size_t *shape, void *memory)
{
    struct qrb__view view = { .memory = memory, .dtype = dtype, .rank = rank };
    int64_t stride = (int64_t)qrb_dtype_size(dtype);

    for (uint32_t i = rank; i-- > 0;) {
        view.shape[i] = shape[i];
        view.strides[i] = stride;
        stride *= (int64_t)shape[i];
    }
    return view;
}
