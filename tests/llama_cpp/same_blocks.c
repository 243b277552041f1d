/* Blocks of GGUF beside those of a build of llama.cpp: the same bytes out of
 * the same values, and the same values out of the same bytes.
 *
 *     same_blocks LIBGGML_BASE.so */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/gguf_blocks.h"

enum { COUNT = 65536, BYTES = 4 * COUNT, SCALES = 4 };

typedef size_t (*quantize_fn)(int type, const float *values, void *out,
                              int64_t start, int64_t rows, int64_t columns,
                              const float *importance);
typedef void (*dequantize_fn)(const void *bytes, float *out, int64_t count);

static const struct {
    uint32_t type;
    int writes; /* ours is the same rounding */
    const char *dequantize;
} cases[] = {
    { QRB__GGUF_Q4_0, 1, "dequantize_row_q4_0" },
    { QRB__GGUF_Q4_1, 1, "dequantize_row_q4_1" },
    { QRB__GGUF_Q5_0, 1, "dequantize_row_q5_0" },
    { QRB__GGUF_Q5_1, 1, "dequantize_row_q5_1" },
    { QRB__GGUF_Q8_0, 1, "dequantize_row_q8_0" },
    { QRB__GGUF_Q4_K, 0, "dequantize_row_q4_K" },
    { QRB__GGUF_Q6_K, 0, "dequantize_row_q6_K" },
};
enum { CASES = sizeof cases / sizeof *cases };

/* The function of a name, through the memory of a pointer: ISO C has no
 * conversion from one to the other. */
static void find(void *library, const char *name, void *out)
{
    void *symbol = dlsym(library, name);

    if (symbol == NULL) {
        fprintf(stderr, "same_blocks: there is no %s\n", name);
        exit(EXIT_FAILURE);
    }
    memcpy(out, &symbol, sizeof symbol);
}

static int compare(void *library, size_t i, const float *values)
{
    static unsigned char theirs[BYTES];
    static unsigned char ours[BYTES];
    static float their_values[COUNT];
    static float our_values[COUNT];
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(cases[i].type);
    const size_t blocks = COUNT / layout->block;
    quantize_fn quantize;
    dequantize_fn dequantize;

    find(library, "ggml_quantize_chunk", &quantize);
    find(library, cases[i].dequantize, &dequantize);
    if (quantize((int)cases[i].type, values, theirs, 0, 1, COUNT, NULL) !=
        blocks * layout->bytes) {
        printf("FAIL %s: blocks have another size\n", layout->name);
        return 1;
    }
    if (cases[i].writes &&
        (!qrb__gguf_quantize(layout, values, blocks, ours) ||
         memcmp(ours, theirs, blocks * layout->bytes) != 0)) {
        printf("FAIL %s: other bytes\n", layout->name);
        return 1;
    }
    dequantize(theirs, their_values, COUNT);
    qrb__gguf_decode(layout, theirs, blocks, our_values);
    if (memcmp(our_values, their_values, sizeof our_values) != 0) {
        printf("FAIL %s: other values\n", layout->name);
        return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    static const struct {
        float scale;
        float offset;
    } spreads[SCALES] = { { 1, 0 }, { 0.03f, 0 }, { 1, 1 }, { 1e-5f, 0 } };
    static float values[COUNT];
    void *library = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    uint32_t seed = 1;
    int failed = 0;

    if (library == NULL) {
        fprintf(stderr, "same_blocks: %s\n", argc == 2 ? dlerror() : "usage");
        return EXIT_FAILURE;
    }
    for (size_t k = 0; k < SCALES; k++) {
        for (size_t i = 0; i < COUNT; i++) {
            seed = 1664525u * seed + 1013904223u;
            values[i] = (float)(seed / 4294967296.0 - 0.5) * spreads[k].scale +
                        spreads[k].offset;
        }
        for (size_t i = 0; i < CASES; i++)
            failed += compare(library, i, values);
    }
    if (failed == 0)
        printf("  100 %% of the blocks of %d types are llama.cpp's\n", CASES);
    dlclose(library);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
