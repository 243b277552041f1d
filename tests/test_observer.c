/* Observers: sums over inputs, whatever their shape, type and order. */
#include <float.h>
#include <math.h>

#include "harness.h"

#include <qrobust/observer.h>

#include "io/bytes.h"
#include "io/container.h"

static char directory[64];
static char path[256];
static qrb_context *ctx;

static void set_up(void)
{
    make_directory(directory);
    in_directory(directory, "observer", path);
    ctx = make_context(NULL);
}

static void tear_down(void)
{
    qrb_context_destroy(ctx);
    remove_directory(directory);
}

static qrb_tensor *matrix(qrb_context *of, uint32_t dtype, size_t rows,
                          size_t cols, void *memory)
{
    qrb_tensor_options options = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *tensor;

    options.dtype = dtype;
    options.rank = 2;
    options.shape[0] = rows;
    options.shape[1] = cols;
    options.memory = memory;
    ASSERT_OK(of, qrb_tensor_create(of, &options, &tensor));
    return tensor;
}

static qrb_observer *observer_of(qrb_context *of, size_t columns)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_observer *observer;

    options.columns = columns;
    ASSERT_OK(of, qrb_observer_create(of, &options, &observer));
    return observer;
}

/* Small integers, so that every sum is exact. */
static void fill(uint32_t seed, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++) {
        seed = 1664525u * seed + 1013904223u;
        out[i] = (float)(int)(seed >> 28) - 8;
    }
}

static void add(qrb_observer *observer, size_t tokens, size_t columns, float *x)
{
    qrb_tensor *tensor = matrix(ctx, QRB_F32, tokens, columns, x);

    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    qrb_tensor_destroy(tensor);
}

static double *gram_of(const qrb_observer *observer)
{
    const size_t columns = qrb_observer_columns(observer);
    double *gram = malloc(columns * columns * sizeof *gram);
    qrb_tensor *tensor = matrix(ctx, QRB_F64, columns, columns, gram);

    ASSERT_OK(ctx, qrb_observer_read_gram(observer, tensor));
    qrb_tensor_destroy(tensor);
    return gram;
}

/* Columns around a band's edge, tokens around a chunk's. */
START_TEST(the_gram_matrix_is_that_of_all_tokens)
{
    static const size_t shapes[][2] = { { 1, 1 },    { 5, 3 },  { 1025, 7 },
                                        { 3, 511 },  { 2, 512 }, { 3, 513 },
                                        { 17, 1100 } };
    const size_t tokens = shapes[_i][0];
    const size_t columns = shapes[_i][1];
    float *x = malloc(tokens * columns * sizeof *x);
    qrb_observer *observer = observer_of(ctx, columns);
    double *gram;

    fill((uint32_t)_i, tokens * columns, x);
    add(observer, tokens, columns, x);
    gram = gram_of(observer);
    for (size_t i = 0; i < columns; i++)
        for (size_t j = 0; j < columns; j++) {
            double sum = 0;

            for (size_t t = 0; t < tokens; t++)
                sum += (double)x[t * columns + i] * (double)x[t * columns + j];
            ck_assert_double_eq(gram[i * columns + j], sum);
        }
    for (size_t j = 0; j < columns; j++) {
        double sum = 0;
        double lo = (double)x[j];
        double hi = (double)x[j];

        for (size_t t = 0; t < tokens; t++) {
            const double at = (double)x[t * columns + j];

            sum += fabs(at);
            lo = at < lo ? at : lo;
            hi = at > hi ? at : hi;
        }
        ck_assert_double_eq(qrb_observer_abs_sums(observer)[j], sum);
        ck_assert_double_eq(qrb_observer_minima(observer)[j], lo);
        ck_assert_double_eq(qrb_observer_maxima(observer)[j], hi);
    }
    free(gram);
    free(x);
    qrb_observer_destroy(observer);
}
END_TEST

/* Quantizers 2.6 E1: H = (2 / sequences) G. */
START_TEST(the_hessian_of_the_example_comes_out)
{
    static float first[] = { 1, .5f, -.5f, .25f, .5f, 1, .25f, 0 };
    static float second[] = { -1, .5f, 1, .5f, .25f, -.5f, .75f, 1 };
    static const double hessian[] = { 2.3125,  .375,  -1.1875, 0,
                                      .375,    1.75,  .125,    -.125,
                                      -1.1875, .125,  1.875,   1.125,
                                      0,       -.125, 1.125,   1.3125 };
    qrb_observer *observer = observer_of(ctx, 4);
    double *gram;

    add(observer, 2, 4, first);
    add(observer, 2, 4, second);
    ck_assert_uint_eq(qrb_observer_sequences(observer), 2);
    ck_assert_uint_eq(qrb_observer_tokens(observer), 4);
    gram = gram_of(observer);
    for (size_t i = 0; i < 16; i++)
        ck_assert_double_eq(gram[i] * 2 / 2, hessian[i]);
    free(gram);
    qrb_observer_destroy(observer);
}
END_TEST

/* Thirds have no exact squares in float32: |error| <= (tokens + 2) eps sum. */
START_TEST(doubles_are_summed_in_double)
{
    enum { TOKENS = 40, COLUMNS = 6 };
    double x[TOKENS * COLUMNS];
    qrb_tensor *tensor = matrix(ctx, QRB_F64, TOKENS, COLUMNS, x);
    qrb_observer *observer = observer_of(ctx, COLUMNS);
    double *gram;

    for (size_t i = 0; i < TOKENS * COLUMNS; i++)
        x[i] = 1.0 / 3.0 * (double)(i % 11);
    ASSERT_OK(ctx, qrb_observer_add(observer, tensor));
    gram = gram_of(observer);
    for (size_t i = 0; i < COLUMNS; i++)
        for (size_t j = 0; j < COLUMNS; j++) {
            double sum = 0;

            for (size_t t = 0; t < TOKENS; t++)
                sum += x[t * COLUMNS + i] * x[t * COLUMNS + j];
            ck_assert_double_eq_tol(gram[i * COLUMNS + j], sum,
                                    (TOKENS + 2) * DBL_EPSILON * sum);
        }
    free(gram);
    qrb_observer_destroy(observer);
    qrb_tensor_destroy(tensor);
}
END_TEST

/* Squares of these leave float32 above and below. */
START_TEST(inputs_of_any_scale_have_a_finite_gram_matrix)
{
    static const float scales[] = { 1e30f, 1e-30f, FLT_MAX, 1e-40f };
    float x[] = { scales[_i], scales[_i] / 2, 0, -scales[_i] };
    qrb_observer *observer = observer_of(ctx, 2);
    double *gram;

    add(observer, 2, 2, x);
    gram = gram_of(observer);
    ck_assert_double_eq(gram[0], (double)x[0] * (double)x[0]);
    ck_assert_double_eq(gram[1], (double)x[0] * (double)x[1]);
    ck_assert_double_gt(gram[3], gram[0]);
    free(gram);
    qrb_observer_destroy(observer);
}
END_TEST

START_TEST(threads_and_pieces_of_memory_change_no_bit)
{
    enum { TOKENS = 70, COLUMNS = 600 };
    static float x[TOKENS * COLUMNS];
    static uint16_t wide[TOKENS][2 * COLUMNS];
    qrb_tensor_options strided = QRB_TENSOR_OPTIONS_INIT;
    double *expected = NULL;

    for (size_t i = 0; i < TOKENS * COLUMNS; i++)
        x[i] = sinf((float)i);
    strided.dtype = QRB_F16;
    strided.rank = 2;
    strided.shape[0] = TOKENS;
    strided.shape[1] = COLUMNS;
    strided.strides[0] = sizeof wide[0];
    strided.strides[1] = 4;
    strided.memory = wide;
    for (size_t threads = 1; threads < 6; threads += 2) {
        qrb_context_options options = QRB_CONTEXT_OPTIONS_INIT;
        qrb_context *of;
        qrb_tensor *floats;
        qrb_tensor *halves;
        qrb_tensor *back;
        qrb_observer *observer;
        qrb_observer *of_halves;
        double *gram;
        double *gram_of_halves;

        options.threads = threads;
        ck_assert_int_eq(qrb_context_create(&options, &of), QRB_OK);
        floats = matrix(of, QRB_F32, TOKENS, COLUMNS, x);
        ASSERT_OK(of, qrb_tensor_create(of, &strided, &halves));
        back = matrix(of, QRB_F32, TOKENS, COLUMNS, NULL);
        observer = observer_of(of, COLUMNS);
        of_halves = observer_of(of, COLUMNS);
        ASSERT_OK(of, qrb_tensor_copy(floats, halves));
        ASSERT_OK(of, qrb_tensor_copy(halves, back));
        ASSERT_OK(of, qrb_observer_add(observer, back));
        ASSERT_OK(of, qrb_observer_add(of_halves, halves));
        gram = gram_of(observer);
        gram_of_halves = gram_of(of_halves);
        ck_assert_mem_eq(gram, gram_of_halves,
                         COLUMNS * COLUMNS * sizeof *gram);
        if (expected == NULL)
            expected = gram;
        else
            ck_assert_mem_eq(gram, expected, COLUMNS * COLUMNS * sizeof *gram);
        if (gram != expected)
            free(gram);
        free(gram_of_halves);
        qrb_observer_destroy(of_halves);
        qrb_observer_destroy(observer);
        qrb_tensor_destroy(back);
        qrb_tensor_destroy(halves);
        qrb_tensor_destroy(floats);
        qrb_context_destroy(of);
    }
    free(expected);
}
END_TEST

static void assert_same(const qrb_observer *a, const qrb_observer *b)
{
    const size_t columns = qrb_observer_columns(a);
    double *gram = gram_of(a);
    double *other = gram_of(b);

    ck_assert_uint_eq(qrb_observer_columns(b), columns);
    ck_assert_uint_eq(qrb_observer_what(b), qrb_observer_what(a));
    ck_assert_uint_eq(qrb_observer_sequences(b), qrb_observer_sequences(a));
    ck_assert_uint_eq(qrb_observer_tokens(b), qrb_observer_tokens(a));
    ck_assert_mem_eq(gram, other, columns * columns * sizeof *gram);
    ck_assert_mem_eq(qrb_observer_abs_sums(a), qrb_observer_abs_sums(b),
                     columns * sizeof *gram);
    ck_assert_mem_eq(qrb_observer_minima(a), qrb_observer_minima(b),
                     columns * sizeof *gram);
    ck_assert_mem_eq(qrb_observer_maxima(a), qrb_observer_maxima(b),
                     columns * sizeof *gram);
    free(gram);
    free(other);
}

START_TEST(merging_is_adding_the_sequences_of_the_other)
{
    enum { COLUMNS = 515 };
    static float x[9 * COLUMNS];
    qrb_observer *all = observer_of(ctx, COLUMNS);
    qrb_observer *first = observer_of(ctx, COLUMNS);
    qrb_observer *second = observer_of(ctx, COLUMNS);
    qrb_observer *none = observer_of(ctx, COLUMNS);

    fill(3, 9 * COLUMNS, x);
    for (size_t i = 0; i < 9 * COLUMNS; i++)
        x[i] += 20; /* an empty observer's zeros must not become minima */
    add(all, 4, COLUMNS, x);
    add(all, 5, COLUMNS, x + 4 * COLUMNS);
    add(first, 4, COLUMNS, x);
    add(second, 5, COLUMNS, x + 4 * COLUMNS);
    ASSERT_OK(ctx, qrb_observer_merge(first, none));
    ASSERT_OK(ctx, qrb_observer_merge(none, first));
    ASSERT_OK(ctx, qrb_observer_merge(none, second));
    assert_same(all, none);
    ASSERT_OK(ctx, qrb_observer_merge(none, none));
    ASSERT_OK(ctx, qrb_observer_merge(all, none));
    ck_assert_uint_eq(qrb_observer_tokens(all), 27);
    ck_assert_double_eq(qrb_observer_abs_sums(all)[1],
                        qrb_observer_abs_sums(none)[1] * 1.5);
    qrb_observer_destroy(all);
    qrb_observer_destroy(first);
    qrb_observer_destroy(second);
    qrb_observer_destroy(none);
}
END_TEST

START_TEST(what_is_saved_comes_back)
{
    enum { COLUMNS = 530 };
    static float x[3 * COLUMNS];
    qrb_source source = QRB_SOURCE_INIT;
    qrb_observer *observer = observer_of(ctx, COLUMNS);
    qrb_observer *loaded;

    for (size_t i = 0; i < 3 * COLUMNS; i++)
        x[i] = sinf((float)i);
    source.path = path;
    ASSERT_OK(ctx, qrb_observer_save(observer, path));
    ASSERT_OK(ctx, qrb_observer_load(ctx, &source, &loaded));
    assert_same(observer, loaded);
    qrb_observer_destroy(loaded);
    add(observer, 3, COLUMNS, x);
    ASSERT_OK(ctx, qrb_observer_save(observer, path));
    ASSERT_OK(ctx, qrb_observer_load(ctx, &source, &loaded));
    assert_same(observer, loaded);
    qrb_observer_destroy(loaded);
    qrb_observer_destroy(observer);
}
END_TEST

START_TEST(only_what_was_asked_for_is_kept)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_source source = QRB_SOURCE_INIT;
    float x[] = { 1, -2, 3 };
    qrb_observer *grams;
    qrb_observer *ranges;
    qrb_observer *loaded;
    qrb_tensor *out = matrix(ctx, QRB_F32, 3, 3, NULL);

    options.columns = 3;
    options.what = QRB_OBSERVE_RANGES;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &ranges));
    options.what = QRB_OBSERVE_GRAM;
    ASSERT_OK(ctx, qrb_observer_create(ctx, &options, &grams));
    add(ranges, 1, 3, x);
    add(grams, 1, 3, x);
    ck_assert_double_eq(qrb_observer_minima(ranges)[1], -2);
    ck_assert_ptr_null(qrb_observer_minima(grams));
    ck_assert_ptr_null(qrb_observer_maxima(grams));
    ck_assert_ptr_null(qrb_observer_abs_sums(grams));
    ASSERT_OK(ctx, qrb_observer_read_gram(grams, out));
    ck_assert_float_eq(((float *)qrb_tensor_memory(out))[5], -6);
    ASSERT_FAILS(ctx, qrb_observer_read_gram(ranges, out), QRB_E_STATE,
                 "no Gram matrix");
    ASSERT_FAILS(ctx, qrb_observer_merge(grams, ranges), QRB_E_INVALID_ARG,
                 "other statistics");
    ASSERT_OK(ctx, qrb_observer_save(ranges, path));
    source.path = path;
    ASSERT_OK(ctx, qrb_observer_load(ctx, &source, &loaded));
    ck_assert_uint_eq(qrb_observer_what(loaded), QRB_OBSERVE_RANGES);
    qrb_observer_destroy(loaded);
    qrb_observer_destroy(grams);
    qrb_observer_destroy(ranges);
    qrb_tensor_destroy(out);
}
END_TEST

START_TEST(what_cannot_be_observed_is_refused_and_leaves_no_trace)
{
    float x[4] = { 1, 2, 3, NAN };
    double far[4] = { 1, 2, 3, 0x1p401 };
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_observer *observer = observer_of(ctx, 2);
    qrb_observer *wider = observer_of(ctx, 3);
    qrb_observer *out = observer;
    qrb_tensor *floats = matrix(ctx, QRB_F32, 2, 2, x);
    qrb_tensor *doubles = matrix(ctx, QRB_F64, 2, 2, far);
    qrb_tensor *codes = matrix(ctx, QRB_I32, 2, 2, NULL);
    qrb_tensor *wide = matrix(ctx, QRB_F64, 2, 3, NULL);
    qrb_tensor *halves = matrix(ctx, QRB_F16, 2, 2, NULL);
    double *gram;

    ASSERT_FAILS(ctx, qrb_observer_add(observer, floats), QRB_E_NOT_FINITE,
                 "x[1, 1] is not finite");
    x[3] = -INFINITY;
    ASSERT_FAILS(ctx, qrb_observer_add(observer, floats), QRB_E_NOT_FINITE,
                 "x[1, 1] is not finite");
    ASSERT_FAILS(ctx, qrb_observer_add(observer, doubles), QRB_E_NOT_FINITE,
                 "beyond 2^400");
    ASSERT_FAILS(ctx, qrb_observer_add(observer, codes), QRB_E_UNSUPPORTED,
                 "x is I32");
    ASSERT_FAILS(ctx, qrb_observer_add(observer, wide), QRB_E_SHAPE,
                 "x is [2, 3]; [tokens, 2] is expected");
    ASSERT_FAILS(ctx, qrb_observer_add(observer, NULL), QRB_E_INVALID_ARG,
                 "x is NULL");
    ck_assert_int_eq(qrb_observer_add(NULL, floats), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_observer_merge(observer, wider), QRB_E_SHAPE,
                 "3 columns, this has 2");
    ASSERT_FAILS(ctx, qrb_observer_merge(observer, NULL), QRB_E_INVALID_ARG,
                 "NULL");
    ck_assert_int_eq(qrb_observer_merge(NULL, wider), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_observer_read_gram(observer, wide), QRB_E_SHAPE,
                 "[2, 2] is expected");
    ASSERT_FAILS(ctx, qrb_observer_read_gram(observer, halves),
                 QRB_E_UNSUPPORTED, "F64 or F32");
    ck_assert_int_eq(qrb_observer_read_gram(NULL, wide), QRB_E_INVALID_ARG);
    ck_assert_uint_eq(qrb_observer_sequences(observer), 0);
    ck_assert_uint_eq(qrb_observer_tokens(observer), 0);
    gram = gram_of(observer);
    for (size_t i = 0; i < 4; i++)
        ck_assert_double_eq(gram[i], 0);
    free(gram);

    ASSERT_FAILS(ctx, qrb_observer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "columns 0");
    ck_assert_ptr_null(out);
    options.columns = 2;
    options.what = 4;
    ASSERT_FAILS(ctx, qrb_observer_create(ctx, &options, &out),
                 QRB_E_INVALID_ARG, "what 4");
    options.what = QRB_OBSERVE_GRAM;
    options.columns = SIZE_MAX / 16;
    ASSERT_FAILS(ctx, qrb_observer_create(ctx, &options, &out),
                 QRB_E_NO_MEMORY, "statistics");
    ck_assert_int_eq(qrb_observer_create(NULL, &options, &out),
                     QRB_E_INVALID_ARG);
    ck_assert_int_eq(qrb_observer_save(NULL, path), QRB_E_INVALID_ARG);
    ASSERT_FAILS(ctx, qrb_observer_save(observer, NULL), QRB_E_INVALID_ARG,
                 "path");
    ASSERT_FAILS(ctx, qrb_observer_load(ctx, NULL, &out), QRB_E_INVALID_ARG,
                 "source");
    ck_assert_uint_eq(qrb_observer_columns(NULL), 0);
    ck_assert_uint_eq(qrb_observer_what(NULL), 0);
    ck_assert_uint_eq(qrb_observer_tokens(NULL), 0);
    ck_assert_uint_eq(qrb_observer_sequences(NULL), 0);
    ck_assert_ptr_null(qrb_observer_abs_sums(NULL));
    ck_assert_ptr_null(qrb_observer_minima(NULL));
    ck_assert_ptr_null(qrb_observer_maxima(NULL));
    qrb_observer_destroy(NULL);

    qrb_observer_destroy(observer);
    qrb_observer_destroy(wider);
    qrb_tensor_destroy(floats);
    qrb_tensor_destroy(doubles);
    qrb_tensor_destroy(codes);
    qrb_tensor_destroy(wide);
    qrb_tensor_destroy(halves);
}
END_TEST

/* Sound containers with content that no observer writes. */
struct forgery {
    uint64_t head[4]; /* columns, what, sequences, tokens */
    double gram[4];
    double abs_sums[2];
    double minima[2];
    double maxima[2];
};

static qrb_status load_forgery(const struct forgery *forgery, size_t columns)
{
    const size_t ranges = columns * sizeof(double);
    const struct qrb__section sections[] = {
        { "observer", forgery->head, sizeof forgery->head },
        { "gram", forgery->gram, columns * ranges },
        { "abs_sums", forgery->abs_sums, ranges },
        { "minima", forgery->minima, ranges },
        { "maxima", forgery->maxima, ranges },
    };
    qrb_source source = QRB_SOURCE_INIT;
    qrb_observer *observer = NULL;
    qrb_status status;

    source.path = path;
    ASSERT_OK(ctx, qrb__container_write(ctx, path, QRB__CONTAINER_OBSERVER, 1,
                                        sections, 5));
    status = qrb_observer_load(ctx, &source, &observer);
    ck_assert(status == QRB_OK || observer == NULL);
    qrb_observer_destroy(observer);
    return status;
}

START_TEST(forged_statistics_are_refused)
{
    const struct forgery sound = { { 2, 3, 1, 1 },
                                   { 1, 2, 2, 4 },
                                   { 1, 2 },
                                   { 1, -2 },
                                   { 1, -2 } };
    struct forgery forged;

    ASSERT_OK(ctx, load_forgery(&sound, 2));
    /* Absurd widths, unknown statistics, arrays of another size. */
    forged = sound;
    forged.head[0] = 0;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    forged.head[0] = UINT64_C(1) << 62;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    forged.head[0] = UINT64_C(1) << 31;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    forged.head[0] = 1;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    forged.head[0] = 1;
    forged.head[1] = QRB_OBSERVE_GRAM;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "section gram");
    forged = sound;
    forged.head[1] = 8;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    forged.head[1] = UINT64_C(1) << 32 | 3;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "do not fit");
    /* Counts and sums that no inputs have. */
    forged = sound;
    forged.head[2] = 2;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged.head[2] = 0;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.head[3] = UINT64_MAX;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.gram[1] = NAN;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.gram[3] = -1;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.minima[0] = INFINITY;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.minima[0] = 2;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
    forged = sound;
    forged.abs_sums[0] = -1;
    ASSERT_FAILS(ctx, load_forgery(&forged, 2), QRB_E_FORMAT, "no inputs");
}
END_TEST

static qrb_status whole_life(qrb_context *of, void *arg)
{
    qrb_observer_options options = QRB_OBSERVER_OPTIONS_INIT;
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_source source = QRB_SOURCE_INIT;
    float x[6] = { 1, 2, 3, 4, 5, 6 };
    qrb_observer *observer = NULL;
    qrb_observer *loaded = NULL;
    qrb_tensor *tensor = NULL;
    qrb_tensor *gram = NULL;
    qrb_status status;

    source.path = arg;
    options.columns = 3;
    shape.rank = 2;
    shape.dtype = QRB_F32;
    shape.shape[0] = 2;
    shape.shape[1] = 3;
    shape.memory = x;
    status = qrb_tensor_create(of, &shape, &tensor);
    shape.shape[0] = 3;
    shape.memory = NULL;
    if (status == QRB_OK)
        status = qrb_tensor_create(of, &shape, &gram);
    if (status == QRB_OK)
        status = qrb_observer_create(of, &options, &observer);
    if (status == QRB_OK) {
        status = qrb_observer_add(observer, tensor);
        ck_assert_uint_eq(qrb_observer_tokens(observer),
                          status == QRB_OK ? 2 : 0);
    }
    if (status == QRB_OK)
        status = qrb_observer_read_gram(observer, gram);
    if (status == QRB_OK)
        status = qrb_observer_save(observer, arg);
    if (status == QRB_OK)
        status = qrb_observer_load(of, &source, &loaded);
    qrb_observer_destroy(observer);
    qrb_observer_destroy(loaded);
    qrb_tensor_destroy(tensor);
    qrb_tensor_destroy(gram);
    return status;
}

START_TEST(every_allocation_may_fail)
{
    fail_each_allocation(whole_life, path);
}
END_TEST

static Suite *observer_suite(void)
{
    Suite *suite = suite_create("observer");
    TCase *tests = tcase_create("observer");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_add_loop_test(tests, the_gram_matrix_is_that_of_all_tokens, 0, 7);
    tcase_add_test(tests, the_hessian_of_the_example_comes_out);
    tcase_add_test(tests, doubles_are_summed_in_double);
    tcase_add_loop_test(tests, inputs_of_any_scale_have_a_finite_gram_matrix, 0,
                        4);
    tcase_add_test(tests, threads_and_pieces_of_memory_change_no_bit);
    tcase_add_test(tests, merging_is_adding_the_sequences_of_the_other);
    tcase_add_test(tests, what_is_saved_comes_back);
    tcase_add_test(tests, only_what_was_asked_for_is_kept);
    tcase_add_test(tests,
                   what_cannot_be_observed_is_refused_and_leaves_no_trace);
    tcase_add_test(tests, forged_statistics_are_refused);
    tcase_add_test(tests, every_allocation_may_fail);
    suite_add_tcase(suite, tests);
    return suite;
}

int main(void)
{
    return run_suite(observer_suite());
}
