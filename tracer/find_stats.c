/* Random choices, the bootstrap, Bernstein's bound and Holm's correction. */
#include "tracer/find.h"

#include <math.h>
#include <stdlib.h>

/* Knuth's algorithm S: each in turn with the chance that is left. */
void bf_random_choose(size_t *out, size_t m, size_t n, uint64_t *state)
{
    for (size_t k = 0; k < n && m; k++)
        if (bf_random_below(state, n - k) < m) {
            *out++ = k;
            m--;
        }
}

bf_code bf_resamples_draw(uint32_t **out, size_t resamples, size_t n, uint64_t seed, bf_error *err)
{
    if (n > UINT32_MAX || (n && resamples > SIZE_MAX / n / sizeof **out))
        return bf_fail(err, BF_ENOMEM, "%zu resamples of %zu texts are too many", resamples, n);
    uint32_t *draws = malloc((n * resamples + 1) * sizeof *draws);
    if (!draws)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu resamples of %zu texts", resamples, n);
    for (size_t k = 0; k < n * resamples; k++)
        draws[k] = (uint32_t)bf_random_below(&seed, n);
    *out = draws;
    return BF_OK;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The point of n sorted values below which the part q lies, between two of them in proportion. */
static double quantile(const double *sorted, size_t n, double q)
{
    const double at = q * (double)(n - 1);
    const size_t k = (size_t)at;
    return k + 1 < n ? sorted[k] + (at - (double)k) * (sorted[k + 1] - sorted[k]) : sorted[n - 1];
}

bf_estimate bf_estimate_ratio(const double *top, size_t stride, const double *bottom, size_t n,
                              const uint32_t *draws, size_t resamples, double *room)
{
    double a = 0.0, b = 0.0;
    size_t kept = 0;
    for (size_t u = 0; u < n; u++) {
        a += top[u * stride];
        b += bottom[u];
    }
    if (!(b > 0.0))
        return (bf_estimate){NAN, NAN, NAN};
    const double mean = a / b;
    for (size_t r = 0; r < resamples; r++) {
        a = b = 0.0;
        for (size_t u = 0; u < n; u++) {
            a += top[draws[r * n + u] * stride];
            b += bottom[draws[r * n + u]];
        }
        if (b > 0.0)
            room[kept++] = a / b;
    }
    if (!kept)
        return (bf_estimate){mean, NAN, NAN};
    qsort(room, kept, sizeof *room, ascending);
    return (bf_estimate){mean, quantile(room, kept, 0.025), quantile(room, kept, 0.975)};
}

double bf_bernstein(double above, double variance)
{
    if (!(above > 0.0))
        return 1.0;
    return exp(-0.5 * above * above / (variance + above / 3.0));
}

/* The tests' numbers by p, smallest first: heapsort, as qsort has no way to see p. */
static void order_by(const double *p, size_t *order, size_t n)
{
    for (size_t k = 0; k < n; k++)
        order[k] = k;
    for (size_t start = n / 2, end = n; end > 1;) {
        size_t root, top;
        if (start > 0) {
            root = --start;
            top = order[root];
        } else {
            top = order[--end];
            order[end] = order[0];
            root = 0;
        }
        for (size_t child; (child = 2 * root + 1) < end; root = child) {
            if (child + 1 < end && p[order[child + 1]] > p[order[child]])
                child++;
            if (!(p[order[child]] > p[top]))
                break;
            order[root] = order[child];
        }
        order[root] = top;
    }
}

void bf_holm(double *p, size_t n, size_t *room)
{
    double least = 0.0;
    order_by(p, room, n);
    for (size_t k = 0; k < n; k++) {
        least = fmax(least, fmin(1.0, p[room[k]] * (double)(n - k)));
        p[room[k]] = least;
    }
}
