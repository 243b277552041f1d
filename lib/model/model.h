/* The registry seen from inside, and the calls of a host's callbacks with the
 * rules of the pull contract: skip, stop, reentrancy. */
#ifndef QRB_MODEL_MODEL_H
#define QRB_MODEL_MODEL_H

#include <qrobust/model.h>
#include <qrobust/noise.h>
#include <qrobust/pass.h>

#include "tensor/parameter.h"

enum { QRB__MAX_SKIPS = 16 };

struct qrb_model {
    qrb_context *ctx;
    qrb_host_callbacks callbacks;
    /* Each on its own, so that pointers to it survive growth. */
    struct qrb__parameter **parameters;
    size_t count;
    size_t capacity;
    size_t *slots;           /* by hash of the name: 0, or 1 + index */
    size_t slot_count;       /* a power of two, at least twice the capacity */
    qrb_noise *noises;       /* bound to this model, linked by their bindings */
    qrb_pass *pass;          /* in force; NULL: none */
    size_t skips;            /* batches skipped in a row */
    const void *engine_kind; /* the engine's mark; NULL: a host's model */
};

/* A batch, of the host's making or the library's. */
struct qrb__batch {
    const void *handle; /* NULL: the stream is at its end */
    size_t rows;        /* scored rows */
    bool from_host;     /* to be released */
};

/* Whether a filter selects a parameter; NULL filter: matrices in blocks. */
bool qrb__filter_selects(const qrb_filter *filter,
                         const struct qrb__parameter *parameter);
qrb_status qrb__filter_check(qrb_context *ctx, const qrb_filter *filter);
/* Check a filter and count what it selects; nothing is QRB_E_INVALID_ARG. */
qrb_status qrb__filter_count(qrb_model *model, const qrb_filter *filter,
                             size_t *out);

/* From the host's `batch`; *skipped is set for an unusable one. */
qrb_status qrb__model_batch(qrb_model *model, uint32_t stream, uint64_t index,
                            struct qrb__batch *out, bool *skipped);
void qrb__model_batch_release(qrb_model *model, struct qrb__batch *batch);

/* Each: QRB_OK with *skipped false or true, or the status to give up with.
 * More than QRB__MAX_SKIPS in a row is QRB_E_CALLBACK.  A loss that is not
 * finite, or over no target, is a skip.  Outputs are set when nothing was
 * skipped; what a skipped loss_and_grad left in the gradients is unknown. */
qrb_status qrb__model_loss_and_grad(qrb_model *model, const void *batch,
                                    double weight, double *loss, size_t *scored,
                                    bool *skipped);
/* By `loss`, or from loss_and_grad with weight 0. */
qrb_status qrb__model_loss(qrb_model *model, const void *batch, double *loss,
                           size_t *scored, bool *skipped);
/* Logits [rows, vocab] are finite, targets [rows] in -1..vocab-1. */
qrb_status qrb__model_logits(qrb_model *model, const void *batch, float *logits,
                             int32_t *targets, size_t rows, bool *skipped);
/* By `token_nll`, or from `logits` with the scratch [rows, vocab] and [rows];
 * afterwards targets[r] is -1 for rows that have none, whose nll is 0 and must
 * not be counted (token_nll scores every row: its targets become 0). */
qrb_status qrb__model_token_nll(qrb_model *model, const void *batch,
                                size_t rows, float *logits, int32_t *targets,
                                float *nll, bool *skipped);
/* These serve no batch: any answer but 0 stops with QRB_E_CALLBACK, and a
 * callback that the host does not have is 0. */
qrb_status qrb__model_zero_grad(qrb_model *model);
/* The pass in force changes its mode with the host. */
qrb_status qrb__model_set_mode(qrb_model *model, uint32_t mode);
qrb_status qrb__model_weights_written(qrb_model *model, size_t parameter);

/* Let go of all noises, restoring what they perturbed. */
void qrb__model_unbind_all(qrb_model *model);

struct qrb__sha256;

/* What a dataset's batches depend on beside the context's seed. */
void qrb__dataset_digest(const qrb_dataset *dataset, struct qrb__sha256 *hash);

/* Scored rows of a token batch, after checking it; 0 and a message in the
 * context if it is not well-formed. */
size_t qrb__token_batch_rows(qrb_context *ctx, const qrb_token_batch *batch);

#endif
