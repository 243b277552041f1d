/* How far a packed matrix is from its weights: |W - Q|^2 / |W|^2, and the same
 * of the outputs for the inputs X that were observed, |X (W - Q)^T|^2 =
 * sum_r d_r G d_r^T with G = X^T X and d_r the rows of W - Q.
 *
 * In double throughout: what solvers leave lies where G is small, so that
 * float32 would see its own rounding.  By blocks of rows of fixed size, added
 * in order.  O(rows cols^2) with a Gram matrix, else O(rows cols). */
#include "quant/quantizer.h"

#include <math.h>

#include "calib/observer.h"
#include "tensor/run.h"

enum { BLOCK = 128 };

struct measuring {
    const qrb_packed *packed;
    const struct qrb__view *w;
    size_t first;    /* row of the block */
    size_t rows;     /* of the block */
    double *weights; /* [BLOCK, cols] */
    double *errors;  /* [BLOCK, cols]: W - Q */
    double *squares; /* [2, BLOCK]: of the rows of both */
    double *outputs; /* [2, BLOCK]: through the Gram matrix */
};

static double sum_of_squares(const double *x, size_t n)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    return sum;
}

void qrb__packed_error(const qrb_packed *packed, const struct qrb__view *w,
                       size_t row, double *weights, double *errors)
{
    const size_t cols = packed->cols;

    qrb__run_load(packed->ctx, w, row * cols, cols, QRB_F64, weights);
    qrb__packed_decode_f64(packed, row * cols, cols, errors);
    for (size_t i = 0; i < cols; i++)
        errors[i] = weights[i] - errors[i];
}

static void load_row(size_t row, size_t worker, void *arg)
{
    const struct measuring *job = arg;
    const size_t cols = job->packed->cols;
    double *w = job->weights + row * cols;
    double *error = job->errors + row * cols;

    (void)worker;
    qrb__packed_error(job->packed, job->w, job->first + row, w, error);
    job->squares[row] = sum_of_squares(w, cols);
    job->squares[BLOCK + row] = sum_of_squares(error, cols);
}

struct sums {
    double squares[2]; /* of the weights and of their errors */
    double outputs[2];
};

/* Two zeros are no error. */
static double ratio(double error, double whole)
{
    return error == 0 ? 0 : error / whole;
}

struct finishing {
    const struct sums *sums;
    const qrb_packed *packed;
    bool has_gram;
    qrb_quantize_report *report;
};

/* Loops of one task, for their floating-point environment. */
struct adding {
    const struct measuring *measuring;
    struct sums *sums;
};

static void add_block(size_t task, size_t worker, void *arg)
{
    const struct adding *job = arg;

    (void)task;
    (void)worker;
    for (size_t k = 0; k < 2; k++)
        for (size_t r = 0; r < job->measuring->rows; r++) {
            job->sums->squares[k] += job->measuring->squares[k * BLOCK + r];
            job->sums->outputs[k] += job->measuring->outputs[k * BLOCK + r];
        }
}

static void finish(size_t task, size_t worker, void *arg)
{
    const struct finishing *job = arg;

    (void)task;
    (void)worker;
    job->report->relative_weight_error =
        ratio(job->sums->squares[1], job->sums->squares[0]);
    job->report->relative_output_error =
        job->has_gram ? ratio(job->sums->outputs[1], job->sums->outputs[0])
                      : NAN;
    job->report->bits_per_weight = qrb_packed_bits_per_weight(job->packed);
    job->report->loss = job->packed->loss;
    job->report->damping = job->packed->damping;
    job->report->outcome = job->packed->outcome;
}

qrb_status qrb__packed_measure(const qrb_packed *packed,
                               const struct qrb__view *w,
                               const qrb_observer *inputs,
                               qrb_quantize_report *report)
{
    qrb_context *ctx = packed->ctx;
    const bool has_gram = inputs != NULL && inputs->gram != NULL;
    struct measuring job = { .packed = packed, .w = w };
    qrb_quantize_report result = QRB_QUANTIZE_REPORT_INIT;
    struct sums sums = { { 0, 0 }, { 0, 0 } };
    struct finishing finishing = { &sums, packed, has_gram, &result };
    struct adding adding = { &job, &sums };
    double *scratch = NULL;
    qrb_status status = QRB_OK;

    job.weights = qrb__alloc_array(ctx, packed->cols, BLOCK * sizeof(double));
    job.errors = qrb__alloc_array(ctx, packed->cols, BLOCK * sizeof(double));
    job.squares = qrb__alloc_array(ctx, 2 * BLOCK, sizeof(double));
    job.outputs = qrb__alloc_array(ctx, 2 * BLOCK, sizeof(double));
    if (has_gram)
        scratch = qrb__alloc_array(ctx, packed->cols, BLOCK * sizeof(double));
    if (job.weights == NULL || job.errors == NULL || job.squares == NULL ||
        job.outputs == NULL || (has_gram && scratch == NULL)) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY, "errors of %d rows", BLOCK);
        goto out;
    }
    for (; job.first < packed->rows; job.first += job.rows) {
        job.rows =
            packed->rows - job.first < BLOCK ? packed->rows - job.first : BLOCK;
        qrb__parallel_for(ctx, job.rows, load_row, &job);
        if (has_gram) {
            qrb__observer_quadratic(inputs, job.weights, job.rows, scratch,
                                    job.outputs);
            qrb__observer_quadratic(inputs, job.errors, job.rows, scratch,
                                    job.outputs + BLOCK);
        }
        qrb__parallel_for(ctx, 1, add_block, &adding);
    }
    qrb__parallel_for(ctx, 1, finish, &finishing);
    qrb__result_copy(&result, sizeof result, report);
out:
    qrb__free(ctx, job.weights);
    qrb__free(ctx, job.errors);
    qrb__free(ctx, job.squares);
    qrb__free(ctx, job.outputs);
    qrb__free(ctx, scratch);
    return status;
}

static qrb_status check_weights(const qrb_packed *packed,
                                const struct qrb__view *w,
                                const qrb_observer *inputs)
{
    qrb_status status = qrb__packed_check_matrix(packed->ctx, w, "w");

    if (status != QRB_OK)
        return status;
    if (w->shape[0] != packed->rows || w->shape[1] != packed->cols ||
        (inputs != NULL && inputs->options.columns != packed->cols))
        return qrb__fail(packed->ctx, QRB_E_SHAPE,
                         "w is [%zu, %zu] and inputs have %zu columns, the "
                         "packed matrix is [%zu, %zu]",
                         w->shape[0], w->shape[1],
                         qrb_observer_columns(inputs), packed->rows,
                         packed->cols);
    if (qrb__view_first_not_finite(packed->ctx, w) != SIZE_MAX)
        return qrb__fail_not_finite(packed->ctx, w);
    return QRB_OK;
}

qrb_status qrb_packed_measure(const qrb_packed *packed, const qrb_tensor *w,
                              const qrb_calibration *calibration,
                              qrb_quantize_report *report)
{
    qrb_calibration known = QRB_CALIBRATION_INIT;
    qrb_status status;

    if (packed == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(packed->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (w == NULL || report == NULL)
        return qrb__fail(packed->ctx, QRB_E_INVALID_ARG,
                         "w or report is NULL");
    status = qrb__options_copy(packed->ctx, calibration, sizeof known,
                               "calibration", &known);
    if (status == QRB_OK)
        status = qrb__result_check(packed->ctx, "report", report);
    if (status == QRB_OK)
        status = check_weights(packed, &w->view, known.inputs);
    if (status == QRB_OK)
        status = qrb__packed_measure(packed, &w->view, known.inputs, report);
    return status;
}
