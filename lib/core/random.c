/* Philox4x32-10 by Random123 and the numbers made from it (methods 0.3). */
#include "core/random.h"

#include <math.h>

#include <Random123/philox.h>

void qrb__philox(const uint32_t counter[4], const uint32_t key[2],
                 uint32_t out[4])
{
    const philox4x32_ctr_t c = { { counter[0], counter[1], counter[2],
                                   counter[3] } };
    const philox4x32_key_t k = { { key[0], key[1] } };
    const philox4x32_ctr_t r = philox4x32(c, k);

    for (int i = 0; i < 4; i++)
        out[i] = r.v[i];
}

/* The finalizer of MurmurHash3: every bit of x reaches every bit out. */
static uint32_t mix(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    return x ^ (x >> 16);
}

uint32_t qrb__random_stream(uint32_t method, uint32_t layer, uint32_t tensor,
                            uint32_t microbatch)
{
    uint32_t h = mix(method + 0x9e3779b9u);

    h = mix(h ^ (layer + 0x7f4a7c15u));
    h = mix(h ^ (tensor + 0x94d049bbu));
    return mix(h ^ (microbatch + 0xbf58476du));
}

struct qrb__random qrb__random_at(uint64_t seed, uint32_t step,
                                  uint32_t stream)
{
    return (struct qrb__random){ { (uint32_t)seed, (uint32_t)(seed >> 32) },
                                 stream, step };
}

static void block_of(const struct qrb__random *random, uint64_t index,
                     uint32_t out[4])
{
    const uint64_t block = index / 4;
    const uint32_t counter[4] = { (uint32_t)block, (uint32_t)(block >> 32),
                                  random->stream, random->step };

    qrb__philox(counter, random->key, out);
}

uint32_t qrb__random_bits(const struct qrb__random *random, uint64_t index)
{
    uint32_t x[4];

    block_of(random, index, x);
    return x[index % 4];
}

double qrb__random_uniform(const struct qrb__random *random, uint64_t index)
{
    return (qrb__random_bits(random, index) >> 8) * 0x1p-24;
}

double qrb__random_normal(const struct qrb__random *random, uint64_t index)
{
    const double two_pi = 6.283185307179586476925287;
    const unsigned pair = index % 4 / 2 * 2;
    uint32_t x[4];
    double radius;
    double angle;

    block_of(random, index, x);
    radius = sqrt(-2.0 * log(((x[pair] >> 8) + 0.5) * 0x1p-24));
    angle = two_pi * (((x[pair + 1] >> 8) + 0.5) * 0x1p-24);
    return index % 2 == 0 ? radius * cos(angle) : radius * sin(angle);
}

double qrb__random_sign(const struct qrb__random *random, uint64_t index)
{
    return qrb__random_bits(random, index) >> 31 ? -1.0 : 1.0;
}

/* The product of two 64-bit numbers; gcc and clang have it on every 64-bit
 * machine. */
__extension__ typedef unsigned __int128 wide;

uint64_t qrb__random_below(const struct qrb__random *random, uint64_t index,
                           uint64_t bound)
{
    uint32_t x[4];
    uint64_t bits;

    block_of(random, 4 * index, x);
    bits = (uint64_t)x[1] << 32 | x[0];
    return (uint64_t)(((wide)bits * bound) >> 64);
}
