/* Tokenizers of llama2.c, against their rules as plain loops, and saved as
 * tokenizer.json. */
#include "tokenizers.h"

enum {
    BASE = 259,         /* <unk>, beginning, end, and the bytes */
    SIZE_MAX_OF = 8192, /* bytes of a file made here */
    TOKENS_MAX = BASE + 64
};

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

/* A file, and what is in it. */
struct file {
    char bytes[SIZE_MAX_OF];
    size_t size;
    char tokens[TOKENS_MAX][16];
    float scores[TOKENS_MAX];
    size_t count;
};

static void put_token(struct file *file, const char *token, float score)
{
    const uint32_t length = (uint32_t)strlen(token);

    memcpy(file->bytes + file->size, &score, 4);
    memcpy(file->bytes + file->size + 4, &length, 4);
    memcpy(file->bytes + file->size + 8, token, length);
    file->size += 8 + length;
    if (strlen(token) < 16 && file->count < TOKENS_MAX) {
        strcpy(file->tokens[file->count], token);
        file->scores[file->count] = score;
    }
    file->count++;
}

static void begin_file(struct file *file)
{
    const uint32_t longest = 15;
    char name[8];

    memset(file, 0, sizeof *file);
    memcpy(file->bytes, &longest, 4);
    file->size = 4;
    put_token(file, "<unk>", 0.0f);
    put_token(file, "\n<s>\n", 0.0f);
    put_token(file, "\n</s>\n", 0.0f);
    for (unsigned byte = 0; byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", byte);
        put_token(file, name, 0.0f);
    }
}

static qrb_status try_file(qrb_context *context, const char *bytes, size_t size,
                           qrb_tokenizer **out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = bytes;
    source.size = size;
    return qrb_tokenizer_open(context, &source, QRB_TOKENIZER_LLAMA2C, out);
}

static qrb_tokenizer *open_file(const struct file *file)
{
    qrb_tokenizer *tokenizer = NULL;

    ASSERT_OK(ctx, try_file(ctx, file->bytes, file->size, &tokenizer));
    return tokenizer;
}

static int32_t find(const struct file *file, const char *a, const char *b)
{
    char joined[32];

    snprintf(joined, sizeof joined, "%s%s", a, b);
    for (size_t i = 0; i < file->count; i++)
        if (strcmp(file->tokens[i], joined) == 0)
            return (int32_t)i;
    return -1;
}

/* The rules: ASCII text of less than 64 characters. */
static size_t encode_by_rules(const struct file *file, const char *text,
                              int32_t ids[65])
{
    size_t count = 0;

    if (*text != '\0')
        ids[count++] = find(file, " ", "");
    for (; *text != '\0'; text++) {
        const char character[2] = { *text, '\0' };
        const int32_t id = find(file, character, "");

        ids[count++] = id >= 0 ? id : 3 + *text;
    }
    for (;;) {
        float best = 0.0f;
        size_t at = SIZE_MAX;
        int32_t result = -1;

        for (size_t i = 0; i + 1 < count; i++) {
            const int32_t id =
                find(file, file->tokens[ids[i]], file->tokens[ids[i + 1]]);

            if (id >= 0 && (at == SIZE_MAX || file->scores[id] > best)) {
                best = file->scores[id];
                at = i;
                result = id;
            }
        }
        if (at == SIZE_MAX)
            return count;
        ids[at] = result;
        count--;
        memmove(&ids[at + 1], &ids[at + 2], (count - at - 1) * sizeof *ids);
    }
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Words of a, b and space in random order, with scores from [-spread, 0]. */
static void make_random_file(struct file *file, uint32_t *state,
                             unsigned spread)
{
    const size_t tokens = 4 + next_random(state) % 40;

    begin_file(file);
    put_token(file, "a", -1.0f);
    put_token(file, "b", -2.0f);
    put_token(file, " ", -3.0f);
    for (size_t i = 0; i < tokens; i++) {
        const size_t length = 2 + next_random(state) % 6;
        char token[16] = "";

        for (size_t k = 0; k < length; k++)
            token[k] = "aab "[next_random(state) % 4];
        if (find(file, token, "") < 0)
            put_token(file, token,
                      spread == 0 ? -(float)(next_random(state) & 0xffff) -
                                        (float)i / 64.0f
                                  : -(float)(next_random(state) % spread));
    }
}

static void expect_rules(const struct file *file, const qrb_tokenizer *t,
                         uint32_t *state)
{
    for (int i = 0; i < 20; i++) {
        const size_t length = next_random(state) % 40;
        char text[41] = "";
        int32_t expected[65];
        size_t count;

        for (size_t k = 0; k < length; k++)
            text[k] = "aab c"[next_random(state) % 5];
        count = encode_by_rules(file, text, expected);
        expect_ids(ctx, t, text, length, expected, count);
    }
}

/* Scores in no order at all, so that longer tokens may be better than what
 * they are made of. */
START_TEST(merges_follow_from_scores_whatever_they_are)
{
    static struct file file;
    uint32_t state = (uint32_t)_i + 1;
    qrb_tokenizer *t;
    char path[256];

    in_directory(directory, "tokenizer.json", path);
    for (int i = 0; i < 20; i++) {
        make_random_file(&file, &state, 0);
        t = open_file(&file);
        expect_rules(&file, t, &state);
        ASSERT_OK(ctx, qrb_tokenizer_save(t, path));
        qrb_tokenizer_destroy(t);
        ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, path, &t));
        expect_rules(&file, t, &state);
        qrb_tokenizer_destroy(t);
    }
}
END_TEST

START_TEST(of_equal_scores_the_leftmost_goes_first)
{
    static struct file file;
    uint32_t state = (uint32_t)_i + 1;

    for (int i = 0; i < 20; i++) {
        qrb_tokenizer *t;

        make_random_file(&file, &state, 4);
        t = open_file(&file);
        expect_rules(&file, t, &state);
        qrb_tokenizer_destroy(t);
    }
}
END_TEST

START_TEST(equal_scores_cannot_be_saved)
{
    static struct file file;
    qrb_tokenizer *t;
    char path[256];

    begin_file(&file);
    put_token(&file, "a", 0.0f);
    put_token(&file, "b", 0.0f);
    put_token(&file, "ab", -1.0f);
    put_token(&file, "ba", -1.0f);
    t = open_file(&file);
    in_directory(directory, "tokenizer.json", path);
    ASSERT_FAILS(ctx, qrb_tokenizer_save(t, path), QRB_E_UNSUPPORTED,
                 "tokens 261 and 262 have the same score");
    ck_assert_int_ne(access(path, F_OK), 0);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(bytes_are_three_to_258_and_the_space_in_front_comes_off)
{
    static struct file file;
    qrb_tokenizer *t;
    int32_t expected[101] = { 259 };
    char unknown[100];

    begin_file(&file);
    put_token(&file, " ", 0.0f);
    put_token(&file, "\xc3\xa9", 0.0f);
    t = open_file(&file);
    ck_assert_int_eq(qrb_tokenizer_bos(t), 1);
    ck_assert_int_eq(qrb_tokenizer_eos(t), 2);
    EXPECT_IDS(ctx, t, "A\xc3\xa9\xc3", 259, 3 + 'A', 260, 3 + 0xc3);
    memset(unknown, 'z', sizeof unknown);
    for (size_t i = 0; i < sizeof unknown; i++)
        expected[i + 1] = 3 + 'z';
    expect_ids(ctx, t, unknown, sizeof unknown, expected, 101);
    /* The names of the first tokens are text like any other. */
    EXPECT_IDS(ctx, t, "\n<s>", 259, 13, 63, 118, 65);
    expect_text(ctx, t, (const int32_t[]){ 1, 259, 259, 3 + 'A', 2, 259 }, 6,
                " A ");
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(what_is_wrong_is_refused_with_the_number_of_the_token)
{
    static struct file file;
    qrb_tokenizer *t = NULL;
    uint32_t length = 0;
    float infinite = 1.0f / 0.0f;

    ASSERT_FAILS(ctx, try_file(ctx, "abc", 3, &t), QRB_E_FORMAT,
                 "the longest token has 0 bytes");
    begin_file(&file);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size - 14, &t),
                 QRB_E_FORMAT, "258 tokens, at least 259");
    memcpy(file.bytes, &length, 4);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "has 0 bytes, 1 to 256");
    length = 257;
    memcpy(file.bytes, &length, 4);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "has 257 bytes, 1 to 256");
    length = 5;
    memcpy(file.bytes, &length, 4);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "token 2 has 6 bytes, 1 to 5 are allowed");
    begin_file(&file);
    memcpy(file.bytes + 4, &infinite, 4);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "the score of token 0 is not finite");
    begin_file(&file);
    memcpy(file.bytes + 8, &infinite, 4);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "token 0 has 2139095040 bytes");
    begin_file(&file);
    file.bytes[file.size - 2] = 'E';
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "token 258 is \"<0xFE>\", expected <0xFF>");
    begin_file(&file);
    put_token(&file, "a\xc3", 0.0f);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "token 259 is not UTF-8");
    file.bytes[file.size - 1] = '\0';
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "or has a NUL");
    begin_file(&file);
    put_token(&file, "<unk>", 0.0f);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t), QRB_E_FORMAT,
                 "token 259 (\"<unk>\") is there twice");
    begin_file(&file);
    put_token(&file, "x", 0.0f);
    put_token(&file, "x<0x0A>", 0.0f);
    ASSERT_FAILS(ctx, try_file(ctx, file.bytes, file.size, &t),
                 QRB_E_UNSUPPORTED, "token 260 is made of tokens 259 and 13");
    ck_assert_ptr_null(t);
}
END_TEST

START_TEST(a_file_cut_short_within_a_token_is_refused)
{
    static struct file file;
    size_t ends = 4;

    begin_file(&file);
    put_token(&file, "ab", 0.0f);
    put_token(&file, "abc", -1.0f);
    for (size_t size = 0; size < file.size; size++) {
        char *copy = malloc(size + 1); /* so that reading on is seen */
        qrb_tokenizer *t = NULL;
        qrb_status status;
        uint32_t length;

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, file.bytes, size);
        status = try_file(ctx, copy, size, &t);
        if (size > ends) {
            memcpy(&length, file.bytes + ends + 4, 4);
            ends += 8 + length;
        }
        /* Cut between tokens it is a shorter file. */
        ck_assert_int_eq(status == QRB_OK,
                         size == ends && size >= file.size - 21);
        qrb_tokenizer_destroy(t);
        free(copy);
    }
}
END_TEST

START_TEST(a_file_with_any_byte_changed_is_read_or_refused)
{
    static struct file file;
    static struct file copy;

    begin_file(&file);
    put_token(&file, "a", 0.0f);
    put_token(&file, "aa", -1.0f);
    put_token(&file, "\xc3\xa9", -2.0f);
    for (size_t i = 0; i < file.size; i++) {
        qrb_tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t count;

        copy = file;
        copy.bytes[i] ^= (char)(1 << i % 8);
        if (try_file(ctx, copy.bytes, copy.size, &t) == QRB_OK) {
            ASSERT_OK(ctx,
                      qrb_tokenizer_encode(t, "aaa\xc3\xa9", 5, &ids, &count));
            qrb_free(ctx, ids);
        }
        qrb_tokenizer_destroy(t);
    }
}
END_TEST

static void expect_same(const qrb_tokenizer *a, const qrb_tokenizer *b,
                        const char *text, size_t size)
{
    int32_t *ids[2];
    size_t counts[2];

    ASSERT_OK(
        ctx, qrb_tokenizer_encode_document(a, text, size, &ids[0], &counts[0]));
    ASSERT_OK(
        ctx, qrb_tokenizer_encode_document(b, text, size, &ids[1], &counts[1]));
    ck_assert_uint_eq(counts[0], counts[1]);
    ck_assert_mem_eq(ids[0], ids[1], counts[0] * sizeof *ids[0]);
    qrb_free(ctx, ids[0]);
    qrb_free(ctx, ids[1]);
}

START_TEST(a_real_one_is_saved_without_changing_a_token)
{
    enum { RANDOM = 200000 };
    const char *names[] = { "text/tinystories/tinystories_a.txt",
                            "text/wikitext-2/wiki.test.raw" };
    qrb_tokenizer *t = NULL;
    qrb_tokenizer *saved = NULL;
    char source[512];
    char path[256];
    char *text;
    size_t size;
    uint32_t state = 1;

    if (shared_path("models/stories260K/tok512.bin", source) == NULL)
        return;
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, source, &t));
    in_directory(directory, "tokenizer.json", path);
    ASSERT_OK(ctx, qrb_tokenizer_save(t, path));
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, directory, &saved));
    for (size_t i = 0; i < 2; i++) {
        if (shared_path(names[i], source) == NULL)
            continue;
        text = get_file(source, &size);
        expect_same(t, saved, text, size);
        free(text);
    }
    text = malloc(RANDOM);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < RANDOM; i++)
        text[i] = (char)next_random(&state);
    expect_same(t, saved, text, RANDOM);
    free(text);
    qrb_tokenizer_destroy(t);
    qrb_tokenizer_destroy(saved);
}
END_TEST

static qrb_status open_some(qrb_context *failing, void *arg)
{
    const struct file *file = arg;
    qrb_tokenizer *t = NULL;
    const qrb_status status = try_file(failing, file->bytes, file->size, &t);

    ck_assert((t != NULL) == (status == QRB_OK));
    qrb_tokenizer_destroy(t);
    return status;
}

START_TEST(no_failed_allocation_is_lost_in_opening)
{
    static struct file file;
    uint32_t state = 1;

    make_random_file(&file, &state, 0);
    fail_each_allocation(open_some, &file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llama2.c tokenizer");
    TCase *files = tcase_create("files");

    tcase_set_timeout(files, 60);
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_loop_test(files, merges_follow_from_scores_whatever_they_are, 0,
                        5);
    tcase_add_loop_test(files, of_equal_scores_the_leftmost_goes_first, 0, 5);
    tcase_add_test(files, equal_scores_cannot_be_saved);
    tcase_add_test(files,
                   bytes_are_three_to_258_and_the_space_in_front_comes_off);
    tcase_add_test(files,
                   what_is_wrong_is_refused_with_the_number_of_the_token);
    tcase_add_test(files, a_file_cut_short_within_a_token_is_refused);
    tcase_add_test(files, a_file_with_any_byte_changed_is_read_or_refused);
    tcase_add_test(files, a_real_one_is_saved_without_changing_a_token);
    tcase_add_test(files, no_failed_allocation_is_lost_in_opening);
    suite_add_tcase(suite, files);
    return run_suite(suite);
}
