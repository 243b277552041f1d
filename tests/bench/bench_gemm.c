/* Matrix products of this library beside those of BLIS and OpenBLAS, each
 * round one after the other in the same process, so that a noisy machine
 * disturbs all of them alike.
 *
 *     bench_gemm [THREADS [ROUNDS [NAME]]]
 *
 * Prints the best GFLOP/s of the rounds, and the best and the median over
 * rounds of the ratio to OpenBLAS (which is loaded where it is installed, as
 * is the shared BLIS with the kernels that it chooses itself). */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tensor/blas.h"
#include "tensor/gemm.h"

struct product {
    const char *name;
    struct qrb__gemm shape;
    size_t count;
    size_t step_a; /* elements between the products of a batch */
    size_t step_b;
    size_t step_c;
};

/* A model of dim 128, hidden 344, 8 heads of 16, vocabulary 1024, trained on
 * 8 sequences of 256 tokens, and the shapes that BLAS benchmarks use.
 * { m, n, k, lda, ldb, ldc, alpha, beta, transpose_a, transpose_b } */
static const struct product products[] = {
    { "qkv forward", { 2048, 128, 128, 128, 128, 128, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "qkv input grad", { 2048, 128, 128, 128, 128, 128, 1, 1, 0, 0 }, 1, 0, 0,
      0 },
    { "qkv weight grad", { 128, 128, 2048, 128, 128, 128, 1, 1, 1, 0 }, 1, 0, 0,
      0 },
    { "up forward", { 2048, 344, 128, 128, 128, 344, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "up input grad", { 2048, 128, 344, 344, 128, 128, 1, 1, 0, 0 }, 1, 0, 0,
      0 },
    { "up weight grad", { 344, 128, 2048, 344, 128, 128, 1, 1, 1, 0 }, 1, 0, 0,
      0 },
    { "down forward", { 2048, 128, 344, 344, 344, 128, 1, 0, 0, 1 }, 1, 0, 0,
      0 },
    { "down weight grad", { 128, 344, 2048, 128, 344, 344, 1, 1, 1, 0 }, 1, 0,
      0, 0 },
    { "logits", { 2048, 1024, 128, 128, 128, 1024, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "logits input grad", { 2048, 128, 1024, 1024, 128, 128, 1, 0, 0, 0 }, 1,
      0, 0, 0 },
    { "logits weight grad", { 1024, 128, 2048, 1024, 128, 128, 1, 1, 1, 0 }, 1,
      0, 0, 0 },
    { "vocab forward", { 128, 32000, 288, 288, 288, 32000, 1, 0, 0, 1 }, 1, 0,
      0, 0 },
    { "vocab input grad", { 128, 288, 32000, 32000, 288, 288, 1, 0, 0, 0 }, 1,
      0, 0, 0 },
    { "vocab weight grad", { 32000, 288, 512, 32000, 288, 288, 1, 1, 1, 0 }, 1,
      0, 0, 0 },
    { "q k^T", { 256, 256, 16, 128, 128, 256, 0.25, 0, 0, 1 }, 64, 256 * 16,
      256 * 16, 65536 },
    { "p v", { 256, 16, 256, 256, 128, 128, 1, 0, 0, 0 }, 64, 65536, 256 * 16,
      256 * 16 },
    { "p^T do", { 256, 16, 256, 256, 128, 128, 1, 0, 1, 0 }, 64, 65536,
      256 * 16, 256 * 16 },
    { "64^3", { 64, 64, 64, 64, 64, 64, 1, 0, 0, 0 }, 1, 0, 0, 0 },
    { "64^3 nt", { 64, 64, 64, 64, 64, 64, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "2048x64x64", { 2048, 64, 64, 64, 64, 64, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "512x128x128", { 512, 128, 128, 128, 128, 128, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "256x768x768 nt", { 256, 768, 768, 768, 768, 768, 1, 0, 0, 1 }, 1, 0, 0,
      0 },
    { "512x768x768 nt", { 512, 768, 768, 768, 768, 768, 1, 0, 0, 1 }, 1, 0, 0,
      0 },
    { "768x768x512 tn", { 768, 768, 512, 768, 768, 768, 1, 0, 1, 0 }, 1, 0, 0,
      0 },
    { "1024^3", { 1024, 1024, 1024, 1024, 1024, 1024, 1, 0, 0, 0 }, 1, 0, 0,
      0 },
    { "1024^3 nt", { 1024, 1024, 1024, 1024, 1024, 1024, 1, 0, 0, 1 }, 1, 0, 0,
      0 },
    { "2048^3", { 2048, 2048, 2048, 2048, 2048, 2048, 1, 0, 0, 0 }, 1, 0, 0,
      0 },
    { "2048^3 tn", { 2048, 2048, 2048, 2048, 2048, 2048, 1, 0, 1, 0 }, 1, 0, 0,
      0 },
    { "1x4096x4096 nt", { 1, 4096, 4096, 4096, 4096, 4096, 1, 0, 0, 1 }, 1, 0,
      0, 0 },
    { "1x128x344 nt", { 1, 128, 344, 344, 344, 128, 1, 0, 0, 1 }, 1, 0, 0, 0 },
    { "8x768x768 nt", { 8, 768, 768, 768, 768, 768, 1, 0, 0, 1 }, 1, 0, 0, 0 },
};

typedef void (*cblas_fn)(int order, int trans_a, int trans_b, int m, int n,
                         int k, float alpha, const float *a, int lda,
                         const float *b, int ldb, float beta, float *c,
                         int ldc);

enum { OPENBLAS, BLIS, CHOSEN, OWN, BLAS, IMPLEMENTATIONS };
static const char *const names[] = { "openblas", "blis.so", "chosen", "own 1t",
                                     "blas 1t" };

struct bench {
    qrb_context *ctx;
    cblas_fn cblas[2];
    const float *a[64];
    const float *b[64];
    float *c[64];
};

/* One thread is measured by the time that it had, several by the wall. */
static double now(size_t threads)
{
    struct timespec t;

    clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC,
                  &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *load(const char *name, const char *function, int threads)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    void (*set_threads)(int);
    void *symbol;

    if (library == NULL)
        return NULL;
    symbol = dlsym(library, "openblas_set_num_threads");
    memcpy(&set_threads, &symbol, sizeof symbol);
    if (symbol != NULL)
        set_threads(threads);
    return dlsym(library, function);
}

static void run(const struct bench *bench, const struct product *p, int which)
{
    const struct qrb__gemm *s = &p->shape;
    const struct qrb__kernels *kernels = &bench->ctx->kernels;
    const struct qrb__product whole = {
        s->m, s->n, s->k,
        s->transpose_a ? 1 : s->lda, s->transpose_a ? s->lda : 1,
        s->transpose_b ? 1 : s->ldb, s->transpose_b ? s->ldb : 1,
        s->ldc, s->alpha, s->beta,
    };

    if (which == CHOSEN) {
        qrb__gemm_batch_f32(bench->ctx, s, p->count, bench->a, bench->b,
                            bench->c);
        return;
    }
    for (size_t i = 0; i < p->count; i++) {
        if (which == OWN)
            kernels->f32.product(&whole, bench->a[i], bench->b[i], bench->c[i]);
        else if (which == BLAS)
            qrb__blas_product_f32(kernels, &whole, bench->a[i], bench->b[i],
                                  bench->c[i]);
        else
            bench->cblas[which](101, s->transpose_a ? 112 : 111,
                                s->transpose_b ? 112 : 111, (int)s->m,
                                (int)s->n, (int)s->k, (float)s->alpha,
                                bench->a[i], (int)s->lda, bench->b[i],
                                (int)s->ldb, (float)s->beta, bench->c[i],
                                (int)s->ldc);
    }
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(struct bench *bench, const struct product *p,
                    size_t rounds)
{
    const struct qrb__gemm *s = &p->shape;
    const double flops =
        2.0 * (double)(s->m * s->n) * (double)(s->k * p->count);
    const size_t repeats = (size_t)(1e9 / flops) + 1;
    /* The threads of OpenBLAS spin for a while after its last product. */
    const struct timespec rest = { 0, 50000000 };
    double speed[IMPLEMENTATIONS][64];
    const size_t size_a = s->lda * (s->transpose_a ? s->k : s->m);
    const size_t size_b = s->ldb * (s->transpose_b ? s->n : s->k);
    const size_t total_a = size_a + (p->count - 1) * p->step_a;
    const size_t total_b = size_b + (p->count - 1) * p->step_b;
    const size_t total_c = s->ldc * s->m + (p->count - 1) * p->step_c;
    float *a = calloc(total_a, sizeof *a);
    float *b = calloc(total_b, sizeof *b);
    float *c = calloc(total_c, sizeof *c);

    if (a == NULL || b == NULL || c == NULL)
        exit(EXIT_FAILURE);
    for (size_t i = 0; i < total_a; i++)
        a[i] = (float)(i * 7919 % 201) * 0.01f - 1;
    for (size_t i = 0; i < total_b; i++)
        b[i] = (float)(i * 104729 % 199) * 0.01f - 1;
    for (size_t i = 0; i < p->count; i++) {
        bench->a[i] = a + i * p->step_a;
        bench->b[i] = b + i * p->step_b;
        bench->c[i] = c + i * p->step_c;
    }
    for (size_t round = 0; round < rounds; round++)
        for (int which = 0; which < IMPLEMENTATIONS; which++) {
            double begin;

            speed[which][round] = 0;
            if (which < CHOSEN && bench->cblas[which] == NULL)
                continue;
            nanosleep(&rest, NULL);
            run(bench, p, which);
            begin = now(qrb_context_threads(bench->ctx));
            for (size_t i = 0; i < repeats; i++)
                run(bench, p, which);
            speed[which][round] =
                1e-9 * flops * (double)repeats / (now(qrb_context_threads(bench->ctx)) - begin);
        }
    printf("%-20s", p->name);
    for (int which = 0; which < IMPLEMENTATIONS; which++) {
        double best = 0;
        double ratio[64] = { 0 };

        for (size_t round = 0; round < rounds; round++) {
            if (speed[which][round] > best)
                best = speed[which][round];
            if (speed[OPENBLAS][round] > 0)
                ratio[round] = speed[which][round] / speed[OPENBLAS][round];
        }
        qsort(ratio, rounds, sizeof *ratio, compare);
        printf(" %6.1f", best);
        if (which != OPENBLAS)
            printf(" (%4.2f %4.2f)", ratio[rounds - 1], ratio[rounds / 2]);
    }
    printf("\n");
    fflush(stdout);
    free(a);
    free(b);
    free(c);
}

int main(int argc, char **argv)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    const size_t rounds = argc > 2 ? (size_t)atoi(argv[2]) : 7;
    struct bench bench = { 0 };
    void *symbol;

    options.threads = argc > 1 ? (size_t)atoi(argv[1]) : 1;
    if (rounds < 1 || rounds > 64 ||
        qrb_context_create(&options, &bench.ctx) != QRB_OK) {
        fprintf(stderr, "usage: bench_gemm [THREADS [ROUNDS [NAME]]]\n");
        return 2;
    }
    symbol = load("libopenblas.so.0", "cblas_sgemm", (int)options.threads);
    memcpy(&bench.cblas[OPENBLAS], &symbol, sizeof symbol);
    symbol = load("libblis.so.4", "cblas_sgemm", 1);
    memcpy(&bench.cblas[BLIS], &symbol, sizeof symbol);
    printf("kernels %s, blas %s, threads %zu; GFLOP/s best of %zu rounds, "
           "(best, median ratio to openblas)\n%-20s",
           qrb_context_kernels(bench.ctx), qrb_context_blas(bench.ctx),
           qrb_context_threads(bench.ctx), rounds, "");
    for (int which = 0; which < IMPLEMENTATIONS; which++)
        printf(which == OPENBLAS ? " %s" : " %-18s", names[which]);
    printf("\n");
    for (size_t i = 0; i < sizeof products / sizeof *products; i++)
        if (argc < 4 || strstr(products[i].name, argv[3]) != NULL)
            measure(&bench, &products[i], rounds);
    qrb_context_destroy(bench.ctx);
    return EXIT_SUCCESS;
}
