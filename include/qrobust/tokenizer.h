/* Text into tokens and back: byte-level and SentencePiece-style BPE. */
#ifndef QROBUST_TOKENIZER_H
#define QROBUST_TOKENIZER_H

#include <qrobust/source.h>

QRB_BEGIN_DECLS

/**
 * A tokenizer; read-only once made.
 *
 * Thread safety: as for its context, one thread at a time.
 */
typedef struct qrb_tokenizer qrb_tokenizer;

/** Format of a tokenizer's file. */
enum qrb_tokenizer_format {
    QRB_TOKENIZER_JSON = 1,    /**< tokenizer.json (BPE) */
    QRB_TOKENIZER_LLAMA2C = 2, /**< llama2.c tokenizer .bin */
    QRB_TOKENIZER_GGUF = 3     /**< the keys of a GGUF file */
};

/**
 * Open a tokenizer.
 *
 * Of tokenizer.json, the format of Hugging Face's tokenizers library, models
 * of type BPE are read: byte-level ones (GPT-2, GPT-NeoX, Llama 3, Qwen2) and
 * those that SentencePiece makes (Llama 2), with byte fallback, unknown tokens
 * and whole words (ignore_merges); merges as strings or as pairs; normalizers
 * NFC, Prepend, Replace of a string; pre-tokenizers ByteLevel, Split (isolated
 * or removed), Digits, Metaspace; sequences of these; decoders ByteLevel,
 * Metaspace, and Replace, ByteFallback, Fuse, Strip in a sequence; added
 * tokens with all of their settings.  Dropout, affixes of subwords and all
 * else that would change a token is QRB_E_UNSUPPORTED, as is a regular
 * expression that PCRE2 and the library's engine might read differently.
 * Truncation and padding are left to the caller.
 *
 * Of llama2.c's format, tokens 3 to 258 are the bytes.
 *
 * Of GGUF, tokenizer.ggml.model "gpt2" (with the pre-tokenizers "gpt-2",
 * "llama-bpe" and "qwen2") and "llama" are read; control tokens are special
 * ones and found in text, unused tokens are left out, and the keys name the
 * tokens that begin and end texts.
 *
 * The token that begins a text is the one that the post-processor puts in
 * front of it, else the special token that is called `<s>`,
 * `<|begin_of_text|>`, `<|startoftext|>`, `<bos>` or `<|endoftext|>`, the first
 * of these that is there.  The one that ends it is likewise the
 * post-processor's, else `</s>`, `<|end_of_text|>`, `<|endoftext|>`, `<eos>`,
 * `<|eot_id|>` or `<|im_end|>`.  Tokens 1 and 2 of a llama2.c tokenizer are
 * these.
 *
 * Files are limited: 100 MB of JSON or 16 MB of llama2.c, 2^24 ids that are
 * at most twice the number of tokens and 1024 more, 65536 bytes a token (256
 * in llama2.c, 1024 of an added token).
 *
 * @param source borrowed for the call
 * @param format enum qrb_tokenizer_format
 * @param out    receives the tokenizer, or NULL on failure; the caller
 *               releases it with qrb_tokenizer_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an unknown format, a source that
 *         is none or several); QRB_E_IO; QRB_E_FORMAT (the message names the
 *         field; beyond a limit, ids or tokens that are there twice, merges
 *         of unknown tokens and thousands of tokens with one hash included);
 *         QRB_E_UNSUPPORTED (well-formed, but not known); QRB_E_CALLBACK
 *         (read_at); QRB_E_REENTRANT; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_open(qrb_context *ctx,
                                      const qrb_source *source, uint32_t format,
                                      qrb_tokenizer **out);

/**
 * Open what a path holds: a tokenizer.json, a llama2.c .bin, a GGUF file (told
 * apart by their first bytes), or a directory with a tokenizer.json in it.
 *
 * @param out as for qrb_tokenizer_open()
 * @return as qrb_tokenizer_open(); QRB_E_UNSUPPORTED also for a GGUF file
 *         that holds no tokenizer
 */
QRB_API qrb_status qrb_tokenizer_open_path(qrb_context *ctx, const char *path,
                                           qrb_tokenizer **out);

/**
 * Train a byte-level BPE tokenizer with the pre-tokenizer of GPT-2 and one
 * special token, <|endoftext|>, which begins and ends texts.
 *
 * Sennrich et al., "Neural Machine Translation of Rare Words with Subword
 * Units", ACL 2016, on bytes: the most frequent pair of neighbours becomes a
 * token, again and again; of equally frequent pairs the one with the lesser
 * left id, then the lesser right id.  <|endoftext|> is token 0, the bytes are
 * 1 to 256 in order of the characters that stand for them (first those that
 * print), then come the merges.  <|endoftext|> in the text is not learned
 * from.  The result is a function of the text and of vocab alone.
 *
 * @param text  [size] any bytes; NULL if size is 0
 * @param vocab number of tokens in all, 257 to 2^24
 * @param out   as for qrb_tokenizer_open()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, vocab); QRB_E_SHAPE (text too
 *         short for so many merges); QRB_E_UNSUPPORTED (2^32 distinct words
 *         or pairs, a word of 2^31 bytes); QRB_E_CANCELLED; QRB_E_REENTRANT;
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_train(qrb_context *ctx, const char *text,
                                       size_t size, size_t vocab,
                                       qrb_tokenizer **out);

/** Release a tokenizer; NULL is fine. */
QRB_API void qrb_tokenizer_destroy(qrb_tokenizer *tokenizer);

/**
 * Write a tokenizer.json beside its target, sync and rename it.
 *
 * It gives the same tokens as the tokenizer, here and in other readers of the
 * format.  The bytes are a function of the tokenizer alone.  A llama2.c
 * tokenizer is written with the one merge by which each token comes about,
 * and with spaces as spaces.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_UNSUPPORTED (a llama2.c
 *         tokenizer where tokens with merges have equal scores, which a list
 *         of merges cannot say); QRB_E_IO; QRB_E_REENTRANT; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_save(const qrb_tokenizer *tokenizer,
                                      const char *path);

/** Number of ids, one more than the largest; 0 for NULL. */
QRB_API size_t qrb_tokenizer_vocab(const qrb_tokenizer *tokenizer);

/** Beginning-of-text id, or -1; see qrb_tokenizer_open(). */
QRB_API int32_t qrb_tokenizer_bos(const qrb_tokenizer *tokenizer);

/** End-of-text id, or -1; see qrb_tokenizer_open(). */
QRB_API int32_t qrb_tokenizer_eos(const qrb_tokenizer *tokenizer);

/**
 * Tokens of a piece of text, without beginning or end tokens.
 *
 * Added and special tokens that are spelled in the text are found, as the
 * tokenizers library does.  Text need not be UTF-8: where other
 * implementations put U+FFFD before they begin, a broken byte stays the byte
 * that it is.  To a normalizer it is a border; to a regular expression it is
 * neither letter nor digit nor space; byte-level tokenizers and byte fallback
 * encode it as it is.  Where there is no token for it, it is U+FFFD or the
 * unknown token.
 *
 * O(n log n) time for n bytes at worst, as long as the regular expressions
 * take O(n); O(n) for text of words.
 *
 * @param text       [size] any bytes, NUL included; NULL if size is 0
 * @param tokens_out receives the ids, an array also when there are none, or
 *                   NULL on failure; release with qrb_free()
 * @param count_out  receives their number
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_UNSUPPORTED (a character
 *         that the tokenizer can spell neither by tokens nor as unknown; a
 *         regular expression that exceeds its match limits on this text; a
 *         word of 2^31 bytes); QRB_E_CANCELLED; QRB_E_REENTRANT;
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_encode(const qrb_tokenizer *tokenizer,
                                        const char *text, size_t size,
                                        int32_t **tokens_out,
                                        size_t *count_out);

/**
 * Tokens of a whole text file: one beginning-of-text token in front if the
 * tokenizer has one, and each line that holds only "<|endoftext|>" as the
 * end-of-text token (the beginning one where there is none).
 *
 * Such a line is swallowed with its own line end, "\n" or "\r\n"; the line
 * end before it belongs to the text before it.  The texts around it are
 * encoded each by itself, as by qrb_tokenizer_encode().  A tokenizer with
 * neither of the two tokens sees such lines as text.
 *
 * @param text as for qrb_tokenizer_encode(), and so are tokens_out and
 *             count_out
 * @return as qrb_tokenizer_encode()
 */
QRB_API qrb_status qrb_tokenizer_encode_document(const qrb_tokenizer *tokenizer,
                                                 const char *text, size_t size,
                                                 int32_t **tokens_out,
                                                 size_t *count_out);

/**
 * Bytes of tokens; special tokens give nothing.
 *
 * For byte-level tokenizers without normalizer and prefix space, and for
 * llama2.c ones, decoding what was encoded gives the same bytes, except where
 * the text spells special tokens.
 *
 * @param tokens   [count] ids; NULL if count is 0
 * @param text_out receives the bytes, NUL-terminated for convenience though
 *                 they may hold NUL, or NULL on failure; release with
 *                 qrb_free()
 * @param size_out receives their number, without the terminating NUL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an id that the tokenizer does
 *         not have); QRB_E_REENTRANT; QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tokenizer_decode(const qrb_tokenizer *tokenizer,
                                        const int32_t *tokens, size_t count,
                                        char **text_out, size_t *size_out);

QRB_END_DECLS

#endif
