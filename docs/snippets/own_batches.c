/* A host whose batches are its own: points of a plane in two classes. */
#include "snippet.h"

#include <math.h>

enum { HIDDEN = 16, BATCH = 32, EVALUATION = 16 };

struct points {
    float x[BATCH][2];
    int32_t class[BATCH];
};

static float w1[HIDDEN][2];
static float w2[2][HIDDEN];
static float w1_grad[HIDDEN][2];
static float w2_grad[2][HIDDEN];

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* [begin batch] */
/* The same points for the same stream and index, so that runs can resume. */
static int batch(uint32_t stream, uint64_t index, void **out, size_t *rows,
                 void *user)
{
    uint32_t state = (uint32_t)index * 2654435761u + stream;
    struct points *points;

    (void)user;
    if (stream == QRB_STREAM_EVALUATION && index == EVALUATION)
        return 0; /* *out stays NULL: the end of the stream */
    points = malloc(sizeof *points);
    if (points == NULL)
        return -1;
    for (int i = 0; i < BATCH; i++) {
        for (int k = 0; k < 2; k++)
            points->x[i][k] =
                (float)(next_random(&state) % 2001) / 1000.0f - 1.0f;
        points->class[i] = points->x[i][0] * points->x[i][1] > 0.0f;
    }
    *out = points;
    *rows = BATCH; /* of logits */
    return 0;
}

static void release(void *points, void *user)
{
    (void)user;
    free(points);
}
/* [end batch] */

static void forward(const float *x, float *hidden, float *out)
{
    out[0] = out[1] = 0.0f;
    for (int i = 0; i < HIDDEN; i++) {
        hidden[i] = fmaxf(0.0f, w1[i][0] * x[0] + w1[i][1] * x[1]);
        out[0] += w2[0][i] * hidden[i];
        out[1] += w2[1][i] * hidden[i];
    }
}

/* [begin logits] */
static int logits(const void *any, float *out, int32_t *targets, size_t rows,
                  void *user)
{
    const struct points *points = any;
    float hidden[HIDDEN];

    (void)user;
    for (size_t i = 0; i < rows; i++) {
        forward(points->x[i], hidden, out + 2 * i); /* `vocab` is 2 */
        targets[i] = points->class[i];
    }
    return 0;
}
/* [end logits] */

static int loss_and_grad(const void *any, double weight, double *mean_loss,
                         size_t *scored, void *user)
{
    const struct points *points = any;
    double sum = 0.0;

    (void)user;
    for (int n = 0; n < BATCH; n++) {
        const float *x = points->x[n];
        const int right = points->class[n];
        float hidden[HIDDEN];
        float out[2];
        float d[2];

        forward(x, hidden, out);
        const double other = 1.0 / (1.0 + exp((double)(out[right] -
                                                       out[1 - right])));

        sum -= log(1.0 - other);
        d[1 - right] = (float)(weight * other / BATCH);
        d[right] = -d[1 - right];
        for (int i = 0; i < HIDDEN; i++) {
            const float dh = d[0] * w2[0][i] + d[1] * w2[1][i];

            for (int k = 0; k < 2; k++) {
                w2_grad[k][i] += d[k] * hidden[i];
                w1_grad[i][k] += hidden[i] > 0.0f ? dh * x[k] : 0.0f;
            }
        }
    }
    *mean_loss = sum / BATCH;
    *scored = BATCH;
    return 0;
}

static void add(qrb_context *ctx, qrb_model *model, const char *name,
                uint32_t role, float *weights, float *gradients, size_t rows,
                size_t cols)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight;
    qrb_tensor *gradient;

    shape.rank = 2;
    shape.shape[0] = rows;
    shape.shape[1] = cols;
    shape.memory = weights;
    must(ctx, qrb_tensor_create(ctx, &shape, &weight));
    shape.memory = gradients;
    must(ctx, qrb_tensor_create(ctx, &shape, &gradient));
    parameter.name = name;
    parameter.role = role;
    parameter.layer = 0;
    parameter.weight = weight;
    parameter.gradient = gradient;
    must(ctx, qrb_model_add_parameter(model, &parameter, NULL));
    qrb_tensor_destroy(gradient);
    qrb_tensor_destroy(weight);
}

static void report(qrb_context *ctx, qrb_model *model, const char *what)
{
    qrb_metric_result result = { .struct_size = sizeof result };

    must(ctx, qrb_evaluate_batches(model, &result));
    printf("%s: perplexity of the classes %.1f\n", what, result.perplexity);
}

/* [begin train] */
/* `anchor` may be NULL. */
static void train(qrb_context *ctx, qrb_model *model, uint64_t steps,
                  double lr, qrb_noise *anchor)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_trainer *trainer;

    options.steps = steps;
    options.lr = lr;
    must(ctx, qrb_trainer_create(model, NULL, &options, &trainer));
    if (anchor != NULL)
        must(ctx, qrb_trainer_add_noise(trainer, anchor));
    must(ctx, qrb_trainer_run(trainer, NULL));
    qrb_trainer_destroy(trainer);
}
/* [end train] */

int main(void)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    uint32_t state = 1;
    qrb_context *ctx;
    qrb_model *model;
    qrb_noise *anchor;
    qrb_noise *attack;

    for (int i = 0; i < HIDDEN; i++)
        for (int k = 0; k < 2; k++) {
            w1[i][k] = (float)(next_random(&state) % 2001) / 1e3f - 1.0f;
            w2[k][i] = (float)(next_random(&state) % 2001) / 1e3f - 1.0f;
        }
    must(NULL, qrb_context_create(NULL, &ctx));
    callbacks.batch = batch;
    callbacks.batch_release = release;
    callbacks.loss_and_grad = loss_and_grad;
    callbacks.logits = logits;
    callbacks.vocab = 2;
    must(ctx, qrb_model_create(ctx, &callbacks, &model));
    add(ctx, model, "w1", QRB_ROLE_FC1, w1[0], w1_grad[0], HIDDEN, 2);
    add(ctx, model, "w2", QRB_ROLE_FC2, w2[0], w2_grad[0], 2, HIDDEN);
    /* [begin repair] */
    qrb_attack_options noise = QRB_ATTACK_OPTIONS_INIT;

    train(ctx, model, 3000, 1e-2, NULL);
    report(ctx, model, "clean");
    must(ctx, qrb_noise_create_anchor(ctx, NULL, &anchor));
    must(ctx, qrb_noise_bind(anchor, model, NULL));
    must(ctx, qrb_anchor_snapshot(anchor)); /* the weights as they are now */

    noise.sigma = 1.0;
    must(ctx, qrb_noise_create_attack(ctx, &noise, &attack));
    must(ctx, qrb_noise_bind(attack, model, NULL));
    must(ctx, qrb_attack_apply(attack));
    report(ctx, model, "attacked");

    train(ctx, model, 250, 2e-3, anchor);
    report(ctx, model, "repaired");
    /* [end repair] */
    qrb_noise_destroy(attack);
    qrb_noise_destroy(anchor);
    qrb_model_destroy(model);
    qrb_context_destroy(ctx);
    return 0;
}
