/* qrobust generate: text from a model, with the speed that it came at. */
#include <string.h>

#include "cli.h"

struct generate_arguments {
    const char *prompt;
    const char *prompt_file;
    const char *tokenizer;
    uint64_t tokens;
    uint64_t top_k;
    uint64_t kv_bits;
    double temperature;
    double top_p;
};

/* A sequence and what it cost. */
struct run {
    struct cli_model model;
    qrb_generator *generator;
    int32_t *ids; /* [prompt + generated], room for all that may come */
    size_t prompt;
    size_t generated;
    size_t decoded; /* of those, fed again */
    size_t context;
    size_t text_from; /* where the prompt's text ends */
    uint64_t generator_bytes;
    double prompt_seconds;
    double decode_seconds;
    const char *stopped;
};

static int check_arguments(struct cli *cli, const struct generate_arguments *a)
{
    if (a->prompt != NULL && a->prompt_file != NULL)
        return cli_usage_error(cli, "--prompt and --prompt-file exclude each "
                                    "other");
    if (a->tokens < 1)
        return cli_usage_error(cli, "--tokens is at least 1");
    if (a->temperature < 0)
        return cli_usage_error(cli, "--temperature is 0 or more");
    if (!(a->top_p > 0 && a->top_p <= 1))
        return cli_usage_error(cli, "--top-p is above 0 and at most 1");
    if (a->kv_bits != 32 && a->kv_bits != 16 && a->kv_bits != 8 &&
        a->kv_bits != 4)
        return cli_usage_error(cli, "--kv-bits: found %llu, expected 32, 16, "
                                    "8 or 4",
                               (unsigned long long)a->kv_bits);
    return CLI_OK;
}

/* The prompt's tokens, or the one that begins a text; release *ids with
 * qrb_free(). */
static int tokenize_prompt(struct cli *cli, const struct generate_arguments *a,
                           const qrb_tokenizer *tokenizer, int32_t **ids,
                           size_t *count)
{
    const char *what = a->prompt_file != NULL ? a->prompt_file : "--prompt";
    const char *text = a->prompt != NULL ? a->prompt : "";
    size_t size = strlen(text);
    char *file = NULL;
    qrb_status status;

    if (a->prompt_file != NULL) {
        file = cli_read_text(cli, a->prompt_file, &size);
        if (file == NULL)
            return CLI_FAILED;
        text = file;
    }
    status = qrb_tokenizer_encode_document(tokenizer, text, size, ids, count);
    cli_free(cli, file);
    if (status != QRB_OK)
        return cli_library_error(cli, what);
    if (*count == 0)
        return cli_error(cli, "%s: the tokenizer has no token that begins a "
                              "text; give a --prompt",
                         what);
    return CLI_OK;
}

/* A sequence that begins with the prompt, and a generator that has room for
 * what is asked for. */
static int prepare(struct cli *cli, const struct generate_arguments *a,
                   struct run *run)
{
    qrb_generator_options options = QRB_GENERATOR_OPTIONS_INIT;
    const size_t most = run->model.config.context;
    int32_t *prompt = NULL;
    int status = tokenize_prompt(cli, a, run->model.tokenizer, &prompt,
                                 &run->prompt);

    if (status != CLI_OK)
        goto out;
    if (run->prompt > most) {
        status = cli_error(cli,
                           "the prompt has %zu tokens; the model's context "
                           "holds %zu",
                           run->prompt, most);
        goto out;
    }
    run->context = a->tokens < most - run->prompt
                       ? run->prompt + (size_t)a->tokens
                       : most;
    options.context = run->context;
    options.kv_bits = a->kv_bits == 32 ? 0 : (uint32_t)a->kv_bits;
    run->ids = cli_alloc(cli, run->context + 1, sizeof *run->ids);
    if (run->ids == NULL)
        status = cli_error(cli, "no memory for %zu tokens", run->context);
    else if (qrb_generator_memory(run->model.model, &options,
                                  &run->generator_bytes) != QRB_OK ||
             qrb_generator_create(run->model.model, &options,
                                  &run->generator) != QRB_OK)
        status = cli_library_error(cli, "generator");
    else
        memcpy(run->ids, prompt, run->prompt * sizeof *prompt);
out:
    qrb_free(cli->ctx, prompt);
    return status;
}

/* One token after the other until there are enough, the text ends, or the
 * context is full. */
static int continue_text(struct cli *cli, const qrb_sampling_options *sampling,
                         uint64_t tokens, struct run *run,
                         struct cli_stream *stream)
{
    const int32_t end = qrb_tokenizer_eos(run->model.tokenizer);
    const double start = cli_seconds();
    int status = CLI_OK;

    for (;;) {
        int32_t *next = &run->ids[run->prompt + run->generated];

        if (qrb_generator_sample(run->generator, sampling, next) != QRB_OK)
            return cli_library_error(cli, "next token");
        if (*next == end) {
            run->stopped = "end";
            break;
        }
        run->generated++;
        status = cli_stream_add(stream, run->ids,
                                run->prompt + run->generated);
        if (status != CLI_OK)
            return status;
        run->stopped = run->generated == tokens ? "tokens" : "context";
        if (run->generated == tokens ||
            qrb_generator_length(run->generator) == run->context)
            break;
        if (qrb_generator_feed(run->generator, next, 1) != QRB_OK)
            return cli_library_error(cli, "next token");
        run->decoded++;
    }
    run->decode_seconds = cli_seconds() - start;
    return CLI_OK;
}

static json_t *rate(size_t tokens, double seconds)
{
    return tokens > 0 && seconds > 0
               ? cli_json_number((double)tokens / seconds)
               : json_null();
}

static json_t *figures_of(const char *path, const struct run *run,
                          const struct generate_arguments *a, uint64_t seed,
                          const struct cli_stream *stream)
{
    return json_pack(
        "{s:o, s:I, s:I, s:s, s:I, s:I, s:f, s:I, s:f, s:I, s:f, s:o, s:f, "
        "s:o, s:I, s:I, s:o}",
        "model", cli_json_text(path), "prompt_tokens", (json_int_t)run->prompt,
        "generated_tokens", (json_int_t)run->generated, "stopped",
        run->stopped, "context", (json_int_t)run->context, "kv_bits",
        (json_int_t)a->kv_bits, "temperature", a->temperature, "top_k",
        (json_int_t)a->top_k, "top_p", a->top_p, "seed", (json_int_t)seed,
        "prompt_seconds", run->prompt_seconds, "prompt_tokens_per_second",
        rate(run->prompt, run->prompt_seconds), "decode_seconds",
        run->decode_seconds, "decode_tokens_per_second",
        rate(run->decoded, run->decode_seconds), "weights_bytes",
        (json_int_t)(cli_model_parameters(run->model.model) * sizeof(float)),
        "generator_bytes", (json_int_t)run->generator_bytes, "text",
        cli_json_bytes(stream->size > 0 ? stream->text + run->text_from : "",
                       stream->size - run->text_from));
}

/* On standard error, which leaves the text alone on standard output. */
static void say_figures(struct cli *cli, const struct run *run)
{
    if (cli->quiet)
        return;
    fprintf(cli->host->err, "prompt   %6zu tokens, %.1f a second\n",
            run->prompt, (double)run->prompt / run->prompt_seconds);
    if (run->decoded > 0)
        fprintf(cli->host->err, "decoded  %6zu tokens, %.1f a second\n",
                run->decoded, (double)run->decoded / run->decode_seconds);
    fprintf(cli->host->err, "memory   %.1f MiB of weights, %.1f MiB of cache "
                            "and activations\n",
            (double)cli_model_parameters(run->model.model) * sizeof(float) /
                1048576,
            (double)run->generator_bytes / 1048576);
}

static int generate(struct cli *cli, const char *path,
                    const struct generate_arguments *a)
{
    struct run run = { .generator = NULL };
    qrb_sampling_options sampling = QRB_SAMPLING_OPTIONS_INIT;
    struct cli_stream stream = { .cli = cli,
                                 .out = cli->quiet ? NULL : cli->host->out };
    int status = cli_model_open(cli, path, a->tokenizer, false, &run.model);
    double start;

    if (status == CLI_OK)
        status = cli_model_need_tokenizer(cli, &run.model, path);
    if (status == CLI_OK)
        status = prepare(cli, a, &run);
    if (status != CLI_OK)
        goto out;
    stream.tokenizer = run.model.tokenizer;
    sampling.vocab = qrb_tokenizer_vocab(run.model.tokenizer);
    sampling.top_k = (size_t)a->top_k;
    sampling.seed = cli->seed;
    sampling.temperature = a->temperature;
    sampling.top_p = a->top_p;
    status = cli_stream_add(&stream, run.ids, run.prompt);
    run.text_from = stream.size;
    if (status != CLI_OK)
        goto out;
    start = cli_seconds();
    if (qrb_generator_feed(run.generator, run.ids, run.prompt) != QRB_OK) {
        status = cli_library_error(cli, "prompt");
        goto out;
    }
    run.prompt_seconds = cli_seconds() - start;
    status = continue_text(cli, &sampling, a->tokens, &run, &stream);
    cli_stream_end(&stream);
    if (status == CLI_OK)
        status = cli_report(cli, figures_of(path, &run, a, cli->seed,
                                            &stream));
    if (status == CLI_OK)
        say_figures(cli, &run);
out:
    cli_stream_release(&stream);
    cli_free(cli, run.ids);
    qrb_generator_destroy(run.generator);
    cli_model_close(&run.model);
    return status;
}

int cli_generate(struct cli *cli, const struct cli_command *command, int argc,
                 char **argv)
{
    struct generate_arguments a = {
        .tokens = 256, .kv_bits = 32, .temperature = 1, .top_p = 1
    };
    const struct cli_option options[] = {
        { "prompt", "TEXT", "what the text begins with (default: nothing)",
          CLI_TEXT, &a.prompt, NULL },
        { "prompt-file", "FILE", "the same from a file", CLI_TEXT,
          &a.prompt_file, NULL },
        { "tokens", "N", "most tokens to add (default 256)", CLI_COUNT,
          &a.tokens, NULL },
        { "temperature", "X", "divides logits; 0: the most probable "
                              "(default 1)",
          CLI_REAL, &a.temperature, NULL },
        { "top-k", "N", "only the N most probable (default 0: all)", CLI_COUNT,
          &a.top_k, NULL },
        { "top-p", "X", "only the most probable that add up to X (default 1)",
          CLI_REAL, &a.top_p, NULL },
        { "kv-bits", "K", "of keys and values: 32 (default), 16, 8 or 4",
          CLI_COUNT, &a.kv_bits, NULL },
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &a.tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[1] = { NULL };
    int status = cli_parse(cli, command, options, argc, argv, path, 1, 1);

    if (status >= 0)
        return status;
    status = check_arguments(cli, &a);
    return status == CLI_OK ? generate(cli, path[0], &a) : status;
}
