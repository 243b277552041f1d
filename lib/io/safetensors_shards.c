/* A directory of safetensors: one file, or shards that an index names.  The
 * index is as little believed as the shards are: its names are plain, and it
 * and the shards must agree about every tensor. */
#include "io/safetensors.h"

#include <string.h>

#include "core/sort.h"
#include "io/json.h"
#include "io/name.h"
#include "io/path.h"

enum { MAX_SHARDS = 1024 };

/* Names of shards, each once, sorted: [*count_out] in memory of the context.
 * They live as long as the map. */
static qrb_status list_shards(qrb_context *ctx, json_t *map,
                              const char ***names_out, size_t *count_out)
{
    const size_t count = json_object_size(map);
    const char **names;
    const char *tensor;
    json_t *value;
    size_t unique = 0;
    size_t i = 0;

    names = qrb__alloc_array(ctx, count, sizeof *names);
    if (names == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "names of %zu shards", count);
    *names_out = names;
    json_object_foreach (map, tensor, value) {
        char shown[QRB__NAME_SHOWN];

        if (!json_is_string(value) ||
            !qrb__path_is_plain(json_string_value(value)))
            return qrb__fail(ctx, QRB_E_FORMAT,
                             QRB__SAFETENSORS_INDEX
                             ": tensor %s: its shard is no plain file name",
                             qrb__name_text(tensor, shown));
        names[i++] = json_string_value(value);
    }
    qrb__sort(names, count, sizeof *names, qrb__compare_strings);
    for (i = 0; i < count; i++)
        if (unique == 0 || strcmp(names[unique - 1], names[i]) != 0)
            names[unique++] = names[i];
    if (unique > MAX_SHARDS)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         QRB__SAFETENSORS_INDEX
                         ": %zu shards; at most %d are supported",
                         unique, MAX_SHARDS);
    *count_out = unique;
    return QRB_OK;
}

/* Every tensor of a shard is listed there, and every listed one exists: equal
 * numbers and one inclusion. */
static qrb_status check_map(const qrb_safetensors *file, json_t *map,
                            const char *const *names)
{
    char shown[QRB__NAME_SHOWN];
    const char *tensor;
    json_t *value;

    for (size_t i = 0; i < file->count; i++) {
        const struct qrb__safetensors_entry *entry = &file->entries[i];
        const char *listed =
            json_string_value(json_object_get(map, entry->name));

        if (listed == NULL || strcmp(listed, names[entry->shard]) != 0)
            return qrb__fail(file->ctx, QRB_E_FORMAT,
                             QRB__SAFETENSORS_INDEX
                             ": tensor %s is in %.100s; the index says %.100s",
                             qrb__name_text(entry->name, shown),
                             names[entry->shard],
                             listed == NULL ? "nothing of it" : listed);
    }
    json_object_foreach (map, tensor, value)
        if (qrb_safetensors_find(file, tensor) == SIZE_MAX)
            return qrb__fail(
                file->ctx, QRB_E_FORMAT,
                QRB__SAFETENSORS_INDEX ": tensor %s is not in %.200s",
                qrb__name_text(tensor, shown), json_string_value(value));
    return QRB_OK;
}

static qrb_status open_shards(qrb_safetensors *file, const char *directory,
                              const char *const *names, size_t count)
{
    file->shards = qrb__alloc_array(file->ctx, count, sizeof *file->shards);
    if (file->shards == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu shards", count);
    file->shard_count = count;
    for (size_t i = 0; i < count; i++) {
        qrb_status status = qrb__source_open_in(file->ctx, directory, names[i],
                                                &file->shards[i].source);

        if (status == QRB_OK)
            status = qrb__safetensors_header(&file->shards[i]);
        if (status != QRB_OK)
            return status;
    }
    return qrb__safetensors_merge(file);
}

static qrb_status parse_index(qrb_context *ctx, const char *directory,
                              json_t **root_out, json_t **map_out)
{
    struct qrb__source *source;
    char *text = NULL;
    size_t size;
    qrb_status status =
        qrb__source_open_in(ctx, directory, QRB__SAFETENSORS_INDEX, &source);

    if (status != QRB_OK)
        return status;
    status =
        qrb__source_load(source, qrb__json_header_limits.size, &text, &size);
    if (status == QRB_OK)
        status = qrb__json_parse(ctx, text, size, &qrb__json_header_limits,
                                 qrb__source_name(source), root_out);
    if (status == QRB_OK) {
        *map_out = json_object_get(*root_out, "weight_map");
        if (!json_is_object(*map_out) || json_object_size(*map_out) == 0)
            status = qrb__fail(ctx, QRB_E_FORMAT,
                               "%s: weight_map: expected an object that is "
                               "not empty",
                               qrb__source_name(source));
    }
    qrb__free(ctx, text);
    qrb__source_close(source);
    return status;
}

static qrb_status open_index(qrb_safetensors *file, const char *directory)
{
    const char **names = NULL;
    json_t *root = NULL;
    json_t *map = NULL;
    size_t count = 0;
    qrb_status status = parse_index(file->ctx, directory, &root, &map);

    if (status == QRB_OK)
        status = list_shards(file->ctx, map, &names, &count);
    if (status == QRB_OK)
        status = open_shards(file, directory, names, count);
    if (status == QRB_OK)
        status = check_map(file, map, names);
    qrb__free(file->ctx, names);
    json_decref(root);
    return status;
}

qrb_status qrb_safetensors_open_directory(qrb_context *ctx,
                                          const char *directory,
                                          qrb_safetensors **out)
{
    static const char *const single[] = { QRB__SAFETENSORS_FILE };
    qrb_safetensors *file;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (directory == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "directory is NULL");
    file = qrb__alloc_array(ctx, 1, sizeof *file);
    if (file == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "safetensors directory");
    file->ctx = ctx;
    if (!qrb__path_is_directory(directory))
        status = qrb__fail(ctx, QRB_E_IO, "%s is not a directory", directory);
    else if (qrb__path_has(directory, QRB__SAFETENSORS_FILE))
        status = open_shards(file, directory, single, 1);
    else if (qrb__path_has(directory, QRB__SAFETENSORS_INDEX))
        status = open_index(file, directory);
    else
        status = qrb__fail(ctx, QRB_E_IO,
                           "%s has neither " QRB__SAFETENSORS_FILE
                           " nor " QRB__SAFETENSORS_INDEX,
                           directory);
    if (status == QRB_OK) {
        *out = file;
        file = NULL;
    }
    qrb_safetensors_close(file);
    return status;
}
