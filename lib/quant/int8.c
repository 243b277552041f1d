/* LLM.int8() (Dettmers et al., NeurIPS 2022, arXiv:2208.07339; quantizers
 * 7.1): weights, and the product that it computes at run time.
 *
 * The largest magnitude s of a row becomes 127: code = rne(127 w / s), value =
 * code s / 127.  The product 127 w is exact for weights of up to 32 bits, so
 * that ties are those of the formula.  A row of zeros has scale and codes 0.
 * The product is O(tokens rows cols) on integers; it holds one row of
 * activations a worker and no float copy of the weights. */
#include "quant/quantizer.h"
#include "quant/round_even.h"
#include "tensor/run.h"

enum {
    LEVELS = 127,
    CODE_ZERO = 128, /* added where codes are stored */
    SUM_COLS = 1 << 16 /* 127 * 127 * SUM_COLS is below 2^31 */
};

static void layout(qrb_packed *packed, const qrb_quantizer_options *options,
                   uint32_t dtype)
{
    (void)options;
    (void)dtype;
    packed->unit = packed->cols;
    packed->groups = 1;
    packed->bits = 8;
    packed->code_zero = CODE_ZERO;
    packed->precision = QRB_F64;
}

static double absmax_of(const double *x, size_t n)
{
    double lo;
    double hi;

    qrb__grid_range_f64(x, n, &lo, &hi);
    return hi > -lo ? hi : -lo;
}

static void encode_absmax(const double *x, size_t n, double absmax,
                          int32_t *codes)
{
    /* A power of two, which changes no quotient, where 127 x would overflow. */
    const double shrink = absmax > 0x1p1000 ? 0x1p-8 : 1;
    const double s = absmax * shrink;

    for (size_t i = 0; i < n; i++)
        codes[i] =
            absmax > 0
                ? (int32_t)qrb__round_even_f64(LEVELS * (x[i] * shrink) / s)
                : 0;
}

static void fit(qrb_packed *packed, size_t unit, const void *run, size_t n)
{
    qrb__packed_set_scale(
        packed, unit, (struct qrb__grid_scale){ absmax_of(run, n) / LEVELS, 0 });
}

static void encode(const qrb_packed *packed, size_t unit, const void *run,
                   size_t n, int32_t *codes)
{
    (void)packed;
    (void)unit;
    /* The row's magnitude itself: 127 times its scale need not be it. */
    encode_absmax(run, n, absmax_of(run, n), codes);
}

static void decode(const qrb_packed *packed, size_t unit, const int32_t *codes,
                   size_t n, void *run)
{
    const struct qrb__grid_scale scale = qrb__packed_scale(packed, unit);

    qrb__grid_decode_f64(&scale, codes, n, run);
}

/* A float32 a row, as the official layout stores it. */
static double overhead(const qrb_packed *packed)
{
    return 32.0 * (double)packed->units;
}

const struct qrb__quantizer_kind qrb__quantizer_int8 = {
    .kind = QRB_QUANTIZER_INT8,
    .name = "int8",
    .check = qrb__quantizer_takes_no_options,
    .layout = layout,
    .fit = fit,
    .encode = encode,
    .decode = decode,
    .overhead = overhead,
};

struct product {
    const qrb_packed *weights; /* [rows, cols] */
    const struct qrb__view *x; /* [tokens, cols] */
    const struct qrb__view *y; /* [tokens, rows] */
    double threshold;          /* > 0, or 0: no column is an outlier */
    const double *bias;        /* [rows] or NULL */
    double *inputs;            /* [workers, cols] */
    double *outputs;           /* [workers, rows] */
    int32_t *codes;            /* [workers, cols] of a token */
    unsigned char *seen;       /* [workers, cols]: held an outlier */
    size_t *outliers;          /* [count], columns in ascending order */
    size_t outlier_count;
};

static bool is_outlier(double threshold, double x)
{
    return threshold > 0 && (x >= threshold || x <= -threshold);
}

static void find_outliers(size_t token, size_t worker, void *arg)
{
    const struct product *job = arg;
    const size_t cols = job->weights->cols;
    double *x = job->inputs + worker * cols;
    unsigned char *seen = job->seen + worker * cols;

    qrb__run_load(job->weights->ctx, job->x, token * cols, cols, QRB_F64, x);
    for (size_t c = 0; c < cols; c++)
        if (is_outlier(job->threshold, x[c]))
            seen[c] = 1;
}

/* Codes of a token with stored ones of a row. */
static int64_t dot_codes(const int32_t *a, const uint8_t *b, size_t n)
{
    int64_t total = 0;

    for (size_t begin = 0; begin < n; begin += SUM_COLS) {
        const size_t end = n - begin < SUM_COLS ? n : begin + SUM_COLS;
        int32_t sum = 0;

        for (size_t i = begin; i < end; i++)
            sum += a[i] * ((int32_t)b[i] - CODE_ZERO);
        total += sum;
    }
    return total;
}

static void multiply_token(size_t token, size_t worker, void *arg)
{
    const struct product *job = arg;
    const qrb_packed *w = job->weights;
    const size_t cols = w->cols;
    const double *scales = w->scales; /* s_b / 127 */
    double *x = job->inputs + worker * cols;
    double *y = job->outputs + worker * w->rows;
    int32_t *codes = job->codes + worker * cols;
    double absmax;

    qrb__run_load(w->ctx, job->x, token * cols, cols, QRB_F64, x);
    for (size_t r = 0; r < w->rows; r++) {
        const uint8_t *row = w->codes + r * w->row_bytes;
        double sum = job->bias != NULL ? job->bias[r] : 0;

        for (size_t i = 0; i < job->outlier_count; i++) {
            const size_t c = job->outliers[i];

            sum += x[c] * (((int32_t)row[c] - CODE_ZERO) * scales[r]);
        }
        y[r] = sum;
    }
    /* Only the outlying entries stay out of the row's magnitude, but whole
     * columns stay out of the product of codes. */
    for (size_t i = 0; i < job->outlier_count; i++)
        if (is_outlier(job->threshold, x[job->outliers[i]]))
            x[job->outliers[i]] = 0;
    absmax = absmax_of(x, cols);
    encode_absmax(x, cols, absmax, codes);
    for (size_t i = 0; i < job->outlier_count; i++)
        codes[job->outliers[i]] = 0;
    for (size_t r = 0; r < w->rows; r++)
        y[r] += (double)dot_codes(codes, w->codes + r * w->row_bytes, cols) *
                (absmax / LEVELS) * scales[r];
    qrb__packed_saturate(QRB_F64, y, w->rows, job->y->dtype);
    qrb__run_store(w->ctx, QRB_F64, y, token * w->rows, w->rows, job->y);
}

/* Shapes and types of everything, and that what is read is finite. */
static qrb_status check_product(const qrb_packed *weights, const qrb_tensor *x,
                                double threshold, const qrb_tensor *bias,
                                const qrb_tensor *y)
{
    qrb_context *ctx = weights->ctx;
    qrb_status status;
    size_t at;

    if (weights->kind != &qrb__quantizer_int8)
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "the weights are %s; int8 is expected",
                         weights->kind->name);
    if (qrb__packed_has_extras(weights))
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "the weights are more than int8 codes: inputs scaled, "
                         "or outliers or a residual beside them");
    if (x == NULL || y == NULL)
        return qrb__fail(ctx, QRB_E_INVALID_ARG, "x or y is NULL");
    if (!(threshold >= 0)) /* NaN too */
        return qrb__fail(ctx, QRB_E_INVALID_ARG,
                         "threshold is %g; 0 or more is allowed", threshold);
    status = qrb__packed_check_matrix(ctx, &x->view, "x");
    if (status == QRB_OK)
        status = qrb__packed_check_matrix(ctx, &y->view, "y");
    if (status != QRB_OK)
        return status;
    if (x->view.shape[1] != weights->cols ||
        y->view.shape[0] != x->view.shape[0] ||
        y->view.shape[1] != weights->rows)
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "x is [%zu, %zu] and y [%zu, %zu]; weights [%zu, "
                         "%zu] want [tokens, %zu] and [tokens, %zu]",
                         x->view.shape[0], x->view.shape[1], y->view.shape[0],
                         y->view.shape[1], weights->rows, weights->cols,
                         weights->cols, weights->rows);
    if (bias != NULL &&
        (bias->view.rank != 1 || bias->view.shape[0] != weights->rows ||
         (bias->view.dtype != QRB_F32 && bias->view.dtype != QRB_F64 &&
          bias->view.dtype != QRB_F16 && bias->view.dtype != QRB_BF16)))
        return qrb__fail(ctx, QRB_E_SHAPE,
                         "the bias is no float vector of %zu elements",
                         weights->rows);
    at = qrb__view_first_not_finite(ctx, &x->view);
    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE, "x[%zu, %zu] is not finite",
                         at / weights->cols, at % weights->cols);
    at = bias != NULL ? qrb__view_first_not_finite(ctx, &bias->view) : SIZE_MAX;
    if (at != SIZE_MAX)
        return qrb__fail(ctx, QRB_E_NOT_FINITE, "bias[%zu] is not finite", at);
    return QRB_OK;
}

qrb_status qrb_packed_int8_multiply(const qrb_packed *weights,
                                    const qrb_tensor *x, double threshold,
                                    const qrb_tensor *bias, qrb_tensor *y)
{
    struct product job = { .weights = weights, .threshold = threshold };
    double *bias_values = NULL;
    qrb_context *ctx;
    qrb_status status;
    size_t tokens;
    size_t workers;
    size_t inputs;
    size_t outputs;

    if (weights == NULL)
        return QRB_E_INVALID_ARG;
    ctx = weights->ctx;
    status = qrb__not_in_callback(ctx, __func__);
    if (status == QRB_OK)
        status = check_product(weights, x, threshold, bias, y);
    if (status != QRB_OK)
        return status;
    job.x = &x->view;
    job.y = &y->view;
    tokens = x->view.shape[0];
    workers = qrb_context_threads(ctx);
    if (workers > tokens)
        workers = tokens;
    if (!qrb__mul_size(workers, weights->cols, &inputs) ||
        !qrb__mul_size(workers, weights->rows, &outputs)) {
        status =
            qrb__fail(ctx, QRB_E_NO_MEMORY, "rows of %zu workers", workers);
        goto out;
    }
    job.inputs = qrb__alloc_array(ctx, inputs, sizeof *job.inputs);
    job.outputs = qrb__alloc_array(ctx, outputs, sizeof *job.outputs);
    job.codes = qrb__alloc_array(ctx, inputs, sizeof *job.codes);
    job.seen = qrb__alloc_array(ctx, inputs, 1);
    job.outliers = qrb__alloc_array(ctx, weights->cols, sizeof *job.outliers);
    bias_values = qrb__alloc_array(ctx, weights->rows, sizeof *bias_values);
    if (job.inputs == NULL || job.outputs == NULL || job.codes == NULL ||
        job.seen == NULL || job.outliers == NULL || bias_values == NULL) {
        status = qrb__fail(ctx, QRB_E_NO_MEMORY,
                           "rows of %zu and %zu elements for %zu workers",
                           weights->cols, weights->rows, workers);
        goto out;
    }
    if (bias != NULL) {
        qrb__run_load(ctx, &bias->view, 0, weights->rows, QRB_F64, bias_values);
        job.bias = bias_values;
    }
    qrb__parallel_for(ctx, tokens, find_outliers, &job);
    for (size_t c = 0; c < weights->cols; c++) {
        unsigned char seen = 0;

        for (size_t worker = 0; worker < workers; worker++)
            seen |= job.seen[worker * weights->cols + c];
        if (seen)
            job.outliers[job.outlier_count++] = c;
    }
    qrb__parallel_for(ctx, tokens, multiply_token, &job);
out:
    qrb__free(ctx, job.inputs);
    qrb__free(ctx, job.outputs);
    qrb__free(ctx, job.codes);
    qrb__free(ctx, job.seen);
    qrb__free(ctx, job.outliers);
    qrb__free(ctx, bias_values);
    return status;
}
