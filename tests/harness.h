/* What tests share: the main of a suite, an allocator that fails on demand,
 * directories to write into, and where the shared models lie. */
#ifndef TESTS_HARNESS_H
#define TESTS_HARNESS_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qrobust/context.h>

/* Returns NULL at the call number `fail_at` (1 is the first; 0: never), and
 * counts what is not given back. */
struct failing_allocator {
    size_t fail_at;
    size_t calls;
    size_t live;
};

static inline void *failing_alloc(size_t count, size_t size, void *user)
{
    struct failing_allocator *allocator = user;
    void *memory;

    if (++allocator->calls == allocator->fail_at)
        return NULL;
    memory = malloc(count * size);
    allocator->live += memory != NULL;
    return memory;
}

static inline void failing_free(void *memory, void *user)
{
    struct failing_allocator *allocator = user;

    allocator->live--;
    free(memory);
}

/* Bytes that are given out now, and the most that ever were; calls come from
 * one thread at a time. */
struct counting_allocator {
    size_t live;
    size_t most;
};

static inline void *counting_alloc(size_t count, size_t size, void *user)
{
    struct counting_allocator *bytes = user;
    size_t *block = malloc(count * size + 16);

    ck_assert_ptr_nonnull(block);
    *block = count * size;
    bytes->live += count * size;
    bytes->most = bytes->live > bytes->most ? bytes->live : bytes->most;
    return (char *)block + 16;
}

static inline void counting_free(void *memory, void *user)
{
    struct counting_allocator *bytes = user;
    size_t *block = (size_t *)(void *)((char *)memory - 16);

    bytes->live -= *block;
    free(block);
}

static inline qrb_context *make_context(struct failing_allocator *allocator)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    if (allocator != NULL) {
        options.alloc = failing_alloc;
        options.release = failing_free;
        options.alloc_user = allocator;
    }
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

/* Run job(ctx, arg) with an allocator that fails at its first call, at its
 * second, ... until the job returns QRB_OK: every status before that is
 * QRB_E_NO_MEMORY, and nothing is left behind. */
static inline void fail_each_allocation(qrb_status (*job)(qrb_context *ctx,
                                                          void *arg),
                                        void *arg)
{
    qrb_status status = QRB_E_NO_MEMORY;

    for (size_t n = 1; status != QRB_OK; n++) {
        struct failing_allocator allocator = { 0, 0, 0 };
        qrb_context *ctx = make_context(&allocator);
        const size_t before = allocator.live;

        allocator.calls = 0;
        allocator.fail_at = n;
        status = job(ctx, arg);
        if (allocator.calls >= n)
            ck_assert_msg(status == QRB_E_NO_MEMORY,
                          "allocation %zu failed, and the status is %s: %s", n,
                          qrb_status_name(status), qrb_context_message(ctx));
        else
            ck_assert_msg(status == QRB_OK, "%s: %s", qrb_status_name(status),
                          qrb_context_message(ctx));
        ck_assert_uint_eq(allocator.live, before);
        allocator.fail_at = 0;
        qrb_context_destroy(ctx);
        ck_assert_uint_eq(allocator.live, 0);
        ck_assert_uint_lt(n, 100000);
    }
}

/* The call succeeds, or the test fails with its message. */
#define ASSERT_OK(ctx, call)                                                   \
    do {                                                                       \
        const qrb_status assert_status_ = (call);                              \
        ck_assert_msg(assert_status_ == QRB_OK, "%s: %s: %s", #call,           \
                      qrb_status_name(assert_status_),                         \
                      qrb_context_message(ctx));                               \
    } while (0)

/* The call fails with this status, and the message holds these words. */
#define ASSERT_FAILS(ctx, call, expected, words)                               \
    do {                                                                       \
        const qrb_status assert_status_ = (call);                              \
        ck_assert_msg(assert_status_ == (expected), "%s: %s: %s", #call,       \
                      qrb_status_name(assert_status_),                         \
                      qrb_context_message(ctx));                               \
        ck_assert_msg(strstr(qrb_context_message(ctx), (words)) != NULL,       \
                      "\"%s\" does not say \"%s\"", qrb_context_message(ctx),  \
                      (words));                                                \
    } while (0)

/* A fresh directory; `path` holds at least 64 bytes. */
static inline void make_directory(char *path)
{
    strcpy(path, "/tmp/qrobust-test-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(path));
}

/* Remove a directory with the files in it; no deeper. */
static inline void remove_directory(const char *path)
{
    char command[256];

    ck_assert_int_eq(strncmp(path, "/tmp/qrobust-test-", 18), 0);
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    ck_assert_int_eq(system(command), 0);
}

/* "directory/name" in `out` of 256 bytes. */
static inline const char *in_directory(const char *directory, const char *name,
                                       char *out)
{
    snprintf(out, 256, "%s/%s", directory, name);
    return out;
}

static inline void put_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");

    ck_assert_ptr_nonnull(file);
    ck_assert_uint_eq(fwrite(bytes, 1, size, file), size);
    ck_assert_int_eq(fclose(file), 0);
}

/* All of a file, NUL-terminated; free it. */
static inline char *get_file(const char *path, size_t *size_out)
{
    FILE *file = fopen(path, "rb");
    char *bytes;
    long size;

    ck_assert_msg(file != NULL, "cannot open %s", path);
    fseek(file, 0, SEEK_END);
    size = ftell(file);
    rewind(file);
    bytes = calloc((size_t)size + 1, 1);
    ck_assert_ptr_nonnull(bytes);
    ck_assert_uint_eq(fread(bytes, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    if (size_out != NULL)
        *size_out = (size_t)size;
    return bytes;
}

/* Path of a file of the shared models and texts in `out` of 512 bytes, or NULL
 * with a line that says that the test is skipped. */
static inline const char *shared_path(const char *name, char *out)
{
    const char *shared = getenv("QRB_SHARED");

    snprintf(out, 512, "%s/data/%s", shared == NULL ? "" : shared, name);
    if (shared != NULL && access(out, R_OK) == 0)
        return out;
    printf("SKIP: shared data %s is not there\n", name);
    return NULL;
}

static inline int run_suite(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    int failed;

    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#endif
