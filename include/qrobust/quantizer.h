/* Recipes that turn matrices into codes, and the packed matrices they make. */
#ifndef QROBUST_QUANTIZER_H
#define QROBUST_QUANTIZER_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/** A recipe for matrices. */
typedef struct qrb_quantizer qrb_quantizer;
/** A quantized matrix: codes, scales, zero points or a table. */
typedef struct qrb_packed qrb_packed;

/** Kinds of quantizer.  Pinned values. */
enum qrb_quantizer_kind {
    QRB_QUANTIZER_RTN = 1,  /**< round to nearest on a uniform grid */
    QRB_QUANTIZER_INT8 = 2, /**< LLM.int8(): vector-wise absmax rows */
    QRB_QUANTIZER_NF4 = 3,  /**< 4-bit normal float, blocks of 64 */
    QRB_QUANTIZER_FP16 = 4, /**< rounding through IEEE half */
    QRB_QUANTIZER_BF16 = 5  /**< rounding through bfloat16 */
};

/** Uniform grids (quantizers 1.1).  Pinned values. */
enum qrb_grid_mode {
    QRB_GRID_A_PAPER = 1,
    QRB_GRID_A_GPTQ = 2,
    QRB_GRID_A_AWQ = 3,
    QRB_GRID_A_OMNI = 4,
    QRB_GRID_A_MAX = 5,
    QRB_GRID_A_SPQR = 6,
    QRB_GRID_A_GRP = 7,
    QRB_GRID_S_ABS = 8,
    QRB_GRID_S_GPTQ = 9,
    QRB_GRID_S_OMNI = 10,
    QRB_GRID_S_SMOOTH = 11
};

/** What shares one scale. */
enum qrb_granularity {
    QRB_PER_GROUP = 0, /**< group_size columns of a row (0: the row) */
    QRB_PER_TENSOR = 1
};

/* Start from QRB_QUANTIZER_OPTIONS_INIT. */
typedef struct qrb_quantizer_options {
    size_t struct_size;
    size_t group_size;    /* columns per scale; 0: a whole row (default); of
                             NF4 the block of consecutive elements, 0: 64 */
    uint32_t kind;        /* enum qrb_quantizer_kind; default RTN */
    uint32_t bits;        /* 2..8 of RTN; default 4 */
    uint32_t grid;        /* enum qrb_grid_mode; default A_GPTQ */
    uint32_t granularity; /* enum qrb_granularity */
    uint32_t mse_clip;    /* 1: search the clip range (1.4); default 0 */
    uint32_t compat;      /* 1: scales in float32 and official quirks */
    uint32_t double_quant; /* 1: NF4 absmax quantized in turn; default 0 */
    uint32_t reserved;     /* 0 */
} qrb_quantizer_options;

#define QRB_QUANTIZER_OPTIONS_INIT \
    { sizeof(qrb_quantizer_options), 0, QRB_QUANTIZER_RTN, 4, \
      QRB_GRID_A_GPTQ, QRB_PER_GROUP, 0, 0, 0, 0 }

/** Make a quantizer; out is NULL on failure. */
QRB_API qrb_status qrb_quantizer_create(qrb_context *ctx,
                                        const qrb_quantizer_options *options,
                                        qrb_quantizer **out);

/**
 * Make a quantizer from its short name: "fp16", "bf16", "int8", "nf4",
 * "rtn<bits>" or "rtn<bits>g<group_size>", such as "rtn4g32".
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (the message lists the names)
 */
QRB_API qrb_status qrb_quantizer_create_named(qrb_context *ctx,
                                              const char *name,
                                              qrb_quantizer **out);

/** Release a quantizer; NULL is fine. */
QRB_API void qrb_quantizer_destroy(qrb_quantizer *quantizer);

/**
 * Quantize one matrix.
 *
 * @param w   [rows, cols] F32, F64, F16 or BF16, every element finite
 * @param out the quantized matrix, or NULL on failure; release it with
 *            qrb_packed_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_SHAPE (not a matrix, empty, or
 *         cols no multiple of group_size); QRB_E_NOT_FINITE;
 *         QRB_E_UNSUPPORTED (FP16 and BF16 kinds have no codes);
 *         QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_quantizer_quantize(const qrb_quantizer *quantizer,
                                          const qrb_tensor *w,
                                          qrb_packed **out);

/**
 * Fake quantization: w becomes its quantized value, the same bits that
 * qrb_packed_dequantize() gives.  On failure w is untouched.
 */
QRB_API qrb_status qrb_quantizer_fake(const qrb_quantizer *quantizer,
                                      qrb_tensor *w);

/** Release a packed matrix; NULL is fine. */
QRB_API void qrb_packed_destroy(qrb_packed *packed);

/** Write the values [rows, cols] into a float tensor. */
QRB_API qrb_status qrb_packed_dequantize(const qrb_packed *packed,
                                         qrb_tensor *out);

/** Codes [rows, cols], one each in an int32 (bytes of storage are another
 * matter: qrb_packed_bits_per_weight()); owned by the packed matrix. */
QRB_API const int32_t *qrb_packed_codes(const qrb_packed *packed);

/** Scales [rows, groups] (NF4: one absmax a block), in double. */
QRB_API const double *qrb_packed_scales(const qrb_packed *packed);

/** Zero points like scales, or NULL where the grid has none. */
QRB_API const double *qrb_packed_zero_points(const qrb_packed *packed);

/** Scales a row (1 for a whole row; NF4 and per tensor: all of them). */
QRB_API size_t qrb_packed_groups(const qrb_packed *packed);

/** Average bits a weight with scales and zero points counted. */
QRB_API double qrb_packed_bits_per_weight(const qrb_packed *packed);

QRB_END_DECLS

#endif
