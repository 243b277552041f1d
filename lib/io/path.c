/* Paths, and the gate in front of names that come out of files: openat() on
 * the directory's descriptor with O_NOFOLLOW, so that nobody can swap a link
 * in between a check and the open. */
#include "io/path.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_NAME = 255 };

/* O_NONBLOCK: opening a FIFO must not wait for its writer; the reader refuses
 * it afterwards because it is not a regular file. */
enum { OPEN_FLAGS = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW };

qrb_status qrb__fail_errno(qrb_context *ctx, int error, const char *verb,
                           const char *name)
{
    char text[128] = "";

    return qrb__fail(ctx, QRB_E_IO, "cannot %s %s: %s", verb, name,
                     strerror_r(error, text, sizeof text));
}

bool qrb__path_is_plain(const char *name)
{
    return name[0] != '\0' && strlen(name) <= MAX_NAME &&
           strcmp(name, ".") != 0 && strcmp(name, "..") != 0 &&
           strpbrk(name, "/\\") == NULL;
}

bool qrb__path_is_directory(const char *path)
{
    struct stat status;

    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

bool qrb__path_exists(const char *path)
{
    struct stat status;

    return lstat(path, &status) == 0;
}

bool qrb__path_has(const char *directory, const char *name)
{
    struct stat status;
    const int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool found;

    if (fd < 0)
        return false;
    found = fstatat(fd, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    close(fd);
    return found;
}

int qrb__path_open_parent(char *path, const char **base_out)
{
    const int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC;
    char *slash = strrchr(path, '/');
    int fd;

    *base_out = slash == NULL ? path : slash + 1;
    if (slash == NULL)
        return open(".", flags);
    if (slash == path)
        return open("/", flags);
    *slash = '\0';
    fd = open(path, flags);
    *slash = '/';
    return fd;
}

bool qrb__path_names(int directory, const char *name, int fd)
{
    struct stat held;
    struct stat named;

    return fstat(fd, &held) == 0 &&
           fstatat(directory, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
           held.st_dev == named.st_dev && held.st_ino == named.st_ino;
}

char *qrb__path_join(qrb_context *ctx, const char *directory, const char *name)
{
    const size_t length = strlen(directory);
    const bool slash = length > 0 && directory[length - 1] != '/';
    size_t size;
    char *path;

    if (!qrb__add_size(length + 2, strlen(name), &size))
        return NULL;
    path = qrb__alloc_array(ctx, size, 1);
    if (path == NULL)
        return NULL;
    memcpy(path, directory, length);
    if (slash)
        path[length] = '/';
    memcpy(path + length + slash, name, strlen(name) + 1);
    return path;
}

/* Open what a link in the directory points at, if that is a plain name. */
static int open_link(int directory, const char *name, bool *leads_out)
{
    char target[MAX_NAME + 2];
    const ssize_t length =
        readlinkat(directory, name, target, sizeof target - 1);

    *leads_out = false;
    if (length < 0)
        return -1;
    target[length] = '\0';
    if (!qrb__path_is_plain(target)) {
        *leads_out = true;
        return -1;
    }
    return openat(directory, target, OPEN_FLAGS);
}

qrb_status qrb__path_open_in(qrb_context *ctx, const char *directory,
                             const char *name, int *fd_out)
{
    qrb_status status = QRB_OK;
    char text[128] = "";
    bool leads_out = false;
    int at;
    int fd;

    if (!qrb__path_is_plain(name))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "file name \"%.80s\": only plain names inside the "
                         "model's directory are allowed",
                         name);
    at = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (at < 0)
        return qrb__fail_errno(ctx, errno, "open directory", directory);
    fd = openat(at, name, OPEN_FLAGS);
    if (fd < 0 && errno == ELOOP)
        fd = open_link(at, name, &leads_out);
    if (leads_out || (fd < 0 && errno == ELOOP))
        status = qrb__fail(ctx, QRB_E_FORMAT,
                           "%s in %s is a link that leaves the directory; "
                           "copy the file in its place",
                           name, directory);
    else if (fd < 0)
        status = qrb__fail(ctx, QRB_E_IO, "cannot open %s in %s: %s", name,
                           directory, strerror_r(errno, text, sizeof text));
    close(at);
    if (status == QRB_OK)
        *fd_out = fd;
    return status;
}
