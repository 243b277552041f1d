/* Which kernels run: what CPUID reports, capped by a name. */
#include "kernel/kernels.h"

#include <stdbool.h>
#include <string.h>

#if defined(QRB_HAVE_AVX2)
#include <cpuid.h>

/* clang 14 does not know the name "f16c"; AVX2 says that the system saves the
 * registers. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           has_f16c();
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
    static const char *const names[] = { "ref", "avx2", "avx512", "vnni" };
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
#if defined(QRB_HAVE_VNNI)
    if (cap >= 3 && has_avx512() && __builtin_cpu_supports("avx512vnni")) {
        kernels->codes.name = "vnni";
        qrb__code_product_vnni(&kernels->codes);
    }
#endif
    return 0;
}
