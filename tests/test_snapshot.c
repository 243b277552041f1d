/* Snapshots of weights. */
#include <math.h>

#include "model_fixture.h"

START_TEST(a_snapshot_brings_back_every_bit)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;
    float *before = calloc(mock_weight_count(host), sizeof *before);
    size_t written;

    host->weights[MOCK_FC1][3] = -0.0f;
    host->weights[MOCK_HEAD][0] = NAN;
    mock_copy_weights(host, before);
    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            host->weights[p][i] += 1.0f;
    ck_assert(!mock_weights_equal(host, before));
    written = host->counts[MOCK_WEIGHTS_WRITTEN];
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
    ck_assert(mock_weights_equal(host, before));
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN] - written,
                      MOCK_PARAMETERS);
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot)); /* and again */
    ck_assert(mock_weights_equal(host, before));
    qrb_snapshot_destroy(snapshot);
    free(before);
}
END_TEST

START_TEST(a_snapshot_leaves_other_weights_alone)
{
    qrb_snapshot *snapshot = NULL;
    const float fc1 = host->weights[MOCK_FC1][0];

    ASSERT_OK(ctx, qrb_snapshot_create(host->model, NULL, &snapshot));
    host->weights[MOCK_FC1][0] = 5.0f;
    host->weights[MOCK_EMBED][0] = 6.0f;
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
    ck_assert_float_eq(host->weights[MOCK_FC1][0], fc1);
    ck_assert_float_eq(host->weights[MOCK_EMBED][0], 6.0f);
    qrb_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_restore_is_whole_whichever_call_of_the_host_fails)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;
    float *before = calloc(mock_weight_count(host), sizeof *before);

    mock_copy_weights(host, before);
    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    for (size_t k = 1; k <= MOCK_PARAMETERS; k++) {
        host->weights[MOCK_FC2][1] += 1.0f;
        host->fail_at = host->calls + k;
        host->fail_code = -(int)k;
        ASSERT_FAILS(ctx, qrb_snapshot_restore(snapshot), QRB_E_CALLBACK,
                     "weights_written");
        ck_assert_int_eq(qrb_context_callback_code(ctx), -(int)k);
        ck_assert(mock_weights_equal(host, before));
    }
    qrb_snapshot_destroy(snapshot);
    free(before);
}
END_TEST

/* Another code at each call. */
static void count_down(struct mock_host *mock, enum mock_callback callback)
{
    (void)callback;
    mock->fail_code = -(int)mock->calls;
}

START_TEST(the_first_failure_is_the_one_that_is_told)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;

    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    host->inside = count_down;
    host->fail_at = 2;
    host->fail_many = 100;
    ASSERT_FAILS(ctx, qrb_snapshot_restore(snapshot), QRB_E_CALLBACK,
                 "returned -2");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -2);
    ck_assert_uint_eq(host->calls, MOCK_PARAMETERS);
    host->inside = NULL;
    host->fail_at = 0;
    qrb_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_snapshot_of_nothing_is_refused)
{
    const qrb_filter none = { sizeof none, QRB_FILTER_ALL, "no such*" };
    qrb_snapshot *snapshot = NULL;

    ASSERT_FAILS(ctx, qrb_snapshot_create(host->model, &none, &snapshot),
                 QRB_E_INVALID_ARG, "selects none of the model's 5");
    ck_assert_int_eq(qrb_snapshot_create(NULL, NULL, &snapshot),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_snapshot_create(host->model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_snapshot_restore(NULL), QRB_E_INVALID_ARG);
    qrb_snapshot_destroy(NULL);
}
END_TEST

static qrb_status build_snapshot(qrb_context *context, void *arg)
{
    struct mock_host *made = NULL;
    qrb_snapshot *snapshot = NULL;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made);
    if (status == QRB_OK) {
        status = qrb_snapshot_create(made->model, NULL, &snapshot);
        ck_assert((snapshot == NULL) == (status != QRB_OK));
    }
    qrb_snapshot_destroy(snapshot);
    mock_host_destroy(made);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_snapshot, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("snapshot");
    TCase *test = tcase_create("snapshot");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, a_snapshot_brings_back_every_bit);
    tcase_add_test(test, a_snapshot_leaves_other_weights_alone);
    tcase_add_test(test, a_restore_is_whole_whichever_call_of_the_host_fails);
    tcase_add_test(test, the_first_failure_is_the_one_that_is_told);
    tcase_add_test(test, a_snapshot_of_nothing_is_refused);
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
