/* The push contract: taps, listeners, steps and masks. */
#include "harness.h"

#include <math.h>
#include <pthread.h>

#include "mock_host.h"
#include "model/model.h"
#include "model/pass.h"

enum { BLOCKS = 4, CONV = MOCK_PARAMETERS, TRANSPOSED = CONV + 1 };

static qrb_context *ctx;
static struct mock_host *host;
static qrb_pass *pass;

static void add_extra(const char *name, uint32_t flags, uint32_t rank,
                      const size_t *shape, float *memory)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *weight = NULL;

    options.memory = memory;
    options.rank = rank;
    memcpy(options.shape, shape, rank * sizeof *shape);
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &weight));
    parameter.name = name;
    parameter.weight = weight;
    parameter.role = QRB_ROLE_OTHER;
    parameter.flags = flags;
    ASSERT_OK(ctx, qrb_model_add_parameter(host->model, &parameter, NULL));
    qrb_tensor_destroy(weight);
}

static void set_up(void)
{
    static float convolution[6 * 2 * 3 * 3];
    static float transposed[3 * 5];
    const size_t convolution_shape[4] = { 6, 2, 3, 3 };
    const size_t transposed_shape[2] = { 3, 5 };

    ctx = make_context(NULL);
    ASSERT_OK(ctx, mock_host_create(ctx, MOCK_OWN_BATCHES, 1, NULL, &host));
    add_extra("conv", 0, 4, convolution_shape, convolution);
    add_extra("transposed", QRB_PARAM_TRANSPOSED, 2, transposed_shape,
              transposed);
    ASSERT_OK(ctx, qrb_pass_create(host->model, NULL, &pass));
}

static void tear_down(void)
{
    qrb_pass_destroy(pass);
    mock_host_destroy(host);
    qrb_context_destroy(ctx);
}

/* Calls that a listener saw, and what it is to answer. */
struct heard {
    int number; /* of the listener */
    int calls;
    int answer;
    uint32_t point;
    size_t index;
    double add; /* to the first element */
};

static int last_heard; /* number of the listener that heard last */

static int hear(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    struct heard *heard = user;

    heard->calls++;
    heard->point = point;
    heard->index = index;
    if (heard->add != 0.0) {
        if (qrb_tensor_dtype(tensor) == QRB_F64)
            *(double *)qrb_tensor_memory(tensor) += heard->add;
        else
            *(float *)qrb_tensor_memory(tensor) += (float)heard->add;
    }
    last_heard = heard->number;
    return heard->answer;
}

static float memory[4096];

/* Tap with zeros of a shape; the first element afterwards is in memory[0]. */
static qrb_status tap_shape(uint32_t point, size_t index, uint32_t rank,
                            size_t a, size_t b, size_t c, size_t d)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;
    qrb_status status;

    memory[0] = 0.0f;
    options.memory = memory;
    options.rank = rank;
    options.shape[0] = a;
    options.shape[1] = b;
    options.shape[2] = c;
    options.shape[3] = d;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    status = qrb_tap(pass, point, index, tensor);
    qrb_tensor_destroy(tensor);
    return status;
}

static qrb_status tap_layer(void)
{
    return tap_shape(QRB_TAP_LAYER_INPUT, 2, 2, 3, 4, 0, 0);
}

START_TEST(without_listeners_a_tap_is_nothing)
{
    /* Nothing is looked at: not the point, not the step, not the tensor. */
    ASSERT_OK(ctx, qrb_tap(pass, 77, 99, NULL));
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_LAYER_INPUT, 0), 0);
    ck_assert_int_eq(qrb_tap(NULL, QRB_TAP_LAYER_INPUT, 0, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_tap_wanted(NULL, QRB_TAP_LAYER_INPUT, 0), 0);
}
END_TEST

START_TEST(listeners_hear_their_point_in_the_order_they_came)
{
    struct heard heard[6];

    for (int i = 0; i < 6; i++) {
        heard[i] = (struct heard){ .number = i, .add = 1 << i };
        ASSERT_OK(ctx, qrb_pass_listen(pass,
                                       i == 3 ? QRB_TAP_ATTN_PROBS
                                              : QRB_TAP_LAYER_INPUT,
                                       hear, &heard[i]));
    }
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    last_heard = -1;
    ASSERT_OK(ctx, tap_layer());
    ck_assert_int_eq(last_heard, 5);
    ck_assert_float_eq(memory[0], 1 + 2 + 4 + 16 + 32);
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(heard[i].calls, i != 3);
    ck_assert_uint_eq(heard[0].index, 2);
    ck_assert_uint_eq(heard[0].point, QRB_TAP_LAYER_INPUT);
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_LAYER_INPUT, 7), 1);
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_ATTN_PROBS, 7), 1);
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_ATTN_LOGITS, 7), 0);
    ck_assert_int_eq(
        qrb_tap_wanted(pass, QRB_TAP_LAYER_INPUT | QRB_TAP_GRAD, 7), 0);
    ck_assert_int_eq(qrb_tap_wanted(pass, 6, 7), 0);
}
END_TEST

START_TEST(a_listener_that_stops_ends_the_tap_with_its_code)
{
    struct heard first = { .answer = _i == 0 ? -9 : 9 };
    struct heard second = { .answer = 0 };

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &first));
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &second));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ASSERT_FAILS(ctx, tap_layer(), QRB_E_CALLBACK, "tap listener");
    ck_assert_int_eq(qrb_context_callback_code(ctx), first.answer);
    ck_assert_int_eq(second.calls, 0);
    first.answer = 0;
    ASSERT_OK(ctx, tap_layer()); /* the pass goes on */
    ck_assert_int_eq(second.calls, 1);
}
END_TEST

START_TEST(a_tap_outside_a_step_is_refused)
{
    struct heard heard = { 0 };

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &heard));
    ASSERT_FAILS(ctx, tap_layer(), QRB_E_STATE, "outside a step");
    ASSERT_FAILS(ctx, qrb_step_end(pass, 0.0), QRB_E_STATE,
                 "without qrb_step_begin");
    ASSERT_OK(ctx, qrb_step_begin(pass, 5, 1, 2));
    ASSERT_OK(ctx, tap_layer());
    ASSERT_OK(ctx, qrb_step_begin(pass, 5, 1, 3)); /* the next microbatch */
    ASSERT_OK(ctx, tap_layer());
    ASSERT_OK(ctx, qrb_step_end(pass, 0.5));
    ASSERT_FAILS(ctx, tap_layer(), QRB_E_STATE, "outside a step");
    ck_assert_int_eq(heard.calls, 2);
    ck_assert_int_eq(qrb_step_begin(NULL, 0, 0, 0), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_step_end(NULL, 0.0), QRB_E_INVALID_ARG);
}
END_TEST

START_TEST(taps_that_fit_are_heard_at_every_point)
{
    static const struct {
        uint32_t point;
        size_t index;
        uint32_t rank;
        size_t shape[4];
    } good[] = {
        { QRB_TAP_LAYER_INPUT, 9, 2, { 5, 7, 0, 0 } },
        { QRB_TAP_LINEAR_INPUT, MOCK_FC1, 2, { 5, MOCK_DIM, 0, 0 } },
        { QRB_TAP_LINEAR_OUTPUT, MOCK_FC1, 2, { 5, MOCK_HIDDEN, 0, 0 } },
        { QRB_TAP_LINEAR_INPUT, TRANSPOSED, 2, { 5, 3, 0, 0 } },
        { QRB_TAP_LINEAR_OUTPUT, TRANSPOSED, 2, { 5, 5, 0, 0 } },
        { QRB_TAP_LINEAR_INPUT, CONV, 4, { 1, 4, 5, 5 } }, /* 2 groups */
        { QRB_TAP_LINEAR_OUTPUT, CONV, 4, { 1, 6, 5, 5 } },
        { QRB_TAP_ATTN_LOGITS, 9, 4, { 2, 3, 4, 5 } },
        { QRB_TAP_ATTN_PROBS, 9, 4, { 2, 3, 4, 5 } },
    };
    const uint32_t gradient = _i == 0 ? 0 : QRB_TAP_GRAD;

    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct heard heard = { 0 };
        const uint32_t point = good[i].point | gradient;

        qrb_pass_destroy(pass);
        ASSERT_OK(ctx, qrb_pass_create(host->model, NULL, &pass));
        ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
        ASSERT_OK(ctx, qrb_pass_listen(pass, point, hear, &heard));
        ASSERT_OK(ctx, tap_shape(point, good[i].index, good[i].rank,
                                 good[i].shape[0], good[i].shape[1],
                                 good[i].shape[2], good[i].shape[3]));
        ck_assert_int_eq(heard.calls, 1);
        ck_assert_uint_eq(heard.point, point);
        ck_assert_uint_eq(heard.index, good[i].index);
    }
}
END_TEST

START_TEST(taps_that_do_not_fit_name_the_tensor_and_both_shapes)
{
    static const struct {
        uint32_t point;
        size_t index;
        uint32_t rank;
        size_t shape[4];
        qrb_status status;
        const char *words;
    } bad[] = {
        { QRB_TAP_LAYER_INPUT,
          9,
          3,
          { 5, 7, 2, 0 },
          QRB_E_SHAPE,
          "input of block 9: found [5, 7, 2], expected [tokens, dim]" },
        { QRB_TAP_LINEAR_INPUT,
          MOCK_FC1,
          2,
          { 5, 9, 0, 0 },
          QRB_E_SHAPE,
          "input of block.0.fc1: found [5, 9], which does not fit the weight "
          "[12, 8]" },
        { QRB_TAP_LINEAR_INPUT,
          MOCK_FC1,
          1,
          { 8, 0, 0, 0 },
          QRB_E_SHAPE,
          "found [8]" },
        { QRB_TAP_LINEAR_INPUT,
          MOCK_FC1,
          4,
          { 1, 8, 1, 1 },
          QRB_E_SHAPE,
          "found [1, 8, 1, 1]" },
        { QRB_TAP_LINEAR_OUTPUT,
          MOCK_FC1,
          2,
          { 5, 8, 0, 0 },
          QRB_E_SHAPE,
          "output of block.0.fc1: found [5, 8]" },
        { QRB_TAP_LINEAR_INPUT,
          TRANSPOSED,
          2,
          { 4, 5, 0, 0 },
          QRB_E_SHAPE,
          "input of transposed: found [4, 5]" },
        { QRB_TAP_LINEAR_INPUT,
          CONV,
          4,
          { 1, 3, 5, 5 },
          QRB_E_SHAPE,
          "input of conv: found [1, 3, 5, 5]" },
        { QRB_TAP_LINEAR_OUTPUT,
          CONV,
          4,
          { 1, 12, 5, 5 },
          QRB_E_SHAPE,
          "output of conv: found [1, 12, 5, 5]" },
        { QRB_TAP_LINEAR_INPUT,
          CONV,
          2,
          { 4, 18, 0, 0 },
          QRB_E_SHAPE,
          "input of conv: found [4, 18]" },
        { QRB_TAP_LINEAR_INPUT,
          MOCK_BIAS,
          2,
          { 5, 12, 0, 0 },
          QRB_E_INVALID_ARG,
          "block.0.bias, which is [12]: neither linear" },
        { QRB_TAP_LINEAR_INPUT,
          7,
          2,
          { 5, 12, 0, 0 },
          QRB_E_INVALID_ARG,
          "weight 7 of 7" },
        { QRB_TAP_ATTN_LOGITS,
          3,
          3,
          { 5, 7, 2, 0 },
          QRB_E_SHAPE,
          "attention of block 3: found [5, 7, 2], expected [batch, heads" },
        { 0, 0, 2, { 5, 7, 0, 0 }, QRB_E_INVALID_ARG, "0x0, which is no" },
        { 6, 0, 2, { 5, 7, 0, 0 }, QRB_E_INVALID_ARG, "0x6, which is no" },
        { QRB_TAP_LAYER_INPUT | QRB_TAP_CHANGES,
          0,
          2,
          { 5, 7, 0, 0 },
          QRB_E_INVALID_ARG,
          "0x201, which is no" },
    };
    struct heard heard = { 0 };

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &heard));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ASSERT_FAILS(ctx,
                     tap_shape(bad[i].point, bad[i].index, bad[i].rank,
                               bad[i].shape[0], bad[i].shape[1],
                               bad[i].shape[2], bad[i].shape[3]),
                     bad[i].status, bad[i].words);
    ASSERT_FAILS(ctx, qrb_tap(pass, QRB_TAP_LAYER_INPUT, 0, NULL),
                 QRB_E_INVALID_ARG, "no tensor");
    ck_assert_int_eq(heard.calls, 0);
}
END_TEST

START_TEST(integers_are_no_activations)
{
    struct heard heard = { 0 };
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = QRB_I32;
    options.rank = 2;
    options.shape[0] = options.shape[1] = 2;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &heard));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ASSERT_FAILS(ctx, qrb_tap(pass, QRB_TAP_LAYER_INPUT, 0, tensor),
                 QRB_E_INVALID_ARG, "I32");
    qrb_tensor_destroy(tensor);
}
END_TEST

START_TEST(listeners_that_change_tensors_rest_in_evaluation)
{
    struct heard changes = { .add = 3.0 };
    struct heard looks = { .number = 1 };

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT | QRB_TAP_CHANGES,
                                   hear, &changes));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ASSERT_OK(ctx, tap_layer());
    ck_assert_float_eq(memory[0], 3.0f);
    ASSERT_OK(ctx, qrb_pass_set_mode(pass, QRB_MODE_EVAL));
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_LAYER_INPUT, 0), 0);
    ASSERT_OK(ctx, tap_layer());
    ck_assert_float_eq(memory[0], 0.0f);
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, hear, &looks));
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_LAYER_INPUT, 0), 1);
    ASSERT_OK(ctx, tap_layer());
    ck_assert_int_eq(changes.calls, 1);
    ck_assert_int_eq(looks.calls, 1);
    ASSERT_OK(ctx, qrb_pass_set_mode(pass, QRB_MODE_CALIBRATE));
    ASSERT_OK(ctx, tap_layer());
    ck_assert_int_eq(changes.calls, 2);
    ASSERT_FAILS(ctx, qrb_pass_set_mode(pass, 3), QRB_E_INVALID_ARG,
                 "mode is 3");
    ck_assert_int_eq(qrb_pass_set_mode(NULL, 0), QRB_E_INVALID_ARG);
}
END_TEST

START_TEST(the_pass_in_force_follows_the_mode_of_the_library)
{
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, pass));
    ASSERT_OK(ctx, qrb__model_set_mode(host->model, QRB_MODE_EVAL));
    ck_assert_uint_eq(pass->step.mode, QRB_MODE_EVAL);
    host->fail_at = host->calls + 1;
    host->fail_code = -1;
    ASSERT_FAILS(ctx, qrb__model_set_mode(host->model, QRB_MODE_TRAIN),
                 QRB_E_CALLBACK, "set_mode");
    ck_assert_uint_eq(pass->step.mode, QRB_MODE_EVAL);
}
END_TEST

START_TEST(listeners_that_make_no_sense_are_refused)
{
    struct heard heard = { 0 };

    ck_assert_int_eq(qrb_pass_listen(NULL, QRB_TAP_LAYER_INPUT, hear, &heard),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, NULL, NULL),
                 QRB_E_INVALID_ARG, "listener is NULL");
    ASSERT_FAILS(ctx, qrb_pass_listen(pass, 0, hear, &heard), QRB_E_INVALID_ARG,
                 "0x0");
    ASSERT_FAILS(ctx, qrb_pass_listen(pass, 6 | QRB_TAP_GRAD, hear, &heard),
                 QRB_E_INVALID_ARG, "0x106");
    ASSERT_FAILS(ctx,
                 qrb_pass_listen(pass, QRB_TAP_ATTN_PROBS | QRB_TAP_CHANGES,
                                 hear, &heard),
                 QRB_E_INVALID_ARG, "may be changed");
    ASSERT_FAILS(ctx,
                 qrb_pass_listen(pass, QRB_TAP_LINEAR_OUTPUT | QRB_TAP_CHANGES,
                                 hear, &heard),
                 QRB_E_INVALID_ARG, "may be changed");
    /* The gradient there may be added to. */
    ASSERT_OK(ctx, qrb_pass_listen(pass,
                                   QRB_TAP_LINEAR_OUTPUT | QRB_TAP_GRAD |
                                       QRB_TAP_CHANGES,
                                   hear, &heard));
}
END_TEST

START_TEST(a_pass_that_makes_no_sense_is_refused)
{
    qrb_pass_options options = QRB_PASS_OPTIONS_INIT;
    qrb_context *other_ctx = make_context(NULL);
    qrb_model *other_model = NULL;
    qrb_pass *teacher = NULL;
    qrb_pass *stranger = NULL;
    qrb_pass *made = NULL;

    ck_assert_int_eq(qrb_pass_create(NULL, NULL, &made), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_pass_create(host->model, NULL, NULL),
                     QRB_E_INVALID_ARG);
    options.mode = 3;
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "mode is 3");
    options.mode = 0;
    options.role = 4;
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "role 4");
    options.role = QRB_PASS_TEACHER;
    options.flags = 2;
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "flags 0x2");
    options.flags = 0;
    options.reserved = 1;
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "reserved 1");
    options.reserved = 0;
    ASSERT_OK(ctx, qrb_pass_create(host->model, &options, &teacher));
    options.teacher = teacher; /* a teacher of a teacher */
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "names a teacher");
    options.role = QRB_PASS_STUDENT;
    options.teacher = pass; /* a student as teacher */
    ASSERT_FAILS(ctx, qrb_pass_create(host->model, &options, &made),
                 QRB_E_INVALID_ARG, "names a teacher");
    ASSERT_OK(other_ctx, qrb_model_create(other_ctx, NULL, &other_model));
    options.teacher = teacher;
    ASSERT_FAILS(other_ctx, qrb_pass_create(other_model, &options, &made),
                 QRB_E_INVALID_ARG, "another context");
    ck_assert_ptr_null(made);
    ASSERT_OK(ctx, qrb_pass_create(host->model, &options, &made));
    ck_assert_ptr_eq(made->teacher, teacher);

    ASSERT_OK(other_ctx, qrb_pass_create(other_model, NULL, &stranger));
    ASSERT_FAILS(ctx, qrb_model_set_pass(host->model, stranger),
                 QRB_E_INVALID_ARG, "another model");
    ck_assert_int_eq(qrb_model_set_pass(NULL, pass), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(qrb_model_pass(NULL));
    ck_assert_ptr_null(qrb_model_pass(host->model));
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, made));
    ck_assert_ptr_eq(qrb_model_pass(host->model), made);
    qrb_pass_destroy(made);
    ck_assert_ptr_null(qrb_model_pass(host->model));
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, NULL));
    qrb_pass_destroy(teacher);
    qrb_pass_destroy(stranger);
    qrb_pass_destroy(NULL);
    qrb_model_destroy(other_model);
    qrb_context_destroy(other_ctx);
}
END_TEST

START_TEST(attention_that_does_not_fit_its_mask_is_refused)
{
    const uint32_t lengths[2] = { 5, 6 };
    const uint32_t positions[2] = { 0, 0 };
    qrb_attention attention = QRB_ATTENTION_INIT;
    struct heard heard = { 0 };

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_ATTN_LOGITS, hear, &heard));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ck_assert_int_eq(qrb_pass_set_attention(NULL, &attention),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, NULL), QRB_E_INVALID_ARG,
                 "attention is NULL");
    attention.mask = 3;
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, &attention),
                 QRB_E_INVALID_ARG, "mask is 3");
    attention.mask = QRB_MASK_KEYS;
    attention.batch = 2;
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, &attention),
                 QRB_E_INVALID_ARG, "mask is 2 without key_length");
    attention.mask = QRB_MASK_CAUSAL;
    attention.key_length = lengths;
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, &attention),
                 QRB_E_INVALID_ARG, "mask is 1 with key_length");
    attention.key_length = NULL;
    attention.batch = 0;
    attention.position = positions;
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, &attention),
                 QRB_E_INVALID_ARG, "batch of 0");
    attention.reserved = 1;
    ASSERT_FAILS(ctx, qrb_pass_set_attention(pass, &attention),
                 QRB_E_INVALID_ARG, "reserved 1");
    attention.reserved = 0;
    attention.position = NULL;
    attention.batch = 2;
    attention.mask = QRB_MASK_KEYS;
    attention.key_length = lengths;
    ASSERT_OK(ctx, qrb_pass_set_attention(pass, &attention));
    ASSERT_OK(ctx, tap_shape(QRB_TAP_ATTN_LOGITS, 0, 4, 2, 1, 1, 6));
    ASSERT_FAILS(ctx, tap_shape(QRB_TAP_ATTN_LOGITS, 0, 4, 2, 1, 1, 5),
                 QRB_E_SHAPE, "key_length[1] is 6");
    ASSERT_FAILS(ctx, tap_shape(QRB_TAP_ATTN_LOGITS, 0, 4, 3, 1, 1, 6),
                 QRB_E_SHAPE, "found [3, 1, 1, 6], expected [2, ...]");
    ck_assert_int_eq(heard.calls, 1);
}
END_TEST

/* --- through a host's own forward and backward pass */

/* Loss of batch 0 of the mock, tapping into the pass. */
static double loss_of(bool with_gradients)
{
    struct qrb__batch batch = { 0 };
    double loss = 0.0;
    size_t scored;
    bool skipped;

    ASSERT_OK(ctx, qrb_model_set_pass(host->model, pass));
    ASSERT_OK(ctx, qrb__model_batch(host->model, QRB_STREAM_TRAIN, 0, &batch,
                                    &skipped));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    if (with_gradients)
        ASSERT_OK(ctx, qrb__model_loss_and_grad(host->model, batch.handle, 1.0,
                                                &loss, &scored, &skipped));
    else
        ASSERT_OK(ctx, qrb__model_loss(host->model, batch.handle, &loss,
                                       &scored, &skipped));
    ASSERT_OK(ctx, qrb_step_end(pass, loss));
    ck_assert(!skipped);
    qrb__model_batch_release(host->model, &batch);
    return loss;
}

static int add_gradients(uint32_t point, size_t index, qrb_tensor *tensor,
                         void *user)
{
    (void)point;
    (void)index;
    *(double *)user += *(const double *)qrb_tensor_memory(tensor);
    return 0;
}

START_TEST(gradient_at_a_tap_is_that_of_a_change_at_the_tap)
{
    struct heard shift = { .add = 0.0 };
    double gradient = 0.0; /* of the first element, summed over rows */
    double above;
    double below;

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT | QRB_TAP_CHANGES,
                                   hear, &shift));
    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT | QRB_TAP_GRAD,
                                   add_gradients, &gradient));
    loss_of(true);
    shift.add = 1e-4;
    above = loss_of(false);
    shift.add = -1e-4;
    below = loss_of(false);
    ck_assert_double_eq_tol((above - below) / 2e-4, gradient, 1e-7);
    ck_assert_double_gt(fabs(gradient), 1e-3);

    /* In evaluation the change is exactly nothing. */
    shift.add = 0.5;
    ASSERT_OK(ctx, qrb_pass_set_mode(pass, QRB_MODE_EVAL));
    above = loss_of(false);
    qrb_pass_destroy(pass);
    ASSERT_OK(ctx, qrb_pass_create(host->model, NULL, &pass));
    ck_assert_double_eq(above, loss_of(false));
}
END_TEST

START_TEST(a_listener_that_stops_stops_the_host_and_the_library)
{
    struct heard stop = { .answer = -5 };
    struct qrb__batch batch = { 0 };
    double loss;
    size_t scored;
    bool skipped;

    ASSERT_OK(ctx, qrb_pass_listen(pass, QRB_TAP_LINEAR_OUTPUT, hear, &stop));
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, pass));
    ASSERT_OK(ctx, qrb__model_batch(host->model, QRB_STREAM_TRAIN, 0, &batch,
                                    &skipped));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ASSERT_FAILS(
        ctx,
        qrb__model_loss(host->model, batch.handle, &loss, &scored, &skipped),
        QRB_E_CALLBACK, "tap listener");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -5);
    qrb__model_batch_release(host->model, &batch);
}
END_TEST

/* --- threads */

static int tap_again(uint32_t point, size_t index, qrb_tensor *tensor,
                     void *user)
{
    qrb_status *status = user;

    *status = qrb_tap(pass, point, index, tensor);
    return 0;
}

START_TEST(two_taps_at_a_time_need_a_concurrent_pass)
{
    qrb_status inner = QRB_OK;

    ASSERT_OK(ctx,
              qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, tap_again, &inner));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    ASSERT_OK(ctx, tap_layer());
    ck_assert_int_eq(inner, QRB_E_STATE);
    ck_assert_ptr_nonnull(
        strstr(qrb_context_message(ctx), "QRB_PASS_CONCURRENT"));
}
END_TEST

struct concurrent {
    double sums[BLOCKS]; /* by index: each has a slot of its own */
    qrb_status statuses[BLOCKS];
};

static int sum_up(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    struct concurrent *concurrent = user;
    const float *x = qrb_tensor_memory(tensor);

    (void)point;
    for (size_t i = 0; i < qrb_tensor_extent(tensor, 1); i++)
        concurrent->sums[index] += (double)x[i];
    return index == BLOCKS - 1 ? -1 : 0; /* one of them fails, always */
}

static struct concurrent concurrent;

static void *tap_block(void *arg)
{
    const size_t block = (size_t)(uintptr_t)arg;
    float x[8];
    struct qrb_tensor tensor = { .ctx = ctx };
    const size_t shape[2] = { 1, 8 };

    for (size_t i = 0; i < 8; i++)
        x[i] = (float)(block + 1);
    tensor.view = qrb__view_make(QRB_F32, 2, shape, x);
    for (int i = 0; i < 500; i++)
        concurrent.statuses[block] =
            qrb_tap(pass, QRB_TAP_LAYER_INPUT, block, &tensor);
    return NULL;
}

START_TEST(concurrent_taps_are_heard_and_fail_side_by_side)
{
    qrb_pass_options options = QRB_PASS_OPTIONS_INIT;
    pthread_t threads[BLOCKS];

    qrb_pass_destroy(pass);
    options.flags = QRB_PASS_CONCURRENT;
    ASSERT_OK(ctx, qrb_pass_create(host->model, &options, &pass));
    ASSERT_OK(ctx,
              qrb_pass_listen(pass, QRB_TAP_LAYER_INPUT, sum_up, &concurrent));
    ASSERT_OK(ctx, qrb_step_begin(pass, 1, 0, 0));
    for (uintptr_t i = 0; i < BLOCKS; i++)
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, tap_block, (void *)i), 0);
    for (size_t i = 0; i < BLOCKS; i++)
        pthread_join(threads[i], NULL);
    for (size_t i = 0; i < BLOCKS; i++) {
        ck_assert_double_eq(concurrent.sums[i], 500.0 * 8.0 * (double)(i + 1));
        ck_assert_int_eq(concurrent.statuses[i],
                         i == BLOCKS - 1 ? QRB_E_CALLBACK : QRB_OK);
    }
    ck_assert_int_eq(qrb_context_callback_code(ctx), -1);
    /* Not one of the callbacks that ran at a time is thought to run still. */
    ASSERT_OK(ctx, qrb_model_set_pass(host->model, NULL));
}
END_TEST

/* --- listeners of the library's own */

static bool want_block_one(void *self, uint32_t point, size_t index)
{
    (void)self;
    return point == QRB_TAP_ATTN_LOGITS && index == 1;
}

static qrb_status see_step(void *self, const struct qrb__step *step,
                           uint32_t point, size_t index, qrb_tensor *tensor)
{
    struct qrb__step *seen = self;

    (void)point;
    (void)index;
    (void)tensor;
    *seen = *step;
    return QRB_OK;
}

START_TEST(listeners_of_the_library_see_the_step_and_the_mask)
{
    const uint32_t positions[2] = { 3, 4 };
    struct qrb__step seen = { 0 };
    const struct qrb__listener listener = { &seen, true, want_block_one,
                                            see_step };
    qrb_attention attention = QRB_ATTENTION_INIT;

    ASSERT_OK(ctx, qrb__pass_listen(pass, &listener));
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_ATTN_LOGITS, 1), 1);
    ck_assert_int_eq(qrb_tap_wanted(pass, QRB_TAP_ATTN_LOGITS, 0), 0);
    attention.batch = 2;
    attention.position = positions;
    attention.mask = QRB_MASK_CAUSAL;
    ASSERT_OK(ctx, qrb_pass_set_attention(pass, &attention));
    ASSERT_OK(ctx, qrb_step_begin(pass, UINT64_C(1) << 33, 7, 5));
    ASSERT_OK(ctx, tap_shape(QRB_TAP_ATTN_LOGITS, 0, 4, 2, 1, 1, 1));
    ck_assert_ptr_null(seen.attention);
    ASSERT_OK(ctx, tap_shape(QRB_TAP_ATTN_LOGITS, 1, 4, 2, 1, 1, 1));
    ck_assert_uint_eq(seen.step, UINT64_C(1) << 33);
    ck_assert_uint_eq(seen.epoch, 7);
    ck_assert_uint_eq(seen.microbatch, 5);
    ck_assert_uint_eq(seen.mode, QRB_MODE_TRAIN);
    ck_assert_ptr_eq(seen.attention->position, positions);
    ck_assert_uint_eq(seen.attention->mask, QRB_MASK_CAUSAL);
}
END_TEST

static qrb_status build_pass(qrb_context *context, void *arg)
{
    struct mock_host *made = NULL;
    qrb_pass *listened = NULL;
    struct heard heard = { 0 };
    qrb_status status;

    (void)arg;
    status = mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made);
    if (status == QRB_OK)
        status = qrb_pass_create(made->model, NULL, &listened);
    for (int i = 0; i < 6 && status == QRB_OK; i++)
        status = qrb_pass_listen(listened, QRB_TAP_LAYER_INPUT, hear, &heard);
    qrb_pass_destroy(listened);
    mock_host_destroy(made);
    return status;
}

START_TEST(nothing_leaks_whichever_allocation_fails)
{
    fail_each_allocation(build_pass, NULL);
}
END_TEST

static void take_steps(qrb_context *context,
                       const struct failing_allocator *allocator)
{
    struct mock_host *made = NULL;
    qrb_pass *listened = NULL;
    struct heard heard = { 0 };
    float x[8] = { 0 };
    const size_t shape[2] = { 1, 8 };
    struct qrb_tensor tensor = { .ctx = context };
    size_t before;

    tensor.view = qrb__view_make(QRB_F32, 2, shape, x);
    ASSERT_OK(context,
              mock_host_create(context, MOCK_TOKEN_BATCHES, 1, NULL, &made));
    ASSERT_OK(context, qrb_pass_create(made->model, NULL, &listened));
    ASSERT_OK(context,
              qrb_pass_listen(listened, QRB_TAP_LINEAR_INPUT, hear, &heard));
    before = allocator->calls;
    for (int step = 0; step < 3; step++) {
        qrb_attention attention = QRB_ATTENTION_INIT;

        ASSERT_OK(context, qrb_step_begin(listened, (uint64_t)step, 0, 0));
        ASSERT_OK(context, qrb_pass_set_attention(listened, &attention));
        ASSERT_OK(context,
                  qrb_tap(listened, QRB_TAP_LINEAR_INPUT, MOCK_FC1, &tensor));
        ASSERT_OK(context, qrb_step_end(listened, 1.0));
    }
    ck_assert_uint_eq(allocator->calls, before);
    ck_assert_int_eq(heard.calls, 3);
    qrb_pass_destroy(listened);
    mock_host_destroy(made);
}

START_TEST(a_step_allocates_nothing)
{
    struct failing_allocator allocator = { 0, 0, 0 };
    qrb_context *context = make_context(&allocator);

    take_steps(context, &allocator);
    qrb_context_destroy(context);
    ck_assert_uint_eq(allocator.live, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pass");
    TCase *test = tcase_create("pass");

    tcase_add_checked_fixture(test, set_up, tear_down);
    tcase_add_test(test, without_listeners_a_tap_is_nothing);
    tcase_add_test(test, listeners_hear_their_point_in_the_order_they_came);
    tcase_add_loop_test(test, a_listener_that_stops_ends_the_tap_with_its_code,
                        0, 2);
    tcase_add_test(test, a_tap_outside_a_step_is_refused);
    tcase_add_loop_test(test, taps_that_fit_are_heard_at_every_point, 0, 2);
    tcase_add_test(test, taps_that_do_not_fit_name_the_tensor_and_both_shapes);
    tcase_add_test(test, integers_are_no_activations);
    tcase_add_test(test, listeners_that_change_tensors_rest_in_evaluation);
    tcase_add_test(test, the_pass_in_force_follows_the_mode_of_the_library);
    tcase_add_test(test, listeners_that_make_no_sense_are_refused);
    tcase_add_test(test, a_pass_that_makes_no_sense_is_refused);
    tcase_add_test(test, attention_that_does_not_fit_its_mask_is_refused);
    tcase_add_test(test, gradient_at_a_tap_is_that_of_a_change_at_the_tap);
    tcase_add_test(test, a_listener_that_stops_stops_the_host_and_the_library);
    tcase_add_test(test, two_taps_at_a_time_need_a_concurrent_pass);
    tcase_add_test(test, concurrent_taps_are_heard_and_fail_side_by_side);
    tcase_add_test(test, listeners_of_the_library_see_the_step_and_the_mask);
    tcase_add_test(test, nothing_leaks_whichever_allocation_fails);
    tcase_add_test(test, a_step_allocates_nothing);
    suite_add_tcase(suite, test);
    return run_suite(suite);
}
