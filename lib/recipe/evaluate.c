/* Perplexity, KL and agreement of whole models: over a text that the library
 * cuts, over the batches of the host, and prompt by prompt. */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "model/model.h"
#include "recipe/scored_text.h"

qrb_status qrb_evaluate_text(qrb_model *model, qrb_model *base,
                             const int32_t *tokens, size_t count,
                             const qrb_evaluate_options *options,
                             qrb_metric_result *out)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    struct qrb__text text;
    qrb_status status;

    if (model == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status == QRB_OK)
        status = qrb__result_check(model->ctx, "metric result", out);
    if (status != QRB_OK)
        return status;
    status = qrb__text_open(&text, model, base, tokens, count, options);
    if (status == QRB_OK)
        status = qrb__text_run(&text, "evaluate", &result);
    if (status == QRB_OK && result.scored == 0)
        status = qrb__fail(model->ctx, QRB_E_NOT_FINITE,
                           "evaluation: none of the %zu windows could be "
                           "scored",
                           text.windows);
    status = qrb__text_close(&text, status);
    if (status == QRB_OK)
        qrb__result_copy(&result, sizeof result, out);
    return status;
}

/* One batch of the host; *end is set behind the last. */
static qrb_status add_host_batch(struct qrb__scorer *scorer, uint64_t index,
                                 qrb_metric *metric, bool *end)
{
    struct qrb__batch batch = { 0 };
    bool skipped = false;
    qrb_status status;

    status = qrb__model_batch(scorer->model, QRB_STREAM_EVALUATION, index,
                              &batch, &skipped);
    if (status != QRB_OK || skipped)
        return status;
    *end = batch.handle == NULL;
    if (!*end && batch.rows > 0) {
        status = qrb__scorer_reserve(scorer, batch.rows);
        if (status == QRB_OK)
            status = qrb__scorer_add(scorer, batch.handle, batch.rows, metric,
                                     &skipped);
    }
    qrb__model_batch_release(scorer->model, &batch);
    return status;
}

qrb_status qrb_evaluate_batches(qrb_model *model, qrb_metric_result *out)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    struct qrb__scorer scorer;
    qrb_metric *metric = NULL;
    bool end = false;
    qrb_status status;

    if (model == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status == QRB_OK)
        status = qrb__result_check(model->ctx, "metric result", out);
    if (status != QRB_OK)
        return status;
    if (model->callbacks.batch == NULL)
        return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                         "evaluation: the model has no callback batch");
    /* A host that can switch to its base is compared with it. */
    status = qrb__scorer_open(&scorer, model,
                              model->callbacks.select_model != NULL &&
                                      model->callbacks.logits != NULL
                                  ? model
                                  : NULL);
    if (status == QRB_OK)
        status = qrb_metric_create(model->ctx, &metric);
    for (uint64_t index = 0; status == QRB_OK && !end; index++) {
        status = add_host_batch(&scorer, index, metric, &end);
        if (status == QRB_OK && !end)
            status = qrb__progress(model->ctx, "evaluate", index + 1, 0);
    }
    if (status == QRB_OK)
        status = qrb_metric_get(metric, &result);
    if (status == QRB_OK && result.scored == 0)
        status = qrb__fail(model->ctx, QRB_E_SHAPE,
                           "evaluation: the stream scored no token");
    qrb_metric_destroy(metric);
    status = qrb__scorer_close(&scorer, status);
    if (status == QRB_OK)
        qrb__result_copy(&result, sizeof result, out);
    return status;
}
