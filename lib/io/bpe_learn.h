/* Learning the merges of byte pair encoding. */
#ifndef QRB_IO_BPE_LEARN_H
#define QRB_IO_BPE_LEARN_H

#include "io/tokenizer_index.h"

/* A distinct word of the text. */
struct qrb__counted_word {
    size_t begin; /* of its symbols */
    uint32_t length;
    uint64_t count; /* how often the text has it */
};

/* What is known about pairs of neighbours; zeroed before
 * qrb__learning_begin(). */
struct qrb__learning {
    qrb_context *ctx;
    struct qrb__counted_word *words; /* [words_count] */
    size_t words_count;
    int32_t *symbols;
    struct qrb__counted_pair {
        int32_t left;
        int32_t right;
        uint64_t count;
        uint32_t words; /* list of occurrences; QRB__INDEX_END: none */
    } * pairs;
    size_t pairs_count, pairs_size;
    struct qrb__index pairs_index;
    struct qrb__occurrence {
        uint32_t word;
        uint32_t next;
    } * occurrences;
    size_t occurrences_count, occurrences_size;
    struct qrb__candidate {
        uint64_t count;
        uint32_t pair;
    } * heap;
    size_t heap_count, heap_size;
    size_t fresh; /* pairs from here on are not in the heap yet */
};

/* Count the pairs of words, whose symbols are at least 0.  Words and symbols
 * are the caller's and are merged in place.  QRB_OK; QRB_E_UNSUPPORTED (2^32
 * pairs or more); QRB_E_NO_MEMORY. */
qrb_status qrb__learning_begin(qrb_context *ctx,
                               struct qrb__counted_word *words, size_t count,
                               int32_t *symbols,
                               struct qrb__learning *learning);

/* Merge the most frequent pair, of equally frequent ones that with the lesser
 * left symbol, then right symbol, into `result`, which is greater than any
 * symbol so far.  *left_out is -1 when there is no pair any more. */
qrb_status qrb__learning_next(struct qrb__learning *learning, int32_t result,
                              int32_t *left_out, int32_t *right_out);

void qrb__learning_free(struct qrb__learning *learning);

#endif
