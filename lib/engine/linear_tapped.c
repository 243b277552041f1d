/* A linear whose points are tapped.  What a listener changes at the input of
 * one weight is not seen by the weights beside it: each gets a copy.  Tensors
 * are handed over dense, so columns of a shared output are copied too. */
#include <string.h>

#include "engine/ops.h"

/* One weight of a linear and its columns of the output. */
struct part {
    struct qrb__engine *engine;
    const struct qrb__op *op;
    size_t j;
    size_t parameter;
    size_t rows;
    size_t in;
    size_t columns;
    size_t first; /* column of the output */
    size_t total;
};

static struct part part_of(struct qrb__engine *engine,
                           const struct qrb__op *op, size_t j)
{
    const struct qrb__value *input = &engine->graph.values[op->in];
    struct part part = { .engine = engine,
                         .op = op,
                         .j = j,
                         .parameter = op->weight[j],
                         .rows = REAL(qrb__batch_rows)(engine, input->extent),
                         .in = input->columns,
                         .columns = engine->parameters[op->weight[j]].rows,
                         .total = engine->graph.values[op->out].columns };

    for (size_t i = 0; i < j; i++)
        part.first += engine->parameters[op->weight[i]].rows;
    return part;
}

static void copy_columns(const real *source, size_t source_stride,
                         real *target, size_t target_stride, size_t rows,
                         size_t columns)
{
    for (size_t r = 0; r < rows; r++)
        memcpy(target + r * target_stride, source + r * source_stride,
               columns * sizeof *target);
}

/* The input of one weight: shared, or its own if somebody listens. */
static qrb_status tap_input(const struct part *part, real **x)
{
    struct qrb__engine *engine = part->engine;
    const struct qrb__op *op = part->op;
    const size_t shape[2] = { part->rows, part->in };

    *x = value_rows(engine, op->in, NULL);
    if (!qrb__engine_wanted(engine, QRB_TAP_LINEAR_INPUT, part->parameter))
        return QRB_OK;
    if (op->weights > 1) {
        real *own = buffer_rows(engine, op->own[part->j], NULL);

        memcpy(own, *x, part->rows * part->in * sizeof *own);
        *x = own;
        engine->tapped[op - engine->graph.ops] |=
            (unsigned char)(1u << part->j);
    }
    return qrb__engine_tap(engine, QRB_TAP_LINEAR_INPUT, part->parameter, 2,
                           shape, *x);
}

/* Columns of y or dy as a dense tensor, written back if they may change. */
static qrb_status tap_columns(const struct part *part, uint32_t point, real *y)
{
    struct qrb__engine *engine = part->engine;
    const size_t shape[2] = { part->rows, part->columns };
    real *dense = y;
    qrb_status status;

    if (!qrb__engine_wanted(engine, point, part->parameter))
        return QRB_OK;
    if (part->op->weights > 1) {
        dense = buffer_rows(engine, part->op->own[QRB__MAX_FUSED], NULL);
        copy_columns(y + part->first, part->total, dense, part->columns,
                     part->rows, part->columns);
    }
    status = qrb__engine_tap(engine, point, part->parameter, 2, shape, dense);
    if (dense != y && point & QRB_TAP_GRAD)
        copy_columns(dense, part->columns, y + part->first, part->total,
                     part->rows, part->columns);
    return status;
}

qrb_status REAL(qrb__linear_tapped)(struct qrb__engine *engine,
                                    const struct qrb__op *op)
{
    real *y = value_rows(engine, op->out, NULL);
    qrb_status status = QRB_OK;

    for (size_t j = 0; status == QRB_OK && j < op->weights; j++) {
        const struct part part = part_of(engine, op, j);
        const struct qrb__gemm shape = { .m = part.rows,
                                         .n = part.columns,
                                         .k = part.in,
                                         .lda = part.in,
                                         .ldb = part.in,
                                         .ldc = part.total,
                                         .alpha = 1,
                                         .beta =
                                             op->bias[j] == QRB__NONE ? 0 : 1,
                                         .transpose_b = true };
        real *x;

        status = tap_input(&part, &x);
        if (status != QRB_OK)
            break;
        if (op->bias[j] != QRB__NONE)
            copy_columns(weight_of(engine, op->bias[j]), 0, y + part.first,
                         part.total, part.rows, part.columns);
        REAL(qrb__gemm)(engine->ctx, &shape, x,
                        weight_of(engine, part.parameter), y + part.first);
        status = tap_columns(&part, QRB_TAP_LINEAR_OUTPUT, y);
    }
    return status;
}

/* dx of one weight; added to that of the weights before. */
static qrb_status input_grad(const struct part *part, const real *dy)
{
    struct qrb__engine *engine = part->engine;
    const struct qrb__op *op = part->op;
    const uint32_t point = QRB_TAP_LINEAR_INPUT | QRB_TAP_GRAD;
    const bool wanted = qrb__engine_wanted(engine, point, part->parameter);
    const bool apart = wanted && part->j > 0;
    const size_t tensor[2] = { part->rows, part->in };
    const struct qrb__gemm shape = { .m = part->rows,
                                     .n = part->in,
                                     .k = part->columns,
                                     .lda = part->total,
                                     .ldb = part->in,
                                     .ldc = part->in,
                                     .alpha = 1,
                                     .beta = part->j > 0 && !apart ? 1 : 0 };
    real *dx = gradient_rows(engine, op->in, NULL);
    real *target =
        apart ? buffer_rows(engine, op->own[QRB__MAX_FUSED], NULL) : dx;
    qrb_status status;

    REAL(qrb__gemm)(engine->ctx, &shape, dy + part->first,
                    weight_of(engine, part->parameter), target);
    if (!wanted)
        return QRB_OK;
    status = qrb__engine_tap(engine, point, part->parameter, 2, tensor, target);
    if (apart)
        REAL_KERNELS(engine->ctx)->add(target, part->rows * part->in, dx);
    return status;
}

static void weight_grad(const struct part *part, const real *dy)
{
    struct qrb__engine *engine = part->engine;
    const struct qrb__op *op = part->op;
    const bool own =
        engine->tapped[op - engine->graph.ops] & (1u << part->j);
    const real *x = own ? buffer_rows(engine, op->own[part->j], NULL)
                        : value_rows(engine, op->in, NULL);
    const struct qrb__gemm shape = { .m = part->columns,
                                     .n = part->in,
                                     .k = part->rows,
                                     .lda = part->total,
                                     .ldb = part->in,
                                     .ldc = part->in,
                                     .alpha = 1,
                                     .beta = 1,
                                     .transpose_a = true };

    REAL(qrb__gemm)(engine->ctx, &shape, dy + part->first, x,
                    gradient_of(engine, part->parameter));
    if (op->bias[part->j] != QRB__NONE)
        REAL(qrb__linear_bias_grad)(engine, op, part->j, part->rows,
                                    dy + part->first, part->total);
}

qrb_status REAL(qrb__linear_tapped_grad)(struct qrb__engine *engine,
                                         const struct qrb__op *op)
{
    real *dy = gradient_rows(engine, op->out, NULL);
    qrb_status status = QRB_OK;

    for (size_t j = 0; status == QRB_OK && j < op->weights; j++) {
        const struct part part = part_of(engine, op, j);

        status =
            tap_columns(&part, QRB_TAP_LINEAR_OUTPUT | QRB_TAP_GRAD, dy);
        if (status == QRB_OK)
            status = input_grad(&part, dy);
        weight_grad(&part, dy);
    }
    return status;
}
