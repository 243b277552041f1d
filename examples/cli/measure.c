/* Perplexity at a precision: quantize, measure, put the weights back. */
#include <string.h>

#include "cli.h"

int cli_precisions_parse(struct cli *cli, const char *list,
                         struct cli_precisions *out)
{
    struct cli_precisions found = { .count = 0 };
    const char *at = list;
    int status = CLI_OK;

    while (*at != '\0') {
        struct cli_precision *precision = &found.list[found.count];
        const size_t length = strcspn(at, ",");

        if (length == 0 || length >= sizeof precision->name ||
            found.count == CLI_MAX_PRECISIONS) {
            status = cli_usage_error(cli,
                                     "--precision: found \"%s\", expected up "
                                     "to %d names with commas between them",
                                     list, CLI_MAX_PRECISIONS);
            goto out;
        }
        memcpy(precision->name, at, length);
        precision->name[length] = '\0';
        found.count++;
        if (strcmp(precision->name, "fp32") != 0) {
            const qrb_status made = qrb_quantizer_create_named(
                cli->ctx, precision->name, &precision->quantizer);

            if (made == QRB_E_NO_MEMORY) {
                status = cli_library_error(cli, "--precision");
                goto out;
            }
            if (made != QRB_OK) {
                status = cli_usage_error(cli, "--precision: %s",
                                         qrb_context_message(cli->ctx));
                goto out;
            }
        }
        at += length + (at[length] == ',');
    }
    *out = found;
    found.count = 0;
out:
    cli_precisions_free(&found);
    return status;
}

void cli_precisions_free(struct cli_precisions *precisions)
{
    for (size_t i = 0; i < precisions->count; i++)
        qrb_quantizer_destroy(precisions->list[i].quantizer);
    precisions->count = 0;
}

qrb_evaluate_options cli_evaluate_defaults(const struct cli_model *model)
{
    qrb_evaluate_options options = QRB_EVALUATE_OPTIONS_INIT;

    if (model->config.context < options.context)
        options.context = model->config.context;
    options.stride = options.context / 2;
    if (model->tokenizer != NULL)
        options.bos = qrb_tokenizer_bos(model->tokenizer);
    return options;
}

int cli_measure(struct cli *cli, qrb_model *model, qrb_model *base,
                const struct cli_tokens *text,
                const qrb_evaluate_options *options,
                const struct cli_precision *precision,
                qrb_metric_result *out, double *seconds_out)
{
    qrb_snapshot *snapshot = NULL;
    int status = CLI_OK;
    double start;

    if (precision->quantizer != NULL &&
        (qrb_snapshot_create(model, NULL, &snapshot) != QRB_OK ||
         qrb_fake_quantize(model, precision->quantizer, NULL) != QRB_OK)) {
        status = cli_library_error(cli, precision->name);
        goto out;
    }
    start = cli_seconds();
    if (qrb_evaluate_text(model, base, text->ids, text->count, options,
                          out) != QRB_OK)
        status = cli_library_error(cli, precision->name);
    if (seconds_out != NULL)
        *seconds_out = cli_seconds() - start;
    if (snapshot != NULL && qrb_snapshot_restore(snapshot) != QRB_OK)
        status = cli_library_error(cli, precision->name);
out:
    qrb_snapshot_destroy(snapshot);
    return status;
}
