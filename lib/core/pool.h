/* Threads of a context: what runs its parallel loops unless the host lends a
 * runner.  They start with the first loop that needs them, wait briefly
 * between loops and then sleep, so that a waiting context costs nothing to
 * whoever shares the machine. */
#ifndef QRB_CORE_POOL_H
#define QRB_CORE_POOL_H

#include <qrobust/context.h>

struct qrb__pool;

/* Memory for a pool of `threads` workers, the caller of its loops among them;
 * no thread yet.  NULL: out of memory. */
struct qrb__pool *qrb__pool_create(qrb_context *ctx, size_t threads);

/* End the threads.  In a child of fork() they do not exist: not `started`. */
void qrb__pool_destroy(qrb_context *ctx, struct qrb__pool *pool, bool started);

/* Run fn for each task; the calling thread is worker 0.  One loop at a time. */
void qrb__pool_run(struct qrb__pool *pool, size_t tasks, qrb_task_fn fn,
                   void *arg);

#endif
