/* What a kind of quantizer must offer.  Adding one means a file with a struct
 * qrb__quantizer_kind and a line in the table of quantizer.c. */
#ifndef QRB_QUANT_QUANTIZER_H
#define QRB_QUANT_QUANTIZER_H

#include "quant/packed.h"
#include "quant/work.h"

struct qrb_quantizer {
    qrb_context *ctx;
    qrb_quantizer_options options; /* checked; pointers to options of a method
                                      are NULL but for the kind's own */
    const struct qrb__quantizer_kind *kind;
    struct qrb__residual *residual; /* NULL: none */
    void *method;              /* the kind's own options, a copy; or NULL */
    qrb_quantizer **scalings;  /* [scaling_count], of a chain, owned */
    size_t scaling_count;
};

/* What a kind needs to know of a matrix. */
enum qrb__need {
    QRB__NEEDS_GRAM = 1,
    QRB__NEEDS_RANGES = 2,
    QRB__NEEDS_FISHER = 4
};

/* Runs are arrays of the packed matrix's precision.  Fit, encode and decode
 * get whole units, or pieces of one where its `cut` is set (decode: pieces of
 * any unit); they run in tasks on any thread and cannot fail. */
struct qrb__quantizer_kind {
    uint32_t kind; /* enum qrb_quantizer_kind */
    const char *name;
    bool has_bits;  /* its short name goes on with bits and a group size */
    uint32_t needs; /* enum qrb__need, or-ed */
    /* Options of its own: where qrb_quantizer_options points at them, and
     * their defaults with struct_size; NULL: none. */
    size_t method_at;
    const void *method_defaults;
    /* Refuse what does not fit the kind, and write out what 0 stands for.
     * options->bits to double_quant are in range already but for bits; the
     * options of its own lie at `method` and may be changed. */
    qrb_status (*check)(qrb_context *ctx, qrb_quantizer_options *options,
                        void *method);
    /* Rounding through a type without codes: all of the kind, or NULL. */
    qrb_status (*round)(qrb_context *ctx, const struct qrb__view *w);
    /* Choose scales of inputs and hand them to qrb__work_scale_inputs(), or
     * NULL; alone it runs before the codes are made, in a chain it is all that
     * the kind does. */
    qrb_status (*scale_inputs)(const qrb_quantizer *quantizer,
                               struct qrb__matrix_work *work);
    /* Make scales and codes from the working copy; NULL: unit by unit, by fit
     * and encode. */
    qrb_status (*solve)(const qrb_quantizer *quantizer,
                        struct qrb__matrix_work *work);
    /* Set unit, cut, precision and which scales there are, from the options,
     * the shape and the type of the weights. */
    void (*layout)(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype);
    /* Scale of one unit. */
    void (*fit)(qrb_packed *packed, size_t unit, const void *run, size_t n);
    /* The same for matrices of one unit, which no task sees whole; NULL where
     * units are never cut. */
    qrb_status (*fit_matrix)(qrb_packed *packed, const struct qrb__view *w);
    /* What comes after every unit is fitted, or NULL. */
    qrb_status (*finish)(qrb_packed *packed);
    void (*encode)(const qrb_packed *packed, size_t unit, const void *run,
                   size_t n, int32_t *codes);
    void (*decode)(const qrb_packed *packed, size_t unit, const int32_t *codes,
                   size_t n, void *run);
    /* Bits of storage of scales and zero points, of the whole matrix. */
    double (*overhead)(const qrb_packed *packed);
};

/* Run `i` of the weights [n] in the packed matrix's precision. */
typedef void (*qrb__run_fn)(size_t i, size_t worker, void *run, size_t n,
                            void *arg);

/* Load each run of w and call fn with it, in parallel.  QRB_E_NOT_FINITE if
 * one is not, after which fn has not seen all of them. */
qrb_status qrb__weights_for_each_run(qrb_packed *packed,
                                     const struct qrb__view *w, qrb__run_fn fn,
                                     void *arg);
/* QRB_E_NOT_FINITE with the first element of w that is not. */
qrb_status qrb__fail_not_finite(qrb_context *ctx, const struct qrb__view *w);

/* Scales and codes of all units of w by the kind's fit and encode; what a
 * solve() calls that has changed the working copy first. */
qrb_status qrb__quantize_units(qrb_packed *packed, const struct qrb__view *w);

/* Fill a report, whose struct_size is checked; w are the weights as they were
 * given, inputs may be NULL. */
qrb_status qrb__packed_measure(const qrb_packed *packed,
                               const struct qrb__view *w,
                               const qrb_observer *inputs,
                               qrb_quantize_report *report);

/* Row `row` of the weights w and of their errors w - q, [cols] each. */
void qrb__packed_error(const qrb_packed *packed, const struct qrb__view *w,
                       size_t row, double *weights, double *errors);

/* A packed matrix for w, laid out, with room for its scales and codes. */
qrb_status qrb__packed_lay_out(const qrb_quantizer *quantizer,
                               const struct qrb__view *w, qrb_packed **out);

/* A copy without the scalings of a chain. */
qrb_status qrb__quantizer_copy(const qrb_quantizer *quantizer,
                               qrb_quantizer **out);

/* The check of kinds that only their name describes. */
qrb_status qrb__quantizer_takes_no_options(qrb_context *ctx,
                                           qrb_quantizer_options *options,
                                           void *method);

/* What kinds on a uniform grid share (rtn.c): checks of the common options,
 * the layout with a grid of the mode, and units of a grid. */
qrb_status qrb__grid_check_options(qrb_context *ctx,
                                   const qrb_quantizer_options *options,
                                   uint32_t mode, const char *name);
void qrb__grid_layout(qrb_packed *packed, const qrb_quantizer_options *options,
                      uint32_t mode, uint32_t dtype);
void qrb__grid_fit_unit(qrb_packed *packed, size_t unit, const void *run,
                        size_t n);
qrb_status qrb__grid_fit_matrix(qrb_packed *packed, const struct qrb__view *w);
void qrb__grid_encode_unit(const qrb_packed *packed, size_t unit,
                           const void *run, size_t n, int32_t *codes);
void qrb__grid_decode_unit(const qrb_packed *packed, size_t unit,
                           const int32_t *codes, size_t n, void *run);
double qrb__grid_overhead(const qrb_packed *packed);

/* All kinds, and one by its number or its short name's beginning. */
extern const struct qrb__quantizer_kind *const qrb__quantizer_kinds[];
extern const size_t qrb__quantizer_kind_count;
const struct qrb__quantizer_kind *qrb__quantizer_kind_of(uint32_t kind);

extern const struct qrb__quantizer_kind qrb__quantizer_rtn;
extern const struct qrb__quantizer_kind qrb__quantizer_sign;
extern const struct qrb__quantizer_kind qrb__quantizer_int8;
extern const struct qrb__quantizer_kind qrb__quantizer_nf4;
extern const struct qrb__quantizer_kind qrb__quantizer_fp16;
extern const struct qrb__quantizer_kind qrb__quantizer_bf16;
extern const struct qrb__quantizer_kind qrb__quantizer_gptq;
extern const struct qrb__quantizer_kind qrb__quantizer_smoothquant;
extern const struct qrb__quantizer_kind qrb__quantizer_squeezellm;
extern const struct qrb__quantizer_kind qrb__quantizer_awq;

#endif
