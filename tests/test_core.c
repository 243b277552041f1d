/* The core room: contexts, sized structs, memory, messages, callbacks,
 * parallel loops and random numbers. */
#include "harness.h"

#include <errno.h>
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include "core/context.h"
#include "core/random.h"

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

/* --- status and version */

START_TEST(every_status_has_its_name)
{
    static const char *const names[] = {
        "QRB_OK",           "QRB_E_INVALID_ARG", "QRB_E_SHAPE",
        "QRB_E_NOT_FINITE", "QRB_E_NO_MEMORY",   "QRB_E_CALLBACK",
        "QRB_E_CANCELLED",  "QRB_E_REENTRANT",   "QRB_E_STATE",
        "QRB_E_IO",         "QRB_E_FORMAT",      "QRB_E_UNSUPPORTED",
    };

    for (int i = 0; i < 12; i++)
        ck_assert_str_eq(qrb_status_name(i), names[i]);
    ck_assert_int_eq(QRB_E_UNSUPPORTED, 11);
    ck_assert_str_eq(qrb_status_name(12), "QRB_E_?");
    ck_assert_str_eq(qrb_status_name(-1), "QRB_E_?");
    ck_assert_str_eq(qrb_status_name(INT32_MIN), "QRB_E_?");
}
END_TEST

START_TEST(the_version_says_the_same_in_both_forms)
{
    char text[32];
    const uint32_t version = qrb_version();

    snprintf(text, sizeof text, "%u.%u.%u", version / 10000,
             version / 100 % 100, version % 100);
    ck_assert_str_eq(qrb_version_string(), text);
    ck_assert_uint_eq(version, QRB_VERSION_MAJOR * 10000 +
                                   QRB_VERSION_MINOR * 100 + QRB_VERSION_PATCH);
}
END_TEST

/* --- contexts */

START_TEST(a_context_keeps_what_it_was_made_with)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = NULL;

    options.threads = 3;
    options.seed = UINT64_C(1) << 60;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    ck_assert_uint_eq(qrb_context_threads(made), 3);
    ck_assert_uint_eq(qrb_context_seed(made), UINT64_C(1) << 60);
    ck_assert_str_ne(qrb_context_kernels(made), "");
    ck_assert_str_eq(qrb_context_message(made), "");
    ck_assert_int_eq(qrb_context_callback_code(made), 0);
    qrb_context_destroy(made);
    qrb_context_destroy(NULL);
}
END_TEST

START_TEST(getters_answer_without_a_context)
{
    ck_assert_uint_eq(qrb_context_threads(NULL), 1);
    ck_assert_uint_eq(qrb_context_seed(NULL), 0);
    ck_assert_str_eq(qrb_context_kernels(NULL), "");
    ck_assert_str_eq(qrb_context_message(NULL), "");
    ck_assert_int_eq(qrb_context_callback_code(NULL), 0);
    qrb_free(NULL, NULL);
    qrb_free(ctx, NULL);
}
END_TEST

START_TEST(threads_default_to_the_processors_that_are_allowed)
{
    cpu_set_t allowed;
    cpu_set_t one;
    qrb_context *made = NULL;

    ck_assert_int_eq(sched_getaffinity(0, sizeof allowed, &allowed), 0);
    ck_assert_uint_eq(qrb_context_threads(ctx), CPU_COUNT(&allowed));
    CPU_ZERO(&one);
    for (int cpu = 0; CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &allowed))
            CPU_SET(cpu, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(qrb_context_create(NULL, &made), QRB_OK);
    ck_assert_uint_eq(qrb_context_threads(made), 1);
    qrb_context_destroy(made);
    ck_assert_int_eq(sched_setaffinity(0, sizeof allowed, &allowed), 0);
}
END_TEST

START_TEST(a_context_that_makes_no_sense_is_refused)
{
    struct failing_allocator allocator = { 1, 0, 0 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = ctx;

    ck_assert_int_eq(qrb_context_create(&options, NULL), QRB_E_INVALID_ARG);
    options.alloc = failing_alloc;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(made);
    options.alloc = NULL;
    options.release = failing_free;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_E_INVALID_ARG);
    options.alloc = failing_alloc;
    options.alloc_user = &allocator;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_E_NO_MEMORY);
    ck_assert_ptr_null(made);
    ck_assert_uint_eq(allocator.live, 0);
    options.threads = 1025;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_E_INVALID_ARG);
    options.threads = 1024;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    qrb_context_destroy(made);
    ck_assert_uint_eq(allocator.live, 0);
}
END_TEST

START_TEST(the_environment_pins_the_kernels_and_nothing_else)
{
    char *before = getenv("QRB_ISA");
    qrb_context *made = NULL;

    before = before == NULL ? NULL : strdup(before);
    setenv("QRB_ISA", "ref", 1);
    ck_assert_int_eq(qrb_context_create(NULL, &made), QRB_OK);
    ck_assert_str_eq(qrb_context_kernels(made), "ref");
    qrb_context_destroy(made);
    setenv("QRB_ISA", "abacus", 1);
    ck_assert_int_eq(qrb_context_create(NULL, &made), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(made);
    if (before == NULL)
        unsetenv("QRB_ISA");
    else
        setenv("QRB_ISA", before, 1);
    free(before);
}
END_TEST

/* --- sized structs */

struct sized {
    size_t struct_size;
    uint64_t first;
    uint64_t second;
};

START_TEST(an_older_struct_leaves_appended_fields_zero)
{
    const struct sized defaults = { sizeof defaults, 10, 20 };
    struct sized given = { offsetof(struct sized, second), 1, 99 };
    struct sized out = defaults;

    ASSERT_OK(ctx, qrb__options_copy(ctx, NULL, sizeof out, "sized", &out));
    ck_assert_mem_eq(&out, &defaults, sizeof out);
    ASSERT_OK(ctx, qrb__options_copy(ctx, &given, sizeof out, "sized", &out));
    ck_assert_uint_eq(out.struct_size, sizeof out);
    ck_assert_uint_eq(out.first, 1);
    ck_assert_uint_eq(out.second, 0);
    given.struct_size = sizeof given.struct_size;
    ASSERT_OK(ctx, qrb__options_copy(ctx, &given, sizeof out, "sized", &out));
    ck_assert_uint_eq(out.first, 0);
}
END_TEST

START_TEST(a_newer_struct_is_fine_as_long_as_the_rest_is_zero)
{
    struct {
        struct sized known;
        unsigned char more[40];
    } given = { { sizeof given, 1, 2 }, { 0 } };
    struct sized out = { 0 };

    ASSERT_OK(ctx, qrb__options_copy(ctx, &given, sizeof out, "sized", &out));
    ck_assert_uint_eq(out.second, 2);
    ck_assert_uint_eq(out.struct_size, sizeof out);
    for (size_t i = 0; i < sizeof given.more; i++) {
        struct sized before = out;
        char expected[32];

        given.more[i] = 1;
        snprintf(expected, sizeof expected, "sized: byte %zu is set",
                 sizeof given.known + i);
        ASSERT_FAILS(ctx,
                     qrb__options_copy(ctx, &given, sizeof out, "sized", &out),
                     QRB_E_INVALID_ARG, expected);
        ck_assert_mem_eq(&out, &before, sizeof out);
        given.more[i] = 0;
    }
}
END_TEST

START_TEST(a_size_that_is_no_size_is_refused)
{
    static const size_t bad[] = { 0, 7, 4097, SIZE_MAX };
    struct sized given = { 0, 0, 0 };
    struct sized out = { 0 };

    for (int i = 0; i < 4; i++) {
        given.struct_size = bad[i];
        ASSERT_FAILS(ctx,
                     qrb__options_copy(ctx, &given, sizeof out, "sized", &out),
                     QRB_E_INVALID_ARG, "sized: struct_size is");
        ASSERT_FAILS(ctx, qrb__result_check(ctx, "result", &given),
                     QRB_E_INVALID_ARG, "result: struct_size is");
    }
    ASSERT_OK(ctx, qrb__result_check(ctx, "result", NULL));
}
END_TEST

START_TEST(a_result_fills_as_much_as_the_caller_knows)
{
    const struct sized result = { sizeof result, 1, 2 };
    struct {
        struct sized known;
        uint64_t more[2];
    } newer = { { sizeof newer, 7, 7 }, { 7, 7 } };
    struct sized older = { offsetof(struct sized, second), 7, 7 };

    ASSERT_OK(ctx, qrb__result_check(ctx, "result", &older));
    qrb__result_copy(&result, sizeof result, &older);
    ck_assert_uint_eq(older.struct_size, offsetof(struct sized, second));
    ck_assert_uint_eq(older.first, 1);
    ck_assert_uint_eq(older.second, 7);
    qrb__result_copy(&result, sizeof result, &newer);
    ck_assert_uint_eq(newer.known.struct_size, sizeof newer);
    ck_assert_uint_eq(newer.known.second, 2);
    ck_assert_uint_eq(newer.more[1], 0);
}
END_TEST

/* --- memory */

START_TEST(products_and_sums_that_do_not_fit_are_noticed)
{
    size_t out = 0;

    ck_assert(qrb__mul_size(SIZE_MAX / 2, 2, &out));
    ck_assert(!qrb__mul_size(SIZE_MAX / 2 + 1, 2, &out));
    ck_assert(qrb__add_size(SIZE_MAX - 1, 1, &out));
    ck_assert(!qrb__add_size(SIZE_MAX, 1, &out));
    ck_assert_ptr_null(qrb__alloc_array(ctx, SIZE_MAX / 2 + 1, 2));
    ck_assert_ptr_null(qrb__alloc_array(ctx, SIZE_MAX - 100, 1));
    ck_assert_ptr_null(qrb__alloc_array(ctx, 0, 4));
    ck_assert_ptr_null(qrb__alloc_array(ctx, 4, 0));
}
END_TEST

/* Memory that starts at every offset that malloc's alignment allows. */
static void *crooked_alloc(size_t count, size_t size, void *user)
{
    size_t *offset = user;
    unsigned char *memory = malloc(count * size + 256);

    *offset = (*offset + 16) % 128;
    memset(memory, 0xa5, count * size + 256);
    memory[*offset + 8] = (unsigned char)*offset; /* read by crooked_free */
    memory += *offset + 16;
    return memory;
}

static void crooked_free(void *memory, void *user)
{
    unsigned char *at = memory;

    (void)user;
    free(at - 16 - at[-8]);
}

START_TEST(memory_is_zeroed_and_aligned_whatever_the_host_gives)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = NULL;
    size_t offset = 0;

    options.alloc = crooked_alloc;
    options.release = crooked_free;
    options.alloc_user = &offset;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    for (size_t n = 1; n < 200; n++) {
        unsigned char *memory = qrb__alloc_array(made, n, 1);

        ck_assert_uint_eq((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < n; i++)
            ck_assert_uint_eq(memory[i], 0);
        memset(memory, 0xff, n);
        qrb__free(made, memory);
    }
    qrb_context_destroy(made);
}
END_TEST

START_TEST(a_context_without_memory_is_none_at_all)
{
    for (size_t n = 1;; n++) {
        struct failing_allocator allocator = { n, 0, 0 };
        qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
        qrb_context *made = NULL;
        qrb_status status;

        options.threads = 3;
        options.alloc = failing_alloc;
        options.release = failing_free;
        options.alloc_user = &allocator;
        status = qrb_context_create(&options, &made);
        qrb_context_destroy(made);
        ck_assert_uint_eq(allocator.live, 0);
        if (allocator.calls < n) {
            ck_assert_int_eq(status, QRB_OK);
            ck_assert_uint_gt(n, 1);
            break;
        }
        ck_assert_int_eq(status, QRB_E_NO_MEMORY);
        ck_assert_ptr_null(made);
    }
}
END_TEST

START_TEST(growing_keeps_what_is_there_and_the_old_on_failure)
{
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *made = make_context(&allocator);
    uint32_t *memory = qrb__alloc_array(made, 3, sizeof *memory);
    uint32_t *grown;

    memory[0] = 5;
    memory[2] = 7;
    allocator.fail_at = allocator.calls + 1;
    ck_assert_ptr_null(qrb__grow_array(made, memory, 3, 100, sizeof *memory));
    ck_assert_uint_eq(memory[2], 7);
    allocator.fail_at = 0;
    grown = qrb__grow_array(made, memory, 3, 100, sizeof *memory);
    ck_assert_uint_eq(grown[0], 5);
    ck_assert_uint_eq(grown[2], 7);
    for (int i = 3; i < 100; i++)
        ck_assert_uint_eq(grown[i], 0);
    grown = qrb__grow_array(made, grown, 100, 2, sizeof *memory);
    ck_assert_uint_eq(grown[0], 5);
    qrb__free(made, grown);
    grown = qrb__grow_array(made, NULL, 0, 2, sizeof *memory);
    ck_assert_uint_eq(grown[1], 0);
    qrb_free(made, grown);
    qrb_context_destroy(made);
    ck_assert_uint_eq(allocator.live, 0);
}
END_TEST

START_TEST(text_is_copied_with_its_end)
{
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *made = make_context(&allocator);
    char *copy = qrb__strdup(made, "text");

    ck_assert_str_eq(copy, "text");
    qrb__free(made, copy);
    copy = qrb__strdup(made, "");
    ck_assert_str_eq(copy, "");
    qrb__free(made, copy);
    allocator.fail_at = allocator.calls + 1;
    ck_assert_ptr_null(qrb__strdup(made, "text"));
    allocator.fail_at = 0;
    qrb_context_destroy(made);
}
END_TEST

/* --- messages */

START_TEST(a_message_may_quote_the_one_before)
{
    qrb__fail(ctx, QRB_E_SHAPE, "first");
    ck_assert_int_eq(
        qrb__fail(ctx, QRB_E_IO, "second: %s", qrb_context_message(ctx)),
        QRB_E_IO);
    ck_assert_str_eq(qrb_context_message(ctx), "second: first");
    ck_assert_int_eq(qrb__fail(NULL, QRB_E_IO, "nobody hears"), QRB_E_IO);
}
END_TEST

START_TEST(a_message_is_one_line_whatever_a_file_calls_its_tensors)
{
    qrb__fail(ctx, QRB_E_FORMAT, "%s", "a\nb\tc\x1b[31m\x7f\xc3\xa9");
    ck_assert_str_eq(qrb_context_message(ctx), "a?b?c?[31m?\xc3\xa9");
}
END_TEST

START_TEST(a_message_that_is_too_long_ends_behind_a_whole_character)
{
    char text[2 * 600 + 1] = "";

    for (int start = 0; start < 2; start++) {
        const char *message;
        size_t length;

        memset(text, 'x', (size_t)start);
        for (size_t i = (size_t)start; i + 2 < sizeof text; i += 2)
            memcpy(text + i, "\xc3\xa9", 3);
        qrb__fail(ctx, QRB_E_FORMAT, "%s", text);
        message = qrb_context_message(ctx);
        length = strlen(message);
        ck_assert_uint_ge(length, 505);
        ck_assert_uint_lt(length, 512);
        ck_assert_str_eq(message + length - 3, "...");
        ck_assert_int_eq((unsigned char)message[length - 4], 0xa9);
    }
}
END_TEST

static void fail_task(size_t task, size_t worker, void *arg)
{
    (void)worker;
    (void)arg;
    qrb__fail(ctx, QRB_E_SHAPE, "task %zu of a thousand, %zu of them %zu", task,
              task, task);
}

START_TEST(tasks_that_fail_side_by_side_leave_one_whole_message)
{
    size_t a;
    size_t b;
    size_t c;

    qrb__parallel_for(ctx, 1000, fail_task, NULL);
    ck_assert_int_eq(sscanf(qrb_context_message(ctx),
                            "task %zu of a thousand, %zu of them %zu", &a, &b,
                            &c),
                     3);
    ck_assert_uint_eq(a, b);
    ck_assert_uint_eq(b, c);
}
END_TEST

/* --- callbacks of the context */

struct spy {
    qrb_context *ctx;
    size_t calls;
    int answer;
    uint32_t level;
    uint64_t done;
    char text[600];
    qrb_status inside; /* of a call that a callback may not make */
};

static void look_inside(struct spy *spy)
{
    spy->calls++;
    if (spy->ctx != NULL)
        spy->inside = qrb__not_in_callback(spy->ctx, "qrb_model_create");
}

static void spy_log(uint32_t level, const char *message, void *user)
{
    struct spy *spy = user;

    look_inside(spy);
    spy->level = level;
    snprintf(spy->text, sizeof spy->text, "%s", message);
}

static int spy_progress(const char *what, uint64_t done, uint64_t total,
                        void *user)
{
    struct spy *spy = user;

    look_inside(spy);
    spy->done = done;
    snprintf(spy->text, sizeof spy->text, "%s of %llu", what,
             (unsigned long long)total);
    return spy->answer;
}

static int spy_cancel(void *user)
{
    struct spy *spy = user;

    look_inside(spy);
    return spy->answer;
}

static void *spy_alloc(size_t count, size_t size, void *user)
{
    look_inside(user);
    return malloc(count * size);
}

static void spy_free(void *memory, void *user)
{
    look_inside(user);
    free(memory);
}

static void spy_runner(size_t tasks, size_t workers, qrb_task_fn run, void *arg,
                       void *user)
{
    struct spy *spy = user;

    look_inside(spy);
    spy->done = workers;
    for (size_t task = tasks; task-- > 0;)
        run(task, task % workers, arg);
}

START_TEST(log_progress_and_cancel_reach_the_host)
{
    struct spy log = { 0 };
    struct spy progress = { 0 };
    struct spy cancel = { 0 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = NULL;

    options.log = spy_log;
    options.log_user = &log;
    options.progress = spy_progress;
    options.progress_user = &progress;
    options.cancel = spy_cancel;
    options.cancel_user = &cancel;
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    log.ctx = progress.ctx = cancel.ctx = made;

    qrb__log(made, QRB_LOG_WARNING, "blk.%d:\n bad", 3);
    ck_assert_str_eq(log.text, "blk.3:? bad");
    ck_assert_uint_eq(log.level, QRB_LOG_WARNING);
    ck_assert_int_eq(log.inside, QRB_E_REENTRANT);
    ASSERT_OK(made, qrb__progress(made, "repair", 3, 10));
    ck_assert_str_eq(progress.text, "repair of 10");
    ck_assert_uint_eq(progress.done, 3);
    ck_assert_int_eq(progress.inside, QRB_E_REENTRANT);
    ck_assert_uint_eq(cancel.calls, 1); /* progress asks as well */
    ck_assert_int_eq(cancel.inside, QRB_E_REENTRANT);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(made),
                                 "qrb_model_create was called from inside"));
    ASSERT_OK(made, qrb__not_in_callback(made, "qrb_model_create"));

    cancel.answer = 1;
    ASSERT_FAILS(made, qrb__progress(made, "repair", 4, 10), QRB_E_CANCELLED,
                 "cancelled by the host");
    ASSERT_FAILS(made, qrb__cancelled(made), QRB_E_CANCELLED, "cancelled");
    progress.answer = -1;
    ASSERT_FAILS(made, qrb__progress(made, "repair", 5, 10), QRB_E_CANCELLED,
                 "repair: cancelled at 5 of 10");
    qrb_context_destroy(made);
}
END_TEST

START_TEST(without_callbacks_all_is_silent_and_goes_on)
{
    qrb__log(ctx, QRB_LOG_ERROR, "nobody hears");
    ASSERT_OK(ctx, qrb__progress(ctx, "work", 0, 1));
    ASSERT_OK(ctx, qrb__cancelled(ctx));
}
END_TEST

START_TEST(calls_from_inside_the_allocator_are_refused)
{
    struct spy spy = { 0 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = NULL;
    void *memory;

    options.alloc = spy_alloc;
    options.release = spy_free;
    options.alloc_user = &spy;
    options.threads = 1; /* a pool of threads would be one more piece */
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    spy.ctx = made;
    memory = qrb__alloc_array(made, 1, 1);
    ck_assert_int_eq(spy.inside, QRB_E_REENTRANT);
    spy.inside = QRB_OK;
    qrb__free(made, memory);
    ck_assert_int_eq(spy.inside, QRB_E_REENTRANT);
    spy.ctx = NULL; /* it is the context that goes now */
    qrb_context_destroy(made);
    ck_assert_uint_eq(spy.calls, 4);
}
END_TEST

START_TEST(a_failed_callback_leaves_its_name_and_code)
{
    ck_assert_int_eq(qrb__fail_callback(ctx, "logits", -42), QRB_E_CALLBACK);
    ck_assert_int_eq(qrb_context_callback_code(ctx), -42);
    ck_assert_str_eq(qrb_context_message(ctx),
                     "the callback logits returned -42");
}
END_TEST

START_TEST(a_callback_passes_the_failure_of_a_call_on)
{
    qrb__fail(ctx, QRB_E_SHAPE, "found [2], expected [3]");
    for (int status = QRB_E_INVALID_ARG; status <= QRB_E_UNSUPPORTED; status++)
        ck_assert_int_eq(
            qrb__fail_callback(ctx, "loss", QRB_CALLBACK_STATUS(status)),
            status);
    ck_assert_str_eq(qrb_context_message(ctx), "found [2], expected [3]");
    ck_assert_int_eq(
        qrb__fail_callback(ctx, "loss", QRB_CALLBACK_STATUS(QRB_OK)),
        QRB_E_CALLBACK);
    ck_assert_int_eq(qrb__fail_callback(ctx, "loss",
                                        QRB_CALLBACK_STATUS(
                                            QRB_E_UNSUPPORTED + 1)),
                     QRB_E_CALLBACK);
}
END_TEST

/* --- parallel loops */

enum { TASKS = 1000 };

struct loop {
    qrb_context *ctx;
    size_t threads;
    unsigned char runs[TASKS];
    size_t bad_workers;
    atomic_int running[16]; /* by worker: threads inside at the moment */
    atomic_size_t shared;   /* workers found running twice at a time */
    atomic_size_t inner;
    double sums[TASKS];
};

static void count_task(size_t task, size_t worker, void *arg)
{
    struct loop *loop = arg;

    if (worker >= loop->threads)
        loop->bad_workers++;
    else if (atomic_fetch_add(&loop->running[worker], 1) != 0)
        atomic_fetch_add(&loop->shared, 1);
    loop->runs[task]++;
    if (worker < loop->threads)
        atomic_fetch_sub(&loop->running[worker], 1);
}

static qrb_context *threaded(size_t threads, struct spy *runner)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *made = NULL;

    options.threads = threads;
    if (runner != NULL) {
        options.runner = spy_runner;
        options.runner_user = runner;
    }
    ck_assert_int_eq(qrb_context_create(&options, &made), QRB_OK);
    return made;
}

START_TEST(each_task_runs_once_on_a_worker_of_its_own)
{
    for (size_t threads = 1; threads <= 4; threads++)
        for (size_t tasks = 0; tasks <= TASKS; tasks += 1 + tasks * 4) {
            qrb_context *made = threaded(threads, NULL);
            struct loop loop = { .threads = threads };

            qrb__parallel_for(made, tasks, count_task, &loop);
            ck_assert_uint_eq(loop.bad_workers, 0);
            ck_assert_uint_eq(loop.shared, 0);
            for (size_t i = 0; i < TASKS; i++)
                ck_assert_uint_eq(loop.runs[i], i < tasks);
            qrb_context_destroy(made);
        }
}
END_TEST

static void sleep_task(size_t task, size_t worker, void *arg)
{
    const struct timespec moment = { 0, 20000 };

    count_task(task, worker, arg);
    if (task % 3 == 0)
        nanosleep(&moment, NULL);
}

/* Short loops find threads that still wait; loops after a rest find them
 * asleep; tasks that sleep leave the caller waiting for the others. */
START_TEST(threads_that_wait_or_sleep_join_the_next_loop)
{
    const struct timespec rest = { 0, 1000000 };
    qrb_context *made = threaded(4, NULL);
    struct loop loop = { .threads = 4 };
    unsigned char expected = 0;

    for (int i = 0; i < 60; i++) {
        qrb__parallel_for(made, 12, i % 2 == 0 ? count_task : sleep_task,
                          &loop);
        expected++;
        if (i % 5 == 0)
            nanosleep(&rest, NULL);
        for (size_t task = 0; task < 12; task++)
            ck_assert_uint_eq(loop.runs[task], expected);
    }
    ck_assert_uint_eq(loop.bad_workers, 0);
    ck_assert_uint_eq(loop.shared, 0);
    qrb_context_destroy(made);
}
END_TEST

static void wait_for_another(size_t task, size_t worker, void *arg)
{
    struct loop *loop = arg;

    (void)task;
    (void)worker;
    atomic_fetch_add(&loop->inner, 1);
    for (int i = 0; i < 20000 && atomic_load(&loop->inner) < 2; i++)
        nanosleep(&(struct timespec){ 0, 100000 }, NULL);
}

START_TEST(two_tasks_of_a_loop_run_at_the_same_time)
{
    struct loop loop = { .ctx = threaded(2, NULL), .threads = 2 };
    struct timespec begin;
    struct timespec end;

    clock_gettime(CLOCK_MONOTONIC, &begin);
    qrb__parallel_for(loop.ctx, 2, wait_for_another, &loop);
    clock_gettime(CLOCK_MONOTONIC, &end);
    ck_assert_uint_eq(loop.inner, 2);
    /* One after the other they wait for two seconds. */
    ck_assert_int_lt(end.tv_sec - begin.tv_sec, 2);
    qrb_context_destroy(loop.ctx);
}
END_TEST

START_TEST(the_runner_of_the_host_gets_the_tasks)
{
    struct spy runner = { 0 };
    qrb_context *made = threaded(3, &runner);
    struct loop loop = { .threads = 3 };

    runner.ctx = made;
    qrb__parallel_for(made, TASKS, count_task, &loop);
    ck_assert_uint_eq(runner.calls, 1);
    ck_assert_uint_eq(runner.done, 3);
    ck_assert_int_eq(runner.inside, QRB_E_REENTRANT);
    for (size_t i = 0; i < TASKS; i++)
        ck_assert_uint_eq(loop.runs[i], 1);
    qrb__parallel_for(made, 2, count_task, &loop);
    ck_assert_uint_eq(runner.done, 2); /* no more workers than tasks */
    qrb__parallel_for(made, 1, count_task, &loop);
    ck_assert_uint_eq(runner.calls, 2); /* one task needs no runner */
    qrb_context_destroy(made);
}
END_TEST

/* A loop of a task's own, and the thread that the task is on. */
struct inner {
    struct loop *loop;
    pthread_t thread;
};

static void count_inner(size_t task, size_t worker, void *arg)
{
    const struct inner *inner = arg;

    (void)task;
    if (worker != 0 || !pthread_equal(inner->thread, pthread_self()))
        inner->loop->bad_workers++;
    atomic_fetch_add(&inner->loop->inner, 1);
}

static void nest(size_t task, size_t worker, void *arg)
{
    struct inner inner = { arg, pthread_self() };

    (void)task;
    (void)worker;
    qrb__parallel_for(inner.loop->ctx, 7, count_inner, &inner);
}

/* Whatever worker the task is: a loop inside of it is worker 0's. */
START_TEST(a_loop_inside_a_task_runs_on_the_thread_of_the_task)
{
    struct loop loop = { .ctx = threaded(3, NULL), .threads = 3 };

    qrb__parallel_for(loop.ctx, 50, nest, &loop);
    ck_assert_uint_eq(loop.inner, 350);
    ck_assert_uint_eq(loop.bad_workers, 0);
    qrb_context_destroy(loop.ctx);
}
END_TEST

static void count_own(size_t task, size_t worker, void *arg)
{
    struct loop *loop = arg;

    loop->runs[task]++;
    if (worker >= loop->threads)
        loop->bad_workers++;
}

static void nest_alone(size_t task, size_t worker, void *arg)
{
    struct loop *loop = arg;

    (void)task;
    if (worker != 0)
        loop->bad_workers++;
    qrb__parallel_for(loop->ctx, TASKS, count_own, loop);
}

/* Its workers are those of any loop: scratch of the outer one is not theirs. */
START_TEST(a_loop_inside_an_only_task_has_workers_of_its_own)
{
    struct loop loop = { .ctx = threaded(3, NULL), .threads = 3 };

    qrb__parallel_for(loop.ctx, 1, nest_alone, &loop);
    ck_assert_uint_eq(loop.bad_workers, 0);
    for (size_t i = 0; i < TASKS; i++)
        ck_assert_uint_eq(loop.runs[i], 1);
    qrb_context_destroy(loop.ctx);
}
END_TEST

static void divide_task(size_t task, size_t worker, void *arg)
{
    struct loop *loop = arg;
    volatile double one = 1.0;
    volatile double three = 3.0;

    (void)worker;
    loop->sums[task] = one / three;
}

START_TEST(tasks_round_to_nearest_whatever_the_host_does)
{
    struct spy runner = { 0 };

    for (int kind = 0; kind < 3; kind++) {
        struct loop loop = { .ctx = threaded(kind == 0 ? 1 : 3,
                                             kind == 2 ? &runner : NULL) };
        const double expected = 0x1.5555555555555p-2;

        fesetround(FE_UPWARD);
        qrb__parallel_for(loop.ctx, TASKS, divide_task, &loop);
        ck_assert_int_eq(fegetround(), FE_UPWARD);
        fesetround(FE_TONEAREST);
        for (size_t i = 0; i < TASKS; i++)
            ck_assert_double_eq(loop.sums[i], expected);
        qrb_context_destroy(loop.ctx);
    }
}
END_TEST

/* Threads of the parent would be waited for for ever. */
START_TEST(a_child_of_fork_goes_on_alone)
{
    qrb_context *made = threaded(3, NULL);
    struct loop loop = { .threads = 3 };
    pid_t child;
    int status = 0;

    qrb__parallel_for(made, TASKS, count_task, &loop); /* threads exist now */
    child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        struct loop own = { .threads = 1 };

        alarm(20);
        qrb__parallel_for(made, TASKS, count_task, &own);
        for (size_t i = 0; i < TASKS; i++)
            if (own.runs[i] != 1)
                _exit(1);
        qrb_context_destroy(made); /* the child's copy */
#if defined(QRB_HAVE_OPENMP)
        own.threads = 1; /* libgomp would wait for the parent's threads */
#else
        own.threads = 3;
#endif
        made = threaded(own.threads, NULL);
        qrb__parallel_for(made, TASKS, count_task, &own);
        qrb_context_destroy(made);
        if (own.runs[TASKS - 1] != 2)
            _exit(3);
        _exit(own.bad_workers == 0 ? 0 : 2);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
    qrb__parallel_for(made, TASKS, count_task, &loop); /* and the parent */
    ck_assert_uint_eq(loop.runs[TASKS - 1], 2);
    qrb_context_destroy(made);
}
END_TEST

static void *use_context(void *arg)
{
    struct loop *loop = arg;

    for (int i = 0; i < 20; i++) {
        qrb__parallel_for(loop->ctx, TASKS, divide_task, loop);
        qrb__fail(loop->ctx, QRB_E_SHAPE, "%zu", loop->threads);
    }
    return NULL;
}

START_TEST(contexts_on_threads_of_the_host_do_not_meet)
{
    struct loop loops[2] = { { .ctx = threaded(2, NULL), .threads = 2 },
                             { .ctx = threaded(3, NULL), .threads = 3 } };
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, use_context, &loops[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        ck_assert_double_eq(loops[i].sums[TASKS - 1], 1.0 / 3.0);
    }
    ck_assert_str_eq(qrb_context_message(loops[0].ctx), "2");
    ck_assert_str_eq(qrb_context_message(loops[1].ctx), "3");
    qrb_context_destroy(loops[0].ctx);
    qrb_context_destroy(loops[1].ctx);
}
END_TEST

/* --- random numbers */

/* Methods G0.1. */
START_TEST(philox_gives_the_golden_numbers)
{
    const uint32_t zero[4] = { 0 };
    const uint32_t ones[4] = { ~0u, ~0u, ~0u, ~0u };
    const uint32_t first[4] = { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c,
                                0x9b00dbd8 };
    const uint32_t last[4] = { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd };
    uint32_t out[4];

    qrb__philox(zero, zero, out);
    ck_assert_mem_eq(out, first, sizeof out);
    qrb__philox(ones, ones, out);
    ck_assert_mem_eq(out, last, sizeof out);
}
END_TEST

START_TEST(numbers_made_from_philox_are_the_golden_ones)
{
    const struct qrb__random random = { { 0, 0 }, 0, 0 };
    const double uniform[4] = { 0.3990464210510254, 0.8805201649665833,
                                0.7357127666473389, 0.6054818034172058 };
    const double normal[4] = { 0.9911376886, -0.9246626323, -0.6176090055,
                               -0.4820684947 };
    const double sign[4] = { 1, -1, -1, -1 };

    for (unsigned i = 0; i < 4; i++) {
        ck_assert_double_eq(qrb__random_uniform(&random, i), uniform[i]);
        ck_assert_double_eq_tol(qrb__random_normal(&random, i), normal[i],
                                0.5e-10);
        ck_assert_double_eq(qrb__random_sign(&random, i), sign[i]);
    }
}
END_TEST

START_TEST(numbers_are_addressed_by_key_stream_step_and_element)
{
    const struct qrb__random random =
        qrb__random_at(UINT64_C(0x0000000200000001), 4, 3);
    const uint32_t key[2] = { 1, 2 };
    const uint64_t index = (UINT64_C(1) << 40) + 6;
    const uint32_t counter[4] = { (uint32_t)(index / 4),
                                  (uint32_t)(index / 4 >> 32), 3, 4 };
    uint32_t out[4];

    qrb__philox(counter, key, out);
    ck_assert_uint_eq(qrb__random_bits(&random, index), out[2]);
    ck_assert_uint_eq(qrb__random_bits(&random, index + 1), out[3]);
    ck_assert_uint_ne(out[2], out[3]);
}
END_TEST

START_TEST(streams_of_neighbouring_addresses_differ)
{
    uint32_t streams[3 * 3 * 3 * 3];
    size_t count = 0;

    for (uint32_t method = 1; method <= 3; method++)
        for (uint32_t layer = 0; layer < 3; layer++)
            for (uint32_t tensor = 0; tensor < 3; tensor++)
                for (uint32_t microbatch = 0; microbatch < 3; microbatch++)
                    streams[count++] =
                        qrb__random_stream(method, layer, tensor, microbatch);
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < i; j++)
            ck_assert_uint_ne(streams[i], streams[j]);
    /* Fixed for ever: files that were made with it must come out again. */
    ck_assert_uint_eq(qrb__random_stream(3, 0, 0, 0), 0x815a0f40u);
}
END_TEST

START_TEST(numbers_below_a_bound_reach_all_of_it_evenly)
{
    const struct qrb__random random = qrb__random_at(7, 0, 0);
    size_t cells[10] = { 0 };

    for (uint64_t i = 0; i < 10000; i++) {
        const uint64_t x = qrb__random_below(&random, i, 10);

        ck_assert_uint_lt(x, 10);
        cells[x]++;
        ck_assert_uint_eq(qrb__random_below(&random, i, 1), 0);
    }
    for (int i = 0; i < 10; i++) { /* standard deviation 30 */
        ck_assert_uint_gt(cells[i], 880);
        ck_assert_uint_lt(cells[i], 1120);
    }
    /* More than 32 bits of the bound count. */
    ck_assert_uint_gt(qrb__random_below(&random, 0, UINT64_MAX) |
                          qrb__random_below(&random, 1, UINT64_MAX),
                      UINT32_MAX);
}
END_TEST

START_TEST(signs_and_uniforms_are_even)
{
    const struct qrb__random random = qrb__random_at(8, 1, 2);
    double signs = 0.0;
    double sum = 0.0;

    for (uint64_t i = 0; i < 10000; i++) {
        const double u = qrb__random_uniform(&random, i);

        ck_assert(u >= 0.0 && u < 1.0);
        sum += u - 0.5;
        signs += qrb__random_sign(&random, i);
    }
    ck_assert_double_lt(fabs(signs), 400.0);            /* 4 sqrt(n) */
    ck_assert_double_lt(fabs(sum), 400.0 / sqrt(12.0)); /* 4 sqrt(n / 12) */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core");
    TCase *test = tcase_create("core");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, every_status_has_its_name);
    tcase_add_test(test, the_version_says_the_same_in_both_forms);
    tcase_add_test(test, a_context_keeps_what_it_was_made_with);
    tcase_add_test(test, getters_answer_without_a_context);
    tcase_add_test(test, threads_default_to_the_processors_that_are_allowed);
    tcase_add_test(test, a_context_that_makes_no_sense_is_refused);
    tcase_add_test(test, the_environment_pins_the_kernels_and_nothing_else);
    tcase_add_test(test, an_older_struct_leaves_appended_fields_zero);
    tcase_add_test(test, a_newer_struct_is_fine_as_long_as_the_rest_is_zero);
    tcase_add_test(test, a_size_that_is_no_size_is_refused);
    tcase_add_test(test, a_result_fills_as_much_as_the_caller_knows);
    tcase_add_test(test, products_and_sums_that_do_not_fit_are_noticed);
    tcase_add_test(test, memory_is_zeroed_and_aligned_whatever_the_host_gives);
    tcase_add_test(test, a_context_without_memory_is_none_at_all);
    tcase_add_test(test, growing_keeps_what_is_there_and_the_old_on_failure);
    tcase_add_test(test, text_is_copied_with_its_end);
    tcase_add_test(test, a_message_may_quote_the_one_before);
    tcase_add_test(test,
                   a_message_is_one_line_whatever_a_file_calls_its_tensors);
    tcase_add_test(test,
                   a_message_that_is_too_long_ends_behind_a_whole_character);
    tcase_add_test(test, tasks_that_fail_side_by_side_leave_one_whole_message);
    tcase_add_test(test, log_progress_and_cancel_reach_the_host);
    tcase_add_test(test, without_callbacks_all_is_silent_and_goes_on);
    tcase_add_test(test, calls_from_inside_the_allocator_are_refused);
    tcase_add_test(test, a_failed_callback_leaves_its_name_and_code);
    tcase_add_test(test, a_callback_passes_the_failure_of_a_call_on);
    tcase_add_test(test, each_task_runs_once_on_a_worker_of_its_own);
    tcase_add_test(test, threads_that_wait_or_sleep_join_the_next_loop);
    tcase_add_test(test, two_tasks_of_a_loop_run_at_the_same_time);
    tcase_add_test(test, the_runner_of_the_host_gets_the_tasks);
    tcase_add_test(test, a_loop_inside_a_task_runs_on_the_thread_of_the_task);
    tcase_add_test(test, a_loop_inside_an_only_task_has_workers_of_its_own);
    tcase_add_test(test, tasks_round_to_nearest_whatever_the_host_does);
    tcase_add_test(test, a_child_of_fork_goes_on_alone);
    tcase_add_test(test, contexts_on_threads_of_the_host_do_not_meet);
    tcase_add_test(test, philox_gives_the_golden_numbers);
    tcase_add_test(test, numbers_made_from_philox_are_the_golden_ones);
    tcase_add_test(test, numbers_are_addressed_by_key_stream_step_and_element);
    tcase_add_test(test, streams_of_neighbouring_addresses_differ);
    tcase_add_test(test, numbers_below_a_bound_reach_all_of_it_evenly);
    tcase_add_test(test, signs_and_uniforms_are_even);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
