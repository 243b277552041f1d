/* Fields of the parts of a tokenizer.json. */
#ifndef QRB_IO_TOKENIZER_FIELD_H
#define QRB_IO_TOKENIZER_FIELD_H

#include "io/json.h"

/* The type that a part says it has; "null" for none, "?" where it is not a
 * string. */
const char *qrb__field_type(const json_t *part);

/* `where` is the part's name in messages.  QRB_OK; QRB_E_FORMAT (another
 * type).  What is absent or null leaves *out as it is. */
qrb_status qrb__field_bool(qrb_context *ctx, const json_t *part,
                           const char *where, const char *name, bool *out);
qrb_status qrb__field_string(qrb_context *ctx, const json_t *part,
                             const char *where, const char *name,
                             const char **out);

/* The parts of a sequence, or the one part that is none: their number, and
 * each of them.  A sequence in a sequence is QRB_E_UNSUPPORTED, and so are
 * more than `max`. */
qrb_status qrb__field_sequence(qrb_context *ctx, const json_t *part,
                               const char *where, const char *name, size_t max,
                               size_t *count_out);
const json_t *qrb__field_sequence_part(const json_t *part, const char *name,
                                       size_t index);

/* A part whose type or setting is not known: QRB_E_UNSUPPORTED. */
qrb_status qrb__field_unsupported(qrb_context *ctx, const json_t *part,
                                  const char *where);

#endif
