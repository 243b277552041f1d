/* A context, a host on it, and models and parameters to try things with: for
 * the tests of the room that knows models. */
#ifndef TESTS_MODEL_FIXTURE_H
#define TESTS_MODEL_FIXTURE_H

#include "harness.h"
#include "mock_host.h"
#include "model/model.h"

static qrb_context *ctx;
static struct mock_host *host;

static inline void set_up(void)
{
    ctx = make_context(NULL);
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
}

static inline void tear_down(void)
{
    mock_host_destroy(host);
    qrb_context_destroy(ctx);
}

/* A tensor over memory; rank 1 where cols is 0. */
static inline qrb_tensor *view(uint32_t dtype, size_t rows, size_t cols,
                               void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.memory = memory;
    options.dtype = dtype;
    options.rank = cols == 0 ? 1 : 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

static inline qrb_model *empty_model(void)
{
    qrb_model *model = NULL;

    ASSERT_OK(ctx, qrb_model_create(ctx, NULL, &model));
    return model;
}

/* Add a parameter of 2 x 3 floats and return the status. */
static inline qrb_status add(qrb_model *model, const char *name, uint32_t role,
                             int32_t layer)
{
    static float memory[6];
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight = view(QRB_F32, 2, 3, memory);
    qrb_status status;

    parameter.name = name;
    parameter.weight = weight;
    parameter.role = role;
    parameter.layer = layer;
    status = qrb_model_add_parameter(model, &parameter, NULL);
    qrb_tensor_destroy(weight);
    return status;
}

#endif
