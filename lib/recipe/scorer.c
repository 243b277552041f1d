/* From batches to metrics.  Perplexity alone takes the negative
 * log-likelihoods that the host gives, or its logits; with a base the logits
 * of both models stand side by side in memory for one batch, and the metric
 * reads them row by row.  O(rows * vocab) memory where logits are needed,
 * O(rows) else. */
#include "recipe/scorer.h"

#include "core/context.h"
#include "model/model.h"

static qrb_status check_model(const qrb_model *model, bool needs_logits)
{
    const qrb_host_callbacks *callbacks = &model->callbacks;

    if (callbacks->logits != NULL ||
        (!needs_logits && callbacks->token_nll != NULL))
        return QRB_OK;
    return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                     needs_logits
                         ? "evaluation: the model has no callback logits"
                         : "evaluation: the model has neither a callback "
                           "token_nll nor logits");
}

static qrb_status check_base(const qrb_model *model, const qrb_model *base)
{
    if (base == model && model->callbacks.select_model == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "evaluation: the base is the model itself, which has "
                         "no callback select_model");
    if (base->ctx != model->ctx)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "evaluation: model and base are of two contexts");
    if (base->callbacks.vocab != model->callbacks.vocab)
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "evaluation: the vocabulary has %zu tokens, that of "
                         "the base %zu",
                         model->callbacks.vocab, base->callbacks.vocab);
    return check_model(base, true);
}

qrb_status qrb__scorer_open(struct qrb__scorer *scorer, qrb_model *model,
                            qrb_model *base)
{
    qrb_status status;

    *scorer = (struct qrb__scorer){
        .model = model,
        .base = base,
        .needs_logits = base != NULL || model->callbacks.token_nll == NULL,
    };
    status = check_model(model, base != NULL);
    if (status == QRB_OK && base != NULL)
        status = check_base(model, base);
    model->skips = 0; /* what an earlier call gave up on is not counted here */
    if (status == QRB_OK)
        status = qrb__model_set_mode(model, QRB_MODE_EVAL);
    if (status == QRB_OK && base != NULL && base != model)
        status = qrb__model_set_mode(base, QRB_MODE_EVAL);
    return status;
}

static void free_buffers(struct qrb__scorer *scorer)
{
    qrb_context *ctx = scorer->model->ctx;

    qrb__free(ctx, scorer->nll);
    qrb__free(ctx, scorer->targets);
    qrb__free(ctx, scorer->logits);
    qrb__free(ctx, scorer->base_logits);
    scorer->nll = NULL;
    scorer->targets = NULL;
    scorer->logits = NULL;
    scorer->base_logits = NULL;
    scorer->rows = 0;
}

qrb_status qrb__scorer_reserve(struct qrb__scorer *scorer, size_t rows)
{
    const size_t vocab = scorer->model->callbacks.vocab;
    qrb_context *ctx = scorer->model->ctx;
    size_t elements = 0;

    if (rows <= scorer->rows)
        return QRB_OK;
    if (scorer->needs_logits && !qrb__mul_size(rows, vocab, &elements))
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "evaluation: logits of [%zu, %zu] do not fit", rows,
                         vocab);
    free_buffers(scorer);
    scorer->nll = qrb__alloc_array(ctx, rows, sizeof *scorer->nll);
    scorer->targets = qrb__alloc_array(ctx, rows, sizeof *scorer->targets);
    if (scorer->nll == NULL || scorer->targets == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "evaluation of %zu rows", rows);
    if (scorer->needs_logits) {
        scorer->logits =
            qrb__alloc_array(ctx, elements, sizeof *scorer->logits);
        if (scorer->logits == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "logits of [%zu, %zu]", rows,
                             vocab);
    }
    if (scorer->base != NULL) {
        scorer->base_logits =
            qrb__alloc_array(ctx, elements, sizeof *scorer->base_logits);
        if (scorer->base_logits == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "logits of [%zu, %zu]", rows,
                             vocab);
    }
    scorer->rows = rows;
    return QRB_OK;
}

/* Taps of a pass in force need a step around them. */
static qrb_status begin_step(const struct qrb__scorer *scorer,
                             const qrb_model *model)
{
    qrb_pass *pass = qrb_model_pass(model);

    if (pass == NULL)
        return QRB_OK;
    return qrb_step_begin(pass, scorer->batches, 0, 0);
}

qrb_status qrb__scorer_nll(struct qrb__scorer *scorer, const void *batch,
                           size_t rows, size_t *count_out, bool *skipped)
{
    size_t count = 0;
    qrb_status status;

    status = begin_step(scorer, scorer->model);
    if (status == QRB_OK)
        status =
            qrb__model_token_nll(scorer->model, batch, rows, scorer->logits,
                                 scorer->targets, scorer->nll, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    scorer->batches++;
    for (size_t i = 0; i < rows; i++)
        if (scorer->targets[i] >= 0)
            scorer->nll[count++] = scorer->nll[i];
    *count_out = count;
    return QRB_OK;
}

/* The answer of select_model, where model and base are one host's. */
static int select_weights(struct qrb__scorer *scorer, uint32_t pass_role)
{
    const qrb_host_callbacks *callbacks = &scorer->model->callbacks;
    int code;

    if (scorer->base != scorer->model)
        return 0;
    scorer->switched = true;
    qrb__callback_begin(scorer->model->ctx);
    code = callbacks->select_model(pass_role, callbacks->user);
    qrb__callback_end(scorer->model->ctx);
    return code;
}

static qrb_status ask_logits(struct qrb__scorer *scorer, qrb_model *model,
                             uint32_t pass_role, const void *batch, size_t rows,
                             float *logits, bool *skipped)
{
    const int code = select_weights(scorer, pass_role);
    qrb_status status;

    if (code != 0)
        return qrb__fail_callback(model->ctx, "select_model", code);
    status = begin_step(scorer, model);
    if (status == QRB_OK)
        status = qrb__model_logits(model, batch, logits, scorer->targets, rows,
                                   skipped);
    return status;
}

qrb_status qrb__scorer_add(struct qrb__scorer *scorer, const void *batch,
                           size_t rows, qrb_metric *metric, bool *skipped)
{
    qrb_status status;

    *skipped = false;
    if (scorer->base == NULL) {
        size_t count;

        status = qrb__scorer_nll(scorer, batch, rows, &count, skipped);
        if (status != QRB_OK || *skipped)
            return status;
        return qrb_metric_add_nll(metric, scorer->nll, count);
    }
    status = ask_logits(scorer, scorer->base, QRB_PASS_BASE, batch, rows,
                        scorer->base_logits, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    status = ask_logits(scorer, scorer->model, QRB_PASS_QUANTIZED, batch, rows,
                        scorer->logits, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    scorer->batches++;
    return qrb_metric_add_logits(metric, scorer->base_logits, scorer->logits,
                                 scorer->targets, rows,
                                 scorer->model->callbacks.vocab);
}

qrb_status qrb__scorer_close(struct qrb__scorer *scorer, qrb_status status)
{
    free_buffers(scorer);
    if (scorer->switched) {
        const int code = select_weights(scorer, QRB_PASS_STUDENT);

        if (code != 0 && status == QRB_OK)
            return qrb__fail_callback(scorer->model->ctx, "select_model", code);
    }
    return status;
}
