/* half.h -- the 16-bit floats, and arrays of any stored type to float or double. */
#ifndef BF_BASE_HALF_H
#define BF_BASE_HALF_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "backflow/record.h"

/* IEEE 754 binary16, and bfloat16 (the upper half of a float). Exact; NaN stays NaN. */
float bf_half_to_float(uint16_t half);
float bf_bfloat_to_float(uint16_t bfloat);

/* The bfloat16 nearest to x, or the even one of two. Of NaNs it is one if x is what a processor makes of no number
 * (0x7fc00000 and its negative); others may become anything. */
static inline uint32_t bf_bfloat_of_number(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}

/* dst[k] = value k of src, k < n: n values of that type, at any alignment, not overlapping dst.
 * Rounds to nearest where the type holds more than dst can. Cannot fail. */
void bf_convert_f32(float *restrict dst, const void *restrict src, bf_dtype dtype, size_t n);
void bf_convert_f64(double *restrict dst, const void *restrict src, bf_dtype dtype, size_t n);

#endif
