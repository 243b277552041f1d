/* A quantized matrix: its elements in row-major order are cut into units of
 * equal length, each with a scale and perhaps a zero point.  A group, a row
 * and a matrix are such units, and so is a block of NF4, which may span rows.
 * The last group of a row may be short, and so may the last block.  Where
 * there is a group index, the groups of a row are the columns of equal index.
 *
 * A value is that of its code in its unit, plus that of a residual and of a
 * sparse weight, divided by the input scale of its column; there is no other
 * way from codes to values than qrb__packed_decode(). */
#ifndef QRB_QUANT_PACKED_H
#define QRB_QUANT_PACKED_H

#include <qrobust/quantizer.h>

#include "core/context.h"
#include "quant/grid.h"
#include "tensor/view.h"

struct qrb__quantizer_kind;
struct qrb__tiles;

/* The absmax of NF4 blocks, quantized in turn. */
struct qrb__nested_scales {
    uint8_t *codes; /* [units] into the dynamic map; NULL: not quantized */
    float *absmax;  /* one of each 256 centred scales */
    float offset;   /* mean of the scales, taken off before */
};

/* Weights beside the codes, by rows; NULL: none. */
struct qrb__sparse {
    size_t *row_start; /* [rows + 1] */
    uint32_t *columns; /* ascending in a row */
    float *values;     /* to be added to what the code says */
};

struct qrb_packed {
    qrb_context *ctx;
    const struct qrb__quantizer_kind *kind;
    struct qrb__grid grid; /* of round to nearest */
    size_t rows;
    size_t cols;
    size_t elements;
    size_t unit;         /* elements of one scale */
    size_t units;        /* scales */
    size_t groups;       /* scales of a row; 0: units do not end with rows */
    bool cut;            /* the matrix is one unit, coded in pieces */
    bool zeros;          /* units have zero points of their own */
    bool nested;         /* scales are quantized in turn */
    uint32_t bits;       /* of a code */
    uint32_t precision;  /* QRB_F32 or QRB_F64: type of the arithmetic */
    uint8_t *codes;      /* [rows, row_bytes], as of kernel/codes.h */
    size_t row_bytes;
    int32_t code_zero;   /* added to a code where it is stored: codes without
                            zero points are signed */
    double *scales;      /* [units], as values use them */
    double *zero_points; /* [units]; NULL: none, or one that the mode fixes */
    struct qrb__nested_scales nested_scales;
    struct qrb__tiles *tiles; /* what products read; NULL: none was asked */
    uint32_t *group_index; /* [cols] of a column; NULL: consecutive groups */
    double *input_scale;   /* [cols] > 0; NULL: 1 */
    float *table;          /* [rows, 2^bits] values; NULL: a grid */
    struct qrb__sparse sparse;
    double loss;                /* of the method; NaN: none */
    double damping;             /* likewise */
    uint32_t outcome;           /* as the report has it */
    qrb_packed *residual;       /* [rows, n] of the columns listed; or NULL */
    uint32_t *residual_columns; /* [n], ascending */
};

enum {
    QRB__RUN = 4096,         /* elements of a task, unless a unit has more */
    QRB__NESTED_BLOCK = 256, /* scales of one nested absmax */
    QRB__DYNAMIC_MAP = 256   /* values of the signed 8-bit map */
};

/* A task's run of elements: whole units, or a piece of the one unit. */
size_t qrb__packed_run(const qrb_packed *packed);
/* The unit of element `at`, and how many of it follow from there on. */
size_t qrb__packed_unit(const qrb_packed *packed, size_t at,
                        size_t *length_out);
/* Number of runs, and of the elements in run `i`. */
size_t qrb__packed_runs(const qrb_packed *packed);
size_t qrb__packed_run_length(const qrb_packed *packed, size_t i);

/* What is beyond the largest finite value of dtype becomes it; run [n] is of
 * type `precision`. */
void qrb__packed_saturate(uint32_t precision, void *run, size_t n,
                          uint32_t dtype);

/* Scale and zero point of a unit. */
struct qrb__grid_scale qrb__packed_scale(const qrb_packed *packed, size_t unit);
void qrb__packed_set_scale(qrb_packed *packed, size_t unit,
                           struct qrb__grid_scale scale);

/* Codes of elements [first, first + n) in row-major order.  Any task may write
 * what no other writes, also into the same byte, and again. */
void qrb__packed_write_codes(qrb_packed *packed, size_t first, size_t n,
                             const int32_t *codes);
void qrb__packed_read_codes(const qrb_packed *packed, size_t first, size_t n,
                            int32_t *codes);

/* Values of elements [first, first + n), n <= RUN, in the packed matrix's
 * precision and saturated for a target of type dtype. */
void qrb__packed_decode(const qrb_packed *packed, size_t first, size_t n,
                        uint32_t dtype, void *values);
/* The same in double, of any n, or in float as of qrb_packed_dequantize(). */
void qrb__packed_decode_f64(const qrb_packed *packed, size_t first, size_t n,
                            double *values);
void qrb__packed_decode_f32(const qrb_packed *packed, size_t first, size_t n,
                            float *values);

/* Room for one run for each worker of a loop over the runs, or NULL. */
void *qrb__packed_scratch(const qrb_packed *packed, size_t size);

/* QRB_E_SHAPE or QRB_E_UNSUPPORTED unless w is a float matrix that is not
 * empty; `name` is for the message. */
qrb_status qrb__packed_check_matrix(qrb_context *ctx, const struct qrb__view *w,
                                    const char *name);

/* The dynamic map in ascending order, QRB__DYNAMIC_MAP floats. */
void qrb__dynamic_map(float *map);

/* Whether values are more than a code, a scale and a zero point of consecutive
 * groups: something that only qrb__packed_decode() knows of. */
bool qrb__packed_has_extras(const qrb_packed *packed);

/* Write the values into a float view of the same shape. */
qrb_status qrb__packed_dequantize(const qrb_packed *packed,
                                  const struct qrb__view *out);

/* Replace the scales of NF4 by what their codes come back as. */
qrb_status qrb__nest_scales(qrb_packed *packed);

#endif
