/* What holds across all handles: what a callback may call, structs of other
 * sizes, and contexts that do not know each other. */
#include "harness.h"

#include <math.h>
#include <pthread.h>

#include "mock_host.h"
#include "model/model.h"

static const qrb_filter everything = { sizeof everything, QRB_FILTER_ALL,
                                       NULL };

/* --- calls from inside callbacks */

/* One of everything, so that each call has what it needs. */
struct world {
    qrb_context *ctx;
    struct mock_host *host;
    qrb_pass *pass;
    qrb_noise *attack;
    qrb_noise *anchor;
    qrb_noise *unbound;
    qrb_snapshot *snapshot;
    qrb_dataset *dataset;
    qrb_tensor *tensor;
    float memory[MOCK_DIM];
    int32_t tokens[200];
    bool busy;   /* trying already */
    size_t seen; /* callbacks that were tried */
};

static struct world world;

static int ignore_tap(uint32_t point, size_t index, qrb_tensor *tensor,
                      void *user)
{
    (void)point;
    (void)index;
    (void)tensor;
    (void)user;
    return 0;
}

/* Each with arguments that would do from outside; outputs go nowhere. */
enum refused_call {
    MODEL_CREATE,
    ADD_PARAMETER,
    WEIGHTS_CHANGED,
    SET_PASS,
    SNAPSHOT_CREATE,
    SNAPSHOT_RESTORE,
    DATASET_CREATE,
    DATASET_BATCH,
    PASS_CREATE,
    PASS_LISTEN,
    CREATE_ATTACK,
    CREATE_ANCHOR,
    BIND,
    ATTACK_SET,
    ATTACK_APPLY,
    ANCHOR_SNAPSHOT,
    ANCHOR_SET_FROM,
    ANCHOR_DISTANCE,
    ANCHOR_LOSS,
    METRIC_CREATE,
    QUANTIZER_CREATE,
    OPTIMIZER_CREATE,
    TRAINER_CREATE,
    EVALUATE_BATCHES,
    REFUSED_CALLS
};

static qrb_status call(enum refused_call which)
{
    struct world *w = &world;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    qrb_metric_result result = { .struct_size = sizeof result };
    void *out = NULL;
    double value;

    parameter.name = "new";
    parameter.weight = w->tensor;
    switch (which) {
    case MODEL_CREATE:
        return qrb_model_create(w->ctx, NULL, (qrb_model **)&out);
    case ADD_PARAMETER:
        return qrb_model_add_parameter(w->host->model, &parameter, NULL);
    case WEIGHTS_CHANGED:
        return qrb_model_weights_changed(w->host->model, 0, w->tensor,
                                         w->tensor);
    case SET_PASS:
        return qrb_model_set_pass(w->host->model, NULL);
    case SNAPSHOT_CREATE:
        return qrb_snapshot_create(w->host->model, NULL, (qrb_snapshot **)&out);
    case SNAPSHOT_RESTORE:
        return qrb_snapshot_restore(w->snapshot);
    case DATASET_CREATE:
        return qrb_dataset_create(w->ctx, w->tokens, 200, NULL,
                                  (qrb_dataset **)&out);
    case DATASET_BATCH:
        return qrb_dataset_batch(w->dataset, 0, &batch);
    case PASS_CREATE:
        return qrb_pass_create(w->host->model, NULL, (qrb_pass **)&out);
    case PASS_LISTEN:
        return qrb_pass_listen(w->pass, QRB_TAP_LAYER_INPUT, ignore_tap, NULL);
    case CREATE_ATTACK:
        return qrb_noise_create_attack(w->ctx, NULL, (qrb_noise **)&out);
    case CREATE_ANCHOR:
        return qrb_noise_create_anchor(w->ctx, NULL, (qrb_noise **)&out);
    case BIND:
        return qrb_noise_bind(w->unbound, w->host->model, NULL);
    case ATTACK_SET:
        return qrb_attack_set(w->attack, 0.1, 0);
    case ATTACK_APPLY:
        return qrb_attack_apply(w->attack);
    case ANCHOR_SNAPSHOT:
        return qrb_anchor_snapshot(w->anchor);
    case ANCHOR_SET_FROM:
        return qrb_anchor_set_from(w->anchor, w->host->model);
    case ANCHOR_DISTANCE:
        return qrb_anchor_distance(w->anchor, &value);
    case ANCHOR_LOSS:
        return qrb_anchor_loss(w->anchor, &value);
    case METRIC_CREATE:
        return qrb_metric_create(w->ctx, (qrb_metric **)&out);
    case QUANTIZER_CREATE:
        return qrb_quantizer_create(w->ctx, NULL, (qrb_quantizer **)&out);
    case OPTIMIZER_CREATE:
        return qrb_optimizer_create(w->host->model, NULL,
                                    (qrb_optimizer **)&out);
    case TRAINER_CREATE:
        return qrb_trainer_create(w->host->model, NULL, NULL,
                                  (qrb_trainer **)&out);
    default:
        return qrb_evaluate_batches(w->host->model, &result);
    }
}

/* From inside a callback: all that changes objects is refused, and what a
 * forward and backward pass needs is not. */
static void try_everything(void)
{
    struct world *w = &world;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_attention attention = QRB_ATTENTION_INIT;
    const size_t shape[2] = { 1, MOCK_DIM };

    if (w->busy)
        return;
    w->busy = true;
    w->seen++;
    for (int i = 0; i < REFUSED_CALLS; i++)
        ck_assert_msg(call((enum refused_call)i) == QRB_E_REENTRANT,
                      "call %d: %s", i, qrb_context_message(w->ctx));
    ck_assert_ptr_nonnull(
        strstr(qrb_context_message(w->ctx), "from inside a callback"));

    ASSERT_OK(w->ctx, qrb_model_parameter(w->host->model, 1, &parameter));
    ck_assert_uint_eq(qrb_model_find(w->host->model, "head"), MOCK_HEAD);
    ck_assert_uint_eq(qrb_model_parameter_count(w->host->model),
                      MOCK_PARAMETERS);
    ck_assert_ptr_eq(qrb_model_pass(w->host->model), w->pass);
    qrb_anchor_gradient_ratio(w->anchor);

    ASSERT_OK(w->ctx, qrb_step_begin(w->pass, 1, 0, 0));
    ASSERT_OK(w->ctx, qrb_pass_set_attention(w->pass, &attention));
    ASSERT_OK(w->ctx, qrb_pass_set_mode(w->pass, QRB_MODE_TRAIN));
    ASSERT_OK(w->ctx, qrb_tensor_point(w->tensor, shape, w->memory));
    ck_assert_int_eq(qrb_tap_wanted(w->pass, QRB_TAP_LAYER_INPUT, 0), 1);
    ASSERT_OK(w->ctx, qrb_tap(w->pass, QRB_TAP_LAYER_INPUT, 0, w->tensor));
    ASSERT_OK(w->ctx, qrb_step_end(w->pass, 1.0));
    ASSERT_OK(w->ctx, qrb_perturb_begin(w->attack));
    ASSERT_OK(w->ctx, qrb_perturb_end(w->attack));
    ASSERT_OK(w->ctx, qrb_noise_add_grad(w->anchor, NULL));
    ASSERT_OK(w->ctx, qrb_noise_post_step(w->anchor, 0.1));
    w->busy = false;
}

static void inside_host(struct mock_host *host, enum mock_callback callback)
{
    (void)host;
    (void)callback;
    try_everything();
    ASSERT_OK(world.ctx, qrb_step_begin(world.pass, 1, 0, 0)); /* go on */
}

static int inside_tap(uint32_t point, size_t index, qrb_tensor *tensor,
                      void *user)
{
    (void)point;
    (void)index;
    (void)tensor;
    /* A second pass: this one is in the middle of a tap. */
    (void)user;
    try_everything();
    return 0;
}

static void inside_log(uint32_t level, const char *message, void *user)
{
    (void)level;
    (void)message;
    (void)user;
    if (world.anchor != NULL) /* once all is made */
        try_everything();
}

static int inside_progress(const char *what, uint64_t done, uint64_t total,
                           void *user)
{
    (void)what;
    (void)done;
    (void)total;
    (void)user;
    try_everything();
    return 0;
}

static int inside_cancel(void *user)
{
    (void)user;
    try_everything();
    return 0;
}

static void set_up_world(void)
{
    const qrb_filter fc1 = { sizeof fc1, 0, "*fc1" };
    const qrb_filter fc2 = { sizeof fc2, 0, "*fc2" };
    const qrb_dataset_options shape = { sizeof shape, 2, 10 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    struct world *w = &world;
    const struct world nothing = { 0 };

    *w = nothing;
    w->busy = true; /* until all is there */
    options.log = inside_log;
    options.progress = inside_progress;
    options.cancel = inside_cancel;
    ck_assert_int_eq(qrb_context_create(&options, &w->ctx), QRB_OK);
    ASSERT_OK(w->ctx,
              mock_host_create(w->ctx, MOCK_OWN_BATCHES, 1, NULL, &w->host));
    mock_text(w->tokens, 200, 1);
    ASSERT_OK(w->ctx, qrb_pass_create(w->host->model, NULL, &w->pass));
    ASSERT_OK(w->ctx,
              qrb_pass_listen(w->pass, QRB_TAP_LAYER_INPUT, ignore_tap, NULL));
    ASSERT_OK(w->ctx, qrb_model_set_pass(w->host->model, w->pass));
    ASSERT_OK(w->ctx, qrb_snapshot_create(w->host->model, NULL, &w->snapshot));
    ASSERT_OK(w->ctx,
              qrb_dataset_create(w->ctx, w->tokens, 200, &shape, &w->dataset));
    view.memory = w->memory;
    view.rank = 2;
    view.shape[0] = 1;
    view.shape[1] = MOCK_DIM;
    ASSERT_OK(w->ctx, qrb_tensor_create(w->ctx, &view, &w->tensor));
    ASSERT_OK(w->ctx, qrb_noise_create_attack(w->ctx, NULL, &w->unbound));
    ASSERT_OK(w->ctx, qrb_noise_create_attack(w->ctx, NULL, &w->attack));
    ASSERT_OK(w->ctx, qrb_noise_bind(w->attack, w->host->model, &fc1));
    ASSERT_OK(w->ctx, qrb_noise_create_anchor(w->ctx, NULL, &w->anchor));
    ASSERT_OK(w->ctx, qrb_noise_bind(w->anchor, w->host->model, &fc2));
    ASSERT_OK(w->ctx, qrb_anchor_snapshot(w->anchor));
    w->busy = false;
}

static void tear_down_world(void)
{
    struct world *w = &world;

    w->busy = true;
    qrb_noise_destroy(w->anchor);
    qrb_noise_destroy(w->attack);
    qrb_noise_destroy(w->unbound);
    qrb_tensor_destroy(w->tensor);
    qrb_dataset_destroy(w->dataset);
    qrb_snapshot_destroy(w->snapshot);
    qrb_pass_destroy(w->pass);
    mock_host_destroy(w->host);
    qrb_context_destroy(w->ctx);
}

START_TEST(callbacks_of_the_host_may_push_and_look_and_no_more)
{
    struct world *w = &world;
    struct qrb__batch batch = { 0 };
    float logits[32 * MOCK_VOCAB];
    int32_t targets[32];
    float nll[32];
    double loss;
    size_t scored;
    bool skipped;

    w->host->inside = inside_host;
    ASSERT_OK(w->ctx, qrb__model_batch(w->host->model, QRB_STREAM_TRAIN, 0,
                                       &batch, &skipped));
    ASSERT_OK(w->ctx, qrb__model_zero_grad(w->host->model));
    ASSERT_OK(w->ctx, qrb__model_set_mode(w->host->model, QRB_MODE_TRAIN));
    ASSERT_OK(w->ctx, qrb__model_loss_and_grad(w->host->model, batch.handle,
                                               1.0, &loss, &scored, &skipped));
    ASSERT_OK(w->ctx, qrb__model_loss(w->host->model, batch.handle, &loss,
                                      &scored, &skipped));
    ASSERT_OK(w->ctx, qrb__model_logits(w->host->model, batch.handle, logits,
                                        targets, batch.rows, &skipped));
    ASSERT_OK(w->ctx,
              qrb__model_token_nll(w->host->model, batch.handle, batch.rows,
                                   logits, targets, nll, &skipped));
    ASSERT_OK(w->ctx, qrb__model_weights_written(w->host->model, 0));
    qrb__model_batch_release(w->host->model, &batch);
    ck_assert(!skipped);
    /* Each of them was called, and each of them tried. */
    for (int i = 0; i < MOCK_CALLBACKS; i++)
        if (i != MOCK_SELECT_MODEL)
            ck_assert_msg(w->host->counts[i] > 0, "callback %d", i);
    /* With the zero_grad and weights_written of what they called. */
    ck_assert_uint_ge(w->seen, MOCK_CALLBACKS - 1);
    w->host->inside = NULL;
}
END_TEST

START_TEST(callbacks_of_a_context_may_push_and_look_and_no_more)
{
    struct world *w = &world;

    ASSERT_OK(w->ctx, qrb__progress(w->ctx, "work", 1, 2));
    ck_assert_uint_eq(w->seen, 2); /* progress, then cancel */
    qrb__log(w->ctx, QRB_LOG_INFO, "line");
    ck_assert_uint_eq(w->seen, 3);
}
END_TEST

START_TEST(listeners_may_push_and_look_and_no_more)
{
    struct world *w = &world;
    qrb_pass *second = NULL;

    ASSERT_OK(w->ctx, qrb_pass_create(w->host->model, NULL, &second));
    ASSERT_OK(w->ctx,
              qrb_pass_listen(second, QRB_TAP_LAYER_INPUT, inside_tap, NULL));
    ASSERT_OK(w->ctx, qrb_step_begin(second, 1, 0, 0));
    ASSERT_OK(w->ctx, qrb_tap(second, QRB_TAP_LAYER_INPUT, 0, w->tensor));
    ck_assert_uint_eq(w->seen, 1);
    qrb_pass_destroy(second);
}
END_TEST

START_TEST(the_same_calls_are_fine_from_outside)
{
    struct world *w = &world;
    qrb_metric_result result = { .struct_size = sizeof result };

    /* Those that can be made again without more ado. */
    ASSERT_OK(w->ctx, call(SNAPSHOT_RESTORE));
    ASSERT_OK(w->ctx, call(DATASET_BATCH));
    ASSERT_OK(w->ctx, call(PASS_LISTEN));
    ASSERT_OK(w->ctx, call(BIND));
    ASSERT_OK(w->ctx, call(ATTACK_SET));
    ASSERT_OK(w->ctx, call(ATTACK_APPLY));
    ASSERT_OK(w->ctx, call(ANCHOR_SNAPSHOT));
    ASSERT_OK(w->ctx, call(ANCHOR_SET_FROM));
    ASSERT_OK(w->ctx, call(SET_PASS));
    w->busy = true;
    ASSERT_OK(w->ctx, qrb_evaluate_batches(w->host->model, &result));
}
END_TEST

/* --- structs of other sizes */

/* Hand a struct of a family to the library. */
struct family {
    const char *name;
    qrb_status (*use)(const void *options);
    size_t size;
    size_t older; /* a prefix whose absent fields may be zero; 0: none */
};

static qrb_status use_context(const void *options)
{
    qrb_context *made = NULL;
    const qrb_status status = qrb_context_create(options, &made);

    qrb_context_destroy(made);
    return status;
}

static qrb_status use_callbacks(const void *options)
{
    qrb_model *made = NULL;
    const qrb_status status = qrb_model_create(world.ctx, options, &made);

    qrb_model_destroy(made);
    return status;
}

static qrb_status use_parameter(const void *options)
{
    qrb_model *made = NULL;
    qrb_status status;

    ASSERT_OK(world.ctx, qrb_model_create(world.ctx, NULL, &made));
    status = qrb_model_add_parameter(made, options, NULL);
    qrb_model_destroy(made);
    return status;
}

static qrb_status use_filter(const void *options)
{
    qrb_snapshot *made = NULL;
    const qrb_status status =
        qrb_snapshot_create(world.host->model, options, &made);

    qrb_snapshot_destroy(made);
    return status;
}

static qrb_status use_dataset(const void *options)
{
    qrb_dataset *made = NULL;
    const qrb_status status =
        qrb_dataset_create(world.ctx, world.tokens, 200, options, &made);

    qrb_dataset_destroy(made);
    return status;
}

static qrb_status use_pass(const void *options)
{
    qrb_pass *made = NULL;
    const qrb_status status =
        qrb_pass_create(world.host->model, options, &made);

    qrb_pass_destroy(made);
    return status;
}

static qrb_status use_attention(const void *options)
{
    return qrb_pass_set_attention(world.pass, options);
}

static qrb_status use_attack(const void *options)
{
    qrb_noise *made = NULL;
    const qrb_status status =
        qrb_noise_create_attack(world.ctx, options, &made);

    qrb_noise_destroy(made);
    return status;
}

static qrb_status use_anchor(const void *options)
{
    qrb_noise *made = NULL;
    const qrb_status status =
        qrb_noise_create_anchor(world.ctx, options, &made);

    qrb_noise_destroy(made);
    return status;
}

static qrb_status use_tensor(const void *options)
{
    qrb_tensor *made = NULL;
    const qrb_status status = qrb_tensor_create(world.ctx, options, &made);

    qrb_tensor_destroy(made);
    return status;
}

static qrb_status use_quantizer(const void *options)
{
    qrb_quantizer *made = NULL;
    const qrb_status status = qrb_quantizer_create(world.ctx, options, &made);

    qrb_quantizer_destroy(made);
    return status;
}

static qrb_status use_optimizer(const void *options)
{
    qrb_optimizer *made = NULL;
    const qrb_status status =
        qrb_optimizer_create(world.host->model, options, &made);

    qrb_optimizer_destroy(made);
    return status;
}

static qrb_status use_trainer(const void *options)
{
    qrb_trainer *made = NULL;
    const qrb_status status =
        qrb_trainer_create(world.host->model, NULL, options, &made);

    qrb_trainer_destroy(made);
    return status;
}

static const struct family families[] = {
    { "context options", use_context, sizeof(qrb_context_options),
      offsetof(qrb_context_options, alloc) },
    { "host callbacks", use_callbacks, sizeof(qrb_host_callbacks),
      offsetof(qrb_host_callbacks, batch) },
    { "parameter", use_parameter, sizeof(qrb_parameter),
      offsetof(qrb_parameter, gradient) },
    { "filter", use_filter, sizeof(qrb_filter), offsetof(qrb_filter, name) },
    { "dataset options", use_dataset, sizeof(qrb_dataset_options), 0 },
    { "pass options", use_pass, sizeof(qrb_pass_options),
      offsetof(qrb_pass_options, teacher) },
    { "attention", use_attention, sizeof(qrb_attention),
      offsetof(qrb_attention, mask) },
    { "attack options", use_attack, sizeof(qrb_attack_options),
      offsetof(qrb_attack_options, seed) },
    { "anchor options", use_anchor, sizeof(qrb_anchor_options),
      offsetof(qrb_anchor_options, normalisation) },
    { "tensor", use_tensor, sizeof(qrb_tensor_options), 0 },
    { "quantizer", use_quantizer, sizeof(qrb_quantizer_options), 0 },
    { "optimizer", use_optimizer, sizeof(qrb_optimizer_options), 0 },
    { "trainer", use_trainer, sizeof(qrb_trainer_options), 0 },
};

enum { FAMILIES = sizeof families / sizeof *families, ROOM = 1024 };

union sized {
    size_t struct_size;
    unsigned char bytes[ROOM];
    qrb_context_options context;
    qrb_host_callbacks callbacks;
    qrb_parameter parameter;
    qrb_filter filter;
    qrb_dataset_options dataset;
    qrb_pass_options pass;
    qrb_attention attention;
    qrb_attack_options attack;
    qrb_anchor_options anchor;
    qrb_tensor_options tensor;
    qrb_quantizer_options quantizer;
    qrb_optimizer_options optimizer;
    qrb_trainer_options trainer;
};

/* The family's struct as its macro writes it, made usable. */
static union sized usable(int family)
{
    const qrb_context_options context = QRB_CONTEXT_OPTIONS_INIT;
    const qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    const qrb_parameter parameter = QRB_PARAMETER_INIT;
    const qrb_filter filter = QRB_FILTER_INIT;
    const qrb_dataset_options dataset = QRB_DATASET_OPTIONS_INIT;
    const qrb_pass_options pass = QRB_PASS_OPTIONS_INIT;
    const qrb_attention attention = QRB_ATTENTION_INIT;
    const qrb_attack_options attack = QRB_ATTACK_OPTIONS_INIT;
    const qrb_anchor_options anchor = QRB_ANCHOR_OPTIONS_INIT;
    const qrb_tensor_options tensor = QRB_TENSOR_OPTIONS_INIT;
    const qrb_quantizer_options quantizer = QRB_QUANTIZER_OPTIONS_INIT;
    const qrb_optimizer_options optimizer = QRB_OPTIMIZER_OPTIONS_INIT;
    const qrb_trainer_options trainer = QRB_TRAINER_OPTIONS_INIT;
    const void *const init[FAMILIES] = {
        &context,   &callbacks, &parameter, &filter, &dataset,
        &pass,      &attention, &attack,    &anchor, &tensor,
        &quantizer, &optimizer, &trainer,
    };
    union sized sized;

    memset(&sized, 0, sizeof sized);
    memcpy(&sized, init[family], families[family].size);
    if (init[family] == &parameter) {
        sized.parameter.name = "name";
        sized.parameter.weight = world.tensor;
    } else if (init[family] == &tensor) {
        sized.tensor.rank = 1;
        sized.tensor.shape[0] = 1;
    }
    return sized;
}

START_TEST(structs_of_every_family_begin_with_their_size)
{
    const union sized sized = usable(_i);

    ck_assert_uint_eq(sized.struct_size, families[_i].size);
    ck_assert_msg(families[_i].use(&sized) == QRB_OK, "%s: %s",
                  families[_i].name, qrb_context_message(world.ctx));
}
END_TEST

START_TEST(an_older_callers_struct_is_accepted)
{
    union sized sized = usable(_i);

    if (families[_i].older == 0)
        return; /* its first release knows no older one that makes sense */
    memset(sized.bytes + families[_i].older, 0xff,
           sizeof sized - families[_i].older); /* not to be read */
    sized.struct_size = families[_i].older;
    ck_assert_msg(families[_i].use(&sized) == QRB_OK, "%s: %s",
                  families[_i].name, qrb_context_message(world.ctx));
}
END_TEST

START_TEST(a_newer_callers_struct_is_accepted_if_the_rest_is_zero)
{
    union sized sized = usable(_i);

    sized.struct_size = ROOM;
    ck_assert_msg(families[_i].use(&sized) == QRB_OK, "%s: %s",
                  families[_i].name, qrb_context_message(world.ctx));
    sized.bytes[ROOM - 1] = 1;
    ck_assert_int_eq(families[_i].use(&sized), QRB_E_INVALID_ARG);
    sized.bytes[ROOM - 1] = 0;
    sized.bytes[families[_i].size] = 1;
    ck_assert_int_eq(families[_i].use(&sized), QRB_E_INVALID_ARG);
    sized.struct_size = 0;
    ck_assert_int_eq(families[_i].use(&sized), QRB_E_INVALID_ARG);
}
END_TEST

START_TEST(structs_that_are_filled_stay_within_their_size)
{
    union sized out;

    for (size_t size = sizeof(size_t); size < 2 * sizeof(qrb_parameter);
         size++) {
        memset(&out, 0xaa, sizeof out);
        out.struct_size = size;
        ASSERT_OK(world.ctx, qrb_model_parameter(world.host->model, MOCK_FC1,
                                                 &out.parameter));
        ck_assert_uint_eq(out.struct_size, size);
        for (size_t i = size; i < sizeof out; i++)
            ck_assert_uint_eq(out.bytes[i], 0xaa);
        for (size_t i = sizeof(qrb_parameter); i < size; i++)
            ck_assert_uint_eq(out.bytes[i], 0);
        if (size >= sizeof(qrb_parameter))
            ck_assert_str_eq(out.parameter.name, "block.0.fc1");
    }
}
END_TEST

/* --- contexts that do not know each other */

struct run {
    qrb_context *ctx;
    struct mock_host *host;
    qrb_dataset *dataset;
    qrb_noise *anchor;
    qrb_noise *attack;
    qrb_optimizer *optimizer;
    uint64_t step;
};

static void begin_run(struct run *run, uint64_t seed, size_t threads)
{
    const qrb_dataset_options shape = { sizeof shape, 2, 12 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_attack_options attack = QRB_ATTACK_OPTIONS_INIT;
    int32_t tokens[300];

    memset(run, 0, sizeof *run);
    options.seed = seed;
    options.threads = threads;
    attack.sigma = 0.01;
    attack.seed = seed;
    mock_text(tokens, 300, (uint32_t)seed);
    ck_assert_int_eq(qrb_context_create(&options, &run->ctx), QRB_OK);
    ASSERT_OK(run->ctx, mock_host_create(run->ctx, MOCK_TOKEN_BATCHES,
                                         (uint32_t)seed, NULL, &run->host));
    ASSERT_OK(run->ctx,
              qrb_dataset_create(run->ctx, tokens, 300, &shape, &run->dataset));
    ASSERT_OK(run->ctx, qrb_noise_create_anchor(run->ctx, NULL, &run->anchor));
    ASSERT_OK(run->ctx, qrb_noise_bind(run->anchor, run->host->model, NULL));
    ASSERT_OK(run->ctx, qrb_anchor_snapshot(run->anchor));
    ASSERT_OK(run->ctx,
              qrb_noise_create_attack(run->ctx, &attack, &run->attack));
    ASSERT_OK(run->ctx,
              qrb_noise_bind(run->attack, run->host->model, &everything));
    ASSERT_OK(run->ctx,
              qrb_optimizer_create(run->host->model, NULL, &run->optimizer));
}

/* Train on attacked weights, as a host with its own loop would. */
static void take_step(struct run *run)
{
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    double loss;
    size_t scored;
    bool skipped;

    ASSERT_OK(run->ctx, qrb_dataset_batch(run->dataset, run->step, &batch));
    ASSERT_OK(run->ctx, qrb__model_zero_grad(run->host->model));
    ASSERT_OK(run->ctx, qrb_attack_set(run->attack, 0.01, run->step));
    ASSERT_OK(run->ctx, qrb_perturb_begin(run->attack));
    ASSERT_OK(run->ctx, qrb__model_loss_and_grad(run->host->model, &batch, 1.0,
                                                 &loss, &scored, &skipped));
    ck_assert(!skipped);
    ASSERT_OK(run->ctx, qrb_perturb_end(run->attack));
    ASSERT_OK(run->ctx, qrb_noise_add_grad(run->anchor, NULL));
    ASSERT_OK(run->ctx, qrb_optimizer_step(run->optimizer, 0.01, NULL));
    ASSERT_OK(run->ctx, qrb_noise_post_step(run->anchor, 0.01));
    run->step++;
}

/* Its weights, for the caller to free. */
static float *end_run(struct run *run, size_t *bytes)
{
    float *weights = calloc(mock_weight_count(run->host), sizeof *weights);

    *bytes = mock_weight_count(run->host) * sizeof *weights;
    mock_copy_weights(run->host, weights);
    qrb_optimizer_destroy(run->optimizer);
    qrb_noise_destroy(run->attack);
    qrb_noise_destroy(run->anchor);
    qrb_dataset_destroy(run->dataset);
    mock_host_destroy(run->host);
    qrb_context_destroy(run->ctx);
    return weights;
}

enum { STEPS = 20 };

static void *run_alone(void *arg)
{
    for (int i = 0; i < STEPS; i++)
        take_step(arg);
    return NULL;
}

START_TEST(two_contexts_give_together_what_they_give_alone)
{
    struct run runs[2];
    float *alone[2];
    float *interleaved[2];
    float *threaded[2];
    pthread_t threads[2];
    size_t bytes = 0;

    for (int i = 0; i < 2; i++) {
        begin_run(&runs[i], (uint64_t)i + 1, 1);
        run_alone(&runs[i]);
        alone[i] = end_run(&runs[i], &bytes);
    }
    ck_assert_mem_ne(alone[0], alone[1], bytes);

    for (int i = 0; i < 2; i++)
        begin_run(&runs[i], (uint64_t)i + 1, 2);
    for (int step = 0; step < STEPS; step++)
        for (int i = 0; i < 2; i++)
            take_step(&runs[i]);
    for (int i = 0; i < 2; i++)
        interleaved[i] = end_run(&runs[i], &bytes);

    for (int i = 0; i < 2; i++)
        begin_run(&runs[i], (uint64_t)i + 1, 2);
    for (int i = 0; i < 2; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_alone, &runs[i]),
                         0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < 2; i++) {
        threaded[i] = end_run(&runs[i], &bytes);
        ck_assert_mem_eq(alone[i], interleaved[i], bytes);
        ck_assert_mem_eq(alone[i], threaded[i], bytes);
        free(alone[i]);
        free(interleaved[i]);
        free(threaded[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("contract");
    TCase *callbacks = tcase_create("callbacks");
    TCase *sizes = tcase_create("sizes");
    TCase *contexts = tcase_create("contexts");

    tcase_add_checked_fixture(callbacks, set_up_world, tear_down_world);
    tcase_add_test(callbacks,
                   callbacks_of_the_host_may_push_and_look_and_no_more);
    tcase_add_test(callbacks,
                   callbacks_of_a_context_may_push_and_look_and_no_more);
    tcase_add_test(callbacks, listeners_may_push_and_look_and_no_more);
    tcase_add_test(callbacks, the_same_calls_are_fine_from_outside);
    suite_add_tcase(suite, callbacks);

    tcase_add_checked_fixture(sizes, set_up_world, tear_down_world);
    tcase_add_loop_test(sizes, structs_of_every_family_begin_with_their_size, 0,
                        FAMILIES);
    tcase_add_loop_test(sizes, an_older_callers_struct_is_accepted, 0,
                        FAMILIES);
    tcase_add_loop_test(sizes,
                        a_newer_callers_struct_is_accepted_if_the_rest_is_zero,
                        0, FAMILIES);
    tcase_add_test(sizes, structs_that_are_filled_stay_within_their_size);
    suite_add_tcase(suite, sizes);

    tcase_add_test(contexts, two_contexts_give_together_what_they_give_alone);
    suite_add_tcase(suite, contexts);
    return run_suite(suite);
}
