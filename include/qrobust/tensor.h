/* Typed, strided views of memory that a host owns, and owned buffers.  All of
 * this may be called from inside a callback: taps are handed tensors. */
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
    QRB_F16 = 3,  /**< IEEE 754 binary16 */
    QRB_BF16 = 4, /**< the upper half of a float */
    QRB_I8 = 5,
    QRB_I32 = 6,
    QRB_U8 = 7,
    QRB_I16 = 8,
    QRB_U16 = 9,
    QRB_U32 = 10,
    QRB_I64 = 11,
    QRB_U64 = 12,
    QRB_BOOL = 13,    /**< one byte; anything but 0 is true */
    QRB_F8_E4M3 = 14, /**< arXiv:2209.05433: no infinity, largest is 448 */
    QRB_F8_E5M2 = 15  /**< arXiv:2209.05433: with infinity, as IEEE 754 */
};

/** Dimensions that a tensor has at most. */
#define QRB_MAX_RANK 8

/* Start from QRB_TENSOR_OPTIONS_INIT and set dtype, rank and shape. */
typedef struct qrb_tensor_options {
    size_t struct_size;
    void *memory; /* borrowed; NULL: the tensor owns a zeroed buffer */
    size_t shape[QRB_MAX_RANK];    /* extents; none of the first `rank` is 0 */
    int64_t strides[QRB_MAX_RANK]; /* bytes, multiples of the element's size;
                                      may be negative, or 0 to repeat; all
                                      zero: row-major, dense (default) */
    uint32_t dtype;                /* enum qrb_dtype; default QRB_F32 */
    uint32_t rank;                 /* 1..8; must be set */
} qrb_tensor_options;

#define QRB_TENSOR_OPTIONS_INIT \
    { sizeof(qrb_tensor_options), 0, { 0 }, { 0 }, QRB_F32, 0 }

/**
 * Make a tensor over the host's memory, or one that owns its buffer.
 *
 * May be called from inside callbacks, as may every function of this header.
 *
 * @param options shape, type and memory; copied.  Borrowed memory must outlive
 *                the tensor, be aligned for its type and hold every element
 *                that the strides reach; `memory` is the element of index 0,
 *                wherever negative strides put it.  An owned buffer is dense
 * @param out     the tensor, or NULL on failure; release it with
 *                qrb_tensor_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, unknown dtype, memory that is not
 *         aligned, strides without memory, unknown options); QRB_E_SHAPE (rank
 *         not in 1..8, an extent of 0, a stride that is no multiple of the
 *         element's size, or more bytes than memory has); QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_tensor_create(qrb_context *ctx,
                                     const qrb_tensor_options *options,
                                     qrb_tensor **out);

/** Release a tensor and the buffer it owns; NULL is fine. */
QRB_API void qrb_tensor_destroy(qrb_tensor *tensor);

/**
 * Point a view at other memory of the same type and rank, for hosts that reuse
 * one handle for every batch; allocates nothing.  From then on the view is
 * row-major and dense, whatever its strides were.
 *
 * @param shape  as many extents as the tensor's rank, none of them 0
 * @param memory borrowed as by qrb_tensor_create(), not NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or memory that is not aligned);
 *         QRB_E_SHAPE (an extent of 0, or more bytes than memory has);
 *         QRB_E_STATE (the tensor owns its buffer).  On failure the tensor is
 *         what it was
 */
QRB_API qrb_status qrb_tensor_point(qrb_tensor *tensor, const size_t *shape,
                                    void *memory);

/** Element of index 0; NULL for a NULL tensor. */
QRB_API void *qrb_tensor_memory(const qrb_tensor *tensor);

/** enum qrb_dtype; 0 for a NULL tensor. */
QRB_API uint32_t qrb_tensor_dtype(const qrb_tensor *tensor);

/** Number of dimensions; 0 for a NULL tensor. */
QRB_API uint32_t qrb_tensor_rank(const qrb_tensor *tensor);

/** Extent of dimension `axis`; 0 beyond the rank and for a NULL tensor. */
QRB_API size_t qrb_tensor_extent(const qrb_tensor *tensor, uint32_t axis);

/** Bytes between neighbours along `axis`; 0 beyond the rank and for NULL. */
QRB_API int64_t qrb_tensor_stride(const qrb_tensor *tensor, uint32_t axis);

/**
 * Copy and convert element by element.
 *
 * Each type into itself bit for bit; float types into each other and integers
 * and booleans into float types with one rounding to nearest even.  What is
 * too large becomes infinite, or NaN in F8_E4M3, which has no infinity; NaN
 * stays NaN.  Other pairs are refused.  The result is a function of the
 * source alone: neither of threads nor of the instruction set.
 *
 * @param source the shape of the target, any strides; must not overlap it
 * @param target written; a stride of 0 in it keeps one of the elements
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE (unequal shapes);
 *         QRB_E_UNSUPPORTED (the pair of types).  On failure the target is
 *         untouched
 */
QRB_API qrb_status qrb_tensor_copy(const qrb_tensor *source,
                                   qrb_tensor *target);

/** Bytes of one element of enum qrb_dtype; 0 for an unknown one. */
QRB_API size_t qrb_dtype_size(uint32_t dtype);

/**
 * Name as in safetensors files: "F32", "BF16", "F8_E4M3".
 *
 * @return a static string; "?" for a value that is no type
 */
QRB_API const char *qrb_dtype_name(uint32_t dtype);

QRB_END_DECLS

#endif
