/* NF4: codes and thresholds, blocks, nibbles, double quantization. */
#include <float.h>
#include <math.h>

#include "quantizer_fixture.h"

#include "quant/packed.h"

static const float values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/* Quantize w [rows, cols] in blocks, and dequantize into out. */
static qrb_packed *quantize(qrb_context *ctx, float *w, size_t rows,
                            size_t cols, size_t block, uint32_t double_quant,
                            float *out)
{
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_tensor *source = matrix(ctx, QRB_F32, rows, cols, w);
    qrb_tensor *target = matrix(ctx, QRB_F32, rows, cols, out);
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    options.kind = QRB_QUANTIZER_NF4;
    options.group_size = block;
    options.double_quant = double_quant;
    ASSERT_OK(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, source, &packed));
    ASSERT_OK(ctx, qrb_packed_dequantize(packed, target));
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(source);
    qrb_tensor_destroy(target);
    return packed;
}

/* Quantizers 7.2, the example. */
START_TEST(a_block_is_that_of_the_specification)
{
    const int32_t codes[8] = { 7, 1, 11, 6, 11, 15, 0, 9 };
    const uint8_t bytes[4] = { 0x71, 0xb6, 0xbf, 0x09 };
    const double expected[8] = { 0,        -0.55695426, 0.2703322, -0.07284003,
                                 0.2703322, 0.8,        -0.8,      0.12874417 };
    float w[8] = { .02f, -.5f, .31f, -.07f, .25f, .8f, -.8f, .1f };
    float out[8];
    uint8_t packed_bytes[4];
    int32_t again[8];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed = quantize(ctx, w, 2, 4, 0, 0, out);

    ck_assert_mem_eq(codes_of(packed), codes, sizeof codes);
    ck_assert_uint_eq(qrb_packed_groups(packed), 1);
    ck_assert_double_eq(qrb_packed_scales(packed)[0], .8f);
    ck_assert_ptr_null(qrb_packed_zero_points(packed));
    for (size_t i = 0; i < 8; i++)
        ck_assert_float_eq_tol(out[i], (float)expected[i], 3e-8f);
    ck_assert_int_eq(
        qrb_nf4_pack(codes_of(packed), 8, packed_bytes), QRB_OK);
    ck_assert_mem_eq(packed_bytes, bytes, sizeof bytes);
    ck_assert_int_eq(qrb_nf4_unpack(bytes, 8, again), QRB_OK);
    ck_assert_mem_eq(again, codes, sizeof codes);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* Methods G4.3. */
START_TEST(the_golden_block_has_the_golden_codes)
{
    const int32_t codes[8] = { 10, 0, 8, 13, 5, 7, 12, 1 };
    const float expected[8] = { .1230561510f, -.5f,          .0397901498f,
                                .2813085020f, -.0923867151f, 0,
                                .2203549147f, -.3480964005f };
    float w[8] = { .12f, -.5f, .03f, .31f, -.07f, 0, .22f, -.41f };
    float out[8];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed = quantize(ctx, w, 1, 8, 0, 0, out);

    ck_assert_mem_eq(codes_of(packed), codes, sizeof codes);
    for (size_t i = 0; i < 8; i++)
        ck_assert_float_eq_tol(out[i], expected[i], 1e-7f);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(each_value_has_its_code_and_a_midpoint_goes_down)
{
    float w[64] = { 0 };
    float out[64];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed;
    const int32_t *codes;

    /* Values, midpoints rounded to float32, and what is next above each; 1
     * keeps the magnitude of the block. */
    memcpy(w, values, sizeof values);
    for (size_t i = 0; i < 15; i++) {
        const float midpoint =
            (float)(((double)values[i] + (double)values[i + 1]) / 2);

        w[16 + i] = midpoint;
        w[32 + i] = nextafterf(midpoint, 2);
    }
    packed = quantize(ctx, w, 1, 64, 64, 0, out);
    codes = codes_of(packed);
    for (int32_t i = 0; i < 16; i++) {
        ck_assert_int_eq(codes[i], i);
        ck_assert_float_eq(out[i], values[i]);
    }
    for (int32_t i = 0; i < 15; i++) {
        ck_assert_int_eq(codes[16 + i], i);
        ck_assert_int_eq(codes[32 + i], i + 1);
    }
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* The rule where official backends differ, and reciprocals without a float. */
START_TEST(blocks_of_zeros_and_of_subnormals_stay_finite)
{
    float w[12] = { 0,     -0.0f, 0,     0,        1e-45f,  -1e-45f,
                    0,     0,     1e-39f, -5e-40f, -1e-39f, 1e-41f };
    float out[12];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed = quantize(ctx, w, 3, 4, 4, 0, out);
    const int32_t *codes = codes_of(packed);

    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(codes[i], 7);
        ck_assert_float_eq(out[i], 0);
    }
    ck_assert_double_eq(qrb_packed_scales(packed)[0], 0);
    ck_assert_int_eq(codes[4], 15);
    ck_assert_int_eq(codes[5], 0);
    ck_assert_int_eq(codes[6], 7);
    ck_assert_int_eq(codes[8], 15);
    ck_assert_int_eq(codes[9], 2); /* -0.5, nearest -0.525 */
    ck_assert_int_eq(codes[10], 0);
    for (size_t i = 0; i < 12; i++)
        ck_assert(isfinite(out[i]));
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(values_keep_within_the_block_and_keep_their_sign)
{
    enum { TALL = 31, WIDE = 53, N = TALL * WIDE };
    static const size_t blocks[] = { 64, 1, 7, 4096, 100000 };
    static float w[N];
    static float out[N];
    qrb_context *ctx = make_context(NULL);

    for (size_t b = 0; b < 5; b++)
        for (uint32_t seed = 1; seed < 6; seed++) {
            const size_t block = blocks[b] < N ? blocks[b] : N;
            const size_t units = (N + block - 1) / block;
            qrb_packed *packed;

            fill(seed, N, w);
            packed = quantize(ctx, w, TALL, WIDE, blocks[b], 0, out);
            /* Blocks go across rows, and all scales are listed. */
            ck_assert_uint_eq(qrb_packed_groups(packed), units);
            for (size_t u = 0; u < units; u++) {
                const size_t end = N - u * block < block ? N : (u + 1) * block;
                float absmax = 0;

                for (size_t i = u * block; i < end; i++)
                    absmax = fmaxf(absmax, fabsf(w[i]));
                ck_assert_double_eq(qrb_packed_scales(packed)[u], absmax);
                for (size_t i = u * block; i < end; i++) {
                    ck_assert_float_le(fabsf(out[i]), absmax);
                    ck_assert(out[i] * w[i] >= 0);
                    if (fabsf(w[i]) == absmax)
                        ck_assert_float_eq(out[i], w[i]);
                }
            }
            qrb_packed_destroy(packed);
        }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(nibbles_come_back_and_an_odd_count_is_filled_up)
{
    int32_t codes[33];
    int32_t again[33];
    uint8_t bytes[18];

    for (int32_t i = 0; i < 33; i++)
        codes[i] = i * 7 % 16;
    for (size_t n = 0; n <= 33; n++) {
        memset(bytes, 0xee, sizeof bytes);
        memset(again, 0, sizeof again);
        ck_assert_int_eq(qrb_nf4_pack(codes, n, bytes), QRB_OK);
        ck_assert_uint_eq(bytes[(n + 1) / 2], 0xee); /* nothing behind */
        if (n % 2 != 0)
            ck_assert_uint_eq(bytes[n / 2] & 15, 7);
        ck_assert_int_eq(qrb_nf4_unpack(bytes, n, again), QRB_OK);
        ck_assert_mem_eq(again, codes, n * sizeof *codes);
    }
    codes[3] = 16;
    ck_assert_int_eq(qrb_nf4_pack(codes, 4, bytes), QRB_E_INVALID_ARG);
    codes[3] = -1;
    ck_assert_int_eq(qrb_nf4_pack(codes, 4, bytes), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_nf4_pack(NULL, 4, bytes), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_nf4_pack(codes, 4, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_nf4_unpack(NULL, 4, codes), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_nf4_unpack(bytes, 4, NULL), QRB_E_INVALID_ARG);
}
END_TEST

/* Quantizers 7.2, what it says of the map. */
START_TEST(the_dynamic_map_is_that_of_the_specification)
{
    float map[QRB__DYNAMIC_MAP];

    qrb__dynamic_map(map);
    for (size_t i = 1; i < QRB__DYNAMIC_MAP; i++)
        ck_assert_float_gt(map[i], map[i - 1]);
    for (size_t i = 1; i <= 127; i++)
        ck_assert_float_eq(map[127 + i], -map[127 - i]);
    ck_assert_float_eq_tol(map[0], -0.99296874f, 2e-7f);
    ck_assert_float_eq(map[127], 0);
    ck_assert_float_eq_tol(map[128], 5.5e-7f, 1e-13f);
    ck_assert_float_eq_tol(map[129], 3.25e-6f, 1e-12f);
    ck_assert_float_eq(map[255], 1);
}
END_TEST

/* Quantizers 7.2, the example: four blocks of one element. */
START_TEST(double_quantization_is_that_of_the_specification)
{
    const uint8_t codes[4] = { 63, 239, 0, 207 };
    const double restored[4] = { 0.801377, 1.1014357, 0.50237304, 0.9495606 };
    float w[4] = { .8f, -1.1f, -.5f, .95f };
    float out[4];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed = quantize(ctx, w, 2, 2, 1, 1, out);

    ck_assert_mem_eq(packed->nested_scales.codes, codes, sizeof codes);
    ck_assert_float_eq_tol(packed->nested_scales.offset, .8375f, 1e-7f);
    ck_assert_float_eq_tol(packed->nested_scales.absmax[0], .3375f, 1e-7f);
    for (size_t i = 0; i < 4; i++) {
        ck_assert_double_eq_tol(qrb_packed_scales(packed)[i], restored[i],
                                1e-6 * restored[i]);
        /* Codes are of the blocks as they were, values of the restored. */
        ck_assert_float_eq(out[i], (float)qrb_packed_scales(packed)[i] *
                                       (w[i] < 0 ? -1 : 1));
    }
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(equal_scales_come_back_as_they_were)
{
    static float w[64 * 300];
    static float out[64 * 300];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed;

    for (size_t i = 0; i < 64 * 300; i++)
        w[i] = i % 2 == 0 ? .25f : -.25f;
    packed = quantize(ctx, w, 64, 300, 0, 1, out);
    ck_assert_mem_eq(out, w, sizeof w);
    for (size_t i = 0; i < 300; i++)
        ck_assert_uint_eq(packed->nested_scales.codes[i], 127);
    ck_assert_float_eq(packed->nested_scales.absmax[1], 0);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

/* A few small scales among the largest float: the others are a little above
 * the mean, and some of the steps there lead beyond the floats. */
START_TEST(the_largest_scales_stay_finite_when_they_are_quantized)
{
    static float w[64 * 64];
    static float out[64 * 64];
    qrb_context *ctx = make_context(NULL);

    for (size_t small = 1; small < 32; small++) {
        qrb_packed *packed;

        for (size_t i = 0; i < 64 * 64; i++)
            w[i] = i / 64 < small ? 1 : FLT_MAX;
        packed = quantize(ctx, w, 64, 64, 0, 1, out);
        for (size_t i = 0; i < 64 * 64; i++)
            ck_assert(isfinite(out[i]));
        qrb_packed_destroy(packed);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* 4 + 32 / 64, and 4 + 8 / 64 + 32 / (64 * 256) (quantizers 7.2). */
START_TEST(bits_a_weight_are_the_published_ones)
{
    static float w[64 * 512];
    static float out[64 * 512];
    qrb_context *ctx = make_context(NULL);
    qrb_packed *packed;

    fill(1, 64 * 512, w);
    packed = quantize(ctx, w, 64, 512, 0, 0, out);
    ck_assert_double_eq(qrb_packed_bits_per_weight(packed), 4.5);
    qrb_packed_destroy(packed);
    packed = quantize(ctx, w, 64, 512, 0, 1, out);
    ck_assert_double_eq(qrb_packed_bits_per_weight(packed), 4.126953125);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(doubles_beyond_float32_are_refused)
{
    double w[4] = { 1, 1e39, 0, 2 };
    qrb_context *ctx = make_context(NULL);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, 2, 2, w);
    qrb_quantizer *quantizer;

    ASSERT_OK(ctx, qrb_quantizer_create_named(ctx, "nf4", &quantizer));
    ASSERT_FAILS(ctx, qrb_quantizer_fake(quantizer, tensor), QRB_E_NOT_FINITE,
                 "beyond float32");
    ck_assert_double_eq(w[1], 1e39);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(tensor);
    qrb_context_destroy(ctx);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("nf4");
    TCase *blocks = tcase_create("blocks");
    TCase *nested = tcase_create("nested");

    tcase_add_test(blocks, a_block_is_that_of_the_specification);
    tcase_add_test(blocks, the_golden_block_has_the_golden_codes);
    tcase_add_test(blocks, each_value_has_its_code_and_a_midpoint_goes_down);
    tcase_add_test(blocks, blocks_of_zeros_and_of_subnormals_stay_finite);
    tcase_add_test(blocks, values_keep_within_the_block_and_keep_their_sign);
    tcase_add_test(blocks, nibbles_come_back_and_an_odd_count_is_filled_up);
    tcase_add_test(blocks, bits_a_weight_are_the_published_ones);
    tcase_add_test(blocks, doubles_beyond_float32_are_refused);
    tcase_add_test(nested, the_dynamic_map_is_that_of_the_specification);
    tcase_add_test(nested, double_quantization_is_that_of_the_specification);
    tcase_add_test(nested, equal_scales_come_back_as_they_were);
    tcase_add_test(nested,
                   the_largest_scales_stay_finite_when_they_are_quantized);
    suite_add_tcase(suite, blocks);
    suite_add_tcase(suite, nested);
    return run_suite(suite);
}
