/* AWQ: its searches on the numbers of the specification, and what holds for
 * any matrix. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

#include "quant/awq_work.h"
#include "quant/packed.h"

enum { TALL = 37, WIDE = 96, SIZE = TALL * WIDE, TOKENS = 50 };

static qrb_observer *observe(qrb_context *ctx, uint32_t dtype, size_t tokens,
                             size_t cols, void *x)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor *tensor = matrix(ctx, dtype, tokens, cols, x);
    qrb_observer *observer;

    options.columns = cols;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &observer));
    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    qrb_tensor_destroy(tensor);
    return observer;
}

/* Quantizers 3.4. */
static const double example_w[8] = { .9, -.4, .3, .1, -.7, .2, .65, -.25 };
static double example_x[12] = { 1,   .1, -.5, 4,  -2, .2,
                                .25, 6,  .5,  -.3, 1, -5 };

struct example {
    qrb_context *ctx;
    qrb_observer *inputs;
    qrb_packed packed;
    double w[8];
    struct qrb__matrix_work work;
    struct qrb__awq_work awq;
};

static void begin_example(struct example *e)
{
    memset(e, 0, sizeof *e);
    e->ctx = context_of(2);
    e->inputs = observe(e->ctx, QRB_F64, 3, 4, example_x);
    memcpy(e->w, example_w, sizeof e->w);
    e->work = (struct qrb__matrix_work){ .ctx = e->ctx,
                                         .rows = 2,
                                         .cols = 4,
                                         .precision = QRB_F64,
                                         .w = e->w,
                                         .inputs = e->inputs,
                                         .packed = &e->packed,
                                         .loss = NAN };
    e->awq.work = &e->work;
    e->awq.grid = (struct qrb__awq_grid){
        .grid = { .mode = QRB_GRID_A_AWQ, .bits = 3, .compat = true },
        .precision = QRB_F64,
        .cols = 4,
        .group = 4
    };
    ASSERT_OK(e->ctx, qrb__awq_begin(&e->awq));
}

static void end_example(struct example *e)
{
    qrb__awq_end(&e->awq);
    qrb__free(e->ctx, e->packed.input_scale);
    qrb_observer_destroy(e->inputs);
    qrb_context_destroy(e->ctx);
}

START_TEST(losses_and_scales_are_those_of_the_specification)
{
    static const struct {
        size_t k;
        double loss;
    } losses[] = { { 0, 0.1460585034 },  { 1, 0.1475840002 },
                   { 5, 0.0112171421 },  { 10, 0.0089488020 },
                   { 15, 0.0166783998 }, { 19, 0.0083571312 },
                   { 14, 0.0041595909 } };
    static const double scale[4] = { 1.11394245, 0.32413132, 0.68571201,
                                     3.08516931 };
    struct example e;
    double loss;

    begin_example(&e);
    ASSERT_OK(e.ctx, qrb__awq_search(&e.awq, 20, false, &loss));
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++)
        ck_assert_double_eq_tol(e.awq.losses[losses[i].k], losses[i].loss,
                                5e-11);
    ck_assert_double_eq(loss, e.awq.losses[14]);
    for (size_t j = 0; j < 4; j++)
        ck_assert_double_eq_tol(e.awq.scale[j], scale[j], 5e-9);
    end_example(&e);
}
END_TEST

START_TEST(duo_scaling_is_that_of_the_specification)
{
    static const double weights[4] = { 0.99999873, 0.36507891, 0.63095153,
                                       0.23412667 };
    static const double scale[4] = { 0.62591725, 0.37339069, 0.525947,
                                     2.67815995 };
    struct example e;
    double loss;

    begin_example(&e);
    ASSERT_OK(e.ctx, qrb__awq_search(&e.awq, 20, true, &loss));
    for (size_t j = 0; j < 4; j++) {
        ck_assert_double_eq_tol(e.awq.weights[j], weights[j], 5e-9);
        ck_assert_double_eq_tol(e.awq.scale[j], scale[j], 5e-9);
    }
    ck_assert_double_eq_tol(loss, 0.0047647766, 5e-11);
    ck_assert_double_eq(loss, e.awq.losses[11]);
    end_example(&e);
}
END_TEST

/* Row 0 keeps its weights with an error of 0.0026982736 a token; of the other
 * limits 0.0064012151, 0.0136073319 and 0.0243166239 follow. */
START_TEST(limits_are_those_of_the_specification)
{
    static const double limits[2] = { 1.0025482014, 0.7797597122 };
    static const double errors[2] = { 0.0026982736, 0.0056209082 };
    struct example e;
    double loss;

    begin_example(&e);
    ASSERT_OK(e.ctx, qrb__awq_search(&e.awq, 20, false, &loss));
    ASSERT_OK(e.ctx, qrb__work_scale_inputs(&e.work, e.awq.scale));
    qrb__awq_end(&e.awq);
    memset(&e.awq, 0, sizeof e.awq);
    e.awq.work = &e.work;
    e.awq.grid = (struct qrb__awq_grid){
        .grid = { .mode = QRB_GRID_A_AWQ, .bits = 3, .compat = true },
        .precision = QRB_F64,
        .cols = 4,
        .group = 4
    };
    ASSERT_OK(e.ctx, qrb__awq_begin(&e.awq));
    ASSERT_OK(e.ctx, qrb__awq_clip(&e.awq, &loss));
    for (size_t r = 0; r < 2; r++) {
        ck_assert_double_eq_tol(e.awq.limits[r], limits[r], 5e-11);
        ck_assert_double_eq_tol(e.awq.best[r] / 3, errors[r], 5e-11);
    }
    ck_assert_double_eq_tol(loss, 0.0041595909, 5e-11);
    end_example(&e);
}
END_TEST

/* Columns of very different sizes, and tokens that go together. */
static void fill_problem(uint32_t seed, float *w, float *x)
{
    static float parts[TOKENS * 8];

    fill(seed, SIZE, w);
    fill(seed + 1, TOKENS * WIDE, x);
    fill(seed + 2, TOKENS * 8, parts);
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t j = 0; j < WIDE; j++)
            x[t * WIDE + j] = (x[t * WIDE + j] + 3 * parts[t * 8 + j % 8]) *
                              (j % 13 == 5 ? 25.0f : 1.0f);
}

/* Rounding to nearest on the same grid, with the report's errors. */
static double output_error(qrb_context *ctx,
                           const qrb_quantizer_options *options, float *w,
                           const qrb_calibration *calibration, double *loss_out)
{
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_quantizer *quantizer = made(ctx, options);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_packed *packed;

    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, calibration,
                                               &report, &packed));
    *loss_out = report.loss;
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
    return report.relative_output_error;
}

START_TEST(awq_is_never_worse_than_rounding_to_nearest)
{
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    static const size_t groups[] = { 0, 32, 40 };
    qrb_context *ctx = context_of(2);

    for (uint32_t seed = 1; seed < 5; seed++)
        for (size_t i = 0; i < 12; i++) {
            qrb_quantizer_options rtn = QRB_QUANTIZER_OPTIONS_INIT;
            qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
            qrb_awq_options own = QRB_AWQ_OPTIONS_INIT;
            qrb_calibration calibration = QRB_CALIBRATION_INIT;
            qrb_observer *inputs;
            double loss;
            double whole = 0;
            double error;

            fill_problem(seed, w, x);
            inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
            calibration.inputs = inputs;
            own.clip = (uint32_t)i % 2;
            options.kind = QRB_QUANTIZER_AWQ;
            options.awq = &own;
            options.compat = rtn.compat = 0;
            options.bits = rtn.bits = i < 6 ? 3 : 4;
            options.group_size = rtn.group_size = groups[i % 3];
            rtn.grid = QRB_GRID_A_AWQ;
            error = output_error(ctx, &options, w, &calibration, &loss);
            /* Weights of both signs in each group: the grids agree. */
            ck_assert_double_le(error,
                                output_error(ctx, &rtn, w, &calibration,
                                             &whole) *
                                    (1 + 1e-4));
            ck_assert(isnan(whole));
            /* The loss is the error's mean square: float32 in the search. */
            for (size_t t = 0; t < TOKENS; t++)
                for (size_t r = 0; r < TALL; r++) {
                    double y = 0;

                    for (size_t j = 0; j < WIDE; j++)
                        y += (double)x[t * WIDE + j] * (double)w[r * WIDE + j];
                    whole = isnan(whole) ? y * y : whole + y * y;
                }
            ck_assert_double_eq_tol(loss, error * whole / (TOKENS * TALL),
                                    1e-3 * loss);
            qrb_observer_destroy(inputs);
        }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(largest_times_smallest_scale_is_one)
{
    static float w[SIZE];
    static float x[TOKENS * WIDE];
    qrb_context *ctx = context_of(2);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = named(ctx, "awq3g32");
    qrb_quantizer *chain = named(ctx, "awq+rtn3g32");
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_observer *inputs;
    qrb_packed *packed;
    qrb_packed *chained;
    const double *s;
    double least = INFINITY;
    double most = 0;

    fill_problem(9, w, x);
    inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
    calibration.inputs = inputs;
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(quantizer, tensor, &calibration,
                                               NULL, &packed));
    ASSERT_OK(ctx, qrb_quantizer_quantize_with(chain, tensor, &calibration,
                                               NULL, &chained));
    s = qrb_packed_input_scale(packed);
    for (size_t j = 0; j < WIDE; j++) {
        least = fmin(least, s[j]);
        most = fmax(most, s[j]);
        ck_assert_double_eq(s[j], qrb_packed_input_scale(chained)[j]);
    }
    ck_assert_double_gt(most, least);
    ck_assert_double_eq_tol(least * most, 1, 1e-12);
    qrb_packed_destroy(packed);
    qrb_packed_destroy(chained);
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
    qrb_quantizer_destroy(chain);
    qrb_context_destroy(ctx);
}
END_TEST

/* Nothing is known: rounding to nearest, and no division by zero.  Groups of
 * one sign come out whole, as A_GPTQ's scale holds them. */
START_TEST(inputs_of_nothing_leave_rounding_to_nearest)
{
    float w[8] = { .5f, .75f, 1, 1.25f, -.3f, -.3f, -.3f, -.3f };
    float x[4] = { 0 };
    float values[8];
    qrb_context *ctx = context_of(1);
    qrb_observer_options empty = QRB_OBSERVER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = named(ctx, "awq4");
    qrb_quantizer *rtn = named(ctx, "rtn4");
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 4, w);
    qrb_tensor *out = matrix(ctx, QRB_F32, 2, 4, values);
    qrb_observer *inputs[2];

    empty.columns = 4;
    inputs[0] = observe(ctx, QRB_F32, 1, 4, x);
    ASSERT_OK(ctx, qrb_observer_create(ctx, &empty, &inputs[1]));
    for (size_t i = 0; i < 2; i++) {
        qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;

        calibration.inputs = inputs[i];
        ASSERT_OK(ctx, qrb_tensor_copy(tensor, out));
        ASSERT_OK(ctx,
                  qrb_quantizer_fake_with(quantizer, out, &calibration,
                                          &report));
        ck_assert_double_eq(report.loss, 0);
        ck_assert_double_eq(report.relative_output_error, 0);
        for (size_t k = 0; k < 8; k++)
            ck_assert_float_eq_tol(values[k], w[k], 1.25f / 15 / 2 + 1e-6f);
    }
    ASSERT_OK(ctx, qrb_quantizer_fake(rtn, tensor));
    ck_assert_mem_eq(w, values, sizeof w);
    qrb_observer_destroy(inputs[0]);
    qrb_observer_destroy(inputs[1]);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(out);
    qrb_quantizer_destroy(quantizer);
    qrb_quantizer_destroy(rtn);
    qrb_context_destroy(ctx);
}
END_TEST

static void fake_with_threads(size_t threads, const char *name, float *w)
{
    static float x[TOKENS * WIDE];
    qrb_context *ctx = context_of(threads);
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = named(ctx, name);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, TALL, WIDE, w);
    qrb_observer *inputs;

    fill_problem(4, w, x);
    inputs = observe(ctx, QRB_F32, TOKENS, WIDE, x);
    calibration.inputs = inputs;
    ASSERT_OK(ctx,
              qrb_quantizer_fake_with(quantizer, tensor, &calibration, NULL));
    qrb_observer_destroy(inputs);
    qrb_tensor_destroy(tensor);
    qrb_quantizer_destroy(quantizer);
    qrb_context_destroy(ctx);
}

START_TEST(threads_change_no_bit)
{
    static const char *const awq[] = { "awq3g32", "awq4", "awq2g40",
                                       "smoothquant+awq3g32",
                                       "awq3+rtn4g32" };
    static float one[SIZE];
    static float many[SIZE];

    for (size_t i = 0; i < 5; i++) {
        fake_with_threads(1, awq[i], one);
        fake_with_threads(5, awq[i], many);
        ck_assert_mem_eq(one, many, sizeof one);
    }
}
END_TEST

START_TEST(what_awq_does_not_take_is_refused)
{
    const qrb_quantizer_options defaults = QRB_QUANTIZER_OPTIONS_INIT;
    const qrb_awq_options own_defaults = QRB_AWQ_OPTIONS_INIT;
    qrb_quantizer_options options = defaults;
    qrb_awq_options own = own_defaults;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_context *ctx = context_of(1);
    qrb_tensor *tensor = matrix(ctx, QRB_F32, 2, 3, NULL);
    qrb_quantizer *chain = named(ctx, "awq4g32+rtn4");
    qrb_observer *ranges;
    qrb_observer *inputs;
    qrb_quantizer *out;

    observed.columns = 3;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &inputs));
    observed.what = QRB_OBSERVE_RANGES;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &ranges));
    options.kind = QRB_QUANTIZER_AWQ;
    options.awq = &own;
    own.ratios = 0;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "ratios 0");
    own = own_defaults;
    own.clip = 2;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "clip 2");
    own = own_defaults;
    own.duo_scaling = 3;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "duo_scaling 3");
    own = own_defaults;
    options.mse_clip = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "clip search of its own");
    options.mse_clip = 0;
    options.bits = 1;
    ASSERT_FAILS(ctx, qrb_quantizer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "awq has 1 bits");
    calibration.inputs = ranges;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(chain, tensor, &calibration, NULL),
                 QRB_E_INVALID_ARG, "awq needs the Gram matrix");
    calibration.inputs = inputs;
    ASSERT_FAILS(ctx,
                 qrb_quantizer_fake_with(chain, tensor, &calibration, NULL),
                 QRB_E_SHAPE, "group size 32 of awq");
    qrb_observer_destroy(ranges);
    qrb_observer_destroy(inputs);
    qrb_quantizer_destroy(chain);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status use_awq(qrb_context *ctx, void *arg)
{
    struct small_case small;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantizer *quantizer = NULL;
    qrb_status status;

    status = open_small_case(ctx, &small);
    if (status == QRB_OK)
        status = qrb_quantizer_create_named(ctx, arg, &quantizer);
    calibration.inputs = small.inputs;
    if (status == QRB_OK)
        status = qrb_quantizer_fake_with(quantizer, small.tensor, &calibration,
                                         NULL);
    qrb_quantizer_destroy(quantizer);
    close_small_case(&small);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    char name[] = "awq4g2";

    fail_each_allocation(use_awq, name);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("awq");
    TCase *tests = tcase_create("awq");

    tcase_add_test(tests, losses_and_scales_are_those_of_the_specification);
    tcase_add_test(tests, duo_scaling_is_that_of_the_specification);
    tcase_add_test(tests, limits_are_those_of_the_specification);
    tcase_add_test(tests, awq_is_never_worse_than_rounding_to_nearest);
    tcase_add_test(tests, largest_times_smallest_scale_is_one);
    tcase_add_test(tests, inputs_of_nothing_leave_rounding_to_nearest);
    tcase_add_test(tests, threads_change_no_bit);
    tcase_add_test(tests, what_awq_does_not_take_is_refused);
    tcase_add_test(tests, every_allocation_may_fail);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
