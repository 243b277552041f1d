/* Words into ids.
 *
 * A word is spelled in the tokens of its bytes or characters, and merged
 * (bpe.h).  Short words are remembered in a table of fixed size where each
 * word has one place, so that running text costs one lookup a word: O(n) for
 * n bytes beyond cutting and the merges of new words. */
#include <string.h>

#include "io/tokenizer.h"
#include "io/utf8.h"

enum {
    REMEMBERED_BYTES = 26, /* of a word */
    REMEMBERED_IDS = 9,
    REMEMBERED_MOST = 1 << 15, /* words */
    TEXT_PER_REMEMBERED = 16,  /* bytes of text that pay for one */
    WORDS_PER_CANCEL = 1 << 16
};

struct remembered {
    uint8_t length; /* 0: empty */
    uint8_t count;
    char word[REMEMBERED_BYTES];
    int32_t ids[REMEMBERED_IDS];
};

struct encoding {
    const qrb_tokenizer *tokenizer;
    struct qrb__pieces pieces;
    struct qrb__bpe bpe;
    struct remembered *remembered;
    size_t remembered_mask;
    struct qrb__bytes spelled; /* a word in the byte-level alphabet */
    int32_t *ids;
    size_t count;
    size_t size;
    size_t words;
    size_t unknown_end; /* symbols of the word, if the last is unknown */
};

static qrb_status append(struct encoding *e, const int32_t *ids, size_t count)
{
    qrb_context *ctx = e->tokenizer->ctx;
    int32_t *grown;

    /* One more, so that there is an array to hand out for no tokens. */
    grown = qrb__grow(ctx, e->ids, &e->size, e->count, e->count + count + 1,
                      sizeof *grown);
    if (grown == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu tokens", e->count + count);
    e->ids = grown;
    if (count > 0)
        memcpy(e->ids + e->count, ids, count * sizeof *ids);
    e->count += count;
    return QRB_OK;
}

static qrb_status append_token(void *user, int32_t id)
{
    return append(user, &id, 1);
}

/* The unknown token; neighbours are one where the tokenizer fuses them. */
static void spell_unknown(struct encoding *e, size_t *count)
{
    if (!e->tokenizer->fuse_unk || *count == 0 || e->unknown_end != *count)
        e->bpe.symbols[(*count)++] = e->tokenizer->unk;
    e->unknown_end = *count;
}

/* Bytes that well-formed text never has. */
static bool is_alien(unsigned char byte)
{
    return byte == 0xc0 || byte == 0xc1 || byte >= 0xf5;
}

/* The ids of bytes, one each.  Vocabularies made from text may lack those
 * that text never has: they go as U+FFFD. */
static qrb_status spell_bytes(struct encoding *e, const char *bytes,
                              size_t length, size_t *count)
{
    const qrb_tokenizer *t = e->tokenizer;
    const int32_t stand_in[3] = { t->byte_ids[0xef], t->byte_ids[0xbf],
                                  t->byte_ids[0xbd] };
    qrb_status status;

    status = qrb__bpe_reserve(t->ctx, &e->bpe, *count, *count + 3 * length);
    for (size_t i = 0; status == QRB_OK && i < length; i++) {
        const unsigned char byte = (unsigned char)bytes[i];

        if (t->byte_ids[byte] >= 0) {
            e->bpe.symbols[(*count)++] = t->byte_ids[byte];
        } else if (is_alien(byte) && stand_in[0] >= 0 && stand_in[1] >= 0 &&
                   stand_in[2] >= 0) {
            for (size_t k = 0; k < 3; k++)
                e->bpe.symbols[(*count)++] = stand_in[k];
        } else if (t->unk >= 0) {
            spell_unknown(e, count);
        } else {
            status = qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                               "byte 0x%02X has no token, and there is no "
                               "unknown token",
                               byte);
        }
    }
    return status;
}

/* A character that no token spells. */
static qrb_status spell_stranger(struct encoding *e, const char *character,
                                 size_t length, size_t *count)
{
    const qrb_tokenizer *t = e->tokenizer;

    if (t->byte_fallback)
        return spell_bytes(e, character, length, count);
    if (t->unk < 0)
        return qrb__fail(t->ctx, QRB_E_UNSUPPORTED,
                         "U+%04X has no token, and there is no unknown "
                         "token",
                         (unsigned)qrb__utf8_decode(character, length));
    spell_unknown(e, count);
    return QRB_OK;
}

static qrb_status spell_characters(struct encoding *e, const char *word,
                                   size_t size, bool broken, size_t *count)
{
    static const char stand_in[] = "\xef\xbf\xbd";
    const qrb_tokenizer *t = e->tokenizer;
    qrb_status status;

    /* A character has at most as many tokens as bytes. */
    status = qrb__bpe_reserve(t->ctx, &e->bpe, 0, size);
    for (size_t at = 0; status == QRB_OK && at < size;) {
        const char *character = word + at;
        size_t length = qrb__utf8_length(character, size - at);
        const int byte = broken ? qrb__broken_byte(character, length) : -1;
        char raw;
        int32_t id;

        at += length;
        if (byte >= 0 && t->byte_fallback) {
            raw = (char)byte;
            status = spell_bytes(e, &raw, 1, count);
            continue;
        }
        if (byte >= 0) {
            character = stand_in;
            length = sizeof stand_in - 1;
        }
        id = qrb__vocab_find(&t->vocab, character, length);
        if (id >= 0)
            e->bpe.symbols[(*count)++] = id;
        else
            status = spell_stranger(e, character, length, count);
    }
    return status;
}

/* The bytes that a word of a byte-level tokenizer stands for, in place. */
static size_t take_broken_bytes(char *word, size_t size)
{
    size_t used = 0;

    for (size_t at = 0; at < size;) {
        const int byte = qrb__broken_byte(word + at, size - at);

        if (byte >= 0) {
            word[used++] = (char)byte;
            at += QRB__BROKEN_LENGTH;
        } else {
            word[used++] = word[at++];
        }
    }
    return used;
}

/* The token that a whole word is, or -1. */
static qrb_status find_word(struct encoding *e, const char *word, size_t size,
                            int32_t *id_out)
{
    const qrb_tokenizer *t = e->tokenizer;
    qrb_status status = QRB_OK;

    if (t->pretokenizer.byte_level) {
        e->spelled.used = 0;
        status = qrb__bytes_reserve(t->ctx, &e->spelled, 2 * size);
        for (size_t i = 0; status == QRB_OK && i < size; i++)
            e->spelled.used +=
                qrb__utf8_encode(qrb__byte_to_character((unsigned char)word[i]),
                                 e->spelled.bytes + e->spelled.used);
        word = e->spelled.bytes;
        size = e->spelled.used;
    }
    *id_out = status == QRB_OK ? qrb__vocab_find(&t->vocab, word, size) : -1;
    return status;
}

/* The ids of a word into the merging's symbols. */
static qrb_status encode_word(struct encoding *e, const char *word, size_t size,
                              bool broken, size_t *count)
{
    const qrb_tokenizer *t = e->tokenizer;
    struct qrb__bytes raw = { 0 };
    qrb_status status = QRB_OK;
    int32_t whole = -1;

    *count = 0;
    e->unknown_end = 0;
    if (broken && t->pretokenizer.byte_level) {
        status = qrb__bytes_append(t->ctx, &raw, word, size);
        if (status == QRB_OK)
            raw.used = take_broken_bytes(raw.bytes, size);
        word = raw.bytes;
        size = raw.used;
    }
    if (status == QRB_OK && t->ignore_merges)
        status = find_word(e, word, size, &whole);
    if (status != QRB_OK)
        goto out;
    if (whole >= 0) {
        status = qrb__bpe_reserve(t->ctx, &e->bpe, 0, 1);
        if (status != QRB_OK)
            goto out;
        e->bpe.symbols[(*count)++] = whole;
    } else {
        status = t->pretokenizer.byte_level
                     ? spell_bytes(e, word, size, count)
                     : spell_characters(e, word, size, broken, count);
        if (status == QRB_OK)
            *count = qrb__bpe_merge(&e->bpe, &t->merges, *count);
    }
out:
    qrb__bytes_free(t->ctx, &raw);
    return status;
}

static qrb_status append_word(void *user, const char *word, size_t size,
                              bool broken)
{
    struct encoding *e = user;
    struct remembered *place = NULL;
    qrb_status status;
    size_t count;

    if (++e->words % WORDS_PER_CANCEL == 0) {
        status = qrb__cancelled(e->tokenizer->ctx);
        if (status != QRB_OK)
            return status;
    }
    if (size <= REMEMBERED_BYTES && !broken && e->remembered != NULL) {
        place =
            &e->remembered[qrb__hash_bytes(word, size) & e->remembered_mask];
        if (place->length == size && memcmp(place->word, word, size) == 0)
            return append(e, place->ids, place->count);
    }
    status = encode_word(e, word, size, broken, &count);
    if (status != QRB_OK)
        return status;
    if (place != NULL && count <= REMEMBERED_IDS) {
        place->length = (uint8_t)size;
        place->count = (uint8_t)count;
        memcpy(place->word, word, size);
        memcpy(place->ids, e->bpe.symbols, count * sizeof *place->ids);
    }
    return append(e, e->bpe.symbols, count);
}

static qrb_status remember(struct encoding *e, size_t size)
{
    size_t places = 16;

    while (places < REMEMBERED_MOST && places < size / TEXT_PER_REMEMBERED)
        places *= 2;
    e->remembered =
        qrb__alloc_array(e->tokenizer->ctx, places, sizeof *e->remembered);
    e->remembered_mask = places - 1;
    if (e->remembered == NULL)
        return qrb__fail(e->tokenizer->ctx, QRB_E_NO_MEMORY,
                         "%zu remembered words", places);
    return QRB_OK;
}

/* Both kinds of encoding: a piece of text, or a document. */
static qrb_status encode(const qrb_tokenizer *tokenizer, const char *text,
                         size_t size, bool document, int32_t **tokens_out,
                         size_t *count_out)
{
    struct encoding e = { .tokenizer = tokenizer,
                          .pieces = { .tokenizer = tokenizer } };
    const struct qrb__pieces_sink sink = { append_token, append_word, &e };
    const int32_t separator =
        tokenizer->eos >= 0 ? tokenizer->eos : tokenizer->bos;
    qrb_status status;

    status = qrb__pieces_create(tokenizer, &e.pieces);
    if (status == QRB_OK)
        status = remember(&e, size);
    if (status == QRB_OK && document && tokenizer->bos >= 0)
        status = append_token(&e, tokenizer->bos);
    else if (status == QRB_OK)
        status = append(&e, NULL, 0);
    if (status == QRB_OK)
        status = qrb__pieces_walk_document(&e.pieces, text, size,
                                           document ? separator : -1, &sink);
    if (status == QRB_OK) {
        *tokens_out = e.ids;
        *count_out = e.count;
        e.ids = NULL;
    }
    qrb__pieces_free(&e.pieces);
    qrb__bpe_free(tokenizer->ctx, &e.bpe);
    qrb__bytes_free(tokenizer->ctx, &e.spelled);
    qrb__free(tokenizer->ctx, e.remembered);
    qrb__free(tokenizer->ctx, e.ids);
    return status;
}

static qrb_status check(const qrb_tokenizer *tokenizer, const char *function,
                        const char *text, size_t size, int32_t **tokens_out,
                        size_t *count_out)
{
    qrb_status status;

    if (tokens_out == NULL || count_out == NULL)
        return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG,
                         "tokens_out or count_out is NULL");
    *tokens_out = NULL;
    status = qrb__not_in_callback(tokenizer->ctx, function);
    if (status != QRB_OK)
        return status;
    if (text == NULL && size > 0)
        return qrb__fail(tokenizer->ctx, QRB_E_INVALID_ARG, "text is NULL");
    return QRB_OK;
}

qrb_status qrb_tokenizer_encode(const qrb_tokenizer *tokenizer,
                                const char *text, size_t size,
                                int32_t **tokens_out, size_t *count_out)
{
    qrb_status status;

    if (tokenizer == NULL)
        return QRB_E_INVALID_ARG;
    status = check(tokenizer, __func__, text, size, tokens_out, count_out);
    if (status == QRB_OK)
        status = encode(tokenizer, text, size, false, tokens_out, count_out);
    return status;
}

qrb_status qrb_tokenizer_encode_document(const qrb_tokenizer *tokenizer,
                                         const char *text, size_t size,
                                         int32_t **tokens_out,
                                         size_t *count_out)
{
    qrb_status status;

    if (tokenizer == NULL)
        return QRB_E_INVALID_ARG;
    status = check(tokenizer, __func__, text, size, tokens_out, count_out);
    if (status == QRB_OK)
        status = encode(tokenizer, text, size, true, tokens_out, count_out);
    return status;
}
