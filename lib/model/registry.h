/* What the registry keeps beside a parameter. */
#ifndef QRB_MODEL_REGISTRY_H
#define QRB_MODEL_REGISTRY_H

#include "model/model.h"

/* model->parameters[i] points to the first member. */
struct qrb__registry_entry {
    struct qrb__parameter parameter;
    qrb_tensor weight;   /* what qrb_model_parameter() hands out */
    qrb_tensor gradient; /* memory NULL: none */
};

#endif
