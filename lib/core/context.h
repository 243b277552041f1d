/* The context seen from inside: memory, errors, progress, threads. */
#ifndef QRB_CORE_CONTEXT_H
#define QRB_CORE_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#include <qrobust/context.h>

#include "kernel/kernels.h"

enum { QRB__MESSAGE = 512 }; /* bytes with its end */

struct qrb__pool;

struct qrb_context {
    qrb_context_options options;
    struct qrb__kernels kernels;
    atomic_size_t callback_depth; /* > 0: a callback of the host is running */
    size_t parallel_depth;        /* > 0: inside a parallel loop */
    pid_t owner;                  /* the process that made the context */
    struct qrb__pool *pool;       /* NULL: one thread, or the host's runner */
    atomic_flag failing;          /* held while code and message are noted */
    int32_t callback_code;
    char message[QRB__MESSAGE];
    char blas[96]; /* qrb_context_blas(), once it was asked for */
};

/* Sizes: false when the result does not fit. */
bool qrb__mul_size(size_t a, size_t b, size_t *out);
bool qrb__add_size(size_t a, size_t b, size_t *out);

/* Zeroed memory, aligned to 64 bytes; NULL when there is none, when the
 * product overflows, or when count or size is 0.  Free it with qrb__free(),
 * which takes NULL. */
void *qrb__alloc_array(qrb_context *ctx, size_t count, size_t size);

/* As qrb__alloc_array(); keeps old_count elements, zeroes the rest; the old
 * memory stays valid and owned by the caller when NULL is returned. */
void *qrb__grow_array(qrb_context *ctx, void *memory, size_t old_count,
                      size_t count, size_t size);
void qrb__free(qrb_context *ctx, void *memory);
char *qrb__strdup(qrb_context *ctx, const char *text);

/* Note a message and pass the status on: return qrb__fail(ctx, QRB_E_..).
 * Tasks of a parallel loop and concurrent taps may fail at the same time: one
 * of the messages stays.  Without a context there is none to keep it. */
qrb_status qrb__fail(qrb_context *ctx, qrb_status status, const char *format,
                     ...) QRB_PRINTF(3, 4);

/* A callback of the host returned `code` < 0: note it, QRB_E_CALLBACK; or the
 * status that it passes on with QRB_CALLBACK_STATUS(). */
qrb_status qrb__fail_callback(qrb_context *ctx, const char *name, int code);

/* The code and message of a failure, kept while what must still be done (the
 * host told of weights that were restored) may fail as well. */
struct qrb__failure {
    int32_t callback_code;
    char message[QRB__MESSAGE];
};
void qrb__failure_keep(const qrb_context *ctx, struct qrb__failure *out);
void qrb__failure_put_back(qrb_context *ctx,
                           const struct qrb__failure *failure);

void qrb__log(qrb_context *ctx, enum qrb_log_level level, const char *format,
              ...) QRB_PRINTF(3, 4);

/* Report progress and ask whether to go on: QRB_OK or QRB_E_CANCELLED. */
qrb_status qrb__progress(qrb_context *ctx, const char *what, uint64_t done,
                         uint64_t total);
/* Ask only. */
qrb_status qrb__cancelled(qrb_context *ctx);

/* QRB_E_REENTRANT while a callback of the host runs, else QRB_OK; the first
 * line of every public function that a callback may not call. */
qrb_status qrb__not_in_callback(qrb_context *ctx, const char *function);
/* Around each call of a host's callback. */
void qrb__callback_begin(qrb_context *ctx);
void qrb__callback_end(qrb_context *ctx);

/* Run fn(task, worker, arg) for each task; workers are below
 * qrb_context_threads().  A loop inside a task runs serially on the task's
 * thread, as worker 0 whatever worker the task is; only inside a loop of one
 * task may it be parallel, with workers from 0 on again.  So scratch that is
 * indexed by worker belongs to the loop that it was made for, never to the
 * context nor to a loop inside of it.  Tasks call no public function, and
 * compute in the default floating-point environment whatever the host has set.
 * Runs serially in a child of fork(), where no other thread exists. */
void qrb__parallel_for(qrb_context *ctx, size_t tasks, qrb_task_fn fn,
                       void *arg);

/* Copy a caller's options over defaults that are in `out` already.  Fields
 * that an older caller does not know keep zero; bytes that we do not know must
 * be zero.  `name` is for the message. */
qrb_status qrb__options_copy(qrb_context *ctx, const void *options,
                             size_t known_size, const char *name, void *out);

/* Structs that a call fills: the caller sets struct_size.  Check it before the
 * work (NULL is fine), and hand the result over in as much of it as the caller
 * knows; what the caller knows beyond us becomes zero. */
qrb_status qrb__result_check(qrb_context *ctx, const char *name,
                             const void *out);
void qrb__result_copy(const void *result, size_t known_size, void *out);

#endif
