/* Counter-based random numbers, addressed by (seed, step, layer, tensor,
 * microbatch, element): no state, so any noise can be made again. */
#ifndef QRB_CORE_RANDOM_H
#define QRB_CORE_RANDOM_H

#include <stdint.h>

/* Philox4x32-10 (Salmon et al., SC'11), by Random123. */
void qrb__philox(const uint32_t counter[4], const uint32_t key[2],
                 uint32_t out[4]);

/* Methods that draw; part of a stream's address.  Never renumbered. */
enum qrb__random_method {
    QRB__RANDOM_INIT = 1,
    QRB__RANDOM_DATASET = 2,
    QRB__RANDOM_ATTACK = 3,
    QRB__RANDOM_SAMPLE = 4
};

/* Stream number of an address: a fixed 32-bit mixing. */
uint32_t qrb__random_stream(uint32_t method, uint32_t layer, uint32_t tensor,
                            uint32_t microbatch);

struct qrb__random {
    uint32_t key[2];
    uint32_t stream;
    uint32_t step;
};

struct qrb__random qrb__random_at(uint64_t seed, uint32_t step,
                                  uint32_t stream);

/* Element `index` of a stream. */
uint32_t qrb__random_bits(const struct qrb__random *random, uint64_t index);
double qrb__random_uniform(const struct qrb__random *random, uint64_t index);
double qrb__random_normal(const struct qrb__random *random, uint64_t index);
/* -1 or +1. */
double qrb__random_sign(const struct qrb__random *random, uint64_t index);
/* Uniform in [0, bound), bound >= 1. */
uint64_t qrb__random_below(const struct qrb__random *random, uint64_t index,
                           uint64_t bound);

#endif
