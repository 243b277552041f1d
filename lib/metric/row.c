/* Softmax in double over one row of logits, and the divergence of two rows:
 * two exponentials an entry. */
#include "metric/row.h"

#include <math.h>

/* Softmax of one row, unnormalised: e[i] = exp(z[i] - z[top]). */
struct softmax {
    const float *z;
    double *e;
    double log_sum; /* ln sum e */
    double sum;
    size_t top; /* first index of the largest */
    bool broken;
};

static void softmax_of(struct softmax *softmax, size_t vocab)
{
    const float *z = softmax->z;
    size_t top = 0;
    int broken = 0;

    for (size_t i = 0; i < vocab; i++) {
        broken |= z[i] - z[i] != 0;
        if (z[i] > z[top])
            top = i;
    }
    softmax->broken = broken != 0;
    softmax->top = top;
    if (softmax->broken)
        return;
    softmax->sum = 0;
    for (size_t i = 0; i < vocab; i++) {
        softmax->e[i] = exp((double)z[i] - (double)z[top]);
        softmax->sum += softmax->e[i];
    }
    softmax->log_sum = log(softmax->sum);
}

static double log_p(const struct softmax *softmax, size_t i)
{
    return (double)softmax->z[i] - (double)softmax->z[softmax->top] -
           softmax->log_sum;
}

/* KL(p || q) as sum p (d + exp(-d) - 1), d = ln p - ln q, which is the same
 * since p and q each add up to one: no term is negative, so that nothing
 * cancels between terms, and equal rows give exactly 0.  Near 0 a term is its
 * series, since there it would cancel in itself. */
static double divergence(const struct softmax *p, const struct softmax *q,
                         size_t vocab)
{
    double sum = 0;

    for (size_t i = 0; i < vocab; i++) {
        const double d = log_p(p, i) - log_p(q, i);
        const double p_i = p->e[i] / p->sum;

        if (fabs(d) < 0x1p-5)
            sum += p_i * d * d *
                   (1.0 / 2 -
                    d * (1.0 / 6 -
                         d * (1.0 / 24 -
                              d * (1.0 / 120 - d * (1.0 / 720 - d / 5040)))));
        else
            sum += fmax(p_i * d + (q->e[i] / q->sum - p_i), 0);
    }
    return sum;
}

void qrb__row_measure(const float *base, const float *logits, int32_t target,
                      size_t vocab, double *scratch, struct qrb__row *out)
{
    struct softmax q = { .z = logits, .e = scratch };
    struct softmax p = { .z = base, .e = scratch + vocab };

    softmax_of(&q, vocab);
    out->broken = q.broken;
    if (base != NULL) {
        softmax_of(&p, vocab);
        out->broken |= p.broken;
    }
    if (out->broken)
        return;
    if (target >= 0)
        out->nll = -log_p(&q, (size_t)target);
    if (base == NULL)
        return;
    out->kl = divergence(&p, &q, vocab);
    out->agrees = p.top == q.top;
    if (target >= 0) {
        out->base_nll = -log_p(&p, (size_t)target);
        out->delta_p = q.e[target] / q.sum - p.e[target] / p.sum;
    }
}
