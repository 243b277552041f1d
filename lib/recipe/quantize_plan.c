/* The order of matrices.
 *
 * With propagated errors blocks ascend and a block may be cut into the stages
 * of true-sequential order.  Without, they descend: what feeds a matrix has
 * then not changed when its turn comes, at no cost in memory.  Everything that
 * can be refused is refused here, before a weight changes; O(weights) time for
 * the check that all are finite. */
#include "recipe/quantize_plan.h"

#include <stdio.h>

#include "core/sort.h"
#include "recipe/weights.h"

/* The stage of true-sequential order that a role belongs to. */
static uint32_t stage_of(uint32_t role)
{
    switch (role) {
    case QRB_ROLE_Q:
    case QRB_ROLE_K:
    case QRB_ROLE_V:
    case QRB_ROLE_QKV:
        return 0;
    case QRB_ROLE_O:
        return 1;
    case QRB_ROLE_GATE:
    case QRB_ROLE_UP:
    case QRB_ROLE_FC1:
        return 2;
    case QRB_ROLE_DOWN:
    case QRB_ROLE_FC2:
        return 3;
    default:
        return 4;
    }
}

/* What lies outside blocks comes behind them. */
static int64_t depth_of(const struct qrb__planned *matrix)
{
    return matrix->layer < 0 ? INT64_MAX : matrix->layer;
}

static int in_order(const void *a, const void *b, const void *arg)
{
    const struct qrb__quantize_plan *plan = arg;
    const struct qrb__planned *one = a;
    const struct qrb__planned *other = b;

    if (depth_of(one) != depth_of(other))
        return (depth_of(one) < depth_of(other)) == plan->propagate ? -1 : 1;
    if (one->stage != other->stage)
        return one->stage < other->stage ? -1 : 1;
    return one->parameter < other->parameter ? -1
                                             : one->parameter >
                                                   other->parameter;
}

static qrb_status check_options(qrb_context *ctx,
                                const qrb_quantize_options *options)
{
    if (options->samples == 0 || options->context == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "quantize: samples is %zu and context %zu; both are "
                         "at least 1",
                         options->samples, options->context);
    if (options->propagate > QRB_OFF || options->sequential > QRB_OFF ||
        options->undo > 1 || options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "quantize: propagate is %u, sequential %u, undo %u, "
                         "reserved %u; the first two are of enum qrb_choice, "
                         "undo is 0 or 1, and the last is 0",
                         options->propagate, options->sequential,
                         options->undo, options->reserved);
    return QRB_OK;
}

/* Methods that look at what the matrices before them have become. */
static bool propagates(const qrb_quantizer *quantizer)
{
    return quantizer->kind->kind == QRB_QUANTIZER_GPTQ;
}

static qrb_status choose_order(struct qrb__quantize_plan *plan,
                               const qrb_quantizer *quantizer,
                               const qrb_quantize_options *options)
{
    plan->propagate = options->propagate == QRB_AS_THE_METHOD
                          ? propagates(quantizer)
                          : options->propagate == QRB_ON;
    plan->sequential = options->sequential == QRB_AS_THE_METHOD
                           ? plan->propagate
                           : options->sequential == QRB_ON;
    if (plan->sequential && !plan->propagate)
        return qrb__fail(plan->ctx, QRB_E_INVALID_ARG,
                         "quantize: sequential steps differ from whole blocks "
                         "where errors propagate, and they do not");
    return QRB_OK;
}

static qrb_status check_quantizer(struct qrb__quantize_plan *plan,
                                  const qrb_quantizer *quantizer)
{
    if (quantizer == NULL || quantizer->ctx != plan->ctx)
        return qrb__fail(plan->ctx, QRB_E_INVALID_ARG, "quantizer is %s",
                         quantizer == NULL ? "NULL" : "of another context");
    if (quantizer->kind->round != NULL)
        return qrb__fail(plan->ctx, QRB_E_UNSUPPORTED,
                         "quantize: %s has no codes; qrb_fake_quantize() "
                         "rounds a model through it",
                         quantizer->kind->name);
    plan->needs = quantizer->kind->needs;
    for (size_t i = 0; i < quantizer->scaling_count; i++)
        plan->needs |= quantizer->scalings[i]->kind->needs;
    return QRB_OK;
}

static qrb_status make_rowwise(struct qrb__quantize_plan *plan,
                               const qrb_quantizer *quantizer)
{
    const size_t count = quantizer->scaling_count;

    plan->rowwise = *quantizer;
    plan->rowwise.options.group_size = 0;
    if (count == 0)
        return QRB_OK;
    plan->links = qrb__alloc_array(plan->ctx, count, sizeof *plan->links);
    plan->link_at = qrb__alloc_array(plan->ctx, count, sizeof *plan->link_at);
    if (plan->links == NULL || plan->link_at == NULL)
        return qrb__fail(plan->ctx, QRB_E_NO_MEMORY, "quantize: %zu links",
                         count);
    for (size_t i = 0; i < count; i++) {
        plan->links[i] = *quantizer->scalings[i];
        plan->links[i].options.group_size = 0;
        plan->link_at[i] = &plan->links[i];
    }
    plan->rowwise.scalings = plan->link_at;
    return QRB_OK;
}

static qrb_status check_matrix(const struct qrb__quantize_plan *plan,
                               const struct qrb__parameter *parameter,
                               struct qrb__view *view)
{
    char shape[QRB__SHAPE_TEXT];
    size_t at;

    if (!qrb__parameter_matrix(parameter, view))
        return qrb__fail(
            plan->ctx, QRB_E_SHAPE,
            "%s: found %s, expected a matrix, or dense filters "
            "that can be seen as one",
            parameter->name,
            qrb__view_shape_text(&parameter->weight, shape, sizeof shape));
    at = qrb__view_first_not_finite(plan->ctx, view);
    if (at != SIZE_MAX)
        return qrb__fail(plan->ctx, QRB_E_NOT_FINITE,
                         "%s: w[%zu, %zu] is not finite; the model is damaged "
                         "there, so repair it, or filter the tensor out",
                         parameter->name, at / view->shape[1],
                         at % view->shape[1]);
    if ((plan->needs & (QRB__NEEDS_GRAM | QRB__NEEDS_RANGES)) != 0 &&
        parameter->weight.rank != 2)
        return qrb__fail(plan->ctx, QRB_E_UNSUPPORTED,
                         "%s: is a convolution, whose inputs are not observed; "
                         "filter it out or use a method without calibration",
                         parameter->name);
    return QRB_OK;
}

static qrb_status list_matrices(struct qrb__quantize_plan *plan,
                                const qrb_model *model,
                                const qrb_filter *filter, size_t selected)
{
    plan->matrices =
        qrb__alloc_array(plan->ctx, selected, sizeof *plan->matrices);
    if (plan->matrices == NULL)
        return qrb__fail(plan->ctx, QRB_E_NO_MEMORY,
                         "quantize: list of %zu matrices", selected);
    for (size_t i = 0; i < model->count; i++) {
        const struct qrb__parameter *parameter = model->parameters[i];
        struct qrb__planned *matrix = &plan->matrices[plan->count];
        qrb_status status;

        if (!qrb__filter_selects(filter, parameter))
            continue;
        matrix->parameter = i;
        matrix->layer = parameter->layer;
        matrix->stage = plan->sequential ? stage_of(parameter->role) : 0;
        status = check_matrix(plan, parameter, &matrix->view);
        if (status == QRB_OK)
            status = qrb__cancelled(plan->ctx);
        if (status != QRB_OK)
            return status;
        plan->count++;
    }
    qrb__sort_with(plan->matrices, plan->count, sizeof *plan->matrices,
                   in_order, plan);
    return QRB_OK;
}

qrb_status qrb__quantize_plan_open(struct qrb__quantize_plan *plan,
                                   qrb_model *model,
                                   const qrb_quantizer *quantizer,
                                   const qrb_quantize_options *options)
{
    size_t selected;
    qrb_status status;

    *plan = (struct qrb__quantize_plan){ .ctx = model->ctx };
    status = check_options(plan->ctx, options);
    if (status == QRB_OK)
        status = check_quantizer(plan, quantizer);
    if (status == QRB_OK)
        status = choose_order(plan, quantizer, options);
    if (status == QRB_OK)
        status = make_rowwise(plan, quantizer);
    if (status == QRB_OK)
        status = qrb__refuse_selected(model, options->filter, 0);
    if (status == QRB_OK)
        status = qrb__filter_count(model, options->filter, &selected);
    if (status == QRB_OK && options->finished > selected)
        status = qrb__fail(plan->ctx, QRB_E_INVALID_ARG,
                           "quantize: finished is %zu of %zu matrices",
                           options->finished, selected);
    if (status == QRB_OK)
        status = list_matrices(plan, model, options->filter, selected);
    return status;
}

void qrb__quantize_plan_close(struct qrb__quantize_plan *plan)
{
    qrb__free(plan->ctx, plan->matrices);
    qrb__free(plan->ctx, plan->links);
    qrb__free(plan->ctx, plan->link_at);
}

size_t qrb__quantize_plan_step(const struct qrb__quantize_plan *plan,
                               size_t first)
{
    const struct qrb__planned *of = &plan->matrices[first];
    size_t end = first + 1;

    while (end < plan->count && plan->matrices[end].layer == of->layer &&
           plan->matrices[end].stage == of->stage)
        end++;
    return end;
}

const qrb_quantizer *qrb__quantize_plan_fit(
    const struct qrb__quantize_plan *plan, const qrb_quantizer *quantizer,
    size_t cols, uint32_t *group_size, char *note, size_t note_size)
{
    const size_t group = quantizer->options.group_size;

    *group_size = 0;
    if (group == 0 || !quantizer->kind->has_bits)
        return quantizer; /* blocks of NF4 may span rows */
    if (group > cols) {
        snprintf(note, note_size, "rows of %zu are one group", cols);
        return &plan->rowwise;
    }
    *group_size = (uint32_t)group;
    if (cols % group != 0)
        snprintf(note, note_size, "last group of a row has %zu columns",
                 cols % group);
    return quantizer;
}
