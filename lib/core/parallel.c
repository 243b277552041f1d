/* The one parallel loop.  Tasks are dealt out in any order; what they compute
 * must not depend on it. */
#include "core/context.h"

#if defined(QRB_HAVE_OPENMP)
#include <omp.h>
#endif

static void run_serially(size_t tasks, qrb_task_fn fn, void *arg)
{
    for (size_t task = 0; task < tasks; task++)
        fn(task, 0, arg);
}

#if defined(QRB_HAVE_OPENMP)
static void run_openmp(size_t tasks, size_t workers, qrb_task_fn fn, void *arg)
{
#pragma omp parallel for schedule(dynamic) num_threads((int)workers)
    for (size_t task = 0; task < tasks; task++)
        fn(task, (size_t)omp_get_thread_num(), arg);
}
#endif

void qrb__parallel_for(qrb_context *ctx, size_t tasks, qrb_task_fn fn,
                       void *arg)
{
    size_t workers = ctx->options.threads;

    if (workers > tasks)
        workers = tasks;
    if (ctx->parallel_depth > 0 || workers <= 1) {
        run_serially(tasks, fn, arg);
        return;
    }
    ctx->parallel_depth++;
    if (ctx->options.runner != NULL)
        ctx->options.runner(tasks, workers, fn, arg, ctx->options.runner_user);
#if defined(QRB_HAVE_OPENMP)
    else
        run_openmp(tasks, workers, fn, arg);
#else
    else
        run_serially(tasks, fn, arg);
#endif
    ctx->parallel_depth--;
}
