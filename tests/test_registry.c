/* The registry of parameters, and filters over it. */
#include "model_fixture.h"

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

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_registry, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("registry");
    TCase *test = tcase_create("registry");

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
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
