/* Paths, and the plain names that files may give for other files. */
#ifndef QRB_IO_PATH_H
#define QRB_IO_PATH_H

#include <stdbool.h>

#include "core/context.h"

/* What the system said: "cannot open NAME: No such file", QRB_E_IO. */
qrb_status qrb__fail_errno(qrb_context *ctx, int error, const char *verb,
                           const char *name);

/* A name of at most 255 bytes that stays in its directory: no separator, not
 * "." or "..", not empty. */
bool qrb__path_is_plain(const char *name);

bool qrb__path_is_directory(const char *path);

/* Whether there is anything of this name, also a link to nowhere. */
bool qrb__path_exists(const char *path);

/* Whether the directory has an entry of this name, of whatever type. */
bool qrb__path_has(const char *directory, const char *name);

/* Open the directory that a path is in, and give the path's last component.
 * -1: errno says why. */
int qrb__path_open_parent(char *path, const char **base_out);

/* Whether the name in the directory stands for what is open as fd. */
bool qrb__path_names(int directory, const char *name, int fd);

/* "directory/name" in memory of the context, or NULL. */
char *qrb__path_join(qrb_context *ctx, const char *directory, const char *name);

/* Open an entry of a directory for reading: the one gate for names that come
 * from files.  The name must be plain, and a link must point at a plain name
 * in the same directory that is no link itself.
 *
 * Returns QRB_OK; QRB_E_FORMAT (not plain, or a link out); QRB_E_IO. */
qrb_status qrb__path_open_in(qrb_context *ctx, const char *directory,
                             const char *name, int *fd_out);

#endif
