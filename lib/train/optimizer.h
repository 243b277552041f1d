/* The optimizer seen from inside: its moments, and the update without its
 * notice to the host. */
#ifndef QRB_TRAIN_OPTIMIZER_H
#define QRB_TRAIN_OPTIMIZER_H

#include <qrobust/train.h>

#include "noise/blocks.h"

/* What a trained parameter has beside its weight and gradient. */
struct qrb__moments {
    void *first;  /* [elements] mean of gradients, or SGD's velocity */
    void *second; /* [elements] mean of their squares; SGD: NULL */
    bool decays;  /* weight decay acts on it */
};

struct qrb_optimizer {
    qrb_context *ctx;
    qrb_model *model;
    qrb_optimizer_options options;
    struct qrb__parameter **parameters; /* [count] that are trained */
    struct qrb__moments *moments;       /* [count], of the weights' types */
    size_t count;
    struct qrb__blocks blocks; /* tasks, and sums of squared gradients */
    uint64_t updates;          /* made so far: t of the bias correction */
};

/* One update as of qrb_optimizer_step(), without telling the host. */
qrb_status qrb__optimizer_update(qrb_optimizer *optimizer, double lr,
                                 double *norm_out);

/* Tell the host of every trained weight. */
qrb_status qrb__optimizer_notify(qrb_optimizer *optimizer);

#endif
