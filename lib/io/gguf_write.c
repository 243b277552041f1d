/* Writer of GGUF files.  The header grows in memory, since its counts stand in
 * front; tensors go through to the file.  The bytes are a function of the calls
 * alone. */
#include "io/gguf_write.h"

#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/name.h"
#include "io/writer.h"

enum { VERSION = 3, ALIGN = QRB__GGUF_ALIGNMENT };

struct qrb__gguf_writer {
    qrb_context *ctx;
    struct qrb__writer *file;
    struct qrb__bytes values;
    struct qrb__bytes tensors;
    struct qrb__bytes names; /* of keys, then of tensors, NUL-terminated */
    size_t keys_size;        /* bytes of those of keys */
    uint64_t value_count;
    uint64_t tensor_count;
    uint32_t element;   /* of the array that is being added to */
    uint64_t wanted;    /* elements that it still wants */
    uint64_t data_size; /* of all tensors, each padded */
    uint64_t *sizes;    /* [tensor_count] bytes of each */
    size_t sizes_size;
    size_t at;        /* tensor that is being written */
    uint64_t written; /* bytes of it */
    bool began;       /* the header is in the file */
    qrb_status status;
};

qrb_status qrb__gguf_writer_open(qrb_context *ctx, const char *path,
                                 struct qrb__gguf_writer **out)
{
    struct qrb__gguf_writer *w = qrb__alloc_array(ctx, 1, sizeof *w);
    qrb_status status;

    *out = NULL;
    if (w == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "writer of %s", path);
    w->ctx = ctx;
    status = qrb__writer_open(ctx, path, &w->file);
    if (status != QRB_OK) {
        qrb__gguf_writer_close(w);
        return status;
    }
    *out = w;
    return QRB_OK;
}

void qrb__gguf_writer_close(struct qrb__gguf_writer *w)
{
    if (w == NULL)
        return;
    qrb__writer_close(w->file);
    qrb__bytes_free(w->ctx, &w->values);
    qrb__bytes_free(w->ctx, &w->tensors);
    qrb__bytes_free(w->ctx, &w->names);
    qrb__free(w->ctx, w->sizes);
    qrb__free(w->ctx, w);
}

static void remember(struct qrb__gguf_writer *w, qrb_status status)
{
    if (w->status == QRB_OK)
        w->status = status;
}

static void append(struct qrb__gguf_writer *w, struct qrb__bytes *to,
                   const void *bytes, size_t size)
{
    if (w->status == QRB_OK)
        w->status = qrb__bytes_append(w->ctx, to, bytes, size);
}

static void append_u32(struct qrb__gguf_writer *w, struct qrb__bytes *to,
                       uint32_t value)
{
    unsigned char bytes[4];

    qrb__store_u32(bytes, value);
    append(w, to, bytes, sizeof bytes);
}

static void append_u64(struct qrb__gguf_writer *w, struct qrb__bytes *to,
                       uint64_t value)
{
    unsigned char bytes[8];

    qrb__store_u64(bytes, value);
    append(w, to, bytes, sizeof bytes);
}

static void append_string(struct qrb__gguf_writer *w, struct qrb__bytes *to,
                          const char *bytes, size_t size)
{
    append_u64(w, to, size);
    append(w, to, bytes, size);
}

/* A name that the reader would refuse is a mistake of the caller. */
static void check_name(struct qrb__gguf_writer *w, const char *name,
                       size_t most)
{
    char shown[QRB__NAME_SHOWN];

    if (w->status != QRB_OK)
        return;
    if (strlen(name) > most ||
        qrb__name_check(w->ctx, name, "GGUF") != QRB_OK)
        remember(w, qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "\"%s\": names have 1 to %zu bytes of UTF-8",
                              qrb__name_text(name, shown), most));
    append(w, &w->names, name, strlen(name) + 1);
}

/* An array that was begun must be full before anything else comes. */
static void check_full(struct qrb__gguf_writer *w)
{
    if (w->status == QRB_OK && w->wanted != 0)
        remember(w, qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "an array of GGUF lacks %llu elements",
                              (unsigned long long)w->wanted));
}

static void put_key(struct qrb__gguf_writer *w, const char *key, uint32_t type)
{
    check_full(w);
    if (w->status == QRB_OK && (w->tensor_count > 0 || w->began))
        remember(w, qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "a key behind the list of tensors"));
    check_name(w, key, QRB__NAME_MAX);
    append_string(w, &w->values, key, strlen(key));
    append_u32(w, &w->values, type);
    w->keys_size = w->names.used;
    w->value_count++;
}

static uint32_t bits_of(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

void qrb__gguf_put_u32(struct qrb__gguf_writer *w, const char *key,
                       uint32_t value)
{
    put_key(w, key, QRB__GGUF_U32);
    append_u32(w, &w->values, value);
}

void qrb__gguf_put_float(struct qrb__gguf_writer *w, const char *key,
                         float value)
{
    put_key(w, key, QRB__GGUF_FLOAT);
    append_u32(w, &w->values, bits_of(value));
}

void qrb__gguf_put_flag(struct qrb__gguf_writer *w, const char *key, bool value)
{
    const unsigned char byte = value;

    put_key(w, key, QRB__GGUF_BOOL);
    append(w, &w->values, &byte, 1);
}

void qrb__gguf_put_text(struct qrb__gguf_writer *w, const char *key,
                        const char *value)
{
    put_key(w, key, QRB__GGUF_STRING);
    append_string(w, &w->values, value, strlen(value));
}

void qrb__gguf_put_array(struct qrb__gguf_writer *w, const char *key,
                         uint32_t element, uint64_t count)
{
    put_key(w, key, QRB__GGUF_ARRAY);
    append_u32(w, &w->values, element);
    append_u64(w, &w->values, count);
    w->element = element;
    w->wanted = count;
}

/* One more element of the array at hand. */
static void count_element(struct qrb__gguf_writer *w, uint32_t type)
{
    if (w->status != QRB_OK)
        return;
    if (w->wanted == 0 || w->element != type)
        remember(w, qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "an element of type %u that no array of GGUF "
                              "wants",
                              type));
    else
        w->wanted--;
}

void qrb__gguf_add_string(struct qrb__gguf_writer *w, const char *bytes,
                          size_t size)
{
    count_element(w, QRB__GGUF_STRING);
    append_string(w, &w->values, bytes, size);
}

void qrb__gguf_add_i32(struct qrb__gguf_writer *w, int32_t value)
{
    count_element(w, QRB__GGUF_I32);
    append_u32(w, &w->values, (uint32_t)value);
}

void qrb__gguf_add_float(struct qrb__gguf_writer *w, float value)
{
    count_element(w, QRB__GGUF_FLOAT);
    append_u32(w, &w->values, bits_of(value));
}

/* Bytes of a tensor; false when the layout or 64 bits cannot have it. */
static bool size_of(const struct qrb__gguf_layout *layout, uint32_t rank,
                    const size_t *shape, uint64_t *out)
{
    uint64_t size = layout->bytes;

    if (rank < 1 || rank > QRB__GGUF_MAX_RANK ||
        shape[rank - 1] % layout->block != 0)
        return false;
    for (uint32_t i = 0; i < rank; i++) {
        const uint64_t extent =
            i + 1 < rank ? shape[i] : shape[i] / layout->block;

        if (extent == 0 || __builtin_mul_overflow(size, extent, &size))
            return false;
    }
    *out = size;
    return size <= INT64_MAX;
}

void qrb__gguf_put_tensor(struct qrb__gguf_writer *w, const char *name,
                          const struct qrb__gguf_layout *layout, uint32_t rank,
                          const size_t *shape)
{
    uint64_t size = 0;
    uint64_t end;
    uint64_t *grown;

    check_full(w);
    check_name(w, name, QRB__GGUF_NAME_MAX);
    if (w->status == QRB_OK &&
        (w->began || !size_of(layout, rank, shape, &size) ||
         __builtin_add_overflow(w->data_size, size + ALIGN, &end)))
        remember(w, qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "%s: a tensor that %s cannot hold", name,
                              layout->name));
    if (w->status != QRB_OK)
        return;
    grown = qrb__grow(w->ctx, w->sizes, &w->sizes_size,
                      (size_t)w->tensor_count, (size_t)w->tensor_count + 1,
                      sizeof *grown);
    if (grown == NULL) {
        remember(w, qrb__fail(w->ctx, QRB_E_NO_MEMORY, "%llu tensors",
                              (unsigned long long)w->tensor_count + 1));
        return;
    }
    w->sizes = grown;
    w->sizes[w->tensor_count++] = size;
    append_string(w, &w->tensors, name, strlen(name));
    append_u32(w, &w->tensors, rank);
    for (uint32_t i = rank; i-- > 0;)
        append_u64(w, &w->tensors, shape[i]);
    append_u32(w, &w->tensors, layout->type);
    append_u64(w, &w->tensors, w->data_size);
    w->data_size += (size + ALIGN - 1) / ALIGN * ALIGN;
}

/* Names [from, to) of w->names, of which none may be there twice. */
static qrb_status check_unique(const struct qrb__gguf_writer *w, size_t from,
                               size_t to, uint64_t count, const char *what)
{
    const char **list;
    size_t at = from;
    qrb_status status = QRB_OK;

    if (count == 0)
        return QRB_OK;
    list = qrb__alloc_array(w->ctx, (size_t)count, sizeof *list);
    if (list == NULL)
        return qrb__fail(w->ctx, QRB_E_NO_MEMORY, "%llu names",
                         (unsigned long long)count);
    for (size_t i = 0; at < to; i++) {
        list[i] = w->names.bytes + at;
        at += strlen(list[i]) + 1;
    }
    qrb__sort(list, (size_t)count, sizeof *list, qrb__compare_strings);
    for (size_t i = 1; status == QRB_OK && i < count; i++)
        if (strcmp(list[i - 1], list[i]) == 0)
            status = qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                               "%s %s is given twice", what, list[i]);
    qrb__free(w->ctx, list);
    return status;
}

static qrb_status write_header(struct qrb__gguf_writer *w)
{
    unsigned char head[24] = { 'G', 'G', 'U', 'F' };
    qrb_status status;

    check_full(w);
    if (w->status != QRB_OK)
        return w->status;
    status = check_unique(w, 0, w->keys_size, w->value_count, "key");
    if (status == QRB_OK)
        status = check_unique(w, w->keys_size, w->names.used, w->tensor_count,
                              "tensor");
    if (status != QRB_OK)
        return status;
    qrb__store_u32(head + 4, VERSION);
    qrb__store_u64(head + 8, w->tensor_count);
    qrb__store_u64(head + 16, w->value_count);
    status = qrb__writer_write(w->file, head, sizeof head);
    if (status == QRB_OK && w->values.used > 0)
        status = qrb__writer_write(w->file, w->values.bytes, w->values.used);
    if (status == QRB_OK && w->tensors.used > 0)
        status = qrb__writer_write(w->file, w->tensors.bytes, w->tensors.used);
    if (status == QRB_OK)
        status = qrb__writer_align(w->file, ALIGN);
    w->began = true;
    return status;
}

static qrb_status write_bytes(struct qrb__gguf_writer *w,
                              const unsigned char *bytes, size_t size)
{
    qrb_status status = w->began ? QRB_OK : write_header(w);

    while (status == QRB_OK && size > 0) {
        uint64_t left;
        size_t piece;

        if (w->at == w->tensor_count)
            return qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                             "%zu bytes behind the last tensor", size);
        left = w->sizes[w->at] - w->written;
        piece = size < left ? size : (size_t)left;
        status = qrb__writer_write(w->file, bytes, piece);
        bytes += piece;
        size -= piece;
        w->written += piece;
        if (piece == left) {
            w->at++;
            w->written = 0;
            if (status == QRB_OK)
                status = qrb__writer_align(w->file, ALIGN);
        }
    }
    return status;
}

qrb_status qrb__gguf_write(struct qrb__gguf_writer *w, const void *bytes,
                           size_t size)
{
    if (w->status == QRB_OK)
        w->status = write_bytes(w, bytes, size);
    return w->status;
}

qrb_status qrb__gguf_commit(struct qrb__gguf_writer *w)
{
    if (w->status == QRB_OK && !w->began)
        w->status = write_header(w);
    if (w->status == QRB_OK && w->at < w->tensor_count)
        w->status = qrb__fail(w->ctx, QRB_E_INVALID_ARG,
                              "tensor %zu of %llu lacks bytes", w->at,
                              (unsigned long long)w->tensor_count);
    if (w->status == QRB_OK)
        w->status = qrb__writer_commit(w->file);
    return w->status;
}
