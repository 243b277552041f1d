/* The files of seeds.h, written out one by one. */
#include "seeds.h"

#include <stdlib.h>
#include <string.h>

#include "io/bytes.h"
#include "io/container.h"
#include "io/container_layout.h"
#include "io/sha256.h"

enum { MAX_SEEDS = 256 };

/* A safetensors file: `data` zeros behind the header, whose length field says
 * `length`, or the truth if that is 0. */
struct header_case {
    unsigned rule;
    const char *name;
    qrb_status status;
    const char *words;
    const char *header;
    size_t data;
    uint64_t length;
};

#define ENTRY(dtype, shape, offsets)                                           \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets)                                             \
    "{\"a.weight\":" ENTRY(dtype, shape, offsets) "}"

static const struct header_case headers[] = {
    { 0, "one_tensor", QRB_OK, "", ONE("F32", "[2,3]", "[0,24]"), 24, 0 },
    { 0, "two_types_and_metadata", QRB_OK, "",
      "{\"__metadata__\":{\"format\":\"pt\",\"\":\"\\u00e9\"},\"b\":" ENTRY(
          "U8", "[3]", "[8,11]") ",\"a\":" ENTRY("BF16", "[4]", "[0,8]") "}   ",
      11, 0 },
    { 0, "no_tensor", QRB_OK, "", "{}", 0, 0 },
    { 0, "metadata_without_pairs", QRB_OK, "", "{\"__metadata__\":{}}", 0, 0 },
    { 0, "a_scalar", QRB_OK, "", ONE("F64", "[]", "[0,8]"), 8, 0 },
    { 0, "the_smallest_types", QRB_OK, "",
      "{\"a\":" ENTRY("F8_E4M3", "[1]", "[0,1]") ",\"b\":" ENTRY(
          "F8_E5M2", "[1]", "[1,2]") ",\"c\":" ENTRY("BOOL", "[1]",
                                                     "[2,3]") "}",
      3, 0 },
    /* 4 (2^62 + 1) = 4 and 2^32 2^32 = 0 in 64 bits. */
    { 1, "a_product_that_wraps_to_the_length", QRB_E_FORMAT,
      "tensor a.weight: shape: expected a product that fits",
      ONE("F32", "[4611686018427387905]", "[0,4]"), 4, 0 },
    { 1, "a_product_that_wraps_to_nothing", QRB_E_FORMAT,
      "tensor a.weight: shape: expected a product that fits",
      ONE("U8", "[4294967296,4294967296]", "[0,0]"), 0, 0 },
    { 1, "huge_extents_beside_a_zero", QRB_E_FORMAT,
      "tensor a.weight: shape: expected a product that fits",
      ONE("F32", "[0,9223372036854775807,9223372036854775807]", "[0,0]"), 0,
      0 },
    { 2, "a_length_that_wraps_when_8_is_added", QRB_E_FORMAT,
      "a header of 18446744073709551608 bytes", "{}", 0,
      18446744073709551608u },
    { 2, "offsets_at_the_end_of_64_bits", QRB_E_FORMAT,
      "tensor a.weight: data_offsets are [9223372036854775803,",
      ONE("F32", "[1]", "[9223372036854775803,9223372036854775807]"), 4, 0 },
    { 3, "an_empty_tensor", QRB_OK, "", ONE("F32", "[0,4]", "[0,0]"), 0, 0 },
    { 3, "an_empty_tensor_where_another_begins", QRB_OK, "",
      "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"z\":" ENTRY("F32", "[0]",
                                                             "[0,0]") "}",
      4, 0 },
    { 3, "an_empty_tensor_with_data", QRB_E_FORMAT,
      "tensor a.weight: data_offsets span 4 bytes",
      ONE("F32", "[0,4]", "[0,4]"), 4, 0 },
    { 4, "eight_dimensions", QRB_OK, "",
      ONE("U8", "[1,1,1,1,1,1,1,2]", "[0,2]"), 2, 0 },
    { 4, "nine_dimensions", QRB_E_UNSUPPORTED,
      "tensor a.weight: shape has 9 dimensions; at most 8",
      ONE("U8", "[1,1,1,1,1,1,1,1,2]", "[0,2]"), 2, 0 },
    { 5, "a_header_longer_than_the_file", QRB_E_FORMAT, "a header of 3 bytes",
      "{}", 0, 3 },
    { 5, "a_header_longer_than_100_megabytes", QRB_E_FORMAT,
      "a header of 100000001 bytes; at least 2, at most 100000000", "{}", 0,
      100000001 },
    { 5, "a_header_of_one_byte", QRB_E_FORMAT, "a header of 1 bytes", "{}", 0,
      1 },
    { 6, "data_behind_the_end", QRB_E_FORMAT,
      "tensor a.weight: data_offsets are [0, 24]; the file has 23 bytes",
      ONE("F32", "[2,3]", "[0,24]"), 23, 0 },
    { 6, "an_end_before_the_begin", QRB_E_FORMAT,
      "tensor a.weight: data_offsets are [4, 0]", ONE("F32", "[1]", "[4,0]"), 8,
      0 },
    { 7, "a_hole_in_front", QRB_E_FORMAT,
      "tensor a.weight: data_offsets begin at 4, where 0 is next: there is a",
      ONE("F32", "[1]", "[4,8]"), 8, 0 },
    { 7, "a_hole_between", QRB_E_FORMAT,
      "tensor b: data_offsets begin at 8, where 4 is next: there is a hole",
      "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]",
                                                             "[8,12]") "}",
      12, 0 },
    { 7, "an_overlap", QRB_E_FORMAT,
      "tensor b: data_offsets begin at 2, where 4 is next: tensors overlap",
      "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]",
                                                             "[2,6]") "}",
      6, 0 },
    { 7, "two_tensors_in_one_place", QRB_E_FORMAT, "tensors overlap",
      "{\"a\":" ENTRY("F32", "[1]", "[0,4]") ",\"b\":" ENTRY("F32", "[1]",
                                                             "[0,4]") "}",
      4, 0 },
    { 7, "bytes_behind_the_last_tensor", QRB_E_FORMAT,
      "tensors cover 4 bytes of 5", ONE("F32", "[1]", "[0,4]"), 5, 0 },
    { 8, "a_length_below_shape_and_type", QRB_E_FORMAT,
      "tensor a.weight: data_offsets span 8 bytes; shape and dtype F32 need "
      "12",
      ONE("F32", "[3]", "[0,8]"), 8, 0 },
    { 8, "a_length_above_shape_and_type", QRB_E_FORMAT,
      "tensor a.weight: data_offsets span 8 bytes; shape and dtype F16 need 6",
      ONE("F16", "[3]", "[0,8]"), 8, 0 },
    { 9, "an_unknown_type", QRB_E_UNSUPPORTED,
      "tensor a.weight: dtype F4 is not supported", ONE("F4", "[2]", "[0,1]"),
      1, 0 },
    { 9, "the_name_of_no_type", QRB_E_UNSUPPORTED,
      "tensor a.weight: dtype ? is not supported", ONE("?", "[2]", "[0,1]"), 1,
      0 },
    { 9, "a_type_that_is_a_number", QRB_E_FORMAT,
      "tensor a.weight: dtype: expected a string",
      "{\"a.weight\":{\"dtype\":2,\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
      0 },
    { 9, "a_negative_extent", QRB_E_FORMAT,
      "tensor a.weight: shape: expected integers that are not negative",
      ONE("F32", "[-1]", "[0,4]"), 4, 0 },
    { 9, "a_negative_offset", QRB_E_FORMAT,
      "tensor a.weight: data_offsets: expected two integers",
      ONE("F32", "[1]", "[-4,0]"), 4, 0 },
    { 9, "a_shape_that_is_no_array", QRB_E_FORMAT,
      "tensor a.weight: shape: expected an array", ONE("F32", "{}", "[0,4]"), 4,
      0 },
    { 9, "three_offsets", QRB_E_FORMAT,
      "tensor a.weight: data_offsets: expected two integers",
      ONE("F32", "[1]", "[0,4,4]"), 4, 0 },
    { 9, "an_entry_that_is_no_object", QRB_E_FORMAT,
      "tensor a.weight: entry: expected dtype, shape and data_offsets",
      "{\"a.weight\":[]}", 0, 0 },
    { 9, "an_entry_with_more_fields", QRB_E_FORMAT,
      "tensor a.weight: entry: expected dtype, shape and data_offsets",
      "{\"a.weight\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],"
      "\"x\":0}}",
      1, 0 },
    { 9, "metadata_that_is_no_object", QRB_E_FORMAT,
      "__metadata__ is not an object", "{\"__metadata__\":3}", 0, 0 },
    { 9, "metadata_that_is_no_string", QRB_E_FORMAT,
      "__metadata__: k is not a string", "{\"__metadata__\":{\"k\":1}}", 0, 0 },
    { 11, "two_tensors_of_one_name", QRB_E_FORMAT,
      "duplicate object key near '\"a\"'",
      "{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"a\":" ENTRY("U8", "[1]",
                                                            "[1,2]") "}",
      2, 0 },
    { 11, "one_name_in_two_spellings", QRB_E_FORMAT, "duplicate object key",
      "{\"a\":" ENTRY("U8", "[1]", "[0,1]") ",\"\\u0061\":" ENTRY("U8", "[1]",
                                                                  "[1,2]") "}",
      2, 0 },
    { 11, "two_shapes_of_one_tensor", QRB_E_FORMAT,
      "duplicate object key near '\"shape\"'",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],"
      "\"data_offsets\":[0,1]}}",
      1, 0 },
    { 11, "two_values_of_one_key", QRB_E_FORMAT, "duplicate object key",
      "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, 0 },
    { 12, "an_empty_name", QRB_E_FORMAT, "a name is empty",
      "{\"\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, 0 },
    { 12, "a_name_that_is_not_utf8", QRB_E_FORMAT, "unable to decode byte 0xff",
      "{\"\xff\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, 0 },
    { 12, "an_overlong_form", QRB_E_FORMAT, "unable to decode byte 0xc0",
      "{\"\xc0\xaf\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, 0 },
    { 12, "half_a_surrogate_pair", QRB_E_FORMAT, "invalid Unicode",
      "{\"\\ud800\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, 0 },
    { 12, "nul_in_a_name", QRB_E_FORMAT, "NUL byte in object key",
      "{\"a\\u0000b\":" ENTRY("U8", "[1]", "[0,1]") "}", 1, 0 },
    { 13, "nested_deeper_than_8", QRB_E_FORMAT,
      "nested deeper than 8 at byte 12", "{\"a\":[[[[[[[[0]]]]]]]]}", 0, 0 },
    { 13, "an_extent_with_a_point", QRB_E_FORMAT,
      "tensor a.weight: shape: expected integers", ONE("U8", "[1.0]", "[0,1]"),
      1, 0 },
    { 13, "an_offset_with_an_exponent", QRB_E_FORMAT,
      "tensor a.weight: data_offsets: expected two integers",
      ONE("U8", "[1]", "[0,1e0]"), 1, 0 },
    { 13, "an_integer_beyond_64_bits", QRB_E_FORMAT, "too big integer",
      ONE("U8", "[18446744073709551617]", "[0,1]"), 1, 0 },
    { 13, "text_behind_the_object", QRB_E_FORMAT, "end of file expected",
      "{} {}", 0, 0 },
    { 13, "no_object_at_the_begin", QRB_E_FORMAT, "does not begin with '{'",
      " {}", 0, 0 },
    { 13, "an_object_for_every_other_byte", QRB_E_FORMAT,
      "more than 20 objects and arrays in 67 bytes",
      "{\"a\":[{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}]}",
      0, 0 },
};

/* Files of text, as they are. */
static const struct {
    unsigned rule;
    const char *target;
    const char *name;
    qrb_status status;
    const char *words;
    const char *text;
} texts[] = {
    { 5, "safetensors", "seven_bytes", QRB_E_FORMAT,
      "has 7 bytes; a safetensors file begins with 8", "0123456" },
    { 5, "llama2c", "seven_bytes", QRB_E_FORMAT,
      "has 7 bytes; a llama2.c checkpoint begins with 28", "0123456" },
    { 5, "container", "seven_bytes", QRB_E_FORMAT,
      "has 7 bytes, too few for a container", "QRBSTAT" },
    { 0, "index", "two_shards", QRB_OK, "",
      "{\"metadata\":{\"total_size\":8},\"weight_map\":{\"a\":"
      "\"one.safetensors\",\"b\":\"two.safetensors\"}}" },
    { 0, "index", "one_shard", QRB_OK, "",
      "{\"weight_map\":{\"a\":\"one.safetensors\"}}" },
    { 11, "index", "a_tensor_twice", QRB_E_FORMAT, "duplicate object key",
      "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}"
      "}" },
    { 15, "index", "a_shard_above", QRB_E_FORMAT,
      "tensor a: its shard is no plain file name",
      "{\"weight_map\":{\"a\":\"../one.safetensors\"}}" },
    { 15, "index", "an_absolute_shard", QRB_E_FORMAT,
      "tensor a: its shard is no plain file name",
      "{\"weight_map\":{\"a\":\"/etc/passwd\"}}" },
    { 15, "index", "a_shard_below", QRB_E_FORMAT,
      "tensor a: its shard is no plain file name",
      "{\"weight_map\":{\"a\":\"x/one.safetensors\"}}" },
    { 15, "index", "the_directory_itself", QRB_E_FORMAT,
      "tensor a: its shard is no plain file name",
      "{\"weight_map\":{\"a\":\".\"}}" },
    { 15, "index", "a_shard_that_is_missing", QRB_E_IO,
      "cannot open three.safetensors",
      "{\"weight_map\":{\"a\":\"three.safetensors\"}}" },
    { 15, "index", "a_tensor_in_the_wrong_shard", QRB_E_FORMAT,
      "tensor a is in one.safetensors; the index says two.safetensors",
      "{\"weight_map\":{\"a\":\"two.safetensors\",\"b\":\"one.safetensors\"}"
      "}" },
    { 15, "index", "a_tensor_that_no_shard_has", QRB_E_FORMAT,
      "tensor c is not in one.safetensors",
      "{\"weight_map\":{\"a\":\"one.safetensors\",\"c\":\"one.safetensors\"}"
      "}" },
    { 15, "index", "a_tensor_that_is_not_listed", QRB_E_FORMAT,
      "tensor b is in two.safetensors; the index says nothing",
      "{\"weight_map\":{\"c\":\"two.safetensors\"}}" },
    { 0, "config", "llama", QRB_OK, "",
      "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\","
      "\"vocab_size\":512,\"hidden_size\":64,\"intermediate_size\":172,"
      "\"num_hidden_layers\":5,\"num_attention_heads\":8,"
      "\"num_key_value_heads\":4,\"max_position_embeddings\":512,"
      "\"rms_norm_eps\":1e-05,\"rope_theta\":10000.0,\"hidden_act\":\"silu\","
      "\"tie_word_embeddings\":true,\"attention_bias\":false}" },
    { 0, "config", "qwen2", QRB_OK, "",
      "{\"model_type\":\"qwen2\",\"vocab_size\":151936,\"hidden_size\":896,"
      "\"intermediate_size\":4864,\"num_hidden_layers\":24,"
      "\"num_attention_heads\":14,\"num_key_value_heads\":2,"
      "\"rms_norm_eps\":1e-06,\"rope_theta\":1000000.0,"
      "\"use_sliding_window\":false,\"sliding_window\":32768,"
      "\"rope_parameters\":{\"rope_type\":\"default\",\"rope_theta\":1e6},"
      "\"layer_types\":[\"full_attention\"],\"tie_word_embeddings\":true}" },
    { 9, "config", "an_unknown_family", QRB_E_UNSUPPORTED,
      "model_type opt with architectures OPTForCausalLM",
      "{\"model_type\":\"opt\",\"architectures\":[\"OPTForCausalLM\"]}" },
    { 18, "config", "scaled_angles", QRB_E_FORMAT, "vocab_size is missing",
      "{\"model_type\":\"llama\",\"rope_scaling\":{\"rope_type\":\"llama3\","
      "\"factor\":32.0}}" },
    { 18, "config", "nested_deeper_than_16", QRB_E_FORMAT,
      "nested deeper than 16",
      "{\"model_type\":\"llama\",\"a\":[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]}" },
    { 18, "config", "a_size_beyond_its_range", QRB_E_FORMAT,
      "vocab_size: expected an integer from 1 to 16777216",
      "{\"model_type\":\"llama\",\"vocab_size\":16777217}" },
    { 18, "config", "a_size_with_a_point", QRB_E_FORMAT,
      "hidden_size: expected an integer",
      "{\"model_type\":\"llama\",\"vocab_size\":1,\"hidden_size\":64.0}" },
};

/* llama2.c headers, and as many zeros as the first of them needs. */
enum { LLAMA2C_FLOATS = 12 + 8 + 64 + 32 + 8 + 144 + 4 + 10 };

static const struct {
    unsigned rule;
    const char *name;
    qrb_status status;
    const char *words;
    int32_t fields[7];
    size_t floats;
} checkpoints[] = {
    { 0, "two_layers", QRB_OK, "", { 4, 6, 2, 2, 1, 3, 5 }, LLAMA2C_FLOATS },
    { 0,
      "a_head_of_its_own",
      QRB_OK,
      "",
      { 4, 6, 2, 2, 1, -3, 5 },
      LLAMA2C_FLOATS + 12 },
    { 1,
      "the_largest_of_all_fields",
      QRB_E_FORMAT,
      "vocab_size",
      { INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX, INT32_MAX,
        INT32_MAX },
      4 },
    { 1,
      "the_largest_that_are_allowed",
      QRB_E_FORMAT,
      "header announces",
      { 1 << 20, 1 << 24, 1 << 14, 1 << 16, 1 << 16, 1 << 24, 1 << 24 },
      4 },
    { 1,
      "no_heads_to_divide_by",
      QRB_E_FORMAT,
      "num_attention_heads is 0",
      { 4, 6, 2, 0, 1, 3, 5 },
      LLAMA2C_FLOATS },
    { 6,
      "one_float_too_few",
      QRB_E_FORMAT,
      "header announces",
      { 4, 6, 2, 2, 1, 3, 5 },
      LLAMA2C_FLOATS - 1 },
    { 7,
      "one_float_too_many",
      QRB_E_FORMAT,
      "header announces",
      { 4, 6, 2, 2, 1, 3, 5 },
      LLAMA2C_FLOATS + 1 },
    { 9,
      "negative_fields",
      QRB_E_FORMAT,
      "intermediate_size is 0",
      { 4, -6, 2, 2, 1, 3, 5 },
      LLAMA2C_FLOATS },
    { 9,
      "the_least_vocabulary",
      QRB_E_FORMAT,
      "vocab_size is 2147483648",
      { 4, 6, 2, 2, 1, INT32_MIN, 5 },
      LLAMA2C_FLOATS },
    { 9,
      "a_later_version",
      QRB_E_UNSUPPORTED,
      "only version 0",
      { 0x616b3432, 1, 4, 6, 2, 2, 1 },
      LLAMA2C_FLOATS },
};

/* Changes to a container of one section "ab" of 3 bytes; the digest of the
 * table is renewed where `renew` is set. */
static const struct {
    unsigned rule;
    const char *name;
    qrb_status status;
    const char *words;
    size_t at;
    unsigned char bytes[8];
    size_t size;
    int renew;
} containers[] = {
    { 0, "one_section", QRB_OK, "", 0, { 'Q' }, 1, 0 },
    { 2,
      "an_offset_at_the_end_of_64_bits",
      QRB_E_FORMAT,
      "section ab: 3 bytes at 18446744073709551615",
      46,
      { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
      8,
      1 },
    { 5,
      "more_sections_than_bytes",
      QRB_E_FORMAT,
      "sections in a table",
      20,
      { 0xff, 0xff, 0xff, 0xff },
      4,
      1 },
    { 5,
      "a_table_beyond_the_file",
      QRB_E_FORMAT,
      "a table of",
      24,
      { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
      8,
      0 },
    { 5,
      "a_name_beyond_the_table",
      QRB_E_FORMAT,
      "a name of",
      40,
      { 0xff, 0xff, 0xff, 0xff },
      4,
      1 },
    { 6,
      "a_section_beyond_the_file",
      QRB_E_FORMAT,
      "section ab: 18446744073709551615 bytes",
      54,
      { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
      8,
      1 },
    { 10,
      "a_section_that_is_not_aligned",
      QRB_E_FORMAT,
      "section ab: 3 bytes at 129, expected to begin at 128",
      46,
      { 129 },
      1,
      1 },
    { 12, "nul_in_a_name", QRB_E_FORMAT, "name holds NUL", 44, { 0 }, 1, 1 },
    { 12,
      "a_name_that_is_not_utf8",
      QRB_E_FORMAT,
      "is not UTF-8",
      44,
      { 0xff },
      1,
      1 },
    { 20,
      "another_magic",
      QRB_E_FORMAT,
      "does not begin with",
      7,
      { 'e' },
      1,
      1 },
    { 20,
      "a_later_layout",
      QRB_E_UNSUPPORTED,
      "layout 2; only 1",
      8,
      { 2 },
      1,
      1 },
    { 20,
      "a_later_content",
      QRB_E_UNSUPPORTED,
      "content version 4; at most 3",
      16,
      { 4 },
      1,
      1 },
    { 20, "another_kind", QRB_E_FORMAT, "kind 9, expected 1", 12, { 9 }, 1, 1 },
    { 20,
      "another_size",
      QRB_E_FORMAT,
      "131 bytes, expected 132",
      32,
      { 132 },
      1,
      1 },
    { 20,
      "a_table_off_its_digest",
      QRB_E_FORMAT,
      "its table does not match its digest",
      44,
      { 'b' },
      1,
      0 },
    { 20,
      "a_gap_that_is_not_zero",
      QRB_E_FORMAT,
      "byte 127 is not zero",
      127,
      { 1 },
      1,
      0 },
    { 20,
      "a_section_off_its_digest",
      QRB_E_FORMAT,
      "section ab does not match its digest",
      128,
      { 'y' },
      1,
      0 },
};

static void add(struct seed *seeds, size_t *count, struct seed seed,
                const void *bytes)
{
    seed.bytes = malloc(seed.size + 1);
    if (*count == MAX_SEEDS || seed.bytes == NULL)
        abort();
    memcpy(seed.bytes, bytes, seed.size);
    seeds[(*count)++] = seed;
}

static void add_header(struct seed *seeds, size_t *count,
                       const struct header_case *header)
{
    const size_t length = strlen(header->header);
    unsigned char bytes[2048] = { 0 };

    qrb__store_u64(bytes, header->length == 0 ? length : header->length);
    memcpy(bytes + 8, header->header, length);
    add(seeds, count,
        (struct seed){ header->rule, "safetensors", header->name,
                       header->status, header->words, NULL,
                       8 + length + header->data },
        bytes);
}

static void add_checkpoint(struct seed *seeds, size_t *count, size_t i)
{
    unsigned char bytes[2048] = { 0 };

    for (size_t f = 0; f < 7; f++)
        qrb__store_u32(bytes + 4 * f, (uint32_t)checkpoints[i].fields[f]);
    add(seeds, count,
        (struct seed){ checkpoints[i].rule, "llama2c", checkpoints[i].name,
                       checkpoints[i].status, checkpoints[i].words, NULL,
                       28 + 4 * checkpoints[i].floats },
        bytes);
}

/* Head of 40 bytes, an entry of 54, the digest of both at 94, the section at
 * 128. */
static void add_container(struct seed *seeds, size_t *count, size_t i)
{
    enum { TABLE = QRB__ENTRY_SIZE + 2, SECTION = 128, SIZE = SECTION + 3 };
    unsigned char bytes[SIZE] = { 0 };
    struct qrb__sha256 hash;

    for (int step = 0; step < 2; step++) {
        if (step == 0) {
            memcpy(bytes, QRB__CONTAINER_MAGIC, 8);
            qrb__store_u32(bytes + QRB__AT_LAYOUT, QRB__CONTAINER_LAYOUT);
            qrb__store_u32(bytes + QRB__AT_KIND, QRB__CONTAINER_TRAINER);
            qrb__store_u32(bytes + QRB__AT_VERSION, 3);
            qrb__store_u32(bytes + QRB__AT_COUNT, 1);
            qrb__store_u64(bytes + QRB__AT_TABLE, TABLE);
            qrb__store_u64(bytes + QRB__AT_SIZE, SIZE);
            qrb__store_u32(bytes + 40, 2);
            memcpy(bytes + 44, "ab", 2);
            qrb__store_u64(bytes + 46, SECTION);
            qrb__store_u64(bytes + 54, 3);
            memcpy(bytes + SECTION, "xyz", 3);
            qrb__sha256_begin(&hash);
            qrb__sha256_add(&hash, bytes + SECTION, 3);
            qrb__sha256_end(&hash, bytes + 62);
        } else {
            memcpy(bytes + containers[i].at, containers[i].bytes,
                   containers[i].size);
        }
        if (step == 0 || containers[i].renew) {
            qrb__sha256_begin(&hash);
            qrb__sha256_add(&hash, bytes, QRB__HEAD_SIZE + TABLE);
            qrb__sha256_end(&hash, bytes + QRB__HEAD_SIZE + TABLE);
        }
    }
    add(seeds, count,
        (struct seed){ containers[i].rule, "container", containers[i].name,
                       containers[i].status, containers[i].words, NULL, SIZE },
        bytes);
}

struct seed *seeds_make(size_t *count_out)
{
    struct seed *seeds = calloc(MAX_SEEDS, sizeof *seeds);
    size_t count = 0;

    if (seeds == NULL)
        abort();
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        add_header(seeds, &count, &headers[i]);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        add(seeds, &count,
            (struct seed){ texts[i].rule, texts[i].target, texts[i].name,
                           texts[i].status, texts[i].words, NULL,
                           strlen(texts[i].text) },
            texts[i].text);
    for (size_t i = 0; i < sizeof checkpoints / sizeof *checkpoints; i++)
        add_checkpoint(seeds, &count, i);
    for (size_t i = 0; i < sizeof containers / sizeof *containers; i++)
        add_container(seeds, &count, i);
    seeds_add_gguf(seeds, &count);
    *count_out = count;
    return seeds;
}

void seeds_free(struct seed *seeds, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free(seeds[i].bytes);
    free(seeds);
}
