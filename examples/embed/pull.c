/* The pull contract: the library owns the loop and calls the host back.
 *
 * A two-layer language model, logits = fc2 tanh(fc1 one_hot(x) + bias), has a
 * forward and a backward pass and nothing else.  Through two callbacks the
 * library trains it, finds the noise that makes its perplexity 20 % higher,
 * repairs it towards the clean weights and measures it, also in four bits. */
#include <qrobust/qrobust.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 32, HIDDEN = 64, TEXT = 20000, HELD_OUT = 5000 };
enum { FC1, BIAS, FC2, PARAMETERS };

struct host {
    qrb_context *ctx;
    float fc1[VOCAB][HIDDEN]; /* stored [in, out]: a row a token */
    float bias[HIDDEN];
    float fc2[VOCAB][HIDDEN];
    float fc1_grad[VOCAB][HIDDEN];
    float bias_grad[HIDDEN];
    float fc2_grad[VOCAB][HIDDEN];
};

static void must(const struct host *h, qrb_status status)
{
    if (status != QRB_OK) {
        fprintf(stderr, "pull: %s: %s\n", qrb_status_name(status),
                qrb_context_message(h->ctx));
        exit(1);
    }
}

/* Hidden state and probabilities after token x; returns -ln p(y). */
static double forward(const struct host *h, int32_t x, int32_t y,
                      float *hidden, double *p)
{
    double largest = -INFINITY;
    double sum = 0.0;

    for (size_t i = 0; i < HIDDEN; i++)
        hidden[i] = tanhf(h->fc1[x][i] + h->bias[i]);
    for (size_t v = 0; v < VOCAB; v++) {
        p[v] = 0.0;
        for (size_t i = 0; i < HIDDEN; i++)
            p[v] += (double)(h->fc2[v][i] * hidden[i]);
        largest = fmax(largest, p[v]);
    }
    for (size_t v = 0; v < VOCAB; v++)
        sum += p[v] = exp(p[v] - largest);
    for (size_t v = 0; v < VOCAB; v++)
        p[v] /= sum;
    return -log(p[y]);
}

/* Adds scale * d(-ln p(y)) to the gradients. */
static void backward(struct host *h, int32_t x, int32_t y, double scale,
                     const float *hidden, const double *p)
{
    float du[HIDDEN] = { 0 };

    for (size_t v = 0; v < VOCAB; v++) {
        const float dz = (float)(scale * (p[v] - (v == (size_t)y)));

        for (size_t i = 0; i < HIDDEN; i++) {
            du[i] += dz * h->fc2[v][i];
            h->fc2_grad[v][i] += dz * hidden[i];
        }
    }
    for (size_t i = 0; i < HIDDEN; i++) {
        du[i] *= 1.0f - hidden[i] * hidden[i];
        h->bias_grad[i] += du[i];
        h->fc1_grad[x][i] += du[i];
    }
}

/* [begin callbacks] */
static size_t count_scored(const qrb_token_batch *batch)
{
    size_t scored = 0;

    for (size_t s = 0; s < batch->sequences; s++)
        scored += batch->length - batch->first_scored[s];
    return scored;
}

/* Adds weight * d(mean loss) to the gradients; 0 says that all went well. */
static int loss_and_grad(const void *any_batch, double weight,
                         double *mean_loss, size_t *scored, void *user)
{
    struct host *h = user;
    const qrb_token_batch *batch = any_batch;
    const size_t count = count_scored(batch);
    double sum = 0.0;

    for (size_t s = 0; s < batch->sequences; s++)
        for (size_t t = batch->first_scored[s]; t < batch->length; t++) {
            const int32_t *at = batch->tokens + s * batch->length + t;
            float hidden[HIDDEN];
            double p[VOCAB];

            sum += forward(h, at[-1], at[0], hidden, p);
            if (weight != 0.0)
                backward(h, at[-1], at[0], weight / (double)count, hidden, p);
        }
    *mean_loss = sum / (double)count;
    *scored = count;
    return 0;
}

/* One number for each scored token, in order. */
static int token_nll(const void *any_batch, float *nll, size_t rows,
                     void *user)
{
    const qrb_token_batch *batch = any_batch;
    size_t row = 0;

    if (rows != count_scored(batch))
        return -1; /* stops whatever the library is doing */
    for (size_t s = 0; s < batch->sequences; s++)
        for (size_t t = batch->first_scored[s]; t < batch->length; t++) {
            const int32_t *at = batch->tokens + s * batch->length + t;
            float hidden[HIDDEN];
            double p[VOCAB];

            nll[row++] = (float)forward(user, at[-1], at[0], hidden, p);
        }
    return 0;
}
/* [end callbacks] */

/* [begin model] */
static void add(struct host *h, qrb_model *model, const char *name,
                uint32_t role, void *weights, void *gradients, size_t rows,
                size_t cols)
{
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor *weight;
    qrb_tensor *gradient;

    shape.rank = cols > 0 ? 2 : 1;
    shape.shape[0] = rows;
    shape.shape[1] = cols;
    shape.memory = weights;
    must(h, qrb_tensor_create(h->ctx, &shape, &weight));
    shape.memory = gradients;
    must(h, qrb_tensor_create(h->ctx, &shape, &gradient));
    parameter.name = name;
    parameter.role = role; /* by which default filters select */
    parameter.layer = 0;   /* the first block */
    parameter.flags = role == QRB_ROLE_FC1 ? QRB_PARAM_TRANSPOSED : 0;
    parameter.weight = weight;
    parameter.gradient = gradient;
    must(h, qrb_model_add_parameter(model, &parameter, NULL));
    qrb_tensor_destroy(gradient); /* the model has copies of the views */
    qrb_tensor_destroy(weight);
}

static qrb_model *make_model(struct host *h)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    qrb_model *model;

    callbacks.user = h;
    callbacks.loss_and_grad = loss_and_grad;
    callbacks.token_nll = token_nll;
    callbacks.vocab = VOCAB;
    callbacks.flags = QRB_HOST_TOKEN_BATCHES; /* the library cuts the text */
    must(h, qrb_model_create(h->ctx, &callbacks, &model));
    add(h, model, "fc1", QRB_ROLE_FC1, h->fc1, h->fc1_grad, VOCAB, HIDDEN);
    add(h, model, "bias", QRB_ROLE_BIAS, h->bias, h->bias_grad, HIDDEN, 0);
    add(h, model, "fc2", QRB_ROLE_FC2, h->fc2, h->fc2_grad, VOCAB, HIDDEN);
    return model;
}
/* [end model] */

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

/* Mostly 5 x + 3 after x: its perplexity is 2.71 at the least. */
static void make_text(int32_t *tokens, size_t count, uint32_t state)
{
    int32_t token = 1;

    for (size_t i = 0; i < count; i++) {
        tokens[i] = token;
        token = next_random(&state) % 6 == 0
                    ? (int32_t)(next_random(&state) % VOCAB)
                    : (5 * token + 3) % VOCAB;
    }
}

/* [begin measure] */
/* Perplexity on held-out text as the weights are, and with nf4 matrices. */
static void report(struct host *h, qrb_model *model, const char *what,
                   const int32_t *tokens)
{
    qrb_metric_result fp32 = { .struct_size = sizeof fp32 };
    qrb_metric_result nf4 = { .struct_size = sizeof nf4 };
    qrb_quantizer *quantizer;
    qrb_snapshot *snapshot;

    must(h, qrb_evaluate_text(model, NULL, tokens, HELD_OUT, NULL, &fp32));
    must(h, qrb_quantizer_create_named(h->ctx, "nf4", &quantizer));
    must(h, qrb_snapshot_create(model, NULL, &snapshot));
    must(h, qrb_fake_quantize(model, quantizer, NULL));
    must(h, qrb_evaluate_text(model, NULL, tokens, HELD_OUT, NULL, &nf4));
    must(h, qrb_snapshot_restore(snapshot)); /* bit for bit */
    qrb_snapshot_destroy(snapshot);
    qrb_quantizer_destroy(quantizer);
    printf("%-9s perplexity %.4f, nf4 %.4f\n", what, fp32.perplexity,
           nf4.perplexity);
}
/* [end measure] */

/* [begin train] */
static void train(struct host *h, qrb_model *model, const int32_t *tokens)
{
    qrb_trainer_options options = QRB_TRAINER_OPTIONS_INIT;
    qrb_dataset *dataset;
    qrb_trainer *trainer;
    uint32_t state = 7;

    for (size_t v = 0; v < VOCAB; v++)
        for (size_t i = 0; i < HIDDEN; i++) {
            h->fc1[v][i] = (float)(next_random(&state) % 2001) / 1e3f - 1.0f;
            h->fc2[v][i] = (float)(next_random(&state) % 201) / 1e3f - 0.1f;
        }
    options.steps = 400;
    options.lr = 1e-2;
    options.schedule = QRB_SCHEDULE_COSINE;
    must(h, qrb_dataset_create(h->ctx, tokens, TEXT, NULL, &dataset));
    must(h, qrb_trainer_create(model, dataset, &options, &trainer));
    must(h, qrb_trainer_run(trainer, NULL));
    qrb_trainer_destroy(trainer);
    qrb_dataset_destroy(dataset);
}
/* [end train] */

int main(void)
{
    static struct host host;
    static struct host clean; /* a second set of weights: the anchor's */
    static int32_t text[TEXT];
    static int32_t held_out[HELD_OUT];
    struct host *h = &host;
    qrb_calibrate_result found = { .struct_size = sizeof found };
    qrb_repair_result repaired = { .struct_size = sizeof repaired };
    qrb_model *model;
    qrb_model *anchor;
    qrb_noise *attack;

    make_text(text, TEXT, 1);
    make_text(held_out, HELD_OUT, 2);
    must(h, qrb_context_create(NULL, &h->ctx));
    model = make_model(h);
    train(h, model, text);
    report(h, model, "clean:", held_out);

    clean = host;
    anchor = make_model(&clean);
    must(h, qrb_noise_create_attack(h->ctx, NULL, &attack));
    must(h, qrb_noise_bind(attack, model, NULL));
    must(h, qrb_attack_calibrate(model, attack, text, HELD_OUT, NULL,
                                 &found));
    must(h, qrb_attack_apply(attack));
    printf("noise of sigma %.4f: perplexity ratio %.3f\n", found.sigma,
           found.achieved_ratio);
    report(h, model, "attacked:", held_out);

    must(h, qrb_repair(model, anchor, text, TEXT, NULL, &repaired));
    printf("distance to the anchor %.3f, then %.3f\n",
           repaired.distance_before, repaired.distance_after);
    report(h, model, "repaired:", held_out);

    qrb_noise_destroy(attack);
    qrb_model_destroy(anchor);
    qrb_model_destroy(model);
    qrb_context_destroy(h->ctx);
    return 0;
}
