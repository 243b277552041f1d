/* Windows of a text in batches of equal length.
 *
 * qrb_window_at() says what each window scores, so that every token is scored
 * once; neighbours of one length share a batch.  Where logits are held the
 * batch is made smaller until they stay below a fixed number of bytes.
 * O(batch * context) memory beside the scorer's. */
#include "recipe/scored_text.h"

#include <math.h>
#include <string.h>

#include "core/context.h"
#include "model/model.h"

enum { LOGITS_BYTES = 256 * 1024 * 1024 };

static qrb_status check_options(qrb_context *ctx,
                                const qrb_evaluate_options *options)
{
    if (options->mode > QRB_WINDOW_LLAMACPP)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "evaluation: mode is %u; sliding is 0, blocks 1, "
                         "llama.cpp 2",
                         options->mode);
    if (options->context < 2)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "evaluation: context is %zu; it is at least 2",
                         options->context);
    if (options->mode == QRB_WINDOW_SLIDING &&
        (options->stride < 1 || options->stride >= options->context))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "evaluation: stride is %zu; it is in 1..%zu, or the "
                         "mode is blocks",
                         options->stride, options->context - 1);
    if (options->batch == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "evaluation: batch is 0; it is at least 1");
    return QRB_OK;
}

static qrb_status check_tokens(const struct qrb__text *text)
{
    const size_t vocab = text->scorer.model->callbacks.vocab;

    for (size_t i = 0; i < text->count; i++)
        if (text->source[i] < 0 ||
            (vocab > 0 && (size_t)text->source[i] >= vocab))
            return qrb__fail(text->ctx, QRB_E_INVALID_ARG,
                             "evaluation: token %zu is %d, outside the "
                             "vocabulary of %zu",
                             i, text->source[i], vocab);
    if (vocab > 0 && text->options.bos >= 0 &&
        (size_t)text->options.bos >= vocab)
        return qrb__fail(text->ctx, QRB_E_INVALID_ARG,
                         "evaluation: bos is %d, outside the vocabulary of "
                         "%zu",
                         text->options.bos, vocab);
    return QRB_OK;
}

/* Window `index`, false behind the last. */
static bool window_at(const struct qrb__text *text, size_t index,
                      qrb_window *out)
{
    const qrb_evaluate_options *options = &text->options;

    return qrb_window_at(options->mode, text->count, options->context,
                         options->stride, index, out) == QRB_OK;
}

static qrb_status count_windows(struct qrb__text *text)
{
    qrb_window window;

    while (window_at(text, text->windows, &window)) {
        text->scored += window.end - window.first_scored;
        text->windows++;
    }
    if (text->scored == 0)
        return qrb__fail(text->ctx, QRB_E_SHAPE,
                         "evaluation: a text of %zu tokens has none to score "
                         "in windows of %zu",
                         text->count, text->options.context);
    return QRB_OK;
}

static qrb_status make_buffers(struct qrb__text *text)
{
    const struct qrb__scorer *scorer = &text->scorer;
    const size_t copies = scorer->base != NULL ? 2 : scorer->needs_logits;
    const size_t row = copies * scorer->model->callbacks.vocab * sizeof(float);
    const size_t context = text->options.context < text->count
                               ? text->options.context
                               : text->count;
    size_t tokens;

    text->batch = text->options.batch < text->windows ? text->options.batch
                                                      : text->windows;
    while (text->batch > 1 && row > 0 &&
           text->batch > LOGITS_BYTES / row / context)
        text->batch--;
    if (!qrb__mul_size(text->batch, context, &tokens))
        return qrb__fail(text->ctx, QRB_E_SHAPE,
                         "evaluation: batches of [%zu, %zu] do not fit",
                         text->batch, context);
    text->tokens = qrb__alloc_array(text->ctx, tokens, sizeof *text->tokens);
    text->first_scored =
        qrb__alloc_array(text->ctx, text->batch, sizeof *text->first_scored);
    if (text->tokens == NULL || text->first_scored == NULL)
        return qrb__fail(text->ctx, QRB_E_NO_MEMORY,
                         "evaluation: batches of [%zu, %zu]", text->batch,
                         context);
    /* A window scores at most all of its tokens but one. */
    return qrb__scorer_reserve(&text->scorer, tokens - text->batch);
}

qrb_status qrb__text_open(struct qrb__text *text, qrb_model *model,
                          qrb_model *base, const int32_t *tokens, size_t count,
                          const qrb_evaluate_options *options)
{
    const qrb_evaluate_options defaults = QRB_EVALUATE_OPTIONS_INIT;
    qrb_status status;

    *text = (struct qrb__text){
        .ctx = model->ctx,
        .scorer = { .model = model },
        .options = defaults,
        .source = tokens,
        .count = count,
    };
    status = qrb__options_copy(text->ctx, options, sizeof defaults,
                               "evaluate options", &text->options);
    if (status == QRB_OK)
        status = check_options(text->ctx, &text->options);
    if (status != QRB_OK)
        return status;
    if (text->options.mode != QRB_WINDOW_SLIDING)
        text->options.stride = text->options.context;
    if (tokens == NULL)
        return qrb__fail(text->ctx, QRB_E_INVALID_ARG,
                         "evaluation: tokens is NULL");
    if ((model->callbacks.flags & QRB_HOST_TOKEN_BATCHES) == 0 ||
        (base != NULL && (base->callbacks.flags & QRB_HOST_TOKEN_BATCHES) == 0))
        return qrb__fail(text->ctx, QRB_E_UNSUPPORTED,
                         "evaluation: the %s does not take token batches "
                         "(QRB_HOST_TOKEN_BATCHES)",
                         (model->callbacks.flags & QRB_HOST_TOKEN_BATCHES) == 0
                             ? "model"
                             : "base");
    status = check_tokens(text);
    if (status == QRB_OK)
        status = count_windows(text);
    if (status == QRB_OK)
        status = qrb__scorer_open(&text->scorer, model, base);
    if (status == QRB_OK)
        status = make_buffers(text);
    return status;
}

/* Copy windows of one length, from window `first` on, into a batch. */
static size_t fill_batch(struct qrb__text *text, size_t first,
                         qrb_token_batch *out, size_t *rows_out)
{
    qrb_window window;

    *out = (qrb_token_batch)QRB_TOKEN_BATCH_INIT;
    *rows_out = 0;
    while (out->sequences < text->batch &&
           window_at(text, first + out->sequences, &window)) {
        const size_t length = window.end - window.begin;
        int32_t *row;

        if (out->sequences == 0)
            out->length = length;
        if (length != out->length)
            break;
        row = text->tokens + out->sequences * length;
        memcpy(row, text->source + window.begin, length * sizeof *row);
        if (text->options.mode == QRB_WINDOW_LLAMACPP && text->options.bos >= 0)
            row[0] = text->options.bos;
        text->first_scored[out->sequences] = window.first_scored - window.begin;
        *rows_out += window.end - window.first_scored;
        out->sequences++;
    }
    out->tokens = text->tokens;
    out->first_scored = text->first_scored;
    return out->sequences;
}

static qrb_status add_windows(struct qrb__text *text, const char *what,
                              qrb_metric *metric)
{
    size_t done = 0;

    while (done < text->windows) {
        qrb_token_batch batch;
        bool skipped = false;
        size_t rows;
        const size_t windows = fill_batch(text, done, &batch, &rows);
        qrb_status status = QRB_OK;

        if (rows > 0)
            status =
                qrb__scorer_add(&text->scorer, &batch, rows, metric, &skipped);
        if (status != QRB_OK || (skipped && text->whole))
            return status;
        done += windows;
        status = what == NULL
                     ? qrb__cancelled(text->ctx)
                     : qrb__progress(text->ctx, what, done, text->windows);
        if (status != QRB_OK)
            return status;
    }
    return QRB_OK;
}

qrb_status qrb__text_run(struct qrb__text *text, const char *what,
                         qrb_metric_result *out)
{
    qrb_metric *metric = NULL;
    qrb_status status;

    text->scorer.model->skips = 0; /* each run counts its own */
    status = qrb_metric_create(text->ctx, &metric);
    if (status == QRB_OK)
        status = add_windows(text, what, metric);
    if (status == QRB_OK)
        status = qrb_metric_get(metric, out);
    /* A mean over the windows that a damaged model survived would flatter. */
    if (status == QRB_OK && out->scored != text->scored) {
        out->nll = NAN;
        out->perplexity = NAN;
    }
    qrb_metric_destroy(metric);
    return status;
}

qrb_status qrb__text_close(struct qrb__text *text, qrb_status status)
{
    qrb__free(text->ctx, text->tokens);
    qrb__free(text->ctx, text->first_scored);
    return qrb__scorer_close(&text->scorer, status);
}
