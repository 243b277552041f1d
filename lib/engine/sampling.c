/* Choosing the next token.  What is kept of the distribution comes from a heap
 * of ids, the most probable first, so that the whole vocabulary is never
 * sorted: O(vocab + kept log vocab) time, in memory of the generator. */
#include <math.h>

#include "core/random.h"
#include "core/rounding.h"
#include "engine/generator.h"

static qrb_status take_options(const struct qrb_generator *generator,
                               const qrb_sampling_options *options,
                               qrb_sampling_options *known)
{
    qrb_context *ctx = generator->ctx;
    const size_t vocab = generator->view.config.vocab;
    qrb_status status = qrb__options_copy(ctx, options, sizeof *known,
                                          "sampling options", known);

    if (status != QRB_OK)
        return status;
    if (!isfinite(known->temperature) || known->temperature < 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "sampling options: temperature is %g; it is 0 or "
                         "more",
                         known->temperature);
    if (!(known->top_p > 0 && known->top_p <= 1))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "sampling options: top_p is %g; it is above 0 and at "
                         "most 1",
                         known->top_p);
    if (known->vocab > vocab)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "sampling options: vocab is %zu; the model has %zu "
                         "tokens",
                         known->vocab, vocab);
    if (known->vocab == 0)
        known->vocab = vocab;
    if (known->top_k == 0 || known->top_k > known->vocab)
        known->top_k = known->vocab;
    return QRB_OK;
}

static double logit_at(const struct qrb_generator *generator, size_t id)
{
    return generator->view.dtype == QRB_F32
               ? (double)((const float *)generator->logits)[id]
               : ((const double *)generator->logits)[id];
}

/* The smallest of the ids with the largest logit. */
static qrb_status find_best(const struct qrb_generator *generator,
                            size_t vocab, size_t *out)
{
    *out = 0;
    for (size_t id = 0; id < vocab; id++) {
        const double logit = logit_at(generator, id);

        if (!isfinite(logit))
            return qrb__fail(generator->ctx, QRB_E_NOT_FINITE,
                             "the logit of token %zu is %g after %zu tokens",
                             id, logit, generator->length);
        if (logit > logit_at(generator, *out))
            *out = id;
    }
    return QRB_OK;
}

/* Whether id a goes before id b. */
static bool before(const double *weights, uint32_t a, uint32_t b)
{
    return weights[a] > weights[b] || (weights[a] == weights[b] && a < b);
}

static void sink(const double *weights, uint32_t *heap, size_t at, size_t count)
{
    const uint32_t id = heap[at];

    for (size_t child = 2 * at + 1; child < count; child = 2 * at + 1) {
        if (child + 1 < count && before(weights, heap[child + 1], heap[child]))
            child++;
        if (!before(weights, heap[child], id))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = id;
}

/* Keep the most probable ids, at the end of the generator's order, the first
 * of them last; returns how many, and the sum of their weights. */
static size_t keep(struct qrb_generator *generator,
                   const qrb_sampling_options *options, double total,
                   double *sum_out)
{
    const size_t vocab = options->vocab;
    const bool all = options->top_k == vocab;
    const double *weights = generator->weights;
    uint32_t *order = generator->order;
    double enough = all ? options->top_p * total : INFINITY;
    double sum = 0;
    size_t kept = 0;

    for (size_t id = 0; id < vocab; id++)
        order[id] = (uint32_t)id;
    for (size_t i = vocab / 2; i-- > 0;)
        sink(weights, order, i, vocab);
    while (kept < options->top_k && sum < enough) {
        const size_t left = vocab - kept - 1;
        const uint32_t first = order[0];

        order[0] = order[left];
        order[left] = first;
        sink(weights, order, 0, left);
        sum += weights[first];
        kept++;
    }
    if (!all) {
        enough = options->top_p * sum;
        sum = 0;
        kept = 0;
        while (kept < options->top_k && sum < enough)
            sum += weights[order[vocab - ++kept]];
    }
    *sum_out = sum;
    return kept;
}

static size_t draw(struct qrb_generator *generator,
                   const qrb_sampling_options *options, double best)
{
    const struct qrb__random random =
        qrb__random_at(options->seed, 0,
                       qrb__random_stream(QRB__RANDOM_SAMPLE, 0, 0, 0));
    const size_t vocab = options->vocab;
    double u = qrb__random_uniform(&random, generator->length);
    double sum = 0;
    size_t kept = vocab;
    size_t id = 0;
    bool ordered;

    for (size_t i = 0; i < vocab; i++) {
        generator->weights[i] =
            exp((logit_at(generator, i) - best) / options->temperature);
        sum += generator->weights[i];
    }
    ordered = options->top_k < vocab || options->top_p < 1;
    if (ordered)
        kept = keep(generator, options, sum, &sum);
    u *= sum;
    for (size_t i = 0; i < kept; i++) {
        const size_t next = ordered ? generator->order[vocab - 1 - i] : i;

        if (generator->weights[next] == 0)
            continue; /* what cannot come does not, however sums round */
        id = next;
        u -= generator->weights[id];
        if (u < 0)
            break;
    }
    return id;
}

qrb_status qrb_generator_sample(qrb_generator *generator,
                                const qrb_sampling_options *options,
                                int32_t *token_out)
{
    qrb_sampling_options known = QRB_SAMPLING_OPTIONS_INIT;
    qrb_status status;
    size_t id;
    fenv_t host;

    if (generator == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(generator->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (token_out == NULL)
        return qrb__fail(generator->ctx, QRB_E_INVALID_ARG,
                         "token_out is NULL");
    status = take_options(generator, options, &known);
    if (status != QRB_OK)
        return status;
    if (generator->length == 0)
        return qrb__fail(generator->ctx, QRB_E_STATE,
                         "nothing was fed, and no token follows");
    qrb__rounding_begin(&host);
    status = find_best(generator, known.vocab, &id);
    if (status == QRB_OK && known.temperature > 0)
        id = draw(generator, &known, logit_at(generator, id));
    qrb__rounding_end(&host);
    if (status == QRB_OK)
        *token_out = (int32_t)id;
    return status;
}
