/* A config.json: what is accepted is within its ranges. */
#include "fuzz.h"

#include "io/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const qrb_source options = fuzz_source(bytes, size);
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_context *ctx = fuzz_context();
    struct qrb__source *source;
    qrb_status status;

    FUZZ_CHECK(qrb__source_open(ctx, &options, &source) == QRB_OK);
    status = qrb__config_read(ctx, source, &config);
    if (status == QRB_OK)
        FUZZ_CHECK(qrb__config_complete(ctx, &config, "again") == QRB_OK &&
                   config.head_dim >= 2 && config.heads >= config.kv_heads);
    else
        fuzz_check_refusal(ctx, status);
    qrb__source_close(source);
    qrb_context_destroy(ctx);
    return 0;
}
