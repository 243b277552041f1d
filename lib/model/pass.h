/* A pass seen from inside. */
#ifndef QRB_MODEL_PASS_H
#define QRB_MODEL_PASS_H

#include <qrobust/pass.h>

#include "model/model.h"
#include "tensor/listener.h"

struct qrb__pass_listener {
    struct qrb__listener listener;
    void *owned; /* released with the pass; NULL: self is somebody else's */
};

struct qrb_pass {
    qrb_context *ctx;
    qrb_model *model;
    qrb_pass *teacher;
    struct qrb__pass_listener *listeners; /* in order of registration */
    size_t count;
    size_t capacity;
    struct qrb__step step; /* its attention points to ours */
    qrb_attention attention;
    uint32_t role;  /* enum qrb_pass_role */
    uint32_t flags; /* enum qrb_pass_flag */
    bool in_step;
    atomic_flag tapped; /* a tap is under way, unless QRB_PASS_CONCURRENT */
};

/* Whether a number is a point, with or without QRB_TAP_GRAD. */
bool qrb__tap_point_known(uint32_t point);

/* Let a listener hear the taps, behind those that are there; borrowed, it must
 * outlive the pass. */
qrb_status qrb__pass_listen(qrb_pass *pass,
                            const struct qrb__listener *listener);

#endif
