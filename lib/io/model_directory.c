/* A model's directory is made beside its target as ".NAME.qrb-part", under a
 * lock, and exchanged with it.  After the exchange that name is the old
 * directory's, and only what the new one has as well is removed from it.  So
 * whatever moment a process was killed at, what it left under either name can
 * be cleared by one rule: files of a model and files that the target has go,
 * and all others move into the target.
 *
 * O(entries) system calls, and no memory but paths. */
#include "io/model_directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/path.h"

enum { ATTEMPTS = 16, LISTED = 4096 };

enum { DIRECTORY = O_RDONLY | O_DIRECTORY | O_CLOEXEC };

struct qrb__model_directory {
    qrb_context *ctx;
    char *path;          /* of the target, links resolved */
    const char *base;    /* its last component */
    char *staged;        /* path of the new directory */
    const char *partial; /* its last component, ".NAME.qrb-part" */
    char *aside;         /* ".NAME.qrb-old" */
    int parent;          /* -1: not open */
    int fd;              /* of the new directory, locked; -1: not open */
    bool tokenizer;
    bool committed;
};

/* Call visit(name, arg) for each entry until one returns false, with errno. */
static bool each_entry(int directory, bool (*visit)(const char *, void *),
                       void *arg)
{
    _Alignas(struct dirent64) char listed[LISTED];
    ssize_t size;

    if (lseek(directory, 0, SEEK_SET) != 0)
        return false;
    while ((size = getdents64(directory, listed, sizeof listed)) > 0) {
        for (ssize_t at = 0; at < size;) {
            const struct dirent64 *entry = (const void *)(listed + at);

            at += entry->d_reclen;
            if (strcmp(entry->d_name, ".") != 0 &&
                strcmp(entry->d_name, "..") != 0 && !visit(entry->d_name, arg))
                return false;
        }
    }
    return size == 0;
}

static bool has(int directory, const char *name)
{
    struct stat found;

    return fstatat(directory, name, &found, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool lock(int fd)
{
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
        return true; /* a system without locks has exclusive creation still */
    errno = EBUSY;
    return false;
}

/* A directory that is to be removed, and the target, -1 if there is none. */
struct clearing {
    int directory;
    int target;
};

static bool clear_entry(const char *name, void *arg)
{
    const struct clearing *clearing = arg;

    if (qrb__model_file(name, true) ||
        (clearing->target >= 0 && has(clearing->target, name)))
        return unlinkat(clearing->directory, name, 0) == 0 || errno == ENOENT;
    if (clearing->target < 0) {
        errno = ENOTEMPTY;
        return false;
    }
    return renameat(clearing->directory, name, clearing->target, name) == 0;
}

/* Remove a directory that we hold the lock of.  What is in it and nowhere else
 * moves into the target.  False: errno says why. */
static bool remove_directory(const struct qrb__model_directory *model, int fd,
                             const char *name)
{
    const int target = openat(model->parent, model->base, DIRECTORY);
    struct clearing clearing = { fd, target };
    bool removed = (target >= 0 || errno == ENOENT) &&
                   each_entry(fd, clear_entry, &clearing);
    int error = errno;

    if (target >= 0)
        close(target);
    if (removed) {
        removed = unlinkat(model->parent, name, AT_REMOVEDIR) == 0;
        error = errno;
    }
    errno = error;
    return removed;
}

/* Remove what a killed process left under a name, if nobody is at it.  False:
 * errno says why, EBUSY for somebody. */
static bool remove_abandoned(const struct qrb__model_directory *model,
                             const char *name)
{
    const int fd = openat(model->parent, name, DIRECTORY | O_NOFOLLOW);
    bool removed;
    int error;

    if (fd < 0)
        return errno == ENOENT;
    removed = lock(fd);
    if (removed && qrb__path_names(model->parent, name, fd)) {
        /* Killed between two renames: the old model gets its name back. */
        if (!has(model->parent, model->base) &&
            has(model->parent, model->aside))
            removed = renameat(model->parent, model->aside, model->parent,
                               model->base) == 0;
        if (removed && qrb__path_names(model->parent, name, fd))
            removed = remove_directory(model, fd, name);
    }
    error = errno;
    close(fd);
    errno = error;
    return removed;
}

/* As qrb__writer_open() does it: between the making and the lock another may
 * take the directory for an abandoned one. */
static bool make_staged(struct qrb__model_directory *model)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        int fd;

        if (!remove_abandoned(model, model->partial))
            return false;
        if (mkdirat(model->parent, model->partial, 0777) != 0) {
            if (errno != EEXIST)
                return false;
            continue;
        }
        fd = openat(model->parent, model->partial, DIRECTORY | O_NOFOLLOW);
        if (fd >= 0 && lock(fd) &&
            qrb__path_names(model->parent, model->partial, fd)) {
            model->fd = fd;
            return remove_abandoned(model, model->aside);
        }
        if (fd >= 0)
            close(fd);
        errno = EBUSY;
    }
    return false;
}

static qrb_status fail_to(const struct qrb__model_directory *model,
                          const char *verb)
{
    if (errno == EBUSY)
        return qrb__fail(model->ctx, QRB_E_IO,
                         "cannot %s %s: another writer is at it, or it is a "
                         "mount point: name a directory inside it",
                         verb, model->path);
    return qrb__fail_errno(model->ctx, errno, verb, model->path);
}

/* The target with its links resolved, and without slashes at its end. */
static qrb_status resolve_target(struct qrb__model_directory *model,
                                 const char *path)
{
    char resolved[PATH_MAX];
    struct stat found;
    size_t length = strlen(path);

    if (lstat(path, &found) == 0) {
        if (realpath(path, resolved) == NULL)
            return qrb__fail_errno(model->ctx, errno, "resolve", path);
        if (!qrb__path_is_directory(resolved))
            return qrb__fail(model->ctx, QRB_E_IO,
                             "cannot write a model to %s: it is no directory",
                             path);
        path = resolved;
        length = strlen(path);
    } else if (errno != ENOENT) {
        return qrb__fail_errno(model->ctx, errno, "look at", path);
    }
    while (length > 0 && path[length - 1] == '/')
        length--;
    model->path = qrb__alloc_array(model->ctx, length + 1, 1);
    if (model->path == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "path of %s", path);
    memcpy(model->path, path, length);
    return QRB_OK;
}

/* The parent, and names of the directories that will be beside the target. */
static qrb_status open_parent(struct qrb__model_directory *model)
{
    const size_t size = strlen(model->path) + sizeof "..qrb-part";
    char *partial;
    size_t head;

    model->parent = qrb__path_open_parent(model->path, &model->base);
    if (model->parent < 0)
        return fail_to(model, "make directory");
    if (!qrb__path_is_plain(model->base))
        return qrb__fail(model->ctx, QRB_E_IO,
                         "cannot write a model to \"%s\": it names no "
                         "directory that can be replaced",
                         model->path);
    model->staged = qrb__alloc_array(model->ctx, size, 1);
    model->aside = qrb__alloc_array(model->ctx, size, 1);
    if (model->staged == NULL || model->aside == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "names beside %s",
                         model->path);
    head = (size_t)(model->base - model->path);
    partial = model->staged + head;
    memcpy(model->staged, model->path, head);
    snprintf(partial, size - head, ".%s.qrb-part", model->base);
    snprintf(model->aside, size, ".%s.qrb-old", model->base);
    model->partial = partial;
    return QRB_OK;
}

/* The target, which stays, and the directory that files of it go to. */
struct keeping {
    const struct qrb__model_directory *model;
    int target;
    bool only_look;
    qrb_status status;
};

static bool keep_entry(const char *name, void *arg)
{
    struct keeping *keeping = arg;
    const struct qrb__model_directory *model = keeping->model;
    struct stat found;
    char text[128] = "";

    if (fstatat(keeping->target, name, &found, AT_SYMLINK_NOFOLLOW) != 0)
        return errno == ENOENT; /* gone in the meantime */
    if (S_ISDIR(found.st_mode)) {
        keeping->status = qrb__fail(
            model->ctx, QRB_E_IO,
            "cannot replace %s: it holds the directory %.80s; name a "
            "directory that holds files of a model alone, or none yet",
            model->path, name);
        return false;
    }
    if (keeping->only_look || qrb__model_file(name, model->tokenizer) ||
        linkat(keeping->target, name, model->fd, name, 0) == 0)
        return true;
    keeping->status =
        qrb__fail(model->ctx, QRB_E_IO,
                  "cannot replace %s: %.80s in it cannot be kept: %s",
                  model->path, name, strerror_r(errno, text, sizeof text));
    return false;
}

/* Link files that are none of a model's into the new directory, or only look
 * whether that can be done. */
static qrb_status keep_others(const struct qrb__model_directory *model,
                              int target, bool only_look)
{
    struct keeping keeping = { model, target, only_look, QRB_OK };

    if (!each_entry(target, keep_entry, &keeping) && keeping.status == QRB_OK)
        return fail_to(model, "read directory");
    return keeping.status;
}

/* What would fail after the work is done should fail before. */
static qrb_status look_at_target(const struct qrb__model_directory *model)
{
    const int target = openat(model->parent, model->base, DIRECTORY);
    struct stat there;
    struct stat above;
    qrb_status status;

    if (target < 0)
        return errno == ENOENT ? QRB_OK : fail_to(model, "open directory");
    if (fstat(target, &there) == 0 && fstat(model->parent, &above) == 0 &&
        there.st_dev != above.st_dev) {
        errno = EBUSY;
        status = fail_to(model, "replace");
    } else if (faccessat(model->parent, model->base, W_OK | X_OK, AT_EACCESS) !=
               0) {
        /* The exchange would not mind, but who forbade writing does. */
        status = fail_to(model, "write to");
    } else {
        status = keep_others(model, target, true);
    }
    close(target);
    return status;
}

qrb_status qrb__model_directory_open(qrb_context *ctx, const char *path,
                                     bool tokenizer,
                                     struct qrb__model_directory **out)
{
    struct qrb__model_directory *model =
        qrb__alloc_array(ctx, 1, sizeof *model);
    qrb_status status;

    *out = NULL;
    if (model == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "directory of %s", path);
    model->ctx = ctx;
    model->tokenizer = tokenizer;
    model->parent = -1;
    model->fd = -1;
    status = resolve_target(model, path);
    if (status == QRB_OK)
        status = open_parent(model);
    if (status == QRB_OK && !make_staged(model))
        status = fail_to(model, "make a directory beside");
    if (status == QRB_OK)
        status = look_at_target(model);
    if (status == QRB_OK) {
        *out = model;
        model = NULL;
    }
    qrb__model_directory_close(model);
    return status;
}

const char *qrb__model_directory_path(const struct qrb__model_directory *model)
{
    return model->staged;
}

/* Some file systems cannot sync a directory and say EINVAL. */
static bool sync_directory(int fd)
{
    return fsync(fd) == 0 || errno == EINVAL;
}

/* Let the new directory and the old one change places; where names cannot be
 * exchanged, the old one ends up aside. */
static qrb_status exchange(struct qrb__model_directory *model,
                           const char **old_out)
{
    int error;

    *old_out = model->partial;
    if (renameat2(model->parent, model->partial, model->parent, model->base,
                  RENAME_EXCHANGE) == 0)
        return QRB_OK;
    if (errno != EINVAL && errno != ENOSYS)
        return fail_to(model, "replace");
    *old_out = model->aside;
    if (renameat(model->parent, model->base, model->parent, model->aside) != 0)
        return fail_to(model, "replace");
    if (renameat(model->parent, model->partial, model->parent, model->base) ==
        0)
        return QRB_OK;
    error = errno;
    renameat(model->parent, model->aside, model->parent, model->base);
    errno = error;
    return fail_to(model, "replace");
}

static qrb_status replace(struct qrb__model_directory *model, int target)
{
    struct stat found;
    const char *old;
    qrb_status status;

    /* The lock goes with the directory, to its name after the exchange. */
    if (!lock(target))
        return fail_to(model, "replace");
    status = keep_others(model, target, false);
    if (status != QRB_OK)
        return status;
    if (fstat(target, &found) != 0 ||
        fchmod(model->fd, found.st_mode & 07777) != 0 ||
        !sync_directory(model->fd))
        return fail_to(model, "keep the mode of");
    status = exchange(model, &old);
    if (status != QRB_OK)
        return status;
    model->committed = true;
    if (!sync_directory(model->parent))
        return fail_to(model, "sync the directory of");
    /* The model is there; if this fails, the next one written tries again. */
    if (!remove_directory(model, target, old))
        qrb__log(model->ctx, QRB_LOG_WARNING,
                 "the replaced model of %s is left beside it as %s",
                 model->path, old);
    return QRB_OK;
}

qrb_status qrb__model_directory_commit(struct qrb__model_directory *model)
{
    const int target = openat(model->parent, model->base, DIRECTORY);
    qrb_status status;

    if (target >= 0) {
        status = replace(model, target);
        close(target);
        return status;
    }
    if (errno != ENOENT)
        return fail_to(model, "open directory");
    if (!sync_directory(model->fd))
        return fail_to(model, "sync");
    if (renameat(model->parent, model->partial, model->parent, model->base) !=
        0)
        return fail_to(model, "make directory");
    model->committed = true;
    if (!sync_directory(model->parent))
        return fail_to(model, "sync the directory of");
    return QRB_OK;
}

void qrb__model_directory_close(struct qrb__model_directory *model)
{
    if (model == NULL)
        return;
    if (model->fd >= 0) {
        if (!model->committed)
            remove_directory(model, model->fd, model->partial);
        close(model->fd);
    }
    if (model->parent >= 0)
        close(model->parent);
    qrb__free(model->ctx, model->path);
    qrb__free(model->ctx, model->staged);
    qrb__free(model->ctx, model->aside);
    qrb__free(model->ctx, model);
}
