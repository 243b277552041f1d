/* Calibration: statistics of the inputs of one linear layer. */
#ifndef QROBUST_OBSERVER_H
#define QROBUST_OBSERVER_H

#include <qrobust/source.h>

QRB_BEGIN_DECLS

/** What a linear layer was fed with: counts, and the statistics asked for. */
typedef struct qrb_observer qrb_observer;

/** What an observer keeps; flags.  Pinned values. */
enum qrb_observe {
    QRB_OBSERVE_GRAM = 1,  /**< G = X^T X over all tokens, O(columns^2) */
    QRB_OBSERVE_RANGES = 2 /**< of each column: sum |x|, min x, max x */
};

/* Start from QRB_OBSERVER_OPTIONS_INIT. */
typedef struct qrb_observer_options {
    size_t struct_size;
    size_t columns;    /* features of an input, at least 1; no default */
    uint32_t what;     /* enum qrb_observe, or-ed; default both */
    uint32_t reserved; /* 0 */
} qrb_observer_options;

/** The defaults of an observer; set columns. */
#define QRB_OBSERVER_OPTIONS_INIT \
    { sizeof(qrb_observer_options), 0, \
      QRB_OBSERVE_GRAM | QRB_OBSERVE_RANGES, 0 }

/**
 * Make an observer that has seen nothing.
 *
 * The Gram matrix takes about 4 columns^2 bytes, as its half above the
 * diagonal is kept.
 *
 * @param options copied
 * @param out     receives the observer, or NULL on failure; the caller
 *                releases it with qrb_observer_destroy(), before the context
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, no columns, an unknown option);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_observer_create(qrb_context *ctx,
                                       const qrb_observer_options *options,
                                       qrb_observer **out);

/** Release an observer; NULL is fine. */
QRB_API void qrb_observer_destroy(qrb_observer *observer);

/**
 * Add one sequence of inputs.
 *
 * Products of float inputs are made in float32 over chunks of tokens of fixed
 * length and added up in double; those of F64 inputs, and of inputs whose
 * squares leave float32, in double.  The result is a function of the sequences
 * in their order and the instruction set of the context: not of the number of
 * threads.  The Hessian of GPTQ is (2 / sequences) G.
 *
 * May be called inside of callbacks, as of those that listen to taps, but like
 * all else on one thread at a time.
 *
 * @param x [tokens, columns] F32, F64, F16 or BF16, any strides, every element
 *          finite and of magnitude at most 2^400; borrowed
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_SHAPE; QRB_E_UNSUPPORTED
 *         (type); QRB_E_NOT_FINITE (the message says which element);
 *         QRB_E_NO_MEMORY; on failure the observer is as it was
 */
QRB_API qrb_status qrb_observer_add(qrb_observer *observer,
                                    const qrb_tensor *x);

/**
 * Add what another observer has seen, as if its sequences had been added here;
 * sums of the same numbers in another order may differ in rounding.
 *
 * @param other of as many columns, which keeps the same; it may be `observer`
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or it keeps something else);
 *         QRB_E_SHAPE (columns); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_observer_merge(qrb_observer *observer,
                                      const qrb_observer *other);

/**
 * Write an observer into a file, through a temporary one; digests cover every
 * byte.
 *
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_IO; QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_observer_save(const qrb_observer *observer,
                                     const char *path);

/**
 * Read an observer again, with the same bits.
 *
 * @param source of the file; copied, and not needed after the call
 * @param out    as of qrb_observer_create()
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_IO; QRB_E_FORMAT (no such file,
 *         damaged, or with statistics that no inputs have); QRB_E_UNSUPPORTED
 *         (of a newer version); QRB_E_CALLBACK; QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_observer_load(qrb_context *ctx,
                                     const qrb_source *source,
                                     qrb_observer **out);

/** Features of an input; 0 for NULL. */
QRB_API size_t qrb_observer_columns(const qrb_observer *observer);

/** enum qrb_observe, or-ed; 0 for NULL. */
QRB_API uint32_t qrb_observer_what(const qrb_observer *observer);

/** Sequences that were added; 0 for NULL. */
QRB_API uint64_t qrb_observer_sequences(const qrb_observer *observer);

/** Tokens of all sequences; 0 for NULL. */
QRB_API uint64_t qrb_observer_tokens(const qrb_observer *observer);

/**
 * Write the Gram matrix G = X^T X, both halves of it.
 *
 * @param out [columns, columns] F64 or F32 (rounded to nearest, and what is
 *            beyond its largest value becomes that), any strides; on failure
 *            untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_STATE (no Gram matrix is
 *         kept); QRB_E_SHAPE; QRB_E_UNSUPPORTED (type); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_observer_read_gram(const qrb_observer *observer,
                                          qrb_tensor *out);

/**
 * Sums of |x| of each column over all tokens.
 *
 * @return [columns], owned by the observer, which changes them in
 *         qrb_observer_add() and qrb_observer_merge(); NULL where no ranges
 *         are kept and for NULL.  Also of the two that follow.
 */
QRB_API const double *qrb_observer_abs_sums(const qrb_observer *observer);

/** Smallest x of each column; 0 before the first token. */
QRB_API const double *qrb_observer_minima(const qrb_observer *observer);

/** Largest x of each column; 0 before the first token. */
QRB_API const double *qrb_observer_maxima(const qrb_observer *observer);

QRB_END_DECLS

#endif
