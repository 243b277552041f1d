/* Where a model comes from, in the metadata of its file: the program's
 * version, command, seed and options, digests of the texts that it was trained
 * or calibrated on, those of the models before it included, and of a quantized
 * model the digest of the weights that it was made of.  None of
 * it names a path, a time or a machine, nor what changes no bit of the
 * result, so that equal models are equal files. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"

enum { DIGEST_SIZE = sizeof((struct cli_tokens *)NULL)->digest };

/* Whether a text is among digests that are separated by blanks. */
static bool knows(const char *texts, const char *digest)
{
    return digest[0] != '\0' && strstr(texts, digest) != NULL;
}

void cli_model_note_text(struct cli_model *model,
                         const struct cli_tokens *text)
{
    char *texts = model->texts;
    size_t length = strlen(texts);

    if (text->digest[0] == '\0' || knows(texts, text->digest))
        return;
    if (length + 1 + DIGEST_SIZE > sizeof model->texts) { /* forget the first */
        memmove(texts, texts + DIGEST_SIZE, length - DIGEST_SIZE + 1);
        length -= DIGEST_SIZE;
    }
    snprintf(texts + length, sizeof model->texts - length, "%s%s",
             length > 0 ? " " : "", text->digest);
}

static size_t bytes_of(const qrb_tensor *tensor)
{
    size_t bytes = qrb_dtype_size(qrb_tensor_dtype(tensor));

    for (uint32_t i = 0; i < qrb_tensor_rank(tensor); i++)
        bytes *= qrb_tensor_extent(tensor, i);
    return bytes;
}

/* The digest of the digests of all weights, in the order of registration;
 * those of the engine are dense. */
int cli_model_note_source(struct cli *cli, struct cli_model *model)
{
    const size_t count = qrb_model_parameter_count(model->model);
    char *digests = cli_alloc(cli, count, DIGEST_SIZE);
    int status = CLI_OK;

    if (digests == NULL)
        return cli_error(cli, "no memory for %zu digests", count);
    for (size_t i = 0; i < count && status == CLI_OK; i++) {
        qrb_parameter parameter = QRB_PARAMETER_INIT;

        if (qrb_model_parameter(model->model, i, &parameter) != QRB_OK ||
            qrb_sha256_hex(qrb_tensor_memory(parameter.weight),
                           bytes_of(parameter.weight),
                           digests + i * DIGEST_SIZE) != QRB_OK)
            status = cli_library_error(cli, "digest of the model");
    }
    if (status == CLI_OK)
        qrb_sha256_hex(digests, count * DIGEST_SIZE, model->source);
    cli_free(cli, digests);
    return status;
}

void cli_flag_text(struct cli *cli, const char *texts,
                   const struct cli_tokens *measured, const char *path)
{
    if (knows(texts, measured->digest))
        cli_warning(cli, "%s is a text that the model was trained or "
                         "calibrated on: what is measured on it says nothing "
                         "about other text",
                    path);
}

/* The file of another may hold anything: what is no list of digests that we
 * could have written is left alone. */
int cli_model_read_texts(struct cli *cli, const char *directory,
                         struct cli_model *model)
{
    qrb_safetensors *file = NULL;
    const char *texts;
    size_t length;

    if (qrb_safetensors_open_directory(cli->ctx, directory, &file) != QRB_OK)
        return cli_library_error(cli, directory);
    texts = qrb_safetensors_metadata(file, "qrobust_text");
    length = texts == NULL ? 0 : strlen(texts);
    if (length < sizeof model->texts && (length + 1) % DIGEST_SIZE == 0 &&
        strspn(texts, "0123456789abcdef ") == length)
        memcpy(model->texts, texts, length + 1);
    qrb_safetensors_close(file);
    return CLI_OK;
}

/* What says how a run is made, not what it makes; texts are paths, but for
 * those of a method. */
static bool is_of_the_run(const struct cli_option *option)
{
    if (option->kind == CLI_TEXT)
        return strcmp(option->name, "method") != 0 &&
               strcmp(option->name, "options") != 0;
    return strcmp(option->name, "resume") == 0 ||
           strcmp(option->name, "checkpoint-every") == 0;
}

enum { DESCRIPTION = 256 };

/* " --name value" of an option that has one, else "". */
static void describe(const struct cli_option *o, char out[DESCRIPTION])
{
    const bool given = o->given == NULL || *o->given;
    double real;

    out[0] = '\0';
    if (is_of_the_run(o))
        return;
    if (o->kind == CLI_TEXT) {
        const char *text = *(const char *const *)o->target;

        if (text != NULL && *text != '\0')
            snprintf(out, DESCRIPTION, " --%s %s", o->name, text);
    } else if (o->kind == CLI_FLAG) {
        if (*(const bool *)o->target)
            snprintf(out, DESCRIPTION, " --%s", o->name);
    } else if (o->kind == CLI_COUNT) {
        if (given || *(const uint64_t *)o->target != 0)
            snprintf(out, DESCRIPTION, " --%s %llu", o->name,
                     (unsigned long long)*(const uint64_t *)o->target);
    } else {
        real = *(const double *)o->target;
        if (given || real != 0.0)
            snprintf(out, DESCRIPTION, " --%s %.15g", o->name, real);
        if (strtod(strrchr(out, ' ') ? strrchr(out, ' ') : "0", NULL) != real)
            snprintf(out, DESCRIPTION, " --%s %.17g", o->name, real);
    }
}

int cli_describe_options(struct cli *cli, char *out, size_t size)
{
    size_t length = 0;

    out[0] = '\0';
    for (const struct cli_option *o = cli->options;
         o != NULL && o->name != NULL; o++) {
        char one[DESCRIPTION];

        describe(o, one);
        if (length + strlen(one) >= size)
            return cli_error(cli, "the options do not fit into metadata");
        strcpy(out + length, one + (length == 0 && one[0] != '\0'));
        length = strlen(out);
    }
    return CLI_OK;
}
