/* Inputs of products of packed matrices: in the coordinates of the codes, as
 * bytes, and in the order of lookups.  O(cols) a token. */
#include "quant/packed_product.h"

#include <math.h>

#include "tensor/run.h"

size_t qrb__packed_tokens_beside(const struct qrb__packed_product *job,
                                 size_t t)
{
    const size_t left =
        job->tokens - t / QRB__PRODUCT_TOKENS * QRB__PRODUCT_TOKENS;

    return left < QRB__PRODUCT_TOKENS ? left : QRB__PRODUCT_TOKENS;
}

/* Largest magnitude / 127, of tiny tokens as of one of 1e-5. */
static float step_of(const float *x, size_t n)
{
    float largest = 1e-5f;

    for (size_t i = 0; i < n; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    return largest / 127;
}

/* x as the codes see it, or back. */
static void scale_inputs(const qrb_packed *packed, bool back, float *x)
{
    const double *scale = packed->input_scale;

    for (size_t i = 0; scale != NULL && i < packed->cols; i++)
        x[i] = (float)(back ? (double)x[i] * scale[i]
                            : (double)x[i] / scale[i]);
    qrb__packed_clamp(x, packed->cols);
}

/* Inputs of one token as floats, and as bytes. */
void qrb__packed_load_token(size_t t, size_t worker, void *arg)
{
    const struct qrb__packed_product *job = arg;
    const struct qrb__code_kernels *kernels = &job->packed->ctx->kernels.codes;
    const size_t cols = job->packed->cols;
    const size_t beside = qrb__packed_tokens_beside(job, t);
    const size_t apart = beside * job->planes * QRB__CODE_BLOCK;
    const size_t before = t / QRB__PRODUCT_TOKENS * QRB__PRODUCT_TOKENS;
    float *x = job->inputs + t * cols;
    int8_t *bytes = job->bytes;
    float step = 0;
    float *steps;
    float *sums;

    (void)worker;
    qrb__run_load(job->packed->ctx, job->x, (job->first + t) * cols, cols,
                  QRB_F32, x);
    qrb__packed_clamp(x, cols);
    if (job->act_bits != 0 || !job->tiles->mixed)
        scale_inputs(job->packed, false, x);
    if (job->act_bits != 0)
        step = step_of(x, cols);
    if (job->act_bits != 0 &&
        (job->planes == 0 || qrb__packed_adds_sparse(job)))
        for (size_t i = 0; i < cols; i++)
            x[i] = rintf(x[i] / step) * step;
    if (job->act_bits != 0 && job->tiles->mixed)
        scale_inputs(job->packed, true, x);
    for (size_t i = 0; job->lookups != NULL && i < cols; i++)
        job->lookups[t * qrb__packed_lookup_cols(job->packed) +
                     qrb__lookup_at(i)] = x[i];
    if (job->planes == 0)
        return;
    bytes += (before * job->blocks + t % QRB__PRODUCT_TOKENS) * job->planes *
             QRB__CODE_BLOCK;
    steps = job->steps + before * job->tiles->segments +
            t % QRB__PRODUCT_TOKENS;
    sums = job->sums + before * job->tiles->segments +
           t % QRB__PRODUCT_TOKENS;
    if (job->act_bits == 0)
        kernels->split(x, cols, job->tiles->segment, job->packed->bits, apart,
                       bytes, beside, steps, sums);
    else
        kernels->round(x, step, cols, job->tiles->segment,
                       job->packed->bits, apart, bytes, beside, steps, sums);
}
