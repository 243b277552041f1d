/* Normalizers: what text becomes before it is cut into words. */
#ifndef QRB_IO_TOKENIZER_NORMALIZER_H
#define QRB_IO_TOKENIZER_NORMALIZER_H

#include "io/growing.h"
#include "io/json.h"

enum { QRB__NORMALIZER_STEPS_MAX = 8 };

/* Zeroed changes nothing. */
struct qrb__normalizer {
    struct qrb__normalizer_step {
        enum {
            QRB__NORMALIZE_NFC,
            QRB__NORMALIZE_PREPEND,
            QRB__NORMALIZE_REPLACE
        } kind;
        struct qrb__bytes from; /* replaced */
        struct qrb__bytes to;   /* replacement, or what is prepended */
    } steps[QRB__NORMALIZER_STEPS_MAX];
    size_t count;
};

/* Where results are made; zeroed is empty, and kept from text to text. */
struct qrb__normalized {
    struct qrb__bytes texts[2]; /* in turn */
    int32_t *codes;             /* characters of a run to compose */
    size_t codes_size;
    int32_t *sorted; /* [codes_size] room to sort long runs of marks */
};

/* Read the "normalizer" of a tokenizer.json: none, NFC, Prepend, Replace of
 * a string, and sequences of them.  QRB_OK; QRB_E_FORMAT; QRB_E_UNSUPPORTED;
 * QRB_E_NO_MEMORY. */
qrb_status qrb__normalizer_read(qrb_context *ctx, const json_t *part,
                                struct qrb__normalizer *out);
void qrb__normalizer_free(qrb_context *ctx, struct qrb__normalizer *normalizer);

/* Normalize well-formed text.  The result is the text itself or lies in
 * `work` until the next call. */
qrb_status qrb__normalizer_apply(qrb_context *ctx,
                                 const struct qrb__normalizer *normalizer,
                                 struct qrb__normalized *work, const char *text,
                                 size_t size, const char **text_out,
                                 size_t *size_out);
void qrb__normalized_free(qrb_context *ctx, struct qrb__normalized *work);

/* Append well-formed text in normalization form C (UAX #15). */
qrb_status qrb__nfc_append(qrb_context *ctx, struct qrb__normalized *work,
                           const char *text, size_t size,
                           struct qrb__bytes *out);

#endif
