/* safetensors files from inside: one checked header, and the object of one or
 * several of them. */
#ifndef QRB_IO_SAFETENSORS_H
#define QRB_IO_SAFETENSORS_H

#include "io/source.h"

#define QRB__SAFETENSORS_FILE "model.safetensors"
#define QRB__SAFETENSORS_INDEX "model.safetensors.index.json"

struct qrb__safetensors_entry {
    const char *name; /* first, for qrb__compare_strings() */
    uint64_t offset; /* of the first byte, in the file */
    uint64_t size;   /* bytes */
    size_t shape[QRB_MAX_RANK];
    uint32_t rank; /* a scalar is one of extent 1 */
    uint32_t dtype;
    uint32_t shard; /* index of its file */
};

struct qrb__safetensors_pair {
    const char *key;
    const char *value;
};

/* One file: its source and what its header says. */
struct qrb__safetensors_shard {
    struct qrb__source *source;
    char *strings; /* names, keys and values, one after the other */
    struct qrb__safetensors_entry *entries; /* [count], in order of offsets */
    struct qrb__safetensors_pair *pairs;    /* [pair_count], in file order */
    size_t count;
    size_t pair_count;
};

struct qrb_safetensors {
    qrb_context *ctx;
    struct qrb__safetensors_shard *shards;  /* [shard_count] */
    struct qrb__safetensors_entry *entries; /* [count], in order of names */
    size_t shard_count;
    size_t count;
};

/* Check all of the header of shard->source and fill in the rest of it; the
 * caller releases the shard also after a failure. */
qrb_status qrb__safetensors_header(struct qrb__safetensors_shard *shard);

/* Bring the shards' entries together in order of names.
 *
 * Returns QRB_OK; QRB_E_FORMAT (two have one name); QRB_E_NO_MEMORY. */
qrb_status qrb__safetensors_merge(qrb_safetensors *file);

#endif
