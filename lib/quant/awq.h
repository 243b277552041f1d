/* AWQ on arrays: the search of scales and of clipping (Lin et al., MLSys 2024,
 * arXiv:2306.00978; quantizers 3), by the Gram matrix G = X^T X of the inputs
 * instead of the inputs themselves: |X D^T|^2 = tr(D G D^T), so that cost and
 * memory do not depend on the number of tokens. */
#ifndef QRB_QUANT_AWQ_H
#define QRB_QUANT_AWQ_H

#include "core/context.h"
#include "quant/grid.h"

enum {
    QRB__AWQ_CLIPS = 10,     /* limits tried: 1, 0.95, .. 0.55 of max |w| */
    QRB__AWQ_CLIP_ROWS = 64, /* rows of a task of the clip search */
    QRB__AWQ_ROWS = 512      /* rows of a product of the scale search */
};

/* How rows of weights are rounded. */
struct qrb__awq_grid {
    struct qrb__grid grid;
    uint32_t precision; /* QRB_F64, or QRB_F32: of the grid's arithmetic */
    size_t cols;
    size_t group; /* columns of a scale; the last group may be shorter */
};

/* Scratch of one worker for rows of so many columns; NULL parts: no memory,
 * and destroyed as it is. */
struct qrb__awq_scratch {
    double *values;
    float *floats;
    int32_t *codes;
};
qrb_status qrb__awq_scratch_make(qrb_context *ctx, size_t cols,
                                 struct qrb__awq_scratch *out);
void qrb__awq_scratch_free(qrb_context *ctx, struct qrb__awq_scratch *scratch);

/* Errors w - Q(clamp(w s)) / s of columns [first, first + n) of a row, which
 * begin with a group; scale [cols] and limits [groups of these columns] may be
 * NULL: 1, and none. */
void qrb__awq_errors_f32(const struct qrb__awq_grid *grid, const float *row,
                         const double *scale, const double *limits,
                         size_t first, size_t n,
                         const struct qrb__awq_scratch *scratch, float *errors);
void qrb__awq_errors_f64(const struct qrb__awq_grid *grid, const double *row,
                         const double *scale, const double *limits,
                         size_t first, size_t n,
                         const struct qrb__awq_scratch *scratch,
                         double *errors);

/* The clip search of one group in `rows` rows, at most CLIP_ROWS: w points at
 * the rows, gram at the whole matrix [cols, cols]; limits and best [rows],
 * `apart` elements from row to row, receive max |w| times the best ratio and
 * its e G e^T; memory has 2 * CLIP_ROWS * n elements of the type. */
struct qrb__awq_clip {
    const struct qrb__kernels *kernels;
    const struct qrb__awq_grid *grid;
    const struct qrb__awq_scratch *scratch;
    size_t rows;
    size_t first; /* column of the group */
    size_t n;     /* its columns */
    size_t apart;
    double *limits;
    double *best;
};
void qrb__awq_clip_group_f32(const struct qrb__awq_clip *job, const float *w,
                             const float *gram, float *memory);
void qrb__awq_clip_group_f64(const struct qrb__awq_clip *job, const double *w,
                             const double *gram, double *memory);

#endif
