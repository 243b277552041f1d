/* Quantization of a whole model, on the pull contract.
 *
 * Step by step of the plan: observers at the inputs of the step's linears,
 * one collection of all samples, then matrix by matrix codes, their values
 * into the weights, and word to the host and to who listens.  A matrix is
 * written whole or not at all, and with undo a failure puts all of them
 * back. */
#include <stdio.h>
#include <string.h>

#include "core/context.h"
#include "recipe/linear_inputs.h"
#include "recipe/quantize_plan.h"
#include "recipe/squared_gradients.h"
#include "recipe/weights.h"

struct quantizing {
    qrb_model *model;
    const qrb_quantizer *quantizer;
    qrb_quantize_options options;
    struct qrb__quantize_plan plan;
    bool observes;                    /* the inputs of the linears */
    struct qrb__linear_inputs inputs; /* model NULL: no calibration */
    struct qrb__squared_gradients gradients; /* where they are needed */
    char method[64];
};

/* "smoothquant+rtn". */
static void name_method(struct quantizing *job)
{
    const qrb_quantizer *quantizer = job->quantizer;
    size_t used = 0;

    for (size_t i = 0; i <= quantizer->scaling_count; i++) {
        const qrb_quantizer *link = i < quantizer->scaling_count
                                        ? quantizer->scalings[i]
                                        : quantizer;
        const int written =
            snprintf(job->method + used, sizeof job->method - used, "%s%s",
                     i == 0 ? "" : "+", link->kind->name);

        if (written < 0 || (size_t)written >= sizeof job->method - used)
            return; /* a long chain is named by its beginning */
        used += (size_t)written;
    }
}

/* Whether the model is run, and what is kept of that. */
static qrb_status open_inputs(struct quantizing *job, const int32_t *tokens,
                              size_t count)
{
    const uint32_t needs = job->plan.needs;
    const bool told = job->options.done != NULL;
    const bool given = tokens != NULL || job->model->callbacks.batch != NULL;
    uint32_t what = 0;
    qrb_status status;

    if (needs != 0 && !given)
        return qrb__fail(job->model->ctx, QRB_E_INVALID_ARG,
                         "quantize: %s needs calibration: tokens, or a host "
                         "with batches of its own",
                         job->method);
    if (!given || (needs == 0 && !told))
        return QRB_OK;
    if ((needs & QRB__NEEDS_RANGES) != 0)
        what |= QRB_OBSERVE_RANGES;
    if ((needs & QRB__NEEDS_GRAM) != 0 || told)
        what |= QRB_OBSERVE_GRAM; /* errors are measured by it */
    job->observes = what != 0;
    status = qrb__linear_inputs_open(&job->inputs, job->model, tokens, count,
                                     &job->options, what);
    if (status == QRB_OK && (needs & QRB__NEEDS_FISHER) != 0)
        status = qrb__squared_gradients_collect(&job->gradients, &job->inputs,
                                                &job->plan,
                                                job->options.finished);
    return status;
}

static const char *stage_name(const struct quantizing *job, size_t first,
                              char *text, size_t size)
{
    const struct qrb__planned *matrix = &job->plan.matrices[first];

    if (matrix->layer < 0)
        snprintf(text, size, "calibrate outside blocks");
    else
        snprintf(text, size, "calibrate block %d, from %s", matrix->layer,
                 job->model->parameters[matrix->parameter]->name);
    return text;
}

static qrb_status collect(struct quantizing *job, size_t first, size_t end)
{
    qrb_status status = QRB_OK;
    size_t wanted = 0;
    char text[128];

    for (size_t i = first; i < end && status == QRB_OK; i++) {
        const size_t parameter = job->plan.matrices[i].parameter;

        if (job->model->parameters[parameter]->weight.rank != 2)
            continue;
        status = qrb__linear_inputs_want(&job->inputs, parameter);
        wanted++;
    }
    if (status != QRB_OK || wanted == 0)
        return status;
    return qrb__linear_inputs_collect(
        &job->inputs, stage_name(job, first, text, sizeof text));
}

/* What was seen at a matrix; NULL: nothing, and nothing is needed. */
static qrb_status inputs_of(const struct quantizing *job,
                            const struct qrb__planned *matrix,
                            const qrb_observer **out)
{
    const qrb_observer *seen =
        job->observes ? job->inputs.observers[matrix->parameter] : NULL;

    *out = NULL;
    if (seen == NULL)
        return QRB_OK;
    if (qrb_observer_tokens(seen) > 0) {
        *out = seen;
        return QRB_OK;
    }
    if ((job->plan.needs & (QRB__NEEDS_GRAM | QRB__NEEDS_RANGES)) == 0)
        return QRB_OK;
    return qrb__fail(job->model->ctx, QRB_E_UNSUPPORTED,
                     "%s: no calibration sample reached it: the host taps at "
                     "QRB_TAP_LINEAR_INPUT of its number, and has batches",
                     job->model->parameters[matrix->parameter]->name);
}

/* Prefix the message of what went wrong with the tensor's name. */
static qrb_status fail_at(const struct quantizing *job,
                          const struct qrb__planned *matrix, qrb_status status)
{
    struct qrb__failure failure;

    if (status == QRB_OK || status == QRB_E_CANCELLED)
        return status;
    qrb__failure_keep(job->model->ctx, &failure);
    return qrb__fail(job->model->ctx, status, "%s: %s",
                     job->model->parameters[matrix->parameter]->name,
                     failure.message);
}

/* Why a method kept round to nearest, behind what the note says already. */
static void note_outcome(uint32_t outcome, char *note, size_t size)
{
    static const char *const causes[] = {
        [QRB_QUANTIZE_DONE] = "",
        [QRB_QUANTIZE_NO_INPUTS] = "kept RTN: its inputs are all zero",
        [QRB_QUANTIZE_NOT_DEFINITE] = "kept RTN: no damping helped",
        [QRB_QUANTIZE_NO_BETTER] = "kept RTN: its error is smaller",
    };
    const size_t used = strlen(note);

    if (outcome != QRB_QUANTIZE_DONE &&
        outcome < sizeof causes / sizeof *causes)
        snprintf(note + used, size - used, "%s%s", used > 0 ? "; " : "",
                 causes[outcome]);
}

static qrb_status tell(struct quantizing *job, qrb_quantized_matrix *result,
                       qrb_packed **packed)
{
    int code;

    qrb__callback_begin(job->model->ctx);
    code = job->options.done(result, packed, job->options.user);
    qrb__callback_end(job->model->ctx);
    return code == 0 ? QRB_OK
                     : qrb__fail_callback(job->model->ctx, "done", code);
}

static qrb_status quantize_matrix(struct quantizing *job, size_t at)
{
    const struct qrb__planned *matrix = &job->plan.matrices[at];
    qrb_tensor weight = { .ctx = job->model->ctx, .view = matrix->view };
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    const bool told = job->options.done != NULL;
    char note[128] = "";
    qrb_quantized_matrix result = {
        .struct_size = sizeof result,
        .name = job->model->parameters[matrix->parameter]->name,
        .method = job->method,
        .note = note,
        .parameter = matrix->parameter,
        .done = at + 1,
        .total = job->plan.count,
        .layer = matrix->layer,
        .report = QRB_QUANTIZE_REPORT_INIT,
    };
    const qrb_quantizer *quantizer = qrb__quantize_plan_fit(
        &job->plan, job->quantizer, matrix->view.shape[1], &result.group_size,
        note, sizeof note);
    qrb_tensor fisher = { .ctx = job->model->ctx };
    qrb_packed *packed = NULL;
    qrb_status status = inputs_of(job, matrix, &calibration.inputs);

    if (status != QRB_OK)
        return status;
    if (qrb__squared_gradients_of(&job->gradients, matrix->parameter,
                                  &fisher.view))
        calibration.fisher = &fisher;
    result.samples = qrb_observer_sequences(calibration.inputs);
    result.tokens = qrb_observer_tokens(calibration.inputs);
    status = qrb_quantizer_quantize_with(quantizer, &weight, &calibration,
                                         told ? &result.report : NULL, &packed);
    if (status == QRB_OK)
        status = qrb_packed_dequantize(packed, &weight);
    status = fail_at(job, matrix, status);
    note_outcome(result.report.outcome, note, sizeof note);
    if (status == QRB_OK)
        status = qrb__model_weights_written(job->model, matrix->parameter);
    if (status == QRB_OK && told)
        status = tell(job, &result, &packed);
    qrb_packed_destroy(packed);
    if (job->observes)
        qrb__linear_inputs_drop(&job->inputs, matrix->parameter);
    qrb__squared_gradients_drop(&job->gradients, matrix->parameter);
    if (status == QRB_OK)
        status = qrb__progress(job->model->ctx, result.name, at + 1,
                               job->plan.count);
    return status;
}

static qrb_status quantize_all(struct quantizing *job)
{
    size_t end;

    for (size_t first = job->options.finished; first < job->plan.count;
         first = end) {
        qrb_status status = QRB_OK;

        end = qrb__quantize_plan_step(&job->plan, first);
        if (job->observes)
            status = collect(job, first, end);
        for (size_t i = first; i < end && status == QRB_OK; i++)
            status = quantize_matrix(job, i);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

qrb_status qrb_quantize_model(qrb_model *model, const qrb_quantizer *quantizer,
                              const int32_t *tokens, size_t count,
                              const qrb_quantize_options *options)
{
    const qrb_quantize_options defaults = QRB_QUANTIZE_OPTIONS_INIT;
    struct quantizing job = { .model = model, .options = defaults };
    qrb_snapshot *before = NULL;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status == QRB_OK)
        status = qrb__options_copy(model->ctx, options, sizeof defaults,
                                   "quantize options", &job.options);
    if (status != QRB_OK)
        return status;

    job.quantizer = quantizer;
    status =
        qrb__quantize_plan_open(&job.plan, model, quantizer, &job.options);
    if (status == QRB_OK) {
        name_method(&job);
        status = open_inputs(&job, tokens, count);
    }
    if (status == QRB_OK && job.options.undo != 0)
        status = qrb_snapshot_create(model, job.options.filter, &before);
    if (status == QRB_OK)
        status = quantize_all(&job);
    if (status != QRB_OK && before != NULL)
        status = qrb__undo(model->ctx, before, status);
    qrb_snapshot_destroy(before);
    qrb__squared_gradients_close(&job.gradients);
    status = qrb__linear_inputs_close(&job.inputs, status);
    qrb__quantize_plan_close(&job.plan);
    return status;
}
