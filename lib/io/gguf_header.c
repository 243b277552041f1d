/* The header of a GGUF file, read from its first byte to its last.  Nothing in
 * it is believed: a count is compared with the bytes that are left before
 * anything of its size is allocated, a length before it is skipped.  No value
 * contains values that contain values: arrays of arrays are refused.
 * O(header) time, memory in proportion to the header. */
#include "io/gguf_cursor.h"

#include <stdlib.h>
#include <string.h>

#include "io/bytes.h"
#include "io/name.h"

static const unsigned char magic[4] = { 'G', 'G', 'U', 'F' };

enum {
    VERSION = 3,
    OLD_VERSION = 2,                      /* of the same layout */
    LEAST_VALUE = 8 + 1 + 4 + 1,          /* bytes of key, type and value */
    LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8, /* of a name with one dimension */
    TENSOR_NAME_MAX = 64                  /* as the format says */
};

struct reading {
    struct qrb__gguf *file;
    struct qrb__gguf_cursor cursor;
    size_t *names; /* where the names of an array begin in file->strings */
};

size_t qrb__gguf_value_size(uint32_t type)
{
    switch (type) {
    case QRB__GGUF_U8:
    case QRB__GGUF_I8:
    case QRB__GGUF_BOOL:
        return 1;
    case QRB__GGUF_U16:
    case QRB__GGUF_I16:
        return 2;
    case QRB__GGUF_U32:
    case QRB__GGUF_I32:
    case QRB__GGUF_FLOAT:
        return 4;
    case QRB__GGUF_U64:
    case QRB__GGUF_I64:
    case QRB__GGUF_DOUBLE:
        return 8;
    default:
        return 0;
    }
}

/* A key or a name: kept, with a NUL behind it. */
static qrb_status take_name(struct reading *r, const char *what, size_t most,
                            size_t *at_out)
{
    struct qrb__gguf_cursor *c = &r->cursor;
    struct qrb__bytes *strings = &r->file->strings;
    uint64_t length;
    char *name;
    qrb_status status = qrb__gguf_take_u64(c, what, &length);

    if (status != QRB_OK)
        return status;
    if (length > qrb__gguf_left(c))
        return qrb__gguf_fail_end(c, what);
    if (length == 0 || length > most)
        return qrb__fail(c->ctx, QRB_E_FORMAT,
                         "%s: %s has %llu bytes; 1 to %zu are allowed",
                         qrb__source_name(c->source), what,
                         (unsigned long long)length, most);
    status = qrb__bytes_reserve(c->ctx, strings, (size_t)length + 1);
    if (status != QRB_OK)
        return status;
    name = strings->bytes + strings->used;
    status = qrb__gguf_take(c, what, name, (size_t)length);
    if (status != QRB_OK)
        return status;
    name[length] = '\0';
    if (strlen(name) != length)
        return qrb__gguf_fail(c, what, "has a NUL");
    *at_out = strings->used;
    strings->used += (size_t)length + 1;
    return qrb__name_check(c->ctx, name, qrb__source_name(c->source));
}

static qrb_status skip_string(struct qrb__gguf_cursor *c, const char *key,
                              uint64_t *length_out)
{
    const qrb_status status = qrb__gguf_take_u64(c, key, length_out);

    if (status != QRB_OK)
        return status;
    if (*length_out > qrb__gguf_left(c))
        return qrb__gguf_fail_end(c, key);
    c->at += *length_out;
    return QRB_OK;
}

static qrb_status skip_array(struct qrb__gguf_cursor *c, const char *key,
                             struct qrb__gguf_value *value)
{
    qrb_status status = qrb__gguf_take_u32(c, key, &value->element);
    size_t size;

    if (status != QRB_OK)
        return status;
    size = qrb__gguf_value_size(value->element);
    if (value->element == QRB__GGUF_ARRAY)
        return qrb__gguf_fail(c, key, "is an array of arrays");
    if (size == 0 && value->element != QRB__GGUF_STRING)
        return qrb__gguf_fail(c, key, "is an array of an unknown type");
    status = qrb__gguf_take_count(c, key, size == 0 ? 8 : size, &value->count);
    value->offset = c->at;
    if (status == QRB_OK && size > 0)
        c->at += value->count * size; /* compared with what is left */
    for (uint64_t i = 0; size == 0 && status == QRB_OK && i < value->count;
         i++) {
        uint64_t length;

        status = skip_string(c, key, &length);
    }
    value->size = c->at - value->offset;
    return status;
}

static qrb_status take_scalar(struct qrb__gguf_cursor *c, const char *key,
                              struct qrb__gguf_value *value)
{
    const size_t size = qrb__gguf_value_size(value->type);
    unsigned char bytes[8] = { 0 };
    const qrb_status status = qrb__gguf_take(c, key, bytes, size);

    if (status != QRB_OK)
        return status;
    value->bits = qrb__load_u64(bytes);
    if (value->type == QRB__GGUF_BOOL && value->bits > 1)
        return qrb__gguf_fail(c, key, "is neither true nor false");
    return QRB_OK;
}

static qrb_status take_value(struct reading *r, size_t i)
{
    struct qrb__gguf_cursor *c = &r->cursor;
    struct qrb__gguf_value *value = &r->file->values[i];
    char key[QRB__NAME_SHOWN];
    qrb_status status = take_name(r, "a key", QRB__NAME_MAX, &r->names[i]);

    if (status != QRB_OK)
        return status;
    qrb__name_text(r->file->strings.bytes + r->names[i], key);
    status = qrb__gguf_take_u32(c, key, &value->type);
    if (status != QRB_OK)
        return status;
    if (value->type == QRB__GGUF_ARRAY)
        return skip_array(c, key, value);
    if (value->type == QRB__GGUF_STRING) {
        status = skip_string(c, key, &value->count);
        value->size = value->count;
        value->offset = c->at - value->count;
        return status;
    }
    if (value->type >= QRB__GGUF_VALUE_TYPES)
        return qrb__gguf_fail(c, key, "has an unknown type");
    return take_scalar(c, key, value);
}

static qrb_status take_values(struct reading *r)
{
    struct qrb__gguf *file = r->file;
    qrb_status status = QRB_OK;

    if (file->value_count == 0)
        return QRB_OK;
    file->values =
        qrb__alloc_array(file->ctx, file->value_count, sizeof *file->values);
    r->names = qrb__alloc_array(file->ctx, file->value_count, sizeof *r->names);
    if (file->values == NULL || r->names == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu keys",
                         file->value_count);
    for (size_t i = 0; status == QRB_OK && i < file->value_count; i++)
        status = take_value(r, i);
    return status;
}

/* Extents and bytes of a tensor. */
static qrb_status take_shape(struct qrb__gguf_cursor *c, const char *name,
                             struct qrb__gguf_tensor *tensor)
{
    qrb_status status = qrb__gguf_take_u32(c, name, &tensor->rank);
    uint64_t elements = 1;
    uint32_t type;

    if (status != QRB_OK)
        return status;
    if (tensor->rank < 1 || tensor->rank > QRB__GGUF_MAX_RANK)
        return qrb__fail(c->ctx, QRB_E_FORMAT,
                         "%s: tensor %s has %u dimensions; 1 to %d are allowed",
                         qrb__source_name(c->source), name, tensor->rank,
                         QRB__GGUF_MAX_RANK);
    for (uint32_t i = tensor->rank; status == QRB_OK && i-- > 0;) {
        uint64_t extent = 0;

        status = qrb__gguf_take_u64(c, name, &extent);
        if (status != QRB_OK)
            return status;
        if (extent == 0)
            return qrb__gguf_fail(c, name, "has an extent of 0");
        if (extent > SIZE_MAX ||
            __builtin_mul_overflow(elements, extent, &elements))
            return qrb__gguf_fail(c, name,
                                  "has more elements than 64 bits count");
        tensor->shape[i] = (size_t)extent;
    }
    if (status == QRB_OK)
        status = qrb__gguf_take_u32(c, name, &type);
    if (status != QRB_OK)
        return status;
    tensor->layout = qrb__gguf_layout(type);
    if (tensor->layout == NULL)
        return qrb__fail(c->ctx, QRB_E_UNSUPPORTED,
                         "%s: tensor %s has type %u, which is not supported",
                         qrb__source_name(c->source), name, type);
    if (tensor->shape[tensor->rank - 1] % tensor->layout->block != 0)
        return qrb__fail(c->ctx, QRB_E_FORMAT,
                         "%s: tensor %s has rows of %zu, which are no whole "
                         "blocks of %s",
                         qrb__source_name(c->source), name,
                         tensor->shape[tensor->rank - 1], tensor->layout->name);
    if (__builtin_mul_overflow(elements / tensor->layout->block,
                               (uint64_t)tensor->layout->bytes,
                               &tensor->size) ||
        tensor->size > SIZE_MAX || elements > SIZE_MAX / sizeof(double))
        return qrb__gguf_fail(c, name, "has more bytes than memory");
    return QRB_OK;
}

static qrb_status take_tensor(struct reading *r, size_t i)
{
    struct qrb__gguf_cursor *c = &r->cursor;
    struct qrb__gguf_tensor *tensor = &r->file->tensors[i];
    char name[QRB__NAME_SHOWN];
    qrb_status status =
        take_name(r, "the name of a tensor", TENSOR_NAME_MAX, &r->names[i]);

    if (status != QRB_OK)
        return status;
    qrb__name_text(r->file->strings.bytes + r->names[i], name);
    status = take_shape(c, name, tensor);
    return status == QRB_OK ? qrb__gguf_take_u64(c, name, &tensor->offset)
                            : status;
}

static qrb_status take_tensors(struct reading *r)
{
    struct qrb__gguf *file = r->file;
    qrb_status status = QRB_OK;

    if (file->tensor_count == 0)
        return QRB_OK;
    file->tensors =
        qrb__alloc_array(file->ctx, file->tensor_count, sizeof *file->tensors);
    r->names =
        qrb__alloc_array(file->ctx, file->tensor_count, sizeof *r->names);
    if (file->tensors == NULL || r->names == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu tensors",
                         file->tensor_count);
    for (size_t i = 0; status == QRB_OK && i < file->tensor_count; i++)
        status = take_tensor(r, i);
    return status;
}

static qrb_status take_head(struct reading *r)
{
    struct qrb__gguf_cursor *c = &r->cursor;
    unsigned char begin[4];
    uint32_t version = 0;
    uint64_t tensors = 0;
    uint64_t values = 0;
    qrb_status status = qrb__gguf_take(c, "the magic", begin, sizeof begin);

    if (status == QRB_OK && memcmp(begin, magic, sizeof magic) != 0)
        return qrb__gguf_fail(c, "the file", "does not begin with GGUF");
    if (status == QRB_OK)
        status = qrb__gguf_take_u32(c, "the version", &version);
    if (status == QRB_OK && version != VERSION && version != OLD_VERSION)
        return qrb__fail(c->ctx, QRB_E_UNSUPPORTED,
                         "%s: version %u%s of GGUF; 2 and 3 are supported",
                         qrb__source_name(c->source), version,
                         version % 0x10000 == 0 ? " (big-endian)" : "");
    if (status == QRB_OK)
        status = qrb__gguf_take_count(c, "the number of tensors", LEAST_TENSOR,
                                      &tensors);
    if (status == QRB_OK)
        status =
            qrb__gguf_take_count(c, "the number of keys", LEAST_VALUE, &values);
    r->file->tensor_count = (size_t)tensors;
    r->file->value_count = (size_t)values;
    return status;
}

/* Names point into `strings` once that has stopped growing. */
static qrb_status take_all(struct reading *r)
{
    struct qrb__gguf *file = r->file;
    size_t *keys = NULL;
    qrb_status status = take_head(r);

    if (status == QRB_OK)
        status = take_values(r);
    keys = r->names;
    r->names = NULL;
    if (status == QRB_OK)
        status = take_tensors(r);
    if (status != QRB_OK)
        goto out;
    for (size_t i = 0; i < file->value_count; i++)
        file->values[i].key = file->strings.bytes + keys[i];
    for (size_t i = 0; i < file->tensor_count; i++)
        file->tensors[i].name = file->strings.bytes + r->names[i];
    status = qrb__gguf_place(file, r->cursor.at);
out:
    qrb__free(file->ctx, keys);
    return status;
}

qrb_status qrb__gguf_detect(const struct qrb__source *source, bool *out)
{
    unsigned char begin[sizeof magic];
    qrb_status status;

    *out = false;
    if (qrb__source_size(source) < sizeof begin)
        return QRB_OK;
    status = qrb__source_read(source, 0, begin, sizeof begin);
    *out = status == QRB_OK && memcmp(begin, magic, sizeof magic) == 0;
    return status;
}

qrb_status qrb__gguf_open(qrb_context *ctx, struct qrb__source *source,
                          struct qrb__gguf **out)
{
    struct qrb__gguf *file = qrb__alloc_array(ctx, 1, sizeof *file);
    struct reading *reading = qrb__alloc_array(ctx, 1, sizeof *reading);
    qrb_status status;

    *out = NULL;
    if (file == NULL) {
        qrb__source_close(source);
    } else {
        file->ctx = ctx;
        file->source = source;
    }
    if (file == NULL || reading == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "GGUF file");
        goto out;
    }
    reading->file = file;
    reading->cursor.ctx = ctx;
    reading->cursor.source = source;
    status = take_all(reading);
    if (status == QRB_OK) {
        *out = file;
        file = NULL;
    }
out:
    if (reading != NULL)
        qrb__free(ctx, reading->names);
    qrb__free(ctx, reading);
    qrb__gguf_close(file);
    return status;
}
