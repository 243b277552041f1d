/* What a kind of quantizer must offer.  Adding one means a file with a struct
 * qrb__quantizer_kind and a line in the table of quantizer.c. */
#ifndef QRB_QUANT_QUANTIZER_H
#define QRB_QUANT_QUANTIZER_H

#include "quant/packed.h"

struct qrb_quantizer {
    qrb_context *ctx;
    qrb_quantizer_options options; /* checked */
    const struct qrb__quantizer_kind *kind;
};

/* Runs are arrays of the packed matrix's precision.  Fit, encode and decode
 * get whole units, or pieces of one where its `cut` is set; they run in tasks
 * on any thread and cannot fail. */
struct qrb__quantizer_kind {
    uint32_t kind; /* enum qrb_quantizer_kind */
    const char *name;
    /* Refuse what does not fit the kind, and write out what 0 stands for. */
    qrb_status (*check)(qrb_context *ctx, qrb_quantizer_options *options);
    /* Rounding through a type without codes: all of the kind, or NULL. */
    qrb_status (*round)(qrb_context *ctx, const struct qrb__view *w);
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
    /* Bits of storage but the codes' own, of the whole matrix. */
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

/* The check of kinds that only their name describes. */
qrb_status qrb__quantizer_takes_no_options(qrb_context *ctx,
                                           qrb_quantizer_options *options);

extern const struct qrb__quantizer_kind qrb__quantizer_rtn;
extern const struct qrb__quantizer_kind qrb__quantizer_int8;
extern const struct qrb__quantizer_kind qrb__quantizer_nf4;
extern const struct qrb__quantizer_kind qrb__quantizer_fp16;
extern const struct qrb__quantizer_kind qrb__quantizer_bf16;

#endif
