/* Which weights of a matrix are kept beside the codes (SqueezeLLM section 4.3
 * and its published program; quantizers 4.3): those that the loss is most
 * sensitive to, and of the rest the largest.  Everything is in the coordinates
 * of the working copy: where its columns were multiplied by s, squared
 * gradients are divided by s^2. */
#ifndef QRB_QUANT_OUTLIERS_H
#define QRB_QUANT_OUTLIERS_H

#include <math.h>

#include "quant/work.h"

struct qrb__outliers {
    double percent;   /* of all weights, with the sensitive ones */
    double sensitive; /* percentage, by squared gradients */
    double range;     /* of quartile ranges; 0: by percentage */
};

struct qrb__outlier_limits {
    double sensitivity; /* what has more is kept */
    double magnitude;   /* what has as much or more is kept */
};

static inline bool qrb__is_outlier(const struct qrb__outlier_limits *limits,
                                   double w, double fisher)
{
    return fisher > limits->sensitivity || fabs(w) >= limits->magnitude;
}

/* The work's row of weights and of squared gradients, both [cols]. */
void qrb__outliers_load_row(const struct qrb__matrix_work *work, size_t row,
                            double *w, double *fisher);

/* The sensitive are those whose squared gradient is larger than the one of
 * rank floor(elements * sensitive / 100), which itself is not among them, as
 * in the published program.
 *
 * With the quartiles q1 and q3 of the weights, the large ones are |w| >= t =
 * max(|q1 - T (q3 - q1)|, |q3 + T (q3 - q1)|), none where q1 = q3.  T is
 * `range`; where that is 0 it is the least T that leaves no more outliers than
 * `percent`.  As t grows with T, that is the t just above the first magnitude
 * in order that is one too many, and it is found as such. */
qrb_status qrb__outliers_find(const struct qrb__matrix_work *work,
                              const struct qrb__outliers *options,
                              struct qrb__outlier_limits *out);

#endif
