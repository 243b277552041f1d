/* Training of byte-level BPE: which merges, which ids, and that what was
 * trained can be saved, opened and used. */
#include "tokenizers.h"

#include <stdbool.h>

enum { FIRST_MERGE = 257 };

static qrb_context *ctx;
static char directory[64];

static void set_up(void)
{
    ctx = make_context(NULL);
    make_directory(directory);
}

static void tear_down(void)
{
    remove_directory(directory);
    qrb_context_destroy(ctx);
}

static qrb_tokenizer *train(const char *text, size_t vocab)
{
    qrb_tokenizer *tokenizer = NULL;

    ASSERT_OK(ctx,
              qrb_tokenizer_train(ctx, text, strlen(text), vocab, &tokenizer));
    return tokenizer;
}

/* The bytes of one token. */
static void expect_token(const qrb_tokenizer *tokenizer, int32_t id,
                         const char *expected)
{
    expect_text(ctx, tokenizer, &id, 1, expected);
}

START_TEST(ids_are_the_special_token_then_bytes_then_merges)
{
    qrb_tokenizer *tokenizer = train("ab ab", FIRST_MERGE + 1);

    ck_assert_uint_eq(qrb_tokenizer_vocab(tokenizer), FIRST_MERGE + 1);
    ck_assert_int_eq(qrb_tokenizer_bos(tokenizer), 0);
    ck_assert_int_eq(qrb_tokenizer_eos(tokenizer), 0);
    /* Bytes that print come first, in order: '!' is 33. */
    expect_token(tokenizer, 1, "!");
    expect_token(tokenizer, 1 + 'a' - '!', "a");
    expect_token(tokenizer, FIRST_MERGE, "ab");
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

/* Counts are those of pairs in "low low low low low lower lower newest x 6
 * widest x 3" with a space in front of each word but the first: the example
 * of Sennrich et al.  e s: 9; then es t: 9; then l o: 7; lo w: 7; of the pairs
 * that are there 6 or 7 times, ' ' with what follows. */
START_TEST(the_most_frequent_pair_is_merged_first)
{
    qrb_tokenizer *tokenizer =
        train("low low low low low lower lower newest newest newest newest "
              "newest newest widest widest widest",
              FIRST_MERGE + 4);

    expect_token(tokenizer, FIRST_MERGE, "es");
    expect_token(tokenizer, FIRST_MERGE + 1, "est");
    expect_token(tokenizer, FIRST_MERGE + 2, "lo");
    expect_token(tokenizer, FIRST_MERGE + 3, "low");
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(of_equally_frequent_pairs_the_lesser_ids_go_first)
{
    qrb_tokenizer *tokenizer = train("zy\nab\nac", FIRST_MERGE + 3);

    expect_token(tokenizer, FIRST_MERGE, "ab");
    expect_token(tokenizer, FIRST_MERGE + 1, "ac");
    expect_token(tokenizer, FIRST_MERGE + 2, "zy");
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

/* aaaaa has the pair a a four times, but merges of it overlap. */
START_TEST(runs_of_one_byte_are_merged_from_the_left)
{
    qrb_tokenizer *tokenizer = train("aaaaa", FIRST_MERGE + 3);

    expect_token(tokenizer, FIRST_MERGE, "aa");
    expect_token(tokenizer, FIRST_MERGE + 1, "aaa");
    expect_token(tokenizer, FIRST_MERGE + 2, "aaaaa");
    expect_ids(ctx, tokenizer, "aaaaaaa", 7, (const int32_t[]){ 257, 259 }, 2);
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(merges_do_not_cross_words_and_separators_are_not_learned)
{
    qrb_tokenizer *tokenizer = NULL;
    const char *text = "x y\n<|endoftext|>\nx y\n<|endoftext|>\n";

    /* " y" is the only pair. */
    ASSERT_FAILS(ctx,
                 qrb_tokenizer_train(ctx, text, strlen(text), FIRST_MERGE + 2,
                                     &tokenizer),
                 QRB_E_SHAPE, "the text has 1 merges");
    ck_assert_ptr_null(tokenizer);
    tokenizer = train(text, FIRST_MERGE + 1);
    expect_token(tokenizer, FIRST_MERGE, " y");
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

/* The counts that are kept up to date, against counting anew each time. */
START_TEST(merges_are_those_of_counting_anew_for_each)
{
    enum { WORDS = 60, LENGTH = 12, MERGES = 40 };
    int32_t symbols[WORDS][LENGTH];
    size_t lengths[WORDS];
    char text[WORDS * (LENGTH + 1) + 1];
    size_t size = 0;
    uint32_t state = 1;
    qrb_tokenizer *tokenizer;

    for (size_t w = 0; w < WORDS; w++) {
        lengths[w] = 3 + w % (LENGTH - 3);
        for (size_t i = 0; i < lengths[w]; i++) {
            state = state * 1664525u + 1013904223u;
            text[size++] = (char)('a' + (state >> 30));
            symbols[w][i] = 1 + text[size - 1] - '!';
        }
        text[size++] = '\n';
    }
    text[size] = '\0';
    tokenizer = train(text, FIRST_MERGE + MERGES);
    for (int32_t merge = 0; merge < MERGES; merge++) {
        static size_t counts[FIRST_MERGE + MERGES][FIRST_MERGE + MERGES];
        int32_t left = 0;
        int32_t right = 0;
        char *name = NULL;
        size_t count;

        memset(counts, 0, sizeof counts);
        for (size_t w = 0; w < WORDS; w++)
            for (size_t i = 1; i < lengths[w]; i++)
                counts[symbols[w][i - 1]][symbols[w][i]]++;
        for (int32_t a = 0; a < FIRST_MERGE + merge; a++)
            for (int32_t b = 0; b < FIRST_MERGE + merge; b++)
                if (counts[a][b] > counts[left][right]) {
                    left = a;
                    right = b;
                }
        ASSERT_OK(ctx, qrb_tokenizer_decode(tokenizer,
                                            (const int32_t[]){ left, right }, 2,
                                            &name, &count));
        expect_token(tokenizer, FIRST_MERGE + merge, name);
        qrb_free(ctx, name);
        for (size_t w = 0; w < WORDS; w++) {
            size_t used = 0;

            for (size_t i = 0; i < lengths[w]; i++) {
                const bool here = i + 1 < lengths[w] && symbols[w][i] == left &&
                                  symbols[w][i + 1] == right;

                symbols[w][used++] = here ? FIRST_MERGE + merge : symbols[w][i];
                i += here;
            }
            lengths[w] = used;
        }
    }
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(what_was_trained_can_be_saved_and_opened)
{
    const char *text = "the cat sat on the mat\n\nthe \xff\xc3 end, it's 42\n";
    qrb_tokenizer *tokenizer = train(text, FIRST_MERGE + 12);
    qrb_tokenizer *opened = NULL;
    char path[256];
    char again[256];
    char *bytes[2];
    int32_t *ids[2];
    size_t counts[2];
    size_t sizes[2];

    in_directory(directory, "tokenizer.json", path);
    in_directory(directory, "again.json", again);
    ASSERT_OK(ctx, qrb_tokenizer_save(tokenizer, path));
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, directory, &opened));
    ASSERT_OK(ctx, qrb_tokenizer_save(opened, again));
    bytes[0] = get_file(path, &sizes[0]);
    bytes[1] = get_file(again, &sizes[1]);
    ck_assert_str_eq(bytes[0], bytes[1]);
    ck_assert_int_eq(qrb_tokenizer_bos(opened), 0);
    ck_assert_int_eq(qrb_tokenizer_eos(opened), 0);
    ck_assert_uint_eq(qrb_tokenizer_vocab(opened), FIRST_MERGE + 12);
    ASSERT_OK(ctx, qrb_tokenizer_encode(tokenizer, text, strlen(text), &ids[0],
                                        &counts[0]));
    ASSERT_OK(ctx, qrb_tokenizer_encode(opened, text, strlen(text), &ids[1],
                                        &counts[1]));
    ck_assert_uint_eq(counts[1], counts[0]);
    ck_assert_mem_eq(ids[1], ids[0], counts[0] * sizeof *ids[0]);
    for (size_t i = 0; i < 2; i++) {
        free(bytes[i]);
        qrb_free(ctx, ids[i]);
    }
    qrb_tokenizer_destroy(tokenizer);
    qrb_tokenizer_destroy(opened);
}
END_TEST

START_TEST(arguments_out_of_range_are_refused)
{
    qrb_tokenizer *tokenizer = NULL;

    ck_assert_int_eq(qrb_tokenizer_train(NULL, "a", 1, 300, &tokenizer),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_tokenizer_train(ctx, "a", 1, 300, NULL),
                 QRB_E_INVALID_ARG, "out is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_train(ctx, NULL, 1, 300, &tokenizer),
                 QRB_E_INVALID_ARG, "text is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_train(ctx, "a", 1, 256, &tokenizer),
                 QRB_E_INVALID_ARG, "257 to 16777216");
    ASSERT_FAILS(ctx, qrb_tokenizer_train(ctx, "a", 1, SIZE_MAX, &tokenizer),
                 QRB_E_INVALID_ARG, "257 to 16777216");
    ASSERT_OK(ctx, qrb_tokenizer_train(ctx, NULL, 0, 257, &tokenizer));
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

static int stop(const char *what, uint64_t done, uint64_t total, void *user)
{
    (void)what;
    (void)user;
    ck_assert_uint_le(done, total);
    return done > 0;
}

START_TEST(training_can_be_cancelled)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *cancelled = NULL;
    qrb_tokenizer *tokenizer = NULL;
    char text[4 * 256];

    options.progress = stop;
    ASSERT_OK(ctx, qrb_context_create(&options, &cancelled));
    for (size_t i = 0; i < 256; i++) {
        text[4 * i] = '\n';
        text[4 * i + 1] = (char)('a' + i % 16);
        text[4 * i + 2] = (char)('a' + i / 16);
        text[4 * i + 3] = 'x';
    }
    ck_assert_int_eq(qrb_tokenizer_train(cancelled, text, sizeof text,
                                         FIRST_MERGE + 200, &tokenizer),
                     QRB_E_CANCELLED);
    ck_assert_ptr_null(tokenizer);
    qrb_context_destroy(cancelled);
}
END_TEST

static qrb_status train_some(qrb_context *failing, void *arg)
{
    static const char text[] = "some words, some more words, \xf0\x9f and 12";
    qrb_tokenizer *tokenizer = NULL;
    const qrb_status status = qrb_tokenizer_train(
        failing, text, sizeof text - 1, FIRST_MERGE + 15, &tokenizer);

    (void)arg;
    ck_assert((tokenizer != NULL) == (status == QRB_OK));
    qrb_tokenizer_destroy(tokenizer);
    return status;
}

START_TEST(no_failed_allocation_is_lost_in_training)
{
    fail_each_allocation(train_some, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer training");
    TCase *training = tcase_create("training");

    tcase_add_checked_fixture(training, set_up, tear_down);
    tcase_add_test(training, ids_are_the_special_token_then_bytes_then_merges);
    tcase_add_test(training, the_most_frequent_pair_is_merged_first);
    tcase_add_test(training, of_equally_frequent_pairs_the_lesser_ids_go_first);
    tcase_add_test(training, runs_of_one_byte_are_merged_from_the_left);
    tcase_add_test(training,
                   merges_do_not_cross_words_and_separators_are_not_learned);
    tcase_add_test(training, merges_are_those_of_counting_anew_for_each);
    tcase_add_test(training, what_was_trained_can_be_saved_and_opened);
    tcase_add_test(training, arguments_out_of_range_are_refused);
    tcase_add_test(training, training_can_be_cancelled);
    tcase_add_test(training, no_failed_allocation_is_lost_in_training);
    suite_add_tcase(suite, training);
    return run_suite(suite);
}
