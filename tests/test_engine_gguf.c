/* Models as GGUF files: what is opened is what was saved, in the order of rows
 * that other engines expect. */
#include "harness.h"

#include <math.h>

#include <qrobust/engine.h>

#include "io/gguf_model.h"
#include "model/model.h"

static qrb_context *ctx;
static char directory[64];

static void set_up(void)
{
    ctx = make_context(NULL);
    make_directory(directory);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static const char *out_path(void)
{
    static char path[256];

    return in_directory(directory, "model.gguf", path);
}

static qrb_engine_config make_config(uint32_t architecture)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;

    config.vocab = 40;
    config.dim = 64;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 8;
    config.hidden = 96;
    config.context = 16;
    config.rms_epsilon = 1e-5;
    config.rope_theta = 500;
    config.architecture = architecture;
    config.qkv_bias = architecture == QRB_ARCH_QWEN2;
    return config;
}

static qrb_model *make_model(const qrb_engine_config *config)
{
    qrb_model *model;
    uint32_t seed = 5;

    ASSERT_OK(ctx, qrb_engine_create(ctx, config, NULL, &model));
    /* Biases and norms that differ, or a wrong order would not be seen. */
    for (size_t i = 0; i < qrb_model_parameter_count(model); i++) {
        qrb_parameter parameter = QRB_PARAMETER_INIT;

        ASSERT_OK(ctx, qrb_model_parameter(model, i, &parameter));
        if (qrb_tensor_rank(parameter.weight) == 1) {
            float *w = qrb_tensor_memory(parameter.weight);

            for (size_t k = 0; k < qrb_tensor_extent(parameter.weight, 0);
                 k++) {
                seed = 1664525u * seed + 1013904223u;
                w[k] = (float)(seed / 4294967296.0 + 0.5);
            }
        }
    }
    return model;
}

/* Weights of one are those of the other, to a share of the largest of each
 * parameter. */
static void expect_same_weights(const qrb_model *a, const qrb_model *b,
                                double share)
{
    ck_assert_uint_eq(qrb_model_parameter_count(a),
                      qrb_model_parameter_count(b));
    for (size_t i = 0; i < qrb_model_parameter_count(a); i++) {
        qrb_parameter p = QRB_PARAMETER_INIT;
        qrb_parameter q = QRB_PARAMETER_INIT;
        const float *x;
        const float *y;
        size_t count = 1;
        float largest = 0;

        ASSERT_OK(ctx, qrb_model_parameter(a, i, &p));
        ASSERT_OK(ctx, qrb_model_parameter(b, i, &q));
        ck_assert_str_eq(p.name, q.name);
        x = qrb_tensor_memory(p.weight);
        y = qrb_tensor_memory(q.weight);
        for (uint32_t k = 0; k < qrb_tensor_rank(p.weight); k++)
            count *= qrb_tensor_extent(p.weight, k);
        for (size_t k = 0; k < count; k++)
            largest = fmaxf(largest, fabsf(x[k]));
        for (size_t k = 0; k < count; k++)
            ck_assert_msg(fabs((double)x[k] - y[k]) <= share * largest,
                          "%s[%zu] is %g, was %g", p.name, k, (double)y[k],
                          (double)x[k]);
    }
}

static qrb_model *open_model(const char *path)
{
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_model *model;

    options.trainable = 0;
    ASSERT_OK(ctx, qrb_engine_open(ctx, path, &options, &model));
    return model;
}

START_TEST(a_saved_model_opens_as_it_was)
{
    const qrb_engine_config config =
        make_config(_i % 2 == 0 ? QRB_ARCH_LLAMA : QRB_ARCH_QWEN2);
    qrb_engine_config wanted = config;
    qrb_engine_config found = QRB_ENGINE_CONFIG_INIT;
    qrb_model *model;
    qrb_model *again;

    wanted.tied_head = _i < 2;
    model = make_model(&wanted);
    ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_F32,
                                        NULL, 0));
    again = open_model(out_path());
    ASSERT_OK(ctx, qrb_engine_get_config(again, &found));
    ck_assert_mem_eq(&found, &wanted, sizeof wanted);
    expect_same_weights(model, again, 0);
    qrb_model_destroy(again);
    qrb_model_destroy(model);
}
END_TEST

/* Halves keep 11 bits; a step is an eighth, a fifteenth, ... of the largest
 * magnitude or of the range, and rounding errs by a step at most. */
START_TEST(a_quantized_model_opens_near_what_it_was)
{
    static const struct {
        uint32_t type;
        double share;
    } cases[] = {
        { QRB_GGUF_F16, 1.0 / 1024 },   { QRB_GGUF_Q8_0, 1.0 / 127 },
        { QRB_GGUF_Q5_0, 1.0 / 15 },    { QRB_GGUF_Q5_1, 1.0 / 15 },
        { QRB_GGUF_Q4_0, 1.0 / 7 },     { QRB_GGUF_Q4_1, 1.0 / 7 },
    };
    const qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_model *model = make_model(&config);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qrb_model *again;

        ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(),
                                            cases[i].type, NULL, 0));
        again = open_model(out_path());
        expect_same_weights(model, again, cases[i].share);
        qrb_model_destroy(again);
    }
    qrb_model_destroy(model);
}
END_TEST

static struct qrb__gguf *open_file(void)
{
    struct qrb__source *source;
    struct qrb__gguf *file;

    ASSERT_OK(ctx, qrb__source_open_path(ctx, out_path(), &source));
    ASSERT_OK(ctx, qrb__gguf_open(ctx, source, &file));
    return file;
}

static const float *weight_of(const qrb_model *model, const char *name)
{
    for (size_t i = 0; i < qrb_model_parameter_count(model); i++) {
        qrb_parameter p = QRB_PARAMETER_INIT;

        ASSERT_OK(ctx, qrb_model_parameter(model, i, &p));
        if (strcmp(p.name, name) == 0)
            return qrb_tensor_memory(p.weight);
    }
    ck_abort_msg("no %s", name);
}

/* Row a * 4 + b of a head of 8 is row 2 b + a of the file. */
START_TEST(rows_of_llama_are_interleaved_and_those_of_qwen2_are_not)
{
    const uint32_t architecture = _i == 0 ? QRB_ARCH_LLAMA : QRB_ARCH_QWEN2;
    const qrb_engine_config config = make_config(architecture);
    const size_t shape[2] = { 16, 64 };
    static float memory[16 * 64];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 2, shape, (unsigned char *)memory);
    qrb_model *model = make_model(&config);
    struct qrb__gguf *file;
    const float *k;
    const float *v;

    ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_F32,
                                        NULL, 0));
    k = weight_of(model, "model.layers.1.self_attn.k_proj.weight");
    v = weight_of(model, "model.layers.1.self_attn.v_proj.weight");
    file = open_file();
    ASSERT_OK(ctx, qrb__gguf_read(
                       file, qrb__gguf_find_tensor(file, "blk.1.attn_k.weight"),
                       &view));
    for (size_t head = 0; head < 2; head++)
        for (size_t a = 0; a < 2; a++)
            for (size_t b = 0; b < 4; b++) {
                const size_t row = 8 * head + 4 * a + b;
                const size_t at =
                    _i == 0 ? 8 * head + 2 * b + a : row;

                ck_assert_mem_eq(memory + 64 * at, k + 64 * row, 64 * 4);
            }
    ASSERT_OK(ctx, qrb__gguf_read(
                       file, qrb__gguf_find_tensor(file, "blk.1.attn_v.weight"),
                       &view));
    ck_assert_mem_eq(memory, v, sizeof memory);
    qrb__gguf_close(file);
    qrb_model_destroy(model);
}
END_TEST

/* A model whose pairs are neighbours is written in the same order as one whose
 * pairs are not. */
START_TEST(the_order_of_rows_in_memory_does_not_show_in_the_file)
{
    qrb_engine_config config =
        make_config(_i == 0 ? QRB_ARCH_LLAMA : QRB_ARCH_QWEN2);
    const int32_t tokens[6] = { 1, 5, 9, 2, 30, 7 };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *logits[2];
    qrb_model *models[2];

    config.rotary = QRB_ROTARY_INTERLEAVED;
    models[0] = make_model(&config);
    ASSERT_OK(ctx, qrb_engine_save_gguf(models[0], NULL, out_path(),
                                        QRB_GGUF_F32, NULL, 0));
    models[1] = open_model(out_path());
    shape.rank = 2;
    shape.shape[0] = 6;
    shape.shape[1] = config.vocab;
    for (size_t i = 0; i < 2; i++) {
        ASSERT_OK(ctx, qrb_tensor_create(ctx, &shape, &logits[i]));
        ASSERT_OK(ctx, qrb_engine_logits(models[i], tokens, 1, 6, logits[i]));
    }
    for (size_t i = 0; i < 6 * config.vocab; i++)
        ck_assert_float_eq_tol(((float *)qrb_tensor_memory(logits[0]))[i],
                               ((float *)qrb_tensor_memory(logits[1]))[i],
                               1e-5f);
    for (size_t i = 0; i < 2; i++) {
        qrb_tensor_destroy(logits[i]);
        qrb_model_destroy(models[i]);
    }
}
END_TEST

START_TEST(types_follow_the_rules)
{
    static const struct {
        const char *name;
        uint32_t type;
    } expected[] = {
        { "token_embd.weight", QRB__GGUF_Q8_0 },
        { "output.weight", QRB__GGUF_Q8_0 },
        { "output_norm.weight", QRB__GGUF_F32 },
        { "blk.0.attn_q.weight", QRB__GGUF_Q4_0 },
        { "blk.0.attn_q.bias", QRB__GGUF_F32 },
        { "blk.0.ffn_down.weight", QRB__GGUF_F16 },
        { "blk.0.ffn_up.weight", QRB__GGUF_Q4_0 },
    };
    static const char *const metadata[2] = { "general.name", "small" };
    qrb_engine_config config = make_config(QRB_ARCH_QWEN2);
    qrb_model *model;
    struct qrb__gguf *file;
    uint64_t value = 0;
    char text[16];

    config.hidden = 72;
    config.tied_head = 0;
    model = make_model(&config);
    ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_Q4_0,
                                        metadata, 1));
    file = open_file();
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        ck_assert_uint_eq(
            qrb__gguf_find_tensor(file, expected[i].name)->layout->type,
            expected[i].type);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "general.file_type", 99, &value));
    ck_assert_uint_eq(value, 2);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "general.quantization_version", 99,
                                       &value));
    ck_assert_uint_eq(value, 2);
    ASSERT_OK(ctx, qrb__gguf_get_text(file, "general.name", 16, text));
    ck_assert_str_eq(text, "small");
    qrb__gguf_close(file);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(arguments_that_make_no_sense_are_refused)
{
    static const char *const twice[4] = { "general.architecture", "x", "b",
                                          NULL };
    const qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_model *model = make_model(&config);

    ck_assert_int_eq(qrb_engine_save_gguf(NULL, NULL, out_path(), 0, NULL, 0),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_engine_save_gguf(model, NULL, NULL, 0, NULL, 0),
                 QRB_E_INVALID_ARG, "path is NULL");
    ASSERT_FAILS(ctx, qrb_engine_save_gguf(model, NULL, out_path(), 0, NULL, 1),
                 QRB_E_INVALID_ARG, "metadata is NULL");
    ASSERT_FAILS(ctx,
                 qrb_engine_save_gguf(model, NULL, out_path(), 12, NULL, 0),
                 QRB_E_INVALID_ARG, "type is 12");
    ASSERT_FAILS(ctx,
                 qrb_engine_save_gguf(model, NULL, out_path(), 0, twice, 1),
                 QRB_E_INVALID_ARG, "key general.architecture is given twice");
    ASSERT_FAILS(ctx,
                 qrb_engine_save_gguf(model, NULL, out_path(), 0, twice, 2),
                 QRB_E_INVALID_ARG, "pair 1 of the metadata has a NULL");
    ck_assert_int_ne(access(out_path(), F_OK), 0);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(weights_that_a_type_cannot_hold_leave_no_file)
{
    const qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_model *model = make_model(&config);
    float *w = (float *)(uintptr_t)weight_of(
        model, "model.layers.0.mlp.up_proj.weight");

    w[64 * 3 + 5] = 70000;
    ASSERT_FAILS(ctx,
                 qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_F16,
                                      NULL, 0),
                 QRB_E_NOT_FINITE, "mlp.up_proj.weight: row 3");
    ck_assert_int_ne(access(out_path(), F_OK), 0);
    ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_Q4_0,
                                        NULL, 0));
    w[64 * 3 + 5] = NAN;
    ASSERT_FAILS(ctx,
                 qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_F32,
                                      NULL, 0),
                 QRB_E_NOT_FINITE, "mlp.up_proj.weight: row 3");
    qrb_model_destroy(model);
}
END_TEST

START_TEST(a_model_opens_from_memory)
{
    const qrb_engine_config config = make_config(QRB_ARCH_QWEN2);
    qrb_source source = QRB_SOURCE_INIT;
    qrb_model *model = make_model(&config);
    qrb_model *again;
    size_t size;
    char *bytes;

    ASSERT_OK(ctx, qrb_engine_save_gguf(model, NULL, out_path(), QRB_GGUF_F32,
                                        NULL, 0));
    bytes = get_file(out_path(), &size);
    source.buffer = bytes;
    source.size = size;
    ASSERT_OK(ctx, qrb_engine_open_sources(ctx, NULL, &source, NULL, &again));
    memset(bytes, 0, size);
    expect_same_weights(model, again, 0);
    qrb_model_destroy(again);
    ASSERT_FAILS(ctx,
                 qrb_engine_open_sources(ctx, NULL, &source, NULL, &again),
                 QRB_E_INVALID_ARG, "config is NULL, and the buffer is no");
    ck_assert_ptr_null(again);
    free(bytes);
    qrb_model_destroy(model);
}
END_TEST

/* Write a file with one tensor more, less, or of another shape. */
static qrb_status open_changed(const char *name, size_t columns)
{
    qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    const struct qrb__gguf_layout *f32 = qrb__gguf_layout(QRB__GGUF_F32);
    const size_t embedding[2] = { config.vocab, config.dim };
    const size_t norm[1] = { columns };
    static const float zeros[40 * 64];
    struct qrb__gguf_writer *w;
    qrb_model *model;

    ASSERT_OK(ctx, qrb__gguf_writer_open(ctx, out_path(), &w));
    ASSERT_OK(ctx, qrb__gguf_put_config(ctx, w, &config));
    qrb__gguf_put_tensor(w, "token_embd.weight", f32, 2, embedding);
    qrb__gguf_put_tensor(w, name, f32, 1, norm);
    qrb__gguf_write(w, zeros, sizeof zeros);
    qrb__gguf_write(w, zeros, 4 * columns);
    ASSERT_OK(ctx, qrb__gguf_commit(w));
    qrb__gguf_writer_close(w);
    return qrb_engine_open(ctx, out_path(), NULL, &model);
}

START_TEST(files_without_a_place_for_every_tensor_are_refused)
{
    ASSERT_FAILS(ctx, open_changed("rope_freqs.weight", 4), QRB_E_UNSUPPORTED,
                 "rope_freqs.weight: the file has it");
    ASSERT_FAILS(ctx, open_changed("blk.7.attn_norm.weight", 64),
                 QRB_E_UNSUPPORTED, "blk.7.attn_norm.weight: the file has it");
    ASSERT_FAILS(ctx, open_changed("blk.0.attn_norm.weight", 63), QRB_E_SHAPE,
                 "blk.0.attn_norm.weight: found [63], expected [64]");
    ASSERT_FAILS(ctx, open_changed("blk.0.attn_norm.weight", 64), QRB_E_FORMAT,
                 "blk.0.attn_q.weight: the config asks for it");
}
END_TEST

static qrb_status save_and_open(qrb_context *context, void *path)
{
    qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_model *model = NULL;
    qrb_model *again = NULL;
    qrb_status status;

    config.layers = 1;
    status = qrb_engine_create(context, &config, NULL, &model);
    if (status == QRB_OK)
        status = qrb_engine_save_gguf(model, NULL, path, QRB_GGUF_Q4_0, NULL,
                                      0);
    if (status == QRB_OK)
        status = qrb_engine_open(context, path, NULL, &again);
    qrb_model_destroy(again);
    qrb_model_destroy(model);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_model)
{
    fail_each_allocation(save_and_open, (void *)(uintptr_t)out_path());
}
END_TEST

/* ---- tokenizers ---------------------------------------------------------- */

/* A model with as many tokens and `spare` more, saved and opened again. */
static qrb_tokenizer *through_a_file(qrb_tokenizer *t, size_t spare)
{
    qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_tokenizer *again;
    qrb_model *model;

    config.vocab = qrb_tokenizer_vocab(t) + spare;
    ASSERT_OK(ctx, qrb_engine_create(ctx, &config, NULL, &model));
    ASSERT_OK(ctx, qrb_engine_save_gguf(model, t, out_path(), QRB_GGUF_F32,
                                        NULL, 0));
    qrb_model_destroy(model);
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, out_path(), &again));
    return again;
}

static void expect_same_tokens(const qrb_tokenizer *a, const qrb_tokenizer *b,
                               const char *text, size_t size)
{
    int32_t *tokens[2];
    size_t counts[2];
    char *decoded;
    size_t length;

    ASSERT_OK(ctx, qrb_tokenizer_encode_document(a, text, size, &tokens[0],
                                                 &counts[0]));
    ASSERT_OK(ctx, qrb_tokenizer_encode_document(b, text, size, &tokens[1],
                                                 &counts[1]));
    ck_assert_uint_eq(counts[0], counts[1]);
    ck_assert_mem_eq(tokens[0], tokens[1], counts[0] * sizeof **tokens);
    ASSERT_OK(ctx, qrb_tokenizer_decode(b, tokens[1], counts[1], &decoded,
                                        &length));
    ck_assert_uint_eq(length, size);
    ck_assert_mem_eq(decoded, text, size);
    qrb_free(ctx, decoded);
    qrb_free(ctx, tokens[0]);
    qrb_free(ctx, tokens[1]);
}

static const char sample[] =
    "Once upon a time, there was a little girl named Lily.\n\n  She said: "
    "\"It's 1234 dogs!\"\t\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 end ";

START_TEST(a_trained_tokenizer_comes_back)
{
    qrb_tokenizer *t;
    qrb_tokenizer *again;

    ASSERT_OK(ctx, qrb_tokenizer_train(ctx, sample, sizeof sample - 1, 280,
                                       &t));
    again = through_a_file(t, 3);
    ck_assert_uint_eq(qrb_tokenizer_vocab(again), 280);
    ck_assert_int_eq(qrb_tokenizer_bos(again), qrb_tokenizer_bos(t));
    ck_assert_int_eq(qrb_tokenizer_eos(again), qrb_tokenizer_eos(t));
    expect_same_tokens(t, again, sample, sizeof sample - 1);
    qrb_tokenizer_destroy(again);
    qrb_tokenizer_destroy(t);
}
END_TEST

START_TEST(a_tokenizer_by_scores_comes_back)
{
    char path[512];
    qrb_tokenizer *t;
    qrb_tokenizer *again;
    char *text;
    size_t size;

    if (shared_path("models/stories260K/tok512.bin", path) == NULL)
        return;
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, path, &t));
    again = through_a_file(t, 0);
    ck_assert_int_eq(qrb_tokenizer_bos(again), 1);
    ck_assert_int_eq(qrb_tokenizer_eos(again), 2);
    expect_same_tokens(t, again, sample, sizeof sample - 1);
    if (shared_path("text/tinyshakespeare.txt", path) != NULL) {
        text = get_file(path, &size);
        expect_same_tokens(t, again, text, size < 50000 ? size : 50000);
        free(text);
    }
    qrb_tokenizer_destroy(again);
    qrb_tokenizer_destroy(t);
}
END_TEST

/* Pre-tokenizers of Llama 3 and Qwen2 have names; a tokenizer with another one
 * has none. */
START_TEST(pre_tokenizers_have_names_or_are_refused)
{
    static const char head[] =
        "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":%s,\"vocab\":"
        "{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]},"
        "\"normalizer\":%s,\"decoder\":{\"type\":\"ByteLevel\"},"
        "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
        "{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?i:'s|'t|'re|'ve|'m|"
        "'ll|'d)|[^\\\\r\\\\n\\\\p{L}\\\\p{N}]?\\\\p{L}+|\\\\p{N}%s| ?[^\\\\s"
        "\\\\p{L}\\\\p{N}]+[\\\\r\\\\n]*|\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|"
        "\\\\s+\"},\"behavior\":\"Isolated\",\"invert\":false},"
        "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
        "\"trim_offsets\":false,\"use_regex\":false}]}}";
    static const struct {
        const char *ignore_merges;
        const char *normalizer;
        const char *digits;
        const char *name;
    } cases[] = {
        { "true", "null", "{1,3}", "llama-bpe" },
        { "false", "{\"type\":\"NFC\"}", "", "qwen2" },
        { "false", "null", "{1,3}", NULL },
        { "false", "null", "", NULL },
    };
    qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_model *model = make_model(&config);

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qrb_source source = QRB_SOURCE_INIT;
        char json[2048];
        char name[32] = "";
        struct qrb__gguf *file;
        qrb_tokenizer *again;
        qrb_tokenizer *t;

        source.size = (uint64_t)snprintf(json, sizeof json, head,
                                         cases[i].ignore_merges,
                                         cases[i].normalizer, cases[i].digits);
        source.buffer = json;
        ASSERT_OK(ctx, qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON,
                                          &t));
        if (cases[i].name == NULL) {
            ASSERT_FAILS(ctx,
                         qrb_engine_save_gguf(model, t, out_path(), 0, NULL,
                                              0),
                         QRB_E_UNSUPPORTED, "its pre-tokenizer has no name");
            qrb_tokenizer_destroy(t);
            continue;
        }
        ASSERT_OK(ctx, qrb_engine_save_gguf(model, t, out_path(), 0, NULL, 0));
        file = open_file();
        ASSERT_OK(ctx, qrb__gguf_get_text(file, "tokenizer.ggml.pre", 32,
                                          name));
        ck_assert_str_eq(name, cases[i].name);
        qrb__gguf_close(file);
        ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, out_path(), &again));
        expect_same_tokens(t, again, "abaab", 5);
        qrb_tokenizer_destroy(again);
        qrb_tokenizer_destroy(t);
    }
    qrb_model_destroy(model);
}
END_TEST

/* A file of the keys that `put` puts. */
static qrb_status open_keys(void (*put)(struct qrb__gguf_writer *w, int which),
                            int which)
{
    struct qrb__gguf_writer *w;
    qrb_tokenizer *t;
    qrb_status status;

    ASSERT_OK(ctx, qrb__gguf_writer_open(ctx, out_path(), &w));
    put(w, which);
    ASSERT_OK(ctx, qrb__gguf_commit(w));
    qrb__gguf_writer_close(w);
    status = qrb_tokenizer_open_path(ctx, out_path(), &t);
    qrb_tokenizer_destroy(t);
    return status;
}

enum {
    GOOD,
    NO_MODEL,
    OTHER_MODEL,
    OTHER_PRE,
    NO_TOKENS,
    FEW_TYPES,
    UNKNOWN_TYPE,
    BROKEN_TOKEN,
    TWICE,
    ODD_MERGE,
    MERGE_OF_NOTHING,
    BOS_BEYOND,
    FEW_SCORES,
    NAN_SCORE,
    NO_BYTES,
    LAST
};

static void put_keys(struct qrb__gguf_writer *w, int which)
{
    static const char *const tokens[3] = { "a", "b", "ab" };
    const bool scores = which >= FEW_SCORES;

    if (which == NO_MODEL)
        return;
    qrb__gguf_put_text(w, "tokenizer.ggml.model",
                       which == OTHER_MODEL ? "t5"
                       : scores             ? "llama"
                                            : "gpt2");
    qrb__gguf_put_text(w, "tokenizer.ggml.pre",
                       which == OTHER_PRE ? "falcon" : "gpt-2");
    if (which == NO_TOKENS)
        return;
    qrb__gguf_put_array(w, "tokenizer.ggml.tokens", QRB__GGUF_STRING, 3);
    for (size_t i = 0; i < 3; i++)
        if (which == BROKEN_TOKEN && i == 1)
            qrb__gguf_add_string(w, "\xff", 1);
        else
            qrb__gguf_add_string(w, tokens[which == TWICE ? 0 : i],
                                 strlen(tokens[which == TWICE ? 0 : i]));
    qrb__gguf_put_array(w, "tokenizer.ggml.token_type", QRB__GGUF_I32,
                        which == FEW_TYPES ? 2 : 3);
    for (int i = 0; i < (which == FEW_TYPES ? 2 : 3); i++)
        qrb__gguf_add_i32(w, which == UNKNOWN_TYPE ? -1 : 1);
    qrb__gguf_put_array(w, "tokenizer.ggml.merges", QRB__GGUF_STRING, 1);
    if (which == ODD_MERGE)
        qrb__gguf_add_string(w, "ab", 2);
    else
        qrb__gguf_add_string(w, which == MERGE_OF_NOTHING ? "a c" : "a b", 3);
    if (which == BOS_BEYOND)
        qrb__gguf_put_u32(w, "tokenizer.ggml.bos_token_id", 3);
    if (!scores)
        return;
    qrb__gguf_put_array(w, "tokenizer.ggml.scores", QRB__GGUF_FLOAT,
                        which == FEW_SCORES ? 2 : 3);
    for (int i = 0; i < (which == FEW_SCORES ? 2 : 3); i++)
        qrb__gguf_add_float(w, which == NAN_SCORE ? NAN : 0);
}

START_TEST(tokenizers_that_make_no_sense_are_refused)
{
    static const struct {
        qrb_status status;
        const char *words;
    } expected[LAST] = {
        [NO_MODEL] = { QRB_E_UNSUPPORTED, "tokenizer.ggml.model is \"none\"" },
        [OTHER_MODEL] = { QRB_E_UNSUPPORTED, "model is \"t5\"" },
        [OTHER_PRE] = { QRB_E_UNSUPPORTED, "pre is \"falcon\"" },
        [NO_TOKENS] = { QRB_E_FORMAT, "tokenizer.ggml.tokens: expected 1" },
        [FEW_TYPES] = { QRB_E_FORMAT, "token_type: expected one for each" },
        [UNKNOWN_TYPE] = { QRB_E_FORMAT, "token_type: -1 of token 0" },
        [BROKEN_TOKEN] = { QRB_E_FORMAT, "token 1 is not UTF-8" },
        [TWICE] = { QRB_E_FORMAT, "token" },
        [ODD_MERGE] = { QRB_E_FORMAT, "merges: expected two tokens" },
        [MERGE_OF_NOTHING] = { QRB_E_FORMAT,
                               "merges[0]: \"c\" is not in the vocabulary" },
        [BOS_BEYOND] = { QRB_E_FORMAT, "bos_token_id: token 3 is not there" },
        [FEW_SCORES] = { QRB_E_FORMAT, "scores: expected one for each" },
        [NAN_SCORE] = { QRB_E_FORMAT, "scores: one is not finite" },
        [NO_BYTES] = { QRB_E_FORMAT, "the vocabulary has no <0x00>" },
    };

    if (_i == GOOD)
        ASSERT_OK(ctx, open_keys(put_keys, _i));
    else
        ASSERT_FAILS(ctx, open_keys(put_keys, _i), expected[_i].status,
                     expected[_i].words);
}
END_TEST

static qrb_status tokenizer_through_a_file(qrb_context *context, void *path)
{
    qrb_engine_config config = make_config(QRB_ARCH_LLAMA);
    qrb_tokenizer *t = NULL;
    qrb_tokenizer *again = NULL;
    qrb_model *model = NULL;
    qrb_status status;

    config.vocab = 262;
    config.layers = 1;
    status = qrb_tokenizer_train(context, sample, sizeof sample - 1, 260, &t);
    if (status == QRB_OK)
        status = qrb_engine_create(context, &config, NULL, &model);
    if (status == QRB_OK)
        status = qrb_engine_save_gguf(model, t, path, 0, NULL, 0);
    if (status == QRB_OK)
        status = qrb_tokenizer_open_path(context, path, &again);
    qrb_tokenizer_destroy(again);
    qrb_tokenizer_destroy(t);
    qrb_model_destroy(model);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_tokenizer)
{
    fail_each_allocation(tokenizer_through_a_file,
                         (void *)(uintptr_t)out_path());
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_gguf");
    TCase *models = tcase_create("models");
    TCase *tokenizers = tcase_create("tokenizers");

    tcase_add_checked_fixture(models, set_up, tear_down);
    tcase_set_timeout(models, 60);
    tcase_add_loop_test(models, a_saved_model_opens_as_it_was, 0, 4);
    tcase_add_test(models, a_quantized_model_opens_near_what_it_was);
    tcase_add_loop_test(
        models, rows_of_llama_are_interleaved_and_those_of_qwen2_are_not, 0, 2);
    tcase_add_loop_test(
        models, the_order_of_rows_in_memory_does_not_show_in_the_file, 0, 2);
    tcase_add_test(models, types_follow_the_rules);
    tcase_add_test(models, a_model_opens_from_memory);
    tcase_add_test(models, arguments_that_make_no_sense_are_refused);
    tcase_add_test(models, weights_that_a_type_cannot_hold_leave_no_file);
    tcase_add_test(models, files_without_a_place_for_every_tensor_are_refused);
    tcase_add_test(models, no_failed_allocation_leaks_a_model);
    suite_add_tcase(suite, models);
    tcase_add_checked_fixture(tokenizers, set_up, tear_down);
    tcase_set_timeout(tokenizers, 60);
    tcase_add_test(tokenizers, a_trained_tokenizer_comes_back);
    tcase_add_test(tokenizers, a_tokenizer_by_scores_comes_back);
    tcase_add_test(tokenizers, pre_tokenizers_have_names_or_are_refused);
    tcase_add_loop_test(tokenizers, tokenizers_that_make_no_sense_are_refused,
                        0, LAST);
    tcase_add_test(tokenizers, no_failed_allocation_leaks_a_tokenizer);
    suite_add_tcase(suite, tokenizers);
    return run_suite(suite);
}
