/* The main job of the library on a model that it carries: attack the weights
 * at three strengths, repair them, quantize, measure, and hold the repair
 * against controls. */
#include "quickstart.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096, CALIBRATION_TOKENS = 8192 };

const char *const precision_names[PRECISIONS] = { "fp32", "fp16", "int8",
                                                  "nf4", "rtn4g32" };
const char *const arm_names[ARMS] = { "attacked", "repaired",
                                      "text_without_anchor",
                                      "anchor_without_text",
                                      "received_anchor" };
const char *const arm_labels[ARMS] = { "attacked", "repaired, clean anchor",
                                       "control: text, no anchor",
                                       "control: to anchor, no text",
                                       "repaired, no clean weights" };

struct arguments {
    const char *model;
    const char *text;
    const char *prompts;
    uint64_t steps;
    uint64_t test_tokens;
    bool steps_given;
};

struct job {
    struct cli *cli;
    struct cli_model clean; /* the anchor; never written */
    struct cli_model model; /* attacked and repaired */
    struct cli_precisions precisions;
    struct cli_tokens train;
    struct cli_tokens validation;
    struct cli_tokens test;
    struct prompts prompts;
    qrb_evaluate_options evaluate;
    qrb_snapshot *received; /* attacked weights, all of them */
    qrb_snapshot *original; /* clean weights, all of them */
    struct results results;
};

static int measure(struct job *job, qrb_model *model, struct figures *out)
{
    for (size_t i = 0; i < PRECISIONS; i++) {
        qrb_metric_result r = { .struct_size = sizeof r };
        const int status =
            cli_measure(job->cli, model, NULL, &job->test, &job->evaluate,
                        &job->precisions.list[i], &r, NULL);

        if (status != CLI_OK)
            return status;
        out->perplexity[i] = r.perplexity;
    }
    if (qrb_evaluate_prompts(model, job->prompts.tokens, job->prompts.lengths,
                             job->prompts.count, out->prompts) != QRB_OK)
        return cli_library_error(job->cli, "prompts");
    return CLI_OK;
}

/* Recovery and prompt statistics of an arm beside clean and attacked. */
static void compare(const struct job *job, const struct level *level,
                    struct figures *arm)
{
    const struct figures *clean = &job->results.clean;
    const struct figures *attacked = &level->arm[ARM_ATTACKED];

    for (size_t i = 0; i < PRECISIONS; i++)
        arm->recovery[i] =
            qrb_recovery(clean->perplexity[i], attacked->perplexity[i],
                         arm->perplexity[i]);
    arm->prompt.struct_size = sizeof arm->prompt;
    qrb_prompt_statistics(clean->prompts, arm->prompts, attacked->prompts,
                          job->prompts.count, &arm->prompt);
}

static int attack(struct job *job, struct level *level)
{
    qrb_calibrate_options options = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_filter everything = QRB_FILTER_INIT;
    qrb_noise *noise = NULL;
    size_t count = job->validation.count;
    int status = CLI_OK;

    if (count > CALIBRATION_TOKENS)
        count = CALIBRATION_TOKENS;
    everything.roles = QRB_FILTER_ALL;
    options.ratio = level->target_ratio;
    options.seed = job->cli->seed;
    options.evaluate = &job->evaluate;
    level->attack.struct_size = sizeof level->attack;
    if (qrb_noise_create_attack(job->cli->ctx, NULL, &noise) != QRB_OK ||
        qrb_noise_bind(noise, job->model.model, NULL) != QRB_OK ||
        qrb_attack_calibrate(job->model.model, noise, job->validation.ids,
                             count, &options, &level->attack) != QRB_OK ||
        qrb_attack_apply(noise) != QRB_OK)
        status = cli_library_error(job->cli, "attack");
    qrb_noise_destroy(noise);
    qrb_snapshot_destroy(job->received);
    job->received = NULL;
    if (status == CLI_OK &&
        qrb_snapshot_create(job->model.model, &everything, &job->received) !=
            QRB_OK)
        status = cli_library_error(job->cli, "attack");
    return status;
}

/* From the attacked weights by one way of repairing them. */
static int treat(struct job *job, const struct arguments *a,
                 struct level *level, enum arm arm)
{
    qrb_repair_options options = QRB_REPAIR_OPTIONS_INIT;
    qrb_trainer_options trainer = QRB_REPAIR_TRAINER_OPTIONS_INIT;
    qrb_anchor_options pull = QRB_ANCHOR_OPTIONS_INIT;
    qrb_repair_result result = { .struct_size = sizeof result };
    qrb_model *anchor = job->clean.model;
    qrb_status status = qrb_snapshot_restore(job->received);

    if (a->steps_given)
        trainer.steps = a->steps;
    if (arm == ARM_TEXT)
        pull.strength = 0.0;
    if (arm == ARM_RECEIVED)
        anchor = NULL;
    trainer.what = arm_labels[arm];
    options.trainer = &trainer;
    options.anchor = &pull;
    if (status == QRB_OK && arm == ARM_TOWARDS)
        status = qrb_move_towards(job->model.model, job->clean.model, NULL,
                                  level->repair.distance_moved, NULL);
    else if (status == QRB_OK && arm != ARM_ATTACKED)
        status = qrb_repair(job->model.model, anchor, job->train.ids,
                            job->train.count, &options, &result);
    if (status != QRB_OK)
        return cli_library_error(job->cli, arm_labels[arm]);
    if (arm == ARM_REPAIRED)
        level->repair = result;
    return CLI_OK;
}

static int save(struct job *job, const char *out)
{
    cli_model_note_text(&job->model, &job->validation);
    cli_model_note_text(&job->model, &job->train);
    return cli_model_save(job->cli, &job->model, out);
}

static int run_level(struct job *job, const struct arguments *a,
                     struct level *level, const char *out)
{
    char noise[16];
    int status;

    if (qrb_snapshot_restore(job->original) != QRB_OK)
        return cli_library_error(job->cli, "clean weights");
    snprintf(noise, sizeof noise, "+%.0f %%",
             100.0 * (level->target_ratio - 1.0));
    status = attack(job, level);
    for (int arm = 0; status == CLI_OK && arm < ARMS; arm++) {
        struct figures *figures = &level->arm[arm];

        status = treat(job, a, level, (enum arm)arm);
        if (status == CLI_OK)
            status = measure(job, job->model.model, figures);
        if (status != CLI_OK)
            break;
        compare(job, level, figures);
        table_row(job->cli, arm == ARM_ATTACKED ? noise : "", arm_labels[arm],
                  figures, arm != ARM_ATTACKED);
        if (arm == ARM_REPAIRED && out != NULL)
            status = save(job, out);
    }
    return status;
}

static int open_text(struct job *job, const struct arguments *a,
                     const char *name, struct cli_tokens *out)
{
    char path[PATH_SIZE];

    if (snprintf(path, sizeof path, "%s/%s.txt", a->text, name) >= PATH_SIZE)
        return cli_error(job->cli, "%.60s...: the path is too long", a->text);
    return cli_tokenize(job->cli, job->clean.tokenizer, path, out);
}

static int allocate_prompts(struct job *job)
{
    struct figures *all[1 + LEVELS * ARMS];
    size_t count = 0;

    all[count++] = &job->results.clean;
    for (size_t l = 0; l < LEVELS; l++)
        for (size_t arm = 0; arm < ARMS; arm++)
            all[count++] = &job->results.level[l].arm[arm];
    for (size_t i = 0; i < count; i++) {
        all[i]->prompts = cli_alloc(job->cli, job->prompts.count,
                                    sizeof *all[i]->prompts);
        if (all[i]->prompts == NULL)
            return cli_error(job->cli, "no memory for %zu prompts",
                             job->prompts.count);
    }
    return CLI_OK;
}

static int open_job(struct job *job, const struct arguments *a)
{
    struct cli *cli = job->cli;
    qrb_filter everything = QRB_FILTER_INIT;
    int status = cli_precisions_parse(cli, "fp32,fp16,int8,nf4,rtn4g32",
                                      &job->precisions);

    if (status == CLI_OK)
        status = cli_model_open(cli, a->model, NULL, false, &job->clean);
    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &job->clean, a->model);
    if (status == CLI_OK)
        status = cli_model_open(cli, a->model, NULL, true, &job->model);
    if (status == CLI_OK)
        status = open_text(job, a, "train", &job->train);
    if (status == CLI_OK)
        status = open_text(job, a, "validation", &job->validation);
    if (status == CLI_OK)
        status = open_text(job, a, "test", &job->test);
    if (status == CLI_OK)
        status = prompts_open(cli, job->clean.tokenizer, a->prompts,
                              &job->prompts);
    if (status == CLI_OK)
        status = allocate_prompts(job);
    if (status != CLI_OK)
        return status;
    job->evaluate = cli_evaluate_defaults(&job->clean);
    if (job->test.count > a->test_tokens)
        job->test.count = (size_t)a->test_tokens;
    everything.roles = QRB_FILTER_ALL;
    if (qrb_snapshot_create(job->model.model, &everything, &job->original) !=
        QRB_OK)
        return cli_library_error(cli, a->model);
    return CLI_OK;
}

static void close_job(struct job *job)
{
    struct cli *cli = job->cli;

    cli_free(cli, job->results.clean.prompts);
    for (size_t l = 0; l < LEVELS; l++)
        for (size_t arm = 0; arm < ARMS; arm++)
            cli_free(cli, job->results.level[l].arm[arm].prompts);
    prompts_close(cli, &job->prompts);
    qrb_snapshot_destroy(job->received);
    qrb_snapshot_destroy(job->original);
    qrb_free(cli->ctx, job->train.ids);
    qrb_free(cli->ctx, job->validation.ids);
    qrb_free(cli->ctx, job->test.ids);
    cli_precisions_free(&job->precisions);
    cli_model_close(&job->model);
    cli_model_close(&job->clean);
}

static int run(struct cli *cli, const struct arguments *a, const char *out)
{
    static const double ratios[LEVELS] = { 1.10, 1.15, 1.20 };
    const double start = cli_seconds();
    struct job job = { .cli = cli };
    int status = open_job(&job, a);

    if (status != CLI_OK)
        goto out;
    cli_say(cli, "%llu parameters; perplexity on %zu tokens of held-out "
                 "text, matrices inside blocks quantized;\n"
                 "recovery %% at fp32 / nf4; prompts: share with clean < this "
                 "< attacked, below attacked, variance reduced\n",
            (unsigned long long)cli_model_parameters(job.model.model),
            job.test.count);
    table_head(cli);
    status = measure(&job, job.model.model, &job.results.clean);
    if (status != CLI_OK)
        goto out;
    table_row(cli, "0 %", "clean", &job.results.clean, false);
    for (size_t l = 0; status == CLI_OK && l < LEVELS; l++) {
        job.results.level[l].target_ratio = ratios[l];
        status = run_level(&job, a, &job.results.level[l],
                           l + 1 == LEVELS ? out : NULL);
    }
    if (status != CLI_OK)
        goto out;
    words(cli, &job.results);
    cli_say(cli, "\nthe model repaired at +20 %% is in %s (%.0f s in all)",
            out, cli_seconds() - start);
    status = cli_report(cli, results_json(&job.results));
out:
    close_job(&job);
    return status;
}

int main(int argc, char **argv)
{
    static const struct cli_command command = {
        "quickstart", "OUT", "attack, repair, quantize and measure a model",
        NULL
    };
    const struct cli_host host = { stdout, stderr, NULL, NULL, NULL };
    struct cli cli = { .host = &host, .program = "", .command = "quickstart" };
    struct arguments a = { .test_tokens = 16384 };
    const struct cli_option options[] = {
        { "model", "MODEL", "clean model (required)", CLI_TEXT, &a.model,
          NULL },
        { "text", "DIR", "train.txt, validation.txt, test.txt (required)",
          CLI_TEXT, &a.text, NULL },
        { "prompts", "FILE", "JSON: category -> prompts (required)", CLI_TEXT,
          &a.prompts, NULL },
        { "steps", "N", "of each repair (default: the recipe's)", CLI_COUNT,
          &a.steps, &a.steps_given },
        { "test-tokens", "N", "measured on at most (default 16384)",
          CLI_COUNT, &a.test_tokens, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *out[1] = { NULL };
    int status;

    cli_catch_interrupt();
    status = cli_parse(&cli, &command, options, argc - 1, argv + 1, out, 1, 1);
    if (status >= 0)
        return status;
    if (a.model == NULL || a.text == NULL || a.prompts == NULL)
        status = cli_usage_error(
            &cli, "--model, --text and --prompts are required");
    else
        status = run(&cli, &a, out[0]);
    cli_close(&cli);
    return status;
}
