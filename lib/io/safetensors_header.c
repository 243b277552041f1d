/* The header of a safetensors file: 8 bytes of length, JSON, then the data
 * that it describes, without a hole.
 *
 * Nothing in it is believed: each type, extent and offset is compared with its
 * limit and with the bytes that are there before it is used.  O(n log n) time
 * in the number of tensors, memory proportional to the header. */
#include "io/safetensors.h"

#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/json.h"
#include "io/name.h"

enum { LENGTH_SIZE = 8 };

/* What is known while a header is read. */
struct header {
    qrb_context *ctx;
    const char *file;
    uint64_t begin; /* of the data */
    uint64_t size;  /* of the data */
    char *strings;  /* where the next string goes */
    struct qrb__safetensors_shard *shard;
};

/* Copy a string to the shard; the room for all of them was measured before. */
static const char *keep_string(struct header *header, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *kept = header->strings;

    memcpy(kept, text, size);
    header->strings += size;
    return kept;
}

static qrb_status fail_field(const struct header *header, const char *name,
                             const char *field, const char *expected)
{
    char shown[QRB__NAME_SHOWN];

    return qrb__fail(header->ctx, QRB_E_FORMAT,
                     "%s: tensor %s: %s: expected %s", header->file,
                     qrb__name_text(name, shown), field, expected);
}

static qrb_status parse_dtype(const struct header *header, const json_t *value,
                              struct qrb__safetensors_entry *entry)
{
    char shown[QRB__NAME_SHOWN];
    char type[QRB__NAME_SHOWN];

    if (!json_is_string(value))
        return fail_field(header, entry->name, "dtype", "a string");
    for (uint32_t dtype = 1; qrb_dtype_size(dtype) != 0; dtype++)
        if (strcmp(json_string_value(value), qrb_dtype_name(dtype)) == 0) {
            entry->dtype = dtype;
            return QRB_OK;
        }
    return qrb__fail(header->ctx, QRB_E_UNSUPPORTED,
                     "%s: tensor %s: dtype %.24s is not supported",
                     header->file, qrb__name_text(entry->name, shown),
                     qrb__name_text(json_string_value(value), type));
}

static qrb_status parse_shape(const struct header *header, const json_t *value,
                              struct qrb__safetensors_entry *entry)
{
    const size_t rank = json_array_size(value);
    char shown[QRB__NAME_SHOWN];

    if (!json_is_array(value))
        return fail_field(header, entry->name, "shape", "an array");
    if (rank > QRB_MAX_RANK)
        return qrb__fail(header->ctx, QRB_E_UNSUPPORTED,
                         "%s: tensor %s: shape has %zu dimensions; at most %d "
                         "are supported",
                         header->file, qrb__name_text(entry->name, shown), rank,
                         QRB_MAX_RANK);
    entry->rank = rank == 0 ? 1 : (uint32_t)rank;
    entry->shape[0] = 1;
    for (size_t i = 0; i < rank; i++) {
        uint64_t extent;

        if (!qrb__json_get_integer(json_array_get(value, i), 0, SIZE_MAX,
                                   &extent))
            return fail_field(header, entry->name, "shape",
                              "integers that are not negative");
        entry->shape[i] = (size_t)extent;
    }
    return QRB_OK;
}

static qrb_status parse_offsets(const struct header *header,
                                const json_t *value,
                                struct qrb__safetensors_entry *entry)
{
    char shown[QRB__NAME_SHOWN];
    uint64_t begin;
    uint64_t end;

    if (!json_is_array(value) || json_array_size(value) != 2 ||
        !qrb__json_get_integer(json_array_get(value, 0), 0, UINT64_MAX,
                               &begin) ||
        !qrb__json_get_integer(json_array_get(value, 1), 0, UINT64_MAX, &end))
        return fail_field(header, entry->name, "data_offsets",
                          "two integers that are not negative");
    if (begin > end || end > header->size)
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s: tensor %s: data_offsets are [%llu, %llu]; the "
                         "file has %llu bytes of data",
                         header->file, qrb__name_text(entry->name, shown),
                         (unsigned long long)begin, (unsigned long long)end,
                         (unsigned long long)header->size);
    entry->offset = header->begin + begin;
    entry->size = end - begin;
    return QRB_OK;
}

/* The shape's product times the type's size is the length, without overflow in
 * any order of the factors: extents of 0 count as 1 while that is checked, so
 * that strides of an empty tensor fit too. */
static qrb_status check_length(const struct header *header,
                               const struct qrb__safetensors_entry *entry)
{
    size_t bytes = qrb_dtype_size(entry->dtype);
    char shown[QRB__NAME_SHOWN];
    bool empty = false;

    for (uint32_t i = 0; i < entry->rank; i++) {
        const size_t extent = entry->shape[i];

        empty = empty || extent == 0;
        if (!qrb__mul_size(bytes, extent == 0 ? 1 : extent, &bytes) ||
            bytes > PTRDIFF_MAX)
            return fail_field(header, entry->name, "shape",
                              "a product that fits in memory");
    }
    if (empty)
        bytes = 0;
    if (bytes != entry->size)
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s: tensor %s: data_offsets span %llu bytes; shape "
                         "and dtype %s need %zu",
                         header->file, qrb__name_text(entry->name, shown),
                         (unsigned long long)entry->size,
                         qrb_dtype_name(entry->dtype), bytes);
    return QRB_OK;
}

static qrb_status parse_tensor(struct header *header, const char *name,
                               json_t *value)
{
    struct qrb__safetensors_entry *entry =
        &header->shard->entries[header->shard->count];
    qrb_status status = qrb__name_check(header->ctx, name, header->file);

    if (status != QRB_OK)
        return status;
    entry->name = keep_string(header, name);
    if (!json_is_object(value) || json_object_size(value) != 3 ||
        json_object_get(value, "dtype") == NULL ||
        json_object_get(value, "shape") == NULL ||
        json_object_get(value, "data_offsets") == NULL)
        return fail_field(header, name, "entry",
                          "dtype, shape and data_offsets and nothing else");
    status = parse_dtype(header, json_object_get(value, "dtype"), entry);
    if (status == QRB_OK)
        status = parse_shape(header, json_object_get(value, "shape"), entry);
    if (status == QRB_OK)
        status = parse_offsets(header, json_object_get(value, "data_offsets"),
                               entry);
    if (status == QRB_OK)
        status = check_length(header, entry);
    if (status == QRB_OK)
        header->shard->count++;
    return status;
}

static qrb_status parse_metadata(struct header *header, json_t *metadata)
{
    struct qrb__safetensors_shard *shard = header->shard;
    const size_t count = json_object_size(metadata);
    const char *key;
    json_t *value;

    if (!json_is_object(metadata))
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s: __metadata__ is not an object", header->file);
    if (count == 0)
        return QRB_OK;
    shard->pairs = qrb__alloc_array(header->ctx, count, sizeof *shard->pairs);
    if (shard->pairs == NULL)
        return qrb__fail(header->ctx, QRB_E_NO_MEMORY, "metadata of %s",
                         header->file);
    json_object_foreach (metadata, key, value) {
        char shown[QRB__NAME_SHOWN];

        if (!json_is_string(value))
            return qrb__fail(header->ctx, QRB_E_FORMAT,
                             "%s: __metadata__: %s is not a string",
                             header->file, qrb__name_text(key, shown));
        shard->pairs[shard->pair_count].key = keep_string(header, key);
        shard->pairs[shard->pair_count].value =
            keep_string(header, json_string_value(value));
        shard->pair_count++;
    }
    return QRB_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const struct qrb__safetensors_entry *x = a;
    const struct qrb__safetensors_entry *y = b;

    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->size != y->size) /* empty tensors come first */
        return x->size < y->size ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The data are covered from the first byte to the last, each by one tensor. */
static qrb_status check_coverage(const struct header *header)
{
    const struct qrb__safetensors_shard *shard = header->shard;
    uint64_t covered = header->begin;
    char shown[QRB__NAME_SHOWN];

    qrb__sort(shard->entries, shard->count, sizeof *shard->entries,
              compare_offsets);
    for (size_t i = 0; i < shard->count; i++) {
        const struct qrb__safetensors_entry *entry = &shard->entries[i];

        if (entry->offset != covered)
            return qrb__fail(
                header->ctx, QRB_E_FORMAT,
                "%s: tensor %s: data_offsets begin at %llu, where %llu is "
                "next: %s",
                header->file, qrb__name_text(entry->name, shown),
                (unsigned long long)(entry->offset - header->begin),
                (unsigned long long)(covered - header->begin),
                entry->offset < covered ? "tensors overlap"
                                        : "there is a hole");
        covered = entry->offset + entry->size;
    }
    if (covered != header->begin + header->size)
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s: tensors cover %llu bytes of %llu", header->file,
                         (unsigned long long)(covered - header->begin),
                         (unsigned long long)header->size);
    return QRB_OK;
}

/* Room for every name, key and value: no longer than the header, since the
 * quotes of a string outweigh its NUL and escapes only get shorter. */
static qrb_status parse_header(struct header *header, json_t *root,
                               size_t length)
{
    struct qrb__safetensors_shard *shard = header->shard;
    json_t *metadata = json_object_get(root, "__metadata__");
    const size_t count = json_object_size(root) - (metadata != NULL);
    const char *name;
    json_t *value;
    qrb_status status;

    shard->strings = qrb__alloc_array(header->ctx, length, 1);
    if (shard->strings == NULL)
        return qrb__fail(header->ctx, QRB_E_NO_MEMORY, "names of %s",
                         header->file);
    header->strings = shard->strings;
    if (count > 0) {
        shard->entries =
            qrb__alloc_array(header->ctx, count, sizeof *shard->entries);
        if (shard->entries == NULL)
            return qrb__fail(header->ctx, QRB_E_NO_MEMORY, "%zu tensors of %s",
                             count, header->file);
    }
    json_object_foreach (root, name, value) {
        status = value == metadata ? parse_metadata(header, value)
                                   : parse_tensor(header, name, value);
        if (status != QRB_OK)
            return status;
    }
    return check_coverage(header);
}

/* The length in front, and the text that it announces. */
static qrb_status load_header(struct header *header, char **text_out,
                              size_t *length_out)
{
    const struct qrb__source *source = header->shard->source;
    const uint64_t size = qrb__source_size(source);
    unsigned char bytes[LENGTH_SIZE];
    uint64_t length;
    qrb_status status;

    if (size < LENGTH_SIZE)
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s has %llu bytes; a safetensors file begins with 8 "
                         "bytes of length",
                         header->file, (unsigned long long)size);
    status = qrb__source_read(source, 0, bytes, LENGTH_SIZE);
    if (status != QRB_OK)
        return status;
    length = qrb__load_u64(bytes);
    if (length > size - LENGTH_SIZE || length > qrb__json_header_limits.size ||
        length < 2)
        return qrb__fail(header->ctx, QRB_E_FORMAT,
                         "%s: a header of %llu bytes; at least 2, at most %zu "
                         "and no more than the file's %llu are allowed",
                         header->file, (unsigned long long)length,
                         qrb__json_header_limits.size,
                         (unsigned long long)size);
    *text_out = qrb__alloc_array(header->ctx, (size_t)length, 1);
    if (*text_out == NULL)
        return qrb__fail(header->ctx, QRB_E_NO_MEMORY, "header of %s",
                         header->file);
    *length_out = (size_t)length;
    header->begin = LENGTH_SIZE + length;
    header->size = size - header->begin;
    return qrb__source_read(source, LENGTH_SIZE, *text_out, (size_t)length);
}

qrb_status qrb__safetensors_header(struct qrb__safetensors_shard *shard)
{
    struct header header = { .ctx = qrb__source_context(shard->source),
                             .file = qrb__source_name(shard->source),
                             .shard = shard };
    json_t *root = NULL;
    char *text = NULL;
    size_t length = 0;
    qrb_status status;

    status = load_header(&header, &text, &length);
    if (status != QRB_OK)
        goto out;
    if (text[0] != '{') {
        status =
            qrb__fail(header.ctx, QRB_E_FORMAT,
                      "%s: the header does not begin with '{'", header.file);
        goto out;
    }
    status = qrb__json_parse(header.ctx, text, length, &qrb__json_header_limits,
                             header.file, &root);
    if (status != QRB_OK)
        goto out;
    status = parse_header(&header, root, length);
out:
    json_decref(root);
    qrb__free(header.ctx, text);
    return status;
}
