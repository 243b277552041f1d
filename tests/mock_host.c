/* Arithmetic in double over float weights; nothing here knows more of the
 * library than its public headers. */
#include "mock_host.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* A batch of the host's own: pairs of a token and its successor. */
struct own_batch {
    size_t rows;
    int32_t x[32];
    int32_t y[32];
};

struct position {
    double e[MOCK_DIM];
    double t[MOCK_HIDDEN]; /* tanh(u) */
    double h[MOCK_DIM];
    double p[MOCK_VOCAB]; /* logits, then probabilities */
};

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

void mock_text(int32_t *tokens, size_t count, uint32_t seed)
{
    uint32_t state = seed;
    int32_t token = 1;

    for (size_t i = 0; i < count; i++) {
        tokens[i] = token;
        if (next_random(&state) % 8 == 0)
            token = (int32_t)(next_random(&state) % MOCK_VOCAB);
        else
            token = (5 * token + 3) % MOCK_VOCAB;
    }
}

/* Count a call and say how it is to end. */
static int enter(struct mock_host *host, enum mock_callback callback,
                 int *broken)
{
    const size_t many = host->fail_many == 0 ? 1 : host->fail_many;

    host->calls++;
    host->counts[callback]++;
    if (broken != NULL)
        *broken = host->calls == host->nan_at;
    if (host->inside != NULL)
        host->inside(host, callback);
    if (host->fail_at != 0 && host->calls >= host->fail_at &&
        host->calls < host->fail_at + many)
        return host->fail_code;
    return 0;
}

/* Hand what is at a point to the pass in force, if any.  Activations are
 * doubles here, so that a listener's change is exact.  A status that is not
 * QRB_OK goes on to whoever called the callback. */
static int tap(struct mock_host *host, uint32_t point, size_t index,
               double *values, size_t n)
{
    const size_t shape[2] = { 1, n };
    qrb_pass *pass = qrb_model_pass(host->model);
    qrb_status status;

    if (pass == NULL || !qrb_tap_wanted(pass, point, index))
        return 0;
    status = qrb_tensor_point(host->activation, shape, values);
    if (status == QRB_OK)
        status = qrb_tap(pass, point, index, host->activation);
    return status == QRB_OK ? 0 : QRB_CALLBACK_STATUS(status);
}

static int forward(struct mock_host *host, int32_t x, struct position *at)
{
    const float *embed = host->weights[MOCK_EMBED] + (size_t)x * MOCK_DIM;
    const float *fc1 = host->weights[MOCK_FC1];
    const float *fc2 = host->weights[MOCK_FC2];
    const float *head = host->weights[MOCK_HEAD];
    double u[MOCK_HIDDEN];
    double f[MOCK_DIM];
    int code;

    for (size_t d = 0; d < MOCK_DIM; d++)
        at->e[d] = (double)embed[d];
    code = tap(host, QRB_TAP_LAYER_INPUT, 0, at->e, MOCK_DIM);
    if (code == 0)
        code = tap(host, QRB_TAP_LINEAR_INPUT, MOCK_FC1, at->e, MOCK_DIM);
    if (code != 0)
        return code;
    for (size_t i = 0; i < MOCK_HIDDEN; i++) {
        u[i] = (double)host->weights[MOCK_BIAS][i];
        for (size_t d = 0; d < MOCK_DIM; d++)
            u[i] += (double)fc1[i * MOCK_DIM + d] * at->e[d];
    }
    code = tap(host, QRB_TAP_LINEAR_OUTPUT, MOCK_FC1, u, MOCK_HIDDEN);
    if (code != 0)
        return code;
    for (size_t i = 0; i < MOCK_HIDDEN; i++)
        at->t[i] = tanh(u[i]);
    code = tap(host, QRB_TAP_LINEAR_INPUT, MOCK_FC2, at->t, MOCK_HIDDEN);
    if (code != 0)
        return code;
    for (size_t d = 0; d < MOCK_DIM; d++) {
        f[d] = 0.0;
        for (size_t i = 0; i < MOCK_HIDDEN; i++)
            f[d] += (double)fc2[d * MOCK_HIDDEN + i] * at->t[i];
    }
    code = tap(host, QRB_TAP_LINEAR_OUTPUT, MOCK_FC2, f, MOCK_DIM);
    if (code != 0)
        return code;
    for (size_t d = 0; d < MOCK_DIM; d++)
        at->h[d] = at->e[d] + f[d];
    for (size_t v = 0; v < MOCK_VOCAB; v++) {
        at->p[v] = 0.0;
        for (size_t d = 0; d < MOCK_DIM; d++)
            at->p[v] += (double)head[v * MOCK_DIM + d] * at->h[d];
    }
    return 0;
}

/* Logits become probabilities; the negative log-likelihood of y. */
static double softmax(struct position *at, int32_t y)
{
    double largest = at->p[0];
    double sum = 0.0;
    double nll;

    for (size_t v = 1; v < MOCK_VOCAB; v++)
        largest = at->p[v] > largest ? at->p[v] : largest;
    for (size_t v = 0; v < MOCK_VOCAB; v++)
        sum += exp(at->p[v] - largest);
    nll = log(sum) + largest - at->p[y];
    for (size_t v = 0; v < MOCK_VOCAB; v++)
        at->p[v] = exp(at->p[v] - largest) / sum;
    return nll;
}

/* Add scale * d nll to the gradients. */
static int backward(struct mock_host *host, int32_t x, int32_t y, double scale,
                    const struct position *at)
{
    const float *fc1 = host->weights[MOCK_FC1];
    const float *fc2 = host->weights[MOCK_FC2];
    const float *head = host->weights[MOCK_HEAD];
    float *const *g = host->gradients;
    double dh[MOCK_DIM] = { 0 };
    double de[MOCK_DIM];
    double du[MOCK_HIDDEN];
    int code;

    for (size_t v = 0; v < MOCK_VOCAB; v++) {
        const double dz = scale * (at->p[v] - (v == (size_t)y ? 1.0 : 0.0));

        for (size_t d = 0; d < MOCK_DIM; d++) {
            dh[d] += dz * (double)head[v * MOCK_DIM + d];
            g[MOCK_HEAD][v * MOCK_DIM + d] += (float)(dz * at->h[d]);
        }
    }
    code =
        tap(host, QRB_TAP_LINEAR_OUTPUT | QRB_TAP_GRAD, MOCK_FC2, dh, MOCK_DIM);
    if (code != 0)
        return code;
    memcpy(de, dh, sizeof de);
    for (size_t i = 0; i < MOCK_HIDDEN; i++) {
        double dt = 0.0;

        for (size_t d = 0; d < MOCK_DIM; d++) {
            dt += dh[d] * (double)fc2[d * MOCK_HIDDEN + i];
            g[MOCK_FC2][d * MOCK_HIDDEN + i] += (float)(dh[d] * at->t[i]);
        }
        du[i] = dt * (1.0 - at->t[i] * at->t[i]);
        g[MOCK_BIAS][i] += (float)du[i];
        for (size_t d = 0; d < MOCK_DIM; d++) {
            de[d] += du[i] * (double)fc1[i * MOCK_DIM + d];
            g[MOCK_FC1][i * MOCK_DIM + d] += (float)(du[i] * at->e[d]);
        }
    }
    code = tap(host, QRB_TAP_LAYER_INPUT | QRB_TAP_GRAD, 0, de, MOCK_DIM);
    if (code != 0)
        return code;
    for (size_t d = 0; d < MOCK_DIM; d++)
        g[MOCK_EMBED][(size_t)x * MOCK_DIM + d] += (float)de[d];
    return 0;
}

/* Call visit for each scored pair of a batch of either kind. */
typedef int (*visit_fn)(struct mock_host *host, size_t row, int32_t x,
                        int32_t y, void *arg);

static int each_pair(struct mock_host *host, const void *batch, visit_fn visit,
                     void *arg)
{
    const struct own_batch *own = batch;
    const qrb_token_batch *tokens = batch;
    size_t row = 0;
    int code;

    if (host->activation == NULL || batch == NULL)
        return -1;
    if (host->own_batches) {
        for (; row < own->rows; row++) {
            code = visit(host, row, own->x[row], own->y[row], arg);
            if (code != 0)
                return code;
        }
        return 0;
    }
    for (size_t s = 0; s < tokens->sequences; s++)
        for (size_t t = tokens->first_scored[s]; t < tokens->length; t++) {
            const int32_t *at = tokens->tokens + s * tokens->length + t;

            code = visit(host, row++, at[-1], at[0], arg);
            if (code != 0)
                return code;
        }
    return 0;
}

static int count_pair(struct mock_host *host, size_t row, int32_t x, int32_t y,
                      void *arg)
{
    (void)host;
    (void)x;
    (void)y;
    *(size_t *)arg = row + 1;
    return 0;
}

struct training {
    double loss;
    double scale; /* of a pair's gradient; 0: forward only */
};

static int train_pair(struct mock_host *host, size_t row, int32_t x, int32_t y,
                      void *arg)
{
    struct training *training = arg;
    struct position at;
    int code;

    (void)row;
    code = forward(host, x, &at);
    if (code != 0)
        return code;
    training->loss += softmax(&at, y);
    return training->scale == 0.0 ? 0
                                  : backward(host, x, y, training->scale, &at);
}

static int run_loss(struct mock_host *host, const void *batch, double weight,
                    double *mean_loss, size_t *scored)
{
    struct training training = { 0.0, 0.0 };
    size_t rows = 0;
    int code;

    each_pair(host, batch, count_pair, &rows);
    training.scale = rows == 0 ? 0.0 : weight / (double)rows;
    code = each_pair(host, batch, train_pair, &training);
    *mean_loss = training.loss / (double)rows;
    *scored = rows;
    return code;
}

static int loss_and_grad(const void *batch, double weight, double *mean_loss,
                         size_t *scored, void *user)
{
    struct mock_host *host = user;
    int broken;
    int code = enter(host, MOCK_LOSS_AND_GRAD, &broken);

    if (code != 0)
        return code;
    code = run_loss(host, batch, weight, mean_loss, scored);
    if (broken)
        *mean_loss = NAN;
    return code;
}

static int loss(const void *batch, double *mean_loss, size_t *scored,
                void *user)
{
    struct mock_host *host = user;
    int broken;
    int code = enter(host, MOCK_LOSS, &broken);

    if (code != 0)
        return code;
    code = run_loss(host, batch, 0.0, mean_loss, scored);
    if (broken)
        *mean_loss = NAN;
    return code;
}

struct output {
    float *logits;
    int32_t *targets;
    float *nll;
};

static int output_pair(struct mock_host *host, size_t row, int32_t x, int32_t y,
                       void *arg)
{
    const struct output *output = arg;
    struct position at;
    const int code = forward(host, x, &at);

    if (code != 0)
        return code;
    if (output->logits != NULL) {
        for (size_t v = 0; v < MOCK_VOCAB; v++)
            output->logits[row * MOCK_VOCAB + v] = (float)at.p[v];
        output->targets[row] = y;
    }
    if (output->nll != NULL)
        output->nll[row] = (float)softmax(&at, y);
    return 0;
}

static int logits(const void *batch, float *out, int32_t *targets, size_t rows,
                  void *user)
{
    struct mock_host *host = user;
    struct output output = { out, targets, NULL };
    int broken;
    int code = enter(host, MOCK_LOGITS, &broken);

    if (code == 0)
        code = each_pair(host, batch, output_pair, &output);
    if (code == 0 && broken)
        out[rows * MOCK_VOCAB - 1] = NAN;
    return code;
}

static int token_nll(const void *batch, float *nll, size_t rows, void *user)
{
    struct mock_host *host = user;
    struct output output = { NULL, NULL, nll };
    int broken;
    int code = enter(host, MOCK_TOKEN_NLL, &broken);

    if (code == 0)
        code = each_pair(host, batch, output_pair, &output);
    if (code == 0 && broken)
        nll[rows - 1] = NAN;
    return code;
}

static int get_batch(uint32_t stream, uint64_t index, void **batch,
                     size_t *rows, void *user)
{
    struct mock_host *host = user;
    int32_t text[33];
    struct own_batch *own;
    int code = enter(host, MOCK_BATCH, NULL);

    if (code != 0)
        return code;
    if (index >= MOCK_BATCHES)
        return 0; /* *batch stays NULL: the end of the stream */
    own = malloc(sizeof *own);
    if (own == NULL)
        return -1;
    mock_text(text, 33, (uint32_t)(1000 * stream + index));
    memcpy(own->x, text, sizeof own->x);
    memcpy(own->y, text + 1, sizeof own->y);
    own->rows = 20 + index % 13;
    *batch = own;
    *rows = own->rows;
    host->batches++;
    return 0;
}

static void release_batch(void *batch, void *user)
{
    struct mock_host *host = user;

    host->counts[MOCK_BATCH_RELEASE]++;
    host->batches--;
    if (host->inside != NULL)
        host->inside(host, MOCK_BATCH_RELEASE);
    free(batch);
}

static int zero_grad(void *user)
{
    struct mock_host *host = user;
    const int code = enter(host, MOCK_ZERO_GRAD, NULL);

    for (int p = 0; p < MOCK_PARAMETERS && code == 0; p++)
        memset(host->gradients[p], 0,
               host->elements[p] * sizeof *host->gradients[p]);
    return code;
}

static int set_mode(uint32_t mode, void *user)
{
    struct mock_host *host = user;
    const int code = enter(host, MOCK_SET_MODE, NULL);

    if (code == 0)
        host->mode = mode;
    return code;
}

static int select_model(uint32_t pass_role, void *user)
{
    (void)pass_role;
    return enter(user, MOCK_SELECT_MODEL, NULL);
}

static int weights_written(size_t parameter, void *user)
{
    (void)parameter;
    return enter(user, MOCK_WEIGHTS_WRITTEN, NULL);
}

static void user_free(void *user)
{
    struct mock_host *host = user;

    if (host->freed != NULL)
        *host->freed = 1;
}

static qrb_status add_parameter(struct mock_host *host, enum mock_parameter p,
                                const char *name, uint32_t role, int32_t layer,
                                size_t rows, size_t cols, uint32_t *state)
{
    qrb_parameter parameter = QRB_PARAMETER_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *weight = NULL;
    qrb_tensor *gradient = NULL;
    const double range = 1.0 / sqrt((double)(cols == 0 ? 100 : cols));
    const size_t n = rows * (cols == 0 ? 1 : cols);
    qrb_status status;

    host->elements[p] = n;
    host->weights[p] = malloc(n * sizeof *host->weights[p]);
    host->gradients[p] = calloc(n, sizeof *host->gradients[p]);
    if (host->weights[p] == NULL || host->gradients[p] == NULL)
        return QRB_E_NO_MEMORY;
    for (size_t i = 0; i < n; i++)
        host->weights[p][i] =
            (float)(range * (next_random(state) * 0x1p-23 - 1.0));
    shape.rank = cols == 0 ? 1 : 2;
    shape.shape[0] = rows;
    shape.shape[1] = cols;
    shape.memory = host->weights[p];
    status = qrb_tensor_create(host->ctx, &shape, &weight);
    shape.memory = host->gradients[p];
    if (status == QRB_OK)
        status = qrb_tensor_create(host->ctx, &shape, &gradient);
    parameter.name = name;
    parameter.role = role;
    parameter.layer = layer;
    parameter.weight = weight;
    parameter.gradient = gradient;
    if (status == QRB_OK)
        status = qrb_model_add_parameter(host->model, &parameter, NULL);
    qrb_tensor_destroy(gradient);
    qrb_tensor_destroy(weight);
    return status;
}

static qrb_status add_parameters(struct mock_host *host, uint32_t seed)
{
    static const struct {
        const char *name;
        uint32_t role;
        int32_t layer;
        size_t rows;
        size_t cols;
    } parameters[MOCK_PARAMETERS] = {
        { "embed", QRB_ROLE_EMBED, -1, MOCK_VOCAB, MOCK_DIM },
        { "block.0.fc1", QRB_ROLE_FC1, 0, MOCK_HIDDEN, MOCK_DIM },
        { "block.0.bias", QRB_ROLE_BIAS, 0, MOCK_HIDDEN, 0 },
        { "block.0.fc2", QRB_ROLE_FC2, 0, MOCK_DIM, MOCK_HIDDEN },
        { "head", QRB_ROLE_HEAD, -1, MOCK_VOCAB, MOCK_DIM },
    };
    qrb_status status = QRB_OK;

    for (int p = 0; p < MOCK_PARAMETERS && status == QRB_OK; p++)
        status = add_parameter(host, (enum mock_parameter)p, parameters[p].name,
                               parameters[p].role, parameters[p].layer,
                               parameters[p].rows, parameters[p].cols, &seed);
    return status;
}

qrb_status mock_host_create(qrb_context *ctx, enum mock_kind kind,
                            uint32_t seed,
                            void (*adjust)(qrb_host_callbacks *callbacks),
                            struct mock_host **out)
{
    qrb_host_callbacks callbacks = QRB_HOST_CALLBACKS_INIT;
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;
    struct mock_host *host;
    double element = 0.0;
    qrb_status status;

    *out = NULL;
    host = calloc(1, sizeof *host);
    if (host == NULL)
        return QRB_E_NO_MEMORY;
    host->ctx = ctx;
    host->own_batches = kind == MOCK_OWN_BATCHES;
    callbacks.user = host;
    callbacks.user_free = user_free;
    callbacks.loss_and_grad = loss_and_grad;
    callbacks.loss = loss;
    callbacks.logits = logits;
    callbacks.token_nll = token_nll;
    callbacks.zero_grad = zero_grad;
    callbacks.set_mode = set_mode;
    callbacks.select_model = select_model;
    callbacks.weights_written = weights_written;
    callbacks.vocab = MOCK_VOCAB;
    if (kind == MOCK_TOKEN_BATCHES) {
        callbacks.flags = QRB_HOST_TOKEN_BATCHES;
    } else {
        callbacks.batch = get_batch;
        callbacks.batch_release = release_batch;
    }
    if (adjust != NULL)
        adjust(&callbacks);
    status = qrb_model_create(ctx, &callbacks, &host->model);
    if (status == QRB_OK)
        status = add_parameters(host, seed);
    view.dtype = QRB_F64;
    view.rank = 2;
    view.shape[0] = 1;
    view.shape[1] = 1;
    view.memory = &element; /* pointed elsewhere before it is used */
    if (status == QRB_OK)
        status = qrb_tensor_create(ctx, &view, &host->activation);
    if (status != QRB_OK) {
        mock_host_destroy(host);
        return status;
    }
    *out = host;
    return QRB_OK;
}

void mock_host_destroy(struct mock_host *host)
{
    if (host == NULL)
        return;
    qrb_model_destroy(host->model);
    qrb_tensor_destroy(host->activation);
    for (int p = 0; p < MOCK_PARAMETERS; p++) {
        free(host->weights[p]);
        free(host->gradients[p]);
    }
    free(host);
}

size_t mock_weight_count(const struct mock_host *host)
{
    size_t count = 0;

    for (int p = 0; p < MOCK_PARAMETERS; p++)
        count += host->elements[p];
    return count;
}

void mock_copy_weights(const struct mock_host *host, float *out)
{
    for (int p = 0; p < MOCK_PARAMETERS; p++) {
        memcpy(out, host->weights[p], host->elements[p] * sizeof *out);
        out += host->elements[p];
    }
}

int mock_weights_equal(const struct mock_host *host, const float *expected)
{
    for (int p = 0; p < MOCK_PARAMETERS; p++) {
        if (memcmp(host->weights[p], expected,
                   host->elements[p] * sizeof *expected) != 0)
            return 0;
        expected += host->elements[p];
    }
    return 1;
}
