/* Points sorted by the bytes of their values, and the table of their spans:
 * O(n log n) time, 3 n log2 n doubles.  Sums of weights, of products of
 * weights and of squares are sums of what is not negative; relative errors are
 * of the order of n epsilon. */
#include "quant/spans.h"

#include <float.h>
#include <math.h>
#include <stdint.h>

#include "core/context.h"
#include "quant/ordered_bits.h"

enum { DIGIT = 256, DIGITS = 8 };

struct point {
    uint64_t key; /* ascending with the value */
    double weight;
};

static size_t levels_of(size_t n)
{
    return n < 2 ? 1 : qrb__spans_level(0, n - 1) + 1;
}

bool qrb__spans_scratch(size_t n, size_t *doubles_out)
{
    /* Two buffers of points beside the table. */
    return qrb__mul_size(n, 3 * levels_of(n) + 4, doubles_out);
}

/* By one byte after the other, the least first; bytes that are equal in all
 * points, as the low ones of floats are, cost nothing.  Returns the buffer
 * where they end up. */
static struct point *sort(struct point *from, struct point *to, size_t n)
{
    uint32_t counts[DIGITS][DIGIT] = { 0 };

    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < DIGITS; d++)
            counts[d][from[i].key >> 8 * d & (DIGIT - 1)]++;
    for (size_t d = 0; d < DIGITS; d++) {
        struct point *sorted = to;
        uint32_t place = 0;

        if (counts[d][from[0].key >> 8 * d & (DIGIT - 1)] == n)
            continue;
        for (size_t b = 0; b < DIGIT; b++) {
            const uint32_t count = counts[d][b];

            counts[d][b] = place;
            place += count;
        }
        for (size_t i = 0; i < n; i++)
            sorted[counts[d][from[i].key >> 8 * d & (DIGIT - 1)]++] = from[i];
        to = from;
        from = sorted;
    }
    return from;
}

/* Exponent that makes the largest magnitude about 1. */
static int exponent_of(const double *x, size_t n)
{
    double largest = 0;
    int exponent = 0;

    for (size_t i = 0; i < n; i++)
        largest = fabs(x[i]) > largest ? fabs(x[i]) : largest;
    frexp(largest, &exponent);
    return exponent;
}

/* x 2^exponent; a product where the power is a number, which all but the ends
 * of the doubles have. */
static double scaled(double x, double power, int exponent)
{
    return isnormal(power) ? x * power : ldexp(x, exponent);
}

/* Scaled points with weight, of at least one; returns how many. */
static size_t gather(const double *values, const double *weights, size_t n,
                     struct qrb__spans *spans, struct point *out)
{
    const int of_weight = exponent_of(weights, n);
    const int of_value = exponent_of(values, n);
    const double weight_power = ldexp(1, -of_weight);
    const double value_power = ldexp(1, -of_value);
    size_t count = 0;
    double largest = 0;

    for (size_t i = 0; i < n; i++)
        largest = weights[i] > largest ? weights[i] : largest;
    spans->weight_exponent = of_weight;
    spans->value_exponent = of_value;
    for (size_t i = 0; i < n; i++) {
        const double weight =
            largest > 0 ? scaled(weights[i], weight_power, -of_weight) : 1;

        if (weight <= 0)
            continue;
        out[count].key =
            qrb__ordered_bits(scaled(values[i], value_power, -of_value));
        out[count].weight = weight;
        count++;
    }
    return count;
}

/* Level 0: points of equal value become one. */
static size_t merge(const struct point *points, size_t n,
                    struct qrb__spans *spans)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        const bool same = i > 0 && points[i].key == points[i - 1].key;

        if (same) {
            spans->weight[count - 1] += points[i].weight;
            continue;
        }
        spans->weight[count] = points[i].weight;
        spans->mean[count] = qrb__ordered_number(points[i].key);
        spans->spread[count] = 0;
        count++;
    }
    return count;
}

/* span and the point p of level 0, at place `at` of the table. */
static struct qrb__span extend(const struct qrb__spans *spans,
                               struct qrb__span span, size_t p, size_t at)
{
    const double weight = span.weight + spans->weight[p];
    const double distance = spans->mean[p] - span.mean;
    const double step = distance * (spans->weight[p] / weight);

    span.spread += span.weight * (distance * step);
    span.mean += step;
    span.weight = weight;
    spans->weight[at] = span.weight;
    spans->mean[at] = span.mean;
    spans->spread[at] = span.spread;
    return span;
}

/* The block of a level that begins at `first`, from its middle to both ends
 * side by side: neither waits for the other's divisions. */
static void sum_block(const struct qrb__spans *spans, size_t level,
                      size_t first)
{
    const size_t row = level * spans->count;
    const size_t half = (size_t)1 << level;
    const size_t middle = first + half;
    const size_t left = spans->count - first;
    const size_t above = left < 2 * half ? left - half : half;
    struct qrb__span down = { 0, spans->mean[middle - 1], 0 };
    struct qrb__span up = { 0, spans->mean[middle], 0 };

    for (size_t i = 0; i < above; i++) {
        down = extend(spans, down, middle - 1 - i, row + middle - 1 - i);
        up = extend(spans, up, middle + i, row + middle + i);
    }
    for (size_t i = above; i < half; i++)
        down = extend(spans, down, middle - 1 - i, row + middle - 1 - i);
}

void qrb__spans_build(const double *values, const double *weights, size_t n,
                      double *scratch, struct qrb__spans *out)
{
    const size_t room = n * levels_of(n);
    struct point *points = (struct point *)(void *)scratch;
    size_t count;

    out->weight = scratch + 4 * n;
    out->mean = out->weight + room;
    out->spread = out->mean + room;
    count = gather(values, weights, n, out, points);
    points = sort(points, points + n, count);
    out->count = merge(points, count, out);
    for (size_t level = 1; level < levels_of(out->count); level++) {
        const size_t half = (size_t)1 << level;

        /* A block without points above its middle is never asked for. */
        for (size_t first = 0; first + half < out->count; first += 2 * half)
            sum_block(out, level, first);
    }
}

struct qrb__span qrb__spans_of(const struct qrb__spans *spans, size_t first,
                               size_t last)
{
    const size_t row =
        first == last ? 0 : qrb__spans_level(first, last) * spans->count;
    const struct qrb__span a = { spans->weight[row + first],
                                 spans->mean[row + first],
                                 spans->spread[row + first] };
    const struct qrb__span b = { spans->weight[row + last],
                                 spans->mean[row + last],
                                 spans->spread[row + last] };
    const double distance = b.mean - a.mean;
    const double weight = a.weight + b.weight;
    const double share = b.weight / weight;

    if (first == last)
        return a;
    return (struct qrb__span){ weight, a.mean + distance * share,
                               a.spread + b.spread +
                                   distance * distance * (a.weight * share) };
}
