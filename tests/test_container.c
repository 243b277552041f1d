/* Containers: what goes in comes out, and no damaged byte goes unseen. */
#include "harness.h"

#include <stdbool.h>

#include "io/container.h"
#include "io/sha256.h"

enum { KIND = QRB__CONTAINER_TRAINER, VERSION = 3 };

static char directory[64];
static char path[256];
static qrb_context *ctx;

static const unsigned char moments[200] = { 1, 2, 3, [199] = 9 };
static const struct qrb__section sections[] = {
    { "step", "12345678", 8 },
    { "nothing", NULL, 0 },
    { "moments.weight", moments, sizeof moments },
    { "b\xc3\xa9", "x", 1 },
};

static void set_up(void)
{
    make_directory(directory);
    in_directory(directory, "state", path);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

/* FIPS 180-4's examples, and lengths around the padding's edges against the
 * same bytes in one piece. */
START_TEST(digests_are_those_of_the_standard)
{
    char text[QRB__SHA256_TEXT];

    ck_assert_int_eq(qrb_sha256_hex(NULL, 0, text), QRB_OK);
    ck_assert_str_eq(text, "e3b0c44298fc1c149afbf4c8996fb924"
                           "27ae41e4649b934ca495991b7852b855");
    ck_assert_int_eq(qrb_sha256_hex(NULL, 1, text), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_sha256_hex("", 0, NULL), QRB_E_INVALID_ARG);
    qrb__sha256_text("abc", 3, text);
    ck_assert_str_eq(text, "ba7816bf8f01cfea414140de5dae2223"
                           "b00361a396177a9cb410ff61f20015ad");
    qrb__sha256_text("", 0, text);
    ck_assert_str_eq(text, "e3b0c44298fc1c149afbf4c8996fb924"
                           "27ae41e4649b934ca495991b7852b855");
    qrb__sha256_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                     56, text);
    ck_assert_str_eq(text, "248d6a61d20638b8e5c026930c3e6039"
                           "a33ce45964ff2167f6ecedd419db06c1");
}
END_TEST

/* A million times "a", in pieces of odd sizes. */
START_TEST(digests_do_not_depend_on_the_pieces)
{
    static const unsigned char expected[QRB__SHA256_SIZE] = {
        0xcd, 0xc7, 0x6e, 0x5c, 0x99, 0x14, 0xfb, 0x92, 0x81, 0xa1, 0xc7,
        0xe2, 0x84, 0xd7, 0x3e, 0x67, 0xf1, 0x80, 0x9a, 0x48, 0xa4, 0x97,
        0x20, 0x0e, 0x04, 0x6d, 0x39, 0xcc, 0xc7, 0x11, 0x2c, 0xd0
    };
    unsigned char digest[QRB__SHA256_SIZE];
    struct qrb__sha256 hash;
    char piece[300];
    size_t left = 1000000;

    memset(piece, 'a', sizeof piece);
    qrb__sha256_begin(&hash);
    for (size_t size = 0; left > 0; size = (size + 7) % 300) {
        const size_t taken = size < left ? size : left;

        qrb__sha256_add(&hash, piece, taken);
        left -= taken;
    }
    qrb__sha256_end(&hash, digest);
    ck_assert_mem_eq(digest, expected, sizeof digest);
}
END_TEST

START_TEST(what_is_written_comes_back)
{
    struct qrb__container *container;
    unsigned char out[200];
    uint64_t size;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    ASSERT_OK(ctx,
              qrb__container_open_path(ctx, path, KIND, VERSION, &container));
    ck_assert_uint_eq(qrb__container_version(container), VERSION);
    ck_assert_uint_eq(qrb__container_count(container), 4);
    ck_assert_ptr_null(qrb__container_name(container, 4));
    for (size_t i = 0; i < 4; i++) {
        ck_assert_str_eq(qrb__container_name(container, i), sections[i].name);
        ck_assert(qrb__container_find(container, sections[i].name, &size));
        ck_assert_uint_eq(size, sections[i].size);
        ASSERT_OK(ctx, qrb__container_read(container, sections[i].name, out,
                                           (size_t)size));
        if (size > 0)
            ck_assert_mem_eq(out, sections[i].bytes, size);
    }
    ck_assert(!qrb__container_find(container, "none", &size));
    ASSERT_FAILS(ctx, qrb__container_read(container, "none", out, 1),
                 QRB_E_FORMAT, "no section none");
    ASSERT_FAILS(ctx, qrb__container_read(container, "step", out, 7),
                 QRB_E_FORMAT, "section step: found 8 bytes, expected 7");
    qrb__container_close(container);
    qrb__container_close(NULL);
}
END_TEST

START_TEST(an_empty_container_is_one)
{
    struct qrb__container *container;
    uint64_t size;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, 0, NULL, 0));
    ASSERT_OK(ctx, qrb__container_open_path(ctx, path, KIND, 0, &container));
    ck_assert_uint_eq(qrb__container_count(container), 0);
    ck_assert(!qrb__container_find(container, "x", &size));
    qrb__container_close(container);
}
END_TEST

START_TEST(the_bytes_do_not_depend_on_threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *serial;
    char *first;
    char *second;
    size_t size;
    size_t again;

    options.threads = 1;
    ASSERT_OK(ctx, qrb_context_create(&options, &serial));
    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    first = get_file(path, &size);
    ASSERT_OK(serial,
              qrb__container_write(serial, path, KIND, VERSION, sections, 4));
    second = get_file(path, &again);
    ck_assert_uint_eq(size, again);
    ck_assert_mem_eq(first, second, size);
    free(first);
    free(second);
    qrb_context_destroy(serial);
}
END_TEST

START_TEST(other_kinds_and_newer_versions_are_refused)
{
    struct qrb__container *container;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    ASSERT_FAILS(ctx,
                 qrb__container_open_path(ctx, path, QRB__CONTAINER_SNAPSHOT,
                                          VERSION, &container),
                 QRB_E_FORMAT, "kind 1, expected 2");
    ck_assert_ptr_null(container);
    ASSERT_FAILS(
        ctx, qrb__container_open_path(ctx, path, KIND, VERSION - 1, &container),
        QRB_E_UNSUPPORTED, "content version 3; at most 2");
    ASSERT_FAILS(ctx,
                 qrb__container_open_path(ctx, "/nowhere/state", KIND, VERSION,
                                          &container),
                 QRB_E_IO, "cannot open /nowhere/state");
}
END_TEST

START_TEST(names_are_unique_and_valid)
{
    const struct qrb__section twice[] = { { "a", "", 0 }, { "a", "", 0 } };
    const struct qrb__section nameless = { "", "", 0 };

    ASSERT_FAILS(ctx, qrb__container_write(ctx, path, KIND, 1, twice, 2),
                 QRB_E_INVALID_ARG, "two sections are called a");
    ASSERT_FAILS(ctx, qrb__container_write(ctx, path, KIND, 1, &nameless, 1),
                 QRB_E_INVALID_ARG, "empty");
    ASSERT_FAILS(ctx,
                 qrb__container_write(ctx, path, KIND, 1, twice,
                                      QRB__CONTAINER_MAX_SECTIONS + 1),
                 QRB_E_INVALID_ARG, "at most");
    ck_assert_int_ne(access(path, F_OK), 0);
}
END_TEST

static qrb_status open_bytes(qrb_context *context, const void *bytes,
                             size_t size, struct qrb__container **out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = bytes;
    source.size = size;
    return qrb__container_open(context, &source, KIND, VERSION, out);
}

/* Field rule 20. */
START_TEST(no_changed_byte_goes_unseen)
{
    struct qrb__container *container;
    unsigned char *bytes;
    size_t size;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    bytes = (unsigned char *)get_file(path, &size);
    for (size_t i = 0; i < size; i++) {
        const unsigned char kept = bytes[i];

        for (unsigned bit = 0; bit < 8; bit++) {
            qrb_status status;

            bytes[i] = (unsigned char)(kept ^ 1u << bit);
            status = open_bytes(ctx, bytes, size, &container);
            ck_assert_msg(status == QRB_E_FORMAT || status == QRB_E_UNSUPPORTED,
                          "byte %zu, bit %u: %s", i, bit,
                          qrb_status_name(status));
            ck_assert_ptr_null(container);
        }
        bytes[i] = kept;
    }
    ASSERT_OK(ctx, open_bytes(ctx, bytes, size, &container));
    qrb__container_close(container);
    free(bytes);
}
END_TEST

START_TEST(a_container_cut_or_lengthened_is_refused)
{
    struct qrb__container *container;
    char *bytes;
    size_t size;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    bytes = get_file(path, &size);
    for (size_t cut = 0; cut < size; cut++) {
        char *part = malloc(cut + 1);

        memcpy(part, bytes, cut);
        ck_assert_int_eq(open_bytes(ctx, part, cut, &container), QRB_E_FORMAT);
        free(part);
    }
    /* get_file() puts a NUL behind the last byte. */
    ck_assert_int_eq(open_bytes(ctx, bytes, size + 1, &container),
                     QRB_E_FORMAT);
    free(bytes);
}
END_TEST

/* A forger can make digests too: the table is still checked against the
 * file.  Each case changes bytes at an offset and renews the table's digest. */
static const struct {
    const char *words;
    size_t at;
    unsigned char bytes[8];
    size_t size;
} forged[] = {
    { "bytes in a file",
      24,
      { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
      8 },
    { "sections in a table", 20, { 0xff, 0xff, 0xff, 0xff }, 4 },
    { "left over", 20, { 3, 0, 0, 0 }, 4 },
    { "a name of", 40, { 0xff, 0xff, 0xff, 0xff }, 4 },
    { "a name of", 40, { 0xff, 0x03, 0, 0 }, 4 },
    { "NUL", 44, { 0 }, 1 },
    { "not UTF-8", 44, { 0xff }, 1 },
    { "expected to begin at", 48, { 1 }, 1 },
    { "expected to begin at",
      56,
      { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
      8 },
    { "digest", 64, { 0, 0 }, 2 },
};

START_TEST(a_forged_table_is_refused)
{
    struct qrb__container *container;
    struct qrb__sha256 hash;
    unsigned char *bytes;
    size_t size;
    size_t table;

    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, VERSION, sections, 4));
    bytes = (unsigned char *)get_file(path, &size);
    table = bytes[24]; /* fewer than 256 bytes */
    table += (size_t)bytes[25] << 8;
    memcpy(bytes + forged[_i].at, forged[_i].bytes, forged[_i].size);
    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, 40 + table);
    qrb__sha256_end(&hash, bytes + 40 + table);
    ASSERT_FAILS(ctx, open_bytes(ctx, bytes, size, &container), QRB_E_FORMAT,
                 forged[_i].words);
    ck_assert_ptr_null(container);
    free(bytes);
}
END_TEST

/* A container of the empty sections "aa" and "ab": entries of 54 bytes at 40
 * and 94, their digest at 148, and the end of the file at 192. */
enum { PAIR_TABLE = 108, PAIR_SIZE = 192 };

static unsigned char *make_pair(size_t extra)
{
    const struct qrb__section pair[] = { { "aa", "", 0 }, { "ab", "", 0 } };
    unsigned char *bytes = calloc(PAIR_SIZE + extra, 1);
    size_t size;
    char *file;

    ck_assert_ptr_nonnull(bytes);
    ASSERT_OK(ctx, qrb__container_write(ctx, path, KIND, 1, pair, 2));
    file = get_file(path, &size);
    ck_assert_uint_eq(size, PAIR_SIZE);
    memcpy(bytes, file, size);
    free(file);
    return bytes;
}

static void renew_digest(unsigned char *bytes)
{
    struct qrb__sha256 hash;

    qrb__sha256_begin(&hash);
    qrb__sha256_add(&hash, bytes, 40 + PAIR_TABLE);
    qrb__sha256_end(&hash, bytes + 40 + PAIR_TABLE);
}

START_TEST(two_forged_sections_of_one_name_are_refused)
{
    unsigned char *bytes = make_pair(0);
    struct qrb__container *container;

    bytes[94 + 5] = 'a';
    renew_digest(bytes);
    ASSERT_FAILS(ctx, open_bytes(ctx, bytes, PAIR_SIZE, &container),
                 QRB_E_FORMAT, "two sections have one name");
    free(bytes);
}
END_TEST

/* A name three bytes longer than it is leaves 51 bytes for the next entry. */
START_TEST(a_forged_table_that_ends_inside_an_entry_is_refused)
{
    unsigned char *bytes = make_pair(0);
    struct qrb__container *container;

    bytes[40] = 5;
    memcpy(bytes + 46, "xyz", 3);
    renew_digest(bytes);
    ASSERT_FAILS(ctx, open_bytes(ctx, bytes, PAIR_SIZE, &container),
                 QRB_E_FORMAT, "the table ends inside an entry");
    free(bytes);
}
END_TEST

START_TEST(forged_bytes_behind_the_last_section_are_refused)
{
    unsigned char *bytes = make_pair(1);
    struct qrb__container *container;

    bytes[32]++; /* the size of the file */
    renew_digest(bytes);
    ASSERT_FAILS(ctx, open_bytes(ctx, bytes, PAIR_SIZE + 1, &container),
                 QRB_E_FORMAT, "1 bytes behind the last section");
    free(bytes);
}
END_TEST

static qrb_status write_and_read(qrb_context *context, void *arg)
{
    struct qrb__container *container;
    qrb_status status;

    (void)arg;
    status = qrb__container_write(context, path, KIND, VERSION, sections, 4);
    if (status != QRB_OK)
        return status;
    status = qrb__container_open_path(context, path, KIND, VERSION, &container);
    if (status == QRB_OK)
        qrb__container_close(container);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_container)
{
    fail_each_allocation(write_and_read, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("container");
    TCase *containers = tcase_create("container");

    tcase_add_checked_fixture(containers, set_up, tear_down);
    tcase_set_timeout(containers, 60);
    tcase_add_test(containers, digests_are_those_of_the_standard);
    tcase_add_test(containers, digests_do_not_depend_on_the_pieces);
    tcase_add_test(containers, what_is_written_comes_back);
    tcase_add_test(containers, an_empty_container_is_one);
    tcase_add_test(containers, the_bytes_do_not_depend_on_threads);
    tcase_add_test(containers, other_kinds_and_newer_versions_are_refused);
    tcase_add_test(containers, names_are_unique_and_valid);
    tcase_add_test(containers, no_changed_byte_goes_unseen);
    tcase_add_test(containers, a_container_cut_or_lengthened_is_refused);
    tcase_add_loop_test(containers, a_forged_table_is_refused, 0,
                        sizeof forged / sizeof *forged);
    tcase_add_test(containers, two_forged_sections_of_one_name_are_refused);
    tcase_add_test(containers,
                   a_forged_table_that_ends_inside_an_entry_is_refused);
    tcase_add_test(containers,
                   forged_bytes_behind_the_last_section_are_refused);
    tcase_add_test(containers, no_failed_allocation_leaks_a_container);
    suite_add_tcase(suite, containers);
    return run_suite(suite);
}
