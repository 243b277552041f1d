/* AdamW, SGD with momentum, clipping and schedules, against references in
 * double precision and against numbers that can be checked in the head. */
#include <math.h>
#include <stdbool.h>

#include <qrobust/noise.h>
#include <qrobust/train.h>

#include "core/random.h"
#include "harness.h"
#include "train/schedule.h"

enum { MAX_PARAMETERS = 4 };

/* A host that pushes: parameters without callbacks, unless a test adds one. */
struct host {
    qrb_context *ctx;
    qrb_model *model;
    size_t count;
    qrb_tensor *weights[MAX_PARAMETERS];
    qrb_tensor *gradients[MAX_PARAMETERS];
    size_t written;      /* calls of weights_written */
    size_t fail_written; /* the call that fails; 0: none */
};

static int weights_written(size_t parameter, void *user)
{
    struct host *host = user;

    (void)parameter;
    return ++host->written == host->fail_written ? -7 : 0;
}

static void open_host(struct host *host, size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;

    memset(host, 0, sizeof *host);
    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &host->ctx), QRB_OK);
    callbacks.user = host;
    callbacks.weights_written = weights_written;
    ASSERT_OK(host->ctx, qrb_model_create(host->ctx, &callbacks, &host->model));
}

static void close_host(struct host *host)
{
    qrb_model_destroy(host->model);
    for (size_t i = 0; i < host->count; i++) {
        qrb_tensor_destroy(host->weights[i]);
        qrb_tensor_destroy(host->gradients[i]);
    }
    qrb_context_destroy(host->ctx);
}

static qrb_tensor *make_tensor(qrb_context *ctx, uint32_t dtype, size_t rows,
                               size_t cols)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = dtype;
    options.rank = rows == 0 ? 1 : 2;
    options.shape[0] = rows == 0 ? cols : rows;
    options.shape[1] = rows == 0 ? 0 : cols;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    return tensor;
}

/* rows 0: a vector. */
static size_t add(struct host *host, uint32_t dtype, uint32_t role, size_t rows,
                  size_t cols, uint32_t flags)
{
    const size_t i = host->count++;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    char name[16];

    snprintf(name, sizeof name, "parameter.%zu", i);
    host->weights[i] = make_tensor(host->ctx, dtype, rows, cols);
    host->gradients[i] = make_tensor(host->ctx, dtype, rows, cols);
    parameter.name = name;
    parameter.weight = host->weights[i];
    parameter.gradient = host->gradients[i];
    parameter.role = role;
    parameter.layer = 0;
    parameter.flags = flags;
    ASSERT_OK(host->ctx,
              qrb_model_add_parameter(host->model, &parameter, NULL));
    return i;
}

static float *floats(const qrb_tensor *tensor)
{
    return qrb_tensor_memory(tensor);
}

static qrb_optimizer *make_optimizer(const struct host *host,
                                     const qrb_optimizer_options *options)
{
    qrb_optimizer *optimizer = NULL;

    ASSERT_OK(host->ctx,
              qrb_optimizer_create(host->model, options, &optimizer));
    return optimizer;
}

/* The update as the papers write it, one number at a time. */
struct reference {
    double w;
    double m;
    double v;
};

static void reference_adamw(struct reference *r, double g, double t, double lr,
                            double decay)
{
    const double beta1 = 0.9;
    const double beta2 = 0.999;

    r->m = beta1 * r->m + (1.0 - beta1) * g;
    r->v = beta2 * r->v + (1.0 - beta2) * g * g;
    r->w -= lr * (r->m / (1.0 - pow(beta1, t)) /
                      (sqrt(r->v / (1.0 - pow(beta2, t))) + 1e-8) +
                  decay * r->w);
}

static void reference_sgd(struct reference *r, double g, double lr,
                          double decay)
{
    r->v = 0.9 * r->v + g + decay * r->w;
    r->w -= lr * r->v;
}

/* Both kinds and types, 60 steps, a matrix that decays and a norm that does
 * not.  A step adds a rounding of w and of a term of size lr, so after 60 the
 * error is below 60 * 4 eps; rounding of m and v decays with them. */
START_TEST(updates_are_those_of_a_double_reference)
{
    const uint32_t kind = (_i & 1) != 0 ? QRB_SGD : QRB_ADAMW;
    const uint32_t dtype = (_i & 2) != 0 ? QRB_F64 : QRB_F32;
    const double epsilon = dtype == QRB_F64 ? 2.3e-16 : 1.2e-7;
    const struct qrb__random random = { { 1, 2 }, 3, 4 };
    const size_t sizes[2] = { 15, 7 };
    struct reference reference[2][15] = { { { 0 } } };
    qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;
    qrb_optimizer *optimizer;
    struct host host;

    open_host(&host, 1);
    add(&host, dtype, QRB_ROLE_Q, 3, 5, 0);
    add(&host, dtype, QRB_ROLE_NORM, 0, 7, 0);
    options.kind = kind;
    options.clip_norm = 0.0;
    options.weight_decay = 0.1;
    optimizer = make_optimizer(&host, &options);
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < sizes[p]; i++) {
            reference[p][i].w = 0.1 * (double)i - 0.4;
            if (dtype == QRB_F32) {
                floats(host.weights[p])[i] = (float)reference[p][i].w;
                reference[p][i].w = floats(host.weights[p])[i];
            } else {
                ((double *)qrb_tensor_memory(host.weights[p]))[i] =
                    reference[p][i].w;
            }
        }
    for (size_t step = 0; step < 60; step++) {
        const double lr = 0.01 / (double)(step + 1);

        for (size_t p = 0; p < 2; p++)
            for (size_t i = 0; i < sizes[p]; i++) {
                double g = qrb__random_normal(&random, step * 64 + p * 32 + i);

                if (dtype == QRB_F32) {
                    floats(host.gradients[p])[i] = (float)g;
                    g = (float)g;
                } else {
                    ((double *)qrb_tensor_memory(host.gradients[p]))[i] = g;
                }
                if (kind == QRB_ADAMW)
                    reference_adamw(&reference[p][i], g, (double)(step + 1), lr,
                                    p == 0 ? 0.1 : 0.0);
                else
                    reference_sgd(&reference[p][i], g, lr, p == 0 ? 0.1 : 0.0);
            }
        ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, lr, NULL));
    }
    for (size_t p = 0; p < 2; p++)
        for (size_t i = 0; i < sizes[p]; i++) {
            const double w =
                dtype == QRB_F32
                    ? floats(host.weights[p])[i]
                    : ((double *)qrb_tensor_memory(host.weights[p]))[i];

            ck_assert_double_eq_tol(w, reference[p][i].w, 240.0 * epsilon);
        }
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}
END_TEST

/* One matrix [1, 2] of weights 1 and gradient (g0, g1), a single step. */
static void step_pair(const qrb_optimizer_options *options, uint32_t role,
                      size_t rows, float g0, float g1, double lr, float out[2],
                      double *norm)
{
    qrb_optimizer *optimizer;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F32, role, rows, 2, 0);
    floats(host.weights[0])[0] = floats(host.weights[0])[1] = 1.0f;
    floats(host.gradients[0])[0] = g0;
    floats(host.gradients[0])[1] = g1;
    optimizer = make_optimizer(&host, options);
    ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, lr, norm));
    memcpy(out, floats(host.weights[0]), 2 * sizeof *out);
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}

/* Both moments are corrected to g and g^2, so the first step is lr * sign(g)
 * whatever the gradient's size; decay takes lr * 0.01 of the weight. */
START_TEST(first_step_of_adamw_is_the_learning_rate)
{
    float w[2];

    step_pair(NULL, QRB_ROLE_O, 1, 0.5f, -0.02f, 0.1, w, NULL);
    ck_assert_float_eq_tol(w[0], 1.0f - 0.001f - 0.1f, 1e-6f);
    ck_assert_float_eq_tol(w[1], 1.0f - 0.001f + 0.1f, 1e-6f);
}
END_TEST

START_TEST(weight_decay_spares_norms_biases_and_vectors)
{
    const struct {
        uint32_t role;
        size_t rows;
        bool decays;
    } cases[] = {
        { QRB_ROLE_Q, 1, true },      { QRB_ROLE_EMBED, 1, true },
        { QRB_ROLE_HEAD, 1, true },   { QRB_ROLE_OTHER, 1, true },
        { QRB_ROLE_NORM, 1, false },  { QRB_ROLE_BIAS, 1, false },
        { QRB_ROLE_OTHER, 0, false }, { QRB_ROLE_NORM, 0, false },
    };
    qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;
    float w[2];

    options.weight_decay = 0.5;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        step_pair(&options, cases[i].role, cases[i].rows, 0.0f, 0.0f, 0.1, w,
                  NULL);
        ck_assert_float_eq_tol(w[0], cases[i].decays ? 0.95f : 1.0f, 1e-6f);
    }
}
END_TEST

/* The gradient (3, 4) has norm 5. */
START_TEST(clipping_scales_the_whole_gradient_to_the_limit)
{
    qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;
    double norm = 0.0;
    float w[2];

    options.kind = QRB_SGD;
    options.momentum = 0.0;
    options.weight_decay = 0.0;
    options.clip_norm = 1.0;
    step_pair(&options, QRB_ROLE_Q, 1, 3.0f, 4.0f, 1.0, w, &norm);
    ck_assert_double_eq(norm, 5.0);
    ck_assert_float_eq_tol(w[0], 1.0f - 0.6f, 1e-6f);
    ck_assert_float_eq_tol(w[1], 1.0f - 0.8f, 1e-6f);
    options.clip_norm = 5.0; /* at the limit nothing is scaled */
    step_pair(&options, QRB_ROLE_Q, 1, 3.0f, 4.0f, 1.0, w, NULL);
    ck_assert_float_eq(w[0], -2.0f);
    ck_assert_float_eq(w[1], -3.0f);
    options.clip_norm = 0.0; /* no limit */
    step_pair(&options, QRB_ROLE_Q, 1, 30.0f, 40.0f, 1.0, w, &norm);
    ck_assert_double_eq(norm, 50.0);
    ck_assert_float_eq(w[0], -29.0f);
}
END_TEST

/* Squares of 1e30 overflow floats; their sum in double does not. */
START_TEST(norm_of_huge_gradients_is_exact)
{
    qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;
    double norm = 0.0;
    float w[2];

    options.kind = QRB_SGD;
    options.weight_decay = 0.0;
    step_pair(&options, QRB_ROLE_Q, 1, 3e30f, 4e30f, 1.0, w, &norm);
    ck_assert_double_eq_tol(norm, 5e30, 1e24);
    ck_assert_float_eq_tol(w[0], 1.0f - 0.6f, 1e-6f);
}
END_TEST

START_TEST(clipping_spans_all_parameters)
{
    qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;
    qrb_optimizer *optimizer;
    double norm = 0.0;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, 0);
    add(&host, QRB_F64, QRB_ROLE_BIAS, 0, 1, 0);
    floats(host.gradients[0])[0] = 3.0f;
    *(double *)qrb_tensor_memory(host.gradients[1]) = 4.0;
    options.kind = QRB_SGD;
    options.clip_norm = 2.5;
    optimizer = make_optimizer(&host, &options);
    ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 1.0, &norm));
    ck_assert_double_eq(norm, 5.0);
    ck_assert_float_eq(floats(host.weights[0])[0], -1.5f);
    ck_assert_double_eq(*(double *)qrb_tensor_memory(host.weights[1]), -2.0);
    ck_assert_uint_eq(host.written, 2);
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}
END_TEST

/* A refused step leaves weights, moments and the count of updates alone: what
 * follows has the bits of a run that never saw it. */
START_TEST(gradient_that_is_not_finite_changes_nothing)
{
    const float bad[3] = { NAN, INFINITY, -INFINITY };
    float after[2][6];

    for (int with = 0; with < 2; with++) {
        qrb_optimizer *optimizer;
        struct host host;

        open_host(&host, 1);
        add(&host, QRB_F32, QRB_ROLE_Q, 2, 2, 0);
        add(&host, QRB_F32, QRB_ROLE_BIAS, 0, 2, 0);
        optimizer = make_optimizer(&host, NULL);
        for (int step = 0; step < 3; step++) {
            for (size_t i = 0; i < 4; i++)
                floats(host.gradients[0])[i] = (float)(step + 1) * 0.1f;
            if (with) {
                double norm = -1.0;

                floats(host.gradients[1])[1] = bad[step];
                ASSERT_FAILS(host.ctx,
                             qrb_optimizer_step(optimizer, 0.1, &norm),
                             QRB_E_NOT_FINITE, "parameter.1");
                ck_assert_double_eq(norm, -1.0);
            }
            floats(host.gradients[1])[1] = 0.2f;
            ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 0.1, NULL));
        }
        memcpy(after[with], floats(host.weights[0]), 4 * sizeof(float));
        memcpy(after[with] + 4, floats(host.weights[1]), 2 * sizeof(float));
        qrb_optimizer_destroy(optimizer);
        close_host(&host);
    }
    ck_assert_mem_eq(after[0], after[1], sizeof after[0]);
}
END_TEST

START_TEST(norm_that_overflows_is_refused)
{
    qrb_optimizer *optimizer;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F64, QRB_ROLE_Q, 1, 1, 0);
    add(&host, QRB_F64, QRB_ROLE_Q, 1, 1, 0);
    optimizer = make_optimizer(&host, NULL);
    *(double *)qrb_tensor_memory(host.gradients[0]) = 1.1e154;
    *(double *)qrb_tensor_memory(host.gradients[1]) = 1.1e154;
    ASSERT_FAILS(host.ctx, qrb_optimizer_step(optimizer, 0.1, NULL),
                 QRB_E_NOT_FINITE, "norm overflows");
    ck_assert_double_eq(*(double *)qrb_tensor_memory(host.weights[0]), 0.0);
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}
END_TEST

START_TEST(frozen_parameters_stay_as_they_are)
{
    qrb_optimizer *optimizer;
    double norm = 0.0;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, 0);
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, QRB_PARAM_FROZEN);
    floats(host.gradients[0])[0] = 1.0f;
    floats(host.gradients[1])[0] = NAN; /* nobody looks at it */
    floats(host.weights[1])[0] = 5.0f;
    optimizer = make_optimizer(&host, NULL);
    ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 0.1, &norm));
    ck_assert_double_eq(norm, 1.0);
    ck_assert_float_eq(floats(host.weights[1])[0], 5.0f);
    ck_assert_float_ne(floats(host.weights[0])[0], 0.0f);
    ck_assert_uint_eq(host.written, 1);
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}
END_TEST

/* Three parameters, two of them of several blocks and a tail, for each number
 * of threads; a step is clipped, so that the norm's bits show in the weights.
 */
START_TEST(bits_do_not_depend_on_the_number_of_threads)
{
    enum { ELEMENTS = 70001 };
    float *first = NULL;

    for (size_t threads = 1; threads <= 3; threads++) {
        qrb_optimizer *optimizer;
        struct host host;

        open_host(&host, threads);
        add(&host, QRB_F32, QRB_ROLE_Q, 1, ELEMENTS, 0);
        add(&host, QRB_F32, QRB_ROLE_BIAS, 0, 5, 0);
        add(&host, QRB_F32, QRB_ROLE_UP, 2, ELEMENTS, 0);
        optimizer = make_optimizer(&host, NULL);
        for (int step = 0; step < 2; step++) {
            for (size_t p = 0; p < 3; p++)
                for (size_t i = 0; i < (p == 0   ? ELEMENTS
                                        : p == 1 ? 5
                                                 : 2 * ELEMENTS);
                     i++)
                    floats(host.gradients[p])[i] =
                        sinf(0.1f * (float)i + (float)step);
            ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 0.01, NULL));
        }
        if (first == NULL) {
            first = malloc(2 * ELEMENTS * sizeof *first);
            ck_assert_ptr_nonnull(first);
            memcpy(first, floats(host.weights[2]),
                   2 * ELEMENTS * sizeof *first);
        }
        ck_assert_mem_eq(first, floats(host.weights[2]),
                         2 * ELEMENTS * sizeof *first);
        ck_assert_float_ne(first[2 * ELEMENTS - 1], 0.0f);
        qrb_optimizer_destroy(optimizer);
        close_host(&host);
    }
    free(first);
}
END_TEST

/* Columns are the outer axis in memory: the view [rows, cols] is strided. */
START_TEST(strided_parameters_are_updated_like_dense_ones)
{
    enum { ROWS = 37, COLS = 61 };
    static float weights[COLS * ROWS];
    static float gradients[COLS * ROWS];
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_optimizer *optimizer;
    qrb_tensor *w = NULL;
    qrb_tensor *g = NULL;
    struct host host;

    open_host(&host, 2);
    add(&host, QRB_F32, QRB_ROLE_Q, ROWS, COLS, 0);
    view.rank = 2;
    view.shape[0] = ROWS;
    view.shape[1] = COLS;
    view.strides[0] = sizeof(float);
    view.strides[1] = ROWS * sizeof(float);
    view.memory = weights;
    ASSERT_OK(host.ctx, qrb_tensor_create(host.ctx, &view, &w));
    view.memory = gradients;
    ASSERT_OK(host.ctx, qrb_tensor_create(host.ctx, &view, &g));
    parameter.name = "strided";
    parameter.weight = w;
    parameter.gradient = g;
    parameter.role = QRB_ROLE_Q;
    ASSERT_OK(host.ctx, qrb_model_add_parameter(host.model, &parameter, NULL));
    optimizer = make_optimizer(&host, NULL);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLS; c++) {
            floats(host.weights[0])[r * COLS + c] = weights[c * ROWS + r] =
                cosf((float)(r + 3 * c));
            floats(host.gradients[0])[r * COLS + c] = gradients[c * ROWS + r] =
                sinf((float)(5 * r + c));
        }
    for (int step = 0; step < 3; step++)
        ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 0.01, NULL));
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLS; c++)
            ck_assert_float_eq(floats(host.weights[0])[r * COLS + c],
                               weights[c * ROWS + r]);
    ck_assert_float_ne(weights[0], 1.0f);
    qrb_optimizer_destroy(optimizer);
    qrb_tensor_destroy(w);
    qrb_tensor_destroy(g);
    close_host(&host);
}
END_TEST

START_TEST(host_hears_of_every_weight_even_after_it_stopped)
{
    qrb_optimizer *optimizer;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, 0);
    add(&host, QRB_F32, QRB_ROLE_K, 1, 1, 0);
    add(&host, QRB_F32, QRB_ROLE_V, 1, 1, 0);
    for (size_t p = 0; p < 3; p++)
        floats(host.gradients[p])[0] = 1.0f;
    optimizer = make_optimizer(&host, NULL);
    host.fail_written = 2;
    ASSERT_FAILS(host.ctx, qrb_optimizer_step(optimizer, 0.5, NULL),
                 QRB_E_CALLBACK, "weights_written");
    ck_assert_int_eq(qrb_context_callback_code(host.ctx), -7);
    ck_assert_uint_eq(host.written, 3);
    for (size_t p = 0; p < 3; p++) /* the update was made whole */
        ck_assert_float_eq_tol(floats(host.weights[p])[0], -0.5f, 1e-6f);
    qrb_optimizer_destroy(optimizer);
    close_host(&host);
}
END_TEST

START_TEST(perturbed_weights_are_not_updated)
{
    qrb_attack_options attack = QRB_ATTACK_OPTIONS_INIT;
    qrb_optimizer *optimizer;
    qrb_noise *noise = NULL;
    struct host host;

    open_host(&host, 1);
    add(&host, QRB_F32, QRB_ROLE_Q, 2, 2, 0);
    attack.sigma = 0.1;
    ASSERT_OK(host.ctx, qrb_noise_create_attack(host.ctx, &attack, &noise));
    ASSERT_OK(host.ctx, qrb_noise_bind(noise, host.model, NULL));
    optimizer = make_optimizer(&host, NULL);
    ASSERT_OK(host.ctx, qrb_perturb_begin(noise));
    ASSERT_FAILS(host.ctx, qrb_optimizer_step(optimizer, 0.1, NULL),
                 QRB_E_STATE, "parameter.0: is perturbed");
    ASSERT_OK(host.ctx, qrb_perturb_end(noise));
    ASSERT_OK(host.ctx, qrb_optimizer_step(optimizer, 0.1, NULL));
    qrb_optimizer_destroy(optimizer);
    qrb_noise_destroy(noise);
    close_host(&host);
}
END_TEST

#define REFUSES(field, value, words)                                           \
    do {                                                                       \
        qrb_optimizer_options options = QRB_OPTIMIZER_OPTIONS_INIT;            \
        options.field = (value);                                               \
        ASSERT_FAILS(host.ctx,                                                 \
                     qrb_optimizer_create(host.model, &options, &optimizer),   \
                     QRB_E_INVALID_ARG, words);                                \
        ck_assert_ptr_null(optimizer);                                         \
        ASSERT_FAILS(host.ctx,                                                 \
                     qrb_optimizer_memory(host.model, &options, &bytes),       \
                     QRB_E_INVALID_ARG, words);                                \
    } while (0)

START_TEST(options_that_make_no_sense_are_refused)
{
    qrb_optimizer *optimizer = NULL;
    struct host host;
    uint64_t bytes;

    open_host(&host, 1);
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, 0);
    REFUSES(kind, 0, "kind");
    REFUSES(kind, 3, "kind");
    REFUSES(beta1, 1.0, "beta1");
    REFUSES(beta1, -0.1, "beta1");
    REFUSES(beta2, NAN, "beta2");
    REFUSES(epsilon, 0.0, "epsilon");
    REFUSES(epsilon, INFINITY, "epsilon");
    REFUSES(momentum, 1.0, "momentum");
    REFUSES(weight_decay, -1.0, "weight_decay");
    REFUSES(weight_decay, NAN, "weight_decay");
    REFUSES(clip_norm, -1.0, "clip_norm");
    REFUSES(clip_norm, INFINITY, "clip_norm");
    REFUSES(reserved, 1, "reserved");
    REFUSES(struct_size, 3, "struct_size");
    ck_assert_int_eq(qrb_optimizer_create(NULL, NULL, &optimizer),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_optimizer_create(host.model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_optimizer_memory(NULL, NULL, &bytes),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_optimizer_memory(host.model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    optimizer = make_optimizer(&host, NULL);
    ck_assert_int_eq(qrb_optimizer_step(NULL, 0.1, NULL), QRB_E_INVALID_ARG);
    ASSERT_FAILS(host.ctx, qrb_optimizer_step(optimizer, -0.1, NULL),
                 QRB_E_INVALID_ARG, "learning rate");
    ASSERT_FAILS(host.ctx, qrb_optimizer_step(optimizer, NAN, NULL),
                 QRB_E_INVALID_ARG, "learning rate");
    qrb_optimizer_destroy(optimizer);
    qrb_optimizer_destroy(NULL);
    close_host(&host);
}
END_TEST

START_TEST(model_without_gradients_is_refused)
{
    qrb_optimizer *optimizer = NULL;
    struct host host;
    uint64_t bytes;

    open_host(&host, 1);
    ASSERT_FAILS(host.ctx, qrb_optimizer_memory(host.model, NULL, &bytes),
                 QRB_E_STATE, "none of the 0 parameters");
    ASSERT_FAILS(host.ctx, qrb_optimizer_create(host.model, NULL, &optimizer),
                 QRB_E_STATE, "none of the 0 parameters");
    add(&host, QRB_F32, QRB_ROLE_Q, 1, 1, QRB_PARAM_FROZEN);
    ASSERT_FAILS(host.ctx, qrb_optimizer_create(host.model, NULL, &optimizer),
                 QRB_E_STATE, "none of the 1 parameters");
    close_host(&host);
}
END_TEST

static qrb_status create_and_step(qrb_context *ctx, void *arg)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    float memory[2][6] = { { 0 } };
    qrb_optimizer *optimizer = NULL;
    qrb_model *model = NULL;
    qrb_tensor *weight = NULL;
    qrb_tensor *gradient = NULL;
    qrb_status status;

    (void)arg;
    shape.rank = 2;
    shape.shape[0] = 2;
    shape.shape[1] = 3;
    shape.memory = memory[0];
    status = qrb_tensor_create(ctx, &shape, &weight);
    shape.memory = memory[1];
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &shape, &gradient);
    if (status == QRB_OK)
        status = qrb_model_create(ctx, NULL, &model);
    parameter.weight = weight;
    parameter.gradient = gradient;
    for (int i = 0; i < 2 && status == QRB_OK; i++) {
        parameter.name = i == 0 ? "a" : "b";
        status = qrb_model_add_parameter(model, &parameter, NULL);
    }
    if (status == QRB_OK)
        status = qrb_optimizer_create(model, NULL, &optimizer);
    if (status == QRB_OK)
        status = qrb_optimizer_step(optimizer, 0.1, NULL);
    else
        ck_assert_ptr_null(optimizer);
    qrb_optimizer_destroy(optimizer);
    qrb_model_destroy(model);
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(gradient);
    return status;
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    fail_each_allocation(create_and_step, NULL);
}
END_TEST

START_TEST(warm_up_rises_in_equal_steps_to_the_peak)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;

    options.steps = 8;
    options.warmup = 4;
    options.lr = 2.0;
    ck_assert_double_eq(qrb__schedule_lr(&options, 0), 0.5);
    ck_assert_double_eq(qrb__schedule_lr(&options, 1), 1.0);
    ck_assert_double_eq(qrb__schedule_lr(&options, 3), 2.0);
    ck_assert_double_eq(qrb__schedule_lr(&options, 4), 2.0);
    ck_assert_double_eq(qrb__schedule_lr(&options, 7), 2.0);
    options.warmup = 0;
    ck_assert_double_eq(qrb__schedule_lr(&options, 0), 2.0);
}
END_TEST

/* Half way between peak and end the cosine is at their mean. */
START_TEST(cosine_falls_from_the_peak_to_its_end_at_the_last_step)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;

    options.schedule = QRB_SCHEDULE_COSINE;
    options.steps = 12;
    options.warmup = 2;
    options.lr = 2.0;
    options.lr_end = 0.1;
    ck_assert_double_eq(qrb__schedule_lr(&options, 1), 2.0);
    ck_assert_double_eq_tol(qrb__schedule_lr(&options, 6), 1.1, 1e-15);
    ck_assert_double_eq_tol(qrb__schedule_lr(&options, 11), 0.2, 1e-15);
    for (uint64_t t = 2; t < 11; t++)
        ck_assert_double_gt(qrb__schedule_lr(&options, t),
                            qrb__schedule_lr(&options, t + 1));
    options.warmup = 20; /* never reaches the peak */
    ck_assert_double_eq(qrb__schedule_lr(&options, 11), 1.2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optimizer");
    TCase *update = tcase_create("update");
    TCase *rules = tcase_create("rules");
    TCase *schedule = tcase_create("schedule");

    tcase_set_timeout(update, 60);
    tcase_add_loop_test(update, updates_are_those_of_a_double_reference, 0, 4);
    tcase_add_test(update, first_step_of_adamw_is_the_learning_rate);
    tcase_add_test(update, weight_decay_spares_norms_biases_and_vectors);
    tcase_add_test(update, clipping_scales_the_whole_gradient_to_the_limit);
    tcase_add_test(update, norm_of_huge_gradients_is_exact);
    tcase_add_test(update, clipping_spans_all_parameters);
    tcase_add_test(update, gradient_that_is_not_finite_changes_nothing);
    tcase_add_test(update, norm_that_overflows_is_refused);
    tcase_add_test(update, bits_do_not_depend_on_the_number_of_threads);
    tcase_add_test(update, strided_parameters_are_updated_like_dense_ones);
    suite_add_tcase(suite, update);
    tcase_add_test(rules, frozen_parameters_stay_as_they_are);
    tcase_add_test(rules, host_hears_of_every_weight_even_after_it_stopped);
    tcase_add_test(rules, perturbed_weights_are_not_updated);
    tcase_add_test(rules, options_that_make_no_sense_are_refused);
    tcase_add_test(rules, model_without_gradients_is_refused);
    tcase_add_test(rules,
                   every_failed_allocation_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, rules);
    tcase_add_test(schedule, warm_up_rises_in_equal_steps_to_the_peak);
    tcase_add_test(schedule,
                   cosine_falls_from_the_peak_to_its_end_at_the_last_step);
    suite_add_tcase(suite, schedule);
    return run_suite(suite);
}
