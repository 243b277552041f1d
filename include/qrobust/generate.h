/* Text from a model of the engine, token by token, with a cache of keys and
 * values. */
#ifndef QROBUST_GENERATE_H
#define QROBUST_GENERATE_H

#include <qrobust/engine.h>
#include <qrobust/quantizer.h>

QRB_BEGIN_DECLS

/** One sequence that grows, and what the model remembers of it. */
typedef struct qrb_generator qrb_generator;

/* Start from QRB_GENERATOR_OPTIONS_INIT. */
typedef struct qrb_generator_options {
    size_t struct_size;
    size_t context;   /* most tokens of the sequence; 0: the model's context,
                         which is the most (default) */
    uint32_t kv_bits; /* of keys and values: 0: as the engine computes
                         (default); 16: IEEE half; 8 or 4: codes with a scale
                         and a zero point per token and head */
    uint32_t kv_grid; /* of those codes: QRB_GRID_A_GPTQ (default) or
                         QRB_GRID_A_OMNI, enum qrb_grid_mode */
} qrb_generator_options;

#define QRB_GENERATOR_OPTIONS_INIT \
    { sizeof(qrb_generator_options), 0, 0, QRB_GRID_A_GPTQ }

/* How to choose among tokens; start from QRB_SAMPLING_OPTIONS_INIT. */
typedef struct qrb_sampling_options {
    size_t struct_size;
    size_t vocab;       /* only ids below; 0: all (default) */
    size_t top_k;       /* only the most probable; 0: all (default) */
    uint64_t seed;      /* default 0 */
    double temperature; /* divides logits; 0: the most probable token;
                           default 1 */
    double top_p;       /* of those left, the fewest of the most probable whose
                           probabilities add up to it, in (0, 1]; default 1 */
} qrb_sampling_options;

#define QRB_SAMPLING_OPTIONS_INIT \
    { sizeof(qrb_sampling_options), 0, 0, 0, 1.0, 1.0 }

/**
 * Make a generator with an empty sequence.
 *
 * All memory that it will ever use is allocated here; it is beside the
 * engine's own, and qrb_generator_memory() tells it beforehand.  The model
 * may be trained, attacked or quantized between two calls: each uses the
 * weights as they are, and what the cache holds is from those that were.
 *
 * Codes of keys (after the rotation) and of values are those of the grid on
 * the range of each head's part of a token (quantizers of activations per
 * token, as in QuaRot, arXiv:2404.00456, and OmniQuant, arXiv:2308.13137).
 * Halves beyond the largest one become it.
 *
 * @param model   of the engine; borrowed until the generator is destroyed
 * @param options NULL: the defaults; copied
 * @param out     the generator, or NULL on failure; release it with
 *                qrb_generator_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or kv_bits or kv_grid is none of
 *         the above); QRB_E_SHAPE (context is beyond the model's, or sizes
 *         overflow); QRB_E_STATE (the model is a host's); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_generator_create(qrb_model *model,
                                        const qrb_generator_options *options,
                                        qrb_generator **out);

/** Release a generator; NULL is fine. */
QRB_API void qrb_generator_destroy(qrb_generator *generator);

/**
 * Bytes that such a generator will hold: the cache, activations of a block of
 * tokens, and tables.
 *
 * @return as qrb_generator_create()
 */
QRB_API qrb_status qrb_generator_memory(const qrb_model *model,
                                        const qrb_generator_options *options,
                                        uint64_t *bytes_out);

/**
 * Append tokens to the sequence.
 *
 * They go through the model in blocks of up to 128 tokens.  How tokens are cut
 * into calls shows in the last bits of the logits, as in qrb_engine_logits(),
 * with codes also where a key or value lies between two of them; the number
 * of threads does not.  Allocates nothing.
 *
 * @param tokens [count] each below the vocabulary
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, count 0, or a token: the message
 *         says which); QRB_E_SHAPE (more tokens than the context has room
 *         for); QRB_E_STATE (a pass is in force: generators do not tap);
 *         QRB_E_IO (the file of the weights shrank); QRB_E_CANCELLED;
 *         QRB_E_REENTRANT.  After a failure the sequence is as before
 */
QRB_API qrb_status qrb_generator_feed(qrb_generator *generator,
                                      const int32_t *tokens, size_t count);

/** Tokens of the sequence; 0 for NULL. */
QRB_API size_t qrb_generator_length(const qrb_generator *generator);

/**
 * Logits of the token that follows the sequence.
 *
 * @param out [vocab], dense, of the engine's type
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE (of out); QRB_E_STATE
 *         (nothing was fed); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_generator_logits(const qrb_generator *generator,
                                        qrb_tensor *out);

/**
 * Choose the token that follows the sequence; the sequence does not change.
 *
 * In this order: ids below `vocab`, softmax of logits / temperature, the
 * top_k most probable, of these the fewest whose sum reaches top_p (nucleus
 * sampling, Holtzman et al., arXiv:1904.09751, eq. 2 and 3); among equals the
 * smaller id goes first.  One of them is drawn with a random number that is a
 * function of the seed and the length of the sequence, so that a text is a
 * function of its beginning, the options and the model, whatever the number
 * of threads.  O(vocab + kept log vocab) time, in double; allocates nothing.
 *
 * @param options   NULL: the defaults
 * @param token_out receives the id; untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an option is out of range: the
 *         message names it); QRB_E_STATE (nothing was fed);
 *         QRB_E_NOT_FINITE (a logit); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_generator_sample(qrb_generator *generator,
                                        const qrb_sampling_options *options,
                                        int32_t *token_out);

/**
 * Begin a new, empty sequence in the same memory.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_generator_reset(qrb_generator *generator);

QRB_END_DECLS

#endif
