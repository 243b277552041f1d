/* GGUF files, one good one with changes at known places, and layers of GPTQ
 * and AWQ. */
#include <stdlib.h>
#include <string.h>

#include "io/bytes.h"
#include "seeds.h"

enum {
    VERSION = 4,
    TENSORS = 8,
    KEYS = 16,
    ALIGNMENT_TYPE = 49,
    ALIGNMENT = 53,
    KEY_A = 65,
    TYPE_A = 66,
    KEY_B = 82,
    LENGTH_B = 87,
    ELEMENT = 110,
    COUNT = 114,
    ELEMENT_LENGTH = 131,
    NAME_LENGTH = 140,
    DIMENSIONS = 149,
    EXTENT = 153,
    TYPE = 161,
    OFFSET = 165,
    OTHER_NAME = 181,
    OTHER_EXTENT = 186,
    OTHER_OFFSET = 198,
    DATA = 224,
    SIZE = 274
};

/* At `at`, `width` bytes become `value`; width 0: nothing does. */
static const struct {
    unsigned rule;
    const char *name;
    qrb_status status;
    const char *words;
    size_t at;
    size_t width;
    uint64_t value;
} files[] = {
    { 0, "keys_and_tensors", QRB_OK, "", 0, 0, 0 },
    { 0, "version_2", QRB_OK, "", VERSION, 4, 2 },
    { 1, "an_extent_of_2_to_the_62", QRB_E_FORMAT, "w has more bytes", EXTENT,
      8, 1ull << 62 },
    { 2, "an_offset_at_the_end_of_64_bits", QRB_E_FORMAT, "tensor w has offset",
      OFFSET, 8, UINT64_MAX - 7 },
    { 3, "an_extent_of_0", QRB_E_FORMAT, "w has an extent of 0", EXTENT, 8, 0 },
    { 4, "no_dimensions", QRB_E_FORMAT, "w has 0 dimensions", DIMENSIONS, 4,
      0 },
    { 4, "five_dimensions", QRB_E_FORMAT, "w has 5 dimensions", DIMENSIONS, 4,
      5 },
    { 5, "more_tensors_than_bytes", QRB_E_FORMAT, "the number of tensors is",
      TENSORS, 8, UINT64_MAX },
    { 5, "more_keys_than_bytes", QRB_E_FORMAT, "the number of keys is", KEYS, 8,
      1ull << 60 },
    { 5, "a_string_beyond_the_file", QRB_E_FORMAT, "b reaches beyond",
      LENGTH_B, 8, UINT64_MAX },
    { 5, "a_list_beyond_the_file", QRB_E_FORMAT, "l is 4611686018427387904",
      COUNT, 8, 1ull << 62 },
    { 5, "an_element_beyond_the_file", QRB_E_FORMAT, "l reaches beyond",
      ELEMENT_LENGTH, 8, 200 },
    { 6, "a_tensor_beyond_the_file", QRB_E_FORMAT,
      "tensor w of 4000 bytes reaches beyond", EXTENT, 8, 1000 },
    { 7, "tensors_that_overlap", QRB_E_FORMAT,
      "tensor v has offset 0, expected 32", OTHER_OFFSET, 8, 0 },
    { 7, "a_hole_between_tensors", QRB_E_FORMAT,
      "tensor v has offset 64, expected 32", OTHER_OFFSET, 8, 64 },
    { 7, "offsets_of_another_alignment", QRB_E_FORMAT,
      "tensor v has offset 32, expected 16", ALIGNMENT, 4, 1 },
    { 8, "a_row_that_is_no_whole_blocks", QRB_E_FORMAT,
      "tensor v has rows of 33", OTHER_EXTENT, 8, 33 },
    { 9, "an_unknown_type_of_value", QRB_E_FORMAT, "a has an unknown type",
      TYPE_A, 4, 13 },
    { 9, "an_unknown_type_of_elements", QRB_E_FORMAT,
      "l is an array of an unknown type", ELEMENT, 4, 0xffffffff },
    { 9, "an_unknown_type_of_tensor", QRB_E_UNSUPPORTED, "tensor w has type 4",
      TYPE, 4, 4 },
    { 9, "version_1", QRB_E_UNSUPPORTED, "version 1 of GGUF", VERSION, 4, 1 },
    { 10, "an_alignment_of_24", QRB_E_FORMAT, "expected a power of two",
      ALIGNMENT, 4, 24 },
    { 10, "an_alignment_of_0", QRB_E_FORMAT, "expected a power of two",
      ALIGNMENT, 4, 0 },
    { 10, "an_alignment_with_a_sign", QRB_E_FORMAT, "expected a power of two",
      ALIGNMENT_TYPE, 4, 5 },
    { 11, "a_key_twice", QRB_E_FORMAT, "key a is there twice", KEY_B, 1, 'a' },
    { 11, "a_tensor_twice", QRB_E_FORMAT, "tensor w is there twice", OTHER_NAME,
      1, 'w' },
    { 12, "nul_in_a_key", QRB_E_FORMAT, "a key has a NUL", KEY_A, 1, 0 },
    { 12, "a_key_that_is_not_utf8", QRB_E_FORMAT, "is not UTF-8", KEY_A, 1,
      0xff },
    { 12, "a_name_without_bytes", QRB_E_FORMAT,
      "the name of a tensor has 0 bytes", NAME_LENGTH, 8, 0 },
    { 14, "an_array_of_arrays", QRB_E_FORMAT, "l is an array of arrays",
      ELEMENT, 4, 9 },
};

static unsigned char *put(unsigned char *at, const void *bytes, size_t size)
{
    memcpy(at, bytes, size);
    return at + size;
}

static unsigned char *put32(unsigned char *at, uint32_t value)
{
    qrb__store_u32(at, value);
    return at + 4;
}

static unsigned char *put64(unsigned char *at, uint64_t value)
{
    qrb__store_u64(at, value);
    return at + 8;
}

static unsigned char *put_text(unsigned char *at, const char *text)
{
    return put(put64(at, strlen(text)), text, strlen(text));
}

static void make_file(unsigned char *bytes)
{
    unsigned char *at = put(bytes, "GGUF", 4);

    at = put64(put64(put32(at, 3), 2), 4);
    at = put32(put32(put_text(at, "general.alignment"), 4), 32);
    at = put32(put32(put_text(at, "a"), 4), 1);
    at = put_text(put32(put_text(at, "b"), 8), "xy");
    at = put64(put32(put32(put_text(at, "l"), 9), 8), 2);
    at = put_text(put_text(at, "p"), "q");
    at = put64(put32(put_text(at, "w"), 1), 4);
    at = put64(put32(at, 0), 0);
    at = put64(put32(put_text(at, "v"), 1), 32);
    put64(put32(at, 2), 32);
}

static void add(struct seed *seeds, size_t *count, const struct seed *seed,
                const unsigned char *bytes)
{
    unsigned char *copy = malloc(seed->size);

    if (copy == NULL)
        abort();
    memcpy(copy, bytes, seed->size);
    seeds[*count] = *seed;
    seeds[(*count)++].bytes = copy;
}

static void add_file(struct seed *seeds, size_t *count, size_t i)
{
    unsigned char bytes[SIZE] = { 0 };
    unsigned char value[8];
    const struct seed seed = { files[i].rule,   "gguf",         files[i].name,
                               files[i].status, files[i].words, NULL,
                               SIZE };

    make_file(bytes);
    qrb__store_u64(value, files[i].value);
    memcpy(bytes + files[i].at, value, files[i].width);
    add(seeds, count, &seed, bytes);
}

/* Three tokens, a merge and a configuration: what a fuzzer would not find. */
static void add_model(struct seed *seeds, size_t *count)
{
    static const char *const tokens[3] = { "a", "b", "ab" };
    static const char *const sizes[] = {
        "llama.block_count",         "llama.context_length",
        "llama.embedding_length",    "llama.feed_forward_length",
        "llama.attention.head_count"
    };
    unsigned char bytes[1024] = { 0 };
    struct seed seed = { 0, "gguf", "a_model", QRB_OK, "", NULL, 0 };
    unsigned char *at = put(bytes, "GGUF", 4);

    at = put64(put64(put32(at, 3), 1), 11);
    at = put_text(put32(put_text(at, "general.architecture"), 8), "llama");
    for (size_t i = 0; i < 5; i++)
        at = put32(put32(put_text(at, sizes[i]), 4), 2);
    at = put_text(put32(put_text(at, "tokenizer.ggml.model"), 8), "gpt2");
    at = put_text(put32(put_text(at, "tokenizer.ggml.pre"), 8), "gpt-2");
    at = put32(put32(put_text(at, "tokenizer.ggml.tokens"), 9), 8);
    at = put64(at, 3);
    for (size_t i = 0; i < 3; i++)
        at = put_text(at, tokens[i]);
    at = put32(put32(put_text(at, "tokenizer.ggml.token_type"), 9), 5);
    at = put64(at, 3);
    for (uint32_t i = 0; i < 3; i++)
        at = put32(at, 1);
    at = put32(put32(put_text(at, "tokenizer.ggml.merges"), 9), 8);
    at = put_text(put64(at, 1), "a b");
    at = put64(put64(put32(put_text(at, "token_embd.weight"), 2), 2), 3);
    at = put64(put32(at, 0), 0);
    seed.size = (size_t)(at - bytes + 31) / 32 * 32 + 24;
    add(seeds, count, &seed, bytes);
}

/* Layers of 32 by 32 codes of 4 bits: zeros, but the group of input 0. */
static const struct {
    unsigned rule;
    const char *name;
    qrb_status status;
    const char *words;
    const char *header;
    unsigned char group;
} layers[] = {
    { 0, "gptq", QRB_OK, "",
      "{\"a.g_idx\":{\"dtype\":\"I32\",\"shape\":[32],"
      "\"data_offsets\":[0,128]},"
      "\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[4,32],"
      "\"data_offsets\":[128,640]},"
      "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,4],"
      "\"data_offsets\":[640,656]},"
      "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,32],"
      "\"data_offsets\":[656,720]}}",
      0 },
    { 9, "a_group_that_is_not_there", QRB_E_FORMAT, "g_idx[0] is 9",
      "{\"a.g_idx\":{\"dtype\":\"I32\",\"shape\":[32],"
      "\"data_offsets\":[0,128]},"
      "\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[4,32],"
      "\"data_offsets\":[128,640]},"
      "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,4],"
      "\"data_offsets\":[640,656]},"
      "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,32],"
      "\"data_offsets\":[656,720]}}",
      9 },
    { 0, "awq", QRB_OK, "",
      "{\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[32,4],"
      "\"data_offsets\":[0,512]},"
      "\"a.qzeros\":{\"dtype\":\"I32\",\"shape\":[1,4],"
      "\"data_offsets\":[512,528]},"
      "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,32],"
      "\"data_offsets\":[528,592]},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[128],"
      "\"data_offsets\":[592,720]}}",
      0 },
    { 1, "extents_that_do_not_belong_together", QRB_E_SHAPE,
      "a.scales: found [1, 104], expected 32 outputs",
      "{\"a.qweight\":{\"dtype\":\"I32\",\"shape\":[4,32],"
      "\"data_offsets\":[0,512]},"
      "\"a.scales\":{\"dtype\":\"F16\",\"shape\":[1,104],"
      "\"data_offsets\":[512,720]}}",
      0 },
};

static void add_layer(struct seed *seeds, size_t *count, size_t i)
{
    enum { LAYER = 720 };
    unsigned char bytes[2048] = { 0 };
    const size_t length = strlen(layers[i].header);
    const struct seed seed = {
        layers[i].rule,  "coded", layers[i].name,       layers[i].status,
        layers[i].words, NULL,    8 + length + LAYER
    };

    qrb__store_u64(bytes, length);
    memcpy(bytes + 8, layers[i].header, length);
    bytes[8 + length] = layers[i].group;
    add(seeds, count, &seed, bytes);
}

void seeds_add_gguf(struct seed *seeds, size_t *count)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        add_file(seeds, count, i);
    add_model(seeds, count);
    for (size_t i = 0; i < sizeof layers / sizeof *layers; i++)
        add_layer(seeds, count, i);
}
