/* Byte pair encoding of one word. */
#ifndef QRB_IO_BPE_H
#define QRB_IO_BPE_H

#include "io/tokenizer_vocab.h"

/* A word and what its merging needs; zeroed is empty, and kept from word to
 * word. */
struct qrb__bpe {
    int32_t *symbols; /* [size]; the owner writes ids in, and reads them */
    uint32_t *next;   /* [size] position of the next symbol */
    uint32_t *prev;   /* [size] */
    uint32_t *merge;  /* [size] that of a symbol and the next */
    uint64_t *heap;   /* [3 * size] rank << 32 | position */
    size_t size;
    uint32_t last; /* the last merge made, or QRB__INDEX_END */
};

/* Room for a word of `count` symbols, keeping the first `used`: QRB_OK;
 * QRB_E_UNSUPPORTED (2^31 symbols or more); QRB_E_NO_MEMORY. */
qrb_status qrb__bpe_reserve(qrb_context *ctx, struct qrb__bpe *bpe, size_t used,
                            size_t count);

/* Merge symbols [0, count) until no merge applies, the least rank first and
 * of equal ranks the leftmost: the number of symbols that are left.  Symbols
 * below 0 merge with nothing. */
size_t qrb__bpe_merge(struct qrb__bpe *bpe, const struct qrb__merges *merges,
                      size_t count);

void qrb__bpe_free(qrb_context *ctx, struct qrb__bpe *bpe);

#endif
