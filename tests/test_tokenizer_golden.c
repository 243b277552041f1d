/* Ids of other implementations (tests/golden), on text of many scripts and on
 * text that is not UTF-8. */
#include "tokenizers.h"

#include <jansson.h>

static qrb_context *ctx;
static json_t *texts;

static json_t *load_golden(const char *name)
{
    const char *source = getenv("QRB_SOURCE");
    char path[512];
    json_error_t error;
    json_t *value;

    snprintf(path, sizeof path, "%s/tests/golden/%s.json",
             source == NULL ? "." : source, name);
    value = json_load_file(path, 0, &error);
    ck_assert_msg(value != NULL, "%s: %s", path, error.text);
    return value;
}

static void set_up(void)
{
    ctx = make_context(NULL);
    texts = load_golden("texts");
}

static void tear_down(void)
{
    json_decref(texts);
    qrb_context_destroy(ctx);
}

/* The bytes of a text of texts.json; free them. */
static char *text_bytes(const json_t *text, size_t *size_out)
{
    const char *plain = json_string_value(json_object_get(text, "text"));
    const char *hex = json_string_value(json_object_get(text, "hex"));
    char *bytes;

    *size_out = plain != NULL ? strlen(plain) : strlen(hex) / 2;
    bytes = calloc(*size_out + 1, 1);
    ck_assert_ptr_nonnull(bytes);
    for (size_t i = 0; i < *size_out; i++) {
        unsigned byte = 0;

        if (plain != NULL)
            byte = (unsigned char)plain[i];
        else
            ck_assert_int_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
        bytes[i] = (char)byte;
    }
    return bytes;
}

static void expect_golden_ids(const qrb_tokenizer *tokenizer, const char *name,
                              const char *bytes, size_t size,
                              const json_t *expected)
{
    int32_t *ids = NULL;
    size_t count = 0;

    ck_assert_msg(json_is_array(expected), "no ids of \"%s\"", name);
    ASSERT_OK(ctx, qrb_tokenizer_encode(tokenizer, bytes, size, &ids, &count));
    ck_assert_msg(count == json_array_size(expected),
                  "\"%s\": %zu tokens, expected %zu", name, count,
                  json_array_size(expected));
    for (size_t i = 0; i < count; i++)
        ck_assert_msg(ids[i] == json_integer_value(json_array_get(expected, i)),
                      "\"%s\": token %zu is %d, expected %d", name, i,
                      (int)ids[i],
                      (int)json_integer_value(json_array_get(expected, i)));
    qrb_free(ctx, ids);
}

/* All texts of a golden file, which has each of them. */
static void expect_golden(const qrb_tokenizer *tokenizer, const char *name)
{
    json_t *golden = load_golden(name);
    const json_t *ids = json_object_get(golden, "ids");
    const json_t *text;
    size_t index;

    ck_assert_uint_eq(json_object_size(ids), json_array_size(texts));
    json_array_foreach (texts, index, text) {
        const char *title = json_string_value(json_object_get(text, "name"));
        size_t size;
        char *bytes = text_bytes(text, &size);

        expect_golden_ids(tokenizer, title, bytes, size,
                          json_object_get(ids, title));
        free(bytes);
    }
    json_decref(golden);
}

/* The lines of a merges.txt, as a tokenizer.json of old has them. */
static json_t *load_merges(const char *path)
{
    json_t *merges = json_array();
    size_t size;
    char *bytes = get_file(path, &size);
    char *rest = bytes;
    char *line;

    while ((line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            json_array_append_new(merges, json_string(line));
    free(bytes);
    return merges;
}

/* The tokenizer.json of a recipe; NULL when its files are not there. */
static char *cook(const char *name)
{
    json_t *recipes = load_golden("recipes");
    json_t *recipe = json_object_get(recipes, name);
    json_t *model =
        json_object_get(json_object_get(recipe, "tokenizer"), "model");
    const char *file = json_string_value(json_object_get(recipe, "file"));
    char relative[128];
    char path[512];
    char *text = NULL;

    snprintf(relative, sizeof relative, "tokenizers/%s",
             file != NULL
                 ? file
                 : json_string_value(json_object_get(recipe, "vocab")));
    if (shared_path(relative, path) == NULL)
        goto out;
    if (file != NULL) {
        text = get_file(path, NULL);
        goto out;
    }
    json_object_set_new(model, "vocab", json_load_file(path, 0, NULL));
    snprintf(relative, sizeof relative, "tokenizers/%s",
             json_string_value(json_object_get(recipe, "merges")));
    if (shared_path(relative, path) == NULL)
        goto out;
    json_object_set_new(model, "merges", load_merges(path));
    text = json_dumps(json_object_get(recipe, "tokenizer"), JSON_COMPACT);
    ck_assert_ptr_nonnull(text);
out:
    json_decref(recipes);
    return text;
}

/* Decoding gives the very bytes back, unless the tokenizer changes them. */
static void expect_round_trips(const qrb_tokenizer *tokenizer,
                               const char *except)
{
    const json_t *text;
    size_t index;

    json_array_foreach (texts, index, text) {
        const char *title = json_string_value(json_object_get(text, "name"));
        size_t size;
        char *bytes = text_bytes(text, &size);
        int32_t *ids = NULL;
        char *decoded = NULL;
        size_t count;
        size_t decoded_size;

        ASSERT_OK(ctx,
                  qrb_tokenizer_encode(tokenizer, bytes, size, &ids, &count));
        ASSERT_OK(ctx, qrb_tokenizer_decode(tokenizer, ids, count, &decoded,
                                            &decoded_size));
        ck_assert_msg(
            (decoded_size == size && memcmp(decoded, bytes, size) == 0) ==
                (strcmp(title, except) != 0),
            "\"%s\" comes back as \"%s\"", title, decoded);
        qrb_free(ctx, ids);
        qrb_free(ctx, decoded);
        free(bytes);
    }
}

static void expect_recipe(const char *name)
{
    char *text = cook(name);
    qrb_tokenizer *tokenizer;

    if (text == NULL)
        return;
    tokenizer = open_json(ctx, text);
    free(text);
    expect_golden(tokenizer, name);
    qrb_tokenizer_destroy(tokenizer);
}

START_TEST(gpt2_gives_the_ids_of_huggingface)
{
    expect_recipe("gpt2");
}
END_TEST

START_TEST(gpt2_with_a_space_in_front_gives_the_ids_of_huggingface)
{
    expect_recipe("gpt2-prefix-space");
}
END_TEST

START_TEST(the_split_of_llama3_gives_the_ids_of_huggingface)
{
    expect_recipe("gpt2-split-of-llama3");
}
END_TEST

START_TEST(nfc_and_the_split_of_qwen2_give_the_ids_of_huggingface)
{
    expect_recipe("gpt2-split-of-qwen2");
}
END_TEST

START_TEST(gpt_neox_gives_the_ids_of_huggingface)
{
    expect_recipe("gpt-neox");
}
END_TEST

START_TEST(gpt2_gives_every_byte_back)
{
    char *text = cook("gpt2");
    qrb_tokenizer *tokenizer;

    if (text == NULL)
        return;
    tokenizer = open_json(ctx, text);
    free(text);
    /* Special tokens decode to nothing. */
    expect_round_trips(tokenizer, "end of text inside");
    ck_assert_int_eq(qrb_tokenizer_bos(tokenizer), 50256);
    ck_assert_int_eq(qrb_tokenizer_eos(tokenizer), 50256);
    ck_assert_uint_eq(qrb_tokenizer_vocab(tokenizer), 50257);
    qrb_tokenizer_destroy(tokenizer);
}
END_TEST

START_TEST(byte_fallback_gives_the_ids_of_sentencepiece)
{
    json_t *model = load_golden("sentencepiece-tokenizer");
    char *text = json_dumps(model, JSON_COMPACT);
    qrb_tokenizer *tokenizer = open_json(ctx, text);

    expect_golden(tokenizer, "sentencepiece");
    /* U+2581 is a space to such a tokenizer. */
    expect_round_trips(tokenizer, "metaspace");
    ck_assert_int_eq(qrb_tokenizer_bos(tokenizer), 1);
    ck_assert_int_eq(qrb_tokenizer_eos(tokenizer), 2);
    qrb_tokenizer_destroy(tokenizer);
    free(text);
    json_decref(model);
}
END_TEST

START_TEST(llama2c_gives_the_ids_of_its_rules_also_when_saved_as_json)
{
    char path[512];
    char directory[64];
    char saved[256];
    qrb_tokenizer *tokenizer = NULL;

    if (shared_path("models/stories260K/tok512.bin", path) == NULL)
        return;
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, path, &tokenizer));
    expect_golden(tokenizer, "tok512");
    expect_round_trips(tokenizer, "");
    make_directory(directory);
    in_directory(directory, "tokenizer.json", saved);
    ASSERT_OK(ctx, qrb_tokenizer_save(tokenizer, saved));
    qrb_tokenizer_destroy(tokenizer);
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, directory, &tokenizer));
    expect_golden(tokenizer, "tok512");
    expect_round_trips(tokenizer, "");
    ck_assert_int_eq(qrb_tokenizer_bos(tokenizer), 1);
    ck_assert_int_eq(qrb_tokenizer_eos(tokenizer), 2);
    qrb_tokenizer_destroy(tokenizer);
    remove_directory(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tokenizer golden");
    TCase *golden = tcase_create("golden");

    tcase_set_timeout(golden, 60);
    tcase_add_checked_fixture(golden, set_up, tear_down);
    tcase_add_test(golden, gpt2_gives_the_ids_of_huggingface);
    tcase_add_test(golden,
                   gpt2_with_a_space_in_front_gives_the_ids_of_huggingface);
    tcase_add_test(golden, the_split_of_llama3_gives_the_ids_of_huggingface);
    tcase_add_test(golden,
                   nfc_and_the_split_of_qwen2_give_the_ids_of_huggingface);
    tcase_add_test(golden, gpt_neox_gives_the_ids_of_huggingface);
    tcase_add_test(golden, gpt2_gives_every_byte_back);
    tcase_add_test(golden, byte_fallback_gives_the_ids_of_sentencepiece);
    tcase_add_test(golden,
                   llama2c_gives_the_ids_of_its_rules_also_when_saved_as_json);
    suite_add_tcase(suite, golden);
    return run_suite(suite);
}
