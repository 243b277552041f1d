/* qrobust quantize: the matrices inside blocks become few bits, by what they
 * are fed with on a calibration text. */
#include <math.h>
#include <string.h>

#include "cli.h"

enum { BEYOND_USE = 10 }; /* times the float model's perplexity */

struct quantize_arguments {
    struct cli_method method;
    const char *calibration;
    const char *tokenizer;
    const char *format;
    uint64_t samples;
    uint64_t context;
    bool context_given;
    bool sequential;
};

struct quantize_job {
    struct cli *cli;
    struct cli_model model;
    struct cli_tokens text; /* count 0: none */
    qrb_quantizer *quantizer;
    json_t *layers; /* a row each */
    double start;
    double last;    /* when the row before was done */
    double bits;    /* of all matrices so far */
    double weights; /* likewise */
    size_t done;
    int32_t first_layer; /* of the first row */
    bool estimated;
};

static int check_format(struct cli *cli, const char *format)
{
    static const char *const later[] = { "packed", "gptq", "awq", "gguf" };

    if (strcmp(format, "float") == 0)
        return CLI_OK;
    for (size_t i = 0; i < sizeof later / sizeof *later; i++)
        if (strcmp(format, later[i]) == 0)
            return cli_usage_error(cli,
                                   "--format: %s is not written by this "
                                   "version; float is",
                                   format);
    return cli_usage_error(cli, "--format: found \"%s\", expected float",
                           format);
}

static double elements_of(const qrb_model *model, size_t index)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    double elements = 1;

    if (qrb_model_parameter(model, index, &parameter) != QRB_OK)
        return 0;
    for (uint32_t i = 0; i < qrb_tensor_rank(parameter.weight); i++)
        elements *= (double)qrb_tensor_extent(parameter.weight, i);
    return elements;
}

/* The first time that the next block begins: what the rest will take. */
static void estimate(struct quantize_job *job,
                     const qrb_quantized_matrix *matrix)
{
    const double left = (double)(matrix->total - job->done);

    if (job->done == 0)
        job->first_layer = matrix->layer;
    if (job->estimated || matrix->layer == job->first_layer || job->done == 0)
        return;
    job->estimated = true;
    cli_say(job->cli, "about %.0f s for the rest",
            left * (job->last - job->start) / (double)job->done);
}

static int add_row(struct quantize_job *job, const qrb_quantized_matrix *m,
                   double seconds)
{
    const qrb_quantize_report *r = &m->report;
    json_t *row = json_pack(
        "{s:o, s:I, s:s, s:I, s:s, s:o, s:o, s:o, s:o, s:o, s:f}", "name",
        cli_json_text(m->name), "layer", (json_int_t)m->layer, "method",
        m->method, "group_size", (json_int_t)m->group_size, "note", m->note,
        "relative_output_error", cli_json_number(r->relative_output_error),
        "relative_weight_error", cli_json_number(r->relative_weight_error),
        "bits_per_weight", cli_json_number(r->bits_per_weight), "loss",
        cli_json_number(r->loss), "damping", cli_json_number(r->damping),
        "seconds", seconds);

    return row == NULL ? -1 : json_array_append_new(job->layers, row);
}

static int on_matrix(const qrb_quantized_matrix *m, qrb_packed **packed,
                     void *user)
{
    struct quantize_job *job = user;
    const double now = cli_seconds();
    const double seconds = now - job->last;
    const double elements = elements_of(job->model.model, m->parameter);
    char output[16] = "-";

    (void)packed;
    estimate(job, m);
    if (isfinite(m->report.relative_output_error))
        snprintf(output, sizeof output, "%.3e",
                 m->report.relative_output_error);
    cli_say(job->cli, "%-44s %10.3e %10s %7.3f %8.2f  %s", m->name,
            m->report.relative_weight_error, output, m->report.bits_per_weight,
            seconds, m->note);
    job->last = now;
    job->done++;
    job->bits += elements * m->report.bits_per_weight;
    job->weights += elements;
    return add_row(job, m, seconds);
}

/* Bytes of the statistics of one block, and of work on one matrix. */
static void bytes_of_work(const qrb_model *model, double *statistics,
                          double *matrix)
{
    double block = 0;
    int32_t layer = -1;

    *statistics = 0;
    *matrix = 0;
    for (size_t i = 0; i < qrb_model_parameter_count(model); i++) {
        qrb_parameter p = QRB_PARAMETER_INIT;
        double rows;
        double cols;

        if (qrb_model_parameter(model, i, &p) != QRB_OK || p.layer < 0 ||
            qrb_tensor_rank(p.weight) != 2)
            continue;
        rows = (double)qrb_tensor_extent(p.weight, 0);
        cols = (double)qrb_tensor_extent(p.weight, 1);
        block = (p.layer == layer ? block : 0) + 4 * cols * cols;
        layer = p.layer;
        if (block > *statistics)
            *statistics = block;
        /* A working copy, the codes, and twice the Gram matrix in double. */
        if (8 * rows * cols + 16 * cols * cols > *matrix)
            *matrix = 8 * rows * cols + 16 * cols * cols;
    }
}

static int state_memory(struct cli *cli, const struct quantize_job *job,
                        const qrb_quantize_options *options, bool trains)
{
    const double weights =
        4 * (double)cli_model_parameters(job->model.model);
    double statistics;
    double matrix;
    uint64_t activations = 0;

    bytes_of_work(job->model.model, &statistics, &matrix);
    if (job->text.count == 0)
        statistics = 0;
    else if (qrb_engine_memory(job->model.model, 1, options->context, trains,
                               &activations) != QRB_OK)
        return cli_library_error(cli, "memory");
    cli_say(cli,
            "memory: weights %.1f MB, %s %.1f MB, statistics of a block at "
            "most %.1f MB%s, work on a matrix about %.1f MB",
            1e-6 * weights,
            trains ? "calibration with gradients" : "calibration activations",
            1e-6 * (double)activations,
            1e-6 * (trains ? statistics + weights : statistics),
            trains ? " with squared gradients" : "", 1e-6 * matrix);
    return CLI_OK;
}

/* Perplexity on what the samples are drawn from, or on as many tokens of it
 * as all samples have. */
static int measure(struct cli *cli, const struct quantize_job *job,
                   const qrb_quantize_options *options, double *out)
{
    const qrb_evaluate_options evaluate = cli_evaluate_defaults(&job->model);
    qrb_metric_result r = { .struct_size = sizeof r };
    size_t count = job->text.count;

    if (count / options->context > options->samples)
        count = options->samples * options->context;
    if (qrb_evaluate_text(job->model.model, NULL, job->text.ids, count,
                          &evaluate, &r) != QRB_OK)
        return cli_library_error(cli, "measurement");
    *out = r.perplexity;
    return CLI_OK;
}

static int open_job(struct cli *cli, const char *in,
                    const struct quantize_arguments *a,
                    struct quantize_job *job)
{
    int status = cli_method_create(cli, &a->method, NULL, &job->quantizer);

    if (status == CLI_OK)
        status = cli_model_open(cli, in, a->tokenizer,
                                cli_method_trains(&a->method), &job->model);
    if (status == CLI_OK)
        status = cli_model_note_source(cli, &job->model);
    if (status != CLI_OK || a->calibration == NULL)
        return status;
    status = cli_model_need_tokenizer(cli, &job->model, in);
    if (status == CLI_OK)
        status =
            cli_tokenize(cli, job->model.tokenizer, a->calibration, &job->text);
    if (status == CLI_OK)
        cli_model_note_text(&job->model, &job->text);
    return status;
}

static int quantize_layers(struct cli *cli, struct quantize_job *job,
                           const qrb_quantize_options *options)
{
    qrb_status status;

    cli_say(cli, "%-44s %10s %10s %7s %8s", "matrix", "weight err",
            "output err", "bits", "seconds");
    job->start = job->last = cli_seconds();
    status = qrb_quantize_model(job->model.model, job->quantizer,
                                job->text.ids, job->text.count, options);
    if (status == QRB_E_CANCELLED)
        return cli_error(cli, "stopped; nothing was written");
    if (status != QRB_OK)
        return cli_library_error(cli, "quantization");
    return CLI_OK;
}

static int report(struct cli *cli, const struct quantize_arguments *a,
                  const struct quantize_job *job, const double perplexity[2])
{
    return cli_report(
        cli,
        json_pack("{s:s, s:I, s:I, s:s, s:I, s:I, s:s, s:s, s:f, s:f, "
                  "s:{s:o, s:o}, s:O}",
                  "method", a->method.name, "bits", (json_int_t)a->method.bits,
                  "group_size", (json_int_t)a->method.group_size, "options",
                  a->method.options, "samples", (json_int_t)a->samples,
                  "context", (json_int_t)a->context, "model_sha256",
                  job->model.source, "calibration_sha256", job->text.digest,
                  "bits_per_weight", job->bits / job->weights, "seconds",
                  job->last - job->start, "perplexity", "float",
                  cli_json_number(perplexity[0]), "quantized",
                  cli_json_number(perplexity[1]), "layers", job->layers));
}

static int work(struct cli *cli, const char *out, struct quantize_arguments *a,
                struct quantize_job *job)
{
    qrb_quantize_options options = QRB_QUANTIZE_OPTIONS_INIT;
    double perplexity[2] = { NAN, NAN };
    int status;

    if (!a->context_given && job->model.config.context < a->context)
        a->context = job->model.config.context;
    options.samples = (size_t)a->samples;
    options.context = (size_t)a->context;
    options.done = on_matrix;
    options.user = job;
    options.undo = 0; /* a model that is not written needs none */
    if (a->sequential)
        options.propagate = options.sequential = QRB_ON;
    status =
        state_memory(cli, job, &options, cli_method_trains(&a->method));
    if (status == CLI_OK && job->text.count > 0)
        status = measure(cli, job, &options, &perplexity[0]);
    if (status == CLI_OK)
        status = quantize_layers(cli, job, &options);
    if (status == CLI_OK && job->text.count > 0)
        status = measure(cli, job, &options, &perplexity[1]);
    if (status == CLI_OK)
        status = cli_model_save(cli, &job->model, out);
    if (status != CLI_OK)
        return status;
    cli_say(cli, "%s: %s, %.3f bits a weight, %.1f s", out, a->method.name,
            job->bits / job->weights, job->last - job->start);
    if (job->text.count > 0)
        cli_say(cli, "perplexity on the calibration text: %.4f, was %.4f",
                perplexity[1], perplexity[0]);
    status = report(cli, a, job, perplexity);
    if (status == CLI_OK && job->text.count > 0 &&
        !(perplexity[1] <= BEYOND_USE * perplexity[0]))
        return cli_error(cli,
                         "%s was written, but is beyond use: perplexity %.4g "
                         "on the calibration text, more than %d times the "
                         "%.4g of the float model; take more bits, smaller "
                         "groups or another method",
                         out, perplexity[1], BEYOND_USE, perplexity[0]);
    return status;
}

static int run_quantize(struct cli *cli, const char *in, const char *out,
                        struct quantize_arguments *a)
{
    struct quantize_job job = { .cli = cli };
    int status = check_format(cli, a->format);

    if (status == CLI_OK)
        status = open_job(cli, in, a, &job);
    if (status == CLI_OK) {
        job.layers = json_array();
        status = job.layers == NULL
                     ? cli_error(cli, "no memory for the report")
                     : work(cli, out, a, &job);
    }
    json_decref(job.layers);
    qrb_quantizer_destroy(job.quantizer);
    qrb_free(cli->ctx, job.text.ids);
    cli_model_close(&job.model);
    return status;
}

int cli_quantize(struct cli *cli, const struct cli_command *command, int argc,
                 char **argv)
{
    struct quantize_arguments a = { .method = { .bits = 4, .options = "" },
                                    .format = "float",
                                    .samples = 128,
                                    .context = 512 };
    const struct cli_option options[] = {
        { "method", "M", "rtn, int8, nf4, gptq, awq, squeezellm, awq+gptq, ...",
          CLI_TEXT, &a.method.name, NULL },
        { "bits", "B", "of a code, 2 to 8 (default 4)", CLI_COUNT,
          &a.method.bits, &a.method.bits_given },
        { "group-size", "G", "columns of a scale (default 0: a whole row)",
          CLI_COUNT, &a.method.group_size, NULL },
        { "options", "K=V,...", "of the method", CLI_TEXT, &a.method.options,
          NULL },
        { "calibration", "FILE", "text whose activations count", CLI_TEXT,
          &a.calibration, NULL },
        { "samples", "N", "sequences of calibration (default 128)", CLI_COUNT,
          &a.samples, NULL },
        { "context", "N", "tokens of each (default 512, or the model's)",
          CLI_COUNT, &a.context, &a.context_given },
        { "sequential", NULL, "errors reach the statistics of what follows",
          CLI_FLAG, &a.sequential, NULL },
        { "format", "F", "float (default): values in a model directory",
          CLI_TEXT, &a.format, NULL },
        { "tokenizer", "FILE", "tokenizer.json, or of llama2.c", CLI_TEXT,
          &a.tokenizer, NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    const char *path[2] = { NULL, NULL };
    const int status =
        cli_parse(cli, command, options, argc, argv, path, 2, 2);

    if (status >= 0)
        return status;
    if (a.method.name == NULL)
        return cli_usage_error(cli, "--method M is required");
    if (a.samples == 0 || a.context == 0)
        return cli_usage_error(cli, "--samples and --context are at least 1");
    return run_quantize(cli, path[0], path[1], &a);
}
