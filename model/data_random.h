/* data_random.h -- numbers that are a pure function of a few keys. */
#ifndef BF_MODEL_DATA_RANDOM_H
#define BF_MODEL_DATA_RANDOM_H

#include <stddef.h>

#include "base/random.h"

typedef uint64_t bf_random; /* a generator's state (base/random.h) */

/* The state for row `row` of batch `step` of a split: streams of different keys do not meet. */
static inline bf_random bf_random_of(uint64_t seed, uint64_t split, uint64_t step, uint64_t row)
{
    const uint64_t keys[] = {seed, split, step, row};
    uint64_t h = 0;
    for (size_t k = 0; k < 4; k++)
        h = bf_splitmix(h + BF_RANDOM_STEP + keys[k]);
    return h;
}

/* 0 to n-1, each as likely as any other; n > 0. */
static inline uint64_t bf_draw_below(bf_random *state, uint64_t n)
{
    const uint64_t reject = (0 - n) % n; /* 2^64 mod n */
    uint64_t v;
    do
        v = bf_random_next(state);
    while (v < reject);
    return v % n;
}

/* [0, 1), 53 bits. */
static inline double bf_random_unit(bf_random *state)
{
    return (double)(bf_random_next(state) >> 11) * 0x1p-53;
}

#endif
