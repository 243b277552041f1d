/* Running measurements on arrays: perplexity, KL, fidelity, recovery. */
#ifndef QROBUST_METRIC_H
#define QROBUST_METRIC_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/** A running measurement of language-model output. */
typedef struct qrb_metric qrb_metric;

/**
 * Make a running measurement.  It keeps one double for each pair of rows that
 * it compares, for the median and percentiles, and no logits.
 *
 * @param out receives the measurement, or NULL on failure; the caller releases
 *            it with qrb_metric_destroy()
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_metric_create(qrb_context *ctx, qrb_metric **out);

/** Release it; NULL is fine. */
QRB_API void qrb_metric_destroy(qrb_metric *metric);

/**
 * Add negative log-likelihoods of scored tokens.  What is measured does not
 * depend on how the tokens are dealt out to calls.
 *
 * @param nll [count], nats, every element finite
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL); QRB_E_NOT_FINITE (the message
 *         says which element; nothing was added); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_metric_add_nll(qrb_metric *metric, const float *nll,
                                      size_t count);

/**
 * Add rows of logits of the measured model, and of a base model at the same
 * positions.  A row counts
 *
 *  - for the likelihood where its target is not -1, with softmax in double;
 *  - for KL(base || measured) = sum p (ln p - ln q) and for agreement (equal
 *    argmax, the first index on ties) where there is a base;
 *  - for the change of the true token's probability where there are both.
 *
 * The result depends neither on the number of threads nor on how rows are
 * dealt out to calls.
 *
 * @param base    [rows, vocab], every element finite, or NULL
 * @param logits  [rows, vocab], every element finite
 * @param targets [rows], the true tokens; -1: counts for KL only; NULL: all -1
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or a target outside the
 *         vocabulary); QRB_E_SHAPE (vocab is 0, or rows * vocab overflows);
 *         QRB_E_NOT_FINITE (the message says which element); QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT; on failure nothing was added
 */
QRB_API qrb_status qrb_metric_add_logits(qrb_metric *metric,
                                         const float *base,
                                         const float *logits,
                                         const int32_t *targets, size_t rows,
                                         size_t vocab);

/* Set struct_size first.  What was not measured is NaN.  The standard error of
 * a mean of n is sqrt((E x^2 - (E x)^2) / (n - 1)), and 0 for n <= 10;
 * percentiles interpolate linearly between neighbours in order. */
typedef struct qrb_metric_result {
    size_t struct_size;
    uint64_t scored;   /* tokens with a target */
    uint64_t pairs;    /* rows with a base */
    double nll;        /* mean, nats */
    double perplexity; /* exp(nll) */
    double kl_mean;    /* KL(base || measured), nats a token */
    double kl_stderr;  /* standard error of the mean */
    double kl_median;  /* over the rows with a base, like what follows */
    double kl_p99;     /* 99 % of the rows have less */
    double kl_max;     /* largest */
    double top1_agreement; /* fraction of rows with equal argmax */
    double delta_p_mean;   /* measured - base, of the true token */
    double delta_p_rms;    /* root of the mean square of the same */
    double kl_min;         /* smallest */
    double kl_p999;        /* 99.9 % */
    double kl_p10;         /* 10 % */
    double kl_p5;          /* 5 % */
    double kl_p1;          /* 1 % */
    double top1_stderr;      /* sqrt(p (1 - p) / (n - 1)) */
    double base_nll;         /* mean over rows with a base and a target */
    double log_ratio;        /* of perplexities, over the same rows */
    double log_ratio_stderr; /* with the covariance of the two */
} qrb_metric_result;

/**
 * What was measured so far.
 *
 * @param out its struct_size set by the caller; on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, struct_size); QRB_E_NO_MEMORY (for
 *         a sorted copy of what the percentiles need); QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_metric_get(const qrb_metric *metric,
                                  qrb_metric_result *out);

/**
 * Recovery % = 100 (attacked - defended) / (attacked - clean), of perplexities
 * of one precision.
 *
 * @return NaN where attacked <= clean, and where an argument is NaN
 *
 * Thread safety: any thread.
 */
QRB_API double qrb_recovery(double clean, double attacked, double defended);

/* Set struct_size first.  A fraction of no prompts, a variance of fewer than
 * two and a reduction from a variance of zero are NaN. */
typedef struct qrb_prompt_result {
    size_t struct_size;
    double strict_ordering;        /* fraction clean < defended < attacked */
    double defended_below;         /* fraction defended < attacked */
    double variance_reduction;     /* %, of perplexity, n - 1 */
    double log_variance_reduction; /* %, of log perplexity */
    uint64_t prompts;              /* counted */
    double defended_variance;      /* of perplexity, n - 1 */
    double attacked_variance;      /* the same of the attacked model */
} qrb_prompt_result;

/**
 * Prompt statistics of perplexities: of all prompts, or of those
 * of one category.
 *
 * @param clean    [count], above 0; prompts of which all three perplexities
 *                 are NaN (too short to have one) are left out
 * @param defended [count], as clean
 * @param attacked [count], as clean
 * @param out      its struct_size set by the caller; on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, struct_size, or a perplexity of 0
 *         or less); QRB_E_NOT_FINITE
 *
 * Thread safety: any thread.
 */
QRB_API qrb_status qrb_prompt_statistics(const double *clean,
                                         const double *defended,
                                         const double *attacked, size_t count,
                                         qrb_prompt_result *out);

/** One window of a perplexity evaluation. */
typedef struct qrb_window {
    size_t begin;        /* first token */
    size_t end;          /* one past the last */
    size_t first_scored; /* position in the text, in (begin, end]: the tokens
                            [first_scored, end) are scored, each predicted by
                            those from begin on; equal to end: none is */
} qrb_window;

/** Ways to cut a text into windows.  The first token of
 * a text is context and never scored.  Pinned values. */
enum qrb_window_mode {
    /** A window each `stride` tokens, which scores what the one before did not
     * reach, until one reaches the end: count - 1 tokens, each once. */
    QRB_WINDOW_SLIDING = 0,
    /** Windows side by side, the last one as long as what is left; all but the
     * first token of each is scored. */
    QRB_WINDOW_BLOCKS = 1,
    /** Windows side by side without the shorter tail; of each the last
     * context - 1 - context / 2 tokens are scored, as llama.cpp does. */
    QRB_WINDOW_LLAMACPP = 2
};

/**
 * Window `index` of a text of `count` tokens.
 *
 * @param context window length; at least 2
 * @param stride  of sliding windows, 1 <= stride < context; of the others it
 *                is the context, and 0 means so
 * @return QRB_OK; QRB_E_INVALID_ARG (out is NULL, mode, context or stride);
 *         QRB_E_STATE (index is past the last window: the normal end of a
 *         loop); on failure out is untouched
 *
 * Thread safety: any thread.
 */
QRB_API qrb_status qrb_window_at(uint32_t mode, size_t count, size_t context,
                                 size_t stride, size_t index,
                                 qrb_window *out);

/* Set struct_size first. */
typedef struct qrb_fidelity_result {
    size_t struct_size;
    double cosine;      /* 1 if both tensors are zero, 0 if one is */
    double relative_l2; /* |x - x^| / |x|; NaN if x is zero */
    double max_abs;     /* max |x - x^| */
    double sqnr_db;     /* 10 log10(|x|^2 / |x - x^|^2); infinite if they are
                           equal, NaN if x is zero */
} qrb_fidelity_result;

/**
 * Compare two float tensors of one shape, in double; the result
 * does not depend on the number of threads.
 *
 * @param reference     F64, F32, F16 or BF16, any strides, every element finite
 * @param approximation the same, of the same context
 * @param out its struct_size set by the caller; on failure untouched
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, struct_size); QRB_E_SHAPE (not of
 *         one shape, or empty); QRB_E_UNSUPPORTED (type); QRB_E_NOT_FINITE (an
 *         element, or a sum of squares); QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_fidelity(const qrb_tensor *reference,
                                const qrb_tensor *approximation,
                                qrb_fidelity_result *out);

QRB_END_DECLS

#endif
