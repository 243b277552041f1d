/* Times of turns and what becomes of them. */
#include "rounds.h"

#include <stdlib.h>
#include <time.h>

double seconds_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void let_rest(void)
{
    const struct timespec rest = { 0, 50000000 };

    nanosleep(&rest, NULL);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a;
    const double y = *(const double *)b;

    return (x > y) - (x < y);
}

static double median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, ascending);
    return count % 2 == 1
               ? values[count / 2]
               : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

struct figure take_turn(void (*job)(void *arg), void *arg, double seconds)
{
    double took[MOST_RUNS];
    struct figure figure;
    size_t count = 0;
    double begin;

    job(arg);
    begin = seconds_now();
    do {
        const double start = seconds_now();

        job(arg);
        took[count++] = seconds_now() - start;
    } while (count < MOST_RUNS && seconds_now() - begin < seconds);
    figure.median = median(took, count);
    figure.best = took[0];
    return figure;
}

struct figure figure_of(const struct figure *figures, size_t count)
{
    double medians[MOST_ROUNDS];
    struct figure figure = { -1, -1 };

    for (size_t i = 0; i < count; i++) {
        medians[i] = figures[i].median;
        if (i == 0 || figures[i].best < figure.best)
            figure.best = figures[i].best;
    }
    if (count > 0)
        figure.median = median(medians, count);
    return figure;
}

struct verdict verdict_of(const struct rounds *rounds)
{
    double ratios[MOST_ROUNDS];
    struct verdict verdict = { figure_of(rounds->ours, rounds->count),
                               figure_of(rounds->theirs, rounds->count), -1,
                               -1 };

    for (size_t i = 0; i < rounds->count; i++)
        ratios[i] = rounds->theirs[i].median / rounds->ours[i].median;
    verdict.ratio = median(ratios, rounds->count);
    verdict.best_ratio = verdict.theirs.best / verdict.ours.best;
    return verdict;
}
