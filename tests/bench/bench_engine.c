/* Tokens per second of the engine at three shapes: one training step (zero
 * gradients, forward, backward, AdamW) and one forward pass with the loss.
 *
 *     bench_engine [THREADS [SECONDS [SHAPE]]]
 *
 * Prints the best and the median over the steps that fit into SECONDS for each
 * of the two, and the arithmetic of the products (two operations each
 * multiply-add; causal attention counted as half of its square). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <qrobust/engine.h>
#include <qrobust/train.h>

#include "model/model.h"

struct shape {
    const char *name;
    size_t dim;
    size_t layers;
    size_t heads;
    size_t kv_heads;
    size_t hidden;
    size_t vocab;
    size_t sequences;
};

static const struct shape shapes[] = {
    { "64x5", 64, 5, 8, 4, 172, 512, 8 },
    { "128x6", 128, 6, 8, 8, 344, 1024, 8 },
    { "288x6", 288, 6, 6, 6, 768, 32000, 4 },
};

enum { LENGTH = 256, MOST_STEPS = 1000 };

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check(qrb_context *ctx, qrb_status status)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "bench_engine: %s\n", qrb_context_message(ctx));
    exit(EXIT_FAILURE);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double forward_operations(const struct shape *s)
{
    const double tokens = (double)(s->sequences * LENGTH);
    const double head = (double)s->dim / (double)s->heads;
    const double matrices =
        (double)s->layers *
            (double)(2 * s->dim * s->dim + 3 * s->dim * s->hidden) +
        (double)s->layers * 2 * (double)s->dim * head * (double)s->kv_heads +
        (double)(s->vocab * s->dim);

    return tokens * (2 * matrices + 2.0 * LENGTH * (double)s->dim *
                                        (double)s->layers);
}

struct run {
    qrb_context *ctx;
    qrb_model *model;
    qrb_optimizer *optimizer;
    const qrb_token_batch *batch;
};

static void train_step(struct run *run)
{
    double loss;
    size_t scored;
    bool skipped;

    check(run->ctx, qrb__model_zero_grad(run->model));
    check(run->ctx, qrb__model_loss_and_grad(run->model, run->batch, 1.0, &loss,
                                             &scored, &skipped));
    check(run->ctx, qrb_optimizer_step(run->optimizer, 1e-4, NULL));
}

static void forward_step(struct run *run)
{
    double loss;
    size_t scored;
    bool skipped;

    check(run->ctx, qrb__model_loss(run->model, run->batch, &loss, &scored,
                                    &skipped));
}

static void measure(const char *what, const struct shape *shape, double work,
                    void (*step)(struct run *), struct run *run,
                    double seconds)
{
    static double took[MOST_STEPS];
    const double tokens = (double)(shape->sequences * LENGTH);
    const double begin = now();
    size_t count = 0;

    step(run); /* plans, allocates, warms up */
    while (count < 3 || (count < MOST_STEPS && now() - begin < seconds)) {
        const double start = now();

        step(run);
        took[count++] = now() - start;
    }
    qsort(took, count, sizeof *took, ascending);
    printf("%-6s %-8s best %8.1f ms %8.0f tok/s %6.1f GFLOP/s   "
           "median %8.1f ms %8.0f tok/s\n",
           shape->name, what, 1e3 * took[0], tokens / took[0],
           1e-9 * work / took[0], 1e3 * took[count / 2],
           tokens / took[count / 2]);
}

static void bench(qrb_context *ctx, const struct shape *shape, double seconds)
{
    const qrb_token_batch none = QRB_TOKEN_BATCH_INIT;
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_token_batch batch = none;
    int32_t *tokens =
        malloc(shape->sequences * (LENGTH + 1) * sizeof *tokens);
    size_t *first = malloc(shape->sequences * sizeof *first);
    struct run run = { .ctx = ctx, .batch = &batch };
    const double work = forward_operations(shape);

    if (tokens == NULL || first == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < shape->sequences * (LENGTH + 1); i++)
        tokens[i] = (int32_t)(i * 2654435761u % shape->vocab);
    for (size_t s = 0; s < shape->sequences; s++)
        first[s] = 1;
    batch.tokens = tokens;
    batch.first_scored = first;
    batch.sequences = shape->sequences;
    batch.length = LENGTH + 1;
    config.vocab = shape->vocab;
    config.dim = shape->dim;
    config.layers = shape->layers;
    config.heads = shape->heads;
    config.kv_heads = shape->kv_heads;
    config.hidden = shape->hidden;
    config.context = LENGTH;
    check(ctx, qrb_engine_create(ctx, &config, NULL, &run.model));
    check(ctx, qrb_optimizer_create(run.model, NULL, &run.optimizer));
    measure("train", shape, 3 * work, train_step, &run, seconds);
    measure("forward", shape, work, forward_step, &run, seconds);
    qrb_optimizer_destroy(run.optimizer);
    qrb_model_destroy(run.model);
    free(tokens);
    free(first);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 2 ? atof(argv[2]) : 5;
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = argc > 1 ? (size_t)atoi(argv[1]) : 0;
    if (qrb_context_create(&options, &ctx) != QRB_OK)
        return EXIT_FAILURE;
    printf("%zu threads, kernels %s, products by %s; batches of %d tokens a "
           "sequence\n",
           qrb_context_threads(ctx), qrb_context_kernels(ctx),
           qrb_context_blas(ctx), LENGTH);
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (argc <= 3 || strcmp(argv[3], shapes[i].name) == 0)
            bench(ctx, &shapes[i], seconds);
    qrb_context_destroy(ctx);
    return EXIT_SUCCESS;
}
