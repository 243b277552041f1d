/* A linear layer as integer codes with scales and zero points, the way the
 * checkpoints of GPTQ and AWQ hold it:
 *
 *     w[o, i] = scale[o, g(i)] (code[o, i] - zero[o, g(i)])
 *
 * Packing and unpacking of the arrays are in gptq_layout.h and awq_layout.h;
 * here is what both have, and the layer of a file. */
#ifndef QRB_IO_CODED_H
#define QRB_IO_CODED_H

#include <qrobust/source.h>

#include "core/context.h"

struct qrb__coded_shape {
    size_t outputs;
    size_t inputs;
    size_t groups; /* of inputs, each with a scale and a zero point a row */
    uint32_t bits; /* of a code: 2, 3, 4 or 8 */
};

/* Bits are known, inputs and outputs multiples of 32, as kernels of others
 * want them, and no product of sizes overflows.
 *
 * Returns QRB_OK; QRB_E_UNSUPPORTED (bits); QRB_E_SHAPE. */
qrb_status qrb__coded_check(qrb_context *ctx,
                            const struct qrb__coded_shape *shape);

/* scales [outputs, groups] into halves [groups, outputs] and back.
 *
 * QRB_OK; QRB_E_NOT_FINITE (a scale that is not finite as a half). */
qrb_status qrb__coded_pack_scales(qrb_context *ctx,
                                  const struct qrb__coded_shape *shape,
                                  const double *scales, uint16_t *halves);
qrb_status qrb__coded_unpack_scales(qrb_context *ctx,
                                    const struct qrb__coded_shape *shape,
                                    const uint16_t *halves, double *scales);

/* One layer out of a file; release it with qrb__coded_free(). */
struct qrb__coded {
    struct qrb__coded_shape shape;
    int32_t *codes;       /* [outputs, inputs] */
    int32_t *zeros;       /* [outputs, groups] */
    double *scales;       /* [outputs, groups] */
    int32_t *group_index; /* [inputs] */
};

enum qrb__coded_format {
    QRB__CODED_GPTQ = 1,    /* checkpoint_format "gptq": zero minus one */
    QRB__CODED_GPTQ_V2 = 2, /* "gptq_v2" */
    QRB__CODED_AWQ = 3      /* AWQ, version "gemm" */
};

/* Read PREFIX.qweight, PREFIX.qzeros, PREFIX.scales and, where GPTQ has it,
 * PREFIX.g_idx.  The bits come from the model's configuration; the shapes must
 * agree with them and with each other.
 *
 * Returns QRB_OK; QRB_E_FORMAT (a tensor is missing, has another type, or a
 * group that is not there); QRB_E_SHAPE; QRB_E_UNSUPPORTED (bits; zero points
 * that readers of the layout read differently); QRB_E_NOT_FINITE; QRB_E_IO;
 * QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__coded_read(const qrb_safetensors *file, const char *prefix,
                           enum qrb__coded_format format, uint32_t bits,
                           struct qrb__coded *out);
void qrb__coded_free(qrb_context *ctx, struct qrb__coded *coded);

#endif
