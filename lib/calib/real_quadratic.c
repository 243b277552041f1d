/* Quadratic forms of rows (quadratic.h); sums of products in double. */
#include "calib/quadratic.h"

#include "kernel/real.h"
#include "tensor/gemm.h"

struct adding {
    const struct qrb__quadratic *form;
    const real *d;       /* from the band's first column on */
    const real *product; /* [rows, width] */
    size_t height;
    size_t width;
};

static void add_row(size_t row, size_t worker, void *arg)
{
    const struct adding *job = arg;
    const real *d = job->d + row * job->form->columns;
    const real *product = job->product + row * job->width;
    double inside = 0;
    double beyond = 0;

    (void)worker;
    for (size_t j = 0; j < job->height; j++)
        inside += (double)d[j] * (double)product[j];
    for (size_t j = job->height; j < job->width; j++)
        beyond += (double)d[j] * (double)product[j];
    job->form->out[row] += inside + 2 * beyond;
}

void REAL(qrb__quadratic_band)(qrb_context *ctx,
                               const struct qrb__quadratic *form, size_t first,
                               size_t height, const real *band, size_t apart,
                               const real *d, real *scratch)
{
    const size_t width = form->columns - first;
    const struct qrb__gemm shape = {
        .m = form->rows,
        .n = width,
        .k = height,
        .lda = form->columns,
        .ldb = apart,
        .ldc = width,
        .alpha = 1,
    };
    struct adding job = { form, d + first, scratch, height, width };

    REAL(qrb__gemm)(ctx, &shape, d + first, band, scratch);
    qrb__parallel_for(ctx, form->rows, add_row, &job);
}

void REAL(qrb__quadratic)(qrb_context *ctx, const struct qrb__quadratic *form,
                          const real *g, const real *d, real *scratch)
{
    const size_t columns = form->columns;

    for (size_t r = 0; r < form->rows; r++)
        form->out[r] = 0;
    for (size_t first = 0; first < columns; first += QRB__QUADRATIC_BAND) {
        const size_t left = columns - first;

        REAL(qrb__quadratic_band)
        (ctx, form, first,
         left < QRB__QUADRATIC_BAND ? left : QRB__QUADRATIC_BAND,
         g + first * columns + first, columns, d, scratch);
    }
}
