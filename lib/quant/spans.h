/* Weighted points on a line, and weight, mean and spread of any run of them in
 * constant time. */
#ifndef QRB_QUANT_SPANS_H
#define QRB_QUANT_SPANS_H

#include <stdbool.h>
#include <stddef.h>

/* Of a run of points: sum w, sum w x / sum w, and sum w (x - mean)^2. */
struct qrb__span {
    double weight;
    double mean;
    double spread;
};

/* Points that differ, in ascending order.  Values and weights are scaled by
 * powers of two, such that the largest are about 1.
 *
 * Level l cuts the points into blocks of 2^(l + 1); for each point it holds
 * the span between the point and the middle of its block.  Points i < j lie on
 * both sides of the middle of one block, of the level of the highest bit that
 * i and j differ in, and their span is two of these put together.  Nothing is
 * ever subtracted but means, so that no distance to other points costs digits,
 * as it does with running sums.  Level 0 is the points. */
struct qrb__spans {
    size_t count; /* points, >= 1 */
    int value_exponent;
    int weight_exponent;
    double *weight; /* [levels, count] */
    double *mean;   /* [levels, count] */
    double *spread; /* [levels, count] */
};

/* Elements of scratch for n points; false where they are too many. */
bool qrb__spans_scratch(size_t n, size_t *doubles_out);

/* Sort, merge and sum n >= 1 points, of which those without weight are left
 * out unless all are.  O(n log n). */
void qrb__spans_build(const double *values, const double *weights, size_t n,
                      double *scratch, struct qrb__spans *out);

/* The level of points i < j. */
static inline size_t qrb__spans_level(size_t i, size_t j)
{
    return 63 - (size_t)__builtin_clzll((unsigned long long)(i ^ j));
}

/* Points first to last, both included. */
struct qrb__span qrb__spans_of(const struct qrb__spans *spans, size_t first,
                               size_t last);

#endif
