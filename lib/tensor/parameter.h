/* A registered parameter, as methods see it: arrays, a name and a role. */
#ifndef QRB_TENSOR_PARAMETER_H
#define QRB_TENSOR_PARAMETER_H

#include "tensor/view.h"

struct qrb__parameter {
    char *name;
    struct qrb__view weight;
    struct qrb__view gradient; /* memory NULL: none */
    uint32_t role;
    int32_t layer;
    uint32_t flags;
    uint32_t index; /* number of its registration */
    bool perturbed; /* by a noise, one at a time, until it restores */
};

#endif
