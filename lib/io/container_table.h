/* The table of an open container; between its two files alone. */
#ifndef QRB_IO_CONTAINER_TABLE_H
#define QRB_IO_CONTAINER_TABLE_H

#include "io/container.h"
#include "io/source.h"

struct qrb__container_entry {
    const char *name; /* first, for qrb__compare_strings() */
    uint64_t offset;
    uint64_t size;
    const unsigned char *digest; /* [QRB__SHA256_SIZE], in the table */
};

struct qrb__container {
    qrb_context *ctx;
    struct qrb__source *source;
    unsigned char *table;                 /* [table_size], and its digest */
    char *names;                          /* each with its NUL */
    struct qrb__container_entry *entries; /* [count], in the order of writing */
    struct qrb__container_entry *by_name; /* [count], in order of names */
    size_t table_size;
    size_t count;
    uint32_t version;
};

/* Read head and table of container->source: what they say about themselves is
 * checked, offsets and sizes of sections are not yet.
 *
 * Returns QRB_OK; QRB_E_FORMAT; QRB_E_UNSUPPORTED; QRB_E_IO; QRB_E_CALLBACK;
 * QRB_E_NO_MEMORY. */
qrb_status qrb__container_table(struct qrb__container *container, uint32_t kind,
                                uint32_t max_version);

/* The entry of a name, or NULL; O(log count). */
const struct qrb__container_entry *qrb__container_lookup(
    const struct qrb__container *container, const char *name);

#endif
