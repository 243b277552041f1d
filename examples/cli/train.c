/* qrobust train: a model from text alone, or more training for one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

enum { PATH_SIZE = 4096 };

struct train_arguments {
    const char *text;
    const char *from;
    const char *tokenizer;
    uint64_t dim;
    uint64_t layers;
    uint64_t heads;
    uint64_t kv_heads;
    uint64_t hidden;
    uint64_t vocab;
    uint64_t steps;
    uint64_t batch;
    uint64_t context;
    uint64_t warmup;
    uint64_t every;
    double lr;
    double weight_decay;
    bool resume;
    bool shape_given;
    bool kv_given;
    bool hidden_given;
    bool batch_given;
    bool context_given;
    bool warmup_given;
    bool lr_given;
};

/* What is not given: a small model, or a gentle fine-tuning. */
static void fill_defaults(struct train_arguments *a)
{
    const bool fresh = a->from == NULL;

    if (!fresh) /* the model's own shape counts */
        a->dim = a->layers = a->heads = a->kv_heads = a->hidden = a->vocab = 0;
    if (fresh && !a->kv_given)
        a->kv_heads = a->heads % 2 == 0 ? a->heads / 2 : a->heads;
    if (fresh && !a->hidden_given)
        a->hidden = (a->dim * 8 / 3 + 7) / 8 * 8;
    if (!a->batch_given)
        a->batch = fresh ? 8 : 4;
    if (!a->context_given)
        a->context = fresh ? 256 : 128;
    if (!a->warmup_given)
        a->warmup = fresh ? 100 : 10;
    if (!a->lr_given)
        a->lr = fresh ? 2e-3 : 5e-4;
}

static int make_tokenizer(struct cli *cli, const struct train_arguments *a,
                          struct cli_model *model)
{
    size_t size = 0;
    char *text;
    qrb_status status;

    if (a->tokenizer != NULL) {
        if (qrb_tokenizer_open_path(cli->ctx, a->tokenizer,
                                    &model->tokenizer) != QRB_OK)
            return cli_library_error(cli, a->tokenizer);
        return CLI_OK;
    }
    text = cli_read_text(cli, a->text, &size);
    if (text == NULL)
        return CLI_FAILED;
    status = qrb_tokenizer_train(cli->ctx, text, size, (size_t)a->vocab,
                                 &model->tokenizer);
    cli_free(cli, text);
    return status == QRB_OK ? CLI_OK : cli_library_error(cli, "tokenizer");
}

static int make_model(struct cli *cli, const struct train_arguments *a,
                      struct cli_model *model)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    int status = make_tokenizer(cli, a, model);

    if (status != CLI_OK)
        return status;
    config.vocab = qrb_tokenizer_vocab(model->tokenizer);
    config.dim = (size_t)a->dim;
    config.layers = (size_t)a->layers;
    config.heads = (size_t)a->heads;
    config.kv_heads = (size_t)a->kv_heads;
    config.hidden = (size_t)a->hidden;
    config.context = (size_t)a->context;
    model->config = config;
    if (qrb_engine_create(cli->ctx, &config, NULL, &model->model) != QRB_OK ||
        qrb_engine_get_config(model->model, &model->config) != QRB_OK)
        return cli_library_error(cli, "model");
    return CLI_OK;
}

static int run_trainer(struct cli *cli, const struct train_arguments *a,
                       const char *checkpoint, struct cli_model *model,
                       qrb_dataset *dataset, qrb_train_result *out)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_optimizer_options optimizer = QRB_OPTIMIZER_OPTIONS_INIT;
    qrb_trainer *trainer = NULL;
    uint64_t done = 0;
    qrb_status status;

    options.steps = a->steps;
    options.warmup = a->warmup;
    options.lr = a->lr;
    optimizer.weight_decay = a->weight_decay;
    options.optimizer = &optimizer;
    options.schedule = QRB_SCHEDULE_COSINE;
    options.checkpoint = checkpoint;
    options.checkpoint_every = a->every;
    options.what = "train";
    status = qrb_trainer_create(model->model, dataset, &options, &trainer);
    if (status == QRB_OK && a->resume) {
        status = qrb_trainer_resume(trainer, &done);
        if (status == QRB_OK && done > 0)
            cli_say(cli, "%s: goes on from step %llu", checkpoint,
                    (unsigned long long)done);
    }
    if (status == QRB_OK)
        status = qrb_trainer_run(trainer, out);
    qrb_trainer_destroy(trainer);
    if (status == QRB_E_CANCELLED)
        return cli_error(cli,
                         "stopped after step %llu; --resume goes on from %s",
                         (unsigned long long)out->steps, checkpoint);
    return status == QRB_OK ? CLI_OK : cli_library_error(cli, "training");
}

static int report_training(struct cli *cli, const char *out,
                           const qrb_train_result *r)
{
    const double speed = (double)r->tokens / r->seconds;

    cli_say(cli, "%s: %llu steps, loss %.4f, %llu tokens in %.1f s, "
                 "%.0f tokens/s",
            out, (unsigned long long)r->steps, r->loss,
            (unsigned long long)r->tokens, r->seconds, speed);
    return cli_report(
        cli, json_pack("{s:I, s:I, s:o, s:f, s:o}", "steps",
                       (json_int_t)r->steps, "tokens", (json_int_t)r->tokens,
                       "loss", cli_json_number(r->loss), "seconds",
                       r->seconds, "tokens_per_second",
                       cli_json_number(speed)));
}

static int train(struct cli *cli, const char *out,
                 const struct train_arguments *a)
{
    qrb_dataset_options shape = QRB_DATASET_OPTIONS_INIT;
    qrb_train_result result = { .struct_size = sizeof result };
    struct cli_model model = { .model = NULL };
    struct cli_tokens text = { .ids = NULL };
    qrb_dataset *dataset = NULL;
    char checkpoint[PATH_SIZE];
    int status;

    if (snprintf(checkpoint, PATH_SIZE, "%s.checkpoint", out) >= PATH_SIZE)
        return cli_error(cli, "%.60s...: the path is too long", out);
    if (a->from != NULL)
        status = cli_model_open(cli, a->from, a->tokenizer, true, &model);
    else
        status = make_model(cli, a, &model);
    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &model, a->from);
    if (status == CLI_OK)
        status = cli_tokenize(cli, model.tokenizer, a->text, &text);
    if (status != CLI_OK)
        goto out;
    shape.batch = (size_t)a->batch;
    shape.context = (size_t)a->context;
    if (shape.context > model.config.context)
        shape.context = model.config.context;
    if (qrb_dataset_create(cli->ctx, text.ids, text.count, &shape,
                           &dataset) != QRB_OK) {
        status = cli_library_error(cli, a->text);
        goto out;
    }
    status = run_trainer(cli, a, checkpoint, &model, dataset, &result);
    cli_model_note_text(&model, &text);
    if (status == CLI_OK)
        status = cli_model_save(cli, &model, out);
    if (status == CLI_OK) {
        unlink(checkpoint); /* the model is complete; none is fine as well */
        status = report_training(cli, out, &result);
    }
out:
    qrb_dataset_destroy(dataset);
    qrb_free(cli->ctx, text.ids);
    cli_model_close(&model);
    return status;
}

int cli_train(struct cli *cli, const struct cli_command *command, int argc,
              char **argv)
{
    struct train_arguments a = { .dim = 128,
                                 .layers = 6,
                                 .heads = 8,
                                 .vocab = 1024,
                                 .steps = 1000,
                                 .weight_decay = 0.01,
                                 .every = 100 };
    const struct cli_option options[] = {
        { "text", "FILE", "text to learn (required)", CLI_TEXT, &a.text,
          NULL },
        { "from", "MODEL", "go on training this model", CLI_TEXT, &a.from,
          NULL },
        { "dim", "N", "width (default 128)", CLI_COUNT, &a.dim,
          &a.shape_given },
        { "layers", "N", "blocks (default 6)", CLI_COUNT, &a.layers,
          &a.shape_given },
        { "heads", "N", "attention heads (default 8)", CLI_COUNT, &a.heads,
          &a.shape_given },
        { "kv-heads", "N", "key-value heads (default half the heads)",
          CLI_COUNT, &a.kv_heads, &a.kv_given },
        { "hidden", "N", "feed-forward width (default 8/3 dim)", CLI_COUNT,
          &a.hidden, &a.hidden_given },
        { "vocab", "N", "tokens of the new tokenizer (default 1024)",
          CLI_COUNT, &a.vocab, &a.shape_given },
        { "tokenizer", "FILE", "use this tokenizer", CLI_TEXT, &a.tokenizer,
          NULL },
        { "steps", "N", "optimizer steps (default 1000)", CLI_COUNT,
          &a.steps, NULL },
        { "batch", "N", "sequences a step (default 8; 4 with --from)",
          CLI_COUNT, &a.batch, &a.batch_given },
        { "context", "N", "tokens a sequence (default 256; 128 with --from)",
          CLI_COUNT, &a.context, &a.context_given },
        { "lr", "X", "peak learning rate (default 2e-3; 5e-4 with --from)",
          CLI_REAL, &a.lr, &a.lr_given },
        { "warmup", "N", "steps of warm-up (default 100; 10 with --from)",
          CLI_COUNT, &a.warmup, &a.warmup_given },
        { "weight-decay", "X", "decoupled, on matrices (default 0.01)",
          CLI_REAL, &a.weight_decay, NULL },
        { "checkpoint-every", "N", "steps between checkpoints (default 100)",
          CLI_COUNT, &a.every, NULL },
        { "resume", NULL, "go on from the checkpoint beside OUT", CLI_FLAG,
          &a.resume, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[1] = { NULL };
    const int status =
        cli_parse(cli, command, options, argc, argv, path, 1, 1);

    if (status >= 0)
        return status;
    if (a.text == NULL)
        return cli_usage_error(cli, "--text FILE is required");
    if (a.from != NULL && (a.shape_given || a.kv_given || a.hidden_given))
        return cli_usage_error(cli, "--from brings its own shape: leave out "
                                    "--dim, --layers, --heads, --kv-heads, "
                                    "--hidden and --vocab");
    fill_defaults(&a);
    return train(cli, path[0], &a);
}
