/* Noise and regularizers: the attack on weights, the pull of an anchor. */
#ifndef QROBUST_NOISE_H
#define QROBUST_NOISE_H

#include <qrobust/model.h>

QRB_BEGIN_DECLS

/**
 * A regularizer with its state.  It is made, bound to the parameters of a
 * model, used in every step, and destroyed; a model that is destroyed first
 * lets go of its noises, which may then be bound anew.
 *
 * All sums run in double over blocks of fixed size, so that no result here
 * depends on the number of threads.
 */
typedef struct qrb_noise qrb_noise;

/** Scale of an attack's sigma.  Pinned values. */
enum qrb_sigma_scale {
    QRB_SIGMA_ABSOLUTE = 0, /**< one sigma for all tensors */
    /** Sigma times the tensor's own standard deviation (of the population), as
     * it is when the perturbation begins. */
    QRB_SIGMA_RELATIVE = 1
};

/* Start from QRB_ATTACK_OPTIONS_INIT. */
typedef struct qrb_attack_options {
    size_t struct_size;
    double sigma;      /* finite, >= 0; default 0, which changes nothing */
    uint64_t seed;     /* of the draw, the context's is not used; default 0 */
    uint32_t scale;    /* enum qrb_sigma_scale; default absolute */
    uint32_t reserved; /* 0 */
} qrb_attack_options;

/** The defaults of an attack: none. */
#define QRB_ATTACK_OPTIONS_INIT \
    { sizeof(qrb_attack_options), 0.0, 0, QRB_SIGMA_ABSOLUTE, 0 }

/**
 * Gaussian noise on weights: w' = w + n, n ~ N(0, sigma^2) i.i.d.
 *
 * Source: "Anchor-Guided Repair", its threat model; which tensors are attacked
 * the paper leaves open, here it is what the attack is bound to.  Element e
 * of parameter p takes number e of a Philox4x32-10 stream addressed by (layer,
 * number of the parameter) and keyed by the seed.  The noise is thus a
 * function of seed, sigma, shape and the instruction set of the context: not
 * of threads, and not of which other parameters are attacked.  It is added in
 * the type of the weights.
 *
 * @param options NULL: the defaults; copied
 * @param out     receives the attack, or NULL on failure; the caller releases
 *                it with qrb_noise_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, sigma below 0 or not finite, an
 *         unknown scale, unknown options); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_noise_create_attack(qrb_context *ctx,
                                           const qrb_attack_options *options,
                                           qrb_noise **out);

/**
 * Change sigma and seed of an attack.
 *
 * @param sigma finite, >= 0, in the scale that the attack was made with
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no attack, sigma);
 *         QRB_E_STATE (between qrb_perturb_begin() and qrb_perturb_end());
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_attack_set(qrb_noise *attack, double sigma,
                                  uint64_t seed);

/** L_anchor: how the distance of the K bound tensors w_k to the anchor a_k is
 * normalised.  Pinned values. */
enum qrb_anchor_normalisation {
    QRB_ANCHOR_MEAN_OF_MEANS = 0, /**< (1/K) sum_k mean((w_k - a_k)^2) */
    QRB_ANCHOR_SUM = 1,           /**< 0.5 |w - a|^2 */
    QRB_ANCHOR_MEAN_GLOBAL = 2    /**< |w - a|^2 / number of weights */
};

/** How the pull is applied.  Pinned values. */
enum qrb_anchor_application {
    /** qrb_noise_add_grad() adds strength * dL_anchor/dw to the gradients,
     * which an optimizer may rescale to nothing beside the loss's. */
    QRB_ANCHOR_GRADIENT = 0,
    /** qrb_noise_post_step() does w <- w - c (w - a), c = lr * strength, on
     * parameters that are not frozen; c above 1 overshoots. */
    QRB_ANCHOR_DECOUPLED = 1,
    /** The same with the exact proximal step w <- (w + c a) / (1 + c), which
     * never overshoots. */
    QRB_ANCHOR_PROXIMAL = 2
};

/* Start from QRB_ANCHOR_OPTIONS_INIT (recommended, measured) or
 * QRB_ANCHOR_OPTIONS_PAPER (as printed). */
typedef struct qrb_anchor_options {
    size_t struct_size;
    double strength;        /* lambda, or lambda_d of the decoupled forms;
                               finite, >= 0, 0: no pull; default 20 */
    uint32_t normalisation; /* enum qrb_anchor_normalisation, of the loss and
                               the gradient form; default MEAN_OF_MEANS */
    uint32_t application;   /* enum qrb_anchor_application; default
                               DECOUPLED */
} qrb_anchor_options;

/** The defaults of an anchor: decoupled, as recommended and measured. */
#define QRB_ANCHOR_OPTIONS_INIT \
    { sizeof(qrb_anchor_options), 20.0, QRB_ANCHOR_MEAN_OF_MEANS, \
      QRB_ANCHOR_DECOUPLED }
/** An anchor as printed: its gradient with lambda = 1e-5. */
#define QRB_ANCHOR_OPTIONS_PAPER \
    { sizeof(qrb_anchor_options), 1e-5, QRB_ANCHOR_MEAN_OF_MEANS, \
      QRB_ANCHOR_GRADIENT }

/**
 * A pull towards frozen weights: L = CE + strength * L_anchor, or the decoupled
 * pull behind the optimizer.
 *
 * Source: "Anchor-Guided Repair".  As printed (QRB_ANCHOR_OPTIONS_PAPER) the
 * gradient of the anchor is 13 orders below the loss's, and taken literally, on
 * a detached copy, it is zero; the decoupled form is what pulls, and the
 * default.  qrb_anchor_gradient_ratio() shows which it is.
 *
 * The anchor's weights come from qrb_anchor_snapshot() or
 * qrb_anchor_set_from(), after qrb_noise_bind().
 *
 * @param options NULL: the defaults; copied
 * @param out     receives the anchor, or NULL on failure; the caller releases
 *                it with qrb_noise_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, strength below 0 or not finite, an
 *         unknown normalisation or application, unknown options);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_noise_create_anchor(qrb_context *ctx,
                                           const qrb_anchor_options *options,
                                           qrb_noise **out);

/**
 * Release a noise; NULL is fine.  Weights that it perturbs are restored first.
 * Not to be called from inside a callback.
 */
QRB_API void qrb_noise_destroy(qrb_noise *noise);

/**
 * Bind a noise to the parameters that a filter selects, once.  An attack takes
 * memory for a copy of their weights here, so that nothing is allocated later.
 *
 * @param model  of the noise's context
 * @param filter NULL: every matrix inside blocks
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, a model of another context, the
 *         filter selects nothing, a parameter without gradient for an anchor
 *         of the gradient form); QRB_E_STATE (bound already); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_noise_bind(qrb_noise *noise, qrb_model *model,
                                  const qrb_filter *filter);

/**
 * Take the weights of the bound parameters, as they are now, as the anchor;
 * copied, in place of those that it had.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no anchor); QRB_E_STATE (not
 *         bound); QRB_E_NO_MEMORY (the anchor keeps what it had);
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_anchor_snapshot(qrb_noise *anchor);

/**
 * Take the weights of another model as the anchor, matched by name; copied,
 * with conversion to the type of the bound parameters.
 *
 * @param source of any context, not in use by another thread meanwhile
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no anchor, or a bound name that the
 *         source does not have); QRB_E_SHAPE (the message names the tensor and
 *         both shapes); QRB_E_STATE (not bound); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT.  On failure the anchor keeps what it had
 */
QRB_API qrb_status qrb_anchor_set_from(qrb_noise *anchor,
                                       const qrb_model *source);

/**
 * Euclidean distance |w - a| of all bound weights to the anchor.
 *
 * @param out untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no anchor); QRB_E_STATE (not bound,
 *         or without weights); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_anchor_distance(const qrb_noise *anchor, double *out);

/**
 * The loss strength * L_anchor of the weights as they are, in the
 * normalisation of the options, whichever way the pull is applied.
 *
 * @param out untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no anchor); QRB_E_STATE (not bound,
 *         or without weights); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_anchor_loss(const qrb_noise *anchor, double *out);

/**
 * How strong the pull was beside the gradient of the loss, as the last
 * qrb_noise_add_grad() found both: norms over the bound parameters that have a
 * gradient.  Of the gradient form |strength * dL_anchor/dw| / |g|, of the
 * decoupled forms |strength * (w - a)| / |g|, which is their pull for a unit of
 * learning rate.  g is the gradient before the anchor added to it.
 *
 * @return NaN before the first step, without gradients and for a noise that is
 *         no anchor; infinite where |g| is 0 and the pull is not
 */
QRB_API double qrb_anchor_gradient_ratio(const qrb_noise *anchor);

/**
 * Write perturbed weights.  A weight is perturbed by one noise at a time.
 * The host is told of each parameter by `weights_written`; if it stops, all
 * weights are restored, and those that it heard of are told again.
 *
 * Perturbed and restored weights of a bracket are never mixed up with updates:
 * meanwhile pulls, snapshots and moved storage of the same parameters are
 * QRB_E_STATE.  May be called from inside a callback.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an anchor, which perturbs
 *         nothing); QRB_E_STATE (not bound, or a parameter is perturbed
 *         already, by this noise or another); QRB_E_NOT_FINITE (relative
 *         sigma: the message names the tensor); QRB_E_CALLBACK.  On failure
 *         every weight is as before, bit for bit
 */
QRB_API qrb_status qrb_perturb_begin(qrb_noise *noise);

/**
 * Restore the weights of qrb_perturb_begin() bit for bit.  May be called from
 * inside a callback.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (nothing is
 *         perturbed); QRB_E_CALLBACK (`weights_written` stopped: the weights
 *         are restored all the same)
 */
QRB_API qrb_status qrb_perturb_end(qrb_noise *noise);

/**
 * Perturb for good: the weights stay as the attack leaves them.
 *
 * @return as qrb_perturb_begin(); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_attack_apply(qrb_noise *attack);

/**
 * After backward, before the optimizer: adds the regularizer's gradient, and
 * notes what qrb_anchor_gradient_ratio() tells.  Nothing for an attack.  May
 * be called from inside a callback.
 *
 * @param loss_out receives the loss whose gradient was added, 0 if there was
 *                 none; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (not bound, an anchor
 *         without weights, or a parameter is perturbed)
 */
QRB_API qrb_status qrb_noise_add_grad(qrb_noise *noise, double *loss_out);

/**
 * After the optimizer: decoupled pulls, with this step's learning rate.
 * Nothing for an attack and for an anchor of the gradient form.  May be called
 * from inside a callback.
 *
 * @param lr finite, >= 0
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, lr, or lr * strength overflows);
 *         QRB_E_STATE (as qrb_noise_add_grad()); QRB_E_CALLBACK
 *         (`weights_written` stopped: all weights were pulled)
 */
QRB_API qrb_status qrb_noise_post_step(qrb_noise *noise, double lr);

QRB_END_DECLS

#endif
