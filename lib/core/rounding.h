/* The floating-point environment of our own arithmetic.  A host may have set
 * another rounding mode, flushing of subnormals, or traps; sums, quotients and
 * codes must not feel it, and the host must find its settings and exception
 * flags as it left them. */
#ifndef QRB_CORE_ROUNDING_H
#define QRB_CORE_ROUNDING_H

#include <fenv.h>

/* Round to nearest even, subnormals kept, no traps, from here to the end. */
void qrb__rounding_begin(fenv_t *host);
void qrb__rounding_end(const fenv_t *host);

#endif
