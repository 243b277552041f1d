/* Fit of log perplexity ratios to the variance of the noise that caused them.
 *
 * To second order a symmetric perturbation of variance sigma^2 raises the loss
 * by sigma^2 / 2 times the trace of its Hessian, so log r = a sigma^2 + b with
 * b near 0.  O(count) time, sums in double. */
#include "noise/sigma_fit.h"

#include <math.h>

struct qrb__sigma_fit qrb__sigma_fit_origin(const double *sigma,
                                            const double *log_ratio,
                                            size_t count)
{
    double xy = 0.0;
    double xx = 0.0;

    for (size_t i = 0; i < count; i++) {
        const double x = sigma[i] * sigma[i];

        xy += x * log_ratio[i];
        xx += x * x;
    }
    return (struct qrb__sigma_fit){ xy / xx, 0.0, true };
}

struct qrb__sigma_fit qrb__sigma_fit(const double *sigma,
                                     const double *log_ratio, size_t count)
{
    struct qrb__sigma_fit fit = { 0.0, 0.0, false };
    double mean_x = 0.0;
    double mean_y = 0.0;
    double xx = 0.0;
    double xy = 0.0;
    double yy = 0.0;

    for (size_t i = 0; i < count; i++) {
        mean_x += sigma[i] * sigma[i] / (double)count;
        mean_y += log_ratio[i] / (double)count;
    }
    for (size_t i = 0; i < count; i++) {
        const double x = sigma[i] * sigma[i] - mean_x;
        const double y = log_ratio[i] - mean_y;

        xx += x * x;
        xy += x * y;
        yy += y * y;
    }
    fit.slope = xy / xx;
    fit.intercept = mean_y - fit.slope * mean_x;
    /* R^2 = xy^2 / (xx yy); the form without a quotient takes yy = 0. */
    if (!(fit.slope > 0.0) || fabs(fit.intercept) > 0.02 ||
        xy * xy < 0.98 * xx * yy)
        return qrb__sigma_fit_origin(sigma, log_ratio, count);
    return fit;
}

double qrb__sigma_fit_solve(const struct qrb__sigma_fit *fit, double log_target)
{
    const double variance = (log_target - fit->intercept) / fit->slope;

    return fit->slope > 0.0 && variance > 0.0 ? sqrt(variance) : NAN;
}
