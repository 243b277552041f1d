/* Products of packed matrices beside float32 products and ggml's, in turns.
 *
 *     bench_packed [-t THREADS] [-s SECONDS] [-r ROUNDS] [-m MIB] [-n NAME]
 *                  [-- PEER_GGML DIRECTORY THREADS [BACKEND]]
 *
 * -s  of a turn of either side (0.3)   -m  of the layer set (600)
 * -r  rounds (5)                       -n  rows whose name begins so (all)
 *
 * Matrices are 4096 x 4096.  GB/s count codes and scales.  "Set" is a set of
 * layers larger than the caches, beside the bandwidth that a plain read of
 * memory has at that moment.  Prints rows of a Markdown table. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <qrobust/quantizer.h>

#include "core/random.h"
#include "limits.h"
#include "peer.h"
#include "quant/multiply.h"
#include "quant/tiles.h"
#include "rounds.h"
#include "tensor/gemm.h"

enum { SIDE = 4096, MOST_LAYERS = 256, DEQUANTIZED_ROWS = 1000 };

struct row {
    const char *name;
    uint32_t kind;
    uint32_t bits;
    size_t group;
    uint32_t act_bits;
    size_t tokens;
    const char *type; /* of the peer */
    bool set;
    bool table;       /* a row: as SqueezeLLM has them */
    double outliers;  /* part of the weights beside the table */
};

#define RTN QRB_QUANTIZER_RTN
static const struct row table[] = {
    { "w4g128a32 n=1 set", RTN, 4, 128, 0, 1, "q4_0", true, false, 0 },
    { "w4g32a32 n=1 set", RTN, 4, 32, 0, 1, "q4_0", true, false, 0 },
    { "w4g128a8 n=1 set", RTN, 4, 128, 8, 1, "q4_0", true, false, 0 },
    { "w4g128a32 n=1", RTN, 4, 128, 0, 1, "q4_0", false, false, 0 },
    { "w4g32a32 n=1", RTN, 4, 32, 0, 1, "q4_0", false, false, 0 },
    { "w4g128a8 n=1", RTN, 4, 128, 8, 1, "q4_0", false, false, 0 },
    { "w2g128a32 n=1", RTN, 2, 128, 0, 1, "q4_0", false, false, 0 },
    { "w3g128a32 n=1", RTN, 3, 128, 0, 1, "q4_0", false, false, 0 },
    { "w8a32 n=1", RTN, 8, 0, 0, 1, "q8_0", false, false, 0 },
    { "w4g128a32 n=8", RTN, 4, 128, 0, 8, "q4_0", false, false, 0 },
    { "w4g128a8 n=8", RTN, 4, 128, 8, 8, "q4_0", false, false, 0 },
    { "w4g32a8 n=8", RTN, 4, 32, 8, 8, "q4_0", false, false, 0 },
    { "w4g128a32 n=32", RTN, 4, 128, 0, 32, "q4_0", false, false, 0 },
    { "w4g128a8 n=32", RTN, 4, 128, 8, 32, "q4_0", false, false, 0 },
    { "w4g128a32 n=512", RTN, 4, 128, 0, 512, "q4_0", false, false, 0 },
    { "w4g128a8 n=512", RTN, 4, 128, 8, 512, "q4_0", false, false, 0 },
    { "w8a8 n=512", RTN, 8, 0, 8, 512, "q8_0", false, false, 0 },
    { "nf4 n=1", QRB_QUANTIZER_NF4, 4, 0, 0, 1, "q4_0", false, false, 0 },
    { "nf4 n=512", QRB_QUANTIZER_NF4, 4, 0, 0, 512, "q4_0", false, false, 0 },
    { "table3 n=1", RTN, 3, 0, 0, 1, "q4_0", false, true, 0 },
    { "table3+0.5% n=1", RTN, 3, 0, 0, 1, "q4_0", false, true, 0.005 },
    { "table4 n=1", RTN, 4, 0, 0, 1, "q4_0", false, true, 0 },
    { "table4+0.5% n=1", RTN, 4, 0, 0, 1, "q4_0", false, true, 0.005 },
};

struct subject {
    qrb_context *ctx;
    const struct row *row;
    size_t layers;
    qrb_packed *packed[MOST_LAYERS];
    qrb_tensor *x;
    qrb_tensor *y;
    float *w; /* of the float product */
    float *values;
};

static void check(qrb_context *ctx, qrb_status status)
{
    if (status == QRB_OK)
        return;
    fprintf(stderr, "%s\n", qrb_context_message(ctx));
    exit(EXIT_FAILURE);
}

static qrb_tensor *make_matrix(qrb_context *ctx, size_t rows, size_t cols)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    const struct qrb__random random = qrb__random_at(rows, cols, 0);
    qrb_tensor *tensor;
    float *x;

    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    check(ctx, qrb_tensor_create(ctx, &options, &tensor));
    x = qrb_tensor_memory(tensor);
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = (float)qrb__random_normal(&random, i);
    return tensor;
}

/* Bytes that a product reads. */
static size_t bytes_of(const qrb_packed *packed)
{
    const struct qrb__tiles *tiles = packed->tiles;
    const size_t scales =
        tiles->whole ? SIDE * tiles->groups : packed->units;
    size_t bytes = SIDE * packed->row_bytes;

    bytes += scales * (tiles->scales != NULL        ? sizeof(float)
                       : tiles->half_scales != NULL ? sizeof(uint16_t)
                                                    : sizeof(double));
    if (tiles->zeros != NULL)
        bytes += scales * sizeof(float);
    if (tiles->byte_zeros != NULL)
        bytes += scales;
    if (packed->table != NULL)
        bytes = SIDE * (packed->row_bytes +
                        (sizeof(float) << packed->bits));
    if (packed->sparse.row_start != NULL)
        bytes += SIDE * sizeof(size_t) +
                 packed->sparse.row_start[SIDE] *
                     (sizeof(uint32_t) + sizeof(float));
    return bytes;
}

/* A table of each row, and outliers at random columns. */
static void add_table(struct subject *s, qrb_packed *packed)
{
    const struct qrb__random random = qrb__random_at(7, 0, 0);
    struct qrb__sparse *sparse = &packed->sparse;
    const size_t values = (size_t)SIDE << packed->bits;
    const size_t most = (size_t)(1.2 * s->row->outliers * SIDE * SIDE) + 1;
    size_t n = 0;

    packed->table = qrb__alloc_array(s->ctx, values, sizeof(float));
    if (packed->table == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < values; i++)
        packed->table[i] = (float)qrb__random_normal(&random, i);
    if (s->row->outliers == 0)
        return;
    sparse->row_start = qrb__alloc_array(s->ctx, SIDE + 1, sizeof(size_t));
    sparse->columns = qrb__alloc_array(s->ctx, most, sizeof(uint32_t));
    sparse->values = qrb__alloc_array(s->ctx, most, sizeof(float));
    if (sparse->row_start == NULL || sparse->columns == NULL ||
        sparse->values == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < (size_t)SIDE * SIDE; i++) {
        if (qrb__random_uniform(&random, i) < s->row->outliers && n < most) {
            sparse->columns[n] = (uint32_t)(i % SIDE);
            sparse->values[n++] = 1;
        }
        if (i % SIDE == SIDE - 1)
            sparse->row_start[i / SIDE + 1] = n;
    }
}

static void quantize(struct subject *s, qrb_tensor *w, size_t layer)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_quantizer *quantizer;

    options.kind = s->row->kind;
    options.bits = s->row->bits;
    options.group_size = s->row->group;
    check(s->ctx, qrb_quantizer_create(s->ctx, &options, &quantizer));
    check(s->ctx, qrb_quantizer_quantize(quantizer, w, &s->packed[layer]));
    qrb_quantizer_destroy(quantizer);
    if (s->row->table)
        add_table(s, s->packed[layer]);
}

static void multiply(void *arg)
{
    struct subject *s = arg;
    qrb_packed_multiply_options options = QRB_PACKED_MULTIPLY_OPTIONS_INIT;

    options.act_bits = s->row->act_bits;
    for (size_t i = 0; i < s->layers; i++)
        check(s->ctx,
              qrb_packed_multiply(s->packed[i], s->x, NULL, &options, s->y));
}

static void multiply_floats(void *arg)
{
    struct subject *s = arg;
    const struct qrb__gemm shape = { .m = s->row->tokens,
                                     .n = SIDE,
                                     .k = SIDE,
                                     .lda = SIDE,
                                     .ldb = SIDE,
                                     .ldc = SIDE,
                                     .alpha = 1,
                                     .transpose_b = true };

    qrb__gemm_f32(s->ctx, &shape, qrb_tensor_memory(s->x), s->w,
                  qrb_tensor_memory(s->y));
}

static void dequantize(void *arg)
{
    struct subject *s = arg;

    for (size_t i = 0; i < DEQUANTIZED_ROWS; i++)
        qrb__tiles_decode(s->packed[0], s->packed[0]->tiles, 0, s->values);
}

static void make(struct subject *s, double mebibytes)
{
    qrb_tensor *w = make_matrix(s->ctx, SIDE, SIDE);

    s->x = make_matrix(s->ctx, s->row->tokens, SIDE);
    s->y = make_matrix(s->ctx, s->row->tokens, SIDE);
    s->layers = 1;
    quantize(s, w, 0);
    multiply(s);
    if (s->row->set)
        s->layers = (size_t)(mebibytes * 1048576.0 /
                             (double)bytes_of(s->packed[0])) + 1;
    if (s->layers > MOST_LAYERS)
        s->layers = MOST_LAYERS;
    for (size_t i = 1; i < s->layers; i++)
        quantize(s, w, i);
    multiply(s);
    s->w = qrb_tensor_memory(w);
    if (s->row->set) {
        qrb_tensor_destroy(w);
        s->w = NULL;
    }
}

static void release(struct subject *s)
{
    for (size_t i = 0; i < s->layers; i++)
        qrb_packed_destroy(s->packed[i]);
    qrb_tensor_destroy(s->x);
    qrb_tensor_destroy(s->y);
}

/* Rounds of ours, floats and the layouts of the peer, of which the fastest
 * counts. */
static void bench(struct subject *s, struct peer *peer, size_t rounds,
                  double seconds, size_t threads)
{
    enum { LAYOUTS = 4 };
    struct rounds beside[LAYOUTS] = { { 0 } };
    struct rounds floats = { 0 };
    struct verdict best = { .ratio = -1 };
    const double bytes = (double)bytes_of(s->packed[0]) * (double)s->layers;
    const double operations = 2.0 * SIDE * SIDE * (double)s->row->tokens *
                              (double)s->layers;
    struct verdict ours;
    int fastest = -1;
    char job[128];

    for (size_t i = 0; s->w != NULL && i < rounds; i++) {
        floats.ours[i] = take_turn(multiply, s, seconds);
        floats.theirs[i] = take_turn(multiply_floats, s, seconds);
        floats.count++;
    }
    for (int layout = 0; peer != NULL && layout < LAYOUTS; layout++) {
        snprintf(job, sizeof job, "multiply %s %d %d %zu %zu %d",
                 s->row->type, SIDE, SIDE, s->row->tokens, s->layers, layout);
        if (!peer_prepare(peer, job))
            break;
        for (size_t i = 0; i < rounds; i++) {
            beside[layout].ours[i] = take_turn(multiply, s, seconds);
            beside[layout].theirs[i] = peer_turn(peer, seconds);
            beside[layout].count++;
            let_rest();
        }
        ours = verdict_of(&beside[layout]);
        if (best.ratio < 0 || ours.ratio < best.ratio) {
            best = ours;
            fastest = layout;
        }
    }
    if (fastest < 0 && floats.count == 0)
        for (; floats.count < rounds; floats.count++)
            floats.ours[floats.count] = take_turn(multiply, s, seconds);
    ours = fastest >= 0 ? best : verdict_of(&floats);
    printf("| %s | %.0f | %.1f | %.1f |", s->row->name, 1e-6 * bytes,
           1e-9 * bytes / ours.ours.best, 1e-9 * operations / ours.ours.best);
    if (s->row->set)
        printf(" %.1f |", 1e-9 * memory_bandwidth(threads));
    else
        printf(" |");
    if (s->w != NULL)
        printf(" %.2f |", verdict_of(&floats).ratio);
    else
        printf(" |");
    if (fastest >= 0)
        printf(" %.1f, layout %d | %.2f (%.2f) |\n",
               1e-9 * operations / best.theirs.best, fastest, best.ratio,
               best.best_ratio);
    else
        printf(" | |\n");
    fflush(stdout);
}

static void bench_values(struct subject *s, struct peer *peer, size_t rounds,
                         double seconds)
{
    struct rounds values = { 0 };
    const double bytes = 4.0 * SIDE * DEQUANTIZED_ROWS;
    const bool beside = peer != NULL && peer_prepare(peer, "dequantize 4096");
    struct verdict verdict;

    s->values = malloc(SIDE * sizeof *s->values);
    if (s->values == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < rounds; i++) {
        values.ours[i] = take_turn(dequantize, s, seconds);
        if (beside)
            values.theirs[i] = peer_turn(peer, seconds);
        values.count++;
    }
    verdict = verdict_of(&values);
    printf("| values, 1 thread | | %.1f of floats | | | | %.1f | %.2f |\n",
           1e-9 * bytes / verdict.ours.best,
           beside ? 1e-9 * bytes / verdict.theirs.best : 0,
           beside ? verdict.ratio : 0);
    free(s->values);
}

int main(int argc, char **argv)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx;
    struct peer peer;
    const char *only = "";
    double mebibytes = 600;
    double seconds = 0.3;
    size_t rounds = 5;
    int option;

    while ((option = getopt(argc, argv, "t:s:r:m:n:")) != -1) {
        if (option == 't')
            options.threads = atoi(optarg);
        else if (option == 's')
            seconds = atof(optarg);
        else if (option == 'r')
            rounds = (size_t)atoi(optarg);
        else if (option == 'm')
            mebibytes = atof(optarg);
        else if (option == 'n')
            only = optarg;
        else
            return EXIT_FAILURE;
    }
    if (rounds > MOST_ROUNDS)
        rounds = MOST_ROUNDS;
    if (optind < argc)
        peer_start(argv + optind, &peer);
    if (qrb_context_create(&options, &ctx) != QRB_OK)
        return EXIT_FAILURE;
    printf("kernels %s, codes %s, %zu threads, bandwidth %.1f GB/s, peak %.0f "
           "GF/s\n\n| row | MB | GB/s | GF/s | memory GB/s | times as fast as "
           "floats | peer GF/s | times as fast as the peer (best) |\n"
           "|---|---|---|---|---|---|---|---|\n",
           qrb_context_kernels(ctx), ctx->kernels.codes.name,
           qrb_context_threads(ctx),
           1e-9 * memory_bandwidth(qrb_context_threads(ctx)),
           1e-9 * peak_operations(qrb_context_threads(ctx)));
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct subject s = { .ctx = ctx, .row = &table[i] };

        if (strncmp(table[i].name, only, strlen(only)) != 0)
            continue;
        make(&s, mebibytes);
        bench(&s, optind < argc ? &peer : NULL, rounds, seconds,
              qrb_context_threads(ctx));
        if (i == 3 || only[0] != '\0')
            bench_values(&s, optind < argc ? &peer : NULL, rounds, seconds);
        release(&s);
    }
    if (optind < argc)
        peer_stop(&peer);
    qrb_context_destroy(ctx);
    return EXIT_SUCCESS;
}
