/* What a failed call tells, and what it leaves behind. */
#include "snippet.h"

/* [begin stop] */
static int stop(const void *batch, double weight, double *mean_loss,
                size_t *scored, void *user)
{
    (void)batch;
    (void)weight;
    (void)mean_loss;
    (void)scored;
    (void)user;
    return -42; /* below 0: stop, and hand this number back */
}
/* [end stop] */

int main(void)
{
    static int32_t text[300];
    float w[4] = { 0 };
    float g[4] = { 0 };
    qrb_context *ctx;

    must(NULL, qrb_context_create(NULL, &ctx));
    /* [begin message] */
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer;
    qrb_status status;

    options.bits = 9;
    status = qrb_quantizer_create(ctx, &options, &quantizer);
    printf("%s: %s\n", qrb_status_name(status), qrb_context_message(ctx));
    printf("the quantizer is %s\n", quantizer == NULL ? "NULL" : "there");
    /* [end message] */

    /* [begin callback] */
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    qrb_model *model;
    qrb_metric_result result = { .struct_size = sizeof result };

    callbacks.loss_and_grad = stop;
    callbacks.flags = QRB_HOST_TOKEN_BATCHES;
    must(ctx, qrb_model_create(ctx, &callbacks, &model));
    status = qrb_evaluate_text(model, NULL, text, 300, NULL, &result);
    printf("%s: %s\n", qrb_status_name(status), qrb_context_message(ctx));
    /* [end callback] */

    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight;
    qrb_tensor *gradient;
    qrb_dataset *dataset;
    qrb_trainer *trainer;

    shape.rank = 2;
    shape.shape[0] = shape.shape[1] = 2;
    shape.memory = w;
    must(ctx, qrb_tensor_create(ctx, &shape, &weight));
    shape.memory = g;
    must(ctx, qrb_tensor_create(ctx, &shape, &gradient));
    parameter.name = "w";
    parameter.weight = weight;
    parameter.gradient = gradient;
    must(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    must(ctx, qrb_dataset_create(ctx, text, 300, NULL, &dataset));
    must(ctx, qrb_trainer_create(model, dataset, NULL, &trainer));
    /* [begin code] */
    status = qrb_trainer_run(trainer, NULL);
    printf("%s, code %d\n", qrb_status_name(status),
           (int)qrb_context_callback_code(ctx));
    /* [end code] */
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);
    qrb_tensor_destroy(gradient);
    qrb_tensor_destroy(weight);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return 0;
}
