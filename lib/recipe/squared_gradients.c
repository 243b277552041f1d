/* F_ij = sum over sequences of (dL / dW_ij)^2, L the mean cross-entropy of one
 * sequence (Kim et al., "SqueezeLLM", ICML 2024, arXiv:2306.07629): the
 * diagonal of the Fisher information up to a factor, which changes nothing.
 *
 * A forward and a backward pass a sample, before any weight changes, and one
 * float32 a weight. */
#include "recipe/squared_gradients.h"

#include "core/context.h"
#include "recipe/weights.h"
#include "tensor/run.h"

enum { RUN = 4096 }; /* elements of a task */

static qrb_status reserve(struct qrb__squared_gradients *squares,
                          const struct qrb__quantize_plan *plan, size_t first)
{
    qrb_model *model = squares->model;

    squares->sums =
        qrb__alloc_array(model->ctx, model->count, sizeof *squares->sums);
    if (squares->sums == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY,
                         "squared gradients of %zu parameters", model->count);
    for (size_t i = first; i < plan->count; i++) {
        const size_t at = plan->matrices[i].parameter;
        const struct qrb__parameter *parameter = model->parameters[at];

        if (parameter->gradient.memory == NULL)
            return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                             "%s: has no gradient, by which the method weighs "
                             "errors; open the model as trainable",
                             parameter->name);
        squares->sums[at] = qrb__alloc_array(
            model->ctx, qrb__view_elements(&parameter->gradient),
            sizeof **squares->sums);
        if (squares->sums[at] == NULL)
            return qrb__fail(model->ctx, QRB_E_NO_MEMORY,
                             "squared gradients of %s", parameter->name);
    }
    return QRB_OK;
}

struct adding {
    qrb_context *ctx;
    const struct qrb__view *gradient;
    float *sums;
    size_t elements;
};

static void add_run(size_t task, size_t worker, void *arg)
{
    const struct adding *job = arg;
    const size_t first = task * RUN;
    const size_t left = job->elements - first;
    const size_t n = left < RUN ? left : RUN;
    float run[RUN];

    (void)worker;
    qrb__run_load(job->ctx, job->gradient, first, n, QRB_F32, run);
    for (size_t i = 0; i < n; i++)
        job->sums[first + i] += run[i] * run[i];
}

static void add_squares(struct qrb__squared_gradients *squares)
{
    qrb_model *model = squares->model;

    for (size_t i = 0; i < model->count; i++) {
        struct adding job = { model->ctx, &model->parameters[i]->gradient,
                              squares->sums[i], 0 };

        if (job.sums == NULL)
            continue;
        job.elements = qrb__view_elements(job.gradient);
        qrb__parallel_for(model->ctx, (job.elements + RUN - 1) / RUN, add_run,
                          &job);
    }
}

/* One sample forward and backward; *skipped where the host cannot use it. */
static qrb_status run_backward(qrb_model *model,
                               struct qrb__linear_inputs *inputs,
                               const struct qrb__batch *batch, bool *skipped)
{
    double loss;
    size_t scored;
    qrb_status status = qrb_step_begin(inputs->pass, inputs->forwards, 0, 0);

    if (status == QRB_OK)
        status = qrb__model_zero_grad(model);
    if (status == QRB_OK)
        status = qrb__model_loss_and_grad(model, batch->handle, 1.0, &loss,
                                          &scored, skipped);
    return status;
}

qrb_status qrb__squared_gradients_collect(
    struct qrb__squared_gradients *squares, struct qrb__linear_inputs *inputs,
    const struct qrb__quantize_plan *plan, size_t first)
{
    qrb_model *model = inputs->model;
    size_t used = 0;
    qrb_status status;

    *squares = (struct qrb__squared_gradients){ .model = model };
    status = reserve(squares, plan, first);
    inputs->deaf = true;
    for (size_t i = 0; i < inputs->samples && status == QRB_OK; i++) {
        qrb_token_batch tokens = QRB_TOKEN_BATCH_INIT;
        struct qrb__batch batch = { 0 };
        bool skipped;

        inputs->forwards = i;
        status =
            qrb__linear_inputs_sample(inputs, i, &tokens, &batch, &skipped);
        if (status == QRB_OK && !skipped && batch.handle == NULL)
            break;
        if (status == QRB_OK && !skipped)
            status = run_backward(model, inputs, &batch, &skipped);
        qrb__model_batch_release(model, &batch);
        if (status == QRB_OK && !skipped) {
            add_squares(squares);
            used++;
        }
        if (status == QRB_OK)
            status = qrb__progress(model->ctx, "squared gradients", i + 1,
                                   inputs->samples);
    }
    inputs->deaf = false;
    if (status == QRB_OK && used == 0)
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "quantize: none of the calibration batches could be "
                         "used, so that no gradient is known");
    return status;
}

bool qrb__squared_gradients_of(const struct qrb__squared_gradients *squares,
                               size_t parameter, struct qrb__view *out)
{
    struct qrb__parameter sums;

    if (squares->sums == NULL || squares->sums[parameter] == NULL)
        return false;
    sums = *squares->model->parameters[parameter];
    sums.weight = qrb__view_make(QRB_F32, sums.weight.rank, sums.weight.shape,
                                 squares->sums[parameter]);
    return qrb__parameter_matrix(&sums, out);
}

void qrb__squared_gradients_drop(struct qrb__squared_gradients *squares,
                                 size_t parameter)
{
    if (squares->sums == NULL)
        return;
    qrb__free(squares->model->ctx, squares->sums[parameter]);
    squares->sums[parameter] = NULL;
}

void qrb__squared_gradients_close(struct qrb__squared_gradients *squares)
{
    if (squares->sums == NULL)
        return;
    for (size_t i = 0; i < squares->model->count; i++)
        qrb__squared_gradients_drop(squares, i);
    qrb__free(squares->model->ctx, squares->sums);
    squares->sums = NULL;
}
