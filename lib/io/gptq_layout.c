/* Streams of codes through words, forth and back; O(rows * cols). */
#include "io/gptq_layout.h"

#include <string.h>

enum { WORD = 32 };

/* A stream of unsigned fields, the least significant bit first, through words
 * that are `stride` apart. */
static void put_field(uint32_t *words, size_t stride, uint32_t bits, size_t i,
                      uint32_t field)
{
    const size_t at = i * bits;
    const uint32_t shift = (uint32_t)(at % WORD);
    uint32_t *word = words + at / WORD * stride;

    *word |= field << shift;
    if (shift + bits > WORD)
        word[stride] |= field >> (WORD - shift);
}

static uint32_t get_field(const uint32_t *words, size_t stride, uint32_t bits,
                          size_t i)
{
    const size_t at = i * bits;
    const uint32_t shift = (uint32_t)(at % WORD);
    const uint32_t *word = words + at / WORD * stride;
    uint32_t field = *word >> shift;

    if (shift + bits > WORD)
        field |= word[stride] << (WORD - shift);
    return field & ((1u << bits) - 1);
}

qrb_status qrb__gptq_pack_codes(qrb_context *ctx,
                                const struct qrb__coded_shape *shape,
                                const int32_t *codes, uint32_t *qweight)
{
    const qrb_status status = qrb__coded_check(ctx, shape);
    const int32_t highest = (int32_t)(1u << shape->bits % WORD) - 1;

    if (status != QRB_OK)
        return status;
    memset(qweight, 0, shape->inputs / WORD * shape->bits * shape->outputs *
                           sizeof *qweight);
    for (size_t o = 0; o < shape->outputs; o++)
        for (size_t i = 0; i < shape->inputs; i++) {
            const int32_t code = codes[o * shape->inputs + i];

            if (code < 0 || code > highest)
                return qrb__fail(ctx, QRB_E_INVALID_ARG,
                                 "code [%zu, %zu] is %d; 0 to %d are allowed",
                                 o, i, (int)code, (int)highest);
            put_field(qweight + o, shape->outputs, shape->bits, i,
                      (uint32_t)code);
        }
    return QRB_OK;
}

qrb_status qrb__gptq_unpack_codes(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const uint32_t *qweight, int32_t *codes)
{
    const qrb_status status = qrb__coded_check(ctx, shape);

    if (status != QRB_OK)
        return status;
    for (size_t o = 0; o < shape->outputs; o++)
        for (size_t i = 0; i < shape->inputs; i++)
            codes[o * shape->inputs + i] = (int32_t)get_field(
                qweight + o, shape->outputs, shape->bits, i);
    return QRB_OK;
}

static qrb_status fail_zero(qrb_context *ctx, size_t output, size_t group,
                            int32_t zero, bool minus_one, int32_t highest)
{
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "zero point of output %zu, group %zu is %d; %s can say %d "
                     "to %d",
                     output, group, (int)zero,
                     minus_one ? "checkpoint_format \"gptq\""
                               : "\"gptq_v2\"",
                     minus_one, (int)highest);
}

qrb_status qrb__gptq_pack_zeros(qrb_context *ctx,
                                const struct qrb__coded_shape *shape,
                                const int32_t *zeros, bool minus_one,
                                uint32_t *qzeros)
{
    const qrb_status status = qrb__coded_check(ctx, shape);
    const int32_t highest = (int32_t)(1u << shape->bits % WORD) - 1;
    const int32_t lowest = minus_one ? 1 : 0;
    size_t words;

    if (status != QRB_OK)
        return status;
    words = shape->outputs / WORD * shape->bits;
    memset(qzeros, 0, shape->groups * words * sizeof *qzeros);
    for (size_t g = 0; g < shape->groups; g++)
        for (size_t o = 0; o < shape->outputs; o++) {
            const int32_t zero = zeros[o * shape->groups + g];

            if (zero < lowest || zero > highest)
                return fail_zero(ctx, o, g, zero, minus_one, highest);
            put_field(qzeros + g * words, 1, shape->bits, o,
                      (uint32_t)(zero - lowest));
        }
    return QRB_OK;
}

qrb_status qrb__gptq_unpack_zeros(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const uint32_t *qzeros, bool minus_one,
                                  int32_t *zeros)
{
    const qrb_status status = qrb__coded_check(ctx, shape);
    const int32_t highest = (int32_t)(1u << shape->bits % WORD) - 1;
    const int32_t lowest = minus_one ? 1 : 0;
    size_t words;

    if (status != QRB_OK)
        return status;
    words = shape->outputs / WORD * shape->bits;
    for (size_t g = 0; g < shape->groups; g++)
        for (size_t o = 0; o < shape->outputs; o++) {
            const int32_t zero =
                (int32_t)get_field(qzeros + g * words, 1, shape->bits, o) +
                lowest;

            if (zero > highest)
                return fail_zero(ctx, o, g, zero, minus_one, highest);
            zeros[o * shape->groups + g] = zero;
        }
    return QRB_OK;
}

qrb_status qrb__gptq_group_index(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 size_t group_size, int32_t *group_index)
{
    const qrb_status status = qrb__coded_check(ctx, shape);

    if (status != QRB_OK)
        return status;
    if (group_size == 0 ||
        (shape->inputs - 1) / group_size + 1 != shape->groups)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "%zu inputs in groups of %zu are not %zu groups",
                         shape->inputs, group_size, shape->groups);
    for (size_t i = 0; i < shape->inputs; i++)
        group_index[i] = (int32_t)(i / group_size);
    return QRB_OK;
}

qrb_status qrb__gptq_check_group_index(qrb_context *ctx,
                                       const struct qrb__coded_shape *shape,
                                       const int32_t *group_index)
{
    for (size_t i = 0; i < shape->inputs; i++)
        if (group_index[i] < 0 || (size_t)group_index[i] >= shape->groups)
            return qrb__fail(ctx, QRB_E_FORMAT,
                             "g_idx[%zu] is %d; there are %zu groups", i,
                             (int)group_index[i], shape->groups);
    return QRB_OK;
}
