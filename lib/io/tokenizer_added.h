/* Added tokens: strings that are found in text before it is cut. */
#ifndef QRB_IO_TOKENIZER_ADDED_H
#define QRB_IO_TOKENIZER_ADDED_H

#include "io/tokenizer_normalizer.h"
#include "io/tokenizer_vocab.h"

enum { QRB__ADDED_LENGTH_MAX = 1024 }; /* bytes of one */

/* Zeroed is empty. */
struct qrb__added {
    struct qrb__added_token {
        size_t offset; /* into bytes */
        size_t length;
        int32_t id;
    } * tokens; /* [count] in order of their bytes */
    size_t count;
    struct qrb__bytes bytes;
    uint32_t first[257]; /* those that begin with byte b: [b] to [b + 1] */
};

/* Collect the added tokens that are matched after the normalizer
 * (`normalized`: what they look for is then itself normalized) or before it.
 * QRB_OK; QRB_E_FORMAT (two that look for the same); QRB_E_NO_MEMORY. */
qrb_status qrb__added_build(qrb_context *ctx, const struct qrb__vocab *vocab,
                            const struct qrb__normalizer *normalizer,
                            bool normalized, struct qrb__added *out);
void qrb__added_free(qrb_context *ctx, struct qrb__added *added);

/* The leftmost and there the longest added token at or behind `from`, with
 * the spaces that it takes along; false when there is none.  What lies before
 * `taken` belongs to the match before. */
bool qrb__added_find(const struct qrb__added *added,
                     const struct qrb__vocab *vocab, const char *text,
                     size_t size, size_t taken, size_t *begin_out,
                     size_t *end_out, int32_t *id_out);

#endif
