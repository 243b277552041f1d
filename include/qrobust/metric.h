/* Running measurements on arrays: perplexity, KL, fidelity, recovery. */
#ifndef QROBUST_METRIC_H
#define QROBUST_METRIC_H

#include <qrobust/tensor.h>

QRB_BEGIN_DECLS

/** A running measurement of language-model output. */
typedef struct qrb_metric qrb_metric;

/** Make a running measurement; out is NULL on failure. */
QRB_API qrb_status qrb_metric_create(qrb_context *ctx, qrb_metric **out);

/** Release it; NULL is fine. */
QRB_API void qrb_metric_destroy(qrb_metric *metric);

/** Add negative log-likelihoods [count] in nats. */
QRB_API qrb_status qrb_metric_add_nll(qrb_metric *metric, const float *nll,
                                      size_t count);

/**
 * Add logits of a base model and of the measured one at the same positions.
 *
 * @param base, logits [rows, vocab]
 * @param targets      [rows], the true tokens; -1: counts for KL only
 */
QRB_API qrb_status qrb_metric_add_logits(qrb_metric *metric,
                                         const float *base,
                                         const float *logits,
                                         const int32_t *targets, size_t rows,
                                         size_t vocab);

/* Set struct_size first.  What was not measured is NaN. */
typedef struct qrb_metric_result {
    size_t struct_size;
    uint64_t scored; /* tokens with a target */
    uint64_t pairs;  /* rows with a base */
    double nll;      /* mean, nats */
    double perplexity;
    double kl_mean; /* KL(base || measured), nats a token */
    double kl_stderr;
    double kl_median;
    double kl_p99;
    double kl_max;
    double top1_agreement; /* fraction of rows with equal argmax */
    double delta_p_mean;   /* measured - base, of the true token */
    double delta_p_rms;
} qrb_metric_result;

/** What was measured so far. */
QRB_API qrb_status qrb_metric_get(const qrb_metric *metric,
                                  qrb_metric_result *out);

/**
 * Recovery % = 100 (attacked - defended) / (attacked - clean) (methods 4.6).
 *
 * @return NaN where attacked <= clean
 */
QRB_API double qrb_recovery(double clean, double attacked, double defended);

/* Set struct_size first. */
typedef struct qrb_prompt_result {
    size_t struct_size;
    double strict_ordering;        /* fraction clean < defended < attacked */
    double defended_below;         /* fraction defended < attacked */
    double variance_reduction;     /* %, of perplexity, n - 1 */
    double log_variance_reduction; /* %, of log perplexity */
    uint64_t prompts;
} qrb_prompt_result;

/** Prompt statistics of [count] perplexities each (methods 4.6). */
QRB_API qrb_status qrb_prompt_statistics(const double *clean,
                                         const double *defended,
                                         const double *attacked, size_t count,
                                         qrb_prompt_result *out);

/** One window of a perplexity evaluation. */
typedef struct qrb_window {
    size_t begin;        /* first token */
    size_t end;          /* one past the last */
    size_t first_scored; /* position in the text, in (begin, end] */
} qrb_window;

/** Ways to cut a text into windows (methods 6.3). */
enum qrb_window_mode {
    QRB_WINDOW_SLIDING = 0,
    QRB_WINDOW_BLOCKS = 1,
    QRB_WINDOW_LLAMACPP = 2
};

/**
 * Window `index` of a text of `count` tokens.
 *
 * @param context window length; at least 2
 * @param stride  of sliding windows, 1 <= stride < context; of the others it
 *                is the context
 * @return QRB_OK; QRB_E_INVALID_ARG; QRB_E_STATE (index is past the last
 *         window: the normal end of a loop)
 */
QRB_API qrb_status qrb_window_at(uint32_t mode, size_t count, size_t context,
                                 size_t stride, size_t index,
                                 qrb_window *out);

/* Set struct_size first. */
typedef struct qrb_fidelity_result {
    size_t struct_size;
    double cosine;
    double relative_l2;
    double max_abs;
    double sqnr_db;
} qrb_fidelity_result;

/** Compare two float tensors of one shape (methods 6.2). */
QRB_API qrb_status qrb_fidelity(const qrb_tensor *reference,
                                const qrb_tensor *approximation,
                                qrb_fidelity_result *out);

QRB_END_DECLS

#endif
