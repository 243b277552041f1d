/* What linears of a model are fed with, on calibration text: observers at the
 * inputs of some parameters, and the forward passes that fill them. */
#ifndef QRB_RECIPE_LINEAR_INPUTS_H
#define QRB_RECIPE_LINEAR_INPUTS_H

#include "model/model.h"
#include "recipe/scorer.h"

struct qrb__linear_inputs {
    qrb_model *model;
    const qrb_filter *filter; /* the inputs that must be finite */
    qrb_pass *pass;           /* ours; NULL: not open */
    qrb_pass *before;         /* in force until then */
    qrb_dataset *dataset;     /* NULL: the host's batches */
    struct qrb__scorer scorer;
    bool scores;              /* by the scorer, else by the loss */
    bool deaf;                /* to taps, for passes that need no inputs */
    bool watched;             /* every selected input was looked at once */
    size_t samples;
    uint64_t forwards;        /* so far: the step of the pass */
    uint32_t what;            /* enum qrb_observe of observers */
    qrb_observer **observers; /* [parameters]; NULL: not wanted */
};

/* Check the text and what the host offers, and put the model into evaluation
 * with a pass of our own.  Zeroed first; close it in any case. */
qrb_status qrb__linear_inputs_open(struct qrb__linear_inputs *inputs,
                                   qrb_model *model, const int32_t *tokens,
                                   size_t count,
                                   const qrb_quantize_options *options,
                                   uint32_t what);
/* Observe the input of a parameter of rank 2 in the next collection. */
qrb_status qrb__linear_inputs_want(struct qrb__linear_inputs *inputs,
                                   size_t parameter);
/* Run all samples through the model; `stage` is for progress. */
qrb_status qrb__linear_inputs_collect(struct qrb__linear_inputs *inputs,
                                      const char *stage);
/* Sample `index` and its rows: of the text into `tokens`, or the host's; its
 * handle stays NULL behind the last of these.  Release it. */
qrb_status qrb__linear_inputs_sample(struct qrb__linear_inputs *inputs,
                                     uint64_t index, qrb_token_batch *tokens,
                                     struct qrb__batch *out, bool *skipped);
/* Let go of what was seen at a parameter. */
void qrb__linear_inputs_drop(struct qrb__linear_inputs *inputs,
                             size_t parameter);
/* Back to the pass that was in force; passes the status on. */
qrb_status qrb__linear_inputs_close(struct qrb__linear_inputs *inputs,
                                    qrb_status status);

#endif
