/* The moments of GPTQ's inputs: which columns have none, the order of the
 * sweep, and the factor M of the damped moments.
 *
 * H is held divided by a power of two that brings its largest diagonal element
 * to about 1, so that no scale of inputs leaves the finite numbers; this does
 * not change a bit of what codes depend on.  n^2 elements and the scratch of
 * the factor; n^3 / 3 multiply-adds a damping. */
#include "quant/gptq_work.h"

#include <math.h>

#include "core/sort.h"
#include "tensor/cholesky.h"

enum {
    MOST_EXPONENT = 1000, /* a power of two well inside the doubles */
    ROWS = 32,            /* of a task */
    ELEMENTS = 64 * 1024  /* of a task */
};

/* Diagonal of the held H; dead columns have 1 in H itself. */
static double diagonal_at(const struct qrb__gptq_work *work, size_t column)
{
    const struct qrb__gptq_problem *problem = work->problem;

    return work->dead[column] ? ldexp(1, -work->exponent)
                              : problem->gram[column * (problem->cols + 1)] *
                                    ldexp(problem->gram_scale, -work->exponent);
}

/* Larger moments first, and of equals the first. */
static int compare_columns(const void *a, const void *b, const void *arg)
{
    const double *diagonal = arg;
    const size_t x = *(const size_t *)a;
    const size_t y = *(const size_t *)b;

    if (diagonal[x] != diagonal[y])
        return diagonal[x] > diagonal[y] ? -1 : 1;
    return (x > y) - (x < y);
}

qrb_status qrb__gptq_order(struct qrb__gptq_work *work)
{
    const struct qrb__gptq_problem *problem = work->problem;
    const size_t n = problem->cols;
    double largest = 0;
    double *diagonal;

    work->live = 0;
    for (size_t j = 0; j < n; j++) {
        const double moment = problem->gram[j * (n + 1)];

        work->order[j] = j;
        work->dead[j] = moment == 0;
        work->live += !work->dead[j];
        if (moment > largest)
            largest = moment;
    }
    /* Dead columns will have 1, and of no moment at all there is no power. */
    if (!(largest > 0) || (work->live < n && largest * problem->gram_scale < 1))
        work->exponent = 0;
    else
        work->exponent = ilogb(largest) + ilogb(problem->gram_scale);
    if (work->exponent > MOST_EXPONENT)
        work->exponent = MOST_EXPONENT;
    if (work->exponent < -MOST_EXPONENT)
        work->exponent = -MOST_EXPONENT;
    if (!work->options->act_order)
        return QRB_OK;
    diagonal = qrb__alloc_array(work->ctx, n, sizeof *diagonal);
    if (diagonal == NULL)
        return qrb__fail(work->ctx, QRB_E_NO_MEMORY, "moments of %zu columns",
                         n);
    for (size_t j = 0; j < n; j++)
        diagonal[j] = diagonal_at(work, j);
    qrb__sort_with(work->order, n, sizeof *work->order, compare_columns,
                   diagonal);
    qrb__free(work->ctx, diagonal);
    return QRB_OK;
}

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

/* The lower triangle of H with its rows and columns in the reverse of the
 * sweep's order: the factor of that, read from its end, is M. */
static void fill_rows(size_t task, size_t worker, void *arg)
{
    const struct qrb__gptq_work *work = arg;
    const struct qrb__gptq_problem *problem = work->problem;
    const size_t n = problem->cols;
    const double unit = ldexp(problem->gram_scale, -work->exponent);
    const size_t first = task * ROWS;

    (void)worker;
    for (size_t i = first; i < n && i < first + ROWS; i++) {
        const size_t row = work->order[n - 1 - i];
        const double *gram = problem->gram + row * n;
        double *out = work->factor + i * n;

        for (size_t j = 0; j < i; j++)
            out[j] = unit * gram[work->order[n - 1 - j]];
        out[i] = diagonal_at(work, row) + work->added;
    }
}

static void reverse_elements(size_t task, size_t worker, void *arg)
{
    const struct qrb__gptq_work *work = arg;
    const size_t n = work->problem->cols;
    double *last = work->factor + n * n - 1;
    const size_t first = task * ELEMENTS;

    (void)worker;
    for (size_t i = first; i < n * n / 2 && i < first + ELEMENTS; i++) {
        const double element = work->factor[i];

        work->factor[i] = *(last - i);
        *(last - i) = element;
    }
}

qrb_status qrb__gptq_factor(struct qrb__gptq_work *work, bool *definite_out)
{
    const size_t n = work->problem->cols;
    double mean = 0;
    double *scratch = NULL;
    size_t size;

    *definite_out = false;
    if (qrb__cholesky_scratch(n, &size))
        scratch = qrb__alloc_array(work->ctx, size, sizeof *scratch);
    if (scratch == NULL)
        return qrb__fail(work->ctx, QRB_E_NO_MEMORY,
                         "factor of the moments of %zu columns", n);
    for (size_t j = 0; j < n; j++)
        mean += diagonal_at(work, j);
    mean /= (double)n;
    for (int i = 0; i < QRB__GPTQ_TRIES && !*definite_out; i++) {
        work->out->damping = work->options->damping + i * QRB__GPTQ_STEP;
        work->added = work->out->damping * mean;
        qrb__parallel_for(work->ctx, divide_up(n, ROWS), fill_rows, work);
        *definite_out = qrb__cholesky(work->ctx, n, work->factor, scratch) == n;
    }
    qrb__free(work->ctx, scratch);
    qrb__parallel_for(work->ctx, divide_up(n * n / 2, ELEMENTS),
                      reverse_elements, work);
    return QRB_OK;
}
