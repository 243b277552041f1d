/* Head and table of a container.  Their digest is checked before anything in
 * the table is looked at, and every length is still compared with what is
 * there: a digest keeps out accidents, not forgers. */
#include "io/container_table.h"

#include <stdlib.h>
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/container_layout.h"
#include "io/name.h"
#include "io/sha256.h"

/* The fixed part: what it says is noted in the container. */
static qrb_status check_head(struct qrb__container *container,
                             const unsigned char *bytes, uint32_t kind,
                             uint32_t max_version, uint32_t *sections_out)
{
    qrb_context *ctx = container->ctx;
    const char *name = qrb__source_name(container->source);
    const uint64_t size = qrb__source_size(container->source);
    const uint32_t layout = qrb__load_u32(bytes + QRB__AT_LAYOUT);
    const uint64_t table = qrb__load_u64(bytes + QRB__AT_TABLE);

    if (memcmp(bytes, QRB__CONTAINER_MAGIC, QRB__AT_LAYOUT) != 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s does not begin with \"" QRB__CONTAINER_MAGIC "\"",
                         name);
    if (layout != QRB__CONTAINER_LAYOUT)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: layout %u; only %d is known", name, layout,
                         QRB__CONTAINER_LAYOUT);
    if (qrb__load_u32(bytes + QRB__AT_KIND) != kind)
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: kind %u, expected %u", name,
                         qrb__load_u32(bytes + QRB__AT_KIND), kind);
    container->version = qrb__load_u32(bytes + QRB__AT_VERSION);
    if (container->version > max_version)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: content version %u; at most %u is known", name,
                         container->version, max_version);
    if (qrb__load_u64(bytes + QRB__AT_SIZE) != size)
        return qrb__fail(
            ctx, QRB_E_FORMAT, "%s: %llu bytes, expected %llu", name,
            (unsigned long long)size,
            (unsigned long long)qrb__load_u64(bytes + QRB__AT_SIZE));
    if (size < QRB__HEAD_SIZE + QRB__SHA256_SIZE ||
        table > size - QRB__HEAD_SIZE - QRB__SHA256_SIZE ||
        table > QRB__MAX_TABLE)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: a table of %llu bytes in a file of %llu", name,
                         (unsigned long long)table, (unsigned long long)size);
    container->table_size = (size_t)table;
    *sections_out = qrb__load_u32(bytes + QRB__AT_COUNT);
    if (*sections_out > QRB__CONTAINER_MAX_SECTIONS ||
        *sections_out > table / QRB__ENTRY_SIZE)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: %u sections in a table of %zu bytes", name,
                         *sections_out, container->table_size);
    return QRB_OK;
}

/* Head, table and their digest into container->table. */
static qrb_status load_table(struct qrb__container *container, uint32_t kind,
                             uint32_t max_version, uint32_t *sections_out)
{
    qrb_context *ctx = container->ctx;
    const char *name = qrb__source_name(container->source);
    unsigned char bytes[QRB__HEAD_SIZE];
    unsigned char digest[QRB__SHA256_SIZE];
    struct qrb__sha256 hash;
    qrb_status status;

    if (qrb__source_size(container->source) < QRB__HEAD_SIZE)
        return qrb__fail(
            ctx, QRB_E_FORMAT, "%s has %llu bytes, too few for a container",
            name, (unsigned long long)qrb__source_size(container->source));
    status = qrb__source_read(container->source, 0, bytes, QRB__HEAD_SIZE);
    if (status == QRB_OK)
        status = check_head(container, bytes, kind, max_version, sections_out);
    if (status != QRB_OK)
        return status;
    container->table =
        qrb__alloc_array(ctx, container->table_size + QRB__SHA256_SIZE, 1);
    if (container->table == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "table of %s", name);
    status =
        qrb__source_read(container->source, QRB__HEAD_SIZE, container->table,
                         container->table_size + QRB__SHA256_SIZE);
    if (status != QRB_OK)
        return status;
    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, QRB__HEAD_SIZE);
    qrb__sha256_add(&hash, container->table, container->table_size);
    qrb__sha256_end(&hash, digest);
    if (memcmp(digest, container->table + container->table_size,
               sizeof digest) != 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s is damaged: its table does not match its digest",
                         name);
    return QRB_OK;
}

/* One entry at `at` of the table; *next_out is where the next one begins. */
static qrb_status parse_entry(struct qrb__container *container, size_t table,
                              size_t at, char *name,
                              struct qrb__container_entry *entry,
                              size_t *next_out)
{
    const char *file = qrb__source_name(container->source);
    size_t length;

    if (table - at < QRB__ENTRY_SIZE)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: the table ends inside an entry", file);
    length = qrb__load_u32(container->table + at);
    if (length > QRB__NAME_MAX || length > table - at - QRB__ENTRY_SIZE)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: a name of %zu bytes", file, length);
    memcpy(name, container->table + at + 4, length);
    name[length] = '\0';
    if (strlen(name) != length)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: a section's name holds NUL", file);
    at += 4 + length;
    entry->name = name;
    entry->offset = qrb__load_u64(container->table + at);
    entry->size = qrb__load_u64(container->table + at + 8);
    entry->digest = container->table + at + 16;
    *next_out = at + 16 + QRB__SHA256_SIZE;
    return qrb__name_check(container->ctx, name, file);
}

static qrb_status index_names(struct qrb__container *container)
{
    const size_t count = container->count;

    container->by_name =
        qrb__alloc_array(container->ctx, count, sizeof *container->by_name);
    if (container->by_name == NULL)
        return qrb__fail(container->ctx, QRB_E_NO_MEMORY, "index of %zu names",
                         count);
    memcpy(container->by_name, container->entries,
           count * sizeof *container->entries);
    qrb__sort(container->by_name, count, sizeof *container->by_name,
              qrb__compare_strings);
    for (size_t i = 1; i < count; i++)
        if (strcmp(container->by_name[i - 1].name,
                   container->by_name[i].name) == 0)
            return qrb__fail(container->ctx, QRB_E_FORMAT,
                             "%s: two sections have one name",
                             qrb__source_name(container->source));
    return QRB_OK;
}

static qrb_status parse_table(struct qrb__container *container,
                              uint32_t sections)
{
    size_t at = 0;
    size_t used = 0;

    if (sections > 0) {
        container->entries = qrb__alloc_array(container->ctx, sections,
                                              sizeof *container->entries);
        container->names =
            qrb__alloc_array(container->ctx, container->table_size, 1);
        if (container->entries == NULL || container->names == NULL)
            return qrb__fail(container->ctx, QRB_E_NO_MEMORY,
                             "%u sections of %s", sections,
                             qrb__source_name(container->source));
    }
    for (size_t i = 0; i < sections; i++) {
        char *name = container->names + used;
        const qrb_status status =
            parse_entry(container, container->table_size, at, name,
                        &container->entries[i], &at);

        if (status != QRB_OK)
            return status;
        used += strlen(name) + 1;
    }
    container->count = sections;
    if (at != container->table_size)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: %zu bytes of the table are left over",
                         qrb__source_name(container->source),
                         container->table_size - at);
    return container->count == 0 ? QRB_OK : index_names(container);
}

const struct qrb__container_entry *qrb__container_lookup(
    const struct qrb__container *container, const char *name)
{
    const struct qrb__container_entry wanted = { .name = name };

    if (container->count == 0)
        return NULL;
    return bsearch(&wanted, container->by_name, container->count,
                   sizeof *container->by_name, qrb__compare_strings);
}

qrb_status qrb__container_table(struct qrb__container *container, uint32_t kind,
                                uint32_t max_version)
{
    uint32_t sections = 0;
    const qrb_status status =
        load_table(container, kind, max_version, &sections);

    return status == QRB_OK ? parse_table(container, sections) : status;
}
