/* random.h -- numbers that look random and are the same everywhere.
 *
 * SplitMix64 (Steele, Lea & Flood 2014, doi:10.1145/2660193.2660195): a counter in steps of
 * BF_RANDOM_STEP, mixed. */
#ifndef BF_BASE_RANDOM_H
#define BF_BASE_RANDOM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#define BF_RANDOM_STEP UINT64_C(0x9e3779b97f4a7c15)

static inline uint64_t bf_splitmix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* The next 64 even bits. */
static inline uint64_t bf_random_next(uint64_t *state)
{
    return bf_splitmix(*state += BF_RANDOM_STEP);
}

/* A whole number below n > 0, each as likely as any other: the first 2^64 mod n are drawn again. */
static inline size_t bf_random_below(uint64_t *state, size_t n)
{
    const uint64_t reject = (0 - (uint64_t)n) % n;
    uint64_t z;
    do
        z = bf_random_next(state);
    while (z < reject);
    return (size_t)(z % n);
}

/* [0, 1), 53 bits. */
static inline double bf_random_unit(uint64_t *state)
{
    return (double)(bf_random_next(state) >> 11) * 0x1p-53;
}

/* Two draws to a standard normal number (Box & Muller 1958). */
static inline double bf_random_normal(uint64_t *state)
{
    const double u = ((double)(bf_random_next(state) >> 11) + 0.5) * 0x1p-53;
    const double v = ((double)(bf_random_next(state) >> 11) + 0.5) * 0x1p-53;
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}

#endif
