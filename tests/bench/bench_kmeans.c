/* k-means of rows of weights beside a peer, in turns: both solvers.
 *
 *     bench_kmeans [-t THREADS] [-s SECONDS] [-r ROUNDS] [-- PEER...]
 *
 * -s  of a turn of either side (0.5)     -r  rounds (3)
 *
 * PEER is a command that answers as peer.h says and, to `error`, with the sum
 * of weighted squares over all rows; it gets a file with the rows as its last
 * argument.  Weights of a row are normal, their squared gradients squares of
 * normal numbers.  Prints rows of a Markdown table, with the sums of the peer
 * relative to ours. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/context.h"
#include "core/random.h"
#include "peer.h"
#include "quant/kmeans.h"
#include "rounds.h"

enum { ROWS = 16, MOST = 4096, CLUSTERS = 16 };

static const size_t lengths[] = { 768, 2048, 4096 };

struct bench {
    qrb_context *ctx;
    struct peer peer;
    bool has_peer;
    double seconds;
    size_t rounds;
    double *rows; /* [ROWS, 2, MOST]: values, then weights */
};

struct fitting {
    const struct bench *bench;
    struct qrb__kmeans options;
    size_t n;
    size_t room;
    double *scratch; /* [threads, room] */
    double sums[ROWS];
};

static void require(bool fine, const char *what)
{
    if (fine)
        return;
    fprintf(stderr, "bench_kmeans: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    require(memory != NULL, "out of memory");
    return memory;
}

static void draw_rows(struct bench *bench)
{
    const struct qrb__random random = qrb__random_at(1, 0, 0);

    bench->rows = allocate(ROWS * 2 * MOST, sizeof *bench->rows);
    for (size_t row = 0; row < ROWS; row++)
        for (size_t i = 0; i < MOST; i++) {
            const size_t at = 2 * row * MOST + i;
            const double g = qrb__random_normal(&random, at + MOST);

            bench->rows[at] =
                (double)(float)(0.02 * qrb__random_normal(&random, at));
            bench->rows[at + MOST] = (double)(float)(g * g);
        }
}

static void fit_row(size_t row, size_t worker, void *arg)
{
    struct fitting *fitting = arg;
    const double *values = fitting->bench->rows + 2 * row * MOST;
    double centroids[CLUSTERS];
    int32_t labels[MOST];

    fitting->sums[row] =
        qrb__kmeans_fit(&fitting->options, values, values + MOST, fitting->n,
                        fitting->scratch + worker * fitting->room, centroids);
    qrb__kmeans_label(centroids, fitting->options.clusters, values, fitting->n,
                      labels);
}

static void fit_rows(void *arg)
{
    struct fitting *fitting = arg;

    qrb__parallel_for(fitting->bench->ctx, ROWS, fit_row, fitting);
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

static void measure(struct bench *bench, size_t n, size_t clusters, bool lloyd)
{
    struct fitting fitting = { .bench = bench,
                               .options = { clusters, lloyd },
                               .n = n };
    struct rounds rounds = { .count = bench->rounds };
    struct verdict verdict;
    double sum = 0;
    char words[80];

    require(qrb__kmeans_scratch(&fitting.options, n, &fitting.room), "scratch");
    fitting.scratch = allocate(qrb_context_threads(bench->ctx) * fitting.room,
                               sizeof(double));
    snprintf(words, sizeof words, "kmeans %zu %zu", n, clusters);
    if (bench->has_peer)
        require(peer_prepare(&bench->peer, words), "the peer does not do it");
    for (size_t r = 0; r < bench->rounds; r++) {
        rounds.ours[r] = take_turn(fit_rows, &fitting, bench->seconds);
        let_rest();
        rounds.theirs[r] = bench->has_peer
                               ? peer_turn(&bench->peer, bench->seconds)
                               : rounds.ours[r];
        let_rest();
    }
    verdict = verdict_of(&rounds);
    for (size_t row = 0; row < ROWS; row++)
        sum += fitting.sums[row];
    printf("| %s, %zu weights, %zu values | %.2f / %.2f ms |",
           lloyd ? "Lloyd" : "exact", n, clusters,
           1e3 * verdict.ours.best / ROWS, 1e3 * verdict.ours.median / ROWS);
    if (bench->has_peer)
        printf(" %.2f / %.2f ms | **%.1f** (best %.1f) | %.4f |",
               1e3 * verdict.theirs.best / ROWS,
               1e3 * verdict.theirs.median / ROWS, verdict.ratio,
               verdict.best_ratio, peer_error(&bench->peer) / sum);
    printf("\n");
    fflush(stdout);
    free(fitting.scratch);
}

static void start_peer(struct bench *bench, size_t count, char **words,
                       char *path)
{
    const size_t elements = ROWS * 2 * MOST;
    char **argv = allocate(count + 2, sizeof *argv);
    const int descriptor = mkstemp(path);
    FILE *file = descriptor < 0 ? NULL : fdopen(descriptor, "wb");

    require(file != NULL &&
                fwrite(bench->rows, sizeof *bench->rows, elements, file) ==
                    elements &&
                fclose(file) == 0,
            "cannot write the rows");
    memcpy(argv, words, count * sizeof *argv);
    argv[count] = path;
    peer_start(argv, &bench->peer);
    free(argv);
}

int main(int argc, char **argv)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct bench bench = { .seconds = 0.5, .rounds = 3 };
    char path[] = "/tmp/bench-kmeans-XXXXXX";
    int option;

    while ((option = getopt(argc, argv, "t:s:r:")) != -1)
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
        default:
            return 2;
        }
    if (bench.rounds < 1 || bench.rounds > MOST_ROUNDS ||
        qrb_context_create(&options, &bench.ctx) != QRB_OK)
        return 2;
    draw_rows(&bench);
    bench.has_peer = optind < argc;
    if (bench.has_peer)
        start_peer(&bench, (size_t)(argc - optind), argv + optind, path);
    printf("%zu threads; %zu rounds of %g s%s%s; a row\n\n"
           "| row | ours, best / median |%s\n|---|---|%s\n",
           qrb_context_threads(bench.ctx), bench.rounds, bench.seconds,
           bench.has_peer ? "; peer: " : "",
           bench.has_peer ? bench.peer.name : "",
           bench.has_peer ? " peer | ratio | sum of the peer |" : "",
           bench.has_peer ? "---|---|---|" : "");
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++)
        for (size_t clusters = 8; clusters <= CLUSTERS; clusters *= 2) {
            measure(&bench, lengths[i], clusters, false);
            measure(&bench, lengths[i], clusters, true);
        }
    if (bench.has_peer) {
        peer_stop(&bench.peer);
        unlink(path);
    }
    free(bench.rows);
    qrb_context_destroy(bench.ctx);
    return EXIT_SUCCESS;
}
