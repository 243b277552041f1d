/* A text cut into windows and scored as often as wanted: buffers are made
 * once, for calibrations that evaluate the same text again and again. */
#ifndef QRB_RECIPE_SCORED_TEXT_H
#define QRB_RECIPE_SCORED_TEXT_H

#include "recipe/scorer.h"

struct qrb__text {
    qrb_context *ctx;
    struct qrb__scorer scorer;
    qrb_evaluate_options options;
    const int32_t *source; /* [count], borrowed */
    size_t count;
    size_t windows;
    uint64_t scored;      /* tokens that all windows score together */
    bool whole;           /* part of the text is no figure: a run ends at the
                             first batch that cannot be used */
    size_t batch;         /* windows a batch: the options' or fewer */
    int32_t *tokens;      /* [batch, options.context] */
    size_t *first_scored; /* [batch] */
};

/* Check the text and what the host offers.  The text is zeroed first; close it
 * in any case. */
qrb_status qrb__text_open(struct qrb__text *text, qrb_model *model,
                          qrb_model *base, const int32_t *tokens, size_t count,
                          const qrb_evaluate_options *options);
/* Score all windows; `what` names the stage for progress, NULL reports none
 * and only asks whether to go on. */
qrb_status qrb__text_run(struct qrb__text *text, const char *what,
                         qrb_metric_result *out);
qrb_status qrb__text_close(struct qrb__text *text, qrb_status status);

#endif
