/* The public product of packed matrices: what it takes and what it refuses. */
#include "quant/multiply.h"

static qrb_status check_float(qrb_context *ctx, const struct qrb__view *view,
                              const char *name)
{
    const size_t at = view->dtype == QRB_F64 || view->dtype == QRB_F32 ||
                              view->dtype == QRB_F16 || view->dtype == QRB_BF16
                          ? qrb__view_first_not_finite(ctx, view)
                          : 0;

    if (view->dtype != QRB_F64 && view->dtype != QRB_F32 &&
        view->dtype != QRB_F16 && view->dtype != QRB_BF16)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s is %s; F64, F32, F16 or BF16 is expected", name,
                         qrb_dtype_name(view->dtype));
    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE, "%s: element %zu is not finite",
                         name, at);
    return QRB_OK;
}

static qrb_status check_arguments(const qrb_packed *packed,
                                  const qrb_tensor *x, const qrb_tensor *bias,
                                  const qrb_tensor *y)
{
    qrb_context *ctx = packed->ctx;
    qrb_status status;

    if (x == NULL || y == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "%s is NULL",
                         x == NULL ? "x" : "y");
    status = qrb__packed_check_matrix(ctx, &x->view, "x");
    if (status == QRB_OK)
        status = qrb__packed_check_matrix(ctx, &y->view, "y");
    if (status != QRB_OK)
        return status;
    if (x->view.shape[1] != packed->cols ||
        y->view.shape[0] != x->view.shape[0] ||
        y->view.shape[1] != packed->rows)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "x is [%zu, %zu] and y [%zu, %zu]; weights [%zu, "
                         "%zu] want [tokens, %zu] and [tokens, %zu]",
                         x->view.shape[0], x->view.shape[1], y->view.shape[0],
                         y->view.shape[1], packed->rows, packed->cols,
                         packed->cols, packed->rows);
    if (bias != NULL &&
        (bias->view.rank != 1 || bias->view.shape[0] != packed->rows))
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "the bias is no vector of %zu elements",
                         packed->rows);
    status = check_float(ctx, &x->view, "x");
    if (status == QRB_OK && bias != NULL)
        status = check_float(ctx, &bias->view, "bias");
    return status;
}

qrb_status qrb_packed_multiply(const qrb_packed *packed, const qrb_tensor *x,
                               const qrb_tensor *bias,
                               const qrb_packed_multiply_options *options,
                               qrb_tensor *y)
{
    qrb_packed_multiply_options own = QRB_PACKED_MULTIPLY_OPTIONS_INIT;
    qrb_context *ctx;
    qrb_status status;

    if (packed == NULL)
        return QRB_E_INVALID_ARG;
    ctx = packed->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = qrb__options_copy(ctx, options, sizeof own,
                                   "qrb_packed_multiply_options", &own);
    if (status != QRB_OK)
        return status;
    if (own.act_bits != 0 && own.act_bits != 8)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "act_bits is %u; 0 or 8 is allowed", own.act_bits);
    status = check_arguments(packed, x, bias, y);
    if (status != QRB_OK)
        return status;
    return qrb__packed_multiply(packed, &x->view,
                                bias == NULL ? NULL : &bias->view,
                                own.act_bits, &y->view);
}
