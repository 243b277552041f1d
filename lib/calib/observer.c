/* Life of observers, their sums, and what they show. */
#include "calib/observer.h"

#include <float.h>

#include "calib/quadratic.h"
#include "tensor/view.h"

size_t qrb__observer_bands(const qrb_observer *observer)
{
    const size_t columns = observer->options.columns;

    return columns / QRB__OBSERVER_BAND + (columns % QRB__OBSERVER_BAND != 0);
}

/* Elements of the bands before one whose first row is `first`, a multiple of
 * the full height; rows of earlier bands shrink by a height each time. */
static size_t band_offset(size_t columns, size_t first)
{
    const size_t before = first / QRB__OBSERVER_BAND;
    const size_t shorter = before * (before - (before > 0)) / 2;

    return QRB__OBSERVER_BAND *
           (before * columns - shorter * QRB__OBSERVER_BAND);
}

struct qrb__observer_band qrb__observer_band(const qrb_observer *observer,
                                             size_t band)
{
    const size_t columns = observer->options.columns;
    const size_t first = band * QRB__OBSERVER_BAND;
    const size_t left = columns - first;

    return (struct qrb__observer_band){
        .rows = observer->gram + band_offset(columns, first),
        .first = first,
        .height = left < QRB__OBSERVER_BAND ? left : QRB__OBSERVER_BAND,
        .width = left,
    };
}

double qrb__observer_gram_at(const qrb_observer *observer, size_t row,
                             size_t column)
{
    const size_t upper = row < column ? row : column;
    const size_t right = row < column ? column : row;
    const struct qrb__observer_band band =
        qrb__observer_band(observer, upper / QRB__OBSERVER_BAND);
    const size_t at = (upper - band.first) * band.width;

    return band.rows[at + right - band.first];
}

struct reading {
    const qrb_observer *observer;
    double *doubles; /* [columns, columns]: this or the other */
    float *floats;
};

static float saturated(double x)
{
    x = x > (double)FLT_MAX ? (double)FLT_MAX : x;
    return (float)(x < -(double)FLT_MAX ? -(double)FLT_MAX : x);
}

/* A block of rows and columns of the matrix at a time, so that the reads of
 * the half that is not stored, which go down columns, stay in the caches. */
enum { BLOCK = 32 };

static void read_rows(size_t block, size_t worker, void *arg)
{
    const struct reading *job = arg;
    const size_t columns = job->observer->options.columns;
    const size_t top = block * BLOCK;
    const size_t bottom = columns - top < BLOCK ? columns : top + BLOCK;

    (void)worker;
    for (size_t left = 0; left < columns; left += BLOCK) {
        const size_t right = columns - left < BLOCK ? columns : left + BLOCK;

        for (size_t i = top; i < bottom; i++)
            for (size_t j = left; j < right; j++) {
                const double g = qrb__observer_gram_at(job->observer, i, j);

                if (job->doubles != NULL)
                    job->doubles[i * columns + j] = g;
                else
                    job->floats[i * columns + j] = saturated(g);
            }
    }
}

static void read_gram(struct reading *job)
{
    const size_t columns = job->observer->options.columns;

    qrb__parallel_for(job->observer->ctx,
                      columns / BLOCK + (columns % BLOCK != 0), read_rows,
                      job);
}

void qrb__observer_gram_f32(const qrb_observer *observer, float *out)
{
    struct reading job = { observer, NULL, out };

    read_gram(&job);
}

void qrb__observer_gram_f64(const qrb_observer *observer, double *out)
{
    struct reading job = { observer, out, NULL };

    read_gram(&job);
}

void qrb__observer_quadratic(const qrb_observer *observer, const double *d,
                             size_t rows, double *scratch, double *out)
{
    const struct qrb__quadratic form = { rows, observer->options.columns, out };

    for (size_t r = 0; r < rows; r++)
        out[r] = 0;
    for (size_t b = 0; b < qrb__observer_bands(observer); b++) {
        const struct qrb__observer_band band = qrb__observer_band(observer, b);

        qrb__quadratic_band_f64(observer->ctx, &form, band.first, band.height,
                                band.rows, band.width, d, scratch);
    }
}

qrb_status qrb_observer_create(qrb_context *ctx,
                               const qrb_observer_options *options,
                               qrb_observer **out)
{
    const uint32_t all = QRB_OBSERVE_GRAM | QRB_OBSERVE_RANGES;
    qrb_observer_options checked = QRB_OBSERVER_OPTIONS_INIT;
    qrb_observer *observer = NULL;
    size_t square;
    qrb_status status;

    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__options_copy(ctx, options, sizeof checked,
                               "observer options", &checked);
    if (status != QRB_OK)
        return status;
    if (checked.columns == 0 || (checked.what & ~all) != 0 ||
        checked.reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "columns %zu, what %u, reserved %u; at least 1, flags "
                         "of enum qrb_observe and 0 are allowed",
                         checked.columns, checked.what, checked.reserved);
    if (!qrb__mul_size(checked.columns, checked.columns, &square))
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "statistics of %zu columns",
                         checked.columns);

    observer = qrb__alloc_array(ctx, 1, sizeof *observer);
    if (observer == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "observer");
        goto out;
    }
    observer->ctx = ctx;
    observer->options = checked;
    if ((checked.what & QRB_OBSERVE_GRAM) != 0) {
        const struct qrb__observer_band last =
            qrb__observer_band(observer, qrb__observer_bands(observer) - 1);

        observer->gram_size =
            band_offset(checked.columns, last.first) + last.height * last.width;
        observer->gram = qrb__alloc_array(ctx, observer->gram_size,
                                          sizeof *observer->gram);
        if (observer->gram == NULL) {
            status = qrb__fail(ctx, QRB_E_NO_MEMORY,
                               "Gram matrix of %zu columns", checked.columns);
            goto out;
        }
    }
    if ((checked.what & QRB_OBSERVE_RANGES) != 0) {
        const size_t columns = checked.columns;

        observer->abs_sums = qrb__alloc_array(ctx, columns, sizeof(double));
        observer->minima = qrb__alloc_array(ctx, columns, sizeof(double));
        observer->maxima = qrb__alloc_array(ctx, columns, sizeof(double));
        if (observer->abs_sums == NULL || observer->minima == NULL ||
            observer->maxima == NULL) {
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "ranges of %zu columns",
                               columns);
            goto out;
        }
    }
    *out = observer;
    observer = NULL; /* the caller's from here on */
out:
    qrb_observer_destroy(observer);
    return status;
}

void qrb_observer_destroy(qrb_observer *observer)
{
    if (observer == NULL)
        return;
    qrb__free(observer->ctx, observer->gram);
    qrb__free(observer->ctx, observer->abs_sums);
    qrb__free(observer->ctx, observer->minima);
    qrb__free(observer->ctx, observer->maxima);
    qrb__free(observer->ctx, observer);
}

static void merge_ranges(qrb_observer *observer, const qrb_observer *other)
{
    for (size_t j = 0; j < observer->options.columns; j++) {
        const bool first = observer->tokens == 0;

        observer->abs_sums[j] += other->abs_sums[j];
        if (first || other->minima[j] < observer->minima[j])
            observer->minima[j] = other->minima[j];
        if (first || other->maxima[j] > observer->maxima[j])
            observer->maxima[j] = other->maxima[j];
    }
}

/* A loop of one task, for its floating-point environment. */
struct merging {
    qrb_observer *observer;
    const qrb_observer *other;
};

static void merge(size_t task, size_t worker, void *arg)
{
    const struct merging *job = arg;

    (void)task;
    (void)worker;
    for (size_t i = 0; i < job->observer->gram_size; i++)
        job->observer->gram[i] += job->other->gram[i];
    if (job->observer->abs_sums != NULL && job->other->tokens != 0)
        merge_ranges(job->observer, job->other);
}

qrb_status qrb_observer_merge(qrb_observer *observer,
                              const qrb_observer *other)
{
    struct merging job = { observer, other };
    qrb_status status;

    if (observer == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(observer->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (other == NULL || other->options.what != observer->options.what)
        return qrb__fail(observer->ctx, QRB_E_INVALID_ARG,
                         "the other observer %s",
                         other == NULL ? "is NULL"
                                       : "keeps other statistics than this");
    if (other->options.columns != observer->options.columns)
        return qrb__fail(observer->ctx, QRB_E_SHAPE,
                         "the other observer has %zu columns, this has %zu",
                         other->options.columns, observer->options.columns);
    qrb__parallel_for(observer->ctx, 1, merge, &job);
    observer->sequences += other->sequences;
    observer->tokens += other->tokens;
    return QRB_OK;
}

qrb_status qrb_observer_read_gram(const qrb_observer *observer,
                                  qrb_tensor *out)
{
    struct qrb__view dense;
    size_t square;
    qrb_context *ctx;
    qrb_status status;
    void *gram;

    if (observer == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    ctx = observer->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (observer->gram == NULL)
        return qrb__fail(ctx, QRB_E_STATE,
                         "the observer keeps no Gram matrix; its options ask "
                         "for QRB_OBSERVE_GRAM");
    dense = out->view;
    if (dense.rank != 2 || dense.shape[0] != observer->options.columns ||
        dense.shape[1] != observer->options.columns) {
        char shape[QRB__SHAPE_TEXT];

        return qrb__fail(ctx, QRB_E_SHAPE, "out is %s; [%zu, %zu] is expected",
                         qrb__view_shape_text(&dense, shape, sizeof shape),
                         observer->options.columns, observer->options.columns);
    }
    if (dense.dtype != QRB_F64 && dense.dtype != QRB_F32)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "out is %s; F64 or F32 is expected",
                         qrb_dtype_name(dense.dtype));
    square = dense.shape[0] * dense.shape[1];
    gram = qrb__alloc_array(ctx, square, qrb_dtype_size(dense.dtype));
    if (gram == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "Gram matrix of %zu columns",
                         dense.shape[0]);
    if (dense.dtype == QRB_F64)
        qrb__observer_gram_f64(observer, gram);
    else
        qrb__observer_gram_f32(observer, gram);
    dense = qrb__view_make(dense.dtype, 2, dense.shape, gram);
    status = qrb__view_copy(ctx, &dense, &out->view);
    qrb__free(ctx, gram);
    return status;
}

size_t qrb_observer_columns(const qrb_observer *observer)
{
    return observer == NULL ? 0 : observer->options.columns;
}

uint32_t qrb_observer_what(const qrb_observer *observer)
{
    return observer == NULL ? 0 : observer->options.what;
}

uint64_t qrb_observer_sequences(const qrb_observer *observer)
{
    return observer == NULL ? 0 : observer->sequences;
}

uint64_t qrb_observer_tokens(const qrb_observer *observer)
{
    return observer == NULL ? 0 : observer->tokens;
}

const double *qrb_observer_abs_sums(const qrb_observer *observer)
{
    return observer == NULL ? NULL : observer->abs_sums;
}

const double *qrb_observer_minima(const qrb_observer *observer)
{
    return observer == NULL ? NULL : observer->minima;
}

const double *qrb_observer_maxima(const qrb_observer *observer)
{
    return observer == NULL ? NULL : observer->maxima;
}
