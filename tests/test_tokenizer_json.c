/* The reader and the writer of tokenizer.json: what is read, what is refused
 * and with which words, and that nothing in a file can do harm. */
#include "tokenizers.h"

#include <fcntl.h>

#include "io/pretokenizer.h"
#include "io/tokenizer.h"

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

/* Every kind of part, in a file of some hundred bytes. */
static const char whole[] =
    "{\"version\":\"1.0\",\"truncation\":null,\"padding\":null,"
    "\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"single_word\":false,"
    "\"lstrip\":true,\"rstrip\":true,\"normalized\":false,\"special\":true},"
    "{\"id\":6,\"content\":\"a\xc3\xa9\"}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"}"
    ",{\"type\":\"Prepend\",\"prepend\":\"a\"},{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\"c\"},\"content\":\"b\"}]},"
    "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"
    "\"[^\\\\s\\\\p{L}]|\\\\s+(?!\\\\S)\"},\"behavior\":\"Isolated\"},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
    "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},{\"Sequence\":{\"id\":"
    "\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"ab\",\"type_id\":0}}],"
    "\"pair\":[],\"special_tokens\":{\"<s>\":{\"id\":\"<s>\",\"ids\":[5],"
    "\"tokens\":[\"<s>\"]},\"ab\":{\"id\":\"ab\",\"ids\":[2],\"tokens\":["
    "\"ab\"]}}},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
    "\"pattern\":{\"String\":\"b\"},\"content\":\"c\"},{\"type\":"
    "\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":"
    "\"a\",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"dropout\":null,\"unk_token\":\"?\","
    "\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":null,"
    "\"fuse_unk\":true,\"byte_fallback\":false,\"ignore_merges\":true,"
    "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"?\":3,\"abb\":4},"
    "\"merges\":[[\"a\",\"b\"],[\"ab\",\"b\"]]}}";

START_TEST(all_parts_of_a_file_are_read)
{
    qrb_tokenizer *t = open_json(ctx, whole);

    ck_assert_int_eq(qrb_tokenizer_bos(t), 5);
    ck_assert_int_eq(qrb_tokenizer_eos(t), 2);
    ck_assert_uint_eq(qrb_tokenizer_vocab(t), 7);
    EXPECT_IDS(ctx, t, "cbz", 4, 3);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(what_is_saved_is_read_alike_and_saved_alike)
{
    qrb_tokenizer *first = open_json(ctx, whole);
    qrb_tokenizer *second = NULL;
    char directory[64];
    char path[256];
    char *saved[2];

    make_directory(directory);
    in_directory(directory, "tokenizer.json", path);
    ASSERT_OK(ctx, qrb_tokenizer_save(first, path));
    saved[0] = get_file(path, NULL);
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, path, &second));
    ASSERT_OK(ctx, qrb_tokenizer_save(second, path));
    saved[1] = get_file(path, NULL);
    ck_assert_str_eq(saved[0], saved[1]);
    ck_assert_int_eq(qrb_tokenizer_bos(second), 5);
    ck_assert_int_eq(qrb_tokenizer_eos(second), 2);
    for (size_t i = 0; i < QRB__PARTS; i++)
        ck_assert_str_eq(first->parts[i], second->parts[i]);
    for (size_t id = 0; id < first->vocab.ids; id++)
        ck_assert_uint_eq(first->vocab.tokens[id].flags,
                          second->vocab.tokens[id].flags);
    EXPECT_IDS(ctx, second, "cbz", 4, 3);
    ASSERT_FAILS(ctx, qrb_tokenizer_save(first, "/nowhere/at/all"), QRB_E_IO,
                 "/nowhere");
    free(saved[0]);
    free(saved[1]);
    remove_directory(directory);
    qrb_tokenizer_destroy(first);
    qrb_tokenizer_destroy(second);
}
END_TEST

/* Refusals: a file, a status, words of the message. */
#define MODEL(fields) "{\"model\":{\"type\":\"BPE\"," fields "}}"
#define VOCAB "\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},"
#define MERGES "\"merges\":[]"
#define PART(part) "{" part ",\"model\":{" VOCAB MERGES "}}"
#define ADDED(tokens) PART("\"added_tokens\":[" tokens "]")
#define REGEX(pattern)                                                         \
    PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":"       \
         "\"" pattern "\"},\"behavior\":\"Isolated\"}")

static const struct {
    const char *text;
    qrb_status status;
    const char *words;
} refused[] = {
    { "", QRB_E_FORMAT, "the buffer" },
    { "[]", QRB_E_FORMAT, "model: expected an object" },
    { "{}", QRB_E_FORMAT, "model: expected an object" },
    { "{\"model\":{}}", QRB_E_FORMAT, "model.vocab: expected an object" },
    { "{\"model\":{\"type\":\"WordPiece\",\"vocab\":{}}}", QRB_E_UNSUPPORTED,
      "\"WordPiece\"" },
    { MODEL(VOCAB "\"merges\":{}"), QRB_E_FORMAT,
      "model.merges: expected a list" },
    { MODEL("\"vocab\":{\"a\":0}"), QRB_E_FORMAT, "model.merges" },
    { MODEL("\"vocab\":{\"a\":0,\"a\":1}," MERGES), QRB_E_FORMAT, "duplicate" },
    { MODEL("\"vocab\":{\"a\":1,\"b\":1}," MERGES), QRB_E_FORMAT,
      "token id 1 is there twice" },
    { MODEL("\"vocab\":{\"a\":-1}," MERGES), QRB_E_FORMAT,
      "the id of \"a\" is not an integer" },
    { MODEL("\"vocab\":{\"a\":1.0}," MERGES), QRB_E_FORMAT,
      "the id of \"a\" is not an integer" },
    { MODEL("\"vocab\":{\"a\":\"0\"}," MERGES), QRB_E_FORMAT,
      "the id of \"a\" is not an integer" },
    { MODEL("\"vocab\":{\"a\":1027}," MERGES), QRB_E_FORMAT,
      "from 0 to 1026 (for 1 tokens)" },
    { MODEL("\"vocab\":{\"a\":4294967296}," MERGES), QRB_E_FORMAT,
      "not an integer" },
    { MODEL("\"vocab\":{\"\":0}," MERGES), QRB_E_FORMAT, "has 0 bytes" },
    { MODEL("\"vocab\":{\"\\u0000\":0}," MERGES), QRB_E_FORMAT, "\\u0000" },
    { MODEL("\"vocab\":{\"\xff\":0}," MERGES), QRB_E_FORMAT, "" },
    { MODEL(VOCAB "\"merges\":[[\"a\"]]"), QRB_E_FORMAT, "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[[\"a\",\"b\",\"c\"]]"), QRB_E_FORMAT,
      "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[[\"a\",1]]"), QRB_E_FORMAT, "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[\"ab\"]"), QRB_E_FORMAT, "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[\"a b \"]"), QRB_E_FORMAT, "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[1]"), QRB_E_FORMAT, "model.merges[0]" },
    { MODEL(VOCAB "\"merges\":[\"a b\",\"a c\"]"), QRB_E_FORMAT,
      "model.merges[1]: \"c\" is not in the vocabulary" },
    { MODEL(VOCAB "\"merges\":[\"c a\"]"), QRB_E_FORMAT,
      "model.merges[0]: \"c\"" },
    { MODEL(VOCAB "\"merges\":[\"b a\"]"), QRB_E_FORMAT, "their sum" },
    { MODEL(VOCAB "\"merges\":[\"a b\",[\"a\",\"b\"]]"), QRB_E_FORMAT,
      "merge 1 is that of tokens 0 and 1 once more" },
    { MODEL("\"dropout\":0.1," VOCAB MERGES), QRB_E_UNSUPPORTED,
      "model.dropout" },
    { MODEL("\"unk_token\":\"c\"," VOCAB MERGES), QRB_E_FORMAT,
      "model.unk_token: \"c\"" },
    { MODEL("\"unk_token\":1," VOCAB MERGES), QRB_E_FORMAT,
      "model.unk_token: expected a string" },
    { MODEL("\"fuse_unk\":1," VOCAB MERGES), QRB_E_FORMAT,
      "model.fuse_unk: expected true or false" },
    { MODEL("\"ignore_merges\":\"no\"," VOCAB MERGES), QRB_E_FORMAT,
      "model.ignore_merges" },
    { MODEL("\"byte_fallback\":[]," VOCAB MERGES), QRB_E_FORMAT,
      "model.byte_fallback" },
    { MODEL("\"byte_fallback\":true," VOCAB MERGES), QRB_E_FORMAT,
      "has no <0x00>" },
    { MODEL("\"end_of_word_suffix\":\"</w>\"," VOCAB MERGES), QRB_E_UNSUPPORTED,
      "model.end_of_word_suffix" },
    { MODEL("\"continuing_subword_prefix\":\"##\"," VOCAB MERGES),
      QRB_E_UNSUPPORTED, "model.continuing_subword_prefix" },
    { MODEL("\"continuing_subword_prefix\":1," VOCAB MERGES), QRB_E_FORMAT,
      "model.continuing_subword_prefix" },
    /* Added tokens. */
    { PART("\"added_tokens\":{}"), QRB_E_FORMAT,
      "added_tokens: expected a list" },
    { ADDED("1"), QRB_E_FORMAT, "a token without content" },
    { ADDED("{\"id\":3}"), QRB_E_FORMAT, "a token without content" },
    { ADDED("{\"id\":3,\"content\":\"\"}"), QRB_E_FORMAT, "has 0 bytes" },
    { ADDED("{\"content\":\"x\"}"), QRB_E_FORMAT, "the id of \"x\"" },
    { ADDED("{\"id\":9999,\"content\":\"x\"}"), QRB_E_FORMAT,
      "the id of \"x\" is not an integer from 0 to 1032" },
    { ADDED("{\"id\":3,\"content\":\"x\",\"lstrip\":1}"), QRB_E_FORMAT,
      "added_tokens.lstrip" },
    { ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":4,\"content\":\"x\"}"),
      QRB_E_FORMAT, "added tokens 3 and 4 look for the same" },
    { ADDED("{\"id\":3,\"content\":\"x\"},{\"id\":3,\"content\":\"y\"}"),
      QRB_E_FORMAT, "token id 3 is there twice" },
    { ADDED("{\"id\":3,\"content\":\"ab\"}"), QRB_E_FORMAT,
      "added_tokens: \"ab\" has id 3, and id 2 already" },
    { ADDED("{\"id\":2,\"content\":\"ab\"},{\"id\":2,\"content\":\"ab\"}"),
      QRB_E_FORMAT, "added_tokens: \"ab\"" },
    /* Normalizers. */
    { PART("\"normalizer\":[]"), QRB_E_FORMAT,
      "normalizer: expected an object or null" },
    { PART("\"normalizer\":{\"type\":\"NFKC\"}"), QRB_E_UNSUPPORTED,
      "normalizer: a part of type \"NFKC\"" },
    { PART("\"normalizer\":{\"type\":1}"), QRB_E_UNSUPPORTED, "type \"?\"" },
    { PART("\"normalizer\":{\"type\":\"Sequence\"}"), QRB_E_FORMAT,
      "normalizer.normalizers: expected a list" },
    { PART("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":"
           "\"Sequence\",\"normalizers\":[]}]}"),
      QRB_E_UNSUPPORTED, "a sequence in a sequence" },
    { PART("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":"
           "[0,0,0,0,0,0,0,0,0]}"),
      QRB_E_UNSUPPORTED, "has 9 parts, at most 8" },
    { PART("\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null]}"),
      QRB_E_UNSUPPORTED, "type \"null\"" },
    { PART("\"normalizer\":{\"type\":\"Prepend\"}"), QRB_E_UNSUPPORTED,
      "\"Prepend\"" },
    { PART("\"normalizer\":{\"type\":\"Prepend\",\"prepend\":1}"), QRB_E_FORMAT,
      "normalizer.prepend" },
    { PART("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":"
           "\"a\"},\"content\":\"b\"}"),
      QRB_E_UNSUPPORTED, "\"Replace\"" },
    { PART("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":"
           "\"\"},\"content\":\"b\"}"),
      QRB_E_UNSUPPORTED, "\"Replace\"" },
    { PART("\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":"
           "\"a\"},\"content\":1}"),
      QRB_E_FORMAT, "normalizer.content" },
    /* Pre-tokenizers. */
    { PART("\"pre_tokenizer\":{\"type\":\"Whitespace\"}"), QRB_E_UNSUPPORTED,
      "pre_tokenizer: a part of type \"Whitespace\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{"
           "\"type\":\"ByteLevel\"},{\"type\":\"Digits\"}]}"),
      QRB_E_UNSUPPORTED, "a part behind ByteLevel" },
    { PART("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":1}"),
      QRB_E_FORMAT, "pre_tokenizer.use_regex" },
    { PART("\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":"
           "\"\"}"),
      QRB_E_FORMAT, "pre_tokenizer.add_prefix_space" },
    { PART("\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":1}"),
      QRB_E_FORMAT, "pre_tokenizer.individual_digits" },
    { PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":"
           "\"a\"},\"behavior\":\"MergedWithNext\"}"),
      QRB_E_UNSUPPORTED, "\"Split\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":"
           "\"a\"}}"),
      QRB_E_UNSUPPORTED, "\"Split\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":"
           "\"a\",\"Regex\":\"a\"},\"behavior\":\"Isolated\"}"),
      QRB_E_UNSUPPORTED, "\"Split\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{},"
           "\"behavior\":\"Isolated\"}"),
      QRB_E_UNSUPPORTED, "\"Split\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":1},"
           "\"behavior\":\"Isolated\"}"),
      QRB_E_FORMAT, "pre_tokenizer.pattern.Regex" },
    { PART("\"pre_tokenizer\":{\"type\":\"Metaspace\"}"), QRB_E_UNSUPPORTED,
      "\"Metaspace\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
           "\"_\"}"),
      QRB_E_UNSUPPORTED, "\"Metaspace\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":"
           "\"\xe2\x96\x81\",\"prepend_scheme\":\"last\"}"),
      QRB_E_UNSUPPORTED, "\"Metaspace\"" },
    { PART("\"pre_tokenizer\":{\"type\":\"Metaspace\",\"split\":1}"),
      QRB_E_FORMAT, "pre_tokenizer.split" },
    /* Regular expressions that two engines read differently. */
    { REGEX("("), QRB_E_UNSUPPORTED, "PCRE2 refuses" },
    { REGEX("\\\\w+"), QRB_E_UNSUPPORTED, "an escape" },
    { REGEX("(a)\\\\1"), QRB_E_UNSUPPORTED, "an escape" },
    { REGEX("a\\\\"), QRB_E_UNSUPPORTED, "a backslash" },
    { REGEX("\\\\\xc3\xa9"), QRB_E_UNSUPPORTED, "a backslash" },
    { REGEX("\\\\xe9"), QRB_E_UNSUPPORTED, "x without braces" },
    { REGEX("^a"), QRB_E_UNSUPPORTED, "an anchor" },
    { REGEX("a$"), QRB_E_UNSUPPORTED, "an anchor" },
    { REGEX("a{2}+"), QRB_E_UNSUPPORTED, "+ behind a counted repeat" },
    { REGEX("a{,2}"), QRB_E_UNSUPPORTED, "least count" },
    { REGEX("(*FAIL)"), QRB_E_UNSUPPORTED, "a verb" },
    { REGEX("(?R)"), QRB_E_UNSUPPORTED, "this kind of group" },
    { REGEX("(?<n>a)"), QRB_E_UNSUPPORTED, "this kind of group" },
    { REGEX("(?"), QRB_E_UNSUPPORTED, "this kind of group" },
    { REGEX("[a[b]]"), QRB_E_UNSUPPORTED, "a class in a class" },
    { REGEX("[a&&b]"), QRB_E_UNSUPPORTED, "an intersection" },
    { REGEX("[]a]"), QRB_E_UNSUPPORTED, "begins with ]" },
    { REGEX("[a"), QRB_E_UNSUPPORTED, "a class without end" },
    { REGEX("[\\\\w]"), QRB_E_UNSUPPORTED, "an escape" },
    { REGEX("\\\\p{Nothing}"), QRB_E_UNSUPPORTED, "PCRE2 refuses" },
    /* Post-processors. */
    { PART("\"post_processor\":{\"type\":\"Other\"}"), QRB_E_UNSUPPORTED,
      "post_processor: a part of type \"Other\"" },
    { PART("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
           "1]}"),
      QRB_E_FORMAT, "post_processor.single[0]" },
    { PART("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
           "{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{"
           "\"ids\":[0,1]}}}"),
      QRB_E_FORMAT, "with one id" },
    { PART("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
           "{\"SpecialToken\":{\"id\":\"a\"}}],\"special_tokens\":{\"a\":{"
           "\"ids\":[7]}}}"),
      QRB_E_FORMAT, "is none of the vocabulary's" },
    { PART("\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
           "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]}"),
      QRB_E_UNSUPPORTED, "has 17 parts" },
    { PART("\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"a\","
           "0],\"sep\":[\"b\"]}"),
      QRB_E_FORMAT, "is none of the vocabulary's" },
    /* Decoders. */
    { PART("\"decoder\":{\"type\":\"WordPiece\"}"), QRB_E_UNSUPPORTED,
      "decoder: a part of type \"WordPiece\"" },
    { PART("\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},"
           "\"content\":\"a\"}"),
      QRB_E_UNSUPPORTED, "\"Replace\"" },
    { PART("\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"String\":1},"
           "\"content\":\"a\"}"),
      QRB_E_FORMAT, "decoder.pattern.String" },
    { PART("\"decoder\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"b\"},"
           "\"content\":1}"),
      QRB_E_FORMAT, "decoder.content" },
    { PART("\"decoder\":{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
           "\"stop\":0}"),
      QRB_E_UNSUPPORTED, "\"Strip\"" },
    { PART("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
           "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
           "\"stop\":1}]}"),
      QRB_E_UNSUPPORTED, "\"Strip\"" },
    { PART("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
           "\"Fuse\"},{\"type\":\"Strip\",\"content\":1}]}"),
      QRB_E_FORMAT, "decoder.content" },
    { PART("\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":"
           "\"Fuse\"},{\"type\":\"ByteFallback\"}]}"),
      QRB_E_UNSUPPORTED, "\"ByteFallback\"" },
    { PART("\"decoder\":{\"type\":\"Metaspace\"}"), QRB_E_UNSUPPORTED,
      "\"Metaspace\"" },
    { PART("\"decoder\":{\"type\":\"Metaspace\",\"replacement\":1}"),
      QRB_E_FORMAT, "decoder.replacement" },
};

START_TEST(what_is_wrong_or_not_known_is_refused_with_its_field)
{
    qrb_tokenizer *t = NULL;

    ASSERT_FAILS(ctx,
                 try_json(ctx, refused[_i].text, strlen(refused[_i].text), &t),
                 refused[_i].status, refused[_i].words);
    ck_assert_ptr_null(t);
}
END_TEST

START_TEST(depth_is_limited)
{
    char text[64] = "{\"model\":";
    qrb_tokenizer *t = NULL;

    memset(text + strlen(text), '[', 8);
    ASSERT_FAILS(ctx, try_json(ctx, text, strlen(text), &t), QRB_E_FORMAT,
                 "nested deeper than 8");
}
END_TEST

START_TEST(tokens_are_limited_in_length)
{
    const size_t most = QRB__TOKEN_LENGTH_MAX;
    char *text = malloc(most + 256);
    qrb_tokenizer *t = NULL;
    int size;

    ck_assert_ptr_nonnull(text);
    for (size_t more = 0; more < 2; more++) {
        size = sprintf(text,
                       "{\"model\":{\"vocab\":{\"%0*d\":0},\"merges\":"
                       "[]}}",
                       (int)(most + more), 0);
        if (more == 0)
            ASSERT_OK(ctx, try_json(ctx, text, (size_t)size, &t));
        else
            ASSERT_FAILS(ctx, try_json(ctx, text, (size_t)size, &t),
                         QRB_E_FORMAT, "1 to 65536 are allowed");
        qrb_tokenizer_destroy(t);
        t = NULL;
    }
    size = sprintf(text, ADDED("{\"id\":3,\"content\":\"%01025d\"}"), 0);
    ASSERT_FAILS(ctx, try_json(ctx, text, (size_t)size, &t), QRB_E_FORMAT,
                 "1 to 1024 are allowed");
    free(text);
}
END_TEST

/* Strings that the index puts into the same 64 of its 16384 places. */
START_TEST(thousands_of_tokens_with_one_hash_are_refused)
{
    enum { TOKENS = 5000 };
    char *text = malloc(32 * TOKENS);
    size_t size = (size_t)sprintf(text, "{\"model\":{\"merges\":[],"
                                        "\"vocab\":{");
    qrb_tokenizer *t = NULL;
    unsigned found = 0;

    for (unsigned i = 0; found < TOKENS; i++) {
        char name[16];
        const size_t length = (size_t)sprintf(name, "%x", i);

        if ((qrb__hash_bytes(name, length) & 16383) < 64)
            size += (size_t)sprintf(text + size, "%s\"%s\":%u",
                                    found > 0 ? "," : "", name, found),
                found++;
    }
    size += (size_t)sprintf(text + size, "}}}");
    ASSERT_FAILS(ctx, try_json(ctx, text, size, &t), QRB_E_FORMAT,
                 "thousands of tokens have the same hash");
    free(text);
}
END_TEST

START_TEST(thousands_of_merges_with_one_hash_are_refused)
{
    struct qrb__merges merges = { 0 };
    qrb_status status = QRB_OK;

    for (int32_t i = 0; status == QRB_OK; i++) {
        const struct qrb__merge merge = { i, 0, 0, 0 };

        if ((qrb__hash_pair(i, 0) & 16383) < 64)
            status = qrb__merges_add(ctx, &merges, &merge);
    }
    ASSERT_FAILS(ctx, status, QRB_E_FORMAT,
                 "thousands of merges have the same hash");
    ck_assert_uint_gt(merges.count, 4000);
    qrb__merges_free(ctx, &merges);
}
END_TEST

START_TEST(a_file_cut_short_anywhere_is_refused)
{
    qrb_tokenizer *t = NULL;

    for (size_t size = 0; size < sizeof whole - 1; size++) {
        char *copy = malloc(size + 1); /* so that reading on is seen */

        ck_assert_ptr_nonnull(copy);
        memcpy(copy, whole, size);
        ck_assert_int_eq(try_json(ctx, copy, size, &t), QRB_E_FORMAT);
        ck_assert_str_ne(qrb_context_message(ctx), "");
        free(copy);
    }
}
END_TEST

START_TEST(a_file_with_any_bit_flipped_is_read_or_refused)
{
    char copy[sizeof whole];

    for (size_t i = 0; i < 8 * (sizeof whole - 1); i++) {
        qrb_tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t count;

        memcpy(copy, whole, sizeof whole);
        copy[i / 8] ^= (char)(1 << i % 8);
        if (try_json(ctx, copy, sizeof whole - 1, &t) == QRB_OK &&
            qrb_tokenizer_encode(t, "ab <s> c\xff", 9, &ids, &count) == QRB_OK)
            qrb_free(ctx, ids);
        qrb_tokenizer_destroy(t);
    }
}
END_TEST

static int read_at(uint64_t offset, void *out, size_t size, void *user)
{
    if (user == NULL)
        return -7;
    memcpy(out, (const char *)user + offset, size);
    return 0;
}

START_TEST(every_kind_of_source_gives_the_same_tokenizer)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tokenizer *t = NULL;
    char directory[64];
    char path[256];

    make_directory(directory);
    in_directory(directory, "tokenizer.json", path);
    put_file(path, whole, sizeof whole - 1);
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, directory, &t));
    EXPECT_IDS(ctx, t, "cbz", 4, 3);
    qrb_tokenizer_destroy(t);
    source.path = path;
    ASSERT_OK(ctx, qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, &t));
    EXPECT_IDS(ctx, t, "cbz", 4, 3);
    qrb_tokenizer_destroy(t);
    source.path = NULL;
    source.fd = open(path, O_RDONLY);
    ck_assert_int_ge(source.fd, 0);
    ASSERT_OK(ctx, qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, &t));
    EXPECT_IDS(ctx, t, "cbz", 4, 3);
    qrb_tokenizer_destroy(t);
    close(source.fd);
    source.fd = -1;
    source.read_at = read_at;
    source.read_at_user = (void *)(uintptr_t)whole;
    source.size = sizeof whole - 1;
    ASSERT_OK(ctx, qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, &t));
    EXPECT_IDS(ctx, t, "cbz", 4, 3);
    qrb_tokenizer_destroy(t);
    source.read_at_user = NULL;
    ck_assert_int_eq(qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, &t),
                     QRB_E_CALLBACK);
    ck_assert_int_eq(qrb_context_callback_code(ctx), -7);
    ck_assert_ptr_null(t);
    remove_directory(directory);
    ck_assert_int_eq(qrb_tokenizer_open_path(ctx, path, &t), QRB_E_IO);
}
END_TEST

START_TEST(arguments_that_make_no_sense_are_refused)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tokenizer *t = NULL;

    source.buffer = whole;
    source.size = sizeof whole - 1;
    ck_assert_int_eq(qrb_tokenizer_open(NULL, &source, QRB_TOKENIZER_JSON, &t),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tokenizer_open_path(NULL, "x", &t), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx,
                 qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, NULL),
                 QRB_E_INVALID_ARG, "out is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_open_path(ctx, "x", NULL),
                 QRB_E_INVALID_ARG, "out is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_open(ctx, NULL, QRB_TOKENIZER_JSON, &t),
                 QRB_E_INVALID_ARG, "source is NULL");
    ASSERT_FAILS(ctx, qrb_tokenizer_open(ctx, &source, 4, &t),
                 QRB_E_INVALID_ARG, "format is 4");
    ASSERT_FAILS(ctx, qrb_tokenizer_open_path(ctx, NULL, &t), QRB_E_INVALID_ARG,
                 "path is NULL");
}
END_TEST

/* What is left out has the values of the format. */
START_TEST(post_processors_say_which_tokens_begin_and_end_a_text)
{
#define PROCESSOR(part)                                                        \
    "{\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true},"      \
    "{\"id\":5,\"content\":\"</s>\",\"special\":false}],"                      \
    "\"post_processor\":" part ",\"model\":{\"vocab\":{\"a\":0,\"b\":1,"       \
    "\"c\":2},\"merges\":[]}}"
#define TEMPLATE(single, pair)                                                 \
    "{\"type\":\"TemplateProcessing\",\"single\":[" single "],\"pair\":[" pair \
    "],\"special_tokens\":{\"a\":{\"ids\":[0]},\"b\":{\"ids\":[1]},"           \
    "\"c\":{\"ids\":[2]}}}"
#define SPECIAL(name) "{\"SpecialToken\":{\"id\":\"" name "\"}}"
#define SEQUENCE "{\"Sequence\":{\"id\":\"A\"}}"
    static const struct {
        const char *text;
        int32_t bos;
        int32_t eos;
    } cases[] = {
        /* </s> is not special. */
        { PROCESSOR("null"), 4, -1 },
        { PROCESSOR("{\"type\":\"ByteLevel\"}"), 4, -1 },
        { PROCESSOR("{\"type\":\"RobertaProcessing\",\"sep\":[\"c\",2],"
                    "\"cls\":[\"b\",1]}"),
          1, 2 },
        { PROCESSOR(
              TEMPLATE(SPECIAL("a") "," SEQUENCE "," SPECIAL("b"), SEQUENCE)),
          0, 1 },
        { PROCESSOR(TEMPLATE(SEQUENCE "," SPECIAL("b"), SEQUENCE)), 4, 1 },
        /* What begins the second text of a pair ends none. */
        { PROCESSOR(TEMPLATE(SPECIAL("a") "," SEQUENCE,
                             SPECIAL("a") "," SEQUENCE
                                          "," SPECIAL("a") "," SEQUENCE)),
          0, -1 },
        { PROCESSOR(TEMPLATE(SPECIAL("a") "," SEQUENCE,
                             SPECIAL("a") "," SEQUENCE
                                          "," SPECIAL("c") "," SEQUENCE)),
          0, 2 },
        { PROCESSOR(
              "{\"type\":\"Sequence\",\"processors\":[{\"type\":"
              "\"ByteLevel\"}," TEMPLATE(SPECIAL("c") "," SEQUENCE, "") "]}"),
          2, -1 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qrb_tokenizer *t = open_json(ctx, cases[i].text);

        ck_assert_int_eq(qrb_tokenizer_bos(t), cases[i].bos);
        ck_assert_int_eq(qrb_tokenizer_eos(t), cases[i].eos);
        if (cases[i].bos == 0)
            expect_text(ctx, t, (const int32_t[]){ 0 }, 1, "");
        qrb_tokenizer_destroy(t);
    }
}
END_TEST

START_TEST(the_alphabet_of_bytes_has_one_character_for_each)
{
    unsigned seen = 0;

    for (unsigned byte = 0; byte < 256; byte++) {
        const uint32_t code = qrb__byte_to_character((unsigned char)byte);

        ck_assert_int_eq(qrb__character_to_byte(code), (int)byte);
    }
    for (uint32_t code = 0; code < 0x400; code++)
        seen += qrb__character_to_byte(code) >= 0;
    ck_assert_uint_eq(seen, 256);
    /* As GPT-2 has them. */
    ck_assert_uint_eq(qrb__byte_to_character(' '), 0x120);
    ck_assert_uint_eq(qrb__byte_to_character('\n'), 0x10a);
    ck_assert_uint_eq(qrb__byte_to_character(0x7f), 0x121);
    ck_assert_uint_eq(qrb__byte_to_character(0xad), 0x143);
}
END_TEST

START_TEST(expressions_keep_their_meaning_in_translation)
{
    static const struct {
        const char *from;
        const char *to;
    } cases[] = {
        { "", "" },
        { "a|b*?c++", "a|b*?c++" },
        { "\\s\\S", "\\p{White_Space}\\P{White_Space}" },
        { "[^\\s]]", "[^\\p{White_Space}]]" },
        { "\\\\s\\[\\n\\p{L}+\\x{1F600}", "\\\\s\\[\\n\\p{L}+\\x{1F600}" },
        { "(?i:a)(?=b)(?!c)(?<=d)(?<!e)(?>f)(g)",
          "(?i:a)(?=b)(?!c)(?<=d)(?<!e)(?>f)(g)" },
        { "a{2,3}?b{1}", "a{2,3}?b{1}" },
        { "[\\]&$^(]", "[\\]&$^(]" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct qrb__bytes out = { 0 };

        ASSERT_OK(ctx, qrb__pattern_translate(ctx, cases[i].from,
                                              strlen(cases[i].from), &out));
        ck_assert_uint_eq(out.used, strlen(cases[i].to));
        if (out.used > 0)
            ck_assert_mem_eq(out.bytes, cases[i].to, out.used);
        qrb__bytes_free(ctx, &out);
    }
}
END_TEST

static qrb_status open_some(qrb_context *failing, void *arg)
{
    qrb_tokenizer *t = NULL;
    const qrb_status status = try_json(failing, whole, sizeof whole - 1, &t);

    (void)arg;
    ck_assert((t != NULL) == (status == QRB_OK));
    qrb_tokenizer_destroy(t);
    return status;
}

static qrb_status open_and_save(qrb_context *failing, void *arg)
{
    qrb_tokenizer *t = NULL;
    qrb_status status = try_json(failing, whole, sizeof whole - 1, &t);

    if (status == QRB_OK)
        status = qrb_tokenizer_save(t, arg);
    ck_assert(status == QRB_OK || access(arg, F_OK) != 0);
    qrb_tokenizer_destroy(t);
    return status;
}

START_TEST(no_failed_allocation_is_lost_in_opening_and_saving)
{
    char directory[64];
    char path[256];

    fail_each_allocation(open_some, NULL);
    make_directory(directory);
    in_directory(directory, "tokenizer.json", path);
    fail_each_allocation(open_and_save, path);
    remove_directory(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer.json");
    TCase *files = tcase_create("files");

    tcase_set_timeout(files, 60);
    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_test(files, all_parts_of_a_file_are_read);
    tcase_add_test(files, what_is_saved_is_read_alike_and_saved_alike);
    tcase_add_loop_test(files,
                        what_is_wrong_or_not_known_is_refused_with_its_field, 0,
                        (int)(sizeof refused / sizeof *refused));
    tcase_add_test(files, depth_is_limited);
    tcase_add_test(files, tokens_are_limited_in_length);
    tcase_add_test(files, thousands_of_tokens_with_one_hash_are_refused);
    tcase_add_test(files, thousands_of_merges_with_one_hash_are_refused);
    tcase_add_test(files, a_file_cut_short_anywhere_is_refused);
    tcase_add_test(files, a_file_with_any_bit_flipped_is_read_or_refused);
    tcase_add_test(files, every_kind_of_source_gives_the_same_tokenizer);
    tcase_add_test(files, arguments_that_make_no_sense_are_refused);
    tcase_add_test(files,
                   post_processors_say_which_tokens_begin_and_end_a_text);
    tcase_add_test(files, the_alphabet_of_bytes_has_one_character_for_each);
    tcase_add_test(files, expressions_keep_their_meaning_in_translation);
    tcase_add_test(files, no_failed_allocation_is_lost_in_opening_and_saving);
    suite_add_tcase(suite, files);
    return run_suite(suite);
}
