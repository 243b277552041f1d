/* GGUF files: what is written comes back, and nothing in a header is
 * believed. */
#include "harness.h"

#include <math.h>
#include <stdint.h>

#include <qrobust/source.h>

#include "io/bytes.h"
#include "io/gguf_model.h"

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

/* ---- files made by hand -------------------------------------------------- */

struct bytes {
    unsigned char bytes[4096];
    size_t size;
};

static void put(struct bytes *b, const void *bytes, size_t size)
{
    ck_assert_uint_le(b->size + size, sizeof b->bytes);
    memcpy(b->bytes + b->size, bytes, size);
    b->size += size;
}

static void put32(struct bytes *b, uint32_t value)
{
    unsigned char bytes[4];

    qrb__store_u32(bytes, value);
    put(b, bytes, 4);
}

static void put64(struct bytes *b, uint64_t value)
{
    unsigned char bytes[8];

    qrb__store_u64(bytes, value);
    put(b, bytes, 8);
}

static void put_text(struct bytes *b, const char *text)
{
    put64(b, strlen(text));
    put(b, text, strlen(text));
}

static void put_head(struct bytes *b, uint64_t tensors, uint64_t keys)
{
    b->size = 0;
    put(b, "GGUF", 4);
    put32(b, 3);
    put64(b, tensors);
    put64(b, keys);
}

static void put_info(struct bytes *b, const char *name, uint64_t columns,
                     uint64_t rows, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put32(b, rows == 0 ? 1 : 2);
    put64(b, columns);
    if (rows != 0)
        put64(b, rows);
    put32(b, type);
    put64(b, offset);
}

static void pad(struct bytes *b, size_t alignment)
{
    while (b->size % alignment != 0)
        put(b, "", 1);
}

static qrb_status open_memory(qrb_context *context, const void *bytes,
                              size_t size, struct qrb__gguf **out)
{
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source = NULL;
    qrb_status status;

    options.buffer = size == 0 ? "" : bytes;
    options.size = size;
    *out = NULL;
    status = qrb__source_open(context, &options, &source);
    return status == QRB_OK ? qrb__gguf_open(context, source, out) : status;
}

static qrb_status open_bytes(const struct bytes *b)
{
    /* Memory of the very size, so that a byte too far is seen. */
    unsigned char *copy = malloc(b->size + (b->size == 0));
    struct qrb__gguf *file;
    qrb_status status;

    ck_assert_ptr_nonnull(copy);
    memcpy(copy, b->bytes, b->size);
    status = open_memory(ctx, copy, b->size, &file);
    qrb__gguf_close(file);
    free(copy);
    return status;
}

/* One value of each type, and two tensors. */
static void make_all_types(struct bytes *b)
{
    static const float weights[3] = { 1.5f, -2, 0.25f };

    put_head(b, 2, 16);
    put_text(b, "u8"), put32(b, QRB__GGUF_U8), put(b, "\xff", 1);
    put_text(b, "i8"), put32(b, QRB__GGUF_I8), put(b, "\xff", 1);
    put_text(b, "u16"), put32(b, QRB__GGUF_U16), put(b, "\xff\xfe", 2);
    put_text(b, "i16"), put32(b, QRB__GGUF_I16), put(b, "\xff\xfe", 2);
    put_text(b, "u32"), put32(b, QRB__GGUF_U32), put32(b, 0xfffffffe);
    put_text(b, "i32"), put32(b, QRB__GGUF_I32), put32(b, 0xfffffffe);
    put_text(b, "f32"), put32(b, QRB__GGUF_FLOAT), put32(b, 0x3fc00000);
    put_text(b, "no"), put32(b, QRB__GGUF_BOOL), put(b, "", 1);
    put_text(b, "yes"), put32(b, QRB__GGUF_BOOL), put(b, "\1", 1);
    put_text(b, "text"), put32(b, QRB__GGUF_STRING), put_text(b, "word");
    put_text(b, "list"), put32(b, QRB__GGUF_ARRAY), put32(b, QRB__GGUF_STRING);
    put64(b, 3), put_text(b, "a"), put_text(b, ""), put_text(b, "bc");
    put_text(b, "numbers"), put32(b, QRB__GGUF_ARRAY);
    put32(b, QRB__GGUF_I32), put64(b, 2), put32(b, 7), put32(b, 8);
    put_text(b, "none"), put32(b, QRB__GGUF_ARRAY), put32(b, QRB__GGUF_U8);
    put64(b, 0);
    put_text(b, "u64"), put32(b, QRB__GGUF_U64), put64(b, UINT64_MAX);
    put_text(b, "i64"), put32(b, QRB__GGUF_I64), put64(b, UINT64_MAX);
    put_text(b, "f64"), put32(b, QRB__GGUF_DOUBLE);
    put64(b, 0x3ff8000000000000);
    put_info(b, "w", 3, 1, QRB__GGUF_F32, 0);
    put_info(b, "q", 32, 0, QRB__GGUF_Q8_0, 32);
    pad(b, 32);
    put(b, weights, sizeof weights);
    pad(b, 32);
    put(b, "\0\x3c", 2);
    for (int i = 0; i < 32; i++) {
        const char code = (char)(i - 16);

        put(b, &code, 1);
    }
}

START_TEST(values_of_all_thirteen_types_are_read)
{
    static struct bytes b;
    struct qrb__gguf *file;
    struct qrb__gguf_elements list;
    uint64_t count = 0;
    double real = 0;
    bool flag = true;
    char text[8];
    const char *element;
    size_t length;

    make_all_types(&b);
    ASSERT_OK(ctx, open_memory(ctx, b.bytes, b.size, &file));
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "u8", 255, &count));
    ck_assert_uint_eq(count, 255);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "u16", UINT64_MAX, &count));
    ck_assert_uint_eq(count, 0xfeff);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "u32", UINT64_MAX, &count));
    ck_assert_uint_eq(count, 0xfffffffe);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "u64", UINT64_MAX, &count));
    ck_assert_uint_eq(count, UINT64_MAX);
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "i8", &real));
    ck_assert_double_eq(real, -1);
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "i16", &real));
    ck_assert_double_eq(real, -257);
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "i32", &real));
    ck_assert_double_eq(real, -2);
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "i64", &real));
    ck_assert_double_eq(real, -1);
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "f32", &real));
    ck_assert_double_eq(real, 1.5);
    real = 0;
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "f64", &real));
    ck_assert_double_eq(real, 1.5);
    ASSERT_OK(ctx, qrb__gguf_get_flag(file, "no", &flag));
    ck_assert(!flag);
    ASSERT_OK(ctx, qrb__gguf_get_flag(file, "yes", &flag));
    ck_assert(flag);
    ASSERT_OK(ctx, qrb__gguf_get_text(file, "text", sizeof text, text));
    ck_assert_str_eq(text, "word");
    ASSERT_OK(ctx, qrb__gguf_load(file, "list", QRB__GGUF_STRING, &list));
    ck_assert_uint_eq(list.count, 3);
    ck_assert(qrb__gguf_next_string(&list, &element, &length));
    ck_assert_uint_eq(length, 1);
    ck_assert(qrb__gguf_next_string(&list, &element, &length));
    ck_assert_uint_eq(length, 0);
    ck_assert(qrb__gguf_next_string(&list, &element, &length));
    ck_assert_mem_eq(element, "bc", 2);
    ck_assert(!qrb__gguf_next_string(&list, &element, &length));
    qrb__gguf_elements_free(ctx, &list);
    ASSERT_OK(ctx, qrb__gguf_load(file, "numbers", QRB__GGUF_I32, &list));
    ck_assert_uint_eq(list.count, 2);
    ck_assert_uint_eq(qrb__load_u32(list.bytes + 4), 8);
    qrb__gguf_elements_free(ctx, &list);
    ASSERT_OK(ctx, qrb__gguf_load(file, "none", QRB__GGUF_U8, &list));
    ck_assert_ptr_null(list.bytes);
    qrb__gguf_close(file);
}
END_TEST

START_TEST(values_of_another_kind_are_refused_and_missing_ones_kept)
{
    static struct bytes b;
    struct qrb__gguf *file;
    struct qrb__gguf_elements list;
    uint64_t count = 17;
    double real = 17;
    bool flag = true;
    char text[5] = "was";

    make_all_types(&b);
    ASSERT_OK(ctx, open_memory(ctx, b.bytes, b.size, &file));
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "x", 1, &count));
    ASSERT_OK(ctx, qrb__gguf_get_real(file, "x", &real));
    ASSERT_OK(ctx, qrb__gguf_get_flag(file, "x", &flag));
    ASSERT_OK(ctx, qrb__gguf_get_text(file, "x", sizeof text, text));
    ASSERT_OK(ctx, qrb__gguf_load(file, "x", QRB__GGUF_STRING, &list));
    ck_assert_uint_eq(list.count, 0);
    ck_assert(count == 17 && real == 17 && flag);
    ck_assert_str_eq(text, "was");
    ASSERT_FAILS(ctx, qrb__gguf_get_count(file, "i8", 9, &count), QRB_E_FORMAT,
                 "i8: expected an integer from 0 to 9");
    ASSERT_FAILS(ctx, qrb__gguf_get_count(file, "u8", 254, &count),
                 QRB_E_FORMAT, "u8: expected an integer from 0 to 254");
    ASSERT_FAILS(ctx, qrb__gguf_get_count(file, "yes", 9, &count),
                 QRB_E_FORMAT, "yes: expected an integer");
    ASSERT_FAILS(ctx, qrb__gguf_get_real(file, "text", &real), QRB_E_FORMAT,
                 "text: expected a number");
    ASSERT_FAILS(ctx, qrb__gguf_get_flag(file, "u8", &flag), QRB_E_FORMAT,
                 "u8: expected true or false");
    ASSERT_FAILS(ctx, qrb__gguf_get_text(file, "u8", sizeof text, text),
                 QRB_E_FORMAT, "u8: expected a string");
    ASSERT_OK(ctx, qrb__gguf_get_text(file, "text", 5, text));
    ASSERT_FAILS(ctx, qrb__gguf_get_text(file, "text", 4, text), QRB_E_FORMAT,
                 "text: expected a string of less than 4");
    ASSERT_FAILS(ctx, qrb__gguf_load(file, "list", QRB__GGUF_I32, &list),
                 QRB_E_FORMAT, "list: expected an array of type 5");
    ASSERT_FAILS(ctx, qrb__gguf_load(file, "text", QRB__GGUF_I32, &list),
                 QRB_E_FORMAT, "text: expected an array");
    qrb__gguf_close(file);
}
END_TEST

START_TEST(tensors_are_read_in_their_shapes)
{
    static struct bytes b;
    const size_t row[2] = { 1, 3 };
    const size_t vector[1] = { 32 };
    double memory[32];
    struct qrb__view view =
        qrb__view_make(QRB_F64, 2, row, (unsigned char *)memory);
    struct qrb__gguf *file;

    make_all_types(&b);
    ASSERT_OK(ctx, open_memory(ctx, b.bytes, b.size, &file));
    ASSERT_OK(ctx,
              qrb__gguf_read(file, qrb__gguf_find_tensor(file, "w"), &view));
    ck_assert_double_eq(memory[0], 1.5);
    ck_assert_double_eq(memory[2], 0.25);
    ASSERT_FAILS(ctx,
                 qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view),
                 QRB_E_SHAPE, "q: found [32], expected [1, 3]");
    view = qrb__view_make(QRB_F64, 1, vector, (unsigned char *)memory);
    ASSERT_OK(ctx,
              qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view));
    for (int i = 0; i < 32; i++)
        ck_assert_double_eq(memory[i], i - 16);
    view.dtype = QRB_I32;
    ASSERT_FAILS(ctx,
                 qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view),
                 QRB_E_UNSUPPORTED, "q: no conversion from Q8_0");
    ck_assert_ptr_null(qrb__gguf_find_tensor(file, "v"));
    qrb__gguf_close(file);
}
END_TEST

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    static struct bytes b;
    size_t whole;

    make_all_types(&b);
    whole = b.size;
    for (size_t size = 0; size < whole; size++) {
        b.size = size;
        ck_assert_int_eq(open_bytes(&b), QRB_E_FORMAT);
    }
    b.size = whole;
    ASSERT_OK(ctx, open_bytes(&b));
}
END_TEST

/* Every bit of every byte of the header: refused with a reason, or read. */
START_TEST(a_header_with_any_bit_flipped_is_refused_or_read)
{
    static struct bytes b;
    size_t refused = 0;

    make_all_types(&b);
    for (size_t i = 0; i < b.size - 2 * 32; i++)
        for (int bit = 0; bit < 8; bit++) {
            qrb_status status;

            b.bytes[i] ^= (unsigned char)(1 << bit);
            status = open_bytes(&b);
            b.bytes[i] ^= (unsigned char)(1 << bit);
            ck_assert(status == QRB_OK || status == QRB_E_FORMAT ||
                      status == QRB_E_UNSUPPORTED);
            if (status != QRB_OK)
                ck_assert_str_ne(qrb_context_message(ctx), "");
            refused += status != QRB_OK;
        }
    ck_assert_uint_gt(refused, 1000);
}
END_TEST

/* ---- the rules for reading files ----------------------------------------- */

/* One tensor with the given entry, and as many bytes of data. */
static qrb_status open_tensor(const char *name, uint64_t columns, uint64_t rows,
                              uint32_t type, uint64_t offset, size_t data)
{
    static const unsigned char zeros[256];
    struct bytes b;

    put_head(&b, 1, 0);
    put_info(&b, name, columns, rows, type, offset);
    pad(&b, 32);
    put(&b, zeros, data);
    return open_bytes(&b);
}

START_TEST(rule_1_products_of_dimensions_do_not_overflow)
{
    ASSERT_FAILS(ctx, open_tensor("w", 1ull << 40, 1ull << 40, 0, 0, 4),
                 QRB_E_FORMAT, "w has more elements than 64 bits count");
    ASSERT_FAILS(ctx, open_tensor("w", 1ull << 31, 1ull << 31, 0, 0, 4),
                 QRB_E_FORMAT, "w has more bytes than memory");
    ASSERT_FAILS(ctx, open_tensor("w", UINT64_MAX, 0, 0, 0, 4), QRB_E_FORMAT,
                 "w has more bytes than memory");
}
END_TEST

START_TEST(rule_2_sums_and_padding_do_not_overflow)
{
    ASSERT_FAILS(ctx, open_tensor("w", 1, 0, 0, UINT64_MAX - 3, 4),
                 QRB_E_FORMAT, "offset 18446744073709551612, expected 0");
    ASSERT_FAILS(ctx, open_tensor("w", 1ull << 60, 0, 0, 0, 4), QRB_E_FORMAT,
                 "reaches beyond the end");
}
END_TEST

START_TEST(rule_3_extents_of_0_are_refused)
{
    ASSERT_FAILS(ctx, open_tensor("w", 0, 1, 0, 0, 4), QRB_E_FORMAT,
                 "w has an extent of 0");
}
END_TEST

START_TEST(rule_4_the_number_of_dimensions_is_checked_first)
{
    struct bytes b;

    for (uint32_t rank = 0; rank < 9; rank += rank == 0 ? 5 : 1) {
        put_head(&b, 1, 0);
        put_text(&b, "w");
        put32(&b, rank);
        for (uint32_t i = 0; i < 8; i++)
            put64(&b, 1);
        put32(&b, 0);
        put64(&b, 0);
        ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                     "dimensions; 1 to 4 are allowed");
    }
}
END_TEST

START_TEST(rule_5_counts_and_lengths_are_bounded_by_the_bytes_left)
{
    struct bytes b;

    put_head(&b, UINT64_MAX, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "the number of tensors is");
    put_head(&b, 0, UINT64_MAX / 8);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "the number of keys is");
    put_head(&b, 0, 1);
    put64(&b, UINT64_MAX);
    put64(&b, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "a key reaches beyond");
    put_head(&b, 0, 1);
    put_text(&b, "text"), put32(&b, QRB__GGUF_STRING), put64(&b, UINT64_MAX);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "text reaches beyond");
    put_head(&b, 0, 1);
    put_text(&b, "list"), put32(&b, QRB__GGUF_ARRAY), put32(&b, QRB__GGUF_U32);
    put64(&b, 1ull << 62);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "list is 46116860");
    put_head(&b, 0, 1);
    put_text(&b, "list"), put32(&b, QRB__GGUF_ARRAY);
    put32(&b, QRB__GGUF_STRING), put64(&b, 1), put64(&b, 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "list reaches beyond");
}
END_TEST

START_TEST(rule_6_tensors_lie_inside_of_the_file)
{
    ASSERT_OK(ctx, open_tensor("w", 4, 2, 0, 0, 32));
    ASSERT_FAILS(ctx, open_tensor("w", 4, 2, 0, 0, 31), QRB_E_FORMAT,
                 "tensor w of 32 bytes reaches beyond the end of the file");
}
END_TEST

START_TEST(rule_6_a_file_that_shrinks_is_an_error)
{
    static struct bytes b;
    const size_t vector[1] = { 32 };
    float memory[32];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 1, vector, (unsigned char *)memory);
    struct qrb__source *source;
    struct qrb__gguf *file;
    char path[256];

    make_all_types(&b);
    put_file(in_directory(directory, "a.gguf", path), b.bytes, b.size);
    ASSERT_OK(ctx, qrb__source_open_path(ctx, path, &source));
    ASSERT_OK(ctx, qrb__gguf_open(ctx, source, &file));
    ck_assert_int_eq(truncate(path, 100), 0);
    ASSERT_FAILS(ctx,
                 qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view),
                 QRB_E_IO, "q: ");
    qrb__gguf_close(file);
}
END_TEST

START_TEST(rule_7_tensors_follow_each_other)
{
    static const uint64_t offsets[] = { 0, 16, 31, 33, 64 };
    struct bytes b;

    for (size_t i = 0; i < 5; i++) {
        put_head(&b, 2, 0);
        put_info(&b, "a", 4, 0, 0, 0);
        put_info(&b, "b", 4, 0, 0, offsets[i]);
        pad(&b, 32);
        for (int k = 0; k < 32; k++)
            put64(&b, 0);
        ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "expected 32");
    }
}
END_TEST

START_TEST(rule_8_rows_are_whole_blocks)
{
    ASSERT_OK(ctx, open_tensor("w", 32, 2, QRB__GGUF_Q4_0, 0, 36));
    ASSERT_FAILS(ctx, open_tensor("w", 48, 2, QRB__GGUF_Q4_0, 0, 54),
                 QRB_E_FORMAT, "rows of 48, which are no whole blocks of Q4_0");
    ASSERT_FAILS(ctx, open_tensor("w", 32, 8, QRB__GGUF_Q4_K, 0, 144),
                 QRB_E_FORMAT, "no whole blocks of Q4_K");
}
END_TEST

START_TEST(rule_9_types_are_in_range)
{
    struct bytes b;

    ASSERT_FAILS(ctx, open_tensor("w", 32, 1, 4, 0, 64), QRB_E_UNSUPPORTED,
                 "tensor w has type 4");
    ASSERT_FAILS(ctx, open_tensor("w", 32, 1, UINT32_MAX, 0, 64),
                 QRB_E_UNSUPPORTED, "tensor w has type 4294967295");
    put_head(&b, 0, 1);
    put_text(&b, "key"), put32(&b, 13), put64(&b, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "key has an unknown type");
    put_head(&b, 0, 1);
    put_text(&b, "key"), put32(&b, QRB__GGUF_ARRAY), put32(&b, 13);
    put64(&b, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                 "key is an array of an unknown type");
    put_head(&b, 0, 1);
    put_text(&b, "key"), put32(&b, QRB__GGUF_BOOL), put(&b, "\2", 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                 "key is neither true nor false");
}
END_TEST

START_TEST(rule_9_other_versions_are_named)
{
    struct bytes b;

    put_head(&b, 0, 0);
    ASSERT_OK(ctx, open_bytes(&b));
    qrb__store_u32(b.bytes + 4, 2);
    ASSERT_OK(ctx, open_bytes(&b));
    qrb__store_u32(b.bytes + 4, 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_UNSUPPORTED, "version 1 of GGUF");
    qrb__store_u32(b.bytes + 4, 3u << 24);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_UNSUPPORTED, "(big-endian)");
    b.bytes[0] = 'g';
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "does not begin with GGUF");
}
END_TEST

START_TEST(rule_10_alignment_is_a_bounded_power_of_two)
{
    static const struct {
        uint32_t type;
        uint32_t value;
        bool good;
    } cases[] = {
        { QRB__GGUF_U32, 32, true },      { QRB__GGUF_U32, 1, true },
        { QRB__GGUF_U32, 1 << 16, true }, { QRB__GGUF_U32, 0, false },
        { QRB__GGUF_U32, 24, false },     { QRB__GGUF_U32, 1 << 17, false },
        { QRB__GGUF_I32, 32, false },     { QRB__GGUF_FLOAT, 32, false },
    };
    struct bytes b;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_head(&b, 0, 1);
        put_text(&b, "general.alignment");
        put32(&b, cases[i].type);
        put32(&b, cases[i].value);
        if (cases[i].good)
            ASSERT_OK(ctx, open_bytes(&b));
        else
            ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                         "general.alignment: expected a power of two");
    }
}
END_TEST

START_TEST(rule_11_duplicates_are_refused)
{
    struct bytes b;

    put_head(&b, 2, 0);
    put_info(&b, "a", 4, 0, 0, 0);
    put_info(&b, "a", 4, 0, 0, 32);
    pad(&b, 32);
    for (int k = 0; k < 8; k++)
        put64(&b, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "tensor a is there twice");
    put_head(&b, 0, 3);
    put_text(&b, "a"), put32(&b, QRB__GGUF_U32), put32(&b, 1);
    put_text(&b, "b"), put32(&b, QRB__GGUF_U32), put32(&b, 1);
    put_text(&b, "a"), put32(&b, QRB__GGUF_BOOL), put(&b, "", 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "key a is there twice");
}
END_TEST

START_TEST(rule_12_names_are_checked)
{
    char name[1100];
    struct bytes b;

    memset(name, 'n', sizeof name);
    name[64] = '\0';
    ASSERT_OK(ctx, open_tensor(name, 1, 0, 0, 0, 4));
    name[64] = 'n';
    name[65] = '\0';
    ASSERT_FAILS(ctx, open_tensor(name, 1, 0, 0, 0, 4), QRB_E_FORMAT,
                 "the name of a tensor has 65 bytes; 1 to 64 are allowed");
    ASSERT_FAILS(ctx, open_tensor("", 1, 0, 0, 0, 4), QRB_E_FORMAT,
                 "the name of a tensor has 0 bytes");
    ASSERT_FAILS(ctx, open_tensor("\xc3(", 1, 0, 0, 0, 4), QRB_E_FORMAT,
                 "is not UTF-8");
    name[65] = 'n';
    name[1025] = '\0';
    put_head(&b, 0, 1);
    put_text(&b, name), put32(&b, QRB__GGUF_U32), put32(&b, 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                 "a key has 1025 bytes; 1 to 1024 are allowed");
    put_head(&b, 0, 1);
    put64(&b, 3), put(&b, "a\0b", 3), put32(&b, QRB__GGUF_U32), put32(&b, 1);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT, "a key has a NUL");
}
END_TEST

START_TEST(rule_14_arrays_of_arrays_are_refused)
{
    struct bytes b;

    put_head(&b, 0, 1);
    put_text(&b, "nested"), put32(&b, QRB__GGUF_ARRAY);
    put32(&b, QRB__GGUF_ARRAY), put64(&b, 0);
    ASSERT_FAILS(ctx, open_bytes(&b), QRB_E_FORMAT,
                 "nested is an array of arrays");
}
END_TEST

static int read_at(uint64_t offset, void *out, size_t size, void *user)
{
    const struct bytes *b = user;

    ck_assert_uint_le(offset + size, b->size);
    memcpy(out, b->bytes + offset, size);
    return 0;
}

/* Through a callback nothing is mapped: the same values, in windows. */
START_TEST(a_callback_reads_the_same)
{
    static struct bytes b;
    const size_t vector[1] = { 32 };
    float memory[32];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 1, vector, (unsigned char *)memory);
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source;
    struct qrb__gguf *file;

    make_all_types(&b);
    options.read_at = read_at;
    options.read_at_user = &b;
    options.size = b.size;
    ASSERT_OK(ctx, qrb__source_open(ctx, &options, &source));
    ASSERT_OK(ctx, qrb__gguf_open(ctx, source, &file));
    ck_assert_uint_eq(file->value_count, 16);
    ASSERT_OK(ctx,
              qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view));
    ck_assert_float_eq(memory[0], -16);
    ck_assert_float_eq(memory[31], 15);
    qrb__gguf_close(file);
}
END_TEST

static qrb_status open_through_callback(qrb_context *context, void *arg)
{
    const size_t vector[1] = { 32 };
    float memory[32];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 1, vector, (unsigned char *)memory);
    qrb_source options = QRB_SOURCE_INIT;
    struct qrb__source *source = NULL;
    struct qrb__gguf_elements list = { NULL, 0, 0, 0 };
    struct qrb__gguf *file = NULL;
    qrb_status status;

    options.read_at = read_at;
    options.read_at_user = arg;
    options.size = ((struct bytes *)arg)->size;
    status = qrb__source_open(context, &options, &source);
    if (status == QRB_OK)
        status = qrb__gguf_open(context, source, &file);
    if (status == QRB_OK)
        status = qrb__gguf_load(file, "list", QRB__GGUF_STRING, &list);
    if (status == QRB_OK)
        status =
            qrb__gguf_read(file, qrb__gguf_find_tensor(file, "q"), &view);
    qrb__gguf_elements_free(context, &list);
    qrb__gguf_close(file);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_file)
{
    static struct bytes b;

    make_all_types(&b);
    fail_each_allocation(open_through_callback, &b);
}
END_TEST

/* ---- writing ------------------------------------------------------------- */

static const char *out_path(void)
{
    static char path[256];

    return in_directory(directory, "out.gguf", path);
}

static qrb_status write_small(qrb_context *context, void *path)
{
    static const size_t shape[2] = { 2, 32 };
    static const size_t vector[1] = { 3 };
    static const float floats[3] = { 1, 2, 3 };
    unsigned char blocks[36];
    struct qrb__gguf_writer *w = NULL;
    int32_t codes[32];
    qrb_status status;

    for (int32_t i = 0; i < 32; i++)
        codes[i] = i / 2;
    ck_assert(qrb__gguf_encode(qrb__gguf_layout(QRB__GGUF_Q4_0), codes, 0.5, 0,
                               blocks));
    memcpy(blocks + 18, blocks, 18);
    status = qrb__gguf_writer_open(context, path, &w);
    if (status != QRB_OK)
        return status;
    qrb__gguf_put_text(w, "general.name", "small");
    qrb__gguf_put_u32(w, "count", 7);
    qrb__gguf_put_float(w, "real", 0.5f);
    qrb__gguf_put_flag(w, "flag", true);
    qrb__gguf_put_array(w, "tokens", QRB__GGUF_STRING, 2);
    qrb__gguf_add_string(w, "a", 1);
    qrb__gguf_add_string(w, "", 0);
    qrb__gguf_put_array(w, "types", QRB__GGUF_I32, 1);
    qrb__gguf_add_i32(w, -3);
    qrb__gguf_put_array(w, "scores", QRB__GGUF_FLOAT, 1);
    qrb__gguf_add_float(w, -1.5f);
    qrb__gguf_put_tensor(w, "norm", qrb__gguf_layout(QRB__GGUF_F32), 1, vector);
    qrb__gguf_put_tensor(w, "w", qrb__gguf_layout(QRB__GGUF_Q4_0), 2, shape);
    /* In pieces that have nothing to do with tensors. */
    qrb__gguf_write(w, floats, 5);
    qrb__gguf_write(w, (const unsigned char *)floats + 5, 7);
    qrb__gguf_write(w, blocks, 36);
    status = qrb__gguf_commit(w);
    qrb__gguf_writer_close(w);
    return status;
}

START_TEST(what_is_written_comes_back)
{
    const size_t shape[2] = { 2, 32 };
    float memory[64];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 2, shape, (unsigned char *)memory);
    struct qrb__source *source;
    struct qrb__gguf *file;
    uint64_t count = 0;
    char text[16] = "";

    ASSERT_OK(ctx, write_small(ctx, (void *)(uintptr_t)out_path()));
    ASSERT_OK(ctx, qrb__source_open_path(ctx, out_path(), &source));
    ASSERT_OK(ctx, qrb__gguf_open(ctx, source, &file));
    ck_assert_uint_eq(file->value_count, 7);
    ck_assert_uint_eq(file->tensor_count, 2);
    ASSERT_OK(ctx, qrb__gguf_get_count(file, "count", 9, &count));
    ck_assert_uint_eq(count, 7);
    ASSERT_OK(ctx, qrb__gguf_get_text(file, "general.name", 16, text));
    ck_assert_str_eq(text, "small");
    ck_assert_uint_eq(qrb__gguf_find_tensor(file, "norm")->offset % 32, 0);
    ck_assert_uint_eq(qrb__gguf_find_tensor(file, "w")->offset % 32, 0);
    ASSERT_OK(ctx,
              qrb__gguf_read(file, qrb__gguf_find_tensor(file, "w"), &view));
    for (int i = 0; i < 64; i++)
        ck_assert_float_eq(memory[i], 0.5f * (float)(i % 32 / 2 - 8));
    qrb__gguf_close(file);
}
END_TEST

START_TEST(no_failed_allocation_leaves_a_file)
{
    fail_each_allocation(write_small, (void *)(uintptr_t)out_path());
}
END_TEST

/* Mistakes are remembered until the end, and nothing is left then. */
START_TEST(files_that_could_not_be_read_back_are_not_written)
{
    static const char *const words[] = {
        "key a is given twice",   "tensor t is given twice",
        "names have 1 to 63",     "lacks 1 elements",
        "no array of GGUF wants", "a tensor that Q4_0 cannot hold",
        "tensor 0 of 1 lacks",    "behind the last tensor",
        "names have 1 to 1024",   "a key behind the list of tensors",
    };
    static const size_t shape[2] = { 2, 16 };
    const struct qrb__gguf_layout *f32 = qrb__gguf_layout(QRB__GGUF_F32);
    struct qrb__gguf_writer *w;
    char name[70];

    memset(name, 'n', sizeof name);
    name[64] = '\0';
    ASSERT_OK(ctx, qrb__gguf_writer_open(ctx, out_path(), &w));
    switch (_i) {
    case 0:
        qrb__gguf_put_u32(w, "a", 1);
        qrb__gguf_put_u32(w, "a", 1);
        break;
    case 1:
        qrb__gguf_put_tensor(w, "t", f32, 2, shape);
        qrb__gguf_put_tensor(w, "t", f32, 2, shape);
        break;
    case 2:
        qrb__gguf_put_tensor(w, name, f32, 2, shape);
        break;
    case 3:
        qrb__gguf_put_array(w, "a", QRB__GGUF_I32, 1);
        break;
    case 4:
        qrb__gguf_put_array(w, "a", QRB__GGUF_I32, 1);
        qrb__gguf_add_float(w, 1);
        break;
    case 5:
        qrb__gguf_put_tensor(w, "t", qrb__gguf_layout(QRB__GGUF_Q4_0), 2,
                             shape);
        break;
    case 6:
        qrb__gguf_put_tensor(w, "t", f32, 2, shape);
        qrb__gguf_write(w, name, 8);
        break;
    case 7:
        qrb__gguf_write(w, name, 1);
        break;
    case 8:
        qrb__gguf_put_u32(w, "\xc3(", 1);
        break;
    default:
        qrb__gguf_put_tensor(w, "t", f32, 2, shape);
        qrb__gguf_put_u32(w, "late", 1);
    }
    ASSERT_FAILS(ctx, qrb__gguf_commit(w), QRB_E_INVALID_ARG, words[_i]);
    qrb__gguf_writer_close(w);
    ck_assert_int_ne(access(out_path(), F_OK), 0);
}
END_TEST

/* ---- names and configurations -------------------------------------------- */

START_TEST(names_of_tensors_are_those_of_other_engines)
{
    static const char *const pairs[][2] = {
        { "model.embed_tokens.weight", "token_embd.weight" },
        { "model.norm.weight", "output_norm.weight" },
        { "lm_head.weight", "output.weight" },
        { "model.layers.3.self_attn.q_proj.weight", "blk.3.attn_q.weight" },
        { "model.layers.31.self_attn.q_proj.bias", "blk.31.attn_q.bias" },
        { "model.layers.0.self_attn.o_proj.weight",
          "blk.0.attn_output.weight" },
        { "model.layers.0.input_layernorm.weight", "blk.0.attn_norm.weight" },
        { "model.layers.0.post_attention_layernorm.weight",
          "blk.0.ffn_norm.weight" },
        { "model.layers.999999999.mlp.down_proj.weight",
          "blk.999999999.ffn_down.weight" },
    };
    static const char *const unknown[] = {
        "",           "blk.",         "blk.1",           "blk..attn_q.weight",
        "blk.x.attn", "rope_freqs.w", "blk.1.attn_q",    "blk.1.attn_q.scale",
        "model.",     "output",       "model.layers.1.", "blk.1.ffn_gate_exps",
        "blk.9999999999.attn_q.weight",
    };
    char name[QRB__GGUF_NAME_MAX + 1];
    char parameter[QRB__PARAMETER_NAME];

    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        ck_assert(qrb__gguf_name(pairs[i][0], name));
        ck_assert_str_eq(name, pairs[i][1]);
        ck_assert(qrb__gguf_parameter(name, parameter));
        ck_assert_str_eq(parameter, pairs[i][0]);
    }
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        ck_assert(!qrb__gguf_name(unknown[i], name));
        ck_assert(!qrb__gguf_parameter(unknown[i], parameter));
    }
}
END_TEST

/* A file of a configuration and an embedding, with one key changed. */
static qrb_status read_config(const qrb_engine_config *config, const char *key,
                              double value, qrb_engine_config *out)
{
    const size_t shape[2] = { config->vocab, config->dim };
    struct qrb__gguf_writer *w;
    struct qrb__source *source;
    struct qrb__gguf *file;
    unsigned char *zeros = calloc(config->vocab * config->dim, 4);
    qrb_status status;

    ASSERT_OK(ctx, qrb__gguf_writer_open(ctx, out_path(), &w));
    ASSERT_OK(ctx, qrb__gguf_put_config(ctx, w, config));
    if (key != NULL)
        qrb__gguf_put_float(w, key, (float)value);
    qrb__gguf_put_tensor(w, "token_embd.weight",
                         qrb__gguf_layout(QRB__GGUF_F32), 2, shape);
    if (config->qkv_bias)
        qrb__gguf_put_tensor(w, "blk.0.attn_q.bias",
                             qrb__gguf_layout(QRB__GGUF_F32), 1, shape);
    qrb__gguf_write(w, zeros, config->vocab * config->dim * 4);
    if (config->qkv_bias)
        qrb__gguf_write(w, zeros, config->vocab * 4);
    ASSERT_OK(ctx, qrb__gguf_commit(w));
    qrb__gguf_writer_close(w);
    free(zeros);
    ASSERT_OK(ctx, qrb__source_open_path(ctx, out_path(), &source));
    ASSERT_OK(ctx, qrb__gguf_open(ctx, source, &file));
    status = qrb__gguf_config(file, out);
    qrb__gguf_close(file);
    return status;
}

static qrb_engine_config small_config(void)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;

    config.vocab = 5;
    config.dim = 8;
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 6;
    config.hidden = 12;
    config.context = 16;
    config.rms_epsilon = 1e-5; /* no float */
    config.rope_theta = 5000;
    return config;
}

START_TEST(a_configuration_comes_back)
{
    qrb_engine_config config = small_config();
    qrb_engine_config found;

    ASSERT_OK(ctx, read_config(&config, NULL, 0, &found));
    config.rotary = QRB_ROTARY_INTERLEAVED;
    ck_assert_mem_eq(&found, &config, sizeof config);
    config.architecture = QRB_ARCH_QWEN2;
    config.rotary = QRB_ROTARY_HALF;
    config.qkv_bias = 1;
    ASSERT_OK(ctx, read_config(&config, NULL, 0, &found));
    ck_assert_mem_eq(&found, &config, sizeof config);
}
END_TEST

START_TEST(keys_that_change_results_are_refused)
{
    static const char *const keys[] = { "llama.rope.scale_linear",
                                        "llama.rope.scaling.factor",
                                        "llama.attention.sliding_window",
                                        "llama.expert_count" };
    const qrb_engine_config config = small_config();
    qrb_engine_config found;
    struct qrb__gguf_writer *w;

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        ASSERT_FAILS(ctx, read_config(&config, keys[i], 8, &found),
                     QRB_E_UNSUPPORTED, keys[i]);
    ASSERT_OK(ctx, read_config(&config, keys[0], 1, &found));
    ASSERT_OK(ctx, qrb__gguf_writer_open(ctx, out_path(), &w));
    found = config;
    found.architecture = QRB_ARCH_QWEN2;
    ASSERT_FAILS(ctx, qrb__gguf_put_config(ctx, w, &found), QRB_E_UNSUPPORTED,
                 "without biases");
    qrb__gguf_writer_close(w);
}
END_TEST

START_TEST(other_architectures_and_missing_keys_are_named)
{
    struct bytes b;
    struct qrb__gguf *file;
    qrb_engine_config config;

    put_head(&b, 0, 1);
    put_text(&b, "general.architecture"), put32(&b, QRB__GGUF_STRING);
    put_text(&b, "gemma");
    ASSERT_OK(ctx, open_memory(ctx, b.bytes, b.size, &file));
    ASSERT_FAILS(ctx, qrb__gguf_config(file, &config), QRB_E_UNSUPPORTED,
                 "general.architecture is \"gemma\"");
    qrb__gguf_close(file);
    put_head(&b, 0, 1);
    put_text(&b, "general.architecture"), put32(&b, QRB__GGUF_STRING);
    put_text(&b, "llama");
    ASSERT_OK(ctx, open_memory(ctx, b.bytes, b.size, &file));
    ASSERT_FAILS(ctx, qrb__gguf_config(file, &config), QRB_E_FORMAT,
                 "llama.block_count is missing or 0");
    qrb__gguf_close(file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gguf");
    TCase *reading = tcase_create("reading");
    TCase *rules = tcase_create("rules");
    TCase *writing = tcase_create("writing");

    tcase_add_checked_fixture(reading, set_up, tear_down);
    tcase_set_timeout(reading, 60);
    tcase_add_test(reading, values_of_all_thirteen_types_are_read);
    tcase_add_test(reading,
                   values_of_another_kind_are_refused_and_missing_ones_kept);
    tcase_add_test(reading, tensors_are_read_in_their_shapes);
    tcase_add_test(reading, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(reading, a_header_with_any_bit_flipped_is_refused_or_read);
    tcase_add_test(reading, a_callback_reads_the_same);
    tcase_add_test(reading, no_failed_allocation_leaks_a_file);
    suite_add_tcase(suite, reading);
    tcase_add_checked_fixture(rules, set_up, tear_down);
    tcase_add_test(rules, rule_1_products_of_dimensions_do_not_overflow);
    tcase_add_test(rules, rule_2_sums_and_padding_do_not_overflow);
    tcase_add_test(rules, rule_3_extents_of_0_are_refused);
    tcase_add_test(rules, rule_4_the_number_of_dimensions_is_checked_first);
    tcase_add_test(rules,
                   rule_5_counts_and_lengths_are_bounded_by_the_bytes_left);
    tcase_add_test(rules, rule_6_tensors_lie_inside_of_the_file);
    tcase_add_test(rules, rule_6_a_file_that_shrinks_is_an_error);
    tcase_add_test(rules, rule_7_tensors_follow_each_other);
    tcase_add_test(rules, rule_8_rows_are_whole_blocks);
    tcase_add_test(rules, rule_9_types_are_in_range);
    tcase_add_test(rules, rule_9_other_versions_are_named);
    tcase_add_test(rules, rule_10_alignment_is_a_bounded_power_of_two);
    tcase_add_test(rules, rule_11_duplicates_are_refused);
    tcase_add_test(rules, rule_12_names_are_checked);
    tcase_add_test(rules, rule_14_arrays_of_arrays_are_refused);
    suite_add_tcase(suite, rules);
    tcase_add_checked_fixture(writing, set_up, tear_down);
    tcase_add_test(writing, what_is_written_comes_back);
    tcase_add_test(writing, no_failed_allocation_leaves_a_file);
    tcase_add_loop_test(writing,
                        files_that_could_not_be_read_back_are_not_written, 0,
                        10);
    tcase_add_test(writing, names_of_tensors_are_those_of_other_engines);
    tcase_add_test(writing, a_configuration_comes_back);
    tcase_add_test(writing, keys_that_change_results_are_refused);
    tcase_add_test(writing, other_architectures_and_missing_keys_are_named);
    suite_add_tcase(suite, writing);
    return run_suite(suite);
}
