/* What is measured: the engine at a shape, and its jobs, each of which has a
 * line in words for a peer:
 *
 *     train   DIM LAYERS HEADS KV_HEADS HIDDEN VOCAB SEQUENCES LENGTH
 *     forward ...   the loss of the batch
 *     logits  ...   the logits of every position, in memory
 *     attention      SEQUENCES HEADS LENGTH HEAD_DIM
 *     attention_grad ...   forward and backward
 */
#ifndef BENCH_SUBJECT_H
#define BENCH_SUBJECT_H

#include <qrobust/engine.h>
#include <qrobust/train.h>

#include "engine/engine.h"

enum job { JOB_TRAIN, JOB_FORWARD, JOB_LOGITS, JOB_ATTENTION, JOB_ATTENTION_GRAD,
           JOBS };

extern const char *const job_names[JOBS];

struct shape {
    const char *name;
    size_t dim;
    size_t layers;
    size_t heads;
    size_t kv_heads;
    size_t hidden;
    size_t vocab;
    size_t sequences;
    size_t length;
};

struct subject {
    qrb_context *ctx;
    struct shape shape;
    qrb_model *model;
    struct qrb__engine *engine;
    qrb_optimizer *optimizer; /* of the training job */
    qrb_tensor *logits;       /* of the job of that name */
    const struct qrb__op *attention;
    qrb_token_batch batch;
    int32_t *tokens;
    size_t *first;
    double optimizer_seconds; /* gone into the optimizer in all runs so far */
    double clearing_seconds;  /* and into setting gradients to zero */
};

/* Make a model of this shape and what the job needs; exits when it cannot. */
void subject_make(struct subject *subject, qrb_context *ctx,
                  const struct shape *shape, enum job job);
void subject_release(struct subject *subject);

/* One run, as rounds.h takes it. */
void (*subject_job(enum job job))(void *subject);

/* The line for a peer. */
void subject_words(const struct shape *shape, enum job job, char *out,
                   size_t size);

/* Operations of the products of a run, two each multiply-add; causal attention
 * is counted as half of its square, and backward as twice forward. */
double subject_operations(const struct shape *shape, enum job job);

#endif
