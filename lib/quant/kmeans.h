/* Weighted k-means of numbers: centroids c that make
 *
 *     sum_i weights[i] (values[i] - c[label of i])^2
 *
 * small, the least of it where the solver is exact (quantizers 4.2). */
#ifndef QRB_QUANT_KMEANS_H
#define QRB_QUANT_KMEANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qrb__kmeans {
    size_t clusters; /* 1 to 65536 */
    bool lloyd;      /* LLOYD iterations from quantiles of the cube root of
                        the weights' density: a local optimum, in a fraction
                        of the time */
};

enum { QRB__KMEANS_LLOYD = 50 /* iterations */ };

/* Elements of scratch for n values; false where they are too many. */
bool qrb__kmeans_scratch(const struct qrb__kmeans *options, size_t n,
                         size_t *doubles_out);

/* Centroids [clusters] in ascending order, of which the last is repeated where
 * there are fewer distinct values than clusters; returns the sum above with
 * each value at its nearest centroid.  Values are finite, weights finite and
 * not negative, n >= 1; weights that are all 0 count as 1 each.  No allocation
 * and no failure. */
double qrb__kmeans_fit(const struct qrb__kmeans *options, const double *values,
                       const double *weights, size_t n, double *scratch,
                       double *centroids);

/* The nearest of ascending centroids [clusters], of two the lower. */
void qrb__kmeans_label(const double *centroids, size_t clusters,
                       const double *values, size_t n, int32_t *labels);

#endif
