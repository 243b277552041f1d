/* GGUF files, version 3 (and 2, which has the same bytes): magic, counts, keys
 * with values, the list of tensors, then their data, each tensor at a multiple
 * of the alignment. */
#ifndef QRB_IO_GGUF_H
#define QRB_IO_GGUF_H

#include "io/gguf_blocks.h"
#include "io/growing.h"
#include "io/source.h"
#include "tensor/view.h"

/* Types of values, by their numbers in the format. */
enum qrb__gguf_value_type {
    QRB__GGUF_U8,
    QRB__GGUF_I8,
    QRB__GGUF_U16,
    QRB__GGUF_I16,
    QRB__GGUF_U32,
    QRB__GGUF_I32,
    QRB__GGUF_FLOAT,
    QRB__GGUF_BOOL,
    QRB__GGUF_STRING,
    QRB__GGUF_ARRAY,
    QRB__GGUF_U64,
    QRB__GGUF_I64,
    QRB__GGUF_DOUBLE,
    QRB__GGUF_VALUE_TYPES
};

enum {
    QRB__GGUF_MAX_RANK = 4,
    QRB__GGUF_NAME_MAX = 63, /* of a tensor; loaders of others refuse 64 */
    QRB__GGUF_ALIGNMENT = 32
};

/* Bytes of a value of a fixed size, 0 of the others. */
size_t qrb__gguf_value_size(uint32_t type);

struct qrb__gguf_value {
    const char *key; /* first, for qrb__compare_strings() */
    uint32_t type;
    uint32_t element; /* of an array: the type of its elements */
    uint64_t count;   /* elements of an array, bytes of a string */
    uint64_t bits;    /* of a value of a fixed size */
    uint64_t offset;  /* of a string's bytes, or of an array's elements */
    uint64_t size;    /* bytes there */
};

struct qrb__gguf_tensor {
    const char *name; /* first, for qrb__compare_strings() */
    const struct qrb__gguf_layout *layout;
    size_t shape[QRB__GGUF_MAX_RANK]; /* row-major: columns are the last */
    uint32_t rank;
    uint64_t offset; /* of its first byte, in the file */
    uint64_t size;   /* bytes */
};

struct qrb__gguf {
    qrb_context *ctx;
    struct qrb__source *source;
    struct qrb__bytes strings;        /* keys and names */
    struct qrb__gguf_value *values;   /* [value_count], in order of keys */
    struct qrb__gguf_tensor *tensors; /* [tensor_count], in order of names */
    size_t value_count;
    size_t tensor_count;
    uint64_t alignment;
};

/* Whether a source begins like a GGUF file; *out is false for one that is
 * shorter. */
qrb_status qrb__gguf_detect(const struct qrb__source *source, bool *out);

/* Open a file and check all of its header: counts and lengths against the
 * bytes that are left, types, keys and names (unique, UTF-8, not empty, no
 * NUL), dimensions (1 to 4 of them, none 0, products without overflow, rows of
 * whole blocks), and that each tensor lies where the one before it, padded,
 * ends.  Bytes behind the last tensor are ignored, as others do.
 *
 * Takes `source` over, also when it fails.
 * Returns QRB_OK; QRB_E_FORMAT (the message names key, tensor, field);
 * QRB_E_UNSUPPORTED (another version, big-endian, an element type that is not
 * known); QRB_E_IO; QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__gguf_open(qrb_context *ctx, struct qrb__source *source,
                          struct qrb__gguf **out);
/* NULL is fine. */
void qrb__gguf_close(struct qrb__gguf *file);

/* NULL where there is none. */
const struct qrb__gguf_value *qrb__gguf_find(const struct qrb__gguf *file,
                                             const char *key);
const struct qrb__gguf_tensor *qrb__gguf_find_tensor(
    const struct qrb__gguf *file, const char *name);

/* The value of a key, or `out` as it was where there is none.  QRB_OK;
 * QRB_E_FORMAT: the value is of another kind (counts: any integer that is not
 * negative; reals: any number), a count is above `most`, or a text has a NUL
 * or `size` bytes and more. */
qrb_status qrb__gguf_get_count(const struct qrb__gguf *file, const char *key,
                               uint64_t most, uint64_t *out);
qrb_status qrb__gguf_get_real(const struct qrb__gguf *file, const char *key,
                              double *out);
qrb_status qrb__gguf_get_flag(const struct qrb__gguf *file, const char *key,
                              bool *out);
qrb_status qrb__gguf_get_text(const struct qrb__gguf *file, const char *key,
                              size_t size, char *out);

/* The elements of an array in memory, to be walked in order. */
struct qrb__gguf_elements {
    unsigned char *bytes; /* NULL: the key is not there, or none are */
    size_t size;
    size_t at;
    uint64_t count;
};

/* Load the array of a key whose elements are of type `element`, zeroed where
 * there is none; free it in any case.  QRB_OK; QRB_E_FORMAT (no array, or of
 * another type); QRB_E_IO; QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__gguf_load(const struct qrb__gguf *file, const char *key,
                          uint32_t element, struct qrb__gguf_elements *out);
void qrb__gguf_elements_free(qrb_context *ctx,
                             struct qrb__gguf_elements *elements);
/* The next of strings; false at the end, and where a length that was checked
 * at opening has changed since. */
bool qrb__gguf_next_string(struct qrb__gguf_elements *elements,
                           const char **text_out, size_t *length_out);

/* Values of a tensor into a view of its shape, with conversion.  QRB_OK;
 * QRB_E_SHAPE (names both); QRB_E_IO; QRB_E_UNSUPPORTED (the view is of no
 * float type); QRB_E_CALLBACK; QRB_E_NO_MEMORY. */
qrb_status qrb__gguf_read(const struct qrb__gguf *file,
                          const struct qrb__gguf_tensor *tensor,
                          const struct qrb__view *target);

#endif
