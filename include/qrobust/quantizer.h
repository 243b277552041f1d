/* Recipes that turn matrices into codes, and the packed matrices they make. */
#ifndef QROBUST_QUANTIZER_H
#define QROBUST_QUANTIZER_H

#include <qrobust/observer.h>

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
    QRB_QUANTIZER_BF16 = 5, /**< rounding through bfloat16 */
    QRB_QUANTIZER_GPTQ = 6, /**< errors made up for in columns to come */
    QRB_QUANTIZER_AWQ = 7, /**< inputs scaled so that outputs change least */
    QRB_QUANTIZER_SMOOTHQUANT = 8, /**< inputs scaled by their magnitudes */
    QRB_QUANTIZER_SQUEEZELLM = 9, /**< a table a row, and sparse outliers */
    QRB_QUANTIZER_SIGN = 11 /**< one bit, times the mean magnitude of a row */
};

/**
 * Uniform grids, named after the programs and papers that use them; A: with a
 * zero point, S: symmetric.  N bits, Qmax = 2^N - 1, M = 2^(N-1) - 1, [lo, hi]
 * the range of the weights that share a scale h and a zero point z.  The code
 * of w is clamp(rne(w / h) + z, 0, Qmax) and its value h (code - z), with rne
 * the rounding half to even, unless the line says otherwise.
 *
 * Where h is 0 (all weights are equal, and the mode has no floor of h) or z is
 * no finite number, the scale is that of A_GPTQ.  Zero is a value wherever the
 * range holds it, except in A_SPQR.  Pinned values.
 */
enum qrb_grid_mode {
    /** h = (hi - lo) / Qmax, z = -rne(lo / h), which may lie outside the
     * codes where all weights have one sign. */
    QRB_GRID_A_PAPER = 1,
    /** [lo, hi] is widened to hold 0, and [0, 0] to [-1, 1]; then
     * h = (hi - lo) / Qmax, z = rne(-lo / h), which is a code. */
    QRB_GRID_A_GPTQ = 2,
    /** h = max(hi - lo, 1e-5) / Qmax, z = -rne(lo / h) clamped to the codes:
     * weights of one sign saturate, as in the official program. */
    QRB_GRID_A_AWQ = 3,
    /** h = (hi - lo) / Qmax clamped to [1e-5, 1e4], z = rne(-lo / h) with the
     * quotient clamped to +-1e4. */
    QRB_GRID_A_OMNI = 4,
    /** h = (hi - lo) / Qmax, z = rne(Qmax - hi / h). */
    QRB_GRID_A_MAX = 5,
    /** As A_PAPER with a real z = -lo / h, added before the rounding; a single
     * point takes [-1, 1], as in the official program. */
    QRB_GRID_A_SPQR = 6,
    /** h = max(hi - lo, 1e-5) / Qmax, z = rne(-lo / h); [0, 0] takes
     * [-1, 1]. */
    QRB_GRID_A_GRP = 7,
    /** h = max(|lo|, |hi|, 1e-5) / M, no z, codes -M - 1 to M. */
    QRB_GRID_S_ABS = 8,
    /** [-a, a] with a = max(|lo|, |hi|), h = 2 a / Qmax, z = 2^(N-1). */
    QRB_GRID_S_GPTQ = 9,
    /** h = max(|lo|, |hi|) / M clamped to [1e-5, 1e4], z = M. */
    QRB_GRID_S_OMNI = 10,
    /** As S_ABS without the clamp of the codes. */
    QRB_GRID_S_SMOOTH = 11,
    /** As S_ABS without the floor of h, which is 1 where all is 0: the
     * symmetric activations of SpinQuant and QuaRot. */
    QRB_GRID_S_ACT = 12
};

/** What shares one scale. */
enum qrb_granularity {
    QRB_PER_GROUP = 0, /**< group_size columns of a row (0: the row) */
    QRB_PER_TENSOR = 1 /**< the whole matrix; of RTN */
};

/** What the groups of GPTQ see when they are fitted.  Pinned values. */
enum qrb_group_stats {
    QRB_GROUP_STATS_LAZY = 0, /**< what was made up for before their block, as
                                   in the published program */
    QRB_GROUP_STATS_FRESH = 1 /**< all that was made up for */
};

/* Of GPTQ.  Start from QRB_GPTQ_OPTIONS_INIT. */
typedef struct qrb_gptq_options {
    size_t struct_size;
    size_t block_size;      /* columns between updates of all that are left, at
                               least 1; default 128 */
    double damping;         /* share of the mean of the Hessian's diagonal that
                               is added to it, at least 0; default .01 */
    uint32_t group_stats;   /* enum qrb_group_stats; default lazy */
    uint32_t act_order;     /* 1: columns of large inputs first; default 0 */
    uint32_t static_groups; /* 1: groups are fitted before the first column,
                               so that with act_order they stay groups of
                               consecutive columns; default 0 */
    uint32_t reserved;      /* 0 */
} qrb_gptq_options;

/** The defaults of GPTQ. */
#define QRB_GPTQ_OPTIONS_INIT \
    { sizeof(qrb_gptq_options), 128, 0.01, QRB_GROUP_STATS_LAZY, 0, 0, 0 }

/* Of SMOOTHQUANT.  Start from QRB_SMOOTHQUANT_OPTIONS_INIT. */
typedef struct qrb_smoothquant_options {
    size_t struct_size;
    double alpha; /* share of the range that moves from the inputs into the
                     weights, 0 to 1; default .5 */
} qrb_smoothquant_options;

/** The defaults of SmoothQuant. */
#define QRB_SMOOTHQUANT_OPTIONS_INIT { sizeof(qrb_smoothquant_options), 0.5 }

/** How SQUEEZELLM finds the values of a row.  Pinned values. */
enum qrb_squeezellm_solver {
    QRB_SQUEEZELLM_EXACT = 0, /**< those of least loss */
    QRB_SQUEEZELLM_LLOYD = 1  /**< 50 iterations of Lloyd's algorithm from
                                   quantiles of the cube root of the density:
                                   no better than the exact ones, in a fifth
                                   of the time */
};

/* Of SQUEEZELLM.  Start from QRB_SQUEEZELLM_OPTIONS_INIT. */
typedef struct qrb_squeezellm_options {
    size_t struct_size;
    double outliers;  /* percentage of the weights that is kept beside the
                         codes, with the sensitive ones; default 0 */
    double sensitive; /* percentage that is kept for its squared gradients;
                         default 0 */
    double range;     /* T > 0: instead of a percentage, what lies T quartile
                         ranges outside of the quartiles; default 0 */
    uint32_t solver;  /* enum qrb_squeezellm_solver; default exact */
    uint32_t reserved; /* 0 */
} qrb_squeezellm_options;

/** The defaults of SqueezeLLM. */
#define QRB_SQUEEZELLM_OPTIONS_INIT \
    { sizeof(qrb_squeezellm_options), 0, 0, 0, QRB_SQUEEZELLM_EXACT, 0 }

/* Of AWQ.  Start from QRB_AWQ_OPTIONS_INIT. */
typedef struct qrb_awq_options {
    size_t struct_size;
    uint32_t ratios;       /* exponents tried, k / ratios with k below it, 1 to
                              1000; default 20 */
    uint32_t clip;         /* 1: search limits of the weights of each group, in
                              use alone; default 1 */
    uint32_t duo_scaling;  /* 1: scales look at the weights, too; default 0 */
    uint32_t reserved;     /* 0 */
} qrb_awq_options;

/** The defaults of AWQ. */
#define QRB_AWQ_OPTIONS_INIT { sizeof(qrb_awq_options), 20, 1, 0, 0 }

/** Which columns of a residual matter most, by the errors E of the codes, the
 * inputs x and the derivatives df/dx of a loss.  Pinned values. */
enum qrb_importance {
    QRB_IMPORTANCE_ACT = 0,   /**< sum_r E_rj^2 sum_t x_tj^2 */
    QRB_IMPORTANCE_GRAD = 1,  /**< root of sum_t (df/dx_tj)^2 */
    QRB_IMPORTANCE_RANKS = 2, /**< sum of the ranks of both */
    QRB_IMPORTANCE_SHARES = 3 /**< both divided by their sums, and weighed */
};

/* Of a residual.  Start from QRB_RESIDUAL_OPTIONS_INIT. */
typedef struct qrb_residual_options {
    size_t struct_size;
    const struct qrb_quantizer *quantizer; /* of the errors, of a kind that
                             needs nothing but weights; copied; NULL: the same
                             as of the weights */
    double share;         /* of the columns, rounded up, in (0, 1]; default
                             .05 */
    double balance;       /* of SHARES: weight of GRAD beside 1 less it of
                             ACT, 0 to 1; default .5 */
    uint32_t importance;  /* enum qrb_importance; default ACT */
    uint32_t reserved;    /* 0 */
} qrb_residual_options;

/** The defaults of a residual. */
#define QRB_RESIDUAL_OPTIONS_INIT \
    { sizeof(qrb_residual_options), 0, 0.05, 0.5, QRB_IMPORTANCE_ACT, 0 }

/* Start from QRB_QUANTIZER_OPTIONS_INIT.  Kinds on a uniform grid look at
 * bits, RTN and GPTQ at grid: of the others it is the method's own.  The other
 * options are refused where the kind has no use for them, and so are options
 * of a method that is not the kind. */
typedef struct qrb_quantizer_options {
    size_t struct_size;
    size_t group_size;    /* columns per scale, the last group of a row may
                             be shorter; 0: a whole row (default); of
                             NF4 the block of consecutive elements, 0: 64 */
    uint32_t kind;        /* enum qrb_quantizer_kind; default RTN */
    uint32_t bits;        /* 2..8 of kinds on a grid and of SQUEEZELLM;
                             default 4 */
    uint32_t grid;        /* enum qrb_grid_mode, of RTN and GPTQ; default
                             A_GPTQ */
    uint32_t granularity; /* enum qrb_granularity; default per group */
    uint32_t mse_clip;    /* 1: a grid shrinks the range by hundredths down to
                             0.21 and keeps the one of least sum of
                             |error|^2.4; 80 times the work; default 0 */
    uint32_t compat;      /* 1: RTN computes in float32 unless the weights are
                             F64, and S_GPTQ keeps [0, hi] of weights without
                             negatives, as the official programs do; default
                             0: in double, by the rules of enum
                             qrb_grid_mode */
    uint32_t double_quant; /* 1: NF4 absmax quantized in turn; default 0 */
    uint32_t reserved;     /* 0 */
    const qrb_smoothquant_options *smoothquant; /* copied; NULL: the defaults */
    const qrb_squeezellm_options *squeezellm;   /* likewise */
    const qrb_awq_options *awq;                 /* likewise */
    const qrb_gptq_options *gptq;               /* likewise */
    const qrb_residual_options *residual; /* copied; NULL: none */
} qrb_quantizer_options;

#define QRB_QUANTIZER_OPTIONS_INIT \
    { sizeof(qrb_quantizer_options), 0, QRB_QUANTIZER_RTN, 4, \
      QRB_GRID_A_GPTQ, QRB_PER_GROUP, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

/**
 * Make a quantizer.
 *
 * @param options NULL: the defaults; copied
 * @param out     receives the quantizer, or NULL on failure; the caller
 *                releases it with qrb_quantizer_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an option outside its range or
 *         without meaning for the kind: the message names it);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_quantizer_create(qrb_context *ctx,
                                        const qrb_quantizer_options *options,
                                        qrb_quantizer **out);

/**
 * Make a quantizer of several: all but the last are used as scalings of inputs
 * (kinds that say so below), in their order, and the last makes the codes.
 *
 * @param links [count], at least one; copied
 * @param out   as of qrb_quantizer_create()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, of another context, a link in front
 *         that scales no inputs or is a chain, a last one without codes);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status
qrb_quantizer_create_chain(qrb_context *ctx,
                           const qrb_quantizer *const *links, size_t count,
                           qrb_quantizer **out);

/**
 * Make a quantizer from its short name: "fp16", "bf16", "int8", "nf4", or the
 * name of a kind on a grid with its bits and perhaps a group size, such as
 * "rtn4", "rtn4g32" or "smoothquant8", or "squeezellm" with its bits; rtn is the grid A_GPTQ, all else as by
 * default.  Chains join names by "+", where scalings may leave their bits and
 * group size to the last: "smoothquant+rtn4g128".
 *
 * @return as of qrb_quantizer_create(); QRB_E_INVALID_ARG (the message lists
 *         the names)
 */
QRB_API qrb_status qrb_quantizer_create_named(qrb_context *ctx,
                                              const char *name,
                                              qrb_quantizer **out);

/** Release a quantizer; NULL is fine. */
QRB_API void qrb_quantizer_destroy(qrb_quantizer *quantizer);

/* What is known of a matrix's use.  Start from QRB_CALIBRATION_INIT. */
typedef struct qrb_calibration {
    size_t struct_size;
    const qrb_observer *inputs; /* of as many columns as the matrix; borrowed;
                                   NULL: none */
    const qrb_tensor *fisher;   /* [rows, cols] of a float type, sums of
                                   squared gradients; borrowed; NULL: none */
    const qrb_observer *gradients; /* of the derivatives of a loss by the
                                      inputs, for residuals; NULL: none */
} qrb_calibration;

/** Nothing is known. */
#define QRB_CALIBRATION_INIT { sizeof(qrb_calibration), 0, 0, 0 }

/** What a method came to.  Pinned values. */
enum qrb_quantize_outcome {
    QRB_QUANTIZE_DONE = 0, /**< the codes are the method's */
    /** GPTQ kept round to nearest: all inputs were zero. */
    QRB_QUANTIZE_NO_INPUTS = 1,
    /** GPTQ kept round to nearest: no damping made the Hessian definite. */
    QRB_QUANTIZE_NOT_DEFINITE = 2,
    /** GPTQ kept round to nearest, whose output error is the smaller one. */
    QRB_QUANTIZE_NO_BETTER = 3
};

/* What became of a matrix; set struct_size.  NaN stands for what there is
 * not. */
typedef struct qrb_quantize_report {
    size_t struct_size;
    double relative_output_error; /* |X (W - Q)^T|^2 / |X W^T|^2, of inputs
                                     with a Gram matrix */
    double relative_weight_error; /* |W - Q|^2 / |W|^2 */
    double bits_per_weight;       /* as qrb_packed_bits_per_weight() */
    double loss;                  /* of the method's own objective */
    double damping;               /* share of the mean diagonal, as used */
    uint32_t outcome;             /* enum qrb_quantize_outcome */
    uint32_t reserved;            /* 0 */
} qrb_quantize_report;

/** An empty report. */
#define QRB_QUANTIZE_REPORT_INIT \
    { sizeof(qrb_quantize_report), 0, 0, 0, 0, 0, 0, 0 }

/**
 * Quantize one matrix, without calibration.
 *
 * RTN has one scale a group, row or matrix, on the grids of enum
 * qrb_grid_mode.  INT8 is the weights of Dettmers et al., "LLM.int8()",
 * NeurIPS 2022, arXiv:2208.07339: the largest magnitude s of a row becomes 127
 * and a code is rne(127 w / s).  NF4 is the data type of Dettmers et al.,
 * "QLoRA", NeurIPS 2023, arXiv:2305.14314, over blocks of consecutive elements
 * that may span rows, in float32; with double_quant the blocks' magnitudes,
 * less their mean, are quantized to 8 bits in turn.
 *
 * The result is a function of w and the options alone: not of the number of
 * threads, the rounding mode of the host, or its locale.  Finite weights give
 * finite scales and values.
 *
 * @param w   [rows, cols] F32, F64, F16 or BF16, any strides, every element
 *            finite; borrowed
 * @param out receives the quantized matrix, or NULL on failure; the caller
 *            releases it with qrb_packed_destroy(), before the context goes;
 *            it does not need the quantizer any more
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE (not a matrix, empty,
 *         or rows shorter than group_size); QRB_E_NOT_FINITE (the message
 *         says which element; of NF4 also F64 weights beyond float32);
 *         QRB_E_UNSUPPORTED (w is of another type, or the kind is FP16 or
 *         BF16, which have no codes); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_quantizer_quantize(const qrb_quantizer *quantizer,
                                          const qrb_tensor *w,
                                          qrb_packed **out);

/**
 * Quantize one matrix by what is known of its use.
 *
 * GPTQ (Frantar et al., "GPTQ", ICLR 2023, arXiv:2210.17323, in the order of
 * its published program) rounds one column after the other on a uniform grid
 * and makes up for the error of each in the columns to come, as the Hessian
 * H = (2 / sequences) X^T X asks for: its loss is tr(D Hd D^T) / 2 with
 * D = W - Q and Hd = H + damping mean(diag H).  Weights of columns whose
 * inputs are always zero become the value of 0; they still widen the ranges of
 * whole rows.  Where Hd is not definite the damping goes up by .0015, ten
 * times at most.  No finite input makes it fail: round to nearest is kept
 * where no damping helps and where it leaves the smaller output error, and the
 * report says so.  Arithmetic is in double, also with `compat`, which then is
 * about S_GPTQ alone; S_SMOOTH, which does not clamp, is refused.  With
 * act_order and without static_groups the columns of a group are not
 * consecutive, and 32 bits a column say which group is whose.  It needs inputs
 * with a Gram matrix.
 *
 * SMOOTHQUANT (Xiao et al., ICML 2023, arXiv:2211.10438) multiplies column j
 * of the weights by s_j = max|x_j|^alpha / max|w_j|^(1 - alpha), and rounds to
 * nearest on the grid S_SMOOTH; its inputs are to be divided by s, and columns
 * of inputs that are always zero have s_j = 1.  It scales inputs in chains,
 * and needs inputs with ranges.
 *
 * AWQ (Lin et al., MLSys 2024, arXiv:2306.00978) multiplies column j by
 * s_j = mean|x_j|^r, at least 1e-4, over the root of their largest times their
 * smallest; of all r it takes the one whose weights, rounded on the grid A_AWQ
 * (A_GPTQ's scale where the zero point is no code, unless compat), change
 * |X (W - Q)^T|^2 least, r = 0, which is rounding to nearest, included.  With
 * duo_scaling s_j = mean|x_j|^r / (mean_r(|w_rj| / max of its group)^(1-r) +
 * 1e-4).  Alone it then limits the weights of each group to the multiple of
 * their largest, of 1, 0.95, .. 0.55, that changes the group's share of the
 * outputs least, unless all limits together make the whole worse.  In chains
 * it scales inputs.  It needs inputs with Gram matrix and ranges, and its loss
 * is the mean squared error of the outputs.
 *
 * SQUEEZELLM (Kim et al., ICML 2024, arXiv:2306.07629) gives each row a table
 * of 2^bits values that make the sum of fisher (w - q)^2 over its weights
 * small, zeros left out; rows without squared gradients count all weights
 * alike.  The sum is the loss of the report.  Kept beside the codes are, in
 * this order: the `sensitive` percentage of the weights of largest fisher, that
 * is, those above the one of this rank; and weights |w| >= t, with quartiles q1
 * and q3 of all weights and t = max(|q1 - T (q3 - q1)|, |q3 + T (q3 - q1)|), of
 * the least T that leaves `outliers` percent in all, or of T = `range`.  It
 * needs fisher; in chains, where column j of the weights is multiplied by s_j,
 * that is divided by s_j^2.
 *
 * SIGN is the mean magnitude of a row or group, with the sign of each weight.
 *
 * A residual, which the options may ask for, are the errors W - Q of the most
 * important columns, quantized in turn; values are the sums of both.
 *
 * Where inputs are scaled, values come back in the coordinates of the inputs
 * as they were: qrb_packed_dequantize() divides by s, and
 * qrb_packed_input_scale() shows it.  Matrices with the same inputs that must
 * share one s are quantized as one, stacked by rows.
 *
 * The relative output error is that of the Gram matrix, in double, and costs
 * rows * columns^2 multiplications; it is computed when there is a report.
 *
 * @param w           as of qrb_quantizer_quantize()
 * @param calibration NULL: nothing is known
 * @param report      filled on success; NULL: not wanted
 * @param out         as of qrb_quantizer_quantize()
 * @return as of qrb_quantizer_quantize(); QRB_E_INVALID_ARG also where the
 *         method needs what the calibration does not have (the message names
 *         it), or fisher has an element below 0; QRB_E_SHAPE,
 *         QRB_E_UNSUPPORTED and QRB_E_NOT_FINITE also of the calibration;
 *         QRB_E_CANCELLED
 */
QRB_API qrb_status
qrb_quantizer_quantize_with(const qrb_quantizer *quantizer, const qrb_tensor *w,
                            const qrb_calibration *calibration,
                            qrb_quantize_report *report, qrb_packed **out);

/**
 * Fake quantization: w becomes its quantized value, the same bits that
 * qrb_quantizer_quantize() and qrb_packed_dequantize() give in a tensor of w's
 * type.  FP16 and BF16 round through their type and back.
 *
 * @param w [rows, cols] F32, F64, F16 or BF16, any strides, every element
 *          finite; on failure untouched
 * @return as of qrb_quantizer_quantize(); QRB_E_NOT_FINITE also where FP16 or
 *         BF16 would make an element infinite
 */
QRB_API qrb_status qrb_quantizer_fake(const qrb_quantizer *quantizer,
                                      qrb_tensor *w);

/**
 * Fake quantization with calibration: the bits of
 * qrb_quantizer_quantize_with() and qrb_packed_dequantize().
 *
 * @return as of both; QRB_E_UNSUPPORTED also with a report of FP16 or BF16; w
 *         is untouched on failure
 */
QRB_API qrb_status
qrb_quantizer_fake_with(const qrb_quantizer *quantizer, qrb_tensor *w,
                        const qrb_calibration *calibration,
                        qrb_quantize_report *report);

/**
 * Measure a packed matrix: the report of qrb_quantizer_quantize_with(), whose
 * loss and damping it keeps.
 *
 * @param w           the weights as they were given
 * @param calibration NULL, or inputs without Gram matrix: no output error
 * @param report      filled; set struct_size
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE; QRB_E_UNSUPPORTED
 *         (type); QRB_E_NOT_FINITE; QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_packed_measure(const qrb_packed *packed,
                                      const qrb_tensor *w,
                                      const qrb_calibration *calibration,
                                      qrb_quantize_report *report);

/** Release a packed matrix; NULL is fine. */
QRB_API void qrb_packed_destroy(qrb_packed *packed);

/**
 * Write the values into a float tensor, rounded to nearest even in its type;
 * what a shifted grid puts beyond the type's largest value becomes that value.
 *
 * @param out [rows, cols] F32, F64, F16 or BF16, any strides; on failure
 *            untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE; QRB_E_UNSUPPORTED
 *         (out is of another type); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_packed_dequantize(const qrb_packed *packed,
                                         qrb_tensor *out);

/**
 * Read the codes, which are stored in their bits, one each into an int32.
 *
 * @param codes [rows, cols]
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL)
 */
QRB_API qrb_status qrb_packed_read_codes(const qrb_packed *packed,
                                         int32_t *codes);

/** Bytes of memory that a packed matrix takes, with what its products have
 * laid out so far; 0 for NULL. */
QRB_API uint64_t qrb_packed_memory(const qrb_packed *packed);

/**
 * Scales [rows, groups], in double: a value of RTN and INT8 is
 * scale * (code - zero point).  SQUEEZELLM: 1 a row.  NF4: the absmax of each block, after
 * double_quant as it comes back; a value is that times one of the sixteen of
 * the type.
 *
 * @return owned by the packed matrix; NULL for NULL
 */
QRB_API const double *qrb_packed_scales(const qrb_packed *packed);

/**
 * Zero points like scales; integers but in A_SPQR.
 *
 * @return owned by the packed matrix; NULL where the grid has none (S_ABS,
 *         S_SMOOTH, INT8, NF4, SQUEEZELLM) and for NULL
 */
QRB_API const double *qrb_packed_zero_points(const qrb_packed *packed);

/**
 * The table of SQUEEZELLM: values of each row's codes, in ascending order.
 *
 * @return [rows, 2^bits], owned by the packed matrix; NULL for other kinds and
 *         for NULL
 */
QRB_API const float *qrb_packed_table(const qrb_packed *packed);

/**
 * Outliers in compressed sparse rows: those of row r are elements
 * row_start[r] to row_start[r + 1] - 1 of columns, ascending, and of values,
 * which are added to what the codes stand for.
 *
 * @param row_start receives [rows + 1], or NULL where there are none; as the
 *                  others owned by the packed matrix
 * @param columns   receives [row_start[rows]], or NULL
 * @param values    receives [row_start[rows]], or NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL)
 */
QRB_API qrb_status qrb_packed_outliers(const qrb_packed *packed,
                                       const size_t **row_start,
                                       const uint32_t **columns,
                                       const float **values);

/**
 * What inputs are divided by, and what qrb_packed_dequantize() divides the
 * columns by.
 *
 * @return [cols], owned by the packed matrix; NULL where inputs are as they
 *         were and for NULL
 */
QRB_API const double *qrb_packed_input_scale(const qrb_packed *packed);

/**
 * The group of each column, where groups are not consecutive columns.
 *
 * @return [cols], owned by the packed matrix; NULL where they are and for NULL
 */
QRB_API const uint32_t *qrb_packed_group_index(const qrb_packed *packed);

/** Scales a row (1 for a whole row; NF4 and per tensor: all of them). */
QRB_API size_t qrb_packed_groups(const qrb_packed *packed);

/**
 * Average bits a weight as formats store it: the code; of RTN 16 bits a scale,
 * and a zero point of as many bits as a code (16 where the mode lets it be no
 * code, none where the mode fixes it); of INT8 32 bits a row; of NF4 32 bits a
 * block, or with double_quant 8 and 32 for each 256 blocks; beside that 16 a
 * column for a scale of the inputs, 32 a column where groups are not
 * consecutive, 16 a value of a table, 64 a sparse weight and 32 a row of them,
 * and what a residual takes, with 32 for each of its columns.
 */
QRB_API double qrb_packed_bits_per_weight(const qrb_packed *packed);

/* Start from QRB_PACKED_MULTIPLY_OPTIONS_INIT. */
typedef struct qrb_packed_multiply_options {
    size_t struct_size;
    uint32_t act_bits; /* 8: each token of x becomes codes rne(x / s) of its
                          largest magnitude, s = max(|x|, 1e-5) / 127; 0: x as
                          it is, in float32; default 0 */
    uint32_t reserved; /* 0 */
} qrb_packed_multiply_options;

#define QRB_PACKED_MULTIPLY_OPTIONS_INIT \
    { sizeof(qrb_packed_multiply_options), 0, 0 }

/**
 * The product of a linear layer, y = x W^T + bias, from the codes: no float
 * copy of the weights is made, but for a tile of rows a thread.
 *
 * Differs from the product with the values of qrb_packed_dequantize() by
 * rounding in float32.  Codes of a uniform grid whose groups are whole rows or
 * multiples of 32 columns are multiplied as integers.  There x is kept in 22
 * bits of the largest of 32 to 256 columns each, and the bits of the result
 * are a function of the arguments alone; everywhere they do not depend on the
 * number of threads.
 *
 * The first product with a matrix lays its scales out in float32.
 *
 * @param x       [tokens, in] F32, F64, F16 or BF16, any strides, every element
 *                finite; rounded to float32
 * @param bias    [out] of a float type, or NULL
 * @param options NULL: the defaults
 * @param y       [tokens, out] of a float type, any strides, no memory shared
 *                with x; what is beyond the type's largest value becomes that
 *                value; on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or act_bits neither 0 nor 8);
 *         QRB_E_SHAPE; QRB_E_UNSUPPORTED (types); QRB_E_NOT_FINITE;
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status
qrb_packed_multiply(const qrb_packed *packed, const qrb_tensor *x,
                    const qrb_tensor *bias,
                    const qrb_packed_multiply_options *options, qrb_tensor *y);

/**
 * The product of a linear layer as LLM.int8() computes it at run time (section
 * 3 of its paper, and its published code): y = x W^T + bias, where
 *
 *  - columns of x in which any token has a magnitude of at least `threshold`
 *    are multiplied as they are with the dequantized weights;
 *  - all other elements of a token become codes rne(127 x / s) of the token's
 *    largest magnitude s, the outlying elements left out, and are multiplied
 *    in integers; a token that is all zero or outlying has codes 0.
 *
 * The result is a function of the arguments alone, not of the number of
 * threads.
 *
 * @param weights   [out, in] of kind INT8
 * @param x         [tokens, in] F32, F64, F16 or BF16, every element finite
 * @param threshold 6 as in the paper; 0: no column is an outlier
 * @param bias      [out] of a float type, or NULL
 * @param y         [tokens, out] of a float type, no memory shared with x;
 *                  what is beyond the type's largest value becomes that value
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, another kind of weights, threshold
 *         below 0 or NaN); QRB_E_SHAPE; QRB_E_UNSUPPORTED (types);
 *         QRB_E_NOT_FINITE; QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_packed_int8_multiply(const qrb_packed *weights,
                                            const qrb_tensor *x,
                                            double threshold,
                                            const qrb_tensor *bias,
                                            qrb_tensor *y);

/* Of activations.  Start from QRB_ACTIVATION_OPTIONS_INIT. */
typedef struct qrb_activation_options {
    size_t struct_size;
    size_t group_size;    /* features of a token per scale, the last group may
                             be shorter, as a head's of keys and values; 0: the
                             whole token (default) */
    double clip_ratio;    /* of both ends of the range, in (0, 1]; default 1 */
    uint32_t bits;        /* 2..8; default 8 */
    uint32_t grid;        /* enum qrb_grid_mode; default A_GPTQ */
    uint32_t granularity; /* enum qrb_granularity; QRB_PER_TENSOR: one scale
                             for all tokens; default per group */
    uint32_t reserved;    /* 0 */
} qrb_activation_options;

/** Activations of 8 bits with a zero point, per token. */
#define QRB_ACTIVATION_OPTIONS_INIT \
    { sizeof(qrb_activation_options), 0, 1.0, 8, QRB_GRID_A_GPTQ, \
      QRB_PER_GROUP, 0 }

/**
 * Fake-quantize activations, with scales that they choose themselves: dynamic
 * quantization of a layer's inputs, or of keys and values.
 *
 * The range [lo, hi] of a token, a group of its features or of all becomes
 * [c lo, c hi] with the clip ratio c, and the grid's mode makes scale and zero
 * point of that (SpinQuant, arXiv:2405.16406, and QuaRot, arXiv:2404.00456:
 * A_GPTQ, A_GRP with groups, S_ACT; OmniQuant: A_OMNI; SmoothQuant: S_SMOOTH).
 * F64 in double, all other types in float32.  The derivative that training
 * takes through it is 1 everywhere.
 *
 * May be called inside of callbacks, as by a host's forward pass.
 *
 * @param options NULL: the defaults
 * @param x       [tokens, features] F32, F64, F16 or BF16, any strides, every
 *                element finite; on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or an option outside its range: the
 *         message names it); QRB_E_SHAPE (not a matrix, empty, or tokens
 *         shorter than group_size); QRB_E_NOT_FINITE (the message says which
 *         element); QRB_E_UNSUPPORTED (type); QRB_E_NO_MEMORY
 */
QRB_API qrb_status qrb_activation_fake(qrb_context *ctx,
                                       const qrb_activation_options *options,
                                       qrb_tensor *x);

/**
 * NF4 codes as bitsandbytes stores them: two in a byte, the earlier one in the
 * high nibble; an odd count ends with the code of zero, 7.
 *
 * @param codes [count] of 0..15
 * @param bytes [(count + 1) / 2]
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or a code outside 0..15)
 *
 * Thread safety: any thread, as of qrb_nf4_unpack().
 */
QRB_API qrb_status qrb_nf4_pack(const int32_t *codes, size_t count,
                                uint8_t *bytes);

/**
 * The codes of qrb_nf4_pack() again.
 *
 * @param bytes [(count + 1) / 2]
 * @param codes [count]
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL)
 */
QRB_API qrb_status qrb_nf4_unpack(const uint8_t *bytes, size_t count,
                                  int32_t *codes);

QRB_END_DECLS

#endif
