/* curves.c -- each document gives one value a point; the bootstrap draws documents anew. */
#include "render/curves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "render/matrix.h"

static const uint64_t SEED = 6; /* figures are the same each time */
enum { RESAMPLES = 1000, MOST_RESAMPLES = 100000 };

bool bf_power_law(double *slope, double *scale, const double *x, const double *weight,
                  const double *y, size_t n)
{
    double w = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    size_t used = 0;
    *slope = *scale = NAN;
    for (size_t k = 0; k < n; k++) {
        if (!(weight[k] > 0) || !(y[k] > 0) || !isfinite(y[k]))
            continue;
        const double lx = log(x[k]), ly = log(y[k]);
        w += weight[k];
        sx += weight[k] * lx;
        sy += weight[k] * ly;
        sxx += weight[k] * lx * lx;
        sxy += weight[k] * lx * ly;
        used++;
    }
    const double spread = w * sxx - sx * sx;
    if (used < 3 || !(spread > 0))
        return false;
    *slope = (w * sxy - sx * sy) / spread;
    *scale = exp((sy - *slope * sx) / w);
    return true;
}

void bf_curves_free(bf_curves *c)
{
    double **all[] = {&c->x,     &c->weight, &c->mean,      &c->low,       &c->high,
                      &c->slope, &c->scale,  &c->slope_low, &c->slope_high};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
        free(*all[k]);
        *all[k] = NULL;
    }
    free(c->number);
    c->number = NULL;
}

static bf_code make_room(bf_curves *c, size_t K, size_t P, bool intervals, bf_error *err)
{
    *c = (bf_curves){.K = K, .P = P};
    c->x = calloc(P, sizeof *c->x);
    c->weight = calloc(P, sizeof *c->weight);
    c->mean = calloc(K * P, sizeof *c->mean);
    c->slope = calloc(K, sizeof *c->slope);
    c->scale = calloc(K, sizeof *c->scale);
    c->number = calloc(K, sizeof *c->number);
    if (intervals) {
        c->low = calloc(K * P, sizeof *c->low);
        c->high = calloc(K * P, sizeof *c->high);
        c->slope_low = calloc(K, sizeof *c->slope_low);
        c->slope_high = calloc(K, sizeof *c->slope_high);
    }
    if (!c->x || !c->weight || !c->mean || !c->slope || !c->scale || !c->number ||
        (intervals && (!c->low || !c->high || !c->slope_low || !c->slope_high)))
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu curves of %zu points", K, P);
    return BF_OK;
}

/* ---- documents to means */

/* The mean over documents of x [n,K,P] at curve k: documents draw[0..n). NaN is left out. */
static void mean_over(double *mean, const double *x, const size_t *draw, size_t n, size_t K,
                      size_t P, size_t k)
{
    for (size_t p = 0; p < P; p++) {
        double sum = 0;
        size_t count = 0;
        for (size_t d = 0; d < n; d++) {
            const double v = x[(draw[d] * K + k) * P + p];
            if (!isnan(v)) {
                sum += v;
                count++;
            }
        }
        mean[p] = count ? sum / (double)count : NAN;
    }
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The ends of the middle 95 % of n values at distance step; NaN is left out. */
static void percentiles(double *low, double *high, const double *value, size_t n, size_t step,
                        double *sorted)
{
    size_t have = 0;
    for (size_t k = 0; k < n; k++)
        if (!isnan(value[k * step]))
            sorted[have++] = value[k * step];
    qsort(sorted, have, sizeof *sorted, ascending);
    *low = have ? sorted[(size_t)(0.025 * (double)(have - 1) + 0.5)] : NAN;
    *high = have ? sorted[(size_t)(0.975 * (double)(have - 1) + 0.5)] : NAN;
}

/* Room for one curve's resamples. */
typedef struct {
    size_t n, R, *draw;      /* [R,n] documents */
    double *mean, *slope;    /* [R,P], [R] */
    double *sorted;          /* [R] */
} bootstrap;

static void resample(bf_curves *c, const bootstrap *b, const double *x, size_t k)
{
    double scale;
    for (size_t r = 0; r < b->R; r++) {
        mean_over(b->mean + r * c->P, x, b->draw + r * b->n, b->n, c->K, c->P, k);
        bf_power_law(&b->slope[r], &scale, c->x, c->weight, b->mean + r * c->P, c->P);
    }
    for (size_t p = 0; p < c->P; p++)
        percentiles(&c->low[k * c->P + p], &c->high[k * c->P + p], b->mean + p, b->R, c->P,
                    b->sorted);
    percentiles(&c->slope_low[k], &c->slope_high[k], b->slope, b->R, 1, b->sorted);
}

/* Fill a curve's means and intervals from x [n,K,P]. */
static bf_code summarize(bf_curves *c, const double *x, size_t n, size_t resamples, bf_error *err)
{
    uint64_t random = SEED;
    bootstrap b = {.n = n, .R = n > 1 ? resamples ? resamples : RESAMPLES : 1};
    if (b.R > MOST_RESAMPLES)
        return bf_fail(err, BF_EARG, "%zu resamples, wanted at most %d", b.R, (int)MOST_RESAMPLES);
    b.draw = calloc(b.R * n, sizeof *b.draw);
    b.mean = calloc(b.R * c->P, sizeof *b.mean);
    b.slope = calloc(b.R, sizeof *b.slope);
    b.sorted = calloc(b.R, sizeof *b.sorted);
    const bool room = b.draw && b.mean && b.slope && b.sorted;
    for (size_t d = 0; room && d < n; d++)
        b.draw[d] = d;
    for (size_t k = 0; room && k < c->K; k++) {
        mean_over(c->mean + k * c->P, x, b.draw, n, c->K, c->P, k);
        bf_power_law(&c->slope[k], &c->scale[k], c->x, c->weight, c->mean + k * c->P, c->P);
    }
    for (size_t d = 0; room && d < b.R * n; d++)
        b.draw[d] = bf_random_below(&random, n);
    for (size_t k = 0; room && n > 1 && k < c->K; k++)
        resample(c, &b, x, k);
    free(b.draw);
    free(b.mean);
    free(b.slope);
    free(b.sorted);
    return room ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu resamples", b.R);
}

/* ---- flow against distance */

/* The point of a distance: itself below 16, or in bins of an eighth of an octave. */
static size_t point_of(size_t d, bool bins)
{
    return !bins || d < 16 ? d : 16 + (size_t)floor(8 * log2((double)d / 16) + 1e-9);
}

/* Points for distances 0 to most: where each stands, and its length on a logarithmic axis. */
static void place_points(bf_curves *c, size_t most, bool bins)
{
    for (size_t d = 0, last; d <= most; d = last + 1) {
        const size_t p = point_of(d, bins);
        for (last = d; last < most && point_of(last + 1, bins) == p; last++)
            ;
        c->x[p] = sqrt((double)d * (double)last);
        c->weight[p] = d ? log(((double)last + 0.5) / ((double)d - 0.5)) : 0;
    }
}

/* Mean magnitude at each point of one matrix, into y [P]; NaN where there is no pair. */
static bf_code lag_of(double *y, size_t P, const bf_matrix *m, bool bins, bf_error *err)
{
    size_t *pairs = calloc(P + m->cols, sizeof *pairs), *point = pairs + P;
    if (!pairs)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu distances", P);
    for (size_t d = 0; d < m->cols; d++)
        point[d] = point_of(d, bins);
    for (size_t p = 0; p < P; p++)
        y[p] = 0;
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j <= m->i[r]; j++) {
            const size_t i = m->number[r], p = point[i > j ? i - j : j - i];
            y[p] += fabs(m->value[r * m->cols + j]);
            pairs[p]++;
        }
    for (size_t p = 0; p < P; p++)
        y[p] = pairs[p] ? y[p] / (double)pairs[p] : NAN;
    free(pairs);
    return BF_OK;
}

/* One record's layers at x [K,P]. */
static bf_code lag_of_record(bf_curves *c, double *x, const bf_record *record,
                             const bf_heatmap_style *style, bool first, bool bins, bf_error *err)
{
    bf_matrices all;
    bf_code rc = bf_matrices_select(&all, record, style, err);
    if (!rc && all.layers != c->K)
        rc = bf_fail(err, BF_EARG, "%s has %zu layers in one record and %zu in another",
                     all.m->tensor, c->K, all.layers);
    for (size_t k = 0; k < c->K && !rc; k++) {
        if (first)
            c->number[k] = all.m[k].layer;
        else if (c->number[k] != all.m[k].layer)
            rc = bf_fail(err, BF_EARG, "%s: layer %zu in one record is layer %zu in another",
                         all.m->tensor, c->number[k], all.m[k].layer);
        if (!rc)
            rc = lag_of(x + k * c->P, c->P, &all.m[k], bins, err);
    }
    bf_matrices_free(&all);
    return rc;
}

bf_code bf_curves_lag(bf_curves *out, const bf_record *const *records, size_t n, const char *site,
                      const char *score, bool bins, size_t resamples, bf_error *err)
{
    const bf_heatmap_style style = {.site = site, .score = score, .layer = -1, .head = -1,
                                    .all_layers = true};
    size_t K = 0, most = 0;
    *out = (bf_curves){0};
    for (size_t d = 0; d < n; d++) { /* for the shape */
        bf_matrices all;
        const bf_code rc = bf_matrices_select(&all, records[d], &style, err);
        K = rc || K ? K : all.layers;
        most = !rc && all.m->cols - 1 > most ? all.m->cols - 1 : most;
        const bool flow = !rc && !strncmp(all.m->tensor, "flow.", 5);
        bf_matrices_free(&all);
        if (rc)
            return rc;
        if (!flow)
            return bf_fail(err, BF_EARG, "%.60s is no site whose flow has a distance", site);
    }
    const size_t P = point_of(most, bins) + 1;
    double *x = K && n < SIZE_MAX / sizeof *x / P / K ? malloc(n * K * P * sizeof *x) : NULL;
    bf_code rc = x ? make_room(out, K, P, n > 1, err)
                   : bf_fail(err, BF_ENOMEM, "cannot hold %zu records' distances", n);
    if (!rc)
        place_points(out, most, bins);
    for (size_t d = 0; d < n && !rc; d++)
        rc = lag_of_record(out, x + d * K * P, records[d], &style, d == 0, bins, err);
    if (!rc)
        rc = summarize(out, x, n, resamples, err);
    free(x);
    return rc;
}

/* ---- own and future */

enum { THREE = 3 };

/* The three tensors of a record, of [levels,N] each. */
static bf_code find_three(const bf_tensor *t[THREE], const bf_record *record, bf_error *err)
{
    static const char *const names[] = {"own.grad_norm", "future.grad_norm", "own_future.cosine"};
    for (size_t k = 0; k < THREE; k++) {
        t[k] = bf_record_find(record, names[k]);
        if (!t[k])
            return bf_fail(err, BF_EARG, "the record has no tensor %s (trace with --scores own)",
                           names[k]);
        if (t[k]->rank != 2 || !bf_tensor_count(t[k]) || t[k]->dim[0] != t[0]->dim[0] ||
            t[k]->dim[1] != t[0]->dim[1])
            return bf_fail(err, BF_ESHAPE, "%s has %zu axes, the first of %zu, wanted %zu by %zu",
                           names[k], t[k]->rank, t[k]->rank ? t[k]->dim[0] : 0, t[0]->dim[0],
                           t[0]->dim[1]);
        for (size_t v = 0; v < bf_tensor_count(t[k]); v++)
            if (!isfinite(bf_tensor_value(t[k], v)))
                return bf_fail(err, BF_ENONFINITE, "%s is %g at %zu", names[k],
                               bf_tensor_value(t[k], v), v);
    }
    return BF_OK;
}

/* Mean over a range of levels and positions of one tensor; future and cosine skip the last
 * position. NaN if nothing is left. */
static double mean_of(const bf_tensor *t, bool is_own, size_t level0, size_t level1, size_t j0,
                      size_t j1)
{
    const size_t N = t->dim[1], last = is_own ? N : N - 1, end = j1 < last ? j1 : last;
    double sum = 0;
    for (size_t l = level0; l < level1; l++)
        for (size_t j = j0; j < end; j++)
            sum += bf_tensor_value(t, l * N + j);
    return end > j0 ? sum / (double)((level1 - level0) * (end - j0)) : NAN;
}

static bf_code longest(size_t *levels, size_t *N, const bf_record *const *records, size_t n,
                       bf_error *err)
{
    *levels = *N = 0;
    for (size_t d = 0; d < n; d++) {
        const bf_tensor *t[THREE];
        const bf_code rc = find_three(t, records[d], err);
        if (rc)
            return rc;
        if (*levels && t[0]->dim[0] != *levels)
            return bf_fail(err, BF_EARG,
                           "own.grad_norm has %zu levels in one record, %zu in another", *levels,
                           t[0]->dim[0]);
        *levels = t[0]->dim[0];
        *N = t[0]->dim[1] > *N ? t[0]->dim[1] : *N;
    }
    return BF_OK;
}

/* x [n,3,P]; by_layer: P is levels, else positions. */
static bf_code own_curves(bf_curves *out, const bf_record *const *records, size_t n, bool by_layer,
                          long layer, size_t resamples, bf_error *err)
{
    size_t levels, N;
    *out = (bf_curves){0};
    bf_code rc = longest(&levels, &N, records, n, err);
    if (!rc && !by_layer && layer >= 0 && (size_t)layer >= levels)
        rc = bf_fail(err, BF_EARG, "own.grad_norm has layers 0 to %zu, wanted %ld", levels - 1,
                     layer);
    if (rc)
        return rc;
    const size_t bin = by_layer || N <= 160 ? 1 : (N + 99) / 100;
    const size_t P = by_layer ? levels : (N + bin - 1) / bin;
    double *x = n < SIZE_MAX / sizeof *x / P / THREE ? malloc(n * THREE * P * sizeof *x) : NULL;
    rc = x ? make_room(out, THREE, P, n > 1, err)
           : bf_fail(err, BF_ENOMEM, "cannot hold %zu records' curves", n);
    for (size_t p = 0; p < P && !rc; p++) /* the middle of a bin, of which the last may be short */
        out->x[p] = 0.5 * ((double)(p * bin) +
                           fmin((double)((p + 1) * bin), (double)(by_layer ? levels : N)) - 1);
    const size_t l0 = layer < 0 ? 0 : (size_t)layer, l1 = layer < 0 ? levels : l0 + 1;
    for (size_t d = 0; d < n && !rc; d++) {
        const bf_tensor *t[THREE];
        rc = find_three(t, records[d], err);
        for (size_t k = 0; k < THREE && !rc; k++)
            for (size_t p = 0; p < P; p++)
                x[(d * THREE + k) * P + p] =
                    by_layer ? mean_of(t[k], !k, p, p + 1, 0, t[k]->dim[1])
                             : mean_of(t[k], !k, l0, l1, p * bin, (p + 1) * bin);
    }
    if (!rc)
        rc = summarize(out, x, n, resamples, err);
    free(x);
    return rc;
}

bool bf_curves_have_own(const bf_record *const *records, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (!bf_record_find(records[k], "own.grad_norm") ||
            !bf_record_find(records[k], "own_future.cosine"))
            return false;
    return true;
}

bf_code bf_curves_position(bf_curves *out, const bf_record *const *records, size_t n, long layer,
                           size_t resamples, bf_error *err)
{
    return own_curves(out, records, n, false, layer, resamples, err);
}

bf_code bf_curves_layer(bf_curves *out, const bf_record *const *records, size_t n,
                        size_t resamples, bf_error *err)
{
    return own_curves(out, records, n, true, -1, resamples, err);
}
