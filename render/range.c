/* range.c -- see range.h. All of it must survive denormals and values near the largest double. */
#include "render/range.h"

#include <math.h>
#include <stdlib.h>

static const double DECADES = 1e-6;

/* The largest and smallest magnitudes of what can be reached, and whether there are zeros. */
static void look_at(bf_range *r, double *least, const bf_matrix *m)
{
    r->is_signed = r->is_signed || m->is_signed;
    for (size_t row = 0; row < m->rows; row++)
        for (size_t j = 0; j <= m->i[row] && j < m->cols; j++) {
            const double v = fabs(m->value[row * m->cols + j]);
            r->top = fmax(r->top, v);
            if (v > 0)
                *least = fmin(*least, v);
            r->zeros = r->zeros || v == 0;
        }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bf_code sort_values(bf_range *r, const bf_matrix *matrix, size_t n, bf_error *err)
{
    size_t most = 1;
    for (size_t k = 0; k < n; k++)
        most += matrix[k].rows * matrix[k].cols;
    r->sorted = calloc(most, sizeof *r->sorted);
    if (!r->sorted)
        return bf_fail(err, BF_ENOMEM, "cannot sort %zu values", most - 1);
    for (size_t k = 0; k < n; k++)
        for (size_t v = 0; v < matrix[k].rows * matrix[k].cols; v++)
            if (matrix[k].value[v] != 0)
                r->sorted[r->n++] = fabs(matrix[k].value[v]);
    qsort(r->sorted, r->n, sizeof *r->sorted, ascending);
    return BF_OK;
}

bf_code bf_range_find(bf_range *out, const bf_matrix *matrix, size_t n, bf_scale scale,
                      bf_error *err)
{
    double least = INFINITY;
    *out = (bf_range){.is_log = scale == BF_SCALE_LOG, .is_rank = scale == BF_SCALE_RANK};
    for (size_t k = 0; k < n; k++)
        look_at(out, &least, &matrix[k]);
    if (out->is_rank)
        return sort_values(out, matrix, n, err);
    if (!out->is_log || out->top == 0)
        return BF_OK;
    if (out->is_signed) {
        out->low = pow(10, floor(log10(out->top)) - 2);
        if (out->low == 0)
            out->low = out->top;
        return BF_OK;
    }
    out->low = fmax(least, out->top * DECADES);
    out->below = least < out->low;
    if (out->low >= out->top)
        out->low = out->top > 1e-300 ? out->top / 10 : out->top;
    return BF_OK;
}

void bf_range_free(bf_range *range)
{
    free(range->sorted);
    range->sorted = NULL;
}

/* How many of the sorted values are below v (or_equal: not above it). */
static size_t count_below(const bf_range *r, double v, bool or_equal)
{
    size_t from = 0, to = r->n;
    while (from < to) {
        const size_t middle = from + (to - from) / 2;
        if (r->sorted[middle] < v || (or_equal && r->sorted[middle] == v))
            from = middle + 1;
        else
            to = middle;
    }
    return from;
}

static double rank_place(const bf_range *r, double v)
{
    const double rank = 0.5 * (double)(count_below(r, fabs(v), false) +
                               count_below(r, fabs(v), true)) / (double)r->n;
    return r->is_signed ? 0.5 + copysign(0.5, v) * rank : rank;
}

double bf_range_place(const bf_range *range, double v)
{
    if (range->top == 0)
        return 0.0;
    if (range->is_rank)
        return rank_place(range, v);
    if (!range->is_log)
        return range->is_signed ? 0.5 + 0.5 * (v / range->top) : v / range->top;
    if (range->is_signed)
        return 0.5 +
               copysign(0.5, v) * log1p(fabs(v) / range->low) / log1p(range->top / range->low);
    return range->low < range->top ? log(v / range->low) / log(range->top / range->low) : 1.0;
}

static size_t push(double ticks[BF_MAX_TICKS], size_t n, double v)
{
    if (n < BF_MAX_TICKS)
        ticks[n++] = v;
    return n;
}

static size_t linear_ticks(double ticks[BF_MAX_TICKS], const bf_range *range, size_t wanted)
{
    const double span = range->top, raw = (range->is_signed ? 2 * span : span) / (double)wanted;
    const double unit = pow(10, floor(log10(raw)));
    const double of_unit = raw / unit; /* from 1 to 10 */
    const double step = unit * (of_unit <= 1 ? 1 : of_unit <= 2 ? 2 : of_unit <= 5 ? 5 : 10);
    size_t n = 0;
    if (!(step > 0) || !isfinite(span / step))
        return push(ticks, push(ticks, 0, 0.0), span);
    const int last = (int)floor(span / step * (1 + 1e-9));
    for (int k = range->is_signed ? -last : 0; k <= last; k++)
        n = push(ticks, n, k * step);
    return n;
}

/* The factors 1, or 1 2 5, of each power of ten from low to top. */
static size_t decade_ticks(double ticks[BF_MAX_TICKS], double low, double top, bool dense)
{
    static const double factor[] = {1, 2, 5};
    size_t n = 0;
    const int from = (int)floor(log10(low)), to = (int)floor(log10(top));
    for (int e = from; e <= to; e++)
        for (int f = 0; f < (dense ? 3 : 1); f++) {
            const double v = factor[f] * pow(10, e);
            if (v >= low * (1 - 1e-9) && v <= top * (1 + 1e-9))
                n = push(ticks, n, v);
        }
    return n;
}

/* Quartiles of the magnitudes; with a sign the median and the ends. */
static size_t rank_ticks(double ticks[BF_MAX_TICKS], const bf_range *r)
{
    size_t n = 0;
    const int step = r->is_signed ? 2 : 1;
    for (int q = 4; q > 0 && r->is_signed; q -= step)
        n = push(ticks, n, -r->sorted[(r->n - 1) * (size_t)q / 4]);
    if (r->is_signed)
        n = push(ticks, n, 0);
    for (int q = r->is_signed ? step : 0; q <= 4; q += step) {
        const double v = r->sorted[(r->n - 1) * (size_t)q / 4];
        if (!n || v > ticks[n - 1])
            n = push(ticks, n, v);
    }
    return n;
}

size_t bf_range_ticks(double ticks[BF_MAX_TICKS], const bf_range *range, size_t wanted)
{
    double up[BF_MAX_TICKS];
    size_t n;
    if (range->top == 0)
        return 0;
    if (range->is_rank)
        return rank_ticks(ticks, range);
    if (!range->is_log)
        return linear_ticks(ticks, range, wanted ? wanted : 1);
    if (!range->is_signed) {
        n = decade_ticks(ticks, range->low, range->top, false);
        if (n <= 2)
            n = decade_ticks(ticks, range->low, range->top, true);
        return n > 1 ? n : push(ticks, push(ticks, 0, range->low), range->top);
    }
    const size_t most = decade_ticks(up, range->low, range->top, false);
    n = 0;
    for (size_t k = most; k-- > 0;)
        n = push(ticks, n, -up[k]);
    n = push(ticks, n, 0.0);
    for (size_t k = 0; k < most; k++)
        n = push(ticks, n, up[k]);
    return n;
}
