/* random_values.h -- arrays of numbers from -1 to 1, the same everywhere (Knuth's MMIX generator). */
#ifndef BF_TESTS_RANDOM_VALUES_H
#define BF_TESTS_RANDOM_VALUES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static inline double next_random(void)
{
    static uint64_t state = 11;
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 11) * 0x1p-52 - 1.0;
}

static inline float *random_floats(size_t n)
{
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t k = 0; k < n; k++)
        x[k] = (float)next_random();
    return x;
}

static inline double *random_doubles(size_t n)
{
    double *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t k = 0; k < n; k++)
        x[k] = next_random();
    return x;
}

#endif
