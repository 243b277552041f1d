/* Token batches: the one check of those that the library did not make. */
#include "model/model.h"

size_t qrb__token_batch_rows(qrb_context *ctx, const qrb_token_batch *batch)
{
    const qrb_token_batch none = QRB_TOKEN_BATCH_INIT;
    qrb_token_batch given = none;
    size_t tokens;
    size_t rows = 0;

    if (batch == NULL || batch->struct_size < sizeof none) {
        qrb__fail(ctx, QRB_E_INVALID_ARG,
                  "token batch: struct_size is %zu, expected %zu",
                  batch == NULL ? 0 : batch->struct_size, sizeof none);
        return 0;
    }
    if (qrb__options_copy(ctx, batch, sizeof given, "token batch", &given) !=
        QRB_OK)
        return 0;
    if (given.tokens == NULL || given.first_scored == NULL ||
        !qrb__mul_size(given.sequences, given.length, &tokens) || tokens == 0) {
        qrb__fail(ctx, QRB_E_SHAPE,
                  "token batch: found [%zu, %zu] with%s tokens and with%s "
                  "first_scored",
                  given.sequences, given.length,
                  given.tokens == NULL ? "out" : "",
                  given.first_scored == NULL ? "out" : "");
        return 0;
    }
    for (size_t s = 0; s < given.sequences; s++) {
        const size_t first = given.first_scored[s];

        if (first < 1 || first > given.length) {
            qrb__fail(ctx, QRB_E_INVALID_ARG,
                      "token batch: first_scored of sequence %zu is %zu; it "
                      "is in 1..%zu",
                      s, first, given.length);
            return 0;
        }
        rows += given.length - first;
    }
    if (rows == 0)
        qrb__fail(ctx, QRB_E_SHAPE,
                  "token batch: none of its %zu tokens is scored", tokens);
    return rows;
}
