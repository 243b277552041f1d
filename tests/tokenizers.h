/* What tests of tokenizers share. */
#ifndef TESTS_TOKENIZERS_H
#define TESTS_TOKENIZERS_H

#include "harness.h"

#include <qrobust/tokenizer.h>

static inline qrb_status try_json(qrb_context *ctx, const char *text,
                                  size_t size, qrb_tokenizer **out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = text;
    source.size = size;
    return qrb_tokenizer_open(ctx, &source, QRB_TOKENIZER_JSON, out);
}

static inline qrb_tokenizer *open_json(qrb_context *ctx, const char *text)
{
    qrb_tokenizer *tokenizer = NULL;

    ASSERT_OK(ctx, try_json(ctx, text, strlen(text), &tokenizer));
    return tokenizer;
}

static inline void expect_tokens(const int32_t *ids, size_t count,
                                 const int32_t *expected, size_t expected_count)
{
    char found[512] = "";

    for (size_t i = 0; i < count && strlen(found) < 480; i++)
        snprintf(found + strlen(found), 24, " %d", (int)ids[i]);
    ck_assert_msg(count == expected_count &&
                      memcmp(ids, expected, count * sizeof *ids) == 0,
                  "tokens are%s", found);
}

static inline void expect_ids(qrb_context *ctx, const qrb_tokenizer *tokenizer,
                              const char *text, size_t size,
                              const int32_t *expected, size_t expected_count)
{
    int32_t *ids = NULL;
    size_t count = 0;

    ASSERT_OK(ctx, qrb_tokenizer_encode(tokenizer, text, size, &ids, &count));
    expect_tokens(ids, count, expected, expected_count);
    qrb_free(ctx, ids);
}

static inline void expect_text(qrb_context *ctx, const qrb_tokenizer *tokenizer,
                               const int32_t *ids, size_t count,
                               const char *expected)
{
    char *text = NULL;
    size_t size = 0;

    ASSERT_OK(ctx, qrb_tokenizer_decode(tokenizer, ids, count, &text, &size));
    ck_assert_uint_eq(size, strlen(text));
    ck_assert_str_eq(text, expected);
    qrb_free(ctx, text);
}

/* Text to ids that are given in place. */
#define EXPECT_IDS(ctx, tokenizer, text, ...)                                  \
    expect_ids(ctx, tokenizer, text, strlen(text),                             \
               (const int32_t[]){ __VA_ARGS__ },                               \
               sizeof((const int32_t[]){ __VA_ARGS__ }) / sizeof(int32_t))

#endif
