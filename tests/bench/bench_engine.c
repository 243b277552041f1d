/* The engine beside a peer, in turns: training steps (zero gradients, forward,
 * backward, clipping, AdamW), the loss of a batch, the logits of a prompt, and
 * attention alone, forward and both ways.
 *
 *     bench_engine [-t THREADS] [-s SECONDS] [-r ROUNDS] [-j JOB]... [-n NAME]
 *                  [-- PEER...]
 *
 * -s  of a turn of either side (1)     -r  rounds (5)
 * -j  a job of subject.h (all)         -n  a shape (all)
 *
 * PEER is a command that answers as peer.h says.  Prints rows of a Markdown
 * table: best and median of the rounds for both sides, the median over rounds
 * of the ratio in one round and the ratio of the best (above 1: ours is
 * faster), and our best as a share of the machine's peak in the same minute. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "limits.h"
#include "peer.h"
#include "rounds.h"
#include "shapes.h"

struct row {
    struct shape shape;
    unsigned jobs; /* 1 << enum job, of this shape */
};

enum {
    BATCHES = 1 << JOB_TRAIN | 1 << JOB_FORWARD,
    PROMPT = 1 << JOB_LOGITS,
    ALONE = 1 << JOB_ATTENTION | 1 << JOB_ATTENTION_GRAD
};

/* Beside those of shapes.h, in the same order of numbers. */
static const struct row table[] = {
    { { "64x5 prompt", 64, 5, 8, 4, 172, 512, 1, 256 }, PROMPT },
    { { "288x6 prompt", 288, 6, 6, 6, 768, 32000, 1, 256 }, PROMPT },
    { { "768x12 prompt", 768, 12, 12, 12, 2048, 32000, 1, 256 }, PROMPT },
    { { "8,8,256,8", 64, 1, 8, 8, 64, 64, 8, 256 }, ALONE },
    { { "4,6,256,48", 288, 1, 6, 6, 64, 64, 4, 256 }, ALONE },
    { { "2,12,256,64", 768, 1, 12, 12, 64, 64, 2, 256 }, ALONE },
    { { "1,12,1024,64", 768, 1, 12, 12, 64, 64, 1, 1024 }, ALONE },
};

struct bench {
    qrb_context *ctx;
    struct peer peer;
    bool has_peer;
    double seconds;
    size_t rounds;
};

static void print_side(struct figure figure, double tokens)
{
    printf(" %.2f / %.2f ms | %.0f / %.0f |", 1e3 * figure.best,
           1e3 * figure.median, tokens / figure.best, tokens / figure.median);
}

static void measure(struct bench *bench, const struct shape *shape,
                    enum job job)
{
    const double tokens = (double)(shape->sequences * shape->length);
    const double work = subject_operations(shape, job);
    struct rounds rounds = { .count = bench->rounds };
    struct subject subject;
    struct verdict verdict;
    bool compares = false;
    double peak = 0;
    char words[160];

    if (bench->has_peer) {
        subject_words(shape, job, words, sizeof words);
        compares = peer_prepare(&bench->peer, words);
        if (!compares)
            return;
    }
    subject_make(&subject, bench->ctx, shape, job);
    for (size_t r = 0; r < bench->rounds; r++) {
        const double now = peak_operations(qrb_context_threads(bench->ctx));

        peak = now > peak ? now : peak;
        rounds.ours[r] =
            take_turn(subject_job(job), &subject, bench->seconds);
        let_rest();
        if (compares)
            rounds.theirs[r] = peer_turn(&bench->peer, bench->seconds);
        else
            rounds.theirs[r] = rounds.ours[r];
        let_rest();
    }
    subject_release(&subject);
    verdict = verdict_of(&rounds);
    printf("| %s %s |", shape->name, job_names[job]);
    print_side(verdict.ours, tokens);
    if (compares) {
        print_side(verdict.theirs, tokens);
        printf(" **%.2f** (best %.2f) |", verdict.ratio, verdict.best_ratio);
    }
    printf(" %.0f of %.0f GF/s, %.0f %% |\n", 1e-9 * work / verdict.ours.best,
           1e-9 * peak, 100 * work / verdict.ours.best / peak);
    fflush(stdout);
}

static void print_head(const struct bench *bench)
{
    const size_t threads = qrb_context_threads(bench->ctx);

    printf("%zu threads, kernels %s, products by %s; peak %.0f GF/s, memory "
           "%.1f GB/s; %zu rounds of %g s%s%s\n\n",
           threads, qrb_context_kernels(bench->ctx),
           qrb_context_blas(bench->ctx), 1e-9 * peak_operations(threads),
           1e-9 * memory_bandwidth(threads), bench->rounds, bench->seconds,
           bench->has_peer ? "; peer: " : "",
           bench->has_peer ? bench->peer.name : "");
    if (bench->has_peer)
        printf("| row | ours, best / median | tok/s | peer | tok/s | ratio | "
               "share of the peak |\n|---|---|---|---|---|---|---|\n");
    else
        printf("| row | best / median | tok/s | share of the peak |\n"
               "|---|---|---|---|\n");
}

static void measure_row(struct bench *bench, const struct row *row,
                        unsigned jobs, const char *name)
{
    for (unsigned job = 0; job < JOBS; job++)
        if ((row->jobs >> job & 1) != 0 && (jobs >> job & 1) != 0 &&
            (name == NULL || strcmp(name, row->shape.name) == 0))
            measure(bench, &row->shape, (enum job)job);
}

static unsigned job_of(const char *name)
{
    for (unsigned job = 0; job < JOBS; job++)
        if (strcmp(name, job_names[job]) == 0)
            return 1u << job;
    fprintf(stderr, "bench_engine: no job \"%s\"\n", name);
    exit(2);
}

int main(int argc, char **argv)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct bench bench = { .seconds = 1, .rounds = 5 };
    const char *name = NULL;
    unsigned jobs = 0;
    int option;

    while ((option = getopt(argc, argv, "t:s:r:j:n:")) != -1)
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
        case 'j':
            jobs |= job_of(optarg);
            break;
        case 'n':
            name = optarg;
            break;
        default:
            return 2;
        }
    if (bench.rounds < 1 || bench.rounds > MOST_ROUNDS ||
        qrb_context_create(&options, &bench.ctx) != QRB_OK)
        return 2;
    bench.has_peer = optind < argc;
    if (bench.has_peer)
        peer_start(argv + optind, &bench.peer);
    print_head(&bench);
    if (jobs == 0)
        jobs = ~0u;
    for (size_t i = 0; i < SHAPES; i++) {
        const struct row row = { model_shapes[i], BATCHES };

        measure_row(&bench, &row, jobs, name);
    }
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        measure_row(&bench, &table[i], jobs, name);
    if (bench.has_peer)
        peer_stop(&bench.peer);
    qrb_context_destroy(bench.ctx);
    return EXIT_SUCCESS;
}
