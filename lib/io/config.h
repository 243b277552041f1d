/* config.json of Hugging Face, for the families that the engine knows. */
#ifndef QRB_IO_CONFIG_H
#define QRB_IO_CONFIG_H

#include <qrobust/engine.h>

#include "io/source.h"

#define QRB__CONFIG_FILE "config.json"

/* Put dim / heads where head_dim is 0 and check every field: ranges, that
 * heads divide as they must, known enums.  Messages call fields by their key
 * of config.json and begin with `name`.
 *
 * Returns QRB_OK; QRB_E_FORMAT. */
qrb_status qrb__config_complete(qrb_context *ctx, qrb_engine_config *config,
                                const char *name);

/* Read a config.json of the Llama or Qwen2 family.
 *
 * What would change results and is not built (scaled rotary angles, biases of
 * the feed-forward block, sliding windows, quantized weights, code of its own)
 * is QRB_E_UNSUPPORTED and the message names the key; keys without influence
 * on results are ignored.
 *
 * Returns QRB_OK; QRB_E_IO; QRB_E_FORMAT; QRB_E_UNSUPPORTED; QRB_E_CALLBACK;
 * QRB_E_NO_MEMORY. */
qrb_status qrb__config_read(qrb_context *ctx, const struct qrb__source *source,
                            qrb_engine_config *out);

/* Write one that qrb__config_read() and Hugging Face's loaders understand.
 *
 * dtype: of the weights, QRB_F32, QRB_F64, QRB_F16 or QRB_BF16.
 * Returns QRB_OK; QRB_E_UNSUPPORTED (what the file cannot say: interleaved
 * rotary order, biases that the family does not have); QRB_E_FORMAT (a field
 * out of range); QRB_E_IO; QRB_E_NO_MEMORY. */
qrb_status qrb__config_write(qrb_context *ctx, const char *path,
                             const qrb_engine_config *config, uint32_t dtype);

#endif
