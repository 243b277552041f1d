/* Where a model comes from, in the metadata of its file: the program's
 * version, command, seed and options, and digests of the texts that it was
 * trained or calibrated on, those of the models before it included.  None of
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

/* What says how a run is made, not what it makes. */
static bool is_of_the_run(const struct cli_option *option)
{
    return option->kind == CLI_TEXT || strcmp(option->name, "resume") == 0 ||
           strcmp(option->name, "checkpoint-every") == 0;
}

/* " --name value" of an option that has one, else "". */
static void describe(const struct cli_option *o, char out[64])
{
    const bool given = o->given == NULL || *o->given;
    double real;

    out[0] = '\0';
    if (is_of_the_run(o))
        return;
    if (o->kind == CLI_FLAG) {
        if (*(const bool *)o->target)
            snprintf(out, 64, " --%s", o->name);
    } else if (o->kind == CLI_COUNT) {
        if (given || *(const uint64_t *)o->target != 0)
            snprintf(out, 64, " --%s %llu", o->name,
                     (unsigned long long)*(const uint64_t *)o->target);
    } else {
        real = *(const double *)o->target;
        if (given || real != 0.0)
            snprintf(out, 64, " --%s %.15g", o->name, real);
        if (strtod(strrchr(out, ' ') ? strrchr(out, ' ') : "0", NULL) != real)
            snprintf(out, 64, " --%s %.17g", o->name, real);
    }
}

int cli_describe_options(struct cli *cli, char *out, size_t size)
{
    size_t length = 0;

    out[0] = '\0';
    for (const struct cli_option *o = cli->options;
         o != NULL && o->name != NULL; o++) {
        char one[64];

        describe(o, one);
        if (length + strlen(one) >= size)
            return cli_error(cli, "the options do not fit into metadata");
        strcpy(out + length, one + (length == 0 && one[0] != '\0'));
        length = strlen(out);
    }
    return CLI_OK;
}
