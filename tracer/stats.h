/* stats.h -- intervals, nulls and fits for what claims say (internal to tracer). */
#ifndef BF_TRACER_STATS_H
#define BF_TRACER_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "tracer/find.h"

double bf_mean(const double *x, size_t n);
/* The point of n values below which the part q lies; x is sorted on the way. NaN if n is 0. */
double bf_quantile(double *x, size_t n, double q);

/* Mean over n units and its 95 % interval by the bootstrap (percentiles of `resamples` means).
 * n 1: no interval.  BF_ENOMEM. */
bf_code bf_bootstrap_mean(bf_estimate *out, const double *x, size_t n, size_t resamples,
                          uint64_t seed, bf_error *err);

/* Are n paired differences as often above as below zero? Two-sided p of their mean under random
 * signs, all 2^n of them if n <= 12, else `draws` drawn; (hits + 1)/(draws + 1), so never 0. */
double bf_sign_test(const double *difference, size_t n, size_t draws, uint64_t seed);
/* Two-sided p of the difference of means of x [n] and y [m] when labels are permuted.  BF_ENOMEM.
 */
bf_code bf_permutation_test(double *p, const double *x, size_t n, const double *y, size_t m,
                            size_t draws, uint64_t seed, bf_error *err);

/* Slope of y on x by least squares with weights w (NULL: equal); NaN without variance. */
double bf_fit_slope(const double *x, const double *y, const double *w, size_t n);

/* P(chi-square with so many degrees of freedom >= x). */
double bf_chi_square_p(double x, double degrees);

#endif
