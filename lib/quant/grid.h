/* The one home of uniform grids: where a range of weights gets its scale and
 * zero point, and where weights become codes and codes values.
 *
 * A unit is what shares one scale: a group, a row, a matrix, a token.  Its
 * range (lo, hi) gives scale h and zero point z by the rules of the grid's
 * mode, and then
 *     code  q = clamp(rne(w / h) + z)      value  w^ = h (q - z)
 * with rne the rounding half to even.  Each function exists for float and for
 * double; the scale that the float path makes is a float in a double.  What
 * is passed is finite, and what comes out is.  Callers run inside tasks of
 * the parallel loop, or between qrb__rounding_begin() and _end(): the rounding
 * mode of the host must not move a code. */
#ifndef QRB_QUANT_GRID_H
#define QRB_QUANT_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <qrobust/quantizer.h>

enum {
    QRB__GRID_MIN_BITS = 2,
    QRB__GRID_MAX_BITS = 8,
    QRB__GRID_CLIPS = 80 /* ranges that the clip search tries */
};

struct qrb__grid {
    uint32_t mode; /* enum qrb_grid_mode */
    uint32_t bits; /* N */
    bool compat;   /* the official outcome where a rule replaces it */
    bool mse_clip; /* search the range of least |error|^2.4 */
    bool storable; /* A_GPTQ's scale where A_AWQ's zero point is no code */
};

struct qrb__grid_scale {
    double scale;      /* h > 0 */
    double zero_point; /* z; an integer but in A_SPQR, 0 where there is none */
};

/* Codes of the mode are signed: there is no zero point. */
bool qrb__grid_is_signed(uint32_t mode);
bool qrb__grid_mode_is_known(uint32_t mode);
/* Bits that a zero point needs: 0 where the mode has none or a fixed one, N
 * where it is a code, 16 where it is a real or may lie outside the codes. */
uint32_t qrb__grid_zero_point_bits(const struct qrb__grid *grid);

/* Smallest and largest of w [n], n >= 1. */
void qrb__grid_range_f32(const float *w, size_t n, float *lo, float *hi);
void qrb__grid_range_f64(const double *w, size_t n, double *lo, double *hi);

/* Scale of a range, lo <= hi. */
struct qrb__grid_scale qrb__grid_of_range_f32(const struct qrb__grid *grid,
                                              float lo, float hi);
struct qrb__grid_scale qrb__grid_of_range_f64(const struct qrb__grid *grid,
                                              double lo, double hi);

/* The clip search, in parts so that a unit may be cut: the factors of the
 * range are qrb__grid_clip(i), i < QRB__GRID_CLIPS; add to errors [CLIPS] what
 * each makes of w [n]; the best is the first of the smallest. */
double qrb__grid_clip(size_t i);
void qrb__grid_clip_errors_f32(const struct qrb__grid *grid, const float *w,
                               size_t n, float lo, float hi, double *errors);
void qrb__grid_clip_errors_f64(const struct qrb__grid *grid, const double *w,
                               size_t n, double lo, double hi, double *errors);
size_t qrb__grid_best_clip(const double *errors);

/* Scale of one unit w [n]: its range, and the clip search if asked for. */
struct qrb__grid_scale qrb__grid_fit_f32(const struct qrb__grid *grid,
                                         const float *w, size_t n);
struct qrb__grid_scale qrb__grid_fit_f64(const struct qrb__grid *grid,
                                         const double *w, size_t n);

/* Codes of w [n] on a scale, and their values; w may be the values' memory. */
void qrb__grid_encode_f32(const struct qrb__grid *grid,
                          const struct qrb__grid_scale *scale, const float *w,
                          size_t n, int32_t *codes);
void qrb__grid_encode_f64(const struct qrb__grid *grid,
                          const struct qrb__grid_scale *scale, const double *w,
                          size_t n, int32_t *codes);
void qrb__grid_decode_f32(const struct qrb__grid_scale *scale,
                          const int32_t *codes, size_t n, float *values);
void qrb__grid_decode_f64(const struct qrb__grid_scale *scale,
                          const int32_t *codes, size_t n, double *values);

/* Codes of one weight each of n units, and their values: a column of a matrix
 * whose rows are units.  As encode and decode of each; w may be the values'
 * memory. */
void qrb__grid_code_each_f32(const struct qrb__grid *grid, const float *scales,
                             const float *zero_points, const float *w,
                             size_t n, int32_t *codes, float *values);
void qrb__grid_code_each_f64(const struct qrb__grid *grid,
                             const double *scales, const double *zero_points,
                             const double *w, size_t n, int32_t *codes,
                             double *values);

#endif
