/* GPTQ as a kind of quantizer: options, and the arrays that its solver takes
 * from a matrix at work.  The weights once more in double, the Gram matrix and
 * the codes, beside what the solver takes. */
#include "quant/quantizer.h"

#include <math.h>

#include "calib/observer.h"
#include "core/rounding.h"
#include "quant/gptq.h"

static const qrb_gptq_options defaults = QRB_GPTQ_OPTIONS_INIT;

static qrb_status check_own(qrb_context *ctx, const qrb_gptq_options *own)
{
    if (own->block_size == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "block_size is 0; at least 1 is allowed");
    if (!(own->damping >= 0) || !isfinite(own->damping))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "damping is %g; at least 0 is allowed", own->damping);
    if (own->group_stats > QRB_GROUP_STATS_FRESH || own->act_order > 1 ||
        own->static_groups > 1 || own->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "group_stats %u, act_order %u, static_groups %u, "
                         "reserved %u; each is 0 or 1, and the last is 0",
                         own->group_stats, own->act_order, own->static_groups,
                         own->reserved);
    return QRB_OK;
}

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    qrb_status status = check_own(ctx, method);

    if (status != QRB_OK)
        return status;
    if (options->granularity != QRB_PER_GROUP)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "gptq has no scale for a whole matrix; granularity "
                         "is 0");
    if (options->grid == QRB_GRID_S_SMOOTH)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "gptq does not go with S_SMOOTH, whose codes are not "
                         "clamped");
    return qrb__grid_check_options(ctx, options, options->grid,
                                   qrb__quantizer_gptq.name);
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    qrb__grid_layout(packed, options, options->grid, dtype);
    packed->precision = QRB_F64;
}

/* What the solver works on, and what it fills. */
struct solving {
    struct qrb__matrix_work *work;
    double *w;    /* [rows, cols]; NULL: the copy is in double */
    double *gram; /* [cols, cols] */
    struct qrb__gptq_result result;
    double *no_zero_points; /* [units]; NULL: the grid has some */
};

static void widen_row(size_t row, size_t worker, void *arg)
{
    const struct solving *job = arg;
    const size_t cols = job->work->cols;
    const float *w = (const float *)job->work->w + row * cols;

    (void)worker;
    for (size_t j = 0; j < cols; j++)
        job->w[row * cols + j] = (double)w[j];
}

static void write_row(size_t row, size_t worker, void *arg)
{
    const struct solving *job = arg;
    const size_t cols = job->work->cols;

    (void)worker;
    qrb__packed_write_codes(job->work->packed, row * cols, cols,
                            job->result.codes + row * cols);
}

static qrb_status make_room(struct solving *job)
{
    struct qrb__matrix_work *work = job->work;
    qrb_context *ctx = work->ctx;
    qrb_packed *packed = work->packed;
    const bool widens = work->precision != QRB_F64;
    size_t square;

    if (!qrb__mul_size(work->cols, work->cols, &square))
        square = 0; /* which is refused as well */
    job->gram = qrb__alloc_array(ctx, square, sizeof *job->gram);
    job->result.codes =
        qrb__alloc_array(ctx, packed->elements, sizeof *job->result.codes);
    job->result.group_index =
        qrb__alloc_array(ctx, work->cols, sizeof *job->result.group_index);
    job->result.scales = packed->scales;
    job->result.zero_points = packed->zero_points;
    if (!packed->zeros) {
        job->no_zero_points =
            qrb__alloc_array(ctx, packed->units, sizeof(double));
        job->result.zero_points = job->no_zero_points;
    }
    if (widens)
        job->w = qrb__alloc_array(ctx, packed->elements, sizeof *job->w);
    if (job->gram == NULL || job->result.codes == NULL ||
        job->result.group_index == NULL || job->result.zero_points == NULL ||
        (widens && job->w == NULL))
        return qrb__fail(ctx, QRB_E_NO_MEMORY,
                         "moments of %zu columns and codes of [%zu, %zu]",
                         work->cols, work->rows, work->cols);
    return QRB_OK;
}

static uint32_t outcome_of(const struct qrb__gptq_result *result)
{
    switch (result->outcome) {
    case QRB__GPTQ_NO_INPUTS:
        return QRB_QUANTIZE_NO_INPUTS;
    case QRB__GPTQ_NOT_POSITIVE:
        return QRB_QUANTIZE_NOT_DEFINITE;
    case QRB__GPTQ_NO_BETTER:
        return QRB_QUANTIZE_NO_BETTER;
    default:
        return QRB_QUANTIZE_DONE;
    }
}

/* Codes and what is to be told; groups of consecutive columns need no index. */
static void hand_over(struct solving *job)
{
    struct qrb__matrix_work *work = job->work;
    const qrb_packed *packed = work->packed;
    uint32_t *index = job->result.group_index;
    bool consecutive = true;

    qrb__parallel_for(work->ctx, work->rows, write_row, job);
    for (size_t j = 0; j < work->cols; j++)
        consecutive &= index[j] == j / packed->unit;
    if (!consecutive) {
        work->packed->group_index = index;
        job->result.group_index = NULL;
    }
    work->outcome = outcome_of(&job->result);
    work->loss =
        work->outcome == QRB_QUANTIZE_DONE ? job->result.loss : (double)NAN;
    work->damping = job->result.damping;
}

/* Sequences, not tokens, are what the published program divides by. */
static double gram_scale(const qrb_observer *inputs)
{
    double scale = 2;
    fenv_t host;

    qrb__rounding_begin(&host);
    if (inputs->sequences != 0)
        scale /= (double)inputs->sequences;
    qrb__rounding_end(&host);
    return scale;
}

static qrb_status solve(const qrb_quantizer *quantizer,
                        struct qrb__matrix_work *work)
{
    const qrb_gptq_options *own = quantizer->method;
    const qrb_packed *packed = work->packed;
    const struct qrb__gptq options = {
        .grid = packed->grid,
        .group_size = quantizer->options.group_size,
        .block_size = own->block_size,
        .damping = own->damping,
        .fresh = own->group_stats == QRB_GROUP_STATS_FRESH,
        .act_order = own->act_order != 0,
        .static_groups = own->static_groups != 0,
    };
    struct solving job = { .work = work };
    struct qrb__gptq_problem problem = {
        .rows = work->rows,
        .cols = work->cols,
        .gram_scale = gram_scale(work->inputs),
    };
    qrb_status status = make_room(&job);

    if (status == QRB_OK) {
        qrb__work_gram_f64(work, job.gram);
        if (job.w != NULL)
            qrb__parallel_for(work->ctx, work->rows, widen_row, &job);
        problem.gram = job.gram;
        problem.w = job.w != NULL ? job.w : work->w;
        status = qrb__gptq_solve(work->ctx, &options, &problem, &job.result);
    }
    if (status == QRB_OK)
        hand_over(&job);
    qrb__free(work->ctx, job.w);
    qrb__free(work->ctx, job.gram);
    qrb__free(work->ctx, job.no_zero_points);
    qrb__free(work->ctx, job.result.codes);
    qrb__free(work->ctx, job.result.group_index);
    return status;
}

const struct qrb__quantizer_kind qrb__quantizer_gptq = {
    .kind = QRB_QUANTIZER_GPTQ,
    .name = "gptq",
    .has_bits = true,
    .needs = QRB__NEEDS_GRAM,
    .method_at = offsetof(qrb_quantizer_options, gptq),
    .method_defaults = &defaults,
    .check = check_options,
    .solve = solve,
    .layout = layout,
    .fit = qrb__grid_fit_unit,
    .encode = qrb__grid_encode_unit,
    .decode = qrb__grid_decode_unit,
    .overhead = qrb__grid_overhead,
};
