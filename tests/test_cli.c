/* The program: exit statuses, messages, the keys of its JSON, and the same
 * bits with any number of threads. */
#include <jansson.h>
#include <qrobust/source.h>

#include "cli.h"
#include "cli_frame.h"

enum { OK, FAILED, USAGE };

/* What a person types wrong gets status 2 and one line that says so. */
static const struct {
    const char *words;
    const char *message;
} usage_errors[] = {
    { "frobnicate", "unknown command" },
    { "eval", "expected MODEL" },
    { "convert @/model @/out --type f16", "an OUT that ends with .gguf" },
    { "convert @/model @/out.gguf --type q3_k", "--type q3_k" },
    { "eval @/model", "--text FILE is required" },
    { "eval @/model --text @/test.txt --precison fp32", "unknown option" },
    { "eval @/model --text @/test.txt --precision fp33", "fp33" },
    { "eval @/model --text @/test.txt --mode fast", "sliding" },
    { "eval @/model --text @/test.txt --context 1", "--context" },
    { "eval @/model --text @/test.txt --context 8 --stride 8", "--stride" },
    { "eval @/model --text @/test.txt --mode blocks --context 8 --stride 4",
      "--stride" },
    { "eval @/model --text @/test.txt --context x", "a whole number" },
    { "eval @/model --text", "needs a value" },
    { "eval @/model two --text @/test.txt", "one argument too many" },
    { "attack @/model @/out --text @/test.txt", "--ratio or --sigma" },
    { "attack @/model @/out --text @/test.txt --ratio 1", "above 1" },
    { "attack @/model @/out --text @/test.txt --sigma -1", "0 or more" },
    { "train @/out --text @/text.txt --from @/model --dim 8", "own shape" },
    { "repair @/model @/out", "--text FILE is required" },
    { "quantize @/model @/out", "--method M is required" },
    { "quantize @/model", "expected MODEL OUT" },
    { "generate", "expected MODEL" },
    { "generate @/model --prompt a --prompt-file @/test.txt", "exclude" },
    { "generate @/model --tokens 0", "--tokens" },
    { "generate @/model --temperature -1", "--temperature" },
    { "generate @/model --top-p 0", "--top-p" },
    { "generate @/model --top-p 1.5", "--top-p" },
    { "generate @/model --kv-bits 5", "--kv-bits" },
    { "info --threads 5000", "--threads" },
    { "info --quiet=yes", "takes no value" },
    { "info --seed 9223372036854775808", "a whole number" },
};

START_TEST(a_usage_error_is_status_2_and_says_what_is_expected)
{
    ck_assert_int_eq(frame_run(usage_errors[_i].words), USAGE);
    ck_assert_msg(strstr(frame_err, usage_errors[_i].message) != NULL, "%s: %s",
                  usage_errors[_i].words, frame_err);
    ck_assert_str_eq(strchr(frame_err, '\n'), "\n");
}
END_TEST

/* What cannot be done gets status 1 and one line that names the file. */
static const struct {
    const char *words;
    const char *message;
} failures[] = {
    { "info @/none", "there is no such file" },
    { "eval @/none --text @/test.txt", "@/none" },
    { "eval @/model --text @/none.txt", "none.txt" },
    { "eval @/text.txt --text @/test.txt", "text.txt" },
    { "generate @/none", "@/none" },
    { "generate @/model --prompt-file @/none.txt", "none.txt" },
    { "generate @/model --prompt-file @/text.txt",
      "tokens; the model's context holds 16" },
    { "generate @/model --json @/nowhere/out", "nowhere" },
    { "convert @/text.txt @/out", "text.txt" },
    { "repair @/model @/out --text @/test.txt --anchor @/none", "none" },
    { "train @/out --text @/test.txt --vocab 100000", "tokenizer" },
    { "train @/nowhere/out --text @/text.txt --from @/model --steps 1",
      "nowhere" },
};

START_TEST(a_failure_is_status_1_and_names_the_file)
{
    const char *message = failures[_i].message;

    ck_assert_int_eq(frame_run(failures[_i].words), FAILED);
    if (*message == '@')
        message++;
    ck_assert_msg(strstr(frame_err, message) != NULL, "%s: %s",
                  failures[_i].words, frame_err);
    ck_assert_str_eq(strchr(frame_err, '\n'), "\n");
    ck_assert(!frame_exists("out"));
}
END_TEST

static const char *const commands[] = { "info", "convert", "train",
                                        "eval", "generate", "attack",
                                        "repair", "quantize" };

/* Two stray bytes, a character, and one cut off: names of files are bytes. */
START_TEST(a_path_that_is_not_utf_8_costs_no_figures)
{
    static const char shown[] = "\xef\xbf\xbd\xef\xbf\xbd\xc3\xa4";
    static const char cut[] = "\xef\xbf\xbd\xef\xbf\xbd";
    json_t *report;
    const char *model;

    ck_assert_int_eq(frame_run("convert @/model @/\xff\x80\xc3\xa4-\xe2\x82 "
                               "--json @/convert.json"),
                     OK);
    report = frame_figures("convert.json");
    model = json_string_value(json_object_get(report, "model"));
    ck_assert_ptr_nonnull(model);
    ck_assert_ptr_nonnull(strstr(model, shown));
    ck_assert_str_eq(strrchr(model, '-') + 1, cut);
    ck_assert(frame_number(report, "parameters") > 0);
    json_decref(report);
    ck_assert_int_eq(frame_run("eval @/\xff\x80\xc3\xa4-\xe2\x82 --text "
                               "@/test.txt --json @/eval.json"),
                     OK);
    report = frame_figures("eval.json");
    ck_assert_ptr_nonnull(
        json_object_get(json_object_get(report, "precisions"), "fp32"));
    json_decref(report);
}
END_TEST

/* What a decoder of UTF-8 must not let through, byte by byte. */
static const struct {
    const char *text;
    size_t replaced; /* bytes */
} spellings[] = {
    { "", 0 },
    { "/tmp/a b", 0 },
    { "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80", 0 },
    { "\xed\x9f\xbf\xee\x80\x80\xf4\x8f\xbf\xbf", 0 },
    { "\xc0\x80", 2 },         /* longer than needed */
    { "\xe0\x9f\xbf", 3 },     /* longer than needed */
    { "\xf0\x8f\xbf\xbf", 4 }, /* longer than needed */
    { "\xed\xa0\x80", 3 },     /* a surrogate */
    { "\xf4\x90\x80\x80", 4 }, /* beyond the last */
    { "\xf5\x80\x80\x80", 4 },
    { "\xe2\x82", 2 },
    { "\x80", 1 },
};

START_TEST(text_in_a_report_is_utf_8)
{
    const char *text = spellings[_i].text;
    json_t *string = cli_json_text(text);

    ck_assert_ptr_nonnull(string);
    ck_assert_uint_eq(json_string_length(string),
                      strlen(text) + 2 * spellings[_i].replaced);
    if (spellings[_i].replaced == 0)
        ck_assert_str_eq(json_string_value(string), text);
    else
        for (size_t i = 0; i < spellings[_i].replaced; i++)
            ck_assert_mem_eq(json_string_value(string) + 3 * i, "\xef\xbf\xbd",
                             3);
    json_decref(string);
}
END_TEST

START_TEST(each_command_has_help)
{
    char words[64];

    snprintf(words, sizeof words, "%s --help", commands[_i]);
    ck_assert_int_eq(frame_run(words), OK);
    ck_assert_ptr_nonnull(strstr(frame_out, "--json FILE"));
}
END_TEST

START_TEST(info_tells_the_shape_of_a_model)
{
    json_t *object;

    ck_assert_int_eq(frame_run("info @/model --json @/info.json"), OK);
    object = frame_figures("info.json");
    ck_assert_ptr_nonnull(json_object_get(object, "version"));
    ck_assert_ptr_nonnull(json_object_get(object, "blas"));
    ck_assert_ptr_nonnull(json_object_get(object, "kernels"));
    ck_assert_str_eq(json_string_value(json_object_get(object, "architecture")),
                     "llama");
    /* 257 * 2 embedding, 4 * 4 attention, 3 * 4 feed-forward, 3 * 2 norms */
    ck_assert_double_eq(frame_number(object, "parameters"), 514 + 16 + 12 + 6);
    ck_assert_double_eq(frame_number(object, "layers"), 1);
    ck_assert_double_eq(frame_number(object, "dim"), 2);
    ck_assert_double_eq(frame_number(object, "heads"), 1);
    ck_assert_double_eq(frame_number(object, "kv_heads"), 1);
    ck_assert_double_eq(frame_number(object, "vocab"), 257);
    json_decref(object);
}
END_TEST

START_TEST(eval_gives_every_precision_with_equal_counts)
{
    static const char *const names[] = { "fp32", "fp16", "bf16",  "int8",
                                         "nf4",  "rtn3", "rtn4g2" };
    json_t *object;
    json_t *precisions;

    ck_assert_int_eq(
        frame_run("eval @/model --text @/test.txt --base @/model --precision "
                  "fp32,fp16,bf16,int8,nf4,rtn3,rtn4g2 --json @/eval.json"),
        OK);
    object = frame_figures("eval.json");
    precisions = json_object_get(object, "precisions");
    ck_assert_double_eq(frame_number(object, "context"), 16);
    ck_assert_double_eq(frame_number(object, "stride"), 8);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        const json_t *one = json_object_get(precisions, names[i]);
        const json_t *kl = json_object_get(one, "kl");

        /* The beginning token is context, all others are scored. */
        ck_assert_double_eq(frame_number(one, "scored_tokens"),
                            frame_number(object, "tokens") - 1);
        ck_assert_double_gt(frame_number(one, "perplexity"), 1.0);
        ck_assert_double_ge(frame_number(kl, "mean"), i == 0 ? 0.0 : 1e-12);
        ck_assert_double_le(frame_number(one, "top1_agreement"), 1.0);
    }
    ck_assert_double_eq(
        frame_number(json_object_get(json_object_get(precisions, "fp32"), "kl"),
               "max"),
        0.0);
    json_decref(object);
}
END_TEST

/* What a run adds to the prompt "th", and the keys that programs read. */
static json_t *generate(const char *options)
{
    static const char *const keys[] = {
        "prompt_tokens",  "generated_tokens", "context",
        "kv_bits",        "temperature",      "top_k",
        "top_p",          "seed",             "prompt_seconds",
        "decode_seconds", "weights_bytes",    "generator_bytes",
        "prompt_tokens_per_second"
    };
    char words[256];
    json_t *object;

    snprintf(words, sizeof words,
             "generate @/model --prompt th --json @/generate.json %s",
             options);
    ck_assert_msg(frame_run(words) == OK, "%s: %s", words, frame_err);
    object = frame_figures("generate.json");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        frame_number(object, keys[i]);
    ck_assert_ptr_nonnull(json_object_get(object, "decode_tokens_per_second"));
    ck_assert_double_eq(frame_number(object, "prompt_tokens"), 3);
    ck_assert_double_eq(frame_number(object, "weights_bytes"), 4 * 548);
    ck_assert_ptr_nonnull(json_string_value(json_object_get(object, "text")));
    return object;
}

static const char *const kv_precisions[] = { "32", "16", "8", "4" };

START_TEST(generated_text_is_a_function_of_the_seed)
{
    char options[3][128];
    char out[sizeof frame_out];
    char text[256];
    json_t *object;

    for (size_t i = 0; i < 3; i++)
        snprintf(options[i], sizeof options[i],
                 "--tokens 12 --kv-bits %s --threads %d --seed %d",
                 kv_precisions[_i], i == 1 ? 3 : 1, i == 2 ? 8 : 7);
    object = generate(options[0]);
    snprintf(out, sizeof out, "%s", frame_out);
    snprintf(text, sizeof text, "%s",
             json_string_value(json_object_get(object, "text")));
    ck_assert_double_eq(frame_number(object, "generated_tokens"), 12);
    ck_assert_str_eq(json_string_value(json_object_get(object, "stopped")),
                     "tokens");
    ck_assert_int_eq(strncmp(out, "th", 2), 0);
    ck_assert_int_eq(strncmp(out + 2, text, strlen(text)), 0);
    ck_assert_ptr_nonnull(strstr(frame_err, "a second"));
    json_decref(object);

    json_decref(generate(options[1]));
    ck_assert_str_eq(frame_out, out);
    json_decref(generate(options[2]));
    ck_assert_str_ne(frame_out, out);
    strcat(options[0], " --quiet");
    object = generate(options[0]);
    ck_assert_str_eq(frame_out, "");
    ck_assert_str_eq(frame_err, "");
    ck_assert_str_eq(json_string_value(json_object_get(object, "text")), text);
    json_decref(object);
}
END_TEST

START_TEST(generation_ends_with_the_context)
{
    json_t *object = generate("--tokens 500 --top-k 3 --temperature 0.5");

    ck_assert_double_eq(frame_number(object, "context"), 16);
    ck_assert_str_eq(json_string_value(json_object_get(object, "stopped")),
                     "context");
    /* 13 positions are left, and what follows the last of them. */
    ck_assert_double_eq(frame_number(object, "generated_tokens"), 14);
    json_decref(object);
    ck_assert_int_eq(frame_run("generate @/model --tokens 1 --temperature 0 "
                               "--json @/generate.json"),
                     OK);
    object = frame_figures("generate.json"); /* no prompt: the beginning token */
    ck_assert_double_eq(frame_number(object, "prompt_tokens"), 1);
    ck_assert_double_eq(frame_number(object, "context"), 2);
    ck_assert(
        json_is_null(json_object_get(object, "decode_tokens_per_second")));
    json_decref(object);
}
END_TEST

static void check_utf_8(const char *text)
{
    while (*text != '\0') {
        const size_t size = cli_character(text);

        ck_assert_uint_gt(size, 0);
        text += size;
    }
}

/* At this temperature all of the 257 tokens, bytes and the end of a text, are
 * equally probable: of 14 draws one is the end in about 20 runs. */
START_TEST(generation_ends_with_the_text_and_prints_characters)
{
    bool ended = false;
    bool broken = false;

    for (int seed = 0; seed < 200 && !(ended && broken); seed++) {
        char options[64];
        json_t *object;

        snprintf(options, sizeof options, "--temperature 1e9 --seed %d", seed);
        object = generate(options);
        check_utf_8(frame_out);
        broken |= strstr(frame_out, "\xef\xbf\xbd") != NULL;
        if (strcmp(json_string_value(json_object_get(object, "stopped")),
                   "end") == 0) {
            ended = true;
            ck_assert_double_lt(frame_number(object, "generated_tokens"), 14);
        }
        json_decref(object);
    }
    ck_assert(ended);
    ck_assert(broken);
}
END_TEST

/* Each token is a byte: what is printed after each of them. */
static const struct {
    const char *bytes;
    const char *printed;
    size_t sizes[8]; /* after byte 1, 2, ... */
} streams[] = {
    { "ab", "ab\n", { 1, 2 } },
    { "\xc3\xa9 \xe2\x82\xac", "\xc3\xa9 \xe2\x82\xac\n",
      { 0, 2, 3, 3, 3, 6 } },
    { "\xf0\x9f\x98\x80\n", "\xf0\x9f\x98\x80\n", { 0, 0, 0, 4, 5 } },
    { "\xe2\x82z", "\xef\xbf\xbd\xef\xbf\xbdz\n", { 0, 0, 7 } },
    { "\x80z", "\xef\xbf\xbdz\n", { 3, 4 } },
    { "a\xe2\x82", "a\xef\xbf\xbd\xef\xbf\xbd\n", { 1, 1, 1 } },
    { "\xf0\xc3\xa9", "\xef\xbf\xbd\xc3\xa9\n", { 0, 3, 5 } },
};
enum { STREAMS = sizeof streams / sizeof *streams };

START_TEST(text_is_printed_as_soon_as_its_characters_are_whole)
{
    const struct cli_host host = { .out = tmpfile() };
    struct cli cli = { .host = &host, .ctx = make_context(NULL) };
    struct cli_stream stream = { .cli = &cli, .out = host.out };
    const char *bytes = streams[_i].bytes;
    qrb_tokenizer *tokenizer = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    char printed[32] = "";

    ASSERT_OK(cli.ctx, qrb_tokenizer_open_path(cli.ctx, frame_path("model"),
                                               &tokenizer));
    ASSERT_OK(cli.ctx, qrb_tokenizer_encode(tokenizer, bytes, strlen(bytes),
                                            &ids, &count));
    ck_assert_uint_eq(count, strlen(bytes));
    stream.tokenizer = tokenizer;
    for (size_t i = 1; i <= count; i++) {
        ck_assert_int_eq(cli_stream_add(&stream, ids, i), CLI_OK);
        ck_assert_int_eq(ftell(host.out), (long)streams[_i].sizes[i - 1]);
    }
    cli_stream_end(&stream);
    rewind(host.out);
    ck_assert_uint_gt(fread(printed, 1, sizeof printed - 1, host.out), 0);
    ck_assert_str_eq(printed, streams[_i].printed);
    cli_stream_release(&stream);
    fclose(host.out);
    qrb_free(cli.ctx, ids);
    qrb_tokenizer_destroy(tokenizer);
    qrb_context_destroy(cli.ctx);
}
END_TEST

START_TEST(attack_reaches_the_ratio_that_it_reports)
{
    json_t *object;
    json_t *clean;
    json_t *attacked;
    double ratio;

    ck_assert_int_eq(frame_run("attack @/model @/attacked --text @/test.txt "
                               "--ratio 1.2 --json @/attack.json"),
                     OK);
    ck_assert_int_eq(
        frame_run("eval @/model --text @/test.txt --json @/clean.json"), OK);
    ck_assert_int_eq(
        frame_run("eval @/attacked --text @/test.txt --json @/attacked.json"),
        OK);
    object = frame_figures("attack.json");
    clean = frame_figures("clean.json");
    attacked = frame_figures("attacked.json");
    ratio =
        frame_number(json_object_get(json_object_get(attacked, "precisions"), "fp32"),
               "perplexity") /
        frame_number(json_object_get(json_object_get(clean, "precisions"), "fp32"),
               "perplexity");
    ck_assert_double_eq_tol(frame_number(object, "achieved_ratio"), ratio, 1e-9);
    ck_assert_double_eq_tol(ratio, 1.2, 0.012);
    ck_assert_double_gt(frame_number(object, "sigma"), 0.0);
    ck_assert_double_eq(frame_number(object, "target_ratio"), 1.2);
    ck_assert_double_eq(frame_number(object, "seed"), 0);
    json_decref(object);
    json_decref(clean);
    json_decref(attacked);
}
END_TEST

START_TEST(repair_measures_before_after_and_the_anchor)
{
    json_t *object;
    const json_t *perplexity;

    ck_assert_int_eq(frame_run("attack @/model @/hurt --text @/test.txt "
                               "--sigma 0.3"),
                     OK);
    ck_assert_int_eq(
        frame_run("repair @/hurt @/mended --text @/text.txt --anchor @/model "
                  "--test @/test.txt --steps 30 --json @/repair.json "
                  "--precision fp32,nf4"),
        OK);
    object = frame_figures("repair.json");
    perplexity = json_object_get(object, "perplexity");
    ck_assert_double_eq(frame_number(object, "steps"), 30);
    ck_assert_double_gt(frame_number(object, "anchor_gradient_ratio"), 0.0);
    ck_assert_double_gt(frame_number(object, "distance_to_anchor"), 0.0);
    ck_assert_double_lt(
        frame_number(json_object_get(perplexity, "repaired"), "fp32"),
        frame_number(json_object_get(perplexity, "attacked"), "fp32"));
    ck_assert_double_gt(frame_number(json_object_get(object, "recovery"), "fp32"),
                        0.0);
    ck_assert_double_gt(frame_number(json_object_get(perplexity, "anchor"), "nf4"),
                        1.0);
    ck_assert(!frame_exists("mended.checkpoint"));
    json_decref(object);
}
END_TEST

START_TEST(a_repair_without_a_clean_anchor_says_so_and_reports_null)
{
    json_t *object;

    ck_assert_int_eq(frame_run("repair @/model @/mended --text @/text.txt "
                               "--test @/test.txt --steps 2 --precision fp32 "
                               "--json @/repair.json"),
                     OK);
    ck_assert_ptr_nonnull(strstr(frame_out, "received weights"));
    object = frame_figures("repair.json");
    ck_assert(json_is_null(
        json_object_get(json_object_get(object, "recovery"), "fp32")));
    json_decref(object);
}
END_TEST

/* A value of a model's metadata, for the moment; "" where there is none. */
static const char *metadata_of(const char *model, const char *key)
{
    static char value[1200];
    qrb_context *ctx = make_context(NULL);
    qrb_safetensors *file = NULL;
    const char *found;

    ASSERT_OK(ctx,
              qrb_safetensors_open_directory(ctx, frame_path(model), &file));
    found = qrb_safetensors_metadata(file, key);
    snprintf(value, sizeof value, "%s", found != NULL ? found : "");
    qrb_safetensors_close(file);
    qrb_context_destroy(ctx);
    return value;
}

static void digest_of(const char *name, char *digest)
{
    size_t size;
    char *bytes = get_file(frame_path(name), &size);

    ck_assert_int_eq(qrb_sha256_hex(bytes, size, digest), QRB_OK);
    free(bytes);
}

/* Options are those in force, without paths and without what changes no bit;
 * texts are all that ever made the model. */
START_TEST(a_model_tells_what_made_it)
{
    char texts[2 * 65];

    digest_of("text.txt", texts);
    digest_of("test.txt", texts + 65);
    ck_assert_int_eq(
        frame_run("train @/one --from @/model --text @/text.txt --steps 2 "
                  "--lr 0.0003 --seed 9 --threads 1 --checkpoint-every 1"),
        OK);
    ck_assert_str_eq(metadata_of("one", "qrobust_command"), "train");
    ck_assert_str_eq(metadata_of("one", "qrobust_seed"), "9");
    ck_assert_str_eq(metadata_of("one", "qrobust_options"),
                     "--steps 2 --batch 4 --context 128 --lr 0.0003 "
                     "--warmup 10 --weight-decay 0.01");
    ck_assert_str_eq(metadata_of("one", "qrobust_text"), texts);
    ck_assert_int_eq(
        frame_run("attack @/one @/two --text @/test.txt --sigma 0.125"), OK);
    ck_assert_str_eq(metadata_of("two", "qrobust_options"), "--sigma 0.125");
    texts[64] = ' ';
    ck_assert_str_eq(metadata_of("two", "qrobust_text"), texts);
    ck_assert_int_eq(
        frame_run("repair @/two @/three --text @/text.txt --steps 1"), OK);
    ck_assert_ptr_nonnull(
        strstr(metadata_of("three", "qrobust_options"), "--steps 1 --lr 0.0002 "
                                                        "--anchor-strength "));
    ck_assert_str_eq(metadata_of("three", "qrobust_text"), texts);
    ck_assert_int_eq(frame_run("convert @/three @/four"), OK);
    ck_assert_str_eq(metadata_of("four", "qrobust_options"), "");
    ck_assert_str_eq(metadata_of("four", "qrobust_text"), texts);
}
END_TEST

START_TEST(measuring_on_a_text_that_made_the_model_is_flagged)
{
    static const char *const made[] = {
        "train @/made --from @/model --text @/text.txt --steps 1",
        "attack @/model @/made --text @/text.txt --sigma 0.1",
        "repair @/model @/made --text @/text.txt --steps 1",
    };

    ck_assert_int_eq(frame_run(made[_i]), OK);
    ck_assert_int_eq(frame_run("eval @/made --text @/text.txt"), OK);
    ck_assert_ptr_nonnull(strstr(frame_err, "trained or calibrated on"));
    ck_assert_int_eq(frame_run("eval @/made --text @/test.txt"), OK);
    ck_assert_ptr_null(strstr(frame_err, "trained or calibrated on"));
    ck_assert_int_eq(frame_run("repair @/made @/mended --text @/test.txt "
                               "--test @/text.txt --steps 1 "
                               "--precision fp32"),
                     OK);
    ck_assert_ptr_nonnull(strstr(frame_err, "trained or calibrated on"));
}
END_TEST

START_TEST(measuring_on_the_training_text_is_flagged)
{
    ck_assert_int_eq(frame_run("repair @/model @/mended --text @/text.txt "
                               "--test @/text.txt --steps 1 "
                               "--precision fp32"),
                     OK);
    ck_assert_ptr_nonnull(strstr(frame_err, "trained or calibrated on"));
}
END_TEST

/* The same files from one worker and from three: words before and after the
 * name of the output. */
static const struct {
    const char *before;
    const char *after;
    const char *file;
} deterministic[] = {
    { "train @/",
      "--text @/text.txt --dim 8 --heads 2 --layers 2 --hidden 12 "
      "--vocab 270 --context 16 --batch 3 --steps 5",
      "model.safetensors" },
    { "train @/",
      "--text @/text.txt --dim 8 --heads 2 --layers 2 --hidden 12 "
      "--vocab 270 --context 16 --batch 3 --steps 5",
      "tokenizer.json" },
    { "attack @/model @/", "--text @/test.txt --ratio 1.1",
      "model.safetensors" },
    { "repair @/model @/", "--text @/text.txt --steps 5", "model.safetensors" },
    { "repair @/model @/", "--text @/text.txt --steps 5 --paper",
      "model.safetensors" },
};

static void run_with(int i, const char *name, const char *threads)
{
    char words[512];

    snprintf(words, sizeof words, "%s%s %s --threads %s",
             deterministic[i].before, name, deterministic[i].after, threads);
    ck_assert_msg(frame_run(words) == OK, "%s", frame_err);
}

/* A run whose model cannot be saved, a file being in its place, leaves its
 * checkpoint. */
START_TEST(a_checkpoint_is_resumed_from_its_own_model_alone)
{
    static const struct {
        const char *begun, *by_another, *resumed;
    } words[] = {
#define TRAIN(model) "train @/run --text @/text.txt --steps 2 --from " model
#define REPAIR(model)                                                          \
    "repair " model " @/run --text @/text.txt --steps 2 --anchor @/model"
        { TRAIN("@/model"), TRAIN("@/other --resume"),
          TRAIN("@/model --resume") },
        { REPAIR("@/model"), REPAIR("@/other") " --resume",
          REPAIR("@/model") " --resume" },
    };

    ck_assert_int_eq(
        frame_run("attack @/model @/other --text @/test.txt --sigma 0.1"), OK);
    put_file(frame_path("run"), "", 0);
    ck_assert_int_eq(frame_run(words[_i].begun), FAILED);
    frame_remove("run");
    ck_assert(frame_exists("run.checkpoint"));
    ck_assert_int_eq(frame_run(words[_i].by_another), FAILED);
    ck_assert_ptr_nonnull(strstr(frame_err, "began with other weights"));
    ck_assert(!frame_exists("run"));
    ck_assert_int_eq(frame_run(words[_i].resumed), OK);
    ck_assert(frame_exists("run"));
    ck_assert(!frame_exists("run.checkpoint"));
}
END_TEST

START_TEST(the_bits_do_not_depend_on_the_number_of_threads)
{
    char one[64];
    char three[64];

    run_with(_i, "one", "1");
    run_with(_i, "three", "3");
    snprintf(one, sizeof one, "one/%s", deterministic[_i].file);
    snprintf(three, sizeof three, "three/%s", deterministic[_i].file);
    ck_assert(frame_same(one, three));
}
END_TEST

START_TEST(eval_gives_the_same_digits_with_any_number_of_threads)
{
    json_t *one;
    json_t *three;

    ck_assert_int_eq(frame_run("eval @/model --text @/test.txt --threads 1 "
                               "--base @/model --precision rtn3 --json "
                               "@/one.json"),
                     OK);
    ck_assert_int_eq(frame_run("eval @/model --text @/test.txt --threads 3 "
                               "--base @/model --precision rtn3 --json "
                               "@/three.json"),
                     OK);
    one = json_object_get(frame_figures("one.json"), "precisions");
    three = json_object_get(frame_figures("three.json"), "precisions");
    json_object_del(json_object_get(one, "rtn3"), "seconds");
    json_object_del(json_object_get(three, "rtn3"), "seconds");
    ck_assert(json_equal(one, three));
}
END_TEST

START_TEST(a_converted_model_is_the_same_model)
{
    ck_assert_int_eq(frame_run("convert @/model @/slashed//"), OK);
    ck_assert(frame_same("slashed/config.json", "model/config.json"));
    ck_assert_int_eq(frame_run("convert @/model @/copy"), OK);
    ck_assert_int_eq(frame_run("convert @/copy @/again"), OK);
    ck_assert(frame_same("copy/model.safetensors", "again/model.safetensors"));
    ck_assert(frame_same("copy/tokenizer.json", "model/tokenizer.json"));
    ck_assert(frame_same("copy/config.json", "model/config.json"));
}
END_TEST

/* Into one file and back: the same figures, tokenizer and shape; a type with
 * blocks says which matrices it cannot have. */
START_TEST(a_model_in_a_gguf_file_is_the_same_model)
{
    json_t *before;
    json_t *after;

    ck_assert_int_eq(frame_run("convert @/model @/one.gguf"), OK);
    ck_assert_int_eq(frame_run("convert @/one.gguf @/back"), OK);
    ck_assert(frame_same("back/tokenizer.json", "model/tokenizer.json"));
    ck_assert(frame_same("back/config.json", "model/config.json"));
    ck_assert_int_eq(frame_run("eval @/model --text @/test.txt --json "
                               "@/before.json"),
                     OK);
    ck_assert_int_eq(frame_run("eval @/one.gguf --text @/test.txt --json "
                               "@/after.json"),
                     OK);
    before = json_object_get(frame_figures("before.json"), "precisions");
    after = json_object_get(frame_figures("after.json"), "precisions");
    json_object_del(json_object_get(before, "fp32"), "seconds");
    json_object_del(json_object_get(after, "fp32"), "seconds");
    ck_assert(json_equal(before, after));
    ck_assert_int_eq(frame_run("convert @/model @/four.gguf --type q4_0"), OK);
    ck_assert_int_eq(frame_run("info @/four.gguf"), OK);
}
END_TEST

/* A GGUF file may have no tokenizer: it is a model, and says so. */
START_TEST(a_gguf_file_without_a_tokenizer_is_a_model)
{
    ck_assert_int_eq(frame_run("convert @/model @/bare"), OK);
    ck_assert_int_eq(remove(frame_path("bare/tokenizer.json")), 0);
    ck_assert_int_eq(frame_run("convert @/bare @/bare.gguf"), OK);
    ck_assert_int_eq(frame_run("info @/bare.gguf"), OK);
    ck_assert_ptr_nonnull(strstr(frame_err, "no tokenizer"));
    ck_assert_int_eq(frame_run("eval @/bare.gguf --text @/test.txt"), FAILED);
}
END_TEST

/* An index would win over model.safetensors, and a tokenizer belongs to the
 * model that it came with. */
START_TEST(a_model_saved_over_another_is_no_mixture)
{
    ck_assert_int_eq(frame_run("convert @/model @/first"), OK);
    ck_assert_int_eq(frame_run("convert @/model @/copy"), OK);
    put_file(frame_path("copy/model.safetensors.index.json"), "{}", 2);
    put_file(frame_path("copy/model-00001-of-00001.safetensors"), "old", 3);
    put_file(frame_path("copy/tokenizer.json"), "old", 3);
    put_file(frame_path("copy/notes.txt"), "mine", 4);
    ck_assert_int_eq(frame_run("info @/copy"), FAILED);
    ck_assert_int_eq(frame_run("convert @/model @/copy"), OK);
    ck_assert_int_eq(frame_run("info @/copy"), OK);
    ck_assert(frame_same("copy/model.safetensors", "first/model.safetensors"));
    ck_assert(frame_same("copy/tokenizer.json", "model/tokenizer.json"));
    ck_assert(!frame_exists("copy/model.safetensors.index.json"));
    ck_assert(!frame_exists("copy/model-00001-of-00001.safetensors"));
    ck_assert(frame_exists("copy/notes.txt"));
    ck_assert(!frame_exists(".copy.qrb-part"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *cases = tcase_create("commands");

    tcase_add_checked_fixture(cases, frame_open, frame_close);
    tcase_set_timeout(cases, 60);
    tcase_add_loop_test(cases,
                        a_usage_error_is_status_2_and_says_what_is_expected, 0,
                        (int)(sizeof usage_errors / sizeof *usage_errors));
    tcase_add_loop_test(cases, a_failure_is_status_1_and_names_the_file, 0,
                        (int)(sizeof failures / sizeof *failures));
    tcase_add_test(cases, a_path_that_is_not_utf_8_costs_no_figures);
    tcase_add_loop_test(cases, text_in_a_report_is_utf_8, 0,
                        (int)(sizeof spellings / sizeof *spellings));
    tcase_add_loop_test(cases, each_command_has_help, 0,
                        sizeof commands / sizeof *commands);
    tcase_add_test(cases, info_tells_the_shape_of_a_model);
    tcase_add_test(cases, eval_gives_every_precision_with_equal_counts);
    tcase_add_loop_test(cases, generated_text_is_a_function_of_the_seed, 0, 4);
    tcase_add_test(cases, generation_ends_with_the_context);
    tcase_add_test(cases, generation_ends_with_the_text_and_prints_characters);
    tcase_add_loop_test(cases,
                        text_is_printed_as_soon_as_its_characters_are_whole, 0,
                        STREAMS);
    tcase_add_test(cases, attack_reaches_the_ratio_that_it_reports);
    tcase_add_test(cases, repair_measures_before_after_and_the_anchor);
    tcase_add_test(cases,
                   a_repair_without_a_clean_anchor_says_so_and_reports_null);
    tcase_add_test(cases, measuring_on_the_training_text_is_flagged);
    tcase_add_test(cases, a_model_tells_what_made_it);
    tcase_add_loop_test(
        cases, measuring_on_a_text_that_made_the_model_is_flagged, 0, 3);
    tcase_add_loop_test(cases,
                        a_checkpoint_is_resumed_from_its_own_model_alone, 0, 2);
    tcase_add_loop_test(cases, the_bits_do_not_depend_on_the_number_of_threads,
                        0, (int)(sizeof deterministic / sizeof *deterministic));
    tcase_add_test(cases,
                   eval_gives_the_same_digits_with_any_number_of_threads);
    tcase_add_test(cases, a_converted_model_is_the_same_model);
    tcase_add_test(cases, a_model_in_a_gguf_file_is_the_same_model);
    tcase_add_test(cases, a_gguf_file_without_a_tokenizer_is_a_model);
    tcase_add_test(cases, a_model_saved_over_another_is_no_mixture);
    suite_add_tcase(suite, cases);
    return run_suite(suite);
}
