/* Quantization of the engine's models: the order of blocks, what each of them
 * sees, and the same bits with any number of threads. */
#include "engine_model.h"

#include <qrobust/recipe.h>

enum { TEXT = 300, SAMPLES = 4, CONTEXT = 20, MATRICES = 14, PARAMETERS = 32 };

static int32_t text[TEXT];

static qrb_model *make(qrb_context *ctx, size_t variant)
{
    const qrb_engine_config config = config_of(&variants[variant]);

    fill_tokens(text, TEXT, config.vocab);
    return make_model(ctx, &config, QRB_F32);
}

static qrb_quantizer *named(qrb_context *ctx, const char *name)
{
    qrb_quantizer *quantizer = NULL;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, name, &quantizer));
    return quantizer;
}

struct heard {
    size_t count;
    int32_t layers[MATRICES];
    uint32_t roles[MATRICES];
    const qrb_model *model;
};

static int hear(const qrb_quantized_matrix *matrix, qrb_packed **packed,
                void *user)
{
    struct heard *heard = user;

    (void)packed;
    ck_assert_uint_lt(heard->count, MATRICES);
    heard->layers[heard->count] = matrix->layer;
    heard->roles[heard->count] =
        parameter_at(heard->model, matrix->parameter).role;
    heard->count++;
    return 0;
}

static void quantize(qrb_context *ctx, qrb_model *model, uint32_t propagate,
                     struct heard *heard)
{
    qrb_quantize_options options = QRB_QUANTIZE_OPTIONS_INIT;
    qrb_quantizer *quantizer = named(ctx, "smoothquant+rtn3");

    options.samples = SAMPLES;
    options.context = CONTEXT;
    options.propagate = propagate;
    if (heard != NULL) {
        heard->model = model;
        options.done = hear;
        options.user = heard;
    }
    ASSERT_OK(ctx, qrb_quantize_model(model, quantizer, text, TEXT, &options));
    qrb_quantizer_destroy(quantizer);
}

START_TEST(blocks_ascend_where_errors_propagate_and_descend_where_not)
{
    static const uint32_t roles[MATRICES / 2] = {
        QRB_ROLE_Q,    QRB_ROLE_K,  QRB_ROLE_V,   QRB_ROLE_O,
        QRB_ROLE_GATE, QRB_ROLE_UP, QRB_ROLE_DOWN
    };
    qrb_context *ctx = make_threads(1);

    for (uint32_t propagate = QRB_ON; propagate <= QRB_OFF; propagate++) {
        qrb_model *model = make(ctx, 0);
        struct heard heard = { 0 };

        quantize(ctx, model, propagate, &heard);
        ck_assert_uint_eq(heard.count, MATRICES);
        for (size_t i = 0; i < MATRICES; i++) {
            const bool first = i < MATRICES / 2;

            ck_assert_int_eq(heard.layers[i],
                             first == (propagate == QRB_ON) ? 0 : 1);
            ck_assert_uint_eq(heard.roles[i], roles[i % (MATRICES / 2)]);
        }
        qrb_model_destroy(model);
    }
    qrb_context_destroy(ctx);
}
END_TEST

static int observe(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    qrb_observer **observers = user;
    qrb_status status = QRB_OK;

    (void)point;
    if (observers[index] != NULL)
        status = qrb_observer_add(observers[index], tensor);
    return status == QRB_OK ? 0 : QRB_CALLBACK_STATUS(status);
}

/* Whether a parameter is a matrix of one of these roles in a block. */
static bool is_of(const qrb_parameter *parameter, int32_t layer, uint64_t roles)
{
    return (layer < 0 || parameter->layer == layer) &&
           (roles & (UINT64_C(1) << parameter->role)) != 0;
}

/* By public means alone: observe some matrices together, then quantize each
 * by what was seen. */
static void quantize_by_hand(qrb_context *ctx, qrb_model *model, int32_t layer,
                             uint64_t roles)
{
    const qrb_dataset_options shape = { sizeof shape, 1, CONTEXT };
    qrb_quantizer *quantizer = named(ctx, "smoothquant+rtn3");
    qrb_observer *observers[PARAMETERS] = { NULL };
    qrb_dataset *dataset = NULL;
    qrb_pass *pass = NULL;

    ck_assert_uint_le(model->count, PARAMETERS);
    for (size_t i = 0; i < model->count; i++) {
        const qrb_parameter parameter = parameter_at(model, i);
        qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;

        if (!is_of(&parameter, layer, roles))
            continue;
        options.columns = qrb_tensor_extent(parameter.weight, 1);
        ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observers[i]));
    }
    ASSERT_OK(ctx, qrb_dataset_create(ctx, text, TEXT, &shape, &dataset));
    ASSERT_OK(ctx, qrb_pass_create(model, NULL, &pass));
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LINEAR_INPUT, observe,
                                   observers));
    ASSERT_OK(ctx, qrb_model_set_pass(model, pass));
    for (uint64_t i = 0; i < SAMPLES; i++) {
        qrb_metric_result unused = { .struct_size = sizeof unused };
        qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;

        ASSERT_OK(ctx, qrb_dataset_batch(dataset, i, &batch));
        ASSERT_OK(ctx, qrb_evaluate_text(model, NULL, batch.tokens,
                                         batch.length, NULL, &unused));
    }
    for (size_t i = 0; i < model->count; i++) {
        qrb_tensor weight = { .ctx = ctx };
        qrb_calibration calibration = QRB_CALIBRATION_INIT;

        if (observers[i] == NULL)
            continue;
        weight.view = model->parameters[i]->weight;
        calibration.inputs = observers[i];
        ASSERT_OK(ctx, qrb_quantizer_fake_with(quantizer, &weight,
                                               &calibration, NULL));
        qrb_observer_destroy(observers[i]);
    }
    qrb_pass_destroy(pass);
    qrb_dataset_destroy(dataset);
    qrb_quantizer_destroy(quantizer);
}

static void assert_same_weights(qrb_model *one, qrb_model *other)
{
    for (size_t i = 0; i < one->count; i++) {
        const qrb_parameter a = parameter_at(one, i);
        const qrb_parameter b = parameter_at(other, i);

        ck_assert_msg(memcmp(qrb_tensor_memory(a.weight),
                             qrb_tensor_memory(b.weight),
                             parameter_elements(a.weight) * sizeof(float)) == 0,
                      "%s", a.name);
    }
}

#define BIT(role) (UINT64_C(1) << (role))

/* True-sequential order. */
static const uint64_t stages[] = {
    BIT(QRB_ROLE_Q) | BIT(QRB_ROLE_K) | BIT(QRB_ROLE_V), BIT(QRB_ROLE_O),
    BIT(QRB_ROLE_GATE) | BIT(QRB_ROLE_UP), BIT(QRB_ROLE_DOWN)
};
enum { STAGES = sizeof stages / sizeof *stages };

START_TEST(each_block_sees_the_model_as_it_has_become_or_as_it_was)
{
    qrb_context *ctx = make_threads(1);
    qrb_model *propagated = make(ctx, (size_t)_i);
    qrb_model *apart = make(ctx, (size_t)_i);
    qrb_model *by_hand = make(ctx, (size_t)_i);
    uint64_t all = 0;

    quantize(ctx, propagated, QRB_ON, NULL);
    for (int32_t layer = 0; layer < 2; layer++)
        for (size_t s = 0; s < STAGES; s++)
            quantize_by_hand(ctx, by_hand, layer, stages[s]);
    assert_same_weights(propagated, by_hand);
    qrb_model_destroy(by_hand);

    by_hand = make(ctx, (size_t)_i);
    for (size_t s = 0; s < STAGES; s++)
        all |= stages[s];
    quantize(ctx, apart, QRB_OFF, NULL);
    quantize_by_hand(ctx, by_hand, -1, all);
    assert_same_weights(apart, by_hand);
    qrb_model_destroy(by_hand);
    qrb_model_destroy(apart);
    qrb_model_destroy(propagated);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_bits_do_not_depend_on_threads)
{
    qrb_context *one = make_threads(1);
    qrb_context *three = make_threads(3);
    qrb_model *a = make(one, 1);
    qrb_model *b = make(three, 1);

    quantize(one, a, QRB_ON, NULL);
    quantize(three, b, QRB_ON, NULL);
    assert_same_weights(a, b);
    qrb_model_destroy(a);
    qrb_model_destroy(b);
    qrb_context_destroy(one);
    qrb_context_destroy(three);
}
END_TEST

/* Sums of squared gradients of one parameter over the samples. */
static void add_squares(qrb_context *ctx, qrb_model *model, size_t parameter,
                        float *sums)
{
    const qrb_dataset_options shape = { sizeof shape, 1, CONTEXT };
    const qrb_parameter p = parameter_at(model, parameter);
    const float *gradient = qrb_tensor_memory(p.gradient);
    qrb_dataset *dataset = NULL;

    ASSERT_OK(ctx, qrb_dataset_create(ctx, text, TEXT, &shape, &dataset));
    for (uint64_t i = 0; i < SAMPLES; i++) {
        qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
        bool skipped;
        double loss;
        size_t scored;

        ASSERT_OK(ctx, qrb_dataset_batch(dataset, i, &batch));
        ASSERT_OK(ctx, qrb__model_zero_grad(model));
        ASSERT_OK(ctx, qrb__model_loss_and_grad(model, &batch, 1, &loss,
                                                &scored, &skipped));
        for (size_t j = 0; j < parameter_elements(p.weight); j++)
            sums[j] += gradient[j] * gradient[j];
    }
    qrb_dataset_destroy(dataset);
}

START_TEST(squared_gradients_are_those_of_the_model_as_it_was)
{
    enum { ELEMENTS = 4096 };
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make(ctx, 1);
    qrb_model *by_hand = make(ctx, 1);
    qrb_quantizer *quantizer = named(ctx, "squeezellm2");
    qrb_quantize_options options = QRB_QUANTIZE_OPTIONS_INIT;
    static float sums[PARAMETERS][ELEMENTS];
    struct heard heard = { 0 };

    options.samples = SAMPLES;
    options.context = CONTEXT;
    heard.model = model;
    options.done = hear;
    options.user = &heard;
    ASSERT_OK(ctx, qrb_quantize_model(model, quantizer, text, TEXT, &options));
    ck_assert_uint_eq(heard.count, MATRICES);
    for (size_t i = 0; i < by_hand->count; i++) {
        const qrb_parameter p = parameter_at(by_hand, i);

        memset(sums[i], 0, sizeof sums[i]);
        ck_assert_uint_le(parameter_elements(p.weight), ELEMENTS);
        if (is_of(&p, -1, ~UINT64_C(0)))
            add_squares(ctx, by_hand, i, sums[i]);
    }
    for (size_t i = 0; i < by_hand->count; i++) {
        const struct qrb__parameter *p = by_hand->parameters[i];
        qrb_calibration calibration = QRB_CALIBRATION_INIT;
        qrb_tensor weight = { .ctx = ctx, .view = p->weight };
        qrb_tensor fisher = { .ctx = ctx };

        if (!qrb__filter_selects(NULL, p))
            continue;
        fisher.view = qrb__view_make(QRB_F32, 2, p->weight.shape, sums[i]);
        calibration.fisher = &fisher;
        ASSERT_OK(ctx, qrb_quantizer_fake_with(quantizer, &weight,
                                               &calibration, NULL));
    }
    assert_same_weights(model, by_hand);
    qrb_quantizer_destroy(quantizer);
    qrb_model_destroy(by_hand);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_method_of_gradients_needs_a_trainable_model)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_quantize_options work = QRB_QUANTIZE_OPTIONS_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_quantizer *quantizer = named(ctx, "squeezellm3");
    qrb_model *model = NULL;

    fill_tokens(text, TEXT, config.vocab);
    options.trainable = 0;
    work.context = CONTEXT;
    ASSERT_OK(ctx, qrb_engine_create(ctx, &config, &options, &model));
    ASSERT_FAILS(ctx, qrb_quantize_model(model, quantizer, text, TEXT, &work),
                 QRB_E_UNSUPPORTED, "open the model as trainable");
    ASSERT_FAILS(ctx, qrb_quantize_model(model, quantizer, NULL, 0, &work),
                 QRB_E_INVALID_ARG, "squeezellm needs calibration");
    qrb_quantizer_destroy(quantizer);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

struct errors {
    size_t count;
    double sum;
    const char *kept; /* what a note said last; NULL: nothing */
};

static int add_error(const qrb_quantized_matrix *matrix, qrb_packed **packed,
                     void *user)
{
    struct errors *errors = user;

    (void)packed;
    errors->count++;
    errors->sum += matrix->report.relative_output_error;
    if (strstr(matrix->note, "kept RTN") != NULL)
        errors->kept = "kept";
    return 0;
}

static struct errors errors_of(qrb_context *ctx, qrb_model *model,
                               const char *name, uint32_t propagate)
{
    qrb_quantize_options options = QRB_QUANTIZE_OPTIONS_INIT;
    qrb_quantizer *quantizer = named(ctx, name);
    struct errors errors = { 0 };

    options.samples = SAMPLES;
    options.context = CONTEXT;
    options.propagate = propagate;
    options.done = add_error;
    options.user = &errors;
    ASSERT_OK(ctx, qrb_quantize_model(model, quantizer, text, TEXT, &options));
    qrb_quantizer_destroy(quantizer);
    return errors;
}

/* GPTQ propagates by itself, and makes up for what rounding costs. */
START_TEST(gptq_propagates_and_has_smaller_errors_than_rounding)
{
    qrb_context *ctx = make_threads(1);
    qrb_model *asked = make(ctx, 0);
    qrb_model *told = make(ctx, 0);
    qrb_model *rounded = make(ctx, 0);
    const double gptq =
        errors_of(ctx, asked, "gptq3", QRB_AS_THE_METHOD).sum;

    ck_assert_double_eq(errors_of(ctx, told, "gptq3", QRB_ON).sum, gptq);
    assert_same_weights(asked, told);
    ck_assert_double_lt(gptq,
                        0.9 * errors_of(ctx, rounded, "rtn3", QRB_ON).sum);
    qrb_model_destroy(asked);
    qrb_model_destroy(told);
    qrb_model_destroy(rounded);
    qrb_context_destroy(ctx);
}
END_TEST

/* Without an embedding every input is zero. */
START_TEST(a_layer_that_keeps_rounding_says_so)
{
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make(ctx, 0);
    qrb_model *rounded = make(ctx, 0);
    const qrb_parameter embedding = parameter_at(model, 0);
    const qrb_parameter other = parameter_at(rounded, 0);

    ck_assert_uint_eq(embedding.role, QRB_ROLE_EMBED);
    memset(qrb_tensor_memory(embedding.weight), 0,
           parameter_elements(embedding.weight) * sizeof(float));
    memset(qrb_tensor_memory(other.weight), 0,
           parameter_elements(other.weight) * sizeof(float));
    ck_assert_ptr_nonnull(
        errors_of(ctx, model, "gptq4", QRB_AS_THE_METHOD).kept);
    ck_assert_ptr_null(
        errors_of(ctx, rounded, "rtn4", QRB_AS_THE_METHOD).kept);
    assert_same_weights(model, rounded);
    qrb_model_destroy(model);
    qrb_model_destroy(rounded);
    qrb_context_destroy(ctx);
}
END_TEST

static int stop_after(void *user)
{
    size_t *left = user;

    return *left > 0 && --*left == 0;
}

/* Asked at every sample and matrix; stopping at any of them undoes all. */
START_TEST(a_cancelled_call_leaves_the_weights_as_they_were)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    size_t left = 0;
    qrb_context *ctx = NULL;
    qrb_model *model;
    qrb_model *untouched;
    qrb_quantizer *quantizer;
    qrb_quantize_options work = QRB_QUANTIZE_OPTIONS_INIT;

    options.cancel = stop_after;
    options.cancel_user = &left;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    model = make(ctx, 0);
    untouched = make(ctx, 0);
    quantizer = named(ctx, "smoothquant+rtn3");
    work.samples = SAMPLES;
    work.context = CONTEXT;
    for (size_t n = 1; n <= 2 * SAMPLES + MATRICES; n++) {
        left = n;
        ck_assert_int_eq(
            qrb_quantize_model(model, quantizer, text, TEXT, &work),
            QRB_E_CANCELLED);
        assert_same_weights(model, untouched);
    }
    qrb_quantizer_destroy(quantizer);
    qrb_model_destroy(untouched);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine quantize");
    TCase *cases = tcase_create("quantize");

    tcase_add_test(cases,
                   blocks_ascend_where_errors_propagate_and_descend_where_not);
    tcase_add_loop_test(cases,
                        each_block_sees_the_model_as_it_has_become_or_as_it_was,
                        0, VARIANTS);
    tcase_add_test(cases, the_bits_do_not_depend_on_threads);
    tcase_add_test(cases,
                   gptq_propagates_and_has_smaller_errors_than_rounding);
    tcase_add_test(cases, a_layer_that_keeps_rounding_says_so);
    tcase_add_test(cases, squared_gradients_are_those_of_the_model_as_it_was);
    tcase_add_test(cases, a_method_of_gradients_needs_a_trainable_model);
    tcase_add_test(cases, a_cancelled_call_leaves_the_weights_as_they_were);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
