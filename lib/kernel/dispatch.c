/* Which kernels run: what CPUID reports, capped by a name. */
#include "kernel/kernels.h"

#include <stdbool.h>
#include <string.h>

#if defined(QRB_HAVE_AVX2)
static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("f16c");
}
#endif

#if defined(QRB_HAVE_AVX512)
static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl");
}
#endif

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
#if defined(QRB_HAVE_AVX2)
    if (cap >= 1 && has_avx2())
        qrb__kernels_avx2(kernels);
#endif
#if defined(QRB_HAVE_AVX512)
    if (cap >= 2 && has_avx512())
        qrb__kernels_avx512(kernels);
#endif
    return 0;
}
