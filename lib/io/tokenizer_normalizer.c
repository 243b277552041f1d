/* Steps one after the other, each from one buffer into the other: O(n) time
 * a step for a text of n bytes, and O(n) memory. */
#include "io/tokenizer_normalizer.h"

#include <string.h>

#include "io/tokenizer_field.h"

static qrb_status read_replace(qrb_context *ctx, const json_t *part,
                               struct qrb__normalizer_step *step)
{
    const char *from = NULL;
    const char *to = NULL;
    qrb_status status;

    status = qrb__field_string(ctx, json_object_get(part, "pattern"),
                               "normalizer.pattern", "String", &from);
    if (status == QRB_OK)
        status = qrb__field_string(ctx, part, "normalizer", "content", &to);
    if (status != QRB_OK)
        return status;
    if (from == NULL || *from == '\0' || to == NULL)
        return qrb__field_unsupported(ctx, part, "normalizer");
    step->kind = QRB__NORMALIZE_REPLACE;
    status = qrb__bytes_append(ctx, &step->from, from, strlen(from));
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, &step->to, to, strlen(to));
    return status;
}

static qrb_status read_step(qrb_context *ctx, const json_t *part,
                            struct qrb__normalizer_step *step)
{
    const char *type = qrb__field_type(part);
    const char *prepend = NULL;
    qrb_status status;

    if (strcmp(type, "NFC") == 0) {
        step->kind = QRB__NORMALIZE_NFC;
        return QRB_OK;
    }
    if (strcmp(type, "Replace") == 0)
        return read_replace(ctx, part, step);
    if (strcmp(type, "Prepend") != 0)
        return qrb__field_unsupported(ctx, part, "normalizer");
    status = qrb__field_string(ctx, part, "normalizer", "prepend", &prepend);
    if (status != QRB_OK)
        return status;
    if (prepend == NULL)
        return qrb__field_unsupported(ctx, part, "normalizer");
    step->kind = QRB__NORMALIZE_PREPEND;
    return qrb__bytes_append(ctx, &step->to, prepend, strlen(prepend));
}

qrb_status qrb__normalizer_read(qrb_context *ctx, const json_t *part,
                                struct qrb__normalizer *out)
{
    qrb_status status;
    size_t count;

    status = qrb__field_sequence(ctx, part, "normalizer", "normalizers",
                                 QRB__NORMALIZER_STEPS_MAX, &count);
    for (size_t i = 0; status == QRB_OK && i < count; i++) {
        out->count = i + 1;
        status =
            read_step(ctx, qrb__field_sequence_part(part, "normalizers", i),
                      &out->steps[i]);
    }
    return status;
}

void qrb__normalizer_free(qrb_context *ctx, struct qrb__normalizer *normalizer)
{
    for (size_t i = 0; i < normalizer->count; i++) {
        qrb__bytes_free(ctx, &normalizer->steps[i].from);
        qrb__bytes_free(ctx, &normalizer->steps[i].to);
    }
    memset(normalizer, 0, sizeof *normalizer);
}

static qrb_status replace(qrb_context *ctx,
                          const struct qrb__normalizer_step *step,
                          const char *text, size_t size, struct qrb__bytes *out)
{
    qrb_status status = QRB_OK;

    while (status == QRB_OK && size > 0) {
        const char *found =
            memmem(text, size, step->from.bytes, step->from.used);
        const size_t before = found == NULL ? size : (size_t)(found - text);

        status = qrb__bytes_append(ctx, out, text, before);
        text += before;
        size -= before;
        if (status == QRB_OK && found != NULL) {
            status = qrb__bytes_append(ctx, out, step->to.bytes, step->to.used);
            text += step->from.used;
            size -= step->from.used;
        }
    }
    return status;
}

static qrb_status apply_step(qrb_context *ctx,
                             const struct qrb__normalizer_step *step,
                             struct qrb__normalized *work, const char *text,
                             size_t size, struct qrb__bytes *out)
{
    qrb_status status;

    switch (step->kind) {
    case QRB__NORMALIZE_NFC:
        return qrb__nfc_append(ctx, work, text, size, out);
    case QRB__NORMALIZE_REPLACE:
        return replace(ctx, step, text, size, out);
    case QRB__NORMALIZE_PREPEND:
        break;
    }
    status = qrb__bytes_append(ctx, out, step->to.bytes, step->to.used);
    if (status == QRB_OK)
        status = qrb__bytes_append(ctx, out, text, size);
    return status;
}

qrb_status qrb__normalizer_apply(qrb_context *ctx,
                                 const struct qrb__normalizer *normalizer,
                                 struct qrb__normalized *work, const char *text,
                                 size_t size, const char **text_out,
                                 size_t *size_out)
{
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < normalizer->count; i++) {
        struct qrb__bytes *out = &work->texts[i % 2];

        if (size == 0)
            break;
        out->used = 0;
        status = apply_step(ctx, &normalizer->steps[i], work, text, size, out);
        text = out->bytes;
        size = out->used;
    }
    *text_out = text;
    *size_out = size;
    return status;
}

void qrb__normalized_free(qrb_context *ctx, struct qrb__normalized *work)
{
    qrb__bytes_free(ctx, &work->texts[0]);
    qrb__bytes_free(ctx, &work->texts[1]);
    qrb__free(ctx, work->codes);
    qrb__free(ctx, work->sorted);
    memset(work, 0, sizeof *work);
}
