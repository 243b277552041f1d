/* What happens to text on its way to tokens and back, on tokenizers that are
 * small enough to be seen through. */
#include "tokenizers.h"

#include <stdbool.h>

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

/* A tokenizer of characters: a = 0, b = 1, c = 2, ab = 3, U+2581 = 4,
 * "U+2581 a" = 5, ? = 6. */
#define CHARACTERS                                                             \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"\xe2\x96\x81\":4,"          \
    "\"\xe2\x96\x81"                                                           \
    "a\":5,\"?\":6},\"merges\":[[\"a\",\"b\"],"                                \
    "[\"\xe2\x96\x81\",\"a\"]]"

static qrb_tokenizer *open_with(const char *parts, const char *model)
{
    char text[4096];

    snprintf(text, sizeof text, "{%s\"model\":{\"type\":\"BPE\",%s}}", parts,
             model);
    return open_json(ctx, text);
}

/* Byte-level: all bytes as in GPT-2's order, then "he" = 256, "\u0120he" =
 * 257, and whatever added tokens. */
static qrb_tokenizer *open_bytes(const char *parts, const char *settings)
{
    static char text[16384];
    size_t size;

    size = (size_t)snprintf(text, sizeof text, "{%s\"model\":{%s\"vocab\":{",
                            parts, settings);
    for (unsigned code = 0, id = 0; code < 0x144; code++) {
        const bool printing = (code >= 33 && code <= 126) ||
                              (code >= 161 && code != 173 && code < 0x100);

        if (code < 0x100 && !printing)
            continue;
        size += (size_t)snprintf(text + size, sizeof text - size,
                                 "\"\\u%04x\":%u,", code, id++);
    }
    snprintf(text + size, sizeof text - size,
             "\"he\":256,\"\\u0120he\":257},\"merges\":[\"h e\","
             "\"\\u0120 he\"]}}");
    return open_json(ctx, text);
}

#define BYTE_LEVEL                                                             \
    "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"   \
    "\"decoder\":{\"type\":\"ByteLevel\"},"

START_TEST(merges_go_by_rank_and_then_from_the_left)
{
    qrb_tokenizer *t = open_with("", CHARACTERS);

    EXPECT_IDS(ctx, t, "ab", 3);
    EXPECT_IDS(ctx, t, "aab", 0, 3);
    EXPECT_IDS(ctx, t,
               "\xe2\x96\x81"
               "ab",
               4, 3);
    EXPECT_IDS(ctx, t,
               "\xe2\x96\x81"
               "ac",
               5, 2);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(no_text_gives_an_array_of_no_tokens)
{
    qrb_tokenizer *t = open_with("", CHARACTERS);
    int32_t *ids = NULL;
    size_t count = 1;

    ASSERT_OK(ctx, qrb_tokenizer_encode(t, NULL, 0, &ids, &count));
    ck_assert_ptr_nonnull(ids);
    ck_assert_uint_eq(count, 0);
    qrb_free(ctx, ids);
    expect_text(ctx, t, NULL, 0, "");
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(unknown_characters_are_the_unknown_token_fused_where_asked_for)
{
    qrb_tokenizer *apart = open_with("", "\"unk_token\":\"?\"," CHARACTERS);
    qrb_tokenizer *fused =
        open_with("", "\"unk_token\":\"?\",\"fuse_unk\":true," CHARACTERS);
    qrb_tokenizer *none = open_with("", CHARACTERS);
    int32_t *ids = NULL;
    size_t count;

    EXPECT_IDS(ctx, apart, "xyaz", 6, 6, 0, 6);
    EXPECT_IDS(ctx, fused, "xyaz", 6, 0, 6);
    /* A question mark is known, and nothing to fuse with. */
    EXPECT_IDS(ctx, fused, "?x?", 6, 6, 6);
    /* A broken byte is U+FFFD, which is unknown here. */
    EXPECT_IDS(ctx, apart, "a\xff\x80", 0, 6, 6);
    ASSERT_FAILS(ctx, qrb_tokenizer_encode(none, "abd", 3, &ids, &count),
                 QRB_E_UNSUPPORTED, "U+0064 has no token");
    ck_assert_ptr_null(ids);
    qrb_tokenizer_destroy(apart);
    qrb_tokenizer_destroy(fused);
    qrb_tokenizer_destroy(none);
}
END_TEST

START_TEST(words_that_are_tokens_are_taken_whole_where_asked_for)
{
#define WHOLE                                                                  \
    "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"bc\":3,\"abc\":4},"                  \
    "\"merges\":[\"b c\"]"
    qrb_tokenizer *whole = open_with("", "\"ignore_merges\":true," WHOLE);
    qrb_tokenizer *merged = open_with("", "\"ignore_merges\":false," WHOLE);

    EXPECT_IDS(ctx, whole, "abc", 4);
    EXPECT_IDS(ctx, whole, "abcb", 0, 3, 1);
    EXPECT_IDS(ctx, merged, "abc", 0, 3);
    qrb_tokenizer_destroy(whole);
    qrb_tokenizer_destroy(merged);
}
END_TEST

START_TEST(a_word_of_bytes_is_looked_up_in_their_alphabet)
{
    qrb_tokenizer *t = open_bytes(BYTE_LEVEL, "\"ignore_merges\":true,");

    EXPECT_IDS(ctx, t, " he he", 257, 257);
    EXPECT_IDS(ctx, t, "\xff", 187);
    qrb_tokenizer_destroy(t);
}
END_TEST

#define ADDED(settings)                                                        \
    "\"added_tokens\":[{\"id\":300,\"content\":\"<x>\"," settings              \
    "\"special\":false},{\"id\":301,\"content\":\"<x>y\","                     \
    "\"normalized\":false,\"special\":true}],"

START_TEST(the_longest_added_token_is_found_before_all_else)
{
    qrb_tokenizer *t =
        open_bytes(BYTE_LEVEL ADDED("\"normalized\":false,"), "");

    EXPECT_IDS(ctx, t, "he<x>he", 256, 300, 256);
    EXPECT_IDS(ctx, t, "<x><x>y<x", 300, 301, 27, 87);
    /* Special tokens give nothing, others what they are. */
    expect_text(ctx, t, (const int32_t[]){ 256, 300, 301, 257 }, 4, "he<x> he");
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(added_tokens_take_the_spaces_beside_them_along)
{
    qrb_tokenizer *left = open_bytes(
        BYTE_LEVEL ADDED("\"normalized\":false,\"lstrip\":true,"), "");
    qrb_tokenizer *right = open_bytes(
        BYTE_LEVEL ADDED("\"normalized\":false,\"rstrip\":true,"), "");

    EXPECT_IDS(ctx, left, "he \t\xe3\x80\x80<x> he", 256, 300, 257);
    EXPECT_IDS(ctx, left, "<x>  <x>", 300, 300);
    EXPECT_IDS(ctx, left, "\x80 <x>", 222, 300);
    EXPECT_IDS(ctx, right, "he<x>\n\xc2\xa0 he", 256, 300, 256);
    EXPECT_IDS(ctx, right, "<x>  <x>", 300, 300);
    qrb_tokenizer_destroy(left);
    qrb_tokenizer_destroy(right);
}
END_TEST

START_TEST(single_words_do_not_touch_letters_digits_or_marks)
{
    qrb_tokenizer *t = open_bytes(
        BYTE_LEVEL ADDED("\"normalized\":false,\"single_word\":true,"), "");

    EXPECT_IDS(ctx, t, "<x>", 300);
    EXPECT_IDS(ctx, t, ".<x>.", 13, 300, 13);
    EXPECT_IDS(ctx, t, "he<x>", 256, 27, 87, 29);
    EXPECT_IDS(ctx, t, "<x>1", 27, 87, 29, 16);
    EXPECT_IDS(ctx, t, "_<x>", 62, 27, 87, 29);
    EXPECT_IDS(ctx, t, "<x>\xcc\x81", 27, 87, 29, 136, 223);
    EXPECT_IDS(ctx, t, "<x>\xff", 300, 187);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(normalized_tokens_are_found_in_normalized_text)
{
    /* Prepended to is also what is looked for. */
    qrb_tokenizer *t = open_with(
        "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"x\"},"
        "\"content\":\"ab\"}]},"
        "\"added_tokens\":[{\"id\":9,\"content\":\"xc\",\"special\":false}],",
        CHARACTERS);

    EXPECT_IDS(ctx, t, "xc", 9);
    EXPECT_IDS(ctx, t, "bxcb", 1, 9, 1);
    EXPECT_IDS(ctx, t, "abcx", 9, 3);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(broken_bytes_are_borders_to_the_normalizer)
{
    qrb_tokenizer *t =
        open_bytes("\"normalizer\":{\"type\":\"NFC\"}," BYTE_LEVEL, "");

    /* e and U+0301 are U+00E9, but not across a broken byte. */
    EXPECT_IDS(ctx, t, "e\xcc\x81", 127, 102);
    EXPECT_IDS(ctx, t, "e\xff\xcc\x81", 68, 187, 136, 223);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* 40 marks of falling classes: they are sorted, and the first ones of each
 * class keep their order. */
START_TEST(long_runs_of_marks_are_put_in_order)
{
    qrb_tokenizer *t =
        open_bytes("\"normalizer\":{\"type\":\"NFC\"}," BYTE_LEVEL, "");
    char text[128] = "q";
    char sorted[128] = "q";
    int32_t *ids = NULL;
    char *decoded = NULL;
    size_t count;
    size_t size;

    for (int i = 0; i < 20; i++)
        strcat(text, i % 2 ? "\xcc\x86" : "\xcc\x87"); /* above: 230 */
    for (int i = 0; i < 20; i++)
        strcat(text, "\xcc\xa3"); /* below: 220 */
    for (int i = 0; i < 20; i++)
        strcat(sorted, "\xcc\xa3");
    for (int i = 0; i < 20; i++)
        strcat(sorted, i % 2 ? "\xcc\x86" : "\xcc\x87");
    ASSERT_OK(ctx, qrb_tokenizer_encode(t, text, strlen(text), &ids, &count));
    ASSERT_OK(ctx, qrb_tokenizer_decode(t, ids, count, &decoded, &size));
    ck_assert_str_eq(decoded, sorted);
    qrb_free(ctx, ids);
    qrb_free(ctx, decoded);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* Sorting them one by one would take 10^10 steps. */
START_TEST(very_long_runs_of_marks_are_put_in_order_in_time)
{
    enum { MARKS_OF_A_CLASS = 150000, SIZE = 1 + 4 * MARKS_OF_A_CLASS };
    qrb_tokenizer *t =
        open_bytes("\"normalizer\":{\"type\":\"NFC\"}," BYTE_LEVEL, "");
    char *text = malloc(SIZE);
    int32_t *ids = NULL;
    char *decoded = NULL;
    size_t count;
    size_t size;

    ck_assert_ptr_nonnull(text);
    text[0] = 'q';
    for (size_t i = 0; i < 2 * MARKS_OF_A_CLASS; i++)
        memcpy(text + 1 + 2 * i, i < MARKS_OF_A_CLASS ? "\xcc\x87" : "\xcc\xa3",
               2);
    ASSERT_OK(ctx, qrb_tokenizer_encode(t, text, SIZE, &ids, &count));
    ASSERT_OK(ctx, qrb_tokenizer_decode(t, ids, count, &decoded, &size));
    ck_assert_uint_eq(size, SIZE);
    ck_assert_mem_eq(decoded + 1, text + 1 + 2 * MARKS_OF_A_CLASS,
                     2 * MARKS_OF_A_CLASS);
    ck_assert_mem_eq(decoded + 1 + 2 * MARKS_OF_A_CLASS, text + 1,
                     2 * MARKS_OF_A_CLASS);
    qrb_free(ctx, ids);
    qrb_free(ctx, decoded);
    free(text);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(a_prefix_space_goes_where_there_is_none)
{
    qrb_tokenizer *t = open_bytes(
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\"}," /* true is default */
        ADDED("\"normalized\":false,"),
        "");

    EXPECT_IDS(ctx, t, "he", 257);
    EXPECT_IDS(ctx, t, " he", 257);
    EXPECT_IDS(ctx, t, "he<x>he", 257, 300, 257);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(metaspace_marks_spaces_and_the_beginning)
{
#define METASPACE(settings)                                                    \
    "\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"               \
    "\"\xe2\x96\x81\"," settings                                               \
    "},\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"special\":true}],"
    qrb_tokenizer *always =
        open_with(METASPACE("\"prepend_scheme\":\"always\""), CHARACTERS);
    qrb_tokenizer *first = open_with(
        METASPACE("\"prepend_scheme\":\"first\",\"split\":false"), CHARACTERS);
    qrb_tokenizer *never =
        open_with(METASPACE("\"prepend_scheme\":\"never\""), CHARACTERS);
    qrb_tokenizer *old =
        open_with(METASPACE("\"add_prefix_space\":true"), CHARACTERS);

    EXPECT_IDS(ctx, always, "ac<x>ac  b", 5, 2, 9, 5, 2, 4, 4, 1);
    EXPECT_IDS(ctx, always, " ac", 5, 2);
    EXPECT_IDS(ctx, first, "ac<x>ac a", 5, 2, 9, 0, 2, 5);
    EXPECT_IDS(ctx, first, "<x>ac", 9, 0, 2);
    EXPECT_IDS(ctx, never, "ac ac", 0, 2, 5, 2);
    EXPECT_IDS(ctx, old, "ac", 5, 2);
    qrb_tokenizer_destroy(always);
    qrb_tokenizer_destroy(first);
    qrb_tokenizer_destroy(never);
    qrb_tokenizer_destroy(old);
}
END_TEST

START_TEST(splits_isolate_or_remove_what_they_match)
{
#define SPLIT(pattern, settings)                                               \
    "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{" pattern              \
    "}," settings "},"
    const char *model = "\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,"
                        "\"bc\":4,\"abc\":5,\"ca\":6},\"merges\":[\"a b\","
                        "\"b c\",\"ab c\",\"c a\"]";
    qrb_tokenizer *isolated = open_with(
        SPLIT("\"Regex\":\"b+\"", "\"behavior\":\"Isolated\""), model);
    qrb_tokenizer *removed =
        open_with(SPLIT("\"String\":\"b\"", "\"behavior\":\"Removed\""), model);
    qrb_tokenizer *kept =
        open_with(SPLIT("\"Regex\":\"[ab]+\"",
                        "\"behavior\":\"Removed\",\"invert\":true"),
                  model);
    /* Nothing is matched in front of each c, and that is a border. */
    qrb_tokenizer *border = open_with(
        SPLIT("\"Regex\":\"(?=c)\"", "\"behavior\":\"Isolated\""), model);

    EXPECT_IDS(ctx, isolated, "abbca", 0, 1, 1, 6);
    EXPECT_IDS(ctx, removed, "abbca", 0, 6);
    EXPECT_IDS(ctx, removed, "bbacb", 0, 2);
    EXPECT_IDS(ctx, kept, "cabcca", 3, 0);
    EXPECT_IDS(ctx, border, "abca", 3, 6);
    EXPECT_IDS(ctx, border, "cc", 2, 2);
    qrb_tokenizer_destroy(isolated);
    qrb_tokenizer_destroy(removed);
    qrb_tokenizer_destroy(kept);
    qrb_tokenizer_destroy(border);
}
END_TEST

START_TEST(digits_stand_alone_or_in_runs)
{
    const char *model = "\"vocab\":{\"1\":0,\"2\":1,\"a\":2,\"12\":3,"
                        "\"a1\":4,\"2a\":5},"
                        "\"merges\":[\"a 1\",\"2 a\",\"1 2\"]";
    qrb_tokenizer *runs =
        open_with("\"pre_tokenizer\":{\"type\":\"Digits\"},", model);
    qrb_tokenizer *alone = open_with(
        "\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":"
        "true},",
        model);

    EXPECT_IDS(ctx, runs, "a12a", 2, 3, 2);
    EXPECT_IDS(ctx, alone, "a12a", 2, 0, 1, 2);
    qrb_tokenizer_destroy(runs);
    qrb_tokenizer_destroy(alone);
}
END_TEST

START_TEST(each_part_of_a_sequence_cuts_what_the_one_before_left)
{
    /* c is cut off, then runs of a behind the beginning of a piece. */
    qrb_tokenizer *t = open_with(
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"String\":\"c\"},\"behavior\":"
        "\"Isolated\"},{\"type\":\"Split\",\"pattern\":{\"Regex\":"
        "\"(?<=b)a\"},\"behavior\":\"Removed\"}]},",
        CHARACTERS);

    EXPECT_IDS(ctx, t, "abacab", 3, 2, 3);
    /* The b behind the c is not seen from behind it. */
    EXPECT_IDS(ctx, t, "bcaba", 1, 2, 3);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(an_expression_that_takes_too_long_is_an_error)
{
    qrb_tokenizer *t =
        open_with(SPLIT("\"Regex\":\"(?:a+)+b\"", "\"behavior\":\"Isolated\""),
                  CHARACTERS);
    char text[64];
    int32_t *ids = NULL;
    size_t count;

    memset(text, 'a', sizeof text);
    memcpy(text + sizeof text - 2, "cb", 2);
    ASSERT_FAILS(ctx, qrb_tokenizer_encode(t, text, sizeof text, &ids, &count),
                 QRB_E_UNSUPPORTED, "gives up");
    ck_assert_ptr_null(ids);
    /* What it can do it still does. */
    EXPECT_IDS(ctx, t, "aab", 0, 3);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* Trying each of n spaces for a line end behind it is n calls of matching: the
 * limits are for what grows faster. */
START_TEST(long_runs_of_spaces_are_within_the_limits)
{
    enum { SIZE = 300000 };
    qrb_tokenizer *t = open_with(
        SPLIT("\"Regex\":\"\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"",
              "\"behavior\":\"Isolated\""),
        "\"vocab\":{\" \":0,\"a\":1},\"merges\":[]");
    char *text = malloc(SIZE);
    int32_t *ids = NULL;
    size_t count;

    ck_assert_ptr_nonnull(text);
    memset(text, ' ', SIZE);
    text[SIZE - 1] = 'a';
    ASSERT_OK(ctx, qrb_tokenizer_encode(t, text, SIZE, &ids, &count));
    ck_assert_uint_eq(count, SIZE);
    qrb_free(ctx, ids);
    free(text);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* Half a megabyte in one word, of one byte and of all: the time would tell. */
START_TEST(long_words_are_merged_quickly_and_come_back)
{
    enum { SIZE = 1 << 19 };
    qrb_tokenizer *t = open_bytes(
        "\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
        "false,\"use_regex\":false},",
        "");
    char *text = malloc(SIZE);
    int32_t *ids = NULL;
    char *decoded = NULL;
    size_t count;
    size_t size;

    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < SIZE; i++)
        text[i] = "he "[i % 3];
    ASSERT_OK(ctx, qrb_tokenizer_encode(t, text, SIZE, &ids, &count));
    /* he, then " he" over and over; two bytes are left at the end. */
    ck_assert_uint_eq(count, 1 + (SIZE - 2) / 3);
    ck_assert_int_eq(ids[0], 256);
    ck_assert_int_eq(ids[1], 257);
    ASSERT_OK(ctx, qrb_tokenizer_decode(t, ids, count, &decoded, &size));
    ck_assert_uint_eq(size, SIZE);
    ck_assert_mem_eq(decoded, text, SIZE);
    qrb_free(ctx, ids);
    qrb_free(ctx, decoded);
    free(text);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(bytes_without_a_token_are_replaced_or_unknown_or_an_error)
{
    /* U+FFFD is 239 191 189: their characters are i-diaeresis, inverted
     * question mark and one half. */
    const char *spelled = "\"vocab\":{\"a\":0,\"\xc3\xaf\":1,\"\xc2\xbf\":2,"
                          "\"\xc2\xbd\":3},\"merges\":[]";
    const char *unknown = "\"unk_token\":\"a\",\"vocab\":{\"a\":0,\"b\":1},"
                          "\"merges\":[]";
    qrb_tokenizer *replacing = open_with(BYTE_LEVEL, spelled);
    qrb_tokenizer *guessing = open_with(BYTE_LEVEL, unknown);
    int32_t *ids = NULL;
    size_t count;

    EXPECT_IDS(ctx, replacing, "a\xff", 0, 1, 2, 3);
    /* A byte that text may have is missing: nothing stands for it. */
    ASSERT_FAILS(ctx, qrb_tokenizer_encode(replacing, "z", 1, &ids, &count),
                 QRB_E_UNSUPPORTED, "byte 0x7A has no token");
    EXPECT_IDS(ctx, guessing, "bz\xff", 1, 0, 0);
    qrb_tokenizer_destroy(replacing);
    qrb_tokenizer_destroy(guessing);
}
END_TEST

#define END_OF_TEXT                                                            \
    "\"added_tokens\":[{\"id\":300,\"content\":\"<|endoftext|>\","             \
    "\"special\":true}],"

static void expect_document(const qrb_tokenizer *tokenizer, const char *text,
                            const int32_t *expected, size_t expected_count)
{
    int32_t *ids = NULL;
    size_t count;

    ASSERT_OK(ctx, qrb_tokenizer_encode_document(tokenizer, text, strlen(text),
                                                 &ids, &count));
    expect_tokens(ids, count, expected, expected_count);
    qrb_free(ctx, ids);
}

#define EXPECT_DOCUMENT(tokenizer, text, ...)                                  \
    expect_document(tokenizer, text, (const int32_t[]){ __VA_ARGS__ },         \
                    sizeof((const int32_t[]){ __VA_ARGS__ }) /                 \
                        sizeof(int32_t))

START_TEST(separator_lines_of_a_document_are_swallowed_with_their_line_end)
{
    qrb_tokenizer *t = open_bytes(BYTE_LEVEL END_OF_TEXT, "");

    EXPECT_DOCUMENT(t, "", 300);
    EXPECT_DOCUMENT(t, "he\n<|endoftext|>\nhe", 300, 256, 198, 300, 256);
    EXPECT_DOCUMENT(t, "<|endoftext|>", 300, 300);
    EXPECT_DOCUMENT(t, "<|endoftext|>\n<|endoftext|>\n", 300, 300, 300);
    EXPECT_DOCUMENT(t, "he\r\n<|endoftext|>\r\nhe", 300, 256, 201, 198, 300,
                    256);
    /* Not alone on its line: a special token in the text, nothing more. */
    EXPECT_DOCUMENT(t, "<|endoftext|> \nhe", 300, 300, 220, 198, 256);
    EXPECT_DOCUMENT(t, "he<|endoftext|>\n", 300, 256, 300, 198);
    EXPECT_DOCUMENT(t, "<|endoftext|>\r", 300, 300, 201);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(documents_use_the_tokens_that_there_are)
{
#define ONE(name)                                                              \
    "\"added_tokens\":[{\"id\":300,\"content\":\"" name "\",\"special\":true}" \
    "],"
    qrb_tokenizer *begins = open_bytes(BYTE_LEVEL ONE("<s>"), "");
    qrb_tokenizer *ends = open_bytes(BYTE_LEVEL ONE("</s>"), "");
    qrb_tokenizer *neither = open_bytes(BYTE_LEVEL, "");

    EXPECT_DOCUMENT(begins, "he\n<|endoftext|>\nhe", 300, 256, 198, 300, 256);
    EXPECT_DOCUMENT(ends, "he\n<|endoftext|>\nhe", 256, 198, 300, 256);
    /* <| endoftext |> letter by letter. */
    EXPECT_DOCUMENT(neither, "<|endoftext|>", 27, 91, 68, 77, 67, 78, 69, 83,
                    68, 87, 83, 91, 29);
    qrb_tokenizer_destroy(begins);
    qrb_tokenizer_destroy(ends);
    qrb_tokenizer_destroy(neither);
}
END_TEST

START_TEST(without_a_decoder_tokens_are_joined_by_spaces)
{
    qrb_tokenizer *t = open_with("", CHARACTERS);

    expect_text(ctx, t, (const int32_t[]){ 0, 3, 2 }, 3, "a ab c");
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(decoders_replace_fall_back_and_strip)
{
    const char *model = "\"vocab\":{\"x\xe2\x96\x81\xe2\x96\x81y\":0,"
                        "\"<0x0A>\":1,\"<0x0a>\":2,\"<0xE2>\":3,"
                        "\"\xe2\x96\x81z\":4},\"merges\":[]";
    qrb_tokenizer *steps = open_with(
        "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
        "\"Replace\",\"pattern\":{\"String\":\"\xe2\x96\x81\"},\"content\":"
        "\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":"
        "\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},",
        model);
    qrb_tokenizer *metaspace =
        open_with("\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
                  "\"\xe2\x96\x81\",\"prepend_scheme\":\"always\"},",
                  model);
    qrb_tokenizer *never =
        open_with("\"decoder\":{\"type\":\"Metaspace\",\"replacement\":"
                  "\"\xe2\x96\x81\",\"prepend_scheme\":\"never\"},",
                  model);

    expect_text(ctx, steps, (const int32_t[]){ 4, 0, 1, 2, 3 }, 5,
                "zx  y\n<0x0a>\xe2");
    expect_text(ctx, steps, (const int32_t[]){ 0, 4 }, 2, "x  y z");
    expect_text(ctx, metaspace, (const int32_t[]){ 4, 4, 1 }, 3, "z z<0x0A>");
    expect_text(ctx, never, (const int32_t[]){ 4, 4 }, 2, " z z");
    qrb_tokenizer_destroy(steps);
    qrb_tokenizer_destroy(metaspace);
    qrb_tokenizer_destroy(never);
}
END_TEST

START_TEST(tokens_outside_of_the_alphabet_decode_to_themselves)
{
    qrb_tokenizer *t =
        open_with(BYTE_LEVEL, "\"vocab\":{\"\\u0120a\":0,\"\\u0120 a\":1},"
                              "\"merges\":[]");

    expect_text(ctx, t, (const int32_t[]){ 0, 1 }, 2, " a\xc4\xa0 a");
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(ids_that_are_not_there_are_refused)
{
    qrb_tokenizer *t = open_bytes(ADDED("\"normalized\":false,"), "");
    const int32_t bad[] = { -1, 258, 299, 302, INT32_MAX };
    char *text = NULL;
    size_t size;

    ck_assert_uint_eq(qrb_tokenizer_vocab(t), 302);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ASSERT_FAILS(ctx, qrb_tokenizer_decode(t, &bad[i], 1, &text, &size),
                     QRB_E_INVALID_ARG, "does not have (302 ids)");
        ck_assert_ptr_null(text);
    }
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(null_is_refused_and_harmless)
{
    qrb_tokenizer *t = open_with("", CHARACTERS);
    int32_t *ids = NULL;
    char *text = NULL;
    size_t count;

    ck_assert_int_eq(qrb_tokenizer_encode(NULL, "a", 1, &ids, &count),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tokenizer_encode_document(NULL, "a", 1, &ids, &count),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tokenizer_decode(NULL, NULL, 0, &text, &count),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tokenizer_save(NULL, "x"), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_tokenizer_encode(t, "a", 1, NULL, &count),
                 QRB_E_INVALID_ARG, "tokens_out");
    ASSERT_FAILS(ctx, qrb_tokenizer_encode_document(t, "a", 1, &ids, NULL),
                 QRB_E_INVALID_ARG, "count_out");
    ASSERT_FAILS(ctx, qrb_tokenizer_encode(t, NULL, 1, &ids, &count),
                 QRB_E_INVALID_ARG, "text is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_decode(t, NULL, 1, &text, &count),
                 QRB_E_INVALID_ARG, "tokens is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_decode(t, NULL, 0, NULL, &count),
                 QRB_E_INVALID_ARG, "text_out");
    ASSERT_FAILS(ctx, qrb_tokenizer_save(t, NULL), QRB_E_INVALID_ARG,
                 "path is NULL");
    ck_assert_uint_eq(qrb_tokenizer_vocab(NULL), 0);
    ck_assert_int_eq(qrb_tokenizer_bos(NULL), -1);
    ck_assert_int_eq(qrb_tokenizer_eos(NULL), -1);
    qrb_tokenizer_destroy(NULL);
    qrb_tokenizer_destroy(t);
}
END_TEST

static int refuse_to_go_on(void *user)
{
    (void)user;
    return 1;
}

START_TEST(encoding_a_long_text_can_be_cancelled)
{
    enum { WORDS = 70000 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_tokenizer *t;
    char *text = malloc(2 * WORDS);
    int32_t *ids = NULL;
    size_t count;

    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < 2 * WORDS; i++)
        text[i] = "h "[i % 2];
    options.cancel = refuse_to_go_on;
    qrb_context_destroy(ctx);
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    t = open_bytes(BYTE_LEVEL, "");
    ck_assert_int_eq(qrb_tokenizer_encode(t, text, 2 * WORDS, &ids, &count),
                     QRB_E_CANCELLED);
    ck_assert_ptr_null(ids);
    EXPECT_IDS(ctx, t, "he", 256);
    qrb_tokenizer_destroy(t);
    free(text);
}
END_TEST

struct reentry {
    const qrb_tokenizer *tokenizer;
    unsigned calls;
};

static int call_back(const char *what, uint64_t done, uint64_t total,
                     void *user)
{
    struct reentry *reentry = user;
    const qrb_tokenizer *t = reentry->tokenizer;
    qrb_tokenizer *other = NULL;
    int32_t *ids = NULL;
    char *text = NULL;
    size_t count;

    (void)what;
    (void)done;
    (void)total;
    reentry->calls++;
    ck_assert_int_eq(qrb_tokenizer_encode(t, "a", 1, &ids, &count),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_encode_document(t, "a", 1, &ids, &count),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_decode(t, NULL, 0, &text, &count),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_save(t, "/nowhere"), QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_open_path(ctx, "/nowhere", &other),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_open(ctx, NULL, 1, &other), QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_tokenizer_train(ctx, "a", 1, 257, &other),
                     QRB_E_REENTRANT);
    /* Looking is allowed. */
    ck_assert_uint_eq(qrb_tokenizer_vocab(t), 7);
    return 0;
}

START_TEST(callbacks_may_look_at_a_tokenizer_and_no_more)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct reentry reentry = { NULL, 0 };
    qrb_tokenizer *t;
    qrb_tokenizer *trained = NULL;

    options.progress = call_back;
    options.progress_user = &reentry;
    qrb_context_destroy(ctx);
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    t = open_with("", CHARACTERS);
    reentry.tokenizer = t;
    ASSERT_OK(ctx, qrb_tokenizer_train(ctx, "ab", 2, 258, &trained));
    ck_assert_uint_gt(reentry.calls, 0);
    qrb_tokenizer_destroy(trained);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* All that text can meet: a normalizer, added tokens of both kinds, broken
 * bytes, several stages, words that are remembered and others. */
#define MARKS "\xcc\x81\xcc\xa3\xcc\x81\xcc\xa3\xcc\x81\xcc\xa3"

static qrb_status encode_some(const qrb_tokenizer *t)
{
    static const char text[] =
        "e" MARKS MARKS MARKS " 12 \xff he <x>\n<|endoftext|>\n a "
        "wordthatistoolongtoberemembered";
    int32_t *ids = NULL;
    char *decoded = NULL;
    size_t count;
    size_t size;
    qrb_status status;

    status =
        qrb_tokenizer_encode_document(t, text, sizeof text - 1, &ids, &count);
    ck_assert((ids != NULL) == (status == QRB_OK));
    if (status == QRB_OK)
        status = qrb_tokenizer_decode(t, ids, count, &decoded, &size);
    ck_assert((decoded != NULL) == (status == QRB_OK));
    qrb_free(ctx, ids);
    qrb_free(ctx, decoded);
    return status;
}

START_TEST(no_failed_allocation_is_lost_in_encoding_and_decoding)
{
    for (size_t n = 1;; n++) {
        struct failing_allocator allocator = { 0, 0, 0 };
        qrb_tokenizer *t;
        size_t before;
        qrb_status status;

        qrb_context_destroy(ctx);
        ctx = make_context(&allocator);
        t = open_bytes(
            "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{"
            "\"type\":\"NFC\"},{\"type\":\"Replace\",\"pattern\":{"
            "\"String\":\"1\"},\"content\":\"one\"},{\"type\":\"Prepend\","
            "\"prepend\":\"-\"}]},"
            "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{"
            "\"type\":\"Digits\"},{\"type\":\"ByteLevel\"}]},"
            "\"decoder\":{\"type\":\"ByteLevel\"},"
            "\"added_tokens\":[{\"id\":300,\"content\":\"<|endoftext|>\","
            "\"special\":true},{\"id\":301,\"content\":\"<x>\"}],",
            "\"ignore_merges\":true,");
        before = allocator.live;
        allocator.calls = 0;
        allocator.fail_at = n;
        status = encode_some(t);
        ck_assert_uint_eq(allocator.live, before);
        allocator.fail_at = 0;
        qrb_tokenizer_destroy(t);
        qrb_context_destroy(ctx);
        ck_assert_uint_eq(allocator.live, 0);
        ctx = make_context(NULL);
        ck_assert_int_eq(status,
                         allocator.calls >= n ? QRB_E_NO_MEMORY : QRB_OK);
        if (status == QRB_OK)
            break;
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer text");
    TCase *encoding = tcase_create("encoding");
    TCase *decoding = tcase_create("decoding");
    TCase *calls = tcase_create("calls");

    tcase_set_timeout(calls, 60);
    tcase_add_checked_fixture(encoding, set_up, tear_down);
    tcase_add_checked_fixture(decoding, set_up, tear_down);
    tcase_add_checked_fixture(calls, set_up, tear_down);
    tcase_add_test(encoding, merges_go_by_rank_and_then_from_the_left);
    tcase_add_test(encoding, no_text_gives_an_array_of_no_tokens);
    tcase_add_test(
        encoding,
        unknown_characters_are_the_unknown_token_fused_where_asked_for);
    tcase_add_test(encoding,
                   words_that_are_tokens_are_taken_whole_where_asked_for);
    tcase_add_test(encoding, a_word_of_bytes_is_looked_up_in_their_alphabet);
    tcase_add_test(encoding, the_longest_added_token_is_found_before_all_else);
    tcase_add_test(encoding, added_tokens_take_the_spaces_beside_them_along);
    tcase_add_test(encoding, single_words_do_not_touch_letters_digits_or_marks);
    tcase_add_test(encoding, normalized_tokens_are_found_in_normalized_text);
    tcase_add_test(encoding, broken_bytes_are_borders_to_the_normalizer);
    tcase_add_test(encoding, long_runs_of_marks_are_put_in_order);
    tcase_add_test(encoding, very_long_runs_of_marks_are_put_in_order_in_time);
    tcase_add_test(encoding, a_prefix_space_goes_where_there_is_none);
    tcase_add_test(encoding, metaspace_marks_spaces_and_the_beginning);
    tcase_add_test(encoding, splits_isolate_or_remove_what_they_match);
    tcase_add_test(encoding, digits_stand_alone_or_in_runs);
    tcase_add_test(encoding,
                   each_part_of_a_sequence_cuts_what_the_one_before_left);
    tcase_add_test(encoding, an_expression_that_takes_too_long_is_an_error);
    tcase_add_test(encoding, long_runs_of_spaces_are_within_the_limits);
    tcase_add_test(encoding, long_words_are_merged_quickly_and_come_back);
    tcase_add_test(encoding,
                   bytes_without_a_token_are_replaced_or_unknown_or_an_error);
    tcase_add_test(
        encoding,
        separator_lines_of_a_document_are_swallowed_with_their_line_end);
    tcase_add_test(encoding, documents_use_the_tokens_that_there_are);
    tcase_add_test(decoding, without_a_decoder_tokens_are_joined_by_spaces);
    tcase_add_test(decoding, decoders_replace_fall_back_and_strip);
    tcase_add_test(decoding,
                   tokens_outside_of_the_alphabet_decode_to_themselves);
    tcase_add_test(decoding, ids_that_are_not_there_are_refused);
    tcase_add_test(calls, null_is_refused_and_harmless);
    tcase_add_test(calls, encoding_a_long_text_can_be_cancelled);
    tcase_add_test(calls, callbacks_may_look_at_a_tokenizer_and_no_more);
    tcase_add_test(calls,
                   no_failed_allocation_is_lost_in_encoding_and_decoding);
    suite_add_tcase(suite, encoding);
    suite_add_tcase(suite, decoding);
    suite_add_tcase(suite, calls);
    return run_suite(suite);
}
