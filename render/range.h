/* range.h -- from values to places on a colour scale, and the ticks beside it. */
#ifndef BF_RENDER_RANGE_H
#define BF_RENDER_RANGE_H

#include <stdbool.h>
#include <stddef.h>

#include "render/matrix.h"

enum { BF_MAX_TICKS = 16 };

/* Linear: 0 to top, signed -top to top. Log: low to top. Signed log is the symmetric logarithm
 *     f(v) = sign(v) * log(1 + |v|/low) / log(1 + top/low),
 * nearly linear between -low and low. Rank: the part of the magnitudes that are smaller, ties at
 * their middle; with a sign from the middle outwards. */
typedef struct {
    bool is_log, is_signed;
    bool is_rank;   /* places are ranks among the magnitudes */
    double *sorted; /* [n] those magnitudes, ascending; owned; NULL: not by rank */
    size_t n;
    double top;  /* the largest magnitude; 0: every value is 0 */
    double low;  /* see above; 0 if linear */
    bool zeros;  /* there are exact zeros at j <= i */
    bool below;  /* there are values between 0 and low, on a log scale that has no place for them */
} bf_range;

/* One range for n matrices. Log scales reach down to the smallest value that is not 0, but no
 * further than six decades; the symmetric one is linear within 1/100 to 1/1000 of the top.
 * out  bf_range_free, also after a failure.  BF_ENOMEM (only with BF_SCALE_RANK). */
bf_code bf_range_find(bf_range *out, const bf_matrix *matrix, size_t n, bf_scale scale,
                      bf_error *err);
void bf_range_free(bf_range *range);

/* The place of v between 0 and 1; v != 0, and not below low on an unsigned log scale. */
double bf_range_place(const bf_range *range, double v);

/* Round values to label, ascending; returns how many. About `wanted` of them, where linear. */
size_t bf_range_ticks(double ticks[BF_MAX_TICKS], const bf_range *range, size_t wanted);

#endif
