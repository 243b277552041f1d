/* Products of packed matrices for the rooms above: qrb_packed_multiply() on
 * views that the caller has checked. */
#ifndef QRB_QUANT_MULTIPLY_H
#define QRB_QUANT_MULTIPLY_H

#include "quant/packed.h"

/* bias may be NULL; act_bits is 0 or 8.  QRB_OK or QRB_E_NO_MEMORY. */
qrb_status qrb__packed_multiply(const qrb_packed *packed,
                                const struct qrb__view *x,
                                const struct qrb__view *bias,
                                uint32_t act_bits, const struct qrb__view *y);

#endif
