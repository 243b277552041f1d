/* The push contract: taps and brackets for hosts that own their loop. */
#ifndef QROBUST_PASS_H
#define QROBUST_PASS_H

#include <qrobust/model.h>

QRB_BEGIN_DECLS

/** Forward and backward of one model, made once and used for every batch. */
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
    /** Taps may come from several threads, for different indices. */
    QRB_PASS_CONCURRENT = 1
};

/* Start from QRB_PASS_OPTIONS_INIT. */
typedef struct qrb_pass_options {
    size_t struct_size;
    qrb_pass *teacher; /* of a student's pass; default NULL */
    uint32_t mode;     /* enum qrb_mode; default QRB_MODE_TRAIN */
    uint32_t role;     /* enum qrb_pass_role; default QRB_PASS_STUDENT */
    uint32_t flags;    /* enum qrb_pass_flag; default 0 */
    uint32_t reserved; /* 0 */
} qrb_pass_options;

#define QRB_PASS_OPTIONS_INIT \
    { sizeof(qrb_pass_options), 0, QRB_MODE_TRAIN, QRB_PASS_STUDENT, 0, 0 }

/** Make a pass; out is NULL on failure; qrb_pass_destroy() releases it. */
QRB_API qrb_status qrb_pass_create(qrb_model *model,
                                   const qrb_pass_options *options,
                                   qrb_pass **out);

/** Release a pass before its model; NULL is fine. */
QRB_API void qrb_pass_destroy(qrb_pass *pass);

/** Change between training, calibration and evaluation. */
QRB_API qrb_status qrb_pass_set_mode(qrb_pass *pass, uint32_t mode);

/** Make this the pass that the model's callbacks tap into; NULL: none. */
QRB_API qrb_status qrb_model_set_pass(qrb_model *model, qrb_pass *pass);

/** The pass in force, or NULL. */
QRB_API qrb_pass *qrb_model_pass(const qrb_model *model);

/**
 * A listener written by the host.  `tensor` may be changed in place at the
 * points that allow it, and lives until the callback returns.  0 goes on, < 0
 * stops with QRB_E_CALLBACK.  Runs on the thread that tapped.
 */
typedef int (*qrb_tap_fn)(uint32_t point, size_t index, qrb_tensor *tensor,
                          void *user);

/**
 * Listen at a point, in the order of registration.
 *
 * @param point enum qrb_tap_point, also with QRB_TAP_GRAD
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_pass_listen(qrb_pass *pass, uint32_t point,
                                   qrb_tap_fn listener, void *user);

/** Open a step: the key of all randomness in it.  Before each microbatch. */
QRB_API qrb_status qrb_step_begin(qrb_pass *pass, uint64_t step,
                                  uint64_t epoch, uint32_t microbatch);

/** Close a step, once, after the optimizer. */
QRB_API qrb_status qrb_step_end(qrb_pass *pass, double loss);

/** Whether anyone listens there: ask before materialising a tensor. */
QRB_API int32_t qrb_tap_wanted(const qrb_pass *pass, uint32_t point,
                               size_t index);

/**
 * Hand over a tensor at a named point.
 *
 * | point | shape | in place |
 * | LAYER_INPUT | [tokens, dim] | yes |
 * | LINEAR_INPUT | [tokens, in] or [n, c, h, w] | yes |
 * | LINEAR_OUTPUT | [tokens, out] or [n, c, h, w] | no |
 * | ATTN_LOGITS | [batch, heads, query, key], scaled, unmasked | yes |
 * | ATTN_PROBS | the same, after softmax | no |
 *
 * @param index the block at LAYER_INPUT and ATTN points, the number of the
 *              weight's registration at LINEAR points
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE; QRB_E_STATE (outside a
 *         step); QRB_E_CALLBACK
 */
QRB_API qrb_status qrb_tap(qrb_pass *pass, uint32_t point, size_t index,
                           qrb_tensor *tensor);

/** Kind of mask on attention logits. */
enum qrb_mask { QRB_MASK_NONE = 0, QRB_MASK_CAUSAL = 1, QRB_MASK_KEYS = 2 };

/* Start from QRB_ATTENTION_INIT; once a batch. */
typedef struct qrb_attention {
    size_t struct_size;
    const uint32_t *key_length;    /* [batch], with QRB_MASK_KEYS; borrowed
                                      until the next call */
    const uint32_t *position;      /* [batch], position of the first query */
    const uint32_t *segment_start; /* [batch, query], packed sequences */
    size_t batch;
    uint32_t mask;     /* enum qrb_mask */
    uint32_t reserved; /* 0 */
} qrb_attention;

#define QRB_ATTENTION_INIT \
    { sizeof(qrb_attention), 0, 0, 0, 0, QRB_MASK_CAUSAL, 0 }

/** Give mask and positions of the batch; masked entries are never perturbed
 * nor counted. */
QRB_API qrb_status qrb_pass_set_attention(qrb_pass *pass,
                                          const qrb_attention *attention);

QRB_END_DECLS

#endif
