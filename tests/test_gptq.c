/* GPTQ on arrays: the numeric cases of the specification, and what holds for
 * any weights and inputs. */
#include <float.h>
#include <math.h>

#include "core/random.h"
#include "harness.h"
#include "quant/gptq.h"

/* One matrix with the moments of its inputs. */
struct task {
    size_t rows;
    size_t cols;
    double *w;
    double *gram;
    double gram_scale;
};

/* What the solver made of it. */
struct answer {
    struct qrb__gptq_result result;
    size_t groups;
    double *values; /* [rows, cols] */
};

/* Weights of the specification: a linear congruential generator. */
static void fill(uint32_t seed, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = seed / 4294967296.0 - 0.5;
    }
}

static double random_at(uint64_t seed, size_t i)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    return qrb__random_normal(&random, i);
}

static qrb_context *context_of(size_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

static struct task make_task(size_t rows, size_t cols)
{
    return (struct task){ rows, cols, allocate(rows * cols, sizeof(double)),
                          allocate(cols * cols, sizeof(double)), 2 };
}

static void free_task(struct task *task)
{
    free(task->w);
    free(task->gram);
}

/* gram = X^T X of x [tokens, cols]. */
static void add_inputs(struct task *task, const double *x, size_t tokens)
{
    for (size_t i = 0; i < task->cols; i++)
        for (size_t j = 0; j < task->cols; j++)
            for (size_t t = 0; t < tokens; t++)
                task->gram[i * task->cols + j] +=
                    x[t * task->cols + i] * x[t * task->cols + j];
}

/* Inputs that share factors, of unlike scales. */
static struct task random_task(size_t rows, size_t cols, size_t tokens,
                               uint64_t seed)
{
    struct task task = make_task(rows, cols);
    double *x = allocate(tokens * cols, sizeof *x);

    for (size_t i = 0; i < rows * cols; i++)
        task.w[i] = random_at(seed, i);
    for (size_t t = 0; t < tokens; t++)
        for (size_t j = 0; j < cols; j++)
            x[t * cols + j] =
                (random_at(seed + 1, t * cols + j) +
                 2 * random_at(seed + 2, t * 4 + j % 4)) /
                sqrt(1 + (double)(j * 7 % cols));
    add_inputs(&task, x, tokens);
    free(x);
    return task;
}

static struct qrb__gptq options_of(uint32_t bits, size_t group_size)
{
    return (struct qrb__gptq){ .grid = { .mode = QRB_GRID_A_GPTQ,
                                         .bits = bits },
                               .group_size = group_size,
                               .block_size = 128,
                               .damping = 0.01 };
}

static struct answer make_answer(const struct qrb__gptq *options,
                                 const struct task *task)
{
    struct answer answer = { .groups = qrb__gptq_groups(options, task->cols) };
    const size_t scales = task->rows * answer.groups;
    const size_t elements = task->rows * task->cols;

    answer.result.codes = allocate(elements, sizeof(int32_t));
    answer.result.scales = allocate(scales, sizeof(double));
    answer.result.zero_points = allocate(scales, sizeof(double));
    answer.result.group_index = allocate(task->cols, sizeof(uint32_t));
    answer.values = allocate(elements, sizeof(double));
    return answer;
}

static void free_answer(struct answer *answer)
{
    free(answer->result.codes);
    free(answer->result.scales);
    free(answer->result.zero_points);
    free(answer->result.group_index);
    free(answer->values);
}

static qrb_status solve_into(qrb_context *ctx, const struct qrb__gptq *options,
                             const struct task *task, struct answer *out)
{
    const struct qrb__gptq_problem problem = { task->rows, task->cols, task->w,
                                               task->gram, task->gram_scale };

    return qrb__gptq_solve(ctx, options, &problem, &out->result);
}

static void decode(const struct task *task, struct answer *answer)
{
    const struct qrb__gptq_result *result = &answer->result;

    for (size_t i = 0; i < task->rows * task->cols; i++) {
        const size_t group = result->group_index[i % task->cols];
        const size_t at = i / task->cols * answer->groups + group;
        const struct qrb__grid_scale scale = { result->scales[at],
                                               result->zero_points[at] };

        ck_assert_uint_lt(group, answer->groups);
        qrb__grid_decode_f64(&scale, &result->codes[i], 1, &answer->values[i]);
        ck_assert(isfinite(answer->values[i]));
    }
}

static struct answer solve(qrb_context *ctx, const struct qrb__gptq *options,
                           const struct task *task)
{
    struct answer answer = make_answer(options, task);

    ASSERT_OK(ctx, solve_into(ctx, options, task, &answer));
    decode(task, &answer);
    return answer;
}

/* Round to nearest, by the grid alone. */
static struct answer round_to_nearest(const struct qrb__gptq *options,
                                      const struct task *task)
{
    struct answer answer = make_answer(options, task);
    const size_t group =
        options->group_size != 0 ? options->group_size : task->cols;

    for (size_t r = 0; r < task->rows; r++)
        for (size_t j = 0; j < task->cols; j += group) {
            const size_t n = task->cols - j < group ? task->cols - j : group;
            const size_t at = r * answer.groups + j / group;
            const double *w = task->w + r * task->cols + j;
            const struct qrb__grid_scale scale =
                qrb__grid_fit_f64(&options->grid, w, n);

            answer.result.scales[at] = scale.scale;
            answer.result.zero_points[at] = scale.zero_point;
            qrb__grid_encode_f64(&options->grid, &scale, w, n,
                                 answer.result.codes + r * task->cols + j);
            for (size_t k = j; k < j + n; k++)
                answer.result.group_index[k] = (uint32_t)(j / group);
        }
    decode(task, &answer);
    return answer;
}

/* tr(D H D^T); `damped` adds the damping, and what dead columns get. */
static double trace(const struct task *task, const struct answer *answer,
                    bool damped)
{
    const size_t n = task->cols;
    double mean = 0;
    double sum = 0;

    for (size_t j = 0; j < n; j++) {
        const double moment = task->gram[j * (n + 1)];

        mean += moment == 0 ? 1 : moment * task->gram_scale;
    }
    mean /= (double)n;
    for (size_t r = 0; r < task->rows; r++) {
        const double *w = task->w + r * n;
        const double *q = answer->values + r * n;

        for (size_t i = 0; i < n; i++) {
            const bool dead = task->gram[i * (n + 1)] == 0;
            const double d = (dead ? 0 : w[i]) - q[i];

            for (size_t j = 0; j < n && !dead; j++)
                if (task->gram[j * (n + 1)] != 0)
                    sum += d * task->gram_scale * task->gram[i * n + j] *
                           (w[j] - q[j]);
            if (damped)
                sum += d * d * (answer->result.damping * mean + dead);
        }
    }
    return sum;
}

static void assert_values(const struct answer *answer, size_t n,
                          const double *expected)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(fabs(answer->values[i] - expected[i]) < 1e-9,
                      "value %zu is %.12g, not %.12g", i, answer->values[i],
                      expected[i]);
}

static void assert_codes(const struct answer *answer, size_t n,
                         const int32_t *expected)
{
    for (size_t i = 0; i < n; i++)
        ck_assert_msg(answer->result.codes[i] == expected[i],
                      "code %zu is %d, not %d", i, answer->result.codes[i],
                      expected[i]);
}

/* Quantizers 2.6, E1: two sequences of two tokens. */
static struct task first_example(void)
{
    static const double w[8] = { 0.9,  -0.4, 0.3,  0.1,
                                 -0.7, 0.2,  0.65, -0.25 };
    static const double x[16] = { 1,  .5, -.5, .25, .5,  1,   .25, 0,
                                  -1, .5, 1,   .5,  .25, -.5, .75, 1 };
    struct task task = make_task(2, 4);

    memcpy(task.w, w, sizeof w);
    add_inputs(&task, x, 4);
    task.gram_scale = 1;
    return task;
}

START_TEST(two_rows_of_four_are_those_of_the_specification)
{
    static const int32_t codes[8] = { 3, 0, 2, 1, 0, 3, 3, 2 };
    static const double values[8] = { .866666667, -.433333333, .433333333, 0,
                                      -.9,        .45,         .45,        0 };
    qrb_context *ctx = context_of(1);
    struct task task = first_example();
    struct qrb__gptq options = options_of(2, 0);
    struct answer nearest = round_to_nearest(&options, &task);

    for (int ordered = 0; ordered < 2; ordered++) {
        struct answer answer;

        options.act_order = ordered != 0;
        answer = solve(ctx, &options, &task);
        ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_SOLVED);
        ck_assert_double_eq_tol(answer.result.scales[0], .433333333, 5e-10);
        ck_assert_double_eq_tol(answer.result.scales[1], .45, 5e-10);
        ck_assert_double_eq(answer.result.zero_points[0], 1);
        ck_assert_double_eq(answer.result.zero_points[1], 2);
        assert_codes(&answer, 8, codes);
        assert_values(&answer, 8, values);
        ck_assert_double_eq_tol(answer.result.loss, 0.060228646, 5e-10);
        ck_assert_double_eq_tol(answer.result.error, 2 * 0.058098958, 1e-9);
        ck_assert_double_eq_tol(trace(&task, &answer, false), 2 * 0.058098958,
                                1e-9);
        ck_assert_double_eq(answer.result.damping, 0.01);
        free_answer(&answer);
    }
    nearest.result.damping = 0.01;
    ck_assert_double_eq_tol(trace(&task, &nearest, false), 2 * 0.172708333,
                            1e-9);
    ck_assert_double_eq_tol(trace(&task, &nearest, true), 2 * 0.174430208,
                            1e-9);
    free_answer(&nearest);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(groups_of_two_are_those_of_the_specification)
{
    static const struct {
        size_t block;
        bool fresh;
        bool ordered;
        bool fixed;
        double loss;
        double values[8];
    } cases[] = {
        { 128, false, false, false, 0.039717187,
          { .9, -.3, .3, .1, -.6, .3, .6, -.3 } },
        { 4, false, false, false, 0.039717187,
          { .9, -.3, .3, .1, -.6, .3, .6, -.3 } },
        { 128, true, false, false, 0.025329709, { 0 } },
        { 2, false, false, false, 0.025329709, { 0 } },
        { 2, true, false, false, 0.025329709, { 0 } },
        { 128, false, true, true, 0.039717187,
          { .9, -.3, .3, .1, -.6, .3, .6, -.3 } },
        { 128, false, true, false, 0.035293837,
          { .9, -.333333333, .3, .166666667, -.9, .15, .45, -.15 } },
        { 128, true, true, false, 0.022388526,
          { .9, -.333333333, .3, .166666667, -.9, .228931273, .45,
            -.114465637 } },
    };
    static const int32_t codes[8] = { 3, 0, 3, 1, 0, 3, 3, 0 };
    qrb_context *ctx = context_of(1);
    struct task task = first_example();

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct qrb__gptq options = options_of(2, 2);
        struct answer answer;

        options.block_size = cases[i].block;
        options.fresh = cases[i].fresh;
        options.act_order = cases[i].ordered;
        options.static_groups = cases[i].fixed;
        answer = solve(ctx, &options, &task);
        ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_SOLVED);
        ck_assert_double_eq_tol(answer.result.loss, cases[i].loss, 6e-10);
        if (cases[i].loss == 0.039717187) {
            ck_assert_double_eq_tol(answer.result.scales[1], .1, 5e-10);
            ck_assert_double_eq_tol(answer.result.scales[3], .3, 5e-10);
            ck_assert_double_eq(answer.result.zero_points[1], 0);
            ck_assert_double_eq(answer.result.zero_points[3], 1);
            assert_codes(&answer, 8, codes);
        } else if (cases[i].loss == 0.025329709) {
            ck_assert_double_eq_tol(answer.result.scales[1], .088713815,
                                    5e-10);
            ck_assert_double_eq_tol(answer.result.scales[3], .359353497,
                                    5e-10);
        } else {
            assert_values(&answer, 8, cases[i].values);
        }
        for (size_t j = 0; j < 4; j++)
            ck_assert_uint_eq(
                answer.result.group_index[j],
                cases[i].ordered && !cases[i].fixed ? j % 2 : j / 2);
        free_answer(&answer);
    }
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* E2: feature 1 never fires, but its weight widens the row's range. */
START_TEST(a_dead_column_is_zeroed_after_the_range_saw_it)
{
    static const double values[8] = { .966666667, 0, 0, 0, -.9, 0, .45, 0 };
    qrb_context *ctx = context_of(1);
    struct task task = first_example();
    struct qrb__gptq options = options_of(2, 0);
    struct answer answer;

    task.w[1] = -2;
    for (size_t j = 0; j < 4; j++)
        task.gram[4 + j] = task.gram[j * 4 + 1] = 0;
    answer = solve(ctx, &options, &task);
    ck_assert_double_eq_tol(answer.result.scales[0], .966666667, 5e-10);
    assert_values(&answer, 8, values);
    ck_assert_double_eq_tol(answer.result.loss, 0.1765984375, 5e-11);
    ck_assert_double_eq_tol(trace(&task, &answer, true),
                            2 * answer.result.loss, 1e-12);
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* E3: 8 rows of 32, and 64 tokens. */
static struct task third_example(void)
{
    struct task task = make_task(8, 32);
    double x[64 * 32];

    fill(1, 256, task.w);
    fill(2, 64 * 32, x);
    add_inputs(&task, x, 64);
    return task;
}

START_TEST(eight_rows_of_32_are_those_of_the_specification)
{
    static const struct {
        size_t group;
        bool fresh;
        bool ordered;
        bool fixed;
        double loss;
        int32_t sum;
        const char *row;
    } cases[] = {
        { 0, false, false, false, 2.092686791, 922,
          "23451364052356277364211315442672" },
        { 8, false, false, false, 1.146480435, 905,
          "13460375052356277365110305421560" },
        { 8, true, false, false, 1.176879218, 907,
          "13460375052356277365210305421570" },
        { 8, false, true, true, 1.194635197, 912, NULL },
    };
    qrb_context *ctx = context_of(1);
    struct task task = third_example();
    struct qrb__gptq options = options_of(3, 0);
    struct answer nearest = round_to_nearest(&options, &task);

    ck_assert_double_eq_tol(trace(&task, &nearest, false), 2 * 2.215844339,
                            1e-8);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct answer answer;
        int32_t sum = 0;

        options.group_size = cases[i].group;
        options.fresh = cases[i].fresh;
        options.act_order = cases[i].ordered;
        options.static_groups = cases[i].fixed;
        answer = solve(ctx, &options, &task);
        ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_SOLVED);
        ck_assert_double_eq_tol(answer.result.loss, cases[i].loss, 5e-9);
        for (size_t k = 0; k < 256; k++)
            sum += answer.result.codes[k];
        ck_assert_int_eq(sum, cases[i].sum);
        for (size_t k = 0; k < 32 && cases[i].row != NULL; k++)
            ck_assert_int_eq(answer.result.codes[k], cases[i].row[k] - '0');
        if (i == 0)
            ck_assert_double_eq_tol(answer.result.error, 2 * 2.058945456,
                                    1e-8);
        free_answer(&answer);
    }
    free_answer(&nearest);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* 2.1: the same tokens as four sequences. */
START_TEST(sequences_scale_the_loss_and_nothing_else)
{
    qrb_context *ctx = context_of(1);
    struct task task = third_example();
    const struct qrb__gptq options = options_of(3, 0);
    struct answer one = solve(ctx, &options, &task);
    struct answer four;

    task.gram_scale = 0.5;
    four = solve(ctx, &options, &task);
    ck_assert_mem_eq(one.result.codes, four.result.codes,
                     256 * sizeof(int32_t));
    ck_assert_double_eq_tol(four.result.loss, 0.523171698, 5e-10);
    free_answer(&one);
    free_answer(&four);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* The variants that the contracts below go through. */
static struct qrb__gptq variant(size_t i)
{
    struct qrb__gptq options = options_of(2 + (uint32_t)(i % 4), 0);

    options.group_size = (size_t[]){ 0, 16, 24, 40 }[i / 2 % 4];
    options.block_size = (size_t[]){ 128, 32, 20, 7, 1 }[i % 5];
    options.fresh = i % 3 == 0;
    options.act_order = i / 4 % 2 == 0;
    options.static_groups = i / 8 % 2 == 0;
    options.damping = i % 7 == 0 ? 0.1 : 0.01;
    return options;
}

enum { VARIANTS = 40 };

/* Loss = tr(D Hd D^T) / 2 exactly, and error the same without damping. */
START_TEST(the_loss_is_half_the_damped_trace)
{
    const struct qrb__gptq options = variant((size_t)_i);
    qrb_context *ctx = context_of(2);
    struct task task = random_task(9, 100, 150, (uint64_t)_i);
    struct answer answer;

    if (_i % 4 == 3)
        for (size_t j = 0; j < 100; j++)
            task.gram[5 * 100 + j] = task.gram[j * 100 + 5] = 0;
    answer = solve(ctx, &options, &task);
    if (answer.result.outcome == QRB__GPTQ_SOLVED) {
        const double damped = trace(&task, &answer, true);
        const double plain = trace(&task, &answer, false);

        ck_assert_double_eq_tol(2 * answer.result.loss, damped,
                                1e-9 * damped);
        ck_assert_double_eq_tol(answer.result.error, plain, 1e-9 * damped);
    }
    /* At 8 bits and inputs like these it always is solved. */
    ck_assert(answer.result.outcome == QRB__GPTQ_SOLVED ||
              options.grid.bits < 4);
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* The published program, line by line, in double and without blocks of any
 * kind but its own. */
static void solve_plainly(const struct qrb__gptq *options,
                          const struct task *task, struct answer *out);

START_TEST(codes_are_those_of_the_plain_program)
{
    const struct qrb__gptq options = variant((size_t)_i);
    qrb_context *ctx = context_of(2);
    struct task task = random_task(70, 100, 150, 50 + (uint64_t)_i);
    struct answer plain = make_answer(&options, &task);
    struct answer answer = solve(ctx, &options, &task);

    solve_plainly(&options, &task, &plain);
    if (answer.result.outcome == QRB__GPTQ_SOLVED) {
        const size_t scales = task.rows * answer.groups;

        ck_assert_mem_eq(answer.result.group_index, plain.result.group_index,
                         100 * sizeof(uint32_t));
        for (size_t i = 0; i < scales; i++) {
            ck_assert_double_eq_tol(answer.result.scales[i],
                                    plain.result.scales[i], 1e-9);
            ck_assert_double_eq(answer.result.zero_points[i],
                                plain.result.zero_points[i]);
        }
        assert_codes(&answer, 7000, plain.result.codes);
        ck_assert_double_eq_tol(answer.result.loss, plain.result.loss,
                                1e-9 * plain.result.loss);
    }
    ck_assert(answer.result.outcome == QRB__GPTQ_SOLVED ||
              options.grid.bits < 4);
    free_answer(&plain);
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* Upper factor U of Hd^-1 by Gauss-Jordan and the textbook's Cholesky. */
static void inverse_factor(size_t n, double *h, double *u)
{
    double *inverse = allocate(n * n, sizeof *inverse);

    for (size_t i = 0; i < n; i++)
        inverse[i * (n + 1)] = 1;
    for (size_t p = 0; p < n; p++) {
        const double pivot = h[p * (n + 1)];

        for (size_t j = 0; j < n; j++) {
            h[p * n + j] /= pivot;
            inverse[p * n + j] /= pivot;
        }
        for (size_t i = 0; i < n; i++) {
            const double factor = h[i * n + p];

            if (i == p)
                continue;
            for (size_t j = 0; j < n; j++) {
                h[i * n + j] -= factor * h[p * n + j];
                inverse[i * n + j] -= factor * inverse[p * n + j];
            }
        }
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = i; j < n; j++) {
            double sum = inverse[i * n + j];

            for (size_t k = 0; k < i; k++)
                sum -= u[k * n + i] * u[k * n + j];
            u[i * n + j] = i == j ? sqrt(sum) : sum / u[i * (n + 1)];
        }
    free(inverse);
}

static struct qrb__grid_scale fit_plainly(const struct qrb__gptq *options,
                                          struct answer *out, size_t row,
                                          size_t group, const double *w,
                                          size_t n)
{
    const struct qrb__grid_scale scale =
        qrb__grid_fit_f64(&options->grid, w, n);

    out->result.scales[row * out->groups + group] = scale.scale;
    out->result.zero_points[row * out->groups + group] = scale.zero_point;
    return scale;
}

static void sweep_plainly(const struct qrb__gptq *options, size_t row,
                          size_t n, size_t g, const size_t *order,
                          const double *u, double *w, struct answer *out)
{
    double *errors = allocate(n, sizeof *errors);
    double *stale = allocate(n, sizeof *stale);
    struct qrb__grid_scale scale = { out->result.scales[row * out->groups],
                                     out->result.zero_points[row *
                                                             out->groups] };

    for (size_t c = 0; c < n; c++) {
        const size_t left = n - c;
        double value;

        if (c % options->block_size == 0)
            memcpy(stale, w, n * sizeof *w);
        if (options->group_size != 0 && options->static_groups) {
            const size_t at = row * out->groups + order[c] / g;

            scale = (struct qrb__grid_scale){ out->result.scales[at],
                                              out->result.zero_points[at] };
        } else if (options->group_size != 0 && c % g == 0) {
            scale = fit_plainly(options, out, row, c / g,
                                (options->fresh ? w : stale) + c,
                                g < left ? g : left);
        }
        qrb__grid_encode_f64(&options->grid, &scale, w + c, 1,
                             &out->result.codes[row * n + order[c]]);
        qrb__grid_decode_f64(&scale, &out->result.codes[row * n + order[c]], 1,
                             &value);
        errors[c] = (w[c] - value) / u[c * (n + 1)];
        out->result.loss += 0.5 * errors[c] * errors[c];
        for (size_t k = c + 1; k < n; k++)
            w[k] -= errors[c] * u[c * n + k];
    }
    free(errors);
    free(stale);
}

static void solve_plainly(const struct qrb__gptq *options,
                          const struct task *task, struct answer *out)
{
    const size_t n = task->cols;
    const size_t g = options->group_size != 0 ? options->group_size : n;
    double *h = allocate(n * n, sizeof *h);
    double *u = allocate(n * n, sizeof *u);
    double *w = allocate(n, sizeof *w);
    size_t *order = allocate(n, sizeof *order);
    double mean = 0;

    for (size_t j = 0; j < n; j++)
        order[j] = j;
    for (size_t i = 1; i < n && options->act_order; i++)
        for (size_t j = i; j > 0 && task->gram[order[j] * (n + 1)] >
                                        task->gram[order[j - 1] * (n + 1)];
             j--) {
            const size_t column = order[j];

            order[j] = order[j - 1];
            order[j - 1] = column;
        }
    for (size_t i = 0; i < n; i++) {
        mean += task->gram_scale * task->gram[i * (n + 1)] / (double)n;
        for (size_t j = 0; j < n; j++)
            h[i * n + j] =
                task->gram_scale * task->gram[order[i] * n + order[j]];
    }
    for (size_t i = 0; i < n; i++)
        h[i * (n + 1)] += options->damping * mean;
    inverse_factor(n, h, u);
    for (size_t c = 0; c < n; c++)
        out->result.group_index[order[c]] = (uint32_t)(
            (options->static_groups ? order[c] : c) / g);
    for (size_t r = 0; r < task->rows; r++) {
        const double *row = task->w + r * n;

        for (size_t j = 0; j < n; j += g)
            fit_plainly(options, out, r, j / g, row + j,
                        n - j < g ? n - j : g);
        for (size_t c = 0; c < n; c++)
            w[c] = row[order[c]];
        sweep_plainly(options, r, n, g, order, u, w, out);
    }
    free(h);
    free(u);
    free(w);
    free(order);
}

/* 2.6: without groups, blocks are a matter of speed. */
START_TEST(block_size_does_not_change_whole_rows)
{
    static const size_t blocks[] = { 1, 5, 32, 33, 64, 100, 128, 200, 1000 };
    qrb_context *ctx = context_of(2);
    struct task task = random_task(20, 200, 300, 4);
    struct qrb__gptq options = options_of(4, _i == 2 ? 40 : 0);
    struct answer first;

    options.act_order = _i == 1;
    options.static_groups = _i == 2;
    first = solve(ctx, &options, &task);
    ck_assert_int_eq(first.result.outcome, QRB__GPTQ_SOLVED);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        struct answer answer;

        options.block_size = blocks[i];
        answer = solve(ctx, &options, &task);
        assert_codes(&answer, 4000, first.result.codes);
        ck_assert_double_eq_tol(answer.result.loss, first.result.loss,
                                1e-10 * first.result.loss);
        free_answer(&answer);
    }
    free_answer(&first);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(stale_groups_are_not_fresh_ones)
{
    qrb_context *ctx = context_of(1);
    struct task task = third_example();
    struct qrb__gptq options = options_of(3, 8);
    struct answer lazy = solve(ctx, &options, &task);
    struct answer fresh;

    options.fresh = true;
    fresh = solve(ctx, &options, &task);
    ck_assert_mem_ne(lazy.result.codes, fresh.result.codes,
                     256 * sizeof(int32_t));
    /* With blocks of a group they are. */
    options.fresh = false;
    options.block_size = 8;
    free_answer(&lazy);
    lazy = solve(ctx, &options, &task);
    ck_assert_mem_eq(lazy.result.codes, fresh.result.codes,
                     256 * sizeof(int32_t));
    free_answer(&lazy);
    free_answer(&fresh);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(the_scale_of_inputs_changes_no_code)
{
    static const double factors[] = { 3, 1e-3, 7e5, 1e-306, 1e290 };
    const struct qrb__gptq options = variant((size_t)_i);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(6, 60, 90, 11);
    struct answer first = solve(ctx, &options, &task);

    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        struct task scaled = random_task(6, 60, 90, 11);
        struct answer answer;

        for (size_t k = 0; k < 3600; k++)
            scaled.gram[k] *= factors[i];
        answer = solve(ctx, &options, &scaled);
        ck_assert_int_eq(answer.result.outcome, first.result.outcome);
        assert_codes(&answer, 360, first.result.codes);
        ck_assert_double_eq_tol(answer.result.loss / first.result.loss /
                                    factors[i],
                                1, 1e-9);
        free_answer(&answer);
        free_task(&scaled);
    }
    free_answer(&first);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* Inputs that are nearly white, where either may win.  Dead columns with heavy
 * weights count for nothing, and neither does what the damping adds. */
START_TEST(what_is_nearer_to_the_outputs_is_kept)
{
    qrb_context *ctx = context_of(1);
    size_t kept = 0;

    for (uint64_t seed = 0; seed < 60; seed++) {
        struct task task = random_task(1, 24, 1, seed);
        struct qrb__gptq options = options_of(2, seed % 2 ? 8 : 0);
        struct answer nearest;
        struct answer answer;
        double limit;

        options.damping = seed % 3 ? 0.01 : 0.3;
        options.act_order = seed % 5 == 0;
        for (size_t k = 0; k < 24; k++) {
            for (size_t j = 0; j < 24; j++)
                task.gram[k * 24 + j] =
                    k == 5 || j == 5 || k == 20 || j == 20
                        ? 0
                        : (k == j) + 0.1 * (double)(k % 5) * (double)(j % 5);
            if (k == 5 || k == 20)
                task.w[k] *= 1.5;
        }
        nearest = round_to_nearest(&options, &task);
        limit = trace(&task, &nearest, false);
        answer = solve(ctx, &options, &task);
        if (fabs(answer.result.error - limit) > 1e-9 * limit)
            ck_assert_int_eq(answer.result.outcome,
                             answer.result.error > limit ? QRB__GPTQ_NO_BETTER
                                                         : QRB__GPTQ_SOLVED);
        kept += answer.result.outcome == QRB__GPTQ_NO_BETTER;
        free_answer(&answer);
        free_answer(&nearest);
        free_task(&task);
    }
    ck_assert_uint_ge(kept, 5);
    qrb_context_destroy(ctx);
}
END_TEST

/* Columns of equal moments keep the order they came in. */
START_TEST(equal_moments_are_swept_as_they_come)
{
    struct qrb__gptq options = options_of(3, 8);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(12, 40, 60, 2);
    struct answer plain;
    struct answer ordered;

    for (size_t i = 0; i < 40; i++)
        for (size_t j = 0; j < 40; j++)
            task.gram[i * 40 + j] =
                pow(0.8, fabs((double)i - (double)j)); /* 1 on the diagonal */
    plain = solve(ctx, &options, &task);
    options.act_order = true;
    ordered = solve(ctx, &options, &task);
    assert_codes(&ordered, 480, plain.result.codes);
    free_answer(&plain);
    free_answer(&ordered);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* Its moment is 1, which is immense beside those of the others. */
START_TEST(a_dead_column_beside_faint_inputs_overflows_nothing)
{
    const struct qrb__gptq options = options_of(4, 0);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(60, 40, 60, 2);
    struct answer answer;

    for (size_t i = 0; i < 2400; i++)
        task.w[i] *= 1e6;
    for (size_t i = 0; i < 40; i++)
        for (size_t j = 0; j < 40; j++)
            task.gram[i * 40 + j] *= i == 3 || j == 3 ? 0 : 1e-306;
    answer = solve(ctx, &options, &task);
    ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_SOLVED);
    ck_assert(isfinite(answer.result.loss));
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

static const uint32_t grids[] = {
    QRB_GRID_A_PAPER, QRB_GRID_A_GPTQ, QRB_GRID_A_AWQ, QRB_GRID_A_OMNI,
    QRB_GRID_A_MAX,   QRB_GRID_A_SPQR, QRB_GRID_A_GRP, QRB_GRID_S_ABS,
    QRB_GRID_S_GPTQ,  QRB_GRID_S_OMNI
};
enum { GRIDS = sizeof grids / sizeof *grids };

/* White inputs leave nothing to make up for. */
START_TEST(white_inputs_give_round_to_nearest_on_every_grid)
{
    struct qrb__gptq options = options_of(3, 16);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(5, 48, 1, 3);

    options.grid.mode = grids[_i % GRIDS];
    options.grid.mse_clip = _i >= GRIDS;
    options.fresh = _i % 2 == 0;
    for (size_t i = 0; i < 48 * 48; i++)
        task.gram[i] = i % 49 == 0 ? 0.7 : 0;
    for (int ordered = 0; ordered < 2; ordered++) {
        struct answer nearest = round_to_nearest(&options, &task);
        struct answer answer;

        options.act_order = ordered != 0;
        answer = solve(ctx, &options, &task);
        ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_SOLVED);
        assert_codes(&answer, 240, nearest.result.codes);
        ck_assert_mem_eq(answer.values, nearest.values, 240 * sizeof(double));
        free_answer(&answer);
        free_answer(&nearest);
    }
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* On every grid, with and without its clip search. */
START_TEST(every_grid_is_at_least_as_near_as_round_to_nearest)
{
    qrb_context *ctx = context_of(1);
    struct task task = random_task(8, 64, 100, (uint64_t)_i);

    for (uint32_t bits = 2; bits <= 8; bits++) {
        struct qrb__gptq options = options_of(bits, bits % 2 ? 0 : 16);
        struct answer nearest;
        struct answer answer;

        options.grid.mode = grids[_i % GRIDS];
        options.grid.mse_clip = _i >= GRIDS;
        nearest = round_to_nearest(&options, &task);
        answer = solve(ctx, &options, &task);
        ck_assert_double_le(trace(&task, &answer, false),
                            trace(&task, &nearest, false) * (1 + 1e-12));
        if (answer.result.outcome != QRB__GPTQ_SOLVED) {
            ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_NO_BETTER);
            assert_codes(&answer, 512, nearest.result.codes);
        } else if (bits >= 4) {
            ck_assert_double_lt(trace(&task, &answer, false),
                                0.9 * trace(&task, &nearest, false));
        }
        free_answer(&answer);
        free_answer(&nearest);
    }
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* The last column is rounded as it comes: nothing is left to take its error,
 * and the first of all is round to nearest of itself. */
START_TEST(the_first_column_is_rounded_to_nearest)
{
    const struct qrb__gptq options = options_of(4, 0);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(30, 50, 80, 8);
    struct answer nearest = round_to_nearest(&options, &task);
    struct answer answer = solve(ctx, &options, &task);

    for (size_t r = 0; r < 30; r++)
        ck_assert_int_eq(answer.result.codes[r * 50],
                         nearest.result.codes[r * 50]);
    ck_assert_mem_ne(answer.result.codes, nearest.result.codes,
                     1500 * sizeof(int32_t));
    free_answer(&answer);
    free_answer(&nearest);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* What moments may come from: one token, none, columns of unlike scales. */
START_TEST(no_finite_moments_make_it_fail)
{
    enum { ROWS = 6, COLS = 40 };
    qrb_context *ctx = context_of(1);

    for (size_t i = 0; i < VARIANTS; i++) {
        struct qrb__gptq options = variant(i);
        struct task task = random_task(ROWS, COLS, 1 + i % 3, i);
        struct answer nearest = round_to_nearest(&options, &task);
        struct answer answer;

        options.damping = i % 2 == 0 ? options.damping : 0;
        for (size_t k = 0; k < COLS * COLS; k++) {
            const double row = (double)(k / COLS);
            const double column = (double)(k % COLS);

            if (_i == 1)
                task.gram[k] = 0;
            else if (_i == 2)
                task.gram[k] *= pow(10, row - 20) * pow(10, column - 20);
            else if (_i == 3)
                task.gram[k] *= 1e-300;
            else if (_i == 4)
                task.gram[k] *= pow(10, 7 * row - 140) *
                                pow(10, 7 * column - 140);
        }
        answer = solve(ctx, &options, &task);
        ck_assert(isfinite(answer.result.damping));
        ck_assert_double_le(trace(&task, &answer, false),
                            trace(&task, &nearest, false) * (1 + 1e-9));
        if (_i == 1) {
            ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_NO_INPUTS);
            ck_assert(isnan(answer.result.loss));
            assert_codes(&answer, ROWS * COLS, nearest.result.codes);
        } else if (answer.result.outcome == QRB__GPTQ_SOLVED) {
            ck_assert(isfinite(answer.result.loss));
            ck_assert(isfinite(answer.result.error));
            ck_assert_double_ge(answer.result.error, 0);
        }
        /* Fewer tokens than columns: only a damping makes that definite. */
        if (_i == 0 && options.damping == 0)
            ck_assert_double_ge(answer.result.damping, QRB__GPTQ_STEP);
        free_answer(&answer);
        free_answer(&nearest);
        free_task(&task);
    }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(weights_near_the_end_of_the_doubles_keep_round_to_nearest)
{
    const struct qrb__gptq options = options_of(4, 0);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(6, 40, 60, 1);
    struct answer nearest;
    struct answer answer;

    for (size_t i = 0; i < 240; i++)
        task.w[i] *= 1e200;
    nearest = round_to_nearest(&options, &task);
    answer = solve(ctx, &options, &task);
    ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_NO_BETTER);
    assert_codes(&answer, 240, nearest.result.codes);
    free_answer(&answer);
    free_answer(&nearest);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* No inputs have such moments, but a file may hold them. */
START_TEST(the_ladder_ends_at_round_to_nearest)
{
    const struct qrb__gptq options = options_of(4, 0);
    qrb_context *ctx = context_of(1);
    struct task task = random_task(6, 40, 60, 1);
    struct answer nearest = round_to_nearest(&options, &task);
    struct answer answer;

    task.gram[3 * 41] = -1;
    answer = solve(ctx, &options, &task);
    ck_assert_int_eq(answer.result.outcome, QRB__GPTQ_NOT_POSITIVE);
    ck_assert_double_eq_tol(answer.result.damping, 0.025, 1e-12);
    ck_assert(isnan(answer.result.loss));
    assert_codes(&answer, 240, nearest.result.codes);
    free_answer(&answer);
    free_answer(&nearest);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

/* [[1, a], [a, 1]] with a = 1.012 is definite from a damping above 0.012 on. */
START_TEST(the_ladder_takes_the_first_damping_that_helps)
{
    qrb_context *ctx = context_of(1);
    struct task task = make_task(1, 2);
    const struct qrb__gptq options = options_of(4, 0);
    struct answer answer;

    task.w[0] = 0.4;
    task.w[1] = -0.7;
    task.gram[0] = task.gram[3] = 1;
    task.gram[1] = task.gram[2] = 1.012;
    answer = solve(ctx, &options, &task);
    ck_assert_double_eq_tol(answer.result.damping, 0.013, 1e-12);
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(threads_do_not_change_a_bit)
{
    qrb_context *one = context_of(1);
    qrb_context *four = context_of(4);
    struct task task = random_task(300, 260, 200, 5);

    for (size_t i = 0; i < 12; i++) {
        const struct qrb__gptq options = variant(3 * i);
        struct answer a = solve(one, &options, &task);
        struct answer b = solve(four, &options, &task);

        ck_assert_mem_eq(a.result.codes, b.result.codes,
                         300 * 260 * sizeof(int32_t));
        ck_assert_mem_eq(a.result.scales, b.result.scales,
                         300 * a.groups * sizeof(double));
        ck_assert_mem_eq(&a.result.loss, &b.result.loss, sizeof(double));
        ck_assert_mem_eq(&a.result.error, &b.result.error, sizeof(double));
        free_answer(&a);
        free_answer(&b);
    }
    free_task(&task);
    qrb_context_destroy(one);
    qrb_context_destroy(four);
}
END_TEST

static qrb_status solve_job(qrb_context *ctx, void *arg)
{
    const struct task *task = arg;
    struct qrb__gptq options = options_of(3, 16);
    struct answer answer = make_answer(&options, task);
    qrb_status status;

    options.act_order = true;
    status = solve_into(ctx, &options, task, &answer);
    free_answer(&answer);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    struct task task = random_task(10, 40, 60, 6);

    fail_each_allocation(solve_job, &task);
    free_task(&task);
}
END_TEST

static int cancel_at_once(void *user)
{
    ++*(int *)user;
    return 1;
}

START_TEST(the_host_can_cancel_it)
{
    qrb_context_options context_options = QRB_CONTEXT_OPTIONS_INIT;
    const struct qrb__gptq options = options_of(3, 0);
    struct task task = random_task(10, 40, 60, 6);
    struct answer answer = make_answer(&options, &task);
    qrb_context *ctx = NULL;
    int asked = 0;

    context_options.cancel = cancel_at_once;
    context_options.cancel_user = &asked;
    ck_assert_int_eq(qrb_context_create(&context_options, &ctx), QRB_OK);
    ASSERT_FAILS(ctx, solve_into(ctx, &options, &task, &answer),
                 QRB_E_CANCELLED, "cancelled");
    ck_assert_int_eq(asked, 1);
    free_answer(&answer);
    free_task(&task);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gptq");
    TCase *numbers = tcase_create("numbers");
    TCase *contracts = tcase_create("contracts");

    tcase_add_test(numbers, two_rows_of_four_are_those_of_the_specification);
    tcase_add_test(numbers, groups_of_two_are_those_of_the_specification);
    tcase_add_test(numbers, a_dead_column_is_zeroed_after_the_range_saw_it);
    tcase_add_test(numbers, eight_rows_of_32_are_those_of_the_specification);
    tcase_add_test(numbers, sequences_scale_the_loss_and_nothing_else);
    tcase_set_timeout(contracts, 60);
    tcase_add_loop_test(contracts, the_loss_is_half_the_damped_trace, 0,
                        VARIANTS);
    tcase_add_loop_test(contracts, codes_are_those_of_the_plain_program, 0,
                        VARIANTS);
    tcase_add_loop_test(contracts, block_size_does_not_change_whole_rows, 0,
                        3);
    tcase_add_test(contracts, stale_groups_are_not_fresh_ones);
    tcase_add_loop_test(contracts, the_scale_of_inputs_changes_no_code, 0, 12);
    tcase_add_loop_test(contracts,
                        white_inputs_give_round_to_nearest_on_every_grid, 0,
                        2 * GRIDS);
    tcase_add_loop_test(contracts,
                        every_grid_is_at_least_as_near_as_round_to_nearest, 0,
                        2 * GRIDS);
    tcase_add_test(contracts, what_is_nearer_to_the_outputs_is_kept);
    tcase_add_test(contracts, equal_moments_are_swept_as_they_come);
    tcase_add_test(contracts,
                   a_dead_column_beside_faint_inputs_overflows_nothing);
    tcase_add_test(contracts, the_first_column_is_rounded_to_nearest);
    tcase_add_loop_test(contracts, no_finite_moments_make_it_fail, 0, 5);
    tcase_add_test(contracts,
                   weights_near_the_end_of_the_doubles_keep_round_to_nearest);
    tcase_add_test(contracts, the_ladder_ends_at_round_to_nearest);
    tcase_add_test(contracts, the_ladder_takes_the_first_damping_that_helps);
    tcase_add_test(contracts, threads_do_not_change_a_bit);
    tcase_add_test(contracts, every_allocation_may_fail);
    tcase_add_test(contracts, the_host_can_cancel_it);
    suite_add_tcase(suite, numbers);
    suite_add_tcase(suite, contracts);
    return run_suite(suite);
}
