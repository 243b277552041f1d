/* Round to nearest on a uniform grid, per group, row or matrix.  Weights of
 * float32 and less compute in double like all others, or with `compat` in
 * float32, as the official programs do. */
#include "quant/quantizer.h"

qrb_status qrb__grid_check_options(qrb_context *ctx,
                                   const qrb_quantizer_options *options,
                                   uint32_t mode, const char *name)
{
    if (options->bits < QRB__GRID_MIN_BITS ||
        options->bits > QRB__GRID_MAX_BITS)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s has %u bits; 2 to 8 are allowed", name,
                         options->bits);
    if (!qrb__grid_mode_is_known(mode))
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "grid %u is not known", mode);
    if (options->granularity == QRB_PER_TENSOR && options->group_size != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "group_size is %zu with one scale for the matrix; 0 "
                         "is allowed",
                         options->group_size);
    if (options->mse_clip && mode == QRB_GRID_S_SMOOTH)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "mse_clip does not go with S_SMOOTH, whose codes are "
                         "not clamped");
    if (options->double_quant)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "double_quant is for nf4, not for %s", name);
    return QRB_OK;
}

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    (void)method;
    return qrb__grid_check_options(ctx, options, options->grid,
                                   qrb__quantizer_rtn.name);
}

void qrb__grid_layout(qrb_packed *packed, const qrb_quantizer_options *options,
                      uint32_t mode, uint32_t dtype)
{
    packed->grid = (struct qrb__grid){ .mode = mode,
                                       .bits = options->bits,
                                       .compat = options->compat != 0,
                                       .mse_clip = options->mse_clip != 0 };
    packed->bits = options->bits;
    packed->code_zero =
        qrb__grid_is_signed(mode) ? 1 << (options->bits - 1) : 0;
    packed->precision = options->compat && dtype != QRB_F64 ? QRB_F32 : QRB_F64;
    packed->zeros = qrb__grid_zero_point_bits(&packed->grid) != 0 ||
                    mode == QRB_GRID_S_GPTQ || mode == QRB_GRID_S_OMNI;
    packed->cut = options->granularity == QRB_PER_TENSOR;
    if (packed->cut) {
        packed->unit = packed->elements;
        return;
    }
    packed->unit =
        options->group_size != 0 ? options->group_size : packed->cols;
    packed->groups = packed->cols / packed->unit +
                     (packed->cols % packed->unit != 0);
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    qrb__grid_layout(packed, options, options->grid, dtype);
}

void qrb__grid_fit_unit(qrb_packed *packed, size_t unit, const void *run,
                        size_t n)
{
    qrb__packed_set_scale(packed, unit,
                          packed->precision == QRB_F32
                              ? qrb__grid_fit_f32(&packed->grid, run, n)
                              : qrb__grid_fit_f64(&packed->grid, run, n));
}

/* One scale for the matrix: partial ranges, and partial errors of the clip
 * search, over runs of fixed length, put together in order. */
struct matrix_fit {
    qrb_packed *packed;
    double *ranges; /* [runs, 2] */
    double *errors; /* [runs, CLIPS]; NULL: no search */
    double lo;
    double hi;
};

static void range_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    const struct matrix_fit *job = arg;
    double *range = job->ranges + 2 * i;

    (void)worker;
    if (job->packed->precision == QRB_F32) {
        float lo;
        float hi;

        qrb__grid_range_f32(run, n, &lo, &hi);
        range[0] = lo;
        range[1] = hi;
    } else {
        qrb__grid_range_f64(run, n, &range[0], &range[1]);
    }
}

static void errors_run(size_t i, size_t worker, void *run, size_t n, void *arg)
{
    const struct matrix_fit *job = arg;
    double *errors = job->errors + i * QRB__GRID_CLIPS;

    (void)worker;
    if (job->packed->precision == QRB_F32)
        qrb__grid_clip_errors_f32(&job->packed->grid, run, n, (float)job->lo,
                                  (float)job->hi, errors);
    else
        qrb__grid_clip_errors_f64(&job->packed->grid, run, n, job->lo, job->hi,
                                  errors);
}

/* A loop of one task, for its floating-point environment. */
static void finish_matrix(size_t task, size_t worker, void *arg)
{
    const struct matrix_fit *job = arg;
    qrb_packed *packed = job->packed;
    const size_t runs = qrb__packed_runs(packed);
    double p = 1;

    (void)task;
    (void)worker;
    if (job->errors != NULL) {
        for (size_t i = 1; i < runs; i++)
            for (size_t k = 0; k < QRB__GRID_CLIPS; k++)
                job->errors[k] += job->errors[i * QRB__GRID_CLIPS + k];
        p = qrb__grid_clip(qrb__grid_best_clip(job->errors));
    }
    qrb__packed_set_scale(
        packed, 0,
        packed->precision == QRB_F32
            ? qrb__grid_of_range_f32(&packed->grid, (float)p * (float)job->lo,
                                     (float)p * (float)job->hi)
            : qrb__grid_of_range_f64(&packed->grid, p * job->lo, p * job->hi));
}

qrb_status qrb__grid_fit_matrix(qrb_packed *packed, const struct qrb__view *w)
{
    qrb_context *ctx = packed->ctx;
    const size_t runs = qrb__packed_runs(packed);
    struct matrix_fit job = { .packed = packed };
    qrb_status status;

    job.ranges = qrb__alloc_array(ctx, runs, 2 * sizeof *job.ranges);
    if (packed->grid.mse_clip)
        job.errors =
            qrb__alloc_array(ctx, runs, QRB__GRID_CLIPS * sizeof *job.errors);
    if (job.ranges == NULL || (packed->grid.mse_clip && job.errors == NULL)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "ranges of %zu runs", runs);
        goto out;
    }
    status = qrb__weights_for_each_run(packed, w, range_run, &job);
    if (status != QRB_OK)
        goto out;
    job.lo = job.ranges[0];
    job.hi = job.ranges[1];
    for (size_t i = 1; i < runs; i++) {
        if (job.ranges[2 * i] < job.lo)
            job.lo = job.ranges[2 * i];
        if (job.ranges[2 * i + 1] > job.hi)
            job.hi = job.ranges[2 * i + 1];
    }
    if (job.errors != NULL)
        status = qrb__weights_for_each_run(packed, w, errors_run, &job);
    if (status == QRB_OK)
        qrb__parallel_for(ctx, 1, finish_matrix, &job);
out:
    qrb__free(ctx, job.ranges);
    qrb__free(ctx, job.errors);
    return status;
}

void qrb__grid_encode_unit(const qrb_packed *packed, size_t unit,
                           const void *run, size_t n, int32_t *codes)
{
    const struct qrb__grid_scale scale = qrb__packed_scale(packed, unit);

    if (packed->precision == QRB_F32)
        qrb__grid_encode_f32(&packed->grid, &scale, run, n, codes);
    else
        qrb__grid_encode_f64(&packed->grid, &scale, run, n, codes);
}

void qrb__grid_decode_unit(const qrb_packed *packed, size_t unit,
                           const int32_t *codes, size_t n, void *run)
{
    const struct qrb__grid_scale scale = qrb__packed_scale(packed, unit);

    if (packed->precision == QRB_F32)
        qrb__grid_decode_f32(&scale, codes, n, run);
    else
        qrb__grid_decode_f64(&scale, codes, n, run);
}

/* A scale counts as the 16 bits that export formats give it. */
double qrb__grid_overhead(const qrb_packed *packed)
{
    return (double)packed->units *
           (16 + qrb__grid_zero_point_bits(&packed->grid));
}

const struct qrb__quantizer_kind qrb__quantizer_rtn = {
    .kind = QRB_QUANTIZER_RTN,
    .name = "rtn",
    .has_bits = true,
    .check = check_options,
    .layout = layout,
    .fit = qrb__grid_fit_unit,
    .fit_matrix = qrb__grid_fit_matrix,
    .encode = qrb__grid_encode_unit,
    .decode = qrb__grid_decode_unit,
    .overhead = qrb__grid_overhead,
};
