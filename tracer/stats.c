/* Intervals by resampling, nulls by permutation, fits. */
#include "tracer/stats.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

double bf_mean(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++)
        sum += x[k];
    return n ? sum / (double)n : NAN;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double bf_quantile(double *x, size_t n, double q)
{
    if (!n)
        return NAN;
    qsort(x, n, sizeof *x, ascending);
    const double at = q * (double)(n - 1);
    const size_t k = (size_t)at;
    return k + 1 < n ? x[k] + (at - (double)k) * (x[k + 1] - x[k]) : x[n - 1];
}

bf_code bf_bootstrap_mean(bf_estimate *out, const double *x, size_t n, size_t resamples,
                          uint64_t seed, bf_error *err)
{
    *out = (bf_estimate){bf_mean(x, n), NAN, NAN};
    if (n < 2)
        return BF_OK;
    double *mean = malloc(resamples * sizeof *mean);
    if (!mean)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu resamples", resamples);
    for (size_t r = 0; r < resamples; r++) {
        double sum = 0.0;
        for (size_t k = 0; k < n; k++)
            sum += x[bf_random_below(&seed, n)];
        mean[r] = sum / (double)n;
    }
    out->low = bf_quantile(mean, resamples, 0.025);
    out->high = bf_quantile(mean, resamples, 0.975);
    free(mean);
    return BF_OK;
}

/* Is a as far out as b, up to rounding? */
static bool as_far(double a, double b)
{
    return fabs(a) >= fabs(b) * (1.0 - 1e-12);
}

double bf_sign_test(const double *difference, size_t n, size_t draws, uint64_t seed)
{
    enum { EXACT = 12 };
    double seen = 0.0;
    size_t hits = 0;
    for (size_t k = 0; k < n; k++)
        seen += difference[k];
    const bool exact = n <= EXACT;
    const size_t rounds = exact ? (size_t)1 << n : draws;
    for (size_t r = 0; r < rounds; r++) {
        double sum = 0.0;
        uint64_t bits = r;
        for (size_t k = 0; k < n; k++) {
            if (!exact && k % 64 == 0)
                bits = bf_random_next(&seed);
            sum += bits >> k % 64 & 1 ? -difference[k] : difference[k];
        }
        hits += as_far(sum, seen);
    }
    return exact ? (double)hits / (double)rounds : (double)(hits + 1) / (double)(rounds + 1);
}

bf_code bf_permutation_test(double *p, const double *x, size_t n, const double *y, size_t m,
                            size_t draws, uint64_t seed, bf_error *err)
{
    double *all = malloc((n + m + 1) * sizeof *all);
    if (!all)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu values", n + m);
    if (n)
        memcpy(all, x, n * sizeof *x);
    if (m)
        memcpy(all + n, y, m * sizeof *y);
    const double seen = bf_mean(x, n) - bf_mean(y, m);
    size_t hits = 0;
    for (size_t r = 0; r < draws; r++) {
        for (size_t k = 0; k < n; k++) { /* the first n of a shuffle */
            const size_t at = k + bf_random_below(&seed, n + m - k);
            const double t = all[k];
            all[k] = all[at];
            all[at] = t;
        }
        hits += as_far(bf_mean(all, n) - bf_mean(all + n, m), seen);
    }
    free(all);
    *p = (double)(hits + 1) / (double)(draws + 1);
    return BF_OK;
}

double bf_fit_slope(const double *x, const double *y, const double *w, size_t n)
{
    double sw = 0.0, sx = 0.0, sy = 0.0, sxx = 0.0, sxy = 0.0;
    for (size_t k = 0; k < n; k++) {
        const double u = w ? w[k] : 1.0;
        sw += u;
        sx += u * x[k];
        sy += u * y[k];
    }
    for (size_t k = 0; k < n; k++) {
        const double u = w ? w[k] : 1.0, dx = x[k] - sx / sw;
        sxx += u * dx * dx;
        sxy += u * dx * (y[k] - sy / sw);
    }
    return sxx > 0.0 ? sxy / sxx : NAN;
}

/* Regularised incomplete gamma Q(a, x): series below a + 1, else Lentz's continued fraction (Press
 * et al., Numerical Recipes, 6.2). */
double bf_chi_square_p(double chi, double degrees)
{
    const double a = 0.5 * degrees, x = 0.5 * chi;
    if (!(x > 0.0) || !(a > 0.0))
        return x >= 0.0 ? 1.0 : NAN;
    const double front = exp(a * log(x) - x - lgamma(a));
    if (x < a + 1.0) {
        double term = 1.0 / a, sum = term;
        for (double k = a + 1.0; fabs(term) > fabs(sum) * 1e-16; k += 1.0)
            sum += term *= x / k;
        return 1.0 - front * sum;
    }
    double b = x + 1.0 - a, c = 1e300, d = 1.0 / b, h = d;
    for (int k = 1; k < 1000; k++) {
        const double an = -(double)k * ((double)k - a);
        b += 2.0;
        d = 1.0 / (an * d + b);
        c = b + an / c;
        h *= d * c;
        if (fabs(d * c - 1.0) < 1e-15)
            break;
    }
    return front * h;
}
