/* How time and memory of a training step and the time of a forward pass grow
 * with length, width, depth and threads.
 *
 *     bench_growth [-t THREADS] [-s SECONDS] [-r ROUNDS] [-w WHAT]
 *
 * WHAT is length, width, depth or threads (all).  Each table changes one thing
 * of a model of width 128, depth 6 and vocabulary 1024, in batches of 2048
 * tokens; threads are compared at the shapes of bench_engine.  Points of a
 * table take turns in each round, and the rows are the best and the median of
 * the rounds.  Memory is what qrb_engine_memory() and qrb_optimizer_memory()
 * announce. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "limits.h"
#include "rounds.h"
#include "shapes.h"

enum { POINTS = 6, TOKENS = 2048 };

struct growth {
    qrb_context *ctx;
    double seconds;
    size_t rounds;
};

/* A shape with what was measured of it. */
struct point {
    struct shape shape;
    size_t value; /* of what grows */
    struct figure train[MOST_ROUNDS];
    struct figure forward[MOST_ROUNDS];
    double bytes;
};

static double memory_of(const struct subject *subject)
{
    uint64_t engine = 0;
    uint64_t optimizer = 0;

    if (qrb_engine_memory(subject->model, subject->shape.sequences,
                          subject->shape.length, 1, &engine) != QRB_OK ||
        qrb_optimizer_memory(subject->model, NULL, &optimizer) != QRB_OK) {
        fprintf(stderr, "%s\n", qrb_context_message(subject->ctx));
        exit(EXIT_FAILURE);
    }
    return (double)(engine + optimizer);
}

static void measure_round(const struct growth *growth, qrb_context *ctx,
                          struct point *point, size_t round)
{
    struct subject subject;

    subject_make(&subject, ctx, &point->shape, JOB_TRAIN);
    point->bytes = memory_of(&subject);
    point->train[round] =
        take_turn(subject_job(JOB_TRAIN), &subject, growth->seconds);
    point->forward[round] =
        take_turn(subject_job(JOB_FORWARD), &subject, growth->seconds);
    subject_release(&subject);
}

static void print_point(const struct growth *growth, const struct point *point)
{
    const struct figure train = figure_of(point->train, growth->rounds);
    const struct figure forward = figure_of(point->forward, growth->rounds);
    const double work = subject_operations(&point->shape, JOB_TRAIN);

    printf("| %zu | %.1f / %.1f | %.1f / %.1f | %.1f | %.0f |\n", point->value,
           1e3 * train.best, 1e3 * train.median, 1e3 * forward.best,
           1e3 * forward.median, 1e-6 * point->bytes, 1e-9 * work / train.best);
}

static void grow(const struct growth *growth, const char *what,
                 const size_t *values, size_t count,
                 void (*set)(struct shape *shape, size_t value))
{
    static struct point points[POINTS];

    for (size_t i = 0; i < count; i++) {
        const struct shape base = { "growth", 128, 6, 8, 8, 344, 1024, 8,
                                    TOKENS / 8 };

        points[i].shape = base;
        points[i].value = values[i];
        set(&points[i].shape, values[i]);
    }
    for (size_t r = 0; r < growth->rounds; r++)
        for (size_t i = 0; i < count; i++)
            measure_round(growth, growth->ctx, &points[i], r);
    printf("\n| %s | step, ms, best / median | forward, ms | memory of a step, "
           "MB | GF/s |\n|---|---|---|---|---|\n",
           what);
    for (size_t i = 0; i < count; i++)
        print_point(growth, &points[i]);
    fflush(stdout);
}

static void set_length(struct shape *shape, size_t value)
{
    shape->length = value;
    shape->sequences = TOKENS / value;
}

static void set_width(struct shape *shape, size_t value)
{
    shape->dim = value;
    shape->heads = value / 16;
    shape->kv_heads = shape->heads;
    shape->hidden = value / 8 * 21;
}

static void set_depth(struct shape *shape, size_t value)
{
    shape->layers = value;
}

/* One thread beside `threads` of them. */
static void compare_threads(const struct growth *growth, size_t threads)
{
    qrb_context *ctx[2] = { NULL, NULL };

    printf("\n| shape | one thread: step, forward, ms | %zu threads | gain of "
           "the step (best) | of forward |\n|---|---|---|---|---|\n",
           threads);
    for (size_t i = 0; i < 2; i++) {
        qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;

        options.threads = i == 0 ? 1 : threads;
        if (qrb_context_create(&options, &ctx[i]) != QRB_OK)
            exit(EXIT_FAILURE);
    }
    for (size_t s = 0; s < SHAPES; s++) {
        static struct point points[2];
        struct rounds train = { .count = growth->rounds };
        struct rounds forward = { .count = growth->rounds };
        struct verdict step;
        struct verdict pass;

        for (size_t r = 0; r < growth->rounds; r++)
            for (size_t i = 0; i < 2; i++) {
                points[i].shape = model_shapes[s];
                measure_round(growth, ctx[i], &points[i], r);
            }
        memcpy(train.theirs, points[0].train, sizeof train.theirs);
        memcpy(train.ours, points[1].train, sizeof train.ours);
        memcpy(forward.theirs, points[0].forward, sizeof forward.theirs);
        memcpy(forward.ours, points[1].forward, sizeof forward.ours);
        step = verdict_of(&train);
        pass = verdict_of(&forward);
        printf("| %s | %.1f, %.1f | %.1f, %.1f | **%.2f** (%.2f) | **%.2f** "
               "(%.2f) |\n",
               model_shapes[s].name, 1e3 * step.theirs.best,
               1e3 * pass.theirs.best, 1e3 * step.ours.best,
               1e3 * pass.ours.best, step.ratio, step.best_ratio, pass.ratio,
               pass.best_ratio);
        fflush(stdout);
    }
    for (size_t i = 0; i < 2; i++)
        qrb_context_destroy(ctx[i]);
}

int main(int argc, char **argv)
{
    static const size_t lengths[] = { 64, 128, 256, 512, 1024, 2048 };
    static const size_t widths[] = { 64, 128, 256, 512 };
    static const size_t depths[] = { 2, 4, 8, 16 };
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    struct growth growth = { .seconds = 0.5, .rounds = 3 };
    const char *what = "";
    int option;

    while ((option = getopt(argc, argv, "t:s:r:w:")) != -1)
        switch (option) {
        case 't':
            options.threads = (size_t)atoi(optarg);
            break;
        case 's':
            growth.seconds = atof(optarg);
            break;
        case 'r':
            growth.rounds = (size_t)atoi(optarg);
            break;
        case 'w':
            what = optarg;
            break;
        default:
            return 2;
        }
    if (growth.rounds < 1 || growth.rounds > MOST_ROUNDS ||
        qrb_context_create(&options, &growth.ctx) != QRB_OK)
        return 2;
    if (*what == '\0' || strcmp(what, "length") == 0)
        grow(&growth, "length", lengths, 6, set_length);
    if (*what == '\0' || strcmp(what, "width") == 0)
        grow(&growth, "width", widths, 4, set_width);
    if (*what == '\0' || strcmp(what, "depth") == 0)
        grow(&growth, "depth", depths, 4, set_depth);
    if (*what == '\0' || strcmp(what, "threads") == 0)
        compare_threads(&growth, qrb_context_threads(growth.ctx));
    qrb_context_destroy(growth.ctx);
    return EXIT_SUCCESS;
}
