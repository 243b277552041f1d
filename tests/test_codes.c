/* Kernels over rows of codes: each instruction set against the plain twins,
 * whose bits it has, and the twins against the sums that they stand for. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/random.h"
#include "guarded.h"
#include "harness.h"
#include "kernel/kernels.h"

static const char *const sets[] = { "avx2", "avx512", "vnni" };
enum { SETS = sizeof sets / sizeof *sets, MOST_COLS = 700, MOST_TOKENS = 53 };

static struct qrb__kernels ref;
static struct qrb__kernels fast;

static bool select_set(int i)
{
    ck_assert_int_eq(qrb__kernels_select(&ref, "ref"), 0);
    ck_assert_int_eq(qrb__kernels_select(&fast, sets[i]), 0);
    if (strcmp(fast.codes.name, sets[i]) == 0)
        return true;
    printf("SKIP: this processor has no %s\n", sets[i]);
    return false;
}

/* A product with all that it points to. */
struct subject {
    struct qrb__code_product shape;
    struct guarded codes; /* no byte may be read behind the last row */
    float *x;             /* [tokens, cols] */
    int8_t *bytes;
    float *steps;
    float *sums;
    float *scales;
    uint16_t *half_scales;
    float *zeros;
    uint8_t *byte_zeros;
};

enum zeros { NO_ZEROS, FLOAT_ZEROS, BYTE_ZEROS };

static void *array(size_t count, size_t size)
{
    void *memory = calloc(count + 1, size);

    ck_assert_ptr_nonnull(memory);
    return memory;
}

static void split(const struct qrb__code_kernels *kernels, struct subject *s)
{
    struct qrb__code_product *shape = &s->shape;
    const size_t planes = shape->planes;
    const size_t apart = shape->tokens * planes * QRB__CODE_BLOCK;

    for (size_t t = 0; t < shape->tokens; t++) {
        const float *x = s->x + t * shape->cols;
        int8_t *out = s->bytes + t * planes * QRB__CODE_BLOCK;

        if (planes == 1)
            kernels->round(x, 0.01f, shape->cols, shape->segment, shape->bits,
                           apart, out, shape->tokens, s->steps + t,
                           s->sums + t);
        else
            kernels->split(x, shape->cols, shape->segment, shape->bits, apart,
                           out, shape->tokens, s->steps + t, s->sums + t);
    }
}

static struct subject make_subject(uint32_t bits, size_t rows, size_t cols,
                                   size_t segment, size_t per_group,
                                   size_t tokens, size_t planes,
                                   enum zeros zeros, bool halves)
{
    const struct qrb__random random = qrb__random_at(bits + rows, 1, 2);
    const size_t row_bytes = (cols * bits + 31) / 32 * 4;
    const size_t segments = (cols + segment - 1) / segment;
    const size_t units = (segments + per_group - 1) / per_group * 16;
    const size_t blocks = (cols + 31) / 32;
    struct subject s = { 0 };
    uint8_t *codes;

    s.codes = guarded_create(rows * row_bytes);
    codes = guarded_memory(&s.codes);
    for (size_t i = 0; i < rows * row_bytes; i++)
        codes[i] = (uint8_t)(256 * qrb__random_uniform(&random, i));
    s.x = array(tokens * cols, sizeof *s.x);
    for (size_t i = 0; i < tokens * cols; i++)
        s.x[i] = (float)(2.5 * qrb__random_uniform(&random, i + 999) - 1.25);
    s.bytes = array(blocks * tokens * planes * 32, 1);
    s.steps = array(segments * tokens, sizeof *s.steps);
    s.sums = array(segments * tokens, sizeof *s.sums);
    s.scales = array(units, sizeof *s.scales);
    s.half_scales = array(units, sizeof *s.half_scales);
    s.zeros = array(units, sizeof *s.zeros);
    s.byte_zeros = array(units, 1);
    for (size_t i = 0; i < units; i++) {
        s.scales[i] = (float)(0.01 + qrb__random_uniform(&random, i + 77));
        s.half_scales[i] = (uint16_t)(0x2c00 + i * 37 % 1024);
        s.byte_zeros[i] = (uint8_t)(i * 7 % (1u << bits));
        s.zeros[i] = (float)s.byte_zeros[i] + 0.3f;
    }
    s.shape = (struct qrb__code_product){
        .codes = codes,
        .row_bytes = row_bytes,
        .rows = rows,
        .cols = cols,
        .bits = bits,
        .grid = { halves ? NULL : s.scales, halves ? s.half_scales : NULL,
                  zeros == FLOAT_ZEROS ? s.zeros : NULL,
                  zeros == BYTE_ZEROS ? s.byte_zeros : NULL, 2.5f },
        .segment = segment,
        .segments_per_group = per_group,
        .tokens = tokens,
        .planes = planes,
        .x = s.bytes,
        .steps = s.steps,
        .sums = s.sums,
    };
    split(&ref.codes, &s);
    return s;
}

static void release_subject(struct subject *s)
{
    guarded_destroy(&s->codes);
    free(s->x);
    free(s->bytes);
    free(s->steps);
    free(s->sums);
    free(s->scales);
    free(s->half_scales);
    free(s->zeros);
    free(s->byte_zeros);
}

static double value_at(const struct subject *s, size_t row, size_t col)
{
    const struct qrb__code_product *p = &s->shape;
    const size_t unit =
        col / p->segment / p->segments_per_group * QRB__CODE_ROWS + row;
    double scale = 0;
    double zero = (double)p->grid.zero;
    float half;

    if (p->grid.scales != NULL) {
        scale = (double)p->grid.scales[unit];
    } else {
        ref.f16_to_f32(&p->grid.half_scales[unit], 1, &half);
        scale = (double)half;
    }
    if (p->grid.zeros != NULL)
        zero = (double)p->grid.zeros[unit];
    else if (p->grid.byte_zeros != NULL)
        zero = p->grid.byte_zeros[unit];
    return scale *
           (qrb__code_at(p->codes + row * p->row_bytes, p->bits, col) - zero);
}

/* The rounding of x is at most half a step of 2^-21 of the segment's largest;
 * each segment adds a handful of roundings of what it sums. */
START_TEST(the_twin_s_product_is_that_of_the_values)
{
    const uint32_t bits = (uint32_t)_i;

    ck_assert_int_eq(qrb__kernels_select(&ref, "ref"), 0);
    for (int variant = 0; variant < 6; variant++) {
        struct subject s =
            make_subject(bits, 3, 150, 64, 1 + (size_t)variant % 2, 2,
                         QRB__CODE_PLANES, (enum zeros)(variant % 3),
                         variant > 3);
        float y[2 * QRB__CODE_ROWS] = { 0 };

        ref.codes.product(&s.shape, y);
        for (size_t t = 0; t < 2; t++)
            for (size_t row = 0; row < 3; row++) {
                double sum = 0;
                double size = 0;

                for (size_t c = 0; c < 150; c++) {
                    const double w = value_at(&s, row, c);
                    const double x = (double)s.x[t * 150 + c];

                    sum += w * x;
                    size += fabs(w) + fabs(x) * 4 * (1 << bits);
                }
                ck_assert_double_le(
                    fabs((double)y[t * QRB__CODE_ROWS + row] - sum),
                    2 * FLT_EPSILON * size);
            }
        release_subject(&s);
    }
}
END_TEST

START_TEST(products_have_the_bits_of_the_twin)
{
    static const size_t widths[] = { 1, 31, 32, 33, 96, 255, 256, 260, 515,
                                     640 };
    static const size_t segments[] = { 32, 64, 96, 128, 256 };
    static const size_t heights[] = { 1, 7, 8, 15, 16 };
    static const size_t counts[] = { 1, 2, 5, 16, 17, 53 };
    float expected[MOST_TOKENS * QRB__CODE_ROWS];
    float y[MOST_TOKENS * QRB__CODE_ROWS];
    unsigned n = 0;

    if (!select_set(_i))
        return;
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (size_t g = 0; g < sizeof segments / sizeof *segments; g++) {
                const size_t tokens = counts[n % 6];
                const size_t rows = heights[n % 5];
                struct subject s = make_subject(
                    bits, rows, widths[w], segments[g], 1 + n % 3, tokens,
                    n % 2 ? 1 : QRB__CODE_PLANES, (enum zeros)(n % 3),
                    n % 4 == 0);

                for (size_t i = 0; i < tokens * QRB__CODE_ROWS; i++)
                    expected[i] = y[i] = (float)i;
                ref.codes.product(&s.shape, expected);
                fast.codes.product(&s.shape, y);
                for (size_t i = 0; i < tokens * QRB__CODE_ROWS; i++)
                    if (i % QRB__CODE_ROWS < rows && y[i] != expected[i])
                        ck_abort_msg("%s, %u bits [%zu, %zu] in segments of "
                                     "%zu, %zu tokens: y[%zu] is %.9g, "
                                     "expected %.9g",
                                     sets[_i], bits, rows, widths[w],
                                     segments[g], tokens, i, (double)y[i],
                                     (double)expected[i]);
                release_subject(&s);
                n++;
            }
}
END_TEST

/* The largest sums there are: every code and every digit at its limit. */
START_TEST(products_do_not_overflow)
{
    if (!select_set(_i))
        return;
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (int sign = -1; sign <= 1; sign += 2) {
            struct subject s = make_subject(bits, 16, 256, 256, 1, 3, 1,
                                            NO_ZEROS, false);
            float expected[3 * QRB__CODE_ROWS] = { 0 };
            float y[3 * QRB__CODE_ROWS] = { 0 };

            memset(guarded_memory(&s.codes), 0xff, s.codes.bytes);
            memset(s.bytes, sign < 0 ? 0x80 : 0x7f, 8 * 3 * 32);
            ref.codes.product(&s.shape, expected);
            fast.codes.product(&s.shape, y);
            ck_assert_mem_eq(y, expected, sizeof y);
            release_subject(&s);
        }
}
END_TEST

START_TEST(bytes_of_activations_are_the_twin_s)
{
    if (!select_set(_i))
        return;
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t planes = 1; planes <= QRB__CODE_PLANES; planes += 2) {
            const size_t size = 3 * 2 * planes * 32;
            struct subject s = make_subject(bits, 1, 75, 64, 1, 2, planes,
                                            NO_ZEROS, false);
            int8_t expected[3 * 2 * QRB__CODE_PLANES * 32];
            float steps[4];
            float sums[4];

            memcpy(expected, s.bytes, size);
            memcpy(steps, s.steps, sizeof steps);
            memcpy(sums, s.sums, sizeof sums);
            memset(s.bytes, 0x55, size);
            split(&fast.codes, &s);
            ck_assert_mem_eq(s.bytes, expected, size);
            ck_assert_mem_eq(s.steps, steps, sizeof steps);
            ck_assert_mem_eq(s.sums, sums, sizeof sums);
            release_subject(&s);
        }
}
END_TEST

/* Digits give x back within half a step, and steps are as fine as they can be
 * for 22 bits; zeros, the tiniest and the largest floats among them. */
START_TEST(digits_give_activations_back)
{
    static const float largest[] = { 0, FLT_TRUE_MIN, FLT_MIN, 1e-20f, 1,
                                     1.5f, 2, FLT_MAX };
    int8_t bytes[QRB__CODE_PLANES * 32];

    ck_assert_int_eq(qrb__kernels_select(&ref, "ref"), 0);
    for (size_t i = 0; i < sizeof largest / sizeof *largest; i++) {
        float x[32];
        float step;
        float sum;
        double total = 0;

        for (size_t c = 0; c < 32; c++)
            x[c] = (float)((int)c - 16) / 16 * largest[i];
        ref.codes.split(x, 32, 32, 8, sizeof bytes, bytes, 1, &step, &sum);
        ck_assert_double_le((double)step,
                            fmax((double)largest[i] * 0x1p-21, 0x1p-122));
        for (size_t c = 0; c < 32; c++) {
            const double q =
                bytes[c] + 256.0 * bytes[32 + c] + 65536.0 * bytes[64 + c];

            total += q;
            ck_assert_double_le(fabs(q * (double)step - (double)x[c]),
                                (double)step / 2);
        }
        ck_assert_double_eq(total, (double)sum);
    }
}
END_TEST

/* Rows of codes with scales of units that may begin anywhere; the row ends
 * before a guard page, and so does what is written. */
START_TEST(values_have_the_bits_of_the_twin)
{
    static const size_t units[] = { 1, 7, 8, 32, 48, 64, 1000 };
    const struct qrb__random random = qrb__random_at(5, 6, 7);
    double scales[400];
    double zeros[400];
    float table[256];
    float expected[300];

    if (!select_set(_i))
        return;
    for (size_t i = 0; i < 400; i++) {
        scales[i] = qrb__random_normal(&random, i);
        zeros[i] = floor(9 * qrb__random_uniform(&random, i)) + 0.25;
    }
    scales[3] = 1e38;
    for (size_t i = 0; i < 256; i++)
        table[i] = (float)qrb__random_normal(&random, 1000 + i);
    for (uint32_t bits = 2; bits <= 8; bits++)
        for (size_t count = 1; count <= 300; count += count < 40 ? 1 : 37)
            for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
                const size_t bytes = (count * bits + 31) / 32 * 4;
                struct guarded codes = guarded_create(bytes);
                struct guarded out = guarded_create(count * sizeof(float));
                struct qrb__code_row row = {
                    guarded_memory(&codes), bytes, count, bits, units[u],
                    (count * 8) % units[u], scales,
                    count % 2 ? zeros : NULL, 1.5
                };

                for (size_t i = 0; i < bytes; i++)
                    ((uint8_t *)guarded_memory(&codes))[i] =
                        (uint8_t)(i * 151 + count);
                ref.codes.decode_grid(&row, expected);
                fast.codes.decode_grid(&row, guarded_memory(&out));
                ck_assert_mem_eq(guarded_memory(&out), expected,
                                 count * sizeof(float));
                for (int scaled = 0; scaled < 2; scaled++) {
                    row.scales = scaled ? scales : NULL;
                    ref.codes.decode_table(&row, table, expected);
                    fast.codes.decode_table(&row, table,
                                            guarded_memory(&out));
                    ck_assert_mem_eq(guarded_memory(&out), expected,
                                     count * sizeof(float));
                }
                guarded_destroy(&codes);
                guarded_destroy(&out);
            }
}
END_TEST

/* Sums of products in float: n additions round by at most n eps / 2. */
START_TEST(lookups_are_the_twin_s)
{
    static const size_t widths[] = { 1, 9, 64, 127, 128, 192, 320, 333 };
    const struct qrb__random random = qrb__random_at(8, 9, 10);
    float tables[9 * 16];
    double scales[9 * 5];
    float x[384];

    if (!select_set(_i))
        return;
    for (size_t i = 0; i < 9 * 16; i++)
        tables[i] = (float)qrb__random_normal(&random, i);
    for (size_t i = 0; i < 9 * 5; i++)
        scales[i] = (double)(float)qrb__random_uniform(&random, 500 + i);
    for (uint32_t bits = 3; bits <= 4; bits++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
            for (size_t rows = 1; rows <= 9; rows++)
                for (int variant = 0; variant < 3; variant++) {
                    const size_t cols = widths[w];
                    const size_t row_bytes = (cols * bits + 31) / 32 * 4;
                    struct guarded codes = guarded_create(rows * row_bytes);
                    const struct qrb__code_lookup shape = {
                        guarded_memory(&codes), row_bytes, rows, cols, bits,
                        tables, variant == 0 ? 0 : (size_t)1 << bits,
                        variant == 2 ? scales : NULL, 64, x
                    };
                    float expected[9];
                    float y[9];

                    if (variant == 2 && cols % 64 != 0) {
                        guarded_destroy(&codes);
                        continue;
                    }
                    for (size_t i = 0; i < rows * row_bytes; i++)
                        ((uint8_t *)guarded_memory(&codes))[i] =
                            (uint8_t)(i * 89 + rows);
                    memset(x, 0, sizeof x);
                    for (size_t c = 0; c < cols; c++)
                        x[qrb__lookup_at(c)] =
                            (float)qrb__random_normal(&random, 2000 + c);
                    ref.codes.lookup(&shape, expected);
                    fast.codes.lookup(&shape, y);
                    for (size_t row = 0; row < rows; row++)
                        ck_assert_double_le(
                            fabs((double)y[row] - (double)expected[row]),
                            4 * (double)cols * FLT_EPSILON);
                    guarded_destroy(&codes);
                }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("codes");
    TCase *codes = tcase_create("codes");

    tcase_set_timeout(codes, 60);
    tcase_add_loop_test(codes, the_twin_s_product_is_that_of_the_values, 2, 9);
    tcase_add_loop_test(codes, products_have_the_bits_of_the_twin, 0, SETS);
    tcase_add_loop_test(codes, products_do_not_overflow, 0, SETS);
    tcase_add_loop_test(codes, bytes_of_activations_are_the_twin_s, 0, SETS);
    tcase_add_loop_test(codes, values_have_the_bits_of_the_twin, 0, SETS);
    tcase_add_loop_test(codes, lookups_are_the_twin_s, 0, SETS);
    tcase_add_test(codes, digits_give_activations_back);
    suite_add_tcase(suite, codes);
    return run_suite(suite);
}
