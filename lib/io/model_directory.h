/* The files of a model in a directory, replaced as one unit.
 *
 * A model is several files that must belong together: a config.json beside
 * the weights of another model, or an index beside shards that are gone, opens
 * as a mixture or not at all.  So a model is written into a directory beside
 * its target, which then takes the target's place. */
#ifndef QRB_IO_MODEL_DIRECTORY_H
#define QRB_IO_MODEL_DIRECTORY_H

#include <stdbool.h>

#include "core/context.h"

#define QRB__TOKENIZER_FILE "tokenizer.json"

struct qrb__model_directory;

/* Whether a file of this name is one of a model's: config.json, the weights,
 * their index, their shards, and what a killed writer left of them; with
 * `tokenizer` also tokenizer.json. */
bool qrb__model_file(const char *name, bool tokenizer);

/* Begin a model for `path`, an existing directory, a link to one, or a name in
 * an existing directory.  Its files are written into
 * qrb__model_directory_path().  `tokenizer`: a tokenizer is one of them, and
 * one in the target goes even if none comes.  What a killed process left
 * beside the target is put right first.
 *
 * Returns QRB_OK; QRB_E_IO (not allowed, no directory, a mount point, holds
 * directories of its own, or another writer is at it); QRB_E_NO_MEMORY. */
qrb_status qrb__model_directory_open(qrb_context *ctx, const char *path,
                                     bool tokenizer,
                                     struct qrb__model_directory **out);

/* Where to write. */
const char *qrb__model_directory_path(const struct qrb__model_directory *model);

/* Put the new directory in the place of the target; every file in it has been
 * synced by its writer.  Files of the target that are none of a model's are
 * linked into the new directory before, and the target's mode is kept.
 *
 * Where the kernel and the file system exchange names (RENAME_EXCHANGE), the
 * target is at any moment the old model or the new one, and each complete.
 * Elsewhere the old directory is renamed to ".NAME.qrb-old" first: killed
 * right then, the target is missing, both models are there under their other
 * names, and the next qrb__model_directory_open() puts the old one back.
 *
 * QRB_OK; QRB_E_IO: the target is as it was, unless the last sync failed. */
qrb_status qrb__model_directory_commit(struct qrb__model_directory *model);

/* Release it; without a commit the new files are removed.  NULL is fine. */
void qrb__model_directory_close(struct qrb__model_directory *model);

#endif
