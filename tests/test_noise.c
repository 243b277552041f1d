/* The attack on weights and the pull of an anchor. */
#include "harness.h"

#include <math.h>

#include "core/random.h"
#include "mock_host.h"
#include "model/model.h"
#include "noise/noise.h"

static const qrb_filter everything = { sizeof everything, QRB_FILTER_ALL,
                                       NULL };

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

static qrb_model *empty_model(qrb_context *context)
{
    qrb_model *model = NULL;

    ASSERT_OK(context, qrb_model_create(context, NULL, &model));
    return model;
}

/* Register [rows, cols]; row_gap elements lie between the rows of the weight;
 * gradient may be NULL. */
static void add(qrb_model *model, const char *name, uint32_t dtype, size_t rows,
                size_t cols, size_t row_gap, void *weight, void *gradient)
{
    const size_t size = qrb_dtype_size(dtype);
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *w = NULL;
    qrb_tensor *g = NULL;

    options.dtype = dtype;
    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    options.strides[0] = (int64_t)((cols + row_gap) * size);
    options.strides[1] = (int64_t)size;
    options.memory = weight;
    ASSERT_OK(model->ctx, qrb_tensor_create(model->ctx, &options, &w));
    options.memory = gradient;
    if (gradient != NULL)
        ASSERT_OK(model->ctx, qrb_tensor_create(model->ctx, &options, &g));
    parameter.name = name;
    parameter.weight = w;
    parameter.gradient = g;
    parameter.role = QRB_ROLE_Q;
    parameter.layer = 2;
    ASSERT_OK(model->ctx, qrb_model_add_parameter(model, &parameter, NULL));
    qrb_tensor_destroy(w);
    qrb_tensor_destroy(g);
}

static qrb_noise *attack_on(qrb_model *model, double sigma, uint64_t seed,
                            uint32_t scale)
{
    qrb_attack_options options = QRB_ATTACK_OPTIONS_INIT;
    qrb_noise *attack = NULL;

    options.sigma = sigma;
    options.seed = seed;
    options.scale = scale;
    ASSERT_OK(model->ctx,
              qrb_noise_create_attack(model->ctx, &options, &attack));
    ASSERT_OK(model->ctx, qrb_noise_bind(attack, model, &everything));
    return attack;
}

/* --- the attack's numbers */

static double normal_of(uint64_t seed, uint32_t parameter, uint64_t element)
{
    const struct qrb__random random = qrb__random_at(
        seed, 0, qrb__random_stream(QRB__RANDOM_ATTACK, 2, parameter, 0));

    return qrb__random_normal(&random, element);
}

START_TEST(element_e_of_parameter_p_takes_number_e_of_stream_p)
{
    const uint64_t seed = UINT64_C(0x123456789abcdef);
    float w[3 * 5];
    double v[3 * 5];
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;

    for (int i = 0; i < 15; i++) {
        w[i] = (float)i;
        v[i] = (double)i;
    }
    add(model, "w", QRB_F32, 3, 5, 0, w, NULL);
    add(model, "v", QRB_F64, 3, 5, 0, v, NULL);
    attack = attack_on(model, 0.25, seed, QRB_SIGMA_ABSOLUTE);
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    for (unsigned i = 0; i < 15; i++) {
        /* One rounding of the noise and one of the sum. */
        ck_assert_float_eq_tol(w[i], (float)(i + 0.25 * normal_of(seed, 0, i)),
                               4e-6f);
        ck_assert_double_eq(v[i], i + 0.25 * normal_of(seed, 1, i));
    }
    qrb_noise_destroy(attack);
    for (unsigned i = 0; i < 15; i++) /* applied for good */
        ck_assert_double_eq(v[i], i + 0.25 * normal_of(seed, 1, i));
    qrb_model_destroy(model);
}
END_TEST

START_TEST(noise_is_normal_with_mean_zero_and_the_given_deviation)
{
    enum { N = 300 * 700 };
    const double sigma = 0.125;
    float *w = calloc(N, sizeof *w);
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;
    double sum = 0.0;
    double squares = 0.0;
    double neighbours = 0.0;
    size_t beyond = 0;

    add(model, "w", QRB_F32, 300, 700, 0, w, NULL);
    attack = attack_on(model, sigma, 5, QRB_SIGMA_ABSOLUTE);
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    for (size_t i = 0; i < N; i++) {
        sum += (double)w[i];
        squares += (double)w[i] * (double)w[i];
        neighbours += i == 0 ? 0.0 : (double)w[i] * (double)w[i - 1];
        beyond += fabs((double)w[i]) > 2.0 * sigma;
    }
    /* Four standard errors of each: sigma / sqrt(n), sigma / sqrt(2 n),
     * sigma^2 / sqrt(n), sqrt(p (1 - p) / n) with p = 0.0455003. */
    ck_assert_double_lt(fabs(sum / N), 4.0 * sigma / sqrt(N));
    ck_assert_double_lt(fabs(sqrt(squares / N) - sigma),
                        4.0 * sigma / sqrt(2.0 * N));
    ck_assert_double_lt(fabs(neighbours / N), 4.0 * sigma * sigma / sqrt(N));
    ck_assert_double_lt(fabs((double)beyond / N - 0.0455003),
                        4.0 * sqrt(0.0455 * 0.9545 / N));
    qrb_noise_destroy(attack);
    qrb_model_destroy(model);
    free(w);
}
END_TEST

/* A runner of the host: the last task first, each on another worker. */
static void run_backwards(size_t tasks, size_t workers, qrb_task_fn run,
                          void *arg, void *user)
{
    (void)user;
    for (size_t task = tasks; task-- > 0;)
        run(task, task % workers, arg);
}

enum { ROWS = 230, COLS = 643, SMALL = 77 };

struct outcome {
    float w[ROWS * COLS]; /* 2.3 blocks */
    float g[ROWS * COLS];
    double v[SMALL];
    double distance;
    double loss;
    double ratio;
};

/* Attack by std, then pull at an anchor, with so many threads; a NULL runner
 * is the default one. */
static struct outcome *attack_and_pull(size_t threads, qrb_runner_fn runner)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_anchor_options pull = QRB_ANCHOR_OPTIONS_INIT;
    struct outcome *outcome = calloc(1, sizeof *outcome);
    qrb_context *context = NULL;
    qrb_model *model;
    qrb_noise *attack;
    qrb_noise *anchor = NULL;

    options.threads = threads;
    options.runner = runner;
    ck_assert_int_eq(qrb_context_create(&options, &context), QRB_OK);
    for (int i = 0; i < ROWS * COLS; i++) {
        outcome->w[i] = sinf((float)i);
        outcome->g[i] = cosf(0.3f * (float)i);
    }
    for (int i = 0; i < SMALL; i++)
        outcome->v[i] = sqrt(i);
    model = empty_model(context);
    add(model, "w", QRB_F32, ROWS, COLS, 0, outcome->w, outcome->g);
    add(model, "v", QRB_F64, SMALL, 1, 0, outcome->v, NULL);
    pull.strength = 0.7;
    ASSERT_OK(context, qrb_noise_create_anchor(context, &pull, &anchor));
    ASSERT_OK(context, qrb_noise_bind(anchor, model, &everything));
    ASSERT_OK(context, qrb_anchor_snapshot(anchor));
    attack = attack_on(model, 0.01, 3, QRB_SIGMA_RELATIVE);
    ASSERT_OK(context, qrb_attack_apply(attack));
    ASSERT_OK(context, qrb_noise_add_grad(anchor, NULL));
    ASSERT_OK(context, qrb_noise_post_step(anchor, 0.1));
    ASSERT_OK(context, qrb_anchor_distance(anchor, &outcome->distance));
    ASSERT_OK(context, qrb_anchor_loss(anchor, &outcome->loss));
    outcome->ratio = qrb_anchor_gradient_ratio(anchor);
    qrb_noise_destroy(attack);
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
    qrb_context_destroy(context);
    return outcome;
}

START_TEST(bits_do_not_depend_on_threads_or_runner)
{
    struct outcome *alone = attack_and_pull(1, NULL);
    struct outcome *outcomes[3] = {
        attack_and_pull(2, NULL),
        attack_and_pull(3, NULL),
        attack_and_pull(3, run_backwards),
    };

    ck_assert_double_gt(alone->distance, 0.0);
    ck_assert_double_gt(alone->ratio, 0.0);
    for (int i = 0; i < 3; i++) {
        ck_assert_mem_eq(alone, outcomes[i], sizeof *alone);
        free(outcomes[i]);
    }
    free(alone);
}
END_TEST

START_TEST(strided_weights_get_the_bits_of_dense_ones)
{
    enum { GAP = 3 };
    static float dense[60 * 50];
    static float strided[60 * (50 + GAP)];
    qrb_model *model = empty_model(ctx);
    qrb_model *other = empty_model(ctx);
    qrb_noise *attack;
    qrb_noise *twin;

    for (int i = 0; i < 60 * 50; i++)
        dense[i] = strided[i / 50 * (50 + GAP) + i % 50] = sinf((float)i);
    for (int i = 0; i < 60; i++)
        for (int j = 0; j < GAP; j++)
            strided[i * (50 + GAP) + 50 + j] = 9.0f;
    add(model, "w", QRB_F32, 60, 50, 0, dense, NULL);
    add(other, "w", QRB_F32, 60, 50, GAP, strided, NULL);
    attack = attack_on(model, 0.1, 1, QRB_SIGMA_RELATIVE);
    twin = attack_on(other, 0.1, 1, QRB_SIGMA_RELATIVE);
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    ASSERT_OK(ctx, qrb_perturb_begin(twin));
    ck_assert_float_ne(dense[7], sinf(7.0f));
    for (int i = 0; i < 60 * 50; i++)
        ck_assert_float_eq(dense[i], strided[i / 50 * (50 + GAP) + i % 50]);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    ASSERT_OK(ctx, qrb_perturb_end(twin));
    for (int i = 0; i < 60 * 50; i++)
        ck_assert_float_eq(sinf((float)i),
                           strided[i / 50 * (50 + GAP) + i % 50]);
    for (int i = 0; i < 60; i++)
        for (int j = 0; j < GAP; j++) /* what lies between is not ours */
            ck_assert_float_eq(strided[i * (50 + GAP) + 50 + j], 9.0f);
    qrb_noise_destroy(attack);
    qrb_noise_destroy(twin);
    qrb_model_destroy(model);
    qrb_model_destroy(other);
}
END_TEST

START_TEST(a_draw_does_not_depend_on_what_else_is_attacked)
{
    struct mock_host *host = NULL;
    const qrb_filter fc2 = { sizeof fc2, 0, "*fc2" };
    qrb_attack_options options = QRB_ATTACK_OPTIONS_INIT;
    qrb_noise *attack = NULL;
    qrb_noise *one = NULL;
    float with_others[MOCK_DIM * MOCK_HIDDEN];
    float fc1;

    options.sigma = 0.5;
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &attack));
    ASSERT_OK(ctx, qrb_noise_bind(attack, host->model, NULL));
    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, &options, &one));
    ASSERT_OK(ctx, qrb_noise_bind(one, host->model, &fc2));
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    memcpy(with_others, host->weights[MOCK_FC2], sizeof with_others);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    fc1 = host->weights[MOCK_FC1][0];
    ASSERT_OK(ctx, qrb_perturb_begin(one));
    ck_assert_mem_eq(with_others, host->weights[MOCK_FC2], sizeof with_others);
    ck_assert_float_eq(fc1, host->weights[MOCK_FC1][0]);
    ASSERT_OK(ctx, qrb_perturb_end(one));
    /* Another seed is another draw. */
    ASSERT_OK(ctx, qrb_attack_set(one, 0.5, 1));
    ASSERT_OK(ctx, qrb_perturb_begin(one));
    ck_assert_mem_ne(with_others, host->weights[MOCK_FC2], sizeof with_others);
    qrb_noise_destroy(one);
    qrb_noise_destroy(attack);
    mock_host_destroy(host);
}
END_TEST

START_TEST(sigma_zero_is_the_identity_bit_for_bit)
{
    float w[4] = { -0.0f, NAN, INFINITY, 1e-45f };
    float before[4];
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;

    memcpy(before, w, sizeof w);
    add(model, "w", QRB_F32, 2, 2, 0, w, NULL);
    attack = attack_on(model, 0.0, 1,
                       _i == 0 ? QRB_SIGMA_ABSOLUTE : QRB_SIGMA_RELATIVE);
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    ck_assert_mem_eq(w, before, sizeof w);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    ck_assert_mem_eq(w, before, sizeof w);
    qrb_noise_destroy(attack);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(relative_noise_scales_with_each_tensor)
{
    enum { N = 40000 };
    static float small[N];
    static float large[N];
    static float constant[N];
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;
    float *const weights[2] = { small, large };
    const double deviations[2] = { 0.5, 50.0 };

    for (int i = 0; i < N; i++) {
        small[i] = 7.0f + (i % 2 == 0 ? 0.5f : -0.5f);
        large[i] = i % 2 == 0 ? 50.0f : -50.0f;
        constant[i] = 3.0f;
    }
    add(model, "small", QRB_F32, N, 1, 0, small, NULL);
    add(model, "large", QRB_F32, N, 1, 0, large, NULL);
    add(model, "constant", QRB_F32, N, 1, 0, constant, NULL);
    attack = attack_on(model, 0.1, 9, QRB_SIGMA_RELATIVE);
    ASSERT_OK(ctx, qrb_attack_apply(attack));
    for (int t = 0; t < 2; t++) {
        double squares = 0.0;

        for (int i = 0; i < N; i++) {
            const double clean = t == 0 ? 7.0 + (i % 2 == 0 ? 0.5 : -0.5)
                                        : (i % 2 == 0 ? 50.0 : -50.0);

            squares += ((double)weights[t][i] - clean) *
                       ((double)weights[t][i] - clean);
        }
        ck_assert_double_eq_tol(sqrt(squares / N) / (0.1 * deviations[t]), 1.0,
                                4.0 / sqrt(2.0 * N));
    }
    for (int i = 0; i < N; i++)
        ck_assert_float_eq(constant[i], 3.0f);
    qrb_noise_destroy(attack);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(a_deviation_that_is_not_finite_is_refused_before_anything_changes)
{
    float good[2] = { 1.0f, 2.0f };
    float bad[2] = { 1.0f, NAN };
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;

    add(model, "good", QRB_F32, 2, 1, 0, good, NULL);
    add(model, "bad", QRB_F32, 2, 1, 0, bad, NULL);
    attack = attack_on(model, 1.0, 1, QRB_SIGMA_RELATIVE);
    ASSERT_FAILS(ctx, qrb_perturb_begin(attack), QRB_E_NOT_FINITE, "bad: ");
    ck_assert_float_eq(good[0], 1.0f);
    ASSERT_FAILS(ctx, qrb_perturb_end(attack), QRB_E_STATE, "nothing");
    qrb_noise_destroy(attack);
    qrb_model_destroy(model);
}
END_TEST

/* --- the bracket */

struct bracket {
    struct mock_host *host;
    qrb_noise *attack;
    float *before;
};

static struct bracket open_bracket(void)
{
    struct bracket bracket = { NULL, NULL, NULL };

    ASSERT_OK(ctx,
              mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &bracket.host));
    bracket.host->weights[MOCK_FC1][0] = -0.0f;
    bracket.host->weights[MOCK_FC1][1] = NAN;
    bracket.host->weights[MOCK_FC1][2] = -INFINITY;
    bracket.before =
        calloc(mock_weight_count(bracket.host), sizeof *bracket.before);
    mock_copy_weights(bracket.host, bracket.before);
    bracket.attack = attack_on(bracket.host->model, 0.1, 7, QRB_SIGMA_ABSOLUTE);
    return bracket;
}

static void close_bracket(struct bracket *bracket)
{
    qrb_noise_destroy(bracket->attack);
    mock_host_destroy(bracket->host);
    free(bracket->before);
}

START_TEST(a_bracket_restores_every_bit_and_can_be_opened_again)
{
    struct bracket bracket = open_bracket();
    float *first = calloc(mock_weight_count(bracket.host), sizeof *first);

    ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack), QRB_E_STATE,
                 "perturbs nothing");
    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    ck_assert(!mock_weights_equal(bracket.host, bracket.before));
    mock_copy_weights(bracket.host, first);
    ASSERT_FAILS(ctx, qrb_perturb_begin(bracket.attack), QRB_E_STATE,
                 "is perturbed until qrb_perturb_end()");
    ck_assert(mock_weights_equal(bracket.host, first));
    ASSERT_OK(ctx, qrb_perturb_end(bracket.attack));
    ck_assert(mock_weights_equal(bracket.host, bracket.before));
    ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack), QRB_E_STATE,
                 "perturbs nothing");
    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    ck_assert(mock_weights_equal(bracket.host, first)); /* the same draw */
    ASSERT_OK(ctx, qrb_perturb_end(bracket.attack));
    free(first);
    close_bracket(&bracket);
}
END_TEST

START_TEST(the_end_of_a_noise_or_of_its_model_restores_first)
{
    struct bracket bracket = open_bracket();
    float *const fc2 = bracket.host->weights[MOCK_FC2];
    const float before = fc2[0];

    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    qrb_noise_destroy(bracket.attack);
    ck_assert(mock_weights_equal(bracket.host, bracket.before));

    bracket.attack = attack_on(bracket.host->model, 0.1, 7, QRB_SIGMA_ABSOLUTE);
    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    ck_assert_float_ne(fc2[0], before);
    qrb_model_destroy(bracket.host->model);
    bracket.host->model = NULL;
    ck_assert_float_eq(fc2[0], before);
    ASSERT_FAILS(ctx, qrb_perturb_begin(bracket.attack), QRB_E_STATE,
                 "not bound");
    close_bracket(&bracket);
}
END_TEST

START_TEST(a_noise_whose_model_went_can_be_bound_to_another)
{
    struct bracket bracket = open_bracket();
    struct mock_host *next = NULL;
    const float *weights;
    float before;

    qrb_model_destroy(bracket.host->model);
    bracket.host->model = NULL;
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 2, NULL, &next));
    weights = next->weights[MOCK_HEAD];
    before = weights[0];
    ASSERT_OK(ctx, qrb_noise_bind(bracket.attack, next->model, &everything));
    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    ck_assert_float_ne(weights[0], before);
    ASSERT_OK(ctx, qrb_perturb_end(bracket.attack));
    ck_assert_float_eq(weights[0], before);
    mock_host_destroy(next);
    close_bracket(&bracket);
}
END_TEST

START_TEST(a_weight_is_perturbed_by_one_noise_at_a_time)
{
    struct bracket bracket = open_bracket();
    const qrb_filter head = { sizeof head, UINT64_C(1) << QRB_ROLE_HEAD, NULL };
    qrb_noise *second = NULL;
    qrb_noise *anchor = NULL;
    qrb_snapshot *snapshot = NULL;
    qrb_parameter parameter = QRB_PARAMETER_INIT;

    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, NULL, &second));
    ASSERT_OK(ctx, qrb_noise_bind(second, bracket.host->model, &head));
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, NULL, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, bracket.host->model, &head));
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    ASSERT_OK(ctx, qrb_snapshot_create(bracket.host->model, &head, &snapshot));
    ASSERT_OK(ctx,
              qrb_model_parameter(bracket.host->model, MOCK_HEAD, &parameter));

    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    ASSERT_FAILS(ctx, qrb_perturb_begin(second), QRB_E_STATE,
                 "head: is perturbed");
    ASSERT_FAILS(ctx, qrb_attack_apply(second), QRB_E_STATE,
                 "head: is perturbed");
    ASSERT_FAILS(ctx, qrb_noise_post_step(anchor, 0.1), QRB_E_STATE,
                 "head: is perturbed");
    ASSERT_FAILS(ctx, qrb_snapshot_restore(snapshot), QRB_E_STATE,
                 "head: is perturbed");
    ASSERT_FAILS(ctx,
                 qrb_model_weights_changed(bracket.host->model, MOCK_HEAD,
                                           parameter.weight,
                                           parameter.gradient),
                 QRB_E_STATE, "head: is perturbed");
    ASSERT_FAILS(ctx, qrb_attack_set(bracket.attack, 0.2, 1), QRB_E_STATE,
                 "applied");
    ASSERT_OK(ctx, qrb_perturb_end(bracket.attack));
    ck_assert(mock_weights_equal(bracket.host, bracket.before));
    ASSERT_OK(ctx, qrb_perturb_begin(second));
    ASSERT_OK(ctx, qrb_perturb_end(second));
    qrb_snapshot_destroy(snapshot);
    /* In any order, while the model is there and after. */
    qrb_noise_destroy(second);
    close_bracket(&bracket);
    qrb_noise_destroy(anchor);
}
END_TEST

START_TEST(parameters_that_share_memory_are_restored)
{
    float w[6] = { 1, 2, 3, 4, 5, 6 };
    const float before[6] = { 1, 2, 3, 4, 5, 6 };
    qrb_model *model = empty_model(ctx);
    qrb_noise *attack;

    add(model, "all", QRB_F32, 3, 2, 0, w, NULL);
    add(model, "last", QRB_F32, 2, 2, 0, w + 2, NULL);
    attack = attack_on(model, 1.0, 1, QRB_SIGMA_ABSOLUTE);
    ASSERT_OK(ctx, qrb_perturb_begin(attack));
    ck_assert_mem_ne(w, before, sizeof w);
    ASSERT_OK(ctx, qrb_perturb_end(attack));
    ck_assert_mem_eq(w, before, sizeof w);
    qrb_noise_destroy(attack);
    qrb_model_destroy(model);
}
END_TEST

/* weights_written is called once a parameter on either side of a bracket: ten
 * calls, and each of them fails in turn. */
START_TEST(weights_are_unchanged_whichever_call_of_the_host_fails)
{
    for (int code = -1; code <= 1; code += 2)
        for (size_t k = 1; k <= 2 * MOCK_PARAMETERS; k++) {
            struct bracket bracket = open_bracket();
            qrb_status status;

            bracket.host->fail_at = k;
            bracket.host->fail_code = code * (int)k;
            status = qrb_perturb_begin(bracket.attack);
            if (k <= MOCK_PARAMETERS) {
                ck_assert_int_eq(status, QRB_E_CALLBACK);
                ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack), QRB_E_STATE,
                             "perturbs nothing");
                /* Those who heard of it heard that it was taken back. */
                ck_assert_uint_eq(bracket.host->calls, 2 * k);
            } else {
                ck_assert_int_eq(status, QRB_OK);
                ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack),
                             QRB_E_CALLBACK, "weights_written");
                ck_assert_uint_eq(bracket.host->calls, 2 * MOCK_PARAMETERS);
            }
            ck_assert_int_eq(qrb_context_callback_code(ctx), code * (int)k);
            ck_assert(mock_weights_equal(bracket.host, bracket.before));
            ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
            ASSERT_OK(ctx, qrb_perturb_end(bracket.attack));
            close_bracket(&bracket);
        }
}
END_TEST

/* Another code at each call. */
static void count_down(struct mock_host *host, enum mock_callback callback)
{
    (void)callback;
    host->fail_code = -(int)host->calls;
}

START_TEST(the_first_failure_is_the_one_that_is_told)
{
    struct bracket bracket = open_bracket();

    bracket.host->inside = count_down;
    bracket.host->fail_at = 3;
    bracket.host->fail_many = 100;
    ASSERT_FAILS(ctx, qrb_perturb_begin(bracket.attack), QRB_E_CALLBACK,
                 "returned -3");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -3);
    bracket.host->fail_at = 0;
    ASSERT_OK(ctx, qrb_perturb_begin(bracket.attack));
    bracket.host->calls = 0;
    bracket.host->fail_at = 2;
    ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack), QRB_E_CALLBACK,
                 "returned -2");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -2);
    ck_assert(mock_weights_equal(bracket.host, bracket.before));
    bracket.host->inside = NULL;
    close_bracket(&bracket);
}
END_TEST

START_TEST(an_attack_for_good_is_whole_or_not_at_all)
{
    struct bracket bracket = open_bracket();

    for (size_t k = 1; k <= MOCK_PARAMETERS; k++) {
        bracket.host->calls = 0;
        bracket.host->fail_at = k;
        /* The host answers so to what it hears afterwards, too. */
        bracket.host->fail_many = 100;
        bracket.host->fail_code = -2;
        ASSERT_FAILS(ctx, qrb_attack_apply(bracket.attack), QRB_E_CALLBACK,
                     "weights_written");
        ck_assert(mock_weights_equal(bracket.host, bracket.before));
    }
    bracket.host->fail_at = 0;
    ASSERT_OK(ctx, qrb_attack_apply(bracket.attack));
    ck_assert(!mock_weights_equal(bracket.host, bracket.before));
    mock_copy_weights(bracket.host, bracket.before);
    ASSERT_FAILS(ctx, qrb_perturb_end(bracket.attack), QRB_E_STATE, "nothing");
    qrb_noise_destroy(bracket.attack);
    bracket.attack = NULL;
    ck_assert(mock_weights_equal(bracket.host, bracket.before));
    close_bracket(&bracket);
}
END_TEST

START_TEST(noises_that_make_no_sense_are_refused)
{
    struct bracket bracket = open_bracket();
    qrb_attack_options attack_options = QRB_ATTACK_OPTIONS_INIT;
    qrb_anchor_options anchor_options = QRB_ANCHOR_OPTIONS_INIT;
    const qrb_filter none = { sizeof none, 0, "nothing" };
    const double bad[] = { -1e-300, NAN, INFINITY };
    qrb_context *other_ctx = make_context(NULL);
    qrb_model *other = empty_model(other_ctx);
    qrb_noise *noise = NULL;
    double value = 0.0;

    ck_assert_int_eq(qrb_noise_create_attack(NULL, NULL, &noise),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_noise_create_attack(ctx, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_noise_create_anchor(NULL, NULL, &noise),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_noise_create_anchor(ctx, NULL, NULL),
                     QRB_E_INVALID_ARG);
    for (int i = 0; i < 3; i++) {
        attack_options.sigma = bad[i];
        anchor_options.strength = bad[i];
        ASSERT_FAILS(ctx, qrb_noise_create_attack(ctx, &attack_options, &noise),
                     QRB_E_INVALID_ARG, "sigma is");
        ASSERT_FAILS(ctx, qrb_noise_create_anchor(ctx, &anchor_options, &noise),
                     QRB_E_INVALID_ARG, "strength is");
        ASSERT_FAILS(ctx, qrb_attack_set(bracket.attack, bad[i], 0),
                     QRB_E_INVALID_ARG, "sigma is");
        ASSERT_FAILS(ctx, qrb_noise_post_step(bracket.attack, bad[i]),
                     QRB_E_INVALID_ARG, "lr is");
    }
    attack_options.sigma = 1.0;
    attack_options.scale = 2;
    ASSERT_FAILS(ctx, qrb_noise_create_attack(ctx, &attack_options, &noise),
                 QRB_E_INVALID_ARG, "scale is 2");
    attack_options.scale = 0;
    attack_options.reserved = 1;
    ASSERT_FAILS(ctx, qrb_noise_create_attack(ctx, &attack_options, &noise),
                 QRB_E_INVALID_ARG, "reserved 1");
    anchor_options.strength = 1.0;
    anchor_options.normalisation = 3;
    ASSERT_FAILS(ctx, qrb_noise_create_anchor(ctx, &anchor_options, &noise),
                 QRB_E_INVALID_ARG, "normalisation is 3");
    anchor_options.normalisation = 0;
    anchor_options.application = 3;
    ASSERT_FAILS(ctx, qrb_noise_create_anchor(ctx, &anchor_options, &noise),
                 QRB_E_INVALID_ARG, "application 3");
    ck_assert_ptr_null(noise);

    ASSERT_FAILS(ctx, qrb_noise_bind(bracket.attack, bracket.host->model, NULL),
                 QRB_E_STATE, "bound once");
    ASSERT_OK(ctx, qrb_noise_create_attack(ctx, NULL, &noise));
    ck_assert_int_eq(qrb_noise_bind(NULL, bracket.host->model, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_noise_bind(noise, NULL, NULL), QRB_E_INVALID_ARG,
                 "model is NULL");
    ASSERT_FAILS(ctx, qrb_noise_bind(noise, other, NULL), QRB_E_INVALID_ARG,
                 "another context");
    ASSERT_FAILS(ctx, qrb_noise_bind(noise, bracket.host->model, &none),
                 QRB_E_INVALID_ARG, "selects none");
    ASSERT_FAILS(ctx, qrb_perturb_begin(noise), QRB_E_STATE, "not bound");
    ASSERT_FAILS(ctx, qrb_attack_apply(noise), QRB_E_STATE, "not bound");
    ASSERT_FAILS(ctx, qrb_noise_add_grad(noise, NULL), QRB_E_STATE,
                 "not bound");

    /* What an anchor answers, an attack does not, and the reverse. */
    ASSERT_FAILS(ctx, qrb_anchor_snapshot(bracket.attack), QRB_E_INVALID_ARG,
                 "an attack is no anchor");
    ASSERT_FAILS(ctx, qrb_anchor_set_from(bracket.attack, bracket.host->model),
                 QRB_E_INVALID_ARG, "an attack is no anchor");
    ASSERT_FAILS(ctx, qrb_anchor_distance(bracket.attack, &value),
                 QRB_E_INVALID_ARG, "an attack is no anchor");
    ASSERT_FAILS(ctx, qrb_anchor_loss(bracket.attack, &value),
                 QRB_E_INVALID_ARG, "an attack is no anchor");
    ck_assert_double_nan(qrb_anchor_gradient_ratio(bracket.attack));
    ck_assert_double_nan(qrb_anchor_gradient_ratio(NULL));
    value = 5.0;
    ASSERT_OK(ctx, qrb_noise_add_grad(bracket.attack, &value));
    ck_assert_double_eq(value, 0.0);
    ASSERT_OK(ctx, qrb_noise_post_step(bracket.attack, 0.1));
    ck_assert(mock_weights_equal(bracket.host, bracket.before));

    ck_assert_int_eq(qrb_perturb_begin(NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_perturb_end(NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_attack_apply(NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_attack_set(NULL, 0.0, 0), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_noise_add_grad(NULL, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_noise_post_step(NULL, 0.0), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_anchor_snapshot(NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_anchor_set_from(NULL, bracket.host->model),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_anchor_distance(NULL, &value), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_anchor_loss(NULL, &value), QRB_E_INVALID_ARG);
    qrb_noise_destroy(NULL);
    qrb_noise_destroy(noise);
    close_bracket(&bracket);
    qrb_model_destroy(other);
    qrb_context_destroy(other_ctx);
}
END_TEST

/* --- the anchor */

/* The two tensors of methods G4.2. */
struct pair {
    qrb_model *model;
    qrb_noise *anchor;
    double w1[4];
    double g1[4];
    double w2[3];
    double g2[3];
};

static void make_pair(struct pair *pair, double strength,
                      uint32_t normalisation, uint32_t application)
{
    const qrb_anchor_options options = { sizeof options, strength,
                                         normalisation, application };
    const double a1[4] = { 1.0, 1.5, 3.5, 4.0 };
    const double a2[3] = { 0.0, 0.0, 1.0 };
    const double w1[4] = { 1.0, 2.0, 3.0, 4.0 };
    const double w2[3] = { 0.5, -0.5, 1.0 };

    memset(pair, 0, sizeof *pair);
    pair->model = empty_model(ctx);
    add(pair->model, "W1", QRB_F64, 2, 2, 0, pair->w1, pair->g1);
    add(pair->model, "W2", QRB_F64, 3, 1, 0, pair->w2, pair->g2);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &options, &pair->anchor));
    ASSERT_OK(ctx, qrb_noise_bind(pair->anchor, pair->model, NULL));
    memcpy(pair->w1, a1, sizeof a1);
    memcpy(pair->w2, a2, sizeof a2);
    ASSERT_OK(ctx, qrb_anchor_snapshot(pair->anchor));
    memcpy(pair->w1, w1, sizeof w1);
    memcpy(pair->w2, w2, sizeof w2);
}

static void free_pair(struct pair *pair)
{
    qrb_noise_destroy(pair->anchor);
    qrb_model_destroy(pair->model);
}

/* Methods G4.2. */
START_TEST(anchor_loss_and_gradient_are_the_golden_ones)
{
    const double golden1[4] = { 0.0, 0.125, -0.125, 0.0 };
    const double golden2[3] = { 1.0 / 6.0, -1.0 / 6.0, 0.0 };
    struct pair pair;
    double loss = 0.0;

    make_pair(&pair, 1.0, QRB_ANCHOR_MEAN_OF_MEANS, QRB_ANCHOR_GRADIENT);
    ck_assert_double_nan(qrb_anchor_gradient_ratio(pair.anchor));
    ASSERT_OK(ctx, qrb_anchor_loss(pair.anchor, &loss));
    ck_assert_double_eq_tol(loss, 0.1458333333, 0.5e-10);
    ASSERT_OK(ctx, qrb_noise_add_grad(pair.anchor, &loss));
    ck_assert_double_eq_tol(loss, 0.1458333333, 0.5e-10);
    for (int i = 0; i < 4; i++)
        ck_assert_double_eq_tol(pair.g1[i], golden1[i], 1e-15);
    for (int i = 0; i < 3; i++)
        ck_assert_double_eq_tol(pair.g2[i], golden2[i], 1e-15);
    /* The loss's own gradient was zero. */
    ck_assert_double_infinite(qrb_anchor_gradient_ratio(pair.anchor));
    ASSERT_OK(ctx, qrb_noise_post_step(pair.anchor, 1.0));
    ck_assert_double_eq(pair.w1[1], 2.0);
    free_pair(&pair);
}
END_TEST

/* |w - a|^2 is 0.5 in each tensor. */
START_TEST(normalisations_and_strength_scale_the_loss)
{
    const double expected[3] = { (0.125 + 0.5 / 3.0) / 2.0, 0.5, 1.0 / 7.0 };

    for (uint32_t normalisation = 0; normalisation < 3; normalisation++)
        for (double strength = 0.0; strength <= 3.0; strength += 1.5) {
            struct pair pair;
            double loss = -1.0;
            double distance = -1.0;

            make_pair(&pair, strength, normalisation, QRB_ANCHOR_GRADIENT);
            ASSERT_OK(ctx, qrb_anchor_loss(pair.anchor, &loss));
            ck_assert_double_eq_tol(loss, strength * expected[normalisation],
                                    1e-15);
            ASSERT_OK(ctx, qrb_anchor_distance(pair.anchor, &distance));
            ck_assert_double_eq_tol(distance, 1.0, 1e-15);
            free_pair(&pair);
        }
}
END_TEST

/* The loss is quadratic: central differences are exact up to rounding. */
START_TEST(gradients_are_those_of_the_loss_in_every_normalisation)
{
    for (uint32_t normalisation = 0; normalisation < 3; normalisation++) {
        const double step = 1e-3;
        struct pair pair;

        make_pair(&pair, 0.7, normalisation, QRB_ANCHOR_GRADIENT);
        for (int i = 0; i < 7; i++) {
            double *w = i < 4 ? &pair.w1[i] : &pair.w2[i - 4];
            const double *g = i < 4 ? &pair.g1[i] : &pair.g2[i - 4];
            const double before = *w;
            double above;
            double below;

            memset(pair.g1, 0, sizeof pair.g1);
            memset(pair.g2, 0, sizeof pair.g2);
            ASSERT_OK(ctx, qrb_noise_add_grad(pair.anchor, NULL));
            *w = before + step;
            ASSERT_OK(ctx, qrb_anchor_loss(pair.anchor, &above));
            *w = before - step;
            ASSERT_OK(ctx, qrb_anchor_loss(pair.anchor, &below));
            *w = before;
            ck_assert_double_eq_tol((above - below) / (2.0 * step), *g, 1e-12);
        }
        free_pair(&pair);
    }
}
END_TEST

START_TEST(gradients_are_added_to_those_that_are_there)
{
    struct pair pair;

    make_pair(&pair, 2.0, QRB_ANCHOR_SUM, QRB_ANCHOR_GRADIENT);
    pair.g1[0] = 3.0;
    pair.g1[1] = 4.0;
    ASSERT_OK(ctx, qrb_noise_add_grad(pair.anchor, NULL));
    ck_assert_double_eq(pair.g1[0], 3.0);
    ck_assert_double_eq(pair.g1[1], 4.0 + 2.0 * 0.5);
    /* |2 (w - a)| = 2 beside |g| = 5 before the anchor added its own. */
    ck_assert_double_eq_tol(qrb_anchor_gradient_ratio(pair.anchor), 0.4, 1e-15);
    free_pair(&pair);
}
END_TEST

START_TEST(decoupled_pulls_leave_gradients_alone_and_report_their_ratio)
{
    struct pair pair;
    double loss = 9.0;

    make_pair(&pair, 2.0, QRB_ANCHOR_MEAN_GLOBAL,
              _i == 0 ? QRB_ANCHOR_DECOUPLED : QRB_ANCHOR_PROXIMAL);
    pair.g2[2] = -8.0;
    ASSERT_OK(ctx, qrb_noise_add_grad(pair.anchor, &loss));
    ck_assert_double_eq(loss, 0.0);
    ck_assert_double_eq(pair.g1[1], 0.0);
    ck_assert_double_eq(pair.g2[2], -8.0);
    /* |2 (w - a)| = 2 whatever the normalisation, beside 8. */
    ck_assert_double_eq_tol(qrb_anchor_gradient_ratio(pair.anchor), 0.25,
                            1e-15);
    free_pair(&pair);
}
END_TEST

/* Methods 4.4: w = 1, a = .4, lr = .1, lambda_d = .5. */
START_TEST(decoupled_and_proximal_pulls_are_the_golden_ones)
{
    const double golden = _i == 0 ? 0.97 : 0.9714285714;
    qrb_anchor_options options = QRB_ANCHOR_OPTIONS_INIT;
    double w = 0.4;
    float v = 0.4f;
    qrb_model *model = empty_model(ctx);
    qrb_noise *anchor = NULL;

    options.strength = 0.5;
    options.application = _i == 0 ? QRB_ANCHOR_DECOUPLED : QRB_ANCHOR_PROXIMAL;
    add(model, "w", QRB_F64, 1, 1, 0, &w, NULL);
    add(model, "v", QRB_F32, 1, 1, 0, &v, NULL);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &options, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, model, NULL));
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    w = 1.0;
    v = 1.0f;
    ASSERT_OK(ctx, qrb_noise_post_step(anchor, 0.0));
    ck_assert_double_eq(w, 1.0);
    ASSERT_OK(ctx, qrb_noise_post_step(anchor, 0.1));
    ck_assert_double_eq_tol(w, golden, 0.5e-10);
    ck_assert_float_eq_tol(v, (float)golden, 1e-7f);
    /* Without gradients there is nothing to compare the pull with. */
    ASSERT_OK(ctx, qrb_noise_add_grad(anchor, NULL));
    ck_assert_double_nan(qrb_anchor_gradient_ratio(anchor));
    ASSERT_FAILS(ctx, qrb_noise_post_step(anchor, INFINITY), QRB_E_INVALID_ARG,
                 "lr is");
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(a_pull_too_strong_to_be_a_number_is_refused)
{
    struct pair pair;

    make_pair(&pair, 1e300, QRB_ANCHOR_SUM, QRB_ANCHOR_PROXIMAL);
    ASSERT_FAILS(ctx, qrb_noise_post_step(pair.anchor, 1e300),
                 QRB_E_INVALID_ARG, "too large");
    ck_assert_double_eq(pair.w1[1], 2.0);
    ASSERT_OK(ctx, qrb_noise_post_step(pair.anchor, 1.0));
    ck_assert_double_eq(pair.w1[1], 1.5); /* all the way, and no further */
    free_pair(&pair);
}
END_TEST

START_TEST(strength_zero_pulls_nothing_in_any_form)
{
    struct pair pair;
    double loss = 1.0;

    make_pair(&pair, 0.0, QRB_ANCHOR_MEAN_OF_MEANS, (uint32_t)_i);
    pair.w1[0] = INFINITY; /* 0 times this would be no number */
    pair.g1[0] = -0.0;
    ASSERT_OK(ctx, qrb_noise_add_grad(pair.anchor, &loss));
    ASSERT_OK(ctx, qrb_noise_post_step(pair.anchor, 1.0));
    ck_assert_double_eq(loss, 0.0);
    ck_assert_double_eq(pair.w1[0], INFINITY);
    ck_assert(signbit(pair.g1[0]));
    ck_assert_double_eq(pair.w1[1], 2.0);
    free_pair(&pair);
}
END_TEST

START_TEST(weights_at_the_anchor_stay_bit_for_bit)
{
    enum { N = 5000 };
    static float w[N];
    static float before[N];
    qrb_anchor_options options = QRB_ANCHOR_OPTIONS_INIT;
    qrb_model *model = empty_model(ctx);
    qrb_noise *anchor = NULL;

    for (int i = 0; i < N; i++)
        before[i] = w[i] = expf(20.0f * sinf((float)i));
    options.application = _i == 0 ? QRB_ANCHOR_DECOUPLED : QRB_ANCHOR_PROXIMAL;
    add(model, "w", QRB_F32, N, 1, 0, w, NULL);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &options, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, model, NULL));
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    for (int step = 0; step < 5; step++)
        ASSERT_OK(ctx, qrb_noise_post_step(anchor, 0.003));
    ck_assert_mem_eq(w, before, sizeof w);
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(the_printed_strength_is_not_lost_in_float)
{
    enum { N = 896 }; /* factor 1e-5 * 2 / N = 2.2e-8 on w - a = 1e-3 */
    static float w[N];
    static float g[N];
    const qrb_anchor_options paper = QRB_ANCHOR_OPTIONS_PAPER;
    qrb_model *model = empty_model(ctx);
    qrb_noise *anchor = NULL;

    add(model, "w", QRB_F32, 1, N, 0, w, g);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &paper, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, model, NULL));
    for (int i = 0; i < N; i++)
        w[i] = 1.0f;
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    for (int i = 0; i < N; i++)
        w[i] = 1.0f + 0x1p-10f;
    ASSERT_OK(ctx, qrb_noise_add_grad(anchor, NULL));
    for (int i = 0; i < N; i++)
        ck_assert_float_eq(g[i], (float)(1e-5 * 2.0 / N * 0x1p-10));
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(strided_gradients_and_weights_are_pulled)
{
    double w[2 * 3] = { 1, 2, 7, 3, 4, 7 }; /* the 7s lie between the rows */
    double g[2 * 3] = { 0 };
    const qrb_anchor_options options = { sizeof options, 1.0, QRB_ANCHOR_SUM,
                                         QRB_ANCHOR_GRADIENT };
    qrb_model *model = empty_model(ctx);
    qrb_noise *anchor = NULL;

    add(model, "w", QRB_F64, 2, 2, 1, w, g);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &options, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, model, NULL));
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    w[3] += 5.0;
    w[2] += 1.0;
    ASSERT_OK(ctx, qrb_noise_add_grad(anchor, NULL));
    for (int i = 0; i < 6; i++)
        ck_assert_double_eq(g[i], i == 3 ? 5.0 : 0.0);
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(frozen_weights_are_not_pulled)
{
    struct pair pair;

    make_pair(&pair, 1.0, QRB_ANCHOR_SUM, QRB_ANCHOR_DECOUPLED);
    pair.model->parameters[0]->flags = QRB_PARAM_FROZEN;
    ASSERT_OK(ctx, qrb_noise_post_step(pair.anchor, 0.5));
    ck_assert_double_eq(pair.w1[1], 2.0);
    ck_assert_double_eq(pair.w2[0], 0.25);
    free_pair(&pair);
}
END_TEST

START_TEST(an_anchor_without_weights_says_so)
{
    qrb_anchor_options options = QRB_ANCHOR_OPTIONS_INIT;
    struct mock_host *host = NULL;
    qrb_noise *anchor = NULL;
    double value = 3.0;

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &options, &anchor));
    ASSERT_FAILS(ctx, qrb_anchor_snapshot(anchor), QRB_E_STATE, "not bound");
    ASSERT_OK(ctx, qrb_noise_bind(anchor, host->model, NULL));
    ASSERT_FAILS(ctx, qrb_anchor_distance(anchor, &value), QRB_E_STATE,
                 "no weights");
    ASSERT_FAILS(ctx, qrb_anchor_loss(anchor, &value), QRB_E_STATE,
                 "no weights");
    ASSERT_FAILS(ctx, qrb_noise_add_grad(anchor, &value), QRB_E_STATE,
                 "no weights");
    ASSERT_FAILS(ctx, qrb_noise_post_step(anchor, 0.1), QRB_E_STATE,
                 "no weights");
    ck_assert_double_eq(value, 3.0);
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    ASSERT_FAILS(ctx, qrb_anchor_distance(anchor, NULL), QRB_E_INVALID_ARG,
                 "out is NULL");
    ASSERT_FAILS(ctx, qrb_anchor_set_from(anchor, NULL), QRB_E_INVALID_ARG,
                 "source is NULL");
    ASSERT_FAILS(ctx, qrb_perturb_begin(anchor), QRB_E_INVALID_ARG,
                 "an anchor does not perturb");
    ASSERT_FAILS(ctx, qrb_attack_set(anchor, 0.1, 0), QRB_E_INVALID_ARG,
                 "an anchor is no attack");
    qrb_noise_destroy(anchor);
    mock_host_destroy(host);
}
END_TEST

START_TEST(a_gradient_anchor_needs_gradients)
{
    const qrb_anchor_options paper = QRB_ANCHOR_OPTIONS_PAPER;
    float w[1] = { 0 };
    qrb_model *model = empty_model(ctx);
    qrb_noise *anchor = NULL;

    add(model, "w", QRB_F32, 1, 1, 0, w, NULL);
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, &paper, &anchor));
    ASSERT_FAILS(ctx, qrb_noise_bind(anchor, model, NULL), QRB_E_INVALID_ARG,
                 "w: has no gradient");
    ASSERT_FAILS(ctx, qrb_anchor_snapshot(anchor), QRB_E_STATE, "not bound");
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
}
END_TEST

START_TEST(another_models_weights_are_taken_by_name_and_copied)
{
    struct pair pair;
    qrb_model *source = empty_model(ctx);
    qrb_model *narrow = empty_model(ctx);
    float theirs2[3] = { 0.5f, -0.5f, 3.0f }; /* in another type and order */
    double theirs1[4] = { 1.0, 2.0, 3.0, 4.0 };
    double distance = 0.0;

    make_pair(&pair, 1.0, QRB_ANCHOR_SUM, QRB_ANCHOR_DECOUPLED);
    add(source, "W2", QRB_F32, 3, 1, 0, theirs2, NULL);
    ASSERT_FAILS(ctx, qrb_anchor_set_from(pair.anchor, source),
                 QRB_E_INVALID_ARG, "W1: the anchor's model has no such");
    ASSERT_OK(ctx, qrb_anchor_distance(pair.anchor, &distance));
    ck_assert_double_eq_tol(distance, 1.0, 1e-15); /* the old one is kept */
    add(source, "W1", QRB_F64, 2, 2, 0, theirs1, NULL);
    ASSERT_OK(ctx, qrb_anchor_set_from(pair.anchor, source));
    ASSERT_OK(ctx, qrb_anchor_distance(pair.anchor, &distance));
    ck_assert_double_eq_tol(distance, 2.0, 1e-15);
    theirs1[0] = 100.0;
    ASSERT_OK(ctx, qrb_anchor_distance(pair.anchor, &distance));
    ck_assert_double_eq_tol(distance, 2.0, 1e-15);
    add(narrow, "W1", QRB_F64, 1, 4, 0, theirs1, NULL);
    add(narrow, "W2", QRB_F32, 3, 1, 0, theirs2, NULL);
    ASSERT_FAILS(ctx, qrb_anchor_set_from(pair.anchor, narrow), QRB_E_SHAPE,
                 "W1: found [1, 4], expected [2, 2]");
    qrb_model_destroy(narrow);
    qrb_model_destroy(source);
    free_pair(&pair);
}
END_TEST

START_TEST(a_host_that_stops_after_a_pull_keeps_whole_weights)
{
    struct mock_host *host = NULL;
    qrb_noise *anchor = NULL;
    float before[2];

    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
    ASSERT_OK(ctx, qrb_noise_create_anchor(ctx, NULL, &anchor));
    ASSERT_OK(ctx, qrb_noise_bind(anchor, host->model, NULL));
    ASSERT_OK(ctx, qrb_anchor_snapshot(anchor));
    before[0] = host->weights[MOCK_FC1][0] += 1.0f;
    before[1] = host->weights[MOCK_FC2][0] += 1.0f;
    host->fail_at = host->calls + 1;
    host->fail_code = -4;
    ASSERT_FAILS(ctx, qrb_noise_post_step(anchor, 0.01), QRB_E_CALLBACK,
                 "weights_written");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -4);
    /* Both were pulled and both were told: a step is whole or not begun. */
    ck_assert_float_lt(host->weights[MOCK_FC1][0], before[0]);
    ck_assert_float_lt(host->weights[MOCK_FC2][0], before[1]);
    ck_assert_uint_eq(host->counts[MOCK_WEIGHTS_WRITTEN], 2);
    qrb_noise_destroy(anchor);
    mock_host_destroy(host);
}
END_TEST

/* --- memory */

static qrb_status build_attack(qrb_context *context, void *arg)
{
    struct mock_host *host = NULL;
    qrb_noise *attack = NULL;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_OWN_BATCHES, 1, NULL, &host);
    if (status == QRB_OK)
        status = qrb_noise_create_attack(context, NULL, &attack);
    if (status == QRB_OK)
        status = qrb_noise_bind(attack, host->model, &everything);
    qrb_noise_destroy(attack);
    mock_host_destroy(host);
    return status;
}

static qrb_status build_anchor(qrb_context *context, void *arg)
{
    struct mock_host *host = NULL;
    qrb_noise *anchor = NULL;
    double distance = 0.0;
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_OWN_BATCHES, 1, NULL, &host);
    if (status == QRB_OK)
        status = qrb_noise_create_anchor(context, NULL, &anchor);
    if (status == QRB_OK)
        status = qrb_noise_bind(anchor, host->model, NULL);
    if (status == QRB_OK)
        status = qrb_anchor_snapshot(anchor);
    if (status == QRB_OK) {
        host->weights[MOCK_FC1][0] += 3.0f;
        status = qrb_anchor_set_from(anchor, host->model);
        ASSERT_OK(context, qrb_anchor_distance(anchor, &distance));
        /* What failed left the anchor as it was. */
        ck_assert_double_eq_tol(distance, status == QRB_OK ? 0.0 : 3.0, 1e-6);
    }
    qrb_noise_destroy(anchor);
    mock_host_destroy(host);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_attack, NULL);
    fail_each_allocation(build_anchor, NULL);
}
END_TEST

START_TEST(a_step_with_noises_allocates_nothing)
{
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *context = make_context(&allocator);
    struct mock_host *host = NULL;
    qrb_noise *anchor = NULL;
    qrb_noise *attack;
    size_t before;

    ASSERT_OK(context,
              mock_host_create(context, MOCK_OWN_BATCHES, 1, NULL, &host));
    ASSERT_OK(context, qrb_noise_create_anchor(context, NULL, &anchor));
    ASSERT_OK(context, qrb_noise_bind(anchor, host->model, NULL));
    ASSERT_OK(context, qrb_anchor_snapshot(anchor));
    attack = attack_on(host->model, 0.1, 0, QRB_SIGMA_RELATIVE);
    before = allocator.calls;
    for (int step = 0; step < 3; step++) {
        ASSERT_OK(context, qrb_perturb_begin(attack));
        ASSERT_OK(context, qrb_perturb_end(attack));
        ASSERT_OK(context, qrb_noise_add_grad(anchor, NULL));
        ASSERT_OK(context, qrb_noise_post_step(anchor, 0.01));
    }
    ck_assert_uint_eq(allocator.calls, before);
    qrb_noise_destroy(attack);
    qrb_noise_destroy(anchor);
    mock_host_destroy(host);
    qrb_context_destroy(context);
    ck_assert_uint_eq(allocator.live, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("noise");
    TCase *attack = tcase_create("attack");
    TCase *anchor = tcase_create("anchor");

    tcase_add_checked_fixture(attack, set_up, tear_down);
    tcase_add_test(attack, element_e_of_parameter_p_takes_number_e_of_stream_p);
    tcase_add_test(attack,
                   noise_is_normal_with_mean_zero_and_the_given_deviation);
    tcase_add_test(attack, bits_do_not_depend_on_threads_or_runner);
    tcase_add_test(attack, strided_weights_get_the_bits_of_dense_ones);
    tcase_add_test(attack, a_draw_does_not_depend_on_what_else_is_attacked);
    tcase_add_loop_test(attack, sigma_zero_is_the_identity_bit_for_bit, 0, 2);
    tcase_add_test(attack, relative_noise_scales_with_each_tensor);
    tcase_add_test(
        attack,
        a_deviation_that_is_not_finite_is_refused_before_anything_changes);
    tcase_add_test(attack,
                   a_bracket_restores_every_bit_and_can_be_opened_again);
    tcase_add_test(attack, the_end_of_a_noise_or_of_its_model_restores_first);
    tcase_add_test(attack, a_noise_whose_model_went_can_be_bound_to_another);
    tcase_add_test(attack, a_weight_is_perturbed_by_one_noise_at_a_time);
    tcase_add_test(attack, parameters_that_share_memory_are_restored);
    tcase_add_test(attack,
                   weights_are_unchanged_whichever_call_of_the_host_fails);
    tcase_add_test(attack, the_first_failure_is_the_one_that_is_told);
    tcase_add_test(attack, an_attack_for_good_is_whole_or_not_at_all);
    tcase_add_test(attack, noises_that_make_no_sense_are_refused);
    suite_add_tcase(suite, attack);

    tcase_add_checked_fixture(anchor, set_up, tear_down);
    tcase_add_test(anchor, anchor_loss_and_gradient_are_the_golden_ones);
    tcase_add_test(anchor, normalisations_and_strength_scale_the_loss);
    tcase_add_test(anchor,
                   gradients_are_those_of_the_loss_in_every_normalisation);
    tcase_add_test(anchor, gradients_are_added_to_those_that_are_there);
    tcase_add_loop_test(
        anchor, decoupled_pulls_leave_gradients_alone_and_report_their_ratio, 0,
        2);
    tcase_add_loop_test(anchor,
                        decoupled_and_proximal_pulls_are_the_golden_ones, 0, 2);
    tcase_add_test(anchor, a_pull_too_strong_to_be_a_number_is_refused);
    tcase_add_loop_test(anchor, strength_zero_pulls_nothing_in_any_form, 0, 3);
    tcase_add_loop_test(anchor, weights_at_the_anchor_stay_bit_for_bit, 0, 2);
    tcase_add_test(anchor, the_printed_strength_is_not_lost_in_float);
    tcase_add_test(anchor, strided_gradients_and_weights_are_pulled);
    tcase_add_test(anchor, frozen_weights_are_not_pulled);
    tcase_add_test(anchor, an_anchor_without_weights_says_so);
    tcase_add_test(anchor, a_gradient_anchor_needs_gradients);
    tcase_add_test(anchor, another_models_weights_are_taken_by_name_and_copied);
    tcase_add_test(anchor, a_host_that_stops_after_a_pull_keeps_whole_weights);
    tcase_add_test(anchor, nothing_leaks_whichever_allocation_fails);
    tcase_add_test(anchor, a_step_with_noises_allocates_nothing);
    suite_add_tcase(suite, anchor);
    return run_suite(suite);
}
