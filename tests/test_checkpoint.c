/* Checkpoints of the trainer: runs that are stopped, killed or fail, and that
 * go on. */
#include <math.h>
#include <signal.h>
#include <sys/wait.h>

#include "trainer_run.h"

START_TEST(cancelled_run_keeps_its_step_and_its_figures)
{
    struct setup setup = rich;
    qrb_train_result result = { .struct_size = sizeof result };
    char directory[64];
    char path[256];
    struct run *run;

    make_path(directory, path);
    setup.checkpoint = path;
    setup.every = 100;
    setup.stop_after = 3;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, &result),
                 QRB_E_CANCELLED, "3 of 9");
    ck_assert_uint_eq(result.steps, 3);
    ck_assert_uint_eq(result.tokens, 3 * 2 * 2 * 8);
    ck_assert(isfinite(result.loss));
    ck_assert_int_eq(access(path, R_OK), 0);
    ck_assert(mock_weights_equal(run->host, run->steps[3]));
    /* Asked again, it goes on from there. */
    run->setup.stop_after = 0;
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
    ck_assert_uint_eq(result.steps, STEPS);
    ck_assert_uint_eq(result.tokens, 6 * 2 * 2 * 8);
    close_run(run);
    remove_directory(directory);
}
END_TEST

/* The loss of the result is over the last 50 steps, so it shows that losses
 * from before the stop came along; so does the mean ratio. */
START_TEST(resumed_run_has_the_bits_of_one_that_was_not_stopped)
{
    struct setup setup = rich;
    qrb_train_result expected = { .struct_size = sizeof expected };
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];

    make_path(directory, path);
    setup.kind = (_i & 1) != 0 ? MOCK_OWN_BATCHES : MOCK_TOKEN_BATCHES;
    setup.accumulation = (_i & 1) != 0 ? 7 : 2; /* 40 batches end in step 5 */
    train(&setup, weights, &expected);
    setup.checkpoint = path;
    setup.every = 100;
    for (uint64_t stop = 1; stop <= STEPS; stop++) {
        qrb_train_result result = { .struct_size = sizeof result };
        uint64_t resumed = 99;
        struct run *run;

        unlink(path);
        setup.stop_after = stop;
        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, 0);
        ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
        close_run(run);

        setup.stop_after = 0;
        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, stop);
        ck_assert_uint_ge(run->host->counts[MOCK_WEIGHTS_WRITTEN],
                          MOCK_PARAMETERS);
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, &result));
        ck_assert(mock_weights_equal(run->host, weights));
        ck_assert_uint_eq(result.steps, STEPS);
        ck_assert_double_eq(result.loss, expected.loss);
        ck_assert_double_eq(result.anchor_gradient_ratio,
                            expected.anchor_gradient_ratio);
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* A child trains, one checkpoint a step, and is killed at some moment; then
 * another goes on.  Only a child that comes to the end writes its weights. */
static void train_in_child(const struct setup *setup, const char *weights_path)
{
    struct run *run = open_run(setup);
    float weights[MAX_WEIGHTS] = { 0 };

    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    mock_copy_weights(run->host, weights);
    put_file(weights_path, weights, sizeof weights);
    _exit(0);
}

START_TEST(killed_run_ends_with_the_bits_of_one_that_was_not)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];
    char result[256];
    char *found;
    size_t size;
    size_t kills = 0;
    int code = -1;

    setup.steps = 60;
    train(&setup, weights, NULL);
    make_path(directory, path);
    in_directory(directory, "weights", result);
    setup.checkpoint = path;
    for (size_t child = 0; code != 0; child++) {
        const pid_t pid = fork();

        ck_assert_int_ge(pid, 0);
        if (pid == 0)
            train_in_child(&setup, result);
        /* Longer each time, so that it comes to an end on any machine. */
        usleep((useconds_t)((child * 7919) % 23 + child * child / 4) * 1000);
        kill(pid, SIGKILL);
        ck_assert_int_eq(waitpid(pid, &code, 0), pid);
        ck_assert(WIFSIGNALED(code) || code == 0);
        kills += WIFSIGNALED(code);
        ck_assert_uint_lt(child, 400);
    }
    ck_assert_uint_gt(kills, 0);
    found = get_file(result, &size);
    ck_assert_uint_eq(size, sizeof weights);
    ck_assert_mem_eq(found, weights, sizeof weights);
    free(found);
    remove_directory(directory);
}
END_TEST

/* A host that stopped a run and resumes it without a new process: its weights
 * are those of the checkpoint.  What the run began with is kept through it. */
START_TEST(stopped_run_is_resumed_by_the_model_that_was_stopped)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    uint64_t resumed = 0;
    char directory[64];
    char path[256];
    struct run *run;

    train(&setup, weights, NULL);
    make_path(directory, path);
    setup.checkpoint = path;
    setup.stop_after = 3;
    run = open_run(&setup);
    for (uint64_t stop = 3; stop <= 6; stop += 3) {
        run->setup.stop_after = stop;
        ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL), QRB_E_CANCELLED);
        qrb_trainer_destroy(run->trainer);
        ASSERT_OK(run->ctx, open_trainer(run));
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_eq(resumed, stop);
    }
    close_run(run);
    run =
        open_run(&setup); /* the checkpoint of step 6, and weights of step 0 */
    run->setup.stop_after = 0;
    ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
    ck_assert_uint_eq(resumed, 6);
    ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
    ck_assert(mock_weights_equal(run->host, weights));
    close_run(run);
    remove_directory(directory);
}
END_TEST

START_TEST(checkpoint_that_cannot_be_written_stops_the_run)
{
    struct setup setup = with_checkpoint(rich, "/nowhere/at/all/run.ckpt");
    struct run *run;

    setup.every = 2;
    run = open_run(&setup);
    ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL), QRB_E_IO,
                 "/nowhere/at/all");
    ck_assert(mock_weights_equal(run->host, run->steps[2]));
    close_run(run);
}
END_TEST

/* Every call of the host fails once, with checkpoints far apart: the file has
 * the last complete step, and resumed it ends as a run that never failed. */
START_TEST(failed_run_leaves_a_checkpoint_of_its_last_complete_step)
{
    struct setup setup = rich;
    float weights[MAX_WEIGHTS] = { 0 };
    char directory[64];
    char path[256];
    bool ended = false;

    setup.steps = 3;
    train(&setup, weights, NULL);
    make_path(directory, path);
    setup.checkpoint = path;
    setup.every = 100;
    for (size_t call = 1; !ended; call++) {
        struct run *run = open_run(&setup);
        uint64_t resumed = 99;
        qrb_status status;

        unlink(path);
        run->host->fail_at = call;
        run->host->fail_code = -7;
        status = qrb_trainer_run(run->trainer, NULL);
        ended = run->host->calls < call;
        ck_assert_int_eq(status, ended ? QRB_OK : QRB_E_CALLBACK);
        if (!ended)
            ck_assert_int_eq(qrb_context_callback_code(run->ctx), -7);
        /* What weights_written answers comes after its step. */
        ck_assert_int_eq(access(path, R_OK) == 0,
                         !mock_weights_equal(run->host, run->steps[0]));
        close_run(run);

        run = open_run(&setup);
        ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, &resumed));
        ck_assert_uint_le(resumed, 3);
        ASSERT_OK(run->ctx, qrb_trainer_run(run->trainer, NULL));
        ck_assert(mock_weights_equal(run->host, weights));
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* The directory of the checkpoint went away: what stopped the run is told,
 * unless it was a cancellation, which promises the checkpoint. */
START_TEST(first_failure_is_told_if_the_last_checkpoint_fails_too)
{
    struct setup setup = rich;
    char directory[64];
    char path[256];

    setup.every = 100;
    for (int cancelled = 0; cancelled < 2; cancelled++) {
        struct run *run;

        make_path(directory, path);
        setup.checkpoint = path;
        setup.stop_after = cancelled ? 1 : 0;
        run = open_run(&setup);
        remove_directory(directory);
        /* Calls: set_mode; step 0, which is zero_grad, two loss_and_grad, one
         * weights_written for each parameter, and the anchor's two; and the
         * zero_grad of step 1. */
        run->host->fail_at = cancelled ? 0 : 1 + 3 + MOCK_PARAMETERS + 2 + 1;
        run->host->fail_code = -7;
        ASSERT_FAILS(run->ctx, qrb_trainer_run(run->trainer, NULL),
                     cancelled ? QRB_E_IO : QRB_E_CALLBACK,
                     cancelled ? "qrobust-test-" : "zero_grad");
        if (!cancelled)
            ck_assert_int_eq(qrb_context_callback_code(run->ctx), -7);
        ck_assert(mock_weights_equal(run->host, run->steps[1]));
        close_run(run);
    }
}
END_TEST

/* The weight of fc1 lies column by column. */
START_TEST(strided_weights_come_back_from_a_checkpoint)
{
    float memory[2][MOCK_HIDDEN * MOCK_DIM];
    float expected[MOCK_HIDDEN * MOCK_DIM];
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    char directory[64];
    char path[256];
    struct setup setup;

    make_path(directory, path);
    setup = with_checkpoint((struct setup){ 0 }, path);
    setup.adjust = give_boundless_loss; /* does not look at the weights */
    for (int i = 0; i < (int)(MOCK_HIDDEN * MOCK_DIM); i++)
        memory[1][i] = 0.01f * (float)i;
    for (int part = 0; part < 2; part++) {
        struct run *run = open_run(&setup);
        qrb_tensor *weight = NULL;
        qrb_tensor *gradient = NULL;

        for (int i = 0; i < (int)(MOCK_HIDDEN * MOCK_DIM); i++)
            memory[0][i] = cosf((float)i);
        view.rank = 2;
        view.shape[0] = MOCK_HIDDEN;
        view.shape[1] = MOCK_DIM;
        view.strides[0] = sizeof(float);
        view.strides[1] = MOCK_HIDDEN * sizeof(float);
        view.memory = memory[0];
        ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &view, &weight));
        view.memory = memory[1];
        ASSERT_OK(run->ctx, qrb_tensor_create(run->ctx, &view, &gradient));
        ASSERT_OK(run->ctx, qrb_model_weights_changed(
                                run->host->model, MOCK_FC1, weight, gradient));
        if (part == 0) {
            run->setup.stop_after = 2;
            ck_assert_int_eq(qrb_trainer_run(run->trainer, NULL),
                             QRB_E_CANCELLED);
            memcpy(expected, memory[0], sizeof expected);
        } else {
            ck_assert_mem_ne(memory[0], expected, sizeof expected);
            memory[0][1] += 1.0f;
            ASSERT_FAILS(run->ctx, qrb_trainer_resume(run->trainer, NULL),
                         QRB_E_FORMAT, "other weights");
            memory[0][1] = cosf(1.0f);
            ASSERT_OK(run->ctx, qrb_trainer_resume(run->trainer, NULL));
            ck_assert_mem_eq(memory[0], expected, sizeof expected);
        }
        qrb_tensor_destroy(weight);
        qrb_tensor_destroy(gradient);
        close_run(run);
    }
    remove_directory(directory);
}
END_TEST

/* Create, resume, train with a checkpoint at each step; arg is its path. */
static qrb_status whole_run(qrb_context *ctx, void *arg)
{
    struct run *run = calloc(1, sizeof *run);
    qrb_status status;

    ck_assert_ptr_nonnull(run);
    run->setup = with_checkpoint(rich, arg);
    run->setup.steps = 2;
    run->ctx = ctx;
    status = open_parts(run);
    if (status == QRB_OK)
        status = open_trainer(run);
    if (status == QRB_OK)
        status = qrb_trainer_resume(run->trainer, NULL);
    if (status == QRB_OK)
        status = qrb_trainer_run(run->trainer, NULL);
    run->ctx = NULL; /* the loop's own */
    close_run(run);
    return status;
}

START_TEST(every_failed_allocation_is_reported_and_leaks_nothing)
{
    char directory[64];
    char path[256];

    make_path(directory, path);
    fail_each_allocation(whole_run, path); /* the file is made on the way */
    fail_each_allocation(whole_run, path); /* and resumed */
    remove_directory(directory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("checkpoint");
    TCase *checkpoint = tcase_create("checkpoint");

    tcase_set_timeout(checkpoint, 60);
    tcase_add_test(checkpoint, cancelled_run_keeps_its_step_and_its_figures);
    tcase_add_loop_test(
        checkpoint, resumed_run_has_the_bits_of_one_that_was_not_stopped, 0, 2);
    tcase_add_test(checkpoint,
                   killed_run_ends_with_the_bits_of_one_that_was_not);
    tcase_add_test(checkpoint,
                   stopped_run_is_resumed_by_the_model_that_was_stopped);
    tcase_add_test(checkpoint, checkpoint_that_cannot_be_written_stops_the_run);
    tcase_add_test(checkpoint,
                   failed_run_leaves_a_checkpoint_of_its_last_complete_step);
    tcase_add_test(checkpoint,
                   first_failure_is_told_if_the_last_checkpoint_fails_too);
    tcase_add_test(checkpoint, strided_weights_come_back_from_a_checkpoint);
    tcase_add_test(checkpoint,
                   every_failed_allocation_is_reported_and_leaks_nothing);
    suite_add_tcase(suite, checkpoint);
    return run_suite(suite);
}
