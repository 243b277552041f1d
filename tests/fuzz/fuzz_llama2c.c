/* A llama2.c checkpoint: of what opens, the last layer of each weight can be
 * read. */
#include "fuzz.h"

#include "io/llama2c.h"

static void read_last(qrb_context *ctx, const struct qrb__llama2c *checkpoint,
                      enum qrb__llama2c_weight weight)
{
    const size_t shape[2] = { checkpoint->weights[weight].rank == 1
                                  ? checkpoint->weights[weight].cols
                                  : checkpoint->weights[weight].rows,
                              checkpoint->weights[weight].cols };
    struct qrb__view view =
        qrb__view_make(QRB_F32, checkpoint->weights[weight].rank, shape, NULL);
    float *memory =
        qrb__alloc_array(ctx, qrb__view_elements(&view), sizeof *memory);

    FUZZ_CHECK(memory != NULL); /* no more than the input */
    view.memory = (void *)memory;
    FUZZ_CHECK(qrb__llama2c_read(checkpoint, weight,
                                 checkpoint->weights[weight].layers - 1,
                                 &view) == QRB_OK);
    qrb__free(ctx, memory);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const qrb_source source = fuzz_source(bytes, size);
    qrb_context *ctx = fuzz_context();
    struct qrb__llama2c checkpoint;
    const qrb_status status = qrb__llama2c_open(ctx, &source, &checkpoint);

    if (status == QRB_OK)
        for (int i = 0; i < QRB__LLAMA2C_WEIGHTS; i++)
            read_last(ctx, &checkpoint, (enum qrb__llama2c_weight)i);
    else
        fuzz_check_refusal(ctx, status);
    qrb__llama2c_close(&checkpoint);
    qrb_context_destroy(ctx);
    return 0;
}
