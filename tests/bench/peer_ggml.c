/* ggml as a peer of bench_packed (peer.h says how they talk): products of
 * quantized matrices, and their values.
 *
 *     peer_ggml DIRECTORY [THREADS [BACKEND]]
 *
 * DIRECTORY holds libggml-base, libggml and the backends of a build of it,
 * such as the npm package @node-llama-cpp/linux-x64 brings; BACKEND picks one
 * of them (skylakex, icelake, ...) instead of the best for the processor.
 * Jobs:
 *
 *     multiply TYPE ROWS COLS TOKENS LAYERS BUFFER
 *     dequantize COLS   one row of Q4_0, a thousand times
 *
 * TYPE is q4_0, q4_k, q8_0 or f32, BUFFER 0 for weights as files have them,
 * and 1, 2, ... for the layouts that the backend makes of them.  The functions
 * that are called are declared here. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "open_library.h"
#include "rounds.h"

struct memory_options {
    size_t size;
    void *memory;
    bool no_alloc;
};

#define FUNCTIONS(X)                                                          \
    X(void *, ggml_init, (struct memory_options))                             \
    X(void, ggml_free, (void *))                                              \
    X(void *, ggml_new_tensor_2d, (void *, int, int64_t, int64_t))            \
    X(void *, ggml_get_first_tensor, (const void *))                          \
    X(void *, ggml_get_next_tensor, (const void *, void *))                   \
    X(void *, ggml_mul_mat, (void *, void *, void *))                         \
    X(void *, ggml_new_graph_custom, (void *, size_t, bool))                  \
    X(void, ggml_build_forward_expand, (void *, void *))                      \
    X(size_t, ggml_nbytes, (const void *))                                    \
    X(size_t, ggml_quantize_chunk,                                            \
      (int, const float *, void *, int64_t, int64_t, int64_t, const float *)) \
    X(void, dequantize_row_q4_0, (const void *, float *, int64_t))            \
    X(void, ggml_backend_load_all_from_path, (const char *))                  \
    X(void *, ggml_backend_load, (const char *))                              \
    X(void *, ggml_backend_init_by_type, (int, const char *))                 \
    X(void *, ggml_backend_get_device, (void *))                              \
    X(void *, ggml_backend_dev_backend_reg, (void *))                         \
    X(void *, ggml_backend_reg_get_proc_address, (void *, const char *))      \
    X(void *, ggml_backend_alloc_ctx_tensors, (void *, void *))               \
    X(void *, ggml_backend_alloc_ctx_tensors_from_buft, (void *, void *))     \
    X(void, ggml_backend_buffer_free, (void *))                               \
    X(void, ggml_backend_buffer_set_usage, (void *, int))                     \
    X(const char *, ggml_backend_buft_name, (void *))                         \
    X(void, ggml_backend_tensor_set,                                          \
      (void *, const void *, size_t, size_t))                                 \
    X(int, ggml_backend_graph_compute, (void *, void *))                      \
    X(void, ggml_log_set,                                                     \
      (void (*)(int, const char *, void *), void *))

enum { CPU = 0, WEIGHTS = 1, F32 = 0, DEQUANTIZED_ROWS = 1000 };

static const struct type {
    const char *name;
    int number;
} types[] = { { "f32", F32 }, { "q4_0", 2 }, { "q8_0", 8 }, { "q4_k", 12 } };

struct ggml {
#define MEMBER(type, name, arguments) type(*name) arguments;
    FUNCTIONS(MEMBER)
#undef MEMBER
    void *backend;
    void **layouts; /* ended by NULL */
    void *weights;  /* a context and its buffer */
    void *weight_buffer;
    void *others;
    void *other_buffer;
    void *graph;
    float *row; /* of the job dequantize */
    void *codes;
    int64_t cols;
};

static void fail(const char *what)
{
    fprintf(stderr, "peer_ggml: %s\n", what);
    exit(EXIT_FAILURE);
}

static void keep_quiet(int level, const char *text, void *user)
{
    (void)level;
    (void)text;
    (void)user;
}

static void load(char **argv, int argc, struct ggml *ggml)
{
    void *(*extra)(void *);
    void (*set_threads)(void *, int);
    void *device;
    void *symbol;
    char path[4096];

    open_library(argv[1], "libggml-base");
    open_library(argv[1], "libggml");
#define FIND(type, name, arguments)                                           \
    symbol = find_symbol(#name);                                              \
    memcpy(&ggml->name, &symbol, sizeof symbol);
    FUNCTIONS(FIND)
#undef FIND
    ggml->ggml_log_set(keep_quiet, NULL);
    if (argc > 3) {
        snprintf(path, sizeof path, "%s/libggml-cpu-%s.so", argv[1], argv[3]);
        if (ggml->ggml_backend_load(path) == NULL)
            fail(path);
    } else {
        ggml->ggml_backend_load_all_from_path(argv[1]);
    }
    ggml->backend = ggml->ggml_backend_init_by_type(CPU, NULL);
    if (ggml->backend == NULL)
        fail("no backend");
    device = ggml->ggml_backend_get_device(ggml->backend);
    symbol = ggml->ggml_backend_dev_backend_reg(device);
    memcpy(&extra, &(void *){ ggml->ggml_backend_reg_get_proc_address(
                       symbol, "ggml_backend_dev_get_extra_bufts") },
           sizeof extra);
    memcpy(&set_threads, &(void *){ ggml->ggml_backend_reg_get_proc_address(
                             symbol, "ggml_backend_set_n_threads") },
           sizeof set_threads);
    if (set_threads == NULL)
        fail("no ggml_backend_set_n_threads");
    set_threads(ggml->backend, argc > 2 ? atoi(argv[2]) : 2);
    ggml->layouts = extra == NULL ? NULL : extra(device);
}

static void release(struct ggml *ggml)
{
    if (ggml->weights != NULL) {
        ggml->ggml_backend_buffer_free(ggml->weight_buffer);
        ggml->ggml_backend_buffer_free(ggml->other_buffer);
        ggml->ggml_free(ggml->weights);
        ggml->ggml_free(ggml->others);
    }
    free(ggml->row);
    free(ggml->codes);
    ggml->weights = NULL;
    ggml->row = NULL;
    ggml->codes = NULL;
}

static float *numbers(int64_t count)
{
    float *x = malloc((size_t)count * sizeof *x);
    uint32_t state = 1;

    if (x == NULL)
        fail("no memory");
    for (int64_t i = 0; i < count; i++) {
        state = state * 1664525u + 1013904223u;
        x[i] = (float)(state >> 8) * 0x1p-24f - 0.5f;
    }
    return x;
}

static void *layout(const struct ggml *ggml, int index)
{
    if (ggml->layouts == NULL)
        return NULL;
    for (int i = 0; i < index - 1; i++)
        if (ggml->layouts[i] == NULL)
            return NULL;
    return ggml->layouts[index - 1];
}

static bool prepare(struct ggml *ggml, int type, int64_t rows, int64_t cols,
                    int64_t tokens, int layers, int buffer)
{
    const struct memory_options options = { (size_t)1 << 24, NULL, true };
    float *values;
    void *codes;
    void *x;
    size_t size = 0;

    if (buffer > 0 && layout(ggml, buffer) == NULL)
        return false;
    ggml->weights = ggml->ggml_init(options);
    ggml->others = ggml->ggml_init(options);
    ggml->graph = ggml->ggml_new_graph_custom(ggml->others, 4096, false);
    x = ggml->ggml_new_tensor_2d(ggml->others, F32, cols, tokens);
    values = numbers(rows * cols);
    codes = malloc((size_t)(rows * cols) * sizeof(float));
    if (codes == NULL)
        fail("no memory");
    ggml->ggml_quantize_chunk(type, values, codes, 0, rows, cols, NULL);
    for (int i = 0; i < layers; i++) {
        void *w = ggml->ggml_new_tensor_2d(ggml->weights, type, cols, rows);

        ggml->ggml_build_forward_expand(
            ggml->graph, ggml->ggml_mul_mat(ggml->others, w, x));
        size = ggml->ggml_nbytes(w);
    }
    ggml->weight_buffer =
        buffer > 0 ? ggml->ggml_backend_alloc_ctx_tensors_from_buft(
                         ggml->weights, layout(ggml, buffer))
                   : ggml->ggml_backend_alloc_ctx_tensors(ggml->weights,
                                                          ggml->backend);
    ggml->other_buffer =
        ggml->ggml_backend_alloc_ctx_tensors(ggml->others, ggml->backend);
    if (ggml->weight_buffer == NULL || ggml->other_buffer == NULL)
        fail("no memory");
    ggml->ggml_backend_buffer_set_usage(ggml->weight_buffer, WEIGHTS);
    fprintf(stderr, "peer_ggml: %s, %.0f MB\n",
            buffer > 0 ? ggml->ggml_backend_buft_name(layout(ggml, buffer))
                       : "plain",
            1e-6 * (double)size * layers);
    free(values);
    values = numbers(tokens * cols);
    ggml->ggml_backend_tensor_set(x, values, 0,
                                  (size_t)(tokens * cols) * sizeof *values);
    free(values);
    for (void *w = ggml->ggml_get_first_tensor(ggml->weights); w != NULL;
         w = ggml->ggml_get_next_tensor(ggml->weights, w))
        ggml->ggml_backend_tensor_set(w, codes, 0, size);
    free(codes);
    return true;
}

static void multiply(void *arg)
{
    struct ggml *ggml = arg;

    if (ggml->ggml_backend_graph_compute(ggml->backend, ggml->graph) != 0)
        fail("a product failed");
}

static void dequantize(void *arg)
{
    struct ggml *ggml = arg;

    for (int i = 0; i < DEQUANTIZED_ROWS; i++)
        ggml->dequantize_row_q4_0(ggml->codes, ggml->row, ggml->cols);
}

static bool take_job(struct ggml *ggml, const char *line)
{
    char name[16];
    int64_t rows;
    int64_t cols;
    int64_t tokens;
    int layers;
    int buffer;

    if (sscanf(line, "dequantize %ld", &cols) == 1) {
        ggml->cols = cols;
        ggml->row = numbers(cols);
        ggml->codes = malloc((size_t)cols);
        ggml->ggml_quantize_chunk(2, ggml->row, ggml->codes, 0, 1, cols, NULL);
        return true;
    }
    if (sscanf(line, "multiply %15s %ld %ld %ld %d %d", name, &rows, &cols,
               &tokens, &layers, &buffer) != 6)
        return false;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(name, types[i].name) == 0)
            return prepare(ggml, types[i].number, rows, cols, tokens, layers,
                           buffer);
    return false;
}

int main(int argc, char **argv)
{
    struct ggml ggml = { 0 };
    char line[256];
    double seconds;

    if (argc < 2)
        fail("usage: peer_ggml DIRECTORY [THREADS [BACKEND]]");
    load(argv, argc, &ggml);
    puts("ggml");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (sscanf(line, "go %lf", &seconds) == 1) {
            const struct figure figure = take_turn(
                ggml.row != NULL ? dequantize : multiply, &ggml, seconds);

            printf("%.9f %.9f\n", figure.best, figure.median);
        } else {
            release(&ggml);
            puts(take_job(&ggml, line) ? "ready" : "none");
        }
        fflush(stdout);
    }
    release(&ggml);
    return EXIT_SUCCESS;
}
