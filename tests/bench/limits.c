/* Loops that are bound by one thing each: the multiply-add units, or memory. */
#include "limits.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rounds.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { MOST_THREADS = 256, SUMS = 12, TURNS = 200000, SET = 256 << 20 };

/* A thread's part: what to run, and what keeps the compiler from dropping it. */
struct part {
    pthread_t thread;
    pthread_barrier_t *start;
    double (*run)(const struct part *part); /* returns work done */
    const float *memory;
    size_t count;
    double work;
    double began;
    double ended;
    float kept;
};

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static float chains_512(void)
{
    const __m512 a = _mm512_set1_ps(0.999f);
    const __m512 b = _mm512_set1_ps(0.001f);
    __m512 sums[SUMS];
    float out[16];

    for (int i = 0; i < SUMS; i++)
        sums[i] = _mm512_set1_ps((float)i);
    for (int t = 0; t < TURNS; t++)
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++)
            sums[i] = _mm512_fmadd_ps(sums[i], a, b);
    for (int i = 1; i < SUMS; i++)
        sums[0] = _mm512_add_ps(sums[0], sums[i]);
    _mm512_storeu_ps(out, sums[0]);
    return out[0];
}

__attribute__((target("avx2,fma"))) static float chains_256(void)
{
    const __m256 a = _mm256_set1_ps(0.999f);
    const __m256 b = _mm256_set1_ps(0.001f);
    __m256 sums[SUMS];
    float out[8];

    for (int i = 0; i < SUMS; i++)
        sums[i] = _mm256_set1_ps((float)i);
    for (int t = 0; t < TURNS; t++)
#pragma GCC unroll 12
        for (int i = 0; i < SUMS; i++)
            sums[i] = _mm256_fmadd_ps(sums[i], a, b);
    for (int i = 1; i < SUMS; i++)
        sums[0] = _mm256_add_ps(sums[0], sums[i]);
    _mm256_storeu_ps(out, sums[0]);
    return out[0];
}
#endif

/* Without vectors that are known here: what the compiler makes of it. */
static float chains_plain(void)
{
    float sums[SUMS];

    for (int i = 0; i < SUMS; i++)
        sums[i] = (float)i;
    for (int t = 0; t < TURNS; t++)
        for (int i = 0; i < SUMS; i++)
            sums[i] = sums[i] * 0.999f + 0.001f;
    for (int i = 1; i < SUMS; i++)
        sums[0] += sums[i];
    return sums[0];
}

static double run_chains(const struct part *part)
{
    struct part *own = (struct part *)part;
    size_t lanes = 1;
    float (*chains)(void) = chains_plain;

#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
        lanes = 16;
        chains = chains_512;
    } else if (__builtin_cpu_supports("avx2") &&
               __builtin_cpu_supports("fma")) {
        lanes = 8;
        chains = chains_256;
    }
#endif
    for (int i = 0; i < 40; i++)
        own->kept += chains();
    return 40.0 * TURNS * SUMS * 2 * (double)lanes;
}

static double read_memory(const struct part *part)
{
    struct part *own = (struct part *)part;
    float sums[64] = { 0 };

    for (size_t i = 0; i + 64 <= part->count; i += 64)
        for (size_t j = 0; j < 64; j++)
            sums[j] += part->memory[i + j];
    for (size_t j = 0; j < 64; j++)
        own->kept += sums[j];
    return (double)part->count * sizeof *part->memory;
}

static void *run_part(void *arg)
{
    struct part *part = arg;

    pthread_barrier_wait(part->start);
    part->began = seconds_now();
    part->work = part->run(part);
    part->ended = seconds_now();
    return NULL;
}

/* Work a second from the first begin to the last end. */
static double rate_of(size_t threads, double (*run)(const struct part *),
                      const float *memory, size_t count)
{
    static struct part parts[MOST_THREADS];
    pthread_barrier_t start;
    double work = 0;
    double began = 0;
    double ended = 0;

    if (threads > MOST_THREADS)
        threads = MOST_THREADS;
    pthread_barrier_init(&start, NULL, (unsigned)threads);
    for (size_t i = 0; i < threads; i++) {
        struct part *part = &parts[i];

        memset(part, 0, sizeof *part);
        part->start = &start;
        part->run = run;
        part->count = count / threads / 64 * 64;
        part->memory = memory == NULL ? NULL : memory + i * part->count;
        if (pthread_create(&part->thread, NULL, run_part, part) != 0) {
            fprintf(stderr, "no thread\n");
            exit(EXIT_FAILURE);
        }
    }
    for (size_t i = 0; i < threads; i++) {
        pthread_join(parts[i].thread, NULL);
        work += parts[i].work;
        began = i == 0 || parts[i].began < began ? parts[i].began : began;
        ended = i == 0 || parts[i].ended > ended ? parts[i].ended : ended;
    }
    pthread_barrier_destroy(&start);
    return work / (ended - began);
}

double peak_operations(size_t threads)
{
    return rate_of(threads, run_chains, NULL, 0);
}

double memory_bandwidth(size_t threads)
{
    float *memory = malloc(SET);
    double rate;

    if (memory == NULL)
        return 0;
    for (size_t i = 0; i < SET / sizeof *memory; i++)
        memory[i] = 1;
    rate = rate_of(threads, read_memory, memory, SET / sizeof *memory);
    free(memory);
    return rate;
}
