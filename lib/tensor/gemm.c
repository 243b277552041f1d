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

static bool is_best(const struct qrb__kernels *kernels)
{
    return arch_in_use(kernels) == wanted_arch(kernels) ||
           strcmp(kernels->name, "ref") == 0;
}

bool qrb__blas_fits(const qrb_context *ctx, const struct qrb__gemm *shape)
{
    _Static_assert(sizeof(dim_t) == sizeof(size_t),
                   "extents of BLIS are those of memory");
    (void)shape;
    return is_best(&ctx->kernels);
}

/* Each call says how many threads it wants. */
int qrb__blas_begin(void)
{
    return 0;
}

void qrb__blas_end(int begun)
{
    (void)begun;
}

static void describe(const struct qrb__kernels *kernels, char *out,
                     size_t size)
{
    const char *version = bli_info_get_version_str();
    const char *arch = bli_arch_string(arch_in_use(kernels));

    if (is_best(kernels))
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

#elif defined(QRB_BLAS_OPENBLAS)
#include <limits.h>

#include <cblas.h>

/* CBLAS counts in int. */
bool qrb__blas_fits(const qrb_context *ctx, const struct qrb__gemm *shape)
{
    return ctx->parallel_depth == 0 && shape->m <= INT_MAX && shape->n <= INT_MAX && shape->k <= INT_MAX &&
           shape->lda <= INT_MAX && shape->ldb <= INT_MAX &&
           shape->ldc <= INT_MAX;
}

/* OpenBLAS knows one number of threads for the whole process.  It is put back
 * after each product; hosts that call OpenBLAS themselves from other threads
 * meanwhile may see ours, which changes their speed and nothing else. */
int qrb__blas_begin(void)
{
    const int threads = openblas_get_num_threads();

    if (threads != 1)
        openblas_set_num_threads(1);
    return threads;
}

void qrb__blas_end(int begun)
{
    if (begun != 1)
        openblas_set_num_threads(begun);
}

static enum CBLAS_TRANSPOSE transposed(size_t col)
{
    return col == 1 ? CblasNoTrans : CblasTrans;
}

static int leading(size_t row, size_t col)
{
    return (int)(col == 1 ? row : col);
}

void qrb__blas_product_f32(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const float *a,
                           const float *b, float *c)
{
    (void)kernels;
    cblas_sgemm(CblasRowMajor, transposed(shape->col_a),
                transposed(shape->col_b), (int)shape->m, (int)shape->n,
                (int)shape->k, (float)shape->alpha, a,
                leading(shape->row_a, shape->col_a), b,
                leading(shape->row_b, shape->col_b), (float)shape->beta, c,
                (int)shape->row_c);
}

void qrb__blas_product_f64(const struct qrb__kernels *kernels,
                           const struct qrb__product *shape, const double *a,
                           const double *b, double *c)
{
    (void)kernels;
    cblas_dgemm(CblasRowMajor, transposed(shape->col_a),
                transposed(shape->col_b), (int)shape->m, (int)shape->n,
                (int)shape->k, shape->alpha, a,
                leading(shape->row_a, shape->col_a), b,
                leading(shape->row_b, shape->col_b), shape->beta, c,
                (int)shape->row_c);
}

/* The configuration begins with "OpenBLAS <version> ". */
static void describe(const struct qrb__kernels *kernels, char *out,
                     size_t size)
{
    const char *version = strchr(openblas_get_config(), ' ');
    int length = 0;

    (void)kernels;
    if (version != NULL) {
        version++;
        length = (int)strcspn(version, " ");
    }
    snprintf(out, size, "openblas %.*s, %s kernels", length,
             version == NULL ? "" : version, openblas_get_corename());
}

#else
/* Our own kernels alone: the tiles of large products are theirs, too. */
bool qrb__blas_fits(const qrb_context *ctx, const struct qrb__gemm *shape)
{
    (void)ctx;
    (void)shape;
    return false;
}

int qrb__blas_begin(void)
{
    return 0;
}

void qrb__blas_end(int begun)
{
    (void)begun;
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
