/* The shapes of models that are measured, in batches of 256 tokens a sequence.
 * { name, dim, layers, heads, kv_heads, hidden, vocab, sequences, length } */
#ifndef BENCH_SHAPES_H
#define BENCH_SHAPES_H

#include "subject.h"

enum { SHAPES = 3 };

static const struct shape model_shapes[SHAPES] = {
    { "64x5", 64, 5, 8, 4, 172, 512, 8, 256 },
    { "288x6", 288, 6, 6, 6, 768, 32000, 4, 256 },
    { "768x12", 768, 12, 12, 12, 2048, 32000, 2, 256 },
};

#endif
