/* Normal numbers in vectors: Philox4x32-10 (Salmon et al., SC'11) on LANES
 * blocks at once and Box-Muller in float (methods 0.3).  The bits of Philox
 * are those of the twin; the numbers differ from its by a few ulp.
 *
 * Both uniforms are odd multiples k of 2^-25, which float does not hold above
 * 1/2: the logarithm takes 1 - u there, which it does, and the angle is
 * reduced as an integer. */
#include <string.h>

#include "kernel/simd.h"

enum { ROUNDS = 10, WORDS = 4, NUMBERS = WORDS * LANES };

/* LANES blocks from `block` on.  Lane 4 g + i takes block (LANES / 4) i + g,
 * so that transposing each group of four lanes puts the words in order. */
static inline void philox(const uint32_t key[2], uint32_t stream,
                          uint32_t step, uint64_t block, veci x[WORDS])
{
    uint32_t low[LANES];
    uint32_t high[LANES];
    veci key0 = veci_set(key[0]);
    veci key1 = veci_set(key[1]);

    for (unsigned lane = 0; lane < LANES; lane++) {
        const uint64_t b = block + lane % 4 * (LANES / 4) + lane / 4;

        low[lane] = (uint32_t)b;
        high[lane] = (uint32_t)(b >> 32);
    }
    x[0] = veci_load(low);
    x[1] = veci_load(high);
    x[2] = veci_set(stream);
    x[3] = veci_set(step);
    for (int round = 0; round < ROUNDS; round++) {
        veci high0;
        veci high2;
        const veci low0 = veci_multiply(x[0], veci_set(0xd2511f53u), &high0);
        const veci low2 = veci_multiply(x[2], veci_set(0xcd9e8d57u), &high2);

        x[0] = veci_xor(veci_xor(high2, x[1]), key0);
        x[1] = low2;
        x[2] = veci_xor(veci_xor(high0, x[3]), key1);
        x[3] = low0;
        key0 = veci_add(key0, veci_set(0x9e3779b9u));
        key1 = veci_add(key1, veci_set(0xbb67ae85u));
    }
}

/* log(1 + f) for f in [sqrt(1/2) - 1, sqrt(2) - 1], by the polynomial of the
 * Cephes library's logf. */
static inline vec log_1p(vec f)
{
    const vec square = vec_mul(f, f);
    vec y = vec_set(7.0376836292e-2f);

    y = vec_fma(y, f, vec_set(-1.1514610310e-1f));
    y = vec_fma(y, f, vec_set(1.1676998740e-1f));
    y = vec_fma(y, f, vec_set(-1.2420140846e-1f));
    y = vec_fma(y, f, vec_set(1.4249322787e-1f));
    y = vec_fma(y, f, vec_set(-1.6668057665e-1f));
    y = vec_fma(y, f, vec_set(2.0000714765e-1f));
    y = vec_fma(y, f, vec_set(-2.4999993993e-1f));
    y = vec_fma(y, f, vec_set(3.3333331174e-1f));
    y = vec_mul(vec_mul(y, f), square);
    return vec_add(vec_fma(vec_set(-0.5f), square, y), f);
}

/* sqrt(-2 log u) for u = ((x >> 8) + 1/2) 2^-24. */
static inline vec radius(veci x)
{
    const vec half = vec_set(0.5f);
    const vec one = vec_set(1);
    const vec root = vec_set(0x1.6a09e6p-1f); /* sqrt(1/2) */
    const veci top = veci_right(x, 8);
    const vec_mask large = veci_test(top, 1u << 23); /* u > 1/2 */
    const veci flipped = veci_sub(veci_set(0xffffffu), top);
    /* u where it is below 1/2, otherwise 1 - u; exact either way. */
    const vec v = vec_mul(
        vec_add(vec_select(large, veci_to_vec(flipped), veci_to_vec(top)),
                half),
        vec_set(0x1p-24f));
    /* u < 1/2 as m 2^e with m in [1/2, 1) */
    const veci bits = vec_bits(v);
    vec e = vec_sub(veci_to_vec(veci_right(bits, 23)), vec_set(126));
    vec m = vec_of_bits(
        veci_xor(veci_and(bits, veci_set(0x7fffffu)), veci_set(0x3f000000u)));
    vec_mask low;
    vec f;
    vec f_large;
    vec e_large;

    /* m below sqrt(1/2) is doubled */
    low = vec_less(m, root);
    e = vec_select(low, vec_sub(e, one), e);
    m = vec_select(low, vec_add(m, m), m);
    f = vec_sub(m, one);
    /* u = 1 - v: as it is down to sqrt(1/2), below that doubled */
    low = vec_less(vec_sub(one, root), v);
    f_large = vec_select(low, vec_fnma(vec_set(2), v, one),
                         vec_sub(vec_set(0), v));
    e_large = vec_select(low, vec_set(-1), vec_set(0));
    f = vec_select(large, f_large, f);
    e = vec_select(large, e_large, e);
    return vec_sqrt(vec_mul(
        vec_set(-2), vec_fma(e, vec_set(0x1.62e430p-1f), log_1p(f))));
}

/* Cosine and sine of 2 pi u for u = ((x >> 8) + 1/2) 2^-24: the nearest
 * quarter turn is taken off in integers, the rest by the polynomials of the
 * Cephes library's sinf and cosf. */
static inline void turn(veci x, vec *cosine, vec *sine)
{
    const veci k = veci_add(veci_left(veci_right(x, 8), 1), veci_set(1));
    const veci quarter =
        veci_right(veci_add(k, veci_set(1u << 22)), 23); /* 0..4 */
    const vec r = vec_mul(veci_to_vec(veci_sub(k, veci_left(quarter, 23))),
                          vec_set(0x1.921fb6p-23f)); /* 2 pi 2^-25 */
    const vec square = vec_mul(r, r);
    const vec_mask odd = veci_test(quarter, 1);
    const veci sign_s = veci_left(veci_and(quarter, veci_set(2)), 30);
    const veci sign_c =
        veci_left(veci_and(veci_add(quarter, veci_set(1)), veci_set(2)), 30);
    vec s = vec_set(-1.9515295891e-4f);
    vec c = vec_set(2.443315711809948e-5f);

    s = vec_fma(s, square, vec_set(8.3321608736e-3f));
    s = vec_fma(s, square, vec_set(-1.6666654611e-1f));
    s = vec_fma(vec_mul(s, square), r, r);
    c = vec_fma(c, square, vec_set(-1.388731625493765e-3f));
    c = vec_fma(c, square, vec_set(4.166664568298827e-2f));
    c = vec_fma(c, square, vec_set(-0.5f));
    c = vec_fma(c, square, vec_set(1));
    *cosine = vec_of_bits(veci_xor(vec_bits(vec_select(odd, s, c)), sign_c));
    *sine = vec_of_bits(veci_xor(vec_bits(vec_select(odd, c, s)), sign_s));
}

/* NUMBERS normals in order. */
static inline void normals(const uint32_t key[2], uint32_t stream,
                           uint32_t step, uint64_t block, vec out[WORDS])
{
    veci x[WORDS];

    philox(key, stream, step, block, x);
#pragma GCC unroll 2
    for (int pair = 0; pair < WORDS; pair += 2) {
        const vec r = radius(x[pair]);
        vec cosine;
        vec sine;

        turn(x[pair + 1], &cosine, &sine);
        out[pair] = vec_mul(r, cosine);
        out[pair + 1] = vec_mul(r, sine);
    }
    vec_transpose_groups(out);
}

static void add_normals(const uint32_t key[2], uint32_t stream, uint32_t step,
                        uint64_t first, double sigma, size_t n, float *y)
{
    const vec factor = vec_set((float)sigma);
    uint64_t block = first / 4;
    vec z[WORDS];
    size_t i = 0;

    for (; i + NUMBERS <= n; i += NUMBERS, block += LANES) {
        normals(key, stream, step, block, z);
#pragma GCC unroll 4
        for (size_t j = 0; j < WORDS; j++) {
            float *at = y + i + j * LANES;

            vec_store(at, vec_fma(factor, z[j], vec_load(at)));
        }
    }
    if (i == n)
        return;
    normals(key, stream, step, block, z);
    for (size_t j = 0; i < n; i += LANES, j++) {
        const vec_mask rest = vec_first(n - i < LANES ? n - i : LANES);

        vec_store_masked(y + i, rest,
                         vec_fma(factor, z[j], vec_load_masked(y + i, rest)));
    }
}

void SIMD(qrb__normals)(struct qrb__kernels *kernels)
{
    kernels->add_normals = add_normals;
}
