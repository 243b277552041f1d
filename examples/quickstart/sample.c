/* Samples of text from a model: what it says when nothing is picked.
 *
 * usage: sample MODEL [COUNT [TOKENS]]     (default 10 samples of 160 tokens)
 *
 * Every sample begins at the beginning-of-text token and draws each next
 * token at temperature 1 from the whole distribution, by a generator that is
 * seeded with the number of the sample. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qrobust/qrobust.h>

struct sampler {
    qrb_context *ctx;
    qrb_model *model;
    qrb_tokenizer *tokenizer;
    qrb_tensor *logits; /* [tokens, vocab] */
    int32_t *tokens;
    size_t vocab;
};

/* Uniform in [0, 1), by splitmix64. */
static double uniform(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t draw(const float *logits, size_t vocab, double u)
{
    float top = logits[0];
    double total = 0.0;

    for (size_t i = 1; i < vocab; i++)
        top = logits[i] > top ? logits[i] : top;
    for (size_t i = 0; i < vocab; i++)
        total += exp((double)(logits[i] - top));
    u *= total;
    for (size_t i = 0; i < vocab; i++) {
        u -= exp((double)(logits[i] - top));
        if (u < 0.0)
            return (int32_t)i;
    }
    return (int32_t)vocab - 1;
}

static qrb_status sample(struct sampler *s, size_t count, uint64_t seed)
{
    char *text = NULL;
    size_t length = 1;
    size_t size = 0;
    qrb_status status = QRB_OK;

    s->tokens[0] = qrb_tokenizer_bos(s->tokenizer);
    while (length < count) {
        const size_t shape[2] = { length, s->vocab };
        const float *logits = qrb_tensor_memory(s->logits);

        status = qrb_tensor_point(s->logits, shape, (void *)(uintptr_t)logits);
        if (status == QRB_OK)
            status = qrb_engine_logits(s->model, s->tokens, 1, length,
                                       s->logits);
        if (status != QRB_OK)
            return status;
        s->tokens[length] = draw(logits + (length - 1) * s->vocab, s->vocab,
                                 uniform(&seed));
        if (s->tokens[length++] == qrb_tokenizer_eos(s->tokenizer))
            break;
    }
    status = qrb_tokenizer_decode(s->tokenizer, s->tokens, length, &text,
                                  &size);
    if (status == QRB_OK) {
        fwrite(text, 1, size, stdout);
        fputs("\n\n", stdout);
    }
    qrb_free(s->ctx, text);
    return status;
}

static qrb_status open_all(struct sampler *s, const char *path, size_t count,
                           float **memory)
{
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_status status = qrb_context_create(NULL, &s->ctx);

    options.trainable = 0;
    if (status == QRB_OK)
        status = qrb_engine_open(s->ctx, path, &options, &s->model);
    if (status == QRB_OK)
        status = qrb_tokenizer_open_path(s->ctx, path, &s->tokenizer);
    if (status == QRB_OK)
        status = qrb_engine_get_config(s->model, &config);
    if (status != QRB_OK)
        return status;
    if (count > config.context || qrb_tokenizer_bos(s->tokenizer) < 0) {
        fprintf(stderr, "sample: at most %zu tokens, from a tokenizer with a "
                        "beginning token\n",
                config.context);
        return QRB_E_INVALID_ARG;
    }
    s->vocab = config.vocab;
    s->tokens = malloc(count * sizeof *s->tokens);
    *memory = malloc(count * s->vocab * sizeof **memory);
    if (s->tokens == NULL || *memory == NULL)
        return QRB_E_NO_MEMORY;
    shape.memory = *memory;
    shape.rank = 2;
    shape.shape[0] = count;
    shape.shape[1] = s->vocab;
    return qrb_tensor_create(s->ctx, &shape, &s->logits);
}

int main(int argc, char **argv)
{
    const size_t samples = argc > 2 ? strtoul(argv[2], NULL, 10) : 10;
    const size_t count = argc > 3 ? strtoul(argv[3], NULL, 10) : 160;
    struct sampler s = { NULL, NULL, NULL, NULL, NULL, 0 };
    float *memory = NULL;
    qrb_status status;

    if (argc < 2 || count < 2) {
        fputs("usage: sample MODEL [COUNT [TOKENS]]\n", stderr);
        return 2;
    }
    status = open_all(&s, argv[1], count, &memory);
    for (uint64_t i = 0; status == QRB_OK && i < samples; i++) {
        printf("--- sample %d\n", (int)i + 1);
        status = sample(&s, count, i);
    }
    if (status != QRB_OK)
        fprintf(stderr, "sample: %s: %s\n", qrb_status_name(status),
                qrb_context_message(s.ctx));
    qrb_tensor_destroy(s.logits);
    qrb_tokenizer_destroy(s.tokenizer);
    qrb_model_destroy(s.model);
    qrb_context_destroy(s.ctx);
    free(s.tokens);
    free(memory);
    return status == QRB_OK ? 0 : 1;
}
