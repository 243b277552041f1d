/* Generators: the logits of the whole sequence at each of its tokens, however
 * they are fed; the cache's precisions; memory and refusals. */
#include "engine_model.h"

#include <qrobust/generate.h>
#include <qrobust/pass.h>

#include "engine/generator.h"
#include "quant/grid.h"

enum { LENGTH = 150, VOCAB = 19, SHAPES = VARIANTS + 2 };

/* The variants, then more heads than a task of attention takes, and wide
 * matrices. */
static qrb_engine_config shape_of(int index)
{
    qrb_engine_config config =
        config_of(&variants[index < VARIANTS ? index : 0]);

    if (index == VARIANTS) {
        config.heads = 75;
        config.kv_heads = 1;
        config.head_dim = 2;
    }
    if (index == VARIANTS + 1) {
        config.dim = 516;
        config.heads = 6;
        config.kv_heads = 3;
        config.head_dim = 86;
        config.hidden = 600;
        config.layers = 1;
    }
    return config;
}

static qrb_generator *make_generator(qrb_model *model, uint32_t kv_bits)
{
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    qrb_generator *generator = NULL;

    options.kv_bits = kv_bits;
    ASSERT_OK(model->ctx, qrb_generator_create(model, &options, &generator));
    return generator;
}

/* Logits as doubles. */
static void get_logits(qrb_generator *generator, uint32_t dtype, double *out)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_model *model = generator->model;
    qrb_tensor *logits = NULL;

    options.dtype = dtype;
    options.rank = 1;
    options.shape[0] = VOCAB;
    ASSERT_OK(model->ctx, qrb_tensor_create(model->ctx, &options, &logits));
    ASSERT_OK(model->ctx, qrb_generator_logits(generator, logits));
    for (size_t i = 0; i < VOCAB; i++)
        out[i] = get_element(logits, i);
    qrb_tensor_destroy(logits);
}

static qrb_tensor *whole_logits(qrb_model *model, uint32_t dtype,
                                const int32_t *tokens, size_t length)
{
    qrb_tensor *logits = matrix(model->ctx, dtype, length, VOCAB, NULL);

    ASSERT_OK(model->ctx,
              qrb_engine_logits(model, tokens, 1, length, logits));
    return logits;
}

/* Cuts of a sequence: these lengths, over and over. */
static const size_t cuts[][4] = {
    { 1 }, { 2, 7 }, { 64 }, { 128, 22 }, { 3, 1, 140, 1 }, { LENGTH }
};
enum { CUTS = sizeof cuts / sizeof *cuts };

static size_t piece(size_t cut, size_t number, size_t left)
{
    size_t count = 0;
    size_t length;

    while (count < 4 && cuts[cut][count] > 0)
        count++;
    length = cuts[cut][number % count];
    return length < left ? length : left;
}

START_TEST(any_cut_gives_the_logits_of_the_whole_sequence)
{
    const qrb_engine_config config = shape_of(_i / 2);
    const uint32_t dtype = _i % 2 ? QRB_F64 : QRB_F32;
    const double tolerance = dtype == QRB_F64 ? 1e-12 : 1e-5;
    qrb_context *ctx = make_threads(2);
    qrb_model *model = make_model(ctx, &config, dtype);
    qrb_generator *generator = make_generator(model, 0);
    int32_t tokens[LENGTH];
    qrb_tensor *whole;
    double largest = 0;

    fill_tokens(tokens, LENGTH, VOCAB);
    whole = whole_logits(model, dtype, tokens, LENGTH);
    for (size_t i = 0; i < LENGTH * VOCAB; i++)
        largest = fmax(largest, fabs(get_element(whole, i)));
    ck_assert_double_gt(largest, 0.1);
    for (size_t cut = 0; cut < CUTS; cut++) {
        ASSERT_OK(ctx, qrb_generator_reset(generator));
        for (size_t at = 0, n = 0; at < LENGTH; n++) {
            const size_t count = piece(cut, n, LENGTH - at);
            double logits[VOCAB];

            ASSERT_OK(ctx, qrb_generator_feed(generator, tokens + at, count));
            at += count;
            ck_assert_uint_eq(qrb_generator_length(generator), at);
            get_logits(generator, dtype, logits);
            for (size_t i = 0; i < VOCAB; i++)
                ck_assert_double_le(
                    fabs(logits[i] -
                         get_element(whole, (at - 1) * VOCAB + i)),
                    tolerance * largest);
        }
    }
    qrb_tensor_destroy(whole);
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

static const uint32_t precisions[] = { 0, 16, 8, 4 };
enum { PRECISIONS = 4 };

/* In double, no key lies so near to the middle between two codes that the
 * order of a sum decides. */
START_TEST(a_coded_cache_does_not_depend_on_the_cut)
{
    const qrb_engine_config config = shape_of(_i / PRECISIONS);
    qrb_context *ctx = make_threads(2);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    qrb_generator *generator =
        make_generator(model, precisions[_i % PRECISIONS]);
    int32_t tokens[LENGTH];
    double first[VOCAB];

    fill_tokens(tokens, LENGTH, VOCAB);
    for (size_t cut = 0; cut < CUTS; cut++) {
        double logits[VOCAB];

        ASSERT_OK(ctx, qrb_generator_reset(generator));
        for (size_t at = 0, n = 0, count; at < LENGTH; n++, at += count) {
            count = piece(cut, n, LENGTH - at);
            ASSERT_OK(ctx, qrb_generator_feed(generator, tokens + at, count));
        }
        get_logits(generator, QRB_F64, cut == 0 ? first : logits);
        for (size_t i = 0; cut > 0 && i < VOCAB; i++)
            ck_assert_double_eq_tol(logits[i], first[i], 1e-11);
    }
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

enum { TOKENS = 40, HEADS = 4, KEY_HEADS = 2, DIM = 4 };

/* Attention written down plainly, on what q, k and v give for a sequence, with
 * keys, once they have turned, and values rounded token by token and head by
 * head; it takes the place of the engine's in a pass. */
struct reference {
    const qrb_model *model;
    struct qrb__grid grid;
    double q[TOKENS][HEADS][DIM];
    double k[TOKENS][KEY_HEADS][DIM];
    double v[TOKENS][KEY_HEADS][DIM];
};

static void turn(double *head, size_t position, double theta)
{
    for (size_t i = 0; i < DIM / 2; i++) {
        const double angle =
            (double)position * pow(theta, -2.0 * (double)i / DIM);
        const double x = head[i];
        const double y = head[i + DIM / 2];

        head[i] = x * cos(angle) - y * sin(angle);
        head[i + DIM / 2] = x * sin(angle) + y * cos(angle);
    }
}

static void round_head(const struct qrb__grid *grid, double *head)
{
    const struct qrb__grid_scale scale = qrb__grid_fit_f64(grid, head, DIM);
    int32_t codes[DIM];

    qrb__grid_encode_f64(grid, &scale, head, DIM, codes);
    qrb__grid_decode_f64(&scale, codes, DIM, head);
}

static int hear_projection(uint32_t point, size_t index, qrb_tensor *tensor,
                           void *user)
{
    struct reference *reference = user;
    const uint32_t role = parameter_at(reference->model, index).role;
    const size_t heads = role == QRB_ROLE_Q ? HEADS : KEY_HEADS;
    double *out = role == QRB_ROLE_Q   ? &reference->q[0][0][0]
                  : role == QRB_ROLE_K ? &reference->k[0][0][0]
                                       : &reference->v[0][0][0];

    (void)point;
    if (role != QRB_ROLE_Q && role != QRB_ROLE_K && role != QRB_ROLE_V)
        return 0;
    memcpy(out, qrb_tensor_memory(tensor),
           TOKENS * heads * DIM * sizeof *out);
    for (size_t i = 0; i < TOKENS * heads; i++) {
        if (role != QRB_ROLE_V)
            turn(out + i * DIM, i / heads, 10000.0);
        if (role != QRB_ROLE_Q)
            round_head(&reference->grid, out + i * DIM);
    }
    return 0;
}

static void attend(const struct reference *reference, size_t t, size_t h,
                   double *out)
{
    const size_t kept = h * KEY_HEADS / HEADS;
    double sum = 0;

    memset(out, 0, DIM * sizeof *out);
    for (size_t s = 0; s <= t; s++) {
        double logit = 0;

        for (size_t i = 0; i < DIM; i++)
            logit += reference->q[t][h][i] * reference->k[s][kept][i];
        logit = exp(logit / sqrt((double)DIM));
        sum += logit;
        for (size_t i = 0; i < DIM; i++)
            out[i] += logit * reference->v[s][kept][i];
    }
    for (size_t i = 0; i < DIM; i++)
        out[i] /= sum;
}

static int replace_attention(uint32_t point, size_t index, qrb_tensor *tensor,
                             void *user)
{
    const struct reference *reference = user;
    double *x = qrb_tensor_memory(tensor);

    (void)point;
    if (parameter_at(reference->model, index).role != QRB_ROLE_O)
        return 0;
    for (size_t i = 0; i < TOKENS * HEADS; i++)
        attend(reference, i / HEADS, i % HEADS, x + i * DIM);
    return 0;
}

static qrb_tensor *reference_logits(qrb_model *model, const int32_t *tokens,
                                    const struct qrb__grid *grid)
{
    struct reference reference = { .model = model, .grid = *grid };
    qrb_pass *pass = NULL;
    qrb_tensor *logits;

    ASSERT_OK(model->ctx, qrb_pass_create(model, NULL, &pass));
    ASSERT_OK(model->ctx, qrb_pass_listen(pass, QRB_TAP_LINEAR_OUTPUT,
                                          hear_projection, &reference));
    ASSERT_OK(model->ctx, qrb_pass_listen(pass,
                                          QRB_TAP_LINEAR_INPUT |
                                              QRB_TAP_CHANGES,
                                          replace_attention, &reference));
    ASSERT_OK(model->ctx, qrb_model_set_pass(model, pass));
    ASSERT_OK(model->ctx, qrb_step_begin(pass, 1, 0, 0));
    logits = whole_logits(model, QRB_F64, tokens, TOKENS);
    ASSERT_OK(model->ctx, qrb_model_set_pass(model, NULL));
    qrb_pass_destroy(pass);
    return logits;
}

START_TEST(codes_are_those_of_the_grid_per_token_and_head)
{
    const struct qrb__grid grid = { .mode = _i / 2 ? QRB_GRID_A_OMNI
                                                   : QRB_GRID_A_GPTQ,
                                    .bits = _i % 2 ? 4 : 8 };
    qrb_engine_config config = config_of(&variants[0]);
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_generator *generator = NULL;
    qrb_tensor *plain;
    qrb_tensor *rounded;
    qrb_model *model;
    int32_t tokens[TOKENS];
    double logits[VOCAB];
    double moved = 0;

    config.heads = HEADS;
    config.kv_heads = KEY_HEADS;
    config.head_dim = DIM;
    model = make_model(ctx, &config, QRB_F64);
    fill_tokens(tokens, TOKENS, VOCAB);
    plain = whole_logits(model, QRB_F64, tokens, TOKENS);
    rounded = reference_logits(model, tokens, &grid);
    options.kv_bits = grid.bits;
    options.kv_grid = grid.mode;
    ASSERT_OK(ctx, qrb_generator_create(model, &options, &generator));
    for (size_t t = 0; t < TOKENS; t++) {
        ASSERT_OK(ctx, qrb_generator_feed(generator, tokens + t, 1));
        get_logits(generator, QRB_F64, logits);
        for (size_t i = 0; i < VOCAB; i++) {
            const double expected = get_element(rounded, t * VOCAB + i);

            moved = fmax(moved, fabs(expected -
                                     get_element(plain, t * VOCAB + i)));
            ck_assert_double_eq_tol(logits[i], expected, 1e-11);
        }
    }
    ck_assert_double_gt(moved, 1e-4); /* the codes did something */
    qrb_generator_destroy(generator);
    qrb_tensor_destroy(rounded);
    qrb_tensor_destroy(plain);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* Logits move by a few units of the last place of a half: of 11 bits, in sums
 * of numbers around 1 over two layers. */
START_TEST(halves_are_within_their_rounding)
{
    const qrb_engine_config config = shape_of(_i / 2);
    const uint32_t dtype = _i % 2 ? QRB_F64 : QRB_F32;
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, dtype);
    qrb_generator *generator = make_generator(model, 16);
    qrb_tensor *whole;
    int32_t tokens[40];
    double logits[VOCAB];
    double moved = 0;

    fill_tokens(tokens, 40, VOCAB);
    whole = whole_logits(model, dtype, tokens, 40);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 40));
    get_logits(generator, dtype, logits);
    for (size_t i = 0; i < VOCAB; i++)
        moved = fmax(moved,
                     fabs(logits[i] - get_element(whole, 39 * VOCAB + i)));
    ck_assert_double_gt(moved, 1e-6);
    ck_assert_double_lt(moved, 32 * 0x1p-11);
    qrb_tensor_destroy(whole);
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

static void feed_with_threads(const qrb_engine_config *config, uint32_t kv_bits,
                              size_t threads, double *logits, int32_t *drawn)
{
    qrb_sampling_options sampling = QRB_SAMPLING_OPTIONS_INIT;
    qrb_context *ctx = make_threads(threads);
    qrb_model *model = make_model(ctx, config, QRB_F32);
    qrb_generator *generator = make_generator(model, kv_bits);
    int32_t tokens[LENGTH];

    sampling.seed = 5;
    sampling.top_p = 0.9;
    fill_tokens(tokens, LENGTH, VOCAB);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 140));
    for (size_t t = 0; t < 10; t++) {
        get_logits(generator, QRB_F32, logits + t * VOCAB);
        ASSERT_OK(ctx, qrb_generator_sample(generator, &sampling, &drawn[t]));
        ASSERT_OK(ctx, qrb_generator_feed(generator, &drawn[t], 1));
    }
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}

START_TEST(bits_and_text_do_not_depend_on_the_number_of_threads)
{
    const qrb_engine_config config = shape_of(_i / PRECISIONS);
    double logits[2][10 * VOCAB];
    int32_t drawn[2][10];

    for (size_t i = 0; i < 2; i++)
        feed_with_threads(&config, precisions[_i % PRECISIONS], 1 + 2 * i,
                          logits[i], drawn[i]);
    ck_assert_mem_eq(logits[0], logits[1], sizeof logits[0]);
    ck_assert_mem_eq(drawn[0], drawn[1], sizeof drawn[0]);
}
END_TEST

START_TEST(memory_is_what_was_announced)
{
    const qrb_engine_config config = shape_of(_i / PRECISIONS / 2);
    const uint32_t dtype = _i / PRECISIONS % 2 ? QRB_F64 : QRB_F32;
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_generator_options how = QRB_GENERATOR_OPTIONS_INIT;
    qrb_sampling_options sampling = QRB_SAMPLING_OPTIONS_INIT;
    struct counting_allocator bytes = { 0, 0 };
    qrb_context *ctx = NULL;
    qrb_model *model;
    qrb_generator *generator = NULL;
    int32_t tokens[LENGTH];
    uint64_t announced = 0;
    size_t before;

    options.threads = 3;
    options.alloc = counting_alloc;
    options.release = counting_free;
    options.alloc_user = &bytes;
    how.kv_bits = precisions[_i % PRECISIONS];
    how.context = 131 + (size_t)_i % 20;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    model = make_model(ctx, &config, dtype);
    ASSERT_OK(ctx, qrb_generator_memory(model, &how, &announced));
    before = bytes.live;
    ASSERT_OK(ctx, qrb_generator_create(model, &how, &generator));
    /* Blocks of the allocator are whole lines. */
    ck_assert_uint_ge(bytes.live - before, announced);
    ck_assert_uint_le(bytes.live - before, announced + 20 * 128);
    before = bytes.live;
    bytes.most = bytes.live;
    fill_tokens(tokens, LENGTH, VOCAB);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 130));
    sampling.top_k = 4;
    ASSERT_OK(ctx, qrb_generator_sample(generator, &sampling, tokens));
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 1));
    ck_assert_uint_eq(bytes.live, before);
    ck_assert_uint_eq(bytes.most, before); /* nothing in between either */
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    ck_assert_uint_eq(bytes.live, 0);
}
END_TEST

static qrb_status make_and_feed(qrb_context *ctx, void *arg)
{
    const uint32_t *kv_bits = arg;
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    const qrb_engine_config config = config_of(&variants[1]);
    const int32_t tokens[3] = { 1, 2, 3 };
    qrb_generator *generator = NULL;
    qrb_model *model = NULL;
    uint64_t bytes = 7;
    qrb_status status = qrb_engine_create(ctx, &config, NULL, &model);

    options.kv_bits = *kv_bits;
    if (status == QRB_OK)
        status = qrb_generator_memory(model, &options, &bytes);
    ck_assert(status == QRB_OK || bytes == 7);
    if (status == QRB_OK)
        status = qrb_generator_create(model, &options, &generator);
    ck_assert(status == QRB_OK || generator == NULL);
    if (status == QRB_OK)
        status = qrb_generator_feed(generator, tokens, 3);
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    uint32_t kv_bits = precisions[_i];

    fail_each_allocation(make_and_feed, &kv_bits);
}
END_TEST

START_TEST(a_full_context_is_refused_and_the_sequence_stays)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    qrb_context *ctx = make_context(NULL);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_generator *generator = NULL;
    int32_t tokens[LENGTH];
    double before[VOCAB];
    double after[VOCAB];

    options.context = 10;
    fill_tokens(tokens, LENGTH, VOCAB);
    ASSERT_OK(ctx, qrb_generator_create(model, &options, &generator));
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, tokens, 11), QRB_E_SHAPE,
                 "11 tokens after 0; the context holds 10");
    ck_assert_uint_eq(qrb_generator_length(generator), 0);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 9));
    get_logits(generator, QRB_F32, before);
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, tokens, 2), QRB_E_SHAPE,
                 "2 tokens after 9; the context holds 10");
    tokens[0] = VOCAB;
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, tokens, 1),
                 QRB_E_INVALID_ARG, "token 0 is 19; ids are in 0..18");
    tokens[0] = -1;
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, tokens, 1),
                 QRB_E_INVALID_ARG, "token 0 is -1");
    get_logits(generator, QRB_F32, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert_uint_eq(qrb_generator_length(generator), 9);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens + 9, 1));
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, tokens + 9, 1),
                 QRB_E_SHAPE, "the context holds 10");
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

static int stop(void *user)
{
    size_t *left = user;

    return (*left)-- == 0;
}

/* Asked before each of three blocks. */
START_TEST(a_feed_that_is_cancelled_leaves_the_sequence_as_it_was)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = NULL;
    qrb_generator *generator;
    qrb_model *model;
    int32_t tokens[300];
    double before[VOCAB];
    double after[VOCAB];
    size_t left = SIZE_MAX;

    config.context = 400;
    options.cancel = stop;
    options.cancel_user = &left;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    model = make_model(ctx, &config, QRB_F32);
    generator = make_generator(model, 8);
    fill_tokens(tokens, 300, VOCAB);
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 20));
    get_logits(generator, QRB_F32, before);
    left = 2;
    ck_assert_int_eq(qrb_generator_feed(generator, tokens, 300),
                     QRB_E_CANCELLED);
    ck_assert_uint_eq(qrb_generator_length(generator), 20);
    get_logits(generator, QRB_F32, after);
    ck_assert_mem_eq(before, after, sizeof before);
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_generator_uses_the_weights_as_they_are)
{
    const qrb_engine_config config = config_of(&variants[1]);
    qrb_context *ctx = make_context(NULL);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_generator *generator = make_generator(model, 0);
    const int32_t tokens[2] = { 3, 4 };
    double before[VOCAB];
    double after[VOCAB];
    qrb_parameter head;

    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 2));
    get_logits(generator, QRB_F32, before);
    head = parameter_at(model, qrb_model_parameter_count(model) - 1);
    ck_assert_int_eq(head.role, QRB_ROLE_HEAD);
    for (size_t i = 0; i < parameter_elements(head.weight); i++)
        set_element(head.weight, i, 2 * get_element(head.weight, i));
    ASSERT_OK(ctx, qrb_generator_reset(generator));
    ASSERT_OK(ctx, qrb_generator_feed(generator, tokens, 2));
    get_logits(generator, QRB_F32, after);
    for (size_t i = 0; i < VOCAB; i++)
        ck_assert_double_eq(after[i], 2 * before[i]);
    qrb_generator_destroy(generator);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    qrb_context *ctx = make_context(NULL);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_generator *generator = NULL;
    qrb_tensor *wrong = matrix(ctx, QRB_F32, 1, VOCAB, NULL);
    const int32_t token = 1;
    qrb_pass *pass = NULL;
    uint64_t bytes;

    ck_assert_int_eq(qrb_generator_create(NULL, NULL, &generator),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_create(model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_memory(NULL, NULL, &bytes),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_memory(model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_feed(NULL, &token, 1), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_reset(NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_generator_logits(NULL, wrong), QRB_E_INVALID_ARG);
    ck_assert_uint_eq(qrb_generator_length(NULL), 0);
    qrb_generator_destroy(NULL);

    options.kv_bits = 5;
    ASSERT_FAILS(ctx, qrb_generator_create(model, &options, &generator),
                 QRB_E_INVALID_ARG, "kv_bits is 5");
    options.kv_bits = 8;
    options.kv_grid = QRB_GRID_S_ABS;
    ASSERT_FAILS(ctx, qrb_generator_memory(model, &options, &bytes),
                 QRB_E_INVALID_ARG, "kv_grid is 8");
    options.kv_grid = QRB_GRID_A_OMNI;
    options.context = config.context + 1;
    ASSERT_FAILS(ctx, qrb_generator_create(model, &options, &generator),
                 QRB_E_SHAPE, "context is 161; the model's is 160");
    ck_assert_ptr_null(generator);

    generator = make_generator(model, 0);
    ASSERT_FAILS(ctx, qrb_generator_logits(generator, wrong), QRB_E_STATE,
                 "nothing was fed");
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, NULL, 1),
                 QRB_E_INVALID_ARG, "tokens is NULL");
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, &token, 0),
                 QRB_E_INVALID_ARG, "no token");
    ASSERT_OK(ctx, qrb_generator_feed(generator, &token, 1));
    ASSERT_FAILS(ctx, qrb_generator_logits(generator, NULL),
                 QRB_E_INVALID_ARG, "out is NULL");
    ASSERT_FAILS(ctx, qrb_generator_logits(generator, wrong), QRB_E_SHAPE,
                 "expected F32 [19]");
    ASSERT_OK(ctx, qrb_pass_create(model, NULL, &pass));
    ASSERT_OK(ctx, qrb_model_set_pass(model, pass));
    ASSERT_FAILS(ctx, qrb_generator_feed(generator, &token, 1), QRB_E_STATE,
                 "do not tap");
    ASSERT_OK(ctx, qrb_model_set_pass(model, NULL));
    qrb_pass_destroy(pass);
    qrb_generator_destroy(generator);
    qrb_tensor_destroy(wrong);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("generate");
    TCase *results = tcase_create("results");
    TCase *contract = tcase_create("contract");

    tcase_set_timeout(results, 60);
    tcase_add_loop_test(results, any_cut_gives_the_logits_of_the_whole_sequence,
                        0, 2 * SHAPES);
    tcase_add_loop_test(results, a_coded_cache_does_not_depend_on_the_cut, 0,
                        PRECISIONS * SHAPES);
    tcase_add_loop_test(results, codes_are_those_of_the_grid_per_token_and_head,
                        0, 4);
    tcase_add_loop_test(results, halves_are_within_their_rounding, 0,
                        2 * VARIANTS);
    tcase_add_loop_test(results,
                        bits_and_text_do_not_depend_on_the_number_of_threads,
                        0, PRECISIONS * SHAPES);
    tcase_add_test(results, a_generator_uses_the_weights_as_they_are);
    suite_add_tcase(suite, results);

    tcase_add_loop_test(contract, memory_is_what_was_announced, 0,
                        2 * PRECISIONS * SHAPES);
    tcase_add_loop_test(contract, every_allocation_may_fail, 0, PRECISIONS);
    tcase_add_test(contract, a_full_context_is_refused_and_the_sequence_stays);
    tcase_add_test(contract,
                   a_feed_that_is_cancelled_leaves_the_sequence_as_it_was);
    tcase_add_test(contract, what_makes_no_sense_is_refused);
    suite_add_tcase(suite, contract);
    return run_suite(suite);
}
