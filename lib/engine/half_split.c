/* Rows of rotating heads from neighbouring pairs into half-split order: row j
 * of a head comes from row 2j, and row half + j from row 2j + 1. */
#include <string.h>

#include "engine/engine.h"

bool qrb__engine_rotates(const struct qrb__engine_parameter *parameter)
{
    static const char *const biases[] = { "q_proj.bias", "k_proj.bias" };
    const size_t length = strlen(parameter->name);

    if (parameter->role == QRB_ROLE_Q || parameter->role == QRB_ROLE_K)
        return true;
    for (size_t i = 0; i < 2; i++)
        if (length > strlen(biases[i]) &&
            strcmp(parameter->name + length - strlen(biases[i]), biases[i]) ==
                0)
            return true;
    return false;
}

qrb_status qrb__engine_turn(const struct qrb__engine *engine,
                            const struct qrb__engine_parameter *parameter,
                            const struct qrb__view *from, void *to)
{
    const size_t half = engine->config.head_dim / 2;
    const size_t columns = parameter->columns == 0 ? 1 : parameter->columns;
    const size_t shape[4] = { parameter->rows / (2 * half), 2, half, columns };
    const int64_t row = (int64_t)(columns * qrb__engine_real(engine));
    struct qrb__view source =
        qrb__view_make(engine->dtype, 4, shape, from->memory);
    const struct qrb__view target =
        qrb__view_make(engine->dtype, 4, shape, to);

    source.strides[1] = row;
    source.strides[2] = 2 * row;
    return qrb__view_copy(engine->ctx, &source, &target);
}
