/* llama.cpp as a peer of bench_engine (peer.h says how they talk): the logits
 * of every position of one prompt, by a float model of the same shape with
 * random weights.
 *
 *     peer_llama DIRECTORY [THREADS]
 *
 * DIRECTORY holds libllama, libggml and the backends of a build of it, such as
 * the npm package @node-llama-cpp/linux-x64 brings.  The few functions that
 * are called are declared here.  Options are passed by value and begin with
 * what the library itself fills in, so a block that is larger than them does. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf_random.h"
#include "open_library.h"
#include "rounds.h"

/* Larger than either options struct; unknown inside. */
struct llama_options {
    uint64_t words[64];
};

struct llama_batch {
    int32_t count;
    int32_t *tokens;
    float *embeddings;
    int32_t *positions;
    int32_t *sequence_counts;
    int32_t **sequences;
    int8_t *logits;
};

#define FUNCTIONS(X)                                                          \
    X(void, llama_backend_init, (void))                                       \
    X(void, llama_log_set,                                                    \
      (void (*)(int, const char *, void *), void *))                          \
    X(struct llama_options, llama_model_default_params, (void))               \
    X(struct llama_options, llama_context_default_params, (void))             \
    X(void *, llama_model_load_from_file,                                     \
      (const char *, struct llama_options))                                   \
    X(void *, llama_init_from_model, (void *, struct llama_options))          \
    X(void, llama_model_free, (void *))                                       \
    X(void, llama_free, (void *))                                             \
    X(void, llama_set_n_threads, (void *, int32_t, int32_t))                  \
    X(uint32_t, llama_n_ubatch, (const void *))                               \
    X(void *, llama_get_memory, (const void *))                               \
    X(void, llama_memory_clear, (void *, bool))                               \
    X(struct llama_batch, llama_batch_init, (int32_t, int32_t, int32_t))      \
    X(void, llama_batch_free, (struct llama_batch))                           \
    X(int32_t, llama_decode, (void *, struct llama_batch))                    \
    X(float *, llama_get_logits, (void *))                                    \
    X(void, ggml_backend_load_all_from_path, (const char *))

struct llama {
#define MEMBER(type, name, arguments) type(*name) arguments;
    FUNCTIONS(MEMBER)
#undef MEMBER
    void *model;
    void *context;
    struct llama_batch batch;
    int32_t threads;
    float kept;
};

static void fail(const char *what)
{
    fprintf(stderr, "peer_llama: %s\n", what);
    exit(EXIT_FAILURE);
}

static void load(const char *directory, struct llama *llama)
{
    void *symbol;

    open_library(directory, "libggml-base");
    open_library(directory, "libggml");
    open_library(directory, "libllama");
#define FIND(type, name, arguments)                                           \
    symbol = find_symbol(#name);                                              \
    memcpy(&llama->name, &symbol, sizeof symbol);
    FUNCTIONS(FIND)
#undef FIND
}

static void keep_quiet(int level, const char *text, void *user)
{
    (void)level;
    (void)text;
    (void)user;
}

static void release(struct llama *llama)
{
    if (llama->context == NULL)
        return;
    llama->llama_batch_free(llama->batch);
    llama->llama_free(llama->context);
    llama->llama_model_free(llama->model);
    llama->context = NULL;
}

static void prepare(struct llama *llama, const struct shape *shape)
{
    char path[] = "/tmp/bench_llama_XXXXXX";
    const int32_t length = (int32_t)shape->length;
    const int file = mkstemp(path);

    if (file < 0)
        fail("no temporary file");
    close(file);
    gguf_random(shape, path);
    llama->model = llama->llama_model_load_from_file(
        path, llama->llama_model_default_params());
    if (llama->model == NULL)
        fail("the model is refused");
    llama->context = llama->llama_init_from_model(
        llama->model, llama->llama_context_default_params());
    unlink(path);
    if (llama->context == NULL)
        fail("no context");
    if (llama->llama_n_ubatch(llama->context) < shape->length)
        fail("the prompt is cut");
    llama->llama_set_n_threads(llama->context, llama->threads, llama->threads);
    llama->batch = llama->llama_batch_init(length, 0, 1);
    llama->batch.count = length;
    for (int32_t i = 0; i < length; i++) {
        llama->batch.tokens[i] =
            (int32_t)((uint32_t)i * 2654435761u % shape->vocab);
        llama->batch.positions[i] = i;
        llama->batch.sequence_counts[i] = 1;
        llama->batch.sequences[i][0] = 0;
        llama->batch.logits[i] = 1;
    }
}

static void run(void *arg)
{
    struct llama *llama = arg;

    llama->llama_memory_clear(llama->llama_get_memory(llama->context), true);
    if (llama->llama_decode(llama->context, llama->batch) != 0)
        fail("a batch failed");
    llama->kept += llama->llama_get_logits(llama->context)[0];
}

static void answer(struct llama *llama, const char *line)
{
    struct shape s = { 0 };
    double seconds;

    if (sscanf(line, "go %lf", &seconds) == 1) {
        const struct figure figure = take_turn(run, llama, seconds);

        printf("%.9f %.9f\n", figure.best, figure.median);
        return;
    }
    release(llama);
    if (sscanf(line, "logits %zu %zu %zu %zu %zu %zu %zu %zu", &s.dim,
               &s.layers, &s.heads, &s.kv_heads, &s.hidden, &s.vocab,
               &s.sequences, &s.length) != 8 ||
        s.sequences != 1) {
        puts("none");
        return;
    }
    prepare(llama, &s);
    puts("ready");
}

int main(int argc, char **argv)
{
    struct llama llama = { .threads = argc > 2 ? atoi(argv[2]) : 2 };
    char line[256];

    if (argc < 2)
        fail("usage: peer_llama DIRECTORY [THREADS]");
    load(argv[1], &llama);
    llama.llama_log_set(keep_quiet, NULL);
    llama.ggml_backend_load_all_from_path(argv[1]);
    llama.llama_backend_init();
    puts("llama.cpp");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        answer(&llama, line);
        fflush(stdout);
    }
    release(&llama);
    return EXIT_SUCCESS;
}
