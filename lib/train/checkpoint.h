/* The layout of a checkpoint: what its container holds. */
#ifndef QRB_TRAIN_CHECKPOINT_H
#define QRB_TRAIN_CHECKPOINT_H

#include "train/trainer.h"

enum { QRB__CHECKPOINT_VERSION = 1 };

/* Sections "run" (the digests), "start" (the digest of the weights that the
 * run began with), "state" (the words of struct qrb__progress_state and the
 * optimizer's updates), and the arrays, weights first. */
enum { QRB__STATE_SIZE = 8 * (6 + QRB__RECENT_LOSSES) };

/* An array of the file, and where it lives in the run. */
struct qrb__array {
    char name[32];
    const struct qrb__view *view; /* of weights that may be strided, or NULL */
    void *memory;                 /* dense, in place; NULL: strided */
    void *copy;                   /* owned: what is read, or strided weights */
    size_t size;                  /* bytes */
};

struct qrb__arrays {
    qrb_context *ctx;
    struct qrb__array *list; /* [count] */
    size_t count;
};

/* Weights of all parameters and the moments of those that are trained; zero
 * the struct first and free it in any case. */
qrb_status qrb__arrays_list(qrb_trainer *trainer, struct qrb__arrays *arrays);
void qrb__arrays_free(struct qrb__arrays *arrays);
/* Digest of the first `count` arrays, of their copies where they have one. */
void qrb__arrays_digest(const struct qrb__arrays *arrays, size_t count,
                        unsigned char *out);
/* Memory for a copy of an array. */
qrb_status qrb__array_make_copy(struct qrb__arrays *arrays,
                                struct qrb__array *array);
/* Copies of all strided weights, which alone do not lie in one piece. */
qrb_status qrb__arrays_gather(struct qrb__arrays *arrays);
/* Between strided weights and their copy, or back. */
qrb_status qrb__array_copy_view(struct qrb__arrays *arrays,
                                const struct qrb__array *array, bool back);

#endif
