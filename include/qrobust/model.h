/* The model: named parameters and the pull callbacks of its host. */
#ifndef QROBUST_MODEL_H
#define QROBUST_MODEL_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/**
 * What is being made robust: a registry of parameters plus callbacks.  It owns
 * neither weights nor gradients of a host.
 */
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
    QRB_PARAM_FROZEN = 1,    /**< optimizers and pulls leave it alone */
    QRB_PARAM_TRANSPOSED = 2 /**< stored [in, out] */
};

/* Start from QRB_PARAMETER_INIT. */
typedef struct qrb_parameter {
    size_t struct_size;
    const char *name;           /* unique in the model, not empty; copied */
    const qrb_tensor *weight;   /* F32 or F64, any strides; its view is copied,
                                   its memory borrowed as long as the model
                                   lives or qrb_model_weights_changed() */
    const qrb_tensor *gradient; /* same shape and type, or NULL (default);
                                   borrowed likewise */
    uint32_t role;              /* enum qrb_role; default OTHER */
    int32_t layer;              /* block, or -1 outside blocks (default) */
    uint32_t flags;             /* enum qrb_parameter_flag; default 0 */
    uint32_t reserved;          /* 0 */
} qrb_parameter;

/** A parameter without name and weight. */
#define QRB_PARAMETER_INIT \
    { sizeof(qrb_parameter), 0, 0, 0, QRB_ROLE_OTHER, -1, 0, 0 }

/** Which sequence of batches is meant.  Pinned values. */
enum qrb_stream {
    QRB_STREAM_TRAIN = 0,
    QRB_STREAM_CALIBRATION = 1,
    QRB_STREAM_EVALUATION = 2
};

/** How a model behaves: dropout, noise and statistics.  Pinned values. */
enum qrb_mode {
    QRB_MODE_TRAIN = 0,     /**< all there is */
    QRB_MODE_CALIBRATE = 1, /**< statistics, and what perturbs */
    QRB_MODE_EVAL = 2       /**< no dropout, and nothing perturbs */
};

/** Which weights a pass or the next callbacks use.  Pinned values. */
enum qrb_pass_role {
    QRB_PASS_STUDENT = 0,
    QRB_PASS_TEACHER = 1,
    QRB_PASS_BASE = 2,
    QRB_PASS_QUANTIZED = 3
};

/**
 * A batch of token sequences, made by the library from text.  Row s predicts
 * tokens[s][t] from tokens[s][0..t-1] for t >= first_scored[s]; the rows of
 * `logits` and `token_nll` are these, in order of s, then t.
 */
typedef struct qrb_token_batch {
    size_t struct_size;
    const int32_t *tokens;      /* [sequences, length], none negative */
    const size_t *first_scored; /* [sequences], each in 1..length, where
                                   length means that nothing is scored */
    size_t sequences;           /* rows of tokens */
    size_t length;              /* tokens of each */
} qrb_token_batch;

/** An empty batch, to be filled. */
#define QRB_TOKEN_BATCH_INIT { sizeof(qrb_token_batch), 0, 0, 0, 0 }

/** Flags of a host. */
enum qrb_host_flag {
    /** Batches may be `const qrb_token_batch *`, so that the library can cut
     * text into batches itself; `batch` is then optional. */
    QRB_HOST_TOKEN_BATCHES = 1
};

/**
 * The pull contract: what the library asks of a host.  `loss_and_grad` and
 * `batch` suffice for training, repair and curvature, `logits` and `batch` for
 * perplexity and KL; what is NULL is composed from the others where the field
 * says so, or is QRB_E_UNSUPPORTED when it is needed.
 *
 * Callbacks that are given a batch, and `batch`, answer 0 (done), > 0 (this
 * batch is unusable: skip it, at most 16 in a row) or < 0 (stop: the library
 * restores every weight that it perturbed and returns QRB_E_CALLBACK;
 * qrb_context_callback_code() gives the value; with QRB_CALLBACK_STATUS() it
 * returns that status).  Output that is not finite and a loss over no target
 * count as > 0.  The other callbacks serve no batch: any answer but 0 stops.
 *
 * Callbacks run on the thread that called the library.  From inside one the
 * host may call what its own forward and backward pass needs (taps, brackets
 * of steps and of perturbed weights, the gradients and pulls of noises) and
 * getters; anything else on the same context returns QRB_E_REENTRANT, and
 * nothing is destroyed.  Pointers live until the callback returns.  No C++
 * exception and no longjmp may cross.
 */
typedef struct qrb_host_callbacks {
    size_t struct_size;
    void *user; /* handed to every callback */
    /** Called once by qrb_model_destroy(); NULL: nothing. */
    void (*user_free)(void *user);
    /** A batch by its index in a stream, the same for the same arguments;
     * *rows is how many rows `logits` has for it; *batch left NULL: the
     * stream is at its end.  NULL: the library makes token batches. */
    int (*batch)(uint32_t stream, uint64_t index, void **batch, size_t *rows,
                 void *user);
    /** Gives a batch of `batch` back, once; NULL: nothing. */
    void (*batch_release)(void *batch, void *user);
    /** Forward and backward: adds weight * d(mean loss) to the registered
     * gradients.  The loss is a mean over *scored targets, in nats.  What is
     * in the gradients after a skip does not matter: they are zeroed before
     * they are used. */
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
    /** enum qrb_mode of the calls that follow; NULL: there is one only. */
    int (*set_mode)(uint32_t mode, void *user);
    /** enum qrb_pass_role whose weights the calls that follow use; for methods
     * that compare roles of one model, of which this release has none. */
    int (*select_model)(uint32_t pass_role, void *user);
    /** Weights of this parameter were changed by the library: copies that the
     * host keeps elsewhere are stale.  NULL: there are none. */
    int (*weights_written)(size_t parameter, void *user);
    size_t vocab;   /* columns of `logits`, which need it; default 0 */
    uint64_t flags; /* enum qrb_host_flag; default 0 */
} qrb_host_callbacks;

/** No callbacks at all. */
#define QRB_HOST_CALLBACKS_INIT \
    { sizeof(qrb_host_callbacks), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make an empty model.
 *
 * @param callbacks NULL for a host that only pushes; copied
 * @param out       the model, or NULL on failure; release it with
 *                  qrb_model_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an unknown flag, `logits` without
 *         vocab, unknown callbacks); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_model_create(qrb_context *ctx,
                                    const qrb_host_callbacks *callbacks,
                                    qrb_model **out);

/**
 * Release a model; NULL is fine.  Weights that noises perturb are restored
 * first, and the noises are bound no longer; passes, snapshots, optimizers and
 * trainers of the model go before it.  Not to be called from inside a callback.
 */
QRB_API void qrb_model_destroy(qrb_model *model);

/**
 * Register a parameter.
 *
 * Parameters may share memory; each then counts on its own.
 *
 * @param index_out receives its number, ascending from 0; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no or duplicate name, no weight,
 *         an unknown role or flag, a layer below -1); QRB_E_SHAPE (gradient
 *         unlike weight); QRB_E_UNSUPPORTED (weight is neither F32 nor F64, or
 *         gradient of another type); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_model_add_parameter(qrb_model *model,
                                           const qrb_parameter *parameter,
                                           size_t *index_out);

/** Number of registered parameters; 0 for NULL.  May be called from inside a
 * callback. */
QRB_API size_t qrb_model_parameter_count(const qrb_model *model);

/**
 * Look at a parameter.  May be called from inside a callback.
 *
 * @param out set struct_size first; pointers in it live as long as the model;
 *            on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, struct_size, index out of range)
 */
QRB_API qrb_status qrb_model_parameter(const qrb_model *model, size_t index,
                                       qrb_parameter *out);

/** Index of a name, or SIZE_MAX; in time that does not grow with the number of
 * parameters.  May be called from inside a callback. */
QRB_API size_t qrb_model_find(const qrb_model *model, const char *name);

/**
 * Tell the library that the host moved a parameter's storage.
 *
 * @param weight   of the same shape and type as registered; its view is copied,
 *                 its memory borrowed
 * @param gradient likewise; NULL where there was none
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, index out of range, another type, a
 *         gradient where there was none or none where there was one);
 *         QRB_E_SHAPE (the message names the parameter and both shapes);
 *         QRB_E_STATE (while it is perturbed); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_model_weights_changed(qrb_model *model, size_t index,
                                             const qrb_tensor *weight,
                                             const qrb_tensor *gradient);

/* Which parameters are meant; start from QRB_FILTER_INIT. */
typedef struct qrb_filter {
    size_t struct_size;
    uint64_t roles;   /* bit r: role r; 0: every matrix inside blocks, which
                         is Q K V QKV O GATE UP DOWN FC1 FC2 CONV of rank 2 or
                         more, whatever its layer (default) */
    const char *name; /* glob with * and ? over the whole name, on top of the
                         roles; borrowed; NULL: any name (default) */
} qrb_filter;

/** Every matrix inside blocks. */
#define QRB_FILTER_INIT { sizeof(qrb_filter), 0, 0 }
/** For the roles of a filter: every parameter. */
#define QRB_FILTER_ALL (~(uint64_t)0)

/** Copies of parameters, for an exact undo. */
typedef struct qrb_snapshot qrb_snapshot;

/**
 * Copy the weights that a filter selects.
 *
 * @param filter NULL: QRB_FILTER_INIT
 * @param out    the copies, or NULL on failure; release them with
 *               qrb_snapshot_destroy(), before the model
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or the filter selects nothing);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_snapshot_create(qrb_model *model,
                                       const qrb_filter *filter,
                                       qrb_snapshot **out);

/**
 * Write the copied weights back, bit for bit, as often as wanted.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (a parameter is
 *         perturbed; nothing was written); QRB_E_CALLBACK (`weights_written`
 *         stopped: all weights are back all the same); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_snapshot_restore(qrb_snapshot *snapshot);

/** Release the copies; does not restore; NULL is fine.  Not to be called from
 * inside a callback. */
QRB_API void qrb_snapshot_destroy(qrb_snapshot *snapshot);

/** Token sequences for training, cut from one long text. */
typedef struct qrb_dataset qrb_dataset;

/* Start from QRB_DATASET_OPTIONS_INIT. */
typedef struct qrb_dataset_options {
    size_t struct_size;
    size_t batch;   /* sequences, at least 1; default 4 */
    size_t context; /* tokens that are predicted from, a sequence, at least 1:
                       a sequence holds context + 1 tokens; default 128 */
} qrb_dataset_options;

/** The defaults of a dataset. */
#define QRB_DATASET_OPTIONS_INIT { sizeof(qrb_dataset_options), 4, 128 }

/**
 * A source of training batches: windows at uniformly random starts, drawn by
 * (seed of the context, index of the batch), so that batch i is the same in
 * every run, and a run can be resumed at any of them.
 *
 * @param tokens [count], none negative; copied
 * @param out    the dataset, or NULL on failure; release it with
 *               qrb_dataset_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, batch or context of 0, a negative
 *         token: the message tells its place); QRB_E_SHAPE (count < context +
 *         1, or batch * (context + 1) overflows); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_dataset_create(qrb_context *ctx, const int32_t *tokens,
                                      size_t count,
                                      const qrb_dataset_options *options,
                                      qrb_dataset **out);

/** Release a dataset; NULL is fine. */
QRB_API void qrb_dataset_destroy(qrb_dataset *dataset);

/**
 * Batch `index` of a dataset; there is no last one.
 *
 * @param out set struct_size first (QRB_TOKEN_BATCH_INIT); its pointers live
 *            until the next call on the dataset; every token but the first of
 *            a sequence is scored
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, struct_size); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_dataset_batch(qrb_dataset *dataset, uint64_t index,
                                     qrb_token_batch *out);

QRB_END_DECLS

#endif
