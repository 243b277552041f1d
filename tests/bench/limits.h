/* What the machine gives at the moment. */
#ifndef BENCH_LIMITS_H
#define BENCH_LIMITS_H

#include <stddef.h>

/* Floating-point operations a second of fused multiply-adds of floats that
 * stay in registers, in the widest vectors that the processor has, on
 * `threads` threads; takes about 50 ms. */
double peak_operations(size_t threads);

/* Bytes a second read from memory, from a set of 256 MiB. */
double memory_bandwidth(size_t threads);

#endif
