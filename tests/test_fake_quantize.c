/* Fake quantization of the weights of a whole model. */
#include "recipe_host.h"

START_TEST(fake_quantization_is_that_of_each_matrix_in_blocks)
{
    qrb_quantizer *quantizer = named("rtn3");
    struct mock_host *twin = NULL;
    qrb_tensor *fc1;
    qrb_tensor *fc2;
    float expected[MAX_WEIGHTS];

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_TOKEN_BATCHES, 1, NULL, &twin));
    fc1 = matrix(twin->weights[MOCK_FC1], MOCK_HIDDEN, MOCK_DIM);
    fc2 = matrix(twin->weights[MOCK_FC2], MOCK_DIM, MOCK_HIDDEN);
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, fc1));
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, fc2));
    mock_copy_weights(twin, expected);
    ASSERT_OK(ctx, qrb_fake_quantize(host->model, quantizer, NULL));
    ck_assert(mock_weights_equal(host, expected));
    ck_assert(!mock_weights_equal(host, before));
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN], 2);
    qrb_tensor_destroy(fc1);
    qrb_tensor_destroy(fc2);
    mock_host_destroy(twin);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(failed_quantization_changes_no_weight_and_names_the_tensor)
{
    qrb_quantizer *quantizer = named("rtn4");
    const qrb_filter all = { sizeof all, QRB_FILTER_ALL, NULL };

    host->weights[MOCK_FC2][5] = NAN;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, NULL),
                 QRB_E_NOT_FINITE, "fc2");
    ck_assert(mock_weights_equal(host, before));
    host->weights[MOCK_FC2][5] = 0.5f;
    mock_copy_weights(host, before);
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, &all),
                 QRB_E_SHAPE, "bias: found [12]");
    ck_assert(mock_weights_equal(host, before));
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, NULL, NULL),
                 QRB_E_INVALID_ARG, "NULL");
    ck_assert_int_eq(qrb_fake_quantize(NULL, quantizer, NULL),
                     QRB_E_INVALID_ARG);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

START_TEST(perturbed_weights_are_not_quantized)
{
    const qrb_attack_options options = { sizeof options, 0.1, 0, 0, 0 };
    qrb_quantizer *quantizer = named("int8");
    qrb_noise *attack = NULL;

    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    ASSERT_OK(ctx, qrb_noise_bind(attack, host->model, NULL));
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    ASSERT_FAILS(ctx, qrb_fake_quantize(host->model, quantizer, NULL),
                 QRB_E_STATE, "perturbed");
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    ck_assert(mock_weights_equal(host, before));
    qrb_noise_destroy(attack);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

/* Scales belong to outputs: columns of what is stored [in, out], filters of a
 * convolution. */
START_TEST(outputs_are_quantized_as_rows_however_they_are_stored)
{
    const size_t in_out[2] = { 6, 4 };
    const size_t filters[4] = { 4, 3, 2, 1 };
    qrb_quantizer *quantizer = named("rtn4");
    float rows[24];
    float transposed[24];
    float convolution[24];
    qrb_tensor *tensor = matrix(rows, 4, 6);
    qrb_model *model;

    for (size_t r = 0; r < 4; r++)
        for (size_t c = 0; c < 6; c++) {
            const float w = (float)(r + 1) * sinf((float)(7 * r + 3 * c));

            rows[r * 6 + c] = convolution[r * 6 + c] = w;
            transposed[c * 4 + r] = w;
        }
    ASSERT_OK(ctx, qrb_quantizer_fake(quantizer, tensor));
    model = one_parameter(transposed, 2, in_out, QRB_PARAM_TRANSPOSED);
    ASSERT_OK(ctx, qrb_fake_quantize(model, quantizer, NULL));
    qrb_model_destroy(model);
    model = one_parameter(convolution, 4, filters, 0);
    ASSERT_OK(ctx, qrb_fake_quantize(model, quantizer, NULL));
    qrb_model_destroy(model);
    ck_assert_mem_eq(convolution, rows, sizeof rows);
    for (size_t r = 0; r < 4; r++)
        for (size_t c = 0; c < 6; c++)
            ck_assert_float_eq(transposed[c * 4 + r], rows[r * 6 + c]);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fake_quantize");
    TCase *quantize = tcase_create("quantize");

    tcase_add_checked_fixture(quantize, set_up, tear_down);
    tcase_add_test(quantize,
                   fake_quantization_is_that_of_each_matrix_in_blocks);
    tcase_add_test(quantize,
                   failed_quantization_changes_no_weight_and_names_the_tensor);
    tcase_add_test(quantize, perturbed_weights_are_not_quantized);
    tcase_add_test(quantize,
                   outputs_are_quantized_as_rows_however_they_are_stored);
    suite_add_tcase(suite, quantize);
    return run_suite(suite);
}
