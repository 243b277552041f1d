/* A container, as it is and then with digests made right, since no mutation
 * would get past them. */
#include <stdlib.h>

#include "fuzz.h"

#include "io/bytes.h"
#include "io/container.h"
#include "io/container_layout.h"
#include "io/sha256.h"

static void digest(const uint8_t *bytes, size_t size, uint8_t *out)
{
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, size);
    qrb__sha256_end(&hash, out);
}

/* Put right the size of the file, each entry's digest as far as entries can
 * be followed, and the table's. */
static void mend(uint8_t *bytes, size_t size)
{
    uint64_t table;
    size_t at = QRB__HEAD_SIZE;
    size_t end;

    if (size < QRB__HEAD_SIZE + QRB__SHA256_SIZE)
        return;
    memcpy(bytes, QRB__CONTAINER_MAGIC, QRB__AT_LAYOUT);
    qrb__store_u64(bytes + QRB__AT_SIZE, size);
    table = qrb__load_u64(bytes + QRB__AT_TABLE);
    if (table > size - QRB__HEAD_SIZE - QRB__SHA256_SIZE)
        return;
    end = QRB__HEAD_SIZE + (size_t)table;
    while (end - at >= QRB__ENTRY_SIZE) {
        const size_t length = qrb__load_u32(bytes + at);
        uint64_t offset;
        uint64_t section;

        if (length > end - at - QRB__ENTRY_SIZE)
            break;
        at += 4 + length;
        offset = qrb__load_u64(bytes + at);
        section = qrb__load_u64(bytes + at + 8);
        if (offset <= size && section <= size - offset)
            digest(bytes + offset, (size_t)section, bytes + at + 16);
        at += 16 + QRB__SHA256_SIZE;
    }
    digest(bytes, end, bytes + end);
}

static void open_and_read(const uint8_t *bytes, size_t size)
{
    const qrb_source source = fuzz_source(bytes, size);
    qrb_context *ctx = fuzz_context();
    struct qrb__container *container;
    const qrb_status status = qrb__container_open(
        ctx, &source, QRB__CONTAINER_TRAINER, 3, &container);

    if (status != QRB_OK) {
        FUZZ_CHECK(container == NULL);
        fuzz_check_refusal(ctx, status);
    }
    for (size_t i = 0; container != NULL && i < qrb__container_count(container);
         i++) {
        const char *name = qrb__container_name(container, i);
        uint64_t section = 0;
        uint8_t *out;

        FUZZ_CHECK(qrb__container_find(container, name, &section));
        FUZZ_CHECK(section <= size);
        out = malloc((size_t)section + 1);
        FUZZ_CHECK(out != NULL);
        FUZZ_CHECK(qrb__container_read(container, name, out, (size_t)section) ==
                   QRB_OK);
        free(out);
    }
    qrb__container_close(container);
    qrb_context_destroy(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    uint8_t *copy = calloc(size + 1, 1);

    FUZZ_CHECK(copy != NULL);
    if (size > 0)
        memcpy(copy, bytes, size);
    open_and_read(copy, size);
    mend(copy, size);
    open_and_read(copy, size);
    free(copy);
    return 0;
}
