/* The registry, filters, pull callbacks, snapshots and datasets. */
#include "harness.h"

#include <math.h>

#include "mock_host.h"
#include "model/model.h"

static qrb_context *ctx;
static struct mock_host *host;

static void set_up(void)
{
    ctx = make_context(NULL);
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
}

static void tear_down(void)
{
    mock_host_destroy(host);
    qrb_context_destroy(ctx);
}

/* A tensor over memory; rank 1 where cols is 0. */
static qrb_tensor *view(uint32_t dtype, size_t rows, size_t cols, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.memory = memory;
    options.dtype = dtype;
    options.rank = cols == 0 ? 1 : 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

static qrb_model *empty_model(void)
{
    qrb_model *model = NULL;

    ASSERT_OK(ctx, qrb_model_create(ctx, NULL, &model));
    return model;
}

/* Add a parameter of 2 x 3 floats and return the status. */
static qrb_status add(qrb_model *model, const char *name, uint32_t role,
                      int32_t layer)
{
    static float memory[6];
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight = view(QRB_F32, 2, 3, memory);
    qrb_status status;

    parameter.name = name;
    parameter.weight = weight;
    parameter.role = role;
    parameter.layer = layer;
    status = qrb_model_add_parameter(model, &parameter, NULL);
    qrb_tensor_destroy(weight);
    return status;
}

/* --- registry */

START_TEST(parameters_are_found_by_name_and_number)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    const size_t index = qrb_model_find(host->model, "block.0.fc2");

    ck_assert_uint_eq(qrb_model_parameter_count(host->model), MOCK_PARAMETERS);
    ck_assert_uint_eq(index, MOCK_FC2);
    ASSERT_OK(ctx, qrb_model_parameter(host->model, index, &parameter));
    ck_assert_str_eq(parameter.name, "block.0.fc2");
    ck_assert_uint_eq(parameter.role, QRB_ROLE_FC2);
    ck_assert_int_eq(parameter.layer, 0);
    ck_assert_ptr_eq(qrb_tensor_memory(parameter.weight),
                     host->weights[MOCK_FC2]);
    ck_assert_ptr_eq(qrb_tensor_memory(parameter.gradient),
                     host->gradients[MOCK_FC2]);
    ck_assert_uint_eq(qrb_tensor_extent(parameter.weight, 1), MOCK_HIDDEN);
    ck_assert_uint_eq(qrb_model_find(host->model, "block.0.fc3"), SIZE_MAX);
    ck_assert_uint_eq(qrb_model_find(host->model, ""), SIZE_MAX);
    ck_assert_uint_eq(qrb_model_find(host->model, NULL), SIZE_MAX);
    ck_assert_uint_eq(qrb_model_find(NULL, "head"), SIZE_MAX);
    ck_assert_uint_eq(qrb_model_parameter_count(NULL), 0);
    ASSERT_FAILS(ctx,
                 qrb_model_parameter(host->model, MOCK_PARAMETERS, &parameter),
                 QRB_E_INVALID_ARG, "parameter 5 of 5");
}
END_TEST

START_TEST(thousand_names_are_all_found_again)
{
    qrb_model *model = empty_model();
    char name[32];

    ck_assert_uint_eq(qrb_model_find(model, "w"), SIZE_MAX);
    for (size_t i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "w.%zu", i * i);
        ASSERT_OK(ctx, add(model, name, QRB_ROLE_OTHER, -1));
    }
    for (size_t i = 0; i < 1000; i++) {
        snprintf(name, sizeof name, "w.%zu", i * i);
        ck_assert_uint_eq(qrb_model_find(model, name), i);
        ck_assert_uint_eq(add(model, name, QRB_ROLE_OTHER, -1),
                          QRB_E_INVALID_ARG);
    }
    ck_assert_uint_eq(qrb_model_parameter_count(model), 1000);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(pointers_to_a_parameter_survive_growth)
{
    qrb_model *model = empty_model();
    qrb_parameter first = QRB_PARAMETER_INIT;
    qrb_parameter again = QRB_PARAMETER_INIT;
    char name[32];

    ASSERT_OK(ctx, add(model, "first", QRB_ROLE_Q, 0));
    ASSERT_OK(ctx, qrb_model_parameter(model, 0, &first));
    for (size_t i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "w%zu", i);
        ASSERT_OK(ctx, add(model, name, QRB_ROLE_Q, 0));
    }
    ASSERT_OK(ctx, qrb_model_parameter(model, 0, &again));
    ck_assert_ptr_eq(first.weight, again.weight);
    ck_assert_ptr_eq(first.name, again.name);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(names_and_views_are_copied)
{
    qrb_model *model = empty_model();
    float memory[6] = { 0 };
    char name[] = "weight";
    qrb_tensor *weight = view(QRB_F32, 2, 3, memory);
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    size_t index = 99;

    parameter.name = name;
    parameter.weight = weight;
    ASSERT_OK(ctx, qrb_model_add_parameter(model, &parameter, &index));
    ck_assert_uint_eq(index, 0);
    qrb_tensor_destroy(weight);
    name[0] = 'W';
    ck_assert_uint_eq(qrb_model_find(model, "weight"), 0);
    ASSERT_OK(ctx, qrb_model_parameter(model, 0, &parameter));
    ck_assert_ptr_eq(qrb_tensor_memory(parameter.weight), memory);
    ck_assert_ptr_null(parameter.gradient);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(a_parameter_that_makes_no_sense_is_refused_by_name)
{
    qrb_model *model = empty_model();
    float memory[12] = { 0 };
    double wide[6] = { 0 };
    uint16_t half[6] = { 0 };
    qrb_tensor *weight = view(QRB_F32, 2, 3, memory);
    qrb_tensor *other = view(QRB_F32, 3, 2, memory);
    qrb_tensor *f16 = view(QRB_F16, 2, 3, half);
    qrb_tensor *f64 = view(QRB_F64, 2, 3, wide);
    const qrb_parameter good = { sizeof good, "w", weight, NULL,
                                 QRB_ROLE_Q,  0,   0,      0 };
    qrb_parameter bad;

    ck_assert_int_eq(qrb_model_add_parameter(NULL, &good, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, NULL, NULL),
                 QRB_E_INVALID_ARG, "NULL");
    bad = good;
    bad.name = "";
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "no name");
    bad = good;
    bad.name = NULL;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "no name");
    bad = good;
    bad.weight = NULL;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "w: no weight");
    bad = good;
    bad.role = QRB_ROLE_LORA_V + 1;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "w: role is 19");
    bad = good;
    bad.layer = -2;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "w: layer is -2");
    bad = good;
    bad.flags = 4;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "flags are 0x4");
    bad = good;
    bad.reserved = 1;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_INVALID_ARG, "reserved is 1");
    bad = good;
    bad.weight = f16;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_UNSUPPORTED, "w: weight is F16");
    bad = good;
    bad.gradient = other;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL), QRB_E_SHAPE,
                 "w: gradient is [3, 2], weight is [2, 3]");
    bad = good;
    bad.gradient = f64;
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &bad, NULL),
                 QRB_E_UNSUPPORTED, "w: gradient is F64, weight is F32");
    ck_assert_uint_eq(qrb_model_parameter_count(model), 0);
    ASSERT_OK(ctx, qrb_model_add_parameter(model, &good, NULL));
    ASSERT_FAILS(ctx, qrb_model_add_parameter(model, &good, NULL),
                 QRB_E_INVALID_ARG, "w: there is a parameter of this name");
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(other);
    qrb_tensor_destroy(f16);
    qrb_tensor_destroy(f64);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(a_model_is_refused_what_it_cannot_mean)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    qrb_model *model = (qrb_model *)&callbacks;

    ck_assert_int_eq(qrb_model_create(NULL, NULL, &model), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(model);
    ck_assert_int_eq(qrb_model_create(ctx, NULL, NULL), QRB_E_INVALID_ARG);
    callbacks.flags = 2;
    ASSERT_FAILS(ctx, qrb_model_create(ctx, &callbacks, &model),
                 QRB_E_INVALID_ARG, "flags are 0x2");
    callbacks = host->model->callbacks;
    callbacks.vocab = 0;
    ASSERT_FAILS(ctx, qrb_model_create(ctx, &callbacks, &model),
                 QRB_E_INVALID_ARG, "logits without vocab");
    qrb_model_destroy(NULL);
}
END_TEST

START_TEST(user_free_is_called_once_with_the_model)
{
    int freed = 0;

    host->freed = &freed;
    qrb_model_destroy(host->model);
    host->model = NULL;
    ck_assert_int_eq(freed, 1);
}
END_TEST

START_TEST(storage_that_the_host_moved_is_followed)
{
    float moved[MOCK_HIDDEN * MOCK_DIM] = { 0 };
    float gradient[MOCK_HIDDEN * MOCK_DIM] = { 0 };
    qrb_tensor *weight = view(QRB_F32, MOCK_HIDDEN, MOCK_DIM, moved);
    qrb_tensor *grad = view(QRB_F32, MOCK_HIDDEN, MOCK_DIM, gradient);
    qrb_tensor *other = view(QRB_F32, MOCK_DIM, MOCK_HIDDEN, moved);
    qrb_parameter parameter = QRB_PARAMETER_INIT;

    ck_assert_int_eq(qrb_model_weights_changed(NULL, 0, weight, grad),
                     QRB_E_INVALID_ARG);
    ASSERT_OK(ctx,
              qrb_model_weights_changed(host->model, MOCK_FC1, weight, grad));
    ASSERT_OK(ctx, qrb_model_parameter(host->model, MOCK_FC1, &parameter));
    ck_assert_ptr_eq(qrb_tensor_memory(parameter.weight), moved);
    ck_assert_ptr_eq(qrb_tensor_memory(parameter.gradient), gradient);
    ASSERT_FAILS(
        ctx,
        qrb_model_weights_changed(host->model, MOCK_PARAMETERS, weight, grad),
        QRB_E_INVALID_ARG, "parameter 5 of 5");
    ASSERT_FAILS(ctx,
                 qrb_model_weights_changed(host->model, MOCK_FC1, weight, NULL),
                 QRB_E_INVALID_ARG, "registered with a gradient");
    ASSERT_FAILS(ctx,
                 qrb_model_weights_changed(host->model, MOCK_FC1, other, NULL),
                 QRB_E_INVALID_ARG, "block.0.fc1");
    ASSERT_FAILS(ctx,
                 qrb_model_weights_changed(host->model, MOCK_FC2, weight, grad),
                 QRB_E_SHAPE, "block.0.fc2: found [12, 8], expected [8, 12]");
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(grad);
    qrb_tensor_destroy(other);
}
END_TEST

START_TEST(storage_of_another_type_is_refused)
{
    double moved[6];
    qrb_model *model = empty_model();
    qrb_tensor *weight = view(QRB_F64, 2, 3, moved);
    qrb_tensor *unlike;

    ASSERT_OK(ctx, add(model, "w", QRB_ROLE_Q, 0));
    ASSERT_FAILS(ctx, qrb_model_weights_changed(model, 0, weight, NULL),
                 QRB_E_INVALID_ARG, "w: found F64, registered as F32");
    unlike = view(QRB_F64, 2, 3, moved);
    ASSERT_FAILS(ctx, qrb_model_weights_changed(model, 0, weight, unlike),
                 QRB_E_INVALID_ARG, "without gradient");
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(unlike);
    qrb_model_destroy(model);
}
END_TEST

/* --- filters */

static bool selects(uint64_t roles, const char *glob, const char *name)
{
    const size_t index = qrb_model_find(host->model, name);
    qrb_filter filter = QRB_FILTER_INIT;

    filter.roles = roles;
    filter.name = glob;
    return qrb__filter_selects(&filter, host->model->parameters[index]);
}

START_TEST(default_filter_means_matrices_inside_blocks)
{
    static const uint32_t inside[] = {
        QRB_ROLE_Q,   QRB_ROLE_K,   QRB_ROLE_V,    QRB_ROLE_QKV,
        QRB_ROLE_O,   QRB_ROLE_UP,  QRB_ROLE_GATE, QRB_ROLE_DOWN,
        QRB_ROLE_FC1, QRB_ROLE_FC2, QRB_ROLE_CONV,
    };

    for (uint32_t role = 0; role <= QRB_ROLE_LORA_V; role++) {
        struct qrb__parameter parameter = { .name = (char[]){ "w" },
                                            .role = role };
        bool expected = false;

        for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
            expected = expected || inside[i] == role;
        parameter.weight.rank = 2;
        ck_assert_int_eq(qrb__filter_selects(NULL, &parameter), expected);
        parameter.weight.rank = 1; /* no matrix, whatever its role */
        ck_assert(!qrb__filter_selects(NULL, &parameter));
    }
    ck_assert(selects(0, NULL, "block.0.fc1"));
    ck_assert(!selects(0, NULL, "block.0.bias"));
    ck_assert(!selects(0, NULL, "head"));
}
END_TEST

START_TEST(roles_and_names_of_a_filter_both_count)
{
    ck_assert(selects(UINT64_C(1) << QRB_ROLE_HEAD, NULL, "head"));
    ck_assert(!selects(UINT64_C(1) << QRB_ROLE_HEAD, NULL, "block.0.fc1"));
    ck_assert(selects(QRB_FILTER_ALL, NULL, "block.0.bias"));
    ck_assert(selects(QRB_FILTER_ALL, "*.bias", "block.0.bias"));
    ck_assert(!selects(0, "*.bias", "block.0.bias"));
    ck_assert(!selects(0, "*.fc2", "block.0.fc1"));
}
END_TEST

START_TEST(globs_know_star_and_question_mark)
{
    static const struct {
        const char *glob;
        int matches;
    } cases[] = {
        { "block.0.fc1", 1 }, { "*", 1 },          { "block.?.fc?", 1 },
        { "*fc*", 1 },        { "block*1", 1 },    { "*.*.*", 1 },
        { "**fc1**", 1 },     { "block.0.fc", 0 }, { "block.0.fc1?", 0 },
        { "lock.0.fc1", 0 },  { "", 0 },           { "*fc", 0 },
        { "?", 0 },           { "*c1*0*", 0 },     { "*.0.f*c1", 1 },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg(selects(0, cases[i].glob, "block.0.fc1") ==
                          (cases[i].matches != 0),
                      "%s", cases[i].glob);
}
END_TEST

START_TEST(older_filter_has_no_name)
{
    /* The memory behind the roles is not the caller's to be read. */
    qrb_filter filter = { offsetof(qrb_filter, name), 0, (const char *)1 };
    size_t count = 0;

    ASSERT_OK(ctx, qrb__filter_count(host->model, &filter, &count));
    ck_assert_uint_eq(count, 2);
    filter.struct_size = 4;
    ASSERT_FAILS(ctx, qrb__filter_count(host->model, &filter, &count),
                 QRB_E_INVALID_ARG, "filter: struct_size is 4");
}
END_TEST

/* --- pull callbacks */

static void no_optional_callbacks(qrb_host_callbacks *callbacks)
{
    callbacks->loss = NULL;
    callbacks->token_nll = NULL;
    callbacks->zero_grad = NULL;
    callbacks->set_mode = NULL;
    callbacks->select_model = NULL;
    callbacks->weights_written = NULL;
    callbacks->batch_release = NULL;
    callbacks->user_free = NULL;
}

static void no_callbacks(qrb_host_callbacks *callbacks)
{
    const qrb_host_callbacks none = QRB_HOST_CALLBACKS_INIT;

    *callbacks = none;
}

/* Another host in place of the one of set_up(). */
static void make_host(enum mock_kind kind,
                      void (*adjust)(qrb_host_callbacks *callbacks))
{
    mock_host_destroy(host);
    ASSERT_OK(ctx, mock_host_create(ctx, kind, 1, adjust, &host));
}

static struct qrb__batch batch_at(uint64_t index)
{
    struct qrb__batch batch = { 0 };
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_batch(host->model, QRB_STREAM_TRAIN, index,
                                    &batch, &skipped));
    ck_assert(!skipped);
    return batch;
}

START_TEST(a_batch_is_lent_and_given_back)
{
    struct qrb__batch batch = batch_at(3);

    ck_assert_uint_eq(batch.rows, 23);
    ck_assert_ptr_nonnull(batch.handle);
    ck_assert_uint_eq(host->batches, 1);
    qrb__model_batch_release(host->model, &batch);
    ck_assert_uint_eq(host->batches, 0);
    ck_assert_ptr_null(batch.handle);
    qrb__model_batch_release(host->model, &batch); /* nothing left to release */
    ck_assert_uint_eq(host->counts[MOCK_BATCH_RELEASE], 1);
    batch = batch_at(MOCK_BATCHES);
    ck_assert_ptr_null(batch.handle);
}
END_TEST

START_TEST(loss_is_composed_from_loss_and_grad_if_need_be)
{
    struct qrb__batch batch = batch_at(0);
    double with = 0.0;
    double without = 0.0;
    size_t scored = 0;
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle, &with, &scored,
                                   &skipped));
    ck_assert(!skipped);
    ck_assert_uint_eq(scored, 20);
    ck_assert_uint_eq(host->counts[MOCK_LOSS], 1);
    qrb__model_batch_release(host->model, &batch);

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.batch_release = NULL;
    batch = batch_at(0);
    ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle, &without, &scored,
                                   &skipped));
    ck_assert_uint_eq(host->counts[MOCK_LOSS_AND_GRAD], 1);
    ck_assert_double_eq(with, without);
    for (size_t i = 0; i < host->elements[MOCK_FC1]; i++)
        ck_assert_float_eq(host->gradients[MOCK_FC1][i], 0.0f);
    free((void *)(uintptr_t)batch.handle);
}
END_TEST

START_TEST(token_nll_is_composed_from_logits_if_need_be)
{
    struct qrb__batch batch = batch_at(0);
    float logits[20 * MOCK_VOCAB];
    int32_t targets[20];
    float with[20];
    float without[20];
    bool skipped = true;

    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, NULL,
                                        NULL, with, &skipped));
    ck_assert(!skipped);
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, logits,
                                        targets, with, &skipped));
    ck_assert_int_eq(targets[19], 0);
    qrb__model_batch_release(host->model, &batch);

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    batch = batch_at(0);
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, batch.handle, 20, logits,
                                        targets, without, &skipped));
    ck_assert(!skipped);
    for (size_t r = 0; r < 20; r++)
        ck_assert_float_eq_tol(with[r], without[r], 1e-6f);
    free((void *)(uintptr_t)batch.handle);
}
END_TEST

static int some_targets(const void *batch, float *logits, int32_t *targets,
                        size_t rows, void *user)
{
    (void)batch;
    (void)user;
    for (size_t i = 0; i < rows * MOCK_VOCAB; i++)
        logits[i] = 0.0f;
    for (size_t r = 0; r < rows; r++)
        targets[r] = r % 2 == 0 ? -1 : (int32_t)r;
    return 0;
}

START_TEST(rows_without_target_are_not_scored)
{
    float logits[4 * MOCK_VOCAB];
    int32_t targets[4];
    float nll[4];
    bool skipped = true;

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.logits = some_targets;
    ASSERT_OK(ctx, qrb__model_token_nll(host->model, "batch", 4, logits,
                                        targets, nll, &skipped));
    ck_assert(!skipped);
    ck_assert_int_eq(targets[0], -1);
    ck_assert_float_eq(nll[0], 0.0f);
    ck_assert_int_eq(targets[3], 3);
    ck_assert_float_eq_tol(nll[3], logf(MOCK_VOCAB), 1e-6f);
}
END_TEST

static int wild_targets(const void *batch, float *logits, int32_t *targets,
                        size_t rows, void *user)
{
    const int32_t wild = *(const int32_t *)batch;

    some_targets(batch, logits, targets, rows, user);
    targets[rows - 1] = wild;
    return 0;
}

START_TEST(targets_outside_the_vocabulary_are_refused)
{
    static const int32_t wild[] = { MOCK_VOCAB, -2, INT32_MIN, INT32_MAX };
    float logits[4 * MOCK_VOCAB];
    int32_t targets[4];
    float nll[4];
    bool skipped;

    make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    host->model->callbacks.logits = wild_targets;
    for (size_t i = 0; i < 4; i++) {
        ASSERT_FAILS(ctx,
                     qrb__model_token_nll(host->model, &wild[i], 4, logits,
                                          targets, nll, &skipped),
                     QRB_E_INVALID_ARG, "target of row 3");
        ASSERT_FAILS(ctx,
                     qrb__model_logits(host->model, &wild[i], logits, targets,
                                       4, &skipped),
                     QRB_E_INVALID_ARG, "target of row 3");
    }
}
END_TEST

/* Call a callback that serves a batch by its number. */
static qrb_status serve(int which, const void *batch, bool *skipped)
{
    static float logits[32 * MOCK_VOCAB];
    static int32_t targets[32];
    static float nll[32];
    struct qrb__batch got = { 0 };
    double loss;
    size_t scored;
    qrb_status status;

    switch (which) {
    case MOCK_BATCH:
        status = qrb__model_batch(host->model, QRB_STREAM_CALIBRATION, 1, &got,
                                  skipped);
        qrb__model_batch_release(host->model, &got);
        return status;
    case MOCK_LOSS_AND_GRAD:
        return qrb__model_loss_and_grad(host->model, batch, 1.0, &loss, &scored,
                                        skipped);
    case MOCK_LOSS:
        return qrb__model_loss(host->model, batch, &loss, &scored, skipped);
    case MOCK_LOGITS:
        return qrb__model_logits(host->model, batch, logits, targets, 20,
                                 skipped);
    default:
        return qrb__model_token_nll(host->model, batch, 20, logits, targets,
                                    nll, skipped);
    }
}

static const int serving[] = { MOCK_BATCH, MOCK_LOSS_AND_GRAD, MOCK_LOSS,
                               MOCK_LOGITS, MOCK_TOKEN_NLL };
static const char *const serving_names[] = { "batch", "loss_and_grad", "loss",
                                             "logits", "token_nll" };

START_TEST(a_batch_callback_below_zero_stops_with_its_code)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->fail_at = host->calls + 1;
    host->fail_code = -7 - _i;
    ASSERT_FAILS(ctx, serve(serving[_i], batch.handle, &skipped),
                 QRB_E_CALLBACK, serving_names[_i]);
    ck_assert_int_eq(qrb_context_callback_code(ctx), -7 - _i);
    ck_assert(!skipped);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(a_batch_callback_above_zero_skips_sixteen_times_in_a_row)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->fail_at = host->calls + 1;
    host->fail_many = 1000;
    host->fail_code = 2;
    for (int i = 0; i < 16; i++) {
        ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
        ck_assert(skipped);
    }
    ASSERT_FAILS(ctx, serve(serving[_i], batch.handle, &skipped),
                 QRB_E_CALLBACK, "more than 16 batches");
    host->fail_at = 0;
    /* A usable batch ends the row. */
    ASSERT_OK(ctx, serve(MOCK_LOSS, batch.handle, &skipped));
    ck_assert(!skipped);
    host->fail_at = 1;
    ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
    ck_assert(skipped);
    host->fail_at = 0;
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(lending_batches_that_turn_out_unusable_ends_after_sixteen)
{
    qrb_status status = QRB_OK;
    bool skipped;
    int i;

    host->fail_code = 1;
    for (i = 0; i < 100 && status == QRB_OK; i++) {
        struct qrb__batch batch = batch_at(0); /* always lent */

        host->fail_at = host->calls + 1;
        status = serve(MOCK_LOSS_AND_GRAD, batch.handle, &skipped);
        host->fail_at = 0;
        qrb__model_batch_release(host->model, &batch);
    }
    ck_assert_int_eq(status, QRB_E_CALLBACK);
    ck_assert_int_eq(i, 17);
}
END_TEST

START_TEST(output_that_is_not_finite_is_a_skip)
{
    struct qrb__batch batch = batch_at(0);
    bool skipped = false;

    host->nan_at = host->calls + 1;
    ASSERT_OK(ctx, serve(serving[_i], batch.handle, &skipped));
    ck_assert(skipped);
    ck_assert_uint_eq(host->model->skips, 1);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

static int score_nothing(const void *batch, double *mean_loss, size_t *scored,
                         void *user)
{
    (void)batch;
    (void)user;
    *mean_loss = 1.0;
    *scored = 0;
    return 0;
}

START_TEST(a_loss_over_no_target_is_a_skip)
{
    bool skipped = false;

    host->model->callbacks.loss = score_nothing;
    ASSERT_OK(ctx, serve(MOCK_LOSS, "batch", &skipped));
    ck_assert(skipped);
}
END_TEST

START_TEST(a_skip_leaves_outputs_alone)
{
    struct qrb__batch batch = batch_at(0);
    double loss = 12.0;
    size_t scored = 34;
    bool skipped = false;

    host->nan_at = host->calls + 1;
    ASSERT_OK(ctx, qrb__model_loss_and_grad(host->model, batch.handle, 1.0,
                                            &loss, &scored, &skipped));
    ck_assert(skipped);
    ck_assert_double_eq(loss, 12.0);
    ck_assert_uint_eq(scored, 34);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

START_TEST(callbacks_that_serve_no_batch_stop_at_any_answer_but_zero)
{
    const int code = _i == 0 ? -3 : 3;

    host->fail_many = 1000;
    host->fail_at = 1;
    host->fail_code = code;
    ASSERT_FAILS(ctx, qrb__model_zero_grad(host->model), QRB_E_CALLBACK,
                 "zero_grad");
    ck_assert_int_eq(qrb_context_callback_code(ctx), code);
    ASSERT_FAILS(ctx, qrb__model_set_mode(host->model, QRB_MODE_EVAL),
                 QRB_E_CALLBACK, "set_mode");
    ASSERT_FAILS(ctx, qrb__model_weights_written(host->model, 0),
                 QRB_E_CALLBACK, "weights_written");
}
END_TEST

START_TEST(callbacks_that_are_missing_are_named)
{
    bool skipped;

    make_host(MOCK_OWN_BATCHES, no_callbacks);
    ASSERT_FAILS(ctx, serve(MOCK_BATCH, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback batch");
    ASSERT_FAILS(ctx, serve(MOCK_LOSS_AND_GRAD, NULL, &skipped),
                 QRB_E_UNSUPPORTED, "no callback loss_and_grad");
    ASSERT_FAILS(ctx, serve(MOCK_LOSS, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback loss_and_grad");
    ASSERT_FAILS(ctx, serve(MOCK_LOGITS, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback logits");
    ASSERT_FAILS(ctx, serve(MOCK_TOKEN_NLL, NULL, &skipped), QRB_E_UNSUPPORTED,
                 "no callback logits");
    ASSERT_OK(ctx, qrb__model_set_mode(host->model, QRB_MODE_EVAL));
    ASSERT_OK(ctx, qrb__model_weights_written(host->model, 0));
}
END_TEST

START_TEST(gradients_are_zeroed_by_the_host_or_by_us)
{
    if (_i == 1)
        make_host(MOCK_OWN_BATCHES, no_optional_callbacks);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            host->gradients[p][i] = NAN;
    ASSERT_OK(ctx, qrb__model_zero_grad(host->model));
    ck_assert_uint_eq(host->counts[MOCK_ZERO_GRAD], _i == 1 ? 0 : 1);
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            ck_assert_float_eq(host->gradients[p][i], 0.0f);
}
END_TEST

START_TEST(parameters_without_gradient_are_not_zeroed)
{
    qrb_model *model = empty_model();

    ASSERT_OK(ctx, add(model, "w", QRB_ROLE_Q, 0));
    ASSERT_OK(ctx, qrb__model_zero_grad(model));
    qrb_model_destroy(model);
}
END_TEST

/* The mock's own backward pass against differences: what is tested with it
 * stands on it. */
START_TEST(gradients_of_the_mock_are_those_of_its_loss)
{
    struct qrb__batch batch = batch_at(0);
    const double step = 1e-3;
    double loss;
    size_t scored;
    bool skipped;

    ASSERT_OK(ctx, qrb__model_loss_and_grad(host->model, batch.handle, 1.0,
                                            &loss, &scored, &skipped));
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i += 5) {
            float *w = &host->weights[p][i];
            const float before = *w;
            const float above = before + (float)step;
            const float below = before - (float)step;
            double loss_above;
            double loss_below;

            *w = above;
            ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle,
                                           &loss_above, &scored, &skipped));
            *w = below;
            ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle,
                                           &loss_below, &scored, &skipped));
            *w = before;
            ck_assert_double_eq_tol((loss_above - loss_below) /
                                        ((double)above - (double)below),
                                    (double)host->gradients[p][i], 2e-6);
        }
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

/* --- token batches and datasets */

START_TEST(rows_of_a_token_batch_are_those_that_are_scored)
{
    const int32_t tokens[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
    size_t first[2] = { 1, 4 };
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    batch.tokens = tokens;
    batch.first_scored = first;
    batch.sequences = 2;
    batch.length = 4;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 3);
    first[0] = 4;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "none of its 8"));
    first[0] = 0;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "is 0"));
    first[0] = 5;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "1..4"));
    first[0] = 1;
    batch.sequences = SIZE_MAX / 2;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.sequences = 0;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.sequences = 2;
    batch.tokens = NULL;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "without tokens"));
    batch.tokens = tokens;
    batch.first_scored = NULL;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    batch.first_scored = first;
    batch.struct_size = 8;
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 0);
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, NULL), 0);
}
END_TEST

static qrb_dataset *dataset_of(const int32_t *tokens, size_t count,
                               size_t batch, size_t context)
{
    const qrb_dataset_options options = { sizeof options, batch, context };
    qrb_dataset *dataset = NULL;

    ASSERT_OK(ctx, qrb_dataset_create(ctx, tokens, count, &options, &dataset));
    return dataset;
}

START_TEST(a_batch_of_a_dataset_depends_on_its_number_alone)
{
    int32_t tokens[200];
    qrb_dataset *dataset;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
    int32_t first[3 * 11];

    for (int i = 0; i < 200; i++)
        tokens[i] = i;
    dataset = dataset_of(tokens, 200, 3, 10);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_uint_eq(batch.sequences, 3);
    ck_assert_uint_eq(batch.length, 11);
    ck_assert_uint_eq(qrb__token_batch_rows(ctx, &batch), 30);
    memcpy(first, batch.tokens, sizeof first);
    for (size_t s = 0; s < 3; s++)
        for (size_t t = 1; t < 11; t++) /* windows are runs of the text */
            ck_assert_int_eq(first[s * 11 + t], first[s * 11] + (int)t);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, 1, &batch));
    ck_assert_mem_ne(batch.tokens, first, sizeof first);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_mem_eq(batch.tokens, first, sizeof first);
    qrb_dataset_destroy(dataset);

    /* The same in a dataset of its own. */
    dataset = dataset_of(tokens, 200, 3, 10);
    ASSERT_OK(ctx, qrb_dataset_batch(dataset, UINT64_C(1) << 40, &batch));
    ck_assert_mem_eq(batch.tokens, first, sizeof first);
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(windows_start_everywhere_with_equal_chance)
{
    int32_t tokens[12];
    size_t starts[10] = { 0 };
    qrb_dataset *dataset;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    for (int i = 0; i < 12; i++)
        tokens[i] = i;
    dataset = dataset_of(tokens, 12, 5, 2); /* 10 starts */
    for (uint64_t index = 0; index < 2000; index++) {
        ASSERT_OK(ctx, qrb_dataset_batch(dataset, index, &batch));
        for (size_t s = 0; s < 5; s++)
            starts[batch.tokens[s * 3]]++;
    }
    /* 10,000 draws over 10 cells: standard deviation 30 each. */
    for (int i = 0; i < 10; i++) {
        ck_assert_uint_gt(starts[i], 1000 - 120);
        ck_assert_uint_lt(starts[i], 1000 + 120);
    }
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(batches_follow_the_seed_of_the_context)
{
    int32_t tokens[1000];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *other = NULL;
    const qrb_dataset_options shape = { sizeof shape, 4, 8 };
    qrb_dataset *one;
    qrb_dataset *two = NULL;
    qrb_token_batch a = QRB_TOKEN_BATCH_INIT;
    qrb_token_batch b = QRB_TOKEN_BATCH_INIT;

    for (int i = 0; i < 1000; i++)
        tokens[i] = i;
    options.seed = 1;
    ASSERT_OK(ctx, qrb_context_create(&options, &other));
    one = dataset_of(tokens, 1000, 4, 8);
    ASSERT_OK(other, qrb_dataset_create(other, tokens, 1000, &shape, &two));
    ASSERT_OK(ctx, qrb_dataset_batch(one, 0, &a));
    ASSERT_OK(other, qrb_dataset_batch(two, 0, &b));
    ck_assert_mem_ne(a.tokens, b.tokens, 36 * sizeof *a.tokens);
    qrb_dataset_destroy(one);
    qrb_dataset_destroy(two);
    qrb_context_destroy(other);
}
END_TEST

START_TEST(a_text_as_short_as_a_sequence_is_enough)
{
    const int32_t tokens[3] = { 7, 8, 9 };
    qrb_dataset *dataset = dataset_of(tokens, 3, 1, 2);
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    ASSERT_OK(ctx, qrb_dataset_batch(dataset, 5, &batch));
    ck_assert_mem_eq(batch.tokens, tokens, sizeof tokens);
    qrb_dataset_destroy(dataset);
}
END_TEST

START_TEST(a_dataset_that_makes_no_sense_is_refused)
{
    const int32_t tokens[4] = { 1, 2, -3, 4 };
    qrb_dataset_options options = { sizeof options, 1, 2 };
    qrb_dataset *dataset = NULL;
    qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

    ck_assert_int_eq(qrb_dataset_create(NULL, tokens, 4, NULL, &dataset),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_dataset_create(ctx, tokens, 4, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 4, NULL, &dataset),
                 QRB_E_SHAPE, "4 tokens; a sequence has 128 + 1");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 4, &options, &dataset),
                 QRB_E_INVALID_ARG, "token 2 is -3");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, NULL, 4, &options, &dataset),
                 QRB_E_INVALID_ARG, "tokens is NULL");
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_SHAPE, "2 tokens");
    options.batch = 0;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_INVALID_ARG, "batch is 0");
    options.batch = SIZE_MAX / 2;
    options.context = 1;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_NO_MEMORY, "batches of");
    options.batch = SIZE_MAX;
    ASSERT_FAILS(ctx, qrb_dataset_create(ctx, tokens, 2, &options, &dataset),
                 QRB_E_SHAPE, "batches of");
    ck_assert_ptr_null(dataset);
    ck_assert_int_eq(qrb_dataset_batch(NULL, 0, &batch), QRB_E_INVALID_ARG);
    dataset = dataset_of(tokens, 2, 1, 1);
    ASSERT_FAILS(ctx, qrb_dataset_batch(dataset, 0, NULL), QRB_E_INVALID_ARG,
                 "NULL");
    batch.struct_size = 0;
    ASSERT_FAILS(ctx, qrb_dataset_batch(dataset, 0, &batch), QRB_E_INVALID_ARG,
                 "struct_size is 0");
    qrb_dataset_destroy(dataset);
}
END_TEST

/* --- snapshots */

START_TEST(a_snapshot_brings_back_every_bit)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;
    float *before = calloc(mock_weight_count(host), sizeof *before);
    size_t written;

    host->weights[MOCK_FC1][3] = -0.0f;
    host->weights[MOCK_HEAD][0] = NAN;
    mock_copy_weights(host, before);
    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    for (int p = 0; p < MOCK_PARAMETERS; p++)
        for (size_t i = 0; i < host->elements[p]; i++)
            host->weights[p][i] += 1.0f;
    ck_assert(!mock_weights_equal(host, before));
    written = host->counts[MOCK_WEIGHTS_WRITTEN];
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
    ck_assert(mock_weights_equal(host, before));
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN] - written,
                      MOCK_PARAMETERS);
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot)); /* and again */
    ck_assert(mock_weights_equal(host, before));
    qrb_snapshot_destroy(snapshot);
    free(before);
}
END_TEST

START_TEST(a_snapshot_leaves_other_weights_alone)
{
    qrb_snapshot *snapshot = NULL;
    const float fc1 = host->weights[MOCK_FC1][0];

    ASSERT_OK(ctx, qrb_snapshot_create(host->model, NULL, &snapshot));
    host->weights[MOCK_FC1][0] = 5.0f;
    host->weights[MOCK_EMBED][0] = 6.0f;
    ASSERT_OK(ctx, qrb_snapshot_restore(snapshot));
    ck_assert_float_eq(host->weights[MOCK_FC1][0], fc1);
    ck_assert_float_eq(host->weights[MOCK_EMBED][0], 6.0f);
    qrb_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_restore_is_whole_whichever_call_of_the_host_fails)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;
    float *before = calloc(mock_weight_count(host), sizeof *before);

    mock_copy_weights(host, before);
    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    for (size_t k = 1; k <= MOCK_PARAMETERS; k++) {
        host->weights[MOCK_FC2][1] += 1.0f;
        host->fail_at = host->calls + k;
        host->fail_code = -(int)k;
        ASSERT_FAILS(ctx, qrb_snapshot_restore(snapshot), QRB_E_CALLBACK,
                     "weights_written");
        ck_assert_int_eq(qrb_context_callback_code(ctx), -(int)k);
        ck_assert(mock_weights_equal(host, before));
    }
    qrb_snapshot_destroy(snapshot);
    free(before);
}
END_TEST

/* Another code at each call. */
static void count_down(struct mock_host *mock, enum mock_callback callback)
{
    (void)callback;
    mock->fail_code = -(int)mock->calls;
}

START_TEST(the_first_failure_is_the_one_that_is_told)
{
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    qrb_snapshot *snapshot = NULL;

    ASSERT_OK(ctx, qrb_snapshot_create(host->model, &all, &snapshot));
    host->inside = count_down;
    host->fail_at = 2;
    host->fail_many = 100;
    ASSERT_FAILS(ctx, qrb_snapshot_restore(snapshot), QRB_E_CALLBACK,
                 "returned -2");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -2);
    ck_assert_uint_eq(host->calls, MOCK_PARAMETERS);
    host->inside = NULL;
    host->fail_at = 0;
    qrb_snapshot_destroy(snapshot);
}
END_TEST

START_TEST(a_snapshot_of_nothing_is_refused)
{
    const qrb_filter none = { sizeof none, QRB_FILTER_ALL, "no such*" };
    qrb_snapshot *snapshot = NULL;

    ASSERT_FAILS(ctx, qrb_snapshot_create(host->model, &none, &snapshot),
                 QRB_E_INVALID_ARG, "selects none of the model's 5");
    ck_assert_int_eq(qrb_snapshot_create(NULL, NULL, &snapshot),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_snapshot_create(host->model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_snapshot_restore(NULL), QRB_E_INVALID_ARG);
    qrb_snapshot_destroy(NULL);
}
END_TEST

/* --- allocation failures */

static qrb_status build_host(qrb_context *context, void *arg)
{
    struct mock_host *made = NULL;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made);
    mock_host_destroy(made);
    return status;
}

/* Enough parameters for the registry to grow twice. */
static qrb_status build_registry(qrb_context *context, void *arg)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight = NULL;
    qrb_model *model = NULL;
    float memory[1] = { 0 };
    qrb_status status;

    (void)arg;
    options.memory = memory;
    options.rank = 1;
    options.shape[0] = 1;
    status = qrb_tensor_create(context, &options, &weight);
    if (status == QRB_OK)
        status = qrb_model_create(context, NULL, &model);
    parameter.weight = weight;
    for (int i = 0; i < 20 && status == QRB_OK; i++) {
        char name[16];

        snprintf(name, sizeof name, "%d", i);
        parameter.name = name;
        status = qrb_model_add_parameter(model, &parameter, NULL);
        /* What failed left the registry as it was. */
        ck_assert_uint_eq(qrb_model_parameter_count(model),
                          (size_t)i + (status == QRB_OK));
    }
    qrb_model_destroy(model);
    qrb_tensor_destroy(weight);
    return status;
}

static qrb_status build_snapshot(qrb_context *context, void *arg)
{
    struct mock_host *made = NULL;
    qrb_snapshot *snapshot = NULL;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made);
    if (status == QRB_OK) {
        status = qrb_snapshot_create(made->model, NULL, &snapshot);
        ck_assert((snapshot == NULL) == (status != QRB_OK));
    }
    qrb_snapshot_destroy(snapshot);
    mock_host_destroy(made);
    return status;
}

static qrb_status build_dataset(qrb_context *context, void *arg)
{
    const int32_t tokens[300] = { 0 };
    qrb_dataset *dataset = NULL;
    qrb_status status;

    (void)arg;
    status = qrb_dataset_create(context, tokens, 300, NULL, &dataset);
    ck_assert((dataset == NULL) == (status != QRB_OK));
    qrb_dataset_destroy(dataset);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_host, NULL);
    fail_each_allocation(build_registry, NULL);
    fail_each_allocation(build_snapshot, NULL);
    fail_each_allocation(build_dataset, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("model");
    TCase *test = tcase_create("model");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, parameters_are_found_by_name_and_number);
    tcase_add_test(test, thousand_names_are_all_found_again);
    tcase_add_test(test, pointers_to_a_parameter_survive_growth);
    tcase_add_test(test, names_and_views_are_copied);
    tcase_add_test(test, a_parameter_that_makes_no_sense_is_refused_by_name);
    tcase_add_test(test, a_model_is_refused_what_it_cannot_mean);
    tcase_add_test(test, user_free_is_called_once_with_the_model);
    tcase_add_test(test, storage_that_the_host_moved_is_followed);
    tcase_add_test(test, storage_of_another_type_is_refused);
    tcase_add_test(test, default_filter_means_matrices_inside_blocks);
    tcase_add_test(test, roles_and_names_of_a_filter_both_count);
    tcase_add_test(test, globs_know_star_and_question_mark);
    tcase_add_test(test, older_filter_has_no_name);
    tcase_add_test(test, a_batch_is_lent_and_given_back);
    tcase_add_test(test, loss_is_composed_from_loss_and_grad_if_need_be);
    tcase_add_test(test, token_nll_is_composed_from_logits_if_need_be);
    tcase_add_test(test, rows_without_target_are_not_scored);
    tcase_add_test(test, targets_outside_the_vocabulary_are_refused);
    tcase_add_loop_test(test, a_batch_callback_below_zero_stops_with_its_code,
                        0, 5);
    tcase_add_loop_test(
        test, a_batch_callback_above_zero_skips_sixteen_times_in_a_row, 0, 5);
    tcase_add_test(test,
                   lending_batches_that_turn_out_unusable_ends_after_sixteen);
    tcase_add_loop_test(test, output_that_is_not_finite_is_a_skip, 1, 5);
    tcase_add_test(test, a_loss_over_no_target_is_a_skip);
    tcase_add_test(test, a_skip_leaves_outputs_alone);
    tcase_add_loop_test(
        test, callbacks_that_serve_no_batch_stop_at_any_answer_but_zero, 0, 2);
    tcase_add_test(test, callbacks_that_are_missing_are_named);
    tcase_add_loop_test(test, gradients_are_zeroed_by_the_host_or_by_us, 0, 2);
    tcase_add_test(test, parameters_without_gradient_are_not_zeroed);
    tcase_add_test(test, gradients_of_the_mock_are_those_of_its_loss);
    tcase_add_test(test, rows_of_a_token_batch_are_those_that_are_scored);
    tcase_add_test(test, a_batch_of_a_dataset_depends_on_its_number_alone);
    tcase_add_test(test, windows_start_everywhere_with_equal_chance);
    tcase_add_test(test, batches_follow_the_seed_of_the_context);
    tcase_add_test(test, a_text_as_short_as_a_sequence_is_enough);
    tcase_add_test(test, a_dataset_that_makes_no_sense_is_refused);
    tcase_add_test(test, a_snapshot_brings_back_every_bit);
    tcase_add_test(test, a_snapshot_leaves_other_weights_alone);
    tcase_add_test(test, a_restore_is_whole_whichever_call_of_the_host_fails);
    tcase_add_test(test, the_first_failure_is_the_one_that_is_told);
    tcase_add_test(test, a_snapshot_of_nothing_is_refused);
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
