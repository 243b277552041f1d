/* The pull callbacks: every call of the host's functions goes through here, so
 * that skip, stop and reentrancy mean the same everywhere. */
#include "model/model.h"

#include <math.h>
#include <string.h>

#include "model/pass.h"

static qrb_status missing(qrb_model *model, const char *name)
{
    return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                     "the host has no callback %s", name);
}

/* A batch could not be used; the next may. */
static qrb_status skip(qrb_model *model, const char *name, const char *cause,
                       bool *skipped)
{
    *skipped = true;
    model->skips++;
    qrb__log(model->ctx, QRB_LOG_WARNING, "%s: %s, batch skipped", name, cause);
    if (model->skips <= QRB__MAX_SKIPS)
        return QRB_OK;
    return qrb__fail(model->ctx, QRB_E_CALLBACK,
                     "%s: %s; more than %d batches in a row were unusable",
                     name, cause, QRB__MAX_SKIPS);
}

/* The answer of a callback that serves a batch. */
static qrb_status answered(qrb_model *model, const char *name, int code,
                           bool *skipped)
{
    *skipped = false;
    if (code < 0)
        return qrb__fail_callback(model->ctx, name, code);
    if (code > 0)
        return skip(model, name, "the host cannot use it", skipped);
    return QRB_OK;
}

/* The answer of a callback that serves none: there is nothing to skip. */
static qrb_status obeyed(qrb_model *model, const char *name, int code)
{
    return code == 0 ? QRB_OK : qrb__fail_callback(model->ctx, name, code);
}

qrb_status qrb__model_batch(qrb_model *model, uint32_t stream, uint64_t index,
                            struct qrb__batch *out, bool *skipped)
{
    const qrb_host_callbacks *host = &model->callbacks;
    void *handle = NULL;
    size_t rows = 0;
    qrb_status status;
    int code;

    if (host->batch == NULL)
        return missing(model, "batch");
    qrb__callback_begin(model->ctx);
    code = host->batch(stream, index, &handle, &rows, host->user);
    qrb__callback_end(model->ctx);
    status = answered(model, "batch", code, skipped);
    if (status == QRB_OK && !*skipped)
        *out = (struct qrb__batch){ handle, rows, handle != NULL };
    return status;
}

void qrb__model_batch_release(qrb_model *model, struct qrb__batch *batch)
{
    const qrb_host_callbacks *host = &model->callbacks;
    const struct qrb__batch none = { 0 };

    if (batch->from_host && host->batch_release != NULL) {
        qrb__callback_begin(model->ctx);
        host->batch_release((void *)(uintptr_t)batch->handle, host->user);
        qrb__callback_end(model->ctx);
    }
    *batch = none;
}

/* A mean loss and its count, as the host gave them. */
static qrb_status take_loss(qrb_model *model, const char *name, int code,
                            double mean, size_t count, double *loss,
                            size_t *scored, bool *skipped)
{
    const qrb_status status = answered(model, name, code, skipped);

    if (status != QRB_OK || *skipped)
        return status;
    if (!isfinite(mean))
        return skip(model, name, "the loss is not finite", skipped);
    if (count == 0)
        return skip(model, name, "no target was scored", skipped);
    model->skips = 0;
    *loss = mean;
    *scored = count;
    return QRB_OK;
}

qrb_status qrb__model_loss_and_grad(qrb_model *model, const void *batch,
                                    double weight, double *loss, size_t *scored,
                                    bool *skipped)
{
    const qrb_host_callbacks *host = &model->callbacks;
    double mean = 0.0;
    size_t count = 0;
    int code;

    if (host->loss_and_grad == NULL)
        return missing(model, "loss_and_grad");
    qrb__callback_begin(model->ctx);
    code = host->loss_and_grad(batch, weight, &mean, &count, host->user);
    qrb__callback_end(model->ctx);
    return take_loss(model, "loss_and_grad", code, mean, count, loss, scored,
                     skipped);
}

qrb_status qrb__model_loss(qrb_model *model, const void *batch, double *loss,
                           size_t *scored, bool *skipped)
{
    const qrb_host_callbacks *host = &model->callbacks;
    double mean = 0.0;
    size_t count = 0;
    int code;

    if (host->loss == NULL)
        return qrb__model_loss_and_grad(model, batch, 0.0, loss, scored,
                                        skipped);
    qrb__callback_begin(model->ctx);
    code = host->loss(batch, &mean, &count, host->user);
    qrb__callback_end(model->ctx);
    return take_loss(model, "loss", code, mean, count, loss, scored, skipped);
}

/* Ask for logits and check targets, before anyone indexes with them. */
static qrb_status ask_logits(qrb_model *model, const void *batch, float *logits,
                             int32_t *targets, size_t rows, bool *skipped)
{
    const qrb_host_callbacks *host = &model->callbacks;
    qrb_status status;
    int code;

    if (host->logits == NULL)
        return missing(model, "logits");
    qrb__callback_begin(model->ctx);
    code = host->logits(batch, logits, targets, rows, host->user);
    qrb__callback_end(model->ctx);
    status = answered(model, "logits", code, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    for (size_t r = 0; r < rows; r++)
        if (targets[r] < -1 ||
            (targets[r] >= 0 && (size_t)targets[r] >= host->vocab))
            return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                             "logits: target of row %zu is %d; it is -1 or "
                             "below the vocabulary of %zu",
                             r, targets[r], host->vocab);
    return QRB_OK;
}

qrb_status qrb__model_logits(qrb_model *model, const void *batch, float *logits,
                             int32_t *targets, size_t rows, bool *skipped)
{
    const size_t shape[2] = { rows, model->callbacks.vocab };
    struct qrb__view view;
    qrb_status status;

    status = ask_logits(model, batch, logits, targets, rows, skipped);
    if (status != QRB_OK || *skipped)
        return status;
    view = qrb__view_make(QRB_F32, 2, shape, logits);
    if (qrb__view_first_not_finite(model->ctx, &view) != SIZE_MAX)
        return skip(model, "logits", "a logit is not finite", skipped);
    model->skips = 0;
    return QRB_OK;
}

struct scoring {
    const struct qrb__kernels *kernels;
    const float *logits; /* [rows, vocab] */
    const int32_t *targets;
    float *nll;
    size_t vocab;
};

static void score_row(size_t row, size_t worker, void *arg)
{
    const struct scoring *scoring = arg;
    const int32_t target = scoring->targets[row];

    (void)worker;
    scoring->nll[row] = target < 0 ? 0.0f
                                   : (float)scoring->kernels->f32.nll(
                                         scoring->logits + row * scoring->vocab,
                                         scoring->vocab, (size_t)target);
}

qrb_status qrb__model_token_nll(qrb_model *model, const void *batch,
                                size_t rows, float *logits, int32_t *targets,
                                float *nll, bool *skipped)
{
    const qrb_host_callbacks *host = &model->callbacks;
    const char *name = host->token_nll != NULL ? "token_nll" : "logits";
    qrb_status status;

    if (host->token_nll != NULL) {
        int code;

        qrb__callback_begin(model->ctx);
        code = host->token_nll(batch, nll, rows, host->user);
        qrb__callback_end(model->ctx);
        status = answered(model, name, code, skipped);
        if (targets != NULL)
            for (size_t r = 0; r < rows; r++)
                targets[r] = 0;
    } else {
        struct scoring scoring = { &model->ctx->kernels, logits, targets, nll,
                                   host->vocab };

        status = ask_logits(model, batch, logits, targets, rows, skipped);
        if (status == QRB_OK && !*skipped)
            qrb__parallel_for(model->ctx, rows, score_row, &scoring);
    }
    if (status != QRB_OK || *skipped)
        return status;
    for (size_t r = 0; r < rows; r++)
        if (!isfinite(nll[r]))
            return skip(model, name, "the loss of a token is not finite",
                        skipped);
    model->skips = 0;
    return QRB_OK;
}

enum { CLEAR_BYTES = 1048576 }; /* of a task */

struct clearing {
    unsigned char *memory;
    size_t bytes;
};

static void clear_bytes(size_t task, size_t worker, void *arg)
{
    const struct clearing *work = arg;
    const size_t first = task * CLEAR_BYTES;
    const size_t left = work->bytes - first;

    (void)worker;
    memset(work->memory + first, 0, left < CLEAR_BYTES ? left : CLEAR_BYTES);
}

static void clear_dense(qrb_context *ctx, const struct qrb__view *view)
{
    struct clearing work = { view->memory,
                             qrb__view_elements(view) *
                                 qrb_dtype_size(view->dtype) };

    qrb__parallel_for(ctx, (work.bytes + CLEAR_BYTES - 1) / CLEAR_BYTES,
                      clear_bytes, &work);
}

qrb_status qrb__model_zero_grad(qrb_model *model)
{
    const qrb_host_callbacks *host = &model->callbacks;
    double zero = 0.0; /* all bits zero: 0 in every float type */

    if (host->zero_grad != NULL) {
        int code;

        qrb__callback_begin(model->ctx);
        code = host->zero_grad(host->user);
        qrb__callback_end(model->ctx);
        return obeyed(model, "zero_grad", code);
    }
    for (size_t i = 0; i < model->count; i++) {
        const struct qrb__view *gradient = &model->parameters[i]->gradient;
        struct qrb__view source = *gradient;
        qrb_status status;

        if (gradient->memory == NULL)
            continue;
        if (qrb__view_is_dense(gradient)) {
            clear_dense(model->ctx, gradient);
            continue;
        }
        source.memory = (unsigned char *)&zero;
        for (uint32_t axis = 0; axis < source.rank; axis++)
            source.strides[axis] = 0; /* one element seen everywhere */
        status = qrb__view_copy(model->ctx, &source, gradient);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

qrb_status qrb__model_set_mode(qrb_model *model, uint32_t mode)
{
    const qrb_host_callbacks *host = &model->callbacks;
    qrb_status status = QRB_OK;

    if (host->set_mode != NULL) {
        int code;

        qrb__callback_begin(model->ctx);
        code = host->set_mode(mode, host->user);
        qrb__callback_end(model->ctx);
        status = obeyed(model, "set_mode", code);
    }
    if (status == QRB_OK && model->pass != NULL)
        model->pass->step.mode = mode;
    return status;
}

qrb_status qrb__model_weights_written(qrb_model *model, size_t parameter)
{
    const qrb_host_callbacks *host = &model->callbacks;
    int code;

    if (host->weights_written == NULL)
        return QRB_OK;
    qrb__callback_begin(model->ctx);
    code = host->weights_written(parameter, host->user);
    qrb__callback_end(model->ctx);
    return obeyed(model, "weights_written", code);
}
