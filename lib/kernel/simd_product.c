/* A tile of a matrix product in vectors.
 *
 * C is computed in blocks of at most ROWS rows and 2 * LANES columns, held in
 * registers over BLOCK_K steps of k.  A is read where it lies, one element
 * broadcast at a time; B is read where it lies if its rows are dense and
 * their ends need no mask, else a panel of it is packed on the stack and used
 * by every row of the tile.  Every sum runs over k in ascending order in
 * blocks of BLOCK_K, so an element of C depends on its row of A, its column
 * of B and k alone: not on where tiles begin. */
#include "kernel/simd.h"

/* With AVX-512 14 rows of two vectors of C, two of B and one of A take 31 of
 * the 32 registers; with AVX2 6 rows take 15 of the 16. */
#if LANES == 16
#define ROWS 14
#else
#define ROWS 6
#endif

enum { BLOCK_K = 256, COLUMNS = 2 * LANES };

/* One block of a product: what stays the same over its rows. */
struct panel {
    size_t k;
    size_t row_a;
    size_t col_a;
    const float *b; /* [k, COLUMNS], rows row_b apart */
    size_t row_b;
    size_t row_c;
    float alpha;
    float beta;
    vec_mask last; /* lanes of the last vector of a row of C */
};

/* rows, vectors and unit are constants where this is called, so the loops
 * unroll and the sums live in registers.  unit: the rows of A are dense,
 * otherwise its columns are. */
static inline __attribute__((always_inline)) void
multiply_rows(const struct panel *panel, int rows, int vectors, int unit,
              const float *restrict a, float *restrict c)
{
    const float *restrict b = panel->b;
    const size_t row_b = panel->row_b;
    const size_t row_a = unit ? panel->row_a : 1;
    const size_t col_a = unit ? 1 : panel->col_a;
    const vec alpha = vec_set(panel->alpha);
    vec sum[ROWS][2];

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            sum[i][j] = vec_set(0);
    for (size_t p = panel->k; p > 0; p--) {
        vec row[2];

#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++)
            row[j] = vec_load(b + j * LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const vec factor = vec_set(a[(size_t)i * row_a]);

#pragma GCC unroll 2
            for (int j = 0; j < vectors; j++)
                sum[i][j] = vec_fma(factor, row[j], sum[i][j]);
        }
        b += row_b;
        a += col_a;
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        float *out = c + (size_t)i * panel->row_c;

#pragma GCC unroll 2
        for (int j = 0; j < vectors; j++, out += LANES) {
            vec value = vec_mul(alpha, sum[i][j]);

            if (j + 1 < vectors) {
                if (panel->beta != 0)
                    value = vec_fma(vec_set(panel->beta),
                                       vec_load(out), value);
                vec_store(out, value);
            } else {
                if (panel->beta != 0)
                    value = vec_fma(vec_set(panel->beta),
                                       vec_load_masked(out, panel->last),
                                       value);
                vec_store_masked(out, panel->last, value);
            }
        }
    }
}

typedef void (*multiply_fn)(const struct panel *panel, const float *a,
                            float *c);

#define MULTIPLY(rows, vectors, unit)                                         \
    static void multiply_##rows##_##vectors##_##unit(                         \
        const struct panel *panel, const float *a, float *c)                  \
    {                                                                         \
        multiply_rows(panel, rows, vectors, unit, a, c);                      \
    }
#define MULTIPLY_ALL(rows)                                                    \
    MULTIPLY(rows, 1, 0)                                                      \
    MULTIPLY(rows, 1, 1)                                                      \
    MULTIPLY(rows, 2, 0)                                                      \
    MULTIPLY(rows, 2, 1)
#define MULTIPLY_ROW(rows)                                                    \
    { { multiply_##rows##_1_0, multiply_##rows##_1_1 },                       \
      { multiply_##rows##_2_0, multiply_##rows##_2_1 } }

MULTIPLY_ALL(1)
MULTIPLY_ALL(2)
MULTIPLY_ALL(3)
MULTIPLY_ALL(4)
MULTIPLY_ALL(5)
MULTIPLY_ALL(6)
#if ROWS > 6
MULTIPLY_ALL(7)
MULTIPLY_ALL(8)
MULTIPLY_ALL(9)
MULTIPLY_ALL(10)
MULTIPLY_ALL(11)
MULTIPLY_ALL(12)
MULTIPLY_ALL(13)
MULTIPLY_ALL(14)
#endif

/* By rows less one, vectors less one, and whether rows of A are dense. */
static const multiply_fn multiply[ROWS][2][2] = {
    MULTIPLY_ROW(1), MULTIPLY_ROW(2), MULTIPLY_ROW(3),
    MULTIPLY_ROW(4), MULTIPLY_ROW(5), MULTIPLY_ROW(6),
#if ROWS > 6
    MULTIPLY_ROW(7), MULTIPLY_ROW(8), MULTIPLY_ROW(9),
    MULTIPLY_ROW(10), MULTIPLY_ROW(11), MULTIPLY_ROW(12),
    MULTIPLY_ROW(13), MULTIPLY_ROW(14),
#endif
};

/* All rows of a panel, in blocks of nearly equal height. */
static void multiply_panel(const struct panel *panel, size_t m, size_t n,
                           const float *a, float *c)
{
    const size_t blocks = (m + ROWS - 1) / ROWS;
    const size_t vectors = n > LANES ? 2 : 1;
    const int unit = panel->col_a == 1;

    for (size_t block = 0, i = 0; block < blocks; block++) {
        const size_t rows = m / blocks + (block < m % blocks);

        multiply[rows - 1][vectors - 1][unit](
            panel, a + i * panel->row_a, c + i * panel->row_c);
        i += rows;
    }
}

/* B [k, n] becomes out [k, COLUMNS] with zeros behind its columns. */
static void pack_rows(const float *b, size_t row_b, size_t k, size_t n,
                      float *out)
{
    const vec_mask low = vec_first(n < LANES ? n : LANES);
    const vec_mask high = vec_first(n > LANES ? n - LANES : 0);

    for (size_t p = 0; p < k; p++, b += row_b, out += COLUMNS) {
        vec_store(out, vec_load_masked(b, low));
        if (n > LANES)
            vec_store(out + LANES, vec_load_masked(b + LANES, high));
    }
}

/* The same for B whose columns are dense, col_b apart. */
static void pack_columns(const float *b, size_t col_b, size_t k, size_t n,
                         float *out)
{
    for (size_t j = 0; j < n; j += LANES) {
        for (size_t p = 0; p < k; p += LANES) {
            const size_t steps = k - p < LANES ? k - p : (size_t)LANES;
            const vec_mask mask = vec_first(steps);
            vec rows[LANES];

#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++)
                rows[i] =
                    j + i < n ? vec_load_masked(b + (j + i) * col_b + p, mask)
                              : vec_set(0);
            vec_transpose(rows);
#pragma GCC unroll 16
            for (size_t i = 0; i < LANES; i++)
                if (i < steps)
                    vec_store(out + (p + i) * COLUMNS + j, rows[i]);
        }
    }
}

static void product(const struct qrb__product *shape, const float *a,
                    const float *b, float *c)
{
    _Alignas(64) float packed[BLOCK_K * COLUMNS];

    for (size_t p = 0; p == 0 || p < shape->k; p += BLOCK_K) {
        const size_t k = shape->k - p < BLOCK_K ? shape->k - p : BLOCK_K;

        for (size_t j = 0; j < shape->n; j += COLUMNS) {
            const size_t n =
                shape->n - j < COLUMNS ? shape->n - j : (size_t)COLUMNS;
            const float *from = b + p * shape->row_b + j * shape->col_b;
            struct panel panel = { .k = k,
                                   .row_a = shape->row_a,
                                   .col_a = shape->col_a,
                                   .b = from,
                                   .row_b = shape->row_b,
                                   .row_c = shape->row_c,
                                   .alpha = (float)shape->alpha,
                                   .beta = p == 0 ? (float)shape->beta : 1,
                                   .last = vec_first((n - 1) % LANES + 1) };

            if (shape->col_b != 1) {
                pack_columns(from, shape->col_b, k, n, packed);
                panel.b = packed;
                panel.row_b = COLUMNS;
            } else if (n % LANES != 0) {
                pack_rows(from, shape->row_b, k, n, packed);
                panel.b = packed;
                panel.row_b = COLUMNS;
            }
            multiply_panel(&panel, shape->m, n, a + p * shape->col_a, c + j);
        }
    }
}

void SIMD(qrb__product)(struct qrb__kernels *kernels)
{
    kernels->f32.product = product;
}
