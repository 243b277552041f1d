/* Each kernel of the sets that this processor has beside its plain twin, on
 * rows as a small language model has them, in the second level cache, on one
 * thread by the time that it had.
 *
 *     bench_kernels [ROUNDS [NAME]]
 *
 * Prints million elements a second of the twin, and for each set the best of
 * the rounds and the best and median ratio to the twin in the same round. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "kernel/kernels.h"

enum { SETS = 3, COUNT = 96 * 344, REPEATS = 20, MOST_ROUNDS = 64, ARRAYS = 5 };
static const char *const sets[SETS] = { "ref", "avx2", "avx512" };

struct arrays {
    float *x[ARRAYS];
    uint16_t *half;
};

typedef void (*job_fn)(const struct qrb__kernels *k, const struct arrays *a);

static void run_softmax(const struct qrb__kernels *k, const struct arrays *a)
{
    for (size_t i = 0; i + 64 * 256 <= COUNT; i += 64 * 256)
        k->f32.softmax(a->x[0] + i, 256, 64, 193, 256);
}

static void run_softmax_grad(const struct qrb__kernels *k,
                             const struct arrays *a)
{
    for (size_t i = 0; i + 64 * 256 <= COUNT; i += 64 * 256)
        k->f32.softmax_grad(a->x[0] + i, a->x[1] + i, 256, 64, 193, 256);
}

static void run_nll_grad(const struct qrb__kernels *k, const struct arrays *a)
{
    for (size_t i = 0; i + 1024 <= COUNT; i += 1024)
        k->f32.nll_grad(a->x[0] + i, 1024, 5, 1);
}

static void run_rms_norm(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32.rms_norm(a->x[0], a->x[1], 1e-5, COUNT / 128, 128, a->x[2],
                    a->x[3]);
}

static void run_rms_norm_grad(const struct qrb__kernels *k,
                              const struct arrays *a)
{
    memset(a->x[4], 0, COUNT * sizeof(float));
    k->f32.rms_norm_grad(a->x[0], a->x[1], a->x[3], a->x[2], COUNT / 128, 128,
                         a->x[4], a->x[4]);
}

static void run_swiglu(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32.swiglu(a->x[0], a->x[1], COUNT, a->x[2]);
}

static void run_swiglu_grad(const struct qrb__kernels *k,
                            const struct arrays *a)
{
    k->f32.swiglu_grad(a->x[0], a->x[1], a->x[2], COUNT, a->x[3], a->x[4]);
}

static void run_rotary(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32.rotary(a->x[0], 128, a->x[3], a->x[4], COUNT / 128, 8, 16, 0, 0);
}

static void run_rotary_interleaved(const struct qrb__kernels *k,
                                   const struct arrays *a)
{
    k->f32.rotary(a->x[0], 128, a->x[3], a->x[4], COUNT / 128, 8, 16, 1, 0);
}

static void run_adamw(const struct qrb__kernels *k, const struct arrays *a)
{
    const struct qrb__adamw options = { 1e-3, 0.9, 0.95, 1e-8,
                                        0.1,  0.1, 0.05, 1 };

    k->f32.adamw(&options, a->x[0], COUNT, a->x[1], a->x[2], a->x[3]);
}

static void run_add(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32.add(a->x[0], COUNT, a->x[1]);
}

static void run_dot(const struct qrb__kernels *k, const struct arrays *a)
{
    a->x[2][0] = (float)k->f32.dot(a->x[0], a->x[1], COUNT);
}

static void run_to_f16(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32_to_f16(a->x[0], COUNT, a->half);
}

static void run_from_f16(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f16_to_f32(a->half, COUNT, a->x[0]);
}

static void run_to_bf16(const struct qrb__kernels *k, const struct arrays *a)
{
    k->f32_to_bf16(a->x[0], COUNT, a->half);
}

static void run_add_normals(const struct qrb__kernels *k,
                            const struct arrays *a)
{
    const uint32_t key[2] = { 1, 2 };

    k->add_normals(key, 3, 4, 0, 0.1, COUNT, a->x[0]);
}

static const struct {
    const char *name;
    job_fn run;
} jobs[] = {
    { "softmax of 256", run_softmax },
    { "softmax_grad of 256", run_softmax_grad },
    { "nll_grad of 1024", run_nll_grad },
    { "rms_norm of 128", run_rms_norm },
    { "rms_norm_grad of 128", run_rms_norm_grad },
    { "swiglu", run_swiglu },
    { "swiglu_grad", run_swiglu_grad },
    { "rotary of 16, halves", run_rotary },
    { "rotary of 16, pairs", run_rotary_interleaved },
    { "adamw", run_adamw },
    { "add", run_add },
    { "dot", run_dot },
    { "f32_to_f16", run_to_f16 },
    { "f16_to_f32", run_from_f16 },
    { "f32_to_bf16", run_to_bf16 },
    { "add_normals", run_add_normals },
};

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The same ordinary numbers before each measurement: no kernel meets what the
 * one before has driven to zero or infinity.  The last two arrays are cosines
 * and sines. */
static void reset(const struct arrays *a)
{
    for (size_t i = 0; i < COUNT; i++) {
        const double angle = (double)(i % 1000) * 0.01;

        a->x[0][i] = (float)(i * 7919 % 201) * 0.02f - 2;
        a->x[1][i] = (float)(i * 104729 % 199) * 0.01f - 1;
        a->x[2][i] = (float)(i * 31 % 97) * 0.01f;
        a->x[3][i] = fabsf((float)cos(angle));
        a->x[4][i] = (float)sin(angle);
        a->half[i] = (uint16_t)(i % 31744);
    }
}

static void measure(const struct qrb__kernels *tables,
                    const struct arrays *arrays, size_t job, size_t rounds)
{
    double speed[SETS][MOST_ROUNDS];

    for (size_t round = 0; round < rounds; round++)
        for (int set = 0; set < SETS; set++) {
            double begin;

            reset(arrays);
            begin = now();
            for (int i = 0; i < REPEATS; i++)
                jobs[job].run(&tables[set], arrays);
            speed[set][round] =
                1e-6 * COUNT * REPEATS / (now() - begin + 1e-9);
        }
    printf("%-24s", jobs[job].name);
    for (int set = 0; set < SETS; set++) {
        double ratio[MOST_ROUNDS];
        double best = 0;

        if (strcmp(tables[set].name, sets[set]) != 0)
            continue;
        for (size_t round = 0; round < rounds; round++) {
            ratio[round] = speed[set][round] / speed[0][round];
            if (speed[set][round] > best)
                best = speed[set][round];
        }
        qsort(ratio, rounds, sizeof *ratio, compare);
        printf(" %8.0f", best);
        if (set > 0)
            printf(" (%5.2f %5.2f)", ratio[rounds - 1], ratio[rounds / 2]);
    }
    printf("\n");
}

int main(int argc, char **argv)
{
    const int asked = argc > 1 ? atoi(argv[1]) : 7;
    struct qrb__kernels tables[SETS];
    struct arrays arrays = { .half = calloc(COUNT, sizeof *arrays.half) };
    int failed = arrays.half == NULL;

    for (size_t i = 0; i < ARRAYS; i++) {
        arrays.x[i] = calloc(COUNT, sizeof *arrays.x[i]);
        failed = failed || arrays.x[i] == NULL;
    }
    for (int set = 0; set < SETS; set++)
        failed = failed || qrb__kernels_select(&tables[set], sets[set]) != 0;
    if (failed || asked < 1 || asked > MOST_ROUNDS) {
        fprintf(stderr, "usage: bench_kernels [ROUNDS [NAME]]\n");
        return 2;
    }
    printf("Mel/s, best of %d rounds (best, median ratio to ref)\n%-24s", asked,
           "");
    for (int set = 0; set < SETS; set++)
        if (strcmp(tables[set].name, sets[set]) == 0)
            printf(set == 0 ? " %8s" : " %-22s", sets[set]);
    printf("\n");
    for (size_t job = 0; job < sizeof jobs / sizeof *jobs; job++)
        if (argc < 3 || strstr(jobs[job].name, argv[2]) != NULL)
            measure(tables, &arrays, job, (size_t)asked);
    for (size_t i = 0; i < ARRAYS; i++)
        free(arrays.x[i]);
    free(arrays.half);
    return EXIT_SUCCESS;
}
