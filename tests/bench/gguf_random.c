/* The layout of GGUF version 3: header, metadata, tensor list, data aligned to
 * 32 bytes.  Weights are uniform with the deviation that training starts from.
 */
#include "gguf_random.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TYPE_U32 = 4, TYPE_F32 = 6, TYPE_STRING = 8, ALIGNMENT = 32,
       BLOCK_TENSORS = 9 };

struct writer {
    FILE *file;
    uint64_t tensors;
    uint64_t offset; /* of the next tensor's data */
    uint32_t random;
};

static void put(struct writer *w, const void *bytes, size_t size)
{
    if (fwrite(bytes, 1, size, w->file) != size) {
        perror("gguf_random");
        exit(EXIT_FAILURE);
    }
}

static void put_u32(struct writer *w, uint32_t value)
{
    put(w, &value, sizeof value);
}

static void put_u64(struct writer *w, uint64_t value)
{
    put(w, &value, sizeof value);
}

static void put_text(struct writer *w, const char *text)
{
    put_u64(w, strlen(text));
    put(w, text, strlen(text));
}

static void put_count(struct writer *w, const char *key, size_t value)
{
    put_text(w, key);
    put_u32(w, TYPE_U32);
    put_u32(w, (uint32_t)value);
}

static void put_real(struct writer *w, const char *key, float value)
{
    put_text(w, key);
    put_u32(w, TYPE_F32);
    put(w, &value, sizeof value);
}

static void put_string(struct writer *w, const char *key, const char *value)
{
    put_text(w, key);
    put_u32(w, TYPE_STRING);
    put_text(w, value);
}

static uint64_t padded(uint64_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void put_metadata(struct writer *w, const struct shape *s)
{
    put_string(w, "general.architecture", "llama");
    put_string(w, "tokenizer.ggml.model", "none");
    put_count(w, "llama.vocab_size", s->vocab);
    put_count(w, "llama.block_count", s->layers);
    put_count(w, "llama.context_length", s->length);
    put_count(w, "llama.embedding_length", s->dim);
    put_count(w, "llama.feed_forward_length", s->hidden);
    put_count(w, "llama.attention.head_count", s->heads);
    put_count(w, "llama.attention.head_count_kv", s->kv_heads);
    put_count(w, "llama.rope.dimension_count", s->dim / s->heads);
    put_real(w, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    put_real(w, "llama.rope.freq_base", 10000.0f);
}

enum { METADATA = 12 }; /* how many keys that is */

typedef void (*tensor_fn)(struct writer *w, const char *name, size_t rows,
                          size_t columns);

static void put_entry(struct writer *w, const char *name, size_t rows,
                      size_t columns)
{
    put_text(w, name);
    put_u32(w, rows == 1 ? 1 : 2);
    put_u64(w, columns);
    if (rows > 1)
        put_u64(w, rows);
    put_u32(w, 0); /* float */
    put_u64(w, w->offset);
    w->offset += padded(rows * columns * sizeof(float));
    w->tensors++;
}

static void put_weights(struct writer *w, const char *name, size_t rows,
                        size_t columns)
{
    static const char zeros[ALIGNMENT];
    const uint64_t bytes = rows * columns * sizeof(float);

    (void)name;
    for (size_t i = 0; i < rows * columns; i++) {
        float weight = 1;

        w->random = w->random * 1664525u + 1013904223u;
        if (rows > 1)
            weight = 0.035f * ((float)(w->random >> 8) * 0x1p-23f - 1);
        put(w, &weight, sizeof weight);
    }
    put(w, zeros, (size_t)(padded(bytes) - bytes));
}

static void each_tensor(struct writer *w, const struct shape *s, tensor_fn fn)
{
    const size_t keys = s->dim / s->heads * s->kv_heads;
    const struct {
        const char *name;
        size_t rows;
        size_t columns;
    } block[BLOCK_TENSORS] = {
        { "attn_norm", 1, s->dim },      { "attn_q", s->dim, s->dim },
        { "attn_k", keys, s->dim },      { "attn_v", keys, s->dim },
        { "attn_output", s->dim, s->dim }, { "ffn_norm", 1, s->dim },
        { "ffn_gate", s->hidden, s->dim }, { "ffn_up", s->hidden, s->dim },
        { "ffn_down", s->dim, s->hidden },
    };
    char name[64];

    fn(w, "token_embd.weight", s->vocab, s->dim);
    fn(w, "output_norm.weight", 1, s->dim);
    for (size_t layer = 0; layer < s->layers; layer++)
        for (size_t i = 0; i < BLOCK_TENSORS; i++) {
            snprintf(name, sizeof name, "blk.%zu.%s.weight", layer,
                     block[i].name);
            fn(w, name, block[i].rows, block[i].columns);
        }
}

void gguf_random(const struct shape *shape, const char *path)
{
    static const char zeros[ALIGNMENT];
    struct writer w = { .file = fopen(path, "wb"), .random = 1 };
    long at;

    if (w.file == NULL) {
        perror(path);
        exit(EXIT_FAILURE);
    }
    put(&w, "GGUF", 4);
    put_u32(&w, 3);
    put_u64(&w, 2 + shape->layers * BLOCK_TENSORS);
    put_u64(&w, METADATA);
    put_metadata(&w, shape);
    each_tensor(&w, shape, put_entry);
    at = ftell(w.file);
    put(&w, zeros, (size_t)(padded((uint64_t)at) - (uint64_t)at));
    each_tensor(&w, shape, put_weights);
    if (fclose(w.file) != 0) {
        perror(path);
        exit(EXIT_FAILURE);
    }
}
