/* Where bytes come from, and tensors in safetensors files. */
#ifndef QROBUST_SOURCE_H
#define QROBUST_SOURCE_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/**
 * Read exactly `size` bytes at `offset` into `out`.
 *
 * Runs on the thread that called the library, during that call, and may not
 * call the library.  Ranges are never outside of [0, qrb_source.size).  `out`
 * lives until the callback returns.
 *
 * @return 0; anything else ends the call with QRB_E_CALLBACK, and
 *         qrb_context_callback_code() hands the value back
 */
typedef int (*qrb_read_at_fn)(uint64_t offset, void *out, size_t size,
                              void *user);

/* Where bytes are read from: exactly one of path, buffer, read_at and fd is
 * given.  Start from QRB_SOURCE_INIT; a value is taken as it stands.
 *
 * Files and descriptors are mapped read-only where the system can and have to
 * be regular files.  A file that gets shorter while it is open is QRB_E_IO,
 * not a signal; one that is replaced by renaming, as this library does it, is
 * read to its end as it was. */
typedef struct qrb_source {
    size_t struct_size;
    const char *path;   /* a file; needed during the call alone */
    const void *buffer; /* [size] bytes at any alignment, borrowed until the
                         * object that reads from it is closed */
    qrb_read_at_fn read_at; /* called for what is needed; NULL: none */
    void *read_at_user; /* handed to read_at */
    uint64_t size;      /* bytes of buffer, or of what read_at reads; ignored
                         * with path and fd */
    int32_t fd;         /* a descriptor open for reading, borrowed like the
                         * buffer, its position untouched; -1: none (default) */
    uint32_t reserved;  /* 0 */
} qrb_source;

#define QRB_SOURCE_INIT { sizeof(qrb_source), 0, 0, 0, 0, 0, -1, 0 }

/** An open safetensors file, or the shards of a directory as one. */
typedef struct qrb_safetensors qrb_safetensors;

/**
 * Open a safetensors file and check all of its header.
 *
 * The format is that of https://github.com/huggingface/safetensors: 8 bytes of
 * length, a JSON header, the data.  Nothing in it is believed: names are
 * unique, not empty, at most 1024 bytes of UTF-8 without NUL; ranks at most 8;
 * products of extents times the type's size are computed without overflow and
 * equal the span of the offsets; the spans cover the data from the first byte
 * to the last without overlap or hole; the header is at most 100 MB, nested at
 * most 8 deep, without duplicate keys.  Values are not looked at: NaN and
 * infinity are data.
 *
 * A tensor without dimensions is shown as one of shape [1].  A tensor with an
 * extent of 0 is found and described, but there is no qrb_tensor to read it
 * into.
 *
 * @param ctx    outlives the file
 * @param source copied; what it borrows outlives the file
 * @param out    receives the file, or NULL on failure; release it with
 *               qrb_safetensors_close()
 * @return QRB_OK; QRB_E_INVALID_ARG (ctx or out is NULL, or not exactly one
 *         kind of source); QRB_E_IO (cannot be opened or read, no regular
 *         file); QRB_E_FORMAT (the message names the tensor and the field);
 *         QRB_E_UNSUPPORTED (an element type that enum qrb_dtype lacks, more
 *         than 8 dimensions); QRB_E_CALLBACK (read_at); QRB_E_REENTRANT;
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_safetensors_open(qrb_context *ctx,
                                        const qrb_source *source,
                                        qrb_safetensors **out);

/**
 * Open the weights of a model's directory: model.safetensors, or else the
 * shards that model.safetensors.index.json names.
 *
 * Shards have plain names: no separators, no "..", no links that lead out of
 * the directory.  The index and the shards agree about every tensor, and each
 * is in exactly one of at most 1024 shards.
 *
 * @param directory path, needed during the call alone
 * @param out       as of qrb_safetensors_open()
 * @return as qrb_safetensors_open(); QRB_E_IO also when the directory has
 *         neither file, or a shard is missing; QRB_E_FORMAT also for an index
 *         that breaks the rules above
 */
QRB_API qrb_status qrb_safetensors_open_directory(qrb_context *ctx,
                                                  const char *directory,
                                                  qrb_safetensors **out);

/** Close a file; names and metadata that it handed out are gone.  NULL is
 * fine. */
QRB_API void qrb_safetensors_close(qrb_safetensors *file);

/** Number of tensors; 0 for NULL. */
QRB_API size_t qrb_safetensors_count(const qrb_safetensors *file);

/** Name of tensor `index` in order of names (by bytes), until the file is
 * closed; NULL beyond the last one. */
QRB_API const char *qrb_safetensors_name(const qrb_safetensors *file,
                                         size_t index);

/** Index of the tensor of this name, or SIZE_MAX; O(log count). */
QRB_API size_t qrb_safetensors_find(const qrb_safetensors *file,
                                    const char *name);

/**
 * Shape and type of a tensor, as options that qrb_tensor_create() takes.
 *
 * @param index below qrb_safetensors_count()
 * @param out   start from QRB_TENSOR_OPTIONS_INIT; receives dtype, rank and
 *              shape; memory is NULL and strides are zero
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, index, struct_size)
 */
QRB_API qrb_status qrb_safetensors_describe(const qrb_safetensors *file,
                                            size_t index,
                                            qrb_tensor_options *out);

/**
 * Read a tensor into one of the same shape, with the conversions of
 * qrb_tensor_copy().
 *
 * Mapped files and buffers are converted in place.  From read_at, and from
 * files that the system could not map, the tensor is read into memory of its
 * size first, so that `out` is untouched unless all of it arrived.
 *
 * @param index below qrb_safetensors_count()
 * @param out   any strides
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, index); QRB_E_SHAPE (the message
 *         gives both shapes); QRB_E_IO (the file shrank since it was opened);
 *         QRB_E_UNSUPPORTED (the pair of types); QRB_E_CALLBACK (read_at);
 *         QRB_E_REENTRANT; QRB_E_NO_MEMORY; every message names the tensor
 */
QRB_API qrb_status qrb_safetensors_read(const qrb_safetensors *file,
                                        size_t index, qrb_tensor *out);

/** Value of a key of __metadata__ until the file is closed, or NULL; of
 * shards, that of the first one by name that has the key. */
QRB_API const char *qrb_safetensors_metadata(const qrb_safetensors *file,
                                             const char *key);

/** One tensor to write; both pointers are borrowed for the call. */
typedef struct qrb_named_tensor {
    const char *name;         /* UTF-8, not empty */
    const qrb_tensor *tensor; /* what is written */
} qrb_named_tensor;

/**
 * Write a safetensors file as a whole, as qrb_file_write() does it.
 *
 * The header is in order of names.  The data are too, but wider element types
 * come first, so that every tensor is aligned for its type; readers go by the
 * offsets.  The bytes are a function of the arguments alone: not of the order
 * of tensors or pairs, nor of time, path or threads.
 *
 * @param path     of the file to replace or make; its directory exists
 * @param tensors  [count], any strides; may be NULL with count 0
 * @param count    number of tensors
 * @param metadata [2 * pairs] keys and values in turn, UTF-8; may be NULL with
 *                 pairs 0
 * @param pairs    number of pairs
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL; a name or key that is given twice
 *         or could not be read back: see qrb_safetensors_open()); QRB_E_SHAPE
 *         (the header would exceed 100 MB, or the file 2^63 bytes); QRB_E_IO
 *         (cannot be written, disk full: the target is as before);
 *         QRB_E_REENTRANT; QRB_E_NO_MEMORY
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

/**
 * SHA-256 of bytes (FIPS 180-4): the name of a text in the metadata of what
 * was made with it, by which a text that is measured on is found to be one
 * that was trained on.
 *
 * Needs no context: any thread may call it, callbacks too.
 *
 * @param bytes [size]; may be NULL with size 0
 * @param size  bytes
 * @param out   [65] receives 64 hexadecimal digits in lower case and a NUL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL)
 */
QRB_API qrb_status qrb_sha256_hex(const void *bytes, size_t size, char *out);

QRB_END_DECLS

#endif
