/* The same bits with any number of threads, and after a stop. */
#include "snippet.h"

#include <string.h>

enum { WEIGHTS = 16 * 16 };

static int stop_in_step_15(const char *what, uint64_t done, uint64_t total,
                           void *user)
{
    (void)what;
    (void)total;
    (void)user;
    return done == 15;
}

/* Train from the context's seed on; `q` receives some of the weights. */
static void train(size_t threads, qrb_progress_fn progress,
                  const char *checkpoint, float *q)
{
    static int32_t text[400];
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_dataset_options cut = { sizeof cut, 2, 16 };
    qrb_parameter parameter = { .struct_size = sizeof parameter };
    qrb_model *model;
    qrb_dataset *dataset;
    qrb_trainer *trainer;
    qrb_status status;

    /* [begin run] */
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_trainer_options recipe = QRB_TRAINER_OPTIONS_INIT;
    qrb_context *ctx;

    options.seed = 42; /* of the weights and of the batches */
    options.threads = threads;
    options.progress = progress;
    must(NULL, qrb_context_create(&options, &ctx));
    recipe.steps = 30;
    recipe.checkpoint = checkpoint; /* NULL: none */
    recipe.checkpoint_every = 10;
    /* [end run] */
    config.vocab = config.dim = config.hidden = config.context = 16;
    config.layers = config.heads = config.kv_heads = 1;
    for (int i = 0; i < 400; i++)
        text[i] = i * i % 16;
    must(ctx, qrb_engine_create(ctx, &config, NULL, &model));
    must(ctx, qrb_dataset_create(ctx, text, 400, &cut, &dataset));
    /* [begin resume] */
    must(ctx, qrb_trainer_create(model, dataset, &recipe, &trainer));
    if (checkpoint != NULL)
        must(ctx, qrb_trainer_resume(trainer, NULL)); /* if there is one */
    status = qrb_trainer_run(trainer, NULL);
    if (status != QRB_E_CANCELLED)
        must(ctx, status);
    /* [end resume] */
    must(ctx, qrb_model_parameter(
                  model,
                  qrb_model_find(model,
                                 "model.layers.0.self_attn.q_proj.weight"),
                  &parameter));
    memcpy(q, qrb_tensor_memory(parameter.weight), WEIGHTS * sizeof *q);
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}

int main(int argc, char **argv)
{
    static float straight[WEIGHTS];
    static float resumed[WEIGHTS];

    if (argc != 2)
        return 2;
    remove(argv[1]);
    /* [begin compare] */
    train(1, NULL, NULL, straight);
    train(4, stop_in_step_15, argv[1], resumed); /* stopped on the way */
    printf("stopped: %s bits\n",
           memcmp(straight, resumed, sizeof straight) == 0 ? "equal" : "other");
    train(2, NULL, argv[1], resumed);
    printf("resumed: %s bits\n",
           memcmp(straight, resumed, sizeof straight) == 0 ? "equal" : "other");
    /* [end compare] */
    return 0;
}
