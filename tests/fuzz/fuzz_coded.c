/* A layer of GPTQ or AWQ in a safetensors file: what is read packs into what
 * was there, or the layer is refused. */
#include "fuzz.h"

#include "io/awq_layout.h"
#include "io/gptq_layout.h"

/* Reading again what is packed again gives the same codes. */
static void pack_again(qrb_context *ctx, const struct qrb__coded *coded,
                       enum qrb__coded_format format)
{
    const struct qrb__coded_shape *shape = &coded->shape;
    const size_t codes = shape->outputs * shape->inputs;
    uint32_t *words = qrb__alloc_array(ctx, codes, sizeof *words);
    int32_t *again = qrb__alloc_array(ctx, codes, sizeof *again);

    FUZZ_CHECK(words != NULL && again != NULL);
    if (format == QRB__CODED_AWQ) {
        FUZZ_CHECK(qrb__awq_pack_codes(ctx, shape, coded->codes, words) ==
                   QRB_OK);
        FUZZ_CHECK(qrb__awq_unpack_codes(ctx, shape, words, again) == QRB_OK);
    } else {
        FUZZ_CHECK(qrb__gptq_pack_codes(ctx, shape, coded->codes, words) ==
                   QRB_OK);
        FUZZ_CHECK(qrb__gptq_unpack_codes(ctx, shape, words, again) == QRB_OK);
        FUZZ_CHECK(qrb__gptq_pack_zeros(ctx, shape, coded->zeros,
                                        format == QRB__CODED_GPTQ,
                                        words) == QRB_OK);
    }
    FUZZ_CHECK(memcmp(again, coded->codes, codes * sizeof *again) == 0);
    qrb__free(ctx, words);
    qrb__free(ctx, again);
}

static void read_layer(qrb_context *ctx, const qrb_safetensors *file,
                       enum qrb__coded_format format, uint32_t bits)
{
    struct qrb__coded coded;
    const qrb_status status = qrb__coded_read(file, "a", format, bits, &coded);

    if (status == QRB_OK) {
        for (size_t i = 0; i < coded.shape.inputs; i++)
            FUZZ_CHECK((size_t)coded.group_index[i] < coded.shape.groups);
        pack_again(ctx, &coded, format);
    } else if (status != QRB_E_SHAPE && status != QRB_E_NOT_FINITE) {
        fuzz_check_refusal(ctx, status);
    }
    qrb__coded_free(ctx, &coded);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const uint32_t widths[] = { 0, 2, 3, 4, 5, 8 };
    const qrb_source source = fuzz_source(bytes, size);
    qrb_context *ctx = fuzz_context();
    qrb_safetensors *file;

    if (qrb_safetensors_open(ctx, &source, &file) == QRB_OK)
        for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
            for (int format = QRB__CODED_GPTQ; format <= QRB__CODED_AWQ;
                 format++)
                read_layer(ctx, file, (enum qrb__coded_format)format,
                           widths[i]);
    qrb_safetensors_close(file);
    qrb_context_destroy(ctx);
    return 0;
}
