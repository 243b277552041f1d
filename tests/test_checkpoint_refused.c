/* Checkpoints that are not gone on from: damaged ones, and those of another
 * run. */
#include <fcntl.h>

#include "trainer_run.h"

/* Write the checkpoint of a run that was stopped after 2 steps. */
static void make_checkpoint(const char *path)
{
    struct setup setup = with_checkpoint(rich, path);
    struct run *run;

    setup.stop_after = 2;
    run = open_run(&setup);
    ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
    close_run(run);
}

static void refuse_damaged(const struct run *run, size_t at)
{
    const qrb_status status = qrb_trainer_resume(run->trainer, NULL);

    ck_assert_msg(status == QRB_E_FORMAT || status == QRB_E_UNSUPPORTED,
                  "byte %zu: %s: %s", at, qrb_status_name(status),
                  qrb_context_message(run->ctx));
    ck_assert_ptr_nonnull(strstr(qrb_context_message(run->ctx), "run.ckpt"));
}

START_TEST(damaged_checkpoint_is_refused_whatever_byte_it_is)
{
    char directory[64];
    char path[256];
    char *bytes;
    size_t size;
    struct setup setup;
    struct run *run;
    int file;

    make_path(directory, path);
    make_checkpoint(path);
    bytes = get_file(path, &size);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    file = open(path, O_RDWR);
    ck_assert_int_ge(file, 0);
    for (size_t i = 0; i < size; i++) {
        const char flipped = (char)(bytes[i] ^ 0x10);

        ck_assert_int_eq(pwrite(file, &flipped, 1, (off_t)i), 1);
        refuse_damaged(run, i);
        ck_assert_int_eq(pwrite(file, &bytes[i], 1, (off_t)i), 1);
    }
    for (size_t left = size; left-- > 0;)
        if (left % 7 == 0 || size - left < 64) { /* cut off, not at each */
            ck_assert_int_eq(ftruncate(file, (off_t)left), 0);
            refuse_damaged(run, left);
        }
    close(file);
    ck_assert(mock_weights_equal(run->host, run->steps[0]));
    /* What was refused did no harm: the whole file goes on. */
    put_file(path, bytes, size);
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    free(bytes);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_another_run_is_refused_by_what_differs)
{
    const struct {
        struct setup setup;
        const char *words;
    } cases[] = {
        { { .accumulation = 2,
            .anchored = true,
            .run_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another seed" },
        { { .accumulation = 2,
            .anchored = true,
            .text_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another text" },
        { { .accumulation = 3,
            .anchored = true,
            .schedule = QRB_SCHEDULE_COSINE },
          "another options" },
        { { .accumulation = 2,
            .anchored = true,
            .lr = 0.03,
            .schedule = QRB_SCHEDULE_COSINE },
          "another options" },
        { { .accumulation = 2, .anchored = true }, "another options" },
        { { .accumulation = 2, .schedule = QRB_SCHEDULE_COSINE },
          "another noise" },
        { { .accumulation = 2,
            .anchored = true,
            .anchor_seed = 1,
            .schedule = QRB_SCHEDULE_COSINE },
          "another noise" },
    };
    char directory[64];
    char path[256];

    make_path(directory, path);
    make_checkpoint(path);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct setup setup = with_checkpoint(cases[i].setup, path);
        struct run *run = open_run(&setup);

        ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                     QRB_E_FORMAT, cases[i].words);
        ck_assert(mock_weights_equal(run->host, run->steps[0]));
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_a_run_that_began_with_other_weights_is_refused)
{
    struct setup setup = rich;
    char directory[64];
    char path[256];
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup.checkpoint = path;
    setup.seed = 3;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_FORMAT,
                 "began with other weights; remove it");
    ck_assert(mock_weights_equal(run->host, run->steps[0]));
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_of_another_model_is_refused)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *tensor = NULL;
    char directory[64];
    char path[256];
    struct setup setup;
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    shape.rank = 1;
    shape.shape[0] = 3;
    ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &shape, &tensor));
    parameter.name = "one.more";
    parameter.weight = tensor;
    ASSERT_OK(run->ctx,
              qrb_model_add_parameter(run->host->model, &parameter, NULL));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_FORMAT,
                 "another model");
    qrb_trainer_destroy(run->trainer);
    run->trainer = NULL;
    qrb_noise_destroy(run->noise);
    run->noise = NULL;
    mock_host_destroy(run->host);
    run->host = NULL;
    qrb_tensor_destroy(tensor);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(resume_is_refused_where_it_makes_no_sense)
{
    struct setup setup = rich;
    uint64_t resumed = 99;
    char directory[64];
    char path[256];
    struct run *run = open_run(&setup);

    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_STATE,
                 "no checkpoint");
    close_run(run);
    make_path(directory, path);
    setup = with_checkpoint(setup, path);
    run = open_run(&setup);
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, 0);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, &resumed),
                 QRB_E_STATE, "has begun");
    close_run(run);
    run = open_run(&setup); /* a complete run: nothing is left to do */
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, STEPS);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(perturbed_weights_are_not_resumed_over)
{
    const qrb_attack_options attack = { sizeof attack, 0.1, 0, 0, 0 };
    char directory[64];
    char path[256];
    struct setup setup;
    qrb_noise *noise = NULL;
    struct run *run;

    make_path(directory, path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    ASSERT_OK(run->ctx, qrb_noise_create_attack(run->ctx, &attack, &noise));
    ASSERT_OK(run->ctx, qrb_noise_bind(noise, run->host->model, NULL));
    ASSERT_OK(run->ctx, qrb_perturb_begin(noise));
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL), QRB_E_STATE,
                 "perturbed");
    qrb_noise_destroy(noise);
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(host_that_stops_at_a_resume_hears_of_every_weight)
{
    char directory[64];
    char path[256];
    struct setup setup;
    struct run *run;

    make_path(directory, path);
    make_checkpoint(path);
    setup = with_checkpoint(rich, path);
    run = open_run(&setup);
    run->host->calls = 0;
    run->host->fail_at = 1;
    run->host->fail_code = -9;
    ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                 QRB_E_CALLBACK, "weights_written");
    ck_assert_int_eq(qrb_context_callback_code(run->ctx), -9);
    ck_assert_uint_eq(run->host->counts[MOCK_WEIGHTS_WRITTEN], MOCK_PARAMETERS);
    close_run(run);
    remove_directory(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint_refused");
    TCase *checkpoint = tcase_create("checkpoint");

    tcase_set_timeout(checkpoint, 60);
    tcase_add_test(checkpoint,
                   damaged_checkpoint_is_refused_whatever_byte_it_is);
    tcase_add_test(checkpoint,
                   checkpoint_of_another_run_is_refused_by_what_differs);
    tcase_add_test(checkpoint, checkpoint_of_another_model_is_refused);
    tcase_add_test(
        checkpoint,
        checkpoint_of_a_run_that_began_with_other_weights_is_refused);
    tcase_add_test(checkpoint, resume_is_refused_where_it_makes_no_sense);
    tcase_add_test(checkpoint, perturbed_weights_are_not_resumed_over);
    tcase_add_test(checkpoint,
                   host_that_stops_at_a_resume_hears_of_every_weight);
    suite_add_tcase(suite, checkpoint);
    return run_suite(suite);
}
