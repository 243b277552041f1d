/* The engine behind a qrb_model: parameters, a graph with its plan and arena,
 * and the batch at hand.  A model of the engine owns it through the `user` of
 * its callbacks. */
#ifndef QRB_ENGINE_ENGINE_H
#define QRB_ENGINE_ENGINE_H

#include <qrobust/engine.h>
#include <qrobust/source.h>

#include "engine/cache.h"
#include "engine/plan.h"
#include "model/model.h"

enum { QRB__ENGINE_NAME_SIZE = 80 };

/* A parameter as the architecture lists it. */
struct qrb__engine_parameter {
    char name[QRB__ENGINE_NAME_SIZE];
    size_t rows;
    size_t columns; /* 0: a vector of `rows` elements */
    uint32_t role;
    int32_t layer;
    /* From the registry at each batch, as a host may move what it likes. */
    void *weight;
    void *gradient; /* NULL: none */
};

/* What a forward pass is for. */
enum qrb__sink {
    QRB__SINK_NLL,       /* negative log-likelihoods, and perhaps gradients */
    QRB__SINK_LOGITS,    /* into `logits`, of the engine's type */
    QRB__SINK_LOGITS_F32 /* into `logits`, of floats */
};

/* A row that predicts. */
struct qrb__scored {
    uint32_t row;   /* of the tokens that are computed */
    int32_t target; /* -1: none */
};

/* The batch at hand: tokens[s * stride + t], t < length. */
struct qrb__engine_batch {
    const int32_t *tokens;
    size_t stride;
    size_t sequences;
    size_t length;
    size_t rows;   /* sequences * length */
    size_t scored; /* how many of e->scored */
    uint32_t sink;
    void *logits;
    double scale; /* of the loss's gradient */
    qrb_pass *pass; /* NULL: no taps */
};

/* The parts of a pass, as a watch is told of them. */
enum qrb__phase {
    QRB__PHASE_FORWARD,
    QRB__PHASE_BACKWARD,
    QRB__PHASE_WEIGHTS, /* sums over rows, after the backward pass */
    QRB__PHASES
};

/* Told when an op begins and ends on a block of rows, on the thread that does
 * it, or as a whole, which may be the work of all threads. */
struct qrb__watch {
    void (*fn)(const struct qrb__op *op, uint32_t phase, bool begins,
               void *user); /* NULL: nobody */
    void *user;
};

struct qrb__engine {
    qrb_context *ctx;
    qrb_model *model;
    qrb_engine_config config;
    uint32_t dtype;
    bool trainable;

    struct qrb__engine_parameter *parameters;
    size_t parameter_count;
    size_t parameter_capacity;
    void *weights; /* one array for all; NULL: pages of the file */
    qrb_safetensors *file; /* NULL: no weights are its pages */
    void *gradients;

    struct qrb__graph graph;
    struct qrb__plan plan;
    struct qrb__capacity capacity[2]; /* without and with a backward pass */
    void *arena;
    size_t arena_elements;
    struct qrb__scored *scored; /* [capacity.tokens] */
    size_t scored_capacity;
    void *cosine; /* [rotary_length, head_dim / 2] */
    void *sine;
    size_t rotary_length;
    unsigned char *tapped; /* [ops]: what was tapped on the way forward */

    struct qrb__engine_batch batch;
    struct qrb__cache *cache; /* of a generator; NULL: whole sequences */
    struct qrb__watch watch;  /* of benches */
};

/* Bytes of an element. */
size_t qrb__engine_real(const struct qrb__engine *engine);
size_t qrb__engine_elements(const struct qrb__engine_parameter *parameter);

/* Whether a parameter's rows are those of rotating heads. */
bool qrb__engine_rotates(const struct qrb__engine_parameter *parameter);
/* Copy its rows, of neighbouring pairs, in half-split order. */
qrb_status qrb__engine_turn(const struct qrb__engine *engine,
                            const struct qrb__engine_parameter *parameter,
                            const struct qrb__view *from, void *to);

/* The engine of a model; QRB_E_STATE if it is a host's. */
qrb_status qrb__engine_find(const qrb_model *model, struct qrb__engine **out);

/* Make an engine with its parameter list and graph, without weights; the
 * configuration is checked, and what it leaves out filled in. */
qrb_status qrb__engine_make(qrb_context *ctx, const qrb_engine_config *config,
                            const qrb_engine_options *options,
                            struct qrb__engine **out);
/* One array for all weights, unless they are the file's, and one for gradients
 * if it is to train. */
qrb_status qrb__engine_allocate(struct qrb__engine *engine, bool weights);
/* Register everything; the model owns the engine when this succeeds. */
qrb_status qrb__engine_publish(struct qrb__engine *engine, qrb_model **out);
void qrb__engine_destroy(struct qrb__engine *engine);

/* Read a parameter out of a llama2.c checkpoint. */
struct qrb__llama2c;
qrb_status qrb__engine_read_llama2c(
    const struct qrb__llama2c *checkpoint,
    const struct qrb__engine_parameter *parameter,
    const struct qrb__view *target);

/* Read a parameter out of a GGUF file; refuse a tensor of the file that is
 * none of the parameters. */
struct qrb__gguf;
qrb_status qrb__engine_read_gguf(const struct qrb__engine *engine,
                                 const struct qrb__gguf *file,
                                 const struct qrb__engine_parameter *parameter,
                                 const struct qrb__view *target);
qrb_status qrb__engine_refuse_gguf(const struct qrb__engine *engine,
                                   const struct qrb__gguf *file);

/* List the parameters of Llama and Qwen2 models and build their graph. */
qrb_status qrb__llama_build(struct qrb__engine *engine);

/* Take a batch: check tokens, lay out and allocate what is missing.
 * first_scored NULL: every row is scored, without targets. */
qrb_status qrb__engine_prepare(struct qrb__engine *engine,
                               const int32_t *tokens, size_t sequences,
                               size_t length, const size_t *first_scored,
                               bool training);
/* What a batch needs beside its layout.  Tables of angles for positions below
 * length; whether the file of the weights is whole; where the registry has
 * weights and gradients now. */
qrb_status qrb__engine_grow_rotary(struct qrb__engine *engine, size_t length);
qrb_status qrb__engine_check_file(const struct qrb__engine *engine);
void qrb__engine_find_parameters(struct qrb__engine *engine);
/* Bytes that the engine holds after such a batch. */
qrb_status qrb__engine_bytes(const struct qrb__engine *engine,
                             size_t sequences, size_t length, bool training,
                             uint64_t *out);

/* Run the graph. */
qrb_status qrb__engine_forward_f32(struct qrb__engine *engine);
qrb_status qrb__engine_forward_f64(struct qrb__engine *engine);
qrb_status qrb__engine_backward_f32(struct qrb__engine *engine);
qrb_status qrb__engine_backward_f64(struct qrb__engine *engine);

/* Negative log-likelihoods of the scored rows, after a pass, and their mean,
 * summed in order of rows. */
const double *qrb__engine_nll(const struct qrb__engine *engine);
double qrb__engine_mean_nll(const struct qrb__engine *engine);

/* Hand a dense tensor to the pass if anyone listens there. */
bool qrb__engine_wanted(const struct qrb__engine *engine, uint32_t point,
                        size_t index);
qrb_status qrb__engine_tap(const struct qrb__engine *engine, uint32_t point,
                           size_t index, uint32_t rank, const size_t *shape,
                           void *memory);
/* Flags of the plan that the listeners of the pass ask for. */
uint32_t qrb__engine_tap_flags(const struct qrb__engine *engine,
                               bool training);

/* The callbacks. */
void qrb__engine_callbacks(struct qrb__engine *engine,
                           qrb_host_callbacks *out);

#endif
