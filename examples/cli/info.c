/* qrobust info: what is built in, and what a model is. */
#include "cli.h"

static const char *architecture_name(uint32_t architecture)
{
    return architecture == QRB_ARCH_QWEN2 ? "qwen2" : "llama";
}

/* Adds the model's keys to the object; prints its shape. */
static int describe_model(struct cli *cli, const struct cli_model *m,
                          json_t *object)
{
    const qrb_engine_config *c = &m->config;
    const uint64_t parameters = cli_model_parameters(m->model);
    json_t *keys = json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I}", "architecture",
        architecture_name(c->architecture), "parameters",
        (json_int_t)parameters, "layers", (json_int_t)c->layers, "dim",
        (json_int_t)c->dim, "heads", (json_int_t)c->heads, "kv_heads",
        (json_int_t)c->kv_heads, "vocab", (json_int_t)c->vocab);
    const int updated = keys == NULL ? -1 : json_object_update(object, keys);

    json_decref(keys);
    if (updated != 0)
        return cli_error(cli, "no memory for the report");
    cli_say(cli, "architecture  %s", architecture_name(c->architecture));
    cli_say(cli, "parameters    %llu in %zu tensors",
            (unsigned long long)parameters,
            qrb_model_parameter_count(m->model));
    cli_say(cli, "shape         %zu layers, dim %zu, %zu heads (%zu "
                 "key-value), hidden %zu, vocabulary %zu, context %zu",
            c->layers, c->dim, c->heads, c->kv_heads, c->hidden, c->vocab,
            c->context);
    if (m->tokenizer != NULL)
        cli_say(cli, "tokenizer     %zu tokens, beginning %d, end %d",
                qrb_tokenizer_vocab(m->tokenizer),
                (int)qrb_tokenizer_bos(m->tokenizer),
                (int)qrb_tokenizer_eos(m->tokenizer));
    else
        cli_say(cli, "tokenizer     none beside the model");
    return CLI_OK;
}

int cli_info(struct cli *cli, const struct cli_command *command, int argc,
             char **argv)
{
    const char *tokenizer = NULL;
    const struct cli_option options[] = {
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[1] = { NULL };
    struct cli_model model = { .model = NULL };
    json_t *object = NULL;
    int status = cli_parse(cli, command, options, argc, argv, path, 0, 1);

    if (status >= 0)
        return status;
    status = CLI_OK;
    object = json_pack("{s:s, s:s, s:s}", "version", qrb_version_string(),
                       "blas", qrb_context_blas(cli->ctx), "kernels",
                       qrb_context_kernels(cli->ctx));
    if (object == NULL)
        return cli_error(cli, "no memory for the report");
    cli_say(cli, "version       %s", qrb_version_string());
    cli_say(cli, "kernels       %s, %zu threads",
            qrb_context_kernels(cli->ctx), qrb_context_threads(cli->ctx));
    cli_say(cli, "blas          %s", qrb_context_blas(cli->ctx));
    if (path[0] != NULL)
        status = cli_model_open(cli, path[0], tokenizer, false, &model);
    if (path[0] != NULL && status == CLI_OK)
        status = describe_model(cli, &model, object);
    if (status == CLI_OK)
        status = cli_report(cli, object);
    else
        json_decref(object);
    cli_model_close(&model);
    return status;
}
