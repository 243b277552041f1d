/* Double quantization of QLoRA (quantizers 7.2): the scales of NF4 blocks, less
 * their mean, quantized in blocks of 256 with the signed 8-bit dynamic map of
 * Dettmers, "8-Bit Approximations for Parallelism in Deep Learning", ICLR 2016,
 * arXiv:1511.04561.
 *
 * The map has no -1, so that the most negative scale of a block comes back a
 * little too large; small scales among large ones may come back negative.
 * Both are the format's.  O(units log 256). */
#include "quant/quantizer.h"

#include <float.h>
#include <math.h>

enum { MAP_BITS = 7, MAP_ZERO = 127 };

/* Of each decade 10^(i - 6), i = 0..6: the means of neighbours among 2^i + 1
 * equidistant points of [0.1, 1]; with both signs, zero and one.  In double
 * and rounded once: the official table's last bits depend on its build. */
void qrb__dynamic_map(float *map)
{
    static const double decades[MAP_BITS] = { 1e-6, 1e-5, 1e-4, 1e-3,
                                              1e-2, 1e-1, 1.0 };
    size_t n = 0;

    for (size_t i = 0; i < MAP_BITS; i++) {
        const size_t intervals = (size_t)1 << i;

        for (size_t k = 0; k < intervals; k++) {
            const double left = 0.1 + 0.9 * (double)k / (double)intervals;
            const double right =
                0.1 + 0.9 * (double)(k + 1) / (double)intervals;

            n++;
            map[MAP_ZERO + n] = (float)((left + right) / 2 * decades[i]);
            map[MAP_ZERO - n] = -map[MAP_ZERO + n];
        }
    }
    map[MAP_ZERO] = 0;
    map[QRB__DYNAMIC_MAP - 1] = 1;
}

/* Number of midpoints strictly below x. */
static uint8_t nearest(const float *map, float x)
{
    size_t lo = 0;
    size_t hi = QRB__DYNAMIC_MAP - 1; /* midpoints */

    while (lo < hi) {
        const size_t middle = (lo + hi) / 2;

        if (x > (map[middle] + map[middle + 1]) * 0.5f)
            lo = middle + 1;
        else
            hi = middle;
    }
    return (uint8_t)lo;
}

/* A loop of one task, for its floating-point environment. */
static void nest(size_t task, size_t worker, void *arg)
{
    qrb_packed *packed = arg;
    struct qrb__nested_scales *nested = &packed->nested_scales;
    float map[QRB__DYNAMIC_MAP];
    double sum = 0;

    (void)task;
    (void)worker;
    qrb__dynamic_map(map);
    for (size_t i = 0; i < packed->units; i++)
        sum += packed->scales[i];
    nested->offset = (float)(sum / (double)packed->units);
    for (size_t first = 0, block = 0; first < packed->units;
         first += QRB__NESTED_BLOCK, block++) {
        const size_t end = packed->units - first < QRB__NESTED_BLOCK
                               ? packed->units
                               : first + QRB__NESTED_BLOCK;
        float absmax = 0;

        for (size_t i = first; i < end; i++) {
            const float centred =
                fabsf((float)packed->scales[i] - nested->offset);

            absmax = centred > absmax ? centred : absmax;
        }
        nested->absmax[block] = absmax;
        for (size_t i = first; i < end; i++) {
            const float centred = (float)packed->scales[i] - nested->offset;
            float restored;

            nested->codes[i] =
                absmax > 0 ? nearest(map, centred / absmax) : MAP_ZERO;
            restored = map[nested->codes[i]] * absmax + nested->offset;
            /* Scales next to the largest float may come back beyond it. */
            packed->scales[i] = restored > FLT_MAX ? FLT_MAX : restored;
        }
    }
}

qrb_status qrb__nest_scales(qrb_packed *packed)
{
    struct qrb__nested_scales *nested = &packed->nested_scales;
    const size_t blocks = packed->units / QRB__NESTED_BLOCK +
                          (packed->units % QRB__NESTED_BLOCK != 0);

    nested->codes =
        qrb__alloc_array(packed->ctx, packed->units, sizeof *nested->codes);
    nested->absmax =
        qrb__alloc_array(packed->ctx, blocks, sizeof *nested->absmax);
    if (nested->codes == NULL || nested->absmax == NULL)
        return qrb__fail(packed->ctx, QRB_E_NO_MEMORY, "codes of %zu scales",
                         packed->units);
    qrb__parallel_for(packed->ctx, 1, nest, packed);
    return QRB_OK;
}
