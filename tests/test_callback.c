/* From inside a callback a context's functions refuse to work, all but those
 * that a forward and backward pass needs: each name that the library exports
 * is tried here, or stands in the list of those that are allowed. */
#include "engine_model.h"

#include "core/context.h"

#include <qrobust/qrobust.h>

enum { WORDS = 257 };

/* One of everything. */
static struct {
    qrb_context *ctx;
    qrb_model *model;
    qrb_model *other;
    qrb_tensor *tensor; /* [dim, dim], float32 */
    qrb_tensor *wide;   /* [4, vocab] */
    qrb_pass *pass;
    qrb_noise *attack;
    qrb_noise *anchor;
    qrb_noise *unbound;
    qrb_snapshot *snapshot;
    qrb_dataset *dataset;
    qrb_metric *metric;
    qrb_quantizer *quantizer;
    qrb_packed *packed;
    qrb_observer *observer;
    qrb_optimizer *optimizer;
    qrb_trainer *trainer;
    qrb_tokenizer *tokenizer;
    qrb_generator *generator;
    qrb_safetensors *file;
    int32_t tokens[200];
    char directory[64];
    char weights[256];
} w;

static const char *tried[160];
static size_t tries;

/* The name ends at the parenthesis. */
#define REFUSED(call)                                                          \
    do {                                                                       \
        const qrb_status refused_status_ = (call);                             \
        ck_assert_msg(refused_status_ == QRB_E_REENTRANT, "%s: %s: %s", #call, \
                      qrb_status_name(refused_status_),                        \
                      qrb_context_message(w.ctx));                             \
        ck_assert_uint_lt(tries, sizeof tried / sizeof *tried);                \
        tried[tries++] = #call;                                                \
    } while (0)

/* Getters, what hosts do in a pass, what knows no context, and destructors,
 * which have nothing to refuse with. */
static const char *const allowed[] = {
    "qrb_activation_fake",
    "qrb_anchor_gradient_ratio",
    "qrb_context_blas",
    "qrb_context_callback_code",
    "qrb_context_create",
    "qrb_context_destroy",
    "qrb_context_kernels",
    "qrb_context_message",
    "qrb_context_seed",
    "qrb_context_threads",
    "qrb_dataset_destroy",
    "qrb_dtype_name",
    "qrb_dtype_size",
    "qrb_engine_get_config",
    "qrb_free",
    "qrb_generator_destroy",
    "qrb_generator_length",
    "qrb_metric_destroy",
    "qrb_model_destroy",
    "qrb_model_find",
    "qrb_model_parameter",
    "qrb_model_parameter_count",
    "qrb_model_pass",
    "qrb_nf4_pack",
    "qrb_nf4_unpack",
    "qrb_noise_add_grad",
    "qrb_noise_destroy",
    "qrb_noise_post_step",
    "qrb_observer_abs_sums",
    "qrb_observer_add",
    "qrb_observer_columns",
    "qrb_observer_destroy",
    "qrb_observer_maxima",
    "qrb_observer_minima",
    "qrb_observer_sequences",
    "qrb_observer_tokens",
    "qrb_observer_what",
    "qrb_optimizer_destroy",
    "qrb_packed_bits_per_weight",
    "qrb_packed_destroy",
    "qrb_packed_group_index",
    "qrb_packed_groups",
    "qrb_packed_input_scale",
    "qrb_packed_memory",
    "qrb_packed_outliers",
    "qrb_packed_read_codes",
    "qrb_packed_scales",
    "qrb_packed_table",
    "qrb_packed_zero_points",
    "qrb_pass_destroy",
    "qrb_pass_set_attention",
    "qrb_pass_set_mode",
    "qrb_perturb_begin",
    "qrb_perturb_end",
    "qrb_prompt_statistics",
    "qrb_quantizer_destroy",
    "qrb_recovery",
    "qrb_safetensors_close",
    "qrb_safetensors_count",
    "qrb_safetensors_describe",
    "qrb_safetensors_find",
    "qrb_safetensors_metadata",
    "qrb_safetensors_name",
    "qrb_sha256_hex",
    "qrb_snapshot_destroy",
    "qrb_status_name",
    "qrb_step_begin",
    "qrb_step_end",
    "qrb_tap",
    "qrb_tap_wanted",
    "qrb_tensor_copy",
    "qrb_tensor_create",
    "qrb_tensor_destroy",
    "qrb_tensor_dtype",
    "qrb_tensor_extent",
    "qrb_tensor_memory",
    "qrb_tensor_point",
    "qrb_tensor_rank",
    "qrb_tensor_stride",
    "qrb_tokenizer_bos",
    "qrb_tokenizer_destroy",
    "qrb_tokenizer_eos",
    "qrb_tokenizer_vocab",
    "qrb_trainer_destroy",
    "qrb_version",
    "qrb_version_string",
    "qrb_window_at",
};

static void set_up(void)
{
    const qrb_engine_config config = config_of(&variants[0]);
    const qrb_dataset_options shape = { sizeof shape, 2, 10 };
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;

    memset(&w, 0, sizeof w);
    tries = 0;
    make_directory(w.directory);
    in_directory(w.directory, "model.safetensors", w.weights);
    w.ctx = make_context(NULL);
    for (size_t i = 0; i < 200; i++)
        w.tokens[i] = (int32_t)(i % config.vocab);
    w.model = make_model(w.ctx, &config, QRB_F32);
    w.other = make_model(w.ctx, &config, QRB_F32);
    w.tensor = matrix(w.ctx, QRB_F32, config.dim, config.dim, NULL);
    w.wide = matrix(w.ctx, QRB_F32, 4, config.vocab, NULL);
    ASSERT_OK(w.ctx, qrb_pass_create(w.model, NULL, &w.pass));
    ASSERT_OK(w.ctx, qrb_noise_create_attack(w.ctx, NULL, &w.unbound));
    ASSERT_OK(w.ctx, qrb_noise_create_attack(w.ctx, NULL, &w.attack));
    ASSERT_OK(w.ctx, qrb_noise_bind(w.attack, w.model, NULL));
    ASSERT_OK(w.ctx, qrb_noise_create_anchor(w.ctx, NULL, &w.anchor));
    ASSERT_OK(w.ctx, qrb_noise_bind(w.anchor, w.model, NULL));
    ASSERT_OK(w.ctx, qrb_anchor_snapshot(w.anchor));
    ASSERT_OK(w.ctx, qrb_snapshot_create(w.model, NULL, &w.snapshot));
    ASSERT_OK(w.ctx,
              qrb_dataset_create(w.ctx, w.tokens, 200, &shape, &w.dataset));
    ASSERT_OK(w.ctx, qrb_metric_create(w.ctx, &w.metric));
    ASSERT_OK(w.ctx, qrb_quantizer_create_named(w.ctx, "int8", &w.quantizer));
    ASSERT_OK(w.ctx, qrb_quantizer_quantize(w.quantizer, w.tensor, &w.packed));
    observed.columns = config.dim;
    ASSERT_OK(w.ctx, qrb_observer_create(w.ctx, &observed, &w.observer));
    ASSERT_OK(w.ctx, qrb_optimizer_create(w.model, NULL, &w.optimizer));
    ASSERT_OK(w.ctx, qrb_trainer_create(w.model, w.dataset, NULL, &w.trainer));
    ASSERT_OK(w.ctx,
              qrb_tokenizer_train(w.ctx, "aa aa", 5, WORDS, &w.tokenizer));
    ASSERT_OK(w.ctx, qrb_generator_create(w.model, NULL, &w.generator));
    ASSERT_OK(w.ctx, qrb_engine_save(w.model, w.directory, NULL, 0));
    ASSERT_OK(w.ctx,
              qrb_safetensors_open_directory(w.ctx, w.directory, &w.file));
}

static void tear_down(void)
{
    qrb_safetensors_close(w.file);
    qrb_generator_destroy(w.generator);
    qrb_tokenizer_destroy(w.tokenizer);
    qrb_trainer_destroy(w.trainer);
    qrb_optimizer_destroy(w.optimizer);
    qrb_observer_destroy(w.observer);
    qrb_packed_destroy(w.packed);
    qrb_quantizer_destroy(w.quantizer);
    qrb_metric_destroy(w.metric);
    qrb_dataset_destroy(w.dataset);
    qrb_snapshot_destroy(w.snapshot);
    qrb_noise_destroy(w.anchor);
    qrb_noise_destroy(w.attack);
    qrb_noise_destroy(w.unbound);
    qrb_pass_destroy(w.pass);
    qrb_tensor_destroy(w.wide);
    qrb_tensor_destroy(w.tensor);
    qrb_model_destroy(w.other);
    qrb_model_destroy(w.model);
    qrb_context_destroy(w.ctx);
    remove_directory(w.directory);
}

static void try_engine(void)
{
    const qrb_engine_config config = config_of(&variants[0]);
    const qrb_source source = QRB_SOURCE_INIT;
    qrb_model *out;
    uint64_t bytes;

    REFUSED(qrb_engine_create(w.ctx, &config, NULL, &out));
    REFUSED(qrb_engine_open(w.ctx, w.directory, NULL, &out));
    REFUSED(qrb_engine_open_sources(w.ctx, &source, &source, NULL, &out));
    REFUSED(qrb_engine_save(w.model, w.directory, NULL, 0));
    REFUSED(qrb_engine_save_with_tokenizer(w.model, w.tokenizer, w.directory,
                                           NULL, 0));
    REFUSED(qrb_engine_save_gguf(w.model, NULL, w.directory, QRB_GGUF_F32,
                                 NULL, 0));
    REFUSED(qrb_engine_logits(w.model, w.tokens, 1, 4, w.wide));
    REFUSED(qrb_engine_memory(w.model, 1, 4, 0, &bytes));
}

static void try_generator(void)
{
    qrb_generator *generator;
    uint64_t bytes;
    int32_t token;

    REFUSED(qrb_generator_create(w.model, NULL, &generator));
    REFUSED(qrb_generator_memory(w.model, NULL, &bytes));
    REFUSED(qrb_generator_feed(w.generator, w.tokens, 1));
    REFUSED(qrb_generator_logits(w.generator, w.wide));
    REFUSED(qrb_generator_sample(w.generator, NULL, &token));
    REFUSED(qrb_generator_reset(w.generator));
}

static void try_models(void)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    qrb_model *model;
    qrb_snapshot *snapshot;
    qrb_dataset *dataset;
    qrb_pass *pass;

    parameter.name = "new";
    parameter.weight = w.tensor;
    REFUSED(qrb_model_create(w.ctx, NULL, &model));
    REFUSED(qrb_model_add_parameter(w.model, &parameter, NULL));
    REFUSED(qrb_model_weights_changed(w.model, 0, w.tensor, w.tensor));
    REFUSED(qrb_model_set_pass(w.model, w.pass));
    REFUSED(qrb_snapshot_create(w.model, NULL, &snapshot));
    REFUSED(qrb_snapshot_restore(w.snapshot));
    REFUSED(qrb_dataset_create(w.ctx, w.tokens, 200, NULL, &dataset));
    REFUSED(qrb_dataset_batch(w.dataset, 0, &batch));
    REFUSED(qrb_pass_create(w.model, NULL, &pass));
    REFUSED(qrb_pass_listen(w.pass, QRB_TAP_LAYER_INPUT, NULL, NULL));
}

static void try_noises(void)
{
    qrb_noise *out;
    double value;

    REFUSED(qrb_noise_create_attack(w.ctx, NULL, &out));
    REFUSED(qrb_noise_create_anchor(w.ctx, NULL, &out));
    REFUSED(qrb_noise_bind(w.unbound, w.model, NULL));
    REFUSED(qrb_attack_set(w.attack, 0.1, 0));
    REFUSED(qrb_attack_apply(w.attack));
    REFUSED(qrb_anchor_snapshot(w.anchor));
    REFUSED(qrb_anchor_set_from(w.anchor, w.other));
    REFUSED(qrb_anchor_distance(w.anchor, &value));
    REFUSED(qrb_anchor_loss(w.anchor, &value));
}

static void try_measures(void)
{
    const float nll = 1.0f;
    qrb_metric *metric;
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_fidelity_result fidelity = { .struct_size = sizeof fidelity };
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    REFUSED(qrb_metric_create(w.ctx, &metric));
    REFUSED(qrb_metric_add_nll(w.metric, &nll, 1));
    REFUSED(qrb_metric_add_logits(w.metric, NULL, &nll, NULL, 1, 1));
    REFUSED(qrb_metric_get(w.metric, &result));
    REFUSED(qrb_fidelity(w.tensor, w.tensor, &fidelity));
    REFUSED(qrb_quantizer_create(w.ctx, NULL, &quantizer));
    REFUSED(qrb_quantizer_create_named(w.ctx, "nf4", &quantizer));
    REFUSED(qrb_quantizer_create_chain(w.ctx, NULL, 0, &quantizer));
    REFUSED(qrb_quantizer_quantize(w.quantizer, w.tensor, &packed));
    REFUSED(qrb_quantizer_quantize_with(w.quantizer, w.tensor, NULL, NULL,
                                        &packed));
    REFUSED(qrb_quantizer_fake_with(w.quantizer, w.tensor, NULL, NULL));
    REFUSED(qrb_quantizer_fake(w.quantizer, w.tensor));
    REFUSED(qrb_packed_measure(w.packed, w.tensor, NULL, NULL));
    REFUSED(qrb_packed_dequantize(w.packed, w.tensor));
    REFUSED(qrb_packed_int8_multiply(w.packed, w.tensor, 6.0, NULL, w.tensor));
    REFUSED(qrb_packed_multiply(w.packed, w.tensor, NULL, NULL, w.tensor));
}

static void try_observers(void)
{
    const qrb_source source = QRB_SOURCE_INIT;
    qrb_observer *observer;

    REFUSED(qrb_observer_create(w.ctx, NULL, &observer));
    REFUSED(qrb_observer_merge(w.observer, w.observer));
    REFUSED(qrb_observer_save(w.observer, w.weights));
    REFUSED(qrb_observer_load(w.ctx, &source, &observer));
    REFUSED(qrb_observer_read_gram(w.observer, w.tensor));
}

static void try_training(void)
{
    qrb_metric_result metric = { .struct_size = sizeof metric };
    qrb_calibrate_result calibrated = { .struct_size = sizeof calibrated };
    qrb_repair_result repaired = { .struct_size = sizeof repaired };
    qrb_train_result trained = { .struct_size = sizeof trained };
    const size_t length = 8;
    qrb_optimizer *optimizer;
    uint64_t bytes;
    qrb_trainer *trainer;
    uint64_t resumed;
    double value;

    REFUSED(qrb_optimizer_memory(w.model, NULL, &bytes));
    REFUSED(qrb_optimizer_create(w.model, NULL, &optimizer));
    REFUSED(qrb_optimizer_step(w.optimizer, 0.1, &value));
    REFUSED(qrb_trainer_create(w.model, w.dataset, NULL, &trainer));
    REFUSED(qrb_trainer_add_noise(w.trainer, w.anchor));
    REFUSED(qrb_trainer_resume(w.trainer, &resumed));
    REFUSED(qrb_trainer_run(w.trainer, &trained));
    REFUSED(qrb_evaluate_text(w.model, NULL, w.tokens, 200, NULL, &metric));
    REFUSED(qrb_evaluate_batches(w.model, &metric));
    REFUSED(qrb_evaluate_prompts(w.model, w.tokens, &length, 1, &value));
    REFUSED(qrb_fake_quantize(w.model, w.quantizer, NULL));
    REFUSED(qrb_quantize_model(w.model, w.quantizer, w.tokens, 200, NULL));
    REFUSED(qrb_attack_calibrate(w.model, w.attack, w.tokens, 200, NULL,
                                 &calibrated));
    REFUSED(qrb_repair(w.model, w.other, w.tokens, 200, NULL, &repaired));
    REFUSED(qrb_move_towards(w.model, w.other, NULL, 1.0, &value));
}

static void try_files(void)
{
    const qrb_named_tensor named = { "a", w.tensor };
    const qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    qrb_tokenizer *tokenizer;
    int32_t *ids;
    char *text;
    size_t count;

    REFUSED(qrb_safetensors_open(w.ctx, &source, &file));
    REFUSED(qrb_safetensors_open_directory(w.ctx, w.directory, &file));
    REFUSED(qrb_safetensors_read(w.file, 0, w.tensor));
    REFUSED(qrb_safetensors_write(w.ctx, w.weights, &named, 1, NULL, 0));
    REFUSED(qrb_file_write(w.ctx, w.weights, "", 0));
    REFUSED(qrb_tokenizer_open(w.ctx, &source, 0, &tokenizer));
    REFUSED(qrb_tokenizer_open_path(w.ctx, w.directory, &tokenizer));
    REFUSED(qrb_tokenizer_train(w.ctx, "aa", 2, WORDS, &tokenizer));
    REFUSED(qrb_tokenizer_save(w.tokenizer, w.weights));
    REFUSED(qrb_tokenizer_encode(w.tokenizer, "a", 1, &ids, &count));
    REFUSED(qrb_tokenizer_encode_document(w.tokenizer, "a", 1, &ids, &count));
    REFUSED(qrb_tokenizer_decode(w.tokenizer, w.tokens, 1, &text, &count));
}

static bool was_tried(const char *name)
{
    const size_t length = strlen(name);

    for (size_t i = 0; i < tries; i++)
        if (strncmp(tried[i], name, length) == 0 && tried[i][length] == '(')
            return true;
    return false;
}

static bool is_allowed(const char *name)
{
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++)
        if (strcmp(allowed[i], name) == 0)
            return true;
    return false;
}

/* The version script names all that is exported. */
static void expect_that_all_were_tried(void)
{
    const char *root = getenv("QRB_SOURCE");
    size_t names = 0;
    char path[512];
    char *script;

    if (root == NULL) {
        printf("SKIP: QRB_SOURCE does not say where the version script is\n");
        return;
    }
    snprintf(path, sizeof path, "%s/lib/qrobust.map", root);
    script = get_file(path, NULL);
    for (char *name = strtok(script, " ;\n"); name != NULL;
         name = strtok(NULL, " ;\n")) {
        if (strncmp(name, "qrb_", 4) != 0)
            continue;
        names++;
        ck_assert_msg(was_tried(name) != is_allowed(name),
                      "%s: tried, or allowed, but not both", name);
    }
    free(script);
    ck_assert_uint_eq(names, tries + sizeof allowed / sizeof *allowed);
}

START_TEST(what_works_on_a_context_is_refused_inside_its_callbacks)
{
    qrb__callback_begin(w.ctx);
    try_engine();
    try_generator();
    try_models();
    try_noises();
    try_measures();
    try_observers();
    try_training();
    try_files();
    qrb__callback_end(w.ctx);
    expect_that_all_were_tried();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("callback");
    TCase *cases = tcase_create("callbacks");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases,
                   what_works_on_a_context_is_refused_inside_its_callbacks);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
