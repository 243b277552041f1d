/* Reading containers.  The digest of the table is checked before anything in
 * it is looked at, and every length is still compared with what is there: a
 * digest keeps out accidents, not forgers. */
#include "io/container.h"

#include <stdlib.h>
#include <string.h>

#include "io/bytes.h"
#include "io/container_layout.h"
#include "io/name.h"
#include "io/sha256.h"
#include "io/source.h"

enum { BLOCK = 1 << 16 };

struct entry {
    const char *name;
    uint64_t offset;
    uint64_t size;
    const unsigned char *digest; /* [QRB__SHA256_SIZE], in the table */
};

struct qrb__container {
    qrb_context *ctx;
    struct qrb__source *source;
    unsigned char *table;
    char *names;           /* each with its NUL */
    struct entry *entries; /* [count], in the order of writing */
    struct entry *by_name; /* [count], in order of names */
    size_t count;
    uint32_t version;
};

/* What the fixed part says, checked. */
struct head {
    uint32_t version;
    uint32_t sections;
    size_t table;
};

static qrb_status check_head(qrb_context *ctx, const struct qrb__source *source,
                             const unsigned char *bytes, uint32_t kind,
                             uint32_t max_version, struct head *head)
{
    const char *name = qrb__source_name(source);
    const uint64_t size = qrb__source_size(source);
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
    head->version = qrb__load_u32(bytes + QRB__AT_VERSION);
    if (head->version > max_version)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: content version %u; at most %u is known", name,
                         head->version, max_version);
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
    head->table = (size_t)table;
    head->sections = qrb__load_u32(bytes + QRB__AT_COUNT);
    if (head->sections > QRB__CONTAINER_MAX_SECTIONS ||
        head->sections > table / QRB__ENTRY_SIZE)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: %u sections in a table of %zu bytes", name,
                         head->sections, head->table);
    return QRB_OK;
}

/* Head, table and their digest into container->table. */
static qrb_status load_table(struct qrb__container *container, uint32_t kind,
                             uint32_t max_version, struct head *head)
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
        status =
            check_head(ctx, container->source, bytes, kind, max_version, head);
    if (status != QRB_OK)
        return status;
    container->table = qrb__alloc_array(ctx, head->table + QRB__SHA256_SIZE, 1);
    if (container->table == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "table of %s", name);
    status = qrb__source_read(container->source, QRB__HEAD_SIZE,
                              container->table, head->table + QRB__SHA256_SIZE);
    if (status != QRB_OK)
        return status;
    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, QRB__HEAD_SIZE);
    qrb__sha256_add(&hash, container->table, head->table);
    qrb__sha256_end(&hash, digest);
    if (memcmp(digest, container->table + head->table, sizeof digest) != 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s is damaged: its table does not match its digest",
                         name);
    return QRB_OK;
}

/* One entry at `at` of the table; *next_out is where the next one begins. */
static qrb_status parse_entry(struct qrb__container *container, size_t table,
                              size_t at, char *name, struct entry *entry,
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

static int compare_names(const void *a, const void *b)
{
    const struct entry *x = a;
    const struct entry *y = b;

    return strcmp(x->name, y->name);
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
    qsort(container->by_name, count, sizeof *container->by_name, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(container->by_name[i - 1].name,
                   container->by_name[i].name) == 0)
            return qrb__fail(container->ctx, QRB_E_FORMAT,
                             "%s: two sections have one name",
                             qrb__source_name(container->source));
    return QRB_OK;
}

static qrb_status parse_table(struct qrb__container *container,
                              const struct head *head)
{
    size_t at = 0;
    size_t used = 0;

    if (head->sections > 0) {
        container->entries = qrb__alloc_array(container->ctx, head->sections,
                                              sizeof *container->entries);
        container->names = qrb__alloc_array(container->ctx, head->table, 1);
        if (container->entries == NULL || container->names == NULL)
            return qrb__fail(container->ctx, QRB_E_NO_MEMORY,
                             "%u sections of %s", head->sections,
                             qrb__source_name(container->source));
    }
    for (size_t i = 0; i < head->sections; i++) {
        char *name = container->names + used;
        const qrb_status status = parse_entry(container, head->table, at, name,
                                              &container->entries[i], &at);

        if (status != QRB_OK)
            return status;
        used += strlen(name) + 1;
    }
    container->count = head->sections;
    container->version = head->version;
    if (at != head->table)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: %zu bytes of the table are left over",
                         qrb__source_name(container->source), head->table - at);
    return container->count == 0 ? QRB_OK : index_names(container);
}

static qrb_status check_zeros(struct qrb__container *container, uint64_t begin,
                              uint64_t end)
{
    unsigned char gap[QRB__CONTAINER_ALIGNMENT];
    const size_t size = (size_t)(end - begin);
    const qrb_status status =
        qrb__source_read(container->source, begin, gap, size);

    for (size_t i = 0; status == QRB_OK && i < size; i++)
        if (gap[i] != 0)
            return qrb__fail(container->ctx, QRB_E_FORMAT,
                             "%s is damaged: byte %llu is not zero",
                             qrb__source_name(container->source),
                             (unsigned long long)(begin + i));
    return status;
}

static qrb_status check_digest(struct qrb__container *container,
                               const struct entry *entry, unsigned char *block)
{
    unsigned char digest[QRB__SHA256_SIZE];
    char shown[QRB__NAME_SHOWN];
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    for (uint64_t done = 0; done < entry->size;) {
        const uint64_t left = entry->size - done;
        const size_t size = left < BLOCK ? (size_t)left : BLOCK;
        const qrb_status status = qrb__source_read(
            container->source, entry->offset + done, block, size);

        if (status != QRB_OK)
            return status;
        qrb__sha256_add(&hash, block, size);
        done += size;
    }
    qrb__sha256_end(&hash, digest);
    if (memcmp(digest, entry->digest, sizeof digest) != 0)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s is damaged: section %s does not match its digest",
                         qrb__source_name(container->source),
                         qrb__name_text(entry->name, shown));
    return QRB_OK;
}

/* The sections follow each other on the next multiple of the alignment and
 * fill the file. */
static qrb_status check_sections(struct qrb__container *container,
                                 const struct head *head)
{
    const uint64_t size = qrb__source_size(container->source);
    uint64_t end = QRB__HEAD_SIZE + head->table + QRB__SHA256_SIZE;
    char shown[QRB__NAME_SHOWN];
    unsigned char *block = qrb__alloc_array(container->ctx, BLOCK, 1);
    qrb_status status = QRB_OK;

    if (block == NULL)
        return qrb__fail(container->ctx, QRB_E_NO_MEMORY, "%d bytes", BLOCK);
    for (size_t i = 0; i < container->count && status == QRB_OK; i++) {
        const struct entry *entry = &container->entries[i];
        const uint64_t begin = qrb__container_aligned(end);

        if (begin < end || entry->offset != begin || begin > size ||
            entry->size > size - begin) {
            status =
                qrb__fail(container->ctx, QRB_E_FORMAT,
                          "%s: section %s: %llu bytes at %llu, expected "
                          "to begin at %llu and to end within %llu",
                          qrb__source_name(container->source),
                          qrb__name_text(entry->name, shown),
                          (unsigned long long)entry->size,
                          (unsigned long long)entry->offset,
                          (unsigned long long)begin, (unsigned long long)size);
            break;
        }
        status = check_zeros(container, end, begin);
        if (status == QRB_OK)
            status = check_digest(container, entry, block);
        end = begin + entry->size;
    }
    if (status == QRB_OK && end != size)
        status = qrb__fail(container->ctx, QRB_E_FORMAT,
                           "%s: %llu bytes behind the last section",
                           qrb__source_name(container->source),
                           (unsigned long long)(size - end));
    qrb__free(container->ctx, block);
    return status;
}

void qrb__container_close(struct qrb__container *container)
{
    if (container == NULL)
        return;
    qrb__source_close(container->source);
    qrb__free(container->ctx, container->table);
    qrb__free(container->ctx, container->names);
    qrb__free(container->ctx, container->entries);
    qrb__free(container->ctx, container->by_name);
    qrb__free(container->ctx, container);
}

qrb_status qrb__container_open(qrb_context *ctx, const qrb_source *source,
                               uint32_t kind, uint32_t max_version,
                               struct qrb__container **out)
{
    struct qrb__container *container =
        qrb__alloc_array(ctx, 1, sizeof *container);
    struct head head = { 0, 0, 0 };
    qrb_status status;

    *out = NULL;
    if (container == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "container");
    container->ctx = ctx;
    status = qrb__source_open(ctx, source, &container->source);
    if (status == QRB_OK)
        status = load_table(container, kind, max_version, &head);
    if (status == QRB_OK)
        status = parse_table(container, &head);
    if (status == QRB_OK)
        status = check_sections(container, &head);
    if (status == QRB_OK) {
        *out = container;
        container = NULL;
    }
    qrb__container_close(container);
    return status;
}

qrb_status qrb__container_open_path(qrb_context *ctx, const char *path,
                                    uint32_t kind, uint32_t max_version,
                                    struct qrb__container **out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.path = path;
    return qrb__container_open(ctx, &source, kind, max_version, out);
}

uint32_t qrb__container_version(const struct qrb__container *container)
{
    return container->version;
}

size_t qrb__container_count(const struct qrb__container *container)
{
    return container->count;
}

const char *qrb__container_name(const struct qrb__container *container,
                                size_t index)
{
    return index < container->count ? container->entries[index].name : NULL;
}

static const struct entry *find_entry(const struct qrb__container *container,
                                      const char *name)
{
    const struct entry wanted = { .name = name };

    if (container->count == 0)
        return NULL;
    return bsearch(&wanted, container->by_name, container->count,
                   sizeof *container->by_name, compare_names);
}

bool qrb__container_find(const struct qrb__container *container,
                         const char *name, uint64_t *size_out)
{
    const struct entry *entry = find_entry(container, name);

    if (entry != NULL)
        *size_out = entry->size;
    return entry != NULL;
}

qrb_status qrb__container_read(const struct qrb__container *container,
                               const char *name, void *out, size_t size)
{
    const struct entry *entry = find_entry(container, name);
    char shown[QRB__NAME_SHOWN];

    if (entry == NULL)
        return qrb__fail(container->ctx, QRB_E_FORMAT, "%s: no section %s",
                         qrb__source_name(container->source),
                         qrb__name_text(name, shown));
    if (entry->size != size)
        return qrb__fail(container->ctx, QRB_E_FORMAT,
                         "%s: section %s: found %llu bytes, expected %zu",
                         qrb__source_name(container->source),
                         qrb__name_text(name, shown),
                         (unsigned long long)entry->size, size);
    return qrb__source_read(container->source, entry->offset, out, size);
}
