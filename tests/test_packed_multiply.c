/* Products of packed matrices against float64 products of what they
 * dequantize to. */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#include <qrobust/quantizer.h>

#include "core/random.h"
#include "harness.h"
#include "quant/packed.h"

/* One product: a quantizer's name or options, and extents. */
struct subject {
    qrb_quantizer_options options;
    size_t rows;
    size_t cols;
    size_t tokens;
    uint32_t act_bits;
    bool bias;
    unsigned extras;
};

static qrb_context *make_threads(int32_t threads)
{
    qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
    qrb_context *ctx = NULL;

    options.threads = threads;
    ck_assert_int_eq(qrb_context_create(&options, &ctx), QRB_OK);
    return ctx;
}

/* A tensor of its own memory, or a view where that is given. */
static qrb_status make_tensor(qrb_context *ctx, uint32_t dtype, uint32_t rank,
                              const size_t *shape, const int64_t *strides,
                              void *memory, qrb_tensor **out)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;

    options.dtype = dtype;
    options.rank = rank;
    options.memory = memory;
    for (uint32_t i = 0; i < rank; i++) {
        options.shape[i] = shape[i];
        options.strides[i] = strides == NULL ? 0 : strides[i];
    }
    return qrb_tensor_create(ctx, &options, out);
}

static void fill(float *x, size_t n, uint64_t seed)
{
    const struct qrb__random random = qrb__random_at(seed, 0, 0);

    for (size_t i = 0; i < n; i++)
        x[i] = (float)qrb__random_normal(&random, i);
}

static qrb_tensor *make_matrix(qrb_context *ctx, size_t rows, size_t cols,
                               uint64_t seed)
{
    const size_t shape[] = { rows, cols };
    qrb_tensor *tensor;

    ASSERT_OK(ctx, make_tensor(ctx, QRB_F32, 2, shape, NULL, NULL, &tensor));
    fill(qrb_tensor_memory(tensor), rows * cols, seed);
    return tensor;
}

static qrb_tensor *make_vector(qrb_context *ctx, size_t n, uint64_t seed)
{
    qrb_tensor *tensor;

    ASSERT_OK(ctx, make_tensor(ctx, QRB_F32, 1, &n, NULL, NULL, &tensor));
    fill(qrb_tensor_memory(tensor), n, seed);
    return tensor;
}

static qrb_packed *quantize(qrb_context *ctx, const struct subject *s)
{
    qrb_tensor *w = make_matrix(ctx, s->rows, s->cols, 1);
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    ASSERT_OK(ctx, qrb_quantizer_create(ctx, &s->options, &quantizer));
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, w, &packed));
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(w);
    return packed;
}

/* What methods may put beside the codes. */
enum extras { INPUT_SCALE = 1, SPARSE = 2, TABLE = 4 };

static void add_extras(qrb_context *ctx, unsigned extras, qrb_packed *packed)
{
    const size_t rows = packed->rows;
    const size_t cols = packed->cols;
    const size_t entries = rows << packed->bits;
    struct qrb__sparse *sparse = &packed->sparse;
    size_t n = 0;

    if (extras & INPUT_SCALE) {
        packed->input_scale = qrb__alloc_array(ctx, cols, sizeof(double));
        for (size_t i = 0; i < cols; i++)
            packed->input_scale[i] = 0.25 + (double)(i % 7);
    }
    if (extras & SPARSE) {
        sparse->row_start = qrb__alloc_array(ctx, rows + 1, sizeof(size_t));
        sparse->columns = qrb__alloc_array(ctx, rows * 2, sizeof(uint32_t));
        sparse->values = qrb__alloc_array(ctx, rows * 2, sizeof(float));
        for (size_t row = 0; row < rows; row++) {
            for (size_t i = 0; i < row % 3 && i < cols; i++, n++) {
                sparse->columns[n] =
                    (uint32_t)(i == 0 ? row % (cols - row % 3 / 2) : cols - 1);
                sparse->values[n] = 3.5f - (float)(n % 7);
            }
            sparse->row_start[row + 1] = n;
        }
    }
    if (extras & TABLE) {
        packed->table = qrb__alloc_array(ctx, entries, sizeof(float));
        fill(packed->table, entries, 9);
    }
}

/* The values of a table with what is beside it, for its kind decides whether
 * the decoder reads it. */
static void read_table(const qrb_packed *packed, float *w)
{
    const struct qrb__sparse *sparse = &packed->sparse;
    const size_t cols = packed->cols;

    for (size_t row = 0; row < packed->rows; row++) {
        for (size_t c = 0; c < cols; c++)
            w[row * cols + c] =
                packed->table[(row << packed->bits) +
                              qrb__code_at(packed->codes +
                                               row * packed->row_bytes,
                                           packed->bits, c)];
        for (size_t i = sparse->row_start == NULL ? 0 : sparse->row_start[row];
             sparse->row_start != NULL && i < sparse->row_start[row + 1]; i++)
            w[row * cols + sparse->columns[i]] += sparse->values[i];
        for (size_t c = 0; packed->input_scale != NULL && c < cols; c++)
            w[row * cols + c] =
                (float)((double)w[row * cols + c] / packed->input_scale[c]);
    }
}

/* y of a subject in `out` [tokens, rows]; returns the weights in `w`
 * [rows, cols] where that is not NULL. */
static void multiply(qrb_context *ctx, const struct subject *s, float *out,
                     float *w)
{
    qrb_packed_multiply_options options = QRB_PACKED_MULTIPLY_OPTIONS_INIT;
    qrb_packed *packed = quantize(ctx, s);
    qrb_tensor *x = make_matrix(ctx, s->tokens, s->cols, 2);
    qrb_tensor *bias = s->bias ? make_vector(ctx, s->rows, 3) : NULL;
    qrb_tensor *y = make_matrix(ctx, s->tokens, s->rows, 4);

    add_extras(ctx, s->extras, packed);
    options.act_bits = s->act_bits;
    ASSERT_OK(ctx, qrb_packed_multiply(packed, x, bias, &options, y));
    memcpy(out, qrb_tensor_memory(y), s->tokens * s->rows * sizeof *out);
    if (w != NULL) {
        qrb_tensor *weights = make_matrix(ctx, s->rows, s->cols, 5);

        ASSERT_OK(ctx, qrb_packed_dequantize(packed, weights));
        memcpy(w, qrb_tensor_memory(weights), s->rows * s->cols * sizeof *w);
        if (s->extras & TABLE)
            read_table(packed, w);
        qrb_tensor_destroy(weights);
    }
    qrb_packed_destroy(packed);
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(bias);
    qrb_tensor_destroy(y);
}

/* What a token's inputs become, in the coordinates of the codes and back. */
static void round_inputs(const struct subject *s, float *x)
{
    const uint32_t act_bits = s->act_bits;
    const bool scaled = (s->extras & INPUT_SCALE) != 0;
    const size_t n = s->cols;
    float largest = 1e-5f;

    for (size_t i = 0; act_bits != 0 && scaled && i < n; i++)
        x[i] = (float)((double)x[i] / (0.25 + (double)(i % 7)));

    for (size_t i = 0; act_bits != 0 && i < n; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    for (size_t i = 0; act_bits != 0 && i < n; i++)
        x[i] = rintf(x[i] / (largest / 127)) * (largest / 127);
    for (size_t i = 0; act_bits != 0 && scaled && i < n; i++)
        x[i] = (float)((double)x[i] * (0.25 + (double)(i % 7)));
}

/* |y - X W^T - b| / |X W^T + b|, in float64. */
static double relative_error(const struct subject *s, const float *y,
                             const float *w)
{
    float *x = malloc(s->tokens * s->cols * sizeof *x);
    float *bias = malloc(s->rows * sizeof *bias);
    double error = 0;
    double norm = 0;

    ck_assert(x != NULL && bias != NULL);
    fill(x, s->tokens * s->cols, 2);
    fill(bias, s->rows, 3);
    for (size_t t = 0; t < s->tokens; t++) {
        round_inputs(s, x + t * s->cols);
        for (size_t row = 0; row < s->rows; row++) {
            double sum = s->bias ? (double)bias[row] : 0;

            for (size_t c = 0; c < s->cols; c++)
                sum += (double)x[t * s->cols + c] *
                       (double)w[row * s->cols + c];
            error += pow((double)y[t * s->rows + row] - sum, 2);
            norm += sum * sum;
        }
    }
    free(x);
    free(bias);
    return sqrt(error / norm);
}

static void check(qrb_context *ctx, const struct subject *s)
{
    float *y = malloc(s->tokens * s->rows * sizeof *y);
    float *w = malloc(s->rows * s->cols * sizeof *w);
    double error;

    ck_assert(y != NULL && w != NULL);
    multiply(ctx, s, y, w);
    error = relative_error(s, y, w);
    /* Roundings of float32 in sums of up to 16 times their result. */
    if (!(error <= 3e-6))
        ck_abort_msg("extras %u, kind %u, %u bits, grid %u, groups of %zu, "
                     "[%zu, %zu], %zu tokens, act_bits %u: error %.3g",
                     s->extras, s->options.kind, s->options.bits,
                     s->options.grid,
                     s->options.group_size, s->rows, s->cols, s->tokens,
                     s->act_bits, error);
    free(y);
    free(w);
}

static struct subject subject_of(uint32_t kind, uint32_t bits,
                                 size_t group_size, size_t rows, size_t cols,
                                 size_t tokens)
{
    struct subject s = { .options = QRB_QUANTIZER_OPTIONS_INIT,
                         .rows = rows,
                         .cols = cols,
                         .tokens = tokens };

    s.options.kind = kind;
    s.options.bits = bits;
    s.options.group_size = group_size;
    return s;
}

START_TEST(products_are_those_of_the_dequantized_weights)
{
    static const size_t groups[] = { 0, 1, 7, 32, 48, 64, 96, 128, 160, 288 };
    static const size_t widths[] = { 1, 32, 33, 160, 301, 576 };
    static const size_t heights[] = { 1, 16, 17, 70 };
    static const size_t counts[] = { 1, 2, 9, 33 };
    qrb_context *ctx = make_threads(1);
    const uint32_t bits = (uint32_t)_i;
    size_t n = 0;

    for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
        for (size_t c = 0; c < sizeof widths / sizeof *widths; c++)
            for (uint32_t act_bits = 0; act_bits <= 8; act_bits += 8, n++) {
                struct subject s =
                    subject_of(QRB_QUANTIZER_RTN, bits, groups[g],
                               heights[n / 2 % 4], widths[c], counts[n % 4]);

                if (groups[g] > widths[c])
                    continue;
                s.act_bits = act_bits;
                s.bias = n % 3 == 0;
                check(ctx, &s);
            }
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(every_grid_and_kind_multiplies)
{
    qrb_context *ctx = make_threads(1);

    for (uint32_t grid = QRB_GRID_A_PAPER; grid <= QRB_GRID_S_ACT; grid++)
        for (size_t tokens = 1; tokens <= 2; tokens++) {
            struct subject s = subject_of(QRB_QUANTIZER_RTN, 4, 64, 20, 192,
                                          tokens);

            s.options.grid = grid;
            check(ctx, &s);
            s.act_bits = 8;
            check(ctx, &s);
            s.act_bits = 0;
            s.options.group_size = 0;
            s.options.granularity = QRB_PER_TENSOR;
            check(ctx, &s);
        }
    for (uint32_t act_bits = 0; act_bits <= 8; act_bits += 8) {
        struct subject int8 = subject_of(QRB_QUANTIZER_INT8, 4, 0, 20, 190, 3);
        struct subject nf4 = subject_of(QRB_QUANTIZER_NF4, 4, 0, 35, 192, 3);
        struct subject across = subject_of(QRB_QUANTIZER_NF4, 4, 0, 9, 77, 2);

        int8.act_bits = nf4.act_bits = across.act_bits = act_bits;
        check(ctx, &int8);
        check(ctx, &nf4);
        check(ctx, &across);
        across.options.double_quant = 1;
        check(ctx, &across);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Input scales, sparse weights and tables, with every way to multiply. */
START_TEST(what_is_beside_the_codes_takes_part)
{
    static const size_t counts[] = { 1, 3, 4, 60 };
    qrb_context *ctx = make_threads(1);

    for (unsigned extras = 1; extras <= 7; extras++)
        for (uint32_t bits = 2; bits <= 5; bits++)
            for (size_t i = 0; i < 4; i++)
                for (uint32_t act_bits = 0; act_bits <= 8; act_bits += 8) {
                    struct subject s = subject_of(QRB_QUANTIZER_RTN, bits, 32,
                                                  70, 150, counts[i]);

                    s.act_bits = act_bits;
                    s.extras = extras;
                    check(ctx, &s);
                    s.options.group_size = 48;
                    s.bias = true;
                    check(ctx, &s);
                }
    qrb_context_destroy(ctx);
}
END_TEST

/* More tokens than decode as they come, and than fit a pass. */
START_TEST(prompts_are_cut_into_passes)
{
    qrb_context *ctx = make_threads(1);
    struct subject s = subject_of(QRB_QUANTIZER_RTN, 4, 32, 33, 64, 700);

    check(ctx, &s);
    s.act_bits = 8;
    check(ctx, &s);
    s.options.group_size = 16;
    check(ctx, &s);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(bits_do_not_depend_on_the_number_of_threads)
{
    static const size_t counts[] = { 1, 5, 40, 90 };
    qrb_context *one = make_threads(1);
    qrb_context *four = make_threads(4);

    for (size_t i = 0; i < 4; i++)
        for (int kind = 0; kind < 3; kind++)
            for (uint32_t act_bits = 0; act_bits <= 8; act_bits += 8) {
                struct subject s =
                    subject_of(kind == 2 ? QRB_QUANTIZER_NF4
                                         : QRB_QUANTIZER_RTN,
                               4, kind == 1 ? 48 : 32, 200, 96, counts[i]);
                float a[90 * 200];
                float b[90 * 200];

                s.act_bits = act_bits;
                multiply(one, &s, a, NULL);
                multiply(four, &s, b, NULL);
                ck_assert_mem_eq(a, b, counts[i] * 200 * sizeof *a);
            }
    qrb_context_destroy(one);
    qrb_context_destroy(four);
}
END_TEST

/* Scales that are float16 are kept as such; a matrix of ones and twos has
 * them, and its product is exact. */
START_TEST(small_integers_multiply_exactly)
{
    qrb_context *ctx = make_threads(1);
    qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
    qrb_tensor *w = make_matrix(ctx, 3, 64, 1);
    qrb_tensor *x = make_matrix(ctx, 2, 64, 2);
    qrb_tensor *y = make_matrix(ctx, 2, 3, 3);
    float *weights = qrb_tensor_memory(w);
    float *inputs = qrb_tensor_memory(x);
    const float *outputs = qrb_tensor_memory(y);
    qrb_quantizer *quantizer;
    qrb_packed *packed;

    for (size_t i = 0; i < 3 * 64; i++)
        weights[i] = (float)(i * 7 % 16) - 5;
    for (size_t i = 0; i < 2 * 64; i++)
        inputs[i] = (float)(i * 5 % 9) - 4;
    ASSERT_OK(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
    ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, w, &packed));
    ck_assert_double_eq(qrb_packed_scales(packed)[0], 1);
    ASSERT_OK(ctx, qrb_packed_multiply(packed, x, NULL, NULL, y));
    for (size_t t = 0; t < 2; t++)
        for (size_t row = 0; row < 3; row++) {
            float sum = 0;

            for (size_t c = 0; c < 64; c++)
                sum += weights[row * 64 + c] * inputs[t * 64 + c];
            ck_assert_float_eq(outputs[t * 3 + row], sum);
        }
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(w);
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(y);
    qrb_context_destroy(ctx);
}
END_TEST

/* Weights whose scales floats cannot hold as normal numbers are decoded. */
START_TEST(extreme_scales_keep_their_products)
{
    static const double sizes[] = { 1e-42, 1e37 };
    qrb_context *ctx = make_threads(1);

    for (size_t i = 0; i < 2; i++) {
        qrb_quantizer_options options = QRB_QUANTIZER_OPTIONS_INIT;
        qrb_tensor *w = make_matrix(ctx, 1, 32, 1);
        qrb_tensor *x = make_matrix(ctx, 1, 32, 2);
        qrb_tensor *y = make_matrix(ctx, 1, 1, 3);
        float *weights = qrb_tensor_memory(w);
        qrb_quantizer *quantizer;
        qrb_packed *packed;
        double sum = 0;

        for (size_t c = 0; c < 32; c++) {
            weights[c] = (float)(sizes[i] * (double)(c % 16));
            ((float *)qrb_tensor_memory(x))[c] = 1;
            sum += sizes[i] * (double)(c % 16);
        }
        options.bits = 8;
        ASSERT_OK(ctx, qrb_quantizer_create(ctx, &options, &quantizer));
        ASSERT_OK(ctx, qrb_quantizer_quantize(quantizer, w, &packed));
        ASSERT_OK(ctx, qrb_packed_multiply(packed, x, NULL, NULL, y));
        /* Values are rounded to multiples of the smallest float. */
        ck_assert_double_le(
            fabs((double)*(float *)qrb_tensor_memory(y) -
                 fmin(sum, (double)FLT_MAX)),
            1e-5 * sum + 32 * (double)FLT_TRUE_MIN);
        qrb_packed_destroy(packed);
        qrb_quantizer_destroy(quantizer);
        qrb_tensor_destroy(w);
        qrb_tensor_destroy(x);
        qrb_tensor_destroy(y);
    }
    qrb_context_destroy(ctx);
}
END_TEST

/* Strides and types of the host: y^T in float16 from x in float64. */
START_TEST(tensors_may_be_of_any_float_type)
{
    qrb_context *ctx = make_threads(1);
    struct subject s = subject_of(QRB_QUANTIZER_RTN, 4, 32, 6, 64, 3);
    float expected[3 * 6];
    double wide[3 * 64];
    float x[3 * 64];
    uint16_t half[6 * 3];
    const size_t x_shape[] = { 3, 64 };
    const size_t y_shape[] = { 3, 6 };
    const int64_t strides[] = { 2, 6 };
    qrb_packed *packed = quantize(ctx, &s);
    qrb_tensor *inputs;
    qrb_tensor *outputs;

    multiply(ctx, &s, expected, NULL);
    fill(x, 3 * 64, 2);
    for (size_t i = 0; i < 3 * 64; i++)
        wide[i] = (double)x[i];
    ASSERT_OK(ctx, make_tensor(ctx, QRB_F64, 2, x_shape, NULL, wide,
                                   &inputs));
    ASSERT_OK(ctx, make_tensor(ctx, QRB_F16, 2, y_shape, strides, half,
                                   &outputs));
    ASSERT_OK(ctx, qrb_packed_multiply(packed, inputs, NULL, NULL, outputs));
    for (size_t t = 0; t < 3; t++)
        for (size_t row = 0; row < 6; row++) {
            const size_t one = 1;
            float back;
            qrb_tensor *from;
            qrb_tensor *to;

            ASSERT_OK(ctx, make_tensor(ctx, QRB_F16, 1, &one, NULL,
                                           &half[row * 3 + t], &from));
            ASSERT_OK(ctx, make_tensor(ctx, QRB_F32, 1, &one, NULL, &back,
                                           &to));
            ASSERT_OK(ctx, qrb_tensor_copy(from, to));
            ck_assert_double_le(
                fabs((double)back - (double)expected[t * 6 + row]),
                0x1p-11 * fabs((double)expected[t * 6 + row]));
            qrb_tensor_destroy(from);
            qrb_tensor_destroy(to);
        }
    qrb_tensor_destroy(inputs);
    qrb_tensor_destroy(outputs);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

START_TEST(what_does_not_fit_is_refused)
{
    qrb_context *ctx = make_threads(1);
    struct subject s = subject_of(QRB_QUANTIZER_RTN, 4, 32, 6, 64, 3);
    qrb_packed_multiply_options options = QRB_PACKED_MULTIPLY_OPTIONS_INIT;
    const size_t shape[] = { 3, 6 };
    qrb_packed *packed = quantize(ctx, &s);
    qrb_tensor *x = make_matrix(ctx, 3, 64, 1);
    qrb_tensor *y = make_matrix(ctx, 3, 6, 2);
    qrb_tensor *bias = make_vector(ctx, 6, 3);
    qrb_tensor *integers;
    float before[18];

    memcpy(before, qrb_tensor_memory(y), sizeof before);
    ASSERT_OK(ctx, make_tensor(ctx, QRB_I32, 2, shape, NULL, NULL, &integers));
    ck_assert_int_eq(qrb_packed_multiply(NULL, x, NULL, NULL, y),
                     QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, NULL, NULL, NULL, y),
                 QRB_E_INVALID_ARG, "x is NULL");
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, NULL, NULL, NULL),
                 QRB_E_INVALID_ARG, "y is NULL");
    options.act_bits = 4;
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, NULL, &options, y),
                 QRB_E_INVALID_ARG, "act_bits is 4; 0 or 8 is allowed");
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, y, NULL, NULL, y),
                 QRB_E_SHAPE, "x is [3, 6]");
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, NULL, NULL, x),
                 QRB_E_SHAPE, "y [3, 64]");
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, y, NULL, y), QRB_E_SHAPE,
                 "no vector of 6");
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, NULL, NULL, integers),
                 QRB_E_UNSUPPORTED, "y is");
    ((float *)qrb_tensor_memory(bias))[5] = INFINITY;
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, bias, NULL, y),
                 QRB_E_NOT_FINITE, "bias: element 5");
    ((float *)qrb_tensor_memory(x))[70] = NAN;
    ASSERT_FAILS(ctx, qrb_packed_multiply(packed, x, NULL, NULL, y),
                 QRB_E_NOT_FINITE, "x: element 70");
    ck_assert_mem_eq(before, qrb_tensor_memory(y), sizeof before);
    qrb_tensor_destroy(integers);
    qrb_tensor_destroy(bias);
    qrb_tensor_destroy(x);
    qrb_tensor_destroy(y);
    qrb_packed_destroy(packed);
    qrb_context_destroy(ctx);
}
END_TEST

static qrb_status multiply_once(qrb_context *ctx, void *arg)
{
    const struct subject *s = arg;
    const size_t w_shape[] = { s->rows, s->cols };
    const size_t x_shape[] = { s->tokens, s->cols };
    const size_t y_shape[] = { s->tokens, s->rows };
    float w[8 * 64];
    float x[2 * 64];
    float y[2 * 8];
    qrb_tensor *weights = NULL;
    qrb_tensor *inputs = NULL;
    qrb_tensor *outputs = NULL;
    qrb_tensor *bias = NULL;
    qrb_quantizer *quantizer = NULL;
    qrb_packed *packed = NULL;
    qrb_status status;

    fill(w, 8 * 64, 1);
    fill(x, 2 * 64, 2);
    status = make_tensor(ctx, QRB_F32, 2, w_shape, NULL, w, &weights);
    if (status == QRB_OK)
        status = make_tensor(ctx, QRB_F32, 2, x_shape, NULL, x, &inputs);
    if (status == QRB_OK)
        status = make_tensor(ctx, QRB_F32, 2, y_shape, NULL, y, &outputs);
    if (status == QRB_OK)
        status = make_tensor(ctx, QRB_F32, 1, &s->rows, NULL, w, &bias);
    if (status == QRB_OK)
        status = qrb_quantizer_create(ctx, &s->options, &quantizer);
    if (status == QRB_OK)
        status = qrb_quantizer_quantize(quantizer, weights, &packed);
    if (status == QRB_OK)
        status = qrb_packed_multiply(packed, inputs, bias, NULL, outputs);
    qrb_packed_destroy(packed);
    qrb_quantizer_destroy(quantizer);
    qrb_tensor_destroy(bias);
    qrb_tensor_destroy(outputs);
    qrb_tensor_destroy(inputs);
    qrb_tensor_destroy(weights);
    return status;
}

START_TEST(no_allocation_fails_unnoticed)
{
    struct subject integers = subject_of(QRB_QUANTIZER_RTN, 4, 32, 8, 64, 2);
    struct subject decoded = subject_of(QRB_QUANTIZER_NF4, 4, 0, 8, 64, 2);

    fail_each_allocation(multiply_once, &integers);
    fail_each_allocation(multiply_once, &decoded);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("packed_multiply");
    TCase *products = tcase_create("products");

    tcase_set_timeout(products, 60);
    tcase_add_loop_test(products,
                        products_are_those_of_the_dequantized_weights, 2, 9);
    tcase_add_test(products, every_grid_and_kind_multiplies);
    tcase_add_test(products, what_is_beside_the_codes_takes_part);
    tcase_add_test(products, prompts_are_cut_into_passes);
    tcase_add_test(products, bits_do_not_depend_on_the_number_of_threads);
    tcase_add_test(products, small_integers_multiply_exactly);
    tcase_add_test(products, extreme_scales_keep_their_products);
    tcase_add_test(products, tensors_may_be_of_any_float_type);
    tcase_add_test(products, what_does_not_fit_is_refused);
    tcase_add_test(products, no_allocation_fails_unnoticed);
    suite_add_tcase(suite, products);
    return run_suite(suite);
}
