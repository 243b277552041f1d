/* Contexts are independent: one a thread needs no locks. */
#include "snippet.h"

#include <pthread.h>
#include <string.h>

/* [begin work] */
struct job {
    const char *name; /* of a quantizer */
    float w[64 * 64];
};

static void *round_in_thread(void *arg)
{
    struct job *job = arg;
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_tensor *matrix;
    qrb_quantizer *quantizer;

    options.threads = 1; /* the host has threads enough */
    must(NULL, qrb_context_create(&options, &ctx));
    shape.memory = job->w;
    shape.rank = 2;
    shape.shape[0] = shape.shape[1] = 64;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    must(ctx, qrb_quantizer_create_named(ctx, job->name, &quantizer));
    must(ctx, qrb_quantizer_fake(quantizer, matrix));
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return NULL;
}
/* [end work] */

int main(void)
{
    static struct job jobs[2] = { { "nf4", { 0 } }, { "int8", { 0 } } };
    pthread_t threads[2];

    for (int i = 0; i < 64 * 64; i++)
        jobs[0].w[i] = jobs[1].w[i] = (float)(i * 37 % 101 - 50) / 50;
    for (int i = 0; i < 2; i++)
        if (pthread_create(&threads[i], NULL, round_in_thread, &jobs[i]) != 0)
            return 1;
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++)
        printf("-0.26 as %s: %.4f\n", jobs[i].name, (double)jobs[i].w[1]);
    return 0;
}
