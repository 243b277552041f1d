/* The table of hot loops.  A kernel is a pure function of arrays: it does not
 * allocate, cannot fail, and touches nothing past its arguments.  The table
 * starts as the plain twins and each instruction set that the processor has
 * overwrites what it does better (dispatch.c). */
#ifndef QRB_KERNEL_KERNELS_H
#define QRB_KERNEL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "kernel/codes.h"

/* What AdamW needs beside its arrays; the corrections are 1 - beta^t. */
struct qrb__adamw {
    double lr;
    double beta1;
    double beta2;
    double epsilon;
    double weight_decay;
    double correction1;
    double correction2;
    double gradient_scale; /* of clipping and accumulation */
};

/* C [m, n] = alpha A B + beta C over strided A [m, k] and B [k, n]: element
 * (i, j) of A lies at a[i * row_a + j * col_a].  Of A and of B either the
 * rows or the columns are dense (a stride of 1), of C the rows.  With beta 0,
 * C is not read. */
struct qrb__product {
    size_t m;
    size_t n;
    size_t k;
    size_t row_a;
    size_t col_a;
    size_t row_b;
    size_t col_b;
    size_t row_c;
    double alpha;
    double beta;
};

/* Rows are dense; sums over long rows run in double in the plain twins. */
#define QRB__REAL_KERNELS(real)                                               \
    /* y[r,c] = x[r,c] inv[r] w[c], inv[r] = 1 / sqrt(mean_c x^2 + eps) */    \
    void (*rms_norm)(const real *x, const real *w, double eps, size_t rows,   \
                     size_t cols, real *y, real *inv);                        \
    /* dx += d loss / dx; dw += sum over these rows, in order of rows */      \
    void (*rms_norm_grad)(const real *x, const real *w, const real *inv,      \
                          const real *dy, size_t rows, size_t cols, real *dx, \
                          real *dw);                                          \
    /* Turn pairs of each head of x [rows, heads, head_dim], whose rows are   \
     * row_stride apart, by the angles of cosine and sine                     \
     * [rows, head_dim / 2]; interleaved pairs are (2i, 2i + 1), else         \
     * (i, i + head_dim / 2); inverse turns back, which is the gradient. */   \
    void (*rotary)(real *x, size_t row_stride, const real *cosine,            \
                   const real *sine, size_t rows, size_t heads,               \
                   size_t head_dim, int interleaved, int inverse);            \
    /* In place on rows `stride` apart, row r of which is over [0, n + r);   \
     * 0 from there to cols.  n >= 1; the rows do not know each other. */     \
    void (*softmax)(real *z, size_t stride, size_t rows, size_t n,            \
                    size_t cols);                                             \
    /* dp becomes dz = p (dp - sum p dp) over such rows, and 0 behind. */     \
    void (*softmax_grad)(const real *p, real *dp, size_t stride, size_t rows, \
                         size_t n, size_t cols);                              \
    /* y = silu(gate) up */                                                   \
    void (*swiglu)(const real *gate, const real *up, size_t n, real *y);      \
    void (*swiglu_grad)(const real *gate, const real *up, const real *dy,     \
                        size_t n, real *dgate, real *dup);                    \
    /* -log softmax(logits)[target] */                                        \
    double (*nll)(const real *logits, size_t cols, size_t target);            \
    /* The same; logits become scale (softmax - onehot(target)). */           \
    double (*nll_grad)(real *logits, size_t cols, size_t target,              \
                       double scale);                                         \
    void (*add)(const real *x, size_t n, real *y);            /* y += x */    \
    void (*axpy)(double a, const real *x, size_t n, real *y); /* y += a x */  \
    /* w <- w - c (w - a): the pull of an anchor */                           \
    void (*lerp)(double c, const real *a, size_t n, real *w);                 \
    double (*dot)(const real *x, const real *y, size_t n);                    \
    double (*squared_distance)(const real *x, const real *y, size_t n);       \
    void (*adamw)(const struct qrb__adamw *options, const real *gradient,     \
                  size_t n, real *w, real *m, real *v);                       \
    void (*sgd)(double lr, double momentum, double weight_decay,              \
                double gradient_scale, const real *gradient, size_t n,        \
                real *w, real *velocity);                                     \
    /* One tile of a matrix product on one thread.  Takes up to               \
     * QRB__PRODUCT_STACK bytes of stack. */                                  \
    void (*product)(const struct qrb__product *shape, const real *a,          \
                    const real *b, real *c)

enum { QRB__PRODUCT_STACK = 256 * 1024 };

struct qrb__kernels_f32 {
    QRB__REAL_KERNELS(float);
};

struct qrb__kernels_f64 {
    QRB__REAL_KERNELS(double);
};

struct qrb__kernels {
    const char *name; /* "ref", "avx2", "avx512" */
    struct qrb__kernels_f32 f32;
    struct qrb__kernels_f64 f64;
    struct qrb__code_kernels codes;
    void (*f16_to_f32)(const uint16_t *x, size_t n, float *y);
    void (*f32_to_f16)(const float *x, size_t n, uint16_t *y);
    void (*bf16_to_f32)(const uint16_t *x, size_t n, float *y);
    void (*f32_to_bf16)(const float *x, size_t n, uint16_t *y);
    /* y[i] += sigma * standard normal number first + i of the Philox stream
     * (key, stream, step); first is a multiple of 4. */
    void (*add_normals)(const uint32_t key[2], uint32_t stream, uint32_t step,
                        uint64_t first, double sigma, size_t n, float *y);
};

/* Fill the table for this processor, capped by at_most ("ref", "avx2",
 * "avx512", "vnni"; NULL: no cap).  Returns 0, or -1 for an unknown name. */
int qrb__kernels_select(struct qrb__kernels *kernels, const char *at_most);

/* Each instruction set overwrites what it does better. */
void qrb__kernels_ref(struct qrb__kernels *kernels);
void qrb__kernels_ref_f32(struct qrb__kernels_f32 *kernels);
void qrb__kernels_ref_f64(struct qrb__kernels_f64 *kernels);
void qrb__kernels_avx2(struct qrb__kernels *kernels);
void qrb__kernels_avx512(struct qrb__kernels *kernels);

#endif
