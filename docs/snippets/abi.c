/* A caller that was compiled against an older header. */
#include "snippet.h"

#include <stddef.h>

int main(void)
{
    qrb_context *ctx;

    must(NULL, qrb_context_create(NULL, &ctx));
    /* [begin version] */
    if (qrb_version() < QRB_VERSION_MAJOR * 10000 + QRB_VERSION_MINOR * 100)
        printf("the library is older than its header\n");
    /* [end version] */

    /* [begin sizes] */
    /* An option that an older header did not have counts as zero. */
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer;

    options.struct_size = offsetof(qrb_quantizer_options, mse_clip);
    options.mse_clip = 77; /* beyond the size: never looked at */
    must(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
    qrb_quantizer_destroy(quantizer);
    printf("the older caller is served\n");

    /* A field that this library does not know must be zero. */
    struct {
        qrb_quantizer_options known;
        uint64_t later;
    } newer = { QRB_QUANTIZER_OPTIONS_INIT, 1 };

    newer.known.struct_size = sizeof newer;
    printf("the newer one: %s\n",
           qrb_status_name(
               qrb_quantizer_create(ctx, &newer.known, &quantizer)));
    newer.later = 0;
    must(ctx, qrb_quantizer_create(ctx, &newer.known, &quantizer));
    qrb_quantizer_destroy(quantizer);
    /* [end sizes] */
    qrb_context_destroy(ctx);
    return 0;
}
