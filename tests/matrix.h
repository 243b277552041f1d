/* Matrices, and numbers to fill them with. */
#ifndef TESTS_MATRIX_H
#define TESTS_MATRIX_H

#include <qrobust/tensor.h>

#include "harness.h"

/* Numbers in [-0.5, 0.5) that depend on the seed alone. */
static inline void fill(uint32_t seed, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = (float)(seed / 4294967296.0 - 0.5);
    }
}

/* A view of the caller's memory, or its own where that is NULL. */
static inline qrb_tensor *matrix(qrb_context *ctx, uint32_t dtype, size_t rows,
                                 size_t cols, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    options.dtype = dtype;
    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    options.memory = memory;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

#endif
