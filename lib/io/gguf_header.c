/* The header of a GGUF file, read from its first byte to its last.  Nothing in
 * it is believed: a count is compared with the bytes that are left before
 * anything of its size is allocated, a length before it is skipped.  No value
 * contains values that contain values: arrays of arrays are refused.
 * O(header) time, memory in proportion to the header. */
#include "io/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/name.h"

static const unsigned char magic[4] = { 'G', 'G', 'U', 'F' };

enum {
    VERSION = 3,
    OLD_VERSION = 2, /* of the same layout */
    ALIGNMENT_MAX = 1 << 16,
    WINDOW = 4096,
    LEAST_VALUE = 8 + 1 + 4 + 1,          /* bytes of key, type and value */
    LEAST_TENSOR = 8 + 1 + 4 + 8 + 4 + 8, /* of a name with one dimension */
    TENSOR_NAME_MAX = 64                  /* as the format says */
};

/* Where reading is, with a window of the file around it. */
struct cursor {
    qrb_context *ctx;
    const struct qrb__source *source;
    uint64_t at;
    uint64_t window_at;
    size_t window_size;
    unsigned char window[WINDOW];
};

struct reading {
    struct qrb__gguf *file;
    struct cursor cursor;
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

static uint64_t left(const struct cursor *c)
{
    return qrb__source_size(c->source) - c->at;
}

static qrb_status fail(const struct cursor *c, const char *what,
                       const char *reason)
{
    char shown[QRB__NAME_SHOWN];

    return qrb__fail(c->ctx, QRB_E_FORMAT, "%s: %s %s",
                     qrb__source_name(c->source), qrb__name_text(what, shown),
                     reason);
}

static qrb_status fail_end(const struct cursor *c, const char *what)
{
    return fail(c, what, "reaches beyond the end of the file");
}

/* Take `size` bytes, at most 8 or out of the window. */
static qrb_status take(struct cursor *c, const char *what, void *out,
                       size_t size)
{
    qrb_status status;

    if (size > left(c))
        return fail_end(c, what);
    if (c->at < c->window_at || c->at - c->window_at > c->window_size ||
        size > c->window_size - (size_t)(c->at - c->window_at)) {
        c->window_at = c->at;
        c->window_size = left(c) < WINDOW ? (size_t)left(c) : WINDOW;
        status =
            qrb__source_read(c->source, c->at, c->window, c->window_size);
        if (status != QRB_OK) {
            c->window_size = 0;
            return status;
        }
    }
    memcpy(out, c->window + (c->at - c->window_at), size);
    c->at += size;
    return QRB_OK;
}

static qrb_status take_u32(struct cursor *c, const char *what, uint32_t *out)
{
    unsigned char bytes[4] = { 0 };
    const qrb_status status = take(c, what, bytes, sizeof bytes);

    if (status == QRB_OK)
        *out = qrb__load_u32(bytes);
    return status;
}

static qrb_status take_u64(struct cursor *c, const char *what, uint64_t *out)
{
    unsigned char bytes[8] = { 0 };
    const qrb_status status = take(c, what, bytes, sizeof bytes);

    if (status == QRB_OK)
        *out = qrb__load_u64(bytes);
    return status;
}

/* A number of things of at least `least` bytes each. */
static qrb_status take_count(struct cursor *c, const char *what, size_t least,
                             uint64_t *out)
{
    const qrb_status status = take_u64(c, what, out);

    if (status == QRB_OK && *out > left(c) / least)
        return qrb__fail(c->ctx, QRB_E_FORMAT,
                         "%s: %.100s is %llu, and %llu bytes are left",
                         qrb__source_name(c->source), what,
                         (unsigned long long)*out,
                         (unsigned long long)left(c));
    return status;
}

/* A key or a name: kept, with a NUL behind it. */
static qrb_status take_name(struct reading *r, const char *what, size_t most,
                            size_t *at_out)
{
    struct cursor *c = &r->cursor;
    struct qrb__bytes *strings = &r->file->strings;
    uint64_t length;
    char *name;
    qrb_status status = take_u64(c, what, &length);

    if (status != QRB_OK)
        return status;
    if (length > left(c))
        return fail_end(c, what);
    if (length == 0 || length > most)
        return qrb__fail(c->ctx, QRB_E_FORMAT,
                         "%s: %s has %llu bytes; 1 to %zu are allowed",
                         qrb__source_name(c->source), what,
                         (unsigned long long)length, most);
    status = qrb__bytes_reserve(c->ctx, strings, (size_t)length + 1);
    if (status != QRB_OK)
        return status;
    name = strings->bytes + strings->used;
    status = take(c, what, name, (size_t)length);
    if (status != QRB_OK)
        return status;
    name[length] = '\0';
    if (strlen(name) != length)
        return fail(c, what, "has a NUL");
    *at_out = strings->used;
    strings->used += (size_t)length + 1;
    return qrb__name_check(c->ctx, name, qrb__source_name(c->source));
}

static qrb_status skip_string(struct cursor *c, const char *key,
                              uint64_t *length_out)
{
    const qrb_status status = take_u64(c, key, length_out);

    if (status != QRB_OK)
        return status;
    if (*length_out > left(c))
        return fail_end(c, key);
    c->at += *length_out;
    return QRB_OK;
}

static qrb_status skip_array(struct cursor *c, const char *key,
                             struct qrb__gguf_value *value)
{
    qrb_status status = take_u32(c, key, &value->element);
    size_t size;

    if (status != QRB_OK)
        return status;
    size = qrb__gguf_value_size(value->element);
    if (value->element == QRB__GGUF_ARRAY)
        return fail(c, key, "is an array of arrays");
    if (size == 0 && value->element != QRB__GGUF_STRING)
        return fail(c, key, "is an array of an unknown type");
    status = take_count(c, key, size == 0 ? 8 : size, &value->count);
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

static qrb_status take_scalar(struct cursor *c, const char *key,
                              struct qrb__gguf_value *value)
{
    const size_t size = qrb__gguf_value_size(value->type);
    unsigned char bytes[8] = { 0 };
    const qrb_status status = take(c, key, bytes, size);

    if (status != QRB_OK)
        return status;
    value->bits = qrb__load_u64(bytes);
    if (value->type == QRB__GGUF_BOOL && value->bits > 1)
        return fail(c, key, "is neither true nor false");
    return QRB_OK;
}

static qrb_status take_value(struct reading *r, size_t i)
{
    struct cursor *c = &r->cursor;
    struct qrb__gguf_value *value = &r->file->values[i];
    char key[QRB__NAME_SHOWN];
    qrb_status status =
        take_name(r, "a key", QRB__NAME_MAX, &r->names[i]);

    if (status != QRB_OK)
        return status;
    qrb__name_text(r->file->strings.bytes + r->names[i], key);
    status = take_u32(c, key, &value->type);
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
        return fail(c, key, "has an unknown type");
    return take_scalar(c, key, value);
}

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

static qrb_status take_values(struct reading *r)
{
    struct qrb__gguf *file = r->file;
    qrb_status status = QRB_OK;

    if (file->value_count == 0)
        return QRB_OK;
    file->values =
        qrb__alloc_array(file->ctx, file->value_count, sizeof *file->values);
    r->names =
        qrb__alloc_array(file->ctx, file->value_count, sizeof *r->names);
    if (file->values == NULL || r->names == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%zu keys",
                         file->value_count);
    for (size_t i = 0; status == QRB_OK && i < file->value_count; i++)
        status = take_value(r, i);
    return status;
}

/* Extents and bytes of a tensor. */
static qrb_status take_shape(struct cursor *c, const char *name,
                             struct qrb__gguf_tensor *tensor)
{
    qrb_status status = take_u32(c, name, &tensor->rank);
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

        status = take_u64(c, name, &extent);
        if (status != QRB_OK)
            return status;
        if (extent == 0)
            return fail(c, name, "has an extent of 0");
        if (extent > SIZE_MAX ||
            __builtin_mul_overflow(elements, extent, &elements))
            return fail(c, name, "has more elements than 64 bits count");
        tensor->shape[i] = (size_t)extent;
    }
    if (status == QRB_OK)
        status = take_u32(c, name, &type);
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
                         tensor->shape[tensor->rank - 1],
                         tensor->layout->name);
    if (__builtin_mul_overflow(elements / tensor->layout->block,
                               (uint64_t)tensor->layout->bytes,
                               &tensor->size) ||
        tensor->size > SIZE_MAX || elements > SIZE_MAX / sizeof(double))
        return fail(c, name, "has more bytes than memory");
    return QRB_OK;
}

static qrb_status take_tensor(struct reading *r, size_t i)
{
    struct cursor *c = &r->cursor;
    struct qrb__gguf_tensor *tensor = &r->file->tensors[i];
    char name[QRB__NAME_SHOWN];
    qrb_status status =
        take_name(r, "the name of a tensor", TENSOR_NAME_MAX, &r->names[i]);

    if (status != QRB_OK)
        return status;
    qrb__name_text(r->file->strings.bytes + r->names[i], name);
    status = take_shape(c, name, tensor);
    return status == QRB_OK ? take_u64(c, name, &tensor->offset) : status;
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
    return !__builtin_add_overflow(*at, (alignment - *at % alignment) %
                                            alignment, at);
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

static qrb_status take_head(struct reading *r)
{
    struct cursor *c = &r->cursor;
    unsigned char begin[4];
    uint32_t version = 0;
    uint64_t tensors = 0;
    uint64_t values = 0;
    qrb_status status = take(c, "the magic", begin, sizeof begin);

    if (status == QRB_OK && memcmp(begin, magic, sizeof magic) != 0)
        return fail(c, "the file", "does not begin with GGUF");
    if (status == QRB_OK)
        status = take_u32(c, "the version", &version);
    if (status == QRB_OK && version != VERSION && version != OLD_VERSION)
        return qrb__fail(c->ctx, QRB_E_UNSUPPORTED,
                         "%s: version %u%s of GGUF; 2 and 3 are supported",
                         qrb__source_name(c->source), version,
                         version % 0x10000 == 0 ? " (big-endian)" : "");
    if (status == QRB_OK)
        status = take_count(c, "the number of tensors", LEAST_TENSOR, &tensors);
    if (status == QRB_OK)
        status = take_count(c, "the number of keys", LEAST_VALUE, &values);
    r->file->tensor_count = (size_t)tensors;
    r->file->value_count = (size_t)values;
    return status;
}

/* The order matters: the list of tensors is placed while it is in order of the
 * file, and names point into `strings` once that has stopped growing. */
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
    status = sort_names(file, file->values, file->value_count,
                        sizeof *file->values, "key");
    if (status == QRB_OK)
        status = find_alignment(file);
    if (status == QRB_OK)
        status = place_tensors(file, r->cursor.at);
    if (status == QRB_OK)
        status = sort_names(file, file->tensors, file->tensor_count,
                            sizeof *file->tensors, "tensor");
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
