/* GPTQ from moments to codes: order and factor, sweep, and the decision for
 * what is nearer to the outputs.  Memory beside the arguments: cols^2 and
 * rows * cols elements and two panels of a block. */
#include "quant/gptq.h"

#include <float.h>
#include <math.h>

#include "core/rounding.h"
#include "quant/gptq_work.h"

size_t qrb__gptq_groups(const struct qrb__gptq *options, size_t cols)
{
    if (options->group_size == 0)
        return 1;
    return cols / options->group_size + (cols % options->group_size != 0);
}

static qrb_status make_room(struct qrb__gptq_work *work)
{
    qrb_context *ctx = work->ctx;
    const size_t rows = work->problem->rows;
    const size_t cols = work->problem->cols;
    size_t matrix;
    size_t square;

    if (!qrb__mul_size(rows, cols, &matrix) ||
        !qrb__mul_size(cols, cols, &square))
        matrix = square = 0; /* which is refused as well */
    work->order = qrb__alloc_array(ctx, cols, sizeof *work->order);
    work->dead = qrb__alloc_array(ctx, cols, sizeof *work->dead);
    work->sums = qrb__alloc_array(ctx, rows, sizeof *work->sums);
    work->change = qrb__alloc_array(ctx, matrix, sizeof *work->change);
    work->factor = qrb__alloc_array(ctx, square, sizeof *work->factor);
    if (work->order == NULL || work->dead == NULL || work->sums == NULL ||
        work->change == NULL || work->factor == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "solver of [%zu, %zu] in double",
                         rows, cols);
    return QRB_OK;
}

/* A number of H itself, whatever its size. */
static double unscaled(const struct qrb__gptq_work *work, double x)
{
    x = ldexp(x, work->exponent);
    return x < DBL_MAX ? x : DBL_MAX;
}

/* Parts without callbacks, in our floating-point environment. */
static qrb_status prepare(struct qrb__gptq_work *work, bool *definite_out)
{
    fenv_t host;
    qrb_status status;

    qrb__rounding_begin(&host);
    status = qrb__gptq_order(work);
    if (status == QRB_OK && work->live != 0)
        status = qrb__gptq_factor(work, definite_out);
    qrb__rounding_end(&host);
    return status;
}

/* Loss and error of the sweep, as the held H has them, and what the error is
 * uncertain by: sums of cols squares a row, of which the damping's cancel. */
static void add_up(const struct qrb__gptq_work *work, double *loss_out,
                   double *error_out, double *noise_out)
{
    struct qrb__gptq_row sum = { 0 };
    fenv_t host;

    qrb__rounding_begin(&host);
    for (size_t i = 0; i < work->problem->rows; i++) {
        sum.loss += work->sums[i].loss;
        sum.live_loss += work->sums[i].live_loss;
        sum.live_change += work->sums[i].live_change;
    }
    *loss_out = 0.5 * sum.loss;
    *error_out = sum.live_loss - work->added * sum.live_change;
    if (*error_out < 0)
        *error_out = 0;
    *noise_out = (double)work->problem->cols * DBL_EPSILON * sum.live_loss;
    qrb__rounding_end(&host);
}

/* After the sweep: what it came to, and whether that is to be kept. */
static qrb_status judge(struct qrb__gptq_work *work)
{
    double loss;
    double error;
    double noise;
    bool better;
    qrb_status status;

    add_up(work, &loss, &error, &noise);
    work->out->outcome = QRB__GPTQ_NO_BETTER;
    if (!isfinite(loss) || !isfinite(error))
        return QRB_OK;
    work->out->loss = unscaled(work, loss);
    work->out->error = unscaled(work, error);
    status = qrb__gptq_round_is_better(work, error, noise, &better);
    if (status == QRB_OK && !better)
        work->out->outcome = QRB__GPTQ_SOLVED;
    return status;
}

static qrb_status solve(struct qrb__gptq_work *work)
{
    bool definite = false;
    qrb_status status = prepare(work, &definite);

    if (status != QRB_OK)
        return status;
    if (!definite) {
        work->out->outcome =
            work->live == 0 ? QRB__GPTQ_NO_INPUTS : QRB__GPTQ_NOT_POSITIVE;
        return QRB_OK;
    }
    status = qrb__gptq_sweep(work);
    return status == QRB_OK ? judge(work) : status;
}

qrb_status qrb__gptq_solve(qrb_context *ctx, const struct qrb__gptq *options,
                           const struct qrb__gptq_problem *problem,
                           struct qrb__gptq_result *out)
{
    struct qrb__gptq_work work = {
        .ctx = ctx,
        .options = options,
        .problem = problem,
        .out = out,
        .group = options->group_size != 0 ? options->group_size : problem->cols,
        .groups = qrb__gptq_groups(options, problem->cols),
    };
    qrb_status status = make_room(&work);

    if (status != QRB_OK)
        goto out;
    out->damping = options->damping;
    out->loss = NAN;
    out->error = NAN;
    status = solve(&work);
    if (status == QRB_OK && out->outcome != QRB__GPTQ_SOLVED)
        qrb__gptq_round(&work);
out:
    qrb__free(ctx, work.order);
    qrb__free(ctx, work.dead);
    qrb__free(ctx, work.sums);
    qrb__free(ctx, work.change);
    qrb__free(ctx, work.factor);
    return status;
}
