/* One bit a weight: its sign, times the mean magnitude of its row or group
 * (quantizers 11; the sign of 0 is +).  No other multiple of the signs is
 * closer to the weights.  O(elements). */
#include "quant/quantizer.h"

#include <math.h>

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    (void)method;
    if (options->granularity != QRB_PER_GROUP || options->mse_clip ||
        options->compat || options->double_quant)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "sign has groups or rows alone: granularity, "
                         "mse_clip, compat and double_quant are 0");
    return QRB_OK;
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    (void)dtype;
    packed->bits = 1;
    packed->precision = QRB_F64;
    packed->unit =
        options->group_size != 0 ? options->group_size : packed->cols;
    packed->groups = packed->cols / packed->unit +
                     (packed->cols % packed->unit != 0);
}

static void fit(qrb_packed *packed, size_t unit, const void *run, size_t n)
{
    const double *w = run;
    double mean = 0;

    /* Quotients first: their sum cannot leave the numbers. */
    for (size_t i = 0; i < n; i++)
        mean += fabs(w[i]) / (double)n;
    qrb__packed_set_scale(packed, unit, (struct qrb__grid_scale){ mean, 0 });
}

static void encode(const qrb_packed *packed, size_t unit, const void *run,
                   size_t n, int32_t *codes)
{
    const double *w = run;

    (void)packed;
    (void)unit;
    for (size_t i = 0; i < n; i++)
        codes[i] = w[i] >= 0;
}

static void decode(const qrb_packed *packed, size_t unit, const int32_t *codes,
                   size_t n, void *run)
{
    const double mean = qrb__packed_scale(packed, unit).scale;
    double *values = run;

    for (size_t i = 0; i < n; i++)
        values[i] = codes[i] != 0 ? mean : -mean;
}

/* A scale counts as the 16 bits that export formats give it. */
static double overhead(const qrb_packed *packed)
{
    return 16.0 * (double)packed->units;
}

const struct qrb__quantizer_kind qrb__quantizer_sign = {
    .kind = QRB_QUANTIZER_SIGN,
    .name = "sign",
    .check = check_options,
    .layout = layout,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .overhead = overhead,
};
