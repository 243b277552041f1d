/* What a noise or an observer must offer to hear the taps of a pass.  It is
 * declared here so that methods need not know the model, nor the model the
 * methods. */
#ifndef QRB_TENSOR_LISTENER_H
#define QRB_TENSOR_LISTENER_H

#include <qrobust/pass.h>

#include "tensor/view.h"

/* Key of all randomness inside a microbatch, and its mask. */
struct qrb__step {
    uint64_t step;
    uint64_t epoch;
    uint32_t microbatch;
    uint32_t mode;                          /* enum qrb_mode */
    const struct qrb_attention *attention;  /* of the batch */
};

struct qrb__listener {
    void *self;
    bool perturbs; /* changes tensors: not called in QRB_MODE_EVAL */
    bool (*wants)(void *self, uint32_t point, size_t index);
    qrb_status (*tap)(void *self, const struct qrb__step *step,
                      uint32_t point, size_t index, qrb_tensor *tensor);
};

#endif
