/* llama2.c checkpoints: offsets follow from the header, and the length of the
 * file is exact. */
#include "harness.h"

#include "io/bytes.h"
#include "io/llama2c.h"

static qrb_context *ctx;

static void set_up(void)
{
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
}

/* dim 4, hidden 6, 2 layers, 2 heads, 1 key/value head, vocabulary 3,
 * context 5. */
enum {
    DIM = 4,
    HIDDEN = 6,
    LAYERS = 2,
    KV_DIM = 2,
    VOCAB = 3,
    CONTEXT = 5,
    FLOATS = VOCAB * DIM + LAYERS * DIM + 2 * LAYERS * DIM * DIM +
             2 * LAYERS * KV_DIM * DIM + LAYERS * DIM +
             3 * LAYERS * HIDDEN * DIM + DIM + CONTEXT * 2,
    SIZE = 28 + 4 * FLOATS
};

static const int32_t small[7] = { DIM, HIDDEN, LAYERS, 2, 1, VOCAB, CONTEXT };

/* Weight i of the file is the number i; free it. */
static unsigned char *make_checkpoint(const int32_t *header, size_t floats)
{
    unsigned char *bytes = malloc(28 + 4 * floats);

    ck_assert_ptr_nonnull(bytes);
    for (int i = 0; i < 7; i++)
        qrb__store_u32(bytes + 4 * i, (uint32_t)header[i]);
    for (size_t i = 0; i < floats; i++) {
        const float value = (float)i;

        memcpy(bytes + 28 + 4 * i, &value, 4);
    }
    return bytes;
}

static qrb_status open_bytes(qrb_context *context, const void *bytes,
                             size_t size, struct qrb__llama2c *out)
{
    qrb_source source = QRB_SOURCE_INIT;

    source.buffer = bytes;
    source.size = size;
    return qrb__llama2c_open(context, &source, out);
}

/* First and last element of each weight, counted by hand: the embedding is
 * 0..11, attention norms 12..19, q 20..51, k 52..67, v 68..83, o 84..115,
 * feed-forward norms 116..123, w1 124..171, w2 172..219, w3 220..267, the last
 * norm 268..271, rotary tables 272..281 and, if it is there, the head. */
START_TEST(weights_lie_where_the_format_says)
{
    static const struct {
        size_t shape[2];
        uint32_t rank;
        size_t layer;
        float first;
        float last;
    } expected[QRB__LLAMA2C_WEIGHTS] = {
        { { VOCAB, DIM }, 2, 0, 0, 11 },
        { { DIM }, 1, 1, 16, 19 },
        { { DIM, DIM }, 2, 1, 36, 51 },
        { { KV_DIM, DIM }, 2, 1, 60, 67 },
        { { KV_DIM, DIM }, 2, 0, 68, 75 },
        { { DIM, DIM }, 2, 0, 84, 99 },
        { { DIM }, 1, 0, 116, 119 },
        { { HIDDEN, DIM }, 2, 1, 148, 171 },
        { { DIM, HIDDEN }, 2, 0, 172, 195 },
        { { HIDDEN, DIM }, 2, 1, 244, 267 },
        { { DIM }, 1, 0, 268, 271 },
        { { VOCAB, DIM }, 2, 0, 282, 293 },
    };
    int32_t header[7];
    struct qrb__llama2c checkpoint;
    unsigned char *bytes;
    double memory[24];

    memcpy(header, small, sizeof header);
    header[5] = -VOCAB; /* a head of its own */
    bytes = make_checkpoint(header, FLOATS + VOCAB * DIM);
    ASSERT_OK(ctx, open_bytes(ctx, bytes, SIZE + 4 * VOCAB * DIM, &checkpoint));
    ck_assert_uint_eq(checkpoint.config.tied_head, 0);
    for (int w = 0; w < QRB__LLAMA2C_WEIGHTS; w++) {
        const struct qrb__view view = qrb__view_make(
            QRB_F64, expected[w].rank, expected[w].shape, (void *)memory);
        const size_t count = qrb__view_elements(&view);

        ASSERT_OK(ctx,
                  qrb__llama2c_read(&checkpoint, (enum qrb__llama2c_weight)w,
                                    expected[w].layer, &view));
        ck_assert_double_eq(memory[0], expected[w].first);
        ck_assert_double_eq(memory[count - 1], expected[w].last);
    }
    qrb__llama2c_close(&checkpoint);
    free(bytes);
}
END_TEST

START_TEST(a_positive_vocabulary_ties_the_head)
{
    unsigned char *bytes = make_checkpoint(small, FLOATS);
    struct qrb__llama2c checkpoint;
    const qrb_engine_config *config = &checkpoint.config;

    ASSERT_OK(ctx, open_bytes(ctx, bytes, SIZE, &checkpoint));
    ck_assert_uint_eq(config->tied_head, 1);
    ck_assert_uint_eq(checkpoint.weights[QRB__LLAMA2C_HEAD].offset,
                      checkpoint.weights[QRB__LLAMA2C_EMBEDDING].offset);
    ck_assert_uint_eq(config->dim, DIM);
    ck_assert_uint_eq(config->hidden, HIDDEN);
    ck_assert_uint_eq(config->layers, LAYERS);
    ck_assert_uint_eq(config->heads, 2);
    ck_assert_uint_eq(config->kv_heads, 1);
    ck_assert_uint_eq(config->head_dim, 2);
    ck_assert_uint_eq(config->vocab, VOCAB);
    ck_assert_uint_eq(config->context, CONTEXT);
    ck_assert_uint_eq(config->rotary, QRB_ROTARY_INTERLEAVED);
    ck_assert_uint_eq(config->architecture, QRB_ARCH_LLAMA);
    ck_assert_uint_eq(config->qkv_bias, 0);
    ck_assert_double_eq(config->rms_epsilon, 1e-5);
    ck_assert_double_eq(config->rope_theta, 10000);
    qrb__llama2c_close(&checkpoint);
    free(bytes);
}
END_TEST

START_TEST(reads_of_other_shapes_and_layers_are_refused)
{
    unsigned char *bytes = make_checkpoint(small, FLOATS);
    struct qrb__llama2c checkpoint;
    double memory[24];
    const struct qrb__view wrong =
        qrb__view_make(QRB_F64, 2, (size_t[]){ 4, 6 }, (void *)memory);
    const struct qrb__view whole =
        qrb__view_make(QRB_I32, 1, (size_t[]){ 4 }, (void *)memory);

    ASSERT_OK(ctx, open_bytes(ctx, bytes, SIZE, &checkpoint));
    ASSERT_FAILS(ctx,
                 qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_GATE, 1, &wrong),
                 QRB_E_SHAPE, "w1 of layer 1: found [6, 4], expected [4, 6]");
    ASSERT_FAILS(ctx,
                 qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_DOWN, 2, &wrong),
                 QRB_E_INVALID_ARG, "w2: layer 2 of 2");
    ASSERT_FAILS(
        ctx, qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_FINAL_NORM, 0, &whole),
        QRB_E_UNSUPPORTED, "rms_final of layer 0: no conversion");
    qrb__llama2c_close(&checkpoint);
    free(bytes);
}
END_TEST

START_TEST(headers_out_of_range_are_refused_and_named)
{
    static const struct {
        int field;
        int32_t value;
        const char *words;
        qrb_status status;
    } cases[] = {
        { 0, 0, "hidden_size is 0", QRB_E_FORMAT },
        { 0, -4, "hidden_size is 0", QRB_E_FORMAT },
        { 0, INT32_MIN, "hidden_size is 0", QRB_E_FORMAT },
        { 0, INT32_MAX, "hidden_size", QRB_E_FORMAT },
        { 0, 5, "no multiple of num_attention_heads", QRB_E_FORMAT },
        { 0, 6, "head_dim is 3", QRB_E_FORMAT },
        { 1, 0, "intermediate_size is 0", QRB_E_FORMAT },
        { 1, INT32_MAX, "intermediate_size is", QRB_E_FORMAT },
        { 2, 0, "num_hidden_layers is 0", QRB_E_FORMAT },
        { 2, INT32_MAX, "num_hidden_layers is", QRB_E_FORMAT },
        { 3, 0, "num_attention_heads is 0", QRB_E_FORMAT },
        { 3, -1, "num_attention_heads is 0", QRB_E_FORMAT },
        { 4, 0, "num_key_value_heads is 0", QRB_E_FORMAT },
        { 4, 3, "no multiple of num_key_value_heads", QRB_E_FORMAT },
        { 5, 0, "vocab_size is 0", QRB_E_FORMAT },
        { 5, INT32_MIN, "vocab_size is 2147483648", QRB_E_FORMAT },
        { 6, 0, "max_position_embeddings is 0", QRB_E_FORMAT },
        { 6, INT32_MAX, "max_position_embeddings is", QRB_E_FORMAT },
        { 1, 1 << 24, "header announces", QRB_E_FORMAT },
        { 6, 6, "header announces", QRB_E_FORMAT },
        { 5, -VOCAB, "header announces", QRB_E_FORMAT },
        { 0, 0x616b3432, "only version 0", QRB_E_UNSUPPORTED },
    };
    struct qrb__llama2c checkpoint;

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t header[7];
        unsigned char *bytes;

        memcpy(header, small, sizeof header);
        header[cases[i].field] = cases[i].value;
        bytes = make_checkpoint(header, FLOATS);
        ASSERT_FAILS(ctx, open_bytes(ctx, bytes, SIZE, &checkpoint),
                     cases[i].status, cases[i].words);
        ck_assert_ptr_null(checkpoint.source);
        free(bytes);
    }
}
END_TEST

START_TEST(a_checkpoint_cut_or_changed_is_refused_or_read)
{
    unsigned char *bytes = make_checkpoint(small, FLOATS);
    struct qrb__llama2c checkpoint;

    for (size_t cut = 0; cut < SIZE; cut++) {
        unsigned char *part = malloc(cut + 1);

        memcpy(part, bytes, cut);
        ck_assert_int_eq(open_bytes(ctx, part, cut, &checkpoint), QRB_E_FORMAT);
        free(part);
    }
    for (size_t i = 0; i < 28; i++) {
        const unsigned char kept = bytes[i];

        for (unsigned value = 0; value < 256; value++) {
            bytes[i] = (unsigned char)value;
            if (open_bytes(ctx, bytes, SIZE, &checkpoint) == QRB_OK)
                ck_assert_uint_eq(value, kept);
            qrb__llama2c_close(&checkpoint);
        }
        bytes[i] = kept;
    }
    free(bytes);
}
END_TEST

static int read_block(uint64_t offset, void *out, size_t size, void *user)
{
    memcpy(out, (const char *)user + offset, size);
    return 0;
}

static qrb_status open_and_read(qrb_context *context, void *arg)
{
    qrb_source source = QRB_SOURCE_INIT;
    struct qrb__llama2c checkpoint;
    float memory[4];
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 1, (size_t[]){ DIM }, (void *)memory);
    qrb_status status;

    source.read_at = read_block;
    source.read_at_user = arg;
    source.size = SIZE;
    status = qrb__llama2c_open(context, &source, &checkpoint);
    if (status != QRB_OK)
        return status;
    status = qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_FINAL_NORM, 0, &view);
    qrb__llama2c_close(&checkpoint);
    return status;
}

START_TEST(no_failed_allocation_leaks_a_checkpoint)
{
    unsigned char *bytes = make_checkpoint(small, FLOATS);

    fail_each_allocation(open_and_read, bytes);
    free(bytes);
}
END_TEST

static float *read_weight(const struct qrb__llama2c *checkpoint,
                          enum qrb__llama2c_weight weight, size_t layer,
                          size_t rows, size_t cols)
{
    float *memory = calloc(rows * cols, sizeof *memory);
    const size_t shape[2] = { rows, cols };
    const struct qrb__view view =
        qrb__view_make(QRB_F32, 2, shape, (void *)memory);

    ck_assert_ptr_nonnull(memory);
    ASSERT_OK(ctx, qrb__llama2c_read(checkpoint, weight, layer, &view));
    return memory;
}

static void expect_tensor(const qrb_safetensors *file, const char *name,
                          const float *expected, size_t elements)
{
    const size_t index = qrb_safetensors_find(file, name);
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    ck_assert_msg(index != SIZE_MAX, "%s is missing", name);
    ASSERT_OK(ctx, qrb_safetensors_describe(file, index, &options));
    ASSERT_OK(ctx, qrb_tensor_create(ctx, &options, &tensor));
    ASSERT_OK(ctx, qrb_safetensors_read(file, index, tensor));
    ck_assert_mem_eq(qrb_tensor_memory(tensor), expected,
                     elements * sizeof *expected);
    qrb_tensor_destroy(tensor);
}

/* Rows (2i, 2i + 1) of each head, interleaved, are rows (i, i + d/2) of the
 * half-split order. */
static float *half_split(const float *rows, size_t heads, size_t head_dim,
                         size_t cols)
{
    float *out = calloc(heads * head_dim * cols, sizeof *out);

    ck_assert_ptr_nonnull(out);
    for (size_t h = 0; h < heads; h++)
        for (size_t i = 0; i < head_dim; i++) {
            const size_t to = h * head_dim + i / 2 + i % 2 * (head_dim / 2);

            memcpy(out + to * cols, rows + (h * head_dim + i) * cols,
                   cols * sizeof *out);
        }
    return out;
}

/* The shared model in both forms: the same numbers, bit for bit. */
START_TEST(a_trained_checkpoint_agrees_with_its_other_form)
{
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;
    struct qrb__llama2c checkpoint;
    const qrb_engine_config *c = &checkpoint.config;
    char path[512];

    source.path = shared_path("models/stories260K-hf/model.safetensors", path);
    if (source.path == NULL)
        return;
    ASSERT_OK(ctx, qrb_safetensors_open(ctx, &source, &file));
    source.path = shared_path("models/stories260K/stories260K.bin", path);
    ck_assert_ptr_nonnull(source.path);
    ASSERT_OK(ctx, qrb__llama2c_open(ctx, &source, &checkpoint));
    ck_assert_uint_eq(c->dim, 64);
    ck_assert_uint_eq(c->hidden, 172);
    ck_assert_uint_eq(c->layers, 5);
    ck_assert_uint_eq(c->heads, 8);
    ck_assert_uint_eq(c->kv_heads, 4);
    ck_assert_uint_eq(c->vocab, 512);
    ck_assert_uint_eq(c->context, 512);
    ck_assert_uint_eq(c->tied_head, 1);
    for (size_t layer = 0; layer < c->layers; layer++) {
        static const struct {
            enum qrb__llama2c_weight weight;
            const char *name;
            int turned; /* 1: queries, 2: keys */
        } matrices[] = {
            { QRB__LLAMA2C_Q, "self_attn.q_proj", 1 },
            { QRB__LLAMA2C_K, "self_attn.k_proj", 2 },
            { QRB__LLAMA2C_V, "self_attn.v_proj", 0 },
            { QRB__LLAMA2C_O, "self_attn.o_proj", 0 },
            { QRB__LLAMA2C_GATE, "mlp.gate_proj", 0 },
            { QRB__LLAMA2C_DOWN, "mlp.down_proj", 0 },
            { QRB__LLAMA2C_UP, "mlp.up_proj", 0 },
        };

        for (size_t m = 0; m < sizeof matrices / sizeof *matrices; m++) {
            const size_t rows = checkpoint.weights[matrices[m].weight].rows;
            const size_t cols = checkpoint.weights[matrices[m].weight].cols;
            float *weight =
                read_weight(&checkpoint, matrices[m].weight, layer, rows, cols);
            char name[128];

            if (matrices[m].turned != 0) {
                float *turned = half_split(
                    weight, matrices[m].turned == 1 ? 8 : 4, 8, cols);

                free(weight);
                weight = turned;
            }
            snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer,
                     matrices[m].name);
            expect_tensor(file, name, weight, rows * cols);
            free(weight);
        }
    }
    qrb__llama2c_close(&checkpoint);
    qrb_safetensors_close(file);
}
END_TEST

/* A matrix of one row is a matrix still: a hidden width or a vocabulary of 1
 * makes no vector of it. */
START_TEST(matrices_of_one_row_are_read)
{
    static const int32_t header[7] = { DIM, 1, LAYERS, 2, 1, 1, CONTEXT };
    static const size_t wide[2] = { 1, DIM };
    static const size_t tall[2] = { DIM, 1 };
    const size_t floats = DIM + LAYERS * DIM + 2 * LAYERS * DIM * DIM +
                          2 * LAYERS * KV_DIM * DIM + LAYERS * DIM +
                          3 * LAYERS * DIM + DIM + CONTEXT * 2;
    float memory[DIM];
    const struct qrb__view row =
        qrb__view_make(QRB_F32, 2, wide, (void *)memory);
    const struct qrb__view column =
        qrb__view_make(QRB_F32, 2, tall, (void *)memory);
    struct qrb__llama2c checkpoint;
    unsigned char *bytes = make_checkpoint(header, floats);

    ASSERT_OK(ctx, open_bytes(ctx, bytes, 28 + 4 * floats, &checkpoint));
    ASSERT_OK(ctx,
              qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_EMBEDDING, 0, &row));
    ck_assert_float_eq(memory[0], 0.0f);
    /* Behind the embedding 0..3, norms ..11, q ..43, k ..59, v ..75, o ..107
     * and norms ..115. */
    ASSERT_OK(ctx, qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_GATE, 1, &row));
    ck_assert_float_eq(memory[0], 120.0f);
    ASSERT_OK(ctx,
              qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_DOWN, 0, &column));
    ck_assert_float_eq(memory[DIM - 1], 127.0f);
    ASSERT_OK(ctx, qrb__llama2c_read(&checkpoint, QRB__LLAMA2C_UP, 0, &row));
    ck_assert_float_eq(memory[0], 132.0f);
    qrb__llama2c_close(&checkpoint);
    free(bytes);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("llama2c");
    TCase *checkpoints = tcase_create("llama2c");

    tcase_add_checked_fixture(checkpoints, set_up, tear_down);
    tcase_set_timeout(checkpoints, 60);
    tcase_add_test(checkpoints, weights_lie_where_the_format_says);
    tcase_add_test(checkpoints, matrices_of_one_row_are_read);
    tcase_add_test(checkpoints, a_positive_vocabulary_ties_the_head);
    tcase_add_test(checkpoints, reads_of_other_shapes_and_layers_are_refused);
    tcase_add_test(checkpoints, headers_out_of_range_are_refused_and_named);
    tcase_add_test(checkpoints, a_checkpoint_cut_or_changed_is_refused_or_read);
    tcase_add_test(checkpoints, no_failed_allocation_leaks_a_checkpoint);
    tcase_add_test(checkpoints,
                   a_trained_checkpoint_agrees_with_its_other_form);
    suite_add_tcase(suite, checkpoints);
    return run_suite(suite);
}
