/* Recovery and prompt statistics (methods 4.6): O(prompts), no memory. */
#include <qrobust/metric.h>

#include <math.h>

#include "core/context.h"

double qrb_recovery(double clean, double attacked, double defended)
{
    if (!(attacked > clean))
        return NAN;
    return 100 * (attacked - defended) / (attacked - clean);
}

/* Prompts of one token have no perplexity, whatever the weights. */
static bool is_counted(double clean, double defended, double attacked)
{
    return !(isnan(clean) && isnan(defended) && isnan(attacked));
}

struct sample {
    const double *x; /* [count], NaN: left out */
    size_t count;
    bool logarithm;
};

/* Sample variance (n - 1) in two passes. */
static double variance(const struct sample *sample)
{
    double mean = 0;
    double sum = 0;
    size_t n = 0;

    for (size_t i = 0; i < sample->count; i++)
        if (!isnan(sample->x[i])) {
            mean += sample->logarithm ? log(sample->x[i]) : sample->x[i];
            n++;
        }
    if (n < 2)
        return NAN;
    mean /= (double)n;
    for (size_t i = 0; i < sample->count; i++)
        if (!isnan(sample->x[i])) {
            const double x =
                sample->logarithm ? log(sample->x[i]) : sample->x[i];

            sum += (x - mean) * (x - mean);
        }
    return sum / (double)(n - 1);
}

static double fraction(uint64_t count, uint64_t of)
{
    return of > 0 ? (double)count / (double)of : NAN;
}

static double reduction(double defended, double attacked)
{
    return attacked > 0 ? 100 * (1 - defended / attacked) : NAN;
}

qrb_status qrb_prompt_statistics(const double *clean, const double *defended,
                                 const double *attacked, size_t count,
                                 qrb_prompt_result *out)
{
    const struct sample a = { defended, count, false };
    const struct sample b = { attacked, count, false };
    const struct sample log_a = { defended, count, true };
    const struct sample log_b = { attacked, count, true };
    qrb_prompt_result result = { .struct_size = sizeof result };
    uint64_t strict = 0;
    uint64_t below = 0;

    if (clean == NULL || defended == NULL || attacked == NULL || out == NULL ||
        qrb__result_check(NULL, "prompt result", out) != QRB_OK)
        return QRB_E_INVALID_ARG;
    for (size_t i = 0; i < count; i++) {
        if (!is_counted(clean[i], defended[i], attacked[i]))
            continue;
        if (!isfinite(clean[i]) || !isfinite(defended[i]) ||
            !isfinite(attacked[i]))
            return QRB_E_NOT_FINITE;
        if (clean[i] <= 0 || defended[i] <= 0 || attacked[i] <= 0)
            return QRB_E_INVALID_ARG;
        result.prompts++;
        below += defended[i] < attacked[i];
        strict += clean[i] < defended[i] && defended[i] < attacked[i];
    }
    result.strict_ordering = fraction(strict, result.prompts);
    result.defended_below = fraction(below, result.prompts);
    result.defended_variance = variance(&a);
    result.attacked_variance = variance(&b);
    result.variance_reduction =
        reduction(result.defended_variance, result.attacked_variance);
    result.log_variance_reduction =
        reduction(variance(&log_a), variance(&log_b));
    qrb__result_copy(&result, sizeof result, out);
    return QRB_OK;
}
