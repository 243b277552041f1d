/* Saving and restoring the host's floating-point environment: O(1), some
 * hundred cycles, so once for a loop and not for an element.  The calls are
 * opaque to compilers, which otherwise may move arithmetic across them. */
#include "core/rounding.h"

void qrb__rounding_begin(fenv_t *host)
{
    fegetenv(host);
    fesetenv(FE_DFL_ENV);
}

void qrb__rounding_end(const fenv_t *host)
{
    fesetenv(host);
}
