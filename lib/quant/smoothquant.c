/* SmoothQuant (Xiao et al., ICML 2023, arXiv:2211.10438; quantizers 8): a share
 * alpha of the inputs' ranges moves into the weights,
 *
 *     s_j = max_t |x_tj|^alpha / max_r |w_rj|^(1 - alpha),
 *
 * x_j / s_j, w_j s_j, and both are easier to round.  At alpha = 1/2 their
 * largest magnitudes are equal.  O(rows cols); a row of maxima. */
#include "quant/quantizer.h"

#include <math.h>

#define LEAST 1e-5 /* of the weights' maxima and of the scales */

static const qrb_smoothquant_options defaults = QRB_SMOOTHQUANT_OPTIONS_INIT;

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    const qrb_smoothquant_options *own = method;

    if (!(own->alpha >= 0 && own->alpha <= 1)) /* NaN too */
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "alpha is %g; 0 to 1 is allowed", own->alpha);
    return qrb__grid_check_options(ctx, options, QRB_GRID_S_SMOOTH,
                                   qrb__quantizer_smoothquant.name);
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    qrb__grid_layout(packed, options, QRB_GRID_S_SMOOTH, dtype);
}

enum { COLUMNS = 64 }; /* of a task */

struct smoothing {
    const struct qrb__matrix_work *work;
    double alpha;
    double *scale; /* [cols] */
};

static void choose(size_t task, size_t worker, void *arg)
{
    const struct smoothing *job = arg;
    const struct qrb__matrix_work *work = job->work;
    const size_t first = task * COLUMNS;
    const size_t left = work->cols - first;
    const size_t n = left < COLUMNS ? left : COLUMNS;
    double largest[COLUMNS];

    (void)worker;
    for (size_t j = 0; j < n; j++)
        largest[j] = LEAST;
    for (size_t r = 0; r < work->rows; r++)
        for (size_t j = 0; j < n; j++)
            largest[j] =
                fmax(largest[j], fabs(qrb__work_at(work, r, first + j)));
    for (size_t j = 0; j < n; j++) {
        const double x = qrb__work_largest_magnitude(work, first + j);
        const double s =
            pow(x, job->alpha) / pow(largest[j], 1 - job->alpha);

        /* Nothing comes in where x is 0: the rule leaves such columns. */
        job->scale[first + j] = x > 0 ? fmax(s, LEAST) : 1;
    }
}

static qrb_status scale_inputs(const qrb_quantizer *quantizer,
                               struct qrb__matrix_work *work)
{
    const qrb_smoothquant_options *own = quantizer->method;
    struct smoothing job = { work, own->alpha, NULL };
    qrb_status status;

    job.scale = qrb__alloc_array(work->ctx, work->cols, sizeof *job.scale);
    if (job.scale == NULL)
        return qrb__fail(work->ctx, QRB_E_NO_MEMORY, "%zu input scales",
                         work->cols);
    qrb__parallel_for(work->ctx,
                      work->cols / COLUMNS + (work->cols % COLUMNS != 0),
                      choose, &job);
    status = qrb__work_scale_inputs(work, job.scale);
    qrb__free(work->ctx, job.scale);
    return status;
}

const struct qrb__quantizer_kind qrb__quantizer_smoothquant = {
    .kind = QRB_QUANTIZER_SMOOTHQUANT,
    .name = "smoothquant",
    .has_bits = true,
    .needs = QRB__NEEDS_RANGES,
    .method_at = offsetof(qrb_quantizer_options, smoothquant),
    .method_defaults = &defaults,
    .check = check_options,
    .scale_inputs = scale_inputs,
    .layout = layout,
    .fit = qrb__grid_fit_unit,
    .fit_matrix = qrb__grid_fit_matrix,
    .encode = qrb__grid_encode_unit,
    .decode = qrb__grid_decode_unit,
    .overhead = qrb__grid_overhead,
};
