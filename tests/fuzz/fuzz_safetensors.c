/* A safetensors file as a buffer: what opens can be described and read. */
#include "fuzz.h"

static void read_all(qrb_context *ctx, const qrb_safetensors *file)
{
    for (size_t i = 0; i < qrb_safetensors_count(file); i++) {
        qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
        qrb_tensor *tensor;

        FUZZ_CHECK(qrb_safetensors_find(file, qrb_safetensors_name(file, i)) ==
                   i);
        FUZZ_CHECK(qrb_safetensors_describe(file, i, &options) == QRB_OK);
        if (qrb_tensor_create(ctx, &options, &tensor) != QRB_OK)
            continue; /* an empty one */
        FUZZ_CHECK(qrb_safetensors_read(file, i, tensor) == QRB_OK);
        qrb_tensor_destroy(tensor);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const qrb_source source = fuzz_source(bytes, size);
    qrb_context *ctx = fuzz_context();
    qrb_safetensors *file;
    const qrb_status status = qrb_safetensors_open(ctx, &source, &file);

    if (status == QRB_OK) {
        read_all(ctx, file);
        qrb_safetensors_metadata(file, "format");
    } else {
        FUZZ_CHECK(file == NULL);
        fuzz_check_refusal(ctx, status);
    }
    qrb_safetensors_close(file);
    qrb_context_destroy(ctx);
    return 0;
}
