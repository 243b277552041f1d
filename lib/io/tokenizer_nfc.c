/* Normalization form C: canonical decomposition, marks sorted by their class,
 * composition (UAX #15).
 *
 * Characters below U+0300 begin something new and are composed with nothing
 * before them, so text is cut there: what has no others is copied, and the
 * rest is composed in short runs.  utf8proc has the tables and composes in
 * place; its sorting is quadratic in a run of marks, so runs are sorted here,
 * in O(n) for n marks.  O(n) time; 8 bytes of memory for each character of
 * the longest run. */
#include <string.h>

#include <utf8proc.h>

#include "io/tokenizer_normalizer.h"
#include "io/utf8.h"

enum {
    FIRST_MARK = 0x300,     /* U+0300 */
    FIRST_MARK_LEAD = 0xcc, /* its first byte */
    SHORT_RUN = 16,         /* of marks, sorted by insertion */
    DECOMPOSED_MAX = 16     /* characters of one; 4 are the most there are */
};

static const utf8proc_option_t form_c = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

static qrb_status reserve_codes(qrb_context *ctx, struct qrb__normalized *work,
                                size_t used, size_t count)
{
    size_t size = work->codes_size;
    int32_t *grown;

    if (count <= size)
        return QRB_OK;
    grown = qrb__grow(ctx, work->codes, &size, used, count, sizeof *grown);
    if (grown == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu characters", count);
    work->codes = grown;
    work->codes_size = size;
    return QRB_OK;
}

static qrb_status decompose(qrb_context *ctx, struct qrb__normalized *work,
                            const char *text, size_t size, size_t *count_out)
{
    qrb_status status = QRB_OK;
    size_t count = 0;

    for (size_t at = 0; status == QRB_OK && at < size;) {
        const size_t length = qrb__utf8_length(text + at, size - at);
        const uint32_t code = qrb__utf8_decode(text + at, length);
        int boundary = 0;

        status = reserve_codes(ctx, work, count, count + DECOMPOSED_MAX);
        if (status == QRB_OK)
            count += (size_t)utf8proc_decompose_char(
                (int32_t)code, work->codes + count, DECOMPOSED_MAX, form_c,
                &boundary);
        at += length;
    }
    *count_out = count;
    return status;
}

static unsigned combining_class(int32_t code)
{
    return code < FIRST_MARK
               ? 0
               : (unsigned)utf8proc_get_property(code)->combining_class;
}

static void sort_short(int32_t *marks, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        const int32_t mark = marks[i];
        const unsigned class = combining_class(mark);
        size_t at = i;

        while (at > 0 && combining_class(marks[at - 1]) > class) {
            marks[at] = marks[at - 1];
            at--;
        }
        marks[at] = mark;
    }
}

/* Counting, which is stable: classes are below 256. */
static qrb_status sort_long(qrb_context *ctx, struct qrb__normalized *work,
                            int32_t *marks, size_t count)
{
    size_t start[257] = { 0 };

    qrb__free(ctx, work->sorted);
    work->sorted = qrb__alloc_array(ctx, count, sizeof *work->sorted);
    if (work->sorted == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu marks", count);
    for (size_t i = 0; i < count; i++)
        start[(combining_class(marks[i]) & 255) + 1]++;
    for (size_t class = 1; class < 257; class ++)
        start[class] += start[class - 1];
    for (size_t i = 0; i < count; i++)
        work->sorted[start[combining_class(marks[i]) & 255]++] = marks[i];
    memcpy(marks, work->sorted, count * sizeof *marks);
    return QRB_OK;
}

static qrb_status sort_marks(qrb_context *ctx, struct qrb__normalized *work,
                             size_t count)
{
    qrb_status status = QRB_OK;

    for (size_t begin = 0; status == QRB_OK && begin < count;) {
        size_t end = begin;

        while (end < count && combining_class(work->codes[end]) != 0)
            end++;
        if (end - begin > SHORT_RUN)
            status = sort_long(ctx, work, work->codes + begin, end - begin);
        else
            sort_short(work->codes + begin, end - begin);
        begin = end + 1;
    }
    return status;
}

static qrb_status append_run(qrb_context *ctx, struct qrb__normalized *work,
                             const char *text, size_t size,
                             struct qrb__bytes *out)
{
    qrb_status status;
    size_t count;

    status = decompose(ctx, work, text, size, &count);
    if (status == QRB_OK)
        status = sort_marks(ctx, work, count);
    if (status != QRB_OK)
        return status;
    count = (size_t)utf8proc_normalize_utf32(work->codes,
                                             (utf8proc_ssize_t)count, form_c);
    status = qrb__bytes_reserve(ctx, out, 4 * count);
    for (size_t i = 0; status == QRB_OK && i < count; i++)
        out->used +=
            qrb__utf8_encode((uint32_t)work->codes[i], out->bytes + out->used);
    return status;
}

qrb_status qrb__nfc_append(qrb_context *ctx, struct qrb__normalized *work,
                           const char *text, size_t size,
                           struct qrb__bytes *out)
{
    const unsigned char *b = (const unsigned char *)text;
    qrb_status status = QRB_OK;
    size_t copied = 0; /* bytes that are in `out` already */

    for (size_t at = 0; status == QRB_OK && at < size;) {
        size_t begin;
        size_t end;

        if (b[at] < FIRST_MARK_LEAD) {
            at++;
            continue;
        }
        /* What the first mark may be composed with belongs to its run. */
        begin = at;
        if (begin > copied)
            do
                begin--;
            while (begin > copied && (b[begin] & 0xc0) == 0x80);
        end = at;
        while (end < size && b[end] >= 0x80 &&
               (b[end] >= FIRST_MARK_LEAD || (b[end] & 0xc0) == 0x80))
            end++;
        status = qrb__bytes_append(ctx, out, text + copied, begin - copied);
        if (status == QRB_OK)
            status = append_run(ctx, work, text + begin, end - begin, out);
        copied = end;
        at = end;
    }
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, out, text + copied, size - copied);
    return status;
}
