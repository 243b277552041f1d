/* Matrices and quantizers for the tests of quantization. */
#ifndef TESTS_QUANTIZER_FIXTURE_H
#define TESTS_QUANTIZER_FIXTURE_H

#include "matrix.h"

#include <qrobust/quantizer.h>

/* Odd sizes, so that runs end in the middle of rows. */
enum { ROWS = 67, COLS = 192, ELEMENTS = ROWS * COLS };

static inline qrb_context *context_of(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

static inline qrb_quantizer *named(qrb_context *ctx, const char *name)
{
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

static inline qrb_quantizer *made(qrb_context *ctx,
                                  const qrb_quantizer_options *options)
{
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create(ctx, options, &quantizer));
    return quantizer;
}

/* Codes of a packed matrix, until the next call. */
static inline const int32_t *codes_of(const qrb_packed *packed)
{
    static int32_t codes[64 * 512];

    ck_assert_int_eq(qrb_packed_read_codes(packed, codes), QRB_OK);
    return codes;
}

/* Quantize and dequantize into a tensor of w's type at `values`, and fake w in
 * place: both must be the same bytes.  Returns the packed matrix. */
static inline qrb_packed *quantize_both_ways(qrb_context *ctx,
                                             const qrb_quantizer *quantizer,
                                             qrb_tensor *w, void *values)
{
    const size_t rows = qrb_tensor_extent(w, 0);
    const size_t cols = qrb_tensor_extent(w, 1);
    const uint32_t dtype = qrb_tensor_dtype(w);
    qrb_tensor *out = matrix(ctx, dtype, rows, cols, values);
    qrb_packed *packed;

    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, w, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, out));
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, w));
    ck_assert_mem_eq(qrb_tensor_memory(w), values,
                     rows * cols * qrb_dtype_size(dtype));
    qrb_tensor_destroy(out);
    return packed;
}

static const char *const names[] = { "int8",    "nf4",     "rtn2",
                                     "rtn3",    "rtn4",    "rtn8",
                                     "rtn4g32", "rtn3g64", "rtn2g192" };
enum { NAMES = sizeof names / sizeof *names };

/* Fake-quantize the matrix of `seed` with a name. */
static inline void fake(qrb_context *ctx, const char *name, uint32_t seed,
                        float *w)
{
    qrb_quantizer *quantizer = named(ctx, name);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, w);

    fill(seed, ELEMENTS, w);
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
}

#endif
