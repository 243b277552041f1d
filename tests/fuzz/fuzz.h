/* What fuzz targets share.  A target is fuzz_<name>.c with one function; it
 * is linked with libFuzzer (-Dfuzz=true, see run.sh) and, in every ordinary
 * build, with replay.c, which runs the files of corpus/<name>/ through it. */
#ifndef TESTS_FUZZ_H
#define TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <qrobust/source.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A condition that no input may break. */
#define FUZZ_CHECK(condition)                                                  \
    do {                                                                       \
        if (!(condition))                                                      \
            __builtin_trap();                                                  \
    } while (0)

static inline qrb_context *fuzz_context(void)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = 1;
    FUZZ_CHECK(qrb_context_create(&options, &ctx) == QRB_OK);
    return ctx;
}

static inline qrb_source fuzz_source(const uint8_t *bytes, size_t size)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = bytes == NULL ? (const uint8_t *)"" : bytes;
    source.size = size;
    return source;
}

/* What a reader says about a bad file: one of these, and why in one line. */
static inline void fuzz_check_refusal(qrb_context *ctx, qrb_status status)
{
    const char *message = qrb_context_message(ctx);

    FUZZ_CHECK(status == QRB_E_FORMAT || status == QRB_E_UNSUPPORTED ||
               status == QRB_E_IO || status == QRB_E_NO_MEMORY);
    FUZZ_CHECK(message[0] != '\0' && strchr(message, '\n') == NULL);
}

#endif
