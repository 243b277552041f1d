/* A loop is published in one atomic word: its number, how many threads have
 * ever joined, how many still work, and whether it is closed.  A thread that
 * wakes up late finds it closed and stays out, so that a loop never waits for
 * a thread that the system does not let run, only for tasks in progress. */
#include "core/context.h"

#include <pthread.h>
#include <signal.h>

#include "core/pool.h"
#include "core/rounding.h"

enum {
    SPINS = 1000,                /* of `pause`: 5 to 50 microseconds */
    STACK = 2 * 1024 * 1024      /* bytes; kernels take QRB__PRODUCT_STACK */
};

/* The word: loop number | closed | joined | active. */
#define ACTIVE UINT64_C(0x7fff)
#define JOIN (UINT64_C(1) << 15 | 1) /* one more joined, and active */
#define JOINED(state) ((size_t)((state) >> 15 & 0x7fff))
#define CLOSED (UINT64_C(1) << 30)
#define LOOP(state) ((uint32_t)((state) >> 32))

struct qrb__pool {
    size_t helpers; /* threads beside the caller: wanted, then running */
    bool started;
    pthread_mutex_t lock; /* of the two conditions below */
    pthread_cond_t published;
    pthread_cond_t finished;
    atomic_size_t sleepers; /* helpers that need the first condition */
    atomic_bool waiting;    /* the caller needs the second */
    atomic_bool ending;
    atomic_uint_fast64_t state;
    /* The loop; constant while it is open or anyone is active in it. */
    qrb_task_fn fn;
    void *arg;
    size_t tasks;
    atomic_size_t next;
    pthread_t threads[];
};

static inline void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

static void run_tasks(struct qrb__pool *pool, size_t worker)
{
    const size_t tasks = pool->tasks;
    fenv_t host;

    qrb__rounding_begin(&host);
    for (;;) {
        const size_t task =
            atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);

        if (task >= tasks)
            break;
        pool->fn(task, worker, pool->arg);
    }
    qrb__rounding_end(&host);
}

/* Wait until a loop after number `seen` is there; its number. */
static uint32_t next_loop(struct qrb__pool *pool, uint32_t seen)
{
    for (int i = 0; i < SPINS; i++) {
        const uint32_t loop = LOOP(atomic_load(&pool->state));

        if (loop != seen || atomic_load(&pool->ending))
            return loop;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (LOOP(atomic_load(&pool->state)) == seen &&
           !atomic_load(&pool->ending))
        pthread_cond_wait(&pool->published, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return LOOP(atomic_load(&pool->state));
}

/* Join loop number `loop` unless it is over; the worker's index, or 0. */
static size_t join(struct qrb__pool *pool, uint32_t loop)
{
    uint64_t state = atomic_load(&pool->state);

    while (LOOP(state) == loop && !(state & CLOSED))
        if (atomic_compare_exchange_weak(&pool->state, &state, state + JOIN))
            return JOINED(state) + 1;
    return 0;
}

static void leave(struct qrb__pool *pool)
{
    const uint64_t before = atomic_fetch_sub(&pool->state, 1);

    if ((before & ACTIVE) == 1 && atomic_load(&pool->waiting)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_signal(&pool->finished);
        pthread_mutex_unlock(&pool->lock);
    }
}

static void *help(void *arg)
{
    struct qrb__pool *pool = arg;
    uint32_t loop = 0;

    for (;;) {
        size_t worker;

        loop = next_loop(pool, loop);
        if (atomic_load(&pool->ending))
            return NULL;
        worker = join(pool, loop);
        if (worker > 0) {
            run_tasks(pool, worker);
            leave(pool);
        }
    }
}

/* Start what can be started: with fewer threads the results are the same.
 * Signals are for the host's own threads. */
static void start(struct qrb__pool *pool)
{
    const size_t wanted = pool->helpers;
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;

    pool->started = true;
    pool->helpers = 0;
    if (pthread_attr_init(&attributes) != 0)
        return;
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->helpers < wanted &&
           pthread_create(&pool->threads[pool->helpers], &attributes, help,
                          pool) == 0)
        pool->helpers++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

static void publish(struct qrb__pool *pool, size_t tasks, qrb_task_fn fn,
                    void *arg)
{
    const uint64_t loop = LOOP(atomic_load(&pool->state)) + UINT32_C(1);

    pool->fn = fn;
    pool->arg = arg;
    pool->tasks = tasks;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store(&pool->state, loop << 32);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->published);
        pthread_mutex_unlock(&pool->lock);
    }
}

/* All tasks are dealt out: let nobody in any more, and wait for those who
 * still work. */
static void finish(struct qrb__pool *pool)
{
    atomic_fetch_or(&pool->state, CLOSED);
    for (int i = 0; i < SPINS; i++) {
        if ((atomic_load(&pool->state) & ACTIVE) == 0)
            return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waiting, true);
    while ((atomic_load(&pool->state) & ACTIVE) != 0)
        pthread_cond_wait(&pool->finished, &pool->lock);
    atomic_store(&pool->waiting, false);
    pthread_mutex_unlock(&pool->lock);
}

void qrb__pool_run(struct qrb__pool *pool, size_t tasks, qrb_task_fn fn,
                   void *arg)
{
    if (!pool->started)
        start(pool);
    publish(pool, tasks, fn, arg);
    run_tasks(pool, 0);
    finish(pool);
}

struct qrb__pool *qrb__pool_create(qrb_context *ctx, size_t threads)
{
    const size_t helpers = threads > 1 ? threads - 1 : 0;
    struct qrb__pool *pool = qrb__alloc_array(
        ctx, 1, sizeof *pool + helpers * sizeof pool->threads[0]);

    if (pool == NULL)
        return NULL;
    pool->helpers = helpers;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->published, NULL);
    pthread_cond_init(&pool->finished, NULL);
    atomic_init(&pool->sleepers, 0);
    atomic_init(&pool->waiting, false);
    atomic_init(&pool->ending, false);
    atomic_init(&pool->state, CLOSED);
    atomic_init(&pool->next, 0);
    return pool;
}

void qrb__pool_destroy(qrb_context *ctx, struct qrb__pool *pool, bool started)
{
    if (pool == NULL)
        return;
    if (started && pool->started) {
        pthread_mutex_lock(&pool->lock);
        atomic_store(&pool->ending, true);
        pthread_cond_broadcast(&pool->published);
        pthread_mutex_unlock(&pool->lock);
        for (size_t i = 0; i < pool->helpers; i++)
            pthread_join(pool->threads[i], NULL);
        pthread_cond_destroy(&pool->finished);
        pthread_cond_destroy(&pool->published);
        pthread_mutex_destroy(&pool->lock);
    }
    qrb__free(ctx, pool);
}
