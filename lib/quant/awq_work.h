/* The searches of AWQ over the working copy of a matrix. */
#ifndef QRB_QUANT_AWQ_WORK_H
#define QRB_QUANT_AWQ_WORK_H

#include "quant/awq.h"
#include "quant/work.h"

struct qrb__awq_work {
    const struct qrb__matrix_work *work;
    struct qrb__awq_grid grid;
    size_t groups;                    /* of a row */
    size_t workers;
    struct qrb__awq_scratch *scratch; /* [workers] */
    void *gram;                       /* [cols, cols], of the copy's type */
    void *errors;                     /* [AWQ_ROWS, cols] of it */
    void *products;                   /* likewise */
    double *squares;                  /* [AWQ_ROWS] */
    double *scale;                    /* [cols], of the search: the best */
    double *trial;                    /* [cols] */
    double *means;                    /* [cols] of |x| */
    double *weights;                  /* [cols], of duo scaling */
    double *limits;                   /* [rows, groups], of the clip search */
    double *best;                     /* [rows, groups]: e G e^T */
    unsigned char *clip;              /* [workers, 2, CLIP_ROWS, group] */
    double losses[1000];              /* of the ratios */
};

/* Fill in work and grid first; end it whatever the status. */
qrb_status qrb__awq_begin(struct qrb__awq_work *awq);
void qrb__awq_end(struct qrb__awq_work *awq);

/* The scale of the ratio of least loss, and that loss. */
qrb_status qrb__awq_search(struct qrb__awq_work *awq, uint32_t ratios,
                           bool duo_scaling, double *loss_out);

/* Limit the copy's weights, unless that makes the loss larger; *loss is that
 * before, or NaN, and becomes that behind. */
qrb_status qrb__awq_clip(struct qrb__awq_work *awq, double *loss);

#endif
