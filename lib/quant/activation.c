/* Activations on dynamic grids (quantizers 1.3): each token, group of features
 * or tensor takes the scale of its own range.
 *
 * Two passes by pieces that fit the stack: the range, then codes and values in
 * place.  Elements are checked before the first is written.  O(elements); no
 * memory but a range for each token where all share one scale. */
#include "quant/packed.h"

#include <math.h>

#include "tensor/run.h"

struct activation {
    qrb_context *ctx;
    const struct qrb__view *x; /* [tokens, features] */
    struct qrb__grid grid;
    double clip_ratio;
    size_t group;       /* features of a scale */
    uint32_t precision; /* QRB_F32 or QRB_F64 */
    double *ranges;     /* [tokens, 2], of one scale for all; or NULL */
    struct qrb__grid_scale scale; /* that scale */
};

/* A piece of activations, in the precision of the arithmetic. */
union piece {
    float floats[QRB__RUN];
    double doubles[QRB__RUN];
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Range of elements [first, first + n). */
static void range_of(const struct activation *job, size_t first, size_t n,
                     double *lo, double *hi)
{
    union piece x;

    for (size_t at = 0; at < n; at += QRB__RUN) {
        const size_t length = smaller(n - at, QRB__RUN);
        double piece_lo;
        double piece_hi;

        qrb__run_load(job->ctx, job->x, first + at, length, job->precision, &x);
        if (job->precision == QRB_F32) {
            float float_lo;
            float float_hi;

            qrb__grid_range_f32(x.floats, length, &float_lo, &float_hi);
            piece_lo = (double)float_lo;
            piece_hi = (double)float_hi;
        } else {
            qrb__grid_range_f64(x.doubles, length, &piece_lo, &piece_hi);
        }
        *lo = at == 0 || piece_lo < *lo ? piece_lo : *lo;
        *hi = at == 0 || piece_hi > *hi ? piece_hi : *hi;
    }
}

static struct qrb__grid_scale scale_of(const struct activation *job, double lo,
                                       double hi)
{
    const double c = job->clip_ratio;

    return job->precision == QRB_F32
               ? qrb__grid_of_range_f32(&job->grid, (float)c * (float)lo,
                                        (float)c * (float)hi)
               : qrb__grid_of_range_f64(&job->grid, c * lo, c * hi);
}

static void round_elements(const struct activation *job,
                           const struct qrb__grid_scale *scale, size_t first,
                           size_t n)
{
    union piece x;
    int32_t codes[QRB__RUN];

    for (size_t at = 0; at < n; at += QRB__RUN) {
        const size_t length = smaller(n - at, QRB__RUN);

        qrb__run_load(job->ctx, job->x, first + at, length, job->precision, &x);
        if (job->precision == QRB_F32) {
            qrb__grid_encode_f32(&job->grid, scale, x.floats, length, codes);
            qrb__grid_decode_f32(scale, codes, length, x.floats);
        } else {
            qrb__grid_encode_f64(&job->grid, scale, x.doubles, length, codes);
            qrb__grid_decode_f64(scale, codes, length, x.doubles);
        }
        qrb__packed_saturate(job->precision, &x, length, job->x->dtype);
        qrb__run_store(job->ctx, job->precision, &x, first + at, length,
                       job->x);
    }
}

static void round_token(size_t token, size_t worker, void *arg)
{
    const struct activation *job = arg;
    const size_t features = job->x->shape[1];

    (void)worker;
    for (size_t at = 0; at < features; at += job->group) {
        const size_t n = smaller(features - at, job->group);
        const size_t first = token * features + at;
        struct qrb__grid_scale scale = job->scale;
        double lo = 0;
        double hi = 0;

        if (job->ranges == NULL) {
            range_of(job, first, n, &lo, &hi);
            scale = scale_of(job, lo, hi);
        }
        round_elements(job, &scale, first, n);
    }
}

static void range_token(size_t token, size_t worker, void *arg)
{
    const struct activation *job = arg;
    const size_t features = job->x->shape[1];

    (void)worker;
    range_of(job, token * features, features, &job->ranges[2 * token],
             &job->ranges[2 * token + 1]);
}

/* A loop of one task, for its floating-point environment. */
static void join_ranges(size_t task, size_t worker, void *arg)
{
    struct activation *job = arg;
    double lo = job->ranges[0];
    double hi = job->ranges[1];

    (void)task;
    (void)worker;
    for (size_t t = 1; t < job->x->shape[0]; t++) {
        lo = job->ranges[2 * t] < lo ? job->ranges[2 * t] : lo;
        hi = job->ranges[2 * t + 1] > hi ? job->ranges[2 * t + 1] : hi;
    }
    job->scale = scale_of(job, lo, hi);
}

static qrb_status check_options(qrb_context *ctx,
                                const qrb_activation_options *options)
{
    if (options->bits < QRB__GRID_MIN_BITS ||
        options->bits > QRB__GRID_MAX_BITS)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "activations have %u bits; 2 to 8 are allowed",
                         options->bits);
    if (!qrb__grid_mode_is_known(options->grid))
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "grid %u is not known",
                         options->grid);
    if (!(options->clip_ratio > 0 && options->clip_ratio <= 1))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "clip_ratio is %g; above 0 and up to 1 is allowed",
                         options->clip_ratio);
    if (options->granularity > QRB_PER_TENSOR || options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "granularity %u, reserved %u; 0 or 1 and 0 are "
                         "allowed",
                         options->granularity, options->reserved);
    if (options->granularity == QRB_PER_TENSOR && options->group_size != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "group_size is %zu with one scale for all; 0 is "
                         "allowed",
                         options->group_size);
    return QRB_OK;
}

static qrb_status check_elements(qrb_context *ctx, const struct qrb__view *x,
                                 size_t group_size)
{
    qrb_status status = qrb__packed_check_matrix(ctx, x, "x");
    size_t at;

    if (status != QRB_OK)
        return status;
    if (group_size > x->shape[1])
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "x is [%zu, %zu]; its tokens are shorter than the "
                         "group size %zu",
                         x->shape[0], x->shape[1], group_size);
    at = qrb__view_first_not_finite(ctx, x);
    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE, "x[%zu, %zu] is not finite",
                         at / x->shape[1], at % x->shape[1]);
    return QRB_OK;
}

qrb_status qrb_activation_fake(qrb_context *ctx,
                               const qrb_activation_options *options,
                               qrb_tensor *x)
{
    qrb_activation_options checked = QRB_ACTIVATION_OPTIONS_INIT;
    struct activation job = { .ctx = ctx };
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    if (x == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "x is NULL");
    status = qrb__options_copy(ctx, options, sizeof checked,
                               "activation options", &checked);
    if (status == QRB_OK)
        status = check_options(ctx, &checked);
    if (status == QRB_OK)
        status = check_elements(ctx, &x->view, checked.group_size);
    if (status != QRB_OK)
        return status;
    job.x = &x->view;
    job.grid = (struct qrb__grid){ .mode = checked.grid, .bits = checked.bits };
    job.clip_ratio = checked.clip_ratio;
    job.group =
        checked.group_size != 0 ? checked.group_size : x->view.shape[1];
    job.precision = x->view.dtype == QRB_F64 ? QRB_F64 : QRB_F32;
    if (checked.granularity == QRB_PER_TENSOR) {
        job.ranges =
            qrb__alloc_array(ctx, x->view.shape[0], 2 * sizeof *job.ranges);
        if (job.ranges == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "ranges of %zu tokens",
                             x->view.shape[0]);
        qrb__parallel_for(ctx, x->view.shape[0], range_token, &job);
        qrb__parallel_for(ctx, 1, join_ranges, &job);
    }
    qrb__parallel_for(ctx, x->view.shape[0], round_token, &job);
    qrb__free(ctx, job.ranges);
    return QRB_OK;
}
