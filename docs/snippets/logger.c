/* Log lines, progress and a stop, all through the context. */
#include "snippet.h"

/* [begin callbacks] */
static void log_line(uint32_t level, const char *message, void *user)
{
    static const char *const names[] = { "", "error", "warning", "info",
                                         "debug" };

    fprintf(user, "%s: %s\n", names[level <= 4 ? level : 4], message);
}

static int progress(const char *what, uint64_t done, uint64_t total,
                    void *user)
{
    unsigned *reports = user;

    (void)what; /* such as "train: loss 2.314, 11800 tokens/s" */
    (void)done;
    (void)total;
    ++*reports;
    return 0; /* anything else stops with QRB_E_CANCELLED */
}

static int cancel(void *user)
{
    unsigned *questions = user;

    return ++*questions > 5; /* a host would look at a flag here */
}
/* [end callbacks] */

int main(void)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    static int32_t text[200];
    qrb_model *model;
    qrb_status status;

    /* [begin use] */
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_dataset_options cut = { sizeof cut, 1, 16 };
    unsigned reports = 0;
    unsigned questions = 0;
    qrb_context *ctx;
    qrb_dataset *dataset;
    qrb_trainer *trainer;
    qrb_train_result result = { .struct_size = sizeof result };

    options.log = log_line;
    options.log_user = stderr;
    options.progress = progress;
    options.progress_user = &reports;
    options.cancel = cancel;
    options.cancel_user = &questions;
    must(NULL, qrb_context_create(&options, &ctx));
    /* [end use] */
    config.vocab = 16;
    config.dim = config.hidden = 16;
    config.layers = config.heads = config.kv_heads = 1;
    config.context = 16;
    for (int i = 0; i < 200; i++)
        text[i] = i % 16;
    must(ctx, qrb_engine_create(ctx, &config, NULL, &model));
    /* [begin run] */
    must(ctx, qrb_dataset_create(ctx, text, 200, &cut, &dataset));
    must(ctx, qrb_trainer_create(model, dataset, NULL, &trainer));
    status = qrb_trainer_run(trainer, &result);
    printf("%s after %d steps\n", qrb_status_name(status), (int)result.steps);
    /* [end run] */
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return reports == 0;
}
