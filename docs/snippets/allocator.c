/* Memory of the host: an allocator that counts, and stops at a limit. */
#include "snippet.h"

#include <stddef.h>

/* [begin allocator] */
struct arena {
    size_t used;
    size_t limit;
    size_t largest;
};

/* The size goes in front of each block, in as much as keeps it aligned. */
enum { HEAD = sizeof(max_align_t) };

static void *take(size_t count, size_t size, void *user)
{
    struct arena *arena = user;
    const size_t bytes = count * size; /* does not overflow */
    char *block;

    if (bytes > arena->limit - arena->used)
        return NULL;
    block = malloc(HEAD + bytes);
    if (block == NULL)
        return NULL;
    *(size_t *)(void *)block = bytes;
    arena->used += bytes;
    if (arena->used > arena->largest)
        arena->largest = arena->used;
    return block + HEAD;
}

static void give(void *memory, void *user)
{
    struct arena *arena = user;
    char *block = (char *)memory - HEAD;

    arena->used -= *(size_t *)(void *)block;
    free(block);
}
/* [end allocator] */

int main(void)
{
    /* [begin use] */
    struct arena arena = { 0, 100000, 0 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_tensor *small;
    qrb_tensor *large;
    qrb_status status;

    options.alloc = take;
    options.release = give;
    options.alloc_user = &arena;
    must(NULL, qrb_context_create(&options, &ctx));
    shape.rank = 2;
    shape.shape[0] = shape.shape[1] = 100;
    must(ctx, qrb_tensor_create(ctx, &shape, &small)); /* owns 40,000 bytes */
    shape.shape[0] = 1000;
    status = qrb_tensor_create(ctx, &shape, &large);
    printf("%s, large is %s\n", qrb_status_name(status),
           large == NULL ? "NULL" : "there");
    qrb_tensor_destroy(large);
    qrb_tensor_destroy(small);
    qrb_context_destroy(ctx);
    printf("in use at the end: %zu\n", arena.used);
    /* [end use] */
    return arena.largest < 40000;
}
