/* Blocks of GGUF: the bytes of the format's examples, values, round trips, and
 * llama.cpp's own rounding. */
#include "harness.h"

#include <math.h>
#include <stdint.h>

#include "io/gguf_blocks.h"

static const uint32_t coded[] = { QRB__GGUF_Q4_0, QRB__GGUF_Q4_1,
                                  QRB__GGUF_Q5_0, QRB__GGUF_Q5_1,
                                  QRB__GGUF_Q8_0 };
enum { CODED = sizeof coded / sizeof *coded, BLOCK = QRB__GGUF_BLOCK };

static const char *hex(const unsigned char *bytes, size_t size)
{
    static char text[2 * QRB__GGUF_BLOCK_BYTES + 1];

    for (size_t i = 0; i < size; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    return text;
}

/* x_i = (i - 13) 0.1 with the product in double, but x_5 = -2.4. */
static void fill_example(float *x)
{
    for (int i = 0; i < BLOCK; i++)
        x[i] = (float)((i - 13) * 0.1);
    x[5] = -2.4f;
}

START_TEST(llama_cpp_rounding_gives_the_bytes_of_the_examples)
{
    static const struct {
        uint32_t type;
        const char *bytes;
    } cases[] = {
        { QRB__GGUF_Q4_0, "cd34"
                          "9494a4a5a5b0b6b6c6c7c7d7d8d8e8e9" },
        { QRB__GGUF_Q4_1, "7b34cdc0"
                          "a4a4a5b5b5b0c6c6d7d7d8e8e8e9f9f9" },
        { QRB__GGUF_Q8_0,
          "d624"
          "bbc0c6cbd081dbe0e6ebf0f5fb00050b10151a20252a30353a40454a4f555a5f" },
    };
    float x[BLOCK];

    fill_example(x);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct qrb__gguf_layout *layout = qrb__gguf_layout(cases[i].type);
        unsigned char out[QRB__GGUF_BLOCK_BYTES];

        ck_assert(qrb__gguf_quantize(layout, x, 1, out));
        ck_assert_str_eq(hex(out, layout->bytes), cases[i].bytes);
    }
}
END_TEST

START_TEST(codes_of_the_example_are_those_of_its_list)
{
    static const int32_t expected[BLOCK] = {
        4, 4, 4, 5,  5,  0,  6,  6,  6,  7,  7,  7,  8,  8,  8,  9,
        9, 9, 10, 10, 10, 11, 11, 11, 12, 12, 12, 13, 13, 13, 14, 14
    };
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(QRB__GGUF_Q4_0);
    unsigned char block[QRB__GGUF_BLOCK_BYTES];
    int32_t codes[BLOCK];
    float x[BLOCK];
    float scale;
    float minimum;

    fill_example(x);
    ck_assert(qrb__gguf_quantize(layout, x, 1, block));
    qrb__gguf_codes(layout, block, codes, &scale, &minimum);
    ck_assert_mem_eq(codes, expected, sizeof codes);
    ck_assert_float_eq_tol(scale, 0.3f, 0.3f / 2048);
    ck_assert_float_eq(minimum, 0);
}
END_TEST

/* Fifth bits, by hand: x_j = j gives the scale -31/16, whose half is exact.
 * Element 31 is code 0, element 0 code 16, and 15 is round(16.5 - 7.74) = 8. */
START_TEST(fifth_bits_lie_in_a_word_of_their_own)
{
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(QRB__GGUF_Q5_0);
    unsigned char block[QRB__GGUF_BLOCK_BYTES];
    int32_t codes[BLOCK];
    float x[BLOCK];
    float scale;
    float minimum;

    for (int j = 0; j < BLOCK; j++)
        x[j] = (float)j;
    ck_assert(qrb__gguf_quantize(layout, x, 1, block));
    ck_assert_str_eq(hex(block, 6), "c0bf01000000");
    qrb__gguf_codes(layout, block, codes, &scale, &minimum);
    ck_assert_float_eq(scale, -31.0f / 16);
    ck_assert_int_eq(codes[0], 16);
    ck_assert_int_eq(codes[15], 8);
    ck_assert_int_eq(codes[31], 0);
}
END_TEST

/* Every code at every place comes back, and the value is what the table of the
 * format says. */
START_TEST(encoded_codes_come_back_with_their_values)
{
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(coded[_i]);
    const int32_t span = layout->highest - layout->lowest + 1;
    const float scale = -0.3125f; /* halves without rounding */
    const float minimum = layout->minimum ? 1.75f : 0;
    const float middle = layout->minimum ? 0
                         : coded[_i] == QRB__GGUF_Q8_0
                             ? 0
                             : (float)(layout->highest + 1) / 2;

    for (int32_t shift = 0; shift < span; shift++) {
        unsigned char block[QRB__GGUF_BLOCK_BYTES];
        unsigned char again[QRB__GGUF_BLOCK_BYTES];
        int32_t codes[BLOCK];
        int32_t found[BLOCK];
        float values[BLOCK];
        float d;
        float m;

        for (int32_t j = 0; j < BLOCK; j++)
            codes[j] = layout->lowest + (7 * j + shift) % span;
        ck_assert(qrb__gguf_encode(layout, codes, scale, minimum, block));
        qrb__gguf_codes(layout, block, found, &d, &m);
        ck_assert_mem_eq(found, codes, sizeof codes);
        ck_assert_float_eq(d, scale);
        ck_assert_float_eq(m, minimum);
        qrb__gguf_decode(layout, block, 1, values);
        for (int32_t j = 0; j < BLOCK; j++)
            ck_assert_float_eq(values[j], ((float)codes[j] - middle) * scale +
                                              minimum);
        ck_assert(qrb__gguf_encode(layout, found, d, m, again));
        ck_assert_mem_eq(again, block, layout->bytes);
    }
}
END_TEST

START_TEST(codes_and_scales_out_of_range_are_refused)
{
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(coded[_i]);
    unsigned char block[QRB__GGUF_BLOCK_BYTES];
    int32_t codes[BLOCK] = { 0 };

    memset(block, 7, sizeof block);
    codes[17] = layout->highest + 1;
    ck_assert(!qrb__gguf_encode(layout, codes, 1, 0, block));
    codes[17] = layout->lowest - 1;
    ck_assert(!qrb__gguf_encode(layout, codes, 1, 0, block));
    codes[17] = 0;
    ck_assert(!qrb__gguf_encode(layout, codes, NAN, 0, block));
    ck_assert(!qrb__gguf_encode(layout, codes, 65520, 0, block));
    if (layout->minimum)
        ck_assert(!qrb__gguf_encode(layout, codes, 1, -65520, block));
    for (size_t i = 0; i < sizeof block; i++)
        ck_assert_uint_eq(block[i], 7);
    ck_assert(qrb__gguf_encode(layout, codes, 65519, 0, block));
}
END_TEST

/* Rounding to nearest is off by half a step, plus what halves lose of the
 * scale (2^-11 of it a code) and of the minimum; without a minimum the
 * positive end may be a code short, by a whole step. */
START_TEST(rounding_errs_by_a_step_at_most)
{
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(coded[_i]);
    uint32_t seed = 1;

    for (int round = 0; round < 200; round++) {
        unsigned char block[QRB__GGUF_BLOCK_BYTES];
        float x[BLOCK];
        float y[BLOCK];
        int32_t codes[BLOCK];
        float scale;
        float minimum;
        float bound;

        for (size_t j = 0; j < BLOCK; j++) {
            seed = 1664525u * seed + 1013904223u;
            x[j] = (float)(seed / 4294967296.0 - 0.5) + (float)(round % 3);
        }
        ck_assert(qrb__gguf_quantize(layout, x, 1, block));
        qrb__gguf_codes(layout, block, codes, &scale, &minimum);
        qrb__gguf_decode(layout, block, 1, y);
        bound = fabsf(scale) * (0.5f + 128 * 0x1p-10f) +
                fabsf(minimum) * 0x1p-10f;
        if (coded[_i] == QRB__GGUF_Q4_0 || coded[_i] == QRB__GGUF_Q5_0)
            bound += 0.5f * fabsf(scale);
        for (size_t j = 0; j < BLOCK; j++)
            ck_assert_float_le(fabsf(x[j] - y[j]), bound);
    }
}
END_TEST

START_TEST(blocks_of_zeros_and_of_tiny_values_are_zero)
{
    const struct qrb__gguf_layout *layout = qrb__gguf_layout(coded[_i]);
    static const float tiny[] = { 0, 1e-40f, -1e-40f, 1e-12f };

    for (size_t i = 0; i < 4; i++) {
        unsigned char block[QRB__GGUF_BLOCK_BYTES];
        float x[BLOCK] = { 0 };
        float y[BLOCK];

        x[3] = tiny[i];
        ck_assert(qrb__gguf_quantize(layout, x, 1, block));
        qrb__gguf_decode(layout, block, 1, y);
        for (size_t j = 0; j < BLOCK; j++)
            ck_assert_float_eq(y[j], 0);
    }
}
END_TEST

START_TEST(values_that_no_block_can_hold_are_refused)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 3e38f };

    for (size_t t = 0; t < CODED; t++)
        for (size_t i = 0; i < 4; i++) {
            unsigned char block[QRB__GGUF_BLOCK_BYTES];
            float x[BLOCK] = { 0 };

            x[31] = bad[i];
            ck_assert(!qrb__gguf_quantize(qrb__gguf_layout(coded[t]), x, 1,
                                          block));
        }
    for (size_t i = 0; i < 4; i++) {
        unsigned char out[4];

        ck_assert(!qrb__gguf_quantize(qrb__gguf_layout(QRB__GGUF_F16), &bad[i],
                                      1, out));
        ck_assert_int_eq(qrb__gguf_quantize(qrb__gguf_layout(QRB__GGUF_F32),
                                            &bad[i], 1, out),
                         i == 3);
        ck_assert_int_eq(qrb__gguf_quantize(qrb__gguf_layout(QRB__GGUF_BF16),
                                            &bad[i], 1, out),
                         i == 3);
    }
}
END_TEST

START_TEST(types_that_are_only_read_are_not_written)
{
    static const uint32_t types[] = { QRB__GGUF_Q4_K, QRB__GGUF_Q6_K,
                                      QRB__GGUF_F64 };

    for (size_t i = 0; i < 3; i++) {
        const struct qrb__gguf_layout *layout = qrb__gguf_layout(types[i]);
        float x[QRB__GGUF_BLOCK_MAX] = { 0 };
        unsigned char out[256];

        ck_assert(!qrb__gguf_quantize(layout, x, 1, out));
    }
    ck_assert_ptr_null(qrb__gguf_layout(4));
    ck_assert_ptr_null(qrb__gguf_layout(UINT32_MAX));
}
END_TEST

START_TEST(floats_of_all_widths_are_read)
{
    static const unsigned char f32[] = { 0, 0, 0xc0, 0x3f, 1, 0, 0, 0x80 };
    static const unsigned char f16[] = { 0, 0x3e, 1, 0x80 };
    static const unsigned char bf16[] = { 0xc0, 0x3f, 1, 0x80 };
    static const unsigned char f64[] = { 0, 0, 0, 0, 0, 0, 0xf8, 0x3f,
                                         0, 0, 0, 0, 0, 0, 0,    0x80 };
    float out[2];

    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_F32), f32, 2, out);
    ck_assert_float_eq(out[0], 1.5f);
    ck_assert_float_eq(out[1], -0x1p-149f);
    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_F16), f16, 2, out);
    ck_assert_float_eq(out[0], 1.5f);
    ck_assert_float_eq(out[1], -0x1p-24f);
    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_BF16), bf16, 2, out);
    ck_assert_float_eq(out[0], 1.5f);
    ck_assert_float_eq(out[1], -0x1p-133f);
    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_F64), f64, 2, out);
    ck_assert_float_eq(out[0], 1.5f);
    ck_assert(out[1] == 0 && signbit(out[1]));
}
END_TEST

/* The twelve bytes of the format's example, and a code that differs in every
 * sub-block: chunk c holds sub-block 2c low and 2c + 1 high. */
START_TEST(q4_k_reads_scales_of_six_bits)
{
    static const unsigned char scales[12] = { 0x81, 0x54, 0x21, 0xff,
                                              0x80, 0xc7, 0xcf, 0xdf,
                                              0x0f, 0x20, 0xd5, 0xfe };
    static const float s[8] = { 1, 20, 33, 63, 47, 16, 5, 62 };
    static const float m[8] = { 0, 7, 15, 31, 32, 50, 61, 63 };
    unsigned char block[144] = { 0x00, 0x40, 0x00, 0x3c }; /* d 2, dmin 1 */
    float out[QRB__GGUF_BLOCK_MAX];

    memcpy(block + 4, scales, sizeof scales);
    for (size_t c = 0; c < 4; c++)
        for (size_t i = 0; i < 32; i++)
            block[16 + 32 * c + i] =
                (unsigned char)((i + 2 * c) % 16 | (i + 2 * c + 1) % 16 << 4);
    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_Q4_K), block, 1, out);
    for (size_t j = 0; j < 8; j++)
        for (size_t i = 0; i < 32; i++)
            ck_assert_float_eq(out[32 * j + i],
                               2 * s[j] * (float)((i + j) % 16) - m[j]);
}
END_TEST

/* A code of element i that no neighbour in the layout shares, set bit by bit
 * as ggml's loops read it. */
START_TEST(q6_k_reads_four_runs_of_each_half)
{
    unsigned char block[210] = { 0 };
    float out[QRB__GGUF_BLOCK_MAX];

    for (size_t i = 0; i < 256; i++) {
        const unsigned code = (unsigned)(i * 37 + i / 64) % 64;
        const size_t half = i / 128;
        const size_t l = i % 32;
        unsigned char *low = block + 64 * half;
        unsigned char *high = block + 128 + 32 * half;

        switch (i % 128 / 32) {
        case 0:
            low[l] |= code & 15;
            high[l] |= (unsigned char)(code >> 4);
            break;
        case 1:
            low[l + 32] |= code & 15;
            high[l] |= (unsigned char)(code >> 4 << 2);
            break;
        case 2:
            low[l] |= (unsigned char)((code & 15) << 4);
            high[l] |= (unsigned char)(code >> 4 << 4);
            break;
        default:
            low[l + 32] |= (unsigned char)((code & 15) << 4);
            high[l] |= (unsigned char)(code >> 4 << 6);
        }
    }
    for (size_t g = 0; g < 16; g++)
        block[192 + g] = (unsigned char)(g % 2 == 0 ? g : 256 - g);
    block[209] = 0x38; /* d is 0.5 */
    qrb__gguf_decode(qrb__gguf_layout(QRB__GGUF_Q6_K), block, 1, out);
    for (size_t i = 0; i < 256; i++) {
        const int scale = (int)(i / 16) * (i / 16 % 2 == 0 ? 1 : -1);
        const int code = (int)((i * 37 + i / 64) % 64);

        ck_assert_float_eq(out[i], 0.5f * (float)(scale * (code - 32)));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf_blocks");
    TCase *blocks = tcase_create("blocks");

    tcase_add_test(blocks, llama_cpp_rounding_gives_the_bytes_of_the_examples);
    tcase_add_test(blocks, codes_of_the_example_are_those_of_its_list);
    tcase_add_test(blocks, fifth_bits_lie_in_a_word_of_their_own);
    tcase_add_loop_test(blocks, encoded_codes_come_back_with_their_values, 0,
                        CODED);
    tcase_add_loop_test(blocks, codes_and_scales_out_of_range_are_refused, 0,
                        CODED);
    tcase_add_loop_test(blocks, rounding_errs_by_a_step_at_most, 0, CODED);
    tcase_add_loop_test(blocks, blocks_of_zeros_and_of_tiny_values_are_zero, 0,
                        CODED);
    tcase_add_test(blocks, values_that_no_block_can_hold_are_refused);
    tcase_add_test(blocks, types_that_are_only_read_are_not_written);
    tcase_add_test(blocks, floats_of_all_widths_are_read);
    tcase_add_test(blocks, q4_k_reads_scales_of_six_bits);
    tcase_add_test(blocks, q6_k_reads_four_runs_of_each_half);
    suite_add_tcase(suite, blocks);
    return run_suite(suite);
}
