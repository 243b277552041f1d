/* Tokenizers in GGUF files: tokenizer.ggml.model "gpt2" (byte-level, merges
 * in a list) and "llama" (SentencePiece, merges by scores). */
#ifndef QRB_IO_GGUF_TOKENIZER_H
#define QRB_IO_GGUF_TOKENIZER_H

#include "io/gguf_write.h"
#include "io/tokenizer.h"

/* Of tokenizer.ggml.token_type. */
enum qrb__gguf_token_type {
    QRB__GGUF_NORMAL = 1,
    QRB__GGUF_UNKNOWN,
    QRB__GGUF_CONTROL,
    QRB__GGUF_USER_DEFINED,
    QRB__GGUF_UNUSED,
    QRB__GGUF_BYTE
};

/* Fill an empty tokenizer; qrb__tokenizer_finish() comes behind.
 *
 * QRB_OK; QRB_E_FORMAT (the message names the key); QRB_E_UNSUPPORTED (no
 * tokenizer in the file, another model, or a pre-tokenizer that is not known);
 * QRB_E_IO; QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__tokenizer_read_gguf(qrb_tokenizer *tokenizer,
                                    const struct qrb__gguf *file);

/* Put the keys of a tokenizer, with unused tokens up to `vocab`, which is the
 * number of rows of the embedding.
 *
 * QRB_OK; QRB_E_UNSUPPORTED (what the format cannot say: another normalizer
 * or pre-tokenizer, merges that no scores give, settings of added tokens);
 * QRB_E_NO_MEMORY. */
qrb_status qrb__gguf_put_tokenizer(struct qrb__gguf_writer *writer,
                                   const qrb_tokenizer *tokenizer,
                                   size_t vocab);

/* Pre-tokenizers by the names of tokenizer.ggml.pre. */
struct qrb__gguf_pre {
    const char *name;
    const char *normalizer; /* JSON, or NULL */
    const char *pre_tokenizer;
    bool ignore_merges;
};

/* NULL where the name is not known. */
const struct qrb__gguf_pre *qrb__gguf_pre_named(const char *name);
/* The one that a byte-level tokenizer has, or NULL in *out. */
qrb_status qrb__gguf_pre_of(const qrb_tokenizer *tokenizer,
                            const struct qrb__gguf_pre **out);

#endif
