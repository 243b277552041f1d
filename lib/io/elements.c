/* Elements out of a source into a view, by way of the tensor room's one
 * conversion. */
#include "io/elements.h"

#include "io/bytes.h"

qrb_status qrb__source_elements(const struct qrb__source *source,
                                uint64_t offset, uint32_t dtype,
                                const struct qrb__view *target)
{
    qrb_context *ctx = qrb__source_context(source);
    const unsigned char *bytes;
    unsigned char *copy = NULL;
    struct qrb__view from;
    qrb_status status;
    size_t size;

    if (!qrb__mul_size(qrb__view_elements(target), qrb_dtype_size(dtype),
                       &size))
        return qrb__fail(ctx, QRB_E_SHAPE, "tensor is larger than memory");
    status = qrb__source_view(source, offset, size, &bytes);
    if (status != QRB_OK || size == 0)
        return status;
    if (bytes == NULL) {
        copy = qrb__alloc_array(ctx, size, 1);
        if (copy == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu bytes of %s", size,
                             qrb__source_name(source));
        status = qrb__source_read(source, offset, copy, size);
        bytes = copy;
    }
    if (status == QRB_OK) {
        /* A view has no const, and a source of a copy is only read. */
        from = qrb__view_make(dtype, target->rank, target->shape,
                              (void *)(uintptr_t)bytes);
        status = qrb__view_copy(ctx, &from, target);
    }
    qrb__free(ctx, copy);
    return status;
}
