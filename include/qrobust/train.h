/* Optimizers, schedules and the trainer with checkpoints. */
#ifndef QROBUST_TRAIN_H
#define QROBUST_TRAIN_H

#include <qrobust/noise.h>
#include <qrobust/pass.h>

QRB_BEGIN_DECLS

/** First and second moments of a model's parameters. */
typedef struct qrb_optimizer qrb_optimizer;

/** Kinds of optimizer.  Pinned values. */
enum qrb_optimizer_kind { QRB_ADAMW = 1, QRB_SGD = 2 };

/* Start from QRB_OPTIMIZER_OPTIONS_INIT. */
typedef struct qrb_optimizer_options {
    size_t struct_size;
    double beta1;        /* AdamW, in [0, 1); default 0.9 */
    double beta2;        /* AdamW, in [0, 1); default 0.999 */
    double epsilon;      /* AdamW, above 0; default 1e-8 */
    double weight_decay; /* of matrices only, at least 0; default 0.01 */
    double momentum;     /* SGD, in [0, 1); default 0.9 */
    double clip_norm;    /* of the whole gradient; 0: none; default 1 */
    uint32_t kind;       /* enum qrb_optimizer_kind; default AdamW */
    uint32_t reserved;   /* 0 */
} qrb_optimizer_options;

#define QRB_OPTIMIZER_OPTIONS_INIT \
    { sizeof(qrb_optimizer_options), 0.9, 0.999, 1e-8, 0.01, 0.9, 1.0, \
      QRB_ADAMW, 0 }

/**
 * Make an optimizer over the model's parameters that have gradients and are
 * not frozen.  Its memory is one (SGD) or two (AdamW) copies of them.
 *
 * @param model   outlives the optimizer; parameters that are added later are
 *                not trained by it
 * @param options NULL: the defaults; copied
 * @param out     receives the optimizer, or NULL on failure; the caller
 *                releases it with qrb_optimizer_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an option out of its range);
 *         QRB_E_STATE (no parameter can be trained); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_optimizer_create(qrb_model *model,
                                        const qrb_optimizer_options *options,
                                        qrb_optimizer **out);

/**
 * Bytes that an optimizer of this model will hold, before it is made: the
 * moments of what is trained, and a few words for each block of it.  With
 * qrb_engine_memory() that is the whole of a training step.
 *
 * @param options as of qrb_optimizer_create()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an option out of its range);
 *         QRB_E_STATE (no parameter can be trained); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_optimizer_memory(const qrb_model *model,
                                        const qrb_optimizer_options *options,
                                        uint64_t *bytes_out);

/** Release it before its model; NULL is fine. */
QRB_API void qrb_optimizer_destroy(qrb_optimizer *optimizer);

/**
 * One update with the registered gradients g, which are first scaled by
 * min(1, clip_norm / |g|), |g| over all trained parameters together.
 *
 * AdamW is Loshchilov and Hutter, "Decoupled Weight Decay Regularization",
 * ICLR 2019, arXiv:1711.05101, algorithm 2, for the t-th update:
 *
 *     m <- beta1 m + (1 - beta1) g,  v <- beta2 v + (1 - beta2) g^2
 *     w <- (1 - lr decay) w
 *          - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon)
 *
 * SGD adds the decay to the gradient, v <- momentum v + g + decay w,
 * w <- w - lr v.  Decay is weight_decay for matrices (two dimensions) that are
 * neither norms nor biases, and 0 for all others.
 *
 * The result depends on weights, gradients, moments, options, lr and the
 * instruction set: not on the number of threads.
 *
 * @param lr       at least 0, finite
 * @param norm_out receives |g| before clipping; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, lr); QRB_E_NOT_FINITE (a gradient,
 *         or its norm, is not; the message names the first such parameter);
 *         QRB_E_STATE (a parameter is perturbed); QRB_E_REENTRANT: with these
 *         nothing was changed.  QRB_E_CALLBACK (weights_written, after the
 *         update was made and the host was told of all weights)
 */
QRB_API qrb_status qrb_optimizer_step(qrb_optimizer *optimizer, double lr,
                                      double *norm_out);

/**
 * Shapes of a learning rate over steps t = 0, 1, ...  Pinned values.
 *
 * Both begin with a linear warm-up, lr (t + 1) / warmup for t < warmup, so
 * that step 0 moves the weights already and step warmup - 1 has the peak.  The
 * cosine then goes down from the peak to lr_end * lr, which the last step has:
 * lr (lr_end + (1 - lr_end) (1 + cos(pi x)) / 2) with x = (t + 1 - warmup) /
 * (steps - warmup).
 */
enum qrb_schedule { QRB_SCHEDULE_CONSTANT = 0, QRB_SCHEDULE_COSINE = 1 };

/** A training loop over a model's pull callbacks. */
typedef struct qrb_trainer qrb_trainer;

/* Start from QRB_TRAINER_OPTIONS_INIT. */
typedef struct qrb_trainer_options {
    size_t struct_size;
    const qrb_optimizer_options *optimizer; /* kind, moments, decay, clipping;
                                               NULL: the defaults; copied */
    uint64_t steps;         /* optimizer steps, at least 1; default 1000 */
    uint64_t warmup;        /* steps of linear warm-up; default 10 */
    double lr;              /* peak, at least 0; default 2e-4 */
    double lr_end;          /* cosine: final fraction of lr; default 0.1 */
    size_t accumulation;    /* microbatches a step, at least 1; default 1 */
    const char *checkpoint; /* file, or NULL: none; copied */
    uint64_t checkpoint_every; /* steps between checkpoints; default 100 */
    const char *what;       /* name of the stage for progress; "train" */
    uint32_t schedule;      /* enum qrb_schedule; default constant */
    uint32_t reserved;      /* 0 */
} qrb_trainer_options;

#define QRB_TRAINER_OPTIONS_INIT \
    { sizeof(qrb_trainer_options), 0, 1000, 10, 2e-4, 0.1, 1, 0, 100, 0, \
      QRB_SCHEDULE_CONSTANT, 0 }

/* Set struct_size first. */
typedef struct qrb_train_result {
    size_t struct_size;
    uint64_t steps;  /* done in all, with those before a resume */
    uint64_t tokens; /* scored in this run */
    double loss;     /* mean of the last steps (at most 50); NaN before one */
    double seconds;  /* of this run */
    double anchor_gradient_ratio; /* mean over steps; NaN without anchor */
} qrb_train_result;

/**
 * Make a trainer.
 *
 * The gradient of a step is the mean over its microbatches, each of which is
 * a mean over its scored targets.
 *
 * @param model   has loss_and_grad; outlives the trainer
 * @param dataset token batches for hosts that take them; borrowed, outlives
 *                the trainer; NULL: the model's `batch` callback with
 *                QRB_STREAM_TRAIN, again from its beginning at its end
 * @param options NULL: the defaults; copied
 * @param out     receives the trainer, or NULL on failure; the caller releases
 *                it with qrb_trainer_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an option out of its range, or the
 *         host has not the callbacks); QRB_E_STATE (no parameter can be
 *         trained); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_trainer_create(qrb_model *model, qrb_dataset *dataset,
                                      const qrb_trainer_options *options,
                                      qrb_trainer **out);

/** Release it before its model; NULL is fine. */
QRB_API void qrb_trainer_destroy(qrb_trainer *trainer);

/**
 * Let a bound noise take part in every step, behind those that do already:
 * qrb_noise_add_grad() before the optimizer, qrb_noise_post_step() after it.
 *
 * @param noise borrowed, outlives the trainer
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (8 are the most, and
 *         they join before the first step); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_trainer_add_noise(qrb_trainer *trainer,
                                         qrb_noise *noise);

/**
 * Go on from the checkpoint of the options, if there is one: weights of all
 * parameters, moments and the place in the run are taken from it.  The run
 * then ends with the same bits as one that was never stopped, on the same
 * instruction set.  The checkpoint must be of a run with equal model shapes,
 * options (but the checkpoint's own), seed, dataset and noises, anchors and
 * their weights among them; batches of a host's own are taken on trust.  The
 * model's weights must be those that the run began with, or still those of the
 * checkpoint.
 *
 * @param resumed_out receives the step to go on from, 0 without checkpoint;
 *                    may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_FORMAT (damaged, or of
 *         another run: the message says in what); QRB_E_UNSUPPORTED (of a
 *         newer version); QRB_E_IO; QRB_E_STATE (the options name none, the
 *         run has begun, or a weight is perturbed); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT: with these nothing was changed.  QRB_E_CALLBACK
 *         (weights_written, after the weights were taken over)
 */
QRB_API qrb_status qrb_trainer_resume(qrb_trainer *trainer,
                                      uint64_t *resumed_out);

/**
 * Run to the last step; called again after a cancellation it goes on.
 *
 * The pass in force is used; a model without one gets the trainer's own while
 * it runs, and set_mode(QRB_MODE_TRAIN).  A batch that the host calls
 * unusable, or whose loss is not finite, is replaced by the next one, and what
 * it left in the gradients is computed again.  Progress names the loss and
 * tokens a second.  Whatever ends a run, the weights are those of the last
 * complete step; a checkpoint is written every checkpoint_every steps, after
 * the last and when the run is cancelled or fails, each replacing the one
 * before whole.  A run that failed tells its own failure, also where this
 * checkpoint cannot be written.
 * The result does not depend on the number of threads.
 *
 * @param out figures, also when the run was cancelled; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, out->struct_size);
 *         QRB_E_CANCELLED; QRB_E_CALLBACK (the host stopped, or more than 16
 *         batches in a row were unusable); QRB_E_NOT_FINITE (a gradient);
 *         QRB_E_STATE (the host's stream is empty, or a noise is not ready);
 *         QRB_E_IO (checkpoint); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_trainer_run(qrb_trainer *trainer,
                                   qrb_train_result *out);

QRB_END_DECLS

#endif
