/* Writing a model in the layout of Hugging Face.  Where pairs of the rotation
 * are neighbours, rows of q and k are put into half-split order, in which
 * others expect them. */
#include <string.h>

#include "engine/engine.h"
#include "io/config.h"
#include "io/model_directory.h"
#include "io/path.h"
#include "io/safetensors.h"
#include "io/tokenizer.h"

struct saving {
    const struct qrb__engine *engine;
    qrb_tensor *tensors;     /* [parameters] */
    qrb_named_tensor *named; /* [parameters] */
    const char **metadata;   /* [2 * pairs] */
    size_t pairs;
    void *turned; /* copies of rows in the other order */
};

static size_t turned_elements(const struct qrb__engine *engine)
{
    size_t count = 0;

    for (size_t i = 0; i < engine->parameter_count; i++)
        if (qrb__engine_rotates(&engine->parameters[i]))
            count += qrb__engine_elements(&engine->parameters[i]);
    return count;
}

static qrb_status collect(struct saving *saving)
{
    const struct qrb__engine *engine = saving->engine;
    const bool turns = engine->config.rotary == QRB_ROTARY_INTERLEAVED;
    const size_t real = qrb__engine_real(engine);
    unsigned char *at;
    qrb_status status = QRB_OK;

    saving->tensors = qrb__alloc_array(engine->ctx, engine->parameter_count,
                                       sizeof *saving->tensors);
    saving->named = qrb__alloc_array(engine->ctx, engine->parameter_count,
                                     sizeof *saving->named);
    if (turns)
        saving->turned =
            qrb__alloc_array(engine->ctx, turned_elements(engine), real);
    if (saving->tensors == NULL || saving->named == NULL ||
        (turns && saving->turned == NULL))
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY,
                         "%zu tensors to be saved", engine->parameter_count);
    at = saving->turned;
    for (size_t i = 0; status == QRB_OK && i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *parameter = &engine->parameters[i];
        qrb_tensor *tensor = &saving->tensors[i];

        tensor->ctx = engine->ctx;
        tensor->view = engine->model->parameters[i]->weight;
        saving->named[i] = (qrb_named_tensor){ parameter->name, tensor };
        if (turns && qrb__engine_rotates(parameter)) {
            status = qrb__engine_turn(engine, parameter, &tensor->view, at);
            tensor->view.memory = at;
            at += qrb__engine_elements(parameter) * real;
        }
    }
    return status;
}

/* The caller's pairs, and "format": others refuse files without it. */
static qrb_status collect_metadata(struct saving *saving,
                                   const char *const *metadata, size_t pairs)
{
    bool known = false;

    if (pairs > 0 && metadata == NULL)
        return qrb__fail(saving->engine->ctx, QRB_E_INVALID_ARG,
                         "metadata of %zu pairs is NULL", pairs);
    saving->metadata =
        pairs < SIZE_MAX / 4
            ? qrb__alloc_array(saving->engine->ctx, 2 * (pairs + 1),
                               sizeof *saving->metadata)
            : NULL;
    if (saving->metadata == NULL)
        return qrb__fail(saving->engine->ctx, QRB_E_NO_MEMORY,
                         "%zu pairs of metadata", pairs);
    for (size_t i = 0; i < 2 * pairs; i++) {
        saving->metadata[i] = metadata[i];
        known |= i % 2 == 0 && metadata[i] != NULL &&
                 strcmp(metadata[i], "format") == 0;
    }
    saving->pairs = pairs;
    if (!known) {
        saving->metadata[2 * pairs] = "format";
        saving->metadata[2 * pairs + 1] = "pt";
        saving->pairs++;
    }
    return QRB_OK;
}

static qrb_status write_files(const struct saving *saving,
                              const qrb_tokenizer *tokenizer,
                              const char *directory)
{
    const struct qrb__engine *engine = saving->engine;
    qrb_context *ctx = engine->ctx;
    qrb_engine_config config = engine->config;
    char *weights = qrb__path_join(ctx, directory, QRB__SAFETENSORS_FILE);
    char *shape = qrb__path_join(ctx, directory, QRB__CONFIG_FILE);
    char *words = qrb__path_join(ctx, directory, QRB__TOKENIZER_FILE);
    qrb_status status = QRB_OK;

    config.rotary = QRB_ROTARY_HALF;
    if (weights == NULL || shape == NULL || words == NULL)
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "paths in %s", directory);
    if (status == QRB_OK)
        status = qrb_safetensors_write(ctx, weights, saving->named,
                                       engine->parameter_count,
                                       saving->metadata, saving->pairs);
    if (status == QRB_OK)
        status = qrb__config_write(ctx, shape, &config, engine->dtype);
    if (status == QRB_OK && tokenizer != NULL)
        status = qrb_tokenizer_save(tokenizer, words);
    qrb__free(ctx, weights);
    qrb__free(ctx, shape);
    qrb__free(ctx, words);
    return status;
}

/* All files, beside the directory, then in its place. */
static qrb_status replace_files(const struct saving *saving,
                                const qrb_tokenizer *tokenizer,
                                bool with_tokenizer, const char *directory)
{
    struct qrb__model_directory *files;
    qrb_status status = qrb__model_directory_open(
        saving->engine->ctx, directory, with_tokenizer, &files);

    if (status != QRB_OK)
        return status;
    status = write_files(saving, tokenizer, qrb__model_directory_path(files));
    if (status == QRB_OK)
        status = qrb__model_directory_commit(files);
    qrb__model_directory_close(files);
    return status;
}

static qrb_status save(const qrb_model *model, const qrb_tokenizer *tokenizer,
                       bool with_tokenizer, const char *directory,
                       const char *const *metadata, size_t pairs)
{
    struct saving saving = { 0 };
    struct qrb__engine *engine;
    qrb_status status;

    if (directory == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "directory is NULL");
    if (tokenizer != NULL && tokenizer->ctx != model->ctx)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "the tokenizer is of another context");
    status = qrb__engine_find(model, &engine);
    if (status != QRB_OK)
        return status;
    saving.engine = engine;
    status = collect(&saving);
    if (status == QRB_OK)
        status = collect_metadata(&saving, metadata, pairs);
    if (status == QRB_OK)
        status = replace_files(&saving, tokenizer, with_tokenizer, directory);
    qrb__free(model->ctx, saving.tensors);
    qrb__free(model->ctx, saving.named);
    qrb__free(model->ctx, saving.turned);
    qrb__free(model->ctx, saving.metadata);
    return status;
}

qrb_status qrb_engine_save(const qrb_model *model, const char *directory,
                           const char *const *metadata, size_t pairs)
{
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    return save(model, NULL, false, directory, metadata, pairs);
}

qrb_status qrb_engine_save_with_tokenizer(const qrb_model *model,
                                          const qrb_tokenizer *tokenizer,
                                          const char *directory,
                                          const char *const *metadata,
                                          size_t pairs)
{
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    return save(model, tokenizer, true, directory, metadata, pairs);
}
