/* What a noise or an observer must offer to hear the taps of a pass.  It is
 * declared here so that methods need not know the model, nor the model the
 * methods. */
#ifndef QRB_TENSOR_LISTENER_H
#define QRB_TENSOR_LISTENER_H

#include "tensor/view.h"

/* Key of all randomness inside a microbatch. */
struct qrb__step {
    uint64_t step;
    uint64_t epoch;
    uint32_t microbatch;
    uint32_t mode; /* enum qrb_mode: perturbing listeners rest in EVAL */
};

struct qrb__listener {
    void *self;
    bool (*wants)(void *self, uint32_t point, size_t index);
    qrb_status (*tap)(void *self, const struct qrb__step *step,
                      uint32_t point, size_t index, qrb_tensor *tensor);
};

#endif
