/* Training of byte-level BPE (Sennrich et al., "Neural Machine Translation of
 * Rare Words with Subword Units", ACL 2016; on bytes as in GPT-2).
 *
 * The text is cut as it will be for encoding, distinct words are counted, and
 * merges are learned from them (bpe_learn.h).  Ids are: <|endoftext|>, the 256
 * bytes in the order of their characters, the merges.  O(n) for n bytes of
 * text beyond the learning. */
#include <string.h>

#include "io/bpe_learn.h"
#include "io/tokenizer.h"
#include "io/utf8.h"

enum { END_OF_TEXT, FIRST_BYTE, FIRST_MERGE = FIRST_BYTE + 256 };

enum { MERGES_PER_REPORT = 64, WORDS_PER_CANCEL = 1 << 16 };

static const char end_of_text[] = "<|endoftext|>";
static const char byte_level[] =
    "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,"
    "\"trim_offsets\":true,\"use_regex\":true}";

struct training {
    qrb_tokenizer *tokenizer;
    struct qrb__bytes bytes; /* of the distinct words */
    struct qrb__counted_word *words;
    size_t words_count;
    size_t words_size;
    struct qrb__index index;
    int32_t *symbols; /* [bytes.used] */
    struct qrb__learning learning;
    size_t seen; /* words of the text */
};

/* Broken bytes are bytes like any other here. */
static size_t copy_bytes(char *out, const char *word, size_t size, bool broken)
{
    size_t used = 0;

    for (size_t at = 0; at < size;) {
        const int byte = broken ? qrb__broken_byte(word + at, size - at) : -1;

        out[used++] = byte >= 0 ? (char)byte : word[at];
        at += byte >= 0 ? QRB__BROKEN_LENGTH : 1;
    }
    return used;
}

static qrb_status count_word(void *user, const char *text, size_t size,
                             bool broken)
{
    struct training *t = user;
    qrb_context *ctx = t->tokenizer->ctx;
    struct qrb__counted_word *grown;
    size_t length;
    uint32_t hash;
    uint32_t entry;
    size_t probe = 0;
    char *copy;
    qrb_status status;

    if (size > INT32_MAX || t->words_count >= QRB__INDEX_END)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "a word of %zu bytes behind %zu others: too many",
                         size, t->words_count);
    if (++t->seen % WORDS_PER_CANCEL == 0) {
        status = qrb__cancelled(ctx);
        if (status != QRB_OK)
            return status;
    }
    status = qrb__bytes_reserve(ctx, &t->bytes, size);
    if (status != QRB_OK)
        return status;
    copy = t->bytes.bytes + t->bytes.used;
    length = copy_bytes(copy, text, size, broken);
    hash = qrb__hash_bytes(copy, length);
    while ((entry = qrb__index_next(&t->index, hash, &probe)) !=
           QRB__INDEX_END) {
        struct qrb__counted_word *word = &t->words[entry];

        if (word->length == length &&
            memcmp(t->bytes.bytes + word->begin, copy, length) == 0) {
            word->count++;
            return QRB_OK;
        }
    }
    grown = qrb__grow(ctx, t->words, &t->words_size, t->words_count,
                      t->words_count + 1, sizeof *grown);
    if (grown == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu words", t->words_count);
    t->words = grown;
    status = qrb__index_reserve(ctx, &t->index, t->words_count + 1);
    if (status != QRB_OK)
        return status;
    t->words[t->words_count] =
        (struct qrb__counted_word){ t->bytes.used, (uint32_t)length, 1 };
    qrb__index_add(&t->index, hash, (uint32_t)t->words_count++);
    t->bytes.used += length;
    return QRB_OK;
}

/* Special tokens in the text are borders, and not learned from. */
static qrb_status skip_token(void *user, int32_t id)
{
    (void)user;
    (void)id;
    return QRB_OK;
}

/* Make a token of a pair. */
static qrb_status add_merge(qrb_tokenizer *tokenizer, struct qrb__bytes *name,
                            int32_t left, int32_t right)
{
    const struct qrb__merge merge = { left, right,
                                      (int32_t)tokenizer->vocab.ids,
                                      (uint32_t)tokenizer->merges.count };
    const int32_t halves[2] = { left, right };
    qrb_status status = QRB_OK;

    name->used = 0;
    for (size_t i = 0; status == QRB_OK && i < 2; i++) {
        size_t length;
        const char *bytes =
            qrb__vocab_bytes(&tokenizer->vocab, halves[i], &length);

        status = qrb__bytes_append(tokenizer->ctx, name, bytes, length);
    }
    if (status == QRB_OK)
        status = qrb__vocab_add(tokenizer->ctx, &tokenizer->vocab,
                                tokenizer->vocab.ids, name->bytes, name->used,
                                QRB__TOKEN_MODEL);
    if (status == QRB_OK)
        status = qrb__merges_add(tokenizer->ctx, &tokenizer->merges, &merge);
    return status;
}

/* An untrained tokenizer: the special token and the bytes. */
static qrb_status create_base(qrb_context *ctx, qrb_tokenizer **out)
{
    qrb_status status = qrb__tokenizer_create(ctx, out);
    size_t id = FIRST_BYTE;

    if (status == QRB_OK)
        status = qrb__vocab_add(ctx, &(*out)->vocab, END_OF_TEXT, end_of_text,
                                sizeof end_of_text - 1,
                                QRB__TOKEN_MODEL | QRB__TOKEN_ADDED |
                                    QRB__TOKEN_SPECIAL);
    for (uint32_t code = 0; status == QRB_OK && id < FIRST_MERGE; code++) {
        char character[4];

        if (qrb__character_to_byte(code) >= 0)
            status = qrb__vocab_add(ctx, &(*out)->vocab, id++, character,
                                    qrb__utf8_encode(code, character),
                                    QRB__TOKEN_MODEL);
    }
    if (status == QRB_OK)
        status =
            qrb__tokenizer_set_part(*out, QRB__PART_PRE_TOKENIZER, byte_level);
    if (status == QRB_OK)
        status = qrb__tokenizer_set_part(*out, QRB__PART_DECODER, byte_level);
    if (status == QRB_OK)
        status = qrb__tokenizer_finish(*out);
    return status;
}

static qrb_status count_words(struct training *t, const char *text, size_t size)
{
    struct qrb__pieces pieces = { .tokenizer = t->tokenizer };
    const struct qrb__pieces_sink sink = { skip_token, count_word, t };
    qrb_status status;

    status = qrb__pieces_create(t->tokenizer, &pieces);
    if (status == QRB_OK)
        status =
            qrb__pieces_walk_document(&pieces, text, size, END_OF_TEXT, &sink);
    qrb__pieces_free(&pieces);
    return status;
}

/* Distinct words as symbols. */
static qrb_status spell_words(struct training *t)
{
    qrb_context *ctx = t->tokenizer->ctx;

    if (t->bytes.used == 0)
        return QRB_OK;
    t->symbols = qrb__alloc_array(ctx, t->bytes.used, sizeof *t->symbols);
    if (t->symbols == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "%zu symbols", t->bytes.used);
    for (size_t i = 0; i < t->bytes.used; i++)
        t->symbols[i] =
            t->tokenizer->byte_ids[(unsigned char)t->bytes.bytes[i]];
    return QRB_OK;
}

static qrb_status learn(struct training *t, size_t vocab)
{
    qrb_tokenizer *tokenizer = t->tokenizer;
    qrb_context *ctx = tokenizer->ctx;
    struct qrb__bytes name = { 0 };
    qrb_status status;

    status = qrb__learning_begin(ctx, t->words, t->words_count, t->symbols,
                                 &t->learning);
    while (status == QRB_OK && tokenizer->vocab.ids < vocab) {
        const size_t merges = tokenizer->merges.count;
        int32_t left;
        int32_t right;

        if (merges % MERGES_PER_REPORT == 0)
            status = qrb__progress(ctx, "train tokenizer", merges,
                                   vocab - FIRST_MERGE);
        if (status == QRB_OK)
            status = qrb__learning_next(
                &t->learning, (int32_t)tokenizer->vocab.ids, &left, &right);
        if (status == QRB_OK && left < 0)
            status = qrb__fail(ctx, QRB_E_SHAPE,
                               "the text has %zu merges, for %zu tokens it "
                               "takes %zu",
                               merges, vocab, vocab - FIRST_MERGE);
        if (status == QRB_OK)
            status = add_merge(tokenizer, &name, left, right);
    }
    qrb__bytes_free(ctx, &name);
    return status;
}

static qrb_status train(qrb_context *ctx, const char *text, size_t size,
                        size_t vocab, qrb_tokenizer **out)
{
    struct training t = { 0 };
    qrb_status status;

    status = create_base(ctx, &t.tokenizer);
    if (status == QRB_OK)
        status = count_words(&t, text, size);
    if (status == QRB_OK)
        status = spell_words(&t);
    if (status == QRB_OK)
        status = learn(&t, vocab);
    if (status == QRB_OK) {
        *out = t.tokenizer;
        t.tokenizer = NULL;
    }
    qrb__learning_free(&t.learning);
    qrb__bytes_free(ctx, &t.bytes);
    qrb__index_free(ctx, &t.index);
    qrb__free(ctx, t.words);
    qrb__free(ctx, t.symbols);
    qrb_tokenizer_destroy(t.tokenizer);
    return status;
}

qrb_status qrb_tokenizer_train(qrb_context *ctx, const char *text, size_t size,
                               size_t vocab, qrb_tokenizer **out)
{
    qrb_status status;

    if (ctx == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "out is NULL");
    *out = NULL;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (text == NULL && size > 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "text is NULL");
    if (vocab < FIRST_MERGE || vocab > QRB__VOCAB_MAX)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "vocab is %zu, %d to %d are allowed", vocab,
                         FIRST_MERGE, QRB__VOCAB_MAX);
    return train(ctx, text, size, vocab, out);
}
