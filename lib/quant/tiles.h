/* What products of a packed matrix need beside its codes: the scales of each
 * tile of rows side by side, in the smallest type that loses nothing a float
 * holds.  Made once, at the first product. */
#ifndef QRB_QUANT_TILES_H
#define QRB_QUANT_TILES_H

#include "quant/packed.h"

struct qrb__tiles {
    size_t groups;           /* of a row in the grid */
    size_t segment;          /* columns of a segment of activations */
    size_t segments;         /* of a row */
    size_t group_segments;   /* segments of a group */
    float *scales;           /* [tiles, groups, CODE_ROWS], or NULL: */
    uint16_t *half_scales;   /* all are float16 */
    float *zeros;            /* as scales; NULL: */
    uint8_t *byte_zeros;     /* all are 0..255; or NULL: */
    float zero;              /* all are this */
    const float *table;      /* [16]: values by table, times scales */
    float table_values[16];
    double code_zero;        /* code of 0 where there are no zero points */
    bool whole;    /* integers multiply it: groups end with blocks of columns
                      and scales are normal floats */
    bool looks_up; /* one token is multiplied by table */
    bool mixed;    /* groups that are no runs of columns, or a residual: values
                      come from the one decoder, with all that is beside the
                      codes; else sparse weights and the input scale are left
                      to the product */
};

qrb_status qrb__tiles_make(const qrb_packed *packed, struct qrb__tiles **out);
/* Bytes of the tiles of a packed matrix that was multiplied, or 0. */
uint64_t qrb__tiles_memory(const qrb_packed *packed);
void qrb__tiles_destroy(qrb_context *ctx, struct qrb__tiles *tiles);

/* What the products of a tile of rows take their scales from. */
struct qrb__code_grid qrb__tiles_grid(const struct qrb__tiles *tiles,
                                      size_t tile);

/* Values of row `row` [cols]: the bits of qrb_packed_dequantize() in F32, but
 * for what `mixed` leaves to the product. */
void qrb__tiles_decode(const qrb_packed *packed,
                       const struct qrb__tiles *tiles, size_t row, float *out);

#endif
