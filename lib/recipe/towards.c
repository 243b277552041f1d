/* A control for repairs: the way straight to the anchor, without any text.
 * The move is one pull of a decoupled anchor with the rate d / |w - a|. */
#include <math.h>

#include <qrobust/recipe.h>

#include "core/context.h"
#include "model/model.h"
#include "recipe/weights.h"

/* Move by a distance, at most onto the anchor. */
static qrb_status move(qrb_noise *pull, double distance, double *fraction)
{
    double whole;
    const qrb_status status = qrb_anchor_distance(pull, &whole);

    if (status != QRB_OK)
        return status;
    *fraction = distance < whole ? distance / whole : 1.0;
    return qrb_noise_post_step(pull, *fraction);
}

qrb_status qrb_move_towards(qrb_model *model, const qrb_model *anchor,
                            const qrb_filter *filter, double distance,
                            double *fraction_out)
{
    qrb_anchor_options options = QRB_ANCHOR_OPTIONS_INIT;
    qrb_snapshot *before = NULL;
    qrb_noise *pull = NULL;
    double fraction = 0.0;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (anchor == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "anchor is NULL");
    if (!(distance >= 0.0) || !isfinite(distance))
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "distance is %g; it is at least 0 and finite",
                         distance);

    options.application = QRB_ANCHOR_DECOUPLED;
    options.strength = 1.0;
    status = qrb__refuse_selected(model, filter, QRB_PARAM_FROZEN);
    if (status != QRB_OK)
        return status;
    status = qrb_noise_create_anchor(model->ctx, &options, &pull);
    if (status == QRB_OK)
        status = qrb_noise_bind(pull, model, filter);
    if (status == QRB_OK)
        status = qrb_anchor_set_from(pull, anchor);
    if (status == QRB_OK)
        status = qrb_snapshot_create(model, filter, &before);
    if (status != QRB_OK)
        goto out;
    status = move(pull, distance, &fraction);
    if (status != QRB_OK)
        status = qrb__undo(model->ctx, before, status);
    else if (fraction_out != NULL)
        *fraction_out = fraction;
out:
    qrb_snapshot_destroy(before);
    qrb_noise_destroy(pull);
    return status;
}
