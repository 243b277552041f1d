/* An anchor seen from inside: the object (anchor.c) and its arithmetic
 * (anchor_pull.c). */
#ifndef QRB_NOISE_ANCHOR_H
#define QRB_NOISE_ANCHOR_H

#include "noise/noise.h"

struct qrb__anchor {
    qrb_noise noise; /* first: a qrb_noise is one of these */
    qrb_anchor_options options;
    struct qrb__view *weights; /* [parameters], dense; NULL: not set yet */
    double elements;           /* of all parameters */
    double ratio;              /* of the last step; NaN before the first */
};

/* What is known of the weights and gradients as they are. */
struct qrb__anchor_measure {
    double distance; /* |w - a| */
    double loss;     /* strength L_anchor */
    double ratio;    /* |pull| / |gradient|; NaN if there are no gradients */
};

/* All three take an anchor whose weights are set. */
struct qrb__anchor_measure qrb__anchor_measure(
    const struct qrb__anchor *anchor);

/* Add d (strength L_anchor) / d w to the gradients, which are all there. */
void qrb__anchor_add_gradient(const struct qrb__anchor *anchor);

/* w -= rate (w - a), but for frozen parameters. */
void qrb__anchor_pull(const struct qrb__anchor *anchor, double rate);

#endif
