/* An open GGUF file: finding and reading what its header lists.  Looking a
 * name up is a binary search. */
#include "io/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/elements.h"
#include "io/name.h"
#include "tensor/run.h"

enum { TASK = 4096 }; /* elements that a task decodes, at least a row */

void qrb__gguf_close(struct qrb__gguf *file)
{
    if (file == NULL)
        return;
    qrb__source_close(file->source);
    qrb__bytes_free(file->ctx, &file->strings);
    qrb__free(file->ctx, file->values);
    qrb__free(file->ctx, file->tensors);
    qrb__free(file->ctx, file);
}

const struct qrb__gguf_value *qrb__gguf_find(const struct qrb__gguf *file,
                                             const char *key)
{
    const struct qrb__gguf_value wanted = { .key = key };

    return file->value_count == 0
               ? NULL
               : bsearch(&wanted, file->values, file->value_count,
                         sizeof wanted, qrb__compare_strings);
}

const struct qrb__gguf_tensor *qrb__gguf_find_tensor(
    const struct qrb__gguf *file, const char *name)
{
    const struct qrb__gguf_tensor wanted = { .name = name };

    return file->tensor_count == 0
               ? NULL
               : bsearch(&wanted, file->tensors, file->tensor_count,
                         sizeof wanted, qrb__compare_strings);
}

static qrb_status fail_value(const struct qrb__gguf *file, const char *key,
                             const char *expected)
{
    return qrb__fail(file->ctx, QRB_E_FORMAT, "%s: %s: expected %s",
                     qrb__source_name(file->source), key, expected);
}

/* An integer, its sign extended to 64 bits; false for other types. */
static bool get_integer(const struct qrb__gguf_value *value, bool *negative,
                        uint64_t *out)
{
    const unsigned spare = 64 - 8 * (unsigned)qrb__gguf_value_size(value->type);

    *out = value->bits;
    *negative = false;
    switch (value->type) {
    case QRB__GGUF_I8:
    case QRB__GGUF_I16:
    case QRB__GGUF_I32:
    case QRB__GGUF_I64:
        *out = (uint64_t)((int64_t)(value->bits << spare) >> spare);
        *negative = (*out >> 63) != 0;
        return true;
    case QRB__GGUF_U8:
    case QRB__GGUF_U16:
    case QRB__GGUF_U32:
    case QRB__GGUF_U64:
        return true;
    default:
        return false;
    }
}

qrb_status qrb__gguf_get_count(const struct qrb__gguf *file, const char *key,
                               uint64_t most, uint64_t *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);
    uint64_t found;
    bool negative;

    if (value == NULL)
        return QRB_OK;
    if (!get_integer(value, &negative, &found) || negative || found > most)
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: %s: expected an integer from 0 to %llu",
                         qrb__source_name(file->source), key,
                         (unsigned long long)most);
    *out = found;
    return QRB_OK;
}

qrb_status qrb__gguf_get_real(const struct qrb__gguf *file, const char *key,
                              double *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);
    uint64_t integer;
    bool negative;

    if (value == NULL)
        return QRB_OK;
    if (value->type == QRB__GGUF_FLOAT) {
        const uint32_t bits = (uint32_t)value->bits;
        float real;

        memcpy(&real, &bits, sizeof real);
        *out = real;
    } else if (value->type == QRB__GGUF_DOUBLE) {
        memcpy(out, &value->bits, sizeof *out);
    } else if (get_integer(value, &negative, &integer)) {
        *out = negative ? (double)(int64_t)integer : (double)integer;
    } else {
        return fail_value(file, key, "a number");
    }
    return QRB_OK;
}

qrb_status qrb__gguf_get_flag(const struct qrb__gguf *file, const char *key,
                              bool *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);

    if (value == NULL)
        return QRB_OK;
    if (value->type != QRB__GGUF_BOOL)
        return fail_value(file, key, "true or false");
    *out = value->bits != 0;
    return QRB_OK;
}

qrb_status qrb__gguf_get_text(const struct qrb__gguf *file, const char *key,
                              size_t size, char *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);
    qrb_status status;

    if (value == NULL)
        return QRB_OK;
    if (value->type != QRB__GGUF_STRING || value->count >= size)
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: %s: expected a string of less than %zu bytes",
                         qrb__source_name(file->source), key, size);
    status = qrb__source_read(file->source, value->offset, out,
                              (size_t)value->size);
    if (status != QRB_OK)
        return status;
    out[value->size] = '\0';
    if (strlen(out) != value->size)
        return fail_value(file, key, "a string without NUL");
    return QRB_OK;
}

qrb_status qrb__gguf_load(const struct qrb__gguf *file, const char *key,
                          uint32_t element, struct qrb__gguf_elements *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);

    memset(out, 0, sizeof *out);
    if (value == NULL)
        return QRB_OK;
    if (value->type != QRB__GGUF_ARRAY || value->element != element ||
        value->size > SIZE_MAX)
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: %s: expected an array of type %u",
                         qrb__source_name(file->source), key, element);
    if (value->size == 0)
        return QRB_OK;
    out->bytes = qrb__alloc_array(file->ctx, (size_t)value->size, 1);
    if (out->bytes == NULL)
        return qrb__fail(file->ctx, QRB_E_NO_MEMORY, "%s", key);
    out->size = (size_t)value->size;
    out->count = value->count;
    return qrb__source_read(file->source, value->offset, out->bytes,
                            out->size);
}

void qrb__gguf_elements_free(qrb_context *ctx,
                             struct qrb__gguf_elements *elements)
{
    qrb__free(ctx, elements->bytes);
    memset(elements, 0, sizeof *elements);
}

bool qrb__gguf_next_string(struct qrb__gguf_elements *e, const char **text_out,
                           size_t *length_out)
{
    uint64_t length;

    if (e->size - e->at < 8)
        return false;
    length = qrb__load_u64(e->bytes + e->at);
    if (length > e->size - e->at - 8)
        return false;
    *text_out = (const char *)e->bytes + e->at + 8;
    *length_out = (size_t)length;
    e->at += 8 + (size_t)length;
    return true;
}

/* ---- tensors ------------------------------------------------------------- */

struct decoding {
    qrb_context *ctx;
    const struct qrb__gguf_layout *layout;
    const unsigned char *bytes;
    const struct qrb__view *target;
    size_t blocks;      /* in all */
    size_t task_blocks; /* of one task */
    float *scratch;     /* [workers, task_blocks * layout->block] */
};

static void decode_task(size_t i, size_t worker, void *arg)
{
    const struct decoding *job = arg;
    const size_t block = job->layout->block;
    const size_t first = i * job->task_blocks;
    const size_t left = job->blocks - first;
    const size_t count = left < job->task_blocks ? left : job->task_blocks;
    float *run = job->scratch + worker * job->task_blocks * block;

    qrb__gguf_decode(job->layout, job->bytes + first * job->layout->bytes,
                     count, run);
    qrb__run_store(job->ctx, QRB_F32, run, first * block, count * block,
                   job->target);
}

static qrb_status decode_blocks(struct decoding *job)
{
    const size_t workers = qrb_context_threads(job->ctx);
    const size_t tasks = (job->blocks - 1) / job->task_blocks + 1;

    job->scratch =
        qrb__alloc_array(job->ctx, tasks < workers ? tasks : workers,
                         job->task_blocks * job->layout->block * sizeof(float));
    if (job->scratch == NULL)
        return qrb__fail(job->ctx, QRB_E_NO_MEMORY, "%zu blocks", job->blocks);
    qrb__parallel_for(job->ctx, tasks, decode_task, job);
    qrb__free(job->ctx, job->scratch);
    return QRB_OK;
}

static qrb_status read_blocks(const struct qrb__gguf *file,
                              const struct qrb__gguf_tensor *tensor,
                              const struct qrb__view *target)
{
    struct decoding job = { .ctx = file->ctx,
                            .layout = tensor->layout,
                            .target = target };
    const size_t size = (size_t)tensor->size;
    unsigned char *copy = NULL;
    qrb_status status;

    if (target->dtype < QRB_F64 || target->dtype > QRB_BF16)
        return qrb__fail(file->ctx, QRB_E_UNSUPPORTED,
                         "no conversion from %s to %s", tensor->layout->name,
                         qrb_dtype_name(target->dtype));
    job.blocks = size / tensor->layout->bytes;
    job.task_blocks = TASK / tensor->layout->block;
    status = qrb__source_view(file->source, tensor->offset, size, &job.bytes);
    if (status == QRB_OK && job.bytes == NULL) {
        copy = qrb__alloc_array(file->ctx, size, 1);
        job.bytes = copy;
        status = copy == NULL ? qrb__fail(file->ctx, QRB_E_NO_MEMORY,
                                          "%zu bytes", size)
                              : qrb__source_read(file->source, tensor->offset,
                                                 copy, size);
    }
    if (status == QRB_OK)
        status = decode_blocks(&job);
    qrb__free(file->ctx, copy);
    return status;
}

/* The library's type of elements that are no blocks, or 0. */
static uint32_t plain_dtype(uint32_t type)
{
    switch (type) {
    case QRB__GGUF_F64:
        return QRB_F64;
    case QRB__GGUF_F32:
        return QRB_F32;
    case QRB__GGUF_F16:
        return QRB_F16;
    case QRB__GGUF_BF16:
        return QRB_BF16;
    default:
        return 0;
    }
}

qrb_status qrb__gguf_read(const struct qrb__gguf *file,
                          const struct qrb__gguf_tensor *tensor,
                          const struct qrb__view *target)
{
    const uint32_t plain = plain_dtype(tensor->layout->type);
    const struct qrb__view found =
        qrb__view_make(QRB_F32, tensor->rank, tensor->shape, NULL);
    char name[QRB__NAME_SHOWN];
    char here[QRB__SHAPE_TEXT];
    char there[QRB__SHAPE_TEXT];
    qrb_status status;

    qrb__name_text(tensor->name, name);
    if (!qrb__view_same_shape(&found, target))
        return qrb__fail(file->ctx, QRB_E_SHAPE, "%s: found %s, expected %s",
                         name, qrb__view_shape_text(&found, here, sizeof here),
                         qrb__view_shape_text(target, there, sizeof there));
    status = plain != 0 ? qrb__source_elements(file->source, tensor->offset,
                                               plain, target)
                        : read_blocks(file, tensor, target);
    if (status != QRB_OK)
        return qrb__fail(file->ctx, status, "%s: %s", name,
                         qrb_context_message(file->ctx));
    return QRB_OK;
}
