/* Choice of the command, and the life of its context. */
#include "cli.h"

#include <string.h>

const struct cli_command cli_commands[] = {
    { "info", "[MODEL]", "version, kernels and BLAS in use; what a model is",
      cli_info },
    { "convert", "IN OUT", "llama2.c or safetensors into a model directory",
      cli_convert },
    { "train", "OUT", "pretrain a model, or fine-tune one", cli_train },
    { "eval", "MODEL", "perplexity per precision, KL against a base",
      cli_eval },
    { "generate", "MODEL", "text from a model, token by token", cli_generate },
    { "attack", "IN OUT", "Gaussian noise on weights, calibrated",
      cli_attack },
    { "repair", "IN OUT", "anchor-guided repair of a damaged model",
      cli_repair },
    { "quantize", "MODEL OUT", "few bits a weight, by a calibration text",
      cli_quantize },
    { "matrix", "", "quantize one matrix of a safetensors file", cli_matrix },
    { NULL, NULL, NULL, NULL }
};

static void print_overview(FILE *stream)
{
    fputs("usage: qrobust COMMAND [OPTIONS] ...\n\n", stream);
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++)
        fprintf(stream, "  %-8s %-8s %s\n", c->name, c->arguments, c->summary);
    fputs("\nqrobust COMMAND --help tells the options of a command.\n",
          stream);
}

void cli_close(struct cli *cli)
{
    cli_progress_clear(&cli->progress);
    qrb_context_destroy(cli->ctx);
    cli->ctx = NULL;
}

int cli_main(int argc, char **argv, const struct cli_host *host)
{
    struct cli cli = { .host = host, .program = "qrobust " };
    int status;

    if (argc < 2) {
        print_overview(host->err);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0) {
        print_overview(host->out);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        fprintf(host->out, "qrobust %s\n", qrb_version_string());
        return CLI_OK;
    }
    for (const struct cli_command *c = cli_commands; c->name != NULL; c++) {
        if (strcmp(argv[1], c->name) != 0)
            continue;
        cli.command = c->name;
        status = c->run(&cli, c, argc - 2, argv + 2);
        cli_close(&cli);
        return status;
    }
    fprintf(host->err,
            "qrobust: unknown command \"%s\"; qrobust --help lists them\n",
            argv[1]);
    return CLI_USAGE;
}
