/* Atomic replacement of a file: a temporary file beside the target, written,
 * synced, renamed over it, and the directory synced.
 *
 * The temporary file has one name for each target, ".NAME.qrb-part", and its
 * writer holds a lock on it.  So what a killed process left behind is found
 * and removed by the next writer of the same target, and two writers at once
 * do not mix.  Every name is resolved against one descriptor of the directory.
 */
#include "io/writer.h"

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

enum { BUFFER_SIZE = 1 << 16, ATTEMPTS = 16 };

struct qrb__writer {
    qrb_context *ctx;
    char *path;            /* of the target, links resolved */
    const char *base;      /* its last component */
    char *partial;         /* name of the temporary file in the directory */
    unsigned char *buffer; /* [BUFFER_SIZE] */
    size_t buffered;
    uint64_t offset;
    mode_t mode;   /* of the target that is replaced; 0: there is none */
    int directory; /* -1: not open */
    int fd;        /* -1: not open */
};

/* Follow links to the file that is meant, and refuse what a rename would
 * destroy: devices, FIFOs, directories. */
static qrb_status resolve_target(struct qrb__writer *writer, const char *path)
{
    char resolved[PATH_MAX];
    struct stat status;
    const char *meant = path;

    if (lstat(path, &status) == 0) {
        if (S_ISLNK(status.st_mode)) {
            if (realpath(path, resolved) == NULL || lstat(resolved, &status))
                return qrb__fail_errno(writer->ctx, errno, "resolve", path);
            meant = resolved;
        }
        if (!S_ISREG(status.st_mode))
            return qrb__fail(writer->ctx, QRB_E_IO,
                             "cannot replace %s: it is not a regular file",
                             path);
        writer->mode = status.st_mode & 0777;
    } else if (errno != ENOENT) {
        return qrb__fail_errno(writer->ctx, errno, "look at", path);
    }
    writer->path = qrb__strdup(writer->ctx, meant);
    if (writer->path == NULL)
        return qrb__fail(writer->ctx, QRB_E_NO_MEMORY, "path of %s", path);
    return QRB_OK;
}

static qrb_status open_directory(struct qrb__writer *writer)
{
    size_t size;

    writer->directory = qrb__path_open_parent(writer->path, &writer->base);
    if (writer->directory < 0)
        return qrb__fail_errno(writer->ctx, errno, "open directory of",
                               writer->path);
    if (*writer->base == '\0')
        return qrb__fail(writer->ctx, QRB_E_IO,
                         "cannot write %s: it names no file", writer->path);
    size = strlen(writer->base) + sizeof "..qrb-part";
    writer->partial = qrb__alloc_array(writer->ctx, size, 1);
    if (writer->partial == NULL)
        return qrb__fail(writer->ctx, QRB_E_NO_MEMORY, "temporary name of %s",
                         writer->path);
    snprintf(writer->partial, size, ".%s.qrb-part", writer->base);
    return QRB_OK;
}

static bool is_current(const struct qrb__writer *writer, int fd)
{
    return qrb__path_names(writer->directory, writer->partial, fd);
}

/* Remove a temporary file that nobody holds a lock on.  False: it is in use,
 * or cannot be removed; errno says why. */
static bool remove_abandoned(const struct qrb__writer *writer)
{
    const int fd = openat(writer->directory, writer->partial,
                          O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
    bool removed;
    int error;

    if (fd < 0)
        return errno == ENOENT;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
        close(fd);
        errno = EBUSY;
        return false;
    }
    removed = !is_current(writer, fd) ||
              unlinkat(writer->directory, writer->partial, 0) == 0;
    error = errno;
    close(fd);
    errno = error;
    return removed;
}

/* Make the temporary file and lock it.  Between the making and the lock
 * another writer may take the file for an abandoned one and remove it, hence
 * the second look and the attempts. */
static qrb_status open_partial(struct qrb__writer *writer)
{
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
        const int fd = openat(writer->directory, writer->partial,
                              O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);

        if (fd < 0) {
            if (errno != EEXIST || !remove_abandoned(writer))
                break;
            continue;
        }
        /* A system without locks still has the exclusive creation. */
        if ((flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) &&
            is_current(writer, fd)) {
            writer->fd = fd;
            if (writer->mode != 0 && fchmod(fd, writer->mode) != 0)
                break;
            return QRB_OK;
        }
        close(fd);
        errno = EBUSY;
    }
    if (errno == EBUSY)
        return qrb__fail(writer->ctx, QRB_E_IO,
                         "cannot write %s: another writer is at it",
                         writer->path);
    return qrb__fail_errno(writer->ctx, errno, "write beside", writer->path);
}

qrb_status qrb__writer_open(qrb_context *ctx, const char *path,
                            struct qrb__writer **out)
{
    struct qrb__writer *writer = qrb__alloc_array(ctx, 1, sizeof *writer);
    qrb_status status;

    *out = NULL;
    if (writer == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "writer of %s", path);
    writer->ctx = ctx;
    writer->directory = -1;
    writer->fd = -1;
    writer->buffer = qrb__alloc_array(ctx, BUFFER_SIZE, 1);
    if (writer->buffer == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "buffer of %s", path);
        goto out;
    }
    status = resolve_target(writer, path);
    if (status != QRB_OK)
        goto out;
    status = open_directory(writer);
    if (status != QRB_OK)
        goto out;
    status = open_partial(writer);
    if (status != QRB_OK)
        goto out;
    *out = writer;
    writer = NULL;
out:
    qrb__writer_close(writer);
    return status;
}

static qrb_status write_bytes(struct qrb__writer *writer,
                              const unsigned char *bytes, size_t size)
{
    while (size > 0) {
        const ssize_t count = write(writer->fd, bytes, size);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return qrb__fail_errno(writer->ctx, errno, "write", writer->path);
        bytes += count;
        size -= (size_t)count;
    }
    return QRB_OK;
}

static qrb_status flush(struct qrb__writer *writer)
{
    const size_t size = writer->buffered;

    writer->buffered = 0;
    return write_bytes(writer, writer->buffer, size);
}

qrb_status qrb__writer_write(struct qrb__writer *writer, const void *bytes,
                             size_t size)
{
    qrb_status status;

    if (size == 0)
        return QRB_OK;
    if (size > BUFFER_SIZE - writer->buffered) {
        status = flush(writer);
        if (status != QRB_OK)
            return status;
    }
    writer->offset += size;
    if (size >= BUFFER_SIZE)
        return write_bytes(writer, bytes, size);
    memcpy(writer->buffer + writer->buffered, bytes, size);
    writer->buffered += size;
    return QRB_OK;
}

qrb_status qrb__writer_align(struct qrb__writer *writer, size_t alignment)
{
    static const unsigned char zeros[64];
    size_t missing = (size_t)(-writer->offset % alignment);

    while (missing > 0) {
        const size_t size = missing < sizeof zeros ? missing : sizeof zeros;
        const qrb_status status = qrb__writer_write(writer, zeros, size);

        if (status != QRB_OK)
            return status;
        missing -= size;
    }
    return QRB_OK;
}

uint64_t qrb__writer_offset(const struct qrb__writer *writer)
{
    return writer->offset;
}

qrb_status qrb__writer_commit(struct qrb__writer *writer)
{
    qrb_status status = flush(writer);

    if (status != QRB_OK)
        return status;
    if (fsync(writer->fd) != 0)
        return qrb__fail_errno(writer->ctx, errno, "sync", writer->path);
    if (renameat(writer->directory, writer->partial, writer->directory,
                 writer->base) != 0)
        return qrb__fail_errno(writer->ctx, errno, "replace", writer->path);
    close(writer->fd);
    writer->fd = -1; /* the temporary name is gone */
    /* Some file systems cannot sync a directory and say EINVAL. */
    if (fsync(writer->directory) != 0 && errno != EINVAL)
        return qrb__fail_errno(writer->ctx, errno, "sync the directory of",
                               writer->path);
    return QRB_OK;
}

void qrb__writer_close(struct qrb__writer *writer)
{
    if (writer == NULL)
        return;
    if (writer->fd >= 0) {
        unlinkat(writer->directory, writer->partial, 0);
        close(writer->fd);
    }
    if (writer->directory >= 0)
        close(writer->directory);
    qrb__free(writer->ctx, writer->partial);
    qrb__free(writer->ctx, writer->path);
    qrb__free(writer->ctx, writer->buffer);
    qrb__free(writer->ctx, writer);
}

qrb_status qrb__write_file(qrb_context *ctx, const char *path,
                           const void *bytes, size_t size)
{
    struct qrb__writer *writer;
    qrb_status status = qrb__writer_open(ctx, path, &writer);

    if (status != QRB_OK)
        return status;
    status = qrb__writer_write(writer, bytes, size);
    if (status == QRB_OK)
        status = qrb__writer_commit(writer);
    qrb__writer_close(writer);
    return status;
}
