/* The sigma at which an attack raises perplexity by a wanted ratio (methods
 * 4.3).
 *
 * log r grows like a sigma^2 + b, so: find a sigma_hi at which r lies in
 * [1.2, 2]; fit a and b at four fractions of it, averaged over several draws;
 * solve for the target, and correct by secants on log r against sigma^2.  The
 * weights that are written are one draw, whose ratio differs from the average
 * by some percent, so the last correction is made on that very draw.  Weights
 * are restored after each of the evaluations, about 20 + 10 search_seeds of
 * them at most. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "core/context.h"
#include "model/model.h"
#include "noise/noise.h"
#include "noise/sigma_fit.h"
#include "recipe/scored_text.h"
#include "tensor/run.h"

enum { BRACKET_EVALUATIONS = 20, FIT_POINTS = 4, SECANT_STEPS = 5 };

struct calibration {
    qrb_context *ctx;
    qrb_noise *attack;
    struct qrb__text text;
    qrb_calibrate_options options;
    double clean_nll;
    uint64_t evaluations;
};

static qrb_status check_options(qrb_context *ctx,
                                const qrb_calibrate_options *options)
{
    if (!(options->ratio > 1.0) || !isfinite(options->ratio))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "attack: ratio is %g; it is above 1 and finite",
                         options->ratio);
    if (!(options->tolerance > 0.0 && options->tolerance < 1.0))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "attack: tolerance is %g; it lies in (0, 1)",
                         options->tolerance);
    if (options->search_seeds == 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "attack: search_seeds is 0; it is at least 1");
    return QRB_OK;
}

static qrb_status report(struct calibration *calibration, double sigma,
                         double log_ratio)
{
    const uint64_t total =
        1 + BRACKET_EVALUATIONS + SECANT_STEPS + 1 +
        (FIT_POINTS + SECANT_STEPS + 1) * calibration->options.search_seeds;
    char text[96];

    snprintf(text, sizeof text, "attack: sigma %.4g, perplexity x %.4f", sigma,
             exp(log_ratio));
    return qrb__progress(calibration->ctx, text, calibration->evaluations,
                         total);
}

/* log r of one draw; infinite where perplexity is not finite or not all of the
 * text could be scored.  The weights are as before on every exit. */
static qrb_status evaluate_draw(struct calibration *calibration, double sigma,
                                uint64_t seed, double *log_ratio)
{
    qrb_metric_result result = { .struct_size = sizeof result };
    qrb_status status;
    qrb_status restored;

    status = qrb_attack_set(calibration->attack, sigma, seed);
    if (status != QRB_OK)
        return status;
    status = qrb_perturb_begin(calibration->attack);
    if (status != QRB_OK)
        return status;
    status = qrb__text_run(&calibration->text, NULL, &result);
    restored = qrb_perturb_end(calibration->attack);
    if (status == QRB_OK)
        status = restored;
    if (status != QRB_OK)
        return status;
    calibration->evaluations++;
    *log_ratio = result.scored == calibration->text.scored
                     ? result.nll - calibration->clean_nll
                     : INFINITY;
    if (isnan(*log_ratio))
        *log_ratio = INFINITY;
    return report(calibration, sigma, *log_ratio);
}

/* The mean of log r over the first `draws` draws. */
static qrb_status evaluate_draws(struct calibration *calibration, double sigma,
                                 size_t draws, double *log_ratio)
{
    double sum = 0.0;

    for (size_t i = 0; i < draws; i++) {
        double one;
        const qrb_status status = evaluate_draw(
            calibration, sigma, calibration->options.seed + i, &one);

        if (status != QRB_OK)
            return status;
        sum += one;
    }
    *log_ratio = sum / (double)draws;
    return QRB_OK;
}

/* Root of the mean square of the targeted weights; 1 for relative sigmas,
 * which are in units of each tensor's own deviation. */
static double weight_scale(const struct calibration *calibration)
{
    const struct qrb__binding *binding = &calibration->attack->binding;
    double squares = 0.0;
    double elements = 0.0;

    if (qrb__attack_options(calibration->attack)->scale == QRB_SIGMA_RELATIVE)
        return 1.0;
    for (size_t p = 0; p < binding->count; p++) {
        const struct qrb__view *weight = &binding->parameters[p]->weight;
        const size_t count = qrb__view_elements(weight);
        double run[512];

        for (size_t first = 0; first < count; first += 512) {
            const size_t n = count - first < 512 ? count - first : 512;

            qrb__run_load(calibration->ctx, weight, first, n, QRB_F64, run);
            for (size_t i = 0; i < n; i++)
                squares += run[i] * run[i];
        }
        elements += (double)count;
    }
    return squares > 0.0 ? sqrt(squares / elements) : 1.0;
}

/* Step 1: double sigma until r is in [1.2, 2]; one doubling can jump over that
 * interval, and then the way back halves in log sigma. */
static qrb_status find_high(struct calibration *calibration, double *sigma_out)
{
    double sigma = 1e-3 * weight_scale(calibration);
    double below = 0.0;
    double above = INFINITY;

    for (int i = 0; i < BRACKET_EVALUATIONS; i++) {
        double log_ratio;
        const qrb_status status =
            evaluate_draws(calibration, sigma, 1, &log_ratio);

        if (status != QRB_OK)
            return status;
        *sigma_out = sigma;
        if (log_ratio >= log(1.2) && log_ratio <= log(2.0))
            return QRB_OK;
        if (log_ratio < log(1.2))
            below = sigma;
        else
            above = sigma;
        if (isinf(above))
            sigma = 2.0 * below;
        else
            sigma = below > 0.0 ? sqrt(below * above) : 0.5 * above;
    }
    return qrb__fail(calibration->ctx, QRB_E_STATE,
                     "attack: no sigma up to %g gives a perplexity ratio in "
                     "[1.2, 2]",
                     *sigma_out);
}

/* Steps 2 and 3.  Where one of several draws cannot be scored, the point says
 * nothing about the slope and is left out. */
static qrb_status fit_slope(struct calibration *calibration, double high,
                            struct qrb__sigma_fit *out)
{
    double sigma[FIT_POINTS];
    double log_ratio[FIT_POINTS];
    size_t points = 0;

    for (size_t i = 0; i < FIT_POINTS; i++) {
        qrb_status status;

        sigma[points] = high * (double)(i + 1) / FIT_POINTS;
        status = evaluate_draws(calibration, sigma[points],
                                calibration->options.search_seeds,
                                &log_ratio[points]);
        if (status != QRB_OK)
            return status;
        points += isfinite(log_ratio[points]) ? 1 : 0;
    }
    if (points < 2)
        return qrb__fail(calibration->ctx, QRB_E_NOT_FINITE,
                         "attack: perplexity is not finite at most sigmas up "
                         "to %g",
                         high);
    *out = qrb__sigma_fit(sigma, log_ratio, points);
    if (!(out->slope > 0.0))
        return qrb__fail(calibration->ctx, QRB_E_STATE,
                         "attack: noise up to sigma %g does not raise the "
                         "perplexity",
                         high);
    return QRB_OK;
}

/* Step 4: secants on log r against sigma^2 until r is within the tolerance;
 * the last *log_ratio is that of *sigma. */
static qrb_status correct(struct calibration *calibration, double slope,
                          size_t draws, double *sigma, double *log_ratio)
{
    const double target = log(calibration->options.ratio);
    double last_variance = 0.0;
    double last_log = 0.0;

    for (int i = 0; i <= SECANT_STEPS; i++) {
        const double variance = *sigma * *sigma;
        qrb_status status;
        double next;

        status = evaluate_draws(calibration, *sigma, draws, log_ratio);
        if (status != QRB_OK)
            return status;
        if (fabs(expm1(*log_ratio - target)) < calibration->options.tolerance ||
            i == SECANT_STEPS)
            return QRB_OK;
        if (i > 0 && isfinite(*log_ratio) && isfinite(last_log)) {
            const double secant =
                (*log_ratio - last_log) / (variance - last_variance);

            if (secant > 0.0 && isfinite(secant))
                slope = secant;
        }
        last_variance = variance;
        last_log = *log_ratio;
        next = variance + (target - *log_ratio) / slope;
        /* A step that far is noise in the secant, not knowledge. */
        *sigma = sqrt(fmin(fmax(next, variance / 4.0), variance * 4.0));
    }
    return QRB_OK;
}

static qrb_status calibrate(struct calibration *calibration,
                            qrb_calibrate_result *out)
{
    const qrb_calibrate_options *options = &calibration->options;
    qrb_metric_result clean = { .struct_size = sizeof clean };
    struct qrb__sigma_fit fit;
    double sigma;
    double high;
    double log_ratio;
    qrb_status status;

    status = qrb__text_run(&calibration->text, NULL, &clean);
    if (status != QRB_OK)
        return status;
    if (!isfinite(clean.perplexity) || clean.scored != calibration->text.scored)
        return qrb__fail(calibration->ctx, QRB_E_NOT_FINITE,
                         "attack: the unperturbed model scores %llu of %llu "
                         "tokens with perplexity %g",
                         (unsigned long long)clean.scored,
                         (unsigned long long)calibration->text.scored,
                         clean.perplexity);
    calibration->clean_nll = clean.nll;
    calibration->text.whole = true; /* an infinite ratio needs no more */
    calibration->evaluations++;

    status = find_high(calibration, &high);
    if (status == QRB_OK)
        status = fit_slope(calibration, high, &fit);
    if (status != QRB_OK)
        return status;
    sigma = qrb__sigma_fit_solve(&fit, log(options->ratio));
    if (!isfinite(sigma))
        sigma = high;
    status = correct(calibration, fit.slope, options->search_seeds, &sigma,
                     &log_ratio);
    /* Step 5: the same on the draw that will be written. */
    if (status == QRB_OK && options->search_seeds > 1)
        status = correct(calibration, fit.slope, 1, &sigma, &log_ratio);
    if (status != QRB_OK)
        return status;
    if (!(fabs(expm1(log_ratio - log(options->ratio))) < options->tolerance))
        return qrb__fail(calibration->ctx, QRB_E_STATE,
                         "attack: the nearest is a perplexity ratio of %.6g "
                         "at sigma %.6g, not within %g %% of %g",
                         exp(log_ratio), sigma, 100.0 * options->tolerance,
                         options->ratio);
    out->sigma = sigma;
    out->achieved_ratio = exp(log_ratio);
    out->slope = fit.slope;
    out->intercept = fit.intercept;
    out->evaluations = calibration->evaluations;
    return QRB_OK;
}

qrb_status qrb_attack_calibrate(qrb_model *model, qrb_noise *attack,
                                const int32_t *tokens, size_t count,
                                const qrb_calibrate_options *options,
                                qrb_calibrate_result *out)
{
    const qrb_calibrate_options defaults = QRB_CALIBRATE_OPTIONS_INIT;
    qrb_calibrate_result result = { .struct_size = sizeof result };
    struct calibration calibration = { .options = defaults };
    qrb_attack_options before;
    qrb_status status;

    if (model == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(model->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (attack == NULL || qrb__attack_options(attack) == NULL ||
        attack->binding.model != model)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "attack: the noise is no attack that is bound to "
                         "the model");
    status = qrb__result_check(model->ctx, "calibrate result", out);
    if (status == QRB_OK)
        status = qrb__options_copy(model->ctx, options, sizeof defaults,
                                   "calibrate options", &calibration.options);
    if (status == QRB_OK)
        status = check_options(model->ctx, &calibration.options);
    if (status != QRB_OK)
        return status;

    before = *qrb__attack_options(attack);
    calibration.ctx = model->ctx;
    calibration.attack = attack;
    status = qrb__text_open(&calibration.text, model, NULL, tokens, count,
                            calibration.options.evaluate);
    if (status == QRB_OK)
        status = calibrate(&calibration, &result);
    status = qrb__text_close(&calibration.text, status);
    if (status != QRB_OK) {
        qrb_attack_set(attack, before.sigma, before.seed);
        return status;
    }
    status = qrb_attack_set(attack, result.sigma, calibration.options.seed);
    if (status == QRB_OK && out != NULL)
        qrb__result_copy(&result, sizeof result, out);
    return status;
}
