/* Models on disk, with the tokenizer that belongs to them. */
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

enum { PATH_SIZE = 4096 };

/* The files that a model path stands for. */
struct model_files {
    char model[PATH_SIZE];
    char tokenizer[PATH_SIZE]; /* "" where there is none */
    bool safetensors;          /* whose metadata tells where it comes from */
    bool gguf;                 /* may hold a tokenizer of its own */
};

static bool exists(const char *path)
{
    struct stat found;

    return stat(path, &found) == 0;
}

/* "directory/name"; false, and nothing written, where it does not fit. */
static bool join(char out[PATH_SIZE], const char *directory, const char *name)
{
    const size_t head = strlen(directory);
    const size_t tail = strlen(name) + 1;

    if (head + 1 + tail > PATH_SIZE)
        return false;
    memcpy(out, directory, head);
    out[head] = '/';
    memcpy(out + head + 1, name, tail);
    return true;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text);
    const size_t tail = strlen(end);

    return length > tail && strcmp(text + length - tail, end) == 0;
}

static bool is_gguf(const char *path)
{
    char begin[4] = "";
    FILE *file = fopen(path, "rb");
    const size_t count = file == NULL ? 0 : fread(begin, 1, 4, file);

    if (file != NULL)
        fclose(file);
    return count == 4 && memcmp(begin, "GGUF", 4) == 0;
}

/* A directory of llama2.c files: one checkpoint, and beside it a tokenizer
 * whose name starts with "tok". */
static int find_llama2c(struct cli *cli, const char *directory,
                        struct model_files *out)
{
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    size_t models = 0;
    bool fits = true;

    if (stream == NULL)
        return cli_error(cli, "%s: cannot be read", directory);
    while ((entry = readdir(stream)) != NULL) {
        if (!ends_with(entry->d_name, ".bin"))
            continue;
        if (strncmp(entry->d_name, "tok", 3) == 0) {
            fits = fits && join(out->tokenizer, directory, entry->d_name);
        } else {
            fits = fits && join(out->model, directory, entry->d_name);
            models++;
        }
    }
    closedir(stream);
    if (models != 1 || !fits)
        return cli_error(cli,
                         "%s: found no config.json and %zu llama2.c "
                         "checkpoints (*.bin), expected one of them",
                         directory, models);
    return CLI_OK;
}

static int find_files(struct cli *cli, const char *path, const char *tokenizer,
                      struct model_files *out)
{
    char config[PATH_SIZE];
    struct stat found;
    int status = CLI_OK;

    memset(out, 0, sizeof *out);
    if (strlen(path) + 32 >= PATH_SIZE ||
        (tokenizer != NULL && strlen(tokenizer) >= PATH_SIZE))
        return cli_error(cli, "%.60s...: the path is too long", path);
    if (stat(path, &found) != 0)
        return cli_error(cli, "%s: there is no such file or directory", path);
    strcpy(out->model, path);
    if (S_ISDIR(found.st_mode)) {
        join(config, path, "config.json");
        join(out->tokenizer, path, "tokenizer.json");
        if (!exists(out->tokenizer))
            out->tokenizer[0] = '\0';
        out->safetensors = exists(config);
        if (!out->safetensors)
            status = find_llama2c(cli, path, out);
    } else if (tokenizer == NULL && is_gguf(path)) {
        strcpy(out->tokenizer, path);
        out->gguf = true;
    }
    if (tokenizer != NULL)
        strcpy(out->tokenizer, tokenizer);
    return status;
}

/* A GGUF file without a tokenizer, or with one of a kind that is not known, is
 * a model all the same. */
static int open_tokenizer(struct cli *cli, const struct model_files *files,
                          qrb_tokenizer **out)
{
    const qrb_status status =
        files->tokenizer[0] == '\0'
            ? QRB_OK
            : qrb_tokenizer_open_path(cli->ctx, files->tokenizer, out);

    if (status == QRB_OK)
        return CLI_OK;
    if (status != QRB_E_UNSUPPORTED || !files->gguf)
        return cli_library_error(cli, files->tokenizer);
    cli_warning(cli, "no tokenizer: %s", qrb_context_message(cli->ctx));
    return CLI_OK;
}

int cli_model_open(struct cli *cli, const char *path, const char *tokenizer,
                   bool trainable, struct cli_model *out)
{
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    struct model_files files;
    struct cli_model opened = { .config = QRB_ENGINE_CONFIG_INIT };
    int status = find_files(cli, path, tokenizer, &files);

    if (status != CLI_OK)
        return status;
    options.trainable = trainable;
    if (qrb_engine_open(cli->ctx, files.model, &options, &opened.model) !=
            QRB_OK ||
        qrb_engine_get_config(opened.model, &opened.config) != QRB_OK) {
        status = cli_library_error(cli, files.model);
        goto out;
    }
    if (files.safetensors) {
        status = cli_model_read_texts(cli, files.model, &opened);
        if (status != CLI_OK)
            goto out;
    }
    status = open_tokenizer(cli, &files, &opened.tokenizer);
    if (status != CLI_OK)
        goto out;
    if (opened.tokenizer != NULL &&
        qrb_tokenizer_vocab(opened.tokenizer) > opened.config.vocab) {
        status =
            cli_error(cli, "%s: has %zu tokens, but the model %s only %zu",
                      files.tokenizer, qrb_tokenizer_vocab(opened.tokenizer),
                      files.model, opened.config.vocab);
        goto out;
    }
    *out = opened;
    memset(&opened, 0, sizeof opened);
out:
    cli_model_close(&opened);
    return status;
}

int cli_model_need_tokenizer(struct cli *cli, const struct cli_model *model,
                             const char *path)
{
    if (model->tokenizer != NULL)
        return CLI_OK;
    return cli_error(cli,
                     "%s: found no tokenizer beside the model; put its "
                     "tokenizer.json there or give --tokenizer FILE",
                     path);
}

void cli_model_close(struct cli_model *model)
{
    qrb_model_destroy(model->model);
    qrb_tokenizer_destroy(model->tokenizer);
    model->model = NULL;
    model->tokenizer = NULL;
}

/* Where a file comes from, in pairs behind "format". */
struct origin {
    char seed[32];
    char options[1024];
    const char *pairs[14];
    size_t count;
};

static int describe_origin(struct cli *cli, const struct cli_model *model,
                           struct origin *out)
{
    const char *const pairs[10] = {
        "format",          "pt",
        "qrobust_command", cli->command,
        "qrobust_options", out->options,
        "qrobust_seed",    out->seed,
        "qrobust_version", qrb_version_string(),
    };

    memcpy(out->pairs, pairs, sizeof pairs);
    out->count = 5;
    if (model->texts[0] != '\0') {
        out->pairs[2 * out->count] = "qrobust_text";
        out->pairs[2 * out->count + 1] = model->texts;
        out->count++;
    }
    if (model->source[0] != '\0') {
        out->pairs[2 * out->count] = "qrobust_model";
        out->pairs[2 * out->count + 1] = model->source;
        out->count++;
    }
    snprintf(out->seed, sizeof out->seed, "%llu",
             (unsigned long long)cli->seed);
    return cli_describe_options(cli, out->options, sizeof out->options);
}

int cli_model_save(struct cli *cli, const struct cli_model *model,
                   const char *directory)
{
    struct origin origin;

    if (describe_origin(cli, model, &origin) != CLI_OK)
        return CLI_FAILED;
    if (qrb_engine_save_with_tokenizer(model->model, model->tokenizer,
                                       directory, origin.pairs,
                                       origin.count) != QRB_OK)
        return cli_library_error(cli, directory);
    return CLI_OK;
}

int cli_model_save_gguf(struct cli *cli, const struct cli_model *model,
                        const char *path, uint32_t type)
{
    struct origin origin;

    if (describe_origin(cli, model, &origin) != CLI_OK)
        return CLI_FAILED;
    if (qrb_engine_save_gguf(model->model, model->tokenizer, path, type,
                             origin.pairs + 2, origin.count - 1) != QRB_OK)
        return cli_library_error(cli, path);
    return CLI_OK;
}

uint64_t cli_model_parameters(const qrb_model *model)
{
    uint64_t total = 0;

    for (size_t i = 0; i < qrb_model_parameter_count(model); i++) {
        qrb_parameter parameter = QRB_PARAMETER_INIT;
        uint64_t elements = 1;

        if (qrb_model_parameter(model, i, &parameter) != QRB_OK)
            continue;
        for (uint32_t a = 0; a < qrb_tensor_rank(parameter.weight); a++)
            elements *= qrb_tensor_extent(parameter.weight, a);
        total += elements;
    }
    return total;
}
