/* Tokens and merges of a tokenizer. */
#ifndef QRB_IO_TOKENIZER_VOCAB_H
#define QRB_IO_TOKENIZER_VOCAB_H

#include "io/growing.h"
#include "io/tokenizer_index.h"

/* Limits of what a file may hold. */
enum {
    QRB__TOKEN_LENGTH_MAX = 1 << 16, /* bytes of one token */
    QRB__VOCAB_MAX = 1 << 24         /* ids */
};

enum qrb__token_flags {
    QRB__TOKEN_THERE = 1,   /* the id is in use */
    QRB__TOKEN_MODEL = 2,   /* in the vocabulary that merges refer to */
    QRB__TOKEN_ADDED = 4,   /* matched in text before everything else */
    QRB__TOKEN_SPECIAL = 8, /* decodes to nothing */
    QRB__TOKEN_SINGLE_WORD = 16,
    QRB__TOKEN_LSTRIP = 32,
    QRB__TOKEN_RSTRIP = 64,
    QRB__TOKEN_NORMALIZED = 128 /* matched after the normalizer */
};

struct qrb__token {
    size_t offset; /* into bytes, of what the file calls it */
    uint32_t length;
    uint32_t flags; /* enum qrb__token_flags */
};

/* Zeroed is empty. */
struct qrb__vocab {
    struct qrb__token *tokens; /* [ids] */
    size_t ids;                /* one more than the largest */
    size_t ids_size;
    struct qrb__bytes bytes;
    struct qrb__index index; /* of the tokens of the model, by bytes */
};

/* Two neighbours that may become one.  The least rank goes first, and of
 * equal ranks the leftmost pair. */
struct qrb__merge {
    int32_t left;
    int32_t right;
    int32_t result;
    uint32_t rank;
};

/* Zeroed is empty. */
struct qrb__merges {
    struct qrb__merge *list; /* [count], by rank */
    size_t count;
    size_t size;
    struct qrb__index index; /* by (left, right) */
};

/* Add a token: QRB_OK; QRB_E_FORMAT (the id or the token is there already,
 * is empty or too long, or collides with thousands of others);
 * QRB_E_NO_MEMORY. */
qrb_status qrb__vocab_add(qrb_context *ctx, struct qrb__vocab *vocab, size_t id,
                          const char *bytes, size_t length, uint32_t flags);

/* The id of a token of the model, or -1. */
int32_t qrb__vocab_find(const struct qrb__vocab *vocab, const char *bytes,
                        size_t length);

/* The bytes of a token, whose id is in use. */
const char *qrb__vocab_bytes(const struct qrb__vocab *vocab, int32_t id,
                             size_t *length_out);

bool qrb__vocab_has(const struct qrb__vocab *vocab, int32_t id, uint32_t flags);

void qrb__vocab_free(qrb_context *ctx, struct qrb__vocab *vocab);

/* Append a merge whose rank is at least that of the last one: QRB_OK;
 * QRB_E_FORMAT (the pair is there already, or collides with thousands of
 * others); QRB_E_NO_MEMORY. */
qrb_status qrb__merges_add(qrb_context *ctx, struct qrb__merges *merges,
                           const struct qrb__merge *merge);

/* Position in the list, or QRB__INDEX_END. */
uint32_t qrb__merges_find(const struct qrb__merges *merges, int32_t left,
                          int32_t right);

void qrb__merges_free(qrb_context *ctx, struct qrb__merges *merges);

#endif
