/* Whole-model drivers: evaluate, quantize, attack, repair. */
#ifndef QROBUST_RECIPE_H
#define QROBUST_RECIPE_H

#include <qrobust/metric.h>
#include <qrobust/quantizer.h>
#include <qrobust/train.h>

QRB_BEGIN_DECLS

/* Start from QRB_EVALUATE_OPTIONS_INIT. */
typedef struct qrb_evaluate_options {
    size_t struct_size;
    size_t context; /* tokens a window; default 512 */
    size_t stride;  /* of sliding windows; default 256 */
    size_t batch;   /* windows a batch at most; default 8 */
    uint32_t mode;  /* enum qrb_window_mode; default sliding */
    int32_t bos;    /* token that opens each llama.cpp window; -1: none */
} qrb_evaluate_options;

#define QRB_EVALUATE_OPTIONS_INIT \
    { sizeof(qrb_evaluate_options), 512, 256, 8, QRB_WINDOW_SLIDING, -1 }

/**
 * Perplexity of a model on a text, and with a base model KL and top-1
 * agreement (methods 6.3).  Both models see the same windows.
 *
 * @param model  takes token batches
 * @param base   NULL: perplexity only
 * @param tokens [count]; the first is context and never scored
 */
QRB_API qrb_status qrb_evaluate_text(qrb_model *model, qrb_model *base,
                                     const int32_t *tokens, size_t count,
                                     const qrb_evaluate_options *options,
                                     qrb_metric_result *out);

/** The same over the batches of the host's evaluation stream. */
QRB_API qrb_status qrb_evaluate_batches(qrb_model *model,
                                        qrb_metric_result *out);

/**
 * Perplexity of each prompt on its own, exp of the mean over its tokens but
 * the first; NaN for prompts of fewer than two tokens.
 *
 * @param tokens         all prompts one after another
 * @param lengths        [prompts]
 * @param perplexity_out [prompts]
 */
QRB_API qrb_status qrb_evaluate_prompts(qrb_model *model,
                                        const int32_t *tokens,
                                        const size_t *lengths, size_t prompts,
                                        double *perplexity_out);

/**
 * Fake-quantize the weights that a filter selects, in place; undo it with a
 * snapshot taken before.  On failure no weight is changed.
 *
 * @param filter NULL: every matrix inside blocks
 */
QRB_API qrb_status qrb_fake_quantize(qrb_model *model,
                                     const qrb_quantizer *quantizer,
                                     const qrb_filter *filter);

/* Start from QRB_CALIBRATE_OPTIONS_INIT. */
typedef struct qrb_calibrate_options {
    size_t struct_size;
    double ratio;       /* target perplexity ratio, > 1; default 1.2 */
    double tolerance;   /* of the ratio; default 0.01 */
    uint64_t seed;      /* of the draw that is written; default 0 */
    size_t search_seeds; /* draws averaged while searching; default 3 */
    qrb_evaluate_options evaluate;
} qrb_calibrate_options;

#define QRB_CALIBRATE_OPTIONS_INIT \
    { sizeof(qrb_calibrate_options), 1.2, 0.01, 0, 3, \
      QRB_EVALUATE_OPTIONS_INIT }

/* Set struct_size first. */
typedef struct qrb_calibrate_result {
    size_t struct_size;
    double sigma;
    double achieved_ratio; /* of the draw with the options' seed */
    double slope;          /* a of log r = a sigma^2 + b */
    double intercept;      /* b */
    uint64_t evaluations;
} qrb_calibrate_result;

/**
 * Find the sigma at which an attack raises perplexity by a ratio (methods
 * 4.3), and leave the attack set to it and to the options' seed.  Weights are
 * as before when it returns.
 *
 * @param attack bound to the model
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_NOT_FINITE (perplexity of the
 *         unperturbed model); QRB_E_STATE (the ratio was not met within the
 *         tolerance: the message says how near it came); QRB_E_CALLBACK;
 *         QRB_E_CANCELLED
 */
QRB_API qrb_status qrb_attack_calibrate(qrb_model *model, qrb_noise *attack,
                                        const int32_t *tokens, size_t count,
                                        const qrb_calibrate_options *options,
                                        qrb_calibrate_result *out);

/* Start from QRB_REPAIR_OPTIONS_INIT (recommended, measured) or
 * QRB_REPAIR_OPTIONS_PAPER (as printed). */
typedef struct qrb_repair_options {
    size_t struct_size;
    qrb_trainer_options trainer;
    qrb_anchor_options anchor;
    qrb_dataset_options dataset;
    uint32_t resume;   /* 1: go on from the trainer's checkpoint if there is
                          one; default 0 */
    uint32_t reserved; /* 0 */
} qrb_repair_options;

#define QRB_REPAIR_TRAINER(lr_, accumulation_) \
    { sizeof(qrb_trainer_options), QRB_OPTIMIZER_OPTIONS_INIT, 250, 10, \
      lr_, 0.1, accumulation_, 0, 100, "repair", QRB_SCHEDULE_CONSTANT, 0 }
#define QRB_REPAIR_OPTIONS_INIT \
    { sizeof(qrb_repair_options), QRB_REPAIR_TRAINER(2e-4, 1), \
      QRB_ANCHOR_OPTIONS_INIT, QRB_DATASET_OPTIONS_INIT, 0, 0 }
#define QRB_REPAIR_OPTIONS_PAPER \
    { sizeof(qrb_repair_options), QRB_REPAIR_TRAINER(2e-5, 2), \
      QRB_ANCHOR_OPTIONS_PAPER, { sizeof(qrb_dataset_options), 1, 2048 }, 0, 0 }

/* Set struct_size first. */
typedef struct qrb_repair_result {
    size_t struct_size;
    qrb_train_result training;
    double distance_before; /* of the anchored weights to the anchor */
    double distance_after;
    double distance_moved; /* of the anchored weights from where they were */
} qrb_repair_result;

/**
 * Anchor-guided repair (methods 4.4, 4.5): train on text while an anchor
 * pulls at the matrices inside blocks.
 *
 * @param anchor source of the anchor's weights; NULL: the weights as received
 * @param tokens [count] of the training text
 */
QRB_API qrb_status qrb_repair(qrb_model *model, const qrb_model *anchor,
                              const int32_t *tokens, size_t count,
                              const qrb_repair_options *options,
                              qrb_repair_result *out);

/**
 * A control for repairs: move weights straight towards an anchor without any
 * text, w <- w + f (a - w) with f = min(1, distance / |a - w|).
 *
 * @param anchor       source of the anchor's weights, matched by name
 * @param filter       NULL: every matrix inside blocks
 * @param distance     Euclidean, over all selected weights together; what is
 *                     further away than the anchor ends on the anchor
 * @param fraction_out receives f; may be NULL
 */
QRB_API qrb_status qrb_move_towards(qrb_model *model, const qrb_model *anchor,
                                    const qrb_filter *filter, double distance,
                                    double *fraction_out);

QRB_END_DECLS

#endif
