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
    /* The recipe, overlaid with what is given. */
    qrb_trainer_options trainer_options;
    qrb_anchor_options anchor_options;
    qrb_dataset_options dataset_options;
    bool resume;
    qrb_noise *anchor;
    qrb_noise *received; /* measures only: it takes no part in the training */
    qrb_dataset *dataset;
    qrb_trainer *trainer;
};

static qrb_status choose_recipe(qrb_context *ctx, uint32_t recipe,
                                struct repair *repair)
{
    const qrb_trainer_options trainers[] = {
        [QRB_REPAIR_RECOMMENDED] = QRB_REPAIR_TRAINER_OPTIONS_INIT,
        [QRB_REPAIR_PAPER] = QRB_REPAIR_TRAINER_OPTIONS_PAPER,
    };
    const qrb_anchor_options anchors[] = {
        [QRB_REPAIR_RECOMMENDED] = QRB_ANCHOR_OPTIONS_INIT,
        [QRB_REPAIR_PAPER] = QRB_ANCHOR_OPTIONS_PAPER,
    };
    const qrb_dataset_options datasets[] = {
        [QRB_REPAIR_RECOMMENDED] = QRB_REPAIR_DATASET_OPTIONS_INIT,
        [QRB_REPAIR_PAPER] = QRB_REPAIR_DATASET_OPTIONS_PAPER,
    };

    if (recipe > QRB_REPAIR_PAPER)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "repair: recipe is %u; recommended is 0, paper 1",
                         recipe);
    repair->trainer_options = trainers[recipe];
    repair->anchor_options = anchors[recipe];
    repair->dataset_options = datasets[recipe];
    return QRB_OK;
}

static qrb_status read_options(qrb_context *ctx,
                               const qrb_repair_options *options,
                               struct repair *repair)
{
    qrb_repair_options known = QRB_REPAIR_OPTIONS_INIT;
    qrb_status status =
        qrb__options_copy(ctx, options, sizeof known, "repair options", &known);

    if (status == QRB_OK && known.resume > 1)
        status = qrb__fail(ctx, QRB_E_INVALID_ARG,
                           "repair: resume is %u; it is 0 or 1", known.resume);
    if (status == QRB_OK)
        status = choose_recipe(ctx, known.recipe, repair);
    if (status == QRB_OK)
        status = qrb__options_copy(ctx, known.trainer,
                                   sizeof repair->trainer_options,
                                   "trainer options", &repair->trainer_options);
    if (status == QRB_OK)
        status =
            qrb__options_copy(ctx, known.anchor, sizeof repair->anchor_options,
                              "anchor options", &repair->anchor_options);
    if (status == QRB_OK)
        status = qrb__options_copy(ctx, known.dataset,
                                   sizeof repair->dataset_options,
                                   "dataset options", &repair->dataset_options);
    repair->resume = known.resume != 0;
    return status;
}

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
    const qrb_anchor_options plain = QRB_ANCHOR_OPTIONS_INIT;
    qrb_model *model = repair->model;
    const size_t context = repair->dataset_options.context;
    const double pull =
        repair->trainer_options.lr * repair->anchor_options.strength;
    qrb_status status;

    if (tokens == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "tokens is NULL");
    if (repair->anchor_options.application == QRB_ANCHOR_DECOUPLED &&
        pull > 1.0)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "repair: learning rate times anchor strength is %g; "
                         "above 1 each step overshoots the anchor: lower one "
                         "of them, or take the proximal form",
                         pull);
    if (count <= context)
        return qrb__fail(model->ctx, QRB_E_SHAPE,
                         "repair: the text has %zu tokens, fewer than the %zu "
                         "that one training sequence takes; give more text or "
                         "a shorter context",
                         count, context + 1);
    status =
        make_anchor(model, &repair->anchor_options, anchor, &repair->anchor);
    if (status == QRB_OK)
        status = make_anchor(model, &plain, NULL, &repair->received);
    if (status == QRB_OK)
        status = qrb_dataset_create(model->ctx, tokens, count,
                                    &repair->dataset_options, &repair->dataset);
    if (status == QRB_OK)
        status = qrb_trainer_create(model, repair->dataset,
                                    &repair->trainer_options, &repair->trainer);
    if (status == QRB_OK)
        status = qrb_trainer_add_noise(repair->trainer, repair->anchor);
    return status;
}

/* A cancelled repair has figures too. */
static qrb_status run(struct repair *repair, qrb_repair_result *out)
{
    qrb_train_result training = { .struct_size = sizeof training };
    qrb_status status =
        qrb_anchor_distance(repair->anchor, &out->distance_before);
    qrb_status measured;

    if (status == QRB_OK && repair->resume)
        status = qrb_trainer_resume(repair->trainer, NULL);
    if (status != QRB_OK)
        return status;
    status = qrb_trainer_run(repair->trainer, &training);
    if (status != QRB_OK && status != QRB_E_CANCELLED)
        return status;
    out->steps = training.steps;
    out->tokens = training.tokens;
    out->loss = training.loss;
    out->seconds = training.seconds;
    out->anchor_gradient_ratio = training.anchor_gradient_ratio;
    measured = qrb_anchor_distance(repair->anchor, &out->distance_after);
    if (measured == QRB_OK)
        measured = qrb_anchor_distance(repair->received, &out->distance_moved);
    return measured == QRB_OK ? status : measured;
}

qrb_status qrb_repair(qrb_model *model, const qrb_model *anchor,
                      const int32_t *tokens, size_t count,
                      const qrb_repair_options *options, qrb_repair_result *out)
{
    qrb_repair_result result = { .struct_size = sizeof result };
    struct repair repair = { .model = model };
    qrb_context *ctx;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = qrb__result_check(ctx, "repair result", out);
    if (status == QRB_OK)
        status = read_options(ctx, options, &repair);
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
