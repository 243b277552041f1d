/* GPTQ on arrays: Frantar et al., "GPTQ: Accurate Post-Training Quantization
 * for Generative Pre-trained Transformers", ICLR 2023, arXiv:2210.17323, with
 * the order of its published program.
 *
 * Columns are rounded one after the other, and the error of each is made up
 * for in the columns that are left, as the inputs' second moments
 * H = gram_scale X^T X ask for.  With Hd = H + damping on the diagonal,
 * D = W - Q and M the upper triangle of Hd = M M^T, the errors that the
 * columns leave are E = D M, and the loss is sum E^2 / 2 = tr(D Hd D^T) / 2.
 *
 * The published program works with U = M^-1, the factor of Hd^-1.  Here the
 * columns of a block get all that was made up for so far at once,
 *     W'_B = W_B + (D_P M_PB) U_BB,     P: the columns before the block,
 * which is the same in exact arithmetic and needs no inverse but that of
 * diagonal blocks. */
#ifndef QRB_QUANT_GPTQ_H
#define QRB_QUANT_GPTQ_H

#include "core/context.h"
#include "quant/grid.h"

enum {
    QRB__GPTQ_TRIES = 11 /* dampings of the ladder, the first included */
};
#define QRB__GPTQ_STEP 0.0015 /* from one damping to the next */

struct qrb__gptq {
    struct qrb__grid grid;
    size_t group_size;  /* columns a scale, at most those of a row, whose last
                          group may be shorter; 0: the row */
    size_t block_size;  /* columns between updates of all that is left, >= 1 */
    double damping;     /* of the mean of H's diagonal, >= 0 */
    bool fresh;         /* groups see all that was made up for, not only what
                          came before their block */
    bool act_order;     /* columns of large moments first */
    bool static_groups; /* fitted before the sweep, by original columns */
};

struct qrb__gptq_problem {
    size_t rows;
    size_t cols;
    const double *w;    /* [rows, cols], finite */
    const double *gram; /* X^T X [cols, cols], finite; the whole of it */
    double gram_scale;  /* > 0; the paper's program: 2 / sequences */
};

enum qrb__gptq_outcome {
    QRB__GPTQ_SOLVED,
    /* Round to nearest was kept: */
    QRB__GPTQ_NO_INPUTS,    /* the inputs are all zero */
    QRB__GPTQ_NOT_POSITIVE, /* no damping made the moments definite */
    QRB__GPTQ_NO_BETTER     /* it is nearer to the outputs, or the sweep left
                               the finite numbers */
};

/* The arrays are the caller's; a scale of row r and column c is
 * scales[r * groups + group_index[c]], zero points likewise (0 where the grid
 * has none). */
struct qrb__gptq_result {
    int32_t *codes;        /* [rows, cols] */
    double *scales;        /* [rows, groups] */
    double *zero_points;   /* [rows, groups] */
    uint32_t *group_index; /* [cols] */
    enum qrb__gptq_outcome outcome;
    double damping; /* the one that was used */
    double loss;    /* tr(D Hd D^T) / 2 of the sweep; NaN without one */
    double error;   /* tr(D H D^T) of the sweep; NaN without one */
};

/* Groups of a row. */
size_t qrb__gptq_groups(const struct qrb__gptq *options, size_t cols);

/* QRB_OK whatever the numbers are; QRB_E_NO_MEMORY, QRB_E_CANCELLED. */
qrb_status qrb__gptq_solve(qrb_context *ctx, const struct qrb__gptq *options,
                           const struct qrb__gptq_problem *problem,
                           struct qrb__gptq_result *out);

#endif
