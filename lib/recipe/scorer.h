/* Scores batches of a model, with or without a base: the buffers for rows of
 * logits and the one way from a batch to a metric. */
#ifndef QRB_RECIPE_SCORER_H
#define QRB_RECIPE_SCORER_H

#include <stdbool.h>

#include <qrobust/recipe.h>

struct qrb__scorer {
    qrb_model *model;
    qrb_model *base; /* NULL: none; the model itself: by select_model */
    bool needs_logits;
    bool switched;      /* select_model was called */
    uint64_t batches;   /* scored so far: the step of passes in force */
    size_t rows;        /* that the buffers hold */
    float *nll;         /* [rows] */
    float *logits;      /* [rows, vocab] */
    float *base_logits; /* [rows, vocab] */
    int32_t *targets;   /* [rows] */
};

/* Check what the host offers, and put both models into evaluation mode.  The
 * scorer is zeroed first; close it in any case. */
qrb_status qrb__scorer_open(struct qrb__scorer *scorer, qrb_model *model,
                            qrb_model *base);
/* Make room for batches of this many rows. */
qrb_status qrb__scorer_reserve(struct qrb__scorer *scorer, size_t rows);
/* Negative log-likelihoods of a batch's scored tokens into scorer->nll. */
qrb_status qrb__scorer_nll(struct qrb__scorer *scorer, const void *batch,
                           size_t rows, size_t *count_out, bool *skipped);
/* Add a batch to a metric, or skip it. */
qrb_status qrb__scorer_add(struct qrb__scorer *scorer, const void *batch,
                           size_t rows, qrb_metric *metric, bool *skipped);
/* Select the host's usual weights again, release the buffers, and pass the
 * status on; a failure of the former shows when all went well until then. */
qrb_status qrb__scorer_close(struct qrb__scorer *scorer, qrb_status status);

#endif
