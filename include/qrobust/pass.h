/* The push contract: taps and brackets for hosts that own their loop. */
#ifndef QROBUST_PASS_H
#define QROBUST_PASS_H

#include <qrobust/model.h>

QRB_BEGIN_DECLS

/**
 * Forward and backward of one model, made once and used for every batch; no
 * tap and no step allocates.
 *
 * A host brackets its step and hands over tensors on the way:
 * qrb_step_begin(), forward and backward with qrb_tap(), more microbatches,
 * the optimizer, qrb_step_end().
 */
typedef struct qrb_pass qrb_pass;

/** Named points of a network.  Pinned values; shapes in qrb_tap(). */
enum qrb_tap_point {
    QRB_TAP_LAYER_INPUT = 1,
    QRB_TAP_LINEAR_INPUT = 2,
    QRB_TAP_LINEAR_OUTPUT = 3,
    QRB_TAP_ATTN_LOGITS = 4,
    QRB_TAP_ATTN_PROBS = 5,
    /** Or-ed to a point: the loss's gradient there, in the backward pass. */
    QRB_TAP_GRAD = 0x100,
    /** Or-ed to a point in qrb_pass_listen(): this listener changes the
     * tensor, and therefore rests in QRB_MODE_EVAL. */
    QRB_TAP_CHANGES = 0x200
};

/** Flags of a pass. */
enum qrb_pass_flag {
    /** Taps may come from several threads at a time, for different indices;
     * listeners then run on those threads, side by side.  All other calls stay
     * on one thread, and none of them runs beside a tap. */
    QRB_PASS_CONCURRENT = 1
};

/* Start from QRB_PASS_OPTIONS_INIT. */
typedef struct qrb_pass_options {
    size_t struct_size;
    qrb_pass *teacher; /* of a student or quantized pass: one whose role is
                          teacher or base, in the same context, which outlives
                          it; default NULL */
    uint32_t mode;     /* enum qrb_mode; default QRB_MODE_TRAIN */
    uint32_t role;     /* enum qrb_pass_role; default QRB_PASS_STUDENT */
    uint32_t flags;    /* enum qrb_pass_flag; default 0 */
    uint32_t reserved; /* 0 */
} qrb_pass_options;

/** The defaults of a pass: a student's, in training. */
#define QRB_PASS_OPTIONS_INIT \
    { sizeof(qrb_pass_options), 0, QRB_MODE_TRAIN, QRB_PASS_STUDENT, 0, 0 }

/**
 * Make a pass without listeners.
 *
 * @param options NULL: the defaults; copied
 * @param out     receives the pass, or NULL on failure; the caller releases it
 *                with qrb_pass_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an unknown mode, role or flag, a
 *         teacher that does not fit the role, unknown options);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_pass_create(qrb_model *model,
                                   const qrb_pass_options *options,
                                   qrb_pass **out);

/** Release a pass before its model and after its students; NULL is fine.  Not
 * to be called from inside a callback. */
QRB_API void qrb_pass_destroy(qrb_pass *pass);

/**
 * Change between training, calibration and evaluation, in which listeners that
 * change tensors rest.  While the library drives a model it sets the mode of
 * the pass in force itself.  May be called from inside a callback.
 *
 * @param mode enum qrb_mode
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an unknown mode)
 */
QRB_API qrb_status qrb_pass_set_mode(qrb_pass *pass, uint32_t mode);

/**
 * Make this the pass in force: the one that the model's callbacks tap into.
 *
 * @param pass of this model, or NULL: none
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or a pass of another model);
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_model_set_pass(qrb_model *model, qrb_pass *pass);

/** The pass in force, or NULL.  May be called from inside a callback. */
QRB_API qrb_pass *qrb_model_pass(const qrb_model *model);

/**
 * A listener written by the host.  `tensor` lives until it returns, and may be
 * changed in place by listeners that came with QRB_TAP_CHANGES.  0 goes on;
 * anything else ends the tap with QRB_E_CALLBACK, and later listeners do not
 * hear it.  Runs on the thread that tapped; may call what a callback may, but
 * no tap of the same pass.
 */
typedef int (*qrb_tap_fn)(uint32_t point, size_t index, qrb_tensor *tensor,
                          void *user);

/**
 * Listen at a point, behind those who listen there already, until the pass is
 * destroyed.
 *
 * @param point enum qrb_tap_point, also with QRB_TAP_GRAD; with
 *              QRB_TAP_CHANGES a listener that changes the tensor, which
 *              LINEAR_OUTPUT and ATTN_PROBS do not allow
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no such point, or one that may not
 *         be changed); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_pass_listen(qrb_pass *pass, uint32_t point,
                                   qrb_tap_fn listener, void *user);

/**
 * Open a step, or its next microbatch: before each forward.  The three numbers
 * are the key of all randomness in it.  A step that was begun
 * and never ended, because its batch failed, is given up by the next one.
 * May be called from inside a callback.
 *
 * @param step       of the optimizer
 * @param microbatch of accumulated gradients, from 0
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL)
 */
QRB_API qrb_status qrb_step_begin(qrb_pass *pass, uint64_t step,
                                  uint64_t epoch, uint32_t microbatch);

/**
 * Close a step, once, after the optimizer.  May be called from inside a
 * callback.
 *
 * @param loss of the step, for schedules and the log; any value
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (no step is open)
 */
QRB_API qrb_status qrb_step_end(qrb_pass *pass, double loss);

/**
 * Whether anyone listens there, in the mode as it is: ask before materialising
 * a tensor.  May be called from inside a callback, and from several threads.
 *
 * @param point enum qrb_tap_point, also with QRB_TAP_GRAD
 * @return 1 or 0; 0 for a NULL pass and an unknown point
 */
QRB_API int32_t qrb_tap_wanted(const qrb_pass *pass, uint32_t point,
                               size_t index);

/**
 * Hand over a tensor at a named point.  Without listeners this is one branch,
 * and nothing is looked at.  May be called from inside a callback.
 *
 * | point | shape | in place |
 * | --- | --- | --- |
 * | LAYER_INPUT | [tokens, dim] | yes |
 * | LINEAR_INPUT | [tokens, in] or [n, c, h, w] | yes |
 * | LINEAR_OUTPUT | [tokens, out] or [n, c, h, w] | no |
 * | ATTN_LOGITS | [batch, heads, query, key], scaled, unmasked | yes |
 * | ATTN_PROBS | the same, after softmax | no |
 *
 * With QRB_TAP_GRAD the gradient of the loss with respect to that tensor, of
 * the same shape, in the backward pass; listeners may add to it.
 *
 * @param index  the block at LAYER_INPUT and ATTN points, the number of the
 *               weight's registration at LINEAR points
 * @param tensor F64, F32, F16 or BF16, any strides; borrowed until the call
 *               returns
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no such point, an index that is no
 *         weight of a linear or convolution, integers); QRB_E_SHAPE (the
 *         message names the tensor and both shapes); QRB_E_STATE (outside a
 *         step; or a second tap at a time without QRB_PASS_CONCURRENT);
 *         QRB_E_CALLBACK (a listener stopped)
 *
 * Thread safety: with QRB_PASS_CONCURRENT several threads may tap at a time,
 * for different indices.
 */
QRB_API qrb_status qrb_tap(qrb_pass *pass, uint32_t point, size_t index,
                           qrb_tensor *tensor);

/** Kind of mask on attention logits.  Pinned values. */
enum qrb_mask {
    QRB_MASK_NONE = 0,   /**< every query sees every key */
    QRB_MASK_CAUSAL = 1, /**< keys behind the query's position are masked */
    QRB_MASK_KEYS = 2    /**< keys from key_length[b] on are masked */
};

/* Start from QRB_ATTENTION_INIT; once a batch. */
typedef struct qrb_attention {
    size_t struct_size;
    const uint32_t *key_length;    /* [batch], with QRB_MASK_KEYS and only
                                      then; the arrays are borrowed until the
                                      next call */
    const uint32_t *position;      /* [batch], position of the first query;
                                      NULL: 0 */
    const uint32_t *segment_start; /* [batch, query] first key that a query
                                      sees, in packed sequences; NULL: 0 */
    size_t batch;                  /* 0: any, without arrays */
    uint32_t mask;                 /* enum qrb_mask; default causal */
    uint32_t reserved;             /* 0 */
} qrb_attention;

/** Causal attention from position 0. */
#define QRB_ATTENTION_INIT \
    { sizeof(qrb_attention), 0, 0, 0, 0, QRB_MASK_CAUSAL, 0 }

/**
 * Give mask and positions of the batch; masked entries are never perturbed nor
 * counted.  In force until the next call; before the first it is
 * QRB_ATTENTION_INIT.  May be called from inside a callback.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an unknown mask, arrays for a batch
 *         of 0, a key_length without its mask or the mask without it)
 */
QRB_API qrb_status qrb_pass_set_attention(qrb_pass *pass,
                                          const qrb_attention *attention);

QRB_END_DECLS

#endif
