/* Arrays of a GPTQ checkpoint.
 *
 * qweight [inputs * bits / 32, outputs] is one stream of codes for each output
 * along its inputs, qzeros [groups, outputs * bits / 32] one of zero points
 * for each group along the outputs.  A stream is least significant bit first
 * through its words, so that codes of 3 bits may straddle two of them. */
#ifndef QRB_IO_GPTQ_LAYOUT_H
#define QRB_IO_GPTQ_LAYOUT_H

#include "io/coded.h"

/* codes [outputs, inputs].
 *
 * All return QRB_OK, or QRB_E_UNSUPPORTED and QRB_E_SHAPE as
 * qrb__coded_check(); outputs of a call that fails are void.
 * Here also QRB_E_INVALID_ARG (a code out of range). */
qrb_status qrb__gptq_pack_codes(qrb_context *ctx,
                                const struct qrb__coded_shape *shape,
                                const int32_t *codes, uint32_t *qweight);
qrb_status qrb__gptq_unpack_codes(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const uint32_t *qweight, int32_t *codes);

/* zeros [outputs, groups].  Version 1 stores each minus one, in which 0 has no
 * place: it would be stored like Qmax + 1, which some readers then use, and
 * others 0.  So with `minus_one` only 1 to Qmax are written, and read.
 *
 * Also QRB_E_UNSUPPORTED (a zero point that this version cannot say: the
 * message names it; version 2 can). */
qrb_status qrb__gptq_pack_zeros(qrb_context *ctx,
                                const struct qrb__coded_shape *shape,
                                const int32_t *zeros, bool minus_one,
                                uint32_t *qzeros);
qrb_status qrb__gptq_unpack_zeros(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const uint32_t *qzeros, bool minus_one,
                                  int32_t *zeros);

/* g_idx [inputs]: the group of each input, `group_size` inputs each. */
qrb_status qrb__gptq_group_index(qrb_context *ctx,
                                 const struct qrb__coded_shape *shape,
                                 size_t group_size, int32_t *group_index);
/* One that was read: QRB_E_FORMAT when a group is out of range. */
qrb_status qrb__gptq_check_group_index(qrb_context *ctx,
                                       const struct qrb__coded_shape *shape,
                                       const int32_t *group_index);

#endif
