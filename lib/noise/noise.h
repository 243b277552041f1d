/* What every noise offers; the model room binds it, the train room calls it.
 * A kind is a table of functions, any of which may be NULL. */
#ifndef QRB_NOISE_NOISE_H
#define QRB_NOISE_NOISE_H

#include <qrobust/noise.h>

#include "tensor/listener.h"
#include "tensor/parameter.h"

struct qrb__noise_kind {
    const char *name;
    qrb_status (*bound)(qrb_noise *noise); /* parameters were set */
    qrb_status (*perturb_begin)(qrb_noise *noise);
    qrb_status (*perturb_end)(qrb_noise *noise);
    qrb_status (*add_grad)(qrb_noise *noise, double *loss_out);
    qrb_status (*post_step)(qrb_noise *noise, double lr);
    void (*destroy)(qrb_noise *noise); /* kind's own memory */
};

/* Parameters are borrowed from the model, which outlives the noise; written()
 * tells it that weights of one were changed. */
struct qrb__binding {
    const struct qrb__parameter **parameters; /* [count], owned by the noise */
    size_t count;
    void (*written)(void *model, size_t parameter);
    void *model;
};

/* First member of every kind's struct. */
struct qrb_noise {
    qrb_context *ctx;
    const struct qrb__noise_kind *kind;
    struct qrb__binding binding;
    bool perturbed;
};

/* Bind once; takes over binding->parameters when it succeeds. */
qrb_status qrb__noise_bind(qrb_noise *noise,
                           const struct qrb__binding *binding);

/* Take anchor weights, one view a bound parameter, copied. */
qrb_status qrb__anchor_set(qrb_noise *anchor, const struct qrb__view *views);

#endif
