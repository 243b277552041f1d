/* NF4, the 4-bit normal float of QLoRA (Dettmers et al., NeurIPS 2023,
 * arXiv:2305.14314; quantizers 7.2), in float32 as its inventors compute it.
 *
 * Blocks of consecutive elements, row-major, which may span rows and whose
 * last one may be short; a block's largest magnitude becomes 1 and each
 * quotient takes the nearest of sixteen values, the lower one at a midpoint.
 * |w^| <= absmax, the entry that is absmax is exact, signs are kept or lost to
 * zero (with quantized scales neither holds).  Fifteen comparisons a weight,
 * which beat a search because they vectorise. */
#include "quant/quantizer.h"

#include <math.h>

enum { VALUES = 16, ZERO = 7, BLOCK = 64 };

static const float values[VALUES] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/* Midpoints of neighbours: doubles, as they need a bit more than a float, and
 * then rounded once, half to even. */
static const float thresholds[VALUES - 1] = {
    -0.8480964004993439,   -0.6106329262256622,  -0.4599952697753906,
    -0.33967943489551544,  -0.23460740596055984, -0.13791173323988914,
    -0.045525018125772476, 0.03979014977812767,  0.1202552504837513,
    0.2035212516784668,    0.2920137718319893,   0.3893125355243683,
    0.5016634166240692,    0.6427869200706482,   0.8614784181118011,
};

static qrb_status check_options(qrb_context *ctx,
                                qrb_quantizer_options *options, void *method)
{
    (void)method;
    if (options->granularity != QRB_PER_GROUP || options->mse_clip ||
        options->compat)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "nf4 has blocks of group_size elements: granularity, "
                         "mse_clip and compat are 0");
    if (options->group_size == 0)
        options->group_size = BLOCK;
    return QRB_OK;
}

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    (void)dtype;
    packed->unit = options->group_size < packed->elements ? options->group_size
                                                          : packed->elements;
    packed->nested = options->double_quant != 0;
    packed->bits = 4;
    packed->precision = QRB_F32;
}

static float absmax_of(const float *w, size_t n)
{
    float lo;
    float hi;

    qrb__grid_range_f32(w, n, &lo, &hi);
    return hi > -lo ? hi : -lo;
}

static void fit(qrb_packed *packed, size_t unit, const void *run, size_t n)
{
    qrb__packed_set_scale(packed, unit,
                          (struct qrb__grid_scale){ absmax_of(run, n), 0 });
}

static qrb_status finish(qrb_packed *packed)
{
    return packed->nested ? qrb__nest_scales(packed) : QRB_OK;
}

/* The scales may have been quantized by now, so the block's own magnitude. */
static void encode(const qrb_packed *packed, size_t unit, const void *run,
                   size_t n, int32_t *codes)
{
    const float *w = run;
    const float absmax = absmax_of(w, n);
    const float inverse = 1 / absmax;

    (void)packed;
    (void)unit;
    if (!isfinite(inverse)) {
        /* Zeros alone, or subnormals whose reciprocal is no float: divide. */
        for (size_t i = 0; i < n; i++) {
            const float x = absmax > 0 ? w[i] / absmax : 0;

            codes[i] = 0;
            for (size_t k = 0; k < VALUES - 1; k++)
                codes[i] += x > thresholds[k];
        }
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const float x = w[i] * inverse;

        codes[i] = 0;
        for (size_t k = 0; k < VALUES - 1; k++)
            codes[i] += x > thresholds[k];
    }
}

static void decode(const qrb_packed *packed, size_t unit, const int32_t *codes,
                   size_t n, void *run)
{
    const float absmax = (float)qrb__packed_scale(packed, unit).scale;
    float *w = run;

    for (size_t i = 0; i < n; i++)
        w[i] = values[codes[i]] * absmax;
}

/* A float32 a block, or nested a byte a block and a float32 of each 256; the
 * offset and the tables are the same for any size and count nothing. */
static double overhead(const qrb_packed *packed)
{
    const size_t blocks = packed->units / QRB__NESTED_BLOCK +
                          (packed->units % QRB__NESTED_BLOCK != 0);

    return packed->nested ? 8.0 * (double)packed->units + 32.0 * (double)blocks
                          : 32.0 * (double)packed->units;
}

const struct qrb__quantizer_kind qrb__quantizer_nf4 = {
    .kind = QRB_QUANTIZER_NF4,
    .name = "nf4",
    .check = check_options,
    .layout = layout,
    .fit = fit,
    .finish = finish,
    .encode = encode,
    .decode = decode,
    .overhead = overhead,
};

qrb_status qrb_nf4_pack(const int32_t *codes, size_t count, uint8_t *bytes)
{
    if (codes == NULL || bytes == NULL)
        return QRB_E_INVALID_ARG;
    for (size_t i = 0; i < count; i++)
        if (codes[i] < 0 || codes[i] >= VALUES)
            return QRB_E_INVALID_ARG;
    for (size_t i = 0; i < count; i += 2) {
        const int32_t second = i + 1 < count ? codes[i + 1] : ZERO;

        bytes[i / 2] = (uint8_t)(codes[i] << 4 | second);
    }
    return QRB_OK;
}

qrb_status qrb_nf4_unpack(const uint8_t *bytes, size_t count, int32_t *codes)
{
    if (bytes == NULL || codes == NULL)
        return QRB_E_INVALID_ARG;
    for (size_t i = 0; i < count; i++)
        codes[i] = i % 2 == 0 ? bytes[i / 2] >> 4 : bytes[i / 2] & 15;
    return QRB_OK;
}
