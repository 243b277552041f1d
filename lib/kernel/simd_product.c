/* A tile of a matrix product in vectors.
 *
 * C is computed in blocks of at most ROWS rows and 2 * LANES columns, held in
 * registers over BLOCK_K steps of k.  A is read where it lies, one element
 * broadcast at a time; B is read where it lies if its rows are dense and
 * their ends need no mask, else a panel of it is packed on the stack and used
 * by every row of the tile.
 *
 * A few rows by a transposed B, as in the decoding of single tokens, are
 * scalar products instead: nothing would repay packing B. */
#include "kernel/simd.h"

/* With AVX-512 14 rows of two vectors of C, two of B and one of A take 31 of
 * the 32 registers; with AVX2 6 rows take 15 of the 16. */
#if LANES == 16
#define ROWS 14
#else
#define ROWS 6
#endif

enum { BLOCK_M = 128, BLOCK_K = 256, COLUMNS = 2 * LANES };

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

/* Height of block `index` when m rows are cut as evenly as possible. */
static inline size_t block_rows(size_t m, size_t index)
{
    const size_t blocks = (m + ROWS - 1) / ROWS;

    return m / blocks + (index < m % blocks);
}

/* All rows of a panel; a_packed [k, rows] for each block, or NULL. */
static void multiply_panel(const struct panel *panel, size_t m, size_t n,
                           const float *a, const float *a_packed, float *c)
{
    const size_t vectors = n > LANES ? 2 : 1;
    const int unit = a_packed == NULL && panel->col_a == 1;
    struct panel block = *panel;

    for (size_t index = 0, i = 0; i < m; index++) {
        const size_t rows = block_rows(m, index);
        const float *from = a + i * panel->row_a;

        if (a_packed != NULL) {
            block.col_a = rows;
            from = a_packed + i * panel->k;
        }
        multiply[rows - 1][vectors - 1][unit](&block, from,
                                              c + i * panel->row_c);
        i += rows;
    }
}

/* x [k, n], n <= LANES, becomes out [k, n], its rows `apart` floats apart.
 * Whole vectors are stored, each over the end of the one before: LANES floats
 * behind out are written, too. */
static void pack_rows(const float *x, size_t row, size_t k, size_t n,
                      float *out, size_t apart)
{
    const vec_mask mask = vec_first(n);

    for (size_t p = 0; p < k; p++, x += row, out += apart)
        vec_store(out, vec_load_masked(x, mask));
}

/* The same for x whose columns are dense, col apart. */
static void pack_columns(const float *x, size_t col, size_t k, size_t n,
                         float *out, size_t apart)
{
    for (size_t p = 0; p < k; p += LANES) {
        const size_t steps = k - p < LANES ? k - p : (size_t)LANES;
        const vec_mask mask = vec_first(steps);
        vec rows[LANES];

#pragma GCC unroll 16
        for (size_t i = 0; i < LANES; i++)
            rows[i] = i < n ? vec_load_masked(x + i * col + p, mask)
                            : vec_set(0);
        vec_transpose(rows);
#pragma GCC unroll 16
        for (size_t i = 0; i < LANES; i++)
            if (i < steps)
                vec_store(out + (p + i) * apart, rows[i]);
    }
}

static void pack(const float *x, size_t row, size_t col, size_t k, size_t n,
                 float *out, size_t apart)
{
    if (col == 1)
        pack_rows(x, row, k, n, out, apart);
    else
        pack_columns(x, col, k, n, out, apart);
}

/* Blocks of A [m, k] one behind the other, each [k, rows]. */
static void pack_a(const struct qrb__product *shape, const float *a, size_t m,
                   size_t k, float *out)
{
    for (size_t index = 0, i = 0; i < m; index++) {
        const size_t rows = block_rows(m, index);

        pack(a + i * shape->row_a, shape->col_a, shape->row_a, k, rows,
             out + i * k, rows);
        i += rows;
    }
}

/* B [k, n] becomes out [k, COLUMNS] with zeros behind its columns. */
static void pack_b(const struct qrb__product *shape, const float *b, size_t k,
                   size_t n, float *out)
{
    for (size_t j = 0; j < n; j += LANES)
        pack(b + j * shape->col_b, shape->row_b, shape->col_b, k,
             n - j < LANES ? n - j : (size_t)LANES, out + j, COLUMNS);
}

/* Packing A costs about as much as multiplying it by 16 columns.  It pays
 * where each step of k lies in another part of a page, for the prefetchers
 * follow rows, and columns that are near each other, but not these. */
static int worth_packing(const struct qrb__product *shape)
{
    return shape->row_a == 1 && shape->col_a >= 512 && shape->n > COLUMNS;
}

/* Rows [0, m) over one block of k; first: beta is still to be applied. */
static void multiply_block(const struct qrb__product *shape, size_t m,
                           size_t k, int first, const float *a,
                           const float *b, float *c)
{
    _Alignas(64) float a_packed[BLOCK_M * BLOCK_K + LANES];
    _Alignas(64) float b_packed[BLOCK_K * COLUMNS + LANES];
    const int packs = worth_packing(shape);

    if (packs)
        pack_a(shape, a, m, k, a_packed);
    for (size_t j = 0; j < shape->n; j += COLUMNS) {
        const size_t left = shape->n - j;
        const size_t n = left < COLUMNS ? left : (size_t)COLUMNS;
        struct panel panel = { .k = k,
                               .row_a = shape->row_a,
                               .col_a = shape->col_a,
                               .b = b + j * shape->col_b,
                               .row_b = shape->row_b,
                               .row_c = shape->row_c,
                               .alpha = (float)shape->alpha,
                               .beta = first ? (float)shape->beta : 1,
                               .last = vec_first((n - 1) % LANES + 1) };

        /* Rows far apart are packed for the same reason as columns of A. */
        if (shape->col_b != 1 || n % LANES != 0 ||
            (shape->row_b >= 512 && m > 3 * ROWS)) {
            pack_b(shape, panel.b, k, n, b_packed);
            panel.b = b_packed;
            panel.row_b = COLUMNS;
        }
        multiply_panel(&panel, m, n, a, packs ? a_packed : NULL, c + j);
    }
}

/* Rows whose scalar products with FEW_COLUMNS columns of B stay in registers,
 * beside the vectors that they are made of. */
enum { FEW_ROWS = LANES == 16 ? 4 : 2, FEW_COLUMNS = 4 };

/* C [rows, columns] for rows of A and columns of B that are dense; both counts
 * are constants where this is called. */
static inline __attribute__((always_inline)) void
multiply_few(const struct qrb__product *shape, int rows, int columns,
             const float *a, const float *b, float *c)
{
    const size_t whole = shape->k - shape->k % LANES;
    const vec_mask rest = vec_first(shape->k - whole);
    vec sum[FEW_ROWS][FEW_COLUMNS];

#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++)
            sum[i][j] = vec_set(0);
    for (size_t p = 0; p < shape->k; p += LANES) {
        const int full = p < whole;
        vec column[FEW_COLUMNS];

#pragma GCC unroll 4
        for (int j = 0; j < columns; j++) {
            const float *from = b + (size_t)j * shape->col_b + p;

            column[j] = full ? vec_load(from) : vec_load_masked(from, rest);
        }
#pragma GCC unroll 4
        for (int i = 0; i < rows; i++) {
            const float *from = a + (size_t)i * shape->row_a + p;
            const vec row =
                full ? vec_load(from) : vec_load_masked(from, rest);

#pragma GCC unroll 4
            for (int j = 0; j < columns; j++)
                sum[i][j] = vec_fma(row, column[j], sum[i][j]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < columns; j++) {
            float *out = c + (size_t)i * shape->row_c + j;
            const float value = (float)shape->alpha * vec_sum_lanes(sum[i][j]);

            *out = shape->beta == 0 ? value
                                    : value + (float)shape->beta * *out;
        }
}

static inline __attribute__((always_inline)) void
multiply_few_rows(const struct qrb__product *shape, int rows, const float *a,
                  const float *b, float *c)
{
    size_t j = 0;

    for (; j + FEW_COLUMNS <= shape->n; j += FEW_COLUMNS)
        multiply_few(shape, rows, FEW_COLUMNS, a, b + j * shape->col_b, c + j);
    for (; j < shape->n; j++)
        multiply_few(shape, rows, 1, a, b + j * shape->col_b, c + j);
}

static void product_of_few(const struct qrb__product *shape, const float *a,
                           const float *b, float *c)
{
    switch (shape->m) {
    case 1:
        multiply_few_rows(shape, 1, a, b, c);
        break;
    case 2:
        multiply_few_rows(shape, 2, a, b, c);
        break;
#if LANES == 16
    case 3:
        multiply_few_rows(shape, 3, a, b, c);
        break;
    case 4:
        multiply_few_rows(shape, 4, a, b, c);
        break;
#endif
    default:
        break;
    }
}

static void product(const struct qrb__product *shape, const float *a,
                    const float *b, float *c)
{
    if (shape->m <= FEW_ROWS && shape->col_a == 1 && shape->row_b == 1) {
        product_of_few(shape, a, b, c);
        return;
    }
    for (size_t i = 0; i < shape->m; i += BLOCK_M) {
        const size_t m = shape->m - i < BLOCK_M ? shape->m - i : BLOCK_M;

        /* Once at least: an empty sum is beta C. */
        for (size_t p = 0; p == 0 || p < shape->k; p += BLOCK_K)
            multiply_block(shape, m,
                           shape->k - p < BLOCK_K ? shape->k - p : BLOCK_K,
                           p == 0, a + i * shape->row_a + p * shape->col_a,
                           b + p * shape->row_b, c + i * shape->row_c);
    }
}

void SIMD(qrb__product)(struct qrb__kernels *kernels)
{
    kernels->f32.product = product;
}
