/* The model: named parameters and the pull callbacks of its host. */
#ifndef QROBUST_MODEL_H
#define QROBUST_MODEL_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/** What is being made robust: a registry of parameters plus callbacks. */
typedef struct qrb_model qrb_model;

/** What a parameter does; default filters go by it.  Pinned values. */
enum qrb_role {
    QRB_ROLE_OTHER = 0,
    QRB_ROLE_EMBED = 1,
    QRB_ROLE_Q = 2,
    QRB_ROLE_K = 3,
    QRB_ROLE_V = 4,
    QRB_ROLE_QKV = 5,
    QRB_ROLE_O = 6,
    QRB_ROLE_GATE = 7,
    QRB_ROLE_UP = 8,
    QRB_ROLE_DOWN = 9,
    QRB_ROLE_FC1 = 10,
    QRB_ROLE_FC2 = 11,
    QRB_ROLE_CONV = 12,
    QRB_ROLE_HEAD = 13,
    QRB_ROLE_NORM = 14,
    QRB_ROLE_BIAS = 15,
    QRB_ROLE_QSTEP = 16,
    QRB_ROLE_LORA_U = 17,
    QRB_ROLE_LORA_V = 18
};

/** Flags of a parameter. */
enum qrb_parameter_flag {
    QRB_PARAM_FROZEN = 1,    /**< optimizers leave it alone */
    QRB_PARAM_TRANSPOSED = 2 /**< stored [in, out] */
};

/* Start from QRB_PARAMETER_INIT. */
typedef struct qrb_parameter {
    size_t struct_size;
    const char *name;           /* unique in the model; copied */
    const qrb_tensor *weight;   /* its view is copied, its memory borrowed */
    const qrb_tensor *gradient; /* same shape, or NULL */
    uint32_t role;              /* enum qrb_role */
    int32_t layer;              /* block, or -1 outside blocks */
    uint32_t flags;             /* enum qrb_parameter_flag */
    uint32_t reserved;          /* 0 */
} qrb_parameter;

#define QRB_PARAMETER_INIT \
    { sizeof(qrb_parameter), 0, 0, 0, QRB_ROLE_OTHER, -1, 0, 0 }

/** Which sequence of batches is meant. */
enum qrb_stream {
    QRB_STREAM_TRAIN = 0,
    QRB_STREAM_CALIBRATION = 1,
    QRB_STREAM_EVALUATION = 2
};

/** How a model behaves: dropout, noise and statistics. */
enum qrb_mode { QRB_MODE_TRAIN = 0, QRB_MODE_CALIBRATE = 1, QRB_MODE_EVAL = 2 };

/** Which weights a pass or the next callbacks use. */
enum qrb_pass_role {
    QRB_PASS_STUDENT = 0,
    QRB_PASS_TEACHER = 1,
    QRB_PASS_BASE = 2,
    QRB_PASS_QUANTIZED = 3
};

/**
 * A batch of token sequences, made by the library from text.  Row s predicts
 * tokens[s][t] from tokens[s][0..t-1] for t >= first_scored[s].
 */
typedef struct qrb_token_batch {
    size_t struct_size;
    const int32_t *tokens;      /* [sequences, length] */
    const size_t *first_scored; /* [sequences], each in 1..length */
    size_t sequences;
    size_t length;
} qrb_token_batch;

#define QRB_TOKEN_BATCH_INIT { sizeof(qrb_token_batch), 0, 0, 0, 0 }

/** Flags of a host. */
enum qrb_host_flag {
    /** Batches may be `const qrb_token_batch *`, so that the library can cut
     * text into batches itself; `batch` is then optional. */
    QRB_HOST_TOKEN_BATCHES = 1
};

/**
 * The pull contract.  Every function gets `user` last and returns 0 (done),
 * > 0 (this batch is unusable: skip it, at most 16 in a row) or < 0 (stop: the
 * library restores every weight that it perturbed and returns
 * QRB_E_CALLBACK; qrb_context_callback_code() gives the value; with
 * QRB_CALLBACK_STATUS() it returns that status).  A loss that is not finite
 * counts as > 0.  Callbacks run on the thread that called the
 * library.  From inside one the host may call taps and brackets of a pass,
 * and getters; anything else on the same context returns QRB_E_REENTRANT.
 * Pointers live until the callback returns.  No C++ exception and no longjmp
 * may cross.
 *
 * `loss_and_grad` and `batch` suffice for training, repair and curvature,
 * `logits` and `batch` for perplexity and KL.
 */
typedef struct qrb_host_callbacks {
    size_t struct_size;
    void *user;
    /** Called once by qrb_model_destroy(); NULL: nothing. */
    void (*user_free)(void *user);
    /** A batch by its index in a stream, the same for the same arguments;
     * *rows is how many rows `logits` has for it; *batch NULL: the stream is
     * at its end. */
    int (*batch)(uint32_t stream, uint64_t index, void **batch, size_t *rows,
                 void *user);
    void (*batch_release)(void *batch, void *user);
    /** Forward and backward: adds weight * d(mean loss) to the registered
     * gradients.  The loss is a mean over *scored targets, in nats. */
    int (*loss_and_grad)(const void *batch, double weight, double *mean_loss,
                         size_t *scored, void *user);
    /** Forward only; NULL: loss_and_grad with weight 0. */
    int (*loss)(const void *batch, double *mean_loss, size_t *scored,
                void *user);
    /** Logits [rows, vocab] of the scored positions in order, and the target
     * of each row (-1: none). */
    int (*logits)(const void *batch, float *logits, int32_t *targets,
                  size_t rows, void *user);
    /** Negative log-likelihoods in nats, [rows] as of `logits`; NULL: made
     * from `logits`. */
    int (*token_nll)(const void *batch, float *nll, size_t rows, void *user);
    /** NULL: the library zero-fills the registered gradients. */
    int (*zero_grad)(void *user);
    int (*set_mode)(uint32_t mode, void *user);           /* enum qrb_mode */
    int (*select_model)(uint32_t pass_role, void *user);
    /** Weights of this parameter were changed by the library. */
    int (*weights_written)(size_t parameter, void *user);
    size_t vocab;   /* columns of `logits`; 0 where there are none */
    uint64_t flags; /* enum qrb_host_flag */
} qrb_host_callbacks;

#define QRB_HOST_CALLBACKS_INIT \
    { sizeof(qrb_host_callbacks), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make an empty model.
 *
 * @param callbacks NULL for a host that only pushes; copied
 * @param out       the model, or NULL on failure; release it with
 *                  qrb_model_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_model_create(qrb_context *ctx,
                                    const qrb_host_callbacks *callbacks,
                                    qrb_model **out);

/** Restore perturbed weights and release the model; NULL is fine. */
QRB_API void qrb_model_destroy(qrb_model *model);

/**
 * Register a parameter.
 *
 * @param index_out receives its number, ascending from 0; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (no or duplicate name, no weight, unknown
 *         role); QRB_E_SHAPE (gradient unlike weight); QRB_E_UNSUPPORTED
 *         (weight is neither F32 nor F64, or gradient of another type);
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_model_add_parameter(qrb_model *model,
                                           const qrb_parameter *parameter,
                                           size_t *index_out);

/** Number of registered parameters. */
QRB_API size_t qrb_model_parameter_count(const qrb_model *model);

/**
 * Look at a parameter.
 *
 * @param out set struct_size first; pointers in it live as long as the model
 * @return QRB_OK; QRB_E_INVALID_ARG (index out of range)
 */
QRB_API qrb_status qrb_model_parameter(const qrb_model *model, size_t index,
                                       qrb_parameter *out);

/** Index of a name, or SIZE_MAX. */
QRB_API size_t qrb_model_find(const qrb_model *model, const char *name);

/**
 * Tell the library that the host moved a parameter's storage.
 *
 * @param weight, gradient of the same shape and type as registered
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE; QRB_E_STATE (while it is
 *         perturbed)
 */
QRB_API qrb_status qrb_model_weights_changed(qrb_model *model, size_t index,
                                             const qrb_tensor *weight,
                                             const qrb_tensor *gradient);

/* Which parameters are meant; start from QRB_FILTER_INIT. */
typedef struct qrb_filter {
    size_t struct_size;
    uint64_t roles;   /* bit r: role r; 0: every matrix inside blocks, which
                         is Q K V QKV O GATE UP DOWN FC1 FC2 CONV (default) */
    const char *name; /* glob with * and ?, NULL: any name (default) */
} qrb_filter;

#define QRB_FILTER_INIT { sizeof(qrb_filter), 0, 0 }
#define QRB_FILTER_ALL (~(uint64_t)0) /* for roles: every parameter */

/** Copies of parameters, for an exact undo. */
typedef struct qrb_snapshot qrb_snapshot;

/**
 * Copy the weights that a filter selects.
 *
 * @param filter NULL: QRB_FILTER_INIT
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_snapshot_create(qrb_model *model,
                                       const qrb_filter *filter,
                                       qrb_snapshot **out);

/** Write the copied weights back, bit for bit. */
QRB_API qrb_status qrb_snapshot_restore(qrb_snapshot *snapshot);

/** Release the copies; does not restore; NULL is fine. */
QRB_API void qrb_snapshot_destroy(qrb_snapshot *snapshot);

/* Token sequences for training, cut from one long text. */
typedef struct qrb_dataset qrb_dataset;

/* Start from QRB_DATASET_OPTIONS_INIT. */
typedef struct qrb_dataset_options {
    size_t struct_size;
    size_t batch;   /* sequences; default 4 */
    size_t context; /* tokens that are predicted from, a sequence; default 128:
                       a sequence holds context + 1 tokens */
} qrb_dataset_options;

#define QRB_DATASET_OPTIONS_INIT { sizeof(qrb_dataset_options), 4, 128 }

/**
 * A source of training batches: windows at uniformly random starts, drawn by
 * (seed of the context, index of the batch), so that batch i is the same in
 * every run.
 *
 * @param tokens [count], copied
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE (count < context + 1);
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_dataset_create(qrb_context *ctx, const int32_t *tokens,
                                      size_t count,
                                      const qrb_dataset_options *options,
                                      qrb_dataset **out);

/** Release a dataset; NULL is fine. */
QRB_API void qrb_dataset_destroy(qrb_dataset *dataset);

/**
 * Batch `index` of a dataset.
 *
 * @param out its pointers live until the next call on the dataset
 */
QRB_API qrb_status qrb_dataset_batch(qrb_dataset *dataset, uint64_t index,
                                     qrb_token_batch *out);

QRB_END_DECLS

#endif
