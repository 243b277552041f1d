/* A pass: who listens, in which mode, and the step whose key all randomness
 * takes.  Made once; nothing is allocated after the last listener came. */
#include "model/pass.h"

enum { FIRST_LISTENERS = 4 };

static qrb_status check_options(qrb_model *model,
                                const qrb_pass_options *options)
{
    qrb_context *ctx = model->ctx;

    if (options->mode > QRB_MODE_EVAL || options->role > QRB_PASS_QUANTIZED ||
        (options->flags & ~(uint32_t)QRB_PASS_CONCURRENT) != 0 ||
        options->reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "pass: mode is %u (0..%d), role %u (0..%d), flags "
                         "0x%x (0x%x), reserved %u (0)",
                         options->mode, QRB_MODE_EVAL, options->role,
                         QRB_PASS_QUANTIZED, options->flags,
                         QRB_PASS_CONCURRENT, options->reserved);
    if (options->teacher == NULL)
        return QRB_OK;
    if (options->teacher->ctx != ctx)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "pass: the teacher's pass is of another context");
    if (options->role == QRB_PASS_TEACHER || options->role == QRB_PASS_BASE ||
        (options->teacher->role != QRB_PASS_TEACHER &&
         options->teacher->role != QRB_PASS_BASE))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "pass: role %u names a teacher of role %u; a student "
                         "or quantized pass names one of role %d or %d",
                         options->role, options->teacher->role,
                         QRB_PASS_TEACHER, QRB_PASS_BASE);
    return QRB_OK;
}

qrb_status qrb_pass_create(qrb_model *model, const qrb_pass_options *options,
                           qrb_pass **out)
{
    const qrb_attention attention = QRB_ATTENTION_INIT;
    qrb_pass_options known = QRB_PASS_OPTIONS_INIT;
    qrb_pass *pass;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (model == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    status = qrb__options_copy(model->ctx, options, sizeof known,
                               "pass options", &known);
    if (status != QRB_OK)
        return status;
    status = check_options(model, &known);
    if (status != QRB_OK)
        return status;
    pass = qrb__alloc_array(model->ctx, 1, sizeof *pass);
    if (pass == NULL)
        return qrb__fail(model->ctx, QRB_E_NO_MEMORY, "pass");
    pass->ctx = model->ctx;
    pass->model = model;
    pass->teacher = known.teacher;
    pass->role = known.role;
    pass->flags = known.flags;
    pass->attention = attention;
    pass->step.mode = known.mode;
    pass->step.attention = &pass->attention;
    atomic_flag_clear(&pass->tapped);
    *out = pass;
    return QRB_OK;
}

void qrb_pass_destroy(qrb_pass *pass)
{
    if (pass == NULL)
        return;
    if (pass->model->pass == pass)
        pass->model->pass = NULL;
    for (size_t i = 0; i < pass->count; i++)
        qrb__free(pass->ctx, pass->listeners[i].owned);
    qrb__free(pass->ctx, pass->listeners);
    qrb__free(pass->ctx, pass);
}

qrb_status qrb_pass_set_mode(qrb_pass *pass, uint32_t mode)
{
    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    if (mode > QRB_MODE_EVAL)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "pass: mode is %u; it is in 0..%d", mode,
                         QRB_MODE_EVAL);
    pass->step.mode = mode;
    return QRB_OK;
}

qrb_status qrb_model_set_pass(qrb_model *model, qrb_pass *pass)
{
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (pass != NULL && pass->model != model)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "the pass was made for another model");
    model->pass = pass;
    return QRB_OK;
}

qrb_pass *qrb_model_pass(const qrb_model *model)
{
    return model == NULL ? NULL : model->pass;
}

/* Add a listener; the pass releases `owned` when it succeeded. */
static qrb_status append(qrb_pass *pass, const struct qrb__listener *listener,
                         void *owned)
{
    if (pass->count == pass->capacity) {
        const size_t capacity =
            pass->capacity == 0 ? FIRST_LISTENERS : 2 * pass->capacity;
        struct qrb__pass_listener *grown = qrb__grow_array(
            pass->ctx, pass->listeners, pass->count, capacity, sizeof *grown);

        if (grown == NULL)
            return qrb__fail(pass->ctx, QRB_E_NO_MEMORY,
                             "%zu listeners of a pass", capacity);
        pass->listeners = grown;
        pass->capacity = capacity;
    }
    pass->listeners[pass->count].listener = *listener;
    pass->listeners[pass->count].owned = owned;
    pass->count++;
    return QRB_OK;
}

qrb_status qrb__pass_listen(qrb_pass *pass,
                            const struct qrb__listener *listener)
{
    return append(pass, listener, NULL);
}

/* A listener written by the host. */
struct host_listener {
    qrb_context *ctx;
    qrb_tap_fn listener;
    void *user;
    uint32_t point;
};

static bool host_wants(void *self, uint32_t point, size_t index)
{
    const struct host_listener *host = self;

    (void)index;
    return host->point == point;
}

static qrb_status host_tap(void *self, const struct qrb__step *step,
                           uint32_t point, size_t index, qrb_tensor *tensor)
{
    const struct host_listener *host = self;
    int code;

    (void)step;
    qrb__callback_begin(host->ctx);
    code = host->listener(point, index, tensor, host->user);
    qrb__callback_end(host->ctx);
    return code == 0 ? QRB_OK
                     : qrb__fail_callback(host->ctx, "tap listener", code);
}

/* Whether a listener may change what it hears there. */
static bool may_change(uint32_t point)
{
    return point != QRB_TAP_LINEAR_OUTPUT && point != QRB_TAP_ATTN_PROBS;
}

qrb_status qrb_pass_listen(qrb_pass *pass, uint32_t point, qrb_tap_fn listener,
                           void *user)
{
    const bool perturbs = (point & QRB_TAP_CHANGES) != 0;
    struct host_listener *host;
    struct qrb__listener entry;
    qrb_status status;

    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(pass->ctx, __func__);
    if (status != QRB_OK)
        return status;
    point &= ~(uint32_t)QRB_TAP_CHANGES;
    if (listener == NULL)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG, "listener is NULL");
    if (!qrb__tap_point_known(point) || (perturbs && !may_change(point)))
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "listener at point 0x%x: there is no such point%s",
                         point, perturbs ? " that may be changed" : "");
    host = qrb__alloc_array(pass->ctx, 1, sizeof *host);
    if (host == NULL)
        return qrb__fail(pass->ctx, QRB_E_NO_MEMORY, "listener");
    *host = (struct host_listener){ pass->ctx, listener, user, point };
    entry = (struct qrb__listener){ host, perturbs, host_wants, host_tap };
    status = append(pass, &entry, host);
    if (status != QRB_OK)
        qrb__free(pass->ctx, host);
    return status;
}

qrb_status qrb_step_begin(qrb_pass *pass, uint64_t step, uint64_t epoch,
                          uint32_t microbatch)
{
    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    pass->step.step = step;
    pass->step.epoch = epoch;
    pass->step.microbatch = microbatch;
    pass->in_step = true;
    return QRB_OK;
}

qrb_status qrb_step_end(qrb_pass *pass, double loss)
{
    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    if (!pass->in_step)
        return qrb__fail(pass->ctx, QRB_E_STATE,
                         "qrb_step_end() without qrb_step_begin()");
    pass->in_step = false;
    qrb__log(pass->ctx, QRB_LOG_DEBUG, "step %llu: loss %g",
             (unsigned long long)pass->step.step, loss);
    return QRB_OK;
}

qrb_status qrb_pass_set_attention(qrb_pass *pass,
                                  const qrb_attention *attention)
{
    qrb_attention known = QRB_ATTENTION_INIT;
    qrb_status status;

    if (pass == NULL)
        return QRB_E_INVALID_ARG;
    if (attention == NULL)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG, "attention is NULL");
    status = qrb__options_copy(pass->ctx, attention, sizeof known, "attention",
                               &known);
    if (status != QRB_OK)
        return status;
    if (known.mask > QRB_MASK_KEYS || known.reserved != 0)
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "attention: mask is %u (0..%d), reserved %u (0)",
                         known.mask, QRB_MASK_KEYS, known.reserved);
    if (known.batch == 0 &&
        (known.mask == QRB_MASK_KEYS || known.position != NULL ||
         known.segment_start != NULL))
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "attention: arrays are given for a batch of 0");
    if ((known.mask == QRB_MASK_KEYS) != (known.key_length != NULL))
        return qrb__fail(pass->ctx, QRB_E_INVALID_ARG,
                         "attention: mask is %u %s key_length", known.mask,
                         known.key_length == NULL ? "without" : "with");
    pass->attention = known;
    return QRB_OK;
}
