/* A tokenizer seen from inside, and how text runs through it. */
#ifndef QRB_IO_TOKENIZER_H
#define QRB_IO_TOKENIZER_H

#include <qrobust/tokenizer.h>

#include "io/bpe.h"
#include "io/pretokenizer.h"
#include "io/tokenizer_added.h"
#include "io/tokenizer_normalizer.h"
#include "io/tokenizer_vocab.h"

/* Parts of a tokenizer.json that are kept as they were read. */
enum qrb__tokenizer_part {
    QRB__PART_NORMALIZER,
    QRB__PART_PRE_TOKENIZER,
    QRB__PART_POST_PROCESSOR,
    QRB__PART_DECODER,
    QRB__PARTS
};

extern const char *const qrb__tokenizer_part_names[QRB__PARTS];

/* How tokens become text again. */
struct qrb__decoder {
    enum {
        QRB__DECODE_JOIN,
        QRB__DECODE_BYTE_LEVEL,
        QRB__DECODE_STEPS
    } kind;                 /* JOIN: with spaces in between */
    bool byte_fallback;     /* <0x41> is the byte 0x41 */
    struct qrb__bytes from; /* replaced in each token */
    struct qrb__bytes to;
    struct qrb__bytes strip; /* a character, taken off the beginning... */
    size_t strip_start;      /* ...at most so many times */
};

struct qrb_tokenizer {
    qrb_context *ctx;
    struct qrb__vocab vocab;
    struct qrb__merges merges;
    int32_t byte_ids[256];  /* tokens of single bytes, -1 where missing */
    int32_t unk;            /* -1: none */
    bool fuse_unk;          /* neighbouring unknown characters are one */
    bool byte_fallback;     /* unknown characters are bytes */
    bool ignore_merges;     /* words that are tokens are taken whole */
    bool space_begins_word; /* no merge goes from something to a space */
    char space[4];          /* UTF-8 of what stands for a space */
    size_t space_length;
    int32_t bos;
    int32_t eos;
    bool puts_bos; /* the post-processor puts bos in front of a text */
    struct qrb__normalizer normalizer;
    struct qrb__pretokenizer pretokenizer;
    struct qrb__decoder decoder;
    struct qrb__added added;            /* looked for before... */
    struct qrb__added added_normalized; /* ...and after the normalizer */
    char *parts[QRB__PARTS];            /* JSON; NULL is null */
};

/* An empty tokenizer: qrb_tokenizer_destroy() releases it. */
qrb_status qrb__tokenizer_create(qrb_context *ctx, qrb_tokenizer **out);

/* Read a part from its JSON text, and keep it.  QRB_OK; QRB_E_FORMAT;
 * QRB_E_UNSUPPORTED; QRB_E_NO_MEMORY. */
qrb_status qrb__tokenizer_set_part(qrb_tokenizer *tokenizer,
                                   enum qrb__tokenizer_part which,
                                   const char *json);

/* Once tokens, merges and parts are there: look up what encoding needs. */
qrb_status qrb__tokenizer_finish(qrb_tokenizer *tokenizer);

qrb_status qrb__decoder_read(qrb_context *ctx, const json_t *part,
                             struct qrb__decoder *out);
void qrb__decoder_free(qrb_context *ctx, struct qrb__decoder *decoder);

/* The byte that a token such as <0x41> stands for, or -1. */
int qrb__byte_token(const char *token, size_t length);

/* Whether the "post_processor" is one that is known, and the tokens that
 * begin and end texts by it or by their names. */
qrb_status qrb__ends_check(qrb_context *ctx, const json_t *part);
qrb_status qrb__ends_find(qrb_tokenizer *tokenizer);
/* Make a post-processor that puts bos in front of a text; eos -1: none. */
qrb_status qrb__ends_set(qrb_tokenizer *tokenizer, int32_t bos, int32_t eos);

/* Append the merge number `index` of two tokens into the one that their bytes
 * spell; `joined` is scratch.  QRB_OK; QRB_E_FORMAT (one of the three is not
 * in the vocabulary; the message begins with `where`); QRB_E_NO_MEMORY. */
qrb_status qrb__tokenizer_add_merge(qrb_tokenizer *tokenizer, const char *where,
                                    size_t index, const char *const halves[2],
                                    const size_t lengths[2],
                                    struct qrb__bytes *joined);

/* The merges of a vocabulary whose tokens have scores [ids], finite: of all
 * neighbours that are a token the best goes first, the leftmost of equals.
 * QRB_OK; QRB_E_UNSUPPORTED (a token made of the name of a byte, or of more
 * than 256 bytes); QRB_E_NO_MEMORY. */
qrb_status qrb__merges_from_scores(qrb_tokenizer *tokenizer,
                                   const float *scores);
/* Scores [ids] that give the merges of a tokenizer; also QRB_E_UNSUPPORTED
 * where no scores do. */
qrb_status qrb__scores_from_merges(const qrb_tokenizer *tokenizer,
                                   float *scores);

/* The readers of the two formats. */
qrb_status qrb__tokenizer_read_json(qrb_tokenizer *tokenizer, const char *text,
                                    size_t size, const char *name);
qrb_status qrb__tokenizer_read_llama2c(qrb_tokenizer *tokenizer,
                                       const char *bytes, size_t size,
                                       const char *name);

/* The byte-level alphabet of GPT-2: bytes that are printable stand for
 * themselves, the others for U+0100 and up. */
uint32_t qrb__byte_to_character(unsigned char byte);
int qrb__character_to_byte(uint32_t code); /* -1: none */

/* Broken bytes on their way through well-formed text: each is one character
 * of a private plane.  The byte, or -1. */
int qrb__broken_byte(const char *text, size_t size);

enum { QRB__BROKEN_LENGTH = 4 }; /* bytes of such a character */

/* Text cut into what is encoded.  Either function may be called for each
 * piece, in order of the text. */
struct qrb__pieces_sink {
    qrb_status (*token)(void *user, int32_t id);
    /* `broken`: characters that qrb__broken_byte() knows are bytes. */
    qrb_status (*word)(void *user, const char *word, size_t size, bool broken);
    void *user;
};

/* What cutting needs; zeroed before qrb__pieces_create(). */
struct qrb__pieces {
    const qrb_tokenizer *tokenizer;
    struct qrb__pretokens words;
    struct qrb__normalized normalized;
    struct qrb__bytes well_formed;
};

qrb_status qrb__pieces_create(const qrb_tokenizer *tokenizer,
                              struct qrb__pieces *out);
void qrb__pieces_free(struct qrb__pieces *pieces);

/* Added tokens, normalizer, pre-tokenizer. */
qrb_status qrb__pieces_walk(struct qrb__pieces *pieces, const char *text,
                            size_t size, const struct qrb__pieces_sink *sink);

/* The same for each text of a document, with `separator` as a token for the
 * lines in between; -1: the document is one text. */
qrb_status qrb__pieces_walk_document(struct qrb__pieces *pieces,
                                     const char *text, size_t size,
                                     int32_t separator,
                                     const struct qrb__pieces_sink *sink);

#endif
