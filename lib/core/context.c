/* Creation, messages, progress and the copying of options. */
#include "core/context.h"

#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/memory.h"
#include "core/pool.h"

enum { MAX_THREADS = 1024, MAX_STRUCT = 4096 };

/* Processors that this process may run on: a container or taskset allows
 * fewer than are online. */
static size_t processors_allowed(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
#if defined(__linux__)
    cpu_set_t allowed;

    if (sched_getaffinity(0, sizeof allowed, &allowed) == 0)
        count = CPU_COUNT(&allowed);
#endif
    if (count < 1)
        return 1;
    return count > MAX_THREADS ? MAX_THREADS : (size_t)count;
}

/* One line of text, whatever is in a name that came from a file: control
 * characters become '?', and what is too long ends in "..." behind a whole
 * character. */
QRB_PRINTF(3, 0)
static void write_line(char *line, size_t size, const char *format,
                       va_list arguments)
{
    const int length = vsnprintf(line, size, format, arguments);

    if (length < 0) {
        line[0] = '\0';
        return;
    }
    if ((size_t)length >= size) {
        size_t end = size - sizeof "...";

        while (end > 0 && ((unsigned char)line[end] & 0xc0) == 0x80)
            end--;
        memcpy(line + end, "...", sizeof "...");
    }
    for (; *line != '\0'; line++)
        if ((unsigned char)*line < 0x20 || *line == 0x7f)
            *line = '?';
}

/* Read the size that a sized struct begins with. */
static qrb_status size_given(qrb_context *ctx, const void *sized,
                             const char *name, size_t *out)
{
    memcpy(out, sized, sizeof *out);
    if (*out < sizeof *out || *out > MAX_STRUCT)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s: struct_size is %zu; set it to the size of the "
                         "struct, as its INIT macro does",
                         name, *out);
    return QRB_OK;
}

qrb_status qrb__options_copy(qrb_context *ctx, const void *options,
                             size_t known_size, const char *name, void *out)
{
    const unsigned char *bytes = options;
    size_t given;
    qrb_status status;

    if (options == NULL)
        return QRB_OK;
    status = size_given(ctx, options, name, &given);
    if (status != QRB_OK)
        return status;
    for (size_t i = known_size; i < given; i++)
        if (bytes[i] != 0)
            return qrb__fail(ctx, QRB_E_INVALID_ARG,
                             "%s: byte %zu is set, which this version of the "
                             "library (%s) does not know",
                             name, i, qrb_version_string());
    memset(out, 0, known_size);
    memcpy(out, options, given < known_size ? given : known_size);
    memcpy(out, &known_size, sizeof known_size);
    return QRB_OK;
}

qrb_status qrb__result_check(qrb_context *ctx, const char *name,
                             const void *out)
{
    size_t given;

    return out == NULL ? QRB_OK : size_given(ctx, out, name, &given);
}

void qrb__result_copy(const void *result, size_t known_size, void *out)
{
    unsigned char *bytes = out;
    size_t given;

    memcpy(&given, out, sizeof given);
    memcpy(bytes + sizeof given, (const unsigned char *)result + sizeof given,
           (given < known_size ? given : known_size) - sizeof given);
    if (given > known_size)
        memset(bytes + known_size, 0, given - known_size);
}

static bool needs_pool(const qrb_context_options *options)
{
#if defined(QRB_HAVE_OPENMP)
    (void)options;
    return false;
#else
    return options->threads > 1 && options->runner == NULL;
#endif
}

qrb_status qrb_context_create(const qrb_context_options *options,
                              qrb_context **out)
{
    const qrb_context_options defaults = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context candidate = { .options = defaults,
                              .failing = ATOMIC_FLAG_INIT };
    qrb_context *ctx;
    qrb_status status;

    if (out == NULL)
        return QRB_E_INVALID_ARG;
    *out = NULL;
    status = qrb__options_copy(&candidate, options, sizeof defaults,
                               "context options", &candidate.options);
    if (status != QRB_OK)
        return status;
    if ((candidate.options.alloc == NULL) !=
            (candidate.options.release == NULL) ||
        candidate.options.threads > MAX_THREADS)
        return QRB_E_INVALID_ARG;
    if (qrb__kernels_select(&candidate.kernels, getenv("QRB_ISA")) != 0)
        return QRB_E_INVALID_ARG;
    qrb__memory_defaults(&candidate.options);
    if (candidate.options.threads == 0)
        candidate.options.threads = processors_allowed();

    ctx = qrb__alloc_array(&candidate, 1, sizeof *ctx);
    if (ctx == NULL)
        return QRB_E_NO_MEMORY;
    ctx->options = candidate.options;
    ctx->kernels = candidate.kernels;
    ctx->owner = getpid();
    atomic_init(&ctx->callback_depth, 0);
    atomic_flag_clear(&ctx->failing);
    if (needs_pool(&ctx->options)) {
        ctx->pool = qrb__pool_create(ctx, ctx->options.threads);
        if (ctx->pool == NULL) {
            qrb__memory_release(&candidate.options, ctx);
            return QRB_E_NO_MEMORY;
        }
    }
    *out = ctx;
    return QRB_OK;
}

void qrb_context_destroy(qrb_context *ctx)
{
    qrb_context_options options;

    if (ctx == NULL)
        return;
    options = ctx->options;
    qrb__pool_destroy(ctx, ctx->pool, ctx->owner == getpid());
    qrb__memory_release(&options, ctx);
}

const char *qrb_context_message(const qrb_context *ctx)
{
    return ctx == NULL ? "" : ctx->message;
}

int32_t qrb_context_callback_code(const qrb_context *ctx)
{
    return ctx == NULL ? 0 : ctx->callback_code;
}

size_t qrb_context_threads(const qrb_context *ctx)
{
    return ctx == NULL ? 1 : ctx->options.threads;
}

uint64_t qrb_context_seed(const qrb_context *ctx)
{
    return ctx == NULL ? 0 : ctx->options.seed;
}

const char *qrb_context_kernels(const qrb_context *ctx)
{
    return ctx == NULL ? "" : ctx->kernels.name;
}

qrb_status qrb__fail(qrb_context *ctx, qrb_status status, const char *format,
                     ...)
{
    char message[QRB__MESSAGE]; /* arguments may point into the old */
    va_list arguments;

    if (ctx == NULL)
        return status;
    va_start(arguments, format);
    write_line(message, sizeof message, format, arguments);
    va_end(arguments);
    /* A spin, not a mutex: held for one copy, by threads that are giving up. */
    while (atomic_flag_test_and_set(&ctx->failing))
        ;
    memcpy(ctx->message, message, sizeof message);
    atomic_flag_clear(&ctx->failing);
    return status;
}

qrb_status qrb__fail_callback(qrb_context *ctx, const char *name, int code)
{
    /* Passed on: whoever failed has left the message. */
    if (code > QRB_CALLBACK_STATUS(QRB_OK) &&
        code <= QRB_CALLBACK_STATUS(QRB_E_UNSUPPORTED))
        return code - QRB_CALLBACK_STATUS(QRB_OK);
    while (atomic_flag_test_and_set(&ctx->failing))
        ;
    ctx->callback_code = code;
    atomic_flag_clear(&ctx->failing);
    return qrb__fail(ctx, QRB_E_CALLBACK, "the callback %s returned %d", name,
                     code);
}

void qrb__failure_keep(const qrb_context *ctx, struct qrb__failure *out)
{
    out->callback_code = ctx->callback_code;
    memcpy(out->message, ctx->message, sizeof out->message);
}

void qrb__failure_put_back(qrb_context *ctx, const struct qrb__failure *failure)
{
    while (atomic_flag_test_and_set(&ctx->failing))
        ;
    ctx->callback_code = failure->callback_code;
    memcpy(ctx->message, failure->message, sizeof ctx->message);
    atomic_flag_clear(&ctx->failing);
}

void qrb__log(qrb_context *ctx, enum qrb_log_level level, const char *format,
              ...)
{
    char line[QRB__MESSAGE];
    va_list arguments;

    if (ctx->options.log == NULL)
        return;
    va_start(arguments, format);
    write_line(line, sizeof line, format, arguments);
    va_end(arguments);
    qrb__callback_begin(ctx);
    ctx->options.log((uint32_t)level, line, ctx->options.log_user);
    qrb__callback_end(ctx);
}

qrb_status qrb__cancelled(qrb_context *ctx)
{
    int answer;

    if (ctx->options.cancel == NULL)
        return QRB_OK;
    qrb__callback_begin(ctx);
    answer = ctx->options.cancel(ctx->options.cancel_user);
    qrb__callback_end(ctx);
    if (answer != 0)
        return qrb__fail(ctx, QRB_E_CANCELLED, "cancelled by the host");
    return QRB_OK;
}

qrb_status qrb__progress(qrb_context *ctx, const char *what, uint64_t done,
                         uint64_t total)
{
    int answer;

    if (ctx->options.progress != NULL) {
        qrb__callback_begin(ctx);
        answer = ctx->options.progress(what, done, total,
                                       ctx->options.progress_user);
        qrb__callback_end(ctx);
        if (answer != 0)
            return qrb__fail(
                ctx, QRB_E_CANCELLED, "%s: cancelled at %llu of %llu", what,
                (unsigned long long)done, (unsigned long long)total);
    }
    return qrb__cancelled(ctx);
}

qrb_status qrb__not_in_callback(qrb_context *ctx, const char *function)
{
    if (atomic_load(&ctx->callback_depth) == 0)
        return QRB_OK;
    return qrb__fail(ctx, QRB_E_REENTRANT,
                     "%s was called from inside a callback", function);
}

void qrb__callback_begin(qrb_context *ctx)
{
    atomic_fetch_add(&ctx->callback_depth, 1);
}

void qrb__callback_end(qrb_context *ctx)
{
    atomic_fetch_sub(&ctx->callback_depth, 1);
}
