/* What every noise offers; the model room binds it, the train room calls it.
 * A kind is a table of functions, any of which may be NULL. */
#ifndef QRB_NOISE_NOISE_H
#define QRB_NOISE_NOISE_H

#include <qrobust/noise.h>

#include "noise/blocks.h"
#include "tensor/listener.h"

struct qrb__sha256;

struct qrb__noise_kind {
    const char *name; /* with its article, for messages: "an attack" */
    qrb_status (*bound)(qrb_noise *noise); /* parameters were set */
    /* Write perturbed weights; the clean ones are saved already. */
    qrb_status (*perturb)(qrb_noise *noise);
    qrb_status (*add_grad)(qrb_noise *noise, double *loss_out);
    qrb_status (*post_step)(qrb_noise *noise, double lr);
    /* Release what the kind holds for its parameters. */
    void (*unbound)(qrb_noise *noise);
    /* Add the options and the weights that the noise holds. */
    void (*digest)(const qrb_noise *noise, struct qrb__sha256 *hash);
};

/* Parameters are borrowed from the model, which outlives the binding. */
struct qrb__binding {
    struct qrb__parameter **parameters; /* [count], owned by the noise */
    size_t count;
    /* The weights of a parameter were changed: tell the host. */
    qrb_status (*written)(void *model, size_t parameter);
    /* The noise lets go: the model forgets it. */
    void (*unbound)(void *model, qrb_noise *noise);
    void *model;
};

/* First member of every kind's struct. */
struct qrb_noise {
    qrb_context *ctx;
    const struct qrb__noise_kind *kind;
    struct qrb__binding binding; /* count 0: not bound */
    qrb_noise *next;             /* bound to the same model */
    struct qrb__view *saved;     /* [count] clean weights, dense; NULL: the
                                    kind does not perturb */
    struct qrb__blocks blocks;   /* of the bound parameters */
    bool perturbed;
};

/* Bind once; takes over binding->parameters when it succeeds. */
qrb_status qrb__noise_bind(qrb_noise *noise,
                           const struct qrb__binding *binding);

/* Restore what is perturbed and forget the parameters. */
void qrb__noise_unbind(qrb_noise *noise);

/* QRB_E_STATE unless bound, with no parameter perturbed by any noise. */
qrb_status qrb__noise_ready(const qrb_noise *noise);

/* Tell the host of every bound parameter; goes on after a failure, whose
 * status it returns. */
qrb_status qrb__noise_written(qrb_noise *noise);

/* Add all that a noise does to a run: its kind, what it is bound to, options
 * and weights. */
void qrb__noise_digest(const qrb_noise *noise, struct qrb__sha256 *hash);

/* QRB_OK if a noise is an anchor and bound. */
qrb_status qrb__anchor_check(const qrb_noise *anchor);

/* Sigma, seed and scale of an attack as they are; NULL of other noises. */
const qrb_attack_options *qrb__attack_options(const qrb_noise *noise);

/* Take anchor weights, one view a bound parameter, copied. */
qrb_status qrb__anchor_set(qrb_noise *anchor, const struct qrb__view *views);

#endif
