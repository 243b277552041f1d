/* Perplexity, KL and agreement of texts, batches and prompts, on bigrams whose
 * figures can be checked in the head. */
#include <math.h>

#include "recipe_host.h"

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

int main(void)
{
    Suite *suite = suite_create("evaluate");
    TCase *evaluate = tcase_create("evaluate");

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
    return run_suite(suite);
}
