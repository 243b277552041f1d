/* The form d G d^T of rows, from the stored half of the Gram matrix: a band of
 * rows i and columns j >= its first counts each pair with j beyond the band
 * twice.  rows * columns^2 multiplications, half of the dense form's. */
#include "calib/observer.h"
#include "tensor/gemm.h"

struct form {
    const struct qrb__observer_band *band;
    const double *d;       /* [rows, columns] */
    const double *product; /* [rows, width]: d_band G_band */
    size_t columns;
    double *out; /* [rows] */
};

static void add_row(size_t row, size_t worker, void *arg)
{
    const struct form *form = arg;
    const struct qrb__observer_band *band = form->band;
    const double *d = form->d + row * form->columns + band->first;
    const double *product = form->product + row * band->width;
    double inside = 0;
    double beyond = 0;

    (void)worker;
    for (size_t j = 0; j < band->height; j++)
        inside += d[j] * product[j];
    for (size_t j = band->height; j < band->width; j++)
        beyond += d[j] * product[j];
    form->out[row] = (band->first == 0 ? 0 : form->out[row]) + inside +
                     2 * beyond;
}

void qrb__observer_quadratic(const qrb_observer *observer, const double *d,
                             size_t rows, double *scratch, double *out)
{
    for (size_t b = 0; b < qrb__observer_bands(observer); b++) {
        const struct qrb__observer_band band = qrb__observer_band(observer, b);
        const size_t columns = observer->options.columns;
        const struct qrb__gemm shape = {
            .m = rows,
            .n = band.width,
            .k = band.height,
            .lda = columns,
            .ldb = band.width,
            .ldc = band.width,
            .alpha = 1,
        };
        struct form form = { &band, d, scratch, columns, out };

        qrb__gemm_f64(observer->ctx, &shape, d + band.first, band.rows,
                      scratch);
        qrb__parallel_for(observer->ctx, rows, add_row, &form);
    }
}
