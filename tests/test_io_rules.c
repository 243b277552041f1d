/* The rules for reading files, each a named test over the files of seeds.c.
 *
 * `test_io_rules --corpus DIRECTORY` writes these files where the fuzzers
 * start from; a test sees to it that the ones in the repository are current.
 */
#include "harness.h"

#include <math.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "io/bytes.h"
#include "io/coded.h"
#include "io/config.h"
#include "io/container.h"
#include "io/gguf.h"
#include "io/json.h"
#include "io/llama2c.h"
#include "io/name.h"
#include "seeds.h"

static char directory[64];
static qrb_context *ctx;

static void set_up(void)
{
    make_directory(directory);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static const char *in_place(const char *name)
{
    static char path[256];

    return in_directory(directory, name, path);
}

static void put_shard(const char *name, const char *tensor)
{
    unsigned char bytes[128] = { 0 };
    const int length = snprintf(
        (char *)bytes + 8, sizeof bytes - 8,
        "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        tensor);

    qrb__store_u64(bytes, (uint64_t)length);
    put_file(in_place(name), bytes, 8 + (size_t)length + 4);
}

static qrb_status open_index(const struct seed *seed)
{
    qrb_safetensors *file;
    qrb_status status;

    put_shard("one.safetensors", "a");
    put_shard("two.safetensors", "b");
    put_file(in_place("model.safetensors.index.json"), seed->bytes, seed->size);
    status = qrb_safetensors_open_directory(ctx, directory, &file);
    qrb_safetensors_close(file);
    return status;
}

static qrb_status open_config(const qrb_source *options)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    struct qrb__source *source;
    qrb_status status;

    ASSERT_OK(ctx, qrb__source_open(ctx, options, &source));
    status = qrb__config_read(ctx, source, &config);
    qrb__source_close(source);
    return status;
}

static qrb_status open_gguf(const qrb_source *options)
{
    struct qrb__source *source;
    struct qrb__gguf *file;
    qrb_status status;

    ASSERT_OK(ctx, qrb__source_open(ctx, options, &source));
    status = qrb__gguf_open(ctx, source, &file);
    qrb__gguf_close(file);
    return status;
}

static qrb_status open_layer(const qrb_source *options, const char *name)
{
    qrb_safetensors *file;
    struct qrb__coded coded;
    qrb_status status;

    ASSERT_OK(ctx, qrb_safetensors_open(ctx, options, &file));
    status = qrb__coded_read(
        file, "a",
        strcmp(name, "awq") == 0 ? QRB__CODED_AWQ : QRB__CODED_GPTQ, 4, &coded);
    qrb__coded_free(ctx, &coded);
    qrb_safetensors_close(file);
    return status;
}

/* Open a seed with its reader, from memory of its very size. */
static qrb_status open_seed(const struct seed *seed)
{
    qrb_source source = QRB_SOURCE_INIT;
    struct qrb__llama2c checkpoint;
    struct qrb__container *container;
    qrb_safetensors *file;
    qrb_status status;

    source.buffer = seed->bytes;
    source.size = seed->size;
    if (strcmp(seed->target, "safetensors") == 0) {
        status = qrb_safetensors_open(ctx, &source, &file);
        qrb_safetensors_close(file);
    } else if (strcmp(seed->target, "index") == 0) {
        status = open_index(seed);
    } else if (strcmp(seed->target, "config") == 0) {
        status = open_config(&source);
    } else if (strcmp(seed->target, "gguf") == 0) {
        status = open_gguf(&source);
    } else if (strcmp(seed->target, "coded") == 0) {
        status = open_layer(&source, seed->name);
    } else if (strcmp(seed->target, "llama2c") == 0) {
        status = qrb__llama2c_open(ctx, &source, &checkpoint);
        qrb__llama2c_close(&checkpoint);
    } else {
        ck_assert_str_eq(seed->target, "container");
        status = qrb__container_open(ctx, &source, QRB__CONTAINER_TRAINER, 3,
                                     &container);
        qrb__container_close(container);
    }
    return status;
}

/* Every seed of a rule has its status and its message; at least `least` of
 * them. */
static void check_rule(unsigned rule, size_t least)
{
    size_t count;
    size_t found = 0;
    struct seed *seeds = seeds_make(&count);

    for (size_t i = 0; i < count; i++) {
        qrb_status status;

        if (seeds[i].rule != rule)
            continue;
        found++;
        status = open_seed(&seeds[i]);
        ck_assert_msg(status == seeds[i].status, "%s: %s is %s: %s",
                      seeds[i].target, seeds[i].name, qrb_status_name(status),
                      qrb_context_message(ctx));
        if (status != QRB_OK)
            ck_assert_msg(
                strstr(qrb_context_message(ctx), seeds[i].words) != NULL,
                "%s: %s: \"%s\" does not say \"%s\"", seeds[i].target,
                seeds[i].name, qrb_context_message(ctx), seeds[i].words);
    }
    seeds_free(seeds, count);
    ck_assert_uint_ge(found, least);
}

START_TEST(files_that_break_no_rule_are_read)
{
    check_rule(0, 10);
}
END_TEST

START_TEST(rule_1_dimensions_are_multiplied_with_overflow_checks)
{
    check_rule(1, 6);
}
END_TEST

START_TEST(rule_2_additions_are_checked_as_well)
{
    check_rule(2, 3);
}
END_TEST

START_TEST(rule_3_zero_dimensions_are_allowed_without_data)
{
    check_rule(3, 2);
}
END_TEST

START_TEST(rule_4_the_number_of_dimensions_is_bounded)
{
    check_rule(4, 2);
}
END_TEST

START_TEST(rule_5_counts_and_lengths_are_bounded_by_the_file)
{
    check_rule(5, 6);
}
END_TEST

/* And nothing is allocated for a length that the file does not have. */
static void *small_alloc(size_t count, size_t size, void *user)
{
    (void)user;
    ck_assert_uint_lt(count * size, 1 << 20);
    return malloc(count * size);
}

static void small_free(void *memory, void *user)
{
    (void)user;
    free(memory);
}

START_TEST(rule_5_no_false_length_is_allocated)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *before = ctx;
    size_t count;
    struct seed *seeds = seeds_make(&count);

    options.alloc = small_alloc;
    options.release = small_free;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    for (size_t i = 0; i < count; i++)
        ck_assert_int_eq(open_seed(&seeds[i]), seeds[i].status);
    qrb_context_destroy(ctx);
    ctx = before;
    seeds_free(seeds, count);
}
END_TEST

START_TEST(rule_6_data_lie_inside_the_file)
{
    check_rule(6, 4);
}
END_TEST

START_TEST(rule_6_a_mapped_file_that_shrinks_is_an_error)
{
    size_t count;
    struct seed *seeds = seeds_make(&count);
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_safetensors *file;
    qrb_tensor *tensor;
    const float *values;

    ck_assert_str_eq(seeds[0].name, "one_tensor");
    put_file(in_place("file"), seeds[0].bytes, seeds[0].size);
    source.path = in_place("file");
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_OK(ctx, qrb_safetensors_describe(file, 0, &options));
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    values = qrb_tensor_memory(tensor);
    ((float *)qrb_tensor_memory(tensor))[5] = 9;
    ck_assert_int_eq(truncate(in_place("file"), 8), 0);
    ASSERT_FAILS(ctx, qrb_safetensors_read(file, 0, tensor), QRB_E_IO,
                 "tensor a.weight: ");
    ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "shrank from"));
    ck_assert_float_eq(values[5], 9);
    qrb_tensor_destroy(tensor);
    qrb_safetensors_close(file);
    seeds_free(seeds, count);
}
END_TEST

START_TEST(rule_7_offsets_ascend_without_overlap_or_hole)
{
    check_rule(7, 6);
}
END_TEST

START_TEST(rule_8_the_length_is_the_product_times_the_type)
{
    check_rule(8, 2);
}
END_TEST

START_TEST(rule_9_enums_and_types_are_checked)
{
    check_rule(9, 10);
}
END_TEST

/* The rule's own case, general.alignment, belongs to GGUF, which has no reader
 * yet; containers have a fixed alignment. */
START_TEST(rule_10_alignment_is_kept)
{
    check_rule(10, 1);
}
END_TEST

START_TEST(rule_11_duplicates_are_errors)
{
    check_rule(11, 5);
}
END_TEST

START_TEST(rule_12_bad_names_are_refused)
{
    check_rule(12, 7);
}
END_TEST

START_TEST(rule_12_over_long_names_are_refused)
{
    char *header = malloc(2000);
    struct seed seed = { 12, "safetensors", "long", QRB_OK, "", NULL, 0 };

    ck_assert_ptr_nonnull(header);
    for (int extra = 0; extra < 2; extra++) {
        char name[QRB__NAME_MAX + 2];
        int length;

        memset(name, 'n', sizeof name);
        name[QRB__NAME_MAX + extra] = '\0';
        memset(header, 0, 2000);
        length = snprintf(header + 8, 1990,
                          "{\"%s\":{\"dtype\":\"U8\",\"shape\":[1],"
                          "\"data_offsets\":[0,1]}}",
                          name);
        qrb__store_u64((unsigned char *)header, (uint64_t)length);
        seed.bytes = (unsigned char *)header;
        seed.size = 8 + (size_t)length + 1;
        if (extra == 0)
            ASSERT_OK(ctx, open_seed(&seed));
        else
            ASSERT_FAILS(ctx, open_seed(&seed), QRB_E_FORMAT,
                         "has 1025 bytes; at most 1024 are allowed");
    }
    free(header);
}
END_TEST

/* A message stays one line, whatever a name is made of. */
START_TEST(rule_12_names_are_shown_on_one_line)
{
    static const char header[] =
        "{\"a\\n\\u001b[2Jb\\u007f\":{\"dtype\":\"F99\",\"shape\":[1],"
        "\"data_offsets\":[0,1]}}";
    unsigned char bytes[8 + sizeof header] = { 0 };
    struct seed seed = { 12, "safetensors", "line",      QRB_OK,
                         "", bytes,         sizeof bytes };
    char shown[QRB__NAME_SHOWN];
    char name[300];

    qrb__store_u64(bytes, sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    ASSERT_FAILS(ctx, open_seed(&seed), QRB_E_UNSUPPORTED,
                 "tensor a??[2Jb?: dtype F99 is not supported");
    memset(name, 'x', 126);
    strcpy(name + 126, "\xf0\x9f\x98\x80");
    qrb__name_text(name, shown);
    ck_assert_uint_eq(strlen(shown), 126);
    strcpy(name + 123, "\xf0\x9f\x98\x80");
    ck_assert_str_eq(qrb__name_text(name, shown), name);
}
END_TEST

/* Table 3-7 of the Unicode standard, at its edges. */
START_TEST(rule_12_utf8_is_checked_at_every_edge)
{
    static const struct {
        const char *bytes;
        bool valid;
    } cases[] = {
        { "\x7f", true },
        { "\x80", false },
        { "\xc1\xbf", false },
        { "\xc2\x80", true },
        { "\xc2\x7f", false },
        { "\xc2\xc0", false },
        { "\xc2", false },
        { "\xdf\xbf", true },
        { "\xe0\x9f\xbf", false },
        { "\xe0\xa0\x80", true },
        { "\xed\x9f\xbf", true },
        { "\xed\xa0\x80", false },
        { "\xee\x80\x80", true },
        { "\xef\xbf\xbf", true },
        { "\xef\xbf\xc0", false },
        { "\xef\xbf", false },
        { "\xf0\x8f\xbf\xbf", false },
        { "\xf0\x90\x80\x80", true },
        { "\xf4\x8f\xbf\xbf", true },
        { "\xf4\x90\x80\x80", false },
        { "\xf5\x80\x80\x80", false },
        { "\xf0\x90\x80", false },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_msg((qrb__name_check(ctx, cases[i].bytes, "name") ==
                       QRB_OK) == cases[i].valid,
                      "case %zu", i);
}
END_TEST

START_TEST(rule_13_json_is_bounded_and_sizes_are_integers)
{
    check_rule(13, 7);
}
END_TEST

START_TEST(rule_13_the_size_is_checked_before_the_text)
{
    const struct qrb__json_limits limits = { 10, 2, 1 };
    json_t *value;

    ASSERT_OK(
        ctx, qrb__json_parse(ctx, "[[\"]]]]\"]]", 10, &limits, "text", &value));
    json_decref(value);
    ASSERT_FAILS(
        ctx, qrb__json_parse(ctx, "[[\"]]]]\"]] ", 11, &limits, "text", &value),
        QRB_E_FORMAT, "11 bytes of JSON; at most 10");
    ASSERT_FAILS(
        ctx,
        qrb__json_parse(ctx, "[[\"\\\"\"[]]]", 10, &limits, "text", &value),
        QRB_E_FORMAT, "nested deeper than 2");
    ck_assert_ptr_null(value);
}
END_TEST

/* Neither is the rule for nested arrays of GGUF, which has no reader yet. */
START_TEST(rule_14_arrays_of_arrays_are_refused)
{
    check_rule(14, 1);
}
END_TEST

START_TEST(rule_14_a_million_brackets_do_not_recurse)
{
    enum { DEPTH = 1000000 };
    unsigned char *bytes = malloc(8 + 2 * DEPTH + 6);
    struct seed seed = { 14, "safetensors", "deep",           QRB_E_FORMAT,
                         "", bytes,         8 + 2 * DEPTH + 6 };

    ck_assert_ptr_nonnull(bytes);
    qrb__store_u64(bytes, 2 * DEPTH + 6);
    memcpy(bytes + 8, "{\"a\":", 5);
    memset(bytes + 13, '[', DEPTH);
    memset(bytes + 13 + DEPTH, ']', DEPTH);
    bytes[13 + 2 * DEPTH] = '}';
    ASSERT_FAILS(ctx, open_seed(&seed), QRB_E_FORMAT, "nested deeper than 8");
    seed.target = "config";
    seed.bytes = bytes + 8;
    seed.size = 1000000;
    ASSERT_FAILS(ctx, open_seed(&seed), QRB_E_FORMAT, "nested deeper than 16");
    free(bytes);
}
END_TEST

START_TEST(rule_15_shards_are_plain_names_and_agree_with_the_index)
{
    check_rule(15, 8);
}
END_TEST

START_TEST(rule_15_links_out_of_the_directory_are_refused)
{
    static const char index[] = "{\"weight_map\":{\"a\":\"link.safetensors\"}}";
    qrb_safetensors *file;

    put_shard("one.safetensors", "a");
    put_file(in_place("model.safetensors.index.json"), index, strlen(index));
    ck_assert_int_eq(symlink("one.safetensors", in_place("link.safetensors")),
                     0);
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, directory, &file));
    qrb_safetensors_close(file);
    ck_assert_int_eq(unlink(in_place("link.safetensors")), 0);
    ck_assert_int_eq(symlink("/etc/passwd", in_place("link.safetensors")), 0);
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 QRB_E_FORMAT, "link.safetensors in ");
    /* The first file that is looked for goes through the same gate. */
    ck_assert_int_eq(symlink("/etc/passwd", in_place("model.safetensors")), 0);
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 QRB_E_FORMAT, "model.safetensors in ");
}
END_TEST

/* 0x0102030405060708 and its like at each offset from alignment. */
START_TEST(rule_16_integers_are_little_endian_at_any_address)
{
    unsigned char bytes[24];

    for (size_t i = 0; i < 8; i++) {
        memset(bytes, 0xee, sizeof bytes);
        qrb__store_u64(bytes + i, 0x0102030405060708u);
        for (size_t j = 0; j < 8; j++)
            ck_assert_uint_eq(bytes[i + j], 8 - j);
        ck_assert_uint_eq(bytes[i + 8], 0xee);
        ck_assert_uint_eq(qrb__load_u64(bytes + i), 0x0102030405060708u);
        ck_assert_uint_eq(qrb__load_u32(bytes + i), 0x05060708u);
        qrb__store_u32(bytes + i, 0xfffefdfcu);
        ck_assert_uint_eq(qrb__load_u32(bytes + i), 0xfffefdfcu);
        ck_assert_uint_eq(qrb__load_u64(bytes + i), 0x01020304fffefdfcu);
    }
}
END_TEST

START_TEST(rule_17_values_that_are_not_finite_are_data)
{
    static const unsigned char nan_and_infinity[8] = { 0, 0, 0xc0, 0x7f,
                                                       0, 0, 0x80, 0xff };
    static const char header[] =
        "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}";
    unsigned char bytes[8 + sizeof header - 1 + 8];
    qrb_source source = QRB_SOURCE_INIT;
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_safetensors *file;
    qrb_tensor *tensor;

    qrb__store_u64(bytes, sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    memcpy(bytes + 8 + sizeof header - 1, nan_and_infinity, 8);
    source.buffer = bytes;
    source.size = sizeof bytes;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_OK(ctx, qrb_safetensors_describe(file, 0, &options));
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, tensor));
    ck_assert_mem_eq(qrb_tensor_memory(tensor), nan_and_infinity, 8);
    ck_assert(isnan(((float *)qrb_tensor_memory(tensor))[0]));
    qrb_tensor_destroy(tensor);
    qrb_safetensors_close(file);
}
END_TEST

/* Tokenizers have tests of their own. */
START_TEST(rule_18_configs_obey_the_same_limits)
{
    check_rule(18, 4);
}
END_TEST

START_TEST(rule_19_writers_never_truncate_what_is_mapped)
{
    const float values[2] = { 1, 2 };
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_source source = QRB_SOURCE_INIT;
    qrb_named_tensor named = { "w", NULL };
    qrb_safetensors *file;
    qrb_tensor *tensor;
    qrb_tensor *copy;

    options.rank = 1;
    options.shape[0] = 2;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &copy));
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    memcpy(qrb_tensor_memory(tensor), values, sizeof values);
    named.tensor = tensor;
    source.path = in_place("file");
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, source.path, &named, 1, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    /* Another, shorter file takes its place; the open one stays whole. */
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, source.path, NULL, 0, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, copy));
    ck_assert_mem_eq(qrb_tensor_memory(copy), values, sizeof values);
    qrb_safetensors_close(file);
    qrb_tensor_destroy(copy);
    qrb_tensor_destroy(tensor);
}
END_TEST

START_TEST(rule_20_containers_are_checked_by_version_length_and_digest)
{
    check_rule(20, 7);
}
END_TEST

static void seed_path(const char *corpus, const struct seed *seed, char *out)
{
    if (seed->rule == 0)
        snprintf(out, 512, "%s/%s/%s", corpus, seed->target, seed->name);
    else
        snprintf(out, 512, "%s/%s/rule_%u_%s", corpus, seed->target, seed->rule,
                 seed->name);
}

START_TEST(every_file_is_a_seed_of_its_fuzzer)
{
    const char *root = getenv("QRB_SOURCE");
    size_t count;
    struct seed *seeds;
    char corpus[256];
    char path[512];

    if (root == NULL) {
        printf("SKIP: QRB_SOURCE does not say where the corpus is\n");
        return;
    }
    snprintf(corpus, sizeof corpus, "%s/tests/fuzz/corpus", root);
    seeds = seeds_make(&count);
    for (size_t i = 0; i < count; i++) {
        size_t size;
        char *found;

        seed_path(corpus, &seeds[i], path);
        found = get_file(path, &size);
        ck_assert_msg(
            size == seeds[i].size && memcmp(found, seeds[i].bytes, size) == 0,
            "%s is stale: run test_io_rules --corpus %s", path, corpus);
        free(found);
    }
    seeds_free(seeds, count);
}
END_TEST

static int write_corpus(const char *corpus)
{
    size_t count;
    struct seed *seeds = seeds_make(&count);
    char path[512];
    FILE *file;

    mkdir(corpus, 0777);
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, "%s/%s", corpus, seeds[i].target);
        mkdir(path, 0777);
        seed_path(corpus, &seeds[i], path);
        file = fopen(path, "wb");
        if (file == NULL ||
            fwrite(seeds[i].bytes, 1, seeds[i].size, file) != seeds[i].size ||
            fclose(file) != 0) {
            perror(path);
            return EXIT_FAILURE;
        }
    }
    seeds_free(seeds, count);
    printf("%zu files written to %s\n", count, corpus);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    Suite *suite = suite_create("io rules");
    TCase *rules = tcase_create("rules");

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_test(rules, files_that_break_no_rule_are_read);
    tcase_add_test(rules,
                   rule_1_dimensions_are_multiplied_with_overflow_checks);
    tcase_add_test(rules, rule_2_additions_are_checked_as_well);
    tcase_add_test(rules, rule_3_zero_dimensions_are_allowed_without_data);
    tcase_add_test(rules, rule_4_the_number_of_dimensions_is_bounded);
    tcase_add_test(rules, rule_5_counts_and_lengths_are_bounded_by_the_file);
    tcase_add_test(rules, rule_5_no_false_length_is_allocated);
    tcase_add_test(rules, rule_6_data_lie_inside_the_file);
    tcase_add_test(rules, rule_6_a_mapped_file_that_shrinks_is_an_error);
    tcase_add_test(rules, rule_7_offsets_ascend_without_overlap_or_hole);
    tcase_add_test(rules, rule_8_the_length_is_the_product_times_the_type);
    tcase_add_test(rules, rule_9_enums_and_types_are_checked);
    tcase_add_test(rules, rule_10_alignment_is_kept);
    tcase_add_test(rules, rule_11_duplicates_are_errors);
    tcase_add_test(rules, rule_12_bad_names_are_refused);
    tcase_add_test(rules, rule_12_over_long_names_are_refused);
    tcase_add_test(rules, rule_12_names_are_shown_on_one_line);
    tcase_add_test(rules, rule_12_utf8_is_checked_at_every_edge);
    tcase_add_test(rules, rule_13_json_is_bounded_and_sizes_are_integers);
    tcase_add_test(rules, rule_13_the_size_is_checked_before_the_text);
    tcase_add_test(rules, rule_14_arrays_of_arrays_are_refused);
    tcase_add_test(rules, rule_14_a_million_brackets_do_not_recurse);
    tcase_add_test(rules,
                   rule_15_shards_are_plain_names_and_agree_with_the_index);
    tcase_add_test(rules, rule_15_links_out_of_the_directory_are_refused);
    tcase_add_test(rules, rule_16_integers_are_little_endian_at_any_address);
    tcase_add_test(rules, rule_17_values_that_are_not_finite_are_data);
    tcase_add_test(rules, rule_18_configs_obey_the_same_limits);
    tcase_add_test(rules, rule_19_writers_never_truncate_what_is_mapped);
    tcase_add_test(rules,
                   rule_20_containers_are_checked_by_version_length_and_digest);
    tcase_add_test(rules, every_file_is_a_seed_of_its_fuzzer);
    suite_add_tcase(suite, rules);
    return run_suite(suite);
}
