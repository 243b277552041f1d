/* Where bytes come from, and tensors in safetensors files. */
#ifndef QROBUST_SOURCE_H
#define QROBUST_SOURCE_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/** Reads exactly `size` bytes at `offset` into `out`: 0, or < 0 to stop. */
typedef int (*qrb_read_at_fn)(uint64_t offset, void *out, size_t size,
                              void *user);

/* Exactly one of path, fd, buffer and read_at is given; start from
 * QRB_SOURCE_INIT. */
typedef struct qrb_source {
    size_t struct_size;
    const char *path;   /* a file */
    const void *buffer; /* [size] bytes, borrowed while open */
    qrb_read_at_fn read_at;
    void *read_at_user;
    uint64_t size;      /* of buffer, or of what read_at reads */
    int32_t fd;         /* open for reading, borrowed; -1: none (default) */
    uint32_t reserved;  /* 0 */
} qrb_source;

#define QRB_SOURCE_INIT { sizeof(qrb_source), 0, 0, 0, 0, 0, -1, 0 }

/** An open safetensors file or sharded directory. */
typedef struct qrb_safetensors qrb_safetensors;

/**
 * Open a safetensors file and check all of its header.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_IO; QRB_E_FORMAT (the message
 *         names the tensor and the field); QRB_E_CALLBACK (read_at);
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_safetensors_open(qrb_context *ctx,
                                        const qrb_source *source,
                                        qrb_safetensors **out);

/** Open model.safetensors, or the shards of model.safetensors.index.json, in
 * a directory. */
QRB_API qrb_status qrb_safetensors_open_directory(qrb_context *ctx,
                                                  const char *directory,
                                                  qrb_safetensors **out);

/** Close it; tensors looked at are gone; NULL is fine. */
QRB_API void qrb_safetensors_close(qrb_safetensors *file);

/** Number of tensors. */
QRB_API size_t qrb_safetensors_count(const qrb_safetensors *file);

/** Name of tensor `index` in order of names, or NULL. */
QRB_API const char *qrb_safetensors_name(const qrb_safetensors *file,
                                         size_t index);

/** Index of a name, or SIZE_MAX. */
QRB_API size_t qrb_safetensors_find(const qrb_safetensors *file,
                                    const char *name);

/**
 * Shape and type of a tensor.
 *
 * @param out its memory is NULL; strides are zero
 */
QRB_API qrb_status qrb_safetensors_describe(const qrb_safetensors *file,
                                            size_t index,
                                            qrb_tensor_options *out);

/**
 * Read a tensor with conversion into one of the same shape.
 *
 * @return QRB_OK; QRB_E_SHAPE; QRB_E_IO (the file shrank since it was
 *         opened); QRB_E_UNSUPPORTED (conversion); QRB_E_CALLBACK
 */
QRB_API qrb_status qrb_safetensors_read(const qrb_safetensors *file,
                                        size_t index, qrb_tensor *out);

/** Value of a key of __metadata__, or NULL. */
QRB_API const char *qrb_safetensors_metadata(const qrb_safetensors *file,
                                             const char *key);

/** One tensor to write. */
typedef struct qrb_named_tensor {
    const char *name;
    const qrb_tensor *tensor;
} qrb_named_tensor;

/**
 * Write a safetensors file beside its target, sync and rename it.  The bytes
 * are a function of the arguments alone.
 *
 * @param tensors  [count], written in order of names
 * @param metadata [2 * pairs] keys and values, may be NULL
 */
QRB_API qrb_status qrb_safetensors_write(qrb_context *ctx, const char *path,
                                         const qrb_named_tensor *tensors,
                                         size_t count,
                                         const char *const *metadata,
                                         size_t pairs);

/**
 * Write bytes as a whole file: beside its target first, synced, renamed.
 *
 * The way in which the library writes its own files, for reports and the like
 * of a host: readers see the old file or the new one, never a part.
 *
 * @param ctx   for memory and the message
 * @param path  of the file to replace or make; its directory exists
 * @param bytes [size], borrowed; may be NULL with size 0
 * @param size  bytes
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_IO (cannot be written, disk full:
 *         the target is as before); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_file_write(qrb_context *ctx, const char *path,
                                  const void *bytes, size_t size);

QRB_END_DECLS

#endif
