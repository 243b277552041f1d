/* The built-in engine: transformers that run and train out of the box. */
#ifndef QROBUST_ENGINE_H
#define QROBUST_ENGINE_H

#include <qrobust/pass.h>
#include <qrobust/source.h>
#include <qrobust/tokenizer.h>

QRB_BEGIN_DECLS

/** Families of models. */
enum qrb_architecture { QRB_ARCH_LLAMA = 1, QRB_ARCH_QWEN2 = 2 };

/** Which pairs of a head's dimensions turn together. */
enum qrb_rotary_layout {
    QRB_ROTARY_HALF = 0,        /**< (i, i + d/2), Hugging Face */
    QRB_ROTARY_INTERLEAVED = 1  /**< (2i, 2i + 1), llama2.c */
};

/** Element types of GGUF files that are written, by the format's numbers. */
enum qrb_gguf_type {
    QRB_GGUF_F32 = 0,
    QRB_GGUF_F16 = 1,
    QRB_GGUF_Q4_0 = 2, /**< blocks of 32, 4.5 bits a weight */
    QRB_GGUF_Q4_1 = 3, /**< with a minimum, 5 bits a weight */
    QRB_GGUF_Q5_0 = 6, /**< 5.5 bits a weight */
    QRB_GGUF_Q5_1 = 7, /**< with a minimum, 6 bits a weight */
    QRB_GGUF_Q8_0 = 8  /**< 8.5 bits a weight */
};

/* Shape of a model; start from QRB_ENGINE_CONFIG_INIT. */
typedef struct qrb_engine_config {
    size_t struct_size;
    size_t vocab;          /* tokens */
    size_t dim;            /* width of the hidden state */
    size_t layers;         /* blocks */
    size_t heads;          /* of queries */
    size_t kv_heads;       /* of keys and values; divides heads */
    size_t head_dim;       /* even; 0: dim / heads (default) */
    size_t hidden;         /* width of the feed-forward part */
    size_t context;        /* longest sequence, in tokens */
    double rms_epsilon;    /* beside the mean square in norms; default 1e-5 */
    double rope_theta;     /* base of the rotary angles; default 10000 */
    uint32_t architecture; /* enum qrb_architecture; default Llama */
    uint32_t rotary;       /* enum qrb_rotary_layout; default half */
    uint32_t tied_head;    /* 1 (default): the head is the embedding */
    uint32_t qkv_bias;     /* 1: q, k and v have biases; default 0 */
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
 * Make a model of random weights.
 *
 * Llama (Touvron et al., arXiv:2302.13971) or Qwen2 (arXiv:2407.10671):
 * embedding, blocks of root mean square norm, rotary positions, grouped causal
 * attention and SwiGLU, a last norm and a head.  Weights are normal with
 * standard deviation 0.02, those of o_proj and down_proj divided by
 * sqrt(2 layers); norms are one, biases zero.  They are a function of the
 * configuration and the context's seed.
 *
 * The model is a host like any other: its parameters are registered under
 * their Hugging Face names, its callbacks take token batches, and it taps the
 * pass in force.  Results have the same bits with any number of threads.  A
 * batch that is no larger than an earlier one, with the same listeners,
 * allocates nothing.  The last token of a sequence is a target only: taps see
 * sequences * (length - 1) tokens, and the head as many rows as are scored.
 *
 * @param config  copied; head_dim 0 is filled in
 * @param options NULL: the defaults; copied
 * @param out     the model, or NULL on failure; release it with
 *                qrb_model_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or a field of the configuration or
 *         of the options is out of range: the message names it);
 *         QRB_E_UNSUPPORTED (dtype is neither F32 nor F64); QRB_E_SHAPE (the
 *         number of weights overflows); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_engine_create(qrb_context *ctx,
                                     const qrb_engine_config *config,
                                     const qrb_engine_options *options,
                                     qrb_model **out);

/**
 * Open a model: a directory with config.json and safetensors, whole or in
 * shards, a GGUF file (version 2 or 3, Llama or Qwen2), or a llama2.c
 * checkpoint (version 0, float32).  Where rows of q and k are in interleaved
 * order, as in the last and in GGUF files of Llama, they are put into
 * half-split order, so that every opened model has QRB_ROTARY_HALF and can be
 * the anchor of another.
 *
 * Weights of F64, F32, F16 or BF16 become the engine's type, and of a GGUF
 * file also Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K and Q6_K.  A safetensors
 * model that is not trainable and whose tensors all have that type already
 * uses the file's pages instead of a copy; writing to its weights copies the
 * pages written to and leaves the file alone.  The file then stays open until
 * the model is destroyed, and must not be cut short meanwhile: that is looked
 * for before each batch (QRB_E_IO), but not when others read the weights.
 * Replacing the file by another of its name is fine.
 *
 * A tensor that the configuration has no place for is refused, but for stored
 * rotary frequencies and the copy of a tied head.
 *
 * @param path    of a directory or a file
 * @param options NULL: the defaults; copied
 * @param out     the model, or NULL on failure; release it with
 *                qrb_model_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_IO; QRB_E_FORMAT (also a tensor
 *         that is missing); QRB_E_SHAPE (the message names the tensor, the
 *         found and the expected shape); QRB_E_UNSUPPORTED (the message names
 *         the key or the tensor); QRB_E_NOT_FINITE (names the tensor and the
 *         first such element); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_engine_open(qrb_context *ctx, const char *path,
                                   const qrb_engine_options *options,
                                   qrb_model **out);

/**
 * The same from sources.
 *
 * @param config  of config.json; NULL: the weights are a GGUF file
 * @param weights of one safetensors file, or of a GGUF file; a buffer is copied
 *                from and may go when the call returns, as may a descriptor
 * @return as qrb_engine_open(); QRB_E_CALLBACK (read_at)
 */
QRB_API qrb_status qrb_engine_open_sources(qrb_context *ctx,
                                           const qrb_source *config,
                                           const qrb_source *weights,
                                           const qrb_engine_options *options,
                                           qrb_model **out);

/**
 * Shape of an engine's model, with head_dim filled in.
 *
 * @param out set struct_size first
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_STATE (the model is a host's)
 */
QRB_API qrb_status qrb_engine_get_config(const qrb_model *model,
                                         qrb_engine_config *out);

/**
 * Write config.json and model.safetensors into a directory in the layout of
 * Hugging Face, in the engine's type.
 *
 * A model with interleaved rotary pairs is written in half-split order: rows
 * of q and k and their biases are reordered.
 *
 * The files are one unit: they are written and synced in a directory beside
 * the target, ".NAME.qrb-part", which then takes the target's place and mode.
 * Of a model that was there before nothing stays: config.json,
 * model.safetensors, its index and shards ("model-I-of-N.safetensors") go.
 * All other files, tokenizer.json among them, stay; a target that holds
 * directories is refused.
 *
 * Killed at any moment, the target holds the old model or the new one, each
 * complete, where the kernel and the file system can exchange two names
 * (RENAME_EXCHANGE: Linux 3.15 with ext4, XFS, Btrfs, tmpfs and others).
 * Elsewhere the old directory is renamed to ".NAME.qrb-old" for a moment; a
 * process killed in that moment leaves no target, and the next save to it puts
 * the old model back before it begins.  What else a killed process left beside
 * the target the next save removes.  With QRB_E_IO from syncing the directory
 * above the new model is in place, but may not survive a loss of power.
 *
 * The directory is another one afterwards: a process that works in it has to
 * enter it anew, and files that others add during the call may go to it late.
 *
 * @param directory made if need be, its parent not; the parent has to be
 *                  writable, and the directory no mount point; a link to one
 *                  stays
 * @param metadata  [2 * pairs] keys and values for the safetensors header;
 *                  "format" is set to "pt" unless it is among them
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_STATE (the model is a host's);
 *         QRB_E_UNSUPPORTED (biases that the family does not have);
 *         QRB_E_IO (also: another writer is at it); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_engine_save(const qrb_model *model,
                                   const char *directory,
                                   const char *const *metadata, size_t pairs);

/**
 * As qrb_engine_save(), with the tokenizer as one of the model's files:
 * tokenizer.json belongs to the same unit, and one that was there goes.
 *
 * @param tokenizer of the model's context; NULL: there is none, and no
 *                  tokenizer.json afterwards
 * @return as qrb_engine_save(); what qrb_tokenizer_save() returns
 */
QRB_API qrb_status qrb_engine_save_with_tokenizer(
    const qrb_model *model, const qrb_tokenizer *tokenizer,
    const char *directory, const char *const *metadata, size_t pairs);

/**
 * Write a model as one GGUF file (version 3), which llama.cpp and others load:
 * beside its target first, synced, renamed.
 *
 * Vectors are written as F32.  Of the types with blocks, rounding is
 * llama.cpp's own to nearest, bit for bit; matrices inside of the model's
 * blocks have the type, embedding and head Q8_0, and a matrix whose rows are
 * no multiple of 32 is F16.  Rows of q and k are in the order that the family
 * has in such files.  The bytes are a function of the arguments alone.
 *
 * @param tokenizer of the model's context, with at most as many tokens as the
 *                  model; NULL: the file has none
 * @param path      of the file to replace or make; its directory exists
 * @param type      enum qrb_gguf_type
 * @param metadata  [2 * pairs] further keys with texts, none twice; may be
 *                  NULL with pairs 0
 * @param pairs     number of pairs
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, a type that is not written, keys
 *         that are given twice or could not be read back); QRB_E_STATE (the
 *         model is a host's); QRB_E_SHAPE (the tokenizer has more tokens);
 *         QRB_E_UNSUPPORTED (biases that the family does not have, a tokenizer
 *         that the format cannot say); QRB_E_NOT_FINITE (a weight, or the
 *         scale of a block in half precision: the message names the tensor);
 *         QRB_E_IO; QRB_E_CANCELLED; QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_engine_save_gguf(const qrb_model *model,
                                        const qrb_tokenizer *tokenizer,
                                        const char *path, uint32_t type,
                                        const char *const *metadata,
                                        size_t pairs);

/**
 * Logits of every position.  Taps the pass in force, if there is one.
 *
 * @param tokens [sequences, length], each below the vocabulary
 * @param out    [sequences * length, vocab], dense, of the engine's type; its
 *               contents are undefined after a failure of a tap
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or a token: the message says
 *         which); QRB_E_SHAPE (of out, an empty batch, or a sequence beyond
 *         the context); QRB_E_STATE (the model is a host's); QRB_E_IO (the
 *         file of the weights shrank); QRB_E_NO_MEMORY; QRB_E_REENTRANT; what
 *         a tap returns
 */
QRB_API qrb_status qrb_engine_logits(qrb_model *model, const int32_t *tokens,
                                     size_t sequences, size_t length,
                                     qrb_tensor *out);

/**
 * Bytes that the engine will hold after a batch of this shape, before it does:
 * weights, gradients, activations and tables, without what listeners need and
 * without pages of a file.
 *
 * @param length   tokens that are computed: one less than a token batch has
 * @param training 1: with what backward needs; 0: forward only
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, training above 1); QRB_E_STATE (the
 *         model is a host's, or training without gradients); QRB_E_SHAPE (the
 *         batch is too large); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_engine_memory(const qrb_model *model, size_t sequences,
                                     size_t length, uint32_t training,
                                     uint64_t *bytes_out);

QRB_END_DECLS

#endif
