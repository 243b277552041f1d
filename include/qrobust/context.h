/* The context: allocator, logger, progress, cancel, threads, seed, kernels. */
#ifndef QROBUST_CONTEXT_H
#define QROBUST_CONTEXT_H

#include <qrobust/status.h>

QRB_BEGIN_DECLS

/**
 * Allocator, logger, progress, threads, seed and kernels.  Everything else is
 * made from a context, and destroyed before it.
 *
 * Thread safety: a context and all that is made from it serve one thread at a
 * time, from calls and callbacks alike; distinct contexts are independent.
 * A call from inside a callback that the callback may not make returns
 * QRB_E_REENTRANT.
 */
typedef struct qrb_context qrb_context;

/**
 * Memory for the library: count * size bytes, aligned as malloc aligns,
 * contents arbitrary.  The product does not overflow.  NULL means that there
 * is none.  Called on the thread that called the library, never on a worker;
 * must not call the library.
 */
typedef void *(*qrb_alloc_fn)(size_t count, size_t size, void *user);

/** Returns memory of qrb_alloc_fn; memory is never NULL.  Called as
 * qrb_alloc_fn is; must not call the library. */
typedef void (*qrb_free_fn)(void *memory, void *user);

/** Severity of a log line.  Pinned values. */
enum qrb_log_level {
    QRB_LOG_ERROR = 1,   /**< work was given up */
    QRB_LOG_WARNING = 2, /**< something was skipped or put right */
    QRB_LOG_INFO = 3,    /**< what a user may want to know */
    QRB_LOG_DEBUG = 4    /**< figures of every step */
};

/**
 * One line of log, UTF-8, without its line end and without control characters.
 * The text lives until the callback returns.  Runs on the thread that called
 * the library (a listener's tap: that tapped); may call getters.
 */
typedef void (*qrb_log_fn)(uint32_t level, const char *message, void *user);

/**
 * Progress of long work.  `what` names the stage and may carry figures
 * ("repair: loss 2.314, 11800 tokens/s"); it lives until the callback returns.
 * 0 goes on; anything else stops the work with QRB_E_CANCELLED after what is
 * kept (checkpoints) is safe.  Runs on the thread that called the library; may
 * call getters.
 */
typedef int (*qrb_progress_fn)(const char *what, uint64_t done,
                               uint64_t total, void *user);

/** Asked between units of work: 0 goes on, anything else stops with
 * QRB_E_CANCELLED.  Runs as qrb_progress_fn does. */
typedef int (*qrb_cancel_fn)(void *user);

/** One task of a parallel loop; `worker` is below the context's threads. */
typedef void (*qrb_task_fn)(size_t task, size_t worker, void *arg);

/**
 * A parallel runner lent by the host: calls run(task, worker, arg) once for
 * each task in [0, tasks), on any threads and in any order, and returns when
 * all are done.  Each worker index is below `workers` and serves one thread
 * at a time.  Results do not depend on how tasks are dealt out.  Runs on the
 * thread that called the library; must not call the library.
 *
 * A context that a child of fork() got from its parent runs serially there,
 * without the runner: the parent's threads do not exist in it.  Contexts that
 * the child makes itself have threads of their own; in a build on OpenMP they
 * ask for one thread or lend a runner, for its threads do not survive fork().
 */
typedef void (*qrb_runner_fn)(size_t tasks, size_t workers, qrb_task_fn run,
                              void *arg, void *user);

/* Start from QRB_CONTEXT_OPTIONS_INIT.  A function and its pointer stand side
 * by side; a NULL function means the default. */
typedef struct qrb_context_options {
    size_t struct_size;
    size_t threads; /* workers, at most 1024; 0: the processors that this
                       process may run on (default) */
    uint64_t seed;  /* key of all randomness; default 0 */
    qrb_alloc_fn alloc; /* default malloc; alloc and release go together */
    qrb_free_fn release; /* default free */
    void *alloc_user; /* of both */
    qrb_log_fn log; /* default: silence */
    void *log_user; /* of log */
    qrb_progress_fn progress; /* default: nobody is told */
    void *progress_user; /* of progress */
    qrb_cancel_fn cancel; /* default: nobody is asked */
    void *cancel_user; /* of cancel */
    qrb_runner_fn runner; /* default: threads of the context's own, which
                             start with the first loop and sleep between
                             calls */
    void *runner_user; /* of runner */
} qrb_context_options;

/** The defaults of a context. */
#define QRB_CONTEXT_OPTIONS_INIT \
    { sizeof(qrb_context_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make a context and choose the kernels of this processor by CPUID.
 *
 * The environment variable QRB_ISA (ref, avx2, avx512) caps the choice, for
 * tests and bug reports; it is read here and nowhere else.
 *
 * @param options NULL: the defaults; copied
 * @param out     receives the context, or NULL on failure; the caller
 *                releases it with qrb_context_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (out is NULL, alloc without release,
 *         unknown options, more than 1024 threads, unknown QRB_ISA);
 *         QRB_E_NO_MEMORY
 *
 * Thread safety: may be called from several threads at a time.
 */
QRB_API qrb_status qrb_context_create(const qrb_context_options *options,
                                      qrb_context **out);

/** Release a context; NULL is fine.  Every object made from it goes first. */
QRB_API void qrb_context_destroy(qrb_context *ctx);

/**
 * The message of the last call that failed on this context.
 *
 * @return one line of at most 511 bytes that says what was found and what is
 *         allowed; "" before the first failure and for NULL; valid until the
 *         next call on the context that fails
 */
QRB_API const char *qrb_context_message(const qrb_context *ctx);

/** What the callback returned that ended a call with QRB_E_CALLBACK, the last
 * time that one did; 0 before and for NULL. */
QRB_API int32_t qrb_context_callback_code(const qrb_context *ctx);

/** Number of workers, at least 1; 1 for NULL. */
QRB_API size_t qrb_context_threads(const qrb_context *ctx);

/** The seed that the context was made with; 0 for NULL. */
QRB_API uint64_t qrb_context_seed(const qrb_context *ctx);

/** Instruction set of the kernels in use: "ref", "avx2" or "avx512"; "" for
 * NULL. */
QRB_API const char *qrb_context_kernels(const qrb_context *ctx);

/** Matrix product library in use, such as "blis 0.9.0, skx kernels". */
QRB_API const char *qrb_context_blas(const qrb_context *ctx);

/**
 * Release memory that a call handed to the host.
 *
 * @param ctx    of the call; NULL: nothing is done
 * @param memory NULL is fine
 */
QRB_API void qrb_free(qrb_context *ctx, void *memory);

QRB_END_DECLS

#endif
