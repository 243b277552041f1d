/* Text into tokens and back: byte-level and SentencePiece-style BPE. */
#ifndef QROBUST_TOKENIZER_H
#define QROBUST_TOKENIZER_H

#include <qrobust/source.h>

QRB_BEGIN_DECLS

/** A tokenizer; read-only once made. */
typedef struct qrb_tokenizer qrb_tokenizer;

/** Format of a tokenizer's file. */
enum qrb_tokenizer_format {
    QRB_TOKENIZER_JSON = 1,   /**< tokenizer.json (BPE) */
    QRB_TOKENIZER_LLAMA2C = 2 /**< llama2.c tokenizer .bin */
};

/**
 * Open a tokenizer.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_IO; QRB_E_FORMAT (the message
 *         names the field); QRB_E_UNSUPPORTED (a model or normalizer that is
 *         not known); QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_open(qrb_context *ctx,
                                      const qrb_source *source,
                                      uint32_t format, qrb_tokenizer **out);

/** Open what a path holds: a tokenizer.json, a llama2.c .bin (told apart by
 * their first bytes), or a directory with a tokenizer.json in it. */
QRB_API qrb_status qrb_tokenizer_open_path(qrb_context *ctx, const char *path,
                                           qrb_tokenizer **out);

/**
 * Train a byte-level BPE tokenizer with the pre-tokenizer of GPT-2 and one
 * special token, <|endoftext|>, which begins and ends texts.
 *
 * @param vocab number of tokens in all, at least 257
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE (text too short for so many
 *         merges); QRB_E_CANCELLED; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_train(qrb_context *ctx, const char *text,
                                       size_t size, size_t vocab,
                                       qrb_tokenizer **out);

/** Release a tokenizer; NULL is fine. */
QRB_API void qrb_tokenizer_destroy(qrb_tokenizer *tokenizer);

/** Write tokenizer.json; atomic. */
QRB_API qrb_status qrb_tokenizer_save(const qrb_tokenizer *tokenizer,
                                      const char *path);

/** Number of ids: one more than the largest. */
QRB_API size_t qrb_tokenizer_vocab(const qrb_tokenizer *tokenizer);

/** Beginning-of-text id, or -1. */
QRB_API int32_t qrb_tokenizer_bos(const qrb_tokenizer *tokenizer);

/** End-of-text id, or -1. */
QRB_API int32_t qrb_tokenizer_eos(const qrb_tokenizer *tokenizer);

/**
 * Tokens of a piece of text, without beginning or end tokens.
 *
 * @param text       any bytes: what is not UTF-8 is encoded as bytes, or as
 *                   U+FFFD where the tokenizer has no byte tokens
 * @param tokens_out receives the ids; release with qrb_free()
 */
QRB_API qrb_status qrb_tokenizer_encode(const qrb_tokenizer *tokenizer,
                                        const char *text, size_t size,
                                        int32_t **tokens_out,
                                        size_t *count_out);

/**
 * Tokens of a whole text file: one beginning-of-text token in front if the
 * tokenizer has one, and each line that holds only "<|endoftext|>" as the
 * end-of-text token (the beginning one where there is none).
 */
QRB_API qrb_status qrb_tokenizer_encode_document(
    const qrb_tokenizer *tokenizer, const char *text, size_t size,
    int32_t **tokens_out, size_t *count_out);

/**
 * Bytes of tokens; special tokens give nothing.
 *
 * @param text_out NUL-terminated for convenience, but may hold NUL; release
 *                 with qrb_free()
 */
QRB_API qrb_status qrb_tokenizer_decode(const qrb_tokenizer *tokenizer,
                                        const int32_t *tokens, size_t count,
                                        char **text_out, size_t *size_out);

QRB_END_DECLS

#endif
