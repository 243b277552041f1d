/* What the engine, as a host, hands to the pass in force. */
#include "engine/engine.h"

bool qrb__engine_wanted(const struct qrb__engine *engine, uint32_t point,
                        size_t index)
{
    return engine->batch.pass != NULL &&
           qrb_tap_wanted(engine->batch.pass, point, index);
}

qrb_status qrb__engine_tap(const struct qrb__engine *engine, uint32_t point,
                           size_t index, uint32_t rank, const size_t *shape,
                           void *memory)
{
    qrb_tensor tensor = {
        engine->ctx, qrb__view_make(engine->dtype, rank, shape, memory), NULL
    };

    if (!qrb__engine_wanted(engine, point, index))
        return QRB_OK;
    return qrb_tap(engine->batch.pass, point, index, &tensor);
}

static bool wanted_either_way(const struct qrb__engine *engine,
                              uint32_t point, size_t index, bool training)
{
    return qrb__engine_wanted(engine, point, index) ||
           (training &&
            qrb__engine_wanted(engine, point | QRB_TAP_GRAD, index));
}

uint32_t qrb__engine_tap_flags(const struct qrb__engine *engine, bool training)
{
    const struct qrb__op *head =
        &engine->graph.ops[engine->graph.op_count - 1];
    uint32_t flags = 0;

    if (engine->batch.pass == NULL)
        return 0;
    for (size_t i = 0; i < engine->config.layers; i++) {
        if (wanted_either_way(engine, QRB_TAP_LAYER_INPUT, i, training))
            flags |= QRB__PLAN_TAPS;
        if (wanted_either_way(engine, QRB_TAP_ATTN_LOGITS, i, training) ||
            wanted_either_way(engine, QRB_TAP_ATTN_PROBS, i, training))
            flags |= QRB__PLAN_SQUARES;
    }
    for (size_t i = 0; i < engine->parameter_count; i++)
        if (wanted_either_way(engine, QRB_TAP_LINEAR_INPUT, i, training) ||
            wanted_either_way(engine, QRB_TAP_LINEAR_OUTPUT, i, training))
            flags |= QRB__PLAN_TAPS;
    if (wanted_either_way(engine, QRB_TAP_LINEAR_OUTPUT, head->weight[0],
                          training))
        flags |= QRB__PLAN_LOGITS;
    return flags;
}
