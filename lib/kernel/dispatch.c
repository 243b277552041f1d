/* Which kernels run: what CPUID reports, capped by a name. */
#include "kernel/kernels.h"

#include <string.h>

int qrb__kernels_select(struct qrb__kernels *kernels, const char *at_most)
{
    static const char *const names[] = { "ref", "avx2", "avx512" };
    const size_t sets = sizeof names / sizeof *names;
    size_t cap = sets - 1;

    if (at_most != NULL) {
        cap = 0;
        while (cap < sets && strcmp(at_most, names[cap]) != 0)
            cap++;
        if (cap == sets)
            return -1;
    }
    qrb__kernels_ref(kernels);
    return 0;
}
