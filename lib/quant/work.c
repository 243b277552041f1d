/* Coordinates of work on a matrix.  Everything that is known of the inputs was
 * observed before they were scaled, so it is divided by the scales that the
 * columns have been multiplied by: G'_ij = G_ij / (s_i s_j). */
#include "quant/work.h"

#include <math.h>

#include "calib/observer.h"
#include "quant/packed.h"

struct qrb__view qrb__work_view(const struct qrb__matrix_work *work)
{
    const size_t shape[2] = { work->rows, work->cols };

    return qrb__view_make(work->precision, 2, shape, work->w);
}

double qrb__work_at(const struct qrb__matrix_work *work, size_t row,
                    size_t column)
{
    const size_t at = row * work->cols + column;

    return work->precision == QRB_F64 ? ((const double *)work->w)[at]
                                      : (double)((const float *)work->w)[at];
}

static double input_scale(const struct qrb__matrix_work *work, size_t column)
{
    return work->packed->input_scale == NULL
               ? 1
               : work->packed->input_scale[column];
}

double qrb__work_mean_magnitude(const struct qrb__matrix_work *work,
                                size_t column)
{
    const qrb_observer *inputs = work->inputs;

    if (inputs->tokens == 0)
        return 0;
    return inputs->abs_sums[column] / (double)inputs->tokens /
           input_scale(work, column);
}

double qrb__work_largest_magnitude(const struct qrb__matrix_work *work,
                                   size_t column)
{
    return fmax(-work->inputs->minima[column], work->inputs->maxima[column]) /
           input_scale(work, column);
}

struct rescaling {
    const struct qrb__matrix_work *work;
    const double *scale;
    void *gram;
    uint32_t precision; /* of the Gram matrix */
};

static void scale_row(size_t row, size_t worker, void *arg)
{
    const struct rescaling *job = arg;
    const size_t cols = job->work->cols;

    (void)worker;
    if (job->work->precision == QRB_F64) {
        double *w = (double *)job->work->w + row * cols;

        for (size_t j = 0; j < cols; j++)
            w[j] *= job->scale[j];
    } else {
        float *w = (float *)job->work->w + row * cols;

        for (size_t j = 0; j < cols; j++)
            w[j] = (float)((double)w[j] * job->scale[j]);
    }
}

/* A loop of one task, for its floating-point environment. */
static void compound(size_t task, size_t worker, void *arg)
{
    const struct rescaling *job = arg;

    (void)task;
    (void)worker;
    for (size_t j = 0; j < job->work->cols; j++)
        job->work->packed->input_scale[j] *= job->scale[j];
}

qrb_status qrb__work_scale_inputs(struct qrb__matrix_work *work,
                                  const double *scale)
{
    struct rescaling job = { .work = work, .scale = scale };
    qrb_packed *packed = work->packed;

    if (packed->input_scale == NULL) {
        packed->input_scale =
            qrb__alloc_array(work->ctx, work->cols, sizeof(double));
        if (packed->input_scale == NULL)
            return qrb__fail(work->ctx, QRB_E_NO_MEMORY, "%zu input scales",
                             work->cols);
        for (size_t j = 0; j < work->cols; j++)
            packed->input_scale[j] = 1;
    }
    qrb__parallel_for(work->ctx, 1, compound, &job);
    qrb__parallel_for(work->ctx, work->rows, scale_row, &job);
    return QRB_OK;
}

static void unscale_row(size_t row, size_t worker, void *arg)
{
    const struct rescaling *job = arg;
    const size_t cols = job->work->cols;
    const double *s = job->scale;

    (void)worker;
    if (job->precision == QRB_F64) {
        double *g = (double *)job->gram + row * cols;

        for (size_t j = 0; j < cols; j++)
            g[j] = g[j] / (s[row] * s[j]);
    } else {
        float *g = (float *)job->gram + row * cols;

        for (size_t j = 0; j < cols; j++)
            g[j] = (float)((double)g[j] / (s[row] * s[j]));
    }
}

static void load_gram(const struct qrb__matrix_work *work, uint32_t precision,
                      void *out)
{
    struct rescaling job = { work, work->packed->input_scale, out, precision };

    if (precision == QRB_F64)
        qrb__observer_gram_f64(work->inputs, out);
    else
        qrb__observer_gram_f32(work->inputs, out);
    if (job.scale != NULL)
        qrb__parallel_for(work->ctx, work->cols, unscale_row, &job);
}

void qrb__work_gram(const struct qrb__matrix_work *work, void *out)
{
    load_gram(work, work->precision, out);
}

void qrb__work_gram_f64(const struct qrb__matrix_work *work, double *out)
{
    load_gram(work, QRB_F64, out);
}
