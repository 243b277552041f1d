/* The likeliest next token behind each of the first tokens of a text, by the
 * engine, as JSON for compare.mjs.
 *
 *     next_tokens MODEL.gguf TEXT COUNT LEAST */
#include <jansson.h>
#include <qrobust/qrobust.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEXT_MAX = 1 << 16 };

struct subject {
    qrb_context *ctx;
    qrb_model *model;
    qrb_tokenizer *tokenizer;
};

static void check(const struct subject *s, qrb_status status)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "next_tokens: %s\n", qrb_context_message(s->ctx));
    exit(EXIT_FAILURE);
}

static size_t read_text(const char *path, char *text)
{
    FILE *file = fopen(path, "rb");
    size_t size;

    if (file == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    size = fread(text, 1, TEXT_MAX - 1, file);
    fclose(file);
    text[size] = '\0';
    return size;
}

/* Index of the largest logit of each position, the first of equal ones. */
static json_t *next_tokens(const struct subject *s, const int32_t *tokens,
                           size_t count, size_t vocab)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    json_t *list = json_array();
    qrb_tensor *logits;
    const float *row;

    options.rank = 2;
    options.shape[0] = count;
    options.shape[1] = vocab;
    check(s, qrb_tensor_create(s->ctx, &options, &logits));
    check(s, qrb_engine_logits(s->model, tokens, 1, count, logits));
    row = qrb_tensor_memory(logits);
    for (size_t i = 0; i < count; i++, row += vocab) {
        size_t best = 0;

        for (size_t k = 1; k < vocab; k++)
            if (row[k] > row[best])
                best = k;
        json_array_append_new(list, json_integer((json_int_t)best));
    }
    qrb_tensor_destroy(logits);
    return list;
}

/* The text's tokens behind the one that begins texts: `count` in all. */
static json_t *describe(const struct subject *s, const char *text, size_t size,
                        size_t count)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    const int32_t bos = qrb_tokenizer_bos(s->tokenizer);
    const size_t begin = bos >= 0;
    int32_t *words;
    int32_t *tokens;
    size_t found;
    json_t *list = json_array();
    json_t *next;

    check(s, qrb_engine_get_config(s->model, &config));
    check(s, qrb_tokenizer_encode(s->tokenizer, text, size, &words, &found));
    if (count <= begin || found < count - begin || count > config.context) {
        fprintf(stderr, "next_tokens: %zu tokens of the text, %zu wanted\n",
                found, count);
        exit(EXIT_FAILURE);
    }
    tokens = calloc(count, sizeof *tokens);
    if (tokens == NULL)
        exit(EXIT_FAILURE);
    tokens[0] = bos;
    memcpy(tokens + begin, words, (count - begin) * sizeof *tokens);
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(tokens[i]));
    next = next_tokens(s, tokens, count, config.vocab);
    free(tokens);
    qrb_free(s->ctx, words);
    return json_pack("{s:s%, s:o, s:o, s:I}", "text", text, size, "tokens",
                     list, "next", next, "words",
                     (json_int_t)(count - begin));
}

int main(int argc, char **argv)
{
    static char text[TEXT_MAX];
    struct subject s = { NULL, NULL, NULL };
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    json_t *report;
    size_t size;

    if (argc != 5)
        return 2;
    size = read_text(argv[2], text);
    options.trainable = 0;
    check(&s, qrb_context_create(NULL, &s.ctx));
    check(&s, qrb_engine_open(s.ctx, argv[1], &options, &s.model));
    check(&s, qrb_tokenizer_open_path(s.ctx, argv[1], &s.tokenizer));
    report = describe(&s, text, size, (size_t)atoi(argv[3]));
    json_object_set_new(report, "model", json_string(argv[1]));
    json_object_set_new(report, "least", json_real(atof(argv[4])));
    json_dumpf(report, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(report);
    qrb_tokenizer_destroy(s.tokenizer);
    qrb_model_destroy(s.model);
    qrb_context_destroy(s.ctx);
    return EXIT_SUCCESS;
}
