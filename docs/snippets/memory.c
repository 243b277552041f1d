/* How much a batch will take, asked before it is computed. */
#include "snippet.h"

int main(void)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_context *ctx;
    qrb_model *model;

    config.vocab = 512;
    config.dim = 64;
    config.hidden = 172;
    config.layers = 5;
    config.heads = 8;
    config.kv_heads = 4;
    config.context = 512;
    must(NULL, qrb_context_create(NULL, &ctx));
    must(ctx, qrb_engine_create(ctx, &config, NULL, &model));
    /* [begin ask] */
    uint64_t training;
    uint64_t evaluation;

    must(ctx, qrb_engine_memory(model, 4, 128, 1, &training));
    must(ctx, qrb_engine_memory(model, 4, 128, 0, &evaluation));
    printf("training takes %s than evaluation\n",
           training > evaluation ? "more" : "NO MORE");
    /* [end ask] */
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return training > 100000000;
}
