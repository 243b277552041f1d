/* Gradients of the engine against central differences in float64. */
#include "engine_model.h"

enum { CHECKED = 8 }; /* elements of a parameter at most */

/* Differences of step h are off by h^2 f'''/6 and eps f / h: about 1e-9 here,
 * as losses and weights are near 1. */
static const double step = 1e-5;
static const double tolerance = 2e-8;

static void check_gradients(qrb_model *model, const struct test_batch *batch,
                            const char *name)
{
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        const qrb_parameter parameter = parameter_at(model, p);
        const size_t count = parameter_elements(parameter.weight);
        const size_t stride = count / CHECKED + 1;
        double largest = 0;

        for (size_t i = p % stride; i < count; i += stride) {
            const double gradient = get_element(parameter.gradient, i);
            const double w = get_element(parameter.weight, i);
            double up;
            double down;

            set_element(parameter.weight, i, w + step);
            up = loss_of(model, batch);
            set_element(parameter.weight, i, w - step);
            down = loss_of(model, batch);
            set_element(parameter.weight, i, w);
            ck_assert_msg(
                fabs((up - down) / (2 * step) - gradient) < tolerance,
                "%s: %s[%zu]: difference %.12g, gradient %.12g", name,
                parameter.name, i, (up - down) / (2 * step), gradient);
            largest = fmax(largest, fabs(gradient));
        }
        ck_assert_msg(largest > 1e-5, "%s: gradients of %s are all zero", name,
                      parameter.name);
    }
}

START_TEST(gradients_are_those_of_differences)
{
    const struct variant *variant = &variants[_i];
    const qrb_engine_config config = config_of(variant);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    struct test_batch batch;
    double loss;

    fill_batch(&batch, 3, 70, config.vocab);
    ck_assert_int_eq(qrb__model_zero_grad(model), QRB_OK);
    loss = loss_and_gradients(model, &batch, 1.0);
    ck_assert_double_eq_tol(loss, loss_of(model, &batch), 1e-12);
    check_gradients(model, &batch, variant->name);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* The contract adds weight * d(mean loss) to what is there. */
START_TEST(gradients_are_added_with_their_weight)
{
    const qrb_engine_config config = config_of(&variants[4]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    struct test_batch batch;

    fill_batch(&batch, 2, 20, config.vocab);
    ck_assert_int_eq(qrb__model_zero_grad(model), QRB_OK);
    loss_and_gradients(model, &batch, 1.0);
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        const qrb_parameter parameter = parameter_at(model, p);
        const double once = get_element(parameter.gradient, 0);

        loss_and_gradients(model, &batch, -3.0);
        ck_assert_double_eq_tol(get_element(parameter.gradient, 0),
                                -2.0 * once, 1e-12);
        loss_and_gradients(model, &batch, 3.0);
    }
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_gradient");
    TCase *cases = tcase_create("gradients");

    tcase_set_timeout(cases, 100);
    tcase_add_loop_test(cases, gradients_are_those_of_differences, 0, VARIANTS);
    tcase_add_test(cases, gradients_are_added_with_their_weight);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
