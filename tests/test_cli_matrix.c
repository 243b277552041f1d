/* qrobust matrix: files in, files and figures out, for every method. */
#include <math.h>

#include <jansson.h>
#include <qrobust/quantizer.h>

#include "cli_frame.h"
#include "matrix.h"

enum { OK, FAILED, USAGE };
enum { ROWS = 12, COLS = 32, TOKENS = 20 };

static float w[ROWS * COLS];
static float x[TOKENS * COLS];
static float fisher[ROWS * COLS];

static void put(qrb_context *ctx, const char *file, const char *name,
                size_t rows, size_t cols, float *memory)
{
    qrb_named_tensor named = { name, matrix(ctx, QRB_F32, rows, cols, memory) };

    ASSERT_OK(ctx, qrb_safetensors_write(ctx, frame_path(file), &named, 1, NULL,
                                         0));
    qrb_tensor_destroy((qrb_tensor *)(uintptr_t)named.tensor);
}

static void set_up(void)
{
    qrb_context *ctx = make_context(NULL);

    frame_open();
    fill(1, ROWS * COLS, w);
    fill(2, TOKENS * COLS, x);
    fill(3, ROWS * COLS, fisher);
    for (size_t i = 0; i < TOKENS * COLS; i++)
        x[i] *= i % COLS % 5 == 1 ? 20.0f : 1.0f;
    for (size_t i = 0; i < ROWS * COLS; i++)
        fisher[i] *= fisher[i];
    put(ctx, "w.safetensors", "weight", ROWS, COLS, w);
    put(ctx, "x.safetensors", "inputs", TOKENS, COLS, x);
    put(ctx, "f.safetensors", "fisher", ROWS, COLS, fisher);
    put(ctx, "narrow.safetensors", "inputs", TOKENS, COLS / 2, x);
    qrb_context_destroy(ctx);
}

static void tear_down(void)
{
    frame_close();
}

/* What each writes beside weight and codes, and whether it has a loss. */
static const struct {
    const char *words;
    const char *name; /* of the library's quantizer */
    const char *tensors;
    bool has_loss;
} methods[] = {
    { "--method rtn --bits 4 --group-size 8", "rtn4g8", "scales zeros", false },
    { "--method rtn --bits 3", "rtn3", "scales zeros", false },
    { "--method awq --bits 3 --group-size 16", "awq3g16",
      "scales zeros input_scale", true },
    { "--method smoothquant --bits 8", "smoothquant8", "scales input_scale",
      false },
    { "--method squeezellm --bits 3", "squeezellm3", "table", true },
    { "--method int8", "int8", "scales", false },
    { "--method int8 --bits 8", "int8", "scales", false },
    { "--method nf4 --bits 4", "nf4", "scales", false },
    { "--method smoothquant+rtn --bits 4 --group-size 8",
      "smoothquant+rtn4g8", "scales zeros input_scale", false },
    { "--method gptq --bits 3 --group-size 8", "gptq3g8", "scales zeros",
      true },
    { "--method awq+gptq --bits 3", "awq+gptq3", "scales zeros input_scale",
      true },
    { "--method awq+int8 --bits 8", "awq8+int8",
      "scales input_scale", true },
};

/* [rows, cols] of float32, from a file. */
static void read_weight(qrb_context *ctx, const char *path, float *out)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tensor *tensor = matrix(ctx, QRB_F32, ROWS, COLS, out);
    qrb_safetensors *file;

    source.path = path;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_OK(ctx, qrb_safetensors_read(
                       file, qrb_safetensors_find(file, "weight"), tensor));
    qrb_safetensors_close(file);
    qrb_tensor_destroy(tensor);
}

/* weight, codes, and what is listed, and nothing else. */
static void assert_tensors(qrb_context *ctx, const char *path,
                           const char *tensors)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    size_t expected = 2;
    char list[128];

    source.path = path;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ck_assert_uint_ne(qrb_safetensors_find(file, "codes"), SIZE_MAX);
    strcpy(list, tensors);
    for (char *name = strtok(list, " "); name != NULL;
         name = strtok(NULL, " ")) {
        ck_assert_msg(qrb_safetensors_find(file, name) != SIZE_MAX, "no %s",
                      name);
        expected++;
    }
    ck_assert_uint_eq(qrb_safetensors_count(file), expected);
    qrb_safetensors_close(file);
}

static double figure(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    ck_assert_msg(json_is_number(value), "%s is no number", key);
    return json_number_value(value);
}

/* |a|^2 of a [ROWS, COLS], or of its products with the inputs. */
static double square(const double *a, bool of_outputs)
{
    double sum = 0;

    if (!of_outputs) {
        for (size_t i = 0; i < ROWS * COLS; i++)
            sum += a[i] * a[i];
        return sum;
    }
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double y = 0;

            for (size_t j = 0; j < COLS; j++)
                y += (double)x[t * COLS + j] * a[r * COLS + j];
            sum += y * y;
        }
    return sum;
}

static void assert_figures(const char *path, const float *values, bool has_loss)
{
    json_t *object = json_load_file(path, 0, NULL);
    double given[ROWS * COLS];
    double errors[ROWS * COLS];

    ck_assert_ptr_nonnull(object);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        given[i] = (double)w[i];
        errors[i] = (double)w[i] - (double)values[i];
    }
    /* Values are rounded to float32 in the file, Gram matrices summed in it. */
    ck_assert_double_eq_tol(figure(object, "relative_weight_error"),
                            square(errors, false) / square(given, false),
                            1e-5 * square(errors, false));
    ck_assert_double_eq_tol(figure(object, "relative_output_error"),
                            square(errors, true) / square(given, true),
                            1e-3 * square(errors, true) / square(given, true));
    ck_assert_double_gt(figure(object, "bits_per_weight"), 3);
    ck_assert_double_ge(figure(object, "seconds"), 0);
    ck_assert_int_eq(json_object_get(object, "loss") != NULL, has_loss);
    json_decref(object);
}

START_TEST(a_matrix_becomes_what_the_library_makes_of_it)
{
    qrb_context *ctx = make_context(NULL);
    qrb_observer_options observed = QRB_OBSERVER_OPTIONS_INIT;
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_tensor *weight = matrix(ctx, QRB_F32, ROWS, COLS, w);
    qrb_tensor *inputs = matrix(ctx, QRB_F32, TOKENS, COLS, x);
    qrb_tensor *gradients = matrix(ctx, QRB_F32, ROWS, COLS, fisher);
    float expected[ROWS * COLS];
    float found[ROWS * COLS];
    qrb_quantizer *quantizer;
    qrb_observer *observer;
    char words[512];

    snprintf(words, sizeof words,
             "matrix %s --weight @/w.safetensors --inputs @/x.safetensors "
             "--fisher @/f.safetensors --out @/q.safetensors --json @/q.json",
             methods[_i].words);
    ck_assert_msg(frame_run(words) == OK, "%s", frame_err);
    read_weight(ctx, frame_path("q.safetensors"), found);
    assert_tensors(ctx, frame_path("q.safetensors"), methods[_i].tensors);
    assert_figures(frame_path("q.json"), found, methods[_i].has_loss);

    observed.columns = COLS;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &observed, &observer));
    ASSERT_OK(ctx, qrb_observer_add(observer, inputs));
    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, methods[_i].name,
                                              &quantizer));
    calibration.inputs = observer;
    calibration.fisher = gradients;
    ASSERT_OK(ctx,
              qrb_quantizer_fake_with(quantizer, weight, &calibration, NULL));
    memcpy(expected, w, sizeof expected);
    ck_assert_mem_eq(found, expected, sizeof found);
    qrb_quantizer_destroy(quantizer);
    qrb_observer_destroy(observer);
    qrb_tensor_destroy(weight);
    qrb_tensor_destroy(inputs);
    qrb_tensor_destroy(gradients);
    qrb_context_destroy(ctx);
}
END_TEST

/* Options change what comes out. */
static const char *const changing[][2] = {
    { "--method rtn --bits 3", "grid=s_abs" },
    { "--method rtn --bits 3", "mse_clip=1" },
    { "--method rtn --bits 3", "grid=s_gptq,mse_clip=1" },
    { "--method awq --bits 3", "ratios=2,clip=0" },
    { "--method awq --bits 3", "duo_scaling=1" },
    { "--method smoothquant --bits 4", "alpha=0.85" },
    { "--method squeezellm --bits 3", "outliers=5" },
    { "--method squeezellm --bits 3", "sensitive=5" },
    { "--method squeezellm --bits 3", "range=0.5" },
    { "--method nf4", "block_size=16" },
    { "--method nf4", "double_quant=1" },
    { "--method smoothquant+rtn --bits 4", "alpha=0.2,grid=s_abs" },
    { "--method rtn --bits 3", "grid=S_ACT" },
    { "--method gptq --bits 3 --group-size 8", "act_order=1" },
    { "--method gptq --bits 3 --group-size 8",
      "group_stats=fresh,block_size=16,damping=0.1" },
    { "--method smoothquant+nf4", "double_quant=1" },
};

START_TEST(each_option_is_heard)
{
    float plain[ROWS * COLS];
    float changed[ROWS * COLS];
    qrb_context *ctx = make_context(NULL);
    static const char files[] =
        "--weight @/w.safetensors --inputs @/x.safetensors --fisher "
        "@/f.safetensors --out @/q.safetensors";
    char words[512];

    snprintf(words, sizeof words, "matrix %s %s", changing[_i][0], files);
    ck_assert_msg(frame_run(words) == OK, "%s", frame_err);
    read_weight(ctx, frame_path("q.safetensors"), plain);
    snprintf(words, sizeof words, "matrix %s --options %s %s", changing[_i][0],
             changing[_i][1], files);
    ck_assert_msg(frame_run(words) == OK, "%s", frame_err);
    read_weight(ctx, frame_path("q.safetensors"), changed);
    ck_assert_int_ne(memcmp(plain, changed, sizeof plain), 0);
    qrb_context_destroy(ctx);
}
END_TEST

/* Without rounded inputs the product's error is close to the weights' own. */
START_TEST(int8_measures_its_product)
{
    json_t *object;

    ck_assert_msg(frame_run("matrix --method int8 --options threshold=6 "
                            "--weight @/w.safetensors --inputs "
                            "@/x.safetensors --out @/q.safetensors --json "
                            "@/q.json") == OK,
                  "%s", frame_err);
    object = json_load_file(frame_path("q.json"), 0, NULL);
    ck_assert_double_gt(figure(object, "product_error"), 0);
    ck_assert_double_lt(figure(object, "product_error"), 1e-3);
    json_decref(object);
}
END_TEST

/* Outliers come in compressed rows, and 5 % of 384 are 19. */
START_TEST(outliers_are_written_by_rows)
{
    qrb_context *ctx = make_context(NULL);
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_safetensors *file;

    ck_assert_msg(frame_run("matrix --method squeezellm --bits 3 --options "
                            "outliers=5,solver=lloyd --weight @/w.safetensors "
                            "--fisher @/f.safetensors --out "
                            "@/q.safetensors") == OK,
                  "%s", frame_err);
    assert_tensors(ctx, frame_path("q.safetensors"),
                   "table outlier_rows outlier_columns outlier_values");
    source.path = frame_path("q.safetensors");
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_OK(ctx, qrb_safetensors_describe(
                       file, qrb_safetensors_find(file, "outlier_values"),
                       &shape));
    ck_assert_uint_eq(shape.shape[0], 19);
    ASSERT_OK(ctx,
              qrb_safetensors_describe(
                  file, qrb_safetensors_find(file, "outlier_rows"), &shape));
    ck_assert_uint_eq(shape.shape[0], ROWS + 1);
    qrb_safetensors_close(file);
    qrb_context_destroy(ctx);
}
END_TEST

#define FILES "--weight @/w.safetensors --out @/q.safetensors"

static const struct {
    const char *words;
    int status;
    const char *message;
} refused[] = {
    { "matrix --bits 4 " FILES, USAGE, "--method M is required" },
    { "matrix --method rtn --bits 4 --out @/q", USAGE, "--weight FILE" },
    { "matrix --method rtn --bits 4 --weight @/w", USAGE, "--out FILE" },
    { "matrix --method rtn " FILES, USAGE, "--bits B is required by rtn" },
    { "matrix --method nf4 --bits 3 " FILES, USAGE, "nf4 has 4" },
    { "matrix --method int8 --bits 4 " FILES, USAGE, "int8 has 8" },
    { "matrix --method int8 --group-size 8 " FILES, USAGE, "int8" },
    { "matrix --method rtn --bits 9 " FILES, USAGE, "expected 2 to 8" },
    { "matrix --method magic --bits 4 " FILES, USAGE, "\"magic\"" },
    { "matrix --method rtn+ --bits 4 " FILES, USAGE, "\"rtn+\"" },
    { "matrix --method rtn+rtn --bits 4 " FILES, USAGE, "scales no inputs" },
    { "matrix --method awq --bits 4 " FILES, USAGE, "--inputs FILE" },
    { "matrix --method smoothquant+rtn --bits 4 " FILES, USAGE,
      "--inputs FILE" },
    { "matrix --method squeezellm --bits 4 " FILES, USAGE, "--fisher FILE" },
    { "matrix --method rtn --bits 4 --options speed=1 " FILES, USAGE,
      "no option \"speed\"" },
    { "matrix --method rtn --bits 4 --options alpha=1 " FILES, USAGE,
      "no option \"alpha\"" },
    { "matrix --method rtn --bits 4 --options grid " FILES, USAGE,
      "KEY=VALUE" },
    { "matrix --method rtn --bits 4 --options grid=b_odd " FILES, USAGE,
      "grid=b_odd" },
    { "matrix --method nf4 --options block_size=1.5 " FILES, USAGE,
      "block_size=1.5" },
    { "matrix --method int8 --options threshold=-1 --inputs @/x.safetensors "
      FILES,
      FAILED, "threshold is -1" },
    { "matrix --method awq+int8 --options threshold=6 --inputs "
      "@/x.safetensors " FILES,
      USAGE, "int8 alone" },
    { "matrix --method int8 --options threshold=6 " FILES, USAGE,
      "--inputs FILE" },
    { "matrix --method smoothquant --bits 8 --options alpha=2 --inputs "
      "@/x.safetensors " FILES,
      USAGE, "alpha is 2" },
    { "matrix --method rtn --bits 4 --group-size 64 " FILES, FAILED,
      "group size 64" },
    { "matrix --method rtn --bits 4 --inputs @/w.safetensors " FILES, FAILED,
      "has no tensor \"inputs\"" },
    { "matrix --method rtn --bits 4 --inputs @/narrow.safetensors " FILES,
      FAILED, "[tokens, 32] is expected" },
    { "matrix --method rtn --bits 4 --weight @/none --out @/q", FAILED,
      "none" },
};

START_TEST(what_does_not_fit_is_said_in_one_line)
{
    ck_assert_msg(frame_run(refused[_i].words) == refused[_i].status, "%s: %s",
                  refused[_i].words, frame_err);
    ck_assert_msg(strstr(frame_err, refused[_i].message) != NULL,
                  "%s: \"%s\" does not say \"%s\"", refused[_i].words,
                  frame_err, refused[_i].message);
    ck_assert(!frame_exists("q.safetensors"));
}
END_TEST

/* As in the suite of the other commands: status 1, one line, no file. */
static const char *const jobs[] = {
    ("matrix --method awq --bits 3 --inputs @/x.safetensors --json "
     "@/q.json " FILES),
    ("matrix --method squeezellm --bits 3 --options outliers=5 --fisher "
     "@/f.safetensors " FILES),
    ("matrix --method int8 --options threshold=6 --inputs @/x.safetensors "
     FILES),
};

START_TEST(a_failed_allocation_leaves_nothing)
{
    size_t total;

    counting.live = 0;
    ck_assert_msg(frame_run(jobs[_i]) == OK, "%s", frame_err);
    total = counting.calls;
    for (size_t n = 1; n <= total; n++) {
        frame_remove("q.safetensors");
        counting.fail_at = n;
        ck_assert_msg(frame_run(jobs[_i]) == FAILED, "allocation %zu: %s", n,
                      frame_err);
        counting.fail_at = 0;
        ck_assert_msg(counting.live == 0, "allocation %zu leaks", n);
        ck_assert(strchr(frame_err, '\n') != NULL &&
                  strcmp(strchr(frame_err, '\n'), "\n") == 0);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli matrix");
    TCase *cases = tcase_create("matrix");

    tcase_add_checked_fixture(cases, set_up, tear_down);
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases, a_matrix_becomes_what_the_library_makes_of_it, 0,
                        (int)(sizeof methods / sizeof *methods));
    tcase_add_loop_test(cases, each_option_is_heard, 0,
                        (int)(sizeof changing / sizeof *changing));
    tcase_add_test(cases, int8_measures_its_product);
    tcase_add_test(cases, outliers_are_written_by_rows);
    tcase_add_loop_test(cases, what_does_not_fit_is_said_in_one_line, 0,
                        (int)(sizeof refused / sizeof *refused));
    tcase_add_loop_test(cases, a_failed_allocation_leaves_nothing, 0,
                        (int)(sizeof jobs / sizeof *jobs));
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
