/* Writing a GGUF file, replaced whole or not at all: keys, then the list of
 * tensors, then their bytes in the same order. */
#ifndef QRB_IO_GGUF_WRITE_H
#define QRB_IO_GGUF_WRITE_H

#include "io/gguf.h"

struct qrb__gguf_writer;

/* Begin a file, as qrb__writer_open() does. */
qrb_status qrb__gguf_writer_open(qrb_context *ctx, const char *path,
                                 struct qrb__gguf_writer **out);
/* Without a commit nothing is left.  NULL is fine. */
void qrb__gguf_writer_close(struct qrb__gguf_writer *writer);

/* Keys.  What fails in one of these (a failed allocation, a key or a string
 * that could not be read back) is remembered: qrb__gguf_commit() says it. */
void qrb__gguf_put_u32(struct qrb__gguf_writer *writer, const char *key,
                       uint32_t value);
void qrb__gguf_put_float(struct qrb__gguf_writer *writer, const char *key,
                         float value);
void qrb__gguf_put_flag(struct qrb__gguf_writer *writer, const char *key,
                        bool value);
void qrb__gguf_put_text(struct qrb__gguf_writer *writer, const char *key,
                        const char *value);
/* An array of `count` elements: they follow, each by the call of its type. */
void qrb__gguf_put_array(struct qrb__gguf_writer *writer, const char *key,
                         uint32_t element, uint64_t count);
void qrb__gguf_add_string(struct qrb__gguf_writer *writer, const char *bytes,
                          size_t size);
void qrb__gguf_add_i32(struct qrb__gguf_writer *writer, int32_t value);
void qrb__gguf_add_float(struct qrb__gguf_writer *writer, float value);

/* List the next tensor, shape row-major.  Also remembered. */
void qrb__gguf_put_tensor(struct qrb__gguf_writer *writer, const char *name,
                          const struct qrb__gguf_layout *layout, uint32_t rank,
                          const size_t *shape);

/* Bytes of the tensors, one after the other in any pieces; the first call
 * writes the header, and padding is written by itself.
 *
 * QRB_OK; what was remembered; QRB_E_IO. */
qrb_status qrb__gguf_write(struct qrb__gguf_writer *writer, const void *bytes,
                           size_t size);

/* The end of the file: QRB_OK; what was remembered: QRB_E_INVALID_ARG (a key
 * or name twice, empty, too long, or not UTF-8; an array or a tensor of another
 * length than was said; a shape that the layout cannot have), QRB_E_NO_MEMORY;
 * QRB_E_IO as of qrb__writer_commit(). */
qrb_status qrb__gguf_commit(struct qrb__gguf_writer *writer);

#endif
