/* The trainer seen from inside: what a checkpoint has to hold. */
#ifndef QRB_TRAIN_TRAINER_H
#define QRB_TRAIN_TRAINER_H

#include "io/sha256.h"
#include "train/optimizer.h"

enum { QRB__MAX_NOISES = 8, QRB__RECENT_LOSSES = 50 };

/* What a run is made of, beside its state. */
enum qrb__digest {
    QRB__DIGEST_MODEL,
    QRB__DIGEST_OPTIONS,
    QRB__DIGEST_SEED,
    QRB__DIGEST_TEXT,
    QRB__DIGEST_NOISE,
    QRB__DIGESTS
};

/* All that changes from step to step beside weights and moments.  A step
 * works on a copy and hands it over whole when it is complete. */
struct qrb__progress_state {
    uint64_t step;    /* steps done */
    uint64_t epoch;   /* times that the host's stream came to its end */
    uint64_t cursor;  /* next batch of the stream */
    uint64_t ratios;  /* steps with a ratio */
    double ratio_sum; /* of anchor gradient ratios */
    double losses[QRB__RECENT_LOSSES]; /* of step s at s modulo the length */
};

/* A batch of the stream, and the epoch that it was drawn in: a step over the
 * stream's end has batches of two. */
struct qrb__drawn {
    uint64_t index;
    uint64_t epoch;
};

struct qrb_trainer {
    qrb_context *ctx;
    qrb_model *model;
    qrb_dataset *dataset; /* borrowed, or NULL */
    qrb_trainer_options options;
    char *checkpoint; /* owned copies of the options' strings */
    char *what;
    qrb_optimizer *optimizer;
    qrb_pass *pass; /* our own, for models without one in force */
    qrb_noise *noises[QRB__MAX_NOISES];
    size_t noise_count;
    struct qrb__drawn *drawn; /* [accumulation] batches of the step at hand */
    struct qrb__progress_state state;
    /* Made at the first checkpoint: anchors do not change while a run lasts. */
    unsigned char digests[QRB__DIGESTS][QRB__SHA256_SIZE];
    bool digested;
    /* Of the weights that step 0 found; only of runs with a checkpoint. */
    unsigned char start[QRB__SHA256_SIZE];
    uint64_t saved; /* step that the checkpoint holds; 0: none of this run */
};

/* One step; adds the tokens that it scored.  On failure the weights are those
 * of the last complete step. */
qrb_status qrb__train_step(qrb_trainer *trainer, qrb_pass *pass,
                           uint64_t *scored);

/* Fill the digests, once. */
void qrb__trainer_digest(qrb_trainer *trainer);

/* Digest of all weights as they are now. */
qrb_status qrb__trainer_digest_weights(qrb_trainer *trainer,
                                       unsigned char *out);

/* Write the options' checkpoint. */
qrb_status qrb__checkpoint_save(qrb_trainer *trainer);

#endif
