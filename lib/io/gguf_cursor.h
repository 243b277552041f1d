/* Reading the header of a GGUF file from its first byte on. */
#ifndef QRB_IO_GGUF_CURSOR_H
#define QRB_IO_GGUF_CURSOR_H

#include "io/gguf.h"

enum { QRB__GGUF_WINDOW = 4096 };

/* Where reading is, with a window of the file around it. */
struct qrb__gguf_cursor {
    qrb_context *ctx;
    const struct qrb__source *source;
    uint64_t at;
    uint64_t window_at;
    size_t window_size;
    unsigned char window[QRB__GGUF_WINDOW];
};

/* Bytes from here to the end of the file. */
uint64_t qrb__gguf_left(const struct qrb__gguf_cursor *c);

/* QRB_E_FORMAT: "FILE: WHAT REASON". */
qrb_status qrb__gguf_fail(const struct qrb__gguf_cursor *c, const char *what,
                          const char *reason);
qrb_status qrb__gguf_fail_end(const struct qrb__gguf_cursor *c,
                              const char *what);

/* Take `size` bytes, at most a window of them: QRB_OK; QRB_E_FORMAT (fewer are
 * left; `what` is for the message); QRB_E_IO; QRB_E_CALLBACK. */
qrb_status qrb__gguf_take(struct qrb__gguf_cursor *c, const char *what,
                          void *out, size_t size);
qrb_status qrb__gguf_take_u32(struct qrb__gguf_cursor *c, const char *what,
                              uint32_t *out);
qrb_status qrb__gguf_take_u64(struct qrb__gguf_cursor *c, const char *what,
                              uint64_t *out);
/* A number of things of at least `least` bytes each: also QRB_E_FORMAT where
 * so many are not left. */
qrb_status qrb__gguf_take_count(struct qrb__gguf_cursor *c, const char *what,
                                size_t least, uint64_t *out);

/* Once keys and tensors are read, in order of the file, and the header ended
 * at byte `header`: sort keys, find the alignment, turn the tensors' offsets
 * into those of the file, sort tensors.  QRB_OK; QRB_E_FORMAT. */
qrb_status qrb__gguf_place(struct qrb__gguf *file, uint64_t header);

#endif
