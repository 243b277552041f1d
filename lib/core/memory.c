/* Zeroed memory on 64-byte boundaries from the host's allocator: a block
 * starts with padding whose length stands right before the aligned part. */
#include "core/memory.h"

#include <stdlib.h>
#include <string.h>

#include "core/context.h"

enum { ALIGNMENT = 64 };

static void *default_alloc(size_t count, size_t size, void *user)
{
    (void)user;
    return malloc(count * size);
}

static void default_release(void *memory, void *user)
{
    (void)user;
    free(memory);
}

void qrb__memory_defaults(qrb_context_options *options)
{
    if (options->alloc == NULL) {
        options->alloc = default_alloc;
        options->release = default_release;
    }
}

bool qrb__mul_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

bool qrb__add_size(size_t a, size_t b, size_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

void *qrb__alloc_array(qrb_context *ctx, size_t count, size_t size)
{
    size_t bytes;
    size_t total;
    unsigned char *block;
    unsigned char *aligned;

    if (!qrb__mul_size(count, size, &bytes) || bytes == 0 ||
        !qrb__add_size(bytes, 2 * ALIGNMENT, &total))
        return NULL;
    qrb__callback_begin(ctx);
    block = ctx->options.alloc(1, total, ctx->options.alloc_user);
    qrb__callback_end(ctx);
    if (block == NULL)
        return NULL;
    aligned = block + sizeof(void *);
    aligned += (size_t)(-(uintptr_t)aligned & (ALIGNMENT - 1));
    memcpy(aligned - sizeof(void *), &block, sizeof block);
    memset(aligned, 0, bytes);
    return aligned;
}

void *qrb__grow_array(qrb_context *ctx, void *memory, size_t old_count,
                      size_t count, size_t size)
{
    void *grown = qrb__alloc_array(ctx, count, size);

    if (grown == NULL)
        return NULL;
    if (memory != NULL)
        memcpy(grown, memory, (old_count < count ? old_count : count) * size);
    qrb__free(ctx, memory);
    return grown;
}

void qrb__memory_release(const qrb_context_options *options, void *memory)
{
    void *block;

    memcpy(&block, (unsigned char *)memory - sizeof block, sizeof block);
    options->release(block, options->alloc_user);
}

void qrb__free(qrb_context *ctx, void *memory)
{
    if (memory == NULL)
        return;
    qrb__callback_begin(ctx);
    qrb__memory_release(&ctx->options, memory);
    qrb__callback_end(ctx);
}

void qrb_free(qrb_context *ctx, void *memory)
{
    if (ctx != NULL)
        qrb__free(ctx, memory);
}

char *qrb__strdup(qrb_context *ctx, const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = qrb__alloc_array(ctx, size, 1);

    if (copy != NULL)
        memcpy(copy, text, size);
    return copy;
}
