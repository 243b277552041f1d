/* What is known of a grid from its mode alone. */
#include "quant/grid.h"

bool qrb__grid_mode_is_known(uint32_t mode)
{
    return mode >= QRB_GRID_A_PAPER && mode <= QRB_GRID_S_ACT;
}

bool qrb__grid_is_signed(uint32_t mode)
{
    return mode == QRB_GRID_S_ABS || mode == QRB_GRID_S_SMOOTH ||
           mode == QRB_GRID_S_ACT;
}

uint32_t qrb__grid_zero_point_bits(const struct qrb__grid *grid)
{
    switch (grid->mode) {
    case QRB_GRID_S_ABS:
    case QRB_GRID_S_GPTQ:
    case QRB_GRID_S_OMNI:
    case QRB_GRID_S_SMOOTH:
    case QRB_GRID_S_ACT:
        return 0;
    case QRB_GRID_A_GPTQ:
    case QRB_GRID_A_AWQ:
        return grid->bits;
    default:
        return 16;
    }
}

double qrb__grid_clip(size_t i)
{
    return 1.0 - (double)i / 100.0;
}

size_t qrb__grid_best_clip(const double *errors)
{
    size_t best = 0;

    for (size_t i = 1; i < QRB__GRID_CLIPS; i++)
        if (errors[i] < errors[best])
            best = i;
    return best;
}
