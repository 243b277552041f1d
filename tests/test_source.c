/* Sources: four kinds of bytes behind one checked read, and the gate for
 * names that come out of files. */
#include "harness.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "io/path.h"
#include "io/source.h"

enum { SIZE = 1000 };

static char directory[64];
static unsigned char bytes[SIZE];
static qrb_context *ctx;

static void set_up(void)
{
    char path[256];

    for (size_t i = 0; i < SIZE; i++)
        bytes[i] = (unsigned char)(i * 7 + i / 256);
    make_directory(directory);
    put_file(in_directory(directory, "bytes", path), bytes, SIZE);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static int read_bytes(uint64_t offset, void *out, size_t size, void *user)
{
    memcpy(out, (const unsigned char *)user + offset, size);
    return 0;
}

static int refuse_to_read(uint64_t offset, void *out, size_t size, void *user)
{
    (void)offset;
    (void)out;
    (void)size;
    (void)user;
    return -7;
}

/* Kind 0: path, 1: descriptor, 2: buffer, 3: callback. */
static struct qrb__source *open_kind(int kind, int *fd_out)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    char path[256];

    in_directory(directory, "bytes", path);
    *fd_out = -1;
    if (kind == 0) {
        options.path = path;
    } else if (kind == 1) {
        *fd_out = open(path, O_RDONLY);
        ck_assert_int_ge(*fd_out, 0);
        options.fd = *fd_out;
    } else if (kind == 2) {
        options.buffer = bytes;
        options.size = SIZE;
    } else {
        options.read_at = read_bytes;
        options.read_at_user = bytes;
        options.size = SIZE;
    }
    ASSERT_OK(ctx, qrb__source_open(ctx, &options, &source));
    return source;
}

START_TEST(four_kinds_of_source_give_the_same_bytes)
{
    static const size_t ranges[][2] = { { 0, SIZE }, { 0, 0 },   { SIZE, 0 },
                                        { 1, 7 },    { 999, 1 }, { 300, 500 } };
    int fd;
    struct qrb__source *source = open_kind(_i, &fd);
    const unsigned char *view;
    unsigned char out[SIZE];
    char *all;
    size_t size;

    ck_assert_uint_eq(qrb__source_size(source), SIZE);
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        memset(out, 0xee, SIZE);
        ASSERT_OK(ctx,
                  qrb__source_read(source, ranges[i][0], out, ranges[i][1]));
        ck_assert(memcmp(out, bytes + ranges[i][0], ranges[i][1]) == 0);
        if (ranges[i][1] < SIZE)
            ck_assert_uint_eq(out[ranges[i][1]], 0xee);
        ASSERT_OK(ctx,
                  qrb__source_view(source, ranges[i][0], ranges[i][1], &view));
        ck_assert_int_eq(view == NULL, _i == 3);
        if (view != NULL)
            ck_assert(memcmp(view, bytes + ranges[i][0], ranges[i][1]) == 0);
    }
    ASSERT_OK(ctx, qrb__source_load(source, SIZE, &all, &size));
    ck_assert_uint_eq(size, SIZE);
    ck_assert_mem_eq(all, bytes, SIZE);
    ck_assert_int_eq(all[SIZE], 0);
    qrb__free(ctx, all);
    ASSERT_FAILS(ctx, qrb__source_load(source, SIZE - 1, &all, &size),
                 QRB_E_FORMAT, "at most 999");
    ck_assert_ptr_null(all);
    qrb__source_close(source);
    if (fd >= 0) {
        ck_assert_int_ne(fcntl(fd, F_GETFD), -1); /* the host's, still open */
        close(fd);
    }
}
END_TEST

START_TEST(ranges_outside_of_a_source_are_refused)
{
    static const uint64_t ranges[][2] = {
        { 0, SIZE + 1 },   { SIZE, 1 },
        { SIZE + 1, 0 },   { 1, SIZE },
        { UINT64_MAX, 1 }, { UINT64_MAX, SIZE_MAX },
        { 1, SIZE_MAX },   { UINT64_MAX - 5, 10 },
    };
    int fd;
    struct qrb__source *source = open_kind(_i, &fd);
    const unsigned char *view;
    unsigned char out[1] = { 0xee };

    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++) {
        ASSERT_FAILS(
            ctx,
            qrb__source_read(source, ranges[i][0], out, (size_t)ranges[i][1]),
            QRB_E_FORMAT, "has 1000 bytes");
        ASSERT_FAILS(
            ctx,
            qrb__source_view(source, ranges[i][0], (size_t)ranges[i][1], &view),
            QRB_E_FORMAT, "has 1000 bytes");
        ck_assert_ptr_null(view);
    }
    ck_assert_uint_eq(out[0], 0xee);
    qrb__source_close(source);
    if (fd >= 0)
        close(fd);
}
END_TEST

/* Field rule 6. */
START_TEST(a_file_that_shrinks_is_an_error_and_not_a_signal)
{
    int fd;
    struct qrb__source *source = open_kind(_i, &fd);
    const unsigned char *view;
    unsigned char out[10];
    char path[256];

    ck_assert_int_eq(truncate(in_directory(directory, "bytes", path), 5), 0);
    ASSERT_FAILS(ctx, qrb__source_read(source, 0, out, 10), QRB_E_IO,
                 "shrank from 1000 to 5 bytes");
    ASSERT_FAILS(ctx, qrb__source_view(source, 0, 10, &view), QRB_E_IO,
                 "shrank from 1000 to 5 bytes");
    ck_assert_ptr_null(view);
    qrb__source_close(source);
    if (fd >= 0)
        close(fd);
}
END_TEST

START_TEST(an_empty_file_is_a_source_of_no_bytes)
{
    struct qrb__source *source;
    char path[256];
    char *all;
    size_t size = 9;

    put_file(in_directory(directory, "empty", path), "", 0);
    ASSERT_OK(ctx, qrb__source_open_path(ctx, path, &source));
    ck_assert_uint_eq(qrb__source_size(source), 0);
    ck_assert_str_eq(qrb__source_name(source), path);
    ASSERT_OK(ctx, qrb__source_load(source, 0, &all, &size));
    ck_assert_uint_eq(size, 0);
    ck_assert_str_eq(all, "");
    qrb__free(ctx, all);
    qrb__source_close(source);
}
END_TEST

START_TEST(a_callback_that_refuses_ends_the_read_with_its_code)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    unsigned char out[4];

    options.read_at = refuse_to_read;
    options.size = 100;
    ASSERT_OK(ctx, qrb__source_open(ctx, &options, &source));
    ASSERT_FAILS(ctx, qrb__source_read(source, 0, out, 4), QRB_E_CALLBACK,
                 "read_at returned -7");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -7);
    qrb__source_close(source);
}
END_TEST

/* A file of /sys is regular and claims a page, cannot be mapped, and ends
 * before its size. */
START_TEST(a_file_that_cannot_be_mapped_is_read)
{
    static const char path[] = "/sys/devices/system/cpu/online";
    struct qrb__source *source;
    const unsigned char *view;
    unsigned char out[8192];

    if (access(path, R_OK) != 0) {
        printf("SKIP: %s is not there\n", path);
        return;
    }
    ASSERT_OK(ctx, qrb__source_open_path(ctx, path, &source));
    ck_assert_uint_ge(qrb__source_size(source), 1);
    ck_assert_uint_le(qrb__source_size(source), sizeof out);
    ASSERT_OK(ctx, qrb__source_view(source, 0, 1, &view));
    ck_assert_ptr_null(view);
    ASSERT_OK(ctx, qrb__source_read(source, 0, out, 1));
    ck_assert_int_eq(out[0], '0');
    ASSERT_FAILS(
        ctx, qrb__source_read(source, 0, out, (size_t)qrb__source_size(source)),
        QRB_E_IO, "ends at byte");
    qrb__source_close(source);
}
END_TEST

START_TEST(a_descriptor_that_cannot_be_read_is_an_error)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    char path[256];
    char out[4];

    options.fd = open(in_directory(directory, "bytes", path), O_WRONLY);
    ck_assert_int_ge(options.fd, 0);
    ASSERT_OK(ctx, qrb__source_open(ctx, &options, &source));
    ASSERT_FAILS(ctx, qrb__source_read(source, 0, out, 4), QRB_E_IO,
                 "cannot read descriptor");
    qrb__source_close(source);
    close(options.fd);
}
END_TEST

START_TEST(a_closed_source_holds_neither_descriptor_nor_mapping)
{
    struct qrb__source *source;
    char path[256];
    char line[512];
    FILE *maps;
    int before;
    int after;

    before = open("/dev/null", O_RDONLY); /* the lowest that is free */
    close(before);
    in_directory(directory, "bytes", path);
    ASSERT_OK(ctx, qrb__source_open_path(ctx, path, &source));
    qrb__source_close(source);
    after = open("/dev/null", O_RDONLY);
    ck_assert_int_eq(after, before);
    close(after);
    maps = fopen("/proc/self/maps", "r");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps) != NULL)
        ck_assert_ptr_null(strstr(line, path));
    fclose(maps);
}
END_TEST

START_TEST(exactly_one_kind_of_source_is_given)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source = (void *)bytes;

    ASSERT_FAILS(ctx, qrb__source_open(ctx, NULL, &source), QRB_E_INVALID_ARG,
                 "0 of path");
    ck_assert_ptr_null(source);
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source),
                 QRB_E_INVALID_ARG, "0 of path");
    options.buffer = bytes;
    options.fd = 0;
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source),
                 QRB_E_INVALID_ARG, "2 of path");
    options.buffer = NULL;
    options.fd = -2;
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source),
                 QRB_E_INVALID_ARG, "fd is -2");
    options.fd = 0;
    options.reserved = 1;
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source),
                 QRB_E_INVALID_ARG, "reserved is 1");
    options.reserved = 0;
    options.struct_size = 3;
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source),
                 QRB_E_INVALID_ARG, "struct_size");
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused_without_waiting)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    char path[256];
    int ends[2];

    ck_assert_int_eq(mkfifo(in_directory(directory, "fifo", path), 0600), 0);
    ASSERT_FAILS(ctx, qrb__source_open_path(ctx, path, &source), QRB_E_IO,
                 "not a regular file");
    ASSERT_FAILS(ctx, qrb__source_open_path(ctx, directory, &source), QRB_E_IO,
                 "not a regular file");
    ASSERT_FAILS(ctx, qrb__source_open_path(ctx, "/dev/null", &source),
                 QRB_E_IO, "not a regular file");
    ASSERT_FAILS(ctx,
                 qrb__source_open_path(
                     ctx, in_directory(directory, "none", path), &source),
                 QRB_E_IO, "none: No such file");
    ck_assert_int_eq(pipe(ends), 0);
    options.fd = ends[0];
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source), QRB_E_IO,
                 "not a regular file");
    close(ends[0]);
    close(ends[1]);
    ASSERT_FAILS(ctx, qrb__source_open(ctx, &options, &source), QRB_E_IO,
                 "cannot look at descriptor");
}
END_TEST

/* Field rule 15. */
START_TEST(names_out_of_files_stay_in_their_directory)
{
    static const char *const bad[] = { "",       ".",   "..",   "/etc/passwd",
                                       "../x",   "a/b", "a\\b", "./bytes",
                                       "bytes/", NULL };
    struct qrb__source *source;
    char path[256];
    char target[256];
    char name[300];

    for (size_t i = 0; bad[i] != NULL; i++)
        ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, bad[i], &source),
                     QRB_E_FORMAT, "plain names");
    memset(name, 'a', 299);
    name[299] = '\0';
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, name, &source),
                 QRB_E_FORMAT, "plain names");
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, "none", &source),
                 QRB_E_IO, "cannot open none in");
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, "/nowhere", "x", &source),
                 QRB_E_IO, "cannot open directory /nowhere");
    ASSERT_OK(ctx, qrb__source_open_in(ctx, directory, "bytes", &source));
    ck_assert_uint_eq(qrb__source_size(source), SIZE);
    qrb__source_close(source);

    ck_assert_int_eq(
        symlink("/etc/passwd", in_directory(directory, "out", path)), 0);
    ck_assert_int_eq(symlink("bytes", in_directory(directory, "in", path)), 0);
    ck_assert_int_eq(symlink("out", in_directory(directory, "twice", path)), 0);
    ck_assert_int_eq(symlink(in_directory(directory, "bytes", target),
                             in_directory(directory, "absolute", path)),
                     0);
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, "out", &source),
                 QRB_E_FORMAT, "leaves the directory");
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, "twice", &source),
                 QRB_E_FORMAT, "leaves the directory");
    ASSERT_FAILS(ctx, qrb__source_open_in(ctx, directory, "absolute", &source),
                 QRB_E_FORMAT, "leaves the directory");
    ASSERT_OK(ctx, qrb__source_open_in(ctx, directory, "in", &source));
    ck_assert_uint_eq(qrb__source_size(source), SIZE);
    qrb__source_close(source);
}
END_TEST

START_TEST(paths_are_joined_and_looked_at)
{
    char *path = qrb__path_join(ctx, "a", "b");

    ck_assert_str_eq(path, "a/b");
    qrb__free(ctx, path);
    path = qrb__path_join(ctx, "a/", "b");
    ck_assert_str_eq(path, "a/b");
    qrb__free(ctx, path);
    path = qrb__path_join(ctx, "", "b");
    ck_assert_str_eq(path, "b");
    qrb__free(ctx, path);
    ck_assert(qrb__path_is_directory(directory));
    ck_assert(!qrb__path_is_directory("/etc/passwd"));
    ck_assert(!qrb__path_is_directory("/nowhere"));
    ck_assert(qrb__path_has(directory, "bytes"));
    ck_assert(!qrb__path_has(directory, "none"));
    ck_assert(!qrb__path_has("/nowhere", "bytes"));
}
END_TEST

static qrb_status open_and_load(qrb_context *context, void *arg)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    char *all = NULL;
    size_t size;
    qrb_status status;

    options.buffer = bytes;
    options.size = SIZE;
    status = arg == NULL
                 ? qrb__source_open(context, &options, &source)
                 : qrb__source_open_in(context, directory, arg, &source);
    if (status != QRB_OK)
        return status;
    status = qrb__source_load(source, SIZE, &all, &size);
    qrb__free(context, all);
    qrb__source_close(source);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_source)
{
    char name[] = "bytes";

    fail_each_allocation(open_and_load, NULL);
    fail_each_allocation(open_and_load, name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("source");
    TCase *sources = tcase_create("source");

    tcase_add_checked_fixture(sources, set_up, tear_down);
    tcase_add_loop_test(sources, four_kinds_of_source_give_the_same_bytes, 0,
                        4);
    tcase_add_loop_test(sources, ranges_outside_of_a_source_are_refused, 0, 4);
    tcase_add_loop_test(sources,
                        a_file_that_shrinks_is_an_error_and_not_a_signal, 0, 2);
    tcase_add_test(sources, an_empty_file_is_a_source_of_no_bytes);
    tcase_add_test(sources,
                   a_callback_that_refuses_ends_the_read_with_its_code);
    tcase_add_test(sources, a_file_that_cannot_be_mapped_is_read);
    tcase_add_test(sources, a_descriptor_that_cannot_be_read_is_an_error);
    tcase_add_test(sources,
                   a_closed_source_holds_neither_descriptor_nor_mapping);
    tcase_add_test(sources, exactly_one_kind_of_source_is_given);
    tcase_add_test(sources, what_is_no_regular_file_is_refused_without_waiting);
    tcase_add_test(sources, names_out_of_files_stay_in_their_directory);
    tcase_add_test(sources, paths_are_joined_and_looked_at);
    tcase_add_test(sources, no_failed_allocation_leaks_a_source);
    suite_add_tcase(suite, sources);
    return run_suite(suite);
}
