/* The one parallel loop.  Tasks are dealt out in any order; what they compute
 * must not depend on it, nor on the floating-point settings of the thread that
 * they land on: a host may have changed its own, and threads of a pool keep
 * those of the moment that they were made. */
#include "core/context.h"

#include <unistd.h>

#if defined(QRB_HAVE_OPENMP)
#include <omp.h>
#endif

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

static void run_by_default(size_t tasks, size_t workers, qrb_task_fn fn,
                           void *arg)
{
#if defined(QRB_HAVE_OPENMP)
#pragma omp parallel num_threads((int)workers)
    {
        fenv_t host;

        qrb__rounding_begin(&host);
#pragma omp for schedule(dynamic)
        for (size_t task = 0; task < tasks; task++)
            fn(task, (size_t)omp_get_thread_num(), arg);
        qrb__rounding_end(&host);
    }
#else
    fenv_t host;

    (void)workers;
    qrb__rounding_begin(&host);
    run_serially(tasks, fn, arg);
    qrb__rounding_end(&host);
#endif
}

void qrb__parallel_for(qrb_context *ctx, size_t tasks, qrb_task_fn fn,
                       void *arg)
{
    size_t workers = ctx->options.threads;

    if (ctx->parallel_depth > 0) {
        run_serially(tasks, fn, arg);
        return;
    }
    if (workers > tasks)
        workers = tasks;
    /* A child of fork() has no threads but its own, and libgomp would wait
     * for the parent's for ever. */
    if (workers <= 1 || ctx->owner != getpid()) {
        fenv_t host;

        qrb__rounding_begin(&host);
        run_serially(tasks, fn, arg);
        qrb__rounding_end(&host);
        return;
    }
    ctx->parallel_depth++;
    if (ctx->options.runner != NULL) {
        struct lent lent = { fn, arg };

        qrb__callback_begin(ctx);
        ctx->options.runner(tasks, workers, run_lent, &lent,
                            ctx->options.runner_user);
        qrb__callback_end(ctx);
    } else {
        run_by_default(tasks, workers, fn, arg);
    }
    ctx->parallel_depth--;
}
