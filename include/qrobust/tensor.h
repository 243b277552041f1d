/* Typed, strided views of memory that a host owns, and owned buffers. */
#ifndef QROBUST_TENSOR_H
#define QROBUST_TENSOR_H

#include <qrobust/context.h>

QRB_BEGIN_DECLS

/** A view or an owned buffer; cheap to keep and to point elsewhere. */
typedef struct qrb_tensor qrb_tensor;

/** Element types.  Pinned values. */
enum qrb_dtype {
    QRB_F64 = 1,
    QRB_F32 = 2,
    QRB_F16 = 3,
    QRB_BF16 = 4,
    QRB_I8 = 5,
    QRB_I32 = 6,
    QRB_U8 = 7,
    QRB_I16 = 8,
    QRB_U16 = 9,
    QRB_U32 = 10,
    QRB_I64 = 11,
    QRB_U64 = 12,
    QRB_BOOL = 13,
    QRB_F8_E4M3 = 14,
    QRB_F8_E5M2 = 15
};

/** Dimensions that a tensor has at most. */
#define QRB_MAX_RANK 8

/* Start from QRB_TENSOR_OPTIONS_INIT and set dtype, rank and shape. */
typedef struct qrb_tensor_options {
    size_t struct_size;
    void *memory; /* borrowed; NULL: the tensor owns a zeroed buffer */
    size_t shape[QRB_MAX_RANK];    /* extents, the first `rank` of them */
    int64_t strides[QRB_MAX_RANK]; /* bytes; all zero: row-major, dense */
    uint32_t dtype;                /* enum qrb_dtype; default QRB_F32 */
    uint32_t rank;                 /* 1..8 */
} qrb_tensor_options;

#define QRB_TENSOR_OPTIONS_INIT \
    { sizeof(qrb_tensor_options), 0, { 0 }, { 0 }, QRB_F32, 0 }

/**
 * Make a tensor over the host's memory, or one that owns its buffer.
 *
 * @param options shape, type and memory; copied; borrowed memory must outlive
 *                the tensor and be aligned for its type
 * @param out     the tensor, or NULL on failure; release it with
 *                qrb_tensor_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE (rank, or the size
 *         overflows); QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tensor_create(qrb_context *ctx,
                                     const qrb_tensor_options *options,
                                     qrb_tensor **out);

/** Release a tensor and the buffer it owns; NULL is fine. */
QRB_API void qrb_tensor_destroy(qrb_tensor *tensor);

/**
 * Point a view at other memory of the same type, for hosts that reuse one
 * handle for every batch; allocates nothing.
 *
 * @param shape  as many entries as the tensor's rank
 * @param memory borrowed, not NULL
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE (overflow); QRB_E_STATE (the
 *         tensor owns its buffer)
 */
QRB_API qrb_status qrb_tensor_point(qrb_tensor *tensor, const size_t *shape,
                                    void *memory);

/** First element; NULL for a NULL tensor. */
QRB_API void *qrb_tensor_memory(const qrb_tensor *tensor);

/** enum qrb_dtype; 0 for a NULL tensor. */
QRB_API uint32_t qrb_tensor_dtype(const qrb_tensor *tensor);

/** Number of dimensions; 0 for a NULL tensor. */
QRB_API uint32_t qrb_tensor_rank(const qrb_tensor *tensor);

/** Extent of dimension `axis`; 0 beyond the rank. */
QRB_API size_t qrb_tensor_extent(const qrb_tensor *tensor, uint32_t axis);

/** Bytes between neighbours along `axis`; 0 beyond the rank. */
QRB_API int64_t qrb_tensor_stride(const qrb_tensor *tensor, uint32_t axis);

/**
 * Copy and convert: float types into each other with rounding to nearest even
 * (values too large for the target become infinite), integers into floats,
 * and each type into itself.
 *
 * @param source and target have equal shapes, any strides
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE; QRB_E_UNSUPPORTED (the pair
 *         of types)
 */
QRB_API qrb_status qrb_tensor_copy(const qrb_tensor *source,
                                   qrb_tensor *target);

/** Bytes of one element of enum qrb_dtype; 0 for an unknown one. */
QRB_API size_t qrb_dtype_size(uint32_t dtype);

/** Name as in safetensors files: "F32", "BF16", "F8_E4M3"; "?" if unknown. */
QRB_API const char *qrb_dtype_name(uint32_t dtype);

QRB_END_DECLS

#endif
