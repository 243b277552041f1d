/* Optimizers, schedules and the trainer with checkpoints. */
#ifndef QROBUST_TRAIN_H
#define QROBUST_TRAIN_H

#include <qrobust/noise.h>
#include <qrobust/pass.h>

QRB_BEGIN_DECLS

/** First and second moments of a model's parameters. */
typedef struct qrb_optimizer qrb_optimizer;

/** Kinds of optimizer. */
enum qrb_optimizer_kind { QRB_ADAMW = 1, QRB_SGD = 2 };

/* Start from QRB_OPTIMIZER_OPTIONS_INIT. */
typedef struct qrb_optimizer_options {
    size_t struct_size;
    double beta1;        /* AdamW; default 0.9 */
    double beta2;        /* AdamW; default 0.999 */
    double epsilon;      /* AdamW; default 1e-8 */
    double weight_decay; /* decoupled, on matrices only; default 0.01 */
    double momentum;     /* SGD; default 0.9 */
    double clip_norm;    /* of the whole gradient; 0: none; default 1 */
    uint32_t kind;       /* enum qrb_optimizer_kind; default AdamW */
    uint32_t reserved;   /* 0 */
} qrb_optimizer_options;

#define QRB_OPTIMIZER_OPTIONS_INIT \
    { sizeof(qrb_optimizer_options), 0.9, 0.999, 1e-8, 0.01, 0.9, 1.0, \
      QRB_ADAMW, 0 }

/** Make an optimizer over the model's parameters that have gradients and are
 * not frozen; out is NULL on failure. */
QRB_API qrb_status qrb_optimizer_create(qrb_model *model,
                                        const qrb_optimizer_options *options,
                                        qrb_optimizer **out);

/** Release it before its model; NULL is fine. */
QRB_API void qrb_optimizer_destroy(qrb_optimizer *optimizer);

/**
 * One update with the registered gradients, after clipping.
 *
 * @param norm_out receives the gradient's norm before clipping; may be NULL
 * @return QRB_OK; QRB_E_NOT_FINITE (a gradient is not; nothing was changed,
 *         and the message names the first such parameter)
 */
QRB_API qrb_status qrb_optimizer_step(qrb_optimizer *optimizer, double lr,
                                      double *norm_out);

/** Shapes of a learning rate over the steps. */
enum qrb_schedule { QRB_SCHEDULE_CONSTANT = 0, QRB_SCHEDULE_COSINE = 1 };

/** A training loop over a model's pull callbacks. */
typedef struct qrb_trainer qrb_trainer;

/* Start from QRB_TRAINER_OPTIONS_INIT. */
typedef struct qrb_trainer_options {
    size_t struct_size;
    qrb_optimizer_options optimizer;
    uint64_t steps;         /* optimizer steps; default 1000 */
    uint64_t warmup;        /* linear from 0; default 10 */
    double lr;              /* peak; default 2e-4 */
    double lr_end;          /* cosine: final fraction of lr; default 0.1 */
    size_t accumulation;    /* microbatches a step; default 1 */
    const char *checkpoint; /* file, or NULL: none; copied */
    uint64_t checkpoint_every; /* steps between checkpoints; default 100 */
    const char *what;       /* name of the stage for progress; "train" */
    uint32_t schedule;      /* enum qrb_schedule; default constant */
    uint32_t reserved;      /* 0 */
} qrb_trainer_options;

#define QRB_TRAINER_OPTIONS_INIT \
    { sizeof(qrb_trainer_options), QRB_OPTIMIZER_OPTIONS_INIT, 1000, 10, \
      2e-4, 0.1, 1, 0, 100, 0, QRB_SCHEDULE_CONSTANT, 0 }

/* Set struct_size first. */
typedef struct qrb_train_result {
    size_t struct_size;
    uint64_t steps;  /* done in all, with those before a resume */
    uint64_t tokens; /* scored in this run */
    double loss;     /* mean of the last steps (at most 50) */
    double seconds;  /* of this run */
    double anchor_gradient_ratio; /* mean over steps; NaN without anchor */
} qrb_train_result;

/**
 * Make a trainer.
 *
 * @param dataset token batches for hosts that take them; NULL: the model's
 *                `batch` callback with QRB_STREAM_TRAIN
 */
QRB_API qrb_status qrb_trainer_create(qrb_model *model, qrb_dataset *dataset,
                                      const qrb_trainer_options *options,
                                      qrb_trainer **out);

/** Release it before its model; NULL is fine. */
QRB_API void qrb_trainer_destroy(qrb_trainer *trainer);

/** Let a bound noise take part in every step; at most 8. */
QRB_API qrb_status qrb_trainer_add_noise(qrb_trainer *trainer,
                                         qrb_noise *noise);

/**
 * Go on from the checkpoint of the options, if there is one; the run then
 * ends with the same bits as one that was never stopped.
 *
 * @param resumed_out receives the step to go on from, 0 without checkpoint
 * @return QRB_OK; QRB_E_FORMAT (damaged, or of another model or other
 *         options); QRB_E_IO
 */
QRB_API qrb_status qrb_trainer_resume(qrb_trainer *trainer,
                                      uint64_t *resumed_out);

/**
 * Run to the last step.
 *
 * @param out figures, also when the run was cancelled; may be NULL
 * @return QRB_OK; QRB_E_CANCELLED (after a step; a checkpoint was written if
 *         one is configured); QRB_E_CALLBACK; QRB_E_NOT_FINITE
 */
QRB_API qrb_status qrb_trainer_run(qrb_trainer *trainer,
                                   qrb_train_result *out);

QRB_END_DECLS

#endif
