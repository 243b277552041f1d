/* Pre-tokenizers: how text is cut into words that are encoded one by one. */
#ifndef QRB_IO_PRETOKENIZER_H
#define QRB_IO_PRETOKENIZER_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "io/growing.h"
#include "io/json.h"

enum { QRB__PRETOKENIZER_STEPS_MAX = 8 };

/* Zeroed cuts nothing. */
struct qrb__pretokenizer {
    struct qrb__pretokenizer_step {
        pcre2_code *code; /* cuts at its matches; NULL: does not cut */
        bool drop_matches;
        bool drop_gaps;
        bool replace_spaces; /* by U+2581, as SentencePiece does */
        bool prefix;         /* with a space, where there is none */
        bool prefix_first;   /* only at the beginning of the text */
    } steps[QRB__PRETOKENIZER_STEPS_MAX];
    size_t count;
    bool byte_level; /* tokens spell bytes in the alphabet of GPT-2 */
    pcre2_general_context *general; /* PCRE2's way to the allocator */
};

/* A walk over the words of texts; zeroed before qrb__pretokens_create(). */
struct qrb__pretokens {
    const struct qrb__pretokenizer *pretokenizer;
    pcre2_match_data *match;
    pcre2_match_context *limits;
    uint64_t budget; /* calls that matching the text may still make */
    size_t depth;    /* stage that goes on with the next word */
    bool started;
    struct qrb__pretoken_stage {
        const char *text;
        size_t size;
        bool first;       /* the text begins the whole input */
        size_t at;        /* what lies before is handed out */
        size_t scan;      /* where the next match is tried */
        size_t match_end; /* > at: a match that waits for its gap */
        struct qrb__bytes copy;
    } stages[QRB__PRETOKENIZER_STEPS_MAX];
};

/* Read the "pre_tokenizer" of a tokenizer.json: none, ByteLevel, Split,
 * Digits, Metaspace, and sequences of them.  QRB_OK; QRB_E_FORMAT;
 * QRB_E_UNSUPPORTED; QRB_E_NO_MEMORY. */
qrb_status qrb__pretokenizer_read(qrb_context *ctx, const json_t *part,
                                  struct qrb__pretokenizer *out);
void qrb__pretokenizer_free(struct qrb__pretokenizer *pretokenizer);

qrb_status qrb__pretokens_create(qrb_context *ctx,
                                 const struct qrb__pretokenizer *pretokenizer,
                                 struct qrb__pretokens *out);

/* Begin with well-formed text of at least one byte. */
void qrb__pretokens_begin(struct qrb__pretokens *walk, const char *text,
                          size_t size, bool first);

/* The next word; *size_out is 0 after the last.  The word lives until the
 * next call.  QRB_OK; QRB_E_UNSUPPORTED (the expression needs too long for
 * this text); QRB_E_NO_MEMORY. */
qrb_status qrb__pretokens_next(qrb_context *ctx, struct qrb__pretokens *walk,
                               const char **word_out, size_t *size_out);

void qrb__pretokens_free(qrb_context *ctx, struct qrb__pretokens *walk);

/* Rewrite a regular expression of the tokenizers library (Oniguruma, Ruby
 * syntax) so that it means the same to PCRE2, with PCRE2_UTF and PCRE2_UCP.
 * What the two read differently is QRB_E_UNSUPPORTED. */
qrb_status qrb__pattern_translate(qrb_context *ctx, const char *pattern,
                                  size_t size, struct qrb__bytes *out);

#endif
