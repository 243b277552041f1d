/* qrobust attack: noise on weights, of a sigma or of a perplexity ratio. */
#include <math.h>

#include "cli.h"

struct attack_arguments {
    const char *text;
    const char *tokenizer;
    double ratio;
    double sigma;
    bool ratio_given;
    bool sigma_given;
};

/* Find sigma for the ratio, or measure the ratio of the sigma. */
static int calibrate(struct cli *cli, const struct attack_arguments *a,
                     const struct cli_model *model, qrb_noise *attack,
                     const struct cli_tokens *text,
                     qrb_calibrate_result *out)
{
    const qrb_evaluate_options evaluate = cli_evaluate_defaults(model);
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_metric_result clean = { .struct_size = sizeof clean };
    qrb_metric_result attacked = { .struct_size = sizeof attacked };
    qrb_status status;

    options.evaluate = &evaluate;
    options.seed = cli->seed;
    if (a->ratio_given) {
        options.ratio = a->ratio;
        if (qrb_attack_calibrate(model->model, attack, text->ids, text->count,
                                 &options, out) != QRB_OK)
            return cli_library_error(cli, "calibration");
        return CLI_OK;
    }
    out->sigma = a->sigma;
    status = qrb_evaluate_text(model->model, NULL, text->ids, text->count,
                               &evaluate, &clean);
    if (status == QRB_OK)
        status = qrb_perturb_begin(attack);
    if (status == QRB_OK) {
        status = qrb_evaluate_text(model->model, NULL, text->ids, text->count,
                                   &evaluate, &attacked);
        if (qrb_perturb_end(attack) != QRB_OK && status == QRB_OK)
            status = QRB_E_STATE;
    }
    if (status != QRB_OK)
        return cli_library_error(cli, "measurement");
    out->achieved_ratio = attacked.perplexity / clean.perplexity;
    return CLI_OK;
}

static int run_attack(struct cli *cli, const char *in, const char *out,
                      const struct attack_arguments *a)
{
    qrb_attack_options options = QRB_ATTACK_OPTIONS_INIT;
    qrb_calibrate_result r = { .struct_size = sizeof r };
    struct cli_model model = { .model = NULL };
    struct cli_tokens text = { .ids = NULL };
    qrb_noise *attack = NULL;
    int status = cli_model_open(cli, in, a->tokenizer, false, &model);

    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &model, in);
    if (status == CLI_OK)
        status = cli_tokenize(cli, model.tokenizer, a->text, &text);
    if (status != CLI_OK)
        goto out;
    options.sigma = a->sigma;
    options.seed = cli->seed;
    if (qrb_noise_create_attack(cli->ctx, &options, &attack) != QRB_OK ||
        qrb_noise_bind(attack, model.model, NULL) != QRB_OK) {
        status = cli_library_error(cli, in);
        goto out;
    }
    status = calibrate(cli, a, &model, attack, &text, &r);
    if (status != CLI_OK)
        goto out;
    if (qrb_attack_apply(attack) != QRB_OK) {
        status = cli_library_error(cli, in);
        goto out;
    }
    cli_model_note_text(&model, &text);
    status = cli_model_save(cli, &model, out);
    if (status != CLI_OK)
        goto out;
    cli_say(cli, "%s: sigma %.6g, perplexity times %.4f, seed %llu", out,
            r.sigma, r.achieved_ratio, (unsigned long long)cli->seed);
    status = cli_report(
        cli, json_pack("{s:f, s:o, s:o, s:I}", "sigma", r.sigma,
                       "target_ratio",
                       cli_json_number(a->ratio_given ? a->ratio : NAN),
                       "achieved_ratio", cli_json_number(r.achieved_ratio),
                       "seed", (json_int_t)cli->seed));
out:
    qrb_noise_destroy(attack);
    qrb_free(cli->ctx, text.ids);
    cli_model_close(&model);
    return status;
}

int cli_attack(struct cli *cli, const struct cli_command *command, int argc,
               char **argv)
{
    struct attack_arguments a = { .ratio = 0.0 };
    const struct cli_option options[] = {
        { "ratio", "R", "perplexity ratio to reach, such as 1.2", CLI_REAL,
          &a.ratio, &a.ratio_given },
        { "sigma", "S", "standard deviation of the noise instead", CLI_REAL,
          &a.sigma, &a.sigma_given },
        { "text", "FILE", "text to measure on (required)", CLI_TEXT, &a.text,
          NULL },
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &a.tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[2] = { NULL, NULL };
    const int status =
        cli_parse(cli, command, options, argc, argv, path, 2, 2);

    if (status >= 0)
        return status;
    if (a.text == NULL)
        return cli_usage_error(cli, "--text FILE is required");
    if (a.ratio_given == a.sigma_given)
        return cli_usage_error(cli, "expected either --ratio or --sigma");
    if (a.ratio_given && !(a.ratio > 1.0))
        return cli_usage_error(cli, "--ratio: found %g, expected above 1",
                               a.ratio);
    if (a.sigma_given && !(a.sigma >= 0.0))
        return cli_usage_error(cli, "--sigma: found %g, expected 0 or more",
                               a.sigma);
    return run_attack(cli, path[0], path[1], &a);
}
