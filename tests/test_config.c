/* config.json: what is written is read, what changes results is refused. */
#include "foreign_locale.h"

#include "io/config.h"
#include "io/text.h"

static char directory[64];
static char path[256];
static qrb_context *ctx;

static void set_up(void)
{
    make_directory(directory);
    in_directory(directory, "config.json", path);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static qrb_status read_text(qrb_context *context, const char *text,
                            qrb_engine_config *out)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    qrb_status status;

    options.buffer = text;
    options.size = strlen(text);
    status = qrb__source_open(context, &options, &source);
    if (status != QRB_OK)
        return status;
    status = qrb__config_read(context, source, out);
    qrb__source_close(source);
    return status;
}

static qrb_status read_path(const char *file, qrb_engine_config *out)
{
    struct qrb__source *source;
    qrb_status status;

    ASSERT_OK(ctx, qrb__source_open_path(ctx, file, &source));
    status = qrb__config_read(ctx, source, out);
    qrb__source_close(source);
    return status;
}

static void expect_equal(const qrb_engine_config *a, const qrb_engine_config *b)
{
    ck_assert_uint_eq(a->vocab, b->vocab);
    ck_assert_uint_eq(a->dim, b->dim);
    ck_assert_uint_eq(a->layers, b->layers);
    ck_assert_uint_eq(a->heads, b->heads);
    ck_assert_uint_eq(a->kv_heads, b->kv_heads);
    ck_assert_uint_eq(a->head_dim, b->head_dim);
    ck_assert_uint_eq(a->hidden, b->hidden);
    ck_assert_uint_eq(a->context, b->context);
    ck_assert_double_eq(a->rms_epsilon, b->rms_epsilon);
    ck_assert_double_eq(a->rope_theta, b->rope_theta);
    ck_assert_uint_eq(a->architecture, b->architecture);
    ck_assert_uint_eq(a->rotary, b->rotary);
    ck_assert_uint_eq(a->tied_head, b->tied_head);
    ck_assert_uint_eq(a->qkv_bias, b->qkv_bias);
}

static qrb_engine_config make_config(void)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;

    config.vocab = 512;
    config.dim = 64;
    config.layers = 5;
    config.heads = 8;
    config.kv_heads = 4;
    config.head_dim = 8;
    config.hidden = 172;
    config.context = 512;
    return config;
}

START_TEST(what_is_written_is_read)
{
    static const double epsilons[] = { 1e-5, 1e-6, 0.1, 1.0 / 3, 1 };
    static const double thetas[] = { 10000, 1e6, 12345.678901234567, 1, 1e15 };
    qrb_engine_config config = make_config();
    qrb_engine_config back;

    config.rms_epsilon = epsilons[_i];
    config.rope_theta = thetas[_i];
    config.tied_head = _i % 2;
    config.head_dim = _i == 0 ? 8 : 16; /* heads * head_dim beyond dim */
    if (_i == 3) {
        config.architecture = QRB_ARCH_QWEN2;
        config.qkv_bias = 1;
    }
    ASSERT_OK(ctx, qrb__config_write(ctx, path, &config, QRB_F32));
    ASSERT_OK(ctx, read_path(path, &back));
    expect_equal(&config, &back);
}
END_TEST

/* The point of a locale may be a comma, or have more than one byte. */
START_TEST(no_locale_of_the_host_changes_what_is_written_or_read)
{
    qrb_engine_config config = make_config();
    qrb_engine_config back;
    char *expected;
    char *found;

    config.rms_epsilon = 1.0 / 3;
    config.rope_theta = 12345.678901234567;
    ASSERT_OK(ctx, qrb__config_write(ctx, path, &config, QRB_F32));
    expected = get_file(path, NULL);
    if (enter_foreign_locale(foreign_locales[_i], directory)) {
        ASSERT_OK(ctx, read_path(path, &back));
        expect_equal(&config, &back);
        ASSERT_OK(ctx, qrb__config_write(ctx, path, &config, QRB_F32));
        /* The host's locale is what it was. */
        ck_assert_str_ne(localeconv()->decimal_point, ".");
        setlocale(LC_ALL, "C");
        found = get_file(path, NULL);
        ck_assert_str_eq(found, expected);
        free(found);
    }
    free(expected);
}
END_TEST

START_TEST(the_written_text_is_fixed)
{
    qrb_engine_config config = make_config();
    char *text;

    config.head_dim = 0; /* dim / heads */
    ASSERT_OK(ctx, qrb__config_write(ctx, path, &config, QRB_BF16));
    text = get_file(path, NULL);
    ck_assert_str_eq(text, "{\n"
                           "  \"architectures\": [\n"
                           "    \"LlamaForCausalLM\"\n"
                           "  ],\n"
                           "  \"attention_bias\": false,\n"
                           "  \"head_dim\": 8,\n"
                           "  \"hidden_act\": \"silu\",\n"
                           "  \"hidden_size\": 64,\n"
                           "  \"intermediate_size\": 172,\n"
                           "  \"max_position_embeddings\": 512,\n"
                           "  \"model_type\": \"llama\",\n"
                           "  \"num_attention_heads\": 8,\n"
                           "  \"num_hidden_layers\": 5,\n"
                           "  \"num_key_value_heads\": 4,\n"
                           "  \"rms_norm_eps\": 1e-05,\n"
                           "  \"rope_theta\": 10000.0,\n"
                           "  \"tie_word_embeddings\": true,\n"
                           "  \"torch_dtype\": \"bfloat16\",\n"
                           "  \"vocab_size\": 512\n"
                           "}\n");
    free(text);
}
END_TEST

START_TEST(what_the_file_cannot_say_is_not_written)
{
    qrb_engine_config config = make_config();

    config.rotary = QRB_ROTARY_INTERLEAVED;
    ASSERT_FAILS(ctx, qrb__config_write(ctx, path, &config, QRB_F32),
                 QRB_E_UNSUPPORTED, "half-split");
    config = make_config();
    config.qkv_bias = 1;
    ASSERT_FAILS(ctx, qrb__config_write(ctx, path, &config, QRB_F32),
                 QRB_E_UNSUPPORTED, "LlamaForCausalLM has no biases");
    config.architecture = QRB_ARCH_QWEN2;
    config.qkv_bias = 0;
    ASSERT_FAILS(ctx, qrb__config_write(ctx, path, &config, QRB_F32),
                 QRB_E_UNSUPPORTED, "Qwen2ForCausalLM always has biases");
    config = make_config();
    ASSERT_FAILS(ctx, qrb__config_write(ctx, path, &config, QRB_I8),
                 QRB_E_UNSUPPORTED, "type I8");
    config.vocab = 0;
    ASSERT_FAILS(ctx, qrb__config_write(ctx, path, &config, QRB_F32),
                 QRB_E_FORMAT, "vocab_size is 0");
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

#define SIZES                                                                  \
    "\"vocab_size\":10,\"hidden_size\":8,\"intermediate_size\":12,"            \
    "\"num_hidden_layers\":1,\"num_attention_heads\":2"

START_TEST(missing_keys_have_the_values_of_their_family)
{
    qrb_engine_config config;

    ASSERT_OK(ctx,
              read_text(ctx, "{\"model_type\":\"llama\"," SIZES "}", &config));
    ck_assert_uint_eq(config.kv_heads, 2);
    ck_assert_uint_eq(config.head_dim, 4);
    ck_assert_uint_eq(config.context, 2048);
    ck_assert_double_eq(config.rms_epsilon, 1e-6);
    ck_assert_double_eq(config.rope_theta, 10000);
    ck_assert_uint_eq(config.tied_head, 0);
    ck_assert_uint_eq(config.qkv_bias, 0);
    ck_assert_uint_eq(config.architecture, QRB_ARCH_LLAMA);
    ASSERT_OK(ctx, read_text(ctx,
                             "{\"architectures\":[\"Qwen2ForCausalLM\"]," SIZES
                             ",\"head_dim\":null,\"rope_scaling\":null}",
                             &config));
    ck_assert_uint_eq(config.context, 32768);
    ck_assert_uint_eq(config.qkv_bias, 1);
    ck_assert_uint_eq(config.architecture, QRB_ARCH_QWEN2);
}
END_TEST

/* The newer place of theta, and everything that may be there and changes
 * nothing. */
START_TEST(harmless_values_are_read)
{
    qrb_engine_config config;

    ASSERT_OK(
        ctx,
        read_text(ctx,
                  "{\"model_type\":\"llama\"," SIZES
                  ",\"rope_parameters\":{\"rope_type\":\"default\","
                  "\"rope_theta\":500000},\"rope_scaling\":{\"type\":"
                  "\"default\"},\"layer_types\":[\"full_attention\"],"
                  "\"mlp_bias\":false,\"use_sliding_window\":false,"
                  "\"attention_bias\":false,\"partial_rotary_factor\":1.0,"
                  "\"quantization_config\":null,\"rms_norm_eps\":1,"
                  "\"torch_dtype\":\"float16\",\"anything\":[{\"a\":[1]}]}",
                  &config));
    ck_assert_double_eq(config.rope_theta, 500000);
    ck_assert_double_eq(config.rms_epsilon, 1);
}
END_TEST

static const struct {
    const char *text; /* after model_type and sizes */
    const char *words;
    qrb_status status;
} refused[] = {
    { ",\"rope_scaling\":{\"rope_type\":\"llama3\"}", "rope_scaling",
      QRB_E_UNSUPPORTED },
    { ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2}", "rope_scaling",
      QRB_E_UNSUPPORTED },
    { ",\"rope_scaling\":{}", "rope_scaling", QRB_E_UNSUPPORTED },
    { ",\"rope_scaling\":1", "rope_scaling is not an object", QRB_E_FORMAT },
    { ",\"rope_parameters\":{\"rope_type\":\"yarn\"}", "rope_parameters",
      QRB_E_UNSUPPORTED },
    { ",\"partial_rotary_factor\":0.5", "partial_rotary_factor",
      QRB_E_UNSUPPORTED },
    { ",\"mlp_bias\":true", "mlp_bias", QRB_E_UNSUPPORTED },
    { ",\"mlp_bias\":0", "mlp_bias is not true or false", QRB_E_FORMAT },
    { ",\"attention_bias\":true", "attention_bias", QRB_E_UNSUPPORTED },
    { ",\"attention_bias\":1", "attention_bias is not", QRB_E_FORMAT },
    { ",\"use_sliding_window\":true", "use_sliding_window", QRB_E_UNSUPPORTED },
    { ",\"layer_types\":[\"sliding_attention\"]", "layer_types",
      QRB_E_UNSUPPORTED },
    { ",\"layer_types\":{}", "layer_types is not an array", QRB_E_FORMAT },
    { ",\"quantization_config\":{\"bits\":4}", "quantization_config",
      QRB_E_UNSUPPORTED },
    { ",\"auto_map\":{}", "auto_map", QRB_E_UNSUPPORTED },
    { ",\"hidden_act\":\"gelu\"", "hidden_act", QRB_E_UNSUPPORTED },
    { ",\"hidden_act\":3", "hidden_act is not a string", QRB_E_FORMAT },
    { ",\"architectures\":[\"Qwen2ForCausalLM\"]",
      "model_type llama with architectures Qwen2ForCausalLM",
      QRB_E_UNSUPPORTED },
    { ",\"architectures\":[]", "not an array of one", QRB_E_FORMAT },
    { ",\"architectures\":[1]", "not an array of one", QRB_E_FORMAT },
    { ",\"architectures\":\"x\"", "not an array of one", QRB_E_FORMAT },
    { ",\"tie_word_embeddings\":\"true\"", "tie_word_embeddings is not",
      QRB_E_FORMAT },
    { ",\"rms_norm_eps\":0", "rms_norm_eps is 0", QRB_E_FORMAT },
    { ",\"rms_norm_eps\":-1e-5", "rms_norm_eps is -1e-05", QRB_E_FORMAT },
    { ",\"rms_norm_eps\":\"1e-5\"", "rms_norm_eps is not a number",
      QRB_E_FORMAT },
    { ",\"rope_theta\":0.5", "rope_theta is 0.5", QRB_E_FORMAT },
    { ",\"rope_theta\":1e400", "real number overflow", QRB_E_FORMAT },
    { ",\"rope_theta\":NaN", "invalid token", QRB_E_FORMAT },
    { ",\"rope_theta\":[]", "rope_theta is not a number", QRB_E_FORMAT },
    { ",\"num_key_value_heads\":3", "no multiple of num_key_value_heads",
      QRB_E_FORMAT },
    { ",\"num_key_value_heads\":0", "num_key_value_heads: expected",
      QRB_E_FORMAT },
    { ",\"num_key_value_heads\":2.0", "num_key_value_heads: expected",
      QRB_E_FORMAT },
    { ",\"head_dim\":3", "head_dim is 3", QRB_E_FORMAT },
    { ",\"head_dim\":true", "head_dim: expected", QRB_E_FORMAT },
    { ",\"head_dim\":99999999999999999999", "too big", QRB_E_FORMAT },
    { ",\"max_position_embeddings\":-1", "max_position_embeddings: expected",
      QRB_E_FORMAT },
    { ",\"vocab_size\":10", "duplicate", QRB_E_FORMAT },
    { ",\"a\":\"\\u0000\"", "\\u0000", QRB_E_FORMAT },
    { ",\"a\":\"\xff\"", "unable to decode", QRB_E_FORMAT },
    { ",\"a\":[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]", "nested deeper than 16",
      QRB_E_FORMAT },
};

START_TEST(what_changes_results_or_is_out_of_range_is_refused)
{
    qrb_engine_config config = make_config();
    const qrb_engine_config before = config;
    char text[1024];

    snprintf(text, sizeof text, "{\"model_type\":\"llama\"," SIZES "%s}",
             refused[_i].text);
    ASSERT_FAILS(ctx, read_text(ctx, text, &config), refused[_i].status,
                 refused[_i].words);
    expect_equal(&config, &before);
}
END_TEST

START_TEST(files_that_are_no_config_are_refused)
{
    qrb_engine_config config;
    char *large;

    ASSERT_FAILS(ctx, read_text(ctx, "[]", &config), QRB_E_FORMAT,
                 "is not an object");
    ASSERT_FAILS(ctx, read_text(ctx, "", &config), QRB_E_FORMAT, "line 1");
    ASSERT_FAILS(ctx, read_text(ctx, "{" SIZES "}", &config), QRB_E_FORMAT,
                 "model_type and architectures are missing");
    ASSERT_FAILS(ctx, read_text(ctx, "{\"model_type\":3}", &config),
                 QRB_E_FORMAT, "model_type is no string");
    ASSERT_FAILS(ctx, read_text(ctx, "{\"model_type\":\"opt\"}", &config),
                 QRB_E_UNSUPPORTED, "model_type opt with");
    ASSERT_FAILS(ctx, read_text(ctx, "{\"model_type\":\"llama\"}", &config),
                 QRB_E_FORMAT, "vocab_size is missing");
    ASSERT_FAILS(ctx,
                 read_text(ctx,
                           "{\"model_type\":\"qwen2\",\"attention_bias\":"
                           "false," SIZES "}",
                           &config),
                 QRB_E_UNSUPPORTED, "attention_bias");
    large = malloc((1 << 20) + 2);
    ck_assert_ptr_nonnull(large);
    memset(large, ' ', (1 << 20) + 1);
    large[(1 << 20) + 1] = '\0';
    ASSERT_FAILS(ctx, read_text(ctx, large, &config), QRB_E_FORMAT,
                 "at most 1048576 are allowed");
    free(large);
}
END_TEST

START_TEST(the_head_dimension_follows_from_the_heads_or_is_refused)
{
    qrb_engine_config config;

    ASSERT_FAILS(ctx,
                 read_text(ctx,
                           "{\"model_type\":\"llama\",\"vocab_size\":10,"
                           "\"hidden_size\":9,\"intermediate_size\":12,"
                           "\"num_hidden_layers\":1,"
                           "\"num_attention_heads\":2}",
                           &config),
                 QRB_E_FORMAT, "hidden_size 9 is no multiple");
}
END_TEST

START_TEST(configs_that_no_file_made_are_checked_too)
{
    qrb_engine_config config = make_config();

    config.architecture = 9;
    ASSERT_FAILS(ctx, qrb__config_complete(ctx, &config, "config"),
                 QRB_E_FORMAT, "architecture 9");
    config = make_config();
    config.rotary = 2;
    ASSERT_FAILS(ctx, qrb__config_complete(ctx, &config, "config"),
                 QRB_E_FORMAT, "rotary 2");
    config = make_config();
    config.rope_theta = 0.0 / 0.0;
    ASSERT_FAILS(ctx, qrb__config_complete(ctx, &config, "config"),
                 QRB_E_FORMAT, "rope_theta is");
}
END_TEST

/* A text cut anywhere, and with any of its bytes changed. */
START_TEST(no_damage_to_a_config_does_harm)
{
    const qrb_engine_config config = make_config();
    qrb_engine_config back;
    size_t size;
    char *text;

    ASSERT_OK(ctx, qrb__config_write(ctx, path, &config, QRB_F32));
    text = get_file(path, &size);
    for (size_t i = 0; i + 2 < size; i++) {
        const char kept = text[i];

        text[i] = '\0';
        ck_assert_int_eq(read_text(ctx, text, &back), QRB_E_FORMAT);
        for (int value = 1; value < 256; value += 3) {
            text[i] = (char)value;
            if (read_text(ctx, text, &back) == QRB_OK)
                ck_assert_uint_ge(back.dim, 1);
            else
                ck_assert_uint_gt(strlen(qrb_context_message(ctx)), 10);
        }
        text[i] = kept;
    }
    free(text);
}
END_TEST

/* Numbers look alike whatever the host's locale is. */
START_TEST(numbers_are_the_shortest_that_read_back)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {
        { 0, "0.0" },
        { 1, "1.0" },
        { -2.5, "-2.5" },
        { 0.1, "0.1" },
        { 1e-5, "1e-05" },
        { 1e300, "1e+300" },
        { 1.0 / 3, "0.3333333333333333" },
        { 5e-324, "5e-324" },
        { 123456789, "123456789.0" },
    };
    struct qrb__text text = { .ctx = ctx };

    if (_i > 0)
        enter_foreign_locale(foreign_locales[_i - 1], directory);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qrb__text_json_number(&text, cases[i].value);
        ck_assert_str_eq(text.bytes, cases[i].text);
        qrb__text_release(&text);
    }
    setlocale(LC_ALL, "C");
}
END_TEST

START_TEST(text_grows_and_escapes)
{
    struct qrb__text text = { .ctx = ctx };
    char piece[300];

    qrb__text_json_string(&text, "a\"\\\n\x01\x7f\xc3\xa9", 8);
    ck_assert_str_eq(text.bytes, "\"a\\\"\\\\\\n\\u0001\x7f\xc3\xa9\"");
    qrb__text_release(&text);
    for (int i = 0; i < 1000; i++)
        qrb__text_print(&text, "%d,", i % 10);
    ck_assert_uint_eq(text.size, 2000);
    ASSERT_OK(ctx, qrb__text_status(&text, "numbers"));
    memset(piece, 'x', 299);
    piece[299] = '\0';
    qrb__text_print(&text, "%s", piece); /* more than a piece may be */
    ck_assert_int_eq(qrb__text_status(&text, "numbers"), QRB_E_NO_MEMORY);
    qrb__text_release(&text);
    ck_assert_ptr_null(text.bytes);
}
END_TEST

static qrb_status write_and_read(qrb_context *context, void *arg)
{
    qrb_engine_config config = make_config();
    qrb_status status = qrb__config_write(context, path, &config, QRB_F32);

    if (status == QRB_OK)
        status = read_text(context, arg, &config);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_config)
{
    char text[] = "{\"model_type\":\"llama\"," SIZES "}";

    fail_each_allocation(write_and_read, text);
}
END_TEST

START_TEST(configs_of_published_models_are_read_or_refused)
{
    qrb_engine_config config;
    char file[512];

    if (shared_path("models/stories260K-hf/config.json", file) == NULL)
        return;
    ASSERT_OK(ctx, read_path(file, &config));
    ck_assert_uint_eq(config.dim, 64);
    ck_assert_uint_eq(config.hidden, 172);
    ck_assert_uint_eq(config.tied_head, 1);
    ck_assert_double_eq(config.rms_epsilon, 1e-5);
    if (shared_path("configs/llama-3.2-3b.config.json", file) != NULL)
        ASSERT_FAILS(ctx, read_path(file, &config), QRB_E_UNSUPPORTED,
                     "rope_scaling");
    if (shared_path("configs/opt-1.3b.config.json", file) != NULL)
        ASSERT_FAILS(ctx, read_path(file, &config), QRB_E_UNSUPPORTED,
                     "model_type opt");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *configs = tcase_create("config");

    tcase_add_checked_fixture(configs, set_up, tear_down);
    tcase_set_timeout(configs, 60);
    tcase_add_loop_test(configs, what_is_written_is_read, 0, 5);
    tcase_add_test(configs, the_written_text_is_fixed);
    tcase_add_test(configs, what_the_file_cannot_say_is_not_written);
    tcase_add_test(configs, missing_keys_have_the_values_of_their_family);
    tcase_add_test(configs, harmless_values_are_read);
    tcase_add_loop_test(configs,
                        what_changes_results_or_is_out_of_range_is_refused, 0,
                        sizeof refused / sizeof *refused);
    tcase_add_test(configs, files_that_are_no_config_are_refused);
    tcase_add_test(configs,
                   the_head_dimension_follows_from_the_heads_or_is_refused);
    tcase_add_test(configs, configs_that_no_file_made_are_checked_too);
    tcase_add_test(configs, no_damage_to_a_config_does_harm);
    tcase_add_loop_test(configs, numbers_are_the_shortest_that_read_back, 0,
                        1 + FOREIGN_LOCALES);
    tcase_add_loop_test(configs,
                        no_locale_of_the_host_changes_what_is_written_or_read,
                        0, FOREIGN_LOCALES);
    tcase_add_test(configs, text_grows_and_escapes);
    tcase_add_test(configs, no_failed_allocation_leaks_a_config);
    tcase_add_test(configs, configs_of_published_models_are_read_or_refused);
    suite_add_tcase(suite, configs);
    return run_suite(suite);
}
