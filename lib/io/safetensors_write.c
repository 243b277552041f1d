/* Writing a safetensors file: the header in order of names, the data with the
 * widest types first and then by name, so that each tensor is aligned for its
 * type.  No more memory than the header and one row of strided tensors. */
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/json.h"
#include "io/name.h"
#include "io/safetensors.h"
#include "io/text.h"
#include "io/utf8.h"
#include "io/writer.h"
#include "tensor/view.h"

enum { ALIGNMENT = 8 };

struct item {
    const char *name; /* first, for qrb__compare_strings() */
    const struct qrb__view *view;
    uint64_t begin; /* in the data */
    uint64_t end;
};

struct pair {
    const char *key; /* first, as above */
    const char *value;
};

static int compare_layout(const void *a, const void *b)
{
    const struct item *x = a;
    const struct item *y = b;
    const size_t x_size = qrb_dtype_size(x->view->dtype);
    const size_t y_size = qrb_dtype_size(y->view->dtype);

    if (x_size != y_size)
        return x_size > y_size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* What the caller gave, checked: [count] items in order of names. */
static qrb_status collect_items(qrb_context *ctx,
                                const qrb_named_tensor *tensors, size_t count,
                                struct item *items)
{
    char shown[QRB__NAME_SHOWN];

    for (size_t i = 0; i < count; i++) {
        qrb_status status;

        if (tensors[i].name == NULL || tensors[i].tensor == NULL)
            return qrb__fail(ctx, QRB_E_INVALID_ARG, "tensor %zu: %s is NULL",
                             i, tensors[i].name == NULL ? "name" : "tensor");
        status = qrb__name_check(ctx, tensors[i].name, "tensor to write");
        if (status != QRB_OK)
            return qrb__fail(ctx, QRB_E_INVALID_ARG, "%s",
                             qrb_context_message(ctx));
        if (strcmp(tensors[i].name, "__metadata__") == 0)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "a tensor cannot be called __metadata__");
        items[i].name = tensors[i].name;
        items[i].view = &tensors[i].tensor->view;
    }
    qrb__sort(items, count, sizeof *items, qrb__compare_strings);
    for (size_t i = 1; i < count; i++)
        if (strcmp(items[i - 1].name, items[i].name) == 0)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "two tensors are called %s",
                             qrb__name_text(items[i].name, shown));
    return QRB_OK;
}

static qrb_status collect_pairs(qrb_context *ctx, const char *const *metadata,
                                size_t count, struct pair *pairs)
{
    char shown[QRB__NAME_SHOWN];

    for (size_t i = 0; i < count; i++) {
        const char *key = metadata[2 * i];
        const char *value = metadata[2 * i + 1];

        if (key == NULL || value == NULL)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "metadata: pair %zu has a NULL", i);
        if (qrb__utf8_valid(key, strlen(key)) < strlen(key) ||
            qrb__utf8_valid(value, strlen(value)) < strlen(value))
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "metadata: pair %zu is not UTF-8", i);
        pairs[i].key = key;
        pairs[i].value = value;
    }
    qrb__sort(pairs, count, sizeof *pairs, qrb__compare_strings);
    for (size_t i = 1; i < count; i++)
        if (strcmp(pairs[i - 1].key, pairs[i].key) == 0)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "metadata: the key %s is given twice",
                             qrb__name_text(pairs[i].key, shown));
    return QRB_OK;
}

/* Give every tensor its place; views are made with sizes that fit, and only
 * their sum has to be watched. */
static qrb_status lay_out(qrb_context *ctx, struct item *items, size_t count)
{
    uint64_t end = 0;

    qrb__sort(items, count, sizeof *items, compare_layout);
    for (size_t i = 0; i < count; i++) {
        items[i].begin = end;
        if (__builtin_add_overflow(end,
                                   (uint64_t)qrb__view_elements(items[i].view) *
                                       qrb_dtype_size(items[i].view->dtype),
                                   &end) ||
            end > INT64_MAX)
            return qrb__fail(ctx, QRB_E_SHAPE,
                             "the tensors together are larger than a file");
        items[i].end = end;
    }
    return QRB_OK;
}

static void print_item(struct qrb__text *text, const struct item *item)
{
    qrb__text_json_string(text, item->name, strlen(item->name));
    qrb__text_print(text, ":{\"dtype\":\"%s\",\"shape\":[",
                    qrb_dtype_name(item->view->dtype));
    for (uint32_t i = 0; i < item->view->rank; i++)
        qrb__text_print(text, i == 0 ? "%zu" : ",%zu", item->view->shape[i]);
    qrb__text_print(text, "],\"data_offsets\":[%llu,%llu]}",
                    (unsigned long long)item->begin,
                    (unsigned long long)item->end);
}

/* The JSON, filled with spaces so that the data begin aligned; the items are
 * in order of names. */
static void print_header(struct qrb__text *text, const struct item *items,
                         size_t count, const struct pair *pairs,
                         size_t pair_count)
{
    qrb__text_append(text, "{", 1);
    for (size_t i = 0; i < pair_count; i++) {
        qrb__text_print(text, i == 0 ? "\"__metadata__\":{" : ",");
        qrb__text_json_string(text, pairs[i].key, strlen(pairs[i].key));
        qrb__text_append(text, ":", 1);
        qrb__text_json_string(text, pairs[i].value, strlen(pairs[i].value));
    }
    if (pair_count > 0)
        qrb__text_print(text, count > 0 ? "}," : "}");
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            qrb__text_append(text, ",", 1);
        print_item(text, &items[i]);
    }
    qrb__text_append(text, "}", 1);
    while (text->size % ALIGNMENT != 0 && !text->failed)
        qrb__text_append(text, " ", 1);
}

static qrb_status write_strided(qrb_context *ctx, struct qrb__writer *writer,
                                const struct qrb__view *view)
{
    const size_t bytes = qrb__view_elements(view) * qrb_dtype_size(view->dtype);
    unsigned char *dense = qrb__alloc_array(ctx, bytes, 1);
    struct qrb__view target;
    qrb_status status;

    if (dense == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu bytes", bytes);
    target = qrb__view_make(view->dtype, view->rank, view->shape, dense);
    status = qrb__view_copy(ctx, view, &target);
    if (status == QRB_OK)
        status = qrb__writer_write(writer, dense, bytes);
    qrb__free(ctx, dense);
    return status;
}

/* A strided tensor goes out in slices of its first axis. */
static qrb_status write_view(qrb_context *ctx, struct qrb__writer *writer,
                             const struct qrb__view *view)
{
    struct qrb__view slice = *view;
    qrb_status status = QRB_OK;

    if (qrb__view_is_dense(view))
        return qrb__writer_write(writer, view->memory,
                                 qrb__view_elements(view) *
                                     qrb_dtype_size(view->dtype));
    if (view->rank == 1)
        return write_strided(ctx, writer, view);
    slice.shape[0] = 1;
    for (size_t i = 0; i < view->shape[0] && status == QRB_OK; i++) {
        status = write_strided(ctx, writer, &slice);
        slice.memory += view->strides[0];
    }
    return status;
}

/* Header and data; the items come in order of names and leave in order of
 * their places. */
static qrb_status write_items(qrb_context *ctx, const char *path,
                              const struct qrb__text *header,
                              struct item *items, size_t count)
{
    unsigned char length[8];
    struct qrb__writer *writer;
    qrb_status status;

    if (header->size > qrb__json_header_limits.size)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "%s: a header of %zu bytes; at most %zu are allowed",
                         path, header->size, qrb__json_header_limits.size);
    status = qrb__writer_open(ctx, path, &writer);
    if (status != QRB_OK)
        return status;
    qrb__store_u64(length, header->size);
    status = qrb__writer_write(writer, length, sizeof length);
    if (status == QRB_OK)
        status = qrb__writer_write(writer, header->bytes, header->size);
    qrb__sort(items, count, sizeof *items, compare_layout);
    for (size_t i = 0; i < count && status == QRB_OK; i++)
        status = write_view(ctx, writer, items[i].view);
    if (status == QRB_OK)
        status = qrb__writer_commit(writer);
    qrb__writer_close(writer);
    return status;
}

static qrb_status check_arguments(qrb_context *ctx, const char *path,
                                  const qrb_named_tensor *tensors, size_t count,
                                  const char *const *metadata, size_t pairs)
{
    if (path == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "path is NULL");
    if (tensors == NULL && count > 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "tensors is NULL");
    if (metadata == NULL && pairs > 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "metadata is NULL");
    return QRB_OK;
}

qrb_status qrb_safetensors_write(qrb_context *ctx, const char *path,
                                 const qrb_named_tensor *tensors, size_t count,
                                 const char *const *metadata, size_t pairs)
{
    struct qrb__text header = { .ctx = ctx };
    struct item *items = NULL;
    struct pair *sorted = NULL;
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = check_arguments(ctx, path, tensors, count, metadata, pairs);
    if (status != QRB_OK)
        return status;
    if (count > 0)
        items = qrb__alloc_array(ctx, count, sizeof *items);
    if (pairs > 0)
        sorted = qrb__alloc_array(ctx, pairs, sizeof *sorted);
    if ((items == NULL && count > 0) || (sorted == NULL && pairs > 0)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY,
                           "list of %zu tensors and %zu pairs", count, pairs);
        goto out;
    }
    status = collect_items(ctx, tensors, count, items);
    if (status == QRB_OK)
        status = collect_pairs(ctx, metadata, pairs, sorted);
    if (status == QRB_OK)
        status = lay_out(ctx, items, count);
    if (status != QRB_OK)
        goto out;
    qrb__sort(items, count, sizeof *items, qrb__compare_strings);
    print_header(&header, items, count, sorted, pairs);
    status = qrb__text_status(&header, path);
    if (status == QRB_OK)
        status = write_items(ctx, path, &header, items, count);
out:
    qrb__text_release(&header);
    qrb__free(ctx, sorted);
    qrb__free(ctx, items);
    return status;
}
