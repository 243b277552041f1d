/* Reading containers: every byte of the file is checked when it is opened, so
 * that its user may overwrite what it has with what it reads. */
#include "io/container_table.h"

#include <string.h>

#include "io/container_layout.h"
#include "io/name.h"
#include "io/sha256.h"

enum { BLOCK = 1 << 16 };

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
                               const struct qrb__container_entry *entry,
                               unsigned char *block)
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
static qrb_status check_sections(struct qrb__container *container)
{
    const uint64_t size = qrb__source_size(container->source);
    uint64_t end = QRB__HEAD_SIZE + container->table_size + QRB__SHA256_SIZE;
    char shown[QRB__NAME_SHOWN];
    unsigned char *block = qrb__alloc_array(container->ctx, BLOCK, 1);
    qrb_status status = QRB_OK;

    if (block == NULL)
        return qrb__fail(container->ctx, QRB_E_NO_MEMORY, "%d bytes", BLOCK);
    for (size_t i = 0; i < container->count && status == QRB_OK; i++) {
        const struct qrb__container_entry *entry = &container->entries[i];
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
    qrb_status status;

    *out = NULL;
    if (container == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "container");
    container->ctx = ctx;
    status = qrb__source_open(ctx, source, &container->source);
    if (status == QRB_OK)
        status = qrb__container_table(container, kind, max_version);
    if (status == QRB_OK)
        status = check_sections(container);
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

bool qrb__container_find(const struct qrb__container *container,
                         const char *name, uint64_t *size_out)
{
    const struct qrb__container_entry *entry =
        qrb__container_lookup(container, name);

    if (entry != NULL)
        *size_out = entry->size;
    return entry != NULL;
}

qrb_status qrb__container_read(const struct qrb__container *container,
                               const char *name, void *out, size_t size)
{
    const struct qrb__container_entry *entry =
        qrb__container_lookup(container, name);
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
