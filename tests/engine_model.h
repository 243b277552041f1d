/* Models and batches for the tests of the engine. */
#ifndef TESTS_ENGINE_MODEL_H
#define TESTS_ENGINE_MODEL_H

#include "engine_variants.h"
#include "matrix.h"
#include "model/model.h"

static inline qrb_parameter parameter_at(const qrb_model *model, size_t index)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;

    ck_assert_int_eq(qrb_model_parameter(model, index, &parameter), QRB_OK);
    return parameter;
}

static inline qrb_context *make_threads(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

static inline qrb_model *make_model(qrb_context *ctx,
                                    const qrb_engine_config *config,
                                    uint32_t dtype)
{
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_model *model = NULL;

    options.dtype = dtype;
    ASSERT_OK(ctx, qrb_engine_create(ctx, config, &options, &model));
    scatter_weights(model);
    return model;
}

enum { BATCH_SEQUENCES = 3, BATCH_LENGTH = 150 };

/* A fixed text. */
static inline void fill_tokens(int32_t *tokens, size_t count, size_t vocab)
{
    for (size_t i = 0; i < count; i++)
        tokens[i] = (int32_t)((i * i * 7 + i * 3 + 5) % vocab);
}

/* A batch of [sequences, length] of that text, each sequence with another
 * first scored token. */
struct test_batch {
    int32_t tokens[BATCH_SEQUENCES * BATCH_LENGTH];
    size_t first[BATCH_SEQUENCES];
    qrb_token_batch batch;
};

static inline void fill_batch(struct test_batch *out, size_t sequences,
                              size_t length, size_t vocab)
{
    const qrb_token_batch none = QRB_TOKEN_BATCH_INIT;

    ck_assert_uint_le(sequences, BATCH_SEQUENCES);
    ck_assert_uint_le(length, BATCH_LENGTH);
    fill_tokens(out->tokens, sequences * length, vocab);
    for (size_t s = 0; s < sequences; s++)
        out->first[s] = 1 + s * length / 4;
    out->batch = none;
    out->batch.tokens = out->tokens;
    out->batch.first_scored = out->first;
    out->batch.sequences = sequences;
    out->batch.length = length;
}

static inline double loss_of(qrb_model *model, const struct test_batch *batch)
{
    bool skipped = false;
    size_t scored = 0;
    double loss = 0;

    ASSERT_OK(model->ctx, qrb__model_loss(model, &batch->batch, &loss, &scored,
                                          &skipped));
    ck_assert(!skipped);
    return loss;
}

static inline double loss_and_gradients(qrb_model *model,
                                        const struct test_batch *batch,
                                        double weight)
{
    bool skipped = false;
    size_t scored = 0;
    double loss = 0;

    ASSERT_OK(model->ctx,
              qrb__model_loss_and_grad(model, &batch->batch, weight, &loss,
                                       &scored, &skipped));
    ck_assert(!skipped);
    return loss;
}

#endif
