/* An open safetensors file: finding, describing and reading its tensors.
 * Looking a name up is a binary search. */
#include "io/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include "core/sort.h"
#include "io/elements.h"
#include "io/name.h"

void qrb_safetensors_close(qrb_safetensors *file)
{
    if (file == NULL)
        return;
    for (size_t i = 0; file->shards != NULL && i < file->shard_count; i++) {
        qrb__source_close(file->shards[i].source);
        qrb__free(file->ctx, file->shards[i].strings);
        qrb__free(file->ctx, file->shards[i].entries);
        qrb__free(file->ctx, file->shards[i].pairs);
    }
    qrb__free(file->ctx, file->shards);
    qrb__free(file->ctx, file->entries);
    qrb__free(file->ctx, file);
}

qrb_status qrb__safetensors_merge(qrb_safetensors *file)
{
    size_t count = 0;
    char shown[QRB__NAME_SHOWN];

    for (size_t i = 0; i < file->shard_count; i++)
        count += file->shards[i].count;
    if (count == 0)
        return QRB_OK;
    file->entries = qrb__alloc_array(file->ctx, count, sizeof *file->entries);
    if (file->entries == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu tensors", count);
    for (size_t i = 0; i < file->shard_count; i++)
        for (size_t j = 0; j < file->shards[i].count; j++) {
            file->entries[file->count] = file->shards[i].entries[j];
            file->entries[file->count++].shard = (uint32_t)i;
        }
    qrb__sort(file->entries, count, sizeof *file->entries,
              qrb__compare_strings);
    for (size_t i = 1; i < count; i++)
        if (strcmp(file->entries[i - 1].name, file->entries[i].name) == 0)
            return qrb__fail(file->ctx, QRB_E_FORMAT,
                             "tensor %s is in two shards",
                             qrb__name_text(file->entries[i].name, shown));
    return QRB_OK;
}

qrb_status qrb_safetensors_open(qrb_context *ctx, const qrb_source *source,
                                qrb_safetensors **out)
{
    qrb_safetensors *file = NULL;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    file = qrb__alloc_array(ctx, 1, sizeof *file);
    if (file == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "safetensors file");
    file->ctx = ctx;
    file->shard_count = 1;
    file->shards = qrb__alloc_array(ctx, 1, sizeof *file->shards);
    if (file->shards == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "safetensors file");
        goto out;
    }
    status = qrb__source_open(ctx, source, &file->shards->source);
    if (status == QRB_OK)
        status = qrb__safetensors_header(file->shards);
    if (status == QRB_OK)
        status = qrb__safetensors_merge(file);
    if (status != QRB_OK)
        goto out;
    *out = file;
    file = NULL;
out:
    qrb_safetensors_close(file);
    return status;
}

size_t qrb_safetensors_count(const qrb_safetensors *file)
{
    return file == NULL ? 0 : file->count;
}

const char *qrb_safetensors_name(const qrb_safetensors *file, size_t index)
{
    return file == NULL || index >= file->count ? NULL
                                                : file->entries[index].name;
}

size_t qrb_safetensors_find(const qrb_safetensors *file, const char *name)
{
    const struct qrb__safetensors_entry wanted = { .name = name };
    const struct qrb__safetensors_entry *found;

    if (file == NULL || name == NULL || file->count == 0)
        return SIZE_MAX;
    found = bsearch(&wanted, file->entries, file->count, sizeof *file->entries,
                    qrb__compare_strings);
    return found == NULL ? SIZE_MAX : (size_t)(found - file->entries);
}

static qrb_status check_index(const qrb_safetensors *file, size_t index)
{
    if (index < file->count)
        return QRB_OK;
    return qrb__fail(file->ctx, QRB_E_INVALID_ARG,
                     "tensor %zu of a file that has %zu", index, file->count);
}

qrb_status qrb_safetensors_describe(const qrb_safetensors *file, size_t index,
                                    qrb_tensor_options *out)
{
    qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
    const struct qrb__safetensors_entry *entry;
    qrb_status status;

    if (file == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = check_index(file, index);
    if (status == QRB_OK)
        status = qrb__result_check(file->ctx, "tensor options", out);
    if (status != QRB_OK)
        return status;
    entry = &file->entries[index];
    memcpy(found.shape, entry->shape, sizeof found.shape);
    found.rank = entry->rank;
    found.dtype = entry->dtype;
    qrb__result_copy(&found, sizeof found, out);
    return QRB_OK;
}

qrb_status qrb_safetensors_read(const qrb_safetensors *file, size_t index,
                                qrb_tensor *out)
{
    const struct qrb__safetensors_entry *entry;
    struct qrb__view found;
    char name[QRB__NAME_SHOWN];
    char here[128];
    char there[128];
    qrb_status status;

    if (file == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(file->ctx, __func__);
    if (status == QRB_OK)
        status = check_index(file, index);
    if (status != QRB_OK)
        return status;
    entry = &file->entries[index];
    qrb__name_text(entry->name, name);
    found = qrb__view_make(entry->dtype, entry->rank, entry->shape, NULL);
    if (!qrb__view_same_shape(&found, &out->view))
        return qrb__fail(file->ctx, QRB_E_SHAPE,
                         "tensor %s: found %s, expected %s", name,
                         qrb__view_shape_text(&found, here, sizeof here),
                         qrb__view_shape_text(&out->view, there, sizeof there));
    status = qrb__source_elements(file->shards[entry->shard].source,
                                  entry->offset, entry->dtype, &out->view);
    if (status != QRB_OK)
        return qrb__fail(file->ctx, status, "tensor %s: %s", name,
                         qrb_context_message(file->ctx));
    return QRB_OK;
}

const char *qrb_safetensors_metadata(const qrb_safetensors *file,
                                     const char *key)
{
    if (file == NULL || key == NULL)
        return NULL;
    for (size_t i = 0; i < file->shard_count; i++) {
        const struct qrb__safetensors_shard *shard = &file->shards[i];

        for (size_t j = 0; j < shard->pair_count; j++)
            if (strcmp(shard->pairs[j].key, key) == 0)
                return shard->pairs[j].value;
    }
    return NULL;
}
