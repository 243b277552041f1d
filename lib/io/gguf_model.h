/* Models in GGUF files: what their tensors and keys are called.
 *
 * Rows of q and k of the Llama family are in interleaved rotary order there:
 * of a head, row 2b + a is row a * head_dim / 2 + b of Hugging Face's order.
 * Those of Qwen2 are not permuted. */
#ifndef QRB_IO_GGUF_MODEL_H
#define QRB_IO_GGUF_MODEL_H

#include <qrobust/engine.h>

#include "io/gguf_write.h"

enum { QRB__PARAMETER_NAME = 128 }; /* bytes of a name of Hugging Face's */

/* "model.layers.3.self_attn.q_proj.weight" to "blk.3.attn_q.weight" and back.
 * False where there is no such name. */
bool qrb__gguf_name(const char *parameter, char out[QRB__GGUF_NAME_MAX + 1]);
bool qrb__gguf_parameter(const char *name, char out[QRB__PARAMETER_NAME]);

/* Whether files of this architecture have q and k in interleaved order. */
bool qrb__gguf_interleaves(uint32_t architecture);

/* The configuration, with rotary as the rows lie in the file; vocabulary, tied
 * head and biases are seen from the tensors.
 *
 * QRB_OK; QRB_E_FORMAT (a key is missing or out of range);
 * QRB_E_UNSUPPORTED (another architecture, or a key that would change results:
 * the message names it); QRB_E_IO; QRB_E_CALLBACK. */
qrb_status qrb__gguf_config(const struct qrb__gguf *file,
                            qrb_engine_config *out);

/* Put general.architecture and the keys of the configuration.  QRB_OK;
 * QRB_E_UNSUPPORTED (Qwen2 without biases, which its loaders ask for). */
qrb_status qrb__gguf_put_config(qrb_context *ctx,
                                struct qrb__gguf_writer *writer,
                                const qrb_engine_config *config);

#endif
