/* The small host as drivers over whole models meet it, and recipes to train
 * and to repair it by. */
#ifndef TESTS_RECIPE_HOST_H
#define TESTS_RECIPE_HOST_H

#include <stdbool.h>

#include "harness.h"
#include "mock_host.h"

enum { TEXT = 400, MAX_WEIGHTS = 1024 };

static qrb_context *ctx;
static struct mock_host *host;
static int32_t text[TEXT];
static float before[MAX_WEIGHTS];

/* A host that has learnt its text: noise on its weights costs perplexity. */
static inline void learn_for(struct mock_host *learner, uint64_t steps)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_dataset_options shape = { sizeof shape, 4, 16 };
    qrb_dataset *dataset = NULL;
    qrb_trainer *trainer = NULL;

    options.steps = steps;
    options.lr = 0.03;
    ASSERT_OK(learner->ctx,
              qrb_dataset_create(learner->ctx, text, TEXT, &shape, &dataset));
    ASSERT_OK(learner->ctx,
              qrb_trainer_create(learner->model, dataset, &options, &trainer));
    ASSERT_OK(learner->ctx, qrb_trainer_run(trainer, NULL));
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);
}

static inline void learn(struct mock_host *learner)
{
    learn_for(learner, 150);
}

static inline void open_host(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &host));
    mock_text(text, TEXT, 3);
    mock_copy_weights(host, before);
}

static inline void set_up(void)
{
    open_host(1);
}

static inline void tear_down(void)
{
    mock_host_destroy(host);
    qrb_context_destroy(ctx);
}

/* Bigrams over four tokens: the successor of x is x + 1 modulo 4 with
 * probability 1/2, each other token with 1/6.  The base knows nothing: 1/4. */
static uint32_t selected;    /* by select_model */
static size_t widest;        /* sequences of a batch so far */
static int32_t openings[64]; /* first token of each sequence so far */
static size_t sequences_seen;
static size_t fail_bigram; /* calls until one fails; 0: none */

static inline int enter_bigram(const void *batch)
{
    const qrb_token_batch *tokens = batch;

    if (tokens->sequences > widest)
        widest = tokens->sequences;
    for (size_t s = 0; s < tokens->sequences && sequences_seen < 64; s++)
        openings[sequences_seen++] = tokens->tokens[s * tokens->length];
    return fail_bigram > 0 && --fail_bigram == 0 ? -3 : 0;
}

static inline int bigram_logits(const void *batch, float *logits,
                                int32_t *targets, size_t rows, void *user)
{
    const qrb_token_batch *tokens = batch;
    const bool flat = user != NULL || selected == QRB_PASS_BASE;
    size_t row = 0;
    const int code = enter_bigram(batch);

    (void)rows;
    for (size_t s = 0; s < tokens->sequences; s++)
        for (size_t t = tokens->first_scored[s]; t < tokens->length; t++) {
            const int32_t *at = tokens->tokens + s * tokens->length + t;

            for (int32_t v = 0; v < 4; v++)
                logits[row * 4 + (size_t)v] =
                    !flat && v == (at[-1] + 1) % 4 ? logf(3.0f) : 0.0f;
            targets[row++] = at[0];
        }
    return code;
}

static inline int bigram_nll(const void *batch, float *nll, size_t rows,
                             void *user)
{
    const qrb_token_batch *tokens = batch;
    size_t row = 0;

    (void)rows;
    (void)user;
    for (size_t s = 0; s < tokens->sequences; s++)
        for (size_t t = tokens->first_scored[s]; t < tokens->length; t++) {
            const int32_t *at = tokens->tokens + s * tokens->length + t;

            nll[row++] = logf(at[0] == (at[-1] + 1) % 4 ? 2.0f : 6.0f);
        }
    return enter_bigram(batch);
}

static inline int select_bigrams(uint32_t pass_role, void *user)
{
    (void)user;
    selected = pass_role;
    return 0;
}

/* user != NULL: the model that knows nothing. */
static inline qrb_model *make_bigrams(qrb_context *of, bool by_nll, bool flat)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    static int knows_nothing;
    qrb_model *model = NULL;

    callbacks.flags = QRB_HOST_TOKEN_BATCHES;
    callbacks.vocab = 4;
    callbacks.logits = bigram_logits;
    if (by_nll)
        callbacks.token_nll = bigram_nll;
    callbacks.user = flat ? &knows_nothing : NULL;
    callbacks.select_model = select_bigrams;
    selected = QRB_PASS_STUDENT;
    widest = sequences_seen = fail_bigram = 0;
    ASSERT_OK(of, qrb_model_create(of, &callbacks, &model));
    return model;
}

/* Successors: steps of 1 but into places 3 and 7. */
static const int32_t eleven[11] = { 0, 1, 2, 0, 1, 2, 3, 1, 2, 3, 0 };

static inline struct mock_host *adjusted(void (*adjust)(qrb_host_callbacks *))
{
    struct mock_host *made = NULL;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, adjust, &made));
    return made;
}

static inline qrb_quantizer *named(const char *name)
{
    qrb_quantizer *quantizer = NULL;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

/* A tensor over floats of a host. */
static inline qrb_tensor *matrix(float *memory, size_t rows, size_t cols)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.memory = memory;
    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

static inline qrb_model *one_parameter(float *memory, uint32_t rank,
                                       const size_t *shape, uint32_t flags)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *tensor = NULL;
    qrb_model *model = NULL;

    options.memory = memory;
    options.rank = rank;
    for (uint32_t i = 0; i < rank; i++)
        options.shape[i] = shape[i];
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    ASSERT_OK(ctx, qrb_model_create(ctx, NULL, &model));
    parameter.name = "only";
    parameter.role = rank == 4 ? QRB_ROLE_CONV : QRB_ROLE_Q;
    parameter.weight = tensor;
    parameter.flags = flags;
    ASSERT_OK(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    qrb_tensor_destroy(tensor);
    return model;
}

static inline qrb_noise *bound_attack(qrb_model *model, uint32_t scale)
{
    qrb_attack_options options = { sizeof options, 0.25, 11, 0, 0 };
    qrb_noise *attack = NULL;

    options.scale = scale;
    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    ASSERT_OK(ctx, qrb_noise_bind(attack, model, NULL));
    return attack;
}

static inline double perplexity_of(qrb_model *model)
{
    qrb_metric_result result = { .struct_size = sizeof result };

    ASSERT_OK(ctx, qrb_evaluate_text(model, NULL, text, TEXT, NULL, &result));
    return result.perplexity;
}

/* What is changed in a recipe, and for tests whether the run resumes. */
struct recipe {
    qrb_trainer_options trainer;
    qrb_anchor_options anchor;
    qrb_dataset_options dataset;
    uint32_t resume;
};

static const struct recipe recommended = { QRB_REPAIR_TRAINER_OPTIONS_INIT,
                                           QRB_ANCHOR_OPTIONS_INIT,
                                           QRB_REPAIR_DATASET_OPTIONS_INIT, 0 };

static inline qrb_status repair_by(const struct recipe *recipe,
                                   qrb_model *model, const qrb_model *anchor,
                                   qrb_repair_result *out)
{
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;

    options.trainer = &recipe->trainer;
    options.anchor = &recipe->anchor;
    options.dataset = &recipe->dataset;
    options.resume = recipe->resume;
    return qrb_repair(model, anchor, text, TEXT, &options, out);
}

static inline struct recipe short_repair(void)
{
    struct recipe recipe = recommended;

    recipe.trainer.steps = 60;
    recipe.trainer.lr = 3e-3;
    recipe.dataset.context = 32;
    return recipe;
}

#endif
