/* The only file that knows BLIS (or another BLAS, by the build's option).
 *
 * BLIS chooses its kernels by the processor's brand string and misses AVX-512
 * on virtual machines.  Its static archive lets us pass the context that
 * CPUID asks for; its shared library hides that function, which is therefore
 * a weak reference: without it BLIS runs what it chose, and qrb__blas_fits()
 * says whether that is good enough.  BLIS's own threads are never used. */
#include "tensor/blas.h"
#include "tensor/gemm.h"

#include <stdio.h>
#include <string.h>

#if defined(QRB_BLAS_BLIS)
#if defined(QRB_BLIS_UPSTREAM_HEADER)
#include <blis/blis.h>
#else
#include <blis.h>
#endif

#if defined(QRB_BLIS_CONTEXTS)
#pragma weak bli_gks_lookup_id
#endif

/* The kernels of BLIS that match ours. */
static arch_t wanted_arch(const struct qrb__kernels *kernels)
{
#if defined(__x86_64__)
    if (strcmp(kernels->name, "avx512") == 0)
        return BLIS_ARCH_SKX;
    if (strcmp(kernels->name, "avx2") == 0)
        return BLIS_ARCH_HASWELL;
#endif
    (void)kernels;
    return BLIS_ARCH_GENERIC;
}

/* NULL: what BLIS chose. */
static cntx_t *native_context(arch_t arch)
{
#if defined(QRB_BLIS_CONTEXTS)
    cntx_t **contexts;

    if (bli_gks_lookup_id == NULL)
        return NULL;
    bli_init();
    contexts = bli_gks_lookup_id(arch);
    return contexts == NULL ? NULL : contexts[BLIS_NAT];
#else
    (void)arch;
    return NULL;
#endif
}

static arch_t arch_in_use(const struct qrb__kernels *kernels)
{
    const arch_t wanted = wanted_arch(kernels);

    return native_context(wanted) != NULL ? wanted : bli_arch_query_id();
}

bool qrb__blas_fits(const struct qrb__kernels *kernels)
{
    const arch_t arch = arch_in_use(kernels);

    return arch == wanted_arch(kernels) || strcmp(kernels->name, "ref") == 0;
}

static void describe(const struct qrb__kernels *kernels, char *out,
                     size_t size)
{
    const char *version = bli_info_get_version_str();
    const char *arch = bli_arch_string(arch_in_use(kernels));

    if (qrb__blas_fits(kernels))
        snprintf(out, size, "blis %s, %s kernels", version, arch);
    else
        snprintf(out, size, "own %s kernels (blis %s has chosen %s)",
                 kernels->name, version, arch);
}

static rntm_t one_thread(void)
{
    rntm_t runtime;

    bli_rntm_init_from_global(&runtime);
    bli_rntm_set_num_threads(1, &runtime);
    return runtime;
}

void qrb__blas_product_f32(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const float *a,
                           const float *b, float *c)
{
    rntm_t runtime = one_thread();
    float alpha = (float)shape->alpha;
    float beta = (float)shape->beta;

    bli_sgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)shape->m,
                 (dim_t)shape->n, (dim_t)shape->k, &alpha, (float *)a,
                 (inc_t)shape->row_a, (inc_t)shape->col_a, (float *)b,
                 (inc_t)shape->row_b, (inc_t)shape->col_b, &beta, c,
                 (inc_t)shape->row_c, 1, native_context(wanted_arch(kernels)),
                 &runtime);
}

void qrb__blas_product_f64(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const double *a,
                           const double *b, double *c)
{
    rntm_t runtime = one_thread();
    double alpha = shape->alpha;
    double beta = shape->beta;

    bli_dgemm_ex(BLIS_NO_TRANSPOSE, BLIS_NO_TRANSPOSE, (dim_t)shape->m,
                 (dim_t)shape->n, (dim_t)shape->k, &alpha, (double *)a,
                 (inc_t)shape->row_a, (inc_t)shape->col_a, (double *)b,
                 (inc_t)shape->row_b, (inc_t)shape->col_b, &beta, c,
                 (inc_t)shape->row_c, 1, native_context(wanted_arch(kernels)),
                 &runtime);
}

#else
bool qrb__blas_fits(const struct qrb__kernels *kernels)
{
    (void)kernels;
    return false;
}

void qrb__blas_product_f32(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const float *a,
                           const float *b, float *c)
{
    kernels->f32.product(shape, a, b, c);
}

void qrb__blas_product_f64(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const double *a,
                           const double *b, double *c)
{
    kernels->f64.product(shape, a, b, c);
}

static void describe(const struct qrb__kernels *kernels, char *out,
                     size_t size)
{
    snprintf(out, size, "own %s kernels", kernels->name);
}
#endif

/* Written on the first call: contexts are never constant themselves, and
 * serve one thread at a time. */
const char *qrb_context_blas(const qrb_context *ctx)
{
    qrb_context *writable = (qrb_context *)ctx;

    if (ctx == NULL)
        return "";
    if (ctx->blas[0] == '\0')
        describe(&ctx->kernels, writable->blas, sizeof writable->blas);
    return ctx->blas;
}
