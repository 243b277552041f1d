/* Drivers over whole models: evaluate, quantize, attack, repair; on a small
 * host written by hand, and on bigrams whose figures can be checked in the
 * head. */
#include <math.h>
#include <stdbool.h>

#include "harness.h"
#include "mock_host.h"
#include "noise/sigma_fit.h"

enum { TEXT = 400, MAX_WEIGHTS = 1024 };

static qrb_context *ctx;
static struct mock_host *host;
static int32_t text[TEXT];
static float before[MAX_WEIGHTS];

/* A host that has learnt its text: noise on its weights costs perplexity. */
static void learn_for(struct mock_host *learner, uint64_t steps)
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

static void learn(struct mock_host *learner)
{
    learn_for(learner, 150);
}

static void open_host(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &host));
    mock_text(text, TEXT, 3);
    mock_copy_weights(host, before);
}

static void set_up(void)
{
    open_host(1);
}

static void tear_down(void)
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

static int enter_bigram(const void *batch)
{
    const qrb_token_batch *tokens = batch;

    if (tokens->sequences > widest)
        widest = tokens->sequences;
    for (size_t s = 0; s < tokens->sequences && sequences_seen < 64; s++)
        openings[sequences_seen++] = tokens->tokens[s * tokens->length];
    return fail_bigram > 0 && --fail_bigram == 0 ? -3 : 0;
}

static int bigram_logits(const void *batch, float *logits, int32_t *targets,
                         size_t rows, void *user)
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

static int bigram_nll(const void *batch, float *nll, size_t rows, void *user)
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

static int select_bigrams(uint32_t pass_role, void *user)
{
    (void)user;
    selected = pass_role;
    return 0;
}

/* user != NULL: the model that knows nothing. */
static qrb_model *make_bigrams(qrb_context *of, bool by_nll, bool flat)
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

/* Sliding: all ten pairs, of which two are surprises (6 where 2 is usual).
 * Blocks (0..3), (4..7), (8..10): eight pairs, both surprises among them.
 * llama.cpp: the last token of each of two blocks, both surprises. */
START_TEST(each_mode_scores_the_tokens_that_it_should)
{
    const struct {
        uint32_t mode;
        uint64_t scored;
        uint64_t surprises;
    } cases[] = {
        { QRB_WINDOW_SLIDING, 10, 2 },
        { QRB_WINDOW_BLOCKS, 8, 2 },
        { QRB_WINDOW_LLAMACPP, 2, 2 },
    };
    qrb_model *model = make_bigrams(ctx, _i == 1, false);

    for (size_t i = 0; i < 3; i++) {
        qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
        qrb_metric_result result = { .struct_size = sizeof result };
        const double usual = (double)(cases[i].scored - cases[i].surprises);
        const double nll =
            (usual * log(2.0) + (double)cases[i].surprises * log(6.0)) /
            (double)cases[i].scored;

        options.mode = cases[i].mode;
        options.context = 4;
        options.stride = cases[i].mode == QRB_WINDOW_SLIDING ? 2 : 77;
        ASSERT_OK(
            ctx, qrb_evaluate_text(model, NULL, eleven, 11, &options, &result));
        ck_assert_uint_eq(result.scored, cases[i].scored);
        ck_assert_uint_eq(result.pairs, 0);
        ck_assert_double_eq_tol(result.nll, nll, 1e-6);
        ck_assert_double_eq_tol(result.perplexity, exp(nll), 1e-5);
        ck_assert(isnan(result.kl_mean));
    }
    qrb_model_destroy(model);
}
END_TEST

START_TEST(windows_of_one_length_share_batches_without_changing_figures)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    double first = NAN;

    options.context = 24;
    options.stride = 10;
    for (options.batch = 1; options.batch < 40; options.batch *= 3) {
        qrb_metric_result result = { .struct_size = sizeof result };

        ASSERT_OK(ctx, qrb_evaluate_text(host->model, NULL, text, TEXT,
                                         &options, &result));
        ck_assert_uint_eq(result.scored, TEXT - 1);
        if (options.batch == 1)
            first = result.nll;
        ck_assert_double_eq(result.nll, first);
    }
    {
        qrb_model *model = make_bigrams(ctx, true, false);
        qrb_metric_result result = { .struct_size = sizeof result };

        /* (0..3) (2..5) (4..7) (6..9) (8..10): four and one */
        options.context = 4;
        options.stride = 2;
        options.batch = 8;
        ASSERT_OK(
            ctx, qrb_evaluate_text(model, NULL, eleven, 11, &options, &result));
        ck_assert_uint_eq(widest, 4);
        ck_assert_uint_eq(sequences_seen, 5);
        ck_assert_int_eq(openings[4], eleven[8]);
        qrb_model_destroy(model);
    }
}
END_TEST

START_TEST(llamacpp_windows_open_with_the_given_token)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_model *model = make_bigrams(ctx, true, false);

    options.mode = QRB_WINDOW_LLAMACPP;
    options.context = 4;
    options.bos = 3;
    ASSERT_OK(ctx,
              qrb_evaluate_text(model, NULL, eleven, 11, &options, &result));
    ck_assert_uint_eq(sequences_seen, 2);
    ck_assert_int_eq(openings[0], 3);
    ck_assert_int_eq(openings[1], 3);
    sequences_seen = 0;
    options.bos = -1;
    ASSERT_OK(ctx,
              qrb_evaluate_text(model, NULL, eleven, 11, &options, &result));
    ck_assert_int_eq(openings[0], eleven[0]);
    ck_assert_int_eq(openings[1], eleven[4]);
    qrb_model_destroy(model);
}
END_TEST

/* KL(1/4 || (1/2, 1/6, 1/6, 1/6)) is the same in each row: 1/4 ln (1/2) + 3/4
 * ln (3/2).  The flat model's argmax is token 0, the other's x + 1: they agree
 * where x is 3, which it is twice before the last token. */
static void check_against_flat(const qrb_metric_result *result)
{
    const double kl = 0.25 * log(0.5) + 0.75 * log(1.5);

    ck_assert_uint_eq(result->scored, 10);
    ck_assert_uint_eq(result->pairs, 10);
    ck_assert_double_eq_tol(result->kl_mean, kl, 1e-6);
    ck_assert_double_eq_tol(result->kl_max, kl, 1e-6);
    ck_assert_double_eq_tol(result->top1_agreement, 0.2, 1e-12);
    ck_assert_double_eq_tol(result->nll,
                            (8.0 * log(2.0) + 2.0 * log(6.0)) / 10.0, 1e-6);
    /* 1/2 - 1/4 in eight rows, 1/6 - 1/4 in two */
    ck_assert_double_eq_tol(result->delta_p_mean,
                            (8.0 * 0.25 - 2.0 / 12.0) / 10.0, 1e-6);
}

START_TEST(base_is_another_model_or_the_same_host_switched)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_model *model = make_bigrams(ctx, true, false);
    qrb_model *base = make_bigrams(ctx, true, true);

    options.context = 4;
    options.stride = 2;
    ASSERT_OK(ctx,
              qrb_evaluate_text(model, base, eleven, 11, &options, &result));
    check_against_flat(&result);
    ck_assert_uint_eq(selected, QRB_PASS_STUDENT);

    ASSERT_OK(ctx,
              qrb_evaluate_text(model, model, eleven, 11, &options, &result));
    check_against_flat(&result);
    ck_assert_uint_eq(selected, QRB_PASS_STUDENT);

    /* Also where it ends early, while the base is selected. */
    fail_bigram = 3;
    ASSERT_FAILS(ctx,
                 qrb_evaluate_text(model, model, eleven, 11, &options, &result),
                 QRB_E_CALLBACK, "logits returned -3");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -3);
    ck_assert_uint_eq(selected, QRB_PASS_STUDENT);
    qrb_model_destroy(base);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(model_agrees_with_itself)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    struct mock_host *twin = NULL;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &twin));
    ASSERT_OK(ctx, qrb_evaluate_text(host->model, twin->model, text, TEXT, NULL,
                                     &result));
    ck_assert_double_eq(result.kl_max, 0.0);
    ck_assert_double_eq(result.top1_agreement, 1.0);
    ck_assert_uint_eq(host->mode, QRB_MODE_EVAL);
    ck_assert_uint_eq(twin->mode, QRB_MODE_EVAL);
    mock_host_destroy(twin);
}
END_TEST

START_TEST(unusable_windows_are_not_counted)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result };

    options.mode = QRB_WINDOW_BLOCKS;
    options.context = 40;
    options.batch = 1;
    host->nan_at = host->calls + 4; /* set_mode, two windows, this one */
    ASSERT_OK(ctx, qrb_evaluate_text(host->model, NULL, text, TEXT, &options,
                                     &result));
    ck_assert_uint_eq(result.scored, 9 * 39);
    host->nan_at = 0;
    host->fail_at = host->calls + 2;
    host->fail_many = 1000;
    host->fail_code = 1;
    options.context = 10;
    ASSERT_FAILS(
        ctx,
        qrb_evaluate_text(host->model, NULL, text, TEXT, &options, &result),
        QRB_E_CALLBACK, "16 batches in a row");
    /* Ten windows are too few for that, and none was scored. */
    options.context = 40;
    host->fail_at = host->calls + 2;
    ASSERT_FAILS(
        ctx,
        qrb_evaluate_text(host->model, NULL, text, TEXT, &options, &result),
        QRB_E_NOT_FINITE, "none of");
}
END_TEST

static size_t tap_calls;

static int count_tap(uint32_t point, size_t index, qrb_tensor *tensor,
                     void *user)
{
    (void)point;
    (void)index;
    (void)tensor;
    (void)user;
    tap_calls++;
    return 0;
}

START_TEST(listeners_of_the_pass_in_force_hear_an_evaluation)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_pass *pass = NULL;

    ASSERT_OK(ctx, qrb_pass_create(host->model, NULL, &pass));
    ASSERT_OK(ctx,
              qrb_pass_listen(pass, QRB_TAP_LINEAR_INPUT, count_tap, NULL));
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, pass));
    tap_calls = 0;
    ASSERT_OK(ctx,
              qrb_evaluate_text(host->model, NULL, text, 21, NULL, &result));
    ck_assert_uint_eq(tap_calls, 2 * 20);
    qrb_pass_destroy(pass);
}
END_TEST

static void take_tokens_away(qrb_host_callbacks *callbacks)
{
    callbacks->flags = 0;
}

static void take_scores_away(qrb_host_callbacks *callbacks)
{
    callbacks->logits = NULL;
    callbacks->token_nll = NULL;
}

static void take_logits_away(qrb_host_callbacks *callbacks)
{
    callbacks->logits = NULL;
}

static void take_select_away(qrb_host_callbacks *callbacks)
{
    callbacks->select_model = NULL;
}

static struct mock_host *adjusted(void (*adjust)(qrb_host_callbacks *))
{
    struct mock_host *made = NULL;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, adjust, &made));
    return made;
}

#define EVALUATION_REFUSES(model, base, tokens, count, expected, words)        \
    ASSERT_FAILS(                                                              \
        ctx, qrb_evaluate_text(model, base, tokens, count, &options, &result), \
        expected, words)

START_TEST(evaluations_that_make_no_sense_are_refused)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result, .scored = 7 };
    struct mock_host *no_tokens = adjusted(take_tokens_away);
    struct mock_host *no_scores = adjusted(take_scores_away);
    struct mock_host *no_logits = adjusted(take_logits_away);
    struct mock_host *no_select = adjusted(take_select_away);
    qrb_model *four = make_bigrams(ctx, true, false);
    qrb_context *other_ctx = make_context(NULL);
    qrb_model *other = make_bigrams(other_ctx, true, false);
    const int32_t outside[4] = { 1, 2, 16, 3 };
    const int32_t negative[4] = { 1, -2, 6, 3 };

    EVALUATION_REFUSES(no_tokens->model, NULL, text, TEXT, QRB_E_UNSUPPORTED,
                       "the model does not take token batches");
    EVALUATION_REFUSES(host->model, no_tokens->model, text, TEXT,
                       QRB_E_UNSUPPORTED, "the base does not take");
    EVALUATION_REFUSES(no_scores->model, NULL, text, TEXT, QRB_E_UNSUPPORTED,
                       "neither");
    EVALUATION_REFUSES(no_logits->model, host->model, text, TEXT,
                       QRB_E_UNSUPPORTED, "logits");
    EVALUATION_REFUSES(host->model, no_logits->model, text, TEXT,
                       QRB_E_UNSUPPORTED, "logits");
    EVALUATION_REFUSES(no_select->model, no_select->model, text, TEXT,
                       QRB_E_INVALID_ARG, "select_model");
    EVALUATION_REFUSES(host->model, four, text, TEXT, QRB_E_SHAPE,
                       "16 tokens, that of the base 4");
    EVALUATION_REFUSES(four, other, eleven, 11, QRB_E_INVALID_ARG,
                       "two contexts");
    EVALUATION_REFUSES(host->model, NULL, outside, 4, QRB_E_INVALID_ARG,
                       "token 2 is 16");
    EVALUATION_REFUSES(host->model, NULL, negative, 4, QRB_E_INVALID_ARG,
                       "token 1 is -2");
    EVALUATION_REFUSES(host->model, NULL, NULL, 4, QRB_E_INVALID_ARG, "NULL");
    EVALUATION_REFUSES(host->model, NULL, text, 0, QRB_E_SHAPE, "none");
    EVALUATION_REFUSES(host->model, NULL, text, 1, QRB_E_SHAPE, "none");
    options.mode = QRB_WINDOW_LLAMACPP;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_SHAPE, "none");
    options.bos = 16;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG, "bos");
    options.mode = 3;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "mode");
    options = (qrb_evaluate_options)QRB_EVALUATE_OPTIONS_INIT;
    options.context = 1;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "context");
    options.context = options.stride = 8;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "stride");
    options.stride = 0;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "stride");
    options.stride = 4;
    options.batch = 0;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "batch");
    ck_assert_int_eq(qrb_evaluate_text(NULL, NULL, text, TEXT, NULL, &result),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(
        qrb_evaluate_text(host->model, NULL, text, TEXT, NULL, NULL),
        QRB_E_INVALID_ARG);
    ck_assert_uint_eq(result.scored, 7); /* untouched all along */
    result.struct_size = 4;
    options = (qrb_evaluate_options)QRB_EVALUATE_OPTIONS_INIT;
    EVALUATION_REFUSES(host->model, NULL, text, TEXT, QRB_E_INVALID_ARG,
                       "struct_size");
    qrb_model_destroy(other);
    qrb_context_destroy(other_ctx);
    qrb_model_destroy(four);
    mock_host_destroy(no_select);
    mock_host_destroy(no_logits);
    mock_host_destroy(no_scores);
    mock_host_destroy(no_tokens);
}
END_TEST

/* Own batches have 20 + index % 13 rows, 40 of them. */
START_TEST(batches_of_the_host_are_scored_to_their_end)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    void (*adjust[2])(qrb_host_callbacks *) = { NULL, take_select_away };

    for (int i = 0; i < 2; i++) {
        struct mock_host *own = NULL;

        ASSERT_OK(ctx,
                  mock_host_create(ctx, MOCK_OWN_BATCHES, 1, adjust[i], &own));
        ASSERT_OK(ctx, qrb_evaluate_batches(own->model, &result));
        /* 3 * (20 + ... + 32) + 20 */
        ck_assert_uint_eq(result.scored, 3 * 338 + 20);
        ck_assert_uint_eq(result.pairs, i == 0 ? result.scored : 0);
        ck_assert_double_gt(result.perplexity, 1.0);
        ck_assert_uint_eq(own->batches, 0);
        ck_assert_uint_eq(own->counts[MOCK_BATCH], MOCK_BATCHES + 1);
        mock_host_destroy(own);
    }
    {
        qrb_model *model = make_bigrams(ctx, true, false);

        ASSERT_FAILS(ctx, qrb_evaluate_batches(model, &result),
                     QRB_E_UNSUPPORTED, "batch");
        qrb_model_destroy(model);
    }
    ck_assert_int_eq(qrb_evaluate_batches(NULL, &result), QRB_E_INVALID_ARG);
}
END_TEST

/* (0 1 2): two usual steps; (1 1): a surprise; one token: nothing. */
START_TEST(prompts_are_scored_one_by_one)
{
    const int32_t tokens[] = { 0, 1, 2, 3, 1, 1 };
    const size_t lengths[] = { 3, 1, 0, 2 };
    double perplexity[4] = { 0.0 };
    qrb_model *model = make_bigrams(ctx, _i == 1, false);

    ASSERT_OK(ctx, qrb_evaluate_prompts(model, tokens, lengths, 4, perplexity));
    ck_assert_double_eq_tol(perplexity[0], 2.0, 1e-6);
    ck_assert(isnan(perplexity[1]));
    ck_assert(isnan(perplexity[2]));
    ck_assert_double_eq_tol(perplexity[3], 6.0, 1e-5);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(prompts_that_make_no_sense_are_refused)
{
    const int32_t tokens[] = { 0, 1, 16, 3 };
    const size_t lengths[] = { 2, 2 };
    double perplexity[2] = { -1.0, -1.0 };
    struct mock_host *no_tokens = adjusted(take_tokens_away);

    ASSERT_FAILS(
        ctx, qrb_evaluate_prompts(host->model, tokens, lengths, 2, perplexity),
        QRB_E_INVALID_ARG, "prompt 1: token 0 is 16");
    ASSERT_FAILS(
        ctx, qrb_evaluate_prompts(host->model, tokens, lengths, 0, perplexity),
        QRB_E_SHAPE, "no prompt");
    ASSERT_FAILS(
        ctx,
        qrb_evaluate_prompts(no_tokens->model, text, lengths, 2, perplexity),
        QRB_E_UNSUPPORTED, "token batches");
    ck_assert_int_eq(
        qrb_evaluate_prompts(host->model, NULL, lengths, 2, perplexity),
        QRB_E_INVALID_ARG);
    ck_assert_double_eq(perplexity[0], -1.0);
    mock_host_destroy(no_tokens);
}
END_TEST

static qrb_quantizer *named(const char *name)
{
    qrb_quantizer *quantizer = NULL;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

/* A tensor over floats of a host. */
static qrb_tensor *matrix(float *memory, size_t rows, size_t cols)
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

START_TEST(fake_quantization_is_that_of_each_matrix_in_blocks)
{
    qrb_quantizer *quantizer = named("rtn3");
    struct mock_host *twin = NULL;
    qrb_tensor *fc1;
    qrb_tensor *fc2;
    float expected[MAX_WEIGHTS];

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &twin));
    fc1 = matrix(twin->weights[MOCK_FC1], MOCK_HIDDEN, MOCK_DIM);
    fc2 = matrix(twin->weights[MOCK_FC2], MOCK_DIM, MOCK_HIDDEN);
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, fc1));
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, fc2));
    mock_copy_weights(twin, expected);
    ASSERT_OK(ctx, qrb_fake_quantize(host->model, quantizer, NULL));
    ck_assert(mock_weights_equal(host, expected));
    ck_assert(!mock_weights_equal(host, before));
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN], 2);
    qrb_tensor_destroy(fc1);
    qrb_tensor_destroy(fc2);
    mock_host_destroy(twin);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(failed_quantization_changes_no_weight_and_names_the_tensor)
{
    qrb_quantizer *quantizer = named("rtn4");
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };

    host->weights[MOCK_FC2][5] = NAN;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, NULL),
                 QRB_E_NOT_FINITE, "fc2");
    ck_assert(mock_weights_equal(host, before));
    host->weights[MOCK_FC2][5] = 0.5f;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, &all),
                 QRB_E_SHAPE, "bias: found [12]");
    ck_assert(mock_weights_equal(host, before));
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, NULL, NULL),
                 QRB_E_INVALID_ARG, "NULL");
    ck_assert_int_eq(qrb_fake_quantize(NULL, quantizer, NULL),
                     QRB_E_INVALID_ARG);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(perturbed_weights_are_not_quantized)
{
    const qrb_attack_options options = { sizeof options, 0.1, 0, 0, 0 };
    qrb_quantizer *quantizer = named("int8");
    qrb_noise *attack = NULL;

    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    ASSERT_OK(ctx, qrb_noise_bind(attack, host->model, NULL));
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, NULL),
                 QRB_E_STATE, "perturbed");
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    ck_assert(mock_weights_equal(host, before));
    qrb_noise_destroy(attack);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

static qrb_model *one_parameter(float *memory, uint32_t rank,
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

/* Scales belong to outputs: columns of what is stored [in, out], filters of a
 * convolution. */
START_TEST(outputs_are_quantized_as_rows_however_they_are_stored)
{
    const size_t in_out[2] = { 6, 4 };
    const size_t filters[4] = { 4, 3, 2, 1 };
    qrb_quantizer *quantizer = named("rtn4");
    float rows[24];
    float transposed[24];
    float convolution[24];
    qrb_tensor *tensor = matrix(rows, 4, 6);
    qrb_model *model;

    for (size_t r = 0; r < 4; r++)
        for (size_t c = 0; c < 6; c++) {
            const float w = (float)(r + 1) * sinf((float)(7 * r + 3 * c));

            rows[r * 6 + c] = convolution[r * 6 + c] = w;
            transposed[c * 4 + r] = w;
        }
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
    model = one_parameter(transposed, 2, in_out, QRB_PARAM_TRANSPOSED);
    ASSERT_OK(ctx, qrb_fake_quantize(model, quantizer, NULL));
    qrb_model_destroy(model);
    model = one_parameter(convolution, 4, filters, 0);
    ASSERT_OK(ctx, qrb_fake_quantize(model, quantizer, NULL));
    qrb_model_destroy(model);
    ck_assert_mem_eq(convolution, rows, sizeof rows);
    for (size_t r = 0; r < 4; r++)
        for (size_t c = 0; c < 6; c++)
            ck_assert_float_eq(transposed[c * 4 + r], rows[r * 6 + c]);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

/* Methods G4.1. */
START_TEST(fit_of_sigma_gives_the_golden_numbers)
{
    const double sigma[4] = { 0.002, 0.004, 0.006, 0.008 };
    const double log_ratio[4] = { log(1.02), log(1.07), log(1.17), log(1.33) };
    const double target[3] = { log(1.10), log(1.15), log(1.20) };
    const double expected[2][3] = {
        { 0.0046534674, 0.0056261426, 0.0064207938 },
        { 0.0046408176, 0.0056197801, 0.0064186525 },
    };
    const struct qrb__sigma_fit fit = qrb__sigma_fit(sigma, log_ratio, 4);
    const struct qrb__sigma_fit origin =
        qrb__sigma_fit_origin(sigma, log_ratio, 4);

    ck_assert_double_eq_tol(fit.slope, 4445.7447385990, 0.5e-6);
    ck_assert_double_eq_tol(fit.intercept, -0.0009613505, 0.5e-10);
    ck_assert(!fit.through_origin);
    ck_assert_double_eq_tol(origin.slope, 4425.3771442211, 0.5e-6);
    for (int i = 0; i < 3; i++) {
        ck_assert_double_eq_tol(qrb__sigma_fit_solve(&fit, target[i]),
                                expected[0][i], 0.5e-10);
        ck_assert_double_eq_tol(qrb__sigma_fit_solve(&origin, target[i]),
                                expected[1][i], 0.5e-10);
    }
}
END_TEST

START_TEST(fit_that_is_no_line_goes_through_the_origin)
{
    const double sigma[3] = { 1.0, 2.0, 3.0 };
    const double shifted[3] = { 1.1, 4.1, 9.1 };   /* b = 0.1 */
    const double falling[3] = { 0.3, 0.2, 0.1 };   /* a < 0 */
    const double curved[3] = { -0.01, 0.0, 0.16 }; /* R^2 = 0.92 */

    ck_assert(qrb__sigma_fit(sigma, shifted, 3).through_origin);
    ck_assert(qrb__sigma_fit(sigma, falling, 3).through_origin);
    ck_assert(qrb__sigma_fit(sigma, curved, 3).through_origin);
    {
        const double opposite[3] = { -1.0, -4.0, -9.0 };
        const struct qrb__sigma_fit fit = qrb__sigma_fit(sigma, opposite, 3);

        ck_assert_double_eq_tol(fit.slope, -1.0, 1e-12);
        ck_assert(isnan(qrb__sigma_fit_solve(&fit, 1.0)));
    }
}
END_TEST

static qrb_noise *bound_attack(qrb_model *model, uint32_t scale)
{
    qrb_attack_options options = { sizeof options, 0.25, 11, 0, 0 };
    qrb_noise *attack = NULL;

    options.scale = scale;
    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    ASSERT_OK(ctx, qrb_noise_bind(attack, model, NULL));
    return attack;
}

static double perplexity_of(qrb_model *model)
{
    qrb_metric_result result = { .struct_size = sizeof result };

    ASSERT_OK(ctx, qrb_evaluate_text(model, NULL, text, TEXT, NULL, &result));
    return result.perplexity;
}

START_TEST(calibrated_attack_writes_weights_of_the_achieved_ratio)
{
    const double ratios[4] = { 1.05, 1.2, 1.5, 3.0 };
    double clean;

    learn(host);
    mock_copy_weights(host, before);
    clean = perplexity_of(host->model);
    for (uint64_t seed = 0; seed < 2; seed++)
        for (int i = 0; i < 4; i++) {
            qrb_noise *attack =
                bound_attack(host->model, seed == 0 ? QRB_SIGMA_ABSOLUTE
                                                    : QRB_SIGMA_RELATIVE);
            qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
            qrb_calibrate_result result = { .struct_size = sizeof result };
            qrb_snapshot *snapshot = NULL;

            options.ratio = ratios[i];
            options.seed = seed;
            ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                                &options, &result));
            ck_assert(mock_weights_equal(host, before));
            ck_assert_double_eq_tol(result.achieved_ratio / ratios[i], 1.0,
                                    0.01);
            ck_assert_double_gt(result.sigma, 0.0);
            ck_assert_double_gt(result.slope, 0.0);
            ck_assert_uint_ge(result.evaluations, 1 + 1 + 4 * 3 + 3 + 1);
            /* It is left set to what was found. */
            ASSERT_OK(ctx, qrb_snapshot_create(host->model, NULL, &snapshot));
            ASSERT_OK(ctx, qrb_attack_apply(attack));
            ck_assert_double_eq_tol(perplexity_of(host->model) / clean,
                                    result.achieved_ratio, 1e-12);
            ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
            qrb_snapshot_destroy(snapshot);
            qrb_noise_destroy(attack);
        }
}
END_TEST

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

static qrb_status repair_by(const struct recipe *recipe, qrb_model *model,
                            const qrb_model *anchor, qrb_repair_result *out)
{
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;

    options.trainer = &recipe->trainer;
    options.anchor = &recipe->anchor;
    options.dataset = &recipe->dataset;
    options.resume = recipe->resume;
    return qrb_repair(model, anchor, text, TEXT, &options, out);
}

static struct recipe short_repair(void)
{
    struct recipe recipe = recommended;

    recipe.trainer.steps = 60;
    recipe.trainer.lr = 3e-3;
    recipe.dataset.context = 32;
    return recipe;
}

START_TEST(recipes_have_the_same_bits_with_any_number_of_threads)
{
    double sigma[3];
    double repaired[3];
    float weights[3][MAX_WEIGHTS] = { { 0 } };

    for (size_t threads = 1; threads <= 3; threads++) {
        qrb_calibrate_result found = { .struct_size = sizeof found };
        struct recipe recipe = recommended;
        qrb_noise *attack;

        open_host(threads);
        learn_for(host, 20);
        attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
        ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                            NULL, &found));
        sigma[threads - 1] = found.sigma;
        ASSERT_OK(ctx, qrb_attack_apply(attack));
        recipe.trainer.steps = 5;
        recipe.dataset.context = 32;
        ASSERT_OK(ctx, repair_by(&recipe, host->model, NULL, NULL));
        repaired[threads - 1] = perplexity_of(host->model);
        mock_copy_weights(host, weights[threads - 1]);
        ck_assert_double_eq(sigma[0], sigma[threads - 1]);
        ck_assert_double_eq(repaired[0], repaired[threads - 1]);
        ck_assert_mem_eq(weights[0], weights[threads - 1], sizeof *weights);
        qrb_noise_destroy(attack);
        tear_down();
    }
    open_host(1);
}
END_TEST

#define CALIBRATION_REFUSES(expected, words)                                   \
    do {                                                                       \
        ASSERT_FAILS(ctx,                                                      \
                     qrb_attack_calibrate(host->model, attack, text, TEXT,     \
                                          &options, &result),                  \
                     expected, words);                                         \
        options = (qrb_calibrate_options)QRB_CALIBRATE_OPTIONS_INIT;           \
    } while (0)

START_TEST(calibrations_that_make_no_sense_are_refused)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
    struct mock_host *other = adjusted(NULL);
    qrb_noise *anchor = NULL;

    options.ratio = 1.0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "ratio");
    options.ratio = NAN;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "ratio");
    options.tolerance = 0.0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "tolerance");
    options.search_seeds = 0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "search_seeds");
    evaluate.context = 0;
    options.evaluate = &evaluate;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "context");
    result.struct_size = 0;
    CALIBRATION_REFUSES(QRB_E_INVALID_ARG, "struct_size");
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(other->model, attack, text, TEXT, NULL, NULL),
        QRB_E_INVALID_ARG, "bound to the model");
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, NULL, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, host->model, NULL));
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(host->model, anchor, text, TEXT, NULL, NULL),
        QRB_E_INVALID_ARG, "no attack");
    ck_assert_int_eq(qrb_attack_calibrate(NULL, attack, text, TEXT, NULL, NULL),
                     QRB_E_INVALID_ARG);
    qrb_noise_destroy(anchor);
    qrb_noise_destroy(attack);
    mock_host_destroy(other);
}
END_TEST

/* Perplexity of the attack as it stands, through a bracket. */
static double perturbed_perplexity(qrb_noise *attack)
{
    double perplexity;

    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    perplexity = perplexity_of(host->model);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    return perplexity;
}

START_TEST(calibration_that_fails_leaves_attack_and_weights_as_they_were)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result,
                                    .sigma = -1.0 };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);
    double as_set;

    learn(host);
    mock_copy_weights(host, before);
    as_set = perturbed_perplexity(attack);
    options.tolerance = 1e-14;
    ASSERT_FAILS(ctx,
                 qrb_attack_calibrate(host->model, attack, text, TEXT, &options,
                                      &result),
                 QRB_E_STATE, "not within 1e-12 %");
    ck_assert_double_eq(result.sigma, -1.0);
    ck_assert(mock_weights_equal(host, before));
    ck_assert_double_eq(perturbed_perplexity(attack), as_set);
    qrb_noise_destroy(attack);
}
END_TEST

static double deviation_limit; /* Euclidean, of all weights from `before` */
static size_t lost_calls;

/* Likelihoods of weights that are too far away are not finite. */
static void lose_far_weights(struct mock_host *of, enum mock_callback callback)
{
    float now[MAX_WEIGHTS];
    double squares = 0.0;

    (void)callback;
    mock_copy_weights(of, now);
    for (size_t i = 0; i < mock_weight_count(of); i++)
        squares += pow((double)now[i] - (double)before[i], 2.0);
    of->nan_at = sqrt(squares) > deviation_limit ? of->calls + 1 : 0;
    lost_calls += of->nan_at != 0;
}

/* 66 windows, each of which fails where the noise is a little larger than what
 * is looked for: more in a row than an evaluation puts up with. */
START_TEST(draws_that_cannot_be_scored_are_too_large)
{
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result free_of = { .struct_size = sizeof free_of };
    qrb_calibrate_result found = { .struct_size = sizeof found };
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    learn(host);
    mock_copy_weights(host, before);
    evaluate.context = 12;
    evaluate.stride = 6;
    evaluate.batch = 1;
    options.evaluate = &evaluate;
    options.search_seeds = 1;
    ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                        &options, &free_of));
    lost_calls = 0;
    host->inside = lose_far_weights;
    /* fc1 and fc2 are perturbed.  One of the sigmas that double lies above the
     * limit and is the first with a ratio above 1.2, for some of these. */
    for (double factor = 1.05; factor < 1.9; factor += 0.1) {
        deviation_limit =
            factor * free_of.sigma * sqrt(2.0 * MOCK_HIDDEN * MOCK_DIM);
        ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                            &options, &found));
        ck_assert_double_eq_tol(found.achieved_ratio, 1.2, 0.012);
    }
    ck_assert_uint_gt(lost_calls, 0);
    host->inside = NULL;
    ck_assert(mock_weights_equal(host, before));
    qrb_noise_destroy(attack);
}
END_TEST

/* A model that does not look at the attacked weights. */
START_TEST(attack_without_effect_is_reported)
{
    float memory[4] = { 1.0f, 2.0f, 3.0f, 4.0f };
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_model *model = make_bigrams(ctx, true, false);
    qrb_tensor *tensor = matrix(memory, 2, 2);
    qrb_noise *attack;

    parameter.name = "idle";
    parameter.weight = tensor;
    parameter.role = QRB_ROLE_Q;
    ASSERT_OK(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    attack = bound_attack(model, QRB_SIGMA_ABSOLUTE);
    ASSERT_FAILS(ctx,
                 qrb_attack_calibrate(model, attack, eleven, 11, NULL, NULL),
                 QRB_E_STATE, "no sigma up to");
    ck_assert_float_eq(memory[3], 4.0f);
    qrb_noise_destroy(attack);
    qrb_tensor_destroy(tensor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(model_that_cannot_score_its_text_is_not_attacked)
{
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    host->nan_at = host->calls + 2; /* set_mode, then the first batch */
    ASSERT_FAILS(
        ctx, qrb_attack_calibrate(host->model, attack, text, TEXT, NULL, NULL),
        QRB_E_NOT_FINITE, "");
    qrb_noise_destroy(attack);
}
END_TEST

/* A learnt host as the anchor, and a copy of it under attack. */
static struct mock_host *attacked_copy(double *clean, double *attacked)
{
    struct mock_host *copy = adjusted(NULL);
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_noise *attack;

    learn(host);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        memcpy(copy->weights[p], host->weights[p],
               host->elements[p] * sizeof(float));
    attack = bound_attack(copy->model, QRB_SIGMA_ABSOLUTE);
    options.ratio = 1.5;
    ASSERT_OK(ctx, qrb_attack_calibrate(copy->model, attack, text, TEXT,
                                        &options, NULL));
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    qrb_noise_destroy(attack);
    *clean = perplexity_of(host->model);
    *attacked = perplexity_of(copy->model);
    ck_assert_double_eq_tol(*attacked / *clean, 1.5, 0.015);
    mock_copy_weights(host, before);
    return copy;
}

START_TEST(repair_recovers_and_goes_towards_the_anchor)
{
    const struct recipe recipe = short_repair();
    qrb_repair_result result = { .struct_size = sizeof result };
    double clean;
    double attacked;
    struct mock_host *copy = attacked_copy(&clean, &attacked);
    double repaired;

    ASSERT_OK(ctx, repair_by(&recipe, copy->model, host->model, &result));
    repaired = perplexity_of(copy->model);
    ck_assert_double_gt(qrb_recovery(clean, attacked, repaired), 50.0);
    ck_assert_uint_eq(result.steps, 60);
    ck_assert_double_gt(result.anchor_gradient_ratio, 0.0);
    ck_assert_double_lt(result.distance_after, 0.5 * result.distance_before);
    /* The triangle of before, after and the anchor. */
    ck_assert_double_ge(result.distance_moved,
                        result.distance_before - result.distance_after);
    ck_assert_double_le(result.distance_moved,
                        result.distance_before + result.distance_after);
    ck_assert(mock_weights_equal(host, before)); /* the anchor's stay */
    mock_host_destroy(copy);
}
END_TEST

START_TEST(repair_without_anchor_pulls_to_the_received_weights)
{
    struct recipe recipe = short_repair();
    qrb_repair_result result = { .struct_size = sizeof result };
    double clean;
    double attacked;
    struct mock_host *copy = attacked_copy(&clean, &attacked);
    double moved[2];

    for (int i = 0; i < 2; i++) {
        struct mock_host *again = adjusted(NULL);

        for (int p = 0; p < MOCK_PARAMETERS; p++)
            memcpy(again->weights[p], copy->weights[p],
                   copy->elements[p] * sizeof(float));
        recipe.anchor.strength = i == 0 ? 0.0 : 50.0;
        ASSERT_OK(ctx, repair_by(&recipe, again->model, NULL, &result));
        ck_assert_double_eq(result.distance_before, 0.0);
        ck_assert_double_eq(result.distance_after, result.distance_moved);
        moved[i] = result.distance_moved;
        mock_host_destroy(again);
    }
    ck_assert_double_gt(moved[0], 0.0);
    ck_assert_double_lt(moved[1], 0.7 * moved[0]);
    mock_host_destroy(copy);
}
END_TEST

START_TEST(presets_are_what_is_measured_and_what_is_printed)
{
    const qrb_trainer_options trainer = QRB_REPAIR_TRAINER_OPTIONS_PAPER;
    const qrb_anchor_options anchor = QRB_ANCHOR_OPTIONS_PAPER;
    const qrb_dataset_options dataset = QRB_REPAIR_DATASET_OPTIONS_PAPER;
    const qrb_repair_options paper = QRB_REPAIR_OPTIONS_PAPER;

    ck_assert_double_eq(trainer.lr, 2e-5);
    ck_assert_uint_eq(trainer.steps, 250);
    ck_assert_uint_eq(trainer.warmup, 10);
    ck_assert_uint_eq(trainer.accumulation, 2);
    ck_assert_double_eq(anchor.strength, 1e-5);
    ck_assert_uint_eq(anchor.application, QRB_ANCHOR_GRADIENT);
    ck_assert_uint_eq(dataset.batch, 1);
    ck_assert_uint_eq(dataset.context, 2048);
    ck_assert_uint_eq(recommended.anchor.application, QRB_ANCHOR_DECOUPLED);
    ck_assert_str_eq(recommended.trainer.what, "repair");
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &paper, NULL),
                 QRB_E_SHAPE, "400 tokens, fewer than the 2049");
}
END_TEST

/* The weights and the figures of a repair by these options. */
static qrb_repair_result repaired_by(const qrb_repair_options *options,
                                     float *weights)
{
    struct mock_host *subject = adjusted(NULL);
    struct mock_host *anchor = NULL;
    qrb_repair_result result = { .struct_size = sizeof result };

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 9, NULL, &anchor));
    ASSERT_OK(ctx, qrb_repair(subject->model, anchor->model, text, TEXT,
                              options, &result));
    mock_copy_weights(subject, weights);
    mock_host_destroy(subject);
    mock_host_destroy(anchor);
    return result;
}

/* Parts that are given change nothing in the others; nothing of the caller's
 * is needed after the call. */
START_TEST(options_that_are_not_given_are_those_of_the_recipe)
{
    const qrb_repair_options inits[2] = { QRB_REPAIR_OPTIONS_INIT,
                                          QRB_REPAIR_OPTIONS_PAPER };
    const qrb_anchor_options anchors[2] = { QRB_ANCHOR_OPTIONS_INIT,
                                            QRB_ANCHOR_OPTIONS_PAPER };
    qrb_trainer_options trainers[2] = { QRB_REPAIR_TRAINER_OPTIONS_INIT,
                                        QRB_REPAIR_TRAINER_OPTIONS_PAPER };
    qrb_dataset_options datasets[2] = { QRB_REPAIR_DATASET_OPTIONS_INIT,
                                        QRB_REPAIR_DATASET_OPTIONS_PAPER };

    for (int recipe = 0; recipe < 2; recipe++) {
        float weights[2][MAX_WEIGHTS] = { { 0 } };
        qrb_repair_result results[2];

        trainers[recipe].steps = 2;
        datasets[recipe].context = 32;
        for (int given = 0; given < 2; given++) {
            qrb_repair_options options = inits[recipe];

            options.trainer = &trainers[recipe];
            options.dataset = &datasets[recipe];
            if (given)
                options.anchor = &anchors[recipe];
            results[given] = repaired_by(&options, weights[given]);
        }
        ck_assert_mem_eq(weights[0], weights[1], sizeof *weights);
        ck_assert_double_eq(results[0].loss, results[1].loss);
        ck_assert_uint_eq(results[0].tokens, /* sequences, steps, targets */
                          (recipe == 0 ? 4 : 2) * 2 * 32);
        ck_assert_uint_eq(results[0].steps, 2);
    }
}
END_TEST

/* A caller of a later release whose parts have grown: each has its own size,
 * so that none moves what follows it. */
START_TEST(parts_of_the_options_may_grow)
{
    struct {
        qrb_trainer_options known;
        uint64_t appended;
    } trainer = { QRB_REPAIR_TRAINER_OPTIONS_INIT, 0 };
    struct {
        qrb_optimizer_options known;
        uint64_t appended;
    } optimizer = { QRB_OPTIMIZER_OPTIONS_INIT, 0 };
    struct {
        qrb_evaluate_options known;
        uint64_t appended;
    } evaluate = { QRB_EVALUATE_OPTIONS_INIT, 0 };
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_calibrate_options calibrate = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_noise *attack = bound_attack(host->model, QRB_SIGMA_ABSOLUTE);

    trainer.known.struct_size = sizeof trainer;
    trainer.known.optimizer = &optimizer.known;
    trainer.known.steps = 1;
    optimizer.known.struct_size = sizeof optimizer;
    evaluate.known.struct_size = sizeof evaluate;
    options.trainer = &trainer.known;
    calibrate.evaluate = &evaluate.known;
    ASSERT_OK(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL));
    optimizer.appended = 1;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "optimizer options");
    trainer.appended = 1;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "trainer options");
    learn(host);
    ASSERT_OK(ctx, qrb_attack_calibrate(host->model, attack, text, TEXT,
                                        &calibrate, NULL));
    evaluate.appended = 1;
    ASSERT_FAILS(
        ctx,
        qrb_attack_calibrate(host->model, attack, text, TEXT, &calibrate, NULL),
        QRB_E_INVALID_ARG, "evaluate options");
    qrb_noise_destroy(attack);
}
END_TEST

#define REPAIR_REFUSES(anchor, expected, words)                                \
    do {                                                                       \
        ASSERT_FAILS(ctx, repair_by(&recipe, host->model, anchor, &result),    \
                     expected, words);                                         \
        recipe = short_repair();                                               \
    } while (0)

START_TEST(repairs_that_make_no_sense_are_refused)
{
    struct recipe recipe = short_repair();
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_repair_result result = { .struct_size = sizeof result };
    qrb_model *other = make_bigrams(ctx, true, false);

    recipe.resume = 2;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "resume");
    recipe.resume = 1;
    REPAIR_REFUSES(NULL, QRB_E_STATE, "no checkpoint");
    recipe.anchor.strength = -1.0;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "strength");
    recipe.trainer.lr = NAN;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "lr");
    recipe.dataset.batch = 0;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "batch");
    recipe.anchor.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "anchor options: struct_size");
    recipe.dataset.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "dataset options: struct_size");
    REPAIR_REFUSES(other, QRB_E_INVALID_ARG, "no such parameter");
    result.struct_size = 3;
    REPAIR_REFUSES(NULL, QRB_E_INVALID_ARG, "struct_size");
    options.recipe = 2;
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, text, TEXT, &options, NULL),
                 QRB_E_INVALID_ARG, "recipe is 2");
    ASSERT_FAILS(ctx, qrb_repair(host->model, NULL, NULL, TEXT, NULL, NULL),
                 QRB_E_INVALID_ARG, "tokens");
    ck_assert_int_eq(qrb_repair(NULL, NULL, text, TEXT, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert(mock_weights_equal(host, before));
    qrb_model_destroy(other);
}
END_TEST

static uint64_t stop_after; /* steps of a repair */

static int stop(const char *what, uint64_t done, uint64_t total, void *user)
{
    (void)total;
    (void)user;
    return strncmp(what, "repair", 6) == 0 && done == stop_after;
}

/* A context of its own, whose progress callback stops. */
static double repair_in_parts(uint64_t stop_at, const char *checkpoint,
                              float *weights, qrb_repair_result *result)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct recipe recipe = short_repair();
    struct mock_host *attacked = NULL;
    struct mock_host *anchor = NULL;
    qrb_context *own = NULL;
    qrb_status status;
    double loss;

    options.threads = 1;
    options.progress = stop;
    ck_assert_int_eq(qrb_context_create(&options, &own), QRB_OK);
    ASSERT_OK(own,
              mock_host_create(own, MOCK_TOKEN_BATCHES, 2, NULL, &attacked));
    ASSERT_OK(own, mock_host_create(own, MOCK_TOKEN_BATCHES, 3, NULL, &anchor));
    recipe.trainer.steps = 12;
    recipe.trainer.checkpoint = checkpoint;
    recipe.resume = checkpoint != NULL;
    stop_after = stop_at;
    status = repair_by(&recipe, attacked->model, anchor->model, result);
    ck_assert_int_eq(status, stop_at > 0 ? QRB_E_CANCELLED : QRB_OK);
    loss = result->loss;
    mock_copy_weights(attacked, weights);
    mock_host_destroy(attacked);
    mock_host_destroy(anchor);
    qrb_context_destroy(own);
    return loss;
}

START_TEST(cancelled_repair_is_resumed_with_the_same_bits)
{
    qrb_repair_result whole = { .struct_size = sizeof whole };
    qrb_repair_result part = { .struct_size = sizeof part };
    float expected[MAX_WEIGHTS] = { 0 };
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];

    make_directory(directory);
    in_directory(directory, "repair.ckpt", path);
    repair_in_parts(0, NULL, expected, &whole);
    repair_in_parts(5, path, weights, &part);
    ck_assert_uint_eq(part.steps, 5);
    ck_assert_double_gt(part.distance_moved, 0.0);
    ck_assert_mem_ne(weights, expected, sizeof expected);
    repair_in_parts(0, path, weights, &part);
    ck_assert_mem_eq(weights, expected, sizeof expected);
    ck_assert_uint_eq(part.steps, 12);
    ck_assert_double_eq(part.loss, whole.loss);
    ck_assert_double_eq(part.distance_before, whole.distance_before);
    ck_assert_double_eq(part.distance_after, whole.distance_after);
    ck_assert_double_eq(part.distance_moved, whole.distance_moved);
    remove_directory(directory);
}
END_TEST

static double distance_between(struct mock_host *from, struct mock_host *to)
{
    double sum = 0.0;

    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < from->elements[p]; i++) {
            const double d =
                (double)from->weights[p][i] - (double)to->weights[p][i];

            sum += p == MOCK_FC1 || p == MOCK_FC2 ? d * d : 0.0;
        }
    return sqrt(sum);
}

START_TEST(move_goes_straight_to_the_anchor_by_the_distance)
{
    struct mock_host *anchor = NULL;
    double fraction = -1.0;
    double whole;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 2, NULL, &anchor));
    whole = distance_between(host, anchor);
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL,
                                    0.25 * whole, &fraction));
    ck_assert_double_eq_tol(fraction, 0.25, 1e-6);
    ck_assert_double_eq_tol(distance_between(host, anchor), 0.75 * whole,
                            1e-5 * whole);
    ck_assert_mem_eq(host->weights[MOCK_EMBED], before,
                     host->elements[MOCK_EMBED] * sizeof(float));
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL, 0.0,
                                    &fraction));
    ck_assert_double_eq(fraction, 0.0);
    ASSERT_OK(ctx, qrb_move_towards(host->model, anchor->model, NULL, 1e9,
                                    &fraction));
    ck_assert_double_eq(fraction, 1.0);
    ck_assert_double_lt(distance_between(host, anchor), 1e-5 * whole);
    mock_host_destroy(anchor);
}
END_TEST

START_TEST(moves_that_make_no_sense_are_refused)
{
    qrb_model *other = make_bigrams(ctx, true, false);
    const qrb_filter nothing = { sizeof nothing, 0, "no.such.*" };
    float memory[4] = { 0 };
    const size_t shape[2] = { 2, 2 };
    qrb_model *frozen = one_parameter(memory, 2, shape, QRB_PARAM_FROZEN);

    ASSERT_FAILS(ctx, qrb_move_towards(host->model, NULL, NULL, 1.0, NULL),
                 QRB_E_INVALID_ARG, "anchor is NULL");
    ASSERT_FAILS(ctx,
                 qrb_move_towards(host->model, host->model, NULL, -1.0, NULL),
                 QRB_E_INVALID_ARG, "distance");
    ASSERT_FAILS(ctx,
                 qrb_move_towards(host->model, host->model, NULL, NAN, NULL),
                 QRB_E_INVALID_ARG, "distance");
    ASSERT_FAILS(ctx, qrb_move_towards(host->model, other, NULL, 1.0, NULL),
                 QRB_E_INVALID_ARG, "no such parameter");
    ASSERT_FAILS(
        ctx, qrb_move_towards(host->model, host->model, &nothing, 1.0, NULL),
        QRB_E_INVALID_ARG, "");
    ASSERT_FAILS(ctx, qrb_move_towards(frozen, frozen, NULL, 1.0, NULL),
                 QRB_E_STATE, "only: is frozen");
    ck_assert_int_eq(qrb_move_towards(NULL, host->model, NULL, 1.0, NULL),
                     QRB_E_INVALID_ARG);
    qrb_model_destroy(frozen);
    qrb_model_destroy(other);
}
END_TEST

/* Jobs that leave weights alone or change them whole; `done` of the callback
 * tests and of the allocation loops. */
struct job {
    const char *name;
    enum mock_kind kind;
    qrb_status (*run)(struct mock_host *subject, struct mock_host *other);
    bool trains; /* and may end behind a complete step */
};

static qrb_status job_evaluate(struct mock_host *subject,
                               struct mock_host *other)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;
    qrb_metric_result result = { .struct_size = sizeof result, .scored = 1 };
    qrb_status status;

    options.context = 100;
    options.stride = 50;
    options.batch = 2;
    status =
        qrb_evaluate_text(subject->model, NULL, text, TEXT, &options, &result);
    if (status == QRB_OK)
        status = qrb_evaluate_text(subject->model, other->model, text, TEXT,
                                   &options, &result);
    else
        ck_assert_uint_eq(result.scored, 1);
    if (status == QRB_OK)
        status = qrb_evaluate_text(subject->model, subject->model, text, TEXT,
                                   &options, &result);
    return status;
}

static qrb_status job_batches(struct mock_host *subject,
                              struct mock_host *other)
{
    qrb_metric_result result = { .struct_size = sizeof result, .scored = 1 };
    const qrb_status status = qrb_evaluate_batches(subject->model, &result);

    (void)other;
    ck_assert_uint_eq(result.scored, status == QRB_OK ? 3 * 338 + 20 : 1);
    return status;
}

static qrb_status job_prompts(struct mock_host *subject,
                              struct mock_host *other)
{
    const size_t lengths[3] = { 20, 1, 30 };
    double perplexity[3] = { -1.0, -1.0, -1.0 };
    const qrb_status status =
        qrb_evaluate_prompts(subject->model, text, lengths, 3, perplexity);

    (void)other;
    if (status != QRB_OK)
        ck_assert_double_eq(perplexity[0], -1.0);
    return status;
}

static qrb_status job_quantize(struct mock_host *subject,
                               struct mock_host *other)
{
    qrb_quantizer *quantizer = NULL;
    qrb_status status;

    (void)other;
    status = qrb_quantizer_create_named(subject->ctx, "rtn4g4", &quantizer);
    if (status == QRB_OK)
        status = qrb_fake_quantize(subject->model, quantizer, NULL);
    qrb_quantizer_destroy(quantizer);
    return status;
}

static qrb_status job_calibrate(struct mock_host *subject,
                                struct mock_host *other)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_evaluate_options evaluate = QRB_EVALUATE_OPTIONS_INIT;
    qrb_noise *attack = NULL;
    qrb_status status;

    (void)other;
    options.search_seeds = 1;
    options.tolerance = 0.2;
    evaluate.context = 100;
    evaluate.stride = 99;
    options.evaluate = &evaluate;
    status = qrb_noise_create_attack(subject->ctx, NULL, &attack);
    if (status == QRB_OK)
        status = qrb_noise_bind(attack, subject->model, NULL);
    if (status == QRB_OK)
        status = qrb_attack_calibrate(subject->model, attack, text, 60,
                                      &options, NULL);
    qrb_noise_destroy(attack);
    return status;
}

static qrb_status job_move(struct mock_host *subject, struct mock_host *other)
{
    return qrb_move_towards(subject->model, other->model, NULL, 0.5, NULL);
}

static qrb_status job_repair(struct mock_host *subject, struct mock_host *other)
{
    struct recipe recipe = short_repair();

    recipe.trainer.steps = 2;
    return repair_by(&recipe, subject->model, other->model, NULL);
}

static const struct job jobs[] = {
    { "evaluate", MOCK_TOKEN_BATCHES, job_evaluate, false },
    { "batches", MOCK_OWN_BATCHES, job_batches, false },
    { "prompts", MOCK_TOKEN_BATCHES, job_prompts, false },
    { "quantize", MOCK_TOKEN_BATCHES, job_quantize, false },
    { "calibrate", MOCK_TOKEN_BATCHES, job_calibrate, false },
    { "move", MOCK_TOKEN_BATCHES, job_move, false },
    { "repair", MOCK_TOKEN_BATCHES, job_repair, true },
};

enum { JOBS = sizeof jobs / sizeof *jobs };

START_TEST(failing_callback_leaves_weights_bitwise_as_they_were)
{
    const struct job *job = &jobs[_i];
    bool ended = false;

    for (size_t call = 1; !ended; call++) {
        struct mock_host *subject = NULL;
        struct mock_host *other = NULL;
        qrb_status status;

        ASSERT_OK(ctx, mock_host_create(ctx, job->kind, 1, NULL, &subject));
        ASSERT_OK(ctx, mock_host_create(ctx, job->kind, 2, NULL, &other));
        mock_copy_weights(subject, before);
        subject->fail_at = call;
        subject->fail_code = -4;
        status = job->run(subject, other);
        ended = subject->calls < call;
        if (ended) {
            ck_assert_msg(status == QRB_OK, "%s: %s", job->name,
                          qrb_context_message(ctx));
        } else {
            ck_assert_int_eq(status, QRB_E_CALLBACK);
            ck_assert_int_eq(qrb_context_callback_code(ctx), -4);
            if (!job->trains)
                ck_assert_msg(mock_weights_equal(subject, before),
                              "%s: call %zu", job->name, call);
        }
        ck_assert_uint_eq(subject->batches, 0);
        mock_host_destroy(subject);
        mock_host_destroy(other);
        ck_assert_uint_lt(call, 2000);
    }
}
END_TEST

static qrb_status run_job(qrb_context *own, void *arg)
{
    const struct job *job = arg;
    struct mock_host *subject = NULL;
    struct mock_host *other = NULL;
    qrb_status status;

    status = mock_host_create(own, job->kind, 1, NULL, &subject);
    if (status == QRB_OK)
        status = mock_host_create(own, job->kind, 2, NULL, &other);
    if (status == QRB_OK) {
        mock_copy_weights(subject, before);
        status = job->run(subject, other);
        if (status != QRB_OK && !job->trains)
            ck_assert_msg(mock_weights_equal(subject, before), "%s", job->name);
    }
    mock_host_destroy(subject);
    mock_host_destroy(other);
    return status;
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    fail_each_allocation(run_job, (void *)(uintptr_t)&jobs[_i]);
}
END_TEST

static size_t refused;

static void call_recipes(struct mock_host *subject, enum mock_callback callback)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    const size_t length = 4;
    double perplexity;

    if (callback != MOCK_TOKEN_NLL)
        return;
    ck_assert_int_eq(
        qrb_evaluate_text(subject->model, NULL, text, 9, NULL, &result),
        QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_evaluate_batches(subject->model, &result),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_evaluate_prompts(subject->model, text, &length, 1, &perplexity),
        QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_fake_quantize(subject->model, subject->inside_user, NULL),
        QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_attack_calibrate(subject->model, NULL, text, 9, NULL, NULL),
        QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_repair(subject->model, NULL, text, TEXT, NULL, NULL),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(
        qrb_move_towards(subject->model, subject->model, NULL, 1.0, NULL),
        QRB_E_REENTRANT);
    refused++;
}

START_TEST(calls_from_inside_a_callback_are_refused)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_quantizer *quantizer = named("int8");

    host->inside = call_recipes;
    host->inside_user = quantizer;
    refused = 0;
    ASSERT_OK(ctx,
              qrb_evaluate_text(host->model, NULL, text, TEXT, NULL, &result));
    ck_assert_uint_gt(refused, 0);
    ck_assert(mock_weights_equal(host, before));
    qrb_quantizer_destroy(quantizer);
}
END_TEST

static int cancel_at_third(void *user)
{
    return ++*(size_t *)user == 3;
}

START_TEST(cancelled_jobs_leave_weights_as_they_were)
{
    for (int i = 0; i < JOBS; i++) {
        qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
        struct mock_host *subject = NULL;
        struct mock_host *other = NULL;
        qrb_context *own = NULL;
        size_t asked = 0;

        options.threads = 1;
        options.cancel = cancel_at_third;
        options.cancel_user = &asked;
        ck_assert_int_eq(qrb_context_create(&options, &own), QRB_OK);
        ASSERT_OK(own, mock_host_create(own, jobs[i].kind, 1, NULL, &subject));
        ASSERT_OK(own, mock_host_create(own, jobs[i].kind, 2, NULL, &other));
        mock_copy_weights(subject, before);
        if (!jobs[i].trains && strcmp(jobs[i].name, "move") != 0) {
            ck_assert_int_eq(jobs[i].run(subject, other), QRB_E_CANCELLED);
            ck_assert(mock_weights_equal(subject, before));
        }
        mock_host_destroy(subject);
        mock_host_destroy(other);
        qrb_context_destroy(own);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recipe");
    TCase *evaluate = tcase_create("evaluate");
    TCase *quantize = tcase_create("quantize");
    TCase *attack = tcase_create("attack");
    TCase *repair = tcase_create("repair");
    TCase *rules = tcase_create("rules");

    tcase_add_checked_fixture(evaluate, set_up, tear_down);
    tcase_add_loop_test(evaluate, each_mode_scores_the_tokens_that_it_should, 0,
                        2);
    tcase_add_test(
        evaluate, windows_of_one_length_share_batches_without_changing_figures);
    tcase_add_test(evaluate, llamacpp_windows_open_with_the_given_token);
    tcase_add_test(evaluate, base_is_another_model_or_the_same_host_switched);
    tcase_add_test(evaluate, model_agrees_with_itself);
    tcase_add_test(evaluate, unusable_windows_are_not_counted);
    tcase_add_test(evaluate, listeners_of_the_pass_in_force_hear_an_evaluation);
    tcase_add_test(evaluate, evaluations_that_make_no_sense_are_refused);
    tcase_add_test(evaluate, batches_of_the_host_are_scored_to_their_end);
    tcase_add_loop_test(evaluate, prompts_are_scored_one_by_one, 0, 2);
    tcase_add_test(evaluate, prompts_that_make_no_sense_are_refused);
    suite_add_tcase(suite, evaluate);
    tcase_add_checked_fixture(quantize, set_up, tear_down);
    tcase_add_test(quantize,
                   fake_quantization_is_that_of_each_matrix_in_blocks);
    tcase_add_test(quantize,
                   failed_quantization_changes_no_weight_and_names_the_tensor);
    tcase_add_test(quantize, perturbed_weights_are_not_quantized);
    tcase_add_test(quantize,
                   outputs_are_quantized_as_rows_however_they_are_stored);
    suite_add_tcase(suite, quantize);
    tcase_set_timeout(attack, 60);
    tcase_add_checked_fixture(attack, set_up, tear_down);
    tcase_add_test(attack, fit_of_sigma_gives_the_golden_numbers);
    tcase_add_test(attack, fit_that_is_no_line_goes_through_the_origin);
    tcase_add_test(attack,
                   calibrated_attack_writes_weights_of_the_achieved_ratio);
    tcase_add_test(attack, calibrations_that_make_no_sense_are_refused);
    tcase_add_test(
        attack, calibration_that_fails_leaves_attack_and_weights_as_they_were);
    tcase_add_test(attack, draws_that_cannot_be_scored_are_too_large);
    tcase_add_test(attack, attack_without_effect_is_reported);
    tcase_add_test(attack, model_that_cannot_score_its_text_is_not_attacked);
    suite_add_tcase(suite, attack);
    tcase_set_timeout(repair, 60);
    tcase_add_checked_fixture(repair, set_up, tear_down);
    tcase_add_test(repair, repair_recovers_and_goes_towards_the_anchor);
    tcase_add_test(repair, repair_without_anchor_pulls_to_the_received_weights);
    tcase_add_test(repair, options_that_are_not_given_are_those_of_the_recipe);
    tcase_add_test(repair, parts_of_the_options_may_grow);
    tcase_add_test(repair, presets_are_what_is_measured_and_what_is_printed);
    tcase_add_test(repair, repairs_that_make_no_sense_are_refused);
    tcase_add_test(repair, cancelled_repair_is_resumed_with_the_same_bits);
    tcase_add_test(repair, move_goes_straight_to_the_anchor_by_the_distance);
    tcase_add_test(repair, moves_that_make_no_sense_are_refused);
    suite_add_tcase(suite, repair);
    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_loop_test(
        rules, failing_callback_leaves_weights_bitwise_as_they_were, 0, JOBS);
    tcase_add_loop_test(
        rules, every_failed_allocation_is_reported_and_leaks_nothing, 0, JOBS);
    tcase_add_test(rules, calls_from_inside_a_callback_are_refused);
    tcase_add_test(rules, cancelled_jobs_leave_weights_as_they_were);
    suite_add_tcase(suite, rules);
    {
        TCase *threads = tcase_create("threads");

        tcase_set_timeout(threads, 60);
        tcase_add_test(threads,
                       recipes_have_the_same_bits_with_any_number_of_threads);
        suite_add_tcase(suite, threads);
    }
    return run_suite(suite);
}
