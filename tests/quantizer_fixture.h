/* Matrices and quantizers for the tests of quantization. */
#ifndef TESTS_QUANTIZER_FIXTURE_H
#define TESTS_QUANTIZER_FIXTURE_H

#include "matrix.h"

#include <qrobust/observer.h>
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

/* A matrix [3, 4] and two tokens that were observed, for jobs in which any
 * allocation may fail. */
struct small_case {
    float w[12];
    float x[8];
    qrb_tensor *tensor;
    qrb_tensor *tokens;
    qrb_observer *inputs;
};

/* Close it also when it fails. */
static inline qrb_status open_small_case(qrb_context *ctx,
                                         struct small_case *out)
{
    static const float tokens[8] = { 1, 2, 3, 4, -1, -2, 0, 5 };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_status status;

    *out = (struct small_case){ 0 };
    fill(3, 12, out->w);
    memcpy(out->x, tokens, sizeof tokens);
    shape.rank = 2;
    shape.shape[0] = 3;
    shape.shape[1] = 4;
    shape.memory = out->w;
    observed.columns = 4;
    status = qrb_tensor_create(ctx, &shape, &out->tensor);
    shape.shape[0] = 2;
    shape.memory = out->x;
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &shape, &out->tokens);
    if (status == QRB_OK)
        status = qrb_observer_create(ctx, &observed, &out->inputs);
    if (status == QRB_OK)
        status = qrb_observer_add(out->inputs, out->tokens);
    return status;
}

static inline void close_small_case(struct small_case *small)
{
    qrb_observer_destroy(small->inputs);
    qrb_tensor_destroy(small->tokens);
    qrb_tensor_destroy(small->tensor);
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
