/* The parts of GPTQ, in their order: factor, sweep, and the comparison with
 * round to nearest. */
#ifndef QRB_QUANT_GPTQ_WORK_H
#define QRB_QUANT_GPTQ_WORK_H

#include "quant/gptq.h"

/* Sums of one row over the columns that were swept. */
struct qrb__gptq_row {
    double loss;        /* E^2 */
    double live_loss;   /* E^2 of columns that have inputs */
    double live_change; /* D^2 of these */
};

struct qrb__gptq_work {
    qrb_context *ctx;
    const struct qrb__gptq *options;
    const struct qrb__gptq_problem *problem;
    struct qrb__gptq_result *out;
    size_t group;   /* columns */
    size_t groups;  /* of a row */
    size_t *order;  /* [cols] column that comes at each place of the sweep */
    bool *dead;     /* [cols] by original column: no input but zero */
    size_t live;    /* columns that are not dead */
    int exponent;   /* H is held as H / 2^exponent, its diagonal about 1 */
    double added;   /* to H's diagonal, as it is held */
    double *factor; /* M [cols, cols], in the order of the sweep */
    double *change; /* [rows, cols], in the order of the sweep: W with dead
                       columns zeroed, and D where the sweep has been */
    struct qrb__gptq_row *sums; /* [rows] */
};

/* A block of columns, and beyond it those that groups which begin in it reach
 * into. */
struct qrb__gptq_panel {
    struct qrb__gptq_work *work;
    size_t first;    /* its column, in the order of the sweep */
    size_t block;    /* columns that are swept */
    size_t width;    /* columns of the panel, >= block */
    double *values;  /* [rows, width] W' */
    double *inverse; /* [width, width] U of its columns */
};

enum {
    QRB__GPTQ_TILE = 64, /* rows that are swept together */
    QRB__GPTQ_STRIP = 32 /* columns between products inside of a panel */
};

/* What a tile needs beside the panel. */
struct qrb__gptq_scratch {
    double *side;   /* [width, TILE] W' on its side, then values */
    double *errors; /* [STRIP, TILE] of the strip in work */
    double *group;  /* [group] of a row */
    int32_t *codes; /* [block, TILE] */
};

/* Columns from the one at `place` to the end of a group that begins there. */
size_t qrb__gptq_group_length(const struct qrb__gptq_work *work, size_t place);

/* Whether groups are fitted as the sweep comes to them. */
bool qrb__gptq_fits_in_sweep(const struct qrb__gptq_work *work);

/* Scale of w [n], which are a group of a row. */
void qrb__gptq_fit(struct qrb__gptq_work *work, size_t row, size_t group,
                   const double *w, size_t n);

/* Columns are dead or not, and in order; fills order, dead, live, exponent. */
qrb_status qrb__gptq_order(struct qrb__gptq_work *work);

/* M of the first damping of the ladder that makes H definite: factor, added
 * and out->damping.  *definite_out false: none does. */
qrb_status qrb__gptq_factor(struct qrb__gptq_work *work, bool *definite_out);

/* Codes, scales and group_index of `out`; change becomes D; sums. */
qrb_status qrb__gptq_sweep(struct qrb__gptq_work *work);

/* Sweep tile `tile` of the rows over a panel. */
void qrb__gptq_sweep_tile(const struct qrb__gptq_panel *panel, size_t tile,
                          const struct qrb__gptq_scratch *scratch);

/* Round to nearest into codes, scales and group_index of `out`. */
void qrb__gptq_round(struct qrb__gptq_work *work);

/* Whether round to nearest has a smaller tr(D H D^T) than `error`, which is
 * in the units of the held H; `noise` is what both are uncertain by. */
qrb_status qrb__gptq_round_is_better(struct qrb__gptq_work *work, double error,
                                     double noise, bool *better_out);

#endif
