/* From weights, and what is known of their use, to a packed matrix: scalings of
 * inputs first, then the codes, then the measures of what was done.
 *
 * Kinds that need no more than the weights read them where they lie.  All
 * others work on a dense copy, in float32 or, of F64 weights, in double.  Fake
 * quantization ends in the decoder of packed matrices, so that its values are
 * theirs bit for bit, and writes nothing before all that can fail is done. */
#include "quant/quantizer.h"

#include <math.h>

#include "calib/observer.h"
#include "quant/residual_columns.h"
#include "tensor/run.h"

qrb_status qrb__packed_lay_out(const qrb_quantizer *quantizer,
                               const struct qrb__view *w, qrb_packed **out)
{
    qrb_context *ctx = quantizer->ctx;
    qrb_packed *packed = qrb__alloc_array(ctx, 1, sizeof *packed);
    qrb_status status = QRB_OK;

    if (packed == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "packed matrix");
        goto out;
    }
    packed->ctx = ctx;
    packed->kind = quantizer->kind;
    packed->rows = w->shape[0];
    packed->cols = w->shape[1];
    packed->elements = packed->rows * packed->cols;
    packed->kind->layout(packed, &quantizer->options, w->dtype);
    if (packed->groups != 0 && packed->unit > packed->cols) {
        status = qrb__fail(ctx, QRB_E_SHAPE,
                           "w is [%zu, %zu]; its rows are shorter than the "
                           "group size %zu",
                           packed->rows, packed->cols, packed->unit);
        goto out;
    }
    packed->units = packed->groups != 0
                        ? packed->rows * packed->groups
                        : packed->elements / packed->unit +
                              (packed->elements % packed->unit != 0);
    if (!qrb__mul_size(packed->cols, packed->bits, &packed->row_bytes)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "codes of %zu columns",
                           packed->cols);
        goto out;
    }
    packed->row_bytes =
        (packed->row_bytes / 32 + (packed->row_bytes % 32 != 0)) * 4;
    packed->scales =
        qrb__alloc_array(ctx, packed->units, sizeof *packed->scales);
    if (packed->zeros)
        packed->zero_points =
            qrb__alloc_array(ctx, packed->units, sizeof *packed->zero_points);
    packed->codes = qrb__alloc_array(ctx, packed->rows, packed->row_bytes);
    if (packed->scales == NULL || packed->codes == NULL ||
        (packed->zeros && packed->zero_points == NULL)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY,
                           "codes of [%zu, %zu] and %zu scales", packed->rows,
                           packed->cols, packed->units);
        goto out;
    }
    *out = packed;
    packed = NULL; /* the caller's from here on */
out:
    qrb_packed_destroy(packed);
    return status;
}

/* The dense copy that scalings and solvers change. */
static qrb_status copy_weights(struct qrb__matrix_work *work,
                               const struct qrb__view *w)
{
    struct qrb__view copy;

    work->precision = w->dtype == QRB_F64 ? QRB_F64 : QRB_F32;
    work->w = qrb__alloc_array(work->ctx, work->rows * work->cols,
                               qrb_dtype_size(work->precision));
    if (work->w == NULL)
        return qrb__fail(work->ctx, QRB_E_NO_MEMORY,
                         "working copy of [%zu, %zu]", work->rows, work->cols);
    copy = qrb__work_view(work);
    if (qrb__view_first_not_finite(work->ctx, w) != SIZE_MAX)
        return qrb__fail_not_finite(work->ctx, w);
    return qrb__view_copy(work->ctx, w, &copy);
}

static bool needs_copy(const qrb_quantizer *quantizer)
{
    return quantizer->scaling_count > 0 ||
           quantizer->kind->scale_inputs != NULL ||
           quantizer->kind->solve != NULL;
}

static qrb_status quantize(const qrb_quantizer *quantizer,
                           struct qrb__matrix_work *work,
                           const struct qrb__view *w)
{
    const struct qrb__quantizer_kind *kind = quantizer->kind;
    qrb_status status = qrb__packed_lay_out(quantizer, w, &work->packed);
    struct qrb__view copy;

    if (status != QRB_OK)
        return status;
    if (!needs_copy(quantizer))
        return qrb__quantize_units(work->packed, w);
    status = copy_weights(work, w);
    for (size_t i = 0; status == QRB_OK && i < quantizer->scaling_count; i++) {
        const qrb_quantizer *scaling = quantizer->scalings[i];

        status = scaling->kind->scale_inputs(scaling, work);
    }
    if (status == QRB_OK && kind->scale_inputs != NULL)
        status = kind->scale_inputs(quantizer, work);
    if (status != QRB_OK)
        return status;
    if (kind->solve != NULL)
        return kind->solve(quantizer, work);
    copy = qrb__work_view(work);
    return qrb__quantize_units(work->packed, &copy);
}

/* What one kind needs of a calibration. */
static qrb_status check_needs(qrb_context *ctx,
                              const struct qrb__quantizer_kind *kind,
                              const qrb_calibration *calibration)
{
    const uint32_t what = qrb_observer_what(calibration->inputs);

    if ((kind->needs & QRB__NEEDS_GRAM) != 0 && !(what & QRB_OBSERVE_GRAM))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s needs the Gram matrix of the inputs: a "
                         "calibration with inputs that keep it",
                         kind->name);
    if ((kind->needs & QRB__NEEDS_RANGES) != 0 && !(what & QRB_OBSERVE_RANGES))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s needs the ranges of the inputs: a calibration "
                         "with inputs that keep them",
                         kind->name);
    if ((kind->needs & QRB__NEEDS_FISHER) != 0 && calibration->fisher == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s needs the squared gradients of the weights: a "
                         "calibration with fisher",
                         kind->name);
    return QRB_OK;
}

static qrb_status check_calibration(const qrb_quantizer *quantizer,
                                    const struct qrb__view *w,
                                    const qrb_calibration *calibration)
{
    qrb_context *ctx = quantizer->ctx;
    qrb_status status = check_needs(ctx, quantizer->kind, calibration);

    for (size_t i = 0; status == QRB_OK && i < quantizer->scaling_count; i++)
        status =
            check_needs(ctx, quantizer->scalings[i]->kind, calibration);
    if (status == QRB_OK && quantizer->residual != NULL)
        status = qrb__residual_check(quantizer->residual, ctx, calibration,
                                     w->shape[1]);
    if (status != QRB_OK)
        return status;
    if (calibration->inputs != NULL &&
        calibration->inputs->options.columns != w->shape[1])
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "w is [%zu, %zu], and the inputs have %zu columns",
                         w->shape[0], w->shape[1],
                         calibration->inputs->options.columns);
    if (calibration->fisher != NULL) {
        status = qrb__packed_check_matrix(ctx, &calibration->fisher->view,
                                          "fisher");
        if (status != QRB_OK)
            return status;
        if (!qrb__view_same_shape(w, &calibration->fisher->view))
            return qrb__fail(ctx, QRB_E_SHAPE,
                             "w is [%zu, %zu], and fisher is [%zu, %zu]",
                             w->shape[0], w->shape[1],
                             calibration->fisher->view.shape[0],
                             calibration->fisher->view.shape[1]);
    }
    return QRB_OK;
}

/* What all public functions here refuse; a copy of the calibration. */
static qrb_status check(const qrb_quantizer *quantizer, const qrb_tensor *w,
                        const qrb_calibration *calibration,
                        const qrb_quantize_report *report,
                        const char *function, qrb_calibration *known)
{
    qrb_context *ctx = quantizer->ctx;
    qrb_status status = qrb__not_in_callback(ctx, function);

    if (status != QRB_OK)
        return status;
    if (w == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "w is NULL");
    status = qrb__options_copy(ctx, calibration, sizeof *known, "calibration",
                               known);
    if (status == QRB_OK)
        status = qrb__result_check(ctx, "report", report);
    if (status == QRB_OK)
        status = qrb__packed_check_matrix(ctx, &w->view, "w");
    if (status == QRB_OK)
        status = check_calibration(quantizer, &w->view, known);
    return status;
}

static qrb_status quantize_and_measure(const qrb_quantizer *quantizer,
                                       const qrb_tensor *w,
                                       const qrb_calibration *known,
                                       qrb_quantize_report *report,
                                       qrb_packed **out)
{
    struct qrb__matrix_work work = {
        .ctx = quantizer->ctx,
        .rows = w->view.shape[0],
        .cols = w->view.shape[1],
        .inputs = known->inputs,
        .fisher = known->fisher == NULL ? NULL : &known->fisher->view,
        .loss = NAN,
        .damping = NAN,
    };
    qrb_status status = quantize(quantizer, &work, &w->view);

    qrb__free(work.ctx, work.w);
    if (status == QRB_OK && quantizer->residual != NULL)
        status = qrb__residual_add(quantizer->residual, &work, &w->view,
                                   known->gradients);
    if (status == QRB_OK) {
        work.packed->loss = work.loss;
        work.packed->damping = work.damping;
        work.packed->outcome = work.outcome;
    }
    if (status == QRB_OK && report != NULL)
        status = qrb__packed_measure(work.packed, &w->view, known->inputs,
                                     report);
    if (status != QRB_OK) {
        qrb_packed_destroy(work.packed);
        return status;
    }
    *out = work.packed;
    return QRB_OK;
}

qrb_status qrb_quantizer_quantize_with(const qrb_quantizer *quantizer,
                                       const qrb_tensor *w,
                                       const qrb_calibration *calibration,
                                       qrb_quantize_report *report,
                                       qrb_packed **out)
{
    qrb_calibration known = QRB_CALIBRATION_INIT;
    qrb_status status;

    if (quantizer == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = check(quantizer, w, calibration, report, __func__, &known);
    if (status != QRB_OK)
        return status;
    if (quantizer->kind->round != NULL)
        return qrb__fail(quantizer->ctx, QRB_E_UNSUPPORTED,
                         "%s has no codes; use qrb_quantizer_fake()",
                         quantizer->kind->name);
    return quantize_and_measure(quantizer, w, &known, report, out);
}

qrb_status qrb_quantizer_quantize(const qrb_quantizer *quantizer,
                                  const qrb_tensor *w, qrb_packed **out)
{
    return qrb_quantizer_quantize_with(quantizer, w, NULL, NULL, out);
}

qrb_status qrb_quantizer_fake_with(const qrb_quantizer *quantizer,
                                   qrb_tensor *w,
                                   const qrb_calibration *calibration,
                                   qrb_quantize_report *report)
{
    qrb_calibration known = QRB_CALIBRATION_INIT;
    qrb_packed *packed = NULL;
    qrb_status status;

    if (quantizer == NULL)
        return QRB_E_INVALID_ARG;
    status = check(quantizer, w, calibration, report, __func__, &known);
    if (status != QRB_OK)
        return status;
    if (quantizer->kind->round != NULL) {
        if (report != NULL)
            return qrb__fail(quantizer->ctx, QRB_E_UNSUPPORTED,
                             "%s has no report", quantizer->kind->name);
        return quantizer->kind->round(quantizer->ctx, &w->view);
    }
    status = quantize_and_measure(quantizer, w, &known, report, &packed);
    if (status == QRB_OK)
        status = qrb__packed_dequantize(packed, &w->view);
    qrb_packed_destroy(packed);
    return status;
}

qrb_status qrb_quantizer_fake(const qrb_quantizer *quantizer, qrb_tensor *w)
{
    return qrb_quantizer_fake_with(quantizer, w, NULL, NULL);
}
