/* Handles over views: made, pointed elsewhere, released, copied. */
#include "tensor/view.h"

#include <string.h>

/* A shape that the library can address: no extent is 0, and every byte lies
 * less than PTRDIFF_MAX from the first, whichever way the strides go. */
static qrb_status check_shape(qrb_context *ctx, const struct qrb__view *view)
{
    const size_t size = qrb_dtype_size(view->dtype);
    char text[128];
    int64_t span = (int64_t)size;
    size_t bytes = size;

    for (uint32_t i = 0; i < view->rank; i++) {
        const size_t extent = view->shape[i];
        const int64_t stride = view->strides[i];
        int64_t reach;

        if (extent == 0)
            return qrb__fail(ctx, QRB_E_SHAPE, "tensor %s is empty",
                             qrb__view_shape_text(view, text, sizeof text));
        if (!qrb__mul_size(bytes, extent, &bytes) || bytes > PTRDIFF_MAX ||
            stride == INT64_MIN ||
            __builtin_mul_overflow(stride < 0 ? -stride : stride,
                                   (int64_t)(extent - 1), &reach) ||
            __builtin_add_overflow(span, reach, &span) || span > PTRDIFF_MAX)
            return qrb__fail(ctx, QRB_E_SHAPE,
                             "tensor %s of %s is larger than memory",
                             qrb__view_shape_text(view, text, sizeof text),
                             qrb_dtype_name(view->dtype));
        if (stride % (int64_t)size != 0)
            return qrb__fail(ctx, QRB_E_SHAPE,
                             "stride %lld of axis %u is no multiple of the %zu "
                             "bytes of %s",
                             (long long)stride, i, size,
                             qrb_dtype_name(view->dtype));
    }
    return QRB_OK;
}

static qrb_status check_memory(qrb_context *ctx, const struct qrb__view *view,
                               const void *memory)
{
    const size_t size = qrb_dtype_size(view->dtype);

    if ((uintptr_t)memory % size != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "memory of %s is not aligned to %zu bytes",
                         qrb_dtype_name(view->dtype), size);
    return QRB_OK;
}

/* Strides of a dense view whose product may not fit yet: they saturate, and
 * check_shape() refuses them. */
static void set_dense_strides(struct qrb__view *view)
{
    int64_t stride = (int64_t)qrb_dtype_size(view->dtype);

    for (uint32_t i = view->rank; i-- > 0;) {
        view->strides[i] = stride;
        if (view->shape[i] > INT64_MAX ||
            __builtin_mul_overflow(stride, (int64_t)view->shape[i], &stride))
            stride = INT64_MAX;
    }
}

static qrb_status view_from_options(qrb_context *ctx,
                                    const qrb_tensor_options *options,
                                    struct qrb__view *view)
{
    bool strided = false;

    if (qrb_dtype_size(options->dtype) == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "dtype %u is not known",
                         options->dtype);
    if (options->rank < 1 || options->rank > QRB_MAX_RANK)
        return qrb__fail(ctx, QRB_E_SHAPE, "rank is %u, allowed are 1 to %d",
                         options->rank, QRB_MAX_RANK);
    *view = (struct qrb__view){ .memory = options->memory,
                                .dtype = options->dtype,
                                .rank = options->rank };
    for (uint32_t i = 0; i < options->rank; i++) {
        view->shape[i] = options->shape[i];
        view->strides[i] = options->strides[i];
        strided = strided || options->strides[i] != 0;
    }
    if (strided && options->memory == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "strides are given without memory; an owned buffer "
                         "is dense");
    if (!strided)
        set_dense_strides(view);
    return check_shape(ctx, view);
}

qrb_status qrb_tensor_create(qrb_context *ctx,
                             const qrb_tensor_options *options,
                             qrb_tensor **out)
{
    qrb_tensor_options given = QRB_TENSOR_OPTIONS_INIT;
    struct qrb__view view;
    qrb_tensor *tensor = NULL;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    if (options == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "tensor options are NULL");
    status = qrb__options_copy(ctx, options, sizeof given, "tensor options",
                               &given);
    if (status == QRB_OK)
        status = view_from_options(ctx, &given, &view);
    if (status == QRB_OK)
        status = check_memory(ctx, &view, given.memory);
    if (status != QRB_OK)
        return status;

    tensor = qrb__alloc_array(ctx, 1, sizeof *tensor);
    if (tensor == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "tensor");
        goto out;
    }
    tensor->ctx = ctx;
    tensor->view = view;
    if (given.memory == NULL) {
        tensor->owned = qrb__alloc_array(ctx, qrb__view_elements(&view),
                                         qrb_dtype_size(view.dtype));
        if (tensor->owned == NULL) {
            char text[128];

            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "tensor %s of %s",
                               qrb__view_shape_text(&view, text, sizeof text),
                               qrb_dtype_name(view.dtype));
            goto out;
        }
        tensor->view.memory = tensor->owned;
    }
    *out = tensor;
    tensor = NULL; /* the caller's from here on */
out:
    qrb_tensor_destroy(tensor);
    return status;
}

void qrb_tensor_destroy(qrb_tensor *tensor)
{
    if (tensor == NULL)
        return;
    qrb__free(tensor->ctx, tensor->owned);
    qrb__free(tensor->ctx, tensor);
}

qrb_status qrb_tensor_point(qrb_tensor *tensor, const size_t *shape,
                            void *memory)
{
    struct qrb__view view;
    qrb_status status;

    if (tensor == NULL)
        return QRB_E_INVALID_ARG;
    if (shape == NULL || memory == NULL)
        return qrb__fail(tensor->ctx, QRB_E_INVALID_ARG, "%s is NULL",
                         shape == NULL ? "shape" : "memory");
    if (tensor->owned != NULL)
        return qrb__fail(tensor->ctx, QRB_E_STATE,
                         "the tensor owns its buffer and points nowhere else");
    view = tensor->view;
    view.memory = memory;
    for (uint32_t i = 0; i < view.rank; i++)
        view.shape[i] = shape[i];
    set_dense_strides(&view);
    status = check_shape(tensor->ctx, &view);
    if (status == QRB_OK)
        status = check_memory(tensor->ctx, &view, memory);
    if (status == QRB_OK)
        tensor->view = view;
    return status;
}

void *qrb_tensor_memory(const qrb_tensor *tensor)
{
    return tensor == NULL ? NULL : tensor->view.memory;
}

uint32_t qrb_tensor_dtype(const qrb_tensor *tensor)
{
    return tensor == NULL ? 0 : tensor->view.dtype;
}

uint32_t qrb_tensor_rank(const qrb_tensor *tensor)
{
    return tensor == NULL ? 0 : tensor->view.rank;
}

size_t qrb_tensor_extent(const qrb_tensor *tensor, uint32_t axis)
{
    return tensor == NULL || axis >= tensor->view.rank
               ? 0
               : tensor->view.shape[axis];
}

int64_t qrb_tensor_stride(const qrb_tensor *tensor, uint32_t axis)
{
    return tensor == NULL || axis >= tensor->view.rank
               ? 0
               : tensor->view.strides[axis];
}

qrb_status qrb_tensor_copy(const qrb_tensor *source, qrb_tensor *target)
{
    if (source == NULL || target == NULL)
        return QRB_E_INVALID_ARG;
    return qrb__view_copy(target->ctx, &source->view, &target->view);
}
