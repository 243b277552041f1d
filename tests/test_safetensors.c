/* safetensors files: what is written is read, from every kind of source, and
 * nothing that is damaged passes. */
#include "harness.h"

#include <fcntl.h>
#include <math.h>
#include <stdbool.h>

#include <jansson.h>

#include <qrobust/source.h>

#include "io/bytes.h"

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

/* Length, header and data as one block; free it. */
static unsigned char *make_file(const char *header, const void *data,
                                size_t data_size, size_t *size_out)
{
    const size_t length = strlen(header);
    unsigned char *file = malloc(8 + length + data_size + 1);

    ck_assert_ptr_nonnull(file);
    qrb__store_u64(file, length);
    memcpy(file + 8, header, length);
    if (data_size > 0)
        memcpy(file + 8 + length, data, data_size);
    *size_out = 8 + length + data_size;
    return file;
}

static qrb_status open_buffer(qrb_context *context, const void *bytes,
                              size_t size, qrb_safetensors **out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = bytes;
    source.size = size;
    return qrb_safetensors_open(context, &source, out);
}

static qrb_tensor *make_tensor(qrb_context *context, uint32_t dtype,
                               uint32_t rank, const size_t *shape, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor = NULL;

    options.dtype = dtype;
    options.rank = rank;
    options.memory = memory;
    memcpy(options.shape, shape, rank * sizeof *shape);
    ASSERT_OK(context, qrb_tensor_create(context, &options, &tensor));
    return tensor;
}

/* Every bit pattern of a byte in every type. */
START_TEST(every_dtype_comes_back_bit_for_bit)
{
    const uint32_t dtype = (uint32_t)_i;
    const size_t size = qrb_dtype_size(dtype);
    const size_t shape[3] = { 4, 8, 8 };
    qrb_tensor *tensor = make_tensor(ctx, dtype, 3, shape, NULL);
    qrb_tensor *back = make_tensor(ctx, dtype, 3, shape, NULL);
    const qrb_named_tensor named = { "some.weight", tensor };
    qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;

    ck_assert_uint_ne(size, 0);
    for (size_t i = 0; i < 256 * size; i++)
        ((unsigned char *)qrb_tensor_memory(tensor))[i] =
            (unsigned char)(i * 167 + i / 256);
    source.path = in_place("file");
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, source.path, &named, 1, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_OK(ctx, qrb_safetensors_describe(file, 0, &found));
    ck_assert_uint_eq(found.dtype, dtype);
    ck_assert_uint_eq(found.rank, 3);
    ck_assert_mem_eq(found.shape, shape, sizeof shape);
    ck_assert_ptr_null(found.memory);
    ck_assert_int_eq(found.strides[0], 0);
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, back));
    ck_assert_mem_eq(qrb_tensor_memory(back), qrb_tensor_memory(tensor),
                     256 * size);
    qrb_safetensors_close(file);
    qrb_tensor_destroy(back);
    qrb_tensor_destroy(tensor);
}
END_TEST

static int read_block(uint64_t offset, void *out, size_t size, void *user)
{
    memcpy(out, (const char *)user + offset, size);
    return 0;
}

static const char two_header[] =
    "{\"__metadata__\":{\"seed\":\"7\",\"text\":\"caf\\u00e9\"},"
    "\"b\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[4,20]},"
    "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}";

/* a = [1, -2] as f16, b = [[0, 1], [2, 3]] as f32. */
static unsigned char *make_two(size_t *size_out)
{
    static const unsigned char data[20] = { 0x00, 0x3c, 0x00, 0xc0, 0,
                                            0,    0,    0,    0,    0,
                                            0x80, 0x3f, 0,    0,    0,
                                            0x40, 0,    0,    0x40, 0x40 };

    return make_file(two_header, data, sizeof data, size_out);
}

static void expect_two(qrb_safetensors *file)
{
    const size_t shape[2] = { 2, 2 };
    qrb_tensor *a = make_tensor(ctx, QRB_F64, 1, shape, NULL);
    qrb_tensor *b = make_tensor(ctx, QRB_F32, 2, shape, NULL);
    const double *in_a = qrb_tensor_memory(a);
    const float *in_b = qrb_tensor_memory(b);

    ck_assert_uint_eq(qrb_safetensors_count(file), 2);
    ck_assert_str_eq(qrb_safetensors_name(file, 0), "a");
    ck_assert_str_eq(qrb_safetensors_name(file, 1), "b");
    ck_assert_ptr_null(qrb_safetensors_name(file, 2));
    ck_assert_uint_eq(qrb_safetensors_find(file, "b"), 1);
    ck_assert_uint_eq(qrb_safetensors_find(file, "c"), SIZE_MAX);
    ck_assert_str_eq(qrb_safetensors_metadata(file, "seed"), "7");
    ck_assert_str_eq(qrb_safetensors_metadata(file, "text"), "caf\xc3\xa9");
    ck_assert_ptr_null(qrb_safetensors_metadata(file, "none"));
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, a));
    ASSERT_OK(ctx, qrb_safetensors_read(file, 1, b));
    ck_assert_double_eq(in_a[0], 1);
    ck_assert_double_eq(in_a[1], -2);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq(in_b[i], (float)i);
    qrb_tensor_destroy(a);
    qrb_tensor_destroy(b);
}

START_TEST(four_kinds_of_source_give_the_same_tensors)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    unsigned char *bytes;
    size_t size;
    int fd = -1;

    bytes = make_two(&size);
    put_file(in_place("file"), bytes, size);
    if (_i == 0) {
        source.path = in_place("file");
    } else if (_i == 1) {
        fd = open(in_place("file"), O_RDONLY);
        source.fd = fd;
    } else {
        source.size = size;
        source.buffer = _i == 2 ? bytes : NULL;
        source.read_at = _i == 2 ? NULL : read_block;
        source.read_at_user = bytes;
    }
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    expect_two(file);
    qrb_safetensors_close(file);
    if (fd >= 0)
        close(fd);
    free(bytes);
}
END_TEST

/* Where the header's length leaves the data is up to the file. */
START_TEST(data_at_any_alignment_are_read)
{
    qrb_safetensors *file;
    unsigned char *bytes;
    unsigned char *moved;
    size_t size;

    bytes = make_two(&size);
    moved = malloc(size + 8);
    ck_assert_ptr_nonnull(moved);
    memcpy(moved + _i, bytes, size);
    ASSERT_OK(ctx, open_buffer(ctx, moved + _i, size, &file));
    expect_two(file);
    qrb_safetensors_close(file);
    free(moved);
    free(bytes);
}
END_TEST

START_TEST(strided_tensors_are_written_and_read_in_order)
{
    float memory[24];
    float back[12];
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensors[2];
    qrb_named_tensor named[2];
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    qrb_tensor *out;

    for (int i = 0; i < 24; i++)
        memory[i] = (float)i;
    options.memory = memory;
    options.rank = 2; /* the transposed [3, 4] of a [4, 3] */
    options.shape[0] = 3;
    options.shape[1] = 4;
    options.strides[0] = 4;
    options.strides[1] = 12;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensors[0]));
    options.rank = 1; /* every second one, from the end */
    options.memory = memory + 23;
    options.shape[0] = 12;
    options.strides[0] = -8;
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensors[1]));
    named[0] = (qrb_named_tensor){ "transposed", tensors[0] };
    named[1] = (qrb_named_tensor){ "backwards", tensors[1] };
    source.path = in_place("file");
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, source.path, named, 2, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));

    out = make_tensor(ctx, QRB_F32, 1, &(size_t){ 12 }, back);
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, out));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(back[i], (float)(23 - 2 * i));
    qrb_tensor_destroy(out);
    out = make_tensor(ctx, QRB_F32, 2, (size_t[]){ 3, 4 }, back);
    ASSERT_OK(ctx, qrb_safetensors_read(file, 1, out));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(back[i], (float)(i % 4 * 3 + i / 4));
    /* And back into the strides they came from. */
    memset(memory, 0, sizeof memory);
    ASSERT_OK(ctx, qrb_safetensors_read(file, 1, tensors[0]));
    for (int i = 0; i < 12; i++)
        ck_assert_float_eq(memory[i], (float)i);
    qrb_tensor_destroy(out);
    qrb_safetensors_close(file);
    qrb_tensor_destroy(tensors[0]);
    qrb_tensor_destroy(tensors[1]);
}
END_TEST

/* The same arguments in another order, twice: the same bytes, aligned. */
START_TEST(bytes_are_a_function_of_what_is_written)
{
    static const char *const one_way[] = { "z", "1", "a", "\"quoted\"\n" };
    static const char *const other_way[] = { "a", "\"quoted\"\n", "z", "1" };
    const size_t shape[1] = { 3 };
    qrb_tensor *byte = make_tensor(ctx, QRB_U8, 1, shape, NULL);
    qrb_tensor *wide = make_tensor(ctx, QRB_F64, 1, shape, NULL);
    const qrb_named_tensor named[] = { { "a", byte }, { "b", wide } };
    const qrb_named_tensor turned[] = { { "b", wide }, { "a", byte } };
    static const char expected[] =
        "{\"__metadata__\":{\"a\":\"\\\"quoted\\\"\\n\",\"z\":\"1\"},"
        "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[24,27]},"
        "\"b\":{\"dtype\":\"F64\",\"shape\":[3],\"data_offsets\":[0,24]}}";
    char *first;
    char *second;
    size_t size;
    size_t again;
    uint64_t length;

    ASSERT_OK(ctx, qrb_safetensors_write(ctx, in_place("file"), named, 2,
                                         one_way, 2));
    first = get_file(in_place("file"), &size);
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, in_place("file"), turned, 2,
                                         other_way, 2));
    second = get_file(in_place("file"), &again);
    ck_assert_uint_eq(size, again);
    ck_assert_mem_eq(first, second, size);
    length = qrb__load_u64((const unsigned char *)first);
    ck_assert_uint_eq(length % 8, 0);
    ck_assert_uint_eq(size, 8 + length + 27);
    ck_assert_int_eq(strncmp(first + 8, expected, strlen(expected)), 0);
    for (size_t i = strlen(expected); i < length; i++)
        ck_assert_int_eq(first[8 + i], ' ');
    free(first);
    free(second);
    qrb_tensor_destroy(byte);
    qrb_tensor_destroy(wide);
}
END_TEST

START_TEST(a_file_without_tensors_is_a_file)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;

    source.path = in_place("file");
    ASSERT_OK(ctx, qrb_safetensors_write(ctx, source.path, NULL, 0, NULL, 0));
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ck_assert_uint_eq(qrb_safetensors_count(file), 0);
    ck_assert_uint_eq(qrb_safetensors_find(file, "x"), SIZE_MAX);
    qrb_safetensors_close(file);
}
END_TEST

START_TEST(a_scalar_is_one_element)
{
    const float data = 2.5f;
    qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
    qrb_safetensors *file;
    qrb_tensor *out = make_tensor(ctx, QRB_F32, 1, &(size_t){ 1 }, NULL);
    size_t size;
    unsigned char *bytes = make_file(
        "{\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}",
        &data, 4, &size);

    ASSERT_OK(ctx, open_buffer(ctx, bytes, size, &file));
    ASSERT_OK(ctx, qrb_safetensors_describe(file, 0, &found));
    ck_assert_uint_eq(found.rank, 1);
    ck_assert_uint_eq(found.shape[0], 1);
    ASSERT_OK(ctx, qrb_safetensors_read(file, 0, out));
    ck_assert_float_eq(*(float *)qrb_tensor_memory(out), 2.5f);
    qrb_safetensors_close(file);
    qrb_tensor_destroy(out);
    free(bytes);
}
END_TEST

START_TEST(a_tensor_is_read_into_its_own_shape_and_a_fitting_type)
{
    qrb_safetensors *file;
    size_t size;
    unsigned char *bytes = make_two(&size);
    qrb_tensor *wrong = make_tensor(ctx, QRB_F32, 1, &(size_t){ 4 }, NULL);
    qrb_tensor *whole = make_tensor(ctx, QRB_I32, 1, &(size_t){ 2 }, NULL);
    qrb_tensor_options old = QRB_TENSOR_OPTIONS_INIT;

    ASSERT_OK(ctx, open_buffer(ctx, bytes, size, &file));
    ASSERT_FAILS(ctx, qrb_safetensors_read(file, 1, wrong), QRB_E_SHAPE,
                 "tensor b: found [2, 2], expected [4]");
    ASSERT_FAILS(ctx, qrb_safetensors_read(file, 0, whole), QRB_E_UNSUPPORTED,
                 "tensor a: no conversion from F16 to I32");
    ASSERT_FAILS(ctx, qrb_safetensors_read(file, 2, whole), QRB_E_INVALID_ARG,
                 "tensor 2 of a file that has 2");
    ASSERT_FAILS(ctx, qrb_safetensors_describe(file, 2, &old),
                 QRB_E_INVALID_ARG, "tensor 2");
    old.struct_size = 1;
    ASSERT_FAILS(ctx, qrb_safetensors_describe(file, 1, &old),
                 QRB_E_INVALID_ARG, "struct_size");
    qrb_safetensors_close(file);
    qrb_tensor_destroy(wrong);
    qrb_tensor_destroy(whole);
    free(bytes);
}
END_TEST

START_TEST(null_is_refused_or_fine)
{
    qrb_safetensors *file = (void *)directory;
    const qrb_named_tensor nameless = { NULL, NULL };

    ck_assert_int_eq(qrb_safetensors_open(NULL, NULL, &file),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_open(ctx, NULL, NULL), QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_open(ctx, NULL, &file), QRB_E_INVALID_ARG);
    ck_assert_ptr_null(file);
    ck_assert_int_eq(qrb_safetensors_open_directory(NULL, "x", &file),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_open_directory(ctx, "x", NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_open_directory(ctx, NULL, &file),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_describe(NULL, 0, NULL),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_safetensors_read(NULL, 0, NULL), QRB_E_INVALID_ARG);
    ck_assert_uint_eq(qrb_safetensors_count(NULL), 0);
    ck_assert_ptr_null(qrb_safetensors_name(NULL, 0));
    ck_assert_uint_eq(qrb_safetensors_find(NULL, "x"), SIZE_MAX);
    ck_assert_ptr_null(qrb_safetensors_metadata(NULL, "x"));
    qrb_safetensors_close(NULL);
    ck_assert_int_eq(qrb_safetensors_write(NULL, "x", NULL, 0, NULL, 0),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_safetensors_write(ctx, NULL, NULL, 0, NULL, 0),
                 QRB_E_INVALID_ARG, "path is NULL");
    ASSERT_FAILS(ctx, qrb_safetensors_write(ctx, "x", NULL, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "tensors is NULL");
    ASSERT_FAILS(ctx, qrb_safetensors_write(ctx, "x", NULL, 0, NULL, 1),
                 QRB_E_INVALID_ARG, "metadata is NULL");
    ASSERT_FAILS(ctx, qrb_safetensors_write(ctx, "x", &nameless, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "tensor 0: name is NULL");
}
END_TEST

START_TEST(what_could_not_be_read_is_not_written)
{
    qrb_tensor *tensor = make_tensor(ctx, QRB_F32, 1, &(size_t){ 1 }, NULL);
    static char longer[1026];
    qrb_named_tensor named[2] = { { "a", tensor }, { "a", tensor } };
    const char *const twice[] = { "k", "1", "k", "2" };
    const char *const broken[] = { "k", "\xff" };
    const char *const missing[] = { "k", NULL };

    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 2, NULL, 0),
                 QRB_E_INVALID_ARG, "two tensors are called a");
    named[0].name = "";
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "empty");
    named[0].name = "\xc0\x80";
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "not UTF-8");
    memset(longer, 'x', 1025);
    named[0].name = longer;
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "at most 1024");
    named[0].name = "__metadata__";
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "__metadata__");
    named[0].name = "b";
    named[0].tensor = NULL;
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), named, 1, NULL, 0),
                 QRB_E_INVALID_ARG, "tensor is NULL");
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), NULL, 0, twice, 2),
                 QRB_E_INVALID_ARG, "key k is given twice");
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), NULL, 0, broken, 1),
                 QRB_E_INVALID_ARG, "not UTF-8");
    ASSERT_FAILS(ctx,
                 qrb_safetensors_write(ctx, in_place("f"), NULL, 0, missing, 1),
                 QRB_E_INVALID_ARG, "has a NULL");
    ck_assert_int_ne(access(in_place("f"), F_OK), 0);
    qrb_tensor_destroy(tensor);
}
END_TEST

static int call_the_library(uint64_t offset, void *out, size_t size, void *user)
{
    qrb_safetensors *file;

    (void)offset;
    (void)out;
    (void)size;
    (void)user;
    ck_assert_int_eq(qrb_safetensors_open_directory(ctx, "x", &file),
                     QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_safetensors_open(ctx, NULL, &file), QRB_E_REENTRANT);
    ck_assert_int_eq(qrb_safetensors_write(ctx, "x", NULL, 0, NULL, 0),
                     QRB_E_REENTRANT);
    return -3;
}

START_TEST(a_callback_cannot_call_back_and_its_code_comes_out)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;

    source.read_at = call_the_library;
    source.size = 100;
    ASSERT_FAILS(ctx, qrb_safetensors_open(ctx, &source, &file), QRB_E_CALLBACK,
                 "-3");
    ck_assert_int_eq(qrb_context_callback_code(ctx), -3);
}
END_TEST

struct limited {
    unsigned char *bytes;
    uint64_t readable;
};

static int read_limited(uint64_t offset, void *out, size_t size, void *user)
{
    const struct limited *limited = user;

    if (offset + size > limited->readable) {
        memcpy(out, limited->bytes + offset, 1);
        return -9;
    }
    memcpy(out, limited->bytes + offset, size);
    return 0;
}

/* A callback that fails after it has written something already. */
START_TEST(a_tensor_that_did_not_arrive_leaves_its_target_untouched)
{
    qrb_source source = QRB_SOURCE_INIT;
    struct limited limited;
    qrb_safetensors *file;
    float memory[4] = { 9, 9, 9, 9 };
    qrb_tensor *out = make_tensor(ctx, QRB_F32, 2, (size_t[]){ 2, 2 }, memory);
    size_t size;

    limited.bytes = make_two(&size);
    limited.readable = size - 1;
    source.read_at = read_limited;
    source.read_at_user = &limited;
    source.size = size;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    ASSERT_FAILS(ctx, qrb_safetensors_read(file, 1, out), QRB_E_CALLBACK,
                 "tensor b: the callback read_at returned -9");
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq(memory[i], 9);
    qrb_safetensors_close(file);
    qrb_tensor_destroy(out);
    free(limited.bytes);
}
END_TEST

/* Cut anywhere, and with any byte of the header changed in several ways: a
 * status and a message, or a file whose tensors can be read. */
static void open_and_read_all(const unsigned char *bytes, size_t size,
                              bool must_fail)
{
    qrb_safetensors *file;
    const qrb_status status = open_buffer(ctx, bytes, size, &file);

    if (status != QRB_OK) {
        ck_assert_ptr_null(file);
        ck_assert_msg(status == QRB_E_FORMAT || status == QRB_E_UNSUPPORTED,
                      "%s", qrb_status_name(status));
        ck_assert_uint_gt(strlen(qrb_context_message(ctx)), 10);
        return;
    }
    ck_assert_msg(!must_fail, "%zu bytes are accepted", size);
    for (size_t i = 0; i < qrb_safetensors_count(file); i++) {
        qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
        qrb_tensor *out;

        ASSERT_OK(ctx, qrb_safetensors_describe(file, i, &found));
        if (qrb_tensor_create(ctx, &found, &out) != QRB_OK)
            continue; /* an empty one */
        ASSERT_OK(ctx, qrb_safetensors_read(file, i, out));
        qrb_tensor_destroy(out);
    }
    qrb_safetensors_close(file);
}

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    size_t size;
    unsigned char *bytes = make_two(&size);

    for (size_t cut = 0; cut < size; cut++) {
        unsigned char *part = malloc(cut + 1);

        memcpy(part, bytes, cut);
        open_and_read_all(part, cut, true);
        if (cut >= 8 + strlen(two_header)) /* in the data: one is named */
            ck_assert_ptr_nonnull(strstr(qrb_context_message(ctx), "tensor "));
        free(part);
    }
    open_and_read_all(bytes, size, false);
    free(bytes);
}
END_TEST

START_TEST(no_changed_byte_of_the_header_does_harm)
{
    size_t size;
    unsigned char *bytes = make_two(&size);

    for (size_t i = 0; i < 8 + strlen(two_header); i++) {
        const unsigned char kept = bytes[i];

        for (unsigned value = 0; value < 256; value++) {
            bytes[i] = (unsigned char)value;
            open_and_read_all(bytes, size, false);
        }
        bytes[i] = kept;
    }
    free(bytes);
}
END_TEST

/* Two shards and their index in a directory; `index` NULL: the right one. */
static void make_shards(const char *index)
{
    static const char right[] =
        "{\"metadata\":{\"total_size\":8},\"weight_map\":{"
        "\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}}";
    const float values[2] = { 1, 2 };
    size_t size;
    unsigned char *bytes = make_file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        &values[0], 4, &size);

    put_file(in_place("one.safetensors"), bytes, size);
    free(bytes);
    bytes = make_file(
        "{\"__metadata__\":{\"k\":\"v\"},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        &values[1], 4, &size);
    put_file(in_place("two.safetensors"), bytes, size);
    free(bytes);
    if (index == NULL)
        index = right;
    put_file(in_place("model.safetensors.index.json"), index, strlen(index));
}

START_TEST(shards_are_one_file)
{
    qrb_safetensors *file;
    qrb_tensor *out = make_tensor(ctx, QRB_F32, 1, &(size_t){ 1 }, NULL);

    make_shards(NULL);
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, directory, &file));
    ck_assert_uint_eq(qrb_safetensors_count(file), 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_str_eq(qrb_safetensors_name(file, i), i == 0 ? "a" : "b");
        ASSERT_OK(ctx, qrb_safetensors_read(file, i, out));
        ck_assert_float_eq(*(float *)qrb_tensor_memory(out), (float)(i + 1));
    }
    ck_assert_str_eq(qrb_safetensors_metadata(file, "k"), "v");
    qrb_safetensors_close(file);
    qrb_tensor_destroy(out);
}
END_TEST

START_TEST(one_file_comes_before_an_index)
{
    qrb_safetensors *file;
    unsigned char *bytes;
    size_t size;

    make_shards("not even JSON");
    bytes = make_two(&size);
    put_file(in_place("model.safetensors"), bytes, size);
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, directory, &file));
    expect_two(file);
    qrb_safetensors_close(file);
    free(bytes);
}
END_TEST

START_TEST(an_index_that_disagrees_with_its_shards_is_refused)
{
    static const struct {
        const char *index;
        const char *words;
        qrb_status status;
    } cases[] = {
        { "[]", "weight_map: expected an object", QRB_E_FORMAT },
        { "{}", "weight_map: expected an object", QRB_E_FORMAT },
        { "{\"weight_map\":{}}", "weight_map", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":1}}", "tensor a: its shard", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"one.safetensors\"}}{", "end of file",
          QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"one.safetensors\",\"a\":\"x\"}}",
          "duplicate", QRB_E_FORMAT },
        { "{\"weight_map\":{\"b\":\"one.safetensors\"}}",
          "tensor a is in one.safetensors; the index says nothing",
          QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"two.safetensors\","
          "\"b\":\"two.safetensors\"}}",
          "tensor a is not in two.safetensors", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"two.safetensors\","
          "\"b\":\"one.safetensors\"}}",
          "the index says two.safetensors", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"none.safetensors\"}}",
          "cannot open none.safetensors", QRB_E_IO },
        { "{\"weight_map\":{\"a\":\"../one.safetensors\"}}",
          "no plain file name", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"/etc/passwd\"}}", "no plain file name",
          QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"..\"}}", "no plain file name",
          QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"\"}}", "no plain file name", QRB_E_FORMAT },
        { "{\"weight_map\":{\"a\":\"model.safetensors.index.json\"}}",
          "a header of", QRB_E_FORMAT },
    };
    qrb_safetensors *file;

    make_shards(cases[_i].index);
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 cases[_i].status, cases[_i].words);
    ck_assert_ptr_null(file);
}
END_TEST

START_TEST(a_tensor_in_two_shards_is_refused)
{
    const float value = 1;
    qrb_safetensors *file;
    size_t size;
    unsigned char *bytes = make_file(
        "{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
        &value, 4, &size);

    make_shards(NULL);
    put_file(in_place("two.safetensors"), bytes, size);
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 QRB_E_FORMAT, "tensor a is in two shards");
    free(bytes);
}
END_TEST

START_TEST(more_than_1024_shards_are_refused)
{
    static char index[1025 * 24 + 64];
    size_t used = (size_t)snprintf(index, sizeof index, "{\"weight_map\":{");
    qrb_safetensors *file;

    for (int i = 0; i < 1025; i++)
        used += (size_t)snprintf(index + used, sizeof index - used,
                                 "%s\"t%d\":\"s%d\"", i == 0 ? "" : ",", i, i);
    snprintf(index + used, sizeof index - used, "}}");
    make_shards(index);
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 QRB_E_UNSUPPORTED, "1025 shards; at most 1024");
}
END_TEST

START_TEST(a_directory_without_safetensors_says_so)
{
    qrb_safetensors *file;

    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, directory, &file),
                 QRB_E_IO, "has neither model.safetensors nor");
    ASSERT_FAILS(ctx, qrb_safetensors_open_directory(ctx, "/nowhere", &file),
                 QRB_E_IO, "/nowhere is not a directory");
}
END_TEST

static qrb_status open_and_read(qrb_context *context, void *arg)
{
    qrb_safetensors *file;
    qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *out = NULL;
    qrb_source source = QRB_SOURCE_INIT;
    qrb_status status;

    if (arg == NULL) {
        status = qrb_safetensors_open_directory(context, directory, &file);
    } else {
        source.read_at = read_block;
        source.read_at_user = arg;
        source.size = 8 + strlen(two_header) + 20;
        status = qrb_safetensors_open(context, &source, &file);
    }
    if (status != QRB_OK)
        return status;
    status = qrb_safetensors_describe(file, 0, &found);
    if (status == QRB_OK)
        status = qrb_tensor_create(context, &found, &out);
    if (status == QRB_OK)
        status = qrb_safetensors_read(file, 0, out);
    qrb_tensor_destroy(out);
    qrb_safetensors_close(file);
    return status;
}

static qrb_status write_strided_pair(qrb_context *context, void *arg)
{
    static const char *const metadata[] = { "seed", "1" };
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    float memory[8] = { 0 };
    qrb_named_tensor named = { "a", NULL };
    qrb_tensor *tensor;
    qrb_status status;

    options.memory = memory;
    options.rank = 2;
    options.shape[0] = options.shape[1] = 2;
    options.strides[0] = 4;
    options.strides[1] = 8;
    status = qrb_tensor_create(context, &options, &tensor);
    if (status != QRB_OK)
        return status;
    named.tensor = tensor;
    status = qrb_safetensors_write(context, arg, &named, 1, metadata, 1);
    qrb_tensor_destroy(tensor);
    return status;
}

START_TEST(no_failed_allocation_leaks_or_harms_a_file)
{
    static char path[256];
    size_t size;
    unsigned char *bytes = make_two(&size);

    make_shards(NULL);
    fail_each_allocation(open_and_read, bytes);
    fail_each_allocation(open_and_read, NULL);
    in_directory(directory, "written", path);
    fail_each_allocation(write_strided_pair, path);
    free(bytes);
}
END_TEST

/* jansson allocates through a hook of the whole process, which is the host's;
 * here the host makes it fail.  When it has no memory for a string, jansson
 * says that the text is wrong. */
static size_t jansson_calls;
static size_t jansson_fails_at;

static void *jansson_alloc(size_t size)
{
    return ++jansson_calls == jansson_fails_at ? NULL : malloc(size);
}

START_TEST(no_failed_allocation_of_the_json_parser_does_harm)
{
    size_t size;
    unsigned char *bytes = make_two(&size);
    qrb_status status = QRB_E_NO_MEMORY;
    size_t no_memory = 0;

    json_set_alloc_funcs(jansson_alloc, free);
    for (size_t n = 1; status != QRB_OK; n++) {
        qrb_safetensors *file;

        jansson_calls = 0;
        jansson_fails_at = n;
        status = open_buffer(ctx, bytes, size, &file);
        if (jansson_calls < n)
            ASSERT_OK(ctx, status);
        else
            ck_assert_msg(status == QRB_E_NO_MEMORY || status == QRB_E_FORMAT,
                          "allocation %zu: %s", n, qrb_status_name(status));
        no_memory += status == QRB_E_NO_MEMORY;
        qrb_safetensors_close(file);
    }
    json_set_alloc_funcs(malloc, free);
    ck_assert_uint_ge(no_memory, 20);
    free(bytes);
}
END_TEST

/* The shared model: 47 tensors, all finite. */
START_TEST(a_trained_model_opens_by_path_and_by_directory)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *files[2];
    char path[512];
    char *slash;

    source.path = shared_path("models/stories260K-hf/model.safetensors", path);
    if (source.path == NULL)
        return;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &files[0]));
    slash = strrchr(path, '/');
    *slash = '\0';
    ASSERT_OK(ctx, qrb_safetensors_open_directory(ctx, path, &files[1]));
    for (int f = 0; f < 2; f++) {
        ck_assert_uint_eq(qrb_safetensors_count(files[f]), 47);
        ck_assert_str_eq(qrb_safetensors_metadata(files[f], "format"), "pt");
        for (size_t i = 0; i < 47; i++) {
            qrb_tensor_options found = QRB_TENSOR_OPTIONS_INIT;
            qrb_tensor *out;
            size_t elements = 1;

            ASSERT_OK(ctx, qrb_safetensors_describe(files[f], i, &found));
            ck_assert_uint_eq(found.dtype, QRB_F32);
            for (uint32_t d = 0; d < found.rank; d++)
                elements *= found.shape[d];
            ASSERT_OK(ctx, qrb_tensor_create(ctx, &found, &out));
            ASSERT_OK(ctx, qrb_safetensors_read(files[f], i, out));
            for (size_t e = 0; e < elements; e++)
                ck_assert(isfinite(((float *)qrb_tensor_memory(out))[e]));
            qrb_tensor_destroy(out);
        }
        qrb_safetensors_close(files[f]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *files = tcase_create("file");
    TCase *hostile = tcase_create("hostile");
    TCase *shards = tcase_create("shards");

    tcase_add_checked_fixture(files, set_up, tear_down);
    tcase_add_loop_test(files, every_dtype_comes_back_bit_for_bit, QRB_F64,
                        QRB_F8_E5M2 + 1);
    tcase_add_loop_test(files, four_kinds_of_source_give_the_same_tensors, 0,
                        4);
    tcase_add_loop_test(files, data_at_any_alignment_are_read, 0, 8);
    tcase_add_test(files, strided_tensors_are_written_and_read_in_order);
    tcase_add_test(files, bytes_are_a_function_of_what_is_written);
    tcase_add_test(files, a_file_without_tensors_is_a_file);
    tcase_add_test(files, a_scalar_is_one_element);
    tcase_add_test(files,
                   a_tensor_is_read_into_its_own_shape_and_a_fitting_type);
    tcase_add_test(files, null_is_refused_or_fine);
    tcase_add_test(files, what_could_not_be_read_is_not_written);
    tcase_add_test(files, a_callback_cannot_call_back_and_its_code_comes_out);
    tcase_add_test(files,
                   a_tensor_that_did_not_arrive_leaves_its_target_untouched);
    tcase_add_test(files, a_trained_model_opens_by_path_and_by_directory);
    suite_add_tcase(suite, files);

    tcase_add_checked_fixture(hostile, set_up, tear_down);
    tcase_set_timeout(hostile, 60);
    tcase_add_test(hostile, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(hostile, no_changed_byte_of_the_header_does_harm);
    suite_add_tcase(suite, hostile);

    tcase_add_checked_fixture(shards, set_up, tear_down);
    tcase_add_test(shards, shards_are_one_file);
    tcase_add_test(shards, one_file_comes_before_an_index);
    tcase_add_loop_test(
        shards, an_index_that_disagrees_with_its_shards_is_refused, 0, 15);
    tcase_add_test(shards, a_tensor_in_two_shards_is_refused);
    tcase_add_test(shards, more_than_1024_shards_are_refused);
    tcase_add_test(shards, a_directory_without_safetensors_says_so);
    tcase_add_test(shards, no_failed_allocation_leaks_or_harms_a_file);
    tcase_add_test(shards, no_failed_allocation_of_the_json_parser_does_harm);
    suite_add_tcase(suite, shards);
    return run_suite(suite);
}
