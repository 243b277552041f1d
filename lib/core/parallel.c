/* The one parallel loop.  Tasks are dealt out in any order; what they compute
 * must not depend on it, nor on the floating-point settings of the thread that
 * they land on: a host may have changed its own, and threads of a pool keep
 * those of the moment that they were made. */
#include "core/context.h"

#include <unistd.h>

#if defined(QRB_HAVE_OPENMP)
#include <omp.h>
#endif

#include "core/pool.h"
#include "core/rounding.h"

static void run_serially(size_t tasks, qrb_task_fn fn, void *arg)
{
    for (size_t task = 0; task < tasks; task++)
        fn(task, 0, arg);
}

/* A task on a thread of the host's runner. */
struct lent {
    qrb_task_fn fn;
    void *arg;
};

static void run_lent(size_t task, size_t worker, void *arg)
{
    const struct lent *lent = arg;
    fenv_t host;

    qrb__rounding_begin(&host);
    lent->fn(task, worker, lent->arg);
    qrb__rounding_end(&host);
}

#if defined(QRB_HAVE_OPENMP)
static void run_on_openmp(size_t tasks, size_t workers, qrb_task_fn fn,
                          void *arg)
{
#pragma omp parallel num_threads((int)workers)
    {
        fenv_t host;

        qrb__rounding_begin(&host);
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < tasks; task++)
            fn(task, (size_t)omp_get_thread_num(), arg);
        qrb__rounding_end(&host);
    }
}
#endif

static void run_in_parallel(qrb_context *ctx, size_t tasks, size_t workers,
                            qrb_task_fn fn, void *arg)
{
    if (ctx->options.runner != NULL) {
        struct lent lent = { fn, arg };

        qrb__callback_begin(ctx);
        ctx->options.runner(tasks, workers, run_lent, &lent,
                            ctx->options.runner_user);
        qrb__callback_end(ctx);
        return;
    }
#if defined(QRB_HAVE_OPENMP)
    run_on_openmp(tasks, workers, fn, arg);
#else
    qrb__pool_run(ctx->pool, tasks, fn, arg);
#endif
}

void qrb__parallel_for(qrb_context *ctx, size_t tasks, qrb_task_fn fn,
                       void *arg)
{
    const size_t threads = ctx->options.threads;
    fenv_t host;

    if (ctx->parallel_depth > 0) {
        run_serially(tasks, fn, arg);
        return;
    }
    /* What is inside of one task alone may be parallel itself; whether it is
     * inside must not depend on the number of threads. */
    ctx->parallel_depth = tasks > 1;
    /* A child of fork() has no threads but its own. */
    if (tasks > 1 && threads > 1 && ctx->owner == getpid()) {
        run_in_parallel(ctx, tasks, threads < tasks ? threads : tasks, fn,
                        arg);
    } else {
        qrb__rounding_begin(&host);
        run_serially(tasks, fn, arg);
        qrb__rounding_end(&host);
    }
    ctx->parallel_depth = 0;
}
