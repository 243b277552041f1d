/* Which matrices of a model are quantized, in which order, and which of them
 * see the inputs of the same model: the steps between two collections. */
#ifndef QRB_RECIPE_QUANTIZE_PLAN_H
#define QRB_RECIPE_QUANTIZE_PLAN_H

#include <qrobust/recipe.h>

#include "model/model.h"
#include "quant/quantizer.h"

struct qrb__planned {
    size_t parameter;
    int32_t layer;
    uint32_t stage;         /* inside a block; 0 unless sequential */
    struct qrb__view view;  /* [out, in] */
};

struct qrb__quantize_plan {
    qrb_context *ctx;
    struct qrb__planned *matrices; /* [count], in their order */
    size_t count;
    bool propagate;  /* ascending blocks, on the model as it has become */
    bool sequential; /* stages inside a block */
    uint32_t needs;  /* enum qrb__need of the quantizer and its scalings */
    /* The quantizer for rows that are shorter than its groups: a copy with
     * groups of whole rows. */
    qrb_quantizer rowwise;
    qrb_quantizer *links;
    qrb_quantizer **link_at;
};

/* Check options, quantizer and weights.  Zeroed first; close it in any case. */
qrb_status qrb__quantize_plan_open(struct qrb__quantize_plan *plan,
                                   qrb_model *model,
                                   const qrb_quantizer *quantizer,
                                   const qrb_quantize_options *options);
void qrb__quantize_plan_close(struct qrb__quantize_plan *plan);

/* Where the step that begins at matrix `first` ends. */
size_t qrb__quantize_plan_step(const struct qrb__quantize_plan *plan,
                               size_t first);

/* The quantizer for a matrix of `cols` columns, and what that decides. */
const qrb_quantizer *qrb__quantize_plan_fit(
    const struct qrb__quantize_plan *plan, const qrb_quantizer *quantizer,
    size_t cols, uint32_t *group_size, char *note, size_t note_size);

#endif
