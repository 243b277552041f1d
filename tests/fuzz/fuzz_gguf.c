/* A GGUF file: of what opens, every list can be walked, every tensor read, and
 * the configuration and the tokenizer are found or refused. */
#include "fuzz.h"

#include <qrobust/tokenizer.h>

#include "io/gguf_model.h"

static void walk(const struct qrb__gguf *file,
                 const struct qrb__gguf_value *value)
{
    struct qrb__gguf_elements list;
    const char *text;
    size_t length;
    uint64_t count = 0;

    if (value->type != QRB__GGUF_ARRAY)
        return;
    FUZZ_CHECK(qrb__gguf_load(file, value->key, value->element, &list) ==
               QRB_OK);
    while (value->element == QRB__GGUF_STRING &&
           qrb__gguf_next_string(&list, &text, &length))
        count++;
    FUZZ_CHECK(value->element != QRB__GGUF_STRING || count == list.count);
    qrb__gguf_elements_free(file->ctx, &list);
}

static void read_tensor(const struct qrb__gguf *file,
                        const struct qrb__gguf_tensor *tensor)
{
    struct qrb__view view =
        qrb__view_make(QRB_F32, tensor->rank, tensor->shape, NULL);
    float *memory = qrb__alloc_array(file->ctx, qrb__view_elements(&view),
                                     sizeof *memory);

    FUZZ_CHECK(memory != NULL); /* at most eight times the input */
    view.memory = (void *)memory;
    FUZZ_CHECK(qrb__gguf_read(file, tensor, &view) == QRB_OK);
    qrb__free(file->ctx, memory);
}

static void read_model(qrb_context *ctx, const struct qrb__gguf *file,
                       const qrb_source *source)
{
    qrb_engine_config config;
    qrb_tokenizer *tokenizer;
    qrb_status status = qrb__gguf_config(file, &config);

    if (status != QRB_OK)
        fuzz_check_refusal(ctx, status);
    status = qrb_tokenizer_open(ctx, source, QRB_TOKENIZER_GGUF, &tokenizer);
    if (status != QRB_OK)
        fuzz_check_refusal(ctx, status);
    qrb_tokenizer_destroy(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const qrb_source options = fuzz_source(bytes, size);
    qrb_context *ctx = fuzz_context();
    struct qrb__source *source;
    struct qrb__gguf *file;
    qrb_status status;

    FUZZ_CHECK(qrb__source_open(ctx, &options, &source) == QRB_OK);
    status = qrb__gguf_open(ctx, source, &file);
    if (status == QRB_OK) {
        for (size_t i = 0; i < file->value_count; i++)
            walk(file, &file->values[i]);
        for (size_t i = 0; i < file->tensor_count; i++)
            read_tensor(file, &file->tensors[i]);
        read_model(ctx, file, &options);
    } else {
        fuzz_check_refusal(ctx, status);
    }
    qrb__gguf_close(file);
    qrb_context_destroy(ctx);
    return 0;
}
