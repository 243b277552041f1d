/* Rounds of two sides that take turns, so that a noisy machine disturbs both
 * alike.  In a turn one side runs its job for a while; a turn has a best and a
 * median time, and what is printed is the best and the median over rounds. */
#ifndef BENCH_ROUNDS_H
#define BENCH_ROUNDS_H

#include <stddef.h>

enum { MOST_ROUNDS = 32, MOST_RUNS = 512 };

/* Seconds of a run; negative: the side does not do this job. */
struct figure {
    double best;
    double median;
};

struct rounds {
    size_t count;
    struct figure ours[MOST_ROUNDS];
    struct figure theirs[MOST_ROUNDS];
};

/* What the rounds say: times of both, and ours to theirs in one round. */
struct verdict {
    struct figure ours;
    struct figure theirs;
    double ratio;      /* median over rounds of their median to ours */
    double best_ratio; /* of the best times of all rounds */
};

double seconds_now(void);

/* One run that is not counted, then runs until `seconds` have gone. */
struct figure take_turn(void (*job)(void *arg), void *arg, double seconds);

struct figure figure_of(const struct figure *figures, size_t count);
struct verdict verdict_of(const struct rounds *rounds);

/* The threads of the other side may spin for a while after its last run. */
void let_rest(void);

#endif
