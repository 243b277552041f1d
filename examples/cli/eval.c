/* qrobust eval: perplexity per precision, and KL against a base. */
#include <string.h>

#include "cli.h"

struct eval_arguments {
    const char *text;
    const char *base;
    const char *tokenizer;
    const char *mode;
    const char *precision;
    uint64_t context;
    uint64_t stride;
    bool context_given;
    bool stride_given;
};

static const char *const mode_names[] = { "sliding", "blocks", "llamacpp" };

static int choose_windows(struct cli *cli, const struct eval_arguments *a,
                          qrb_evaluate_options *options)
{
    size_t mode = 0;

    while (mode < 3 && strcmp(a->mode, mode_names[mode]) != 0)
        mode++;
    if (mode == 3)
        return cli_usage_error(cli,
                               "--mode: found \"%s\", expected sliding, "
                               "blocks or llamacpp",
                               a->mode);
    options->mode = (uint32_t)mode;
    if (a->context_given)
        options->context = (size_t)a->context;
    if (options->context < 2)
        return cli_usage_error(cli, "--context is at least 2");
    options->stride = mode == QRB_WINDOW_SLIDING ? options->context / 2
                                                 : options->context;
    if (!a->stride_given)
        return CLI_OK;
    options->stride = (size_t)a->stride;
    if (mode == QRB_WINDOW_SLIDING
            ? a->stride < 1 || a->stride >= options->context
            : a->stride != options->context)
        return cli_usage_error(
            cli, "--stride: found %llu, expected %s %zu in mode %s",
            (unsigned long long)a->stride,
            mode == QRB_WINDOW_SLIDING ? "1 to below" : "the context",
            options->context, a->mode);
    return CLI_OK;
}

static json_t *figures_of(const qrb_metric_result *r, double seconds,
                          bool with_base)
{
    json_t *figures = json_pack(
        "{s:o, s:o, s:I, s:f}", "perplexity", cli_json_number(r->perplexity),
        "nll", cli_json_number(r->nll), "scored_tokens",
        (json_int_t)r->scored, "seconds", seconds);
    json_t *more;
    int updated;

    if (figures == NULL || !with_base)
        return figures;
    more = json_pack("{s:{s:o, s:o, s:o, s:o, s:o}, s:o}", "kl", "mean",
                     cli_json_number(r->kl_mean), "stderr",
                     cli_json_number(r->kl_stderr), "median",
                     cli_json_number(r->kl_median), "p99",
                     cli_json_number(r->kl_p99), "max",
                     cli_json_number(r->kl_max), "top1_agreement",
                     cli_json_number(r->top1_agreement));
    updated = more == NULL ? -1 : json_object_update(figures, more);
    json_decref(more);
    if (updated == 0)
        return figures;
    json_decref(figures);
    return NULL;
}

static int measure_all(struct cli *cli, const struct cli_model *model,
                       const struct cli_model *base,
                       const struct cli_tokens *text,
                       const qrb_evaluate_options *options,
                       const struct cli_precisions *precisions,
                       json_t *figures)
{
    const bool with_base = base->model != NULL;

    cli_say(cli, "%-10s %12s %9s %10s %12s%s", "precision", "perplexity",
            "nll", "tokens", "tokens/s",
            with_base ? "    KL mean   same top-1" : "");
    for (size_t i = 0; i < precisions->count; i++) {
        const struct cli_precision *precision = &precisions->list[i];
        qrb_metric_result r = { .struct_size = sizeof r };
        double seconds = 0.0;
        char tail[48] = "";
        const int status = cli_measure(cli, model->model, base->model, text,
                                       options, precision, &r, &seconds);

        if (status != CLI_OK)
            return status;
        if (with_base)
            snprintf(tail, sizeof tail, " %10.6f %9.2f %%", r.kl_mean,
                     100.0 * r.top1_agreement);
        cli_say(cli, "%-10s %12.4f %9.5f %10llu %12.0f%s", precision->name,
                r.perplexity, r.nll, (unsigned long long)r.scored,
                (double)r.scored / seconds, tail);
        if (json_object_set_new(figures, precision->name,
                                figures_of(&r, seconds, with_base)) != 0)
            return cli_error(cli, "no memory for the report");
    }
    return CLI_OK;
}

static int evaluate(struct cli *cli, const char *path,
                    const struct eval_arguments *a)
{
    struct cli_model model = { .model = NULL };
    struct cli_model base = { .model = NULL };
    struct cli_precisions precisions = { .count = 0 };
    struct cli_tokens text = { .ids = NULL };
    qrb_evaluate_options options;
    json_t *figures = NULL;
    int status = cli_precisions_parse(cli, a->precision, &precisions);

    if (status != CLI_OK)
        goto out;
    status = cli_model_open(cli, path, a->tokenizer, false, &model);
    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &model, path);
    if (status == CLI_OK && a->base != NULL)
        status = cli_model_open(cli, a->base, NULL, false, &base);
    if (status != CLI_OK)
        goto out;
    if (a->base != NULL && base.config.vocab != model.config.vocab) {
        status = cli_error(cli, "%s: has a vocabulary of %zu, but %s of %zu",
                           a->base, base.config.vocab, path,
                           model.config.vocab);
        goto out;
    }
    options = cli_evaluate_defaults(&model);
    status = choose_windows(cli, a, &options);
    if (status == CLI_OK)
        status = cli_tokenize(cli, model.tokenizer, a->text, &text);
    if (status != CLI_OK)
        goto out;
    cli_flag_text(cli, model.texts, &text, a->text);
    figures = json_object();
    if (figures == NULL) {
        status = cli_error(cli, "no memory for the report");
        goto out;
    }
    status = measure_all(cli, &model, &base, &text, &options, &precisions,
                         figures);
    if (status == CLI_OK)
        status = cli_report(
            cli,
            json_pack("{s:o, s:o, s:I, s:s, s:I, s:I, s:O}", "model",
                      cli_json_text(path), "text", cli_json_text(a->text),
                      "tokens", (json_int_t)text.count, "mode", a->mode,
                      "context", (json_int_t)options.context, "stride",
                      (json_int_t)options.stride, "precisions", figures));
out:
    json_decref(figures);
    qrb_free(cli->ctx, text.ids);
    cli_precisions_free(&precisions);
    cli_model_close(&base);
    cli_model_close(&model);
    return status;
}

int cli_eval(struct cli *cli, const struct cli_command *command, int argc,
             char **argv)
{
    struct eval_arguments a = { .mode = "sliding", .precision = "fp32" };
    const struct cli_option options[] = {
        { "text", "FILE", "text to predict (required)", CLI_TEXT, &a.text,
          NULL },
        { "base", "MODEL", "compare with this model: KL and top-1", CLI_TEXT,
          &a.base, NULL },
        { "precision", "LIST",
          "of fp32, fp16, bf16, int8, nf4, rtn<B>, rtn<B>g<G>", CLI_TEXT,
          &a.precision, NULL },
        { "mode", "MODE", "sliding (default), blocks or llamacpp", CLI_TEXT,
          &a.mode, NULL },
        { "context", "N", "tokens a window (default 512, or the model's)",
          CLI_COUNT, &a.context, &a.context_given },
        { "stride", "N", "of sliding windows (default half the context)",
          CLI_COUNT, &a.stride, &a.stride_given },
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &a.tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[1] = { NULL };
    const int status =
        cli_parse(cli, command, options, argc, argv, path, 1, 1);

    if (status >= 0)
        return status;
    if (a.text == NULL)
        return cli_usage_error(cli, "--text FILE is required");
    return evaluate(cli, path[0], &a);
}
