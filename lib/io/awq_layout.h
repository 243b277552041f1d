/* Arrays of an AWQ checkpoint, version "gemm", 4 bits.
 *
 * qweight [inputs, outputs / 8] and qzeros [groups, outputs / 8] pack eight
 * outputs into a word: nibble i is output 0, 2, 4, 6, 1, 3, 5, 7 of them.
 * Zero points are stored as they are; groups are inputs that follow each
 * other. */
#ifndef QRB_IO_AWQ_LAYOUT_H
#define QRB_IO_AWQ_LAYOUT_H

#include "io/coded.h"

/* codes [outputs, inputs].
 *
 * All return QRB_OK; QRB_E_UNSUPPORTED (other than 4 bits); QRB_E_SHAPE as
 * qrb__coded_check(); QRB_E_INVALID_ARG (a code or zero point out of range). */
qrb_status qrb__awq_pack_codes(qrb_context *ctx,
                               const struct qrb__coded_shape *shape,
                               const int32_t *codes, uint32_t *qweight);
qrb_status qrb__awq_unpack_codes(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 const uint32_t *qweight, int32_t *codes);

/* zeros [outputs, groups], 0 to 15. */
qrb_status qrb__awq_pack_zeros(qrb_context *ctx,
                               const struct qrb__coded_shape *shape,
                               const int32_t *zeros, uint32_t *qzeros);
qrb_status qrb__awq_unpack_zeros(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 const uint32_t *qzeros, int32_t *zeros);

#endif
