/* The engine's contracts: precision, threads, shapes of batches, memory. */
#include <qrobust/train.h>

#include "engine_model.h"

static bool same_gradients(const qrb_model *a, const qrb_model *b)
{
    for (size_t p = 0; p < qrb_model_parameter_count(a); p++) {
        const qrb_parameter x = parameter_at(a, p);
        const qrb_parameter y = parameter_at(b, p);
        const size_t size = parameter_elements(x.weight) *
                            qrb_dtype_size(qrb_tensor_dtype(x.weight));

        if (memcmp(qrb_tensor_memory(x.gradient), qrb_tensor_memory(y.gradient),
                   size) != 0)
            return false;
    }
    return true;
}

/* Both run the same source on the same weights.  A logit is a sum over paths
 * of some 100 roundings of eps = 6e-8 each that partly cancel. */
START_TEST(float_agrees_with_double)
{
    const qrb_engine_config config = config_of(&variants[_i]);
    qrb_context *ctx = make_threads(2);
    qrb_model *narrow = make_model(ctx, &config, QRB_F32);
    qrb_model *wide = make_model(ctx, &config, QRB_F64);
    qrb_tensor *x = matrix(ctx, QRB_F32, 3 * 100, config.vocab, NULL);
    qrb_tensor *y = matrix(ctx, QRB_F64, 3 * 100, config.vocab, NULL);
    struct test_batch batch;
    double largest = 0;
    double apart = 0;

    fill_batch(&batch, 3, 100, config.vocab);
    ASSERT_OK(ctx, qrb_engine_logits(narrow, batch.tokens, 3, 100, x));
    ASSERT_OK(ctx, qrb_engine_logits(wide, batch.tokens, 3, 100, y));
    for (size_t i = 0; i < 300 * config.vocab; i++) {
        largest = fmax(largest, fabs(get_element(y, i)));
        apart = fmax(apart, fabs(get_element(y, i) - get_element(x, i)));
    }
    ck_assert_double_gt(largest, 0.5);
    ck_assert_double_lt(apart, 6e-6 * largest);

    ck_assert_double_eq_tol(loss_and_gradients(narrow, &batch, 1.0),
                            loss_and_gradients(wide, &batch, 1.0), 2e-6);
    for (size_t p = 0; p < qrb_model_parameter_count(wide); p++) {
        const qrb_parameter a = parameter_at(narrow, p);
        const qrb_parameter b = parameter_at(wide, p);

        for (size_t i = 0; i < parameter_elements(a.weight); i++)
            ck_assert_double_eq_tol(get_element(a.gradient, i),
                                    get_element(b.gradient, i), 2e-6);
    }
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(y);
    qrb_model_destroy(narrow);
    qrb_model_destroy(wide);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(bits_do_not_depend_on_the_number_of_threads)
{
    struct variant variant = _i < VARIANTS ? variants[_i] : wide_variant;
    qrb_engine_config config;
    qrb_context *ctx[3];
    qrb_model *model[3];
    struct test_batch batch;
    double loss[3];

    if (_i < VARIANTS) { /* several tiles of every product */
        variant.dim *= 8;
        variant.hidden *= 8;
        variant.head_dim *= 8;
    }
    config = config_of(&variant);
    config.vocab = 300;
    fill_batch(&batch, 3, 150, config.vocab);
    for (size_t t = 0; t < 3; t++) {
        ctx[t] = make_threads(t + 1);
        model[t] = make_model(ctx[t], &config, QRB_F32);
        loss[t] = loss_and_gradients(model[t], &batch, 1.0);
        ck_assert_double_eq(loss[t], loss[0]);
        ck_assert_double_eq(loss_of(model[t], &batch),
                            loss_of(model[0], &batch));
        ck_assert(same_gradients(model[t], model[0]));
    }
    for (size_t t = 0; t < 3; t++) {
        qrb_model_destroy(model[t]);
        qrb_context_destroy(ctx[t]);
    }
}
END_TEST

/* Batches of other shapes, larger and smaller, leave nothing behind. */
START_TEST(a_batch_does_not_see_the_one_before)
{
    const size_t shapes[][2] = { { 1, 2 },  { 3, 40 }, { 2, 7 },
                                 { 1, 129 }, { 3, 40 }, { 1, 2 } };
    const qrb_engine_config config = config_of(&variants[_i]);
    qrb_context *ctx = make_threads(2);
    qrb_model *used = make_model(ctx, &config, QRB_F32);

    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        qrb_model *fresh = make_model(ctx, &config, QRB_F32);
        struct test_batch batch;

        fill_batch(&batch, shapes[i][0], shapes[i][1], config.vocab);
        ck_assert_double_eq(loss_of(used, &batch), loss_of(fresh, &batch));
        ck_assert_int_eq(qrb__model_zero_grad(used), QRB_OK);
        ck_assert_double_eq(loss_and_gradients(used, &batch, 1.0),
                            loss_and_gradients(fresh, &batch, 1.0));
        ck_assert(same_gradients(used, fresh));
        qrb_model_destroy(fresh);
    }
    qrb_model_destroy(used);
    qrb_context_destroy(ctx);
}
END_TEST

/* A row depends on its own sequence and on nothing behind it. */
START_TEST(rows_of_a_batch_are_those_of_single_sequences)
{
    const qrb_engine_config config = config_of(&variants[_i]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    const size_t vocab = config.vocab;
    qrb_tensor *all = matrix(ctx, QRB_F64, 3 * 80, vocab, NULL);
    qrb_tensor *one = matrix(ctx, QRB_F64, 50, vocab, NULL);
    struct test_batch batch;

    fill_batch(&batch, 3, 80, vocab);
    ASSERT_OK(ctx, qrb_engine_logits(model, batch.tokens, 3, 80, all));
    for (size_t s = 0; s < 3; s++) {
        ASSERT_OK(ctx, qrb_engine_logits(model, batch.tokens + 80 * s, 1, 50,
                                         one));
        for (size_t i = 0; i < 50 * vocab; i++)
            ck_assert_double_eq_tol(get_element(one, i),
                                    get_element(all, 80 * s * vocab + i),
                                    1e-12);
    }
    qrb_tensor_destroy(all);
    qrb_tensor_destroy(one);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* -log softmax(logits)[target] in double. */
static double nll_of(const double *logits, size_t vocab, size_t target)
{
    double sum = 0;

    for (size_t i = 0; i < vocab; i++)
        sum += exp(logits[i] - logits[target]);
    return log(sum);
}

/* logits, token_nll, loss and qrb_engine_logits() say the same, and rows are
 * the scored ones in order: also for float64, whose callbacks take floats. */
START_TEST(callbacks_agree_with_each_other)
{
    const qrb_engine_config config = config_of(&variants[2]);
    const uint32_t dtype = _i == 0 ? QRB_F32 : QRB_F64;
    const double tolerance = _i == 0 ? 1e-5 : 1e-6;
    const size_t vocab = config.vocab;
    qrb_context *ctx = make_threads(2);
    qrb_model *model = make_model(ctx, &config, dtype);
    qrb_tensor *all = matrix(ctx, dtype, 3 * 90, vocab, NULL);
    float *logits = calloc(3 * 90 * vocab, sizeof *logits);
    float *nll = calloc(3 * 90, sizeof *nll);
    int32_t *targets = calloc(3 * 90, sizeof *targets);
    double *row = calloc(vocab, sizeof *row);
    struct test_batch batch;
    size_t rows;
    size_t r = 0;
    double sum = 0;
    bool skipped;

    fill_batch(&batch, 3, 90, vocab);
    batch.first[1] = 90; /* a sequence that scores nothing */
    rows = qrb__token_batch_rows(ctx, &batch.batch);
    ASSERT_OK(ctx, qrb_engine_logits(model, batch.tokens, 3, 90, all));
    ASSERT_OK(ctx, qrb__model_logits(model, &batch.batch, logits, targets,
                                     rows, &skipped));
    ASSERT_OK(ctx, qrb__model_token_nll(model, &batch.batch, rows, NULL, NULL,
                                        nll, &skipped));
    for (size_t s = 0; s < 3; s++)
        for (size_t t = batch.first[s]; t < 90; t++, r++) {
            const size_t target = (size_t)batch.tokens[90 * s + t];

            for (size_t i = 0; i < vocab; i++) {
                row[i] = get_element(all, (90 * s + t - 1) * vocab + i);
                ck_assert_double_eq_tol((double)logits[r * vocab + i], row[i],
                                        tolerance);
            }
            ck_assert_int_eq(targets[r], (int)target);
            ck_assert_double_eq_tol((double)nll[r],
                                    nll_of(row, vocab, target), tolerance);
            sum += nll_of(row, vocab, target);
        }
    ck_assert_uint_eq(r, rows);
    ck_assert_double_eq_tol(loss_of(model, &batch), sum / (double)rows,
                            tolerance);
    free(logits);
    free(nll);
    free(targets);
    free(row);
    qrb_tensor_destroy(all);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(nothing_is_allocated_after_the_first_step)
{
    const qrb_engine_config config = config_of(&variants[1]);
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *ctx = make_context(&allocator);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    struct test_batch large;
    struct test_batch small;
    size_t calls;

    fill_batch(&large, 3, 100, config.vocab);
    fill_batch(&small, 2, 31, config.vocab);
    loss_and_gradients(model, &large, 1.0);
    loss_of(model, &large);
    calls = allocator.calls;
    loss_and_gradients(model, &small, 1.0);
    loss_of(model, &small);
    loss_and_gradients(model, &large, 1.0);
    loss_of(model, &large);
    ck_assert_uint_eq(allocator.calls, calls);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    ck_assert_uint_eq(allocator.live, 0);
}
END_TEST

START_TEST(memory_is_what_was_announced)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct counting_allocator bytes = { 0, 0 };
    qrb_engine_config config = config_of(&variants[_i / 4]);
    qrb_engine_options how = QRB_ENGINE_OPTIONS_INIT;
    const bool training = _i % 2;
    qrb_context *ctx = NULL;
    qrb_model *model = NULL;
    struct test_batch batch;
    uint64_t announced = 0;
    size_t before;

    config.dim *= 8;
    config.head_dim *= 8;
    config.hidden *= 8;
    config.vocab = 1000;
    how.trainable = training;
    how.dtype = _i % 4 < 2 ? QRB_F32 : QRB_F64;
    options.threads = 2;
    options.alloc = counting_alloc;
    options.release = counting_free;
    options.alloc_user = &bytes;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    before = bytes.live;
    ASSERT_OK(ctx, qrb_engine_create(ctx, &config, &how, &model));
    fill_batch(&batch, 3, 101, config.vocab);
    ASSERT_OK(ctx, qrb_engine_memory(model, 3, 100, training, &announced));
    if (training)
        loss_and_gradients(model, &batch, 1.0);
    else
        loss_of(model, &batch);
    ck_assert_double_eq_tol((double)announced / (double)(bytes.live - before),
                            1.0, 0.02);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* Weights, gradients, moments and the arena, from the first allocation of the
 * model to the last of the step, at shapes where each of them is the largest.
 * { dim, layers, hidden, vocab, sequences, length } */
START_TEST(a_training_step_holds_what_was_announced)
{
    static const size_t shapes[][6] = {
        { 64, 5, 172, 512, 3, 128 },  { 64, 1, 64, 8000, 1, 16 },
        { 128, 2, 344, 1024, 3, 64 }, { 96, 3, 256, 64, 3, 149 },
        { 256, 2, 704, 300, 1, 8 },
    };
    const size_t *shape = shapes[_i / 4];
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct counting_allocator bytes = { 0, 0 };
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_optimizer_options how = QRB_OPTIMIZER_OPTIONS_INIT;
    qrb_optimizer *optimizer = NULL;
    qrb_context *ctx = NULL;
    qrb_model *model = NULL;
    struct test_batch batch;
    uint64_t engine = 0;
    uint64_t moments = 0;
    size_t before;

    config.dim = shape[0];
    config.layers = shape[1];
    config.heads = 4;
    config.kv_heads = 2;
    config.hidden = shape[2];
    config.vocab = shape[3];
    config.context = shape[5];
    how.kind = _i % 2 == 0 ? QRB_ADAMW : QRB_SGD;
    options.threads = _i % 4 < 2 ? 1 : 3;
    options.alloc = counting_alloc;
    options.release = counting_free;
    options.alloc_user = &bytes;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    before = bytes.live;
    ASSERT_OK(ctx, qrb_engine_create(ctx, &config, NULL, &model));
    ASSERT_OK(ctx, qrb_engine_memory(model, shape[4], shape[5], 1, &engine));
    ASSERT_OK(ctx, qrb_optimizer_memory(model, &how, &moments));
    bytes.most = bytes.live;
    ASSERT_OK(ctx, qrb_optimizer_create(model, &how, &optimizer));
    fill_batch(&batch, shape[4], shape[5] + 1, config.vocab);
    for (int step = 0; step < 2; step++) {
        loss_and_gradients(model, &batch, 1.0);
        ASSERT_OK(ctx, qrb_optimizer_step(optimizer, 1e-4, NULL));
    }
    ck_assert_double_eq_tol((double)(engine + moments) /
                                (double)(bytes.most - before),
                            1.0, 0.02);
    qrb_optimizer_destroy(optimizer);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(batches_that_make_no_sense_are_refused)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    qrb_tensor *logits = matrix(ctx, QRB_F32, 4, config.vocab, NULL);
    int32_t tokens[200] = { 1, 2, 3, 4 };
    struct test_batch batch;
    size_t scored;
    double loss;
    bool skipped;

    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 2, 3, logits),
                 QRB_E_SHAPE, "expected F32 [6, 19]");
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 0, 4, logits),
                 QRB_E_SHAPE, "0 sequences");
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, SIZE_MAX, 4, logits),
                 QRB_E_SHAPE, "sequences of 4");
    ASSERT_FAILS(ctx, qrb_engine_logits(model, NULL, 1, 4, logits),
                 QRB_E_INVALID_ARG, "tokens");
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 1, 4, NULL),
                 QRB_E_INVALID_ARG, "out");
    ck_assert_int_eq(qrb_engine_logits(NULL, tokens, 1, 4, logits),
                     QRB_E_INVALID_ARG);
    tokens[3] = 19;
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 1, 4, logits),
                 QRB_E_INVALID_ARG, "token 3 of sequence 0 is 19; ids are in "
                                    "0..18");
    tokens[3] = -1;
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 2, 2, logits),
                 QRB_E_INVALID_ARG, "token 1 of sequence 1 is -1");
    qrb_tensor_destroy(logits);
    logits = matrix(ctx, QRB_F32, 161, config.vocab, NULL);
    tokens[3] = 4;
    ASSERT_FAILS(ctx, qrb_engine_logits(model, tokens, 1, 161, logits),
                 QRB_E_SHAPE, "the model's context is 160");

    fill_batch(&batch, 1, 8, config.vocab);
    batch.tokens[7] = 100; /* a target only */
    ASSERT_FAILS(ctx,
                 qrb__model_loss(model, &batch.batch, &loss, &scored, &skipped),
                 QRB_E_INVALID_ARG, "token 7 of sequence 0 is 100");
    batch.tokens[7] = 1;
    batch.first[0] = 8;
    ASSERT_FAILS(ctx,
                 qrb__model_loss_and_grad(model, &batch.batch, 1, &loss,
                                          &scored, &skipped),
                 QRB_E_INVALID_ARG, "none of its 8 tokens is scored");
    batch.first[0] = 1;
    loss_of(model, &batch); /* as if nothing had been */
    qrb_tensor_destroy(logits);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(rows_that_the_batch_does_not_score_are_refused)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    float out[19 * 8];
    int32_t targets[8];
    struct test_batch batch;
    bool skipped;

    fill_batch(&batch, 1, 8, config.vocab);
    ASSERT_FAILS(ctx,
                 qrb__model_logits(model, &batch.batch, out, targets, 6,
                                   &skipped),
                 QRB_E_SHAPE, "6 rows are asked for, the batch scores 7");
    ASSERT_FAILS(ctx,
                 qrb__model_token_nll(model, &batch.batch, 8, NULL, NULL, out,
                                      &skipped),
                 QRB_E_SHAPE, "8 rows");
    ASSERT_OK(ctx, qrb__model_logits(model, &batch.batch, out, targets, 7,
                                     &skipped));
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(a_model_without_gradients_does_not_train)
{
    const qrb_engine_config config = config_of(&variants[0]);
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_model *model = NULL;
    struct test_batch batch;
    uint64_t bytes;
    size_t scored;
    double loss;
    bool skipped;

    options.trainable = 0;
    ASSERT_OK(ctx, qrb_engine_create(ctx, &config, &options, &model));
    fill_batch(&batch, 1, 8, config.vocab);
    loss_of(model, &batch);
    ck_assert_ptr_null(parameter_at(model, 1).gradient);
    ASSERT_FAILS(ctx,
                 qrb__model_loss_and_grad(model, &batch.batch, 1, &loss,
                                          &scored, &skipped),
                 QRB_E_UNSUPPORTED, "loss_and_grad");
    ASSERT_FAILS(ctx, qrb_engine_memory(model, 1, 8, 1, &bytes), QRB_E_STATE,
                 "without gradients");
    ASSERT_FAILS(ctx, qrb_engine_memory(model, 1, 8, 2, &bytes),
                 QRB_E_INVALID_ARG, "neither");
    ASSERT_FAILS(ctx, qrb_engine_memory(model, 1, 161, 0, &bytes),
                 QRB_E_SHAPE, "context");
    ASSERT_FAILS(ctx, qrb_engine_memory(model, SIZE_MAX, 8, 0, &bytes),
                 QRB_E_SHAPE, "too large");
    ck_assert_int_eq(qrb_engine_memory(NULL, 1, 8, 0, &bytes),
                     QRB_E_INVALID_ARG);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(options_and_shapes_that_make_no_sense_are_refused)
{
    qrb_engine_config config = config_of(&variants[0]);
    qrb_engine_options options = QRB_ENGINE_OPTIONS_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_model *model = NULL;

    ck_assert_int_eq(qrb_engine_create(NULL, &config, NULL, &model),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_engine_create(ctx, &config, NULL, NULL),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_engine_create(ctx, NULL, NULL, &model),
                 QRB_E_INVALID_ARG, "config is NULL");
    options.dtype = QRB_F16;
    ASSERT_FAILS(ctx, qrb_engine_create(ctx, &config, &options, &model),
                 QRB_E_UNSUPPORTED, "dtype is F16");
    options.dtype = QRB_F32;
    options.trainable = 2;
    ASSERT_FAILS(ctx, qrb_engine_create(ctx, &config, &options, &model),
                 QRB_E_INVALID_ARG, "trainable is 2");
    config.heads = 5;
    ASSERT_FAILS(ctx, qrb_engine_create(ctx, &config, NULL, &model),
                 QRB_E_INVALID_ARG, "num_attention_heads");
    ck_assert_ptr_null(model);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(initial_weights_are_as_documented)
{
    qrb_engine_config config = config_of(&variants[3]);
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_model *model[3] = { NULL };
    qrb_context *ctx[3];

    config.dim = 64;
    config.hidden = 200;
    for (size_t i = 0; i < 3; i++) {
        options.seed = i / 2;
        ck_assert_int_eq(qrb_context_create(&options, &ctx[i]), QRB_OK);
        ASSERT_OK(ctx[i], qrb_engine_create(ctx[i], &config, NULL, &model[i]));
    }
    for (size_t p = 0; p < qrb_model_parameter_count(model[0]); p++) {
        const qrb_parameter x = parameter_at(model[0], p);
        const qrb_parameter y = parameter_at(model[1], p);
        const qrb_parameter z = parameter_at(model[2], p);
        const size_t count = parameter_elements(x.weight);
        const size_t size = count * sizeof(float);
        double sigma = 0.02;
        double squares = 0;

        ck_assert_mem_eq(qrb_tensor_memory(x.weight),
                         qrb_tensor_memory(y.weight), size);
        for (size_t i = 0; i < count; i++)
            squares += pow(get_element(x.weight, i), 2);
        if (x.role == QRB_ROLE_NORM || x.role == QRB_ROLE_BIAS) {
            ck_assert_double_eq(squares,
                                x.role == QRB_ROLE_NORM ? (double)count : 0);
            continue;
        }
        if (x.role == QRB_ROLE_O || x.role == QRB_ROLE_DOWN)
            sigma /= 2; /* sqrt(2 * 2 layers) */
        /* The deviation of an estimate from n numbers is sigma / sqrt(2n). */
        ck_assert_double_eq_tol(sqrt(squares / (double)count), sigma,
                                5 * sigma / sqrt(2.0 * (double)count));
        ck_assert_mem_ne(qrb_tensor_memory(x.weight),
                         qrb_tensor_memory(z.weight), size);
    }
    for (size_t i = 0; i < 3; i++) {
        qrb_model_destroy(model[i]);
        qrb_context_destroy(ctx[i]);
    }
}
END_TEST

START_TEST(the_models_of_hosts_are_told_apart)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    qrb_context *ctx = make_threads(1);
    qrb_model *model = NULL;
    int32_t token = 0;
    uint64_t bytes;
    qrb_tensor *logits = matrix(ctx, QRB_F32, 1, 1, NULL);

    ASSERT_OK(ctx, qrb_model_create(ctx, NULL, &model));
    ASSERT_FAILS(ctx, qrb_engine_get_config(model, &config), QRB_E_STATE,
                 "not the engine's");
    ASSERT_FAILS(ctx, qrb_engine_logits(model, &token, 1, 1, logits),
                 QRB_E_STATE, "not the engine's");
    ASSERT_FAILS(ctx, qrb_engine_memory(model, 1, 1, 0, &bytes), QRB_E_STATE,
                 "not the engine's");
    ASSERT_FAILS(ctx, qrb_engine_save(model, "/nowhere", NULL, 0), QRB_E_STATE,
                 "not the engine's");
    ck_assert_int_eq(qrb_engine_get_config(NULL, &config), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_engine_get_config(model, NULL), QRB_E_INVALID_ARG);
    qrb_tensor_destroy(logits);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

/* A host may move the storage of a parameter, also one that lies between two
 * others in one product. */
START_TEST(moved_weights_are_used_where_they_are)
{
    const qrb_engine_config config = config_of(&variants[1]);
    qrb_context *ctx = make_threads(1);
    qrb_model *model = make_model(ctx, &config, QRB_F64);
    const size_t k = qrb_model_find(
        model, "model.layers.0.self_attn.k_proj.weight");
    const qrb_parameter before = parameter_at(model, k);
    const size_t count = parameter_elements(before.weight);
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *weight = NULL;
    qrb_tensor *gradient = NULL;
    double *old = calloc(count, sizeof *old);
    struct test_batch batch;
    double loss;

    options.dtype = QRB_F64;
    options.rank = 2;
    for (uint32_t i = 0; i < 2; i++)
        options.shape[i] = qrb_tensor_extent(before.weight, i);
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &weight));
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &gradient));
    fill_batch(&batch, 2, 20, config.vocab);
    loss = loss_and_gradients(model, &batch, 1.0);
    for (size_t i = 0; i < count; i++)
        old[i] = get_element(before.gradient, i);
    ASSERT_OK(ctx, qrb_tensor_copy(before.weight, weight));
    for (size_t i = 0; i < count; i++)
        set_element(before.weight, i, 1e9);
    ASSERT_OK(ctx, qrb_model_weights_changed(model, k, weight, gradient));
    ck_assert_double_eq_tol(loss_and_gradients(model, &batch, 1.0), loss,
                            1e-13);
    for (size_t i = 0; i < count; i++)
        ck_assert_double_eq_tol(get_element(gradient, i), old[i], 1e-13);
    free(old);
    qrb_model_destroy(model);
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(gradient);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status create_and_step(qrb_context *ctx, void *arg)
{
    const qrb_engine_config config = config_of(&variants[4]);
    struct test_batch batch;
    qrb_model *model = NULL;
    uint64_t bytes;
    size_t scored;
    double loss;
    bool skipped;
    qrb_status status;

    (void)arg;
    fill_batch(&batch, 2, 9, config.vocab);
    status = qrb_engine_create(ctx, &config, NULL, &model);
    if (status != QRB_OK) {
        ck_assert_ptr_null(model);
        return status;
    }
    status = qrb_engine_memory(model, 2, 9, 1, &bytes);
    if (status == QRB_OK)
        status = qrb__model_loss_and_grad(model, &batch.batch, 1, &loss,
                                          &scored, &skipped);
    qrb_model_destroy(model);
    return status;
}

START_TEST(every_allocation_of_create_and_the_first_step_may_fail)
{
    fail_each_allocation(create_and_step, NULL);
}
END_TEST

/* After a failure to grow, smaller batches still work. */
START_TEST(an_engine_outlives_a_batch_that_it_has_no_memory_for)
{
    const qrb_engine_config config = config_of(&variants[0]);
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *ctx = make_context(&allocator);
    qrb_model *model = make_model(ctx, &config, QRB_F32);
    struct test_batch small;
    struct test_batch large;
    double loss;

    fill_batch(&small, 1, 9, config.vocab);
    fill_batch(&large, 3, 99, config.vocab);
    loss = loss_of(model, &small);
    for (size_t n = 1;; n++) {
        bool skipped;
        size_t scored;
        double ignored;
        qrb_status status;

        allocator.calls = 0;
        allocator.fail_at = n;
        status = qrb__model_loss(model, &large.batch, &ignored, &scored,
                                 &skipped);
        allocator.fail_at = 0;
        ck_assert_double_eq(loss_of(model, &small), loss);
        if (status == QRB_OK) {
            ck_assert_uint_gt(n, 1);
            break;
        }
        ck_assert_int_eq(status, QRB_E_NO_MEMORY);
    }
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("engine");
    TCase *cases = tcase_create("results");
    TCase *contract = tcase_create("contract");

    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, float_agrees_with_double, 0, VARIANTS);
    tcase_add_loop_test(cases, bits_do_not_depend_on_the_number_of_threads, 0,
                        VARIANTS + 1);
    tcase_add_loop_test(cases, a_batch_does_not_see_the_one_before, 0,
                        VARIANTS);
    tcase_add_loop_test(cases, rows_of_a_batch_are_those_of_single_sequences,
                        0, VARIANTS);
    tcase_add_loop_test(cases, callbacks_agree_with_each_other, 0, 2);
    tcase_add_test(cases, initial_weights_are_as_documented);
    tcase_add_test(cases, moved_weights_are_used_where_they_are);
    suite_add_tcase(suite, cases);

    tcase_add_test(contract, nothing_is_allocated_after_the_first_step);
    tcase_add_loop_test(contract, memory_is_what_was_announced, 0,
                        4 * VARIANTS);
    tcase_add_loop_test(contract, a_training_step_holds_what_was_announced, 0,
                        5 * 4);
    tcase_add_test(contract, batches_that_make_no_sense_are_refused);
    tcase_add_test(contract, rows_that_the_batch_does_not_score_are_refused);
    tcase_add_test(contract, a_model_without_gradients_does_not_train);
    tcase_add_test(contract, options_and_shapes_that_make_no_sense_are_refused);
    tcase_add_test(contract, the_models_of_hosts_are_told_apart);
    tcase_add_test(contract,
                   every_allocation_of_create_and_the_first_step_may_fail);
    tcase_add_test(contract,
                   an_engine_outlives_a_batch_that_it_has_no_memory_for);
    suite_add_tcase(suite, contract);
    return run_suite(suite);
}
