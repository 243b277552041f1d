/* Making an engine, giving it memory for weights, and handing it over to a
 * model whose registry then is the truth about where weights are. */
#include "engine/engine.h"

#include "io/config.h"

/* Its address marks the models of the engine. */
static const char engine_mark;

size_t qrb__engine_real(const struct qrb__engine *engine)
{
    return engine->dtype == QRB_F32 ? sizeof(float) : sizeof(double);
}

size_t qrb__engine_elements(const struct qrb__engine_parameter *parameter)
{
    return parameter->columns == 0 ? parameter->rows
                                   : parameter->rows * parameter->columns;
}

qrb_status qrb__engine_find(const qrb_model *model, struct qrb__engine **out)
{
    if (model->engine_kind != &engine_mark)
        return qrb__fail(model->ctx, QRB_E_STATE,
                         "the model is a host's, not the engine's");
    *out = model->callbacks.user;
    return QRB_OK;
}

const double *qrb__engine_nll(const struct qrb__engine *engine)
{
    const struct qrb__op *head =
        &engine->graph.ops[engine->graph.op_count - 1];
    const size_t offset = engine->plan.places[head->own[1]].offset;

    return (const double *)(const void *)((unsigned char *)engine->arena +
                                          offset * qrb__engine_real(engine));
}

double qrb__engine_mean_nll(const struct qrb__engine *engine)
{
    const double *nll = qrb__engine_nll(engine);
    double sum = 0;

    for (size_t r = 0; r < engine->batch.scored; r++)
        sum += nll[r];
    return sum / (double)engine->batch.scored;
}

static qrb_status take_options(qrb_context *ctx,
                               const qrb_engine_options *options,
                               qrb_engine_options *known)
{
    qrb_status status = qrb__options_copy(ctx, options, sizeof *known,
                                          "engine options", known);

    if (status != QRB_OK)
        return status;
    if (known->dtype != QRB_F32 && known->dtype != QRB_F64)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "engine options: dtype is %s; it is F32 or F64",
                         qrb_dtype_name(known->dtype));
    if (known->trainable > 1)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "engine options: trainable is %u; it is 0 or 1",
                         known->trainable);
    return QRB_OK;
}

qrb_status qrb__engine_make(qrb_context *ctx, const qrb_engine_config *config,
                            const qrb_engine_options *options,
                            struct qrb__engine **out)
{
    qrb_engine_options known = QRB_ENGINE_OPTIONS_INIT;
    struct qrb__engine *engine = NULL;
    qrb_status status = take_options(ctx, options, &known);

    if (status != QRB_OK)
        return status;
    engine = qrb__alloc_array(ctx, 1, sizeof *engine);
    if (engine == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "engine");
    engine->ctx = ctx;
    engine->graph.ctx = ctx;
    engine->config = *config;
    engine->dtype = known.dtype;
    engine->trainable = known.trainable != 0;
    status = qrb__config_complete(ctx, &engine->config, "model config");
    if (status == QRB_OK)
        status = qrb__llama_build(engine);
    if (status == QRB_OK)
        status = qrb__plan_create(&engine->graph, &engine->plan);
    if (status == QRB_OK) {
        engine->tapped = qrb__alloc_array(ctx, engine->graph.op_count, 1);
        if (engine->tapped == NULL)
            status = qrb__fail(ctx, QRB_E_NO_MEMORY, "graph");
    }
    if (status != QRB_OK) {
        qrb__engine_destroy(engine);
        return status;
    }
    *out = engine;
    return QRB_OK;
}

void qrb__engine_destroy(struct qrb__engine *engine)
{
    qrb_context *ctx;

    if (engine == NULL)
        return;
    ctx = engine->ctx;
    qrb__graph_release(&engine->graph);
    qrb__plan_release(ctx, &engine->plan);
    qrb__free(ctx, engine->parameters);
    qrb_safetensors_close(engine->file);
    qrb__free(ctx, engine->weights);
    qrb__free(ctx, engine->gradients);
    qrb__free(ctx, engine->arena);
    qrb__free(ctx, engine->scored);
    qrb__free(ctx, engine->cosine);
    qrb__free(ctx, engine->sine);
    qrb__free(ctx, engine->tapped);
    qrb__free(ctx, engine);
}

static qrb_status count_elements(const struct qrb__engine *engine, size_t *out)
{
    *out = 0;
    for (size_t i = 0; i < engine->parameter_count; i++) {
        const struct qrb__engine_parameter *parameter = &engine->parameters[i];
        size_t elements = parameter->rows;

        if ((parameter->columns != 0 &&
             !qrb__mul_size(elements, parameter->columns, &elements)) ||
            !qrb__add_size(*out, elements, out))
            return qrb__fail(engine->ctx, QRB_E_SHAPE,
                             "%s: [%zu, %zu] is too large", parameter->name,
                             parameter->rows, parameter->columns);
    }
    return QRB_OK;
}

qrb_status qrb__engine_allocate(struct qrb__engine *engine, bool weights)
{
    const size_t real = qrb__engine_real(engine);
    size_t elements;
    size_t at = 0;
    qrb_status status = count_elements(engine, &elements);

    if (status != QRB_OK)
        return status;
    if (weights)
        engine->weights = qrb__alloc_array(engine->ctx, elements, real);
    if (engine->trainable)
        engine->gradients = qrb__alloc_array(engine->ctx, elements, real);
    if ((weights && engine->weights == NULL) ||
        (engine->trainable && engine->gradients == NULL))
        return qrb__fail(engine->ctx, QRB_E_NO_MEMORY,
                         "%zu weights%s", elements,
                         engine->trainable ? " and their gradients" : "");
    for (size_t i = 0; i < engine->parameter_count; i++) {
        struct qrb__engine_parameter *parameter = &engine->parameters[i];

        if (engine->weights != NULL)
            parameter->weight = (unsigned char *)engine->weights + at * real;
        if (engine->gradients != NULL)
            parameter->gradient =
                (unsigned char *)engine->gradients + at * real;
        at += qrb__engine_elements(parameter);
    }
    return QRB_OK;
}

static qrb_status register_parameter(const struct qrb__engine *engine,
                                     const struct qrb__engine_parameter *p,
                                     qrb_model *model)
{
    const size_t shape[2] = { p->rows, p->columns };
    const uint32_t rank = p->columns == 0 ? 1 : 2;
    qrb_tensor weight = {
        engine->ctx, qrb__view_make(engine->dtype, rank, shape, p->weight),
        NULL
    };
    qrb_tensor gradient = weight;
    qrb_parameter parameter = QRB_PARAMETER_INIT;

    gradient.view.memory = p->gradient;
    parameter.name = p->name;
    parameter.weight = &weight;
    parameter.gradient = p->gradient == NULL ? NULL : &gradient;
    parameter.role = p->role;
    parameter.layer = p->layer;
    return qrb_model_add_parameter(model, &parameter, NULL);
}

qrb_status qrb__engine_publish(struct qrb__engine *engine, qrb_model **out)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    qrb_model *model;
    qrb_status status;

    qrb__engine_callbacks(engine, &callbacks);
    callbacks.user_free = NULL; /* not before the model is whole */
    status = qrb_model_create(engine->ctx, &callbacks, &model);
    if (status != QRB_OK)
        return status;
    for (size_t i = 0; status == QRB_OK && i < engine->parameter_count; i++)
        status = register_parameter(engine, &engine->parameters[i], model);
    if (status != QRB_OK) {
        qrb_model_destroy(model);
        return status;
    }
    qrb__engine_callbacks(engine, &model->callbacks);
    model->engine_kind = &engine_mark;
    engine->model = model;
    *out = model;
    return QRB_OK;
}
