/* Arrays of GPTQ and AWQ checkpoints: words of the examples, round trips,
 * refusals, and layers out of files. */
#include "harness.h"

#include <math.h>
#include <stdint.h>

#include <qrobust/source.h>

#include "io/awq_layout.h"
#include "io/gptq_layout.h"

static qrb_context *ctx;
static char directory[64];

static void set_up(void)
{
    ctx = make_context(NULL);
    make_directory(directory);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static const int32_t eight[8] = { 3, 0, 15, 8, 1, 2, 14, 7 };

/* Codes of output 0 along its inputs; other outputs have zeros. */
START_TEST(eight_inputs_are_one_gptq_word)
{
    const struct qrb__coded_shape shape = { 32, 32, 1, 4 };
    int32_t codes[32 * 32] = { 0 };
    uint32_t words[4 * 32];

    memcpy(codes, eight, sizeof eight);
    ASSERT_OK(ctx, qrb__gptq_pack_codes(ctx, &shape, codes, words));
    ck_assert_uint_eq(words[0], 0x7e218f03u);
    for (size_t i = 1; i < 4 * 32; i++)
        ck_assert_uint_eq(words[i], 0);
}
END_TEST

START_TEST(eight_outputs_are_one_awq_word)
{
    const struct qrb__coded_shape shape = { 32, 32, 1, 4 };
    int32_t codes[32 * 32] = { 0 };
    uint32_t words[32 * 4];

    for (size_t o = 0; o < 8; o++)
        codes[o * 32] = eight[o];
    ASSERT_OK(ctx, qrb__awq_pack_codes(ctx, &shape, codes, words));
    ck_assert_uint_eq(words[0], 0x7280e1f3u);
    for (size_t i = 1; i < 32 * 4; i++)
        ck_assert_uint_eq(words[i], 0);
}
END_TEST

/* Codes 10 and 21 straddle words. */
START_TEST(three_bits_are_one_stream_across_words)
{
    const struct qrb__coded_shape shape = { 32, 32, 1, 3 };
    int32_t codes[32 * 32] = { 0 };
    uint32_t words[3 * 32];
    int32_t found[32 * 32];

    for (int32_t i = 0; i < 32; i++)
        codes[i] = (5 * i + 3) % 8;
    ASSERT_OK(ctx, qrb__gptq_pack_codes(ctx, &shape, codes, words));
    ck_assert_uint_eq(words[0], 0x43c67543u);
    ck_assert_uint_eq(words[32], 0x7543c675u);
    ck_assert_uint_eq(words[64], 0xc67543c6u);
    ASSERT_OK(ctx, qrb__gptq_unpack_codes(ctx, &shape, words, found));
    ck_assert_mem_eq(found, codes, sizeof codes);
}
END_TEST

START_TEST(symmetric_zero_points_of_version_1_are_sevens)
{
    const struct qrb__coded_shape shape = { 32, 32, 1, 4 };
    int32_t zeros[32];
    uint32_t words[4];

    for (size_t i = 0; i < 32; i++)
        zeros[i] = 8;
    ASSERT_OK(ctx, qrb__gptq_pack_zeros(ctx, &shape, zeros, true, words));
    for (size_t i = 0; i < 4; i++)
        ck_assert_uint_eq(words[i], 0x77777777u);
}
END_TEST

/* The word of z = [5, 0, 15, 1, 8, 8, 8, 8] is 88881f05 in version 2; version
 * 1 has no place for the 0, and a file whose writer masked it, 77770ef4, is not
 * guessed at. */
START_TEST(version_1_has_no_zero_point_0)
{
    static const int32_t example[8] = { 5, 0, 15, 1, 8, 8, 8, 8 };
    const struct qrb__coded_shape shape = { 32, 32, 1, 4 };
    int32_t zeros[32];
    int32_t found[32];
    uint32_t words[4];

    for (size_t i = 0; i < 32; i++)
        zeros[i] = i < 8 ? example[i] : 8;
    ASSERT_OK(ctx, qrb__gptq_pack_zeros(ctx, &shape, zeros, false, words));
    ck_assert_uint_eq(words[0], 0x88881f05u);
    ASSERT_OK(ctx, qrb__gptq_unpack_zeros(ctx, &shape, words, false, found));
    ck_assert_mem_eq(found, zeros, sizeof zeros);
    ASSERT_FAILS(ctx, qrb__gptq_pack_zeros(ctx, &shape, zeros, true, words),
                 QRB_E_UNSUPPORTED,
                 "output 1, group 0 is 0; checkpoint_format \"gptq\" can say "
                 "1 to 15");
    words[0] = 0x77770ef4;
    for (size_t i = 1; i < 4; i++)
        words[i] = 0x77777777;
    ASSERT_FAILS(ctx, qrb__gptq_unpack_zeros(ctx, &shape, words, true, found),
                 QRB_E_UNSUPPORTED, "output 1, group 0 is 16");
    /* With a 1 in place of the 0. */
    zeros[1] = 1;
    ASSERT_OK(ctx, qrb__gptq_pack_zeros(ctx, &shape, zeros, true, words));
    ck_assert_uint_eq(words[0], 0x77770e04u);
    ASSERT_OK(ctx, qrb__gptq_unpack_zeros(ctx, &shape, words, true, found));
    ck_assert_mem_eq(found, zeros, sizeof zeros);
}
END_TEST

static uint32_t next(uint32_t *seed)
{
    *seed = 1664525u * *seed + 1013904223u;
    return *seed >> 8;
}

START_TEST(gptq_arrays_come_back)
{
    static const uint32_t widths[] = { 2, 3, 4, 8 };
    const struct qrb__coded_shape shape = { 64, 96, 3, widths[_i] };
    const size_t words = 64 * shape.bits / 32;
    int32_t *codes = malloc(64 * 96 * sizeof *codes);
    int32_t *found = malloc(64 * 96 * sizeof *found);
    uint32_t *packed = malloc(96 * words * sizeof *packed);
    uint32_t seed = 7;

    for (size_t i = 0; i < 64 * 96; i++)
        codes[i] = (int32_t)(next(&seed) % (1u << shape.bits));
    ASSERT_OK(ctx, qrb__gptq_pack_codes(ctx, &shape, codes, packed));
    ASSERT_OK(ctx, qrb__gptq_unpack_codes(ctx, &shape, packed, found));
    ck_assert_mem_eq(found, codes, 64 * 96 * sizeof *codes);
    for (size_t i = 0; i < 64 * 3; i++)
        codes[i] = 1 + (int32_t)(next(&seed) % ((1u << shape.bits) - 1));
    ASSERT_OK(ctx, qrb__gptq_pack_zeros(ctx, &shape, codes, true, packed));
    ASSERT_OK(ctx, qrb__gptq_unpack_zeros(ctx, &shape, packed, true, found));
    ck_assert_mem_eq(found, codes, 64 * 3 * sizeof *codes);
    codes[5] = (int32_t)(1u << shape.bits);
    ASSERT_FAILS(ctx, qrb__gptq_pack_zeros(ctx, &shape, codes, true, packed),
                 QRB_E_UNSUPPORTED, "output 1, group 2");
    ASSERT_FAILS(ctx, qrb__gptq_pack_codes(ctx, &shape, codes, packed),
                 QRB_E_INVALID_ARG, "code [0, 5]");
    codes[5] = -1;
    ASSERT_FAILS(ctx, qrb__gptq_pack_codes(ctx, &shape, codes, packed),
                 QRB_E_INVALID_ARG, "code [0, 5] is -1");
    free(codes);
    free(found);
    free(packed);
}
END_TEST

START_TEST(awq_arrays_come_back)
{
    const struct qrb__coded_shape shape = { 64, 96, 3, 4 };
    static int32_t codes[64 * 96];
    static int32_t found[64 * 96];
    static uint32_t packed[96 * 8];
    uint32_t seed = 7;

    for (size_t i = 0; i < 64 * 96; i++)
        codes[i] = (int32_t)(next(&seed) % 16);
    ASSERT_OK(ctx, qrb__awq_pack_codes(ctx, &shape, codes, packed));
    ASSERT_OK(ctx, qrb__awq_unpack_codes(ctx, &shape, packed, found));
    ck_assert_mem_eq(found, codes, sizeof codes);
    ASSERT_OK(ctx, qrb__awq_pack_zeros(ctx, &shape, codes, packed));
    ASSERT_OK(ctx, qrb__awq_unpack_zeros(ctx, &shape, packed, found));
    ck_assert_mem_eq(found, codes, 64 * 3 * sizeof *codes);
    codes[97] = 16;
    ASSERT_FAILS(ctx, qrb__awq_pack_codes(ctx, &shape, codes, packed),
                 QRB_E_INVALID_ARG, "code [1, 1] is 16");
    codes[4] = -1;
    ASSERT_FAILS(ctx, qrb__awq_pack_zeros(ctx, &shape, codes, packed),
                 QRB_E_INVALID_ARG, "zero point [1, 1] is -1");
}
END_TEST

START_TEST(shapes_that_no_layout_has_are_refused)
{
    static const struct {
        struct qrb__coded_shape shape;
        qrb_status status;
        const char *words;
    } cases[] = {
        { { 32, 32, 1, 5 }, QRB_E_UNSUPPORTED, "5 bits" },
        { { 32, 32, 1, 0 }, QRB_E_UNSUPPORTED, "0 bits" },
        { { 32, 32, 1, 32 }, QRB_E_UNSUPPORTED, "32 bits" },
        { { 40, 32, 1, 4 }, QRB_E_SHAPE, "40 outputs" },
        { { 32, 48, 1, 4 }, QRB_E_SHAPE, "48 inputs" },
        { { 0, 32, 1, 4 }, QRB_E_SHAPE, "0 outputs" },
        { { SIZE_MAX / 32 * 32, 32, 1, 4 }, QRB_E_SHAPE, "outputs" },
        { { 32, 32, 0, 4 }, QRB_E_SHAPE, "0 groups" },
        { { 32, 32, 33, 4 }, QRB_E_SHAPE, "33 groups" },
    };
    uint32_t words[4] = { 0 };
    int32_t codes[4] = { 0 };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ASSERT_FAILS(ctx,
                     qrb__gptq_pack_codes(ctx, &cases[i].shape, codes, words),
                     cases[i].status, cases[i].words);
        ASSERT_FAILS(
            ctx,
            qrb__gptq_unpack_zeros(ctx, &cases[i].shape, words, true, codes),
            cases[i].status, cases[i].words);
    }
    ASSERT_FAILS(ctx,
                 qrb__awq_pack_codes(
                     ctx, &(struct qrb__coded_shape){ 32, 32, 1, 8 }, codes,
                     words),
                 QRB_E_UNSUPPORTED, "8 bits in AWQ's layout");
}
END_TEST

START_TEST(groups_are_inputs_that_follow_each_other)
{
    const struct qrb__coded_shape shape = { 32, 96, 3, 4 };
    int32_t index[96];

    ASSERT_OK(ctx, qrb__gptq_group_index(ctx, &shape, 32, index));
    for (int32_t i = 0; i < 96; i++)
        ck_assert_int_eq(index[i], i / 32);
    ASSERT_OK(ctx, qrb__gptq_check_group_index(ctx, &shape, index));
    ASSERT_OK(ctx, qrb__gptq_group_index(ctx, &shape, 40, index));
    ck_assert_int_eq(index[79], 1);
    ck_assert_int_eq(index[80], 2); /* a last group of 16 */
    ASSERT_FAILS(ctx, qrb__gptq_group_index(ctx, &shape, 48, index),
                 QRB_E_SHAPE, "96 inputs in groups of 48 are not 3 groups");
    ASSERT_FAILS(ctx, qrb__gptq_group_index(ctx, &shape, 0, index),
                 QRB_E_SHAPE, "groups of 0");
    index[7] = 3;
    ASSERT_FAILS(ctx, qrb__gptq_check_group_index(ctx, &shape, index),
                 QRB_E_FORMAT, "g_idx[7] is 3; there are 3 groups");
    index[7] = -1;
    ASSERT_FAILS(ctx, qrb__gptq_check_group_index(ctx, &shape, index),
                 QRB_E_FORMAT, "g_idx[7] is -1");
}
END_TEST

START_TEST(scales_are_halves_of_the_other_order)
{
    const struct qrb__coded_shape shape = { 32, 32, 2, 4 };
    double scales[64] = { 0 };
    double found[64];
    uint16_t halves[64];

    scales[1] = 1.5;   /* output 0, group 1 */
    scales[2] = -0.25; /* output 1, group 0 */
    ASSERT_OK(ctx, qrb__coded_pack_scales(ctx, &shape, scales, halves));
    ck_assert_uint_eq(halves[32], 0x3e00);
    ck_assert_uint_eq(halves[1], 0xb400);
    ASSERT_OK(ctx, qrb__coded_unpack_scales(ctx, &shape, halves, found));
    ck_assert_mem_eq(found, scales, sizeof scales);
    scales[3] = 65520;
    ASSERT_FAILS(ctx, qrb__coded_pack_scales(ctx, &shape, scales, halves),
                 QRB_E_NOT_FINITE, "output 1, group 1 is 65520");
    scales[3] = NAN;
    ASSERT_FAILS(ctx, qrb__coded_pack_scales(ctx, &shape, scales, halves),
                 QRB_E_NOT_FINITE, "output 1, group 1");
    halves[33] = 0x7e00;
    ASSERT_FAILS(ctx, qrb__coded_unpack_scales(ctx, &shape, halves, found),
                 QRB_E_NOT_FINITE, "output 1, group 1");
}
END_TEST

/* ---- a layer of a file --------------------------------------------------- */

enum { OUT = 32, IN = 64, GROUPS = 2, WORDS = OUT * IN / 8 };

struct part {
    const char *name;
    uint32_t dtype;
    uint32_t rank;
    size_t shape[2];
    void *memory;
};

struct layer {
    int32_t codes[OUT * IN];
    int32_t zeros[OUT * GROUPS];
    double scales[OUT * GROUPS];
    uint32_t qweight[WORDS];
    uint32_t qzeros[WORDS];
    uint16_t halves[OUT * GROUPS];
    int32_t group_index[IN];
    struct part parts[4];
};

static const struct qrb__coded_shape layer_shape = { OUT, IN, GROUPS, 4 };

static void make_layer(struct layer *layer, enum qrb__coded_format format)
{
    const bool awq = format == QRB__CODED_AWQ;
    const struct part parts[4] = {
        { "a.qweight",
          QRB_I32,
          2,
          { awq ? IN : IN / 8, awq ? OUT / 8 : OUT },
          layer->qweight },
        { "a.qzeros", QRB_I32, 2, { GROUPS, OUT / 8 }, layer->qzeros },
        { "a.scales", QRB_F16, 2, { GROUPS, OUT }, layer->halves },
        { "a.g_idx", QRB_I32, 1, { IN, 0 }, layer->group_index },
    };
    uint32_t seed = 3;

    memcpy(layer->parts, parts, sizeof parts);
    for (size_t i = 0; i < OUT * IN; i++)
        layer->codes[i] = (int32_t)(next(&seed) % 16);
    for (size_t i = 0; i < OUT * GROUPS; i++) {
        layer->zeros[i] = 1 + (int32_t)(next(&seed) % 15);
        layer->scales[i] = 1.0 / 1024 * (1 + next(&seed) % 64);
    }
    for (size_t i = 0; i < IN; i++)
        layer->group_index[i] = (int32_t)(i % GROUPS);
    ASSERT_OK(ctx, qrb__coded_pack_scales(ctx, &layer_shape, layer->scales,
                                          layer->halves));
    if (awq) {
        ASSERT_OK(ctx, qrb__awq_pack_codes(ctx, &layer_shape, layer->codes,
                                           layer->qweight));
        ASSERT_OK(ctx, qrb__awq_pack_zeros(ctx, &layer_shape, layer->zeros,
                                           layer->qzeros));
        return;
    }
    ASSERT_OK(ctx, qrb__gptq_pack_codes(ctx, &layer_shape, layer->codes,
                                        layer->qweight));
    ASSERT_OK(ctx, qrb__gptq_pack_zeros(ctx, &layer_shape, layer->zeros,
                                        format == QRB__CODED_GPTQ,
                                        layer->qzeros));
}

/* Write the first `count` parts and open the file. */
static qrb_safetensors *open_parts(qrb_context *context,
                                   const struct part *parts, size_t count)
{
    qrb_tensor *tensors[4] = { NULL };
    qrb_named_tensor named[4];
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    char path[256];

    for (size_t i = 0; i < count; i++) {
        qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;

        options.dtype = parts[i].dtype;
        options.rank = parts[i].rank;
        options.shape[0] = parts[i].shape[0];
        options.shape[1] = parts[i].shape[1];
        options.memory = parts[i].memory;
        ASSERT_OK(context, qrb_tensor_create(context, &options, &tensors[i]));
        named[i] = (qrb_named_tensor){ parts[i].name, tensors[i] };
    }
    source.path = in_directory(directory, "layer.safetensors", path);
    ASSERT_OK(context, qrb_safetensors_write(context, path, named, count, NULL,
                                             0));
    for (size_t i = 0; i < count; i++)
        qrb_tensor_destroy(tensors[i]);
    ASSERT_OK(context, qrb_safetensors_open(context, &source, &file));
    return file;
}

START_TEST(a_layer_of_a_file_is_what_was_packed)
{
    const enum qrb__coded_format format = (enum qrb__coded_format)_i;
    static struct layer layer;
    struct qrb__coded coded;
    qrb_safetensors *file;

    make_layer(&layer, format);
    file = open_parts(ctx, layer.parts, format == QRB__CODED_AWQ ? 3 : 4);
    ASSERT_OK(ctx, qrb__coded_read(file, "a", format, 4, &coded));
    ck_assert_uint_eq(coded.shape.outputs, OUT);
    ck_assert_uint_eq(coded.shape.inputs, IN);
    ck_assert_uint_eq(coded.shape.groups, GROUPS);
    ck_assert_mem_eq(coded.codes, layer.codes, sizeof layer.codes);
    ck_assert_mem_eq(coded.zeros, layer.zeros, sizeof layer.zeros);
    ck_assert_mem_eq(coded.scales, layer.scales, sizeof layer.scales);
    for (int32_t i = 0; i < IN; i++)
        ck_assert_int_eq(coded.group_index[i], format == QRB__CODED_AWQ
                                                   ? i / (IN / GROUPS)
                                                   : i % GROUPS);
    qrb__coded_free(ctx, &coded);
    qrb_safetensors_close(file);
}
END_TEST

START_TEST(layers_that_do_not_fit_together_are_refused)
{
    static const struct {
        size_t part;
        uint32_t dtype;
        size_t shape[2];
        qrb_status status;
        const char *words;
    } cases[] = {
        { 0, QRB_F32, { IN / 8, OUT }, QRB_E_FORMAT, "a.qweight: found F32" },
        { 0, QRB_I32, { 6, OUT }, QRB_E_SHAPE, "a.qweight: 6 rows hold no" },
        { 0, QRB_I32, { 4, 4 }, QRB_E_SHAPE, "a.scales: found [2, 32]" },
        { 1, QRB_I32, { GROUPS, 8 }, QRB_E_SHAPE, "a.qzeros: found [2, 8]" },
        { 2, QRB_F16, { 1, OUT }, QRB_E_SHAPE, "a.qzeros: found [2, 4]" },
        { 2, QRB_BF16, { GROUPS, OUT }, QRB_E_FORMAT, "a.scales: found BF16" },
        { 3, QRB_I32, { IN - 1, 0 }, QRB_E_SHAPE, "a.g_idx: found [63]" },
    };
    static struct layer layer;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct qrb__coded coded;
        qrb_safetensors *file;
        struct part *part;

        make_layer(&layer, QRB__CODED_GPTQ);
        part = &layer.parts[cases[i].part];
        part->dtype = cases[i].dtype;
        memcpy(part->shape, cases[i].shape, sizeof part->shape);
        file = open_parts(ctx, layer.parts, 4);
        ASSERT_FAILS(ctx,
                     qrb__coded_read(file, "a", QRB__CODED_GPTQ, 4, &coded),
                     cases[i].status, cases[i].words);
        ck_assert_ptr_null(coded.codes);
        qrb_safetensors_close(file);
    }
}
END_TEST

START_TEST(missing_parts_and_bad_groups_are_named)
{
    static struct layer layer;
    struct qrb__coded coded;
    qrb_safetensors *file;

    make_layer(&layer, QRB__CODED_GPTQ);
    layer.group_index[5] = GROUPS;
    file = open_parts(ctx, layer.parts, 4);
    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_GPTQ, 4, &coded),
                 QRB_E_FORMAT, "g_idx[5] is 2");
    ASSERT_FAILS(ctx, qrb__coded_read(file, "b", QRB__CODED_GPTQ, 4, &coded),
                 QRB_E_FORMAT, "b.qweight: the file does not have it");
    ASSERT_FAILS(ctx, qrb__coded_read(file, "", QRB__CODED_GPTQ, 4, &coded),
                 QRB_E_FORMAT, "a name is empty");
    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_GPTQ, 0, &coded),
                 QRB_E_SHAPE, "codes of 0 bits");
    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_GPTQ, 5, &coded),
                 QRB_E_SHAPE, "codes of 5 bits");
    qrb_safetensors_close(file);
    file = open_parts(ctx, layer.parts, 2);
    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_GPTQ, 4, &coded),
                 QRB_E_FORMAT, "a.scales: the file does not have it");
    qrb_safetensors_close(file);
}
END_TEST

/* Two tensors that do not belong together, whose product would be 2^20 times
 * as large as the file. */
START_TEST(shapes_are_compared_before_memory_is_taken)
{
    static uint32_t qweight[32 * 1024];
    static uint16_t halves[32 * 1024];
    static const struct part parts[2] = {
        { "a.qweight", QRB_I32, 2, { 32 * 1024, 1 }, qweight },
        { "a.scales", QRB_F16, 2, { 1, 32 * 1024 }, halves },
    };
    qrb_safetensors *file = open_parts(ctx, parts, 2);
    struct qrb__coded coded;

    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_AWQ, 4, &coded),
                 QRB_E_SHAPE, "expected 8 outputs");
    ASSERT_FAILS(ctx, qrb__coded_read(file, "a", QRB__CODED_GPTQ, 4, &coded),
                 QRB_E_SHAPE, "expected 1 outputs");
    qrb_safetensors_close(file);
}
END_TEST

static qrb_status read_layer(qrb_context *context, void *path)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file = NULL;
    struct qrb__coded coded;
    qrb_status status;

    source.path = path;
    status = qrb_safetensors_open(context, &source, &file);
    if (status == QRB_OK)
        status = qrb__coded_read(file, "a", QRB__CODED_GPTQ, 4, &coded);
    if (status == QRB_OK)
        qrb__coded_free(context, &coded);
    qrb_safetensors_close(file);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_layer)
{
    static struct layer layer;
    char path[256];

    make_layer(&layer, QRB__CODED_GPTQ);
    qrb_safetensors_close(open_parts(ctx, layer.parts, 4));
    in_directory(directory, "layer.safetensors", path);
    fail_each_allocation(read_layer, path);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("coded");
    TCase *arrays = tcase_create("arrays");
    TCase *layers = tcase_create("layers");

    tcase_add_checked_fixture(arrays, set_up, tear_down);
    tcase_add_test(arrays, eight_inputs_are_one_gptq_word);
    tcase_add_test(arrays, eight_outputs_are_one_awq_word);
    tcase_add_test(arrays, three_bits_are_one_stream_across_words);
    tcase_add_test(arrays, symmetric_zero_points_of_version_1_are_sevens);
    tcase_add_test(arrays, version_1_has_no_zero_point_0);
    tcase_add_loop_test(arrays, gptq_arrays_come_back, 0, 4);
    tcase_add_test(arrays, awq_arrays_come_back);
    tcase_add_test(arrays, shapes_that_no_layout_has_are_refused);
    tcase_add_test(arrays, groups_are_inputs_that_follow_each_other);
    tcase_add_test(arrays, scales_are_halves_of_the_other_order);
    suite_add_tcase(suite, arrays);
    tcase_add_checked_fixture(layers, set_up, tear_down);
    tcase_add_loop_test(layers, a_layer_of_a_file_is_what_was_packed, 1, 4);
    tcase_add_test(layers, layers_that_do_not_fit_together_are_refused);
    tcase_add_test(layers, missing_parts_and_bad_groups_are_named);
    tcase_add_test(layers, shapes_are_compared_before_memory_is_taken);
    tcase_add_test(layers, no_failed_allocation_leaks_a_layer);
    suite_add_tcase(suite, layers);
    return run_suite(suite);
}
