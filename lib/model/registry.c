/* The registry of parameters: views are copied, memory stays the host's, names
 * are unique.  Names are found through an open-addressing table of indices
 * that is at most half full, so that a look-up is O(length of the name). */
#include "model/registry.h"

#include <string.h>

#include "model/pass.h"

enum { FIRST_CAPACITY = 16 };

/* FNV-1a, 64 bits. */
static uint64_t hash_of(const char *name)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
    return hash;
}

/* Slot that holds a name, or the empty one where it belongs.  The number of
 * slots is a power of two. */
static size_t slot_of(const qrb_model *model, const char *name)
{
    const size_t mask = model->slot_count - 1;
    size_t slot = (size_t)hash_of(name) & mask;

    while (model->slots[slot] != 0 &&
           strcmp(model->parameters[model->slots[slot] - 1]->name, name) != 0)
        slot = (slot + 1) & mask;
    return slot;
}

/* Room for one more parameter in the list and in the table. */
static qrb_status grow(qrb_model *model)
{
    const size_t capacity =
        model->capacity == 0 ? FIRST_CAPACITY : 2 * model->capacity;
    struct qrb__parameter **parameters;
    size_t *slots = NULL;
    size_t slot_count;

    if (!qrb__mul_size(capacity, 2, &slot_count))
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "%zu parameters",
                         capacity);
    slots = qrb__alloc_array(model->ctx, slot_count, sizeof *slots);
    if (slots == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY,
                         "table of %zu parameter names", slot_count);
    parameters = qrb__grow_array(model->ctx, model->parameters, model->count,
                                 capacity, sizeof *parameters);
    if (parameters == NULL) {
        qrb__free(model->ctx, slots);
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "%zu parameters",
                         capacity);
    }
    qrb__free(model->ctx, model->slots);
    model->parameters = parameters;
    model->capacity = capacity;
    model->slots = slots;
    model->slot_count = slot_count;
    for (size_t i = 0; i < model->count; i++)
        slots[slot_of(model, parameters[i]->name)] = i + 1;
    return QRB_OK;
}

qrb_status qrb_model_create(qrb_context *ctx,
                            const qrb_host_callbacks *callbacks,
                            qrb_model **out)
{
    qrb_host_callbacks known = QRB_HOST_CALLBACKS_INIT;
    qrb_model *model;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__options_copy(ctx, callbacks, sizeof known, "host callbacks",
                               &known);
    if (status != QRB_OK)
        return status;
    if ((known.flags & ~(uint64_t)QRB_HOST_TOKEN_BATCHES) != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "host callbacks: flags are 0x%llx; known is 0x%x",
                         (unsigned long long)known.flags,
                         QRB_HOST_TOKEN_BATCHES);
    if (known.logits != NULL && known.vocab == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "host callbacks: logits without vocab");
    model = qrb__alloc_array(ctx, 1, sizeof *model);
    if (model == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "model");
    model->ctx = ctx;
    model->callbacks = known;
    *out = model;
    return QRB_OK;
}

static void free_parameter(qrb_context *ctx, struct qrb__parameter *parameter)
{
    if (parameter == NULL)
        return;
    qrb__free(ctx, parameter->name);
    qrb__free(ctx, parameter);
}

void qrb_model_destroy(qrb_model *model)
{
    qrb_context *ctx;

    if (model == NULL)
        return;
    ctx = model->ctx;
    qrb__model_unbind_all(model);
    if (model->callbacks.user_free != NULL) {
        qrb__callback_begin(ctx);
        model->callbacks.user_free(model->callbacks.user);
        qrb__callback_end(ctx);
    }
    for (size_t i = 0; i < model->count; i++)
        free_parameter(ctx, model->parameters[i]);
    qrb__free(ctx, model->parameters);
    qrb__free(ctx, model->slots);
    qrb__free(ctx, model);
}

/* A weight and its gradient as a caller gives them. */
static qrb_status check_tensors(qrb_context *ctx, const char *name,
                                const qrb_tensor *weight,
                                const qrb_tensor *gradient)
{
    char found[QRB__SHAPE_TEXT];
    char expected[QRB__SHAPE_TEXT];

    if (weight == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "%s: no weight", name);
    if (weight->view.dtype != QRB_F32 && weight->view.dtype != QRB_F64)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: weight is %s; F32 and F64 can be registered",
                         name, qrb_dtype_name(weight->view.dtype));
    if (gradient == NULL)
        return QRB_OK;
    if (!qrb__view_same_shape(&weight->view, &gradient->view))
        return qrb__fail(
            ctx, QRB_E_SHAPE, "%s: gradient is %s, weight is %s", name,
            qrb__view_shape_text(&gradient->view, found, sizeof found),
            qrb__view_shape_text(&weight->view, expected, sizeof expected));
    if (gradient->view.dtype != weight->view.dtype)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: gradient is %s, weight is %s", name,
                         qrb_dtype_name(gradient->view.dtype),
                         qrb_dtype_name(weight->view.dtype));
    return QRB_OK;
}

static qrb_status check_parameter(const qrb_model *model,
                                  const qrb_parameter *given)
{
    const uint32_t flags = QRB_PARAM_FROZEN | QRB_PARAM_TRANSPOSED;
    qrb_context *ctx = model->ctx;

    if (given->name == NULL || given->name[0] == '\0')
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "parameter %zu has no name",
                         model->count);
    if (given->role > QRB_ROLE_LORA_V)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s: role is %u; the last known is %d", given->name,
                         given->role, QRB_ROLE_LORA_V);
    if (given->layer < -1)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s: layer is %d; it is a block, or -1 outside them",
                         given->name, given->layer);
    if ((given->flags & ~flags) != 0 || given->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s: flags are 0x%x, reserved is %u; known flags are "
                         "0x%x, reserved is 0",
                         given->name, given->flags, given->reserved, flags);
    if (qrb_model_find(model, given->name) != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "%s: there is a parameter of this name", given->name);
    return check_tensors(ctx, given->name, given->weight, given->gradient);
}

/* The tensors that a host may look at later, and the views that methods see. */
static void point_entry(struct qrb__registry_entry *entry, qrb_context *ctx,
                        const qrb_tensor *weight, const qrb_tensor *gradient)
{
    const struct qrb__view none = { 0 };

    entry->parameter.weight = weight->view;
    entry->parameter.gradient = gradient == NULL ? none : gradient->view;
    entry->weight = (qrb_tensor){ ctx, entry->parameter.weight, NULL };
    entry->gradient = (qrb_tensor){ ctx, entry->parameter.gradient, NULL };
}

qrb_status qrb_model_add_parameter(qrb_model *model,
                                   const qrb_parameter *parameter,
                                   size_t *index_out)
{
    qrb_parameter given = QRB_PARAMETER_INIT;
    struct qrb__registry_entry *entry;
    qrb_context *ctx;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (parameter == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "parameter is NULL");
    status =
        qrb__options_copy(ctx, parameter, sizeof given, "parameter", &given);
    if (status != QRB_OK)
        return status;
    status = check_parameter(model, &given);
    if (status != QRB_OK)
        return status;
    if (model->count == UINT32_MAX)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED, "%s: too many parameters",
                         given.name);
    if (model->count == model->capacity) {
        status = grow(model);
        if (status != QRB_OK)
            return status;
    }
    entry = qrb__alloc_array(ctx, 1, sizeof *entry);
    if (entry == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "parameter %s", given.name);
    entry->parameter.name = qrb__strdup(ctx, given.name);
    if (entry->parameter.name == NULL) {
        free_parameter(ctx, &entry->parameter);
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "name of %s", given.name);
    }
    point_entry(entry, ctx, given.weight, given.gradient);
    entry->parameter.role = given.role;
    entry->parameter.layer = given.layer;
    entry->parameter.flags = given.flags;
    entry->parameter.index = (uint32_t)model->count;
    model->slots[slot_of(model, entry->parameter.name)] = model->count + 1;
    model->parameters[model->count++] = &entry->parameter;
    if (index_out != NULL)
        *index_out = entry->parameter.index;
    return QRB_OK;
}

size_t qrb_model_parameter_count(const qrb_model *model)
{
    return model == NULL ? 0 : model->count;
}

size_t qrb_model_find(const qrb_model *model, const char *name)
{
    if (model == NULL || name == NULL || model->count == 0)
        return SIZE_MAX;
    /* An empty slot holds 0, which comes out as SIZE_MAX. */
    return model->slots[slot_of(model, name)] - 1;
}

static struct qrb__registry_entry *entry_of(struct qrb__parameter *parameter)
{
    return (struct qrb__registry_entry *)parameter; /* its first member */
}

qrb_status qrb_model_parameter(const qrb_model *model, size_t index,
                               qrb_parameter *out)
{
    qrb_parameter found = QRB_PARAMETER_INIT;
    struct qrb__registry_entry *entry;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    if (out == NULL)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "out is NULL");
    status = qrb__result_check(model->ctx, "parameter", out);
    if (status != QRB_OK)
        return status;
    if (index >= model->count)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG, "parameter %zu of %zu",
                         index, model->count);
    entry = entry_of(model->parameters[index]);
    found.name = entry->parameter.name;
    found.weight = &entry->weight;
    found.gradient =
        entry->gradient.view.memory == NULL ? NULL : &entry->gradient;
    found.role = entry->parameter.role;
    found.layer = entry->parameter.layer;
    found.flags = entry->parameter.flags;
    qrb__result_copy(&found, sizeof found, out);
    return QRB_OK;
}

qrb_status qrb_model_weights_changed(qrb_model *model, size_t index,
                                     const qrb_tensor *weight,
                                     const qrb_tensor *gradient)
{
    struct qrb__registry_entry *entry;
    char found[QRB__SHAPE_TEXT];
    char expected[QRB__SHAPE_TEXT];
    qrb_context *ctx;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    ctx = model->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (index >= model->count)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "parameter %zu of %zu", index,
                         model->count);
    entry = entry_of(model->parameters[index]);
    status = check_tensors(ctx, entry->parameter.name, weight, gradient);
    if (status != QRB_OK)
        return status;
    if ((gradient == NULL) != (entry->gradient.view.memory == NULL))
        return qrb__fail(
            ctx, QRB_E_INVALID_ARG, "%s: was registered %s gradient",
            entry->parameter.name, gradient == NULL ? "with a" : "without");
    if (!qrb__view_same_shape(&weight->view, &entry->weight.view))
        return qrb__fail(
            ctx, QRB_E_SHAPE, "%s: found %s, expected %s",
            entry->parameter.name,
            qrb__view_shape_text(&weight->view, found, sizeof found),
            qrb__view_shape_text(&entry->weight.view, expected,
                                 sizeof expected));
    if (weight->view.dtype != entry->weight.view.dtype)
        return qrb__fail(
            ctx, QRB_E_INVALID_ARG, "%s: found %s, registered as %s",
            entry->parameter.name, qrb_dtype_name(weight->view.dtype),
            qrb_dtype_name(entry->weight.view.dtype));
    if (entry->parameter.perturbed)
        return qrb__fail(ctx, QRB_E_STATE, "%s: is perturbed at the moment",
                         entry->parameter.name);
    point_entry(entry, ctx, weight, gradient);
    return QRB_OK;
}
