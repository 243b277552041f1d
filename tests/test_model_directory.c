/* The files of a model are replaced as one unit, whatever moment a process is
 * killed at.  The calls that change directories stand here once more, in front
 * of the C library's: each counts, and one of them fails, or is the last. */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "io/model_directory.h"
#include "io/writer.h"

/* --- faults */

enum fault { FAULT_NONE, FAULT_KILL, FAULT_ERROR };

static struct {
    enum fault fault;
    int at;           /* the call that it strikes, from 1 on */
    int calls;        /* so far */
    bool no_exchange; /* the file system cannot */
} faults;

/* Prototypes are those of the headers; a call is a step. */
static bool strikes(void)
{
    if (++faults.calls != faults.at || faults.fault == FAULT_NONE)
        return false;
    if (faults.fault == FAULT_KILL)
        raise(SIGKILL);
    errno = EIO;
    return true;
}

int mkdirat(int fd, const char *path, mode_t mode)
{
    return strikes() ? -1 : (int)syscall(SYS_mkdirat, fd, path, mode);
}

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    return strikes() ? -1 : (int)syscall(SYS_linkat, from, old, to, new, flags);
}

int unlinkat(int fd, const char *name, int flags)
{
    return strikes() ? -1 : (int)syscall(SYS_unlinkat, fd, name, flags);
}

int renameat2(int from, const char *old, int to, const char *new,
              unsigned flags)
{
    if (strikes())
        return -1;
    if (faults.no_exchange) {
        errno = EINVAL;
        return -1;
    }
    return (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

int renameat(int from, const char *old, int to, const char *new)
{
    return strikes() ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int fsync(int fd)
{
    return strikes() ? -1 : (int)syscall(SYS_fsync, fd);
}

int fchmod(int fd, mode_t mode)
{
    return strikes() ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

/* --- a target */

static char directory[64];
static char target[256];
static qrb_context *ctx;

static const char *const old_files[] = {
    "config.json",
    "model.safetensors.index.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "tokenizer.json",
    ".model.safetensors.qrb-part",
    NULL,
};
static const char *const new_files[] = { "config.json", "model.safetensors",
                                         "tokenizer.json", NULL };
static const char *const other_files[] = { "README.md", "model-card.txt",
                                           NULL };

static void put_text(const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof path, "%s/%s", target, name);
    put_file(path, text, strlen(text));
}

static void make_old(void)
{
    ck_assert_int_eq(mkdir(target, 0700), 0);
    for (int i = 0; old_files[i] != NULL; i++)
        put_text(old_files[i], "old");
    for (int i = 0; other_files[i] != NULL; i++)
        put_text(other_files[i], "other");
}

static void set_up(void)
{
    memset(&faults, 0, sizeof faults);
    make_directory(directory);
    in_directory(directory, "model", target);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    faults.fault = FAULT_NONE;
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static size_t count_entries(const char *path)
{
    DIR *entries = opendir(path);
    size_t count = 0;

    ck_assert_msg(entries != NULL, "%s is not there", path);
    while (readdir(entries) != NULL)
        count++;
    closedir(entries);
    return count - 2; /* "." and ".." */
}

static bool holds(const char *name, const char *text)
{
    char path[512];
    char *found;
    bool same;

    snprintf(path, sizeof path, "%s/%s", target, name);
    if (access(path, F_OK) != 0)
        return false;
    found = get_file(path, NULL);
    same = strcmp(found, text) == 0;
    free(found);
    return same;
}

/* How many of the files are there with this text. */
static size_t count_held(const char *const *names, const char *text)
{
    size_t count = 0;

    for (int i = 0; names[i] != NULL; i++)
        count += holds(names[i], text);
    return count;
}

enum { OLD = 6, NEW = 3, OTHERS = 2 };

/* The target is the old model or the new one, each complete. */
static bool is_new(bool others)
{
    const size_t kept = others ? OTHERS : 0;
    const bool new = count_held(new_files, "new") == NEW;

    ck_assert_uint_eq(count_held(other_files, "other"), kept);
    if (!new)
        ck_assert_uint_eq(count_held(old_files, "old"), OLD);
    ck_assert_uint_eq(count_entries(target), kept + (new ? NEW : OLD));
    return new;
}

static qrb_status save_to(qrb_context *context, const char *path,
                          bool tokenizer)
{
    struct qrb__model_directory *model;
    qrb_status status =
        qrb__model_directory_open(context, path, tokenizer, &model);

    for (int i = 0; status == QRB_OK && i < NEW - !tokenizer; i++) {
        char file[512];

        snprintf(file, sizeof file, "%s/%s", qrb__model_directory_path(model),
                 new_files[i]);
        status = qrb__write_file(context, file, "new", 3);
    }
    if (status == QRB_OK)
        status = qrb__model_directory_commit(model);
    qrb__model_directory_close(model);
    return status;
}

static qrb_status save(qrb_context *context)
{
    return save_to(context, target, true);
}

/* --- tests */

START_TEST(a_new_model_makes_its_directory)
{
    struct stat found;
    const mode_t mask = umask(027);

    ASSERT_OK(ctx, save(ctx));
    umask(mask);
    ck_assert(is_new(false));
    ck_assert_int_eq(stat(target, &found), 0);
    ck_assert_uint_eq(found.st_mode & 07777, 0750);
    ck_assert_uint_eq(count_entries(directory), 1);
}
END_TEST

START_TEST(nothing_of_an_old_model_stays_and_all_else_does)
{
    struct stat before;
    struct stat after;
    char path[512];

    faults.no_exchange = _i == 1;
    make_old();
    put_text("model.safetensors.bak", "mine");
    put_text("model-1-of-.safetensors", "mine");
    ck_assert_int_eq(chmod(target, 0751), 0);
    snprintf(path, sizeof path, "%s/link", target);
    ck_assert_int_eq(symlink("nowhere", path), 0);
    ck_assert_int_eq(lstat(path, &before), 0);
    ASSERT_OK(ctx, save(ctx));
    ck_assert_int_eq(lstat(path, &after), 0);
    ck_assert_uint_eq(before.st_ino, after.st_ino);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(holds("model.safetensors.bak", "mine"));
    ck_assert(holds("model-1-of-.safetensors", "mine"));
    snprintf(path, sizeof path, "%s/model.safetensors.bak", target);
    ck_assert_int_eq(unlink(path), 0);
    snprintf(path, sizeof path, "%s/model-1-of-.safetensors", target);
    ck_assert_int_eq(unlink(path), 0);
    ck_assert(is_new(true));
    ck_assert_int_eq(stat(target, &after), 0);
    ck_assert_uint_eq(after.st_mode & 07777, 0751);
    ck_assert_uint_eq(count_entries(directory), 1);
    ASSERT_OK(ctx, save(ctx)); /* and again */
    ck_assert(is_new(true));
}
END_TEST

START_TEST(a_tokenizer_stays_where_none_is_written)
{
    make_old();
    ASSERT_OK(ctx, save_to(ctx, target, false));
    ck_assert(holds("tokenizer.json", "old"));
    ck_assert(holds("model.safetensors", "new"));
    ck_assert_uint_eq(count_entries(target), 5);
}
END_TEST

/* Directories cannot be linked, and a name that is no directory is not ours. */
START_TEST(what_cannot_be_kept_is_refused)
{
    char path[512];

    ck_assert_int_eq(mkdir(target, 0755), 0);
    snprintf(path, sizeof path, "%s/runs", target);
    ck_assert_int_eq(mkdir(path, 0755), 0);
    ASSERT_FAILS(ctx, save(ctx), QRB_E_IO, "it holds the directory runs");
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(rmdir(target), 0);
    put_file(target, "file", 4);
    ASSERT_FAILS(ctx, save(ctx), QRB_E_IO, "it is no directory");
    ck_assert_int_eq(unlink(target), 0);
    ck_assert_int_eq(symlink("nowhere", target), 0);
    ASSERT_FAILS(ctx, save(ctx), QRB_E_IO, "cannot resolve");
    ck_assert_int_eq(unlink(target), 0);
    in_directory(directory, "no/where", path);
    ASSERT_FAILS(ctx, save_to(ctx, path, true), QRB_E_IO, "no/where");
    ASSERT_FAILS(ctx, save_to(ctx, "", true), QRB_E_IO, "names no directory");
    ASSERT_FAILS(ctx, save_to(ctx, "/", true), QRB_E_IO, "names no directory");
    ASSERT_FAILS(ctx, save_to(ctx, "/proc", true), QRB_E_IO, "");
    ck_assert_uint_eq(count_entries(directory), 0);
}
END_TEST

START_TEST(links_slashes_and_dots_lead_to_the_directory)
{
    char path[256];
    char before[256];
    struct stat found;

    make_old();
    ck_assert_int_eq(symlink("model", in_directory(directory, "link", path)),
                     0);
    ASSERT_OK(ctx, save_to(ctx, path, true));
    ck_assert_int_eq(lstat(path, &found), 0);
    ck_assert(S_ISLNK(found.st_mode));
    ck_assert(is_new(true));
    ASSERT_OK(ctx,
              save_to(ctx, in_directory(directory, "model//", path), true));
    ASSERT_OK(ctx, save_to(ctx, in_directory(directory, "fresh/", path), true));
    ck_assert_ptr_nonnull(getcwd(before, sizeof before));
    ck_assert_int_eq(chdir(target), 0);
    ASSERT_OK(ctx, save_to(ctx, ".", true));
    ck_assert_int_eq(chdir(directory), 0);
    ASSERT_OK(ctx, save_to(ctx, "bare", true));
    ck_assert_int_eq(chdir(before), 0);
    ck_assert(is_new(true));
    ck_assert_uint_eq(count_entries(directory), 4); /* and link, fresh, bare */
}
END_TEST

START_TEST(two_writers_of_one_model_do_not_mix)
{
    struct qrb__model_directory *first;

    make_old();
    ASSERT_OK(ctx, qrb__model_directory_open(ctx, target, true, &first));
    ASSERT_FAILS(ctx, save(ctx), QRB_E_IO, "another writer");
    qrb__model_directory_close(first);
    ck_assert(!is_new(true));
    ASSERT_OK(ctx, save(ctx));
    ck_assert(is_new(true));
    ck_assert_uint_eq(count_entries(directory), 1);
    qrb__model_directory_close(NULL);
}
END_TEST

/* What a child of us exits with, or -1 when it was killed. */
static int run_in_child(int (*job)(void))
{
    const pid_t child = fork();
    int status;

    if (child == 0)
        _exit(job());
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int save_in_child(void)
{
    return (int)save(ctx);
}

static void start_again(bool old)
{
    remove_directory(directory);
    ck_assert_int_eq(mkdir(directory, 0700), 0);
    if (old)
        make_old();
    faults.calls = 0;
}

/* The next one written puts all right. */
static void expect_recovery(bool others)
{
    ASSERT_OK(ctx, save(ctx));
    ck_assert(is_new(others));
    ck_assert_uint_eq(count_entries(directory), 1);
}

/* Killed before each step, the target is one model or the other; where names
 * cannot be exchanged, there is one moment without it. */
START_TEST(a_process_killed_at_any_step_leaves_one_complete_model)
{
    int missing = 0;
    int olds = 0;
    int news = 0;
    int outcome = -1;

    faults.no_exchange = _i == 1;
    for (int step = 1; outcome != QRB_OK; step++) {
        start_again(true);
        faults.fault = FAULT_KILL;
        faults.at = step;
        outcome = run_in_child(save_in_child);
        ck_assert(outcome == -1 || outcome == QRB_OK);
        faults.fault = FAULT_NONE;
        if (access(target, F_OK) != 0)
            missing++;
        else if (is_new(true))
            news++;
        else
            olds++;
        expect_recovery(true);
    }
    ck_assert_int_ge(olds, 8);
    ck_assert_int_ge(news, 8);
    ck_assert_int_eq(missing, _i);
}
END_TEST

START_TEST(a_process_killed_at_any_step_leaves_no_half_of_a_first_model)
{
    int outcome = -1;

    for (int step = 1; outcome != QRB_OK; step++) {
        start_again(false);
        faults.fault = FAULT_KILL;
        faults.at = step;
        outcome = run_in_child(save_in_child);
        faults.fault = FAULT_NONE;
        ck_assert(access(target, F_OK) != 0 || is_new(false));
        expect_recovery(false);
    }
}
END_TEST

/* A step that fails is an error, or the model was in its place before. */
START_TEST(a_step_that_fails_leaves_one_complete_model)
{
    int failed = 0;

    faults.no_exchange = _i == 1;
    for (int step = 1;; step++) {
        qrb_status status;
        int calls;

        start_again(true);
        faults.fault = FAULT_ERROR;
        faults.at = step;
        status = save(ctx);
        calls = faults.calls;
        faults.fault = FAULT_NONE;
        ck_assert(status == QRB_OK || status == QRB_E_IO);
        failed += status != QRB_OK;
        ck_assert(is_new(true) || status != QRB_OK);
        expect_recovery(true);
        if (calls < step)
            break;
    }
    ck_assert_int_ge(failed, 8);
}
END_TEST

static void drop_rights(void)
{
    if (geteuid() == 0 && seteuid(65534) != 0)
        _exit(99);
}

static int save_without_rights(void)
{
    drop_rights();
    if (save(ctx) != QRB_E_IO)
        return 1;
    return strstr(qrb_context_message(ctx), "Permission denied") == NULL;
}

START_TEST(directories_without_write_permission_are_left_alone)
{
    make_old();
    ck_assert_int_eq(chmod(_i == 0 ? directory : target, 0555), 0);
    if (_i == 1)
        ck_assert_int_eq(chmod(directory, 0777), 0);
    ck_assert_int_eq(run_in_child(save_without_rights), 0);
    ck_assert_int_eq(chmod(directory, 0755), 0);
    ck_assert_int_eq(chmod(target, 0755), 0);
    ck_assert(!is_new(true));
    ck_assert_uint_eq(count_entries(directory), 1);
}
END_TEST

/* A file that appears in the old directory while the new one takes its place
 * is not lost with it. */
START_TEST(a_file_that_came_late_moves_to_the_new_model)
{
    struct qrb__model_directory *model;
    char path[512];

    make_old();
    faults.fault = FAULT_KILL;
    /* After the exchange: the first file of the old model is removed. */
    for (int step = 1;; step++) {
        start_again(true);
        faults.at = step;
        ck_assert_int_eq(run_in_child(save_in_child), -1);
        if (is_new(true))
            break;
    }
    faults.fault = FAULT_NONE;
    in_directory(directory, ".model.qrb-part/notes", path);
    put_file(path, "late", 4);
    ASSERT_OK(ctx, qrb__model_directory_open(ctx, target, true, &model));
    qrb__model_directory_close(model);
    ck_assert(holds("notes", "late"));
    ck_assert_uint_eq(count_entries(directory), 1);
}
END_TEST

static qrb_status save_some(qrb_context *context, void *arg)
{
    const qrb_status status = save(context);

    (void)arg;
    if (status != QRB_OK) {
        ck_assert(!is_new(true));
        ck_assert_uint_eq(count_entries(directory), 1);
    }
    return status;
}

START_TEST(no_failed_allocation_leaves_a_directory)
{
    make_old();
    fail_each_allocation(save_some, NULL);
    ck_assert(is_new(true));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model_directory");
    TCase *cases = tcase_create("directories");

    tcase_set_timeout(cases, 60);
    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_test(cases, a_new_model_makes_its_directory);
    tcase_add_loop_test(cases, nothing_of_an_old_model_stays_and_all_else_does,
                        0, 2);
    tcase_add_test(cases, a_tokenizer_stays_where_none_is_written);
    tcase_add_test(cases, what_cannot_be_kept_is_refused);
    tcase_add_test(cases, links_slashes_and_dots_lead_to_the_directory);
    tcase_add_test(cases, two_writers_of_one_model_do_not_mix);
    tcase_add_loop_test(
        cases, a_process_killed_at_any_step_leaves_one_complete_model, 0, 2);
    tcase_add_test(
        cases, a_process_killed_at_any_step_leaves_no_half_of_a_first_model);
    tcase_add_loop_test(cases, a_step_that_fails_leaves_one_complete_model, 0,
                        2);
    tcase_add_loop_test(
        cases, directories_without_write_permission_are_left_alone, 0, 2);
    tcase_add_test(cases, a_file_that_came_late_moves_to_the_new_model);
    tcase_add_test(cases, no_failed_allocation_leaves_a_directory);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
