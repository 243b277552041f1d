/* AWQ's arithmetic of rows and groups, in float and double (awq.h). */
#include "quant/awq.h"

#include "kernel/kernels.h"
#include "kernel/real.h"

#if QRB_REAL_BITS == 32
#define PRODUCT f32.product
#else
#define PRODUCT f64.product
#endif

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* values [n] to the values of their codes. */
static void round_group(const struct qrb__awq_grid *grid,
                        const struct qrb__awq_scratch *scratch, double *values,
                        size_t n)
{
    struct qrb__grid_scale scale;

    if (grid->precision == QRB_F64) {
        scale = qrb__grid_fit_f64(&grid->grid, values, n);
        qrb__grid_encode_f64(&grid->grid, &scale, values, n, scratch->codes);
        qrb__grid_decode_f64(&scale, scratch->codes, n, values);
        return;
    }
    for (size_t i = 0; i < n; i++)
        scratch->floats[i] = (float)values[i];
    scale = qrb__grid_fit_f32(&grid->grid, scratch->floats, n);
    qrb__grid_encode_f32(&grid->grid, &scale, scratch->floats, n,
                         scratch->codes);
    qrb__grid_decode_f32(&scale, scratch->codes, n, scratch->floats);
    for (size_t i = 0; i < n; i++)
        values[i] = (double)scratch->floats[i];
}

void REAL(qrb__awq_errors)(const struct qrb__awq_grid *grid, const real *row,
                           const double *scale, const double *limits,
                           size_t first, size_t n,
                           const struct qrb__awq_scratch *scratch,
                           real *errors)
{
    size_t length;

    for (size_t at = 0; at < n; at += length) {
        const size_t column = first + at;
        const real *w = row + column;
        const double *s = scale == NULL ? NULL : scale + column;
        double *values = scratch->values;

        length = smaller(grid->group, n - at);
        /* The copy of the weights that is coded in the end is of this type. */
        for (size_t i = 0; i < length; i++)
            values[i] = s == NULL ? (double)w[i]
                                  : (double)(real)((double)w[i] * s[i]);
        if (limits != NULL) {
            const double limit = limits[at / grid->group];

            for (size_t i = 0; i < length; i++) {
                values[i] = values[i] > limit ? limit : values[i];
                values[i] = values[i] < -limit ? -limit : values[i];
            }
        }
        round_group(grid, scratch, values, length);
        for (size_t i = 0; i < length; i++)
            errors[at + i] = (real)((double)w[i] -
                                    (s == NULL ? values[i] : values[i] / s[i]));
    }
}

static double largest_magnitude(const real *w, size_t n)
{
    real lo;
    real hi;

    REAL(qrb__grid_range)(w, n, &lo, &hi);
    return (double)(hi > -lo ? hi : -lo);
}

/* All rows with one ratio; products of errors and Gram matrix at once. */
static void try_ratio(const struct qrb__awq_clip *job, const real *w,
                      const real *gram, size_t step, real *memory)
{
    const size_t cols = job->grid->cols;
    const size_t n = job->n;
    const double ratio = 1.0 - (double)step / 20;
    real *errors = memory;
    real *products = memory + job->rows * n;
    const struct qrb__product shape = {
        .m = job->rows,
        .n = n,
        .k = n,
        .row_a = n,
        .col_a = 1,
        .row_b = cols,
        .col_b = 1,
        .row_c = n,
        .alpha = 1,
    };
    double limits[QRB__AWQ_CLIP_ROWS];

    for (size_t r = 0; r < job->rows; r++) {
        const real *row = w + r * cols;

        /* As the copy will hold it: groups that are cut at both ends have
         * their zero point at a tie, so its last bit tells. */
        limits[r] =
            (double)(real)(ratio * largest_magnitude(row + job->first, n));
        REAL(qrb__awq_errors)(job->grid, row, NULL, &limits[r], job->first, n,
                              job->scratch, errors + r * n);
    }
    job->kernels->PRODUCT(&shape, errors, gram + job->first * cols + job->first,
                          products);
    for (size_t r = 0; r < job->rows; r++) {
        double sum = 0;

        for (size_t i = 0; i < n; i++)
            sum += (double)errors[r * n + i] * (double)products[r * n + i];
        if (step == 0 || sum < job->best[r * job->apart]) {
            job->best[r * job->apart] = sum;
            job->limits[r * job->apart] = limits[r];
        }
    }
}

void REAL(qrb__awq_clip_group)(const struct qrb__awq_clip *job, const real *w,
                               const real *gram, real *memory)
{
    for (size_t step = 0; step < QRB__AWQ_CLIPS; step++)
        try_ratio(job, w, gram, step, memory);
}
