/* Quantizers beside a peer, in turns: second moments of inputs (8192 tokens in
 * four sequences), and GPTQ from moments to codes, of square matrices.
 *
 *     bench_quantizers [-t THREADS] [-s SECONDS] [-r ROUNDS] [-n NAME]
 *                      [-- PEER...]
 *
 * -s  of a turn of either side (1)     -r  rounds (3)
 * -n  rows whose name begins so (all)
 *
 * PEER is a command that answers as peer.h says and, to `error`, with the
 * relative error of the outputs; it gets a directory with the inputs as its
 * last argument.  Weights are normal with one outlier in a thousand;
 * activations have scales of 8 / sqrt(1 + rank) and share 32 factors.  Prints
 * rows of a Markdown table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qrobust/observer.h>

#include "calib/observer.h"
#include "core/random.h"
#include "peer.h"
#include "quant/gptq.h"
#include "rounds.h"
#include "tensor/gemm.h"

enum { TOKENS = 8192, SEQUENCE = 2048, FACTORS = 32 };

struct row {
    const char *name;
    bool hessian;
    size_t cols;
    size_t group;
    bool ordered; /* with static groups */
};

static const struct row table[] = {
    { "Hessian 768", true, 768, 0, false },
    { "Hessian 2048", true, 2048, 0, false },
    { "Hessian 4096", true, 4096, 0, false },
    { "GPTQ 768 w4 g128", false, 768, 128, false },
    { "GPTQ 768 w4", false, 768, 0, false },
    { "GPTQ 768 w4 g128 ordered", false, 768, 128, true },
    { "GPTQ 2048 w4 g128", false, 2048, 128, false },
    { "GPTQ 2048 w4", false, 2048, 0, false },
    { "GPTQ 2048 w4 g128 ordered", false, 2048, 128, true },
    { "GPTQ 4096 w4 g128", false, 4096, 128, false },
    { "GPTQ 4096 w4", false, 4096, 0, false },
    { "GPTQ 4096 w4 g128 ordered", false, 4096, 128, true },
};
enum { BITS = 4 };

/* What one size needs; made when a row of that size comes. */
struct subject {
    qrb_context *ctx;
    size_t cols;
    float *x;         /* [TOKENS, cols] */
    double *w;        /* [cols, cols] */
    double *gram;     /* [cols, cols] */
    double energy;    /* tr(W G W^T) */
    qrb_tensor *sequence; /* of x */
    struct qrb__gptq options;
    struct qrb__gptq_result result;
};

struct bench {
    qrb_context *ctx;
    struct peer peer;
    bool has_peer;
    double seconds;
    size_t rounds;
    char directory[64];
};

static void require(bool fine, const char *what)
{
    if (fine)
        return;
    fprintf(stderr, "bench_quantizers: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    require(memory != NULL, "out of memory");
    return memory;
}

/* A task of drawing normal numbers. */
struct drawing {
    struct qrb__random random;
    size_t count;
    float *out;
};

enum { RUN = 65536 };

static void draw_run(size_t task, size_t worker, void *arg)
{
    const struct drawing *drawing = arg;
    const size_t first = task * RUN;

    (void)worker;
    for (size_t i = first; i < first + RUN && i < drawing->count; i++)
        drawing->out[i] = (float)qrb__random_normal(&drawing->random, i);
}

static float *draw(qrb_context *ctx, uint64_t seed, size_t count)
{
    struct drawing drawing = { qrb__random_at(seed, 0, 0), count,
                               allocate(count, sizeof(float)) };

    qrb__parallel_for(ctx, count / RUN + 1, draw_run, &drawing);
    return drawing.out;
}

static void write_matrix(const struct bench *bench, const char *name,
                         size_t cols, const float *x, size_t count)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s_%zu", bench->directory, name, cols);
    file = fopen(path, "wb");
    require(file != NULL && fwrite(x, sizeof *x, count, file) == count &&
                fclose(file) == 0,
            "cannot write the inputs");
}

static void make_inputs(const struct bench *bench, struct subject *subject)
{
    const size_t cols = subject->cols;
    float *factors = draw(bench->ctx, 1, TOKENS * FACTORS);
    float *mixing = draw(bench->ctx, 2, FACTORS * cols);
    const struct qrb__gemm mix = { .m = TOKENS, .n = cols, .k = FACTORS,
                                   .lda = FACTORS, .ldb = cols, .ldc = cols,
                                   .alpha = 1, .beta = 1 };

    subject->x = draw(bench->ctx, 3, TOKENS * cols);
    qrb__gemm_f32(bench->ctx, &mix, factors, mixing, subject->x);
    for (size_t i = 0; i < TOKENS * cols; i++) {
        /* An odd multiplier: ranks are spread over the columns. */
        const size_t rank = i % cols * 1663 % cols;

        subject->x[i] *= 8 / sqrtf(1 + (float)rank);
    }
    free(factors);
    free(mixing);
    write_matrix(bench, "x", cols, subject->x, TOKENS * cols);
}

static void make_weights(const struct bench *bench, struct subject *subject)
{
    const size_t count = subject->cols * subject->cols;
    float *w = draw(bench->ctx, 4, count);

    subject->w = allocate(count, sizeof(double));
    for (size_t i = 0; i < count; i++) {
        w[i] *= i % 997 == 0 ? 0.2f : 0.02f;
        subject->w[i] = (double)w[i];
    }
    write_matrix(bench, "w", subject->cols, w, count);
    free(w);
}

static void observe(void *arg)
{
    struct subject *subject = arg;
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_observer *observer = NULL;

    options.columns = subject->cols;
    options.what = QRB_OBSERVE_GRAM;
    require(qrb_observer_create(subject->ctx, &options, &observer) == QRB_OK,
            qrb_context_message(subject->ctx));
    for (size_t t = 0; t < TOKENS; t += SEQUENCE) {
        const size_t shape[2] = { SEQUENCE, subject->cols };

        require(qrb_tensor_point(subject->sequence, shape,
                                 subject->x + t * subject->cols) == QRB_OK &&
                    qrb_observer_add(observer, subject->sequence) == QRB_OK,
                qrb_context_message(subject->ctx));
    }
    if (subject->gram[0] == 0) /* the first run */
        qrb__observer_gram_f64(observer, subject->gram);
    qrb_observer_destroy(observer);
}

static void solve(void *arg)
{
    struct subject *subject = arg;
    const struct qrb__gptq_problem problem = { subject->cols, subject->cols,
                                               subject->w, subject->gram,
                                               2.0 * SEQUENCE / TOKENS };

    require(qrb__gptq_solve(subject->ctx, &subject->options, &problem,
                            &subject->result) == QRB_OK,
            qrb_context_message(subject->ctx));
}

/* tr(W G W^T) */
static double energy_of(const struct subject *subject)
{
    const size_t cols = subject->cols;
    const struct qrb__gemm product = { .m = cols, .n = cols, .k = cols,
                                       .lda = cols, .ldb = cols, .ldc = cols,
                                       .alpha = 1 };
    double *wg = allocate(cols * cols, sizeof *wg);
    double sum = 0;

    qrb__gemm_f64(subject->ctx, &product, subject->w, subject->gram, wg);
    for (size_t i = 0; i < cols * cols; i++)
        sum += wg[i] * subject->w[i];
    free(wg);
    return sum;
}

static void release(struct subject *subject)
{
    free(subject->x);
    free(subject->w);
    free(subject->gram);
    free(subject->result.codes);
    free(subject->result.scales);
    free(subject->result.zero_points);
    free(subject->result.group_index);
    qrb_tensor_destroy(subject->sequence);
    *subject = (struct subject){ 0 };
}

static void make(const struct bench *bench, size_t cols,
                 struct subject *subject)
{
    qrb_tensor_options view = QRB_TENSOR_OPTIONS_INIT;

    release(subject);
    subject->ctx = bench->ctx;
    subject->cols = cols;
    subject->gram = allocate(cols * cols, sizeof(double));
    subject->result.codes = allocate(cols * cols, sizeof(int32_t));
    subject->result.scales = allocate(cols * cols, sizeof(double));
    subject->result.zero_points = allocate(cols * cols, sizeof(double));
    subject->result.group_index = allocate(cols, sizeof(uint32_t));
    make_inputs(bench, subject);
    make_weights(bench, subject);
    view.dtype = QRB_F32;
    view.rank = 2;
    view.shape[0] = SEQUENCE;
    view.shape[1] = cols;
    view.memory = subject->x;
    require(qrb_tensor_create(bench->ctx, &view, &subject->sequence) == QRB_OK,
            qrb_context_message(bench->ctx));
    observe(subject);
    subject->energy = energy_of(subject);
}

static double peer_error(struct peer *peer)
{
    char answer[80];

    fprintf(peer->to, "error\n");
    fflush(peer->to);
    require(fgets(answer, sizeof answer, peer->from) != NULL,
            "the peer has stopped");
    return atof(answer);
}

static void print(const struct bench *bench, const struct row *row,
                  const struct subject *subject, const struct rounds *rounds,
                  double error)
{
    const struct verdict verdict = verdict_of(rounds);

    printf("| %s | %.3f / %.3f s |", row->name, verdict.ours.best,
           verdict.ours.median);
    if (bench->has_peer)
        printf(" %.3f / %.3f s | **%.2f** (best %.2f) |", verdict.theirs.best,
               verdict.theirs.median, verdict.ratio, verdict.best_ratio);
    if (row->hessian) {
        printf(" %s\n", bench->has_peer ? " | |" : " |");
        fflush(stdout);
        return;
    }
    printf(" %.5g |", subject->result.error * TOKENS / SEQUENCE /
                             (2 * subject->energy));
    if (bench->has_peer)
        printf(" %.5g |", error);
    printf("%s\n", subject->result.outcome == QRB__GPTQ_SOLVED
                       ? ""
                       : " round to nearest kept");
    fflush(stdout);
}

static void measure(struct bench *bench, const struct row *row,
                    struct subject *subject)
{
    struct rounds rounds = { .count = bench->rounds };
    double error = NAN;
    char words[80];

    if (subject->cols != row->cols)
        make(bench, row->cols, subject);
    subject->options =
        (struct qrb__gptq){ .grid = { .mode = QRB_GRID_A_GPTQ, .bits = BITS },
                            .group_size = row->group,
                            .block_size = 128,
                            .damping = 0.01,
                            .act_order = row->ordered,
                            .static_groups = row->ordered };
    if (row->hessian)
        snprintf(words, sizeof words, "hessian %zu", row->cols);
    else
        snprintf(words, sizeof words, "gptq %zu %d %zu %d", row->cols, BITS,
                 row->group, row->ordered);
    if (bench->has_peer && !peer_prepare(&bench->peer, words))
        return;
    for (size_t r = 0; r < bench->rounds; r++) {
        rounds.ours[r] = take_turn(row->hessian ? observe : solve, subject,
                                   bench->seconds);
        let_rest();
        rounds.theirs[r] = bench->has_peer
                               ? peer_turn(&bench->peer, bench->seconds)
                               : rounds.ours[r];
        let_rest();
    }
    if (bench->has_peer && !row->hessian)
        error = peer_error(&bench->peer);
    print(bench, row, subject, &rounds, error);
}

static void start_peer(struct bench *bench, size_t count, char **words)
{
    char **argv = allocate(count + 2, sizeof *argv);

    memcpy(argv, words, count * sizeof *argv);
    argv[count] = bench->directory;
    peer_start(argv, &bench->peer);
    free(argv);
}

static void remove_inputs(const struct bench *bench)
{
    char path[128];

    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        for (const char *name = "xw"; *name != '\0'; name++) {
            snprintf(path, sizeof path, "%s/%c_%zu", bench->directory, *name,
                     table[i].cols);
            unlink(path);
        }
    rmdir(bench->directory);
}

int main(int argc, char **argv)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct bench bench = { .seconds = 1, .rounds = 3 };
    struct subject subject = { 0 };
    const char *name = "";
    int option;

    while ((option = getopt(argc, argv, "t:s:r:n:")) != -1)
        switch (option) {
        case 't':
            options.threads = (size_t)atoi(optarg);
            break;
        case 's':
            bench.seconds = atof(optarg);
            break;
        case 'r':
            bench.rounds = (size_t)atoi(optarg);
            break;
        case 'n':
            name = optarg;
            break;
        default:
            return 2;
        }
    strcpy(bench.directory, "/tmp/bench-quantizers-XXXXXX");
    if (bench.rounds < 1 || bench.rounds > MOST_ROUNDS ||
        qrb_context_create(&options, &bench.ctx) != QRB_OK ||
        mkdtemp(bench.directory) == NULL)
        return 2;
    bench.has_peer = optind < argc;
    if (bench.has_peer)
        start_peer(&bench, (size_t)(argc - optind), argv + optind);
    printf("%zu threads, kernels %s, products by %s; %zu rounds of %g s%s%s\n\n"
           "| row | ours, best / median |%s\n|---|---|%s\n",
           qrb_context_threads(bench.ctx), qrb_context_kernels(bench.ctx),
           qrb_context_blas(bench.ctx), bench.rounds, bench.seconds,
           bench.has_peer ? "; peer: " : "",
           bench.has_peer ? bench.peer.name : "",
           bench.has_peer ? " peer | ratio | error | of the peer |"
                          : " error |",
           bench.has_peer ? "---|---|---|---|" : "---|");
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (strncmp(name, table[i].name, strlen(name)) == 0)
            measure(&bench, &table[i], &subject);
    if (bench.has_peer)
        peer_stop(&bench.peer);
    remove_inputs(&bench);
    release(&subject);
    qrb_context_destroy(bench.ctx);
    return EXIT_SUCCESS;
}
