/* For oracle_train.py: AdamW steps with given gradients at the learning rates
 * of a schedule, and what came out.
 *
 * usage: oracle_train DTYPE SCHEDULE STEPS WARMUP LR END CLIP DECAY <in >out
 *
 * DTYPE and SCHEDULE are numbers of their enums.  All values are doubles in
 * native byte order.  In come the weights, a matrix [7, 5] and a vector [11],
 * and their gradients for each step; out go for each step the learning rate,
 * the norm of the gradient before clipping, and the weights. */
#include <stdio.h>
#include <stdlib.h>

#include <qrobust/train.h>

#include "train/schedule.h"

enum { ROWS = 7, COLS = 5, VECTOR = 11, ALL = ROWS * COLS + VECTOR };

struct parameter {
    qrb_tensor *weight;
    qrb_tensor *gradient;
};

static int fail(qrb_context *ctx)
{
    fprintf(stderr, "oracle_train: %s\n", qrb_context_message(ctx));
    return EXIT_FAILURE;
}

static void store(qrb_tensor *tensor, size_t i, double value)
{
    if (qrb_tensor_dtype(tensor) == QRB_F64)
        ((double *)qrb_tensor_memory(tensor))[i] = value;
    else
        ((float *)qrb_tensor_memory(tensor))[i] = (float)value;
}

static double load(const qrb_tensor *tensor, size_t i)
{
    return qrb_tensor_dtype(tensor) == QRB_F64
               ? ((const double *)qrb_tensor_memory(tensor))[i]
               : (double)((const float *)qrb_tensor_memory(tensor))[i];
}

/* The matrix's elements, then the vector's, from stdin. */
static int read_all(qrb_tensor *matrix, qrb_tensor *vector)
{
    double values[ALL];

    if (fread(values, sizeof *values, ALL, stdin) != ALL)
        return 0;
    for (size_t i = 0; i < ALL; i++)
        store(i < ROWS * COLS ? matrix : vector,
              i < ROWS * COLS ? i : i - ROWS * COLS, values[i]);
    return 1;
}

static qrb_status add(qrb_context *ctx, qrb_model *model, uint32_t dtype,
                      size_t rows, size_t cols, struct parameter *out)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_status status;

    shape.dtype = dtype;
    shape.rank = rows > 0 ? 2 : 1;
    shape.shape[0] = rows > 0 ? rows : cols;
    shape.shape[1] = rows > 0 ? cols : 0;
    status = qrb_tensor_create(ctx, &shape, &out->weight);
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &shape, &out->gradient);
    if (status != QRB_OK)
        return status;
    parameter.name = rows > 0 ? "matrix" : "vector";
    parameter.weight = out->weight;
    parameter.gradient = out->gradient;
    parameter.role = rows > 0 ? QRB_ROLE_Q : QRB_ROLE_BIAS;
    return qrb_model_add_parameter(model, &parameter, NULL);
}

static int run(qrb_context *ctx, const qrb_trainer_options *options,
               qrb_optimizer *optimizer, const struct parameter *parameters)
{
    for (uint64_t step = 0; step < options->steps; step++) {
        double out[2 + ALL] = { qrb__schedule_lr(options, step), 0.0 };

        if (!read_all(parameters[0].gradient, parameters[1].gradient)) {
            fprintf(stderr, "oracle_train: gradients end at step %llu\n",
                    (unsigned long long)step);
            return EXIT_FAILURE;
        }
        if (qrb_optimizer_step(optimizer, out[0], &out[1]) != QRB_OK)
            return fail(ctx);
        for (size_t i = 0; i < ALL; i++)
            out[2 + i] = i < ROWS * COLS
                             ? load(parameters[0].weight, i)
                             : load(parameters[1].weight, i - ROWS * COLS);
        fwrite(out, sizeof *out, 2 + ALL, stdout);
    }
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_optimizer_options adamw = QRB_OPTIMIZER_OPTIONS_INIT;
    const qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    struct parameter parameters[2] = { { NULL, NULL }, { NULL, NULL } };
    qrb_context *ctx = NULL;
    qrb_model *model = NULL;
    qrb_optimizer *optimizer = NULL;
    uint32_t dtype;
    int code;

    if (argc != 9 || qrb_context_create(NULL, &ctx) != QRB_OK) {
        fprintf(stderr, "usage: oracle_train DTYPE SCHEDULE STEPS WARMUP LR "
                        "END CLIP DECAY\n");
        return EXIT_FAILURE;
    }
    dtype = (uint32_t)atoi(argv[1]);
    options.schedule = (uint32_t)atoi(argv[2]);
    options.steps = (uint64_t)atoll(argv[3]);
    options.warmup = (uint64_t)atoll(argv[4]);
    options.lr = atof(argv[5]);
    options.lr_end = atof(argv[6]);
    adamw.clip_norm = atof(argv[7]);
    adamw.weight_decay = atof(argv[8]);
    if (qrb_model_create(ctx, &callbacks, &model) != QRB_OK ||
        add(ctx, model, dtype, ROWS, COLS, &parameters[0]) != QRB_OK ||
        add(ctx, model, dtype, 0, VECTOR, &parameters[1]) != QRB_OK ||
        !read_all(parameters[0].weight, parameters[1].weight) ||
        qrb_optimizer_create(model, &adamw, &optimizer) != QRB_OK)
        return fail(ctx);
    code = run(ctx, &options, optimizer, parameters);
    qrb_optimizer_destroy(optimizer);
    qrb_model_destroy(model);
    for (int i = 0; i < 2; i++) {
        qrb_tensor_destroy(parameters[i].weight);
        qrb_tensor_destroy(parameters[i].gradient);
    }
    qrb_context_destroy(ctx);
    return fflush(stdout) == 0 ? code : EXIT_FAILURE;
}
