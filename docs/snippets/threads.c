/* Threads of the host: a runner on POSIX threads, and the same bits with it. */
#include "snippet.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* [begin runner] */
struct loop {
    atomic_size_t next;
    size_t tasks;
    qrb_task_fn run;
    void *arg;
};

struct worker {
    struct loop *loop;
    size_t number;
    pthread_t thread;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct loop *loop = worker->loop;
    size_t task;

    while ((task = atomic_fetch_add(&loop->next, 1)) < loop->tasks)
        loop->run(task, worker->number, loop->arg);
    return NULL;
}

/* A host with a pool of its own hands the tasks to that instead. */
static void run_loop(size_t tasks, size_t workers, qrb_task_fn run, void *arg,
                     void *user)
{
    struct worker crew[8];
    struct loop loop = { 0, tasks, run, arg };
    size_t started = 1;

    (void)user;
    crew[0] = (struct worker){ &loop, 0, pthread_self() };
    for (size_t i = 1; i < workers && i < 8; i++) {
        crew[i] = (struct worker){ &loop, i, pthread_self() };
        if (pthread_create(&crew[i].thread, NULL, work, &crew[i]) != 0)
            break;
        started++;
    }
    work(&crew[0]); /* the thread that called the library works, too */
    for (size_t i = 1; i < started; i++)
        pthread_join(crew[i].thread, NULL);
}
/* [end runner] */

static void round_matrix(size_t threads, qrb_runner_fn runner, float *w)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_quantizer *quantizer;
    qrb_tensor *matrix;

    /* [begin use] */
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;

    options.threads = threads;
    options.runner = runner;
    must(NULL, qrb_context_create(&options, &ctx));
    /* [end use] */
    for (int i = 0; i < 512 * 512; i++)
        w[i] = (float)(i * 37 % 1009 - 504) / 504.0f;
    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = shape.shape[1] = 512;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    must(ctx, qrb_quantizer_create_named(ctx, "rtn3g64", &quantizer));
    must(ctx, qrb_quantizer_fake(quantizer, matrix));
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
}

int main(void)
{
    static float one[512 * 512];
    static float four[512 * 512];

    round_matrix(1, NULL, one);
    round_matrix(4, run_loop, four);
    printf("%s bits with four threads as with one\n",
           memcmp(one, four, sizeof one) == 0 ? "the same" : "OTHER");
    return 0;
}
