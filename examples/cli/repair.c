/* qrobust repair: train on text while an anchor pulls, and measure. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { PATH_SIZE = 4096 };

struct repair_arguments {
    const char *text;
    const char *test;
    const char *anchor;
    const char *tokenizer;
    const char *precision;
    uint64_t steps;
    uint64_t every;
    double lr;
    double strength;
    bool paper;
    bool resume;
    bool steps_given;
    bool lr_given;
    bool strength_given;
};

/* Perplexities before, after, and of the anchor, one a precision. */
struct repair_figures {
    double attacked[CLI_MAX_PRECISIONS];
    double repaired[CLI_MAX_PRECISIONS];
    double anchor[CLI_MAX_PRECISIONS];
};

struct repair_job {
    struct cli_model model;
    struct cli_model anchor; /* model NULL: the received weights */
    struct cli_tokens text;
    struct cli_tokens test; /* count 0: nothing is measured */
    struct cli_precisions precisions;
    qrb_evaluate_options evaluate;
};

/* A recipe with what the command line changes in it. */
struct repair_recipe {
    qrb_trainer_options trainer;
    qrb_anchor_options anchor;
    qrb_dataset_options dataset;
};

/* The preset, cut to what the model's context allows at equal tokens; the
 * arguments become what is in force. */
static struct repair_recipe choose_recipe(struct repair_arguments *a,
                                          const struct cli_model *model,
                                          const char *checkpoint)
{
    const struct repair_recipe recommended = {
        QRB_REPAIR_TRAINER_OPTIONS_INIT, QRB_ANCHOR_OPTIONS_INIT,
        QRB_REPAIR_DATASET_OPTIONS_INIT
    };
    const struct repair_recipe paper = { QRB_REPAIR_TRAINER_OPTIONS_PAPER,
                                         QRB_ANCHOR_OPTIONS_PAPER,
                                         QRB_REPAIR_DATASET_OPTIONS_PAPER };
    struct repair_recipe recipe = a->paper ? paper : recommended;
    const size_t longest = model->config.context;

    if (a->steps_given)
        recipe.trainer.steps = a->steps;
    if (a->lr_given)
        recipe.trainer.lr = a->lr;
    if (a->strength_given)
        recipe.anchor.strength = a->strength;
    a->steps = recipe.trainer.steps;
    a->lr = recipe.trainer.lr;
    a->strength = recipe.anchor.strength;
    recipe.trainer.checkpoint = checkpoint;
    recipe.trainer.checkpoint_every = a->every;
    if (recipe.dataset.context > longest) {
        recipe.dataset.batch *=
            (recipe.dataset.context + longest - 1) / longest;
        recipe.dataset.context = longest;
    }
    return recipe;
}

static int measure_all(struct cli *cli, const struct repair_job *job,
                       qrb_model *model, double *perplexity)
{
    for (size_t i = 0; i < job->precisions.count; i++) {
        qrb_metric_result r = { .struct_size = sizeof r };
        const int status =
            cli_measure(cli, model, NULL, &job->test, &job->evaluate,
                        &job->precisions.list[i], &r, NULL);

        if (status != CLI_OK)
            return status;
        perplexity[i] = r.perplexity;
    }
    return CLI_OK;
}

static json_t *by_precision(const struct cli_precisions *precisions,
                            const double *values)
{
    json_t *object = json_object();

    for (size_t i = 0; object != NULL && i < precisions->count; i++) {
        if (json_object_set_new(object, precisions->list[i].name,
                                cli_json_number(values[i])) != 0) {
            json_decref(object);
            object = NULL;
        }
    }
    return object;
}

static int report(struct cli *cli, const struct repair_job *job,
                  const struct repair_figures *f, const qrb_repair_result *r)
{
    const struct cli_precisions *precisions = &job->precisions;
    const bool measured = job->test.count > 0;
    double recovery[CLI_MAX_PRECISIONS] = { 0.0 };
    const struct cli_precisions none = { .count = 0 };
    const struct cli_precisions *shown = measured ? precisions : &none;

    if (measured)
        cli_say(cli, "%-10s %12s %12s %12s %12s", "precision", "attacked",
                "repaired", job->anchor.model ? "anchor" : "received",
                "recovery %");
    for (size_t i = 0; i < shown->count; i++) {
        recovery[i] =
            qrb_recovery(f->anchor[i], f->attacked[i], f->repaired[i]);
        cli_say(cli, "%-10s %12.4f %12.4f %12.4f %12.1f",
                precisions->list[i].name, f->attacked[i], f->repaired[i],
                f->anchor[i], recovery[i]);
    }
    return cli_report(
        cli,
        json_pack("{s:I, s:o, s:o, s:{s:o, s:o, s:o}, s:o}", "steps",
                  (json_int_t)r->steps, "anchor_gradient_ratio",
                  cli_json_number(r->anchor_gradient_ratio),
                  "distance_to_anchor", cli_json_number(r->distance_after),
                  "perplexity", "attacked", by_precision(shown, f->attacked),
                  "repaired", by_precision(shown, f->repaired), "anchor",
                  by_precision(shown, f->anchor), "recovery",
                  by_precision(shown, recovery)));
}

static int open_all(struct cli *cli, const char *in,
                    const struct repair_arguments *a, struct repair_job *job)
{
    int status = cli_precisions_parse(cli, a->precision, &job->precisions);

    if (status == CLI_OK)
        status = cli_model_open(cli, in, a->tokenizer, true, &job->model);
    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &job->model, in);
    if (status == CLI_OK && a->anchor != NULL)
        status = cli_model_open(cli, a->anchor, NULL, false, &job->anchor);
    if (status == CLI_OK)
        status = cli_tokenize(cli, job->model.tokenizer, a->text, &job->text);
    if (status == CLI_OK)
        cli_model_note_text(&job->model, &job->text);
    if (status == CLI_OK && a->test != NULL) {
        status = cli_tokenize(cli, job->model.tokenizer, a->test, &job->test);
        cli_flag_text(cli, job->model.texts, &job->test, a->test);
    }
    if (status == CLI_OK)
        job->evaluate = cli_evaluate_defaults(&job->model);
    return status;
}

static int work(struct cli *cli, const char *out, struct repair_arguments *a,
                struct repair_job *job,
                struct repair_figures *f, qrb_repair_result *r)
{
    char checkpoint[PATH_SIZE];
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    struct repair_recipe recipe;
    int status = CLI_OK;
    qrb_status repaired;

    if (snprintf(checkpoint, PATH_SIZE, "%s.checkpoint", out) >= PATH_SIZE)
        return cli_error(cli, "%.60s...: the path is too long", out);
    recipe = choose_recipe(a, &job->model, checkpoint);
    options.trainer = &recipe.trainer;
    options.anchor = &recipe.anchor;
    options.dataset = &recipe.dataset;
    options.resume = a->resume;
    if (job->test.count > 0)
        status = measure_all(cli, job, job->model.model, f->attacked);
    if (status == CLI_OK && job->test.count > 0 && job->anchor.model != NULL)
        status = measure_all(cli, job, job->anchor.model, f->anchor);
    if (status != CLI_OK)
        return status;
    if (job->anchor.model == NULL)
        memcpy(f->anchor, f->attacked, sizeof f->anchor);
    repaired = qrb_repair(job->model.model, job->anchor.model, job->text.ids,
                          job->text.count, &options, r);
    if (repaired == QRB_E_CANCELLED)
        return cli_error(cli, "stopped; --resume goes on from %s",
                         checkpoint);
    if (repaired != QRB_OK)
        return cli_library_error(cli, "repair");
    if (job->test.count > 0)
        status = measure_all(cli, job, job->model.model, f->repaired);
    if (status == CLI_OK)
        status = cli_model_save(cli, &job->model, out);
    if (status == CLI_OK)
        unlink(checkpoint); /* the model is complete; none is fine as well */
    return status;
}

static int run_repair(struct cli *cli, const char *in, const char *out,
                      struct repair_arguments *a)
{
    struct repair_job job = { .test = { .ids = NULL } };
    struct repair_figures figures = { { 0.0 }, { 0.0 }, { 0.0 } };
    qrb_repair_result result = { .struct_size = sizeof result };
    int status = open_all(cli, in, a, &job);

    if (status == CLI_OK && a->anchor == NULL)
        cli_say(cli, "no --anchor: the received weights are the anchor, so "
                     "the pull is back towards the damage and only the text "
                     "repairs;\na clean anchor would pull towards what the "
                     "weights were before it");
    if (status == CLI_OK)
        status = work(cli, out, a, &job, &figures, &result);
    if (status == CLI_OK) {
        cli_say(cli, "%s: %llu steps, %.0f tokens/s, distance to the anchor "
                     "%.4f -> %.4f, pull beside the loss's gradient %.3g",
                out, (unsigned long long)result.steps,
                (double)result.tokens / result.seconds,
                result.distance_before, result.distance_after,
                result.anchor_gradient_ratio);
        status = report(cli, &job, &figures, &result);
    }
    qrb_free(cli->ctx, job.text.ids);
    qrb_free(cli->ctx, job.test.ids);
    cli_precisions_free(&job.precisions);
    cli_model_close(&job.anchor);
    cli_model_close(&job.model);
    return status;
}

int cli_repair(struct cli *cli, const struct cli_command *command, int argc,
               char **argv)
{
    struct repair_arguments a = { .precision = "fp32,fp16,int8,nf4,rtn4g32",
                                  .every = 100 };
    const struct cli_option options[] = {
        { "text", "FILE", "text to train on (required)", CLI_TEXT, &a.text,
          NULL },
        { "anchor", "MODEL", "clean weights (default: the received ones)",
          CLI_TEXT, &a.anchor, NULL },
        { "test", "FILE", "measure perplexity and recovery on this text",
          CLI_TEXT, &a.test, NULL },
        { "steps", "N", "optimizer steps", CLI_COUNT, &a.steps,
          &a.steps_given },
        { "lr", "X", "learning rate", CLI_REAL, &a.lr, &a.lr_given },
        { "anchor-strength", "X", "of the pull", CLI_REAL, &a.strength,
          &a.strength_given },
        { "paper", NULL, "the published recipe, not the recommended one",
          CLI_FLAG, &a.paper, NULL },
        { "precision", "LIST",
          "to measure (default fp32,fp16,int8,nf4,rtn4g32)", CLI_TEXT,
          &a.precision, NULL },
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &a.tokenizer, NULL },
        { "checkpoint-every", "N", "steps between checkpoints (default 100)",
          CLI_COUNT, &a.every, NULL },
        { "resume", NULL, "go on from the checkpoint beside OUT", CLI_FLAG,
          &a.resume, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[2] = { NULL, NULL };
    const int status =
        cli_parse(cli, command, options, argc, argv, path, 2, 2);

    if (status >= 0)
        return status;
    if (a.text == NULL)
        return cli_usage_error(cli, "--text FILE is required");
    return run_repair(cli, path[0], path[1], &a);
}
