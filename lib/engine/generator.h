/* A generator: the engine of a model seen through a plan and memory of its
 * own, for blocks of tokens that follow those in the cache. */
#ifndef QRB_ENGINE_GENERATOR_H
#define QRB_ENGINE_GENERATOR_H

#include <qrobust/generate.h>

#include "engine/engine.h"

struct qrb_generator {
    qrb_context *ctx;
    qrb_model *model;
    /* Graph, parameters and file are those of the model's engine; plan, arena,
     * tables and cache are ours. */
    struct qrb__engine view;
    struct qrb__cache cache;
    void *cosine; /* [context, head_dim / 2], of position 0 on */
    void *sine;
    void *logits; /* [vocab] of the token that follows */
    size_t length;
    /* Of sampling. */
    uint32_t *order; /* [vocab] a heap of ids, then the kept ones from its end */
    double *weights; /* [vocab] not yet divided by their sum */
};

#endif
