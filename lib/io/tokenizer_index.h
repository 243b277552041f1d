/* A hash index of things that lie in an array of its owner. */
#ifndef QRB_IO_TOKENIZER_INDEX_H
#define QRB_IO_TOKENIZER_INDEX_H

#include "core/context.h"

#define QRB__INDEX_END UINT32_MAX

/* Open addressing with linear probing, at most half full.  A slot holds the
 * hash and the position of the thing in its array; whether two things are
 * equal is for the owner to say. */
struct qrb__index {
    struct qrb__index_slot {
        uint32_t hash;
        uint32_t entry; /* QRB__INDEX_END: empty */
    } * slots;
    size_t mask; /* slots - 1, a power of two less one */
    size_t count;
    size_t longest; /* probes that the worst entry took */
};

uint32_t qrb__hash_bytes(const char *bytes, size_t size);
uint32_t qrb__hash_pair(int32_t left, int32_t right);

/* Room for `entries` in all: QRB_OK or QRB_E_NO_MEMORY. */
qrb_status qrb__index_reserve(qrb_context *ctx, struct qrb__index *index,
                              size_t entries);

/* Entries whose hash is this, one a call; *probe starts at 0; after the last
 * one QRB__INDEX_END. */
uint32_t qrb__index_next(const struct qrb__index *index, uint32_t hash,
                         size_t *probe);

/* There is room for it and it is not there yet. */
void qrb__index_add(struct qrb__index *index, uint32_t hash, uint32_t entry);

void qrb__index_free(qrb_context *ctx, struct qrb__index *index);

#endif
