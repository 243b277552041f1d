/* The engine as a host: the pull callbacks over token batches, and what is
 * asked of it directly. */
#include "engine/engine.h"

static qrb_status forward(struct qrb__engine *engine)
{
    return engine->dtype == QRB_F32 ? qrb__engine_forward_f32(engine)
                                    : qrb__engine_forward_f64(engine);
}

static qrb_status backward(struct qrb__engine *engine)
{
    return engine->dtype == QRB_F32 ? qrb__engine_backward_f32(engine)
                                    : qrb__engine_backward_f64(engine);
}

static qrb_status take_batch(struct qrb__engine *engine, const void *batch,
                             bool training)
{
    const qrb_token_batch *tokens = batch;

    if (qrb__token_batch_rows(engine->ctx, tokens) == 0)
        return QRB_E_INVALID_ARG;
    return qrb__engine_prepare(engine, tokens->tokens, tokens->sequences,
                               tokens->length, tokens->first_scored, training);
}

static int answer(qrb_status status)
{
    return status == QRB_OK ? 0 : QRB_CALLBACK_STATUS(status);
}

static int loss_and_grad(const void *batch, double weight, double *mean_loss,
                         size_t *scored, void *user)
{
    struct qrb__engine *engine = user;
    qrb_status status = take_batch(engine, batch, true);

    if (status != QRB_OK)
        return answer(status);
    engine->batch.scale = weight / (double)engine->batch.scored;
    status = forward(engine);
    if (status == QRB_OK)
        status = backward(engine);
    *mean_loss = qrb__engine_mean_nll(engine);
    *scored = engine->batch.scored;
    return answer(status);
}

static int loss(const void *batch, double *mean_loss, size_t *scored,
                void *user)
{
    struct qrb__engine *engine = user;
    qrb_status status = take_batch(engine, batch, false);

    if (status == QRB_OK)
        status = forward(engine);
    if (status != QRB_OK)
        return answer(status);
    *mean_loss = qrb__engine_mean_nll(engine);
    *scored = engine->batch.scored;
    return 0;
}

static qrb_status check_rows(const struct qrb__engine *engine, size_t rows)
{
    if (rows == engine->batch.scored)
        return QRB_OK;
    return qrb__fail(engine->ctx, QRB_E_SHAPE,
                     "%zu rows are asked for, the batch scores %zu", rows,
                     engine->batch.scored);
}

static int logits(const void *batch, float *out, int32_t *targets, size_t rows,
                  void *user)
{
    struct qrb__engine *engine = user;
    qrb_status status = take_batch(engine, batch, false);

    if (status == QRB_OK)
        status = check_rows(engine, rows);
    if (status != QRB_OK)
        return answer(status);
    engine->batch.sink = QRB__SINK_LOGITS_F32;
    engine->batch.logits = out;
    status = forward(engine);
    for (size_t r = 0; r < rows; r++)
        targets[r] = engine->scored[r].target;
    return answer(status);
}

static int token_nll(const void *batch, float *nll, size_t rows, void *user)
{
    struct qrb__engine *engine = user;
    qrb_status status = take_batch(engine, batch, false);

    if (status == QRB_OK)
        status = check_rows(engine, rows);
    if (status == QRB_OK)
        status = forward(engine);
    if (status != QRB_OK)
        return answer(status);
    for (size_t r = 0; r < rows; r++)
        nll[r] = (float)qrb__engine_nll(engine)[r];
    return 0;
}

static void destroy(void *user)
{
    qrb__engine_destroy(user);
}

void qrb__engine_callbacks(struct qrb__engine *engine, qrb_host_callbacks *out)
{
    out->user = engine;
    out->user_free = destroy;
    if (engine->trainable)
        out->loss_and_grad = loss_and_grad;
    out->loss = loss;
    out->logits = logits;
    out->token_nll = token_nll;
    out->vocab = engine->config.vocab;
    out->flags = QRB_HOST_TOKEN_BATCHES;
}

static qrb_status check_logits(const struct qrb__engine *engine,
                               size_t sequences, size_t length,
                               const qrb_tensor *out)
{
    char found[QRB__SHAPE_TEXT];
    size_t rows;

    if (!qrb__mul_size(sequences, length, &rows) || rows == 0)
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "logits of %zu sequences of %zu tokens", sequences,
                         length);
    if (out->view.dtype != engine->dtype || out->view.rank != 2 ||
        out->view.shape[0] != rows ||
        out->view.shape[1] != engine->config.vocab ||
        !qrb__view_is_dense(&out->view))
        return qrb__fail(engine->ctx, QRB_E_SHAPE,
                         "logits: found %s %s, expected %s [%zu, %zu], dense",
                         qrb_dtype_name(out->view.dtype),
                         qrb__view_shape_text(&out->view, found, sizeof found),
                         qrb_dtype_name(engine->dtype), rows,
                         engine->config.vocab);
    return QRB_OK;
}

qrb_status qrb_engine_logits(qrb_model *model, const int32_t *tokens,
                             size_t sequences, size_t length, qrb_tensor *out)
{
    struct qrb__engine *engine;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (tokens == NULL || out == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "%s is NULL",
                         tokens == NULL ? "tokens" : "out");
    status = qrb__engine_find(model, &engine);
    if (status != QRB_OK)
        return status;
    status = check_logits(engine, sequences, length, out);
    if (status == QRB_OK)
        status = qrb__engine_prepare(engine, tokens, sequences, length, NULL,
                                     false);
    if (status != QRB_OK)
        return status;
    engine->batch.sink = QRB__SINK_LOGITS;
    engine->batch.logits = out->view.memory;
    return forward(engine);
}

qrb_status qrb_engine_memory(const qrb_model *model, size_t sequences,
                             size_t length, uint32_t training,
                             uint64_t *bytes_out)
{
    struct qrb__engine *engine;
    qrb_status status;

    if (model == NULL || bytes_out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__engine_find(model, &engine);
    if (status != QRB_OK)
        return status;
    if (training > 1 || (training == 1 && !engine->trainable))
        return qrb__fail(model->ctx,
                         training > 1 ? QRB_E_INVALID_ARG : QRB_E_STATE,
                         training > 1 ? "training is neither 0 nor 1"
                                      : "the model was opened without "
                                        "gradients");
    return qrb__engine_bytes(engine, sequences, length, training == 1,
                             bytes_out);
}

qrb_status qrb_engine_get_config(const qrb_model *model, qrb_engine_config *out)
{
    struct qrb__engine *engine;
    qrb_status status;

    if (model == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__result_check(model->ctx, "engine config", out);
    if (status == QRB_OK)
        status = qrb__engine_find(model, &engine);
    if (status == QRB_OK)
        qrb__result_copy(&engine->config, sizeof engine->config, out);
    return status;
}
