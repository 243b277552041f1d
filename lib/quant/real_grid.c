/* Arithmetic of uniform grids (quantizers 1.1 to 1.4), in float and double.
 *
 * Invariants: finite in, finite out; the scale is positive; |w - w^| <= h / 2
 * for w inside the range of A_GPTQ, A_PAPER and A_MAX; encoding a value gives
 * its code again; the order of a unit does not matter.  O(n), with the clip
 * search O(80 n) and a power each; no memory.
 *
 * Loops are written for vectorisation without leave to reorder: selects
 * instead of branches, and lanes where a reduction would need reordering. */
#include "quant/grid.h"

#include <float.h>

#include "kernel/real.h"
#include "quant/round_even.h"

#if QRB_REAL_BITS == 32
#define REAL_MAX FLT_MAX
#define REAL_POW powf
#else
#define REAL_MAX DBL_MAX
#define REAL_POW pow
#endif

enum { LANES = 8 };

static inline real smaller(real a, real b)
{
    return a < b ? a : b;
}

static inline real larger(real a, real b)
{
    return a > b ? a : b;
}

static inline real clamp(real x, real lo, real hi)
{
    return smaller(larger(x, lo), hi);
}

void REAL(qrb__grid_range)(const real *w, size_t n, real *lo, real *hi)
{
    real low[LANES];
    real high[LANES];
    size_t i = 0;

    for (size_t k = 0; k < LANES; k++)
        low[k] = high[k] = w[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            low[k] = smaller(w[i + k], low[k]);
            high[k] = larger(w[i + k], high[k]);
        }
    for (; i < n; i++) {
        low[0] = smaller(w[i], low[0]);
        high[0] = larger(w[i], high[0]);
    }
    for (size_t k = 1; k < LANES; k++) {
        low[0] = smaller(low[k], low[0]);
        high[0] = larger(high[k], high[0]);
    }
    *lo = low[0];
    *hi = high[0];
}

/* (hi - lo) / levels, where the difference may be too large for a real. */
static real step_of(real lo, real hi, real least, real levels)
{
    const real width = larger(hi - lo, least);

    return isfinite(width) ? width / levels : hi / levels - lo / levels;
}

/* A_GPTQ, and what degenerate ranges of other modes become: a range that
 * holds zero.  A range of zeros alone, or one whose step vanishes, becomes
 * [-1, 1]. */
static void gptq_scale(real lo, real hi, real qmax, real *h, real *z)
{
    lo = smaller(lo, 0);
    hi = larger(hi, 0);
    *h = step_of(lo, hi, 0, qmax);
    if (!(*h > 0)) {
        lo = -1;
        hi = 1;
        *h = step_of(lo, hi, 0, qmax);
    }
    *z = REAL(qrb__round_even)(-lo / *h);
}

struct qrb__grid_scale REAL(qrb__grid_of_range)(const struct qrb__grid *grid,
                                                real lo, real hi)
{
    const real qmax = (real)((1 << grid->bits) - 1);
    const real m = (real)((1 << (grid->bits - 1)) - 1);
    const real least = (real)1e-5;
    const real most = (real)1e4;
    const real amax = larger(-lo, hi); /* max |w| */
    real h = 0;
    real z = 0;

    switch (grid->mode) {
    case QRB_GRID_A_PAPER:
        h = step_of(lo, hi, 0, qmax);
        z = -REAL(qrb__round_even)(lo / h);
        break;
    case QRB_GRID_A_MAX:
        h = step_of(lo, hi, 0, qmax);
        z = REAL(qrb__round_even)(qmax - hi / h);
        break;
    case QRB_GRID_A_AWQ:
        h = step_of(lo, hi, least, qmax);
        z = -REAL(qrb__round_even)(lo / h);
        if (grid->storable && !(z >= 0 && z <= qmax))
            gptq_scale(lo, hi, qmax, &h, &z);
        z = clamp(z, 0, qmax);
        break;
    case QRB_GRID_A_OMNI:
        h = clamp(step_of(lo, hi, 0, qmax), least, most);
        z = REAL(qrb__round_even)(clamp(-lo / h, -most, most));
        break;
    case QRB_GRID_A_SPQR:
        if (lo == hi) {
            lo = -1;
            hi = 1;
        }
        h = step_of(lo, hi, 0, qmax);
        z = -lo / h;
        break;
    case QRB_GRID_A_GRP:
        if (lo == 0 && hi == 0)
            break; /* [-1, 1], as below */
        h = step_of(lo, hi, least, qmax);
        z = REAL(qrb__round_even)(-lo / h);
        break;
    case QRB_GRID_S_ABS:
    case QRB_GRID_S_SMOOTH:
        h = larger(amax, least) / m;
        break;
    case QRB_GRID_S_ACT:
        h = amax / m;
        if (!(h > 0))
            h = 1; /* zeros, or next to nothing */
        break;
    case QRB_GRID_S_OMNI:
        h = clamp(amax / m, least, most);
        z = m;
        break;
    case QRB_GRID_S_GPTQ:
        /* Officially the range of a row without negative entries keeps its
         * lower end at zero, although the zero point stays in the middle. */
        h = step_of(grid->compat && lo >= 0 ? 0 : -amax, amax, 0, qmax);
        if (!(h > 0))
            h = step_of(-1, 1, 0, qmax);
        z = m + 1;
        break;
    default: /* A_GPTQ: below */
        break;
    }
    /* Constant units, and units so narrow or so far from zero that the mode's
     * own expression leaves the reals. */
    if (!(h > 0) || !isfinite(h) || !isfinite(z))
        gptq_scale(lo, hi, qmax, &h, &z);
    return (struct qrb__grid_scale){ h, z + 0 }; /* no -0 */
}

/* What a weight needs to find its code. */
struct coder {
    real divisor;
    real zero_point;
    real lowest; /* code */
    real highest;
    bool real_zero; /* z is added before the rounding, not after it */
};

static struct coder coder_of(const struct qrb__grid *grid,
                             const struct qrb__grid_scale *scale)
{
    const real half = (real)(1 << (grid->bits - 1));
    struct coder coder = { (real)scale->scale, (real)scale->zero_point, 0,
                           2 * half - 1, false };

    switch (grid->mode) {
    case QRB_GRID_S_ABS:
    case QRB_GRID_S_ACT:
        coder.lowest = -half;
        coder.highest = half - 1;
        break;
    case QRB_GRID_S_SMOOTH:
        /* Not clamped by the grid; this keeps the conversion defined. */
        coder.lowest = -(real)(1 << 30);
        coder.highest = (real)(1 << 30);
        break;
    case QRB_GRID_A_SPQR:
        coder.divisor = larger(coder.divisor, (real)1e-9);
        coder.real_zero = true;
        break;
    default:
        break;
    }
    return coder;
}

static inline real code_of(const struct coder *coder, real w)
{
    const real position = w / coder->divisor;
    const real code = coder->real_zero
                          ? REAL(qrb__round_even)(position + coder->zero_point)
                          : REAL(qrb__round_even)(position) + coder->zero_point;

    return clamp(code, coder->lowest, coder->highest);
}

static inline real value_of(real scale, real zero_point, real code)
{
    return clamp(scale * (code - zero_point), -REAL_MAX, REAL_MAX);
}

void REAL(qrb__grid_encode)(const struct qrb__grid *grid,
                            const struct qrb__grid_scale *scale, const real *w,
                            size_t n, int32_t *codes)
{
    const struct coder coder = coder_of(grid, scale);

    for (size_t i = 0; i < n; i++)
        codes[i] = (int32_t)code_of(&coder, w[i]);
}

void REAL(qrb__grid_decode)(const struct qrb__grid_scale *scale,
                            const int32_t *codes, size_t n, real *values)
{
    const real h = (real)scale->scale;
    const real z = (real)scale->zero_point;

    for (size_t i = 0; i < n; i++)
        values[i] = value_of(h, z, (real)codes[i]);
}

void REAL(qrb__grid_code_each)(const struct qrb__grid *grid, const real *scales,
                               const real *zero_points, const real *w,
                               size_t n, int32_t *codes, real *values)
{
    const struct qrb__grid_scale none = { 1, 0 };
    const struct coder coder = coder_of(grid, &none);

    for (size_t i = 0; i < n; i++) {
        struct coder own = coder;
        real code;

        own.divisor =
            coder.real_zero ? larger(scales[i], (real)1e-9) : scales[i];
        own.zero_point = zero_points[i];
        code = code_of(&own, w[i]);
        codes[i] = (int32_t)code;
        values[i] = value_of(scales[i], zero_points[i], code);
    }
}

/* GPTQ's search: |w^ - w|^2.4 of ranges that shrink by hundredths. */
void REAL(qrb__grid_clip_errors)(const struct qrb__grid *grid, const real *w,
                                 size_t n, real lo, real hi, double *errors)
{
    for (size_t k = 0; k < QRB__GRID_CLIPS; k++) {
        const real p = (real)qrb__grid_clip(k);
        const struct qrb__grid_scale scale =
            REAL(qrb__grid_of_range)(grid, p * lo, p * hi);
        const struct coder coder = coder_of(grid, &scale);
        double sum = 0;

        for (size_t i = 0; i < n; i++) {
            const real value = value_of((real)scale.scale, coder.zero_point,
                                        code_of(&coder, w[i]));
            const real error = value < w[i] ? w[i] - value : value - w[i];

            sum += (double)REAL_POW(error, (real)2.4);
        }
        errors[k] += sum;
    }
}

struct qrb__grid_scale REAL(qrb__grid_fit)(const struct qrb__grid *grid,
                                           const real *w, size_t n)
{
    double errors[QRB__GRID_CLIPS] = { 0 };
    real lo;
    real hi;
    real p = 1;

    REAL(qrb__grid_range)(w, n, &lo, &hi);
    if (grid->mse_clip) {
        REAL(qrb__grid_clip_errors)(grid, w, n, lo, hi, errors);
        p = (real)qrb__grid_clip(qrb__grid_best_clip(errors));
    }
    return REAL(qrb__grid_of_range)(grid, p * lo, p * hi);
}
