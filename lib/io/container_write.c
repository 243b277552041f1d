/* Writing containers: digests first, each section a task of its own, then
 * head, table and sections through the atomic writer. */
#include <string.h>

#include "core/sort.h"
#include "io/bytes.h"
#include "io/container.h"
#include "io/container_layout.h"
#include "io/name.h"
#include "io/sha256.h"
#include "io/text.h"
#include "io/writer.h"

struct digests {
    const struct qrb__section *sections;
    unsigned char (*bytes)[QRB__SHA256_SIZE]; /* [count] */
};

static void digest_section(size_t task, size_t worker, void *arg)
{
    const struct digests *digests = arg;
    const struct qrb__section *section = &digests->sections[task];
    struct qrb__sha256 hash;

    (void)worker;
    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, section->bytes, section->size);
    qrb__sha256_end(&hash, digests->bytes[task]);
}

static qrb_status check_names(qrb_context *ctx,
                              const struct qrb__section *sections, size_t count)
{
    const char **names;
    qrb_status status = QRB_OK;
    size_t table = 0;
    char shown[QRB__NAME_SHOWN];

    if (count > QRB__CONTAINER_MAX_SECTIONS)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%zu sections; at most %d are allowed", count,
                         QRB__CONTAINER_MAX_SECTIONS);
    names = qrb__alloc_array(ctx, count, sizeof *names);
    if (names == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu names", count);
    for (size_t i = 0; i < count && status == QRB_OK; i++) {
        names[i] = sections[i].name;
        if (qrb__name_check(ctx, names[i], "section to write") != QRB_OK)
            status = qrb__fail(ctx, QRB_E_INVALID_ARG, "%s",
                               qrb_context_message(ctx));
        table += QRB__ENTRY_SIZE + strlen(names[i]);
    }
    if (status == QRB_OK && table > QRB__MAX_TABLE)
        status = qrb__fail(ctx, QRB_E_INVALID_ARG,
                           "a table of %zu bytes; at most %d are allowed",
                           table, QRB__MAX_TABLE);
    if (status == QRB_OK)
        qrb__sort(names, count, sizeof *names, qrb__compare_strings);
    for (size_t i = 1; i < count && status == QRB_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            status =
                qrb__fail(ctx, QRB_E_INVALID_ARG, "two sections are called %s",
                          qrb__name_text(names[i], shown));
    qrb__free(ctx, names);
    return status;
}

static void append_u32(struct qrb__text *text, uint32_t value)
{
    unsigned char bytes[4];

    qrb__store_u32(bytes, value);
    qrb__text_append(text, (const char *)bytes, sizeof bytes);
}

static void append_u64(struct qrb__text *text, uint64_t value)
{
    unsigned char bytes[8];

    qrb__store_u64(bytes, value);
    qrb__text_append(text, (const char *)bytes, sizeof bytes);
}

/* Head, table and their digest. */
static void append_front(struct qrb__text *text, uint32_t kind,
                         uint32_t version, const struct digests *digests,
                         size_t count)
{
    unsigned char digest[QRB__SHA256_SIZE];
    struct qrb__sha256 hash;
    size_t table = 0;
    uint64_t end;

    for (size_t i = 0; i < count; i++)
        table += QRB__ENTRY_SIZE + strlen(digests->sections[i].name);
    end = QRB__HEAD_SIZE + table + QRB__SHA256_SIZE;
    for (size_t i = 0; i < count; i++)
        end = qrb__container_aligned(end) + digests->sections[i].size;

    qrb__text_append(text, QRB__CONTAINER_MAGIC, QRB__AT_LAYOUT);
    append_u32(text, QRB__CONTAINER_LAYOUT);
    append_u32(text, kind);
    append_u32(text, version);
    append_u32(text, (uint32_t)count);
    append_u64(text, table);
    append_u64(text, end);
    end = QRB__HEAD_SIZE + table + QRB__SHA256_SIZE;
    for (size_t i = 0; i < count; i++) {
        const struct qrb__section *section = &digests->sections[i];

        end = qrb__container_aligned(end);
        append_u32(text, (uint32_t)strlen(section->name));
        qrb__text_append(text, section->name, strlen(section->name));
        append_u64(text, end);
        append_u64(text, section->size);
        qrb__text_append(text, (const char *)digests->bytes[i],
                         QRB__SHA256_SIZE);
        end += section->size;
    }
    if (text->failed)
        return;
    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, text->bytes, text->size);
    qrb__sha256_end(&hash, digest);
    qrb__text_append(text, (const char *)digest, sizeof digest);
}

static qrb_status write_all(qrb_context *ctx, const char *path,
                            const struct qrb__text *front,
                            const struct qrb__section *sections, size_t count)
{
    struct qrb__writer *writer;
    qrb_status status = qrb__writer_open(ctx, path, &writer);

    if (status != QRB_OK)
        return status;
    status = qrb__writer_write(writer, front->bytes, front->size);
    for (size_t i = 0; i < count && status == QRB_OK; i++) {
        status = qrb__writer_align(writer, QRB__CONTAINER_ALIGNMENT);
        if (status == QRB_OK)
            status =
                qrb__writer_write(writer, sections[i].bytes, sections[i].size);
    }
    if (status == QRB_OK)
        status = qrb__writer_commit(writer);
    qrb__writer_close(writer);
    return status;
}

qrb_status qrb__container_write(qrb_context *ctx, const char *path,
                                uint32_t kind, uint32_t version,
                                const struct qrb__section *sections,
                                size_t count)
{
    struct digests digests = { sections, NULL };
    struct qrb__text front = { .ctx = ctx };
    qrb_status status = QRB_OK;

    if (count > 0) {
        status = check_names(ctx, sections, count);
        if (status != QRB_OK)
            return status;
        digests.bytes = qrb__alloc_array(ctx, count, sizeof *digests.bytes);
        if (digests.bytes == NULL)
            return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu digests", count);
        qrb__parallel_for(ctx, count, digest_section, &digests);
    }
    append_front(&front, kind, version, &digests, count);
    status = qrb__text_status(&front, path);
    if (status == QRB_OK)
        status = write_all(ctx, path, &front, sections, count);
    qrb__text_release(&front);
    qrb__free(ctx, digests.bytes);
    return status;
}
