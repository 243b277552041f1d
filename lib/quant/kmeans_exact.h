/* The least sum of squares of k runs of points on a line. */
#ifndef QRB_QUANT_KMEANS_EXACT_H
#define QRB_QUANT_KMEANS_EXACT_H

#include <stdint.h>

#include "quant/spans.h"

/* Elements of scratch for n points; false where they are too many. */
bool qrb__kmeans_exact_scratch(size_t clusters, size_t n, size_t *doubles_out);

/* Where the runs begin, starts [clusters + 1] with the number of points as its
 * last; there are more points than clusters.  `limit` is a sum that is known
 * to be enough: what cannot stay below it is not looked at. */
void qrb__kmeans_exact(const struct qrb__spans *spans, size_t clusters,
                       double limit, double *scratch, uint32_t *starts);

#endif
