/* The one parallel loop.  Tasks are dealt out in any order; what they compute
 * must not depend on it. */
#include "core/context.h"

#include <unistd.h>

#if defined(QRB_HAVE_OPENMP)
#include <omp.h>
#endif

static void run_serially(size_t tasks, qrb_task_fn fn, void *arg)
{
    for (size_t task = 0; task < tasks; task++)
        fn(task, 0, arg);
}

static void run_by_default(size_t tasks, size_t workers, qrb_task_fn fn,
                           void *arg)
{
#if defined(QRB_HAVE_OPENMP)
#pragma omp parallel for schedule(dynamic) num_threads((int)workers)
    for (size_t task = 0; task < tasks; task++)
        fn(task, (size_t)omp_get_thread_num(), arg);
#else
    (void)workers;
    run_serially(tasks, fn, arg);
#endif
}

void qrb__parallel_for(qrb_context *ctx, size_t tasks, qrb_task_fn fn,
                       void *arg)
{
    size_t workers = ctx->options.threads;

    if (workers > tasks)
        workers = tasks;
    /* A child of fork() has no threads but its own, and libgomp would wait
     * for the parent's for ever. */
    if (workers <= 1 || ctx->parallel_depth > 0 || ctx->owner != getpid()) {
        run_serially(tasks, fn, arg);
        return;
    }
    ctx->parallel_depth++;
    if (ctx->options.runner != NULL) {
        qrb__callback_begin(ctx);
        ctx->options.runner(tasks, workers, fn, arg, ctx->options.runner_user);
        qrb__callback_end(ctx);
    } else {
        run_by_default(tasks, workers, fn, arg);
    }
    ctx->parallel_depth--;
}
