/* Matrix products cut into tiles, each one task of the context's parallel
 * loop.  How a product is cut depends on its shape alone, so the bits do not
 * depend on the number of threads.  No allocation: tiles pack on the stack. */
#include "tensor/gemm.h"

#include "kernel/real.h"

/* Rows and columns of a tile: enough work to be worth a task, and small
 * enough that what is packed for it stays in the second level cache. */
enum { TILE_M = 128, TILE_N = 512 };

struct products {
    qrb_context *ctx;
    const struct qrb__gemm *shape;
    const real *const *a;
    const real *const *b;
    real *const *c;
    size_t tiles_m;
    size_t tiles_n;
};

static size_t divide_up(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static void product(qrb_context *ctx, const struct qrb__product *tile,
                    const real *a, const real *b, real *c)
{
#if QRB_REAL_BITS == 32
    ctx->kernels.f32.product(tile, a, b, c);
#else
    ctx->kernels.f64.product(tile, a, b, c);
#endif
}

static void multiply_tile(size_t task, size_t worker, void *arg)
{
    const struct products *work = arg;
    const struct qrb__gemm *shape = work->shape;
    const size_t tiles = work->tiles_m * work->tiles_n;
    const size_t item = task / tiles;
    const size_t i = task % tiles / work->tiles_n * TILE_M;
    const size_t j = task % tiles % work->tiles_n * TILE_N;
    const struct qrb__product tile = {
        .m = shape->m - i < TILE_M ? shape->m - i : TILE_M,
        .n = shape->n - j < TILE_N ? shape->n - j : TILE_N,
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
    product(work->ctx, &tile, work->a[item] + i * tile.row_a,
            work->b[item] + j * tile.col_b,
            work->c[item] + i * tile.row_c + j);
}

void REAL(qrb__gemm_batch)(qrb_context *ctx, const struct qrb__gemm *shape,
                           size_t count, const real *const *a,
                           const real *const *b, real *const *c)
{
    struct products work = { ctx,
                             shape,
                             a,
                             b,
                             c,
                             divide_up(shape->m, TILE_M),
                             divide_up(shape->n, TILE_N) };

    qrb__parallel_for(ctx, count * work.tiles_m * work.tiles_n, multiply_tile,
                      &work);
}

void REAL(qrb__gemm)(qrb_context *ctx, const struct qrb__gemm *shape,
                     const real *a, const real *b, real *c)
{
    REAL(qrb__gemm_batch)(ctx, shape, 1, &a, &b, &c);
}
