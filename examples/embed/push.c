/* The push contract: a host that owns its loop calls the library on its way.
 *
 * A two-layer network, y = fc2 tanh(fc1 x + bias), learns two functions of two
 * numbers by its own forward, backward and optimizer.  It is trained twice on
 * the same batches, once as it is and once with noise in its weights; both are
 * attacked with the same noise, and the second one is repaired while its clean
 * weights pull at it. */
#include <qrobust/qrobust.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 2, HIDDEN = 32, OUT = 2, BATCH = 32, STEPS = 12000, REPAIR = 300 };

/* Numbers of the parameters, in order of their registration, and where the
 * weights of each begin. */
enum { FC1, BIAS, FC2, PARAMETERS };
enum { FC1_AT = 0, BIAS_AT = HIDDEN * IN, FC2_AT = BIAS_AT + HIDDEN };
enum { WEIGHTS = FC2_AT + OUT * HIDDEN };

static const double SIGMA = 0.1; /* of the noise, in training and attack */

struct host {
    qrb_context *ctx;
    qrb_model *model;
    qrb_pass *pass;
    qrb_tensor *view; /* pointed at whatever is tapped */
    float w[WEIGHTS];
    float g[WEIGHTS];        /* gradients */
    float velocity[WEIGHTS]; /* of the optimizer */
    float x[BATCH][IN];
    float target[BATCH][OUT];
    float hidden[BATCH][HIDDEN];
    float y[BATCH][OUT];
    uint32_t random;
    double largest; /* what the listener has heard */
};

/* [begin must] */
static void must(const struct host *h, qrb_status status)
{
    if (status != QRB_OK) {
        fprintf(stderr, "push: %s: %s\n", qrb_status_name(status),
                qrb_context_message(h->ctx));
        exit(1);
    }
}
/* [end must] */

/* [begin register] */
/* Tell the library which arrays are weights and gradients; it copies none. */
static void register_parameter(struct host *h, const char *name, uint32_t role,
                               size_t at, size_t rows, size_t cols)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight;
    qrb_tensor *gradient;

    shape.rank = cols > 0 ? 2 : 1;
    shape.shape[0] = rows;
    shape.shape[1] = cols;
    shape.memory = h->w + at;
    must(h, qrb_tensor_create(h->ctx, &shape, &weight));
    shape.memory = h->g + at;
    must(h, qrb_tensor_create(h->ctx, &shape, &gradient));
    parameter.name = name;
    parameter.role = role; /* by which default filters select */
    parameter.layer = 0;   /* the first block */
    parameter.weight = weight;
    parameter.gradient = gradient;
    must(h, qrb_model_add_parameter(h->model, &parameter, NULL));
    qrb_tensor_destroy(gradient); /* the model has copies of the views */
    qrb_tensor_destroy(weight);
}
/* [end register] */

/* [begin tap] */
/* Hand an activation [BATCH, cols] to whoever listens there. */
static void tap(struct host *h, uint32_t point, size_t index, float *values,
                size_t cols)
{
    const size_t shape[2] = { BATCH, cols };

    if (!qrb_tap_wanted(h->pass, point, index))
        return;
    must(h, qrb_tensor_point(h->view, shape, values));
    must(h, qrb_tap(h->pass, point, index, h->view));
}

static double forward(struct host *h)
{
    double loss = 0.0;

    tap(h, QRB_TAP_LINEAR_INPUT, FC1, h->x[0], IN);
    for (size_t n = 0; n < BATCH; n++)
        for (size_t i = 0; i < HIDDEN; i++) {
            float u = h->w[BIAS_AT + i];

            for (size_t k = 0; k < IN; k++)
                u += h->w[FC1_AT + i * IN + k] * h->x[n][k];
            h->hidden[n][i] = tanhf(u);
        }
    tap(h, QRB_TAP_LINEAR_INPUT, FC2, h->hidden[0], HIDDEN);
    for (size_t n = 0; n < BATCH; n++)
        for (size_t o = 0; o < OUT; o++) {
            h->y[n][o] = 0.0f;
            for (size_t i = 0; i < HIDDEN; i++)
                h->y[n][o] += h->w[FC2_AT + o * HIDDEN + i] * h->hidden[n][i];
        }
    tap(h, QRB_TAP_LINEAR_OUTPUT, FC2, h->y[0], OUT);
    for (size_t n = 0; n < BATCH; n++)
        for (size_t o = 0; o < OUT; o++)
            loss += pow((double)(h->y[n][o] - h->target[n][o]), 2) / BATCH;
    return loss;
}

static void backward(struct host *h)
{
    float dy[BATCH][OUT];

    for (size_t n = 0; n < BATCH; n++)
        for (size_t o = 0; o < OUT; o++)
            dy[n][o] = 2.0f * (h->y[n][o] - h->target[n][o]) / BATCH;
    tap(h, QRB_TAP_LINEAR_OUTPUT | QRB_TAP_GRAD, FC2, dy[0], OUT);
    memset(h->g, 0, sizeof h->g);
    for (size_t n = 0; n < BATCH; n++)
        for (size_t i = 0; i < HIDDEN; i++) {
            const float a = h->hidden[n][i];
            float du = 0.0f;

            for (size_t o = 0; o < OUT; o++) {
                du += dy[n][o] * h->w[FC2_AT + o * HIDDEN + i];
                h->g[FC2_AT + o * HIDDEN + i] += dy[n][o] * a;
            }
            du *= 1.0f - a * a;
            h->g[BIAS_AT + i] += du;
            for (size_t k = 0; k < IN; k++)
                h->g[FC1_AT + i * IN + k] += du * h->x[n][k];
        }
}
/* [end tap] */

static float uniform(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return (float)(*state >> 8) / 8388608.0f - 1.0f;
}

static void draw_batch(struct host *h)
{
    for (size_t n = 0; n < BATCH; n++) {
        const float a = h->x[n][0] = uniform(&h->random);
        const float b = h->x[n][1] = uniform(&h->random);

        h->target[n][0] = sinf(3.0f * a) + b * b;
        h->target[n][1] = a * b;
    }
}

/* [begin step] */
/* One step of training; noise or anchor may be NULL. */
static void train_step(struct host *h, uint64_t step, double lr,
                       qrb_noise *noise, qrb_noise *anchor)
{
    double loss;

    must(h, qrb_step_begin(h->pass, step, 0, 0));
    draw_batch(h);
    if (noise != NULL) { /* another draw in each step */
        must(h, qrb_attack_set(noise, SIGMA, step));
        must(h, qrb_perturb_begin(noise));
    }
    loss = forward(h);
    backward(h);
    if (noise != NULL) /* the weights again, bit for bit */
        must(h, qrb_perturb_end(noise));
    if (anchor != NULL)
        must(h, qrb_noise_add_grad(anchor, NULL));
    for (size_t i = 0; i < WEIGHTS; i++) {
        h->velocity[i] = 0.9f * h->velocity[i] + h->g[i];
        h->w[i] -= (float)lr * h->velocity[i];
    }
    if (anchor != NULL)
        must(h, qrb_noise_post_step(anchor, lr));
    must(h, qrb_step_end(h->pass, loss));
}
/* [end step] */

/* From the same random weights and on the same batches, whatever the noise. */
static void train(struct host *h, qrb_noise *noise)
{
    h->random = 1;
    memset(h->velocity, 0, sizeof h->velocity);
    for (size_t i = 0; i < WEIGHTS; i++)
        h->w[i] = (i < BIAS_AT ? 1.0f : 0.2f) * uniform(&h->random);
    for (uint64_t step = 0; step < STEPS; step++)
        train_step(h, step, step < STEPS / 2 ? 0.02 : 0.004, noise, NULL);
}

/* Mean loss over points that are the same each time. */
static double evaluate(struct host *h)
{
    double loss = 0.0;

    must(h, qrb_pass_set_mode(h->pass, QRB_MODE_EVAL));
    h->random = 12345;
    for (uint64_t batch = 0; batch < 32; batch++) {
        must(h, qrb_step_begin(h->pass, batch, 0, 0));
        draw_batch(h);
        loss += forward(h) / 32.0;
        must(h, qrb_step_end(h->pass, loss));
    }
    must(h, qrb_pass_set_mode(h->pass, QRB_MODE_TRAIN));
    return loss;
}

/* The same under attack, the mean of eight draws that training never saw. */
static double evaluate_attacked(struct host *h, qrb_noise *attack)
{
    double loss = 0.0;

    for (uint64_t draw = 0; draw < 8; draw++) {
        must(h, qrb_attack_set(attack, SIGMA, STEPS + draw));
        must(h, qrb_perturb_begin(attack));
        loss += evaluate(h) / 8.0;
        must(h, qrb_perturb_end(attack));
    }
    return loss;
}

/* [begin listener] */
/* A listener of the host's own: the largest hidden activation. */
static int look(uint32_t point, size_t index, qrb_tensor *tensor, void *user)
{
    struct host *h = user;
    const float *a = qrb_tensor_memory(tensor);

    if (point == QRB_TAP_LINEAR_INPUT && index == FC2)
        for (size_t i = 0; i < BATCH * HIDDEN; i++)
            h->largest = fmax(h->largest, (double)fabsf(a[i]));
    return 0;
}
/* [end listener] */

int main(void)
{
    static struct host host;
    struct host *h = &host;
    const qrb_tensor_options activation = { sizeof activation, h->x,
                                            { BATCH, IN }, { 0 }, QRB_F32, 2 };
    qrb_noise *attack;
    qrb_noise *anchor;
    double clean;
    double distance;

    must(h, qrb_context_create(NULL, &h->ctx));
    must(h, qrb_model_create(h->ctx, NULL, &h->model)); /* no callbacks */
    register_parameter(h, "fc1", QRB_ROLE_FC1, FC1_AT, HIDDEN, IN);
    register_parameter(h, "bias", QRB_ROLE_BIAS, BIAS_AT, HIDDEN, 0);
    register_parameter(h, "fc2", QRB_ROLE_FC2, FC2_AT, OUT, HIDDEN);
    must(h, qrb_pass_create(h->model, NULL, &h->pass));
    must(h, qrb_pass_listen(h->pass, QRB_TAP_LINEAR_INPUT, look, h));
    must(h, qrb_tensor_create(h->ctx, &activation, &h->view));
    must(h, qrb_noise_create_attack(h->ctx, NULL, &attack));
    must(h, qrb_noise_bind(attack, h->model, NULL));
    must(h, qrb_noise_create_anchor(h->ctx, NULL, &anchor));
    must(h, qrb_noise_bind(anchor, h->model, NULL));

    train(h, NULL);
    clean = evaluate(h);
    printf("plain:    loss %.4f, attacked %.4f\n", clean,
           evaluate_attacked(h, attack));
    train(h, attack);
    clean = evaluate(h);
    printf("hardened: loss %.4f, attacked %.4f\n", clean,
           evaluate_attacked(h, attack));

    must(h, qrb_anchor_snapshot(anchor)); /* the clean weights */
    must(h, qrb_attack_apply(attack));    /* for good */
    must(h, qrb_anchor_distance(anchor, &distance));
    printf("attacked: loss %.4f, distance %.3f\n", evaluate(h), distance);
    memset(h->velocity, 0, sizeof h->velocity);
    for (uint64_t step = 0; step < REPAIR; step++)
        train_step(h, STEPS + step, 0.004, NULL, anchor);
    must(h, qrb_anchor_distance(anchor, &distance));
    printf("repaired: loss %.4f, distance %.3f\n", evaluate(h), distance);
    printf("largest hidden activation: %.3f\n", h->largest);

    qrb_noise_destroy(anchor);
    qrb_noise_destroy(attack);
    qrb_tensor_destroy(h->view);
    qrb_pass_destroy(h->pass);
    qrb_model_destroy(h->model);
    qrb_context_destroy(h->ctx);
    return 0;
}
