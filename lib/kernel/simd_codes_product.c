/* Products of codes in vectors: a lane is a row of the tile.
 *
 * A panel of columns is transposed in its packed form, so that a vector holds
 * one 32-bit word of each row, and spread to bytes: words of four codes a
 * lane.  These stay in the first cache while every token uses them, with four
 * bytes of its activations repeated in all lanes. */
#include "kernel/simd_codes_words.h"

enum {
    PANEL = QRB__CODE_SEGMENT,
    WORDS = PANEL / 4, /* of four codes, in a panel */
    CHUNK = 48 /* planes of tokens that are summed side by side */
};

/* What a tile needs on the stack. */
struct panel {
    _Alignas(64) uint8_t copy[QRB__CODE_ROWS * PANEL]; /* where rows end */
    _Alignas(64) int32_t columns[WORDS * LANES];       /* words of all rows */
    _Alignas(64) int32_t words[WORDS * LANES];         /* four codes each */
    _Alignas(64) int32_t sums[CHUNK * LANES];
};

/* A sum of words times four bytes of x each.  With VNNI it has two halves,
 * one behind the other's back.  Without, products are summed by pairs in 16
 * bits, for as many words as cannot overflow, `run`: 2^8 2^bits run <= 2^15;
 * of eight bits not even one fits: run is 0, and their lowest bit is summed
 * apart. */
struct word_sum {
    veci total;
    veci part;
};

static inline __attribute__((always_inline)) void
add_word(struct word_sum *sum, int j, veci word, const int8_t *x, int run)
{
    const veci repeated = bytes_repeat(x + 4 * j);
#if defined(QRB_VNNI)
    (void)run;
    if (j % 2 == 0)
        sum->total = veci_add_products(sum->total, word, repeated);
    else
        sum->part = veci_add_products(sum->part, word, repeated);
#else
    veci products;

    if (run == 0) {
        const veci high = veci_and(veci_right(word, 1), veci_set(0x7f7f7f7f));

        sum->total = veci_add_pairs(sum->total,
                                    words_of_products(high, repeated), 2);
        word = veci_and(word, veci_set(0x01010101));
        run = BLOCK_WORDS;
    }
    products = words_of_products(word, repeated);
    sum->part = j % run == 0 ? products : words_add(sum->part, products);
    if (j % run == run - 1)
        sum->total = veci_add_pairs(sum->total, sum->part, 1);
#endif
}

static inline veci total_of(const struct word_sum *sum)
{
#if defined(QRB_VNNI)
    return veci_add(sum->total, sum->part);
#else
    return sum->total;
#endif
}

static inline int words_of_run(unsigned bits)
{
    return bits == 8 ? 0 : bits == 7 ? 1 : bits == 6 ? 2 : bits == 5 ? 4 : 8;
}

/* sums [planes] = codes x over `blocks`; x_apart between blocks of x. */
static inline __attribute__((always_inline)) void
sum_planes(const int32_t *codes, size_t blocks, size_t planes,
           const int8_t *x, size_t x_apart, int run, int32_t *sums)
{
    for (size_t block = 0; block < blocks; block++, x += x_apart) {
        veci words[BLOCK_WORDS];

#pragma GCC unroll 8
        for (size_t j = 0; j < BLOCK_WORDS; j++)
            words[j] = bytes_load(codes + (block * BLOCK_WORDS + j) * LANES);
        for (size_t p = 0; p < planes; p++) {
            struct word_sum sum = { veci_set(0), veci_set(0) };

            if (block > 0)
                sum.total = bytes_load(sums + p * LANES);
#pragma GCC unroll 8
            for (int j = 0; j < BLOCK_WORDS; j++)
                add_word(&sum, j, words[j], x + p * QRB__CODE_BLOCK, run);
            bytes_store(sums + p * LANES, total_of(&sum));
        }
    }
}

static void sum_chunk(const int32_t *codes, uint32_t bits, size_t blocks,
                      size_t planes, const int8_t *x, size_t x_apart,
                      int32_t *sums)
{
#if defined(QRB_VNNI)
    (void)bits;
    sum_planes(codes, blocks, planes, x, x_apart, 0, sums);
#else
    switch (words_of_run(bits)) {
    case 0:
        sum_planes(codes, blocks, planes, x, x_apart, 0, sums);
        break;
    case 1:
        sum_planes(codes, blocks, planes, x, x_apart, 1, sums);
        break;
    case 2:
        sum_planes(codes, blocks, planes, x, x_apart, 2, sums);
        break;
    case 4:
        sum_planes(codes, blocks, planes, x, x_apart, 4, sums);
        break;
    default:
        sum_planes(codes, blocks, planes, x, x_apart, 8, sums);
        break;
    }
#endif
}

/* The same for one token: bits and planes are constants where this is called,
 * and the sums stay in registers.  So do columns where four words are whole
 * blocks; otherwise they were transposed before. */
static inline __attribute__((always_inline)) void
sum_token(const uint8_t *rows, size_t apart, const int32_t *columns,
          unsigned bits, size_t blocks, int planes, const int8_t *x,
          int32_t *sums)
{
    struct word_sum sum[QRB__CODE_PLANES];

#pragma GCC unroll 3
    for (int p = 0; p < planes; p++)
        sum[p] = (struct word_sum){ veci_set(0), veci_set(0) };
    for (size_t block = 0; block < blocks; block++) {
        veci words[MOST_BITS];

        if (bits % 4 == 0) {
#pragma GCC unroll 2
            for (unsigned i = 0; i < bits; i += 4)
                load_columns(rows + 4 * i, apart, words + i);
        } else {
            read_columns(columns, bits, words);
        }
#pragma GCC unroll 8
        for (unsigned j = 0; j < BLOCK_WORDS; j++) {
            const veci word = word_of(words, bits, j);

#pragma GCC unroll 3
            for (int p = 0; p < planes; p++)
                add_word(&sum[p], (int)j, word, x + p * QRB__CODE_BLOCK,
                         words_of_run(bits));
        }
        rows += 4 * bits;
        columns += bits * LANES;
        x += planes * QRB__CODE_BLOCK;
    }
#pragma GCC unroll 3
    for (int p = 0; p < planes; p++)
        bytes_store(sums + p * LANES, total_of(&sum[p]));
}

#define SUM_TOKEN(bits)                                                       \
    case bits:                                                                \
        if (planes == 1)                                                      \
            sum_token(rows, apart, columns, bits, blocks, 1, x, sums);        \
        else                                                                  \
            sum_token(rows, apart, columns, bits, blocks, QRB__CODE_PLANES,   \
                      x, sums);                                               \
        break

static void sum_one(const uint8_t *rows, size_t apart, const int32_t *columns,
                    uint32_t bits, size_t blocks, size_t planes,
                    const int8_t *x, int32_t *sums)
{
    switch (bits) {
        SUM_TOKEN(2);
        SUM_TOKEN(3);
        SUM_TOKEN(4);
        SUM_TOKEN(5);
        SUM_TOKEN(6);
        SUM_TOKEN(7);
        SUM_TOKEN(8);
    default:
        break;
    }
}

/* Scales and zero points of LANES rows. */
struct lanes {
    vec scale;
    vec zero;
};

static inline struct lanes lanes_of(const struct qrb__code_grid *grid,
                                    size_t at)
{
    struct lanes lanes;

    lanes.scale = grid->scales != NULL ? vec_load(grid->scales + at)
                                       : vec_of_halves(grid->half_scales + at);
    lanes.zero = vec_set(grid->zero);
    if (grid->zeros != NULL)
        lanes.zero = vec_load(grid->zeros + at);
    else if (grid->byte_zeros != NULL)
        lanes.zero = vec_of_bytes(grid->byte_zeros + at);
    return lanes;
}

/* y [tokens, CODE_ROWS] += what the sums of a segment stand for. */
static void add_segment(const int32_t *sums, size_t tokens, size_t planes,
                        struct lanes lanes, const float *steps,
                        const float *x_sums, float *y)
{
    for (size_t t = 0; t < tokens; t++, y += QRB__CODE_ROWS) {
        vec sum = veci_to_vec(bytes_load(sums + (planes - 1) * LANES));

        for (size_t p = planes - 1; p-- > 0;)
            sum = vec_add(vec_mul(sum, vec_set(256)),
                          veci_to_vec(bytes_load(sums + p * LANES)));
        sum = vec_sub(sum, vec_mul(lanes.zero, vec_set(x_sums[t])));
        sum = vec_mul(vec_mul(sum, vec_set(steps[t])), lanes.scale);
        vec_store(y, vec_add(vec_load(y), sum));
        sums += planes * LANES;
    }
}

/* All tokens over a panel that begins at column `first` of LANES rows. */
static void multiply_panel(const struct qrb__code_product *shape,
                           const uint8_t *rows, size_t apart,
                           struct panel *panel, size_t first, size_t cols,
                           size_t lane, float *y)
{
    const size_t x_apart = shape->tokens * shape->planes * QRB__CODE_BLOCK;
    const int8_t *x = shape->x + first / QRB__CODE_BLOCK * x_apart;
    const size_t chunk = CHUNK / shape->planes;

    for (size_t t = 0; t < shape->tokens; t += chunk) {
        const size_t tokens =
            shape->tokens - t < chunk ? shape->tokens - t : chunk;

        for (size_t at = 0; at < cols; at += shape->segment) {
            const size_t left = cols - at;
            const size_t n = left < shape->segment ? left : shape->segment;
            const size_t segment = (first + at) / shape->segment;
            const size_t group = segment / shape->segments_per_group;
            const size_t block = at / QRB__CODE_BLOCK;

            if (shape->tokens == 1)
                sum_one(rows + block * 4 * shape->bits, apart,
                        panel->columns + block * shape->bits * LANES,
                        shape->bits, divide_up(n, QRB__CODE_BLOCK),
                        shape->planes, x + block * x_apart, panel->sums);
            else
                sum_chunk(panel->words + block * BLOCK_WORDS * LANES,
                          shape->bits, divide_up(n, QRB__CODE_BLOCK),
                          tokens * shape->planes,
                          x + block * x_apart +
                              t * shape->planes * QRB__CODE_BLOCK,
                          x_apart, panel->sums);
            add_segment(panel->sums, tokens, shape->planes,
                        lanes_of(&shape->grid, group * QRB__CODE_ROWS + lane),
                        shape->steps + segment * shape->tokens + t,
                        shape->sums + segment * shape->tokens + t,
                        y + t * QRB__CODE_ROWS + lane);
        }
    }
}

/* The bytes of a panel, with zeros for rows and columns that are not there. */
static const uint8_t *copy_rows(const struct qrb__code_product *shape,
                                size_t byte, size_t bytes, struct panel *panel)
{
    memset(panel->copy, 0, sizeof panel->copy);
    for (size_t row = 0; row < shape->rows; row++)
        memcpy(panel->copy + row * PANEL,
               shape->codes + row * shape->row_bytes + byte, bytes);
    return panel->copy;
}

/* The tile after this one, at the columns that come next. */
static void prefetch_rows(const uint8_t *rows, size_t apart, size_t bytes)
{
    for (size_t row = 0; row < QRB__CODE_ROWS; row++)
        for (size_t i = 0; i < bytes; i += 64)
            _mm_prefetch((const char *)(rows + row * apart + i), _MM_HINT_T1);
}

static void product(const struct qrb__code_product *shape, float *y)
{
    const size_t whole = PANEL / shape->segment * shape->segment;
    struct panel panel;

    for (size_t first = 0; first < shape->cols; first += whole) {
        const size_t left = shape->cols - first;
        const size_t cols = left < whole ? left : whole;
        const size_t blocks = divide_up(cols, QRB__CODE_BLOCK);
        const size_t byte = first / 8 * shape->bits;
        const size_t bytes = blocks * 4 * shape->bits;
        const size_t bytes_left = shape->row_bytes - byte;
        const uint8_t *rows = shape->codes + byte;
        size_t apart = shape->row_bytes;

        /* Words are loaded by fours. */
        if (shape->rows < QRB__CODE_ROWS || bytes % 16 != 0 ||
            bytes > bytes_left) {
            rows = copy_rows(shape, byte,
                             bytes < bytes_left ? bytes : bytes_left, &panel);
            apart = PANEL;
        } else {
            prefetch_rows(rows + QRB__CODE_ROWS * apart, apart, bytes);
        }
        for (size_t lane = 0; lane < QRB__CODE_ROWS; lane += LANES) {
            if (shape->tokens > 1 || shape->bits % 4 != 0)
                transpose(rows + lane * apart, apart,
                          divide_up(bytes, 16) * 4, panel.columns);
            if (shape->tokens > 1)
                spread(panel.columns, shape->bits, blocks, panel.words);
            multiply_panel(shape, rows + lane * apart, apart, &panel, first,
                           cols, lane, y);
        }
    }
}

void CODES(qrb__code_product)(struct qrb__code_kernels *kernels)
{
    kernels->product = product;
}
