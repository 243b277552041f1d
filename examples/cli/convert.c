/* qrobust convert: any model that opens into a safetensors directory, or into a
 * GGUF file. */
#include <string.h>

#include "cli.h"

enum { BLOCK = 32 }; /* elements of the blocks of GGUF's types */

static const struct {
    const char *name;
    uint32_t type;
} types[] = {
    { "f32", QRB_GGUF_F32 },   { "f16", QRB_GGUF_F16 },
    { "q8_0", QRB_GGUF_Q8_0 }, { "q4_0", QRB_GGUF_Q4_0 },
    { "q4_1", QRB_GGUF_Q4_1 }, { "q5_0", QRB_GGUF_Q5_0 },
    { "q5_1", QRB_GGUF_Q5_1 },
};

static bool is_gguf_name(const char *path)
{
    const size_t length = strlen(path);

    return length > 5 && strcmp(path + length - 5, ".gguf") == 0;
}

static int find_type(struct cli *cli, const char *name, bool gguf,
                     uint32_t *out)
{
    if (name == NULL) {
        *out = QRB_GGUF_F32;
        return CLI_OK;
    }
    if (!gguf)
        return cli_usage_error(cli, "--type is for an OUT that ends with "
                                    ".gguf");
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0) {
            *out = types[i].type;
            return CLI_OK;
        }
    return cli_usage_error(cli,
                           "--type %.40s: f32, f16, q8_0, q4_0, q4_1, q5_0 and "
                           "q5_1 are known",
                           name);
}

/* Matrices whose rows are no whole blocks. */
static size_t count_odd(const qrb_model *model)
{
    size_t count = 0;

    for (size_t i = 0; i < qrb_model_parameter_count(model); i++) {
        qrb_parameter parameter = QRB_PARAMETER_INIT;

        if (qrb_model_parameter(model, i, &parameter) == QRB_OK &&
            qrb_tensor_rank(parameter.weight) == 2 &&
            qrb_tensor_extent(parameter.weight, 1) % BLOCK != 0)
            count++;
    }
    return count;
}

static int write_gguf(struct cli *cli, const struct cli_model *model,
                      const char *path, uint32_t type)
{
    const size_t odd = type == QRB_GGUF_F32 || type == QRB_GGUF_F16
                           ? 0
                           : count_odd(model->model);
    const int status = cli_model_save_gguf(cli, model, path, type);

    if (status == CLI_OK && odd > 0)
        cli_say(cli, "%s: rows of %zu matrices are no multiple of %d: f16",
                path, odd, BLOCK);
    return status;
}

int cli_convert(struct cli *cli, const struct cli_command *command, int argc,
                char **argv)
{
    const char *tokenizer = NULL;
    const char *type_name = NULL;
    const struct cli_option options[] = {
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &tokenizer, NULL },
        { "type", "T", "of OUT.gguf: f32, f16, q8_0, q4_0, q4_1, q5_0, q5_1",
          CLI_TEXT, &type_name, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[2] = { NULL, NULL };
    struct cli_model model = { .model = NULL };
    uint32_t type;
    bool gguf;
    int status = cli_parse(cli, command, options, argc, argv, path, 2, 2);

    if (status >= 0)
        return status;
    gguf = is_gguf_name(path[1]);
    status = find_type(cli, type_name, gguf, &type);
    if (status != CLI_OK)
        return status;
    status = cli_model_open(cli, path[0], tokenizer, false, &model);
    if (status != CLI_OK)
        return status;
    status = gguf ? write_gguf(cli, &model, path[1], type)
                  : cli_model_save(cli, &model, path[1]);
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
