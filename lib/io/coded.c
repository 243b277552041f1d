/* What layouts of codes share, and the layer of a file. */
#include "io/coded.h"

#include <stdio.h>
#include <string.h>

#include "io/awq_layout.h"
#include "io/gptq_layout.h"
#include "io/name.h"
#include "io/safetensors.h"
#include "kernel/small_float.h"
#include "tensor/view.h"

enum { MULTIPLE = 32, WORD = 32, AWQ_PER_WORD = 8, NAME = QRB__NAME_MAX + 16 };

qrb_status qrb__coded_check(qrb_context *ctx,
                            const struct qrb__coded_shape *shape)
{
    size_t codes;
    size_t bytes;

    if (shape->bits != 2 && shape->bits != 3 && shape->bits != 4 &&
        shape->bits != 8)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "codes of %u bits; 2, 3, 4 and 8 are supported",
                         shape->bits);
    if (shape->inputs == 0 || shape->outputs == 0 ||
        shape->inputs % MULTIPLE != 0 || shape->outputs % MULTIPLE != 0 ||
        !qrb__mul_size(shape->inputs, shape->outputs, &codes) ||
        !qrb__mul_size(codes, sizeof(double), &bytes) ||
        shape->inputs > INT32_MAX)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "a layer of %zu outputs and %zu inputs; multiples of "
                         "32 are allowed",
                         shape->outputs, shape->inputs);
    if (shape->groups == 0 || shape->groups > shape->inputs)
        return qrb__fail(ctx, QRB_E_SHAPE, "%zu groups of %zu inputs",
                         shape->groups, shape->inputs);
    return QRB_OK;
}

qrb_status qrb__coded_pack_scales(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const double *scales, uint16_t *halves)
{
    const qrb_status status = qrb__coded_check(ctx, shape);

    if (status != QRB_OK)
        return status;
    for (size_t g = 0; g < shape->groups; g++)
        for (size_t o = 0; o < shape->outputs; o++) {
            const double scale = scales[o * shape->groups + g];
            const uint16_t half =
                qrb__small_float_encode(&qrb__float16, scale);

            if ((half & 0x7c00) == 0x7c00)
                return qrb__fail(ctx, QRB_E_NOT_FINITE,
                                 "scale of output %zu, group %zu is %g; finite "
                                 "values up to 65504 are allowed",
                                 o, g, scale);
            halves[g * shape->outputs + o] = half;
        }
    return QRB_OK;
}

qrb_status qrb__coded_unpack_scales(qrb_context *ctx,
                                    const struct qrb__coded_shape *shape,
                                    const uint16_t *halves, double *scales)
{
    const qrb_status status = qrb__coded_check(ctx, shape);

    if (status != QRB_OK)
        return status;
    for (size_t g = 0; g < shape->groups; g++)
        for (size_t o = 0; o < shape->outputs; o++) {
            const uint16_t half = halves[g * shape->outputs + o];

            if ((half & 0x7c00) == 0x7c00)
                return qrb__fail(ctx, QRB_E_NOT_FINITE,
                                 "scale of output %zu, group %zu is not finite",
                                 o, g);
            scales[o * shape->groups + g] =
                qrb__small_float_decode(&qrb__float16, half);
        }
    return QRB_OK;
}

void qrb__coded_free(qrb_context *ctx, struct qrb__coded *coded)
{
    qrb__free(ctx, coded->codes);
    qrb__free(ctx, coded->zeros);
    qrb__free(ctx, coded->scales);
    qrb__free(ctx, coded->group_index);
    memset(coded, 0, sizeof *coded);
}

struct reading {
    qrb_context *ctx;
    const qrb_safetensors *file;
    const char *prefix;
    enum qrb__coded_format format;
    struct qrb__coded *coded;
    uint32_t *qweight;
    uint32_t *qzeros;
    uint16_t *halves;
};

/* Index of PREFIX.part, or SIZE_MAX; the name goes into `name` of NAME. */
static size_t find_part(const struct reading *r, const char *part, char *name)
{
    snprintf(name, NAME, "%s.%s", r->prefix, part);
    return qrb_safetensors_find(r->file, name);
}

/* Type and shape of a part: a matrix, or a vector as one of a single row. */
static qrb_status look_at_part(const struct reading *r, const char *part,
                               uint32_t dtype, uint32_t rank, size_t shape[2])
{
    qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
    char name[NAME];
    char shown[QRB__NAME_SHOWN];
    const size_t index = find_part(r, part, name);
    qrb_status status;

    if (index == SIZE_MAX)
        return qrb__fail(r->ctx, QRB_E_FORMAT, "%s: the file does not have it",
                         qrb__name_text(name, shown));
    status = qrb_safetensors_describe(r->file, index, &found);
    if (status != QRB_OK)
        return status;
    if (found.dtype != dtype || found.rank != rank)
        return qrb__fail(r->ctx, QRB_E_FORMAT,
                         "%s: found %s of %u dimensions, expected %s of %u",
                         qrb__name_text(name, shown),
                         qrb_dtype_name(found.dtype), found.rank,
                         qrb_dtype_name(dtype), rank);
    shape[0] = rank == 1 ? 1 : found.shape[0];
    shape[1] = found.shape[rank - 1];
    return QRB_OK;
}

static qrb_status read_part(const struct reading *r, const char *part,
                            uint32_t dtype, uint32_t rank, size_t rows,
                            size_t columns, void *memory)
{
    const size_t shape[2] = { rank == 1 ? columns : rows, columns };
    qrb_tensor target = { r->ctx, qrb__view_make(dtype, rank, shape, memory),
                          NULL };
    size_t found[2];
    char name[NAME];
    qrb_status status = look_at_part(r, part, dtype, rank, found);

    return status == QRB_OK ? qrb_safetensors_read(
                                  r->file, find_part(r, part, name), &target)
                            : status;
}

/* The layer's shape out of those of qweight and scales. */
static qrb_status find_shape(const struct reading *r, uint32_t bits)
{
    struct qrb__coded_shape *shape = &r->coded->shape;
    size_t weights[2];
    size_t scales[2];
    qrb_status status = look_at_part(r, "qweight", QRB_I32, 2, weights);

    if (status == QRB_OK)
        status = look_at_part(r, "scales", QRB_F16, 2, scales);
    if (status != QRB_OK)
        return status;
    shape->bits = bits;
    shape->groups = scales[0];
    if (r->format == QRB__CODED_AWQ) {
        shape->inputs = weights[0];
        if (!qrb__mul_size(weights[1], AWQ_PER_WORD, &shape->outputs))
            shape->outputs = 0; /* no multiple of anything */
    } else {
        shape->outputs = weights[1];
        /* Whole streams of 32 codes, which are `bits` words. */
        if (bits == 0 || weights[0] % bits != 0 ||
            !qrb__mul_size(weights[0] / bits, WORD, &shape->inputs))
            return qrb__fail(r->ctx, QRB_E_SHAPE,
                             "%.200s.qweight: %zu rows hold no codes of %u "
                             "bits",
                             r->prefix, weights[0], bits);
    }
    /* Before anything is allocated: the product of extents of two tensors
     * that do not belong together may be far larger than the file. */
    if (scales[1] != shape->outputs)
        return qrb__fail(r->ctx, QRB_E_SHAPE,
                         "%.200s.scales: found [%zu, %zu], expected %zu "
                         "outputs",
                         r->prefix, scales[0], scales[1], shape->outputs);
    return qrb__coded_check(r->ctx, shape);
}

static qrb_status allocate(struct reading *r)
{
    const struct qrb__coded_shape *s = &r->coded->shape;
    const size_t words = s->outputs / WORD * s->bits;

    r->coded->codes =
        qrb__alloc_array(r->ctx, s->outputs * s->inputs, sizeof(int32_t));
    r->coded->zeros =
        qrb__alloc_array(r->ctx, s->outputs * s->groups, sizeof(int32_t));
    r->coded->scales =
        qrb__alloc_array(r->ctx, s->outputs * s->groups, sizeof(double));
    r->coded->group_index =
        qrb__alloc_array(r->ctx, s->inputs, sizeof(int32_t));
    r->qweight = qrb__alloc_array(r->ctx, s->inputs * words, sizeof(uint32_t));
    r->qzeros = qrb__alloc_array(r->ctx, s->groups * words, sizeof(uint32_t));
    r->halves =
        qrb__alloc_array(r->ctx, s->groups * s->outputs, sizeof(uint16_t));
    if (r->coded->codes == NULL || r->coded->zeros == NULL ||
        r->coded->scales == NULL || r->coded->group_index == NULL ||
        r->qweight == NULL || r->qzeros == NULL || r->halves == NULL)
        return qrb__fail(r->ctx, QRB_E_NO_MEMORY, "%.200s: %zu by %zu codes",
                         r->prefix, s->outputs, s->inputs);
    return QRB_OK;
}

static qrb_status read_arrays(struct reading *r)
{
    const struct qrb__coded_shape *s = &r->coded->shape;
    const bool awq = r->format == QRB__CODED_AWQ;
    const size_t words = s->outputs / WORD * s->bits;
    qrb_status status;

    status = read_part(r, "qweight", QRB_I32, 2,
                       awq ? s->inputs : s->inputs / WORD * s->bits,
                       awq ? words : s->outputs, r->qweight);
    if (status == QRB_OK)
        status = read_part(r, "qzeros", QRB_I32, 2, s->groups, words,
                           r->qzeros);
    if (status == QRB_OK)
        status = read_part(r, "scales", QRB_F16, 2, s->groups, s->outputs,
                           r->halves);
    return status;
}

static qrb_status unpack(struct reading *r)
{
    const struct qrb__coded_shape *s = &r->coded->shape;
    const bool minus_one = r->format == QRB__CODED_GPTQ;
    qrb_status status = qrb__coded_unpack_scales(r->ctx, s, r->halves,
                                                 r->coded->scales);

    if (status != QRB_OK)
        return status;
    if (r->format == QRB__CODED_AWQ) {
        status =
            qrb__awq_unpack_codes(r->ctx, s, r->qweight, r->coded->codes);
        return status == QRB_OK ? qrb__awq_unpack_zeros(r->ctx, s, r->qzeros,
                                                        r->coded->zeros)
                                : status;
    }
    status = qrb__gptq_unpack_codes(r->ctx, s, r->qweight, r->coded->codes);
    if (status == QRB_OK)
        status = qrb__gptq_unpack_zeros(r->ctx, s, r->qzeros, minus_one,
                                        r->coded->zeros);
    return status;
}

/* As the file has it, or groups of inputs that follow each other. */
static qrb_status read_groups(struct reading *r)
{
    const struct qrb__coded_shape *s = &r->coded->shape;
    char name[NAME];
    qrb_status status;

    if (r->format == QRB__CODED_AWQ ||
        find_part(r, "g_idx", name) == SIZE_MAX) {
        if (s->inputs % s->groups != 0)
            return qrb__fail(r->ctx, QRB_E_SHAPE,
                             "%.200s: %zu inputs in %zu groups, and no g_idx",
                             r->prefix, s->inputs, s->groups);
        return qrb__gptq_group_index(r->ctx, s, s->inputs / s->groups,
                                     r->coded->group_index);
    }
    status = read_part(r, "g_idx", QRB_I32, 1, 1, s->inputs,
                       r->coded->group_index);
    return status == QRB_OK ? qrb__gptq_check_group_index(
                                  r->ctx, s, r->coded->group_index)
                            : status;
}

qrb_status qrb__coded_read(const qrb_safetensors *file, const char *prefix,
                           enum qrb__coded_format format, uint32_t bits,
                           struct qrb__coded *out)
{
    struct qrb__coded coded = { .codes = NULL };
    struct reading r = { .ctx = file->ctx,
                         .file = file,
                         .prefix = prefix,
                         .format = format,
                         .coded = &coded };
    qrb_status status;

    memset(out, 0, sizeof *out);
    status = qrb__name_check(r.ctx, prefix, "name of a layer");
    if (status == QRB_OK)
        status = find_shape(&r, bits);
    if (status == QRB_OK)
        status = allocate(&r);
    if (status == QRB_OK)
        status = read_arrays(&r);
    if (status == QRB_OK)
        status = unpack(&r);
    if (status == QRB_OK)
        status = read_groups(&r);
    qrb__free(r.ctx, r.qweight);
    qrb__free(r.ctx, r.qzeros);
    qrb__free(r.ctx, r.halves);
    if (status == QRB_OK)
        *out = coded;
    else
        qrb__coded_free(r.ctx, &coded);
    return status;
}
