/* qrobust convert: any model that opens into a safetensors directory. */
#include "cli.h"

int cli_convert(struct cli *cli, const struct cli_command *command, int argc,
                char **argv)
{
    const char *tokenizer = NULL;
    const struct cli_option options[] = {
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[2] = { NULL, NULL };
    struct cli_model model = { .model = NULL };
    int status = cli_parse(cli, command, options, argc, argv, path, 2, 2);

    if (status >= 0)
        return status;
    status = cli_model_open(cli, path[0], tokenizer, false, &model);
    if (status != CLI_OK)
        return status;
    status = cli_model_save(cli, &model, path[1]);
    if (status == CLI_OK)
        cli_say(cli, "%s: %llu parameters, %s", path[1],
                (unsigned long long)cli_model_parameters(model.model),
                model.tokenizer ? "with its tokenizer" : "no tokenizer found");
    if (status == CLI_OK)
        status = cli_report(
            cli, json_pack("{s:o, s:I, s:b}", "model", cli_json_text(path[1]),
                           "parameters",
                           (json_int_t)cli_model_parameters(model.model),
                           "tokenizer", model.tokenizer != NULL));
    cli_model_close(&model);
    return status;
}
