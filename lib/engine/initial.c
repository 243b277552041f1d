/* A model of random weights.  Each element has its own number, so that the
 * weights are a function of seed and shape alone. */
#include <math.h>

#include "core/random.h"
#include "engine/engine.h"

enum { CHUNK = 4096 }; /* elements of a task */

struct draw {
    struct qrb__random random;
    const struct qrb__engine_parameter *parameter;
    double sigma;
    uint32_t dtype;
};

static void draw_chunk(size_t task, size_t worker, void *arg)
{
    const struct draw *draw = arg;
    const size_t count = qrb__engine_elements(draw->parameter);
    const size_t first = task * CHUNK;
    const size_t end = count - first < CHUNK ? count : first + CHUNK;

    (void)worker;
    for (size_t i = first; i < end; i++) {
        const double x =
            draw->sigma * qrb__random_normal(&draw->random, i);

        if (draw->dtype == QRB_F32)
            ((float *)draw->parameter->weight)[i] = (float)x;
        else
            ((double *)draw->parameter->weight)[i] = x;
    }
}

static void fill(const struct qrb__engine *engine,
                 const struct qrb__engine_parameter *parameter, double value)
{
    for (size_t i = 0; i < qrb__engine_elements(parameter); i++)
        if (engine->dtype == QRB_F32)
            ((float *)parameter->weight)[i] = (float)value;
        else
            ((double *)parameter->weight)[i] = value;
}

static void initialize(const struct qrb__engine *engine, size_t index)
{
    const struct qrb__engine_parameter *parameter =
        &engine->parameters[index];
    struct draw draw = {
        .random = qrb__random_at(
            qrb_context_seed(engine->ctx), 0,
            qrb__random_stream(QRB__RANDOM_INIT,
                               (uint32_t)(parameter->layer + 1),
                               (uint32_t)index, 0)),
        .parameter = parameter,
        .sigma = 0.02,
        .dtype = engine->dtype,
    };

    if (parameter->role == QRB_ROLE_NORM) {
        fill(engine, parameter, 1);
        return;
    }
    if (parameter->role == QRB_ROLE_BIAS)
        return; /* zero */
    if (parameter->role == QRB_ROLE_O || parameter->role == QRB_ROLE_DOWN)
        draw.sigma /= sqrt(2 * (double)engine->config.layers);
    qrb__parallel_for(engine->ctx,
                      (qrb__engine_elements(parameter) + CHUNK - 1) / CHUNK,
                      draw_chunk, &draw);
}

qrb_status qrb_engine_create(qrb_context *ctx, const qrb_engine_config *config,
                             const qrb_engine_options *options,
                             qrb_model **out)
{
    qrb_engine_config known = QRB_ENGINE_CONFIG_INIT;
    struct qrb__engine *engine = NULL;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (config == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "config is NULL");
    status =
        qrb__options_copy(ctx, config, sizeof known, "engine config", &known);
    if (status != QRB_OK)
        return status;
    status = qrb__engine_make(ctx, &known, options, &engine);
    if (status == QRB_E_FORMAT) /* there is no file whose format is bad */
        status = qrb__fail(ctx, QRB_E_INVALID_ARG, "%s",
                           qrb_context_message(ctx));
    if (status != QRB_OK)
        return status;
    status = qrb__engine_allocate(engine, true);
    if (status == QRB_OK) {
        for (size_t i = 0; i < engine->parameter_count; i++)
            initialize(engine, i);
        status = qrb__engine_publish(engine, out);
    }
    if (status != QRB_OK)
        qrb__engine_destroy(engine);
    return status;
}
