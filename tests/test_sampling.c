/* Choosing the next token: from logits that the tests set by hand, in a
 * generator of a model with as many tokens. */
#include "engine_model.h"

#include <qrobust/generate.h>

#include "engine/generator.h"

enum { VOCAB = 7, DRAWS = 20000 };

struct chooser {
    qrb_context *ctx;
    qrb_model *model;
    qrb_generator *generator;
};

static struct chooser make_chooser(uint32_t dtype)
{
    qrb_engine_config config = config_of(&variants[0]);
    const int32_t token = 0;
    struct chooser chooser = { .ctx = make_context(NULL) };

    config.vocab = VOCAB;
    chooser.model = make_model(chooser.ctx, &config, dtype);
    ASSERT_OK(chooser.ctx, qrb_generator_create(chooser.model, NULL,
                                                &chooser.generator));
    ASSERT_OK(chooser.ctx, qrb_generator_feed(chooser.generator, &token, 1));
    return chooser;
}

static void release_chooser(struct chooser *chooser)
{
    qrb_generator_destroy(chooser->generator);
    qrb_model_destroy(chooser->model);
    qrb_context_destroy(chooser->ctx);
}

/* Logits whose softmax is this, up to a factor. */
static void set_probabilities(struct chooser *chooser, const double *p)
{
    for (size_t i = 0; i < VOCAB; i++)
        if (chooser->generator->view.dtype == QRB_F32)
            ((float *)chooser->generator->logits)[i] = (float)log(p[i]);
        else
            ((double *)chooser->generator->logits)[i] = log(p[i]);
}

static int32_t choose(struct chooser *chooser,
                      const qrb_sampling_options *options)
{
    int32_t token = -1;

    ASSERT_OK(chooser->ctx,
              qrb_generator_sample(chooser->generator, options, &token));
    ck_assert(token >= 0 && token < VOCAB);
    return token;
}

static const double probabilities[VOCAB] = { 0.05, 0.2,  0.02, 0.35,
                                             0.08, 0.05, 0.25 };

/* What is left of those, by hand: { options, the ids that may come }.  In
 * order they are 3 (.35), 6 (.6), 1 (.8), 4 (.88), 0 (.93), 5 (.98), 2. */
static const struct {
    qrb_sampling_options options;
    uint32_t kept; /* a bit each id */
} cases[] = {
    { { sizeof(qrb_sampling_options), 0, 0, 1, 1.0, 1.0 }, 0x7f },
    { { sizeof(qrb_sampling_options), 0, 3, 2, 1.0, 1.0 }, 0x4a },
    { { sizeof(qrb_sampling_options), 0, 1, 3, 1.0, 1.0 }, 0x08 },
    { { sizeof(qrb_sampling_options), 0, 0, 4, 1.0, 0.59 }, 0x48 },
    { { sizeof(qrb_sampling_options), 0, 0, 5, 1.0, 0.61 }, 0x4a },
    { { sizeof(qrb_sampling_options), 0, 0, 6, 1.0, 1e-9 }, 0x08 },
    /* of three, .35 and .25 are three quarters */
    { { sizeof(qrb_sampling_options), 0, 3, 7, 1.0, 0.74 }, 0x48 },
    { { sizeof(qrb_sampling_options), 0, 3, 8, 1.0, 0.76 }, 0x4a },
    /* equals: the smaller id */
    { { sizeof(qrb_sampling_options), 0, 5, 9, 1.0, 1.0 }, 0x5b },
    { { sizeof(qrb_sampling_options), 3, 0, 10, 1.0, 1.0 }, 0x07 },
    { { sizeof(qrb_sampling_options), 3, 2, 11, 1.0, 1.0 }, 0x03 },
    /* the square of the probabilities, and their root */
    { { sizeof(qrb_sampling_options), 0, 0, 12, 0.5, 1.0 }, 0x7f },
    { { sizeof(qrb_sampling_options), 0, 0, 13, 2.0, 1.0 }, 0x7f },
    { { sizeof(qrb_sampling_options), 0, 0, 14, 1e-300, 1.0 }, 0x08 },
};
enum { CASES = sizeof cases / sizeof *cases };

/* The number of times that a token came in n draws has a standard deviation of
 * sqrt(n p (1 - p)); beyond five of them comes one in a million. */
START_TEST(tokens_come_as_often_as_they_are_probable)
{
    const qrb_sampling_options *options = &cases[_i / 2].options;
    struct chooser chooser = make_chooser(_i % 2 ? QRB_F64 : QRB_F32);
    double expected[VOCAB];
    size_t counts[VOCAB] = { 0 };
    double sum = 0;

    set_probabilities(&chooser, probabilities);
    for (size_t i = 0; i < VOCAB; i++) {
        const bool kept = cases[_i / 2].kept >> i & 1;

        expected[i] = kept && options->temperature > 1e-6
                          ? pow(probabilities[i], 1 / options->temperature)
                          : kept;
        sum += expected[i];
    }
    for (size_t draw = 0; draw < DRAWS; draw++) {
        chooser.generator->length = draw + 1;
        counts[choose(&chooser, options)]++;
    }
    for (size_t i = 0; i < VOCAB; i++) {
        const double p = expected[i] / sum;

        if (expected[i] == 0)
            ck_assert_uint_eq(counts[i], 0);
        ck_assert_double_le(fabs((double)counts[i] - DRAWS * p),
                            5 * sqrt(DRAWS * p * (1 - p)) + 1e-6);
    }
    release_chooser(&chooser);
}
END_TEST

START_TEST(a_draw_is_a_function_of_seed_and_length)
{
    qrb_sampling_options options = QRB_SAMPLING_OPTIONS_INIT;
    struct chooser chooser = make_chooser(QRB_F32);
    struct chooser other = make_chooser(QRB_F32);
    size_t same = 0;

    set_probabilities(&chooser, probabilities);
    set_probabilities(&other, probabilities);
    for (size_t n = 100; n > 0; n--) {
        qrb_sampling_options reseeded = options;
        int32_t token;

        reseeded.seed = UINT64_C(1) << 40;
        chooser.generator->length = n;
        other.generator->length = n;
        token = choose(&chooser, &options);
        ck_assert_int_eq(choose(&chooser, &options), token);
        ck_assert_int_eq(choose(&other, &options), token);
        same += choose(&other, &reseeded) == token;
    }
    ck_assert_uint_lt(same, 60); /* a quarter if independent */
    release_chooser(&other);
    release_chooser(&chooser);
}
END_TEST

START_TEST(temperature_0_takes_the_first_of_the_most_probable)
{
    static const double equal[VOCAB] = { 0.1, 0.3, 0.1, 0.3, 0.1, 0.05, 0.05 };
    qrb_sampling_options options = QRB_SAMPLING_OPTIONS_INIT;
    struct chooser chooser = make_chooser(QRB_F32);

    options.temperature = 0;
    set_probabilities(&chooser, probabilities);
    ck_assert_int_eq(choose(&chooser, &options), 3);
    options.vocab = 3;
    ck_assert_int_eq(choose(&chooser, &options), 1);
    options.vocab = 0;
    set_probabilities(&chooser, equal);
    ck_assert_int_eq(choose(&chooser, &options), 1);
    release_chooser(&chooser);
}
END_TEST

START_TEST(a_logit_that_is_not_finite_is_refused)
{
    static const double broken[] = { NAN, INFINITY, -INFINITY };
    struct chooser chooser = make_chooser(QRB_F64);
    double *logits = chooser.generator->logits;
    int32_t token = 77;

    set_probabilities(&chooser, probabilities);
    logits[VOCAB - 1] = broken[_i];
    ASSERT_FAILS(chooser.ctx,
                 qrb_generator_sample(chooser.generator, NULL, &token),
                 QRB_E_NOT_FINITE, "the logit of token 6");
    ck_assert_int_eq(token, 77);
    release_chooser(&chooser);
}
END_TEST

/* { options, words of the message } */
static const struct {
    qrb_sampling_options options;
    const char *message;
} refused[] = {
    { { sizeof(qrb_sampling_options), 0, 0, 0, -1.0, 1.0 }, "temperature" },
    { { sizeof(qrb_sampling_options), 0, 0, 0, NAN, 1.0 }, "temperature" },
    { { sizeof(qrb_sampling_options), 0, 0, 0, INFINITY, 1.0 }, "temperature" },
    { { sizeof(qrb_sampling_options), 0, 0, 0, 1.0, 0.0 }, "top_p is 0" },
    { { sizeof(qrb_sampling_options), 0, 0, 0, 1.0, 1.01 }, "top_p is 1.01" },
    { { sizeof(qrb_sampling_options), 0, 0, 0, 1.0, NAN }, "top_p" },
    { { sizeof(qrb_sampling_options), 8, 0, 0, 1.0, 1.0 }, "vocab is 8" },
};

START_TEST(options_out_of_range_are_refused)
{
    struct chooser chooser = make_chooser(QRB_F32);
    int32_t token = 77;

    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        ASSERT_FAILS(chooser.ctx,
                     qrb_generator_sample(chooser.generator,
                                          &refused[i].options, &token),
                     QRB_E_INVALID_ARG, refused[i].message);
    ASSERT_FAILS(chooser.ctx,
                 qrb_generator_sample(chooser.generator, NULL, NULL),
                 QRB_E_INVALID_ARG, "token_out is NULL");
    ck_assert_int_eq(qrb_generator_sample(NULL, NULL, &token),
                     QRB_E_INVALID_ARG);
    ASSERT_OK(chooser.ctx, qrb_generator_reset(chooser.generator));
    ASSERT_FAILS(chooser.ctx,
                 qrb_generator_sample(chooser.generator, NULL, &token),
                 QRB_E_STATE, "nothing was fed");
    ck_assert_int_eq(token, 77);
    release_chooser(&chooser);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("sampling");
    TCase *choice = tcase_create("choice");

    tcase_set_timeout(choice, 60);
    tcase_add_loop_test(choice, tokens_come_as_often_as_they_are_probable, 0,
                        2 * CASES);
    tcase_add_test(choice, a_draw_is_a_function_of_seed_and_length);
    tcase_add_test(choice, temperature_0_takes_the_first_of_the_most_probable);
    tcase_add_loop_test(choice, a_logit_that_is_not_finite_is_refused, 0, 3);
    tcase_add_test(choice, options_out_of_range_are_refused);
    suite_add_tcase(suite, choice);
    return run_suite(suite);
}
