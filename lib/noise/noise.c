/* What all noises share: binding, the bracket around perturbed weights, and
 * the calls into a kind.  A weight is perturbed by one noise at a time, and
 * all weights are saved before the first is changed, so that restoring is
 * exact whatever the order and even where parameters share memory. */
#include "noise/noise.h"

#include <math.h>
#include <string.h>

#include "io/sha256.h"

static qrb_status save_room(qrb_noise *noise)
{
    const struct qrb__binding *binding = &noise->binding;

    noise->saved =
        qrb__alloc_array(noise->ctx, binding->count, sizeof *noise->saved);
    if (noise->saved == NULL)
        goto no_memory;
    for (size_t i = 0; i < binding->count; i++) {
        const struct qrb__view *weight = &binding->parameters[i]->weight;
        void *memory = qrb__alloc_array(noise->ctx, qrb__view_elements(weight),
                                        qrb_dtype_size(weight->dtype));

        if (memory == NULL)
            goto no_memory;
        noise->saved[i] =
            qrb__view_make(weight->dtype, weight->rank, weight->shape, memory);
    }
    return QRB_OK;
no_memory:
    return qrb__fail(noise->ctx, QRB_E_NO_MEMORY,
                     "%s: copies of %zu parameters", noise->kind->name,
                     binding->count);
}

/* Release what binding made; the parameters' list stays the caller's. */
static void release(qrb_noise *noise)
{
    const struct qrb__binding none = { 0 };

    if (noise->kind->unbound != NULL)
        noise->kind->unbound(noise);
    if (noise->saved != NULL)
        for (size_t i = 0; i < noise->binding.count; i++)
            qrb__free(noise->ctx, noise->saved[i].memory);
    qrb__free(noise->ctx, noise->saved);
    noise->saved = NULL;
    qrb__blocks_free(noise->ctx, &noise->blocks);
    noise->binding = none;
}

qrb_status qrb__noise_bind(qrb_noise *noise, const struct qrb__binding *binding)
{
    qrb_status status;

    if (noise->binding.count != 0)
        return qrb__fail(noise->ctx, QRB_E_STATE,
                         "%s is bound once, and this one is already",
                         noise->kind->name);
    noise->binding = *binding;
    status = qrb__blocks_make(noise->ctx, binding->parameters, binding->count,
                              &noise->blocks);
    if (status == QRB_OK && noise->kind->perturb != NULL)
        status = save_room(noise);
    if (status == QRB_OK && noise->kind->bound != NULL)
        status = noise->kind->bound(noise);
    if (status != QRB_OK)
        release(noise);
    return status;
}

/* The same shapes and types on both sides: these copies cannot fail. */
static void save(qrb_noise *noise)
{
    for (size_t i = 0; i < noise->binding.count; i++)
        qrb__view_copy(noise->ctx, &noise->binding.parameters[i]->weight,
                       &noise->saved[i]);
}

static void restore(qrb_noise *noise)
{
    for (size_t i = 0; i < noise->binding.count; i++)
        qrb__view_copy(noise->ctx, &noise->saved[i],
                       &noise->binding.parameters[i]->weight);
}

static void mark(qrb_noise *noise, bool perturbed)
{
    for (size_t i = 0; i < noise->binding.count; i++)
        noise->binding.parameters[i]->perturbed = perturbed;
    noise->perturbed = perturbed;
}

static qrb_status written(qrb_noise *noise, size_t i)
{
    const struct qrb__binding *binding = &noise->binding;

    return binding->written(binding->model, binding->parameters[i]->index);
}

qrb_status qrb__noise_written(qrb_noise *noise)
{
    struct qrb__failure failure;
    qrb_status first = QRB_OK;

    for (size_t i = 0; i < noise->binding.count; i++) {
        const qrb_status status = written(noise, i);

        if (first == QRB_OK && status != QRB_OK) {
            first = status;
            qrb__failure_keep(noise->ctx, &failure);
        }
    }
    if (first != QRB_OK)
        qrb__failure_put_back(noise->ctx, &failure);
    return first;
}

void qrb__noise_unbind(qrb_noise *noise)
{
    struct qrb__parameter **parameters = noise->binding.parameters;

    if (noise->binding.count == 0)
        return;
    if (noise->perturbed) {
        restore(noise);
        mark(noise, false);
        qrb__noise_written(noise); /* there is no one to tell of a failure */
    }
    noise->binding.unbound(noise->binding.model, noise);
    release(noise);
    qrb__free(noise->ctx, parameters);
}

void qrb_noise_destroy(qrb_noise *noise)
{
    if (noise == NULL)
        return;
    qrb__noise_unbind(noise);
    qrb__free(noise->ctx, noise);
}

qrb_status qrb__noise_ready(const qrb_noise *noise)
{
    if (noise->binding.count == 0)
        return qrb__fail(noise->ctx, QRB_E_STATE,
                         "%s is not bound: call qrb_noise_bind() first",
                         noise->kind->name);
    for (size_t i = 0; i < noise->binding.count; i++)
        if (noise->binding.parameters[i]->perturbed)
            return qrb__fail(noise->ctx, QRB_E_STATE,
                             "%s: is perturbed until qrb_perturb_end()",
                             noise->binding.parameters[i]->name);
    return QRB_OK;
}

/* Write perturbed weights and tell the host; on failure all is as before. */
static qrb_status perturb(qrb_noise *noise)
{
    qrb_status status;

    if (noise->kind->perturb == NULL)
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG,
                         "%s does not perturb weights", noise->kind->name);
    status = qrb__noise_ready(noise);
    if (status != QRB_OK)
        return status;
    save(noise);
    mark(noise, true);
    status = noise->kind->perturb(noise);
    if (status != QRB_OK) {
        restore(noise);
        mark(noise, false);
        return status;
    }
    for (size_t i = 0; i < noise->binding.count; i++) {
        struct qrb__failure failure;

        status = written(noise, i);
        if (status == QRB_OK)
            continue;
        /* Those who heard of the change hear that it was taken back; what
         * they answer to that changes nothing. */
        qrb__failure_keep(noise->ctx, &failure);
        restore(noise);
        mark(noise, false);
        for (size_t told = 0; told <= i; told++)
            written(noise, told);
        qrb__failure_put_back(noise->ctx, &failure);
        return status;
    }
    return QRB_OK;
}

qrb_status qrb_perturb_begin(qrb_noise *noise)
{
    return noise == NULL ? QRB_E_INVALID_ARG : perturb(noise);
}

qrb_status qrb_perturb_end(qrb_noise *noise)
{
    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    if (!noise->perturbed)
        return qrb__fail(noise->ctx, QRB_E_STATE,
                         "%s perturbs nothing at the moment",
                         noise->kind->name);
    restore(noise);
    mark(noise, false);
    return qrb__noise_written(noise);
}

qrb_status qrb_attack_apply(qrb_noise *attack)
{
    qrb_status status;

    if (attack == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(attack->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = perturb(attack);
    if (status == QRB_OK)
        mark(attack, false);
    return status;
}

qrb_status qrb_noise_add_grad(qrb_noise *noise, double *loss_out)
{
    double loss = 0.0;
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__noise_ready(noise);
    if (status == QRB_OK && noise->kind->add_grad != NULL)
        status = noise->kind->add_grad(noise, &loss);
    if (status == QRB_OK && loss_out != NULL)
        *loss_out = loss;
    return status;
}

qrb_status qrb_noise_post_step(qrb_noise *noise, double lr)
{
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    if (!(lr >= 0.0 && isfinite(lr)))
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG,
                         "lr is %g; it is at least 0 and finite", lr);
    status = qrb__noise_ready(noise);
    if (status == QRB_OK && noise->kind->post_step != NULL)
        status = noise->kind->post_step(noise, lr);
    return status;
}

/* Integers and floats are taken as they lie in memory, which is as they would
 * in a file (io/bytes.h). */
void qrb__noise_digest(const qrb_noise *noise, struct qrb__sha256 *hash)
{
    const struct qrb__binding *binding = &noise->binding;

    qrb__sha256_add(hash, noise->kind->name, strlen(noise->kind->name) + 1);
    for (size_t i = 0; i < binding->count; i++)
        qrb__sha256_add(hash, &binding->parameters[i]->index,
                        sizeof binding->parameters[i]->index);
    if (noise->kind->digest != NULL)
        noise->kind->digest(noise, hash);
}
