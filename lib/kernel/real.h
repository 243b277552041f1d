/* One source, two precisions: a file that includes this header is compiled
 * twice, with QRB_REAL_BITS 32 and 64.  `real` is the type and REAL(name) the
 * name with its suffix, so that float64 twins are the same lines of code. */
#ifndef QRB_KERNEL_REAL_H
#define QRB_KERNEL_REAL_H

#include <math.h>
#include <stddef.h>

#define REAL_PASTE(name, suffix) name##suffix

#if !defined(QRB_REAL_BITS)
#error "QRB_REAL_BITS is 32 or 64: the build compiles this file twice"
#elif QRB_REAL_BITS == 32
typedef float real;
#define REAL(name) REAL_PASTE(name, _f32)
#define REAL_EXP expf
#define REAL_SQRT sqrtf
#elif QRB_REAL_BITS == 64
typedef double real;
#define REAL(name) REAL_PASTE(name, _f64)
#define REAL_EXP exp
#define REAL_SQRT sqrt
#endif

#endif
