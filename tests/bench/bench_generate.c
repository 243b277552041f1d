/* Tokens a second of a generator, of prompts and one by one, for each precision
 * of the cache, and what the latter read from memory of what the machine gives
 * in the same round.
 *
 *     bench_generate [-t THREADS] [-s SECONDS] [-r ROUNDS]
 *
 * A model of width 768 and 12 blocks in float32, whose weights are far beyond
 * the caches.  A token reads each weight once, and the keys and values of
 * those before it; at a length of 32 and of 1024. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/generator.h"
#include "limits.h"
#include "rounds.h"

enum { PROMPT = 512, SHORT = 32, LONG = 1024, CONTEXT = LONG + 1 };

static const uint32_t kv_bits[] = { 0, 16, 8, 4 };
enum { PRECISIONS = sizeof kv_bits / sizeof *kv_bits };

struct subject {
    qrb_context *ctx;
    qrb_generator *generator;
    size_t length; /* before the token */
    int32_t tokens[LONG];
};

static void check(qrb_context *ctx, qrb_status status)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "%s\n", qrb_context_message(ctx));
    exit(EXIT_FAILURE);
}

static void prompt(void *arg)
{
    struct subject *s = arg;

    check(s->ctx, qrb_generator_reset(s->generator));
    check(s->ctx, qrb_generator_feed(s->generator, s->tokens, PROMPT));
}

/* The same token at the same place, over and over. */
static void decode(void *arg)
{
    struct subject *s = arg;

    s->generator->length = s->length;
    check(s->ctx, qrb_generator_feed(s->generator, s->tokens, 1));
}

static qrb_model *make_model(qrb_context *ctx)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_model *model = NULL;

    config.vocab = 8192;
    config.dim = 768;
    config.layers = 12;
    config.heads = 12;
    config.kv_heads = 12;
    config.hidden = 2048;
    config.context = CONTEXT;
    options.trainable = 0;
    check(ctx, qrb_engine_create(ctx, &config, &options, &model));
    return model;
}

/* Bytes that a token reads. */
static double traffic(const struct subject *s)
{
    const struct qrb__engine *view = &s->generator->view;
    const struct qrb__cache *cache = &s->generator->cache;
    const double scales = cache->scales == NULL ? 0 : 2 * sizeof(float);
    double elements = 0;

    for (size_t i = 0; i < view->parameter_count; i++)
        elements += (double)qrb__engine_elements(&view->parameters[i]);
    return elements * sizeof(float) +
           (double)(view->config.layers * 2 * cache->heads * s->length) *
               ((double)cache->row + scales);
}

struct row {
    struct figure prompt[MOST_ROUNDS];
    struct figure decode[2][MOST_ROUNDS];
    double traffic[2];
    uint64_t bytes;
};

static void measure(qrb_model *model, uint32_t bits, double seconds,
                    size_t round, struct row *row)
{
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    struct subject s = { .ctx = model->ctx };

    options.kv_bits = bits;
    check(s.ctx, qrb_generator_memory(model, &options, &row->bytes));
    check(s.ctx, qrb_generator_create(model, &options, &s.generator));
    for (size_t i = 0; i < LONG; i++)
        s.tokens[i] = (int32_t)(i * 37 % 8192);
    check(s.ctx, qrb_generator_feed(s.generator, s.tokens, LONG));
    for (size_t i = 0; i < 2; i++) {
        s.length = i == 0 ? SHORT : LONG;
        row->decode[i][round] = take_turn(decode, &s, seconds);
        row->traffic[i] = traffic(&s);
    }
    row->prompt[round] = take_turn(prompt, &s, seconds);
    qrb_generator_destroy(s.generator);
}

static void print_row(const struct row *row, uint32_t bits, size_t rounds,
                      double bandwidth)
{
    const struct figure prompts = figure_of(row->prompt, rounds);

    printf("| %u | %.0f / %.0f |", bits == 0 ? 32 : bits,
           PROMPT / prompts.best, PROMPT / prompts.median);
    for (size_t i = 0; i < 2; i++) {
        const struct figure one = figure_of(row->decode[i], rounds);

        printf(" %.1f / %.1f | %.2f |", 1 / one.best, 1 / one.median,
               row->traffic[i] / one.best / bandwidth);
    }
    printf(" %.1f |\n", 1e-6 * (double)row->bytes);
}

int main(int argc, char **argv)
{
    static struct row rows[PRECISIONS];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;
    qrb_model *model;
    size_t rounds = 3;
    double seconds = 0.3;
    double bandwidth = 0;
    int option;

    while ((option = getopt(argc, argv, "t:s:r:")) != -1)
        switch (option) {
        case 't':
            options.threads = strtoul(optarg, NULL, 10);
            break;
        case 's':
            seconds = strtod(optarg, NULL);
            break;
        case 'r':
            rounds = strtoul(optarg, NULL, 10);
            break;
        default:
            return EXIT_FAILURE;
        }
    if (rounds < 1 || rounds > MOST_ROUNDS ||
        qrb_context_create(&options, &ctx) != QRB_OK)
        return EXIT_FAILURE;
    model = make_model(ctx);
    for (size_t r = 0; r < rounds; r++) {
        const double now = memory_bandwidth(qrb_context_threads(ctx));

        bandwidth = now > bandwidth ? now : bandwidth;
        for (size_t i = 0; i < PRECISIONS; i++)
            measure(model, kv_bits[i], seconds, r, &rows[i]);
    }
    printf("%zu threads, %.1f GB/s from memory at best\n\n"
           "| bits of keys and values | prompt of %d, tokens/s, best / median "
           "| after %d tokens | of the bandwidth | after %d | of the "
           "bandwidth | memory beside the weights, MB |\n"
           "|---|---|---|---|---|---|---|\n",
           qrb_context_threads(ctx), 1e-9 * bandwidth, PROMPT, SHORT, LONG);
    for (size_t i = 0; i < PRECISIONS; i++)
        print_row(&rows[i], kv_bits[i], rounds, bandwidth);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return EXIT_SUCCESS;
}
