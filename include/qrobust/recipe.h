/* Whole-model drivers: evaluate, quantize, attack, repair. */
#ifndef QROBUST_RECIPE_H
#define QROBUST_RECIPE_H

#include <qrobust/metric.h>
#include <qrobust/quantizer.h>
#include <qrobust/train.h>

QRB_BEGIN_DECLS

/* Start from QRB_EVALUATE_OPTIONS_INIT. */
typedef struct qrb_evaluate_options {
    size_t struct_size;
    size_t context; /* tokens a window, at least 2; default 512 */
    size_t stride;  /* of sliding windows, 1..context - 1; default 256 */
    size_t batch;   /* windows a batch at most; default 8 */
    uint32_t mode;  /* enum qrb_window_mode; default sliding */
    int32_t bos;    /* token that opens each llama.cpp window; -1: none */
} qrb_evaluate_options;

#define QRB_EVALUATE_OPTIONS_INIT \
    { sizeof(qrb_evaluate_options), 512, 256, 8, QRB_WINDOW_SLIDING, -1 }

/**
 * Perplexity of a model on a text, exp of the mean negative log-likelihood of
 * its scored tokens, and with a base model KL and top-1 agreement at the same
 * positions.  qrb_window_at() says which tokens are
 * scored; each is scored once.  Windows that the host calls unusable, or whose
 * likelihood is not finite, are left out of `scored`; then nll and perplexity
 * are NaN, for the rest alone would flatter the model.
 *
 * Figures do not depend on the number of threads, nor on `batch` where the
 * host's do not.  Models are put into QRB_MODE_EVAL and left in it; passes in
 * force are used.  Where logits are needed, fewer windows share a batch if
 * those of `batch` would take more than 256 MiB.
 *
 * @param model  takes token batches, and has token_nll or logits
 * @param base   takes token batches and has logits over the same vocabulary,
 *               as the model must then; the model itself where the host has
 *               select_model, which is called with QRB_PASS_BASE and
 *               QRB_PASS_QUANTIZED for each batch and with QRB_PASS_STUDENT at
 *               the end; NULL: perplexity only
 * @param tokens [count], each below the vocabulary; the first is context and
 *               never scored
 * @param options NULL: the defaults
 * @param out    set struct_size first; untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an option out of its range, a token
 *         outside the vocabulary); QRB_E_SHAPE (nothing to score, such as no
 *         whole window in llama.cpp mode; vocabularies that differ);
 *         QRB_E_UNSUPPORTED (callbacks that are not there); QRB_E_NOT_FINITE
 *         (no window could be scored); QRB_E_CALLBACK; QRB_E_CANCELLED;
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_evaluate_text(qrb_model *model, qrb_model *base,
                                     const int32_t *tokens, size_t count,
                                     const qrb_evaluate_options *options,
                                     qrb_metric_result *out);

/**
 * The same over the batches of the host's evaluation stream, from index 0 to
 * its end; compared with the base where the host has logits and select_model.
 *
 * @param out set struct_size first; untouched on failure
 * @return as qrb_evaluate_text(); QRB_E_SHAPE (the stream scored nothing);
 *         QRB_E_UNSUPPORTED (no `batch`)
 */
QRB_API qrb_status qrb_evaluate_batches(qrb_model *model,
                                        qrb_metric_result *out);

/**
 * Perplexity of each prompt on its own, exp of the mean over its tokens but
 * the first; NaN for prompts of fewer than two tokens and for
 * those that the host cannot use.  A figure does not depend on the other
 * prompts.
 *
 * @param tokens         all prompts one after another, each token below the
 *                       vocabulary
 * @param lengths        [prompts]
 * @param perplexity_out [prompts], untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, a token outside the vocabulary:
 *         the message names prompt and token); QRB_E_SHAPE (no prompt);
 *         QRB_E_UNSUPPORTED; QRB_E_CALLBACK; QRB_E_CANCELLED;
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_evaluate_prompts(qrb_model *model,
                                        const int32_t *tokens,
                                        const size_t *lengths, size_t prompts,
                                        double *perplexity_out);

/**
 * Fake-quantize the weights that a filter selects, in place; undo it with a
 * snapshot taken before.  Rows are outputs: what is stored [in, out]
 * (QRB_PARAM_TRANSPOSED) is seen transposed, and filters of a convolution with
 * the axes behind the first as one.  The weights get the bits that
 * qrb_quantizer_fake() gives each; on failure none is changed.  Memory is one
 * copy of the selected weights.
 *
 * @param filter NULL: every matrix inside blocks
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, or nothing is selected);
 *         QRB_E_SHAPE (a vector, or no multiple of the group's size: the
 *         message names the tensor); QRB_E_NOT_FINITE (names the tensor);
 *         QRB_E_STATE (a weight is perturbed); QRB_E_CALLBACK
 *         (weights_written); QRB_E_CANCELLED; QRB_E_NO_MEMORY;
 *         QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_fake_quantize(qrb_model *model,
                                     const qrb_quantizer *quantizer,
                                     const qrb_filter *filter);

/** Yes, no, or as the method asks.  Pinned values. */
enum qrb_choice { QRB_AS_THE_METHOD = 0, QRB_ON = 1, QRB_OFF = 2 };

/* One matrix that qrb_quantize_model() has finished. */
typedef struct qrb_quantized_matrix {
    size_t struct_size;
    const char *name;   /* of the parameter */
    const char *method; /* in force: "smoothquant+rtn" */
    const char *note;   /* what was decided otherwise than asked, or "" */
    size_t parameter;   /* number of its registration */
    size_t done;        /* matrices that are finished, this one included */
    size_t total;       /* that the filter selects */
    uint64_t samples;   /* that were seen at its input; 0: none was needed */
    uint64_t tokens;    /* likewise */
    int32_t layer;      /* block, or -1 */
    uint32_t group_size; /* in force; 0: whole rows, or not of this kind */
    qrb_quantize_report report; /* output errors are those with the inputs that
                                   the method saw */
} qrb_quantized_matrix;

/**
 * Hears of each matrix of qrb_quantize_model() once its weights are written.
 *
 * @param matrix lives until the callback returns
 * @param packed the codes behind the weights: set *packed to NULL to keep
 *               them, and release them with qrb_packed_destroy() before the
 *               context goes
 * @return 0 goes on, anything else ends the call with QRB_E_CALLBACK
 */
typedef int (*qrb_quantized_fn)(const qrb_quantized_matrix *matrix,
                                qrb_packed **packed, void *user);

/* Start from QRB_QUANTIZE_OPTIONS_INIT. */
typedef struct qrb_quantize_options {
    size_t struct_size;
    const qrb_filter *filter; /* borrowed; NULL: every matrix inside blocks */
    qrb_quantized_fn done;    /* NULL: nobody listens, and no error is
                                 measured */
    void *user;               /* of `done` */
    size_t samples;      /* sequences of calibration, at least 1; default 128 */
    size_t context;      /* tokens of each, at least 1; default 512 */
    size_t finished;     /* matrices, in the order of the call, that an earlier
                            call has finished: their weights stay; default 0 */
    uint32_t propagate;  /* enum qrb_choice: inputs are those of a model whose
                            earlier matrices are quantized already; as the
                            method asks: on of GPTQ, else off */
    uint32_t sequential; /* enum qrb_choice: not only blocks but also the steps
                            inside a block one after another; as the method
                            asks: on where errors propagate */
    uint32_t undo;       /* 1: a call that fails or is cancelled puts all
                            weights back, at the price of a copy of them; 0:
                            finished matrices stay quantized, all others as
                            they were; default 1 */
    uint32_t reserved;   /* 0 */
} qrb_quantize_options;

#define QRB_QUANTIZE_OPTIONS_INIT \
    { sizeof(qrb_quantize_options), 0, 0, 0, 128, 512, 0, \
      QRB_AS_THE_METHOD, QRB_AS_THE_METHOD, 1, 0 }

/**
 * Quantize the weights that a filter selects, in place, by what a model's
 * linear layers are fed with.
 *
 * Block by block, calibration sequences run through the model, which taps at
 * QRB_TAP_LINEAR_INPUT; what is seen there is kept for the linears of this
 * block alone.  Then their weights become the values of their codes, and the
 * host is told of each (weights_written).
 *
 * With propagated errors blocks come in ascending order, and each is
 * calibrated on the model as it has become; with sequential steps the same
 * holds inside of a block, whose order is Q K V, then O, then GATE UP FC1,
 * then DOWN FC2, then all else (true-sequential order of Frantar et al.,
 * "GPTQ", ICLR 2023, arXiv:2210.17323).  Without, blocks come in descending
 * order, so that nothing that feeds a matrix has changed before its turn: all
 * statistics are those of the model as it was.  The number of a block is taken
 * for its place in the computation; what lies outside blocks is taken to come
 * behind them.
 *
 * Rules for what does not fit: where group_size divides no row, the last group
 * is shorter; where a row is shorter than group_size, it is one group; scales
 * of inputs (SMOOTHQUANT, AWQ) stay with their matrix, are folded into no norm,
 * and are of each matrix for itself.  The note of a matrix says which of these
 * was applied.  The objective of every method is that of the matrix itself,
 * |X (W - Q)^T|^2, also where a paper looks at a whole block.
 *
 * Memory beside the model's: the statistics of the linears of one step (4
 * columns^2 bytes each), what the quantizer takes for one matrix, one copy of
 * the tokens, with undo one of the selected weights, and for SQUEEZELLM a
 * float32 for each of them: it needs squared gradients, which are collected
 * first, over the model as it was (`loss_and_grad`), and leaves the gradients
 * undefined.  The result is a function of weights, text, options and the
 * context's seed: not of the number of threads.
 *
 * The model is put into QRB_MODE_EVAL and left in it; the pass in force rests
 * meanwhile.  What was tapped of a batch that the host then calls unusable
 * counts.
 *
 * @param tokens  [count] of the calibration text, of which sequences of
 *                context + 1 tokens (the last is a target only) are drawn as by
 *                qrb_dataset_batch(), for a host that takes token batches; NULL: the host's own batches
 *                of QRB_STREAM_CALIBRATION, at most `samples`.  Neither is
 *                looked at where the method needs no inputs and `done` is NULL;
 *                a method that needs none does without where there are none.
 * @param options NULL: the defaults
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an option out of its range, nothing
 *         is selected, a token outside the vocabulary, a method without the
 *         calibration that it needs); QRB_E_SHAPE (a vector; a text shorter
 *         than a sequence); QRB_E_NOT_FINITE (a weight, or an input of a
 *         layer: the message names it); QRB_E_STATE (a weight is perturbed);
 *         QRB_E_UNSUPPORTED (a method that needs inputs and a convolution, or
 *         a layer at which the host does not tap; a method that needs
 *         gradients where there are none; a kind without codes; callbacks
 *         that are not there); QRB_E_CALLBACK; QRB_E_CANCELLED;
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_quantize_model(qrb_model *model,
                                      const qrb_quantizer *quantizer,
                                      const int32_t *tokens, size_t count,
                                      const qrb_quantize_options *options);

/* Start from QRB_CALIBRATE_OPTIONS_INIT. */
typedef struct qrb_calibrate_options {
    size_t struct_size;
    double ratio;       /* target perplexity ratio, > 1; default 1.2 */
    double tolerance;   /* of the ratio, in (0, 1); default 0.01 */
    uint64_t seed;      /* of the draw that is written; default 0 */
    size_t search_seeds; /* draws seed, seed + 1, ... that are averaged while
                            searching; default 3 */
    const qrb_evaluate_options *evaluate; /* how perplexity is measured; NULL:
                                             the defaults; borrowed for the
                                             call */
} qrb_calibrate_options;

#define QRB_CALIBRATE_OPTIONS_INIT \
    { sizeof(qrb_calibrate_options), 1.2, 0.01, 0, 3, 0 }

/* Set struct_size first. */
typedef struct qrb_calibrate_result {
    size_t struct_size;
    double sigma;          /* that reaches the ratio */
    double achieved_ratio; /* of the draw with the options' seed */
    double slope;          /* a of log r = a sigma^2 + b */
    double intercept;      /* b */
    uint64_t evaluations;  /* of the whole text */
} qrb_calibrate_result;

/**
 * Find the sigma at which an attack raises perplexity by a ratio r, and leave
 * the attack set to it and to the options' seed (Anchor-Guided
 * Repair, threat model): double sigma until r is in [1.2, 2], fit log r =
 * a sigma^2 + b at four fractions of it, solve, correct by secants, and
 * correct once more on the very draw that will be written.  Perplexities of
 * the perturbed and of the unperturbed model come from the same evaluation.  A
 * draw that cannot score all of the text has an infinite ratio: its sigma is
 * too large, and the search goes on below.
 *
 * Weights are as before when it returns, whatever it returns.  The result does
 * not depend on the number of threads.
 *
 * @param attack  bound to the model; on failure set as it was
 * @param tokens  [count], as of qrb_evaluate_text()
 * @param options NULL: the defaults
 * @param out     may be NULL; untouched on failure
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an option out of its range, no
 *         attack on this model); QRB_E_NOT_FINITE (the unperturbed model
 *         cannot score all of the text); QRB_E_STATE (noise has no effect, or
 *         the ratio was not met within the tolerance: the message says how
 *         near it came); the others as qrb_evaluate_text()
 */
QRB_API qrb_status qrb_attack_calibrate(qrb_model *model, qrb_noise *attack,
                                        const int32_t *tokens, size_t count,
                                        const qrb_calibrate_options *options,
                                        qrb_calibrate_result *out);

/** What stands for options of a repair that are not given: the recommended
 * recipe (measured: docs/results.md), or the one that was published.  Pinned
 * values. */
enum qrb_repair_recipe { QRB_REPAIR_RECOMMENDED = 0, QRB_REPAIR_PAPER = 1 };

/* The trainer's options and the dataset's in the recipes, which differ in
 * learning rate, microbatches of a step and sequences.  To change one value of
 * a recipe, change it in a copy of these and let the repair's options point
 * there; those of anchors are QRB_ANCHOR_OPTIONS_INIT and _PAPER. */
#define QRB_REPAIR_TRAINER_OPTIONS_INIT \
    { sizeof(qrb_trainer_options), 0, 250, 10, 2e-4, 0.1, 1, 0, 100, \
      "repair", QRB_SCHEDULE_CONSTANT, 0 }
#define QRB_REPAIR_TRAINER_OPTIONS_PAPER \
    { sizeof(qrb_trainer_options), 0, 250, 10, 2e-5, 0.1, 2, 0, 100, \
      "repair", QRB_SCHEDULE_CONSTANT, 0 }
#define QRB_REPAIR_DATASET_OPTIONS_INIT QRB_DATASET_OPTIONS_INIT
#define QRB_REPAIR_DATASET_OPTIONS_PAPER \
    { sizeof(qrb_dataset_options), 1, 2048 }

/* Start from QRB_REPAIR_OPTIONS_INIT or QRB_REPAIR_OPTIONS_PAPER.  What is
 * pointed to is borrowed for the call; NULL is what the recipe says. */
typedef struct qrb_repair_options {
    size_t struct_size;
    const qrb_trainer_options *trainer; /* steps, learning rate, checkpoints */
    const qrb_anchor_options *anchor;   /* strength, normalisation,
                                           application */
    const qrb_dataset_options *dataset; /* how the text is cut into batches */
    uint32_t recipe; /* enum qrb_repair_recipe; default recommended */
    uint32_t resume; /* 1: go on from the trainer's checkpoint if there is
                        one; default 0 */
} qrb_repair_options;

#define QRB_REPAIR_OPTIONS_INIT \
    { sizeof(qrb_repair_options), 0, 0, 0, QRB_REPAIR_RECOMMENDED, 0 }
#define QRB_REPAIR_OPTIONS_PAPER \
    { sizeof(qrb_repair_options), 0, 0, 0, QRB_REPAIR_PAPER, 0 }

/* Set struct_size first. */
typedef struct qrb_repair_result {
    size_t struct_size;
    uint64_t steps;  /* done in all, with those before a resume */
    uint64_t tokens; /* scored in this run */
    double loss;     /* mean of the last steps (at most 50); NaN before one */
    double seconds;  /* of this run */
    double anchor_gradient_ratio; /* mean over steps; NaN without steps */
    double distance_before; /* of the anchored weights to the anchor */
    double distance_after;  /* the same when it was done */
    double distance_moved;  /* of the anchored weights from where they were */
} qrb_repair_result;

/**
 * Anchor-guided repair (Anchor-Guided Repair): train on
 * text while an anchor pulls at the matrices inside blocks.  Norms, biases,
 * embeddings and the head train as well, without a pull.
 *
 * The recommended options pull decoupled from the loss, w <- w - lr strength
 * (w - a) after each step; the printed ones add strength (1 / K) sum_k mean
 * ((w_k - a_k)^2) to the loss, which Adam does not feel at the printed
 * strength: anchor_gradient_ratio shows it.
 *
 * The result is a function of weights, anchor, text, options and seed: not of
 * the number of threads, nor of stops and resumes.  Memory beside the
 * trainer's is two copies of the anchored matrices.
 *
 * @param model   has loss_and_grad and takes token batches
 * @param anchor  source of the anchor's weights, matched by name and copied;
 *                NULL: the weights as received, towards which it then pulls
 * @param tokens  [count] of the training text, at least one more than the
 *                dataset's context
 * @param options NULL: the recommended ones
 * @param out     figures, also when the repair was cancelled; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, an option out of its range, a
 *         parameter that the anchor has not); QRB_E_SHAPE (a text that is too
 *         short, or an anchor of another shape); QRB_E_CANCELLED (weights are
 *         those of the last complete step, and a checkpoint was written if one
 *         is configured); the others as qrb_trainer_create(),
 *         qrb_trainer_resume() and qrb_trainer_run()
 */
QRB_API qrb_status qrb_repair(qrb_model *model, const qrb_model *anchor,
                              const int32_t *tokens, size_t count,
                              const qrb_repair_options *options,
                              qrb_repair_result *out);

/**
 * A control for repairs: move weights straight towards an anchor without any
 * text, w <- w + f (a - w) with f = min(1, distance / |a - w|).  Memory is two
 * copies of the selected weights; on failure none is changed.
 *
 * @param anchor       source of the anchor's weights, matched by name
 * @param filter       NULL: every matrix inside blocks
 * @param distance     at least 0; Euclidean, over all selected weights
 *                     together; one beyond the anchor ends on the anchor
 * @param fraction_out receives f; may be NULL
 * @return QRB_OK; QRB_E_INVALID_ARG (NULL, distance, nothing is selected, a
 *         parameter that the anchor has not); QRB_E_SHAPE; QRB_E_STATE (a
 *         weight is perturbed or frozen); QRB_E_CALLBACK (weights_written);
 *         QRB_E_NO_MEMORY; QRB_E_REENTRANT
 */
QRB_API qrb_status qrb_move_towards(qrb_model *model, const qrb_model *anchor,
                                    const qrb_filter *filter, double distance,
                                    double *fraction_out);

QRB_END_DECLS

#endif
