/* Noise and regularizers: the attack on weights, the pull of an anchor. */
#ifndef QROBUST_NOISE_H
#define QROBUST_NOISE_H

#include <qrobust/model.h>

QRB_BEGIN_DECLS

/** A regularizer with its state. */
typedef struct qrb_noise qrb_noise;

/** Scale of an attack's sigma. */
enum qrb_sigma_scale {
    QRB_SIGMA_ABSOLUTE = 0, /**< one sigma for all tensors (methods 4.2) */
    QRB_SIGMA_RELATIVE = 1  /**< sigma times the tensor's own std */
};

/* Start from QRB_ATTACK_OPTIONS_INIT. */
typedef struct qrb_attack_options {
    size_t struct_size;
    double sigma;      /* >= 0; default 0, which changes nothing */
    uint64_t seed;     /* of the draw; default 0 */
    uint32_t scale;    /* enum qrb_sigma_scale; default absolute */
    uint32_t reserved; /* 0 */
} qrb_attack_options;

#define QRB_ATTACK_OPTIONS_INIT \
    { sizeof(qrb_attack_options), 0.0, 0, QRB_SIGMA_ABSOLUTE, 0 }

/**
 * Gaussian noise on weights: w' = w + n, n ~ N(0, sigma^2) i.i.d.
 * Source: Anchor-Guided Repair, threat model.
 */
QRB_API qrb_status qrb_noise_create_attack(qrb_context *ctx,
                                           const qrb_attack_options *options,
                                           qrb_noise **out);

/** Change sigma and seed of an attack that is not applied at the moment. */
QRB_API qrb_status qrb_attack_set(qrb_noise *attack, double sigma,
                                  uint64_t seed);

/** How the distance to the anchor is normalised. */
enum qrb_anchor_normalisation {
    QRB_ANCHOR_MEAN_OF_MEANS = 0, /**< (1/K) sum_k mean((w_k - a_k)^2) */
    QRB_ANCHOR_SUM = 1,           /**< 0.5 |w - a|^2 */
    QRB_ANCHOR_MEAN_GLOBAL = 2    /**< |w - a|^2 / number of weights */
};

/** How the pull is applied. */
enum qrb_anchor_application {
    QRB_ANCHOR_GRADIENT = 0,  /**< added to the loss's gradient */
    QRB_ANCHOR_DECOUPLED = 1, /**< w <- w - lr * strength * (w - a) */
    QRB_ANCHOR_PROXIMAL = 2   /**< w <- (w + c a) / (1 + c), c = lr*strength */
};

/* Start from QRB_ANCHOR_OPTIONS_INIT (recommended, measured) or
 * QRB_ANCHOR_OPTIONS_PAPER (as printed). */
typedef struct qrb_anchor_options {
    size_t struct_size;
    double strength;        /* lambda, or lambda_d; default 20 */
    uint32_t normalisation; /* of the gradient form; default MEAN_OF_MEANS */
    uint32_t application;   /* default DECOUPLED */
} qrb_anchor_options;

#define QRB_ANCHOR_OPTIONS_INIT \
    { sizeof(qrb_anchor_options), 20.0, QRB_ANCHOR_MEAN_OF_MEANS, \
      QRB_ANCHOR_DECOUPLED }
#define QRB_ANCHOR_OPTIONS_PAPER \
    { sizeof(qrb_anchor_options), 1e-5, QRB_ANCHOR_MEAN_OF_MEANS, \
      QRB_ANCHOR_GRADIENT }

/** A pull towards frozen weights (methods 4.4). */
QRB_API qrb_status qrb_noise_create_anchor(qrb_context *ctx,
                                           const qrb_anchor_options *options,
                                           qrb_noise **out);

/** Release a noise; restores what it perturbed; NULL is fine. */
QRB_API void qrb_noise_destroy(qrb_noise *noise);

/**
 * Bind a noise to the parameters that a filter selects; once.  The noise
 * must be destroyed before the model.
 *
 * @param filter NULL: every matrix inside blocks
 */
QRB_API qrb_status qrb_noise_bind(qrb_noise *noise, qrb_model *model,
                                  const qrb_filter *filter);

/** Take the weights of the bound parameters, as they are now, as the anchor. */
QRB_API qrb_status qrb_anchor_snapshot(qrb_noise *anchor);

/**
 * Take the weights of another model as the anchor, matched by name; copied.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (a bound name is missing in source);
 *         QRB_E_SHAPE (names the tensor and both shapes)
 */
QRB_API qrb_status qrb_anchor_set_from(qrb_noise *anchor,
                                       const qrb_model *source);

/** Euclidean distance of the bound weights to the anchor. */
QRB_API qrb_status qrb_anchor_distance(const qrb_noise *anchor, double *out);

/** The anchor's loss strength * L_anchor for the weights as they are. */
QRB_API qrb_status qrb_anchor_loss(const qrb_noise *anchor, double *out);

/** |strength * grad L_anchor| / |grad of the loss| of the last step (after
 * qrb_noise_add_grad()); for the decoupled forms the ratio of the pull to the
 * gradient as they stand; NaN before the first step. */
QRB_API double qrb_anchor_gradient_ratio(const qrb_noise *anchor);

/** Write perturbed weights; a second call without end is QRB_E_STATE. */
QRB_API qrb_status qrb_perturb_begin(qrb_noise *noise);

/** Restore the weights of qrb_perturb_begin() bit for bit. */
QRB_API qrb_status qrb_perturb_end(qrb_noise *noise);

/** Perturb for good: the weights stay as the attack leaves them. */
QRB_API qrb_status qrb_attack_apply(qrb_noise *attack);

/**
 * After backward, before the optimizer: adds the regularizer's gradient.
 *
 * @param loss_out receives the added loss; may be NULL
 */
QRB_API qrb_status qrb_noise_add_grad(qrb_noise *noise, double *loss_out);

/** After the optimizer: decoupled pulls, with this step's learning rate. */
QRB_API qrb_status qrb_noise_post_step(qrb_noise *noise, double lr);

QRB_END_DECLS

#endif
