/* qrobust matrix: quantize one matrix of a file, with what is known of its
 * inputs. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "cli.h"

struct matrix_arguments {
    struct cli_method method;
    const char *weight;
    const char *inputs;
    const char *fisher;
    const char *out;
};

/* What is read. */
struct problem {
    qrb_tensor *weight; /* [out, in] */
    qrb_tensor *inputs; /* [tokens, in] or NULL */
    qrb_tensor *fisher; /* [out, in] or NULL */
    qrb_observer *observer;
};

enum { MAX_TENSORS = 12 };

/* What is written. */
struct result {
    qrb_named_tensor tensors[MAX_TENSORS];
    size_t count;
    void *owned[MAX_TENSORS]; /* arrays behind them, or NULL */
};

static int read_tensor(struct cli *cli, const char *path, const char *name,
                       qrb_tensor **out)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_safetensors *file = NULL;
    int status = CLI_OK;
    size_t index;

    source.path = path;
    if (qrb_safetensors_open(cli->ctx, &source, &file) != QRB_OK)
        return cli_library_error(cli, path);
    index = qrb_safetensors_find(file, name);
    if (index == SIZE_MAX)
        status = cli_error(cli, "%s: has no tensor \"%s\"", path, name);
    else if (qrb_safetensors_describe(file, index, &shape) != QRB_OK ||
             qrb_tensor_create(cli->ctx, &shape, out) != QRB_OK ||
             qrb_safetensors_read(file, index, *out) != QRB_OK)
        status = cli_library_error(cli, path);
    qrb_safetensors_close(file);
    return status;
}

static int observe(struct cli *cli, const char *path, struct problem *problem)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;

    options.columns = qrb_tensor_extent(problem->weight, 1);
    if (qrb_observer_create(cli->ctx, &options, &problem->observer) != QRB_OK ||
        qrb_observer_add(problem->observer, problem->inputs) != QRB_OK)
        return cli_library_error(cli, path);
    return CLI_OK;
}

static int read_problem(struct cli *cli, const struct matrix_arguments *a,
                        struct problem *problem)
{
    int status = read_tensor(cli, a->weight, "weight", &problem->weight);

    if (status == CLI_OK && qrb_tensor_rank(problem->weight) != 2)
        status = cli_error(cli, "%s: weight has %u dimensions, expected 2",
                           a->weight, qrb_tensor_rank(problem->weight));
    if (status == CLI_OK && a->inputs != NULL)
        status = read_tensor(cli, a->inputs, "inputs", &problem->inputs);
    if (status == CLI_OK && a->fisher != NULL)
        status = read_tensor(cli, a->fisher, "fisher", &problem->fisher);
    if (status == CLI_OK && a->inputs != NULL)
        status = observe(cli, a->inputs, problem);
    return status;
}

static void free_problem(struct problem *problem)
{
    qrb_observer_destroy(problem->observer);
    qrb_tensor_destroy(problem->fisher);
    qrb_tensor_destroy(problem->inputs);
    qrb_tensor_destroy(problem->weight);
}

/* A tensor over memory that is only read from here on. */
static int add_tensor(struct cli *cli, struct result *result, const char *name,
                      uint32_t dtype, size_t rows, size_t cols,
                      const void *memory)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    shape.dtype = dtype;
    shape.rank = rows == 0 ? 1 : 2;
    shape.shape[0] = rows == 0 ? cols : rows;
    shape.shape[1] = rows == 0 ? 0 : cols;
    shape.memory = (void *)(uintptr_t)memory;
    if (qrb_tensor_create(cli->ctx, &shape, &tensor) != QRB_OK)
        return cli_library_error(cli, name);
    result->tensors[result->count].name = name;
    result->tensors[result->count].tensor = tensor;
    result->count++;
    return CLI_OK;
}

static void *own(struct cli *cli, struct result *result, size_t count,
                 size_t size)
{
    void *memory = cli_alloc(cli, count, size);

    result->owned[result->count] = memory;
    return memory;
}

static void free_result(struct cli *cli, struct result *result)
{
    for (size_t i = 0; i < result->count; i++)
        qrb_tensor_destroy((qrb_tensor *)(uintptr_t)result->tensors[i].tensor);
    for (size_t i = 0; i < MAX_TENSORS; i++)
        cli_free(cli, result->owned[i]);
}

/* One byte a code: unsigned, or signed where the grid has no zero point. */
static int add_codes(struct cli *cli, struct result *result,
                     const qrb_packed *packed, size_t rows, size_t cols)
{
    int32_t *codes = cli_alloc(cli, rows * cols, sizeof *codes);
    uint8_t *bytes = own(cli, result, rows * cols, 1);
    bool is_signed = false;
    int status;

    if (codes == NULL || bytes == NULL) {
        cli_free(cli, codes);
        return cli_error(cli, "no memory for the codes");
    }
    status = qrb_packed_read_codes(packed, codes) == QRB_OK
                 ? CLI_OK
                 : cli_library_error(cli, "codes");
    for (size_t i = 0; i < rows * cols; i++) {
        is_signed = is_signed || codes[i] < 0;
        bytes[i] = (uint8_t)codes[i];
    }
    cli_free(cli, codes);
    if (status == CLI_OK)
        status = add_tensor(cli, result, "codes", is_signed ? QRB_I8 : QRB_U8,
                            rows, cols, bytes);
    return status;
}

static int add_outliers(struct cli *cli, struct result *result,
                        const qrb_packed *packed, size_t rows)
{
    const size_t *row_start;
    const uint32_t *columns;
    const float *values;
    int64_t *starts;
    int status;

    if (qrb_packed_outliers(packed, &row_start, &columns, &values) != QRB_OK)
        return cli_library_error(cli, "outliers");
    if (row_start == NULL || row_start[rows] == 0)
        return CLI_OK;
    starts = own(cli, result, rows + 1, sizeof *starts);
    if (starts == NULL)
        return cli_error(cli, "no memory for the outliers");
    for (size_t i = 0; i <= rows; i++)
        starts[i] = (int64_t)row_start[i];
    status = add_tensor(cli, result, "outlier_rows", QRB_I64, 0, rows + 1,
                        starts);
    if (status == CLI_OK)
        status = add_tensor(cli, result, "outlier_columns", QRB_I32, 0,
                            row_start[rows], columns);
    if (status == CLI_OK)
        status = add_tensor(cli, result, "outlier_values", QRB_F32, 0,
                            row_start[rows], values);
    return status;
}

static int add_scales(struct cli *cli, struct result *result,
                      const struct cli_method_facts *facts, uint64_t bits,
                      const qrb_packed *packed, size_t rows, size_t cols)
{
    const size_t groups = qrb_packed_groups(packed);
    const size_t lines = facts->blocks ? 0 : rows;
    const float *table = qrb_packed_table(packed);
    int status = CLI_OK;

    if (table != NULL)
        return add_tensor(cli, result, "table", QRB_F32, rows,
                          (size_t)1 << bits, table);
    status = add_tensor(cli, result, "scales", QRB_F64, lines, groups,
                        qrb_packed_scales(packed));
    if (status == CLI_OK && qrb_packed_zero_points(packed) != NULL)
        status = add_tensor(cli, result, "zeros", QRB_F64, lines, groups,
                            qrb_packed_zero_points(packed));
    if (status == CLI_OK && qrb_packed_group_index(packed) != NULL)
        status = add_tensor(cli, result, "group_index", QRB_I32, 0, cols,
                            qrb_packed_group_index(packed));
    return status;
}

static int write_result(struct cli *cli, const struct matrix_arguments *a,
                        const struct cli_method_facts *facts,
                        const struct problem *problem,
                        const qrb_packed *packed)
{
    const size_t rows = qrb_tensor_extent(problem->weight, 0);
    const size_t cols = qrb_tensor_extent(problem->weight, 1);
    struct result result = { .count = 0 };
    int status;

    /* The weights have been read, so their tensor may hold the values. */
    if (qrb_packed_dequantize(packed, problem->weight) != QRB_OK)
        return cli_library_error(cli, "values");
    status = add_tensor(cli, &result, "weight",
                        qrb_tensor_dtype(problem->weight), rows, cols,
                        qrb_tensor_memory(problem->weight));
    if (status == CLI_OK)
        status = add_codes(cli, &result, packed, rows, cols);
    if (status == CLI_OK)
        status = add_scales(cli, &result, facts, a->method.bits, packed, rows,
                            cols);
    if (status == CLI_OK)
        status = add_outliers(cli, &result, packed, rows);
    if (status == CLI_OK && qrb_packed_input_scale(packed) != NULL)
        status = add_tensor(cli, &result, "input_scale", QRB_F64, 0, cols,
                            qrb_packed_input_scale(packed));
    if (status == CLI_OK &&
        qrb_safetensors_write(cli->ctx, a->out, result.tensors, result.count,
                              NULL, 0) != QRB_OK)
        status = cli_library_error(cli, a->out);
    free_result(cli, &result);
    return status;
}

/* |Y - X W^T|^2 / |X W^T|^2 of the product that LLM.int8() makes at run time,
 * with its own rounding of the inputs. */
static int product_error(struct cli *cli, const struct problem *problem,
                         const qrb_packed *packed, double threshold,
                         double *out)
{
    const size_t tokens = qrb_tensor_extent(problem->inputs, 0);
    const size_t rows = qrb_tensor_extent(problem->weight, 0);
    const size_t cols = qrb_tensor_extent(problem->weight, 1);
    const size_t shapes[3][2] = { { tokens, cols },
                                  { rows, cols },
                                  { tokens, rows } };
    qrb_tensor *tensors[3] = { NULL };
    double *memory[3];
    double error = 0;
    double whole = 0;
    int status = CLI_OK;

    for (size_t i = 0; i < 3; i++) {
        qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;

        shape.dtype = QRB_F64;
        shape.rank = 2;
        shape.shape[0] = shapes[i][0];
        shape.shape[1] = shapes[i][1];
        if (qrb_tensor_create(cli->ctx, &shape, &tensors[i]) != QRB_OK) {
            status = cli_library_error(cli, "product");
            goto out;
        }
        memory[i] = qrb_tensor_memory(tensors[i]);
    }
    if (qrb_tensor_copy(problem->inputs, tensors[0]) != QRB_OK ||
        qrb_tensor_copy(problem->weight, tensors[1]) != QRB_OK ||
        qrb_packed_int8_multiply(packed, tensors[0], threshold, NULL,
                                 tensors[2]) != QRB_OK) {
        status = cli_library_error(cli, "product");
        goto out;
    }
    for (size_t t = 0; t < tokens; t++)
        for (size_t r = 0; r < rows; r++) {
            double y = 0;

            for (size_t j = 0; j < cols; j++)
                y += memory[0][t * cols + j] * memory[1][r * cols + j];
            whole += y * y;
            y -= memory[2][t * rows + r];
            error += y * y;
        }
    *out = error == 0 ? 0 : error / whole;
out:
    for (size_t i = 0; i < 3; i++)
        qrb_tensor_destroy(tensors[i]);
    return status;
}

static int set_number(json_t *object, const char *key, double value)
{
    return json_object_set_new(object, key, cli_json_number(value));
}

static int tell(struct cli *cli, const struct matrix_arguments *a,
                const qrb_quantize_report *r, double seconds, double product)
{
    json_t *object = json_pack(
        "{s:s, s:o, s:o, s:f, s:f}", "method", a->method.name,
        "relative_output_error", cli_json_number(r->relative_output_error),
        "relative_weight_error", cli_json_number(r->relative_weight_error),
        "bits_per_weight", r->bits_per_weight, "seconds", seconds);
    int failed = object == NULL;

    /* What only some methods have. */
    if (!failed && !isnan(r->loss))
        failed = set_number(object, "loss", r->loss);
    if (!failed && !isnan(r->damping))
        failed = set_number(object, "damping", r->damping);
    if (!failed && !isnan(product))
        failed = set_number(object, "product_error", product);
    if (failed) {
        json_decref(object);
        return cli_error(cli, "no memory for the report");
    }
    cli_say(cli, "%s: %.4f bits a weight in %.2f s", a->out,
            r->bits_per_weight, seconds);
    cli_say(cli, "relative error of weights %.6g", r->relative_weight_error);
    if (!isnan(r->relative_output_error))
        cli_say(cli, "relative error of outputs %.6g",
                r->relative_output_error);
    if (!isnan(r->loss))
        cli_say(cli, "loss of the method %.6g", r->loss);
    if (!isnan(product))
        cli_say(cli, "relative error of the product with rounded inputs %.6g",
                product);
    return cli_report(cli, object);
}

static int run_matrix(struct cli *cli, const struct matrix_arguments *a,
                      const struct cli_method_facts *facts,
                      const qrb_quantizer *quantizer)
{
    struct problem problem = { NULL, NULL, NULL, NULL };
    qrb_calibration calibration = QRB_CALIBRATION_INIT;
    qrb_quantize_report report = QRB_QUANTIZE_REPORT_INIT;
    qrb_packed *packed = NULL;
    double product = NAN;
    double seconds;
    int status = read_problem(cli, a, &problem);

    if (status != CLI_OK)
        goto out;
    calibration.inputs = problem.observer;
    calibration.fisher = problem.fisher;
    seconds = cli_seconds();
    if (qrb_quantizer_quantize_with(quantizer, problem.weight, &calibration, NULL, &packed) != QRB_OK) {
        status = cli_library_error(cli, a->weight);
        goto out;
    }
    seconds = cli_seconds() - seconds;
    if (qrb_packed_measure(packed, problem.weight, &calibration, &report) !=
        QRB_OK) {
        status = cli_library_error(cli, a->weight);
        goto out;
    }
    if (!isnan(facts->threshold))
        status = product_error(cli, &problem, packed, facts->threshold,
                               &product);
    if (status == CLI_OK)
        status = write_result(cli, a, facts, &problem, packed);
    if (status == CLI_OK)
        status = tell(cli, a, &report, seconds, product);
out:
    qrb_packed_destroy(packed);
    free_problem(&problem);
    return status;
}

static int check_files(struct cli *cli, const struct matrix_arguments *a,
                       const struct cli_method_facts *facts)
{
    if (facts->bits == 0 && !a->method.bits_given)
        return cli_usage_error(cli, "--bits B is required by %.60s",
                               a->method.name);
    if (facts->needs_inputs && a->inputs == NULL)
        return cli_usage_error(cli, "--inputs FILE is required by %.60s",
                               a->method.name);
    if (facts->needs_fisher && a->fisher == NULL)
        return cli_usage_error(cli, "--fisher FILE is required by %.60s",
                               a->method.name);
    if (!isnan(facts->threshold) && a->inputs == NULL)
        return cli_usage_error(cli, "--inputs FILE is required by the option "
                                    "threshold");
    return CLI_OK;
}

int cli_matrix(struct cli *cli, const struct cli_command *command, int argc,
               char **argv)
{
    struct matrix_arguments a = { .method = { .options = "", .bits = 4 } };
    const struct cli_option options[] = {
        { "method", "M", "rtn, gptq, awq, smoothquant, squeezellm, int8, nf4, "
                         "or several by + (required)",
          CLI_TEXT, &a.method.name, NULL },
        { "bits", "B", "bits of a code", CLI_COUNT, &a.method.bits,
          &a.method.bits_given },
        { "group-size", "G", "columns that share a scale; default a row",
          CLI_COUNT, &a.method.group_size, NULL },
        { "options", "LIST", "KEY=VALUE of the method, commas between them",
          CLI_TEXT, &a.method.options, NULL },
        { "weight", "FILE", "safetensors with weight [out, in] (required)",
          CLI_TEXT, &a.weight, NULL },
        { "inputs", "FILE", "safetensors with inputs [tokens, in]", CLI_TEXT,
          &a.inputs, NULL },
        { "fisher", "FILE", "safetensors with fisher [out, in]", CLI_TEXT,
          &a.fisher, NULL },
        { "out", "FILE", "safetensors to write (required)", CLI_TEXT, &a.out,
          NULL },
        { NULL, NULL, NULL, CLI_FLAG, NULL, NULL }
    };
    struct cli_method_facts facts = { .threshold = NAN };
    qrb_quantizer *quantizer = NULL;
    int status = cli_parse(cli, command, options, argc, argv, NULL, 0, 0);

    if (status >= 0)
        return status;
    if (a.method.name == NULL || a.weight == NULL || a.out == NULL)
        return cli_usage_error(cli, "--%s is required",
                               a.method.name == NULL ? "method M"
                               : a.weight == NULL    ? "weight FILE"
                                                     : "out FILE");
    status = cli_method_create(cli, &a.method, &facts, &quantizer);
    if (status == CLI_OK)
        status = check_files(cli, &a, &facts);
    if (status == CLI_OK)
        status = run_matrix(cli, &a, &facts, quantizer);
    qrb_quantizer_destroy(quantizer);
    return status;
}
