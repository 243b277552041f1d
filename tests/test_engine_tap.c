/* The engine as a host that taps: where, in which shapes, and what changes in
 * place do to the result and to gradients. */
#include "engine_model.h"

#include <qrobust/pass.h>

static const uint32_t points[] = { QRB_TAP_LAYER_INPUT, QRB_TAP_LINEAR_INPUT,
                                   QRB_TAP_LINEAR_OUTPUT, QRB_TAP_ATTN_LOGITS,
                                   QRB_TAP_ATTN_PROBS };
enum { POINTS = sizeof points / sizeof *points };

static size_t elements_of(const qrb_tensor *tensor)
{
    size_t count = 1;

    for (uint32_t i = 0; i < qrb_tensor_rank(tensor); i++)
        count *= qrb_tensor_extent(tensor, i);
    return count;
}

static bool is_attention(uint32_t point)
{
    point &= ~(uint32_t)QRB_TAP_GRAD;
    return point == QRB_TAP_ATTN_LOGITS || point == QRB_TAP_ATTN_PROBS;
}

/* Entries behind the mask are no part of the contract. */
static bool is_masked(uint32_t point, const qrb_tensor *tensor, size_t i)
{
    size_t length;

    if (!is_attention(point))
        return false;
    length = qrb_tensor_extent(tensor, 3);
    return i % length > i / length % length;
}

static qrb_pass *begin_pass(qrb_model *model)
{
    qrb_pass *pass = NULL;

    ASSERT_OK(model->ctx, qrb_pass_create(model, NULL, &pass));
    ASSERT_OK(model->ctx, qrb_model_set_pass(model, pass));
    ASSERT_OK(model->ctx, qrb_step_begin(pass, 1, 0, 0));
    return pass;
}

/* What a listener heard. */
struct heard {
    uint32_t point;
    size_t index;
    size_t shape[4];
    uint32_t rank;
};

struct log {
    struct heard heard[256];
    size_t count;
};

static int note(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    struct log *log = user;
    struct heard *heard = &log->heard[log->count++];

    ck_assert_uint_le(log->count, 256);
    heard->point = point;
    heard->index = index;
    heard->rank = qrb_tensor_rank(tensor);
    for (uint32_t i = 0; i < heard->rank; i++) {
        heard->shape[i] = qrb_tensor_extent(tensor, i);
        ck_assert_int_eq(qrb_tensor_stride(tensor, heard->rank - 1),
                         (int64_t)qrb_dtype_size(qrb_tensor_dtype(tensor)));
    }
    return 0;
}

static size_t count_heard(const struct log *log, uint32_t point, size_t index)
{
    size_t count = 0;

    for (size_t i = 0; i < log->count; i++)
        count += log->heard[i].point == point && log->heard[i].index == index;
    return count;
}

static void check_heard(const struct log *log, const qrb_model *model,
                        const struct test_batch *batch, uint32_t gradient)
{
    const size_t tokens =
        batch->batch.sequences * (batch->batch.length - 1);
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;

    ck_assert_int_eq(qrb_engine_get_config(model, &config), QRB_OK);
    for (size_t i = 0; i < log->count; i++) {
        const struct heard *heard = &log->heard[i];
        const uint32_t point = heard->point & ~(uint32_t)QRB_TAP_GRAD;
        const qrb_parameter parameter =
            parameter_at(model, is_attention(point) ||
                                        point == QRB_TAP_LAYER_INPUT
                                    ? 0
                                    : heard->index);
        const bool head = parameter.layer < 0;
        const bool output = point == QRB_TAP_LINEAR_OUTPUT;

        if (is_attention(point)) {
            ck_assert_uint_eq(heard->rank, 4);
            ck_assert_uint_eq(heard->shape[0], batch->batch.sequences);
            ck_assert_uint_eq(heard->shape[1], config.heads);
            ck_assert_uint_eq(heard->shape[2], batch->batch.length - 1);
            ck_assert_uint_eq(heard->shape[3], batch->batch.length - 1);
        } else if (point == QRB_TAP_LAYER_INPUT) {
            ck_assert_uint_eq(heard->shape[0], tokens);
            ck_assert_uint_eq(heard->shape[1], config.dim);
        } else {
            ck_assert_uint_eq(
                heard->shape[0],
                head ? qrb__token_batch_rows(model->ctx, &batch->batch)
                     : tokens);
            ck_assert_uint_eq(
                heard->shape[1],
                qrb_tensor_extent(parameter.weight, output ? 0 : 1));
        }
    }
    for (size_t i = 0; i < config.layers; i++) {
        ck_assert_uint_eq(
            count_heard(log, QRB_TAP_LAYER_INPUT | gradient, i), 1);
        ck_assert_uint_eq(
            count_heard(log, QRB_TAP_ATTN_LOGITS | gradient, i), 1);
        ck_assert_uint_eq(count_heard(log, QRB_TAP_ATTN_PROBS | gradient, i),
                          1);
    }
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        const qrb_parameter parameter = parameter_at(model, p);
        const bool linear =
            qrb_tensor_rank(parameter.weight) == 2 &&
            (parameter.role != QRB_ROLE_EMBED || config.tied_head);

        ck_assert_uint_eq(
            count_heard(log, QRB_TAP_LINEAR_INPUT | gradient, p), linear);
        ck_assert_uint_eq(
            count_heard(log, QRB_TAP_LINEAR_OUTPUT | gradient, p), linear);
    }
}

START_TEST(every_point_is_tapped_once_in_its_shape)
{
    const qrb_engine_config config = config_of(&variants[_i]);
    qrb_context *ctx = make_threads(2);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    struct log forward = { .count = 0 };
    struct log backward = { .count = 0 };
    struct test_batch batch;
    qrb_pass *pass = begin_pass(model);

    fill_batch(&batch, 2, 70, config.vocab);
    for (size_t i = 0; i < POINTS; i++) {
        ASSERT_OK(ctx, qrb_pass_listen(pass, points[i], note, &forward));
        ASSERT_OK(ctx, qrb_pass_listen(pass, points[i] | QRB_TAP_GRAD, note,
                                       &backward));
    }
    loss_of(model, &batch);
    check_heard(&forward, model, &batch, 0);
    ck_assert_uint_eq(backward.count, 0);
    forward.count = 0;
    loss_and_gradients(model, &batch, 1.0);
    check_heard(&forward, model, &batch, 0);
    check_heard(&backward, model, &batch, QRB_TAP_GRAD);
    qrb_pass_destroy(pass);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* Listening alone changes nothing but the order of sums. */
START_TEST(listening_does_not_change_results)
{
    const qrb_engine_config config =
        config_of(_i < VARIANTS ? &variants[_i] : &wide_variant);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    const size_t count = qrb_model_parameter_count(model);
    double *before = calloc(count, sizeof *before);
    struct test_batch batch;
    struct log log = { .count = 0 };
    qrb_pass *pass;
    double plain;

    fill_batch(&batch, 3, 70, config.vocab);
    plain = loss_and_gradients(model, &batch, 1.0);
    for (size_t p = 0; p < count; p++)
        before[p] = get_element(parameter_at(model, p).gradient, 1);
    ck_assert_int_eq(qrb__model_zero_grad(model), QRB_OK);
    pass = begin_pass(model);
    for (size_t i = 0; i < POINTS; i++)
        ASSERT_OK(ctx, qrb_pass_listen(pass, points[i], note, &log));
    ck_assert_double_eq_tol(loss_and_gradients(model, &batch, 1.0), plain,
                            1e-13);
    for (size_t p = 0; p < count; p++)
        ck_assert_double_eq_tol(get_element(parameter_at(model, p).gradient, 1),
                                before[p], 1e-13);
    free(before);
    qrb_pass_destroy(pass);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* A listener that adds fixed numbers in place, or that makes them part of the
 * loss: <numbers, tensor>, whose gradient are the numbers. */
struct meddler {
    double amount;
    double extra; /* of the loss, in the last pass */
    size_t calls;
};

static double number(uint32_t point, size_t index, size_t i)
{
    return scattered(point * 31 + index, i);
}

static int add_numbers(uint32_t point, size_t index, qrb_tensor *tensor,
                       void *user)
{
    struct meddler *meddler = user;
    const size_t count = elements_of(tensor);

    meddler->calls++;
    for (size_t i = 0; i < count; i++)
        if (!is_masked(point, tensor, i))
            set_element(tensor, i,
                        get_element(tensor, i) +
                            meddler->amount *
                                number(point & ~(uint32_t)QRB_TAP_GRAD, index,
                                       i));
    return 0;
}

static int sum_numbers(uint32_t point, size_t index, qrb_tensor *tensor,
                       void *user)
{
    struct meddler *meddler = user;
    const size_t count = elements_of(tensor);

    for (size_t i = 0; i < count; i++)
        if (!is_masked(point, tensor, i))
            meddler->extra += meddler->amount * number(point, index, i) *
                              get_element(tensor, i);
    return 0;
}

static double loss_with_extra(qrb_model *model, const struct test_batch *batch,
                              struct meddler *meddler)
{
    double loss;

    meddler->extra = 0;
    loss = loss_of(model, batch);
    return loss + meddler->extra;
}

/* Grouped queries and an untied head; biases and interleaved pairs. */
static const size_t meddled[] = { 1, 4 };

/* A few elements of every parameter against differences. */
static void check_gradients(qrb_model *model, const struct test_batch *batch,
                            struct meddler *meddler, const char *what)
{
    const double step = 1e-5;
    double largest = 0;

    ck_assert_int_eq(qrb__model_zero_grad(model), QRB_OK);
    loss_and_gradients(model, batch, 1.0);
    for (size_t p = 0; p < qrb_model_parameter_count(model); p++) {
        const qrb_parameter parameter = parameter_at(model, p);
        const size_t count = parameter_elements(parameter.weight);
        const size_t stride = count / 2 + 1;

        for (size_t i = p % stride; i < count; i += stride) {
            const double gradient = get_element(parameter.gradient, i);
            const double w = get_element(parameter.weight, i);
            double difference;

            set_element(parameter.weight, i, w + step);
            difference = loss_with_extra(model, batch, meddler);
            set_element(parameter.weight, i, w - step);
            difference -= loss_with_extra(model, batch, meddler);
            set_element(parameter.weight, i, w);
            difference /= 2 * step;
            ck_assert_msg(fabs(difference - gradient) <
                              1e-7 * (1 + fabs(gradient)),
                          "%s: %s[%zu]: difference %.12g, gradient %.12g",
                          what, parameter.name, i, difference, gradient);
            largest = fmax(largest, fabs(gradient));
        }
    }
    ck_assert_double_gt(largest, 1e-3);
}

START_TEST(a_change_in_place_is_part_of_the_network)
{
    const uint32_t where[] = { QRB_TAP_LAYER_INPUT, QRB_TAP_LINEAR_INPUT,
                               QRB_TAP_ATTN_LOGITS };
    const struct variant *variant = &variants[meddled[_i]];
    const qrb_engine_config config = config_of(variant);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    struct test_batch batch;
    double plain;

    fill_batch(&batch, 1, 69, config.vocab);
    plain = loss_of(model, &batch);
    for (size_t i = 0; i < 3; i++) {
        struct meddler meddler = { 0.1, 0, 0 };
        qrb_pass *pass = begin_pass(model);

        ASSERT_OK(ctx, qrb_pass_listen(pass, where[i] | QRB_TAP_CHANGES,
                                       add_numbers, &meddler));
        ck_assert_double_gt(fabs(loss_of(model, &batch) - plain), 1e-6);
        ck_assert_uint_gt(meddler.calls, 0);
        check_gradients(model, &batch, &meddler, variant->name);

        /* What perturbs rests in evaluation. */
        ASSERT_OK(ctx, qrb_pass_set_mode(pass, QRB_MODE_EVAL));
        ck_assert_double_eq(loss_of(model, &batch), plain);
        qrb_pass_destroy(pass);
    }
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_is_added_to_a_gradient_is_a_term_of_the_loss)
{
    const struct variant *variant = &variants[meddled[_i]];
    const qrb_engine_config config = config_of(variant);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    struct test_batch batch;

    fill_batch(&batch, 1, 69, config.vocab);
    for (size_t i = 0; i < POINTS; i++) {
        struct meddler meddler = { 0.01, 0, 0 };
        qrb_pass *pass = begin_pass(model);

        ASSERT_OK(ctx,
                  qrb_pass_listen(pass, points[i], sum_numbers, &meddler));
        ASSERT_OK(ctx, qrb_pass_listen(
                           pass,
                           points[i] | QRB_TAP_GRAD |
                               (points[i] == QRB_TAP_LINEAR_OUTPUT ||
                                        points[i] == QRB_TAP_ATTN_PROBS
                                    ? 0
                                    : QRB_TAP_CHANGES),
                           add_numbers, &meddler));
        check_gradients(model, &batch, &meddler, variant->name);
        qrb_pass_destroy(pass);
    }
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

static int refuse(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    size_t *left = user;

    (void)point;
    (void)index;
    (void)tensor;
    return (*left)-- == 0 ? -7 : 0;
}

/* Whatever tap it is that a listener stops at, the call ends there. */
START_TEST(a_listener_that_stops_ends_the_pass)
{
    const qrb_engine_config config = config_of(&variants[0]);
    const uint32_t side[] = { 0, QRB_TAP_GRAD };
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    struct test_batch batch;

    fill_batch(&batch, 1, 9, config.vocab);
    for (size_t i = 0; i < POINTS; i++)
        for (size_t s = 0; s < 2; s++)
            for (size_t n = 0;; n++) {
                qrb_pass *pass = begin_pass(model);
                size_t left = n;
                qrb_status status;
                bool skipped;
                size_t scored;
                double loss;

                ASSERT_OK(ctx, qrb_pass_listen(pass, points[i] | side[s],
                                               refuse, &left));
                status = qrb__model_loss_and_grad(model, &batch.batch, 1.0,
                                                  &loss, &scored, &skipped);
                qrb_pass_destroy(pass);
                if (status == QRB_OK) {
                    ck_assert_uint_gt(n, 0);
                    break;
                }
                ck_assert_int_eq(status, QRB_E_CALLBACK);
                ck_assert_int_eq(qrb_context_callback_code(ctx), -7);
                ck_assert_uint_lt(n, 100);
            }
    loss_and_gradients(model, &batch, 1.0);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine_tap");
    TCase *cases = tcase_create("taps");

    tcase_set_timeout(cases, 100);
    tcase_add_loop_test(cases, every_point_is_tapped_once_in_its_shape, 0,
                        VARIANTS);
    tcase_add_loop_test(cases, listening_does_not_change_results, 0,
                        VARIANTS + 1);
    tcase_add_loop_test(cases, a_change_in_place_is_part_of_the_network, 0, 2);
    tcase_add_loop_test(cases,
                        what_is_added_to_a_gradient_is_a_term_of_the_loss, 0,
                        2);
    tcase_add_test(cases, a_listener_that_stops_ends_the_pass);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
