/* A host written by hand: a small language model with a manual backward pass
 * that meets the library through public headers only.
 *
 * Position by position: e = embed[x]; u = fc1 e + bias; h = e + fc2 tanh(u);
 * logits = head h; loss = mean cross-entropy of the next token.  The two
 * matrices inside its one block are what default filters select.
 *
 * Every call of a callback is counted, and any of them can be made to fail. */
#ifndef TESTS_MOCK_HOST_H
#define TESTS_MOCK_HOST_H

#include <qrobust/qrobust.h>

enum mock_parameter {
    MOCK_EMBED, /* [vocab, dim] */
    MOCK_FC1,   /* [hidden, dim] */
    MOCK_BIAS,  /* [hidden] */
    MOCK_FC2,   /* [dim, hidden] */
    MOCK_HEAD,  /* [vocab, dim] */
    MOCK_PARAMETERS
};

enum { MOCK_VOCAB = 16, MOCK_DIM = 8, MOCK_HIDDEN = 12, MOCK_BATCHES = 40 };

/* Names of the callbacks, in mock_host.counts. */
enum mock_callback {
    MOCK_BATCH,
    MOCK_BATCH_RELEASE, /* void: counted, cannot fail */
    MOCK_LOSS_AND_GRAD,
    MOCK_LOSS,
    MOCK_LOGITS,
    MOCK_TOKEN_NLL,
    MOCK_ZERO_GRAD,
    MOCK_SET_MODE,
    MOCK_SELECT_MODEL,
    MOCK_WEIGHTS_WRITTEN,
    MOCK_CALLBACKS
};

/* How the host wants its batches. */
enum mock_kind {
    MOCK_TOKEN_BATCHES, /* those of the library */
    MOCK_OWN_BATCHES    /* MOCK_BATCHES of its own in each stream */
};

struct mock_host {
    qrb_context *ctx;
    qrb_model *model; /* parameter i is enum mock_parameter */
    float *weights[MOCK_PARAMETERS];
    float *gradients[MOCK_PARAMETERS];
    size_t elements[MOCK_PARAMETERS];
    qrb_tensor *activation; /* a view that is pointed at what is tapped */
    uint32_t mode;          /* of the last set_mode */
    int own_batches;        /* 1: MOCK_OWN_BATCHES */

    size_t calls; /* of callbacks that can fail */
    size_t counts[MOCK_CALLBACKS];
    size_t fail_at;   /* the call, from 1, that answers fail_code; 0: none */
    size_t fail_many; /* how many calls from there on do; 0 is 1 */
    int fail_code;
    size_t nan_at;  /* the call whose loss, logits or nll are NaN */
    size_t batches; /* own batches that are not released yet */
    /* Runs inside every callback, the void ones too; NULL: nothing. */
    void (*inside)(struct mock_host *host, enum mock_callback callback);
    void *inside_user;
    int *freed; /* set to 1 by user_free; NULL: nobody looks */
};

/* A model of weights that are a function of `seed` alone; frees what it took
 * when it fails.  `adjust` may change the callbacks before the model is made;
 * NULL: all are there. */
qrb_status mock_host_create(qrb_context *ctx, enum mock_kind kind,
                            uint32_t seed,
                            void (*adjust)(qrb_host_callbacks *callbacks),
                            struct mock_host **out);
void mock_host_destroy(struct mock_host *host);

/* A text that the model can learn: mostly tokens[i + 1] = 5 tokens[i] + 3. */
void mock_text(int32_t *tokens, size_t count, uint32_t seed);

/* All weights one after another, for comparisons: as many floats as
 * mock_weight_count(). */
size_t mock_weight_count(const struct mock_host *host);
void mock_copy_weights(const struct mock_host *host, float *out);
/* 1 if all weights have these bits. */
int mock_weights_equal(const struct mock_host *host, const float *expected);

#endif
