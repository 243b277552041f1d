/* Anchor-guided repair: training on text while an anchor pulls at the matrices
 * inside blocks (methods 4.4, 4.5).  Norms, biases, embeddings and the head
 * train as well, without a pull.  Memory beside the trainer's is two copies of
 * the anchored matrices: the anchor, and the weights as received, from which
 * the way that the repair went is measured. */
#include <qrobust/recipe.h>

#include "core/context.h"
#include "model/model.h"

struct repair {
    qrb_model *model;
    qrb_repair_options options;
    qrb_noise *anchor;
    qrb_noise *received; /* measures only: it takes no part in the training */
    qrb_dataset *dataset;
    qrb_trainer *trainer;
};

static qrb_status make_anchor(qrb_model *model,
                              const qrb_anchor_options *options,
                              const qrb_model *source, qrb_noise **out)
{
    qrb_status status = qrb_noise_create_anchor(model->ctx, options, out);

    if (status == QRB_OK)
        status = qrb_noise_bind(*out, model, NULL);
    if (status != QRB_OK)
        return status;
    return source == NULL ? qrb_anchor_snapshot(*out)
                          : qrb_anchor_set_from(*out, source);
}

static qrb_status prepare(struct repair *repair, const qrb_model *anchor,
                          const int32_t *tokens, size_t count)
{
    const qrb_repair_options *options = &repair->options;
    const qrb_anchor_options plain = QRB_ANCHOR_OPTIONS_INIT;
    qrb_model *model = repair->model;
    const double pull = options->trainer.lr * options->anchor.strength;
    qrb_status status;

    if (tokens == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "tokens is NULL");
    if (options->anchor.application == QRB_ANCHOR_DECOUPLED && pull > 1.0)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "repair: learning rate times anchor strength is %g; "
                         "above 1 each step overshoots the anchor: lower one "
                         "of them, or take the proximal form",
                         pull);
    if (count <= options->dataset.context)
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "repair: the text has %zu tokens, fewer than the %zu "
                         "that one training sequence takes; give more text or "
                         "a shorter context",
                         count, options->dataset.context + 1);
    status = make_anchor(model, &options->anchor, anchor, &repair->anchor);
    if (status == QRB_OK)
        status = make_anchor(model, &plain, NULL, &repair->received);
    if (status == QRB_OK)
        status = qrb_dataset_create(model->ctx, tokens, count,
                                    &options->dataset, &repair->dataset);
    if (status == QRB_OK)
        status = qrb_trainer_create(model, repair->dataset, &options->trainer,
                                    &repair->trainer);
    if (status == QRB_OK)
        status = qrb_trainer_add_noise(repair->trainer, repair->anchor);
    return status;
}

/* A cancelled repair has figures too. */
static qrb_status run(struct repair *repair, qrb_repair_result *out)
{
    qrb_status status =
        qrb_anchor_distance(repair->anchor, &out->distance_before);
    qrb_status measured;

    if (status == QRB_OK && repair->options.resume != 0)
        status = qrb_trainer_resume(repair->trainer, NULL);
    if (status != QRB_OK)
        return status;
    out->training.struct_size = sizeof out->training;
    status = qrb_trainer_run(repair->trainer, &out->training);
    if (status != QRB_OK && status != QRB_E_CANCELLED)
        return status;
    measured = qrb_anchor_distance(repair->anchor, &out->distance_after);
    if (measured == QRB_OK)
        measured = qrb_anchor_distance(repair->received, &out->distance_moved);
    return measured == QRB_OK ? status : measured;
}

qrb_status qrb_repair(qrb_model *model, const qrb_model *anchor,
                      const int32_t *tokens, size_t count,
                      const qrb_repair_options *options, qrb_repair_result *out)
{
    const qrb_repair_options defaults = QRB_REPAIR_OPTIONS_INIT;
    qrb_repair_result result = { .struct_size = sizeof result };
    struct repair repair = { .model = model, .options = defaults };
    qrb_context *ctx;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = qrb__result_check(ctx, "repair result", out);
    if (status == QRB_OK)
        status = qrb__options_copy(ctx, options, sizeof defaults,
                                   "repair options", &repair.options);
    if (status == QRB_OK && repair.options.resume > 1)
        status = qrb__fail(ctx, QRB_E_INVALID_ARG,
                           "repair: resume is %u; it is 0 or 1",
                           repair.options.resume);
    if (status == QRB_OK && repair.options.reserved != 0)
        status =
            qrb__fail(ctx, QRB_E_INVALID_ARG, "repair: reserved is %u; it is 0",
                      repair.options.reserved);
    if (status != QRB_OK)
        return status;

    status = prepare(&repair, anchor, tokens, count);
    if (status == QRB_OK)
        status = run(&repair, &result);
    qrb_trainer_destroy(repair.trainer);
    qrb_dataset_destroy(repair.dataset);
    qrb_noise_destroy(repair.received);
    qrb_noise_destroy(repair.anchor);
    if ((status == QRB_OK || status == QRB_E_CANCELLED) && out != NULL)
        qrb__result_copy(&result, sizeof result, out);
    return status;
}
