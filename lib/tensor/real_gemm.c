/* Matrix products cut into tiles, each one task of the context's parallel
 * loop.  How a product is cut depends on its shape alone, so the bits do not
 * depend on the number of threads.  No allocation: tiles pack on the stack. */
#include "tensor/gemm.h"

#include "kernel/real.h"
#include "tensor/blas.h"

#if QRB_REAL_BITS == 32
#define KERNELS(kernels) (&(kernels)->f32)
#else
#define KERNELS(kernels) (&(kernels)->f64)
#endif

/* A tile of at most TILE_M x TILE_N is halved until there are TILES, or it
 * is not worth a task of its own, or as small as the kernels like. */
enum {
    TILE_M = 128,
    TILE_N = 512,
    TILE_MIN = 32, /* a multiple of the columns that kernels work on */
    TILES = 8,
    BLAS_TILE = 1024,    /* the library packs both sides for each tile: */
    BLAS_TILE_MIN = 512, /* half the extents cost twice the packing */
    BLAS_TILES = 4
};
#define TILE_FLOPS 8e6

struct products {
    qrb_context *ctx;
    const struct qrb__gemm *shape;
    const real *const *a;
    const real *const *b;
    real *const *c;
    size_t tile_m;
    size_t tile_n;
    size_t tiles_m;
    size_t tiles_n;
    bool blas;
};

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static size_t half_of(size_t extent)
{
    return divide_up(divide_up(extent, 2), TILE_MIN) * TILE_MIN;
}

/* Measured: below this our own kernels win, which read A where it lies; above
 * it blocks for every level of the caches, which BLAS makes, win.  In double
 * we have plain C only. */
static bool is_large(const struct qrb__gemm *shape)
{
    const size_t least = QRB_REAL_BITS == 32 ? 512 : 16;

    return shape->m >= least && shape->n >= least && shape->k >= least;
}

static void cut(struct products *work, size_t count)
{
    const struct qrb__gemm *shape = work->shape;
    const size_t most_m = work->blas ? BLAS_TILE : TILE_M;
    const size_t most_n = work->blas ? BLAS_TILE : TILE_N;
    const size_t least = work->blas ? BLAS_TILE_MIN : TILE_MIN;
    /* Inside a task nobody else takes a tile, and larger ones pack less. */
    const size_t tiles = work->ctx->parallel_depth > 0 ? 1
                         : work->blas                  ? BLAS_TILES
                                                       : TILES;
    size_t m = shape->m < most_m ? shape->m : most_m;
    size_t n = shape->n < most_n ? shape->n : most_n;

    for (;;) {
        work->tile_m = m;
        work->tile_n = n;
        work->tiles_m = divide_up(shape->m, m);
        work->tiles_n = divide_up(shape->n, n);
        if (count * work->tiles_m * work->tiles_n >= tiles ||
            2.0 * (double)m * (double)n * (double)shape->k < 2 * TILE_FLOPS ||
            (m <= least && n <= least))
            return;
        if (n <= least || (m >= n && m > least))
            m = half_of(m);
        else
            n = half_of(n);
    }
}

static void product(const struct products *work,
                    const struct qrb__product *tile, const real *a,
                    const real *b, real *c)
{
    const struct qrb__kernels *kernels = &work->ctx->kernels;

    if (work->blas)
        REAL(qrb__blas_product)(kernels, tile, a, b, c);
    else
        KERNELS(kernels)->product(tile, a, b, c);
}

static void multiply_tile(size_t task, size_t worker, void *arg)
{
    const struct products *work = arg;
    const struct qrb__gemm *shape = work->shape;
    const size_t tiles = work->tiles_m * work->tiles_n;
    const size_t item = task / tiles;
    const size_t i = task % tiles / work->tiles_n * work->tile_m;
    const size_t j = task % tiles % work->tiles_n * work->tile_n;
    const struct qrb__product tile = {
        .m = shape->m - i < work->tile_m ? shape->m - i : work->tile_m,
        .n = shape->n - j < work->tile_n ? shape->n - j : work->tile_n,
        .k = shape->k,
        .row_a = shape->transpose_a ? 1 : shape->lda,
        .col_a = shape->transpose_a ? shape->lda : 1,
        .row_b = shape->transpose_b ? 1 : shape->ldb,
        .col_b = shape->transpose_b ? shape->ldb : 1,
        .row_c = shape->ldc,
        .alpha = shape->alpha,
        .beta = shape->beta,
    };

    (void)worker;
    product(work, &tile, work->a[item] + i * tile.row_a,
            work->b[item] + j * tile.col_b,
            work->c[item] + i * tile.row_c + j);
}

void REAL(qrb__gemm_batch)(qrb_context *ctx, const struct qrb__gemm *shape,
                           size_t count, const real *const *a,
                           const real *const *b, real *const *c)
{
    struct products work = {
        .ctx = ctx, .shape = shape, .a = a, .b = b, .c = c
    };
    int threads = 0;

    if (shape->m == 0 || shape->n == 0)
        return;
    work.blas = is_large(shape) && qrb__blas_fits(ctx, shape);
    cut(&work, count);
    if (work.blas)
        threads = qrb__blas_begin();
    qrb__parallel_for(ctx, count * work.tiles_m * work.tiles_n, multiply_tile,
                      &work);
    if (work.blas)
        qrb__blas_end(threads);
}

void REAL(qrb__gemm)(qrb_context *ctx, const struct qrb__gemm *shape,
                     const real *a, const real *b, real *c)
{
    REAL(qrb__gemm_batch)(ctx, shape, 1, &a, &b, &c);
}
