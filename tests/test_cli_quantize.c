/* The command quantize: what it writes, tells and refuses. */
#include <jansson.h>
#include <qrobust/source.h>

#include "cli.h"
#include "cli_frame.h"

enum { OK, FAILED, USAGE, LAYERS = 7 };

static const struct {
    const char *words;
    const char *message;
} usage_errors[] = {
    { "--method rtm", "found \"rtm\"" },
    { "--method +rtn", "found \"+rtn\"" },
    { "--method rtn+", "found \"rtn+\"" },
    { "--method rtn+rtn", "scales no inputs" },
    { "--method smoothquant+smoothquant+smoothquant+smoothquant+rtn",
      "--method" },
    { "--method rtn --bits 1", "2 to 8" },
    { "--method int8 --bits 4", "int8 has 8" },
    { "--method nf4 --group-size 32", "--group-size does not go" },
    { "--method rtn --options grid", "KEY=VALUE" },
    { "--method rtn --options grid=", "KEY=VALUE" },
    { "--method rtn --options grid=A_NONE", "grid=A_NONE" },
    { "--method rtn --options alpha=0.5", "no option \"alpha\"" },
    { "--method rtn --options mse_clip=2", "mse_clip=2" },
    { "--method nf4 --options block_size=0", "block_size=0" },
    { "--method smoothquant --options alpha=x", "alpha=x" },
    { "--method smoothquant --options alpha=1.5", "alpha" },
    { "--method squeezellm --options solver=none", "solver=none" },
    { "--method squeezellm --group-size 4", "squeezellm" },
    { "--method gptq --options group_stats=old", "group_stats=old" },
    { "--method gptq --options damping=-1", "damping" },
    { "--method gptq --options double_quant=1", "no option" },
    { "--method awq --options ratios=0", "ratios=0" },
    { "--method rtn --format packed", "not written by this version" },
    { "--method rtn --format fp8", "expected float" },
    { "--method rtn --samples 0", "at least 1" },
};

START_TEST(a_usage_error_is_status_2_and_says_what_is_expected)
{
    char words[256];

    snprintf(words, sizeof words, "quantize @/model @/out %s",
             usage_errors[_i].words);
    ck_assert_int_eq(frame_run(words), USAGE);
    ck_assert_msg(strstr(frame_err, usage_errors[_i].message) != NULL, "%s: %s",
                  words, frame_err);
    ck_assert_str_eq(strchr(frame_err, '\n'), "\n");
    ck_assert(!frame_exists("out"));
}
END_TEST

static const struct {
    const char *words;
    const char *message;
} failures[] = {
    { "@/none @/out --method rtn", "@/none" },
    { "@/model @/out --method smoothquant+rtn", "needs calibration" },
    { "@/model @/out --method gptq", "needs calibration" },
    { "@/model @/out --method rtn --calibration @/none.txt", "none.txt" },
    { "@/model @/out --method smoothquant --calibration @/test.txt --context "
      "100000",
      "context is 16" },
    { "@/model @/nowhere/out --method rtn", "nowhere" },
};

START_TEST(a_failure_is_status_1_and_leaves_nothing)
{
    const char *message = failures[_i].message;
    char words[256];

    if (*message == '@')
        message++;
    snprintf(words, sizeof words, "quantize %s", failures[_i].words);
    ck_assert_int_eq(frame_run(words), FAILED);
    ck_assert_msg(strstr(frame_err, message) != NULL, "%s: %s", words,
                  frame_err);
    ck_assert_str_eq(strchr(frame_err, '\n'), "\n");
    ck_assert(!frame_exists("out"));
}
END_TEST

static double perplexity_of(const char *model, const char *precision)
{
    char words[160];
    json_t *object;
    double value;

    snprintf(words, sizeof words,
             "eval @/%s --text @/test.txt --precision %s --json @/eval.json",
             model, precision);
    ck_assert_int_eq(frame_run(words), OK);
    object = frame_figures("eval.json");
    value = frame_number(json_object_get(json_object_get(object, "precisions"),
                                   precision),
                   "perplexity");
    json_decref(object);
    return value;
}

static const struct {
    const char *method;
    const char *changes[6]; /* up to NULL */
} tunable[] = {
    { "squeezellm",
      { "outliers=5", "sensitive=5", "range=0.5", "solver=lloyd", NULL } },
    { "gptq --group-size 8",
      { "damping=0.5", "block_size=1", "act_order=1", "grid=S_GPTQ",
        "mse_clip=1" } },
    { "awq", { "ratios=1", "clip=0", "duo_scaling=1", NULL, NULL } },
};

START_TEST(options_reach_their_method)
{
    static const char words[] = "quantize @/wide @/%s --method %s --bits 2 "
                                "%s %s --calibration @/text.txt --samples 4";
    char line[256];
    double plain;

    ck_assert_int_eq(frame_run("train @/wide --text @/text.txt --dim 16 "
                               "--heads 2 --layers 1 --hidden 24 --vocab 257 "
                               "--context 16 --batch 2 --steps 5"),
                     OK);
    snprintf(line, sizeof line, words, "plain", tunable[_i].method, "", "");
    ck_assert_msg(frame_run(line) == OK, "%s: %s", line, frame_err);
    plain = perplexity_of("plain", "fp32");
    for (size_t i = 0; tunable[_i].changes[i] != NULL; i++) {
        snprintf(line, sizeof line, words, "other", tunable[_i].method,
                 "--options", tunable[_i].changes[i]);
        ck_assert_msg(frame_run(line) == OK, "%s: %s", line, frame_err);
        ck_assert_msg(perplexity_of("other", "fp32") != plain, "%s", line);
    }
}
END_TEST

/* What eval makes on the fly is what is written. */
START_TEST(the_written_weights_are_those_of_the_method)
{
    ck_assert_int_eq(
        frame_run("quantize @/model @/rtn --method rtn --bits 3"), OK);
    ck_assert_double_eq(perplexity_of("rtn", "fp32"),
                        perplexity_of("model", "rtn3"));
    ck_assert_int_eq(frame_run("quantize @/model @/nf4 --method nf4"), OK);
    ck_assert_double_eq(perplexity_of("nf4", "fp32"),
                        perplexity_of("model", "nf4"));
    ck_assert_double_ne(perplexity_of("nf4", "fp32"),
                        perplexity_of("model", "fp32"));
}
END_TEST

START_TEST(the_report_tells_every_matrix_and_both_perplexities)
{
    json_t *object;
    json_t *layers;

    ck_assert_int_eq(
        frame_run("quantize @/model @/out --method smoothquant+rtn --bits 4 "
                  "--group-size 128 --options alpha=0.6 --calibration "
                  "@/text.txt --samples 6 --json @/quantize.json"),
        OK);
    ck_assert_ptr_nonnull(strstr(frame_out, "memory: weights"));
    object = frame_figures("quantize.json");
    layers = json_object_get(object, "layers");
    ck_assert_uint_eq(json_array_size(layers), LAYERS);
    ck_assert_double_eq(frame_number(object, "context"), 16); /* the model's */
    ck_assert_double_ge(frame_number(json_object_get(object, "perplexity"), "float"),
                        1);
    ck_assert_double_ge(
        frame_number(json_object_get(object, "perplexity"), "quantized"), 1);
    for (size_t i = 0; i < LAYERS; i++) {
        const json_t *row = json_array_get(layers, i);

        ck_assert_double_gt(frame_number(row, "relative_output_error"), 0);
        ck_assert_double_lt(frame_number(row, "relative_output_error"), 1);
        ck_assert_double_gt(frame_number(row, "relative_weight_error"), 0);
        ck_assert_double_gt(frame_number(row, "bits_per_weight"), 4);
        ck_assert_ptr_nonnull(
            strstr(json_string_value(json_object_get(row, "note")),
                   "one group"));
        ck_assert_str_eq(json_string_value(json_object_get(row, "method")),
                         "smoothquant+rtn");
    }
    json_decref(object);
    /* The file remembers the text. */
    ck_assert_int_eq(frame_run("eval @/out --text @/text.txt"), OK);
    ck_assert_ptr_nonnull(strstr(frame_err, "calibrated on"));
    ck_assert_int_eq(frame_run("eval @/out --text @/test.txt"), OK);
    ck_assert_str_eq(frame_err, "");
    frame_remove("out");
}
END_TEST

static bool file_holds(const char *name, const char *text)
{
    size_t size;
    char *file = get_file(frame_path(name), &size);
    const size_t length = strlen(text);
    bool found = false;

    for (size_t i = 0; i + length <= size && !found; i++)
        found = memcmp(file + i, text, length) == 0;
    free(file);
    return found;
}

START_TEST(equal_work_is_equal_files_with_any_number_of_threads)
{
    static const char work[] =
        "quantize @/model @/%s --method smoothquant+rtn --bits 3 --seed 5 "
        "--options alpha=0.25,mse_clip=1 --calibration @/text.txt --samples 6 "
        "--threads %d %s";
    char words[256];

    snprintf(words, sizeof words, work, "one", 1, "");
    ck_assert_int_eq(frame_run(words), OK);
    snprintf(words, sizeof words, work, "three", 3, "");
    ck_assert_int_eq(frame_run(words), OK);
    snprintf(words, sizeof words, work, "steps", 1, "--sequential");
    ck_assert_int_eq(frame_run(words), OK);
    ck_assert(frame_same("one/model.safetensors", "three/model.safetensors"));
    ck_assert(!frame_same("one/model.safetensors", "steps/model.safetensors"));
    ck_assert(file_holds("one/model.safetensors",
                         "--method smoothquant+rtn --bits 3 --group-size 0 "
                         "--options alpha=0.25,mse_clip=1 --samples 6 "
                         "--context 16"));
    ck_assert(file_holds("one/model.safetensors", "qrobust_model"));
    ck_assert(file_holds("steps/model.safetensors", "--sequential"));
    ck_assert(!file_holds("one/model.safetensors", "text.txt"));
}
END_TEST

static void write_text(const char *name, const char *text)
{
    FILE *file = fopen(frame_path(name), "w");

    ck_assert_ptr_nonnull(file);
    fputs(text, file);
    ck_assert_int_eq(fclose(file), 0);
}

/* A real model, which loses its language with three values a weight. */
START_TEST(a_result_beyond_use_is_status_1_and_says_so)
{
    const char *root = getenv("QRB_SOURCE");
    char words[512];

    if (root == NULL) {
        printf("SKIP: QRB_SOURCE does not say where the model is\n");
        return;
    }
    write_text("psalm.txt",
               "And he set the stars in their courses, and gave unto the moon "
               "her seasons, that men might number their days.\n"
               "And the earth brought forth flowers after their kind, and the "
               "fowls of the air made their nests among the branches.\n");
    snprintf(words, sizeof words,
             "quantize %s/examples/model @/out --method rtn --bits 8 "
             "--calibration @/psalm.txt --samples 2 --context 16",
             root);
    ck_assert_int_eq(frame_run(words), OK);
    snprintf(words, sizeof words,
             "quantize %s/examples/model @/out --method rtn --bits 2 --options "
             "grid=S_ABS --calibration @/psalm.txt --samples 2 --context 16",
             root);
    ck_assert_int_eq(frame_run(words), FAILED);
    ck_assert_ptr_nonnull(strstr(frame_err, "beyond use"));
    ck_assert(frame_exists("out/model.safetensors"));
    frame_remove("out");
}
END_TEST

START_TEST(a_text_that_is_too_short_is_told_what_to_do)
{
    write_text("short.txt", "a b");
    ck_assert_int_eq(frame_run("quantize @/model @/out --method smoothquant "
                               "--calibration @/short.txt --context 12"),
                     FAILED);
    ck_assert_ptr_nonnull(
        strstr(frame_err, "give more text or a shorter context"));
    ck_assert(!frame_exists("out"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli quantize");
    TCase *cases = tcase_create("quantize");

    tcase_add_checked_fixture(cases, frame_open, frame_close);
    tcase_set_timeout(cases, 100);
    tcase_add_loop_test(cases,
                        a_usage_error_is_status_2_and_says_what_is_expected, 0,
                        (int)(sizeof usage_errors / sizeof *usage_errors));
    tcase_add_loop_test(cases, a_failure_is_status_1_and_leaves_nothing, 0,
                        (int)(sizeof failures / sizeof *failures));
    tcase_add_loop_test(cases, options_reach_their_method, 0,
                        (int)(sizeof tunable / sizeof *tunable));
    tcase_add_test(cases, the_written_weights_are_those_of_the_method);
    tcase_add_test(cases, the_report_tells_every_matrix_and_both_perplexities);
    tcase_add_test(cases,
                   equal_work_is_equal_files_with_any_number_of_threads);
    tcase_add_test(cases, a_result_beyond_use_is_status_1_and_says_so);
    tcase_add_test(cases, a_text_that_is_too_short_is_told_what_to_do);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
