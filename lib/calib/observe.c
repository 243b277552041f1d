/* One more sequence for an observer.
 *
 * Tokens go by chunks of fixed length: a chunk is loaded as dense rows unless
 * it lies in memory as such, one product for each band of the Gram matrix
 * makes its contribution in the chunk's own type, and that is added in double.  Columns left of a band's
 * first are its mirror image and not computed, so that the work is about half
 * of X^T X: tokens * columns^2 multiplications and additions.  Scratch is one
 * chunk of tokens and one band.  Before the first sum all tokens are looked
 * at, so that a refusal leaves the observer as it was. */
#include "calib/observer.h"

#include <math.h>

#include "tensor/gemm.h"
#include "tensor/run.h"

enum {
    CHUNK = 2048,    /* tokens of one product */
    LOOK = 16,       /* tokens of a task that looks at them, or loads them */
    RANGE_COLS = 256 /* columns of a task that adds up ranges */
};

/* Squares, added over a chunk, stay numbers; and where float32 is used, what
 * it flushes is nothing beside the largest. */
#define LARGEST 0x1p400
#define LARGEST_FLOAT 0x1p50
#define SMALLEST_FLOAT 0x1p-40

struct sequence {
    qrb_observer *observer;
    const struct qrb__view *x;  /* [tokens, columns] */
    double *magnitudes;         /* [tasks]: largest of each; NaN: not finite */
    unsigned char *rows;        /* [workers, columns], of looking */
    uint32_t dtype;             /* of chunk and product: QRB_F32 or QRB_F64 */
    size_t first;               /* token of the chunk */
    size_t count;               /* its tokens */
    unsigned char *loaded;      /* [CHUNK, columns]; NULL: x is read in place */
    const unsigned char *chunk; /* [count, columns] */
    unsigned char *product;     /* [height, width] of a band */
    struct qrb__observer_band band;
};

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* Largest magnitude of x [n]; NaN where one is not finite. */
static double largest_f32(const float *x, size_t n)
{
    float largest = 0;
    float broken = 0;

    for (size_t i = 0; i < n; i++) {
        const float magnitude = fabsf(x[i]);

        largest = magnitude > largest ? magnitude : largest;
        broken += x[i] - x[i]; /* 0, or NaN that stays */
    }
    return (double)(largest + broken);
}

static double largest_f64(const double *x, size_t n)
{
    double largest = 0;
    double broken = 0;

    for (size_t i = 0; i < n; i++) {
        const double magnitude = fabs(x[i]);

        largest = magnitude > largest ? magnitude : largest;
        broken += x[i] - x[i];
    }
    return largest + broken;
}

/* Whether tokens lie in memory as products of `dtype` read them. */
static bool lies_ready(const struct sequence *job, uint32_t dtype)
{
    return job->x->dtype == dtype && qrb__view_is_dense(job->x);
}

/* In double if they are, and else in float32, which holds the other types. */
static uint32_t own_type(const struct sequence *job)
{
    return job->x->dtype == QRB_F64 ? QRB_F64 : QRB_F32;
}

static void look(size_t task, size_t worker, void *arg)
{
    const struct sequence *job = arg;
    const size_t columns = job->x->shape[1];
    const size_t first = task * LOOK;
    const size_t left = job->x->shape[0] - first;
    const uint32_t dtype = own_type(job);
    const size_t row = columns * qrb_dtype_size(dtype);
    double largest = 0;
    double broken = 0;

    for (size_t t = first; t < first + (left < LOOK ? left : LOOK); t++) {
        unsigned char *loaded = job->rows + worker * row;
        const void *x = loaded;
        double magnitude;

        if (lies_ready(job, dtype))
            x = job->x->memory + t * row;
        else
            qrb__run_load(job->observer->ctx, job->x, t * columns, columns,
                          dtype, loaded);
        magnitude = dtype == QRB_F64 ? largest_f64(x, columns)
                                     : largest_f32(x, columns);
        if (magnitude > largest)
            largest = magnitude;
        broken += magnitude - magnitude; /* 0, or NaN that stays */
    }
    job->magnitudes[task] = largest + broken;
}

static qrb_status fail_element(qrb_context *ctx, const struct qrb__view *x)
{
    const size_t at = qrb__view_first_not_finite(ctx, x);

    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE, "x[%zu, %zu] is not finite",
                         at / x->shape[1], at % x->shape[1]);
    return qrb__fail(ctx, QRB_E_NOT_FINITE,
                     "x holds values beyond 2^400, whose squares have no sum");
}

/* Refuse what cannot be added up, and choose the type of the products. */
static qrb_status look_at(struct sequence *job)
{
    qrb_context *ctx = job->observer->ctx;
    const size_t tasks = divide_up(job->x->shape[0], LOOK);
    double largest = 0;
    qrb_status status = QRB_OK;

    job->magnitudes = qrb__alloc_array(ctx, tasks, sizeof *job->magnitudes);
    job->rows =
        qrb__alloc_array(ctx, qrb_context_threads(ctx),
                         job->x->shape[1] * qrb_dtype_size(own_type(job)));
    if (job->magnitudes == NULL || job->rows == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "inputs of %zu tokens",
                           job->x->shape[0]);
        goto out;
    }
    qrb__parallel_for(ctx, tasks, look, job);
    for (size_t i = 0; i < tasks; i++) {
        if (!(job->magnitudes[i] <= LARGEST)) {
            status = fail_element(ctx, job->x);
            goto out;
        }
        if (job->magnitudes[i] > largest)
            largest = job->magnitudes[i];
    }
    job->dtype = job->x->dtype == QRB_F64 || largest > LARGEST_FLOAT ||
                         largest < SMALLEST_FLOAT
                     ? QRB_F64
                     : QRB_F32;
out:
    qrb__free(ctx, job->magnitudes);
    qrb__free(ctx, job->rows);
    return status;
}

static void load(size_t task, size_t worker, void *arg)
{
    const struct sequence *job = arg;
    const size_t columns = job->x->shape[1];
    const size_t first = task * LOOK;
    const size_t left = job->count - first;

    (void)worker;
    qrb__run_load(job->observer->ctx, job->x, (job->first + first) * columns,
                  (left < LOOK ? left : LOOK) * columns, job->dtype,
                  job->loaded + first * columns * qrb_dtype_size(job->dtype));
}

static void multiply(const struct sequence *job)
{
    const size_t columns = job->x->shape[1];
    const struct qrb__gemm shape = {
        .m = job->band.height,
        .n = job->band.width,
        .k = job->count,
        .lda = columns,
        .ldb = columns,
        .ldc = job->band.width,
        .alpha = 1,
        .transpose_a = true,
    };
    qrb_context *ctx = job->observer->ctx;

    if (job->dtype == QRB_F32) {
        const float *x =
            (const float *)(const void *)job->chunk + job->band.first;

        qrb__gemm_f32(ctx, &shape, x, x, (float *)(void *)job->product);
    } else {
        const double *x =
            (const double *)(const void *)job->chunk + job->band.first;

        qrb__gemm_f64(ctx, &shape, x, x, (double *)(void *)job->product);
    }
}

static void add_row(size_t row, size_t worker, void *arg)
{
    const struct sequence *job = arg;
    const size_t width = job->band.width;
    double *sum = job->band.rows + row * width;

    (void)worker;
    if (job->dtype == QRB_F32) {
        const float *product =
            (const float *)(const void *)job->product + row * width;

        for (size_t j = 0; j < width; j++)
            sum[j] += (double)product[j];
    } else {
        const double *product =
            (const double *)(const void *)job->product + row * width;

        for (size_t j = 0; j < width; j++)
            sum[j] += product[j];
    }
}

static inline double element(const struct sequence *job, size_t at)
{
    return job->dtype == QRB_F32
               ? (double)((const float *)(const void *)job->chunk)[at]
               : ((const double *)(const void *)job->chunk)[at];
}

static void add_ranges(size_t task, size_t worker, void *arg)
{
    const struct sequence *job = arg;
    qrb_observer *observer = job->observer;
    const size_t columns = job->x->shape[1];
    const size_t left = task * RANGE_COLS;
    const size_t right =
        columns - left < RANGE_COLS ? columns : left + RANGE_COLS;

    (void)worker;
    if (observer->tokens == 0 && job->first == 0)
        for (size_t j = left; j < right; j++)
            observer->minima[j] = observer->maxima[j] = element(job, j);
    for (size_t t = 0; t < job->count; t++)
        for (size_t j = left; j < right; j++) {
            const double x = element(job, t * columns + j);

            observer->abs_sums[j] += fabs(x);
            if (x < observer->minima[j])
                observer->minima[j] = x;
            if (x > observer->maxima[j])
                observer->maxima[j] = x;
        }
}

static void add_chunk(struct sequence *job)
{
    qrb_observer *observer = job->observer;
    qrb_context *ctx = observer->ctx;

    if (job->loaded != NULL) {
        qrb__parallel_for(ctx, divide_up(job->count, LOOK), load, job);
        job->chunk = job->loaded;
    } else {
        job->chunk = job->x->memory +
                     job->first * job->x->shape[1] * qrb_dtype_size(job->dtype);
    }
    if (observer->abs_sums != NULL)
        qrb__parallel_for(ctx, divide_up(job->x->shape[1], RANGE_COLS),
                          add_ranges, job);
    for (size_t b = 0;
         observer->gram != NULL && b < qrb__observer_bands(observer); b++) {
        job->band = qrb__observer_band(observer, b);
        multiply(job);
        qrb__parallel_for(ctx, job->band.height, add_row, job);
    }
}

static qrb_status add(struct sequence *job)
{
    qrb_observer *observer = job->observer;
    qrb_context *ctx = observer->ctx;
    const size_t columns = job->x->shape[1];
    const size_t tokens = job->x->shape[0];
    const size_t rows = tokens < CHUNK ? tokens : CHUNK;
    qrb_status status;
    bool ready;

    status = look_at(job);
    if (status != QRB_OK)
        return status;
    ready = lies_ready(job, job->dtype);
    if (!ready)
        job->loaded =
            qrb__alloc_array(ctx, rows, columns * qrb_dtype_size(job->dtype));
    if (observer->gram != NULL)
        job->product =
            qrb__alloc_array(ctx, qrb__observer_band(observer, 0).height,
                             columns * qrb_dtype_size(job->dtype));
    if ((!ready && job->loaded == NULL) ||
        (observer->gram != NULL && job->product == NULL)) {
        status =
            qrb__fail(ctx, QRB_E_NO_MEMORY, "products of %zu tokens", rows);
        goto out;
    }
    for (; job->first < tokens; job->first += job->count) {
        job->count = tokens - job->first < CHUNK ? tokens - job->first : CHUNK;
        add_chunk(job);
    }
    observer->sequences++;
    observer->tokens += tokens;
out:
    qrb__free(ctx, job->loaded);
    qrb__free(ctx, job->product);
    return status;
}

qrb_status qrb_observer_add(qrb_observer *observer, const qrb_tensor *x)
{
    struct sequence job = { .observer = observer };
    qrb_context *ctx;
    char shape[QRB__SHAPE_TEXT];

    if (observer == NULL)
        return QRB_E_INVALID_ARG;
    ctx = observer->ctx;
    if (x == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "x is NULL");
    job.x = &x->view;
    if (job.x->rank != 2 || job.x->shape[0] == 0 ||
        job.x->shape[1] != observer->options.columns)
        return qrb__fail(ctx, QRB_E_SHAPE, "x is %s; [tokens, %zu] is expected",
                         qrb__view_shape_text(job.x, shape, sizeof shape),
                         observer->options.columns);
    if (job.x->dtype != QRB_F64 && job.x->dtype != QRB_F32 &&
        job.x->dtype != QRB_F16 && job.x->dtype != QRB_BF16)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "x is %s; F64, F32, F16 or BF16 is expected",
                         qrb_dtype_name(job.x->dtype));
    return add(&job);
}
