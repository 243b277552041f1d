/* AWQ as a kind of quantizer: its scales of inputs, its limits of weights, and
 * round to nearest of what they make (awq.h).
 *
 * The search costs ratios * (rows * cols^2 / 2 + rows * cols) and takes, beside
 * the working copy, the Gram matrix in the copy's type and two blocks of rows;
 * the clip search costs 10 * rows * cols * group. */
#include "quant/awq.h"

#include <math.h>

#include "calib/observer.h"
#include "calib/quadratic.h"
#include "quant/awq_work.h"
#include "quant/quantizer.h"

static const qrb_awq_options defaults = QRB_AWQ_OPTIONS_INIT;

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    const qrb_awq_options *own = method;

    if (own->ratios < 1 || own->ratios > 1000 || own->clip > 1 ||
        own->duo_scaling > 1 || own->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "ratios %u, clip %u, duo_scaling %u, reserved %u; 1 "
                         "to 1000, 0 or 1 and 0 are allowed",
                         own->ratios, own->clip, own->duo_scaling,
                         own->reserved);
    if (options->granularity != QRB_PER_GROUP || options->mse_clip)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "awq has groups or rows and a clip search of its "
                         "own: granularity and mse_clip are 0");
    return qrb__grid_check_options(ctx, options, QRB_GRID_A_AWQ,
                                   qrb__quantizer_awq.name);
}

static struct qrb__grid grid_of(const qrb_quantizer_options *options)
{
    return (struct qrb__grid){ .mode = QRB_GRID_A_AWQ,
                               .bits = options->bits,
                               .compat = options->compat != 0,
                               .storable = !options->compat };
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    qrb__grid_layout(packed, options, QRB_GRID_A_AWQ, dtype);
    packed->grid = grid_of(options);
}

static qrb_status begin(const qrb_quantizer *quantizer,
                        const struct qrb__matrix_work *work,
                        struct qrb__awq_work *awq)
{
    const qrb_quantizer_options *options = &quantizer->options;

    if (options->group_size > work->cols)
        return qrb__fail(work->ctx, QRB_E_SHAPE,
                         "w is [%zu, %zu]; its rows are shorter than the "
                         "group size %zu of awq",
                         work->rows, work->cols, options->group_size);
    awq->work = work;
    awq->grid = (struct qrb__awq_grid){
        .grid = grid_of(options),
        .precision = options->compat && work->precision == QRB_F32 ? QRB_F32
                                                                   : QRB_F64,
        .cols = work->cols,
        .group = options->group_size != 0 ? options->group_size : work->cols,
    };
    return qrb__awq_begin(awq);
}

static qrb_status scale_inputs(const qrb_quantizer *quantizer,
                               struct qrb__matrix_work *work)
{
    const qrb_awq_options *own = quantizer->method;
    struct qrb__awq_work awq = { 0 };
    qrb_status status = begin(quantizer, work, &awq);

    if (status == QRB_OK)
        status = qrb__awq_search(&awq, own->ratios, own->duo_scaling != 0,
                                 &work->loss);
    if (status == QRB_OK)
        status = qrb__work_scale_inputs(work, awq.scale);
    qrb__awq_end(&awq);
    return status;
}

static qrb_status solve(const qrb_quantizer *quantizer,
                        struct qrb__matrix_work *work)
{
    const qrb_awq_options *own = quantizer->method;
    struct qrb__awq_work awq = { 0 };
    struct qrb__view copy = qrb__work_view(work);
    qrb_status status = QRB_OK;

    if (own->clip)
        status = begin(quantizer, work, &awq);
    if (status == QRB_OK && own->clip)
        status = qrb__awq_clip(&awq, &work->loss);
    qrb__awq_end(&awq);
    if (status == QRB_OK)
        status = qrb__quantize_units(work->packed, &copy);
    return status;
}

const struct qrb__quantizer_kind qrb__quantizer_awq = {
    .kind = QRB_QUANTIZER_AWQ,
    .name = "awq",
    .has_bits = true,
    .needs = QRB__NEEDS_GRAM | QRB__NEEDS_RANGES,
    .method_at = offsetof(qrb_quantizer_options, awq),
    .method_defaults = &defaults,
    .check = check_options,
    .scale_inputs = scale_inputs,
    .solve = solve,
    .layout = layout,
    .fit = qrb__grid_fit_unit,
    .encode = qrb__grid_encode_unit,
    .decode = qrb__grid_decode_unit,
    .overhead = qrb__grid_overhead,
};
