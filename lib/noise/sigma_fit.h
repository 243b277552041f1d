/* The arithmetic of calibrating an attack: how log r grows with sigma. */
#ifndef QRB_NOISE_SIGMA_FIT_H
#define QRB_NOISE_SIGMA_FIT_H

#include <stdbool.h>
#include <stddef.h>

struct qrb__sigma_fit {
    double slope;     /* a of log r = a sigma^2 + b */
    double intercept; /* b; 0 through the origin */
    bool through_origin;
};

/* Least squares of log_ratio [count] on (sigma^2, 1); through the origin where
 * |b| > 0.02, a <= 0 or R^2 < 0.98 (methods 4.3, step 3). */
struct qrb__sigma_fit qrb__sigma_fit(const double *sigma,
                                     const double *log_ratio, size_t count);

/* The same, always through the origin. */
struct qrb__sigma_fit qrb__sigma_fit_origin(const double *sigma,
                                            const double *log_ratio,
                                            size_t count);

/* sqrt((log_target - b) / a); NaN where there is none. */
double qrb__sigma_fit_solve(const struct qrb__sigma_fit *fit,
                            double log_target);

#endif
