/* Gaussian noise on weights: w' = w + sigma n, n ~ N(0, 1) i.i.d. (methods
 * 4.2).  Element e of parameter p takes number e of the Philox stream (attack,
 * layer, p), keyed by the attack's seed, so a draw depends on neither threads
 * nor on which other parameters are attacked.  O(elements) time; memory is one
 * copy of the attacked weights, for the undo. */
#include <math.h>

#include "core/random.h"
#include "io/sha256.h"
#include "noise/noise.h"

struct attack {
    qrb_noise noise;
    qrb_attack_options options;
    double *sigma; /* [parameters], of this draw */
};

static struct attack *attack_of(qrb_noise *noise)
{
    return (struct attack *)noise; /* its first member */
}

static qrb_status bound(qrb_noise *noise)
{
    struct attack *attack = attack_of(noise);

    attack->sigma = qrb__alloc_array(noise->ctx, noise->binding.count,
                                     sizeof *attack->sigma);
    if (attack->sigma == NULL)
        return qrb__fail(noise->ctx, QRB_E_NO_MEMORY,
                         "attack on %zu parameters", noise->binding.count);
    return QRB_OK;
}

static void unbound(qrb_noise *noise)
{
    struct attack *attack = attack_of(noise);

    qrb__free(noise->ctx, attack->sigma);
    attack->sigma = NULL;
}

/* One pass of a standard deviation over all parameters. */
struct moments {
    qrb_noise *noise;
    double *centre; /* [parameters]; NULL: 0 */
};

static double value_at(const struct qrb__view *view, const void *chunk,
                       size_t i)
{
    return view->dtype == QRB_F32 ? (double)((const float *)chunk)[i]
                                  : ((const double *)chunk)[i];
}

/* Sums of w - centre and of its square over one block. */
static void sum_block(size_t task, size_t worker, void *arg)
{
    const struct moments *moments = arg;
    qrb_noise *noise = moments->noise;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__view *weight =
        &noise->binding.parameters[block.parameter]->weight;
    const double centre =
        moments->centre == NULL ? 0.0 : moments->centre[block.parameter];
    double sum = 0.0;
    double squares = 0.0;

    (void)worker;
    for (size_t done = 0; done < block.count; done += QRB__CHUNK) {
        const size_t n = qrb__chunk_at(&block, done);
        union qrb__chunk buffer;
        const void *w =
            qrb__chunk_load(noise->ctx, weight, block.first + done, n, &buffer);

        for (size_t i = 0; i < n; i++) {
            const double d = value_at(weight, w, i) - centre;

            sum += d;
            squares += d * d;
        }
    }
    noise->blocks.sums[task][0] = sum;
    noise->blocks.sums[task][1] = squares;
}

/* sigma * std of each parameter (of the population), in two passes: mean, then
 * spread around it. */
static qrb_status relative_sigmas(struct attack *attack)
{
    qrb_noise *noise = &attack->noise;
    const struct qrb__binding *binding = &noise->binding;
    struct moments moments = { noise, NULL };

    for (int pass = 0; pass < 2; pass++) {
        qrb__parallel_for(noise->ctx, qrb__blocks_total(&noise->blocks),
                          sum_block, &moments);
        for (size_t p = 0; p < binding->count; p++) {
            const double n =
                (double)qrb__view_elements(&binding->parameters[p]->weight);
            const double sum = qrb__blocks_sum(&noise->blocks, p, pass);

            attack->sigma[p] =
                pass == 0 ? sum / n : attack->options.sigma * sqrt(sum / n);
            if (!isfinite(attack->sigma[p]))
                return qrb__fail(noise->ctx, QRB_E_NOT_FINITE,
                                 "%s: has no finite standard deviation",
                                 binding->parameters[p]->name);
        }
        moments.centre = attack->sigma;
    }
    return QRB_OK;
}

static void perturb_block(size_t task, size_t worker, void *arg)
{
    const struct attack *attack = arg;
    const qrb_noise *noise = &attack->noise;
    const struct qrb__block block =
        qrb__block_at(&noise->blocks, noise->binding.parameters, task);
    const struct qrb__parameter *parameter =
        noise->binding.parameters[block.parameter];
    const double sigma = attack->sigma[block.parameter];
    const struct qrb__random random = qrb__random_at(
        attack->options.seed, 0,
        qrb__random_stream(QRB__RANDOM_ATTACK, (uint32_t)parameter->layer,
                           parameter->index, 0));

    (void)worker;
    for (size_t done = 0; done < block.count && sigma > 0.0;
         done += QRB__CHUNK) {
        const size_t n = qrb__chunk_at(&block, done);
        const size_t first = block.first + done;
        union qrb__chunk buffer;
        void *w =
            qrb__chunk_load(noise->ctx, &parameter->weight, first, n, &buffer);

        if (parameter->weight.dtype == QRB_F32)
            noise->ctx->kernels.add_normals(random.key, random.stream,
                                            random.step, first, sigma, n, w);
        else
            for (size_t i = 0; i < n; i++)
                ((double *)w)[i] +=
                    sigma * qrb__random_normal(&random, first + i);
        qrb__chunk_store(noise->ctx, &parameter->weight, first, n, w);
    }
}

static qrb_status perturb(qrb_noise *noise)
{
    struct attack *attack = attack_of(noise);
    qrb_status status = QRB_OK;

    /* Not even w + 0 n: -0 would become +0. */
    if (attack->options.sigma == 0.0)
        return QRB_OK;
    if (attack->options.scale == QRB_SIGMA_RELATIVE)
        status = relative_sigmas(attack);
    else
        for (size_t p = 0; p < noise->binding.count; p++)
            attack->sigma[p] = attack->options.sigma;
    if (status == QRB_OK)
        qrb__parallel_for(noise->ctx, qrb__blocks_total(&noise->blocks),
                          perturb_block, attack);
    return status;
}

static void digest(const qrb_noise *noise, struct qrb__sha256 *hash)
{
    const qrb_attack_options *options =
        &((const struct attack *)noise)->options;

    qrb__sha256_add(hash, options, sizeof *options);
}

static const struct qrb__noise_kind kind = {
    .name = "an attack",
    .bound = bound,
    .perturb = perturb,
    .unbound = unbound,
    .digest = digest,
};

static qrb_status check_sigma(qrb_context *ctx, double sigma)
{
    if (sigma >= 0.0 && isfinite(sigma))
        return QRB_OK;
    return qrb__fail(ctx, QRB_E_INVALID_ARG,
                     "attack: sigma is %g; it is at least 0 and finite", sigma);
}

qrb_status qrb_noise_create_attack(qrb_context *ctx,
                                   const qrb_attack_options *options,
                                   qrb_noise **out)
{
    qrb_attack_options known = QRB_ATTACK_OPTIONS_INIT;
    struct attack *attack;
    qrb_status status;

    if (out != NULL)
        *out = NULL;
    if (ctx == NULL || out == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(ctx, __func__);
    if (status != QRB_OK)
        return status;
    status =
        qrb__options_copy(ctx, options, sizeof known, "attack options", &known);
    if (status == QRB_OK)
        status = check_sigma(ctx, known.sigma);
    if (status != QRB_OK)
        return status;
    if (known.scale > QRB_SIGMA_RELATIVE || known.reserved != 0)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "attack: scale is %u (0..%d), reserved %u (0)",
                         known.scale, QRB_SIGMA_RELATIVE, known.reserved);
    attack = qrb__alloc_array(ctx, 1, sizeof *attack);
    if (attack == NULL)
        return qrb__fail(ctx, QRB_E_NO_MEMORY, "attack");
    attack->noise.ctx = ctx;
    attack->noise.kind = &kind;
    attack->options = known;
    *out = &attack->noise;
    return QRB_OK;
}

qrb_status qrb_attack_set(qrb_noise *noise, double sigma, uint64_t seed)
{
    qrb_status status;

    if (noise == NULL)
        return QRB_E_INVALID_ARG;
    status = qrb__not_in_callback(noise->ctx, __func__);
    if (status != QRB_OK)
        return status;
    if (noise->kind != &kind)
        return qrb__fail(noise->ctx, QRB_E_INVALID_ARG,
                         "%s is no attack: it has no sigma", noise->kind->name);
    if (noise->perturbed)
        return qrb__fail(noise->ctx, QRB_E_STATE,
                         "the attack is applied until qrb_perturb_end()");
    status = check_sigma(noise->ctx, sigma);
    if (status != QRB_OK)
        return status;
    attack_of(noise)->options.sigma = sigma;
    attack_of(noise)->options.seed = seed;
    return QRB_OK;
}

const qrb_attack_options *qrb__attack_options(const qrb_noise *noise)
{
    return noise->kind == &kind ? &((const struct attack *)noise)->options
                                : NULL;
}
