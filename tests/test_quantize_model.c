/* Quantization of a whole model: what its matrices see, and in which order. */
#include <math.h>

#include "recipe_host.h"

enum { SAMPLES = 5, CONTEXT = 24, TOLD = 32 };

/* What the driver said, in its order. */
struct told {
    size_t count;
    size_t stop_at; /* 1: at the first; 0: never */
    size_t keep;    /* number of the parameter whose codes are kept */
    qrb_packed *kept;
    size_t parameters[TOLD];
    char notes[TOLD][64];
    qrb_quantized_matrix matrices[TOLD]; /* without their strings */
};

static int listen(const qrb_quantized_matrix *matrix, qrb_packed **packed,
                  void *user)
{
    struct told *told = user;

    ck_assert_uint_lt(told->count, TOLD);
    ck_assert_ptr_nonnull(*packed);
    told->parameters[told->count] = matrix->parameter;
    told->matrices[told->count] = *matrix;
    snprintf(told->notes[told->count], sizeof told->notes[0], "%s",
             matrix->note);
    told->count++;
    ck_assert_uint_eq(matrix->done, told->count);
    if (told->keep != 0 && matrix->parameter == told->keep) {
        told->kept = *packed;
        *packed = NULL;
    }
    return told->count == told->stop_at ? 7 : 0;
}

static qrb_quantize_options options_for(struct told *told)
{
    qrb_quantize_options options = QRB_QUANTIZE_OPTIONS_INIT;

    options.samples = SAMPLES;
    options.context = CONTEXT;
    if (told != NULL) {
        options.done = listen;
        options.user = told;
    }
    return options;
}

static qrb_status quantize(const char *name,
                           const qrb_quantize_options *options)
{
    qrb_quantizer *quantizer = named(name);
    const qrb_status status =
        qrb_quantize_model(host->model, quantizer, text, TEXT, options);

    qrb_quantizer_destroy(quantizer);
    return status;
}

static int observe(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    qrb_observer **observers = user;
    qrb_status status = QRB_OK;

    (void)point;
    if (observers[index] != NULL)
        status = qrb_observer_add(observers[index], tensor);
    return status == QRB_OK ? 0 : QRB_CALLBACK_STATUS(status);
}

/* Inputs of one matrix of a host over the samples, by public means: every
 * token of a sequence but the last is seen. */
static qrb_observer *inputs_by_hand(struct mock_host *of, size_t parameter,
                                    size_t columns)
{
    const qrb_dataset_options shape = { sizeof shape, 1, CONTEXT };
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_observer *observers[MOCK_PARAMETERS] = { NULL };
    qrb_dataset *dataset = NULL;
    qrb_pass *pass = NULL;

    options.columns = columns;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observers[parameter]));
    ASSERT_OK(ctx, qrb_dataset_create(ctx, text, TEXT, &shape, &dataset));
    ASSERT_OK(ctx, qrb_pass_create(of->model, NULL, &pass));
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LINEAR_INPUT, observe,
                                   observers));
    ASSERT_OK(ctx, qrb_model_set_pass(of->model, pass));
    for (uint64_t i = 0; i < SAMPLES; i++) {
        qrb_token_batch batch = QRB_TOKEN_BATCH_INIT;
        qrb_metric_result unused = { .struct_size = sizeof unused };

        ASSERT_OK(ctx, qrb_dataset_batch(dataset, i, &batch));
        ASSERT_OK(ctx, qrb_evaluate_text(of->model, NULL, batch.tokens,
                                         batch.length, NULL, &unused));
    }
    qrb_pass_destroy(pass);
    qrb_dataset_destroy(dataset);
    return observers[parameter];
}

/* One matrix of a host, by what it sees now. */
static void quantize_by_hand(const qrb_quantizer *quantizer,
                             struct mock_host *of, size_t parameter,
                             const qrb_observer *inputs,
                             qrb_quantize_report *report)
{
    const size_t rows = parameter == MOCK_FC1 ? MOCK_HIDDEN : MOCK_DIM;
    const size_t cols = parameter == MOCK_FC1 ? MOCK_DIM : MOCK_HIDDEN;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_tensor *w = matrix(of->weights[parameter], rows, cols);

    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_fake_with(quantizer, w, &calibration, report));
    qrb_tensor_destroy(w);
}

static struct mock_host *make_twin(void)
{
    struct mock_host *twin = NULL;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &twin));
    return twin;
}

static void assert_equals_twin(struct mock_host *twin)
{
    float expected[MAX_WEIGHTS];

    mock_copy_weights(twin, expected);
    ck_assert(mock_weights_equal(host, expected));
    ck_assert(!mock_weights_equal(host, before));
    mock_host_destroy(twin);
}

static const char *const plain[] = { "rtn2", "rtn4", "rtn4g4", "rtn8",
                                     "int8", "nf4" };

START_TEST(methods_without_calibration_give_the_bits_of_fake_quantization)
{
    qrb_quantizer *quantizer = named(plain[_i]);
    struct mock_host *twin = make_twin();
    struct told told = { 0 };
    const qrb_quantize_options options = options_for(&told);

    ASSERT_OK(ctx, qrb_fake_quantize(twin->model, quantizer, NULL));
    ASSERT_OK(ctx, qrb_quantize_model(host->model, quantizer, NULL, 0,
                                      &options));
    assert_equals_twin(twin);
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN], 2);
    ck_assert_uint_eq(told.count, 2);
    ck_assert_uint_eq(told.matrices[0].samples, 0);
    ck_assert(isnan(told.matrices[0].report.relative_output_error));
    ck_assert_double_gt(told.matrices[0].report.relative_weight_error, 0);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(statistics_are_those_of_the_model_as_it_was)
{
    qrb_quantizer *quantizer = named("smoothquant+rtn3");
    struct mock_host *twin = make_twin();
    qrb_observer *first = inputs_by_hand(twin, MOCK_FC1, MOCK_DIM);
    qrb_observer *second = inputs_by_hand(twin, MOCK_FC2, MOCK_HIDDEN);
    qrb_quantize_report reports[2] = { QRB_QUANTIZE_REPORT_INIT,
                                       QRB_QUANTIZE_REPORT_INIT };
    struct told told = { 0 };
    const qrb_quantize_options options = options_for(&told);

    quantize_by_hand(quantizer, twin, MOCK_FC1, first, &reports[0]);
    quantize_by_hand(quantizer, twin, MOCK_FC2, second, &reports[1]);
    ASSERT_OK(ctx, quantize("smoothquant+rtn3", &options));
    assert_equals_twin(twin);
    for (size_t i = 0; i < 2; i++) {
        const qrb_quantize_report *r = &told.matrices[i].report;

        ck_assert_uint_eq(told.parameters[i], i == 0 ? MOCK_FC1 : MOCK_FC2);
        ck_assert_uint_eq(told.matrices[i].tokens, SAMPLES * CONTEXT);
        ck_assert_double_eq(r->relative_output_error,
                            reports[i].relative_output_error);
        ck_assert_double_eq(r->bits_per_weight, reports[i].bits_per_weight);
    }
    qrb_observer_destroy(first);
    qrb_observer_destroy(second);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

/* fc2 sees what a quantized fc1 makes of the text. */
START_TEST(sequential_steps_see_what_the_steps_before_have_become)
{
    qrb_quantizer *quantizer = named("smoothquant+rtn2");
    struct mock_host *twin = make_twin();
    struct mock_host *blockwise = make_twin();
    qrb_quantize_options options = options_for(NULL);
    qrb_observer *inputs = inputs_by_hand(twin, MOCK_FC1, MOCK_DIM);
    float whole_block[MAX_WEIGHTS];

    quantize_by_hand(quantizer, twin, MOCK_FC1, inputs, NULL);
    qrb_observer_destroy(inputs);
    inputs = inputs_by_hand(twin, MOCK_FC2, MOCK_HIDDEN);
    quantize_by_hand(quantizer, twin, MOCK_FC2, inputs, NULL);
    qrb_observer_destroy(inputs);
    options.propagate = QRB_ON;
    ASSERT_OK(ctx, quantize("smoothquant+rtn2", &options));
    options.sequential = QRB_OFF;
    ASSERT_OK(ctx, qrb_quantize_model(blockwise->model, quantizer, text, TEXT,
                                      &options));
    mock_copy_weights(blockwise, whole_block);
    ck_assert(!mock_weights_equal(host, whole_block));
    mock_host_destroy(blockwise);
    assert_equals_twin(twin);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(kept_codes_are_those_behind_the_weights)
{
    struct told told = { .keep = MOCK_FC2 };
    const qrb_quantize_options options = options_for(&told);
    float values[MOCK_DIM * MOCK_HIDDEN];
    qrb_tensor *out = matrix(values, MOCK_DIM, MOCK_HIDDEN);

    ASSERT_OK(ctx, quantize("smoothquant4", &options));
    ASSERT_OK(ctx, qrb_packed_dequantize(told.kept, out));
    ck_assert_mem_eq(values, host->weights[MOCK_FC2], sizeof values);
    ck_assert_double_eq(qrb_packed_bits_per_weight(told.kept),
                        told.matrices[1].report.bits_per_weight);
    qrb_packed_destroy(told.kept);
    qrb_tensor_destroy(out);
}
END_TEST

START_TEST(groups_that_do_not_fit_follow_the_rules_and_say_so)
{
    struct told told = { 0 };
    qrb_quantize_options options = options_for(&told);

    /* Rows of 8 and of 12. */
    ASSERT_OK(ctx, quantize("rtn4g8", &options));
    ck_assert_str_eq(told.notes[0], "");
    ck_assert_uint_eq(told.matrices[0].group_size, 8);
    ck_assert_str_eq(told.notes[1], "last group of a row has 4 columns");
    told.count = 0;
    ASSERT_OK(ctx, quantize("smoothquant+rtn4g10", &options));
    ck_assert_str_eq(told.notes[0], "rows of 8 are one group");
    ck_assert_uint_eq(told.matrices[0].group_size, 0);
    ck_assert_uint_eq(told.matrices[1].group_size, 10);
    told.count = 0;
    ASSERT_OK(ctx, quantize("nf4", &options));
    ck_assert_str_eq(told.notes[0], "");
}
END_TEST

START_TEST(a_call_that_fails_puts_all_weights_back)
{
    struct told told = { .stop_at = 2 };
    qrb_quantize_options options = options_for(&told);

    ASSERT_FAILS(ctx, quantize("rtn3", &options), QRB_E_CALLBACK, "done");
    ck_assert_int_eq(qrb_context_callback_code(ctx), 7);
    ck_assert(mock_weights_equal(host, before));
    /* The host heard of each change, there and back. */
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN], 4);
}
END_TEST

START_TEST(without_undo_finished_matrices_stay_and_a_later_call_goes_on)
{
    struct told told = { .stop_at = 1 };
    qrb_quantize_options options = options_for(&told);
    struct mock_host *twin = make_twin();
    qrb_quantizer *quantizer = named("smoothquant+rtn3");
    qrb_quantize_options whole = options_for(NULL);

    whole.propagate = options.propagate = QRB_ON;
    ASSERT_OK(ctx, qrb_quantize_model(twin->model, quantizer, text, TEXT,
                                      &whole));
    options.undo = 0;
    ASSERT_FAILS(ctx, quantize("smoothquant+rtn3", &options), QRB_E_CALLBACK,
                 "done");
    ck_assert_mem_eq(host->weights[MOCK_FC1], twin->weights[MOCK_FC1],
                     host->elements[MOCK_FC1] * sizeof(float));
    ck_assert_mem_ne(host->weights[MOCK_FC2], twin->weights[MOCK_FC2],
                     host->elements[MOCK_FC2] * sizeof(float));
    told.stop_at = 0;
    options.finished = 1;
    ASSERT_OK(ctx, quantize("smoothquant+rtn3", &options));
    assert_equals_twin(twin);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

/* Every call of a callback fails once. */
START_TEST(a_host_that_stops_finds_its_weights_as_they_were)
{
    const qrb_quantize_options options = options_for(NULL);

    host->fail_code = -5;
    for (size_t n = 1;; n++) {
        qrb_status status;

        host->calls = 0;
        host->fail_at = n;
        status = quantize("smoothquant+rtn3", &options);
        if (host->calls < n)
            break;
        ck_assert_int_eq(status, QRB_E_CALLBACK);
        ck_assert_int_eq(qrb_context_callback_code(ctx), -5);
        ck_assert(mock_weights_equal(host, before));
        ck_assert_ptr_null(qrb_model_pass(host->model));
    }
    ck_assert(!mock_weights_equal(host, before));
}
END_TEST

static qrb_status options_status(void (*change)(qrb_quantize_options *))
{
    qrb_quantize_options options = options_for(NULL);

    change(&options);
    return quantize("rtn4", &options);
}

static void no_samples(qrb_quantize_options *o)
{
    o->samples = 0;
}

static void no_context(qrb_quantize_options *o)
{
    o->context = 0;
}

static void unknown_choice(qrb_quantize_options *o)
{
    o->propagate = 3;
}

static void bad_undo(qrb_quantize_options *o)
{
    o->undo = 2;
}

static void sequence_without_errors(qrb_quantize_options *o)
{
    o->propagate = QRB_OFF;
    o->sequential = QRB_ON;
}

static void too_many_finished(qrb_quantize_options *o)
{
    o->finished = 3;
}

START_TEST(options_out_of_their_range_are_refused_by_name)
{
    ASSERT_FAILS(ctx, options_status(no_samples), QRB_E_INVALID_ARG,
                 "samples is 0");
    ASSERT_FAILS(ctx, options_status(no_context), QRB_E_INVALID_ARG,
                 "context 0");
    ASSERT_FAILS(ctx, options_status(unknown_choice), QRB_E_INVALID_ARG,
                 "propagate is 3");
    ASSERT_FAILS(ctx, options_status(bad_undo), QRB_E_INVALID_ARG, "undo 2");
    ASSERT_FAILS(ctx, options_status(sequence_without_errors),
                 QRB_E_INVALID_ARG, "sequential");
    ASSERT_FAILS(ctx, options_status(too_many_finished), QRB_E_INVALID_ARG,
                 "finished is 3 of 2");
    ASSERT_FAILS(ctx, qrb_quantize_model(host->model, NULL, NULL, 0, NULL),
                 QRB_E_INVALID_ARG, "NULL");
    ck_assert_int_eq(qrb_quantize_model(NULL, NULL, NULL, 0, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, quantize("fp16", NULL), QRB_E_UNSUPPORTED, "no codes");
    ck_assert(mock_weights_equal(host, before));
}
END_TEST

START_TEST(what_cannot_be_calibrated_is_named_and_changes_nothing)
{
    qrb_quantizer *smooth = named("smoothquant+rtn4");
    qrb_quantize_options options = options_for(NULL);
    const qrb_filter head = { sizeof head, 1u << QRB_ROLE_HEAD, NULL };
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };
    int32_t beyond[100] = { [60] = MOCK_VOCAB };

    ASSERT_FAILS(ctx,
                 qrb_quantize_model(host->model, smooth, text, CONTEXT,
                                    &options),
                 QRB_E_SHAPE, "the text has 24 tokens");
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(host->model, smooth, beyond, 100, &options),
                 QRB_E_INVALID_ARG, "token 60 is 16");
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(host->model, smooth, NULL, 0, &options),
                 QRB_E_INVALID_ARG, "smoothquant+rtn needs calibration");
    options.filter = &head; /* at which this host does not tap */
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(host->model, smooth, text, TEXT, &options),
                 QRB_E_UNSUPPORTED, "head: no calibration sample");
    options.filter = &all;
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(host->model, smooth, text, TEXT, &options),
                 QRB_E_SHAPE, "bias: found [12]");
    ck_assert(mock_weights_equal(host, before));
    qrb_quantizer_destroy(smooth);
}
END_TEST

START_TEST(what_is_not_finite_is_named_before_a_weight_changes)
{
    struct told told = { 0 };
    const qrb_quantize_options options = options_for(&told);

    host->weights[MOCK_FC2][5] = NAN;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, quantize("rtn4", &options), QRB_E_NOT_FINITE,
                 "block.0.fc2: w[0, 5]");
    host->weights[MOCK_FC2][5] = 0.5f;
    for (size_t i = 0; i < host->elements[MOCK_EMBED]; i++)
        host->weights[MOCK_EMBED][i] = INFINITY;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, quantize("smoothquant+rtn4", &options), QRB_E_NOT_FINITE,
                 "input of block.0.fc1, calibration sample 0");
    ck_assert(mock_weights_equal(host, before));
    ck_assert_uint_eq(told.count, 0);
}
END_TEST

static void keep_loss_alone(qrb_host_callbacks *callbacks)
{
    callbacks->logits = NULL;
    callbacks->token_nll = NULL;
}

static void keep_no_forward(qrb_host_callbacks *callbacks)
{
    keep_loss_alone(callbacks);
    callbacks->loss = NULL;
    callbacks->loss_and_grad = NULL;
}

START_TEST(any_forward_of_a_host_serves)
{
    qrb_quantizer *quantizer = named("smoothquant+rtn3");
    struct mock_host *by_loss = adjusted(keep_loss_alone);
    struct mock_host *none = adjusted(keep_no_forward);
    const qrb_quantize_options options = options_for(NULL);
    float expected[MAX_WEIGHTS];

    ASSERT_OK(ctx, qrb_quantize_model(host->model, quantizer, text, TEXT,
                                      &options));
    mock_copy_weights(host, expected);
    ASSERT_OK(ctx, qrb_quantize_model(by_loss->model, quantizer, text, TEXT,
                                      &options));
    ck_assert(mock_weights_equal(by_loss, expected));
    ck_assert_uint_eq(by_loss->counts[MOCK_LOSS], SAMPLES);
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(none->model, quantizer, text, TEXT,
                                    &options),
                 QRB_E_UNSUPPORTED, "none of the callbacks");
    mock_host_destroy(by_loss);
    mock_host_destroy(none);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(the_batches_of_a_host_serve_as_well)
{
    qrb_quantizer *quantizer = named("smoothquant+rtn3");
    struct mock_host *own = NULL;
    struct told told = { 0 };
    qrb_quantize_options options = options_for(&told);

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &own));
    ASSERT_OK(ctx, qrb_quantize_model(own->model, quantizer, NULL, 0,
                                      &options));
    ck_assert_uint_eq(own->batches, 0);
    /* 20 + i % 13 rows in batch i. */
    ck_assert_uint_eq(told.matrices[0].tokens, 5 * 20 + 0 + 1 + 2 + 3 + 4);
    ASSERT_FAILS(ctx,
                 qrb_quantize_model(own->model, quantizer, text, TEXT,
                                    &options),
                 QRB_E_UNSUPPORTED, "token batches");
    /* More samples than there are: all of them. */
    told.count = 0;
    options.samples = 1000;
    ASSERT_OK(ctx, qrb_quantize_model(own->model, quantizer, NULL, 0,
                                      &options));
    ck_assert_uint_gt(told.matrices[0].tokens, MOCK_BATCHES * 20);
    mock_host_destroy(own);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

static const char *const needy[] = { "smoothquant+rtn3g10", "squeezellm2" };
static const char *method; /* of needy */

static qrb_status quantize_once(qrb_context *in, void *arg)
{
    const qrb_quantize_options *options = arg;
    struct mock_host *made = NULL;
    qrb_quantizer *quantizer = NULL;
    qrb_status status =
        mock_host_create(in, MOCK_TOKEN_BATCHES, 1, NULL, &made);

    if (status == QRB_OK)
        status = qrb_quantizer_create_named(in, method, &quantizer);
    if (status == QRB_OK) {
        float kept[MAX_WEIGHTS];

        mock_copy_weights(made, kept);
        status = qrb_quantize_model(made->model, quantizer, text, TEXT,
                                    options);
        if (status != QRB_OK)
            ck_assert(mock_weights_equal(made, kept));
    }
    qrb_quantizer_destroy(quantizer);
    mock_host_destroy(made);
    return status;
}

static int hear_nothing(const qrb_quantized_matrix *matrix, qrb_packed **packed,
                        void *user)
{
    (void)matrix;
    (void)packed;
    (void)user;
    return 0;
}

START_TEST(every_failed_allocation_is_reported_and_undone)
{
    qrb_quantize_options options = options_for(NULL);

    method = needy[_i];
    options.done = hear_nothing;
    options.samples = 2;
    fail_each_allocation(quantize_once, &options);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantize_model");
    TCase *cases = tcase_create("model");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_add_loop_test(
        cases, methods_without_calibration_give_the_bits_of_fake_quantization,
        0, (int)(sizeof plain / sizeof *plain));
    tcase_add_test(cases, statistics_are_those_of_the_model_as_it_was);
    tcase_add_test(cases,
                   sequential_steps_see_what_the_steps_before_have_become);
    tcase_add_test(cases, kept_codes_are_those_behind_the_weights);
    tcase_add_test(cases, groups_that_do_not_fit_follow_the_rules_and_say_so);
    tcase_add_test(cases, a_call_that_fails_puts_all_weights_back);
    tcase_add_test(
        cases, without_undo_finished_matrices_stay_and_a_later_call_goes_on);
    tcase_add_test(cases, a_host_that_stops_finds_its_weights_as_they_were);
    tcase_add_test(cases, options_out_of_their_range_are_refused_by_name);
    tcase_add_test(cases, what_cannot_be_calibrated_is_named_and_changes_nothing);
    tcase_add_test(cases, what_is_not_finite_is_named_before_a_weight_changes);
    tcase_add_test(cases, any_forward_of_a_host_serves);
    tcase_add_test(cases, the_batches_of_a_host_serve_as_well);
    tcase_add_loop_test(cases, every_failed_allocation_is_reported_and_undone,
                        0, (int)(sizeof needy / sizeof *needy));
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
