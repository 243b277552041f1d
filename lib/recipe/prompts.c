/* Perplexity of prompts, one by one: exp of the mean negative log-likelihood
 * of all tokens but the first (methods 4.6).  A prompt is a batch of its own,
 * so its figure does not depend on the others.  O(longest prompt) memory
 * beside the figures. */
#include <math.h>
#include <string.h>

#include "core/context.h"
#include "model/model.h"
#include "recipe/scorer.h"

static qrb_status check_prompts(const qrb_model *model, const int32_t *tokens,
                                const size_t *lengths, size_t prompts,
                                size_t *longest)
{
    const size_t vocab = model->callbacks.vocab;
    size_t at = 0;

    *longest = 0;
    for (size_t i = 0; i < prompts; i++) {
        if (lengths[i] > *longest)
            *longest = lengths[i];
        for (size_t t = 0; t < lengths[i]; t++, at++)
            if (tokens[at] < 0 || (vocab > 0 && (size_t)tokens[at] >= vocab))
                return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                                 "prompt %zu: token %zu is %d, outside the "
                                 "vocabulary of %zu",
                                 i, t, tokens[at], vocab);
    }
    return QRB_OK;
}

/* Perplexity of one prompt; NaN where it has nothing to score or the host
 * cannot use it. */
static qrb_status score_prompt(struct qrb__scorer *scorer,
                               const int32_t *tokens, size_t length,
                               double *perplexity)
{
    static const size_t first_scored = 1;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    bool skipped = false;
    size_t count = 0;
    double sum = 0.0;
    qrb_status status;

    *perplexity = NAN;
    if (length < 2)
        return QRB_OK;
    batch.tokens = tokens;
    batch.first_scored = &first_scored;
    batch.sequences = 1;
    batch.length = length;
    status = qrb__scorer_nll(scorer, &batch, length - 1, &count, &skipped);
    if (status != QRB_OK || skipped)
        return status;
    for (size_t i = 0; i < count; i++)
        sum += scorer->nll[i];
    if (count > 0)
        *perplexity = exp(sum / (double)count);
    return QRB_OK;
}

qrb_status qrb_evaluate_prompts(qrb_model *model, const int32_t *tokens,
                                const size_t *lengths, size_t prompts,
                                double *perplexity_out)
{
    struct qrb__scorer scorer;
    double *perplexity = NULL;
    size_t longest;
    size_t at = 0;
    qrb_status status;

    if (model == NULL || tokens == NULL || lengths == NULL ||
        perplexity_out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (prompts == 0)
        return qrb__fail(model->ctx, QRB_E_SHAPE, "there is no prompt");
    if ((model->callbacks.flags & QRB_HOST_TOKEN_BATCHES) == 0)
        return qrb__fail(model->ctx, QRB_E_UNSUPPORTED,
                         "prompts: the model does not take token batches "
                         "(QRB_HOST_TOKEN_BATCHES)");
    status = check_prompts(model, tokens, lengths, prompts, &longest);
    if (status != QRB_OK)
        return status;

    status = qrb__scorer_open(&scorer, model, NULL);
    if (status != QRB_OK)
        goto out;
    if (longest >= 2)
        status = qrb__scorer_reserve(&scorer, longest - 1);
    if (status != QRB_OK)
        goto out;
    perplexity = qrb__alloc_array(model->ctx, prompts, sizeof *perplexity);
    if (perplexity == NULL) {
        status = qrb__fail(model->ctx, QRB_E_NO_MEMORY, "%zu prompts", prompts);
        goto out;
    }
    for (size_t i = 0; i < prompts; i++) {
        status = score_prompt(&scorer, tokens + at, lengths[i], &perplexity[i]);
        if (status == QRB_OK)
            status = qrb__progress(model->ctx, "prompts", i + 1, prompts);
        if (status != QRB_OK)
            goto out;
        at += lengths[i];
    }
out:
    status = qrb__scorer_close(&scorer, status);
    if (status == QRB_OK)
        memcpy(perplexity_out, perplexity, prompts * sizeof *perplexity);
    qrb__free(model->ctx, perplexity);
    return status;
}
