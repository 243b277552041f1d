/* The built-in engine: transformers that run and train out of the box. */
#ifndef QROBUST_ENGINE_H
#define QROBUST_ENGINE_H

#include <qrobust/pass.h>
#include <qrobust/source.h>

QRB_BEGIN_DECLS

/** Families of models. */
enum qrb_architecture { QRB_ARCH_LLAMA = 1, QRB_ARCH_QWEN2 = 2 };

/** Which pairs of a head's dimensions turn together. */
enum qrb_rotary_layout {
    QRB_ROTARY_HALF = 0,        /**< (i, i + d/2), Hugging Face */
    QRB_ROTARY_INTERLEAVED = 1  /**< (2i, 2i + 1), llama2.c */
};

/* Shape of a model; set struct_size first. */
typedef struct qrb_engine_config {
    size_t struct_size;
    size_t vocab;
    size_t dim;
    size_t layers;
    size_t heads;
    size_t kv_heads;
    size_t head_dim; /* 0: dim / heads */
    size_t hidden;   /* of the feed-forward block */
    size_t context;  /* longest sequence */
    double rms_epsilon;
    double rope_theta;
    uint32_t architecture; /* enum qrb_architecture */
    uint32_t rotary;       /* enum qrb_rotary_layout */
    uint32_t tied_head;    /* 1: the head is the embedding */
    uint32_t qkv_bias;     /* 1: q, k and v have biases */
} qrb_engine_config;

#define QRB_ENGINE_CONFIG_INIT \
    { sizeof(qrb_engine_config), 0, 0, 0, 0, 0, 0, 0, 0, 1e-5, 10000.0, \
      QRB_ARCH_LLAMA, QRB_ROTARY_HALF, 1, 0 }

/* Start from QRB_ENGINE_OPTIONS_INIT. */
typedef struct qrb_engine_options {
    size_t struct_size;
    uint32_t dtype;     /* QRB_F32 (default), or QRB_F64 for references */
    uint32_t trainable; /* 1 (default): gradients are held; 0: forward only */
} qrb_engine_options;

#define QRB_ENGINE_OPTIONS_INIT { sizeof(qrb_engine_options), QRB_F32, 1 }

/**
 * A model of random weights: normal with standard deviation 0.02, residual
 * projections divided by sqrt(2 layers), norms one; keyed by the seed.
 */
QRB_API qrb_status qrb_engine_create(qrb_context *ctx,
                                     const qrb_engine_config *config,
                                     const qrb_engine_options *options,
                                     qrb_model **out);

/**
 * Open a model: a directory with config.json and safetensors, or a llama2.c
 * checkpoint (version 0, float32).
 *
 * @return QRB_OK; QRB_E_IO; QRB_E_FORMAT; QRB_E_SHAPE (the message names the
 *         tensor, the found and the expected shape); QRB_E_UNSUPPORTED;
 *         QRB_E_NOT_FINITE (names the tensor); QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_engine_open(qrb_context *ctx, const char *path,
                                   const qrb_engine_options *options,
                                   qrb_model **out);

/** The same from sources: config.json and one safetensors file. */
QRB_API qrb_status qrb_engine_open_sources(qrb_context *ctx,
                                           const qrb_source *config,
                                           const qrb_source *weights,
                                           const qrb_engine_options *options,
                                           qrb_model **out);

/** Shape of an engine's model; QRB_E_STATE if it is not the engine's. */
QRB_API qrb_status qrb_engine_get_config(const qrb_model *model,
                                         qrb_engine_config *out);

/**
 * Write config.json and model.safetensors into a directory, which is made if
 * need be; each file is replaced atomically.
 *
 * @param metadata [2 * pairs] keys and values for the safetensors header
 */
QRB_API qrb_status qrb_engine_save(const qrb_model *model,
                                   const char *directory,
                                   const char *const *metadata, size_t pairs);

/**
 * Logits of every position.
 *
 * @param tokens [sequences, length]
 * @param out    [sequences * length, vocab], of the engine's type
 */
QRB_API qrb_status qrb_engine_logits(qrb_model *model, const int32_t *tokens,
                                     size_t sequences, size_t length,
                                     qrb_tensor *out);

/**
 * Bytes that the engine will hold for batches of this shape, before it does.
 *
 * @param training 1: with gradients and what backward needs
 */
QRB_API qrb_status qrb_engine_memory(const qrb_model *model, size_t sequences,
                                     size_t length, uint32_t training,
                                     uint64_t *bytes_out);

QRB_END_DECLS

#endif
