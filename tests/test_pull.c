/* Pull callbacks: what the library asks a host for, and what it makes of the
 * answers. */
#include <math.h>

#include "model_fixture.h"

static void no_optional_callbacks(qrb_host_callbacks *callbacks)
{
    callbacks->loss = NULL;
    callbacks->token_nll = NULL;
    callbacks->zero_grad = NULL;
    callbacks->set_mode = NULL;
    callbacks->select_model = NULL;
    callbacks->weights_written = NULL;
    callbacks->batch_release = NULL;
    callbacks->user_free = NULL;
}

static void no_callbacks(qrb_host_callbacks *callbacks)
{
    const qrb_host_callbacks none = QRB_HOST_CALLBACKS_INIT;

    *callbacks = none;
}

/* Another host in place of the one of set_up(). */
static void make_host(enum mock_kind kind,
                      void (*adjust)(qrb_host_callbacks *callbacks))
{
    mock_host_destroy(host);
    ASSERT_OK(ctx, mock_host_create(ctx, kind, 1, adjust, &host));
}

static struct qrb__batch batch_at(uint64_t index)
{
    struct qrb__batch batch = { 0 };
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_batch(host->model, QRB_STREAM_TRAIN, index,
                                    &batch, &skipped));
    ck_assert(!skipped);
    return batch;
}

START_TEST(a_batch_is_lent_and_given_back)
{
    struct qrb__batch batch = batch_at(3);

    ck_assert_uint_eq(batch.rows, 23);
    ck_assert_ptr_nonnull(batch.handle);
    ck_assert_uint_eq(host->batches, 1);
    qrb__model_batch_release(host->model, &batch);
    ck_assert_uint_eq(host->batches, 0);
    ck_assert_ptr_null(batch.handle);
    qrb__model_batch_release(host->model, &batch); /* nothing left to release */
    ck_assert_uint_eq(host->counts[MOCK_BATCH_RELEASE], 1);
    batch = batch_at(MOCK_BATCHES);
    ck_assert_ptr_null(batch.handle);
}
END_TEST

START_TEST(loss_is_composed_from_loss_and_grad_if_need_be)
{
    struct qrb__batch batch = batch_at(0);
    double with = 0.0;
    double without = 0.0;
    size_t scored = 0;
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle, &with, &scored,
                                   &skipped));
    ck_assert(!skipped);
    ck_assert_uint_eq(scored, 20);
    ck_assert_uint_eq(host->counts[MOCK_LOSS], 1);
    qrb__model_batch_release(host->model, &batch);

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.batch_release = NULL;
    batch = batch_at(0);
    ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle, &without, &scored,
                                   &skipped));
    ck_assert_uint_eq(host->counts[MOCK_LOSS_AND_GRAD], 1);
    ck_assert_double_eq(with, without);
    for (size_t i = 0; i < host->elements[MOCK_FC1]; i++)
        ck_assert_float_eq(host->gradients[MOCK_FC1][i], 0.0f);
    free((void *)(uintptr_t)batch.handle);
}
END_TEST

START_TEST(token_nll_is_composed_from_logits_if_need_be)
{
    struct qrb__batch batch = batch_at(0);
    float logits[20 * MOCK_VOCAB];
    int32_t targets[20];
    float with[20];
    float without[20];
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, NULL,
                                        NULL, with, &skipped));
    ck_assert(!skipped);
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, logits,
                                        targets, with, &skipped));
    ck_assert_int_eq(targets[19], 0);
    qrb__model_batch_release(host->model, &batch);

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    batch = batch_at(0);
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, logits,
                                        targets, without, &skipped));
    ck_assert(!skipped);
    for (size_t r = 0; r < 20; r++)
        ck_assert_float_eq_tol(with[r], without[r], 1e-6f);
    free((void *)(uintptr_t)batch.handle);
}
END_TEST

static int some_targets(const void *batch, float *logits, int32_t *targets,
                        size_t rows, void *user)
{
    (void)batch;
    (void)user;
    for (size_t i = 0; i < rows * MOCK_VOCAB; i++)
        logits[i] = 0.0f;
    for (size_t r = 0; r < rows; r++)
        targets[r] = r % 2 == 0 ? -1 : (int32_t)r;
    return 0;
}

START_TEST(rows_without_target_are_not_scored)
{
    float logits[4 * MOCK_VOCAB];
    int32_t targets[4];
    float nll[4];
    bool skipped = true;

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.logits = some_targets;
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, "batch", 4, logits,
                                        targets, nll, &skipped));
    ck_assert(!skipped);
    ck_assert_int_eq(targets[0], -1);
    ck_assert_float_eq(nll[0], 0.0f);
    ck_assert_int_eq(targets[3], 3);
    ck_assert_float_eq_tol(nll[3], logf(MOCK_VOCAB), 1e-6f);
}
END_TEST

static int wild_targets(const void *batch, float *logits, int32_t *targets,
                        size_t rows, void *user)
{
    const int32_t wild = *(const int32_t *)batch;

    some_targets(batch, logits, targets, rows, user);
    targets[rows - 1] = wild;
    return 0;
}

START_TEST(targets_outside_the_vocabulary_are_refused)
{
    static const int32_t wild[] = { MOCK_VOCAB, -2, INT32_MIN, INT32_MAX };
    float logits[4 * MOCK_VOCAB];
    int32_t targets[4];
    float nll[4];
    bool skipped;

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.logits = wild_targets;
    for (size_t i = 0; i < 4; i++) {
        ASSERT_FAILS(ctx,
                     qrb__model_token_nll(host->model, &wild[i], 4, logits,
                                          targets, nll, &skipped),
                     QRB_E_INVALID_ARG, "target of row 3");
        ASSERT_FAILS(ctx,
                     qrb__model_logits(host->model, &wild[i], logits, targets,
                                       4, &skipped),
                     QRB_E_INVALID_ARG, "target of row 3");
    }
}
END_TEST

/* Call a callback that serves a batch by its number. */
static qrb_status serve(int which, const void *batch, bool *skipped)
{
    static float logits[32 * MOCK_VOCAB];
    static int32_t targets[32];
    static float nll[32];
    struct qrb__batch got = { 0 };
    double loss;
    size_t scored;
    qrb_status status;

    switch (which) {
    case MOCK_BATCH:
        status = qrb__model_batch(host->model, QRB_STREAM_CALIBRATION, 1, &got,
                                  skipped);
        qrb__model_batch_release(host->model, &got);
        return status;
    case MOCK_LOSS_AND_GRAD:
        return qrb__model_loss_and_grad(host->model, batch, 1.0, &loss, &scored,
                                        skipped);
    case MOCK_LOSS:
        return qrb__model_loss(host->model, batch, &loss, &scored, skipped);
    case MOCK_LOGITS:
        return qrb__model_logits(host->model, batch, logits, targets, 20,
                                 skipped);
    default:
        return qrb__model_token_nll(host->model, batch, 20, logits, targets,
                                    nll, skipped);
    }
}

static const int serving[] = { MOCK_BATCH, MOCK_LOSS_AND_GRAD, MOCK_LOSS,
                               MOCK_LOGITS, MOCK_TOKEN_NLL };
static const char *const serving_names[] = { "batch", "loss_and_grad", "loss",
                                             "logits", "token_nll" };

START_TEST(a_batch_callback_below_zero_stops_with_its_code)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->fail_at = host->calls + 1;
    host->fail_code = -7 - _i;
    ASSERT_FAILS(ctx, serve(serving[_i], batch.handle, &skipped),
                 QRB_E_CALLBACK, serving_names[_i]);
    ck_assert_int_eq(qrb_context_callback_code(ctx), -7 - _i);
    ck_assert(!skipped);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(a_batch_callback_above_zero_skips_sixteen_times_in_a_row)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->fail_at = host->calls + 1;
    host->fail_many = 1000;
    host->fail_code = 2;
    for (int i = 0; i < 16; i++) {
        ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
        ck_assert(skipped);
    }
    ASSERT_FAILS(ctx, serve(serving[_i], batch.handle, &skipped),
                 QRB_E_CALLBACK, "more than 16 batches");
    host->fail_at = 0;
    /* A usable batch ends the row. */
    ASSERT_OK(ctx, serve(MOCK_LOSS, batch.handle, &skipped));
    ck_assert(!skipped);
    host->fail_at = 1;
    ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
    ck_assert(skipped);
    host->fail_at = 0;
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(lending_batches_that_turn_out_unusable_ends_after_sixteen)
{
    qrb_status status = QRB_OK;
    bool skipped;
    int i;

    host->fail_code = 1;
    for (i = 0; i < 100 && status == QRB_OK; i++) {
        struct qrb__batch batch = batch_at(0); /* always lent */

        host->fail_at = host->calls + 1;
        status = serve(MOCK_LOSS_AND_GRAD, batch.handle, &skipped);
        host->fail_at = 0;
        qrb__model_batch_release(host->model, &batch);
    }
    ck_assert_int_eq(status, QRB_E_CALLBACK);
    ck_assert_int_eq(i, 17);
}
END_TEST

START_TEST(output_that_is_not_finite_is_a_skip)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->nan_at = host->calls + 1;
    ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
    ck_assert(skipped);
    ck_assert_uint_eq(host->model->skips, 1);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

static int score_nothing(const void *batch, double *mean_loss, size_t *scored,
                         void *user)
{
    (void)batch;
    (void)user;
    *mean_loss = 1.0;
    *scored = 0;
    return 0;
}

START_TEST(a_loss_over_no_target_is_a_skip)
{
    bool skipped = false;

    host->model->callbacks.loss = score_nothing;
    ASSERT_OK(ctx, serve(MOCK_LOSS, "batch", &skipped));
    ck_assert(skipped);
}
END_TEST

START_TEST(a_skip_leaves_outputs_alone)
{
    struct qrb__batch batch = batch_at(0);
    double loss = 12.0;
    size_t scored = 34;
    bool skipped = false;

    host->nan_at = host->calls + 1;
    ASSERT_OK(ctx, qrb__model_loss_and_grad(host->model, batch.handle, 1.0,
                                            &loss, &scored, &skipped));
    ck_assert(skipped);
    ck_assert_double_eq(loss, 12.0);
    ck_assert_uint_eq(scored, 34);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(callbacks_that_serve_no_batch_stop_at_any_answer_but_zero)
{
    const int code = _i == 0 ? -3 : 3;

    host->fail_many = 1000;
    host->fail_at = 1;
    host->fail_code = code;
    ASSERT_FAILS(ctx, qrb__model_zero_grad(host->model), QRB_E_CALLBACK,
                 "zero_grad");
    ck_assert_int_eq(qrb_context_callback_code(ctx), code);
    ASSERT_FAILS(ctx, qrb__model_set_mode(host->model, QRB_MODE_EVAL),
                 QRB_E_CALLBACK, "set_mode");
    ASSERT_FAILS(ctx, qrb__model_weights_written(host->model, 0),
                 QRB_E_CALLBACK, "weights_written");
}
END_TEST

START_TEST(callbacks_that_are_missing_are_named)
{
    bool skipped;

    make_host(MOCK_OWN_BATCHES, no_callbacks);
    ASSERT_FAILS(ctx, serve(MOCK_BATCH, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback batch");
    ASSERT_FAILS(ctx, serve(MOCK_LOSS_AND_GRAD, NULL, &skipped),
                 QRB_E_UNSUPPORTED, "no callback loss_and_grad");
    ASSERT_FAILS(ctx, serve(MOCK_LOSS, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback loss_and_grad");
    ASSERT_FAILS(ctx, serve(MOCK_LOGITS, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback logits");
    ASSERT_FAILS(ctx, serve(MOCK_TOKEN_NLL, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback logits");
    ASSERT_OK(ctx, qrb__model_set_mode(host->model, QRB_MODE_EVAL));
    ASSERT_OK(ctx, qrb__model_weights_written(host->model, 0));
}
END_TEST

START_TEST(gradients_are_zeroed_by_the_host_or_by_us)
{
    if (_i == 1)
        make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            host->gradients[p][i] = NAN;
    ASSERT_OK(ctx, qrb__model_zero_grad(host->model));
    ck_assert_uint_eq(host->counts[MOCK_ZERO_GRAD], _i == 1 ? 0 : 1);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            ck_assert_float_eq(host->gradients[p][i], 0.0f);
}
END_TEST

START_TEST(parameters_without_gradient_are_not_zeroed)
{
    qrb_model *model = empty_model();

    ASSERT_OK(ctx, add(model, "w", QRB_ROLE_Q, 0));
    ASSERT_OK(ctx, qrb__model_zero_grad(model));
    qrb_model_destroy(model);
}
END_TEST

/* The mock's own backward pass against differences: what is tested with it
 * stands on it. */
START_TEST(gradients_of_the_mock_are_those_of_its_loss)
{
    struct qrb__batch batch = batch_at(0);
    const double step = 1e-3;
    double loss;
    size_t scored;
    bool skipped;

    ASSERT_OK(ctx, qrb__model_loss_and_grad(host->model, batch.handle, 1.0,
                                            &loss, &scored, &skipped));
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i += 5) {
            float *w = &host->weights[p][i];
            const float before = *w;
            const float above = before + (float)step;
            const float below = before - (float)step;
            double loss_above;
            double loss_below;

            *w = above;
            ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle,
                                           &loss_above, &scored, &skipped));
            *w = below;
            ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle,
                                           &loss_below, &scored, &skipped));
            *w = before;
            ck_assert_double_eq_tol((loss_above - loss_below) /
                                        ((double)above - (double)below),
                                    (double)host->gradients[p][i], 2e-6);
        }
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

static qrb_status build_host(qrb_context *context, void *arg)
{
    struct mock_host *made = NULL;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made);
    mock_host_destroy(made);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_host, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pull");
    TCase *test = tcase_create("pull");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, a_batch_is_lent_and_given_back);
    tcase_add_test(test, loss_is_composed_from_loss_and_grad_if_need_be);
    tcase_add_test(test, token_nll_is_composed_from_logits_if_need_be);
    tcase_add_test(test, rows_without_target_are_not_scored);
    tcase_add_test(test, targets_outside_the_vocabulary_are_refused);
    tcase_add_loop_test(test, a_batch_callback_below_zero_stops_with_its_code,
                        0, 5);
    tcase_add_loop_test(
        test, a_batch_callback_above_zero_skips_sixteen_times_in_a_row, 0, 5);
    tcase_add_test(test,
                   lending_batches_that_turn_out_unusable_ends_after_sixteen);
    tcase_add_loop_test(test, output_that_is_not_finite_is_a_skip, 1, 5);
    tcase_add_test(test, a_loss_over_no_target_is_a_skip);
    tcase_add_test(test, a_skip_leaves_outputs_alone);
    tcase_add_loop_test(
        test, callbacks_that_serve_no_batch_stop_at_any_answer_but_zero, 0, 2);
    tcase_add_test(test, callbacks_that_are_missing_are_named);
    tcase_add_loop_test(test, gradients_are_zeroed_by_the_host_or_by_us, 0, 2);
    tcase_add_test(test, parameters_without_gradient_are_not_zeroed);
    tcase_add_test(test, gradients_of_the_mock_are_those_of_its_loss);
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
