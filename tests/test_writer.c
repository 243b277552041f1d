/* The atomic writer: a target is replaced whole or not at all, and nothing is
 * left beside it. */
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "io/writer.h"

static char directory[64];
static char target[256];
static qrb_context *ctx;

static void set_up(void)
{
    make_directory(directory);
    put_file(in_directory(directory, "target", target), "before", 6);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static void expect_target(const char *text)
{
    char *found = get_file(target, NULL);

    ck_assert_str_eq(found, text);
    free(found);
}

static size_t count_entries(void)
{
    DIR *entries = opendir(directory);
    size_t count = 0;

    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count - 2; /* "." and ".." */
}

START_TEST(a_committed_file_replaces_its_target)
{
    ASSERT_OK(ctx, qrb__write_file(ctx, target, "after", 5));
    expect_target("after");
    ck_assert_uint_eq(count_entries(), 1);
}
END_TEST

START_TEST(pieces_of_every_size_arrive_in_order)
{
    static unsigned char bytes[200000];
    struct qrb__writer *writer;
    size_t written = 0;
    size_t size;
    char *found;

    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)(i * 31 + i / 251);
    ASSERT_OK(ctx, qrb__writer_open(ctx, target, &writer));
    for (size_t piece = 0; written + piece < sizeof bytes; piece += 977) {
        ASSERT_OK(ctx, qrb__writer_write(writer, bytes + written, piece));
        written += piece;
        ck_assert_uint_eq(qrb__writer_offset(writer), written);
    }
    ASSERT_OK(ctx, qrb__writer_write(writer, bytes, 100000));
    ASSERT_OK(ctx, qrb__writer_commit(writer));
    qrb__writer_close(writer);
    found = get_file(target, &size);
    ck_assert_uint_eq(size, written + 100000);
    ck_assert(memcmp(found, bytes, written) == 0);
    ck_assert(memcmp(found + written, bytes, 100000) == 0);
    free(found);
}
END_TEST

START_TEST(alignment_is_filled_with_zeros)
{
    struct qrb__writer *writer;
    size_t size;
    char *found;

    ASSERT_OK(ctx, qrb__writer_open(ctx, target, &writer));
    ASSERT_OK(ctx, qrb__writer_align(writer, 256));
    ck_assert_uint_eq(qrb__writer_offset(writer), 0);
    ASSERT_OK(ctx, qrb__writer_write(writer, "x", 1));
    ASSERT_OK(ctx, qrb__writer_align(writer, 256));
    ck_assert_uint_eq(qrb__writer_offset(writer), 256);
    ASSERT_OK(ctx, qrb__writer_commit(writer));
    qrb__writer_close(writer);
    found = get_file(target, &size);
    ck_assert_uint_eq(size, 256);
    ck_assert_int_eq(found[0], 'x');
    for (size_t i = 1; i < 256; i++)
        ck_assert_int_eq(found[i], 0);
    free(found);
}
END_TEST

START_TEST(an_abandoned_writer_leaves_no_trace)
{
    struct qrb__writer *writer;

    ASSERT_OK(ctx, qrb__writer_open(ctx, target, &writer));
    ASSERT_OK(ctx, qrb__writer_write(writer, "after", 5));
    qrb__writer_close(writer);
    expect_target("before");
    ck_assert_uint_eq(count_entries(), 1);
    qrb__writer_close(NULL);
}
END_TEST

START_TEST(a_new_file_obeys_the_mask_and_an_old_one_keeps_its_mode)
{
    const mode_t mask = umask(027);
    struct stat status;
    char path[256];

    in_directory(directory, "new", path);
    ASSERT_OK(ctx, qrb__write_file(ctx, path, "x", 1));
    ck_assert_int_eq(stat(path, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0640);
    ck_assert_int_eq(chmod(target, 0604), 0);
    ASSERT_OK(ctx, qrb__write_file(ctx, target, "x", 1));
    ck_assert_int_eq(stat(target, &status), 0);
    ck_assert_uint_eq(status.st_mode & 0777, 0604);
    umask(mask);
}
END_TEST

/* Field rule 19. */
START_TEST(who_has_the_old_file_mapped_keeps_it)
{
    const int fd = open(target, O_RDONLY);
    const char *mapped = mmap(NULL, 6, PROT_READ, MAP_SHARED, fd, 0);

    ck_assert(mapped != MAP_FAILED);
    ASSERT_OK(ctx, qrb__write_file(ctx, target, "", 0));
    expect_target("");
    ck_assert(memcmp(mapped, "before", 6) == 0);
    munmap((void *)(uintptr_t)mapped, 6);
    close(fd);
}
END_TEST

START_TEST(what_a_killed_writer_left_is_removed_by_the_next)
{
    struct qrb__writer *writer;
    const pid_t child = fork();
    int status;

    if (child == 0) {
        if (qrb__writer_open(ctx, target, &writer) == QRB_OK)
            raise(SIGKILL);
        _exit(1);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status));
    ck_assert_uint_eq(count_entries(), 2);
    expect_target("before");
    ASSERT_OK(ctx, qrb__write_file(ctx, target, "after", 5));
    expect_target("after");
    ck_assert_uint_eq(count_entries(), 1);
}
END_TEST

START_TEST(two_writers_of_one_target_do_not_mix)
{
    struct qrb__writer *first;
    struct qrb__writer *second;

    ASSERT_OK(ctx, qrb__writer_open(ctx, target, &first));
    ASSERT_FAILS(ctx, qrb__writer_open(ctx, target, &second), QRB_E_IO,
                 "another writer");
    ck_assert_ptr_null(second);
    ASSERT_OK(ctx, qrb__writer_write(first, "first", 5));
    ASSERT_OK(ctx, qrb__writer_commit(first));
    /* Committed, though not closed yet: the next one may begin. */
    ASSERT_OK(ctx, qrb__write_file(ctx, target, "second", 6));
    qrb__writer_close(first);
    expect_target("second");
    ck_assert_uint_eq(count_entries(), 1);
}
END_TEST

START_TEST(a_link_is_followed_and_stays_a_link)
{
    struct stat status;
    char link[256];

    ck_assert_int_eq(symlink("target", in_directory(directory, "link", link)),
                     0);
    ASSERT_OK(ctx, qrb__write_file(ctx, link, "after", 5));
    expect_target("after");
    ck_assert_int_eq(lstat(link, &status), 0);
    ck_assert(S_ISLNK(status.st_mode));

    ck_assert_int_eq(unlink(link), 0);
    ck_assert_int_eq(symlink("nowhere", link), 0);
    ASSERT_FAILS(ctx, qrb__write_file(ctx, link, "x", 1), QRB_E_IO,
                 "cannot resolve");
}
END_TEST

START_TEST(what_a_rename_would_destroy_is_refused)
{
    char path[256];

    ck_assert_int_eq(mkfifo(in_directory(directory, "fifo", path), 0600), 0);
    ASSERT_FAILS(ctx, qrb__write_file(ctx, path, "x", 1), QRB_E_IO,
                 "not a regular file");
    ASSERT_FAILS(ctx, qrb__write_file(ctx, directory, "x", 1), QRB_E_IO,
                 "not a regular file");
    ASSERT_FAILS(ctx, qrb__write_file(ctx, "/dev/null", "x", 1), QRB_E_IO,
                 "not a regular file");
    ASSERT_FAILS(ctx, qrb__write_file(ctx, "", "x", 1), QRB_E_IO,
                 "names no file");
    in_directory(directory, "none/new", path);
    ASSERT_FAILS(ctx, qrb__write_file(ctx, path, "x", 1), QRB_E_IO,
                 "open directory");
    in_directory(directory, "target/new", path);
    ASSERT_FAILS(ctx, qrb__write_file(ctx, path, "x", 1), QRB_E_IO,
                 "Not a directory");
}
END_TEST

START_TEST(a_path_without_directory_is_beside_the_working_one)
{
    char before[256];

    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir(directory), 0);
    ASSERT_OK(ctx, qrb__write_file(ctx, "target", "after", 5));
    expect_target("after");
    ck_assert_int_eq(chdir(before), 0);
}
END_TEST

/* What the child exits with: the status of a job under a limit, or 100 when
 * the message lacks the system's words. */
static int status_in_child(void (*limit)(void), const char *words)
{
    static unsigned char bytes[300000];
    const pid_t child = fork();
    int status;

    if (child == 0) {
        limit();
        status = qrb__write_file(ctx, target, bytes, sizeof bytes);
        if (strstr(qrb_context_message(ctx), words) == NULL)
            status = 100;
        _exit(status);
    }
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void limit_file_size(void)
{
    const struct rlimit limit = { 100000, 100000 };

    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit);
}

/* A limit on the size of files fails write() as a full disk does. */
START_TEST(a_full_disk_leaves_the_target_untouched)
{
    ck_assert_int_eq(status_in_child(limit_file_size, "File too large"),
                     QRB_E_IO);
    expect_target("before");
    ck_assert_uint_eq(count_entries(), 1);
}
END_TEST

static void drop_rights(void)
{
    if (geteuid() == 0 && seteuid(65534) != 0)
        _exit(99);
}

START_TEST(a_directory_without_write_permission_is_an_error)
{
    ck_assert_int_eq(chmod(directory, 0555), 0);
    ck_assert_int_eq(status_in_child(drop_rights, "Permission denied"),
                     QRB_E_IO);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    expect_target("before");
    ck_assert_uint_eq(count_entries(), 1);
}
END_TEST

static qrb_status write_some(qrb_context *context, void *arg)
{
    const qrb_status status = qrb__write_file(context, target, "after", 5);

    (void)arg;
    if (status != QRB_OK) {
        expect_target("before");
        ck_assert_uint_eq(count_entries(), 1);
    }
    return status;
}

START_TEST(no_failed_allocation_leaves_a_temporary_file)
{
    fail_each_allocation(write_some, NULL);
    expect_target("after");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("writer");
    TCase *writers = tcase_create("writer");

    tcase_add_checked_fixture(writers, set_up, tear_down);
    tcase_add_test(writers, a_committed_file_replaces_its_target);
    tcase_add_test(writers, pieces_of_every_size_arrive_in_order);
    tcase_add_test(writers, alignment_is_filled_with_zeros);
    tcase_add_test(writers, an_abandoned_writer_leaves_no_trace);
    tcase_add_test(writers,
                   a_new_file_obeys_the_mask_and_an_old_one_keeps_its_mode);
    tcase_add_test(writers, who_has_the_old_file_mapped_keeps_it);
    tcase_add_test(writers, what_a_killed_writer_left_is_removed_by_the_next);
    tcase_add_test(writers, two_writers_of_one_target_do_not_mix);
    tcase_add_test(writers, a_link_is_followed_and_stays_a_link);
    tcase_add_test(writers, what_a_rename_would_destroy_is_refused);
    tcase_add_test(writers, a_path_without_directory_is_beside_the_working_one);
    tcase_add_test(writers, a_full_disk_leaves_the_target_untouched);
    tcase_add_test(writers, a_directory_without_write_permission_is_an_error);
    tcase_add_test(writers, no_failed_allocation_leaves_a_temporary_file);
    suite_add_tcase(suite, writers);
    return run_suite(suite);
}
