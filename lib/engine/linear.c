/* y = x W^T + b for up to three weights on one input, side by side in y.
 * Forward multiplies weight by weight: how a product is cut shows in the last
 * bit, and a model gives the same bits wherever its weights lie.  Backward
 * takes weights that lie one behind the other as one.  Wide weights are
 * multiplied by all rows at once, others by a block of rows after the other. */
#include <string.h>

#include "engine/ops.h"

enum { BIAS_COLUMNS = 64 }; /* of a task */

size_t REAL(qrb__linear_run)(const struct qrb__engine *engine,
                             const struct qrb__op *op, size_t first,
                             bool gradients, size_t *columns)
{
    const struct qrb__engine_parameter *parameters = engine->parameters;
    size_t count = 0;

    *columns = 0;
    do {
        const struct qrb__engine_parameter *last =
            &parameters[op->weight[first + count]];
        const struct qrb__engine_parameter *next;
        const real *end = gradients ? last->gradient : last->weight;

        end += last->rows * last->columns;
        *columns += last->rows;
        count++;
        if (first + count == op->weights)
            break;
        next = &parameters[op->weight[first + count]];
        if ((gradients ? next->gradient : next->weight) != end)
            break;
    } while (true);
    return count;
}

/* Rows of y start as the bias, to which the product is added. */
static void fill_with_bias(const struct qrb__engine *engine,
                           const struct qrb__op *op, size_t rows,
                           size_t stride, real *y)
{
    for (size_t j = 0, column = 0; j < op->weights; j++) {
        const size_t count = engine->parameters[op->weight[j]].rows;
        const real *bias = weight_of(engine, op->bias[j]);

        for (size_t r = 0; r < rows; r++)
            memcpy(y + r * stride + column, bias, count * sizeof *y);
        column += count;
    }
}

static void multiply(struct qrb__engine *engine, const struct qrb__op *op,
                     const struct qrb__block *block)
{
    const size_t in = engine->graph.values[op->in].columns;
    const size_t total = engine->graph.values[op->out].columns;
    const real *x = value_rows(engine, op->in, block);
    real *y = value_rows(engine, op->out, block);
    const bool biased = op->bias[0] != QRB__NONE;

    if (biased)
        fill_with_bias(engine, op, block->rows, total, y);
    for (size_t j = 0; j < op->weights; j++) {
        const size_t columns = engine->parameters[op->weight[j]].rows;
        const struct qrb__gemm shape = { .m = block->rows,
                                         .n = columns,
                                         .k = in,
                                         .lda = in,
                                         .ldb = in,
                                         .ldc = total,
                                         .alpha = 1,
                                         .beta = biased ? 1 : 0,
                                         .transpose_b = true };

        REAL(qrb__gemm)(engine->ctx, &shape, x,
                        weight_of(engine, op->weight[j]), y);
        y += columns;
    }
}

static void multiply_grad(struct qrb__engine *engine, const struct qrb__op *op,
                          const struct qrb__block *block)
{
    const size_t in = engine->graph.values[op->in].columns;
    const size_t total = engine->graph.values[op->out].columns;
    const real *dy = gradient_rows(engine, op->out, block);
    real *dx = gradient_rows(engine, op->in, block);
    size_t columns;

    for (size_t j = 0; j < op->weights;) {
        const real *w = weight_of(engine, op->weight[j]);
        const size_t run =
            REAL(qrb__linear_run)(engine, op, j, false, &columns);
        const struct qrb__gemm shape = { .m = block->rows,
                                         .n = in,
                                         .k = columns,
                                         .lda = total,
                                         .ldb = in,
                                         .ldc = in,
                                         .alpha = 1,
                                         .beta = j > 0 ? 1 : 0 };

        REAL(qrb__gemm)(engine->ctx, &shape, dy, w, dx);
        dy += columns;
        j += run;
    }
}

struct bias_grad {
    qrb_context *ctx;
    const real *dy;
    real *gradient;
    size_t rows;
    size_t stride;
    size_t columns;
};

static void add_columns(size_t task, size_t worker, void *arg)
{
    const struct bias_grad *work = arg;
    const size_t first = task * BIAS_COLUMNS;
    const size_t left = work->columns - first;

    (void)worker;
    for (size_t r = 0; r < work->rows; r++)
        REAL_KERNELS(work->ctx)->add(work->dy + r * work->stride + first,
                                     left < BIAS_COLUMNS ? left : BIAS_COLUMNS,
                                     work->gradient + first);
}

void REAL(qrb__linear_bias_grad)(struct qrb__engine *engine,
                                 const struct qrb__op *op, size_t index,
                                 size_t rows, const real *dy, size_t stride)
{
    struct bias_grad work = { engine->ctx,
                              dy,
                              gradient_of(engine, op->bias[index]),
                              rows,
                              stride,
                              engine->parameters[op->bias[index]].rows };

    qrb__parallel_for(engine->ctx,
                      (work.columns + BIAS_COLUMNS - 1) / BIAS_COLUMNS,
                      add_columns, &work);
}

/* dW += dy^T x over all rows. */
static void sum_weights(struct qrb__engine *engine, const struct qrb__op *op)
{
    const struct qrb__value *input = &engine->graph.values[op->in];
    const size_t rows = REAL(qrb__batch_rows)(engine, input->extent);
    const size_t in = input->columns;
    const size_t total = engine->graph.values[op->out].columns;
    const real *x = value_rows(engine, op->in, NULL);
    const real *dy = gradient_rows(engine, op->out, NULL);
    size_t columns;

    for (size_t j = 0, column = 0; j < op->weights; column += columns) {
        const size_t run =
            REAL(qrb__linear_run)(engine, op, j, true, &columns);
        const struct qrb__gemm shape = { .m = columns,
                                         .n = in,
                                         .k = rows,
                                         .lda = total,
                                         .ldb = in,
                                         .ldc = in,
                                         .alpha = 1,
                                         .beta = 1,
                                         .transpose_a = true };

        REAL(qrb__gemm)(engine->ctx, &shape, dy + column, x,
                        gradient_of(engine, op->weight[j]));
        j += run;
    }
    for (size_t j = 0, column = 0; j < op->weights; j++) {
        if (op->bias[j] != QRB__NONE)
            REAL(qrb__linear_bias_grad)(engine, op, j, rows, dy + column,
                                        total);
        column += engine->parameters[op->weight[j]].rows;
    }
}

/* All rows as one block. */
static struct qrb__block whole_batch(const struct qrb__engine *engine,
                                     const struct qrb__op *op)
{
    return (struct qrb__block){
        .rows = REAL(qrb__batch_rows)(
            engine, engine->graph.values[op->in].extent)
    };
}

static qrb_status multiply_whole(struct qrb__engine *engine,
                                 const struct qrb__op *op)
{
    const struct qrb__block block = whole_batch(engine, op);

    multiply(engine, op, &block);
    return QRB_OK;
}

static qrb_status multiply_whole_grad(struct qrb__engine *engine,
                                      const struct qrb__op *op)
{
    const struct qrb__block block = whole_batch(engine, op);

    multiply_grad(engine, op, &block);
    sum_weights(engine, op);
    return QRB_OK;
}

const struct REAL(qrb__family) REAL(qrb__linear) = {
    .forward = multiply_whole,
    .backward = multiply_whole_grad,
    .forward_rows = multiply,
    .backward_rows = multiply_grad,
    .weights = sum_weights,
    .forward_tapped = REAL(qrb__linear_tapped),
    .backward_tapped = REAL(qrb__linear_tapped_grad),
};
