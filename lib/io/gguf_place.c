/* What holds between the entries of a GGUF header: names are there once, and
 * tensors lie one behind the other.  O(n log n) for n names. */
#include <string.h>

#include "core/sort.h"
#include "io/gguf_cursor.h"
#include "io/name.h"

enum { ALIGNMENT_MAX = 1 << 16 };

/* Sorted names without two that are equal; `items` begin with their name. */
static qrb_status sort_names(const struct qrb__gguf *file, void *items,
                             size_t count, size_t size, const char *what)
{
    char shown[QRB__NAME_SHOWN];

    qrb__sort(items, count, size, qrb__compare_strings);
    for (size_t i = 1; i < count; i++) {
        const char *item = (const char *)items + i * size;

        if (qrb__compare_strings(item - size, item) == 0)
            return qrb__fail(
                file->ctx, QRB_E_FORMAT, "%s: %s %s is there twice",
                qrb__source_name(file->source), what,
                qrb__name_text(*(const char *const *)(const void *)item,
                               shown));
    }
    return QRB_OK;
}

static qrb_status find_alignment(struct qrb__gguf *file)
{
    static const char key[] = "general.alignment";
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);

    file->alignment = QRB__GGUF_ALIGNMENT;
    if (value == NULL)
        return QRB_OK;
    file->alignment = value->bits;
    if (value->type != QRB__GGUF_U32 || value->bits == 0 ||
        (value->bits & (value->bits - 1)) != 0 || value->bits > ALIGNMENT_MAX)
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: %s: expected a power of two up to %d, as a u32",
                         qrb__source_name(file->source), key, ALIGNMENT_MAX);
    return QRB_OK;
}

/* Round up; false when that overflows. */
static bool align(uint64_t *at, uint64_t alignment)
{
    return !__builtin_add_overflow(
        *at, (alignment - *at % alignment) % alignment, at);
}

/* Tensors, in order of the file, lie one behind the other; their offsets
 * become those of the file. */
static qrb_status place_tensors(struct qrb__gguf *file, uint64_t header)
{
    const uint64_t size = qrb__source_size(file->source);
    const char *source = qrb__source_name(file->source);
    uint64_t data = header;
    uint64_t expected = 0;
    bool fits = align(&data, file->alignment);

    for (size_t i = 0; i < file->tensor_count; i++) {
        struct qrb__gguf_tensor *tensor = &file->tensors[i];
        char shown[QRB__NAME_SHOWN];
        uint64_t end;

        qrb__name_text(tensor->name, shown);
        if (tensor->offset != expected)
            return qrb__fail(file->ctx, QRB_E_FORMAT,
                             "%s: tensor %s has offset %llu, expected %llu",
                             source, shown, (unsigned long long)tensor->offset,
                             (unsigned long long)expected);
        fits = fits &&
               !__builtin_add_overflow(data, expected, &tensor->offset) &&
               !__builtin_add_overflow(tensor->offset, tensor->size, &end) &&
               end <= size &&
               !__builtin_add_overflow(expected, tensor->size, &expected) &&
               align(&expected, file->alignment);
        if (!fits)
            return qrb__fail(file->ctx, QRB_E_FORMAT,
                             "%s: tensor %s of %llu bytes reaches beyond the "
                             "end of the file",
                             source, shown, (unsigned long long)tensor->size);
    }
    return QRB_OK;
}

qrb_status qrb__gguf_place(struct qrb__gguf *file, uint64_t header)
{
    qrb_status status = sort_names(file, file->values, file->value_count,
                                   sizeof *file->values, "key");

    if (status == QRB_OK)
        status = find_alignment(file);
    if (status == QRB_OK)
        status = place_tensors(file, header);
    if (status == QRB_OK)
        status = sort_names(file, file->tensors, file->tensor_count,
                            sizeof *file->tensors, "tensor");
    return status;
}
