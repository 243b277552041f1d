/* Statistics of the inputs of some linears, over all calibration sequences.
 *
 * A pass of our own listens at the inputs; one sequence is one batch, so that
 * observers count sequences.  All of its tokens are scored, for there are hosts
 * that compute no others.  The first collection looks at every selected input,
 * so that an activation that is not finite is found, and named, before any
 * weight changes.
 *
 * Cost: a forward pass a sample and collection; memory of one observer a
 * wanted parameter. */
#include "recipe/linear_inputs.h"

#include "core/context.h"
#include "model/pass.h"

static bool wants(void *self, uint32_t point, size_t index)
{
    const struct qrb__linear_inputs *inputs = self;
    const struct qrb__parameter *parameter;

    if (inputs->deaf || point != QRB_TAP_LINEAR_INPUT ||
        index >= inputs->model->count)
        return false;
    parameter = inputs->model->parameters[index];
    return inputs->observers[index] != NULL ||
           (!inputs->watched && qrb__filter_selects(inputs->filter, parameter));
}

static qrb_status fail_at(const struct qrb__linear_inputs *inputs, size_t index,
                          qrb_status status, const char *found)
{
    return qrb__fail(inputs->model->ctx, status,
                     "input of %s, calibration sample %llu: %s%s",
                     inputs->model->parameters[index]->name,
                     (unsigned long long)inputs->forwards, found,
                     status == QRB_E_NOT_FINITE
                         ? "; the weights in front of it overflow or are "
                           "damaged, so measure the model before quantizing it"
                         : "");
}

static qrb_status hear(void *self, const struct qrb__step *step, uint32_t point,
                       size_t index, qrb_tensor *tensor)
{
    struct qrb__linear_inputs *inputs = self;
    qrb_context *ctx = inputs->model->ctx;
    struct qrb__failure failure;
    qrb_status status;

    (void)step;
    (void)point;
    if (inputs->observers[index] == NULL) {
        if (qrb__view_first_not_finite(ctx, &tensor->view) == SIZE_MAX)
            return QRB_OK;
        return fail_at(inputs, index, QRB_E_NOT_FINITE,
                       "a value is not finite");
    }
    status = qrb_observer_add(inputs->observers[index], tensor);
    if (status == QRB_OK)
        return QRB_OK;
    qrb__failure_keep(ctx, &failure);
    return fail_at(inputs, index, status, failure.message);
}

static qrb_status check_tokens(const qrb_model *model, const int32_t *tokens,
                               size_t count,
                               const qrb_quantize_options *options)
{
    const size_t vocab = model->callbacks.vocab;

    if ((model->callbacks.flags & QRB_HOST_TOKEN_BATCHES) == 0)
        return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                         "calibration: the model does not take token batches "
                         "(QRB_HOST_TOKEN_BATCHES); without tokens its own are "
                         "used");
    if (count <= options->context)
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "calibration: the text has %zu tokens, but one sample "
                         "has %zu + 1; give more text or a shorter context",
                         count, options->context);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || (vocab > 0 && (size_t)tokens[i] >= vocab))
            return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                             "calibration: token %zu is %d, outside the "
                             "vocabulary of %zu",
                             i, tokens[i], vocab);
    return QRB_OK;
}

/* The callback that runs a batch: one that scores where there is one, for a
 * loss may be the backward pass as well. */
static qrb_status choose_forward(struct qrb__linear_inputs *inputs)
{
    qrb_model *model = inputs->model;
    const qrb_host_callbacks *host = &model->callbacks;

    inputs->scores = host->token_nll != NULL || host->logits != NULL;
    if (inputs->scores)
        return qrb__scorer_open(&inputs->scorer, model, NULL);
    model->skips = 0;
    if (host->loss == NULL && host->loss_and_grad == NULL)
        return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                         "calibration: the host has none of the callbacks "
                         "token_nll, logits, loss and loss_and_grad");
    return qrb__model_set_mode(model, QRB_MODE_EVAL);
}

/* Our pass in force, at whose taps we listen. */
static qrb_status make_pass(struct qrb__linear_inputs *inputs)
{
    const struct qrb__listener listener = { inputs, false, wants, hear };
    qrb_pass_options options = QRB_PASS_OPTIONS_INIT;
    qrb_model *model = inputs->model;
    qrb_status status;

    options.mode = QRB_MODE_EVAL;
    status = qrb_pass_create(model, &options, &inputs->pass);
    if (status == QRB_OK)
        status = qrb__pass_listen(inputs->pass, &listener);
    if (status != QRB_OK)
        return status;
    inputs->before = model->pass;
    return qrb_model_set_pass(model, inputs->pass);
}

qrb_status qrb__linear_inputs_open(struct qrb__linear_inputs *inputs,
                                   qrb_model *model, const int32_t *tokens,
                                   size_t count,
                                   const qrb_quantize_options *options,
                                   uint32_t what)
{
    const qrb_dataset_options shape = { sizeof shape, 1, options->context };
    qrb_context *ctx = model->ctx;
    qrb_status status = QRB_OK;

    *inputs = (struct qrb__linear_inputs){
        .model = model,
        .filter = options->filter,
        .scorer = { .model = model },
        .samples = options->samples,
        .what = what,
    };
    if (tokens != NULL)
        status = check_tokens(model, tokens, count, options);
    if (status == QRB_OK && tokens != NULL)
        status =
            qrb_dataset_create(ctx, tokens, count, &shape, &inputs->dataset);
    if (status != QRB_OK)
        return status;
    inputs->observers =
        qrb__alloc_array(ctx, model->count, sizeof *inputs->observers);
    if (inputs->observers == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "observers of %zu parameters",
                         model->count);
    status = make_pass(inputs);
    if (status == QRB_OK)
        status = choose_forward(inputs);
    return status;
}

qrb_status qrb__linear_inputs_want(struct qrb__linear_inputs *inputs,
                                   size_t parameter)
{
    const struct qrb__parameter *p = inputs->model->parameters[parameter];
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;

    options.columns =
        p->weight.shape[(p->flags & QRB_PARAM_TRANSPOSED) != 0 ? 0 : 1];
    options.what = inputs->what;
    return qrb_observer_create(inputs->model->ctx, &options,
                               &inputs->observers[parameter]);
}

qrb_status qrb__linear_inputs_sample(struct qrb__linear_inputs *inputs,
                                     uint64_t index, qrb_token_batch *tokens,
                                     struct qrb__batch *out, bool *skipped)
{
    qrb_status status;

    *skipped = false;
    if (inputs->dataset == NULL)
        return qrb__model_batch(inputs->model, QRB_STREAM_CALIBRATION, index,
                                out, skipped);
    status = qrb_dataset_batch(inputs->dataset, index, tokens);
    if (status == QRB_OK)
        *out = (struct qrb__batch){ tokens, tokens->length - 1, false };
    return status;
}

static qrb_status run_forward(struct qrb__linear_inputs *inputs,
                              const struct qrb__batch *batch)
{
    qrb_model *model = inputs->model;
    double loss;
    size_t scored;
    bool skipped;
    qrb_status status;

    if (!inputs->scores) {
        status = qrb_step_begin(inputs->pass, inputs->forwards, 0, 0);
        if (status == QRB_OK)
            status = qrb__model_loss(model, batch->handle, &loss, &scored,
                                     &skipped);
        return status;
    }
    status = qrb__scorer_reserve(&inputs->scorer, batch->rows);
    if (status == QRB_OK)
        status = qrb__scorer_nll(&inputs->scorer, batch->handle, batch->rows,
                                 &scored, &skipped);
    return status;
}

qrb_status qrb__linear_inputs_collect(struct qrb__linear_inputs *inputs,
                                      const char *stage)
{
    qrb_model *model = inputs->model;

    for (size_t i = 0; i < inputs->samples; i++) {
        qrb_token_batch tokens = QRB_TOKEN_BATCH_INIT;
        struct qrb__batch batch = { 0 };
        bool skipped;
        qrb_status status =
            qrb__linear_inputs_sample(inputs, i, &tokens, &batch, &skipped);

        inputs->forwards = i;
        if (status != QRB_OK)
            return status;
        if (!skipped && batch.handle == NULL)
            break;
        if (!skipped)
            status = run_forward(inputs, &batch);
        qrb__model_batch_release(model, &batch);
        if (status == QRB_OK)
            status = qrb__progress(model->ctx, stage, i + 1, inputs->samples);
        if (status != QRB_OK)
            return status;
    }
    inputs->watched = true;
    return QRB_OK;
}

void qrb__linear_inputs_drop(struct qrb__linear_inputs *inputs,
                             size_t parameter)
{
    if (inputs->observers == NULL)
        return;
    qrb_observer_destroy(inputs->observers[parameter]);
    inputs->observers[parameter] = NULL;
}

qrb_status qrb__linear_inputs_close(struct qrb__linear_inputs *inputs,
                                    qrb_status status)
{
    qrb_model *model = inputs->model;

    if (model == NULL)
        return status;
    if (inputs->pass != NULL && model->pass == inputs->pass)
        model->pass = inputs->before;
    qrb_pass_destroy(inputs->pass);
    qrb_dataset_destroy(inputs->dataset);
    for (size_t i = 0; inputs->observers != NULL && i < model->count; i++)
        qrb__linear_inputs_drop(inputs, i);
    qrb__free(model->ctx, inputs->observers);
    return qrb__scorer_close(&inputs->scorer, status);
}
