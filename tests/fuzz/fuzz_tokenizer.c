/* A tokenizer and a text for it.  What begins with { is a tokenizer.json, a
 * NUL, and the text; all else is the length of the text in two bytes, the
 * text, and a llama2.c tokenizer.  What is encoded decodes, and where nothing
 * in the tokenizer changes text, to the same bytes. */
#include "fuzz.h"

#include "io/tokenizer.h"

static bool all_bytes(const qrb_tokenizer *t)
{
    for (int byte = 0; byte < 256; byte++)
        if (t->byte_ids[byte] < 0)
            return false;
    return true;
}

static bool keeps_text(const qrb_tokenizer *t)
{
    if (t->added.count + t->added_normalized.count + t->normalizer.count > 0 ||
        !t->pretokenizer.byte_level ||
        t->decoder.kind != QRB__DECODE_BYTE_LEVEL || !all_bytes(t) ||
        t->bos >= 0 || t->eos >= 0)
        return false;
    for (size_t i = 0; i < t->pretokenizer.count; i++)
        if (t->pretokenizer.steps[i].prefix ||
            t->pretokenizer.steps[i].replace_spaces ||
            t->pretokenizer.steps[i].drop_matches ||
            t->pretokenizer.steps[i].drop_gaps)
            return false;
    return true;
}

/* No text becomes a special token or the name of a byte. */
static bool keeps_text_of_llama2c(const qrb_tokenizer *t)
{
    for (size_t i = 0; i < t->merges.count; i++)
        if (t->merges.list[i].result < 259)
            return false;
    return t->vocab.tokens[1].length > 4 && t->vocab.tokens[2].length > 4;
}

static void use(qrb_context *ctx, const qrb_tokenizer *t, const char *text,
                size_t size, bool kept)
{
    int32_t *ids = NULL;
    char *decoded = NULL;
    size_t count;
    size_t decoded_size;
    const qrb_status status = qrb_tokenizer_encode(t, text, size, &ids, &count);

    if (status != QRB_OK) {
        FUZZ_CHECK(ids == NULL && !kept);
        fuzz_check_refusal(ctx, status);
        return;
    }
    for (size_t i = 0; i < count; i++)
        FUZZ_CHECK(ids[i] >= 0 && (size_t)ids[i] < qrb_tokenizer_vocab(t));
    FUZZ_CHECK(qrb_tokenizer_decode(t, ids, count, &decoded, &decoded_size) ==
               QRB_OK);
    if (kept)
        FUZZ_CHECK(decoded_size == size &&
                   (size == 0 || memcmp(decoded, text, size) == 0));
    qrb_free(ctx, ids);
    qrb_free(ctx, decoded);
    if (qrb_tokenizer_encode_document(t, text, size, &ids, &count) == QRB_OK)
        qrb_free(ctx, ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    qrb_context *ctx = fuzz_context();
    const bool json = size > 0 && bytes[0] == '{';
    const uint8_t *file = bytes;
    const uint8_t *text = bytes + size;
    size_t file_size = size;
    size_t text_size = 0;
    qrb_tokenizer *t = NULL;
    qrb_source source;
    qrb_status status;

    if (json && memchr(bytes, '\0', size) != NULL) {
        text = (const uint8_t *)memchr(bytes, '\0', size) + 1;
        file_size = (size_t)(text - 1 - bytes);
        text_size = size - file_size - 1;
    } else if (!json && size >= 2) {
        text_size = (size_t)bytes[0] | (size_t)bytes[1] << 8;
        if (text_size > size - 2)
            text_size = size - 2;
        text = bytes + 2;
        file = text + text_size;
        file_size = size - 2 - text_size;
    }
    source = fuzz_source(file, file_size);
    status = qrb_tokenizer_open(
        ctx, &source, json ? QRB_TOKENIZER_JSON : QRB_TOKENIZER_LLAMA2C, &t);
    if (status == QRB_OK)
        use(ctx, t, (const char *)text, text_size,
            json ? keeps_text(t) : keeps_text_of_llama2c(t));
    else
        fuzz_check_refusal(ctx, status);
    qrb_tokenizer_destroy(t);
    qrb_context_destroy(ctx);
    return 0;
}
