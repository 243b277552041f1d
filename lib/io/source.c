/* One checked read over four kinds of bytes.
 *
 * Files are mapped for those who want to look in place, but copies go through
 * pread(), which cannot fault.  A mapping is only handed out after fstat() has
 * said that the file is still as long as it was: a page beyond a file's end
 * would kill the host with SIGBUS. */
#include "io/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/path.h"

struct qrb__source {
    qrb_context *ctx;
    char *name;
    const unsigned char *bytes; /* buffer or mapping, or NULL */
    uint64_t size;
    qrb_read_at_fn read_at;
    void *read_at_user;
    void *mapping; /* [size], or NULL */
    void *copy_on_write; /* the same bytes, writable, or NULL */
    int fd;        /* -1: not a file */
    int owned_fd;  /* closed with the source; -1: the host's or none */
};

static qrb_status check_size(const struct qrb__source *source)
{
    struct stat status;

    if (source->fd < 0)
        return QRB_OK;
    if (fstat(source->fd, &status) != 0)
        return qrb__fail_errno(source->ctx, errno, "look at", source->name);
    if ((uint64_t)status.st_size < source->size)
        return qrb__fail(source->ctx, QRB_E_IO,
                         "%s shrank from %llu to %llu bytes while it was open",
                         source->name, (unsigned long long)source->size,
                         (unsigned long long)status.st_size);
    return QRB_OK;
}

static qrb_status adopt_file(struct qrb__source *source, int fd)
{
    struct stat status;

    source->fd = fd;
    if (fstat(fd, &status) != 0)
        return qrb__fail_errno(source->ctx, errno, "look at", source->name);
    if (!S_ISREG(status.st_mode))
        return qrb__fail(source->ctx, QRB_E_IO, "%s is not a regular file",
                         source->name);
    source->size = (uint64_t)status.st_size;
    if (source->size == 0 || source->size > SIZE_MAX)
        return QRB_OK;
    /* Without a mapping everything is read with pread(). */
    source->mapping =
        mmap(NULL, (size_t)source->size, PROT_READ, MAP_SHARED, fd, 0);
    if (source->mapping == MAP_FAILED)
        source->mapping = NULL;
    source->bytes = source->mapping;
    return QRB_OK;
}

static struct qrb__source *make_source(qrb_context *ctx, const char *name)
{
    struct qrb__source *source = qrb__alloc_array(ctx, 1, sizeof *source);

    if (source == NULL)
        return NULL;
    source->ctx = ctx;
    source->fd = -1;
    source->owned_fd = -1;
    source->name = qrb__strdup(ctx, name);
    if (source->name == NULL) {
        qrb__source_close(source);
        return NULL;
    }
    return source;
}

void qrb__source_close(struct qrb__source *source)
{
    if (source == NULL)
        return;
    if (source->mapping != NULL)
        munmap(source->mapping, (size_t)source->size);
    if (source->copy_on_write != NULL)
        munmap(source->copy_on_write, (size_t)source->size);
    if (source->owned_fd >= 0)
        close(source->owned_fd);
    qrb__free(source->ctx, source->name);
    qrb__free(source->ctx, source);
}

/* A source that owns `fd`, which is closed on failure too. */
static qrb_status own_file(qrb_context *ctx, const char *name, int fd,
                           struct qrb__source **out)
{
    struct qrb__source *source = make_source(ctx, name);
    qrb_status status;

    if (source == NULL) {
        close(fd);
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "source %s", name);
    }
    source->owned_fd = fd;
    status = adopt_file(source, fd);
    if (status != QRB_OK) {
        qrb__source_close(source);
        return status;
    }
    *out = source;
    return QRB_OK;
}

qrb_status qrb__source_open_path(qrb_context *ctx, const char *path,
                                 struct qrb__source **out)
{
    /* O_NONBLOCK: opening a FIFO must not wait for its writer. */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

    *out = NULL;
    if (fd < 0)
        return qrb__fail_errno(ctx, errno, "open", path);
    return own_file(ctx, path, fd, out);
}

qrb_status qrb__source_open_in(qrb_context *ctx, const char *directory,
                               const char *name, struct qrb__source **out)
{
    qrb_status status;
    char *path;
    int fd = -1;

    *out = NULL;
    status = qrb__path_open_in(ctx, directory, name, &fd);
    if (status != QRB_OK)
        return status;
    path = qrb__path_join(ctx, directory, name);
    if (path == NULL) {
        close(fd);
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "path of %s", name);
    }
    status = own_file(ctx, path, fd, out);
    qrb__free(ctx, path);
    return status;
}

static qrb_status check_options(qrb_context *ctx, const qrb_source *options)
{
    const int given = (options->path != NULL) + (options->buffer != NULL) +
                      (options->read_at != NULL) + (options->fd != -1);

    if (given != 1)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "source: %d of path, fd, buffer and read_at are "
                         "given; exactly one is allowed",
                         given);
    if (options->fd < -1 || options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "source: fd is %d and reserved is %u", options->fd,
                         options->reserved);
    if (options->buffer != NULL && options->size > SIZE_MAX)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "source: a buffer of %llu bytes",
                         (unsigned long long)options->size);
    return QRB_OK;
}

qrb_status qrb__source_open(qrb_context *ctx, const qrb_source *options,
                            struct qrb__source **out)
{
    qrb_source given = QRB_SOURCE_INIT;
    struct qrb__source *source;
    char name[32] = "";
    qrb_status status;

    *out = NULL;
    status = qrb__options_copy(ctx, options, sizeof given, "source", &given);
    if (status != QRB_OK)
        return status;
    status = check_options(ctx, &given);
    if (status != QRB_OK)
        return status;
    if (given.path != NULL)
        return qrb__source_open_path(ctx, given.path, out);

    if (given.fd >= 0)
        snprintf(name, sizeof name, "descriptor %d", given.fd);
    else
        strcpy(name, given.buffer != NULL ? "the buffer" : "the callback");
    source = make_source(ctx, name);
    if (source == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "source %s", name);
    if (given.fd >= 0) {
        status = adopt_file(source, given.fd);
    } else {
        source->bytes = given.buffer;
        source->read_at = given.read_at;
        source->read_at_user = given.read_at_user;
        source->size = given.size;
    }
    if (status != QRB_OK) {
        qrb__source_close(source);
        return status;
    }
    *out = source;
    return QRB_OK;
}

qrb_context *qrb__source_context(const struct qrb__source *source)
{
    return source->ctx;
}

const char *qrb__source_name(const struct qrb__source *source)
{
    return source->name;
}

uint64_t qrb__source_size(const struct qrb__source *source)
{
    return source->size;
}

static qrb_status check_range(const struct qrb__source *source, uint64_t offset,
                              size_t size)
{
    if (offset <= source->size && size <= source->size - offset)
        return QRB_OK;
    return qrb__fail(source->ctx, QRB_E_FORMAT,
                     "%s has %llu bytes, and %zu at %llu are not among them",
                     source->name, (unsigned long long)source->size, size,
                     (unsigned long long)offset);
}

static qrb_status read_file(const struct qrb__source *source, uint64_t offset,
                            unsigned char *out, size_t size)
{
    qrb_status status = check_size(source);

    if (status != QRB_OK)
        return status;
    while (size > 0) {
        const ssize_t count = pread(source->fd, out, size, (off_t)offset);

        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return qrb__fail_errno(source->ctx, errno, "read", source->name);
        if (count == 0)
            return qrb__fail(source->ctx, QRB_E_IO,
                             "%s ends at byte %llu, though it had %llu bytes "
                             "when it was opened",
                             source->name, (unsigned long long)offset,
                             (unsigned long long)source->size);
        out += count;
        offset += (uint64_t)count;
        size -= (size_t)count;
    }
    return QRB_OK;
}

static qrb_status read_callback(const struct qrb__source *source,
                                uint64_t offset, void *out, size_t size)
{
    int code;

    qrb__callback_begin(source->ctx);
    code = source->read_at(offset, out, size, source->read_at_user);
    qrb__callback_end(source->ctx);
    if (code != 0)
        return qrb__fail_callback(source->ctx, "read_at", code);
    return QRB_OK;
}

qrb_status qrb__source_read(const struct qrb__source *source, uint64_t offset,
                            void *out, size_t size)
{
    qrb_status status = check_range(source, offset, size);

    if (status != QRB_OK || size == 0)
        return status;
    if (source->fd >= 0)
        return read_file(source, offset, out, size);
    if (source->read_at != NULL)
        return read_callback(source, offset, out, size);
    memcpy(out, source->bytes + offset, size);
    return QRB_OK;
}

qrb_status qrb__source_view(const struct qrb__source *source, uint64_t offset,
                            size_t size, const unsigned char **out)
{
    qrb_status status = check_range(source, offset, size);

    *out = NULL;
    if (status == QRB_OK)
        status = check_size(source);
    if (status == QRB_OK && source->bytes != NULL)
        *out = source->bytes + offset;
    return status;
}

qrb_status qrb__source_check(const struct qrb__source *source)
{
    return check_size(source);
}

qrb_status qrb__source_map(struct qrb__source *source, uint64_t offset,
                           size_t size, unsigned char **out)
{
    qrb_status status = check_range(source, offset, size);

    *out = NULL;
    if (status == QRB_OK)
        status = check_size(source);
    if (status != QRB_OK || source->mapping == NULL)
        return status;
    if (source->copy_on_write == NULL) {
        /* Pages are only copied where they are written to, so swap need not
         * be set aside for all of them. */
        void *bytes = mmap(NULL, (size_t)source->size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_NORESERVE, source->fd, 0);

        if (bytes == MAP_FAILED)
            return QRB_OK;
        source->copy_on_write = bytes;
    }
    *out = (unsigned char *)source->copy_on_write + offset;
    return QRB_OK;
}

qrb_status qrb__source_load(const struct qrb__source *source, size_t limit,
                            char **bytes_out, size_t *size_out)
{
    char *bytes;
    qrb_status status;

    *bytes_out = NULL;
    if (source->size > limit || source->size == SIZE_MAX)
        return qrb__fail(source->ctx, QRB_E_FORMAT,
                         "%s has %llu bytes; at most %zu are allowed",
                         source->name, (unsigned long long)source->size, limit);
    bytes = qrb__alloc_array(source->ctx, (size_t)source->size + 1, 1);
    if (bytes == NULL)
        return qrb__fail(source->ctx, QRB_E_NO_MEMORY, "bytes of %s",
                         source->name);
    status = qrb__source_read(source, 0, bytes, (size_t)source->size);
    if (status != QRB_OK) {
        qrb__free(source->ctx, bytes);
        return status;
    }
    *bytes_out = bytes;
    *size_out = (size_t)source->size;
    return QRB_OK;
}
