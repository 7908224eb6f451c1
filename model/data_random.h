/* data_random.h -- numbers that are a pure function of a few keys. */
#ifndef BF_MODEL_DATA_RANDOM_H
#define BF_MODEL_DATA_RANDOM_H

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

#endif
