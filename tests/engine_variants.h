/* Small models of the engine: odd sizes, every family and layout, and weights
 * large enough that every path matters. */
#ifndef TESTS_ENGINE_VARIANTS_H
#define TESTS_ENGINE_VARIANTS_H

#include <math.h>

#include <qrobust/engine.h>

struct variant {
    const char *name;
    size_t dim;
    size_t heads;
    size_t kv_heads;
    size_t head_dim;
    size_t hidden;
    uint32_t rotary;
    uint32_t tied;
    uint32_t bias;
};

static const struct variant variants[] = {
    { "llama, tied", 12, 2, 2, 0, 17, QRB_ROTARY_HALF, 1, 0 },
    { "grouped queries, untied", 12, 6, 2, 2, 9, QRB_ROTARY_HALF, 0, 0 },
    { "interleaved, one key head", 20, 5, 1, 0, 13, QRB_ROTARY_INTERLEAVED, 1,
      0 },
    { "qwen2, heads wider than dim", 8, 4, 2, 6, 11, QRB_ROTARY_HALF, 1, 1 },
    { "biased, interleaved, untied", 12, 3, 3, 4, 5, QRB_ROTARY_INTERLEAVED, 0,
      1 },
};
enum { VARIANTS = sizeof variants / sizeof *variants };

/* Its linears run as a whole, those of the others in blocks (graph.h). */
static const struct variant wide_variant = { "wide, biased", 512, 4, 1, 0, 560,
                                             QRB_ROTARY_HALF, 1, 1 };

static inline qrb_engine_config config_of(const struct variant *variant)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;

    config.vocab = 19;
    config.dim = variant->dim;
    config.layers = 2;
    config.heads = variant->heads;
    config.kv_heads = variant->kv_heads;
    config.head_dim = variant->head_dim;
    config.hidden = variant->hidden;
    config.context = 160;
    config.architecture = variant->bias ? QRB_ARCH_QWEN2 : QRB_ARCH_LLAMA;
    config.rotary = variant->rotary;
    config.tied_head = variant->tied;
    config.qkv_bias = variant->bias;
    return config;
}

/* A number in (-1, 1) that no pattern of indexes repeats. */
static inline double scattered(size_t a, size_t b)
{
    const double x = 12.9898 * (double)(a + 1) + 78.233 * (double)(b + 1);

    return 2 * (sin(x) * 43758.5453 - floor(sin(x) * 43758.5453)) - 1;
}

static inline size_t parameter_elements(const qrb_tensor *weight)
{
    size_t count = 1;

    for (uint32_t i = 0; i < qrb_tensor_rank(weight); i++)
        count *= qrb_tensor_extent(weight, i);
    return count;
}

static inline double get_element(const qrb_tensor *tensor, size_t i)
{
    return qrb_tensor_dtype(tensor) == QRB_F32
               ? (double)((float *)qrb_tensor_memory(tensor))[i]
               : ((double *)qrb_tensor_memory(tensor))[i];
}

static inline void set_element(const qrb_tensor *tensor, size_t i, double x)
{
    if (qrb_tensor_dtype(tensor) == QRB_F32)
        ((float *)qrb_tensor_memory(tensor))[i] = (float)x;
    else
        ((double *)qrb_tensor_memory(tensor))[i] = x;
}

/* Weights of standard deviation about 0.5 / sqrt(columns), rounded to float
 * so that both precisions have the same; norms and biases away from their
 * usual values. */
static inline void scatter_weights(qrb_model *model)
{
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        qrb_parameter parameter = QRB_PARAMETER_INIT;
        size_t count;
        size_t columns;

        if (qrb_model_parameter(model, p, &parameter) != QRB_OK)
            return;
        count = parameter_elements(parameter.weight);
        columns = qrb_tensor_rank(parameter.weight) < 2
                      ? 1
                      : qrb_tensor_extent(parameter.weight, 1);
        for (size_t i = 0; i < count; i++) {
            double x = scattered(p, i) * 1.5 / sqrt((double)columns);

            if (parameter.role == QRB_ROLE_NORM)
                x = 1 + 0.3 * scattered(p, i);
            set_element(parameter.weight, i, (double)(float)x);
        }
    }
}

#endif
