/* One row of logits, alone or beside that of a base model. */
#ifndef QRB_METRIC_ROW_H
#define QRB_METRIC_ROW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What one row comes to; what was not asked for is 0. */
struct qrb__row {
    double nll; /* of the target, nats */
    double base_nll;
    double delta_p; /* of the target's probability, from the base */
    double kl;      /* KL(base || logits) */
    bool agrees;    /* the first largest are the same */
    bool broken;    /* a logit is not finite: nothing else is set */
};

/* base and logits [vocab], base may be NULL; target -1: none; scratch
 * [2, vocab]. */
void qrb__row_measure(const float *base, const float *logits, int32_t target,
                      size_t vocab, double *scratch, struct qrb__row *out);

#endif
