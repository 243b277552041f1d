/* Models of the engine in files: what is written is read again, and what does
 * not fit is named. */
#include <sys/stat.h>

#include "engine_model.h"
#include "io/bytes.h"

enum { SEQUENCES = 2, LENGTH = 70, ROWS = SEQUENCES * LENGTH };

static const int32_t *text(size_t vocab)
{
    static int32_t tokens[ROWS];

    fill_tokens(tokens, ROWS, vocab);
    return tokens;
}

/* [ROWS, vocab] of a model, of its type; free it. */
static void *logits_of(qrb_model *model)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    const uint32_t dtype = qrb_tensor_dtype(parameter_at(model, 0).weight);
    qrb_tensor *tensor;
    void *out;

    ASSERT_OK(model->ctx, qrb_engine_get_config(model, &config));
    out = malloc(ROWS * config.vocab * qrb_dtype_size(dtype));
    ck_assert_ptr_nonnull(out);
    tensor = matrix(model->ctx, dtype, ROWS, config.vocab, out);
    ASSERT_OK(model->ctx, qrb_engine_logits(model, text(config.vocab),
                                            SEQUENCES, LENGTH, tensor));
    qrb_tensor_destroy(tensor);
    return out;
}

static bool same_weights(const qrb_model *a, const qrb_model *b)
{
    if (qrb_model_parameter_count(a) != qrb_model_parameter_count(b))
        return false;
    for (size_t p = 0; p < qrb_model_parameter_count(a); p++) {
        const qrb_parameter x = parameter_at(a, p);
        const size_t q = qrb_model_find(b, x.name);
        const qrb_parameter y = parameter_at(b, q == SIZE_MAX ? 0 : q);

        if (q == SIZE_MAX || y.role != x.role || y.layer != x.layer ||
            memcmp(qrb_tensor_memory(x.weight), qrb_tensor_memory(y.weight),
                   parameter_elements(x.weight) *
                       qrb_dtype_size(qrb_tensor_dtype(x.weight))) != 0)
            return false;
    }
    return true;
}

static qrb_model *open_as(qrb_context *ctx, const char *path, uint32_t dtype,
                          uint32_t trainable)
{
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_model *model = NULL;

    options.dtype = dtype;
    options.trainable = trainable;
    ASSERT_OK(ctx, qrb_engine_open(ctx, path, &options, &model));
    return model;
}

/* With rotary pairs as Hugging Face has them; trained models are copies, the
 * others the file's pages. */
START_TEST(what_was_saved_is_opened_with_the_same_bits)
{
    struct variant variant = variants[_i / 4];
    const uint32_t dtype = _i % 2 ? QRB_F64 : QRB_F32;
    qrb_context *ctx = make_threads(1);
    char directory[64];
    qrb_model *saved;
    qrb_model *opened;
    qrb_engine_config config;
    qrb_engine_config found = QRB_ENGINE_CONFIG_INIT;
    void *before;
    void *after;

    variant.rotary = QRB_ROTARY_HALF;
    config = config_of(&variant);
    make_directory(directory);
    saved = make_model(ctx, &config, dtype);
    ASSERT_OK(ctx, qrb_engine_save(saved, directory, NULL, 0));
    opened = open_as(ctx, directory, dtype, _i % 4 / 2);
    ck_assert(same_weights(saved, opened));
    ASSERT_OK(ctx, qrb_engine_get_config(saved, &config));
    ASSERT_OK(ctx, qrb_engine_get_config(opened, &found));
    ck_assert_mem_eq(&config, &found, sizeof config);
    before = logits_of(saved);
    after = logits_of(opened);
    ck_assert_mem_eq(before, after,
                     ROWS * config.vocab * qrb_dtype_size(dtype));
    free(before);
    free(after);
    qrb_model_destroy(saved);
    qrb_model_destroy(opened);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

/* The order of rows changes, and with it the order of sums. */
START_TEST(interleaved_pairs_are_saved_half_split)
{
    const struct variant *variant = &variants[_i == 0 ? 2 : 4];
    qrb_engine_config config = config_of(variant);
    qrb_context *ctx = make_threads(1);
    qrb_model *saved = make_model(ctx, &config, QRB_F64);
    char directory[64];
    qrb_model *opened;
    double *before;
    double *after;

    make_directory(directory);
    ck_assert_uint_eq(variant->rotary, QRB_ROTARY_INTERLEAVED);
    ASSERT_OK(ctx, qrb_engine_save(saved, directory, NULL, 0));
    opened = open_as(ctx, directory, QRB_F64, 1);
    ASSERT_OK(ctx, qrb_engine_get_config(opened, &config));
    ck_assert_uint_eq(config.rotary, QRB_ROTARY_HALF);
    ck_assert(!same_weights(saved, opened));
    before = logits_of(saved);
    after = logits_of(opened);
    for (size_t i = 0; i < ROWS * config.vocab; i++)
        ck_assert_double_eq_tol(before[i], after[i], 1e-13);
    free(before);
    free(after);
    qrb_model_destroy(saved);
    qrb_model_destroy(opened);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(metadata_is_passed_through)
{
    static const char *const pairs[] = { "seed", "7", "text",
                                         "\xc3\xa9t\xc3\xa9" };
    static const char *const format[] = { "format", "np" };
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_safetensors *file = NULL;
    char directory[64];

    make_directory(directory);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, pairs, 2));
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, directory, &file));
    ck_assert_str_eq(qrb_safetensors_metadata(file, "seed"), "7");
    ck_assert_str_eq(qrb_safetensors_metadata(file, "text"), pairs[3]);
    ck_assert_str_eq(qrb_safetensors_metadata(file, "format"), "pt");
    qrb_safetensors_close(file);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, format, 1));
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, directory, &file));
    ck_assert_str_eq(qrb_safetensors_metadata(file, "format"), "np");
    qrb_safetensors_close(file);
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_directory_of_a_saved_model_is_made)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    char directory[64];
    char path[256];

    make_directory(directory);
    ASSERT_OK(ctx, qrb_engine_save(model, in_directory(directory, "new", path),
                                   NULL, 0));
    qrb_model_destroy(open_as(ctx, path, QRB_F32, 1));
    ck_assert_int_eq(qrb_engine_save(NULL, path, NULL, 0), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_engine_save(model, NULL, NULL, 0), QRB_E_INVALID_ARG,
                 "directory is NULL");
    ASSERT_FAILS(ctx, qrb_engine_save(model, path, NULL, 1), QRB_E_INVALID_ARG,
                 "metadata");
    ASSERT_FAILS(ctx,
                 qrb_engine_save(
                     model, in_directory(directory, "no/where", path), NULL, 0),
                 QRB_E_IO, "no/where");
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

/* What would be read first, or beside what is new, goes; a tokenizer stays
 * where the call says nothing of one. */
START_TEST(a_model_that_is_replaced_leaves_no_weights)
{
    static const char *const old[] = { "model.safetensors.index.json",
                                       "model-00001-of-00001.safetensors" };
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_context *other = make_context(NULL);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_tokenizer *tokenizer = NULL;
    char directory[64];
    char path[256];

    make_directory(directory);
    for (size_t i = 0; i < 2; i++)
        put_file(in_directory(directory, old[i], path), "{}", 2);
    put_file(in_directory(directory, "tokenizer.json", path), "{}", 2);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    for (size_t i = 0; i < 2; i++)
        ck_assert_int_ne(access(in_directory(directory, old[i], path), F_OK),
                         0);
    qrb_model_destroy(open_as(ctx, directory, QRB_F32, 0));
    in_directory(directory, "tokenizer.json", path);
    ck_assert_int_eq(access(path, F_OK), 0);
    ASSERT_OK(ctx,
              qrb_engine_save_with_tokenizer(model, NULL, directory, NULL, 0));
    ck_assert_int_ne(access(path, F_OK), 0);

    ASSERT_OK(ctx, qrb_tokenizer_train(ctx, "aa aa", 5, 257, &tokenizer));
    ASSERT_OK(ctx, qrb_engine_save_with_tokenizer(model, tokenizer, directory,
                                                  NULL, 0));
    qrb_tokenizer_destroy(tokenizer);
    tokenizer = NULL;
    ASSERT_OK(ctx, qrb_tokenizer_open_path(ctx, directory, &tokenizer));
    qrb_tokenizer_destroy(tokenizer);
    ASSERT_OK(other, qrb_tokenizer_train(other, "aa aa", 5, 257, &tokenizer));
    ASSERT_FAILS(
        ctx,
        qrb_engine_save_with_tokenizer(model, tokenizer, directory, NULL, 0),
        QRB_E_INVALID_ARG, "another context");
    qrb_tokenizer_destroy(tokenizer);
    ck_assert_int_eq(
        qrb_engine_save_with_tokenizer(NULL, NULL, directory, NULL, 0),
        QRB_E_INVALID_ARG);
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(other);
    qrb_context_destroy(ctx);
}
END_TEST

/* The pages of a file are the weights, and writing to them does not reach the
 * file. */
START_TEST(mapped_weights_can_be_written_to)
{
    const qrb_engine_config config = config_of(&variants[1]);
    qrb_context *ctx = make_threads(1);
    qrb_model *saved = make_model(ctx, &config, QRB_F32);
    char directory[64];
    char path[256];
    qrb_model *opened;
    float *first;
    float *second;
    size_t before;
    size_t after;
    char *bytes;
    char *again;

    make_directory(directory);
    ASSERT_OK(ctx, qrb_engine_save(saved, directory, NULL, 0));
    in_directory(directory, "model.safetensors", path);
    bytes = get_file(path, &before);
    opened = open_as(ctx, directory, QRB_F32, 0);
    first = logits_of(opened);
    set_element(parameter_at(opened, 2).weight, 3, 7.0);
    set_element(parameter_at(saved, 2).weight, 3, 7.0);
    second = logits_of(opened);
    ck_assert_mem_ne(first, second, ROWS * config.vocab * sizeof *first);
    free(first);
    first = logits_of(saved);
    ck_assert_mem_eq(first, second, ROWS * config.vocab * sizeof *first);
    again = get_file(path, &after);
    ck_assert_uint_eq(before, after);
    ck_assert_mem_eq(bytes, again, before);

    /* Saved over itself: the old pages stay with the model. */
    ASSERT_OK(ctx, qrb_engine_save(opened, directory, NULL, 0));
    free(second);
    second = logits_of(opened);
    ck_assert_mem_eq(first, second, ROWS * config.vocab * sizeof *first);
    free(first);
    free(second);
    free(bytes);
    free(again);
    qrb_model_destroy(saved);
    qrb_model_destroy(opened);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_model_that_does_not_train_holds_no_second_copy)
{
    qrb_engine_config config = config_of(&variants[0]);
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct counting_allocator bytes = { 0, 0 };
    const size_t weights = 20000 * 64 * sizeof(float);
    struct test_batch batch;
    uint64_t announced = 0;
    qrb_context *ctx = NULL;
    char directory[64];
    qrb_model *model;
    size_t before;

    config.vocab = 20000;
    config.dim = 64;
    make_directory(directory);
    options.alloc = counting_alloc;
    options.release = counting_free;
    options.alloc_user = &bytes;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    model = make_model(ctx, &config, QRB_F32);
    ck_assert_uint_gt(bytes.live, 2 * weights);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    qrb_model_destroy(model);
    before = bytes.live;
    model = open_as(ctx, directory, QRB_F32, 0);
    ck_assert_uint_lt(bytes.live, weights / 4);
    ASSERT_OK(ctx, qrb_engine_memory(model, 1, 128, 0, &announced));
    fill_batch(&batch, 1, 129, config.vocab);
    loss_of(model, &batch);
    loss_of(model, &batch);
    ck_assert_double_eq_tol((double)announced / (double)(bytes.most - before),
                            1.0, 0.02);
    qrb_model_destroy(model);
    model = open_as(ctx, directory, QRB_F64, 0); /* needs conversion */
    ck_assert_uint_gt(bytes.live, 2 * weights);
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_file_that_shrank_is_noticed)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    struct test_batch batch;
    char directory[64];
    char path[256];
    double loss;
    size_t scored;
    bool skipped;

    make_directory(directory);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    qrb_model_destroy(model);
    model = open_as(ctx, directory, QRB_F32, 0);
    fill_batch(&batch, 1, 9, config.vocab);
    loss_of(model, &batch);
    in_directory(directory, "model.safetensors", path);
    ck_assert_int_eq(truncate(path, 100), 0);
    ASSERT_FAILS(ctx,
                 qrb__model_loss(model, &batch.batch, &loss, &scored, &skipped),
                 QRB_E_IO, "shrank");
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_tensor *make_tensor(qrb_context *ctx, uint32_t dtype, size_t rows,
                               size_t columns)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = dtype;
    options.rank = columns == 0 ? 1 : 2;
    options.shape[0] = rows;
    options.shape[1] = columns;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

/* Write a model's weights with one tensor exchanged, left out or added. */
static void write_changed(qrb_model *model, const char *directory,
                          const char *left_out, const char *added,
                          const qrb_tensor *tensor)
{
    qrb_named_tensor named[64];
    char path[256];
    size_t count = 0;

    ASSERT_OK(model->ctx, qrb_engine_save(model, directory, NULL, 0));
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        const qrb_parameter parameter = parameter_at(model, p);

        if (strcmp(parameter.name, left_out) != 0)
            named[count++] =
                (qrb_named_tensor){ parameter.name, parameter.weight };
    }
    if (added != NULL)
        named[count++] = (qrb_named_tensor){ added, tensor };
    in_directory(directory, "model.safetensors", path);
    ASSERT_OK(model->ctx,
              qrb_safetensors_write(model->ctx, path, named, count, NULL, 0));
}

START_TEST(tensors_that_do_not_fit_the_config_are_named)
{
    const char *const q = "model.layers.1.self_attn.q_proj.weight";
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_tensor *wide = make_tensor(ctx, QRB_F32, 12, 13);
    qrb_tensor *vector = make_tensor(ctx, QRB_F32, 12, 0);
    qrb_tensor *bits = make_tensor(ctx, QRB_I32, 12, 12);
    qrb_model *opened = NULL;
    char directory[64];

    options.trainable = _i == 0;
    make_directory(directory);
    write_changed(model, directory, q, NULL, NULL);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, &options, &opened),
                 QRB_E_FORMAT, q);
    write_changed(model, directory, q, q, wide);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, &options, &opened),
                 QRB_E_SHAPE,
                 "model.layers.1.self_attn.q_proj.weight: found [12, 13], "
                 "expected [12, 12]");
    write_changed(model, directory, "", "model.layers.1.self_attn.q_proj.bias",
                  vector);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, &options, &opened),
                 QRB_E_UNSUPPORTED, "self_attn.q_proj.bias: the file has it");
    write_changed(model, directory, "",
                  "model.layers.0.self_attn.rotary_emb.inv_freq", vector);
    ASSERT_OK(ctx, qrb_engine_open(ctx, directory, &options, &opened));
    ck_assert(same_weights(model, opened));
    qrb_model_destroy(opened);
    write_changed(model, directory, "", "lm_head.weight", wide); /* tied */
    ASSERT_OK(ctx, qrb_engine_open(ctx, directory, &options, &opened));
    qrb_model_destroy(opened);
    write_changed(model, directory, q, q, bits);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, &options, &opened),
                 QRB_E_UNSUPPORTED,
                 "model.layers.1.self_attn.q_proj.weight: found I32");
    set_element(parameter_at(model, 3).weight, 17, NAN);
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, &options, &opened),
                 QRB_E_NOT_FINITE,
                 "model.layers.0.self_attn.k_proj.weight: element 17");
    ck_assert_ptr_null(opened);
    qrb_tensor_destroy(wide);
    qrb_tensor_destroy(vector);
    qrb_tensor_destroy(bits);
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

/* Weights are multiples of 1/256, which half precision holds exactly. */
START_TEST(half_precision_files_are_opened)
{
    const uint32_t dtype = _i == 0 ? QRB_F16 : QRB_BF16;
    const qrb_engine_config config = config_of(&variants[3]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    const size_t count = qrb_model_parameter_count(model);
    qrb_tensor **halves = calloc(count, sizeof *halves);
    qrb_named_tensor *named = calloc(count, sizeof *named);
    char directory[64];
    char path[256];
    qrb_model *opened;

    make_directory(directory);
    for (size_t p = 0; p < count; p++) {
        const qrb_parameter parameter = parameter_at(model, p);
        const uint32_t rank = qrb_tensor_rank(parameter.weight);

        for (size_t i = 0; i < parameter_elements(parameter.weight); i++)
            set_element(parameter.weight, i,
                        rint(64 * get_element(parameter.weight, i)) / 64);
        halves[p] =
            make_tensor(ctx, dtype, qrb_tensor_extent(parameter.weight, 0),
                        rank == 1 ? 0 : qrb_tensor_extent(parameter.weight, 1));
        ASSERT_OK(ctx, qrb_tensor_copy(parameter.weight, halves[p]));
        named[p] = (qrb_named_tensor){ parameter.name, halves[p] };
    }
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_write(
                       ctx, in_directory(directory, "model.safetensors", path),
                       named, count, NULL, 0));
    opened = open_as(ctx, directory, QRB_F32, 0);
    ck_assert(same_weights(model, opened));
    for (size_t p = 0; p < count; p++)
        qrb_tensor_destroy(halves[p]);
    free(halves);
    free(named);
    qrb_model_destroy(model);
    qrb_model_destroy(opened);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(sources_give_what_the_directory_gives)
{
    const qrb_engine_config config = config_of(&variants[3]);
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_source shape = QRB_SOURCE_INIT;
    qrb_source weights = QRB_SOURCE_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_model *saved = make_model(ctx, &config, QRB_F32);
    qrb_model *opened = NULL;
    char directory[64];
    char path[256];
    char *texts;
    char *bytes;
    size_t size;

    options.trainable = _i % 2;
    make_directory(directory);
    ASSERT_OK(ctx, qrb_engine_save(saved, directory, NULL, 0));
    texts = get_file(in_directory(directory, "config.json", path), &size);
    shape.buffer = texts;
    shape.size = size;
    bytes = get_file(in_directory(directory, "model.safetensors", path), &size);
    if (_i < 2) {
        weights.buffer = bytes;
        weights.size = size;
    } else {
        weights.path = path;
    }
    ASSERT_OK(
        ctx, qrb_engine_open_sources(ctx, &shape, &weights, &options, &opened));
    ck_assert(same_weights(saved, opened));
    qrb_model_destroy(opened);
    shape.size = 10;
    ASSERT_FAILS(
        ctx, qrb_engine_open_sources(ctx, &shape, &weights, &options, &opened),
        QRB_E_FORMAT, "");
    ASSERT_FAILS(ctx,
                 qrb_engine_open_sources(ctx, NULL, &weights, NULL, &opened),
                 QRB_E_INVALID_ARG, "config is NULL");
    ASSERT_FAILS(ctx, qrb_engine_open_sources(ctx, &shape, NULL, NULL, &opened),
                 QRB_E_INVALID_ARG, "weights is NULL");
    ck_assert_int_eq(
        qrb_engine_open_sources(NULL, &shape, &weights, NULL, &opened),
        QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_engine_open_sources(ctx, &shape, &weights, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_ptr_null(opened);
    free(texts);
    free(bytes);
    qrb_model_destroy(saved);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_is_no_model_is_refused)
{
    qrb_context *ctx = make_threads(1);
    qrb_model *model = NULL;
    char directory[64];
    char path[256];

    make_directory(directory);
    ck_assert_int_eq(qrb_engine_open(NULL, directory, NULL, &model),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_engine_open(ctx, directory, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, NULL, NULL, &model),
                 QRB_E_INVALID_ARG, "path is NULL");
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, NULL, &model), QRB_E_IO,
                 "config.json");
    in_directory(directory, "absent.bin", path);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, path, NULL, &model), QRB_E_IO,
                 "absent.bin");
    put_file(path, "no model", 8);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, path, NULL, &model), QRB_E_FORMAT,
                 "absent.bin");
    put_file(in_directory(directory, "config.json", path), "{}", 2);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, directory, NULL, &model),
                 QRB_E_FORMAT, "config.json");
    ck_assert_ptr_null(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

/* A llama2.c file with the weights of a model, written by its description. */
static void write_llama2c(const qrb_model *model, const qrb_engine_config *c,
                          const char *path)
{
    static const char *const order[] = {
        "input_layernorm",  "self_attn.q_proj", "self_attn.k_proj",
        "self_attn.v_proj", "self_attn.o_proj", "post_attention_layernorm",
        "mlp.gate_proj",    "mlp.down_proj",    "mlp.up_proj"
    };
    const size_t header[] = { c->dim,      c->hidden, c->layers, c->heads,
                              c->kv_heads, c->vocab,  c->context };
    FILE *file = fopen(path, "wb");
    unsigned char word[4];
    char name[80];

    ck_assert_ptr_nonnull(file);
    for (size_t i = 0; i < 7; i++) {
        qrb__store_u32(word, i == 5 && !c->tied_head
                                 ? (uint32_t) - (int32_t)header[i]
                                 : (uint32_t)header[i]);
        fwrite(word, 1, 4, file);
    }
#define PUT(name_)                                                             \
    do {                                                                       \
        const qrb_parameter p =                                                \
            parameter_at(model, qrb_model_find(model, name_));                 \
        fwrite(qrb_tensor_memory(p.weight), 4, parameter_elements(p.weight),   \
               file);                                                          \
    } while (0)
    PUT("model.embed_tokens.weight");
    for (size_t i = 0; i < sizeof order / sizeof *order; i++)
        for (size_t l = 0; l < c->layers; l++) {
            snprintf(name, sizeof name, "model.layers.%zu.%s.weight", l,
                     order[i]);
            PUT(name);
        }
    PUT("model.norm.weight");
    memset(word, 0, 4);
    for (size_t i = 0; i < c->context * (c->dim / c->heads); i++)
        fwrite(word, 1, 4, file);
    if (!c->tied_head)
        PUT("lm_head.weight");
#undef PUT
    ck_assert_int_eq(fclose(file), 0);
}

START_TEST(checkpoints_of_llama2c_are_opened)
{
    struct variant variant = variants[2];
    qrb_context *ctx = make_threads(1);
    qrb_engine_config config;
    qrb_model *model;
    qrb_model *opened;
    qrb_model *converted;
    char directory[64];
    char path[256];
    float *before;
    float *after;

    variant.tied = (uint32_t)_i;
    config = config_of(&variant);
    make_directory(directory);
    model = make_model(ctx, &config, QRB_F32);
    write_llama2c(model, &config, in_directory(directory, "m.bin", path));
    opened = open_as(ctx, path, QRB_F32, 1);
    before = logits_of(model);
    after = logits_of(opened);
    for (size_t i = 0; i < ROWS * config.vocab; i++)
        ck_assert_float_eq_tol(before[i], after[i], 1e-5f);
    free(before);
    free(after);
    /* Rows are in the order of the converted model, or an anchor of the one
     * form would pull a model of the other apart. */
    ASSERT_OK(ctx, qrb_engine_save(model, directory, NULL, 0));
    converted = open_as(ctx, directory, QRB_F32, 1);
    ck_assert(same_weights(converted, opened));
    qrb_model_destroy(converted);
    set_element(parameter_at(model, 4).weight, 5, INFINITY);
    write_llama2c(model, &config, path);
    qrb_model_destroy(opened);
    ASSERT_FAILS(ctx, qrb_engine_open(ctx, path, NULL, &opened),
                 QRB_E_NOT_FINITE,
                 "model.layers.0.self_attn.v_proj.weight: element 5");
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

/* One model, in interleaved and in half-split order. */
START_TEST(both_forms_of_the_shared_model_agree)
{
    char bin[512];
    char directory[512];
    qrb_context *ctx = make_threads(2);
    qrb_model *a;
    qrb_model *b;
    double *x;
    double *y;

    if (shared_path("models/stories260K/stories260K.bin", bin) == NULL ||
        shared_path("models/stories260K-hf", directory) == NULL) {
        qrb_context_destroy(ctx);
        return;
    }
    a = open_as(ctx, bin, QRB_F64, 0);
    b = open_as(ctx, directory, QRB_F64, 0);
    x = logits_of(a);
    y = logits_of(b);
    for (size_t i = 0; i < ROWS * 512; i++)
        ck_assert_double_eq_tol(x[i], y[i], 1e-10);
    free(x);
    free(y);
    qrb_model_destroy(a);
    qrb_model_destroy(b);
    qrb_context_destroy(ctx);
}
END_TEST

struct paths {
    const char *from;
    const char *to;
    uint32_t trainable;
};

static qrb_status open_and_save(qrb_context *ctx, void *arg)
{
    const struct paths *paths = arg;
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_model *model = NULL;
    qrb_status status;

    options.trainable = paths->trainable;
    status = qrb_engine_open(ctx, paths->from, &options, &model);
    if (status == QRB_OK)
        status = qrb_engine_save(model, paths->to, NULL, 0);
    else
        ck_assert_ptr_null(model);
    qrb_model_destroy(model);
    return status;
}

START_TEST(every_allocation_of_open_and_save_may_fail)
{
    qrb_engine_config config = config_of(&variants[_i == 2 ? 2 : 3]);
    qrb_context *ctx = make_threads(1);
    char directory[64];
    char from[256];
    char to[256];
    struct paths paths = { from, to, _i == 0 };
    qrb_model *model;

    config.layers = 1;
    make_directory(directory);
    in_directory(directory, "to", to);
    model = make_model(ctx, &config, QRB_F32);
    if (_i == 2)
        write_llama2c(model, &config, in_directory(directory, "m.bin", from));
    else
        ASSERT_OK(ctx,
                  qrb_engine_save(model, in_directory(directory, "from", from),
                                  NULL, 0));
    fail_each_allocation(open_and_save, &paths);
    qrb_model_destroy(model);
    remove_directory(directory);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_file");
    TCase *cases = tcase_create("files");

    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, what_was_saved_is_opened_with_the_same_bits, 0,
                        4 * VARIANTS);
    tcase_add_loop_test(cases, interleaved_pairs_are_saved_half_split, 0, 2);
    tcase_add_test(cases, metadata_is_passed_through);
    tcase_add_test(cases, the_directory_of_a_saved_model_is_made);
    tcase_add_test(cases, a_model_that_is_replaced_leaves_no_weights);
    tcase_add_test(cases, mapped_weights_can_be_written_to);
    tcase_add_test(cases, a_model_that_does_not_train_holds_no_second_copy);
    tcase_add_test(cases, a_file_that_shrank_is_noticed);
    tcase_add_loop_test(cases, tensors_that_do_not_fit_the_config_are_named, 0,
                        2);
    tcase_add_loop_test(cases, half_precision_files_are_opened, 0, 2);
    tcase_add_loop_test(cases, sources_give_what_the_directory_gives, 0, 4);
    tcase_add_test(cases, what_is_no_model_is_refused);
    tcase_add_loop_test(cases, checkpoints_of_llama2c_are_opened, 0, 2);
    tcase_add_test(cases, both_forms_of_the_shared_model_agree);
    tcase_add_loop_test(cases, every_allocation_of_open_and_save_may_fail, 0,
                        3);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
