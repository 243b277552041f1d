/* Batches of tokens, and datasets that make them. */
#include "model_fixture.h"

START_TEST(rows_of_a_token_batch_are_those_that_are_scored)
{
    const int32_t tokens[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    size_t first[2] = { 1, 4 };
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    batch.tokens = tokens;
    batch.first_scored = first;
    batch.sequences = 2;
    batch.length = 4;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 3);
    first[0] = 4;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "none of its 8"));
    first[0] = 0;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "is 0"));
    first[0] = 5;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "1..4"));
    first[0] = 1;
    batch.sequences = SIZE_MAX / 2;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.sequences = 0;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.sequences = 2;
    batch.tokens = NULL;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "without tokens"));
    batch.tokens = tokens;
    batch.first_scored = NULL;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.first_scored = first;
    batch.struct_size = 8;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, NULL), 0);
}
END_TEST

static qrb_dataset *dataset_of(const int32_t *tokens, size_t count,
                               size_t batch, size_t context)
{
    const qrb_dataset_options options = { sizeof options, batch, context };
    qrb_dataset *dataset = NULL;

    ASSERT_OK(ctx, qrb_dataset_create(ctx, tokens, count, &options, &dataset));
    return dataset;
}

START_TEST(a_batch_of_a_dataset_depends_on_its_number_alone)
{
    int32_t tokens[200];
    qrb_dataset *dataset;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    int32_t first[3 * 11];

    for (int i = 0; i < 200; i++)
        tokens[i] = i;
    dataset = dataset_of(tokens, 200, 3, 10);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_uint_eq(batch.sequences, 3);
    ck_assert_uint_eq(batch.length, 11);
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 30);
    memcpy(first, batch.tokens, sizeof first);
    for (size_t s = 0; s < 3; s++)
        for (size_t t = 1; t < 11; t++) /* windows are runs of the text */
            ck_assert_int_eq(first[s * 11 + t], first[s * 11] + (int)t);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, 1, &batch));
    ck_assert_mem_ne(batch.tokens, first, sizeof first);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_mem_eq(batch.tokens, first, sizeof first);
    qrb_dataset_destroy(dataset);

    /* The same in a dataset of its own. */
    dataset = dataset_of(tokens, 200, 3, 10);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_mem_eq(batch.tokens, first, sizeof first);
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(windows_start_everywhere_with_equal_chance)
{
    int32_t tokens[12];
    size_t starts[10] = { 0 };
    qrb_dataset *dataset;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    for (int i = 0; i < 12; i++)
        tokens[i] = i;
    dataset = dataset_of(tokens, 12, 5, 2); /* 10 starts */
    for (uint64_t index = 0; index < 2000; index++) {
        ASSERT_OK(ctx, qrb_dataset_batch(dataset, index, &batch));
        for (size_t s = 0; s < 5; s++)
            starts[batch.tokens[s * 3]]++;
    }
    /* 10,000 draws over 10 cells: standard deviation 30 each. */
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_gt(starts[i], 1000 - 120);
        ck_assert_uint_lt(starts[i], 1000 + 120);
    }
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(batches_follow_the_seed_of_the_context)
{
    int32_t tokens[1000];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *other = NULL;
    const qrb_dataset_options shape = { sizeof shape, 4, 8 };
    qrb_dataset *one;
    qrb_dataset *two = NULL;
    qrb_token_batch a = QRB_TOKEN_BATCH_INIT;
    qrb_token_batch b = QRB_TOKEN_BATCH_INIT;

    for (int i = 0; i < 1000; i++)
        tokens[i] = i;
    options.seed = 1;
    ASSERT_OK(ctx, qrb_context_create(&options, &other));
    one = dataset_of(tokens, 1000, 4, 8);
    ASSERT_OK(other, qrb_dataset_create(other, tokens, 1000, &shape, &two));
    ASSERT_OK(ctx, qrb_dataset_batch(one, 0, &a));
    ASSERT_OK(other, qrb_dataset_batch(two, 0, &b));
    ck_assert_mem_ne(a.tokens, b.tokens, 36 * sizeof *a.tokens);
    qrb_dataset_destroy(one);
    qrb_dataset_destroy(two);
    qrb_context_destroy(other);
}
END_TEST

START_TEST(a_text_as_short_as_a_sequence_is_enough)
{
    const int32_t tokens[3] = { 7, 8, 9 };
    qrb_dataset *dataset = dataset_of(tokens, 3, 1, 2);
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    ASSERT_OK(ctx, qrb_dataset_batch(dataset, 5, &batch));
    ck_assert_mem_eq(batch.tokens, tokens, sizeof tokens);
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_dataset_that_makes_no_sense_is_refused)
{
    const int32_t tokens[4] = { 1, 2, -3, 4 };
    qrb_dataset_options options = { sizeof options, 1, 2 };
    qrb_dataset *dataset = NULL;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    ck_assert_int_eq(qrb_dataset_create(NULL, tokens, 4, NULL, &dataset),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_dataset_create(ctx, tokens, 4, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 4, NULL, &dataset),
                 QRB_E_SHAPE, "4 tokens; a sequence has 128 + 1");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 4, &options, &dataset),
                 QRB_E_INVALID_ARG, "token 2 is -3");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, NULL, 4, &options, &dataset),
                 QRB_E_INVALID_ARG, "tokens is NULL");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_SHAPE, "2 tokens");
    options.batch = 0;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_INVALID_ARG, "batch is 0");
    options.batch = SIZE_MAX / 2;
    options.context = 1;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_NO_MEMORY, "batches of");
    options.batch = SIZE_MAX;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_SHAPE, "batches of");
    ck_assert_ptr_null(dataset);
    ck_assert_int_eq(qrb_dataset_batch(NULL, 0, &batch), QRB_E_INVALID_ARG);
    dataset = dataset_of(tokens, 2, 1, 1);
    ASSERT_FAILS(ctx, qrb_dataset_batch(dataset, 0, NULL), QRB_E_INVALID_ARG,
                 "NULL");
    batch.struct_size = 0;
    ASSERT_FAILS(ctx, qrb_dataset_batch(dataset, 0, &batch), QRB_E_INVALID_ARG,
                 "struct_size is 0");
    qrb_dataset_destroy(dataset);
}
END_TEST

static qrb_status build_dataset(qrb_context *context, void *arg)
{
    const int32_t tokens[300] = { 0 };
    qrb_dataset *dataset = NULL;
    qrb_status status;

    (void)arg;
    status = qrb_dataset_create(context, tokens, 300, NULL, &dataset);
    ck_assert((dataset == NULL) == (status != QRB_OK));
    qrb_dataset_destroy(dataset);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_dataset, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset");
    TCase *test = tcase_create("dataset");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, rows_of_a_token_batch_are_those_that_are_scored);
    tcase_add_test(test, a_batch_of_a_dataset_depends_on_its_number_alone);
    tcase_add_test(test, windows_start_everywhere_with_equal_chance);
    tcase_add_test(test, batches_follow_the_seed_of_the_context);
    tcase_add_test(test, a_text_as_short_as_a_sequence_is_enough);
    tcase_add_test(test, a_dataset_that_makes_no_sense_is_refused);
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
