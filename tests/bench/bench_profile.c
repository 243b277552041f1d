/* Where a training step goes: processor time by kind of op and phase, on one
 * thread, with the speed of the products in it.
 *
 *     bench_profile [STEPS [NAME]]
 *
 * Prints Markdown.  What no op accounts for is the optimizer, the setting of
 * gradients to zero, and the rest of the step. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "limits.h"
#include "rounds.h"
#include "shapes.h"

static const char *const kinds[QRB__OP_KINDS] = {
    "embedding", "tap",    "norm",     "linear", "rotary",
    "attention", "swiglu", "residual", "select", "head and loss"
};
static const char *const phases[QRB__PHASES] = { "forward", "backward",
                                                 "weights" };

struct profile {
    double seconds[QRB__OP_KINDS][QRB__PHASES];
    double begun;
};

static double processor_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void account(const struct qrb__op *op, uint32_t phase, bool begins,
                    void *user)
{
    struct profile *profile = user;

    if (begins)
        profile->begun = processor_now();
    else
        profile->seconds[op->kind][phase] +=
            processor_now() - profile->begun;
}

static bool is_wide(const struct shape *shape)
{
    return shape->dim >= QRB__WIDE;
}

/* Operations of the products of all ops of a kind in one phase of a step. */
static double operations(const struct shape *s, uint32_t kind, uint32_t phase)
{
    struct shape part = *s;
    const double all = subject_operations(s, JOB_FORWARD);
    double head;
    double attention;

    part.layers = 0;
    head = subject_operations(&part, JOB_FORWARD);
    attention = (double)s->layers * subject_operations(s, JOB_ATTENTION);
    if (kind == QRB__OP_LINEAR) /* a wide one sums its weights at once */
        return (all - head - attention) *
               (phase == QRB__PHASE_BACKWARD && is_wide(s) ? 2 : 1);
    if (kind == QRB__OP_ATTENTION)
        return phase == QRB__PHASE_BACKWARD ? 2 * attention : attention;
    if (kind == QRB__OP_HEAD) /* forward and backward at once */
        return phase == QRB__PHASE_BACKWARD ? 3 * head : 0;
    return 0;
}

static void print_row(const char *what, const char *phase, double seconds,
                      double total, double work)
{
    printf("| %s %s | %.2f | %.1f %% |", what, phase, 1e3 * seconds,
           100 * seconds / total);
    if (work > 0)
        printf(" %.0f |\n", 1e-9 * work / seconds);
    else
        printf(" |\n");
}

static void profile_shape(qrb_context *ctx, const struct shape *shape,
                          size_t steps)
{
    struct profile profile = { 0 };
    struct subject subject;
    double total;
    double rest;

    subject_make(&subject, ctx, shape, JOB_TRAIN);
    subject_job(JOB_TRAIN)(&subject);
    subject.optimizer_seconds = 0;
    subject.clearing_seconds = 0;
    subject.engine->watch.fn = account;
    subject.engine->watch.user = &profile;
    total = -processor_now();
    for (size_t i = 0; i < steps; i++)
        subject_job(JOB_TRAIN)(&subject);
    total = (total + processor_now()) / (double)steps;
    rest = total;
    printf("\n%s, %zu sequences of %zu: %.1f ms a step on one thread, peak "
           "%.0f GF/s\n\n| op | ms | share | GF/s |\n|---|---|---|---|\n",
           shape->name, shape->sequences, shape->length, 1e3 * total,
           1e-9 * peak_operations(1));
    for (uint32_t kind = 0; kind < QRB__OP_KINDS; kind++)
        for (uint32_t phase = 0; phase < QRB__PHASES; phase++) {
            const double seconds =
                profile.seconds[kind][phase] / (double)steps;

            if (seconds < 1e-3 * total)
                continue;
            rest -= seconds;
            print_row(kinds[kind],
                      kind == QRB__OP_HEAD ? "" : phases[phase], seconds,
                      total, operations(shape, kind, phase));
        }
    subject.optimizer_seconds /= (double)steps;
    subject.clearing_seconds /= (double)steps;
    print_row("optimizer", "with clipping", subject.optimizer_seconds, total,
              0);
    print_row("gradients", "to zero", subject.clearing_seconds, total, 0);
    print_row("the rest", "",
              rest - subject.optimizer_seconds - subject.clearing_seconds,
              total, 0);
    fflush(stdout);
    subject_release(&subject);
}

int main(int argc, char **argv)
{
    const size_t steps = argc > 1 ? (size_t)atoi(argv[1]) : 5;
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = 1;
    if (steps < 1 || qrb_context_create(&options, &ctx) != QRB_OK)
        return 2;
    for (size_t i = 0; i < SHAPES; i++)
        if (argc < 3 || strcmp(argv[2], model_shapes[i].name) == 0)
            profile_shape(ctx, &model_shapes[i], steps);
    qrb_context_destroy(ctx);
    return EXIT_SUCCESS;
}
