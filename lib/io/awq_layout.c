/* Eight outputs to a word, in the order that AWQ's product unpacks them;
 * O(rows * cols). */
#include "io/awq_layout.h"

#include <string.h>

enum { PER_WORD = 8, BITS = 4, HIGHEST = 15 };

/* Output of nibble i. */
static const uint32_t order[PER_WORD] = { 0, 2, 4, 6, 1, 3, 5, 7 };

static qrb_status check(qrb_context *ctx, const struct qrb__coded_shape *shape)
{
    if (shape->bits != BITS)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%u bits in AWQ's layout; it has 4", shape->bits);
    return qrb__coded_check(ctx, shape);
}

/* rows: what is packed line by line, fields [outputs, rows]; words
 * [rows, outputs / 8]. */
static qrb_status pack(qrb_context *ctx, const struct qrb__coded_shape *shape,
                       size_t rows, const int32_t *fields, const char *what,
                       uint32_t *words)
{
    const size_t columns = shape->outputs / PER_WORD;

    memset(words, 0, rows * columns * sizeof *words);
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            for (size_t i = 0; i < PER_WORD; i++) {
                const size_t output = PER_WORD * c + order[i];
                const int32_t field = fields[output * rows + r];

                if (field < 0 || field > HIGHEST)
                    return qrb__fail(ctx, QRB_E_INVALID_ARG,
                                     "%s [%zu, %zu] is %d; 0 to 15 are "
                                     "allowed",
                                     what, output, r, (int)field);
                words[r * columns + c] |= (uint32_t)field << (BITS * i);
            }
    return QRB_OK;
}

static void unpack(const struct qrb__coded_shape *shape, size_t rows,
                   const uint32_t *words, int32_t *fields)
{
    const size_t columns = shape->outputs / PER_WORD;

    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++)
            for (size_t i = 0; i < PER_WORD; i++)
                fields[(PER_WORD * c + order[i]) * rows + r] =
                    (int32_t)(words[r * columns + c] >> (BITS * i) & HIGHEST);
}

qrb_status qrb__awq_pack_codes(qrb_context *ctx,
                               const struct qrb__coded_shape *shape,
                               const int32_t *codes, uint32_t *qweight)
{
    const qrb_status status = check(ctx, shape);

    return status == QRB_OK
               ? pack(ctx, shape, shape->inputs, codes, "code", qweight)
               : status;
}

qrb_status qrb__awq_unpack_codes(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 const uint32_t *qweight, int32_t *codes)
{
    const qrb_status status = check(ctx, shape);

    if (status == QRB_OK)
        unpack(shape, shape->inputs, qweight, codes);
    return status;
}

qrb_status qrb__awq_pack_zeros(qrb_context *ctx,
                               const struct qrb__coded_shape *shape,
                               const int32_t *zeros, uint32_t *qzeros)
{
    const qrb_status status = check(ctx, shape);

    return status == QRB_OK
               ? pack(ctx, shape, shape->groups, zeros, "zero point", qzeros)
               : status;
}

qrb_status qrb__awq_unpack_zeros(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 const uint32_t *qzeros, int32_t *zeros)
{
    const qrb_status status = check(ctx, shape);

    if (status == QRB_OK)
        unpack(shape, shape->groups, qzeros, zeros);
    return status;
}
